//! Workload A, step by step: converge, single updates, the death of a peer, withdraw all.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bgp::Family;
use bgp::wire::{PathAttributes, pack_announcement, pack_withdrawal};
use bytes::BytesMut;
use socket2::{Domain, Socket, Type};

use crate::device::{Device, Kind};
use crate::network::Network;
use crate::peer::{Holding, Receiver, establish};
use crate::workload::{ENCODE, Workload, address_of, device, prefix};

/// Nothing takes longer; a step that does has failed.
const PATIENCE: Duration = Duration::from_secs(180);
/// Single updates measured.
const PROBES: usize = 300;

struct Figures {
    name: &'static str,
    converged: f64,
    cpu: f64,
    rss_mib: f64,
    bytes_per_path: f64,
    latency_ms: [f64; 3],
    death: f64,
    withdraw: f64,
    rss_after_mib: f64,
}

/// Runs the workload against every speaker in turn and prints them side by side.
pub(crate) fn run(workload: Workload, only: Option<&str>) -> Result<()> {
    println!(
        "workload A: {} peers × {} prefixes, all overlapping",
        workload.peers, workload.prefixes
    );
    let mut rows = Vec::new();
    for kind in [Kind::Routewright, Kind::Bird] {
        if only.is_none_or(|only| kind.name().to_lowercase().contains(&only.to_lowercase())) {
            rows.push(measure(kind, workload).with_context(|| format!("{} failed", kind.name()))?);
        }
    }
    println!(
        "{:<12} {:>10} {:>7} {:>8} {:>7} {:>24} {:>9} {:>10} {:>9}",
        "", "converged", "CPU", "RSS", "B/path", "one update p50/p99/max", "death", "withdraw", "RSS after"
    );
    for row in &rows {
        let [p50, p99, max] = row.latency_ms;
        println!(
            "{:<12} {:>8.2} s {:>5.1} s {:>4.0} MiB {:>7.0} {:>24} {:>7.2} s {:>8.2} s {:>5.0} MiB",
            row.name,
            row.converged,
            row.cpu,
            row.rss_mib,
            row.bytes_per_path,
            format!("{p50:.2}/{p99:.2}/{max:.2} ms"),
            row.death,
            row.withdraw,
            row.rss_after_mib
        );
    }
    if let [ours, bird] = &rows[..] {
        println!(
            "converged {:.1} times as fast as BIRD 2",
            bird.converged / ours.converged
        );
    }
    Ok(())
}

struct Load {
    streams: Vec<TcpStream>,
    holdings: Vec<Arc<Holding>>,
    stop: Arc<AtomicBool>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// All peers Established, a receiver running for each.
    fn establish(network: &Network, workload: Workload) -> Result<Load> {
        let mut load = Load {
            streams: Vec::new(),
            holdings: Vec::new(),
            stop: Arc::default(),
            readers: Vec::new(),
        };
        thread::scope(|scope| {
            scope
                .spawn(|| -> Result<()> {
                    network.enter_load()?;
                    for peer in 0..workload.peers {
                        load.streams.push(connect(peer)?);
                    }
                    Ok(())
                })
                .join()
                .unwrap_or_else(|_| bail!("the load thread died"))
        })?;
        for peer in 0..workload.peers {
            let stream = load.streams[peer as usize].try_clone()?;
            load.start_receiver(workload, peer, stream);
        }
        Ok(load)
    }

    fn start_receiver(&mut self, workload: Workload, peer: u32, stream: TcpStream) {
        let expected = (0..workload.prefixes)
            .map(|number| workload.winner(number, None))
            .collect();
        let holding = Arc::new(Holding::default());
        self.holdings.push(holding.clone());
        let stop = self.stop.clone();
        self.readers.push(thread::spawn(move || {
            Receiver::new(stream, holding, peer, expected).run(&stop)
        }));
    }

    fn send_all(&self, tables: &[Vec<u8>]) -> Result<()> {
        thread::scope(|scope| {
            let writers: Vec<_> = self
                .streams
                .iter()
                .zip(tables)
                .map(|(stream, table)| {
                    scope.spawn(move || {
                        let mut stream = stream;
                        stream.write_all(table)
                    })
                })
                .collect();
            for writer in writers {
                writer.join().map_err(|_| anyhow::anyhow!("a writer died"))??;
            }
            Ok(())
        })
    }

