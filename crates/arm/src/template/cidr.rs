//! Functions of template expressions that reckon with prefixes.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::functions::Call;
use crate::error::ArmError;

/// Calls one of them by its name in lower case.
pub(crate) fn call(call: &Call<'_>, name: &str, values: &[Value]) -> Result<Value, ArmError> {
    let prefix = values
        .first()
        .and_then(Value::as_str)
        .and_then(|text| text.parse::<IpNet>().ok());
    let prefix = prefix.ok_or_else(|| call.wrong("a prefix such as 10.0.0.0/16"))?;
    let number = |at: usize| -> Result<u128, ArmError> {
        let number = values.get(at).and_then(Value::as_u64).map(u128::from);
        number.ok_or_else(|| call.wrong("whole numbers after the prefix"))
    };
    match name {
        "cidrsubnet" => subnet(&prefix, number(1)?, number(2)?),
        "cidrhost" => host(&prefix, number(1)?),
        _ => Some(parsed(&prefix)),
    }
    .ok_or_else(|| call.wrong("what is inside the prefix"))
}

/// The `at`-th prefix of this length.
fn subnet(prefix: &IpNet, length: u128, at: u128) -> Option<Value> {
    let length = u8::try_from(length)
        .ok()
        .filter(|length| *length >= prefix.prefix_len() && *length <= prefix.max_prefix_len())?;
    let size = 1_u128.checked_shl(u32::from(prefix.max_prefix_len() - length))?;
    let address = offset(prefix.network(), at.checked_mul(size)?)?;
    let found = IpNet::new(address, length).ok()?;
    prefix.contains(&found).then(|| json!(found.to_string()))
}

/// The `at`-th address for a host: 0 is the one after the network's own.
fn host(prefix: &IpNet, at: u128) -> Option<Value> {
    let address = offset(prefix.network(), at.checked_add(1)?)?;
    prefix.contains(&address).then(|| json!(address.to_string()))
}

fn parsed(prefix: &IpNet) -> Value {
    let network = prefix.network();
    let last = prefix.broadcast();
    let first_usable = offset(network, 1)
        .filter(|address| prefix.contains(address))
        .unwrap_or(network);
    let mut shown = json!({
        "network": network, "netmask": prefix.netmask(), "cidr": prefix.prefix_len(), "firstUsable": first_usable, "lastUsable": last,
    });
    if let (IpAddr::V4(network), IpAddr::V4(broadcast)) = (network, last) {
        shown["broadcast"] = json!(broadcast);
        let last = u32::from(broadcast).saturating_sub(1).max(u32::from(network));
        shown["lastUsable"] = json!(std::net::Ipv4Addr::from(last));
    }
    shown
}

fn offset(address: IpAddr, by: u128) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let moved = u128::from(u32::from(address)).checked_add(by)?;
            u32::try_from(moved).ok().map(|moved| IpAddr::V4(moved.into()))
        }
        IpAddr::V6(address) => u128::from(address)
            .checked_add(by)
            .map(|moved| IpAddr::V6(moved.into())),
    }
}
