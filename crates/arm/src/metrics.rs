//! `Microsoft.Insights` metrics of a route server (az §4.11): which there are, what a request asks for, and the answer's shape.
//!
//! What is answered is how things are now, as one value per series at the end of the timespan: no history is kept here (Prometheus
//! keeps it, from `/metrics`). A timespan that ended earlier is answered without values.

use std::collections::BTreeMap;

use routeserver::intent::PeerKind;
use routeserver::report::PeerReport;
use serde_json::{Value, json};

use crate::error::ArmError;
use crate::limits;
use crate::request::Request;
use crate::resource::{Resource, Resources};
use crate::settings::Settings;
use crate::types;
use crate::world::World;

/// The namespace of these paths.
pub(crate) const NAMESPACE: &str = "Microsoft.Insights";

/// A metric that a route server has.
struct Metric {
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    dimensions: &'static [&'static str],
}

const PEER_DIMENSIONS: [&str; 3] = ["routeserviceinstance", "bgppeerip", "bgppeertype"];

const METRICS: [Metric; 5] = [
    metric("BgpPeerStatus", "BGP Peer Status", "Count", &PEER_DIMENSIONS),
    metric(
        "CountOfRoutesAdvertisedToPeer",
        "Count Of Routes Advertised To Peer",
        "Count",
        &PEER_DIMENSIONS,
    ),
    metric(
        "CountOfRoutesLearnedFromPeer",
        "Count Of Routes Learned From Peer",
        "Count",
        &PEER_DIMENSIONS,
    ),
    metric(
        "RoutingInfrastructureUnits",
        "Routing Infrastructure Units",
        "Count",
        &[],
    ),
    metric("SpokeVMUtilization", "Spoke VM Utilization", "Percent", &[]),
];

const fn metric(
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    dimensions: &'static [&'static str],
) -> Metric {
    Metric {
        name,
        title,
        unit,
        dimensions,
    }
}

/// What a request for metrics asks for, read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsQuery {
    /// Key of the route server.
    pub route_server: String,
    names: Vec<&'static str>,
    timespan: String,
    interval: String,
    aggregations: Vec<&'static str>,
    /// Dimensions that the filter names, with the value wanted; `None` for `*`: a series each.
    dimensions: Vec<(&'static str, Option<String>)>,
}

/// The metrics there are, as `metricDefinitions` tells them.
pub(crate) fn definitions(hub: &Resource) -> Value {
    let shown = METRICS.iter().map(|metric| {
        let dimensions = metric.dimensions.iter().map(|name| localized(name, name));
        json!({
            "id": format!("{}/providers/microsoft.insights/metricdefinitions/{}", hub.id, metric.name),
            "resourceId": hub.id,
            "namespace": types::VIRTUAL_HUB,
            "category": "Scalability",
            "name": localized(metric.name, metric.title),
            "isDimensionRequired": false,
            "unit": metric.unit,
            "primaryAggregationType": "Maximum",
            "supportedAggregationTypes": AGGREGATIONS,
            "metricAvailabilities": GRAINS.map(|grain| json!({ "timeGrain": grain, "retention": "P93D" })),
            "dimensions": dimensions.collect::<Value>(),
        })
    });
    json!({ "value": shown.collect::<Value>() })
}

const AGGREGATIONS: [&str; 5] = ["None", "Average", "Minimum", "Maximum", "Total"];
const GRAINS: [&str; 7] = ["PT1M", "PT5M", "PT15M", "PT30M", "PT1H", "PT6H", "P1D"];

fn localized(value: &str, text: &str) -> Value {
    json!({ "value": value, "localizedValue": text })
}

