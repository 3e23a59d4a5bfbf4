//! Where clients ask how an operation went: nearly everything here has succeeded when it is answered, so the first look ends the wait. What
//! an instance does not follow yet is in progress, and what it refuses has failed, until it does.
//! Writes are remembered in the store; results of questions (learnedRoutes and such) in memory, a bounded number of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arm::ArmError;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

use super::Manager;
use super::arm_api::RETRY_AFTER;
use super::ask::Reply;
use super::http::{Incoming, empty_response, json_response, method_not_allowed};
use super::keeper::{Followed, followed};

/// Results kept; clients fetch theirs within seconds, PowerShell twice.
const MAX_RESULTS: usize = 64;

/// Operations that were not in force when they were answered; an older one counts as done, as all do for the next manager.
const MAX_OPEN: usize = 1024;

/// Results of questions, and operations that were answered before they were in force.
#[derive(Debug, Default)]
pub(crate) struct Results {
    kept: Mutex<VecDeque<Kept>>,
    /// Operation and the version that it made.
    open: Mutex<VecDeque<(String, u64)>>,
}

#[derive(Debug)]
struct Kept {
    id: String,
    subscription: String,
    reply: Arc<Reply>,
}

impl Results {
    /// Keeps a result under a fresh id; the oldest makes room.
    pub(crate) fn keep(&self, subscription: &str, reply: Reply) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == MAX_RESULTS {
            kept.pop_front();
        }
        kept.push_back(Kept {
            id: id.clone(),
            subscription: subscription.to_ascii_lowercase(),
            reply: Arc::new(reply),
        });
        id
    }

    /// An operation will be asked about that is not in force.
    pub(crate) fn leave_open(&self, operation: &str, version: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() == MAX_OPEN {
            open.pop_front();
        }
        open.push_back((operation.to_ascii_lowercase(), version));
    }

    fn open_version(&self, operation: &str) -> Option<u64> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().find(|(id, _)| id == operation).map(|(_, version)| *version)
    }

    fn get(&self, subscription: &str, id: &str) -> Option<Arc<Reply>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept
            .iter()
            .find(|kept| kept.id == id && kept.subscription == subscription)?;
        Some(Arc::clone(&found.reply))
    }
}

/// An answer of the instances. Bodies are Azure's, so a header says which instances are missing in it.
pub(crate) fn result(reply: &Reply) -> Response {
    let mut response = json_response(StatusCode::OK, &reply.body);
    for (name, instances) in [
        ("x-routewright-unanswered", &reply.unanswered),
        ("x-routewright-elsewhere", &reply.elsewhere),
    ] {
        let instances: Vec<String> = instances.iter().map(usize::to_string).collect();
        if !instances.is_empty()
            && let Ok(instances) = HeaderValue::from_str(&instances.join(", "))
        {
            response.headers_mut().insert(name, instances);
        }
    }
    response
}

/// `…/operations/ID` and `…/operationResults/ID`; `subscription`, `kind` and `id` in lower case.
pub(crate) async fn answer(
    manager: &Manager,
    incoming: &Incoming,
    subscription: &str,
    kind: &str,
    id: &str,
) -> Result<Response, ArmError> {
    if incoming.method != Method::GET {
        return Err(method_not_allowed("GET"));
    }
    if kind == "operationresults"
        && let Some(reply) = manager.results.get(subscription, id)
    {
        let mut response = result(&reply);
        // PowerShell reads `Location` of the last answer and fetches it once more.
        let here = format!("{}/{}", incoming.base, incoming.segments.join("/"));
        let version = incoming.parameter("api-version").unwrap_or_default();
        if let Ok(here) = HeaderValue::from_str(&format!("{here}?api-version={version}")) {
            response.headers_mut().insert(header::LOCATION, here);
        }
        return Ok(response);
    }
    match manager.core.operation(id).await? {
        Some(operation) if operation.subscription == subscription => Ok(match kind {
            "operations" => state(manager, id, &operation.status),
            _ => empty_response(StatusCode::OK),
        }),
        _ => {
            let elsewhere = match manager.is_shared {
                // Of questions to the instances only the manager that was asked has the results.
                true => " What another machine's manager was asked, it alone has the answer to: ask there.",
                false => "",
            };
            let message = format!("There is no operation '{id}', or it is too long ago.{elsewhere}");
            Err(ArmError::new(404, "OperationNotFound", message))
        }
    }
}

/// What became of a write that is stored.
fn state(manager: &Manager, id: &str, stored: &str) -> Response {
    let open = manager.results.open_version(id);
    match open.map_or(Followed::ByAll, |version| followed(&manager.statuses(), version)) {
        Followed::ByAll => json_response(StatusCode::OK, &json!({ "status": stored })),
        Followed::NotYet => {
            let mut response = json_response(StatusCode::OK, &json!({ "status": "InProgress" }));
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
            response
        }
        Followed::NotBy(instance, problem) => {
            let message =
                format!("It is stored, but instance {instance} does not follow it: {problem}. It is tried again.");
            let error = json!({ "code": "InstanceRefused", "message": message });
            json_response(StatusCode::OK, &json!({ "status": "Failed", "error": error }))
        }
    }
}
