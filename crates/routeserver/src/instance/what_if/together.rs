//! The instances of both processes together, as they would be with an intent: what speakers of ours say to each other is carried from one to
//! the other in memory, whichever process each is in, until nobody has anything else to say.
//!
//! ```text
//! what others have said ─► route server ─► gateway ─► provider's edge      round by round: all decide, then
//!                             ▲               │                              what each tells differently is heard
//!                             └───────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bgp::session::{ConnectionId, Direction, Negotiated};
use bgp::wire::{Announcement, CapabilitySet, EncodeContext, PathAttributes};
use bgp::{BgpIdentifier, Family, FamilySet, IpNet};

use super::{Heard, Outline};
use crate::instance::{Instance, PeerKey};
use crate::intent::{Intent, PeerKind};
use crate::peer::{Peer, bgp_identifier};
use crate::speaker::{Role, Speaker};

/// A word goes from a site by its gateway, a route server, the other gateway and a circuit to a customer in five. What needs so many more goes
/// round in a circle.
const MAX_ROUNDS: usize = 64;

/// What a process has: its number, and what its peers have said.
pub(super) type Process<'h> = (usize, &'h [Heard]);

/// An instance as it would be.
pub(super) struct Assumed {
    pub(super) instance: Instance,
    /// Its sessions (ids) with speakers of ours that are carried here.
    pub(super) followed: BTreeSet<String>,
}

/// One end of a session between speakers of ours: in which instance, and which peering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End(usize, PeerKey);

/// What one end tells the other.
type Said = BTreeMap<IpNet, Arc<PathAttributes>>;

/// The first of these processes, with all of them following an intent. `outline` is of the first, too.
pub(super) fn assume(outline: &Outline, processes: &[Process<'_>], intent: &Arc<Intent>, now: Instant) -> Assumed {
    let follows = |(index, _): &Process<'_>| {
        let mut instance = Instance::new(*index, 0, 0, outline.key, now);
        instance.apply_intent(now, intent.clone());
        instance
    };
    let mut instances: Vec<Instance> = processes.iter().map(follows).collect();
    let pairs = pairs(&instances);
    let carried: BTreeSet<End> = pairs.iter().flatten().copied().collect();
    for (place, (_, heard)) in processes.iter().enumerate() {
        for each in *heard {
            let key = instances[place].peer_ids.get(&each.peer).copied();
            // What a session between speakers of ours brought before it ended is kept; what it brings now is carried.
            let is_up = each.negotiated.is_some();
            match is_up && key.is_some_and(|key| carried.contains(&End(place, key))) {
                true => {}
                false => instances[place].assume(now, each),
            }
        }
    }
    connect(&mut instances, &pairs, outline, processes, now);
    let settled = exchange(&mut instances, &pairs, now);
    let instance = instances.swap_remove(0);
    let own = carried.iter().filter(|End(place, _)| settled && *place == 0);
    let ids = own.filter_map(|End(_, key)| Some(instance.peers.get(key)?.intent.id.clone()));
    Assumed {
        followed: ids.collect(),
        instance,
    }
}

/// Sessions between speakers of ours: both ends are here, and there is no doubt which they are.
fn pairs(instances: &[Instance]) -> Vec<[End; 2]> {
    let mut by_addresses: BTreeMap<(IpAddr, IpAddr), Vec<End>> = BTreeMap::new();
    for (place, instance) in instances.iter().enumerate() {
        for (key, peer) in &instance.peers {
            if let Some(speaker) = instance
                .speakers
                .get(&peer.speaker)
                .filter(|_| peer.intent.kind.is_of_ours())
            {
                let addresses = (speaker.intent.address, peer.intent.address);
                by_addresses.entry(addresses).or_default().push(End(place, *key));
            }
        }
    }
    let mut pairs = Vec::new();
    for ((near, far), ends) in by_addresses.iter().filter(|((near, far), _)| near < far) {
        let others = by_addresses.get(&(*far, *near)).map_or(&[][..], Vec::as_slice);
        for end in ends {
            if let Some(other) = other_end(instances, *end, others)
                && other_end(instances, other, ends) == Some(*end)
            {
                pairs.push([*end, other]);
            }
        }
    }
    pairs
}

/// The one that fits. Networks that know nothing of each other may have the same addresses, so of several it is the one that is called after
/// the same connection.
fn other_end(instances: &[Instance], end: End, others: &[End]) -> Option<End> {
    let mut fitting: Vec<End> = others
        .iter()
        .filter(|other| fit(instances, end, **other))
        .copied()
        .collect();
    let connection = |end: End| Some(connection(&at(instances, end)?.0.intent.id));
    if fitting.len() > 1 {
        fitting.retain(|other| connection(*other) == connection(end));
    }
    match fitting[..] {
        [one] => Some(one),
        _ => None,
    }
}

/// Whether each is what the other takes it for; a route server and its gateways are in one network.
fn fit(instances: &[Instance], near: End, far: End) -> bool {
    let (Some((near, near_speaker)), Some((far, far_speaker))) = (at(instances, near), at(instances, far)) else {
        return false;
    };
    let networks = [near_speaker, far_speaker].map(|speaker| speaker.intent.virtual_network.as_ref());
    let apart = matches!(networks, [Some(near), Some(far)] if near != far);
    is(near.intent.kind, far_speaker) && is(far.intent.kind, near_speaker) && !apart
}

fn is(kind: PeerKind, speaker: &Speaker) -> bool {
    let role = match kind {
        PeerKind::RouteServer => Role::RouteServer,
        PeerKind::VpnGateway => Role::VpnGateway,
        PeerKind::ExpressRouteGateway => Role::ExpressRouteGateway,
        PeerKind::ProviderEdge => Role::ProviderEdge,
        PeerKind::Nva | PeerKind::Site => return false,
    };
    speaker.intent.role == role
}

