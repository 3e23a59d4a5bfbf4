//! Authentication (RFC 5880 §6.7): who made a packet, and that it is not an old one.
//!
//! ```text
//! simple password: | Type 1 | Len | Key ID | Password… |
//! digests:         | Type 2–5 | Len | Key ID | Reserved | Sequence Number (4) | Digest (16 MD5, 20 SHA1) |
//! ```
//!
//! A digest is over the whole packet with the key, padded with zeros, in the digest's place. MD5 and SHA1 are what the RFC has; their known
//! weaknesses are collisions, which are of no use to somebody who lacks the key.

use std::fmt;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::discard::Discard;
use crate::packet::{ControlPacket, MIN_LENGTH, SectionOctets};

/// Octets of the section before the password.
const PASSWORD_AT: usize = 3;
/// Octets of the section before the digest.
const DIGEST_AT: usize = 8;

/// How packets are authenticated (RFC 5880 §4.1, Auth Type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AuthenticationType {
    /// The password itself is in each packet: against mistakes, not against attackers.
    SimplePassword = 1,
    /// A digest; a packet can be played back while its sequence number is current.
    KeyedMd5 = 2,
    /// A digest, and no sequence number twice.
    MeticulousKeyedMd5 = 3,
    /// As `KeyedMd5`, with SHA1.
    KeyedSha1 = 4,
    /// As `MeticulousKeyedMd5`, with SHA1.
    MeticulousKeyedSha1 = 5,
}

impl AuthenticationType {
    /// The longest key that it takes, octets.
    pub fn max_key_length(self) -> usize {
        match self {
            AuthenticationType::SimplePassword
            | AuthenticationType::KeyedMd5
            | AuthenticationType::MeticulousKeyedMd5 => 16,
            AuthenticationType::KeyedSha1 | AuthenticationType::MeticulousKeyedSha1 => 20,
        }
    }

    fn is_meticulous(self) -> bool {
        matches!(
            self,
            AuthenticationType::MeticulousKeyedMd5 | AuthenticationType::MeticulousKeyedSha1
        )
    }
}

/// A key is empty or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key must have from 1 to {longest} octets")]
pub struct KeyLength {
    /// The longest there may be.
    pub longest: usize,
}

/// How a session's packets are authenticated, with the key. Both ends have the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Authentication {
    kind: AuthenticationType,
    key_id: u8,
    key: SmallVec<[u8; 20]>,
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authentication({:?}, key {}, …)", self.kind, self.key_id)
    }
}

impl Authentication {
    /// Checks the key's length (RFC 5880 §4.2–4.4).
    pub fn new(kind: AuthenticationType, key_id: u8, key: &[u8]) -> Result<Authentication, KeyLength> {
        let longest = kind.max_key_length();
        if key.is_empty() || key.len() > longest {
            return Err(KeyLength { longest });
        }
        Ok(Authentication {
            kind,
            key_id,
            key: SmallVec::from_slice(key),
        })
    }

    /// Which.
    pub fn kind(&self) -> AuthenticationType {
        self.kind
    }

    /// Puts the section into a packet.
    fn seal(&self, packet: &mut ControlPacket, sequence: u32) {
        let section = &mut packet.authentication;
        section.clear();
        if self.kind == AuthenticationType::SimplePassword {
            section.extend([self.kind as u8, (PASSWORD_AT + self.key.len()) as u8, self.key_id]);
            section.extend_from_slice(&self.key);
            return;
        }
        let length = DIGEST_AT + self.kind.max_key_length();
        section.extend([self.kind as u8, length as u8, self.key_id, 0]);
        section.extend(sequence.to_be_bytes());
        section.resize(length, 0);
        let digest = self.digest(packet);
        packet.authentication[DIGEST_AT..].copy_from_slice(&digest);
    }

    /// Over the packet with the key in the digest's place.
    fn digest(&self, packet: &ControlPacket) -> SmallVec<[u8; 20]> {
        let mut octets = packet.encode();
        let (start, end) = (MIN_LENGTH + DIGEST_AT, octets.len());
        octets[start..end].fill(0);
        octets[start..start + self.key.len()].copy_from_slice(&self.key);
        match self.kind.max_key_length() {
            16 => SmallVec::from_slice(&Md5::digest(&octets)),
            _ => SmallVec::from_slice(&sha1_smol::Sha1::from(&octets).digest().bytes()),
        }
    }

