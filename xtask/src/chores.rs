//! Running cargo, step by step, loudly when something fails and quietly otherwise.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::report::{Failed, Tally};
use crate::{deps, packages};

/// `cargo xtask check`.
pub(crate) fn check() -> Result<()> {
    step("formatting", || cargo(&["fmt", "--all", "--check"]))?;
    step("dependency rule", deps::check)?;
    step("lints", || {
        cargo(&[
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ])
    })
}

/// `cargo xtask test`.
pub(crate) fn test(quick: bool, strict: bool) -> Result<()> {
    let started = Instant::now();
    if !quick {
        step("packages", packages::install_debian)?;
    }
    std::thread::scope(|beside| {
        // It mostly waits for the network, so it does that while the compiler works.
        if !quick {
            beside.spawn(packages::install_clients);
        }
        check()?;
        step("build", || cargo(&["build", "--quiet", "--workspace", "--bins"]))?;
        step("benchmarks", benchmarks)
    })?;
    let mut tally = Tally::default();
    let outcome = step("tests", || tests(quick, &mut tally));
    tally.print(started.elapsed());
    outcome?;
    if strict && tally.not_run() > 0 {
        bail!(
            "{} tests could not run, see above; with CI set that is a failure",
            tally.not_run()
        );
    }
    Ok(())
}

/// What the micro-benchmarks measure, in their names.
const BENCHMARKED: [&str; 4] = ["decode", "intern", "decide", "encode"];

/// Builds the micro-benchmarks, with the profile of the tests, and lets them say which they are.
fn benchmarks() -> Result<()> {
    let packages = ["--package", "routewright-bgp", "--package", "routewright-rib"];
    let output = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--bench", "*"])
        .args(packages)
        .args(["--", "--list"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the benchmarks do not build: {}", output.status);
    }
    missing(&String::from_utf8_lossy(&output.stdout)).map_or(Ok(()), |name| bail!("no benchmark measures {name}"))
}

fn missing(listed: &str) -> Option<&'static str> {
    BENCHMARKED
        .into_iter()
        .find(|name| !listed.lines().any(|line| line.contains(name)))
}

fn tests(quick: bool, tally: &mut Tally) -> Result<()> {
    let mut arguments = vec!["test", "--workspace", "--no-fail-fast"];
    if quick {
        arguments.extend(["--exclude", "routewright-interop", "--exclude", "routewright-clients"]);
    }
    // Labs start the binary that was just built, instead of building one of their own.
    let binary = binary()?;
    let mut command = Command::new(env!("CARGO"));
    if tally.run(command.args(arguments).env("ROUTEWRIGHT_BIN", &binary))? {
        return Ok(());
    }
    let failed = tally.failed().unwrap_or_default();
    if failed.is_empty() || failed.len() > RUN_AGAIN {
        bail!("tests failed, see above");
    }
    for test in failed {
        if !passes_alone(&test, &binary)? {
            bail!("{} failed, beside other tests and alone", test.name);
        }
        tally.unstable(test);
    }
    Ok(())
}

/// More failures than these are no accident of a busy machine.
const RUN_AGAIN: usize = 3;

/// What fails beside others has to pass so often alone.
const TIMES: usize = 3;

/// Tests have real processes, kernels and peers, and run beside each other. What fails there and never alone is told, and is a bug to be
/// found, but it does not stop the change that is tested.
fn passes_alone(test: &Failed, binary: &Path) -> Result<bool> {
    for time in 1..=TIMES {
        eprintln!("── again, alone, {time} of {TIMES}: {}", test.name);
        if !passes_once(test, binary)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn passes_once(test: &Failed, binary: &Path) -> Result<bool> {
    let mut command = Command::new(env!("CARGO"));
    let command = command.arg("test").args(&test.target);
    let command = command.args(["--", "--exact", &test.name, "--test-threads=1"]);
    let mut alone = Tally::default();
    let passed = alone.run(command.env("ROUTEWRIGHT_BIN", binary))?;
    Ok(passed && alone.passed() == 1)
}

fn binary() -> Result<PathBuf> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("cannot run cargo metadata")?;
    Ok(metadata.target_directory.join("debug/routewright").into_std_path_buf())
}

/// `cargo xtask install`.
pub(crate) fn install() -> Result<()> {
    packages::install_debian()?;
    packages::install_clients();
    Ok(())
}

/// `cargo xtask bench`.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    packages::install_debian()?;
    cargo(&[
        "build",
        "--release",
        "--quiet",
        "--package",
        "routewright",
        "--package",
        "routewright-bench",
    ])?;
    let mut all = vec!["run", "--release", "--quiet", "--package", "routewright-bench", "--"];
    all.extend(arguments.iter().map(String::as_str));
    cargo(&all)
}

fn step(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    eprintln!("── {name}");
    run().with_context(|| format!("{name} failed"))?;
    eprintln!("   {name}: fine, {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(arguments)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_benchmark_that_is_gone_is_missed() {
        let listed =
            "50,000 prefixes/decode, 100 sets: benchmark\nexport and encode: benchmark\nintern and store: benchmark\n";
        assert_eq!(missing(listed), Some("decide"));
        assert_eq!(missing(&format!("{listed}decide: benchmark\n")), None);
    }
}