    fn wait(&self, what: &str, done: impl Fn(usize, &Holding) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self
            .holdings
            .iter()
            .enumerate()
            .all(|(peer, holding)| done(peer, holding))
        {
            if Instant::now() > deadline {
                let state: Vec<String> = self
                    .holdings
                    .iter()
                    .map(|h| format!("{}/{}", h.right.load(Ordering::Acquire), h.held.load(Ordering::Acquire)))
                    .collect();
                bail!(
                    "{what} took more than {PATIENCE:?}; right/held per peer: {}",
                    state.join(" ")
                );
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

fn connect(peer: u32) -> Result<TcpStream> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match try_connect(peer) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() > deadline => return Err(e),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn try_connect(peer: u32) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(address_of(peer).into(), 0).into())?;
    socket.connect_timeout(&SocketAddr::new(device(), 179).into(), Duration::from_secs(2))?;
    socket.set_tcp_nodelay(true)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    establish(&mut stream, peer)?;
    Ok(stream)
}

fn measure(kind: Kind, workload: Workload) -> Result<Figures> {
    let network = Network::new(workload.peers)?;
    let device = Device::start(kind, &network, workload.peers)?;
    let tables: Vec<Vec<u8>> = (0..workload.peers).map(|peer| workload.encode_table(peer)).collect();
    let load = Load::establish(&network, workload)?;
    let (idle_mib, _) = device.memory_mib()?;
    let cpu_before = device.cpu_secs()?;

    let wanted: Vec<u32> = (0..workload.peers)
        .map(|p| workload.prefixes - workload.best_through(p))
        .collect();
    let started = Instant::now();
    load.send_all(&tables)?;
    load.wait("convergence", |peer, holding| {
        holding.right.load(Ordering::Acquire) == wanted[peer]
    })?;
    let converged = started.elapsed().as_secs_f64();
    let cpu = device.cpu_secs()? - cpu_before;
    let (rss_mib, _) = device.memory_mib()?;
    let paths = f64::from(workload.peers) * f64::from(workload.prefixes);
    let bytes_per_path = (rss_mib - idle_mib) * 1_048_576.0 / paths;

    let latency_ms = probe(&load, workload)?;

    // Peer 0 dies: the others lose what was best through it, and get the second best.
    let lost = workload.best_through(0);
    let started = Instant::now();
    load.streams[0].shutdown(std::net::Shutdown::Both)?;
    load.wait("moving a dead peer's routes", |peer, holding| {
        // Peer 1 is itself second best for all of them.
        let held = workload.prefixes - workload.best_through(peer as u32) - if peer == 1 { lost } else { 0 };
        peer == 0
            || (holding.right.load(Ordering::Acquire) == wanted[peer] - lost
                && holding.held.load(Ordering::Acquire) == held)
    })?;
    let death = started.elapsed().as_secs_f64();

    let withdrawal = workload.encode_withdrawal();
    let started = Instant::now();
    for stream in &load.streams[1..] {
        let mut stream = stream;
        stream.write_all(&withdrawal)?;
    }
    load.wait("withdrawing all", |peer, holding| {
        peer == 0 || holding.held.load(Ordering::Acquire) == 0
    })?;
    let withdraw = started.elapsed().as_secs_f64();
    let (rss_after_mib, _) = device.memory_mib()?;

    Ok(Figures {
        name: kind.name(),
        converged,
        cpu,
        rss_mib,
        bytes_per_path,
        latency_ms,
        death,
        withdraw,
        rss_after_mib,
    })
}

/// Single announcements and withdrawals by peer 0, until the last other peer has seen each: p50, p99, max in ms.
fn probe(load: &Load, workload: Workload) -> Result<[f64; 3]> {
    let attributes = PathAttributes::builder(address_of(0).into())
        .as_sequence(&[bgp::Asn(60_000)])
        .build();
    let mut times = Vec::with_capacity(PROBES);
    for round in 0..PROBES as u32 {
        let number = workload.prefixes + 1 + round / 2;
        let mut out = BytesMut::new();
        let expected = if round % 2 == 0 {
            pack_announcement(&mut out, ENCODE, &attributes, Family::Ipv4Unicast, [prefix(number)]);
            number
        } else {
            pack_withdrawal(&mut out, ENCODE, Family::Ipv4Unicast, [prefix(number)]);
            0
        };
        let started = Instant::now();
        let mut stream = &load.streams[0];
        stream.write_all(&out)?;
        let deadline = started + Duration::from_secs(10);
        while !load.holdings[1..]
            .iter()
            .all(|h| h.probe.load(Ordering::Acquire) == expected)
        {
            if Instant::now() > deadline {
                bail!("a single update took more than 10 s");
            }
            std::hint::spin_loop();
            thread::yield_now();
        }
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok([
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1],
    ])
}
