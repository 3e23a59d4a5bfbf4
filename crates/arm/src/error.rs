//! ARM errors: an HTTP status, a code that clients know, and a sentence that says what to do.

use serde_json::{Value, json};

use crate::id::{ResourceId, last_segment};

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
    /// With status 405, the methods that there are: the header that RFC 9110 §15.5.6 wants.
    pub allow: Option<&'static str>,
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
            allow: None,
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

    /// A refusal of what was asked: status 400.
    pub(crate) fn bad(code: &str, message: impl Into<String>) -> ArmError {
        ArmError::new(400, code, message)
    }

    /// The same error with the property or resource meant.
    pub(crate) fn at(mut self, target: impl Into<String>) -> ArmError {
        self.target = Some(target.into());
        self
    }

    pub(crate) fn subscription_not_found(subscription: &str) -> ArmError {
        ArmError::new(
            404,
            "SubscriptionNotFound",
            format!(
                "The subscription '{subscription}' could not be found. List those there are with GET /subscriptions."
            ),
        )
    }

    pub(crate) fn group_not_found(name: &str) -> ArmError {
        ArmError::new(
            404,
            "ResourceGroupNotFound",
            format!("Resource group '{name}' could not be found. Create it first."),
        )
    }

    pub(crate) fn not_found(id: &ResourceId, kind: &str) -> ArmError {
        ArmError::new(
            404,
            "ResourceNotFound",
            format!(
                "The Resource '{kind}/{}' under resource group '{}' was not found. Check its name and resource group.",
                names_of(id),
                id.resource_group()
            ),
        )
    }

    pub(crate) fn parent_not_found(parent: &ResourceId) -> ArmError {
        ArmError::new(
            404,
            "ParentResourceNotFound",
            format!(
                "Can not perform requested operation on nested resource. Parent resource '{}' not found. Create it first.",
                parent.name()
            ),
        )
    }

    pub(crate) fn no_such_type(path: &str) -> ArmError {
        ArmError::new(
            404,
            "InvalidResourceType",
            format!("The path '{path}' names no resource type that is served here. Check its spelling."),
        )
    }

    pub(crate) fn missing_reference(reference: &str, user: &str) -> ArmError {
        ArmError::bad(
            "InvalidResourceReference",
            format!(
                "Resource {reference} referenced by resource {user} was not found. Please make sure that the referenced \
                 resource exists, and that both resources are in the same region."
            ),
        )
    }

    /// A resource that others still use.
    pub(crate) fn in_use(code: &str, what: &str, id: &str, user: &str) -> ArmError {
        ArmError::bad(
            code,
            format!(
                "{what} {} is in use by {user} and cannot be deleted. Remove it there first.",
                last_segment(id)
            ),
        )
        .at(id)
    }
}

/// Names only, as ARM writes nested ones: `rs1/nva1`.
fn names_of(id: &ResourceId) -> String {
    let names: Vec<&str> = id.as_str().split('/').skip(8).step_by(2).collect();
    names.join("/")
}
