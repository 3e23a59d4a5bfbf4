//! One peer's session: RFC 4271 §8 with collision handling (§6.8), all timers, and both ways of connecting.
//!
//! ```text
//! session.handle(now, Input::Received { connection, message });
//! while let Some(output) = session.poll_output() { driver.carry_out(output) }
//! let wake_at = session.poll_timeout();
//! ```
//!
//! Routes do not pass through here on their way out: once [`Output::Established`] was seen, the owner writes packed UPDATEs
//! to that connection itself.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::wire::{
    CapabilitySet, DecodeContext, EncodeContext, Message, MessageError, Notification, RouteRefresh, Update,
};
use crate::{Asn, BgpIdentifier, FamilySet};

/// A TCP connection, named by whoever opened or accepted it; unique within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Direction {
    /// We dialled.
    Dialled,
    /// The peer dialled, we accepted.
    Accepted,
}

/// What one session needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Our AS number.
    pub local_asn: Asn,
    /// Our BGP Identifier.
    pub local_identifier: BgpIdentifier,
    /// The peer's AS number; another one in its OPEN is refused (Bad Peer AS). `None` accepts any but 0 (for our NVA in tests).
    pub peer_asn: Option<Asn>,
    /// The peer's address, for reports.
    pub peer_address: IpAddr,
    /// The hold time we propose, seconds: 0 or ≥ 3. Azure: 180 (az §2.1).
    pub hold_time_secs: u16,
    /// What we offer.
    pub capabilities: CapabilitySet,
    /// Whether we dial at all; a peer that only accepts needs it, one that only dials does not mind.
    pub dial: bool,
    /// Time between attempts to dial. Azure: 4–5 s (az §2.10, 9).
    pub connect_retry: Duration,
    /// RFC 9687; `None` for the RFC's default: the greater of 8 minutes and twice the hold time.
    pub send_hold_time: Option<Duration>,
    /// The longest we wait before we let a peer in again that keeps causing resets.
    pub max_idle_hold: Duration,
    /// Seed for the jitter of timers (RFC 4271 §10).
    pub jitter_seed: u64,
}

impl SessionConfig {
    /// Azure's values (az §2.1) for a peer.
    pub fn azure(local_identifier: BgpIdentifier, peer_address: IpAddr, peer_asn: Asn) -> SessionConfig {
        SessionConfig {
            local_asn: Asn::AZURE_ROUTE_SERVER,
            local_identifier,
            peer_asn: Some(peer_asn),
            peer_address,
            hold_time_secs: 180,
            capabilities: CapabilitySet {
                families: FamilySet::BOTH,
                route_refresh: true,
                enhanced_route_refresh: true,
                extended_message: true,
                four_octet_as: true,
            },
            dial: true,
            connect_retry: Duration::from_secs(4),
            send_hold_time: None,
            max_idle_hold: Duration::from_secs(60),
            jitter_seed: 0,
        }
    }
}

/// The states of RFC 4271 §8.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum State {
    /// Refusing or waiting to start.
    Idle,
    /// A dial is under way.
    Connect,
    /// Waiting to be dialled.
    Active,
    /// OPEN sent.
    OpenSent,
    /// OPENs exchanged.
    OpenConfirm,
    /// Routes may flow.
    Established,
}

/// What can happen to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// ManualStart / AutomaticStart.
    Start,
    /// ManualStop: Cease with this subcode (RFC 4486) and text (RFC 9003).
    Stop {
        /// Cease subcode.
        subcode: u8,
        /// Shutdown communication, at most 255 bytes are sent.
        communication: String,
    },
    /// A connection is there, dialled or accepted.
    Connected {
        /// Its name from now on.
        connection: ConnectionId,
        /// Who opened it.
        direction: Direction,
    },
    /// What [`Output::Dial`] asked for did not come about.
    DialFailed {
        /// For people.
        reason: String,
    },
    /// A whole message came in.
    Received {
        /// On which connection.
        connection: ConnectionId,
        /// The message.
        message: Message,
    },
    /// The bytes that came in make no message.
    Malformed {
        /// On which connection.
        connection: ConnectionId,
        /// What and which NOTIFICATION.
        error: MessageError,
    },
    /// The connection is gone (FIN, RST, time-out).
    Closed {
        /// Which.
        connection: ConnectionId,
        /// For people.
        reason: String,
    },
    /// The peer stopped taking what we write (RFC 9687).
    WriteBlocked {
        /// Which connection.
        connection: ConnectionId,
    },
    /// It takes bytes again.
    WriteResumed {
        /// Which connection.
        connection: ConnectionId,
    },
    /// Close with this NOTIFICATION: the owner found a reason (prefix limit, configuration changed).
    Reset {
        /// What to tell the peer.
        notification: Notification,
        /// For people.
        reason: String,
        /// Whether the peer caused it, so that repeated resets are spaced out.
        caused_by_peer: bool,
    },
    /// Ask the peer to send everything again, if it can (RFC 2918).
    RequestRefresh,
}

/// What a session wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a connection to the peer; answer with [`Input::Connected`] or [`Input::DialFailed`].
    Dial,
    /// Write a message.
    Send {
        /// Where.
        connection: ConnectionId,
        /// What.
        message: Message,
    },
    /// From now on read UPDATEs of this connection in this context (before the KEEPALIVE that lets the peer send any).
    SetDecodeContext {
        /// Which.
        connection: ConnectionId,
        /// How.
        context: DecodeContext,
    },
    /// Close after everything sent so far has been written, or after 1 s.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// The session is up.
    Established(Negotiated),
    /// The session, having been Established, is down: its routes must go.
    Down(DownReason),
    /// The peer's routes.
    Update(Update),
    /// The peer asks for everything again, or marks its own (RFC 7313).
    Refresh(RouteRefresh),
}

/// What the two OPENs agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The connection that won.
    pub connection: ConnectionId,
    /// Who opened it.
    pub direction: Direction,
    /// The smaller of both hold times; 0 means no keepalives.
    pub hold_time_secs: u16,
    /// The peer's BGP Identifier.
    pub peer_identifier: BgpIdentifier,
    /// The peer's AS number.
    pub peer_asn: Asn,
    /// What both can.
    pub capabilities: CapabilitySet,
    /// How to write UPDATEs to this peer.
    pub encode: EncodeContext,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// We sent a NOTIFICATION.
    NotificationSent(Notification, String),
    /// The peer sent one.
    NotificationReceived(Notification),
    /// TCP ended without one.
    ConnectionLost(String),
    /// RFC 9687.
    SendHoldTimerExpired,
}

/// A session as a person wants to see it (az §6, 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// The state of the furthest connection.
    pub state: State,
    /// When it entered Established, or last left it.
    pub since: Option<Instant>,
    /// What was agreed on, while Established.
    pub negotiated: Option<Negotiated>,
    /// How often it became Established.
    pub established_count: u64,
    /// Why it last went down or could not come up, for people.
    pub last_error: Option<String>,
    /// Messages received and sent by this state machine (UPDATEs written by the owner are not counted here).
    pub messages_received: u64,
    /// See `messages_received`.
    pub messages_sent: u64,
}

/// One peer's session.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// Idle until [`Input::Start`].
    pub fn new(_config: SessionConfig) -> Session {
        todo!()
    }
    /// Takes what happened.
    pub fn handle(&mut self, _now: Instant, _input: Input) {
        todo!()
    }
    /// Fires the timers that are due. Calling it early does nothing.
    pub fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }
    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }
    /// When [`Session::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// For reports.
    pub fn status(&self) -> SessionStatus {
        todo!()
    }
}
