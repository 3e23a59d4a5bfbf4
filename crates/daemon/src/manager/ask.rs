//! Questions that only the instances can answer, in ARM's shapes. An instance that doesn't answer has an empty list, and a
//! header says so.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use api::control::ControlError;
use arm::diagnostics::{self, Carries, Lifeline};
use arm::{ArmError, Ask, reports};
use futures::future::join_all;
use routeserver::report::{EffectiveRoute, PeerReport};
use serde_json::Value;
use tokio::time::timeout;

use super::control::{Asked, Control, RoutesOf};
use super::core::State;
use super::{InstanceHandle, Manager, keeper};

/// An instance that takes longer counts as one that doesn't answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// One that is known not to answer is asked all the same, since it may have come back in this moment.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// The answer to a question, and which instances it is without: ARM's bodies have no place for that.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) body: Value,
    pub(crate) unanswered: Vec<usize>,
    /// Those that another machine's manager must be asked about.
    pub(crate) elsewhere: Vec<usize>,
}

/// Answers a question in ARM's shape, about what was written before it. What no instance answers is an error: an empty list would
/// be taken for the truth.
pub(crate) async fn answer(manager: &Manager, question: &Ask) -> Result<Reply, ArmError> {
    settled(manager).await;
    let (body, unanswered) = match question {
        Ask::LearnedRoutes(peer) => {
            let of = RoutesOf::Peer(peer.to_ascii_lowercase());
            let (routes, unanswered) = each(manager, |control| control.routes(&of)).await.by_index()?;
            let [first, second] = &routes;
            let show = |state: &State| reports::learned_routes(&state.resources, peer, [first, second]);
            (manager.core.read(show), unanswered)
        }
        Ask::AdvertisedRoutes(peer) => {
            let key = peer.to_ascii_lowercase();
            let (routes, unanswered) = each(manager, |control| control.advertised(&key)).await.by_index()?;
            let [first, second] = &routes;
            let show = |state: &State| reports::advertised_routes(&state.resources, peer, [first, second]);
            (manager.core.read(show), unanswered)
        }
        Ask::NicEffectiveRoutes(nic) => (nic_effective_routes(manager, nic).await?, Vec::new()),
        Ask::HubEffectiveRoutes(hub) => {
            let of = RoutesOf::RouteServer(hub.to_ascii_lowercase(), None);
            let (routes, unanswered) = each(manager, |control| control.routes(&of)).await.all()?;
            let show = |state: &State| reports::hub_effective_routes(&state.resources, hub, &routes);
            (manager.core.read(show), unanswered)
        }
        Ask::InboundRoutes(connection) => inbound_routes(manager, connection).await?,
        Ask::OutboundRoutes(connection) => outbound_routes(manager, connection).await?,
        Ask::GatewayPeers(gateway, only) => {
            let (peers, unanswered) = each(manager, |control| control.peers(Some(gateway))).await.all()?;
            let show = |state: &State| diagnostics::bgp_peer_status(&state.resources, gateway, &peers, *only);
            (manager.core.read(show), unanswered)
        }
        Ask::GatewayLearnedRoutes(gateway) => {
            let of = RoutesOf::RouteServer(gateway.clone(), None);
            let (routes, unanswered) = each(manager, |control| control.routes(&of)).await.by_index()?;
            let [first, second] = &routes;
            let show = |state: &State| {
                diagnostics::learned_routes(&state.resources, &state.settings, gateway, [first, second])
            };
            (manager.core.read(show), unanswered)
        }
        Ask::GatewayAdvertisedRoutes(gateway, peer) => gateway_advertised_routes(manager, gateway, *peer).await?,
        Ask::Metrics(query) => {
            // Numbers of an instance that is away are those of nobody: Azure's metrics have gaps, too.
            let answers = each(manager, |control| control.peers(Some(&query.route_server))).await;
            let unanswered = answers.missing.clone();
            let peers: Vec<PeerReport> = answers.given.into_iter().flat_map(|(_, peers)| peers).collect();
            let now = jiff::Timestamp::now().to_string();
            let show = |state: &State| arm::metrics::metrics(&state.resources, query, &peers, &now);
            (manager.core.read(show), unanswered)
        }
    };
    Ok(Reply {
        body,
        unanswered,
        elsewhere: manager.elsewhere(),
    })
}

/// What a gateway's connection carries; `None`: it is a route server's.
fn carries(manager: &Manager, connection: &str) -> Option<Carries> {
    let find = |state: &State| diagnostics::carries(&state.resources, &state.settings, connection);
    manager.core.read(find)
}

