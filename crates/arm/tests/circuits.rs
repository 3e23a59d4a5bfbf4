//! Circuits of ExpressRoute: kept, checked, and what speaks on them.
#![allow(clippy::unwrap_used)]

mod common;

use arm::{Method, intent};
use common::hybrid::{PRIVATE_PEERING, circuit, lab_with_circuit, lab_with_gateways, private_peering, with};
use common::*;
use routeserver::intent::{GatewayIntent, GatewayKind, PeerIntent};
use serde_json::json;

fn speaker(lab: &Lab, name: &str) -> Option<GatewayIntent> {
    let mut gateways = intent(&lab.resources, &lab.settings).gateways.into_iter();
    gateways.find(|gateway| gateway.name == name)
}

/// Name, kind, address, AS number and instance of each.
fn told(peers: &[PeerIntent]) -> Vec<String> {
    let one = |peer: &PeerIntent| {
        let instance = peer.instance.map_or("both".to_owned(), |instance| instance.to_string());
        format!(
            "{} {:?} {} {} {instance}",
            peer.name, peer.kind, peer.address, peer.asn.0
        )
    };
    peers.iter().map(one).collect()
}

#[test]
fn a_circuit_is_a_provider_edge_on_each_link_between_the_customer_and_each_instance_of_the_gateway() {
    let lab = lab_with_circuit();
    let edge = speaker(&lab, "circuit").unwrap();
    assert_eq!((edge.kind, edge.asn.0), (GatewayKind::ProviderEdge, 12076));
    assert_eq!((edge.virtual_network.clone(), edge.subnet.clone()), (None, None));
    let addresses = edge.instance_addresses.map(|address| address.unwrap().to_string());
    assert_eq!(addresses, ["172.16.0.2", "172.16.0.6"]);
    assert_eq!(
        told(&edge.peers),
        [
            "primary Site 172.16.0.1 65020 0",
            "secondary Site 172.16.0.5 65020 1",
            "er-in_0 ExpressRouteGateway 10.1.255.6 65515 both",
            "er-in_1 ExpressRouteGateway 10.1.255.7 65515 both",
        ]
    );
    let connection = format!("{NET}/connections/erc").to_lowercase();
    assert_eq!(edge.peers[2].id, format!("{connection}/in_0"));
    let gateway = speaker(&lab, "er").unwrap();
    assert_eq!(
        told(&gateway.peers)[2..],
        [
            "erc-primary ProviderEdge 172.16.0.2 12076 both",
            "erc-secondary ProviderEdge 172.16.0.6 12076 both",
        ]
    );
    assert_eq!(gateway.peers[2].id, format!("{connection}/primary"));
}

#[test]
fn every_peering_of_an_intent_has_an_id_of_its_own() {
    let lab = lab_with_circuit();
    let intent = intent(&lab.resources, &lab.settings);
    let of_hubs = intent.route_servers.iter().flat_map(|hub| &hub.peers);
    let of_gateways = intent.gateways.iter().flat_map(|gateway| &gateway.peers);
    let mut ids: Vec<&str> = of_hubs.chain(of_gateways).map(|peer| peer.id.as_str()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), all), (all, 5 + 2 + 4 + 4));
    assert!(ids.iter().all(|id| *id == id.to_lowercase()));
}

#[test]
fn nothing_speaks_on_a_circuit_without_a_private_peering_or_with_one_that_is_disabled() {
    let mut lab = lab_with_circuit();
    lab.put_net(PRIVATE_PEERING, with(private_peering(), "state", json!("Disabled")));
    assert_eq!(speaker(&lab, "circuit"), None);
    assert_eq!(speaker(&lab, "er").unwrap().peers.len(), 2);
    lab.put_net(PRIVATE_PEERING, private_peering());
    assert_eq!(speaker(&lab, "er").unwrap().peers.len(), 4);
    lab.delete_net(PRIVATE_PEERING).unwrap();
    assert_eq!(speaker(&lab, "circuit"), None);
}

