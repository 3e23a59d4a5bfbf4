//! The key that our tokens are signed with (ES256), kept in the data directory so that tokens outlive a restart.

use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use serde::Serialize;

use crate::private_file::{SECRET, read_or_make};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No key can be made.
    #[error("no key can be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The file holds something else.
    #[error("{}: {source}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: jsonwebtoken::errors::Error,
    },
}

/// Both halves.
#[derive(Clone)]
pub(crate) struct Keys {
    signing: EncodingKey,
    checking: DecodingKey,
    public: Jwk,
}

impl Keys {
    pub(crate) fn load_or_make(path: &Path) -> Result<Keys, KeyError> {
        let make = || Ok(rcgen::KeyPair::generate()?.serialize_pem());
        let pem = read_or_make(path, SECRET, make, |source| KeyError::Io {
            path: path.to_owned(),
            source,
        })?;
        Keys::from_pem(&pem).map_err(|source| KeyError::Unusable {
            path: path.to_owned(),
            source,
        })
    }

    fn from_pem(pem: &str) -> jsonwebtoken::errors::Result<Keys> {
        let signing = EncodingKey::from_ec_pem(pem.as_bytes())?;
        let mut public = Jwk::from_encoding_key(&signing, Algorithm::ES256)?;
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        public.common.key_id = Some(public.thumbprint(ThumbprintHash::SHA256)?);
        Ok(Keys {
            signing,
            checking: DecodingKey::from_jwk(&public)?,
            public,
        })
    }

    pub(super) fn sign(&self, claims: &impl Serialize) -> jsonwebtoken::errors::Result<String> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid.clone_from(&self.public.common.key_id);
        encode(&header, claims, &self.signing)
    }

    pub(super) fn checking(&self) -> &DecodingKey {
        &self.checking
    }

    /// What others check our tokens with (RFC 7517).
    pub(super) fn public(&self) -> JwkSet {
        JwkSet {
            keys: vec![self.public.clone()],
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Keys {
    pub(crate) fn sign_for_test(&self, claims: &serde_json::Value) -> String {
        self.sign(claims).unwrap()
    }

    pub(crate) fn public_for_test(&self) -> JwkSet {
        self.public()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}
