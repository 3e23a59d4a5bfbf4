//! The decision process (RFC 4271 §9.1, az §2.5): numbered filters over the candidates of one prefix.
//!
//! MED and LOCAL_PREF are ignored as Azure ignores them, so no filter depends on pairs, and each keeps the candidates with the
//! lowest key. Paths that survive the steps up to [`DecisionStep::AsPathLength`] are of equal cost and become ECMP next hops;
//! the steps after it choose the one that is advertised. Deciding a table uses the same keys packed into a [`Rank`];
//! [`standings`] goes step by step and remembers where a path lost.

use std::cmp::Reverse;
use std::net::IpAddr;

use bgp::BgpIdentifier;
use bgp::wire::Origin;
use serde::{Deserialize, Serialize};

use crate::peers::{PeerInfo, RouteSource};
use crate::report::Standing;

/// Hub routing preference (az §2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Preference {
    /// ExpressRoute-learned before all others, then the shorter AS_PATH.
    #[default]
    ExpressRoute,
    /// VPN- and NVA-learned before ExpressRoute-learned, then the shorter AS_PATH.
    VpnGateway,
    /// The shorter AS_PATH, then ExpressRoute before others.
    ASPath,
}

/// The steps in their order; a loser remembers the one it lost at. With [`Preference::ASPath`] the fourth and fifth change
/// places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionStep {
    /// Our own routes (virtual network prefixes) before any learned one.
    LocalOrigin,
    /// Any other before what is of use only as a last resort: of a speaker that is away for long (RFC 9494 §4.4), or about to leave
    /// (RFC 8326).
    LastResort,
    /// Import preference set per peer (ours; equal by default).
    ImportPreference,
    /// Hub routing preference by source.
    HubRoutingPreference,
    /// The shorter AS_PATH (RFC 4271 §9.1.2.2 a).
    AsPathLength,
    /// The lower ORIGIN (b).
    Origin,
    /// eBGP before iBGP (d).
    ExternalOverInternal,
    /// The lower BGP Identifier (f).
    BgpIdentifier,
    /// The lower peer address (g).
    PeerAddress,
}

/// How good a choice is, comparable between instances: the lower the better. The tuple that the equal-cost steps used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rank(pub u64);

/// What the Loc-RIB holds for a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// Next hops of the equal-cost set, sorted, without repetition.
    pub next_hops: Vec<IpAddr>,
    /// Next hops that take over when all of `next_hops` are gone (the runner-up set); may be empty.
    pub fallback: Vec<IpAddr>,
    /// The rank of the equal-cost set.
    pub rank: Rank,
}

/// The steps whose survivors are of equal cost, in the order of a preference.
fn equal_cost_steps(preference: Preference) -> [DecisionStep; 4] {
    use DecisionStep::{AsPathLength, HubRoutingPreference, ImportPreference, LastResort};
    match preference {
        Preference::ExpressRoute | Preference::VpnGateway => {
            [LastResort, ImportPreference, HubRoutingPreference, AsPathLength]
        }
        Preference::ASPath => [LastResort, ImportPreference, AsPathLength, HubRoutingPreference],
    }
}

/// The steps that choose one of them to advertise. Step c of RFC 4271 §9.1.2.2 (MED) is left out as Azure does, e (interior
/// cost) since all next hops are on the virtual network.
const TIE_BREAKING_STEPS: [DecisionStep; 4] = [
    DecisionStep::Origin,
    DecisionStep::ExternalOverInternal,
    DecisionStep::BgpIdentifier,
    DecisionStep::PeerAddress,
];

/// A path as the steps see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) peer: &'a PeerInfo,
    pub(crate) as_path_len: u16,
    pub(crate) origin: Origin,
    /// The path itself says so; its peer may, too.
    pub(crate) last_resort: bool,
}

impl Candidate<'_> {
    /// What a step compares: the lowest stays.
    fn key(&self, step: DecisionStep, preference: Preference) -> u128 {
        match step {
            // Learned paths never compete with local ones: see `standings`.
            DecisionStep::LocalOrigin => 0,
            DecisionStep::LastResort => u128::from(self.last_resort || self.peer.last_resort),
            DecisionStep::ImportPreference => u128::from(inverted(self.peer.import_preference)),
            DecisionStep::HubRoutingPreference => u128::from(source_class(preference, self.peer.source)),
            DecisionStep::AsPathLength => u128::from(self.as_path_len),
            DecisionStep::Origin => self.origin as u128,
            DecisionStep::ExternalOverInternal => u128::from(!self.peer.external),
            DecisionStep::BgpIdentifier => u128::from(self.peer.identifier.0.to_bits()),
            DecisionStep::PeerAddress => address_key(self.peer.address),
        }
    }

    /// The keys of the tie-breaking steps in their order.
    #[inline]
    pub(crate) fn tie_break(&self) -> (Origin, Reverse<bool>, BgpIdentifier, IpAddr) {
        (
            self.origin,
            Reverse(self.peer.external),
            self.peer.identifier,
            self.peer.address,
        )
    }
}

