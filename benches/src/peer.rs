//! One load peer: a blocking speaker that says its table and checks every route it is told.
//!
//! It reads UPDATEs with a scanner of its own, which knows just enough to find the prefixes and the neighbour AS of each path:
//! the measured program's decoder must not judge itself.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bgp::wire::{Capability, Decoder, Message, Open};
use bgp::{Asn, BgpIdentifier, Family};
use bytes::BytesMut;

use crate::workload::{DEVICE, NOBODY, address_of, asn_of, number_of, peer_of};

/// What a peer holds, as others may watch it. The counts are brought up to date once per read.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    /// Prefixes held through the peer that is expected while all live.
    pub(crate) right: AtomicU32,
    /// Prefixes held through the peer that is expected when peer 0 is dead.
    pub(crate) right_without_0: AtomicU32,
    /// Prefixes held.
    pub(crate) held: AtomicU32,
    /// The last prefix number seen beyond the table (latency probes); 0 when it was withdrawn.
    pub(crate) probe: AtomicU32,
    /// Prefixes announced to it so far, with repetitions.
    pub(crate) announced: AtomicU64,
    /// The connection is gone.
    pub(crate) closed: AtomicBool,
}

/// Who should be best for each prefix, for all receivers.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) all_live: Vec<u32>,
    pub(crate) without_0: Vec<u32>,
}

/// Establishes a session: OPENs and KEEPALIVEs, hold time 0 is not asked for, so that all behave as usual.
pub(crate) fn establish(stream: &mut TcpStream, peer: u32) -> Result<()> {
    let mut out = BytesMut::new();
    let open = Open {
        asn: Asn(asn_of(peer)),
        hold_time_secs: 180,
        identifier: BgpIdentifier(address_of(peer)),
        capabilities: vec![
            Capability::MultiProtocol(Family::Ipv4Unicast),
            Capability::RouteRefresh,
            Capability::FourOctetAs(Asn(asn_of(peer))),
        ],
    };
    Message::Open(open).encode(&mut out);
    stream.write_all(&out)?;
    let mut decoder = Decoder::new();
    let mut buffer = [0; 4096];
    loop {
        // One octet at a time costs little here and leaves everything after the KEEPALIVE to the scanner.
        let read = stream
            .read(&mut buffer[..1])
            .context("the peer did not answer our OPEN")?;
        if read == 0 {
            bail!("the peer closed the connection during the OPEN exchange");
        }
        decoder.push(&buffer[..1]);
        match decoder
            .next_message()
            .map_err(|e| anyhow::anyhow!("bad message: {e}"))?
        {
            Some(Message::Open(_)) => {
                out.clear();
                Message::Keepalive.encode(&mut out);
                stream.write_all(&out)?;
            }
            Some(Message::Keepalive) => return Ok(()),
            Some(Message::Notification(n)) => bail!("NOTIFICATION {}/{}", n.code, n.subcode),
            _ => {}
        }
    }
}

/// The other side of [`establish`], for the floor: takes whatever is offered.
pub(crate) fn accept(stream: &mut TcpStream) -> Result<()> {
    let mut out = BytesMut::new();
    let open = Open {
        asn: Asn(65515),
        hold_time_secs: 180,
        identifier: BgpIdentifier(DEVICE),
        capabilities: vec![
            Capability::MultiProtocol(Family::Ipv4Unicast),
            Capability::FourOctetAs(Asn(65515)),
        ],
    };
    Message::Open(open).encode(&mut out);
    Message::Keepalive.encode(&mut out);
    stream.write_all(&out)?;
    // The OPEN, then the KEEPALIVE.
    for _ in 0..2 {
        let mut header = [0; 19];
        stream.read_exact(&mut header)?;
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[16], header[17]])).saturating_sub(19)];
        stream.read_exact(&mut body)?;
    }
    Ok(())
}

/// Reads until the connection ends and keeps `holding` current.
pub(crate) struct Receiver {
    stream: TcpStream,
    holding: Arc<Holding>,
    /// Neighbour peer per prefix.
    table: Vec<u32>,
    expected: Arc<Expected>,
    own: u32,
    counts: Counts,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    right: u32,
    right_without_0: u32,
    held: u32,
    announced: u64,
}

impl Receiver {
    pub(crate) fn new(stream: TcpStream, holding: Arc<Holding>, own: u32, expected: Arc<Expected>) -> Receiver {
        Receiver {
            stream,
            holding,
            table: vec![NOBODY; expected.all_live.len()],
            expected,
            own,
            counts: Counts::default(),
        }
    }

