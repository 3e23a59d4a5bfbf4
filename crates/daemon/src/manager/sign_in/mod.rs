//! Sign-in: who is asking? A token of ours or of a configured issuer says so; the socket in the run directory and, with `--dev`, plain
//! loopback need none.
//!
//! ```text
//! documents ─► token_service ─► tokens ─► caller ─► (roles decide what the caller may do)
//!                 principals       keys      issuer (somebody else's tokens)
//! ```

mod documents;
pub(crate) mod graph;
mod issuer;
pub(crate) mod keys;
pub(crate) mod principals;
pub(crate) mod principals_api;
mod token_service;
mod tokens;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arm::ArmError;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;

use super::Manager;
use super::connections::Way;
use super::core::State;
use super::http::{Incoming, error_response, is_loopback_authority, json_response};
use crate::config::AuthConfig;
use issuer::Issuer;
use keys::Keys;
use principals::ServicePrincipal;

/// Secrets that are checked at a time: each takes 19 MiB and a core.
const CHECKS_AT_A_TIME: usize = 2;
/// A sign-in that has to wait longer for its turn is refused.
const CHECK_PATIENCE: Duration = Duration::from_secs(10);
/// A token longer than this is nobody's.
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Audiences that the SDKs ask for when nobody tells them another.
const AZURE_AUDIENCES: [&str; 3] = [
    "https://management.azure.com",
    "https://management.core.windows.net",
    "https://graph.microsoft.com",
];
/// The managed identity's object, which roles may be assigned to.
pub(crate) const MANAGED_IDENTITY: &str = "00000000-0000-0000-0000-0000000000b1";
/// The managed identity's client id.
const MANAGED_IDENTITY_CLIENT: &str = "00000000-0000-0000-0000-0000000000b2";

/// What requests are let in by.
#[derive(Debug)]
pub(crate) struct SignIn {
    keys: Keys,
    pub(crate) tenant: String,
    /// Somebody else whose tokens are taken.
    issuer: Option<Issuer>,
    /// Whether programs on this machine get tokens without a secret.
    managed_identity: bool,
    /// Whether plain loopback needs no token (`--dev`).
    open_loopback: bool,
    checks: Semaphore,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Whoever may read the data directory, or reaches the loopback of a `--dev`: may do everything.
    Administrator,
    /// Nobody in particular, on this machine: may ask for what is open.
    Anyone,
    /// Who signed in: may do what roles say.
    Principal(Identity),
}

impl Caller {
    /// For roles and logs.
    pub(crate) fn object_id(&self) -> &str {
        match self {
            Caller::Administrator => "administrator",
            Caller::Anyone => "anyone",
            Caller::Principal(identity) => &identity.object_id,
        }
    }

    /// For logs.
    pub(crate) fn client_id(&self) -> &str {
        match self {
            Caller::Administrator | Caller::Anyone => "",
            Caller::Principal(identity) => &identity.client_id,
        }
    }
}

/// Ids of who signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) client_id: String,
    pub(crate) object_id: String,
}

impl Identity {
    fn of(principal: &ServicePrincipal) -> Identity {
        Identity {
            client_id: principal.client_id.clone(),
            object_id: principal.object_id.clone(),
        }
    }

    fn managed() -> Identity {
        Identity {
            client_id: MANAGED_IDENTITY_CLIENT.to_owned(),
            object_id: MANAGED_IDENTITY.to_owned(),
        }
    }
}

/// What is wrong with a token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenProblem {
    #[error("The request has no bearer token")]
    Missing,
    #[error("The token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    #[error("The token cannot be used: {0}")]
    Jwt(#[from] jsonwebtoken::errors::Error),
    #[error("The token is meant for another audience than this server")]
    Audience,
    #[error("The token is from another issuer than this server's")]
    Issuer,
    #[error("The token is signed with a key that its issuer does not have, or did not have a minute ago")]
    UnknownKey,
    #[error("The token is of a service principal that is no longer there")]
    Unknown,
    #[error("The token's issuer gives an id that is this server's own to give")]
    Ours,
    #[error("The issuer's keys cannot be fetched: {0}")]
    Keys(String),
}

impl SignIn {
    pub(crate) fn new(keys: Keys, tenant: &str, config: &AuthConfig, dev: bool) -> SignIn {
        SignIn {
            keys,
            tenant: tenant.to_owned(),
            issuer: Issuer::configured(config),
            managed_identity: dev || config.managed_identity,
            open_loopback: dev,
            checks: Semaphore::new(CHECKS_AT_A_TIME),
        }
    }

