//! The ARM API as a user would call it, with nothing but the standard library: a bench needs no HTTP client.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::workload::{address_of, asn_of};

const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/bench";
const LOCATION: &str = "westeurope";

/// The address of the one NIC that [`Api::add_nic`] makes.
pub(crate) const NIC_ADDRESS: &str = "10.9.0.5";

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
        self.put(
            &id,
            &json!({ "location": LOCATION, "properties": { "ipConfigurations": [ {
                "name": "ip", "properties": {
                    "privateIPAddress": NIC_ADDRESS, "privateIPAllocationMethod": "Static",
                    "subnet": { "id": network("virtualNetworks/hub/subnets/nva") } } } ] } }),
        )?;
        Ok(id)
    }

    fn put(&self, path: &str, body: &Value) -> Result<()> {
        let host = self.url.trim_start_matches("http://");
        let body = body.to_string();
        let mut stream = TcpStream::connect(host).with_context(|| format!("nobody answers at {host}"))?;
        write!(
            stream,
            "PUT {path}?api-version=2024-05-01 HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            bail!("PUT {path}: {answer}");
        }
        Ok(())
    }
}

fn network(resource: &str) -> String {
    format!("{GROUP}/providers/Microsoft.Network/{resource}")
}
