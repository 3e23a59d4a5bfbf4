//! One keeper per instance process: finds it running or starts it, starts it again when it dies, and hands it every intent.
//!
//! It ends no instance that routes: routing goes on without the manager. Only one of its own that has not answered for half a minute is
//! ended and started again, and an orderly stop asks instances to end as well.

use std::sync::Arc;
use std::time::Duration;

use api::control::ControlError;
use routeserver::Intent;
use routeserver::report::InstanceReport;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::control::Control;
use super::core::{Core, rest_after};
use super::launch::Launcher;

/// `Succeeded` means ready: a write is answered when the instances that are up follow it, or after this long; then it is still in progress.
pub(crate) const IN_FORCE_PATIENCE: Duration = Duration::from_secs(2);
/// How often an instance that is up is asked how it is.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
/// An instance that says nothing for so long does not answer.
const HEALTH_PATIENCE: Duration = Duration::from_secs(3);
/// How often one that isn't is looked for.
const SEARCH_INTERVAL: Duration = Duration::from_millis(25);
/// How long an orderly stop waits for an instance to be gone.
pub(super) const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(3);
const _: () = assert!(
    SHUTDOWN_PATIENCE.as_millis() > crate::instance::LEAVES_WITHIN.as_millis(),
    "an instance that leaves in order is waited for"
);

/// What is known of an instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Status {
    /// The last health report; `None` while it doesn't answer.
    pub(crate) report: Option<InstanceReport>,
    /// Version of the intent that it has taken on in this life.
    pub(crate) acknowledged: u64,
    /// Where agents reach it, `http://…`.
    pub(crate) agent_url: Option<String>,
    /// Why it doesn't answer.
    pub(crate) last_error: Option<String>,
    /// Why it did not take on the last intent, if so: it answers and does not do as it is told.
    pub(crate) intent_problem: Option<String>,
    /// The version of that intent.
    pub(crate) refused: Option<u64>,
    /// How often this manager has started it.
    pub(crate) starts: u64,
}

impl Status {
    /// It answers.
    pub(crate) fn is_up(&self) -> bool {
        self.report.is_some()
    }
}

/// Keeps one instance; see the module's head.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) index: usize,
    pub(crate) control: Arc<dyn Control>,
    pub(crate) status: watch::Sender<Status>,
    /// `None`: somebody else starts it (tests).
    pub(crate) launcher: Option<Launcher>,
    pub(crate) core: Arc<Core>,
    /// `[audit] routes`.
    pub(crate) route_log: Option<String>,
}

