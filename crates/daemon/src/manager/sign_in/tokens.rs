//! Our own tokens: JWTs (RFC 7519) that say which service principal asks, for whom they are meant and how long they hold.

use jsonwebtoken::{Algorithm, Validation, decode};
use serde::{Deserialize, Serialize};

use super::keys::Keys;
use super::{Identity, TokenProblem};

/// As long as Azure's for service principals are at most.
pub(crate) const LIFETIME_SECS: u64 = 86_399;
/// Clocks may differ by so much.
pub(super) const LEEWAY_SECS: u64 = 60;

/// The claims of our tokens; names as Azure's have them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) aud: String,
    pub(super) iss: String,
    pub(super) iat: u64,
    pub(super) nbf: u64,
    pub(super) exp: u64,
    pub(super) appid: String,
    pub(super) oid: String,
    pub(super) sub: String,
    pub(super) tid: String,
    pub(super) idtyp: String,
    pub(super) ver: String,
    pub(super) uti: String,
}

impl Claims {
    pub(super) fn new(identity: &Identity, tenant: &str, issuer: String, audience: String, now: u64) -> Claims {
        Claims {
            aud: audience,
            iss: issuer,
            iat: now,
            nbf: now,
            exp: now + LIFETIME_SECS,
            appid: identity.client_id.clone(),
            oid: identity.object_id.clone(),
            sub: identity.object_id.clone(),
            tid: tenant.to_owned(),
            idtyp: "app".to_owned(),
            ver: "2.0".to_owned(),
            uti: uuid::Uuid::new_v4().simple().to_string(),
        }
    }
}

/// Checks a token of ours: signature, lifetime, issuer, audience.
pub(super) fn check(
    keys: &Keys,
    token: &str,
    is_audience: impl Fn(&str) -> bool,
    is_issuer: impl Fn(&str) -> bool,
) -> Result<Claims, TokenProblem> {
    let mut validation = Validation::new(Algorithm::ES256);
    validation.leeway = LEEWAY_SECS;
    validation.validate_nbf = true;
    validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss"]);
    // Who is meant depends on how the client calls us; that is looked at below.
    validation.validate_aud = false;
    let claims = decode::<Claims>(token, keys.checking(), &validation)?.claims;
    match (is_audience(&claims.aud), is_issuer(&claims.iss)) {
        (false, _) => Err(TokenProblem::Audience),
        (_, false) => Err(TokenProblem::Issuer),
        _ => Ok(claims),
    }
}
