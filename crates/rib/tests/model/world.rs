//! RIB, model and peers side by side, and what can happen to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bgp::IpNet;
use bgp::wire::{Announcement, PathAttributes};
use proptest::prelude::*;
use rib::{Choice, HashKey, PeerIndex, Preference, Rank, Rib, RouteSource, Standing, Usage};

use crate::fixtures::{Export, Import, SHAPED, attributes_of, family, group_of, info_of, prefixes_of};
use crate::follower::Follower;
use crate::plain::{Plain, PlainPeer, verdict};

const PEERS: usize = 5;

/// What can happen. Peers, attribute sets and groups are numbers into small tables, prefixes a bit mask.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Announce {
        peer: usize,
        attributes: usize,
        prefixes: u16,
    },
    Withdraw {
        peer: usize,
        prefixes: u16,
    },
    Clear {
        peer: usize,
    },
    Update {
        peer: usize,
        variant: u32,
    },
    Replace {
        peer: usize,
    },
    Attach {
        peer: usize,
        group: usize,
    },
    /// To the group that differs in its shape alone.
    Regroup {
        peer: usize,
    },
    Detach {
        peer: usize,
    },
    Writable {
        peer: usize,
        writable: bool,
    },
    Refresh {
        peer: usize,
        ipv6: bool,
        enhanced: bool,
    },
    BeginRefresh {
        peer: usize,
        ipv6: bool,
    },
    EndRefresh {
        peer: usize,
        ipv6: bool,
    },
    Reconsider {
        import: u16,
    },
    ExportPolicy {
        branch_to_branch: bool,
    },
    SetLocal {
        prefixes: u16,
        attributes: usize,
    },
    SetPreference {
        preference: usize,
    },
    /// What follows belongs to a table that is still arriving, or doesn't.
    PutOff {
        puts_off: bool,
    },
    CallDue,
    Decide,
    Flush,
}

pub(crate) fn any_op() -> impl Strategy<Value = Op> {
    let peer = 0..PEERS;
    prop_oneof![
        8 => (peer.clone(), 0..12usize, any::<u16>())
            .prop_map(|(peer, attributes, prefixes)| Op::Announce { peer, attributes, prefixes }),
        3 => (peer.clone(), any::<u16>()).prop_map(|(peer, prefixes)| Op::Withdraw { peer, prefixes }),
        1 => peer.clone().prop_map(|peer| Op::Clear { peer }),
        1 => (peer.clone(), 0..5u32).prop_map(|(peer, variant)| Op::Update { peer, variant }),
        1 => peer.clone().prop_map(|peer| Op::Replace { peer }),
        4 => (peer.clone(), 0..5usize).prop_map(|(peer, group)| Op::Attach { peer, group }),
        2 => peer.clone().prop_map(|peer| Op::Regroup { peer }),
        1 => peer.clone().prop_map(|peer| Op::Detach { peer }),
        4 => (peer.clone(), any::<bool>()).prop_map(|(peer, writable)| Op::Writable { peer, writable }),
        2 => (peer.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(peer, ipv6, enhanced)| Op::Refresh { peer, ipv6, enhanced }),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, ipv6)| Op::BeginRefresh { peer, ipv6 }),
        1 => (peer, any::<bool>()).prop_map(|(peer, ipv6)| Op::EndRefresh { peer, ipv6 }),
        1 => any::<u16>().prop_map(|import| Op::Reconsider { import: import & 0x1111 }),
        1 => any::<bool>().prop_map(|branch_to_branch| Op::ExportPolicy { branch_to_branch }),
        1 => (any::<u16>(), 0..12usize).prop_map(|(prefixes, attributes)| Op::SetLocal { prefixes, attributes }),
        1 => (0..3usize).prop_map(|preference| Op::SetPreference { preference }),
        3 => any::<bool>().prop_map(|puts_off| Op::PutOff { puts_off }),
        2 => Just(Op::CallDue),
        4 => Just(Op::Decide),
        4 => Just(Op::Flush),
    ]
}

/// One announcement of one prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) peer: usize,
    pub(crate) prefix: usize,
    pub(crate) attributes: usize,
}

pub(crate) fn route() -> impl Strategy<Value = Route> {
    (0..PEERS, 0..4usize, 0..12usize).prop_map(|(peer, prefix, attributes)| Route {
        peer,
        prefix,
        attributes,
    })
}

