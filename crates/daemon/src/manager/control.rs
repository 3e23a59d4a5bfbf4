//! What the manager may say to, and ask of, an instance process. A trait, so that tests can stand in for instances.

use std::fmt::Debug;
use std::sync::Arc;

use api::control::{ControlClient, ControlError, OrderRef};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use routeserver::Intent;
use routeserver::report::{
    AdvertisedReport, AgentReport, EffectiveRoute, InstanceReport, PeerReport, RouteReport, WhatIfReport,
};

/// An answer that takes a moment.
pub type Asked<'a, T> = BoxFuture<'a, Result<T, ControlError>>;

/// Which received routes are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutesOf {
    /// Those of one peer, by bgpConnection id (lower case).
    Peer(String),
    /// Those of a route server (lower case), of one prefix only if given.
    RouteServer(String, Option<ipnet::IpNet>),
}

/// One instance process, seen from the manager.
pub trait Control: Debug + Send + Sync {
    /// Replaces what the instance is to do; an answer means that it has taken it on. Route changes are logged to
    /// the file `route_log`, if there is one.
    fn put_intent(&self, intent: Arc<Intent>, route_log: Option<String>) -> Asked<'_, ()>;
    /// Its own account of itself.
    fn health(&self) -> Asked<'_, InstanceReport>;
    /// Peers, of one route server only if given (lower case).
    fn peers(&self, route_server: Option<&str>) -> Asked<'_, Vec<PeerReport>>;
    /// Resets a session, or asks for the routes again (`soft`).
    fn reset(&self, peer: &str, soft: bool) -> Asked<'_, ()>;
    /// Received routes with their verdicts.
    fn routes(&self, of: &RoutesOf) -> Asked<'_, Vec<RouteReport>>;
    /// What a peer is told.
    fn advertised(&self, peer: &str) -> Asked<'_, Vec<AdvertisedReport>>;
    /// A NIC's effective routes.
    fn effective_routes(&self, nic: &str) -> Asked<'_, Vec<EffectiveRoute>>;
    /// Agents with what they have installed.
    fn agents(&self) -> Asked<'_, Vec<AgentReport>>;
    /// What its peers have said, for the other instance's `what_if`.
    fn heard(&self) -> Asked<'_, Bytes>;
    /// What would differ with this intent; `others`: what the other instance's peers have said.
    fn what_if(&self, wanted: Arc<Intent>, others: Option<Bytes>) -> Asked<'_, WhatIfReport>;
    /// Prometheus text.
    fn metrics(&self) -> Asked<'_, String>;
    /// Asks it to say farewell and end.
    fn shutdown(&self) -> Asked<'_, ()>;
    /// What it says and hears is a last resort, or is not any more.
    fn drain(&self, on: bool) -> Asked<'_, ()>;
}

impl Control for ControlClient {
    fn put_intent(&self, intent: Arc<Intent>, route_log: Option<String>) -> Asked<'_, ()> {
        async move {
            let order = OrderRef {
                intent: &intent,
                route_log: route_log.as_deref(),
            };
            ControlClient::put_intent(self, order).await
        }
        .boxed()
    }

    fn health(&self) -> Asked<'_, InstanceReport> {
        ControlClient::health(self).boxed()
    }

    fn peers(&self, route_server: Option<&str>) -> Asked<'_, Vec<PeerReport>> {
        let route_server = route_server.map(str::to_owned);
        async move { ControlClient::peers(self, route_server.as_deref()).await }.boxed()
    }

    fn reset(&self, peer: &str, soft: bool) -> Asked<'_, ()> {
        let peer = peer.to_owned();
        async move { self.reset_peer(&peer, soft).await }.boxed()
    }

    fn routes(&self, of: &RoutesOf) -> Asked<'_, Vec<RouteReport>> {
        let of = of.clone();
        async move {
            match &of {
                RoutesOf::Peer(peer) => self.routes_of_peer(peer).await,
                RoutesOf::RouteServer(id, prefix) => self.routes_of_route_server(id, *prefix).await,
            }
        }
        .boxed()
    }

    fn advertised(&self, peer: &str) -> Asked<'_, Vec<AdvertisedReport>> {
        let peer = peer.to_owned();
        async move { ControlClient::advertised(self, &peer).await }.boxed()
    }

    fn effective_routes(&self, nic: &str) -> Asked<'_, Vec<EffectiveRoute>> {
        let nic = nic.to_owned();
        async move { ControlClient::effective_routes(self, &nic).await }.boxed()
    }

    fn agents(&self) -> Asked<'_, Vec<AgentReport>> {
        ControlClient::agents(self).boxed()
    }

    fn heard(&self) -> Asked<'_, Bytes> {
        ControlClient::heard(self).boxed()
    }

    fn what_if(&self, wanted: Arc<Intent>, others: Option<Bytes>) -> Asked<'_, WhatIfReport> {
        async move { ControlClient::what_if(self, &wanted, others.as_ref()).await }.boxed()
    }

    fn metrics(&self) -> Asked<'_, String> {
        ControlClient::metrics(self).boxed()
    }

    fn shutdown(&self) -> Asked<'_, ()> {
        ControlClient::shutdown(self).boxed()
    }

    fn drain(&self, on: bool) -> Asked<'_, ()> {
        ControlClient::drain(self, on).boxed()
    }
}
