//! Standing still: the process was stopped, its machine was moved, or nobody let it run, for so long that peers took it for dead and ended
//! their sessions. That says nothing of the peers.
//!
//! So an instance that loses a session by its own silence begins another life, as if it had been started again: agents keep what it said
//! before, and it only adds to that until its peers are back. Next hops that the other instance does not name go at once
//! (`agent::merge`), since what this one missed nobody knows.

use std::time::{Duration, Instant};

use bgp::session::{DownReason, Negotiated};

use crate::instance::{Event, Instance, Output, PeerKey};
use crate::intent::PeerIntent;
use crate::peer::restart_offer;

/// What ends so soon afterwards ended because of it. Most of that waits to be read; a BFD session that is down speaks once a second
/// (RFC 5880 §6.8.3).
const AFTERMATH: Duration = Duration::from_secs(2);

/// A time in which we did nothing.
#[derive(Debug)]
pub(super) struct Standstill {
    lasted: Duration,
    until: Instant,
    /// Its first session has ended, and another life begun.
    cost_sessions: bool,
}

impl Instance {
    pub(super) fn stood_still(&mut self, now: Instant, lasted: Duration) {
        let matters_more = |before: &Standstill| now < before.until + AFTERMATH && before.lasted > lasted;
        if !self.standstill.as_ref().is_some_and(matters_more) {
            self.standstill = Some(Standstill {
                lasted,
                until: now,
                cost_sessions: false,
            });
        }
    }

    /// A session has ended. If that was our own silence, agents keep what it told them until the peer is back.
    pub(super) fn ended_by_standstill(
        &mut self,
        now: Instant,
        key: PeerKey,
        negotiated: &Negotiated,
        reason: &DownReason,
    ) {
        let Some(peer) = self.peers.get_mut(&key).filter(|_| reason.is_silence()) else {
            return;
        };
        let Some(standstill) = self.standstill.as_mut().filter(|each| now < each.until + AFTERMATH) else {
            return;
        };
        if !loses_patience(&peer.intent, negotiated, standstill.lasted) || self.leaving {
            return;
        }
        peer.heard_out = false;
        let lasted = standstill.lasted;
        let is_first = !std::mem::replace(&mut standstill.cost_sessions, true);
        // Those who ended before may be back already.
        if is_first || self.converged {
            self.begin_life(now);
            self.event(Event::StoodStill { lasted });
        }
    }

    fn begin_life(&mut self, now: Instant) {
        self.converged = false;
        self.restarted = true;
        for peer in self.peers.values_mut() {
            peer.session.offer_restart(restart_offer(&peer.intent, true));
        }
        for speaker in self.speakers.values_mut() {
            speaker.converge_again(now);
        }
        self.delivery.begin_life();
        self.outputs.push_back(Output::NewLife);
    }
}

/// Whether a peer that hears nothing for so long may give us up. What we said last may have been said just before, or an interval before.
fn loses_patience(intent: &PeerIntent, negotiated: &Negotiated, silence: Duration) -> bool {
    let bfd = intent.bfd.as_ref().map(|bfd| {
        let intervals = u32::from(bfd.multiplier.saturating_sub(1));
        Duration::from_millis(bfd.min_tx_ms.into()) * intervals
    });
    // Keepalives are sent every third of it (RFC 4271 §4.4).
    let hold_time = Duration::from_secs(negotiated.hold_time_secs.into());
    let hold = (!hold_time.is_zero()).then_some(hold_time * 2 / 3);
    bfd.into_iter()
        .chain(hold)
        .min()
        .is_some_and(|patience| silence >= patience)
}
