//! Next hops that are lost with a session. Agents are told at once, before a single path is removed and a single prefix decided: every group
//! of next hops gives way to what is left of it, or to its fallback. That is one message for each table, whatever the number of routes. What
//! the peer said is removed, and its prefixes are decided, after that has gone out; agents hear what differs.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp::FamilySet;
use bgp::session::{DownReason, Negotiated};

use crate::instance::retention::persistence;
use crate::instance::{Instance, PeerKey};
use crate::peer::retention::{Kept, Phase, Phases};
use crate::vnet::WithoutOther;

/// A session that has ended, and whose routes are still there.
#[derive(Debug)]
pub(super) struct Ended {
    key: PeerKey,
    negotiated: Negotiated,
    reason: DownReason,
}

/// What agents are to be told of it.
#[derive(Debug)]
pub(super) struct Loss {
    key: PeerKey,
    speaker: String,
    next_hops: Vec<IpAddr>,
    without_other: WithoutOther,
}

impl Instance {
    /// A session has ended: what of its routes is kept and what goes is carried out when agents have been told what they have lost.
    pub(super) fn ended(&mut self, now: Instant, key: PeerKey, negotiated: Negotiated, reason: DownReason) {
        let loss = self.loss(now, key, &negotiated, &reason);
        let at_once = loss.is_none();
        self.losses.extend(loss);
        self.ended.push(Ended {
            key,
            negotiated,
            reason,
        });
        if at_once {
            self.finish_ended(now);
        }
    }

    /// `None`: agents would not be told anything before the prefixes are decided.
    fn loss(&self, now: Instant, key: PeerKey, negotiated: &Negotiated, reason: &DownReason) -> Option<Loss> {
        if self.delivery.is_idle() || self.leaving {
            return None;
        }
        let peer = self.peers.get(&key)?;
        let speaker = self.speakers.get(&peer.speaker)?;
        speaker.loc_rib()?;
        // What kernels of such a gateway have for the route server's routes is not in its own RIB, which so cannot say who else leads there.
        if self.heard_over_ebgp(speaker).is_some() {
            return None;
        }
        let stale_time = Duration::from_secs(peer.intent.long_lived_stale_time_secs.into());
        let persisted = persistence(speaker, peer.intent.kind);
        let kept = FamilySet::BOTH.iter().map(|family| {
            let phases = Phases::after(reason, negotiated, family, stale_time, persisted);
            Kept::begin(now, phases).map(|kept| kept.phase)
        });
        let kept: Vec<Phase> = kept.flatten().collect();
        // As good as before: nothing is lost.
        if kept.contains(&Phase::Graceful) {
            return None;
        }
        let next_hops = speaker.rib.only_through(peer.index);
        (!next_hops.is_empty()).then(|| Loss {
            key,
            speaker: peer.speaker.clone(),
            next_hops,
            without_other: match kept.is_empty() {
                true => WithoutOther::Goes,
                false => WithoutOther::Stays,
            },
        })
    }

    /// The peer is back already.
    pub(super) fn nothing_lost(&mut self, key: PeerKey) {
        self.losses.retain(|loss| loss.key != key);
    }

    /// Tells agents what they have lost. True if there was anything to tell: it should go out before anything else is done.
    pub(super) fn tell_losses(&mut self) -> bool {
        let before = self.outputs.len();
        for loss in std::mem::take(&mut self.losses) {
            let Some(speaker) = self.speakers.get_mut(&loss.speaker) else {
                continue;
            };
            let replaced = speaker.lose(&loss.next_hops, loss.without_other);
            if !replaced.is_empty() {
                self.delivery.lose(&loss.speaker, &replaced, &mut self.outputs);
            }
        }
        self.outputs.len() > before
    }

    /// Whether [`Instance::tell_losses`] or [`Instance::finish_ended`] has something to do.
    pub(super) fn has_losses(&self) -> bool {
        !(self.losses.is_empty() && self.ended.is_empty())
    }

    /// Keeps or removes what sessions that have ended have left.
    pub(super) fn finish_ended(&mut self, now: Instant) {
        for ended in std::mem::take(&mut self.ended) {
            let key = ended.key;
            let Some(peer) = self.peers.get(&key) else {
                continue;
            };
            let (index, id) = (peer.index, peer.speaker.clone());
            if let Some(speaker) = self.speakers.get_mut(&id) {
                // Piece by piece, but from now on.
                speaker.rib.put_off(true);
                if speaker.has_stand_ins() {
                    // Also what stays as it was.
                    speaker.rib.decide_again(index);
                }
            }
            self.keep_or_clear(now, key, &ended.negotiated, &ended.reason);
            if let Some(speaker) = self.speakers.get_mut(&id) {
                speaker.rib.put_off(false);
                speaker.rib.call_due();
                speaker.unsettled = true;
            }
            self.reschedule(key);
        }
    }
}
