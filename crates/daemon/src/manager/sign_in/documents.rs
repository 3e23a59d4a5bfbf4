//! What clients read before they sign in: where things are (`/metadata/endpoints`), how to get tokens (OpenID Connect discovery) and
//! with what these are signed. No token is needed, and nothing is told that a stranger may not know.

use http::Method;
use serde_json::{Value, json};

use super::SignIn;
use crate::manager::http::Incoming;

/// Names that stand for whatever tenant there is.
const ANY_TENANT: [&str; 3] = ["organizations", "common", "adfs"];

/// The document at this path (lower case), if it is one of them.
pub(super) fn answer(sign_in: &SignIn, incoming: &Incoming, path: &[&str]) -> Option<Value> {
    if incoming.method != Method::GET {
        return None;
    }
    let base = &incoming.base;
    match path {
        ["metadata", "endpoints"] => Some(endpoints(sign_in, base, incoming.parameter("api-version"))),
        [tenant, "v2.0", ".well-known", "openid-configuration"] if sign_in.is_tenant(tenant) => Some(openid(
            &sign_in.authority(base, tenant),
            "/oauth2/v2.0",
            "/discovery/v2.0/keys",
            "/v2.0",
        )),
        [tenant, ".well-known", "openid-configuration"] if sign_in.is_tenant(tenant) => Some(openid(
            &sign_in.authority(base, tenant),
            "/oauth2",
            "/discovery/keys",
            "/v2.0",
        )),
        [tenant, "discovery", "keys"] | [tenant, "discovery", "v2.0", "keys"] if sign_in.is_tenant(tenant) => {
            serde_json::to_value(sign_in.keys.public()).ok()
        }
        _ => None,
    }
}

/// Its shape depends on api-version (measured with `az` 2.66 and 2.91 and with `ARM_CLOUD_METADATA_URL`).
fn endpoints(sign_in: &SignIn, base: &str, version: Option<&str>) -> Value {
    let authentication = json!({
        "loginEndpoint": base, "audiences": [base], "tenant": sign_in.tenant, "identityProvider": "AAD",
    });
    let graph = format!("{base}/graph");
    match version {
        Some("2015-01-01" | "1.0") => json!({
            "galleryEndpoint": base, "graphEndpoint": graph, "portalEndpoint": base,
            "authentication": { "loginEndpoint": base, "audiences": [base] },
        }),
        _ => {
            let cloud = json!({
                "name": "routewright", "resourceManager": base, "portal": base, "authentication": authentication,
                "graphAudience": graph, "graph": graph, "microsoftGraphResourceId": base, "gallery": base, "suffixes": {},
            });
            match version {
                Some("2019-05-01") => json!([cloud]),
                _ => cloud,
            }
        }
    }
}

/// OpenID Connect Discovery 1.0 §3; the last two are what MSAL looks for.
fn openid(authority: &str, flows: &str, keys: &str, issuer: &str) -> Value {
    json!({
        "issuer": format!("{authority}{issuer}"),
        "token_endpoint": format!("{authority}{flows}/token"),
        "authorization_endpoint": format!("{authority}{flows}/authorize"),
        "jwks_uri": format!("{authority}{keys}"),
        "response_types_supported": ["code", "token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "tenant_region_scope": Value::Null,
        "cloud_instance_name": authority,
    })
}

impl SignIn {
    pub(super) fn is_tenant(&self, name: &str) -> bool {
        ANY_TENANT.contains(&name) || name.eq_ignore_ascii_case(&self.tenant)
    }

    /// The authority of the real tenant, whatever the client calls it; only the ADFS style is a place of its own.
    pub(super) fn authority(&self, base: &str, tenant: &str) -> String {
        match tenant {
            "adfs" => format!("{base}/adfs"),
            _ => format!("{base}/{}", self.tenant),
        }
    }
}
