//! The activity log: every management write and every refusal, with who, what, when and what came of it.
//!
//! ```text
//! request ─► Asker ─┬► done:    in the batch that changes the store, so that there is no change without its event
//!                   └► refused: an entry of its own
//! ```
//!
//! Reads that succeed are not logged. Refusals are logged up to a rate for each principal, and for all requests that nobody signed, so
//! that nobody can fill the log; how many were left out is told by the next one that is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arm::ArmError;
use arm::activity::{Event, Filter, select};
use axum::response::Response;
use http::{Method, StatusCode};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::json;

use super::asked::Need;
use super::http::{Incoming, json_response, method_not_allowed};
use super::path::percent_encoded;
use super::sign_in::Caller;
use super::{DEV_SUBSCRIPTION, Manager, access};
use crate::allowance::Allowance;
use crate::store::{Activity, ActivityRange, Write};

/// Refusals of one principal are kept up to so many in a minute.
const MAX_REFUSED: u32 = 60;
/// Principals that are counted apart; any more share a count.
const MAX_COUNTED: usize = 1_000;
/// What requests that nobody signed are counted under.
const NOBODY: &str = "";
/// What principals beyond [`MAX_COUNTED`] are counted under.
const OTHERS: &str = "*";
/// Events in one answer.
const PAGE: usize = 200;
/// Events that are looked at for one answer; a narrow filter over a long log takes several answers.
const MAX_LOOKED_AT: usize = 5_000;
/// How often old events are forgotten.
const FORGET_PERIOD: Duration = Duration::from_secs(3600);
const MICROS_PER_DAY: i64 = 24 * 3600 * 1_000_000;

/// Who asks for what: what is known of an event before its end.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) caller: Caller,
    /// What the request needs.
    pub(crate) need: Need,
    event: Event,
}

impl Asker {
    pub(crate) fn new(caller: Caller, incoming: &Incoming, need: Need) -> Asker {
        let event = Event {
            caller: caller.object_id().to_owned(),
            client_id: caller.client_id().to_owned(),
            ..event_of(incoming, &need)
        };
        Asker { caller, need, event }
    }

    /// The event of something that is done.
    pub(crate) fn event(&self, status: u16) -> Activity {
        stamped(self.event.clone().ended(status, None))
    }

    /// The event of a write, to be stored with it.
    pub(crate) fn done(&self, status: u16) -> Write {
        Write::Activity(self.event(status))
    }

    /// The event of something that was done along with the rest: of a deployment, or when a group goes.
    pub(crate) fn done_along(&self, status: u16, action: String, resource_id: String) -> Write {
        let event = Event {
            action,
            resource_id,
            ..self.event.clone()
        };
        Write::Activity(stamped(event.ended(status, None)))
    }

    /// Logs a refusal, if it is one that is logged and there are not too many.
    pub(crate) async fn refused(self, manager: &Manager, error: &ArmError) {
        let is_read = matches!(self.event.method.as_str(), "GET" | "HEAD");
        if !is_read || error.status == 403 {
            refused(manager, self.caller.object_id(), self.event, error).await;
        }
    }
}

/// Logs a refusal of somebody unknown, if there are not too many.
pub(crate) async fn refused_unsigned(manager: &Manager, incoming: &Incoming, need: &Need, error: &ArmError) {
    refused(manager, NOBODY, event_of(incoming, need), error).await;
}

async fn refused(manager: &Manager, principal: &str, event: Event, error: &ArmError) {
    if let Some(not_kept) = manager.refusals.admit(principal, Instant::now()) {
        let event = Event { not_kept, ..event };
        let event = stamped(event.ended(error.status, Some(error)));
        manager.core.record(event).await;
    }
}

