//! `POST /{tenant}/oauth2/v2.0/token`: a service principal's id and secret for a token (RFC 6749 §4.4), refused with Entra ID's codes;
//! and the managed identity's endpoint, which gives programs on this machine a token without any secret.

use axum::response::Response;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::tokens::{Claims, LIFETIME_SECS};
use super::{Identity, SignIn, now_secs};
use crate::manager::Manager;
use crate::manager::connections::Way;
use crate::manager::http::{Incoming, RETRY_LATER, decode_query, json_response};

/// A token's resource is not longer.
const MAX_RESOURCE_BYTES: usize = 512;

/// Why there is no token: RFC 6749 §5.2 and Entra ID's own number and words.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: u16,
    error: &'static str,
    number: u32,
    message: String,
}

/// Answers the token endpoint's paths (lower case), if it is one of them.
pub(super) async fn answer(manager: &Manager, incoming: &Incoming, path: &[&str]) -> Option<Response> {
    let tenant = match path {
        [tenant, "oauth2", "v2.0", "token"] | [tenant, "oauth2", "token"] => *tenant,
        ["metadata", "identity", "oauth2", "token"] => return Some(managed_identity(manager, incoming)),
        _ => return None,
    };
    let answered = match incoming.method == Method::POST {
        true => client_credentials(manager, incoming, tenant).await,
        false => Err(missing("grant_type")),
    };
    Some(match answered {
        Ok(token) => json_response(StatusCode::OK, &token),
        Err(refusal) => refusal.response(),
    })
}

async fn client_credentials(manager: &Manager, incoming: &Incoming, tenant: &str) -> Result<Value, Refusal> {
    let sign_in = &manager.sign_in;
    if !sign_in.is_tenant(tenant) {
        return Err(Refusal {
            status: 400,
            error: "invalid_request",
            number: 90_002,
            message: format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID; here it is '{}'.",
                sign_in.tenant
            ),
        });
    }
    let form = decode_query(&String::from_utf8_lossy(&incoming.body));
    let field = |name: &str| {
        form.iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let need = |name: &str| {
        field(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| missing(name))
    };
    let grant = need("grant_type")?;
    if grant != "client_credentials" {
        return Err(Refusal {
            status: 400,
            error: "unsupported_grant_type",
            number: 70_003,
            message: format!(
                "The app requested an unsupported grant type '{}'. Sign in as a service principal.",
                shorten(grant)
            ),
        });
    }
    let client_id = need("client_id")?;
    // The first form of the endpoint names the resource itself, the second a scope of it.
    let resource = match field("resource").filter(|resource| !resource.is_empty()) {
        Some(resource) => resource.to_owned(),
        None => resource_of_scope(need("scope")?)?,
    };
    let secret = need("client_secret")?;
    let key = client_id.to_ascii_lowercase();
    let principal = manager
        .core
        .look(|state| state.directory.principals.get(&key).cloned().ok_or(()))
        .await;
    let Ok(principal) = principal else {
        return Err(Refusal {
            status: 400,
            error: "unauthorized_client",
            number: 700_016,
            message: format!(
                "Application with identifier '{}' was not found in the directory '{}'. Make one with `routewright sp create`.",
                shorten(client_id),
                sign_in.tenant
            ),
        });
    };
    let identity = Identity::of(&principal);
    let Some(is_right) = sign_in.has_secret(principal, secret).await else {
        return Err(Refusal {
            status: 503,
            error: "temporarily_unavailable",
            number: 90_033,
            message: "Too many sign-ins at a time. The secret was not looked at. Please try again.".to_owned(),
        });
    };
    if !is_right {
        return Err(Refusal {
            status: 401,
            error: "invalid_client",
            number: 7_000_215,
            message: format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value for app '{}'.",
                identity.client_id
            ),
        });
    }
    let token = issue(sign_in, incoming, &identity, &resource)?;
    Ok(json!({
        "token_type": "Bearer", "expires_in": LIFETIME_SECS, "ext_expires_in": LIFETIME_SECS, "access_token": token,
        "resource": resource,
    }))
}

