//! Moves: what has to be told of single prefixes, sorted so that routes of one attribute set and one originator meet, and
//! packed into UPDATEs.

use bgp::Family;
use bgp::wire::{EncodeContext, pack_announcement, pack_withdrawal};
use bytes::BytesMut;

use crate::attributes::AttributesId;
use crate::peers::PeerIndex;
use crate::prefix_table::PrefixId;
use crate::tables::Tables;

/// One prefix to announce or to withdraw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    /// Whose route it is, or was: the one peer that is not told.
    pub(crate) originator: PeerIndex,
    /// `None`: withdrawn.
    attributes: Option<AttributesId>,
    family: Family,
    pub(crate) prefix: PrefixId,
}

impl Move {
    pub(crate) fn announce(prefix: PrefixId, attributes: AttributesId, originator: PeerIndex, tables: &Tables) -> Move {
        Move {
            originator,
            attributes: Some(attributes),
            family: tables.prefixes.family(prefix),
            prefix,
        }
    }

    pub(crate) fn withdraw(prefix: PrefixId, originator: PeerIndex, tables: &Tables) -> Move {
        Move {
            originator,
            attributes: None,
            family: tables.prefixes.family(prefix),
            prefix,
        }
    }

    /// Moves of one key share their UPDATEs. Withdrawals come first.
    fn key(&self) -> (Option<AttributesId>, Family) {
        (self.attributes, self.family)
    }
}

/// By originator first: a group leaves out one peer per originator.
pub(crate) fn sort_by_originator(moves: &mut [Move]) {
    moves.sort_unstable_by_key(|it| (it.originator, it.key(), it.prefix));
}

/// For a single reader, who doesn't mind the originator.
pub(crate) fn sort_by_attributes(moves: &mut [Move]) {
    moves.sort_unstable_by_key(|it| (it.key(), it.prefix));
}

/// Appends sorted moves as UPDATEs until `out` is at least `limit` long. How many moves are in it.
pub(crate) fn encode(
    out: &mut BytesMut,
    limit: usize,
    moves: &[Move],
    context: EncodeContext,
    tables: &Tables,
) -> usize {
    let mut done = 0;
    for run in moves.chunk_by(|a, b| a.key() == b.key()) {
        if out.len() >= limit {
            break;
        }
        let prefixes = run.iter().map(|it| tables.prefixes.get(it.prefix));
        match run[0].attributes {
            Some(id) => {
                let attributes = tables.attributes.get(id);
                pack_announcement(out, context, &attributes, run[0].family, prefixes);
            }
            None => pack_withdrawal(out, context, run[0].family, prefixes),
        }
        done += run.len();
    }
    done
}
