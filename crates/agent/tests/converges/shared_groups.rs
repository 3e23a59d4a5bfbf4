//! Groups of the instances that share one kernel group: they change together with one operation, and part without harm.

use agent::layers::Layer;
use agent::merge::Changes;
use agent::table::{TableRoute, Way};
use ipnet::IpNet;

use crate::world::World;
use crate::{Event, OWN, hop, prefix};

/// Four prefixes of one kernel group with these next hops, that the instance calls two groups since it restarted: the first so many prefixes,
/// and the others.
fn world_with_two_groups_in_one(first: u8, members: &[u8]) -> World {
    let mut world = World::new(4);
    world.happen(group(0, members, &[1]));
    for prefix in 0..4 {
        world.happen(route(prefix, 0));
    }
    for voice in 0..2 {
        world.happen(Event::Converges { voice });
    }
    world.settle();
    world.happen(Event::Restarts { voice: 0 });
    for prefix in 0..4 {
        let id = u32::from(prefix >= first);
        world.happen(group(id, members, &[1]));
        world.happen(route(prefix, id));
    }
    world.happen(Event::Converges { voice: 0 });
    world.kernel.touched.clear();
    world.settle();
    assert_eq!((world.kernel.touched.len(), world.kernel.groups.len()), (0, 1));
    world
}

fn group(id: u32, members: &[u8], fallback: &[u8]) -> Event {
    Event::Group {
        voice: 0,
        layer: Layer::Own,
        id,
        members: members.to_vec(),
        fallback: fallback.to_vec(),
        rank: 1,
    }
}

fn route(prefix: u8, id: u32) -> Event {
    let (voice, layer, way) = (0, Layer::Own, Some(Way::Group(id)));
    Event::Route {
        voice,
        layer,
        prefix,
        way,
    }
}

/// Both groups of the instance get other members by one word.
fn say_members_of_both(world: &mut World, members: [&[u8]; 2]) {
    for (id, members) in (0..).zip(members) {
        let mut table = world.instances[0].table.write();
        let group = table.groups.get_mut(&id).unwrap();
        group.members = members.iter().copied().map(hop).collect();
        group.fallback.clear();
    }
    let groups = vec![0, 1];
    world.say_changes(
        0,
        Layer::Own,
        Changes {
            groups,
            ..Changes::default()
        },
    );
    world.kernel.touched.clear();
    world.work_off();
    assert_eq!(world.kernel.ways(), world.model());
}

fn prefixes(numbers: std::ops::Range<u8>) -> Vec<IpNet> {
    numbers.map(prefix).collect()
}

/// Routes that were touched, in order.
fn touched(world: &World) -> Vec<IpNet> {
    let mut touched = world.kernel.touched.clone();
    touched.sort_unstable();
    touched
}

#[test]
fn two_groups_in_one_kernel_group_change_together_with_one_operation() {
    for first in 1..4 {
        let mut world = world_with_two_groups_in_one(first, &[0]);
        say_members_of_both(&mut world, [&[1], &[1]]);
        assert_eq!((world.kernel.touched.len(), world.kernel.groups.len()), (0, 1));
        world.settle();
        assert_eq!(world.kernel.touched.len(), 0);
    }
}

#[test]
fn two_groups_in_one_kernel_group_part_when_they_become_different() {
    for first in 1..4 {
        let mut world = world_with_two_groups_in_one(first, &[0]);
        world.happen(group(1, &[2], &[]));
        world.work_off();
        // What stays as it was is not touched, and never goes another way for a moment.
        assert_eq!(touched(&world), prefixes(first..4), "{first} stay");
        assert_eq!(world.kernel.groups.len(), 2);
        assert_eq!(world.kernel.ways(), world.model());
        world.settle();
    }
}

#[test]
fn of_two_groups_in_one_kernel_group_the_smaller_moves_when_one_loses_a_next_hop() {
    for first in [1, 3] {
        let mut world = world_with_two_groups_in_one(first, &[0, 1]);
        world.happen(group(1, &[1], &[]));
        world.work_off();
        // Those that still have both next hops can do with one for a moment, so that the others need not wait for so many operations.
        let smaller = if first == 1 { 0..1 } else { 3..4 };
        assert_eq!(touched(&world), prefixes(smaller), "{first} keep both");
        assert_eq!(world.kernel.ways(), world.model());
        world.settle();
    }
}

#[test]
fn when_a_dead_next_hop_parts_two_groups_the_one_that_only_loses_it_keeps_the_kernel_group() {
    for first in 1..4 {
        let mut world = world_with_two_groups_in_one(first, &[0, 1]);
        say_members_of_both(&mut world, [&[1], &[1, 2]]);
        assert_eq!(touched(&world), prefixes(first..4), "{first} have nothing else");
        world.settle();
    }
}

