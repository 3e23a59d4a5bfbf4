//! `drain` verbs (RFC 8326): packets go other ways first, then whatever was in the way of them can be taken down without losing any.

use std::cell::Cell;
use std::time::{Duration, Instant};

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::ClientError;
use crate::output::Column;
use crate::resource::Session;
use crate::target::Target;

/// Between two looks at how far it is.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

const PEER_COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("Instance", "/instance"),
    ("State", "/state"),
    ("Prefixes", "/drain/prefixes"),
    ("WithoutOtherWay", "/drain/withoutOtherWay"),
];
const INSTANCE_PEER_COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("Instance", "/instance"),
    ("State", "/state"),
    ("Received", "/routesReceived"),
];

/// How long, and whether at all.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Draining {
    /// Seconds to wait until nothing goes that way any more; what is left then is told, and it stays drained.
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    timeout: u64,
    /// Have packets go that way again.
    #[arg(long, conflicts_with = "timeout")]
    undo: bool,
}

/// Arguments of `routewright drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    target: Target,
    /// Which instance.
    #[arg(value_parser = clap::value_parser!(u8).range(0..=1))]
    instance: u8,
    #[command(flatten)]
    draining: Draining,
}

/// `routewright routeserver peering drain`
pub(crate) async fn peering(session: &Session, id: &str, draining: Draining) -> Result<(), ClientError> {
    let settings = format!("/routewright/v1{id}/settings");
    let value = if draining.undo { Value::Null } else { json!(true) };
    let patch = json!({ "drain": value });
    session.client.send(Method::PATCH, &settings, Some(&patch)).await?;
    if draining.undo {
        return Ok(());
    }
    let path = format!("/routewright/v1/peers{id}");
    wait(session, draining, PEER_COLUMNS, async || {
        let answer = session.client.get(&path).await?;
        let rows = rows(answer);
        let sum = |member: &str| -> u64 {
            let counts = rows.iter().filter_map(|row| row["drain"][member].as_u64());
            // Each instance counts for itself.
            counts.max().unwrap_or(0)
        };
        let is_drained = |row: &Value| row["drain"].is_object();
        let left = sum("prefixes");
        let done = left == 0 && rows.iter().all(is_drained);
        let without = sum("withoutOtherWay");
        let told = prefixes_left(left, without);
        Ok(Progress { done, told, rows })
    })
    .await
}

/// `routewright drain`: the other instance has whatever peers this one has, or they would lose their way.
pub(crate) async fn instance(args: DrainArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let (instance, draining) = (args.instance, args.draining);
    let on = !draining.undo;
    let path = format!("/routewright/v1/instances/{instance}/drain?on={on}");
    session.client.post(&path).await?;
    if draining.undo {
        return Ok(());
    }
    wait(&session, draining, INSTANCE_PEER_COLUMNS, async || {
        without_other_way(&session, instance.into()).await
    })
    .await
}

fn prefixes_left(left: u64, without: u64) -> String {
    let (prefixes, go) = match left {
        1 => ("prefix", "goes"),
        _ => ("prefixes", "go"),
    };
    let have = if without == 1 { "has" } else { "have" };
    format!("{left} {prefixes} still {go} through the peer, {without} of them {have} no other way")
}

fn peers_alone(peers: usize) -> String {
    match peers {
        1 => "1 peer has no session with the other instance".to_owned(),
        _ => format!("{peers} peers have no session with the other instance"),
    }
}

/// Peers of an instance (0 or 1) that have no session with the other one, which must have converged.
pub(crate) async fn without_other_way(session: &Session, instance: u64) -> Result<Progress, ClientError> {
    let health = session.client.get("/routewright/v1/health").await?;
    let other_speaks = health["instances"].as_array().into_iter().flatten().any(|each| {
        each["index"] == json!(1 - instance) && each["state"] == "up" && each["converging"] == json!(false)
    });
    let answer = session.client.get("/routewright/v1/peers").await?;
    // Who does not answer is not known to have no peers.
    if let Some(silent) = unanswered(&answer).first() {
        return Ok(Progress {
            done: false,
            told: format!("instance {silent} does not answer"),
            rows: Vec::new(),
        });
    }
    let peers = rows(answer);
    let is_up = |row: &&Value| row["state"] == "Established";
    let at = |index: u64| {
        peers
            .iter()
            .filter(is_up)
            .filter(move |row| row["instance"] == json!(index))
    };
    let has_other = |row: &&Value| at(1 - instance).any(|other| other["id"] == row["id"]);
    let alone: Vec<Value> = at(instance).filter(|row| !has_other(row)).cloned().collect();
    let told = match other_speaks {
        true => peers_alone(alone.len()),
        false => "the other instance does not speak for all its peers yet".to_owned(),
    };
    Ok(Progress {
        done: other_speaks && alone.is_empty(),
        told,
        rows: alone,
    })
}

/// How far something is that takes its time.
pub(crate) struct Progress {
    pub(crate) done: bool,
    /// What is left, for people.
    pub(crate) told: String,
    /// What is left, row by row.
    pub(crate) rows: Vec<Value>,
}

/// Waits as long as the command line says, and prints the rows that are left.
async fn wait(
    session: &Session,
    draining: Draining,
    columns: &[Column],
    look: impl AsyncFn() -> Result<Progress, ClientError>,
) -> Result<(), ClientError> {
    let last = Cell::new(Vec::new());
    let waited = until(draining.timeout, async || {
        let progress = look().await?;
        last.set(progress.rows.clone());
        Ok(progress)
    });
    let outcome = waited.await;
    if matches!(outcome, Ok(()) | Err(ClientError::NotDrained { .. })) {
        session.print(columns, &Value::Array(last.take()))?;
    }
    outcome
}

/// Looks again until it is done; says what changes on the way. After `timeout` seconds that is [`ClientError::NotDrained`].
pub(crate) async fn until(
    timeout: u64,
    look: impl AsyncFn() -> Result<Progress, ClientError>,
) -> Result<(), ClientError> {
    let end = Instant::now() + Duration::from_secs(timeout);
    let mut said = String::new();
    loop {
        let Progress { done, told, .. } = look().await?;
        if told != said {
            eprintln!("{told}");
            said = told;
        }
        if done {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(ClientError::NotDrained {
                secs: timeout,
                left: said,
            });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Which instances a list that the API answers with knows nothing of.
pub(crate) fn unanswered(answer: &Value) -> Vec<u64> {
    let instances = answer["unanswered"].as_array().into_iter().flatten();
    instances.filter_map(Value::as_u64).collect()
}

/// The rows of a list that the API answers with.
pub(crate) fn rows(answer: Value) -> Vec<Value> {
    match answer {
        Value::Object(mut list) => match list.remove("value") {
            Some(Value::Array(rows)) => rows,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_does_not_answer_is_not_one_without_peers() {
        assert_eq!(unanswered(&json!({ "value": [], "unanswered": [0] })), [0]);
        assert!(unanswered(&json!({ "value": [] })).is_empty());
    }

    #[test]
    fn one_is_not_told_as_many() {
        assert_eq!(peers_alone(1), "1 peer has no session with the other instance");
        assert_eq!(peers_alone(0), "0 peers have no session with the other instance");
        assert_eq!(
            prefixes_left(1, 1),
            "1 prefix still goes through the peer, 1 of them has no other way"
        );
        assert_eq!(
            prefixes_left(2, 0),
            "2 prefixes still go through the peer, 0 of them have no other way"
        );
    }
}
