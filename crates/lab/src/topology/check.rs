//! From the file to a [`Topology`], or to all of its mistakes.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_saphyr::Spanned;

use super::file::{
    AnnounceFile, HostFile, NvaFile, PathFile, RouteTableFile, SubnetFile, Text, TopologyFile, VnetFile,
};
use super::{
    GATEWAY_SUBNET, Host, Nva, Path, Peering, ROUTE_SERVER_SUBNET, RouteServer, RouteTable, Software, Subnet, Topology,
    UserRoute, Vm, Vnet, nth, nth_v6,
};

/// A node's name becomes a network link's name (15 bytes at most) and a host name, and `agent-` is put before some.
const MAX_NODE_NAME: usize = 13;
/// Names that the lab's verbs already mean something by.
const RESERVED: [&str; 4] = ["manager", "instance0", "instance1", "fabric"];
/// The platform keeps a subnet's network address and the next three (az §2.1); an NVA or VM never has one of them.
const RESERVED_ADDRESSES: u32 = 4;
/// Azure's IPv6 subnets are of this length.
const SUBNET_V6: u8 = 64;
const NEXT_HOP_TYPES: [&str; 6] = [
    "VirtualAppliance",
    "VirtualApplianceEcmp",
    "VirtualNetworkGateway",
    "VnetLocal",
    "Internet",
    "None",
];
const ROUTING_PREFERENCES: [&str; 3] = ["ExpressRoute", "VpnGateway", "ASPath"];

/// Something wrong in a topology file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line, counted from 1.
    pub line: u64,
    /// Column, counted from 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
}

/// Why a text is no topology.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// Not YAML, or not of the right shape.
    #[error("{place}: {message}")]
    Shape {
        /// The file.
        place: String,
        /// What the parser says, with line and column.
        message: String,
    },
    /// Every mistake found.
    #[error("{}", Mistakes { place, mistakes })]
    Mistakes {
        /// The file.
        place: String,
        /// In the order of the file's parts.
        mistakes: Vec<Mistake>,
    },
}

struct Mistakes<'a> {
    place: &'a str,
    mistakes: &'a [Mistake],
}

impl fmt::Display for Mistakes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, m) in self.mistakes.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{}:{}:{}: {}", self.place, m.line, m.column, m.message)?;
        }
        Ok(())
    }
}

pub(super) fn parse(place: &str, text: &str) -> Result<Topology, TopologyError> {
    let file: TopologyFile = serde_saphyr::from_str(text).map_err(|e| TopologyError::Shape {
        place: place.to_owned(),
        message: e.to_string(),
    })?;
    let mut checker = Checker::default();
    let topology = checker.topology(&file);
    if checker.mistakes.is_empty() {
        return Ok(topology);
    }
    checker.mistakes.sort_by_key(|m| (m.line, m.column));
    Err(TopologyError::Mistakes {
        place: place.to_owned(),
        mistakes: checker.mistakes,
    })
}

#[derive(Default)]
struct Checker {
    mistakes: Vec<Mistake>,
    nodes: BTreeSet<String>,
    addresses: HashMap<Ipv4Addr, String>,
}

impl Checker {
    fn topology(&mut self, file: &TopologyFile) -> Topology {
        let route_tables: Vec<_> = file.route_tables.iter().map(|t| self.route_table(t)).collect();
        let vnets: Vec<_> = file.vnets.iter().map(|v| self.vnet(v, &route_tables)).collect();
        self.unique("virtual network", file.vnets.iter().map(|v| &v.name));
        self.unique("route table", file.route_tables.iter().map(|t| &t.name));
        self.peerings(file);
        let mut topology = Topology {
            description: file.description.clone(),
            instances: self.instances(file),
            vnets,
            route_tables,
            route_servers: Vec::new(),
            vms: Vec::new(),
            nvas: Vec::new(),
            load_balancers: Vec::new(),
            links: Vec::new(),
            route_maps: Vec::new(),
            gateways: Vec::new(),
            sites: Vec::new(),
            circuits: Vec::new(),
        };
        topology.route_servers = self.route_servers(file, &topology);
        topology.route_maps = self.route_maps(file, &topology);
        self.fixed_addresses(file, &topology);
        topology.nvas = file.nvas.iter().filter_map(|n| self.nva(n, &topology)).collect();
        topology.vms = file.vms.iter().filter_map(|v| self.vm(v, &topology)).collect();
        let balancers = file.load_balancers.iter();
        topology.load_balancers = balancers.filter_map(|b| self.load_balancer(b, &topology)).collect();
        topology.gateways = self.gateways(file, &topology);
        topology.sites = file.sites.iter().filter_map(|s| self.site(s, &topology)).collect();
        topology.circuits = file
            .circuits
            .iter()
            .filter_map(|c| self.circuit(c, &topology))
            .collect();
        topology.links = file.links.iter().filter_map(|l| self.link(l, &topology)).collect();
        topology
    }