#[test]
fn the_links_are_where_bind_says_and_their_sessions_as_the_peering_says() {
    let mut lab = lab_with_circuit();
    for (place, namespace) in [("172.16.0.2/32", "/run/netns/p"), ("172.16.0.4/30", "/run/netns/s")] {
        lab.settings.bind.insert(place.to_owned(), namespace.to_owned());
    }
    lab.put_net(PRIVATE_PEERING, with(private_peering(), "sharedKey", json!("k3y")));
    let key = format!("{NET}/{PRIVATE_PEERING}").to_lowercase();
    lab.settings.by_key.insert(key, json!({ "holdTimeSecs": 9 }));
    let edge = speaker(&lab, "circuit").unwrap();
    let namespaces = edge.namespaces.map(Option::unwrap);
    assert_eq!(namespaces, ["/run/netns/p", "/run/netns/s"]);
    assert_eq!(edge.peers[1].hold_time_secs, 9);
    assert!(edge.peers[1].md5_password.is_some());
}

#[test]
fn a_shared_key_is_of_a_length_that_the_kernel_takes_and_an_empty_one_is_none() {
    let mut lab = lab_with_circuit();
    let keyed = |key: &str| with(private_peering(), "sharedKey", json!(key));
    let has_key = |lab: &Lab| speaker(lab, "circuit").unwrap().peers[0].md5_password.is_some();
    let too_long = "k".repeat(81);
    let path = format!("{NET}/{PRIVATE_PEERING}");
    let error = lab.send(Method::Put, &path, Some(keyed(&too_long))).unwrap_err();
    assert_eq!(error.code, "InvalidRequestFormat");
    assert!(!error.message.contains("kkk"), "{}", error.message);
    lab.put_net(PRIVATE_PEERING, keyed(&"k".repeat(80)));
    lab.put_net(PRIVATE_PEERING, private_peering());
    assert!(has_key(&lab), "it is never shown, and stays");
    lab.put_net(PRIVATE_PEERING, keyed(""));
    assert!(!has_key(&lab));
    assert_eq!(
        lab.resources.get(&path).unwrap().body["properties"].get("sharedKey"),
        None
    );
    // As an earlier version stored it.
    let mut stored = lab.resources.get(&path).unwrap().clone();
    stored.body["properties"]["sharedKey"] = json!("");
    lab.resources.put(stored);
    assert!(!has_key(&lab));
    lab.put_net(PRIVATE_PEERING, private_peering());
    assert_eq!(
        lab.resources.get(&path).unwrap().body["properties"].get("sharedKey"),
        None
    );
}

#[test]
fn both_ends_of_a_connections_sessions_go_by_the_connection_and_then_by_its_gateway() {
    let mut lab = lab_with_circuit();
    let mut set = |path: &str, settings| {
        let key = format!("{NET}/{path}").to_lowercase();
        lab.settings.by_key.insert(key, settings);
    };
    set(
        "connections/erc",
        json!({ "md5Password": "of both", "ttlSecurityHops": 2, "holdTimeSecs": 12, "adminDown": true }),
    );
    set(
        "virtualNetworkGateways/er",
        json!({ "holdTimeSecs": 9, "connectRetrySecs": 7 }),
    );
    let of_session = |peer: &PeerIntent| {
        let password = peer.md5_password.as_ref().map(|key| key.expose().to_owned());
        (
            password,
            peer.ttl_security_hops,
            peer.hold_time_secs,
            peer.connect_retry_secs,
            peer.admin_down,
        )
    };
    let expected = (Some("of both".to_owned()), Some(2), 12, 7, true);
    let edge = speaker(&lab, "circuit").unwrap();
    let gateway = speaker(&lab, "er").unwrap();
    for peer in edge.peers[2..].iter().chain(&gateway.peers[2..]) {
        assert_eq!(of_session(peer), expected, "{}", peer.name);
    }
    // Those with the route server are the gateway's.
    let with_route_server: Vec<u16> = gateway.peers[..2].iter().map(|peer| peer.hold_time_secs).collect();
    assert_eq!(with_route_server, [9, 9]);
}

