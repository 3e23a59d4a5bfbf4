//! In which order resources are made: groups and parents first, then what others refer to; otherwise as written.

use serde_json::Value;

use super::Wanted;

/// Orders; the error tells of resources that wait for each other.
pub(super) fn order(mut waiting: Vec<Wanted>) -> Result<Vec<Wanted>, String> {
    let mut ordered = Vec::new();
    while !waiting.is_empty() {
        let keys: Vec<String> = waiting.iter().map(Wanted::key).collect();
        let free = |one: &Wanted| {
            waiting
                .iter()
                .all(|other| other.id == one.id || !must_follow(one, other))
        };
        let Some(next) = waiting.iter().position(free) else {
            return Err(format!(
                "these resources refer to each other in a circle: {}",
                keys.join(", ")
            ));
        };
        ordered.push(waiting.remove(next));
    }
    Ok(ordered)
}

fn must_follow(one: &Wanted, other: &Wanted) -> bool {
    needs(one, &other.key()) || waits(one, other)
}

/// What no reference tells: peers want a route server with addresses, and may be in a peered network; remote gateways must be there and
/// allowed before they are used.
fn waits(one: &Wanted, other: &Wanted) -> bool {
    let flag = |of: &Wanted, name: &str| of.body["properties"][name] == true;
    let gives_gateways = |kind: &str| {
        matches!(
            kind,
            "microsoft.network/virtualhubs/ipconfigurations" | "microsoft.network/virtualnetworkgateways"
        ) || (kind == PEERING && !flag(other, "useRemoteGateways"))
    };
    match kind_of(&one.key()).as_str() {
        "microsoft.network/virtualhubs/bgpconnections" => {
            let other = kind_of(&other.key());
            other == PEERING || other == "microsoft.network/virtualhubs/ipconfigurations"
        }
        PEERING => flag(one, "useRemoteGateways") && gives_gateways(&kind_of(&other.key())),
        _ => false,
    }
}

const PEERING: &str = "microsoft.network/virtualnetworks/virtualnetworkpeerings";

/// Namespace and types of a resource's key.
fn kind_of(key: &str) -> String {
    let mut segments = key.split('/').skip(6);
    let namespace = segments.next().unwrap_or_default();
    let kinds: Vec<&str> = std::iter::once(namespace).chain(segments.step_by(2)).collect();
    kinds.join("/")
}

/// Whether a resource is below another, or refers to it or to something in it. A parent may refer to its own children.
fn needs(one: &Wanted, key: &str) -> bool {
    let below = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let own = one.key();
    below(&own, key) || (!below(key, &own) && refers(&one.body, &|id| below(id, key)))
}

fn refers(value: &Value, means: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => text.starts_with('/') && means(&text.to_ascii_lowercase()),
        Value::Array(items) => items.iter().any(|item| refers(item, means)),
        Value::Object(members) => members.values().any(|member| refers(member, means)),
        _ => false,
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
        let ordered = order(file).unwrap();
        let names: Vec<&str> = ordered.iter().map(|one| one.id.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["g", "v", "rs", "nva", "p", "default"]);
    }

    #[test]
    fn peers_follow_the_addresses_and_remote_gateways_their_gateway() {
        let network = |path: &str, properties: Value| Wanted {
            id: format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/{path}"),
            body: json!({ "properties": properties }),
        };
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
        let ordered = order(file).unwrap();
        let names: Vec<&str> = ordered.iter().map(|one| one.id.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["to-spoke", "Default", "to-hub", "nva"]);
    }

    #[test]
    fn a_circle_is_told() {
        let file = vec![resource("/a/x", &["/b/y"]), resource("/b/y", &["/a/x"])];
        assert!(order(file).unwrap_err().contains("circle"));
    }
}
