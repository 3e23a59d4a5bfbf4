//! What a peer announced when no prefix number was left: it is not held and competes for nothing, but reports name it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bgp::wire::{Announcement, PathAttributes};
use bgp::{Family, IpNet};

/// So many are named for each peer. Whoever announces more has seen what is wrong from the first ones.
const MAX_NAMED: usize = 256;

/// One peer's announcements that found no room.
#[derive(Debug, Default)]
pub(crate) struct Unheld(BTreeMap<IpNet, Arc<PathAttributes>>);

impl Unheld {
    /// Of an announcement, these prefixes found no room.
    #[inline]
    pub(crate) fn heard(&mut self, announcement: &Announcement, unheld: &[IpNet]) {
        self.remove(&announcement.prefixes);
        for prefix in unheld {
            if self.0.len() < MAX_NAMED {
                self.0.insert(*prefix, Arc::clone(&announcement.attributes));
            }
        }
    }

    /// Prefixes that are held now, or withdrawn.
    #[inline]
    pub(crate) fn remove(&mut self, prefixes: &[IpNet]) {
        if !self.0.is_empty() {
            for prefix in prefixes {
                self.0.remove(prefix);
            }
        }
    }

    /// The peer says everything of a family again.
    pub(crate) fn forget(&mut self, family: Family) {
        self.0.retain(|prefix, _| Family::of(prefix) != family);
    }

    pub(crate) fn get(&self, prefix: &IpNet) -> Option<&Arc<PathAttributes>> {
        self.0.get(prefix)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&IpNet, &Arc<PathAttributes>)> {
        self.0.iter()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn no_peer_can_make_it_grow_without_end() {
        let attributes = Arc::new(PathAttributes::builder(Ipv4Addr::LOCALHOST.into()).build());
        let mut unheld = Unheld::default();
        let prefix = |n: usize| format!("20.{}.{}.0/24", n / 256, n % 256).parse().unwrap();
        let announcement = Announcement {
            attributes,
            prefixes: (0..2 * MAX_NAMED).map(prefix).collect(),
        };
        unheld.heard(&announcement, &announcement.prefixes);
        assert_eq!(unheld.iter().count(), MAX_NAMED);
        unheld.forget(Family::Ipv4Unicast);
        assert_eq!(unheld.iter().count(), 0);
    }
}
