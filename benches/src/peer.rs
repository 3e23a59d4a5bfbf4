//! One load peer: a blocking speaker that says its table and checks every route it is told.
//!
//! It reads UPDATEs with a scanner of its own, which knows just enough to find the prefixes and the neighbour AS of each path:
//! the measured program's decoder must not judge itself.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bgp::wire::{Capability, Decoder, Message, Open};
use bgp::{Asn, BgpIdentifier, Family};
use bytes::BytesMut;

use crate::workload::{address_of, asn_of, number_of, peer_of};

/// No path held.
const NONE: u32 = u32::MAX;

/// What a peer holds, as others may watch it: the right routes, and all routes.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    /// Prefixes held through the peer that is expected.
    pub(crate) right: AtomicU32,
    /// Prefixes held.
    pub(crate) held: AtomicU32,
    /// The last prefix number seen beyond the table (latency probes).
    pub(crate) probe: AtomicU32,
    /// The connection is gone.
    pub(crate) closed: AtomicBool,
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

/// Reads until the connection ends and keeps `holding` current.
pub(crate) struct Receiver {
    stream: TcpStream,
    holding: Arc<Holding>,
    /// Neighbour peer per prefix.
    table: Vec<u32>,
    /// Expected peer per prefix, and which prefixes count (not our own).
    expected: Vec<u32>,
    own: u32,
}

impl Receiver {
    pub(crate) fn new(stream: TcpStream, holding: Arc<Holding>, own: u32, expected: Vec<u32>) -> Receiver {
        Receiver {
            stream,
            holding,
            table: vec![NONE; expected.len()],
            expected,
            own,
        }
    }

    /// Runs to the end of the connection.
    pub(crate) fn run(mut self, stop: &AtomicBool) {
        let _ = self.stream.set_read_timeout(Some(Duration::from_millis(200)));
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
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => self.keepalive(),
                Err(_) => break,
            }
        }
        self.holding.closed.store(true, Ordering::Release);
    }

    fn keepalive(&mut self) {
        // Every 200 ms of silence: far more than needed, and next to free.
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
        for_each_prefix(&body[2..withdrawn_end], |number| self.set(number, NONE));
        let attributes = usize::from(u16::from_be_bytes([body[withdrawn_end], body[withdrawn_end + 1]]));
        let attributes_end = withdrawn_end + 2 + attributes;
        if attributes_end < body.len() {
            let neighbour = neighbour(&body[withdrawn_end + 2..attributes_end]).unwrap_or(NONE - 1);
            for_each_prefix(&body[attributes_end..], |number| self.set(number, neighbour));
        }
        self.holding.held.fetch_add(0, Ordering::Release);
    }

    fn set(&mut self, number: u32, through: u32) {
        let index = number as usize;
        if index >= self.table.len() {
            self.holding
                .probe
                .store(if through == NONE { 0 } else { number }, Ordering::Release);
            return;
        }
        let before = std::mem::replace(&mut self.table[index], through);
        let counts = self.expected[index] != self.own;
        let right = |held: u32| counts && held == self.expected[index];
        let add = |counter: &AtomicU32, was: bool, is: bool| match (was, is) {
            (false, true) => drop(counter.fetch_add(1, Ordering::Release)),
            (true, false) => drop(counter.fetch_sub(1, Ordering::Release)),
            _ => {}
        };
        add(&self.holding.right, right(before), right(through));
        add(&self.holding.held, before != NONE, through != NONE);
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
