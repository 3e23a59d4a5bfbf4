//! The resources with the changes of one request laid over them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::address::hosts;
use crate::error::ArmError;
use crate::id::parent_key;
use crate::index::{Holder, Index, Relation};
use crate::request::{Change, May, Mint};
use crate::resource::{Resource, Resources};
use crate::settings::Settings;
use crate::types;

/// Resources as they will be once the request is stored.
pub(crate) struct World<'a> {
    base: &'a Resources,
    pub(crate) settings: &'a Settings,
    may: May<'a>,
    /// What differs from `base`; `None`: removed.
    changed: BTreeMap<String, Option<Resource>>,
    /// The index of those in `base` that are in `changed`: it counts no more.
    gone: Index,
    /// The index of what is in `changed`.
    come: Index,
}

impl<'a> World<'a> {
    /// All of it is shown.
    pub(crate) fn new(base: &'a Resources, settings: &'a Settings) -> World<'a> {
        World::shown_to(May::ALL, base, settings)
    }

    /// A world of which somebody may read and write only so much.
    pub(crate) fn shown_to(may: May<'a>, base: &'a Resources, settings: &'a Settings) -> World<'a> {
        World {
            base,
            settings,
            may,
            changed: BTreeMap::new(),
            gone: Index::default(),
            come: Index::default(),
        }
    }

    /// The world as it was before the request.
    pub(crate) fn before(&self) -> World<'a> {
        World::shown_to(self.may, self.base, self.settings)
    }

    /// Refuses what whoever asks may not read. What this request itself makes was not there to be read.
    pub(crate) fn check_readable(&self, id: &str) -> Result<(), ArmError> {
        let key = id.to_ascii_lowercase();
        match self.changed.contains_key(&key) && self.base.by_key(&key).is_none() {
            true => Ok(()),
            false => (self.may.read)(id),
        }
    }

    /// How an error calls a resource that the request does not name itself.
    pub(crate) fn called<'i>(&self, id: &'i str) -> &'i str {
        match self.check_readable(id) {
            Ok(()) => id,
            Err(_) => "(one that you may not read)",
        }
    }

    /// The error with this resource as what is meant, unless whoever asks may not know of it.
    pub(crate) fn pointing_at(&self, error: ArmError, id: &str) -> ArmError {
        match self.check_readable(id) {
            Ok(()) => error.at(id),
            Err(_) => error,
        }
    }

    /// Refuses to delete what something else needs. Who may delete it need not know of that one.
    pub(crate) fn in_use(&self, code: &str, what: &str, id: &str, user: &str) -> ArmError {
        ArmError::in_use(code, what, id, self.called(user))
    }

    /// Refuses what whoever asks could not write by hand.
    pub(crate) fn check_writable(&self, id: &str, body: &Value) -> Result<(), ArmError> {
        (self.may.write)(id, body)
    }

    /// How many resources of a type there are.
    pub(crate) fn count(&self, kind: &str) -> usize {
        let count = self.base.index().count(kind) + self.come.count(kind);
        count.saturating_sub(self.gone.count(kind))
    }

    /// The resources of a type whose key begins with `prefix`: those there were, in order of their keys, then what the request
    /// writes.
    pub(crate) fn of_kind(&self, kind: &str, prefix: &str) -> Vec<&Resource> {
        let before = self.base.index().of_kind(kind, prefix);
        let kept = before.filter(|key| self.is_kept(key));
        kept.chain(self.come.of_kind(kind, prefix))
            .filter_map(|key| self.get(key))
            .collect()
    }

    /// The resource with this key.
    pub(crate) fn get(&self, key: &str) -> Option<&Resource> {
        match self.changed.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.base.by_key(key),
        }
    }

    /// Resources whose key begins with `prefix`, in order of their keys.
    pub(crate) fn under(&self, prefix: &str) -> Vec<&Resource> {
        let base = self.base.under(prefix.to_owned());
        if self.changed.is_empty() {
            return base.collect();
        }
        let mut found: BTreeMap<String, &Resource> = base.map(|resource| (resource.key(), resource)).collect();
        for (key, changed) in self.changed.range(prefix.to_owned()..) {
            if !key.starts_with(prefix) {
                break;
            }
            match changed {
                Some(resource) => found.insert(key.clone(), resource),
                None => found.remove(key),
            };
        }
        found.into_values().collect()
    }

    /// Children of one type, in order of their keys.
    pub(crate) fn children(&self, parent: &str, kind_segment: &str) -> Vec<&Resource> {
        let prefix = format!("{parent}/{}/", kind_segment.to_ascii_lowercase());
        let mut found = self.under(&prefix);
        found.retain(|resource| !resource.key()[prefix.len()..].contains('/'));
        found
    }

    /// Writes a resource. One that is unchanged keeps its etag, and is no change.
    pub(crate) fn store(&mut self, id: &str, kind: &str, body: Value, mint: &mut dyn Mint) {
        let key = id.to_ascii_lowercase();
        if self.get(&key).is_some_and(|existing| existing.body == body) {
            return;
        }
        let resource = Resource {
            id: id.to_owned(),
            kind: kind.to_owned(),
            etag: mint.guid(),
            body,
        };
        self.change(key, Some(resource));
    }

    /// Removes a resource and all below it; they are returned.
    pub(crate) fn remove(&mut self, key: &str) -> Vec<Resource> {
        let mut removed: Vec<Resource> = self.get(key).cloned().into_iter().collect();
        removed.extend(self.under(&format!("{key}/")).into_iter().cloned());
        for resource in &removed {
            self.change(resource.key(), None);
        }
        removed
    }

    /// What differs from the resources that this began with. A parent shows its children, so its etag changes with theirs.
    pub(crate) fn into_changes(mut self, mint: &mut dyn Mint) -> Vec<Change> {
        self.touch_parents(mint);
        let base = self.base;
        self.changed
            .into_iter()
            .filter_map(|(key, changed)| match changed {
                Some(resource) => Some(Change::Put(resource)),
                None => base.by_key(&key).is_some().then_some(Change::Delete(key)),
            })
            .collect()
    }

    /// Gives the parents of changed children new etags. Done before an answer is made, too.
    pub(crate) fn touch_parents(&mut self, mint: &mut dyn Mint) {
        let parents: Vec<String> = self
            .changed
            .keys()
            .filter_map(|key| parent_key(key))
            .filter(|parent| !self.changed.contains_key(*parent))
            .map(str::to_owned)
            .collect();
        for parent in parents {
            let is_resource = self
                .base
                .by_key(&parent)
                .filter(|resource| types::find(&resource.kind).is_some());
            if let Some(resource) = is_resource {
                let resource = Resource {
                    etag: mint.guid(),
                    ..resource.clone()
                };
                self.change(parent, Some(resource));
            }
        }
    }

    /// What refers to `target` (key): what was there before the request, in order of their keys, then what the request writes.
    pub(crate) fn holders(&self, relation: Relation, target: &str) -> impl Iterator<Item = &Holder> {
        let before = self.base.index().holders(relation, target);
        let kept = before.filter(|(owner, _)| self.is_kept(owner));
        kept.chain(self.come.holders(relation, target))
            .map(|(_, holder)| holder)
    }

    /// The ids of what refers to `target` (key).
    pub(crate) fn holder_ids(&self, relation: Relation, target: &str) -> Vec<&str> {
        let holders = self.holders(relation, target);
        holders.map(|holder| holder.id.as_str()).collect()
    }

    /// The id of something that refers to `target` (key), if anything does.
    pub(crate) fn first_holder(&self, relation: Relation, target: &str) -> Option<&str> {
        self.holders(relation, target).next().map(|holder| holder.id.as_str())
    }

    /// How many resources refer to `target` (key).
    pub(crate) fn count_owners(&self, relation: Relation, target: &str) -> usize {
        let count = |index: &Index| index.count_owners(relation, target);
        (count(self.base.index()) + count(&self.come)).saturating_sub(count(&self.gone))
    }

    /// The ip configuration that has the address in the subnet (key), unless it is in the resource `except` (key).
    pub(crate) fn holder_of(&self, subnet: &str, address: IpAddr, except: &str) -> Option<&str> {
        let before = self.base.index().holders_of(subnet, address);
        let kept = before.filter(|(owner, _)| self.is_kept(owner));
        let mut all = kept.chain(self.come.holders_of(subnet, address));
        all.find(|(owner, _)| *owner != except).map(|(_, id)| id)
    }

    /// The first address of the wanted family in a subnet (key) with these prefixes that is nobody's, nor `also_taken`.
    pub(crate) fn first_free(
        &self,
        subnet: &str,
        prefixes: &[IpNet],
        v6: bool,
        also_taken: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let is_free = |address: &IpAddr| !also_taken(*address) && self.holder_of(subnet, *address, "").is_none();
        let of_family = prefixes.iter().filter(|prefix| matches!(prefix, IpNet::V6(_)) == v6);
        of_family.map(hosts).find_map(|(first, last)| {
            let was_free = self.base.index().free(subnet, first, last).find(is_free);
            let becomes_free = self.gone.taken(subnet, first, last).find(is_free);
            was_free.into_iter().chain(becomes_free).min()
        })
    }

    /// Whether the virtual network (key) has something that others can use as their gateway (az §2.8): a route server counts.
    pub(crate) fn has_gateway(&self, network: &str) -> bool {
        let relations = [Relation::RouteServerIn, Relation::GatewayIn];
        relations
            .iter()
            .any(|relation| self.first_holder(*relation, network).is_some())
    }

    /// Whether the resource is as it was before the request.
    fn is_kept(&self, key: &str) -> bool {
        !self.changed.contains_key(key)
    }

    fn change(&mut self, key: String, resource: Option<Resource>) {
        match self.changed.get(&key) {
            Some(Some(replaced)) => self.come.remove(replaced),
            Some(None) => {}
            None => {
                if let Some(before) = self.base.by_key(&key) {
                    self.gone.add(before);
                }
            }
        }
        if let Some(resource) = &resource {
            self.come.add(resource);
        }
        self.changed.insert(key, resource);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    struct Zero;

    impl Mint for Zero {
        fn guid(&mut self) -> String {
            String::new()
        }

        fn now(&mut self) -> String {
            String::new()
        }
    }

    const NIC: &str = "Microsoft.Network/networkInterfaces";
    const SUBNET: &str = "Microsoft.Network/virtualNetworks/subnets";
    const TARGETS: [&str; 4] = ["/n/a", "/n/b", "/n", "/t"];
    const RELATIONS: [Relation; 4] = [
        Relation::AddressIn,
        Relation::NicIn,
        Relation::SubnetOfRouteTable,
        Relation::NicOfSecurityGroup,
    ];

    #[derive(Clone, Debug)]
    enum Step {
        Nic {
            number: u8,
            subnet: u8,
            addresses: BTreeSet<u8>,
            in_group: bool,
        },
        Subnet {
            number: u8,
            has_table: bool,
        },
        Remove {
            nic: bool,
            number: u8,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let nic = (
            0..6_u8,
            0..2_u8,
            prop::collection::btree_set(4..12_u8, 0..3),
            any::<bool>(),
        );
        let nic = nic.prop_map(|(number, subnet, addresses, in_group)| Step::Nic {
            number,
            subnet,
            addresses,
            in_group,
        });
        let subnet = (0..2_u8, any::<bool>()).prop_map(|(number, has_table)| Step::Subnet { number, has_table });
        let remove = (any::<bool>(), 0..6_u8).prop_map(|(nic, number)| Step::Remove { nic, number });
        prop::collection::vec(prop_oneof![4 => nic, 1 => subnet, 2 => remove], 0..24)
    }

    fn take(world: &mut World<'_>, step: &Step) {
        match step {
            Step::Nic {
                number,
                subnet,
                addresses,
                in_group,
            } => {
                let subnet = TARGETS[usize::from(*subnet)];
                let configuration = |last: &u8| {
                    json!({ "name": last.to_string(), "properties": {
                        "subnet": { "id": subnet.to_ascii_uppercase() }, "privateIPAddress": format!("10.0.0.{last}"),
                    } })
                };
                let configurations: Vec<Value> = addresses.iter().map(configuration).collect();
                let group = in_group.then(|| json!({ "id": "/T" }));
                let body =
                    json!({ "properties": { "ipConfigurations": configurations, "networkSecurityGroup": group } });
                world.store(&format!("/nics/N{number}"), NIC, body, &mut Zero);
            }
            Step::Subnet { number, has_table } => {
                let table = has_table.then(|| json!({ "id": "/t" }));
                let body = json!({ "properties": { "routeTable": table } });
                world.store(TARGETS[usize::from(*number)], SUBNET, body, &mut Zero);
            }
            Step::Remove { nic: true, number } => _ = world.remove(&format!("/nics/n{number}")),
            Step::Remove { nic: false, number } => _ = world.remove(TARGETS[usize::from(number % 2)]),
        }
    }

    /// What the world says of its references must be what somebody finds who looks at each of its resources.
    fn check_against_built_anew(world: &World<'_>) -> Result<(), TestCaseError> {
        let mut anew = Index::default();
        for resource in world.under("") {
            anew.add(resource);
        }
        for (relation, target) in RELATIONS
            .iter()
            .flat_map(|relation| TARGETS.map(|target| (*relation, target)))
        {
            let mut told = world.holder_ids(relation, target);
            told.sort_unstable();
            let mut found: Vec<&str> = anew
                .holders(relation, target)
                .map(|(_, holder)| holder.id.as_str())
                .collect();
            found.sort_unstable();
            prop_assert_eq!(told, found);
            prop_assert_eq!(
                world.count_owners(relation, target),
                anew.count_owners(relation, target)
            );
        }
        for kind in [NIC, SUBNET] {
            prop_assert_eq!(world.count(kind), anew.count(kind));
            prop_assert_eq!(world.of_kind(kind, "/n").len(), anew.count(kind));
        }
        let prefix: IpNet = "10.0.0.0/28".parse().unwrap();
        let (first, last) = hosts(&prefix);
        for subnet in ["/n/a", "/n/b"] {
            let free = world.first_free(subnet, &[prefix], false, |_| false);
            prop_assert_eq!(free, anew.free(subnet, first, last).next());
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_kept_index_equals_one_built_anew_whatever_is_made_changed_and_removed(before in steps(), during in steps()) {
            let settings = Settings::default();
            let mut resources = Resources::default();
            for step in &before {
                let mut world = World::new(&resources, &settings);
                take(&mut world, step);
                let changes = world.into_changes(&mut Zero);
                resources.apply(&changes);
            }
            let mut anew = Resources::default();
            resources.iter().for_each(|resource| anew.put(resource.clone()));
            prop_assert_eq!(resources.index(), anew.index());
            let mut world = World::new(&resources, &settings);
            for step in &during {
                take(&mut world, step);
                check_against_built_anew(&world)?;
            }
        }
    }
}
