//! Signing in over TLS: what clients read, the tokens they get, and those they must not get in with.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::world::principals::{AUDIENCE, encoded, form, service_principal, sign_in, signed_in, token};
use super::world::{GROUP, World, keys};
use crate::manager::sign_in::SignIn;
use crate::manager::{DEV_SUBSCRIPTION, DEV_TENANT};

#[tokio::test]
async fn a_client_that_follows_the_documents_from_the_metadata_on_gets_a_token_that_opens() {
    let world = World::new().await;
    let (client_id, secret) = service_principal(&world, "Owner").await;
    let metadata = world
        .over_tls("GET", "/metadata/endpoints?api-version=2022-09-01", None, "")
        .await;
    assert_eq!(metadata.body["authentication"]["audiences"][0], AUDIENCE);
    let login = metadata.body["authentication"]["loginEndpoint"].as_str().unwrap();
    assert_eq!(login, AUDIENCE);
    for tenant in [DEV_TENANT, "organizations", "common"] {
        let path = format!("/{tenant}/v2.0/.well-known/openid-configuration");
        let openid = world.over_tls("GET", &path, None, "").await;
        let endpoint = openid.body["token_endpoint"].as_str().unwrap();
        let path = endpoint.strip_prefix(AUDIENCE).unwrap();
        let token = token(&sign_in(&world, path, &client_id, &secret).await);
        assert_eq!(
            world
                .over_tls("GET", "/subscriptions?api-version=2022-12-01", Some(&token), "")
                .await
                .status,
            200
        );
        let keys = openid.body["jwks_uri"]
            .as_str()
            .unwrap()
            .strip_prefix(AUDIENCE)
            .unwrap();
        let keys = world.over_tls("GET", keys, None, "").await;
        let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
        assert_eq!(keys.body["keys"][0]["kid"], kid);
        assert!(keys.body["keys"][0].get("d").is_none(), "only the public half is told");
    }
    let adfs = world
        .over_tls("GET", "/adfs/.well-known/openid-configuration", None, "")
        .await;
    assert_eq!(adfs.body["token_endpoint"], format!("{AUDIENCE}/adfs/oauth2/token"));
}

#[tokio::test]
async fn the_metadata_has_the_shape_that_its_api_version_asks_for() {
    let world = World::new().await;
    let get = async |version: &str| {
        let path = format!("/metadata/endpoints?api-version={version}");
        world.over_tls("GET", &path, None, "").await.body
    };
    assert!(get("2022-09-01").await["suffixes"].is_object());
    assert_eq!(get("2019-05-01").await[0]["resourceManager"], AUDIENCE);
    assert_eq!(get("2015-01-01").await["graphEndpoint"], format!("{AUDIENCE}/graph"));
    assert_eq!(get("1.0").await["authentication"]["loginEndpoint"], AUDIENCE);
}

#[tokio::test]
async fn whoever_asks_wrongly_for_a_token_is_told_why_with_entra_ids_number() {
    let world = World::new().await;
    let (client_id, secret) = service_principal(&world, "Owner").await;
    let right = |field: &str, value: &str| {
        let mut form = form(&client_id, &secret);
        form.retain(|(name, _)| *name != field);
        form.push((field.to_owned().leak(), value.to_owned()));
        encoded(&form)
    };
    let path = format!("/{DEV_TENANT}/oauth2/v2.0/token");
    let check = async |path: &str, body: String, status: u16, error: &str, number: u32| {
        let answer = world.over_tls("POST", path, None, &body).await;
        let told = (
            answer.status,
            answer.body["error"].as_str().unwrap_or_default(),
            &answer.body["error_codes"][0],
        );
        assert_eq!(told, (status, error, &json!(number)), "{body}");
        let words = answer.body["error_description"].as_str().unwrap();
        assert!(words.starts_with(&format!("AADSTS{number}: ")), "{words}");
        assert!(!words.contains(&secret));
    };
    check(&path, right("client_secret", "wrong"), 401, "invalid_client", 7_000_215).await;
    check(&path, right("client_id", "nobody"), 400, "unauthorized_client", 700_016).await;
    check(
        &path,
        right("grant_type", "password"),
        400,
        "unsupported_grant_type",
        70_003,
    )
    .await;
    check(&path, right("scope", "everything"), 400, "invalid_scope", 70_011).await;
    check(
        &path,
        right("scope", "https://evil.example/.default"),
        400,
        "invalid_resource",
        500_011,
    )
    .await;
    check(&path, right("client_secret", ""), 400, "invalid_request", 900_144).await;
    check(&path, String::new(), 400, "invalid_request", 900_144).await;
    check(&path, "%ff=%&&==".to_owned(), 400, "invalid_request", 900_144).await;
    let other = "/00000000-0000-0000-0000-00000000dead/oauth2/v2.0/token";
    check(other, right("x", "y"), 400, "invalid_request", 90_002).await;
}

