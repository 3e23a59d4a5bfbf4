//! Real processes: the manager may die and come back, the instances go on; an orderly stop ends all of them.
#![allow(clippy::unwrap_used)]

#[path = "common/serve.rs"]
mod serve;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// No step takes longer, also on a machine ten times slower.
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test]
async fn instances_outlive_a_killed_manager_and_the_next_one_finds_them() {
    let data = tempfile::tempdir().unwrap();
    let mut first = Manager::start(data.path());
    let epochs = first.epochs().await;
    first.process.kill().unwrap();
    first.process.wait().unwrap();

    let mut second = Manager::start(data.path());
    assert_eq!(second.epochs().await, epochs);
    let health = second.health().await.unwrap();
    assert!(
        health["instances"]
            .as_array()
            .unwrap()
            .iter()
            .all(|instance| instance["starts"] == 0),
        "{health}"
    );
    second.stop();
    instances_end(data.path());
}

/// What `docs/running.md` says about an upgrade: the manager first, then one instance at a time, while the other goes on.
#[tokio::test]
async fn manager_and_instances_can_be_exchanged_one_at_a_time() {
    let data = tempfile::tempdir().unwrap();
    let mut first = Manager::start_with(data.path(), &["--keep-instances"]);
    let mut epochs = first.epochs().await;
    first.stop();
    let mut second = Manager::start(data.path());
    assert_eq!(second.epochs().await, epochs, "they went on");
    for index in 0..2 {
        let pid = std::fs::read_to_string(data.path().join(format!("run/instance-{index}.lock"))).unwrap();
        kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGTERM).unwrap();
        second
            .until("another life", |health| {
                let instance = &health["instances"][index];
                instance["state"] == "up" && instance["epoch"] != epochs[index]
            })
            .await;
        let now = second.epochs().await;
        assert_eq!(now[1 - index], epochs[1 - index], "the other went on");
        epochs = now;
    }
    second.stop();
    instances_end(data.path());
}

#[tokio::test]
async fn a_killed_instance_is_started_again_where_agents_know_it() {
    let data = tempfile::tempdir().unwrap();
    let mut manager = Manager::start(data.path());
    let untouched = manager.epochs().await[0].clone();
    // Somebody on this machine may take the port in between, but not time after time.
    for kills in 1..10 {
        let epoch = manager.epochs().await[1].clone();
        manager
            .until("agents may connect", |health| {
                health["instances"][1]["agentUrl"].is_string()
            })
            .await;
        let before = manager.health().await.unwrap();
        let victim = instance_process(data.path(), 1).unwrap();
        kill(victim, Signal::SIGKILL).unwrap();
        manager
            .until("another life", |health| {
                let instance = &health["instances"][1];
                instance["state"] == "up" && instance["epoch"] != epoch && instance["agentUrl"].is_string()
            })
            .await;
        let now = manager.health().await.unwrap();
        assert_eq!(now["instances"][1]["starts"], 1 + kills);
        assert_eq!(now["instances"][0]["epoch"], untouched);
        if now["instances"][1]["agentUrl"] == before["instances"][1]["agentUrl"] {
            manager.stop();
            return;
        }
    }
    panic!("it never comes back where agents know it");
}

#[tokio::test]
async fn the_configured_ceiling_of_memory_reaches_both_instances() {
    let data = tempfile::tempdir().unwrap();
    let config = data.path().join("routewright.toml");
    std::fs::write(&config, "[limits]\nmemory_mib = 512\n").unwrap();
    let mut manager = Manager::start_with(data.path(), &["--config", config.to_str().unwrap()]);
    manager
        .until("both tell their ceiling", |health| {
            let ceiling = |index: usize| health["instances"][index]["memory"]["ceilingBytes"].as_u64();
            [0, 1].map(ceiling) == [Some(512 << 20); 2]
        })
        .await;
    manager.stop();
}

