//! One connection's part of the session: how far its OPEN exchange has come.

use super::event::{ConnectionId, Direction, State};
use crate::wire::Open;

/// A session has room for two connections: those of a collision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    First = 0,
    Second = 1,
}

impl Slot {
    pub(super) const BOTH: [Slot; 2] = [Slot::First, Slot::Second];

    pub(super) fn other(self) -> Slot {
        match self {
            Slot::First => Slot::Second,
            Slot::Second => Slot::First,
        }
    }
}

/// How far a connection has come. Each state carries what only it can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The peer dialled while it is held off: nothing is said until the IdleHoldTimer ends. Turning it away instead would
    /// cost the peer its own, often much longer, retry time.
    Parked {
        /// The peer's OPEN, if it came already.
        open: Option<Open>,
    },
    /// Our OPEN is out.
    OpenSent,
    /// Both OPENs are through, ours is acknowledged by nothing yet.
    OpenConfirm(Open),
    /// Both KEEPALIVEs are through.
    Established,
}

/// One TCP connection with the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) direction: Direction,
    pub(super) progress: Progress,
    /// Negotiated; `None` before the peer's OPEN.
    pub(super) hold_time_secs: Option<u16>,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, direction: Direction, progress: Progress) -> Connection {
        Connection {
            id,
            direction,
            progress,
            hold_time_secs: None,
        }
    }

    pub(super) fn state(&self) -> State {
        match self.progress {
            Progress::Parked { .. } => State::Idle,
            Progress::OpenSent => State::OpenSent,
            Progress::OpenConfirm(_) => State::OpenConfirm,
            Progress::Established => State::Established,
        }
    }
}
