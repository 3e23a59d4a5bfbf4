//! The ARM API under load: how long a route server's creation takes, 200 peerings one after another, what 10,000 NICs cost, and reads
//! per second. A subscription larger than any that Azure allows, asked over HTTP by clients that keep their connections.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::api::{GROUP, LOCATION, network};
use crate::network::Network;
use crate::outcome::{Figure, OURS, Outcome, Scenario, Size, percentiles};
use crate::speaker::routewright;

pub(crate) const PEERINGS: u32 = 200;
pub(crate) const NICS: u32 = 10_000;

/// NICs made one at a time where there are few, and again where there are all.
const SINGLE_NICS: u32 = 50;
/// NICs in one deployment.
const DEPLOYED_NICS: u32 = 500;
/// So many clients read at the same time.
const CLIENTS: u32 = 8;
/// Questions for one NIC's routes.
const ROUTE_QUESTIONS: u32 = 50;
const READING: Duration = Duration::from_secs(5);

/// Measures all of it on one server, as it fills.
pub(crate) fn run() -> Result<Outcome> {
    eprintln!("API: a route server, {PEERINGS} peerings, {NICS} NICs, reads");
    let network = Network::new(1)?;
    let (_speaker, api) = routewright::start(&network, 0)?;
    let host = api.url().trim_start_matches("http://").to_owned();
    let mut client = Client::open(&host)?;
    let sizes = [(Size::Peers, PEERINGS.into()), (Size::Nics, NICS.into())];
    let mut outcome = Outcome::new(Scenario::Api, OURS, sizes);
    outcome.set(Figure::CreateMs, create(&mut client)?);
    outcome.set(Figure::PeeringsSecs, peerings(&mut client)?);
    outcome.set(Figure::FewNicsMs, single_nics(&mut client, 0)?);
    fill(&mut client, SINGLE_NICS..NICS - SINGLE_NICS)?;
    outcome.set(Figure::AllNicsMs, single_nics(&mut client, NICS - SINGLE_NICS)?);
    outcome.set(Figure::ListMs, list(&mut client)?);
    let [p50, _, max] = effective_routes(&mut client)?;
    outcome.set_all([Figure::RoutesOfNicP50Ms, Figure::RoutesOfNicMaxMs], [p50, max]);
    outcome.set(Figure::ReadsPerSec, reads_per_sec(&host)?);
    Ok(outcome)
}

/// As `az network routeserver create`: the hub, then its ip configuration, in a virtual network of its own.
fn create(client: &mut Client) -> Result<f64> {
    client.put(
        "virtualNetworks/second",
        &json!({ "location": LOCATION, "properties": {
            "addressSpace": { "addressPrefixes": ["10.200.0.0/16", "10.64.0.0/10"] },
            "subnets": [
                { "name": "RouteServerSubnet", "properties": { "addressPrefix": "10.200.0.0/26" } },
                { "name": "vms", "properties": { "addressPrefix": "10.64.0.0/16" } } ] } }),
    )?;
    client.put(
        "publicIPAddresses/second",
        &json!({ "location": LOCATION, "sku": { "name": "Standard" },
                 "properties": { "publicIPAllocationMethod": "Static" } }),
    )?;
    let started = Instant::now();
    client.put(
        "virtualHubs/second",
        &json!({ "location": LOCATION, "properties": { "sku": "Standard" } }),
    )?;
    client.put(
        "virtualHubs/second/ipConfigurations/Default",
        &json!({ "properties": {
            "subnet": { "id": network("virtualNetworks/second/subnets/RouteServerSubnet") },
            "publicIPAddress": { "id": network("publicIPAddresses/second") } } }),
    )?;
    Ok(millis(started))
}

fn peerings(client: &mut Client) -> Result<f64> {
    let started = Instant::now();
    for peer in 0..PEERINGS {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 200, 1, 0)) + peer);
        client.put(
            &format!("virtualHubs/second/bgpConnections/p{peer}"),
            &json!({ "properties": { "peerIp": address, "peerAsn": 65001 } }),
        )?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// The middle of what single NICs took, from the one with this number.
fn single_nics(client: &mut Client, first: u32) -> Result<f64> {
    let mut times = Vec::new();
    for nic in first..first + SINGLE_NICS {
        let started = Instant::now();
        put_nic(client, nic)?;
        times.push(millis(started));
    }
    times.sort_by(f64::total_cmp);
    let [p50, ..] = percentiles(&times);
    Ok(p50)
}

fn put_nic(client: &mut Client, number: u32) -> Result<()> {
    client.put(&format!("networkInterfaces/vm{number}"), &nic())
}

/// Its address is the first that is free.
fn nic() -> Value {
    let subnet = network("virtualNetworks/second/subnets/vms");
    json!({ "location": LOCATION, "properties": { "ipConfigurations": [
        { "name": "ip", "properties": { "subnet": { "id": subnet } } } ] } })
}

