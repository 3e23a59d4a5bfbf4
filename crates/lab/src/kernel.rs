//! A node's route table, read from its kernel and written the way `ip route` writes it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHopFlags, RouteProtocol, RouteScope, RouteType,
    RouteVia,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::{Handle, RouteMessageBuilder};
use serde::Serialize;

use crate::error::LabError;
use crate::fabric::{in_node, link_names};
use crate::namespace::Namespace;

/// One route of a kernel's main table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelRoute {
    /// The destination.
    pub prefix: IpNet,
    /// unicast, blackhole, unreachable, …
    pub kind: String,
    /// Next hops; none for a blackhole.
    pub hops: Vec<Hop>,
    /// Who made it, by name.
    pub protocol: String,
    /// Its priority; the smallest wins.
    pub metric: u32,
    /// The nexthop object that it uses, if it uses one.
    pub nexthop_id: Option<u32>,
}

/// One next hop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// The address; `None`: the destination is on the link itself.
    pub via: Option<IpAddr>,
    /// The interface.
    pub device: String,
    /// Whether the address counts as on the link whatever the table says.
    pub onlink: bool,
    /// Weight among several.
    pub weight: u16,
}

/// Reads the main tables of a node, ordered by prefix: IPv4, then what there is of IPv6 without the link-local addresses that every
/// interface has.
pub(crate) fn routes(namespace: &Namespace, node: &str) -> Result<Vec<KernelRoute>, LabError> {
    let reading = LabError::system(format!("{node}: reading nexthop objects"));
    let nexthops = namespace.run(dump_nexthops).map_err(reading)?;
    in_node(namespace, node, "reading the route table", |netlink| async move {
        read_routes(&netlink, &nexthops).await
    })
}

async fn read_routes(netlink: &Handle, nexthops: &Nexthops) -> Result<Vec<KernelRoute>, rtnetlink::Error> {
    let names: HashMap<u32, String> = link_names(netlink).await?.into_iter().collect();
    let families = [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ];
    let mut routes = Vec::new();
    for family in families {
        let mut messages = netlink.route().get(family).execute();
        while let Some(message) = messages.try_next().await? {
            if message.header.table == RouteHeader::RT_TABLE_MAIN {
                routes.push(route(&message, nexthops, &names));
            }
        }
    }
    routes.retain(|route: &KernelRoute| !is_of_the_link(&route.prefix));
    routes.sort_by_key(|r| (r.prefix, r.metric));
    Ok(routes)
}

/// What IPv6 has on every link.
fn is_of_the_link(prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(_) => false,
        IpNet::V6(prefix) => prefix.addr().is_unicast_link_local() || prefix.addr().is_multicast(),
    }
}

fn route(message: &RouteMessage, nexthops: &Nexthops, names: &HashMap<u32, String>) -> KernelRoute {
    let mut destination = match message.header.address_family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let mut route = KernelRoute {
        prefix: IpNet::from(destination),
        kind: kind_name(message.header.kind).to_owned(),
        hops: Vec::new(),
        protocol: protocol_name(message.header.protocol),
        metric: 0,
        nexthop_id: None,
    };
    let name = |index: u32| names.get(&index).cloned().unwrap_or_else(|| format!("if{index}"));
    let mut single = Hop::default();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = address_of(address).unwrap_or(destination),
            RouteAttribute::Gateway(gateway) => single.via = address_of(gateway),
            RouteAttribute::Via(via) => single.via = via_address(via),
            RouteAttribute::Oif(index) => single.device = name(*index),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::NhId(id) => route.nexthop_id = Some(*id),
            RouteAttribute::MultiPath(hops) => {
                route.hops = hops
                    .iter()
                    .map(|hop| Hop {
                        via: hop.attributes.iter().find_map(|a| match a {
                            RouteAttribute::Gateway(gateway) => address_of(gateway),
                            RouteAttribute::Via(via) => via_address(via),
                            _ => None,
                        }),
                        device: name(hop.interface_index),
                        onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
                        weight: u16::from(hop.hops) + 1,
                    })
                    .collect();
            }
            _ => {}
        }
    }
    let prefix = IpNet::new(destination, message.header.destination_prefix_length);
    route.prefix = prefix.unwrap_or(route.prefix);
    if let Some(id) = route.nexthop_id {
        route.hops = nexthops.hops(id, &name);
        if nexthops.is_blackhole(id) {
            route.kind = "blackhole".to_owned();
        }
    }
    // IPv6 says of a blackhole that it goes out by the loopback interface.
    if route.hops.is_empty() && !single.device.is_empty() && route.kind == "unicast" {
        single.weight = 1;
        single.onlink = message
            .header
            .flags
            .contains(netlink_packet_route::route::RouteFlags::Onlink);
        route.hops.push(single);
    }
    // `scope link` says what a missing next hop address says.
    debug_assert!(message.header.scope != RouteScope::Link || route.hops.iter().all(|h| h.via.is_none()));
    route
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(a) => Some((*a).into()),
        RouteAddress::Inet6(a) => Some((*a).into()),
        _ => None,
    }
}

fn via_address(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(a) => Some((*a).into()),
        RouteVia::Inet6(a) => Some((*a).into()),
        _ => None,
    }
}

fn kind_name(kind: RouteType) -> &'static str {
    match kind {
        RouteType::Unicast => "unicast",
        RouteType::BlackHole => "blackhole",
        RouteType::Unreachable => "unreachable",
        RouteType::Prohibit => "prohibit",
        _ => "other",
    }
}

