//! Answers to questions: an instance's state as people ask for it.

use std::net::IpAddr;
use std::time::Instant;

use bgp::session::{Direction, Negotiated, SessionStatus};
use bgp::wire::{Origin, PathAttributes};
use bgp::{Family, IpNet};
use rib::{DecisionStep, PathReport, RejectRule, RouteSource, Standing};

use crate::instance::{Instance, liveness};
use crate::intent::PeerKind;
use crate::peer::Peer;
use crate::peer::retention::Kept;
use crate::report::{
    AdvertisedReport, AgentReport, BecameReport, DrainReport, EffectiveRoute, Heard, InstanceReport, KeptReport,
    LastDownReport, NvaReport, PeerReport, RouteReport,
};
use crate::speaker::{Speaker, source_of};
use crate::vnet::{LocRib, Scope, rows};

impl Instance {
    /// How the instance is.
    pub fn health(&self) -> InstanceReport {
        let problems = |speaker: &Speaker| {
            let id = speaker.intent.id.clone();
            let all = speaker.address_problems.values().cloned();
            all.map(|problem| (id.clone(), problem)).collect::<Vec<_>>()
        };
        InstanceReport {
            instance: self.index,
            version: None,
            epoch: self.epoch,
            intent_version: self.intent_version,
            converging: !self.converged,
            drained: self.drained,
            peers_established: self.peers.values().filter(|peer| peer.up.is_some()).count(),
            peers: self.peers.len(),
            peers_down: self
                .peers
                .values()
                .filter(|peer| peer.up.is_none() && !peer.intent.admin_down)
                .map(|peer| peer.intent.id.clone())
                .collect(),
            nvas: self.nvas(),
            agents: self.delivery.agent_count(),
            address_problems: self.speakers.values().flat_map(problems).collect(),
            circuit_problems: self.circuit_problems(),
            memory: self.memory_report(),
            agent_port_problem: None,
        }
    }

    fn nvas(&self) -> Vec<NvaReport> {
        let wanted = |peer: &&Peer| peer.intent.kind == PeerKind::Nva && !peer.intent.admin_down;
        let heard = |peer: &Peer| {
            let (_, speaker) = (peer.up.as_ref()?, self.speakers.get(&peer.speaker)?);
            let counts = speaker.rib.counts(peer.index);
            Some(Heard {
                prefixes: counts.received,
                fingerprint: counts.fingerprint,
            })
        };
        let nvas = self.peers.values().filter(wanted).map(|peer| NvaReport {
            id: peer.intent.id.clone(),
            heard: heard(peer),
        });
        nvas.collect()
    }

    /// Every peering, or those of one speaker.
    pub fn peers(&self, now: Instant, speaker: Option<&str>) -> Vec<PeerReport> {
        self.speakers
            .values()
            .filter(|each| speaker.is_none_or(|id| each.intent.id == id))
            .flat_map(|speaker| {
                let peers = speaker.peers.iter().filter_map(|key| self.peers.get(key));
                peers.map(move |peer| self.peer_report(now, speaker, peer))
            })
            .collect()
    }

    /// Everything received through a peering (id); `None`: no such peering here.
    pub fn routes_of_peer(&self, peer: &str) -> Option<Vec<RouteReport>> {
        let (peer, speaker) = self.peer(peer)?;
        let received = speaker.rib.received(peer.index);
        let reports = received.iter().map(|path| self.route_report(path, speaker, peer));
        Some(reports.collect())
    }

    /// Everything received by a speaker, and its static routes, of one prefix or of all; `None`: no such speaker here.
    pub fn routes_of_speaker(&self, speaker: &str, prefix: Option<&IpNet>) -> Option<Vec<RouteReport>> {
        let speaker = self.speakers.get(speaker)?;
        let peers = || speaker.peers.iter().filter_map(|key| self.peers.get(key));
        let mut routes = Vec::new();
        match prefix {
            Some(prefix) => {
                for path in speaker.explain(prefix) {
                    let sender = peers().find(|peer| peer.index == path.peer);
                    routes.extend(sender.map(|peer| self.route_report(&path, speaker, peer)));
                    let tunnel = speaker.tunnel_of(path.peer);
                    routes.extend(tunnel.map(|far_end| self.static_route_report(&path, speaker, far_end)));
                }
            }
            None => {
                for peer in peers() {
                    let received = speaker.rib.received(peer.index);
                    routes.extend(received.iter().map(|path| self.route_report(path, speaker, peer)));
                }
                let static_routes = speaker.static_routes();
                routes.extend(static_routes.map(|(far_end, path)| self.static_route_report(&path, speaker, far_end)));
                routes.sort_by_key(|route| route.network);
            }
        }
        Some(routes)
    }

    /// What has been told through a peering (id); `None`: no such peering here.
    pub fn advertised(&self, peer: &str) -> Option<Vec<AdvertisedReport>> {
        let (peer, speaker) = self.peer(peer)?;
        if peer.up.is_none() {
            return Some(Vec::new());
        }
        let advertised = speaker.rib.advertised(peer.index);
        let told = advertised
            .iter()
            .map(|(prefix, attributes)| told_report(*prefix, attributes));
        Some(told.collect())
    }

