//! Tables in layers on the wire, to agents that know them and to those of an earlier release.

use api::agent::{FromAgent, Installed, TableUpdate, from_agent, to_agent};
use routeserver::intent::NicIntent;

use crate::instance::{ADDRESSES, NVA1, OURS, World, hears, intent, join, members, net, peer, update};
use crate::nva::Nva;
use crate::world::{address, until, with_addresses};

crate::tests![what_bgp_brings_is_told_once_below_all_subnets_but_to_an_agent_of_an_earlier_release];

fn what_bgp_brings_is_told_once_below_all_subnets_but_to_an_agent_of_an_earlier_release() {
    with_addresses(ADDRESSES, || async {
        let mut intent = intent(1, vec![peer("nva1", NVA1, 65001)]);
        intent.virtual_networks[0].nics.push(NicIntent {
            id: "other".into(),
            name: "other".into(),
            subnet: "nvas".into(),
            addresses: vec![address("10.1.2.9")],
        });
        let world = World::with(intent).await;
        let nva = Nva::start(NVA1, 65001, OURS, None);
        nva.announce([net("10.250.0.0/16")]).await;

        let (mut agent, answers) = join(world.directory.path(), vec!["vm".into(), "other".into()], true).await;
        let mut nics = Vec::new();
        let both = hears(&mut agent, "both NICs", |said| {
            if let to_agent::Body::Nic(nic) = said {
                nics.push((nic.table?, nic.base?));
            }
            <[_; 2]>::try_from(nics.clone()).ok()
        });
        let [(overlay, base), (another, same)] = both.await;
        assert!(base == same && overlay != another);

        let route = net("10.250.0.0/16");
        let (mut above, mut below): (Option<TableUpdate>, Option<TableUpdate>) = (None, None);
        let layers = hears(&mut agent, "both layers", |said| {
            let update = update(said)?;
            match update.table {
                table if table == overlay => above = Some(update),
                table if table == base && members(&update, route).is_some() => below = Some(update),
                _ => {}
            }
            above.clone().zip(below.clone())
        });
        let (above, below) = layers.await;
        let hidden = above.hides.iter().filter_map(api::convert::prefix);
        // The subnet has IPv4 alone.
        assert_eq!(hidden.collect::<Vec<_>>(), [net("10.1.0.0/16"), net("::/0")]);
        assert_eq!(members(&above, route), None);
        assert_eq!(members(&below, route), Some(vec![address(NVA1)]));

        let installed = Installed {
            nic: "vm".into(),
            table: overlay,
            generation: above.generation,
            problems: Vec::new(),
            base: Some(base),
            base_generation: below.generation,
            stranded: 3,
            repaired: 4,
        };
        let body = Some(from_agent::Body::Installed(installed));
        answers.send(FromAgent { body }).await.unwrap();
        until("both layers are known to be installed", || async {
            let reports = world.control.agents().await.unwrap();
            let mut reports = reports.iter().filter(|report| report.nic == "vm");
            reports.any(|report| report.installed_generation == Some(report.generation))
        })
        .await;

        let (mut earlier, _answers) = join(world.directory.path(), vec!["vm".into()], false).await;
        let nic = hears(&mut earlier, "its NIC", |said| match said {
            to_agent::Body::Nic(nic) => Some(nic),
            _ => None,
        });
        assert_eq!(nic.await.base, None);
        let whole = hears(&mut earlier, "a table with the route", |said| {
            members(&update(said)?, route)
        });
        assert_eq!(whole.await, [address(NVA1)]);
    });
}
