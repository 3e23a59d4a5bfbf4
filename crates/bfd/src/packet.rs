//! The BFD Control packet (RFC 5880 §4.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
//! |                       My Discriminator                        |
//! |                      Your Discriminator                       |
//! |                    Desired Min TX Interval                    |
//! |                   Required Min RX Interval                    |
//! |                 Required Min Echo RX Interval                 |
//! |   Auth Type   |   Auth Len    |    Authentication Data...     |
//! ```
//!
//! Parsing makes the checks that need no session. What comes out goes in again octet by octet, so that a digest can be checked over it.

use std::fmt;
use std::num::NonZeroU32;

use serde::Serialize;
use smallvec::SmallVec;

use crate::discard::Discard;

/// Octets of the mandatory section.
pub const MIN_LENGTH: usize = 24;
/// The least Length with the Authentication Present bit set.
const MIN_LENGTH_AUTHENTICATED: usize = 26;
const VERSION: u8 = 1;

const POLL: u8 = 1 << 5;
const FINAL: u8 = 1 << 4;
const CONTROL_PLANE_INDEPENDENT: u8 = 1 << 3;
const AUTHENTICATION_PRESENT: u8 = 1 << 2;
const DEMAND: u8 = 1 << 1;
const MULTIPOINT: u8 = 1;

/// An authentication section as it is on the wire; the longest that anybody makes is that of SHA1.
pub type SectionOctets = SmallVec<[u8; 28]>;

/// The state of a session (RFC 5880 §6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Held down by whoever runs it.
    AdminDown = 0,
    /// Nothing is heard, or the neighbour hears nothing.
    Down = 1,
    /// The neighbour is heard, and does not hear us yet.
    Init = 2,
    /// Each hears the other.
    Up = 3,
}

impl State {
    fn from_bits(bits: u8) -> State {
        match bits & 3 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::AdminDown => "AdminDown",
            State::Down => "Down",
            State::Init => "Init",
            State::Up => "Up",
        })
    }
}

/// Why a session last changed its state (RFC 5880 §4.1): five bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// No Diagnostic.
    pub const NONE: Diagnostic = Diagnostic(0);
    /// Control Detection Time Expired.
    pub const DETECTION_TIME_EXPIRED: Diagnostic = Diagnostic(1);
    /// Neighbor Signaled Session Down.
    pub const NEIGHBOR_SIGNALED_DOWN: Diagnostic = Diagnostic(3);
    /// Administratively Down.
    pub const ADMINISTRATIVELY_DOWN: Diagnostic = Diagnostic(7);

    /// The value on the wire.
    pub fn code(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "No Diagnostic",
            1 => "Control Detection Time Expired",
            2 => "Echo Function Failed",
            3 => "Neighbor Signaled Session Down",
            4 => "Forwarding Plane Reset",
            5 => "Path Down",
            6 => "Concatenated Path Down",
            7 => "Administratively Down",
            8 => "Reverse Concatenated Path Down",
            other => return write!(f, "Diagnostic {other}"),
        })
    }
}

/// Which of a system's sessions a packet is for; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Discriminator(pub NonZeroU32);

impl Discriminator {
    fn from_wire(value: u32) -> Option<Discriminator> {
        NonZeroU32::new(value).map(Discriminator)
    }
}

/// A control packet that has passed the checks of RFC 5880 §6.8.6 which need no session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlPacket {
    /// Why the sender's session last changed.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// P: the sender wants an answer with `is_final`.
    pub poll: bool,
    /// F: this answers a packet with `poll`.
    pub is_final: bool,
    /// C: the sender's BFD lives on when its control plane does not.
    pub control_plane_independent: bool,
    /// D: the sender wants no periodic packets while both are Up.
    pub demand: bool,
    /// So many lost packets are a lost path; not 0.
    pub detect_mult: u8,
    /// The sender's discriminator.
    pub my_discriminator: Discriminator,
    /// The receiver's, as far as the sender knows it.
    pub your_discriminator: Option<Discriminator>,
    /// The sender would like to send so often, microseconds.
    pub desired_min_tx_us: u32,
    /// The sender can hear so often, microseconds; 0: it wants no periodic packets.
    pub required_min_rx_us: u32,
    /// The sender can take echo packets so often, microseconds; 0: none.
    pub required_min_echo_rx_us: u32,
    /// The authentication section, octet by octet; empty without one.
    pub authentication: SectionOctets,
}

