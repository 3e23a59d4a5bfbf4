//! What a route server takes from gateways and tells them, and what NVAs hear of it (az §2.4, §2.5, §2.6, §2.10). The gateways are
//! sessions that say what a test wants.

use bgp::wire::Community;
use bgp::{Asn, BgpIdentifier, FamilySet};
use rib::Preference;

use super::world::*;
use crate::intent::{Intent, PeerIntent, PeerKind};
use crate::testing::*;

fn gateway(id: &str, address: &str, asn: u32, kind: PeerKind) -> PeerIntent {
    PeerIntent {
        kind,
        ..peer(id, address, asn)
    }
}

/// Two NVAs, both instances of a VPN gateway, and one of an ExpressRoute gateway, all of AS 65515.
fn branches(branch_to_branch: bool) -> World {
    branches_of(65515, branch_to_branch)
}

/// The same with a VPN gateway that has a number of its own.
fn branches_of(asn: u32, branch_to_branch: bool) -> World {
    let mut world = world();
    world.add_nva("vpn0", "10.1.5.4", asn, FamilySet::IPV4);
    world.add_nva("vpn1", "10.1.5.5", asn, FamilySet::IPV4);
    world.add_nva("er0", "10.1.5.6", 65515, FamilySet::IPV4);
    world.edit(|intent| {
        let route_server = &mut intent.route_servers[0];
        route_server.branch_to_branch = branch_to_branch;
        route_server.peers.extend([
            gateway("vpn0", "10.1.5.4", asn, PeerKind::VpnGateway),
            gateway("vpn1", "10.1.5.5", asn, PeerKind::VpnGateway),
            gateway("er0", "10.1.5.6", 65515, PeerKind::ExpressRouteGateway),
        ]);
    });
    for gateway in ["vpn0", "vpn1", "er0"] {
        assert_eq!(world.nvas[gateway].established, 1, "{gateway}");
    }
    world
}

/// A site's prefix, as both instances of the VPN gateway tell it.
fn announce_site(world: &mut World, path_of_site: &[u32]) {
    world.announce("vpn0", path("10.1.5.4", path_of_site), &["10.50.0.0/16"]);
    world.announce("vpn1", path("10.1.5.5", path_of_site), &["10.50.0.0/16"]);
}

#[test]
fn an_nva_hears_a_vpn_sites_route_as_65515_and_the_sites_path_from_the_instance_with_65517_65517() {
    let mut world = branches(true);
    announce_site(&mut world, &[64700]);
    let told = world.told("nva1", "10.50.0.0/16").unwrap();
    assert_eq!(told, "65515-64700 10.1.1.4 65517:65517");
}

#[test]
fn an_nva_hears_an_express_route_customers_route_with_12076_in_the_path_and_65517_12076() {
    let mut world = branches(true);
    world.announce("er0", path("10.1.5.6", &[12076, 64900]), &["10.60.0.0/16"]);
    let told = world.told("nva1", "10.60.0.0/16").unwrap();
    assert_eq!(told, "65515-12076-64900 10.1.1.4 65517:12076");
}

#[test]
fn an_nva_hears_a_static_prefix_of_a_site_as_65515_alone() {
    let mut world = branches(true);
    announce_site(&mut world, &[]);
    assert_eq!(world.verdict("vpn0", "10.50.0.0/16"), "best");
    assert_eq!(
        world.told("nva1", "10.50.0.0/16").unwrap(),
        "65515 10.1.1.4 65517:65517"
    );
}

#[test]
fn an_nva_hears_the_number_of_a_gateway_that_has_its_own() {
    let mut world = branches_of(300, true);
    announce_site(&mut world, &[300, 64700]);
    let told = world.told("nva1", "10.50.0.0/16").unwrap();
    assert_eq!(told, "65515-300-64700 10.1.1.4 65517:65517");
}

#[test]
fn a_gateway_of_our_as_hears_an_nvas_route_with_path_next_hop_and_communities_as_they_came() {
    let mut world = branches(true);
    let attributes = path("10.1.4.200", &[65001, 64999]).add_community(Community::new(65001, 7));
    world.announce("nva1", attributes, &["10.250.0.0/16"]);
    for gateway in ["vpn0", "vpn1", "er0"] {
        let told = world.told(gateway, "10.250.0.0/16").unwrap();
        assert_eq!(told, "65001-64999 10.1.4.200 65001:7");
        let attributes = &world.nvas[gateway].learned[&net("10.250.0.0/16")];
        assert_eq!((attributes.local_pref(), attributes.originator_id()), (Some(100), None));
    }
}

