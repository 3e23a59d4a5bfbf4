//! What the NICs of one subnet share before any BGP route: system routes, user-defined routes, and which BGP prefixes may come.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::IpNet;
use rib::Choice;

use crate::intent::{ImportFilter, UserNextHop};
use crate::prefix_set::PrefixSet;
use crate::vnet::import_filter::Admitted;

/// Next hop of a system route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SystemHop {
    VnetLocal,
    VNetPeering,
    VNetGlobalPeering,
    Internet,
    None,
}

impl SystemHop {
    /// These disappear when BGP brings a default route, or the same prefix (az §2.10, 2).
    pub(crate) fn yields_to_bgp(self) -> bool {
        matches!(self, SystemHop::Internet | SystemHop::None)
    }
}

/// A user-defined route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserRoute {
    pub(crate) name: String,
    pub(crate) next_hop: UserNextHop,
}

/// One subnet's facts. Two equal views with the same Loc-RIB give the same routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubnetView {
    /// The subnet's prefixes: on-link.
    pub(crate) prefixes: Vec<IpNet>,
    /// The speaker (id) whose routes come here: the route server of this virtual network, or of the peered one whose gateways it uses.
    pub(crate) speaker: Option<String>,
    /// disableBgpRoutePropagation.
    pub(crate) propagation_disabled: bool,
    pub(crate) system: BTreeMap<IpNet, SystemHop>,
    pub(crate) user: BTreeMap<IpNet, UserRoute>,
    /// The virtual network's own prefixes and those of every directly peered one: a BGP prefix equal to or inside them is
    /// skipped on these NICs, their system routes win (az §2.7, §2.10, 1).
    pub(crate) not_from_bgp: PrefixSet,
    /// Which of BGP's other routes come.
    pub(crate) import: Option<ImportFilter>,
}

impl SubnetView {
    /// Whether a BGP route for `prefix` comes to this subnet at all.
    pub(crate) fn takes_bgp(&self, prefix: &IpNet) -> bool {
        !self.propagation_disabled && !self.not_from_bgp.covers(prefix)
    }

    /// BGP's route for a prefix as it comes to this subnet.
    pub(crate) fn admit<'a>(&'a self, prefix: &IpNet, choice: &'a Arc<Choice>) -> Admitted<'a> {
        match &self.import {
            Some(filter) => filter.admit(prefix, choice),
            None => Admitted::Yes(Cow::Borrowed(choice)),
        }
    }

    /// The speaker (id) whose base table holds here, if one does: then BGP brings what it brings to all others, but for `not_from_bgp`.
    pub(crate) fn base(&self) -> Option<&str> {
        let all_comes = !self.propagation_disabled && self.import.is_none();
        self.speaker.as_deref().filter(|_| all_comes)
    }

    /// Prefixes of its own, whatever BGP says; some more than once.
    pub(crate) fn known(&self) -> impl Iterator<Item = &IpNet> {
        self.user.keys().chain(self.system.keys()).chain(&self.prefixes)
    }

    /// Whether it depends on a route's next hops if the route comes.
    pub(crate) fn looks_at_next_hops(&self) -> bool {
        self.import.as_ref().is_some_and(ImportFilter::looks_at_next_hops)
    }

    /// User-defined routes that point at whatever BGP says.
    pub(crate) fn gateway_routes(&self) -> impl Iterator<Item = &IpNet> {
        self.user
            .iter()
            .filter(|(_, route)| route.next_hop == UserNextHop::VirtualNetworkGateway)
            .map(|(prefix, _)| prefix)
    }

    /// Whether `prefix` lies in the subnet itself.
    pub(crate) fn is_own_subnet(&self, prefix: &IpNet) -> bool {
        self.prefixes.iter().any(|own| own.contains(prefix))
    }
}

/// The default route of a prefix's family.
pub(crate) fn default_route(prefix: &IpNet) -> IpNet {
    let zero = match prefix {
        IpNet::V4(_) => IpAddr::from([0u8; 4]),
        IpNet::V6(_) => IpAddr::from([0u8; 16]),
    };
    IpNet::new(zero, 0).expect("0 is a prefix length of both families")
}
