//! `Microsoft.Authorization/roleAssignments` and `roleDefinitions`: roles as ARM resources, at any scope.

use serde_json::{Value, json};

use super::needed::provider_of;
use super::{Access, Needed, RoleAssignment, RoleDefinition, built_in, covers};
use crate::error::ArmError;
use crate::request::{Answer, Method, Mint, Request};

/// Azure's limit for a subscription.
const MAX_ASSIGNMENTS: usize = 4000;
/// Azure's limit for a tenant.
const MAX_DEFINITIONS: usize = 5000;
/// Actions of a role; far more than any has.
const MAX_ACTIONS: usize = 2000;
/// Names, ids and descriptions are not longer.
const MAX_TEXT_CHARS: usize = 2048;

const NAMESPACE: &str = "Microsoft.Authorization";
const ASSIGNMENTS: &str = "roleAssignments";
const DEFINITIONS: &str = "roleDefinitions";

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum AccessChange {
    /// Create or replace.
    PutAssignment(RoleAssignment),
    /// Remove, by key.
    DeleteAssignment(String),
    /// Create or replace.
    PutDefinition(RoleDefinition),
    /// Remove, by GUID.
    DeleteDefinition(String),
}

/// Who asks, and what they may.
pub struct Asking<'a> {
    /// Object id of who asks.
    pub caller: &'a str,
    /// Whether they may do more than the request itself needs.
    pub may: &'a dyn Fn(&Needed) -> bool,
}

/// A path of this namespace, taken apart.
struct Place<'p> {
    scope: String,
    kind: &'static str,
    name: Option<&'p str>,
}

/// Whether a path is answered here.
pub fn is_authorization(path: &str) -> bool {
    place(path).is_some()
}

/// Where a path assigns a role; `None`: it is no role assignment's.
pub fn assigned_at(path: &str) -> Option<String> {
    let place = place(path)?;
    (place.kind == ASSIGNMENTS && place.name.is_some()).then_some(place.scope)
}

fn place(path: &str) -> Option<Place<'_>> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let at = provider_of(&segments)?;
    let (scope, rest) = segments.split_at(at);
    let (kind, name) = match rest {
        [_, namespace, kind] if namespace.eq_ignore_ascii_case(NAMESPACE) => (kind, None),
        [_, namespace, kind, name] if namespace.eq_ignore_ascii_case(NAMESPACE) => (kind, Some(*name)),
        _ => return None,
    };
    let kind = [ASSIGNMENTS, DEFINITIONS]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(kind))?;
    let scope = scope.iter().map(|segment| format!("/{segment}")).collect();
    Some(Place { scope, kind, name })
}

/// Answers a request for a path that [`is_authorization`].
pub fn answer(
    access: &Access,
    request: &Request,
    asking: &Asking<'_>,
    mint: &mut dyn Mint,
) -> Result<(Vec<AccessChange>, Answer), ArmError> {
    let place = place(&request.path).ok_or_else(|| ArmError::no_such_type(&request.path))?;
    let filter = request
        .query
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("$filter"));
    let filter = filter.map(|(_, value)| value.as_str()).unwrap_or_default();
    let read = |value: Option<Value>| match value {
        Some(value) => Ok((Vec::new(), Answer::new(200, Some(value)))),
        None => Err(not_found(&place)),
    };
    match (place.kind, place.name, request.method) {
        (ASSIGNMENTS, None, Method::Get) => read(Some(list_assignments(access, &place.scope, filter))),
        (_, None, Method::Get) => read(Some(list_definitions(access, &place.scope, filter))),
        (ASSIGNMENTS, Some(_), Method::Get) => read(access.assignments.get(&key(request)).map(show_assignment)),
        (ASSIGNMENTS, Some(name), Method::Put) => put_assignment(access, &place.scope, name, request, asking, mint),
        (ASSIGNMENTS, Some(_), Method::Delete) => Ok(delete_assignment(access, &key(request))),
        (_, Some(name), Method::Get) => {
            let role = access.role(&name.to_ascii_lowercase());
            read(
                role.filter(|role| is_seen_at(role, &place.scope))
                    .map(|role| show_definition(role, &place.scope)),
            )
        }
        (_, Some(name), Method::Put) => put_definition(access, &place.scope, name, request, asking),
        (_, Some(name), Method::Delete) => delete_definition(access, &place.scope, name, asking),
        _ => Err(ArmError::new(
            405,
            "MethodNotAllowed",
            "The method is not supported here; allowed: GET, PUT, DELETE.",
        )),
    }
}

fn key(request: &Request) -> String {
    format!("/{}", request.path.trim_matches('/')).to_ascii_lowercase()
}

