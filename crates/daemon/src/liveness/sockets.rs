//! BFD's sockets: one that receives for each of our addresses and ports, one that sends for each session (RFC 5881 §4: its source port is its
//! own). In the namespace that has the address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use bfd::{MULTIHOP_PORT, SINGLE_HOP_PORT, TTL};
use socket2::{Domain, Protocol, Socket, Type};

use crate::connection::{NETWORK_CONTROL, SocketError, in_namespace_at_once, set_option, set_ttl};

/// Source ports (RFC 5881 §4).
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;
/// So many source ports are tried; others may use some.
const MOST_TRIES: u16 = 1_000;
/// Longer than any packet: Length is one octet.
const MOST_OCTETS: usize = 256;

pub(super) fn port(multihop: bool) -> u16 {
    if multihop { MULTIHOP_PORT } else { SINGLE_HOP_PORT }
}

/// A packet that has come in.
pub(super) struct Received {
    pub(super) from: IpAddr,
    pub(super) ttl: u8,
    pub(super) octets: Vec<u8>,
}

/// Receives what comes to one of our addresses.
#[derive(Debug)]
pub(super) struct Receiver(Socket);

impl Receiver {
    pub(super) fn open(namespace: Option<&Path>, local: IpAddr, multihop: bool) -> Result<Receiver, SocketError> {
        let address = SocketAddr::new(local, port(multihop));
        let opened = in_namespace_at_once(namespace, move || {
            let socket = socket(local)?;
            // Somebody else's BFD on this machine may listen on all addresses; ours is the closer match.
            socket
                .set_reuse_address(true)
                .map_err(SocketError::option("SO_REUSEADDR"))?;
            let (level, option) = match local {
                IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVTTL),
                IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
            };
            set_option(&socket, level, option, 1).map_err(SocketError::option("RECVTTL"))?;
            bind(&socket, address)?;
            Ok(socket)
        });
        opened.map(Receiver)
    }

    /// The next packet; `None`: there is none now, or what came cannot be used.
    pub(super) fn receive(&self) -> Option<Received> {
        let mut octets = [0_u8; MOST_OCTETS];
        // Aligned as the kernel's control messages are.
        let mut control = [0_u64; 8];
        // SAFETY: all of these are plain data, for which zero is a value.
        let mut sender: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let mut vector = libc::iovec {
            iov_base: octets.as_mut_ptr().cast(),
            iov_len: octets.len(),
        };
        // SAFETY: as above.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw mut sender).cast();
        message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        // SAFETY: every pointer in `message` is to a buffer of the length said beside it, and all outlive the call.
        let length = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        let length = usize::try_from(length).ok()?;
        Some(Received {
            from: address_of(&sender)?,
            ttl: ttl_of(&message)?,
            octets: octets[..length.min(MOST_OCTETS)].to_vec(),
        })
    }
}

impl AsRawFd for Receiver {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Sends one session's packets.
#[derive(Debug)]
pub(super) struct Sender {
    socket: Socket,
    to: SocketAddr,
}

impl Sender {
    /// `random` is where the search for a free source port begins.
    pub(super) fn open(
        namespace: Option<&Path>,
        local: IpAddr,
        remote: IpAddr,
        multihop: bool,
        random: u16,
    ) -> Result<Sender, SocketError> {
        let socket = in_namespace_at_once(namespace, move || {
            let socket = socket(local)?;
            //= https://www.rfc-editor.org/rfc/rfc5881#section-5
            //# All BFD Control packets for the session MUST be sent with a Time to Live (TTL) or Hop Limit value of 255.
            set_ttl(&socket, local, TTL).map_err(SocketError::option("TTL"))?;
            let (first, count) = (*SOURCE_PORTS.start(), SOURCE_PORTS.len() as u16);
            let mut tried = 0;
            loop {
                let port = first + random.wrapping_add(tried) % count;
                tried += 1;
                match bind(&socket, SocketAddr::new(local, port)) {
                    Err(SocketError::Bind { source, .. })
                        if source.kind() == io::ErrorKind::AddrInUse && tried < MOST_TRIES => {}
                    bound => break bound.map(|()| socket),
                }
            }
        })?;
        let to = SocketAddr::new(remote, port(multihop));
        Ok(Sender { socket, to })
    }

    pub(super) fn send(&self, octets: &[u8]) -> io::Result<()> {
        self.socket.send_to(octets, &self.to.into()).map(drop)
    }
}

/// The address may come later, and go for a while: packets do not care.
fn socket(local: IpAddr) -> Result<Socket, SocketError> {
    let option = SocketError::option;
    let domain = Domain::for_address(SocketAddr::new(local, 0));
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP)).map_err(option("socket"))?;
    match local {
        IpAddr::V4(_) => {
            socket.set_freebind_v4(true).map_err(option("IP_FREEBIND"))?;
            socket.set_tos_v4(NETWORK_CONTROL).map_err(option("IP_TOS"))?;
        }
        IpAddr::V6(_) => {
            socket.set_only_v6(true).map_err(option("IPV6_V6ONLY"))?;
            socket.set_freebind_v6(true).map_err(option("IPV6_FREEBIND"))?;
            socket.set_tclass_v6(NETWORK_CONTROL).map_err(option("IPV6_TCLASS"))?;
        }
    }
    Ok(socket)
}

fn bind(socket: &Socket, address: SocketAddr) -> Result<(), SocketError> {
    socket
        .bind(&address.into())
        .map_err(|source| SocketError::Bind { address, source })
}

fn address_of(sender: &libc::sockaddr_storage) -> Option<IpAddr> {
    match libc::c_int::from(sender.ss_family) {
        libc::AF_INET => {
            // SAFETY: the kernel says that it has written an address of this family, and the storage is large enough and aligned for each.
            let v4 = unsafe { &*std::ptr::from_ref(sender).cast::<libc::sockaddr_in>() };
            Some(IpAddr::V4(u32::from_be(v4.sin_addr.s_addr).into()))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*std::ptr::from_ref(sender).cast::<libc::sockaddr_in6>() };
            Some(IpAddr::V6(v6.sin6_addr.s6_addr.into()))
        }
        _ => None,
    }
}

fn ttl_of(message: &libc::msghdr) -> Option<u8> {
    // SAFETY: recvmsg has filled in `message`; the macros of the kernel's interface stay within the control buffer that it names.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so it is to a control message in the buffer.
        let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        if matches!(
            (level, kind),
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)
        ) {
            // SAFETY: the data of both is an int.
            let ttl = unsafe { libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned() };
            return u8::try_from(ttl).ok();
        }
        // SAFETY: as for the first.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}
