//! What goes beyond Azure: settings of ours by ARM id, kept apart from ARM bodies so that a client's GET-change-PUT cannot erase
//! them (`/routewright/v1/<ARM id>/settings`), and the limits of the configuration.

use std::collections::BTreeMap;

use bfd::AuthenticationType;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ArmError;
use crate::read::without_nulls;
use crate::resource::Resources;
use crate::types;

/// Limits; 0 means none. The defaults are Azure's (az §1.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Peers per route server.
    pub peers: u32,
    /// Distinct prefixes per peer.
    pub routes_per_peer: u32,
    /// Prefixes in all.
    pub total_routes: u32,
    /// Virtual networks.
    pub vnets: u32,
    /// VMs (NICs).
    pub vms: u32,
    /// Towards an ExpressRoute circuit.
    pub routes_to_expressroute: u32,
    /// MiB of memory that each instance process may have. Ours, not Azure's; none by default, since the limits on routes bound it.
    pub memory_mib: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            peers: 8,
            routes_per_peer: 4000,
            total_routes: 10_000,
            vnets: 500,
            vms: 4000,
            routes_to_expressroute: 1000,
            memory_mib: 0,
        }
    }
}

/// Everything beside the resources that the intent depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// From the configuration file.
    pub limits: Limits,
    /// `[bind]`: an address (as /32 or /128), a subnet's id (lower case) or its prefix → network namespace path or interface.
    pub bind: BTreeMap<String, String>,
    /// Settings objects by ARM id (lower case).
    pub by_key: BTreeMap<String, Value>,
    /// Regions that are offered; empty (as with `--dev`): any is accepted.
    pub locations: Vec<String>,
    /// GUIDs of the subscriptions; empty: only [`DEV_SUBSCRIPTION`].
    pub subscriptions: Vec<String>,
    /// The tenant's GUID; empty: [`DEV_TENANT`].
    pub tenant: String,
    /// `[audit] routes`: whether route changes are logged.
    pub logs_routes: bool,
    /// `[agents] tokens`: an agent needs a token for each of its NICs.
    pub agents_need_tokens: bool,
}

/// The subscription there is when none is configured.
pub const DEV_SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000001";

/// The tenant there is when none is configured.
pub const DEV_TENANT: &str = "00000000-0000-0000-0000-0000000000aa";

impl Settings {
    pub(crate) fn subscriptions(&self) -> Vec<String> {
        match self.subscriptions.is_empty() {
            true => vec![DEV_SUBSCRIPTION.to_owned()],
            false => self.subscriptions.clone(),
        }
    }

    pub(crate) fn tenant(&self) -> &str {
        match self.tenant.is_empty() {
            true => DEV_TENANT,
            false => &self.tenant,
        }
    }
}

/// What a member of a settings object may be.
enum Kind {
    Whole(u64, u64),
    Flag,
    Text(usize, usize),
    OneOf(&'static [&'static str]),
    /// One of these words, or a whole number from 1 up to this.
    WordOrWhole(&'static [&'static str], u64),
}

/// A member of a settings object: name, kind, further values that are refused.
struct Member {
    name: &'static str,
    kind: Kind,
}

const fn member(name: &'static str, kind: Kind) -> Member {
    Member { name, kind }
}

/// A year: who wants it longer wants it for ever.
const MAX_PERSIST_MINUTES: u64 = 366 * 24 * 60;

/// The longest key of TCP MD5 signatures that the kernel takes (`TCP_MD5SIG_MAXKEYLEN`).
pub(crate) const MAX_MD5_KEY_BYTES: usize = 80;

