//! Peerings: those that are resources (bgpConnections), and what all of them take from the settings.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bgp::{Asn, Password};
use routeserver::intent::{BfdAuthentication, BfdIntent, PeerIntent, PeerKind, PersistRoutes};
use routeserver::route_map::RouteMap;
use serde_json::Value;

use crate::resource::{Resource, Resources};
use crate::settings::{DEFAULT_BFD_AUTHENTICATION, Settings, bfd_authentication as bfd_authentication_type};
use crate::types;

/// What FRR's and other daemons' BFD begins with, too.
const BFD_INTERVAL_MS: u32 = 300;
const BFD_MULTIPLIER: u8 = 3;
const BFD_KEY_ID: u8 = 1;

/// The route maps that were read, each once however many connections name it.
pub(super) type RouteMaps = BTreeMap<String, Option<RouteMap>>;

/// The bgpConnections of a route server (key).
pub(super) fn of_route_server(resources: &Resources, settings: &Settings, hub: &str) -> Vec<PeerIntent> {
    let limit = SettingsOf::new(settings, hub).whole("routesPerPeer");
    let limit = limit.unwrap_or(settings.limits.routes_per_peer);
    let mut maps = RouteMaps::new();
    resources
        .children(hub, "bgpConnections")
        .filter_map(|connection| nva(resources, settings, limit, &mut maps, connection))
        .collect()
}

fn nva(
    resources: &Resources,
    settings: &Settings,
    limit: u32,
    maps: &mut RouteMaps,
    connection: &Resource,
) -> Option<PeerIntent> {
    let own = SettingsOf::new(settings, &connection.key());
    let address = connection.property("peerIp").as_str()?.parse().ok()?;
    let asn = Asn(connection.property("peerAsn").as_u64()?.try_into().ok()?);
    let with = With {
        id: connection.key(),
        name: connection.name().to_owned(),
        kind: PeerKind::Nva,
        address,
        asn,
    };
    Some(with_maps(resources, settings, maps, connection, with.peer(&own, limit)))
}

/// The peering with the route maps of its connection.
pub(super) fn with_maps(
    resources: &Resources,
    settings: &Settings,
    maps: &mut RouteMaps,
    connection: &Resource,
    peer: PeerIntent,
) -> PeerIntent {
    PeerIntent {
        inbound_route_map: route_map(resources, settings, maps, connection, types::INBOUND),
        outbound_route_map: route_map(resources, settings, maps, connection, types::OUTBOUND),
        ..peer
    }
}

/// The connection's route map for a direction.
pub(super) fn route_map(
    resources: &Resources,
    settings: &Settings,
    maps: &mut RouteMaps,
    connection: &Resource,
    direction: &str,
) -> Option<RouteMap> {
    let key = types::route_map_of(connection, direction)?;
    let (map, own) = (resources.by_key(&key), settings.by_key.get(&key));
    let rules = || map.map(|map| types::followed_route_map(map, own));
    maps.entry(key).or_insert_with(rules).clone()
}

/// Whom a peering is with.
pub(super) struct With {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: PeerKind,
    pub(super) address: IpAddr,
    pub(super) asn: Asn,
}

