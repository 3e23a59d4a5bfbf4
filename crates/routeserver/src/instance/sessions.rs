//! Sessions and the routes that come through them: connections find their peer, what a session wants is carried out.

use std::net::SocketAddr;
use std::time::Instant;

use bgp::FamilySet;
use bgp::session::{self, ConnectionId, Direction, DownReason, Negotiated};
use bgp::wire::{Message, RefreshKind, RouteRefresh, Update};
use bytes::BytesMut;

use crate::arrival::are_part_of_a_table;
use crate::instance::{Event, Instance, Output, PeerKey};
use crate::peer::{LONGEST_FIRST_TABLE, Up, endpoint};
use bgp::wire::{CeaseSubcode, Notification};

impl Instance {
    pub(super) fn accepted(&mut self, now: Instant, connection: ConnectionId, speaker: &str, remote: SocketAddr) {
        let address = remote.ip().to_canonical();
        let peers = self.speakers.get(speaker).map(|speaker| &speaker.peers);
        let caller = peers.into_iter().flatten().find(|key| {
            let peer = self.peers.get(key);
            peer.is_some_and(|peer| peer.intent.address == address)
        });
        match caller.copied() {
            Some(key) if !self.leaving => self.connected(now, key, connection, Direction::Accepted),
            Some(_) => self.outputs.push_back(Output::Close { connection }),
            None => {
                self.outputs.push_back(Output::Close { connection });
                self.event(Event::UnknownCaller { remote });
            }
        }
    }

    pub(super) fn connected(&mut self, now: Instant, key: PeerKey, connection: ConnectionId, direction: Direction) {
        if !self.peers.contains_key(&key) {
            // A dial that outlived its peer.
            self.outputs.push_back(Output::Close { connection });
            return;
        }
        self.connections.insert(connection, key);
        self.drive(now, key, session::Input::Connected { connection, direction });
    }

    pub(super) fn received(&mut self, now: Instant, connection: ConnectionId, messages: Vec<Message>) {
        let Some(key) = self.connections.get(&connection).copied() else {
            return;
        };
        let part_of_a_table = are_part_of_a_table(&messages);
        if part_of_a_table {
            self.put_off(now, key, true);
        }
        for message in messages {
            // The connection may end at any message; what came after it is void.
            if self.connections.get(&connection) != Some(&key) {
                break;
            }
            let Some(peer) = self.peers.get_mut(&key) else {
                break;
            };
            match message {
                Message::Update(update) if peer.session.hears_update(now, connection) => self.update(now, key, update),
                message => {
                    peer.session
                        .handle(now, session::Input::Received { connection, message });
                    self.carry_out_all(now, key);
                }
            }
        }
        if part_of_a_table {
            self.put_off(now, key, false);
        }
        self.reschedule(key);
    }