fn not_found(place: &Place<'_>) -> ArmError {
    let name = place.name.unwrap_or_default();
    let code = if place.kind == ASSIGNMENTS {
        "RoleAssignmentNotFound"
    } else {
        "RoleDefinitionDoesNotExist"
    };
    ArmError::new(
        404,
        code,
        format!("There is no {} '{name}' here. List those there are.", place.kind),
    )
}

/// At, above and below the scope, unless the filter says otherwise.
fn list_assignments(access: &Access, scope: &str, filter: &str) -> Value {
    let at_scope = filter.replace(' ', "").contains("atScope()");
    let principal = quoted_after(filter, "principalId eq").or_else(|| quoted_after(filter, "assignedTo("));
    let shown: Value = access
        .assignments
        .values()
        .filter(|it| covers(&it.scope, scope) || (!at_scope && covers(scope, &it.scope)))
        .filter(|it| principal.is_none_or(|principal| it.principal_id.eq_ignore_ascii_case(principal)))
        .map(show_assignment)
        .collect();
    json!({ "value": shown })
}

fn list_definitions(access: &Access, scope: &str, filter: &str) -> Value {
    let name = quoted_after(filter, "roleName eq");
    let kind = quoted_after(filter, "type eq");
    let shown: Value = built_in()
        .iter()
        .chain(access.definitions.values())
        .filter(|role| is_seen_at(role, scope))
        .filter(|role| name.is_none_or(|name| role.name.eq_ignore_ascii_case(name)))
        .filter(|role| kind.is_none_or(|kind| kind_of(role).eq_ignore_ascii_case(kind)))
        .map(|role| show_definition(role, scope))
        .collect();
    json!({ "value": shown })
}

/// Whether a role can be assigned at the scope, above it or below it. Elsewhere it is nobody's business.
fn is_seen_at(role: &RoleDefinition, scope: &str) -> bool {
    let mut scopes = role.assignable_scopes.iter();
    scopes.any(|at| covers(at, scope) || covers(scope, at))
}

/// The text in quotes after `words`.
fn quoted_after<'f>(filter: &'f str, words: &str) -> Option<&'f str> {
    let (_, rest) = filter.split_once(words)?;
    rest.trim_start().strip_prefix('\'')?.split('\'').next()
}

fn put_assignment(
    access: &Access,
    scope: &str,
    name: &str,
    request: &Request,
    asking: &Asking<'_>,
    mint: &mut dyn Mint,
) -> Result<(Vec<AccessChange>, Answer), ArmError> {
    let properties = properties(request)?;
    if !is_guid(name) {
        return Err(ArmError::bad(
            "InvalidRoleAssignmentId",
            format!("The role assignment ID '{name}' is not valid. It must be a GUID."),
        ));
    }
    let role = text(properties, "roleDefinitionId")?.to_ascii_lowercase();
    let role = role.rsplit('/').next().unwrap_or_default();
    let Some(definition) = access.role(role) else {
        return Err(ArmError::bad(
            "RoleDefinitionDoesNotExist",
            format!("The specified role definition with ID '{role}' does not exist."),
        ));
    };
    if !definition.assignable_scopes.iter().any(|at| covers(at, scope)) {
        let message = format!(
            "The role '{}' cannot be assigned at '{scope}'; its assignable scopes are {}.",
            definition.name,
            definition.assignable_scopes.join(", ")
        );
        return Err(ArmError::bad("RoleDefinitionNotAssignableAtScope", message));
    }
    let principal = text(properties, "principalId")?.to_ascii_lowercase();
    let key = key(request);
    let same = |it: &RoleAssignment| {
        it.role == role && it.principal_id == principal && covers(&it.scope, scope) && covers(scope, &it.scope)
    };
    if let Some(existing) = access.assignments.get(&key) {
        return match same(existing) {
            true => Ok((Vec::new(), Answer::new(200, Some(show_assignment(existing))))),
            false => Err(ArmError::new(
                409,
                "RoleAssignmentUpdateNotPermitted",
                "Tenant ID, application ID, principal ID, and scope are not allowed to be updated. Delete the assignment and make another.",
            )),
        };
    }
    if let Some((_, existing)) = access.assignments.iter().find(|(_, it)| same(it)) {
        let message = format!(
            "The role assignment already exists. The ID of the existing role assignment is {}.",
            existing.id
        );
        return Err(ArmError::new(409, "RoleAssignmentExists", message));
    }
    if access.assignments.len() >= MAX_ASSIGNMENTS {
        let message = format!("No more role assignments can be created: there are {MAX_ASSIGNMENTS}. Delete some.");
        return Err(ArmError::bad("RoleAssignmentLimitExceeded", message));
    }
    let assignment = RoleAssignment {
        id: format!("{scope}/providers/{NAMESPACE}/{ASSIGNMENTS}/{name}"),
        scope: scope.to_owned(),
        role: role.to_owned(),
        principal_id: principal,
        principal_type: properties["principalType"]
            .as_str()
            .unwrap_or("ServicePrincipal")
            .to_owned(),
        description: properties["description"]
            .as_str()
            .map(|text| text.chars().take(MAX_TEXT_CHARS).collect()),
        created: mint.now(),
        created_by: asking.caller.to_owned(),
    };
    let shown = show_assignment(&assignment);
    Ok((
        vec![AccessChange::PutAssignment(assignment)],
        Answer::new(201, Some(shown)),
    ))
}

