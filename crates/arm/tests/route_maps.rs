//! Route maps: their rules, the connections that name them, and what they become for the instances.
#![allow(clippy::unwrap_used)]

mod common;

use arm::reports::{hub_effective_routes, inbound_routes, learned_routes, outbound_routes};
use arm::{Ask, Method, Outcome, intent};
use common::*;
use routeserver::report::{AdvertisedReport, RouteReport};
use routeserver::route_map::{Action, Comparison, Criterion, NextStep, PrefixRange, RouteMap, Rule};
use serde_json::{Value, json};

const MAP: &str = "virtualHubs/rs/routeMaps/in1";
const CONNECTION: &str = "virtualHubs/rs/bgpConnections/sdwan";

fn id(path: &str) -> String {
    format!("{NET}/{path}")
}

/// A map with one rule, its parts as ARM writes them.
fn map(criteria: Value, actions: Value) -> Value {
    json!({ "properties": { "rules": [
        { "name": "r", "matchCriteria": criteria, "actions": actions, "nextStepIfMatched": "Terminate" },
    ] } })
}

fn prepend(path: Value) -> Value {
    map(
        json!([]),
        json!([{ "type": "Add", "parameters": [{ "asPath": path }] }]),
    )
}

/// The connection with maps for its directions.
fn connection(routing: Value) -> Value {
    let mut body = peer("10.1.1.4", 65001);
    body["properties"]["routingConfiguration"] = routing;
    body
}

fn both(map: &str) -> Value {
    json!({ "inboundRouteMap": { "id": id(map) }, "outboundRouteMap": { "id": id(map) } })
}

fn rules_of_the_peer(lab: &Lab) -> (Option<RouteMap>, Option<RouteMap>) {
    let peer = intent(&lab.resources, &lab.settings).route_servers[0].peers[0].clone();
    (peer.inbound_route_map, peer.outbound_route_map)
}

#[test]
fn a_map_knows_its_connections_and_stays_while_it_has_any() {
    let mut lab = Lab::with_route_server();
    let made = lab.put_net(MAP, prepend(json!(["64600"])));
    assert_eq!(made["properties"]["provisioningState"], "Succeeded");
    assert_eq!(made["properties"]["associatedInboundConnections"], json!([]));
    assert_eq!(rules_of_the_peer(&lab), (None, None));

    let shown = lab.put_net(CONNECTION, connection(both("virtualhubs/RS/routemaps/IN1")));
    assert_eq!(shown["properties"]["routingConfiguration"], both(MAP));
    let map = lab.get_net(MAP);
    assert_eq!(
        map["properties"]["associatedInboundConnections"],
        json!([id(CONNECTION)])
    );
    assert_eq!(
        map["properties"]["associatedOutboundConnections"],
        json!([id(CONNECTION)])
    );
    assert_eq!(
        lab.get_net("virtualHubs/rs")["properties"]["routeMaps"],
        json!([{ "id": id(MAP) }])
    );
    let error = lab.delete_net(MAP).unwrap_err();
    assert_eq!(error.code, "InUseRouteMapCannotBeDeleted");

    // PUT replaces: what is left out is gone (az §4.1).
    lab.put_net(CONNECTION, peer("10.1.1.4", 65001));
    assert_eq!(rules_of_the_peer(&lab), (None, None));
    lab.delete_net(MAP).unwrap();
}

#[test]
fn a_connection_has_the_rules_of_its_maps_as_they_are_now() {
    let mut lab = Lab::with_route_server();
    lab.put_net(MAP, prepend(json!(["64600", "64600"])));
    lab.put_net(CONNECTION, connection(json!({ "inboundRouteMap": { "id": id(MAP) } })));
    let rule = |actions| RouteMap {
        rules: vec![Rule {
            name: "r".to_owned(),
            criteria: vec![],
            actions,
            next_step: NextStep::Terminate,
        }],
    };
    let twice = Action::AddAsPath(vec![bgp::Asn(64600); 2]);
    assert_eq!(rules_of_the_peer(&lab), (Some(rule(vec![twice])), None));
    lab.put_net(MAP, map(json!([]), json!([{ "type": "Drop", "parameters": [] }])));
    assert_eq!(rules_of_the_peer(&lab), (Some(rule(vec![Action::Drop])), None));
}

