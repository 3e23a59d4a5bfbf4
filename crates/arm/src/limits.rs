//! How many virtual networks and VMs a route server serves: its own network and those that use it as their gateway (az §1.1).
//!
//! Looked at when all that a request writes is there. Only growth is refused: a limit that was set below what there is stands in
//! nobody's way to less.

use crate::error::ArmError;
use crate::id::parent_key;
use crate::index::Relation;
use crate::resource::Resource;
use crate::types;
use crate::world::World;

/// Writing one of these can make a route server serve more.
const GROWING: [&str; 4] = [
    types::VIRTUAL_NETWORK,
    types::VIRTUAL_NETWORK_PEERING,
    types::NETWORK_INTERFACE,
    types::HUB_IP_CONFIGURATION,
];

/// The routing infrastructure units that a route server always has.
pub(crate) const DEFAULT_UNITS: f64 = 2.0;

/// The most that Azure sells (az §1.4): 50,000 VMs.
pub(crate) const MAX_UNITS: u32 = 48;

/// The VMs that Azure's route server can serve: 4000 with the units that it always has, 1000 more with each further one (az §1.4).
pub(crate) fn capacity(units: f64) -> f64 {
    4000.0 + 1000.0 * (units - DEFAULT_UNITS).max(0.0)
}

/// The routing infrastructure units that a route server has.
pub(crate) fn units(hub: &Resource) -> f64 {
    let wanted = &hub.property("virtualRouterAutoScaleConfiguration")["minCapacity"];
    wanted
        .as_f64()
        .unwrap_or_default()
        .clamp(DEFAULT_UNITS, f64::from(MAX_UNITS))
}

/// One limit: what is counted, how it is called, what to do about it.
struct Limit {
    max: u32,
    kind: &'static str,
    count: fn(&World<'_>, &str) -> usize,
    /// What a route server may serve beyond `max`.
    further: fn(&Resource) -> usize,
    code: &'static str,
    what: &'static str,
    remedy: &'static str,
}

/// Refuses what would make a route server serve more than its limits allow; `kind` is what is written.
pub(crate) fn check(world: &World<'_>, kind: &str) -> Result<(), ArmError> {
    if !GROWING.contains(&kind) {
        return Ok(());
    }
    let limits = &world.settings.limits;
    let all = [
        Limit {
            max: limits.vnets,
            kind: types::VIRTUAL_NETWORK,
            count: networks,
            further: |_| 0,
            code: "VnetCountLimitReached",
            what: "virtual networks",
            remedy: "Remove the peering of one of them, or raise [limits] vnets in the configuration.",
        },
        Limit {
            max: limits.vms,
            kind: types::NETWORK_INTERFACE,
            count: virtual_machines,
            further: |hub| (capacity(units(hub)) - capacity(DEFAULT_UNITS)) as usize,
            code: "NetworkInterfaceCountLimitReached",
            what: "VMs (network interfaces)",
            remedy: "Delete one of them, or raise [limits] vms in the configuration.",
        },
    ];
    all.iter().try_for_each(|limit| check_one(world, limit))
}

fn check_one(world: &World<'_>, limit: &Limit) -> Result<(), ArmError> {
    let max = limit.max as usize;
    // Counting what is served takes its time; mostly there are too few in all.
    if max == 0 || world.count(limit.kind) <= max {
        return Ok(());
    }
    let before = world.before();
    for hub in world.of_kind(types::VIRTUAL_HUB, "") {
        let key = hub.key();
        let max = max.saturating_add((limit.further)(hub));
        let now = (limit.count)(world, &key);
        if now <= max {
            continue;
        }
        let current = (limit.count)(&before, &key);
        if now > current {
            return Err(ArmError::bad(
                limit.code,
                format!(
                    "The number of {} has reached the limit of route server '{}'. Current {}: {current}, max limit: {max}. {}",
                    limit.what,
                    hub.name(),
                    limit.what,
                    limit.remedy
                ),
            ));
        }
    }
    Ok(())
}

fn networks(world: &World<'_>, hub: &str) -> usize {
    served_networks(world, hub).len()
}

pub(crate) fn virtual_machines(world: &World<'_>, hub: &str) -> usize {
    let networks = served_networks(world, hub);
    let nics = networks
        .iter()
        .map(|network| world.count_owners(Relation::NicIn, &network.key()));
    nics.sum()
}

/// The route server's virtual network and those that use it as their gateway.
pub(crate) fn served_networks<'w>(world: &'w World<'_>, hub: &str) -> Vec<&'w Resource> {
    let configurations = world.children(hub, "ipConfigurations");
    let subnet = configurations.first().and_then(|first| types::hub_subnet_of(first));
    let Some(own) = subnet.as_deref().and_then(parent_key) else {
        return Vec::new();
    };
    world.get(own).into_iter().chain(spokes_of(world, own)).collect()
}

/// The networks that use a network (key) as their gateway.
pub(crate) fn spokes_of<'w>(world: &'w World<'_>, own: &str) -> impl Iterator<Item = &'w Resource> {
    let peering_to = |from: &str, to: &str| {
        let mut peerings = world.children(from, "virtualNetworkPeerings").into_iter();
        peerings.find(|peering| peering.reference_key("remoteVirtualNetwork").as_deref() == Some(to))
    };
    let is_true = |peering: &Resource, flag: &str| peering.property(flag) == &serde_json::json!(true);
    let peerings = world.children(own, "virtualNetworkPeerings").into_iter();
    let spokes: Vec<&Resource> = peerings
        .filter_map(|peering| {
            let remote = peering.reference_key("remoteVirtualNetwork")?;
            let back = peering_to(&remote, own)?;
            let uses = is_true(peering, "allowGatewayTransit")
                && is_true(back, "useRemoteGateways")
                && types::is_connected(peering, || Some(back));
            if uses { world.get(&remote) } else { None }
        })
        .collect();
    spokes.into_iter()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_server_that_was_stored_with_more_units_than_there_are_has_the_most() {
        for (stored, expected) in [
            (json!(0), 2.0),
            (json!(3), 3.0),
            (json!(i32::MAX), 48.0),
            (json!(null), 2.0),
        ] {
            let hub = Resource {
                id: "/rs".to_owned(),
                kind: types::VIRTUAL_HUB.to_owned(),
                etag: String::new(),
                body: json!({ "properties": { "virtualRouterAutoScaleConfiguration": { "minCapacity": stored } } }),
            };
            assert_eq!(units(&hub), expected);
        }
        assert_eq!(capacity(f64::from(MAX_UNITS)), 50_000.0);
    }
}