/// The Loc-RIB after these announcements in this order, ranks included.
pub(crate) fn loc_rib_of(routes: &[Route]) -> BTreeMap<IpNet, Choice> {
    let mut world = World::new();
    for route in routes {
        world.apply(&Op::Announce {
            peer: route.peer,
            attributes: route.attributes,
            prefixes: 1 << route.prefix,
        });
    }
    world.settle_all();
    world.check();
    let choices = world.rib.loc_rib().into_iter();
    choices
        .filter_map(|change| Some((change.prefix, (*change.choice?).clone())))
        .collect()
}

/// Everything side by side.
pub(crate) struct World {
    pub(crate) rib: Rib,
    plain: Plain,
    indices: [PeerIndex; PEERS],
    followers: BTreeMap<PeerIndex, Follower>,
    import: Import,
    export: Export,
    /// What the changes handed out add up to.
    told_choices: BTreeMap<IpNet, Arc<Choice>>,
}

impl World {
    pub(crate) fn new() -> World {
        let mut rib = Rib::new(Preference::ExpressRoute, HashKey::new(1, 2));
        let mut plain = Plain {
            preference: Preference::ExpressRoute,
            peers: BTreeMap::new(),
            local: BTreeMap::new(),
        };
        let indices = std::array::from_fn(|peer| add(&mut rib, &mut plain, peer));
        World {
            rib,
            plain,
            indices,
            followers: BTreeMap::new(),
            import: Import { refused: 0 },
            export: Export { branch_to_branch: true },
            told_choices: BTreeMap::new(),
        }
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match *op {
            Op::Announce {
                peer,
                attributes,
                prefixes,
            } => self.announce(peer, attributes, prefixes),
            Op::Withdraw { peer, prefixes } => self.withdraw(peer, prefixes),
            Op::Clear { peer } => {
                self.rib.clear_peer(self.indices[peer]);
                let plain = self.plain_peer(peer);
                plain.paths.clear();
                plain.stale.clear();
            }
            Op::Update { peer, variant } => {
                self.rib.update_peer(self.indices[peer], info_of(peer, variant));
                self.plain_peer(peer).info = info_of(peer, variant);
            }
            Op::Replace { peer } => {
                let index = self.indices[peer];
                self.rib.remove_peer(index);
                self.plain.peers.remove(&index);
                self.followers.remove(&index);
                self.indices[peer] = add(&mut self.rib, &mut self.plain, peer);
            }
            Op::Attach { peer, group } => {
                self.rib.attach(self.indices[peer], group_of(group));
                self.plain_peer(peer).group = Some(group_of(group));
                self.followers
                    .insert(self.indices[peer], Follower::new(&group_of(group)));
            }
            Op::Regroup { peer } => self.regroup(peer),
            Op::Detach { peer } => {
                self.rib.detach(self.indices[peer]);
                self.plain_peer(peer).group = None;
                self.followers.remove(&self.indices[peer]);
            }
            Op::Writable { peer, writable } => {
                self.rib.set_writable(self.indices[peer], writable);
                if let Some(follower) = self.followers.get_mut(&self.indices[peer]) {
                    follower.writable = writable;
                }
            }
            Op::Refresh { peer, ipv6, enhanced } => {
                self.rib.refresh(self.indices[peer], family(ipv6), enhanced);
            }
            Op::BeginRefresh { peer, ipv6 } => self.begin_refresh(peer, ipv6),
            Op::EndRefresh { peer, ipv6 } => self.end_refresh(peer, ipv6),
            Op::Reconsider { import } => {
                self.import.refused = import;
                self.rib.reconsider(&self.import);
            }
            Op::ExportPolicy { branch_to_branch } => {
                self.export.branch_to_branch = branch_to_branch;
                self.rib.export_policy_changed();
            }
            Op::SetLocal { prefixes, attributes } => self.set_local(prefixes, attributes),
            Op::SetPreference { preference } => {
                let all = [Preference::ExpressRoute, Preference::VpnGateway, Preference::ASPath];
                self.rib.set_preference(all[preference]);
                self.plain.preference = all[preference];
            }
            Op::PutOff { puts_off } => self.rib.put_off(puts_off),
            Op::CallDue => self.rib.call_due(),
            Op::Decide => self.decide(),
            Op::Flush => {
                self.flush();
            }
        }
    }