#[test]
fn when_no_word_names_what_two_groups_have_the_larger_does_not_wait_for_its_routes() {
    for first in [1, 3] {
        let mut world = world_with_two_groups_in_one(first, &[0]);
        say_members_of_both(&mut world, [&[1], &[2]]);
        let smaller = if first == 1 { 0..1 } else { 3..4 };
        assert_eq!(touched(&world), prefixes(smaller), "{first} go to the first next hop");
        world.settle();
    }
}

#[test]
fn a_group_without_next_hops_does_not_keep_the_kernel_group_from_the_other() {
    for first in 1..4 {
        let mut world = world_with_two_groups_in_one(first, &[0]);
        // Its own address: these routes go.
        say_members_of_both(&mut world, [&[1], &[OWN]]);
        assert_eq!(touched(&world), prefixes(first..4));
        world.settle();
    }
}

/// Both instances name the kernel group's next hops; one of them gives one prefix another group again and again.
#[test]
fn a_prefix_that_flaps_beside_many_that_do_not_costs_few_operations_and_no_look_at_the_others() {
    const STABLE: u8 = 200;
    let mut world = World::new(64);
    let says = |world: &mut World, voice, id, members: &[u8], prefixes: std::ops::Range<u8>| {
        let (members, fallback) = (members.to_vec(), vec![]);
        let (layer, rank) = (Layer::Own, 1);
        world.happen(Event::Group {
            voice,
            layer,
            id,
            members,
            fallback,
            rank,
        });
        for prefix in prefixes {
            let way = Some(Way::Group(id));
            world.happen(Event::Route {
                voice,
                layer,
                prefix,
                way,
            });
        }
    };
    says(&mut world, 0, 0, &[0, 1], 0..STABLE);
    says(&mut world, 1, 0, &[0], 0..STABLE);
    (0..2).for_each(|voice| world.happen(Event::Converges { voice }));
    world.settle();
    world.happen(Event::Restarts { voice: 0 });
    says(&mut world, 0, 0, &[0, 1], 1..STABLE);
    says(&mut world, 0, 1, &[0, 1], 0..1);
    world.happen(Event::Converges { voice: 0 });
    world.settle();
    assert_eq!((world.kernel.groups.len(), world.merge.groups().len()), (1, 2));

    let comparisons = world.planner.comparisons();
    for id in 2..30 {
        world.kernel.touched.clear();
        let carried_out = world.kernel.carried_out;
        // The flap, and what was before is no group any more.
        let members = if id % 2 == 0 { &[0, 1, 2][..] } else { &[0, 1] };
        says(&mut world, 0, id, members, 0..1);
        world.instances[0].table.write().groups.remove(&(id - 1));
        let groups = vec![id - 1];
        world.say_changes(
            0,
            Layer::Own,
            Changes {
                groups,
                ..Changes::default()
            },
        );
        world.work_off();
        assert!(world.kernel.touched.iter().all(|touched| *touched == prefix(0)));
        assert!(world.kernel.carried_out - carried_out <= 6, "flap {id}");
        assert_eq!(world.planner.comparisons(), comparisons, "flap {id}");
        assert_eq!((world.merge.groups().len(), world.planner.group_count()), (2, 2));
    }
    assert_eq!(world.kernel.ways().get(&prefix(0)), world.model().get(&prefix(0)));
    world.settle();
}

/// The removal comes with the word that gives the prefix its new group.
#[test]
fn a_group_that_goes_with_its_last_route_leaves_the_others_of_its_kernel_group_alone() {
    let mut world = world_with_two_groups_in_one(3, &[0]);
    let comparisons = world.planner.comparisons();
    {
        let mut table = world.instances[0].table.write();
        let mut group = table.groups.remove(&1).unwrap();
        group.members = vec![hop(2)];
        table.groups.insert(2, group);
        let (way, system) = (Way::Group(2), false);
        table.routes.insert(prefix(3), TableRoute { way, system });
    }
    let (groups, prefixes) = (vec![1, 2], vec![prefix(3)]);
    let hides = false;
    world.say_changes(
        0,
        Layer::Own,
        Changes {
            groups,
            prefixes,
            hides,
        },
    );
    world.work_off();
    assert_eq!(touched(&world), [prefix(3)]);
    assert_eq!(world.planner.comparisons(), comparisons);
    assert_eq!(world.kernel.ways(), world.model());
    world.settle();
}
