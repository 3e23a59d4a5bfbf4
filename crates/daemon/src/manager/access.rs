//! Roles, asked of every request: may this caller do that? The rules are `arm::authorization`'s; here is what they are asked about.

use std::sync::Arc;

use arm::activity::Event;
use arm::authorization::{self, AccessChange, Asking, Needed, RoleAssignment, needed};
use arm::{ArmError, Change, Method};
use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

use super::Manager;
use super::activity::Asker;
use super::arm_api::to_arm;
use super::asked::{self, Role};
use super::core::{State, SystemMint};
use super::http::{Incoming, json_response};
use super::sign_in::{Caller, MANAGED_IDENTITY};
use crate::store::{Collection, Write};

/// Built-in role: everything.
const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";

/// Refuses what the caller's roles don't give.
pub(crate) async fn check(manager: &Manager, asker: &Asker) -> Result<(), ArmError> {
    // That nobody need sign in for it was looked at before.
    if asker.caller == Caller::Anyone {
        return Ok(());
    }
    manager.core.look(|state| check_again(state, asker)).await
}

/// Asks once more what [`check`] asked: a body takes its time to arrive, and a role may be gone by then. Under the write lock.
pub(crate) fn check_again(state: &State, asker: &Asker) -> Result<(), ArmError> {
    let Asker { caller, need, .. } = asker;
    match &need.role {
        Role::SignedIn => Ok(()),
        // What it holds is filtered: `may_read`; or looked at one by one.
        Role::ForSomeOf(needed) if knows(state, caller, &needed.scope) => Ok(()),
        Role::ForSomeOf(needed) | Role::For(needed) => require(state, caller, needed),
    }
}

/// Refuses a request that the caller's roles don't give, with what it makes use of: for one that is only tried out.
pub(crate) fn check_request(state: &State, caller: &Caller, request: &arm::Request) -> Result<(), ArmError> {
    let needed = needed(request.method, &request.path).unwrap_or_else(asked::all);
    require(state, caller, &needed)?;
    check_linked(state, caller, request)
}

/// Refuses to make use of other resources that the caller has no role on.
pub(crate) fn check_linked(state: &State, caller: &Caller, request: &arm::Request) -> Result<(), ArmError> {
    let Some(body) = &request.body else {
        return Ok(());
    };
    let write = needed(request.method, &request.path);
    // What a deployment names is looked at in what it makes.
    if request.method == Method::Post || write.as_ref().is_some_and(Needed::is_of_deployment) {
        return Ok(());
    }
    require_linked(state, caller, write.as_ref(), body)
}

fn require_linked(state: &State, caller: &Caller, write: Option<&Needed>, body: &Value) -> Result<(), ArmError> {
    let (Caller::Principal(it), Some(write)) = (caller, write) else {
        return Ok(());
    };
    let linked = authorization::linked(&write.scope, body);
    match linked.iter().find(|linked| require(state, caller, linked).is_err()) {
        Some(linked) => Err(authorization::linked_denied(
            &it.client_id,
            &it.object_id,
            write,
            linked,
        )),
        None => Ok(()),
    }
}

/// Refuses what a deployment would change although its author could not change it by hand.
pub(crate) fn check_changes(state: &State, caller: &Caller, changes: &[Change]) -> Result<(), ArmError> {
    for change in changes {
        match change {
            Change::Put(resource) => {
                let before = state.resources.get(&resource.id);
                // A parent whose children change gets another etag, no more.
                if before.is_none_or(|before| before.body != resource.body) {
                    may_write(state, caller, &resource.id, &resource.body)?;
                }
            }
            Change::Delete(key) => {
                if let Some(needed) = needed(Method::Delete, key) {
                    require(state, caller, &needed)?;
                }
            }
        }
    }
    Ok(())
}

/// Refuses a body that the caller could not write to this id by hand.
pub(crate) fn may_write(state: &State, caller: &Caller, id: &str, body: &Value) -> Result<(), ArmError> {
    let Some(needed) = needed(Method::Put, id) else {
        return Ok(());
    };
    require(state, caller, &needed)?;
    require_linked(state, caller, Some(&needed), body)
}

/// Refuses what the caller may not read of what an answer would show. A subscription is no secret to whoever has a role in it.
pub(crate) fn may_read(state: &State, caller: &Caller, id: &str) -> Result<(), ArmError> {
    let Some(needed) = needed(Method::Get, id) else {
        return Ok(());
    };
    match id.matches('/').count() {
        2 if knows(state, caller, id) => Ok(()),
        _ => require(state, caller, &needed),
    }
}

/// Whether the caller may read an event of the activity log.
pub(crate) fn may_know(manager: &Manager, caller: &Caller, event: &Event) -> bool {
    let needed = asked::activity_of(&event.resource_id);
    manager.core.read(|state| require(state, caller, &needed).is_ok())
}

/// Whether the caller may know how everything here is: the whole of the health.
pub(crate) fn may_know_all(manager: &Manager, caller: &Caller) -> bool {
    let needed = asked::all();
    manager.core.read(|state| require(state, caller, &needed).is_ok())
}

