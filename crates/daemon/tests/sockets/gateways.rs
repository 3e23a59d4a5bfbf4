//! A route server and a VPN gateway in both instance processes, with sessions between all four of their instances.
//!
//! ```text
//!   NVA ──► RS IN_0 ══╦══ gateway IN_0 ◄── site
//!                     ╳
//!           RS IN_1 ══╩══ gateway IN_1
//! ```

use bgp::Asn;
use routeserver::Intent;
use routeserver::intent::{GatewayIntent, GatewayKind, PeerIntent, PeerKind};

use crate::instance::{World, intent, net, peer};
use crate::nva::Nva;
use crate::world::{address, until, with_addresses};

crate::tests![an_nva_and_a_site_hear_of_each_other_through_both_processes_sessions];

const ROUTE_SERVER: [&str; 2] = ["10.1.1.4", "10.1.1.5"];
const GATEWAY: [&str; 2] = ["10.1.5.4", "10.1.5.5"];
const NVA: &str = "10.1.2.4";
const SITE: &str = "192.168.101.1";
const ADDRESSES: &[&str] = &[ROUTE_SERVER[0], ROUTE_SERVER[1], GATEWAY[0], GATEWAY[1], NVA, SITE];

/// Peerings with both instances of the other.
fn with_both(kind: PeerKind, of: &str, addresses: [&str; 2]) -> Vec<PeerIntent> {
    let peering = |(index, address): (usize, &str)| PeerIntent {
        kind,
        dial: true,
        ..peer(&format!("{of}/{index}"), address, 65515)
    };
    addresses.into_iter().enumerate().map(peering).collect()
}

fn hybrid() -> Intent {
    let mut of_route_server = vec![peer("nva", NVA, 65001)];
    of_route_server.extend(with_both(PeerKind::VpnGateway, "rs1/vpn", GATEWAY));
    let mut of_gateway = with_both(PeerKind::RouteServer, "vpn/rs1", ROUTE_SERVER);
    of_gateway.push(PeerIntent {
        kind: PeerKind::Site,
        ..peer("site", SITE, 64700)
    });
    Intent {
        gateways: vec![GatewayIntent {
            id: "vpn".into(),
            name: "vpn".into(),
            kind: GatewayKind::Vpn,
            asn: Asn::AZURE_ROUTE_SERVER,
            virtual_network: Some("hub".into()),
            subnet: None,
            instance_addresses: GATEWAY.map(|text| Some(address(text))),
            instance_addresses_v6: [None; 2],
            namespaces: [None, None],
            is_external: false,
            peers: of_gateway,
            static_routes: Vec::new(),
            static_route_maps: Vec::new(),
            routes_to_circuit: 0,
            ipv6: false,
        }],
        ..intent(1, of_route_server)
    }
}

fn an_nva_and_a_site_hear_of_each_other_through_both_processes_sessions() {
    with_addresses(ADDRESSES, || async {
        let processes = [World::start_as(0).await, World::start_as(1).await];
        for process in &processes {
            process.put(&hybrid()).await.unwrap();
        }
        let nva = Nva::start(NVA, 65001, ROUTE_SERVER[0], None);
        let site = Nva::start(SITE, 64700, GATEWAY[0], None);
        // Two peerings with the other's instances at either end, and in the first process the NVA and the site.
        processes[0].established(6).await;
        processes[1].established(4).await;

        nva.announce([net("10.250.0.0/16"), net("0.0.0.0/0")]).await;
        site.announce([net("10.50.0.0/16")]).await;
        nva.sees("the site's prefix", |seen| seen.learned.contains(&net("10.50.0.0/16")))
            .await;
        let seen = site
            .sees("the NVA's prefix", |seen| seen.learned.contains(&net("10.250.0.0/16")))
            .await;
        assert!(seen.learned.contains(&net("10.1.0.0/16")));
        assert!(!seen.learned.contains(&net("0.0.0.0/0")));

        // The other process has heard of both only from the first one's speakers.
        let other = &processes[1].control;
        let best = |speaker: &'static str, prefix: &'static str| async move {
            let routes = other.routes_of_route_server(speaker, Some(net(prefix))).await.unwrap();
            let best = routes.into_iter().find(|route| route.verdict == "best");
            best.map(|route| (route.source_peer.to_string(), route.as_path, route.internal))
        };
        let expected = |from: &str, path: &str| Some((from.to_owned(), path.to_owned(), true));
        let (site_at, nva_at) = (expected(GATEWAY[0], "64700"), expected(ROUTE_SERVER[0], "65001"));
        until("the site's route at the other route server instance", || async {
            best("rs1", "10.50.0.0/16").await == site_at
        })
        .await;
        until("the NVA's route at the other gateway instance", || async {
            best("vpn", "10.250.0.0/16").await == nva_at
        })
        .await;
    });
}
