//! Questions that only the instances can answer, in ARM's shapes. An instance that doesn't answer has an empty list.

use std::time::Duration;

use arm::{Ask, reports};
use futures::future::join_all;
use routeserver::report::{EffectiveRoute, PeerReport, RouteReport};
use serde_json::Value;
use tokio::time::timeout;

use super::control::{Asked, Control, RoutesOf};
use super::{Manager, keeper};

/// An instance that takes longer counts as one that doesn't answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Answers a question in ARM's shape, about what was written before it.
pub(crate) async fn answer(manager: &Manager, question: &Ask) -> Value {
    settled(manager).await;
    match question {
        Ask::LearnedRoutes(peer) => {
            let of = RoutesOf::Peer(peer.to_ascii_lowercase());
            let routes = by_index(both(manager, |control| control.routes(&of)).await);
            let [first, second] = &routes;
            manager
                .core
                .read(|state| reports::learned_routes(&state.resources, peer, [first, second]))
        }
        Ask::AdvertisedRoutes(peer) => {
            let key = peer.to_ascii_lowercase();
            let routes = by_index(both(manager, |control| control.advertised(&key)).await);
            let [first, second] = &routes;
            manager
                .core
                .read(|state| reports::advertised_routes(&state.resources, peer, [first, second]))
        }
        Ask::NicEffectiveRoutes(nic) => {
            let tables = effective_routes(manager, &nic.to_ascii_lowercase()).await;
            let tables: Vec<&[EffectiveRoute]> = tables.iter().map(Vec::as_slice).collect();
            reports::effective_route_table(&tables)
        }
        Ask::HubEffectiveRoutes(hub) => {
            let of = RoutesOf::RouteServer(hub.to_ascii_lowercase(), None);
            let routes = both(manager, |control| control.routes(&of)).await;
            let routes: Vec<RouteReport> = routes.into_iter().flat_map(|(_, routes)| routes).collect();
            manager
                .core
                .read(|state| reports::hub_effective_routes(&state.resources, hub, &routes))
        }
        Ask::GatewayDiagnostics(_) => reports::gateway_diagnostics(),
        Ask::Metrics(query) => {
            let answers = both(manager, |control| control.peers(Some(&query.route_server))).await;
            let peers: Vec<PeerReport> = answers.into_iter().flat_map(|(_, peers)| peers).collect();
            let now = jiff::Timestamp::now().to_string();
            manager
                .core
                .read(|state| arm::metrics::metrics(&state.resources, query, &peers, &now))
        }
    }
}

/// Who writes and then asks wants to hear of what was written, although only operations wait for the instances by themselves.
pub(crate) async fn settled(manager: &Manager) {
    let version = manager.core.read(|state| state.resources.version);
    keeper::in_force(&manager.statuses(), version, keeper::IN_FORCE_PATIENCE).await;
}

/// Asks both instances at once; those that don't answer are left out.
pub(crate) async fn both<'m, T>(
    manager: &'m Manager,
    question: impl Fn(&'m dyn Control) -> Asked<'m, T>,
) -> Vec<(usize, T)> {
    let asked = manager.instances.iter().map(|instance| {
        let answer = question(instance.control.as_ref());
        async move { (instance.index, timeout(PATIENCE, answer).await) }
    });
    let mut answers = Vec::new();
    for (index, answer) in join_all(asked).await {
        match answer {
            Ok(Ok(answer)) => answers.push((index, answer)),
            Err(_) => tracing::warn!(instance = index, "a question was not answered in time"),
            Ok(Err(error)) => tracing::debug!(instance = index, %error, "a question has no answer"),
        }
    }
    answers
}

fn by_index<T>(answers: Vec<(usize, Vec<T>)>) -> [Vec<T>; 2] {
    let mut lists = [Vec::new(), Vec::new()];
    for (index, list) in answers {
        lists[index] = list;
    }
    lists
}

/// The tables of the instances that an agent would believe: one that is converging only adds, so it doesn't count beside one that
/// has converged.
pub(crate) async fn effective_routes(manager: &Manager, nic: &str) -> Vec<Vec<EffectiveRoute>> {
    let converging = |index: usize| {
        let mut instances = manager.instances.iter();
        let instance = instances.find(|instance| instance.index == index);
        let report = instance.and_then(|instance| instance.status.borrow().report.clone());
        report.is_none_or(|report| report.converging)
    };
    let mut answers = both(manager, |control| control.effective_routes(nic)).await;
    if answers.iter().any(|(index, _)| !converging(*index)) {
        answers.retain(|(index, _)| !converging(*index));
    }
    answers.into_iter().map(|(_, table)| table).collect()
}

/// Writes `connectionState` into bgpConnections on their way out. Azure leaves it out, to everybody's regret.
pub(crate) async fn fill_connection_states(manager: &Manager, body: &mut Value) {
    let first = match body.get("value").and_then(Value::as_array) {
        Some(list) => list.first(),
        None => Some(&*body),
    };
    let id = first.and_then(|resource| resource["id"].as_str());
    let id = id.unwrap_or_default().to_ascii_lowercase();
    let Some((route_server, _)) = id.split_once("/bgpconnections/") else {
        return;
    };
    let answers = both(manager, |control| control.peers(Some(route_server))).await;
    arm::fill_connection_states(body, |key| {
        let reports = answers.iter().flat_map(|(_, reports)| reports);
        connection_state(reports.filter(|report| report.id == key))
    });
}

/// One session with either instance is a connection.
fn connection_state<'a>(reports: impl Iterator<Item = &'a PeerReport>) -> &'static str {
    let rank = |report: &PeerReport| match report.state.as_str() {
        "Established" => 3,
        "Connect" | "OpenSent" | "OpenConfirm" | "Active" => 2,
        _ => 1,
    };
    match reports.map(rank).max() {
        Some(3) => "Connected",
        Some(2) => "Connecting",
        Some(_) => "NotConnected",
        None => "Unknown",
    }
}
