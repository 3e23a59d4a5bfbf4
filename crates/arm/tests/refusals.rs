//! Every rule that refuses something, with the code it refuses with.
#![allow(clippy::unwrap_used)]

mod common;

use arm::{Method, Resources, check_settings};
use common::*;
use serde_json::{Value, json};

fn reference(path: &str) -> Value {
    json!({ "id": format!("{NET}/{path}") })
}

#[test]
fn virtual_networks_are_refused_for() {
    let space = |prefixes: &[&str]| vnet(prefixes, &[]);
    let here = |body: Value| ("virtualNetworks/v", body);
    let (path, _) = here(json!({}));
    check(
        Lab::new,
        vec![
            (path, json!({ "properties": {} }), "LocationRequired"),
            (path, json!({ "location": 7 }), "InvalidRequestFormat"),
            (path, json!([]), "InvalidRequestContent"),
            (
                path,
                json!({ "location": "w", "properties": [] }),
                "InvalidRequestFormat",
            ),
            (path, json!({ "location": "w", "tags": { "a": 1 } }), "InvalidTags"),
            (path, json!({ "location": "w" }), "MissingRequiredProperty"),
            (path, space(&[]), "MissingRequiredProperty"),
            (path, space(&["10.0.0.0"]), "InvalidAddressPrefixFormat"),
            (path, space(&["10.0.0.1/16"]), "InvalidCIDRNotation"),
            (path, space(&["0.0.0.0/0"]), "AddressPrefixNotAllowed"),
            (path, space(&["10.0.0.0/30"]), "AddressPrefixNotAllowed"),
            (path, space(&["224.0.0.0/16"]), "AddressPrefixNotAllowed"),
            (path, space(&["169.254.7.0/24"]), "AddressPrefixNotAllowed"),
            (
                path,
                space(&["10.0.0.0/8", "10.9.0.0/16"]),
                "NetcfgInvalidVirtualNetworkSite",
            ),
            (
                path,
                vnet(&["10.0.0.0/16"], &[("a", "10.1.0.0/24")]),
                "NetcfgInvalidSubnet",
            ),
            (
                path,
                vnet(&["10.0.0.0/16"], &[("a", "10.0.0.0/30")]),
                "NetcfgInvalidSubnet",
            ),
            (
                path,
                vnet(&["10.0.0.0/16"], &[("a", "10.0.0.0/24"), ("b", "10.0.0.128/25")]),
                "NetcfgSubnetRangesOverlap",
            ),
            (
                path,
                vnet(&["10.0.0.0/16"], &[("a", "10.0.0.0/24"), ("A", "10.0.1.0/24")]),
                "InvalidRequestFormat",
            ),
            ("virtualNetworks/v-", space(&["10.0.0.0/16"]), "InvalidResourceName"),
            (
                "virtualNetworks/none/subnets/a",
                json!({ "properties": { "addressPrefix": "10.0.0.0/24" } }),
                "ParentResourceNotFound",
            ),
        ],
    );
}

#[test]
fn a_network_in_use_keeps_its_prefixes() {
    check(
        || {
            let mut lab = Lab::with_route_server();
            lab.put_net("networkInterfaces/vm1", nic("hub", "workload", None));
            lab
        },
        vec![
            (
                "virtualNetworks/hub",
                json!({ "location": "westeurope", "properties": { "addressSpace": { "addressPrefixes": ["10.1.0.0/24"] } } }),
                "InUsePrefixCannotBeDeleted",
            ),
            (
                "virtualNetworks/hub",
                vnet(
                    &["10.1.0.0/24"],
                    &[("RouteServerSubnet", "10.1.0.0/26"), ("workload", "10.1.2.0/24")],
                ),
                "InUsePrefixCannotBeDeleted",
            ),
            (
                "virtualNetworks/hub",
                vnet(&["10.1.0.0/16"], &[("RouteServerSubnet", "10.1.0.0/26")]),
                "InUseSubnetCannotBeDeleted",
            ),
            (
                "virtualNetworks/hub",
                vnet(&["10.1.0.0/16"], &[("workload", "10.1.2.0/24")]),
                "InUseSubnetCannotBeDeleted",
            ),
            (
                "virtualNetworks/hub/subnets/workload",
                json!({ "properties": { "addressPrefix": "10.1.3.0/24" } }),
                "InUsePrefixCannotBeDeleted",
            ),
            (
                "virtualNetworks/hub/subnets/RouteServerSubnet",
                json!({ "properties": { "addressPrefix": "10.1.0.64/26" } }),
                "InUsePrefixCannotBeDeleted",
            ),
            (
                "virtualNetworks/hub/subnets/RouteServerSubnet",
                json!({ "properties": { "addressPrefix": "10.1.0.0/25" } }),
                "InUsePrefixCannotBeDeleted",
            ),
            (
                "virtualNetworks/hub/subnets/x",
                json!({ "properties": { "addressPrefix": "10.1.2.128/25" } }),
                "NetcfgSubnetRangesOverlap",
            ),
            (
                "virtualNetworks/hub",
                json!({ "location": "eastus", "properties": { "addressSpace": { "addressPrefixes": ["10.1.0.0/16"] } } }),
                "InvalidResourceLocation",
            ),
        ],
    );
}