    fn plain_peer(&mut self, peer: usize) -> &mut PlainPeer {
        self.plain.peers.get_mut(&self.indices[peer]).unwrap()
    }

    fn announce(&mut self, peer: usize, attributes: usize, mask: u16) {
        for ipv6 in [false, true] {
            let prefixes = prefixes_of(mask, ipv6);
            let attributes = attributes_of(attributes, ipv6);
            for prefix in &prefixes {
                let plain = self.plain_peer(peer);
                plain.paths.insert(*prefix, Arc::clone(&attributes));
                plain.stale.remove(prefix);
            }
            let announcement = Announcement { attributes, prefixes };
            self.rib.announce(self.indices[peer], &announcement, &self.import);
        }
    }

    fn regroup(&mut self, peer: usize) {
        let index = self.indices[peer];
        let group = match self.plain_peer(peer).group {
            Some(group) if group == group_of(0) => group_of(SHAPED),
            Some(group) if group == group_of(SHAPED) => group_of(0),
            _ => return,
        };
        self.rib.regroup(index, group);
        self.plain_peer(peer).group = Some(group);
    }

    fn withdraw(&mut self, peer: usize, mask: u16) {
        for ipv6 in [false, true] {
            let prefixes = prefixes_of(mask, ipv6);
            self.rib.withdraw(self.indices[peer], &prefixes);
            for prefix in &prefixes {
                self.plain_peer(peer).paths.remove(prefix);
                self.plain_peer(peer).stale.remove(prefix);
            }
        }
    }

    fn begin_refresh(&mut self, peer: usize, ipv6: bool) {
        self.rib.begin_refresh(self.indices[peer], family(ipv6));
        let plain = self.plain_peer(peer);
        let held = plain.paths.keys().copied();
        plain
            .stale
            .extend(held.filter(|prefix| Plain::family_of(prefix) == family(ipv6)));
    }

    fn end_refresh(&mut self, peer: usize, ipv6: bool) {
        self.rib.end_refresh(self.indices[peer], family(ipv6));
        let plain = self.plain_peer(peer);
        let stale = std::mem::take(&mut plain.stale);
        let (gone, kept): (BTreeSet<IpNet>, _) = stale
            .into_iter()
            .partition(|prefix| Plain::family_of(prefix) == family(ipv6));
        plain.stale = kept;
        plain.paths.retain(|prefix, _| !gone.contains(prefix));
    }

    fn set_local(&mut self, mask: u16, attributes: usize) {
        let mut routes = Vec::new();
        for ipv6 in [false, true] {
            for prefix in prefixes_of(mask & 0x3003, ipv6) {
                routes.push((prefix, RouteSource::VirtualNetwork, attributes_of(attributes, ipv6)));
            }
        }
        self.rib.set_local(&routes);
        let routes = routes.into_iter();
        self.plain.local = routes
            .map(|(prefix, source, attributes)| (prefix, (source, attributes)))
            .collect();
    }

    fn decide(&mut self) {
        for change in self.rib.decide() {
            let before = match &change.choice {
                Some(choice) => self.told_choices.insert(change.prefix, Arc::clone(choice)),
                None => self.told_choices.remove(&change.prefix),
            };
            assert_ne!(before, change.choice, "{} did not change", change.prefix);
        }
    }

    fn flush(&mut self) -> bool {
        let followers = &mut self.followers;
        self.rib.flush(&self.export, &mut |peer, bytes| {
            followers
                .get_mut(&peer)
                .expect("only attached peers are told something")
                .receive(&bytes);
        })
    }

    /// Everybody takes everything.
    pub(crate) fn settle_all(&mut self) {
        for (index, follower) in &mut self.followers {
            follower.writable = true;
            self.rib.set_writable(*index, true);
        }
        self.rib.put_off(false);
        self.rib.call_due();
        self.decide();
        while self.flush() {}
        assert!(self.rib.is_decided());
    }

    pub(crate) fn withdraw_everything(&mut self) {
        for peer in 0..PEERS {
            self.apply(&Op::Clear { peer });
        }
        self.apply(&Op::SetLocal {
            prefixes: 0,
            attributes: 0,
        });
    }

