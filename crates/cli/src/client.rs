//! The API as the command line uses it: JSON in and out, long-running operations followed to their end.

use std::time::{Duration, Instant};

use reqwest::header::{IF_MATCH, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::target::Target;

/// Sent with every ARM request; the server takes any.
const API_VERSION: &str = "2025-07-01";
/// No answer takes longer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// An operation that isn't finished after this long is given up.
const OPERATION_PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at an operation.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// A throttled request is sent again so many times, each after what `Retry-After` says.
const MAX_RESENDS: usize = 10;
/// Who is to wait longer is told so instead.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// ARM's own words.
    #[error("{code}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        code: String,
        message: String,
    },
    /// Nobody there.
    #[error("no server answers at {server} ({origin}): {cause}\n{advice}")]
    NoServer {
        server: String,
        origin: &'static str,
        cause: String,
        advice: &'static str,
    },
    /// There, but slow.
    #[error("{server} has not answered within {} s", TIMEOUT.as_secs())]
    TimedOut { server: String },
    /// Somebody else answers.
    #[error("{server} does not answer as a Routewright server: {problem}")]
    NotOurs { server: String, problem: String },
    /// Still going on.
    #[error("the operation is still going on after {} s", OPERATION_PATIENCE.as_secs())]
    TooLong,
    /// Packets still go that way.
    #[error("not done after {secs} s, and drained all the same: {left}")]
    NotDrained { secs: u64, left: String },
    /// An instance is not back, or was not restarted.
    #[error("not done after {secs} s: {left}")]
    NotUpgraded { secs: u64, left: String },
    /// A mistake on the command line that clap cannot see.
    #[error("{0}")]
    Usage(String),
}

impl ClientError {
    /// As `az`: 3 for what is not there, 2 for a mistake on the command line, else 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            ClientError::Refused { status: 404, .. } => 3,
            ClientError::Usage(_) => 2,
            _ => 1,
        }
    }
}

/// Speaks to one server.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// As it was given.
    server: String,
    origin: &'static str,
    /// What paths are joined to.
    base: String,
    token: Option<String>,
}

impl Client {
    pub(crate) fn new(target: &Target) -> Result<Client, ClientError> {
        let (server, origin) = target.server();
        let (http, base) = target.client(&server)?;
        let http = http.timeout(TIMEOUT).build();
        let http = http.map_err(|error| ClientError::Usage(format!("no HTTP client: {error}")))?;
        Ok(Client {
            http,
            server,
            origin,
            base,
            token: target.token.clone(),
        })
    }

