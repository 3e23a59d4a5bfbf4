//! What one prefix does on a NIC's kernel: longest prefix first is the kernel's part; here is who wins one prefix. User-defined
//! routes before BGP before system routes (az §2.7), and a route whose next hop is the NIC itself is not installed there:
//! the system route below it stays (design: how a route reaches a kernel).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::IpNet;
use rib::{Choice, Rank};
use rustc_hash::FxHashSet;

use crate::intent::UserNextHop;
use crate::vnet::import_filter::Admitted;
use crate::vnet::loc_rib::LocRib;
use crate::vnet::view::{SubnetView, SystemHop, default_route};

/// What the kernel does with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) target: Target,
    /// Only the lab, or `--system-routes all`, installs it.
    pub(crate) system: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    OnLink,
    SubnetGateway,
    Blackhole,
    NextHops(Arc<Choice>),
}

/// Whose routes are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) view: &'a SubnetView,
    pub(crate) loc_rib: Option<&'a LocRib>,
    /// Addresses of the NIC itself; empty for a table that NICs share.
    pub(crate) own: &'a [IpAddr],
}

/// The route for one prefix, if any.
pub(crate) fn resolve(scope: Scope<'_>, prefix: &IpNet) -> Option<Resolved> {
    if let Some(hop) = hop(scope, prefix) {
        return Some(resolved(hop, scope.view.is_own_subnet(prefix)));
    }
    // The subnet itself is on-link wherever its longest match means the virtual network.
    if !scope.view.prefixes.contains(prefix) {
        return None;
    }
    let mut wider = prefix.supernet();
    while let Some(candidate) = wider {
        match hop(scope, &candidate) {
            Some(Hop::VnetLocal) => return Some(resolved(Hop::VnetLocal, true)),
            Some(_) => return None,
            None => wider = candidate.supernet(),
        }
    }
    None
}

/// The same for an overlay: nothing where BGP's own route holds, since the base has that.
///
/// Only for views with a base ([`SubnetView::base`]), and never for a NIC's own table.
pub(crate) fn resolve_above_base(scope: Scope<'_>, prefix: &IpNet) -> Option<Resolved> {
    let base_holds = !scope.view.user.contains_key(prefix) && learned(scope, prefix).is_some();
    if base_holds { None } else { resolve(scope, prefix) }
}

/// Every prefix that can have a route; some more than once.
pub(crate) fn prefixes<'a>(view: &'a SubnetView, loc_rib: Option<&'a LocRib>) -> impl Iterator<Item = IpNet> + 'a {
    let learned = loc_rib
        .filter(|_| !view.propagation_disabled)
        .into_iter()
        .flat_map(LocRib::prefixes);
    view.known().chain(learned).copied()
}

/// Which of a view's own prefixes depend on the Loc-RIB's entries for those that changed: they equal one or lie inside one. Costs no more
/// than the shorter of the two lists; some may be named that do not depend on them.
pub(crate) fn known_inside(view: &SubnetView, changed: &[IpNet]) -> BTreeSet<IpNet> {
    if changed.len() >= view.system.len() + view.user.len() {
        return view.known().copied().collect();
    }
    let mut inside = BTreeSet::new();
    for outer in changed {
        // What a prefix contains follows it: by address, the wider first.
        let contained = |prefix: &&IpNet| outer.contains(*prefix);
        let system = view.system.range(*outer..).map(|(prefix, _)| prefix);
        inside.extend(system.take_while(contained));
        let user = view.user.range(*outer..).map(|(prefix, _)| prefix);
        inside.extend(user.take_while(contained));
        inside.extend(view.prefixes.iter().filter(contained));
    }
    inside
}

/// Which other prefixes depend on the Loc-RIB's entries for those that changed.
pub(crate) fn dependants(view: &SubnetView, changed: &[IpNet]) -> FxHashSet<IpNet> {
    let mut dependants = FxHashSet::default();
    for default in changed.iter().filter(|prefix| prefix.prefix_len() == 0) {
        let hidden = view
            .system
            .iter()
            .filter(|(prefix, hop)| hop.yields_to_bgp() && default.contains(*prefix));
        dependants.extend(hidden.map(|(prefix, _)| *prefix));
    }
    // What a user-defined route to the gateway, or the subnet itself, finds as its longest match.
    for longer in view.gateway_routes().chain(&view.prefixes) {
        if changed.iter().any(|prefix| prefix.contains(longer)) {
            dependants.insert(*longer);
        }
    }
    dependants
}

/// What wins one prefix.
enum Hop {
    VnetLocal,
    /// Through the subnet's first address.
    Gateway {
        system: bool,
    },
    Blackhole {
        system: bool,
    },
    NextHops(Arc<Choice>),
}

fn resolved(hop: Hop, own_subnet: bool) -> Resolved {
    let (target, system) = match hop {
        Hop::VnetLocal if own_subnet => (Target::OnLink, false),
        Hop::VnetLocal => (Target::SubnetGateway, false),
        Hop::Gateway { system } => (Target::SubnetGateway, system),
        Hop::Blackhole { system } => (Target::Blackhole, system),
        Hop::NextHops(next_hops) => (Target::NextHops(next_hops), false),
    };
    Resolved { target, system }
}

