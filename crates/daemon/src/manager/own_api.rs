//! `/routewright/v1`: what Azure does not tell. Every endpoint is in [`ENDPOINTS`], which the OpenAPI document is made from.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::control::ControlError;
use arm::ArmError;
use arm::authorization::needed;
use axum::response::Response;
use futures::future::join_all;
use http::{Method, StatusCode};
use ipnet::IpNet;
use routeserver::report::AdvertisedReport;
use serde_json::{Value, json};

use super::activity::Asker;
use super::asked::Own;
use super::control::RoutesOf;
use super::core::State;
use super::http::{Incoming, empty_response, json_response, method_not_allowed};
use super::keeper::Status;
use super::sign_in::principals_api;
use super::{InstanceHandle, Manager, access, ask, dry_run, health, openapi, opened};
use crate::store::Write;

/// Whose settings are changed at once, at most.
const MAX_RESOURCES: usize = 1000;
/// An instance that answers says within so long what was made of it.
const SEEN_PATIENCE: Duration = Duration::from_secs(30);

/// Answers a request below `/routewright/v1`.
pub(crate) async fn answer(
    manager: &Arc<Manager>,
    asker: &Asker,
    incoming: &Incoming,
    own: &Own,
) -> Result<Response, ArmError> {
    match own {
        Own::Health => get(incoming, || async { Ok(health::report_to(manager, &asker.caller)) }).await,
        Own::OpenApi => get(incoming, || async { Ok(openapi::document()) }).await,
        Own::HowToSignIn => get(incoming, || async { Ok(how_to_sign_in(manager)) }).await,
        Own::ServicePrincipals | Own::ServicePrincipal(_) | Own::ResetSecret(_) => {
            principals_api::answer(manager, asker, incoming, own).await
        }
        Own::Agents => get(incoming, || async { Ok(agents(manager).await) }).await,
        Own::Peers { route_server } => get(incoming, || peers(manager, route_server.as_deref())).await,
        Own::Routes { peer, route_server } => {
            get(incoming, || {
                routes(manager, incoming, peer.as_deref(), route_server.as_deref())
            })
            .await
        }
        Own::EffectiveRoutes { nic } => get(incoming, || effective_routes(manager, nic.as_deref())).await,
        Own::DrainInstance(index) => drain(manager, asker, incoming, index).await,
        Own::RestartInstance(index) => restart(manager, asker, incoming, index).await,
        Own::ResetPeer(peer) => reset(manager, asker, incoming, peer).await,
        Own::RoutesOfPeer(peer) => {
            let of = RoutesOf::Peer(known(manager, peer).await?);
            get(incoming, || async { Ok(received(manager, &of).await) }).await
        }
        Own::Advertised(peer) => {
            let peer = known(manager, peer).await?;
            get(incoming, || advertised(manager, &peer)).await
        }
        Own::Peer(peer) => {
            let peer = known(manager, peer).await?;
            get(incoming, || one_peer(manager, &peer)).await
        }
        Own::DryRun => dry_run::answer(manager, asker, incoming).await,
        Own::Settings(id) => settings(manager, asker, incoming, known(manager, id).await?).await,
        Own::ManySettings => many_settings(manager, asker, incoming).await,
        Own::Nothing => Err(ArmError::new(
            404,
            "NotFound",
            "There is nothing at this path; /routewright/v1/openapi.json lists what there is.",
        )),
    }
}

async fn get<F>(incoming: &Incoming, body: impl FnOnce() -> F) -> Result<Response, ArmError>
where
    F: Future<Output = Result<Value, ArmError>>,
{
    match incoming.method {
        Method::GET | Method::HEAD => Ok(json_response(StatusCode::OK, &body().await?)),
        _ => Err(method_not_allowed("GET")),
    }
}

/// What `az-env` makes its recipe of.
fn how_to_sign_in(manager: &Manager) -> Value {
    let published = manager.published.as_ref();
    json!({
        "tenant": manager.sign_in.tenant,
        "subscription": super::DEV_SUBSCRIPTION,
        "url": published.map(|it| format!("https://{}", reachable(it.address))),
        "certificateAuthority": published.and_then(|it| it.authority.as_ref()),
    })
}

