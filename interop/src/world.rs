//! The lab that all scenarios share, and the questions they ask it.
//!
//! ```text
//!   site 10.250.0.10 ── left  (65001, the speaker) ──┐
//!                                                    │   VNet 10.1.0.0/16     ┌── vm1 10.1.10.4
//!   site 10.250.0.10 ┐                               ├── rs: .4 and .5 ───────┤
//!   far  10.252.0.10 ┴─ right (65002, the speaker) ──┤                        └── vm2 10.1.20.4
//!                       observer (65003, builtin) ───┘
//! ```
//!
//! Both NVAs have a host with the same address behind them, so that a prefix can be reached through either. Nothing is announced
//! at first.
//!
//! What outlasts a session has a lab of its own ([`Kind::Outlasting`]): there left restarts gracefully, right is away for longer than it says
//! and then a last resort, and `watched` (10.1.1.7, AS 65004), behind which the site is too, has BFD, if the speaker knows what that is.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path as FilePath;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use lab::topology::{Path, Software};
use lab::{Api, KernelRoute, Lab, Resource, Topology, UpOptions, network_id};
use serde_json::{Value, json};

use crate::speaker::Speaker;

/// What one waits for comes in milliseconds, or after a speaker's retry timer; only a broken build waits so long,
/// also on a machine ten times slower.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// How long a single packet may be under way.
const ROUND_TRIP: Duration = Duration::from_secs(2);

/// The NVAs with the speaker under test.
pub(crate) const LEFT: &str = "left";
pub(crate) const RIGHT: &str = "right";
/// The NVA with the builtin speaker, who hears what is passed on.
pub(crate) const OBSERVER: &str = "observer";
pub(crate) const VMS: [&str; 2] = ["vm1", "vm2"];
/// The one with BFD, in [`Kind::Outlasting`].
pub(crate) const WATCHED: &str = "watched";
/// Their addresses.
pub(crate) const LEFT_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 4));
pub(crate) const RIGHT_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 5));
pub(crate) const WATCHED_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 7));
/// Hosts behind them.
pub(crate) const SITE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 250, 0, 10));
pub(crate) const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 252, 0, 10));
/// Instances per route server.
pub(crate) const INSTANCES: usize = INSTANCE_ADDRESSES.len();
pub(crate) const INSTANCE_ADDRESSES: [&str; 2] = ["10.1.0.4", "10.1.0.5"];
/// The agents' protocol in kernel tables.
const OURS: &str = "routewright";

/// Which lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Sessions as Azure has them.
    Plain,
    /// Sessions that something outlasts, and one that BFD watches.
    Outlasting,
}

/// A lab with its API.
#[derive(Debug)]
pub struct World {
    pub(crate) speaker: Speaker,
    pub(crate) kind: Kind,
    pub(crate) lab: Lab,
    pub(crate) api: Api,
}

impl World {
    pub(crate) fn up(speaker: Speaker, kind: Kind, executable: &FilePath, rootless: bool) -> Result<World> {
        let topology = Topology::parse("matrix.yaml", &topology(speaker, kind))?;
        let options = UpOptions {
            name: format!("matrix-{}-{}", speaker.name(), std::process::id()),
            labs: lab::labs_directory(),
            executable: executable.to_owned(),
            rootless,
            fabric_only: false,
            interrupted: None,
        };
        let up = Lab::up(&topology, &options, &mut |_| {});
        let lab = up.inspect_err(|_| drop(Lab::down(&options.labs, &options.name)))?;
        let api = lab.api()?;
        Ok(World {
            speaker,
            kind,
            lab,
            api,
        })
    }

