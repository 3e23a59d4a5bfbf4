//! Service principals: what programs sign in as. Kept in the store; of a secret only a salted, slow hash.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServicePrincipal {
    /// What it signs in with; the key.
    pub(crate) client_id: String,
    /// What roles are assigned to.
    pub(crate) object_id: String,
    pub(crate) display_name: String,
    /// RFC 3339.
    pub(crate) created: String,
    /// PHC string.
    secret_hash: String,
}

/// The secret cannot be hashed.
#[derive(Debug, thiserror::Error)]
#[error("the secret cannot be hashed: {0}")]
pub(crate) struct HashError(argon2::password_hash::Error);

impl ServicePrincipal {
    pub(crate) fn new(display_name: &str, created: String, secret: &str) -> Result<ServicePrincipal, HashError> {
        Ok(ServicePrincipal {
            client_id: uuid::Uuid::new_v4().to_string(),
            object_id: uuid::Uuid::new_v4().to_string(),
            display_name: display_name.to_owned(),
            created,
            secret_hash: hash(secret)?,
        })
    }

    /// The same with another secret; the old one is worth nothing any more.
    pub(crate) fn with_secret(mut self, secret: &str) -> Result<ServicePrincipal, HashError> {
        self.secret_hash = hash(secret)?;
        Ok(self)
    }

    /// Takes some 20 ms and 19 MiB, on purpose.
    pub(crate) fn has_secret(&self, secret: &str) -> bool {
        PasswordHash::new(&self.secret_hash)
            .is_ok_and(|hash| Argon2::default().verify_password(secret.as_bytes(), &hash).is_ok())
    }

    /// Without what must not be told.
    pub(crate) fn show(&self) -> Value {
        json!({
            "clientId": self.client_id, "objectId": self.object_id,
            "displayName": self.display_name, "created": self.created,
        })
    }
}

/// A secret that nobody guesses (244 random bits), of characters that no shell touches.
pub(crate) fn fresh_secret() -> String {
    let half = || uuid::Uuid::new_v4().simple().to_string();
    format!("{}{}", half(), half())
}

fn hash(secret: &str) -> Result<String, HashError> {
    let hash = Argon2::default().hash_password(secret.as_bytes()).map_err(HashError)?;
    Ok(hash.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hash_of_a_secret_is_kept_and_a_reset_ends_the_old_one() {
        let principal = ServicePrincipal::new("ci", String::new(), "one").unwrap();
        assert!(principal.has_secret("one") && !principal.has_secret("two"));
        let stored = serde_json::to_string(&principal).unwrap();
        assert!(stored.contains("$argon2id$") && !stored.contains("one\""), "{stored}");
        let other = ServicePrincipal::new("ci", String::new(), "one").unwrap();
        assert_ne!(other.secret_hash, principal.secret_hash, "salted");
        let reset = principal.with_secret("two").unwrap();
        assert!(reset.has_secret("two") && !reset.has_secret("one"));
        assert!(!reset.show().to_string().contains("argon2"));
    }
}
