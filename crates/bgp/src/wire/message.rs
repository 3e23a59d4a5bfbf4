//! The five messages (RFC 4271 §4, RFC 2918), as values that cannot be wrong.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;

use super::attributes::PathAttributes;
use super::capability::Capability;
use super::types::{Asn, BgpIdentifier, Family};

/// A BGP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// RFC 4271 §4.2.
    Open(Open),
    /// RFC 4271 §4.3.
    Update(Update),
    /// RFC 4271 §4.5.
    Notification(Notification),
    /// RFC 4271 §4.4.
    Keepalive,
    /// RFC 2918, RFC 7313.
    RouteRefresh(RouteRefresh),
}

impl Message {
    /// Appends the message, header and all. An [`Update`] is not encoded here but by `pack`.
    pub fn encode(&self, out: &mut BytesMut) {
        let _ = out;
        todo!()
    }
}

/// An OPEN. `asn` is the real number: taken from the four-octet capability when there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The speaker's AS number.
    pub asn: Asn,
    /// Proposed hold time: 0, or at least 3.
    pub hold_time_secs: u16,
    /// The speaker's BGP Identifier.
    pub identifier: BgpIdentifier,
    /// In the order sent.
    pub capabilities: Vec<Capability>,
}

/// One UPDATE's meaning, RFC 7606 already applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Prefixes that are no longer reachable through the peer, those treated as withdrawn included.
    pub withdrawn: Vec<IpNet>,
    /// What is announced; more than one only when IPv4 NLRI and MP_REACH_NLRI came together.
    pub announced: Vec<Announcement>,
    /// This was an End-of-RIB marker (RFC 4724 §2).
    pub end_of_rib: Option<Family>,
    /// What was wrong and mended.
    pub mended: Vec<Mended>,
}

use super::error::Mended;

/// Prefixes that share a set of attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Shared by all of `prefixes`.
    pub attributes: Arc<PathAttributes>,
    /// At least one, all of one family, no bits beyond the mask.
    pub prefixes: Vec<IpNet>,
}

/// A NOTIFICATION (RFC 4271 §4.5, subcodes of RFC 4486, RFC 8203/9003 text in `data`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// As it is on the wire.
    pub data: Bytes,
}

/// ROUTE-REFRESH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// The family meant.
    pub family: Family,
    /// Request, or the markers of RFC 7313.
    pub kind: RefreshKind,
}

/// The message subtype of RFC 7313 §3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshKind {
    /// 0: please send again.
    Request,
    /// 1: Beginning of Route Refresh.
    Begin,
    /// 2: End of Route Refresh.
    End,
}
