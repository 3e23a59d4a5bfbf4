//! What the tests want from Debian: the other BGP speakers, the tools that some checks compare against, and what Azure's clients run
//! on; and from PyPI and npm those clients themselves.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

struct Package {
    name: &'static str,
    /// A file that is there when the package is.
    proof: &'static str,
    why: &'static str,
}

const PACKAGES: [Package; 11] = [
    Package {
        name: "frr",
        proof: "/usr/lib/frr/bgpd",
        why: "interop and benchmarks with FRR",
    },
    Package {
        name: "bird2",
        proof: "/usr/sbin/bird",
        why: "interop and benchmarks with BIRD 2",
    },
    Package {
        name: "gobgpd",
        proof: "/usr/bin/gobgpd",
        why: "interop and benchmarks with GoBGP",
    },
    Package {
        name: "openbgpd",
        proof: "/usr/sbin/bgpctl",
        why: "interop and benchmarks with OpenBGPD",
    },
    Package {
        name: "exabgp",
        proof: "/usr/sbin/exabgp",
        why: "interop with ExaBGP",
    },
    Package {
        name: "etcd-server",
        proof: "/usr/bin/etcd",
        why: "the shared store",
    },
    Package {
        name: "etcd-client",
        proof: "/usr/bin/etcdctl",
        why: "compacting the shared store",
    },
    Package {
        name: "iproute2",
        proof: "/sbin/ip",
        why: "comparing the agent with ip -batch",
    },
    Package {
        name: "python3-venv",
        proof: "/usr/share/doc/python3-venv",
        why: "az, Azure's SDK for Python and schemathesis",
    },
    Package {
        name: "nodejs",
        proof: "/usr/bin/node",
        why: "Azure's SDK for JavaScript",
    },
    Package {
        name: "npm",
        proof: "/usr/bin/npm",
        why: "installing Azure's SDK for JavaScript",
    },
];

/// Installs Azure's clients into the target directory. Without them the tests that need them say that they did not run.
pub(crate) fn install_clients() {
    std::thread::scope(|all| {
        for (what, install) in [
            (
                "az and the SDK for Python",
                (|| python("requirements.txt", "venv")) as fn() -> Result<()>,
            ),
            ("schemathesis", || python("schemathesis.txt", "schemathesis")),
            ("the SDK for JavaScript", javascript),
        ] {
            all.spawn(move || {
                if let Err(error) = install() {
                    eprintln!("   not installed: {what}: {error:#}");
                }
            });
        }
    });
}

/// A virtual environment in the target directory, with what a file of `clients/` pins.
fn python(pins: &str, environment: &str) -> Result<()> {
    let (place, wanted) = clients(pins)?;
    let venv = place.join(environment);
    let stamp = venv.join(pins);
    if is_same(&wanted, &stamp) {
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    // Byte code of the modules that are used is made when they are: az has ten thousand others.
    run(Command::new(venv.join("bin/pip"))
        .args(["install", "--quiet", "--no-compile", "--requirement"])
        .arg(&wanted))?;
    std::fs::copy(wanted, stamp)?;
    Ok(())
}

/// Node modules in the target directory, as `clients/package.json` pins them.
fn javascript() -> Result<()> {
    let (place, wanted) = clients("package.json")?;
    let stamp = place.join("node_modules/.package.json");
    if is_same(&wanted, &stamp) {
        return Ok(());
    }
    std::fs::copy(&wanted, place.join("package.json"))?;
    run(Command::new("npm")
        .args(["install", "--silent", "--no-fund", "--no-audit"])
        .current_dir(&place))?;
    std::fs::copy(wanted, stamp)?;
    Ok(())
}

/// Where the clients are installed, and the file that says which.
fn clients(pins: &str) -> Result<(PathBuf, PathBuf)> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("cannot run cargo metadata")?;
    let place = metadata.target_directory.join("clients").into_std_path_buf();
    std::fs::create_dir_all(&place)?;
    Ok((
        place,
        metadata.workspace_root.join("clients").join(pins).into_std_path_buf(),
    ))
}

fn is_same(wanted: &Path, stamp: &Path) -> bool {
    matches!((std::fs::read(wanted), std::fs::read(stamp)), (Ok(wanted), Ok(stamp)) if wanted == stamp)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!(
            "{:?} failed:\n{}",
            command.get_program(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Installs what is missing when it may, otherwise says what is missing and goes on: tests that need it say that they did not run.
pub(crate) fn install_debian() -> Result<()> {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|p| !Path::new(p.proof).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        eprintln!("   missing: {} ({})", package.name, package.why);
    }
    let names: Vec<&str> = missing.iter().map(|p| p.name).collect();
    if !Path::new("/usr/bin/apt-get").exists() || !is_root()? {
        eprintln!(
            "   not installed, because this needs root and apt: apt-get install {}",
            names.join(" ")
        );
        return Ok(());
    }
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"][..], &names].concat())
}

fn is_root() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let uids = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap_or_default();
    Ok(uids.split_whitespace().nth(1) == Some("0"))
}

fn apt(arguments: &[&str]) -> Result<()> {
    // The packages' own services must not start: the tests run each speaker in a namespace of its own.
    let output = Command::new("apt-get")
        .args(["--quiet", "--quiet"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .output()
        .context("cannot start apt-get")?;
    if !output.status.success() {
        bail!(
            "apt-get {} failed:\n{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