/// An address that a client can use: a wildcard is not one.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    }
}

/// The key, if there is such a resource.
async fn known(manager: &Manager, id: &str) -> Result<String, ArmError> {
    let key = id.to_ascii_lowercase();
    let find = |state: &State| match state.resources.get(&key) {
        Some(_) => Ok(()),
        None => Err(not_found(id)),
    };
    manager.core.look(find).await?;
    Ok(key)
}

fn not_found(id: &str) -> ArmError {
    let message = format!("The resource '{id}' was not found. Check its id, or create it first.");
    ArmError::new(404, "ResourceNotFound", message)
}

async fn peers(manager: &Manager, route_server: Option<&str>) -> Result<Value, ArmError> {
    let route_server = match route_server {
        Some(id) => Some(known(manager, id).await?),
        None => None,
    };
    ask::settled(manager).await;
    let answers = ask::each(manager, |control| control.peers(route_server.as_deref())).await;
    Ok(list(manager, answers))
}

async fn one_peer(manager: &Manager, peer: &str) -> Result<Value, ArmError> {
    let route_server = peer.split("/bgpconnections/").next().unwrap_or(peer);
    let mut answers = ask::each(manager, |control| control.peers(Some(route_server))).await;
    for (_, reports) in &mut answers.given {
        reports.retain(|report| report.id == peer);
    }
    Ok(list(manager, answers))
}

async fn routes(
    manager: &Manager,
    incoming: &Incoming,
    peer: Option<&str>,
    route_server: Option<&str>,
) -> Result<Value, ArmError> {
    let prefix = match incoming.parameter("prefix") {
        Some(text) => Some(text.parse::<IpNet>().map_err(|_| {
            let message = format!("`prefix` must be a prefix such as 10.250.0.0/16, not '{text}'.");
            ArmError::new(400, "InvalidParameter", message)
        })?),
        None => None,
    };
    let of = match (peer, route_server) {
        (Some(peer), _) => RoutesOf::Peer(known(manager, peer).await?),
        (None, Some(hub)) => RoutesOf::RouteServer(known(manager, hub).await?, prefix),
        (None, None) => {
            return Err(ArmError::new(
                400,
                "MissingParameter",
                "Say which routes: `?routeServer=<id>` or `?peer=<id>`.",
            ));
        }
    };
    Ok(received(manager, &of).await)
}

async fn received(manager: &Manager, of: &RoutesOf) -> Value {
    list(manager, ask::each(manager, |control| control.routes(of)).await)
}

async fn advertised(manager: &Manager, peer: &str) -> Result<Value, ArmError> {
    let answers = ask::each(manager, |control| control.advertised(peer)).await;
    let with_instance = |index: usize, report| {
        let mut row = json!(report);
        row["instance"] = json!(index);
        row
    };
    let rows = |(index, reports): (usize, Vec<AdvertisedReport>)| {
        let rows = reports.into_iter().map(|report| with_instance(index, report)).collect();
        (index, rows)
    };
    Ok(list(
        manager,
        ask::Answers {
            given: answers
                .given
                .into_iter()
                .map(rows)
                .collect::<Vec<(usize, Vec<Value>)>>(),
            missing: answers.missing,
            refused: answers.refused,
        },
    ))
}

async fn effective_routes(manager: &Manager, nic: Option<&str>) -> Result<Value, ArmError> {
    let nic = nic.ok_or_else(|| ArmError::new(400, "MissingParameter", "Say which NIC: `?nic=<id>`."))?;
    let nic = known(manager, nic).await?;
    ask::settled(manager).await;
    // One shape for both ways to ask, so that nobody has to learn two.
    ask::nic_effective_routes(manager, &nic).await
}

async fn agents(manager: &Manager) -> Value {
    list(manager, ask::each(manager, |control| control.agents()).await)
}

