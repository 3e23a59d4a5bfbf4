//! The API over TLS, with real sockets and clients that are kind, slow or greedy.

use std::net::SocketAddr;
use std::sync::Arc;

use api::http::{Trust, client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::world::{PATIENCE, World};
use crate::manager::connections::Listening;
use crate::manager::tls::{Tls, TlsConfig};

#[tokio::test]
async fn a_client_that_trusts_our_authority_is_answered_over_tls_also_after_a_restart() {
    let world = World::new().await;
    let data = tempfile::tempdir().unwrap();
    let mut authorities = Vec::new();
    for _ in 0..2 {
        let door = Door::open(&world, data.path(), TlsConfig::default()).await;
        let authority = std::fs::read(data.path().join("ca.pem")).unwrap();
        let trusting = client(Trust::Only(&authority)).unwrap().build().unwrap();
        for host in ["localhost", "127.0.0.1"] {
            let url = format!(
                "https://{host}:{}/metadata/endpoints?api-version=2022-09-01",
                door.address.port()
            );
            let answer = trusting.get(&url).send().await.unwrap();
            assert_ne!(answer.status().as_u16(), 421);
        }
        let stranger = client(Trust::Nobody).unwrap().build().unwrap();
        let url = format!("https://localhost:{}/", door.address.port());
        assert!(stranger.get(&url).send().await.is_err(), "nobody else vouches for us");
        authorities.push(authority);
        door.close().await;
    }
    assert_eq!(authorities[0], authorities[1]);
}

#[tokio::test]
async fn a_certificate_that_is_given_is_shown_and_one_without_its_key_is_refused() {
    let world = World::new().await;
    let data = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (data.path().join("c.pem"), data.path().join("k.pem"));
    std::fs::write(&certificate, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let given = TlsConfig {
        certificate: Some(certificate.clone()),
        key: Some(key.clone()),
        names: Vec::new(),
    };
    let door = Door::open(&world, data.path(), given.clone()).await;
    let trusting = client(Trust::Only(own.cert.pem().as_bytes())).unwrap().build().unwrap();
    let url = format!("https://localhost:{}/", door.address.port());
    assert!(trusting.get(url).send().await.is_ok());
    assert!(!data.path().join("ca.pem").exists());
    door.close().await;

    std::fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(
        Tls::prepare(&given, data.path(), "127.0.0.1:0".parse().unwrap()).is_err(),
        "another key"
    );
    std::fs::write(&certificate, "nothing").unwrap();
    let refused = Tls::prepare(&given, data.path(), "127.0.0.1:0".parse().unwrap()).unwrap_err();
    assert!(refused.to_string().contains("c.pem"), "{refused}");
}

#[tokio::test]
async fn headers_larger_than_anybody_needs_are_refused() {
    let world = World::new().await;
    let door = Door::open_plain(&world).await;
    let huge = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n",
        "a".repeat(1 << 20)
    );
    assert!(door.raw(&huge).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-A: b\r\n".repeat(1000));
    assert!(door.raw(&many).await.starts_with("HTTP/1.1 431"));
    door.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_headers_is_sent_away() {
    let world = World::new().await;
    let door = Door::open_plain(&world).await;
    for begun in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The clock runs by itself when nothing else can happen: this ends when the server's patience does.
        let _ = stream.read_to_end(&mut answer).await;
    }
    door.close().await;
}

/// A listener over a world's manager.
struct Door {
    address: SocketAddr,
    drain: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
}

impl Door {
    async fn open(world: &World, data: &std::path::Path, config: TlsConfig) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = Tls::prepare(&config, data, address).unwrap();
        Door::serve(world, address, Listening::Tls(listener, TlsAcceptor::from(tls.config)))
    }

    async fn open_plain(world: &World) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Door::serve(world, address, Listening::Plain(listener))
    }

    fn serve(world: &World, address: SocketAddr, listening: Listening) -> Door {
        let (drain, draining) = watch::channel(false);
        let serving = tokio::spawn(listening.serve(Arc::clone(&world.manager), draining));
        Door {
            address,
            drain,
            serving,
        }
    }

    /// What comes back for these bytes.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // It may be refused before all of it is written.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = vec![0; 64];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned()
    }

    /// Sends clients away and waits until all are gone.
    async fn close(self) {
        self.drain.send_replace(true);
        tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap();
    }
}
