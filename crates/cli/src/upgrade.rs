//! `routewright upgrade`: both instances exchanged, one after the other, for the executable that is there now.
//!
//! ```text
//!   drain 0 ─► restart 0 ─► 0 has converged, its peers and agents are back ─► drain 1 ─► restart 1 ─► the same
//! ```
//! The next step is only taken when the one before is seen to be done; otherwise it says what is missing, and all goes on as it is.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::client::ClientError;
use crate::drain::{self, Progress};
use crate::output::Column;
use crate::resource::Session;
use crate::target::Target;

/// An instance that says nothing for so long hangs, and its manager ends it.
const ANSWER_SECS: u64 = 30;

const COLUMNS: &[Column] = &[
    ("Instance", "/index"),
    ("State", "/state"),
    ("Version", "/version"),
    ("Converging", "/converging"),
    ("Established", "/peersEstablished"),
    ("Peers", "/peers"),
    ("Agents", "/agents"),
];

/// Arguments of `routewright upgrade`.
#[derive(Debug, Args)]
pub(crate) struct UpgradeArgs {
    #[command(flatten)]
    target: Target,
    /// Only this instance.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=1))]
    instance: Option<u8>,
    /// Seconds to wait for each step; what is missing then is told, and nothing else is restarted.
    #[arg(long, value_name = "SECS", default_value_t = 300)]
    timeout: u64,
    /// Restart also where the other instance does not speak for all peers: those lose their way meanwhile, unless they restart
    /// gracefully.
    #[arg(long)]
    force: bool,
}

/// `routewright upgrade`
pub(crate) async fn run(args: UpgradeArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let before = health(&session).await?;
    let wanted: Vec<u64> = indices(&before)
        .into_iter()
        .filter(|index| args.instance.is_none_or(|only| u64::from(only) == *index))
        .collect();
    if wanted.is_empty() {
        let message = "this server runs no such instance; `routewright health` lists those that it runs";
        return Err(ClientError::Usage(message.to_owned()));
    }
    for index in wanted {
        if !args.force {
            let peers = session.client.get_quietly("/routewright/v1/peers").await?;
            if !drain::is_known(&before, &peers, 1 - index) {
                return Err(ClientError::NotUpgraded {
                    secs: 0,
                    left: format!(
                        "nothing is known here of an instance {}, which would have to take over; instance {index} was not restarted \
                         (--force does so all the same)",
                        1 - index
                    ),
                });
            }
            drained(&session, &before, index, args.timeout).await?;
        }
        exchanged(&session, index, args.timeout).await?;
    }
    let all = health(&session).await?;
    session.print(COLUMNS, &all["instances"])
}

/// Packets go through the other instance; if they cannot, they go as before.
///
/// Each of two machines says that its instance is drained before it looks at the other's, so at least one of two that are upgraded at
/// once sees the other. The one with the higher number gives way then.
async fn drained(session: &Session, before: &Value, index: u64, timeout: u64) -> Result<(), ClientError> {
    let path = format!("/routewright/v1/instances/{index}/drain");
    let was_drained = instances(before).any(|it| it["index"] == json!(index) && it["drained"] == json!(true));
    let on = format!("{path}?on=true&told={}", !drain::is_here(before, 1 - index));
    let started = session.client.post(&on).await;
    eprintln!("instance {index}: packets go through the other one");
    let waited = match started {
        Ok(_) => other_takes_over(session, index, timeout).await,
        Err(error) => Err(error),
    };
    if let Err(error) = waited {
        // As the operator had it.
        if !was_drained {
            session.client.post(&format!("{path}?on=false")).await?;
        }
        return Err(match error {
            ClientError::NotDrained { secs, left } => ClientError::NotUpgraded {
                secs,
                left: format!("{left}; instance {index} was not restarted (--force does so all the same)"),
            },
            error => error,
        });
    }
    Ok(())
}

async fn other_takes_over(session: &Session, index: u64, timeout: u64) -> Result<(), ClientError> {
    drain::until(timeout, async || {
        let health = health(session).await?;
        if index > 0 && drain::is_drained_elsewhere(&health, 1 - index) {
            return Err(ClientError::NotDrained {
                secs: 0,
                left: format!(
                    "instance {} on the other machine is drained, or upgraded, itself",
                    1 - index
                ),
            });
        }
        let mut progress = drain::without_other_way(session, index).await?;
        progress.told = format!("instance {index}: {}", progress.told);
        Ok(progress)
    })
    .await
}

/// Ends the process, which the manager starts again, and waits until whoever had been there is back.
async fn exchanged(session: &Session, index: u64, timeout: u64) -> Result<(), ClientError> {
    let before = Seen::of_one_that_answers(session, index).await?;
    if before.epoch.is_none() {
        return Err(ClientError::NotUpgraded {
            secs: ANSWER_SECS,
            left: format!("instance {index} does not answer; it was not restarted. The manager ends one that hangs"),
        });
    }
    session
        .client
        .post(&format!("/routewright/v1/instances/{index}/restart"))
        .await?;
    eprintln!("instance {index}: restarted");
    let waited = drain::until(timeout, async || {
        let now = Seen::now(session, index).await?;
        let missing = before.missing(&now);
        let told = match missing.is_empty() {
            true => format!("instance {index}: all are back"),
            false => format!("instance {index}: {}", missing.join(", ")),
        };
        Ok(Progress {
            done: missing.is_empty(),
            told,
            rows: Vec::new(),
        })
    });
    match waited.await {
        Ok(_) => Ok(()),
        Err(ClientError::NotDrained { secs, left }) => Err(ClientError::NotUpgraded { secs, left }),
        Err(error) => Err(error),
    }
}

