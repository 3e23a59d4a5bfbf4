//! `routewright monitor …`: what was done, and how a route server is.

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Session;
use crate::client::ClientError;
use crate::output::{self, Column};
use crate::target::{Output, Target};

const INSIGHTS: &str = "providers/Microsoft.Insights";
const EVENT_COLUMNS: &[Column] = &[
    ("Time", "/eventTimestamp"),
    ("Operation", "/operationName/value"),
    ("Status", "/status/value"),
    ("Caller", "/caller"),
    ("Resource", "/resourceId"),
];
const METRIC_COLUMNS: &[Column] = &[
    ("Metric", "/metric"),
    ("Series", "/series"),
    ("Time", "/time"),
    ("Value", "/value"),
];
const DEFINITION_COLUMNS: &[Column] = &[
    ("Name", "/name/value"),
    ("Unit", "/unit"),
    ("Aggregation", "/primaryAggregationType"),
];
/// As `az` has it.
const DEFAULT_OFFSET: &str = "6h";

/// Arguments of `routewright monitor`.
#[derive(Debug, Args)]
pub(crate) struct MonitorArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Every write and every refusal: who, what, when, with which result.
    #[command(subcommand)]
    ActivityLog(ActivityLogVerb),
    /// Metrics of a route server.
    #[command(subcommand)]
    Metrics(MetricsVerb),
}

#[derive(Debug, Subcommand)]
enum ActivityLogVerb {
    /// List events, the last first.
    List {
        /// Only those of this resource group.
        #[arg(short = 'g', long, conflicts_with = "resource_id")]
        resource_group: Option<String>,
        /// Only those of this resource.
        #[arg(long, value_name = "ID")]
        resource_id: Option<String>,
        /// How far back: a number and d, h or m.
        #[arg(long, default_value = DEFAULT_OFFSET, value_parser = parse_offset)]
        offset: SignedDuration,
        /// From then on (RFC 3339), instead of --offset.
        #[arg(long)]
        start_time: Option<Timestamp>,
        /// Until then (RFC 3339); by default now.
        #[arg(long)]
        end_time: Option<Timestamp>,
        /// Not more than this many.
        #[arg(long, default_value_t = 50)]
        max_events: usize,
    },
}

#[derive(Debug, Args)]
struct Resource {
    /// Id of the route server.
    #[arg(long, value_name = "ID")]
    resource: String,
}

#[derive(Debug, Subcommand)]
enum MetricsVerb {
    /// Show values.
    List {
        #[command(flatten)]
        resource: Resource,
        /// Names of metrics; by default all.
        #[arg(long, visible_alias = "metrics", num_args = 1..)]
        metric: Vec<String>,
        /// Which series: BgpPeerIp eq '10.0.2.4', for example; '*' is each.
        #[arg(long)]
        filter: Option<String>,
    },
    /// Which metrics there are.
    ListDefinitions {
        #[command(flatten)]
        resource: Resource,
    },
}

pub(crate) async fn run(args: MonitorArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.noun {
        Noun::ActivityLog(verb) => activity_log(&session, verb).await,
        Noun::Metrics(MetricsVerb::ListDefinitions { resource }) => {
            let path = format!("{}/{INSIGHTS}/metricDefinitions", resource.resource);
            session.show_all(DEFINITION_COLUMNS, &path).await
        }
        Noun::Metrics(MetricsVerb::List {
            resource,
            metric,
            filter,
        }) => metrics(&session, &resource.resource, &metric, filter.as_deref()).await,
    }
}

async fn activity_log(session: &Session, verb: ActivityLogVerb) -> Result<(), ClientError> {
    let ActivityLogVerb::List {
        resource_group,
        resource_id,
        offset,
        start_time,
        end_time,
        max_events,
    } = verb;
    let end = end_time.unwrap_or_else(Timestamp::now);
    let start = match start_time {
        Some(start) => start,
        None => end
            .checked_sub(offset)
            .map_err(|error| ClientError::Usage(format!("--offset: {error}")))?,
    };
    let mut filter = format!("eventTimestamp ge {start} and eventTimestamp le {end}");
    if let Some(group) = resource_group {
        filter.push_str(&format!(" and resourceGroupName eq '{group}'"));
    }
    if let Some(id) = resource_id {
        filter.push_str(&format!(" and resourceId eq '{id}'"));
    }
    let path = format!(
        "{}/{INSIGHTS}/eventtypes/management/values?$filter={}",
        session.target.subscription_id(),
        encoded(&filter)
    );
    let events = session.list_first(&path, max_events).await?;
    session.print(EVENT_COLUMNS, &Value::Array(events))
}

async fn metrics(session: &Session, id: &str, names: &[String], filter: Option<&str>) -> Result<(), ClientError> {
    let mut query = vec!["aggregation=Maximum".to_owned()];
    if !names.is_empty() {
        query.push(format!("metricnames={}", names.join(",")));
    }
    if let Some(filter) = filter {
        query.push(format!("$filter={}", encoded(filter)));
    }
    let path = format!("{id}/{INSIGHTS}/metrics?{}", query.join("&"));
    let answer = session.client.get(&path).await?;
    if session.target.output != Output::Table {
        return super::printed(output::print_whole(session.target.output, &answer));
    }
    let rows = rows(&answer);
    super::printed(output::print_table(METRIC_COLUMNS, &rows.iter().collect::<Vec<_>>()))
}

/// A line for each value of each series.
fn rows(answer: &Value) -> Vec<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut rows = Vec::new();
    for metric in list(&answer["value"]) {
        for series in list(&metric["timeseries"]) {
            let labels = list(&series["metadatavalues"]);
            let labels: Vec<String> = labels
                .iter()
                .map(|label| {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    format!("{}={}", text(&label["name"]["value"]), text(&label["value"]))
                })
                .collect();
            for point in list(&series["data"]) {
                rows.push(json!({
                    "metric": metric["name"]["value"],
                    "series": labels.join(" "),
                    "time": point["timeStamp"],
                    "value": point["maximum"],
                }));
            }
        }
    }
    rows
}

/// For a query: everything but what is plain there.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

fn parse_offset(text: &str) -> Result<SignedDuration, String> {
    let wrong = || "expected a number and d, h or m, such as 6h".to_owned();
    let unit_at = text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at));
    let (number, unit) = text.split_at(unit_at.ok_or_else(wrong)?);
    let number: i64 = number.parse().map_err(|_| wrong())?;
    let minutes = match unit {
        "d" => 24 * 60,
        "h" => 60,
        "m" => 1,
        _ => return Err(wrong()),
    };
    let minutes = number
        .checked_mul(minutes)
        .and_then(|it| it.checked_mul(60))
        .ok_or_else(wrong)?;
    Ok(SignedDuration::from_secs(minutes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_a_number_and_a_unit() {
        assert_eq!(parse_offset("2d").unwrap().as_secs(), 172_800);
        assert_eq!(parse_offset("90m").unwrap().as_secs(), 5_400);
        for wrong in ["", "h", "6", "6w", "6ü", "9223372036854775807d"] {
            assert!(parse_offset(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_filter_is_safe_in_a_query() {
        assert_eq!(encoded("a eq '*'&b"), "a%20eq%20%27%2A%27%26b");
    }
}
