//! `routewright serve` as a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Starts it and waits until it takes requests: then it says where, in the one line on its standard output.
pub(crate) fn start(serve: &mut Command) -> (Child, String) {
    let mut process = serve.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let url = line.trim().strip_prefix("routewright API ");
    let url = url.unwrap_or_else(|| panic!("{serve:?} says {line:?}"));
    (process, url.to_owned())
}
