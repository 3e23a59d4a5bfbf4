//! Reports: an instance's state as people and programs ask for it. These types are also the JSON of `/routewright/v1`, so fields
//! are camelCase there and never disappear lightly. Ages and uptimes are in seconds.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp::IpNet;
use rib::RouteSource;
use serde::{Deserialize, Serialize};

use crate::intent::PeerKind;

/// One peering as one instance sees it (az §6, 1: all that Azure does not tell).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerReport {
    /// bgpConnection id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Id of the route server or gateway whose peer it is.
    pub route_server: String,
    /// What the peer is.
    #[serde(default)]
    pub kind: PeerKind,
    /// Which instance reports: 0 or 1.
    pub instance: usize,
    /// Our address.
    pub local_address: IpAddr,
    /// The peer's.
    pub peer_address: IpAddr,
    /// The peer's AS number as configured.
    pub peer_asn: u32,
    /// Idle, Connect, Active, OpenSent, OpenConfirm or Established.
    pub state: String,
    /// Seconds in or out of Established; absent when it never was.
    pub since_secs: Option<u64>,
    /// How often it became Established.
    pub established_count: u64,
    /// Both of the following in one sentence.
    pub last_error: Option<String>,
    /// How the last session that was Established ended.
    #[serde(default)]
    pub last_down: Option<LastDownReport>,
    /// Why the last attempt to become Established failed; absent once one succeeds.
    #[serde(default)]
    pub last_attempt_error: Option<String>,
    /// Negotiated hold time, while Established.
    pub hold_time_secs: Option<u16>,
    /// The peer's BGP Identifier, while Established.
    pub peer_identifier: Option<String>,
    /// Capabilities both sides have, by name, while Established.
    pub capabilities: Vec<String>,
    /// "dialled" or "accepted", while Established.
    pub direction: Option<String>,
    /// Distinct prefixes received, rejected ones included.
    pub routes_received: usize,
    /// Of those, accepted.
    pub routes_accepted: usize,
    /// Prefixes told to the peer.
    pub routes_advertised: usize,
    /// The limit; 0: none.
    pub route_limit: u32,
    /// Of the received, routes that the peer is to say again: of a session that has ended, or before a refresh.
    #[serde(default)]
    pub routes_stale: usize,
    /// What holding its routes takes, in octets and roughly: the noisiest peer goes where memory has a ceiling.
    #[serde(default)]
    pub octets_held: usize,
    /// What is kept of a session that has ended, by family.
    #[serde(default)]
    pub kept: Vec<KeptReport>,
    /// How far the peer is drained, if it is to be.
    #[serde(default)]
    pub drain: Option<DrainReport>,
    /// UPDATE messages received (RFC 4273 bgpPeerInUpdates), over all sessions.
    pub updates_received: u64,
    /// UPDATE messages that RFC 7606 had to mend.
    pub mended_updates: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Messages sent, keepalives and such; UPDATEs not included.
    pub messages_sent: u64,
    /// Its BFD session; absent when it has none.
    #[serde(default)]
    pub bfd: Option<BfdReport>,
}

/// What an NVA has said to an instance, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvaReport {
    /// bgpConnection id.
    pub id: String,
    /// Absent without a session.
    pub heard: Option<Heard>,
}

/// A set of prefixes, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// How many.
    pub prefixes: usize,
    /// The same for the same set.
    pub fingerprint: u64,
}

/// A peer's BFD session (RFC 5880). Numbers are at most a second old, the state is never.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BfdReport {
    /// AdminDown, Down, Init or Up.
    pub state: String,
    /// What the peer says of its side.
    pub remote_state: Option<String>,
    /// Why our state last changed.
    pub diagnostic: Option<String>,
    /// Why the peer's did, as it says.
    pub remote_diagnostic: Option<String>,
    /// BGP waits for BFD.
    pub strict: bool,
    /// Over several hops (RFC 5883) rather than on one link (RFC 5881).
    pub multihop: bool,
    /// Packets are authenticated.
    pub authenticated: bool,
    /// How often we send, before jitter; absent when the peer wants nothing.
    pub tx_interval_ms: Option<f64>,
    /// How often the peer sends at least, as agreed on; absent while it is not heard.
    pub rx_interval_ms: Option<f64>,
    /// So much silence is a lost path; absent while the peer is not heard.
    pub detection_time_ms: Option<f64>,
    /// Ours.
    pub local_discriminator: Option<u32>,
    /// The peer's, while it is heard.
    pub remote_discriminator: Option<u32>,
    /// Seconds in this state; absent when it never was in another one.
    pub since_secs: Option<u64>,
    /// How often it came up.
    pub ups: u64,
    /// How often it was up no more.
    pub downs: u64,
    /// Control packets sent.
    pub packets_sent: u64,
    /// Control packets received.
    pub packets_received: u64,
    /// Control packets dropped by the checks of RFC 5880 §6.8.6 once the session was known.
    pub packets_discarded: u64,
    /// How it last went down.
    pub last_down: Option<LastDownReport>,
    /// Why packets cannot be sent and received, if so.
    pub problem: Option<String>,
}