    /// Everybody runs and is connected, nothing is announced, all settings are the defaults.
    pub(crate) fn calm_down(&mut self) -> Result<()> {
        let nodes = self.lab.topology().nvas.iter().map(|nva| nva.name.clone());
        let nodes: Vec<String> = nodes.collect();
        self.lab.start("manager")?;
        self.expect_api()?;
        for node in nodes.iter().map(String::as_str) {
            self.lab.set_link(node, true)?;
            self.lab.start(node)?;
            // A password that is left out stays.
            self.set(node, json!({ "md5Password": null }))?;
        }
        self.set_route_server(json!({}))?;
        self.branch_to_branch(false)?;
        for node in nodes.iter().map(String::as_str) {
            self.expect_sessions(node)?;
            let announced: Vec<IpNet> = self.lab.state().announced[node].iter().map(|p| p.prefix).collect();
            // ExaBGP forgets to withdraw from a neighbour that it has not told yet.
            self.expect_peer("has told all that it announces", node, |report| {
                report["routesReceived"] == announced.len()
            })?;
            if !announced.is_empty() {
                self.lab.withdraw(node, &announced)?;
            }
        }
        self.eventually("a quiet world", |world| {
            let peers = world.api.peers()?;
            let talking = peers.iter().filter(|p| p.routes_received > 0);
            let mut missing: Vec<String> = talking
                .map(|p| format!("{} still has {} routes", p.name, p.routes_received))
                .collect();
            for vm in VMS {
                missing.extend(world.learned(vm)?.iter().map(|r| format!("{vm} still has {r}")));
            }
            Ok(missing)
        })
    }

    /// Waits until nothing is missing any more.
    pub(crate) fn eventually(&self, what: &str, missing: impl Fn(&World) -> Result<Vec<String>>) -> Result<()> {
        let mut trouble = None;
        let waited = self.lab.wait_until(what, PATIENCE, |_| match missing(self) {
            Ok(missing) => Ok(missing),
            Err(error) => {
                trouble = Some(error);
                Ok(Vec::new())
            }
        });
        match trouble {
            Some(error) => Err(error.context(format!("waiting for {what}"))),
            None => Ok(waited?),
        }
    }

    /// Both sessions of an NVA come up.
    pub(crate) fn expect_sessions(&self, node: &str) -> Result<()> {
        self.eventually(&format!("the sessions of {node}"), |world| {
            let mut peers = world.api.peers()?;
            peers.retain(|p| p.name == node && p.state != "Established");
            if !peers.is_empty() {
                world.hurry(node);
            }
            let down = peers
                .iter()
                .map(|p| format!("{} with instance {}: {:?}", p.state, p.instance, p.last_error));
            Ok(down.collect())
        })
    }

    /// OpenBGPD lets a session that failed rest for half a minute, and longer each time, unless somebody tells it to try now. It may
    /// not be listening yet; then it has nothing to rest from.
    fn hurry(&self, node: &str) {
        if self.speaker.0 == Software::Openbgpd && node != OBSERVER {
            let socket = self.nva_file(node, "bgpd.sock").display().to_string();
            for instance in INSTANCE_ADDRESSES {
                let _ = self
                    .lab
                    .exec(node, &["bgpctl", "-s", &socket, "neighbor", instance, "up"]);
            }
        }
    }

    /// Announces with options.
    pub(crate) fn announce(&mut self, node: &str, path: Path) -> Result<()> {
        Ok(self.lab.announce_paths(node, &[path])?)
    }

    /// Withdraws.
    pub(crate) fn withdraw(&mut self, node: &str, prefix: IpNet) -> Result<()> {
        Ok(self.lab.withdraw(node, &[prefix])?)
    }

    /// Replaces the settings of a peering, but for those that its topology gives it.
    pub(crate) fn set(&self, node: &str, settings: Value) -> Result<()> {
        let path = format!("/routewright/v1{}/settings", peering_id(node));
        let mut own = lab::resources(self.lab.topology())
            .into_iter()
            .find(|r| r.id == path)
            .map_or(json!({}), |r| r.body);
        if let (Value::Object(own), Value::Object(more)) = (&mut own, settings) {
            own.extend(more);
        }
        self.api.put(&path, &own)?;
        Ok(())
    }

    /// Drains an instance, or does not any more.
    pub(crate) fn drain_instance(&self, index: usize, on: bool) -> Result<()> {
        self.api
            .post(&format!("/routewright/v1/instances/{index}/drain?on={on}"))?;
        Ok(())
    }

    /// The manager takes requests.
    pub(crate) fn expect_api(&self) -> Result<()> {
        self.eventually("the API to answer", |world| {
            let asked = world.api.get("/routewright/v1/health");
            Ok(asked.err().map(|error| error.to_string()).into_iter().collect())
        })
    }

