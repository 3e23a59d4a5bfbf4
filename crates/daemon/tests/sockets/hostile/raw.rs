//! A peer that sends whatever octets it is told to, and shows those that it gets.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bgp::wire::{DecodeContext, Decoder, Message, Update};
use bgp::{FamilySet, IpNet};
use daemon::connection::BGP_PORT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::messages::{self, KEEPALIVE, NOTIFICATION, OPEN, UPDATE};
use super::{asn, hostile, prefix};
use crate::instance::OURS;
use crate::world::{address, soon};

/// A connection of hostile peer `n`.
pub(crate) struct Raw {
    pub(crate) n: usize,
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

/// A route as a peer is told it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Its attributes one by one: type code → flags, and the octets as they came.
    pub(crate) attributes: BTreeMap<u8, (u8, Vec<u8>)>,
    pub(crate) update: Update,
}

/// A TCP connection of hostile peer `n`, as soon as the instance listens. `edit` has the socket before.
pub(crate) async fn connected(n: usize, edit: impl Fn(&TcpSocket)) -> TcpStream {
    soon("a call", async {
        loop {
            let socket = socket(n);
            edit(&socket);
            if let Ok(stream) = socket.connect(instance()).await {
                stream.set_nodelay(true).unwrap();
                return stream;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
}

fn socket(n: usize) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::new(address(&hostile(n)), 0)).unwrap();
    socket
}

fn instance() -> SocketAddr {
    SocketAddr::new(address(OURS), BGP_PORT)
}

impl Raw {
    /// A TCP connection, whether or not the instance then says anything on it.
    pub(crate) async fn call(n: usize) -> Raw {
        Raw::on(n, connected(n, |_| {}).await)
    }

    pub(crate) fn on(n: usize, stream: TcpStream) -> Raw {
        let received = Vec::new();
        Raw { n, stream, received }
    }

    /// A connection on which the instance has said OPEN: it takes no more than so many calls in a second, and holds off who has offended.
    pub(crate) async fn greeted(n: usize) -> Raw {
        soon("the instance says OPEN", async {
            loop {
                let mut raw = Raw::call(n).await;
                if let Some((OPEN, _)) = raw.read().await {
                    return raw;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await
    }

    /// An Established session without a hold time.
    pub(crate) async fn establish(n: usize) -> Raw {
        Raw::establish_with(n, 0, &messages::usual_capabilities(asn(n))).await
    }

    /// An Established session with this hold time and these capabilities.
    pub(crate) async fn establish_with(n: usize, hold_time_secs: u16, capabilities: &[(u8, Vec<u8>)]) -> Raw {
        soon("a session", async {
            loop {
                let mut raw = Raw::greeted(n).await;
                // While the instance has not noticed the end of the session before, this one collides with it (RFC 4271 §6.8).
                if raw.says_hello(hold_time_secs, capabilities).await {
                    return raw;
                }
            }
        })
        .await
    }

    /// Says OPEN and KEEPALIVE on a connection on which the instance has said OPEN. True: it is Established.
    pub(crate) async fn says_hello(&mut self, hold_time_secs: u16, capabilities: &[(u8, Vec<u8>)]) -> bool {
        let open = messages::open(asn(self.n), hold_time_secs, self.octets(), capabilities);
        self.send(&[open, messages::keepalive()].concat()).await;
        let answer = soon("the instance answers", self.read()).await;
        matches!(answer, Some((KEEPALIVE, _)))
    }

    /// Its address.
    pub(crate) fn octets(&self) -> [u8; 4] {
        let IpAddr::V4(address) = address(&hostile(self.n)) else {
            unreachable!()
        };
        address.octets()
    }

    /// Sends octets; that the instance has hung up meanwhile is no error.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// ORIGIN, AS_PATH and NEXT_HOP of its own.
    pub(crate) fn good_attributes(&self) -> Vec<Vec<u8>> {
        messages::good_attributes(asn(self.n), self.octets())
    }

    /// An UPDATE with usual attributes.
    pub(crate) fn announcement(&self, prefixes: impl IntoIterator<Item = IpNet>) -> Vec<u8> {
        messages::update(&[], &self.good_attributes().concat(), &messages::nlri(prefixes))
    }

    /// The next message: type and body. `None`: the instance has closed.
    pub(crate) async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(header) = self.received.get(..19) {
                let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
                if self.received.len() >= length {
                    let message: Vec<u8> = self.received.drain(..length).collect();
                    return Some((message[18], message[19..].to_vec()));
                }
            }
            if self.stream.read_buf(&mut self.received).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Reads on until the instance closes; code and subcode of the NOTIFICATION that it said, if it said one.
    pub(crate) async fn is_ended(&mut self) -> Option<(u8, u8)> {
        soon("the instance ends the session", async {
            let mut said = None;
            while let Some((kind, body)) = self.read().await {
                if kind == NOTIFICATION {
                    said = Some((body[0], body[1]));
                }
            }
            said
        })
        .await
    }

    /// Reads on, and keeps what it is told, until the last word of a prefix is what `done` wants.
    pub(crate) async fn hears(
        &mut self,
        what: &str,
        table: &mut BTreeMap<IpNet, Told>,
        mut done: impl FnMut(&BTreeMap<IpNet, Told>) -> bool,
    ) {
        soon(what, async {
            while !done(table) {
                let (kind, body) = self.read().await.expect("the session ended");
                match kind {
                    UPDATE => take(table, &body),
                    KEEPALIVE => {}
                    _ => panic!("message of type {kind}: {body:?}"),
                }
            }
        })
        .await;
    }

    /// Says a route as a mark, and waits until `other` has heard it: what was said before has been dealt with then.
    pub(crate) async fn is_dealt_with(&mut self, other: &mut Raw, table: &mut BTreeMap<IpNet, Told>, mark: usize) {
        let mark = prefix(mark);
        let announcement = self.announcement([mark]);
        self.send(&announcement).await;
        other.hears("the mark", table, |table| table.contains_key(&mark)).await;
    }
}

/// As a strict peer reads it: nothing that we tell may need mending.
fn take(table: &mut BTreeMap<IpNet, Told>, body: &[u8]) {
    let mut decoder = Decoder::new();
    decoder.set_context(DecodeContext {
        four_octet_as: true,
        extended_message: true,
        families: FamilySet::BOTH,
        external: true,
    });
    decoder.push(&messages::message(UPDATE, body));
    let Ok(Some(Message::Update(update))) = decoder.next_message() else {
        panic!("not to be read: {body:02x?}");
    };
    assert!(update.mended.is_empty(), "{:?}: {body:02x?}", update.mended);
    for prefix in &update.withdrawn {
        table.remove(prefix);
    }
    let attributes = split(body);
    for prefix in update.announced.iter().flat_map(|each| each.prefixes.clone()) {
        let (attributes, update) = (attributes.clone(), update.clone());
        table.insert(prefix, Told { attributes, update });
    }
}

/// The attributes of an UPDATE's body.
fn split(body: &[u8]) -> BTreeMap<u8, (u8, Vec<u8>)> {
    let length = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    let start = 2 + length(0);
    let mut rest = &body[start + 2..start + 2 + length(start)];
    let mut attributes = BTreeMap::new();
    while let [flags, code, tail @ ..] = rest {
        let (header, length) = match flags & 0x10 {
            0 => (3, usize::from(tail[0])),
            _ => (4, usize::from(u16::from_be_bytes([tail[0], tail[1]]))),
        };
        attributes.insert(*code, (*flags, rest[..header + length].to_vec()));
        rest = &rest[header + length..];
    }
    attributes
}
