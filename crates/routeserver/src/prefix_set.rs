//! A set of prefixes that answers whether it covers another prefix: equal to or inside a member. Members are never merged:
//! 10.0.0.0/16 and 10.1.0.0/16 do not cover 10.0.0.0/15.

use bgp::IpNet;
use ipnet::{Ipv4Net, Ipv6Net};

/// Members that no other member covers, by family; such prefixes are disjoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrefixSet {
    ipv4: Vec<Range<u32>>,
    /// One bit for each first octet of an address that some member has: most routes are told apart by it.
    ipv4_first_octets: [u64; 4],
    ipv6: Vec<Range<u128>>,
}

/// The addresses of a prefix, first and last, as numbers: asked for every route that comes in.
type Range<A> = (A, A);

impl PrefixSet {
    /// Whether `prefix` equals a member or lies inside one.
    #[inline]
    pub(crate) fn covers(&self, prefix: &IpNet) -> bool {
        match prefix {
            IpNet::V4(prefix) => {
                let range = range_v4(prefix);
                let octet = (range.0 >> 24) as usize;
                self.ipv4_first_octets[octet / 64] & 1 << (octet % 64) != 0 && covers(&self.ipv4, range)
            }
            IpNet::V6(prefix) => covers(&self.ipv6, range_v6(prefix)),
        }
    }

    /// The members that no other member covers, in order.
    pub(crate) fn outermost(&self) -> impl Iterator<Item = IpNet> {
        let ipv4 = self.ipv4.iter().map(|&(first, last)| {
            let length = (first ^ last).leading_zeros() as u8;
            IpNet::V4(Ipv4Net::new_assert(first.into(), length))
        });
        let ipv6 = self.ipv6.iter().map(|&(first, last)| {
            let length = (first ^ last).leading_zeros() as u8;
            IpNet::V6(Ipv6Net::new_assert(first.into(), length))
        });
        ipv4.chain(ipv6)
    }
}

#[inline]
fn covers<A: Ord>(members: &[Range<A>], (first, last): Range<A>) -> bool {
    let after = members.partition_point(|member| member.0 <= first);
    after > 0 && last <= members[after - 1].1
}

impl FromIterator<IpNet> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> PrefixSet {
        let mut set = PrefixSet::default();
        for prefix in prefixes {
            match prefix {
                IpNet::V4(prefix) => set.ipv4.push(range_v4(&prefix)),
                IpNet::V6(prefix) => set.ipv6.push(range_v6(&prefix)),
            }
        }
        keep_outermost(&mut set.ipv4);
        keep_outermost(&mut set.ipv6);
        for (first, last) in &set.ipv4 {
            for octet in first >> 24..=last >> 24 {
                set.ipv4_first_octets[octet as usize / 64] |= 1 << (octet % 64);
            }
        }
        set
    }
}

fn keep_outermost<A: Ord + Copy>(ranges: &mut Vec<Range<A>>) {
    // Wider prefixes come before those that they contain.
    ranges.sort_unstable_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
    ranges.dedup_by(|inner, outer| inner.1 <= outer.1);
}

#[inline]
fn range_v4(prefix: &Ipv4Net) -> Range<u32> {
    let host = u32::MAX.checked_shr(prefix.prefix_len().into()).unwrap_or(0);
    let first = prefix.addr().to_bits() & !host;
    (first, first | host)
}

#[inline]
fn range_v6(prefix: &Ipv6Net) -> Range<u128> {
    let host = u128::MAX.checked_shr(prefix.prefix_len().into()).unwrap_or(0);
    let first = prefix.addr().to_bits() & !host;
    (first, first | host)
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
    fn names_its_outermost_members_in_order() {
        let members = [
            "fd00::/48",
            "10.2.0.0/15",
            "0.0.0.0/8",
            "10.3.0.0/16",
            "255.255.255.255/32",
        ];
        let set: PrefixSet = members.iter().map(|member| net(member)).collect();
        let named: Vec<String> = set.outermost().map(|prefix| prefix.to_string()).collect();
        let expected = ["0.0.0.0/8", "10.2.0.0/15", "255.255.255.255/32", "fd00::/48"];
        assert_eq!(named, expected);
        let all: PrefixSet = ["::/0", "0.0.0.0/0"].into_iter().map(net).collect();
        assert_eq!(all.outermost().collect::<Vec<_>>(), [net("0.0.0.0/0"), net("::/0")]);
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
        check(&["0.0.0.0/0"], "255.0.0.0/8", true);
        check(&["224.0.0.0/3"], "224.0.0.0/4", true);
        check(&["224.0.0.0/3"], "240.0.0.0/4", true);
        check(&["224.0.0.0/3"], "192.0.0.0/2", false);
    }
}
