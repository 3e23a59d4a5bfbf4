//! A word that nobody can take back: that of an instance whose stream is over, or of its former life while the new one converges.
//!
//! It stays, since packets need it. But a next hop that others named when the instance was last heard, and name no more, is dead, and the word would
//! have said so. So it does not count in that word any more. Where it is not known when that was, this goes for all next hops of the word.

use std::net::IpAddr;

use rustc_hash::FxHashSet;

/// What is lost, compared with before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lost {
    AsBefore,
    /// All of that, and more.
    More,
    /// Something is named again.
    Others,
}

/// What the others have said since an instance was last heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Unheard {
    /// Next hops that are judged by what the others say.
    named: FxHashSet<IpAddr>,
    /// Those of them that they do not name now.
    lost: FxHashSet<IpAddr>,
}

impl Unheard {
    /// From now on nothing is heard; these next hops are not lost as long as the others name them.
    pub(super) fn since(named: FxHashSet<IpAddr>) -> Unheard {
        Unheard {
            named,
            lost: FxHashSet::default(),
        }
    }

    /// These, too, are lost unless the others name them.
    pub(super) fn judges_also(&mut self, next_hops: impl IntoIterator<Item = IpAddr>) {
        self.named.extend(next_hops);
    }

    /// The others name these now.
    pub(super) fn others_name(&mut self, named: &FxHashSet<IpAddr>) -> Lost {
        let lost: FxHashSet<IpAddr> = self.named.difference(named).copied().collect();
        let before = std::mem::replace(&mut self.lost, lost);
        match before.is_subset(&self.lost) {
            true if before.len() == self.lost.len() => Lost::AsBefore,
            true => Lost::More,
            false => Lost::Others,
        }
    }

    /// Whether a next hop is dead.
    pub(super) fn has_lost(&self, next_hop: &IpAddr) -> bool {
        self.lost.contains(next_hop)
    }

