//! Counting what test runners say, so that the end of a long run tells in three lines what happened.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Sums over all test programs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
    /// Of those ignored: what this machine could not run, though another could. The rest says what a speaker cannot do (`n/a`) or
    /// what is known to be missing.
    not_run: usize,
    failures: Vec<String>,
    reasons: Vec<String>,
}

impl Tally {
    /// Runs cargo test, lets its output through, and counts.
    pub(crate) fn run(&mut self, command: &mut Command) -> Result<()> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
        let stdout = child.stdout.take().context("no output to read")?;
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read the output of cargo test")?;
            // A closed standard output must not end the tests.
            let _ = writeln!(std::io::stdout(), "{line}");
            self.count(&line);
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("cargo test ended with {status}");
        }
        Ok(())
    }

    fn count(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number_before(result, " passed");
            self.failed += number_before(result, " failed");
            self.ignored += number_before(result, " ignored");
        } else if line.starts_with("test ") && line.ends_with("FAILED") {
            self.failures.push(line.to_owned());
        } else if line.starts_with("test ") && line.contains("ignored") {
            self.not_run += usize::from(line.contains("NOT RUN"));
            self.reasons.push(line.to_owned());
        }
    }

    /// Tests that this machine could not run.
    pub(crate) fn not_run(&self) -> usize {
        self.not_run
    }

    pub(crate) fn print(&self, took: Duration) {
        for line in self.failures.iter().chain(&self.reasons) {
            println!("{line}");
        }
        println!(
            "all tests, in {} min {:02} s:",
            took.as_secs() / 60,
            took.as_secs() % 60
        );
        println!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.ignored
        );
    }
}

fn number_before(text: &str, word: &str) -> usize {
    text.find(word)
        .and_then(|end| text[..end].rsplit(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_the_lines_of_the_test_runner() {
        let mut tally = Tally::default();
        tally.count("test result: ok. 12 passed; 3 failed; 4 ignored; 0 measured; 0 filtered out; finished in 0.12s");
        tally
            .count("test result: FAILED. 1 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.12s");
        tally.count("test interop::frr::md5 ... FAILED");
        tally.count("test gobgp::ping ... ignored, n/a: GoBGP leaves the kernel alone");
        tally.count("test frr::ping ... ignored, NOT RUN: frr is not installed");
        tally.count("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.12s");
        assert_eq!(tally.not_run(), 1);
        assert_eq!(
            (tally.passed, tally.failed, tally.ignored, tally.failures.len()),
            (13, 3, 5, 1)
        );
    }
}
