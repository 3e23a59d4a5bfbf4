//! Prefixes and their dense numbers. A prefix has a number as long as somebody holds it: a path, a local route, a view that
//! tells it, a change that waits.

use std::hash::Hash;

use bgp::{Family, IpNet};
use hashbrown::HashTable;
use ipnet::{Ipv4Net, Ipv6Net};

use crate::hash::{HashKey, widened};
use crate::ids::{IdAllocator, shrink};
use crate::intern::shrink_index;

/// Most prefixes known at once; the public Internet has about 1.3 million.
pub(crate) const MAX_PREFIXES: usize = 1 << 28;
/// So many of them may be taken before peers' announcements are refused. The others are left for prefixes that we originate.
const MAX_RECEIVED_PREFIXES: usize = MAX_PREFIXES - (1 << 16);

/// A prefix's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PrefixId(pub(crate) u32);

impl PrefixId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// All prefixes that have a number.
#[derive(Debug)]
pub(crate) struct PrefixTable {
    hash_key: HashKey,
    keys: Vec<Key>,
    holders: Vec<u32>,
    ids: IdAllocator,
    index: HashTable<u32>,
    /// The IPv6 prefixes, which do not fit a [`Key`].
    ipv6: Ipv6Prefixes,
    /// [`MAX_RECEIVED_PREFIXES`], and less in tests.
    max_received: usize,
}

impl PrefixTable {
    pub(crate) fn new(hash_key: HashKey) -> PrefixTable {
        PrefixTable {
            hash_key,
            keys: Vec::new(),
            holders: Vec::new(),
            ids: IdAllocator::default(),
            index: HashTable::new(),
            ipv6: Ipv6Prefixes::default(),
            max_received: MAX_RECEIVED_PREFIXES,
        }
    }

    /// The number of a prefix, if it has one.
    pub(crate) fn find(&self, prefix: &IpNet) -> Option<PrefixId> {
        let (keys, ipv6) = (&self.keys, &self.ipv6);
        let id = match prefix {
            IpNet::V4(v4) => {
                let key = Key::ipv4(v4);
                self.index.find(self.hash_of(&key), |id| keys[*id as usize] == key)
            }
            IpNet::V6(v6) => self
                .index
                .find(self.hash_of(v6), |id| ipv6.get(keys[*id as usize]) == Some(v6)),
        };
        id.map(|id| PrefixId(*id))
    }

    /// The same, with a guess that is tried first: tables mostly come in the order in which they came from the peer before.
    #[inline]
    pub(crate) fn find_near(&self, prefix: &IpNet, likely: PrefixId) -> Option<PrefixId> {
        if let IpNet::V4(v4) = prefix
            && self.keys.get(likely.index()) == Some(&Key::ipv4(v4))
        {
            return Some(likely);
        }
        self.find(prefix)
    }

    /// The number of a prefix of ours, newly given if need be; it must be held before the next release. `None`: no number is left
    /// ([`MAX_PREFIXES`]).
    pub(crate) fn find_or_insert(&mut self, prefix: &IpNet) -> Option<PrefixId> {
        self.find(prefix).or_else(|| self.insert(prefix, MAX_PREFIXES))
    }

    /// The same for a prefix that a peer announces, with a guess that is tried first. `None`: too many are held
    /// ([`MAX_RECEIVED_PREFIXES`]).
    #[inline]
    pub(crate) fn find_or_insert_received(&mut self, prefix: &IpNet, likely: PrefixId) -> Option<PrefixId> {
        self.find_near(prefix, likely)
            .or_else(|| self.insert(prefix, self.max_received))
    }

    fn insert(&mut self, prefix: &IpNet, limit: usize) -> Option<PrefixId> {
        if self.ids.live() >= limit {
            return None;
        }
        let key = match prefix {
            IpNet::V4(v4) => Key::ipv4(v4),
            IpNet::V6(v6) => self.ipv6.insert(*v6),
        };
        let id = self.ids.allocate();
        match self.keys.get_mut(id as usize) {
            Some(free) => *free = key,
            None => {
                self.keys.push(key);
                self.holders.push(0);
            }
        }
        let (keys, ipv6, hash_key) = (&self.keys, &self.ipv6, self.hash_key);
        self.index.insert_unique(ipv6.hash(key, hash_key), id, |id| {
            ipv6.hash(keys[*id as usize], hash_key)
        });
        Some(PrefixId(id))
    }

    /// The prefix that a number in use stands for.
    pub(crate) fn get(&self, id: PrefixId) -> IpNet {
        let key = self.keys[id.index()];
        match self.ipv6.get(key) {
            Some(prefix) => IpNet::V6(*prefix),
            None => IpNet::V4(key.to_ipv4()),
        }
    }

    #[inline]
    pub(crate) fn family(&self, id: PrefixId) -> Family {
        if self.keys[id.index()].is_ipv6() {
            Family::Ipv6Unicast
        } else {
            Family::Ipv4Unicast
        }
    }

