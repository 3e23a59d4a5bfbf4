//! Each lab verb: which namespaces it needs, what it does, what it prints.

use std::io::{IsTerminal, stderr, stdout};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use lab::{Lab, LabError, Pen, Phase, Topology, UpOptions};
use serde_json::json;

use super::{LabArgs, LinkState, Output, Verb};
use crate::output::{print_json, print_text};

pub(super) fn run(args: LabArgs) -> anyhow::Result<ExitCode> {
    // In a user namespace everybody is root, so who we are must be asked first.
    let labs = lab::labs_directory();
    let (name, output) = (args.name.as_str(), args.output);
    let enter = || enter(&labs, name);
    match args.verb {
        Verb::HoldNamespace { .. } => lab::hold_namespace(),
        Verb::Up { topology, fabric_only } => up(&labs, name, topology.as_deref(), fabric_only, output),
        Verb::Status => status(&enter()?, output),
        Verb::Exec { node, command } => exec(&enter()?, &node, &command, output),
        Verb::Kill { node } => count(output, "killed", &node, enter()?.kill(&node)?),
        Verb::Stop { node } => count(output, "stopped", &node, enter()?.stop(&node)?),
        Verb::Start { node } => count(output, "started", &node, enter()?.start(&node)?),
        Verb::Announce { node, prefixes } => {
            let mut lab = enter()?;
            lab.announce(&node, &prefixes)?;
            announced(output, &lab, &node)
        }
        Verb::Withdraw { node, prefixes } => {
            let mut lab = enter()?;
            lab.withdraw(&node, &prefixes)?;
            announced(output, &lab, &node)
        }
        Verb::Link { state, node } => {
            let up = state == LinkState::Up;
            enter()?.set_link(&node, up)?;
            let word = if up { "up" } else { "down" };
            say(
                output,
                &format!("the link of {node} is {word}"),
                json!({ "node": node, "link": up }),
            )
        }
        Verb::Down => down(&labs, name, output),
    }
}

/// Opens a lab and joins the user namespace it lives in, if any.
fn enter(labs: &Path, name: &str) -> anyhow::Result<Lab> {
    let lab = Lab::open(labs, name)?;
    if let Some(holder) = lab.state().holders.values().find(|h| h.is_alive()) {
        lab::join(holder.pid)?;
    }
    Ok(lab)
}

fn up(labs: &Path, name: &str, file: Option<&Path>, fabric_only: bool, output: Output) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let topology = read_topology(file)?;
    let executable: PathBuf = std::env::current_exe().context("finding our own executable")?;
    let options = UpOptions {
        name: name.to_owned(),
        labs: labs.to_owned(),
        executable,
        rootless: lab::become_root()?,
        fabric_only,
        interrupted: Some(&INTERRUPTED),
    };
    catch_signals()?;
    let mut progress = Steps::new(output);
    let lab = match Lab::up(&topology, &options, &mut |step| progress.begin(step)) {
        Ok(lab) => lab,
        Err(error) => return Err(progress.failed(error, labs, name)),
    };
    progress.begin("probing the paths");
    let status = lab.status()?;
    progress.end(&format!(
        "lab {name} is up after {:.1} s",
        start.elapsed().as_secs_f64()
    ));
    if output == Output::Json {
        print_json(&serde_json::to_value(&status)?)?;
    } else {
        show(&lab, &status)?;
        eprintln!("Try:\n{}", pen().suggestions(lab.topology(), &status, &program()));
    }
    let silent: Vec<String> = status
        .probes
        .iter()
        .filter(|p| !p.reached && expects_answer(&lab, &p.to, p.address))
        .map(|p| format!("{} gets no answer from {} ({})", p.from, p.to, p.address))
        .collect();
    if silent.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(LabError::Probes(silent).into())
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Ctrl-C during `lab up` takes away what was made. Handlers, unlike a blocked signal, are not inherited by what is started.
fn catch_signals() -> anyhow::Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for caught in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler does nothing but store a flag.
        unsafe { signal(caught, SigHandler::Handler(interrupt)) }?;
    }
    Ok(())
}

