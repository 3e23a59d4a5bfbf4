//! `publicIPAddresses`: addresses from the blocks that are reserved for documentation (RFC 5737, RFC 3849), since nothing here is
//! reachable from the Internet; a route server needs one all the same (az §4.8).

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{Draft, ResourceType};
use crate::error::ArmError;
use crate::index::{PUBLIC_POOL, Reference, Relation};
use crate::read::Reader;
use crate::request::Mint;
use crate::resource::Resource;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/publicIPAddresses";

/// Where addresses come from; the last one (RFC 2544's) is for those who need very many.
const POOLS: [&str; 5] = [
    "203.0.113.0/24",
    "198.51.100.0/24",
    "192.0.2.0/24",
    "198.18.0.0/15",
    "2001:db8::/64",
];

pub(super) struct PublicIpAddresses;

impl ResourceType for PublicIpAddresses {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &["ipConfiguration", "ipAddress"]
    }

    fn read(&self, world: &World<'_>, draft: &mut Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        let (name, tier) = read_sku(draft)?;
        let reader = draft.reader();
        let by_default = if name == "Basic" { "Dynamic" } else { "Static" };
        let method = reader
            .one_of("publicIPAllocationMethod", &["Static", "Dynamic"])?
            .unwrap_or(by_default);
        let version = reader
            .one_of("publicIPAddressVersion", &["IPv4", "IPv6"])?
            .unwrap_or("IPv4");
        let idle = reader.whole("idleTimeoutInMinutes", 4..=30)?.unwrap_or(4);
        if name != "Basic" && method == "Dynamic" {
            return Err(ArmError::bad(
                "StandardSkuPublicIPAddressesMustBeStatic",
                format!(
                    "Public IP address {} of SKU {name} must have publicIPAllocationMethod Static.",
                    draft.id.name()
                ),
            )
            .at("properties.publicIPAllocationMethod"));
        }
        check_unchanged(draft, "publicIPAddressVersion", version)?;
        draft
            .outside
            .insert("sku".to_owned(), json!({ "name": name, "tier": tier }));
        draft.set("publicIPAllocationMethod", method);
        draft.set("publicIPAddressVersion", version);
        draft.set("idleTimeoutInMinutes", idle);
        draft.properties.entry("ipTags").or_insert(json!([]));
        draft.keep_or("resourceGuid", || json!(mint.guid()));
        if method == "Static" {
            let address = match draft.kept("ipAddress") {
                Some(address) => address,
                None => allocate(world, version == "IPv6")?,
            };
            draft.set("ipAddress", address);
        }
        Ok(())
    }

    fn show(&self, world: &World<'_>, resource: &Resource, properties: &mut Map<String, Value>) {
        if let Some(user) = world.first_holder(Relation::UserOfPublicAddress, &resource.key()) {
            properties.insert("ipConfiguration".to_owned(), json!({ "id": user }));
        }
    }

    fn removed(&self, world: &mut World<'_>, resource: &Resource, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        match world.first_holder(Relation::UserOfPublicAddress, &resource.key()) {
            Some(user) => Err(world.in_use(
                "PublicIPAddressCannotBeDeleted",
                "Public IP address",
                &resource.id,
                user,
            )),
            None => Ok(()),
        }
    }

    fn references(&self, resource: &Resource) -> Vec<Reference> {
        let address: Option<IpAddr> = resource
            .property("ipAddress")
            .as_str()
            .and_then(|text| text.parse().ok());
        let taken = address.map(|address| Reference::address(PUBLIC_POOL.to_owned(), &resource.id, Some(address)));
        taken.into_iter().collect()
    }
}

/// A public address serves one ip configuration.
pub(super) fn check_free(world: &World<'_>, address: &Resource, user: &str) -> Result<(), ArmError> {
    let key = address.key();
    let mut users = world.holders(Relation::UserOfPublicAddress, &key);
    match users.find(|other| !other.id.eq_ignore_ascii_case(user)) {
        Some(other) => Err(ArmError::bad(
            "PublicIPAddressInUse",
            format!(
                "Resource {user} can't use the public IP address {}, which {} uses. Choose another, or remove it there first.",
                address.id, other.id
            ),
        )
        .at(&address.id)),
        None => Ok(()),
    }
}

fn read_sku(draft: &Draft) -> Result<(&'static str, &'static str), ArmError> {
    let Some(sku) = draft.outside.get("sku") else {
        return Ok(("Standard", "Regional"));
    };
    let sku = Reader::of(sku, "sku")?;
    let name = sku
        .one_of("name", &["Basic", "Standard", "StandardV2"])?
        .unwrap_or("Standard");
    let tier = sku.one_of("tier", &["Regional", "Global"])?.unwrap_or("Regional");
    Ok((name, tier))
}

fn check_unchanged(draft: &Draft, name: &str, value: &str) -> Result<(), ArmError> {
    match draft.kept(name) {
        Some(kept) if kept != value => Err(ArmError::bad(
            "PropertyChangeNotAllowed",
            format!(
                "Changing properties.{name} of {} is not allowed. Delete the resource and create it again.",
                draft.id
            ),
        )
        .at(format!("properties.{name}"))),
        _ => Ok(()),
    }
}

fn allocate(world: &World<'_>, v6: bool) -> Result<Value, ArmError> {
    let pools: Vec<_> = POOLS.iter().filter_map(|pool| pool.parse().ok()).collect();
    match world.first_free(PUBLIC_POOL, &pools, v6, |_| false) {
        Some(address) => Ok(json!(address.to_string())),
        None => Err(ArmError::bad(
            "PublicIPCountLimitReached",
            "All public IP addresses are in use. Delete some that you no longer need.",
        )),
    }
}