    /// What the peer says now is part of a table that is still arriving, or no longer.
    fn put_off(&mut self, now: Instant, key: PeerKey, puts_off: bool) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if let Some(speaker) = self.speakers.get_mut(&peer.speaker) {
            speaker.rib.put_off(puts_off);
            if puts_off {
                speaker.arrival.goes_on(now, peer.is_first_table(now));
            }
        }
    }

    pub(super) fn backpressure(&mut self, now: Instant, connection: ConnectionId, full: bool, stalled: bool) {
        let Some(key) = self.connections.get(&connection).copied() else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(up) = peer.up.as_mut().filter(|up| up.connection == connection) else {
            return;
        };
        let blocked = full && stalled;
        let was_blocked = std::mem::replace(&mut up.write_blocked, blocked);
        if let Some(speaker) = self.speakers.get_mut(&peer.speaker) {
            speaker.rib.set_writable(peer.index, !full);
            speaker.unsettled = true;
        }
        match (was_blocked, blocked) {
            (false, true) => self.drive(now, key, session::Input::WriteBlocked { connection }),
            (true, false) => self.drive(now, key, session::Input::WriteResumed { connection }),
            _ => {}
        }
    }

    pub(super) fn drive_connection(&mut self, now: Instant, connection: ConnectionId, input: session::Input) {
        if let Some(key) = self.connections.get(&connection).copied() {
            self.drive(now, key, input);
        }
    }

    /// Gives a session an input and carries out what it wants.
    pub(super) fn drive(&mut self, now: Instant, key: PeerKey, input: session::Input) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.session.handle(now, input);
            self.drain(now, key);
        }
    }

    pub(super) fn drain(&mut self, now: Instant, key: PeerKey) {
        self.carry_out_all(now, key);
        self.reschedule(key);
    }

    fn carry_out_all(&mut self, now: Instant, key: PeerKey) {
        while let Some(output) = self.peers.get_mut(&key).and_then(|peer| peer.session.poll_output()) {
            self.carry_out(now, key, output);
        }
    }

    /// Notes when the peer wants to be woken. Once per batch of messages: each of them moves the hold timer.
    pub(super) fn reschedule(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let deadline = peer.next_deadline();
        if deadline != peer.deadline {
            self.timers.extend(deadline.map(|at| (at, key)));
            if let Some(before) = std::mem::replace(&mut peer.deadline, deadline) {
                self.timers.remove(&(before, key));
            }
        }
    }

    fn carry_out(&mut self, now: Instant, key: PeerKey, output: session::Output) {
        match output {
            session::Output::Dial => self.dial(key),
            session::Output::Send { connection, message } => {
                let mut bytes = BytesMut::new();
                message.encode(&mut bytes);
                self.outputs.push_back(Output::Write {
                    connection,
                    bytes: bytes.freeze(),
                });
            }
            session::Output::SetDecodeContext { connection, context } => {
                self.outputs.push_back(Output::SetDecodeContext { connection, context });
            }
            session::Output::Close { connection } => {
                self.connections.remove(&connection);
                self.outputs.push_back(Output::Close { connection });
            }
            session::Output::Established(negotiated) => self.established(now, key, negotiated),
            session::Output::Down(reason) => self.down(now, key, reason),
            session::Output::AttemptFailed(reason) => self.attempt_failed(key, reason.to_string()),
            session::Output::Update(update) => self.update(now, key, update),
            session::Output::Refresh(refresh) => self.refresh(key, refresh),
        }
    }

    fn dial(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        if let Some(speaker) = self.speakers.get(&peer.speaker) {
            let endpoint = endpoint(&peer.intent, speaker);
            self.outputs.push_back(Output::Dial { peer: key, endpoint });
        }
    }

    pub(super) fn established(&mut self, now: Instant, key: PeerKey, negotiated: Negotiated) {
        self.nothing_lost(key);
        self.finish_ended(now);
        self.back_with(now, key, &negotiated);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(speaker) = self.speakers.get_mut(&peer.speaker) else {
            return;
        };
        let group = speaker.group(&peer.intent, &negotiated, peer.is_drained());
        // A peer that has restarted itself has nothing of ours that End-of-RIB would end, and may be waiting for it.
        let keeps_ours = negotiated.restart.is_some_and(|restart| !restart.restarted);
        let holds_end_of_rib = !self.converged && keeps_ours;
        let direction = negotiated.direction;
        speaker.connections.insert(peer.index, negotiated.connection);
        peer.up = Some(Up {
            connection: negotiated.connection,
            negotiated,
            since: now,
            last_update: now,
            end_of_rib: FamilySet::default(),
            first_table_until: now + LONGEST_FIRST_TABLE,
            write_blocked: false,
        });
        peer.warned = false;
        peer.last_failure = None;
        speaker.update_peer(peer.index, peer.info());
        speaker.rib.attach(peer.index, group);
        if holds_end_of_rib {
            speaker.rib.hold_end_of_rib(peer.index);
        }
        speaker.rib.set_writable(peer.index, true);
        speaker.unsettled = true;
        let peer = peer.intent.id.clone();
        self.event(Event::PeerUp { peer, direction });
    }

    pub(super) fn down(&mut self, now: Instant, key: PeerKey, reason: DownReason) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let before = peer.up.take();
        if let Some(speaker) = self.speakers.get_mut(&peer.speaker) {
            speaker.connections.remove(&peer.index);
            speaker.rib.detach(peer.index);
            speaker.unsettled = true;
        }
        let down = Event::PeerDown {
            peer: peer.intent.id.clone(),
            reason: reason.to_string(),
        };
        self.event(down);
        if let Some(up) = before {
            self.ended(now, key, up, reason);
        }
    }

    fn attempt_failed(&mut self, key: PeerKey, reason: String) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.last_failure.as_ref() != Some(&reason) {
            peer.last_failure = Some(reason.clone());
            let peer = peer.intent.id.clone();
            self.event(Event::PeerFailed { peer, reason });
        }
    }

    fn refresh(&mut self, key: PeerKey, refresh: RouteRefresh) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let Some((speaker, up)) = self.speakers.get_mut(&peer.speaker).zip(peer.up.as_ref()) else {
            return;
        };
        let rib = &mut speaker.rib;
        let enhanced = up.negotiated.capabilities.enhanced_route_refresh;
        match refresh.kind {
            RefreshKind::Request => rib.refresh(peer.index, refresh.family, enhanced),
            // RFC 7313 §4: BoRR and EoRR are for sessions on which both sides have the capability.
            RefreshKind::Begin | RefreshKind::End if !enhanced => return,
            RefreshKind::Begin => rib.begin_refresh(peer.index, refresh.family),
            RefreshKind::End => speaker.end_refresh(peer.index, refresh.family),
        }
        speaker.unsettled = true;
    }

    fn update(&mut self, now: Instant, key: PeerKey, update: Update) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some((speaker, up)) = self.speakers.get_mut(&peer.speaker).zip(peer.up.as_mut()) else {
            return;
        };
        up.last_update = now;
        let mut ends = FamilySet::default();
        peer.updates_received += 1;
        if let Some(family) = update.end_of_rib {
            match family {
                bgp::Family::Ipv4Unicast => up.end_of_rib.ipv4_unicast = true,
                bgp::Family::Ipv6Unicast => up.end_of_rib.ipv6_unicast = true,
            }
            peer.heard_out |= up.said_end_of_rib();
            ends.insert(family);
        }
        if self.logs_routes {
            let events = logged(&peer.intent.id, &update);
            self.outputs.extend(events.map(Output::Event));
        }
        if !update.withdrawn.is_empty() {
            speaker.withdraw(peer.index, &update.withdrawn);
        }
        for announcement in &update.announced {
            speaker.announce(peer.index, announcement);
        }
        speaker.unsettled = true;
        if let Some(first) = update.mended.first() {
            // One count per message, whatever its number of faults; one event per doubling, whatever the number of messages: a peer
            // must not be able to fill our log.
            peer.mended_updates += 1;
            if peer.mended_updates.is_power_of_two() {
                let (peer, what, count) = (peer.intent.id.clone(), first.what.clone(), peer.mended_updates);
                self.event(Event::UpdateMended { peer, what, count });
            }
        }
        for family in ends.iter() {
            self.release(key, family);
        }
        self.check_limit(now, key);
    }

    /// Counts what the Adj-RIB-In holds after each UPDATE, not what an UPDATE would add: announcing the same prefixes again is
    /// no offence (az §1.3). A flood ends at the first UPDATE that goes over the limit.
    pub(super) fn check_limit(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let limit = peer.intent.route_limit;
        if limit == 0 {
            return;
        }
        let Some(speaker) = self.speakers.get(&peer.speaker) else {
            return;
        };
        // What is still to be said again, or to go, is of another time.
        let counts = speaker.rib.counts(peer.index);
        let held = counts.received - counts.stale;
        let near = held * 100 >= limit as usize * usize::from(peer.intent.route_limit_warning_percent);
        let warned = std::mem::replace(&mut peer.warned, near);
        if held > limit as usize {
            let reset = session::Input::Reset {
                notification: Notification::cease(CeaseSubcode::MaximumNumberOfPrefixesReached),
                reason: format!("{held} prefixes are more than the limit of {limit}"),
                offence: Some(session::Offence::PrefixLimit),
            };
            self.drive(now, key, reset);
        } else if near && !warned && held > 0 {
            let peer = peer.intent.id.clone();
            self.event(Event::RouteLimitNear { peer, held, limit });
        }
    }
}

/// What an UPDATE says, for the route log.
fn logged<'a>(peer: &'a str, update: &'a Update) -> impl Iterator<Item = Event> + 'a {
    let withdrawn = (!update.withdrawn.is_empty()).then(|| Event::Withdrawn {
        peer: peer.to_owned(),
        prefixes: update.withdrawn.clone(),
    });
    let announced = update.announced.iter().map(|announcement| Event::Announced {
        peer: peer.to_owned(),
        announcement: announcement.clone(),
    });
    withdrawn.into_iter().chain(announced)
}
