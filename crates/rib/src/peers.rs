//! Peers as the RIB sees them: a small number each, and what the decision process must know.

use std::net::IpAddr;

use bgp::{Asn, BgpIdentifier, IpNet};
use serde::{Deserialize, Serialize};

use crate::decision::{Preference, RankBase};
use crate::ids::IdAllocator;
use crate::prefix_table::PrefixId;
use crate::said::NextHopsSaid;
use crate::unheld::Unheld;

/// A peer in this RIB; small and dense, reused some time after [`crate::Rib::remove_peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIndex(pub u32);

impl PeerIndex {
    /// Stands for us where a peer is meant: who "sent" local routes.
    pub(crate) const LOCAL: PeerIndex = PeerIndex(u32::MAX);
    /// Stands for nobody.
    pub(crate) const NOBODY: PeerIndex = PeerIndex(u32::MAX - 1);
}

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
    /// A route server, as gateways hear it.
    RouteServer,
    /// A site's router.
    Site,
    /// The provider's edge of a circuit.
    ProviderEdge,
    /// Nobody: a prefix that is said to be behind a tunnel.
    Static,
}

/// Who sent a route, as policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sender {
    /// What it is.
    pub source: RouteSource,
    /// The BGP Identifier of a peer of our own AS (iBGP); `None` for other peers, and for what we originate.
    pub internal: Option<BgpIdentifier>,
}

impl Sender {
    /// One outside our AS, or ourselves.
    pub const fn external(source: RouteSource) -> Sender {
        Sender { source, internal: None }
    }
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
    /// Higher is preferred before anything else but local routes; 0 by default (ours, not Azure's). What is over
    /// [`crate::decision::MAX_IMPORT_PREFERENCE`] counts as that.
    pub import_preference: u32,
    /// All that it says is of use only where nobody else says anything: it is about to leave.
    pub last_resort: bool,
}

impl PeerInfo {
    /// The peer as policy sees it.
    #[inline]
    pub fn sender(&self) -> Sender {
        Sender {
            source: self.source,
            internal: (!self.external).then_some(self.identifier),
        }
    }
}

/// A peer's state.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) info: PeerInfo,
    pub(crate) rank: RankBase,
    pub(crate) received: usize,
    /// Of the prefixes received, by [`fingerprint`].
    pub(crate) fingerprint: u64,
    pub(crate) accepted: usize,
    /// Of those received, paths that it is to say again.
    pub(crate) stale: usize,
    /// See [`crate::Counts::octets`].
    pub(crate) octets: usize,
    pub(crate) unheld: Unheld,
    pub(crate) next_hops: NextHopsSaid,
    /// Whose words these are, if not its own.
    speaks_for: Option<PeerIndex>,
    /// The prefix that it will probably speak of next.
    pub(crate) likely_next: PrefixId,
}

/// What a prefix adds to the fingerprint of a set, and takes from it: combined by XOR, so that order and history don't matter. It tells sets
/// apart that differ by chance, not ones that somebody chose to look alike.
#[inline]
pub(crate) fn fingerprint(prefix: &IpNet) -> u64 {
    let (high, low, family) = match prefix.addr() {
        IpAddr::V4(address) => (0, u64::from(u32::from(address)), 4),
        IpAddr::V6(address) => {
            let [high, low] = [64, 0].map(|shift| (u128::from(address) >> shift) as u64);
            (high, low, 6)
        }
    };
    let length = u64::from(prefix.prefix_len()) << 8 | family;
    [high, low, length].into_iter().fold(0, |mixed, word| mix(mixed ^ word))
}

/// The finalizer of MurmurHash3: each bit of the input changes about half of the output's.
#[inline]
fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let word = (word ^ word >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ word >> 33
}

/// All peers.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: Vec<Option<Peer>>,
    ids: IdAllocator,
    /// Numbers that must rest until nothing decided or told names the removed peer any more.
    resting: Vec<PeerIndex>,
}

impl Peers {
    pub(crate) fn add(&mut self, info: PeerInfo, preference: Preference) -> PeerIndex {
        let index = self.ids.allocate();
        let peer = Peer {
            rank: RankBase::new(preference, &info),
            info,
            received: 0,
            fingerprint: 0,
            accepted: 0,
            stale: 0,
            octets: 0,
            unheld: Unheld::default(),
            next_hops: NextHopsSaid::default(),
            speaks_for: None,
            likely_next: PrefixId(0),
        };
        match self.peers.get_mut(index as usize) {
            Some(free) => *free = Some(peer),
            None => self.peers.push(Some(peer)),
        }
        PeerIndex(index)
    }

    /// From now on what it says counts as another's words.
    pub(crate) fn set_speaks_for(&mut self, index: PeerIndex, other: PeerIndex) {
        if let Some(peer) = self.get_mut(index) {
            peer.speaks_for = Some(other);
        }
    }

    /// Whose words a peer's routes are: they are not told back to that one.
    #[inline]
    pub(crate) fn speaks_for(&self, index: PeerIndex) -> PeerIndex {
        let other = self.get(index).and_then(|peer| peer.speaks_for);
        other.unwrap_or(index)
    }

    /// Sets a peer's facts. Whether that changed anything.
    pub(crate) fn update(&mut self, index: PeerIndex, info: PeerInfo, preference: Preference) -> bool {
        let Some(peer) = self.get_mut(index) else {
            return false;
        };
        let changed = peer.info != info;
        peer.rank = RankBase::new(preference, &info);
        peer.info = info;
        changed
    }

    /// Removes a peer; its number rests.
    pub(crate) fn remove(&mut self, index: PeerIndex) {
        if let Some(slot) = self.peers.get_mut(index.0 as usize)
            && slot.take().is_some()
        {
            self.resting.push(index);
        }
    }

    /// All peers, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerIndex, &Peer)> {
        let numbered = self.peers.iter().enumerate();
        numbered.filter_map(|(index, peer)| Some((PeerIndex(index as u32), peer.as_ref()?)))
    }

    /// Nothing names removed peers any more.
    pub(crate) fn reuse_numbers(&mut self) {
        for index in self.resting.drain(..) {
            self.ids.release(index.0);
        }
        self.peers.truncate(self.ids.len());
    }

    #[inline]
    pub(crate) fn get(&self, index: PeerIndex) -> Option<&Peer> {
        self.peers.get(index.0 as usize)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: PeerIndex) -> Option<&mut Peer> {
        self.peers.get_mut(index.0 as usize)?.as_mut()
    }

    /// Another hub routing preference.
    pub(crate) fn set_preference(&mut self, preference: Preference) {
        for peer in self.peers.iter_mut().flatten() {
            peer.rank = RankBase::new(preference, &peer.info);
        }
    }
}
