//! A real server for tests of the command line.

mod serve;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// No test waits longer for a server.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server of its own for each test; it ends with it.
pub(crate) struct Server {
    process: Child,
    url: String,
    pub(crate) place: TempDir,
}

impl Server {
    pub(crate) fn start() -> Server {
        let place = TempDir::new().unwrap();
        let data = place.path().join("data");
        Server::over(&data, place)
    }

    /// Over a data directory; `place` is for what else a test needs.
    pub(crate) fn over(data: &Path, place: TempDir) -> Server {
        let mut serve = command(&["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]);
        let (process, url) = serve::start(serve.arg(data).stderr(Stdio::null()));
        Server { process, url, place }
    }

    /// With a group, a virtual network and a Standard public address.
    pub(crate) fn with_network() -> Server {
        let server = Server::start();
        server.does("group create -n g -l westeurope");
        server.does("vnet create -g g -n hub --address-prefixes 10.77.0.0/16 --subnet-name RouteServerSubnet --subnet-prefixes 10.77.0.0/26");
        server.does("vnet subnet create -g g --vnet-name hub -n GatewaySubnet --address-prefixes 10.77.255.0/27");
        server.does("vnet subnet create -g g --vnet-name hub -n web --address-prefixes 10.77.1.0/24");
        server.does("public-ip create -g g -n ip");
        server
    }

    pub(crate) fn run(&self, words: &str) -> Output {
        let words = shlex::split(words).unwrap();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        command(&words).args(["--server", &self.url]).output().unwrap()
    }

    /// What it prints as JSON.
    pub(crate) fn does(&self, words: &str) -> Value {
        let output = self.run(&format!("{words} -o json"));
        assert!(output.status.success(), "{words}: {}", told(&output));
        match output.stdout.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&output.stdout).unwrap(),
        }
    }

    pub(crate) fn prints(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The first answer that is as it should be: instances that have just started may not know yet.
    #[allow(dead_code, reason = "not every test file waits")]
    pub(crate) fn until(&self, words: &str, is_so: impl Fn(&Output) -> bool) -> Output {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.run(words);
            if is_so(&output) {
                return output;
            }
            assert!(Instant::now() < deadline, "{words}: {}", told(&output));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The words of a refusal, with its exit code.
    pub(crate) fn refuses(&self, words: &str) -> (i32, String) {
        let output = self.run(words);
        (output.status.code().unwrap(), told(&output))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its instances too.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

pub(crate) fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_routewright"));
    command.args(words).env_remove("ROUTEWRIGHT_SERVER");
    command
}

pub(crate) fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
