//! NVAs that peer with one instance only, or say other prefixes to one than to the other: everything works, VMs have the union of both
//! (az §6, 11), and half of it is gone when that instance ends. In Azure nobody is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use routeserver::report::{Heard, InstanceReport, NvaReport};

use super::Manager;

/// Word that has not reached both instances yet is no difference: it must last so long.
const LASTS: Duration = Duration::from_secs(10);
/// How often what the instances have heard is compared.
const PERIOD: Duration = Duration::from_secs(1);

/// What an NVA stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Legs {
    /// A session with this instance only.
    Only(usize),
    /// So many prefixes told to each, and not the same.
    Differ([usize; 2]),
}

impl Legs {
    /// `None`: on both, or on none.
    fn of(heard: [Option<Heard>; 2]) -> Option<Legs> {
        match heard {
            [Some(_), None] => Some(Legs::Only(0)),
            [None, Some(_)] => Some(Legs::Only(1)),
            [Some(first), Some(second)] if first != second => Some(Legs::Differ([first.prefixes, second.prefixes])),
            _ => None,
        }
    }

    /// The same kind of trouble, in whatever numbers.
    fn is_like(self, other: Legs) -> bool {
        match (self, other) {
            (Legs::Differ(_), Legs::Differ(_)) => true,
            _ => self == other,
        }
    }

    /// For people.
    pub(crate) fn sentence(self, nva: &str) -> String {
        match self {
            Legs::Only(instance) => format!(
                "{nva} has a session with instance {instance} only: what it announces is gone when that instance ends; let it peer with \
                 both addresses of the route server"
            ),
            Legs::Differ([first, second]) => format!(
                "{nva} does not say the same to both instances: {first} prefixes to instance 0, {second} to instance 1; VMs have the \
                 union, as long as both live"
            ),
        }
    }
}

/// Who is one-legged, and since when.
#[derive(Debug, Default)]
pub(crate) struct OneLegged {
    since: BTreeMap<String, Since>,
}

#[derive(Clone, Copy, Debug)]
struct Since {
    legs: Legs,
    at: Instant,
    lasting: bool,
}

/// What is new about an NVA.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It is one-legged, and not only for a moment.
    Began(String, Legs),
    /// It is not any more, or is gone.
    Ended(String),
}

impl OneLegged {
    /// Compares what the instances have heard. An NVA that only one of them knows is a matter of the intent, which is on its way.
    pub(crate) fn observe(&mut self, now: Instant, reports: [&InstanceReport; 2]) -> Vec<News> {
        let mut before = std::mem::take(&mut self.since);
        let mut news = Vec::new();
        for NvaReport { id, heard } in &reports[0].nvas {
            let Some(other) = reports[1].nvas.iter().find(|other| other.id == *id) else {
                continue;
            };
            let Some(legs) = Legs::of([*heard, other.heard]) else {
                continue;
            };
            let earlier = before.get(id).copied().filter(|earlier| earlier.legs.is_like(legs));
            let mut since = earlier.unwrap_or(Since {
                legs,
                at: now,
                lasting: false,
            });
            since.legs = legs;
            if !since.lasting && now.saturating_duration_since(since.at) >= LASTS {
                since.lasting = true;
                news.push(News::Began(id.clone(), legs));
            }
            if earlier.is_some() {
                before.remove(id);
            }
            self.since.insert(id.clone(), since);
        }
        let ended = before.into_iter().filter(|(_, since)| since.lasting);
        news.extend(ended.map(|(id, _)| News::Ended(id)));
        news
    }

    /// Those that are one-legged for longer than a moment.
    pub(crate) fn lasting(&self) -> impl Iterator<Item = (&str, Legs)> {
        let lasting = self.since.iter().filter(|(_, since)| since.lasting);
        lasting.map(|(id, since)| (id.as_str(), since.legs))
    }
}