#[test]
fn a_gateway_with_its_own_number_hears_65515_in_front_and_the_instance_as_next_hop() {
    let mut world = branches_of(300, true);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    assert_eq!(world.told("vpn0", "10.250.0.0/16").unwrap(), "65515-65001 10.1.1.4");
    assert_eq!(world.told("er0", "10.250.0.0/16").unwrap(), "65001 10.1.4.4");
    assert_eq!(world.told("vpn0", "10.1.0.0/16").unwrap(), "65515 10.1.1.4");
}

#[test]
fn an_nvas_default_route_goes_to_gateways() {
    let mut world = branches(true);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["0.0.0.0/0"]);
    assert_eq!(world.told("vpn0", "0.0.0.0/0").unwrap(), "65001 10.1.4.4");
}

#[test]
fn without_branch_to_branch_gateways_and_nvas_hear_of_virtual_networks_alone_and_toggling_resets_nobody() {
    let mut world = branches(false);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    announce_site(&mut world, &[64700]);
    world.announce("er0", path("10.1.5.6", &[12076]), &["10.60.0.0/16"]);
    let heard = |world: &World| {
        ["nva2", "vpn0", "er0"].map(|peer| {
            let heard = world.nvas[peer].learned.keys();
            heard.map(|prefix| prefix.to_string()).collect::<Vec<_>>().join(" ")
        })
    };
    assert_eq!(heard(&world), ["10.1.0.0/16 10.2.0.0/16"; 3]);
    assert_eq!(world.told("vpn0", "10.2.0.0/16").unwrap(), " 10.1.1.4 65518:65518");
    world.edit(|intent| intent.route_servers[0].branch_to_branch = true);
    assert_eq!(
        heard(&world),
        [
            "10.1.0.0/16 10.2.0.0/16 10.50.0.0/16 10.60.0.0/16 10.250.0.0/16",
            "10.1.0.0/16 10.2.0.0/16 10.60.0.0/16 10.250.0.0/16",
            "10.1.0.0/16 10.2.0.0/16 10.50.0.0/16 10.250.0.0/16",
        ]
    );
    world.edit(|intent| intent.route_servers[0].branch_to_branch = false);
    assert_eq!(heard(&world), ["10.1.0.0/16 10.2.0.0/16"; 3]);
    assert!(world.nvas.values().all(|peer| peer.established == 1));
}

#[test]
fn vpn_routes_are_reflected_to_express_route_gateways_with_who_said_them_and_through_whom() {
    let mut world = branches(true);
    announce_site(&mut world, &[64700]);
    assert_eq!(world.told("er0", "10.50.0.0/16").unwrap(), "64700 10.1.5.4");
    let attributes = &world.nvas["er0"].learned[&net("10.50.0.0/16")];
    let identifier = |text: &str| BgpIdentifier(text.parse().unwrap());
    assert_eq!(attributes.originator_id(), Some(identifier("10.1.5.4")));
    assert!(attributes.cluster_list().eq([identifier("10.1.1.4")]));
    assert_eq!(attributes.local_pref(), Some(100));
}

#[test]
fn express_route_routes_are_reflected_to_both_instances_of_a_vpn_gateway() {
    let mut world = branches(true);
    world.announce("er0", path("10.1.5.6", &[12076, 64900]), &["10.60.0.0/16"]);
    for gateway in ["vpn0", "vpn1"] {
        assert_eq!(world.told(gateway, "10.60.0.0/16").unwrap(), "12076-64900 10.1.5.6");
    }
}

#[test]
fn a_gateways_route_goes_to_no_instance_of_the_same_gateway() {
    for asn in [65515, 300] {
        let mut world = branches_of(asn, true);
        world.announce("vpn0", path("10.1.5.4", &[64700]), &["10.50.0.0/16"]);
        assert_eq!(world.told("vpn0", "10.50.0.0/16"), None);
        assert_eq!(world.told("vpn1", "10.50.0.0/16"), None, "AS {asn}");
    }
}

