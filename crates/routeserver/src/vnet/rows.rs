//! The effective routes of a NIC as Azure lists them (az §5, §2.10, 2): losers included, with their state.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bgp::IpNet;

use crate::intent::UserNextHop;
use crate::report::EffectiveRoute;
use crate::vnet::import_filter::Admitted;
use crate::vnet::resolve::{Scope, gateway_hops, learned, offered, prefixes};
use crate::vnet::view::{SystemHop, UserRoute, default_route};

/// Every row, by prefix; for equal prefixes the user-defined one first, then BGP's, then the system's.
pub(crate) fn rows(scope: Scope<'_>) -> Vec<EffectiveRoute> {
    let prefixes: BTreeSet<IpNet> = prefixes(scope.view, scope.loc_rib).collect();
    prefixes.iter().flat_map(|prefix| rows_of(scope, prefix)).collect()
}

/// The rows of one prefix.
pub(crate) fn rows_of(scope: Scope<'_>, prefix: &IpNet) -> impl Iterator<Item = EffectiveRoute> {
    let user = scope.view.user.get(prefix);
    let offered = offered(scope, prefix);
    let kept_away = match &offered {
        Some(Admitted::No(rule)) => Some(kept_away_row(scope, prefix, *rule)),
        _ => None,
    };
    let bgp = match offered {
        Some(Admitted::Yes(next_hops)) => Some(next_hops),
        _ => None,
    };
    let user_row = user.map(|route| user_row(scope, prefix, route));
    let bgp_row = bgp.as_ref().map(|next_hops| {
        let row = row(scope, prefix, "VirtualNetworkGateway", "VirtualNetworkGateway");
        let mut row = with_next_hops(scope, row, &next_hops.next_hops);
        row.rank = Some(next_hops.rank.0);
        if user.is_some() { invalid(row) } else { row }
    });
    let system_row = scope.view.system.get(prefix).and_then(|hop| {
        // A default route from BGP makes these rows absent, not Invalid (az §2.10, 2).
        if hop.yields_to_bgp() && (bgp.is_some() || learned(scope, &default_route(prefix)).is_some()) {
            return None;
        }
        let row = row(scope, prefix, "Default", system_type(*hop));
        Some(if user.is_some() { invalid(row) } else { row })
    });
    user_row.into_iter().chain(bgp_row).chain(kept_away).chain(system_row)
}

/// What the route table's filter keeps away is told, with the rule: people should not have to guess.
fn kept_away_row(scope: Scope<'_>, prefix: &IpNet, rule: Option<&str>) -> EffectiveRoute {
    let mut row = row(scope, prefix, "VirtualNetworkGateway", "VirtualNetworkGateway");
    let choice = scope.loc_rib.and_then(|loc_rib| loc_rib.get(prefix));
    row.next_hop_ip_address = choice.map(|choice| choice.next_hops.clone()).unwrap_or_default();
    row.rank = choice.map(|choice| choice.rank.0);
    EffectiveRoute {
        not_installed: Some(match rule {
            Some(rule) => format!("the route table's import rule '{rule}' keeps it away"),
            None => "no import rule of the route table lets it in".to_owned(),
        }),
        ..invalid(row)
    }
}

fn user_row(scope: Scope<'_>, prefix: &IpNet, route: &UserRoute) -> EffectiveRoute {
    let gateway = match route.next_hop {
        UserNextHop::VirtualNetworkGateway => gateway_hops(scope.view, scope.loc_rib, prefix),
        _ => None,
    };
    let (next_hop_type, next_hops): (_, &[IpAddr]) = match &route.next_hop {
        UserNextHop::VirtualAppliance(addresses) if addresses.len() > 1 => ("VirtualApplianceEcmp", addresses),
        UserNextHop::VirtualAppliance(addresses) => ("VirtualAppliance", addresses),
        UserNextHop::VnetLocal => ("VnetLocal", &[]),
        UserNextHop::Internet => ("Internet", &[]),
        UserNextHop::None => ("None", &[]),
        UserNextHop::VirtualNetworkGateway => (
            "VirtualNetworkGateway",
            gateway.as_ref().map_or(&[], |next_hops| &next_hops.next_hops),
        ),
    };
    let mut row = with_next_hops(scope, row(scope, prefix, "User", next_hop_type), next_hops);
    row.name = Some(route.name.clone());
    row.rank = gateway.map(|next_hops| next_hops.rank.0);
    row
}

fn row(scope: Scope<'_>, prefix: &IpNet, source: &str, next_hop_type: &str) -> EffectiveRoute {
    EffectiveRoute {
        name: None,
        source: source.to_owned(),
        state: "Active".to_owned(),
        address_prefix: *prefix,
        next_hop_type: next_hop_type.to_owned(),
        next_hop_ip_address: Vec::new(),
        rank: None,
        disable_bgp_route_propagation: scope.view.propagation_disabled,
        not_installed: None,
    }
}

fn with_next_hops(scope: Scope<'_>, mut row: EffectiveRoute, next_hops: &[IpAddr]) -> EffectiveRoute {
    row.next_hop_ip_address = next_hops.to_vec();
    let own = next_hops.iter().find(|next_hop| scope.own.contains(next_hop));
    row.not_installed = own.map(|own| {
        format!("{own} is this NIC's own address; its kernel keeps the system route for the prefix, if there is one")
    });
    row
}

fn invalid(mut row: EffectiveRoute) -> EffectiveRoute {
    row.state = "Invalid".to_owned();
    row.not_installed = None;
    row
}

fn system_type(hop: SystemHop) -> &'static str {
    match hop {
        SystemHop::VnetLocal => "VnetLocal",
        SystemHop::VNetPeering => "VNetPeering",
        SystemHop::VNetGlobalPeering => "VNetGlobalPeering",
        SystemHop::Internet => "Internet",
        SystemHop::None => "None",
    }
}
