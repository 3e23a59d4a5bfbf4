//! The one task that owns the state machine: takes what has happened, lets it decide, carries out what it wants.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::control::Order;
use routeserver::instance::Output;
use routeserver::{Input, Instance};
use tokio::runtime::Handle;
use tokio::time::{sleep_until, timeout};

use super::agents::{Agents, Life};
use super::events::{Happening, Inbox, Owner};
use super::log;
use super::memory::Gauge;
use super::peers::Peers;
use super::pulse::Pulse;
use super::route_log::RouteLog;

/// While inputs keep coming they are taken for this long before routes are decided and told. The state machine itself puts off what is
/// part of a table; whoever says something else waits for this, and for one piece of a table.
const TURN: Duration = Duration::from_millis(4);
/// What was said in farewell has this long to leave; each connection gives up after 1 s by itself.
const FAREWELL: Duration = Duration::from_secs(2);
/// From the word to leave to the end, whatever peers do: the turn that was under way and the farewell.
pub(crate) const LEAVES_WITHIN: Duration = Duration::from_millis(FAREWELL.as_millis() as u64 + 500);
const _: () = assert!(
    FAREWELL.as_millis() > crate::connection::CLOSE_TIMEOUT.as_millis(),
    "a connection gives up before we do"
);

/// The state machine with everything that it moves.
#[derive(Debug)]
pub(super) struct Driver {
    index: usize,
    instance: Instance,
    inbox: Inbox,
    peers: Peers,
    agents: Agents,
    route_log: Option<RouteLog>,
    give_back_memory: fn(),
    rest: Rest,
    gauge: Gauge,
    finished: bool,
}

impl Driver {
    pub(super) fn new(
        index: usize,
        instance: Instance,
        life: Life,
        (owner, inbox): (Owner, Inbox),
        give_back_memory: fn(),
    ) -> Driver {
        Driver {
            index,
            instance,
            inbox,
            peers: Peers::new(owner),
            agents: Agents::new(life),
            route_log: None,
            give_back_memory,
            rest: Rest::default(),
            gauge: Gauge::default(),
            finished: false,
        }
    }

    /// Runs until the state machine has said farewell.
    pub(super) async fn run(mut self) {
        // This thread's.
        let mut pulse = Pulse::begin();
        while !self.finished {
            let first = self.wait(&mut pulse).await;
            let started = Instant::now();
            // Before anything that came of it.
            if let Some(lasted) = pulse.stood_still() {
                self.feed(Input::StoodStill { lasted });
            }
            self.take_turn(first, started + TURN);
            self.look_at_memory();
            self.instance.settle(Instant::now());
            self.carry_out();
            if self.rest.has_begun(started, Instant::now()) {
                self.give_back();
            }
        }
        let Driver { inbox, mut peers, .. } = self;
        // Whoever still has something to say is not heard any more.
        drop(inbox);
        let _ = timeout(FAREWELL, peers.close_all()).await;
    }

    /// The next thing that happens; `None`: a timer is due, or this process stood still.
    async fn wait(&mut self, pulse: &mut Pulse) -> Option<Happening> {
        loop {
            match timeout(Pulse::EVERY, self.happening()).await {
                Ok(happening) => return happening,
                Err(_) if pulse.has_stood_still() => return None,
                Err(_) => {}
            }
        }
    }

