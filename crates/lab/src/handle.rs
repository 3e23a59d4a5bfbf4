//! A lab in the hand: make it, find it, use it, take it away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::error::LabError;
use crate::fabric;
use crate::layout::Layout;
use crate::namespace::{Namespace, identity};
use crate::process::{self, ProcessId};
use crate::state::{LabDirectory, LabState, Phase};
use crate::topology::Topology;

/// How to make a lab.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// Its name.
    pub name: String,
    /// Where labs are kept.
    pub labs: PathBuf,
    /// The `routewright` executable.
    pub executable: PathBuf,
    /// Whether it lives in a user namespace.
    pub rootless: bool,
    /// Only namespaces and links.
    pub fabric_only: bool,
    /// Set by a signal handler when somebody wants it to end: what was made is taken away again.
    pub interrupted: Option<&'static AtomicBool>,
}

/// A lab.
#[derive(Debug)]
pub struct Lab {
    pub(crate) directory: LabDirectory,
    pub(crate) state: LabState,
    pub(crate) interrupted: Option<&'static AtomicBool>,
}

/// How long processes get to end by themselves in `lab down`. Nothing in a lab is worth more.
const GRACE: Duration = Duration::from_millis(500);

impl Lab {
    /// Finds a lab that exists.
    pub fn open(labs: &Path, name: &str) -> Result<Lab, LabError> {
        let directory = LabDirectory::new(labs, name)?;
        let state = directory.load()?;
        Ok(Lab {
            directory,
            state,
            interrupted: None,
        })
    }

    /// Makes the namespaces and links of a topology.
    pub(crate) fn make(topology: &Topology, options: &UpOptions) -> Result<Lab, LabError> {
        let directory = LabDirectory::new(&options.labs, &options.name)?;
        directory.create()?;
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let mut lab = Lab {
            state: LabState {
                name: options.name.clone(),
                phase: Phase::Building,
                builder: ProcessId::of(own).ok(),
                executable: options.executable.clone(),
                rootless: options.rootless,
                api_url: None,
                topology: topology.clone(),
                holders: BTreeMap::new(),
                processes: Vec::new(),
                directories: Vec::new(),
                announced: topology
                    .routers()
                    .map(|n| (n.name.clone(), n.announce.clone()))
                    .collect(),
            },
            directory,
            interrupted: options.interrupted,
        };
        lab.save()?;
        Ok(lab)
    }

    pub(crate) fn save(&mut self) -> Result<(), LabError> {
        self.directory.save(&self.state)
    }

    /// Makes every namespace, then what is in it.
    pub(crate) fn build_fabric(&mut self) -> Result<(), LabError> {
        let layout = self.layout();
        for node in &layout.nodes {
            let holder = process::spawn_holder(&self.state.executable, self.directory.path(), &node.name)
                .map_err(LabError::system(format!("making the namespace of {}", node.name)))?;
            self.state.holders.insert(node.name.clone(), holder);
            self.save()?;
        }
        fabric::build(&layout, &|node| self.state.namespace(node))
    }

    /// The topology.
    pub fn topology(&self) -> &Topology {
        &self.state.topology
    }

    /// What the state file says.
    pub fn state(&self) -> &LabState {
        &self.state
    }

    /// Its directory: logs, configuration of the routing daemons, the manager's data.
    pub fn directory(&self) -> &LabDirectory {
        &self.directory
    }

    /// Its namespaces and links.
    pub fn layout(&self) -> Layout {
        Layout::of(&self.state.topology)
    }

    /// The namespace of a node.
    pub fn namespace(&self, node: &str) -> Result<Namespace, LabError> {
        self.state.namespace(node)
    }

    /// A command that will run in a node: in its network and with its host name.
    pub fn command(&self, node: &str, program: &str) -> Result<Command, LabError> {
        let network = self.namespace(node)?;
        let names = network.path().with_file_name("uts");
        let open = |path: &Path| fs::File::open(path).map_err(LabError::system(format!("opening {}", path.display())));
        let (network, names) = (open(network.path())?, open(&names)?);
        let mut command = Command::new(program);
        command.env(process::MARK, self.directory.path());
        // SAFETY: only system calls and no allocation between fork and exec.
        unsafe {
            command.pre_exec(move || {
                setns(&network, CloneFlags::CLONE_NEWNET)?;
                Ok(setns(&names, CloneFlags::CLONE_NEWUTS)?)
            });
        }
        Ok(command)
    }

