//! The ARM API as a user would call it, with nothing but the standard library: a bench needs no HTTP client.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::workload::{address_of, asn_of};

pub(crate) const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/bench";
pub(crate) const LOCATION: &str = "westeurope";

/// The address of the one NIC that [`Api::add_nic`] makes.
pub(crate) const NIC_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 5);

/// NICs are created by so many writers at a time.
const WRITERS: u32 = 8;

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
            &json!({ "properties": { "peerIp": address_of(peer), "peerAsn": asn_of(peer) } }),
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
        let made: Result<Vec<Vec<String>>> = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|first| {
                    scope.spawn(move || {
                        (first..count)
                            .step_by(WRITERS as usize)
                            .map(|n| self.add_nth_nic(n))
                            .collect()
                    })
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().unwrap_or_else(|_| bail!("a writer died")))
                .collect()
        });
        Ok(made?.concat())
    }

    fn add_nth_nic(&self, n: u32) -> Result<String> {
        let id = network(&format!("networkInterfaces/vm{n}"));
        let address = Ipv4Addr::from(u32::from_be_bytes([10, 9, 16, 0]) + n);
        self.put(&id, &nic(address))?;
        Ok(id.to_lowercase())
    }

    /// Where agents reach the instances.
    pub(crate) fn agent_addresses(&self) -> Result<Vec<SocketAddr>> {
        let answer = self.ask("GET", "/routewright/v1/health", "")?;
        let health: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or_default())?;
        let instances = health["instances"].as_array().into_iter().flatten();
        let urls = instances.filter_map(|instance| instance["agentUrl"].as_str());
        urls.map(|url| Ok(url.trim_start_matches("http://").parse()?)).collect()
    }

    fn put(&self, path: &str, body: &Value) -> Result<()> {
        self.ask("PUT", &format!("{path}?api-version=2024-05-01"), &body.to_string())?;
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

/// A network resource in the bench's group.
pub(crate) fn network(resource: &str) -> String {
    format!("{GROUP}/providers/Microsoft.Network/{resource}")
}

fn nic(address: Ipv4Addr) -> Value {
    json!({ "location": LOCATION, "properties": { "ipConfigurations": [ {
        "name": "ip", "properties": {
            "privateIPAddress": address, "privateIPAllocationMethod": "Static",
            "subnet": { "id": network("virtualNetworks/hub/subnets/nva") } } } ] } })
}
