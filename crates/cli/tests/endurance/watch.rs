//! Watches a VM's kernel while others are killed: routes that should stay must be there at every moment.
//!
//! Two ways at once: the kernel's own word that a route was deleted (RTM_DELROUTE), and looking at the table again and again,
//! since the kernel says nothing of routes that go with their next hop.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::Ipv4Net;
use lab::Lab;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::model::{Table, from_kernel};

const RTM_DELROUTE: u16 = 25;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
/// Room for bursts: a lost notification would be a lost proof.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);
const MAX_COMPLAINTS: usize = 20;

pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Findings>,
}

#[derive(Default)]
pub struct Findings {
    /// How often the table was read.
    pub looks: usize,
    /// What was missing or otherwise, and when it was seen.
    pub complaints: Vec<String>,
}

impl Watch {
    /// Watches that a node keeps these routes.
    pub fn start(lab: Lab, node: &'static str, stays: Table) -> Watch {
        let socket = lab.namespace(node).unwrap().run(open).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut findings = Findings::default();
            // One look more after the word to stop, so that all that was said by then is heard.
            let mut last = false;
            while !last {
                last = stopped.load(Ordering::Relaxed);
                look(&lab, node, &stays, &mut findings);
                listen(&socket, &stays, &mut findings);
                std::thread::sleep(PAUSE);
            }
            findings
        });
        Watch { stop, thread }
    }

    /// Ends, and fails if a route was away for a moment.
    pub fn finish(self, what: &str) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let findings = self.thread.join().unwrap();
        assert!(
            findings.complaints.is_empty(),
            "{what}:\n{}",
            findings.complaints.join("\n")
        );
        findings.looks
    }
}

impl Findings {
    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < MAX_COMPLAINTS {
            self.complaints.push(complaint);
        }
    }
}

fn open() -> std::io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.add_membership(RTNLGRP_IPV4_ROUTE)?;
    // Not allowed to exceed the system's limit in a user namespace; then the looks are the proof.
    let _ = socket.set_rx_buf_sz(RECEIVE_BUFFER as libc::c_int);
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn look(lab: &Lab, node: &str, stays: &Table, findings: &mut Findings) {
    let kernel = from_kernel(&lab.kernel_routes(node).unwrap());
    findings.looks += 1;
    for (prefix, way) in stays.iter().filter(|(prefix, way)| kernel.get(prefix) != Some(way)) {
        let now = kernel.get(prefix);
        findings.complain(format!(
            "look {}: {prefix} is {now:?}, should stay {way:?}",
            findings.looks
        ));
    }
}

fn listen(socket: &Socket, stays: &Table, findings: &mut Findings) {
    let mut buffer = Vec::with_capacity(64 << 10);
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, 0) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            // More was said than fits: go on with what comes; the looks do not depend on it.
            Err(_) => continue,
        }
        for prefix in deleted(&buffer).into_iter().filter(|prefix| stays.contains_key(prefix)) {
            findings.complain(format!("after look {}: {prefix} was deleted", findings.looks));
        }
    }
}

/// The prefixes of RTM_DELROUTE messages in a datagram (rtnetlink(7): `nlmsghdr`, `rtmsg`, attributes).
fn deleted(mut bytes: &[u8]) -> BTreeSet<Ipv4Net> {
    const NLMSG: usize = 16;
    const RTMSG: usize = 12;
    const RTA_DST: u16 = 1;
    let mut prefixes = BTreeSet::new();
    while bytes.len() >= NLMSG {
        let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        let message = bytes.get(NLMSG..length).unwrap_or_default();
        if kind == RTM_DELROUTE && message.len() >= RTMSG {
            let mut destination = Ipv4Addr::UNSPECIFIED;
            let mut rest = &message[RTMSG..];
            while rest.len() >= 4 {
                let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
                if u16::from_ne_bytes([rest[2], rest[3]]) == RTA_DST && length == 8 {
                    destination = Ipv4Addr::new(rest[4], rest[5], rest[6], rest[7]);
                }
                rest = rest.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
            }
            prefixes.extend(Ipv4Net::new(destination, message[1]));
        }
        bytes = bytes.get(length.max(NLMSG).next_multiple_of(4)..).unwrap_or_default();
    }
    prefixes
}