#[test]
fn a_circuit_shows_its_peerings_keeps_its_keys_and_is_written_back_without_a_change() {
    let mut lab = lab_with_circuit();
    lab.put_net(PRIVATE_PEERING, with(private_peering(), "sharedKey", json!("k3y")));
    let shown = lab.get_net("expressRouteCircuits/circuit");
    let properties = &shown["properties"];
    assert_eq!(properties["serviceProviderProvisioningState"], "Provisioned");
    assert_eq!(properties["serviceProviderProperties"]["bandwidthInMbps"], 50);
    assert_eq!(shown["sku"]["name"], "Standard_MeteredData");
    let peering = &properties["peerings"][0]["properties"];
    assert_eq!(
        (&peering["azureASN"], &peering["peerASN"]),
        (&json!(12076), &json!(65020))
    );
    assert_eq!(peering.get("sharedKey"), None);
    let path = format!("{NET}/expressRouteCircuits/circuit");
    assert_eq!(lab.changes(Method::Put, &path, Some(shown)), []);
    let stored = lab.resources.get(&format!("{NET}/{PRIVATE_PEERING}")).unwrap();
    assert_eq!(stored.property("sharedKey"), "k3y");
    // As az sends it: without its peerings, which stay.
    lab.put_net("expressRouteCircuits/circuit", circuit());
    assert!(lab.resources.get(&format!("{NET}/{PRIVATE_PEERING}")).is_some());
}

#[test]
fn a_circuit_stays_while_it_is_connected() {
    let mut lab = lab_with_circuit();
    let error = lab.delete_net("expressRouteCircuits/circuit").unwrap_err();
    assert_eq!(error.code, "ExpressRouteCircuitCannotBeDeleted");
    assert!(error.message.contains("/connections/erc"), "{}", error.message);
    lab.delete_net("connections/erc").unwrap();
    lab.delete_net("expressRouteCircuits/circuit").unwrap();
    assert_eq!(lab.resources.get(&format!("{NET}/{PRIVATE_PEERING}")), None);
}

#[test]
fn private_peerings_are_refused_for() {
    let wrong = |member: &str, value| (PRIVATE_PEERING, with(private_peering(), member, value));
    let cases = [
        (wrong("peerASN", json!(65515)), "InvalidPeerAsn"),
        (wrong("peerASN", json!(12076)), "InvalidPeerAsn"),
        (wrong("peerASN", json!(null)), "MissingRequiredProperty"),
        (wrong("vlanId", json!(null)), "MissingRequiredProperty"),
        (wrong("vlanId", json!(5000)), "InvalidRequestFormat"),
        (
            wrong("peeringType", json!("MicrosoftPeering")),
            "PeeringTypeNotSupported",
        ),
        (
            (
                "expressRouteCircuits/circuit/peerings/AzurePublicPeering",
                private_peering(),
            ),
            "PeeringTypeNotSupported",
        ),
        (
            wrong("primaryPeerAddressPrefix", json!("172.16.0.0/29")),
            "InvalidRequestFormat",
        ),
        (
            wrong("primaryPeerAddressPrefix", json!("172.16.0.1/30")),
            "InvalidCIDRNotation",
        ),
        (
            wrong("secondaryPeerAddressPrefix", json!("172.16.0.0/30")),
            "InvalidRequestFormat",
        ),
        (
            wrong("secondaryPeerAddressPrefix", json!(null)),
            "MissingRequiredProperty",
        ),
        (
            wrong(
                "ipv6PeeringConfig",
                json!({ "primaryPeerAddressPrefix": "fd00:15::/126", "secondaryPeerAddressPrefix": "fd00:15::/126" }),
            ),
            "InvalidRequestFormat",
        ),
    ];
    let mut lab = lab_with_gateways();
    lab.put_net("expressRouteCircuits/circuit", circuit());
    for ((path, body), code) in cases {
        assert_eq!(lab.refusal(path, body.clone()), code, "{body}");
    }
}
