//! Tokens of somebody else: an OpenID Connect issuer named in `[auth]`. Its keys are fetched when they are first needed and again when
//! a token names one that we do not know, but not more often than once a minute.

use std::time::{Duration, Instant};

use api::http::{Trust, client, plain_client};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::tokens::LEEWAY_SECS;
use super::{Identity, TokenProblem};
use crate::config::AuthConfig;

/// Between two fetches of its keys.
pub(crate) const FETCH_PAUSE: Duration = Duration::from_secs(60);
/// Keys that are older are fetched again, so that withdrawn ones go.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// The issuer is given so long to answer.
const FETCH_PATIENCE: Duration = Duration::from_secs(10);
/// Documents of issuers have a few KiB.
const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// Asymmetric ones only: with a shared secret, whoever checks could sign.
const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
];

/// See the module's head.
#[derive(Debug)]
pub(super) struct Issuer {
    issuer: String,
    audience: String,
    fetched: Mutex<Fetched>,
}

#[derive(Debug, Default)]
struct Fetched {
    keys: Option<JwkSet>,
    /// When it was last tried, with or without success.
    tried: Option<Instant>,
    problem: String,
}

#[derive(Debug, Deserialize)]
struct Claims {
    oid: Option<String>,
    sub: Option<String>,
    appid: Option<String>,
    azp: Option<String>,
    preferred_username: Option<String>,
}

#[derive(Deserialize)]
struct IssuerOnly {
    iss: String,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    pub(super) fn configured(config: &AuthConfig) -> Option<Issuer> {
        Some(Issuer {
            issuer: config.issuer.clone()?,
            audience: config.audience.clone()?,
            fetched: Mutex::default(),
        })
    }

    /// Whether a token says it is of this issuer. Nothing is believed yet.
    pub(super) fn may_have_issued(&self, token: &str) -> bool {
        jsonwebtoken::dangerous::insecure_decode_claims::<IssuerOnly>(token)
            .is_ok_and(|claims| claims.iss == self.issuer)
    }

    /// Checks a token: signature, lifetime, issuer, audience.
    pub(super) async fn check(&self, token: &str) -> Result<Identity, TokenProblem> {
        let header = decode_header(token)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(TokenProblem::Jwt(
                jsonwebtoken::errors::ErrorKind::InvalidAlgorithm.into(),
            ));
        }
        let key = self.key(header.kid.as_deref()).await?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_SECS;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.audience]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        let claims = decode::<Claims>(token, &key, &validation).map_err(in_our_words)?.claims;
        let object_id = claims.oid.or(claims.sub).ok_or(TokenProblem::Unknown)?;
        let client_id = claims.appid.or(claims.azp).or(claims.preferred_username);
        Ok(Identity {
            client_id: client_id.unwrap_or_else(|| object_id.clone()),
            object_id,
        })
    }

    /// The key of this id; without an id, the only key there is.
    async fn key(&self, id: Option<&str>) -> Result<DecodingKey, TokenProblem> {
        let mut fetched = self.fetched.lock().await;
        let age = fetched.tried.map(|tried| tried.elapsed());
        let known = fetched.find(id);
        let wanted = match (&known, age) {
            (_, None) => true,
            (Some(_), Some(age)) => age > MAX_AGE,
            (None, Some(age)) => age > FETCH_PAUSE,
        };
        if wanted {
            fetched.tried = Some(Instant::now());
            match tokio::time::timeout(FETCH_PATIENCE, self.fetch()).await {
                Ok(Ok(keys)) => fetched.keys = Some(keys),
                Ok(Err(problem)) => fetched.problem = problem,
                Err(_) => "it does not answer".clone_into(&mut fetched.problem),
            }
        }
        match (fetched.find(id), &fetched.keys) {
            (Some(key), _) => Ok(key),
            (None, Some(_)) => Err(TokenProblem::UnknownKey),
            (None, None) => Err(TokenProblem::Keys(fetched.problem.clone())),
        }
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        let words = |error: reqwest::Error| error.to_string();
        let builder = match self.issuer.starts_with("http://") {
            true => plain_client(),
            false => client(Trust::System).map_err(words)?,
        };
        // A redirect could lead away from TLS.
        let client = builder
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(words)?;
        let base = self.issuer.trim_end_matches('/');
        let discovery: Discovery = read(&client, &format!("{base}/.well-known/openid-configuration")).await?;
        // OpenID Connect Discovery 1.0 §4.3: the document must be of the issuer whose address it was fetched from.
        if discovery.issuer != self.issuer {
            return Err(format!("its document is of another issuer, {}", discovery.issuer));
        }
        if self.issuer.starts_with("https://") && !discovery.jwks_uri.starts_with("https://") {
            return Err("its keys are not at an https URL".to_owned());
        }
        read(&client, &discovery.jwks_uri).await
    }
}

#[cfg(test)]
impl Issuer {
    /// As if the last fetch had been so much earlier.
    pub(super) async fn let_pass(&self, time: Duration) {
        let mut fetched = self.fetched.lock().await;
        fetched.tried = fetched.tried.and_then(|tried| tried.checked_sub(time));
    }
}

impl Fetched {
    fn find(&self, id: Option<&str>) -> Option<DecodingKey> {
        let keys = self.keys.as_ref()?;
        let key = match (id, keys.keys.as_slice()) {
            (Some(id), _) => keys.find(id),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        DecodingKey::from_jwk(key?).ok()
    }
}

fn in_our_words(error: jsonwebtoken::errors::Error) -> TokenProblem {
    match error.kind() {
        jsonwebtoken::errors::ErrorKind::InvalidAudience => TokenProblem::Audience,
        _ => TokenProblem::Jwt(error),
    }
}

async fn read<T: serde::de::DeserializeOwned>(client: &reqwest::Client, url: &str) -> Result<T, String> {
    let words = |error: reqwest::Error| error.to_string();
    let mut answer = client
        .get(url)
        .send()
        .await
        .map_err(words)?
        .error_for_status()
        .map_err(words)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(words)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_DOCUMENT_BYTES {
            return Err(format!("{url} is larger than {MAX_DOCUMENT_BYTES} bytes"));
        }
    }
    serde_json::from_slice(&body).map_err(|error| format!("{url}: {error}"))
}