/// Settings of a bgpConnection, and of what a gateway peers with: a connection, a local network gateway
/// (for all its connections), a circuit's private peering.
const PEER: [Member; 25] = [
    // RFC 4271 §4.2: 0, or at least 3.
    member("holdTimeSecs", Kind::Whole(0, u16::MAX as u64)),
    // RFC 9687; 0: the RFC's default.
    member("sendHoldSecs", Kind::Whole(0, u16::MAX as u64)),
    member("dial", Kind::Flag),
    member("connectRetrySecs", Kind::Whole(1, 3600)),
    member("md5Password", Kind::Text(1, MAX_MD5_KEY_BYTES)),
    member("ttlSecurityHops", Kind::Whole(1, 254)),
    member("routeLimit", Kind::Whole(0, u32::MAX as u64)),
    member("routeLimitWarningPercent", Kind::Whole(1, 100)),
    member("enhancedRouteRefresh", Kind::Flag),
    member("extendedMessages", Kind::Flag),
    // The decision has 31 bits for it, and gateways add to it.
    member(
        "importPreference",
        Kind::Whole(0, rib::decision::MAX_IMPORT_PREFERENCE as u64 - 1),
    ),
    member("adminDown", Kind::Flag),
    // RFC 5880: whether, how often, after how many lost packets.
    member("bfd", Kind::Flag),
    member("bfdMinTxMs", Kind::Whole(MIN_BFD_INTERVAL_MS, MAX_BFD_INTERVAL_MS)),
    member("bfdMinRxMs", Kind::Whole(MIN_BFD_INTERVAL_MS, MAX_BFD_INTERVAL_MS)),
    member("bfdMultiplier", Kind::Whole(2, 255)),
    member("bfdMultihop", Kind::Flag),
    member("bfdStrict", Kind::Flag),
    member("bfdAuthentication", Kind::OneOf(&BFD_AUTHENTICATIONS)),
    member("bfdKeyId", Kind::Whole(0, 255)),
    member("bfdKey", Kind::Text(1, MAX_BFD_KEY_BYTES)),
    // RFC 8326: packets are to go other ways.
    member("drain", Kind::Flag),
    // RFC 4724 and RFC 8538.
    member("gracefulRestart", Kind::Flag),
    member(
        "gracefulRestartTimeSecs",
        Kind::Whole(1, bgp::wire::MAX_RESTART_TIME_SECS as u64),
    ),
    // RFC 9494; 0: off.
    member(
        "longLivedStaleTimeSecs",
        Kind::Whole(0, bgp::wire::MAX_STALE_TIME_SECS as u64),
    ),
];

/// Faster than a scheduler is on time; slower than anybody would wait.
const MIN_BFD_INTERVAL_MS: u64 = 50;
const MAX_BFD_INTERVAL_MS: u64 = 60_000;
/// SHA1 takes a key of 20 octets, all else one of 16 (RFC 5880 §4.2–4.4).
const MAX_BFD_KEY_BYTES: usize = 20;
const BFD_AUTHENTICATIONS: [&str; 5] = [
    "simplePassword",
    "keyedMd5",
    "meticulousKeyedMd5",
    "keyedSha1",
    "meticulousKeyedSha1",
];

/// Settings of a route server.
const HUB: [Member; 6] = [
    member("asn", Kind::Whole(1, u32::MAX as u64 - 1)),
    member("convergeSecs", Kind::Whole(0, 3600)),
    member("ipv6", Kind::Flag),
    // Routes of NVAs that are gone, as a last resort; a number is of minutes.
    member(
        "persistRoutes",
        Kind::WordOrWhole(&["off", "forever"], MAX_PERSIST_MINUTES),
    ),
    member("routesPerPeer", Kind::Whole(0, u32::MAX as u64)),
    member("totalRoutes", Kind::Whole(0, u32::MAX as u64)),
];

/// Settings of a virtual network gateway; those of sessions are for the sessions with the route server, at both ends.
const GATEWAY: [Member; 5] = [
    member(AGENT_TOKEN, Kind::Text(SHA256_DIGITS, SHA256_DIGITS)),
    // Real routers speak at its addresses.
    member("external", Kind::Flag),
    // Without an IPv6 prefix of GatewaySubnet what sites say over IPv6 stays at the gateway, whose own addresses are IPv4 then.
    member("ipv6", Kind::Flag),
    member("holdTimeSecs", Kind::Whole(0, u16::MAX as u64)),
    member("connectRetrySecs", Kind::Whole(1, 3600)),
];

/// Settings of a network interface.
const NIC: [Member; 1] = [member(AGENT_TOKEN, Kind::Text(SHA256_DIGITS, SHA256_DIGITS))];

/// The SHA-256 of the token with which an agent follows a network interface, or the instances of a gateway.
pub(crate) const AGENT_TOKEN: &str = "agentTokenSha256";
const SHA256_DIGITS: usize = 64;

/// Settings of a circuit.
const CIRCUIT: [Member; 1] = [
    // Real routers speak at the provider's addresses.
    member("external", Kind::Flag),
];

