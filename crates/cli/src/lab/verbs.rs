//! Each lab verb: which namespaces it needs, what it does, what it prints.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use lab::{Lab, Topology, UpOptions};

use super::{LabArgs, LinkState, Output, Verb};

pub(super) fn run(args: LabArgs) -> anyhow::Result<ExitCode> {
    if let Verb::HoldNamespace { .. } = args.verb {
        lab::hold_namespace();
    }
    // In a user namespace everybody is root, so who we are must be asked first.
    let labs = lab::labs_directory();
    let name = args.name.as_str();
    match args.verb {
        Verb::Up { topology, fabric_only } => up(&labs, name, topology.as_deref(), fabric_only, args.output),
        Verb::Down => down(&labs, name, args.output),
        Verb::Exec { node, command } => exec(&enter(&labs, name)?, &node, &command, args.output),
        Verb::Link { state, node } => {
            enter(&labs, name)?.set_link(&node, state == LinkState::Up)?;
            done(
                args.output,
                &format!(
                    "the link of {node} is {}",
                    if state == LinkState::Up { "up" } else { "down" }
                ),
            )
        }
        verb => anyhow::bail!("{verb:?} is not built in yet"),
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
    let topology = match file {
        None => Topology::reference(),
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            Topology::parse(&path.display().to_string(), &text)?
        }
    };
    let executable: PathBuf = std::env::current_exe().context("finding our own executable")?;
    let rootless = lab::become_root()?;
    let options = UpOptions {
        name: name.to_owned(),
        labs: labs.to_owned(),
        executable,
        rootless,
        fabric_only,
    };
    let lab = Lab::up(&topology, &options)?;
    done(output, &format!("lab {} is up", lab.state().name))
}

fn down(labs: &Path, name: &str, output: Output) -> anyhow::Result<ExitCode> {
    let removed = Lab::down(labs, name)?;
    anyhow::ensure!(
        removed.left.is_empty(),
        "these processes would not end: {:?}",
        removed.left
    );
    done(
        output,
        &format!("lab {name} is gone ({} processes ended)", removed.ended),
    )
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
    let answer = serde_json::json!({
        "node": node,
        "exitCode": done.status.code(),
        "stdout": String::from_utf8_lossy(&done.stdout),
        "stderr": String::from_utf8_lossy(&done.stderr),
    });
    println!("{answer:#}");
    let code = done.status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

fn done(output: Output, message: &str) -> anyhow::Result<ExitCode> {
    match output {
        Output::Text => eprintln!("{message}"),
        Output::Json => println!("{}", serde_json::json!({ "message": message })),
    }
    Ok(ExitCode::SUCCESS)
}
