//! Throttling as Azure Resource Manager does it: a bucket of tokens per principal, subscription and kind of operation, which fills
//! again with time. A client that goes round and round must not keep the others from being answered.
//!
//! The administrator (the socket, the loopback of `--dev`) is not throttled.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use arm::ArmError;
use http::{HeaderName, HeaderValue, Method};

use super::DEV_SUBSCRIPTION;
use super::sign_in::Caller;
use crate::config::Throttling;

/// Buckets that are remembered. One that is full again is forgotten, so that only those count who have asked much lately.
const MAX_BUCKETS: usize = 4096;

/// What a request does, in the words of the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Reads,
    Writes,
    Deletes,
}

/// Who asks for what in which subscription; without one, of the tenant, as our own API counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    principal: String,
    subscription: Option<String>,
    kind: Kind,
}

/// All buckets.
#[derive(Debug)]
pub(crate) struct Throttle {
    rates: Throttling,
    buckets: Mutex<HashMap<Key, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// What is left in the caller's bucket, as a header says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remaining {
    name: &'static str,
    requests: u64,
}

/// The caller has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Throttled {
    key: Key,
    pub(crate) retry_after_secs: u64,
}

impl Kind {
    fn of(method: &Method) -> Kind {
        match *method {
            Method::GET | Method::HEAD => Kind::Reads,
            Method::DELETE => Kind::Deletes,
            _ => Kind::Writes,
        }
    }

    /// Seconds for which a full bucket lasts at the rate that it is filled: Azure's are 250 reads at 25 a second, 200 writes or
    /// deletes at 10 a second.
    fn burst_secs(self) -> f64 {
        match self {
            Kind::Reads => 10.0,
            Kind::Writes | Kind::Deletes => 20.0,
        }
    }
}

impl Key {
    /// `path` in lower case; `None` for callers that are not throttled.
    pub(crate) fn of(caller: &Caller, method: &Method, path: &[&str]) -> Option<Key> {
        let Caller::Principal(principal) = caller else {
            return None;
        };
        let subscription = match path {
            // Of those that there are: with made-up ones nobody gets fresh buckets.
            ["subscriptions", DEV_SUBSCRIPTION, ..] => Some(DEV_SUBSCRIPTION.to_owned()),
            _ => None,
        };
        Some(Key {
            principal: principal.object_id.clone(),
            subscription,
            kind: Kind::of(method),
        })
    }
}

impl Throttle {
    pub(crate) fn new(rates: Throttling) -> Throttle {
        Throttle {
            rates,
            buckets: Mutex::default(),
        }
    }

    /// Takes a token for one request. `None`: there is no bound.
    pub(crate) fn take(&self, key: Key, now: Instant) -> Result<Option<Remaining>, Throttled> {
        let rate = f64::from(self.rate(key.kind));
        if rate == 0.0 {
            return Ok(None);
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
            self.forget(&mut buckets, now);
        }
        let size = rate * key.kind.burst_secs();
        let bucket = buckets.entry(key.clone()).or_insert(Bucket { tokens: size, at: now });
        bucket.tokens = bucket.tokens_at(now, rate, size);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            let wait = (1.0 - bucket.tokens) / rate;
            return Err(Throttled {
                key,
                retry_after_secs: wait.ceil().max(1.0) as u64,
            });
        }
        bucket.tokens -= 1.0;
        Ok(Some(Remaining {
            name: header_name(&key),
            requests: bucket.tokens as u64,
        }))
    }

    /// Forgets buckets that are full again; if none is, those that were used longest ago.
    fn forget(&self, buckets: &mut HashMap<Key, Bucket>, now: Instant) {
        buckets.retain(|key, bucket| {
            let rate = f64::from(self.rate(key.kind));
            let size = rate * key.kind.burst_secs();
            bucket.tokens_at(now, rate, size) < size
        });
        if buckets.len() >= MAX_BUCKETS {
            let mut times: Vec<Instant> = buckets.values().map(|bucket| bucket.at).collect();
            let (_, middle, _) = times.select_nth_unstable(MAX_BUCKETS / 2);
            let middle = *middle;
            buckets.retain(|_, bucket| bucket.at > middle);
        }
    }

    fn rate(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Reads => self.rates.reads_per_sec,
            Kind::Writes => self.rates.writes_per_sec,
            Kind::Deletes => self.rates.deletes_per_sec,
        }
    }
}

impl Bucket {
    fn tokens_at(&self, now: Instant, rate: f64, size: f64) -> f64 {
        let since = now.checked_duration_since(self.at).unwrap_or(Duration::ZERO);
        (self.tokens + since.as_secs_f64() * rate).min(size)
    }
}

impl Remaining {
    pub(crate) fn header(&self) -> (HeaderName, HeaderValue) {
        (HeaderName::from_static(self.name), HeaderValue::from(self.requests))
    }
}

