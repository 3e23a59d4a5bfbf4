//! Packets that show where traffic goes: ICMP echo, and its path by growing TTL. No `ping` binary needed.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;

const ICMP_HEADER: usize = 8;
const IPV6_HEADER: usize = 40;
/// More hops than any topology has.
const MAX_HOPS: u8 = 8;
/// After so long a packet or its answer is taken for lost.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// Who forwarded, in order; `None` where nobody said.
    pub hops: Vec<Option<IpAddr>>,
    /// Whether the target answered.
    pub reached: bool,
    /// The answer's round trip, microseconds.
    pub round_trip_us: Option<u64>,
}

/// Sends one echo request from a namespace and waits for the answer; returns its round trip.
pub(crate) fn ping(from: &Namespace, to: IpAddr, patience: Duration) -> io::Result<Option<Duration>> {
    from.run(|| match Prober::new(to)?.probe(64, patience)? {
        Some(Answer {
            reached: true, after, ..
        }) => Ok(Some(after)),
        _ => Ok(None),
    })
}

/// Finds the way from a namespace to an address, waiting `patience` for each hop.
pub(crate) fn trace(from: &Namespace, to: IpAddr, patience: Duration) -> io::Result<Path> {
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

/// ICMP of a family: its type numbers (RFC 792, RFC 4443).
#[derive(Clone, Copy)]
struct Icmp {
    echo_request: u8,
    echo_reply: u8,
    time_exceeded: u8,
}

const ICMP_V4: Icmp = Icmp {
    echo_request: 8,
    echo_reply: 0,
    time_exceeded: 11,
};
const ICMP_V6: Icmp = Icmp {
    echo_request: 128,
    echo_reply: 129,
    time_exceeded: 3,
};

struct Answer {
    from: IpAddr,
    reached: bool,
    after: Duration,
}

enum Sent {
    OnItsWay,
    NoWay,
}

enum Heard {
    Answer(Answer),
    Nothing,
    /// Somebody knows that there is no way.
    NoWay,
}

struct Prober {
    socket: Socket,
    to: IpAddr,
    icmp: Icmp,
    identifier: u16,
    sequence: u16,
    /// What was sent for the hop that is looked for, and when.
    sent: Vec<(u16, Instant)>,
}

impl Prober {
    fn new(to: IpAddr) -> io::Result<Prober> {
        let (domain, protocol, icmp) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, ICMP_V4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, ICMP_V6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        // Threads of one process probe at once, and every raw socket hears all answers.
        let thread = nix::unistd::gettid().as_raw();
        Ok(Prober {
            socket,
            to,
            icmp,
            identifier: (thread & 0xffff) as u16,
            sequence: 0,
            sent: Vec::new(),
        })
    }

    /// Asks until somebody answers, since one packet may be lost and routers answer only so often (RFC 1812 §4.3.2.8).
    fn probe(&mut self, ttl: u8, patience: Duration) -> io::Result<Option<Answer>> {
        match self.to {
            IpAddr::V4(_) => self.socket.set_ttl_v4(u32::from(ttl))?,
            IpAddr::V6(_) => self.socket.set_unicast_hops_v6(u32::from(ttl))?,
        }
        let deadline = Instant::now() + patience;
        self.sent.clear();
        while Instant::now() < deadline {
            let heard = match self.send()? {
                Sent::OnItsWay => self.hear(deadline.min(Instant::now() + ASK_AGAIN))?,
                Sent::NoWay => Heard::NoWay,
            };
            match heard {
                Heard::Answer(answer) => return Ok(Some(answer)),
                Heard::NoWay => return Ok(None),
                Heard::Nothing => {}
            }
        }
        Ok(None)
    }

    fn send(&mut self) -> io::Result<Sent> {
        self.sequence = self.sequence.wrapping_add(1);
        self.sent.push((self.sequence, Instant::now()));
        let request = echo_request(self.icmp.echo_request, self.identifier, self.sequence);
        match self.socket.send_to(&request, &SocketAddr::new(self.to, 0).into()) {
            Ok(_) => Ok(Sent::OnItsWay),
            Err(error) if is_no_route(&error) => Ok(Sent::NoWay),
            Err(error) => Err(error),
        }
    }

    fn hear(&self, until: Instant) -> io::Result<Heard> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Heard::Nothing);
            }
            self.socket.set_read_timeout(Some(left))?;
            let mut buffer = [MaybeUninit::<u8>::uninit(); 1500];
            let (length, sender) = match self.socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(Heard::Nothing);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // IPv6 says so on the socket when somebody knows no way.
                Err(e) if is_no_route(&e) => return Ok(Heard::NoWay),
                Err(e) => return Err(e),
            };
            // SAFETY: the kernel has written that many bytes.
            let packet: Vec<u8> = buffer[..length].iter().map(|b| unsafe { b.assume_init() }).collect();
            let sender = sender.as_socket().map(|address| address.ip());
            if let Some(answer) = sender.and_then(|sender| self.judge(sender, &packet)) {
                return Ok(Heard::Answer(answer));
            }
        }
    }

    /// What a packet says if it answers one of our requests. Raw sockets are told the header of IPv4, not that of IPv6.
    fn judge(&self, from: IpAddr, packet: &[u8]) -> Option<Answer> {
        let icmp = match self.to {
            IpAddr::V4(_) => behind_ipv4(packet)?,
            IpAddr::V6(_) => packet,
        };
        let (after, reached) = match *icmp.first()? {
            kind if kind == self.icmp.echo_reply => (self.since_sent(icmp)?, true),
            // The packet that died comes back inside.
            kind if kind == self.icmp.time_exceeded => {
                let dead = icmp.get(ICMP_HEADER..)?;
                let inner = match self.to {
                    IpAddr::V4(_) => behind_ipv4(dead)?,
                    IpAddr::V6(_) => dead.get(IPV6_HEADER..)?,
                };
                let is_request = *inner.first()? == self.icmp.echo_request;
                (self.since_sent(inner).filter(|_| is_request)?, false)
            }
            _ => return None,
        };
        Some(Answer { from, reached, after })
    }

    /// How long ago it was sent, if this is one of those that were sent for this hop.
    fn since_sent(&self, icmp: &[u8]) -> Option<Duration> {
        let &[_, _, _, _, a, b, c, d] = icmp.first_chunk()?;
        let is_ours = u16::from_be_bytes([a, b]) == self.identifier;
        let sequence = u16::from_be_bytes([c, d]);
        let sent = self.sent.iter().find(|(each, _)| is_ours && *each == sequence);
        sent.map(|(_, at)| at.elapsed())
    }
}

