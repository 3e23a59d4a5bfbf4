//! Claim 5: two managers, each with one instance, over an etcd of three members. A machine that dies, and an etcd without a majority,
//! take no route out of a VM.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use daemon::store::etcd::cluster::Cluster;
use ipnet::Ipv4Net;
use lab::Api;
use lab::topology::Path;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::model::Table;
use crate::watch::Watch;
use crate::world::{DEADLINE, VMS, World};

const STABLE: u32 = 50;

pub fn machine_and_etcd_die(rootless: bool) {
    let mut etcd = Cluster::start(3).unwrap();
    let mut world = World::up(rootless);
    let stable: Vec<Path> = (0..STABLE).map(|i| Path::plain(prefix(20, i))).collect();
    world.announce(0, &stable);
    world.announce(1, &stable);
    world.settle("the lab as it comes, on one machine");
    let mut machines = Machines::take_over(&mut world, [etcd.configuration(), etcd.configuration()]);
    machines.wait_for_sessions(&world);
    world.settle("the lab on two machines");

    // The first machine dies: manager and instance at once.
    let watches = watches(&world);
    machines.die(0);
    world.announce(2, &[Path::plain(prefix(30, 0))]);
    world.withdraw(1, &[prefix(20, 1)]);
    world.settle_without_api("routes come and go while a machine is dead");
    machines.start(0);
    machines.wait_for_sessions(&world);
    world.settle("the dead machine is back");

    // etcd has no majority, and then the second machine's manager dies, too.
    etcd.kill(0);
    etcd.freeze(1);
    world.announce(2, &[Path::plain(prefix(30, 1))]);
    world.withdraw(1, &[prefix(20, 2)]);
    world.settle("routes come and go without etcd");
    machines.kill_manager(1);
    world.announce(2, &[Path::plain(prefix(30, 2))]);
    world.settle("and with one manager less");

    etcd.go_on(1);
    etcd.run(0).unwrap();
    world.model.branch_to_branch = true;
    let begin = Instant::now();
    while world.try_put_hub().is_err() {
        assert!(begin.elapsed() < DEADLINE, "writes work again");
    }
    machines.start(1);
    machines.wait_for_sessions(&world);
    world.model.user_routes.insert(prefix(40, 0), None);
    world.put_route_table();
    world.settle("all is back");
    for watch in watches {
        watch.finish("routes that nothing was done to");
    }
}

/// Routes through both NVAs that nobody touches here.
fn watches(world: &World) -> Vec<Watch> {
    let watch = |vm: &crate::model::Vm| {
        let mut stays: Table = world.model.table(vm);
        stays.retain(|prefix, _| prefix.addr().octets()[0] == 20 && prefix.addr().octets()[2] > 2);
        Watch::start(world.open_again(), vm.name, stays)
    };
    VMS.iter().map(watch).collect()
}

