//! What a speaker says of its restarts: Graceful Restart (RFC 4724 §3, RFC 8538 §2) and Long-Lived Graceful Restart (RFC 9494 §3).
//!
//! ```text
//! code 64  +-------------+-------------------+    then for each family  +--------+---------+----------+
//!          | R N . . (4) | Restart Time (12) |                          | AFI 2  | SAFI 1  | Flags 1  |  F = 0x80
//!          +-------------+-------------------+                          +--------+---------+----------+
//! code 71  for each family  +--------+---------+----------+------------------------+
//!                           | AFI 2  | SAFI 1  | Flags 1  | Long-Lived Stale Time 3 |  F = 0x80
//!                           +--------+---------+----------+------------------------+
//! ```
//! Families that we do not route are left out.

use super::capability::Capability;
use super::types::{Family, FamilySet};

/// The largest Restart Time: the field has 12 bits.
pub const MAX_RESTART_TIME_SECS: u16 = (1 << 12) - 1;
/// The largest Long-Lived Stale Time: the field has 24 bits.
pub const MAX_STALE_TIME_SECS: u32 = (1 << 24) - 1;

const RESTARTED: u16 = 1 << 15;
const NOTIFICATION: u16 = 1 << 14;
const FORWARDING: u8 = 1 << 7;

/// Graceful Restart, capability 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GracefulRestart {
    /// R: the speaker has restarted.
    pub restarted: bool,
    /// N: a NOTIFICATION that is no Hard Reset, and a hold timer that expires, are restarts as well (RFC 8538).
    pub notification: bool,
    /// Within so many seconds the speaker will be back.
    pub restart_time_secs: u16,
    /// Families whose routes are to be kept meanwhile.
    pub families: FamilySet,
    /// F: of those, families for which it has gone on to forward packets.
    pub forwarding: FamilySet,
}

impl GracefulRestart {
    /// `None`: a length that it cannot have.
    pub(super) fn decode(value: &[u8]) -> Option<GracefulRestart> {
        let (head, families) = value.split_first_chunk()?;
        let (families, []) = families.as_chunks::<4>() else {
            return None;
        };
        let head = u16::from_be_bytes(*head);
        let mut graceful = GracefulRestart {
            restarted: head & RESTARTED != 0,
            notification: head & NOTIFICATION != 0,
            restart_time_secs: head & MAX_RESTART_TIME_SECS,
            ..GracefulRestart::default()
        };
        for &[a, b, safi, flags] in families {
            if let Some(family) = Family::from_afi_safi(u16::from_be_bytes([a, b]), safi) {
                graceful.families.insert(family);
                if flags & FORWARDING != 0 {
                    graceful.forwarding.insert(family);
                }
            }
        }
        Some(graceful)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut head = self.restart_time_secs.min(MAX_RESTART_TIME_SECS);
        if self.restarted {
            head |= RESTARTED;
        }
        if self.notification {
            head |= NOTIFICATION;
        }
        let mut value = head.to_be_bytes().to_vec();
        for family in self.families.iter() {
            let [a, b] = family.afi().to_be_bytes();
            value.extend([a, b, 1, flags(self.forwarding.contains(family))]);
        }
        value
    }
}

/// What a speaker says of one family in capability 71.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LongLived {
    /// F: it has gone on to forward packets.
    pub forwarding: bool,
    /// For so many seconds after the Restart Time its routes are of use as a last resort.
    pub stale_time_secs: u32,
}

/// Long-Lived Graceful Restart, capability 71.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LongLivedGracefulRestart {
    /// IPv4 unicast.
    pub ipv4_unicast: Option<LongLived>,
    /// IPv6 unicast.
    pub ipv6_unicast: Option<LongLived>,
}

impl LongLivedGracefulRestart {
    /// The same of each family.
    pub fn of(families: FamilySet, long_lived: LongLived) -> LongLivedGracefulRestart {
        LongLivedGracefulRestart {
            ipv4_unicast: families.ipv4_unicast.then_some(long_lived),
            ipv6_unicast: families.ipv6_unicast.then_some(long_lived),
        }
    }

    /// What is said of a family.
    pub fn get(&self, family: Family) -> Option<LongLived> {
        match family {
            Family::Ipv4Unicast => self.ipv4_unicast,
            Family::Ipv6Unicast => self.ipv6_unicast,
        }
    }

    /// `None`: a length that it cannot have.
    pub(super) fn decode(value: &[u8]) -> Option<LongLivedGracefulRestart> {
        let (families, []) = value.as_chunks::<7>() else {
            return None;
        };
        let mut capability = LongLivedGracefulRestart::default();
        for &[a, b, safi, flags, high, middle, low] in families {
            let long_lived = Some(LongLived {
                forwarding: flags & FORWARDING != 0,
                stale_time_secs: u32::from_be_bytes([0, high, middle, low]),
            });
            match Family::from_afi_safi(u16::from_be_bytes([a, b]), safi) {
                Some(Family::Ipv4Unicast) => capability.ipv4_unicast = long_lived,
                Some(Family::Ipv6Unicast) => capability.ipv6_unicast = long_lived,
                None => {}
            }
        }
        Some(capability)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut value = Vec::new();
        for family in FamilySet::BOTH.iter() {
            if let Some(long_lived) = self.get(family) {
                let [a, b] = family.afi().to_be_bytes();
                let [_, high, middle, low] = long_lived.stale_time_secs.min(MAX_STALE_TIME_SECS).to_be_bytes();
                value.extend([a, b, 1, flags(long_lived.forwarding), high, middle, low]);
            }
        }
        value
    }
}

fn flags(forwarding: bool) -> u8 {
    if forwarding { FORWARDING } else { 0 }
}

/// What an OPEN offers for the time after its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestartOffer {
    /// RFC 4724.
    pub graceful: Option<GracefulRestart>,
    /// RFC 9494; means nothing without the other one.
    pub long_lived: Option<LongLivedGracefulRestart>,
}

impl RestartOffer {
    /// What an OPEN with these capabilities offers.
    pub fn offered_by(capabilities: &[Capability]) -> RestartOffer {
        let mut offer = RestartOffer::default();
        for capability in capabilities {
            match capability {
                //= https://www.rfc-editor.org/rfc/rfc4724#section-3
                //# If more than one instance of the Graceful Restart Capability is carried in the capability advertisement,
                //# the receiver of the advertisement MUST ignore all but the last instance
                Capability::GracefulRestart(graceful) => offer.graceful = Some(*graceful),
                Capability::LongLivedGracefulRestart(long_lived) => offer.long_lived = Some(*long_lived),
                _ => {}
            }
        }
        //= https://www.rfc-editor.org/rfc/rfc9494#section-4.5
        //# If the LLGR Capability is received without an accompanying GR Capability, the LLGR Capability MUST be ignored
        offer.long_lived = offer.long_lived.filter(|_| offer.graceful.is_some());
        offer
    }

    /// The capabilities that offer this.
    pub fn to_capabilities(self) -> impl Iterator<Item = Capability> {
        let graceful = self.graceful.map(Capability::GracefulRestart);
        let long_lived = self.long_lived.filter(|_| self.graceful.is_some());
        graceful
            .into_iter()
            .chain(long_lived.map(Capability::LongLivedGracefulRestart))
    }
}