/// `{resource}/.default`, the resource taken as it is written: with a slash at its end the scope has two.
fn resource_of_scope(scope: &str) -> Result<String, Refusal> {
    match scope.split(' ').find_map(|scope| scope.strip_suffix("/.default")) {
        Some(resource) if resource.len() <= MAX_RESOURCE_BYTES => Ok(resource.to_owned()),
        _ => Err(Refusal {
            status: 400,
            error: "invalid_scope",
            number: 70_011,
            message: format!(
                "The provided value for the input parameter 'scope' is not valid. The scope '{}' must end in '/.default'.",
                shorten(scope)
            ),
        }),
    }
}

fn issue(sign_in: &SignIn, incoming: &Incoming, identity: &Identity, resource: &str) -> Result<String, Refusal> {
    if !sign_in.is_audience(resource, incoming) {
        // A token for somebody else could be used by them, here.
        return Err(Refusal {
            status: 400,
            error: "invalid_resource",
            number: 500_011,
            message: format!(
                "The resource principal named '{}' was not found in the tenant '{}'. Ask for this server's address.",
                shorten(resource),
                sign_in.tenant
            ),
        });
    }
    let issuer = sign_in.issuer(&incoming.base);
    let claims = Claims::new(identity, &sign_in.tenant, issuer, resource.to_owned(), now_secs());
    sign_in.keys.sign(&claims).map_err(|error| {
        tracing::error!(%error, "a token cannot be signed");
        Refusal {
            status: 500,
            error: "server_error",
            number: 90_033,
            message: "A token cannot be signed; the manager's log says why.".to_owned(),
        }
    })
}

/// As Azure's instance metadata service and its App Service kin answer. A web page cannot send these headers across origins.
fn managed_identity(manager: &Manager, incoming: &Incoming) -> Response {
    let refuse = |status: u16, message: &str| {
        let body = json!({ "error": "invalid_request", "error_description": message });
        json_response(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), &body)
    };
    let sign_in = &manager.sign_in;
    let header = |name: &str| incoming.headers.get(name).and_then(|value| value.to_str().ok());
    if incoming.way != Way::Loopback || !sign_in.managed_identity || incoming.headers.contains_key("x-forwarded-for") {
        return refuse(404, "There is no managed identity here.");
    }
    let asked = header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if !(asked || header("x-identity-header").is_some() || header("secret").is_some()) {
        return refuse(400, "Required metadata header not specified: Metadata: true");
    }
    let Some(resource) = incoming
        .parameter("resource")
        .filter(|resource| resource.len() <= MAX_RESOURCE_BYTES)
    else {
        return refuse(400, "Required query variable 'resource' is missing");
    };
    match issue(sign_in, incoming, &Identity::managed(), resource) {
        Ok(token) => json_response(
            StatusCode::OK,
            &json!({
                "access_token": token, "token_type": "Bearer", "resource": resource,
                "client_id": super::MANAGED_IDENTITY_CLIENT,
                "expires_in": LIFETIME_SECS.to_string(), "expires_on": (now_secs() + LIFETIME_SECS).to_string(),
                "not_before": now_secs().to_string(),
            }),
        ),
        Err(refusal) => refuse(refusal.status, &refusal.message),
    }
}

fn missing(name: &str) -> Refusal {
    Refusal {
        status: 400,
        error: "invalid_request",
        number: 900_144,
        message: format!("The request body must contain the following parameter: '{name}'."),
    }
}

/// What clients sent, as far as it helps them.
fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

impl Refusal {
    fn response(&self) -> Response {
        let trace = uuid::Uuid::new_v4().to_string();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let body = json!({
            "error": self.error,
            "error_description": format!(
                "AADSTS{}: {} Trace ID: {trace} Correlation ID: {trace} Timestamp: {now}", self.number, self.message
            ),
            "error_codes": [self.number], "timestamp": now, "trace_id": trace, "correlation_id": trace,
        });
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = json_response(status, &body);
        // RFC 6749 §5.1: tokens and refusals are not to be kept by anybody between.
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_LATER);
        }
        headers.insert(header::PRAGMA, http::HeaderValue::from_static("no-cache"));
        response
    }
}
