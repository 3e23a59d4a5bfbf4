//! Effective routes to kernel routes over netlink.
