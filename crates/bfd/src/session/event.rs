//! What comes into a session, and what goes out.

use std::time::Duration;

use crate::discard::Discard;
use crate::packet::{ControlPacket, Diagnostic, State};

/// How often, and after how much silence. May change while the session is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// How often we would like to send once the session is Up (bfd.DesiredMinTxInterval).
    pub desired_min_tx: Duration,
    /// How often we can hear (bfd.RequiredMinRxInterval).
    pub required_min_rx: Duration,
    /// So many of our packets lost in a row are a lost path, to the neighbour (bfd.DetectMult); 0 counts as 1.
    pub detect_mult: u8,
}

/// What can happen to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A packet has come for it.
    Received(ControlPacket),
    /// Other intervals from now on.
    Configure(SessionConfig),
    /// Hold it down, and tell the neighbour so (RFC 5880 §6.8.16).
    AdminDown,
    /// Let it come up again.
    AdminUp,
}

/// What a session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to the neighbour.
    Transmit(Vec<u8>),
    /// It is in another state.
    Changed(StateChange),
    /// What came was dropped.
    Discarded(Discard),
}

/// A session is in another state than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Before.
    pub from: State,
    /// Now.
    pub to: State,
    /// Why, as we see it.
    pub diagnostic: Diagnostic,
    /// What the neighbour said last.
    pub remote_state: State,
    /// The neighbour's BFD goes on when its control plane restarts (the C bit of its last packet): so what is silent is the path.
    pub remote_is_independent: bool,
    /// How long nothing had come from the neighbour.
    pub silence: Duration,
}

impl StateChange {
    /// Whether the path is lost. A neighbour that holds the session down itself says nothing of the path (RFC 5882 §3.2), and neither do
    /// we when we do.
    pub fn is_path_lost(&self) -> bool {
        self.from == State::Up && self.to == State::Down && self.remote_state != State::AdminDown
    }
}
