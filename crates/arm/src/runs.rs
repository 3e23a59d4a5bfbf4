//! A set of addresses, kept as runs of consecutive ones: the first gap is found without looking at each address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Runs {
    /// The last address of each run by its first. Between two runs of a family there is a gap.
    last_by_first: BTreeMap<IpAddr, IpAddr>,
}

impl Runs {
    pub(crate) fn insert(&mut self, address: IpAddr) {
        if self.run_of(address).is_some() {
            return;
        }
        let before = previous(address).and_then(|before| self.run_of(before));
        let after = next(address).and_then(|after| self.last_by_first.remove(&after));
        let first = before.map_or(address, |(first, _)| first);
        self.last_by_first.insert(first, after.unwrap_or(address));
    }

    pub(crate) fn remove(&mut self, address: IpAddr) {
        let Some((first, last)) = self.run_of(address) else {
            return;
        };
        self.last_by_first.remove(&first);
        if let Some(before) = previous(address).filter(|_| first < address) {
            self.last_by_first.insert(first, before);
        }
        if let Some(after) = next(address).filter(|_| address < last) {
            self.last_by_first.insert(after, last);
        }
    }

    /// The addresses from `first` to `last` that are not in the set (`None`: an empty one), in order.
    pub(crate) fn gaps(runs: Option<&Runs>, first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpAddr> {
        let mut candidate = Some(first);
        std::iter::from_fn(move || {
            let mut address = candidate?;
            if let Some((_, end)) = runs.and_then(|runs| runs.run_of(address)) {
                address = next(end)?;
            }
            candidate = next(address);
            (address <= last).then_some(address)
        })
    }

    fn run_of(&self, address: IpAddr) -> Option<(IpAddr, IpAddr)> {
        let (first, last) = self.last_by_first.range(..=address).next_back()?;
        (address <= *last).then_some((*first, *last))
    }
}

/// The address after this one, in its family.
fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => Some(Ipv4Addr::from(u32::from(v4).checked_add(1)?).into()),
        IpAddr::V6(v6) => Some(Ipv6Addr::from(u128::from(v6).checked_add(1)?).into()),
    }
}

/// The address before this one, in its family.
fn previous(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => Some(Ipv4Addr::from(u32::from(v4).checked_sub(1)?).into()),
        IpAddr::V6(v6) => Some(Ipv6Addr::from(u128::from(v6).checked_sub(1)?).into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn v4(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    fn v6(last: u8) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(u128::MAX - u128::from(last)))
    }

    #[test]
    fn a_full_range_has_no_gap_and_the_end_of_the_addresses_is_no_gap_either() {
        let mut runs = Runs::default();
        for last in 0..4 {
            runs.insert(v6(last));
        }
        assert_eq!(Runs::gaps(Some(&runs), v6(3), v6(0)).next(), None);
        runs.remove(v6(0));
        assert_eq!(Runs::gaps(Some(&runs), v6(3), v6(0)).collect::<Vec<_>>(), [v6(0)]);
        assert_eq!(Runs::gaps(None, v6(1), v6(0)).collect::<Vec<_>>(), [v6(1), v6(0)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn gaps_are_what_a_plain_set_lacks(steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u8..24), 0..60)) {
            let (mut runs, mut model) = (Runs::default(), BTreeSet::new());
            for (insert, is_v4, last) in steps {
                let address = if is_v4 { v4(last) } else { v6(last) };
                match insert {
                    true => { runs.insert(address); model.insert(address); }
                    false => { runs.remove(address); model.remove(&address); }
                }
                for (first, last) in [(v4(3), v4(20)), (v6(20), v6(0))] {
                    let all: Vec<IpAddr> = Runs::gaps(None, first, last).collect();
                    let expected: Vec<IpAddr> = all.into_iter().filter(|address| !model.contains(address)).collect();
                    prop_assert_eq!(Runs::gaps(Some(&runs), first, last).collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}
