//! A session as a person wants to see it.

use std::time::{Duration, Instant};

use crate::packet::{Diagnostic, Discriminator, State};

/// Where a session stands, and what was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Ours.
    pub state: State,
    /// What the neighbour says; Down while nothing is known of it.
    pub remote_state: State,
    /// Why our state last changed.
    pub diagnostic: Diagnostic,
    /// Why the neighbour's did, as it says.
    pub remote_diagnostic: Diagnostic,
    /// Ours.
    pub discriminator: Discriminator,
    /// The neighbour's, while it is heard.
    pub remote_discriminator: Option<Discriminator>,
    /// How often we send, before jitter; `None`: not at all, since the neighbour wants nothing.
    pub tx_interval: Option<Duration>,
    /// How often we hear at least, as agreed on; `None` while nothing is known of the neighbour.
    pub rx_interval: Option<Duration>,
    /// So much silence is a lost path; `None` while nothing is known of the neighbour.
    pub detection_time: Option<Duration>,
    /// How many lost packets that is, as the neighbour says; 0 while nothing is known of it.
    pub remote_detect_mult: u8,
    /// When it came into its state; `None`: it never had another one.
    pub since: Option<Instant>,
    /// How often it came Up.
    pub ups: u64,
    /// How often it went from Up to another state.
    pub downs: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets received and not dropped.
    pub received: u64,
    /// Packets dropped.
    pub discarded: u64,
}
