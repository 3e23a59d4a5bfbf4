//! What one does to a running lab: kill, stop and start nodes, announce and withdraw prefixes.

use std::time::Duration;

use ipnet::IpNet;
use nix::sys::signal::Signal;

use crate::error::LabError;
use crate::handle::Lab;
use crate::process::{self, ProcessId};
use crate::state::INSTANCE;
use crate::topology::{Nva, Path};

/// How long a process gets to end properly before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// A killed process is gone at once, if the machine has time for it.
const KILL_GRACE: Duration = Duration::from_secs(60);

impl Lab {
    /// Kills a node's processes, as a crash would; returns how many there were.
    pub fn kill(&mut self, node: &str) -> Result<usize, LabError> {
        let processes = self.signal(node, Signal::SIGKILL)?;
        for process in &processes {
            process.wait_gone(KILL_GRACE);
        }
        self.forget_dead()?;
        Ok(processes.len())
    }

    /// Sends a node's processes a signal; returns which they are. SIGSTOP makes them hang, SIGCONT go on.
    pub fn signal(&self, node: &str, signal: Signal) -> Result<Vec<ProcessId>, LabError> {
        let processes = self.running(node)?;
        for process in &processes {
            process
                .signal(signal)
                .map_err(LabError::system(format!("sending {node} {signal}")))?;
        }
        Ok(processes)
    }

    /// Lets a node's processes end properly; returns how many there were.
    pub fn stop(&mut self, node: &str) -> Result<usize, LabError> {
        let mut processes = self.running(node)?;
        // What was started first (zebra) serves what was started later (bgpd).
        processes.reverse();
        let left = process::end_all(&processes, STOP_GRACE);
        self.forget_dead()?;
        if left.is_empty() {
            Ok(processes.len())
        } else {
            Err(not_possible(node, "its processes would not end"))
        }
    }

    /// Starts what does not run of a node; returns how many processes that were.
    pub fn start(&mut self, node: &str) -> Result<usize, LabError> {
        let _lock = self.directory.lock()?;
        if instance_number(node).is_some() {
            return Err(not_possible(
                node,
                "the manager starts it by itself: `lab start manager` if that is down",
            ));
        }
        let is_meant = |p: &crate::state::ManagedProcess| p.node == node || p.name == node;
        let all = (0..self.state.processes.len())
            .filter(|i| is_meant(&self.state.processes[*i]))
            .collect::<Vec<_>>();
        if all.is_empty() {
            return Err(self.nothing_runs(node));
        }
        let dead: Vec<usize> = all.into_iter().filter(|i| !self.is_running(*i)).collect();
        for index in &dead {
            self.respawn(*index)?;
        }
        if let Some(nva) = self.state.topology.router(node).filter(|_| !dead.is_empty()) {
            self.appliance(nva)?.after_start()?;
        }
        Ok(dead.len())
    }

    /// Starts a process of the lab again, with other arguments, as from now on.
    ///
    /// `name` is the process's own: `manager`, `agent-vm1`. It is killed first if it runs.
    pub fn start_anew(&mut self, name: &str, change: impl FnOnce(&mut Vec<String>)) -> Result<(), LabError> {
        let _lock = self.directory.lock()?;
        let index = self.state.processes.iter().position(|process| process.name == name);
        let index = index.ok_or_else(|| self.state.no_such_node(name))?;
        if let Some(id) = self.state.processes[index].id {
            let killing = LabError::system(format!("killing {name}"));
            id.signal(Signal::SIGKILL).map_err(killing)?;
            id.wait_gone(KILL_GRACE);
        }
        change(&mut self.state.processes[index].spec.argv);
        self.respawn(index)
    }

    /// Lets an NVA announce prefixes, with the path options that the topology gives them, if any.
    pub fn announce(&mut self, node: &str, prefixes: &[IpNet]) -> Result<(), LabError> {
        let nva = self.nva(node)?;
        let options = |prefix: &IpNet| nva.announce.iter().find(|p| p.prefix == *prefix).cloned();
        let more: Vec<Path> = prefixes
            .iter()
            .map(|p| options(p).unwrap_or_else(|| Path::plain(*p)))
            .collect();
        self.announce_paths(node, &more)
    }