/// A list that says so when an instance is missing in it.
pub(super) fn list<T: serde::Serialize>(manager: &Manager, answers: ask::Answers<Vec<T>>) -> Value {
    let rows: Vec<T> = answers.given.into_iter().flat_map(|(_, rows)| rows).collect();
    let mut list = json!({ "value": rows });
    for (name, instances) in [("unanswered", answers.missing), ("elsewhere", manager.elsewhere())] {
        if !instances.is_empty() {
            list[name] = json!(instances);
        }
    }
    list
}

async fn reset(manager: &Manager, asker: &Asker, incoming: &Incoming, peer: &str) -> Result<Response, ArmError> {
    if incoming.method != Method::POST {
        return Err(method_not_allowed("POST"));
    }
    let peer = known(manager, peer).await?;
    let soft = incoming.flag("soft", false)?;
    let asked = manager.instances.iter();
    let answers = join_all(asked.map(|instance| instance.control.reset(&peer, soft))).await;
    match answers.iter().any(Result::is_ok) {
        true => {
            manager.core.record(asker.event(204)).await;
            Ok(empty_response(StatusCode::NO_CONTENT))
        }
        false => Err(not_reset(answers)),
    }
}

/// Packets go through the other instance from then on, until the process of this one ends or somebody says otherwise.
async fn drain(manager: &Manager, asker: &Asker, incoming: &Incoming, index: &str) -> Result<Response, ArmError> {
    let instance = posted_to(manager, incoming, index)?;
    let on = incoming.flag("on", true)?;
    let told = incoming.flag("told", false)?;
    let answer = done(manager, asker, instance.control.drain(on).await).await?;
    if told {
        tell_of(manager, instance, on).await?;
    }
    Ok(answer)
}

/// The other manager knows that it is drained, or not, and we know how the other one's instance is after that.
async fn tell_of(manager: &Manager, instance: &InstanceHandle, drained: bool) -> Result<(), ArmError> {
    let is_seen = |status: &Status| status.report.as_ref().is_some_and(|report| report.drained == drained);
    let mut status = instance.status.clone();
    let seen = tokio::time::timeout(SEEN_PATIENCE, status.wait_for(is_seen))
        .await
        .is_ok();
    if !seen {
        let message = format!("instance {} does not say whether it is drained", instance.index);
        return Err(ArmError::new(503, "InstanceUnavailable", message));
    }
    let states = || {
        let instances = manager.instances.iter();
        instances
            .map(|it| (it.index, opened::state(&it.status.borrow())))
            .collect()
    };
    manager.core.meet(Box::new(states)).await
}

/// The process says farewell and ends; whoever keeps it starts the executable that is there now.
async fn restart(manager: &Manager, asker: &Asker, incoming: &Incoming, index: &str) -> Result<Response, ArmError> {
    let instance = posted_to(manager, incoming, index)?;
    done(manager, asker, instance.control.shutdown().await).await
}

fn posted_to<'a>(manager: &'a Manager, incoming: &Incoming, index: &str) -> Result<&'a InstanceHandle, ArmError> {
    if incoming.method != Method::POST {
        return Err(method_not_allowed("POST"));
    }
    let mut instances = manager.instances.iter();
    instances
        .find(|instance| instance.index.to_string() == index)
        .ok_or_else(|| {
            let is_elsewhere = manager.elsewhere().iter().any(|other| other.to_string() == index);
            let message = match is_elsewhere {
                true => format!("Instance {index} is on another machine: ask the manager there."),
                false => format!("There is no instance '{index}' here: 0 and 1 are all there can be."),
            };
            ArmError::new(404, "NotFound", message)
        })
}

async fn done(manager: &Manager, asker: &Asker, asked: Result<(), ControlError>) -> Result<Response, ArmError> {
    match asked {
        Ok(()) => {
            manager.core.record(asker.event(204)).await;
            Ok(empty_response(StatusCode::NO_CONTENT))
        }
        Err(error) => Err(ArmError::new(503, "InstanceUnavailable", error.to_string())),
    }
}

