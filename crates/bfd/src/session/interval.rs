//! Intervals as the wire has them, in microseconds, and their jitter.

use std::time::Duration;

/// While a session is not Up nobody sends more often (RFC 5880 §6.8.3).
pub(super) const SLOW_TX_US: u32 = 1_000_000;

/// Whatever is configured, nobody is sent more often.
pub(super) const FASTEST_TX_US: u32 = 1_000;

pub(super) fn microseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

pub(super) fn duration(microseconds: u32) -> Duration {
    Duration::from_micros(microseconds.into())
}

/// A small deterministic generator; the seed comes from outside.
#[derive(Clone, Debug)]
pub(super) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(super) fn new(seed: u64) -> Jitter {
        Jitter { state: seed }
    }

    /// Which part of the interval until the next packet, in thousandths.
    //= https://www.rfc-editor.org/rfc/rfc5880#section-6.8.7
    //# The periodic transmission of BFD Control packets MUST be jittered on a per-packet basis by up to 25%, that is, the interval MUST be
    //# reduced by a random value of 0 to 25% … If bfd.DetectMult is equal to 1, the interval between transmitted BFD Control packets MUST be
    //# no more than 90% of the negotiated transmission interval, and MUST be no less than 75% of the negotiated transmission interval.
    pub(super) fn next_permille(&mut self, detect_mult: u8) -> u32 {
        // SplitMix64: good enough to keep systems from sending in step.
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let range = if detect_mult == 1 { 150 } else { 250 };
        750 + (z % (range + 1)) as u32
    }
}
