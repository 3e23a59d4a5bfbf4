//! What happened meanwhile: a steady flow of packets, of which none is to be lost, and the changes of a kernel's routes, of which there are
//! to be none. For tests: both say only what was, never how long it took.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;
use crate::probe;

/// Between two packets of a flow: sequence numbers have 16 bits, and last for ten minutes.
const BETWEEN: Duration = Duration::from_millis(10);
/// What has not been answered so long after the last packet was lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Echo requests at a steady pace.
#[derive(Debug)]
pub struct Flow {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<io::Result<Echoes>>,
}

/// What became of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Echoes {
    /// How many requests were sent.
    pub sent: u16,
    /// Those without an answer, by their number.
    pub lost: BTreeSet<u16>,
}

impl Flow {
    /// Begins to send from a namespace to an IPv4 address.
    pub fn start(from: &Namespace, to: Ipv4Addr) -> io::Result<Flow> {
        let socket = from.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let sender = std::thread::spawn(move || send(&socket, to, &until));
        Ok(Flow { stop, sender })
    }

    /// Ends it and waits for the last answers.
    pub fn end(self) -> io::Result<Echoes> {
        self.stop.store(true, Ordering::Relaxed);
        self.sender
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the sender panicked")))
    }
}

fn send(socket: &Socket, to: Ipv4Addr, stop: &AtomicBool) -> io::Result<Echoes> {
    let identifier = (nix::unistd::gettid().as_raw() & 0xffff) as u16;
    let target = SocketAddr::new(to.into(), 0).into();
    let mut echoes = Echoes::default();
    while !stop.load(Ordering::Relaxed) && echoes.sent < u16::MAX {
        echoes.sent += 1;
        echoes.lost.insert(echoes.sent);
        // Without a route it is lost, too.
        let _ = socket.send_to(&probe::echo_request_v4(identifier, echoes.sent), &target);
        hear(socket, identifier, &mut echoes, Instant::now() + BETWEEN)?;
    }
    let end = Instant::now() + PATIENCE;
    while !echoes.lost.is_empty() && Instant::now() < end {
        hear(socket, identifier, &mut echoes, Instant::now() + BETWEEN)?;
    }
    Ok(echoes)
}

/// Takes answers until then.
fn hear(socket: &Socket, identifier: u16, echoes: &mut Echoes, until: Instant) -> io::Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        socket.set_read_timeout(Some(left))?;
        let mut buffer = [MaybeUninit::<u8>::uninit(); 1500];
        match socket.recv(&mut buffer) {
            Ok(length) => {
                // SAFETY: the kernel has written that many bytes.
                let packet: Vec<u8> = buffer[..length].iter().map(|b| unsafe { b.assume_init() }).collect();
                if let Some(number) = probe::echo_reply_v4(&packet, identifier) {
                    echoes.lost.remove(&number);
                }
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Route groups of rtnetlink(7), as bits: routes of both families, nexthop objects.
const GROUPS: u32 = 1 << 6 | 1 << 10 | 1 << 31;
/// So much may be told before it is asked for.
const BUFFER: usize = 32 << 20;
const NLMSG_HEADER: usize = 16;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTMSG: usize = 12;
const RTA_DST: u16 = 1;

/// Hears of every change of a kernel's routes and nexthop objects from its start on.
#[derive(Debug)]
pub struct RouteWatch {
    netlink: OwnedFd,
}

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// It is gone; otherwise it is there, or is there in another way.
    pub gone: bool,
    /// The route's destination; `None`: it is a nexthop object.
    pub prefix: Option<IpNet>,
    /// Whose it is (`rtm_protocol`).
    pub protocol: u8,
}

impl RouteWatch {
    /// Begins to hear.
    pub fn start(namespace: &Namespace) -> io::Result<RouteWatch> {
        namespace.run(|| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
            // Beyond the system's limit, if we may.
            setsockopt(&netlink, sockopt::RcvBufForce, &BUFFER)
                .or_else(|_| setsockopt(&netlink, sockopt::RcvBuf, &BUFFER))?;
            bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
            Ok(RouteWatch { netlink })
        })
    }

    /// What has changed since it was asked last. An error where more changed than there was room for.
    pub fn changes(&self) -> io::Result<Vec<RouteChange>> {
        let mut all = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match recv(self.netlink.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => read(&buffer[..length], &mut all),
                Err(Errno::EAGAIN) => return Ok(all),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What has changed of a prefix, and is no other's of those that were asked for.
    pub fn changes_of(&self, prefix: IpNet) -> io::Result<Vec<RouteChange>> {
        let mut changes = self.changes()?;
        changes.retain(|change| change.prefix == Some(prefix));
        Ok(changes)
    }
}

/// All messages of a datagram.
fn read(mut bytes: &[u8], all: &mut Vec<RouteChange>) {
    while let Some(header) = bytes.first_chunk::<NLMSG_HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(body) = bytes.get(NLMSG_HEADER..length) else {
            return;
        };
        all.extend(change(kind, body));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn change(kind: u16, body: &[u8]) -> Option<RouteChange> {
    let gone = matches!(kind, RTM_DELROUTE | RTM_DELNEXTHOP);
    match kind {
        RTM_NEWROUTE | RTM_DELROUTE => {
            let head = body.first_chunk::<RTMSG>()?;
            let (family, length, protocol) = (head[0], head[1], head[5]);
            Some(RouteChange {
                gone,
                prefix: Some(IpNet::new(destination(family, &body[RTMSG..])?, length).ok()?),
                protocol,
            })
        }
        // struct nhmsg: family, scope, protocol.
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => Some(RouteChange {
            gone,
            prefix: None,
            protocol: *body.get(2)?,
        }),
        _ => None,
    }
}

/// RTA_DST; a default route has none.
fn destination(family: u8, mut attributes: &[u8]) -> Option<IpAddr> {
    let everything = match i32::from(family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    while let Some(&[a, b, c, d]) = attributes.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([c, d]) == RTA_DST {
            return match value.len() {
                4 => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
                16 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
                _ => None,
            };
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(everything)
}
