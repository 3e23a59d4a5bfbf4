//! The HTTP server: what every request must pass before anybody looks at what it wants, and who answers which path.
//!
//! Paths are matched without regard to case, as ARM does, so the routing is ours and not the framework's.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arm::ArmError;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::Value;

use super::activity::{self, Asker};
use super::asked::Asked;
use super::connections::{ClientAddress, Way};
use super::path::{PathError, decode};
use super::sign_in::Caller;
use super::throttle::{Key, Remaining, Throttled};
use super::{Manager, access, arm_api, health, metrics, operations, own_api, sign_in};

/// A longer request body is refused. A VNet with all its subnets, as clients send it back, is far smaller.
const MAX_BODY_BYTES: usize = 4 << 20;
/// Seconds until it is worth trying what is not available now.
pub(crate) const RETRY_LATER: HeaderValue = HeaderValue::from_static("5");
/// What a request for a token carries is far shorter. It is read before anybody has signed in.
const MAX_FORM_BYTES: usize = 64 << 10;
/// Characters of a correlation id. Clients use GUIDs.
const MAX_CORRELATION_ID: usize = 128;
/// A body that takes longer to arrive is given up.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// A request that has passed the door.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) method: Method,
    /// Percent-decoded, without empty segments at its ends.
    pub(crate) segments: Vec<String>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    /// `http://HOST` or `https://HOST` as the client reached us.
    pub(crate) base: String,
    pub(crate) way: Way,
    /// Where the client is, if it came over a network.
    pub(crate) client: Option<IpAddr>,
    /// Ours for this request.
    pub(crate) request_id: String,
    /// The client's for what belongs together; otherwise ours.
    pub(crate) correlation_id: String,
    pub(crate) body: axum::body::Bytes,
}

impl Incoming {
    /// Segments in lower case, for matching.
    pub(crate) fn lower(&self) -> Vec<String> {
        self.segments
            .iter()
            .map(|segment| segment.to_ascii_lowercase())
            .collect()
    }

    /// A query parameter; names compare without regard to case.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// A query parameter that says whether.
    ///
    /// # Errors
    ///
    /// It is given twice, or is neither `true` nor `false`: a guess could do the opposite of what was meant.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, ArmError> {
        let given = self.query.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let given: Vec<&str> = given.map(|(_, value)| value.as_str()).collect();
        match given[..] {
            [] => Ok(default),
            [value] if value.eq_ignore_ascii_case("true") => Ok(true),
            [value] if value.eq_ignore_ascii_case("false") => Ok(false),
            _ => {
                let message = format!(
                    "The query parameter '{name}' is 'true' or 'false', once; not '{}'.",
                    given.join("', '")
                );
                Err(ArmError::new(400, "InvalidParameter", message))
            }
        }
    }

    /// The body as JSON; `None` when empty.
    pub(crate) fn json(&self) -> Result<Option<Value>, ArmError> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let read = serde_json::from_slice(&self.body).or_else(|error| match self.loose_json() {
            Some(value) => Ok(value),
            None => Err(error),
        });
        read.map(Some).map_err(|error| {
            ArmError::new(
                400,
                "InvalidRequestContent",
                format!("The request content was invalid and could not be deserialized: '{error}'."),
            )
        })
    }

    /// What `az` sends with a deployment is not quite JSON.
    fn loose_json(&self) -> Option<Value> {
        let needed = arm::authorization::needed(arm::Method::Put, &format!("/{}", self.segments.join("/")))?;
        let text = std::str::from_utf8(&self.body).ok();
        let text = text.filter(|_| needed.is_of_deployment())?;
        arm::read_loose_json(text).ok()
    }
}

/// Every request comes in here.
pub(crate) async fn handle(State(manager): State<Arc<Manager>>, request: axum::extract::Request) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let request_id = uuid::Uuid::new_v4().to_string();
    let correlation = correlation_id(request.headers(), &request_id);
    let client_request = wanted_client_request_id(request.headers());
    let mut response = match admit(request, &request_id, &correlation) {
        Ok((incoming, body)) => answer(&manager, incoming, body).await,
        Err(error) => error_response(&error),
    };
    let headers = response.headers_mut();
    for (name, id) in [
        ("x-ms-request-id", &request_id),
        ("x-ms-correlation-request-id", &correlation),
    ] {
        headers.extend(HeaderValue::from_str(id).map(|id| (header::HeaderName::from_static(name), id)));
    }
    if let Some(client_request) = client_request {
        headers.insert("x-ms-client-request-id", client_request);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    manager.metrics.request(&method, response.status(), started.elapsed());
    tracing::debug!(%method, status = response.status().as_u16(), elapsed = ?started.elapsed(), request_id, "request answered");
    response
}