fn delete_assignment(access: &Access, key: &str) -> (Vec<AccessChange>, Answer) {
    match access.assignments.get(key) {
        Some(existing) => (
            vec![AccessChange::DeleteAssignment(key.to_owned())],
            Answer::new(200, Some(show_assignment(existing))),
        ),
        None => (Vec::new(), Answer::new(204, None)),
    }
}

fn put_definition(
    access: &Access,
    scope: &str,
    name: &str,
    request: &Request,
    asking: &Asking<'_>,
) -> Result<(Vec<AccessChange>, Answer), ArmError> {
    let properties = properties(request)?;
    let guid = name.to_ascii_lowercase();
    if !is_guid(name) || built_in().iter().any(|role| role.guid == guid) {
        let message =
            format!("'{name}' cannot be the ID of a custom role. It must be a GUID that no built-in role has.");
        return Err(ArmError::bad("InvalidRoleDefinitionId", message));
    }
    let permissions = properties["permissions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let [permission] = permissions else {
        return Err(ArmError::bad(
            "InvalidRoleDefinition",
            "`permissions` must be a list with one entry: actions and notActions.",
        ));
    };
    let role = RoleDefinition {
        guid: guid.clone(),
        name: text(properties, "roleName")?.to_owned(),
        description: properties["description"]
            .as_str()
            .unwrap_or_default()
            .chars()
            .take(MAX_TEXT_CHARS)
            .collect(),
        custom: true,
        actions: texts(&permission["actions"], "actions")?,
        not_actions: texts(&permission["notActions"], "notActions")?,
        assignable_scopes: texts(&properties["assignableScopes"], "assignableScopes")?,
    };
    if role.assignable_scopes.is_empty()
        || role
            .assignable_scopes
            .iter()
            .any(|at| !at.starts_with("/subscriptions/"))
    {
        let message = "`assignableScopes` must name subscriptions, resource groups or resources.";
        return Err(ArmError::bad("InvalidAssignableScopes", message));
    }
    let taken = |other: &&RoleDefinition| other.guid != guid && other.name.eq_ignore_ascii_case(&role.name);
    if built_in()
        .iter()
        .chain(access.definitions.values())
        .find(taken)
        .is_some()
    {
        let message = format!("A role named '{}' exists already. Choose another name.", role.name);
        return Err(ArmError::new(409, "RoleDefinitionWithSameNameExists", message));
    }
    if access.definitions.len() >= MAX_DEFINITIONS {
        let message = format!("No more custom roles can be created: there are {MAX_DEFINITIONS}. Delete some.");
        return Err(ArmError::bad("RoleDefinitionLimitExceeded", message));
    }
    let before = access.definitions.get(&guid);
    let scopes = role
        .assignable_scopes
        .iter()
        .chain(before.into_iter().flat_map(|role| &role.assignable_scopes));
    may_everywhere(asking, "write", scopes)?;
    let shown = show_definition(&role, scope);
    Ok((vec![AccessChange::PutDefinition(role)], Answer::new(201, Some(shown))))
}

fn delete_definition(
    access: &Access,
    scope: &str,
    name: &str,
    asking: &Asking<'_>,
) -> Result<(Vec<AccessChange>, Answer), ArmError> {
    let guid = name.to_ascii_lowercase();
    let Some(role) = access.definitions.get(&guid) else {
        return match access.role(&guid) {
            Some(_) => Err(ArmError::bad(
                "InvalidRoleDefinitionId",
                "Built-in roles cannot be deleted.",
            )),
            None => Ok((Vec::new(), Answer::new(204, None))),
        };
    };
    if let Some(user) = access.assignments.values().find(|it| it.role == guid) {
        let message = format!(
            "There are existing role assignments referencing role '{}': {}. Delete them first.",
            role.name, user.id
        );
        return Err(ArmError::new(409, "RoleDefinitionHasAssignments", message));
    }
    may_everywhere(asking, "delete", role.assignable_scopes.iter())?;
    let shown = show_definition(role, scope);
    Ok((
        vec![AccessChange::DeleteDefinition(guid)],
        Answer::new(200, Some(shown)),
    ))
}

