//! Two instances, one truth: the rule by which next hops from both become those of one route. Agents' kernels and the tables that
//! people are shown follow the same function, so they cannot disagree.

use std::net::IpAddr;

/// The next hops of the best (lowest) rank, joined where ranks are equal; sorted, each once.
pub fn best_next_hops<'a, R: Ord + Copy>(said: impl Iterator<Item = (&'a [IpAddr], R)> + Clone) -> Vec<IpAddr> {
    let best = said.clone().map(|(_, rank)| rank).min();
    let mut next_hops: Vec<IpAddr> = said
        .filter(|(_, rank)| Some(*rank) == best)
        .flat_map(|(next_hops, _)| next_hops.iter().copied())
        .collect();
    next_hops.sort_unstable();
    next_hops.dedup();
    next_hops
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ip;

    #[test]
    fn the_best_rank_wins_and_equal_ranks_join() {
        let (a, b, c) = ([ip("10.1.4.5"), ip("10.1.4.4")], [ip("10.1.4.4")], [ip("10.1.4.9")]);
        let said = [(&a[..], 2), (&b[..], 2), (&c[..], 3)];
        assert_eq!(best_next_hops(said.into_iter()), [ip("10.1.4.4"), ip("10.1.4.5")]);
        assert_eq!(best_next_hops(said[2..].iter().copied()), [ip("10.1.4.9")]);
        assert!(best_next_hops(said[..0].iter().copied()).is_empty());
    }
}
