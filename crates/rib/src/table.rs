//! The RIB: all paths of all peers, the choice per prefix, and the views that peers are told.

use std::net::IpAddr;
use std::sync::Arc;

use bgp::wire::{Announcement, PathAttributes};
use bgp::{Asn, BgpIdentifier, Family, IpNet};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::decision::{Choice, Preference};
use crate::export::{ExportPolicy, GroupKey};
use crate::policy::ImportPolicy;
use crate::report::PathReport;

/// A peer in this RIB; small and dense, reused after [`Rib::remove_peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIndex(pub u32);

/// Where a route came from, as hub routing preference sees it (az §2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RouteSource {
    /// The virtual network's own prefixes.
    VirtualNetwork,
    /// Prefixes of peered virtual networks that use our gateways.
    PeeredVirtualNetwork,
    /// A network virtual appliance.
    Nva,
    /// A VPN gateway.
    VpnGateway,
    /// An ExpressRoute gateway.
    ExpressRoute,
}

/// What the decision process must know of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its BGP Identifier (of the current session).
    pub identifier: BgpIdentifier,
    /// Its address.
    pub address: IpAddr,
    /// Its AS number.
    pub asn: Asn,
    /// eBGP (true) or iBGP.
    pub external: bool,
    /// What kind of peer it is.
    pub source: RouteSource,
    /// Higher is preferred before anything else but local routes; 0 by default (ours, not Azure's).
    pub import_preference: u32,
}

/// A Loc-RIB entry changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// For this prefix.
    pub prefix: IpNet,
    /// What holds now, over learned routes only (local routes never appear here); `None`: nothing. Equal choices that hold at
    /// the same time are one allocation, so prefixes can be grouped by pointer.
    pub choice: Option<Arc<Choice>>,
}

/// Sizes, for limits, reports and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Distinct prefixes in the Adj-RIB-In, rejected ones included.
    pub received: usize,
    /// Of those, accepted ones.
    pub accepted: usize,
    /// Prefixes in the Adj-RIB-Out.
    pub advertised: usize,
}

/// All routing state of one route server instance.
#[derive(Debug)]
pub struct Rib {}

#[allow(clippy::todo, unused_variables, missing_docs)]
impl Rib {
    pub fn new(preference: Preference) -> Rib {
        todo!()
    }

    // Peers.
    /// Adds a peer without routes; it is told nothing until [`Rib::attach`].
    pub fn add_peer(&mut self, info: PeerInfo) -> PeerIndex {
        todo!()
    }
    /// The same peer, new facts (a new session's identifier, another import preference).
    pub fn update_peer(&mut self, peer: PeerIndex, info: PeerInfo) {
        todo!()
    }
    /// Forgets a peer and all that it said.
    pub fn remove_peer(&mut self, peer: PeerIndex) {
        todo!()
    }

    // Adj-RIB-In.
    /// Stores what a peer announces, replacing what it said of the same prefixes before.
    pub fn announce(&mut self, peer: PeerIndex, announcement: &Announcement, policy: &impl ImportPolicy) {
        todo!()
    }
    /// Removes prefixes of a peer; unknown ones are no error.
    pub fn withdraw(&mut self, peer: PeerIndex, prefixes: &[IpNet]) {
        todo!()
    }
    /// Removes all routes of a peer (its session went down).
    pub fn clear_peer(&mut self, peer: PeerIndex) {
        todo!()
    }
    /// BoRR (RFC 7313 §4): marks the family's routes stale.
    pub fn begin_refresh(&mut self, peer: PeerIndex, family: Family) {
        todo!()
    }
    /// EoRR: removes what is still stale.
    pub fn end_refresh(&mut self, peer: PeerIndex, family: Family) {
        todo!()
    }
    /// Asks the policy again about every stored path.
    pub fn reconsider(&mut self, policy: &impl ImportPolicy) {
        todo!()
    }
    /// Another hub routing preference: everything is decided again.
    pub fn set_preference(&mut self, preference: Preference) {
        todo!()
    }

    // Local routes.
    /// Sets the routes we originate: exactly these, with their source and attributes.
    pub fn set_local(&mut self, routes: &[(IpNet, RouteSource, Arc<PathAttributes>)]) {
        todo!()
    }

    // Decision.
    /// Decides every prefix that something happened to since the last call, and hands out what changed in the Loc-RIB.
    /// What is to be told to peers becomes pending.
    pub fn decide(&mut self) -> Vec<Change> {
        todo!()
    }

    // Adj-RIB-Out.
    /// The peer is Established: it is told everything its group is told, then End-of-RIB, then changes.
    pub fn attach(&mut self, peer: PeerIndex, group: GroupKey) {
        todo!()
    }
    /// The peer is told nothing any more.
    pub fn detach(&mut self, peer: PeerIndex) {
        todo!()
    }
    /// The peer asked for a family again (RFC 2918); with `enhanced`, BoRR and EoRR go around it.
    pub fn refresh(&mut self, peer: PeerIndex, family: Family, enhanced: bool) {
        todo!()
    }
    /// Whether the peer takes more now. A peer that doesn't gathers replaceable pending state.
    pub fn set_writable(&mut self, peer: PeerIndex, writable: bool) {
        todo!()
    }
    /// Export policy changed (branch-to-branch): every view is computed again and differences become pending.
    pub fn export_policy_changed(&mut self) {
        todo!()
    }
    /// Writes what is pending to the writable peers: packed UPDATEs, few large chunks, shared between peers where equal. True
    /// when a writable peer still has something to come (a large table goes out in bounded chunks): call again soon.
    pub fn flush(&mut self, policy: &impl ExportPolicy, write: &mut impl FnMut(PeerIndex, Bytes)) -> bool {
        todo!()
    }

    // Reports.
    pub fn counts(&self, peer: PeerIndex) -> Counts {
        todo!()
    }
    /// Every path for a prefix, with its standing.
    pub fn explain(&self, prefix: &IpNet) -> Vec<PathReport> {
        todo!()
    }
    /// Everything received from a peer.
    pub fn received(&self, peer: PeerIndex) -> Vec<PathReport> {
        todo!()
    }
    /// Everything the peer has been told or is about to be, as it is on the wire.
    pub fn advertised(&self, peer: PeerIndex, policy: &impl ExportPolicy) -> Vec<(IpNet, Arc<PathAttributes>)> {
        todo!()
    }
    /// The Loc-RIB over learned routes.
    pub fn loc_rib(&self) -> Vec<Change> {
        todo!()
    }
    /// Every prefix that any peer sent.
    pub fn prefixes(&self) -> Vec<IpNet> {
        todo!()
    }
}
