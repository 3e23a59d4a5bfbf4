//! The limit on prefixes in total: those of the virtual networks and those learned, whoever sent them, per route server (az §1.1).
//!
//! A prefix that is in stays in; one that would be too many is refused with a verdict of its own and the session goes on. When
//! there is room again everything refused is asked about anew. A prefix counts once, however many peers announce it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bgp::IpNet;
use bgp::wire::PathAttributes;
use rib::{Change, HashKey, ImportPolicy, PeerIndex, RejectRule, Sender, shrink_set};

use crate::keyed::KeyedSet;
use crate::policy::ImportRules;
use crate::speaker::{Inbound, Made};

/// What is in. Not used at all while there is no limit.
#[derive(Debug)]
pub(crate) struct TotalLimit {
    /// Learned prefixes that may be in; `None`: any number.
    room: Option<usize>,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    admitted: KeyedSet<IpNet>,
    /// Those of `admitted` that the Loc-RIB did not have when it was last decided.
    fresh: KeyedSet<IpNet>,
    /// Something was refused since everything was last asked about.
    refused: bool,
}

impl State {
    fn new(key: HashKey) -> State {
        State {
            admitted: KeyedSet::with_hasher(key),
            fresh: KeyedSet::with_hasher(key),
            refused: false,
        }
    }
}

impl TotalLimit {
    pub(crate) fn new(key: HashKey) -> TotalLimit {
        TotalLimit {
            room: None,
            state: RefCell::new(State::new(key)),
        }
    }

    /// `limit` prefixes in all (0: no limit), of which the virtual networks take `local`. True if every verdict must be asked
    /// for anew.
    pub(crate) fn set(&mut self, limit: u32, local: usize) -> bool {
        let room = (limit > 0).then(|| (limit as usize).saturating_sub(local));
        if self.room == room {
            return false;
        }
        self.room = room;
        let state = self.state.get_mut();
        let anew = state.refused || room.is_none_or(|room| state.admitted.len() > room) || state.admitted.is_empty();
        if anew {
            *state = State::new(*state.admitted.hasher());
        }
        anew
    }

    fn admit(&self, prefix: &IpNet) -> bool {
        let Some(room) = self.room else {
            return true;
        };
        let mut state = self.state.borrow_mut();
        if state.admitted.contains(prefix) {
            return true;
        }
        if state.admitted.len() >= room {
            state.refused = true;
            return false;
        }
        state.admitted.insert(*prefix);
        state.fresh.insert(*prefix);
        true
    }

    /// Follows what was decided: prefixes that nobody's accepted path holds any more make room. `holds` tells whether the Loc-RIB
    /// has a prefix. What came and went is looked for only when all is decided: `all`. True if there is room again for something that
    /// was refused.
    pub(crate) fn decided(&mut self, changes: &[Change], all: bool, holds: impl Fn(&IpNet) -> bool) -> bool {
        let Some(room) = self.room else {
            return false;
        };
        let state = self.state.get_mut();
        for change in changes {
            state.fresh.remove(&change.prefix);
            if change.choice.is_none() {
                state.admitted.remove(&change.prefix);
            }
        }
        // One that came and went between two decisions shows in no change; nor does one that was asked about anew and stayed.
        if all {
            for prefix in state.fresh.drain().filter(|prefix| !holds(prefix)) {
                state.admitted.remove(&prefix);
            }
            shrink_set(&mut state.fresh);
        }
        shrink_set(&mut state.admitted);
        let again = state.refused && state.admitted.len() < room;
        state.refused &= !again;
        again
    }
}

/// A speaker's own rules, then the peer's route map, then the limit.
pub(crate) struct Import<'a> {
    pub(crate) rules: &'a ImportRules,
    pub(crate) total: &'a TotalLimit,
    pub(crate) inbound: &'a BTreeMap<PeerIndex, Inbound>,
}

impl Import<'_> {
    fn is_voice(&self, peer: PeerIndex) -> bool {
        self.inbound.values().any(|inbound| inbound.is_voice(peer))
    }
}

impl ImportPolicy for Import<'_> {
    fn refuse_attributes(&self, peer: PeerIndex, from: Sender, attributes: &PathAttributes) -> Option<RejectRule> {
        match self.rules.refuse_attributes(peer, from, attributes) {
            // A route map may clear the path.
            Some(RejectRule::EmptyAsPath) if self.is_voice(peer) => self.rules.refuse_next_hop(attributes),
            refused => refused,
        }
    }

    fn refuse_prefix(&self, from: Sender, prefix: &IpNet) -> Option<RejectRule> {
        self.rules.refuse_prefix(from, prefix)
    }

    fn refuse_route(&self, peer: PeerIndex, prefix: &IpNet, attributes: &PathAttributes) -> Option<RejectRule> {
        match self.inbound.get(&peer).map(|inbound| inbound.make(prefix, attributes)) {
            Some(Made::Nothing) => return Some(RejectRule::DroppedByRouteMap),
            Some(Made::Other(_)) => return Some(RejectRule::ChangedByRouteMap),
            Some(Made::Same) | None => {}
        }
        (!self.total.admit(prefix)).then_some(RejectRule::OverTotalLimit)
    }
}