    /// Who sends this request.
    pub(crate) async fn caller(&self, manager: &Manager, incoming: &Incoming) -> Result<Caller, TokenProblem> {
        match incoming.way {
            Way::Socket => return Ok(Caller::Administrator),
            Way::Loopback if self.open_loopback => return Ok(Caller::Administrator),
            _ => {}
        }
        let token = bearer(incoming).ok_or(TokenProblem::Missing)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenProblem::TooLong);
        }
        if let Some(issuer) = self.issuer.as_ref().filter(|issuer| issuer.may_have_issued(token)) {
            let identity = issuer.check(token).await?;
            return match self.is_ours(manager, &identity) {
                true => Err(TokenProblem::Ours),
                false => Ok(Caller::Principal(identity)),
            };
        }
        let is_audience = |audience: &str| self.is_audience(audience, incoming);
        let is_issuer = |issuer: &str| self.is_issuer(issuer, incoming);
        let claims = tokens::check(&self.keys, token, is_audience, is_issuer)?;
        self.still_there(manager, &claims).await
    }

    /// Ids of ours are not another issuer's to give: roles and the activity log know who it is by the id alone.
    fn is_ours(&self, manager: &Manager, identity: &Identity) -> bool {
        let is = |id: &str| identity.object_id.eq_ignore_ascii_case(id);
        let own = [Caller::Administrator, Caller::Anyone];
        own.iter().any(|caller| is(caller.object_id()))
            || is(MANAGED_IDENTITY)
            || manager
                .core
                .read(|state| state.directory.principals.values().any(|it| is(&it.object_id)))
    }

    async fn still_there(&self, manager: &Manager, claims: &tokens::Claims) -> Result<Caller, TokenProblem> {
        let identity = Identity {
            client_id: claims.appid.clone(),
            object_id: claims.oid.clone(),
        };
        let is_managed = self.managed_identity && identity == Identity::managed();
        let look = |state: &State| {
            let principal = state.directory.principals.get(&identity.client_id);
            match is_managed || principal.is_some_and(|principal| principal.object_id == identity.object_id) {
                true => Ok(()),
                false => Err(TokenProblem::Unknown),
            }
        };
        manager.core.look(look).await?;
        Ok(Caller::Principal(identity))
    }

    /// Takes its time, and its turn; `None`: the turn did not come.
    async fn has_secret(&self, principal: ServicePrincipal, secret: &str) -> Option<bool> {
        let Ok(Ok(_turn)) = tokio::time::timeout(CHECK_PATIENCE, self.checks.acquire()).await else {
            return None;
        };
        let secret = secret.to_owned();
        let checked = tokio::task::spawn_blocking(move || principal.has_secret(&secret));
        Some(checked.await.unwrap_or(false))
    }

    /// Whether a token with this audience is meant for us: as the client called us (any port: tokens may be fetched over another
    /// listener), as programs on this machine call us, or Azure itself, which is what SDKs ask for if left alone.
    fn is_audience(&self, audience: &str, incoming: &Incoming) -> bool {
        let audience = audience.trim_end_matches('/').to_ascii_lowercase();
        if AZURE_AUDIENCES.contains(&audience.as_str()) {
            return true;
        }
        let authority = audience
            .split_once("://")
            .map(|(_, rest)| rest.split('/').next().unwrap_or_default());
        let host = |authority: &str| {
            authority
                .parse::<http::uri::Authority>()
                .ok()
                .map(|it| it.host().to_owned())
        };
        let own = incoming
            .base
            .split_once("://")
            .and_then(|(_, authority)| host(&authority.to_ascii_lowercase()));
        authority.is_some_and(|authority| is_loopback_authority(authority) || (own.is_some() && host(authority) == own))
    }

    fn issuer(&self, base: &str) -> String {
        format!("{base}/{}/v2.0", self.tenant)
    }

    fn is_issuer(&self, issuer: &str, incoming: &Incoming) -> bool {
        let base = issuer.strip_suffix(&format!("/{}/v2.0", self.tenant));
        base.is_some_and(|base| self.is_audience(base, incoming))
    }
}

/// Whether what needs no token has a body that must be read: a request for one.
pub(crate) fn reads_body(path: &[&str]) -> bool {
    matches!(path, [_, "oauth2", "v2.0", "token"] | [_, "oauth2", "token"])
}

/// Answers what needs no token: documents and the token service.
pub(crate) async fn answer(manager: &Manager, incoming: &Incoming, path: &[&str]) -> Option<Response> {
    if let Some(document) = documents::answer(&manager.sign_in, incoming, path) {
        return Some(json_response(StatusCode::OK, &document));
    }
    token_service::answer(manager, incoming, path).await
}

/// 401 in ARM's words.
pub(crate) fn refusal(problem: &TokenProblem) -> ArmError {
    let code = match problem {
        TokenProblem::Missing => "AuthenticationFailed",
        TokenProblem::Audience => "InvalidAuthenticationTokenAudience",
        TokenProblem::Issuer => "InvalidAuthenticationTokenTenant",
        TokenProblem::Jwt(error) if *error.kind() == jsonwebtoken::errors::ErrorKind::ExpiredSignature => {
            "ExpiredAuthenticationToken"
        }
        _ => "InvalidAuthenticationToken",
    };
    ArmError::new(401, code, format!("Authentication failed. {problem}."))
}

/// The refusal with where to get a token (RFC 6750 §3).
pub(crate) fn unauthorized(sign_in: &SignIn, incoming: &Incoming, problem: &TokenProblem) -> Response {
    let mut response = error_response(&refusal(problem));
    let challenge = format!(
        "Bearer authorization_uri=\"{}/{}\", error=\"invalid_token\", error_description=\"{}\"",
        incoming.base,
        sign_in.tenant,
        quotable(&problem.to_string())
    );
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn quotable(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii() && !c.is_control() && !['"', '\\'].contains(c))
        .collect()
}

fn bearer(incoming: &Incoming) -> Option<&str> {
    let value = incoming.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn now_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
pub(crate) use issuer::FETCH_PAUSE as TIME_BETWEEN_FETCHES;

#[cfg(test)]
impl SignIn {
    /// A token with these claims, signed as ours are.
    #[allow(clippy::unwrap_used)]
    pub(crate) fn sign_for_test(&self, claims: &serde_json::Value) -> String {
        self.keys.sign(claims).unwrap()
    }

    /// Every turn to check a secret, for as long as they are held.
    #[allow(clippy::unwrap_used)]
    pub(crate) async fn all_turns_for_test(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.checks.acquire_many(CHECKS_AT_A_TIME as u32).await.unwrap()
    }

    /// As if keys of the other issuer had been fetched so much earlier.
    pub(crate) async fn let_pass_for_test(&self, time: Duration) {
        if let Some(issuer) = &self.issuer {
            issuer.let_pass(time).await;
        }
    }
}
