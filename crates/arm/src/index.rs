//! Who refers to whom, how many there are of each type, and which addresses are taken: what a request must know of all resources
//! without looking at each. Kept beside the resources and brought up to date with every one that is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Bound;

use crate::resource::Resource;
use crate::runs::Runs;
use crate::types;

/// How one resource refers to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Relation {
    /// An ip configuration has, or will have, an address in a subnet. Public addresses are one pool (its key is [`PUBLIC_POOL`]).
    AddressIn,
    /// An ip configuration uses a public address.
    UserOfPublicAddress,
    /// A subnet uses a route table.
    SubnetOfRouteTable,
    /// A subnet uses a network security group.
    SubnetOfSecurityGroup,
    /// A network interface uses a network security group.
    NicOfSecurityGroup,
    /// A network interface is in a virtual network.
    NicIn,
    /// A route server's ip configuration is in a virtual network.
    RouteServerIn,
    /// A virtual network gateway is in a virtual network.
    GatewayIn,
    /// A connection has a virtual network gateway or local network gateway at one end.
    ConnectionOf,
    /// A connection, be it a route server's or a gateway's, has a route map.
    ConnectionOfRouteMap,
}

/// In the place of a subnet's key: where public addresses are.
pub(crate) const PUBLIC_POOL: &str = "public";

/// One reference of a resource, as its type tells it.
pub(crate) struct Reference {
    pub(crate) relation: Relation,
    /// Key of what is referred to.
    pub(crate) target: String,
    pub(crate) holder: Holder,
}

/// What refers to something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The id, as first written, of the resource or of the ip configuration in it.
    pub(crate) id: String,
    /// With [`Relation::AddressIn`]: the address, unless it follows from the subnet's prefix.
    pub(crate) address: Option<IpAddr>,
}

/// The references by the key of the resource that they are in.
type Holders = BTreeMap<String, Vec<Holder>>;

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Index {
    /// Keys by type.
    kinds: HashMap<&'static str, BTreeSet<String>>,
    /// By relation and the target's key.
    referred: HashMap<Relation, HashMap<String, Holders>>,
    /// By subnet.
    taken: HashMap<String, Taken>,
}

/// The addresses that are taken in one subnet.
#[derive(Clone, Debug, Default, PartialEq)]
struct Taken {
    /// By address: the keys of resources that have it, with the id of the ip configuration. Rules allow one.
    holders: BTreeMap<IpAddr, BTreeMap<String, String>>,
    runs: Runs,
}

impl Reference {
    pub(crate) fn new(relation: Relation, target: String, id: impl Into<String>) -> Reference {
        let id = id.into();
        Reference {
            relation,
            target,
            holder: Holder { id, address: None },
        }
    }

    /// An ip configuration (id) in a subnet (key).
    pub(crate) fn address(subnet: String, id: impl Into<String>, address: Option<IpAddr>) -> Reference {
        let mut reference = Reference::new(Relation::AddressIn, subnet, id);
        reference.holder.address = address;
        reference
    }
}

impl Index {
    /// Adds a resource.
    pub(crate) fn add(&mut self, resource: &Resource) {
        let Some(kind) = types::find(&resource.kind) else {
            return;
        };
        let owner = resource.key();
        for Reference {
            relation,
            target,
            holder,
        } in kind.references(resource)
        {
            if let Some(address) = holder.address {
                let taken = self.taken.entry(target.clone()).or_default();
                taken.add(address, &owner, &holder.id);
            }
            let targets = self.referred.entry(relation).or_default();
            let holders = targets.entry(target).or_default().entry(owner.clone()).or_default();
            holders.push(holder);
        }
        self.kinds.entry(kind.kind()).or_default().insert(owner);
    }