#[test]
fn vms_get_gateway_routes_whatever_branch_to_branch_says_through_all_instances_that_have_them() {
    for branch_to_branch in [false, true] {
        let mut world = branches(branch_to_branch);
        announce_site(&mut world, &[64700]);
        for nic in ["vm", "spokevm"] {
            assert_eq!(world.next_hops(nic, "10.50.0.0/16"), ["10.1.5.4", "10.1.5.5"]);
        }
        let rows = world.instance.effective_routes("vm").unwrap();
        let row = rows
            .iter()
            .find(|row| row.address_prefix == net("10.50.0.0/16"))
            .unwrap();
        assert_eq!(
            (&*row.source, &*row.next_hop_type),
            ("VirtualNetworkGateway", "VirtualNetworkGateway")
        );
        world.withdraw("vpn0", &["10.50.0.0/16"]);
        assert_eq!(world.next_hops("vm", "10.50.0.0/16"), ["10.1.5.5"]);
    }
}

#[test]
fn a_gateways_routes_are_refused_for_the_reasons_that_nvas_are() {
    let mut world = branches(true);
    world.announce("vpn0", path("10.1.5.4", &[64700, 65515]), &["10.50.0.0/16"]);
    world.announce("vpn0", path("10.1.5.4", &[64700]), &["10.1.7.0/24", "10.2.0.0/16"]);
    world.announce("vpn0", path("10.1.1.5", &[64700]), &["10.51.0.0/16"]);
    assert_eq!(world.verdict("vpn0", "10.50.0.0/16"), "rejected own-asn");
    assert_eq!(world.verdict("vpn0", "10.1.7.0/24"), "rejected inside-virtual-network");
    assert_eq!(world.verdict("vpn0", "10.2.0.0/16"), "rejected inside-virtual-network");
    assert_eq!(world.verdict("vpn0", "10.51.0.0/16"), "rejected own-next-hop");
}

#[test]
fn a_route_that_this_instance_has_reflected_before_is_a_loop() {
    let mut world = branches(true);
    let us = BgpIdentifier("10.1.1.4".parse().unwrap());
    let reflected = path("10.1.5.6", &[64700]).prepend_cluster(us);
    world.announce("er0", reflected, &["10.50.0.0/16"]);
    let ours = path("10.1.5.6", &[64700]).originator_id(us);
    world.announce("er0", ours, &["10.51.0.0/16"]);
    assert_eq!(world.verdict("er0", "10.50.0.0/16"), "rejected own-cluster-id");
    assert_eq!(world.verdict("er0", "10.51.0.0/16"), "rejected own-originator-id");
}

#[test]
fn no_advertise_goes_to_no_gateway_and_no_export_stays_in_the_as() {
    let mut world = branches(true);
    let said = |community| path("10.1.4.4", &[65001]).add_community(community);
    world.announce("nva1", said(Community::NO_ADVERTISE), &["10.251.0.0/16"]);
    world.announce("nva1", said(Community::NO_EXPORT), &["10.252.0.0/16"]);
    for gateway in ["vpn0", "er0"] {
        assert_eq!(world.told(gateway, "10.251.0.0/16"), None);
        assert!(world.told(gateway, "10.252.0.0/16").is_some());
    }
    assert_eq!(world.told("nva2", "10.252.0.0/16"), None);
    let mut world = branches_of(300, true);
    world.announce("nva1", said(Community::NO_EXPORT), &["10.252.0.0/16"]);
    assert_eq!(world.told("vpn0", "10.252.0.0/16"), None);
}

