//! The process's memory has a ceiling: when it comes near, the noisiest peer goes, and not the process.
//!
//! How much the process has is measured by whoever runs it; whose it is, is counted by the RIB as routes come and go. The noisiest peer is the
//! one that holds most of what came lately: a large table that has been there for an hour took nobody's memory now. One that holds next to
//! nothing is never ended: its going would not help.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use bgp::session::{self, ConnectionId, Offence};
use bgp::wire::{CeaseSubcode, Notification};

use crate::instance::{Event, Instance, PeerKey};
use crate::report::MemoryReport;

const MIB: u64 = 1 << 20;
/// Memory that is freed takes its time to be given back; nobody else is ended before.
const RELIEF: Duration = Duration::from_secs(2);
/// Unless it goes on growing so near to the ceiling (a part of it): then after this.
const URGENT_PART: u64 = 32;
const URGENT_RELIEF: Duration = Duration::from_millis(200);
/// Who holds less than this part of the ceiling is not the one.
const LEAST_PART: u64 = 64;
/// What a peer holds more than before has come lately for about a minute: each second this part of it settles.
const SETTLING: Duration = Duration::from_secs(1);
const SETTLING_PART: usize = 60;
/// What it holds less than before, as long as it is away for example, is forgotten in some ten minutes.
const FADING_PART: usize = 600;

/// What is known of the process's memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// From the intent; 0: no ceiling.
    pub(super) ceiling_mib: u32,
    used: u64,
    settled_at: Option<Instant>,
    /// When somebody was last ended, since memory was last not short.
    ended_at: Option<Instant>,
    /// That nobody holds much was told, since memory was last not short.
    told: bool,
    peers_ended: u64,
    last_ended: Option<String>,
}

impl Instance {
    /// How much memory the process may have, in octets; `None`: as much as there is.
    pub fn memory_ceiling(&self) -> Option<u64> {
        let mib = u64::from(self.memory.ceiling_mib);
        (mib > 0).then_some(mib * MIB)
    }

    /// From here on the noisiest peer goes: an eighth below the ceiling, since what is under way comes on top.
    pub fn memory_mark(&self) -> Option<u64> {
        self.memory_ceiling().map(|ceiling| ceiling - ceiling / 8)
    }

    /// At the last look the process had as much as that, or more.
    pub fn is_short_of_memory(&self) -> bool {
        self.memory_mark().is_some_and(|mark| self.memory.used >= mark)
    }

    pub(super) fn memory_report(&self) -> Option<MemoryReport> {
        Some(MemoryReport {
            used_bytes: self.memory.used,
            ceiling_bytes: self.memory_ceiling()?,
            is_short: self.is_short_of_memory(),
            peers_ended: self.memory.peers_ended,
            last_ended: self.memory.last_ended.clone(),
        })
    }

    pub(super) fn memory_is(&mut self, now: Instant, used: u64, waiting: &[(ConnectionId, usize)]) {
        self.memory.used = used;
        let (Some(ceiling), Some(mark)) = (self.memory_ceiling(), self.memory_mark()) else {
            return;
        };
        self.settle_octets(now);
        if used < mark {
            self.memory.ended_at = None;
            self.memory.told = false;
        } else if self.may_end_another(now, used, ceiling) {
            let noisiest = self.noisiest(ceiling, waiting);
            match noisiest {
                Some((key, held)) => self.end_for_memory(now, key, held),
                None if std::mem::replace(&mut self.memory.told, true) => {}
                None => self.tell_of_memory(None, 0),
            }
        }
    }

    fn may_end_another(&self, now: Instant, used: u64, ceiling: u64) -> bool {
        let Some(ended_at) = self.memory.ended_at else {
            return true;
        };
        let since = now.saturating_duration_since(ended_at);
        let is_urgent = used >= ceiling - ceiling / URGENT_PART;
        (since >= RELIEF && !self.has_work_left()) || (since >= URGENT_RELIEF && is_urgent)
    }

    /// What has come lately settles with time.
    fn settle_octets(&mut self, now: Instant) {
        let settled_at = self.memory.settled_at.get_or_insert(now);
        if now.saturating_duration_since(*settled_at) < SETTLING {
            return;
        }
        *settled_at = now;
        for peer in self.peers.values_mut() {
            let speaker = self.speakers.get(&peer.speaker);
            let held = speaker.map_or(0, |speaker| speaker.rib.counts(peer.index).octets);
            let more = held.saturating_sub(peer.settled_octets).div_ceil(SETTLING_PART);
            // One that comes back with what it had is no noise: what it holds less counts for a while yet.
            let less = peer.settled_octets.saturating_sub(held).div_ceil(FADING_PART);
            peer.settled_octets = peer.settled_octets + more - less;
        }
    }

    /// Who holds most of what came lately, and how much it holds in all.
    fn noisiest(&self, ceiling: u64, waiting: &[(ConnectionId, usize)]) -> Option<(PeerKey, usize)> {
        let held = self.peers.iter().map(|(key, peer)| {
            let speaker = self.speakers.get(&peer.speaker);
            let octets = speaker.map_or(0, |speaker| speaker.rib.counts(peer.index).octets);
            let its = |(connection, _): &&(ConnectionId, usize)| self.connections.get(connection) == Some(key);
            let waits: usize = waiting.iter().filter(its).map(|(_, octets)| octets).sum();
            let lately = octets.saturating_sub(peer.settled_octets) + waits;
            (*key, octets + waits, lately)
        });
        let noisy = held.filter(|(_, held, _)| *held as u64 >= ceiling / LEAST_PART);
        let noisiest = noisy.max_by_key(|(key, held, lately)| (*lately, *held, Reverse(*key)));
        noisiest.map(|(key, held, _)| (key, held))
    }

    //= https://www.rfc-editor.org/rfc/rfc4486#section-4
    //# If a BGP speaker runs out of resources (e.g., memory) and decides to reset a session, then the speaker MAY send the
    //# peer a NOTIFICATION message with the Error Code Cease and the Error Subcode "Out of Resources".
    fn end_for_memory(&mut self, now: Instant, key: PeerKey, held: usize) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let (id, ceiling_mib) = (peer.intent.id.clone(), self.memory.ceiling_mib);
        self.memory.ended_at = Some(now);
        self.memory.peers_ended += 1;
        self.memory.last_ended = Some(id.clone());
        self.tell_of_memory(Some(id), held);
        let reason = format!(
            "it holds some {} MiB, most of what came lately, and the process is near its ceiling of {ceiling_mib} MiB",
            held as u64 / MIB
        );
        let reset = session::Input::Reset {
            notification: Notification::cease(CeaseSubcode::OutOfResources),
            reason,
            offence: Some(Offence::OutOfResources),
        };
        self.drive(now, key, reset);
        // What was kept of a session before goes, too.
        self.release_all(key);
        // Nor is it known for what it had: who floods again each time it is back is the noisiest each time.
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.settled_octets = 0;
        }
    }

    fn tell_of_memory(&mut self, peer: Option<String>, held: usize) {
        let (used_mib, ceiling_mib) = (self.memory.used / MIB, self.memory.ceiling_mib.into());
        self.event(Event::MemoryShort {
            peer,
            held,
            used_mib,
            ceiling_mib,
        });
    }
}
