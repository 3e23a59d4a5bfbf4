//! What speaks BGP in an NVA: one module per daemon, each of which writes a configuration, says how to start, and
//! announces or withdraws at run time.
//!
//! | software | learned routes reach the NVA's kernel | announces by |
//! |---|---|---|
//! | builtin | yes | its control socket |
//! | frr | yes (zebra) | vtysh |
//! | bird | yes (protocol kernel) | configuration, `birdc configure` |
//! | openbgpd | no, not on Linux: the lab adds static routes to the virtual networks | configuration, `bgpctl reload` |
//! | gobgp | no, likewise | `gobgp global rib` |
//! | exabgp | no, likewise | configuration, SIGUSR1 |
//! | external | that is yours | that is yours |

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::error::LabError;
use crate::layout::StaticRoute;
use crate::namespace::Namespace;
use crate::process::ProcessSpec;
use crate::topology::{Neighbour, Nva, Path, Side, Software, Topology};

mod bird;
mod builtin;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;

/// An NVA with all that its software needs to know.
pub(crate) struct Appliance<'a> {
    /// The NVA.
    pub(crate) nva: &'a Nva,
    /// What it announces now.
    pub(crate) paths: &'a [Path],
    /// Whom it speaks with.
    pub(crate) neighbours: Vec<Neighbour>,
    /// The static routes that its kernel has: to its neighbours, among others.
    pub(crate) static_routes: Vec<StaticRoute>,
    /// Its own directory: configuration, sockets.
    pub(crate) directory: PathBuf,
    /// Its namespace.
    pub(crate) namespace: Namespace,
    /// The routewright executable.
    pub(crate) executable: PathBuf,
    /// Where its processes log: a path without `.log`.
    pub(crate) log: PathBuf,
}

/// How long a daemon may take until it does what its tool asks.
const START: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Azure Route Server's AS number (az §2.1).
const ROUTE_SERVER_ASN: u32 = bgp::Asn::AZURE_ROUTE_SERVER.0;

impl Appliance<'_> {
    /// Writes the configuration of what is announced now.
    pub(crate) fn configure(&self) -> Result<(), LabError> {
        fs::create_dir_all(&self.directory).map_err(LabError::system("making a directory for an NVA"))?;
        match self.nva.software {
            Software::Builtin => builtin::configure(self),
            Software::Frr => frr::configure(self),
            Software::Bird => self.write("bird.conf", &bird::configuration(self)),
            Software::Gobgp => self.write("gobgpd.toml", &gobgp::configuration(self)),
            Software::Openbgpd => self.write("bgpd.conf", &openbgpd::configuration(self)),
            Software::Exabgp => self.write("exabgp.conf", &exabgp::configuration(self)),
            Software::External => Ok(()),
        }
    }

    /// The processes to start, in this order: a short name for each.
    pub(crate) fn processes(&self) -> Vec<(&'static str, ProcessSpec)> {
        match self.nva.software {
            Software::Builtin => builtin::processes(self),
            Software::Frr => frr::processes(self),
            Software::Bird => bird::processes(self),
            Software::Gobgp => gobgp::processes(self),
            Software::Openbgpd => openbgpd::processes(self),
            Software::Exabgp => exabgp::processes(self),
            Software::External => Vec::new(),
        }
    }

    /// A directory outside the lab's own that the software cannot do without.
    pub(crate) fn needs_directory(&self) -> Option<PathBuf> {
        match self.nva.software {
            Software::Openbgpd => openbgpd::chroot_directory(),
            _ => None,
        }
    }

    /// What is left to do when the processes have been started.
    pub(crate) fn after_start(&self) -> Result<(), LabError> {
        match self.nva.software {
            Software::Gobgp => gobgp::announce(self, self.paths),
            _ => Ok(()),
        }
    }

    /// Announces more; the configuration is written already.
    pub(crate) fn announce(&self, more: &[Path]) -> Result<(), LabError> {
        match self.nva.software {
            Software::Frr => frr::announce(self, more),
            Software::Gobgp => gobgp::announce(self, more),
            _ => self.reload(),
        }
    }

    /// Withdraws; the configuration is written already.
    pub(crate) fn withdraw(&self, prefixes: &[IpNet]) -> Result<(), LabError> {
        match self.nva.software {
            Software::Frr => frr::withdraw(self, prefixes),
            Software::Gobgp => gobgp::withdraw(self, prefixes),
            _ => self.reload(),
        }
    }

    fn reload(&self) -> Result<(), LabError> {
        match self.nva.software {
            Software::Builtin => builtin::reload(self),
            Software::Bird => bird::reload(self),
            Software::Openbgpd => openbgpd::reload(self),
            Software::Exabgp => exabgp::reload(self),
            Software::Frr | Software::Gobgp => Ok(()),
            Software::External => Err(LabError::NotPossible {
                node: self.nva.name.clone(),
                reason: "its software is external: announce with your own tools in its namespace".to_owned(),
            }),
        }
    }

    /// Its addresses towards its neighbours.
    fn own_addresses(&self) -> Vec<String> {
        let all: BTreeSet<Ipv4Addr> = self.neighbours.iter().map(|neighbour| neighbour.local).collect();
        all.into_iter().map(|address| address.to_string()).collect()
    }

    /// The paths of a family.
    fn paths_of(&self, ipv6: bool) -> impl Iterator<Item = &Path> {
        self.paths.iter().filter(move |path| path.is_ipv6() == ipv6)
    }

    /// Whether it passes on what one side says to the other.
    fn is_transit(&self) -> bool {
        self.neighbours.iter().any(|neighbour| neighbour.side == Side::Link)
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Writes a file that nobody else can change or, having passwords one day, read.
    fn write(&self, name: &str, content: &str) -> Result<(), LabError> {
        // In one step: a daemon that has just started may be reading it.
        let (path, temporary) = (self.directory.join(name), self.directory.join(format!(".{name}.part")));
        let write = || {
            fs::write(&temporary, content)?;
            fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
            fs::rename(&temporary, &path)
        };
        write().map_err(LabError::system(format!("writing {}", path.display())))
    }

    /// A process in the NVA's namespace.
    fn process(&self, name: &str, argv: &[&str]) -> ProcessSpec {
        ProcessSpec {
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            environment: Default::default(),
            namespace: Some(self.namespace.path().to_owned()),
            log: PathBuf::from(format!("{}.{name}.log", self.log.display())),
            listens_at: None,
        }
    }

    /// Runs a daemon's own tool until it says what one wants to hear: a daemon that has just started may not listen yet, or still
    /// be busy with its start.
    fn run_tool_until(&self, argv: &[&str], content: impl Fn(&str) -> bool) -> Result<String, LabError> {
        let deadline = Instant::now() + START;
        loop {
            let outcome = self.run_tool(argv).and_then(|answer| match content(&answer) {
                true => Ok(answer),
                false => Err(LabError::NotPossible {
                    node: self.nva.name.clone(),
                    reason: format!("{} says: {answer}", argv.join(" ")),
                }),
            });
            if outcome.is_ok() || Instant::now() > deadline {
                return outcome;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Runs a daemon's own tool and takes its word.
    fn run_tool(&self, argv: &[&str]) -> Result<String, LabError> {
        let (program, arguments) = argv.split_first().expect("every tool has a name");
        let output = self.namespace.run(|| Command::new(program).args(arguments).output());
        let output = output.map_err(LabError::system(format!("{}: running {program}", self.nva.name)))?;
        let text = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).trim().to_owned());
        if output.status.success() {
            return Ok(text[0].clone());
        }
        Err(LabError::NotPossible {
            node: self.nva.name.clone(),
            reason: format!("{} says: {}", argv.join(" "), text.join("\n")),
        })
    }
}

/// AS numbers between the NVA's own and the end of the path, as a topology's path options ask.
fn extra_as_path(nva: &Nva, path: &Path) -> Vec<u32> {
    let own = std::iter::repeat_n(nva.asn, usize::from(path.as_path_prepend));
    own.chain(path.as_path.iter().copied()).collect()
}

/// Words joined by spaces.
fn words<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|i| i.to_string()).collect::<Vec<_>>().join(" ")
}

