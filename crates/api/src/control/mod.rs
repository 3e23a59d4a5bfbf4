//! The manager's control of an instance: JSON over HTTP on a Unix socket in the run directory (`instance-0.sock`, `instance-1.sock`).
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `PUT /intent` | [`Order`] | 204; 409 when the instance follows a newer version, 507 when it cannot be kept |
//! | `GET /health` | | [`routeserver::report::InstanceReport`] |
//! | `GET /peers[?routeServer=ID]` | | `[PeerReport]` |
//! | `POST /peers/reset?peer=ID&soft=bool` | | 204 |
//! | `GET /routes?peer=ID` or `?routeServer=ID[&prefix=P]` | | `[RouteReport]` |
//! | `GET /advertised?peer=ID` | | `[AdvertisedReport]` |
//! | `GET /effective-routes?nic=ID` | | `[EffectiveRoute]` |
//! | `GET /agents` | | `[AgentReport]` |
//! | `GET /heard` | | what its peers have said, as octets ([`routeserver::instance::read_heard`]); 422 when too much is held |
//! | `POST /what-if` | [`Question`] | [`routeserver::report::WhatIfReport`]: what would differ; 422 when too much is held |
//! | `GET /metrics` | | Prometheus text, every series labelled `instance` |
//! | `POST /drain?on=bool` | | 204; what it says and hears is a last resort until it ends, or is asked again |
//! | `POST /shutdown` | | 202; the instance says farewell to its peers and ends |
//!
//! A question about something that the instance does not know is answered with 404. What is not 2xx carries a [`Problem`].

mod client;

pub use client::{ControlClient, ControlError};

use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use ipnet::IpNet;
use routeserver::Intent;
use serde::{Deserialize, Serialize};

/// The largest intent that an instance takes: the largest virtual networks that Azure allows need a fiftieth of it.
pub const MAX_INTENT_BYTES: usize = 256 << 20;

/// Where the instance of this index listens for its manager.
pub fn socket_path(run_dir: &Path, index: usize) -> PathBuf {
    run_dir.join(format!("instance-{index}.sock"))
}

/// Where the instance of this index writes the address at which agents reach it.
pub fn agents_path(run_dir: &Path, index: usize) -> PathBuf {
    run_dir.join(format!("instance-{index}.agents"))
}

/// Begins what that file says where agents must come with TLS; an address and a port follow.
pub const AGENTS_TLS: &str = "https://";

/// Where the instance of this index keeps the intent that it follows.
pub fn intent_path(run_dir: &Path, index: usize) -> PathBuf {
    run_dir.join(format!("instance-{index}.intent.json"))
}

/// What the manager wants of an instance: the intent, and what has to do with this machine only. The instance keeps it as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// What to route.
    pub intent: Intent,
    /// The file that route changes are logged to; an instance makes its own name of it. `None`: nowhere.
    pub route_log: Option<String>,
}

/// An [`Order`] on its way out, so that no intent is copied for it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderRef<'o> {
    /// As in [`Order`].
    pub intent: &'o Intent,
    /// As in [`Order`].
    pub route_log: Option<&'o str>,
}

/// The most that is taken of what the other instance's peers have said: as many routes as a dry run looks at take a fifth of it.
pub const MAX_HEARD_BYTES: usize = 256 << 20;

/// What a dry run asks of an instance: an intent, and what the other instance's peers have said, as that one wrote it. On its way: the
/// length of the intent in four octets, the intent as JSON, a one and what was said, or a zero.
#[derive(Clone, Debug)]
pub struct Question {
    /// What would be wanted.
    pub wanted: Intent,
    /// `None`: the other instance does not say.
    pub others: Option<Bytes>,
}

impl Question {
    /// The most that one has.
    pub const MAX_BYTES: usize = MAX_INTENT_BYTES + MAX_HEARD_BYTES;

    /// As it goes out.
    pub fn to_bytes(wanted: &Intent, others: Option<&Bytes>) -> Result<Vec<u8>, serde_json::Error> {
        let mut out = vec![0; 4];
        serde_json::to_writer(&mut out, wanted)?;
        let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
        out[..4].copy_from_slice(&length.to_be_bytes());
        out.push(u8::from(others.is_some()));
        out.extend_from_slice(others.map_or(&[][..], |others| others));
        Ok(out)
    }

    /// As it came in.
    pub fn from_bytes(mut body: Bytes) -> Result<Question, serde_json::Error> {
        let end = || serde::de::Error::custom("it ends too early");
        let length = body.try_get_u32().map_err(|_| end())?;
        let length = usize::try_from(length).map_err(|_| end())?;
        if length >= body.len() {
            return Err(end());
        }
        let intent = body.split_to(length);
        Ok(Question {
            wanted: serde_json::from_slice(&intent)?,
            others: (body.get_u8() != 0).then_some(body),
        })
    }
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// For people.
    pub error: String,
}

/// Query of `GET /peers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeersQuery {
    /// Only this route server's (id, lower case).
    pub route_server: Option<String>,
}

/// Query of `POST /peers/reset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetQuery {
    /// bgpConnection id, lower case.
    pub peer: String,
    /// Only ask for a route refresh.
    #[serde(default)]
    pub soft: bool,
}

/// Query of `POST /drain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainQuery {
    /// Packets are to go through the other instance, or through both again.
    pub on: bool,
}

/// Query of `GET /routes`: either `peer`, or `routeServer` with perhaps a `prefix`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutesQuery {
    /// bgpConnection id, lower case.
    pub peer: Option<String>,
    /// Route server id, lower case.
    pub route_server: Option<String>,
    /// Only this prefix.
    pub prefix: Option<IpNet>,
}

/// Query of `GET /advertised`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvertisedQuery {
    /// bgpConnection id, lower case.
    pub peer: String,
}

/// Query of `GET /effective-routes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveRoutesQuery {
    /// NIC id, lower case.
    pub nic: String,
}
