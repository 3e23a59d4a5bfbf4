//! The OpenAPI document of `/routewright/v1`. It is checked in (`docs/openapi.json`), so that a change of the contract is a diff.

use serde_json::{Map, Value, json};

use super::own_api::{ENDPOINTS, Endpoint};

/// The document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let path = paths.entry(endpoint.path).or_insert(json!({}));
        path[endpoint.method] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Routewright",
            "version": "1",
            "description": "What goes beyond Azure's API. ARM ids in paths are written as they are, slashes included, and compare without regard to case.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:8080" }],
        "paths": paths,
        "components": { "schemas": schemas() },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut parameters: Vec<Value> = path_parameters(endpoint.path);
    parameters.extend(endpoint.query.iter().map(|(name, required, meaning)| {
        json!({ "name": name, "in": "query", "required": required, "description": meaning, "schema": query_schema(name) })
    }));
    let (status, gives) = endpoint.gives;
    let mut answer = json!({ "description": if gives.is_some() { "Done." } else { "Done, nothing to say." } });
    if let Some(schema) = gives {
        answer["content"] = content(schema);
    }
    let mut operation = json!({
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": {
            status.to_string(): answer,
            "default": { "description": "Refused.", "content": content("Error") },
        },
    });
    if let Some(schema) = endpoint.takes {
        operation["requestBody"] = json!({ "required": true, "content": content(schema) });
    }
    operation
}

fn query_schema(name: &str) -> Value {
    match name {
        "prefix" => {
            json!({ "anyOf": [{ "type": "string", "pattern": IPV4_PREFIX }, { "type": "string", "pattern": IPV6_PREFIX }] })
        }
        "soft" | "on" | "told" => json!({ "type": "boolean" }),
        _ => json!({ "type": "string" }),
    }
}

const IPV4_PREFIX: &str = r"^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])/(3[0-2]|[12]?[0-9])$";
/// The two forms that people write: in full, and with `::` at the end. Others are taken as well.
const IPV6_PREFIX: &str =
    r"^(([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}|([0-9a-f]{1,4}:){1,7}:)/(12[0-8]|1[01][0-9]|[1-9]?[0-9])$";
/// At least one character that is seen, and none that controls.
const NAME: &str = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$";

fn path_parameters(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| match name {
            "index" => json!({
                "name": name, "in": "path", "required": true,
                "description": "Which instance.",
                "schema": { "type": "integer", "minimum": 0, "maximum": 1 },
            }),
            "clientId" => json!({
                "name": name, "in": "path", "required": true,
                "description": "Client id of a service principal.",
                "schema": { "type": "string", "format": "uuid" },
            }),
            _ => json!({
                "name": name, "in": "path", "required": true,
                "description": "ARM id, without the slash at its start.",
                "schema": { "type": "string", "pattern": "^subscriptions/.+" },
            }),
        })
        .collect()
}

fn content(schema: &str) -> Value {
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let schema = match schema.strip_suffix("[]") {
        Some(item) => list(item, reference(item)),
        None => reference(schema),
    };
    json!({ "application/json": { "schema": schema } })
}

/// What the instances know says which of them is missing.
fn list(item: &str, reference: Value) -> Value {
    let mut properties = json!({ "value": { "type": "array", "items": reference } });
    if FROM_INSTANCES.contains(&item) {
        properties["unanswered"] = json!({
            "type": "array", "items": { "type": "integer" },
            "description": "Instances that did not answer: what they know is missing here. Absent when none is.",
        });
        properties["elsewhere"] = json!({
            "type": "array", "items": { "type": "integer" },
            "description": "Instances of another machine with the same store: the manager there tells what they know. Absent when none is.",
        });
    }
    json!({ "type": "object", "required": ["value"], "properties": properties })
}

/// Items of lists that are put together from what both instances answer.
const FROM_INSTANCES: [&str; 5] = [
    "AgentReport",
    "PeerReport",
    "RouteReport",
    "AdvertisedReport",
    "WhatIfReport",
];