fn read_topology(file: Option<&Path>) -> Result<Topology, LabError> {
    let Some(path) = file else {
        return Ok(Topology::reference());
    };
    let text = std::fs::read_to_string(path).map_err(|source| LabError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(Topology::parse(&path.display().to_string(), &text)?)
}

/// A host answers if what its NVA announces leads to it; in other topologies silence may be what is meant to be shown.
fn expects_answer(lab: &Lab, host: &str, address: IpAddr) -> bool {
    let behind = lab.topology().hosts().find(|(_, h)| h.name == host);
    behind.is_some_and(|(nva, _)| {
        !nva.route_servers.is_empty() && nva.announce.iter().any(|p| p.prefix.contains(&address))
    }) && lab.topology().vnets.len() == 1
        && lab.topology().route_tables.is_empty()
}

fn status(lab: &Lab, output: Output) -> anyhow::Result<ExitCode> {
    let status = lab.status()?;
    if output == Output::Json {
        print_json(&serde_json::to_value(&status)?)?;
    } else {
        show(lab, &status)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(lab: &Lab, status: &lab::Status) -> anyhow::Result<()> {
    let pen = pen();
    let mut text = pen.topology(lab.topology(), status);
    if let Some(why) = status.peers_unknown.as_ref().filter(|_| status.phase == Phase::Up) {
        text += &format!("BGP sessions are not known: {why}\n");
    }
    for vm in &lab.topology().vms {
        let routes = status.routes.get(&vm.name).map(Vec::as_slice).unwrap_or_default();
        text += &format!("\n{}", pen.table(&vm.name, routes));
    }
    if !status.probes.is_empty() {
        text += &format!("\n{}", pen.probes(&status.probes));
    }
    if status.phase == Phase::Building {
        text += "\nThis lab was never finished; `routewright lab down` removes it.\n";
    }
    print_text(&text)?;
    Ok(())
}

fn down(labs: &Path, name: &str, output: Output) -> anyhow::Result<ExitCode> {
    let removed = Lab::down(labs, name)?;
    anyhow::ensure!(
        removed.left.is_empty(),
        "these processes would not end: {:?}",
        removed.left
    );
    let text = format!("lab {name} is gone ({} processes ended)", removed.ended);
    say(output, &text, serde_json::to_value(&removed)?)
}

/// Becomes the command, so that its terminal, signals and exit code are its own.
fn exec(lab: &Lab, node: &str, command: &[String], output: Output) -> anyhow::Result<ExitCode> {
    let (program, arguments) = command.split_first().context("exec needs a command")?;
    let mut command = lab.command(node, program)?;
    command.args(arguments);
    if output == Output::Text {
        let error = command.exec();
        return Err(error).with_context(|| format!("{node}: running {program}"));
    }
    let done = command.output().with_context(|| format!("{node}: running {program}"))?;
    let answer = json!({
        "node": node,
        "exitCode": done.status.code(),
        "stdout": String::from_utf8_lossy(&done.stdout),
        "stderr": String::from_utf8_lossy(&done.stderr),
    });
    print_json(&answer)?;
    let code = done.status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

fn count(output: Output, done: &str, node: &str, processes: usize) -> anyhow::Result<ExitCode> {
    let text = match processes {
        0 => format!("nothing to do for {node}"),
        n => format!("{done} {node} ({n} process{})", if n == 1 { "" } else { "es" }),
    };
    say(output, &text, json!({ "node": node, done: processes }))
}

fn announced(output: Output, lab: &Lab, node: &str) -> anyhow::Result<ExitCode> {
    let paths = lab.state().announced.get(node).map(Vec::as_slice).unwrap_or_default();
    let prefixes: Vec<String> = paths.iter().map(|p| p.prefix.to_string()).collect();
    let list = if prefixes.is_empty() {
        "nothing".to_owned()
    } else {
        prefixes.join(", ")
    };
    let running = lab.node_runs(node);
    let when = if running {
        "announces"
    } else {
        "does not run; when started it will announce"
    };
    say(
        output,
        &format!("{node} {when} {list}"),
        json!({ "node": node, "announces": prefixes, "running": running }),
    )
}

fn say(output: Output, text: &str, value: serde_json::Value) -> anyhow::Result<ExitCode> {
    match output {
        Output::Text => eprintln!("{text}"),
        Output::Json => print_json(&value)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn pen() -> Pen {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    Pen {
        colours: stdout().is_terminal() && wanted,
    }
}

/// How this program was called, for suggestions that can be copied.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    if std::env::var_os("CARGO").is_some() {
        "cargo run --release --".to_owned()
    } else {
        called
    }
}

/// The steps of `lab up` on stderr: one line that changes on a terminal, plain lines elsewhere.
struct Steps {
    output: Output,
    terminal: bool,
    current: Option<(String, Instant)>,
}

impl Steps {
    fn new(output: Output) -> Steps {
        Steps {
            output,
            terminal: stderr().is_terminal(),
            current: None,
        }
    }

    fn begin(&mut self, step: &str) {
        self.finish_current("✓");
        if self.terminal && self.output == Output::Text {
            eprint!("  {step} …");
        }
        self.current = Some((step.to_owned(), Instant::now()));
    }

    fn finish_current(&mut self, sign: &str) {
        let Some((step, start)) = self.current.take() else {
            return;
        };
        if self.output == Output::Json {
            return;
        }
        let lead = if self.terminal { "\r\x1b[K" } else { "" };
        eprintln!("{lead}{sign} {step} ({} ms)", start.elapsed().as_millis());
    }

    fn end(&mut self, text: &str) {
        self.finish_current("✓");
        if self.output == Output::Text {
            eprintln!("{text}\n");
        }
    }

    fn failed(&mut self, error: LabError, labs: &Path, name: &str) -> anyhow::Error {
        self.finish_current("✗");
        let stays = labs.join(name).is_dir() && !matches!(error, LabError::Exists(_) | LabError::BadName(_));
        let context = if stays {
            format!(
                "lab {name} did not get ready. It stays for you to look at (logs in {}); `lab down` removes it",
                labs.join(name).join("logs").display()
            )
        } else {
            format!("lab {name} did not come up")
        };
        anyhow::Error::new(error).context(context)
    }
}