async fn answer(manager: &Arc<Manager>, mut incoming: Incoming, mut body: Body) -> Response {
    let lower = incoming.lower();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let asked = Asked::read(&incoming);
    let need = asked.need(&incoming);
    if sign_in::reads_body(&lower) {
        let form = read_body(std::mem::take(&mut body), MAX_FORM_BYTES).await;
        match form {
            Ok(form) => incoming.body = form,
            Err(error) => return error_response(&error),
        }
    }
    if let Some(response) = sign_in::answer(manager, &incoming, &lower).await {
        if response.status().is_client_error() {
            let error = ArmError::new(response.status().as_u16(), "SignInFailed", "A token was refused.");
            activity::refused_unsigned(manager, &incoming, &need, &error).await;
        }
        return response;
    }
    let caller = match manager.sign_in.caller(manager, &incoming).await {
        Ok(caller) => caller,
        Err(_) if need.is_open_to(incoming.way) => Caller::Anyone,
        Err(problem) => {
            tracing::debug!(%problem, "a request is refused");
            let error = sign_in::refusal(&problem);
            activity::refused_unsigned(manager, &incoming, &need, &error).await;
            return sign_in::unauthorized(&manager.sign_in, &incoming, &problem);
        }
    };
    // As in Azure, what is throttled is not in the activity log: a flood must not be one of writes.
    let remaining = match throttle(manager, &caller, &incoming, &lower) {
        Ok(remaining) => remaining,
        Err(throttled) => return throttled_response(&throttled),
    };
    let asker = Asker::new(caller, &incoming, need);
    let mut response = match dispatch(manager, &asker, incoming, body, &asked).await {
        Ok(response) => response,
        Err(error) => {
            asker.refused(manager, &error).await;
            error_response(&error)
        }
    };
    response.headers_mut().extend(remaining.as_ref().map(Remaining::header));
    response
}

fn throttle(
    manager: &Manager,
    caller: &Caller,
    incoming: &Incoming,
    lower: &[&str],
) -> Result<Option<Remaining>, Throttled> {
    match Key::of(caller, &incoming.method, lower) {
        Some(key) => manager.throttle.take(key, Instant::now()),
        None => Ok(None),
    }
}

fn throttled_response(throttled: &Throttled) -> Response {
    let mut response = error_response(&throttled.error());
    let wait = HeaderValue::from(throttled.retry_after_secs);
    response.headers_mut().insert(header::RETRY_AFTER, wait);
    response
}

async fn dispatch(
    manager: &Arc<Manager>,
    asker: &Asker,
    mut incoming: Incoming,
    body: Body,
    asked: &Asked,
) -> Result<Response, ArmError> {
    access::check(manager, asker).await?;
    // Whoever may not do it cannot make us hold what comes with it.
    incoming.body = read_body(body, MAX_BODY_BYTES).await?;
    match asked {
        Asked::Healthz => health::healthz(manager, &asker.caller, &incoming),
        Asked::Metrics if incoming.method == Method::GET => Ok(metrics::answer(manager).await),
        Asked::Metrics => Err(method_not_allowed("GET")),
        Asked::Own(own) => own_api::answer(manager, asker, &incoming, own).await,
        Asked::Operation { subscription, kind, id } => {
            operations::answer(manager, &incoming, subscription, kind, id).await
        }
        Asked::ActivityLog { subscription } => activity::answer(manager, &asker.caller, &incoming, subscription).await,
        Asked::Graph(rest) => sign_in::graph::answer(manager, &asker.caller, &incoming, rest),
        Asked::Roles => access::answer(manager, asker, &incoming).await,
        Asked::Resources => arm_api::answer(manager, asker, incoming).await,
    }
}

/// Turns away what must not come in. The body is read when it is known who sends it.
fn admit(
    request: axum::extract::Request,
    request_id: &str,
    correlation_id: &str,
) -> Result<(Incoming, Body), ArmError> {
    let (parts, body) = request.into_parts();
    // Tests hand requests in without a connection.
    let way = parts.extensions.get::<Way>().copied().unwrap_or(Way::Loopback);
    let host = check_host(&parts.uri, &parts.headers, way)?;
    check_origin(&parts.headers, &host)?;
    let segments = decode(parts.uri.path()).map_err(bad_path)?;
    let query = decode_query(parts.uri.query().unwrap_or_default());
    let incoming = Incoming {
        method: parts.method,
        segments,
        query,
        base: match way {
            Way::Tls => format!("https://{host}"),
            Way::Loopback | Way::Socket => format!("http://{host}"),
        },
        way,
        client: parts.extensions.get::<ClientAddress>().map(|client| client.0),
        request_id: request_id.to_owned(),
        correlation_id: correlation_id.to_owned(),
        headers: parts.headers,
        body: axum::body::Bytes::new(),
    };
    Ok((incoming, body))
}

async fn read_body(body: Body, most: usize) -> Result<axum::body::Bytes, ArmError> {
    match tokio::time::timeout(BODY_PATIENCE, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(body_error(&error, most)),
        Err(_) => Err(ArmError::new(
            408,
            "RequestTimeout",
            "The request body did not arrive in time.",
        )),
    }
}

