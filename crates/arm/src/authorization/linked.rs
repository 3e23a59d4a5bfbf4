//! What a body names: to put a NIC into a subnet one needs a role on the subnet, too (az §4.9: `join/action`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Needed, covers};
use crate::error::ArmError;
use crate::id::ResourceId;

/// Properties that make use of another resource, and the action that this needs of it. Lists of what uses a resource itself
/// (a route table's `subnets`) are read-only and ask for nothing.
const LINKS: [(&str, &str); 11] = [
    ("subnet", "join/action"),
    ("publicIPAddress", "join/action"),
    ("routeTable", "join/action"),
    ("networkSecurityGroup", "join/action"),
    ("remoteVirtualNetwork", "peer/action"),
    // What a connection joins: gateways, a site, a circuit. Whoever may join one gives it routes.
    ("virtualNetworkGateway1", "join/action"),
    ("virtualNetworkGateway2", "join/action"),
    ("localNetworkGateway2", "join/action"),
    ("peer", "join/action"),
    // A gateway's connection has maps of a route server. Those of a bgpConnection are its own route server's.
    ("inboundRouteMap", "join/action"),
    ("outboundRouteMap", "join/action"),
];

/// What the body of a write to `own` (id) needs of other resources, each once.
pub fn linked(own: &str, body: &Value) -> Vec<Needed> {
    let mut found = BTreeSet::new();
    collect(body, &mut found);
    let mut needed = Vec::new();
    for (id, verb) in found {
        let is_own =
            |id: &ResourceId| covers(own, id.as_str()) || id.parent().is_some_and(|parent| covers_child(&parent, own));
        let Some(id) = ResourceId::parse(&id).filter(|id| !is_own(id)) else {
            continue;
        };
        needed.push(Needed {
            action: format!("{}/{verb}", id.kind()),
            scope: id.as_str().to_owned(),
        });
    }
    needed
}

/// Whether something is a child of this resource: then what it names there is of the same parent, and no link.
fn covers_child(parent: &ResourceId, own: &str) -> bool {
    let its = ResourceId::parse(own).and_then(|own| own.parent());
    its.is_some_and(|its| its.key() == parent.key())
}

/// The parser bounds how deep a body can be.
fn collect(value: &Value, found: &mut BTreeSet<(String, &'static str)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let link = LINKS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                match (link, value["id"].as_str()) {
                    // Clients send what they were shown of it as well; only the id means something.
                    (Some((_, verb)), Some(id)) => {
                        found.insert((id.to_owned(), *verb));
                    }
                    _ => collect(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

/// 403, in Azure's words: the write itself would be allowed, what it names is not.
pub fn linked_denied(client: &str, object_id: &str, write: &Needed, linked: &Needed) -> ArmError {
    ArmError::new(
        403,
        "LinkedAuthorizationFailed",
        format!(
            "The client '{client}' with object id '{object_id}' has permission to perform action '{}' on scope '{}'; however, it does not \
             have permission to perform action(s) '{}' on the linked scope(s) '{}' (respectively) or the linked scope(s) are invalid.",
            write.action, write.scope, linked.action, linked.scope
        ),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NETWORK: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v";

    #[test]
    fn what_is_used_needs_join_and_what_only_lists_its_users_does_not() {
        let subnet = format!("{NETWORK}/subnets/a");
        let table = NETWORK.replace("virtualNetworks/v", "routeTables/t");
        let nic = NETWORK.replace("virtualNetworks/v", "networkInterfaces/n");
        let body = json!({"properties": {
            "ipConfigurations": [
                {"properties": {"subnet": {"id": subnet, "properties": {"routeTable": {"id": table}}}}},
                {"properties": {"subnet": {"id": subnet}, "publicIPAddress": null}},
            ],
            "subnets": [{"id": format!("{NETWORK}/subnets/b")}],
            "networkSecurityGroup": {"id": "nonsense"},
        }});
        let found = linked(&nic, &body);
        let expected = Needed {
            action: "Microsoft.Network/virtualNetworks/subnets/join/action".to_owned(),
            scope: subnet,
        };
        assert_eq!(found, [expected]);
        let spoke = json!({"properties": {"remoteVirtualNetwork": {"id": NETWORK}, "routeTable": {"ID": table}}});
        let actions: Vec<String> = linked(&nic, &spoke).into_iter().map(|needed| needed.action).collect();
        assert_eq!(actions, ["Microsoft.Network/virtualNetworks/peer/action"]);
    }

    #[test]
    fn a_connection_needs_to_join_each_of_its_ends() {
        let at = |kind: &str| NETWORK.replace("virtualNetworks", kind);
        let body = json!({"properties": {
            "virtualNetworkGateway1": {"id": at("virtualNetworkGateways"), "properties": {}},
            "virtualNetworkGateway2": {"id": at("virtualNetworkGateways") + "2"},
            "localNetworkGateway2": {"id": at("localNetworkGateways")},
            "peer": {"id": at("expressRouteCircuits")},
        }});
        let found = linked(&at("connections"), &body);
        let actions: Vec<&str> = found.iter().map(|needed| needed.action.as_str()).collect();
        let expected = [
            "Microsoft.Network/expressRouteCircuits/join/action",
            "Microsoft.Network/localNetworkGateways/join/action",
            "Microsoft.Network/virtualNetworkGateways/join/action",
            "Microsoft.Network/virtualNetworkGateways/join/action",
        ];
        assert_eq!(actions, expected);
    }

    #[test]
    fn a_gateways_connection_needs_to_join_its_route_maps_and_a_peering_has_those_of_its_own_route_server() {
        let hub = NETWORK.replace("virtualNetworks/v", "virtualHubs/rs");
        let map = format!("{hub}/routeMaps/m");
        let body = json!({"properties": {"routingConfiguration": {
            "inboundRouteMap": {"id": map}, "outboundRouteMap": {"id": map},
        }}});
        let found = linked(&NETWORK.replace("virtualNetworks", "connections"), &body);
        let expected = Needed {
            action: "Microsoft.Network/virtualHubs/routeMaps/join/action".to_owned(),
            scope: map,
        };
        assert_eq!(found, [expected]);
        assert_eq!(linked(&format!("{hub}/bgpConnections/nva"), &body), []);
        let other = hub.replace("rs", "other");
        assert_eq!(linked(&format!("{other}/bgpConnections/nva"), &body).len(), 1);
    }

    #[test]
    fn what_is_ones_own_is_not_asked_for_twice() {
        let body =
            json!({"properties": {"subnets": [{"properties": {"subnet": {"id": format!("{NETWORK}/subnets/a")}}}]}});
        assert_eq!(linked(NETWORK, &body), []);
        assert_eq!(linked("/subscriptions/s/x", &body).len(), 1);
    }
}
