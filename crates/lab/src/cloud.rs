//! The route server's public API, used as any user would: resources by PUT, state by GET.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use api::control::ControlClient;
use routeserver::report::PeerReport;
use serde_json::{Value, json};

use crate::error::LabError;
use crate::topology::{Nva, ROUTE_SERVER_SUBNET, RouteMap, Topology, Vnet};

/// The development subscription (`routewright serve --dev`).
const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";
/// The resource group that holds a lab.
pub const RESOURCE_GROUP: &str = "lab";
const LOCATION: &str = "westeurope";
const API_VERSION: &str = "2024-05-01";
/// How long a resource may take to be `Succeeded`.
const PROVISIONING: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// An instance that says nothing for so long does not answer, as the manager sees it.
const INSTANCE_PATIENCE: Duration = Duration::from_secs(3);

/// A resource to PUT.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its ARM id.
    pub id: String,
    /// Its body.
    pub body: Value,
}

/// The ARM id of a resource in the lab's group: `kind/name`, or longer for children.
pub fn network_id(path: &str) -> String {
    format!("{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}/providers/Microsoft.Network/{path}")
}

/// The ARM id of a node's NIC.
pub fn nic_id(node: &str) -> String {
    network_id(&format!("networkInterfaces/{node}-nic"))
}

/// The id under which the kernel table of a gateway's (or provider edge's) instance is told.
pub fn instance_id(path: &str, instance: usize) -> String {
    network_id(&format!("{path}/instances/{instance}"))
}

/// Everything a topology needs, in an order in which each resource finds those it refers to.
pub fn resources(topology: &Topology) -> Vec<Resource> {
    let mut all = vec![Resource {
        id: format!("{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}"),
        body: json!({ "location": LOCATION }),
    }];
    all.extend(topology.route_tables.iter().map(route_table));
    all.extend(topology.vnets.iter().map(vnet));
    let vms = topology
        .vms
        .iter()
        .map(|v| nic(&v.name, (&v.vnet, &v.subnet), (v.address, v.address_v6), false));
    let nvas = topology
        .nvas
        .iter()
        .map(|n| nic(&n.name, (&n.vnet, &n.subnet), (n.address, n.address_v6), true));
    let balancers = topology.load_balancers.iter();
    let balancers = balancers.map(|b| nic(&b.name, (&b.vnet, &b.subnet), (b.address, None), true));
    all.extend(vms.chain(nvas).chain(balancers));
    for rs in &topology.route_servers {
        let hub = format!("virtualHubs/{}", rs.name);
        all.push(public_ip(&rs.name));
        all.push(tracked(
            &hub,
            json!({
                "sku": "Standard",
                "allowBranchToBranchTraffic": rs.branch_to_branch,
                "hubRoutingPreference": rs.routing_preference,
            }),
        ));
        all.push(child(
            &format!("{hub}/ipConfigurations/default"),
            json!({
                "subnet": { "id": subnet_id(&rs.vnet, ROUTE_SERVER_SUBNET) },
                "publicIPAddress": { "id": network_id(&format!("publicIPAddresses/{}-ip", rs.name)) },
            }),
        ));
        all.extend(with_ipv6(&hub, rs.ipv6));
    }
    all.extend(hybrid::gateways(topology));
    // Who wants to use another's route server can only say so when that is there and has been offered.
    let (remote, local): (Vec<_>, Vec<_>) = topology.vnets.iter().flat_map(peerings).partition(uses_remote_gateways);
    all.extend(local.into_iter().chain(remote));
    all.extend(topology.route_maps.iter().map(route_map));
    all.extend(hybrid::connected(topology));
    all.extend(topology.nvas.iter().flat_map(peerings_of));
    all
}

fn tracked(path: &str, properties: Value) -> Resource {
    Resource {
        id: network_id(path),
        body: json!({ "location": LOCATION, "properties": properties }),
    }
}

fn child(path: &str, properties: Value) -> Resource {
    Resource {
        id: network_id(path),
        body: json!({ "properties": properties }),
    }
}

fn subnet_id(vnet: &str, subnet: &str) -> String {
    network_id(&format!("virtualNetworks/{vnet}/subnets/{subnet}"))
}

fn vnet(vnet: &Vnet) -> Resource {
    let subnets = vnet.subnets.iter().map(|s| {
        let mut properties = json!({ "addressPrefixes": s.prefixes().collect::<Vec<_>>() });
        if let Some(table) = &s.route_table {
            properties["routeTable"] = json!({ "id": network_id(&format!("routeTables/{table}")) });
        }
        json!({ "name": s.name, "properties": properties })
    });
    tracked(
        &format!("virtualNetworks/{}", vnet.name),
        json!({
            "addressSpace": { "addressPrefixes": vnet.address_prefixes },
            "subnets": subnets.collect::<Vec<_>>(),
        }),
    )
}