    /// Both instances are up and have heard everybody.
    pub(crate) fn expect_converged(&self) -> Result<()> {
        self.eventually("both instances to converge", |world| {
            let health = world.api.get("/routewright/v1/health")?;
            let instances = health["instances"].as_array().into_iter().flatten();
            let not_yet = instances.filter(|it| it["state"] != "up" || it["converging"] != json!(false));
            Ok(not_yet.map(Value::to_string).collect())
        })
    }

    /// Replaces the settings of the route server.
    pub(crate) fn set_route_server(&self, settings: Value) -> Result<()> {
        let id = network_id("virtualHubs/rs");
        self.api.put(&format!("/routewright/v1{id}/settings"), &settings)?;
        Ok(())
    }

    /// Resets the sessions of a peering, or asks for its routes again.
    pub(crate) fn reset(&self, node: &str, soft: bool) -> Result<()> {
        self.api
            .post(&format!("/routewright/v1/peers{}/reset?soft={soft}", peering_id(node)))?;
        Ok(())
    }

    /// Switches `allowBranchToBranchTraffic`.
    pub(crate) fn branch_to_branch(&self, allow: bool) -> Result<()> {
        let id = network_id("virtualHubs/rs");
        let mut hub = lab::resources(self.lab.topology())
            .into_iter()
            .find(|r| r.id == id)
            .context("the lab has a route server")?;
        hub.body["properties"]["allowBranchToBranchTraffic"] = json!(allow);
        let Resource { id, body } = hub;
        Ok(self.api.provision(&Resource { id, body })?)
    }

    /// The verdict of each instance on a peer's route, with the reason where there is one.
    pub(crate) fn verdicts(&self, node: &str, prefix: IpNet) -> Result<Vec<String>> {
        let path = format!(
            "/routewright/v1/routes?routeServer={}&prefix={prefix}",
            network_id("virtualHubs/rs")
        );
        let answer = self.api.get(&path)?;
        let rows = answer["value"].as_array().cloned().unwrap_or_default();
        let own = rows.iter().filter(|r| {
            r["peer"]
                .as_str()
                .is_some_and(|p| p.eq_ignore_ascii_case(&peering_id(node)))
        });
        Ok(own
            .map(|r| {
                [&r["verdict"], &r["reason"]]
                    .into_iter()
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>()
                    .join(": ")
            })
            .collect())
    }

    /// Both instances come to this verdict.
    pub(crate) fn expect_verdict(&self, node: &str, prefix: IpNet, verdict: &str) -> Result<()> {
        self.eventually(&format!("verdict {verdict} on {prefix} from {node}"), |world| {
            let found = world.verdicts(node, prefix)?;
            let agreed = found.len() == INSTANCES && found.iter().all(|v| v.starts_with(verdict));
            Ok((!agreed)
                .then(|| format!("the verdicts are {found:?}"))
                .into_iter()
                .collect())
        })
    }

    /// Neither instance has the route.
    pub(crate) fn expect_no_route(&self, node: &str, prefix: IpNet) -> Result<()> {
        self.eventually(&format!("{node}'s {prefix} to be gone"), |world| {
            world.verdicts(node, prefix)
        })
    }

    /// What a VM's kernel has learned through BGP.
    pub(crate) fn learned(&self, vm: &str) -> Result<Vec<KernelRoute>> {
        let home = net("10.1.0.0/16");
        let mut routes = self.lab.kernel_routes(vm)?;
        routes.retain(|r| {
            r.protocol == OURS && r.prefix.prefix_len() > 8 && !home.contains(&r.prefix) && r.kind == "unicast"
        });
        Ok(routes)
    }