    /// Runs a command in a node and waits for its end.
    pub fn exec(&self, node: &str, argv: &[&str]) -> Result<Output, LabError> {
        let (program, arguments) = argv.split_first().unwrap_or((&"true", &[]));
        let output = self.command(node, program)?.args(arguments).output();
        output.map_err(LabError::system(format!("{node}: running {program}")))
    }

    /// Takes a node's carrier away, or gives it back.
    pub fn set_link(&self, node: &str, up: bool) -> Result<(), LabError> {
        let layout = self.layout();
        let link = layout.link_of(node).ok_or_else(|| self.state.no_such_node(node))?;
        let namespace = self.namespace(&link.near.node)?;
        fabric::set_carrier(link, up, &namespace)?;
        match layout.node(&link.near.node).filter(|_| up) {
            Some(node) => fabric::restore_routes(node, &namespace),
            None => Ok(()),
        }
    }

    /// Whether a node has its carrier.
    pub fn link_is_up(&self, node: &str) -> Result<bool, LabError> {
        let layout = self.layout();
        let link = layout.link_of(node).ok_or_else(|| self.state.no_such_node(node))?;
        fabric::has_carrier(link, &self.namespace(&link.near.node)?)
    }

    /// Takes the lab away, whole or half-built, and leaves nothing.
    pub fn down(labs: &Path, name: &str) -> Result<Removed, LabError> {
        let directory = LabDirectory::new(labs, name)?;
        if !directory.exists() {
            return Err(LabError::NotFound(name.to_owned()));
        }
        let state = directory.load().ok();
        stop_builder(state.as_ref());
        if state.as_ref().is_some_and(|state| state.phase == Phase::Building) {
            wait_for_forked(&directory);
        }
        // What ends may just have started something: look again until nothing is left.
        let mut ended = 0;
        for _ in 0..MAX_SWEEPS {
            let found = process::find_all(directory.path(), &namespaces(state.as_ref()));
            if found.is_empty() {
                break;
            }
            ended += found.len();
            let grace = if ended == found.len() { GRACE } else { Duration::ZERO };
            let _ = process::end_all(&found, grace);
        }
        let left = process::find_all(directory.path(), &BTreeSet::new());
        for made in state.iter().flat_map(|s| &s.directories) {
            // Not if somebody else has put something there.
            let _ = fs::remove_dir(made);
        }
        fs::remove_dir_all(directory.path())
            .map_err(LabError::system(format!("removing {}", directory.path().display())))?;
        Ok(Removed {
            ended,
            left: left.into_iter().map(|p| p.pid).collect(),
        })
    }
}

/// From fork to exec there is a namespace to be made, on a busy machine.
const FORK_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How often `lab down` looks for processes again.
const MAX_SWEEPS: usize = 10;

/// What `lab down` did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Removed {
    /// How many processes were ended.
    pub ended: usize,
    /// Processes that would not end.
    pub left: Vec<i32>,
}

/// A lab that is still being made is stopped first, lest it go on making.
fn stop_builder(state: Option<&LabState>) {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let Some(builder) = state.filter(|s| s.phase == Phase::Building).and_then(|s| s.builder) else {
        return;
    };
    if builder.pid != own {
        process::end_all(&[builder], Duration::ZERO);
    }
}

/// What a builder had forked when it was killed has not our mark before it is executed, so it could not be found. Until then it holds the
/// builder's lock, which it has inherited.
fn wait_for_forked(directory: &LabDirectory) {
    let deadline = Instant::now() + FORK_PATIENCE;
    while directory.lock().is_err() && Instant::now() < deadline {
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn namespaces(state: Option<&LabState>) -> BTreeSet<(u64, u64)> {
    let holders = state
        .into_iter()
        .flat_map(|s| s.holders.values())
        .filter(|h| h.is_alive());
    holders
        .filter_map(|h| identity(&PathBuf::from(format!("/proc/{}/ns/net", h.pid))).ok())
        .collect()
}