fn event_of(incoming: &Incoming, need: &Need) -> Event {
    let (action, resource_id) = match need.action() {
        Some(needed) => (needed.action.clone(), needed.scope.clone()),
        None => (
            "Microsoft.Authorization/signIn/action".to_owned(),
            format!("/subscriptions/{DEV_SUBSCRIPTION}"),
        ),
    };
    Event {
        subscription: subscription_of(&resource_id),
        action,
        resource_id,
        method: incoming.method.to_string(),
        path: format!("/{}", incoming.segments.join("/")),
        client_address: incoming.client.map(|address| address.to_string()),
        correlation_id: incoming.correlation_id.clone(),
        request_id: incoming.request_id.clone(),
        ..Event::default()
    }
}

/// What is about none is told with what is about everything here.
fn subscription_of(id: &str) -> String {
    let mut segments = id.trim_start_matches('/').split('/');
    match (segments.next(), segments.next()) {
        (Some(first), Some(subscription)) if first.eq_ignore_ascii_case("subscriptions") => {
            subscription.to_ascii_lowercase()
        }
        _ => DEV_SUBSCRIPTION.to_owned(),
    }
}

/// With its id and time.
fn stamped(event: Event) -> Activity {
    let now = Timestamp::now();
    let event = Event {
        id: uuid::Uuid::new_v4().to_string(),
        timestamp: format!("{now:.6}"),
        ..event
    };
    Activity {
        at_micros: now.as_microsecond(),
        subscription: event.subscription.clone(),
        is_refusal: event.refusal.is_some(),
        body: json!(event),
    }
}

/// Counts refusals.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    by_principal: Mutex<HashMap<String, Allowance>>,
}

impl Refusals {
    /// Whether one more is kept, and how many were not since the last that was.
    fn admit(&self, principal: &str, now: Instant) -> Option<u64> {
        let mut periods = self.by_principal.lock().unwrap_or_else(PoisonError::into_inner);
        if periods.len() >= MAX_COUNTED && !periods.contains_key(principal) {
            periods.retain(|_, allowance| !allowance.is_over(now));
        }
        let principal = match periods.len() >= MAX_COUNTED && !periods.contains_key(principal) {
            true => OTHERS,
            false => principal,
        };
        let allowance = periods.entry(principal.to_owned());
        allowance.or_insert_with(|| Allowance::new(MAX_REFUSED, now)).take(now)
    }
}

/// Answers `…/providers/Microsoft.Insights/eventtypes/management/values`: what the caller may know of, the latest first.
pub(crate) async fn answer(
    manager: &Manager,
    caller: &Caller,
    incoming: &Incoming,
    subscription: &str,
) -> Result<Response, ArmError> {
    if incoming.method != Method::GET {
        return Err(method_not_allowed("GET"));
    }
    if incoming.parameter("api-version").is_none_or(str::is_empty) {
        let message = "The api-version query parameter (?api-version=) is required for all requests.";
        return Err(ArmError::new(400, "MissingApiVersionParameter", message));
    }
    let filter = Filter::parse(incoming.parameter("$filter").unwrap_or_default())?;
    let names = incoming.parameter("$select").unwrap_or_default();
    let mut range = ActivityRange {
        subscription: subscription.to_owned(),
        from_micros: micros(filter.from.as_deref(), i64::MIN)?,
        to_micros: micros(filter.to.as_deref(), i64::MAX)?,
        before: incoming.parameter("$skipToken").and_then(|token| token.parse().ok()),
        limit: PAGE,
    };
    let mut shown = Vec::new();
    let mut looked_at = 0;
    let is_last = loop {
        let events = manager.core.activity(range.clone()).await?;
        let is_last = events.len() < PAGE;
        looked_at += events.len();
        range.before = events.last().map(|(sequence, _)| *sequence).or(range.before);
        let wanted = events
            .into_iter()
            .filter_map(|(_, body)| serde_json::from_value::<Event>(body).ok())
            .filter(|event| filter.wants(event) && access::may_know(manager, caller, event));
        shown.extend(wanted.map(|event| select(event.shown(&manager.sign_in.tenant), names)));
        if is_last || shown.len() >= PAGE || looked_at >= MAX_LOOKED_AT {
            break is_last;
        }
    };
    let mut body = json!({ "value": shown });
    if let (false, Some(before)) = (is_last, range.before) {
        body["nextLink"] = next_link(incoming, before).into();
    }
    Ok(json_response(StatusCode::OK, &body))
}

