//! The state machine of RFC 4271 §8, for one peer and its one or two connections.
//!
//! The states of the RFC are spread over two things: whether and when we dial (`Dialling`), and how far each connection has come
//! ([`Progress`]). What the RFC calls the state of the session is that of its furthest connection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::collision::{Speaker, surviving_direction};
use super::config::SessionConfig;
use super::connection::{Connection, Progress, Slot};
use super::event::{ConnectionId, Direction, DownReason, Input, Negotiated, Offence, Output, SessionStatus, State};
use super::history::SessionHistory;
use super::restart::Restart;
use super::timer::{Jitter, Timer, TimerTable};
use crate::wire::{
    CeaseSubcode, DecodeContext, EncodeContext, Message, Notification, Open, RefreshKind, RestartOffer, RouteRefresh,
};
use crate::{Family, FamilySet};

mod ending;
use ending::End;

/// How long we wait for the peer's OPEN.
//= https://www.rfc-editor.org/rfc/rfc4271#section-8.2.2
//# sets the HoldTimer to a large value ... A HoldTimer value of 4 minutes is suggested.
const OPEN_HOLD: Duration = Duration::from_secs(240);

/// The least SendHoldTimer unless configured (RFC 9687 §3.2).
const SEND_HOLD_MINIMUM: Duration = Duration::from_secs(8 * 60);

/// Whether and when we dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialling {
    /// Not at all: stopped or held off.
    Idle,
    /// A dial is out (Connect).
    Connect,
    /// Waiting to be dialled, or for the ConnectRetryTimer (Active).
    Active,
}

/// One peer's session.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    started: bool,
    dialling: Dialling,
    connections: [Option<Connection>; 2],
    timers: TimerTable,
    jitter: Jitter,
    backoff: Backoff,
    /// The peer restarts, and is not dialled before.
    left_alone_until: Option<Instant>,
    negotiated: Option<Negotiated>,
    outputs: VecDeque<Output>,
    history: SessionHistory,
}

impl Session {
    /// Idle until [`Input::Start`].
    pub fn new(config: SessionConfig) -> Session {
        Session::with_history(config, SessionHistory::default())
    }

