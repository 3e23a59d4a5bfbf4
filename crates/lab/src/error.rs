//! Why a lab verb failed: facts with names, and what to do where there is something to do.

use std::io;
use std::path::PathBuf;

use crate::topology::TopologyError;

/// What can go wrong in a lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The topology file.
    #[error("the topology has mistakes:\n{0}")]
    Topology(#[from] TopologyError),
    /// The topology file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name that is no lab's name.
    #[error("\"{0}\" is no name for a lab (letters, digits, dashes and underscores, at most 32)")]
    BadName(String),
    /// There is one already.
    #[error(
        "a lab named {0} exists already; `routewright lab --name {0} down` removes it, `--name OTHER` makes another one beside it"
    )]
    Exists(String),
    /// There is none.
    #[error("there is no lab named {0}; `routewright lab up` makes one")]
    NotFound(String),
    /// Another verb is at work on it.
    #[error("lab {0} is busy: another `routewright lab` command is at work on it")]
    Busy(String),
    /// A node that the topology does not have, or that cannot do this.
    #[error("lab {lab} has no node {node}; it has {}", known.join(", "))]
    NoSuchNode {
        /// The lab.
        lab: String,
        /// The name asked for.
        node: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The node is there, but the verb makes no sense for it.
    #[error("{node}: {reason}")]
    NotPossible {
        /// The node.
        node: String,
        /// Why not.
        reason: String,
    },
    /// The distribution or an administrator forbids user namespaces.
    #[error("this needs root or a user namespace, and the kernel refuses one ({source}).\n{advice}")]
    UserNamespaceForbidden {
        /// What the kernel said.
        source: io::Error,
        /// What to do about it.
        advice: String,
    },
    /// A routing daemon that a topology asks for is not installed.
    #[error("{}", .0.join("\n"))]
    SoftwareMissing(Vec<String>),
    /// Something in a namespace or of a process did not work.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A netlink request was refused.
    #[error("{node}: {what}: {message}")]
    Netlink {
        /// In which node.
        node: String,
        /// What was being done.
        what: String,
        /// What the kernel said.
        message: String,
    },
    /// The API did not take what we asked for.
    #[error("{method} {path}: {message}")]
    Api {
        /// HTTP method.
        method: &'static str,
        /// Path of the resource.
        path: String,
        /// Status and the service's own words.
        message: String,
    },
    /// Something did not come about in time.
    #[error("after {} s still waiting for {what}{}", seconds, detail(.missing))]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// What exactly is missing, one sentence each.
        missing: Vec<String>,
    },
    /// A process of the lab ended by itself.
    #[error("{process} ended by itself; its last words (in {}):\n{last_words}", log.display())]
    Died {
        /// Which process.
        process: String,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        last_words: String,
    },
    /// The state file is not one of ours.
    #[error("{} is damaged: {message}; `routewright lab down` still cleans up", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A signal came.
    #[error("interrupted; what was made is taken away again")]
    Interrupted,
    /// Some probes got no answer.
    #[error("the lab is up, but packets do not arrive: {}", .0.join("; "))]
    Probes(Vec<String>),
}

fn detail(missing: &[String]) -> String {
    missing.iter().map(|m| format!("\n  {m}")).collect()
}

impl LabError {
    /// A system error in context, for `map_err`.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> LabError {
        let what = what.into();
        move |source| LabError::System { what, source }
    }
}