/// `(name, type, meaning)`; a type ending in `?` may be null or absent, `[]` is a list.
type Field = (&'static str, &'static str, &'static str);

fn schemas() -> Value {
    let mut all = Map::new();
    for (name, fields) in SCHEMAS {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (field, kind, meaning) in *fields {
            if !kind.ends_with('?') {
                required.push(json!(field));
            }
            let mut schema = field_schema(kind);
            schema["description"] = json!(meaning);
            properties.insert(field.to_string(), schema);
        }
        let schema = json!({ "type": "object", "required": required, "properties": properties });
        all.insert(name.to_string(), schema);
    }
    all.insert("Object".to_owned(), json!({ "type": "object" }));
    all.insert(
        "Settings".to_owned(),
        json!({ "type": "object", "description": "Settings by name; what is absent has its default." }),
    );
    all.insert(
        "SettingsById".to_owned(),
        json!({
            "type": "object",
            "description": "What changes of the settings of each resource, by ARM id.",
            "additionalProperties": { "$ref": "#/components/schemas/Settings" },
        }),
    );
    all.insert(
        "Error".to_owned(),
        json!({
            "type": "object",
            "required": ["error"],
            "properties": { "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": { "type": "string" },
                    "message": { "type": "string" },
                    "target": { "type": "string" },
                    "details": { "type": "array", "items": { "type": "object" } },
                },
            } },
        }),
    );
    Value::Object(all)
}

fn field_schema(kind: &str) -> Value {
    if let Some(kind) = kind.strip_suffix('?') {
        let mut schema = field_schema(kind);
        return match schema.get("type").cloned() {
            Some(plain) => {
                schema["type"] = json!([plain, "null"]);
                schema
            }
            None => json!({ "anyOf": [schema, { "type": "null" }] }),
        };
    }
    if let Some(kind) = kind.strip_suffix("[]") {
        return json!({ "type": "array", "items": field_schema(kind) });
    }
    match kind {
        "string" | "integer" | "number" | "boolean" => json!({ "type": kind }),
        "Object" => json!({ "type": "object" }),
        "name" => json!({ "type": "string", "minLength": 1, "maxLength": 120, "pattern": NAME }),
        "address" => json!({ "type": "string", "format": "ip" }),
        "prefix" => json!({ "type": "string", "format": "cidr" }),
        name => json!({ "$ref": format!("#/components/schemas/{name}") }),
    }
}

