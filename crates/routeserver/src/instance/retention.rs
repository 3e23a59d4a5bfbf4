//! Routes whose session has ended, kept for a while: what [`crate::peer::retention`] says is carried out on the RIB.
//!
//! Kept routes are marked stale there, as before a refresh. What the peer says again is a route as any other; what is still stale when it
//! has told all goes. What becomes a last resort is said again in the peer's name, with LLGR_STALE: so whoever is told it knows, too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::session::{DownReason, Negotiated};
use bgp::wire::{Announcement, Community};
use bgp::{Family, FamilySet};
use rib::PeerIndex;

use crate::instance::{Event, Instance, PeerKey};
use crate::intent::{PeerKind, PersistRoutes};
use crate::peer::Peer;
use crate::peer::retention::{Kept, Phase, Phases};
use crate::speaker::Speaker;

impl Instance {
    /// The session has ended: what of the peer's routes stays, stays stale; the rest goes.
    pub(super) fn keep_or_clear(&mut self, now: Instant, key: PeerKey, negotiated: &Negotiated, reason: &DownReason) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(speaker) = self.speakers.get_mut(&peer.speaker) else {
            return;
        };
        if self.leaving {
            // Nobody is told any more.
            return speaker.clear_peer(peer.index);
        }
        let stale_time = Duration::from_secs(peer.intent.long_lived_stale_time_secs.into());
        let persisted = persistence(speaker, peer.intent.kind);
        let before = std::mem::take(&mut peer.retention);
        for family in FamilySet::BOTH.iter() {
            let phases = Phases::after(reason, negotiated, family, stale_time, persisted);
            let earlier = before.get(family);
            let again = earlier.and_then(|kept| kept.again(now, phases));
            // A peer that comes and goes with other routes each time would have us keep more and more.
            let over_limit = is_over_limit(peer, speaker.rib.counts(peer.index).received);
            //= https://www.rfc-editor.org/rfc/rfc4724#section-4.2
            //# To deal with possible consecutive restarts, a route (from the peer) previously marked as stale MUST be deleted.
            if earlier.is_some() && (again.is_none() || over_limit) {
                speaker.end_refresh(peer.index, family);
            }
            peer.retention.set(family, again.or_else(|| Kept::begin(now, phases)));
        }
        if peer.retention.is_empty() {
            speaker.clear_peer(peer.index);
            return;
        }
        for family in FamilySet::BOTH.iter() {
            speaker.rib.begin_refresh(peer.index, family);
            match peer.retention.get(family) {
                None => speaker.end_refresh(peer.index, family),
                Some(kept) if kept.phase == Phase::Graceful => {}
                Some(_) => speaker.make_last_resort(peer.index, family),
            }
        }
        self.kept(key);
    }

    /// The peer is back: what it does not have any more goes at once, the rest has until End-of-RIB.
    pub(super) fn back_with(&mut self, now: Instant, key: PeerKey, negotiated: &Negotiated) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        for (family, kept) in peer.retention.iter() {
            if kept.outlives(negotiated, family) {
                peer.retention.set(family, Some(kept.back(now)));
            } else {
                self.release(key, family);
                return self.back_with(now, key, negotiated);
            }
        }
    }

    /// Nothing of the family is kept any more: what is still stale goes.
    pub(super) fn release(&mut self, key: PeerKey, family: Family) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.retention.get(family).is_none() {
            return;
        }
        peer.retention.set(family, None);
        if let Some(speaker) = self.speakers.get_mut(&peer.speaker) {
            let before = speaker.rib.counts(peer.index).received;
            speaker.piecemeal(|speaker| speaker.end_refresh(peer.index, family));
            let routes = before - speaker.rib.counts(peer.index).received;
            let peer = peer.intent.id.clone();
            self.event(Event::RoutesReleased { peer, family, routes });
        }
    }

    /// The operator wants what is kept of a peer gone.
    pub(super) fn release_all(&mut self, key: PeerKey) {
        for family in FamilySet::BOTH.iter() {
            self.release(key, family);
        }
    }

    /// Packets do not arrive: whoever is away does not go on to forward them either.
    pub(super) fn end_graceful(&mut self, now: Instant, key: PeerKey) {
        // Nothing is kept yet of a session that has just ended. Where nothing is to be ended, others wait for those that are lost with them.
        if self.has_just_ended(key) || self.is_kept_gracefully(key) {
            self.finish_ended(now);
        }
        for family in FamilySet::BOTH.iter() {
            if let Some(kept) = self.kept_gracefully(key, family) {
                self.end_phase(now, key, family, &kept);
            }
        }
        self.reschedule(key);
    }

    fn is_kept_gracefully(&self, key: PeerKey) -> bool {
        let kept = |family| self.kept_gracefully(key, family);
        FamilySet::BOTH.iter().any(|family| kept(family).is_some())
    }

    /// What is kept of a peer that is away.
    fn kept_gracefully(&self, key: PeerKey, family: Family) -> Option<Kept> {
        let kept = self.peers.get(&key)?.retention.get(family)?;
        (kept.phase == Phase::Graceful && kept.back_by.is_none()).then_some(kept)
    }

    /// The next phase begins, if there is one.
    fn end_phase(&mut self, now: Instant, key: PeerKey, family: Family, kept: &Kept) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        match kept.next(now).filter(|_| kept.back_by.is_none()) {
            Some(next) => {
                peer.retention.set(family, Some(next));
                if let Some(speaker) = self.speakers.get_mut(&peer.speaker) {
                    speaker.make_last_resort(peer.index, family);
                }
                self.kept(key);
            }
            None => self.release(key, family),
        }
    }

    /// What time ends.
    pub(super) fn retention_timeout(&mut self, now: Instant, key: PeerKey) {
        for family in FamilySet::BOTH.iter() {
            let Some(peer) = self.peers.get(&key) else {
                return;
            };
            let Some(kept) = peer.retention.get(family) else {
                continue;
            };
            if peer.kept_until(&kept).is_none_or(|at| at > now) {
                continue;
            }
            self.end_phase(now, key, family, &kept);
        }
    }

    /// Another `persistRoutes`: it holds for what is kept already, too.
    pub(super) fn set_persistence(&mut self, keys: &[PeerKey]) {
        for key in keys {
            for family in FamilySet::BOTH.iter() {
                let Some(peer) = self.peers.get_mut(key) else {
                    continue;
                };
                let speaker = self.speakers.get(&peer.speaker);
                let persisted = speaker.map_or(PersistRoutes::Off, |speaker| persistence(speaker, peer.intent.kind));
                match peer.retention.get(family).map(|kept| kept.with_persistence(persisted)) {
                    Some(None) => self.release(*key, family),
                    Some(kept) => peer.retention.set(family, kept),
                    None => {}
                }
            }
            self.reschedule(*key);
        }
    }

    /// Says what is kept.
    fn kept(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let stale = self.speakers.get(&peer.speaker);
        let routes = stale.map_or(0, |speaker| speaker.rib.counts(peer.index).stale);
        let until = |kept: &Kept| Some(kept.until?.saturating_duration_since(self.now).as_secs());
        let events: Vec<Event> = peer
            .retention
            .iter()
            .map(|(family, kept)| Event::RoutesKept {
                peer: peer.intent.id.clone(),
                family,
                phase: kept.phase.name(),
                routes,
                until_secs: until(&kept),
            })
            .collect();
        for event in events {
            self.event(event);
        }
    }
}

