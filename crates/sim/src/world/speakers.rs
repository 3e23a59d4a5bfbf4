//! Connections between speakers: route server instances and gateways, in one process or in two. What is said arrives in order, and late.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bgp::session::ConnectionId;
use bgp::wire::Decoder;
use routeserver::instance::{Endpoint, Input, PeerKey};

use super::{Happening, World};
use crate::network::Packet;
use crate::scenario;

/// The longest that a packet takes.
const LATENCY_MAX_US: usize = 10_000;

/// Names of these connections; those of NVAs are far below.
const FIRST: u64 = 1 << 40;

/// One end of a connection, in the life of a process.
#[derive(Clone, Debug)]
pub(super) struct End {
    instance: usize,
    epoch: u64,
    other: ConnectionId,
    /// When the last packet towards this end arrives. Later ones arrive later.
    last_arrival: Instant,
    /// For whom it was dialled, or who called whom.
    opened: Opened,
}

#[derive(Clone, Debug)]
enum Opened {
    Dialled(PeerKey),
    Accepted { local: SocketAddr, remote: SocketAddr },
}

impl World {
    /// A speaker of process `instance` dials another.
    pub(super) fn dial_speaker(&mut self, instance: usize, peer: PeerKey, endpoint: &Endpoint) {
        let callee = scenario::speaker_at(endpoint.remote).map(|(_, instance)| instance);
        let callee = callee.filter(|callee| self.processes[*callee].machine.is_some());
        let Some(callee) = callee else {
            let reason = "refused".to_owned();
            self.instance_hears(instance, Input::DialFailed { peer, reason });
            return;
        };
        self.sequence += 2;
        let [dialled, accepted] = [0, 1].map(|end| ConnectionId(FIRST + self.sequence + end));
        let local = SocketAddr::new(endpoint.remote, 179);
        let remote = SocketAddr::new(endpoint.local, 40_000);
        let ends = [
            (dialled, instance, accepted, Opened::Dialled(peer)),
            (accepted, callee, dialled, Opened::Accepted { local, remote }),
        ];
        for (connection, instance, other, opened) in ends {
            let end = End {
                instance,
                epoch: self.processes[instance].epoch,
                other,
                last_arrival: self.now,
                opened,
            };
            self.between.insert(connection, end);
        }
        self.tell_speaker(accepted, Packet::Opened);
        self.tell_speaker(dialled, Packet::Opened);
    }

    /// Puts a packet on its way from one end to the other.
    pub(super) fn tell_speaker(&mut self, from: ConnectionId, packet: Packet) {
        let latency = Duration::from_micros(50 + self.random.below(LATENCY_MAX_US) as u64);
        let Some(other) = self.between.get(&from).map(|end| end.other) else {
            return;
        };
        let Some(end) = self.between.get_mut(&other) else {
            return;
        };
        end.last_arrival = (self.now + latency).max(end.last_arrival);
        let delay = end.last_arrival.saturating_duration_since(self.now);
        let happening = Happening::SpeakerHears {
            instance: end.instance,
            epoch: end.epoch,
            connection: other,
            packet,
        };
        self.after(delay, happening);
    }

    pub(super) fn speaker_hears(&mut self, instance: usize, epoch: u64, connection: ConnectionId, packet: Packet) {
        let process = &mut self.processes[instance];
        let Some(end) = self.between.get(&connection) else {
            return;
        };
        if process.machine.is_none() || process.epoch != epoch {
            return;
        }
        match packet {
            Packet::Opened => {
                process.decoders.insert(connection, Decoder::new());
                let input = match end.opened.clone() {
                    Opened::Dialled(peer) => Input::Connected { peer, connection },
                    Opened::Accepted { local, remote } => Input::Accepted {
                        connection,
                        speaker: scenario::speaker_at(local.ip()).map_or("", |(id, _)| id).to_owned(),
                        local,
                        remote,
                    },
                };
                self.instance_hears(instance, input);
                self.drain_instance(instance);
            }
            Packet::Bytes(bytes) => self.instance_reads(instance, connection, &bytes),
            Packet::Closed => {
                process.decoders.remove(&connection);
                self.between.remove(&connection);
                let reason = "closed".to_owned();
                self.instance_hears(instance, Input::Closed { connection, reason });
            }
        }
    }

    /// A process dies: the other ends hear of it.
    pub(super) fn close_between(&mut self, instance: usize) {
        let ends = self.between.iter().filter(|(_, end)| end.instance == instance);
        let gone: Vec<ConnectionId> = ends.map(|(connection, _)| *connection).collect();
        for connection in gone {
            self.tell_speaker(connection, Packet::Closed);
            self.between.remove(&connection);
        }
    }
}
