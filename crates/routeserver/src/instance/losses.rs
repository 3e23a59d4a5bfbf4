//! Next hops that are lost with sessions. Agents are told at once, before a single path is removed and a single prefix decided: every group
//! of next hops gives way to what is left of it, or to its fallback. That is one message for each table, whatever the number of routes and of
//! sessions that ended together. What the peers said is removed, and its prefixes are decided, when kernels have followed, or a moment later;
//! agents hear what differs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bgp::FamilySet;
use bgp::session::{DownReason, Negotiated};
use rib::PeerIndex;

use crate::instance::retention::persistence;
use crate::instance::{Instance, PeerKey};
use crate::peer::Up;
use crate::peer::retention::{Kept, Phase, Phases};
use crate::vnet::Lost;

/// Agents that have been told what they have lost have so long to bring it into kernels before prefixes are decided, which takes the processors
/// that they need, too. Mostly they have said before that they did it. Peers are told of withdrawn routes so much later at most.
const HEAD_START: Duration = Duration::from_millis(100);

/// What becomes of the routes of a session that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// They are as good as before.
    Graceful,
    /// They are kept as a last resort.
    Kept,
    Gone,
}

/// A session that has ended, and whose routes are still there.
#[derive(Debug)]
pub(super) struct Ended {
    key: PeerKey,
    negotiated: Negotiated,
    reason: DownReason,
    fate: Fate,
}

/// Agents are to be told of it.
#[derive(Debug)]
pub(super) struct Loss {
    key: PeerKey,
    speaker: String,
}

impl Instance {
    /// A session has ended: what of its routes is kept and what goes is carried out when agents have been told what they have lost.
    pub(super) fn ended(&mut self, now: Instant, key: PeerKey, up: Up, reason: DownReason) {
        let fate = self.fate(now, key, &up.negotiated, &reason);
        if fate != Fate::Graceful {
            self.ended_by_standstill(now, key, &up, &reason);
        }
        let loss = self.loss(key, fate);
        let at_once = loss.is_none() && self.ended.is_empty();
        self.losses.extend(loss);
        self.ended.push(Ended {
            key,
            negotiated: up.negotiated,
            reason,
            fate,
        });
        // What has nothing to do with next hops does not wait, but with others that have.
        if at_once {
            self.finish_ended(now);
        }
    }

    fn fate(&self, now: Instant, key: PeerKey, negotiated: &Negotiated, reason: &DownReason) -> Fate {
        let peer = self.peers.get(&key);
        let Some((peer, speaker)) = peer.and_then(|peer| Some((peer, self.speakers.get(&peer.speaker)?))) else {
            return Fate::Gone;
        };
        let stale_time = Duration::from_secs(peer.intent.long_lived_stale_time_secs.into());
        let persisted = persistence(speaker, peer.intent.kind);
        let kept = FamilySet::BOTH.iter().map(|family| {
            let phases = Phases::after(reason, negotiated, family, stale_time, persisted);
            Kept::begin(now, phases).map(|kept| kept.phase)
        });
        let kept: Vec<Phase> = kept.flatten().collect();
        match kept.contains(&Phase::Graceful) {
            true => Fate::Graceful,
            false if kept.is_empty() => Fate::Gone,
            false => Fate::Kept,
        }
    }

    /// `None`: agents would not be told anything before the prefixes are decided.
    fn loss(&self, key: PeerKey, fate: Fate) -> Option<Loss> {
        if fate == Fate::Graceful || self.delivery.is_idle() || self.leaving {
            return None;
        }
        let peer = self.peers.get(&key)?;
        let speaker = self.speakers.get(&peer.speaker)?;
        speaker.loc_rib()?;
        // What kernels of such a gateway have for the route server's routes is not in its own RIB, which so cannot say who else leads there.
        if self.heard_over_ebgp(speaker).is_some() {
            return None;
        }
        let [mut gone, kept] = [Fate::Gone, Fate::Kept].map(|fate| self.ended_at(&peer.speaker, fate));
        gone.extend(kept);
        gone.push(peer.index);
        (!speaker.rib.only_through(&gone).is_empty()).then(|| Loss {
            key,
            speaker: peer.speaker.clone(),
        })
    }

    /// Peers of a speaker whose sessions have ended, and whose routes are still there.
    fn ended_at(&self, speaker: &str, fate: Fate) -> Vec<PeerIndex> {
        let ended = self.ended.iter().filter(|ended| ended.fate == fate);
        let peers = ended.filter_map(|ended| self.peers.get(&ended.key));
        let peers = peers.filter(|peer| peer.speaker == speaker);
        peers.map(|peer| peer.index).collect()
    }

    /// What is lost of a speaker's next hops, also what was told before: those routes are as good as gone.
    fn lost_at(&self, speaker: &str) -> Lost {
        let [gone, kept] = [Fate::Gone, Fate::Kept].map(|fate| self.ended_at(speaker, fate));
        let Some(speaker) = self.speakers.get(speaker) else {
            return Lost::default();
        };
        let all = [gone.as_slice(), kept.as_slice()].concat();
        let next_hops = speaker.rib.only_through(&all);
        let mut last_resort = Vec::new();
        if !kept.is_empty() {
            let for_good = speaker.rib.only_through(&gone);
            let is_kept = next_hops.iter().filter(|next_hop| !for_good.contains(next_hop));
            last_resort.extend(is_kept.copied());
        }
        Lost {
            next_hops,
            last_resort,
            may_be_found: speaker.rib.has_paths_beside(&gone),
        }
    }

    /// The peer is back already.
    pub(super) fn nothing_lost(&mut self, key: PeerKey) {
        self.losses.retain(|loss| loss.key != key);
    }

    /// Tells agents what they have lost, all sessions of a speaker together. True if there was anything to tell: it should go out before
    /// anything else is done.
    pub(super) fn tell_losses(&mut self, now: Instant) -> bool {
        let losses = std::mem::take(&mut self.losses).into_iter();
        let losers: BTreeSet<String> = losses.map(|loss| loss.speaker).collect();
        if self.leaving {
            return false;
        }
        let before = self.outputs.len();
        let mut all_told = true;
        for id in losers {
            let lost = self.lost_at(&id);
            let Some(speaker) = self.speakers.get_mut(&id) else {
                continue;
            };
            let replaced = speaker.lose(&lost);
            if !replaced.is_empty() {
                all_told &= self.delivery.lose(&id, &lost.next_hops, &replaced, &mut self.outputs);
            }
        }
        let told = self.outputs.len() > before;
        if told {
            // Of several that end one after the other the first one's counts: nobody can put off decisions for ever.
            let until = *self.head_start.get_or_insert(now + HEAD_START);
            if !all_told {
                // Tables that are told when prefixes are decided do not wait for others' kernels.
                self.head_start = Some(until.min(now));
            }
        }
        told
    }

    /// Whether agents were told of losses, and their time is over.
    pub(super) fn had_head_start(&self) -> bool {
        self.head_start.is_some_and(|until| until <= self.now)
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

    /// Whether a session of the peer has ended, and its routes are still there.
    pub(super) fn has_just_ended(&self, key: PeerKey) -> bool {
        self.ended.iter().any(|ended| ended.key == key)
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