#[test]
fn one_prefix_from_everywhere_goes_where_the_preference_says_and_changing_it_resets_nobody() {
    let mut world = branches(true);
    let prefix = &["10.99.0.0/16"];
    world.announce("er0", path("10.1.5.6", &[12076, 64900, 64901]), prefix);
    world.announce("vpn0", path("10.1.5.4", &[64700, 64701]), prefix);
    world.announce("nva1", path("10.1.4.4", &[65001]), prefix);
    for (preference, next_hop, told) in [
        (
            Preference::ExpressRoute,
            "10.1.5.6",
            "65515-12076-64900-64901 10.1.1.4 65517:12076",
        ),
        (Preference::VpnGateway, "10.1.4.4", "65515-65001 10.1.1.4 65517:65517"),
        (Preference::ASPath, "10.1.4.4", "65515-65001 10.1.1.4 65517:65517"),
        (
            Preference::ExpressRoute,
            "10.1.5.6",
            "65515-12076-64900-64901 10.1.1.4 65517:12076",
        ),
    ] {
        world.edit(|intent| intent.route_servers[0].preference = preference);
        assert_eq!(world.next_hops("vm", prefix[0]), [next_hop], "{preference:?}");
        assert_eq!(world.told("nva2", prefix[0]).unwrap(), told);
    }
    assert!(world.nvas.values().all(|peer| peer.established == 1));
}

#[test]
fn express_route_takes_over_again_when_it_returns() {
    let mut world = branches(true);
    let prefix = &["10.99.0.0/16"];
    world.announce("nva1", path("10.1.4.4", &[65001]), prefix);
    world.announce("er0", path("10.1.5.6", &[12076, 64900]), prefix);
    assert_eq!(world.next_hops("vm", prefix[0]), ["10.1.5.6"]);
    world.withdraw("er0", prefix);
    assert_eq!(world.next_hops("vm", prefix[0]), ["10.1.4.4"]);
    world.announce("er0", path("10.1.5.6", &[12076, 64900]), prefix);
    assert_eq!(world.next_hops("vm", prefix[0]), ["10.1.5.6"]);
}

#[test]
fn nva_and_vpn_paths_of_one_length_are_used_together() {
    let mut world = branches(true);
    announce_site(&mut world, &[64700]);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.50.0.0/16"]);
    let all = ["10.1.4.4", "10.1.5.4", "10.1.5.5"];
    assert_eq!(world.next_hops("vm", "10.50.0.0/16"), all);
}

#[test]
fn a_gateway_that_goes_takes_its_routes_and_nobodys_session() {
    let mut world = branches(true);
    announce_site(&mut world, &[64700]);
    world.edit(|intent: &mut Intent| {
        let peers = &mut intent.route_servers[0].peers;
        peers.retain(|peer| peer.kind != PeerKind::VpnGateway);
    });
    assert_eq!(world.told("nva1", "10.50.0.0/16"), None);
    assert!(world.next_hops("vm", "10.50.0.0/16").is_empty());
    for peer in ["nva1", "nva2", "er0"] {
        assert_eq!(world.nvas[peer].established, 1);
    }
}

#[test]
fn reports_say_what_each_sender_is_and_whether_it_is_of_our_as() {
    let mut world = branches(true);
    announce_site(&mut world, &[64700]);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.50.0.0/16"]);
    let routes = world.instance.routes_of_speaker("rs1", None).unwrap();
    let mut senders: Vec<String> = routes
        .iter()
        .map(|route| format!("{} {:?} {}", route.source_peer, route.source, route.internal))
        .collect();
    senders.sort();
    assert_eq!(
        senders,
        [
            "10.1.4.4 Nva false",
            "10.1.5.4 VpnGateway true",
            "10.1.5.5 VpnGateway true"
        ]
    );
    let peers = world.instance.peers(world.now, Some("rs1"));
    let vpn = peers.iter().find(|peer| peer.id == "vpn0").unwrap();
    assert_eq!(
        (vpn.kind, Asn(vpn.peer_asn), &*vpn.state),
        (PeerKind::VpnGateway, Asn(65515), "Established")
    );
}

#[test]
fn prefixes_of_different_length_never_compete_whatever_the_preference() {
    let mut world = branches(true);
    world.announce("er0", path("10.1.5.6", &[12076, 64900]), &["10.99.0.0/16"]);
    world.announce("nva1", path("10.1.4.4", &[65001, 64801, 64802]), &["10.99.1.0/24"]);
    for preference in [Preference::ExpressRoute, Preference::VpnGateway, Preference::ASPath] {
        world.edit(|intent| intent.route_servers[0].preference = preference);
        assert_eq!(world.next_hops("vm", "10.99.0.0/16"), ["10.1.5.6"]);
        assert_eq!(world.next_hops("vm", "10.99.1.0/24"), ["10.1.4.4"]);
    }
}
