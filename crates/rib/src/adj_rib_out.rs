//! Adj-RIB-Out: the views and who follows them (RFC 4271 §3.2, §9.1.3).

use bgp::wire::PathAttributes;
use bgp::{Family, IpNet};
use bytes::Bytes;
use std::sync::Arc;

use crate::export::{ExportPolicy, GroupKey};
use crate::loc_rib::LocRib;
use crate::member::Member;
use crate::peers::{PeerIndex, Peers};
use crate::tables::Tables;
use crate::view::View;

/// All views.
#[derive(Debug, Default)]
pub(crate) struct AdjRibOut {
    views: Vec<View>,
}

impl AdjRibOut {
    /// The peer joins the group's view.
    pub(crate) fn attach(&mut self, peer: PeerIndex, group: GroupKey, tables: &mut Tables) {
        self.detach(peer, tables);
        let number = self.number_of(group);
        self.views[number].members.push(Member::new(peer, group.families));
    }

    /// The peer goes over to another group in the middle of its session: it is told what that group is told otherwise, and that what else it
    /// heard is no more.
    pub(crate) fn regroup(&mut self, peer: PeerIndex, group: GroupKey, tables: &mut Tables) {
        let Some(number) = self.view_of(peer).filter(|number| self.views[*number].key != group) else {
            return;
        };
        let view = &mut self.views[number];
        let Some(place) = view.members.iter().position(|member| member.peer == peer) else {
            return;
        };
        let mut member = view.members.swap_remove(place);
        for (prefix, heard) in view.told_to(peer) {
            member.go_over(prefix, heard, tables);
        }
        if view.members.is_empty() {
            self.views.swap_remove(number).dissolve(tables);
        }
        let number = self.number_of(group);
        let view = &mut self.views[number];
        for (prefix, _) in view.told_to(peer) {
            member.put_off(prefix, tables);
        }
        view.members.push(member);
    }

    /// The peer leaves; the last one takes the view with it.
    pub(crate) fn detach(&mut self, peer: PeerIndex, tables: &mut Tables) {
        let Some(number) = self.view_of(peer) else {
            return;
        };
        let view = &mut self.views[number];
        if let Some(place) = view.members.iter().position(|member| member.peer == peer) {
            view.members.swap_remove(place).dissolve(tables);
        }
        if view.members.is_empty() {
            self.views.swap_remove(number).dissolve(tables);
        }
    }

    /// The peer asks for a family again.
    pub(crate) fn refresh(&mut self, peer: PeerIndex, family: Family, enhanced: bool) {
        if let Some(number) = self.view_of(peer) {
            let view = &mut self.views[number];
            if view.key.families.contains(family)
                && let Some(member) = view.member(peer)
            {
                member.refresh(family, enhanced);
            }
        }
    }

    /// The peer is not told End-of-RIB for now.
    pub(crate) fn hold_end_of_rib(&mut self, peer: PeerIndex) {
        if let Some(member) = self.views.iter_mut().find_map(|view| view.member(peer)) {
            member.holds_end_of_rib = true;
        }
    }

    /// Everybody may be told End-of-RIB.
    pub(crate) fn release_end_of_rib(&mut self) {
        for member in self.views.iter_mut().flat_map(|view| &mut view.members) {
            member.release_end_of_rib();
        }
    }

    /// Whether the peer's connection takes more.
    pub(crate) fn set_writable(&mut self, peer: PeerIndex, writable: bool) {
        if let Some(member) = self.views.iter_mut().find_map(|view| view.member(peer)) {
            member.writable = writable;
        }
    }

    /// Everything must be looked at again.
    pub(crate) fn policy_changed(&mut self) {
        for view in &mut self.views {
            view.all_changed = true;
        }
    }

    /// Brings every view and its members up to date. Whether a writable member waits for more.
    pub(crate) fn flush(
        &mut self,
        loc_rib: &mut LocRib,
        peers: &Peers,
        policy: &impl ExportPolicy,
        tables: &mut Tables,
        write: &mut impl FnMut(PeerIndex, Bytes),
    ) -> bool {
        let changed = loc_rib.take_changed();
        let mut more = false;
        for view in &mut self.views {
            more |= view.flush(&changed, loc_rib, peers, policy, tables, write);
        }
        for id in changed {
            tables.prefixes.release(crate::prefix_table::PrefixId(id));
        }
        more
    }

    /// How many prefixes the peer is told.
    pub(crate) fn count_to(&self, peer: PeerIndex) -> usize {
        self.view_of(peer).map_or(0, |number| self.views[number].count_to(peer))
    }

    /// Everything that the peer is told.
    pub(crate) fn advertised(&self, peer: PeerIndex, tables: &Tables) -> Vec<(IpNet, Arc<PathAttributes>)> {
        self.view_of(peer)
            .map_or_else(Vec::new, |number| self.views[number].advertised(peer, tables))
    }

    /// The group's view; one without members is made where there is none.
    fn number_of(&mut self, group: GroupKey) -> usize {
        let there = self.views.iter().position(|view| view.key == group);
        there.unwrap_or_else(|| {
            self.views.push(View::new(group));
            self.views.len() - 1
        })
    }

    fn view_of(&self, peer: PeerIndex) -> Option<usize> {
        self.views
            .iter()
            .position(|view| view.members.iter().any(|member| member.peer == peer))
    }
}
