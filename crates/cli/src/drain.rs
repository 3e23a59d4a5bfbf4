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
        0 => "the other instance speaks for every peer".to_owned(),
        1 => "the other instance does not speak for 1 peer".to_owned(),
        _ => format!("the other instance does not speak for {peers} peers"),
    }
}

/// What keeps the other instance from taking over, if anything. One of another machine is known by what its manager tells ours.
fn not_ready(health: &Value, other: u64) -> Option<String> {
    if let Some(it) = here(health, other) {
        let speaks = it["state"] == "up" && it["converging"] == json!(false);
        return (!speaks).then(|| "the other instance does not speak for all its peers yet".to_owned());
    }
    let Some(manager) = elsewhere(health, other) else {
        return Some(format!("nothing is known here of an instance {other}"));
    };
    let machine = manager["machine"].as_str().unwrap_or_default();
    if let Some(since) = manager["goneSince"].as_str() {
        return Some(format!(
            "the manager of instance {other} on {machine} has not been heard of since {since}"
        ));
    }
    let state = &manager["state"];
    let problem = if state.is_null() {
        "does not tell how it is"
    } else if state["up"] != json!(true) {
        "is down"
    } else if state["drained"] == json!(true) {
        "is drained itself"
    } else if state["converging"] == json!(true) {
        "does not speak for all its peers yet"
    } else if state["intentVersion"] != health["intentVersion"] {
        "does not follow what was written last yet"
    } else {
        return None;
    };
    Some(format!("instance {other} on {machine} {problem}"))
}

fn here(health: &Value, index: u64) -> Option<&Value> {
    let mut instances = health["instances"].as_array().into_iter().flatten();
    instances.find(|each| each["index"] == json!(index))
}

fn elsewhere(health: &Value, index: u64) -> Option<&Value> {
    let mut managers = health["managers"].as_array().into_iter().flatten();
    managers.find(|each| each["instance"] == json!(index))
}

/// Whether this server runs it.
pub(crate) fn is_here(health: &Value, index: u64) -> bool {
    here(health, index).is_some()
}

/// Whether it is one of another machine that is there and drained.
pub(crate) fn is_drained_elsewhere(health: &Value, index: u64) -> bool {
    let manager = elsewhere(health, index).filter(|_| here(health, index).is_none());
    manager.is_some_and(|manager| manager["goneSince"].is_null() && manager["state"]["drained"] == json!(true))
}

/// Whether there is such an instance, here or at another manager of the same store, which may not have been heard of yet. `peers`: the
/// list of them, which names those that it knows nothing of.
pub(crate) fn is_known(health: &Value, peers: &Value, index: u64) -> bool {
    let named = peers["elsewhere"]
        .as_array()
        .is_some_and(|all| all.contains(&json!(index)));
    named || here(health, index).is_some()
}

/// Whether a peering's session is up at an instance of another machine, as far as its manager tells.
fn is_up_elsewhere(manager: &Value, id: &Value) -> bool {
    let state = &manager["state"];
    let down = state["peersDown"].as_array().map_or(&[][..], Vec::as_slice);
    // More are down than can be told: then this may be one of them.
    !down.contains(id) && state["peersDownCount"] == json!(down.len())
}

/// Peers of an instance (0 or 1) that the other one, which must have converged, does not speak for.
pub(crate) async fn without_other_way(session: &Session, instance: u64) -> Result<Progress, ClientError> {
    let health = session.client.get_quietly("/routewright/v1/health").await?;
    let answer = session.client.get_quietly("/routewright/v1/peers").await?;
    // Who does not answer is not known to have no peers.
    let silent = unanswered(&answer)
        .first()
        .map(|silent| format!("instance {silent} does not answer"));
    let not_ready = not_ready(&health, 1 - instance).or(silent);
    let alone = alone(&health, rows(answer), instance);
    Ok(Progress {
        done: not_ready.is_none() && alone.is_empty(),
        told: not_ready.unwrap_or_else(|| peers_alone(alone.len())),
        rows: alone,
    })
}

