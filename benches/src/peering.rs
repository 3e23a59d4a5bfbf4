//! From the creation of a peering to its sessions: an NVA waits, listening, until both instances have come to it. One peering after the
//! other, as many as a route server of Azure takes.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::network::Network;
use crate::outcome::{Figure, OURS, Outcome, Scenario, Size, percentiles};
use crate::peer::establish;
use crate::speaker::routewright;
use crate::workload::address_of;

/// Azure's limit.
const PEERS: u32 = 8;

/// Sessions of an NVA.
const INSTANCES: usize = 2;

/// Nobody waits longer for a session.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures each peering.
pub(crate) fn run() -> Result<Outcome> {
    eprintln!("Peering: created → Established with both instances, {PEERS} times");
    let network = Network::new(PEERS)?;
    let (_speaker, api) = routewright::start(&network, 0)?;
    let mut times_ms = Vec::new();
    for peer in 0..PEERS {
        let established = waiting_nva(&network, peer)?;
        let started = Instant::now();
        api.add_peering(peer)?;
        for _ in 0..INSTANCES {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let result = established.recv_timeout(left).context("no session came up")?;
            result.with_context(|| format!("peer {peer}"))?;
        }
        times_ms.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    times_ms.sort_by(f64::total_cmp);
    let [p50, _, max] = percentiles(&times_ms);
    let mut outcome = Outcome::new(Scenario::Peering, OURS, [(Size::Peers, PEERS.into())]);
    outcome.set_all([Figure::EstablishedP50Ms, Figure::EstablishedMaxMs], [p50, max]);
    Ok(outcome)
}

/// Starts an NVA, which says when each of its sessions is Established. It keeps them until the program ends.
fn waiting_nva(network: &Network, peer: u32) -> Result<mpsc::Receiver<Result<()>>> {
    let address = SocketAddr::new(address_of(peer).into(), 179);
    let listener = thread::scope(|scope| {
        let listening = scope.spawn(|| {
            network.enter_load()?;
            Ok(TcpListener::bind(address)?)
        });
        listening.join().unwrap_or_else(|_| bail!("the listening thread died"))
    })?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut sessions = Vec::new();
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            if sender.send(establish(&mut stream, peer)).is_err() {
                return;
            }
            sessions.push(stream);
        }
    });
    Ok(receiver)
}
