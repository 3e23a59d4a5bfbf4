//! ARM errors: an HTTP status, a code that clients know, and a sentence that says what to do.

use serde_json::{Value, json};

/// An error as ARM's envelope has it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ArmError {
    /// HTTP status.
    pub status: u16,
    /// For example `ResourceNotFound`.
    pub code: String,
    /// A sentence that says what to do.
    pub message: String,
    /// The property or resource meant.
    pub target: Option<String>,
    /// Errors inside.
    pub details: Vec<ArmError>,
}

impl ArmError {
    /// An error without target or details.
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> ArmError {
        ArmError {
            status,
            code: code.to_owned(),
            message: message.into(),
            target: None,
            details: Vec::new(),
        }
    }

    /// The body: `{"error": {…}}`.
    pub fn body(&self) -> Value {
        json!({ "error": self.inner() })
    }

    fn inner(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(target) = &self.target {
            error["target"] = json!(target);
        }
        error["details"] = self.details.iter().map(ArmError::inner).collect();
        error
    }
}
