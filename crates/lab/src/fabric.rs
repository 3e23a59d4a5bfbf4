//! Makes what a [`Layout`] says: links, bridges, addresses, routes and switches, by netlink inside each namespace.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use futures::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteScope};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::error::LabError;
use crate::layout::{Interface, Layout, Link, Node, NodeKind, StaticRoute, Way};
use crate::namespace::Namespace;

/// Switches of every node (`/proc/sys/net/ipv4/…`), before any interface but `lo` exists.
///
/// Traffic takes another way back than it came (through the gateway one way, straight from the NVA the other), so reverse path
/// filtering must be off; the gateway must not tell VMs of shorter ways; 5-tuple hashing spreads flows over equal next hops.
///
/// Nor is anybody's answer to be held back: the kernel tells one sender of six packets that died, and then of one a second, so a second look at
/// the way that packets go would show nodes that say nothing.
const SWITCHES: [(&str, &str); 7] = [
    ("conf/all/rp_filter", "0"),
    ("conf/default/rp_filter", "0"),
    ("conf/all/send_redirects", "0"),
    ("conf/default/send_redirects", "0"),
    ("conf/all/accept_redirects", "0"),
    ("conf/default/accept_redirects", "0"),
    ("icmp_ratemask", "0"),
];
/// Switches that some kernels lack.
const OPTIONAL_SWITCHES: [(&str, &str); 2] = [
    ("fib_multipath_hash_policy", "1"),
    // A group that is replaced under many routes is then one change, not one per route (design: 115 ms against 0.016 ms).
    ("nexthop_compat_mode", "0"),
];

/// Switches of every node for IPv6 (`/proc/sys/net/ipv6/…`). Nobody here has another's address, so addresses need not be asked for before
/// they are used; who routes is not found out by asking either.
const SWITCHES_V6: [(&str, &str); 9] = [
    ("conf/all/accept_redirects", "0"),
    ("conf/default/accept_redirects", "0"),
    ("conf/all/accept_ra", "0"),
    ("conf/default/accept_ra", "0"),
    ("conf/all/accept_dad", "0"),
    ("conf/default/accept_dad", "0"),
    // As with IPv4, an interface that is switched off keeps its addresses.
    ("conf/all/keep_addr_on_down", "1"),
    ("conf/default/keep_addr_on_down", "1"),
    // Nobody's answer is held back here either.
    ("icmp/ratelimit", "0"),
];
/// Static routes go before those that routing software makes (IPv6 has no metric of 0).
const STATIC_METRIC_V6: u32 = 1;

/// Builds everything into namespaces that exist and are empty.
pub(crate) fn build(layout: &Layout, namespace: &dyn Fn(&str) -> Result<Namespace, LabError>) -> Result<(), LabError> {
    for node in &layout.nodes {
        namespace(&node.name)?
            .run(|| set_switches(node))
            .map_err(LabError::system(format!("{}: its switches", node.name)))?;
    }
    let fabric = layout.nodes.iter().filter(|n| n.kind == NodeKind::Fabric);
    for node in fabric {
        in_node(
            &namespace(&node.name)?,
            &node.name,
            "making bridges",
            |netlink| async move { add_bridges(&netlink, node).await },
        )?;
    }
    for link in &layout.links {
        add_link(link, namespace)?;
    }
    for node in &layout.nodes {
        in_node(
            &namespace(&node.name)?,
            &node.name,
            "addresses and routes",
            |netlink| async move { configure(&netlink, node).await },
        )?;
    }
    Ok(())
}

/// Takes a node's carrier away, or gives it back.
pub(crate) fn set_carrier(link: &Link, up: bool, namespace: &Namespace) -> Result<(), LabError> {
    let near = &link.near;
    in_node(namespace, &near.node, "switching a link", |netlink| async move {
        let message = LinkUnspec::new_with_name(&near.interface);
        let message = if up { message.up() } else { message.down() };
        netlink.link().set(message.build()).execute().await
    })
}

