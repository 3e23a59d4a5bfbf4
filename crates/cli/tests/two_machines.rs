//! Two managers, each with one instance, over one etcd of three members: real processes, as on two machines.
//!
//! ```text
//!   serve --instance 0 ──┐                ┌── etcd, etcd, etcd
//!                        ├── transactions ┤
//!   serve --instance 1 ──┘     watch      └── killed, or stopped for a while
//! ```
#![allow(clippy::unwrap_used)]

#[path = "common/serve.rs"]
mod serve;

use std::future::Future;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use daemon::store::etcd::cluster::{self, Cluster};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// No step takes longer, also on a machine ten times slower.
const PATIENCE: Duration = Duration::from_secs(180);
const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg";
const HUB: &str = "providers/Microsoft.Network/virtualNetworks/hub";
const TABLES: &str = "providers/Microsoft.Network/routeTables";
const VERSION: &str = "?api-version=2022-01-01";

/// Three members; `None` where etcd is not installed, which is a failure in CI.
fn etcd() -> Option<Cluster> {
    if cluster::is_installed() {
        return Some(Cluster::start(3).unwrap());
    }
    let problem = "test with etcd NOT RUN: /usr/bin/etcd (package etcd-server) is not installed";
    assert!(std::env::var_os("CI").is_none(), "{problem}");
    eprintln!("{problem}");
    None
}

#[tokio::test]
async fn what_is_written_at_one_machine_both_instances_follow() {
    let Some(etcd) = etcd() else { return };
    let [first, second] = Machine::two(&etcd).await;
    first.makes("", json!({"location": "westeurope"})).await;
    first.makes(HUB, network(&["10.1.0.0/16"])).await;
    for machine in [&first, &second] {
        machine.until_found(HUB).await;
    }
    let version = first.health().await["intentVersion"].clone();
    for machine in [&first, &second] {
        let what = format!("instance {} follows version {version}", machine.instance);
        machine
            .until(&what, |health| health["instances"][0]["intentVersion"] == version)
            .await;
    }
    // And the other way round, on what the first has written.
    second
        .makes(
            &format!("{HUB}/subnets/web"),
            json!({"properties": {"addressPrefix": "10.1.1.0/24"}}),
        )
        .await;
    first.until_found(&format!("{HUB}/subnets/web")).await;

    // Each says what it does not know.
    let peers = first.get("/routewright/v1/peers").await.1;
    assert_eq!(peers["elsewhere"], json!([1]), "{peers}");
    let drain = first
        .send(Method::POST, "/routewright/v1/instances/1/drain", None)
        .await;
    assert!(drain.1.to_string().contains("another machine"), "{drain:?}");
}

