//! What later commands need to know about a lab, and where it is kept: `LABS/NAME/state.json` and files beside it.
//!
//! The file is written after every step of `lab up`, whole and atomically, so that `lab down` can clean up whatever a crash
//! leaves.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, geteuid};
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::namespace::Namespace;
use crate::process::{MARK, ProcessId, ProcessSpec};
use crate::topology::{Path as AnnouncedPath, Topology};

/// The name of the manager among nodes.
pub const MANAGER: &str = "manager";
/// The names of instance processes among nodes, without their number.
pub const INSTANCE: &str = "instance";

/// The name of a lab that nobody named.
pub const DEFAULT_NAME: &str = "default";
const MAX_NAME: usize = 32;

/// The directory that holds all labs of a user.
///
/// `ROUTEWRIGHT_LAB_DIR`, else `XDG_RUNTIME_DIR/routewright/labs`, else `/run/routewright/labs` for root, else a directory
/// under `/tmp`. Must be asked before a user namespace is entered, where everybody is root.
pub fn labs_directory() -> PathBuf {
    let from_environment = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(directory) = from_environment("ROUTEWRIGHT_LAB_DIR") {
        return std::path::absolute(&directory).unwrap_or(directory);
    }
    if let Some(runtime) = from_environment("XDG_RUNTIME_DIR").filter(|d| d.is_dir()) {
        return runtime.join("routewright/labs");
    }
    labs_directory_of(geteuid())
}

fn labs_directory_of(user: Uid) -> PathBuf {
    if user.is_root() {
        PathBuf::from("/run/routewright/labs")
    } else {
        PathBuf::from(format!("/tmp/routewright-{user}/labs"))
    }
}

/// A lab's own directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabDirectory {
    path: PathBuf,
    name: String,
}

impl LabDirectory {
    /// The directory of the lab of that name; it need not exist.
    pub fn new(labs: &Path, name: &str) -> Result<LabDirectory, LabError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
            return Err(LabError::BadName(name.to_owned()));
        }
        Ok(LabDirectory {
            path: labs.join(name),
            name: name.to_owned(),
        })
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The log of a process.
    pub fn log(&self, process: &str) -> PathBuf {
        self.path.join("logs").join(format!("{process}.log"))
    }

    /// The environment variable that marks the lab's processes and all that they start, and its value: a process that somebody else starts
    /// with it is the lab's, too. So instances of its manager are found by their number, and `lab down` ends them.
    pub fn mark(&self) -> (&'static str, PathBuf) {
        (MARK, self.path.clone())
    }

    /// Makes it, for its user alone; fails when it is there already.
    pub(crate) fn create(&self) -> Result<(), LabError> {
        let labs = self.path.parent().unwrap_or(Path::new("/"));
        let private = |path: &Path, recursive| DirBuilder::new().mode(0o755).recursive(recursive).create(path);
        private(labs, true).map_err(LabError::system(format!("making {}", labs.display())))?;
        match private(&self.path, false) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(LabError::Exists(self.name.clone())),
            made => made.map_err(LabError::system(format!("making {}", self.path.display())))?,
        }
        let logs = self.file("logs");
        fs::create_dir(&logs).map_err(LabError::system(format!("making {}", logs.display())))
    }

    /// Whether there is such a lab, whole or in part.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Keeps other commands from changing the lab as long as the answer lives.
    pub(crate) fn lock(&self) -> Result<Flock<File>, LabError> {
        let path = self.file("lock");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|_| LabError::NotFound(self.name.clone()))?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| LabError::Busy(self.name.clone()))
    }

    /// Reads the state file.
    pub fn load(&self) -> Result<LabState, LabError> {
        let path = self.file("state.json");
        let text = fs::read(&path).map_err(|_| LabError::NotFound(self.name.clone()))?;
        serde_json::from_slice(&text).map_err(|e| LabError::State {
            path,
            message: e.to_string(),
        })
    }

    /// Writes the state file: the old one or the new one is there, never half of one.
    pub(crate) fn save(&self, state: &LabState) -> Result<(), LabError> {
        let text = serde_json::to_vec_pretty(state).expect("the state holds only what JSON can say");
        self.write("state.json", &text)
    }

    /// Writes a file atomically.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), LabError> {
        let (path, temporary) = (self.file(name), self.file(&format!(".{name}.new")));
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(content)?;
            fs::rename(&temporary, &path)
        };
        write().map_err(LabError::system(format!("writing {}", path.display())))
    }
}

/// How far `lab up` got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Still at it, or crashed.
    Building,
    /// Only namespaces and links, as asked.
    FabricOnly,
    /// All of it.
    Up,
}

/// A lab, as its state file says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabState {
    /// Its name.
    pub name: String,
    /// How far it is.
    pub phase: Phase,
    /// Who is or was building it.
    pub builder: Option<ProcessId>,
    /// The executable that everything is started from.
    pub executable: PathBuf,
    /// Whether it lives in a user namespace.
    pub rootless: bool,
    /// Where its API is.
    pub api_url: Option<String>,
    /// What it is made of.
    pub topology: Topology,
    /// Who holds each node's namespace.
    pub holders: BTreeMap<String, ProcessId>,
    /// The processes that can be killed, stopped and started, in the order of their start.
    pub processes: Vec<ManagedProcess>,
    /// Directories outside the lab's own that were made for it.
    pub directories: Vec<PathBuf>,
    /// What each NVA announces now.
    pub announced: BTreeMap<String, Vec<AnnouncedPath>>,
}

/// A process that the lab started.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedProcess {
    /// Its own name, for example `sdwan.bgpd` or `agent-vm1`.
    pub name: String,
    /// The node that `kill`, `stop` and `start` name it by; several processes may be one node.
    pub node: String,
    /// How to start it.
    pub spec: ProcessSpec,
    /// The process; `None` before the first start and after `lab stop`.
    pub id: Option<ProcessId>,
}

impl LabState {
    /// The namespace of a node.
    pub fn namespace(&self, node: &str) -> Result<Namespace, LabError> {
        match self.holders.get(node) {
            Some(holder) if holder.is_alive() => Ok(Namespace::of_process(holder.pid)),
            Some(_) => Err(LabError::NotPossible {
                node: node.to_owned(),
                reason: "its namespace is gone; `routewright lab down` and `up` make a new lab".to_owned(),
            }),
            None => Err(self.no_such_node(node)),
        }
    }

    /// The names that verbs take.
    pub fn node_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.holders.keys().cloned().collect();
        for process in &self.processes {
            if !names.contains(&process.node) {
                names.push(process.node.clone());
            }
        }
        if names.iter().any(|n| n == MANAGER) {
            names.extend((0..self.topology.instances).map(|i| format!("{INSTANCE}{i}")));
        }
        names
    }

    /// The processes that a name means: a node's, or a single one.
    pub fn processes_of(&self, node: &str) -> impl Iterator<Item = &ManagedProcess> {
        self.processes.iter().filter(move |p| p.node == node || p.name == node)
    }

    pub(crate) fn no_such_node(&self, node: &str) -> LabError {
        LabError::NoSuchNode {
            lab: self.name.clone(),
            node: node.to_owned(),
            known: self.node_names(),
        }
    }
}
