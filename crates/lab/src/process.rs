//! Processes of a lab: started in their own session, found again by later commands, never mistaken for another's.
//!
//! A process is named by its id and its start time, so that a reused id is not ours. Every process of a lab, and all that
//! they start, carry the lab's directory in their environment: this finds what a crash left unrecorded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, setsid};
use serde::{Deserialize, Serialize};

use crate::namespace::identity;

/// The environment variable that marks a lab's processes.
pub(crate) const MARK: &str = "ROUTEWRIGHT_LAB_MARK";
/// How often we look whether a signalled process is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long a process may take until it listens.
const LISTENING: Duration = Duration::from_secs(60);

/// A process, told apart from a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process id.
    pub pid: i32,
    /// Clock ticks between boot and its start (`/proc/PID/stat`, field 22).
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this id now.
    pub fn of(pid: i32) -> io::Result<ProcessId> {
        let stat = Stat::read(pid)?;
        Ok(ProcessId {
            pid,
            start_time: stat.start_time,
        })
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(self) -> bool {
        // One of our own children stays a zombie until somebody waits for it.
        let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        Stat::read(self.pid).is_ok_and(|s| s.start_time == self.start_time && s.state != 'Z' && s.state != 'X')
    }

    /// Sends a signal, unless the process is gone.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Err(nix::errno::Errno::ESRCH) => Ok(()),
            done => Ok(done?),
        }
    }

    /// Waits until it is gone; says whether it is.
    pub fn wait_gone(self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        true
    }
}

struct Stat {
    state: char,
    start_time: u64,
}

impl Stat {
    fn read(pid: i32) -> io::Result<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The command's name may hold anything, so count from the last parenthesis: there field 3 begins.
        let rest = text.rsplit_once(") ").map(|(_, rest)| rest);
        let mut fields = rest.ok_or(io::ErrorKind::InvalidData)?.split_ascii_whitespace();
        let state = fields.next().and_then(|s| s.chars().next());
        let start_time = fields.nth(18).and_then(|s| s.parse().ok());
        match (state, start_time) {
            (Some(state), Some(start_time)) => Ok(Stat { state, start_time }),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// How to start a process, kept in the state file so that `lab start` can do it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Environment variables besides those of the caller.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The network namespace to run in; `None` for the caller's.
    pub namespace: Option<PathBuf>,
    /// Where its output goes.
    pub log: PathBuf,
    /// A Unix socket that those after it need: it has started when somebody listens there.
    #[serde(default)]
    pub listens_at: Option<PathBuf>,
}

impl ProcessSpec {
    /// Starts it in a session of its own. Of one that listens, the caller waits for that with [`ProcessSpec::wait_listening`].
    pub(crate) fn spawn(&self, lab: &Path) -> io::Result<ProcessId> {
        let (program, arguments) = self.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).envs(&self.environment);
        let namespace = self.namespace.as_ref().map(File::open).transpose()?;
        spawn(command, lab, &self.log, move || {
            if let Some(namespace) = &namespace {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
            }
            Ok(())
        })
    }

    /// Waits until it listens where others need it.
    ///
    /// # Errors
    ///
    /// It has ended, or takes longer than a minute.
    pub(crate) fn wait_listening(&self, id: ProcessId) -> io::Result<()> {
        let Some(socket) = &self.listens_at else { return Ok(()) };
        let deadline = Instant::now() + LISTENING;
        while let Err(error) = UnixStream::connect(socket) {
            let reason = match (id.is_alive(), Instant::now() < deadline) {
                (true, true) => {
                    std::thread::sleep(LOOK_AGAIN);
                    continue;
                }
                (true, false) => "nobody listens",
                (false, _) => "it has ended before it listened",
            };
            let text = format!("{reason} at {}: {error}; see {}", socket.display(), self.log.display());
            return Err(io::Error::new(error.kind(), text));
        }
        Ok(())
    }
}

/// Starts the process that holds a node's namespace open. Its network and host name are its own.
pub(crate) fn spawn_holder(executable: &Path, lab: &Path, node: &str) -> io::Result<ProcessId> {
    let mut command = Command::new(executable);
    command.args(["lab", "hold-namespace", node]);
    let name = node.to_owned();
    spawn(command, lab, Path::new("/dev/null"), move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS)?;
        Ok(nix::unistd::sethostname(&name)?)
    })
}

fn spawn(
    mut command: Command,
    lab: &Path,
    log: &Path,
    in_child: impl Fn() -> io::Result<()> + Send + Sync + 'static,
) -> io::Result<ProcessId> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    command
        .env(MARK, lab)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command.current_dir("/");
    // SAFETY: only system calls and no allocation between fork and exec.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            in_child()
        });
    }
    let child = command.spawn()?;
    ProcessId::of(i32::try_from(child.id()).map_err(io::Error::other)?)
}

/// Every process that belongs to a lab: marked by its environment, or in one of its network namespaces.
pub(crate) fn find_all(lab: &Path, namespaces: &BTreeSet<(u64, u64)>) -> Vec<ProcessId> {
    let mark = [MARK.as_bytes(), b"=", lab.as_os_str().as_bytes()].concat();
    let own = std::process::id();
    processes()
        .filter(|pid| u32::try_from(*pid) != Ok(own))
        .filter(|pid| is_marked(*pid, &mark) || is_in(*pid, namespaces))
        .filter_map(|pid| ProcessId::of(pid).ok())
        .filter(|id| id.is_alive())
        .collect()
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

fn is_marked(pid: i32, mark: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|b| *b == 0).any(|variable| variable == mark)
}

fn is_in(pid: i32, namespaces: &BTreeSet<(u64, u64)>) -> bool {
    identity(Path::new(&format!("/proc/{pid}/ns/net"))).is_ok_and(|id| namespaces.contains(&id))
}

/// The words a process was started with.
pub(crate) fn command_line(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|b| *b == 0).filter(|w| !w.is_empty());
    words.map(|w| String::from_utf8_lossy(w).into_owned()).collect()
}

/// Ends processes: first gently, after `grace` by force. Returns those that are still there.
pub(crate) fn end_all(processes: &[ProcessId], grace: Duration) -> Vec<ProcessId> {
    /// A killed process is gone at once, unless the kernel is busy tearing down what it held.
    const FORCE: Duration = Duration::from_secs(60);
    let signal_and_wait = |signal, patience: Duration| {
        let deadline = Instant::now() + patience;
        for process in processes {
            let _ = process.signal(signal);
        }
        for process in processes {
            process.wait_gone(deadline.saturating_duration_since(Instant::now()));
        }
    };
    if !grace.is_zero() {
        signal_and_wait(Signal::SIGTERM, grace);
    }
    signal_and_wait(Signal::SIGKILL, FORCE);
    processes.iter().copied().filter(|p| p.is_alive()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_process_that_others_need_has_started_when_it_listens_and_not_when_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let start = |argv: &[&str]| {
            let spec = ProcessSpec {
                argv: argv.iter().map(|word| (*word).to_owned()).collect(),
                log: file("log"),
                listens_at: Some(file("socket")),
                ..ProcessSpec::default()
            };
            let id = spec.spawn(directory.path()).unwrap();
            (id, spec.wait_listening(id))
        };
        // It ends by itself, and nobody has ever listened.
        let (_, ended) = start(&["true"]);
        let told = ended.unwrap_err().to_string();
        assert!(told.contains("ended before it listened"), "{told}");

        let _listener = UnixListener::bind(file("socket")).unwrap();
        let (id, listening) = start(&["tail", "-f", "/dev/null"]);
        id.signal(Signal::SIGKILL).unwrap();
        listening.unwrap();
    }
}