/// Whether the caller may know of a service principal: itself, those whose roles it may read, and all if it may give roles, since it has
/// to find whom.
pub(crate) fn may_know_principal(state: &State, caller: &Caller, object_id: &str) -> bool {
    let may = |verb: &str, scope: &str| {
        let action = format!("Microsoft.Authorization/roleAssignments/{verb}");
        let scope = scope.to_owned();
        require(state, caller, &Needed { action, scope }).is_ok()
    };
    let mut assignments = state.directory.access.assignments.values();
    caller.object_id() == object_id
        || assignments.any(|it| match it.principal_id.eq_ignore_ascii_case(object_id) {
            true => may("read", &it.scope),
            false => it.principal_id.eq_ignore_ascii_case(caller.object_id()) && may("write", &it.scope),
        })
        || may("write", "")
}

/// With `--dev`, programs that use the managed identity may do everything.
pub(crate) fn managed_identity_owns_all() -> RoleAssignment {
    RoleAssignment {
        id: "/providers/Microsoft.Authorization/roleAssignments/00000000-0000-0000-0000-0000000000b3".to_owned(),
        scope: String::new(),
        role: OWNER.to_owned(),
        principal_id: MANAGED_IDENTITY.to_owned(),
        principal_type: "ServicePrincipal".to_owned(),
        description: Some("--dev".to_owned()),
        created: String::new(),
        created_by: String::new(),
    }
}

/// Answers `Microsoft.Authorization`.
pub(crate) async fn answer(manager: &Arc<Manager>, asker: &Asker, incoming: &Incoming) -> Result<Response, ArmError> {
    let request = to_arm(incoming)?;
    let caller = asker.caller.clone();
    let decide = move |state: &State| {
        check_scope(state, &request)?;
        let may = |needed: &Needed| require(state, &caller, needed).is_ok();
        let asking = Asking {
            caller: caller.object_id(),
            may: &may,
        };
        authorization::answer(&state.directory.access, &request, &asking, &mut SystemMint)
    };
    let answer = match incoming.method == http::Method::GET {
        true => manager.core.look(decide).await?.1,
        false => manager.core.write_access(asker, decide).await?,
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(match answer.body {
        Some(body) => json_response(status, &body),
        None => super::http::empty_response(status),
    })
}

/// A role is assigned at something that there is.
fn check_scope(state: &State, request: &arm::Request) -> Result<(), ArmError> {
    let Some(scope) = authorization::assigned_at(&request.path).filter(|_| request.method == Method::Put) else {
        return Ok(());
    };
    let is_subscription = scope.matches('/').count() <= 2;
    if is_subscription || state.resources.get(&scope).is_some() {
        return Ok(());
    }
    let message = format!("The scope '{scope}' was not found. Create it first.");
    Err(ArmError::new(404, "ResourceNotFound", message))
}

/// How changes of roles are stored.
pub(crate) fn writes(changes: Vec<AccessChange>) -> Result<Vec<Write>, serde_json::Error> {
    let write = |change| {
        Ok(match change {
            AccessChange::PutAssignment(assignment) => {
                let key = assignment.id.to_ascii_lowercase();
                Write::PutEntry(Collection::RoleAssignments, key, serde_json::to_value(assignment)?)
            }
            AccessChange::DeleteAssignment(key) => Write::DeleteEntry(Collection::RoleAssignments, key),
            AccessChange::PutDefinition(role) => {
                let key = role.guid.clone();
                Write::PutEntry(Collection::RoleDefinitions, key, serde_json::to_value(role)?)
            }
            AccessChange::DeleteDefinition(guid) => Write::DeleteEntry(Collection::RoleDefinitions, guid),
        })
    };
    changes.into_iter().map(write).collect()
}

/// The roles that go with what is removed.
pub(crate) fn writes_of_removed(state: &State, is_removed: impl Fn(&RoleAssignment) -> bool) -> Vec<Write> {
    let assignments = state.directory.access.assignments.iter();
    let removed = assignments.filter(|(_, assignment)| is_removed(assignment));
    removed
        .map(|(key, _)| Write::DeleteEntry(Collection::RoleAssignments, key.clone()))
        .collect()
}

fn require(state: &State, caller: &Caller, needed: &Needed) -> Result<(), ArmError> {
    match caller {
        Caller::Administrator => Ok(()),
        Caller::Anyone => Err(authorization::denied("", caller.object_id(), needed)),
        Caller::Principal(it)
            if state
                .directory
                .access
                .allows(&it.object_id, &needed.action, &needed.scope) =>
        {
            Ok(())
        }
        Caller::Principal(it) => Err(authorization::denied(&it.client_id, &it.object_id, needed)),
    }
}

fn knows(state: &State, caller: &Caller, scope: &str) -> bool {
    match caller {
        Caller::Administrator => true,
        Caller::Anyone => false,
        Caller::Principal(it) => state.directory.access.knows(&it.object_id, scope),
    }
}