#[test]
fn hubs_are_refused_for() {
    let hub = |properties: Value| json!({ "location": "westeurope", "properties": properties });
    check(
        Lab::new,
        vec![
            ("virtualHubs/rs", hub(json!({ "sku": "Basic" })), "InvalidRequestFormat"),
            (
                "virtualHubs/rs",
                hub(json!({ "hubRoutingPreference": "Fast" })),
                "InvalidRequestFormat",
            ),
            (
                "virtualHubs/rs",
                hub(json!({ "allowBranchToBranchTraffic": "maybe" })),
                "InvalidRequestFormat",
            ),
            (
                "virtualHubs/rs",
                hub(json!({ "virtualRouterAutoScaleConfiguration": { "minCapacity": -1 } })),
                "InvalidRequestFormat",
            ),
            (
                "virtualHubs/rs",
                hub(json!({ "addressPrefix": "10.0.0.0/24" })),
                "VirtualWanNotSupported",
            ),
        ],
    );
}

#[test]
fn peers_are_refused_for() {
    let path = "virtualHubs/rs/bgpConnections/new";
    let mut cases: Vec<(&str, Value, &str)> = Vec::new();
    let reserved = [
        0,
        8074,
        8075,
        12076,
        23456,
        64496,
        64511,
        65515,
        65517,
        65518,
        65519,
        65520,
        65535,
        65551,
        4_294_967_295,
    ];
    cases.extend(reserved.map(|asn| (path, peer("10.1.1.9", asn), "InvalidPeerAsn")));
    cases.extend(
        [
            "10.1.0.4",
            "10.1.0.5",
            "10.1.0.20",
            "10.9.0.4",
            "127.0.0.1",
            "224.0.0.5",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "x",
            "10.1.1.04",
        ]
        .map(|address| (path, peer(address, 65010), "InvalidPeerIp")),
    );
    cases.extend([
        (path, peer("10.1.1.9", 4_294_967_296), "InvalidRequestFormat"),
        (
            path,
            json!({ "properties": { "peerIp": "10.1.1.9" } }),
            "MissingRequiredProperty",
        ),
        (
            path,
            json!({ "properties": { "peerAsn": 65010 } }),
            "MissingRequiredProperty",
        ),
        (
            path,
            json!({ "properties": { "peerAsn": true, "peerIp": "10.1.1.9" } }),
            "InvalidRequestFormat",
        ),
        (path, peer("10.1.1.4", 65010), "PeerIpAlreadyInUse"),
        (
            "virtualHubs/bare/bgpConnections/p",
            peer("10.1.1.9", 65010),
            "HubBgpConnectionParentHubMustHaveProvisionedRoutingState",
        ),
    ]);
    check(
        || {
            let mut lab = Lab::with_route_server();
            lab.put_net("virtualHubs/bare", json!({ "location": "westeurope" }));
            lab
        },
        cases,
    );
}