/// Puts back a node's static routes: a link that was switched off has taken its own with it.
pub(crate) fn restore_routes(node: &Node, namespace: &Namespace) -> Result<(), LabError> {
    in_node(namespace, &node.name, "its routes", |netlink| async move {
        for route in &node.routes {
            let request = netlink.route().add(message(&netlink, route).await?).replace();
            // One over a link that is still off comes back with that.
            if let Err(error) = request.execute().await {
                tracing::debug!(prefix = %route.prefix, %error, "a static route is not back yet");
            }
        }
        Ok(())
    })
}

/// Whether a link is switched on.
pub(crate) fn has_carrier(link: &Link, namespace: &Namespace) -> Result<bool, LabError> {
    let near = &link.near;
    in_node(namespace, &near.node, "reading a link", |netlink| async move {
        let mut links = netlink.link().get().match_name(near.interface.clone()).execute();
        let message = links.try_next().await?;
        Ok(message.is_some_and(|m| m.header.flags.contains(LinkFlags::Up)))
    })
}

/// Runs netlink requests inside a node.
pub(crate) fn in_node<T, F>(
    namespace: &Namespace,
    node: &str,
    what: &str,
    work: impl FnOnce(Handle) -> F + Send,
) -> Result<T, LabError>
where
    T: Send,
    F: Future<Output = Result<T, rtnetlink::Error>>,
{
    let answer = namespace.run_async(|| async move {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(work(handle).await.map_err(|error| explain(&error)))
    });
    let answer = answer.map_err(LabError::system(format!("{node}: {what}")))?;
    answer.map_err(|message| LabError::Netlink {
        node: node.to_owned(),
        what: what.to_owned(),
        message,
    })
}

/// The kernel's words, and what they mean when it lacks a feature.
fn explain(error: &rtnetlink::Error) -> String {
    let unsupported = match error {
        rtnetlink::Error::NetlinkError(message) => message.raw_code() == -libc::EOPNOTSUPP,
        _ => false,
    };
    if unsupported {
        format!(
            "{error}: this kernel lacks what a lab is made of, bridges and veth pairs; load them (`modprobe bridge veth`) or use a \
             kernel with CONFIG_BRIDGE and CONFIG_VETH"
        )
    } else {
        error.to_string()
    }
}

fn set_switches(node: &Node) -> io::Result<()> {
    let set_in = |family: &str, name: &str, value: &str| {
        let path = format!("/proc/sys/net/{family}/{name}");
        fs::write(&path, value).map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))
    };
    let set = |name: &str, value: &str| set_in("ipv4", name, value);
    for (name, value) in SWITCHES {
        set(name, value)?;
    }
    for (name, value) in OPTIONAL_SWITCHES {
        let _ = set(name, value);
    }
    set("ip_forward", if node.forwards { "1" } else { "0" })?;
    // A kernel without IPv6 has none of these, and topologies without IPv6 need none.
    for (name, value) in SWITCHES_V6 {
        let _ = set_in("ipv6", name, value);
    }
    let _ = set_in("ipv6", "fib_multipath_hash_policy", "1");
    if node.forwards {
        let _ = set_in("ipv6", "conf/all/forwarding", "1");
        let _ = set_in("ipv6", "conf/default/forwarding", "1");
    }
    // Anybody in a node may ping without being root there.
    let _ = set("ping_group_range", "0 2147483647");
    Ok(())
}

async fn add_bridges(netlink: &Handle, fabric: &Node) -> Result<(), rtnetlink::Error> {
    for bridge in &fabric.interfaces {
        // Without spanning tree a port forwards as soon as it is up.
        netlink
            .link()
            .add(LinkBridge::new(&bridge.name).build())
            .execute()
            .await?;
    }
    Ok(())
}

fn add_link(link: &Link, namespace: &dyn Fn(&str) -> Result<Namespace, LabError>) -> Result<(), LabError> {
    let far = namespace(&link.far.node)?;
    let far =
        File::open(far.path()).map_err(LabError::system(format!("opening the namespace of {}", link.far.node)))?;
    let near = &link.near;
    in_node(
        &namespace(&near.node)?,
        &near.node,
        "making a link",
        |netlink| async move {
            let peer = LinkMessageBuilder::<LinkUnspec>::new()
                .name(link.far.interface.clone())
                .setns_by_fd(far.as_raw_fd())
                .build();
            let mut pair = LinkVeth::new(&near.interface, &link.far.interface)
                .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
                .up();
            if let Some(bridge) = &link.bridge {
                pair = pair.controller(index_of(&netlink, bridge).await?);
            }
            netlink.link().add(pair.build()).execute().await
        },
    )
}

