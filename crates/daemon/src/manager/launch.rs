//! Starts an instance process: our own executable, in its own session, so that it outlives the manager; its log in the run
//! directory.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};
use tokio::time::Instant;

/// After a death the next start waits this long; twice as long after each that follows soon.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);
/// One that lived so long is not dying again and again.
const SETTLED: Duration = Duration::from_secs(10);

/// A child that lives, has not answered for so long,
const HUNG: Duration = Duration::from_secs(30);
/// and not when it was asked so often, never will. Time alone proves nothing: perhaps it was us who stood still.
const HUNG_QUESTIONS: u32 = 5;
/// A log that has grown to this is put aside at the next start; one such is kept.
const LOG_BYTES: u64 = 16 << 20;

/// How to start one instance, and the child if we have started it.
#[derive(Debug)]
pub(crate) struct Launcher {
    /// 0 or 1.
    pub(crate) index: usize,
    /// What to run.
    pub(crate) executable: PathBuf,
    /// Where its socket lives.
    pub(crate) run_dir: PathBuf,
    /// Where it takes agents; port 0 takes a free one.
    pub(crate) agent_listen: SocketAddr,
    /// Passed on.
    pub(crate) silence_secs: u64,
    /// It ends with us, and logs where we log.
    pub(crate) die_with_parent: bool,
    /// How often it died soon after its start.
    pub(crate) quick_deaths: u32,
    /// The child and when it was started.
    pub(crate) child: Option<(Child, Instant)>,
    /// The other end of the child's standard input, if it is to end with us: it ends when this is closed, by whatever death.
    pub(crate) lifeline: Option<ChildStdin>,
    /// When the child last answered, or was started.
    pub(crate) answered: Instant,
    /// Questions without an answer since then.
    pub(crate) unanswered: u32,
    /// How the last child ended.
    pub(crate) last_end: Option<String>,
    /// Not to be started before.
    pub(crate) not_before: Option<Instant>,
}

impl Launcher {
    /// Called when the instance doesn't answer: starts it unless it is just coming up or has died too often. True: started now.
    pub(crate) async fn see_to_it(&mut self) -> std::io::Result<bool> {
        if let Some((child, started)) = &mut self.child {
            let Some(status) = child.try_wait()? else {
                self.unanswered = self.unanswered.saturating_add(1);
                if self.answered.elapsed() > HUNG && self.unanswered >= HUNG_QUESTIONS {
                    tracing::error!(instance = self.index, "instance lives and does not answer; ending it");
                    child.start_kill()?;
                }
                return Ok(false);
            };
            self.quick_deaths = match started.elapsed() < SETTLED {
                true => self.quick_deaths.saturating_add(1),
                false => 0,
            };
            let wait = FIRST_BACK_OFF
                .saturating_mul(1 << self.quick_deaths.min(16))
                .min(LONGEST_BACK_OFF);
            tracing::warn!(instance = self.index, %status, ?wait, "instance has ended; starting it again");
            self.not_before = Some(Instant::now() + wait);
            let log = self.run_dir.join(format!("instance-{}.log", self.index));
            self.last_end = Some(format!("it ended with {status}; {} tells why", log.display()));
            self.child = None;
        }
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return Ok(false);
        }
        let mut child = self.command()?.spawn()?;
        // Waiting for a child closes what it still has of this.
        self.lifeline = child.stdin.take();
        tracing::info!(instance = self.index, pid = child.id(), "instance started");
        self.child = Some((child, Instant::now()));
        self.answered = Instant::now();
        self.unanswered = 0;
        Ok(true)
    }

    /// The instance answers: tells where agents reach it, as it wrote itself.
    pub(crate) fn answers(&mut self) -> Option<String> {
        self.answered = Instant::now();
        self.unanswered = 0;
        Some(format!("http://{}", self.written_agent_address()?))
    }

    /// Waits for the end of our child; for ever if there is none of ours, which is what a `select!` wants.
    pub(crate) async fn ended(launcher: &mut Option<Launcher>) {
        match launcher.as_mut().and_then(|launcher| launcher.child.as_mut()) {
            // Later calls of `try_wait` tell the same status again.
            Some((child, _)) => drop(child.wait().await),
            None => std::future::pending().await,
        }
    }

    /// The instance, if it runs, was started by this manager.
    pub(crate) fn has_child(&self) -> bool {
        self.child.is_some()
    }

    /// SIGTERM to our child, for an orderly stop while its socket does not answer (yet).
    pub(crate) fn terminate(&self) {
        let pid = self.child.as_ref().and_then(|(child, _)| child.id());
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            // It may have ended on its own in the meantime.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
    }

    fn written_agent_address(&self) -> Option<SocketAddr> {
        let file = api::control::agents_path(&self.run_dir, self.index);
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    fn command(&self) -> std::io::Result<Command> {
        let mut command = Command::new(&self.executable);
        command
            .arg("instance")
            .args(["--index", &self.index.to_string()])
            .arg("--run-dir")
            .arg(&self.run_dir)
            .args(["--agent-listen", &self.agent_listen.to_string()])
            .args(["--silence-secs", &self.silence_secs.to_string()])
            .stdout(Stdio::null());
        if self.die_with_parent {
            command.arg("--die-with-parent").stdin(Stdio::piped());
        } else {
            command.stdin(Stdio::null());
            let log = self.run_dir.join(format!("instance-{}.log", self.index));
            if std::fs::metadata(&log).is_ok_and(|log| log.len() > LOG_BYTES) {
                std::fs::rename(&log, log.with_extension("log.old"))?;
            }
            let log = OpenOptions::new().append(true).create(true).open(log)?;
            command.stderr(log);
        }
        // SAFETY: between fork and exec only setsid(2) is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                Ok(())
            });
        }
        Ok(command)
    }
}