    /// Every VM's kernel sends the prefix to exactly these next hops; none: it has no route.
    pub(crate) fn expect_kernel(&self, prefix: IpNet, next_hops: &[IpAddr]) -> Result<()> {
        let wanted: BTreeSet<String> = next_hops.iter().map(IpAddr::to_string).collect();
        self.eventually(&format!("{prefix} through {next_hops:?} in the VMs"), |world| {
            let mut missing = Vec::new();
            for vm in VMS {
                let routes = world.learned(vm)?;
                let found = routes.iter().filter(|r| r.prefix == prefix).flat_map(|r| &r.hops);
                let found: BTreeSet<String> = found.filter_map(|h| Some(h.via?.to_string())).collect();
                if found != wanted {
                    missing.push(format!("{vm} has {found:?}"));
                }
            }
            Ok(missing)
        })
    }

    /// Packets from every VM to the host are answered, and forwarded by one of these; returns who forwarded for the first VM.
    pub(crate) fn expect_packets(&self, host: IpAddr, through: &[IpAddr]) -> Result<IpAddr> {
        let mut first = None;
        for vm in VMS {
            let used = std::cell::Cell::new(None);
            self.eventually(&format!("packets from {vm} to {host} through {through:?}"), |world| {
                let path = world.lab.trace(vm, host, ROUND_TRIP)?;
                used.set(path.hops.iter().flatten().copied().find(|h| through.contains(h)));
                let fine = path.reached && used.get().is_some();
                Ok((!fine).then(|| format!("{path:?}")).into_iter().collect())
            })?;
            first = first.or(used.get());
        }
        first.context("there are VMs")
    }

    /// The prefixes that both instances tell a peer now.
    pub(crate) fn advertised(&self, node: &str) -> Result<Vec<(IpNet, String)>> {
        let answer = self
            .api
            .get(&format!("/routewright/v1/peers{}/advertised", peering_id(node)))?;
        let rows = answer["value"].as_array().cloned().unwrap_or_default();
        let row = |r: &Value| Some((r["network"].as_str()?.parse().ok()?, r["asPath"].as_str()?.to_owned()));
        Ok(rows.iter().filter_map(row).collect())
    }

    /// Whether an NVA's kernel has a route to the prefix.
    pub(crate) fn nva_has(&self, node: &str, prefix: IpNet) -> Result<bool> {
        Ok(self.lab.kernel_routes(node)?.iter().any(|r| r.prefix == prefix))
    }

    /// What one instance after the other says of a peering.
    pub(crate) fn expect_peer(&self, what: &str, node: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
        self.eventually(&format!("{node} {what}"), |world| {
            let answer = world.api.get(&format!("/routewright/v1/peers{}", peering_id(node)))?;
            let rows = answer["value"].as_array().cloned().unwrap_or_default();
            let fine = rows.len() == INSTANCES && rows.iter().all(&holds);
            if rows.iter().any(|row| row["state"] != "Established") {
                world.hurry(node);
            }
            Ok((!fine).then(|| format!("{rows:?}")).into_iter().collect())
        })
    }

    /// What one instance says of a peering.
    pub(crate) fn expect_instance(
        &self,
        what: &str,
        node: &str,
        instance: usize,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        self.eventually(&format!("instance {instance}: {node} {what}"), |world| {
            let answer = world.api.get(&format!("/routewright/v1/peers{}", peering_id(node)))?;
            let rows = answer["value"].as_array().cloned().unwrap_or_default();
            let fine = rows.iter().any(|r| r["instance"] == instance && holds(r));
            Ok((!fine).then(|| format!("{rows:?}")).into_iter().collect())
        })
    }

    /// A number of each instance's report on a peering, in the order of the instances.
    pub(crate) fn numbers(&self, node: &str, member: &str) -> Result<Vec<u64>> {
        let answer = self.api.get(&format!("/routewright/v1/peers{}", peering_id(node)))?;
        let mut rows = answer["value"].as_array().cloned().unwrap_or_default();
        rows.sort_by_key(|r| r["instance"].as_u64());
        let numbers: Vec<u64> = rows.iter().filter_map(|r| r[member].as_u64()).collect();
        ensure!(numbers.len() == INSTANCES, "{member} of {node}: {answer}");
        Ok(numbers)
    }

    /// A file of an NVA's configuration.
    pub(crate) fn nva_file(&self, node: &str, name: &str) -> std::path::PathBuf {
        self.lab.directory().file("nva").join(node).join(name)
    }