fn next_link(incoming: &Incoming, before: i64) -> String {
    let mut link = format!("{}/{}?", incoming.base, incoming.segments.join("/"));
    for (name, value) in &incoming.query {
        if !name.eq_ignore_ascii_case("$skipToken") {
            link.push_str(&format!("{name}={}&", percent_encoded(value)));
        }
    }
    format!("{link}$skipToken={before}")
}

/// A time as clients write it: RFC 3339, without an offset (then it is UTC), or only a date.
fn micros(text: Option<&str>, otherwise: i64) -> Result<i64, ArmError> {
    let Some(text) = text else {
        return Ok(otherwise);
    };
    let civil = |text: &str| text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    let parsed = text.parse::<Timestamp>().ok();
    let time = parsed.or_else(|| civil(text).map(|zoned| zoned.timestamp()));
    time.map(Timestamp::as_microsecond).ok_or_else(|| {
        let message = format!("The $filter cannot be read: '{text}' is no time. Write it as 2026-11-20T12:00:00Z.");
        ArmError::new(400, "BadRequest", message)
    })
}

/// Forgets old events, for ever, once the store is known to be ours.
pub(crate) async fn forget_old(core: Arc<super::core::Core>, days: u32) {
    core.until_ours().await;
    loop {
        let before = Timestamp::now().as_microsecond() - i64::from(days) * MICROS_PER_DAY;
        core.forget_activity(before).await;
        tokio::time::sleep(FORGET_PERIOD).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::allowance::PERIOD;

    #[test]
    fn times_are_read_as_clients_write_them() {
        let expected = Some(1_763_683_200_000_000);
        for text in [
            "2025-11-21T00:00:00Z",
            "2025-11-21T00:00:00",
            "2025-11-21T00:00:00.000000",
            "2025-11-21T01:00:00+01:00",
            "2025-11-21",
        ] {
            assert_eq!(micros(Some(text), 0).ok(), expected, "{text}");
        }
        assert!(micros(Some("yesterday"), 0).is_err_and(|error| error.status == 400));
        assert_eq!(micros(None, 7), Ok(7));
    }

    #[test]
    fn nobody_fills_the_log_with_refusals_and_what_is_left_out_is_counted() {
        let refusals = Refusals::default();
        let start = Instant::now();
        for principal in [NOBODY, "p1"] {
            for _ in 0..MAX_REFUSED {
                assert_eq!(refusals.admit(principal, start), Some(0));
            }
            assert_eq!(refusals.admit(principal, start), None);
            assert_eq!(refusals.admit(principal, start), None);
        }
        assert_eq!(refusals.admit("p2", start), Some(0));
        assert_eq!(refusals.admit("p1", start + PERIOD), Some(2));
        assert_eq!(refusals.admit("p1", start + PERIOD), Some(0));
        assert_eq!(refusals.admit(NOBODY, start + PERIOD), Some(2));
    }

    #[test]
    fn principals_beyond_a_bound_share_a_count_until_others_are_quiet() {
        let refusals = Refusals::default();
        let start = Instant::now();
        for n in 0..10 * MAX_COUNTED {
            refusals.admit(&n.to_string(), start);
        }
        let counted = || refusals.by_principal.lock().unwrap().len();
        assert_eq!(counted(), MAX_COUNTED + 1);
        assert_eq!(refusals.admit("one more", start), None);
        assert_eq!(refusals.admit("one more", start + PERIOD), Some(0));
        assert_eq!(counted(), 1);
    }
}