/// Protocol numbers as in iproute2's `rt_protos`, and ours (ARCHITECTURE.md, "In the kernel").
fn protocol_name(protocol: RouteProtocol) -> String {
    match u8::from(protocol) {
        2 => "kernel".to_owned(),
        3 => "boot".to_owned(),
        4 => "static".to_owned(),
        11 => "zebra".to_owned(),
        12 => "bird".to_owned(),
        48 => "openbgpd".to_owned(),
        157 => "routewright".to_owned(),
        158 => "routewright-nva".to_owned(),
        186 => "bgp".to_owned(),
        196 => "static".to_owned(),
        other => other.to_string(),
    }
}

impl fmt::Display for KernelRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind != "unicast" {
            write!(f, "{} ", self.kind)?;
        }
        match self.prefix {
            IpNet::V4(all) if all.prefix_len() == 0 => f.write_str("default")?,
            prefix => write!(f, "{prefix}")?,
        }
        for hop in &self.hops {
            if self.hops.len() > 1 {
                f.write_str(" nexthop")?;
            }
            match hop.via {
                Some(via) => write!(f, " via {via} dev {}", hop.device)?,
                None => write!(f, " dev {}", hop.device)?,
            }
            if hop.onlink {
                f.write_str(" onlink")?;
            }
        }
        write!(f, " proto {}", self.protocol)?;
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        Ok(())
    }
}

/// The nexthop objects of a namespace. With `nexthop_compat_mode=0` a route names only its object.
#[derive(Debug, Default)]
struct Nexthops(HashMap<u32, Nexthop>);

#[derive(Debug, Default)]
struct Nexthop {
    gateway: Option<IpAddr>,
    device: Option<u32>,
    onlink: bool,
    blackhole: bool,
    members: Vec<(u32, u16)>,
}

impl Nexthops {
    fn hops(&self, id: u32, name: &dyn Fn(u32) -> String) -> Vec<Hop> {
        let Some(nexthop) = self.0.get(&id) else {
            return Vec::new();
        };
        let members: &[(u32, u16)] = if nexthop.members.is_empty() {
            &[(id, 1)]
        } else {
            &nexthop.members
        };
        let members = members
            .iter()
            .filter_map(|(id, weight)| Some((self.0.get(id)?, *weight)));
        let hops = members.filter_map(|(nexthop, weight)| {
            Some(Hop {
                via: nexthop.gateway,
                device: name(nexthop.device?),
                onlink: nexthop.onlink,
                weight,
            })
        });
        hops.collect()
    }

    fn is_blackhole(&self, id: u32) -> bool {
        self.0.get(&id).is_some_and(|n| n.blackhole)
    }
}

/// RTM_GETNEXTHOP, with a header that asks for all of them; rtnetlink does not know nexthop objects.
fn dump_nexthops() -> io::Result<Nexthops> {
    const RTM_GETNEXTHOP: u16 = 106;
    const NLM_F_REQUEST_DUMP: u16 = 0x301;
    const REQUEST_LEN: u32 = 24;
    const RECEIVE_BUFFER: usize = 64 << 10;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = Vec::new();
    request.extend(REQUEST_LEN.to_ne_bytes());
    request.extend(RTM_GETNEXTHOP.to_ne_bytes());
    request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 16]);
    socket.send(&request, 0)?;
    let mut nexthops = Nexthops::default();
    loop {
        let mut buffer = Vec::with_capacity(RECEIVE_BUFFER);
        socket.recv(&mut buffer, 0)?;
        if !nexthops.take_messages(&buffer)? {
            return Ok(nexthops);
        }
    }
}

impl Nexthops {
    /// Takes a datagram of netlink messages; says whether more will come.
    fn take_messages(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        const NLMSG_ERROR: u16 = 2;
        const NLMSG_DONE: u16 = 3;
        const RTM_NEWNEXTHOP: u16 = 104;
        const HEADER: usize = 16;
        while bytes.len() >= HEADER {
            let length = u32_at(bytes, 0) as usize;
            let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
            let Some(message) = bytes.get(HEADER..length) else {
                break;
            };
            match kind {
                NLMSG_DONE => return Ok(false),
                // A kernel before 5.3 has no nexthop objects.
                NLMSG_ERROR => return Ok(false),
                RTM_NEWNEXTHOP => self.take(message),
                _ => {}
            }
            bytes = bytes.get(align(length)..).unwrap_or_default();
        }
        Ok(true)
    }

    /// One nexthop object: `struct nhmsg` and attributes (linux/nexthop.h).
    fn take(&mut self, message: &[u8]) {
        const NHMSG: usize = 8;
        const RTNH_F_ONLINK: u32 = 4;
        if message.len() < NHMSG {
            return;
        }
        let mut nexthop = Nexthop {
            onlink: u32_at(message, 4) & RTNH_F_ONLINK != 0,
            ..Nexthop::default()
        };
        let mut id = 0;
        for (kind, value) in attributes(&message[NHMSG..]) {
            match (kind, value.len()) {
                (1, 4) => id = u32_at(value, 0),
                (2, _) => {
                    nexthop.members = value
                        .chunks_exact(8)
                        .map(|m| (u32_at(m, 0), u16::from(m[4]) + 1))
                        .collect()
                }
                (4, _) => nexthop.blackhole = true,
                (5, 4) => nexthop.device = Some(u32_at(value, 0)),
                (6, 4) => nexthop.gateway = Some(IpAddr::from([value[0], value[1], value[2], value[3]])),
                (6, 16) => nexthop.gateway = <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
                _ => {}
            }
        }
        self.0.insert(id, nexthop);
    }
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn align(length: usize) -> usize {
    length.div_ceil(4).max(1) * 4
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