    /// Runs a speaker's tool in its NVA and takes its word.
    pub(crate) fn tool(&self, node: &str, argv: &[&str]) -> Result<String> {
        let output = self.lab.exec(node, argv)?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
            bail!(
                "{}: {}",
                argv.join(" ").chars().take(200).collect::<String>(),
                said.join("\n")
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// All that the processes of a node have logged.
    pub(crate) fn log(&self, node: &str) -> String {
        let logs = self.lab.state().processes_of(node);
        logs.map(|p| fs::read_to_string(&p.spec.log).unwrap_or_default())
            .collect()
    }

    /// The end of the speaker's log, for who reads of a failure.
    pub(crate) fn last_words(&self) -> String {
        const LINES: usize = 15;
        let log = self.log(LEFT);
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "the last words of {LEFT}:\n  {}",
            lines[lines.len().saturating_sub(LINES)..].join("\n  ")
        )
    }
}

impl Drop for World {
    /// `ROUTEWRIGHT_KEEP_LABS` leaves the lab for who wants to look.
    fn drop(&mut self) {
        let name = self.lab.directory().name().to_owned();
        if std::env::var_os("ROUTEWRIGHT_KEEP_LABS").is_some() {
            eprintln!("lab {name} stays: `routewright lab --name {name} status`");
        } else if let Err(error) = Lab::down(&lab::labs_directory(), &name) {
            eprintln!("lab {name} could not be removed: {error}");
        }
    }
}

/// Only a prefix, no options.
pub(crate) fn plain(prefix: IpNet) -> Path {
    Path::plain(prefix)
}

/// A prefix written out.
pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("scenarios are written with valid prefixes")
}

fn peering_id(node: &str) -> String {
    network_id(&format!("virtualHubs/rs/bgpConnections/{node}"))
}

fn topology(speaker: Speaker, kind: Kind) -> String {
    let software = speaker.name();
    let (left, right, watched) = match kind {
        Kind::Plain => (String::new(), String::new(), String::new()),
        Kind::Outlasting => outlasting(speaker),
    };
    format!(
        "
vnets:
  - name: hub
    address_prefixes: [10.1.0.0/16]
    subnets:
      - {{ name: RouteServerSubnet, prefix: 10.1.0.0/27 }}
      - {{ name: nva, prefix: 10.1.1.0/24 }}
      - {{ name: web, prefix: 10.1.10.0/24 }}
      - {{ name: data, prefix: 10.1.20.0/24 }}
route_servers:
  - {{ name: rs, vnet: hub }}
nvas:
  - name: left
    software: {software}
    subnet: hub/nva
    address: {LEFT_ADDRESS}
    asn: 65001
    behind: [{{ name: site-left, address: {SITE}/24 }}]
    {left}
  - name: right
    software: {software}
    subnet: hub/nva
    address: {RIGHT_ADDRESS}
    asn: 65002
    behind:
      - {{ name: site-right, address: {SITE}/24 }}
      - {{ name: far, address: {FAR}/24 }}
    {right}
  - {{ name: observer, subnet: hub/nva, address: 10.1.1.6, asn: 65003 }}
  {watched}
vms:
  - {{ name: vm1, subnet: hub/web, address: 10.1.10.4 }}
  - {{ name: vm2, subnet: hub/data, address: 10.1.20.4 }}
"
    )
}

/// What left and right say of graceful restart, and the NVA with BFD.
fn outlasting(speaker: Speaker) -> (String, String, String) {
    let Speaker(software) = speaker;
    let left = "graceful_restart: { restart_secs: 240 }".to_owned();
    let long_lived = if software.knows_long_lived() {
        ", long_lived_secs: 3600"
    } else {
        ""
    };
    let right = format!("graceful_restart: {{ restart_secs: 2{long_lived} }}");
    // Far from what a busy machine could take for a lost path, and as far from the hold time.
    let watched = format!(
        "- {{ name: watched, software: {}, subnet: hub/nva, address: {WATCHED_ADDRESS}, asn: 65004, \
         bfd: {{ interval_ms: 500, multiplier: 6 }} }}",
        speaker.name()
    );
    let watched = if software.speaks_bfd() { watched } else { String::new() };
    (left, right, watched)
}
