//! The limit on what an ExpressRoute circuit is told (az §1.1). Azure's provider edge takes the session down beyond it; so it is said from
//! four fifths on, and again when it is passed.

use crate::instance::{Event, Instance};
use crate::intent::PeerKind;
use crate::peer::Peer;
use crate::speaker::Speaker;

/// From this share of the limit on it is said.
const WARNING_PERCENT: usize = 80;

/// How full a circuit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fullness {
    #[default]
    Fine,
    Near,
    Over,
}

/// What a circuit has been told.
struct Load {
    told: usize,
    limit: u32,
}

impl Load {
    fn of(speaker: &Speaker, peer: &Peer) -> Option<Load> {
        let limit = speaker.intent.routes_to_circuit;
        let counts = limit > 0 && peer.intent.kind == PeerKind::ProviderEdge;
        counts.then(|| Load {
            told: speaker.rib.counts(peer.index).advertised,
            limit,
        })
    }

    fn fullness(&self) -> Fullness {
        let limit = self.limit as usize;
        match self.told {
            told if told > limit => Fullness::Over,
            told if told * 100 >= limit * WARNING_PERCENT => Fullness::Near,
            _ => Fullness::Fine,
        }
    }
}

impl Instance {
    /// Says of which circuits it has become worse.
    pub(super) fn check_circuits(&mut self) {
        for speaker in self.speakers.values() {
            for key in &speaker.peers {
                let Some(peer) = self.peers.get_mut(key) else {
                    continue;
                };
                let Some(load) = Load::of(speaker, peer) else {
                    continue;
                };
                let before = std::mem::replace(&mut peer.circuit, load.fullness());
                if peer.circuit > before {
                    let Load { told, limit } = load;
                    let peer = peer.intent.id.clone();
                    let event = Event::CircuitRoutes { peer, told, limit };
                    self.outputs.push_back(super::Output::Event(event));
                }
            }
        }
    }

    /// Peerings with circuits that are told nearly too much or more, and how much that is, for people.
    pub(super) fn circuit_problems(&self) -> Vec<(String, String)> {
        let speakers = self.speakers.values();
        let pairs = speakers.flat_map(|speaker| {
            let peers = speaker.peers.iter().filter_map(|key| self.peers.get(key));
            peers.filter_map(move |peer| Some((peer, Load::of(speaker, peer)?)))
        });
        let problem = |(peer, load): (&Peer, Load)| {
            let Load { told, limit } = load;
            let what = match load.fullness() {
                Fullness::Fine => return None,
                Fullness::Near => {
                    format!("{told} of {limit} routes that a circuit takes are told: Azure ends the session beyond it")
                }
                Fullness::Over => {
                    format!("{told} routes are told, and a circuit takes {limit}: Azure ends the session")
                }
            };
            Some((peer.intent.id.clone(), what))
        };
        pairs.filter_map(problem).collect()
    }
}