/// Reads the query of `…/metrics`.
pub(crate) fn read_query(request: &Request, hub: &Resource) -> Result<MetricsQuery, ArmError> {
    let given = |name: &str| {
        let found = request.parameter(name).map(decoded);
        found.filter(|value| !value.is_empty())
    };
    let names = given("metricnames").unwrap_or_else(|| METRICS[0].name.to_owned());
    let names: Result<Vec<_>, _> = names
        .split(',')
        .map(|name| find(name.trim()).map(|metric| metric.name))
        .collect();
    let interval = given("interval").unwrap_or_else(|| GRAINS[0].to_owned());
    let known = |text: &String| GRAINS.iter().find(|grain| grain.eq_ignore_ascii_case(text));
    let Some(interval) = known(&interval).or_else(|| interval.eq_ignore_ascii_case("FULL").then_some(&GRAINS[0]))
    else {
        return Err(bad(format!(
            "The interval '{interval}' is not supported. Choose one of: {}.",
            GRAINS.join(", ")
        )));
    };
    let aggregations = given("aggregation").unwrap_or_else(|| "Maximum".to_owned());
    let aggregations: Result<Vec<_>, _> = aggregations.split(',').map(|text| aggregation(text.trim())).collect();
    Ok(MetricsQuery {
        route_server: hub.key(),
        names: names?,
        timespan: given("timespan").unwrap_or_default(),
        interval: (*interval).to_owned(),
        aggregations: aggregations?,
        dimensions: match given("$filter") {
            Some(filter) => read_filter(&filter)?,
            None => Vec::new(),
        },
    })
}

/// az encodes some parameters twice, so that what arrives is still encoded once (arm-clients §5).
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let digits = (ahead.next(), ahead.next());
        let value = match digits {
            (Some(high), Some(low)) if byte == b'%' => char::from(high).to_digit(16).zip(char::from(low).to_digit(16)),
            _ => None,
        };
        match value {
            Some((high, low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = ahead;
            }
            None => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn find(name: &str) -> Result<&'static Metric, ArmError> {
    METRICS
        .iter()
        .find(|metric| metric.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
            bad(format!(
                "Failed to find metric configuration for metric: {name}. Valid metrics: {}.",
                names.join(",")
            ))
        })
}

fn aggregation(text: &str) -> Result<&'static str, ArmError> {
    let known = ["average", "minimum", "maximum", "total", "count"];
    known
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(text))
        .ok_or_else(|| {
            bad(format!(
                "The aggregation '{text}' is not supported. Choose of: {}.",
                known.join(", ")
            ))
        })
}

/// `BgpPeerIp eq '*' and RouteServiceInstance eq 'RouteServiceRole_IN_0'`
fn read_filter(filter: &str) -> Result<Vec<(&'static str, Option<String>)>, ArmError> {
    let wrong = || {
        bad(format!(
            "The filter '{filter}' is not understood. Write <dimension> eq '<value>' [and …] with {}.",
            PEER_DIMENSIONS.join(", ")
        ))
    };
    let mut read = Vec::new();
    for term in filter.split(" and ") {
        let (name, value) = term.split_once(" eq ").ok_or_else(wrong)?;
        let name = PEER_DIMENSIONS
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(name.trim()));
        let value = value
            .trim()
            .strip_prefix('\'')
            .and_then(|value| value.strip_suffix('\''));
        let value = value.ok_or_else(wrong)?;
        read.push((name.ok_or_else(wrong)?, (value != "*").then(|| value.to_owned())));
    }
    Ok(read)
}

fn bad(message: String) -> ArmError {
    ArmError::bad("BadRequest", message)
}

/// One value of a metric, with its dimensions in the order of [`PEER_DIMENSIONS`].
struct Sample {
    dimensions: Vec<String>,
    value: f64,
}

/// The answer to a query at the time `now` (RFC 3339), from what both instances say of their peers.
pub fn metrics(resources: &Resources, query: &MetricsQuery, peers: &[PeerReport], now: &str) -> Value {
    let hub = resources.by_key(&query.route_server);
    let minute = format!("{}:00Z", now.get(..16).unwrap_or(now));
    let over = is_over(&query.timespan, now);
    let shown = query.names.iter().filter_map(|name| find(name).ok()).map(|metric| {
        let samples = match over {
            true => Vec::new(),
            false => samples(resources, metric.name, hub, peers),
        };
        json!({
            "id": format!("{}/providers/Microsoft.Insights/metrics/{}", hub.map_or("", |hub| hub.id.as_str()), metric.name),
            "type": "Microsoft.Insights/metrics",
            "name": localized(metric.name, metric.title),
            "displayDescription": metric.title,
            "unit": metric.unit,
            "timeseries": series(query, metric, samples, &minute),
            "errorCode": "Success",
        })
    });
    let shown: Value = shown.collect();
    json!({
        "cost": 0,
        "timespan": query.timespan,
        "interval": query.interval,
        "namespace": types::VIRTUAL_HUB,
        "resourceregion": hub.map_or("", Resource::location),
        "value": shown,
    })
}

