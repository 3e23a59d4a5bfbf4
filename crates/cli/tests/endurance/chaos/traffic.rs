//! Packets from VMs to the site, one way: what counts is that they get there, over whichever NVA.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::{Lab, Namespace};
use nix::sys::socket::{setsockopt, sockopt};

use crate::world::VMS;

/// Every host behind an NVA has it.
pub const SITE: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 10);
const PORT: u16 = 7_000;
/// Between two packets of a VM.
const PACE: Duration = Duration::from_millis(4);
/// Flows of a VM, which equal next hops share.
const FLOWS: usize = 8;
/// What was sent last is on its way no longer than that.
const UNDER_WAY: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A packet says which VM sent it, and its number.
const LENGTH: usize = 9;
/// Bursts of a machine that was busy elsewhere.
const RECEIVE_BUFFER: usize = 8 << 20;

/// The packets of a VM since somebody last wanted to know.
#[derive(Default)]
struct Packets {
    /// The first one's number.
    first: usize,
    /// When each was sent, and whether it has arrived.
    sent: Vec<(Instant, bool)>,
}

type Ledger = Mutex<Packets>;

/// Packets that flow until it is dropped.
pub struct Traffic {
    ledgers: Arc<[Ledger; VMS.len()]>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// From all VMs to the hosts of these names.
    pub fn start(lab: &Lab, hosts: &[String]) -> Traffic {
        let mut traffic = Traffic {
            ledgers: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for host in hosts {
            let socket = socket(&lab.namespace(host).unwrap(), SocketAddr::from((SITE, PORT)));
            let (ledgers, stop) = (traffic.ledgers.clone(), traffic.stop.clone());
            traffic
                .threads
                .push(thread::spawn(move || receive(&socket, &ledgers, &stop)));
        }
        for (number, vm) in VMS.iter().enumerate() {
            let namespace = lab.namespace(vm.name).unwrap();
            let own = SocketAddr::from((vm.address, 0));
            let sockets: Vec<UdpSocket> = (0..FLOWS).map(|_| socket(&namespace, own)).collect();
            let (ledgers, stop) = (traffic.ledgers.clone(), traffic.stop.clone());
            traffic
                .threads
                .push(thread::spawn(move || send(&sockets, number, &ledgers[number], &stop)));
        }
        traffic
    }

    /// Forgets all packets so far; those that are under way count no more.
    pub fn forget(&self) {
        for ledger in self.ledgers.iter() {
            let mut packets = ledger.lock().unwrap();
            packets.first += packets.sent.len();
            packets.sent.clear();
        }
    }

    /// When each packet of a VM so far was sent, and whether it has arrived, once none is under way any more.
    pub fn so_far(&self, vm: usize) -> Vec<(Instant, bool)> {
        let until = Instant::now();
        loop {
            let packets: Vec<(Instant, bool)> = {
                let packets = self.ledgers[vm].lock().unwrap();
                let so_far = packets.sent.iter().take_while(|(sent, _)| *sent <= until);
                so_far.copied().collect()
            };
            if packets
                .iter()
                .all(|(sent, arrived)| *arrived || sent.elapsed() > UNDER_WAY)
            {
                return packets;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn send(sockets: &[UdpSocket], vm: usize, ledger: &Ledger, stop: &AtomicBool) {
    let mut next = Instant::now();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let mut packet = [0; LENGTH];
        packet[0] = vm as u8;
        packet[1..].copy_from_slice(&u64::to_be_bytes(number));
        ledger.lock().unwrap().sent.push((Instant::now(), false));
        // Without a route it is lost, too.
        let _ = sockets[number as usize % sockets.len()].send_to(&packet, (SITE, PORT));
        next += PACE;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn receive(socket: &UdpSocket, ledgers: &[Ledger; VMS.len()], stop: &AtomicBool) {
    let mut packet = [0; LENGTH];
    while !stop.load(Ordering::Relaxed) {
        let Ok(LENGTH) = socket.recv(&mut packet) else { continue };
        let number = u64::from_be_bytes(packet[1..].try_into().unwrap()) as usize;
        let Some(ledger) = ledgers.get(usize::from(packet[0])) else {
            continue;
        };
        let mut packets = ledger.lock().unwrap();
        let index = number.checked_sub(packets.first);
        if let Some((_, arrived)) = index.and_then(|index| packets.sent.get_mut(index)) {
            *arrived = true;
        }
    }
}

/// A socket stays in the namespace that it was made in.
fn socket(namespace: &Namespace, local: SocketAddr) -> UdpSocket {
    let socket = namespace.run(|| UdpSocket::bind(local)).unwrap();
    socket.set_read_timeout(Some(LOOK_AGAIN)).unwrap();
    // Beyond the system's limit, if we may.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
    socket
}
