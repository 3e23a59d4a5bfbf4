//! Topologies in network namespaces: virtual networks, VMs, NVAs, sites.