fn peerings(vnet: &Vnet) -> impl Iterator<Item = Resource> {
    vnet.peerings.iter().map(|p| {
        child(
            &format!(
                "virtualNetworks/{}/virtualNetworkPeerings/{}-to-{}",
                vnet.name, vnet.name, p.to
            ),
            json!({
                "remoteVirtualNetwork": { "id": network_id(&format!("virtualNetworks/{}", p.to)) },
                "allowVirtualNetworkAccess": true,
                "allowForwardedTraffic": p.allow_forwarded_traffic,
                "allowGatewayTransit": p.allow_gateway_transit,
                "useRemoteGateways": p.use_remote_gateways,
            }),
        )
    })
}

fn uses_remote_gateways(peering: &Resource) -> bool {
    peering.body["properties"]["useRemoteGateways"] == json!(true)
}

fn route_table(table: &crate::topology::RouteTable) -> Resource {
    let routes = table.routes.iter().enumerate().map(|(i, route)| {
        let mut properties = json!({ "addressPrefix": route.prefix, "nextHopType": route.next_hop_type });
        match (route.next_hop_type.as_str(), &route.next_hops[..]) {
            ("VirtualApplianceEcmp", several) => properties["nextHop"] = json!({ "nextHopIpAddresses": several }),
            (_, [next_hop, ..]) => properties["nextHopIpAddress"] = json!(next_hop),
            (_, []) => {}
        }
        json!({ "name": format!("route{i}"), "properties": properties })
    });
    tracked(
        &format!("routeTables/{}", table.name),
        json!({
            "disableBgpRoutePropagation": table.disable_bgp_propagation,
            "routes": routes.collect::<Vec<_>>(),
        }),
    )
}

/// In a subnet of a virtual network, with an address and perhaps one of IPv6.
fn nic(
    node: &str,
    (vnet, subnet): (&str, &str),
    (address, address_v6): (Ipv4Addr, Option<Ipv6Addr>),
    forwards: bool,
) -> Resource {
    let configuration = |name: &str, version: &str, address: IpAddr| {
        json!({
            "name": name,
            "properties": {
                "primary": version == "IPv4",
                "privateIPAddress": address,
                "privateIPAddressVersion": version,
                "privateIPAllocationMethod": "Static",
                "subnet": { "id": subnet_id(vnet, subnet) },
            },
        })
    };
    let mut configurations = vec![configuration("ipconfig1", "IPv4", address.into())];
    configurations.extend(address_v6.map(|address| configuration("ipconfig-v6", "IPv6", address.into())));
    tracked(
        &format!("networkInterfaces/{node}-nic"),
        json!({ "enableIPForwarding": forwards, "ipConfigurations": configurations }),
    )
}

/// Settings of ours that a resource gets, if it has IPv6.
fn with_ipv6(path: &str, ipv6: bool) -> Option<Resource> {
    ipv6.then(|| Resource {
        id: format!("/routewright/v1{}/settings", network_id(path)),
        body: json!({ "ipv6": true }),
    })
}

fn public_ip(name: &str) -> Resource {
    Resource {
        id: network_id(&format!("publicIPAddresses/{name}-ip")),
        body: json!({
            "location": LOCATION,
            "sku": { "name": "Standard" },
            "properties": { "publicIPAllocationMethod": "Static" },
        }),
    }
}

fn route_map(map: &RouteMap) -> Resource {
    child(
        &format!("virtualHubs/{}/routeMaps/{}", map.route_server, map.name),
        json!({ "rules": map.rules }),
    )
}

fn peerings_of(nva: &Nva) -> impl Iterator<Item = Resource> {
    nva.route_servers.iter().flat_map(move |route_server| {
        let peering = peering(nva, route_server);
        let settings = peering_settings(nva).map(|settings| Resource {
            id: format!("/routewright/v1{}/settings", peering.id),
            body: settings,
        });
        std::iter::once(peering).chain(settings)
    })
}

fn peering(nva: &Nva, route_server: &str) -> Resource {
    let hub = format!("virtualHubs/{route_server}");
    let mut properties = json!({ "peerIp": nva.address, "peerAsn": nva.asn });
    let maps = [
        ("inboundRouteMap", &nva.inbound_route_map),
        ("outboundRouteMap", &nva.outbound_route_map),
    ];
    for (direction, map) in maps {
        if let Some(map) = map {
            let id = network_id(&format!("{hub}/routeMaps/{map}"));
            properties["routingConfiguration"][direction] = json!({ "id": id });
        }
    }
    child(&format!("{hub}/bgpConnections/{}", nva.name), properties)
}

