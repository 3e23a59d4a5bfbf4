//! A socket for BGP: bound to our address, in the right namespace, with what all of them have in common.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::ttl;

/// DSCP CS6, network control: routers let routing pass when they are full.
pub(crate) const NETWORK_CONTROL: u32 = 48 << 2;

/// Why there is no socket, or no connection.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// No interface (in that namespace) has our address.
    #[error("address not present: {address}")]
    AddressNotPresent {
        /// Ours.
        address: IpAddr,
    },
    /// The namespace is not there or cannot be entered.
    #[error("network namespace {}: {source}", path.display())]
    Namespace {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The address cannot be used.
    #[error("{address}: {source}")]
    Bind {
        /// Our address and port.
        address: SocketAddr,
        /// Why: in use, not permitted.
        source: io::Error,
    },
    /// The kernel refuses an option.
    #[error("{option}: {source}")]
    Option {
        /// Which.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The peer could not be reached.
    #[error("{0}")]
    Connect(io::Error),
    /// It did not answer.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

impl SocketError {
    pub(crate) fn option(option: &'static str) -> impl FnOnce(io::Error) -> SocketError {
        move |source| SocketError::Option { option, source }
    }
}

/// Binds. The address must exist: with IP_FREEBIND nobody would ever learn that it doesn't.
pub(super) fn bound(local: SocketAddr, ttl: u8) -> Result<Socket, SocketError> {
    let option = SocketError::option;
    let socket = Socket::new(
        Domain::for_address(local),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )
    .map_err(option("socket"))?;
    socket.set_reuse_address(true).map_err(option("SO_REUSEADDR"))?;
    // A KEEPALIVE or a single withdrawal must not wait for an acknowledgement.
    socket.set_tcp_nodelay(true).map_err(option("TCP_NODELAY"))?;
    if local.is_ipv6() {
        socket.set_only_v6(true).map_err(option("IPV6_V6ONLY"))?;
        socket.set_tclass_v6(NETWORK_CONTROL).map_err(option("IPV6_TCLASS"))?;
    } else {
        socket.set_tos_v4(NETWORK_CONTROL).map_err(option("IP_TOS"))?;
    }
    ttl::set_ttl(&socket, local.ip(), ttl).map_err(option("TTL"))?;
    socket.bind(&local.into()).map_err(|source| match source.kind() {
        io::ErrorKind::AddrNotAvailable => SocketError::AddressNotPresent { address: local.ip() },
        _ => SocketError::Bind { address: local, source },
    })?;
    Ok(socket)
}
