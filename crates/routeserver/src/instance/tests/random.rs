//! Whatever happens, what an agent was told equals the effective routes, and what the NVAs hold equals what is reported.

use std::collections::BTreeMap;

use bgp::{Asn, IpNet};
use proptest::prelude::*;

use super::ipv6::{set_ipv6, world_of_both};
use super::world::*;
use crate::delivery::AgentId;
use crate::delivery::tests::ModelAgent;
use crate::instance::Input;
use crate::testing::*;

const AGENT: AgentId = AgentId(3);
const NICS: [&str; 5] = ["vm", "nva1", "nva2", "spokevm", "peeredvm"];

#[derive(Clone, Debug)]
enum Step {
    Announce {
        nva: &'static str,
        next_hop: &'static str,
        path: Vec<u32>,
        prefixes: Vec<&'static str>,
    },
    Withdraw(&'static str, Vec<&'static str>),
    Kill(&'static str),
    Revive(&'static str),
    Wait(u64),
    UserRoutes(&'static str, Vec<String>),
    DisablePropagation(&'static str),
    Transit(bool),
    Space(Vec<&'static str>),
    BranchToBranch(bool),
    Ipv6(bool),
    ImportPreference(usize, u32),
    OwnAsn(u32),
    RemovePeer(usize),
    Limit(usize, u32),
    AgentFull(bool),
    AgentGone,
}

fn step() -> impl Strategy<Value = Step> {
    let nva = prop::sample::select(vec!["nva1", "nva2"]);
    let prefixes = vec![
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.2.0/24",
        "10.2.0.0/16",
        "10.3.8.0/24",
        "10.250.0.0/16",
        "10.250.4.0/24",
        "20.1.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/24",
    ];
    let prefixes_v6 = vec![
        "fd00::/8",
        "fd01:0:0:9::/64",
        "2001:db8::/32",
        "2001:db8:1::/48",
        "2001:db8:9::/48",
    ];
    let some = prop::sample::subsequence(prefixes, 1..6);
    let some_v6 = prop::sample::subsequence(prefixes_v6, 1..4);
    let next_hop = prop::sample::select(vec!["10.1.4.4", "10.1.4.5", "10.1.4.200", "10.1.2.4", "10.1.1.4"]);
    let next_hop_v6 = prop::sample::select(vec![
        "fd01:0:0:4::4",
        "fd01:0:0:4::5",
        "fd01:0:0:2::4",
        "fd01:0:0:1::5",
        "::ffff:10.1.4.4",
    ]);
    let as_path = prop::collection::vec(prop::sample::select(vec![65001, 65002, 65009]), 1..4);
    let subnet = prop::sample::select(vec!["vms", "nvas", "spokevms"]);
    let user = prop::sample::select(vec![
        "0.0.0.0/0 internet",
        "0.0.0.0/0 10.1.4.4",
        "10.250.0.0/16 10.1.4.5",
        "10.250.4.0/24 gateway",
        "10.1.0.0/16 10.1.4.4",
        "172.16.0.0/12 none",
        "2001:db8::/32 fd01:0:0:4::5",
        "2001:db8:1::/48 gateway",
        "fd01::/48 none",
    ]);
    let users = prop::collection::vec(user.prop_map(str::to_owned), 0..3);
    let space = prop::sample::subsequence(vec!["10.1.0.0/16", "20.1.0.0/16", "192.168.0.0/16"], 1..=3);
    let space_v6 = prop::sample::subsequence(vec!["fd01::/48", "2001:db8:9::/48"], 0..=2);
    let space = (space, space_v6).prop_map(|(v4, v6)| [v4, v6].concat());
    prop_oneof![
        4 => (nva.clone(), next_hop_v6, as_path.clone(), some_v6.clone())
            .prop_map(|(nva, next_hop, path, prefixes)| Step::Announce { nva, next_hop, path, prefixes }),
        1 => (nva.clone(), some_v6).prop_map(|(nva, prefixes)| Step::Withdraw(nva, prefixes)),
        1 => any::<bool>().prop_map(Step::Ipv6),
        8 => (nva.clone(), next_hop, as_path, some.clone())
            .prop_map(|(nva, next_hop, path, prefixes)| Step::Announce { nva, next_hop, path, prefixes }),
        2 => (nva.clone(), some).prop_map(|(nva, prefixes)| Step::Withdraw(nva, prefixes)),
        1 => nva.clone().prop_map(Step::Kill),
        2 => nva.prop_map(Step::Revive),
        2 => (1u64..200).prop_map(Step::Wait),
        1 => (subnet.clone(), users).prop_map(|(subnet, users)| Step::UserRoutes(subnet, users)),
        1 => subnet.prop_map(Step::DisablePropagation),
        1 => any::<bool>().prop_map(Step::Transit),
        1 => space.prop_map(Step::Space),
        1 => any::<bool>().prop_map(Step::BranchToBranch),
        1 => (0usize..2, 0u32..2).prop_map(|(peer, preference)| Step::ImportPreference(peer, preference)),
        1 => (65515u32..65517).prop_map(Step::OwnAsn),
        1 => (0usize..2).prop_map(Step::RemovePeer),
        1 => (0usize..2, 3u32..9).prop_map(|(peer, limit)| Step::Limit(peer, limit)),
        2 => any::<bool>().prop_map(Step::AgentFull),
        1 => Just(Step::AgentGone),
    ]
}

struct Followed {
    world: World,
    agent: ModelAgent,
    layers: bool,
    full: bool,
}

impl Followed {
    fn new(layers: bool) -> Followed {
        let mut followed = Followed {
            world: world_of_both(),
            agent: ModelAgent::default(),
            layers,
            full: false,
        };
        followed.follow();
        followed
    }

    fn follow(&mut self) {
        self.world.input(Input::AgentFollows {
            agent: AGENT,
            name: "model".into(),
            nics: NICS.map(str::to_owned).into(),
            layers: self.layers,
        });
    }

    fn take(&mut self, step: Step) {
        let world = &mut self.world;
        match step {
            Step::Announce {
                nva,
                next_hop,
                path: as_path,
                prefixes,
            } if world.nvas[nva].connection.is_some() => world.announce(nva, path(next_hop, &as_path), &prefixes),
            Step::Withdraw(nva, prefixes) if world.nvas[nva].connection.is_some() => world.withdraw(nva, &prefixes),
            Step::Announce { .. } | Step::Withdraw(..) => {}
            Step::Kill(nva) => world.kill(nva),
            Step::Revive(nva) => world.nvas.get_mut(nva).unwrap().alive = true,
            Step::Wait(secs) => world.advance_secs(secs),
            Step::UserRoutes(subnet, routes) => world.edit(|intent| {
                let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
                set_user_routes(intent, subnet, &routes);
            }),
            Step::DisablePropagation(subnet) => world.edit(|intent| disable_propagation(intent, subnet)),
            Step::Transit(on) => world.edit(|intent| {
                intent.virtual_networks[1].peerings = vec![peering("hub", on, false)];
            }),
            Step::Space(space) => world.edit(|intent| {
                intent.virtual_networks[0].address_space = space.iter().map(|text| net(text)).collect();
            }),
            Step::BranchToBranch(on) => world.edit(|intent| intent.route_servers[0].branch_to_branch = on),
            Step::Ipv6(on) => world.edit(|intent| set_ipv6(intent, on)),
            Step::ImportPreference(peer, preference) => world.edit(|intent| {
                if let Some(peer) = intent.route_servers[0].peers.get_mut(peer) {
                    peer.import_preference = preference;
                }
            }),
            Step::OwnAsn(asn) => world.edit(|intent| intent.route_servers[0].asn = Asn(asn)),
            Step::RemovePeer(which) => {
                let id = ["nva1", "nva2"][which];
                world.edit(|intent| {
                    let peers = &mut intent.route_servers[0].peers;
                    match peers.iter().position(|peer| peer.id == id) {
                        Some(at) => drop(peers.remove(at)),
                        None => peers.push(peer(id, ["10.1.4.4", "10.1.4.5"][which], [65001, 65002][which])),
                    }
                });
            }
            Step::Limit(peer, limit) => world.edit(|intent| {
                if let Some(peer) = intent.route_servers[0].peers.get_mut(peer) {
                    peer.route_limit = limit;
                }
            }),
            Step::AgentFull(full) => {
                self.full = full;
                if full {
                    // What waits for it is lost.
                    world.to_agents.clear();
                }
                world.input(Input::AgentBackpressure { agent: AGENT, full });
            }
            Step::AgentGone => {
                world.input(Input::AgentGone { agent: AGENT });
                self.agent = ModelAgent::default();
                self.full = false;
                self.world.to_agents.clear();
                self.follow();
            }
        }
    }

    fn check(&mut self) {
        for (_, message) in std::mem::take(&mut self.world.to_agents) {
            self.agent.hear(message);
        }
        if !self.full {
            for nic in NICS {
                let rows = self.world.instance.effective_routes(nic).unwrap();
                let mut networks = self.world.intent.virtual_networks.iter();
                let network = networks.find(|network| network.nics.iter().any(|each| each.id == nic));
                self.agent.check(nic, &rows, &network.unwrap().address_space);
            }
        }
        for (name, nva) in &self.world.nvas {
            let Some(reported) = self.world.instance.advertised(name) else {
                continue;
            };
            let reported: BTreeMap<IpNet, _> = reported.iter().map(|route| (route.network, route.next_hop)).collect();
            let held: BTreeMap<IpNet, _> = nva
                .learned
                .iter()
                .map(|(prefix, told)| (*prefix, told.next_hop()))
                .collect();
            assert_eq!(held, reported, "what {name} holds");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn agents_and_nvas_hold_what_is_reported(layers in any::<bool>(), steps in prop::collection::vec(step(), 1..40)) {
        let mut followed = Followed::new(layers);
        for step in steps {
            followed.take(step);
            followed.check();
        }
    }
}