/// Orders addresses as [`IpAddr`] does: IPv4 first.
fn address_key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The highest import preference: it has 31 bits of a rank, next to the one for what is a last resort.
pub const MAX_IMPORT_PREFERENCE: u32 = u32::MAX >> 1;

/// The higher import preference is the better one; ranks go the other way.
fn inverted(import_preference: u32) -> u32 {
    MAX_IMPORT_PREFERENCE - import_preference.min(MAX_IMPORT_PREFERENCE)
}

/// Hub routing preference as a number, the lower the better. NVAs count as VPN (az §2.5).
fn source_class(preference: Preference, source: RouteSource) -> u8 {
    let express_route = source == RouteSource::ExpressRoute;
    match preference {
        Preference::ExpressRoute | Preference::ASPath => u8::from(!express_route),
        Preference::VpnGateway => u8::from(express_route),
    }
}

/// The highest bit of a rank: a last resort is behind all others.
const LAST_RESORT: u64 = 1 << 63;

/// The part of a [`Rank`] that a peer settles; the path adds its length, and whether it is a last resort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RankBase {
    base: u64,
    length_shift: u32,
}

impl RankBase {
    pub(crate) fn new(preference: Preference, peer: &PeerInfo) -> RankBase {
        let class = u64::from(source_class(preference, peer.source));
        // Most significant first: last resort, import preference 31 bits, then class and length in the order of the steps.
        let (class_shift, length_shift) = match preference {
            Preference::ExpressRoute | Preference::VpnGateway => (16, 0),
            Preference::ASPath => (0, 8),
        };
        let last_resort = if peer.last_resort { LAST_RESORT } else { 0 };
        RankBase {
            base: last_resort | u64::from(inverted(peer.import_preference)) << 32 | class << class_shift,
            length_shift,
        }
    }

    #[inline]
    pub(crate) fn of_path(self, as_path_len: u16, last_resort: bool) -> Rank {
        let last_resort = if last_resort { LAST_RESORT } else { 0 };
        Rank(self.base | last_resort | u64::from(as_path_len) << self.length_shift)
    }
}

