//! In which order resources are made: groups and parents first, then what others refer to; otherwise as written. Peerings that lost
//! their other side come before the other peerings.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use serde_json::Value;

use super::Wanted;

/// Orders; the error tells of resources that wait for each other. `lost` has the keys of peerings that lost their other side.
pub(super) fn order(wanted: Vec<Wanted>, lost: &BTreeSet<String>) -> Result<Vec<Wanted>, String> {
    let mut waits_for: Vec<usize> = vec![0; wanted.len()];
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); wanted.len()];
    for (one, before) in before_each(&wanted, lost).into_iter().enumerate() {
        waits_for[one] = before.len();
        before.into_iter().for_each(|other| followers[other].push(one));
    }
    let mut free: BinaryHeap<Reverse<usize>> = (0..wanted.len())
        .filter(|one| waits_for[*one] == 0)
        .map(Reverse)
        .collect();
    let mut left: Vec<Option<Wanted>> = wanted.into_iter().map(Some).collect();
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(Reverse(next)) = free.pop() {
        ordered.extend(left[next].take());
        for follower in &followers[next] {
            waits_for[*follower] -= 1;
            if waits_for[*follower] == 0 {
                free.push(Reverse(*follower));
            }
        }
    }
    let circle: Vec<String> = left.into_iter().flatten().map(|one| one.id).collect();
    match circle.is_empty() {
        true => Ok(ordered),
        false => Err(format!(
            "these resources wait for each other in a circle: {}",
            circle.join(", ")
        )),
    }
}

/// What the order depends on.
struct Place {
    key: String,
    kind: String,
    /// Keys that the body refers to.
    refers_to: BTreeSet<String>,
    uses_remote_gateways: bool,
    is_lost: bool,
}

impl Place {
    fn new(wanted: &Wanted, lost: &BTreeSet<String>) -> Place {
        let key = wanted.key();
        let mut refers_to = BTreeSet::new();
        collect_references(&wanted.body, &mut refers_to);
        Place {
            kind: kind_of(&key),
            is_lost: lost.contains(&key),
            key,
            refers_to,
            uses_remote_gateways: wanted.body["properties"]["useRemoteGateways"] == true,
        }
    }
}

/// For each resource, which others come before it: whatever it is below, refers to, or refers to something in; a parent may refer to its
/// own children.
pub(super) fn before_each(wanted: &[Wanted], lost: &BTreeSet<String>) -> Vec<BTreeSet<usize>> {
    let places: Vec<Place> = wanted.iter().map(|one| Place::new(one, lost)).collect();
    let index: HashMap<&str, usize> = places
        .iter()
        .enumerate()
        .map(|(at, place)| (place.key.as_str(), at))
        .collect();
    let lookup = |key: &str| index.get(key).copied();
    let mut all = Vec::with_capacity(places.len());
    for (own, place) in places.iter().enumerate() {
        let referred = place.refers_to.iter().flat_map(|key| above(key));
        let referred = referred.filter(|key| !is_below(key, &place.key));
        let mut before: BTreeSet<usize> = above(&place.key).chain(referred).filter_map(lookup).collect();
        let may_wait = place.uses_remote_gateways || !lost.is_empty();
        if place.kind == PEER || (place.kind == PEERING && may_wait) {
            before.extend((0..places.len()).filter(|other| waits(place, &places[*other])));
        }
        before.remove(&own);
        all.push(before);
    }
    all
}

/// A key and those of what it is in.
fn above(key: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(key), |key| key.rsplit_once('/').map(|(above, _)| above))
}