/// Each request goes to the other machine than the one before, and nothing is waited for.
#[tokio::test]
async fn a_client_behind_a_load_balancer_finds_at_either_machine_what_it_wrote_at_the_other() {
    const SUBNETS: usize = 20;
    let Some(etcd) = etcd() else { return };
    let [first, second] = Machine::two(&etcd).await;
    first.makes("", json!({"location": "westeurope"})).await;
    second.makes(HUB, network(&["10.0.0.0/8"])).await;
    let [mut one, mut other] = [&first, &second];
    for number in 0..SUBNETS {
        let path = format!("{HUB}/subnets/s{number}");
        let body = json!({"properties": {"addressPrefix": format!("10.{number}.0.0/16")}});
        one.makes(&path, body).await;
        let (status, told) = other.get(&below_group(&path)).await;
        assert_eq!(status, StatusCode::OK, "{path}: {told}");
        std::mem::swap(&mut one, &mut other);
    }
    // How it went is told by the other machine, too.
    let hub = below_group("providers/Microsoft.Network/virtualHubs/rs");
    let put = first.client.put(format!("{}{hub}", first.url));
    let body = json!({"location": "westeurope", "properties": {"sku": "Standard"}});
    let made = put.json(&body).send().await.unwrap();
    let poll = made.headers()["azure-asyncoperation"].to_str().unwrap();
    let path = poll.strip_prefix(&first.url).unwrap();
    let (status, told) = second.get(path).await;
    assert_eq!(
        (status, &told["status"]),
        (StatusCode::OK, &json!("Succeeded")),
        "{told}"
    );
    // What one machine has made the other one deletes; it is not taken for something that never was.
    for number in 0..SUBNETS {
        let path = below_group(&format!("{TABLES}/t{number}"));
        one.makes(&format!("{TABLES}/t{number}"), json!({"location": "westeurope"}))
            .await;
        let (status, told) = other.send(Method::DELETE, &path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {told}");
        let (status, _) = one.get(&path).await;
        if status == StatusCode::OK {
            // The first may read its copy; who writes there finds out.
            let (status, told) = one.send(Method::DELETE, &path, None).await;
            assert_eq!(status, StatusCode::NO_CONTENT, "{path}: {told}");
        }
        std::mem::swap(&mut one, &mut other);
    }
}

#[tokio::test]
async fn one_machine_is_upgraded_only_while_the_other_ones_instance_speaks() {
    let Some(etcd) = etcd() else { return };
    let [first, mut second] = Machine::two(&etcd).await;
    first.makes("", json!({"location": "westeurope"})).await;
    let before = first.epoch().await;
    let (code, told) = first.upgrades(&[]).await;
    assert_eq!(code, 0, "{told}");
    assert!(!told.contains("WARNING"), "{told}");
    let after = first.epoch().await;
    assert_ne!(after, before, "another process");

    second.die();
    first
        .until("the second is missed", |health| {
            health["managers"][0]["goneSince"].is_string()
        })
        .await;
    let (code, told) = first.upgrades(&["--timeout", "1"]).await;
    assert_eq!(code, 1, "{told}");
    for said in [
        "the manager of instance 1",
        "has not been heard of",
        "was not restarted",
        "--force",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
    let health = first.health().await;
    assert_eq!(health["instances"][0]["epoch"], after, "it went on");
    first
        .until("it is not left drained", |health| {
            health["instances"][0]["drained"] == json!(false)
        })
        .await;
    let (code, told) = first.upgrades(&["--force"]).await;
    assert_eq!(code, 0, "{told}");
    assert_ne!(first.epoch().await, after);
}

#[tokio::test]
async fn two_machines_that_are_upgraded_at_once_are_so_one_after_the_other() {
    let Some(etcd) = etcd() else { return };
    let [first, second] = Machine::two(&etcd).await;
    first.makes("", json!({"location": "westeurope"})).await;
    let drains = async |machine: &Machine, on: bool| {
        let path = format!("/routewright/v1/instances/{}/drain?told=true&on={on}", machine.instance);
        let (status, told) = machine.send(Method::POST, &path, None).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{told}");
    };
    // The first is at it, and the second hears of it before it looks.
    drains(&first, true).await;
    let before = second.epoch().await;
    let (code, told) = second.upgrades(&[]).await;
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("itself") && told.contains("instance 1 was not restarted"),
        "{told}"
    );
    assert_eq!(second.epoch().await, before);
    second
        .until("it is as before", |health| {
            health["instances"][0]["drained"] == json!(false)
        })
        .await;
    // So it is where the operator had drained the second before.
    drains(&second, true).await;
    assert_eq!(second.upgrades(&[]).await.0, 1);
    for machine in [&first, &second] {
        drains(machine, false).await;
    }
    // Both at once: the first is upgraded; the second before, after, or not.
    let ([one, other], before) = ([&first, &second], [first.epoch().await, second.epoch().await]);
    let (upgraded, gave_way) = tokio::join!(one.upgrades(&[]), other.upgrades(&[]));
    assert_eq!(upgraded.0, 0, "{}", upgraded.1);
    assert_ne!(one.epoch().await, before[0]);
    match gave_way.0 {
        0 => assert_ne!(other.epoch().await, before[1]),
        _ => {
            assert!(gave_way.1.contains("instance 1 was not restarted"), "{}", gave_way.1);
            assert_eq!(other.epoch().await, before[1]);
        }
    }
}

#[tokio::test]
async fn a_manager_that_is_started_without_etcd_says_so_and_starts_when_it_is_there() {
    let Some(mut etcd) = etcd() else { return };
    let mut first = Machine::start(&etcd, 0).await;
    first.makes("", json!({"location": "westeurope"})).await;
    first.die();
    for member in 0..3 {
        etcd.kill(member);
    }
    let refused = command(first.place.path(), &etcd, 0).output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{words}");
    for url in etcd.endpoints() {
        assert!(
            words.contains("etcd does not answer") && words.contains(&url),
            "{words}"
        );
    }
    for member in 0..3 {
        etcd.run(member).unwrap();
    }
    etcd.wait_for_leader().unwrap();
    first.start_again(&etcd).await;
    first.until_found("").await;
}

#[tokio::test]
async fn two_machines_that_write_at_once_lose_no_update_and_break_no_rule() {
    const EACH: usize = 25;
    let Some(etcd) = etcd() else { return };
    let machines = Machine::two(&etcd).await;
    machines[0].makes("", json!({"location": "westeurope"})).await;
    machines[0].makes(HUB, network(&["10.0.0.0/8"])).await;
    machines[1].until_found(HUB).await;
    let subnet = |number: usize| json!({"properties": {"addressPrefix": format!("10.{number}.0.0/16")}});
    // Subnets of one network, half of them wanted by both under other names: one of each pair must be refused.
    let writes = machines.iter().map(|machine| async {
        let mut done = Vec::new();
        for number in 0..EACH {
            let (name, place) = match number % 2 {
                0 => (format!("both-{number}-{}", machine.instance), number),
                _ => (
                    format!("own-{number}-{}", machine.instance),
                    number + 100 * machine.instance,
                ),
            };
            let path = format!("{HUB}/subnets/{name}");
            let (status, body) = machine.put(&path, subnet(place)).await;
            match status {
                StatusCode::CREATED => done.push(name),
                StatusCode::BAD_REQUEST if number % 2 == 0 => {}
                _ => panic!("{name}: {status} {body}"),
            }
        }
        done
    });
    let done: Vec<String> = futures_join(writes).await.into_iter().flatten().collect();
    assert_eq!(done.len(), EACH.div_ceil(2) + 2 * (EACH / 2), "{done:?}");
    for machine in &machines {
        for name in &done {
            machine.until_found(&format!("{HUB}/subnets/{name}")).await;
        }
        let (_, hub) = machine.get(&format!("{GROUP}/{HUB}{VERSION}")).await;
        assert_eq!(hub["properties"]["subnets"].as_array().unwrap().len(), done.len());
    }
    // An etag is one on both: a condition that the other machine has overtaken does not hold.
    let path = format!("{GROUP}/{HUB}{VERSION}");
    let etag = machines[0].get(&path).await.1["etag"].as_str().unwrap().to_owned();
    machines[1].makes(&format!("{HUB}/subnets/late"), subnet(250)).await;
    let put = machines[0].client.put(format!("{}{path}", machines[0].url));
    let put = put
        .header("if-match", etag)
        .json(&network(&["10.0.0.0/8"]))
        .send()
        .await
        .unwrap();
    assert_eq!(put.status(), StatusCode::PRECONDITION_FAILED);
}

#[tokio::test]
async fn a_machine_that_dies_is_missed_by_the_other_which_goes_on_and_it_finds_everything_when_it_is_back() {
    let Some(etcd) = etcd() else { return };
    let [mut first, second] = Machine::two(&etcd).await;
    first.makes("", json!({"location": "westeurope"})).await;
    second.until_found("").await;
    second
        .until("the first is there", |health| {
            health["managers"][0]["goneSince"].is_null()
        })
        .await;
    let epoch = second.health().await["instances"][0]["epoch"].clone();
    first.die();
    second
        .makes(&format!("{TABLES}/t"), json!({"location": "westeurope"}))
        .await;
    second
        .until("the first is missed", |health| {
            health["status"] == "degraded"
                && health["managers"][0]["goneSince"].is_string()
                && health["problems"].to_string().contains("the manager of instance 0")
        })
        .await;
    let metrics = second.text("/metrics").await;
    assert!(
        metrics.contains("routewright_manager_other_present{instance=\"0\"} 0"),
        "{metrics}"
    );

    first.start_again(&etcd).await;
    first.until_found(&format!("{TABLES}/t")).await;
    second.until("all is well", |health| health["status"] == "ok").await;
    assert_eq!(
        second.health().await["instances"][0]["epoch"],
        epoch,
        "its instance went on"
    );
}

#[tokio::test]
async fn a_second_manager_of_the_same_instance_is_refused() {
    let Some(etcd) = etcd() else { return };
    let first = Machine::start(&etcd, 0).await;
    let place = tempfile::tempdir().unwrap();
    let refused = command(place.path(), &etcd, 0).output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{words}");
    assert!(
        words.contains("instance 0 is run by") && words.contains("--instance"),
        "{words}"
    );
    drop(first);
    // An orderly end gives the place free at once.
    let second = Machine::start(&etcd, 0).await;
    assert_eq!(second.health().await["instances"][0]["index"], 0);
}

#[tokio::test]
async fn without_etcd_reads_go_on_writes_are_refused_and_all_heals_on_return() {
    let Some(mut etcd) = etcd() else { return };
    let machines = Machine::two(&etcd).await;
    machines[0].makes("", json!({"location": "westeurope"})).await;
    machines[1].until_found("").await;
    let epochs = futures_join(machines.iter().map(Machine::epoch)).await;

    // One of three is not missed, however it goes.
    etcd.kill(0);
    machines[0]
        .makes(&format!("{TABLES}/a"), json!({"location": "westeurope"}))
        .await;
    machines[1]
        .makes(&format!("{TABLES}/b"), json!({"location": "westeurope"}))
        .await;

    // Without the second there is no majority.
    etcd.freeze(1);
    for machine in &machines {
        let (status, body) = machine
            .put(&format!("{TABLES}/refused"), json!({"location": "westeurope"}))
            .await;
        let words = body["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{words}");
        assert!(
            words.contains("Nothing was changed") && words.contains("Routing goes on"),
            "{words}"
        );
        assert!(
            etcd.endpoints().iter().all(|url| words.contains(url.as_str())),
            "{words}"
        );
        let (status, _) = machine.get(&format!("{GROUP}/{TABLES}/a{VERSION}")).await;
        assert_eq!(status, StatusCode::OK, "what is known is told");
        let problem = |health: &Value| health["problems"].to_string().contains("etcd does not answer");
        machine.until("health says so", problem).await;
        assert!(
            machine
                .text("/metrics")
                .await
                .contains("routewright_manager_store_writable 0")
        );
    }
    assert_eq!(
        futures_join(machines.iter().map(Machine::epoch)).await,
        epochs,
        "instances go on"
    );

    etcd.go_on(1);
    etcd.run(0).unwrap();
    for machine in &machines {
        machine.until("all is well", |health| health["status"] == "ok").await;
    }
    machines[0]
        .makes(&format!("{TABLES}/c"), json!({"location": "westeurope"}))
        .await;
    for machine in &machines {
        for table in ["a", "b", "c"] {
            machine.until_found(&format!("{TABLES}/{table}")).await;
        }
        let (status, _) = machine.get(&format!("{GROUP}/{TABLES}/refused{VERSION}")).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "what was refused is not there");
    }
    assert_eq!(futures_join(machines.iter().map(Machine::epoch)).await, epochs);
}

