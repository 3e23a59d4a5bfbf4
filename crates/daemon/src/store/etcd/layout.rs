//! What is kept under which key, and what a batch of writes is in etcd.
//!
//! ```text
//! PREFIX head                              version, counters, who wrote last: each write compares and replaces it
//!        resources/subscriptions/…         a resource
//!        settings/subscriptions/…          settings of ours
//!        directory/<collection>/<key>      who may come in and do what
//!        operations/<number>               the latest operations
//!        activity/w/<number> · activity/r/ the activity log: writes, refusals
//!        config/<instances>                fingerprint of a manager's configuration
//!        staged/<batch>/<number>           pieces of a batch that is too large for one transaction
//!        managers/<instance>               who runs an instance now; goes with its lease
//!        members/<instance>                who ran it last
//!        states/<instance>                 how the instance is; goes with its manager's lease
//!        down/<instance>                   its peerings that are down; goes with that, too
//! ```

use std::collections::BTreeMap;

use arm::Change;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::pb;
use crate::store::{Activity, Collection, MAX_OPERATIONS, StoreError, Write};

/// Layouts that we understand: up to this one.
pub(super) const LAYOUT: u32 = 1;
/// etcd takes 128 (`--max-txn-ops`); the head and what is compared need some.
pub(super) const MAX_OPS: usize = 100;
/// etcd takes 1.5 MiB (`--max-request-bytes`).
pub(super) const MAX_TXN_BYTES: usize = 1 << 20;
/// One value must fit a transaction also when it is a piece of a staged batch, with its quotes escaped.
pub(super) const MAX_VALUE_BYTES: usize = 640 << 10;

/// The record that every write compares and replaces: so writes happen one after the other, whoever makes them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Head {
    /// [`LAYOUT`] of who made it.
    pub(super) layout: u32,
    /// Of the last batch.
    pub(super) version: u64,
    /// Operations ever stored.
    pub(super) operations: u64,
    /// Events of the activity log ever stored.
    pub(super) events: u64,
    /// Events of writes that are there.
    pub(super) writes: u64,
    /// Events of refusals that are there.
    pub(super) refusals: u64,
    /// Events of writes with lower numbers are forgotten.
    pub(super) first_write: u64,
    /// Events of refusals with lower numbers are forgotten.
    pub(super) first_refusal: u64,
    /// A batch that is stored, but not yet at its place.
    pub(super) pending: Option<Pending>,
    /// The last write of each manager, so that one whose answer was lost is known again.
    pub(super) last: BTreeMap<String, String>,
}

/// See [`Head::pending`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pending {
    /// Names its pieces.
    pub(super) batch: String,
    /// How many.
    pub(super) pieces: usize,
}

/// The head as it was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) head: Head,
    /// Its revision; 0: there is none yet.
    pub(super) revision: i64,
}

/// The keys below a prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Keys {
        Keys {
            prefix: prefix.to_owned(),
        }
    }

    pub(super) fn below(&self, what: &str) -> Vec<u8> {
        format!("{}{what}", self.prefix).into_bytes()
    }

    pub(super) fn all(&self) -> (Vec<u8>, Vec<u8>) {
        let key = self.prefix.clone().into_bytes();
        let end = end_of(&key);
        (key, end)
    }

    /// What follows the prefix.
    pub(super) fn rest<'k>(&self, key: &'k [u8]) -> Option<&'k str> {
        std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)
    }
}

pub(super) const HEAD: &str = "head";

pub(super) fn staged(batch: &str, piece: usize) -> String {
    format!("staged/{batch}/{piece:06}")
}

pub(super) fn operation(number: u64) -> String {
    format!("operations/{number:020}")
}

/// The number of the operation that is kept under a key (below the prefix), if one is.
pub(super) fn number_of_operation(key: &str) -> Option<u64> {
    key.strip_prefix("operations/")?.parse().ok()
}

pub(super) fn event(is_refusal: bool, number: u64) -> String {
    let kind = if is_refusal { "r" } else { "w" };
    format!("activity/{kind}/{number:020}")
}

pub(super) fn config(writer: &str) -> String {
    format!("config/{writer}")
}

/// Keys of ARM ids begin with a slash.
fn of_resource(key: &str) -> String {
    format!("resources{key}")
}

fn of_settings(key: &str) -> String {
    format!("settings{key}")
}

fn of_entry(collection: Collection, key: &str) -> String {
    format!("directory/{}/{key}", collection.name())
}