/// What there is of an instance.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Tells one life of the process from the next; `None`: it does not answer.
    epoch: Option<u64>,
    converging: bool,
    /// Ids of peerings whose session is Established.
    peers: BTreeSet<String>,
    /// Agents' names and NICs whose tables are installed as they are told.
    nics: BTreeSet<String>,
    /// Agents in the health report, which is a moment old.
    agents: u64,
}

impl Seen {
    /// As soon as it answers; one that is busy may take its time.
    async fn of_one_that_answers(session: &Session, index: u64) -> Result<Seen, ClientError> {
        for _ in 0..ANSWER_SECS {
            let seen = Seen::now(session, index).await?;
            if seen.epoch.is_some() {
                return Ok(seen);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(Seen::default())
    }

    async fn now(session: &Session, index: u64) -> Result<Seen, ClientError> {
        let health = health(session).await?;
        let report = instances(&health).find(|it| it["index"] == json!(index) && it["state"] == "up");
        let Some(report) = report else {
            return Ok(Seen::default());
        };
        let here = |row: &&Value| row["instance"] == json!(index);
        let peers = session.client.get_quietly("/routewright/v1/peers").await?;
        let agents = session.client.get_quietly("/routewright/v1/agents").await?;
        // What is not known is not known to be gone.
        if [&peers, &agents]
            .iter()
            .any(|list| drain::unanswered(list).contains(&index))
        {
            return Ok(Seen::default());
        }
        let (peers, agents) = (drain::rows(peers), drain::rows(agents));
        let peers = peers.iter().filter(here).filter(|row| row["state"] == "Established");
        let installed = |row: &&Value| row["installedGeneration"].is_u64();
        let nics = agents.iter().filter(here).filter(installed);
        Ok(Seen {
            epoch: report["epoch"].as_u64(),
            converging: report["converging"] == json!(true),
            peers: peers.filter_map(|row| Some(row["id"].as_str()?.to_owned())).collect(),
            nics: nics
                .filter_map(|row| Some(format!("{} {}", row["agent"].as_str()?, row["nic"].as_str()?)))
                .collect(),
            agents: report["agents"].as_u64().unwrap_or(0),
        })
    }

    /// What was there and is not back in another life.
    fn missing(&self, now: &Seen) -> Vec<String> {
        if now.epoch.is_none() || now.epoch == self.epoch {
            return vec!["not started yet".to_owned()];
        }
        let (peers, nics) = (
            self.peers.difference(&now.peers).count(),
            self.nics.difference(&now.nics).count(),
        );
        let mut missing = Vec::new();
        if peers > 0 {
            missing.push(format!("{peers} of {} sessions are not back", self.peers.len()));
        }
        if nics > 0 {
            missing.push(format!("{nics} of {} NICs have not its routes yet", self.nics.len()));
        }
        if missing.is_empty() && now.agents < self.agents {
            missing.push(format!(
                "{} of {} agents are not back",
                self.agents - now.agents,
                self.agents
            ));
        }
        if now.converging {
            missing.push("converging".to_owned());
        }
        missing
    }
}

async fn health(session: &Session) -> Result<Value, ClientError> {
    session.client.get_quietly("/routewright/v1/health").await
}

fn instances(health: &Value) -> impl Iterator<Item = &Value> {
    health["instances"].as_array().into_iter().flatten()
}

fn indices(health: &Value) -> Vec<u64> {
    instances(health).filter_map(|it| it["index"].as_u64()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn seen(epoch: u64, peers: &[&str], nics: &[&str]) -> Seen {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Seen {
            epoch: Some(epoch),
            converging: false,
            peers: set(peers),
            nics: set(nics),
            agents: nics.len() as u64,
        }
    }

    #[test]
    fn an_instance_is_exchanged_when_another_life_has_whoever_the_one_before_had() {
        let before = seen(1, &["a", "b"], &["vm1"]);
        assert_eq!(before.missing(&Seen::default()), ["not started yet"]);
        assert_eq!(before.missing(&seen(1, &["a", "b"], &["vm1"])), ["not started yet"]);
        assert_eq!(
            before.missing(&seen(2, &["a", "c"], &[])),
            ["1 of 2 sessions are not back", "1 of 1 NICs have not its routes yet"]
        );
        let mut now = seen(2, &["a", "b", "c"], &["vm1", "vm2"]);
        assert!(before.missing(&now).is_empty());
        now.converging = true;
        assert_eq!(before.missing(&now), ["converging"]);
        let late = Seen {
            agents: 0,
            converging: false,
            ..now
        };
        assert_eq!(before.missing(&late), ["1 of 1 agents are not back"]);
    }
}