    /// The server, as it was given.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.send(Method::GET, path, None).await
    }

    /// For one who looks again and again, and says itself what is missing in the answer.
    pub(crate) async fn get_quietly(&self, path: &str) -> Result<Value, ClientError> {
        let answer = self.look(&self.url(path)).await?;
        self.body(answer).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// Puts if what is there still has this etag; whatever is there without one.
    pub(crate) async fn put_if_match(
        &self,
        path: &str,
        body: &Value,
        etag: Option<&str>,
    ) -> Result<Value, ClientError> {
        self.follow(Method::PUT, path, Some(body), etag).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Value, ClientError> {
        self.send(Method::DELETE, path, None).await
    }

    pub(crate) async fn post(&self, path: &str) -> Result<Value, ClientError> {
        self.send(Method::POST, path, None).await
    }

    pub(crate) async fn post_body(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Sends, and follows a long-running operation to its end. The result of a PUT is the resource as it is then.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        self.follow(method, path, body, None).await
    }

    async fn follow(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<Value, ClientError> {
        let url = self.url(path);
        let mut request = self.http.request(method.clone(), &url);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(etag) = etag {
            request = request.header(IF_MATCH, etag);
        }
        let answer = self.answer(request).await?;
        let link = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        if let Some(operation) = link("azure-asyncoperation") {
            self.operation_succeeded(&operation).await?;
            return match method {
                Method::DELETE => Ok(Value::Null),
                _ => self.json(self.look(&url).await?).await,
            };
        }
        match link("location") {
            Some(location) if answer.status() == StatusCode::ACCEPTED => self.result(&location).await,
            _ => self.json(answer).await,
        }
    }

    async fn operation_succeeded(&self, url: &str) -> Result<(), ClientError> {
        let started = Instant::now();
        while started.elapsed() < OPERATION_PATIENCE {
            let state = self.json(self.look(url).await?).await?;
            match state["status"].as_str().unwrap_or_default() {
                "Succeeded" => return Ok(()),
                "Failed" | "Canceled" => return Err(refusal(StatusCode::CONFLICT, &state)),
                _ => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
        Err(ClientError::TooLong)
    }

    async fn result(&self, url: &str) -> Result<Value, ClientError> {
        let started = Instant::now();
        while started.elapsed() < OPERATION_PATIENCE {
            let answer = self.look(url).await?;
            if answer.status() != StatusCode::ACCEPTED {
                return self.json(answer).await;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Err(ClientError::TooLong)
    }

    async fn look(&self, url: &str) -> Result<Response, ClientError> {
        self.answer(self.http.get(url)).await
    }

    async fn answer(&self, mut request: RequestBuilder) -> Result<Response, ClientError> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = self.send_when_let(request).await?;
        let status = answer.status();
        if status.is_success() {
            let unanswered = answer.headers().get("x-routewright-unanswered");
            if let Some(instances) = unanswered.and_then(|instances| instances.to_str().ok()) {
                say_unanswered(instances);
            }
            let elsewhere = answer.headers().get("x-routewright-elsewhere");
            if let Some(instances) = elsewhere.and_then(|instances| instances.to_str().ok()) {
                say_elsewhere(instances);
            }
            return Ok(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        match serde_json::from_str::<Value>(&text) {
            Ok(error) if error["error"].is_object() => Err(refusal(status, &error)),
            _ => Err(ClientError::NotOurs {
                server: self.server.clone(),
                problem: format!("{status} without an error that says why"),
            }),
        }
    }

    /// A throttled request was not carried out: it is sent again when the server says so.
    async fn send_when_let(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let sent = |answer: Result<Response, reqwest::Error>| answer.map_err(|error| self.unreachable(&error));
        for _ in 0..MAX_RESENDS {
            // All our bodies are in memory, and can be sent twice.
            let Some(again) = request.try_clone() else {
                break;
            };
            let answer = sent(again.send().await)?;
            match retry_after(&answer) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Ok(answer),
            }
        }
        sent(request.send().await)
    }

    async fn json(&self, answer: Response) -> Result<Value, ClientError> {
        let body = self.body(answer).await?;
        for instance in body["elsewhere"].as_array().into_iter().flatten() {
            say_elsewhere(&instance.to_string());
        }
        for instance in body["unanswered"].as_array().into_iter().flatten() {
            say_unanswered(&instance.to_string());
        }
        Ok(body)
    }

    async fn body(&self, answer: Response) -> Result<Value, ClientError> {
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|error| ClientError::NotOurs {
            server: self.server.clone(),
            problem: error.to_string(),
        })
    }

    fn url(&self, path: &str) -> String {
        let base = format!("{}{}", self.base, path);
        match (path.starts_with("/subscriptions/"), path.contains('?')) {
            (true, true) => format!("{base}&api-version={API_VERSION}"),
            (true, false) => format!("{base}?api-version={API_VERSION}"),
            _ => base,
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        if error.is_timeout() {
            return ClientError::TimedOut {
                server: self.server.clone(),
            };
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        ClientError::NoServer {
            server: self.server.clone(),
            origin: self.origin,
            cause: cause.to_string(),
            advice: match cause.to_string().contains("UnknownIssuer") {
                true => "Nobody whom this machine trusts vouches for it: name its CA with --ca DATA-DIR/tls/ca.pem.",
                false => {
                    "Start one with `routewright serve --dev` or `routewright lab up`, or name another with --server URL."
                }
            },
        }
    }
}

/// How long a throttled client is to wait, unless that is too long.
fn retry_after(answer: &Response) -> Option<Duration> {
    if answer.status() != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds)).filter(|wait| *wait <= LONGEST_RETRY_AFTER)
}

fn say_elsewhere(instance: &str) {
    eprintln!("WARNING: instance {instance} is on another machine; ask the manager there for what it knows.");
}

/// Nobody is to take a part for the whole.
fn say_unanswered(instance: &str) {
    eprintln!("WARNING: instance {instance} does not answer; what it knows is missing here.");
}

fn refusal(status: StatusCode, body: &Value) -> ClientError {
    let text = |name: &str| body["error"][name].as_str().unwrap_or("Unknown").to_owned();
    let mut message = text("message");
    if status == StatusCode::UNAUTHORIZED {
        message.push_str(
            "\nName a token with --token, or speak to the socket in its data directory: --server unix:DATA-DIR/run/manager.sock",
        );
    }
    for detail in body["error"]["details"].as_array().into_iter().flatten() {
        let code = detail["code"].as_str().unwrap_or_default();
        let words = detail["message"].as_str().unwrap_or_default();
        message.push_str(&format!("\n  {code}: {words}"));
    }
    ClientError::Refused {
        status: status.as_u16(),
        code: text("code"),
        message,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use super::*;

    /// A server that throttles the first so many requests, and the bodies that it was sent.
    fn throttling(first: usize, retry_after: &'static str) -> (Client, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&bodies);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let body = read(&stream);
                let count = {
                    let mut told = told.lock().unwrap();
                    told.push(body);
                    told.len()
                };
                let (status, body) = match count <= first {
                    true => (
                        429,
                        json!({ "error": { "code": "SubscriptionRequestsThrottled", "message": "Wait." } }),
                    ),
                    false => (200, json!({ "name": "made" })),
                };
                let body = body.to_string();
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\nRetry-After: {retry_after}\r\nContent-Length: {length}");
                write!(stream, "{head}\r\nConnection: close\r\n\r\n{body}").unwrap();
            }
        });
        let client = Client {
            http: api::http::plain_client().build().unwrap(),
            server: base.clone(),
            origin: "a test's",
            base,
            token: None,
        };
        (client, bodies)
    }

    fn read(stream: &TcpStream) -> String {
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    #[tokio::test]
    async fn a_throttled_request_is_sent_again_as_it_was_until_it_is_taken() {
        let (client, bodies) = throttling(2, "0");
        let made = client.put("/x", &json!({ "a": 1 })).await.unwrap();
        assert_eq!(made["name"], "made");
        assert_eq!(*bodies.lock().unwrap(), ["{\"a\":1}"; 3]);
    }

    #[tokio::test]
    async fn who_is_throttled_too_often_or_for_too_long_is_told_so() {
        for (retry_after, sent) in [("0", MAX_RESENDS + 1), ("61", 1), ("soon", 1)] {
            let (client, bodies) = throttling(usize::MAX, retry_after);
            let refused = client.get("/x").await.unwrap_err();
            assert!(matches!(refused, ClientError::Refused { status: 429, .. }), "{refused}");
            assert_eq!(bodies.lock().unwrap().len(), sent, "Retry-After: {retry_after}");
        }
    }
}
