//! The little of Microsoft Graph that `az role` asks: who is behind an id. Service principals are all there are.

use arm::ArmError;
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Caller;
use super::principals::ServicePrincipal;
use crate::manager::http::{Incoming, json_response};
use crate::manager::{Manager, access};

/// Answers a request below `/v1.0`; `rest` in lower case. Those are shown of whom the caller may know.
pub(crate) fn answer(
    manager: &Manager,
    caller: &Caller,
    incoming: &Incoming,
    rest: &[String],
) -> Result<Response, ArmError> {
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let ids: Vec<String> = match (rest.as_slice(), &incoming.method) {
        (["directoryobjects", "getbyids"], &Method::POST) => {
            let body = incoming.json()?.unwrap_or_default();
            let ids = body["ids"].as_array().into_iter().flatten();
            ids.filter_map(|id| id.as_str().map(str::to_ascii_lowercase)).collect()
        }
        // `servicePrincipalNames/any(c:c eq 'ID')`: whatever stands in quotes is an id.
        (["serviceprincipals"], &Method::GET) => {
            let filter = incoming.parameter("$filter").unwrap_or_default();
            filter
                .split('\'')
                .skip(1)
                .step_by(2)
                .map(str::to_ascii_lowercase)
                .collect()
        }
        _ => {
            return Err(ArmError::new(
                404,
                "Request_ResourceNotFound",
                "There is nothing at this path.",
            ));
        }
    };
    let found: Value = manager.core.read(|state| {
        let principals = state.directory.principals.values();
        principals
            .filter(|it| ids.contains(&it.object_id) || ids.contains(&it.client_id))
            .filter(|it| access::may_know_principal(state, caller, &it.object_id))
            .map(show)
            .collect()
    });
    Ok(json_response(StatusCode::OK, &json!({ "value": found })))
}

fn show(principal: &ServicePrincipal) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.servicePrincipal",
        "id": principal.object_id, "appId": principal.client_id,
        "displayName": principal.display_name, "appDisplayName": principal.display_name,
        "servicePrincipalNames": [principal.client_id], "servicePrincipalType": "Application",
    })
}
