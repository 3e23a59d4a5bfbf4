//! A little world for tests: resources in memory, GUIDs that count, requests in one line.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod hybrid;

use arm::{Answer, ArmError, Change, May, Method, Mint, Outcome, Request, Resources, Settings, handle};
use serde_json::{Value, json};

pub const S: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";
pub const NET: &str =
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-net/providers/Microsoft.Network";

/// GUIDs in the order they are asked for.
#[derive(Default)]
pub struct Counter(u64);

impl Mint for Counter {
    fn guid(&mut self) -> String {
        self.0 += 1;
        format!("{:08x}-0000-4000-8000-000000000000", self.0)
    }
    fn now(&mut self) -> String {
        "2026-11-21T00:00:00Z".to_owned()
    }
}

#[derive(Default)]
pub struct Lab {
    pub resources: Resources,
    pub settings: Settings,
    pub mint: Counter,
}

impl Lab {
    /// With a resource group `rg-net`.
    pub fn new() -> Lab {
        let mut lab = Lab::default();
        lab.put(
            &format!("{S}/resourceGroups/rg-net"),
            json!({ "location": "westeurope" }),
        );
        lab
    }

    /// The reference scenario's network and a route server with one peer.
    pub fn with_route_server() -> Lab {
        let mut lab = Lab::new();
        lab.put_net(
            "virtualNetworks/hub",
            vnet(
                &["10.1.0.0/16"],
                &[
                    ("RouteServerSubnet", "10.1.0.0/26"),
                    ("nva", "10.1.1.0/24"),
                    ("workload", "10.1.2.0/24"),
                ],
            ),
        );
        lab.put_net("publicIPAddresses/rs-pip", public_ip());
        lab.put_net(
            "virtualHubs/rs",
            json!({ "location": "westeurope", "properties": { "sku": "Standard" } }),
        );
        lab.put_net(
            "virtualHubs/rs/ipConfigurations/Default",
            ip_configuration("hub", "rs-pip"),
        );
        lab.put_net("virtualHubs/rs/bgpConnections/sdwan", peer("10.1.1.4", 65001));
        lab
    }

    pub fn request(&mut self, request: Request) -> Result<Outcome, ArmError> {
        let outcome = handle(&self.resources, &self.settings, &request, May::ALL, &mut self.mint)?;
        if let Outcome::Done { changes, .. } = &outcome {
            self.resources.apply(changes);
        }
        Ok(outcome)
    }

    /// The same resources with everything that is kept beside them made anew.
    pub fn read_anew(&self) -> Resources {
        let mut anew = Resources::default();
        anew.version = self.resources.version;
        self.resources.iter().for_each(|resource| anew.put(resource.clone()));
        anew
    }

    pub fn send(&mut self, method: Method, path: &str, body: Option<Value>) -> Result<Answer, ArmError> {
        match self.request(request(method, path, body))? {
            Outcome::Done { answer, .. } => Ok(answer),
            other => panic!("{other:?}"),
        }
    }

    /// Changes that a request makes, for tests of no-ops.
    pub fn changes(&mut self, method: Method, path: &str, body: Option<Value>) -> Vec<Change> {
        match self.request(request(method, path, body)).unwrap() {
            Outcome::Done { changes, .. } => changes,
            other => panic!("{other:?}"),
        }
    }

    pub fn put(&mut self, path: &str, body: Value) -> Value {
        let answer = self.send(Method::Put, path, Some(body));
        answer
            .unwrap_or_else(|error| panic!("PUT {path}: {error}"))
            .body
            .unwrap()
    }

    pub fn put_net(&mut self, path: &str, body: Value) -> Value {
        self.put(&format!("{NET}/{path}"), body)
    }

    pub fn get_net(&mut self, path: &str) -> Value {
        let path = format!("{NET}/{path}");
        self.send(Method::Get, &path, None).unwrap().body.unwrap()
    }

    pub fn delete_net(&mut self, path: &str) -> Result<Answer, ArmError> {
        self.send(Method::Delete, &format!("{NET}/{path}"), None)
    }

    /// The code with which a PUT is refused; its message must say something.
    pub fn refusal(&mut self, path: &str, body: Value) -> String {
        let before = self.resources.clone();
        let error = match self.send(Method::Put, &format!("{NET}/{path}"), Some(body.clone())) {
            Ok(answer) => panic!("PUT {path} {body} was taken: {answer:?}"),
            Err(error) => error,
        };
        assert!(error.message.ends_with('.'), "no sentence: {}", error.message);
        assert_eq!(before, self.resources);
        error.code
    }
}

pub fn request(method: Method, path: &str, body: Option<Value>) -> Request {
    Request {
        method,
        path: path.to_owned(),
        query: vec![("api-version".to_owned(), "2024-05-01".to_owned())],
        if_match: None,
        if_none_match: None,
        body,
    }
}

pub fn vnet(space: &[&str], subnets: &[(&str, &str)]) -> Value {
    let subnets: Vec<Value> = subnets
        .iter()
        .map(|(name, prefix)| json!({ "name": name, "properties": { "addressPrefix": prefix } }))
        .collect();
    json!({ "location": "westeurope", "properties": { "addressSpace": { "addressPrefixes": space }, "subnets": subnets } })
}

pub fn subnet_id(network: &str, subnet: &str) -> String {
    format!("{NET}/virtualNetworks/{network}/subnets/{subnet}")
}

pub fn public_ip() -> Value {
    json!({ "location": "westeurope", "sku": { "name": "Standard" }, "properties": { "publicIPAllocationMethod": "Static" } })
}

pub fn ip_configuration(network: &str, public: &str) -> Value {
    json!({ "properties": {
        "subnet": { "id": subnet_id(network, "RouteServerSubnet"), "properties": { "junk": true } },
        "publicIPAddress": { "id": format!("{NET}/publicIPAddresses/{public}") },
    } })
}

pub fn peer(address: &str, asn: u64) -> Value {
    json!({ "properties": { "peerIp": address, "peerAsn": asn } })
}

pub fn nic(network: &str, subnet: &str, address: Option<&str>) -> Value {
    let mut properties = json!({ "subnet": { "id": subnet_id(network, subnet) } });
    if let Some(address) = address {
        properties["privateIPAddress"] = json!(address);
        properties["privateIPAllocationMethod"] = json!("Static");
    }
    json!({ "location": "westeurope", "properties": { "ipConfigurations": [{ "name": "ipconfig1", "properties": properties }] } })
}

pub fn peering(remote: &str, flags: &[&str]) -> Value {
    let mut body =
        json!({ "properties": { "remoteVirtualNetwork": { "id": format!("{NET}/virtualNetworks/{remote}") } } });
    for flag in flags {
        body["properties"][*flag] = json!(true);
    }
    body
}

/// What each path and body is refused with, after `setup`.
pub fn check(setup: impl Fn() -> Lab, cases: Vec<(&str, Value, &str)>) {
    let mut lab = setup();
    for (path, body, code) in cases {
        assert_eq!(lab.refusal(path, body.clone()), code, "PUT {path} {body}");
    }
}
