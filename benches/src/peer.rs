//! One load peer: a blocking speaker that says its table and checks every route it is told.
//!
//! It reads UPDATEs with a scanner of its own, which knows just enough to find the prefixes, the AS_PATH and the NEXT_HOP of each path:
//! the measured program's decoder must not judge itself.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bgp::wire::{Capability, Decoder, Message, Open};
use bgp::{Asn, BgpIdentifier, Family};
use bytes::BytesMut;
use socket2::SockRef;

use crate::workload::{DEVICE, NOBODY, Paths, Workload, address_of, asn_of, fingerprint, number_of, peer_of};

/// A connection is silent for so long before its receiver says KEEPALIVE: far more often than needed, and next to free.
const SILENCE: Duration = Duration::from_secs(5);

/// Through nobody that it should be: held, but the right path for no prefix.
const WRONG: u32 = NOBODY - 1;

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

/// Who should be best for each prefix and with which path, for all receivers.
#[derive(Debug)]
pub(crate) struct Expected {
    /// By prefix.
    best: Vec<Best>,
    /// By peer.
    paths: Vec<Paths>,
}

/// The peers that a prefix should be held through; together, since a receiver looks at both for each route.
#[derive(Clone, Copy, Debug)]
struct Best {
    all_live: u32,
    without_0: u32,
}

impl Expected {
    pub(crate) fn of(workload: Workload) -> Expected {
        let winners = workload.winners(None).into_iter().zip(workload.winners(Some(0)));
        let best = winners.map(|(all_live, without_0)| Best { all_live, without_0 });
        Expected {
            best: best.collect(),
            paths: (0..workload.peers).map(|peer| workload.paths(peer)).collect(),
        }
    }

    /// The peer that a prefix is held through; [`WRONG`] if the path is not the one that the peer announced.
    fn through(&self, number: u32, told: Option<Told>) -> u32 {
        let known = |told: &Told| {
            let paths = self.paths.get(told.peer as usize)?;
            // What is beyond the table has a path of its own.
            let beyond = number as usize >= self.best.len();
            Some(beyond || paths.to(number) == Some(told.path))
        };
        told.filter(|told| known(told) == Some(true))
            .map_or(WRONG, |told| told.peer)
    }
}

/// An Established session: whoever has something to say writes, its receiver reads.
#[derive(Debug)]
pub(crate) struct Session {
    stream: TcpStream,
    /// Held while a message is written, so that no other gets into it.
    writing: Mutex<()>,
}

impl Session {
    pub(crate) fn new(stream: TcpStream) -> Session {
        Session {
            stream,
            writing: Mutex::new(()),
        }
    }

    pub(crate) fn write(&self, messages: &[u8]) -> io::Result<()> {
        let _whole = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.stream).write_all(messages)
    }

    /// A KEEPALIVE, unless something else is under way to the speaker, which does as well.
    pub(crate) fn keepalive(&self) {
        let Ok(_whole) = self.writing.try_lock() else { return };
        let mut out = BytesMut::new();
        Message::Keepalive.encode(&mut out);
        // The receiver notices when the connection is gone.
        let _ = SockRef::from(&self.stream).send_with_flags(&out, libc::MSG_DONTWAIT);
    }

    pub(crate) fn close(&self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Both)
    }

    /// Hands over each UPDATE until the connection ends, or `stop` says so.
    pub(crate) fn read(&self, stop: &AtomicBool, listener: &mut impl Listener) {
        let _ = self.stream.set_read_timeout(Some(SILENCE));
        let mut buffer = vec![0u8; 1 << 20];
        let mut filled = 0;
        while !stop.load(Ordering::Relaxed) {
            match (&self.stream).read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    let used = scan(&buffer[..filled], listener);
                    buffer.copy_within(used..filled, 0);
                    filled -= used;
                    listener.caught_up();
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => self.keepalive(),
                Err(_) => break,
            }
        }
    }
}

/// Takes what a session is told.
pub(crate) trait Listener {
    /// The body of an UPDATE.
    fn update(&mut self, body: &[u8]);
    /// All that had come when the session was read last was handed over.
    fn caught_up(&mut self) {}
}

