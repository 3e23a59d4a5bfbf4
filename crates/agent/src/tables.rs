//! What one instance's stream says, turned into what its NICs are told. Pure.
//!
//! Knows the tables of the instance's present life. Tables outlive a stream, but what a later stream says of them begins with
//! a snapshot, and NICs are told of a table only when it is fresh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::agent::route::Way as WireWay;
use api::agent::{Nic, Prefix, TableUpdate, ToAgent, Welcome, to_agent::Body};
use ipnet::IpNet;

use crate::layers::{Layer, Layers};
use crate::merge::{Changes, NicFacts, Said};
use crate::table::{Group, SharedTable, Table, TableRoute, Way};

/// Something for one NIC, or for all.
#[derive(Clone, Debug)]
pub struct Told {
    /// The NIC's id; `None`: all.
    pub nic: Option<String>,
    /// What.
    pub said: Said,
    /// To be confirmed when it is in the kernel.
    pub confirm: Option<Confirm>,
}

/// Which generations a NIC's tables are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// Which table.
    pub table: u64,
    /// Its generation.
    pub generation: u64,
    /// The base below, if there is one, and its generation.
    pub base: Option<(u64, u64)>,
}

/// A message that makes no sense. The stream is ended and begun again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The stream must begin with a welcome.
    #[error("the first message is not a welcome")]
    NoWelcome,
    /// Neither 4 nor 16 octets.
    #[error("an address of {0} octets")]
    Address(usize),
    /// Longer than the address.
    #[error("a prefix of length {0}")]
    Prefix(u32),
    /// A way of a later version, perhaps.
    #[error("a route to {0} without a way")]
    NoWay(IpNet),
    /// A delta that does not build on what is known.
    #[error("a delta of generation {got} for table {table}, which has generation {have}")]
    Gap {
        /// Which table.
        table: u64,
        /// The generation known.
        have: u64,
        /// The generation that came.
        got: u64,
    },
}

#[derive(Debug, Default)]
struct Followed {
    shared: SharedTable,
    /// Said on this stream.
    fresh: bool,
}

/// What a NIC is told to follow.
#[derive(Debug)]
struct Assigned {
    table: u64,
    base: Option<u64>,
    facts: NicFacts,
}

impl Assigned {
    /// What a table is to the NIC; `None`: nothing.
    fn layer(&self, id: u64) -> Option<Layer> {
        match id {
            id if id == self.table => Some(Layer::Own),
            id if Some(id) == self.base => Some(Layer::Base),
            _ => None,
        }
    }
}

/// The tables of one instance.
#[derive(Debug, Default)]
pub struct Tables {
    epoch: Option<u64>,
    tables: BTreeMap<u64, Followed>,
    nics: BTreeMap<String, Assigned>,
    /// NICs have other tables than before: what nobody follows any more is forgotten when all of them have been told theirs.
    reassigned: bool,
    /// Tables that were told anew. Snapshots come together, and NICs are told when the last of them is there: one layer as it is now above or
    /// below one as it was could leave a prefix without a route that has one in both.
    renewed: BTreeSet<u64>,
    /// Pieces of an update whose last one has not come.
    unfinished: Option<Update>,
}

/// What is said of a table.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Snapshot,
    Delta,
}

#[derive(Debug)]
struct Update {
    kind: Kind,
    update: TableUpdate,
}

impl Update {
    fn is_continued_by(&self, kind: &Kind, piece: &TableUpdate) -> bool {
        let of = |update: &TableUpdate| (update.table, update.generation);
        self.kind == *kind && of(&self.update) == of(piece)
    }

    fn push(&mut self, piece: TableUpdate) {
        let whole = &mut self.update;
        whole.groups.extend(piece.groups);
        whole.removed_groups.extend(piece.removed_groups);
        whole.routes.extend(piece.routes);
        whole.removed.extend(piece.removed);
        whole.hides.extend(piece.hides);
        whole.hides_changed |= piece.hides_changed;
        whole.more = piece.more;
    }
}