async fn configure(netlink: &Handle, node: &Node) -> Result<(), rtnetlink::Error> {
    set_up(netlink, "lo").await?;
    for interface in &node.interfaces {
        set_up(netlink, &interface.name).await?;
        add_addresses(netlink, interface).await?;
    }
    for route in &node.routes {
        let message = message(netlink, route).await?;
        netlink.route().add(message).execute().await?;
    }
    Ok(())
}

async fn set_up(netlink: &Handle, name: &str) -> Result<(), rtnetlink::Error> {
    netlink
        .link()
        .set(LinkUnspec::new_with_name(name).up().build())
        .execute()
        .await
}

async fn add_addresses(netlink: &Handle, interface: &Interface) -> Result<(), rtnetlink::Error> {
    let index = index_of(netlink, &interface.name).await?;
    for address in &interface.addresses {
        let mut request = netlink.address().add(index, address.addr(), address.prefix_len());
        let mut flags = AddressFlags::empty();
        if !interface.prefix_routes {
            flags |= AddressFlags::Noprefixroute | AddressFlags::Permanent;
        }
        if address.addr().is_ipv6() {
            flags |= AddressFlags::Nodad;
        }
        if !flags.is_empty() {
            request.message_mut().attributes.push(AddressAttribute::Flags(flags));
        }
        request.execute().await?;
    }
    Ok(())
}

async fn message(netlink: &Handle, route: &StaticRoute) -> Result<RouteMessage, rtnetlink::Error> {
    let interface = match &route.way {
        Way::Via(_) => None,
        Way::Over(interface) => Some(index_of(netlink, interface).await?),
    };
    let (network, length) = (route.prefix.network(), route.prefix.prefix_len());
    let mut message = match (network, &route.way) {
        (IpAddr::V4(network), way) => {
            let message = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(network, length);
            match way {
                Way::Via(IpAddr::V4(next_hop)) => message.gateway(*next_hop).build(),
                _ => message.scope(RouteScope::Link).build(),
            }
        }
        (IpAddr::V6(network), way) => {
            let message = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(network, length);
            let message = message.priority(STATIC_METRIC_V6);
            match way {
                Way::Via(IpAddr::V6(next_hop)) => message.gateway(*next_hop).build(),
                _ => message.build(),
            }
        }
    };
    message.attributes.extend(interface.map(RouteAttribute::Oif));
    Ok(message)
}

pub(crate) async fn index_of(netlink: &Handle, name: &str) -> Result<u32, rtnetlink::Error> {
    let mut links = netlink.link().get().match_name(name.to_owned()).execute();
    let message = links.try_next().await?;
    Ok(message.map(|m| m.header.index).unwrap_or_default())
}

/// The names of all links by index.
pub(crate) async fn link_names(netlink: &Handle) -> Result<Vec<(u32, String)>, rtnetlink::Error> {
    let mut links = netlink.link().get().execute();
    let mut names = Vec::new();
    while let Some(message) = links.try_next().await? {
        if let Some(name) = name_of(&message) {
            names.push((message.header.index, name));
        }
    }
    Ok(names)
}

fn name_of(message: &LinkMessage) -> Option<String> {
    message.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_bridges_is_told_in_words_that_help() {
        let mut refusal = netlink_packet_core::ErrorMessage::default();
        refusal.code = std::num::NonZeroI32::new(-libc::EOPNOTSUPP);
        let told = explain(&rtnetlink::Error::NetlinkError(refusal.clone()));
        assert!(told.contains("CONFIG_BRIDGE"), "{told}");
        refusal.code = std::num::NonZeroI32::new(-libc::EEXIST);
        let told = explain(&rtnetlink::Error::NetlinkError(refusal));
        assert!(!told.contains("CONFIG_BRIDGE"), "{told}");
    }
}