/// A custom role is changed only by who may at each scope that it can be assigned at: else one could give oneself more.
fn may_everywhere<'s>(
    asking: &Asking<'_>,
    verb: &str,
    scopes: impl Iterator<Item = &'s String>,
) -> Result<(), ArmError> {
    for scope in scopes {
        let needed = Needed {
            action: format!("{NAMESPACE}/{DEFINITIONS}/{verb}"),
            scope: scope.clone(),
        };
        if !(asking.may)(&needed) {
            return Err(super::denied(asking.caller, asking.caller, &needed));
        }
    }
    Ok(())
}

fn show_assignment(assignment: &RoleAssignment) -> Value {
    let scope = if assignment.scope.is_empty() {
        "/"
    } else {
        &assignment.scope
    };
    let subscription = subscription_of(&assignment.scope);
    json!({
        "id": assignment.id,
        "name": assignment.id.rsplit('/').next(),
        "type": format!("{NAMESPACE}/{ASSIGNMENTS}"),
        "properties": {
            "roleDefinitionId": format!("{subscription}/providers/{NAMESPACE}/{DEFINITIONS}/{}", assignment.role),
            "principalId": assignment.principal_id, "principalType": assignment.principal_type, "scope": scope,
            "description": assignment.description, "condition": Value::Null, "conditionVersion": Value::Null,
            "createdOn": assignment.created, "updatedOn": assignment.created,
            "createdBy": assignment.created_by, "updatedBy": assignment.created_by,
            "delegatedManagedIdentityResourceId": Value::Null,
        },
    })
}

fn show_definition(role: &RoleDefinition, scope: &str) -> Value {
    json!({
        "id": format!("{}/providers/{NAMESPACE}/{DEFINITIONS}/{}", subscription_of(scope), role.guid),
        "name": role.guid,
        "type": format!("{NAMESPACE}/{DEFINITIONS}"),
        "properties": {
            "roleName": role.name, "type": kind_of(role), "description": role.description,
            "assignableScopes": role.assignable_scopes,
            "permissions": [{ "actions": role.actions, "notActions": role.not_actions, "dataActions": [], "notDataActions": [] }],
        },
    })
}

fn kind_of(role: &RoleDefinition) -> &'static str {
    if role.custom { "CustomRole" } else { "BuiltInRole" }
}

/// `/subscriptions/{s}` of a scope; empty at the root.
fn subscription_of(scope: &str) -> String {
    scope
        .split('/')
        .filter(|segment| !segment.is_empty())
        .take(2)
        .map(|segment| format!("/{segment}"))
        .collect()
}

fn properties(request: &Request) -> Result<&Value, ArmError> {
    match request.body.as_ref().map(|body| &body["properties"]) {
        Some(properties) if properties.is_object() => Ok(properties),
        // Old clients leave `properties` out.
        _ => match &request.body {
            Some(body) if body.is_object() => Ok(body),
            _ => Err(ArmError::bad(
                "InvalidRequestContent",
                "The request content must be an object with `properties`.",
            )),
        },
    }
}

fn text<'v>(properties: &'v Value, name: &str) -> Result<&'v str, ArmError> {
    match properties[name].as_str() {
        Some(text) if !text.is_empty() && text.chars().count() <= MAX_TEXT_CHARS => Ok(text),
        _ => Err(ArmError::bad(
            "BadRequestFormat",
            format!("`{name}` must be a text of 1 to {MAX_TEXT_CHARS} characters."),
        )
        .at(name)),
    }
}

fn texts(value: &Value, name: &str) -> Result<Vec<String>, ArmError> {
    let refuse = || {
        ArmError::bad(
            "BadRequestFormat",
            format!("`{name}` must be a list of at most {MAX_ACTIONS} texts."),
        )
        .at(name)
    };
    if value.is_null() {
        return Ok(Vec::new());
    }
    let items = value
        .as_array()
        .filter(|items| items.len() <= MAX_ACTIONS)
        .ok_or_else(refuse)?;
    let text = |item: &Value| {
        item.as_str()
            .filter(|text| text.chars().count() <= MAX_TEXT_CHARS)
            .map(str::to_owned)
    };
    items.iter().map(text).collect::<Option<Vec<_>>>().ok_or_else(refuse)
}

fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
