//! Starts an instance process: our own executable, in its own session, so that it outlives the manager; its log in the run
//! directory.

use std::fs::OpenOptions;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use api::control::AGENTS_TLS;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::Instant;

use crate::instance::{AgentTls, run_dir};

/// After a death the next start waits this long; twice as long after each that follows soon.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);
/// One that lived so long is not dying again and again.
const SETTLED: Duration = Duration::from_secs(10);

/// An instance that lives, has not answered for so long,
const HUNG: Duration = Duration::from_secs(30);
/// and not when it was asked so often, never will. Time alone proves nothing: perhaps it was us who stood still.
const HUNG_QUESTIONS: u32 = 5;
/// A log that has grown to this is put aside at the next start; one such is kept.
const LOG_BYTES: u64 = 16 << 20;

/// How to start one instance.
#[derive(Debug)]
pub(crate) struct Launch {
    /// 0 or 1.
    pub(crate) index: usize,
    /// What to run.
    pub(crate) executable: PathBuf,
    /// Where its socket lives.
    pub(crate) run_dir: PathBuf,
    /// Where it takes agents; port 0 takes a free one.
    pub(crate) agent_listen: SocketAddr,
    /// TLS there.
    pub(crate) agent_tls: Option<AgentTls>,
    /// What agents are told instead of the address.
    pub(crate) agent_host: Option<String>,
    /// Passed on.
    pub(crate) silence_secs: u64,
    /// It ends with us, and logs where we log.
    pub(crate) die_with_parent: bool,
}

/// Starts one instance, again and again, and ends one that hangs.
#[derive(Debug)]
pub(crate) struct Launcher {
    launch: Launch,
    /// The child and when it was started; none while the instance was started by a manager before us.
    child: Option<(Child, Instant)>,
    /// The other end of the child's standard input, if it is to end with us: it ends when this is closed, by whatever death.
    lifeline: Option<ChildStdin>,
    /// How often it died soon after its start.
    quick_deaths: u32,
    /// When the instance last answered, or was started.
    answered: Instant,
    /// Questions without an answer since then.
    unanswered: u32,
    /// How the last child ended.
    last_end: Option<String>,
    /// Not to be started before.
    not_before: Option<Instant>,
}

impl Launcher {
    pub(crate) fn new(launch: Launch) -> Launcher {
        Launcher {
            launch,
            child: None,
            lifeline: None,
            quick_deaths: 0,
            answered: Instant::now(),
            unanswered: 0,
            last_end: None,
            not_before: None,
        }
    }

    /// Called when the instance doesn't answer: starts it unless it is just coming up, hangs, or has died too often. True: started now.
    pub(crate) async fn see_to_it(&mut self) -> std::io::Result<bool> {
        match &mut self.child {
            Some((child, _)) => match child.try_wait()? {
                None => {
                    if self.hangs() {
                        self.kill_child()?;
                    }
                    return Ok(false);
                }
                Some(status) => self.child_ended(status),
            },
            // Its lock is held: it lives, and a second one would only refuse to start.
            None => {
                if let Some(pid) = run_dir::holder(&self.launch.run_dir, self.launch.index) {
                    if self.hangs() {
                        tracing::error!(instance = self.launch.index, %pid, "instance lives and does not answer; ending it");
                        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
                    }
                    return Ok(false);
                }
            }
        }
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return Ok(false);
        }
        self.start()?;
        Ok(true)
    }

    fn start(&mut self) -> std::io::Result<()> {
        let mut child = self.launch.command()?.spawn()?;
        // Waiting for a child closes what it still has of this.
        self.lifeline = child.stdin.take();
        tracing::info!(instance = self.launch.index, pid = child.id(), "instance started");
        self.child = Some((child, Instant::now()));
        self.answered = Instant::now();
        self.unanswered = 0;
        Ok(())
    }

    /// One more question was not answered. True: it never will be.
    fn hangs(&mut self) -> bool {
        self.unanswered = self.unanswered.saturating_add(1);
        self.answered.elapsed() > HUNG && self.unanswered >= HUNG_QUESTIONS
    }

    fn kill_child(&mut self) -> std::io::Result<()> {
        let Some((child, _)) = &mut self.child else {
            return Ok(());
        };
        tracing::error!(
            instance = self.launch.index,
            pid = child.id(),
            "instance lives and does not answer; ending it"
        );
        child.start_kill()
    }

    fn child_ended(&mut self, status: ExitStatus) {
        let quick = self
            .child
            .take()
            .is_some_and(|(_, started)| started.elapsed() < SETTLED);
        self.quick_deaths = match quick {
            true => self.quick_deaths.saturating_add(1),
            false => 0,
        };
        let wait = FIRST_BACK_OFF
            .saturating_mul(1 << self.quick_deaths.min(16))
            .min(LONGEST_BACK_OFF);
        tracing::warn!(instance = self.launch.index, %status, ?wait, "instance has ended; starting it again");
        self.not_before = Some(Instant::now() + wait);
        let log = self.launch.log();
        self.last_end = Some(format!("it ended with {status}; {} tells why", log.display()));
    }

    /// How the last child ended.
    pub(crate) fn last_end(&self) -> Option<&str> {
        self.last_end.as_deref()
    }

    /// The instance answers: tells where agents reach it, as it wrote itself.
    pub(crate) fn answers(&mut self) -> Option<String> {
        self.answered = Instant::now();
        self.unanswered = 0;
        self.launch.agent_url()
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
}

impl Launch {
    fn log(&self) -> PathBuf {
        self.run_dir.join(format!("instance-{}.log", self.index))
    }