#[tokio::test]
async fn tokens_that_are_not_ours_not_now_or_not_for_us_open_nothing() {
    let world = World::new().await;
    let (client_id, secret) = service_principal(&world, "Owner").await;
    let good = token(&sign_in(&world, &format!("/{DEV_TENANT}/oauth2/v2.0/token"), &client_id, &secret).await);
    let claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(&good).unwrap();
    let keys = &world.manager.sign_in;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims.clone();
        change(&mut claims);
        keys.sign_for_test(&claims)
    };
    let check = async |name: &str, token: &str, code: &str| {
        for path in [
            GROUP,
            "/subscriptions?api-version=2022-12-01",
            "/routewright/v1/peers",
            "/routewright/v1/service-principals",
        ] {
            let answer = world.over_tls("GET", path, Some(token), "").await;
            assert_eq!((answer.status, answer.code().as_str()), (401, code), "{name}");
            let challenge = answer.header("www-authenticate");
            assert!(
                challenge.starts_with(&format!("Bearer authorization_uri=\"{AUDIENCE}/{DEV_TENANT}\"")),
                "{challenge}"
            );
        }
    };
    let exp = claims["exp"].as_u64().unwrap();
    check(
        "expired",
        &changed(&|it| it["exp"] = json!(exp - 90_000)),
        "ExpiredAuthenticationToken",
    )
    .await;
    check(
        "not yet",
        &changed(&|it| it["nbf"] = json!(exp)),
        "InvalidAuthenticationToken",
    )
    .await;
    let other = changed(&|it| it["aud"] = json!("https://other.example"));
    check("another audience", &other, "InvalidAuthenticationTokenAudience").await;
    let other = changed(&|it| it["iss"] = json!("https://login.example/v2.0"));
    check("another issuer", &other, "InvalidAuthenticationTokenTenant").await;
    check(
        "nobody",
        &changed(&|it| it["oid"] = json!("x")),
        "InvalidAuthenticationToken",
    )
    .await;
    check(
        "no expiry",
        &changed(&|it| drop(it.as_object_mut().unwrap().remove("exp"))),
        "InvalidAuthenticationToken",
    )
    .await;
    let mut pieces: Vec<&str> = good.split('.').collect();
    pieces[2] = "";
    check("no signature", &pieces.join("."), "InvalidAuthenticationToken").await;
    // {"alg":"none","typ":"JWT"}
    pieces[0] = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    check("alg none", &pieces.join("."), "InvalidAuthenticationToken").await;
    let stranger = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let stranger = EncodingKey::from_ec_pem(stranger.as_bytes()).unwrap();
    let foreign = encode(&Header::new(Algorithm::ES256), &claims, &stranger).unwrap();
    check("another key", &foreign, "InvalidAuthenticationToken").await;
    let shared = encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(b"x")).unwrap();
    check("a shared secret", &shared, "InvalidAuthenticationToken").await;
    check("garbage", "garbage", "InvalidAuthenticationToken").await;
    check("much garbage", &"a".repeat(20_000), "InvalidAuthenticationToken").await;
    let none = world.over_tls("GET", GROUP, None, "").await;
    assert_eq!((none.status, none.code().as_str()), (401, "AuthenticationFailed"));
    assert_eq!(
        world.over_tls("GET", GROUP, Some(&good), "").await.status,
        404,
        "there is no such group, but it was looked for"
    );

    let path = format!("/routewright/v1/service-principals/{client_id}");
    assert_eq!(world.delete(&path).await.status, 204);
    check("of somebody who is gone", &good, "InvalidAuthenticationToken").await;
}

