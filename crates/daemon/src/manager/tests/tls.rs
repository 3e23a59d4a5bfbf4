//! The API over TLS, with real sockets and clients that are kind, slow or greedy.

use std::net::SocketAddr;
use std::sync::Arc;

use api::http::{Trust, client};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::world::principals::{encoded, form, service_principal};
use super::world::{GROUP, PATIENCE, World, hub};
use crate::manager::DEV_TENANT;
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

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_body_is_told_so() {
    let world = World::new().await;
    let door = Door::open_plain(&world).await;
    let begun =
        format!("PUT {GROUP}?api-version=2022-01-01 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n{{");
    let mut answer = String::new();
    // The clock may run before the kernel has delivered the headers: then it is those that came too late.
    for _ in 0..100 {
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut bytes = vec![0; 4096];
        let read = stream.read(&mut bytes).await.unwrap_or_default();
        answer = String::from_utf8_lossy(&bytes[..read]).into_owned();
        if !answer.is_empty() {
            break;
        }
    }
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"code\":\"RequestTimeout\""), "{answer}");
    door.close().await;
}

/// Each of these is tested by itself elsewhere, without a socket; here all of them come in as strangers' do.
#[tokio::test]
async fn whatever_is_wrong_with_a_request_is_an_arm_error_at_the_real_listener() {
    let world = World::new().await;
    world.make_route_server().await;
    let data = tempfile::tempdir().unwrap();
    let door = Door::open(&world, data.path(), TlsConfig::default()).await;
    let stranger = Stranger::new(&door, data.path());
    let owner = stranger.sign_in(service_principal(&world, "Owner").await).await;
    let reader = stranger.sign_in(service_principal(&world, "Reader").await).await;
    let changed = |name: &str, value: Value| {
        let mut claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(&owner).unwrap();
        claims[name] = value;
        world.manager.sign_in.sign_for_test(&claims)
    };
    let group = format!("{GROUP}?api-version=2022-01-01");
    let peer = format!("{}?api-version=2022-01-01", hub("/bgpConnections/x"));
    let huge = " ".repeat((4 << 20) + 1);
    for (what, token, method, path, body, status, code) in [
        ("no token", "", "GET", group.as_str(), "", 401, "AuthenticationFailed"),
        (
            "a bad token",
            "garbage",
            "GET",
            &group,
            "",
            401,
            "InvalidAuthenticationToken",
        ),
        (
            "an expired one",
            &changed("exp", json!(1)),
            "GET",
            &group,
            "",
            401,
            "ExpiredAuthenticationToken",
        ),
        (
            "of another audience",
            &changed("aud", json!("https://other.example")),
            "GET",
            &group,
            "",
            401,
            "InvalidAuthenticationTokenAudience",
        ),
        ("no role", &reader, "PUT", &peer, "{}", 403, "AuthorizationFailed"),
        (
            "malformed JSON",
            &owner,
            "PUT",
            &peer,
            "{\"properties\": ",
            400,
            "InvalidRequestContent",
        ),
        (
            "a huge body",
            &owner,
            "PUT",
            &peer,
            &huge,
            413,
            "RequestContentTooLarge",
        ),
        (
            "an encoded slash",
            &owner,
            "GET",
            "/subscriptions/a%2Fb",
            "",
            400,
            "InvalidRequestUri",
        ),
        (
            "an empty name",
            &owner,
            "GET",
            "/subscriptions//b",
            "",
            400,
            "InvalidRequestUri",
        ),
        (
            "a NUL",
            &owner,
            "GET",
            "/subscriptions/a%00b",
            "",
            400,
            "InvalidRequestUri",
        ),
        (
            "no UTF-8",
            &owner,
            "GET",
            "/subscriptions/%ff%fe",
            "",
            400,
            "InvalidRequestUri",
        ),
        (
            "no api-version",
            &owner,
            "GET",
            GROUP,
            "",
            400,
            "MissingApiVersionParameter",
        ),
    ] {
        let answer = stranger.ask(token, method, path, body).await;
        let told: Value =
            serde_json::from_str(&answer.1).unwrap_or_else(|error| panic!("{what}: {error}: {}", answer.1));
        assert_eq!(
            (answer.0, told["error"]["code"].as_str()),
            (status, Some(code)),
            "{what}"
        );
        assert!(
            told["error"]["message"].as_str().is_some_and(|text| !text.is_empty()),
            "{what}"
        );
    }
    // And it still answers whoever asks as one should.
    assert_eq!(stranger.ask(&owner, "GET", &group, "").await.0, 200);
    door.close().await;

    let door = Door::open_plain(&world).await;
    for path in [
        "/subscriptions/../metrics",
        "/subscriptions/%2e%2e/metrics",
        "/./metrics",
    ] {
        let answer = door
            .raw(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
    }
    door.close().await;
}

/// Somebody on another machine who trusts our authority.
struct Stranger {
    client: reqwest::Client,
    url: String,
}

impl Stranger {
    fn new(door: &Door, data: &std::path::Path) -> Stranger {
        let authority = std::fs::read(data.join("ca.pem")).unwrap();
        Stranger {
            client: client(Trust::Only(&authority)).unwrap().build().unwrap(),
            url: format!("https://localhost:{}", door.address.port()),
        }
    }

    /// Status and body of the answer.
    async fn ask(&self, token: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        let answer = request.body(body.to_owned()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn sign_in(&self, (client_id, secret): (String, String)) -> String {
        let mut form = form(&client_id, &secret);
        form.retain(|(name, _)| *name != "scope");
        let scope = format!("{}/.default", self.url);
        form.push(("scope", scope));
        let path = format!("{}/{DEV_TENANT}/oauth2/v2.0/token", self.url);
        let answer = self.client.post(path).body(encoded(&form)).send().await.unwrap();
        let told: Value = answer.json().await.unwrap();
        told["access_token"]
            .as_str()
            .unwrap_or_else(|| panic!("{told}"))
            .to_owned()
    }
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