    /// A NIC's effective routes; `None`: no such NIC here.
    pub fn effective_routes(&self, nic: &str) -> Option<Vec<EffectiveRoute>> {
        let facts = self.topology.nic(nic)?;
        let view = self.topology.view(&facts.place)?;
        let speaker = view.speaker.as_ref().and_then(|id| self.speakers.get(id));
        // Kept at hand only while agents are there.
        let made: LocRib;
        let loc_rib = match speaker {
            None => None,
            Some(speaker) => Some(match speaker.loc_rib() {
                Some(kept) => kept,
                None => {
                    made = self.loc_rib_of(speaker);
                    &made
                }
            }),
        };
        let mut rows = rows(Scope {
            view: &view,
            loc_rib,
            own: &facts.addresses,
        });
        // A NIC may have IPv4 alone in a subnet that has both.
        if !facts.addresses.iter().any(IpAddr::is_ipv6) {
            rows.retain(|row| row.address_prefix.addr().is_ipv4());
        }
        Some(rows)
    }

    /// Every NIC that an agent follows.
    pub fn agents(&self) -> Vec<AgentReport> {
        self.delivery.reports(self.index, self.epoch)
    }

    fn peer(&self, id: &str) -> Option<(&Peer, &Speaker)> {
        let peer = self.peers.get(self.peer_ids.get(id)?)?;
        Some((peer, self.speakers.get(&peer.speaker)?))
    }

    fn peer_report(&self, now: Instant, speaker: &Speaker, peer: &Peer) -> PeerReport {
        let SessionStatus { state, history, .. } = peer.session.status();
        let ago_secs = |at: Instant| now.saturating_duration_since(at).as_secs();
        let negotiated = peer.up.as_ref().map(|up| &up.negotiated);
        let counts = speaker.rib.counts(peer.index);
        PeerReport {
            id: peer.intent.id.clone(),
            name: peer.intent.name.clone(),
            route_server: peer.speaker.clone(),
            kind: peer.intent.kind,
            instance: self.index,
            local_address: speaker.intent.address_towards(peer.intent.address),
            peer_address: peer.intent.address,
            peer_asn: peer.intent.asn.0,
            state: format!("{state:?}"),
            since_secs: history.since.map(ago_secs),
            established_count: history.established_count,
            last_error: history.last_error(),
            last_down: history
                .last_down
                .map(|down| LastDownReport::new(now, down.at, down.reason)),
            last_attempt_error: history.last_attempt_error,
            hold_time_secs: negotiated.map(|negotiated| negotiated.hold_time_secs),
            peer_identifier: negotiated.map(|negotiated| negotiated.peer_identifier.to_string()),
            capabilities: negotiated.map_or_else(Vec::new, capability_names),
            direction: negotiated.map(|negotiated| direction_name(negotiated.direction).to_owned()),
            routes_received: counts.received,
            routes_accepted: speaker.accepted(peer.index),
            routes_advertised: counts.advertised,
            route_limit: peer.intent.route_limit,
            routes_stale: counts.stale,
            octets_held: counts.octets,
            kept: kept_reports(now, peer),
            drain: peer.is_drained().then(|| {
                let carried = speaker.carried(peer.index);
                DrainReport {
                    prefixes: carried.prefixes,
                    without_other_way: carried.without_other,
                }
            }),
            updates_received: peer.updates_received,
            mended_updates: peer.mended_updates,
            messages_received: history.messages_received,
            messages_sent: history.messages_sent,
            bfd: liveness::report(now, &peer.intent, &peer.bfd, speaker),
        }
    }

    fn route_report(&self, path: &PathReport, speaker: &Speaker, peer: &Peer) -> RouteReport {
        RouteReport {
            peer: peer.intent.id.clone(),
            source_peer: peer.intent.address,
            source: source_of(peer.intent.kind),
            internal: !peer.external,
            stale_secs: path.stale.then(|| stale_secs(self.now, path, peer)).flatten(),
            ..self.static_route_report(path, speaker, peer.intent.address)
        }
    }

    /// A path that came through no peering.
    fn static_route_report(&self, path: &PathReport, speaker: &Speaker, far_end: IpAddr) -> RouteReport {
        let (verdict, reason) = verdict(speaker.standing(path));
        RouteReport {
            network: path.prefix,
            next_hop: path.attributes.next_hop(),
            peer: String::new(),
            source_peer: far_end,
            source: RouteSource::Static,
            internal: false,
            as_path: as_path(&path.attributes),
            origin: origin_name(path.attributes.origin()).to_owned(),
            communities: communities(&path.attributes),
            verdict: verdict.to_owned(),
            reason: reason.map(str::to_owned),
            becomes: speaker.became(path).map(|(network, attributes)| BecameReport {
                network,
                next_hop: attributes.next_hop(),
                as_path: as_path(&attributes),
                communities: communities(&attributes),
            }),
            stale_secs: None,
            instance: self.index,
        }
    }
}

