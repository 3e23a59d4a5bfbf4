//! Service principals of a world, and how they sign in.

use axum::body::Body;
use serde_json::{Value, json};

use super::{Answer, World};
use crate::manager::{DEV_SUBSCRIPTION, DEV_TENANT};

pub(crate) const AUDIENCE: &str = "https://localhost:8443";

/// Client id and secret of a fresh one with a built-in role over the subscription; an empty role: none.
pub(crate) async fn service_principal(world: &World, role: &str) -> (String, String) {
    let body = json!({"displayName": "ci"}).to_string();
    let request = http::Request::post("/routewright/v1/service-principals").header("host", "localhost");
    let answer = world.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let text = |name: &str| answer.body[name].as_str().unwrap().to_owned();
    if !role.is_empty() {
        let assigned = assign(
            world,
            &text("objectId"),
            role,
            &format!("/subscriptions/{DEV_SUBSCRIPTION}"),
        )
        .await;
        assert_eq!(assigned.status, 201, "{}", assigned.body);
    }
    (text("clientId"), text("secret"))
}

/// A token of a fresh service principal with this role over this scope.
pub(crate) async fn signed_in(world: &World, role: &str, scope: &str) -> String {
    let (client_id, secret) = service_principal(world, "").await;
    let path = format!("/{DEV_TENANT}/oauth2/v2.0/token");
    let token = token(&sign_in(world, &path, &client_id, &secret).await);
    if !role.is_empty() {
        let assigned = assign(world, &object_id(&token), role, scope).await;
        assert_eq!(assigned.status, 201, "{}", assigned.body);
    }
    token
}

/// Who a token is of.
pub(crate) fn object_id(token: &str) -> String {
    let claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(token).unwrap();
    claims["oid"].as_str().unwrap().to_owned()
}

/// Assigns a role, as administrator.
pub(crate) async fn assign(world: &World, principal: &str, role: &str, scope: &str) -> Answer {
    let definitions = "/providers/Microsoft.Authorization/roleDefinitions";
    let found = world
        .get(&format!(
            "{scope}{definitions}?api-version=2022-04-01&$filter=roleName%20eq%20'{}'",
            role.replace(' ', "%20")
        ))
        .await;
    let role = found.body["value"][0]["id"].as_str().unwrap().to_owned();
    let path = format!(
        "{scope}/providers/Microsoft.Authorization/roleAssignments/{}",
        uuid::Uuid::new_v4()
    );
    world
        .put(
            &path,
            json!({"properties": {"roleDefinitionId": role, "principalId": principal}}),
        )
        .await
}

pub(crate) async fn sign_in(world: &World, path: &str, client_id: &str, secret: &str) -> Answer {
    world
        .over_tls("POST", path, None, &encoded(&form(client_id, secret)))
        .await
}

pub(crate) fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["access_token"].as_str().unwrap().to_owned()
}

pub(crate) fn form(client_id: &str, secret: &str) -> Vec<(&'static str, String)> {
    vec![
        ("grant_type", "client_credentials".to_owned()),
        ("client_id", client_id.to_owned()),
        ("client_secret", secret.to_owned()),
        ("scope", format!("{AUDIENCE}/.default")),
    ]
}

pub(crate) fn encoded(form: &[(&str, String)]) -> String {
    let pairs = form
        .iter()
        .map(|(name, value)| format!("{name}={}", value.replace('/', "%2F")));
    pairs.collect::<Vec<_>>().join("&")
}
