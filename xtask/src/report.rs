//! Counting what test runners say, so that the end of a long run tells in three lines what happened.

use std::io::{BufRead, BufReader, Read, Write};
use std::mem;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

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
    /// Of each test program that failed, which tests, in the order of their ends.
    groups: Vec<Vec<String>>,
    /// Those of the program that runs.
    group: Vec<String>,
    /// How cargo calls the programs that failed, in the same order.
    targets: Vec<String>,
    unstable: Vec<String>,
}

/// A test that failed, and how to run it alone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// What cargo test needs to find its program: `-p X --test Y`.
    pub(crate) target: Vec<String>,
    pub(crate) name: String,
}

impl Tally {
    /// Runs cargo test, lets its output through, and counts. True if all tests passed.
    pub(crate) fn run(&mut self, command: &mut Command) -> Result<bool> {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start cargo")?;
        let stdout = child.stdout.take().context("no output to read")?;
        let stderr = child.stderr.take().context("no errors to read")?;
        let targets = std::thread::scope(|beside| {
            let errors = beside.spawn(|| targets_of(stderr));
            for line in BufReader::new(stdout).split(b'\n') {
                let line = line.context("cannot read the output of cargo test")?;
                let line = String::from_utf8_lossy(&line);
                // A closed standard output must not end the tests.
                let _ = writeln!(std::io::stdout(), "{line}");
                self.count(&line);
            }
            anyhow::Ok(errors.join().unwrap_or_default())
        })?;
        self.targets.extend(targets);
        Ok(child.wait()?.success())
    }

    /// The tests that failed, if cargo's word and the programs' agree: a program that crashed has not said which.
    pub(crate) fn failed(&self) -> Option<Vec<Failed>> {
        let told = self.groups.len() == self.targets.len() && self.groups.iter().all(|group| !group.is_empty());
        let each = self.groups.iter().zip(&self.targets).flat_map(|(group, target)| {
            group.iter().map(|name| Failed {
                target: target.split(' ').map(str::to_owned).collect(),
                name: name.clone(),
            })
        });
        told.then(|| each.collect())
    }

    fn count(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number_before(result, " passed");
            self.failed += number_before(result, " failed");
            self.ignored += number_before(result, " ignored");
            let group = mem::take(&mut self.group);
            if result.starts_with("FAILED") {
                self.groups.push(group);
            }
        } else if line.starts_with("test ") && line.ends_with("FAILED") {
            self.failures.push(line.to_owned());
            self.group.extend(name_of(line));
        } else if line.starts_with("test ") && line.contains(" ... ignored") {
            self.not_run += usize::from(line.contains("NOT RUN"));
            self.reasons.push(line.to_owned());
        }
    }

    /// Takes note that a test which failed passes alone.
    pub(crate) fn unstable(&mut self, test: Failed) {
        self.failures.retain(|line| name_of(line).as_ref() != Some(&test.name));
        self.failed -= 1;
        self.passed += 1;
        self.unstable.push(test.name);
    }

    /// Tests that passed.
    pub(crate) fn passed(&self) -> usize {
        self.passed
    }

    /// Tests that this machine could not run.
    pub(crate) fn not_run(&self) -> usize {
        self.not_run
    }

    pub(crate) fn print(&self, took: Duration) {
        for line in self.failures.iter().chain(&self.reasons) {
            println!("{line}");
        }
        for name in &self.unstable {
            println!("UNSTABLE: {name} failed beside others and passed alone, three times: find out why");
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

/// Lets the errors of cargo test through; returns how it calls the programs that failed.
fn targets_of(errors: impl Read) -> Vec<String> {
    let lines = BufReader::new(errors).split(b'\n').map_while(Result::ok);
    let mut targets = Vec::new();
    for line in lines {
        let line = String::from_utf8_lossy(&line);
        let _ = writeln!(std::io::stderr(), "{line}");
        targets.extend(target_of(&line));
    }
    targets
}

fn target_of(line: &str) -> Option<String> {
    let (_, quoted) = line.split_once("test failed, to rerun pass `")?;
    Some(quoted.split('`').next()?.to_owned())
}

/// `test NAME ... FAILED`, where runners may pad the name.
fn name_of(line: &str) -> Option<String> {
    let name = line.strip_prefix("test ")?.strip_suffix("FAILED")?.trim_end();
    Some(name.strip_suffix("...")?.trim().to_owned())
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
        tally.count("test families_that_were_not_negotiated_are_ignored ... ok");
        tally.count("test gobgp::ping ... ignored, n/a: GoBGP leaves the kernel alone");
        tally.count("test frr::ping ... ignored, NOT RUN: frr is not installed");
        tally.count("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.12s");
        assert_eq!(tally.not_run(), 1);
        assert_eq!(
            (tally.passed, tally.failed, tally.ignored, tally.failures.len()),
            (13, 3, 5, 1)
        );
        assert_eq!(tally.reasons.len(), 2);
    }

    #[test]
    fn what_failed_is_known_with_the_way_to_run_it_again() {
        let mut tally = Tally::default();
        tally.count("test one ... ok");
        tally.count("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.12s");
        tally.count("test two                       ... FAILED");
        tally
            .count("test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.12s");
        let told = "     Running x\nerror: test failed, to rerun pass `-p routewright --test two_machines`\n";
        // Not by `targets_of`, which lets errors through: the run of all tests would take these for its own.
        tally.targets = told.lines().filter_map(target_of).collect();
        let expected = Failed {
            target: ["-p", "routewright", "--test", "two_machines"]
                .map(str::to_owned)
                .into(),
            name: "two".into(),
        };
        let failed = tally.failed().expect("both agree");
        assert_eq!(failed, [expected]);
        // A program that ended without a word of its tests.
        tally
            .targets
            .extend(target_of("error: test failed, to rerun pass `-p crashed --lib`"));
        assert_eq!(tally.failed(), None);

        tally.unstable(failed.into_iter().next().expect("one failed"));
        assert_eq!((tally.passed, tally.failed, tally.failures.len()), (2, 0, 0));
    }
}