async fn inbound_routes(manager: &Manager, connection: &str) -> Result<(Value, Vec<usize>), ArmError> {
    let carries = carries(manager, connection);
    let of = match &carries {
        Some(carries) => RoutesOf::RouteServer(carries.gateway.clone(), None),
        None => RoutesOf::Peer(connection.to_owned()),
    };
    let (routes, unanswered) = each(manager, |control| control.routes(&of)).await.all()?;
    let over_it = routes.iter().filter(|route| match &carries {
        Some(carries) => carries.is_of(route),
        None => route.peer == connection,
    });
    Ok((reports::inbound_routes(over_it), unanswered))
}

async fn outbound_routes(manager: &Manager, connection: &str) -> Result<(Value, Vec<usize>), ArmError> {
    let carries = carries(manager, connection);
    let sessions = carries.map_or_else(|| vec![connection.to_owned()], |carries| carries.sessions);
    let (mut told, mut unanswered) = (Vec::new(), BTreeSet::new());
    for session in &sessions {
        let (routes, without) = each(manager, |control| control.advertised(session)).await.all()?;
        told.extend(routes);
        unanswered.extend(without);
    }
    Ok((reports::outbound_routes(&told), unanswered.into_iter().collect()))
}

/// What a gateway tells the peer with this address. A circuit's edges have an address each; else a peer is one peering.
async fn gateway_advertised_routes(
    manager: &Manager,
    gateway: &str,
    peer: IpAddr,
) -> Result<(Value, Vec<usize>), ArmError> {
    let find = |state: &State| diagnostics::peerings_with(&state.resources, &state.settings, gateway, peer);
    let Some(peering) = manager.core.read(find).into_iter().next() else {
        let show = |state: &State| diagnostics::advertised_routes(&state.resources, gateway, [&[], &[]]);
        return Ok((manager.core.read(show), Vec::new()));
    };
    let (routes, unanswered) = each(manager, |control| control.advertised(&peering)).await.by_index()?;
    let [first, second] = &routes;
    let show = |state: &State| diagnostics::advertised_routes(&state.resources, gateway, [first, second]);
    Ok((manager.core.read(show), unanswered))
}

/// The table that agents make of what the instances say. One that does not answer is left out, as agents do.
pub(crate) async fn nic_effective_routes(manager: &Manager, nic: &str) -> Result<Value, ArmError> {
    let tables = effective_routes(manager, &nic.to_ascii_lowercase()).await?;
    let tables: Vec<&[EffectiveRoute]> = tables.iter().map(Vec::as_slice).collect();
    Ok(reports::effective_route_table(&tables))
}

/// Who writes and then asks wants to hear of what was written, although only operations wait for the instances by themselves.
pub(crate) async fn settled(manager: &Manager) {
    let version = manager.core.read(|state| state.resources.version);
    keeper::in_force(&manager.statuses(), version, keeper::IN_FORCE_PATIENCE).await;
}

/// Asks both instances at once; those that don't answer are left out. ARM's bodies have no place to say so.
pub(crate) async fn both<'m, T>(
    manager: &'m Manager,
    question: impl Fn(&'m dyn Control) -> Asked<'m, T>,
) -> Vec<(usize, T)> {
    each(manager, question).await.given
}

/// What the instances answered, and which did not.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    pub(crate) given: Vec<(usize, T)>,
    pub(crate) missing: Vec<usize>,
    /// Why one of those did not, if it said so.
    pub(crate) refused: Option<ControlError>,
}

/// Asks both instances at once.
pub(crate) async fn each<'m, T>(
    manager: &'m Manager,
    question: impl Fn(&'m dyn Control) -> Asked<'m, T>,
) -> Answers<T> {
    each_within(manager, PATIENCE, question).await
}

/// The same with an answer that may take longer.
pub(crate) async fn each_within<'m, T>(
    manager: &'m Manager,
    patience: Duration,
    question: impl Fn(&'m dyn Control) -> Asked<'m, T>,
) -> Answers<T> {
    each_its_own(manager, patience, |_, control| question(control)).await
}

/// The same with a question that depends on which instance it is.
pub(crate) async fn each_its_own<'m, T>(
    manager: &'m Manager,
    patience: Duration,
    question: impl Fn(usize, &'m dyn Control) -> Asked<'m, T>,
) -> Answers<T> {
    let asked = manager.instances.iter().map(|instance| {
        let answer = question(instance.index, instance.control.as_ref());
        let patience = match instance.status.borrow().is_up() {
            true => patience,
            false => SHORT_PATIENCE,
        };
        async move { (instance.index, timeout(patience, answer).await) }
    });
    let mut answers = Answers {
        given: Vec::new(),
        missing: Vec::new(),
        refused: None,
    };
    for (index, answer) in join_all(asked).await {
        match answer {
            Ok(Ok(answer)) => {
                answers.given.push((index, answer));
                continue;
            }
            // It answers: that it does not know what was asked about.
            Ok(Err(error @ ControlError::NotFound { .. })) => {
                tracing::debug!(instance = index, %error, "a question has no answer");
                continue;
            }
            Ok(Err(error)) => {
                tracing::debug!(instance = index, %error, "a question has no answer");
                answers.refused = answers.refused.or(Some(error));
            }
            Err(_) => tracing::warn!(instance = index, "a question was not answered in time"),
        }
        answers.missing.push(index);
    }
    answers
}

