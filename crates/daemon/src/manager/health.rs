//! `/routewright/v1/health`: the manager, its store and both instances, with where agents connect.
//!
//! It speaks of what is ours. A peer that is away is told beside it and makes nothing degraded: the route server works, and
//! whoever watches it is not to be woken for somebody else's reboot.
//!
//! The whole of it, with the addresses and ids of route servers, is told to who may read them all; others are told whether, and where
//! agents connect, since agents ask without a token.
//!
//! `/healthz` is the same in one word, for load balancers and the like: 200 when all is well, 503 when not.

use std::sync::Arc;
use std::time::Duration;

use arm::ArmError;
use axum::response::Response;
use http::StatusCode;
use routeserver::report::MemoryReport;
use serde::Serialize;
use serde_json::{Value, json};

use super::core::Core;
use super::http::{Incoming, json_response, method_not_allowed};
use super::sign_in::Caller;
use super::{InstanceHandle, Manager, access};
use crate::store::Presence;

/// How often it is seen whether the store takes writes: a disk fills up also while nobody writes.
const PROBE_PERIOD: Duration = Duration::from_secs(15);

/// The whole report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    /// `ok`, or `degraded` with the reasons in `problems`.
    status: &'static str,
    problems: Vec<String>,
    /// What works, but not as Azure's documents promise; it makes nothing degraded.
    advice: Vec<String>,
    version: &'static str,
    dev: bool,
    /// The manager's process id.
    pid: u32,
    subscription: Option<&'static str>,
    uptime_secs: u64,
    store: String,
    intent_version: u64,
    instances: Vec<InstanceHealth>,
    /// Managers of other machines that have the same store.
    managers: Vec<Presence>,
}

/// One instance process.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct InstanceHealth {
    index: usize,
    /// `up` or `down`.
    state: &'static str,
    agent_url: Option<String>,
    /// Release of the process.
    version: Option<String>,
    epoch: Option<u64>,
    intent_version: u64,
    converging: bool,
    /// The operator wants packets to go through the other one.
    drained: bool,
    peers: usize,
    peers_established: usize,
    /// bgpConnections that should be Established and are not.
    peers_down: Vec<String>,
    agents: usize,
    address_problems: Vec<AddressProblem>,
    /// No reason to call anything degraded here: it is the circuit that may go.
    circuit_problems: Vec<CircuitProblem>,
    /// Where it has a ceiling (`limits.memory_mib`).
    memory: Option<MemoryReport>,
    /// Why agents cannot connect, if so.
    agent_port_problem: Option<String>,
    starts: u64,
    last_error: Option<String>,
    /// Why the instance does not follow the manager's intent, if so.
    intent_problem: Option<String>,
}

/// Why this instance's address of a route server or gateway cannot be used.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AddressProblem {
    route_server: String,
    problem: String,
}

/// A circuit that is told nearly as many routes as it takes, or more.
#[derive(Debug, Serialize)]
struct CircuitProblem {
    peer: String,
    problem: String,
}

/// As much of the report as the caller may know.
pub(crate) fn report_to(manager: &Manager, caller: &Caller) -> Value {
    let report = report(manager);
    if access::may_know_all(manager, caller) {
        return report;
    }
    let instances = report["instances"].as_array().into_iter().flatten();
    let shown = instances.map(|it| json!({ "index": it["index"], "state": it["state"], "agentUrl": it["agentUrl"] }));
    json!({ "status": report["status"], "version": report["version"], "instances": shown.collect::<Value>() })
}

/// The report as JSON.
fn report(manager: &Manager) -> Value {
    let instances: Vec<InstanceHealth> = manager.instances.iter().map(instance).collect();
    let version = manager.core.read(|state| state.resources.version);
    let problems = problems(manager, version, &instances);
    json!(Health {
        status: if problems.is_empty() { "ok" } else { "degraded" },
        problems,
        advice: advice(manager),
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        dev: manager.dev,
        subscription: manager.dev.then_some(super::DEV_SUBSCRIPTION),
        uptime_secs: manager.started.elapsed().as_secs(),
        store: manager.core.store_description(),
        intent_version: version,
        instances,
        managers: manager.core.other_managers(),
    })
}

fn advice(manager: &Manager) -> Vec<String> {
    let mut advice = manager
        .core
        .read(|state| arm::advice(&state.resources, &state.settings));
    advice.extend(manager.one_legged().lasting().map(|(nva, legs)| legs.sentence(nva)));
    advice
}