#[test]
fn criteria_and_actions_are_read_as_azure_writes_them() {
    let mut lab = Lab::with_route_server();
    let body = json!({ "properties": { "rules": [
        {
            "name": "first",
            "matchCriteria": [
                { "matchCondition": "Contains", "routePrefix": ["10.0.0.0/8"], "community": [], "asPath": [] },
                { "matchCondition": "NotEquals", "community": ["65001:7"], "asPath": ["65001", "65002"] },
            ],
            "actions": [
                { "type": "Replace", "parameters": [
                    { "routePrefix": ["10.0.0.0/8"], "community": [], "asPath": [] },
                    { "routePrefix": [], "community": [], "asPath": [] },
                    { "community": ["65001:8"] },
                ] },
                { "type": "Remove", "parameters": [{ "community": ["65001:9"] }] },
            ],
            "nextStepIfMatched": "Continue",
        },
        { "name": "second" },
    ] } });
    lab.put_net(MAP, body.clone());
    assert_eq!(lab.get_net(MAP)["properties"]["rules"], body["properties"]["rules"]);
    lab.put_net(CONNECTION, connection(both(MAP)));
    let community = |low| bgp::wire::Community::new(65001, low);
    let first = Rule {
        name: "first".to_owned(),
        criteria: vec![
            Criterion::Prefix {
                comparison: Comparison::Contains,
                prefixes: vec!["10.0.0.0/8".parse().unwrap()],
            },
            Criterion::Community {
                comparison: Comparison::NotEquals,
                communities: vec![community(7)],
            },
            Criterion::AsPath {
                comparison: Comparison::NotEquals,
                path: vec![bgp::Asn(65001), bgp::Asn(65002)],
            },
        ],
        actions: vec![
            Action::ReplacePrefix("10.0.0.0/8".parse().unwrap()),
            Action::ReplaceAsPath(vec![]),
            Action::ReplaceCommunities(vec![community(8)]),
            Action::RemoveCommunities(vec![community(9)]),
        ],
        next_step: NextStep::Continue,
    };
    let second = Rule {
        name: "second".to_owned(),
        criteria: vec![],
        actions: vec![],
        next_step: NextStep::Continue,
    };
    let expected = RouteMap {
        rules: vec![first, second],
    };
    assert_eq!(rules_of_the_peer(&lab), (Some(expected.clone()), Some(expected)));
}

