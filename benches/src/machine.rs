//! What it was measured on, in words: figures without it say nothing.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// The Debian packages of the other speakers and of what else is measured against.
const PACKAGES: [&str; 5] = ["bird2", "frr", "openbgpd", "gobgpd", "iproute2"];

/// Processors, memory and kernel.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores, {:.0} GiB, kernel {}",
        memory_mib() / 1024.0,
        kernel.trim()
    )
}

/// All memory of the machine.
pub(crate) fn memory_mib() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

/// Package → version, of those that are installed.
pub(crate) fn versions() -> BTreeMap<String, String> {
    let version = |package: &str| {
        let output = Command::new("dpkg-query")
            .args(["--show", "--showformat=${Version}", package])
            .output()
            .ok()?;
        let version = String::from_utf8(output.stdout).ok()?;
        Some((package.to_owned(), version)).filter(|(_, version)| output.status.success() && !version.is_empty())
    };
    PACKAGES.into_iter().filter_map(version).collect()
}