fn is_no_route(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| NO_ROUTE.contains(&code))
}

/// The kernel knows no way, or knows that there is none.
const NO_ROUTE: [i32; 5] = [
    libc::ENETUNREACH,
    libc::EHOSTUNREACH,
    libc::EINVAL,
    libc::ENETDOWN,
    libc::EADDRNOTAVAIL,
];

/// An echo request (RFC 792, RFC 4443) with some payload. Of IPv6 the kernel makes the checksum, which covers addresses.
fn echo_request(kind: u8, identifier: u16, sequence: u16) -> Vec<u8> {
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend(identifier.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(*b"routewright lab.");
    let checksum = checksum(&packet);
    packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// An echo request of IPv4.
pub(crate) fn echo_request_v4(identifier: u16, sequence: u16) -> Vec<u8> {
    echo_request(ICMP_V4.echo_request, identifier, sequence)
}

/// The sequence number of an answer to one, from a packet as raw sockets are told it.
pub(crate) fn echo_reply_v4(packet: &[u8], identifier: u16) -> Option<u16> {
    let &[kind, _, _, _, a, b, c, d] = behind_ipv4(packet)?.first_chunk()?;
    let is_ours = kind == ICMP_V4.echo_reply && u16::from_be_bytes([a, b]) == identifier;
    is_ours.then_some(u16::from_be_bytes([c, d]))
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

/// What an IPv4 packet carries.
fn behind_ipv4(packet: &[u8]) -> Option<&[u8]> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    packet.get(header..)
}
