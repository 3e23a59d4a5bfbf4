//! Next hops that are lost with sessions. Agents are told at once, before a single path is removed and a single prefix decided: every group
//! of next hops gives way to what is left of it, or to its fallback. That is one message for each table, whatever the number of routes and of
//! sessions that ended together. What the peers said is removed, and its prefixes are decided, when kernels have followed, or a moment later;
//! agents hear what differs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bgp::FamilySet;
use bgp::session::{DownReason, Negotiated};
use rib::PeerIndex;

use crate::instance::retention::persistence;
use crate::instance::{Instance, PeerKey};
use crate::peer::retention::{Kept, Phase, Phases};
use crate::vnet::WithoutOther;

/// Agents that have been told what they have lost have so long to bring it into kernels before prefixes are decided, which takes the processors
/// that they need, too. Peers are told of withdrawn routes so much later at most.
const HEAD_START: Duration = Duration::from_millis(20);

/// A session that has ended, and whose routes are still there.
#[derive(Debug)]
pub(super) struct Ended {
    key: PeerKey,
    negotiated: Negotiated,
    reason: DownReason,
}

/// Agents are to be told of it.
#[derive(Debug)]
pub(super) struct Loss {
    key: PeerKey,
    speaker: String,
    /// Its routes are kept as a last resort.
    is_kept: bool,
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
        // What has nothing to do with next hops waits for nobody.
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
        let mut ended = self.ended_at(&peer.speaker);
        ended.push(peer.index);
        (!speaker.rib.only_through(&ended).is_empty()).then(|| Loss {
            key,
            speaker: peer.speaker.clone(),
            is_kept: !kept.is_empty(),
        })
    }

    /// Peers of a speaker whose sessions have ended, and whose routes are still there.
    fn ended_at(&self, speaker: &str) -> Vec<PeerIndex> {
        let ended = self.ended.iter().filter_map(|ended| self.peers.get(&ended.key));
        let ended = ended.filter(|peer| peer.speaker == speaker);
        ended.map(|peer| peer.index).collect()
    }

    /// The peer is back already.
    pub(super) fn nothing_lost(&mut self, key: PeerKey) {
        self.losses.retain(|loss| loss.key != key);
    }

    /// Tells agents what they have lost, all sessions of a speaker together. True if there was anything to tell: it should go out before
    /// anything else is done.
    pub(super) fn tell_losses(&mut self, now: Instant) -> bool {
        // Speakers, and whether routes of theirs are kept.
        let mut losers: BTreeMap<String, bool> = BTreeMap::new();
        for loss in std::mem::take(&mut self.losses) {
            *losers.entry(loss.speaker).or_default() |= loss.is_kept;
        }
        if self.leaving {
            return false;
        }
        let before = self.outputs.len();
        for (id, is_kept) in losers {
            // Also those of which was told before: their routes are as good as gone.
            let peers = self.ended_at(&id);
            let Some(speaker) = self.speakers.get_mut(&id) else {
                continue;
            };
            let next_hops = speaker.rib.only_through(&peers);
            let without_other = match is_kept {
                true => WithoutOther::Stays,
                false if speaker.rib.has_paths_beside(&peers) => WithoutOther::MayBeFound,
                false => WithoutOther::Goes,
            };
            let replaced = speaker.lose(&next_hops, without_other);
            if !replaced.is_empty() {
                self.delivery.lose(&id, &replaced, &mut self.outputs);
            }
        }
        let told = self.outputs.len() > before;
        if told {
            // Of several that end one after the other the first one's counts: nobody can put off decisions for ever.
            self.head_start.get_or_insert(now + HEAD_START);
        }
        told
    }

    /// Whether agents are still about to bring what they have lost into kernels, and have time left for it.
    pub(super) fn gives_head_start(&self) -> bool {
        self.head_start_until().is_some()
    }

    /// Until when agents have the time for it that they need.
    pub(super) fn head_start_until(&self) -> Option<Instant> {
        let waits = !self.leaving && !self.ended.is_empty() && self.losses.is_empty();
        let until = self.head_start.filter(|until| waits && self.now < *until)?;
        (!self.delivery.has_installed_losses()).then_some(until)
    }

    /// Whether [`Instance::tell_losses`] or [`Instance::finish_ended`] has something to do.
    pub(super) fn has_losses(&self) -> bool {
        !(self.losses.is_empty() && self.ended.is_empty())
    }

    /// Keeps or removes what sessions that have ended have left.
    pub(super) fn finish_ended(&mut self, now: Instant) {
        // Also what stays as it was is decided again then, since tables may have been told something else.
        self.tell_losses(now);
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
        self.head_start = None;
        self.delivery.forget_losses();
    }
}
