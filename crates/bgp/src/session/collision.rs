//! Which of two connections between the same speakers stays (RFC 4271 §6.8, RFC 6286 §2.3).

use super::event::Direction;
use crate::{Asn, BgpIdentifier};

/// One speaker as the other knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Speaker {
    pub(super) identifier: BgpIdentifier,
    pub(super) asn: Asn,
}

/// The direction, as we see it, of the connection that stays.
///
//= https://www.rfc-editor.org/rfc/rfc4271#section-6.8
//# The BGP Identifier of the local system is compared to the BGP Identifier of the remote
//# system (as specified in the OPEN message). ... If the value of the local BGP Identifier is less than the remote one, the
//# local system closes the BGP connection that already exists ... and accepts the BGP
//# connection initiated by the remote system.
// Between equal identifiers, which RFC 6286 allows to speakers of different ASes, the larger AS number decides (§2.3).
pub(super) fn surviving_direction(local: Speaker, remote: Speaker) -> Direction {
    let ours = (u32::from(local.identifier.0), local.asn);
    let theirs = (u32::from(remote.identifier.0), remote.asn);
    if ours > theirs {
        Direction::Dialled
    } else {
        Direction::Accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(local: (u32, u32), remote: (u32, u32), expected: Direction) {
        let speaker = |(id, asn): (u32, u32)| Speaker {
            identifier: BgpIdentifier(id.into()),
            asn: Asn(asn),
        };
        assert_eq!(surviving_direction(speaker(local), speaker(remote)), expected);
        // The other side must come to the same answer, seen from there.
        let mirrored = if expected == Direction::Dialled {
            Direction::Accepted
        } else {
            Direction::Dialled
        };
        assert_eq!(surviving_direction(speaker(remote), speaker(local)), mirrored);
    }

    #[test]
    fn connection_of_the_higher_identifier_survives_and_both_sides_agree() {
        check((2, 65515), (1, 65001), Direction::Dialled);
        check((1, 65515), (2, 65001), Direction::Accepted);
        check((0xFFFF_FFFF, 1), (0x7FFF_FFFF, 2), Direction::Dialled);
    }

    #[test]
    fn larger_as_number_decides_between_equal_identifiers() {
        check((7, 65515), (7, 65001), Direction::Dialled);
        check((7, 65001), (7, 65515), Direction::Accepted);
    }
}
