//! The control API (see [`api::control`]): HTTP on a Unix socket, for the manager.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use api::control::{
    AdvertisedQuery, DrainQuery, EffectiveRoutesQuery, MAX_INTENT_BYTES, Order, PeersQuery, Problem, Question,
    ResetQuery, RoutesQuery,
};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use bytes::{Bytes, BytesMut};
use routeserver::Input;
use routeserver::instance::{Heard, NotHeard, Outline, read_heard, what_if as what_would_differ, write_heard};
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::Mutex;

use super::agents::{Access, AgentPortProblem};
use super::events::{Leaving, Owner};
use super::{intent_file, metrics, monotonic};

/// Serves until aborted.
pub(super) async fn serve(
    listener: UnixListener,
    owner: Owner,
    intent_path: PathBuf,
    index: usize,
    agent_problems: [AgentPortProblem; 3],
    access: Access,
) {
    let control = Arc::new(Control {
        agent_problems,
        access,
        owner,
        intent_path,
        index,
        keeping: Mutex::new(()),
        comparing: Mutex::new(()),
    });
    let router = Router::new()
        .route(
            "/intent",
            put(put_intent).layer(DefaultBodyLimit::max(MAX_INTENT_BYTES)),
        )
        .route("/health", get(health))
        .route("/peers", get(peers))
        .route("/peers/reset", post(reset_peer))
        .route("/routes", get(routes))
        .route("/advertised", get(advertised))
        .route("/effective-routes", get(effective_routes))
        .route("/agents", get(agents))
        .route("/heard", get(heard))
        .route(
            "/what-if",
            post(what_if).layer(DefaultBodyLimit::max(Question::MAX_BYTES)),
        )
        .route("/metrics", get(metrics_text))
        .route("/drain", post(drain))
        .route("/shutdown", post(shutdown))
        .with_state(control);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the control socket is gone");
    }
}

struct Control {
    owner: Owner,
    /// The worst first.
    agent_problems: [AgentPortProblem; 3],
    access: Access,
    intent_path: PathBuf,
    index: usize,
    /// One intent at a time: kept and followed in the same order.
    keeping: Mutex<()>,
    /// One dry run at a time: each holds all routes for a while.
    comparing: Mutex<()>,
}

type Answer = Result<Response, Refusal>;

/// Why a request was not carried out.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(Problem { error: self.1 })).into_response()
    }
}

impl From<Leaving> for Refusal {
    fn from(leaving: Leaving) -> Refusal {
        Refusal(StatusCode::SERVICE_UNAVAILABLE, leaving.to_string())
    }
}