#[tokio::test]
async fn an_instance_that_cannot_keep_the_intent_makes_health_say_so() {
    let data = tempfile::tempdir().unwrap();
    // Where it would write the intent is something that cannot be written: from the start, since a running instance writes there
    // whenever it likes.
    let obstacle = data.path().join("run/instance-1.intent.next");
    std::fs::create_dir_all(&obstacle).unwrap();
    let mut manager = Manager::start(data.path());
    manager
        .until("the problem is told", |health| {
            let problems = health["problems"].to_string();
            health["status"] == "degraded" && problems.contains("instance 1") && problems.contains("cannot be kept")
        })
        .await;
    std::fs::remove_dir(&obstacle).unwrap();
    manager
        .until("it follows the intent", |health| health["status"] == "ok")
        .await;
    manager.stop();
}

#[tokio::test]
async fn a_second_manager_is_refused_whether_by_directory_or_by_port() {
    let data = tempfile::tempdir().unwrap();
    let mut manager = Manager::start(data.path());
    let directory = data.path().to_str().unwrap();
    let refused = serve(&["--data-dir", directory, "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && words.contains("--data-dir"), "{words}");

    let port = manager.url.trim_start_matches("http://").to_owned();
    let refused = serve(&["--dev", "--listen", &port]).output().unwrap();
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && words.contains("--listen"), "{words}");
    manager.stop();
}

/// Whenever the manager is killed while clients write, what was acknowledged is there afterwards, as it was acknowledged, and the
/// activity log has an event for each change and none for a change that was not made.
#[tokio::test]
async fn a_manager_that_is_killed_while_it_writes_loses_nothing_acknowledged_and_halves_nothing() {
    const ROUNDS: usize = 12;
    const WRITERS: usize = 4;
    let data = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 0..=ROUNDS {
        let mut manager = Manager::start(data.path());
        let client = api::http::plain_client().build().unwrap();
        let group = format!("{}{GROUP}", manager.url);
        let made = client
            .put(format!("{group}{VERSION}"))
            .json(&json!({"location": "westeurope"}));
        assert!(made.send().await.unwrap().status().is_success());
        check_nothing_lost(&client, &manager.url, &acknowledged).await;
        if round == ROUNDS {
            manager.stop();
            return;
        }
        let (told, mut tellings) = tokio::sync::mpsc::unbounded_channel();
        for writer in 0..WRITERS {
            let (client, group, told) = (client.clone(), group.clone(), told.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    let name = format!("t{round}-{writer}-{number}");
                    let url = format!("{group}/{TABLES}/{name}{VERSION}");
                    let put = client.put(url).json(&json!({"location": "westeurope"})).send().await;
                    let Ok(answer) = put else { return };
                    assert_eq!(answer.status().as_u16(), 201);
                    let Ok(body) = answer.json::<Value>().await else { return };
                    let _ = told.send((name, body["etag"].clone()));
                }
            });
        }
        drop(told);
        for _ in 0..1 + 3 * round {
            let (name, etag) = tellings.recv().await.expect("writers go on");
            acknowledged.insert(name, etag);
        }
        manager.process.kill().unwrap();
        manager.process.wait().unwrap();
        // What was answered in the last moment counts as well; this ends when all writers have given up.
        while let Some((name, etag)) = tellings.recv().await {
            acknowledged.insert(name, etag);
        }
    }
}

const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg";
const TABLES: &str = "providers/Microsoft.Network/routeTables";
const VERSION: &str = "?api-version=2022-01-01";

async fn check_nothing_lost(client: &reqwest::Client, url: &str, acknowledged: &BTreeMap<String, Value>) {
    let tables = all(client, format!("{url}{GROUP}/{TABLES}{VERSION}")).await;
    let found: BTreeMap<String, Value> = tables
        .iter()
        .map(|table| (table["name"].as_str().unwrap().to_owned(), table["etag"].clone()))
        .collect();
    for (name, etag) in acknowledged {
        assert_eq!(found.get(name), Some(etag), "{name}");
    }
    let (subscription, _) = GROUP.split_once("/resourceGroups").unwrap();
    let log = format!("{url}{subscription}/providers/Microsoft.Insights/eventtypes/management/values{VERSION}");
    let events = all(client, log).await;
    let mut logged: Vec<&str> = events
        .iter()
        .filter_map(|event| event["resourceId"].as_str()?.split_once("/routeTables/"))
        .map(|(_, name)| name)
        .collect();
    logged.sort_unstable();
    let mut stored: Vec<&str> = found.keys().map(String::as_str).collect();
    stored.sort_unstable();
    assert_eq!(logged, stored);
}

