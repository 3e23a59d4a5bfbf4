//! Prometheus metrics: what Azure Monitor shows of a route server (BgpPeerStatus, CountOfRoutesLearnedFromPeer,
//! CountOfRoutesAdvertisedToPeer: az §4.11), and what it doesn't. Made from the reports when asked for.

use std::borrow::Cow;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use routeserver::report::{AgentReport, BfdReport, InstanceReport, MemoryReport, PeerReport};

/// What the text is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The states of RFC 4271 §8.2.2, each a series of its own: 1 for the one that the session is in.
const STATES: [&str; 6] = ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerLabels {
    route_server: String,
    peer: String,
    peer_address: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    route_server: String,
    peer: String,
    peer_address: String,
    state: &'static str,
}

/// The text for these reports, every series labelled with the instance.
pub(super) fn text(index: usize, health: &InstanceReport, peers: &[PeerReport], agents: &[AgentReport]) -> String {
    let instance = (Cow::Borrowed("instance"), Cow::Owned(index.to_string()));
    let mut registry = Registry::with_prefix_and_labels("routewright", [instance].into_iter());
    register_instance(&mut registry, health, agents);
    register_memory(&mut registry, health.memory.as_ref());
    register_peers(&mut registry, peers);
    register_bfd(&mut registry, peers);
    let mut text = String::new();
    // Writing to a String cannot fail; half a text would be noticed by its missing EOF line.
    let _ = encode(&mut text, &registry);
    text
}

fn register_instance(registry: &mut Registry, health: &InstanceReport, agents: &[AgentReport]) {
    let lag = |agent: &AgentReport| agent.generation.saturating_sub(agent.installed_generation.unwrap_or(0));
    let problems = agents.iter().filter(|agent| !agent.problems.is_empty()).count();
    let not_bound = health.address_problems.len();
    for (name, help, value) in [
        (
            "intent_version",
            "Version of the intent that is followed",
            health.intent_version,
        ),
        (
            "converging",
            "1 until every peer was heard out after a start; meanwhile agents only add",
            health.converging.into(),
        ),
        (
            "drained",
            "1 while the operator wants packets to go through the other instance",
            health.drained.into(),
        ),
        ("peers", "Peerings configured", health.peers as u64),
        (
            "peers_established",
            "Sessions Established",
            health.peers_established as u64,
        ),
        (
            "addresses_not_bound",
            "Route servers whose address cannot be bound here",
            not_bound as u64,
        ),
        ("agents", "Agents connected", health.agents as u64),
        ("agent_nics", "NICs that agents follow", agents.len() as u64),
        (
            "agent_nics_with_problems",
            "NICs whose agent could not install everything",
            problems as u64,
        ),
        (
            "agent_generation_lag",
            "Generations that the slowest agent's kernel is behind",
            agents.iter().map(lag).max().unwrap_or(0),
        ),
        (
            "agent_routes_stranded",
            "Routes that agents removed because their next hops were all lost and nothing took over, since these started",
            agents.iter().map(|agent| agent.counts.stranded).sum(),
        ),
        (
            "agent_entries_repaired",
            "Entries in kernels that somebody else changed or removed, and that agents put right, since these started",
            agents.iter().map(|agent| agent.counts.repaired).sum(),
        ),
    ] {
        let gauge = Gauge::<i64>::default();
        gauge.set(number(value));
        registry.register(name, help, gauge);
    }
}

/// Where the process's memory has a ceiling.
fn register_memory(registry: &mut Registry, memory: Option<&MemoryReport>) {
    let Some(memory) = memory else {
        return;
    };
    for (name, help, value) in [
        (
            "memory_used_bytes",
            "Memory of the process, resident",
            memory.used_bytes,
        ),
        (
            "memory_ceiling_bytes",
            "Memory that the process may have (limits.memory_mib)",
            memory.ceiling_bytes,
        ),
        (
            "memory_short",
            "1 while the process has nearly as much memory as it may have",
            memory.is_short.into(),
        ),
    ] {
        let gauge = Gauge::<i64>::default();
        gauge.set(number(value));
        registry.register(name, help, gauge);
    }
    let ended = Counter::<u64>::default();
    ended.inc_by(memory.peers_ended);
    let help = "Sessions with the noisiest peer that were ended because memory was short";
    registry.register("memory_peers_ended", help, ended);
}