/// Settings of ours that its peering gets, if it needs any.
fn peering_settings(nva: &Nva) -> Option<Value> {
    let mut settings = serde_json::Map::new();
    if let Some(preference) = nva.import_preference {
        settings.insert("importPreference".to_owned(), json!(preference));
    }
    if let Some(bfd) = nva.bfd {
        settings.extend([
            ("bfd".to_owned(), json!(true)),
            ("bfdMinTxMs".to_owned(), json!(bfd.interval_ms)),
            ("bfdMinRxMs".to_owned(), json!(bfd.interval_ms)),
            ("bfdMultiplier".to_owned(), json!(bfd.multiplier)),
            ("bfdStrict".to_owned(), json!(bfd.strict)),
        ]);
    }
    if let Some(restart) = nva.graceful_restart {
        settings.insert("gracefulRestart".to_owned(), json!(true));
        if restart.long_lived_secs > 0 {
            settings.insert("longLivedStaleTimeSecs".to_owned(), json!(restart.long_lived_secs));
        }
    }
    (!settings.is_empty()).then(|| Value::Object(settings))
}

mod hybrid;

/// A route server's API.
#[derive(Debug)]
pub struct Api {
    base: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Api {
    /// The API at `http://ADDRESS:PORT`.
    pub fn new(base: &str) -> Result<Api, LabError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let client = api::http::plain_client().no_proxy().timeout(REQUEST_TIMEOUT).build();
        Ok(Api {
            base: base.trim_end_matches('/').to_owned(),
            client: client.map_err(|e| failed("GET", base, e))?,
            runtime: runtime.map_err(LabError::system("starting a runtime"))?,
        })
    }

    /// GET of a path with its query.
    pub fn get(&self, path: &str) -> Result<Value, LabError> {
        self.request("GET", path, None).map(|(_, body)| body)
    }

    /// GET of what is no JSON, such as `/metrics`.
    pub fn text(&self, path: &str) -> Result<String, LabError> {
        let url = format!("{}{path}", self.base);
        let answer = async { self.client.get(url).send().await?.error_for_status()?.text().await };
        std::thread::scope(|scope| {
            let work = scope.spawn(|| self.runtime.block_on(answer));
            let answered = work.join().expect("sending a request does not panic");
            answered.map_err(|e| failed("GET", path, e))
        })
    }

    /// POST of a path with its query.
    pub fn post(&self, path: &str) -> Result<Value, LabError> {
        self.request("POST", path, None).map(|(_, body)| body)
    }