    /// Whether the packet's section is of this type, key id and length.
    fn fits(&self, section: &SectionOctets) -> bool {
        let length = match self.kind {
            AuthenticationType::SimplePassword => PASSWORD_AT + self.key.len(),
            _ => DIGEST_AT + self.kind.max_key_length(),
        };
        //= https://www.rfc-editor.org/rfc/rfc5880#section-6.7.3
        //# If the received BFD Control packet does not contain an Authentication Section, or the Auth Type is not correct (2 for
        //# Keyed MD5 or 3 for Meticulous Keyed MD5), then the received packet MUST be discarded.
        //# If the Auth Key ID field does not match the ID of a configured authentication key, the received packet MUST be discarded.
        //# If the Auth Len field is not equal to 24, the packet MUST be discarded.
        section.len() == length && section[..PASSWORD_AT] == [self.kind as u8, length as u8, self.key_id]
    }
}

/// What a session remembers of authentication (RFC 5880 §6.8.1).
#[derive(Clone, Debug)]
pub(crate) struct AuthenticationState {
    authentication: Authentication,
    /// bfd.XmitAuthSeq.
    transmit_sequence: u32,
    /// bfd.RcvAuthSeq; `None`: bfd.AuthSeqKnown is 0.
    received_sequence: Option<u32>,
    /// What was sent last, without its section.
    last_sent: Option<ControlPacket>,
}

impl AuthenticationState {
    /// `sequence` is random (RFC 5880 §6.8.1).
    pub(crate) fn new(authentication: Authentication, sequence: u32) -> AuthenticationState {
        AuthenticationState {
            authentication,
            transmit_sequence: sequence,
            received_sequence: None,
            last_sent: None,
        }
    }

    /// Authenticates what is about to leave.
    pub(crate) fn seal(&mut self, packet: &mut ControlPacket) {
        //= https://www.rfc-editor.org/rfc/rfc5880#section-6.7.3
        //# For Meticulous Keyed MD5, bfd.XmitAuthSeq MUST be incremented in a circular fashion (when treated as an unsigned 32-bit value).
        //# bfd.XmitAuthSeq SHOULD be incremented when the session state changes, or when the transmitted BFD Control packet carries
        //# different contents than the previously transmitted packet.
        if self.authentication.kind.is_meticulous() || self.last_sent.as_ref() != Some(packet) {
            self.transmit_sequence = self.transmit_sequence.wrapping_add(1);
            self.last_sent = Some(packet.clone());
        }
        self.authentication.seal(packet, self.transmit_sequence);
    }

    /// Whether the packet is of somebody who has the key, and none of an earlier time. Only then is anything remembered of it, so that
    /// whoever lacks the key cannot move the window.
    pub(crate) fn check(&mut self, packet: &ControlPacket) -> Result<(), Discard> {
        let (ours, section) = (&self.authentication, &packet.authentication);
        if !ours.fits(section) {
            return Err(Discard::AuthenticationSection);
        }
        if ours.kind == AuthenticationType::SimplePassword {
            return same(&section[PASSWORD_AT..], &ours.key);
        }
        let sequence = u32::from_be_bytes([section[4], section[5], section[6], section[7]]);
        if let Some(last) = self.received_sequence {
            //= https://www.rfc-editor.org/rfc/rfc5880#section-6.7.3
            //# For Keyed MD5, if the sequence number lies outside of the range of bfd.RcvAuthSeq to bfd.RcvAuthSeq+(3*Detect Mult)
            //# inclusive (when treated as an unsigned 32-bit circular number space) the received packet MUST be discarded. For
            //# Meticulous Keyed MD5, if the sequence number lies outside of the range of bfd.RcvAuthSeq+1 to
            //# bfd.RcvAuthSeq+(3*Detect Mult) inclusive … the received packet MUST be discarded.
            let ahead = sequence.wrapping_sub(last);
            let least = u32::from(ours.kind.is_meticulous());
            if ahead < least || ahead > 3 * u32::from(packet.detect_mult) {
                return Err(Discard::Sequence);
            }
        }
        same(&section[DIGEST_AT..], &ours.digest(packet))?;
        self.received_sequence = Some(sequence);
        Ok(())
    }

    /// bfd.AuthSeqKnown becomes 0.
    pub(crate) fn forget_received(&mut self) {
        self.received_sequence = None;
    }
}

/// Compares in a time that does not tell where the difference is.
fn same(given: &[u8], expected: &[u8]) -> Result<(), Discard> {
    let difference = given.iter().zip(expected).fold(0, |sum, (a, b)| sum | (a ^ b));
    match difference == 0 && given.len() == expected.len() {
        true => Ok(()),
        false => Err(Discard::Key),
    }
}