impl Keeper {
    /// Keeps the instance until `stop` says so, and then sees it end.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut intents = self.core.intents();
        while !*stop.borrow_and_update() {
            self.look().await;
            let intent = Arc::clone(&intents.borrow_and_update());
            let up = self.status.borrow().is_up();
            if up && self.status.borrow().acknowledged != intent.version {
                let started = Instant::now();
                self.push(intent).await;
                tokio::select! {
                    () = sleep(rest_after(started.elapsed())) => {}
                    changed = stop.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                }
            }
            let pause = if up { HEALTH_INTERVAL } else { SEARCH_INTERVAL };
            tokio::select! {
                changed = intents.changed() => if changed.is_err() { return },
                () = sleep(pause) => {}
                () = Launcher::ended(&mut self.launcher), if up => {}
                changed = stop.changed() => if changed.is_err() { return },
            }
        }
        self.shut_down().await;
    }

    /// Asks how it is, and starts it if it doesn't answer.
    async fn look(&mut self) {
        match self.ask_health().await {
            Ok(report) => self.found(report),
            Err(error) => {
                self.missing(&error);
                self.start().await;
            }
        }
    }

    async fn start(&mut self) {
        let Some(launcher) = &mut self.launcher else {
            return;
        };
        let (started, error) = match launcher.see_to_it().await {
            Ok(started) => (started, launcher.last_end().map(str::to_owned)),
            Err(error) => (false, Some(format!("it cannot be started: {error}"))),
        };
        self.status.send_if_modified(|status| {
            let changed = started || (error.is_some() && status.last_error != error);
            status.starts += u64::from(started);
            if error.is_some() {
                status.last_error = error;
            }
            changed
        });
    }

    async fn ask_health(&self) -> Result<InstanceReport, ControlError> {
        match timeout(HEALTH_PATIENCE, self.control.health()).await {
            Ok(answer) => answer,
            Err(_) => Err(ControlError::Unreachable("it took too long".to_owned())),
        }
    }

    fn found(&mut self, report: InstanceReport) {
        let agent_url = match &mut self.launcher {
            Some(launcher) => launcher.answers(),
            None => None,
        };
        let index = self.index;
        self.status.send_if_modified(|status| {
            let before = status.clone();
            if !status.is_up() {
                tracing::info!(instance = index, epoch = report.epoch, "instance is up");
            }
            // A life that follows a version already need not be told it again.
            status.acknowledged = report.intent_version;
            status.report = Some(report);
            status.agent_url = agent_url;
            status.last_error = None;
            *status != before
        });
    }

    fn missing(&mut self, error: &ControlError) {
        let index = self.index;
        self.status.send_if_modified(|status| {
            let was_up = status.is_up();
            if was_up {
                tracing::warn!(instance = index, %error, "instance does not answer");
            }
            status.report = None;
            status.acknowledged = 0;
            status.intent_problem = None;
            status.refused = None;
            if was_up || status.last_error.is_none() {
                status.last_error = Some(error.to_string());
            }
            was_up
        });
    }

    async fn push(&mut self, intent: Arc<Intent>) {
        // Before the first intent is made there is nothing to say, and an empty one would end every session; so would one that is made of
        // another store.
        if intent.version == 0 || self.core.not_held().is_err() {
            return;
        }
        match self
            .control
            .put_intent(Arc::clone(&intent), self.route_log.clone())
            .await
        {
            Ok(()) => {
                self.status.send_modify(|status| {
                    status.acknowledged = intent.version;
                    status.intent_problem = None;
                    status.refused = None;
                });
                tracing::debug!(instance = self.index, version = intent.version, "intent taken on");
            }
            Err(ControlError::NewerIntent) => {
                let theirs = self.control.health().await;
                let Ok(theirs) = theirs.map(|report| report.intent_version) else {
                    return;
                };
                tracing::warn!(
                    instance = self.index,
                    theirs,
                    ours = intent.version,
                    "the instance follows a newer intent than is known here"
                );
                self.core.is_behind(self.index, theirs).await;
            }
            Err(error) => self.not_taken_on(intent.version, &error),
        }
    }

    /// It is tried again and again; the log has it once.
    fn not_taken_on(&self, version: u64, error: &ControlError) {
        let index = self.index;
        let problem = error.to_string();
        self.status.send_if_modified(|status| {
            let is_other = status.intent_problem.as_ref() != Some(&problem);
            if is_other {
                tracing::error!(instance = index, version, %error, "the intent was not taken on");
            }
            status.intent_problem = Some(problem);
            status.refused.replace(version) != Some(version) || is_other
        });
    }

    async fn shut_down(&mut self) {
        let index = self.index;
        let asked = self.control.shutdown().await.is_ok();
        let child = self.launcher.as_ref().is_some_and(Launcher::has_child);
        if !asked && let Some(launcher) = &self.launcher {
            launcher.terminate();
        }
        let gone = timeout(SHUTDOWN_PATIENCE, async {
            while self.ask_health().await.is_ok() {
                sleep(SEARCH_INTERVAL).await;
            }
            if child {
                Launcher::ended(&mut self.launcher).await;
            }
        });
        match gone.await {
            Ok(()) => tracing::info!(instance = index, "instance has ended"),
            Err(_) => tracing::warn!(instance = index, "instance is still there"),
        }
    }
}

/// Whether the instances that are up follow a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    ByAll,
    NotYet,
    /// This one says why it does not.
    NotBy(usize, String),
}

impl Status {
    fn follows(&self, version: u64) -> bool {
        !self.is_up() || self.acknowledged >= version
    }

    fn refuses(&self, version: u64) -> bool {
        self.refused.is_some_and(|refused| refused >= version)
    }
}

/// As it is now.
pub(crate) fn followed(statuses: &[watch::Receiver<Status>], version: u64) -> Followed {
    let mut followed = Followed::ByAll;
    for status in statuses {
        let status = status.borrow();
        if status.follows(version) {
            continue;
        }
        match (&status.report, &status.intent_problem) {
            (Some(report), Some(problem)) if status.refuses(version) => {
                return Followed::NotBy(report.instance, problem.clone());
            }
            _ => followed = Followed::NotYet,
        }
    }
    followed
}

/// Waits until every instance that is up has taken on `version` or has said why it does not, or until `patience` is over.
pub(crate) async fn in_force(statuses: &[watch::Receiver<Status>], version: u64, patience: Duration) -> Followed {
    let deadline = Instant::now() + patience;
    for status in statuses {
        let mut status = status.clone();
        let told = status.wait_for(|status| status.follows(version) || status.refuses(version));
        if tokio::time::timeout_at(deadline, told).await.is_err() {
            break;
        }
    }
    followed(statuses, version)
}
