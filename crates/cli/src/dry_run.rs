//! What writes would change of routes: asked of the server, which writes nothing.

use clap::Args;
use serde_json::{Value, json};

use crate::client::ClientError;
use crate::output::{self, Column};
use crate::resource::{Session, printed};
use crate::target::Output;

const PATH: &str = "/routewright/v1/dry-run";
const COLUMNS: &[Column] = &[
    ("Instance", "/instance"),
    ("Where", "/where"),
    ("Change", "/change"),
    ("Network", "/network"),
    ("Before", "/before"),
    ("After", "/after"),
];

/// `--dry-run`
#[derive(Clone, Debug, Args)]
pub(crate) struct DryRun {
    /// Show which routes would appear, vanish or change, and change nothing. Beyond Azure.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A write as it would be sent.
pub(crate) fn change(method: &str, path: &str, body: Option<&Value>) -> Value {
    match body {
        Some(body) => json!({ "method": method, "path": path, "body": body }),
        None => json!({ "method": method, "path": path }),
    }
}

/// Asks, and prints what would differ; as a table one row for each route.
pub(crate) async fn show(session: &Session, changes: &[Value]) -> Result<(), ClientError> {
    let answer = session.client.post_body(PATH, &json!({ "changes": changes })).await?;
    if session.target.output != Output::Table {
        return printed(output::print_whole(session.target.output, &answer));
    }
    for missing in answer["unanswered"].as_array().into_iter().flatten() {
        eprintln!("Instance {missing} does not answer; what it would do is not known.");
    }
    let reports = answer["value"].as_array();
    let rows: Vec<Value> = reports.into_iter().flatten().flat_map(rows).collect();
    if reports.into_iter().flatten().any(has_not_followed) {
        eprintln!(
            "What some route servers or gateways (notFollowed in -o json) would tell on is not known: more may change behind them."
        );
    }
    if rows.is_empty() {
        eprintln!("No peer would be told anything else, and no network interface would have other routes.");
    }
    let rows: Vec<&Value> = rows.iter().collect();
    printed(output::print_table(COLUMNS, &rows))
}

/// What one instance says.
fn rows(report: &Value) -> Vec<Value> {
    let instance = &report["instance"];
    let items = |name: &str| report[name].as_array().into_iter().flatten();
    let mut rows = Vec::new();
    for peer in items("peers") {
        let place = format!("told to {}", text(&peer["name"]));
        if peer["session"] != "stays" {
            rows.push(json!({ "instance": instance, "where": place, "change": format!("session {}", text(&peer["session"])) }));
        }
        rows.extend(differences(instance, &place, &peer["told"], "network", told));
    }
    for table in items("tables") {
        let subnet = text(&table["subnet"]);
        let nics = table["nics"].as_array().map_or(0, Vec::len);
        let place = format!("{} ({nics} NICs)", subnet.rsplit('/').next().unwrap_or(subnet));
        rows.extend(differences(
            instance,
            &place,
            &table["routes"],
            "addressPrefix",
            effective,
        ));
    }
    let left_out = report["tablesNotCompared"].as_u64().unwrap_or_default();
    if left_out > 0 {
        rows.push(
            json!({ "instance": instance, "where": format!("{left_out} more subnets"), "change": "not compared" }),
        );
    }
    rows
}

/// Whether somebody of ours would be told something else, who would tell it on.
fn has_not_followed(report: &Value) -> bool {
    report["notFollowed"].as_array().is_some_and(|peers| !peers.is_empty())
}

fn differences(
    instance: &Value,
    place: &str,
    differences: &Value,
    network: &str,
    show: impl Fn(&Value) -> String,
) -> Vec<Value> {
    let items = |name: &str| differences[name].as_array().into_iter().flatten();
    let row = |change: &str, network: &Value, before: String, after: String| json!({ "instance": instance, "where": place, "change": change, "network": network, "before": before, "after": after });
    let nothing = String::new;
    let appears = items("appears").map(|route| row("appears", &route[network], nothing(), show(route)));
    let vanishes = items("vanishes").map(|route| row("vanishes", &route[network], show(route), nothing()));
    let changes = items("changes").map(|both| {
        let (before, after) = (&both["before"], &both["after"]);
        row("changes", &before[network], show(before), show(after))
    });
    let mut rows: Vec<Value> = appears.chain(vanishes).chain(changes).collect();
    let others = differences["notListed"].as_u64().unwrap_or_default();
    if others > 0 {
        rows.push(row(&format!("and {others} more"), &Value::Null, nothing(), nothing()));
    }
    rows
}

/// A route as a peer is told it.
fn told(route: &Value) -> String {
    format!("{} {}", text(&route["asPath"]), joined(&route["communities"]))
        .trim_end()
        .to_owned()
}

/// A row of a network interface.
fn effective(route: &Value) -> String {
    let state = if route["state"] == "Active" { "" } else { " Invalid" };
    let hops = joined(&route["nextHopIpAddress"]);
    format!("{} {hops}{state}", text(&route["nextHopType"]))
        .trim_end()
        .to_owned()
}

fn joined(list: &Value) -> String {
    let items = list.as_array().into_iter().flatten().map(text);
    items.collect::<Vec<_>>().join(",")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_differ_is_one_row_for_each_route_with_what_is_left_out() {
        let report = json!({
            "instance": 0,
            "peers": [{ "name": "nva1", "session": "resets", "told": {
                "appears": [{ "network": "10.9.0.0/16", "asPath": "65515-65002", "communities": ["65517:65517"] }],
                "vanishes": [], "changes": [], "notListed": 3,
            } }],
            "tables": [{ "subnet": "/s/subnets/vms", "nics": ["a", "b"], "routes": {
                "appears": [], "notListed": 0,
                "vanishes": [{ "addressPrefix": "10.8.0.0/16", "nextHopType": "None", "state": "Active", "nextHopIpAddress": [] }],
                "changes": [{
                    "before": { "addressPrefix": "0.0.0.0/0", "nextHopType": "Internet", "state": "Active", "nextHopIpAddress": [] },
                    "after": { "addressPrefix": "0.0.0.0/0", "nextHopType": "VirtualAppliance", "state": "Invalid",
                        "nextHopIpAddress": ["10.1.1.4", "10.1.1.5"] },
                }],
            } }],
            "tablesNotCompared": 2,
        });
        let told: Vec<String> = rows(&report)
            .iter()
            .map(|row| {
                let cells = ["where", "change", "network", "before", "after"].map(|name| text(&row[name]));
                cells.join("|")
            })
            .collect();
        assert_eq!(
            told,
            [
                "told to nva1|session resets|||",
                "told to nva1|appears|10.9.0.0/16||65515-65002 65517:65517",
                "told to nva1|and 3 more|||",
                "vms (2 NICs)|vanishes|10.8.0.0/16|None|",
                "vms (2 NICs)|changes|0.0.0.0/0|Internet|VirtualAppliance 10.1.1.4,10.1.1.5 Invalid",
                "2 more subnets|not compared|||",
            ]
        );
    }

    #[test]
    fn it_is_noticed_when_a_gateway_would_tell_something_on() {
        assert!(has_not_followed(
            &json!({ "notFollowed": ["/hub/gateways/vpn-gw-in_0"] })
        ));
        assert!(!has_not_followed(&json!({ "notFollowed": [] })) && !has_not_followed(&json!({})));
    }
}
