//! ARM paths: from HTTP to [`arm::handle`] and back, with the headers that clients follow (Azure's long-running operations).

use std::sync::Arc;

use arm::{Answer, ArmError, Method, OperationStyle, Outcome, Request};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use super::activity::Asker;
use super::ask::Reply;
use super::core::Written;
use super::http::{Incoming, empty_response, json_response, method_not_allowed};
use super::keeper::Followed;
use super::{Manager, ask, keeper, operations};
use crate::store::Operation;

/// Seconds. Without it, or with 0, Azure's Python clients wait half a minute.
pub(crate) const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Answers a request for an ARM path.
pub(crate) async fn answer(manager: &Arc<Manager>, asker: &Asker, incoming: Incoming) -> Result<Response, ArmError> {
    let request = to_arm(&incoming)?;
    let links = Links::new(&incoming, &request);
    if matches!(request.method, Method::Get | Method::Head) {
        return match manager.core.get(&asker.caller, &request).await? {
            Outcome::Done { answer, .. } => plain(manager, &links.base, answer).await,
            Outcome::Ask(question, _) => {
                let reply = ask::answer(manager, &question).await?;
                Ok(operations::result(&reply))
            }
        };
    }
    Ok(match manager.core.write(asker, request).await? {
        Written::Ask(question, location) => {
            let reply = ask::answer(manager, &question).await?;
            links.action(manager, &location, reply)
        }
        Written::Done {
            answer,
            version,
            operation,
        } => {
            if let Some(operation) = &operation {
                let followed = keeper::in_force(&manager.statuses(), version, keeper::IN_FORCE_PATIENCE).await;
                if followed != Followed::ByAll {
                    manager.results.leave_open(&operation.id, version);
                }
            }
            let style = answer.operation;
            let location = answer.location.clone();
            let mut response = plain(manager, &links.base, answer).await?;
            if let (Some(style), Some(operation)) = (style, operation) {
                links.operation(response.headers_mut(), style, &location, &operation);
            }
            response
        }
    })
}

pub(crate) fn to_arm(incoming: &Incoming) -> Result<Request, ArmError> {
    let method = match incoming.method {
        http::Method::GET => Method::Get,
        http::Method::HEAD => Method::Head,
        http::Method::PUT => Method::Put,
        http::Method::PATCH => Method::Patch,
        http::Method::POST => Method::Post,
        http::Method::DELETE => Method::Delete,
        _ => return Err(method_not_allowed("GET, HEAD, PUT, PATCH, POST, DELETE")),
    };
    let header = |name: header::HeaderName| {
        let value = incoming.headers.get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    Ok(Request {
        method,
        path: format!("/{}", incoming.segments.join("/")),
        query: incoming.query.clone(),
        if_match: header(header::IF_MATCH),
        if_none_match: header(header::IF_NONE_MATCH),
        body: match method {
            // Clients send a Content-Type and sometimes junk here; it has no meaning.
            Method::Get | Method::Head | Method::Delete => None,
            _ => incoming.json()?,
        },
    })
}

async fn plain(manager: &Manager, base: &str, answer: Answer) -> Result<Response, ArmError> {
    let status = StatusCode::from_u16(answer.status)
        .map_err(|_| ArmError::new(500, "InternalServerError", "An answer without a status."))?;
    let Some(mut body) = answer.body else {
        return Ok(empty_response(status));
    };
    ask::fill_connection_states(manager, &mut body).await;
    // Clients follow it as it is, so it must be absolute.
    if let Some(next) = body.get("nextLink").and_then(Value::as_str) {
        body["nextLink"] = format!("{base}{next}").into();
    }
    let mut response = json_response(status, &body);
    let etag = body.get("etag").and_then(Value::as_str);
    if let Some(Ok(etag)) = etag.map(HeaderValue::from_str) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

/// What the URLs in headers are made of.
#[derive(Debug)]
struct Links {
    base: String,
    subscription: String,
    api_version: String,
    /// A resource group's own operations live beside it, not under a provider.
    is_group: bool,
    /// A deployment's operations live under it.
    path: String,
}

impl Links {
    fn new(incoming: &Incoming, request: &Request) -> Links {
        let api_version = incoming.parameter("api-version").unwrap_or_default();
        let api_version = api_version
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect();
        Links {
            base: incoming.base.clone(),
            subscription: incoming.segments.get(1).cloned().unwrap_or_default(),
            api_version,
            is_group: request.path.matches('/').count() == 4,
            path: request.path.clone(),
        }
    }

    /// PowerShell takes the query of `Location` apart by position: nothing but `?api-version=…` may follow.
    fn url(&self, location: &str, kind: &str, id: &str) -> Option<HeaderValue> {
        let Links {
            base,
            subscription,
            api_version,
            ..
        } = self;
        let place = match self.is_group {
            true => "operationresults".to_owned(),
            false => format!("providers/Microsoft.Network/locations/{location}/{kind}"),
        };
        let url = format!("{base}/subscriptions/{subscription}/{place}/{id}?api-version={api_version}");
        HeaderValue::from_str(&url).ok()
    }

    fn deployment_url(&self, id: &str) -> Option<HeaderValue> {
        let Links {
            base,
            path,
            api_version,
            ..
        } = self;
        HeaderValue::from_str(&format!(
            "{base}{path}/operationStatuses/{id}?api-version={api_version}"
        ))
        .ok()
    }

    fn operation(&self, headers: &mut HeaderMap, style: OperationStyle, location: &str, operation: &Operation) {
        if style != OperationStyle::Action && !self.is_group {
            let url = match style {
                OperationStyle::Deployment => self.deployment_url(&operation.id),
                _ => self.url(location, "operations", &operation.id),
            };
            headers.extend(url.map(|url| (header::HeaderName::from_static("azure-asyncoperation"), url)));
            let name = header::HeaderName::from_static("azure-asyncnotification");
            headers.insert(name, HeaderValue::from_static("Enabled"));
        }
        if matches!(
            style,
            OperationStyle::Delete | OperationStyle::DeleteGroup | OperationStyle::Action
        ) {
            let url = self.url(location, "operationResults", &operation.id);
            headers.extend(url.map(|url| (header::LOCATION, url)));
        }
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        if let Ok(id) = HeaderValue::from_str(&operation.id) {
            headers.insert("x-ms-arm-service-request-id", id);
        }
    }

    /// POST actions: 202 with `Location` only; the result is there, at once.
    fn action(&self, manager: &Manager, location: &str, reply: Reply) -> Response {
        let id = manager.results.keep(&self.subscription, reply);
        let mut response = empty_response(StatusCode::ACCEPTED);
        let url = self.url(location, "operationResults", &id);
        let headers = response.headers_mut();
        headers.extend(url.map(|url| (header::LOCATION, url)));
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        response
    }
}