impl<T> Answers<Vec<T>> {
    /// Lists of both instances, that of one that did not answer empty; and which did not.
    fn by_index(self) -> Result<([Vec<T>; 2], Vec<usize>), ArmError> {
        self.at_least_one()?;
        let mut lists = [Vec::new(), Vec::new()];
        for (index, list) in self.given {
            lists[index] = list;
        }
        Ok((lists, self.missing))
    }

    /// One list; and which instances did not answer.
    fn all(self) -> Result<(Vec<T>, Vec<usize>), ArmError> {
        self.at_least_one()?;
        let all = self.given.into_iter().flat_map(|(_, list)| list);
        Ok((all.collect(), self.missing))
    }
}

impl<T> Answers<T> {
    /// One that answers that it knows no such thing has answered.
    pub(crate) fn at_least_one(&self) -> Result<(), ArmError> {
        match self.given.is_empty() && !self.missing.is_empty() {
            true => Err(ArmError::new(
                503,
                "InstanceUnavailable",
                "No instance answers, so this is not known now; /routewright/v1/health says why.",
            )),
            false => Ok(()),
        }
    }
}

/// The tables of the instances that an agent would believe: one that is converging only adds, so it doesn't count beside one that
/// has converged.
async fn effective_routes(manager: &Manager, nic: &str) -> Result<Vec<Vec<EffectiveRoute>>, ArmError> {
    let converging = |index: usize| {
        let mut instances = manager.instances.iter();
        let instance = instances.find(|instance| instance.index == index);
        let report = instance.and_then(|instance| instance.status.borrow().report.clone());
        report.is_none_or(|report| report.converging)
    };
    let answers = each(manager, |control| control.effective_routes(nic)).await;
    answers.at_least_one()?;
    let mut answers = answers.given;
    if answers.iter().any(|(index, _)| !converging(*index)) {
        answers.retain(|(index, _)| !converging(*index));
    }
    Ok(answers.into_iter().map(|(_, table)| table).collect())
}

/// Writes how things are into bgpConnections and connections on their way out. Azure leaves the former out, to everybody's regret.
pub(crate) async fn fill_connection_states(manager: &Manager, body: &mut Value) {
    let first = match body.get("value").and_then(Value::as_array) {
        Some(list) => list.first(),
        None => Some(&*body),
    };
    let id = first.and_then(|resource| resource["id"].as_str());
    let id = id.unwrap_or_default().to_ascii_lowercase();
    if let Some((route_server, _)) = id.split_once("/bgpconnections/") {
        let answers = both(manager, |control| control.peers(Some(route_server))).await;
        arm::fill_connection_states(body, |key| {
            let reports = answers.iter().flat_map(|(_, reports)| reports);
            connection_state(reports.filter(|report| report.id == key))
        });
    } else if id.contains("/microsoft.network/connections/") {
        let answers = both(manager, |control| control.peers(None)).await;
        let reports: Vec<PeerReport> = answers.into_iter().flat_map(|(_, reports)| reports).collect();
        diagnostics::fill_connection_statuses(body, &|key| connection_status(manager, key, &reports));
    }
}

/// How a connection of a gateway is: as its sessions are; one without sessions as the gateway is.
fn connection_status(manager: &Manager, connection: &str, reports: &[PeerReport]) -> &'static str {
    let find = |state: &State| diagnostics::lifeline(&state.resources, &state.settings, connection);
    match manager.core.read(find) {
        Lifeline::Sessions(ids) => connection_state(reports.iter().filter(|report| ids.contains(&report.id))),
        Lifeline::Gateway(gateway) => match manager.instances.iter().any(|instance| speaks(instance, &gateway)) {
            true => "Connected",
            false => "NotConnected",
        },
        Lifeline::Nothing => "NotConnected",
    }
}

/// Whether an instance process is up and has the gateway's (key) address.
fn speaks(instance: &InstanceHandle, gateway: &str) -> bool {
    let status = instance.status.borrow();
    let problems = status.report.as_ref().map(|report| &report.address_problems);
    status.is_up() && problems.is_some_and(|problems| problems.iter().all(|(speaker, _)| speaker != gateway))
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