fn scan(bytes: &[u8], listener: &mut impl Listener) -> usize {
    let mut at = 0;
    while bytes.len() - at >= 19 {
        let length = usize::from(u16::from_be_bytes([bytes[at + 16], bytes[at + 17]]));
        if length < 19 || bytes.len() - at < length {
            break;
        }
        if bytes[at + 18] == 2 {
            listener.update(&bytes[at + 19..at + length]);
        }
        at += length;
    }
    at
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
    session: Arc<Session>,
    holding: Arc<Holding>,
    /// Per prefix the peer that it is held through.
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
    pub(crate) fn new(session: Arc<Session>, holding: Arc<Holding>, own: u32, expected: Arc<Expected>) -> Receiver {
        Receiver {
            session,
            holding,
            table: vec![NOBODY; expected.best.len()],
            expected,
            own,
            counts: Counts::default(),
        }
    }

    /// Runs to the end of the connection.
    pub(crate) fn run(mut self, stop: &AtomicBool) {
        let session = Arc::clone(&self.session);
        session.read(stop, &mut self);
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

    fn set(&mut self, number: u32, through: u32) {
        let index = number as usize;
        if index >= self.table.len() {
            let seen = if through == NOBODY { 0 } else { number };
            self.holding.probe.store(seen, Ordering::Release);
            return;
        }
        let before = std::mem::replace(&mut self.table[index], through);
        if before == through {
            return;
        }
        let right = |held: u32, expected: u32| u32::from(held != NOBODY && held == expected && expected != self.own);
        let Best { all_live, without_0 } = self.expected.best[index];
        let counts = &mut self.counts;
        counts.right = counts.right + right(through, all_live) - right(before, all_live);
        counts.right_without_0 = counts.right_without_0 + right(through, without_0) - right(before, without_0);
        counts.held = counts.held + u32::from(through != NOBODY) - u32::from(before != NOBODY);
    }
}

impl Listener for Receiver {
    /// Takes in an UPDATE (RFC 4271 §4.3). One that is cut off counts as far as it goes.
    fn update(&mut self, body: &[u8]) {
        let Some((withdrawn, rest)) = counted(body) else { return };
        for_each_prefix(withdrawn, |number| self.set(number, NOBODY));
        let Some((attributes, announced)) = counted(rest) else {
            return;
        };
        if announced.is_empty() {
            return;
        }
        let told = Told::read(attributes);
        // FRR tells a peer its own routes too; whoever hears his own AS drops the path (RFC 4271 §9.1.2).
        let own = told.is_some_and(|told| told.peer == self.own);
        for_each_prefix(announced, |number| {
            self.counts.announced += 1;
            let through = if own {
                NOBODY
            } else {
                self.expected.through(number, told)
            };
            self.set(number, through);
        });
    }

    fn caught_up(&mut self) {
        self.publish();
    }
}

/// The workload's prefixes among others.
fn for_each_prefix(bytes: &[u8], mut each: impl FnMut(u32)) {
    for_each_encoded(bytes, |prefix| {
        if let [24, a, b, c] = *prefix
            && let Some(number) = number_of([a, b, c])
        {
            each(number);
        }
    });
}

/// Prefixes as they are written: their length, then as many octets as that takes (RFC 4271 §4.3).
pub(crate) fn for_each_encoded(mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
    while let [length, ..] = bytes {
        let Some((prefix, rest)) = bytes.split_at_checked(1 + usize::from(length.div_ceil(8))) else {
            return;
        };
        each(prefix);
        bytes = rest;
    }
}

/// What follows a length of two octets, and what comes after it.
pub(crate) fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// What a route server said of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    /// The peer behind the route server's own AS number.
    peer: u32,
    /// Fingerprint of the AS_PATH without the route server.
    path: u32,
}

impl Told {
    /// `None` unless the path leads through the route server and then a peer, with the route server as next hop.
    fn read(attributes: &[u8]) -> Option<Told> {
        const AS_PATH: u8 = 2;
        const NEXT_HOP: u8 = 3;
        let (mut told, mut rest) = (None, attributes);
        while let Some((kind, value, after)) = attribute(rest) {
            match kind {
                AS_PATH => told = Told::of_path(value),
                NEXT_HOP if value != DEVICE.octets() => return None,
                NEXT_HOP if told.is_some() => return told,
                _ => {}
            }
            rest = after;
        }
        told
    }