/// The managers, with their instances, that the lab's own make way for. The lab finds the instances as its own.
pub struct Machines {
    place: tempfile::TempDir,
    log: PathBuf,
    /// What marks a process as the lab's.
    mark: (&'static str, PathBuf),
    listen: [SocketAddr; 2],
    managers: [Option<Child>; 2],
    /// Each manager speaks of its own instance.
    apis: [Option<Api>; 2],
}

impl Machines {
    /// On the ports that the lab's agents and we know. `stores`: what each has as `[store]`.
    pub fn take_over(world: &mut World, stores: [String; 2]) -> Machines {
        let api = world.lab.state().api_url.clone().unwrap();
        let api: SocketAddr = api.trim_start_matches("http://").parse().unwrap();
        // Those of the lab know the two ports after the API's.
        let agents = api.port() + 1;
        for node in ["manager", "instance0", "instance1"] {
            world.lab.kill(node).unwrap();
        }
        let mut machines = Machines {
            place: tempfile::tempdir().unwrap(),
            log: world.lab.directory().log("machines"),
            mark: world.lab.directory().mark(),
            listen: [api, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            managers: [None, None],
            apis: [None, None],
        };
        for (index, store) in stores.iter().enumerate() {
            let config = format!(
                "{}{store}[agents]\nlisten = \"127.0.0.1:{agents}\"\n",
                world.lab.serve_config()
            );
            std::fs::write(machines.configuration(index), config).unwrap();
            machines.start(index);
        }
        // Its connections ended with the lab's own manager.
        world.api = world.lab.api().unwrap();
        for resource in lab::resources(world.lab.topology()) {
            world.api.provision(&resource).unwrap_or_else(|e| panic!("{e}"));
        }
        machines
    }

    /// The machine's manager, if it does not run. It finds its instance, or starts it.
    pub fn start(&mut self, index: usize) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let mut serve = Command::new(env!("CARGO_BIN_EXE_routewright"));
        serve
            .args(["serve", "--dev", "--instance", &index.to_string()])
            .args(["--listen", &self.listen[index].to_string()])
            .arg("--config")
            .arg(self.configuration(index))
            .arg("--data-dir")
            .arg(self.data(index))
            .env(self.mark.0, &self.mark.1)
            .stdin(Stdio::null())
            .stderr(log.unwrap());
        let (process, url) = crate::serve::start(&mut serve);
        self.managers[index] = Some(process);
        self.apis[index] = Some(Api::new(&url).unwrap());
    }

    /// What the machine's manager can be asked.
    pub fn api(&self, index: usize) -> &Api {
        self.apis[index].as_ref().unwrap()
    }

    /// Every NVA with both instances.
    fn wait_for_sessions(&self, world: &World) {
        for (index, api) in self.apis.iter().flatten().enumerate() {
            let waited = world
                .lab
                .wait_until(&format!("sessions of machine {index}"), DEADLINE, |_| {
                    let peers = match api.peers() {
                        Ok(peers) => peers,
                        Err(error) => return Ok(vec![error.to_string()]),
                    };
                    let up = peers.iter().filter(|peer| peer.state == "Established").count();
                    let wanted = world.model.nvas.len();
                    Ok((up != wanted)
                        .then(|| format!("{up} of {wanted} are Established"))
                        .into_iter()
                        .collect())
                });
            waited.unwrap_or_else(|e| panic!("{e}"));
        }
    }

    fn data(&self, index: usize) -> PathBuf {
        self.place.path().join(format!("machine{index}"))
    }

    fn configuration(&self, index: usize) -> PathBuf {
        self.place.path().join(format!("serve{index}.toml"))
    }

    fn die(&mut self, index: usize) {
        self.kill_manager(index);
        let lock = self.data(index).join(format!("run/instance-{index}.lock"));
        let pid = std::fs::read_to_string(lock).unwrap();
        kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    }

    pub fn kill_manager(&mut self, index: usize) {
        let mut manager = self.managers[index].take().unwrap();
        manager.kill().unwrap();
        manager.wait().unwrap();
    }

    /// SIGSTOP makes the machine's manager hang, SIGCONT go on. One that is dead hears nothing.
    pub fn signal_manager(&self, index: usize, signal: Signal) {
        let manager = self.managers[index].as_ref().and_then(|it| i32::try_from(it.id()).ok());
        if let Some(manager) = manager {
            kill(Pid::from_raw(manager), signal).unwrap();
        }
    }
}

impl Drop for Machines {
    /// Instances that a killed manager has left are found and ended by the lab.
    fn drop(&mut self) {
        for manager in self.managers.iter_mut().flatten() {
            if let Ok(pid) = i32::try_from(manager.id()) {
                // One that hangs would not hear that it is to end.
                for signal in [Signal::SIGTERM, Signal::SIGCONT] {
                    let _ = kill(Pid::from_raw(pid), signal);
                }
            }
            let _ = manager.wait();
        }
    }
}

/// The `number`-th /24 of a block of its own.
fn prefix(block: u8, number: u32) -> Ipv4Net {
    let base = u32::from(Ipv4Addr::new(block, 0, 0, 0));
    Ipv4Net::new(Ipv4Addr::from(base + (number << 8)), 24).unwrap()
}