    /// Runs to the end of the connection.
    pub(crate) fn run(mut self, stop: &AtomicBool) {
        let _ = self.stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut buffer = vec![0u8; 1 << 20];
        let mut filled = 0;
        while !stop.load(Ordering::Relaxed) {
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    let used = self.scan(&buffer[..filled]);
                    buffer.copy_within(used..filled, 0);
                    filled -= used;
                    self.publish();
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => self.keepalive(),
                Err(_) => break,
            }
        }
        self.holding.closed.store(true, Ordering::Release);
    }

    fn publish(&self) {
        let Counts {
            right,
            right_without_0,
            held,
            announced,
        } = self.counts;
        self.holding.right.store(right, Ordering::Relaxed);
        self.holding.right_without_0.store(right_without_0, Ordering::Relaxed);
        self.holding.announced.store(announced, Ordering::Relaxed);
        self.holding.held.store(held, Ordering::Release);
    }

    fn keepalive(&mut self) {
        // Every 5 s of silence: far more than needed, and next to free.
        let mut out = BytesMut::new();
        Message::Keepalive.encode(&mut out);
        let _ = (&self.stream).write_all(&out);
    }

    fn scan(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while bytes.len() - at >= 19 {
            let length = usize::from(u16::from_be_bytes([bytes[at + 16], bytes[at + 17]]));
            if length < 19 || bytes.len() - at < length {
                break;
            }
            if bytes[at + 18] == 2 {
                self.update(&bytes[at + 19..at + length]);
            }
            at += length;
        }
        at
    }

    fn update(&mut self, body: &[u8]) {
        let withdrawn_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        for_each_prefix(&body[2..withdrawn_end], |number| self.set(number, NOBODY));
        let attributes = usize::from(u16::from_be_bytes([body[withdrawn_end], body[withdrawn_end + 1]]));
        let attributes_end = withdrawn_end + 2 + attributes;
        if attributes_end < body.len() {
            // A path without a neighbour counts as a wrong one.
            let neighbour = neighbour(&body[withdrawn_end + 2..attributes_end]).unwrap_or(NOBODY - 1);
            // FRR tells a peer its own routes too; whoever hears his own AS drops the path (RFC 4271 §9.1.2).
            let neighbour = if neighbour == self.own { NOBODY } else { neighbour };
            for_each_prefix(&body[attributes_end..], |number| {
                self.counts.announced += 1;
                self.set(number, neighbour);
            });
        }
    }

    fn set(&mut self, number: u32, through: u32) {
        let index = number as usize;
        if index >= self.table.len() {
            let seen = if through == NOBODY { 0 } else { number };
            self.holding.probe.store(seen, Ordering::Release);
            return;
        }
        let before = std::mem::replace(&mut self.table[index], through);
        let right = |held: u32, expected: u32| u32::from(held != NOBODY && held == expected && expected != self.own);
        let (all_live, without_0) = (self.expected.all_live[index], self.expected.without_0[index]);
        let counts = &mut self.counts;
        counts.right = counts.right + right(through, all_live) - right(before, all_live);
        counts.right_without_0 = counts.right_without_0 + right(through, without_0) - right(before, without_0);
        counts.held = counts.held + u32::from(through != NOBODY) - u32::from(before != NOBODY);
    }
}

fn for_each_prefix(mut bytes: &[u8], mut each: impl FnMut(u32)) {
    while let [length, rest @ ..] = bytes {
        let octets = usize::from(length.div_ceil(8));
        if rest.len() < octets {
            return;
        }
        if *length == 24
            && let Some(number) = number_of([rest[0], rest[1], rest[2]])
        {
            each(number);
        }
        bytes = &rest[octets..];
    }
}

/// The AS behind the route server's own in AS_PATH, as a peer number.
fn neighbour(mut attributes: &[u8]) -> Option<u32> {
    while attributes.len() >= 3 {
        let extended = attributes[0] & 0x10 != 0;
        let (header, length) = if extended {
            (4, usize::from(u16::from_be_bytes([attributes[2], attributes[3]])))
        } else {
            (3, usize::from(attributes[2]))
        };
        if attributes[1] == 2 {
            let path = attributes.get(header + 2 + 4..header + 2 + 8)?;
            return peer_of(u32::from_be_bytes(path.try_into().ok()?));
        }
        attributes = attributes.get(header + length..)?;
    }
    None
}