impl Tables {
    /// A stream begins.
    pub fn welcome(&mut self, welcome: &Welcome) -> Told {
        if self.epoch != Some(welcome.epoch) {
            self.epoch = Some(welcome.epoch);
            self.tables.clear();
        }
        for table in self.tables.values_mut() {
            table.fresh = false;
        }
        self.nics.clear();
        self.reassigned = false;
        self.renewed.clear();
        self.unfinished = None;
        Told {
            nic: None,
            said: Said::Welcome { epoch: welcome.epoch },
            confirm: None,
        }
    }

    /// A message arrives.
    pub fn handle(&mut self, message: ToAgent) -> Result<Vec<Told>, StreamError> {
        // Assignments come together. A table that one NIC leaves may be another's from the next of them on, and is not told again.
        if !matches!(message.body, Some(Body::Nic(_))) && std::mem::take(&mut self.reassigned) {
            self.forget_unused();
        }
        let mut told = match message.body {
            Some(Body::Snapshot(_)) => Vec::new(),
            _ => self.tell_of_renewed(),
        };
        told.extend(match message.body {
            Some(Body::Welcome(welcome)) => vec![self.welcome(&welcome)],
            Some(Body::Nic(nic)) => self.nic(nic)?,
            Some(Body::Snapshot(piece)) => self.piece(Kind::Snapshot, piece)?,
            Some(Body::Delta(piece)) => self.piece(Kind::Delta, piece)?,
            Some(Body::Converged(converged)) => vec![Told {
                nic: None,
                said: Said::Converged(converged),
                confirm: None,
            }],
            Some(Body::Heartbeat(_)) | None => Vec::new(),
        });
        Ok(told)
    }

    /// The NICs whose tables were told anew.
    fn tell_of_renewed(&mut self) -> Vec<Told> {
        let renewed = std::mem::take(&mut self.renewed);
        let concerned = |assigned: &Assigned| renewed.iter().any(|id| assigned.layer(*id).is_some());
        let concerned = self.nics.iter().filter(|(_, assigned)| concerned(assigned));
        concerned
            .filter_map(|(nic, assigned)| self.tell(nic, assigned))
            .collect()
    }

    fn nic(&mut self, nic: Nic) -> Result<Vec<Told>, StreamError> {
        let facts = NicFacts {
            addresses: nic
                .addresses
                .iter()
                .map(|bytes| address(bytes))
                .collect::<Result<_, _>>()?,
            subnet_prefixes: nic.subnet_prefixes.iter().map(prefix).collect::<Result<_, _>>()?,
            gateways: nic
                .gateways
                .iter()
                .map(|bytes| address(bytes))
                .collect::<Result<_, _>>()?,
        };
        let Some(table) = nic.table else {
            self.nics.remove(&nic.nic);
            self.reassigned = true;
            return Ok(vec![Told {
                nic: Some(nic.nic),
                said: Said::Unknown,
                confirm: None,
            }]);
        };
        let assigned = Assigned {
            table,
            base: nic.base.filter(|base| *base != table),
            facts,
        };
        let told = self.tell(&nic.nic, &assigned);
        let names = (assigned.table, assigned.base);
        let before = self.nics.insert(nic.nic, assigned);
        self.reassigned |= before.is_some_and(|before| (before.table, before.base) != names);
        Ok(told.into_iter().collect())
    }

    /// Takes an update as a whole: no NIC sees half of one.
    fn piece(&mut self, kind: Kind, piece: TableUpdate) -> Result<Vec<Told>, StreamError> {
        let update = match self.unfinished.take() {
            Some(mut update) if update.is_continued_by(&kind, &piece) => {
                update.push(piece);
                update
            }
            // One that was broken off is not missed: a snapshot makes up for it.
            _ => Update { kind, update: piece },
        };
        if update.update.more {
            self.unfinished = Some(update);
            return Ok(Vec::new());
        }
        match update.kind {
            Kind::Snapshot => self.snapshot(update.update),
            Kind::Delta => self.delta(update.update),
        }
    }

    fn snapshot(&mut self, update: TableUpdate) -> Result<Vec<Told>, StreamError> {
        let id = update.table;
        let mut table = Table::default();
        apply(&mut table, update)?;
        // Another one, not the same with other content: NICs go on with what they were told until they are told this.
        let followed = self.tables.entry(id).or_default();
        followed.shared = SharedTable::new(table);
        if std::mem::replace(&mut followed.fresh, true) {
            self.renewed.insert(id);
            return Ok(Vec::new());
        }
        let following = self.nics.iter().filter(|(_, assigned)| assigned.layer(id).is_some());
        Ok(following
            .filter_map(|(nic, assigned)| self.tell(nic, assigned))
            .collect())
    }

