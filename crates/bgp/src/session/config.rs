//! What a session is told once: who we are, who the peer is, and how patient we are.

use std::net::IpAddr;
use std::time::Duration;

use crate::wire::{CapabilitySet, RestartOffer};
use crate::{Asn, BgpIdentifier, FamilySet};

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
    /// What we offer for the time after the session; see [`super::Session::offer_restart`]. Azure: nothing (az §2.1).
    pub restart: RestartOffer,
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
                enhanced_route_refresh: false,
                extended_message: false,
                four_octet_as: true,
            },
            restart: RestartOffer::default(),
            dial: true,
            connect_retry: Duration::from_secs(4),
            send_hold_time: None,
            max_idle_hold: Duration::from_secs(60),
            jitter_seed: 0,
        }
    }
}
