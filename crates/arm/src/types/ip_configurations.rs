//! What the ip configurations inside network interfaces and gateways have in common: how they are listed, named, and given public
//! addresses.

use serde_json::Value;

use super::{Draft, check_region, public_ip_addresses, resolve};
use crate::error::ArmError;
use crate::names;
use crate::read::Reader;
use crate::resource::{Resource, reference_key};
use crate::world::World;

/// Reads `ipConfigurations`, one after the other: `read` gets one and those before it. `wanted` tells what an empty list lacks.
pub(super) fn read_all(
    draft: &Draft,
    most: usize,
    wanted: &str,
    mut read: impl FnMut(&Value, &Reader<'_>, &[Value]) -> Result<Value, ArmError>,
) -> Result<Vec<Value>, ArmError> {
    const MEMBER: &str = "ipConfigurations";
    let reader = draft.reader();
    let items = reader.list(MEMBER)?.unwrap_or_default();
    if items.is_empty() {
        return Err(reader.missing(MEMBER, wanted));
    }
    if items.len() > most {
        return Err(reader.wrong(MEMBER, &format!("a list of at most {most}")));
    }
    let mut all: Vec<Value> = Vec::new();
    for (position, item) in items.iter().enumerate() {
        let outer = Reader::of(item, format!("{}[{position}]", reader.path_of(MEMBER)))?;
        let configuration = read(item, &outer, &all)?;
        all.push(configuration);
    }
    Ok(all)
}

/// The stored ones of a resource, in their order.
pub(super) fn stored(resource: &Resource) -> impl Iterator<Item = &Value> {
    resource.property("ipConfigurations").as_array().into_iter().flatten()
}

/// The id of a stored one.
pub(super) fn id(resource: &Resource, stored: &Value) -> String {
    let name = stored["name"].as_str().unwrap_or_default();
    format!("{}/ipConfigurations/{name}", resource.id)
}

/// Its name, which none before it has.
pub(super) fn read_name<'i>(outer: &Reader<'i>, before: &[Value]) -> Result<&'i str, ArmError> {
    let name = outer.required_text("name", "a name that no other has")?;
    names::check_resource_name(name)?;
    match before.iter().any(|other| is_named(other, name)) {
        true => Err(outer.wrong("name", "a name that no other ip configuration has")),
        false => Ok(name),
    }
}

/// Whether it has this name.
pub(super) fn is_named(configuration: &Value, name: &str) -> bool {
    let other = configuration["name"].as_str();
    other.is_some_and(|other| other.eq_ignore_ascii_case(name))
}

/// Its public address, if it has one: in the same region, and nobody else's.
pub(super) fn read_public_address<'w>(
    world: &'w World<'_>,
    draft: &Draft,
    reader: &Reader<'_>,
    name: &str,
    before: &[Value],
) -> Result<Option<&'w Resource>, ArmError> {
    const MEMBER: &str = "publicIPAddress";
    let Some(public) = resolve(world, draft, reader, MEMBER, public_ip_addresses::KIND)? else {
        return Ok(None);
    };
    check_region(draft, draft.location(), public, public.location())?;
    public_ip_addresses::check_free(world, public, &format!("{}/ipConfigurations/{name}", draft.id))?;
    let key = public.key();
    let is_same = |other: &Value| reference_key(&other["properties"][MEMBER]).is_some_and(|other| other == key);
    match before.iter().any(is_same) {
        true => Err(reader.wrong(MEMBER, "one that no other ip configuration has")),
        false => Ok(Some(public)),
    }
}