    /// What is held, without the slots that small tables keep.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            attribute_slots: 0,
            ..self.rib.usage()
        }
    }

    pub(crate) fn octets_written(&self) -> usize {
        self.followers.values().map(|follower| follower.octets).sum()
    }

    pub(crate) fn octets_written_to(&self, peer: usize) -> usize {
        self.followers[&self.indices[peer]].octets
    }

    /// Compares all that can be seen.
    pub(crate) fn check(&self) {
        self.check_loc_rib();
        for index in self.indices {
            self.check_peer(index);
        }
        let learned: Vec<IpNet> = self
            .plain
            .peers
            .values()
            .flat_map(|peer| peer.paths.keys().copied())
            .collect();
        for prefix in self.rib.prefixes() {
            assert!(learned.contains(&prefix));
        }
    }

    fn check_loc_rib(&self) {
        let expected = self.plain.loc_rib(&self.import);
        let without_rank = |choice: &Choice| Choice {
            rank: Rank(0),
            ..choice.clone()
        };
        let held: BTreeMap<IpNet, Choice> = self
            .rib
            .loc_rib()
            .iter()
            .map(|change| (change.prefix, without_rank(change.choice.as_ref().unwrap())))
            .collect();
        assert_eq!(held, expected);
        let told = self.told_choices.iter();
        let told: BTreeMap<IpNet, Choice> = told.map(|(prefix, choice)| (*prefix, without_rank(choice))).collect();
        assert_eq!(told, expected, "changes must add up to the Loc-RIB");
    }

    fn check_peer(&self, index: PeerIndex) {
        let plain = &self.plain.peers[&index];
        let accepted = |(prefix, attributes): &(&IpNet, &Arc<PathAttributes>)| {
            verdict(&self.import, index, plain.info.sender(), prefix, attributes).is_none()
        };
        let counts = self.rib.counts(index);
        assert_eq!(counts.received, plain.paths.len());
        assert_eq!(counts.accepted, plain.paths.iter().filter(accepted).count());
        assert_eq!(counts.stale, plain.stale.len());
        let octets = plain
            .paths
            .values()
            .map(|attributes| rib::PATH_OCTETS + attributes.as_bytes().len());
        assert_eq!(counts.octets, octets.sum::<usize>());
        let stale: BTreeSet<IpNet> = self
            .rib
            .received(index)
            .iter()
            .filter(|path| path.stale)
            .map(|path| path.prefix)
            .collect();
        assert_eq!(stale, plain.stale);

        let expected = self.plain.adj_rib_out(index, &self.import, &self.export);
        assert_eq!(counts.advertised, expected.len());
        let advertised: BTreeMap<IpNet, PathAttributes> = self
            .rib
            .advertised(index)
            .into_iter()
            .map(|(prefix, attributes)| (prefix, (*attributes).clone()))
            .collect();
        assert_eq!(advertised, expected);
        if let (Some(follower), Some(group)) = (self.followers.get(&index), plain.group) {
            let held = follower.table.iter();
            let held: BTreeMap<IpNet, PathAttributes> =
                held.map(|(prefix, held)| (*prefix, (**held).clone())).collect();
            assert_eq!(held, expected, "what {index:?} holds");
            assert_eq!(follower.end_of_rib, group.families.iter().collect());
            assert!(!follower.is_refreshing());
        }
        self.check_received(index);
    }

    fn check_received(&self, index: PeerIndex) {
        let plain = &self.plain.peers[&index];
        let received = self.rib.received(index);
        assert_eq!(received.len(), plain.paths.len());
        for report in received {
            assert_eq!(report.attributes, plain.paths[&report.prefix]);
            let rule = verdict(
                &self.import,
                index,
                plain.info.sender(),
                &report.prefix,
                &report.attributes,
            );
            match report.standing {
                Standing::Rejected(said) => assert_eq!(Some(said), rule),
                Standing::Best | Standing::EqualCost => {
                    let next_hop = report.attributes.next_hop();
                    assert!(self.told_choices[&report.prefix].next_hops.contains(&next_hop));
                    assert_eq!(rule, None);
                }
                Standing::Lost(_) => assert_eq!(rule, None),
            }
        }
    }
}

fn add(rib: &mut Rib, plain: &mut Plain, peer: usize) -> PeerIndex {
    let index = rib.add_peer(info_of(peer, 0));
    let before = plain.peers.insert(
        index,
        PlainPeer {
            info: info_of(peer, 0),
            paths: BTreeMap::new(),
            stale: Default::default(),
            group: None,
        },
    );
    assert!(before.is_none(), "a number in use was given out again");
    index
}
