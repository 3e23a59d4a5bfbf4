//! The dependency rule: imports point back along the route's path, never forward; pure crates reach no I/O.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Each crate with those of ours that it may use. The order is the route's path.
const RULE: [(&str, &[&str]); 11] = [
    ("bgp", &[]),
    ("bfd", &[]),
    ("rib", &["bgp"]),
    ("routeserver", &["bgp", "bfd", "rib"]),
    ("arm", &["bgp", "bfd", "rib", "routeserver"]),
    ("api", &["routeserver"]),
    ("daemon", &["bgp", "bfd", "rib", "routeserver", "arm", "api"]),
    ("agent", &["api"]),
    ("lab", &["bgp", "bfd", "routeserver", "api", "daemon", "agent"]),
    ("cli", &["routeserver", "api", "daemon", "agent", "lab"]),
    ("sim", &["bgp", "rib", "routeserver", "arm", "api", "agent"]),
];

const PURE: [&str; 5] = ["bgp", "bfd", "rib", "routeserver", "arm"];

/// Crates that mean sockets, runtimes, clocks or randomness.
const IMPURE: [&str; 12] = [
    "tokio",
    "mio",
    "socket2",
    "rand",
    "getrandom",
    "nix",
    "async-std",
    "hyper",
    "tonic",
    "rusqlite",
    "chrono",
    "jiff",
];

/// Fails with every breach named.
pub(crate) fn check() -> Result<()> {
    let metadata = MetadataCommand::new().exec().context("cannot run cargo metadata")?;
    let mut breaches = forward_imports(&metadata);
    for name in PURE {
        breaches.extend(impurities(&metadata, name)?);
    }
    if breaches.is_empty() {
        return Ok(());
    }
    bail!("{}", breaches.join("\n"));
}

fn package_name(name: &str) -> String {
    if name == "cli" {
        "routewright".to_owned()
    } else {
        format!("routewright-{name}")
    }
}

fn forward_imports(metadata: &Metadata) -> Vec<String> {
    let ours: BTreeSet<String> = RULE.iter().map(|(name, _)| package_name(name)).collect();
    let mut breaches = Vec::new();
    for (name, allowed) in RULE {
        let allowed: BTreeSet<String> = allowed.iter().map(|name| package_name(name)).collect();
        let Some(package) = metadata.packages.iter().find(|p| p.name.as_str() == package_name(name)) else {
            breaches.push(format!("{name}: the crate is missing"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal) {
            if ours.contains(&dependency.name) && !allowed.contains(&dependency.name) {
                breaches.push(format!("{name} must not depend on {}", dependency.name));
            }
        }
    }
    breaches
}

fn impurities(metadata: &Metadata, name: &str) -> Result<Vec<String>> {
    let resolve = metadata.resolve.as_ref().context("cargo metadata gave no graph")?;
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let names: BTreeMap<&PackageId, &str> = metadata.packages.iter().map(|p| (&p.id, p.name.as_str())).collect();
    let root = metadata
        .packages
        .iter()
        .find(|p| p.name.as_str() == package_name(name))
        .context("crate is missing")?;
    let mut seen = BTreeSet::new();
    let mut stack = vec![&root.id];
    let mut breaches = Vec::new();
    while let Some(id) = stack.pop() {
        if !seen.insert(id) {
            continue;
        }
        if IMPURE.contains(&names[id]) {
            breaches.push(format!("{name} is pure, but reaches {}", names[id]));
        }
        let normal = nodes[id]
            .deps
            .iter()
            .filter(|d| d.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal));
        stack.extend(normal.map(|d| &d.pkg));
    }
    Ok(breaches)
}