#[test]
fn peers_are_taken_with() {
    for asn in [
        json!(65001),
        json!("65002"),
        json!(1),
        json!(64512),
        json!(65516),
        json!(65521),
        json!(65552),
        json!(4_200_000_000_u32),
    ] {
        let mut lab = Lab::with_route_server();
        let body = json!({ "properties": { "peerIp": "10.1.1.9", "peerAsn": asn } });
        let shown = lab.put_net("virtualHubs/rs/bgpConnections/new", body);
        assert!(shown["properties"]["peerAsn"].is_u64(), "{asn}");
    }
}

#[test]
fn a_peer_may_be_in_a_peered_network() {
    let mut lab = Lab::with_route_server();
    lab.put_net("virtualNetworks/spoke", vnet(&["10.2.0.0/16"], &[]));
    let path = "virtualHubs/rs/bgpConnections/far";
    lab.put_net("virtualNetworks/hub/virtualNetworkPeerings/s", peering("spoke", &[]));
    assert_eq!(lab.refusal(path, peer("10.2.0.4", 65010)), "InvalidPeerIp");
    lab.put_net("virtualNetworks/spoke/virtualNetworkPeerings/h", peering("hub", &[]));
    lab.put_net(path, peer("10.2.0.4", 65010));
}

#[test]
fn the_ninth_peer_is_refused_unless_the_limit_is_lifted() {
    let mut lab = Lab::with_route_server();
    for host in 0..7 {
        lab.put_net(
            &format!("virtualHubs/rs/bgpConnections/p{host}"),
            peer(&format!("10.1.1.{}", host + 10), 65010),
        );
    }
    let (path, body) = ("virtualHubs/rs/bgpConnections/ninth", peer("10.1.1.99", 65010));
    assert_eq!(
        lab.refusal(path, body.clone()),
        "MaximumLocalNetworkSitesLimitReachedForGateway"
    );
    lab.put_net("virtualHubs/rs/bgpConnections/p0", peer("10.1.1.50", 65011));
    lab.settings.limits.peers = 0;
    lab.put_net(path, body);
}

#[test]
fn network_interfaces_are_refused_for() {
    let two = |first: Value, second: Value| {
        json!({ "location": "westeurope", "properties": { "ipConfigurations": [
            { "name": "a", "properties": first }, { "name": "b", "properties": second },
        ] } })
    };
    let subnet = |network: &str, name: &str| json!({ "subnet": { "id": subnet_id(network, name) } });
    let primary = json!({ "subnet": { "id": subnet_id("hub", "nva") }, "primary": true });
    check(
        || {
            let mut lab = Lab::with_route_server();
            lab.put_net("virtualNetworks/tiny", vnet(&["10.7.0.0/24"], &[("s", "10.7.0.0/29")]));
            for host in 0..3 {
                lab.put_net(&format!("networkInterfaces/full{host}"), nic("tiny", "s", None));
            }
            lab.put_net("networkInterfaces/vm", nic("hub", "workload", Some("10.1.2.10")));
            lab
        },
        vec![
            (
                "networkInterfaces/n",
                json!({ "location": "westeurope" }),
                "MissingRequiredProperty",
            ),
            (
                "networkInterfaces/n",
                nic("hub", "none", None),
                "InvalidResourceReference",
            ),
            ("networkInterfaces/n", nic("tiny", "s", None), "SubnetIsFull"),
            (
                "networkInterfaces/n",
                nic("hub", "workload", Some("10.1.3.4")),
                "PrivateIPAddressNotInSubnet",
            ),
            (
                "networkInterfaces/n",
                nic("hub", "workload", Some("10.1.2.3")),
                "PrivateIPAddressInReservedRange",
            ),
            (
                "networkInterfaces/n",
                nic("hub", "workload", Some("10.1.2.255")),
                "PrivateIPAddressInReservedRange",
            ),
            (
                "networkInterfaces/n",
                nic("hub", "workload", Some("10.1.2.10")),
                "PrivateIPAddressIsAllocated",
            ),
            (
                "networkInterfaces/n",
                nic("hub", "workload", Some("x")),
                "InvalidRequestFormat",
            ),
            (
                "networkInterfaces/n",
                two(subnet("hub", "nva"), subnet("tiny", "s")),
                "SubnetsNotInSameVnet",
            ),
            ("networkInterfaces/vm", nic("tiny", "s", None), "SubnetsNotInSameVnet"),
            (
                "networkInterfaces/n",
                two(primary.clone(), primary),
                "NetworkInterfaceMustHaveOnePrimaryIpConfiguration",
            ),
        ],
    );
}