#[test]
fn route_maps_are_refused_for() {
    let mut lab = Lab::with_route_server();
    let criterion = |criterion: Value| map(json!([criterion]), json!([]));
    let action = |kind: &str, parameter: Value| map(json!([]), json!([{ "type": kind, "parameters": [parameter] }]));
    for (body, code) in [
        (json!({ "properties": { "rules": {} } }), "InvalidRequestFormat"),
        (json!({ "properties": { "rules": [{}] } }), "MissingRequiredProperty"),
        (
            json!({ "properties": { "rules": [{ "name": "r" }, { "name": "r" }] } }),
            "InvalidRouteMap",
        ),
        (
            json!({ "properties": { "rules": vec![json!({ "name": "r" }); 201] } }),
            "InvalidRequestFormat",
        ),
        (
            criterion(json!({ "routePrefix": ["10.0.0.0/8"] })),
            "MissingRequiredProperty",
        ),
        (
            criterion(json!({ "matchCondition": "Equals" })),
            "MissingRequiredProperty",
        ),
        (
            criterion(json!({ "matchCondition": "Like", "routePrefix": ["10.0.0.0/8"] })),
            "InvalidRequestFormat",
        ),
        (
            criterion(json!({ "matchCondition": "Equals", "routePrefix": ["10.0.0.1/8"] })),
            "InvalidCIDRNotation",
        ),
        (
            criterion(json!({ "matchCondition": "Equals", "community": ["65001"] })),
            "InvalidRequestFormat",
        ),
        (
            criterion(json!({ "matchCondition": "Equals", "asPath": ["x"] })),
            "InvalidRequestFormat",
        ),
        (map(json!([]), json!([{ "type": "Add" }])), "MissingRequiredProperty"),
        (action("Add", json!({})), "MissingRequiredProperty"),
        (
            action("Add", json!({ "routePrefix": ["10.0.0.0/8"] })),
            "InvalidRequestFormat",
        ),
        (
            action("Replace", json!({ "routePrefix": ["10.0.0.0/8", "11.0.0.0/8"] })),
            "InvalidRequestFormat",
        ),
        (action("Remove", json!({ "asPath": ["65001"] })), "InvalidRequestFormat"),
        (
            action("Remove", json!({ "community": ["65517:65517"] })),
            "InvalidRouteMap",
        ),
        (
            action("Add", json!({ "community": ["65517:12001"] })),
            "InvalidRouteMap",
        ),
        (
            action("Replace", json!({ "community": ["65001:1", "65515:20000"] })),
            "InvalidRouteMap",
        ),
        (action("Replace", json!({})), "MissingRequiredProperty"),
        (
            action("Replace", json!({ "routePrefix": [] })),
            "MissingRequiredProperty",
        ),
        (prepend(json!(["65515"])), "InvalidRouteMap"),
        (prepend(json!(["12076"])), "InvalidRouteMap"),
        (prepend(json!(["0"])), "InvalidRouteMap"),
        (
            json!({ "properties": { "rules": [{ "name": "r", "nextStepIfMatched": "Stop" }] } }),
            "InvalidRequestFormat",
        ),
    ] {
        assert_eq!(lab.refusal(MAP, body.clone()), code, "{body}");
    }
    // Beyond Azure: numbers of 32 bits, private and documentation ones.
    lab.put_net(MAP, prepend(json!(["4200000000", "64512", "64496"])));
}

#[test]
fn an_empty_list_of_replace_clears_only_where_nothing_else_is_said() {
    let mut lab = Lab::with_route_server();
    let prefix = "10.0.0.0/8".parse().unwrap();
    let communities = vec![bgp::wire::Community::new(65001, 8)];
    for (parameter, expected) in [
        (json!({ "asPath": [] }), Action::ReplaceAsPath(vec![])),
        (json!({ "community": [] }), Action::ReplaceCommunities(vec![])),
        (
            json!({ "routePrefix": [], "community": [] }),
            Action::ReplaceCommunities(vec![]),
        ),
        // As SDKs and the portal write it.
        (
            json!({ "routePrefix": [], "community": [], "asPath": [] }),
            Action::ReplaceAsPath(vec![]),
        ),
        (
            json!({ "routePrefix": [], "community": ["65001:8"], "asPath": [] }),
            Action::ReplaceCommunities(communities),
        ),
        (
            json!({ "routePrefix": ["10.0.0.0/8"], "community": [], "asPath": [] }),
            Action::ReplacePrefix(prefix),
        ),
    ] {
        let body = map(
            json!([]),
            json!([{ "type": "Replace", "parameters": [parameter.clone()] }]),
        );
        lab.put_net(MAP, body);
        lab.put_net(CONNECTION, connection(json!({ "inboundRouteMap": { "id": id(MAP) } })));
        let rules = rules_of_the_peer(&lab).0.unwrap();
        assert_eq!(rules.rules[0].actions, [expected], "{parameter}");
    }
}