    /// The same, for a peer that had a session before.
    pub fn with_history(config: SessionConfig, history: SessionHistory) -> Session {
        Session {
            jitter: Jitter::new(config.jitter_seed),
            config,
            started: false,
            dialling: Dialling::Idle,
            connections: [None, None],
            timers: TimerTable::default(),
            backoff: Backoff::default(),
            left_alone_until: None,
            negotiated: None,
            outputs: VecDeque::new(),
            history,
        }
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Start => self.start(now),
            Input::Stop { subcode, reason } => self.stop(now, subcode, reason),
            Input::Leave { reason } => self.leave(now, reason),
            Input::Connected { connection, direction } => self.connected(now, connection, direction),
            Input::DialFailed { reason } => self.dial_failed(now, reason),
            Input::Received { connection, message } => {
                if let Some(slot) = self.slot_of(connection) {
                    self.history.messages_received += 1;
                    self.received(now, slot, message);
                }
            }
            Input::Malformed { connection, error } => {
                if let Some(slot) = self.slot_of(connection) {
                    self.end(
                        now,
                        slot,
                        End::Notify(error.notification, error.what, Some(Offence::Error)),
                    );
                }
            }
            Input::Closed { connection, reason } => {
                if let Some(slot) = self.slot_of(connection) {
                    self.end(now, slot, End::Gone(DownReason::ConnectionLost(reason)));
                }
            }
            Input::WriteBlocked { connection } => self.write_blocked(now, connection),
            Input::WriteResumed { connection } => {
                if let Some(slot) = self.slot_of(connection) {
                    self.timers.stop(Timer::SendHold(slot));
                }
            }
            Input::Reset {
                notification,
                reason,
                offence,
            } => self.close_all(now, &notification, &reason, offence),
            Input::Pardon => self.pardon(now),
            Input::RequestRefresh => self.request_refresh(),
        }
    }

    /// An UPDATE came in. True: the session is Established on this connection and has counted the UPDATE as heard; its routes are
    /// the caller's. False: nothing has happened yet, [`Session::handle`] knows what to do with it. The same as `handle` and
    /// `poll_output`, for who has whole tables of them.
    pub fn hears_update(&mut self, now: Instant, connection: ConnectionId) -> bool {
        let established = |slot: &Slot| self.at(*slot).is_some_and(|c| c.progress == Progress::Established);
        let Some(slot) = self.slot_of(connection).filter(established) else {
            return false;
        };
        self.history.messages_received += 1;
        self.heard(now, slot);
        true
    }

    /// Fires the timers that are due. Calling it early does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::IdleHold => self.idle_hold_ends(now),
                Timer::ConnectRetry => self.dial(),
                Timer::Keepalive(slot) => self.speak(now, slot),
                Timer::Hold(slot) => self.hold_timer_expires(now, slot),
                Timer::SendHold(slot) => self.end(now, slot, End::Deaf),
            }
        }
    }

    /// What the next OPEN is to offer for the time after its session: the R bit is no matter of settings.
    pub fn offer_restart(&mut self, offer: RestartOffer) {
        self.config.restart = offer;
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// The state of the furthest connection, or of our dialling.
    pub fn state(&self) -> State {
        let furthest = self
            .connections
            .iter()
            .flatten()
            .map(Connection::state)
            .max()
            .unwrap_or(State::Idle);
        let dialling = match self.dialling {
            Dialling::Idle => State::Idle,
            Dialling::Connect => State::Connect,
            Dialling::Active => State::Active,
        };
        furthest.max(dialling)
    }

    /// For reports.
    pub fn status(&self) -> SessionStatus {
        SessionStatus {
            state: self.state(),
            negotiated: self.negotiated.clone(),
            history: self.history.clone(),
        }
    }

    // Starting and stopping.

    fn start(&mut self, now: Instant) {
        if !self.started {
            self.started = true;
            self.idle_hold_ends(now);
        }
    }

    fn stop(&mut self, now: Instant, subcode: CeaseSubcode, reason: String) {
        self.started = false;
        self.left_alone_until = None;
        let notification = Notification::cease_with_communication(subcode, &reason);
        self.close_all(now, &notification, &reason, None);
        self.rest();
    }

    /// What was agreed on for the time after this session.
    fn agreed_restart(&self) -> Option<Restart> {
        self.negotiated.as_ref().and_then(|negotiated| negotiated.restart)
    }

    /// Idle: no dial, no timer.
    fn rest(&mut self) {
        self.dialling = Dialling::Idle;
        self.timers.stop(Timer::ConnectRetry);
        self.timers.stop(Timer::IdleHold);
    }

    fn idle_hold_ends(&mut self, now: Instant) {
        self.timers.stop(Timer::IdleHold);
        // Those who wait are let in, and not dialled as well.
        for slot in Slot::BOTH {
            self.unpark(now, slot);
        }
        if self.dialling != Dialling::Idle || self.is_held_off() {
            return;
        }
        match self.left_alone_until {
            Some(until) if now < until && !self.has_live_connection() => self.dial_after(now, Duration::ZERO),
            _ => self.dial(),
        }
    }

    fn pardon(&mut self, now: Instant) {
        self.backoff = Backoff::default();
        self.left_alone_until = None;
        if self.is_held_off() {
            self.idle_hold_ends(now);
        }
    }

    /// Says hello on a connection that came while the peer was held off.
    fn unpark(&mut self, now: Instant, slot: Slot) {
        let Some(Connection {
            progress: Progress::Parked { open },
            ..
        }) = self.at(slot)
        else {
            return;
        };
        let open = open.clone();
        self.open_sent(now, slot);
        if let Some(open) = open {
            self.open_received(now, slot, open);
        }
    }

    fn is_held_off(&self) -> bool {
        self.timers.is_set(Timer::IdleHold)
    }

    // Dialling.

    fn dial(&mut self) {
        if !self.started || self.is_held_off() || self.dialling == Dialling::Connect || self.has_live_connection() {
            return;
        }
        if self.config.dial {
            self.dialling = Dialling::Connect;
            self.outputs.push_back(Output::Dial);
        } else {
            self.dialling = Dialling::Active;
        }
    }

    fn dial_failed(&mut self, now: Instant, reason: String) {
        if self.dialling != Dialling::Connect {
            return;
        }
        self.history.attempt_failed(format!("cannot connect: {reason}"));
        self.dial_after(now, self.config.connect_retry);
    }

    fn dial_after(&mut self, now: Instant, wait: Duration) {
        let at = now + self.jitter.apply(wait);
        self.dialling = Dialling::Active;
        self.timers.set(
            Timer::ConnectRetry,
            self.left_alone_until.map_or(at, |until| until.max(at)),
        );
    }

    fn has_live_connection(&self) -> bool {
        self.connections
            .iter()
            .flatten()
            .any(|c| !matches!(c.progress, Progress::Parked { .. }))
    }

    // Connections.

    fn at(&self, slot: Slot) -> Option<&Connection> {
        self.connections[slot as usize].as_ref()
    }

    fn slot_of(&self, id: ConnectionId) -> Option<Slot> {
        Slot::BOTH
            .into_iter()
            .find(|slot| self.at(*slot).is_some_and(|c| c.id == id))
    }

    fn established_slot(&self) -> Option<Slot> {
        Slot::BOTH
            .into_iter()
            .find(|slot| self.at(*slot).is_some_and(|c| c.progress == Progress::Established))
    }

    fn connected(&mut self, now: Instant, id: ConnectionId, direction: Direction) {
        if direction == Direction::Dialled && self.dialling == Dialling::Connect {
            self.dialling = Dialling::Active;
        }
        let established = self.established_slot();
        if !self.started || (direction == Direction::Dialled && established.is_some()) {
            self.outputs.push_back(Output::Close { connection: id });
            return;
        }
        if let Some(slot) = established {
            // The peer may have started anew without a word. If so, its machine answers this with a reset of the old
            // connection, and the new one need not wait for the hold timer.
            self.speak(now, slot);
        }
        let slot = self.make_room(direction);
        self.timers.stop(Timer::ConnectRetry);
        let connection = Connection::new(id, direction, Progress::Parked { open: None });
        self.connections[slot as usize] = Some(connection);
        if !self.is_held_off() {
            self.open_sent(now, slot);
        }
    }

    /// A free slot; a peer that opens a third connection has given up one of the others.
    fn make_room(&mut self, direction: Direction) -> Slot {
        let given_up = Slot::BOTH.into_iter().find(|slot| {
            self.at(*slot)
                .is_some_and(|c| c.direction == direction && c.progress != Progress::Established)
        });
        if let Some(slot) = given_up {
            self.close_collided(slot);
            return slot;
        }
        if let Some(slot) = Slot::BOTH.into_iter().find(|slot| self.at(*slot).is_none()) {
            return slot;
        }
        let slot = self.established_slot().map_or(Slot::First, Slot::other);
        self.close_collided(slot);
        slot
    }

    fn open_sent(&mut self, now: Instant, slot: Slot) {
        let open = Message::Open(self.our_open());
        let Some(connection) = &mut self.connections[slot as usize] else {
            return;
        };
        connection.progress = Progress::OpenSent;
        self.send(slot, open);
        self.timers.set(Timer::Hold(slot), now + OPEN_HOLD);
    }

    fn our_open(&self) -> Open {
        let mut capabilities = self.config.capabilities.to_capabilities(self.config.local_asn);
        capabilities.extend(self.config.restart.to_capabilities());
        Open {
            asn: self.config.local_asn,
            hold_time_secs: self.config.hold_time_secs,
            identifier: self.config.local_identifier,
            capabilities,
        }
    }

    // Messages.

    fn received(&mut self, now: Instant, slot: Slot, message: Message) {
        let Some(state) = self.at(slot).map(|c| c.progress.clone()) else {
            return;
        };
        match (state, message) {
            (_, Message::Notification(notification)) => {
                self.end(now, slot, End::Gone(DownReason::NotificationReceived(notification)));
            }
            (Progress::Parked { open: None }, Message::Open(open)) => {
                if let Some(connection) = &mut self.connections[slot as usize] {
                    connection.progress = Progress::Parked { open: Some(open) };
                }
            }
            (Progress::OpenSent, Message::Open(open)) => self.open_received(now, slot, open),
            (Progress::OpenConfirm(open), Message::Keepalive) => self.establish(now, slot, &open),
            (Progress::Established, Message::Keepalive) => self.heard(now, slot),
            (Progress::Established, Message::Update(update)) => {
                self.heard(now, slot);
                self.outputs.push_back(Output::Update(update));
            }
            (Progress::Established, Message::RouteRefresh(refresh)) => {
                self.heard(now, slot);
                self.outputs.push_back(Output::Refresh(refresh));
            }
            (state, message) => self.unexpected(now, slot, &state, &message),
        }
    }

    /// Whatever a state does not expect is an FSM error, with the subcode of RFC 6608.
    fn unexpected(&mut self, now: Instant, slot: Slot, state: &Progress, message: &Message) {
        let (subcode, state) = match state {
            Progress::Parked { .. } => (0, "before our OPEN"),
            Progress::OpenSent => (1, "in OpenSent"),
            Progress::OpenConfirm(_) => (2, "in OpenConfirm"),
            Progress::Established => (3, "in Established"),
        };
        let name = match message {
            Message::Open(_) => "OPEN",
            Message::Update(_) => "UPDATE",
            Message::Notification(_) => "NOTIFICATION",
            Message::Keepalive => "KEEPALIVE",
            Message::RouteRefresh(_) => "ROUTE-REFRESH",
        };
        let notification = Notification::fsm_error(subcode);
        self.end(
            now,
            slot,
            End::Notify(notification, format!("unexpected {name} {state}"), Some(Offence::Error)),
        );
    }

    fn open_received(&mut self, now: Instant, slot: Slot, open: Open) {
        if let Err((notification, why)) = self.check_open(&open) {
            self.end(now, slot, End::Notify(notification, why, Some(Offence::Error)));
            return;
        }
        if self.loses_collision(now, slot, &open) {
            self.close_collided(slot);
            return;
        }
        let Some(connection) = &mut self.connections[slot as usize] else {
            return;
        };
        let common = self.config.capabilities.intersection(open.capability_set());
        let hold_time_secs = self.config.hold_time_secs.min(open.hold_time_secs);
        let external = open.asn != self.config.local_asn;
        connection.hold_time_secs = Some(hold_time_secs);
        connection.progress = Progress::OpenConfirm(open);
        let id = connection.id;
        //= https://www.rfc-editor.org/rfc/rfc8654#section-4
        //# A BGP speaker MAY send BGP Extended Messages to a peer only if the BGP Extended Message Capability was received
        //# from that peer.
        // So each direction follows the receiver's offer. Before the KEEPALIVE: an UPDATE can only follow it.
        self.outputs.push_back(Output::SetDecodeContext {
            connection: id,
            context: DecodeContext {
                four_octet_as: common.four_octet_as,
                extended_message: self.config.capabilities.extended_message,
                families: common.families,
                external,
            },
        });
        self.heard(now, slot);
        self.speak(now, slot);
    }

    /// RFC 4271 §6.2: what the decoder cannot know.
    fn check_open(&self, open: &Open) -> Result<(), (Notification, String)> {
        if self.config.peer_asn.is_some_and(|expected| expected != open.asn) {
            let expected = self.config.peer_asn.map_or(0, |asn| asn.0);
            return Err((
                Notification::bad_peer_as(),
                format!("the peer says AS {}, configured is AS {expected}", open.asn),
            ));
        }
        // RFC 6286 §2.2: an identifier must differ from ours only where the AS is the same.
        if open.identifier == self.config.local_identifier && open.asn == self.config.local_asn {
            return Err((
                Notification::bad_bgp_identifier(),
                format!("the peer has our own BGP Identifier {}", open.identifier),
            ));
        }
        let common = self.config.capabilities.intersection(open.capability_set());
        if common.families == FamilySet::default() {
            // RFC 5492 §5: name a capability that we miss.
            let wanted: &[u8] = if self.config.capabilities.families.contains(Family::Ipv4Unicast) {
                &[1, 4, 0, 1, 0, 1]
            } else {
                &[1, 4, 0, 2, 0, 1]
            };
            return Err((
                Notification::unsupported_capability(wanted),
                "no address family in common".to_owned(),
            ));
        }
        Ok(())
    }

    /// Whether the connection in `slot`, whose OPEN just came, must go (RFC 4271 §6.8). When the other one must go, it goes here.
    fn loses_collision(&mut self, now: Instant, slot: Slot, open: &Open) -> bool {
        let Some((other_progress, other_direction)) = self.at(slot.other()).map(|c| (c.progress.clone(), c.direction))
        else {
            return false;
        };
        let Some(direction) = self.at(slot).map(|c| c.direction) else {
            return false;
        };
        match other_progress {
            //= https://www.rfc-editor.org/rfc/rfc4724#section-4.2
            //# the previous TCP session MUST be closed, and the new one retained. Since the previous connection is considered to be
            //# terminated, no NOTIFICATION message should be sent
            Progress::Established if self.agreed_restart().is_some() => {
                let reason = "the peer has opened another connection".to_owned();
                self.end(now, slot.other(), End::Gone(DownReason::ConnectionLost(reason)));
                false
            }
            //= https://www.rfc-editor.org/rfc/rfc4271#section-6.8
            //# Unless allowed via configuration, a connection collision with an
            //# existing BGP connection that is in the Established state causes
            //# closing of the newly created connection.
            Progress::Established => true,
            Progress::OpenConfirm(_) => {
                let local = Speaker {
                    identifier: self.config.local_identifier,
                    asn: self.config.local_asn,
                };
                let remote = Speaker {
                    identifier: open.identifier,
                    asn: open.asn,
                };
                let survivor = surviving_direction(local, remote);
                let lose = direction != other_direction && direction != survivor;
                if !lose {
                    self.close_collided(slot.other());
                }
                lose
            }
            Progress::OpenSent | Progress::Parked { .. } => false,
        }
    }

    fn close_collided(&mut self, slot: Slot) {
        self.timers.stop_connection(slot);
        let Some(connection) = self.at(slot) else { return };
        let id = connection.id;
        if !matches!(connection.progress, Progress::Parked { .. }) {
            let notification = Notification::cease(CeaseSubcode::ConnectionCollisionResolution);
            self.send(slot, Message::Notification(notification));
        }
        self.connections[slot as usize] = None;
        self.outputs.push_back(Output::Close { connection: id });
    }

    fn establish(&mut self, now: Instant, slot: Slot, open: &Open) {
        if self.at(slot.other()).is_some() {
            self.close_collided(slot.other());
        }
        let Some(connection) = &mut self.connections[slot as usize] else {
            return;
        };
        connection.progress = Progress::Established;
        let common = self.config.capabilities.intersection(open.capability_set());
        let negotiated = Negotiated {
            connection: connection.id,
            direction: connection.direction,
            hold_time_secs: connection.hold_time_secs.unwrap_or(0),
            peer_identifier: open.identifier,
            peer_asn: open.asn,
            capabilities: common,
            encode: EncodeContext {
                four_octet_as: common.four_octet_as,
                extended_message: open.capability_set().extended_message,
            },
            restart: Restart::agreed(&self.config.restart, &open.restart_offer(), common.families),
        };
        self.rest();
        self.dialling = Dialling::Active;
        self.history.established(now);
        self.negotiated = Some(negotiated.clone());
        self.outputs.push_back(Output::Established(negotiated));
        self.heard(now, slot);
    }

    // Timers of a connection.

    /// The peer spoke: the HoldTimer starts again.
    fn heard(&mut self, now: Instant, slot: Slot) {
        match self.at(slot).and_then(|c| c.hold_time_secs) {
            Some(0) | None => self.timers.stop(Timer::Hold(slot)),
            Some(secs) => self
                .timers
                .set(Timer::Hold(slot), now + Duration::from_secs(secs.into())),
        }
    }

    /// KEEPALIVE, and the KeepaliveTimer starts again.
    fn speak(&mut self, now: Instant, slot: Slot) {
        let Some(secs) = self.at(slot).and_then(|c| c.hold_time_secs) else {
            return;
        };
        self.send(slot, Message::Keepalive);
        //= https://www.rfc-editor.org/rfc/rfc4271#section-4.4
        //# A reasonable maximum time between KEEPALIVE messages would be one third of the Hold Time interval.
        if secs > 0 {
            let wait = self.jitter.apply(Duration::from_secs(secs.into()) / 3);
            self.timers.set(Timer::Keepalive(slot), now + wait);
        }
    }

    fn hold_timer_expires(&mut self, now: Instant, slot: Slot) {
        let notification = Notification::hold_timer_expired();
        let secs = self
            .at(slot)
            .and_then(|c| c.hold_time_secs)
            .map_or(OPEN_HOLD.as_secs(), u64::from);
        self.end(
            now,
            slot,
            End::Notify(notification, format!("nothing heard for {secs} s (hold timer)"), None),
        );
    }

    fn write_blocked(&mut self, now: Instant, id: ConnectionId) {
        let Some(slot) = self.slot_of(id) else { return };
        if self.timers.is_set(Timer::SendHold(slot)) {
            return;
        }
        let hold = self.at(slot).and_then(|c| c.hold_time_secs).unwrap_or(0);
        if hold == 0 {
            // RFC 9687 §3.1: with a hold time of zero the peer wants no liveness checks.
            return;
        }
        // RFC 9687 §3.2: by default eight minutes or twice the hold time, whichever is longer.
        let default = SEND_HOLD_MINIMUM.max(2 * Duration::from_secs(hold.into()));
        self.timers.set(
            Timer::SendHold(slot),
            now + self.config.send_hold_time.unwrap_or(default),
        );
    }

    fn request_refresh(&mut self) {
        let Some(negotiated) = self.negotiated.clone().filter(|n| n.capabilities.route_refresh) else {
            return;
        };
        let Some(slot) = self.slot_of(negotiated.connection) else {
            return;
        };
        for family in negotiated.capabilities.families.iter() {
            self.send(
                slot,
                Message::RouteRefresh(RouteRefresh {
                    family,
                    kind: RefreshKind::Request,
                }),
            );
        }
    }

    fn send(&mut self, slot: Slot, message: Message) {
        let Some(connection) = self.at(slot).map(|c| c.id) else {
            return;
        };
        self.history.messages_sent += 1;
        self.outputs.push_back(Output::Send { connection, message });
    }
}