/// Where each candidate stands, step by step. With a local route for the prefix all learned paths lose at the first step:
/// what peers are told is ours.
pub(crate) fn standings(preference: Preference, has_local: bool, candidates: &[Candidate<'_>]) -> Vec<Standing> {
    if has_local {
        return vec![Standing::Lost(DecisionStep::LocalOrigin); candidates.len()];
    }
    let mut standings = vec![Standing::Best; candidates.len()];
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    for step in equal_cost_steps(preference) {
        filter(
            &mut left,
            |n| candidates[n].key(step, preference),
            |n| {
                standings[n] = Standing::Lost(step);
            },
        );
    }
    for step in TIE_BREAKING_STEPS {
        filter(
            &mut left,
            |n| candidates[n].key(step, preference),
            |n| {
                standings[n] = Standing::EqualCost;
            },
        );
    }
    // Two peers of one address cannot be told apart by the rules; the one added first wins.
    for n in left.into_iter().skip(1) {
        standings[n] = Standing::EqualCost;
    }
    standings
}

/// Keeps those with the lowest key, and tells who lost.
fn filter(left: &mut Vec<usize>, key: impl Fn(usize) -> u128, mut lost: impl FnMut(usize)) {
    let Some(lowest) = left.iter().map(|n| key(*n)).min() else {
        return;
    };
    left.retain(|n| {
        let stays = key(*n) == lowest;
        if !stays {
            lost(*n);
        }
        stays
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use RouteSource::{ExpressRoute, Nva, VpnGateway};
    use Standing::{Best, EqualCost, Lost};
    use bgp::Asn;
    use std::net::Ipv4Addr;

    /// A path that differs from the others only in what a test names.
    #[derive(Clone)]
    struct Case {
        peer: PeerInfo,
        as_path_len: u16,
        origin: Origin,
        last_resort: bool,
    }

    fn from(source: RouteSource, as_path_len: u16) -> Case {
        Case {
            peer: PeerInfo {
                identifier: BgpIdentifier(Ipv4Addr::new(10, 0, 0, 9)),
                address: Ipv4Addr::new(10, 0, 0, 9).into(),
                asn: Asn(65001),
                external: true,
                source,
                import_preference: 0,
                last_resort: false,
            },
            as_path_len,
            origin: Origin::Igp,
            last_resort: false,
        }
    }

    fn check(preference: Preference, cases: &[Case], expected: &[Standing]) {
        let candidates: Vec<Candidate<'_>> = cases
            .iter()
            .map(|case| Candidate {
                peer: &case.peer,
                as_path_len: case.as_path_len,
                origin: case.origin,
                last_resort: case.last_resort,
            })
            .collect();
        assert_eq!(standings(preference, false, &candidates), expected);
        let turned: Vec<_> = candidates.iter().rev().copied().collect();
        let mut standings = standings(preference, false, &turned);
        standings.reverse();
        assert_eq!(standings, expected, "the order of arrival must not matter");
        ranks_agree_with_steps(preference, cases, expected);
    }

    fn ranks_agree_with_steps(preference: Preference, cases: &[Case], expected: &[Standing]) {
        let ranks: Vec<Rank> = cases
            .iter()
            .map(|case| RankBase::new(preference, &case.peer).of_path(case.as_path_len, case.last_resort))
            .collect();
        let lowest = ranks.iter().min().copied();
        for (rank, standing) in ranks.iter().zip(expected) {
            assert_eq!(Some(*rank) == lowest, matches!(standing, Best | EqualCost));
        }
    }

    #[test]
    fn hub_routing_preference_chooses_between_sources() {
        let lost = Lost(DecisionStep::HubRoutingPreference);
        let long = Lost(DecisionStep::AsPathLength);
        let cases = [from(ExpressRoute, 3), from(VpnGateway, 2), from(Nva, 1)];
        check(Preference::ExpressRoute, &cases, &[Best, lost, lost]);
        check(Preference::VpnGateway, &cases, &[lost, long, Best]);
        check(Preference::ASPath, &cases, &[long, long, Best]);
    }

    #[test]
    fn with_as_path_preference_express_route_wins_a_tie() {
        let lost = Lost(DecisionStep::HubRoutingPreference);
        check(
            Preference::ASPath,
            &[from(ExpressRoute, 2), from(Nva, 2)],
            &[Best, lost],
        );
    }

    #[test]
    fn vpn_and_nva_of_one_length_are_of_equal_cost() {
        let mut lower = from(VpnGateway, 2);
        lower.peer.identifier = BgpIdentifier(Ipv4Addr::new(10, 0, 0, 1));
        for preference in [Preference::ExpressRoute, Preference::VpnGateway, Preference::ASPath] {
            check(preference, &[from(Nva, 2), lower.clone()], &[EqualCost, Best]);
        }
    }

    #[test]
    fn import_preference_comes_before_all_others() {
        let mut preferred = from(Nva, 200);
        preferred.peer.import_preference = 1;
        let lost = Lost(DecisionStep::ImportPreference);
        check(
            Preference::ExpressRoute,
            &[from(ExpressRoute, 1), preferred],
            &[lost, Best],
        );
    }

    #[test]
    fn a_last_resort_loses_to_whatever_else_there_is() {
        let lost = Lost(DecisionStep::LastResort);
        let mut stale = from(ExpressRoute, 1);
        stale.peer.import_preference = MAX_IMPORT_PREFERENCE;
        stale.last_resort = true;
        let mut drained = stale.clone();
        (drained.peer.last_resort, drained.last_resort) = (true, false);
        for preference in [Preference::ExpressRoute, Preference::VpnGateway, Preference::ASPath] {
            let cases = [stale.clone(), from(Nva, 200), drained.clone()];
            check(preference, &cases, &[lost, Best, lost]);
        }
        // Among themselves the other steps decide.
        let mut longer = stale.clone();
        longer.as_path_len = 2;
        let cases = [longer, stale];
        check(
            Preference::ExpressRoute,
            &cases,
            &[Lost(DecisionStep::AsPathLength), Best],
        );
    }

    #[test]
    fn no_import_preference_is_so_high_that_it_passes_for_another() {
        let mut highest = from(Nva, 1);
        highest.peer.import_preference = u32::MAX;
        let mut next = from(Nva, 1);
        next.peer.import_preference = MAX_IMPORT_PREFERENCE - 1;
        let lost = Lost(DecisionStep::ImportPreference);
        check(Preference::ExpressRoute, &[next, highest], &[lost, Best]);
    }

    #[test]
    fn ties_are_broken_in_the_order_of_the_rfc() {
        let mut origin = from(Nva, 1);
        origin.origin = Origin::Egp;
        origin.peer.identifier = BgpIdentifier(Ipv4Addr::new(1, 1, 1, 1));
        check(Preference::ExpressRoute, &[origin, from(Nva, 1)], &[EqualCost, Best]);

        let mut internal = from(Nva, 1);
        internal.peer.external = false;
        internal.peer.identifier = BgpIdentifier(Ipv4Addr::new(1, 1, 1, 1));
        check(Preference::ExpressRoute, &[internal, from(Nva, 1)], &[EqualCost, Best]);

        let mut identifier = from(Nva, 1);
        identifier.peer.identifier = BgpIdentifier(Ipv4Addr::new(9, 0, 0, 0));
        identifier.peer.address = Ipv4Addr::new(10, 0, 0, 200).into();
        check(
            Preference::ExpressRoute,
            &[from(Nva, 1), identifier],
            &[EqualCost, Best],
        );

        let mut address = from(Nva, 1);
        address.peer.address = Ipv4Addr::new(10, 0, 0, 8).into();
        check(Preference::ExpressRoute, &[from(Nva, 1), address], &[EqualCost, Best]);
    }

    #[test]
    fn a_local_route_beats_all_learned_ones() {
        let case = from(Nva, 0);
        let candidate = Candidate {
            peer: &case.peer,
            as_path_len: 0,
            origin: Origin::Igp,
            last_resort: false,
        };
        let lost = Lost(DecisionStep::LocalOrigin);
        assert_eq!(standings(Preference::ExpressRoute, true, &[candidate]), [lost]);
    }
}
