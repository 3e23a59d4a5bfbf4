//! The flows: one script each.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cloud::Cloud;
use crate::tools::Tools;

/// A script for one client.
#[derive(Debug)]
pub struct Flow {
    /// As in `az::quickstart`.
    pub name: &'static str,
    /// The file under `flows/`.
    script: &'static str,
    /// A file that is there when the client is installed.
    pub needs: &'static str,
}

const AZ: &str = "venv/bin/az";
const PYTHON: &str = "venv/lib";
const SCHEMATHESIS: &str = "schemathesis/bin/st";
const NODE: &str = "node_modules/@azure/arm-network";

/// All of them. They run one after another, each in a resource group of its own that it deletes.
pub const FLOWS: [Flow; 9] = [
    flow("az::quickstart", "quickstart.sh", AZ),
    flow("az::tutorial", "tutorial.sh", AZ),
    flow("az::neighbours", "neighbours.sh", AZ),
    flow("az::gateways", "gateways.sh", AZ),
    flow("az::template", "template.sh", AZ),
    flow("az::refusals", "refusals.sh", AZ),
    flow("python::route_server", "route_server.py", PYTHON),
    flow("javascript::route_server", "route_server.mjs", NODE),
    flow("openapi::reports_and_requests_made_up", "openapi.py", SCHEMATHESIS),
];

const fn flow(name: &'static str, script: &'static str, needs: &'static str) -> Flow {
    Flow { name, script, needs }
}

impl Flow {
    /// Runs the script; what it said is the error when it fails.
    pub fn run(&self, cloud: &Cloud, tools: &Tools) -> Result<()> {
        let flows = Path::new(env!("CARGO_MANIFEST_DIR")).join("flows");
        let script = flows.join(self.script);
        let mut command = match script.extension().and_then(|extension| extension.to_str()) {
            Some("sh") => command("bash", &[script.as_path()]),
            Some("py") => command(tools.python(self.needs), &[script.as_path()]),
            _ => {
                // node looks for packages from where the script is.
                let copy = tools.node_directory().join(self.script);
                std::fs::copy(&script, &copy).with_context(|| format!("copying {}", copy.display()))?;
                command("node", &[copy.as_path()])
            }
        };
        cloud.equip(&mut command, tools);
        let output = command.output().with_context(|| format!("running {}", self.script))?;
        if output.status.success() {
            return Ok(());
        }
        bail!(
            "{} ended with {}\n{}{}\nthe server said:\n{}",
            self.script,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            cloud.last_words()
        )
    }
}

fn command(program: impl AsRef<std::ffi::OsStr>, arguments: &[&Path]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    // Python's byte code is written once, wherever that is off: without it each `az` compiles its modules again, for seconds.
    command.env_remove("PYTHONDONTWRITEBYTECODE");
    command
}
