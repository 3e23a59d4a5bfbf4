//! Which next hops a peer has named, so that it can be told at once which of them nobody names any more when the peer goes.

use std::net::IpAddr;

use smallvec::SmallVec;

/// A peer with more next hops than these is looked at path by path.
const MOST: usize = 32;

/// All next hops that a peer has named since its routes were last cleared, or that there were too many.
#[derive(Clone, Debug, Default)]
pub(crate) struct NextHopsSaid {
    few: SmallVec<[IpAddr; 2]>,
    too_many: bool,
}

impl NextHopsSaid {
    /// The peer names one.
    #[inline]
    pub(crate) fn note(&mut self, next_hop: IpAddr) {
        if self.few.contains(&next_hop) {
            return;
        }
        if self.few.len() < MOST {
            self.few.push(next_hop);
        } else {
            self.too_many = true;
        }
    }

    /// Those that were named first.
    pub(crate) fn known(&self) -> &[IpAddr] {
        &self.few
    }

    /// Whether the peer may have a path through it: not more than that, since what it withdrew is not forgotten.
    pub(crate) fn may_include(&self, next_hop: IpAddr) -> bool {
        self.too_many || self.few.contains(&next_hop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_with_very_many_next_hops_may_have_any() {
        let address = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut said = NextHopsSaid::default();
        (0..32).chain(0..32).for_each(|n| said.note(address(n)));
        assert!(said.may_include(address(31)) && !said.may_include(address(32)));
        said.note(address(40));
        assert_eq!(said.known().len(), 32);
        assert!(said.may_include(address(50)));
    }
}
