//! A fresh server with a fabric of NVAs around it, and what a client needs to know to sign in.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use lab::Topology;
use lab::harness::TestLab;
use serde_json::Value;
use tempfile::TempDir;

use crate::tools::Tools;

/// The network of Azure's quickstart, with two NVAs that keep trying to reach the route server until there is one.
const TOPOLOGY: &str = "
description: the fabric of the client flows
vnets:
  - name: hub
    address_prefixes: [10.0.0.0/16]
    subnets:
      - { name: RouteServerSubnet, prefix: 10.0.1.0/26 }
      - { name: nva, prefix: 10.0.0.0/24 }
      - { name: web, prefix: 10.0.2.0/24 }
route_servers:
  - { name: rs, vnet: hub }
nvas:
  - { name: nva1, subnet: hub/nva, address: 10.0.0.4, asn: 65001, software: frr, announce: [10.250.0.0/16] }
  - { name: nva2, subnet: hub/nva, address: 10.0.0.5, asn: 65002, software: bird, announce: [0.0.0.0/0] }
";

/// The service principals that scripts sign in as.
const SDK: &str = "sdk";
const OWNER: &str = "owner";

/// Ends when dropped.
#[derive(Debug)]
pub struct Cloud {
    server: Child,
    executable: PathBuf,
    url: String,
    // Goes after the server's end and before the directory that it is in.
    _lab: TestLab,
    /// The lab's directory, the server's data, the clients' home.
    home: TempDir,
}

impl Cloud {
    /// Builds the fabric, starts the NVAs and an empty server.
    pub fn up() -> Result<Cloud> {
        let executable = lab::harness::executable()?;
        let home = tempfile::Builder::new().prefix("routewright-clients-").tempdir()?;
        let topology = Topology::parse("clients.yaml", TOPOLOGY)?;
        let name = format!("clients-{}", std::process::id());
        let mut lab = TestLab::up(&topology, &home.path().join("labs"), &name, true)?;
        lab.start_nvas()?;
        let config = home.path().join("serve.toml");
        std::fs::write(&config, lab.serve_config())?;
        let mut server = Command::new(&executable)
            .arg("serve")
            .args(["--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0"])
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(home.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(File::create(home.path().join("serve.log"))?)
            .spawn()
            .context("starting routewright serve")?;
        let url = https_url(&mut server);
        let mut cloud = Cloud {
            server,
            executable,
            url: String::new(),
            _lab: lab,
            home,
        };
        cloud.url = url.with_context(|| format!("the server does not start:\n{}", cloud.last_words()))?;
        Ok(cloud)
    }

    /// The environment that every flow finds: `az` signed in, and what SDKs are given.
    pub(crate) fn equip(&self, command: &mut Command, tools: &Tools) {
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", tools.venv_programs().display()))
            .env("HOME", self.home.path())
            .env("RECIPE", self.home.path().join("recipe.sh"))
            .env("ENDPOINT", &self.url)
            .env("AZURE_CORE_COLLECT_TELEMETRY", "false")
            .env("AZURE_CORE_ONLY_SHOW_ERRORS", "true")
            .envs(self.credentials().unwrap_or_default());
    }

    /// Makes the service principals: one that the recipe signs in as, one for the SDKs, and an owner.
    pub fn sign_in(&self) -> Result<()> {
        std::fs::write(self.home.path().join("recipe.sh"), self.ask(&["az-env"])?)?;
        for (name, role) in [(SDK, "Contributor"), (OWNER, "Owner")] {
            let told = self.ask(&["sp", "create", "--name", name, "--role", role, "-o", "json"])?;
            std::fs::write(self.principal(name), told)?;
        }
        Ok(())
    }

    /// Where it is kept how a service principal signs in.
    fn principal(&self, name: &str) -> PathBuf {
        self.home.path().join(format!("{name}.json"))
    }

    fn credentials(&self) -> Result<Vec<(&'static str, String)>> {
        let read = |name: &str| -> Result<Value> { Ok(serde_json::from_slice(&std::fs::read(self.principal(name))?)?) };
        let (sdk, owner) = (read(SDK)?, read(OWNER)?);
        let text = |told: &Value, name: &str| told[name].as_str().unwrap_or_default().to_owned();
        let authority = self.home.path().join("data/tls/ca.pem").display().to_string();
        Ok(vec![
            ("CLIENT_ID", text(&sdk, "clientId")),
            ("CLIENT_SECRET", text(&sdk, "secret")),
            ("OWNER_ID", text(&owner, "clientId")),
            ("OWNER_SECRET", text(&owner, "secret")),
            ("TENANT", text(&sdk, "tenant")),
            ("REQUESTS_CA_BUNDLE", authority.clone()),
            ("NODE_EXTRA_CA_CERTS", authority),
        ])
    }

    /// A verb of ours, as the administrator of the server.
    fn ask(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let socket = self.home.path().join("data/run/manager.sock");
        let output = Command::new(&self.executable)
            .args(arguments)
            .arg("--server")
            .arg(format!("unix:{}", socket.display()))
            .output()?;
        ensure!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output.stdout)
    }

    /// The end of the server's log.
    pub(crate) fn last_words(&self) -> String {
        /// Lines enough to see what went wrong.
        const LINES: usize = 20;
        let log = std::fs::read_to_string(self.home.path().join("serve.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

/// From the lines that the server prints when it is ready.
fn https_url(server: &mut Child) -> Result<String> {
    let stdout = server.stdout.take().context("stdout is piped")?;
    for line in BufReader::new(stdout).lines().take(2) {
        let line = line?;
        if let Some((_, address)) = line.split_once("https://") {
            return Ok(format!("https://{}", address.trim()));
        }
    }
    bail!("it tells no https address")
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its instances too.
        let _ = Command::new("kill").arg(self.server.id().to_string()).status();
        let _ = self.server.wait();
    }
}

/// What this machine lacks for it, if anything.
pub fn obstacle() -> Option<String> {
    let programs = ["/usr/lib/frr/bgpd", "/usr/sbin/bird"];
    let missing = programs.iter().find(|program| !Path::new(program).exists());
    missing.map(|program| format!("{program} is not installed"))
}
