//! Two hundred peers are reset at once, each by what it sends itself, and come back at once: how long until all have their sessions again.
//! Manager and instances run as users run them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::load::connect_from;
use crate::network::Network;
use crate::outcome::{Figure, OURS, Outcome, Scenario, Size, percentiles};
use crate::speaker::routewright;
use crate::workload::device;

pub(crate) const PEERS: u32 = 200;
/// The first offence costs a peer nothing, each of the following ones a second.
const ROUNDS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(30);

/// An UPDATE with a well-known attribute that nobody knows (RFC 4271 §6.3): type 99, without a value.
const OFFENCE: [u8; 26] = [
    0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 26, 2, 0, 0, 0,
    3, 0x40, 99, 0,
];

/// Measures each peer in each round.
pub(crate) fn run() -> Result<Outcome> {
    eprintln!("Reset: {PEERS} peers at once, {ROUNDS} times");
    let network = Network::new(PEERS)?;
    let (_speaker, _api) = routewright::start(&network, PEERS)?;
    let all_up = Barrier::new(PEERS as usize);
    let of_peers: Vec<Vec<f64>> = thread::scope(|scope| {
        let peers: Vec<_> = (0..PEERS)
            .map(|peer| {
                let (network, all_up) = (&network, &all_up);
                scope.spawn(move || rounds(network, peer, all_up))
            })
            .collect();
        let of_peer =
            |peer: thread::ScopedJoinHandle<'_, _>| peer.join().unwrap_or_else(|_| Err(anyhow!("a peer died")));
        peers.into_iter().map(of_peer).collect::<Result<_>>()
    })?;
    let mut times_ms: Vec<f64> = of_peers.into_iter().flatten().collect();
    times_ms.sort_by(f64::total_cmp);
    let [p50, _, max] = percentiles(&times_ms);
    let sizes = [(Size::Peers, PEERS.into()), (Size::Rounds, ROUNDS)];
    let mut outcome = Outcome::new(Scenario::Reset, OURS, sizes);
    outcome.set_all([Figure::RecoveredP50Ms, Figure::RecoveredMaxMs], [p50, max]);
    Ok(outcome)
}

/// One peer's times, milliseconds. All wait for each other, or none of them: one that fails must not leave the others waiting.
fn rounds(network: &Network, peer: u32, all_up: &Barrier) -> Result<Vec<f64>> {
    let to = SocketAddr::new(device(), 179);
    let mut stream = connect_from(network, peer, to);
    let mut times_ms = Vec::new();
    for _ in 0..ROUNDS {
        all_up.wait();
        let started = Instant::now();
        stream = stream.and_then(|stream| {
            is_ended(stream).with_context(|| format!("peer {peer}"))?;
            connect_from(network, peer, to)
        });
        times_ms.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    stream.map(|_| times_ms)
}

/// Offends, and reads until the speaker closes.
fn is_ended(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&OFFENCE)?;
    let mut rest = [0; 4096];
    while stream.read(&mut rest).context("the session was not ended")? > 0 {}
    Ok(())
}