impl ControlPacket {
    /// Reads a packet and makes the checks that need no session.
    pub fn parse(octets: &[u8]) -> Result<ControlPacket, Discard> {
        let &[first, second, detect_mult, length, ..] = octets else {
            return Err(Discard::Truncated);
        };
        //= https://www.rfc-editor.org/rfc/rfc5880#section-6.8.6
        //# If the version number is not correct (1), the packet MUST be discarded.
        if first >> 5 != VERSION {
            return Err(Discard::Version);
        }
        //# If the Length field is less than the minimum correct value (24 if the A bit is clear, or 26 if the A bit is set), the packet
        //# MUST be discarded.
        let authenticated = second & AUTHENTICATION_PRESENT != 0;
        let least = if authenticated {
            MIN_LENGTH_AUTHENTICATED
        } else {
            MIN_LENGTH
        };
        let length = usize::from(length);
        //# If the Length field is greater than the payload of the encapsulating protocol, the packet MUST be discarded.
        if length < least || length > octets.len() {
            return Err(Discard::Length);
        }
        //# If the Detect Mult field is zero, the packet MUST be discarded.
        if detect_mult == 0 {
            return Err(Discard::DetectMult);
        }
        //# If the Multipoint (M) bit is nonzero, the packet MUST be discarded.
        if second & MULTIPOINT != 0 {
            return Err(Discard::Multipoint);
        }
        let word = |at: usize| u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
        //# If the My Discriminator field is zero, the packet MUST be discarded.
        let my_discriminator = Discriminator::from_wire(word(4)).ok_or(Discard::MyDiscriminator)?;
        let your_discriminator = Discriminator::from_wire(word(8));
        let state = State::from_bits(second >> 6);
        //# If the Your Discriminator field is zero and the State field is not Down or AdminDown, the packet MUST be discarded.
        if your_discriminator.is_none() && matches!(state, State::Init | State::Up) {
            return Err(Discard::YourDiscriminator);
        }
        // Without the A bit, what Length counts beyond the mandatory section means nothing.
        let authentication = match authenticated {
            true => SectionOctets::from_slice(&octets[MIN_LENGTH..length]),
            false => SectionOctets::new(),
        };
        Ok(ControlPacket {
            diagnostic: Diagnostic(first & 0x1F),
            state,
            poll: second & POLL != 0,
            is_final: second & FINAL != 0,
            control_plane_independent: second & CONTROL_PLANE_INDEPENDENT != 0,
            demand: second & DEMAND != 0,
            detect_mult,
            my_discriminator,
            your_discriminator,
            desired_min_tx_us: word(12),
            required_min_rx_us: word(16),
            required_min_echo_rx_us: word(20),
            authentication,
        })
    }

    /// The packet's octets.
    pub fn encode(&self) -> Vec<u8> {
        let length = MIN_LENGTH + self.authentication.len();
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let second = (self.state as u8) << 6
            | flag(self.poll, POLL)
            | flag(self.is_final, FINAL)
            | flag(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | flag(!self.authentication.is_empty(), AUTHENTICATION_PRESENT)
            | flag(self.demand, DEMAND);
        let mut octets = Vec::with_capacity(length);
        octets.extend([VERSION << 5 | self.diagnostic.0, second, self.detect_mult, length as u8]);
        let your_discriminator = self.your_discriminator.map_or(0, |discriminator| discriminator.0.get());
        for word in [
            self.my_discriminator.0.get(),
            your_discriminator,
            self.desired_min_tx_us,
            self.required_min_rx_us,
            self.required_min_echo_rx_us,
        ] {
            octets.extend(word.to_be_bytes());
        }
        octets.extend(&self.authentication);
        octets
    }
}