/// How long ago the session ended that a stale path came through; `None`: it is stale for a refresh.
fn stale_secs(now: Instant, path: &PathReport, peer: &Peer) -> Option<u64> {
    let kept = peer.retention.get(Family::of(&path.prefix))?;
    Some(now.saturating_duration_since(kept.since).as_secs())
}

fn kept_reports(now: Instant, peer: &Peer) -> Vec<KeptReport> {
    let report = |(family, kept): (Family, Kept)| KeptReport {
        family: family.to_string(),
        phase: kept.phase.name().to_owned(),
        returned: kept.back_by.is_some(),
        since_secs: now.saturating_duration_since(kept.since).as_secs(),
        until_secs: peer
            .kept_until(&kept)
            .map(|at| at.saturating_duration_since(now).as_secs()),
    };
    peer.retention.iter().map(report).collect()
}

/// A route as it is told.
pub(super) fn told_report(network: IpNet, attributes: &PathAttributes) -> AdvertisedReport {
    AdvertisedReport {
        network,
        next_hop: attributes.next_hop(),
        as_path: as_path(attributes),
        communities: communities(attributes),
    }
}

fn as_path(attributes: &PathAttributes) -> String {
    let numbers: Vec<String> = attributes.as_numbers().map(|asn| asn.to_string()).collect();
    numbers.join("-")
}

fn communities(attributes: &PathAttributes) -> Vec<String> {
    let standard = attributes
        .communities()
        .map(|community| format!("{}:{}", community.0 >> 16, community.0 & 0xffff));
    let large = attributes
        .large_communities()
        .map(|(global, first, second)| format!("{global}:{first}:{second}"));
    standard.chain(large).collect()
}

fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Igp => "igp",
        Origin::Egp => "egp",
        Origin::Incomplete => "incomplete",
    }
}

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Dialled => "dialled",
        Direction::Accepted => "accepted",
    }
}

fn capability_names(negotiated: &Negotiated) -> Vec<String> {
    let capabilities = negotiated.capabilities;
    let names = [
        (capabilities.families.ipv4_unicast, "ipv4-unicast"),
        (capabilities.families.ipv6_unicast, "ipv6-unicast"),
        (capabilities.route_refresh, "route-refresh"),
        (capabilities.enhanced_route_refresh, "enhanced-route-refresh"),
        (capabilities.extended_message, "extended-message"),
        (capabilities.four_octet_as, "four-octet-as"),
        (negotiated.restart.is_some(), "graceful-restart"),
        (
            negotiated.restart.is_some_and(|restart| restart.is_long_lived()),
            "long-lived-graceful-restart",
        ),
    ];
    let both_have = names.into_iter().filter(|(has, _)| *has);
    both_have.map(|(_, name)| name.to_owned()).collect()
}

fn verdict(standing: Standing) -> (&'static str, Option<&'static str>) {
    match standing {
        Standing::Best => ("best", None),
        Standing::EqualCost => ("equal-cost", None),
        Standing::Lost(step) => ("lost", Some(step_name(step))),
        Standing::Rejected(rule) => ("rejected", Some(rule_name(rule))),
    }
}

fn step_name(step: DecisionStep) -> &'static str {
    match step {
        DecisionStep::LocalOrigin => "local-origin",
        DecisionStep::LastResort => "last-resort",
        DecisionStep::ImportPreference => "import-preference",
        DecisionStep::HubRoutingPreference => "hub-routing-preference",
        DecisionStep::AsPathLength => "as-path-length",
        DecisionStep::Origin => "origin",
        DecisionStep::ExternalOverInternal => "external-over-internal",
        DecisionStep::BgpIdentifier => "bgp-identifier",
        DecisionStep::PeerAddress => "peer-address",
    }
}

fn rule_name(rule: RejectRule) -> &'static str {
    match rule {
        RejectRule::OwnAsn => "own-asn",
        RejectRule::AsZero => "as-zero",
        RejectRule::OwnSubnet => "own-subnet",
        RejectRule::OwnNextHop => "own-next-hop",
        RejectRule::InsideVirtualNetwork => "inside-virtual-network",
        RejectRule::UnusableNextHop => "unusable-next-hop",
        RejectRule::OverTotalLimit => "over-total-limit",
        RejectRule::FamilyDisabled => "family-disabled",
        RejectRule::SpecialPurposePrefix => "special-purpose-prefix",
        RejectRule::EmptyAsPath => "empty-as-path",
        RejectRule::OutOfAttributeSets => "out-of-attribute-sets",
        RejectRule::OutOfPrefixes => "out-of-prefixes",
        RejectRule::DroppedByRouteMap => "dropped-by-route-map",
        RejectRule::ChangedByRouteMap => "changed-by-route-map",
        RejectRule::OwnOriginatorId => "own-originator-id",
        RejectRule::OwnClusterId => "own-cluster-id",
    }
}
