//! A set of prefixes that answers whether it covers another prefix: equal to or inside a member. Members are never merged:
//! 10.0.0.0/16 and 10.1.0.0/16 do not cover 10.0.0.0/15.

use std::net::IpAddr;

use bgp::IpNet;

/// Members that no other member covers, in order of family and address; such prefixes are disjoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrefixSet(Vec<IpNet>);

impl PrefixSet {
    /// Whether `prefix` equals a member or lies inside one.
    pub(crate) fn covers(&self, prefix: &IpNet) -> bool {
        let after = self.0.partition_point(|member| start(member) <= start(prefix));
        after > 0 && self.0[after - 1].contains(prefix)
    }
}

impl FromIterator<IpNet> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> PrefixSet {
        let mut prefixes: Vec<IpNet> = prefixes.into_iter().map(|prefix| prefix.trunc()).collect();
        // Wider prefixes come before those that they contain.
        prefixes.sort_unstable_by_key(|prefix| (start(prefix), prefix.prefix_len()));
        prefixes.dedup_by(|inner, outer| outer.contains(&*inner));
        PrefixSet(prefixes)
    }
}

fn start(prefix: &IpNet) -> IpAddr {
    prefix.network()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::net;

    fn check(members: &[&str], prefix: &str, covered: bool) {
        let set: PrefixSet = members.iter().map(|member| net(member)).collect();
        assert_eq!(set.covers(&net(prefix)), covered, "{members:?} and {prefix}");
    }

    #[test]
    fn covers_what_equals_or_lies_inside_a_member() {
        check(&["10.1.0.0/16"], "10.1.0.0/16", true);
        check(&["10.1.0.0/16"], "10.1.255.255/32", true);
        check(&["10.1.0.0/16"], "10.0.0.0/15", false);
        check(&["10.1.0.0/16"], "10.2.0.0/24", false);
        check(&["10.1.0.0/16", "10.1.4.0/24"], "10.1.9.0/24", true);
        check(&["10.1.4.0/24", "10.1.0.0/16", "10.9.0.0/16"], "10.1.9.0/24", true);
        check(&["10.0.0.0/16", "10.1.0.0/16"], "10.0.0.0/15", false);
        check(&["10.0.0.0/16", "10.1.0.0/16"], "10.1.2.0/24", true);
        check(&["10.1.0.0/16", "fd00::/48"], "fd00:0:0:1::/64", true);
        check(&["10.1.0.0/16", "fd00::/48"], "fd00:1::/64", false);
        check(&[], "0.0.0.0/0", false);
        check(&["0.0.0.0/0"], "::/0", false);
    }
}
