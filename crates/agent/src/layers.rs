//! What one instance says of one NIC: a table, or an overlay with a base below it that it shares with others. A route of the overlay wins
//! over the base's for the same prefix, and what the overlay hides of the base does not count.

use std::net::IpAddr;
use std::sync::RwLockReadGuard;

use ipnet::IpNet;

use crate::table::{Group, GroupId, SharedTable, Table, TableRoute, Way};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The table that names the NIC's way for sure.
    Own,
    /// The one below.
    Base,
}

/// A group within a word: ids are unique within a table only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupRef {
    /// In which table.
    pub layer: Layer,
    /// Its id there.
    pub id: GroupId,
}

/// A NIC's table with the one below it, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    own: SharedTable,
    base: Option<SharedTable>,
}

impl From<SharedTable> for Layers {
    fn from(own: SharedTable) -> Layers {
        Layers { own, base: None }
    }
}

impl Layers {
    /// Two tables, never twice the same: a lock is taken once.
    pub fn new(own: SharedTable, base: Option<SharedTable>) -> Layers {
        let base = base.filter(|base| !base.is(&own));
        Layers { own, base }
    }

    /// For reading.
    pub fn read(&self) -> ReadLayers<'_> {
        ReadLayers {
            own: self.own.read(),
            base: self.base.as_ref().map(SharedTable::read),
        }
    }
}

/// Both, locked for reading.
pub struct ReadLayers<'a> {
    own: RwLockReadGuard<'a, Table>,
    base: Option<RwLockReadGuard<'a, Table>>,
}

impl ReadLayers<'_> {
    /// The route that counts for a prefix.
    pub fn route(&self, prefix: &IpNet) -> Option<(Layer, &TableRoute)> {
        if let Some(route) = self.own.routes.get(prefix) {
            return Some((Layer::Own, route));
        }
        let route = self.base.as_ref()?.routes.get(prefix)?;
        (!self.own.hides(prefix)).then_some((Layer::Base, route))
    }

    /// Every prefix with a route that counts, once.
    pub fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        let base = self.base.iter().flat_map(|base| base.routes.keys());
        let counts = |prefix: &&IpNet| !self.own.routes.contains_key(prefix) && !self.own.hides(prefix);
        self.own.routes.keys().chain(base.filter(counts))
    }

    /// The next hops of all groups, some more than once.
    pub fn next_hops(&self) -> impl Iterator<Item = IpAddr> {
        let tables = std::iter::once(&*self.own).chain(self.base.as_deref());
        tables.flat_map(|table| table.groups.values().flat_map(|group| group.members.iter().copied()))
    }

    /// A group of one of the layers.
    pub fn group(&self, group: GroupRef) -> Option<&Group> {
        let table = match group.layer {
            Layer::Own => &self.own,
            Layer::Base => self.base.as_ref()?,
        };
        table.groups.get(&group.id)
    }

    /// One table that says the same.
    pub fn flattened(&self) -> Table {
        let mut flat = self.own.clone();
        flat.hide(Vec::new());
        let Some(base) = &self.base else {
            return flat;
        };
        let shift = flat.add_groups(base);
        for (prefix, route) in &base.routes {
            if !flat.routes.contains_key(prefix) && !self.own.hides(prefix) {
                let way = match route.way {
                    Way::Group(id) => Way::Group(shift.saturating_add(id)),
                    way => way,
                };
                flat.routes.insert(*prefix, TableRoute { way, ..*route });
            }
        }
        flat
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn table(groups: &[(GroupId, &str)], routes: &[(&str, Way)], hides: &[&str]) -> SharedTable {
        let mut table = Table::default();
        for (id, member) in groups {
            let members = vec![member.parse().unwrap()];
            table.groups.insert(
                *id,
                Group {
                    members,
                    fallback: vec![],
                    rank: 1,
                },
            );
        }
        for (prefix, way) in routes {
            let (way, system) = (*way, false);
            table.routes.insert(net(prefix), TableRoute { way, system });
        }
        table.hide(hides.iter().map(|text| net(text)).collect());
        SharedTable::new(table)
    }

    fn layers() -> Layers {
        let own = table(
            &[(1, "10.0.0.9")],
            &[
                ("0.0.0.0/0", Way::Group(1)),
                ("10.1.0.0/16", Way::SubnetGateway),
                ("20.9.0.0/16", Way::Blackhole),
            ],
            &["10.1.4.0/24", "10.1.0.0/16", "fd00::/48"],
        );
        let base = table(
            &[(1, "10.0.0.4"), (2, "10.0.0.5")],
            &[
                ("0.0.0.0/0", Way::Group(1)),
                ("10.0.0.0/15", Way::Group(1)),
                ("10.1.0.0/16", Way::Group(1)),
                ("10.1.4.0/24", Way::Group(1)),
                ("10.2.0.0/16", Way::Group(2)),
                ("fd00::/64", Way::Group(2)),
                ("fd00::/40", Way::Group(2)),
            ],
            &[],
        );
        Layers::new(own, Some(base))
    }

    #[test]
    fn the_overlay_wins_and_hides_what_lies_inside_what_it_names() {
        let layers = layers();
        let layers = layers.read();
        let check = |prefix: &str, expected: Option<(Layer, Way)>| {
            let route = layers.route(&net(prefix)).map(|(layer, route)| (layer, route.way));
            assert_eq!(route, expected, "{prefix}");
        };
        check("0.0.0.0/0", Some((Layer::Own, Way::Group(1))));
        check("10.0.0.0/15", Some((Layer::Base, Way::Group(1))));
        check("10.1.0.0/16", Some((Layer::Own, Way::SubnetGateway)));
        check("10.1.4.0/24", None);
        check("10.2.0.0/16", Some((Layer::Base, Way::Group(2))));
        check("20.9.0.0/16", Some((Layer::Own, Way::Blackhole)));
        check("fd00::/64", None);
        check("fd00::/40", Some((Layer::Base, Way::Group(2))));
        let mut named: Vec<String> = layers.prefixes().map(IpNet::to_string).collect();
        named.sort_unstable();
        let expected = [
            "0.0.0.0/0",
            "10.0.0.0/15",
            "10.1.0.0/16",
            "10.2.0.0/16",
            "20.9.0.0/16",
            "fd00::/40",
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn flattened_it_says_the_same() {
        let layers = layers();
        let layers = layers.read();
        let flat = Layers::from(SharedTable::new(layers.flattened()));
        let flat = flat.read();
        assert_eq!(flat.prefixes().count(), layers.prefixes().count());
        for prefix in layers.prefixes() {
            let ((layer, route), (_, flattened)) = (layers.route(prefix).unwrap(), flat.route(prefix).unwrap());
            match (route.way, flattened.way) {
                (Way::Group(id), Way::Group(other)) => {
                    let (group, other) = (
                        GroupRef { layer, id },
                        GroupRef {
                            layer: Layer::Own,
                            id: other,
                        },
                    );
                    assert_eq!(layers.group(group), flat.group(other), "{prefix}");
                }
                (way, other) => assert_eq!(way, other, "{prefix}"),
            }
        }
    }

    #[test]
    fn a_table_is_never_its_own_base() {
        let own = table(&[], &[("10.1.0.0/16", Way::OnLink)], &[]);
        let layers = Layers::new(own.clone(), Some(own));
        assert_eq!(layers.read().prefixes().count(), 1);
    }
}