    /// PUT of a path with its query.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, LabError> {
        self.request("PUT", path, Some(body)).map(|(_, body)| body)
    }

    /// Puts a resource and waits until it is `Succeeded`.
    pub fn provision(&self, resource: &Resource) -> Result<(), LabError> {
        let path = format!("{}?api-version={API_VERSION}", resource.id);
        let deadline = Instant::now() + PROVISIONING;
        let mut answer = self.put(&path, &resource.body)?;
        loop {
            match answer.pointer("/properties/provisioningState").and_then(Value::as_str) {
                Some("Succeeded") | None => return Ok(()),
                Some("Failed" | "Canceled") => {
                    return Err(LabError::Api {
                        method: "PUT",
                        path,
                        message: answer.to_string(),
                    });
                }
                Some(_) if Instant::now() > deadline => {
                    return Err(LabError::TimedOut {
                        what: resource.id.clone(),
                        seconds: PROVISIONING.as_secs(),
                        missing: vec![answer.to_string()],
                    });
                }
                Some(_) => {}
            }
            std::thread::sleep(POLL);
            answer = self.get(&path)?;
        }
    }

    /// Every peering as every instance sees it.
    pub fn peers(&self) -> Result<Vec<PeerReport>, LabError> {
        let path = "/routewright/v1/peers";
        let answer = self.get(path)?;
        let list = answer.get("value").cloned().unwrap_or(answer);
        serde_json::from_value(list).map_err(|e| failed("GET", path, e))
    }

    /// A NIC's effective routes, as ARM shows them.
    pub fn effective_routes(&self, node: &str) -> Result<Vec<Value>, LabError> {
        let path = format!("{}/effectiveRouteTable?api-version={API_VERSION}", nic_id(node));
        let answer = self.ask(&path, None)?;
        let rows = answer.get("value").and_then(Value::as_array);
        Ok(rows.cloned().unwrap_or_default())
    }

    /// POST of an action whose answer, a list, comes later.
    pub fn ask(&self, path: &str, body: Option<&Value>) -> Result<Value, LabError> {
        let deadline = Instant::now() + PROVISIONING;
        let (mut location, mut answer) = self.request("POST", path, body)?;
        while let Some(next) = location.filter(|_| answer.get("value").is_none() && Instant::now() < deadline) {
            let next = next.strip_prefix(&self.base).unwrap_or(&next).to_owned();
            std::thread::sleep(POLL);
            let (following, body) = self.request("GET", &next, None)?;
            location = following.or(Some(next));
            answer = body;
        }
        Ok(answer)
    }

    /// Whether an instance says how it is, asked over its own socket: the manager need not be there.
    pub(crate) fn instance_answers(&self, socket: &Path) -> bool {
        let control = ControlClient::new(socket);
        let answer = || async { tokio::time::timeout(INSTANCE_PATIENCE, control.health()).await };
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| self.runtime.block_on(answer()));
            matches!(asked.join(), Ok(Ok(Ok(_))))
        })
    }

    /// Sends a request on a thread of its own, so that callers may be inside a runtime; returns `Location` and body.
    fn request(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(Option<String>, Value), LabError> {
        std::thread::scope(|scope| {
            let work = scope.spawn(|| self.runtime.block_on(self.send(method, path, body)));
            work.join().expect("sending a request does not panic")
        })
    }

    async fn send(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(Option<String>, Value), LabError> {
        let url = format!("{}{path}", self.base);
        let mut request = match method {
            "PUT" => self.client.put(url),
            // Azure's front door wants a length with every POST.
            "POST" if body.is_none() => self.client.post(url).header("content-length", "0"),
            "POST" => self.client.post(url),
            _ => self.client.get(url),
        };
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|e| failed(method, path, e))?;
        let status = answer.status();
        let location = answer
            .headers()
            .get("location")
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        let text = answer.text().await.map_err(|e| failed(method, path, e))?;
        if !status.is_success() {
            return Err(failed(method, path, format!("{status}: {text}")));
        }
        Ok((location, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }
}

fn failed(method: &'static str, path: &str, error: impl std::fmt::Display) -> LabError {
    LabError::Api {
        method,
        path: path.to_owned(),
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn position(resources: &[Resource], end: &str) -> usize {
        resources.iter().position(|r| r.id.ends_with(end)).unwrap()
    }

    #[test]
    fn each_resource_comes_after_those_it_refers_to() {
        let text = include_str!("../../../topologies/active-active.yaml");
        let all = resources(&Topology::parse("t", text).unwrap());
        let order = [
            "/resourceGroups/lab",
            "/virtualNetworks/hub",
            "/networkInterfaces/vm1-nic",
            "/publicIPAddresses/rs-ip",
            "/virtualHubs/rs",
            "/virtualHubs/rs/ipConfigurations/default",
            "/virtualNetworks/hub/virtualNetworkPeerings/hub-to-spoke",
            "/virtualNetworks/spoke/virtualNetworkPeerings/spoke-to-hub",
            "/virtualHubs/rs/bgpConnections/sdwan1",
        ];
        let positions: Vec<usize> = order.iter().map(|end| position(&all, end)).collect();
        assert!(positions.is_sorted(), "{positions:?}");
    }

    #[test]
    fn a_peering_gets_all_its_settings_at_once() {
        let text = include_str!("../../../topologies/active-active.yaml");
        let mut topology = Topology::parse("t", text).unwrap();
        topology.nvas[0].import_preference = Some(7);
        topology.nvas[0].bfd = Some(crate::topology::Bfd {
            interval_ms: 50,
            multiplier: 4,
            strict: true,
        });
        topology.nvas[0].graceful_restart = Some(crate::topology::GracefulRestart {
            restart_secs: 120,
            long_lived_secs: 60,
        });
        let all = resources(&topology);
        let settings = all.iter().filter(|r| r.id.ends_with("/bgpConnections/sdwan1/settings"));
        let bodies: Vec<&Value> = settings.map(|settings| &settings.body).collect();
        let expected = json!({
            "importPreference": 7,
            "bfd": true,
            "bfdMinTxMs": 50,
            "bfdMinRxMs": 50,
            "bfdMultiplier": 4,
            "bfdStrict": true,
            "gracefulRestart": true,
            "longLivedStaleTimeSecs": 60,
        });
        assert_eq!(bodies, [&expected]);
    }
}
