//! Watches a VM's kernel while others are killed: routes that should stay must be there at every moment.
//!
//! Two ways at once: the kernel's own word that a route was deleted (RTM_DELROUTE), and looking at the table again and again,
//! since the kernel says nothing of routes that go with their next hop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use lab::Lab;
use lab::watch::RouteWatch;

use crate::model::{Table, from_kernel};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);
const MAX_COMPLAINTS: usize = 20;

pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Findings>,
}

#[derive(Default)]
pub struct Findings {
    /// How often the table was read.
    pub looks: usize,
    /// What was missing or otherwise, and when it was seen.
    pub complaints: Vec<String>,
}

impl Watch {
    /// Watches that a node keeps these routes.
    pub fn start(lab: Lab, node: &'static str, stays: Table) -> Watch {
        let watch = RouteWatch::start(&lab.namespace(node).unwrap()).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut findings = Findings::default();
            // One look more after the word to stop, so that all that was said by then is heard.
            let mut last = false;
            while !last {
                last = stopped.load(Ordering::Relaxed);
                look(&lab, node, &stays, &mut findings);
                listen(&watch, &stays, &mut findings);
                std::thread::sleep(PAUSE);
            }
            findings
        });
        Watch { stop, thread }
    }

    /// Ends, and fails if a route was away for a moment.
    pub fn finish(self, what: &str) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let findings = self.thread.join().unwrap();
        assert!(
            findings.complaints.is_empty(),
            "{what}:\n{}",
            findings.complaints.join("\n")
        );
        findings.looks
    }
}

impl Findings {
    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < MAX_COMPLAINTS {
            self.complaints.push(complaint);
        }
    }
}

fn look(lab: &Lab, node: &str, stays: &Table, findings: &mut Findings) {
    let kernel = from_kernel(&lab.kernel_routes(node).unwrap());
    findings.looks += 1;
    for (prefix, way) in stays.iter().filter(|(prefix, way)| kernel.get(prefix) != Some(way)) {
        let now = kernel.get(prefix);
        findings.complain(format!(
            "look {}: {prefix} is {now:?}, should stay {way:?}",
            findings.looks
        ));
    }
}

fn listen(watch: &RouteWatch, stays: &Table, findings: &mut Findings) {
    // More was said than fits: the looks do not depend on it.
    let Ok(changes) = watch.changes() else { return };
    for change in changes.iter().filter(|change| change.gone) {
        if let Some(IpNet::V4(prefix)) = change.prefix
            && stays.contains_key(&prefix)
        {
            findings.complain(format!("after look {}: {prefix} was deleted", findings.looks));
        }
    }
}