fn not_reset(answers: Vec<Result<(), ControlError>>) -> ArmError {
    let is_refusal = |error: &ControlError| matches!(error, ControlError::Refused { status: 409, .. });
    let errors: Vec<ControlError> = answers.into_iter().filter_map(Result::err).collect();
    let refused = errors.iter().any(is_refusal);
    // Both instances mostly say the same.
    let mut reasons: Vec<String> = errors
        .into_iter()
        .map(|error| match error {
            ControlError::Refused { status: 409, reason } => reason,
            error => error.to_string(),
        })
        .collect();
    reasons.dedup();
    let message = format!("No instance could reset the session: {}.", reasons.join("; "));
    match refused {
        true => ArmError::new(409, "SoftResetNotPossible", message),
        false => ArmError::new(503, "InstanceUnavailable", message),
    }
}

/// Settings of ours by ARM id: an object; PATCH merges as RFC 7396 says.
async fn settings(
    manager: &Arc<Manager>,
    asker: &Asker,
    incoming: &Incoming,
    key: String,
) -> Result<Response, ArmError> {
    let patch = match incoming.method {
        Method::GET => {
            return Ok(json_response(StatusCode::OK, &shown_settings(manager, &key)));
        }
        Method::PUT => false,
        Method::PATCH => true,
        Method::DELETE => {
            manager.core.write_settings(asker, key, |_| Ok(None)).await?;
            return Ok(empty_response(StatusCode::NO_CONTENT));
        }
        _ => return Err(method_not_allowed("GET, PUT, PATCH, DELETE")),
    };
    let body = incoming.json()?.unwrap_or_default();
    let wanted = key.clone();
    manager
        .core
        .write_settings(asker, key.clone(), move |state| {
            settings_after(state, &wanted, patch, body.clone()).map(Some)
        })
        .await?;
    Ok(json_response(StatusCode::OK, &shown_settings(manager, &key)))
}

