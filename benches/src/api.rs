//! The ARM API as a user would call it, with nothing but the standard library: a bench needs no HTTP client.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::workload::{address_of, asn_of};

pub(crate) const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/bench";
pub(crate) const LOCATION: &str = "westeurope";

/// The address of the one NIC that [`Api::add_nic`] makes.
pub(crate) const NIC_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 5);

/// So many NICs are made by one deployment: Azure's bound on a template's resources.
const NICS_AT_ONCE: usize = 800;

/// A manager's API.
pub(crate) struct Api {
    url: String,
}

impl Api {
    pub(crate) fn new(url: &str) -> Api {
        Api {
            url: url.trim_end_matches('/').to_owned(),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A virtual network with a route server, branch-to-branch on, and `peers` peerings.
    pub(crate) fn set_up(&self, peers: u32) -> Result<()> {
        self.put(GROUP, &json!({ "location": LOCATION }))?;
        self.put(
            &network("virtualNetworks/hub"),
            &json!({ "location": LOCATION, "properties": {
                "addressSpace": { "addressPrefixes": ["10.9.0.0/16"] },
                "subnets": [
                    { "name": "nva", "properties": { "addressPrefix": "10.9.0.0/17" } },
                    { "name": "RouteServerSubnet", "properties": { "addressPrefix": "10.9.255.0/27" } } ] } }),
        )?;
        self.put(
            &network("publicIPAddresses/pip"),
            &json!({ "location": LOCATION, "sku": { "name": "Standard" },
                     "properties": { "publicIPAllocationMethod": "Static" } }),
        )?;
        self.put(
            &network("virtualHubs/rs"),
            &json!({ "location": LOCATION,
                     "properties": { "sku": "Standard", "allowBranchToBranchTraffic": true } }),
        )?;
        self.put(
            &network("virtualHubs/rs/ipConfigurations/Default"),
            &json!({ "properties": {
                "subnet": { "id": network("virtualNetworks/hub/subnets/RouteServerSubnet") },
                "publicIPAddress": { "id": network("publicIPAddresses/pip") } } }),
        )?;
        (0..peers).try_for_each(|peer| self.add_peering(peer))?;
        Ok(())
    }

    /// One peering more.
    pub(crate) fn add_peering(&self, peer: u32) -> Result<()> {
        self.put(
            &network(&format!("virtualHubs/rs/bgpConnections/p{peer}")),
            &peering_body(peer),
        )
    }

    /// A NIC in the NVAs' subnet; its id.
    pub(crate) fn add_nic(&self) -> Result<String> {
        let id = network("networkInterfaces/vm");
        self.put(&id, &nic(NIC_ADDRESS))?;
        Ok(id)
    }

    /// So many NICs in the NVAs' subnet, behind the addresses of the NVAs; their ids, as agents say them.
    pub(crate) fn add_nics(&self, count: u32) -> Result<Vec<String>> {
        let numbers: Vec<u32> = (0..count).collect();
        for (part, numbers) in numbers.chunks(NICS_AT_ONCE).enumerate() {
            let resources: Vec<Value> = numbers.iter().map(|n| nth_nic(*n)).collect();
            self.deploy(&format!("nics{part}"), &resources)?;
        }
        let id = |n| network(&format!("networkInterfaces/vm{n}")).to_lowercase();
        Ok(numbers.into_iter().map(id).collect())
    }

    /// Resources made at once, by a template.
    pub(crate) fn deploy(&self, name: &str, resources: &[Value]) -> Result<()> {
        let template = json!({
            "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "contentVersion": "1.0.0.0", "resources": resources });
        self.put(
            &format!("{GROUP}/providers/Microsoft.Resources/deployments/{name}"),
            &json!({ "properties": { "mode": "Incremental", "template": template } }),
        )
    }

    /// Where agents reach the instances.
    pub(crate) fn agent_addresses(&self) -> Result<Vec<SocketAddr>> {
        let answer = self.ask("GET", "/routewright/v1/health", "")?;
        let health: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or_default())?;
        let instances = health["instances"].as_array().into_iter().flatten();
        let urls = instances.filter_map(|instance| instance["agentUrl"].as_str());
        urls.map(|url| Ok(url.trim_start_matches("http://").parse()?)).collect()
    }

    /// When the last session of a peering ended at each instance, by the machine's monotonic clock, in microseconds.
    pub(crate) fn ended_at(&self, peer: u32) -> Result<Vec<u64>> {
        let answer = self.ask("GET", "/routewright/v1/peers", "")?;
        let peers: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or_default())?;
        let name = format!("p{peer}");
        let of_peer = |each: &&Value| each["name"].as_str() == Some(&name);
        let peers = peers.as_array().or(peers["value"].as_array()).into_iter().flatten();
        let ended = peers
            .filter(of_peer)
            .map(|each| each["lastDown"]["monotonicMicros"].as_u64());
        ended.collect::<Option<_>>().context("no session of it has ended")
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<()> {
        self.put_own(&format!("{path}?api-version=2024-05-01"), body)
    }

    /// A path of ours, which has no version.
    pub(crate) fn put_own(&self, path: &str, body: &Value) -> Result<()> {
        self.ask("PUT", path, &body.to_string())?;
        Ok(())
    }

    /// The whole answer, if it is a good one.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let host = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).with_context(|| format!("nobody answers at {host}"))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            bail!("{method} {path}: {answer}");
        }
        Ok(answer)
    }
}

/// A peering with an NVA.
pub(crate) fn peering_body(peer: u32) -> Value {
    json!({ "properties": { "peerIp": address_of(peer), "peerAsn": asn_of(peer) } })
}

/// A network resource in the bench's group.
pub(crate) fn network(resource: &str) -> String {
    format!("{GROUP}/providers/Microsoft.Network/{resource}")
}

/// One of many, as a template says it.
fn nth_nic(n: u32) -> Value {
    let mut resource = nic(Ipv4Addr::from(u32::from_be_bytes([10, 9, 16, 0]) + n));
    resource["type"] = "Microsoft.Network/networkInterfaces".into();
    resource["apiVersion"] = "2024-05-01".into();
    resource["name"] = format!("vm{n}").into();
    resource
}

fn nic(address: Ipv4Addr) -> Value {
    json!({ "location": LOCATION, "properties": { "ipConfigurations": [ {
        "name": "ip", "properties": {
            "privateIPAddress": address, "privateIPAllocationMethod": "Static",
            "subnet": { "id": network("virtualNetworks/hub/subnets/nva") } } } ] } })
}
