//! The activity log in etcd: events are added and, when they are old or too many, forgotten; never changed.
//!
//! A key for each, by number, refusals beside writes, so that each have their quota and the oldest go with one order.

use serde_json::Value;

use super::commit::Plan;
use super::layout::{self, Head, MAX_OPS};
use super::pb;
use super::{EtcdStore, PAGE};
use crate::store::{Activity, ActivityRange, MAX_ACTIVITY, MAX_REFUSALS, StoreError, Write};

/// Numbers that are looked at in one go.
const WINDOW: u64 = 500;

impl EtcdStore {
    pub(super) async fn record_events(&self, events: Vec<Activity>) -> Result<(), StoreError> {
        self.answers()?;
        let mut written = None;
        for some in events.chunks(MAX_OPS) {
            let writes: Vec<Write> = some.iter().cloned().map(Write::Activity).collect();
            let head = self
                .write(|head| {
                    let (orders, counted) = layout::orders(head, &self.writer, &writes)?;
                    Ok(self.plan(head, None, orders, counted))
                })
                .await?;
            written = Some(head);
        }
        if let Some(head) = written {
            self.trimmed(&head).await;
        }
        Ok(())
    }

    /// Forgets what is too much. What was written is stored all the same; the next write tries again.
    pub(super) async fn trimmed(&self, head: &Head) {
        if let Err(error) = self.trim(head).await {
            tracing::warn!(%error, "the oldest events of the activity log cannot be forgotten");
        }
    }

    /// Forgets the oldest of those that are too many.
    async fn trim(&self, head: &Head) -> Result<(), StoreError> {
        for (is_refusal, count, quota) in [(false, head.writes, MAX_ACTIVITY), (true, head.refusals, MAX_REFUSALS)] {
            let mut too_many = usize::try_from(count.saturating_sub(quota)).unwrap_or(usize::MAX);
            while too_many > 0 {
                let oldest = self.oldest(is_refusal, PAGE, true).await?;
                let gone: Vec<u64> = oldest.iter().take(too_many).map(|(number, _)| *number).collect();
                self.forget_front(is_refusal, &gone).await?;
                too_many = if gone.is_empty() { 0 } else { too_many - gone.len() };
            }
        }
        Ok(())
    }

    /// What comes before the first that is young enough. Events are nearly in the order of their times: two machines' clocks differ
    /// by little.
    pub(super) async fn forget_events(&self, before_micros: i64) -> Result<usize, StoreError> {
        let mut forgotten = 0;
        for is_refusal in [false, true] {
            loop {
                let page = self.oldest(is_refusal, PAGE, false).await?;
                let is_old = |row: &Option<layout::Event>| row.as_ref().is_some_and(|row| row.at < before_micros);
                let old = page.iter().take_while(|(_, row)| is_old(row));
                let old: Vec<u64> = old.map(|(number, _)| *number).collect();
                if old.is_empty() {
                    break;
                }
                self.forget_front(is_refusal, &old).await?;
                forgotten += old.len();
            }
        }
        Ok(forgotten)
    }

    /// Forgets the oldest events, which are these, unless somebody else has done so.
    async fn forget_front(&self, is_refusal: bool, numbers: &[u64]) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
            return Ok(());
        };
        let cleared = (layout::event(is_refusal, *first), layout::event(is_refusal, last + 1));
        self.write(|head| {
            let mut head = head.clone();
            let (front, count) = match is_refusal {
                true => (&mut head.first_refusal, &mut head.refusals),
                false => (&mut head.first_write, &mut head.writes),
            };
            let gone = numbers.iter().filter(|number| **number >= *front).count();
            *count = count.saturating_sub(gone as u64);
            *front = (*front).max(last + 1);
            Ok(Plan {
                head,
                cleared: vec![cleared.clone()],
                ..Plan::default()
            })
        })
        .await
        .map(|_| ())
    }

    /// The oldest events, the first first, with what they say unless only the numbers are wanted.
    async fn oldest(
        &self,
        is_refusal: bool,
        limit: i64,
        keys_only: bool,
    ) -> Result<Vec<(u64, Option<layout::Event>)>, StoreError> {
        let key = self.keys.below(&layout::event(is_refusal, 0));
        let end = self.keys.below(&layout::event(is_refusal, u64::MAX));
        let request = pb::RangeRequest {
            key,
            range_end: end,
            limit,
            keys_only,
            ..Default::default()
        };
        let rows = self.range(request).await?.kvs;
        rows.iter().map(|row| self.read_event(row, keys_only)).collect()
    }

    fn read_event(&self, row: &pb::KeyValue, key_only: bool) -> Result<(u64, Option<layout::Event>), StoreError> {
        let number = self.keys.rest(&row.key).and_then(|key| key.rsplit('/').next());
        let number = number.and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| StoreError::Corrupt {
            what: String::from_utf8_lossy(&row.key).into_owned(),
            problem: "it does not end in a number".to_owned(),
        })?;
        match key_only {
            true => Ok((number, None)),
            false => Ok((number, Some(layout::read("an event of the activity log", &row.value)?))),
        }
    }

    /// Walks back in windows of numbers, until there are enough events or none before.
    pub(super) async fn read_events(&self, range: ActivityRange) -> Result<Vec<(i64, Value)>, StoreError> {
        self.answers()?;
        let head = self.seen().await?.head;
        let before = range.before.and_then(|before| u64::try_from(before).ok());
        let mut before = before.unwrap_or(u64::MAX).min(head.events + 1);
        let mut first = u64::MAX;
        for is_refusal in [false, true] {
            let oldest = self.oldest(is_refusal, 1, true).await?;
            first = oldest.first().map_or(first, |(number, _)| first.min(*number));
        }
        let mut events = Vec::new();
        while before > first && events.len() < range.limit {
            let from = before.saturating_sub(WINDOW).max(first);
            let mut window = Vec::new();
            for is_refusal in [false, true] {
                let key = self.keys.below(&layout::event(is_refusal, from));
                let end = self.keys.below(&layout::event(is_refusal, before));
                for row in self.all(key, end, 0).await?.0 {
                    window.push(self.read_event(&row, false)?);
                }
            }
            window.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
            let wanted = |row: &layout::Event| {
                row.subscription == range.subscription && (range.from_micros..=range.to_micros).contains(&row.at)
            };
            for (number, row) in window {
                if let Some(row) = row.filter(wanted)
                    && events.len() < range.limit
                {
                    events.push((i64::try_from(number).unwrap_or(i64::MAX), row.body));
                }
            }
            before = from;
        }
        Ok(events)
    }
}
