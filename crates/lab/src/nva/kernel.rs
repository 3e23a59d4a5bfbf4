//! Learned routes in the NVA's own kernel: protocol 158, next hops resolved through the routes that are there already.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder, RouteNextHopBuilder};

/// Our mark on routes; 157 is the agent's (ARCHITECTURE.md, "In the kernel").
const PROTOCOL: u8 = 158;
/// Routes that somebody configured (metric 0) win.
const METRIC: u32 = 30;
/// More equal next hops than this are not used.
const MAX_HOPS: usize = 8;

/// The kernel's table, and what we have put there.
pub(super) struct Kernel {
    netlink: Handle,
    installed: BTreeMap<IpNet, BTreeSet<IpAddr>>,
    /// The gateway towards each BGP next hop, as long as it is not asked to look again.
    resolved: BTreeMap<IpAddr, Option<IpAddr>>,
}

impl Kernel {
    /// Opens the table. What a predecessor left is removed, or taken over (`keep`): one that restarts gracefully goes on to forward.
    pub(super) async fn open(keep: bool) -> io::Result<Kernel> {
        let (connection, netlink, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let mut kernel = Kernel {
            netlink,
            installed: BTreeMap::new(),
            resolved: BTreeMap::new(),
        };
        for message in kernel.main_table().await? {
            match destination(&message).filter(|_| is_ours(&message)) {
                Some(prefix) if keep => drop(kernel.installed.insert(prefix, gateways(&message))),
                Some(_) => drop(kernel.netlink.route().del(message).execute().await),
                None => {}
            }
        }
        Ok(kernel)
    }

    /// Whether there is anything of ours.
    pub(super) fn has_routes(&self) -> bool {
        !self.installed.is_empty()
    }

    /// Forgets how next hops were resolved.
    pub(super) fn look_again(&mut self) {
        self.resolved.clear();
    }

    /// Makes the table hold what is learned: for each prefix its BGP next hops. Without `tidy` it only adds.
    pub(super) async fn sync(&mut self, learned: &BTreeMap<IpNet, BTreeSet<IpAddr>>, tidy: bool) -> io::Result<()> {
        let mut wanted = BTreeMap::new();
        for (prefix, next_hops) in learned {
            let mut gateways = BTreeSet::new();
            for next_hop in next_hops {
                gateways.extend(self.resolve(*next_hop).await?);
            }
            if !gateways.is_empty() {
                wanted.insert(*prefix, gateways);
            }
        }
        let gone: Vec<IpNet> = self
            .installed
            .keys()
            .filter(|p| tidy && !wanted.contains_key(p))
            .copied()
            .collect();
        for prefix in gone {
            self.remove(prefix).await;
        }
        for (prefix, gateways) in wanted {
            if self.installed.get(&prefix) != Some(&gateways) {
                self.install(prefix, gateways).await;
            }
        }
        Ok(())
    }

    async fn install(&mut self, prefix: IpNet, gateways: BTreeSet<IpAddr>) {
        let hops = gateways.iter().take(MAX_HOPS);
        let hops = hops.filter_map(|gateway| {
            let hop = match gateway {
                IpAddr::V4(_) => RouteNextHopBuilder::new_ipv4(),
                IpAddr::V6(_) => RouteNextHopBuilder::new_ipv6(),
            };
            Some(hop.via(*gateway).ok()?.build())
        });
        let mut message = route(prefix);
        message.attributes.push(RouteAttribute::MultiPath(hops.collect()));
        match self.netlink.route().add(message).replace().execute().await {
            Ok(()) => drop(self.installed.insert(prefix, gateways)),
            Err(error) => tracing::warn!(%prefix, %error, "the kernel does not take a route"),
        }
    }

    async fn remove(&mut self, prefix: IpNet) {
        // With its link the kernel has lost the route too.
        if let Err(error) = self.netlink.route().del(route(prefix)).execute().await {
            tracing::debug!(%prefix, %error, "a route was gone already");
        }
        self.installed.remove(&prefix);
    }

    /// The gateway towards a BGP next hop: by the longest match among routes that are not ours, itself if it is on a link.
    async fn resolve(&mut self, next_hop: IpAddr) -> io::Result<Option<IpAddr>> {
        if let Some(known) = self.resolved.get(&next_hop) {
            return Ok(*known);
        }
        let table = self.main_table().await?;
        let matches = table.iter().filter(|m| !is_ours(m)).filter_map(|m| {
            let prefix = destination(m)?;
            // A default route does not make a BGP next hop reachable.
            (prefix.prefix_len() > 0 && prefix.contains(&next_hop)).then_some((prefix.prefix_len(), m))
        });
        let best = matches.max_by_key(|(length, _)| *length);
        let gateway = best.map(|(_, message)| gateway(message).unwrap_or(next_hop));
        self.resolved.insert(next_hop, gateway);
        Ok(gateway)
    }

    async fn main_table(&self) -> io::Result<Vec<RouteMessage>> {
        let families = [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ];
        let mut all: Vec<RouteMessage> = Vec::new();
        for family in families {
            let messages = self.netlink.route().get(family).execute();
            let messages: Vec<RouteMessage> = messages.try_collect().await.map_err(io::Error::other)?;
            all.extend(messages);
        }
        all.retain(|m| m.header.table == RouteHeader::RT_TABLE_MAIN);
        Ok(all)
    }
}

fn route(prefix: IpNet) -> RouteMessage {
    let mut message = match prefix {
        IpNet::V4(prefix) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(prefix.network(), prefix.prefix_len())
            .build(),
        IpNet::V6(prefix) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(prefix.network(), prefix.prefix_len())
            .build(),
    };
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Priority(METRIC));
    message
}
fn is_ours(message: &RouteMessage) -> bool {
    u8::from(message.header.protocol) == PROTOCOL
}

fn destination(message: &RouteMessage) -> Option<IpNet> {
    let address = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(address) => address_of(address),
        _ => None,
    });
    let everything = match message.header.address_family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let length = message.header.destination_prefix_length;
    IpNet::new(address.unwrap_or(everything), length).ok()
}

/// All of a route's, as [`Kernel::install`] has written them.
fn gateways(message: &RouteMessage) -> BTreeSet<IpAddr> {
    let single = gateway(message);
    let hops = message.attributes.iter().filter_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    let of_hop = hops.flatten().filter_map(|hop| gateway_of(&hop.attributes));
    single.into_iter().chain(of_hop).collect()
}

fn gateway(message: &RouteMessage) -> Option<IpAddr> {
    gateway_of(&message.attributes)
}

fn gateway_of(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(address) => address_of(address),
        _ => None,
    })
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