impl Throttled {
    /// In Azure's words.
    pub(crate) fn error(&self) -> ArmError {
        let kind = match self.key.kind {
            Kind::Reads => "read",
            Kind::Writes => "write",
            Kind::Deletes => "delete",
        };
        let (code, what) = match &self.key.subscription {
            Some(subscription) => (
                "SubscriptionRequestsThrottled",
                format!("subscription '{subscription}'"),
            ),
            None => ("TenantRequestsThrottled", "the tenant".to_owned()),
        };
        ArmError::new(
            429,
            code,
            format!(
                "Number of '{kind}' requests for {what} actor '{}' exceeded. Please try again after '{}' seconds after additional \
                 tokens are available.",
                self.key.principal, self.retry_after_secs
            ),
        )
    }
}

fn header_name(key: &Key) -> &'static str {
    match (key.subscription.is_some(), key.kind) {
        (true, Kind::Reads) => "x-ms-ratelimit-remaining-subscription-reads",
        (true, Kind::Writes) => "x-ms-ratelimit-remaining-subscription-writes",
        (true, Kind::Deletes) => "x-ms-ratelimit-remaining-subscription-deletes",
        (false, Kind::Reads) => "x-ms-ratelimit-remaining-tenant-reads",
        (false, Kind::Writes) => "x-ms-ratelimit-remaining-tenant-writes",
        (false, Kind::Deletes) => "x-ms-ratelimit-remaining-tenant-deletes",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const AZURES: Throttling = Throttling {
        reads_per_sec: 25,
        writes_per_sec: 10,
        deletes_per_sec: 10,
    };

    fn key(principal: &str, kind: Kind) -> Key {
        Key {
            principal: principal.to_owned(),
            subscription: Some("s".to_owned()),
            kind,
        }
    }

    #[test]
    fn azures_rates_give_azures_buckets_and_fill_them_again_with_time() {
        let (throttle, start) = (Throttle::new(AZURES), Instant::now());
        for (kind, size, rate) in [
            (Kind::Reads, 250, 25),
            (Kind::Writes, 200, 10),
            (Kind::Deletes, 200, 10),
        ] {
            for left in (0..size).rev() {
                let remaining = throttle.take(key("a", kind), start).unwrap().unwrap();
                assert_eq!(remaining.requests, left);
            }
            assert_eq!(throttle.take(key("a", kind), start).unwrap_err().retry_after_secs, 1);
            let later = start + Duration::from_secs(1);
            let remaining = throttle.take(key("a", kind), later).unwrap().unwrap();
            assert_eq!(remaining.requests, rate - 1);
            let much_later = start + Duration::from_secs(1000);
            let remaining = throttle.take(key("a", kind), much_later).unwrap().unwrap();
            assert_eq!(remaining.requests, size - 1, "a bucket holds no more than its size");
        }
    }

    #[test]
    fn nobody_is_held_back_by_anothers_requests_nor_reads_by_writes() {
        let (throttle, now) = (Throttle::new(AZURES), Instant::now());
        while throttle.take(key("a", Kind::Writes), now).is_ok() {}
        assert!(throttle.take(key("b", Kind::Writes), now).is_ok());
        assert!(throttle.take(key("a", Kind::Reads), now).is_ok());
        let mut elsewhere = key("a", Kind::Writes);
        elsewhere.subscription = Some("t".to_owned());
        assert!(throttle.take(elsewhere, now).is_ok());
    }

    #[test]
    fn zero_is_no_bound() {
        let none = Throttling {
            reads_per_sec: 0,
            ..AZURES
        };
        let (throttle, now) = (Throttle::new(none), Instant::now());
        assert!((0..1000).all(|_| throttle.take(key("a", Kind::Reads), now) == Ok(None)));
    }

    #[test]
    fn however_many_ask_no_more_buckets_are_remembered_than_the_bound_and_an_empty_one_is_among_them() {
        let (throttle, start) = (Throttle::new(AZURES), Instant::now());
        for principal in 0..3 * MAX_BUCKETS {
            // So soon after each other that no bucket fills again: those go that were used longest ago.
            let now = start + Duration::from_nanos(principal as u64);
            while throttle.take(key("greedy", Kind::Writes), now).is_ok() {}
            throttle.take(key(&principal.to_string(), Kind::Writes), now).unwrap();
            assert!(throttle.buckets.lock().unwrap().len() <= MAX_BUCKETS);
            assert!(throttle.take(key("greedy", Kind::Writes), now).is_err());
        }
    }

    #[test]
    fn a_refusal_says_who_did_what_and_when_to_come_back() {
        let slow = Throttling {
            writes_per_sec: 1,
            ..AZURES
        };
        let (throttle, now) = (Throttle::new(slow), Instant::now());
        while throttle.take(key("a", Kind::Writes), now).is_ok() {}
        let error = throttle.take(key("a", Kind::Writes), now).unwrap_err().error();
        assert_eq!(
            (error.status, error.code.as_str()),
            (429, "SubscriptionRequestsThrottled")
        );
        assert!(
            error
                .message
                .contains("'write' requests for subscription 's' actor 'a'"),
            "{}",
            error.message
        );
        let mut of_tenant = key("a", Kind::Reads);
        of_tenant.subscription = None;
        while throttle.take(of_tenant.clone(), now).is_ok() {}
        assert_eq!(
            throttle.take(of_tenant, now).unwrap_err().error().code,
            "TenantRequestsThrottled"
        );
    }
}
