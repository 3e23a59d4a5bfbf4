//! The floor: a speaker that routes nothing. It reads every table to its end and then writes answers that were encoded beforehand;
//! nothing can be faster in this harness.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;

use crate::network::Network;
use crate::peer::accept;
use crate::speaker::Speaker;
use crate::workload::{DEVICE, Shape, Workload, address_of};

/// As much as our instance reads at once.
const READ_BYTES: usize = 256 << 10;

/// Starts this executable again, as the floor, in the speaker's namespace.
pub(crate) fn start(network: &Network, workload: Workload) -> Result<Speaker> {
    let program = std::env::current_exe()?;
    let shape = match workload.shape {
        Shape::Overlap => "overlap",
        Shape::FanOut => "fan-out",
    };
    let child = network
        .device_command(&program.to_string_lossy())
        .args(["floor", "--shape", shape])
        .args([
            "--peers",
            &workload.peers.to_string(),
            "--prefixes",
            &workload.prefixes.to_string(),
        ])
        .stderr(Stdio::inherit())
        .spawn()
        .context("cannot start the floor")?;
    Ok(Speaker::of_child(child, TempDir::new()?))
}

/// The floor itself.
pub(crate) fn run(workload: Workload) -> Result<()> {
    let answers: Vec<Vec<u8>> = (0..workload.peers).map(|peer| workload.encode_answer(peer)).collect();
    let tables: Vec<usize> = (0..workload.peers)
        .map(|peer| workload.encode_table(peer).len())
        .collect();
    let listener = TcpListener::bind((DEVICE, 179))?;
    let all_read = Barrier::new(workload.peers as usize);
    thread::scope(|scope| -> Result<()> {
        let mut serving = Vec::new();
        for _ in 0..workload.peers {
            let (stream, from) = listener.accept()?;
            let IpAddr::V4(from) = from.ip() else { continue };
            let peer = number_of(from);
            let (table, answer, all_read) = (tables[peer], &answers[peer], &all_read);
            serving.push(scope.spawn(move || serve(stream, table, answer, all_read)));
        }
        for each in serving {
            each.join().map_err(|_| anyhow!("a floor thread died"))??;
        }
        Ok(())
    })
}

fn number_of(address: Ipv4Addr) -> usize {
    (address.to_bits() - address_of(0).to_bits()) as usize
}

fn serve(mut stream: TcpStream, mut table: usize, answer: &[u8], all_read: &Barrier) -> Result<()> {
    stream.set_nodelay(true)?;
    accept(&mut stream)?;
    let mut buffer = vec![0; READ_BYTES];
    while table > 0 {
        table = table.saturating_sub(stream.read(&mut buffer)?);
    }
    all_read.wait();
    stream.write_all(answer)?;
    // The load closes when it has all.
    while stream.read(&mut buffer)? > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
