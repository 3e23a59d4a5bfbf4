//! Tokens of another issuer, a small real one that serves its documents over HTTP on loopback.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::world::principals::{assign, object_id, signed_in};
use super::world::{PATIENCE, World, keys};
use crate::config::{AuthConfig, Config};
use crate::manager::sign_in::TIME_BETWEEN_FETCHES;
use crate::manager::sign_in::keys::Keys;
use crate::store::SqliteStore;

const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";
const AUDIENCE: &str = "api://routewright";
const ALICE: &str = "aaaaaaaa-0000-0000-0000-000000000001";

/// Serves a discovery document and the public halves of its keys.
struct Issuer {
    url: String,
    keys: Arc<Mutex<Vec<Keys>>>,
    fetches: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Issuer {
    async fn start() -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let keys = Arc::new(Mutex::new(vec![keys()]));
        let fetches = Arc::new(AtomicU64::new(0));
        let document = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
        let (served, counted) = (Arc::clone(&keys), Arc::clone(&fetches));
        let router = axum::Router::new()
            .route(
                "/.well-known/openid-configuration",
                axum::routing::get(async || axum::Json(document)),
            )
            .route(
                "/keys",
                axum::routing::get(async move || {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let all: Vec<Value> = served.lock().unwrap().iter().map(public).collect();
                    axum::Json(json!({ "keys": all }))
                }),
            );
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Issuer {
            url,
            keys,
            fetches,
            task,
        }
    }

    /// A token of the newest key with these claims over those of a good one.
    fn token(&self, change: Value) -> String {
        let now = jiff::Timestamp::now().as_second();
        let mut claims = json!({"iss": self.url, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 600, "sub": ALICE,
            "azp": "portal"});
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let keys = self.keys.lock().unwrap();
        keys.last().unwrap().sign_for_test(&claims)
    }

    fn rotate(&self) {
        *self.keys.lock().unwrap() = vec![keys()];
    }

    async fn world(&self) -> World {
        let config = Config {
            auth: AuthConfig {
                issuer: Some(self.url.clone()),
                audience: Some(AUDIENCE.to_owned()),
                managed_identity: false,
            },
            ..Config::default()
        };
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(directory.path()).unwrap());
        let mut world = World::over(store, &config).await;
        world._directory = Some(directory);
        assert_eq!(assign(&world, ALICE, "Reader", SUBSCRIPTION).await.status, 201);
        world
    }
}

fn public(keys: &Keys) -> Value {
    serde_json::to_value(keys.public_for_test()).unwrap()["keys"][0].clone()
}

async fn read(world: &World, token: &str) -> (u16, String) {
    let answer = world.over_tls("GET", SUBSCRIPTION, Some(token), "").await;
    (answer.status, answer.code())
}

fn refused(code: &str) -> (u16, String) {
    (401, code.to_owned())
}

#[tokio::test]
async fn a_token_of_the_issuer_opens_what_roles_give_its_subject_and_its_keys_are_fetched_once() {
    let issuer = Issuer::start().await;
    let world = issuer.world().await;
    for _ in 0..3 {
        assert_eq!(read(&world, &issuer.token(json!({}))).await, (200, String::new()));
    }
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 1);
    let group = format!("{SUBSCRIPTION}/resourceGroups/g");
    let denied = world
        .over_tls("PUT", &group, Some(&issuer.token(json!({}))), "{}")
        .await;
    let words = denied.body["error"]["message"].as_str().unwrap();
    assert!(
        words.contains(&format!("The client 'portal' with object id '{ALICE}'")),
        "{words}"
    );
    // Somebody without a role has signed in, and may do nothing.
    let bob = issuer.token(json!({"sub": "bob"}));
    assert_eq!(read(&world, &bob).await, (403, "AuthorizationFailed".to_owned()));
    issuer.task.abort();
}

