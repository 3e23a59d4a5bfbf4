//! One speaker of this instance (RFC 4271 §1.1), a route server or a gateway: its RIB, its rules, and what virtual networks make of them.
//!
//! Speakers are one kind of thing. What distinguishes them is their role, and of that only [`crate::policy`] knows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::IpNet;
use bgp::session::{ConnectionId, Negotiated};
use bgp::wire::PathAttributes;
use rib::{Change, GroupKey, HashKey, PeerIndex, Rib, RouteSource, Standing};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::arrival::Arrival;
use crate::instance::PeerKey;
use crate::intent::{PeerIntent, PersistRoutes};
use crate::peer::bgp_identifier;
use crate::policy::{ExportRules, ImportRules, next_hop_self};
use crate::refresh::Refresh;
use crate::route_map::RouteMap;
use crate::total_limit::TotalLimit;
use crate::vnet::{Changed, LocRib, Lost, Replaced, Topology};

mod inbound;
mod intent;
mod static_routes;

pub(crate) use inbound::{Inbound, Made};
pub(crate) use intent::{Role, SpeakerIntent, precedence, source_of};
use static_routes::StaticRoutes;

/// An instance that only adds routes for longer than a day has not converged late, it has a wrong setting.
const MAX_CONVERGE_SECS: u64 = 24 * 3600;

/// One speaker.
#[derive(Debug)]
pub(crate) struct Speaker {
    pub(crate) intent: SpeakerIntent,
    pub(crate) rib: Rib,
    /// For tables of ours whose keys peers choose.
    key: HashKey,
    import: ImportRules,
    total: TotalLimit,
    /// Peers with an inbound route map.
    pub(crate) inbound: BTreeMap<PeerIndex, Inbound>,
    pub(crate) export: ExportRules,
    /// In the order of the intent.
    pub(crate) peers: Vec<PeerKey>,
    /// Established sessions.
    pub(crate) connections: FxHashMap<PeerIndex, ConnectionId>,
    /// Why addresses of its cannot be bound, for people.
    pub(crate) address_problems: BTreeMap<IpAddr, String>,
    /// When converging ends whatever the peers say.
    pub(crate) converge_by: Instant,
    /// Something happened to the RIB since it was last settled.
    pub(crate) unsettled: bool,
    /// Rules, limits or maps changed: every route is to be judged anew.
    reconsider_due: bool,
    /// How often that was done.
    #[cfg(test)]
    pub(crate) reconsidered: usize,
    /// Tables that are on their way.
    pub(crate) arrival: Arrival,
    /// When NVAs are asked for their routes again.
    pub(crate) refresh: Refresh,
    /// The Loc-RIB for effective routes; kept only while agents are there.
    loc_rib: Option<LocRib>,
    /// What changed in the Loc-RIB when it was last settled.
    changed: Arc<Changed>,
    /// The Loc-RIB was not at hand before: whatever was made of an earlier one is void.
    started_over: bool,
    local: Vec<(IpNet, RouteSource)>,
    /// The addresses that `local` was originated with.
    local_next_hops: Option<(IpAddr, Option<Ipv6Addr>)>,
    static_routes: StaticRoutes,
}

/// When converging that begins now ends.
fn converge_by(intent: &SpeakerIntent, now: Instant, most_secs: u64) -> Instant {
    now + Duration::from_secs(intent.converge_secs.min(most_secs))
}

impl Speaker {
    pub(crate) fn new(intent: SpeakerIntent, key: HashKey, now: Instant, topology: &Topology) -> Speaker {
        let mut speaker = Speaker {
            rib: Rib::new(intent.preference, key),
            key,
            import: import_rules(&intent, topology),
            total: TotalLimit::new(key),
            inbound: BTreeMap::new(),
            export: export_rules(&intent, &[]),
            peers: Vec::new(),
            connections: FxHashMap::default(),
            address_problems: BTreeMap::new(),
            converge_by: converge_by(&intent, now, MAX_CONVERGE_SECS),
            unsettled: true,
            reconsider_due: false,
            #[cfg(test)]
            reconsidered: 0,
            arrival: Arrival::default(),
            refresh: Refresh::begin(spokes(&intent, topology)),
            loc_rib: None,
            changed: Arc::default(),
            started_over: false,
            local: Vec::new(),
            local_next_hops: None,
            static_routes: StaticRoutes::default(),
            intent,
        };
        speaker.set_local(topology);
        speaker.total.set(speaker.intent.total_routes, speaker.local.len());
        speaker
    }

    /// Its peers are to be heard out again, within so many seconds.
    pub(crate) fn converge_again(&mut self, now: Instant, most_secs: u64) {
        self.converge_by = converge_by(&self.intent, now, most_secs);
        self.unsettled = true;
    }