/// Kept on disk before it is followed: what was answered with 204 outlives this process.
async fn put_intent(State(control): State<Arc<Control>>, body: Bytes) -> Answer {
    let order: Order = serde_json::from_slice(&body)
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("not an order: {error}")))?;
    let _one_at_a_time = control.keeping.lock().await;
    let followed = control.owner.ask(|instance, _| instance.intent_version()).await?;
    if order.intent.version < followed {
        let text = format!(
            "version {} is older than {followed}, which is followed here",
            order.intent.version
        );
        return Err(Refusal(StatusCode::CONFLICT, text));
    }
    keep(&control.intent_path, body).await?;
    let tokens = order.intent.agent_tokens.clone();
    // A right that is taken away is gone at once; who waits for the first intent is let in when that is on its way.
    if control.access.is_known() {
        control.access.set(tokens.as_ref());
    }
    control.owner.order(order).await;
    control.access.set(tokens.as_ref());
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn keep(path: &Path, body: Bytes) -> Result<(), Refusal> {
    let owned = path.to_owned();
    let kept = tokio::task::spawn_blocking(move || intent_file::keep(&owned, &body)).await;
    let failed = |error: String| {
        tracing::error!(path = %path.display(), error, "the intent cannot be kept");
        Refusal(
            StatusCode::INSUFFICIENT_STORAGE,
            format!("the intent cannot be kept: {error}"),
        )
    };
    match kept {
        Ok(kept) => kept.map_err(|error| failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

async fn health(State(control): State<Arc<Control>>) -> Answer {
    let mut report = control.owner.ask(|instance, _| instance.health()).await?;
    report.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    report.agent_port_problem = control.agent_problems.iter().find_map(AgentPortProblem::get);
    Ok(Json(report).into_response())
}

async fn peers(State(control): State<Arc<Control>>, Query(query): Query<PeersQuery>) -> Answer {
    let peers = control
        .owner
        .ask(move |instance, now| {
            let mut peers = instance.peers(now, query.route_server.as_deref());
            monotonic::stamp(&mut peers, now);
            peers
        })
        .await?;
    Ok(Json(peers).into_response())
}

async fn reset_peer(State(control): State<Arc<Control>>, Query(query): Query<ResetQuery>) -> Answer {
    let peer = query.peer.clone();
    let known =
        move |instance: &routeserver::Instance, now| instance.peers(now, None).iter().any(|each| each.id == peer);
    if !control.owner.ask(known).await? {
        return Err(unknown("peer", &query.peer));
    }
    if query.soft {
        let peer = query.peer.clone();
        let problem = control.owner.ask(move |instance, _| instance.soft_reset_problem(&peer));
        if let Some(problem) = problem.await? {
            return Err(Refusal(StatusCode::CONFLICT, problem));
        }
    }
    control
        .owner
        .input(Input::ResetPeer {
            peer: query.peer,
            soft: query.soft,
        })
        .await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn routes(State(control): State<Arc<Control>>, Query(query): Query<RoutesQuery>) -> Answer {
    match (query.peer, query.route_server) {
        (Some(peer), None) => {
            let id = peer.clone();
            found(
                control
                    .owner
                    .ask(move |instance, _| instance.routes_of_peer(&id))
                    .await?,
                "peer",
                &peer,
            )
        }
        (None, Some(route_server)) => {
            let (id, prefix) = (route_server.clone(), query.prefix);
            let question = move |instance: &routeserver::Instance, _| instance.routes_of_speaker(&id, prefix.as_ref());
            found(control.owner.ask(question).await?, "route server", &route_server)
        }
        _ => Err(Refusal(
            StatusCode::BAD_REQUEST,
            "either peer or routeServer is needed".to_owned(),
        )),
    }
}

async fn advertised(State(control): State<Arc<Control>>, Query(query): Query<AdvertisedQuery>) -> Answer {
    let id = query.peer.clone();
    found(
        control.owner.ask(move |instance, _| instance.advertised(&id)).await?,
        "peer",
        &query.peer,
    )
}

async fn effective_routes(State(control): State<Arc<Control>>, Query(query): Query<EffectiveRoutesQuery>) -> Answer {
    let id = query.nic.clone();
    found(
        control
            .owner
            .ask(move |instance, _| instance.effective_routes(&id))
            .await?,
        "NIC",
        &query.nic,
    )
}

async fn agents(State(control): State<Arc<Control>>) -> Answer {
    Ok(Json(control.owner.ask(|instance, _| instance.agents()).await?).into_response())
}

/// What peers have said, for the other instance.
async fn heard(State(control): State<Arc<Control>>) -> Answer {
    let _one_at_a_time = control.comparing.lock().await;
    let (_, heard) = all_heard(&control).await?;
    let mut octets = BytesMut::new();
    for each in &heard {
        write_heard(&mut octets, each);
    }
    Ok(octets.freeze().into_response())
}

/// The driver gives out what peers have said, one table at a time; what follows from it is found out beside the driver.
async fn all_heard(control: &Control) -> Result<(Outline, Vec<Heard>), Refusal> {
    let outline = control.owner.ask(|instance, _| instance.outline()).await?;
    let peers: Vec<String> = match outline.peers() {
        Ok(peers) => peers.map(str::to_owned).collect(),
        Err(error) => return Err(Refusal(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())),
    };
    let mut heard = Vec::new();
    for peer in peers {
        heard.extend(control.owner.ask(move |instance, _| instance.heard(&peer)).await?);
    }
    Ok((outline, heard))
}

async fn what_if(State(control): State<Arc<Control>>, body: Bytes) -> Answer {
    let no_question = |error: String| Refusal(StatusCode::BAD_REQUEST, format!("not a question: {error}"));
    let Question { wanted, others } = Question::from_bytes(body).map_err(|error| no_question(error.to_string()))?;
    let _one_at_a_time = control.comparing.lock().await;
    let (outline, heard) = all_heard(&control).await?;
    let compare = move || {
        let others = others.map(|others| read_heard(&others)).transpose()?;
        Ok(what_would_differ(
            &outline,
            &heard,
            others.as_deref(),
            Arc::new(wanted),
            Instant::now(),
        ))
    };
    let compared = tokio::task::spawn_blocking(compare).await.map_err(|error| {
        tracing::error!(%error, "a dry run failed");
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, "the dry run failed".to_owned())
    })?;
    let report = compared.map_err(|error: NotHeard| no_question(error.to_string()))?;
    Ok(Json(report).into_response())
}

async fn metrics_text(State(control): State<Arc<Control>>) -> Answer {
    let reports =
        |instance: &routeserver::Instance, now| (instance.health(), instance.peers(now, None), instance.agents());
    let (health, peers, agents) = control.owner.ask(reports).await?;
    let text = metrics::text(control.index, &health, &peers, &agents);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn drain(State(control): State<Arc<Control>>, Query(query): Query<DrainQuery>) -> Answer {
    control.owner.input(Input::Drain { on: query.on }).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn shutdown(State(control): State<Arc<Control>>) -> Answer {
    tokio::spawn(async move { control.owner.input(Input::Shutdown).await });
    Ok(StatusCode::ACCEPTED.into_response())
}

fn found<T: Serialize>(answer: Option<T>, what: &str, id: &str) -> Answer {
    answer
        .map(|answer| Json(answer).into_response())
        .ok_or_else(|| unknown(what, id))
}

fn unknown(what: &str, id: &str) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, format!("no such {what} here: {id}"))
}