    fn of_path(value: &[u8]) -> Option<Told> {
        const AS_SEQUENCE: u8 = 2;
        const SERVER: [u8; 4] = 65515_u32.to_be_bytes();
        let (&[AS_SEQUENCE, count], path) = value.split_first_chunk::<2>()? else {
            return None;
        };
        let (asns, []) = path.as_chunks::<4>() else { return None };
        let (&SERVER, behind) = asns.split_first()? else {
            return None;
        };
        let peer = peer_of(u32::from_be_bytes(*behind.first()?))?;
        (asns.len() == usize::from(count)).then(|| Told {
            peer,
            path: fingerprint(behind.iter().map(|asn| u32::from_be_bytes(*asn))),
        })
    }
}

/// The first path attribute: its type, its value, and what comes after it.
fn attribute(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    const EXTENDED_LENGTH: u8 = 0x10;
    let (&[flags, kind], rest) = bytes.split_first_chunk::<2>()?;
    let (value, after) = if flags & EXTENDED_LENGTH != 0 {
        counted(rest)?
    } else {
        let (length, rest) = rest.split_first()?;
        rest.split_at_checked(usize::from(*length))?
    };
    Some((kind, value, after))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::workload::{Shape, encode_one};

    const WORKLOAD: Workload = Workload {
        shape: Shape::Overlap,
        peers: 4,
        prefixes: 100,
    };

    #[test]
    fn the_answer_of_a_route_server_makes_every_route_right() -> Result<()> {
        let mut receiver = receiver(1)?;
        let answer = WORKLOAD.encode_answer(1);
        assert_eq!(scan(&answer, &mut receiver), answer.len());
        assert_eq!((receiver.counts.right, receiver.counts.held), (75, 75));
        Ok(())
    }

    #[test]
    fn a_table_that_no_route_server_touched_is_held_and_wrong() -> Result<()> {
        let mut receiver = receiver(1)?;
        scan(&WORKLOAD.encode_table(0), &mut receiver);
        assert_eq!((receiver.counts.right, receiver.counts.held), (0, 100));
        Ok(())
    }

    #[test]
    fn the_right_neighbour_with_a_changed_path_or_next_hop_is_wrong() {
        let expected = Expected::of(WORKLOAD);
        let mut attributes = BytesMut::new();
        let good: Vec<u8> = {
            let answer = WORKLOAD.encode_answer(1);
            let body = &answer[19..];
            counted(&body[2..])
                .map(|(attributes, _)| attributes.to_vec())
                .unwrap_or_default()
        };
        attributes.extend_from_slice(&good);
        assert_eq!(expected.through(0, Told::read(&attributes)), 0);

        let last_asn = good.windows(4).rposition(|w| w == DEVICE.octets()).unwrap_or(0) - 4;
        attributes[last_asn] ^= 1;
        assert_eq!(expected.through(0, Told::read(&attributes)), WRONG);

        let mut attributes = good.clone();
        attributes[last_asn + 4 + 3] ^= 1;
        assert_eq!(expected.through(0, Told::read(&attributes)), WRONG);
        assert_eq!(expected.through(0, Told::read(&good[..4])), WRONG);
    }

    #[test]
    fn withdrawing_everything_leaves_nothing_held() -> Result<()> {
        let mut receiver = receiver(1)?;
        scan(&WORKLOAD.encode_answer(1), &mut receiver);
        scan(&WORKLOAD.encode_withdrawal(0), &mut receiver);
        assert_eq!((receiver.counts.right, receiver.counts.held), (0, 0));
        Ok(())
    }

    #[test]
    fn a_prefix_beyond_the_table_is_a_probe() -> Result<()> {
        let mut receiver = receiver(1)?;
        scan(&encode_one(0, 101, true), &mut receiver);
        assert_eq!(receiver.holding.probe.load(Ordering::Acquire), 101);
        scan(&encode_one(0, 101, false), &mut receiver);
        assert_eq!(receiver.holding.probe.load(Ordering::Acquire), 0);
        Ok(())
    }

    #[test]
    fn cut_off_messages_change_nothing_and_hurt_nobody() -> Result<()> {
        let mut receiver = receiver(1)?;
        let whole = WORKLOAD.encode_answer(1);
        for length in 0..60 {
            receiver.update(&whole[19..19 + length]);
        }
        receiver.update(&[]);
        assert_eq!(Told::read(&[0x40, 2, 200, 2]), None);
        assert_eq!(Told::of_path(&[2, 9, 0, 0]), None);
        Ok(())
    }

    fn receiver(own: u32) -> Result<Receiver> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        let session = Arc::new(Session::new(stream));
        Ok(Receiver::new(
            session,
            Arc::default(),
            own,
            Arc::new(Expected::of(WORKLOAD)),
        ))
    }
}