impl With {
    /// The peering as the settings want it; the rest as Azure has it. `limit` is that of its prefixes where no setting says otherwise.
    pub(super) fn peer(self, own: &SettingsOf<'_>, limit: u32) -> PeerIntent {
        let azure = PeerIntent::azure(&self.id, self.address, self.asn);
        PeerIntent {
            kind: self.kind,
            name: self.name,
            hold_time_secs: own.whole("holdTimeSecs").unwrap_or(azure.hold_time_secs),
            send_hold_secs: own.whole("sendHoldSecs").unwrap_or(azure.send_hold_secs),
            dial: own.flag("dial").unwrap_or(azure.dial),
            connect_retry_secs: own.whole("connectRetrySecs").unwrap_or(azure.connect_retry_secs),
            md5_password: own.get("md5Password").and_then(Value::as_str).map(Password::from),
            ttl_security_hops: own.whole("ttlSecurityHops"),
            route_limit: own.whole("routeLimit").unwrap_or(limit),
            route_limit_warning_percent: own
                .whole("routeLimitWarningPercent")
                .unwrap_or(azure.route_limit_warning_percent),
            enhanced_route_refresh: own.flag("enhancedRouteRefresh").unwrap_or(azure.enhanced_route_refresh),
            extended_messages: own.flag("extendedMessages").unwrap_or(azure.extended_messages),
            import_preference: own.whole("importPreference").unwrap_or(azure.import_preference),
            admin_down: own.flag("adminDown").unwrap_or(azure.admin_down),
            bfd: bfd(own),
            drain: own.flag("drain").unwrap_or(azure.drain),
            graceful_restart: own.flag("gracefulRestart").unwrap_or(azure.graceful_restart),
            graceful_restart_time_secs: own
                .whole("gracefulRestartTimeSecs")
                .unwrap_or(azure.graceful_restart_time_secs),
            long_lived_stale_time_secs: own
                .whole("longLivedStaleTimeSecs")
                .unwrap_or(azure.long_lived_stale_time_secs),
            ..azure
        }
    }
}

/// BFD as the settings want it; Azure has none.
fn bfd(own: &SettingsOf<'_>) -> Option<BfdIntent> {
    let is_wanted = own.flag("bfd").unwrap_or(false);
    is_wanted.then(|| BfdIntent {
        min_tx_ms: own.whole("bfdMinTxMs").unwrap_or(BFD_INTERVAL_MS),
        min_rx_ms: own.whole("bfdMinRxMs").unwrap_or(BFD_INTERVAL_MS),
        multiplier: own.whole("bfdMultiplier").unwrap_or(BFD_MULTIPLIER),
        multihop: own.flag("bfdMultihop"),
        strict: own.flag("bfdStrict").unwrap_or(false),
        authentication: bfd_authentication(own),
    })
}

/// Without a key packets are not authenticated, whatever else is set.
fn bfd_authentication(own: &SettingsOf<'_>) -> Option<BfdAuthentication> {
    let key = own.get("bfdKey").and_then(Value::as_str)?;
    let kind = own.get("bfdAuthentication").and_then(Value::as_str);
    Some(BfdAuthentication {
        kind: bfd_authentication_type(kind.unwrap_or(DEFAULT_BFD_AUTHENTICATION))?,
        key_id: own.whole("bfdKeyId").unwrap_or(BFD_KEY_ID),
        key: Password::from(key),
    })
}

/// The settings of one resource; where it says nothing, those of another may.
pub(super) struct SettingsOf<'s>([Option<&'s Value>; 2]);

impl<'s> SettingsOf<'s> {
    pub(super) fn new(settings: &'s Settings, key: &str) -> SettingsOf<'s> {
        SettingsOf([settings.by_key.get(key), None])
    }

    pub(super) fn or(self, settings: &'s Settings, key: &str) -> SettingsOf<'s> {
        SettingsOf([self.0[0], settings.by_key.get(key)])
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().flatten().find_map(|settings| settings.get(name))
    }

    /// "off", "forever" or a number of minutes.
    pub(super) fn persist_routes(&self) -> PersistRoutes {
        match self.get("persistRoutes") {
            Some(Value::String(word)) if word == "forever" => PersistRoutes::Forever,
            Some(Value::Number(minutes)) => {
                let minutes = minutes.as_u64().and_then(|minutes| u32::try_from(minutes).ok());
                minutes.map_or(PersistRoutes::Off, PersistRoutes::Minutes)
            }
            _ => PersistRoutes::Off,
        }
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_bool()
    }

    pub(super) fn whole<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        self.get(name)?.as_u64()?.try_into().ok()
    }
}
