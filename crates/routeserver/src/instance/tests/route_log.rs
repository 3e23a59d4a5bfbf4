//! Events for the route log: made only when somebody wants them.

use bgp::IpNet;

use super::world::*;
use crate::instance::Event;

fn logged(world: &mut World) -> Vec<String> {
    let list = |prefixes: &[IpNet]| prefixes.iter().map(IpNet::to_string).collect::<Vec<_>>().join(",");
    let words = |event: Event| match event {
        Event::Announced { peer, announcement } => Some(format!("{peer} announced {}", list(&announcement.prefixes))),
        Event::Withdrawn { peer, prefixes } => Some(format!("{peer} withdrew {}", list(&prefixes))),
        Event::BestChanged { speaker, changes } => {
            let each = changes.iter().map(|change| match &change.choice {
                Some(choice) => format!("{} via {:?}", change.prefix, choice.next_hops),
                None => format!("{} gone", change.prefix),
            });
            Some(format!("{speaker}: {}", each.collect::<Vec<_>>().join(",")))
        }
        _ => None,
    };
    world.take_events().into_iter().filter_map(words).collect()
}

#[test]
fn who_announced_or_withdrew_what_and_what_became_best_is_told() {
    let mut world = world();
    world.edit(|intent| intent.logs_routes = true);
    logged(&mut world);
    let route_server = world.intent.route_servers[0].id.clone();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["20.0.0.0/24"]);
    world.announce("nva2", path("10.1.4.5", &[65002, 65003]), &["20.0.0.0/24"]);
    world.withdraw("nva1", &["20.0.0.0/24"]);
    world.kill("nva2");
    world.advance_secs(200);
    assert_eq!(
        logged(&mut world),
        [
            "nva1 announced 20.0.0.0/24".to_owned(),
            format!("{route_server}: 20.0.0.0/24 via [10.1.4.4]"),
            "nva2 announced 20.0.0.0/24".to_owned(),
            // The fallback is part of the choice.
            format!("{route_server}: 20.0.0.0/24 via [10.1.4.4]"),
            "nva1 withdrew 20.0.0.0/24".to_owned(),
            format!("{route_server}: 20.0.0.0/24 via [10.1.4.5]"),
            format!("{route_server}: 20.0.0.0/24 gone"),
        ]
    );
}

#[test]
fn without_a_route_log_no_event_is_made() {
    let mut world = world();
    world.take_events();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["20.0.0.0/24"]);
    world.withdraw("nva1", &["20.0.0.0/24"]);
    assert_eq!(logged(&mut world), Vec::<String>::new());
}
