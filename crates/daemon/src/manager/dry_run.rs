//! `POST /routewright/v1/dry-run`: what writes would change of routes, with nothing written.
//!
//! ```text
//! writes ─► a copy of the state, each carried out there ─► intent ─► both instances: what would differ? ─► what they say
//!                                        what the peers of each have said ─►┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use api::control::ControlError;
use arm::{ArmError, Method, Request};
use axum::response::Response;
use http::StatusCode;
use routeserver::Intent;
use serde::Deserialize;
use serde_json::Value;

use super::activity::Asker;
use super::core::State;
use super::http::{Incoming, json_response, method_not_allowed};
use super::sign_in::Caller;
use super::{Manager, access, ask, own_api};

/// Writes of one dry run, as many as a template may have.
const MAX_CHANGES: usize = 800;
/// Longer than the instances take for the most that they look at.
const PATIENCE: Duration = Duration::from_secs(125);
/// Which one it is says nothing here.
const API_VERSION: &str = "2024-05-01";

#[derive(Debug, Deserialize)]
struct Asked {
    changes: Vec<Change>,
}

/// A write as it would be sent.
#[derive(Debug, Deserialize)]
struct Change {
    method: String,
    path: String,
    #[serde(default)]
    body: Option<Value>,
}

/// Answers with a list of what each instance says.
pub(super) async fn answer(manager: &Arc<Manager>, asker: &Asker, incoming: &Incoming) -> Result<Response, ArmError> {
    if incoming.method != http::Method::POST {
        return Err(method_not_allowed("POST"));
    }
    let changes = read(incoming)?;
    // What was written before it is what it is compared with.
    manager.core.look_again().await;
    ask::settled(manager).await;
    let copy = manager.core.read(State::clone);
    let caller = asker.caller.clone();
    let tried = tokio::task::spawn_blocking(move || try_out(copy, &caller, changes)).await;
    let wanted = Arc::new(tried.map_err(|error| {
        tracing::error!(%error, "a dry run failed");
        ArmError::new(500, "InternalServerError", "The dry run failed.")
    })??);
    // What gateways tell on is followed through both processes, so each is given what the other one's peers have said.
    let heard = ask::each_within(manager, PATIENCE, |control| control.heard()).await;
    let said_to = |index: usize| heard.given.iter().find(|(other, _)| *other != index);
    let mut answers = ask::each_its_own(manager, PATIENCE, |index, control| {
        let others = said_to(index).map(|(_, said)| said.clone());
        control.what_if(Arc::clone(&wanted), others)
    })
    .await;
    if let Some(ControlError::Refused { status: 422, reason }) = &answers.refused {
        let message = format!("A dry run is not possible here: {reason}.");
        return Err(ArmError::new(409, "TooManyRoutesForDryRun", message));
    }
    answers.at_least_one()?;
    let listed = ask::Answers {
        given: answers
            .given
            .drain(..)
            .map(|(index, report)| (index, vec![report]))
            .collect(),
        missing: answers.missing,
        refused: answers.refused,
    };
    Ok(json_response(StatusCode::OK, &own_api::list(manager, listed)))
}

fn read(incoming: &Incoming) -> Result<Vec<Change>, ArmError> {
    let invalid = |why: String| ArmError::new(400, "InvalidRequestContent", why);
    let Asked { changes } = serde_json::from_value(incoming.json()?.unwrap_or_default()).map_err(|error| {
        invalid(format!(
            "The body must be {{\"changes\": [{{\"method\", \"path\", \"body\"}}]}}: {error}."
        ))
    })?;
    match changes.len() > MAX_CHANGES {
        true => Err(invalid(format!("{MAX_CHANGES} changes are the most for one dry run."))),
        false => Ok(changes),
    }
}

/// What would be wanted of the instances after these writes; the first that would be refused is refused here.
fn try_out(mut copy: State, caller: &Caller, changes: Vec<Change>) -> Result<Intent, ArmError> {
    for (position, change) in changes.into_iter().enumerate() {
        let path = change.path.clone();
        write(&mut copy, caller, change).map_err(|error| ArmError {
            message: format!("changes[{position}] ({path}) would be refused: {}", error.message),
            ..error
        })?;
    }
    copy.resources.version += 1;
    Ok(arm::intent(&copy.resources, &copy.settings))
}

fn write(copy: &mut State, caller: &Caller, change: Change) -> Result<(), ArmError> {
    let method = match change.method.to_ascii_uppercase().as_str() {
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        other => {
            let message = format!("`method` must be PUT, PATCH or DELETE, not '{other}'.");
            return Err(ArmError::new(400, "InvalidRequestContent", message));
        }
    };
    let settings = change
        .path
        .strip_prefix("/routewright/v1")
        .and_then(|path| path.strip_suffix("/settings"));
    let request = Request {
        method,
        path: settings.unwrap_or(&change.path).trim_end_matches('/').to_owned(),
        query: vec![("api-version".to_owned(), API_VERSION.to_owned())],
        if_match: None,
        if_none_match: None,
        body: change.body.filter(|_| method != Method::Delete),
    };
    match settings {
        None => copy.try_out(caller, &request),
        Some(_) => write_settings(copy, caller, request),
    }
}

fn write_settings(copy: &mut State, caller: &Caller, request: Request) -> Result<(), ArmError> {
    access::check_request(
        copy,
        caller,
        &Request {
            body: None,
            ..request.clone()
        },
    )?;
    let key = request.path.to_ascii_lowercase();
    if request.method == Method::Delete {
        copy.settings.by_key.remove(&key);
        return Ok(());
    }
    let patch = request.method == Method::Patch;
    let after = own_api::settings_after(copy, &key, patch, request.body.unwrap_or_default())?;
    copy.settings.by_key.insert(key, after);
    Ok(())
}
