//! The manager's side of an instance's control socket.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use reqwest::{Method, Response, StatusCode, Url};
use routeserver::Intent;
use routeserver::report::{
    AdvertisedReport, AgentReport, EffectiveRoute, InstanceReport, PeerReport, RouteReport, WhatIfReport,
};
use serde::de::DeserializeOwned;

use super::{OrderRef, Problem, Question};

/// An instance that does not take the connection within this time counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest answer is a million routes as JSON; an instance that needs longer than this is stuck.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that a dry run may take: it compares whole networks, beside everything else.
const WHAT_IF_TIMEOUT: Duration = Duration::from_secs(120);

/// Why an instance gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens, or the connection broke, or it took too long.
    #[error("no answer from the instance: {0}")]
    Unreachable(String),
    /// It follows a newer intent.
    #[error("the instance follows a newer intent")]
    NewerIntent,
    /// It does not know the peer, route server or NIC that was asked for.
    #[error("the instance does not know it: {reason}")]
    NotFound {
        /// Its words.
        reason: String,
    },
    /// It refused, for the reason that it gave.
    #[error("the instance refused ({status}): {reason}")]
    Refused {
        /// HTTP status on the control socket.
        status: u16,
        /// Its words.
        reason: String,
    },
    /// The answer is not what this version understands.
    #[error("the instance's answer to {path} cannot be read: {reason}")]
    Malformed {
        /// What was asked.
        path: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// Asks one instance. Connections are made when needed and reused; cloning shares them.
#[derive(Clone, Debug)]
pub struct ControlClient {
    socket: PathBuf,
    http: reqwest::Client,
}

impl ControlClient {
    /// For the instance that listens (now or later) on this socket.
    pub fn new(socket: impl Into<PathBuf>) -> ControlClient {
        let socket = socket.into();
        let http = crate::http::plain_client()
            .unix_socket(socket.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .expect("without certificates and proxies there is nothing that could fail");
        ControlClient { socket, http }
    }

    /// Where the instance listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Replaces what the instance is to do. The answer means that it has taken it on and keeps it.
    pub async fn put_intent(&self, order: OrderRef<'_>) -> Result<(), ControlError> {
        let body = serde_json::to_vec(&order).map_err(|error| malformed("/intent", error))?;
        let request = self.http.put(url("/intent", &[])?).body(body);
        let request = request.header("content-type", "application/json");
        match check(request.send().await).await {
            Err(ControlError::Refused { status: 409, .. }) => Err(ControlError::NewerIntent),
            other => other.map(|_| ()),
        }
    }

    /// How the instance is.
    pub async fn health(&self) -> Result<InstanceReport, ControlError> {
        self.get("/health", &[]).await
    }

    /// Its peerings, of one route server only if given (id, lower case).
    pub async fn peers(&self, route_server: Option<&str>) -> Result<Vec<PeerReport>, ControlError> {
        let query: Vec<_> = route_server.map(|id| ("routeServer", id)).into_iter().collect();
        self.get("/peers", &query).await
    }

    /// Ends a peer's session with Cease / Administrative Reset, or only asks it for its routes again (`soft`).
    pub async fn reset_peer(&self, peer: &str, soft: bool) -> Result<(), ControlError> {
        let soft = if soft { "true" } else { "false" };
        self.ask(Method::POST, "/peers/reset", &[("peer", peer), ("soft", soft)])
            .await?;
        Ok(())
    }

    /// What a peer (bgpConnection id) has announced, with verdicts.
    pub async fn routes_of_peer(&self, peer: &str) -> Result<Vec<RouteReport>, ControlError> {
        self.get("/routes", &[("peer", peer)]).await
    }

    /// What a route server has received, of one prefix or of all.
    pub async fn routes_of_route_server(
        &self,
        route_server: &str,
        prefix: Option<IpNet>,
    ) -> Result<Vec<RouteReport>, ControlError> {
        let prefix = prefix.map(|prefix| prefix.to_string());
        let mut query = vec![("routeServer", route_server)];
        query.extend(prefix.as_deref().map(|prefix| ("prefix", prefix)));
        self.get("/routes", &query).await
    }

    /// What a peer (bgpConnection id) has been told.
    pub async fn advertised(&self, peer: &str) -> Result<Vec<AdvertisedReport>, ControlError> {
        self.get("/advertised", &[("peer", peer)]).await
    }

    /// A NIC's effective routes.
    pub async fn effective_routes(&self, nic: &str) -> Result<Vec<EffectiveRoute>, ControlError> {
        self.get("/effective-routes", &[("nic", nic)]).await
    }

    /// Every NIC that an agent follows here.
    pub async fn agents(&self) -> Result<Vec<AgentReport>, ControlError> {
        self.get("/agents", &[]).await
    }

    /// What its peers have said, for the other instance's [`ControlClient::what_if`].
    pub async fn heard(&self) -> Result<Bytes, ControlError> {
        let response = self.ask(Method::GET, "/heard", &[]).await?;
        response.bytes().await.map_err(unreachable)
    }

    /// What would differ with this intent, `others` being what the other instance's peers have said; nothing is done.
    pub async fn what_if(&self, wanted: &Intent, others: Option<&Bytes>) -> Result<WhatIfReport, ControlError> {
        let path = "/what-if";
        let body = Question::to_bytes(wanted, others).map_err(|error| malformed(path, error))?;
        let request = self.http.post(url(path, &[])?).body(body).timeout(WHAT_IF_TIMEOUT);
        let response = check(request.send().await).await?;
        let body = response.bytes().await.map_err(unreachable)?;
        serde_json::from_slice(&body).map_err(|error| malformed(path, error))
    }

    /// Prometheus text.
    pub async fn metrics(&self) -> Result<String, ControlError> {
        let response = self.ask(Method::GET, "/metrics", &[]).await?;
        response.text().await.map_err(unreachable)
    }

    /// Makes what it says and hears a last resort, or takes that back.
    pub async fn drain(&self, on: bool) -> Result<(), ControlError> {
        let on = if on { "true" } else { "false" };
        self.ask(Method::POST, "/drain", &[("on", on)]).await?;
        Ok(())
    }

    /// Asks it to say farewell to its peers and end; it ends within 5 s.
    pub async fn shutdown(&self) -> Result<(), ControlError> {
        self.ask(Method::POST, "/shutdown", &[]).await?;
        Ok(())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, ControlError> {
        let response = self.ask(Method::GET, path, query).await?;
        let body = response.bytes().await.map_err(unreachable)?;
        serde_json::from_slice(&body).map_err(|error| malformed(path, error))
    }

    async fn ask(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Result<Response, ControlError> {
        check(self.http.request(method, url(path, query)?).send().await).await
    }
}

/// The host is only there because HTTP wants one; the connection goes to the socket.
fn url(path: &str, query: &[(&str, &str)]) -> Result<Url, ControlError> {
    let base = format!("http://instance{path}");
    let url = if query.is_empty() {
        Url::parse(&base)
    } else {
        Url::parse_with_params(&base, query)
    };
    url.map_err(|error| malformed(path, error))
}

async fn check(response: Result<Response, reqwest::Error>) -> Result<Response, ControlError> {
    let response = response.map_err(unreachable)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.bytes().await.map_err(unreachable)?;
    let reason = match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => problem.error,
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    Err(match status {
        StatusCode::NOT_FOUND => ControlError::NotFound { reason },
        _ => ControlError::Refused {
            status: status.as_u16(),
            reason,
        },
    })
}

/// The innermost cause says what happened ("connection refused"); the layers around it only that something did.
fn unreachable(error: reqwest::Error) -> ControlError {
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    ControlError::Unreachable(cause.to_string())
}

fn malformed(path: &str, error: impl ToString) -> ControlError {
    ControlError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