#[test]
fn routes_are_refused_for() {
    let route = |prefix: &str, kind: &str, hop: Value| json!({ "properties": { "addressPrefix": prefix, "nextHopType": kind, "nextHopIpAddress": hop } });
    let path = "routeTables/rt/routes/r";
    check(
        || {
            let mut lab = Lab::new();
            lab.put_net("routeTables/rt", json!({ "location": "westeurope" }));
            lab.put_net(
                "routeTables/rt/routes/default",
                route("0.0.0.0/0", "Internet", Value::Null),
            );
            lab
        },
        vec![
            (path, route("0.0.0.0/0", "None", Value::Null), "RouteConflict"),
            (path, route("10.0.0.1/8", "None", Value::Null), "InvalidCIDRNotation"),
            (
                path,
                route("10.0.0.0", "None", Value::Null),
                "InvalidAddressPrefixFormat",
            ),
            (
                path,
                route("10.0.0.0/8", "Nowhere", Value::Null),
                "InvalidRequestFormat",
            ),
            (
                path,
                route("10.0.0.0/8", "VirtualAppliance", Value::Null),
                "MissingRequiredProperty",
            ),
            (
                path,
                route("10.0.0.0/8", "VirtualAppliance", json!("x")),
                "InvalidRequestFormat",
            ),
            (
                path,
                route("10.0.0.0/8", "Internet", json!("10.0.0.4")),
                "RouteNextHopIpAddressNotAllowed",
            ),
            (
                path,
                route("10.0.0.0/8", "VirtualApplianceEcmp", Value::Null),
                "MissingRequiredProperty",
            ),
            (
                path,
                json!({ "properties": { "addressPrefix": "10.0.0.0/8" } }),
                "MissingRequiredProperty",
            ),
        ],
    );
}

#[test]
fn peerings_are_refused_for() {
    let path = "virtualNetworks/a/virtualNetworkPeerings/p";
    check(
        || {
            let mut lab = Lab::with_route_server();
            lab.put_net("virtualNetworks/a", vnet(&["10.8.0.0/16"], &[]));
            lab.put_net("virtualNetworks/b", vnet(&["10.8.0.0/17"], &[]));
            lab.put_net("virtualNetworks/c", vnet(&["10.9.0.0/16"], &[]));
            lab.put_net("virtualNetworks/d", vnet(&["10.9.0.0/17"], &[]));
            lab.put_net("virtualNetworks/a/virtualNetworkPeerings/to-c", peering("c", &[]));
            lab.put_net("virtualNetworks/hub/virtualNetworkPeerings/to-a", peering("a", &[]));
            lab
        },
        vec![
            (path, json!({}), "MissingRequiredProperty"),
            (path, peering("none", &[]), "InvalidResourceReference"),
            (path, peering("a", &[]), "VnetCannotPeerWithItself"),
            (path, peering("b", &[]), "VnetAddressSpacesOverlap"),
            (path, peering("d", &[]), "VnetAddressSpaceOverlapsWithAlreadyPeeredVnet"),
            (path, peering("c", &[]), "AnotherPeeringAlreadyReferencesRemoteVnet"),
            (
                path,
                peering("hub", &["useRemoteGateways"]),
                "RemotePeeringDoesNotAllowGatewayTransit",
            ),
            (
                "virtualNetworks/a/virtualNetworkPeerings/to-c",
                peering("c", &["useRemoteGateways"]),
                "RemoteVnetHasNoGateways",
            ),
            (
                "virtualNetworks/a/virtualNetworkPeerings/to-c",
                peering("c", &["useRemoteGateways", "doNotVerifyRemoteGateways"]),
                "RemoteVnetHasNoGateways",
            ),
            (
                "virtualNetworks/hub/virtualNetworkPeerings/to-a",
                peering("a", &["useRemoteGateways"]),
                "VnetHasGateways",
            ),
            (
                "virtualNetworks/a",
                json!({ "location": "westeurope", "properties": { "addressSpace": { "addressPrefixes": ["10.8.0.0/16", "10.9.0.0/24"] } } }),
                "VnetAddressSpaceOverlapsWithAlreadyPeeredVnet",
            ),
        ],
    );
}