    /// As the instance has written itself, which may have been started with other settings than ours.
    fn agent_url(&self) -> Option<String> {
        let file = api::control::agents_path(&self.run_dir, self.index);
        let written = std::fs::read_to_string(file).ok()?;
        let (scheme, address) = match written.trim().strip_prefix(AGENTS_TLS) {
            Some(address) => (AGENTS_TLS, address),
            None => ("http://", written.trim()),
        };
        let address: SocketAddr = address.parse().ok()?;
        let host = match (&self.agent_host, address.ip()) {
            (Some(host), _) => match host.parse() {
                Ok(IpAddr::V6(address)) => format!("[{address}]"),
                _ => host.clone(),
            },
            // Any address of this machine: the one that is there for sure.
            (None, ip) if ip.is_unspecified() => match ip.is_ipv6() {
                true => "[::1]".to_owned(),
                false => "127.0.0.1".to_owned(),
            },
            (None, IpAddr::V6(address)) => format!("[{address}]"),
            (None, IpAddr::V4(address)) => address.to_string(),
        };
        Some(format!("{scheme}{host}:{}", address.port()))
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
        if let Some(AgentTls { identity, client_ca }) = &self.agent_tls {
            command.arg("--agent-certificate").arg(&identity.certificate);
            command.arg("--agent-key").arg(&identity.key);
            if let Some(client_ca) = client_ca {
                command.arg("--agent-client-ca").arg(client_ca);
            }
        }
        if self.die_with_parent {
            command.arg("--die-with-parent").stdin(Stdio::piped());
        } else {
            command.stdin(Stdio::null());
            let log = self.log();
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A launcher of a process that lives and never answers.
    fn launcher(directory: &Path) -> Launcher {
        let executable = directory.join("mute");
        // Written by another process: while this one has it open for writing, a test beside us may fork with it, and then the kernel
        // would not let it be executed (ETXTBSY).
        let mut install = std::process::Command::new("install");
        install
            .args(["-m", "700", "/dev/stdin"])
            .arg(&executable)
            .stdin(Stdio::piped());
        let mut install = install.spawn().unwrap();
        let script = b"#!/bin/sh\nexec sleep 600\n";
        std::io::Write::write_all(&mut install.stdin.take().unwrap(), script).unwrap();
        assert!(install.wait().unwrap().success());
        Launcher::new(Launch {
            index: 0,
            executable,
            run_dir: directory.to_owned(),
            agent_listen: ([127, 0, 0, 1], 0).into(),
            agent_tls: None,
            agent_host: None,
            silence_secs: 3,
            die_with_parent: false,
        })
    }

    #[test]
    fn agents_are_told_the_host_of_the_configuration_and_how_the_instance_itself_is_spoken_to() {
        let directory = tempfile::tempdir().unwrap();
        let mut launcher = launcher(directory.path());
        let mut check = |written: &str, host: Option<&str>, expected: &str| {
            let file = api::control::agents_path(directory.path(), 0);
            std::fs::write(file, format!("{written}\n")).unwrap();
            launcher.launch.agent_host = host.map(str::to_owned);
            assert_eq!(launcher.answers().as_deref(), Some(expected));
        };
        check("127.0.0.1:8081", None, "http://127.0.0.1:8081");
        check(
            "https://0.0.0.0:8081",
            Some("routes.example"),
            "https://routes.example:8081",
        );
        check("https://[::]:8081", Some("2001:db8::1"), "https://[2001:db8::1]:8081");
        check("https://0.0.0.0:8081", None, "https://127.0.0.1:8081");
        check("https://[2001:db8::4]:8081", None, "https://[2001:db8::4]:8081");
    }

    async fn ask(launcher: &mut Launcher, times: u32) {
        for _ in 0..times {
            assert!(!launcher.see_to_it().await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_leaves_many_questions_unanswered_for_long_is_ended_and_started_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut launcher = launcher(directory.path());
        assert!(launcher.see_to_it().await.unwrap());
        tokio::time::advance(HUNG * 2).await;
        ask(&mut launcher, HUNG_QUESTIONS).await;
        let status = launcher.child.as_mut().unwrap().0.wait().await.unwrap();
        assert!(!status.success());
        ask(&mut launcher, 1).await;
        tokio::time::advance(LONGEST_BACK_OFF).await;
        assert!(launcher.see_to_it().await.unwrap());
        launcher.kill_child().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn time_alone_ends_no_instance_since_the_manager_may_have_stood_still() {
        let directory = tempfile::tempdir().unwrap();
        let mut launcher = launcher(directory.path());
        assert!(launcher.see_to_it().await.unwrap());
        tokio::time::advance(HUNG * 2).await;
        ask(&mut launcher, HUNG_QUESTIONS - 1).await;
        launcher.answers();
        ask(&mut launcher, HUNG_QUESTIONS).await;
        assert!(launcher.child.as_mut().unwrap().0.try_wait().unwrap().is_none());
        launcher.kill_child().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_of_a_manager_before_us_that_hangs_is_ended_too() {
        let directory = tempfile::tempdir().unwrap();
        // The lock is held here; what it says of its holder is another process.
        let _held = run_dir::RunDir::claim(directory.path(), 0).unwrap();
        let mut other = Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
        std::fs::write(run_dir::lock_path(directory.path(), 0), other.id().unwrap().to_string()).unwrap();
        let mut launcher = launcher(directory.path());
        tokio::time::advance(HUNG * 2).await;
        ask(&mut launcher, HUNG_QUESTIONS).await;
        assert!(!other.wait().await.unwrap().success());
    }
}