/// Checks a settings object for the resource with this id before it is stored: all mistakes at once, in `details`. `null`
/// members go, so that the answer is what to store.
pub fn check_settings(resources: &Resources, id: &str, settings: &Value) -> Result<Value, ArmError> {
    let Some(resource) = resources.get(id) else {
        return Err(ArmError::new(
            404,
            "ResourceNotFound",
            format!("The resource '{id}' was not found. Create it before its settings."),
        ));
    };
    let members: &[Member] = match resource.kind.as_str() {
        types::ROUTE_MAP => {
            let settings = without_nulls(settings.clone());
            let checked = types::check_route_map_settings(resource, &settings);
            return checked.map(|()| settings).map_err(all_wrong);
        }
        types::ROUTE_TABLE => {
            let settings = without_nulls(settings.clone());
            return types::import_filter(&settings).map(|_| settings).map_err(all_wrong);
        }
        types::BGP_CONNECTION | types::CONNECTION | types::LOCAL_NETWORK_GATEWAY | types::EXPRESS_ROUTE_PEERING => {
            &PEER
        }
        types::VIRTUAL_NETWORK_GATEWAY => &GATEWAY,
        types::NETWORK_INTERFACE => &NIC,
        types::EXPRESS_ROUTE_CIRCUIT => &CIRCUIT,
        types::VIRTUAL_HUB => &HUB,
        other => return Err(ArmError::bad("NoSettings", format!("{other} has no settings."))),
    };
    let Value::Object(given) = settings else {
        return Err(ArmError::bad(
            "InvalidRequestContent",
            "The settings must be a JSON object.",
        ));
    };
    let mut kept = serde_json::Map::new();
    let mut mistakes = Vec::new();
    for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        match check_member(members, name, value) {
            Ok(()) => _ = kept.insert(name.clone(), value.clone()),
            Err(sentence) => mistakes.push(ArmError::bad("InvalidSetting", sentence).at(name.as_str())),
        }
    }
    if resource.kind == types::VIRTUAL_HUB {
        mistakes.extend(asn_in_maps(resources, &resource.key(), given.get("asn")));
        mistakes.extend(peers_over_ipv6(resources, &resource.key(), given.get("ipv6")));
    }
    mistakes.extend(bfd_key_too_long(&kept));
    mistakes.extend(no_token_hash(&kept));
    match mistakes.is_empty() {
        true => Ok(Value::Object(kept)),
        false => Err(all_wrong(mistakes)),
    }
}

fn all_wrong(mistakes: Vec<ArmError>) -> ArmError {
    let many = mistakes.len();
    ArmError {
        details: mistakes,
        ..ArmError::bad(
            "InvalidSettings",
            format!("{many} settings are wrong; see details. Nothing was changed."),
        )
    }
}

/// A peering with an IPv6 address needs `ipv6`.
fn peers_over_ipv6(resources: &Resources, hub: &str, ipv6: Option<&Value>) -> Option<ArmError> {
    if ipv6 == Some(&Value::Bool(true)) {
        return None;
    }
    let peering = types::peer_over_ipv6(resources.children(hub, "bgpConnections"))?;
    let sentence = format!(
        "ipv6 must stay true while peering '{}' has an IPv6 address. Delete that first, or give it an IPv4 address.",
        peering.name()
    );
    Some(ArmError::bad("InvalidSetting", sentence).at("ipv6"))
}

/// A route server's number is not put into paths by its maps: each would be a loop.
fn asn_in_maps(resources: &Resources, hub: &str, asn: Option<&Value>) -> Option<ArmError> {
    let asn = bgp::Asn(asn?.as_u64()?.try_into().ok()?);
    let mut maps = resources.children(hub, "routeMaps");
    let (map, rule) = maps.find_map(|map| Some((map.name(), types::uses_asn(map, asn)?)))?;
    let sentence = format!(
        "asn must not be {asn}: rule '{rule}' of the route map {map} puts that number into AS paths. Change the rule first."
    );
    Some(ArmError::bad("InvalidSetting", sentence).at("asn"))
}

/// A token itself does not belong here.
fn no_token_hash(settings: &serde_json::Map<String, Value>) -> Option<ArmError> {
    let hash = settings.get(AGENT_TOKEN)?.as_str()?;
    let is_hash = hash.bytes().all(|b| b.is_ascii_hexdigit());
    let sentence = format!(
        "{AGENT_TOKEN} must be the token's SHA-256, 64 hex digits; `routewright agent-token create` makes both."
    );
    (!is_hash).then(|| ArmError::bad("InvalidSetting", sentence).at(AGENT_TOKEN))
}

