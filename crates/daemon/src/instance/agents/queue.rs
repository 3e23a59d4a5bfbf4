//! What waits for one agent: references to encoded messages, in order, between the driver, which never waits, and the agent's stream,
//! which takes one piece when HTTP/2 has room for one.
//!
//! An agent that takes too little loses the changes that wait for it, which are state that the state machine tells again once the stream
//! has room. What it had begun to take it may finish, so that each beginning brings it forward; when it takes nothing at all, that
//! goes as well. So what waits is bounded, and so is the number of past generations that anybody keeps in memory.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use api::convert;
use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

/// Messages that may wait for one agent, besides those of its (new) beginning: generations that it may be behind.
pub const MAX_WAITING: usize = 64;
/// Their octets: a table of 40,000 routes.
pub const MAX_WAITING_OCTETS: usize = 1 << 20;
/// Something is said at least so often.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The driver's end, and the listening task's.
#[derive(Clone, Debug)]
pub(in crate::instance) struct AgentQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The stream has something for the listening task.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<[Bytes]>>,
    /// Pieces of the first waiting message that have gone.
    gone: usize,
    /// How many messages at the front belong to a beginning: they are as many as the agent has NICs, and do not count.
    beginning: usize,
    /// The turn that they were made in; `None`: only the welcome waits.
    beginning_turn: Option<u64>,
    /// Octets of the messages that count.
    octets: usize,
    /// Pieces taken so far, and when that was looked at last.
    taken: u64,
    taken_before: u64,
    progress: Progress,
    /// It may follow what it asks for: until then it hears nothing at all.
    let_in: bool,
    ended: bool,
    /// Why it may not go on, if so.
    refused: Option<Status>,
    waker: Option<Waker>,
}

/// Whether the agent keeps up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    KeepsUp,
    /// Changes are lost; what it has begun must go out first.
    Behind,
    /// There is room again, and nobody was told yet.
    Drained,
    /// The driver is about to hear of it.
    Told,
}

/// What came of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    /// Now it has lost the changes that waited.
    FellBehind,
    /// It had fallen behind before.
    IsBehind,
}

/// What the stream has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The agent, which was behind, has room again.
    Drained,
    /// Nobody takes messages any more.
    Closed,
}

impl AgentQueue {
    /// A queue of an agent that was not let in yet, and the stream that takes from it.
    pub(super) fn new() -> (AgentQueue, Messages) {
        let queue = AgentQueue(Arc::new(Shared {
            state: Mutex::default(),
            news: Notify::new(),
        }));
        let messages = Messages {
            queue: queue.clone(),
            heartbeat: convert::heartbeat(),
            last_said: Instant::now(),
            timer: Box::pin(sleep(HEARTBEAT)),
        };
        (queue, messages)
    }

    /// From now on it is told what is said, beginning with the welcome.
    pub(super) fn let_in(&self, welcome: Arc<[Bytes]>) {
        let mut state = self.state();
        state.waiting = VecDeque::from([welcome]);
        state.beginning = 1;
        state.let_in = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Adds a message. `turn` tells messages that were made at once from later ones.
    pub(super) fn push(&self, frames: &Arc<[Bytes]>, turn: u64) -> Pushed {
        let mut state = self.state();
        // What the driver says to one that was refused, and of which it has not heard yet, must not go out.
        if state.progress != Progress::KeepsUp || state.ended {
            return Pushed::IsBehind;
        }
        if state.waiting.is_empty() || state.beginning_turn.is_none() {
            state.beginning_turn = Some(turn);
        }
        if state.beginning_turn == Some(turn) {
            state.beginning = state.waiting.len() + 1;
        } else if !state.has_room() {
            state.fall_behind();
            return Pushed::FellBehind;
        } else {
            state.octets += length(frames);
        }
        state.waiting.push_back(Arc::clone(frames));
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Pushed::Queued
    }

    /// The state machine tells everything again from here on.
    pub(super) fn begin_again(&self) {
        self.state().progress = Progress::KeepsUp;
    }

    /// To be called now and then: an agent that is behind and has taken nothing since the last call loses what it had begun.
    pub(super) fn let_go_if_stalled(&self) {
        let mut state = self.state();
        if state.progress == Progress::Behind && state.taken == state.taken_before {
            state.waiting = VecDeque::new();
            state.gone = 0;
            state.beginning = 0;
        }
        state.taken_before = state.taken;
    }

    /// The agent may not follow what it asks for, or not any more: nothing that waits is sent.
    pub(super) fn refuse(&self, reason: Status) {
        let mut state = self.state();
        state.waiting = VecDeque::new();
        state.gone = 0;
        state.refused = Some(reason);
        drop(state);
        self.end();
    }

    /// No more is said: the stream ends when it has sent what waits.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Waits for what the stream has to say. Nothing is lost when the wait is given up.
    pub(super) async fn news(&self) -> News {
        loop {
            {
                let mut state = self.state();
                if state.ended {
                    return News::Closed;
                }
                if state.progress == Progress::Drained {
                    state.progress = Progress::Told;
                    return News::Drained;
                }
            }
            self.0.news.notified().await;
        }
    }

    /// Every change is made whole before anything could panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.waiting.len() - self.beginning < MAX_WAITING && self.octets < MAX_WAITING_OCTETS
    }

