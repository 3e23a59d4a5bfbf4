//! One NIC: a thread in its network namespace that makes the kernel's table what the instances say.
//!
//! It waits for news from instances and from the kernel, takes all that has come, and then works off the plan in portions, looking for
//! further news between two of them. After a failure it reads the kernel again and tries once more; what fails again is
//! reported and tried later.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::mpsc;

use api::agent::Installed as Confirmation;

use crate::confirm::Confirmations;
use crate::merge::{Merge, Said};
use crate::namespace;
use crate::neighbours::Neighbours;
use crate::netlink::{Kernel, Link, Monitor, News, Target};
use crate::options::{KernelSettings, NicSpec, Resilient};
use crate::ours::NEXTHOP_IDS;
use crate::plan::{Installed, NexthopId, Op, Planner};
use crate::tables::Confirm;

/// Operations between two looks at the news. About 15 ms of the kernel's work.
const PORTION: usize = 2048;

/// News from instances that wait for a NIC's thread. More, and the stream's reader waits.
pub(crate) const INPUTS: usize = 256;

/// Times between attempts at what has failed.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Problems told per confirmation; a table with a mistake in each route needs no more.
const MAX_PROBLEMS: usize = 20;

/// How often it is looked whether the namespace's path still leads to the namespace that we are in.
const LOOK_AT_NAMESPACE: Duration = Duration::from_secs(5);

/// Reading the kernel takes at most one part of so many, however much others change.
const READING_SHARE: u32 = 4;

/// What an instance's client tells a NIC.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// Which instance.
    pub(crate) voice: usize,
    /// What it said.
    pub(crate) said: Said,
    /// To be confirmed when it is in the kernel.
    pub(crate) confirm: Option<Confirm>,
}

/// What a NIC's thread needs from the start.
pub(crate) struct NicOptions {
    pub(crate) spec: NicSpec,
    pub(crate) voices: usize,
    pub(crate) system_routes: bool,
    pub(crate) resilient: Option<Resilient>,
    pub(crate) kernel_settings: KernelSettings,
    pub(crate) confirmations: Vec<Confirmations>,
}

/// Starts the thread. It ends when the sender of its inputs is dropped.
pub(crate) fn spawn(options: NicOptions, inputs: mpsc::Receiver<Input>) -> io::Result<std::thread::JoinHandle<()>> {
    let name = options.spec.id.rsplit('/').next().unwrap_or_default().to_owned();
    std::thread::Builder::new().name(format!("nic {name}")).spawn(move || {
        let span = tracing::info_span!("nic", nic = %options.spec.id);
        let _entered = span.enter();
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "the NIC's thread cannot run"),
        };
        runtime.block_on(NicTask::new(options, inputs).run());
    })
}

struct NicTask {
    options: NicOptions,
    inputs: mpsc::Receiver<Input>,
    merge: Merge,
    /// Per instance: the latest tables and generations, and the ones that were confirmed.
    latest: Vec<Option<Confirm>>,
    confirmed: Vec<Option<Confirm>>,
    neighbours: Neighbours,
    /// Next hops have come or gone since their neighbours were looked for.
    nexthops_changed: bool,
    /// The namespace that the thread is in, once it is in the right one.
    entered: Option<namespace::Identity>,
    look_at_namespace_at: Instant,
    /// Settings of the namespace that could not be made.
    setting_problems: Vec<String>,
    sockets: Option<(Kernel, Monitor)>,
    link: Option<Link>,
    table: Option<TableState>,
    /// The link or the kernel's table are to be read again.
    look: Look,
    retry_at: Option<Instant>,
    retry_after: Duration,
    last_read: Option<(Instant, Duration)>,
    /// It was read before its time, which happens once until it is read in time.
    read_early: bool,
    reported: Vec<String>,
    /// Entries of ours that somebody else changed or removed.
    repaired: u64,
    /// Stranded and repaired, as last confirmed.
    reported_counts: (u64, u64),
}

struct TableState {
    target: Target,
    installed: Installed,
    planner: Planner,
    /// The kernel may have carried out more than is recorded: its answers got lost.
    unanswered: bool,
    /// Somebody else's routes may be where ours were: to replace those would replace theirs.
    overwritten: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    No,
    AtTable,
    AtLink,
}

enum Wake {
    Input(Option<Input>),
    Kernel(io::Result<Vec<News>>),
    Time,
}

