//! `/metrics`: the manager's own numbers and both instances', as one valid exposition in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::response::Response;
use http::{HeaderValue, Method, StatusCode, header};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::http::empty_response;
use super::{Manager, ask};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    status: u16,
}

/// The manager's counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("routewright_manager");
        let requests = Family::default();
        let seconds = Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0]);
        registry.register(
            "http_requests",
            "HTTP requests answered, by method and status",
            requests.clone(),
        );
        registry.register("http_request_seconds", "How long HTTP requests took", seconds.clone());
        Metrics {
            registry,
            requests,
            seconds,
        }
    }
}

impl Metrics {
    /// Counts an answered request.
    pub(crate) fn request(&self, method: &Method, status: StatusCode, elapsed: Duration) {
        const KNOWN: [Method; 6] = [
            Method::GET,
            Method::HEAD,
            Method::PUT,
            Method::PATCH,
            Method::POST,
            Method::DELETE,
        ];
        // Invented methods must not make series without end.
        let method = match KNOWN.contains(method) {
            true => method.as_str(),
            false => "other",
        };
        let labels = RequestLabels {
            method: method.to_owned(),
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
        self.seconds.observe(elapsed.as_secs_f64());
    }
}

/// Answers `GET /metrics`.
pub(crate) async fn answer(manager: &Manager) -> Response {
    let mut exposition = Exposition::default();
    exposition.add(&own(manager));
    for (_, text) in ask::both(manager, |control| control.metrics()).await {
        exposition.add(&text);
    }
    let mut response = empty_response(StatusCode::OK);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    *response.body_mut() = exposition.render().into();
    response
}

fn own(manager: &Manager) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &manager.metrics.registry);
    let (resources, version) = manager
        .core
        .read(|state| (state.resources.len(), state.resources.version));
    let mut gauge = |name: &str, help: &str, samples: Vec<(String, u64)>| {
        let _ = writeln!(text, "# HELP routewright_manager_{name} {help}");
        let _ = writeln!(text, "# TYPE routewright_manager_{name} gauge");
        for (labels, value) in samples {
            let _ = writeln!(text, "routewright_manager_{name}{labels} {value}");
        }
    };
    gauge(
        "resources",
        "ARM resources stored.",
        vec![(String::new(), resources as u64)],
    );
    gauge(
        "intent_version",
        "Version of the stored intent.",
        vec![(String::new(), version)],
    );
    gauge(
        "store_writable",
        "Whether the store took the last write, and answers as far as is known.",
        vec![(String::new(), u64::from(manager.core.store_problem().is_none()))],
    );
    let others = manager.core.other_managers();
    gauge(
        "other_present",
        "Whether the manager of another machine, which has the same store, is there.",
        others
            .iter()
            .map(|it| {
                (
                    format!("{{instance=\"{}\"}}", it.instance),
                    u64::from(it.gone_since.is_none()),
                )
            })
            .collect(),
    );
    let per_instance = |value: fn(&super::keeper::Status) -> u64| {
        let statuses = manager.instances.iter();
        statuses
            .map(|instance| {
                let label = format!("{{instance=\"{}\"}}", instance.index);
                (label, value(&instance.status.borrow()))
            })
            .collect()
    };
    gauge(
        "instance_up",
        "1 while the instance process answers.",
        per_instance(|status| u64::from(status.is_up())),
    );
    gauge(
        "instance_intent_version",
        "Version of the intent that the instance has taken on.",
        per_instance(|status| status.acknowledged),
    );
    gauge(
        "instance_follows",
        "0 while the instance answers and refuses the intent.",
        per_instance(|status| u64::from(status.intent_problem.is_none())),
    );
    gauge(
        "instance_starts",
        "How often this manager has started the instance.",
        per_instance(|status| status.starts),
    );
    let one_legged = manager.one_legged();
    gauge(
        "nva_one_legged",
        "1 for an NVA that has a session with one instance only, or says other prefixes to each.",
        one_legged
            .lasting()
            .map(|(nva, _)| (format!("{{peer={nva:?}}}"), 1))
            .collect(),
    );
    text
}