#[tokio::test]
async fn principals_roles_settings_and_the_activity_log_are_those_of_both() {
    let Some(etcd) = etcd() else { return };
    let [first, second] = Machine::two(&etcd).await;
    first.makes("", json!({"location": "westeurope"})).await;
    let table = format!("{TABLES}/t");
    first.makes(&table, json!({"location": "westeurope"})).await;
    let settings = format!("/routewright/v1{GROUP}/{table}/settings");
    first.puts(&settings, json!({"import": []})).await;
    let principals = "/routewright/v1/service-principals";
    let (status, made) = first
        .send(Method::POST, principals, Some(json!({"displayName": "shared"})))
        .await;
    assert!(status.is_success(), "{made}");
    second.until_found(&table).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listed = second.get(principals).await.1.to_string();
        if listed.contains(made["clientId"].as_str().unwrap()) {
            break;
        }
        assert!(Instant::now() < deadline, "{listed}");
    }
    assert_eq!(second.get(&settings).await.1, first.get(&settings).await.1);
    let (subscription, _) = GROUP.split_once("/resourceGroups").unwrap();
    let log = format!("{subscription}/providers/Microsoft.Insights/eventtypes/management/values{VERSION}");
    let told = second.get(&log).await.1;
    assert!(told["value"].to_string().contains("/routeTables/t"), "{told}");
}