#[test]
fn public_addresses_are_refused_for() {
    let body = |sku: &str, method: &str| json!({ "location": "westeurope", "sku": { "name": sku }, "properties": { "publicIPAllocationMethod": method } });
    check(
        Lab::new,
        vec![
            (
                "publicIPAddresses/p",
                body("Standard", "Dynamic"),
                "StandardSkuPublicIPAddressesMustBeStatic",
            ),
            ("publicIPAddresses/p", body("Gold", "Static"), "InvalidRequestFormat"),
            ("publicIPAddresses/p", body("Standard", "Magic"), "InvalidRequestFormat"),
        ],
    );
}

#[test]
fn what_is_in_use_is_not_deleted() {
    let mut lab = Lab::with_route_server();
    lab.put_net("routeTables/rt", json!({ "location": "westeurope" }));
    lab.put_net("networkSecurityGroups/nsg", json!({ "location": "westeurope" }));
    lab.put_net(
        "virtualNetworks/hub/subnets/workload",
        json!({ "properties": { "addressPrefix": "10.1.2.0/24", "routeTable": reference("routeTables/rt"), "networkSecurityGroup": reference("networkSecurityGroups/nsg") } }),
    );
    lab.put_net("networkInterfaces/vm", nic("hub", "workload", None));
    for (path, code) in [
        ("virtualNetworks/hub", "InUseSubnetCannotBeDeleted"),
        ("virtualNetworks/hub/subnets/workload", "InUseSubnetCannotBeDeleted"),
        (
            "virtualNetworks/hub/subnets/RouteServerSubnet",
            "InUseSubnetCannotBeDeleted",
        ),
        ("publicIPAddresses/rs-pip", "PublicIPAddressCannotBeDeleted"),
        ("routeTables/rt", "InUseRouteTableCannotBeDeleted"),
        ("networkSecurityGroups/nsg", "InUseNetworkSecurityGroupCannotBeDeleted"),
    ] {
        assert_eq!(lab.delete_net(path).unwrap_err().code, code, "{path}");
    }
    // In the other order all of it goes.
    for path in [
        "networkInterfaces/vm",
        "virtualHubs/rs/ipConfigurations/Default",
        "virtualHubs/rs",
        "virtualNetworks/hub",
    ] {
        lab.delete_net(path).unwrap();
    }
    for path in [
        "publicIPAddresses/rs-pip",
        "routeTables/rt",
        "networkSecurityGroups/nsg",
    ] {
        lab.delete_net(path).unwrap();
    }
    assert_eq!(lab.resources.len(), 1);
}

#[test]
fn the_request_itself_is_refused_for() {
    let mut lab = Lab::with_route_server();
    let send = |lab: &mut Lab, method, path: &str, version: Option<&str>| {
        let mut request = request(method, path, None);
        request.query = version
            .map(|version| ("api-version".to_owned(), version.to_owned()))
            .into_iter()
            .collect();
        let error = lab.request(request).unwrap_err();
        (error.status, error.code)
    };
    let hub = format!("{NET}/virtualHubs/rs");
    let v = Some("2022-01-01");
    for (method, path, version, status, code) in [
        (Method::Get, hub.as_str(), None, 400, "MissingApiVersionParameter"),
        (Method::Get, hub.as_str(), Some(""), 400, "MissingApiVersionParameter"),
        (
            Method::Get,
            hub.as_str(),
            Some("newest"),
            400,
            "InvalidApiVersionParameter",
        ),
        (
            Method::Get,
            "/subscriptions/other/resourceGroups",
            v,
            404,
            "SubscriptionNotFound",
        ),
        (
            Method::Get,
            &format!("{S}/resourceGroups/none"),
            v,
            404,
            "ResourceGroupNotFound",
        ),
        (
            Method::Delete,
            &format!("{S}/resourceGroups/none"),
            v,
            404,
            "ResourceGroupNotFound",
        ),
        (
            Method::Get,
            &format!("{S}/resourceGroups/none/providers/Microsoft.Network/virtualHubs"),
            v,
            404,
            "ResourceGroupNotFound",
        ),
        (
            Method::Get,
            &format!("{NET}/virtualHubs/none"),
            v,
            404,
            "ResourceNotFound",
        ),
        (
            Method::Head,
            &format!("{NET}/virtualHubs/none"),
            v,
            404,
            "ResourceNotFound",
        ),
        (
            Method::Get,
            &format!("{NET}/virtualHubs/none/bgpConnections"),
            v,
            404,
            "ParentResourceNotFound",
        ),
        (Method::Get, &format!("{NET}/toasters/t"), v, 404, "InvalidResourceType"),
        (Method::Get, "/", v, 404, "InvalidResourceType"),
        (
            Method::Get,
            "/subscriptions//resourceGroups",
            v,
            404,
            "InvalidResourceType",
        ),
        (
            Method::Patch,
            &format!("{hub}/bgpConnections/sdwan"),
            v,
            405,
            "MethodNotAllowed",
        ),
        (Method::Post, &format!("{hub}/dance"), v, 404, "InvalidAction"),
        (Method::Put, hub.as_str(), v, 400, "InvalidRequestContent"),
        (
            Method::Delete,
            &format!("{NET}/virtualHubs"),
            v,
            405,
            "MethodNotAllowed",
        ),
    ] {
        assert_eq!(
            send(&mut lab, method, path, version),
            (status, code.to_owned()),
            "{method:?} {path}"
        );
    }
}

