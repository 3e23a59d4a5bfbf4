//! Entering namespaces, as root or as an ordinary user.
//!
//! A network namespace is entered by a thread of its own, which ends with the work: a process in a user namespace could not go
//! back to the host's network namespace. A user namespace can only be entered by a process with one thread, so that happens in
//! [`become_root`] and [`join`], before any runtime starts.

use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getgid, getuid};

use crate::error::LabError;

/// CAP_NET_ADMIN and CAP_SYS_ADMIN, as bits of `CapEff`.
const NEEDED_CAPABILITIES: u64 = 1 << 12 | 1 << 21;

/// A network namespace, named by a path such as `/proc/PID/ns/net`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    path: PathBuf,
}

impl Namespace {
    /// The network namespace of a process.
    pub fn of_process(pid: i32) -> Namespace {
        Namespace {
            path: PathBuf::from(format!("/proc/{pid}/ns/net")),
        }
    }

    /// The network namespace of one of our own threads, as long as that lives.
    pub(crate) fn of_thread(tid: i32) -> Namespace {
        Namespace {
            path: PathBuf::from(format!("/proc/self/task/{tid}/ns/net")),
        }
    }

    /// Where it is in the file system.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` in the namespace, on a thread of its own; `/proc/sys/net` there is the namespace's own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let target = File::open(&self.path)?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(&target, CloneFlags::CLONE_NEWNET)?;
                work()
            });
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
        })
    }

    /// Runs a future in the namespace, on a thread and runtime of its own.
    pub fn run_async<T, F>(&self, work: impl FnOnce() -> F + Send) -> io::Result<T>
    where
        T: Send,
        F: Future<Output = io::Result<T>>,
    {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work())
        })
    }
}

/// What tells a namespace from all others: device and inode of its file.
pub(crate) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

/// Whether this process may make network namespaces as it is.
pub fn is_privileged() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits & NEEDED_CAPABILITIES == NEEDED_CAPABILITIES)
}

/// Makes an ordinary user root of a user namespace; does nothing for who may make network namespaces already.
///
/// Must be called while the process has one thread. Returns whether a user namespace was made.
pub fn become_root() -> Result<bool, LabError> {
    if is_privileged() {
        return Ok(false);
    }
    let (uid, gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| forbidden(e.into()))?;
    // Without this the kernel takes no gid_map from an ordinary user (user_namespaces(7)).
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ];
    for (file, content) in maps {
        fs::write(format!("/proc/self/{file}"), content).map_err(forbidden)?;
    }
    // AppArmor lets the namespace be made and takes the capabilities in it away, so only trying tells.
    try_network_namespace().map_err(forbidden)?;
    Ok(true)
}

/// A child makes a network namespace and ends: the caller must stay where it is.
fn try_network_namespace() -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    let mut child = std::process::Command::new("/proc/self/exe");
    child.arg("--version").stdout(std::process::Stdio::null());
    // SAFETY: unshare is a system call without side effects on memory.
    unsafe {
        child.pre_exec(|| Ok(unshare(CloneFlags::CLONE_NEWNET)?));
    }
    child.status().map(|_| ())
}

/// Joins the user namespace that a lab lives in, if it is not ours. Must be called while the process has one thread.
pub fn join(pid: i32) -> Result<(), LabError> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/user"));
    let what = || LabError::system(format!("entering the user namespace {}", path.display()));
    let ours = identity(Path::new("/proc/self/ns/user")).map_err(what())?;
    if identity(&path).map_err(what())? == ours {
        return Ok(());
    }
    let target = File::open(&path).map_err(what())?;
    setns(&target, CloneFlags::CLONE_NEWUSER).map_err(|e| what()(e.into()))
}

fn forbidden(source: io::Error) -> LabError {
    LabError::UserNamespaceForbidden {
        source,
        advice: advice(),
    }
}

fn advice() -> String {
    let is_set = |file: &str, value: &str| fs::read_to_string(file).is_ok_and(|text| text.trim() == value);
    if is_set("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "AppArmor keeps ordinary users from them here (Ubuntu 23.10 and later). Either run it as root (sudo), or allow \
                them until the next boot:\n  sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
            .to_owned();
    }
    if is_set("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return "They are switched off here. Either run it as root (sudo), or allow them until the next boot:\n  sudo sysctl \
                kernel.unprivileged_userns_clone=1"
            .to_owned();
    }
    if is_set("/proc/sys/user/max_user_namespaces", "0") {
        return "None are allowed here. Either run it as root (sudo), or allow them until the next boot:\n  sudo sysctl \
                user.max_user_namespaces=10000"
            .to_owned();
    }
    "Run it as root (sudo), or in a container with --privileged.".to_owned()
}
