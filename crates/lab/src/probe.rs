//! Packets that show where traffic goes: ICMP echo, and its path by growing TTL. No `ping` binary needed.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const ICMP_HEADER: usize = 8;
/// More hops than any topology has.
const MAX_HOPS: u8 = 8;

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// Who forwarded, in order; `None` where nobody said.
    pub hops: Vec<Option<Ipv4Addr>>,
    /// Whether the target answered.
    pub reached: bool,
    /// The answer's round trip, microseconds.
    pub round_trip_us: Option<u64>,
}

/// Sends one echo request from a namespace and waits for the answer; returns its round trip.
pub(crate) fn ping(from: &Namespace, to: Ipv4Addr, patience: Duration) -> io::Result<Option<Duration>> {
    from.run(|| match Prober::new(to)?.probe(64, patience)? {
        Some(Answer {
            reached: true, after, ..
        }) => Ok(Some(after)),
        _ => Ok(None),
    })
}

/// Finds the way from a namespace to an address, waiting `patience` for each hop.
pub(crate) fn trace(from: &Namespace, to: Ipv4Addr, patience: Duration) -> io::Result<Path> {
    from.run(|| {
        let mut prober = Prober::new(to)?;
        let mut hops = Vec::new();
        for ttl in 1..=MAX_HOPS {
            match prober.probe(ttl, patience)? {
                Some(Answer {
                    reached: true, after, ..
                }) => {
                    return Ok(Path {
                        hops,
                        reached: true,
                        round_trip_us: Some(u64::try_from(after.as_micros()).unwrap_or(u64::MAX)),
                    });
                }
                Some(answer) => hops.push(Some(answer.from)),
                None => hops.push(None),
            }
            // Two silent hops in a row: nobody is there.
            if hops.ends_with(&[None, None]) {
                break;
            }
        }
        Ok(Path {
            hops,
            reached: false,
            round_trip_us: None,
        })
    })
}

struct Answer {
    from: Ipv4Addr,
    reached: bool,
    after: Duration,
}

struct Prober {
    socket: Socket,
    to: Ipv4Addr,
    identifier: u16,
    sequence: u16,
}

impl Prober {
    fn new(to: Ipv4Addr) -> io::Result<Prober> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        // Threads of one process probe at once, and every raw socket hears all answers.
        let thread = nix::unistd::gettid().as_raw();
        Ok(Prober {
            socket,
            to,
            identifier: (thread & 0xffff) as u16,
            sequence: 0,
        })
    }

    fn probe(&mut self, ttl: u8, patience: Duration) -> io::Result<Option<Answer>> {
        self.sequence += 1;
        self.socket.set_ttl_v4(u32::from(ttl))?;
        let start = Instant::now();
        let target = SocketAddrV4::new(self.to, 0);
        match self
            .socket
            .send_to(&echo_request(self.identifier, self.sequence), &target.into())
        {
            Err(e) if e.raw_os_error().is_some_and(|code| NO_ROUTE.contains(&code)) => return Ok(None),
            sent => sent?,
        };
        loop {
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let mut buffer = [MaybeUninit::<u8>::uninit(); 1500];
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            // SAFETY: the kernel has written that many bytes.
            let packet: Vec<u8> = buffer[..length].iter().map(|b| unsafe { b.assume_init() }).collect();
            if let Some((from, reached)) = self.judge(&packet) {
                return Ok(Some(Answer {
                    from,
                    reached,
                    after: start.elapsed(),
                }));
            }
        }
    }

    /// Whether a packet answers our last request, and from where.
    fn judge(&self, packet: &[u8]) -> Option<(Ipv4Addr, bool)> {
        let (from, icmp) = split_ip(packet)?;
        match *icmp.first()? {
            ECHO_REPLY => self.is_ours(icmp).then_some((from, true)),
            // The packet that died comes back inside.
            TIME_EXCEEDED => {
                let (_, inner) = split_ip(icmp.get(ICMP_HEADER..)?)?;
                (*inner.first()? == ECHO_REQUEST && self.is_ours(inner)).then_some((from, false))
            }
            _ => None,
        }
    }

    fn is_ours(&self, icmp: &[u8]) -> bool {
        let expected = [self.identifier.to_be_bytes(), self.sequence.to_be_bytes()].concat();
        icmp.get(4..8) == Some(&expected[..])
    }
}

/// The kernel knows no way, or knows that there is none.
const NO_ROUTE: [i32; 4] = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EINVAL, libc::ENETDOWN];

/// An ICMP echo request (RFC 792) with some payload.
fn echo_request(identifier: u16, sequence: u16) -> Vec<u8> {
    let mut packet = vec![ECHO_REQUEST, 0, 0, 0];
    packet.extend(identifier.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(*b"routewright lab.");
    let checksum = checksum(&packet);
    packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 packet's source and what it carries.
fn split_ip(packet: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let source = packet.get(12..16)?;
    let source = Ipv4Addr::new(source[0], source[1], source[2], source[3]);
    Some((source, packet.get(header..)?))
}