fn network(prefixes: &[&str]) -> Value {
    json!({"location": "westeurope", "properties": {"addressSpace": {"addressPrefixes": prefixes}}})
}

async fn futures_join<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    futures::future::join_all(all).await
}

/// A manager with its instance.
struct Machine {
    instance: usize,
    process: Child,
    url: String,
    place: TempDir,
    client: reqwest::Client,
}

impl Machine {
    async fn two(etcd: &Cluster) -> [Machine; 2] {
        [Machine::start(etcd, 0).await, Machine::start(etcd, 1).await]
    }

    async fn start(etcd: &Cluster, instance: usize) -> Machine {
        let place = tempfile::tempdir().unwrap();
        let (process, url) = serve::start(&mut command(place.path(), etcd, instance));
        let client = api::http::plain_client().build().unwrap();
        let machine = Machine {
            instance,
            process,
            url,
            place,
            client,
        };
        machine
            .until("its instance is up", |health| health["instances"][0]["state"] == "up")
            .await;
        machine
    }

    async fn start_again(&mut self, etcd: &Cluster) {
        (self.process, self.url) = serve::start(&mut command(self.place.path(), etcd, self.instance));
        self.until("its instance is up", |health| health["instances"][0]["state"] == "up")
            .await;
    }

    /// The power is off: manager and instance are gone at once.
    fn die(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        kill_instance(self.place.path(), self.instance);
    }