fn is_below(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What no reference tells: peers want a route server with addresses, and may be in a peered network; remote gateways must be there and
/// allowed before they are used; a side of a peering that was deleted can be made anew only when the one that was left is written.
fn waits(one: &Place, other: &Place) -> bool {
    match one.kind.as_str() {
        PEER => other.kind == PEERING || other.kind == ADDRESSES,
        PEERING => match other.kind.as_str() {
            PEERING if one.is_lost != other.is_lost => other.is_lost,
            PEERING => one.uses_remote_gateways && !other.uses_remote_gateways,
            ADDRESSES | GATEWAY => one.uses_remote_gateways,
            _ => false,
        },
        _ => false,
    }
}

const PEER: &str = "microsoft.network/virtualhubs/bgpconnections";
const ADDRESSES: &str = "microsoft.network/virtualhubs/ipconfigurations";
const GATEWAY: &str = "microsoft.network/virtualnetworkgateways";
const PEERING: &str = "microsoft.network/virtualnetworks/virtualnetworkpeerings";

/// Whether a resource's key is that of one side of a peering.
pub(super) fn is_peering(key: &str) -> bool {
    kind_of(key) == PEERING
}

/// Namespace and types of a resource's key.
fn kind_of(key: &str) -> String {
    let mut segments = key.split('/').skip(6);
    let namespace = segments.next().unwrap_or_default();
    let kinds: Vec<&str> = std::iter::once(namespace).chain(segments.step_by(2)).collect();
    kinds.join("/")
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.starts_with('/') => {
            found.insert(text.to_ascii_lowercase());
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        Value::Object(members) => members.values().for_each(|member| collect_references(member, found)),
        _ => {}
    }
}

/// The key of the group that a resource's key is in.
pub(super) fn group_of(key: &str) -> Option<String> {
    let segments: Vec<&str> = key.split('/').take(5).collect();
    (segments.len() == 5).then(|| segments.join("/"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resource(path: &str, refers_to: &[&str]) -> Wanted {
        let id = |path: &str| format!("/subscriptions/s/resourceGroups/g{path}");
        let references: Vec<Value> = refers_to
            .iter()
            .map(|path| json!({ "id": id(path).to_uppercase() }))
            .collect();
        Wanted {
            id: id(path),
            body: json!({ "properties": references }),
            settings: None,
        }
    }

    fn names(ordered: &[Wanted]) -> Vec<&str> {
        ordered.iter().map(|one| one.id.rsplit('/').next().unwrap()).collect()
    }

    fn network(path: &str, properties: Value) -> Wanted {
        Wanted {
            id: format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/{path}"),
            body: json!({ "properties": properties }),
            settings: None,
        }
    }

    #[test]
    fn what_is_referred_to_comes_first() {
        let file = vec![
            resource("/hubs/rs/peers/nva", &[]),
            resource("/hubs/rs/ip/default", &["/vnets/v/subnets/rs", "/pips/p"]),
            resource("/vnets/v", &["/vnets/v/subnets/rs"]),
            resource("/hubs/rs", &[]),
            resource("/pips/p", &[]),
            resource("", &[]),
        ];
        let ordered = order(file, &BTreeSet::new()).unwrap();
        assert_eq!(names(&ordered), ["g", "v", "rs", "nva", "p", "default"]);
    }

    #[test]
    fn peers_follow_the_addresses_and_remote_gateways_their_gateway() {
        let file = vec![
            network("virtualHubs/rs/bgpConnections/nva", json!({})),
            network(
                "virtualNetworks/spoke/virtualNetworkPeerings/to-hub",
                json!({ "useRemoteGateways": true }),
            ),
            network(
                "virtualNetworks/hub/virtualNetworkPeerings/to-spoke",
                json!({ "allowGatewayTransit": true }),
            ),
            network("virtualHubs/rs/ipConfigurations/Default", json!({})),
        ];
        let ordered = order(file, &BTreeSet::new()).unwrap();
        assert_eq!(names(&ordered), ["to-spoke", "Default", "to-hub", "nva"]);
    }

    #[test]
    fn a_peering_that_lost_its_other_side_comes_before_that_and_after_what_it_refers_to() {
        let hub = "virtualNetworks/hub/virtualNetworkPeerings/to-spoke";
        let spoke = "virtualNetworks/spoke/virtualNetworkPeerings/to-hub";
        let remote = |name: &str| json!({ "id": network(&format!("virtualNetworks/{name}"), json!({})).id });
        let file = || {
            vec![
                network(
                    hub,
                    json!({ "allowGatewayTransit": true, "remoteVirtualNetwork": remote("spoke") }),
                ),
                network(
                    spoke,
                    json!({ "useRemoteGateways": true, "remoteVirtualNetwork": remote("hub") }),
                ),
                network("virtualNetworks/hub", json!({})),
                network("virtualNetworks/spoke", json!({})),
            ]
        };
        for (lost, expected) in [
            (hub, ["hub", "spoke", "to-spoke", "to-hub"]),
            (spoke, ["hub", "spoke", "to-hub", "to-spoke"]),
        ] {
            let lost = BTreeSet::from([network(lost, json!({})).key()]);
            let ordered = order(file(), &lost).unwrap();
            assert_eq!(names(&ordered), expected);
        }
    }

    #[test]
    fn a_circle_is_told() {
        let file = vec![resource("/a/x", &["/b/y"]), resource("/b/y", &["/a/x"])];
        assert!(order(file, &BTreeSet::new()).unwrap_err().contains("circle"));
    }
}
