//! The resources with the changes of one request laid over them, and an index of who refers to whom.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use serde_json::Value;

use crate::error::ArmError;
use crate::handle::{Change, MayRead, Mint};
use crate::id::parent_key;
use crate::resource::{Resource, Resources};
use crate::settings::Settings;
use crate::types;

/// Resources as they will be once the request is stored.
pub(crate) struct World<'a> {
    base: &'a Resources,
    pub(crate) settings: &'a Settings,
    may_read: MayRead<'a>,
    /// What differs from `base`; `None`: removed.
    changed: BTreeMap<String, Option<Resource>>,
    index: OnceCell<Index>,
}

/// An address of a subnet and the ip configuration that has it.
#[derive(Clone, Debug)]
pub(crate) struct Allocation {
    /// `None` while the holder has no address.
    pub(crate) address: Option<IpAddr>,
    /// Id of the ip configuration.
    pub(crate) holder: String,
}

/// Who refers to whom. Keys are lower-case ids, values ids as first written, if not said otherwise.
#[derive(Default)]
pub(crate) struct Index {
    /// By subnet.
    pub(crate) allocations: HashMap<String, Vec<Allocation>>,
    /// Public address → ip configuration.
    pub(crate) public_ip_users: HashMap<String, String>,
    /// Route table → subnets.
    pub(crate) route_table_subnets: HashMap<String, Vec<String>>,
    /// Network security group → subnets.
    pub(crate) security_group_subnets: HashMap<String, Vec<String>>,
    /// Network security group → network interfaces.
    pub(crate) security_group_nics: HashMap<String, Vec<String>>,
    /// Virtual network → ip configurations of route servers in it.
    pub(crate) route_servers: HashMap<String, Vec<String>>,
    /// Virtual network → virtual network gateways in it.
    pub(crate) gateways: HashMap<String, Vec<String>>,
    /// Virtual network gateway or local network gateway → connections.
    pub(crate) connections: HashMap<String, Vec<String>>,
    /// Virtual network → peerings of others to it.
    pub(crate) peerings_to: HashMap<String, Vec<String>>,
}

impl<'a> World<'a> {
    /// All of it is shown.
    pub(crate) fn new(base: &'a Resources, settings: &'a Settings) -> World<'a> {
        World::shown_to(&|_| Ok(()), base, settings)
    }

    /// A world of which somebody may read only so much.
    pub(crate) fn shown_to(may_read: MayRead<'a>, base: &'a Resources, settings: &'a Settings) -> World<'a> {
        World {
            base,
            settings,
            may_read,
            changed: BTreeMap::new(),
            index: OnceCell::new(),
        }
    }

    /// The world as it was before the request.
    pub(crate) fn before(&self) -> World<'a> {
        World::shown_to(self.may_read, self.base, self.settings)
    }

    /// Refuses what whoever asks may not read. What this request itself makes was not there to be read.
    pub(crate) fn check_readable(&self, id: &str) -> Result<(), ArmError> {
        let key = id.to_ascii_lowercase();
        match self.changed.contains_key(&key) && !self.base.by_key.contains_key(&key) {
            true => Ok(()),
            false => (self.may_read)(id),
        }
    }

    /// Takes out of a list what whoever asks may not read.
    pub(crate) fn retain_readable(&self, resources: &mut Vec<&Resource>) {
        resources.retain(|resource| self.check_readable(&resource.id).is_ok());
    }

    /// How many resources of a type there are, at most: what the request removes still counts.
    pub(crate) fn count(&self, kind: &str) -> usize {
        let fresh = self.changed.values().flatten();
        let fresh = fresh.filter(|resource| !self.base.by_key.contains_key(&resource.key()));
        let all = self.base.by_key.values().chain(fresh);
        all.filter(|resource| resource.kind == kind).count()
    }

    /// The resource with this key.
    pub(crate) fn get(&self, key: &str) -> Option<&Resource> {
        match self.changed.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.base.by_key.get(key),
        }
    }

    /// Resources whose key begins with `prefix`, in order of their keys.
    pub(crate) fn under(&self, prefix: &str) -> Vec<&Resource> {
        let mut found: BTreeMap<String, &Resource> = self
            .base
            .under(prefix.to_owned())
            .map(|resource| (resource.key(), resource))
            .collect();
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
        let is_new = self.get(&key).is_none();
        match (self.index.get_mut(), types::find(kind)) {
            // A deployment makes thousands: what is new is added, not all looked at again.
            (Some(index), Some(kind)) if is_new => kind.index(&resource, index),
            _ => self.index = OnceCell::new(),
        }
        self.changed.insert(key, Some(resource));
    }

    /// Removes a resource and all below it; they are returned.
    pub(crate) fn remove(&mut self, key: &str) -> Vec<Resource> {
        let mut removed: Vec<Resource> = self.get(key).cloned().into_iter().collect();
        removed.extend(self.under(&format!("{key}/")).into_iter().cloned());
        for resource in &removed {
            self.changed.insert(resource.key(), None);
        }
        self.index = OnceCell::new();
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
                None => base.by_key.contains_key(&key).then_some(Change::Delete(key)),
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
                .by_key
                .get(&parent)
                .filter(|resource| types::find(&resource.kind).is_some());
            if let Some(resource) = is_resource {
                let resource = Resource {
                    etag: mint.guid(),
                    ..resource.clone()
                };
                self.changed.insert(parent, Some(resource));
            }
        }
    }

    pub(crate) fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let mut index = Index::default();
            for resource in self.under("") {
                if let Some(kind) = types::find(&resource.kind) {
                    kind.index(resource, &mut index);
                }
            }
            index
        })
    }
}

impl Index {
    /// What holds addresses of the subnet.
    pub(crate) fn allocations_of(&self, subnet: &str) -> &[Allocation] {
        self.allocations.get(subnet).map(Vec::as_slice).unwrap_or_default()
    }

    /// A connection of the gateway, if it has any.
    pub(crate) fn connections_of(&self, gateway: &str) -> Option<&str> {
        self.connections.get(gateway)?.first().map(String::as_str)
    }

    /// Whether the virtual network has something that others can use as their gateway (az §2.8): a route server counts.
    pub(crate) fn has_gateway(&self, network: &str) -> bool {
        self.route_servers.contains_key(network) || self.gateways.contains_key(network)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
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

    fn store_subnet(world: &mut World<'_>, name: &str, route_table: Option<&str>) {
        let table = route_table.map(|id| json!({ "id": id }));
        let body = json!({ "properties": { "routeTable": table } });
        let kind = "Microsoft.Network/virtualNetworks/subnets";
        world.store(&format!("/n/{name}"), kind, body, &mut Zero);
    }

    #[test]
    fn an_index_that_was_read_before_knows_what_is_made_changed_and_removed_since() {
        let (resources, settings) = (Resources::default(), Settings::default());
        let mut world = World::new(&resources, &settings);
        let of_table = |world: &World<'_>, table: &str| {
            world
                .index()
                .route_table_subnets
                .get(table)
                .cloned()
                .unwrap_or_default()
        };
        assert!(of_table(&world, "/t").is_empty());
        store_subnet(&mut world, "a", Some("/t"));
        store_subnet(&mut world, "b", Some("/t"));
        assert_eq!(of_table(&world, "/t"), ["/n/a", "/n/b"]);
        store_subnet(&mut world, "a", Some("/u"));
        assert_eq!(of_table(&world, "/t"), ["/n/b"]);
        assert_eq!(of_table(&world, "/u"), ["/n/a"]);
        world.remove("/n/b");
        assert!(of_table(&world, "/t").is_empty());
    }
}