fn hop(scope: Scope<'_>, prefix: &IpNet) -> Option<Hop> {
    if let Some(user) = scope.view.user.get(prefix) {
        return user_hop(scope, prefix, &user.next_hop).or_else(|| system_hop(scope, prefix));
    }
    if let Some(next_hops) = learned(scope, prefix) {
        return without_own(scope, &next_hops)
            .map(Hop::NextHops)
            .or_else(|| system_hop(scope, prefix));
    }
    match scope.view.system.get(prefix)? {
        hop if hop.yields_to_bgp() && default_from_bgp(scope, prefix) => None,
        _ => system_hop(scope, prefix),
    }
}

/// `None`: the NIC itself is the next hop.
fn user_hop(scope: Scope<'_>, prefix: &IpNet, next_hop: &UserNextHop) -> Option<Hop> {
    match next_hop {
        UserNextHop::VnetLocal => Some(Hop::VnetLocal),
        UserNextHop::Internet => Some(Hop::Gateway { system: false }),
        UserNextHop::None => Some(Hop::Blackhole { system: false }),
        UserNextHop::VirtualAppliance(addresses) => match appliances(addresses) {
            Some(next_hops) => without_own(scope, &next_hops).map(Hop::NextHops),
            None => Some(Hop::Blackhole { system: false }),
        },
        UserNextHop::VirtualNetworkGateway => match gateway_hops(scope.view, scope.loc_rib, prefix) {
            Some(next_hops) => without_own(scope, &next_hops).map(Hop::NextHops),
            None => Some(Hop::Blackhole { system: false }),
        },
    }
}

/// Where a user-defined route to the virtual network gateway goes: the longest BGP match; nowhere without one, as in Azure.
pub(crate) fn gateway_hops<'a>(
    view: &'a SubnetView,
    loc_rib: Option<&'a LocRib>,
    prefix: &IpNet,
) -> Option<Cow<'a, Arc<Choice>>> {
    let loc_rib = loc_rib.filter(|_| !view.propagation_disabled)?;
    let mut candidate = Some(*prefix);
    while let Some(wider) = candidate {
        if let Some(choice) = loc_rib.get(&wider)
            && let Admitted::Yes(next_hops) = view.admit(&wider, choice)
        {
            return Some(next_hops);
        }
        candidate = wider.supernet();
    }
    None
}

fn appliances(addresses: &[IpAddr]) -> Option<Arc<Choice>> {
    let mut next_hops = addresses.to_vec();
    next_hops.sort_unstable();
    next_hops.dedup();
    (!next_hops.is_empty()).then(|| {
        Arc::new(Choice {
            next_hops,
            fallback: Vec::new(),
            rank: Rank(0),
        })
    })
}

fn system_hop(scope: Scope<'_>, prefix: &IpNet) -> Option<Hop> {
    Some(match scope.view.system.get(prefix)? {
        SystemHop::VnetLocal => Hop::VnetLocal,
        SystemHop::VNetPeering | SystemHop::VNetGlobalPeering => Hop::Gateway { system: false },
        SystemHop::Internet => Hop::Gateway { system: true },
        SystemHop::None => Hop::Blackhole { system: true },
    })
}

/// BGP's next hops for exactly this prefix, where BGP may speak.
pub(crate) fn learned<'a>(scope: Scope<'a>, prefix: &IpNet) -> Option<Cow<'a, Arc<Choice>>> {
    match offered(scope, prefix)? {
        Admitted::Yes(next_hops) => Some(next_hops),
        Admitted::No(_) => None,
    }
}

/// The same, with what the route table's filter says if it keeps them away.
pub(crate) fn offered<'a>(scope: Scope<'a>, prefix: &IpNet) -> Option<Admitted<'a>> {
    let choice = scope.loc_rib?.get(prefix)?;
    scope.view.takes_bgp(prefix).then(|| scope.view.admit(prefix, choice))
}

/// Whether BGP brings this NIC the default route of the prefix's family.
fn default_from_bgp(scope: Scope<'_>, prefix: &IpNet) -> bool {
    let default = default_route(prefix);
    learned(scope, &default)
        .is_some_and(|next_hops| scope.view.user.contains_key(&default) || !is_next_hop(scope.own, &next_hops))
}

/// The next hops as the NIC may use them: not at all when it is one, without a fallback when it is one of those.
fn without_own(scope: Scope<'_>, next_hops: &Arc<Choice>) -> Option<Arc<Choice>> {
    if is_next_hop(scope.own, next_hops) {
        return None;
    }
    if !next_hops.fallback.iter().any(|address| scope.own.contains(address)) {
        return Some(next_hops.clone());
    }
    Some(Arc::new(Choice {
        fallback: Vec::new(),
        ..Choice::clone(next_hops)
    }))
}

/// Whether the NIC itself is one of the next hops.
fn is_next_hop(own: &[IpAddr], next_hops: &Choice) -> bool {
    next_hops.next_hops.iter().any(|member| own.contains(member))
}