#[test]
fn locations_are_refused_when_only_some_are_offered() {
    let mut lab = Lab::new();
    lab.settings.locations = vec!["westeurope".to_owned()];
    let body = json!({ "location": "moon" });
    assert_eq!(
        lab.refusal("routeTables/rt", body.clone()),
        "LocationNotAvailableForResourceType"
    );
    let group = lab
        .send(Method::Put, &format!("{S}/resourcegroups/g"), Some(body))
        .unwrap_err();
    assert_eq!(group.code, "LocationNotAvailableForResourceGroup");
    lab.put_net("routeTables/rt", json!({ "location": "West Europe" }));
}

#[test]
fn all_mistakes_of_settings_are_told_at_once() {
    let lab = Lab::with_route_server();
    let peer = format!("{NET}/virtualHubs/rs/bgpConnections/sdwan");
    let check = |resources: &Resources, id: &str, settings: Value| check_settings(resources, id, &settings);
    let error = check(
        &lab.resources,
        &peer,
        json!({ "holdTimeSecs": 2, "dial": 1, "ttlSecurityHops": 0, "md5Password": "", "color": "red", "importPreference": 5 }),
    )
    .unwrap_err();
    let targets: Vec<&str> = error
        .details
        .iter()
        .filter_map(|detail| detail.target.as_deref())
        .collect();
    assert_eq!(
        targets,
        ["holdTimeSecs", "dial", "ttlSecurityHops", "md5Password", "color"]
    );
    let restarts = json!({ "gracefulRestartTimeSecs": 4096, "longLivedStaleTimeSecs": 16_777_216, "drain": "yes", "gracefulRestart": 1 });
    let error = check(&lab.resources, &peer, restarts).unwrap_err();
    assert_eq!(error.details.len(), 4);
    let hub = format!("{NET}/virtualhubs/RS");
    for (persisted, is_good) in [
        (json!("off"), true),
        (json!("forever"), true),
        (json!(30), true),
        (json!("long"), false),
        (json!(0), false),
        (json!(true), false),
    ] {
        let checked = check(&lab.resources, &hub, json!({ "persistRoutes": persisted }));
        assert_eq!(checked.is_ok(), is_good, "{persisted}");
    }
    let good = json!({ "holdTimeSecs": 0, "dial": false, "adminDown": true, "routeLimit": 0 });
    assert_eq!(check(&lab.resources, &peer, good.clone()).unwrap(), good);
    assert_eq!(
        check(&lab.resources, &hub, json!({ "asn": 65100, "ipv6": null })).unwrap(),
        json!({ "asn": 65100 })
    );
    assert_eq!(
        check(&lab.resources, &format!("{NET}/virtualHubs/none"), json!({}))
            .unwrap_err()
            .status,
        404
    );
}