/// What must be installed for a topology, or what is missing, with the package that has it.
pub(crate) fn check_installed(topology: &Topology, rootless: bool) -> Result<(), LabError> {
    let missing: Vec<String> = topology.routers().filter_map(|nva| missing(nva, rootless)).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(LabError::SoftwareMissing(missing))
    }
}

fn missing(nva: &Nva, rootless: bool) -> Option<String> {
    if nva.software == Software::Openbgpd && rootless {
        return Some(format!(
            "NVA {} wants openbgpd, which drops its privileges to a user of its own: run this as root",
            nva.name
        ));
    }
    let (programs, package): (&[&str], &str) = match nva.software {
        Software::Builtin | Software::External => return None,
        Software::Frr => (
            &["/usr/lib/frr/zebra", "/usr/lib/frr/bgpd", "/usr/lib/frr/bfdd", "vtysh"],
            "frr",
        ),
        Software::Bird => (&["bird", "birdc"], "bird2"),
        Software::Gobgp => (&["gobgpd", "gobgp"], "gobgpd"),
        Software::Openbgpd => (&["/usr/sbin/bgpd", "bgpctl"], "openbgpd"),
        Software::Exabgp => (&["exabgp"], "exabgp"),
    };
    let program = programs.iter().find(|p| find_program(p).is_none())?;
    Some(format!(
        "NVA {} wants {}, but {program} is not installed: `apt-get install {package}` (Debian, Ubuntu), or choose `software: builtin`",
        nva.name,
        nva.software.name(),
    ))
}

/// Where a program is, also where an ordinary user's PATH does not look.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    if name.starts_with('/') {
        return Some(PathBuf::from(name)).filter(|p| p.is_file());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let directories = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/local/sbin"]);
    directories.map(|d| FilePath::new(d).join(name)).find(|p| p.is_file())
}

/// A program's path, for a process that [`check_installed`] has passed.
fn program(name: &str) -> String {
    find_program(name).map_or_else(|| name.to_owned(), |p| p.display().to_string())
}
