//! What must hold after every quiet period, and what must hold always.

use std::fmt::Debug;

use bgp::IpNet;
use std::collections::BTreeMap;

use crate::model;
use crate::scenario;
use crate::scenario::branches::{CUSTOMER, SITE};
use crate::world::World;

/// After a quiet period: every kernel, and everything that NVAs were told, is what the model says.
pub fn quiet(world: &World) -> Result<(), String> {
    for vm in &world.vms {
        let wanted = model::kernel_table(&world.intent, &world.nvas, &vm.nic);
        compare(&format!("kernel of {}", vm.nic), &vm.kernel.table(), &wanted)?;
        if vm.kernel.litter() > 0 {
            return Err(format!(
                "{}: {} groups or next hops are left over",
                vm.nic,
                vm.kernel.litter()
            ));
        }
    }
    for (number, nva) in world.nvas.iter().enumerate() {
        for instance in 0..2 {
            let held_down = number < scenario::NVAS && world.intent.route_servers[0].peers[number].admin_down;
            if held_down == nva.is_established(instance) {
                return Err(format!(
                    "nva{number} and instance {instance}: Established is {}",
                    nva.is_established(instance)
                ));
            }
            if !nva.is_established(instance) {
                continue;
            }
            let told: BTreeMap<IpNet, Vec<u32>> = nva
                .learned(instance)
                .iter()
                .map(|(prefix, attributes)| (*prefix, attributes.as_numbers().map(|asn| asn.0).collect()))
                .collect();
            let wanted = match number {
                SITE => model::branches::told_to_site(&world.intent, &world.nvas),
                CUSTOMER => model::branches::told_to_customer(&world.intent, &world.nvas),
                _ => model::told_table(&world.intent, &world.nvas, number),
            };
            compare(&format!("what instance {instance} told nva{number}"), &told, &wanted)?;
        }
    }
    Ok(())
}

/// While only processes of ours die and come back: no kernel changes at all.
pub fn undisturbed(world: &World, before: &[BTreeMap<IpNet, crate::kernel::Way>]) -> Result<(), String> {
    for (vm, before) in world.vms.iter().zip(before) {
        compare(&format!("kernel of {}", vm.nic), &vm.kernel.table(), before)?;
    }
    Ok(())
}

fn compare<V: Debug + PartialEq>(
    what: &str,
    found: &BTreeMap<IpNet, V>,
    wanted: &BTreeMap<IpNet, V>,
) -> Result<(), String> {
    for (prefix, value) in wanted {
        match found.get(prefix) {
            None => return Err(format!("{what}: {prefix} is missing, wanted {value:?}")),
            Some(other) if other != value => {
                return Err(format!("{what}: {prefix} is {other:?}, wanted {value:?}"));
            }
            Some(_) => {}
        }
    }
    match found.iter().find(|(prefix, _)| !wanted.contains_key(*prefix)) {
        Some((prefix, value)) => Err(format!("{what}: {prefix} is {value:?}, wanted nothing")),
        None => Ok(()),
    }
}