/// Those that have a session with this instance alone; and those without any session whose routes it alone keeps.
fn alone(health: &Value, peers: Vec<Value>, instance: u64) -> Vec<Value> {
    let other = 1 - instance;
    let is_up = |row: &Value| row["state"] == "Established";
    let is_kept = |row: &Value| row["kept"].as_array().is_some_and(|kept| !kept.is_empty());
    let has_other = |row: &Value| match elsewhere(health, other) {
        // What is kept there is not told.
        Some(manager) if here(health, other).is_none() => !is_up(row) || is_up_elsewhere(manager, &row["id"]),
        _ => peers
            .iter()
            .filter(|at| at["instance"] == json!(other) && at["id"] == row["id"])
            .any(|at| is_up(at) || (is_kept(at) && !is_up(row))),
    };
    let own = peers.iter().filter(|row| row["instance"] == json!(instance));
    let spoken_for = own.filter(|row| is_up(row) || is_kept(row));
    spoken_for.filter(|row| !has_other(row)).cloned().collect()
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

    /// As the manager of instance 0 tells it, with the state of instance 1 on another machine.
    fn health(manager: Value) -> Value {
        json!({"intentVersion": 7, "instances": [{"index": 0, "state": "up"}], "managers": [manager]})
    }

    #[test]
    fn an_instance_of_another_machine_takes_over_when_its_manager_says_that_it_can() {
        let ready = json!({"up": true, "converging": false, "drained": false, "intentVersion": 7, "peersDown": [],
            "peersDownCount": 0});
        let manager = |state: &Value| json!({"instance": 1, "machine": "b", "goneSince": null, "state": state});
        assert_eq!(not_ready(&health(manager(&ready)), 1), None);
        for (name, value, said) in [
            ("up", json!(false), "is down"),
            ("converging", json!(true), "does not speak for all"),
            ("drained", json!(true), "is drained"),
            ("intentVersion", json!(6), "does not follow"),
        ] {
            let mut state = ready.clone();
            state[name] = value;
            let told = not_ready(&health(manager(&state)), 1).unwrap_or_default();
            assert!(told.contains("instance 1 on b") && told.contains(said), "{told}");
        }
        let silent = not_ready(&health(manager(&Value::Null)), 1).unwrap_or_default();
        assert!(silent.contains("does not tell"), "{silent}");
        let gone = json!({"instance": 1, "machine": "b", "goneSince": "2026-11-20T00:00:00Z", "state": null});
        let told = not_ready(&health(gone), 1).unwrap_or_default();
        assert!(told.contains("since 2026-11-20"), "{told}");
        assert!(not_ready(&json!({"instances": []}), 1).is_some());
        let alone = json!({"instances": [{"index": 0}]});
        assert!(is_known(&alone, &json!({}), 0) && !is_known(&alone, &json!({}), 1));
        assert!(is_known(&alone, &json!({"elsewhere": [1]}), 1));
    }

    #[test]
    fn a_peer_that_may_be_down_at_the_other_machine_has_no_other_way() {
        let state = |down: Value, count: u64| json!({"state": {"peersDown": down, "peersDownCount": count}});
        let peer = json!("/p");
        assert!(is_up_elsewhere(&state(json!([]), 0), &peer));
        assert!(is_up_elsewhere(&state(json!(["/other"]), 1), &peer));
        assert!(!is_up_elsewhere(&state(json!(["/p"]), 1), &peer));
        assert!(
            !is_up_elsewhere(&state(json!(["/other"]), 2), &peer),
            "not all are told"
        );
        assert!(!is_up_elsewhere(&json!({}), &peer));
    }

    #[test]
    fn one_is() {
        assert_eq!(unanswered(&json!({ "value": [], "unanswered": [0] })), [0]);
        assert!(unanswered(&json!({ "value": [] })).is_empty());
    }

    #[test]
    fn a_peer_is_alone_with_the_instance_that_has_its_session_or_keeps_its_routes_while_the_other_has_neither() {
        let health = json!({"instances": [{"index": 0}, {"index": 1}]});
        let peer = |instance: u64, state: &str, kept: Value| json!({"id": "/p", "instance": instance, "state": state, "kept": kept});
        let up = |instance| peer(instance, "Established", json!([]));
        let keeps = |instance| peer(instance, "Active", json!([{"phase": "persisted"}]));
        let nothing = |instance| peer(instance, "Active", json!([]));
        for (here, there, is_alone) in [
            (up(0), up(1), false),
            (up(0), nothing(1), true),
            // What is kept is a last resort.
            (up(0), keeps(1), true),
            (keeps(0), keeps(1), false),
            // The other one was restarted meanwhile.
            (keeps(0), nothing(1), true),
            (nothing(0), up(1), false),
        ] {
            let told = format!("{here} {there}");
            assert_eq!(
                alone(&health, vec![here, there], 0).len(),
                usize::from(is_alone),
                "{told}"
            );
        }
    }

    #[test]
    fn one_is_not_told_as_many() {
        assert_eq!(peers_alone(1), "the other instance does not speak for 1 peer");
        assert_eq!(peers_alone(2), "the other instance does not speak for 2 peers");
        assert_eq!(peers_alone(0), "the other instance speaks for every peer");
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