    fn delta(&mut self, update: TableUpdate) -> Result<Vec<Told>, StreamError> {
        let (id, generation) = (update.table, update.generation);
        let Some(followed) = self.tables.get(&id).filter(|followed| followed.fresh) else {
            // One for a table that nothing follows here any more may still have been under way.
            return match self.nics.values().any(|assigned| assigned.layer(id).is_some()) {
                true => Err(StreamError::Gap {
                    table: id,
                    have: 0,
                    got: generation,
                }),
                false => Ok(Vec::new()),
            };
        };
        let changes = {
            let mut table = followed.shared.write();
            if generation != table.generation.wrapping_add(1) {
                return Err(StreamError::Gap {
                    table: id,
                    have: table.generation,
                    got: generation,
                });
            }
            Arc::new(apply(&mut table, update)?)
        };
        let told = |(nic, assigned): (&String, &Assigned)| {
            let layer = assigned.layer(id)?;
            Some(Told {
                nic: Some(nic.clone()),
                said: Said::Changed(layer, Arc::clone(&changes)),
                confirm: Some(self.confirm(assigned)?),
            })
        };
        Ok(self.nics.iter().filter_map(told).collect())
    }

    /// A NIC's facts and tables, once all of them are fresh.
    fn tell(&self, nic: &str, assigned: &Assigned) -> Option<Told> {
        let confirm = self.confirm(assigned)?;
        let own = self.fresh(assigned.table)?.clone();
        let base = assigned.base.and_then(|base| self.fresh(base)).cloned();
        Some(Told {
            nic: Some(nic.to_owned()),
            said: Said::Table(assigned.facts.clone(), Layers::new(own, base)),
            confirm: Some(confirm),
        })
    }

    /// The generations of a NIC's tables; `None`: one of them is not fresh.
    fn confirm(&self, assigned: &Assigned) -> Option<Confirm> {
        let generation = |id: u64| Some(self.fresh(id)?.read().generation);
        Some(Confirm {
            table: assigned.table,
            generation: generation(assigned.table)?,
            base: match assigned.base {
                Some(base) => Some((base, generation(base)?)),
                None => None,
            },
        })
    }

    fn fresh(&self, id: u64) -> Option<&SharedTable> {
        let followed = self.tables.get(&id).filter(|followed| followed.fresh);
        followed.map(|followed| &followed.shared)
    }

    fn forget_unused(&mut self) {
        let nics = &self.nics;
        self.tables
            .retain(|id, _| nics.values().any(|assigned| assigned.layer(*id).is_some()));
    }
}

/// Applies an update, which on an empty table is a snapshot, and says where the table has changed.
fn apply(table: &mut Table, update: TableUpdate) -> Result<Changes, StreamError> {
    let mut changes = Changes::default();
    for group in update.groups {
        let (id, rank) = (group.id, group.rank);
        let (members, fallback) = (addresses(&group.members)?, addresses(&group.fallback)?);
        let group = Group {
            members,
            fallback,
            rank,
        };
        table.groups.insert(id, group);
        changes.groups.push(id);
    }
    for route in update.routes {
        let prefix = prefix(&route.prefix.unwrap_or_default())?;
        let way = match route.way {
            Some(WireWay::OnLink(_)) => Way::OnLink,
            Some(WireWay::SubnetGateway(_)) => Way::SubnetGateway,
            Some(WireWay::Group(id)) => Way::Group(id),
            Some(WireWay::Blackhole(_)) => Way::Blackhole,
            None => return Err(StreamError::NoWay(prefix)),
        };
        table.routes.insert(
            prefix,
            TableRoute {
                way,
                system: route.system,
            },
        );
        changes.prefixes.push(prefix);
    }
    for removed in &update.removed {
        let prefix = prefix(removed)?;
        table.routes.remove(&prefix);
        changes.prefixes.push(prefix);
    }
    for id in update.removed_groups {
        table.groups.remove(&id);
        changes.groups.push(id);
    }
    if update.hides_changed {
        table.hide(update.hides.iter().map(prefix).collect::<Result<_, _>>()?);
        changes.hides = true;
    }
    table.generation = update.generation;
    Ok(changes)
}

