//! Namespaces, addresses, deadlines, and an instance process.

use std::ffi::OsStr;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use api::tls::Identity;
use daemon::instance::{AgentTls, InstanceOptions};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Far more than anything here takes, also on a machine ten times slower.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

/// Makes this executable an instance process.
const RUN_DIR: &str = "ROUTEWRIGHT_TEST_RUN_DIR";

/// A directory with `agents.pem` and `agents.key`: agents may come to any address of the namespace, with TLS.
const AGENTS_ANYWHERE: &str = "ROUTEWRIGHT_TEST_AGENTS_ANYWHERE";

/// Which one, if it is not the first.
const INDEX: &str = "ROUTEWRIGHT_TEST_INDEX";

/// Root can make network namespaces; others can after they have made a user namespace.
pub(crate) fn enter_namespaces() -> Result<(), String> {
    if Command::new("ip").arg("-V").output().is_err() {
        return Err("there is no `ip` command (package iproute2)".to_owned());
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| format!("user namespace: {error}"))?;
    let write = |file: &str, text: String| {
        std::fs::write(format!("/proc/self/{file}"), text).map_err(|error| format!("{file}: {error}"))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {user} 1"))?;
    write("gid_map", format!("0 {group} 1"))
}

/// Runs a test in a network namespace with these addresses on its loopback interface.
pub(crate) fn with_addresses<F: Future<Output = ()>>(addresses: &[&str], test: impl FnOnce() -> F) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    ip(&["link", "set", "lo", "up"]);
    for address in addresses {
        ip(&["address", "add", address, "dev", "lo"]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(6 * DEADLINE, test())
            .await
            .expect("test takes too long")
    });
}

/// A disk of `pages` pages at `directory`, for the calling thread and the processes that it starts from now on.
pub(crate) fn mount_disk(directory: &Path, pages: usize) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount_tmpfs(directory, pages, MsFlags::empty());
}

pub(crate) fn resize_disk(directory: &Path, pages: usize) {
    mount_tmpfs(directory, pages, MsFlags::MS_REMOUNT);
}

fn mount_tmpfs(directory: &Path, pages: usize, flags: MsFlags) {
    let size = format!("nr_blocks={pages}");
    mount(Some("tmpfs"), directory, Some("tmpfs"), flags, Some(size.as_str())).unwrap();
}

pub(crate) fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}: {status}");
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Waits for something, but not for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("timed out: {what}"))
}

/// Asks again and again until the answer is the wanted one.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    soon(what, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// True: this process was an instance, and has ended.
pub(crate) fn start_logging_and_be_instance() -> bool {
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .init();
    }
    let Some(run_dir) = std::env::var_os(RUN_DIR) else {
        return false;
    };
    let anywhere = std::env::var_os(AGENTS_ANYWHERE).map(PathBuf::from);
    let options = InstanceOptions {
        index: std::env::var(INDEX).map_or(0, |index| index.parse().unwrap()),
        run_dir: PathBuf::from(run_dir),
        agent_listen: SocketAddr::from((if anywhere.is_some() { [0; 4] } else { [127, 0, 0, 1] }, 0)),
        agent_tls: anywhere.map(|directory| AgentTls {
            identity: Identity {
                certificate: directory.join("agents.pem"),
                key: directory.join("agents.key"),
            },
            client_ca: None,
        }),
        silence_secs: 10,
        die_with_parent: true,
        give_back_memory,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    if let Err(error) = runtime.block_on(daemon::instance::run(options)) {
        eprintln!("{error}");
        std::process::exit(3);
    }
    true
}

fn give_back_memory() {
    // SAFETY: takes no pointer, and may be called by any thread outside the allocator.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// An instance process in the namespace of the calling thread; killed when dropped.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn start(run_dir: &Path) -> Process {
        Process::start_as(0, run_dir)
    }

    pub(crate) fn start_as(index: usize, run_dir: &Path) -> Process {
        Process::start_with(&[(INDEX, index.to_string().as_ref())], run_dir)
    }

    /// One whose agents may come to any address, with TLS; its certificate is made here.
    pub(crate) fn start_for_agents_anywhere(run_dir: &Path) -> Process {
        let made = rcgen::generate_simple_self_signed(["agents.example".to_owned()]).unwrap();
        std::fs::write(run_dir.join("agents.pem"), made.cert.pem()).unwrap();
        std::fs::write(run_dir.join("agents.key"), made.signing_key.serialize_pem()).unwrap();
        Process::start_with(&[(AGENTS_ANYWHERE, run_dir.as_os_str())], run_dir)
    }

    fn start_with(variables: &[(&str, &OsStr)], run_dir: &Path) -> Process {
        Process(
            Command::new(std::env::current_exe().unwrap())
                .env(RUN_DIR, run_dir)
                .envs(variables.iter().copied())
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    pub(crate) fn has_open(&self, file: &Path) -> bool {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap();
        // One that was closed meanwhile has no name any more.
        let mut names = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        names.any(|name| name == file)
    }

    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        soon("the process ends", async {
            loop {
                if let Some(status) = self.0.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
