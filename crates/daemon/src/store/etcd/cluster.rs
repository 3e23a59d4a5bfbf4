//! An etcd cluster on loopback: for tests, and for labs that want to see what happens when etcd dies.
//!
//! Its members are processes of ours with Debian's `etcd`; all end with the value, also when a test panics.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where Debian's package etcd-server puts it.
const PROGRAM: &str = "/usr/bin/etcd";
/// A start takes a second or two.
const PATIENCE: Duration = Duration::from_secs(180);

/// Members that run, or ran.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    directory: tempfile::TempDir,
    tls: Option<MemberTls>,
}

/// PEM files that members show to clients, and check these with.
#[derive(Clone, Debug)]
pub struct MemberTls {
    /// The authority that clients' certificates must be of.
    pub ca: PathBuf,
    /// The members' certificate, for 127.0.0.1.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

#[derive(Debug)]
struct Member {
    client: u16,
    peer: u16,
    /// Where its `/health` is, in plain.
    health: u16,
    process: Option<Child>,
}

/// Whether there is an etcd that can be started.
pub fn is_installed() -> bool {
    Path::new(PROGRAM).exists()
}

impl Cluster {
    /// Starts so many members and waits until they have a leader.
    ///
    /// # Errors
    ///
    /// etcd is not installed, or does not come up.
    pub fn start(members: usize) -> std::io::Result<Cluster> {
        Cluster::start_with(members, None)
    }

    /// As [`start`](Self::start); with `tls`, clients must speak it and show a certificate.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn start_with(members: usize, tls: Option<MemberTls>) -> std::io::Result<Cluster> {
        // In memory where that is possible: what is tested is not the disk.
        let memory = Path::new("/dev/shm");
        let directory = match memory.is_dir() {
            true => tempfile::Builder::new()
                .prefix("routewright-etcd-")
                .tempdir_in(memory)?,
            false => tempfile::Builder::new().prefix("routewright-etcd-").tempdir()?,
        };
        let ports = free_ports(3 * members)?;
        let members = ports.chunks(3).map(|ports| Member {
            client: ports[0],
            peer: ports[1],
            health: ports[2],
            process: None,
        });
        let mut cluster = Cluster {
            members: members.collect(),
            directory,
            tls,
        };
        for member in 0..cluster.members.len() {
            cluster.run(member)?;
        }
        cluster.wait_for_leader()?;
        Ok(cluster)
    }

    /// Where clients reach each member.
    pub fn endpoints(&self) -> Vec<String> {
        let members = self.members.iter();
        members.map(|member| self.client_url(member)).collect()
    }

    fn client_url(&self, member: &Member) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", member.client)
    }

    /// As much of a `routewright serve` configuration as has to do with it.
    pub fn configuration(&self) -> String {
        format!("[store]\nkind = \"etcd\"\nendpoints = {:?}\n", self.endpoints())
    }

    /// Its process is killed.
    pub fn kill(&mut self, member: usize) {
        if let Some(mut process) = self.members[member].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Its process stands still, with its connections, until [`go_on`](Self::go_on).
    pub fn freeze(&self, member: usize) {
        self.signal(member, Signal::SIGSTOP);
    }

    /// After [`freeze`](Self::freeze).
    pub fn go_on(&self, member: usize) {
        self.signal(member, Signal::SIGCONT);
    }

    /// One that was killed runs again, with what it had stored.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn run(&mut self, member: usize) -> std::io::Result<()> {
        if self.members[member].process.is_some() {
            return Ok(());
        }
        let peers = self.members.iter().enumerate();
        let peers: Vec<String> = peers
            .map(|(index, it)| format!("m{index}=http://127.0.0.1:{}", it.peer))
            .collect();
        let client = self.client_url(&self.members[member]);
        let Member { peer, health, .. } = &self.members[member];
        let (peer, health) = (format!("http://127.0.0.1:{peer}"), format!("http://127.0.0.1:{health}"));
        let log = std::fs::File::create(self.log(member))?;
        let mut command = Command::new(PROGRAM);
        if let Some(MemberTls { ca, certificate, key }) = &self.tls {
            command.arg("--client-cert-auth");
            for (option, file) in [
                ("--trusted-ca-file", ca),
                ("--cert-file", certificate),
                ("--key-file", key),
            ] {
                command.arg(option).arg(file);
            }
        }
        let process = command
            .args(["--name", &format!("m{member}")])
            .args(["--listen-metrics-urls", &health])
            .arg("--data-dir")
            .arg(self.directory.path().join(format!("m{member}")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &peers.join(",")])
            .args([
                "--initial-cluster-state",
                "new",
                "--initial-cluster-token",
                "routewright-test",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.members[member].process = Some(process);
        Ok(())
    }

    /// Runs etcdctl (package etcd-client) and gives what it says.
    ///
    /// # Errors
    ///
    /// It cannot be started, or is not pleased.
    pub fn etcdctl(&self, arguments: &[&str]) -> std::io::Result<String> {
        let output = Command::new("/usr/bin/etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoints().join(",")])
            .args(arguments)
            .output()?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(std::io::Error::other(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )),
        }
    }

    fn log(&self, member: usize) -> PathBuf {
        self.directory.path().join(format!("m{member}.log"))
    }

    fn signal(&self, member: usize, signal: Signal) {
        let process = self.members[member].process.as_ref();
        if let Some(pid) = process.and_then(|process| i32::try_from(process.id()).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Waits until each member that was started can commit, which its `/health` says.
    ///
    /// # Errors
    ///
    /// One has ended, or takes longer than minutes.
    pub fn wait_for_leader(&mut self) -> std::io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for member in 0..self.members.len() {
            while !is_healthy(self.members[member].health) {
                let ended = match &mut self.members[member].process {
                    Some(process) => process.try_wait()?,
                    None => None,
                };
                if ended.is_some() || Instant::now() > deadline {
                    let log = std::fs::read_to_string(self.log(member)).unwrap_or_default();
                    let last: Vec<&str> = log.lines().rev().take(5).collect();
                    return Err(std::io::Error::other(format!("etcd does not come up: {last:?}")));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            self.kill(member);
        }
    }
}

fn is_healthy(port: u16) -> bool {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("\"health\":\"true\""))
}

/// Ports that nobody has now, below those that the kernel gives to whoever asks for any: so nobody gets one by chance while a member is
/// dead. Where a process begins depends on its id, since others look for some, too.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    const FIRST: u32 = 12_000;
    const PORTS: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut free = Vec::new();
    for _ in 0..PORTS {
        let number = std::process::id()
            .wrapping_mul(101)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + number % PORTS).map_err(std::io::Error::other)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            free.push(port);
        }
        if free.len() == count {
            return Ok(free);
        }
    }
    Err(std::io::Error::other("there are no free ports on 127.0.0.1"))
}