fn addresses(list: &[Vec<u8>]) -> Result<Vec<IpAddr>, StreamError> {
    list.iter().map(|bytes| address(bytes)).collect()
}

fn address(bytes: &[u8]) -> Result<IpAddr, StreamError> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes)
            .map(IpAddr::from)
            .map_err(|_| StreamError::Address(4)),
        16 => <[u8; 16]>::try_from(bytes)
            .map(IpAddr::from)
            .map_err(|_| StreamError::Address(16)),
        length => Err(StreamError::Address(length)),
    }
}

/// The kernel refuses a prefix with host bits set, so they are cleared here.
fn prefix(prefix: &Prefix) -> Result<IpNet, StreamError> {
    let length = u8::try_from(prefix.length).map_err(|_| StreamError::Prefix(prefix.length))?;
    let net = IpNet::new(address(&prefix.address)?, length).map_err(|_| StreamError::Prefix(prefix.length))?;
    Ok(net.trunc())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use api::agent::{Group as WireGroup, Heartbeat, Route};

    fn message(body: Body) -> ToAgent {
        ToAgent { body: Some(body) }
    }

    fn welcome(epoch: u64) -> Body {
        Body::Welcome(Welcome {
            instance: 0,
            epoch,
            silence_secs: 0,
        })
    }

    fn nic(table: Option<u64>) -> Body {
        Body::Nic(Nic {
            nic: "n".to_owned(),
            table,
            addresses: vec![vec![10, 1, 0, 5]],
            ..Nic::default()
        })
    }

    fn update(generation: u64) -> TableUpdate {
        let prefix = Prefix {
            address: vec![10, 250, 0, 0],
            length: 16,
        };
        TableUpdate {
            table: 7,
            generation,
            groups: vec![WireGroup {
                id: 1,
                members: vec![vec![10, 1, 1, 4]],
                fallback: vec![],
                rank: 3,
            }],
            routes: vec![Route {
                prefix: Some(prefix),
                system: false,
                way: Some(WireWay::Group(1)),
            }],
            ..TableUpdate::default()
        }
    }

    /// What the NIC is told, one word each.
    fn check(messages: Vec<Body>, expected: Result<&[&str], StreamError>) {
        let mut tables = Tables::default();
        let told: Result<Vec<Vec<Told>>, StreamError> =
            messages.into_iter().map(|body| tables.handle(message(body))).collect();
        let words = told.map(|told| told.into_iter().flatten().map(|told| word(&told)).collect::<Vec<_>>());
        assert_eq!(
            words,
            expected.map(|words| words.iter().map(|word| (*word).to_owned()).collect())
        );
    }

    fn word(told: &Told) -> String {
        match &told.said {
            Said::Welcome { epoch } => format!("welcome {epoch}"),
            Said::Table(_, table) => format!(
                "table of {} routes, confirm {:?}",
                table.read().prefixes().count(),
                generations(told)
            ),
            Said::Changed(_, changes) => format!("{} changes, confirm {:?}", changes.prefixes.len(), generations(told)),
            said => format!("{said:?}"),
        }
    }

    /// Table and generation, of a base too.
    fn generations(told: &Told) -> Vec<(u64, u64)> {
        let confirm = told.confirm.unwrap();
        let own = (confirm.table, confirm.generation);
        [Some(own), confirm.base].into_iter().flatten().collect()
    }

    #[test]
    fn a_nic_is_told_its_table_whatever_comes_first() {
        let expected: &[&str] = &["welcome 1", "table of 1 routes, confirm [(7, 4)]"];
        check(vec![welcome(1), nic(Some(7)), Body::Snapshot(update(4))], Ok(expected));
        check(vec![welcome(1), Body::Snapshot(update(4)), nic(Some(7))], Ok(expected));
    }

    #[test]
    fn a_nic_with_two_layers_is_told_when_both_are_there_and_of_changes_in_both() {
        let layered = || match nic(Some(7)) {
            Body::Nic(nic) => Body::Nic(Nic { base: Some(8), ..nic }),
            other => other,
        };
        let base = |generation: u64| TableUpdate {
            table: 8,
            ..update(generation)
        };
        let overlay = |generation: u64| TableUpdate {
            routes: vec![],
            hides_changed: true,
            hides: vec![],
            ..update(generation)
        };
        let expected: &[&str] = &[
            "welcome 1",
            "table of 1 routes, confirm [(7, 4), (8, 2)]",
            "1 changes, confirm [(7, 4), (8, 3)]",
            "0 changes, confirm [(7, 5), (8, 3)]",
        ];
        let (own, below) = (Body::Snapshot(overlay(4)), Body::Snapshot(base(2)));
        let changes = [Body::Delta(base(3)), Body::Delta(overlay(5))];
        for first in [
            [welcome(1), layered(), own.clone(), below.clone()],
            [welcome(1), below.clone(), own.clone(), layered()],
            [welcome(1), own, layered(), below],
        ] {
            check(first.into_iter().chain(changes.clone()).collect(), Ok(expected));
        }
        // The base has changed before the overlay is there: nobody is told of that.
        check(
            vec![
                welcome(1),
                layered(),
                Body::Snapshot(base(2)),
                Body::Delta(base(3)),
                Body::Snapshot(overlay(4)),
            ],
            Ok(&["welcome 1", "table of 1 routes, confirm [(7, 4), (8, 3)]"]),
        );
    }

    #[test]
    fn a_table_that_goes_from_one_nic_to_another_is_not_forgotten_in_between() {
        let assign = |name: &str, table: u64, base: Option<u64>| match nic(Some(table)) {
            Body::Nic(nic) => Body::Nic(Nic {
                nic: name.to_owned(),
                base,
                ..nic
            }),
            other => other,
        };
        let snapshot = |table: u64| Body::Snapshot(TableUpdate { table, ..update(4) });
        let delta = |table: u64| Body::Delta(TableUpdate { table, ..update(5) });
        let swap = vec![
            welcome(1),
            assign("a", 1, Some(8)),
            assign("b", 2, None),
            snapshot(1),
            snapshot(2),
            snapshot(8),
            assign("a", 3, None),
            assign("b", 4, Some(8)),
            snapshot(3),
            snapshot(4),
            delta(8),
            delta(1),
        ];
        let expected: &[&str] = &[
            "welcome 1",
            "table of 1 routes, confirm [(2, 4)]",
            "table of 1 routes, confirm [(1, 4), (8, 4)]",
            "table of 1 routes, confirm [(3, 4)]",
            "table of 1 routes, confirm [(4, 4), (8, 4)]",
            "1 changes, confirm [(4, 4), (8, 5)]",
        ];
        check(swap, Ok(expected));
        // One that is followed and was never told is asked for, by ending the stream.
        check(
            vec![welcome(1), assign("a", 1, None), delta(1)],
            Err(StreamError::Gap {
                table: 1,
                have: 0,
                got: 5,
            }),
        );
    }

    #[test]
    fn both_layers_of_a_stream_that_goes_on_with_snapshots_are_told_at_once_and_none_before() {
        let Body::Nic(nic) = nic(Some(7)) else { unreachable!() };
        let layered = || {
            Body::Nic(Nic {
                base: Some(8),
                ..nic.clone()
            })
        };
        let snapshot = |table: u64, generation: u64| {
            Body::Snapshot(TableUpdate {
                table,
                ..update(generation)
            })
        };
        let empty = |table: u64, generation: u64| {
            Body::Snapshot(TableUpdate {
                table,
                generation,
                ..TableUpdate::default()
            })
        };
        let mut tables = Tables::default();
        let mut says = |body: Body| tables.handle(message(body)).unwrap();
        let first = [welcome(1), layered(), empty(7, 1), snapshot(8, 1)].map(&mut says);
        let Said::Table(_, before) = &first[3][0].said else {
            panic!("{first:?}")
        };
        // The agent fell behind, and meanwhile the route went from the base to the overlay.
        let again = [layered(), empty(8, 5), snapshot(7, 5)].map(&mut says);
        assert_eq!(
            before.read().prefixes().count(),
            1,
            "what was told stays as it was told"
        );
        let told: Vec<String> = again.iter().flatten().map(word).collect();
        assert_eq!(told, ["table of 1 routes, confirm [(7, 1), (8, 1)]"]);
        let told: Vec<String> = says(Body::Converged(true)).iter().map(word).collect();
        assert_eq!(told, ["table of 1 routes, confirm [(7, 5), (8, 5)]", "Converged(true)"]);
    }

    #[test]
    fn a_stream_that_begins_again_tells_a_table_only_after_its_snapshot() {
        let again = vec![
            welcome(1),
            nic(Some(7)),
            Body::Snapshot(update(4)),
            welcome(1),
            nic(Some(7)),
        ];
        check(
            again,
            Ok(&["welcome 1", "table of 1 routes, confirm [(7, 4)]", "welcome 1"]),
        );
    }

    #[test]
    fn a_delta_builds_on_the_generation_before() {
        let begin = || vec![welcome(1), nic(Some(7)), Body::Snapshot(update(4))];
        let with = |generation| begin().into_iter().chain([Body::Delta(update(generation))]).collect();
        let told: &[&str] = &[
            "welcome 1",
            "table of 1 routes, confirm [(7, 4)]",
            "1 changes, confirm [(7, 5)]",
        ];
        check(with(5), Ok(told));
        check(
            with(6),
            Err(StreamError::Gap {
                table: 7,
                have: 4,
                got: 6,
            }),
        );
        check(
            with(4),
            Err(StreamError::Gap {
                table: 7,
                have: 4,
                got: 4,
            }),
        );
    }

    #[test]
    fn an_update_in_pieces_counts_when_its_last_piece_is_there() {
        let piece = |generation: u64, second: u8, more: bool| {
            let mut piece = update(generation);
            piece.routes[0].prefix.as_mut().unwrap().address[1] = second;
            TableUpdate { more, ..piece }
        };
        let with = |bodies: Vec<Body>| [welcome(1), nic(Some(7))].into_iter().chain(bodies).collect();
        let snapshot = || [Body::Snapshot(piece(4, 1, true)), Body::Snapshot(piece(4, 2, false))];
        let delta = || [Body::Delta(piece(5, 3, true)), Body::Delta(piece(5, 4, false))];
        check(with(snapshot()[..1].to_vec()), Ok(&["welcome 1"]));
        check(
            with(snapshot().into()),
            Ok(&["welcome 1", "table of 2 routes, confirm [(7, 4)]"]),
        );
        // The table is shared, so that at the end it is the one after the delta.
        check(
            with([snapshot(), delta()].concat()),
            Ok(&[
                "welcome 1",
                "table of 4 routes, confirm [(7, 4)]",
                "2 changes, confirm [(7, 5)]",
            ]),
        );
        // Broken off, and begun again with what is true by then.
        check(
            with(vec![
                Body::Snapshot(piece(4, 1, true)),
                Body::Snapshot(piece(6, 2, false)),
                Body::Delta(piece(7, 3, true)),
                Body::Snapshot(piece(9, 4, false)),
                Body::Heartbeat(Heartbeat {}),
            ]),
            Ok(&[
                "welcome 1",
                "table of 1 routes, confirm [(7, 6)]",
                "table of 1 routes, confirm [(7, 9)]",
            ]),
        );
    }

    #[test]
    fn a_message_that_makes_no_sense_ends_the_stream() {
        let mut no_way = update(1);
        no_way.routes[0].way = None;
        check(
            vec![welcome(1), Body::Snapshot(no_way)],
            Err(StreamError::NoWay("10.250.0.0/16".parse().unwrap())),
        );
        let mut long = update(1);
        long.routes[0].prefix = Some(Prefix {
            address: vec![10, 0, 0, 0],
            length: 33,
        });
        check(vec![welcome(1), Body::Snapshot(long)], Err(StreamError::Prefix(33)));
        let mut odd = update(1);
        odd.groups[0].members = vec![vec![1, 2, 3]];
        check(vec![welcome(1), Body::Snapshot(odd)], Err(StreamError::Address(3)));
        check(vec![welcome(1), nic(None)], Ok(&["welcome 1", "Unknown"]));
    }
}
