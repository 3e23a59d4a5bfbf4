//! `/routewright/v1/service-principals`: making, listing, resetting and removing them. A secret is told once, when it is made.

use std::sync::Arc;

use arm::ArmError;
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::principals::{HashError, ServicePrincipal, fresh_secret};
use crate::manager::Manager;
use crate::manager::access;
use crate::manager::activity::Asker;
use crate::manager::asked::Own;
use crate::manager::core::State;
use crate::manager::http::{Incoming, empty_response, json_response, method_not_allowed};
use crate::store::{Collection, Write};

/// More are a mistake of somebody's script.
const MAX_PRINCIPALS: usize = 1000;
/// Entra ID's.
const MAX_NAME_CHARS: usize = 120;

/// Answers what is asked of service principals.
pub(crate) async fn answer(
    manager: &Arc<Manager>,
    asker: &Asker,
    incoming: &Incoming,
    own: &Own,
) -> Result<Response, ArmError> {
    match (own, &incoming.method) {
        (Own::ServicePrincipals, &Method::GET) => Ok(json_response(StatusCode::OK, &list(manager))),
        (Own::ServicePrincipals, &Method::POST) => create(manager, asker, incoming).await,
        (Own::ServicePrincipals, _) => Err(method_not_allowed("GET, POST")),
        (Own::ServicePrincipal(id), &Method::GET) => {
            Ok(json_response(StatusCode::OK, &find(manager, id).await?.show()))
        }
        (Own::ServicePrincipal(id), &Method::DELETE) => delete(manager, asker, id).await,
        (Own::ServicePrincipal(_), _) => Err(method_not_allowed("GET, DELETE")),
        (Own::ResetSecret(id), &Method::POST) => reset(manager, asker, id).await,
        (Own::ResetSecret(_), _) => Err(method_not_allowed("POST")),
        _ => Err(ArmError::new(404, "NotFound", "There is nothing at this path.")),
    }
}

fn list(manager: &Manager) -> Value {
    let shown: Value = manager.core.read(|state| {
        state
            .directory
            .principals
            .values()
            .map(ServicePrincipal::show)
            .collect()
    });
    json!({ "value": shown })
}

async fn find(manager: &Manager, id: &str) -> Result<ServicePrincipal, ArmError> {
    let find = |state: &State| state.directory.principals.get(id).cloned().ok_or_else(|| no_such(id));
    manager.core.look(find).await
}

fn no_such(id: &str) -> ArmError {
    ArmError::new(
        404,
        "ResourceNotFound",
        format!("There is no service principal '{id}'."),
    )
}

async fn create(manager: &Arc<Manager>, asker: &Asker, incoming: &Incoming) -> Result<Response, ArmError> {
    let body = incoming.json()?.unwrap_or_else(|| json!({}));
    let name = body["displayName"].as_str().unwrap_or_default().trim();
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.contains(char::is_control) {
        let message = format!("`displayName` must be a text of 1 to {MAX_NAME_CHARS} characters.");
        return Err(ArmError::new(400, "InvalidParameter", message));
    }
    let secret = fresh_secret();
    let created = jiff::Timestamp::now().to_string();
    let principal = hashed(name.to_owned(), secret.clone(), move |name, secret| {
        ServicePrincipal::new(&name, created, &secret)
    })
    .await?;
    let told = told(manager, &principal, &secret);
    let write = put(&principal)?;
    manager
        .core
        .write_directory(asker, 201, move |state| match state.directory.principals.len() {
            0..MAX_PRINCIPALS => Ok(vec![write.clone()]),
            _ => Err(ArmError::new(
                409,
                "QuotaExceeded",
                format!("There are {MAX_PRINCIPALS} service principals already; delete some."),
            )),
        })
        .await?;
    Ok(json_response(StatusCode::CREATED, &told))
}

async fn reset(manager: &Arc<Manager>, asker: &Asker, id: &str) -> Result<Response, ArmError> {
    let principal = find(manager, id).await?;
    let secret = fresh_secret();
    let principal = hashed(principal, secret.clone(), |principal, secret| {
        principal.with_secret(&secret)
    })
    .await?;
    let told = told(manager, &principal, &secret);
    let write = put(&principal)?;
    let key = principal.client_id;
    manager
        .core
        .write_directory(asker, 200, move |state| {
            match state.directory.principals.contains_key(&key) {
                true => Ok(vec![write.clone()]),
                false => Err(no_such(&key)),
            }
        })
        .await?;
    Ok(json_response(StatusCode::OK, &told))
}

async fn delete(manager: &Arc<Manager>, asker: &Asker, id: &str) -> Result<Response, ArmError> {
    // One that is gone already is fine, as in ARM; what never could be one is a mistake.
    if uuid::Uuid::try_parse(id).is_err() {
        return Err(no_such(id));
    }
    let key = id.to_owned();
    manager
        .core
        .write_directory(asker, 204, move |state| {
            let Some(principal) = state.directory.principals.get(&key) else {
                return Ok(Vec::new());
            };
            let mut writes = access::writes_of_removed(state, |it| it.principal_id == principal.object_id);
            writes.push(Write::DeleteEntry(Collection::ServicePrincipals, key.clone()));
            Ok(writes)
        })
        .await?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

fn told(manager: &Manager, principal: &ServicePrincipal, secret: &str) -> Value {
    let mut told = principal.show();
    told["secret"] = json!(secret);
    told["tenant"] = json!(manager.sign_in.tenant);
    told
}

fn put(principal: &ServicePrincipal) -> Result<Write, ArmError> {
    let body = serde_json::to_value(principal).map_err(|error| internal(&error))?;
    Ok(Write::PutEntry(
        Collection::ServicePrincipals,
        principal.client_id.clone(),
        body,
    ))
}

/// Hashing is slow on purpose; the runtime must not wait for it.
async fn hashed<T: Send + 'static>(
    of: T,
    secret: String,
    hash: impl FnOnce(T, String) -> Result<ServicePrincipal, HashError> + Send + 'static,
) -> Result<ServicePrincipal, ArmError> {
    let hashed = tokio::task::spawn_blocking(move || hash(of, secret)).await;
    hashed
        .map_err(|error| internal(&error))?
        .map_err(|error| internal(&error))
}

fn internal(error: &dyn std::error::Error) -> ArmError {
    tracing::error!(%error, "a service principal cannot be made");
    ArmError::new(
        500,
        "InternalServerError",
        "Something went wrong inside; the manager's log says what.",
    )
}
