//! What goes into [`handle`](crate::handle()) and what comes out of it: a request, what is to be stored, what is to be answered.

use std::net::IpAddr;

use serde_json::Value;

use crate::error::ArmError;
use crate::metrics::MetricsQuery;
use crate::resource::Resource;

/// HTTP methods that ARM uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Put,
    Patch,
    Post,
    Delete,
}

/// A request, already parsed from HTTP.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, percent-decoded, no query.
    pub path: String,
    /// Query parameters.
    pub query: Vec<(String, String)>,
    /// If-Match, if sent.
    pub if_match: Option<String>,
    /// If-None-Match, if sent.
    pub if_none_match: Option<String>,
    /// The body; `None` when empty.
    pub body: Option<Value>,
}

impl Request {
    /// A query parameter; names compare without regard to case.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let mut query = self.query.iter();
        let found = query.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Where GUIDs and the time come from.
pub trait Mint {
    /// A fresh GUID, lower case.
    fn guid(&mut self) -> String;
    /// Now, RFC 3339.
    fn now(&mut self) -> String;
}

/// What whoever asks may do. The request's own path was asked for before; this is for what lists and templates name besides.
#[derive(Clone, Copy)]
pub struct May<'a> {
    /// Refuses the ids of subscriptions, groups and resources that may not be read.
    pub read: &'a dyn Fn(&str) -> Result<(), ArmError>,
    /// Refuses a body of the resource with this id that could not be written by a PUT of its own.
    pub write: &'a dyn Fn(&str, &Value) -> Result<(), ArmError>,
}

impl May<'_> {
    /// Everything.
    pub const ALL: May<'static> = May {
        read: &|_| Ok(()),
        write: &|_, _| Ok(()),
    };
}

/// One write to the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Create or replace.
    Put(Resource),
    /// Remove, by key.
    Delete(String),
}

/// What to send back.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body; `None` for an empty one.
    pub body: Option<Value>,
    /// Whether this was a long-running operation in Azure's eyes, and which headers the client expects.
    pub operation: Option<OperationStyle>,
    /// Region of the resource, for the operation URL.
    pub location: String,
}

/// How a long-running operation is told (az §4.3, arm-clients §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationStyle {
    /// PUT: 200/201 with the resource and Azure-AsyncOperation.
    Put,
    /// DELETE: 202 with both headers.
    Delete,
    /// POST action: 202 with Location only, the result there.
    Action,
    /// DELETE of a resource group: 202 with `Location: /subscriptions/{s}/operationresults/{op}` only.
    DeleteGroup,
    /// PUT of a deployment: as `Put`, with `…/deployments/{name}/operationStatuses/{op}` to follow.
    Deployment,
}

/// A question only the instances can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// learnedRoutes of a bgpConnection (key).
    LearnedRoutes(String),
    /// advertisedRoutes of a bgpConnection (key).
    AdvertisedRoutes(String),
    /// effectiveRouteTable of a NIC (key).
    NicEffectiveRoutes(String),
    /// effectiveRoutes of a route server (key).
    HubEffectiveRoutes(String),
    /// inboundRoutes of a route server, of one of its bgpConnections (key).
    InboundRoutes(String),
    /// outboundRoutes of a route server, of one of its bgpConnections (key).
    OutboundRoutes(String),
    /// getBgpPeerStatus of a virtual network gateway (key): of all its peers, or of the one with this address.
    GatewayPeers(String, Option<IpAddr>),
    /// getLearnedRoutes of a virtual network gateway (key).
    GatewayLearnedRoutes(String),
    /// getAdvertisedRoutes of a virtual network gateway (key) to the peer with this address.
    GatewayAdvertisedRoutes(String, IpAddr),
    /// Metrics of a route server. A plain answer, no operation.
    Metrics(MetricsQuery),
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Store the changes (all or none), then answer.
    Done {
        /// In order.
        changes: Vec<Change>,
        /// The answer.
        answer: Answer,
    },
    /// Ask the instances, then answer with what they say (`reports` makes the body). The text is the resource's region, for the
    /// operation URL.
    Ask(Ask, String),
}

impl Answer {
    pub(crate) fn new(status: u16, body: Option<Value>) -> Answer {
        Answer {
            status,
            body,
            operation: None,
            location: String::new(),
        }
    }

    pub(crate) fn in_location(mut self, location: &str) -> Answer {
        location.clone_into(&mut self.location);
        self
    }
}
