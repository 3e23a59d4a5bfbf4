//! A peer's end of a session: decodes what is written and keeps the table that results.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bgp::wire::{DecodeContext, Decoder, Message, PathAttributes, RefreshKind, RouteRefresh, Update};
use bgp::{Family, IpNet};
use rib::GroupKey;

use crate::plain::Plain;

/// One session.
pub(crate) struct Follower {
    decoder: Decoder,
    pub(crate) writable: bool,
    pub(crate) table: BTreeMap<IpNet, Arc<PathAttributes>>,
    pub(crate) end_of_rib: BTreeSet<Family>,
    /// Refreshes with markers: families between BoRR and EoRR with what was not repeated yet.
    refreshing: BTreeMap<Family, BTreeSet<IpNet>>,
    pub(crate) refreshed: usize,
    pub(crate) octets: usize,
}

impl Follower {
    pub(crate) fn new(group: &GroupKey) -> Follower {
        let mut decoder = Decoder::new();
        decoder.set_context(DecodeContext {
            four_octet_as: group.encode.four_octet_as,
            extended_message: group.encode.extended_message,
            families: group.families,
            external: group.asn.is_none(),
        });
        Follower {
            decoder,
            writable: true,
            table: BTreeMap::new(),
            end_of_rib: BTreeSet::new(),
            refreshing: BTreeMap::new(),
            refreshed: 0,
            octets: 0,
        }
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        assert!(self.writable, "written to a peer that takes no more");
        self.octets += bytes.len();
        // In pieces, as sockets give them, and so that the decoder's bounded buffer is no matter here.
        for piece in bytes.chunks(1000) {
            self.decoder.push(piece);
            while let Some(message) = self.decoder.next_message().unwrap() {
                match message {
                    Message::Update(update) => self.update(update),
                    Message::RouteRefresh(refresh) => self.refresh(refresh),
                    other => panic!("not expected: {other:?}"),
                }
            }
        }
    }

    fn update(&mut self, update: Update) {
        assert!(update.mended.is_empty(), "{:?}", update.mended);
        for prefix in update.withdrawn {
            self.table.remove(&prefix);
            self.repeated(&prefix);
        }
        for announcement in update.announced {
            for prefix in announcement.prefixes {
                self.table.insert(prefix, Arc::clone(&announcement.attributes));
                self.repeated(&prefix);
            }
        }
        self.end_of_rib.extend(update.end_of_rib);
    }

    fn repeated(&mut self, prefix: &IpNet) {
        if let Some(stale) = self.refreshing.get_mut(&Plain::family_of(prefix)) {
            stale.remove(prefix);
        }
    }

    fn refresh(&mut self, refresh: RouteRefresh) {
        let family = refresh.family;
        match refresh.kind {
            RefreshKind::Begin => {
                let held = self.table.keys().filter(|prefix| Plain::family_of(prefix) == family);
                let before = self.refreshing.insert(family, held.copied().collect());
                assert!(before.is_none(), "BoRR within a refresh");
            }
            RefreshKind::End => {
                let stale = self.refreshing.remove(&family).expect("EoRR follows BoRR");
                assert!(stale.is_empty(), "not repeated: {stale:?}");
                self.refreshed += 1;
            }
            RefreshKind::Request => panic!("a RIB asks for nothing"),
        }
    }

    pub(crate) fn is_refreshing(&self) -> bool {
        !self.refreshing.is_empty()
    }
}