fn register_peers(registry: &mut Registry, peers: &[PeerReport]) {
    type Value = fn(&PeerReport) -> u64;
    let gauges: [(&str, &str, Value); 9] = [
        (
            "bgp_peer_up",
            "1 while the session is Established (Azure: BgpPeerStatus)",
            |peer| is_up(peer).into(),
        ),
        (
            "routes_learned_from_peer",
            "Prefixes received, rejected ones included",
            |peer| peer.routes_received as u64,
        ),
        (
            "routes_accepted_from_peer",
            "Prefixes received and accepted (Azure: CountOfRoutesLearnedFromPeer)",
            |peer| peer.routes_accepted as u64,
        ),
        (
            "routes_advertised_to_peer",
            "Prefixes told to the peer (Azure: CountOfRoutesAdvertisedToPeer)",
            |peer| peer.routes_advertised as u64,
        ),
        (
            "routes_stale_of_peer",
            "Routes that the peer is to say again: of a session that has ended, or before a refresh",
            |peer| peer.routes_stale as u64,
        ),
        (
            "octets_held_of_peer",
            "What holding the peer's routes takes, in octets and roughly",
            |peer| peer.octets_held as u64,
        ),
        (
            "bgp_peer_routes_kept",
            "1 while routes of a session that has ended are kept (graceful restart, persisted routes)",
            |peer| (!peer.kept.is_empty()).into(),
        ),
        (
            "peer_route_limit",
            "Prefixes that the peer may announce; 0: no limit",
            |peer| peer.route_limit.into(),
        ),
        ("bgp_peer_since_seconds", "Seconds in or out of Established", |peer| {
            peer.since_secs.unwrap_or(0)
        }),
    ];
    for (name, help, value) in gauges {
        let family = Family::<PeerLabels, Gauge<i64>>::default();
        for peer in peers {
            family.get_or_create(&labels(peer)).set(number(value(peer)));
        }
        registry.register(name, help, family);
    }
    let counters: [(&str, &str, Value); 5] = [
        ("bgp_messages_received", "BGP messages received", |peer| {
            peer.messages_received
        }),
        ("bgp_messages_sent", "BGP messages sent, UPDATEs not included", |peer| {
            peer.messages_sent
        }),
        ("bgp_updates_received", "UPDATEs received", |peer| peer.updates_received),
        ("bgp_updates_mended", "UPDATEs that RFC 7606 had to mend", |peer| {
            peer.mended_updates
        }),
        (
            "bgp_peer_established",
            "How often the session became Established",
            |peer| peer.established_count,
        ),
    ];
    for (name, help, value) in counters {
        let family = Family::<PeerLabels, Counter>::default();
        for peer in peers {
            family.get_or_create(&labels(peer)).inc_by(value(peer));
        }
        registry.register(name, help, family);
    }
    registry.register(
        "bgp_peer_state",
        "1 for the state that the session is in (RFC 4271 §8.2.2)",
        states(peers),
    );
}