/// The end of a session that was Established.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastDownReport {
    /// For people.
    pub reason: String,
    /// How long ago.
    pub ago_secs: u64,
    /// The same, as exactly as it is known; whoever knows the clock makes `monotonic_micros` of it.
    #[serde(skip)]
    pub ago: Duration,
    /// When, by the machine's monotonic clock (CLOCK_MONOTONIC, one for all processes), in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monotonic_micros: Option<u64>,
}

impl LastDownReport {
    pub(crate) fn new(now: Instant, at: Instant, reason: String) -> LastDownReport {
        let ago = now.saturating_duration_since(at);
        LastDownReport {
            reason,
            ago_secs: ago.as_secs(),
            ago,
            monotonic_micros: None,
        }
    }
}

/// Routes of a session that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptReport {
    /// IPv4 unicast or IPv6 unicast.
    pub family: String,
    /// graceful (RFC 4724), long-lived (RFC 9494) or persisted (`persistRoutes`).
    pub phase: String,
    /// The peer is back; what it does not say again goes with its End-of-RIB.
    pub returned: bool,
    /// For how long there has been no word from the peer.
    pub since_secs: u64,
    /// When the phase ends; absent: never.
    pub until_secs: Option<u64>,
}

/// How far a peer is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainReport {
    /// Prefixes for which packets still go by the peer's routes.
    pub prefixes: usize,
    /// Of those, prefixes that nobody else tells a next hop of.
    pub without_other_way: usize,
}

/// One received route with its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteReport {
    /// The prefix.
    pub network: IpNet,
    /// NEXT_HOP.
    pub next_hop: IpAddr,
    /// Id of the peering that it came through; empty for a static route, which came through none.
    pub peer: String,
    /// The sender's address; of a static route the far end of the tunnel.
    pub source_peer: IpAddr,
    /// What the sender is.
    #[serde(default = "nva")]
    pub source: RouteSource,
    /// The sender is of the speaker's own AS (iBGP).
    #[serde(default)]
    pub internal: bool,
    /// AS numbers joined by "-", as ARM shows them.
    pub as_path: String,
    /// igp, egp or incomplete.
    pub origin: String,
    /// "high:low" each.
    pub communities: Vec<String>,
    /// best, equal-cost, lost or rejected.
    pub verdict: String,
    /// The decision step at which it lost, or the import rule that refused it.
    pub reason: Option<String>,
    /// What the peer's inbound route map made of it: that is what the verdict is about.
    #[serde(default)]
    pub becomes: Option<BecameReport>,
    /// The session that it came through has ended so long ago, and it has not been said again.
    #[serde(default)]
    pub stale_secs: Option<u64>,
    /// Which instance reports.
    pub instance: usize,
}

/// What told routes before reports said who did.
fn nva() -> RouteSource {
    RouteSource::Nva
}

/// A received route after the inbound route map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BecameReport {
    /// The prefix.
    pub network: IpNet,
    /// NEXT_HOP.
    pub next_hop: IpAddr,
    /// AS numbers joined by "-".
    pub as_path: String,
    /// "high:low" each.
    pub communities: Vec<String>,
}

/// One advertised route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdvertisedReport {
    /// The prefix.
    pub network: IpNet,
    /// NEXT_HOP as told.
    pub next_hop: IpAddr,
    /// AS numbers joined by "-".
    pub as_path: String,
    /// "high:low" each.
    pub communities: Vec<String>,
}

/// One row of a NIC's effective routes (az §5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveRoute {
    /// Name of the user-defined route, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// User, VirtualNetworkGateway or Default.
    pub source: String,
    /// Active or Invalid.
    pub state: String,
    /// The prefix.
    pub address_prefix: IpNet,
    /// VnetLocal, VNetPeering, VirtualNetworkGateway, VirtualAppliance, Internet, None.
    pub next_hop_type: String,
    /// Next hop addresses.
    pub next_hop_ip_address: Vec<IpAddr>,
    /// How good the next hops are, comparable between instances: the lower the better. Absent where rows have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u64>,
    /// The subnet's route table refuses BGP routes.
    pub disable_bgp_route_propagation: bool,
    /// Why the kernel of this NIC does not hold the row although it is Active (for example the NIC is its own next hop).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_installed: Option<String>,
}