fn body_error(error: &axum::Error, most: usize) -> ArmError {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        if cause.to_string().contains("length limit") {
            let message = format!("The request body is larger than {most} bytes.");
            return ArmError::new(413, "RequestContentTooLarge", message);
        }
        source = cause.source();
    }
    ArmError::new(
        400,
        "InvalidRequestContent",
        format!("The request body cannot be read: {error}."),
    )
}

/// In plain, a web page that a browser on this machine shows must not reach the API through a name that resolves to loopback (DNS
/// rebinding): only loopback names are served. Over TLS such a page would need a token, which it hasn't got.
fn check_host(uri: &Uri, headers: &HeaderMap, way: Way) -> Result<String, ArmError> {
    let host = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(header::HOST).and_then(|host| host.to_str().ok()),
    };
    match host {
        Some(host) if is_loopback_authority(host) => Ok(host.to_owned()),
        Some(host) if way == Way::Tls && is_authority(host) => Ok(host.to_owned()),
        _ => Err(ArmError::new(
            421,
            "InvalidHost",
            "Without TLS this server answers only under a loopback name, such as localhost or 127.0.0.1.",
        )),
    }
}

/// Nor may such a page send "simple" requests across origins.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), ArmError> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let authority = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, authority)| authority);
    if authority.is_some_and(|origin| is_loopback_authority(origin) || origin.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    Err(ArmError::new(
        403,
        "InvalidOrigin",
        "Web pages of other origins may not use this server.",
    ))
}

fn is_authority(text: &str) -> bool {
    text.parse::<http::uri::Authority>()
        .is_ok_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty())
}

pub(crate) fn is_loopback_authority(authority: &str) -> bool {
    if !is_authority(authority) {
        return false;
    }
    let Ok(authority) = authority.parse::<http::uri::Authority>() else {
        return false;
    };
    let host = authority.host().to_ascii_lowercase();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn bad_path(error: PathError) -> ArmError {
    ArmError::new(
        400,
        "InvalidRequestUri",
        format!("The request URI is not valid: {error}."),
    )
}

/// `a=b&c` decoded; `+` means a space. What isn't UTF-8 becomes U+FFFD and matches nothing.
pub(crate) fn decode_query(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| super::path::decode_lossy(&text.replace('+', " "));
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

/// What the client says, if it is of a reasonable length.
fn correlation_id(headers: &HeaderMap, otherwise: &str) -> String {
    let given = headers.get("x-ms-correlation-request-id");
    let given = given.and_then(|id| id.to_str().ok());
    let given = given.filter(|id| (1..=MAX_CORRELATION_ID).contains(&id.len()));
    given.unwrap_or(otherwise).to_owned()
}

fn wanted_client_request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get("x-ms-return-client-request-id")?;
    let wanted = wanted.as_bytes().eq_ignore_ascii_case(b"true");
    wanted.then(|| headers.get("x-ms-client-request-id").cloned()).flatten()
}

/// JSON with a status.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    response
}

/// A status and nothing else.
pub(crate) fn empty_response(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// ARM's error envelope.
pub(crate) fn error_response(error: &ArmError) -> Response {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(status, &error.body());
    let code = HeaderValue::from_str(&error.code);
    if let Ok(code) = code {
        response.headers_mut().insert("x-ms-error-code", code);
    }
    if let Some(allow) = error.allow {
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_LATER);
    }
    response
}

/// 405, saying what would be allowed.
pub(crate) fn method_not_allowed(allowed: &'static str) -> ArmError {
    ArmError {
        allow: Some(allowed),
        ..ArmError::new(
            405,
            "MethodNotAllowed",
            format!("The method is not supported here; allowed: {allowed}."),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_loopback() {
        for yes in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "lab.localhost",
        ] {
            assert!(is_loopback_authority(yes), "{yes}");
        }
        for no in [
            "example.com",
            "localhost.example.com",
            "10.0.0.1",
            "127.0.0.1.example.com",
            "[::]:80",
            "user@localhost",
            "",
            "a b",
        ] {
            assert!(!is_loopback_authority(no), "{no}");
        }
    }

    #[test]
    fn a_query_is_decoded_and_odd_ones_do_no_harm() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            decode_query("api-version=2022-01-01&prefix=10.0.0.0%2F8&&flag&a=b=c+d"),
            vec![
                pair("api-version", "2022-01-01"),
                pair("prefix", "10.0.0.0/8"),
                pair("flag", ""),
                pair("a", "b=c d"),
            ]
        );
        assert_eq!(decode_query("a=%zz%"), vec![pair("a", "%zz%")]);
        assert_eq!(decode_query("a=%ff"), vec![pair("a", "\u{fffd}")]);
    }
}