/// Of peers that have a BFD session.
fn register_bfd(registry: &mut Registry, peers: &[PeerReport]) {
    type Value = fn(&BfdReport) -> u64;
    let microseconds = |interval_ms: Option<f64>| interval_ms.map_or(0, |ms| (ms * 1_000.0) as u64);
    let watched: Vec<(&PeerReport, &BfdReport)> = peers
        .iter()
        .filter_map(|peer| Some((peer, peer.bfd.as_ref()?)))
        .collect();
    let gauges: [(&str, &str, Value); 2] = [
        ("bfd_up", "1 while the BFD session is Up", |bfd| {
            (bfd.state == "Up").into()
        }),
        ("bfd_remote_up", "1 while the peer says that its side is Up", |bfd| {
            (bfd.remote_state.as_deref() == Some("Up")).into()
        }),
    ];
    for (name, help, value) in gauges {
        let family = Family::<PeerLabels, Gauge<i64>>::default();
        for (peer, bfd) in &watched {
            family.get_or_create(&labels(peer)).set(number(value(bfd)));
        }
        registry.register(name, help, family);
    }
    type Interval = fn(&BfdReport) -> Option<f64>;
    let intervals: [(&str, &str, Interval); 3] = [
        (
            "bfd_tx_interval_microseconds",
            "How often packets are sent; 0: not at all",
            |bfd| bfd.tx_interval_ms,
        ),
        (
            "bfd_rx_interval_microseconds",
            "How often the peer sends at least; 0: it is not heard",
            |bfd| bfd.rx_interval_ms,
        ),
        (
            "bfd_detection_time_microseconds",
            "So much silence is a lost path; 0: the peer is not heard",
            |bfd| bfd.detection_time_ms,
        ),
    ];
    for (name, help, value) in intervals {
        let family = Family::<PeerLabels, Gauge<i64>>::default();
        for (peer, bfd) in &watched {
            family
                .get_or_create(&labels(peer))
                .set(number(microseconds(value(bfd))));
        }
        registry.register(name, help, family);
    }
    let counters: [(&str, &str, Value); 5] = [
        ("bfd_ups", "How often the session came up", |bfd| bfd.ups),
        ("bfd_downs", "How often the session was up no more", |bfd| bfd.downs),
        ("bfd_packets_sent", "Control packets sent", |bfd| bfd.packets_sent),
        ("bfd_packets_received", "Control packets received", |bfd| {
            bfd.packets_received
        }),
        (
            "bfd_packets_discarded",
            "Control packets dropped by the checks of RFC 5880 section 6.8.6",
            |bfd| bfd.packets_discarded,
        ),
    ];
    for (name, help, value) in counters {
        let family = Family::<PeerLabels, Counter>::default();
        for (peer, bfd) in &watched {
            family.get_or_create(&labels(peer)).inc_by(value(bfd));
        }
        registry.register(name, help, family);
    }
}

fn states(peers: &[PeerReport]) -> Family<StateLabels, Gauge<i64>> {
    let family = Family::<StateLabels, Gauge<i64>>::default();
    for peer in peers {
        let PeerLabels {
            route_server,
            peer: name,
            peer_address,
        } = labels(peer);
        for state in STATES {
            let labels = StateLabels {
                route_server: route_server.clone(),
                peer: name.clone(),
                peer_address: peer_address.clone(),
                state,
            };
            family.get_or_create(&labels).set((peer.state == state).into());
        }
    }
    family
}

fn is_up(peer: &PeerReport) -> bool {
    peer.state == "Established"
}

fn labels(peer: &PeerReport) -> PeerLabels {
    PeerLabels {
        route_server: peer.route_server.clone(),
        peer: peer.name.clone(),
        peer_address: peer.peer_address.to_string(),
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_series_carries_the_instance() {
        let health = InstanceReport {
            instance: 1,
            version: None,
            epoch: 5,
            intent_version: 7,
            converging: true,
            drained: false,
            peers_established: 0,
            peers: 0,
            peers_down: vec![],
            nvas: Vec::new(),
            agents: 0,
            address_problems: vec![],
            circuit_problems: vec![],
            memory: None,
            agent_port_problem: None,
        };
        let text = text(1, &health, &[], &[]);
        assert!(
            text.contains("routewright_intent_version{instance=\"1\"} 7\n"),
            "{text}"
        );
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.contains("instance=\"1\""), "{line}");
        }
    }
}