    /// Takes over settings and topology: every view gets its content anew, and every route its verdict, where the rules changed, with
    /// [`Speaker::reconsider_if_due`].
    pub(crate) fn update(&mut self, now: Instant, intent: SpeakerIntent, topology: &Topology) {
        if self.intent.preference != intent.preference {
            self.rib.set_preference(intent.preference);
        }
        let export = export_rules(&intent, &self.export.route_maps);
        if self.export != export {
            self.export = export;
            self.rib.export_policy_changed();
        }
        let import = import_rules(&intent, topology);
        let other_rules = self.import != import;
        self.import = import;
        self.refresh.set_spokes(now, spokes(&intent, topology));
        self.intent = intent;
        let own: Vec<IpAddr> = self.intent.addresses().collect();
        self.address_problems.retain(|address, _| own.contains(address));
        self.set_local(topology);
        let other_limit = self.total.set(self.intent.total_routes, self.local.len());
        self.reconsider_due |= other_rules || other_limit;
        self.unsettled = true;
    }

    /// With whom a peer is told the same.
    pub(crate) fn group(&self, intent: &PeerIntent, negotiated: &Negotiated, is_drained: bool) -> GroupKey {
        let map = intent.outbound_route_map.as_ref();
        let shape = map.and_then(|map| {
            self.export
                .route_maps
                .iter()
                .position(|each| each.as_ref() == Some(map))
        });
        GroupKey {
            encode: negotiated.encode,
            families: negotiated.capabilities.families,
            source: source_of(intent.kind),
            asn: (intent.asn == self.intent.asn).then_some(intent.asn),
            shape: shape.map(|number| number as u32),
            long_lived: negotiated.restart.is_some_and(|restart| restart.is_long_lived()),
            graceful_shutdown: is_drained,
        }
    }

    /// Originates the prefixes of the virtual network and of peered ones that use its gateways (az §2.4).
    fn set_local(&mut self, topology: &Topology) {
        let (own, transit) = space(&self.intent, topology);
        let own = own.into_iter().map(|prefix| (prefix, RouteSource::VirtualNetwork));
        let transit = transit
            .into_iter()
            .map(|prefix| (prefix, RouteSource::PeeredVirtualNetwork));
        let mut seen = FxHashSet::default();
        let local: Vec<(IpNet, RouteSource)> = own
            .chain(transit)
            .map(|(prefix, source)| (prefix.trunc(), source))
            .filter(|(prefix, _)| self.intent.ipv6 || matches!(prefix, IpNet::V4(_)))
            .filter(|(prefix, _)| seen.insert(*prefix))
            .collect();
        let next_hops = (self.intent.address, self.intent.address_v6);
        if local == self.local && self.local_next_hops == Some(next_hops) {
            return;
        }
        self.local_next_hops = Some(next_hops);
        let attributes = |ipv6| {
            let next_hop = next_hop_self(self.intent.address, self.intent.address_v6, ipv6)?;
            Some(Arc::new(PathAttributes::builder(next_hop).build()))
        };
        let (v4, v6) = (attributes(false), attributes(true));
        let routes: Vec<_> = local
            .iter()
            .filter_map(|(prefix, source)| {
                let attributes = if matches!(prefix, IpNet::V6(_)) { &v6 } else { &v4 };
                Some((*prefix, *source, attributes.clone()?))
            })
            .collect();
        self.rib.set_local(&routes);
        self.local = local;
    }

    /// What a change makes undecided, a whole table perhaps, is decided piece by piece, but from now on.
    pub(crate) fn piecemeal(&mut self, change: impl FnOnce(&mut Speaker)) {
        self.rib.put_off(true);
        change(self);
        self.rib.put_off(false);
        self.rib.call_due();
        self.unsettled = true;
    }

    /// Decides what changed, but for tables that are still arriving.
    pub(crate) fn decide(&mut self, now: Instant) -> Vec<Change> {
        if self.arrival.take_due(now) {
            self.rib.call_due();
        }
        self.decide_within_limit()
    }

    /// Keeps the Loc-RIB at hand for the tables of agents: takes these changes over, all there is at first.
    pub(crate) fn keep(&mut self, changes: Vec<Change>) {
        self.started_over |= self.loc_rib.is_none();
        let loc_rib = self.loc_rib.get_or_insert_with(|| LocRib::new(self.key));
        self.changed = Arc::new(loc_rib.apply(changes));
    }

    /// These next hops are gone; agents' tables are told so before any prefix is decided. Choices and what stands in for them.
    pub(crate) fn lose(&mut self, lost: &Lost) -> Vec<Replaced> {
        let Some(loc_rib) = &mut self.loc_rib else {
            return Vec::new();
        };
        let replaced = loc_rib.lose(lost);
        if !replaced.is_empty() {
            self.rib.keep_unchanged(true);
        }
        replaced
    }

    /// The Loc-RIB says what tables were told ([`Speaker::lose`]), prefix by prefix.
    pub(crate) fn take_over_stand_ins(&mut self) {
        if let Some(loc_rib) = &mut self.loc_rib {
            loc_rib.take_over_stand_ins();
        }
    }

    /// Whether choices stand in for others.
    pub(crate) fn has_stand_ins(&self) -> bool {
        self.loc_rib.as_ref().is_some_and(LocRib::has_stand_ins)
    }

