//! Who may do what: roles, their assignments at scopes, and the ARM resources that change them (`Microsoft.Authorization`).
//!
//! ```text
//! method + path ─► needed() ─► action, scope ─► Access::allows(principal, action, scope) ─► yes, or AuthorizationFailed
//! ```
//!
//! A role permits the actions that one of its `actions` matches and none of its `notActions`; what one role leaves out another may give. An
//! assignment holds at its scope and below.

mod linked;
mod needed;
mod resources;
mod roles;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::ArmError;

pub use linked::{linked, linked_denied};
pub use needed::{Needed, needed};
pub use resources::{AccessChange, Asking, answer, assigned_at, is_authorization};
pub use roles::{RoleDefinition, built_in};

/// Everybody's roles.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// By id in lower case.
    pub assignments: BTreeMap<String, RoleAssignment>,
    /// Custom roles, by GUID in lower case.
    pub definitions: BTreeMap<String, RoleDefinition>,
}

/// A role that somebody has at a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleAssignment {
    /// As first written.
    pub id: String,
    /// The id that the role is assigned at; empty at the root.
    pub scope: String,
    /// GUID of the role in lower case.
    pub role: String,
    /// Object id of who has it, in lower case.
    pub principal_id: String,
    /// `ServicePrincipal`, `User` or `Group`.
    pub principal_type: String,
    /// For people.
    pub description: Option<String>,
    /// RFC 3339.
    pub created: String,
    /// Object id of who assigned it.
    pub created_by: String,
}

impl Access {
    /// Whether roles let `principal` do this.
    pub fn allows(&self, principal: &str, action: &str, scope: &str) -> bool {
        self.of(principal)
            .filter(|assignment| covers(&assignment.scope, scope))
            .filter_map(|assignment| self.role(&assignment.role))
            .any(|role| role.permits(action))
    }

    /// Whether `principal` has any role at this scope, above or below it: then what is there is no secret to it.
    pub fn knows(&self, principal: &str, scope: &str) -> bool {
        self.of(principal)
            .any(|assignment| covers(&assignment.scope, scope) || covers(scope, &assignment.scope))
    }

    /// The role with this GUID (lower case), built in or custom.
    pub fn role(&self, guid: &str) -> Option<&RoleDefinition> {
        built_in()
            .iter()
            .find(|role| role.guid == guid)
            .or_else(|| self.definitions.get(guid))
    }

    fn of<'a>(&'a self, principal: &'a str) -> impl Iterator<Item = &'a RoleAssignment> {
        self.assignments
            .values()
            .filter(move |assignment| assignment.principal_id.eq_ignore_ascii_case(principal))
    }
}

/// Whether what is granted at `scope` holds at `id`, which is that scope or below it.
pub(crate) fn covers(scope: &str, id: &str) -> bool {
    let (scope, id) = (scope.trim_end_matches('/'), id.trim_end_matches('/'));
    let Some(head) = id.get(..scope.len()) else {
        return false;
    };
    head.eq_ignore_ascii_case(scope) && (id.len() == scope.len() || id[scope.len()..].starts_with('/'))
}

/// 403, in Azure's words.
pub fn denied(client: &str, object_id: &str, needed: &Needed) -> ArmError {
    let Needed { action, scope } = needed;
    let scope = if scope.is_empty() { "/" } else { scope };
    ArmError::new(
        403,
        "AuthorizationFailed",
        format!(
            "The client '{client}' with object id '{object_id}' does not have authorization to perform action '{action}' over \
             scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_itself_and_what_is_below_but_no_namesakes() {
        for (scope, id, expected) in [
            ("", "/subscriptions/S", true),
            ("/", "/subscriptions/S", true),
            ("/subscriptions/S", "/subscriptions/s", true),
            ("/subscriptions/S/", "/subscriptions/s/resourceGroups/g", true),
            (
                "/subscriptions/S/resourceGroups/g",
                "/subscriptions/S/resourceGroups/g2",
                false,
            ),
            ("/subscriptions/S/resourceGroups/g", "/subscriptions/S", false),
            ("/subscriptions/S", "", false),
            ("/subscriptions/ab", "/subscriptions/ä", false),
        ] {
            assert_eq!(covers(scope, id), expected, "{scope} {id}");
        }
    }
}