    /// Takes out a resource, which is as it was added.
    pub(crate) fn remove(&mut self, resource: &Resource) {
        let Some(kind) = types::find(&resource.kind) else {
            return;
        };
        let owner = resource.key();
        for reference in kind.references(resource) {
            if let Some(address) = reference.holder.address {
                self.release(&reference.target, address, &owner);
            }
            self.forget(reference.relation, &reference.target, &owner);
        }
        if let Some(keys) = self.kinds.get_mut(kind.kind()) {
            keys.remove(&owner);
            if keys.is_empty() {
                self.kinds.remove(kind.kind());
            }
        }
    }

    /// What refers to `target` (key), in order of their keys.
    pub(crate) fn holders(&self, relation: Relation, target: &str) -> impl Iterator<Item = (&str, &Holder)> {
        let owners = self.referred.get(&relation).and_then(|targets| targets.get(target));
        let owners = owners.into_iter().flatten();
        owners.flat_map(|(owner, holders)| holders.iter().map(move |holder| (owner.as_str(), holder)))
    }

    /// How many resources refer to `target` (key).
    pub(crate) fn count_owners(&self, relation: Relation, target: &str) -> usize {
        let owners = self.referred.get(&relation).and_then(|targets| targets.get(target));
        owners.map_or(0, BTreeMap::len)
    }

    /// Keys of the resources of a type that begin with `prefix`, in order.
    pub(crate) fn of_kind<'i>(&'i self, kind: &str, prefix: &'i str) -> impl Iterator<Item = &'i str> + use<'i> {
        let keys = self.kinds.get(kind).into_iter();
        let from = keys.flat_map(move |keys| keys.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)));
        from.map(String::as_str).take_while(move |key| key.starts_with(prefix))
    }

    /// How many resources of a type there are.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.kinds.get(kind).map_or(0, BTreeSet::len)
    }

    /// The keys of resources that have the address in the subnet, each with the id of the ip configuration.
    pub(crate) fn holders_of(&self, subnet: &str, address: IpAddr) -> impl Iterator<Item = (&str, &str)> {
        let holders = self.taken.get(subnet).and_then(|taken| taken.holders.get(&address));
        let holders = holders.into_iter().flatten();
        holders.map(|(owner, id)| (owner.as_str(), id.as_str()))
    }

    /// Addresses of the subnet that nobody has, from `first` to `last`.
    pub(crate) fn free(&self, subnet: &str, first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpAddr> {
        let runs = self.taken.get(subnet).map(|taken| &taken.runs);
        Runs::gaps(runs, first, last)
    }

    /// Addresses of the subnet that somebody has, from `first` to `last`.
    pub(crate) fn taken(&self, subnet: &str, first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpAddr> {
        let taken = self.taken.get(subnet).into_iter();
        taken.flat_map(move |taken| taken.holders.range(first..=last).map(|(address, _)| *address))
    }

    fn release(&mut self, subnet: &str, address: IpAddr, owner: &str) {
        if let Some(taken) = self.taken.get_mut(subnet) {
            taken.remove(address, owner);
            if taken.holders.is_empty() {
                self.taken.remove(subnet);
            }
        }
    }

    fn forget(&mut self, relation: Relation, target: &str, owner: &str) {
        let Some(targets) = self.referred.get_mut(&relation) else {
            return;
        };
        if let Some(holders) = targets.get_mut(target) {
            holders.remove(owner);
            if holders.is_empty() {
                targets.remove(target);
            }
        }
        if targets.is_empty() {
            self.referred.remove(&relation);
        }
    }
}

impl Taken {
    fn add(&mut self, address: IpAddr, owner: &str, id: &str) {
        let holders = self.holders.entry(address).or_default();
        holders.insert(owner.to_owned(), id.to_owned());
        self.runs.insert(address);
    }

    fn remove(&mut self, address: IpAddr, owner: &str) {
        if let Some(holders) = self.holders.get_mut(&address) {
            holders.remove(owner);
            if holders.is_empty() {
                self.holders.remove(&address);
                self.runs.remove(address);
            }
        }
    }
}
