//! The five messages (RFC 4271 §4, RFC 2918), as values that cannot be wrong.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use ipnet::IpNet;
use smallvec::SmallVec;

use super::attributes::PathAttributes;
use super::capability::{Capability, CapabilitySet};
use super::error::Mended;
use super::graceful::RestartOffer;
use super::pack::{EncodeContext, pack_announcement, pack_end_of_rib, pack_withdrawal};
use super::types::{Asn, BgpIdentifier, Family, FamilySet};

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

/// The header: marker, length, type (RFC 4271 §4.1).
pub(super) const HEADER_LENGTH: usize = 19;
/// The longest message without RFC 8654, and the longest OPEN and KEEPALIVE with it.
pub(super) const MAX_MESSAGE: usize = 4_096;
/// The longest message with RFC 8654.
pub(super) const MAX_EXTENDED_MESSAGE: usize = 65_535;

/// Message types (RFC 4271 §4.1, RFC 2918 §3).
pub(super) mod message_type {
    pub(in crate::wire) const OPEN: u8 = 1;
    pub(in crate::wire) const UPDATE: u8 = 2;
    pub(in crate::wire) const NOTIFICATION: u8 = 3;
    pub(in crate::wire) const KEEPALIVE: u8 = 4;
    pub(in crate::wire) const ROUTE_REFRESH: u8 = 5;
}

impl Message {
    /// Appends the message, header and all. An [`Update`] is written for a peer with four-octet AS numbers and no extended
    /// messages; whoever knows the peer better uses `pack`.
    pub fn encode(&self, out: &mut BytesMut) {
        let (message_type, start) = match self {
            Message::Open(_) => (message_type::OPEN, out.len()),
            Message::Update(update) => return encode_update(update, out),
            Message::Notification(_) => (message_type::NOTIFICATION, out.len()),
            Message::Keepalive => (message_type::KEEPALIVE, out.len()),
            Message::RouteRefresh(_) => (message_type::ROUTE_REFRESH, out.len()),
        };
        put_header(out, message_type);
        match self {
            Message::Open(open) => super::open::encode(open, out),
            Message::Notification(notification) => {
                out.put_slice(&[notification.code, notification.subcode]);
                let data = &notification.data;
                out.put_slice(&data[..data.len().min(super::notification::MAX_NOTIFICATION_DATA)]);
            }
            Message::RouteRefresh(refresh) => {
                out.put_u16(refresh.family.afi());
                out.put_slice(&[refresh.kind as u8, 1]);
            }
            Message::Update(_) | Message::Keepalive => {}
        }
        finish_message(out, start);
    }
}

fn encode_update(update: &Update, out: &mut BytesMut) {
    let context = EncodeContext {
        four_octet_as: true,
        extended_message: false,
    };
    for family in FamilySet::BOTH.iter() {
        let withdrawn = update.withdrawn.iter().copied();
        pack_withdrawal(
            out,
            context,
            family,
            withdrawn.filter(|prefix| Family::of(prefix) == family),
        );
        for announcement in &update.announced {
            let prefixes = announcement.prefixes.iter().copied();
            let prefixes = prefixes.filter(|prefix| Family::of(prefix) == family);
            pack_announcement(out, context, &announcement.attributes, family, prefixes);
        }
    }
    if let Some(family) = update.end_of_rib {
        pack_end_of_rib(out, family);
    }
}

/// Appends a header whose length [`finish_message`] fills in.
pub(super) fn put_header(out: &mut BytesMut, message_type: u8) {
    let mut header = [0xFF; HEADER_LENGTH];
    header[16..].copy_from_slice(&[0, 0, message_type]);
    out.put_slice(&header);
}

/// Fills in the length of the message that begins at `start` and ends where `out` does.
pub(super) fn finish_message(out: &mut BytesMut, start: usize) {
    let length = (out.len() - start) as u16;
    out[start + 16..start + 18].copy_from_slice(&length.to_be_bytes());
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

impl Open {
    /// What the speaker offers.
    pub fn capability_set(&self) -> CapabilitySet {
        CapabilitySet::offered_by(&self.capabilities)
    }

    /// What it offers for the time after its session.
    pub fn restart_offer(&self) -> RestartOffer {
        RestartOffer::offered_by(&self.capabilities)
    }
}

/// One UPDATE's meaning, RFC 7606 already applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Prefixes that are no longer reachable through the peer, those treated as withdrawn included.
    pub withdrawn: Vec<IpNet>,
    /// What is announced; more than one only when IPv4 NLRI and MP_REACH_NLRI came together.
    pub announced: SmallVec<[Announcement; 1]>,
    /// This was an End-of-RIB marker (RFC 4724 §2).
    pub end_of_rib: Option<Family>,
    /// What was wrong and mended.
    pub mended: Vec<Mended>,
}

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
    Request = 0,
    /// 1: Beginning of Route Refresh.
    Begin = 1,
    /// 2: End of Route Refresh.
    End = 2,
}