/// What a manager has in memory of a key (below the prefix) that has this value, or none any more; `None`: nothing.
pub(super) fn write(key: &str, value: Option<&[u8]>) -> Result<Option<Write>, StoreError> {
    let write = if let Some(id) = key.strip_prefix("resources") {
        Write::Resource(match value {
            Some(value) => Change::Put(read(key, value)?),
            None => Change::Delete(id.to_owned()),
        })
    } else if let Some(id) = key.strip_prefix("settings") {
        match value {
            Some(value) => Write::PutSettings(id.to_owned(), read(key, value)?),
            None => Write::DeleteSettings(id.to_owned()),
        }
    } else if let Some((collection, entry)) = key.strip_prefix("directory/").and_then(|rest| rest.split_once('/')) {
        let Some(collection) = Collection::named(collection) else {
            return Ok(None);
        };
        match value {
            Some(value) => Write::PutEntry(collection, entry.to_owned(), read(key, value)?),
            None => Write::DeleteEntry(collection, entry.to_owned()),
        }
    } else {
        return Ok(None);
    };
    Ok(Some(write))
}

/// The first key after all that begin with this one.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // All keys there are.
    vec![0]
}

/// What becomes of keys below the prefix, in no order: each is there once, as etcd wants it. `None`: it goes.
pub(super) type Orders = IndexMap<String, Option<String>>;

/// What a batch does to keys, and to the head's counters.
pub(super) fn orders(head: &Head, writer: &str, writes: &[Write]) -> Result<(Orders, Counted), StoreError> {
    let mut orders = Orders::new();
    let mut counted = Counted::default();
    for write in writes {
        let (key, value) = match write {
            Write::Resource(Change::Put(resource)) => (of_resource(&resource.key()), Some(json!(resource).to_string())),
            Write::Resource(Change::Delete(key)) => (of_resource(&key.to_ascii_lowercase()), None),
            Write::PutSettings(key, body) => (of_settings(key), Some(body.to_string())),
            Write::DeleteSettings(key) => (of_settings(key), None),
            Write::PutEntry(collection, key, body) => (of_entry(*collection, key), Some(body.to_string())),
            Write::DeleteEntry(collection, key) => (of_entry(*collection, key), None),
            Write::ConfigFingerprint(text) => (config(writer), Some(text.clone())),
            Write::Operation(it) => {
                counted.operations += 1;
                let key = operation(head.operations + counted.operations);
                (key, Some(json!(it).to_string()))
            }
            Write::Activity(it) => {
                *counted.events(it.is_refusal) += 1;
                let key = event(it.is_refusal, head.events + counted.writes + counted.refusals);
                (key, Some(of_event(it)))
            }
        };
        check_size(&key, value.as_deref())?;
        orders.insert(key, value);
    }
    // Those that would be forgotten at once are not stored at all.
    let last = head.operations + counted.operations;
    for number in head.operations..last.saturating_sub(MAX_OPERATIONS) {
        orders.swap_remove(&operation(number + 1));
    }
    Ok((orders, counted))
}

/// How many of which a batch has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) operations: u64,
    pub(super) writes: u64,
    pub(super) refusals: u64,
}

impl Counted {
    fn events(&mut self, is_refusal: bool) -> &mut u64 {
        if is_refusal {
            &mut self.refusals
        } else {
            &mut self.writes
        }
    }

    /// The head after the batch.
    pub(super) fn added_to(self, head: &Head) -> Head {
        let mut head = head.clone();
        head.layout = LAYOUT;
        head.operations += self.operations;
        head.events += self.writes + self.refusals;
        head.writes += self.writes;
        head.refusals += self.refusals;
        head
    }
}

fn check_size(key: &str, value: Option<&str>) -> Result<(), StoreError> {
    match value.map_or(0, str::len) {
        bytes if bytes > MAX_VALUE_BYTES => Err(StoreError::TooLarge {
            what: key.to_owned(),
            bytes,
            most: MAX_VALUE_BYTES,
        }),
        _ => Ok(()),
    }
}

/// An event of the activity log, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) at: i64,
    pub(super) subscription: String,
    pub(super) body: Value,
}

fn of_event(event: &Activity) -> String {
    json!({ "at": event.at_micros, "subscription": event.subscription, "body": event.body }).to_string()
}

/// What a value says.
pub(super) fn read<T: serde::de::DeserializeOwned>(what: &str, value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Corrupt {
        what: what.to_owned(),
        problem: error.to_string(),
    })
}

pub(super) fn head(found: Option<&pb::KeyValue>) -> Result<Seen, StoreError> {
    let Some(found) = found else {
        return Ok(Seen::default());
    };
    let head: Head = read("the head", &found.value)?;
    if head.layout > LAYOUT {
        return Err(StoreError::NewerLayout {
            found: head.layout,
            known: LAYOUT,
        });
    }
    Ok(Seen {
        head,
        revision: found.mod_revision,
    })
}