#[tokio::test]
async fn a_reset_secret_replaces_the_old_one_and_no_list_tells_either() {
    let world = World::new().await;
    let (client_id, old) = service_principal(&world, "Owner").await;
    let path = format!("/{DEV_TENANT}/oauth2/v2.0/token");
    let reset = world
        .post(&format!("/routewright/v1/service-principals/{client_id}/reset"))
        .await;
    let fresh = reset.body["secret"].as_str().unwrap();
    assert_eq!(sign_in(&world, &path, &client_id, &old).await.status, 401);
    assert_eq!(sign_in(&world, &path, &client_id, fresh).await.status, 200);
    let listed = world.get("/routewright/v1/service-principals").await;
    assert_eq!(listed.body["value"][0]["clientId"], client_id.as_str());
    assert!(
        !listed.text.contains(fresh) && !listed.text.contains("argon2"),
        "{}",
        listed.text
    );
}

#[tokio::test]
async fn the_managed_identity_is_for_programs_on_this_machine_that_ask_with_its_header() {
    let world = World::new().await;
    let path = format!("/metadata/identity/oauth2/token?api-version=2018-02-01&resource={AUDIENCE}");
    let request = || http::Request::builder().uri(&path).header("host", "localhost:8080");
    let body = axum::body::Body::empty;
    let answer = world
        .send(request().header("metadata", "true").body(body()).unwrap())
        .await;
    let token = answer.body["access_token"].as_str().unwrap();
    assert!(answer.body["expires_on"].is_string(), "clients parse a text");
    let claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(token).unwrap();
    assert_eq!(claims["tid"], DEV_TENANT);
    assert_eq!(
        world
            .over_tls("GET", "/subscriptions?api-version=2022-12-01", Some(token), "")
            .await
            .status,
        200
    );
    assert_eq!(world.send(request().body(body()).unwrap()).await.status, 400);
    let proxied = request()
        .header("metadata", "true")
        .header("x-forwarded-for", "192.0.2.1");
    assert_eq!(world.send(proxied.body(body()).unwrap()).await.status, 404);
    assert_eq!(world.over_tls("GET", &path, None, "").await.status, 404);
}

#[tokio::test]
async fn only_who_may_read_everything_is_told_the_whole_health() {
    let mut world = World::new().await;
    world
        .until(|| world.manager.statuses().iter().all(|status| status.borrow().is_up()))
        .await;
    let path = "/routewright/v1/health";
    for everybody in ["problems", "store", "pid"] {
        assert!(
            world.get(path).await.body.get(everybody).is_some(),
            "with --dev: {everybody}"
        );
    }
    let reader = signed_in(&world, "Reader", &format!("/subscriptions/{DEV_SUBSCRIPTION}")).await;
    let nobody = signed_in(&world, "", "").await;
    let whole = world.over_tls("GET", path, Some(&reader), "").await;
    assert!(whole.text.contains("bgpconnections/away"), "{}", whole.text);
    assert_eq!(world.over_tls("GET", path, None, "").await.status, 401);
    // As without --dev.
    let auth = crate::config::Config::default().auth;
    let sign_in = SignIn::new(keys(), DEV_TENANT, &auth, false);
    let short = world.over_tls("GET", path, Some(&nobody), "").await;
    Arc::get_mut(&mut world.manager).unwrap().sign_in = sign_in;
    let stranger = world.get(path).await;
    for answer in [short, stranger] {
        let members: Vec<&String> = answer.body.as_object().unwrap().keys().collect();
        assert_eq!((answer.status, members.len()), (200, 3), "{}", answer.text);
        let instance = answer.body["instances"][0].as_object().unwrap();
        assert_eq!(instance.len(), 3, "{}", answer.text);
        assert!(!answer.text.contains("away"), "{}", answer.text);
    }
    assert_eq!(world.get("/healthz").await.body.as_object().unwrap().len(), 1);
    assert_eq!(world.get("/metrics").await.status, 200, "open on this machine");
    assert_eq!(world.get("/routewright/v1/peers").await.status, 401);
}

#[tokio::test]
async fn a_sign_in_whose_turn_does_not_come_is_told_to_come_back_and_not_that_its_secret_is_wrong() {
    let world = World::new().await;
    let (client_id, secret) = service_principal(&world, "").await;
    let path = format!("/{DEV_TENANT}/oauth2/v2.0/token");
    let turns = world.manager.sign_in.all_turns_for_test().await;
    tokio::time::pause();
    let busy = sign_in(&world, &path, &client_id, &secret).await;
    assert_eq!(
        (busy.status, busy.body["error"].as_str()),
        (503, Some("temporarily_unavailable")),
        "{}",
        busy.text
    );
    assert_eq!(busy.header("retry-after"), "5");
    tokio::time::resume();
    drop(turns);
    token(&sign_in(&world, &path, &client_id, &secret).await);
}