/// Settings of several resources, merged as PATCH does with those of one: all, or none when one is refused.
async fn many_settings(manager: &Arc<Manager>, asker: &Asker, incoming: &Incoming) -> Result<Response, ArmError> {
    if incoming.method != Method::PATCH {
        return Err(method_not_allowed("PATCH"));
    }
    let patches = match incoming.json()?.unwrap_or_default() {
        Value::Object(patches) if patches.len() <= MAX_RESOURCES => patches,
        _ => {
            let message =
                format!("The body must be an object: settings by ARM id, of {MAX_RESOURCES} resources at most.");
            return Err(ArmError::new(400, "InvalidRequestContent", message));
        }
    };
    let decide = move |state: &State, asker: &Asker| {
        let mut writes = BTreeMap::new();
        for (id, patch) in &patches {
            let (key, write) = one_of_many(state, asker, id, patch.clone())?;
            if writes.insert(key, write).is_some() {
                let message = format!("'{id}' is there twice: ids compare without regard to case.");
                return Err(ArmError::new(400, "InvalidRequestContent", message));
            }
        }
        Ok(writes.into_values().flatten().collect())
    };
    manager.core.write_many_settings(asker, decide).await?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

/// What is to be stored for one of them, with its event; and its key.
fn one_of_many(state: &State, asker: &Asker, id: &str, patch: Value) -> Result<(String, [Write; 2]), ArmError> {
    let request = arm::Request {
        method: arm::Method::Patch,
        path: id.to_owned(),
        query: Vec::new(),
        if_match: None,
        if_none_match: None,
        body: None,
    };
    access::check_request(state, &asker.caller, &request)?;
    let key = id.to_ascii_lowercase();
    let (Some(_), Some(needed)) = (state.resources.get(&key), needed(arm::Method::Patch, id)) else {
        return Err(not_found(id));
    };
    let settings = settings_after(state, &key, true, patch).map_err(|error| ArmError {
        message: format!("{id}: {}", error.message),
        ..error
    })?;
    let event = asker.done_along(200, needed.action, needed.scope);
    Ok((key.clone(), [Write::PutSettings(key, settings), event]))
}

/// The settings of a key (lower case) that are to be stored when this is sent: put in their place, or merged into them.
pub(super) fn settings_after(state: &State, key: &str, patch: bool, mut body: Value) -> Result<Value, ArmError> {
    if !body.is_object() {
        let message = "The body must be a JSON object of settings.";
        return Err(ArmError::new(400, "InvalidRequestContent", message));
    }
    let stored = state.settings.by_key.get(key);
    let settings = match patch {
        true => {
            let mut settings = stored.cloned().unwrap_or(json!({}));
            arm::settings::forget_flags(&mut body);
            merge(&mut settings, body);
            settings
        }
        false => {
            arm::settings::keep_secrets(stored, &mut body);
            body
        }
    };
    arm::check_settings(&state.resources, key, &settings)
}

fn shown_settings(manager: &Manager, key: &str) -> Value {
    manager.core.read(|state| {
        let stored = state.settings.by_key.get(key);
        stored.map_or(json!({}), arm::settings::show_settings)
    })
}

//= https://www.rfc-editor.org/rfc/rfc7396#section-2
//# Null values in the merge patch are given special meaning to
//# indicate the removal of existing values in the target.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(target) = target.as_object_mut() else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// One endpoint, as the OpenAPI document tells it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    /// Query parameters: name, whether it must be there, meaning.
    pub(crate) query: &'static [(&'static str, bool, &'static str)],
    /// Name of the body's schema, if it takes one.
    pub(crate) takes: Option<&'static str>,
    /// Status and name of the answer's schema; a name ending in `[]` is `{"value": […]}`.
    pub(crate) gives: (u16, Option<&'static str>),
}

const fn endpoint(method: &'static str, path: &'static str, summary: &'static str, gives: &'static str) -> Endpoint {
    Endpoint {
        method,
        path,
        summary,
        query: &[],
        takes: None,
        gives: (200, Some(gives)),
    }
}

/// Everything below `/routewright/v1`, and `/metrics`.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    endpoint(
        "get",
        "/routewright/v1/health",
        "The manager, its store and both instances, with where agents connect. Without a role over the subscription: status, version, and \
         of each instance index, state and agentUrl.",
        "Health",
    ),
    endpoint("get", "/routewright/v1/openapi.json", "This document.", "Object"),
    endpoint(
        "get",
        "/routewright/v1/sign-in",
        "Where clients of https sign in.",
        "HowToSignIn",
    ),
    endpoint(
        "get",
        "/routewright/v1/service-principals",
        "Service principals, without their secrets.",
        "ServicePrincipal[]",
    ),
    Endpoint {
        takes: Some("ServicePrincipalRequest"),
        gives: (201, Some("FreshSecret")),
        ..endpoint(
            "post",
            "/routewright/v1/service-principals",
            "Makes one. Its secret is told now and never again.",
            "",
        )
    },
    endpoint(
        "get",
        "/routewright/v1/service-principals/{clientId}",
        "One service principal.",
        "ServicePrincipal",
    ),
    Endpoint {
        gives: (204, None),
        ..endpoint(
            "delete",
            "/routewright/v1/service-principals/{clientId}",
            "Removes one, and with it its tokens.",
            "",
        )
    },
    endpoint(
        "post",
        "/routewright/v1/service-principals/{clientId}/reset",
        "Gives it another secret; the old one is worth nothing any more.",
        "FreshSecret",
    ),
    endpoint(
        "get",
        "/routewright/v1/agents",
        "NICs that agents follow, with the generation installed, per instance.",
        "AgentReport[]",
    ),
    Endpoint {
        query: &[
            ("on", false, "false: packets go through both instances again."),
            (
                "told",
                false,
                "true: answered when the manager of the other machine was told, and after it was seen how its instance is; 503 if that \
                 cannot be.",
            ),
        ],
        gives: (204, None),
        ..endpoint(
            "post",
            "/routewright/v1/instances/{index}/drain",
            "Has packets go through the other instance, until this one's process ends: what it says and hears is a last resort.",
            "Object",
        )
    },
    Endpoint {
        gives: (204, None),
        ..endpoint(
            "post",
            "/routewright/v1/instances/{index}/restart",
            "Exchanges the instance's process for the executable that is there now; `routewright upgrade` does so with both, in turn.",
            "Object",
        )
    },
    Endpoint {
        query: &[(
            "routeServer",
            false,
            "Only the peers of this route server, gateway or circuit (ARM id).",
        )],
        ..endpoint(
            "get",
            "/routewright/v1/peers",
            "Peers with full session state, per instance.",
            "PeerReport[]",
        )
    },
    endpoint(
        "get",
        "/routewright/v1/peers/{bgpConnectionId}",
        "One peer as each instance sees it.",
        "PeerReport[]",
    ),
    endpoint(
        "get",
        "/routewright/v1/peers/{bgpConnectionId}/routes",
        "Routes received from the peer, rejected ones included, with verdicts.",
        "RouteReport[]",
    ),
    endpoint(
        "get",
        "/routewright/v1/peers/{bgpConnectionId}/advertised",
        "Routes told to the peer.",
        "AdvertisedReport[]",
    ),
    Endpoint {
        query: &[(
            "soft",
            false,
            "true: ask for the routes again (route refresh) and keep the session; 409 if the peer cannot be asked.",
        )],
        gives: (204, None),
        ..endpoint(
            "post",
            "/routewright/v1/peers/{bgpConnectionId}/reset",
            "Resets the sessions with the peer.",
            "Object",
        )
    },
    Endpoint {
        query: &[
            (
                "routeServer",
                false,
                "Routes of this route server (ARM id); this or peer is needed.",
            ),
            ("peer", false, "Routes of this bgpConnection (ARM id)."),
            ("prefix", false, "Only this prefix, with routeServer."),
        ],
        ..endpoint(
            "get",
            "/routewright/v1/routes",
            "Routes received, each with its verdict: best, equal-cost, lost or rejected, and why.",
            "RouteReport[]",
        )
    },
    Endpoint {
        query: &[("nic", true, "ARM id of the network interface.")],
        ..endpoint(
            "get",
            "/routewright/v1/effective-routes",
            "A NIC's effective routes, and why an active one may not be in its kernel.",
            "EffectiveRoute[]",
        )
    },
    Endpoint {
        takes: Some("DryRunRequest"),
        ..endpoint(
            "post",
            "/routewright/v1/dry-run",
            "What writes would change of routes, with nothing written: what each peer would be told, and what the NICs of each subnet would \
             have. Peers are taken to keep saying what they say. A write that would be refused is refused here. 409 if more routes are \
             held than are looked at.",
            "WhatIfReport[]",
        )
    },
    endpoint(
        "get",
        "/routewright/v1/{resourceId}/settings",
        "Settings of ours for an ARM resource.",
        "Settings",
    ),
    Endpoint {
        takes: Some("Settings"),
        ..endpoint(
            "put",
            "/routewright/v1/{resourceId}/settings",
            "Replaces the settings. Passwords are never shown: one that is left out stays, null removes it.",
            "Settings",
        )
    },
    Endpoint {
        takes: Some("Settings"),
        ..endpoint(
            "patch",
            "/routewright/v1/{resourceId}/settings",
            "Changes some settings; null removes one (RFC 7396).",
            "Settings",
        )
    },
    Endpoint {
        takes: Some("SettingsById"),
        gives: (204, None),
        ..endpoint(
            "patch",
            "/routewright/v1/settings",
            "Changes some settings of several resources, 1000 at most: all of them, or nothing when one is refused.",
            "",
        )
    },
    Endpoint {
        gives: (204, None),
        ..endpoint(
            "delete",
            "/routewright/v1/{resourceId}/settings",
            "Back to the defaults.",
            "Settings",
        )
    },
];