/// Compares for ever. While an instance does not answer, or has not heard everybody yet, nothing is to be learned from it: that is told
/// elsewhere.
pub(super) async fn compare(manager: Arc<Manager>) {
    let mut beat = tokio::time::interval(PERIOD);
    loop {
        beat.tick().await;
        let reports: Vec<InstanceReport> = manager
            .instances
            .iter()
            .filter_map(|instance| instance.status.borrow().report.clone())
            .filter(|report| !report.converging)
            .collect();
        if let [first, second] = &reports[..] {
            let news = manager.one_legged().observe(Instant::now(), [first, second]);
            news.iter().for_each(tell);
        }
    }
}

fn tell(news: &News) {
    match news {
        News::Began(nva, legs) => tracing::warn!("{}", legs.sentence(nva)),
        News::Ended(nva) => tracing::info!(peer = nva, "what the NVA says is the same at both instances again"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn report(instance: usize, nvas: &[(&str, Option<(usize, u64)>)]) -> InstanceReport {
        let nva = |(id, heard): &(&str, Option<(usize, u64)>)| NvaReport {
            id: (*id).to_owned(),
            heard: heard.map(|(prefixes, fingerprint)| Heard { prefixes, fingerprint }),
        };
        InstanceReport {
            instance,
            version: None,
            epoch: 1,
            intent_version: 1,
            converging: false,
            drained: false,
            peers_established: 0,
            peers: nvas.len(),
            peers_down: Vec::new(),
            nvas: nvas.iter().map(nva).collect(),
            agents: 0,
            address_problems: Vec::new(),
            circuit_problems: Vec::new(),
            memory: None,
            agent_port_problem: None,
        }
    }

    #[test]
    fn an_nva_is_one_legged_when_that_lasts_and_both_beginning_and_end_are_told_once() {
        let both = report(0, &[("a", Some((2, 7))), ("b", Some((1, 1))), ("c", None)]);
        let one = report(1, &[("a", None), ("b", Some((1, 1))), ("c", None)]);
        let mut watch = OneLegged::default();
        let start = Instant::now();
        assert_eq!(watch.observe(start, [&both, &one]), []);
        assert_eq!(watch.lasting().count(), 0);
        let began = News::Began("a".to_owned(), Legs::Only(0));
        assert_eq!(watch.observe(start + LASTS, [&both, &one]), [began]);
        assert_eq!(watch.observe(start + LASTS * 2, [&both, &one]), []);
        assert_eq!(watch.lasting().collect::<Vec<_>>(), [("a", Legs::Only(0))]);
        let whole = report(1, &both.nvas.iter().map(as_told).collect::<Vec<_>>());
        assert_eq!(
            watch.observe(start + LASTS * 3, [&both, &whole]),
            [News::Ended("a".to_owned())]
        );
        assert_eq!(watch.lasting().count(), 0);
    }

    fn as_told(nva: &NvaReport) -> (&str, Option<(usize, u64)>) {
        (&nva.id, nva.heard.map(|heard| (heard.prefixes, heard.fingerprint)))
    }

    #[test]
    fn other_prefixes_are_told_whatever_their_number_and_a_change_on_its_way_is_not() {
        let of = |instance, prefixes, fingerprint| report(instance, &[("a", Some((prefixes, fingerprint)))]);
        let mut watch = OneLegged::default();
        let start = Instant::now();
        for second in 0..=30 {
            // Each change reaches one of them a second earlier.
            let now = start + Duration::from_secs(second);
            let late = second - second % 2;
            assert_eq!(watch.observe(now, [&of(0, 3, second), &of(1, 3, late)]), [], "{second}");
        }
        let start = start + LASTS * 4;
        assert_eq!(watch.observe(start, [&of(0, 3, 40), &of(1, 3, 41)]), []);
        let told = watch.observe(start + LASTS, [&of(0, 4, 50), &of(1, 3, 41)]);
        assert_eq!(told, [News::Began("a".to_owned(), Legs::Differ([4, 3]))]);
        let sentence = Legs::Differ([4, 3]).sentence("a");
        assert!(
            sentence.contains("4 prefixes to instance 0, 3 to instance 1"),
            "{sentence}"
        );
        // Gone from the intent, and nothing is left of it.
        assert_eq!(
            watch.observe(start + LASTS * 2, [&report(0, &[]), &report(1, &[])]),
            [News::Ended("a".to_owned())]
        );
    }
}