    #[inline]
    pub(crate) fn hold(&mut self, id: PrefixId) {
        self.holders[id.index()] += 1;
    }

    /// The prefix loses its number with the last holder.
    #[inline]
    pub(crate) fn release(&mut self, id: PrefixId) {
        self.holders[id.index()] -= 1;
        if self.holders[id.index()] == 0 {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: PrefixId) {
        let key = self.keys[id.index()];
        if let Ok(entry) = self
            .index
            .find_entry(self.ipv6.hash(key, self.hash_key), |held| *held == id.0)
        {
            entry.remove();
        }
        self.ipv6.remove(key);
        self.keys[id.index()] = Key::FREE;
        self.ids.release(id.0);
        self.keys.truncate(self.ids.len());
        self.holders.truncate(self.ids.len());
        shrink(&mut self.keys);
        shrink(&mut self.holders);
        let (keys, ipv6, hash_key) = (&self.keys, &self.ipv6, self.hash_key);
        shrink_index(&mut self.index, |id| ipv6.hash(keys[*id as usize], hash_key));
    }

    #[inline]
    fn hash_of(&self, prefix: &impl Hash) -> u64 {
        widened(self.hash_key.hash_of(prefix))
    }

    /// The numbers in use, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = PrefixId> + '_ {
        self.ids.iter().map(PrefixId)
    }

    /// As if so many received prefixes were all that there is room for.
    #[cfg(test)]
    pub(crate) fn set_max_received(&mut self, prefixes: usize) {
        self.max_received = prefixes;
    }

    /// One more than the highest number in use: how long tables by prefix must be.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// How many prefixes have a number.
    pub(crate) fn live(&self) -> usize {
        self.ids.live()
    }
}

/// A prefix in eight octets: an IPv4 prefix itself, or the place of an IPv6 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(u64);

impl Key {
    const FREE: Key = Key(u64::MAX);
    const IPV6: u64 = 1 << 63;

    #[inline]
    fn ipv4(prefix: &Ipv4Net) -> Key {
        Key(u64::from(prefix.addr().to_bits()) << 8 | u64::from(prefix.prefix_len()))
    }

    #[inline]
    fn to_ipv4(self) -> Ipv4Net {
        Ipv4Net::new_assert(((self.0 >> 8) as u32).into(), self.0 as u8)
    }

    #[inline]
    fn is_ipv6(self) -> bool {
        self.0 & Key::IPV6 != 0
    }
}

#[derive(Debug, Default)]
struct Ipv6Prefixes {
    prefixes: Vec<Ipv6Net>,
    ids: IdAllocator,
}

impl Ipv6Prefixes {
    fn insert(&mut self, prefix: Ipv6Net) -> Key {
        let id = self.ids.allocate();
        match self.prefixes.get_mut(id as usize) {
            Some(free) => *free = prefix,
            None => self.prefixes.push(prefix),
        }
        Key(Key::IPV6 | u64::from(id))
    }

    fn remove(&mut self, key: Key) {
        if key.is_ipv6() {
            self.ids.release(key.0 as u32);
            self.prefixes.truncate(self.ids.len());
            shrink(&mut self.prefixes);
        }
    }

    #[inline]
    fn get(&self, key: Key) -> Option<&Ipv6Net> {
        key.is_ipv6()
            .then(|| self.prefixes.get(key.0 as u32 as usize))
            .flatten()
    }

    /// The hash of a key's prefix, of either family.
    fn hash(&self, key: Key, hash_key: HashKey) -> u64 {
        widened(match self.get(key) {
            Some(prefix) => hash_key.hash_of(prefix),
            None => hash_key.hash_of(&key),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_keeps_its_number_while_it_is_held() {
        let mut table = PrefixTable::new(HashKey::new(1, 2));
        let prefixes = ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/9", "::/0", "2001:db8::/32"].map(net);
        let ids = prefixes.map(|prefix| table.find_or_insert(&prefix).unwrap());
        for (id, prefix) in ids.iter().zip(&prefixes) {
            table.hold(*id);
            assert_eq!(table.get(*id), *prefix);
            assert_eq!(table.find(prefix), Some(*id));
        }
        table.release(ids[1]);
        table.release(ids[4]);
        assert_eq!(table.find(&prefixes[1]), None);
        assert_eq!(table.find(&prefixes[4]), None);
        assert_eq!((table.live(), table.len()), (3, 4));
        assert_eq!(table.find_or_insert(&net("2001:db8::/48")), Some(ids[1]));
    }

    #[test]
    fn a_wrong_guess_is_no_harm() {
        let mut table = PrefixTable::new(HashKey::new(1, 2));
        let first = table.find_or_insert_received(&net("10.0.0.0/8"), PrefixId(77)).unwrap();
        table.hold(first);
        assert_ne!(table.find_or_insert_received(&net("10.0.0.0/9"), first), Some(first));
        assert_eq!(table.find_or_insert_received(&net("10.0.0.0/8"), first), Some(first));
    }
}