    /// Whether nothing is lost.
    pub(super) fn is_whole(&self) -> bool {
        self.lost.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use ipnet::IpNet;

    use crate::layers::Layer;
    use crate::merge::{Changes, Merge, NicFacts, Said, WantedWay};
    use crate::table::{Group, SharedTable, TableRoute, Way};

    const ACTIVE: &str = "10.1.1.4";
    const PASSIVE: &str = "10.1.1.5";
    const OTHER: &str = "10.1.1.6";

    /// Two instances that know one prefix, by ways that can be told apart by rank.
    struct World {
        merge: Merge,
        tables: [SharedTable; 2],
    }

    impl World {
        fn new() -> World {
            let mut world = World {
                merge: Merge::new(2, true),
                tables: Default::default(),
            };
            for voice in 0..2 {
                world.says(voice, Some((ACTIVE, 1)));
                world.speaks(voice, 1);
                world.merge.handle(voice, Said::Converged(true));
            }
            world.goes_through(ACTIVE);
            world
        }

        fn speaks(&mut self, voice: usize, epoch: u64) {
            self.merge.handle(voice, Said::Welcome { epoch });
            let table = self.tables[voice].clone();
            self.merge.handle(voice, Said::Table(NicFacts::default(), table.into()));
        }

        fn says(&mut self, voice: usize, way: Option<(&str, u64)>) {
            let mut table = self.tables[voice].write();
            table.groups.clear();
            table.routes.clear();
            if let Some((member, rank)) = way {
                let members = vec![member.parse().unwrap()];
                table.groups.insert(
                    1,
                    Group {
                        members,
                        fallback: vec![],
                        rank,
                    },
                );
                let (way, system) = (Way::Group(1), false);
                table.routes.insert(prefix(), TableRoute { way, system });
            }
            drop(table);
            let changes = Changes {
                groups: vec![1],
                prefixes: vec![prefix()],
                hides: false,
            };
            self.merge.handle(voice, Said::Changed(Layer::Own, Arc::new(changes)));
        }

        fn restarts(&mut self, voice: usize, epoch: u64) {
            self.tables[voice] = SharedTable::default();
            self.speaks(voice, epoch);
        }

        /// Working everything out again changes nothing.
        #[track_caller]
        fn is_whole(&self) {
            let mut again = self.merge.clone();
            again.rebuild();
            assert_eq!(again.routes(), self.merge.routes());
            for (key, members) in again.groups() {
                assert_eq!(Some(members), self.merge.groups().get(key));
            }
        }

        #[track_caller]
        fn goes_through(&self, next_hop: &str) {
            let Some(WantedWay::Group(key)) = self.merge.routes().get(&prefix()) else {
                panic!("no way");
            };
            assert_eq!(
                self.merge.groups()[key],
                [next_hop.parse::<std::net::IpAddr>().unwrap()]
            );
        }
    }

    fn prefix() -> IpNet {
        "10.250.0.0/16".parse().unwrap()
    }

    #[test]
    fn an_nva_that_dies_while_an_instance_starts_again_goes_when_the_other_instance_says_so() {
        let mut world = World::new();
        world.merge.handle(0, Said::Ended);
        world.restarts(0, 2);
        world.goes_through(ACTIVE);
        world.says(1, Some((PASSIVE, 5)));
        world.goes_through(PASSIVE);
    }

    #[test]
    fn an_nva_that_dies_before_the_instance_is_back_goes_at_once_and_for_good() {
        let mut world = World::new();
        world.merge.handle(0, Said::Ended);
        world.says(1, Some((PASSIVE, 5)));
        world.goes_through(PASSIVE);
        world.restarts(0, 2);
        world.goes_through(PASSIVE);
    }

    #[test]
    fn a_death_while_an_instance_is_away_is_a_change_of_groups_and_not_of_everything() {
        for restarted in [false, true] {
            let mut world = World::new();
            world.merge.handle(0, Said::Ended);
            if restarted {
                world.restarts(0, 2);
            }
            world.merge.take_dirty();
            world.says(1, Some((PASSIVE, 5)));
            let dirty = world.merge.take_dirty();
            assert!(
                !dirty.all && dirty.groups.len() == 1 && dirty.prefixes.is_empty(),
                "{dirty:?}"
            );
            world.is_whole();
            // The last one goes, too.
            world.says(1, None);
            let dirty = world.merge.take_dirty();
            assert!(!dirty.all && dirty.prefixes.contains(&prefix()), "{dirty:?}");
            assert!(world.merge.routes().is_empty());
            world.is_whole();
        }
    }

    /// Tables are written before their readers hear of it.
    #[test]
    fn a_route_that_has_another_group_already_when_its_next_hops_die_goes_through_that() {
        let mut world = World::new();
        world.merge.handle(0, Said::Ended);
        {
            let mut table = world.tables[1].write();
            let mut group = table.groups.remove(&1).unwrap();
            group.members = vec![PASSIVE.parse().unwrap()];
            table.groups.insert(2, group);
            let (way, system) = (Way::Group(2), false);
            table.routes.insert(prefix(), TableRoute { way, system });
        }
        let changes = Changes {
            groups: vec![1],
            ..Changes::default()
        };
        world.merge.handle(1, Said::Changed(Layer::Own, Arc::new(changes)));
        world.goes_through(PASSIVE);
        world.is_whole();
    }

    #[test]
    fn what_is_named_again_counts_again() {
        let mut world = World::new();
        world.merge.handle(0, Said::Ended);
        world.says(1, Some((PASSIVE, 5)));
        world.says(1, Some((ACTIVE, 1)));
        world.goes_through(ACTIVE);
    }

    #[test]
    fn what_only_the_dead_nva_had_goes_with_it() {
        let mut world = World::new();
        world.merge.handle(0, Said::Ended);
        world.restarts(0, 2);
        world.says(1, None);
        assert_eq!(world.merge.routes().get(&prefix()), None);
    }

    #[test]
    fn when_both_instances_are_away_all_stays_also_what_only_one_of_them_had() {
        let mut world = World::new();
        let other: IpNet = "10.251.0.0/16".parse().unwrap();
        let (way, system) = (Way::Group(1), false);
        world.tables[0].write().routes.insert(other, TableRoute { way, system });
        world.speaks(0, 1);
        for voice in [0, 1] {
            world.merge.handle(voice, Said::Ended);
        }
        world.goes_through(ACTIVE);
        assert!(world.merge.routes().contains_key(&other));
        // Nor does it go while one is back and has not said everything.
        world.restarts(1, 2);
        assert!(world.merge.routes().contains_key(&other));
    }

    #[test]
    fn an_nva_with_one_leg_stays_while_its_instance_starts_again() {
        let mut world = World::new();
        world.says(1, Some((PASSIVE, 5)));
        world.goes_through(ACTIVE);
        world.merge.handle(0, Said::Ended);
        world.restarts(0, 2);
        world.goes_through(ACTIVE);
    }

    #[test]
    fn an_instance_that_is_heard_again_in_the_same_life_counts_whole() {
        let mut world = World::new();
        world.merge.handle(0, Said::Ended);
        world.says(1, Some((PASSIVE, 5)));
        world.speaks(0, 1);
        world.goes_through(ACTIVE);
    }

    #[test]
    fn what_an_instance_said_before_it_stood_still_stays_as_far_as_the_other_one_says_so() {
        let mut world = World::new();
        // The other one had heard of a death meanwhile.
        world.says(1, Some((PASSIVE, 5)));
        world.goes_through(ACTIVE);
        world.restarts(0, 2);
        world.goes_through(PASSIVE);
        world.merge.handle(0, Said::Converged(true));
        world.goes_through(PASSIVE);
        world.is_whole();
    }

    #[test]
    fn what_the_only_instance_that_is_heard_said_before_it_stood_still_stays() {
        let mut world = World::new();
        world.merge.handle(1, Said::Ended);
        world.merge.handle(1, Said::Silent);
        world.merge.handle(0, Said::Alive);
        world.restarts(0, 2);
        world.merge.handle(0, Said::Converged(false));
        world.goes_through(ACTIVE);
        // The other one is back, and knows better.
        world.says(1, Some((PASSIVE, 5)));
        world.speaks(1, 1);
        world.goes_through(PASSIVE);
        world.is_whole();
        // Its peers are back.
        world.says(0, Some((PASSIVE, 5)));
        world.merge.handle(0, Said::Converged(true));
        world.goes_through(PASSIVE);
    }

    #[test]
    fn what_only_an_instance_that_stood_still_knows_stays_until_it_has_said_what_is_left() {
        let mut world = World::new();
        world.says(1, Some((PASSIVE, 5)));
        world.merge.handle(0, Said::Welcome { epoch: 2 });
        world.goes_through(ACTIVE);
        world.is_whole();
        // That session has survived.
        let table = world.tables[0].clone();
        world.merge.handle(0, Said::Table(NicFacts::default(), table.into()));
        world.goes_through(ACTIVE);
        world.is_whole();
    }

    #[test]
    fn what_a_life_that_converges_says_counts_also_where_the_former_ones_word_does_not() {
        let mut world = World::new();
        world.merge.handle(0, Said::Ended);
        world.restarts(0, 2);
        world.says(0, Some((ACTIVE, 1)));
        world.says(1, Some((PASSIVE, 5)));
        world.goes_through(ACTIVE);
        world.is_whole();
        world.says(0, Some((PASSIVE, 5)));
        world.goes_through(PASSIVE);
        world.is_whole();
    }

    #[test]
    fn when_both_instances_stood_still_all_stays_until_one_has_heard_everybody() {
        for first in [0, 1] {
            let mut world = World::new();
            world.restarts(first, 2);
            world.goes_through(ACTIVE);
            world.restarts(1 - first, 2);
            world.goes_through(ACTIVE);
            world.says(first, Some((PASSIVE, 5)));
            world.goes_through(ACTIVE);
            world.merge.handle(first, Said::Converged(true));
            world.goes_through(PASSIVE);
            world.is_whole();
        }
    }

    #[test]
    fn next_hops_that_came_between_two_standstills_are_judged_after_the_second() {
        let mut world = World::new();
        world.merge.handle(0, Said::Ended);
        world.restarts(0, 2);
        // Both hear of another one, which dies while the first instance stands still.
        for voice in [1, 0] {
            world.says(voice, Some((OTHER, 0)));
        }
        world.goes_through(OTHER);
        world.says(1, Some((PASSIVE, 5)));
        world.restarts(0, 3);
        world.goes_through(PASSIVE);
        world.is_whole();
    }

    #[test]
    fn a_nic_that_is_gone_keeps_nothing_of_an_instances_former_life() {
        for both_restarted in [false, true] {
            let mut world = World::new();
            world.merge.handle(0, Said::Welcome { epoch: 2 });
            if both_restarted {
                world.merge.handle(1, Said::Welcome { epoch: 2 });
            }
            world.merge.handle(1, Said::Unknown);
            world.merge.handle(0, Said::Unknown);
            world.goes_through(ACTIVE);
            world.merge.handle(0, Said::Converged(true));
            world.merge.handle(1, Said::Converged(true));
            assert!(world.merge.routes().is_empty());
            assert!(
                world.merge.is_known() && world.merge.is_settled(),
                "so it is taken from the kernel"
            );
            world.is_whole();
            // It is made anew.
            world.says(0, Some((PASSIVE, 5)));
            world.speaks(0, 2);
            world.goes_through(PASSIVE);
        }
    }

    #[test]
    fn who_knows_a_nic_no_more_takes_nothing_from_what_the_other_instance_says() {
        let mut world = World::new();
        world.merge.handle(0, Said::Welcome { epoch: 2 });
        world.merge.handle(0, Said::Unknown);
        world.merge.handle(0, Said::Converged(true));
        world.goes_through(ACTIVE);
        world.is_whole();
        world.says(1, Some((PASSIVE, 5)));
        world.goes_through(PASSIVE);
    }
}