impl NicTask {
    fn new(options: NicOptions, inputs: mpsc::Receiver<Input>) -> NicTask {
        let merge = Merge::new(options.voices, options.system_routes);
        NicTask {
            latest: vec![None; options.voices],
            confirmed: vec![None; options.voices],
            options,
            inputs,
            merge,
            neighbours: Neighbours::default(),
            nexthops_changed: true,
            entered: None,
            look_at_namespace_at: Instant::now() + LOOK_AT_NAMESPACE,
            setting_problems: Vec::new(),
            sockets: None,
            link: None,
            table: None,
            look: Look::AtLink,
            retry_at: None,
            retry_after: FIRST_RETRY,
            last_read: None,
            read_early: false,
            reported: Vec::new(),
            repaired: 0,
            reported_counts: (0, 0),
        }
    }

    async fn run(mut self) {
        loop {
            match self.wait().await {
                Wake::Input(None) => return,
                Wake::Input(Some(input)) => {
                    self.take(input);
                    if !self.take_waiting() {
                        return;
                    }
                }
                Wake::Kernel(Ok(news)) => news.into_iter().for_each(|news| self.heard(news)),
                Wake::Kernel(Err(error)) => {
                    tracing::warn!(%error, "the kernel's announcements ended; opening the sockets again");
                    self.sockets = None;
                    self.look = Look::AtLink;
                }
                Wake::Time => self.timeout(Instant::now()),
            }
            while self.merge.is_known() {
                self.work();
                if self.look == Look::No || self.retry_at.is_some() {
                    break;
                }
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let look_at_namespace = self
            .options
            .spec
            .namespace
            .is_some()
            .then_some(self.look_at_namespace_at);
        let deadlines = [self.retry_at, self.neighbours.again_at(), look_at_namespace];
        let time = async |deadline: Option<Instant>| match deadline {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        };
        let table = self.options.spec.table;
        let kernel = async |sockets: &mut Option<(Kernel, Monitor)>| {
            let Some((_, monitor)) = sockets else {
                return std::future::pending().await;
            };
            let mut heard = Vec::new();
            monitor.news(table, |news| heard.push(news)).await.map(|()| heard)
        };
        tokio::select! {
            biased;
            input = self.inputs.recv() => Wake::Input(input),
            news = kernel(&mut self.sockets) => Wake::Kernel(news),
            () = time(deadlines.into_iter().flatten().min()) => Wake::Time,
        }
    }

    fn timeout(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.look = self.look.max(Look::AtTable);
        }
        let silent = self.neighbours.due(now);
        self.resolve(&silent);
        if self.look_at_namespace_at <= now {
            self.look_at_namespace_at = now + LOOK_AT_NAMESPACE;
            self.follow_namespace();
        }
    }

    /// A namespace that was made anew under its old name is another one, and ours hears nothing of it.
    fn follow_namespace(&mut self) {
        let Some(entered) = self.entered else { return };
        let now = namespace::identity(self.options.spec.namespace.as_deref());
        if now.is_ok_and(|now| now != entered) {
            tracing::info!("the network namespace was made anew; going there");
            self.entered = None;
            self.sockets = None;
            self.link = None;
            self.table = None;
            self.neighbours.forget();
            self.look = Look::AtLink;
        }
    }

    fn resolve(&mut self, neighbours: &[IpAddr]) {
        let (Some(link), Some((kernel, _))) = (&self.link, &mut self.sockets) else {
            return;
        };
        if let Err(error) = kernel.resolve(link.index, neighbours) {
            tracing::debug!(%error, "next hops could not be looked for");
        }
    }

    fn take(&mut self, input: Input) {
        if let (Some(confirm), Some(latest)) = (input.confirm, self.latest.get_mut(input.voice)) {
            *latest = Some(confirm);
            // A table that is told again wants to hear again, on its stream.
            self.confirmed[input.voice] = None;
        }
        let addresses = self.merge.facts().addresses.clone();
        self.merge.handle(input.voice, input.said);
        if self.merge.facts().addresses != addresses {
            self.look = Look::AtLink;
        }
    }

    /// Takes what has come meanwhile; false when nothing will come any more.
    fn take_waiting(&mut self) -> bool {
        loop {
            match self.inputs.try_recv() {
                Ok(input) => self.take(input),
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn heard(&mut self, news: News) {
        let look = match &news {
            News::Link(link) if self.link.as_ref() == Some(link) => Look::No,
            News::Link(link) if self.is_another(link.index) => self.look_over(link.index),
            News::Link(_) | News::Lost => Look::AtLink,
            News::LinkGone(index) if self.is_another(*index) => self.look_over(*index),
            News::LinkGone(_) => Look::AtLink,
            News::Address { link, address } if self.is_anothers(*link, address) => Look::No,
            News::Address { .. } => Look::AtLink,
            News::OurRoute => Look::AtTable,
            News::ForeignRoute(prefix) if self.merge.routes().contains_key(prefix) => {
                if let Some(state) = &mut self.table {
                    state.overwritten = true;
                }
                Look::AtTable
            }
            News::ForeignRoute(prefix) if self.may_lead_to_next_hops(prefix) => Look::AtTable,
            News::ForeignRoute(_) => Look::No,
            News::Nexthop { id, is_there } => self.look_at_nexthop(*id, *is_there),
            News::Neighbour(neighbour) => {
                if self.link_to(neighbour.address) == Some(neighbour.link) {
                    self.neighbours
                        .heard(neighbour.address, neighbour.answers, Instant::now());
                }
                Look::No
            }
        };
        tracing::trace!(?news, ?look, "heard from the kernel");
        self.look = self.look.max(look);
    }

    /// Whether a link is not the NIC's, as far as that is known.
    fn is_another(&self, index: u32) -> bool {
        self.link.as_ref().is_some_and(|ours| ours.index != index)
    }

    /// Whether an address is no matter of the NIC's: containers on the same machine come and go with theirs. At an instance of a gateway
    /// it may be a tunnel's, which leads to next hops.
    fn is_anothers(&self, link: u32, address: &IpAddr) -> bool {
        self.is_another(link)
            && !self.options.spec.has_links_beside()
            && !self.merge.facts().addresses.contains(address)
    }

    /// Another NIC in this namespace has ids of the same range. They are to be left alone, and more need not be known of them.
    fn look_at_nexthop(&mut self, id: NexthopId, is_there: bool) -> Look {
        match &mut self.table {
            Some(state) if !state.installed.is_ours(id) => {
                state.installed.note_other(id, is_there);
                Look::No
            }
            _ => Look::AtTable,
        }
    }

    /// News of another link matter if next hops are reached over it.
    fn look_over(&mut self, index: u32) -> Look {
        if !self.options.spec.has_links_beside() {
            return Look::No;
        }
        let Some((kernel, _)) = &mut self.sockets else {
            return Look::AtLink;
        };
        kernel.note_other_link();
        if kernel.leads_over(index) {
            Look::AtTable
        } else {
            Look::No
        }
    }

    /// A route that came or went may lead to next hops over another link, or did.
    fn may_lead_to_next_hops(&self, prefix: &IpNet) -> bool {
        let others = self
            .sockets
            .as_ref()
            .is_some_and(|(kernel, _)| kernel.has_other_links());
        let mut next_hops = self.table.iter().flat_map(|state| state.installed.nexthops().values());
        others && prefix.prefix_len() > 0 && next_hops.any(|gateway| gateway.is_some_and(|hop| prefix.contains(&hop)))
    }

    /// The link that a next hop is on.
    fn link_to(&self, next_hop: IpAddr) -> Option<u32> {
        let (link, (kernel, _)) = self.link.as_ref().zip(self.sockets.as_ref())?;
        Some(kernel.link_of(next_hop, link.index))
    }

    /// Makes the kernel's table the wanted one, and confirms it.
    fn work(&mut self) {
        let result = self
            .prepare()
            .and_then(|()| self.install().map_err(|error| format!("netlink: {error}")));
        let (problems, failed) = match result {
            Ok(Some(problems)) => problems,
            // Nothing is known, so nothing is confirmed, until it may be read.
            Ok(None) => return,
            Err(problem) => (vec![problem], true),
        };
        if failed {
            let due = Instant::now() + self.retry_after;
            self.retry_at = Some(self.retry_at.map_or(due, |at| at.min(due)));
            self.retry_after = (self.retry_after * 2).min(LAST_RETRY);
        } else if self.look == Look::No {
            self.retry_at = None;
            self.retry_after = FIRST_RETRY;
        }
        self.confirm(problems);
    }

    /// Namespace, sockets, link, what is installed: all that a plan needs.
    fn prepare(&mut self) -> Result<(), String> {
        self.enter()?;
        if self.sockets.is_none() {
            let open = || {
                let kernel = Kernel::open_with(self.options.resilient)?;
                let monitor = Monitor::open(kernel.port())?;
                io::Result::Ok((kernel, monitor))
            };
            self.sockets = Some(open().map_err(|error| format!("netlink: {error}"))?);
            self.look = Look::AtLink;
        }
        let Some((kernel, _)) = &mut self.sockets else {
            return Err("no netlink socket".to_owned());
        };
        if self.look == Look::AtLink {
            self.look = Look::AtTable;
            let link = find_link(kernel, &self.merge).inspect_err(|_| self.look = Look::AtLink)?;
            if self.link.as_ref().map(|link| link.index) != Some(link.index) {
                tracing::info!(link = %link.name, "found the NIC's link");
                self.table = None;
            }
            if self.options.spec.has_links_beside() {
                let looked = kernel.look_for_other_links(link.index);
                looked.map_err(|error| format!("netlink: {error}"))?;
            }
            self.link = Some(link);
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), String> {
        if self.entered.is_some() {
            return Ok(());
        }
        if let Some(path) = &self.options.spec.namespace {
            namespace::enter(path).map_err(|error| format!("network namespace {}: {error}", path.display()))?;
        }
        let entered = namespace::identity(None).map_err(|error| format!("network namespace: {error}"))?;
        self.entered = Some(entered);
        self.setting_problems = match self.options.kernel_settings {
            KernelSettings::Set => namespace::set_sysctls(),
            KernelSettings::Leave => {
                for other in namespace::other_sysctls() {
                    tracing::info!("{other}; left as it is");
                }
                Vec::new()
            }
        };
        Ok(())
    }

    /// Works off the plan; returns what stands in its way, and whether to try again later. `None`: what is installed has to be read first, and may not
    /// be yet.
    fn install(&mut self) -> io::Result<Option<(Vec<String>, bool)>> {
        let mut problems = self.setting_problems.clone();
        let Some(link) = self.link.clone() else {
            return Ok(Some((problems, true)));
        };
        if !link.running {
            self.table = None;
            self.neighbours.forget();
            self.look = Look::No;
            problems.push(format!("link {} is down or has no carrier", link.name));
            return Ok(Some((problems, false)));
        }
        let target = Target {
            link: link.index,
            table: self.options.spec.table,
        };
        let mut failures: Vec<String> = Vec::new();
        let mut looks_again = false;
        loop {
            let mut is_behind = false;
            if self.look != Look::No || self.table.is_none() {
                if self.may_read() {
                    self.read(target)?;
                    failures.clear();
                    self.read_early &= looks_again;
                } else if !self.is_table_known() {
                    return Ok(None);
                } else {
                    // What instances say does not wait for the reading: what others have removed or changed is refused, and looked into below.
                    is_behind = true;
                }
            }
            let found = self.work_off(&mut failures)?;
            if failures.is_empty() || looks_again || !found || (is_behind && self.read_early) {
                break;
            }
            // Something is not as we thought: look again.
            looks_again = true;
            self.read_early |= is_behind;
            self.last_read = None;
            self.look = Look::AtTable;
        }
        if let Some(state) = &self.table {
            problems.extend(
                state
                    .planner
                    .problems()
                    .take(MAX_PROBLEMS)
                    .map(|problem| problem.to_string()),
            );
        }
        self.look_for_neighbours();
        problems.extend(self.neighbours.problems());
        let failed = !failures.is_empty();
        problems.append(&mut failures);
        Ok(Some((problems, failed)))
    }

    /// Whether it is known what is installed, but for what others have changed since.
    fn is_table_known(&self) -> bool {
        self.table
            .as_ref()
            .is_some_and(|state| !state.unanswered && !state.overwritten)
    }

    /// Has the kernel resolve the next hops that have come into use.
    fn look_for_neighbours(&mut self) {
        let Some(state) = self.table.as_ref().filter(|_| self.nexthops_changed) else {
            return;
        };
        self.nexthops_changed = false;
        let used = state.installed.nexthops().values().copied().flatten().collect();
        let new = self.neighbours.note_used(used);
        self.resolve(&new);
    }

    /// Reading is limited to a share of the time, so that a quarrel with somebody who removes our routes can't eat the machine.
    fn may_read(&mut self) -> bool {
        let Some((at, took)) = self.last_read else { return true };
        let due = at + took * READING_SHARE;
        if due <= Instant::now() {
            return true;
        }
        self.retry_at = Some(self.retry_at.map_or(due, |at| at.min(due)));
        false
    }

    fn read(&mut self, target: Target) -> io::Result<()> {
        let Some((kernel, _)) = &mut self.sockets else {
            return Ok(());
        };
        let begin = Instant::now();
        let installed = kernel.read(target)?;
        self.last_read = Some((Instant::now(), begin.elapsed()));
        self.look = Look::No;
        self.nexthops_changed = true;
        match &mut self.table {
            Some(state) => {
                let changed = state.installed.changed_in(&installed);
                // A link that goes down takes its entries along: that is nobody's doing. What got no answer may be our own.
                if changed > 0 && !state.unanswered && kernel.link(target.link)?.is_some_and(|link| link.running) {
                    tracing::warn!(
                        changed,
                        "somebody changed or removed entries of ours; they are put right"
                    );
                    self.repaired += changed as u64;
                }
                state.installed = installed;
                (state.unanswered, state.overwritten) = (false, false);
                state.planner.start_over();
            }
            None => {
                let planner = Planner::new(&installed, first_id(target));
                tracing::debug!(routes = installed.routes().len(), "read what is installed");
                self.table = Some(TableState {
                    target,
                    installed,
                    planner,
                    unanswered: false,
                    overwritten: false,
                });
            }
        }
        Ok(())
    }

    /// Carries out portions until nothing is left to do; true if there was anything to do.
    fn work_off(&mut self, failures: &mut Vec<String>) -> io::Result<bool> {
        let mut any = false;
        loop {
            let (Some(state), Some((kernel, _))) = (&mut self.table, &mut self.sockets) else {
                return Ok(any);
            };
            let dirty = self.merge.take_dirty();
            state.planner.note(&self.merge, &state.installed, dirty);
            let ops = state.planner.next(&self.merge, &state.installed, PORTION);
            if ops.is_empty() {
                return Ok(any);
            }
            any = true;
            self.nexthops_changed |= ops
                .iter()
                .any(|op| matches!(op, Op::AddNexthop { .. } | Op::DeleteNexthop { .. }));
            let refused = kernel.apply(state.target, &ops).inspect_err(|_| {
                state.unanswered = true;
                self.look = Look::AtTable;
            })?;
            let mut refused = refused.into_iter().peekable();
            for (index, op) in ops.iter().enumerate() {
                match refused.next_if(|failure| failure.index == index) {
                    None => state.installed.record(op),
                    Some(failure) if failures.len() < MAX_PROBLEMS => failures.push(format!("{}: {failure}", name(op))),
                    Some(_) => {}
                }
            }
            self.take_waiting();
        }
    }

    fn confirm(&mut self, mut problems: Vec<String>) {
        let more = problems.len().saturating_sub(MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        if more > 0 {
            problems.push(format!("and {more} more"));
        }
        let counts = (self.merge.stranded(), self.repaired);
        let counted = std::mem::replace(&mut self.reported_counts, counts) != counts;
        let changed = problems != self.reported;
        if changed {
            match problems.first() {
                Some(first) => tracing::warn!(count = problems.len(), %first, "not everything is as wanted"),
                None => tracing::info!("everything is as wanted"),
            }
            self.reported.clone_from(&problems);
        }
        for (voice, latest) in self.latest.iter().enumerate() {
            if let Some(confirm) = *latest
                && (changed || counted || self.confirmed[voice] != *latest)
            {
                self.confirmed[voice] = *latest;
                let nic = self.options.spec.id.clone();
                self.options.confirmations[voice].put(Confirmation {
                    nic,
                    table: confirm.table,
                    generation: confirm.generation,
                    base: confirm.base.map(|(base, _)| base),
                    base_generation: confirm.base.map_or(0, |(_, generation)| generation),
                    problems: problems.clone(),
                    stranded: counts.0,
                    repaired: counts.1,
                });
            }
        }
    }
}

fn find_link(kernel: &mut Kernel, merge: &Merge) -> Result<Link, String> {
    let addresses = &merge.facts().addresses;
    for address in addresses {
        if let Some(link) = kernel
            .find_link(*address)
            .map_err(|error| format!("netlink: {error}"))?
        {
            return Ok(link);
        }
    }
    match addresses.first() {
        Some(address) => Err(format!("no link has the NIC's address {address} (yet)")),
        None => Err("the NIC's addresses are not known".to_owned()),
    }
}

/// Where the search for free ids starts: apart for each link, so that NICs of one namespace seldom meet.
fn first_id(target: Target) -> u32 {
    NEXTHOP_IDS.start() + (target.link.wrapping_mul(0x400) & 0xffff)
}

fn name(op: &Op) -> String {
    match op {
        Op::AddNexthop { gateway, .. } => format!("next hop {gateway}"),
        Op::AddGroup { id, .. } => format!("group {id:#x}"),
        Op::ReplaceGroup { id, .. } => format!("other members for group {id:#x}"),
        Op::AddRoute { prefix, .. } => format!("{prefix}"),
        Op::ReplaceRoute { prefix, .. } => format!("another way for {prefix}"),
        Op::DeleteRoute { prefix } => format!("removal of {prefix}"),
        Op::DeleteGroup { id } => format!("removal of group {id:#x}"),
        Op::DeleteNexthop { id } => format!("removal of next hop {id:#x}"),
    }
}

#[cfg(test)]
mod tests;