/// Metric families in order of appearance; several sources may bring the same family, which must come out in one piece.
#[derive(Debug, Default)]
struct Exposition {
    order: Vec<String>,
    families: BTreeMap<String, MetricFamily>,
}

#[derive(Debug, Default)]
struct MetricFamily {
    help: Option<String>,
    kind: Option<String>,
    samples: Vec<String>,
}

impl Exposition {
    /// Adds a text in Prometheus' or OpenMetrics' format.
    fn add(&mut self, text: &str) {
        let mut current = String::new();
        for line in text.lines().map(str::trim_end) {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (Some(keyword), Some(name)) = (words.next(), words.next()) else {
                    continue;
                };
                let rest = words.next().unwrap_or_default();
                match keyword {
                    "HELP" => {
                        current = name.to_owned();
                        self.family(&current).help.get_or_insert(rest.to_owned());
                    }
                    "TYPE" => {
                        current = name.to_owned();
                        self.family(&current).kind.get_or_insert(rest.to_owned());
                    }
                    _ => {}
                }
            } else if !line.is_empty() && !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                if !belongs(name, &current) {
                    current = name.to_owned();
                }
                self.family(&current).samples.push(line.to_owned());
            }
        }
    }

    fn family(&mut self, name: &str) -> &mut MetricFamily {
        if !self.families.contains_key(name) {
            self.order.push(name.to_owned());
        }
        self.families.entry(name.to_owned()).or_default()
    }

    /// In Prometheus' text format: a counter's family has its samples' name, `_total` included, unlike in OpenMetrics.
    fn render(&self) -> String {
        let mut text = String::new();
        for name in &self.order {
            let family = &self.families[name];
            if family.samples.is_empty() {
                continue;
            }
            let counter = family.kind.as_deref() == Some("counter") && !name.ends_with("_total");
            let shown = if counter { format!("{name}_total") } else { name.clone() };
            let kind = match family.kind.as_deref() {
                Some(kind @ ("counter" | "gauge" | "histogram" | "summary")) => kind,
                Some("info" | "stateset") => "gauge",
                _ => "untyped",
            };
            if let Some(help) = &family.help {
                let _ = writeln!(text, "# HELP {shown} {help}");
            }
            let _ = writeln!(text, "# TYPE {shown} {kind}");
            for sample in &family.samples {
                let _ = writeln!(text, "{sample}");
            }
        }
        text
    }
}

/// A sample's name is its family's, perhaps with one of these endings.
fn belongs(sample: &str, family: &str) -> bool {
    let Some(rest) = sample.strip_prefix(family) else {
        return false;
    };
    let endings = ["", "_total", "_created", "_bucket", "_sum", "_count", "_info"];
    !family.is_empty() && endings.contains(&rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_several_sources_come_out_in_one_piece() {
        let mut exposition = Exposition::default();
        exposition.add(
            "# HELP up Up.\n# TYPE up gauge\nup{instance=\"0\"} 1\n# HELP msgs Messages.\n# TYPE msgs counter\nmsgs_total{instance=\"0\"} 5\n# EOF\n",
        );
        exposition.add(
            "# HELP msgs Messages.\n# TYPE msgs counter\nmsgs_total{instance=\"1\"} 6\n# HELP up Up.\n# TYPE up gauge\nup{instance=\"1\"} 1\n# EOF\n",
        );
        exposition.add("# TYPE t histogram\n# UNIT t seconds\nt_bucket{le=\"+Inf\"} 1\nt_sum 1\nt_count 1\nloose 3\n");
        assert_eq!(
            exposition.render(),
            "# HELP up Up.\n# TYPE up gauge\nup{instance=\"0\"} 1\nup{instance=\"1\"} 1\n\
             # HELP msgs_total Messages.\n# TYPE msgs_total counter\nmsgs_total{instance=\"0\"} 5\nmsgs_total{instance=\"1\"} 6\n\
             # TYPE t histogram\nt_bucket{le=\"+Inf\"} 1\nt_sum 1\nt_count 1\n\
             # TYPE loose untyped\nloose 3\n"
        );
    }
}