fn instance(handle: &InstanceHandle) -> InstanceHealth {
    let status = handle.status.borrow();
    let report = status.report.as_ref();
    let problems = report.map(|report| report.address_problems.as_slice());
    let circuits = report
        .map(|report| report.circuit_problems.clone())
        .into_iter()
        .flatten();
    InstanceHealth {
        index: handle.index,
        state: if status.is_up() { "up" } else { "down" },
        agent_url: status.agent_url.clone(),
        version: report.and_then(|report| report.version.clone()),
        epoch: report.map(|report| report.epoch),
        intent_version: status.acknowledged,
        converging: report.is_some_and(|report| report.converging),
        drained: report.is_some_and(|report| report.drained),
        peers: report.map_or(0, |report| report.peers),
        peers_established: report.map_or(0, |report| report.peers_established),
        peers_down: report.map_or_else(Vec::new, |report| report.peers_down.clone()),
        agents: report.map_or(0, |report| report.agents),
        circuit_problems: circuits
            .map(|(peer, problem)| CircuitProblem { peer, problem })
            .collect(),
        address_problems: problems
            .unwrap_or_default()
            .iter()
            .map(|(route_server, problem)| AddressProblem {
                route_server: route_server.clone(),
                problem: problem.clone(),
            })
            .collect(),
        memory: report.and_then(|report| report.memory.clone()),
        agent_port_problem: report.and_then(|report| report.agent_port_problem.clone()),
        starts: status.starts,
        last_error: status.last_error.clone(),
        intent_problem: status.intent_problem.clone(),
    }
}

/// `/healthz`. Strangers are told no more than whether.
pub(crate) fn healthz(manager: &Manager, caller: &Caller, incoming: &Incoming) -> Result<Response, ArmError> {
    if !matches!(incoming.method, http::Method::GET | http::Method::HEAD) {
        return Err(method_not_allowed("GET, HEAD"));
    }
    let report = report(manager);
    let status = match report["status"].as_str() {
        Some("ok") => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut body = json!({ "status": report["status"] });
    if access::may_know_all(manager, caller) {
        body["problems"] = report["problems"].clone();
    }
    Ok(json_response(status, &body))
}

/// Keeps looking whether the store takes writes, for ever.
pub(crate) async fn probe_store(core: Arc<Core>) {
    loop {
        tokio::time::sleep(PROBE_PERIOD).await;
        core.probe_store().await;
    }
}

fn problems(manager: &Manager, version: u64, instances: &[InstanceHealth]) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(problem) = manager.core.store_problem() {
        problems.push(format!("the store takes no writes: {problem}"));
    }
    for other in manager.core.other_managers() {
        if let Some(since) = &other.gone_since {
            let Presence { instance, machine, .. } = &other;
            problems.push(format!(
                "the manager of instance {instance} on {machine} has not been heard of since {since}; whether its instance goes on is \
                 not known here"
            ));
        }
    }
    for instance in instances {
        let index = instance.index;
        if instance.state != "up" {
            let reason = instance.last_error.as_deref().unwrap_or("it is starting");
            problems.push(format!("instance {index} is down: {reason}"));
        }
        if let Some(problem) = &instance.intent_problem {
            let followed = instance.intent_version;
            problems.push(format!(
                "instance {index} follows version {followed} and not version {version}: {problem}"
            ));
        }
        if let Some(problem) = &instance.agent_port_problem {
            problems.push(format!("instance {index}: {problem}"));
        }
        if let Some(memory) = instance.memory.as_ref().filter(|memory| memory.is_short) {
            problems.push(format!("instance {index}: {}", short_of_memory(memory)));
        }
        for AddressProblem { route_server, problem } in &instance.address_problems {
            problems.push(format!("instance {index}, {route_server}: {problem}"));
        }
    }
    problems
}

fn short_of_memory(memory: &MemoryReport) -> String {
    let mib = |bytes: u64| bytes >> 20;
    let ended = match &memory.last_ended {
        Some(peer) => format!("the session with {peer} was ended for it"),
        None => "no peer holds much of it".to_owned(),
    };
    format!(
        "its memory, {} MiB, is near the ceiling of {} MiB (limits.memory_mib); {ended}",
        mib(memory.used_bytes),
        mib(memory.ceiling_bytes)
    )
}