/// The NICs with these numbers, by deployments of templates: whoever has many makes them so.
fn fill(client: &mut Client, nics: Range<u32>) -> Result<()> {
    for first in nics.clone().step_by(DEPLOYED_NICS as usize) {
        let resources: Vec<Value> = (first..nics.end.min(first + DEPLOYED_NICS))
            .map(|number| {
                let mut resource = nic();
                resource["type"] = json!("Microsoft.Network/networkInterfaces");
                resource["apiVersion"] = json!("2024-05-01");
                resource["name"] = json!(format!("vm{number}"));
                resource
            })
            .collect();
        let template = json!({ "contentVersion": "1.0.0.0", "resources": resources });
        let body = json!({ "properties": { "mode": "Incremental", "template": template } });
        let path = format!("{GROUP}/providers/Microsoft.Resources/deployments/from{first}?api-version=2024-11-01");
        client.send("PUT", &path, &body.to_string())?;
    }
    Ok(())
}

/// All pages.
fn list(client: &mut Client) -> Result<f64> {
    let started = Instant::now();
    let mut path = versioned("networkInterfaces");
    let mut found = 0;
    loop {
        let page: Value = serde_json::from_slice(&client.send("GET", &path, "")?)?;
        found += page["value"].as_array().map_or(0, Vec::len);
        match page["nextLink"].as_str() {
            Some(link) => path = path_of(link)?.to_owned(),
            None => break,
        }
    }
    ensure!(found == NICS as usize, "{found} NICs were listed");
    Ok(millis(started))
}

/// The question and its answer, which is another request.
fn effective_routes(client: &mut Client) -> Result<[f64; 3]> {
    let mut times = Vec::new();
    for question in 0..ROUTE_QUESTIONS {
        let nic = question * (NICS / ROUTE_QUESTIONS);
        let started = Instant::now();
        let path = versioned(&format!("networkInterfaces/vm{nic}/effectiveRouteTable"));
        let answer = client.send_and_follow("POST", &path)?;
        times.push(millis(started));
        let answer: Value = serde_json::from_slice(&answer)?;
        let rows = answer["value"].as_array().map_or(0, Vec::len);
        ensure!(rows > 0, "no routes: {answer}");
    }
    times.sort_by(f64::total_cmp);
    Ok(percentiles(&times))
}

/// Reads of every kind that clients make often, as fast as they are answered.
fn reads_per_sec(host: &str) -> Result<f64> {
    let resources = [
        "virtualHubs/second",
        "virtualHubs/second/bgpConnections/p7",
        "virtualHubs/second/ipConfigurations",
        "networkInterfaces/vm0",
        "publicIPAddresses/second",
        "routeTables",
        "virtualHubs",
    ];
    let mut paths: Vec<String> = resources.iter().map(|resource| versioned(resource)).collect();
    paths.push(format!("{}&$top=20", versioned("networkInterfaces")));
    paths.push(format!("{GROUP}?api-version=2024-11-01"));
    paths.push("/routewright/v1/health".to_owned());
    let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(READING);
            over.store(true, Ordering::Relaxed);
        });
        at_once(|_| {
            let mut client = Client::open(host)?;
            for path in paths.iter().cycle().take_while(|_| !over.load(Ordering::Relaxed)) {
                client.send("GET", path, "")?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    })?;
    Ok(count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64())
}

/// Every client does it, all at the same time.
fn at_once(work: impl Fn(u32) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let work = &work;
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || work(number))).collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().unwrap_or_else(|_| bail!("a client died")))
    })
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn versioned(resource: &str) -> String {
    format!("{}?api-version=2024-05-01", network(resource))
}

/// Of a URL that a server gives.
fn path_of(url: &str) -> Result<&str> {
    let at = url.find("/subscriptions").context("an odd URL")?;
    Ok(&url[at..])
}

/// HTTP/1.1 with keep-alive: just enough to measure with.
struct Client {
    stream: BufReader<TcpStream>,
    host: String,
}

/// What was answered.
struct Answer {
    status: u16,
    location: Option<String>,
    body: Vec<u8>,
}

impl Client {
    fn open(host: &str) -> Result<Client> {
        let stream = TcpStream::connect(host).with_context(|| format!("nobody answers at {host}"))?;
        stream.set_nodelay(true)?;
        Ok(Client {
            stream: BufReader::new(stream),
            host: host.to_owned(),
        })
    }

    fn put(&mut self, resource: &str, body: &Value) -> Result<()> {
        self.send("PUT", &versioned(resource), &body.to_string()).map(drop)
    }

    /// The body of an answer that is no refusal.
    fn send(&mut self, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
        let answer = self.ask(method, path, body)?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(
            (200..300).contains(&answer.status),
            "{method} {path}: {} {text}",
            answer.status
        );
        Ok(answer.body)
    }

    /// The result of a long-running question.
    fn send_and_follow(&mut self, method: &str, path: &str) -> Result<Vec<u8>> {
        let mut answer = self.ask(method, path, "")?;
        while answer.status == 202 {
            let location = answer.location.context("202 without Location")?;
            answer = self.ask("GET", path_of(&location)?, "")?;
        }
        ensure!(answer.status == 200, "{method} {path}: {}", answer.status);
        Ok(answer.body)
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut answer = Answer {
            status: status.with_context(|| format!("no answer: {line:?}"))?,
            location: None,
            body: Vec::new(),
        };
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse()?,
                "location" => answer.location = Some(value.to_owned()),
                _ => {}
            }
        }
        answer.body.resize(length, 0);
        self.stream.read_exact(&mut answer.body)?;
        Ok(answer)
    }
}
