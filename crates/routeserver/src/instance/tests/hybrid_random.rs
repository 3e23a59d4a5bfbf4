//! Whatever happens to branches: what an agent on every instance and on a VM was told equals the effective routes, and what everybody holds
//! is what the plain rules say of who announces what (az §2.4, §2.6).

use std::collections::{BTreeMap, BTreeSet};

use bgp::IpNet;
use proptest::prelude::*;
use rib::Preference;

use super::hybrid::hybrid;
use super::world::*;
use crate::delivery::AgentId;
use crate::delivery::tests::ModelAgent;
use crate::instance::Input;
use crate::intent::StaticRouteIntent;
use crate::testing::*;

const AGENT: AgentId = AgentId(3);
const NICS: [&str; 4] = ["vpn/instances/0", "er/instances/0", "edge/instances/0", "vm"];
const BRANCHES: [(&str, &str, u32); 4] = [
    ("nva1", "10.1.4.4", 65001),
    ("nva2", "10.1.4.5", 65002),
    ("site", "192.168.101.1", 64701),
    ("customer", "192.168.103.1", 64900),
];
const TUNNEL: &str = "192.168.109.1";

#[derive(Clone, Debug)]
enum Step {
    /// Which branch, how long the path, what.
    Announce(usize, usize, Vec<&'static str>),
    Withdraw(usize, Vec<&'static str>),
    Kill(usize),
    Revive(usize),
    BranchToBranch(bool),
    Preference(Preference),
    StaticRoutes(Vec<&'static str>),
}

fn prefixes() -> impl Strategy<Value = Vec<&'static str>> {
    let prefixes = vec![
        "0.0.0.0/0",
        "128.0.0.0/1",
        "10.0.0.0/8",
        "10.50.0.0/16",
        "10.99.0.0/16",
        "10.1.7.0/24",
    ];
    prop::sample::subsequence(prefixes, 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    use Preference::{ASPath, ExpressRoute, VpnGateway};
    prop_oneof![
        8 => (0..4usize, 1..4usize, prefixes()).prop_map(|(who, length, what)| Step::Announce(who, length, what)),
        3 => (0..4usize, prefixes()).prop_map(|(who, what)| Step::Withdraw(who, what)),
        1 => (0..4usize).prop_map(Step::Kill),
        2 => (0..4usize).prop_map(Step::Revive),
        1 => any::<bool>().prop_map(Step::BranchToBranch),
        1 => prop::sample::select(vec![ExpressRoute, VpnGateway, ASPath]).prop_map(Step::Preference),
        1 => prefixes().prop_map(Step::StaticRoutes),
    ]
}

struct Followed {
    world: World,
    agent: ModelAgent,
    /// What each branch that is alive announces, with the length of the path.
    said: [BTreeMap<&'static str, usize>; 4],
}

impl Followed {
    fn new(asn_of_vpn: u32) -> Followed {
        let mut world = hybrid(asn_of_vpn);
        world.input(Input::AgentFollows {
            agent: AGENT,
            name: "model".into(),
            nics: NICS.map(str::to_owned).into(),
            layers: true,
        });
        Followed {
            world,
            agent: ModelAgent::default(),
            said: [
                BTreeMap::from([("10.250.0.0/16", 1), ("0.0.0.0/0", 1)]),
                BTreeMap::new(),
                BTreeMap::from([("10.50.0.0/16", 1)]),
                BTreeMap::from([("10.60.0.0/16", 1)]),
            ],
        }
    }

    fn take(&mut self, step: Step) {
        let world = &mut self.world;
        let is_up = |world: &World, who: usize| world.nvas[BRANCHES[who].0].connection.is_some();
        match step {
            Step::Announce(who, length, what) if is_up(world, who) => {
                let (name, address, asn) = BRANCHES[who];
                world.announce(name, path(address, &vec![asn; length]), &what);
                self.said[who].extend(what.into_iter().map(|prefix| (prefix, length)));
            }
            Step::Withdraw(who, what) if is_up(world, who) => {
                world.withdraw(BRANCHES[who].0, &what);
                self.said[who].retain(|prefix, _| !what.contains(prefix));
            }
            Step::Announce(..) | Step::Withdraw(..) => {}
            Step::Kill(who) => {
                world.kill(BRANCHES[who].0);
                self.said[who].clear();
            }
            Step::Revive(who) => {
                world.nvas.get_mut(BRANCHES[who].0).unwrap().alive = true;
                world.advance_secs(60);
            }
            Step::BranchToBranch(on) => world.edit(|intent| intent.route_servers[0].branch_to_branch = on),
            Step::Preference(preference) => world.edit(|intent| intent.route_servers[0].preference = preference),
            Step::StaticRoutes(prefixes) => world.edit(|intent| {
                let route = |prefix: &str| StaticRouteIntent {
                    prefix: net(prefix),
                    next_hop: ip(TUNNEL),
                    peering: None,
                };
                intent.gateways[0].static_routes = prefixes.into_iter().map(route).collect();
            }),
        }
    }

    fn check(&mut self) {
        for (_, message) in std::mem::take(&mut self.world.to_agents) {
            self.agent.hear(message);
        }
        for nic in NICS {
            let rows = self.world.instance.effective_routes(nic).unwrap();
            let is_edge = nic.starts_with("edge");
            let space = if is_edge { vec![] } else { vec![net("10.1.0.0/16")] };
            self.agent.check(nic, &rows, &space);
        }
        self.check_reach();
    }

    /// Who can hear of a prefix at all: its announcers are known, so are the legs.
    fn check_reach(&self) {
        let route_server = &self.world.intent.route_servers[0];
        let gateways = &self.world.intent.gateways;
        let statics: BTreeSet<IpNet> = gateways[0].static_routes.iter().map(|route| route.prefix).collect();
        for (who, (name, ..)) in BRANCHES.into_iter().enumerate() {
            if self.world.nvas[name].connection.is_none() {
                continue;
            }
            let mut may: BTreeSet<IpNet> = ["10.1.0.0/16", "10.2.0.0/16"].map(net).into();
            for (other, said) in self.said.iter().enumerate() {
                let meet_at_a_gateway = who == 2 && other == 2 || who == 3 && other == 3;
                if other != who && !meet_at_a_gateway && route_server.branch_to_branch {
                    may.extend(said.keys().map(|prefix| net(prefix)));
                }
            }
            if who == 2 || route_server.branch_to_branch {
                may.extend(&statics);
            }
            may.remove(&net("10.1.7.0/24"));
            if who == 2 {
                may.remove(&net("0.0.0.0/0"));
            }
            let held: BTreeSet<IpNet> = self.world.nvas[name].learned.keys().copied().collect();
            assert!(held.is_subset(&may), "{name} holds {held:?} of {may:?}");
            // Nobody but others says these: whoever may hear of them does.
            let own: BTreeSet<IpNet> = self.said[who].keys().map(|prefix| net(prefix)).collect();
            let site_says: BTreeSet<IpNet> = self.said[2].keys().map(|prefix| net(prefix)).collect();
            let must = may
                .iter()
                .filter(|prefix| !own.contains(prefix))
                // What a site and a static route both say is one of them, at the gateway as well.
                .filter(|prefix| who != 2 || !site_says.contains(prefix));
            for prefix in must {
                assert!(held.contains(prefix), "{name} must hold {prefix}, and holds {held:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn branches_hear_what_the_legs_say_and_agents_hold_what_is_reported(
        own_number in any::<bool>(),
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let mut followed = Followed::new(if own_number { 300 } else { 65515 });
        for step in steps {
            followed.take(step);
            followed.check();
        }
    }
}