/// Whether a timespan `from/to` ended more than a few minutes ago. Both are RFC 3339 or naive UTC, which compare as texts up to the
/// minute; clients' clocks and ours differ a little.
fn is_over(timespan: &str, now: &str) -> bool {
    let Some((_, end)) = timespan.split_once('/') else {
        return false;
    };
    match (end.get(..15), now.get(..15)) {
        // Ten minutes are one character here.
        (Some(end), Some(now)) if end.starts_with(|c: char| c.is_ascii_digit()) => end < now,
        _ => false,
    }
}

fn samples(resources: &Resources, name: &str, hub: Option<&Resource>, peers: &[PeerReport]) -> Vec<Sample> {
    let units = hub.map_or(limits::DEFAULT_UNITS, limits::units);
    let one = |value| {
        vec![Sample {
            dimensions: Vec::new(),
            value,
        }]
    };
    let of_peers = |value: fn(&PeerReport) -> f64| {
        let samples = peers.iter().map(|peer| Sample {
            dimensions: vec![
                format!("RouteServiceRole_IN_{}", peer.instance),
                peer.peer_address.to_string(),
                peer_type(peer.kind).to_owned(),
            ],
            value: value(peer),
        });
        samples.collect()
    };
    match name {
        "BgpPeerStatus" => of_peers(|peer| f64::from(u8::from(peer.state == "Established"))),
        "CountOfRoutesAdvertisedToPeer" => of_peers(|peer| peer.routes_advertised as f64),
        "CountOfRoutesLearnedFromPeer" => of_peers(|peer| peer.routes_accepted as f64),
        "RoutingInfrastructureUnits" => one(units),
        _ => {
            let settings = Settings::default();
            let world = World::new(resources, &settings);
            let nics = hub.map_or(0, |hub| limits::virtual_machines(&world, &hub.key()));
            one(100.0 * nics as f64 / limits::capacity(units))
        }
    }
}

/// The dimension bgppeertype. Azure's words for gateways are not public.
fn peer_type(kind: PeerKind) -> &'static str {
    match kind {
        PeerKind::VpnGateway => "VPN",
        PeerKind::ExpressRouteGateway => "ExpressRoute",
        _ => "NVA",
    }
}

/// Samples joined by the dimensions that the filter names: one series for each combination of their values.
fn series(query: &MetricsQuery, metric: &Metric, samples: Vec<Sample>, time: &str) -> Value {
    let named: Vec<(usize, &(&str, Option<String>))> = query
        .dimensions
        .iter()
        .filter_map(|wanted| Some((metric.dimensions.iter().position(|name| *name == wanted.0)?, wanted)))
        .collect();
    let mut joined: BTreeMap<Vec<String>, Vec<f64>> = BTreeMap::new();
    for sample in samples {
        let fits = |(place, (_, wanted)): &(usize, &(&str, Option<String>))| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(&sample.dimensions[*place]))
        };
        if named.iter().all(fits) {
            let key = named
                .iter()
                .map(|(place, _)| sample.dimensions[*place].clone())
                .collect();
            joined.entry(key).or_default().push(sample.value);
        }
    }
    let shown = joined.into_iter().map(|(key, values)| {
        let dimensions = named.iter().zip(&key);
        let metadata =
            dimensions.map(|((_, (name, _)), value)| json!({ "name": localized(name, name), "value": value }));
        let mut point = json!({ "timeStamp": time });
        for aggregation in &query.aggregations {
            point[*aggregation] = json!(aggregate(aggregation, &values));
        }
        json!({ "metadatavalues": metadata.collect::<Value>(), "data": [point] })
    });
    shown.collect()
}

fn aggregate(how: &str, values: &[f64]) -> f64 {
    let total: f64 = values.iter().sum();
    match how {
        "minimum" => values.iter().copied().fold(f64::INFINITY, f64::min),
        "maximum" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "average" => total / values.len() as f64,
        "count" => values.len() as f64,
        _ => total,
    }
}
