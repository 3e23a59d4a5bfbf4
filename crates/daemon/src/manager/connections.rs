//! Connections of clients: accepted up to a bound, spoken HTTP/1.1 with, and ended in order.
//!
//! ```text
//! listener ─► permit ─► TLS handshake ─► HTTP/1.1 ─► http::handle      one task per connection
//! ```
//!
//! A client that is slow with its handshake or its headers loses its connection (its body is `http`'s matter); one that sends
//! larger headers than anybody needs is told so (431).

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::{Manager, http};

/// Connections at a time, over one listener. `az` and the SDKs use a handful.
const MAX_CONNECTIONS: usize = 1024;
/// Bytes of a request's line and headers. Tokens of large issuers have some 10 KiB.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Headers of a request.
const MAX_HEADERS: usize = 100;
/// For the whole of a request's headers, and between two requests.
const HEADER_PATIENCE: Duration = Duration::from_secs(60);
/// For a TLS handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// A listener that cannot accept (no file descriptors left) tries again after this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a request came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// In plain, from this machine.
    Loopback,
    /// Over TLS, from anywhere.
    Tls,
    /// Over the socket in the run directory, which only our own user (and root) can reach.
    Socket,
}

/// Where the client of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Where connections come from.
pub(crate) enum Listening {
    Plain(TcpListener),
    Tls(TcpListener, TlsAcceptor),
    Socket(UnixListener),
}

impl Listening {
    fn way(&self) -> Way {
        match self {
            Listening::Plain(_) => Way::Loopback,
            Listening::Tls(..) => Way::Tls,
            Listening::Socket(_) => Way::Socket,
        }
    }

    /// Accepts connections until `draining`; returns when all have ended.
    pub(super) async fn serve(self, manager: Arc<Manager>, mut draining: watch::Receiver<bool>) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return;
            };
            let client = Client {
                manager: Arc::clone(&manager),
                way: self.way(),
                draining: draining.clone(),
                _permit: permit,
            };
            tokio::select! {
                accepted = self.accept(client) => if let Err(error) = accepted {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                },
                () = ends(&mut draining) => break,
            }
        }
        // Every connection has a permit until it ends.
        let all = u32::try_from(MAX_CONNECTIONS).expect("a small number");
        let _ = permits.acquire_many(all).await;
    }

    async fn accept(&self, client: Client) -> io::Result<()> {
        match self {
            Listening::Plain(listener) => {
                let (stream, peer) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                tokio::spawn(client.talk(stream, Some(peer.ip())));
            }
            Listening::Tls(listener, acceptor) => {
                let (stream, peer) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                let handshake = acceptor.accept(stream);
                tokio::spawn(async move {
                    match tokio::time::timeout(HANDSHAKE_PATIENCE, handshake).await {
                        Ok(Ok(stream)) => client.talk(stream, Some(peer.ip())).await,
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
                    }
                });
            }
            Listening::Socket(listener) => {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(client.talk(stream, None));
            }
        }
        Ok(())
    }
}

/// Waits until clients are to be sent away.
async fn ends(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Who serves one connection.
struct Client {
    manager: Arc<Manager>,
    way: Way,
    draining: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Client {
    async fn talk(mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, address: Option<IpAddr>) {
        let way = self.way;
        let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
            let manager = Arc::clone(&self.manager);
            async move {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(way);
                if let Some(address) = address {
                    request.extensions_mut().insert(ClientAddress(address.to_canonical()));
                }
                Ok::<_, Infallible>(http::handle(State(manager), request).await)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_PATIENCE)
            .max_buf_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = ends(&mut self.draining) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a client's connection ended early");
        }
    }
}