#[test]
fn a_map_is_bounded_in_all_and_so_is_each_path() {
    let mut lab = Lab::with_route_server();
    let path = |length: usize| json!(vec!["64600"; length]);
    lab.put_net(MAP, prepend(path(255)));
    for kind in ["Add", "Replace"] {
        let actions = json!([{ "type": kind, "parameters": [{ "asPath": path(256) }] }]);
        assert_eq!(lab.refusal(MAP, map(json!([]), actions)), "InvalidRouteMap");
    }
    let prefixes = |count: usize| -> Value {
        let prefixes: Vec<String> = (0..count).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
        json!({ "matchCondition": "Equals", "routePrefix": prefixes })
    };
    // Each list counts one more than it has values.
    let largest = vec![prefixes(999); 10];
    lab.put_net(MAP, map(json!(largest), json!([])));
    let too_large = map(json!(largest), json!([{ "type": "Drop" }]));
    assert_eq!(lab.refusal(MAP, too_large), "InvalidRouteMap");
    // However they are spread.
    let rules: Vec<Value> = (0..11)
        .map(|n| json!({ "name": n.to_string(), "matchCriteria": [prefixes(999)] }))
        .collect();
    assert_eq!(
        lab.refusal(MAP, json!({ "properties": { "rules": rules } })),
        "InvalidRouteMap"
    );
}

#[test]
fn a_connections_maps_are_its_own_route_servers() {
    let mut lab = Lab::with_route_server();
    lab.put_net("virtualHubs/other", json!({ "location": "westeurope" }));
    lab.put_net("virtualHubs/other/routeMaps/in1", prepend(json!(["64600"])));
    for (map, code) in [
        (MAP, "InvalidResourceReference"),
        ("virtualHubs/other/routeMaps/in1", "InvalidResourceReference"),
        ("virtualHubs/rs", "LinkedInvalidPropertyId"),
    ] {
        assert_eq!(lab.refusal(CONNECTION, connection(both(map))), code, "{map}");
    }
}

#[test]
fn the_routes_of_a_connection_are_asked_of_the_route_server() {
    let mut lab = Lab::with_route_server();
    let key = id(CONNECTION).to_lowercase();
    for (action, expected) in [
        ("inboundRoutes", Ask::InboundRoutes(key.clone())),
        ("outboundroutes", Ask::OutboundRoutes(key)),
    ] {
        let path = id(&format!("virtualHubs/rs/{action}"));
        let body = json!({ "resourceUri": id(CONNECTION), "connectionType": "BgpConnection" });
        match lab.request(request(Method::Post, &path, Some(body))).unwrap() {
            Outcome::Ask(asked, _) => assert_eq!(asked, expected),
            other => panic!("{other:?}"),
        }
        for wrong in [
            None,
            Some(json!({ "resourceUri": id("virtualHubs/rs") })),
            Some(json!({ "resourceUri": id("virtualHubs/other/bgpConnections/x") })),
            Some(json!({ "resourceUri": id("virtualHubs/rs/bgpConnections/none") })),
        ] {
            assert!(lab.request(request(Method::Post, &path, wrong)).is_err());
        }
    }
}

/// A route of the connection's peer.
fn received(network: &str, verdict: &str, reason: Option<&str>, becomes: Value) -> RouteReport {
    let connection = id(CONNECTION).to_lowercase();
    serde_json::from_value(json!({
        "network": network, "nextHop": "10.1.1.4", "peer": connection, "sourcePeer": "10.1.1.4", "asPath": "65001",
        "origin": "igp", "communities": [], "verdict": verdict, "reason": reason, "instance": 0, "becomes": becomes,
    }))
    .unwrap()
}

#[test]
fn a_route_that_a_map_drops_or_changes_was_learned_whatever_became_of_it() {
    let lab = Lab::with_route_server();
    let became = json!({ "network": "10.1.7.0/24", "nextHop": "10.1.1.4", "asPath": "", "communities": [] });
    let routes = [
        received("10.251.0.0/16", "best", None, Value::Null),
        received("10.252.0.0/16", "rejected", Some("own-asn"), Value::Null),
        received("10.253.0.0/16", "rejected", Some("dropped-by-route-map"), Value::Null),
        received("10.254.0.0/16", "rejected", Some("changed-by-route-map"), Value::Null),
        received("10.255.0.0/16", "rejected", Some("inside-virtual-network"), became),
    ];
    let shown = learned_routes(&lab.resources, &id(CONNECTION), [&routes, &[]]);
    let networks: Vec<&Value> = shown["RouteServiceRole_IN_0"]
        .as_array()
        .unwrap()
        .iter()
        .map(|route| &route["network"])
        .collect();
    assert_eq!(
        networks,
        ["10.251.0.0/16", "10.253.0.0/16", "10.254.0.0/16", "10.255.0.0/16"]
    );
}