const SCHEMAS: &[(&str, &[Field])] = &[
    (
        "HowToSignIn",
        &[
            ("tenant", "string", "The tenant."),
            ("subscription", "string", "The subscription."),
            ("url", "string?", "Where https is served; null without --tls-listen."),
            (
                "certificateAuthority",
                "string?",
                "File of the authority to trust, if it is the server's own.",
            ),
        ],
    ),
    (
        "ServicePrincipalRequest",
        &[("displayName", "name", "For people, 1 to 120 characters.")],
    ),
    (
        "ServicePrincipal",
        &[
            ("clientId", "string", "What it signs in with."),
            ("objectId", "string", "What roles are assigned to."),
            ("displayName", "string", "For people."),
            ("created", "string", "RFC 3339."),
        ],
    ),
    (
        "FreshSecret",
        &[
            ("clientId", "string", "What it signs in with."),
            ("objectId", "string", "What roles are assigned to."),
            ("displayName", "string", "For people."),
            ("created", "string", "RFC 3339."),
            ("secret", "string", "Told once."),
            ("tenant", "string", "The tenant to sign in to."),
        ],
    ),
    (
        "Health",
        &[
            ("status", "string", "ok, or degraded for the reasons in problems."),
            ("problems", "string[]?", "For people."),
            (
                "advice",
                "string[]?",
                "What works, but not as Azure's documents promise; it makes nothing degraded.",
            ),
            ("version", "string", "Release of the manager."),
            ("dev", "boolean?", "Started with --dev."),
            ("subscription", "string?", "The subscription that --dev offers."),
            ("pid", "integer?", "Process id of the manager."),
            ("uptimeSecs", "integer?", "Seconds since the manager started."),
            ("store", "string?", "Kind and place of the store."),
            ("intentVersion", "integer?", "Version of what is stored."),
            (
                "instances",
                "InstanceHealth[]",
                "The instance processes of this machine.",
            ),
            (
                "managers",
                "ManagerPresence[]?",
                "Managers of other machines that have the same store.",
            ),
        ],
    ),
    (
        "InstanceHealth",
        &[
            ("index", "integer", "0 or 1."),
            ("state", "string", "up or down."),
            ("agentUrl", "string?", "Where agents connect (gRPC)."),
            (
                "version",
                "string?",
                "Release of the process; it may be another than the manager's.",
            ),
            ("epoch", "integer?", "Tells one life of the process from the next."),
            (
                "intentVersion",
                "integer?",
                "Version of the intent that it follows; 0: none.",
            ),
            ("converging", "boolean?", "Not every peer has sent End-of-RIB yet."),
            (
                "drained",
                "boolean?",
                "The operator wants packets to go through the other instance.",
            ),
            ("peers", "integer?", "Peerings configured."),
            ("peersEstablished", "integer?", "Sessions Established."),
            (
                "peersDown",
                "string[]?",
                "bgpConnections that should be Established and are not.",
            ),
            ("agents", "integer?", "Agents connected."),
            (
                "addressProblems",
                "AddressProblem[]?",
                "Addresses of route servers and gateways that cannot be used.",
            ),
            (
                "circuitProblems",
                "CircuitProblem[]?",
                "Circuits that are told nearly as many routes as they take, or more.",
            ),
            (
                "memory",
                "MemoryReport?",
                "How much memory the process has, where that has a ceiling (limits.memory_mib).",
            ),
            ("agentPortProblem", "string?", "Why agents cannot connect, if so."),
            (
                "intentProblem",
                "string?",
                "Why the instance does not follow the manager's intentVersion, if so.",
            ),
            ("starts", "integer?", "How often this manager has started it."),
            ("lastError", "string?", "Why it does not answer."),
        ],
    ),
    (
        "ManagerPresence",
        &[
            ("instance", "integer", "The instance that it runs."),
            ("machine", "string", "Name of its machine."),
            ("api", "string", "Where its API listens."),
            ("since", "string", "Since when it is, or was, there; RFC 3339."),
            (
                "goneSince",
                "string?",
                "Since when it is known to be gone, if it is; RFC 3339.",
            ),
            (
                "state",
                "InstanceState?",
                "How its instance is, a few seconds ago at most.",
            ),
        ],
    ),
    (
        "InstanceState",
        &[
            ("up", "boolean", "It answers its manager."),
            (
                "converging",
                "boolean",
                "It has not yet heard End-of-RIB from every peer.",
            ),
            ("drained", "boolean", "Packets go through the other one, if they can."),
            ("intentVersion", "integer", "Version of the intent that it follows."),
            (
                "peersDown",
                "string[]",
                "Peerings that should be Established and are not, 256 at most.",
            ),
            ("peersDownCount", "integer", "How many there are."),
        ],
    ),
    (
        "MemoryReport",
        &[
            ("usedBytes", "integer", "What the process has, resident."),
            ("ceilingBytes", "integer", "What it may have."),
            (
                "isShort",
                "boolean",
                "It has nearly as much as it may have; the noisiest peers are ended.",
            ),
            ("peersEnded", "integer", "Sessions that were ended for it."),
            ("lastEnded", "string?", "Whose was the last one (bgpConnection id)."),
        ],
    ),
    (
        "AddressProblem",
        &[
            ("routeServer", "string", "ARM id."),
            ("problem", "string", "For example: address not present."),
        ],
    ),
    (
        "CircuitProblem",
        &[
            ("peer", "string", "Id of the peering with the provider's edge."),
            ("problem", "string", "How many are told, and how many it takes."),
        ],
    ),
    (
        "PeerReport",
        &[
            ("id", "string", "bgpConnection id."),
            ("name", "string", "Its name."),
            (
                "routeServer",
                "string",
                "ARM id of the route server or gateway whose peer it is.",
            ),
            (
                "kind",
                "string",
                "What the peer is: Nva, VpnGateway, ExpressRouteGateway, RouteServer, Site or ProviderEdge.",
            ),
            ("instance", "integer", "Which instance reports: 0 or 1."),
            ("localAddress", "address", "Ours."),
            ("peerAddress", "address", "The peer's."),
            ("peerAsn", "integer", "As configured."),
            (
                "state",
                "string",
                "Idle, Connect, Active, OpenSent, OpenConfirm or Established.",
            ),
            (
                "sinceSecs",
                "integer?",
                "Seconds in or out of Established; absent when it never was.",
            ),
            ("establishedCount", "integer", "How often it became Established."),
            ("lastError", "string?", "The following two in one sentence."),
            (
                "lastDown",
                "LastDownReport?",
                "How the last session that was Established ended.",
            ),
            (
                "lastAttemptError",
                "string?",
                "Why the last attempt to become Established failed; absent once one succeeds.",
            ),
            ("holdTimeSecs", "integer?", "Negotiated, while Established."),
            ("peerIdentifier", "string?", "BGP Identifier, while Established."),
            ("capabilities", "string[]", "Those both sides have, while Established."),
            ("direction", "string?", "dialled or accepted, while Established."),
            (
                "routesReceived",
                "integer",
                "Distinct prefixes, rejected ones included.",
            ),
            ("routesAccepted", "integer", "Of those, accepted."),
            ("routesAdvertised", "integer", "Prefixes told to the peer."),
            ("routeLimit", "integer", "0: none."),
            (
                "routesStale",
                "integer",
                "Of the received, routes that the peer is to say again: of a session that has ended, or before a refresh.",
            ),
            (
                "octetsHeld",
                "integer",
                "What holding its routes takes, in octets and roughly.",
            ),
            (
                "kept",
                "KeptReport[]",
                "What is kept of a session that has ended, by family.",
            ),
            ("drain", "DrainReport?", "How far the peer is drained, if it is to be."),
            (
                "updatesReceived",
                "integer",
                "UPDATE messages received, over all sessions.",
            ),
            ("mendedUpdates", "integer", "UPDATE messages that RFC 7606 had to mend."),
            ("messagesReceived", "integer", "Messages received."),
            ("messagesSent", "integer", "Messages sent, UPDATEs not included."),
            ("bfd", "BfdReport?", "Its BFD session; absent when it has none."),
        ],
    ),
    (
        "BfdReport",
        &[
            ("state", "string", "AdminDown, Down, Init or Up (RFC 5880)."),
            ("remoteState", "string?", "What the peer says of its side."),
            ("diagnostic", "string?", "Why our state last changed."),
            ("remoteDiagnostic", "string?", "Why the peer's did, as it says."),
            ("strict", "boolean", "BGP waits for BFD."),
            (
                "multihop",
                "boolean",
                "Over several hops (RFC 5883) rather than on one link (RFC 5881).",
            ),
            ("authenticated", "boolean", "Packets are authenticated."),
            (
                "txIntervalMs",
                "number?",
                "How often we send, before jitter; absent when the peer wants nothing.",
            ),
            (
                "rxIntervalMs",
                "number?",
                "How often the peer sends at least, as agreed on; absent while it is not heard.",
            ),
            (
                "detectionTimeMs",
                "number?",
                "So much silence is a lost path; absent while the peer is not heard.",
            ),
            ("localDiscriminator", "integer?", "Ours."),
            ("remoteDiscriminator", "integer?", "The peer's, while it is heard."),
            (
                "sinceSecs",
                "integer?",
                "Seconds in this state; absent when it never was in another one.",
            ),
            ("ups", "integer", "How often it came up."),
            ("downs", "integer", "How often it was up no more."),
            ("packetsSent", "integer", "Control packets sent."),
            ("packetsReceived", "integer", "Control packets received."),
            (
                "packetsDiscarded",
                "integer",
                "Control packets dropped by the checks of RFC 5880 section 6.8.6.",
            ),
            ("lastDown", "LastDownReport?", "How it last went down."),
            ("problem", "string?", "Why packets cannot be sent and received, if so."),
        ],
    ),
    (
        "LastDownReport",
        &[
            ("reason", "string", "For people."),
            ("agoSecs", "integer", "How long ago."),
            (
                "monotonicMicros",
                "integer?",
                "When, by the monotonic clock of the instance's machine (CLOCK_MONOTONIC), in microseconds.",
            ),
        ],
    ),
    (
        "KeptReport",
        &[
            ("family", "string", "IPv4 unicast or IPv6 unicast."),
            (
                "phase",
                "string",
                "graceful (RFC 4724), long-lived (RFC 9494) or persisted (the setting persistRoutes).",
            ),
            (
                "returned",
                "boolean",
                "The peer is back; what it does not say again goes with its End-of-RIB.",
            ),
            (
                "sinceSecs",
                "integer",
                "For how long there has been no word from the peer.",
            ),
            ("untilSecs", "integer?", "When the phase ends; absent: never."),
        ],
    ),
    (
        "DrainReport",
        &[
            (
                "prefixes",
                "integer",
                "Prefixes for which packets still go by the peer's routes.",
            ),
            (
                "withoutOtherWay",
                "integer",
                "Of those, prefixes that nobody else tells a next hop of.",
            ),
        ],
    ),
    (
        "BecameReport",
        &[
            ("network", "prefix", "The prefix."),
            ("nextHop", "address", "NEXT_HOP."),
            ("asPath", "string", "AS numbers joined by -."),
            ("communities", "string[]", "high:low each."),
        ],
    ),
    (
        "RouteReport",
        &[
            ("network", "prefix", "The prefix."),
            ("nextHop", "address", "NEXT_HOP."),
            ("peer", "string", "Id of the peering; empty for a static route."),
            (
                "sourcePeer",
                "address",
                "The sender's address; of a static route the far end of the tunnel.",
            ),
            (
                "source",
                "string",
                "What the sender is: Nva, VpnGateway, ExpressRoute, RouteServer, Site, ProviderEdge or Static.",
            ),
            ("internal", "boolean", "The sender is of the speaker's own AS (iBGP)."),
            ("asPath", "string", "AS numbers joined by -."),
            ("origin", "string", "igp, egp or incomplete."),
            ("communities", "string[]", "high:low each."),
            ("verdict", "string", "best, equal-cost, lost or rejected."),
            (
                "reason",
                "string?",
                "The decision step at which it lost, or the rule that refused it.",
            ),
            (
                "becomes",
                "BecameReport?",
                "What the peer's inbound route map made of it: that is what the verdict is about.",
            ),
            (
                "staleSecs",
                "integer?",
                "The session that it came through has ended so long ago, and it has not been said again.",
            ),
            ("instance", "integer", "Which instance reports."),
        ],
    ),
    (
        "AdvertisedReport",
        &[
            ("network", "prefix", "The prefix."),
            ("nextHop", "address", "NEXT_HOP as told."),
            ("asPath", "string", "AS numbers joined by -."),
            ("communities", "string[]", "high:low each."),
            ("instance", "integer", "Which instance tells it."),
        ],
    ),
    (
        "EffectiveRoute",
        &[
            ("name", "string?", "Of the user-defined route, if it is one."),
            ("source", "string", "User, VirtualNetworkGateway or Default."),
            ("state", "string", "Active or Invalid."),
            ("addressPrefix", "prefix[]", "The prefix."),
            (
                "nextHopType",
                "string",
                "VnetLocal, VNetPeering, VirtualNetworkGateway, VirtualAppliance, Internet or None.",
            ),
            ("nextHopIpAddress", "address[]", "Next hops."),
            (
                "disableBgpRoutePropagation",
                "boolean",
                "The subnet's route table refuses BGP routes.",
            ),
            (
                "notInstalled",
                "string?",
                "Why the NIC's kernel does not hold the row although it is Active.",
            ),
        ],
    ),
    (
        "DryRunRequest",
        &[("changes", "DryRunChange[]", "The writes, in their order; 800 at most.")],
    ),
    (
        "DryRunChange",
        &[
            ("method", "string", "PUT, PATCH or DELETE."),
            (
                "path",
                "string",
                "ARM id of a resource, or /routewright/v1/<ARM id>/settings.",
            ),
            ("body", "Object?", "As it would be sent."),
        ],
    ),
    (
        "WhatIfReport",
        &[
            ("instance", "integer", "Which instance would."),
            (
                "intentVersion",
                "integer",
                "Version of the intent that is followed, which the other is compared with.",
            ),
            (
                "peers",
                "PeerDifference[]",
                "Peers whose session would change, or who would be told something else.",
            ),
            (
                "tables",
                "TableDifference[]",
                "Subnets whose NICs would have other routes.",
            ),
            (
                "tablesNotCompared",
                "integer",
                "Subnets that were not looked at, because it would take too long.",
            ),
            (
                "notFollowed",
                "string[]",
                "Those of peers (ids) that are route servers or gateways of ours and whose other end is not at hand: what they would say then, and \
                 all that follows from it, is not in here.",
            ),
        ],
    ),
    (
        "PeerDifference",
        &[
            ("peer", "string", "bgpConnection id."),
            ("name", "string", "Its name."),
            ("routeServer", "string", "ARM id."),
            (
                "session",
                "string",
                "What becomes of it: stays, starts, resets, ends, is-held-down or over-limit.",
            ),
            (
                "told",
                "Object",
                "What it is told: appears, vanishes and changes (with before and after), routes as in AdvertisedReport; notListed counts what \
                 differs besides.",
            ),
        ],
    ),
    (
        "TableDifference",
        &[
            ("subnet", "string", "ARM id."),
            ("nics", "string[]", "Its NICs, before and after."),
            (
                "routes",
                "Object",
                "Their effective routes: appears, vanishes and changes (with before and after), routes as in EffectiveRoute with one prefix; \
                 notListed counts what differs besides.",
            ),
        ],
    ),
    (
        "AgentReport",
        &[
            ("agent", "string", "The agent's name."),
            ("nic", "string", "NIC id."),
            ("instance", "integer", "Which instance reports."),
            ("epoch", "integer", "The instance's epoch."),
            (
                "generation",
                "integer",
                "Where the NIC's table is; above a shared base, both generations added up.",
            ),
            ("installedGeneration", "integer?", "What the agent has confirmed of it."),
            ("problems", "string[]", "What the agent could not do."),
            (
                "stranded",
                "integer",
                "Routes that went because their next hops were all lost and nothing took over, since the agent started.",
            ),
            (
                "repaired",
                "integer",
                "Entries of the agent's that somebody else changed or removed, and that were put right, since it started.",
            ),
        ],
    ),
];