/// Every item of a list, page by page.
async fn all(client: &reqwest::Client, first: String) -> Vec<Value> {
    let mut items = Vec::new();
    let mut next = Some(first);
    while let Some(url) = next {
        let mut page: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        next = page["nextLink"].as_str().map(str::to_owned);
        items.append(page["value"].as_array_mut().unwrap());
    }
    items
}

#[test]
fn every_mistake_in_the_configuration_is_told_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("routewright.toml");
    std::fs::write(&file, "[limits]\npeers = -1\nvm = 3\n[store]\nkind = \"paper\"\n").unwrap();
    let refused = serve(&["--check", "--config", file.to_str().unwrap()])
        .output()
        .unwrap();
    let words = String::from_utf8(refused.stderr).unwrap();
    for place in [":2:9: ", ":3:1: ", ":5:8: "] {
        assert!(words.contains(&format!("routewright.toml{place}")), "{words}");
    }
    assert!(!refused.status.success());
}

struct Manager {
    process: Child,
    url: String,
}

impl Manager {
    fn start(data: &Path) -> Manager {
        Manager::start_with(data, &[])
    }

    fn start_with(data: &Path, more: &[&str]) -> Manager {
        let mut command = serve(&["--dev", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()]);
        let (process, url) = serve::start(command.args(more));
        Manager { process, url }
    }

    async fn until(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = self.health().await.unwrap();
            if condition(&health) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {health}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn health(&self) -> Option<Value> {
        let client = api::http::plain_client().build().ok()?;
        let answer = client
            .get(format!("{}/routewright/v1/health", self.url))
            .send()
            .await
            .ok()?;
        answer.json().await.ok()
    }

    /// Of both instances, once they are up.
    async fn epochs(&self) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = self.health().await.unwrap_or_default();
            let instances = health["instances"].as_array().cloned().unwrap_or_default();
            if instances.len() == 2 && instances.iter().all(|instance| instance["state"] == "up") {
                return instances.iter().map(|instance| instance["epoch"].clone()).collect();
            }
            assert!(Instant::now() < deadline, "{health}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn stop(&mut self) {
        let pid = i32::try_from(self.process.id()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Manager {
    /// A failed test must leave no processes behind.
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            let pid = i32::try_from(self.process.id()).unwrap();
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let _ = self.process.wait();
        }
    }
}

fn serve(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_routewright"));
    command
        .arg("serve")
        .args(arguments)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null());
    command
}

/// An orderly stop asks the instances to end, and does not wait for ever until they have.
fn instances_end(data: &Path) {
    let deadline = Instant::now() + PATIENCE;
    for index in 0..2 {
        while instance_process(data, index).is_some() {
            assert!(Instant::now() < deadline, "instance {index} is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The process that runs this index for this data directory.
fn instance_process(data: &Path, index: usize) -> Option<Pid> {
    let run_dir = data.join("run");
    let mut processes = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let mut line = Vec::new();
        std::fs::File::open(entry.path().join("cmdline"))
            .ok()?
            .read_to_end(&mut line)
            .ok()?;
        let words: Vec<&str> = line
            .split(|byte| *byte == 0)
            .filter_map(|word| std::str::from_utf8(word).ok())
            .collect();
        let index = index.to_string();
        let ours =
            words.contains(&run_dir.to_str()?) && words.windows(2).any(|pair| pair == ["--index", index.as_str()]);
        ours.then_some(Pid::from_raw(pid))
    });
    processes.next()
}