/// Whether a peer that has so many routes has more than it may.
pub(super) fn is_over_limit(peer: &Peer, held: usize) -> bool {
    peer.intent.route_limit > 0 && held > peer.intent.route_limit as usize
}

/// Only what NVAs say is persisted: gateways of ours have routes of others, which these may have taken back.
pub(super) fn persistence(speaker: &Speaker, kind: PeerKind) -> PersistRoutes {
    match kind {
        PeerKind::Nva => speaker.intent.persist_routes,
        _ => PersistRoutes::Off,
    }
}

impl Speaker {
    /// Says a peer's stale routes of a family again, in its name and as a last resort.
    //= https://www.rfc-editor.org/rfc/rfc9494#section-4.2
    //# The helper router MUST attach the LLGR_STALE community to the stale routes being retained.
    fn make_last_resort(&mut self, peer: PeerIndex, family: Family) {
        self.piecemeal(|speaker| {
            for announcement in speaker.rib.heard_stale(peer, family) {
                let attributes = &announcement.attributes;
                //= https://www.rfc-editor.org/rfc/rfc9494#section-4.2
                //# If any of the routes from the peer have been marked with the NO_LLGR community, either as sent by the peer or as the
                //# result of a configured policy, they MUST NOT be retained
                if attributes.has_community(Community::NO_LLGR) {
                    speaker.withdraw(peer, &announcement.prefixes);
                } else if !attributes.has_community(Community::LLGR_STALE) {
                    let marked = attributes.to_builder().add_community(Community::LLGR_STALE);
                    let attributes = Arc::new(marked.build());
                    let prefixes = announcement.prefixes;
                    speaker.announce(peer, &Announcement { attributes, prefixes });
                }
            }
            speaker.rib.begin_refresh(peer, family);
        });
    }
}