    fn fall_behind(&mut self) {
        let begun = self.beginning.max(usize::from(self.gone > 0));
        self.waiting.truncate(begun);
        self.beginning = begun;
        self.octets = 0;
        self.progress = Progress::Behind;
    }

    /// What goes out next: a piece as it is, or short ones joined. Thousands of short frames cost both ends more than their octets, and
    /// the other end's HTTP/2 takes a heap of them for an attack.
    fn next_frame(&mut self) -> Option<Bytes> {
        let first = self.next_piece()?;
        if self.next_length().is_none_or(|next| first.len() + next > JOINED) {
            return Some(first);
        }
        let mut joined = BytesMut::with_capacity(JOINED);
        joined.put(first);
        while self.next_length().is_some_and(|length| joined.len() + length <= JOINED) {
            joined.put(self.next_piece()?);
        }
        Some(joined.freeze())
    }

    fn next_length(&self) -> Option<usize> {
        Some(self.waiting.front()?.get(self.gone)?.len())
    }

    /// The next piece to go out.
    fn next_piece(&mut self) -> Option<Bytes> {
        let message = self.waiting.front()?;
        let piece = message.get(self.gone).cloned();
        self.gone += 1;
        self.taken += 1;
        if self.gone >= message.len() {
            match self.beginning {
                0 => self.octets -= length(message),
                _ => self.beginning -= 1,
            }
            self.gone = 0;
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() {
            // Agents are many and mostly at rest.
            self.waiting.shrink_to(WAITING_KEPT);
        }
        piece
    }
}

/// Short messages are joined up to here.
const JOINED: usize = 4 << 10;
/// Room for so many messages stays when a queue is empty.
const WAITING_KEPT: usize = 4;

fn length(frames: &[Bytes]) -> usize {
    frames.iter().map(Bytes::len).sum()
}

/// The stream's end: asked for the next piece only when HTTP/2 has room for it.
#[derive(Debug)]
pub(in crate::instance) struct Messages {
    queue: AgentQueue,
    heartbeat: Bytes,
    last_said: Instant,
    /// Set back only when it fires: it costs nothing while much is said.
    timer: Pin<Box<Sleep>>,
}

impl Stream for Messages {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Poll::Ready(said) = self.poll_queue(context) {
            self.last_said = Instant::now();
            return Poll::Ready(said);
        }
        if !self.queue.state().let_in {
            return Poll::Pending;
        }
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let due = self.last_said + HEARTBEAT;
            if due <= now {
                self.last_said = now;
                self.timer.as_mut().reset(now + HEARTBEAT);
                return Poll::Ready(Some(self.heartbeat.clone()));
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

impl api::follow::Messages for Messages {
    fn ended(&self) -> Status {
        let refused = self.queue.state().refused.clone();
        refused.unwrap_or_else(|| Status::ok(""))
    }
}

impl Messages {
    fn poll_queue(&self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.queue.state();
        if state.refused.is_some() {
            return Poll::Ready(None);
        }
        if let Some(frame) = state.next_frame() {
            return Poll::Ready(Some(frame));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        if state.progress == Progress::Behind {
            state.progress = Progress::Drained;
            self.queue.0.news.notify_one();
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.queue.state().ended = true;
        self.queue.0.news.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    fn message(text: &str) -> Arc<[Bytes]> {
        Arc::new([Bytes::copy_from_slice(text.as_bytes())])
    }

    /// A queue whose welcome was taken.
    async fn queue() -> (AgentQueue, Messages) {
        let (queue, mut messages) = AgentQueue::new();
        queue.let_in(message("welcome"));
        assert_eq!(messages.next().await.unwrap(), "welcome");
        (queue, messages)
    }

    fn has_news(queue: &AgentQueue) -> Option<News> {
        queue.news().now_or_never()
    }

    #[tokio::test(start_paused = true)]
    async fn messages_come_in_order_short_ones_joined_and_a_heartbeat_when_nothing_else_does() {
        let (queue, mut messages) = queue().await;
        let pieces: Arc<[Bytes]> = Arc::new([Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        queue.push(&pieces, 1);
        queue.push(&message("c"), 2);
        assert_eq!(messages.next().await.unwrap(), "abc");
        let since = Instant::now();
        assert_eq!(messages.next().await.unwrap(), convert::heartbeat());
        assert_eq!(since.elapsed(), HEARTBEAT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_comes_a_second_after_the_last_word_not_after_the_last_heartbeat() {
        let (queue, mut messages) = queue().await;
        tokio::time::advance(HEARTBEAT / 2).await;
        queue.push(&message("word"), 1);
        assert_eq!(messages.next().await.unwrap(), "word");
        let since = Instant::now();
        assert_eq!(messages.next().await.unwrap(), convert::heartbeat());
        assert_eq!(since.elapsed(), HEARTBEAT);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_not_let_in_hears_nothing_not_even_heartbeats() {
        let (queue, mut messages) = AgentQueue::new();
        let heard = tokio::time::timeout(10 * HEARTBEAT, messages.next()).await;
        assert!(heard.is_err(), "{heard:?}");
        queue.let_in(message("welcome"));
        assert_eq!(messages.next().await.unwrap(), "welcome");
        assert_eq!(messages.next().await.unwrap(), convert::heartbeat());
    }

    #[tokio::test]
    async fn nothing_goes_out_after_a_refusal_neither_what_waits_nor_what_is_said_later() {
        let (queue, mut messages) = queue().await;
        queue.push(&message("waits"), 1);
        queue.refuse(Status::permission_denied("no more"));
        assert_eq!(queue.push(&message("later"), 2), Pushed::IsBehind);
        assert_eq!(messages.next().await, None);
        let ended = api::follow::Messages::ended(&messages);
        assert_eq!(ended.code(), tonic::Code::PermissionDenied);
    }

    #[tokio::test]
    async fn a_beginning_may_be_as_long_as_it_is() {
        let (queue, mut messages) = AgentQueue::new();
        queue.let_in(message("welcome"));
        for _ in 0..10 * MAX_WAITING {
            assert_eq!(queue.push(&message("nic"), 1), Pushed::Queued);
        }
        // What follows counts by itself.
        for turn in 0..MAX_WAITING as u64 {
            assert_eq!(queue.push(&message("delta"), 2 + turn), Pushed::Queued);
        }
        let expected = format!(
            "welcome{}{}",
            "nic".repeat(10 * MAX_WAITING),
            "delta".repeat(MAX_WAITING)
        );
        assert_eq!(messages.next().await.unwrap(), expected);
        assert_eq!(has_news(&queue), None);
    }

    /// Pushes until the agent is behind; how many were queued.
    fn push_until_behind(queue: &AgentQueue, first_turn: u64) -> usize {
        let mut turns = first_turn..;
        let mut pushed = || queue.push(&message("delta"), turns.next().unwrap());
        let mut queued = 0;
        loop {
            match pushed() {
                Pushed::Queued => queued += 1,
                Pushed::FellBehind => break,
                Pushed::IsBehind => panic!("it was behind before"),
            }
        }
        assert_eq!(pushed(), Pushed::IsBehind);
        queued
    }

    #[tokio::test]
    async fn an_agent_that_takes_too_little_loses_changes_and_begins_again_when_it_has_taken_what_it_had_begun() {
        let (queue, mut messages) = queue().await;
        let begun: Arc<[Bytes]> = Arc::new([Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        queue.push(&begun, 1);
        assert_eq!(push_until_behind(&queue, 2), MAX_WAITING);
        assert_eq!(has_news(&queue), None, "not before the stream asks for more");

        assert_eq!(messages.next().await.unwrap(), "ab");
        assert!(messages.next().now_or_never().is_none());
        assert_eq!(has_news(&queue), Some(News::Drained));
        assert_eq!(has_news(&queue), None, "said once");
        queue.begin_again();
        assert_eq!(queue.push(&message("snapshot"), 1_001), Pushed::Queued);
        assert_eq!(messages.next().await.unwrap(), "snapshot");
    }

    #[tokio::test]
    async fn an_agent_that_takes_nothing_at_all_keeps_nothing_in_memory() {
        let (queue, mut messages) = queue().await;
        let begun = message("begun");
        queue.push(&begun, 1);
        queue.let_go_if_stalled();
        assert_eq!(Arc::strong_count(&begun), 2, "it is not behind");
        push_until_behind(&queue, 2);
        queue.let_go_if_stalled();
        assert_eq!(Arc::strong_count(&begun), 1);
        assert!(messages.next().now_or_never().is_none());
        assert_eq!(has_news(&queue), Some(News::Drained));
    }

    #[tokio::test]
    async fn what_is_long_goes_out_as_it_is() {
        let (queue, mut messages) = queue().await;
        let long = message(&"x".repeat(JOINED));
        for frames in [&message("a"), &message("b"), &long, &message("c")] {
            queue.push(frames, 1);
        }
        assert_eq!(messages.next().await.unwrap(), "ab");
        let taken = messages.next().await.unwrap();
        assert_eq!((taken.as_ptr(), taken.len()), (long[0].as_ptr(), JOINED), "not copied");
        assert_eq!(messages.next().await.unwrap(), "c");
    }

    #[tokio::test]
    async fn octets_count_as_well() {
        let (queue, _messages) = queue().await;
        let long = message(&"x".repeat(MAX_WAITING_OCTETS / 2));
        for turn in 1..=3 {
            assert_eq!(queue.push(&long, turn), Pushed::Queued, "turn {turn}");
        }
        assert_eq!(queue.push(&message("short"), 4), Pushed::FellBehind);
    }

    #[tokio::test]
    async fn both_ends_hear_of_the_other_ones_end() {
        let (queue, messages) = queue().await;
        drop(messages);
        assert_eq!(has_news(&queue), Some(News::Closed));

        let (queue, mut messages) = self::queue().await;
        queue.push(&message("last"), 1);
        queue.end();
        assert_eq!(messages.next().await.unwrap(), "last");
        assert_eq!(messages.next().await, None);
    }
}