/// What an instance would do differently with another intent, all peers saying what they say now. Only what differs is listed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhatIfReport {
    /// Which instance would.
    pub instance: usize,
    /// Version of the intent that is followed, which the other is compared with.
    pub intent_version: u64,
    /// Peers whose session would change, or who would be told something else.
    pub peers: Vec<PeerDifference>,
    /// Subnets whose NICs would have other routes.
    pub tables: Vec<TableDifference>,
    /// Subnets that were not looked at, because it would take too long.
    pub tables_not_compared: usize,
    /// Those of `peers` (ids) that are route servers or gateways of ours and whose other end is not at hand: what they would say then, and all
    /// that follows from it, is not in here.
    #[serde(default)]
    pub not_followed: Vec<String>,
}

/// What a peer would be told differently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerDifference {
    /// bgpConnection id.
    pub peer: String,
    /// Its name.
    pub name: String,
    /// Route server id.
    pub route_server: String,
    /// What becomes of its session: stays, starts, resets, ends, is-held-down, over-limit.
    pub session: String,
    /// What it is told.
    pub told: Differences<AdvertisedReport>,
}

/// What the NICs of a subnet would have differently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableDifference {
    /// Subnet id; of a gateway's instance its own.
    pub subnet: String,
    /// Its NICs (ids), before and after.
    pub nics: Vec<String>,
    /// Their effective routes.
    pub routes: Differences<EffectiveRoute>,
}

/// Routes that come, go and change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Differences<T> {
    /// Not there before.
    pub appears: Vec<T>,
    /// Not there any more.
    pub vanishes: Vec<T>,
    /// The same prefix, otherwise.
    pub changes: Vec<Alteration<T>>,
    /// How many more differ and are not listed.
    pub not_listed: usize,
}

/// A route before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alteration<T> {
    /// Before.
    pub before: T,
    /// After.
    pub after: T,
}

/// One NIC that an agent follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentReport {
    /// The agent's name.
    pub agent: String,
    /// NIC id.
    pub nic: String,
    /// Which instance reports.
    pub instance: usize,
    /// This instance's epoch.
    pub epoch: u64,
    /// The generation the NIC's table is at; with a base below it, those of both added up.
    pub generation: u64,
    /// The generation the agent has confirmed, of the same tables.
    pub installed_generation: Option<u64>,
    /// What the agent could not do, for people.
    pub problems: Vec<String>,
    /// What happened to the kernel's table since the agent started.
    #[serde(flatten, default)]
    pub counts: AgentCounts,
}

/// What happened to the kernel's table of a NIC since its agent started. An agent of an earlier release counts nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCounts {
    /// Routes that went because their next hops were all lost and nothing took over.
    pub stranded: u64,
    /// Entries of the agent's that somebody else changed or removed, and that were put right.
    pub repaired: u64,
}

/// An instance's health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceReport {
    /// 0 or 1.
    pub instance: usize,
    /// Release of the process; it may be another than the manager's. The process knows; the state
    /// machine leaves it open, and so does a process before there was this.
    #[serde(default)]
    pub version: Option<String>,
    /// Its epoch.
    pub epoch: u64,
    /// Version of the intent it follows; 0: none yet.
    pub intent_version: u64,
    /// It has not yet heard End-of-RIB from every peer.
    pub converging: bool,
    /// The operator wants packets to go through the other instance.
    #[serde(default)]
    pub drained: bool,
    /// Sessions Established.
    pub peers_established: usize,
    /// Peerings configured.
    pub peers: usize,
    /// Those that should be Established and are not (bgpConnection ids).
    #[serde(default)]
    pub peers_down: Vec<String>,
    /// NVAs whose sessions should be up: what they have said here. The manager compares it with what the other instance has heard.
    #[serde(default)]
    pub nvas: Vec<NvaReport>,
    /// Agents connected.
    pub agents: usize,
    /// Per route server: why its address cannot be bound ("address not present"), if so.
    pub address_problems: Vec<(String, String)>,
    /// Per peering with a circuit: that it is told nearly as much as it takes, or more.
    #[serde(default)]
    pub circuit_problems: Vec<(String, String)>,
    /// How much memory the process has, where that has a ceiling.
    #[serde(default)]
    pub memory: Option<MemoryReport>,
    /// Why agents cannot connect, if so. The process knows; the state machine leaves it open.
    #[serde(default)]
    pub agent_port_problem: Option<String>,
}

/// How much memory an instance process has, and may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryReport {
    /// Octets that it has: resident, as the system counts them.
    pub used_bytes: u64,
    /// Octets that it may have.
    pub ceiling_bytes: u64,
    /// It has nearly as many as it may: see [`crate::Instance::memory_mark`].
    pub is_short: bool,
    /// How many sessions were ended for it.
    pub peers_ended: u64,
    /// Whose was the last one (bgpConnection id).
    pub last_ended: Option<String>,
}