    fn mistake<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) {
        self.mistakes.push(Mistake {
            line: at.referenced.line(),
            column: at.referenced.column(),
            message: message.into(),
        });
    }

    fn instances(&mut self, file: &TopologyFile) -> u8 {
        match &file.instances {
            Some(n) if !(1..=2).contains(&n.value) => {
                self.mistake(n, format!("instances is 1 or 2, not {}", n.value));
                2
            }
            Some(n) => n.value,
            None => 2,
        }
    }

    fn unique<'a>(&mut self, what: &str, names: impl Iterator<Item = &'a Text>) {
        let mut seen = BTreeSet::new();
        for name in names {
            if name.value.is_empty() {
                self.mistake(name, format!("a {what} needs a name"));
            } else if !seen.insert(name.value.to_ascii_lowercase()) {
                self.mistake(name, format!("there is already a {what} named {}", name.value));
            }
        }
    }

    /// An IPv4 prefix.
    fn prefix(&mut self, text: &Text) -> Ipv4Net {
        match self.prefix_at(text, &text.value) {
            IpNet::V4(net) => net,
            IpNet::V6(net) => {
                self.mistake(text, format!("{net} is not an IPv4 prefix such as 10.1.0.0/16"));
                Ipv4Net::default()
            }
        }
    }

    /// A prefix of either family.
    fn prefix_at<T>(&mut self, at: &Spanned<T>, text: &str) -> IpNet {
        match text.parse::<IpNet>() {
            Ok(net) if net.addr() != net.network() => {
                self.mistake(
                    at,
                    format!("{text} has bits beyond its mask; did you mean {}?", net.trunc()),
                );
                net.trunc()
            }
            Ok(net) => net,
            Err(_) => {
                self.mistake(at, format!("{text} is not a prefix such as 10.1.0.0/16"));
                IpNet::V4(Ipv4Net::default())
            }
        }
    }

    fn address_v6(&mut self, text: &Text) -> Option<Ipv6Addr> {
        let address = text.value.parse().ok();
        if address.is_none() {
            self.mistake(text, format!("{} is not an IPv6 address", text.value));
        }
        address
    }

    fn address(&mut self, text: &Text) -> Option<Ipv4Addr> {
        let address = text.value.parse().ok();
        if address.is_none() {
            self.mistake(text, format!("{} is not an IPv4 address", text.value));
        }
        address
    }

    fn route_table(&mut self, file: &RouteTableFile) -> RouteTable {
        let routes = file.routes.iter().map(|route| {
            let prefix = self.prefix_at(&route.prefix, &route.prefix.value);
            let next_hop_type = self.one_of(&route.next_hop_type, &NEXT_HOP_TYPES);
            let named = route.next_hop.iter().chain(&route.next_hops);
            let next_hops: Vec<_> = named
                .filter_map(|address| self.address_at(address, &address.value))
                .collect();
            match next_hop_type.as_str() {
                "VirtualAppliance" if route.next_hop.is_none() => {
                    self.mistake(&route.next_hop_type, "VirtualAppliance needs a next_hop");
                }
                "VirtualApplianceEcmp" if route.next_hops.len() < 2 => {
                    self.mistake(&route.next_hop_type, "VirtualApplianceEcmp needs two next_hops or more");
                }
                _ => {}
            }
            UserRoute {
                prefix,
                next_hop_type,
                next_hops,
            }
        });
        RouteTable {
            name: file.name.value.clone(),
            disable_bgp_propagation: file.disable_bgp_propagation,
            routes: routes.collect(),
        }
    }

    /// An address of either family.
    fn address_at<T>(&mut self, at: &Spanned<T>, text: &str) -> Option<IpAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            self.mistake(at, format!("{text} is not an IP address"));
        }
        address
    }

    /// The allowed spelling of a word.
    fn one_of(&mut self, text: &Text, allowed: &[&str]) -> String {
        match allowed.iter().find(|a| a.eq_ignore_ascii_case(&text.value)) {
            Some(a) => (*a).to_owned(),
            None => {
                self.mistake(text, format!("{} is none of {}", text.value, allowed.join(", ")));
                allowed[0].to_owned()
            }
        }
    }

    fn vnet(&mut self, file: &VnetFile, route_tables: &[RouteTable]) -> Vnet {
        let address_prefixes: Vec<_> = file
            .address_prefixes
            .iter()
            .map(|p| self.prefix_at(p, &p.value))
            .collect();
        if address_prefixes.is_empty() {
            self.mistake(&file.name, format!("{} has no address prefix", file.name.value));
        }
        let mut subnets: Vec<Subnet> = Vec::new();
        for subnet in &file.subnets {
            let prefix = self.prefix(&subnet.prefix);
            if prefix.prefix_len() > 29 {
                self.mistake(
                    &subnet.prefix,
                    format!("{prefix} is smaller than a /29, the smallest subnet"),
                );
            } else if !address_prefixes.iter().any(|p| p.contains(&IpNet::V4(prefix))) {
                self.mistake(&subnet.prefix, format!("{prefix} is outside the virtual network"));
            }
            if let Some(other) = subnets
                .iter()
                .find(|s| s.prefix.contains(&prefix) || prefix.contains(&s.prefix))
            {
                let message = format!("{prefix} overlaps subnet {} ({})", other.name, other.prefix);
                self.mistake(&subnet.prefix, message);
            }
            if let Some(table) = &subnet.route_table
                && !route_tables.iter().any(|t| t.name == table.value)
            {
                self.mistake(table, format!("there is no route table named {}", table.value));
            }
            subnets.push(Subnet {
                name: subnet.name.value.clone(),
                prefix,
                prefix_v6: self.subnet_v6(subnet, &address_prefixes, &subnets),
                route_table: subnet.route_table.as_ref().map(|t| t.value.clone()),
            });
        }
        self.unique("subnet", file.subnets.iter().map(|s| &s.name));
        let peerings = file.peerings.iter().map(|p| Peering {
            to: p.to.value.clone(),
            allow_forwarded_traffic: p.allow_forwarded_traffic,
            allow_gateway_transit: p.allow_gateway_transit,
            use_remote_gateways: p.use_remote_gateways,
        });
        Vnet {
            name: file.name.value.clone(),
            address_prefixes,
            subnets,
            peerings: peerings.collect(),
        }
    }

    fn subnet_v6(&mut self, file: &SubnetFile, space: &[IpNet], others: &[Subnet]) -> Option<Ipv6Net> {
        let text = file.prefix_v6.as_ref()?;
        let prefix = match self.prefix_at(text, &text.value) {
            IpNet::V6(prefix) if prefix.prefix_len() == SUBNET_V6 => prefix,
            other => {
                self.mistake(text, format!("{other} is no IPv6 prefix of length {SUBNET_V6}"));
                return None;
            }
        };
        if !space.iter().any(|p| p.contains(&IpNet::V6(prefix))) {
            self.mistake(text, format!("{prefix} is outside the virtual network"));
        }
        if let Some(other) = others.iter().find(|s| s.prefix_v6 == Some(prefix)) {
            self.mistake(text, format!("{prefix} is subnet {}'s", other.name));
        }
        Some(prefix)
    }

    fn peerings(&mut self, file: &TopologyFile) {
        for vnet in &file.vnets {
            for peering in &vnet.peerings {
                let other = file.vnets.iter().find(|v| v.name.value == peering.to.value);
                let (here, there) = (&vnet.name.value, &peering.to.value);
                match other {
                    _ if here == there => self.mistake(&peering.to, format!("{here} cannot peer with itself")),
                    None => self.mistake(&peering.to, format!("there is no virtual network named {there}")),
                    Some(other) if !other.peerings.iter().any(|p| p.to.value == *here) => {
                        self.mistake(&peering.to, format!("{there} has no peering back to {here}"));
                    }
                    Some(_) => {}
                }
            }
        }
    }

    fn route_servers(&mut self, file: &TopologyFile, topology: &Topology) -> Vec<RouteServer> {
        let mut taken = BTreeSet::new();
        let mut route_servers = Vec::new();
        for rs in &file.route_servers {
            self.node_name(&rs.name);
            if topology.vnet(&rs.vnet.value).is_none() {
                self.mistake(&rs.vnet, format!("there is no virtual network named {}", rs.vnet.value));
            } else if topology.subnet(&rs.vnet.value, ROUTE_SERVER_SUBNET).is_none() {
                let message = format!("{} has no subnet named {ROUTE_SERVER_SUBNET}", rs.vnet.value);
                self.mistake(&rs.vnet, message);
            } else if !taken.insert(rs.vnet.value.clone()) {
                self.mistake(&rs.vnet, format!("{} already has a route server", rs.vnet.value));
            }
            let subnet = topology.subnet(&rs.vnet.value, ROUTE_SERVER_SUBNET);
            if rs.ipv6 && subnet.is_some_and(|subnet| subnet.prefix_v6.is_none()) {
                self.mistake(&rs.name, format!("with ipv6 {ROUTE_SERVER_SUBNET} needs a prefix_v6"));
            }
            let preference = rs.routing_preference.as_ref();
            route_servers.push(RouteServer {
                name: rs.name.value.clone(),
                vnet: rs.vnet.value.clone(),
                branch_to_branch: rs.branch_to_branch,
                routing_preference: preference
                    .map_or_else(|| "ExpressRoute".to_owned(), |p| self.one_of(p, &ROUTING_PREFERENCES)),
                ipv6: rs.ipv6,
            });
        }
        route_servers
    }

    /// Addresses that are written down go first, so that the automatic ones keep out of their way.
    fn fixed_addresses(&mut self, file: &TopologyFile, topology: &Topology) {
        let nvas = file.nvas.iter().map(|n| (&n.name, &n.subnet, &n.address));
        let vms = file.vms.iter().map(|v| (&v.name, &v.subnet, &v.address));
        let balancers = file.load_balancers.iter().map(|b| (&b.name, &b.subnet, &b.address));
        for (name, subnet, address) in nvas.chain(vms).chain(balancers) {
            let Some(text) = address else { continue };
            let Some(address) = self.address(text) else { continue };
            let Some((_, subnet)) = find_subnet(topology, &subnet.value) else {
                continue;
            };
            if !usable(subnet.prefix, address) {
                let message = format!(
                    "{address} is not usable in {}: it must be one of {} to {}",
                    subnet.name,
                    nth(subnet.prefix, RESERVED_ADDRESSES),
                    last_usable(subnet.prefix)
                );
                self.mistake(text, message);
            }
            if let Some(other) = self.addresses.insert(address, name.value.clone()) {
                self.mistake(text, format!("{address} already belongs to {other}"));
            }
        }
    }

    /// Where a VM or NVA lives, and its address.
    fn placement(
        &mut self,
        name: &Text,
        subnet: &Text,
        address: &Option<Text>,
        topology: &Topology,
    ) -> Option<Placement> {
        self.node_name(name);
        let Some((vnet, subnet_found)) = find_subnet(topology, &subnet.value) else {
            self.mistake(
                subnet,
                format!("there is no subnet {} (write VNET/SUBNET)", subnet.value),
            );
            return None;
        };
        if let Some(service) = [ROUTE_SERVER_SUBNET, GATEWAY_SUBNET]
            .iter()
            .find(|name| subnet_found.name == **name)
        {
            self.mistake(subnet, format!("nothing but its service may live in {service}"));
            return None;
        }
        let address = match address {
            Some(text) => text.value.parse().ok()?,
            None => self.next_address(name, subnet_found.prefix)?,
        };
        Some(Placement {
            vnet: vnet.name.clone(),
            subnet: subnet_found.name.clone(),
            address_v6: subnet_found.beside(address),
            address,
        })
    }

    fn next_address(&mut self, name: &Text, prefix: Ipv4Net) -> Option<Ipv4Addr> {
        let mut candidates = (RESERVED_ADDRESSES..)
            .map(|n| nth(prefix, n))
            .take_while(|a| usable(prefix, *a));
        let Some(address) = candidates.find(|a| !self.addresses.contains_key(a)) else {
            self.mistake(name, format!("no free address in {prefix}"));
            return None;
        };
        self.addresses.insert(address, name.value.clone());
        Some(address)
    }

    fn node_name(&mut self, name: &Text) {
        let value = &name.value;
        let letters = value
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !letters || !value.starts_with(|c: char| c.is_ascii_lowercase()) || value.len() > MAX_NODE_NAME {
            let rule = format!("small letters, digits and dashes, at most {MAX_NODE_NAME}, a letter first");
            self.mistake(name, format!("\"{value}\" is no node name ({rule})"));
        } else if RESERVED.contains(&value.as_str()) || value.starts_with("agent-") {
            self.mistake(name, format!("{value} is a name that the lab needs for itself"));
        } else if !self.nodes.insert(value.clone()) {
            self.mistake(name, format!("there is already a node named {value}"));
        }
    }

    fn vm(&mut self, file: &super::file::VmFile, topology: &Topology) -> Option<Vm> {
        let place = self.placement(&file.name, &file.subnet, &file.address, topology)?;
        Some(Vm {
            name: file.name.value.clone(),
            vnet: place.vnet,
            subnet: place.subnet,
            address: place.address,
            address_v6: place.address_v6,
        })
    }

    fn nva(&mut self, file: &NvaFile, topology: &Topology) -> Option<Nva> {
        let place = self.placement(&file.name, &file.subnet, &file.address, topology);
        let software = self.software(&file.software);
        if file.asn.value == 0 {
            self.mistake(&file.asn, "AS number 0 is reserved (RFC 7607)");
        }
        let announce = file.announce.iter().map(|a| self.path(a)).collect();
        let behind = file.behind.iter().map(|h| self.host(h, topology)).collect();
        let place = place?;
        self.check_next_hops(&file.announce, place.address_v6);
        let route_servers = self.route_servers_of(file, &place.vnet, topology);
        Some(Nva {
            name: file.name.value.clone(),
            vnet: place.vnet,
            subnet: place.subnet,
            address: place.address,
            address_v6: place.address_v6,
            software,
            asn: file.asn.value,
            route_servers,
            announce,
            behind,
            inbound_route_map: self.known_map(&file.inbound_route_map, topology),
            outbound_route_map: self.known_map(&file.outbound_route_map, topology),
            import_preference: file.import_preference,
            as_override: file.as_override,
            agent: file.agent,
            bfd: file.bfd.as_ref().and_then(|bfd| self.bfd(bfd, software)),
            graceful_restart: file
                .graceful_restart
                .as_ref()
                .map(|restart| self.graceful_restart(restart, software)),
        })
    }

    /// What is announced of IPv6 needs an IPv6 next hop.
    fn check_next_hops(&mut self, announce: &[Spanned<AnnounceFile>], own: Option<Ipv6Addr>) {
        for at in announce.iter().filter(|_| own.is_none()) {
            let (prefix, next_hop) = match &at.value {
                AnnounceFile::Plain(prefix) => (prefix, None),
                AnnounceFile::WithOptions(path) => (&path.prefix, path.next_hop.as_ref()),
            };
            if next_hop.is_none() && matches!(prefix.parse(), Ok(IpNet::V6(_))) {
                self.mistake(at, format!("{prefix} cannot be announced without an IPv6 address"));
            }
        }
    }

    fn software(&mut self, name: &Option<Text>) -> Software {
        let Some(text) = name else { return Software::Builtin };
        Software::from_name(&text.value).unwrap_or_else(|| {
            let names: Vec<_> = Software::ALL.iter().map(|s| s.name()).collect();
            self.mistake(
                text,
                format!("software is one of {}, not {}", names.join(", "), text.value),
            );
            Software::Builtin
        })
    }

    fn route_servers_of(&mut self, file: &NvaFile, vnet: &str, topology: &Topology) -> Vec<String> {
        let named: Vec<&Text> = file.route_server.iter().chain(&file.route_servers).collect();
        if !named.is_empty() {
            for text in &named {
                if text.value != "none" && topology.route_server(&text.value).is_none() {
                    self.mistake(text, format!("there is no route server named {}", text.value));
                }
            }
            let names = named.iter().map(|text| text.value.clone());
            return names.filter(|name| name != "none").collect();
        }
        let remote = |rs: &&RouteServer| {
            let peerings = topology.vnet(vnet).map(|v| v.peerings.as_slice()).unwrap_or_default();
            peerings.iter().any(|p| p.to == rs.vnet && p.use_remote_gateways)
        };
        let own = topology.route_servers.iter().find(|rs| rs.vnet == vnet);
        let found = own.or_else(|| topology.route_servers.iter().find(remote));
        found.map(|rs| rs.name.clone()).into_iter().collect()
    }

    fn path(&mut self, at: &Spanned<AnnounceFile>) -> Path {
        match &at.value {
            AnnounceFile::Plain(prefix) => Path::plain(self.prefix_at(at, prefix)),
            AnnounceFile::WithOptions(options) => self.path_with_options(at, options),
        }
    }

    fn path_with_options(&mut self, at: &Spanned<AnnounceFile>, file: &PathFile) -> Path {
        let mut communities = Vec::new();
        for text in &file.communities {
            match parse_community(text) {
                Some(community) => communities.push(community),
                None => self.mistake(at, format!("{text} is not a community such as 65001:100")),
            }
        }
        let next_hop = file.next_hop.as_ref().and_then(|text| self.address_at(at, text));
        Path {
            prefix: self.prefix_at(at, &file.prefix),
            as_path_prepend: file.as_path_prepend,
            as_path: file.as_path.clone(),
            communities,
            med: file.med,
            next_hop,
            only_to: None,
        }
    }

    fn host(&mut self, file: &HostFile, topology: &Topology) -> Host {
        self.node_name(&file.name);
        let text = &file.address;
        let address = text
            .value
            .parse::<Ipv4Net>()
            .ok()
            .filter(|n| (1..=30).contains(&n.prefix_len()));
        let Some(address) = address else {
            let message = format!(
                "{} is not an address with a prefix length, such as 10.250.0.10/24",
                text.value
            );
            self.mistake(text, message);
            return Host {
                name: file.name.value.clone(),
                address: Ipv4Net::default(),
                address_v6: None,
                routes: Vec::new(),
            };
        };
        if address.addr() == nth(address, 1) {
            self.mistake(
                text,
                format!("{} is the NVA's own address on that link", address.addr()),
            );
        } else if address.addr() == address.network() || address.addr() == address.broadcast() {
            self.mistake(
                text,
                format!("{} is not a host's address in {}", address.addr(), address.trunc()),
            );
        }
        let spaces = topology.vnets.iter().flat_map(|v| &v.address_prefixes);
        if let Some(space) = spaces
            .into_iter()
            .find(|p| p.contains(&IpNet::V4(address.trunc())) || IpNet::V4(address).contains(*p))
        {
            self.mistake(
                text,
                format!("{} overlaps the virtual network {space}", address.trunc()),
            );
        }
        Host {
            name: file.name.value.clone(),
            address,
            address_v6: file.address_v6.as_ref().and_then(|text| self.host_v6(text)),
            routes: file.routes.iter().map(|p| self.prefix_at(p, &p.value)).collect(),
        }
    }

    /// An IPv6 address with its link's prefix length.
    fn host_v6(&mut self, text: &Text) -> Option<Ipv6Net> {
        let address = text.value.parse::<Ipv6Net>().ok();
        let address = address.filter(|own| (1..=126).contains(&own.prefix_len()) && own.addr() != nth_v6(*own, 1));
        if address.is_none() {
            let message = format!(
                "{} is not an IPv6 address with a prefix length, such as 2001:db8:250::a/64; the link's first is the NVA's",
                text.value
            );
            self.mistake(text, message);
        }
        address
    }
}

struct Placement {
    vnet: String,
    subnet: String,
    address: Ipv4Addr,
    address_v6: Option<Ipv6Addr>,
}

fn find_subnet<'a>(topology: &'a Topology, name: &str) -> Option<(&'a Vnet, &'a Subnet)> {
    let (vnet, subnet) = name.split_once('/')?;
    Some((topology.vnet(vnet)?, topology.subnet(vnet, subnet)?))
}

fn usable(prefix: Ipv4Net, address: Ipv4Addr) -> bool {
    (nth(prefix, RESERVED_ADDRESSES)..=last_usable(prefix)).contains(&address)
}

fn last_usable(prefix: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(prefix.broadcast()).saturating_sub(1))
}

fn parse_community(text: &str) -> Option<(u16, u16)> {
    let (high, low) = text.split_once(':')?;
    Some((high.parse().ok()?, low.parse().ok()?))
}

mod bfd;
mod hybrid;
mod joins;
mod maps;
#[cfg(test)]
mod tests;
