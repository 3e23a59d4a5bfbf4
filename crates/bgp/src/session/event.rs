//! What comes into a session, and what goes out.

use std::fmt;

use serde::Serialize;

use super::history::SessionHistory;
use super::restart::{Restart, is_for_good};
use crate::wire::{
    CapabilitySet, CeaseSubcode, DecodeContext, EncodeContext, Message, MessageError, Notification, RouteRefresh,
    Update,
};
use crate::{Asn, BgpIdentifier};

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
    /// ManualStop: Cease with this subcode (RFC 4486).
    Stop {
        /// Why.
        subcode: CeaseSubcode,
        /// For people; the peer's as well where the subcode allows a Shutdown Communication (RFC 9003).
        reason: String,
    },
    /// We end, and will be back: a peer that keeps our routes meanwhile (RFC 4724) is left without a word, since a NOTIFICATION would make
    /// it drop them. Others hear Cease / Administrative Shutdown.
    Leave {
        /// For people.
        reason: String,
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
        /// What the peer did, if it caused it: repeated resets are spaced out.
        offence: Option<Offence>,
    },
    /// Whoever runs us has done something about what the peer was held off for: let it in, its record is clean.
    Pardon,
    /// Ask the peer to send everything again, if it can (RFC 2918).
    RequestRefresh,
}

/// What a peer did to be reset; each kind has its own back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// It sent what it must not, or went deaf.
    Error,
    /// It left: closed the connection, or said farewell with a NOTIFICATION. What is restarted again and again is no attacker.
    Departure,
    /// It announced more prefixes than it may, and will again as soon as it is back.
    PrefixLimit,
    /// It holds most of what the process is short of, and will again when it is back.
    OutOfResources,
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
    /// An attempt ended before the session was Established.
    AttemptFailed(DownReason),
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
    /// What becomes of routes when the session ends, if the two sides agreed on anything.
    pub restart: Option<Restart>,
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

impl DownReason {
    /// Whether it ends more than the session: one side wanted the routes gone, or the peer said too much.
    pub fn is_for_good(&self) -> bool {
        match self {
            DownReason::NotificationSent(sent, _) => is_for_good(sent),
            DownReason::NotificationReceived(received) => received.is_hard_reset(),
            DownReason::ConnectionLost(_) | DownReason::SendHoldTimerExpired => false,
        }
    }

    /// Whether one side heard nothing of the other for too long, or may have: TCP does not say why it ends.
    pub fn is_silence(&self) -> bool {
        match self {
            DownReason::NotificationSent(notification, _) | DownReason::NotificationReceived(notification) => {
                notification.is_silence()
            }
            DownReason::ConnectionLost(_) | DownReason::SendHoldTimerExpired => true,
        }
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Where it has a Shutdown Communication, that is the reason.
            DownReason::NotificationSent(n, why) => write!(f, "we sent NOTIFICATION {}: {why}", n.name()),
            DownReason::NotificationReceived(n) => write!(f, "the peer sent NOTIFICATION {n}"),
            DownReason::ConnectionLost(why) => write!(f, "connection lost: {why}"),
            DownReason::SendHoldTimerExpired => {
                f.write_str("the peer took nothing of what we sent until the send hold timer expired")
            }
        }
    }
}

/// A session as a person wants to see it (az §6, 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// The state of the furthest connection.
    pub state: State,
    /// What was agreed on, while Established.
    pub negotiated: Option<Negotiated>,
    /// What was before.
    pub history: SessionHistory,
}