#[tokio::test]
async fn the_issuer_cannot_give_the_id_of_somebody_of_ours() {
    let issuer = Issuer::start().await;
    let world = issuer.world().await;
    let owner = object_id(&signed_in(&world, "Owner", SUBSCRIPTION).await);
    for id in [
        owner.clone(),
        owner.to_uppercase(),
        "administrator".to_owned(),
        "anyone".to_owned(),
    ] {
        for claim in ["sub", "oid"] {
            let token = issuer.token(json!({claim: id}));
            assert_eq!(
                read(&world, &token).await,
                refused("InvalidAuthenticationToken"),
                "{claim} {id}"
            );
        }
    }
    issuer.task.abort();
}

#[tokio::test]
async fn a_token_for_another_audience_out_of_its_time_or_of_nobody_opens_nothing() {
    let issuer = Issuer::start().await;
    let world = issuer.world().await;
    let now = jiff::Timestamp::now().as_second();
    for (change, code) in [
        (json!({"aud": "api://other"}), "InvalidAuthenticationTokenAudience"),
        (json!({ "exp": now - 300 }), "ExpiredAuthenticationToken"),
        (json!({ "nbf": now + 300 }), "InvalidAuthenticationToken"),
        (json!({"sub": null}), "InvalidAuthenticationToken"),
        (
            json!({"iss": "https://elsewhere.example"}),
            "InvalidAuthenticationToken",
        ),
    ] {
        assert_eq!(
            read(&world, &issuer.token(change.clone())).await,
            refused(code),
            "{change}"
        );
    }
    // The claims of a good token under a signature of another one.
    let (good, other) = (issuer.token(json!({})), issuer.token(json!({"jti": "other"})));
    let (claims, _) = good.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    let forged = format!("{claims}.{signature}");
    assert_eq!(read(&world, &forged).await, refused("InvalidAuthenticationToken"));
    // Nothing that is signed with what everybody knows: the public key as a shared secret, or not at all.
    let (_, body) = claims.split_once('.').unwrap();
    let kid = jsonwebtoken::decode_header(&good).unwrap().kid.unwrap();
    for header in [json!({"alg": "none", "kid": kid}), json!({"alg": "HS256", "kid": kid})] {
        let unsigned = format!("{}.{body}.", base64url(&header.to_string()));
        assert_eq!(read(&world, &unsigned).await.0, 401, "{header}");
    }
    issuer.task.abort();
}

#[tokio::test]
async fn rotated_keys_are_fetched_anew_but_a_stranger_cannot_make_us_fetch_all_the_time() {
    let issuer = Issuer::start().await;
    let world = issuer.world().await;
    let before = issuer.token(json!({}));
    assert_eq!(read(&world, &before).await.0, 200);
    issuer.rotate();
    let after = issuer.token(json!({}));
    for _ in 0..5 {
        assert_eq!(read(&world, &after).await, refused("InvalidAuthenticationToken"));
    }
    assert_eq!(
        issuer.fetches.load(Ordering::SeqCst),
        1,
        "one fetch in its time, whoever asks"
    );
    let later = TIME_BETWEEN_FETCHES + Duration::from_secs(1);
    world.manager.sign_in.let_pass_for_test(later).await;
    assert_eq!(read(&world, &after).await, (200, String::new()));
    // What it no longer vouches for is no longer believed.
    assert_eq!(read(&world, &before).await, refused("InvalidAuthenticationToken"));
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 2);
    issuer.task.abort();
}

#[tokio::test]
async fn an_issuer_that_is_away_closes_the_door_to_its_tokens_and_to_no_others() {
    let issuer = Issuer::start().await;
    let world = issuer.world().await;
    let token = issuer.token(json!({}));
    issuer.task.abort();
    // The listener goes with its task.
    let deadline = Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(issuer.url.trim_start_matches("http://"))
        .await
        .is_ok()
    {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert_eq!(read(&world, &token).await, refused("InvalidAuthenticationToken"));
    let own = signed_in(&world, "Reader", SUBSCRIPTION).await;
    assert_eq!(read(&world, &own).await.0, 200);
}

fn base64url(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            encoded.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    encoded
}