/// All but SHA1 take shorter keys.
fn bfd_key_too_long(settings: &serde_json::Map<String, Value>) -> Option<ArmError> {
    let key = settings.get("bfdKey")?.as_str()?;
    let kind = settings.get("bfdAuthentication").and_then(Value::as_str);
    let kind = kind.unwrap_or(DEFAULT_BFD_AUTHENTICATION);
    let longest = bfd_authentication(kind)?.max_key_length();
    let sentence = format!("bfdKey must be a text of 1 to {longest} bytes for {kind} (RFC 5880 §4.2).");
    (key.len() > longest).then(|| ArmError::bad("InvalidSetting", sentence).at("bfdKey"))
}

/// What is used where only a key is set.
pub(crate) const DEFAULT_BFD_AUTHENTICATION: &str = "meticulousKeyedSha1";

/// The type with this name.
pub(crate) fn bfd_authentication(name: &str) -> Option<AuthenticationType> {
    serde_json::from_value(Value::from(name)).ok()
}

/// The members that are taken and never told, each with the flag that is shown in its place.
const SECRETS: [(&str, &str); 2] = [("md5Password", "md5PasswordSet"), ("bfdKey", "bfdKeySet")];

/// Stored settings as they are shown: of a secret only whether it is set.
pub fn show_settings(stored: &Value) -> Value {
    let mut shown = stored.clone();
    if let Some(members) = shown.as_object_mut() {
        for (secret, flag) in SECRETS {
            if members.remove(secret).is_some() {
                members.insert(flag.to_owned(), Value::Bool(true));
            }
        }
    }
    shown
}

/// What a client sends to replace the stored settings. It cannot send back a secret that it was never told, so one that is left out
/// stays; `null` removes it.
pub fn keep_secrets(stored: Option<&Value>, given: &mut Value) {
    forget_flags(given);
    let Some(members) = given.as_object_mut() else {
        return;
    };
    for (secret, _) in SECRETS {
        if let Some(kept) = stored.and_then(|stored| stored.get(secret)) {
            members.entry(secret).or_insert_with(|| kept.clone());
        }
    }
}

/// The flags that stand for secrets come back with what clients send; they say nothing.
pub fn forget_flags(given: &mut Value) {
    if let Some(members) = given.as_object_mut() {
        members.retain(|name, _| SECRETS.iter().all(|(_, flag)| flag != name));
    }
}

fn is_word_or_whole(value: &Value, words: &[&str], high: u64) -> bool {
    value.as_str().is_some_and(|word| words.contains(&word))
        || value.as_u64().is_some_and(|number| (1..=high).contains(&number))
}

fn check_member(members: &[Member], name: &str, value: &Value) -> Result<(), String> {
    let Some(member) = members.iter().find(|member| member.name == name) else {
        let names: Vec<&str> = members.iter().map(|member| member.name).collect();
        return Err(format!(
            "There is no setting '{name}' here. Those there are: {}.",
            names.join(", ")
        ));
    };
    match member.kind {
        Kind::Flag if !value.is_boolean() => Err(format!("{name} must be true or false.")),
        Kind::Whole(low, high) if !value.as_u64().is_some_and(|number| (low..=high).contains(&number)) => {
            Err(format!("{name} must be a whole number from {low} to {high}."))
        }
        Kind::Text(low, high) if !value.as_str().is_some_and(|text| (low..=high).contains(&text.len())) => {
            Err(format!("{name} must be a text of {low} to {high} bytes."))
        }
        Kind::OneOf(texts) if !value.as_str().is_some_and(|text| texts.contains(&text)) => {
            Err(format!("{name} must be one of {}.", texts.join(", ")))
        }
        Kind::WordOrWhole(words, high) if !is_word_or_whole(value, words, high) => {
            let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
            Err(format!(
                "{name} must be {} or a whole number from 1 to {high}.",
                words.join(", ")
            ))
        }
        _ if name == "holdTimeSecs" && matches!(value.as_u64(), Some(1 | 2)) => {
            Err("holdTimeSecs must be 0 (no keepalives) or at least 3 (RFC 4271 §4.2).".to_owned())
        }
        _ if name == "asn" && value.as_u64() == Some(u64::from(bgp::Asn::TRANS.0)) => {
            Err("asn must not be 23456, which is AS_TRANS (RFC 6793).".to_owned())
        }
        _ => Ok(()),
    }
}