#[test]
fn inbound_and_outbound_routes_are_those_after_the_maps() {
    let summary =
        json!({ "network": "10.250.0.0/16", "nextHop": "10.1.1.9", "asPath": "", "communities": ["65001:7"] });
    let routes = [
        received("10.251.0.0/16", "best", None, Value::Null),
        received("10.250.1.0/24", "best", None, summary.clone()),
        received("10.250.2.0/24", "best", None, summary),
        received("10.252.0.0/16", "rejected", Some("own-asn"), Value::Null),
    ];
    assert_eq!(
        inbound_routes(&routes),
        json!({ "value": [
            { "prefix": "10.250.0.0/16", "bgpCommunities": "65001:7", "asPath": "" },
            { "prefix": "10.251.0.0/16", "bgpCommunities": "", "asPath": "65001" },
        ] })
    );
    // What the route server has is what the map left, too.
    let lab = Lab::with_route_server();
    let hub = id("virtualHubs/rs");
    let effective = hub_effective_routes(&lab.resources, &hub, &routes);
    let prefixes: Vec<&Value> = effective["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["addressPrefixes"][0])
        .collect();
    assert_eq!(prefixes, ["10.1.0.0/16", "10.250.0.0/16", "10.251.0.0/16"]);
    assert_eq!(effective["value"][1]["nextHops"], json!(["10.1.1.9"]));
    assert_eq!(effective["value"][2]["nextHops"], json!(["10.1.1.4"]));
    let told = AdvertisedReport {
        network: "10.1.0.0/16".parse().unwrap(),
        next_hop: "10.1.0.4".parse().unwrap(),
        as_path: "65515".to_owned(),
        communities: vec!["65518:65518".to_owned()],
    };
    assert_eq!(
        outbound_routes(&[told.clone(), told]),
        json!({ "value": [{ "prefix": "10.1.0.0/16", "bgpCommunities": "65518:65518", "asPath": "65515" }] })
    );
}

/// Settings of the map, checked as the manager does before it stores them.
fn extend(lab: &mut Lab, settings: Value) -> Result<(), arm::ArmError> {
    let kept = arm::check_settings(&lab.resources, &id(MAP), &settings)?;
    lab.settings.by_key.insert(id(MAP).to_ascii_lowercase(), kept);
    Ok(())
}

fn mapped_lab() -> Lab {
    let mut lab = Lab::with_route_server();
    let replace = json!([{ "type": "Replace", "parameters": [{ "routePrefix": ["10.0.0.0/8"] }] }]);
    lab.put_net(MAP, map(json!([]), replace));
    lab.put_net(CONNECTION, connection(both(MAP)));
    lab
}

#[test]
fn a_rules_settings_add_criteria_and_actions_beyond_azures() {
    let mut lab = mapped_lab();
    extend(
        &mut lab,
        json!({ "rules": { "r": {
            "match": {
                "prefixes": [
                    { "prefix": "10.0.0.0/8", "ge": 16, "le": 24 }, { "prefix": "10.0.0.0/8", "ge": 30 },
                    { "prefix": "10.9.0.0/16", "le": 17 }, { "prefix": "10.8.0.0/16" },
                ],
                "med": { "to": 9 },
                "localPreference": { "from": 5 },
                "largeCommunities": { "matchCondition": "notcontains", "values": ["4200000000:1:2"] },
            },
            "set": {
                "importPreference": 200, "med": 7, "keepAttributes": true,
                "largeCommunities": { "type": "Add", "values": ["65001:0:1"] },
            },
        } } }),
    )
    .unwrap();
    let range = |prefix: &str, ge, le| PrefixRange {
        prefix: prefix.parse().unwrap(),
        ge,
        le,
    };
    let (inbound, outbound) = rules_of_the_peer(&lab);
    assert_eq!(inbound, outbound);
    let rule = &inbound.unwrap().rules[0];
    assert_eq!(
        rule.criteria,
        [
            Criterion::PrefixRange(vec![
                range("10.0.0.0/8", 16, 24),
                range("10.0.0.0/8", 30, 32),
                range("10.9.0.0/16", 16, 17),
                range("10.8.0.0/16", 16, 16),
            ]),
            Criterion::Med(0, 9),
            Criterion::LocalPreference(5, u32::MAX),
            Criterion::LargeCommunity {
                comparison: Comparison::NotContains,
                communities: vec![(4_200_000_000, 1, 2)],
            },
        ]
    );
    assert_eq!(
        rule.actions,
        [
            Action::Aggregate("10.0.0.0/8".parse().unwrap()),
            Action::SetImportPreference(200),
            Action::SetMed(7),
            Action::AddLargeCommunities(vec![(65001, 0, 1)]),
        ]
    );
}

#[test]
fn settings_of_a_map_outlive_a_clients_put_and_wait_for_a_rule_that_is_gone() {
    let mut lab = mapped_lab();
    extend(
        &mut lab,
        json!({ "rules": { "r": { "set": { "importPreference": 5 } } } }),
    )
    .unwrap();
    let preferred = |lab: &Lab| {
        let actions = rules_of_the_peer(lab)
            .0
            .unwrap()
            .rules
            .into_iter()
            .flat_map(|rule| rule.actions);
        actions
            .filter(|action| *action == Action::SetImportPreference(5))
            .count()
    };
    assert_eq!(preferred(&lab), 1);
    let shown = lab.get_net(MAP);
    lab.put_net(MAP, json!({ "properties": shown["properties"] }));
    assert_eq!(preferred(&lab), 1);
    lab.put_net(MAP, json!({ "properties": { "rules": [{ "name": "other" }] } }));
    assert_eq!(preferred(&lab), 0);
    lab.put_net(
        MAP,
        json!({ "properties": { "rules": [{ "name": "other" }, { "name": "r" }] } }),
    );
    assert_eq!(preferred(&lab), 1);
}

#[test]
fn all_mistakes_of_a_maps_settings_are_told_at_once_with_their_places() {
    let mut lab = mapped_lab();
    let error = extend(
        &mut lab,
        json!({ "colour": 1, "rules": {
            "r": {
                "match": {
                    "prefixes": [{ "prefix": "10.0.0.0/8", "ge": 4 }], "med": { "from": 9, "to": 1 }, "asn": 7,
                    "largeCommunities": { "values": ["1:2:3"] },
                },
                "set": { "importPreference": -1, "keepAttributes": "perhaps", "largeCommunities": { "type": "Add", "values": ["1:2"] } },
                "then": {},
            },
            "s": 7,
        } }),
    )
    .unwrap_err();
    let mut places: Vec<&str> = error
        .details
        .iter()
        .filter_map(|mistake| mistake.target.as_deref())
        .collect();
    places.sort_unstable();
    assert_eq!(
        places,
        [
            "colour",
            "rules.r.match.asn",
            "rules.r.match.largeCommunities.matchCondition",
            "rules.r.match.med",
            "rules.r.match.prefixes[0].ge",
            "rules.r.set.importPreference",
            "rules.r.set.keepAttributes",
            "rules.r.set.largeCommunities.values",
            "rules.r.then",
            "rules.s",
        ]
    );
    assert_eq!(error.code, "InvalidSettings");
    let error = extend(&mut lab, json!({ "rules": { "nobody": {} } })).unwrap_err();
    assert_eq!(error.details[0].code, "InvalidSetting");
    assert!(error.details[0].message.contains("nobody"), "{error:?}");
    extend(&mut lab, json!({})).unwrap();
}

#[test]
fn a_map_is_bounded_with_its_settings() {
    let mut lab = Lab::with_route_server();
    let rules: Vec<Value> = (0..20).map(|n| json!({ "name": format!("r{n}") })).collect();
    lab.put_net(MAP, json!({ "properties": { "rules": rules } }));
    let ranges = vec![json!({ "prefix": "10.0.0.0/8" }); 1_000];
    let extras = |many: usize| {
        let extra = json!({ "match": { "prefixes": ranges } });
        let rules: serde_json::Map<String, Value> = (0..many).map(|n| (format!("r{n}"), extra.clone())).collect();
        json!({ "rules": rules })
    };
    extend(&mut lab, extras(9)).unwrap();
    let error = extend(&mut lab, extras(10)).unwrap_err();
    assert_eq!(error.details[0].code, "InvalidRouteMap");
}

#[test]
fn a_route_servers_number_cannot_become_one_that_its_maps_put_into_paths() {
    let mut lab = Lab::with_route_server();
    lab.put_net(MAP, prepend(json!(["64600"])));
    let set = |lab: &Lab, asn: u32| arm::check_settings(&lab.resources, &id("virtualHubs/rs"), &json!({ "asn": asn }));
    let error = set(&lab, 64600).unwrap_err();
    let [mistake] = &error.details[..] else {
        panic!("{error:?}");
    };
    assert_eq!(mistake.code, "InvalidSetting");
    assert!(
        mistake.message.contains("in1") && mistake.message.contains("'r'"),
        "{mistake:?}"
    );
    set(&lab, 64601).unwrap();
}

#[test]
fn a_route_tables_settings_say_which_bgp_routes_come_to_its_subnets() {
    let mut lab = Lab::with_route_server();
    lab.put_net("routeTables/rt", json!({ "location": "westeurope" }));
    let mut subnet = lab.get_net("virtualNetworks/hub/subnets/nva");
    subnet["properties"]["routeTable"] = json!({ "id": id("routeTables/rt") });
    lab.put_net("virtualNetworks/hub/subnets/nva", subnet);
    let filter = |lab: &Lab| {
        let intent = intent(&lab.resources, &lab.settings);
        let mut subnets = intent.virtual_networks.into_iter().flat_map(|network| network.subnets);
        subnets.find_map(|subnet| subnet.route_table).unwrap().import
    };
    assert_eq!(filter(&lab), None);
    let settings = json!({ "importOthers": "deny", "import": [
        { "name": "red", "action": "Allow", "prefixes": [{ "prefix": "10.0.0.0/8", "le": 24 }], "nextHops": ["10.1.1.4"] },
    ] });
    let kept = arm::check_settings(&lab.resources, &id("routeTables/rt"), &settings).unwrap();
    lab.settings
        .by_key
        .insert(id("routeTables/rt").to_ascii_lowercase(), kept);
    let read = filter(&lab).unwrap();
    assert!(!read.allow_others);
    assert_eq!((read.rules[0].name.as_str(), read.rules[0].allow), ("red", true));
    assert_eq!((read.rules[0].prefixes[0].ge, read.rules[0].prefixes[0].le), (8, 24));
    let wrong = json!({ "colour": 1, "importOthers": "x", "import": [
        { "action": "Drop", "prefixes": [], "nextHops": ["x"], "communities": [] }, 7,
    ] });
    let error = arm::check_settings(&lab.resources, &id("routeTables/rt"), &wrong).unwrap_err();
    let mut places: Vec<&str> = error
        .details
        .iter()
        .filter_map(|mistake| mistake.target.as_deref())
        .collect();
    places.sort_unstable();
    assert_eq!(
        places,
        [
            "colour",
            "importOthers",
            "import[0].action",
            "import[0].communities",
            "import[0].name",
            "import[0].nextHops",
            "import[0].prefixes",
            "import[1]",
        ]
    );
}