    async fn happening(&mut self) -> Option<Happening> {
        let deadline = self
            .instance
            .poll_timeout()
            .into_iter()
            .chain(self.rest.begins_at)
            .chain(self.look_again_at())
            .min();
        let timer = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // What has come in goes before timers: it may be what a timer waits for.
            biased;
            happening = self.inbox.next() => Some(happening),
            () = timer => None,
        }
    }

    /// Takes what has happened, and what waits behind it.
    fn take_turn(&mut self, first: Option<Happening>, until: Instant) {
        let mut next = first;
        while let Some(happening) = next {
            self.take(happening);
            for connection in self.peers.take_unheard() {
                self.inbox.add(connection);
            }
            if Instant::now() >= until {
                break;
            }
            next = self.inbox.try_next();
        }
        // Timers have their turn also when inputs never pause.
        let now = Instant::now();
        if self.instance.poll_timeout().is_some_and(|at| at <= now) {
            self.instance.handle_timeout(now);
        }
    }

    fn take(&mut self, happening: Happening) {
        let now = Instant::now();
        let input = match happening {
            Happening::Connection(event) => self.peers.connection(event),
            Happening::Listen(event) => Some(self.peers.listen(event)),
            Happening::Dialled { peer, result } => Some(self.peers.dialled(peer, result)),
            Happening::Agent(event) => self.agents.happened(event),
            Happening::Order(Order { intent, route_log }) => {
                RouteLog::follow(&mut self.route_log, route_log.as_deref(), self.index);
                Some(Input::Intent(Arc::new(intent)))
            }
            Happening::Input(input) => Some(input),
            Happening::Ask(question) => {
                question(&self.instance, now);
                None
            }
        };
        if let Some(input) = input {
            if let Some(log) = &mut self.route_log {
                log.heard(&input);
            }
            self.instance.handle(now, input);
        }
    }

    fn carry_out(&mut self) {
        self.agents.begin_turn();
        while let Some(output) = self.instance.poll_output() {
            // A queue that has just become full is told at once: the state machine may have more for it.
            match output {
                Output::Listen(listeners) => {
                    for problem in self.peers.listen_on(listeners) {
                        self.feed(problem);
                    }
                }
                Output::Bfd(wanted) => self.peers.watch(wanted),
                Output::Dial { peer, endpoint } => self.peers.dial(peer, endpoint),
                Output::SetDecodeContext { connection, context } => self.peers.set_context(connection, context),
                Output::Write { connection, bytes } => {
                    if let Some(full) = self.peers.write(connection, bytes) {
                        self.feed(full);
                    }
                }
                Output::Close { connection } => self.peers.close(connection),
                Output::ToAgents { agents, message } => {
                    if let Some(log) = &mut self.route_log {
                        log.told(&message);
                    }
                    for agent in self.agents.send(&agents, &message) {
                        self.feed(Input::AgentBackpressure { agent, full: true });
                    }
                }
                Output::NewLife => self.agents.begin_life(),
                Output::Event(event) => {
                    log::event(&event);
                    if let Some(log) = &mut self.route_log {
                        log.event(&event);
                    }
                }
                Output::Finished => self.finished = true,
            }
        }
        if let Some(log) = &mut self.route_log {
            log.flush();
        }
    }

    /// Tells the state machine how much memory there is, if it wants to know. What was freed is given back before it counts.
    fn look_at_memory(&mut self) {
        let Some(mark) = self.instance.memory_mark() else {
            return;
        };
        let now = Instant::now();
        if !self.gauge.is_due(now) {
            return;
        }
        let Some(mut used) = self.gauge.resident() else {
            return;
        };
        if used >= mark && self.gauge.may_give_back(now) {
            self.give_back();
            used = self.gauge.resident().unwrap_or(used);
        }
        let waiting = if used >= mark { self.peers.waiting() } else { Vec::new() };
        self.instance.handle(Instant::now(), Input::Memory { used, waiting });
    }

    /// While memory is short, it is looked at whether or not anything happens.
    fn look_again_at(&self) -> Option<Instant> {
        let is_short = self.instance.is_short_of_memory();
        is_short.then(|| self.gauge.look_again_at()).flatten()
    }

    fn give_back(&self) {
        (self.give_back_memory)();
        // The threads that decode and write give back before they sleep: they must be awake for it.
        for _ in 0..Handle::current().metrics().num_workers() {
            tokio::spawn(std::future::ready(()));
        }
    }

    fn feed(&mut self, input: Input) {
        self.instance.handle(Instant::now(), input);
    }
}

/// Notices that what came or went in bulk has come or gone.
#[derive(Debug, Default)]
struct Rest {
    /// If no turn takes its whole time until then.
    begins_at: Option<Instant>,
}

impl Rest {
    /// How long after the last turn that took its whole time. Tables that follow each other are one piece of work.
    const AFTER: Duration = Duration::from_millis(200);

    /// Hears of each turn; true once after much work.
    fn has_begun(&mut self, started: Instant, now: Instant) -> bool {
        if now - started >= TURN {
            self.begins_at = Some(now + Rest::AFTER);
        }
        self.begins_at.take_if(|at| *at <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_begins_once_after_much_work_whatever_small_things_happen_meanwhile() {
        let (mut rest, start) = (Rest::default(), Instant::now());
        let mut turn = |started_ms: u64, took: Duration| {
            let started = start + Duration::from_millis(started_ms);
            rest.has_begun(started, started + took)
        };
        let (small, whole) = (Duration::from_micros(50), TURN);
        assert!(!turn(0, small) && !turn(1_000, small), "nothing was done");
        assert!(!turn(2_000, whole) && !turn(2_150, whole), "work goes on");
        assert!(!turn(2_300, small), "too early");
        assert!(turn(2_400, small));
        assert!(!turn(5_000, small), "it has begun already");
    }
}
