//! One request: what is answered and what changes.

use serde_json::Value;

use crate::error::ArmError;
use crate::resource::{Resource, Resources};
use crate::settings::Settings;

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

/// Where GUIDs and the time come from.
pub trait Mint {
    /// A fresh GUID, lower case.
    fn guid(&mut self) -> String;
    /// Now, RFC 3339.
    fn now(&mut self) -> String;
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
    /// Ask the instances, then answer with what they say.
    Ask(Ask, String),
}

/// Handles one request against the resources there are.
#[allow(clippy::todo)]
pub fn handle(
    _resources: &Resources,
    _settings: &Settings,
    _request: &Request,
    _mint: &mut dyn Mint,
) -> Result<Outcome, ArmError> {
    todo!()
}
