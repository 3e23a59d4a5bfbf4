//! Standing still: the process was stopped, its machine slept, or nobody let it run, for so long that peers took it for dead and ended
//! their sessions. That says nothing of the peers.
//!
//! So an instance that loses a session by its own silence begins another life, as if it had been started again: agents keep what it said
//! before, and it only adds to that until its peers are back. Next hops that the other instance does not name go at once
//! (`agent::merge`), since what this one missed nobody knows. Many short standstills that together cost a session are not seen as one.

use std::time::{Duration, Instant};

use bgp::session::{DownReason, Negotiated};

use crate::instance::{Event, Instance, Output, PeerKey};
use crate::peer::{Peer, Up};

/// What ends so soon afterwards ended because of it. Most of that waits to be read; a BFD session that is down speaks once a second
/// (RFC 5880 §6.8.3).
const AFTERMATH: Duration = Duration::from_secs(2);
/// How long a standstill was is known that exactly.
const EXACT: Duration = Duration::from_millis(100);
/// Peers are there, and are dialled: who is not back by then is gone.
const MOST_CONVERGE_SECS: u64 = 30;

/// A time in which we did nothing.
#[derive(Debug)]
pub(super) struct Standstill {
    lasted: Duration,
    until: Instant,
}

impl Instance {
    pub(super) fn stood_still(&mut self, now: Instant, lasted: Duration) {
        let matters_more = |before: &Standstill| now < before.until + AFTERMATH && before.lasted > lasted;
        if !self.standstill.as_ref().is_some_and(matters_more) {
            self.standstill = Some(Standstill { lasted, until: now });
        }
    }

    /// A session has ended. If that was our own silence, agents keep what it told them until the peer is back.
    pub(super) fn ended_by_standstill(&mut self, now: Instant, key: PeerKey, up: &Up, reason: &DownReason) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let cost = |standstill: &&Standstill| now < standstill.until + AFTERMATH && standstill.cost(peer, up, reason);
        let Some(standstill) = self.standstill.as_ref().filter(cost) else {
            return;
        };
        peer.heard_out = false;
        let lasted = standstill.lasted;
        // One life is enough until it has converged: agents keep the words of all before. Those whose sessions ended first may be back already.
        if (self.converged || !self.converges_again) && !self.leaving {
            self.begin_life(now);
            self.event(Event::StoodStill { lasted });
        }
    }

    /// BFD says that a peer has gone silent. One whose session a standstill may have cost is not waited for if it was heard afterwards.
    pub(super) fn silent_after_standstill(&mut self, key: PeerKey) {
        let Some(standstill) = &self.standstill else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.up.is_none()) {
            peer.heard_out |= standstill.is_outlived_by(peer);
        }
    }

    fn begin_life(&mut self, now: Instant) {
        let had_converged = std::mem::replace(&mut self.converged, false);
        self.converges_again = true;
        self.restarted = true;
        self.offer_restarts();
        // Whoever still converges after a start keeps the time for that.
        for speaker in self.speakers.values_mut().filter(|_| had_converged) {
            speaker.converge_again(now, MOST_CONVERGE_SECS);
        }
        self.delivery.begin_life();
        self.outputs.push_back(Output::NewLife);
    }
}

impl Standstill {
    /// Whether it is why a session ended.
    fn cost(&self, peer: &Peer, up: &Up, reason: &DownReason) -> bool {
        // One that has come up since dies of something else.
        let was_up = up.since + self.lasted <= self.until;
        was_up && !self.is_outlived_by(peer) && reason.is_silence() && loses_patience(peer, &up.negotiated, self.lasted)
    }

    /// BFD has heard a peer that is silent now since it began: BFD was not still itself, or has read all that waited when it went on. So it is the
    /// peer that is silent.
    fn is_outlived_by(&self, peer: &Peer) -> bool {
        let heard_since = |at: Instant| at + self.lasted >= self.until + EXACT;
        peer.bfd.silent_since().is_some_and(heard_since)
    }
}

/// Whether a peer that hears nothing for so long may give us up. What we said last may have been said just before, or an interval before.
fn loses_patience(peer: &Peer, negotiated: &Negotiated, silence: Duration) -> bool {
    let bfd = peer.intent.bfd.as_ref().filter(|_| peer.bfd.is_in_use());
    let by_bfd = bfd.map(|bfd| {
        let intervals = u32::from(bfd.multiplier.saturating_sub(1));
        Duration::from_millis(bfd.min_tx_ms.into()) * intervals
    });
    // Keepalives are sent every third of it (RFC 4271 §4.4).
    let hold_time = Duration::from_secs(negotiated.hold_time_secs.into());
    let by_bgp = (!hold_time.is_zero()).then_some(hold_time * 2 / 3);
    let patience = by_bfd.into_iter().chain(by_bgp).min();
    patience.is_some_and(|patience| silence >= patience)
}