/// The connection that a peering over a circuit is of.
fn connection(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(connection, _)| connection)
}

fn at(instances: &[Instance], End(place, key): End) -> Option<(&Peer, &Speaker)> {
    let peer = instances[place].peers.get(&key)?;
    Some((peer, instances[place].speakers.get(&peer.speaker)?))
}

/// Sessions that are Established, and those that the intent brings.
fn connect(instances: &mut [Instance], pairs: &[[End; 2]], outline: &Outline, processes: &[Process<'_>], now: Instant) {
    let there = |gateway_or_hub: &Intent| -> BTreeSet<String> {
        let route_servers = gateway_or_hub.route_servers.iter().flat_map(|each| &each.peers);
        let gateways = gateway_or_hub.gateways.iter().flat_map(|each| &each.peers);
        route_servers.chain(gateways).map(|peer| peer.id.clone()).collect()
    };
    let there = there(&outline.intent);
    let up: BTreeSet<(usize, &str)> = processes
        .iter()
        .enumerate()
        .flat_map(|(place, (_, heard))| heard.iter().map(move |each| (place, each)))
        .filter(|(_, each)| each.negotiated.is_some())
        .map(|(place, each)| (place, each.peer.as_str()))
        .collect();
    for [near, far] in pairs {
        let both = [*near, *far].map(|end| {
            let (peer, _) = at(instances, end)?;
            let (_, speaker) = at(instances, if end == *near { *far } else { *near })?;
            let is_up = up.contains(&(end.0, peer.intent.id.as_str())) || !there.contains(&peer.intent.id);
            Some((end, is_up, peer.intent.admin_down, agreed(peer, speaker)))
        });
        let [Some(one), Some(other)] = both else { continue };
        if !(one.1 || other.1) || one.2 || other.2 {
            continue;
        }
        for (End(place, key), _, _, negotiated) in [one, other] {
            instances[place].established(now, key, negotiated);
        }
    }
}

/// What two speakers of ours agree on.
fn agreed(peer: &Peer, far: &Speaker) -> Negotiated {
    negotiated(
        bgp_identifier(far.intent.address),
        peer,
        FamilySet::BOTH,
        EncodeContext {
            four_octet_as: true,
            extended_message: false,
        },
    )
}

fn negotiated(identifier: BgpIdentifier, peer: &Peer, families: FamilySet, encode: EncodeContext) -> Negotiated {
    Negotiated {
        connection: ConnectionId(0),
        direction: Direction::Dialled,
        hold_time_secs: peer.intent.hold_time_secs,
        peer_identifier: identifier,
        peer_asn: peer.intent.asn,
        capabilities: capabilities(families, encode),
        encode,
        restart: None,
    }
}

/// What two that exchange these families, and write so, have in common.
pub(super) fn capabilities(families: FamilySet, encode: EncodeContext) -> CapabilitySet {
    CapabilitySet {
        families,
        route_refresh: true,
        enhanced_route_refresh: false,
        extended_message: encode.extended_message,
        four_octet_as: encode.four_octet_as,
    }
}

/// Whether it came to an end.
fn exchange(instances: &mut [Instance], pairs: &[[End; 2]], now: Instant) -> bool {
    let ways: Vec<[End; 2]> = pairs.iter().flat_map(|[a, b]| [[*a, *b], [*b, *a]]).collect();
    let mut said: Vec<Said> = vec![Said::new(); ways.len()];
    for _ in 0..MAX_ROUNDS {
        for instance in instances.iter_mut() {
            instance.settle_alone(now);
        }
        let mut moved = false;
        for ([from, to], before) in ways.iter().zip(&mut said) {
            let says = told(instances, *from);
            let (gone, come) = difference(before, &says);
            if gone.is_empty() && come.is_empty() {
                continue;
            }
            moved = true;
            instances[to.0].hear(to.1, &gone, &come);
            *before = says;
        }
        if !moved {
            return true;
        }
    }
    false
}

fn told(instances: &[Instance], from: End) -> Said {
    let told = at(instances, from).filter(|(peer, _)| peer.up.is_some());
    let told = told.map(|(peer, speaker)| speaker.rib.advertised(peer.index));
    told.into_iter().flatten().collect()
}

/// What is said no more, and what is said anew.
fn difference(before: &Said, says: &Said) -> (Vec<IpNet>, Vec<Announcement>) {
    let gone = before.keys().filter(|prefix| !says.contains_key(*prefix));
    let mut come: BTreeMap<(Family, *const PathAttributes), Announcement> = BTreeMap::new();
    for (prefix, attributes) in says
        .iter()
        .filter(|(prefix, attributes)| before.get(prefix) != Some(attributes))
    {
        let together = come.entry((Family::of(prefix), Arc::as_ptr(attributes)));
        let announcement = together.or_insert_with(|| Announcement {
            attributes: attributes.clone(),
            prefixes: Vec::new(),
        });
        announcement.prefixes.push(*prefix);
    }
    (gone.copied().collect(), come.into_values().collect())
}

impl Instance {
    /// As if a peer's UPDATEs had said this.
    fn hear(&mut self, key: PeerKey, gone: &[IpNet], come: &[Announcement]) {
        let Some(peer) = self.peers.get(&key).filter(|peer| peer.up.is_some()) else {
            return;
        };
        let Some(speaker) = self.speakers.get_mut(&peer.speaker) else {
            return;
        };
        speaker.withdraw(peer.index, gone);
        for announcement in come {
            speaker.announce(peer.index, announcement);
        }
        speaker.unsettled = true;
    }
}