    async fn makes(&self, resource: &str, body: Value) {
        let (status, told) = self.put(resource, body).await;
        assert!(status.is_success(), "{resource}: {status} {told}");
    }

    async fn puts(&self, path: &str, body: Value) {
        let (status, told) = self.send(Method::PUT, path, Some(body)).await;
        assert!(status.is_success(), "{path}: {status} {told}");
    }

    /// Below the resource group; the group itself is "".
    async fn put(&self, resource: &str, body: Value) -> (StatusCode, Value) {
        let path = below_group(resource);
        self.send(Method::PUT, &path, Some(body)).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    async fn text(&self, path: &str) -> String {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        answer.text().await.unwrap()
    }

    async fn health(&self) -> Value {
        self.get("/routewright/v1/health").await.1
    }

    /// `routewright upgrade`: its exit code, and what it says.
    async fn upgrades(&self, words: &[&str]) -> (i32, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_routewright"));
        command.args(["upgrade", "--server", &self.url]).args(words);
        let output = command.output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), told)
    }

    async fn epoch(&self) -> Value {
        self.health().await["instances"][0]["epoch"].clone()
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = self.health().await;
            if is_so(&health) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {health}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_found(&self, resource: &str) {
        let path = below_group(resource);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, told) = self.get(&path).await;
            if status == StatusCode::OK {
                return;
            }
            assert!(Instant::now() < deadline, "{path}: {told}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn below_group(resource: &str) -> String {
    match resource {
        "" => format!("{GROUP}{VERSION}"),
        _ => format!("{GROUP}/{resource}{VERSION}"),
    }
}

impl Drop for Machine {
    /// A failed test must leave no processes behind.
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            let pid = i32::try_from(self.process.id()).unwrap();
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let _ = self.process.wait();
        }
    }
}

fn command(place: &Path, etcd: &Cluster, instance: usize) -> Command {
    let config = place.join("routewright.toml");
    std::fs::write(&config, etcd.configuration()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_routewright"));
    command
        .args([
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--instance",
            &instance.to_string(),
        ])
        .arg("--config")
        .arg(config)
        .arg("--data-dir")
        .arg(place.join("data"))
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null());
    command
}

fn kill_instance(place: &Path, instance: usize) {
    let lock = place.join(format!("data/run/instance-{instance}.lock"));
    let pid = std::fs::read_to_string(lock).unwrap();
    kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
}