    /// What stood in for others does so no longer, if every prefix has been decided: true when that has just come about.
    pub(crate) fn has_decided_losses(&mut self) -> bool {
        let is_decided = self.rib.is_decided();
        let Some(loc_rib) = self
            .loc_rib
            .as_mut()
            .filter(|loc_rib| is_decided && loc_rib.has_stand_ins())
        else {
            return false;
        };
        loc_rib.is_decided();
        self.rib.keep_unchanged(false);
        true
    }

    /// Adds the prefixes that were decided as before: for tables they may not be as before.
    pub(crate) fn add_unchanged(&mut self, changes: &mut Vec<Change>) {
        let unchanged = self.rib.take_unchanged();
        if !unchanged.is_empty() {
            let changed: FxHashSet<IpNet> = changes.iter().map(|change| change.prefix).collect();
            changes.extend(unchanged.into_iter().filter(|change| !changed.contains(&change.prefix)));
        }
    }

    /// Nobody has tables.
    pub(crate) fn keep_nothing(&mut self) {
        self.loc_rib = None;
        self.rib.keep_unchanged(false);
    }

    fn decide_within_limit(&mut self) -> Vec<Change> {
        let mut changes = self.rib.decide();
        let all = self.rib.is_decided();
        let rib = &self.rib;
        let holds = |prefix: &IpNet| {
            let mut paths = rib.explain(prefix).into_iter();
            paths.any(|path| !matches!(path.standing, Standing::Rejected(_)))
        };
        if self.total.decided(&changes, all, holds) {
            self.reconsider();
            let more = self.rib.decide();
            self.total.decided(&more, all, |_| true);
            let mut later: Vec<IpNet> = more.iter().map(|change| change.prefix).collect();
            later.sort_unstable();
            changes.retain(|change| later.binary_search(&change.prefix).is_err());
            changes.extend(more);
        }
        changes
    }

    pub(crate) fn loc_rib(&self) -> Option<&LocRib> {
        self.loc_rib.as_ref()
    }

    pub(crate) fn changed(&self) -> &Arc<Changed> {
        &self.changed
    }

    pub(crate) fn started_over(&self) -> bool {
        self.started_over
    }

    pub(crate) fn forget_changed(&mut self) {
        self.changed = Arc::default();
        self.started_over = false;
    }
}

/// Those that matter to a route server: NVAs are asked for their routes when one comes, gateways ask nobody.
fn spokes(intent: &SpeakerIntent, topology: &Topology) -> BTreeSet<String> {
    let network = intent
        .virtual_network
        .as_ref()
        .filter(|_| intent.role == Role::RouteServer);
    let spokes = network.into_iter().flat_map(|network| topology.spokes(network));
    spokes.map(|network| network.id.clone()).collect()
}

/// The prefixes of a speaker's virtual network, and of the spokes that use its gateways.
fn space(intent: &SpeakerIntent, topology: &Topology) -> (Vec<IpNet>, Vec<IpNet>) {
    let network = intent.virtual_network.as_ref();
    network.map_or_else(Default::default, |network| topology.space(network))
}

fn import_rules(intent: &SpeakerIntent, topology: &Topology) -> ImportRules {
    let (own, transit) = space(intent, topology);
    let inside = own.into_iter().chain(transit).collect();
    ImportRules::new(intent, inside)
}

fn export_rules(intent: &SpeakerIntent, maps_before: &[Option<RouteMap>]) -> ExportRules {
    ExportRules {
        role: intent.role,
        asn: intent.asn,
        address: intent.address,
        address_v6: intent.address_v6,
        identifier: bgp_identifier(intent.address),
        branch_to_branch: intent.branch_to_branch,
        tells_stale: intent.persist_routes != PersistRoutes::Off,
        route_maps: outbound_route_maps(intent, maps_before),
    }
}

/// Each outbound route map once: where it stands is its shape's number. One that was there keeps its place, and one that comes takes that
/// of one that goes: so the peers of a map that is edited stay a group, and are told the difference.
fn outbound_route_maps(intent: &SpeakerIntent, before: &[Option<RouteMap>]) -> Vec<Option<RouteMap>> {
    let wanted = || intent.peers.iter().filter_map(|peer| peer.outbound_route_map.as_ref());
    let keep = |map: &Option<RouteMap>| map.clone().filter(|map| wanted().any(|each| each == map));
    let mut maps: Vec<Option<RouteMap>> = before.iter().map(keep).collect();
    for map in wanted() {
        if maps.iter().flatten().any(|each| each == map) {
            continue;
        }
        let was_free = |place: &usize| before.get(*place).is_none_or(Option::is_none);
        let free = (0..maps.len()).filter(|place| maps[*place].is_none());
        match free.min_by_key(was_free) {
            Some(place) => maps[place] = Some(map.clone()),
            None => maps.push(Some(map.clone())),
        }
    }
    maps.truncate(maps.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
    maps
}
