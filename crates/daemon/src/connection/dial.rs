//! Opening a connection to a peer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bgp::Password;
use tokio::net::{TcpSocket, TcpStream};

use super::socket::{SocketError, bound};
use super::{DEFAULT_TTL, in_namespace, md5, ttl};

/// A peer that has not answered by now is dialled again later: its SYNs would only be sent at growing distances.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Whom to dial, and how.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Our address; the port is any.
    pub local: IpAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// Path of the network namespace that has our address; `None`: the process's own.
    pub namespace: Option<PathBuf>,
    /// TCP MD5 password (RFC 2385).
    pub md5_password: Option<Password>,
    /// TTL security (RFC 5082): the largest number of hops the peer may be away, 1 on the link; `None`: off.
    pub ttl_security_hops: Option<u8>,
}

/// Dials. Dropping the future gives up.
pub async fn dial(options: DialOptions) -> Result<TcpStream, SocketError> {
    let remote = options.remote;
    let namespace = options.namespace.clone();
    let socket = in_namespace(namespace.as_deref(), move || prepare(&options)).await?;
    match tokio::time::timeout(DIAL_TIMEOUT, socket.connect(remote)).await {
        Err(_) => Err(SocketError::TimedOut(DIAL_TIMEOUT)),
        Ok(Err(error)) => Err(SocketError::Connect(plain(error))),
        Ok(Ok(stream)) => Ok(stream),
    }
}

fn prepare(options: &DialOptions) -> Result<TcpSocket, SocketError> {
    let outgoing_ttl = match options.ttl_security_hops {
        Some(_) => 255,
        None => DEFAULT_TTL,
    };
    let socket = bound(SocketAddr::new(options.local, 0), outgoing_ttl)?;
    if let Some(hops) = options.ttl_security_hops {
        ttl::set_least_ttl(&socket, options.local, ttl::least_ttl(hops)).map_err(SocketError::option("IP_MINTTL"))?;
    }
    if options.md5_password.is_some() {
        md5::set_key(&socket, options.remote.ip(), options.md5_password.as_ref())
            .map_err(SocketError::option("TCP_MD5SIG"))?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// "Connection refused" without "(os error 111)".
fn plain(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => io::Error::new(error.kind(), text.to_lowercase()),
        None => error,
    }
}
