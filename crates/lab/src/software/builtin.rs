//! Our own speaker: `routewright nva`, configured by a JSON file that it reads again when its control socket says so.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path as FilePath;
use std::time::{Duration, Instant};

use super::Appliance;
use crate::error::LabError;
use crate::nva::NvaConfig;
use crate::process::ProcessSpec;

/// How long the speaker may take until it answers.
const START: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(super) fn configure(appliance: &Appliance<'_>) -> Result<(), LabError> {
    let config = NvaConfig {
        name: appliance.nva.name.clone(),
        asn: appliance.nva.asn,
        address: appliance.nva.address,
        address_v6: appliance.nva.address_v6,
        neighbours: appliance.neighbours.clone(),
        announce: appliance.paths.to_vec(),
        as_override: appliance.nva.as_override,
        install: true,
        control: appliance.directory.join("control.sock"),
    };
    let text = serde_json::to_string_pretty(&config).expect("the configuration holds only what JSON can say");
    appliance.write("nva.json", &text)
}

pub(super) fn processes(appliance: &Appliance<'_>) -> Vec<(&'static str, ProcessSpec)> {
    let executable = appliance.executable.display().to_string();
    let argv = [executable.as_str(), "nva", "--config", &appliance.file("nva.json")];
    vec![("nva", appliance.process("nva", &argv))]
}

pub(super) fn reload(appliance: &Appliance<'_>) -> Result<(), LabError> {
    let answer = ask(&appliance.directory.join("control.sock"), "reload");
    match answer
        .map_err(LabError::system(format!("{}: asking the NVA", appliance.nva.name)))?
        .as_str()
    {
        "ok" => Ok(()),
        other => Err(LabError::NotPossible {
            node: appliance.nva.name.clone(),
            reason: other.to_owned(),
        }),
    }
}

/// Sends one line to the control socket and reads one.
fn ask(socket: &FilePath, request: &str) -> std::io::Result<String> {
    let deadline = Instant::now() + START;
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(e) if Instant::now() > deadline => return Err(e),
            Err(_) => std::thread::sleep(LOOK_AGAIN),
        }
    };
    stream.set_read_timeout(Some(START))?;
    writeln!(stream, "{request}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}
