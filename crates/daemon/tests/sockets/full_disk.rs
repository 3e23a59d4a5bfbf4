//! A manager whose disk is really full: a small tmpfs in a mount namespace, filled by a file beside the store.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use daemon::manager::ServeOptions;
use serde_json::{Value, json};

use crate::tests;
use crate::world::{mount_disk, until, with_addresses};

tests!(
    a_store_on_a_full_disk_refuses_whole_writes_answers_reads_and_heals,
    a_manager_that_dies_on_a_full_disk_comes_back_on_it_with_everything_acknowledged,
);

/// Makes this executable a manager.
const DATA_DIR: &str = "ROUTEWRIGHT_TEST_DATA_DIR";
/// Of the disk: 4 MiB.
const PAGES: usize = 1024;
const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg";

fn a_store_on_a_full_disk_refuses_whole_writes_answers_reads_and_heals() {
    let disk = tempfile::tempdir().unwrap();
    mount_disk(disk.path(), PAGES);
    with_addresses(&[], || async {
        let manager = Manager::start(disk.path());
        manager.put_table("before", 200).await;
        let ballast = Ballast::fill(disk.path());

        // One of these finds no room: a few may still fit into pages that the store has.
        let mut kept = Vec::new();
        let refused = loop {
            let name = format!("t{}", kept.len());
            let answer = manager.ask("PUT", &manager.table(&name), Some(table(10_000))).await;
            match answer.0 {
                201 => kept.push(name),
                _ => break answer,
            }
            assert!(kept.len() < 1000, "the disk has no end");
        };
        check_refusal(&refused);
        let network = format!("{GROUP}/providers/Microsoft.Network/virtualNetworks/v");
        let subnets: Vec<Value> = (0..100)
            .map(|n| json!({"name": format!("s{n}"), "properties": {"addressPrefix": format!("10.0.{n}.0/24")}}))
            .collect();
        let body = json!({"location": "westeurope", "tags": {"t": "x".repeat(200)}, "properties": {
            "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}, "subnets": subnets}});
        check_refusal(&manager.ask("PUT", &network, Some(body.clone())).await);

        // Nothing of it is there, all else is, and whoever watches is told.
        assert_eq!(manager.ask("GET", &network, None).await.0, 404);
        for name in kept.iter().map(String::as_str).chain(["before"]) {
            assert_eq!(manager.ask("GET", &manager.table(name), None).await.0, 200, "{name}");
        }
        assert!(manager.problems().await.contains("the store takes no writes"));
        assert_eq!(manager.ask("GET", "/healthz", None).await.0, 503);

        drop(ballast);
        let heals = || async { manager.ask("PUT", &network, Some(body.clone())).await.0 == 201 };
        until("writes are taken again", heals).await;
        assert!(!manager.problems().await.contains("the store"));
        let shown = manager.ask("GET", &network, None).await.1;
        assert_eq!(shown["properties"]["subnets"].as_array().unwrap().len(), 100);
    });
}

fn a_manager_that_dies_on_a_full_disk_comes_back_on_it_with_everything_acknowledged() {
    let disk = tempfile::tempdir().unwrap();
    mount_disk(disk.path(), PAGES);
    with_addresses(&[], || async {
        let mut manager = Manager::start(disk.path());
        manager.put_table("before", 200).await;
        let ballast = Ballast::fill(disk.path());
        let mut kept = vec!["before".to_owned()];
        while manager
            .ask("PUT", &manager.table(&format!("t{}", kept.len())), Some(table(10_000)))
            .await
            .0
            == 201
        {
            kept.push(format!("t{}", kept.len()));
        }
        manager.kill();

        let manager = Manager::start(disk.path());
        for name in &kept {
            assert_eq!(manager.ask("GET", &manager.table(name), None).await.0, 200, "{name}");
        }
        let last = manager.table(&format!("t{}", kept.len()));
        assert_eq!(manager.ask("GET", &last, None).await.0, 404, "it was refused");
        drop(ballast);
        let heals = || async { manager.ask("PUT", &last, Some(table(200))).await.0 == 201 };
        until("writes are taken again", heals).await;
    });
}

/// Says what is wrong and what to do.
fn check_refusal((status, body): &(u16, Value)) {
    assert_eq!(
        (*status, body["error"]["code"].as_str()),
        (503, Some("ServiceUnavailable")),
        "{body}"
    );
    let message = body["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("Nothing was changed"), "{message}");
    assert!(message.contains("the disk of the data directory"), "{message}");
}

/// A route table with so many characters of tags, 10,000 at most.
fn table(characters: usize) -> Value {
    let tags: serde_json::Map<String, Value> = (0..characters / 200)
        .map(|n| (format!("t{n}"), json!("x".repeat(200))))
        .collect();
    json!({"location": "westeurope", "tags": tags})
}

/// What takes all the room that there is, until it is dropped.
struct Ballast(PathBuf);

impl Ballast {
    fn fill(disk: &Path) -> Ballast {
        let path = disk.join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        let page = [1; 4096];
        while file.write_all(&page).is_ok() {}
        Ballast(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A manager process on the disk, without instances.
struct Manager {
    process: Child,
    url: String,
    client: reqwest::Client,
}

impl Manager {
    fn start(disk: &Path) -> Manager {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .env(DATA_DIR, disk.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let url = line
            .trim()
            .strip_prefix("routewright API ")
            .expect("it tells its address");
        Manager {
            process,
            url: url.to_owned(),
            client: api::http::plain_client().build().unwrap(),
        }
    }

    fn table(&self, name: &str) -> String {
        format!("{GROUP}/providers/Microsoft.Network/routeTables/{name}")
    }

    async fn put_table(&self, name: &str, characters: usize) {
        let group = self.ask("PUT", GROUP, Some(json!({"location": "westeurope"}))).await;
        assert_eq!(group.0, 201, "{}", group.1);
        let made = self.ask("PUT", &self.table(name), Some(table(characters))).await;
        assert_eq!(made.0, 201, "{}", made.1);
    }

    /// Status and body.
    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("{}{path}?api-version=2022-01-01", self.url);
        let request = self.client.request(method, url);
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn problems(&self) -> String {
        self.ask("GET", "/routewright/v1/health", None).await.1["problems"].to_string()
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether this process is to be a manager; it was one then.
pub(crate) fn be_manager() -> bool {
    let Some(data_dir) = std::env::var_os(DATA_DIR) else {
        return false;
    };
    let options = ServeOptions {
        config: None,
        data_dir: Some(PathBuf::from(data_dir)),
        listen: "127.0.0.1:0".parse().unwrap(),
        tls_listen: None,
        instance: None,
        dev: true,
        keep_instances: false,
        restored: false,
        // Routes are not what this is about.
        executable: Some(PathBuf::from("/bin/false")),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    if let Err(error) = runtime.block_on(daemon::manager::run(options)) {
        eprintln!("{error}");
        std::process::exit(3);
    }
    true
}