    /// Lets an NVA announce prefixes with these path options.
    pub fn announce_paths(&mut self, node: &str, more: &[Path]) -> Result<(), LabError> {
        let _lock = self.directory.lock()?;
        let nva = self.nva(node)?;
        let paths = self.state.announced.entry(node.to_owned()).or_default();
        paths.retain(|p| more.iter().all(|m| m.prefix != p.prefix));
        paths.extend_from_slice(more);
        self.save()?;
        let appliance = self.appliance(&nva)?;
        appliance.configure()?;
        if self.node_runs(node) {
            appliance.announce(more)
        } else {
            Ok(())
        }
    }

    /// Lets an NVA withdraw prefixes.
    pub fn withdraw(&mut self, node: &str, prefixes: &[IpNet]) -> Result<(), LabError> {
        let _lock = self.directory.lock()?;
        let nva = self.nva(node)?;
        let paths = self.state.announced.entry(node.to_owned()).or_default();
        if let Some(unknown) = prefixes.iter().find(|p| paths.iter().all(|path| path.prefix != **p)) {
            return Err(not_possible(node, &format!("it does not announce {unknown}")));
        }
        paths.retain(|p| !prefixes.contains(&p.prefix));
        self.save()?;
        let appliance = self.appliance(&nva)?;
        appliance.configure()?;
        if self.node_runs(node) {
            appliance.withdraw(prefixes)
        } else {
            Ok(())
        }
    }

    /// Whether all processes of a node run.
    pub fn node_runs(&self, node: &str) -> bool {
        let mut processes = self.state.processes_of(node).peekable();
        processes.peek().is_some() && processes.all(|p| p.id.is_some_and(ProcessId::is_alive))
    }

    fn nva(&self, node: &str) -> Result<Nva, LabError> {
        match self.state.topology.router(node) {
            Some(nva) if nva.asn > 0 => Ok(nva.clone()),
            Some(_) => Err(not_possible(node, "it speaks no BGP")),
            None if self.state.node_names().iter().any(|n| n == node) => {
                Err(not_possible(node, "it is no NVA and no site"))
            }
            None => Err(self.state.no_such_node(node)),
        }
    }

    fn is_running(&self, index: usize) -> bool {
        self.state.processes[index].id.is_some_and(ProcessId::is_alive)
    }

    /// The running processes of a node.
    fn running(&self, node: &str) -> Result<Vec<ProcessId>, LabError> {
        if let Some(number) = instance_number(node) {
            return self
                .instance(number)
                .map(|id| vec![id])
                .ok_or_else(|| not_possible(node, "it does not run"));
        }
        if self.state.processes_of(node).next().is_none() {
            return Err(self.nothing_runs(node));
        }
        let processes = self.state.processes_of(node).filter_map(|p| p.id);
        Ok(processes.filter(|id| id.is_alive()).collect())
    }

    fn nothing_runs(&self, node: &str) -> LabError {
        if self.state.node_names().iter().any(|n| n == node) {
            not_possible(node, "nothing runs there; `lab link down` cuts it off")
        } else {
            self.state.no_such_node(node)
        }
    }

    /// An instance process: the manager started it, so it is found by its mark and its arguments.
    pub(crate) fn instance(&self, number: u8) -> Option<ProcessId> {
        let number = number.to_string();
        let mut all = process::find_all(self.directory.path(), &Default::default()).into_iter();
        all.find(|id| {
            let words = process::command_line(id.pid);
            words.get(1).is_some_and(|w| w == "instance")
                && words.windows(2).any(|w| w[0] == "--index" && w[1] == number)
        })
    }

    /// Ended processes are no longer expected to run.
    fn forget_dead(&mut self) -> Result<(), LabError> {
        for process in &mut self.state.processes {
            process.id = process.id.filter(|id| id.is_alive());
        }
        self.save()
    }
}

fn instance_number(node: &str) -> Option<u8> {
    node.strip_prefix(INSTANCE)?.parse().ok()
}

fn not_possible(node: &str, reason: &str) -> LabError {
    LabError::NotPossible {
        node: node.to_owned(),
        reason: reason.to_owned(),
    }
}
