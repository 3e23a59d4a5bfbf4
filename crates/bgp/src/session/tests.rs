#![allow(clippy::unwrap_used)]
//! Two sessions over an imagined network, and every state met with every event.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::wire::{
    Capability, CeaseSubcode, Message, MessageError, Notification, Open, RefreshKind, RouteRefresh, Update,
};
use crate::{Asn, BgpIdentifier, Family};

mod restart;

const PEER_ASN: Asn = Asn(65001);

fn config() -> SessionConfig {
    SessionConfig::azure(identifier(5), Ipv4Addr::new(10, 1, 1, 4).into(), PEER_ASN)
}

fn identifier(last: u8) -> BgpIdentifier {
    BgpIdentifier(Ipv4Addr::new(10, 1, 255, last))
}

fn open(last: u8, hold_time_secs: u16) -> Message {
    Message::Open(Open {
        asn: PEER_ASN,
        hold_time_secs,
        identifier: identifier(last),
        capabilities: vec![
            Capability::MultiProtocol(Family::Ipv4Unicast),
            Capability::RouteRefresh,
            Capability::FourOctetAs(PEER_ASN),
        ],
    })
}

/// A session with a clock of its own and everything it said since the last look.
struct Bench {
    session: Session,
    now: Instant,
    next_connection: u64,
}

impl Bench {
    fn started() -> Bench {
        Bench::with(config())
    }

    fn with(config: SessionConfig) -> Bench {
        let mut bench = Bench {
            session: Session::new(config),
            now: Instant::now(),
            next_connection: 0,
        };
        bench.input(Input::Start);
        bench
    }

    fn input(&mut self, input: Input) -> &mut Bench {
        self.session.handle(self.now, input);
        self
    }

    fn connect(&mut self, direction: Direction) -> ConnectionId {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        self.input(Input::Connected { connection, direction });
        connection
    }

    fn receive(&mut self, connection: ConnectionId, message: Message) -> &mut Bench {
        self.input(Input::Received { connection, message })
    }

    /// Straight to Established on a dialled connection.
    fn establish(&mut self) -> ConnectionId {
        let connection = self.connect(Direction::Dialled);
        self.receive(connection, open(1, 180))
            .receive(connection, Message::Keepalive);
        assert_eq!(self.session.state(), State::Established);
        self.outputs();
        connection
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.poll_output()).collect()
    }

    fn said(&mut self) -> String {
        self.outputs().iter().map(describe).collect::<Vec<_>>().join(", ")
    }

    /// Lets time pass, firing each timer when it is due.
    fn pass(&mut self, duration: Duration) -> &mut Bench {
        let end = self.now + duration;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
        }
        self.now = end;
        self
    }
}

fn describe(output: &Output) -> String {
    match output {
        Output::Dial => "dial".to_owned(),
        Output::Send { connection, message } => format!("send {} on {}", name(message), connection.0),
        Output::SetDecodeContext { connection, .. } => format!("decode {}", connection.0),
        Output::Close { connection } => format!("close {}", connection.0),
        Output::Established(_) => "ESTABLISHED".to_owned(),
        Output::Down(_) => "DOWN".to_owned(),
        Output::AttemptFailed(_) => "failed".to_owned(),
        Output::Update(_) => "update".to_owned(),
        Output::Refresh(_) => "refresh".to_owned(),
    }
}

fn name(message: &Message) -> String {
    match message {
        Message::Open(_) => "OPEN".to_owned(),
        Message::Update(_) => "UPDATE".to_owned(),
        Message::Keepalive => "KEEPALIVE".to_owned(),
        Message::RouteRefresh(_) => "ROUTE-REFRESH".to_owned(),
        Message::Notification(n) => format!("NOTIFICATION {}/{}", n.code, n.subcode),
    }
}

#[test]
fn every_state_meets_every_event_as_the_grid_says() {
    type Prepare = fn(&mut Bench) -> ConnectionId;
    let states: [(&str, Prepare); 7] = [
        ("Idle", |b| {
            b.input(Input::Stop {
                subcode: CeaseSubcode::AdministrativeShutdown,
                reason: String::new(),
            });
            ConnectionId(99)
        }),
        ("Connect", |_| ConnectionId(99)),
        ("Active", |b| {
            b.input(Input::DialFailed {
                reason: "refused".to_owned(),
            });
            ConnectionId(99)
        }),
        ("OpenSent", |b| b.connect(Direction::Dialled)),
        ("OpenConfirm", |b| {
            let connection = b.connect(Direction::Dialled);
            b.receive(connection, open(1, 180));
            connection
        }),
        ("Established", |b| b.establish()),
        ("IdleHold", |b| {
            for _ in 0..2 {
                let connection = b.establish();
                let error = MessageError {
                    what: "bad".to_owned(),
                    notification: notification(3, 1),
                };
                b.input(Input::Malformed { connection, error });
            }
            b.connect(Direction::Accepted)
        }),
    ];
    let mut grid = String::new();
    for (state, prepare) in states {
        let _ = writeln!(grid, "{state}");
        for (event, make) in events() {
            let mut bench = Bench::started();
            let connection = prepare(&mut bench);
            bench.outputs();
            match make(connection) {
                Some(input) => bench.input(input),
                None => bench.pass(Duration::from_secs(241)),
            };
            let said = bench.said();
            let after = bench.session.state();
            let _ = writeln!(grid, "  {event:<22} → {after:<12} {said}", after = format!("{after:?}"));
        }
    }
    insta::assert_snapshot!(grid);
}

fn notification(code: u8, subcode: u8) -> Notification {
    Notification {
        code,
        subcode,
        data: Bytes::new(),
    }
}

type MakeEvent = fn(ConnectionId) -> Option<Input>;

fn events() -> Vec<(&'static str, MakeEvent)> {
    vec![
        ("Start", |_| Some(Input::Start)),
        ("Stop", |_| {
            Some(Input::Stop {
                subcode: CeaseSubcode::AdministrativeShutdown,
                reason: "bye".to_owned(),
            })
        }),
        ("Connected (dialled)", |_| {
            Some(Input::Connected {
                connection: ConnectionId(50),
                direction: Direction::Dialled,
            })
        }),
        ("Connected (accepted)", |_| {
            Some(Input::Connected {
                connection: ConnectionId(51),
                direction: Direction::Accepted,
            })
        }),
        ("DialFailed", |_| {
            Some(Input::DialFailed {
                reason: "refused".to_owned(),
            })
        }),
        ("OPEN", |connection| {
            Some(Input::Received {
                connection,
                message: open(1, 180),
            })
        }),
        ("OPEN of another AS", |connection| {
            let Message::Open(mut message) = open(1, 180) else {
                unreachable!()
            };
            message.asn = Asn(65002);
            Some(Input::Received {
                connection,
                message: Message::Open(message),
            })
        }),
        ("KEEPALIVE", |connection| {
            Some(Input::Received {
                connection,
                message: Message::Keepalive,
            })
        }),
        ("UPDATE", |connection| {
            Some(Input::Received {
                connection,
                message: Message::Update(Update::default()),
            })
        }),
        ("NOTIFICATION", |connection| {
            Some(Input::Received {
                connection,
                message: Message::Notification(notification(6, 2)),
            })
        }),
        ("ROUTE-REFRESH", |connection| {
            let refresh = RouteRefresh {
                family: Family::Ipv4Unicast,
                kind: RefreshKind::Request,
            };
            Some(Input::Received {
                connection,
                message: Message::RouteRefresh(refresh),
            })
        }),
        ("Malformed", |connection| {
            let error = MessageError {
                what: "bad marker".to_owned(),
                notification: notification(1, 1),
            };
            Some(Input::Malformed { connection, error })
        }),
        ("Closed", |connection| {
            Some(Input::Closed {
                connection,
                reason: "reset".to_owned(),
            })
        }),
        ("WriteBlocked", |connection| Some(Input::WriteBlocked { connection })),
        ("Reset", |_| {
            Some(Input::Reset {
                notification: notification(6, 1),
                reason: "limit".to_owned(),
                offence: Some(Offence::Error),
            })
        }),
        ("Pardon", |_| Some(Input::Pardon)),
        ("RequestRefresh", |_| Some(Input::RequestRefresh)),
        ("241 s of silence", |_| None),
    ]
}

#[test]
fn session_comes_up_with_the_smaller_hold_time() {
    for (theirs, expected) in [(180, 180), (30, 30), (3, 3), (0, 0), (65535, 180)] {
        let mut bench = Bench::started();
        let connection = bench.connect(Direction::Dialled);
        bench
            .receive(connection, open(1, theirs))
            .receive(connection, Message::Keepalive);
        let negotiated = bench.session.status().negotiated.unwrap();
        assert_eq!(negotiated.hold_time_secs, expected);
    }
}

#[test]
fn decode_context_is_set_before_the_keepalive_that_invites_updates() {
    let mut bench = Bench::started();
    let connection = bench.connect(Direction::Accepted);
    bench.outputs();
    bench.receive(connection, open(1, 180));
    assert_eq!(bench.said(), "decode 1, send KEEPALIVE on 1");
}

#[test]
fn hold_time_zero_means_no_keepalives_and_no_expiry() {
    let mut bench = Bench::started();
    let connection = bench.connect(Direction::Dialled);
    bench
        .receive(connection, open(1, 0))
        .receive(connection, Message::Keepalive);
    bench.outputs();
    assert_eq!(bench.pass(Duration::from_secs(100_000)).said(), "");
    assert_eq!(bench.session.state(), State::Established);
}

#[test]
fn silent_peer_is_gone_when_the_hold_timer_expires_and_not_before() {
    let mut bench = Bench::started();
    bench.establish();
    bench.pass(Duration::from_secs(179));
    assert_eq!(bench.session.state(), State::Established);
    bench.outputs();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.said(), "send NOTIFICATION 4/0 on 1, close 1, DOWN");
    assert_eq!(bench.pass(Duration::from_millis(100)).said(), "dial");
}

#[test]
fn keepalives_leave_at_least_every_third_of_the_hold_time() {
    let mut bench = Bench::started();
    let connection = bench.establish();
    let mut sent = 0;
    for _ in 0..60 {
        bench
            .pass(Duration::from_secs(60))
            .receive(connection, Message::Keepalive);
        let keepalives = bench.outputs().len();
        assert!((1..=2).contains(&keepalives), "{keepalives} in a minute");
        sent += keepalives;
    }
    assert!((60..=80).contains(&sent), "{sent} in an hour");
}

#[test]
fn updates_count_as_signs_of_life() {
    let mut bench = Bench::started();
    let connection = bench.establish();
    for _ in 0..10 {
        bench
            .pass(Duration::from_secs(170))
            .receive(connection, Message::Update(Update::default()));
    }
    assert_eq!(bench.session.state(), State::Established);
}

#[test]
fn an_update_that_is_heard_leaves_the_session_as_one_that_is_handled() {
    let (mut heard, mut handled) = (Bench::started(), Bench::started());
    let connections = [heard.establish(), handled.establish()];
    for bench in [&mut heard, &mut handled] {
        bench.outputs();
        bench.pass(Duration::from_secs(100));
        bench.outputs();
    }
    assert!(heard.session.hears_update(heard.now, connections[0]));
    handled.receive(connections[1], Message::Update(Update::default()));
    assert_eq!(handled.outputs(), [Output::Update(Update::default())]);
    assert_eq!(heard.outputs(), []);
    let left = |bench: &Bench| bench.session.poll_timeout().map(|at| at - bench.now);
    assert_eq!(left(&heard), left(&handled));
    let received = |bench: &Bench| bench.session.status().history.messages_received;
    assert_eq!(received(&heard), received(&handled));
}

#[test]
fn an_update_is_not_heard_before_the_session_is_established_nor_on_another_connection() {
    let mut bench = Bench::started();
    let connection = bench.connect(Direction::Dialled);
    assert!(!bench.session.hears_update(bench.now, connection));
    let mut bench = Bench::started();
    bench.establish();
    assert!(!bench.session.hears_update(bench.now, ConnectionId(99)));
}

#[test]
fn deaf_peer_is_dropped_by_the_send_hold_timer() {
    let mut bench = Bench::started();
    let connection = bench.establish();
    bench.input(Input::WriteBlocked { connection });
    for _ in 0..3 {
        bench
            .pass(Duration::from_secs(150))
            .receive(connection, Message::Keepalive);
    }
    bench.outputs();
    bench.pass(Duration::from_secs(30));
    assert!(bench.said().ends_with("close 1, DOWN"));
}

#[test]
fn peer_that_takes_bytes_again_in_time_stays() {
    let mut bench = Bench::started();
    let connection = bench.establish();
    bench
        .input(Input::WriteBlocked { connection })
        .pass(Duration::from_secs(100));
    bench.input(Input::WriteResumed { connection });
    for _ in 0..10 {
        bench
            .receive(connection, Message::Keepalive)
            .pass(Duration::from_secs(100));
    }
    assert_eq!(bench.session.state(), State::Established);
}

#[test]
fn refused_dial_is_tried_again_within_the_retry_time() {
    let mut bench = Bench::started();
    bench.outputs();
    bench.input(Input::DialFailed {
        reason: "refused".to_owned(),
    });
    assert_eq!(bench.pass(Duration::from_millis(2_900)).said(), "");
    assert_eq!(bench.pass(Duration::from_millis(1_100)).said(), "dial");
}

#[test]
fn peer_that_only_dials_needs_none_of_our_dials() {
    let mut bench = Bench::with(SessionConfig {
        dial: false,
        ..config()
    });
    assert_eq!(bench.said(), "");
    let connection = bench.connect(Direction::Accepted);
    bench
        .receive(connection, open(9, 180))
        .receive(connection, Message::Keepalive);
    assert_eq!(bench.session.state(), State::Established);
}

#[test]
fn peer_that_resets_now_and_then_is_back_at_once_and_one_that_keeps_on_waits() {
    let mut bench = Bench::started();
    let mut waits = Vec::new();
    for _ in 0..12 {
        let connection = bench.establish();
        let error = MessageError {
            what: "bad".to_owned(),
            notification: notification(3, 1),
        };
        bench.input(Input::Malformed { connection, error });
        let before = bench.now;
        while !bench.outputs().contains(&Output::Dial) {
            bench.now = bench.session.poll_timeout().unwrap();
            bench.session.handle_timeout(bench.now);
        }
        waits.push((bench.now - before).as_secs());
    }
    assert_eq!(waits, [0, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16]);
}

#[test]
fn caller_in_idle_hold_is_parked_and_served_when_it_ends() {
    let mut bench = Bench::started();
    for _ in 0..2 {
        let connection = bench.establish();
        bench.input(Input::Malformed {
            connection,
            error: MessageError {
                what: "bad".to_owned(),
                notification: notification(3, 1),
            },
        });
    }
    bench.outputs();
    let connection = bench.connect(Direction::Accepted);
    bench.receive(connection, open(1, 180));
    assert_eq!(bench.said(), "");
    bench.pass(Duration::from_secs(1));
    // And not dialled as well: connections would cross.
    assert_eq!(bench.said(), "send OPEN on 3, decode 3, send KEEPALIVE on 3");
}

#[test]
fn rebooted_peer_gets_its_old_connection_probed() {
    let mut bench = Bench::started();
    let old = bench.establish();
    let new = bench.connect(Direction::Accepted);
    assert_eq!(bench.said(), "send KEEPALIVE on 1, send OPEN on 2");
    bench.input(Input::Closed {
        connection: old,
        reason: "reset by peer".to_owned(),
    });
    bench.receive(new, open(1, 180)).receive(new, Message::Keepalive);
    assert_eq!(
        bench.said(),
        "close 1, DOWN, decode 2, send KEEPALIVE on 2, ESTABLISHED"
    );
}

#[test]
fn established_connection_wins_collision_whatever_the_identifier() {
    for last in [1, 200] {
        let mut bench = Bench::started();
        bench.establish();
        let second = bench.connect(Direction::Accepted);
        bench.outputs();
        bench.receive(second, open(last, 180));
        assert_eq!(bench.said(), "send NOTIFICATION 6/7 on 2, close 2");
        assert_eq!(bench.session.state(), State::Established);
    }
}

#[test]
fn collision_in_open_confirm_is_won_by_the_higher_identifier() {
    // We are .5: against .1 our own dial stays, against .200 the peer's.
    for (last, closed) in [(1, ConnectionId(2)), (200, ConnectionId(1))] {
        let mut bench = Bench::started();
        let dialled = bench.connect(Direction::Dialled);
        let accepted = bench.connect(Direction::Accepted);
        bench.receive(dialled, open(last, 180));
        bench.outputs();
        bench.receive(accepted, open(last, 180));
        let closes: Vec<_> = bench
            .outputs()
            .into_iter()
            .filter(|o| matches!(o, Output::Close { .. }))
            .collect();
        assert_eq!(closes, [Output::Close { connection: closed }]);
    }
}

#[test]
fn only_one_of_many_connections_ever_survives() {
    let mut bench = Bench::started();
    let connections: Vec<_> = (0..200).map(|_| bench.connect(Direction::Accepted)).collect();
    let closed = bench
        .outputs()
        .iter()
        .filter(|o| matches!(o, Output::Close { .. }))
        .count();
    assert_eq!(closed, 199);
    let last = *connections.last().unwrap();
    bench.receive(last, open(1, 180)).receive(last, Message::Keepalive);
    assert_eq!(bench.session.state(), State::Established);
}

#[test]
fn shutdown_communication_is_cut_at_a_character_boundary() {
    let mut bench = Bench::started();
    bench.establish();
    bench.input(Input::Stop {
        subcode: CeaseSubcode::AdministrativeShutdown,
        reason: "ü".repeat(200),
    });
    let Some(Output::Send {
        message: Message::Notification(n),
        ..
    }) = bench.outputs().into_iter().next()
    else {
        panic!("no NOTIFICATION");
    };
    assert_eq!((n.code, n.subcode, n.data[0], n.data.len()), (6, 2, 254, 255));
    assert!(std::str::from_utf8(&n.data[1..]).is_ok());
}

#[test]
fn cease_for_a_changed_configuration_carries_no_text() {
    let mut bench = Bench::started();
    bench.establish();
    bench.input(Input::Stop {
        subcode: CeaseSubcode::OtherConfigurationChange,
        reason: "the peering's configuration changed".to_owned(),
    });
    let expected = Message::Notification(notification(6, 6));
    assert!(
        bench
            .outputs()
            .iter()
            .any(|output| matches!(output, Output::Send { message, .. } if *message == expected))
    );
    let down = bench.session.status().history.last_down.unwrap();
    assert_eq!(
        down.reason,
        "we sent NOTIFICATION Cease/Other Configuration Change (6/6): the peering's configuration changed"
    );
}

fn over_limit() -> Input {
    Input::Reset {
        notification: notification(6, 1),
        reason: "too many".to_owned(),
        offence: Some(Offence::PrefixLimit),
    }
}

#[test]
fn the_reason_of_the_last_down_outlives_failed_attempts_and_those_end_with_the_next_session() {
    let mut bench = Bench::started();
    bench.input(Input::DialFailed {
        reason: "refused".to_owned(),
    });
    bench.establish();
    assert_eq!(bench.session.status().history.last_error(), None);

    let ended = bench.now;
    bench.input(over_limit());
    bench.pass(Duration::from_secs(1)).input(Input::DialFailed {
        reason: "refused".to_owned(),
    });
    let history = bench.session.status().history;
    let down = history.last_down.clone().unwrap();
    assert_eq!(
        (down.at, down.reason.as_str()),
        (
            ended,
            "we sent NOTIFICATION Cease/Maximum Number of Prefixes Reached (6/1): too many"
        )
    );
    assert_eq!(history.last_attempt_error.as_deref(), Some("cannot connect: refused"));
    assert_eq!(
        history.last_error().unwrap(),
        "we sent NOTIFICATION Cease/Maximum Number of Prefixes Reached (6/1): too many; since then: cannot connect: refused"
    );

    bench.establish();
    let history = bench.session.status().history;
    assert_eq!((history.last_attempt_error, history.last_down), (None, Some(down)));
}

#[test]
fn peer_over_its_prefix_limit_is_back_within_5_s_once_and_then_waits_longer_each_time() {
    let mut bench = Bench::started();
    let mut waits = Vec::new();
    for _ in 0..8 {
        bench.establish();
        bench.input(over_limit());
        let before = bench.now;
        while !bench.outputs().contains(&Output::Dial) {
            bench.now = bench.session.poll_timeout().unwrap();
            bench.session.handle_timeout(bench.now);
        }
        waits.push((bench.now - before).as_secs());
    }
    assert_eq!(waits, [1, 5, 10, 20, 40, 60, 60, 60]);
}

#[test]
fn a_pardoned_peer_is_let_in_at_once_with_a_clean_record() {
    let mut bench = Bench::started();
    for _ in 0..4 {
        bench.establish();
        bench.input(over_limit());
        bench.pass(Duration::from_secs(60));
    }
    bench.establish();
    bench.input(over_limit());
    bench.outputs();
    bench.input(Input::Pardon);
    assert_eq!(bench.said(), "dial");
    bench.establish();
    bench.input(over_limit());
    bench.outputs();
    assert_eq!(bench.pass(Duration::from_secs(1)).said(), "dial");
}

#[test]
fn a_session_that_follows_another_keeps_its_history() {
    let mut bench = Bench::started();
    bench.establish();
    bench.input(over_limit());
    let history = bench.session.status().history;
    let mut next = Bench::started();
    next.session = Session::with_history(config(), history.clone());
    assert_eq!(next.session.status().history, history);
    next.input(Input::Start);
    next.establish();
    let after = next.session.status().history;
    assert_eq!((after.established_count, after.last_down), (2, history.last_down));
}

#[test]
fn peer_without_a_common_family_is_told_which_one_we_miss() {
    let mut bench = Bench::with(SessionConfig {
        capabilities: crate::wire::CapabilitySet {
            families: crate::FamilySet::IPV4,
            ..config().capabilities
        },
        ..config()
    });
    let connection = bench.connect(Direction::Dialled);
    bench.outputs();
    let Message::Open(mut message) = open(1, 180) else {
        unreachable!()
    };
    message.capabilities = vec![Capability::MultiProtocol(Family::Ipv6Unicast)];
    bench.receive(connection, Message::Open(message));
    assert!(bench.said().starts_with("send NOTIFICATION 2/7 on 1, close 1, failed"));
}

#[test]
fn request_refresh_goes_out_per_family_that_both_have() {
    let mut bench = Bench::started();
    bench.establish();
    bench.input(Input::RequestRefresh);
    assert_eq!(bench.said(), "send ROUTE-REFRESH on 1");
}

/// Two sessions that face each other through a network that delivers in the order given by `choose`.
fn pair_settles(seed: u64) {
    let mut sides = [
        Bench::with(SessionConfig {
            jitter_seed: seed,
            ..config()
        }),
        Bench::with(SessionConfig {
            local_asn: PEER_ASN,
            local_identifier: identifier(1),
            peer_asn: Some(Asn::AZURE_ROUTE_SERVER),
            jitter_seed: seed.wrapping_mul(31),
            ..config()
        }),
    ];
    // Deliveries in flight per side; a connection has the same name at both ends.
    let mut flights: [std::collections::VecDeque<Input>; 2] = Default::default();
    let mut random = seed;
    let mut next_connection = 100;
    for _ in 0..2_000 {
        for side in 0..2 {
            for output in sides[side].outputs() {
                let far = 1 - side;
                match output {
                    Output::Dial => {
                        next_connection += 1;
                        let connection = ConnectionId(next_connection);
                        flights[side].push_back(Input::Connected {
                            connection,
                            direction: Direction::Dialled,
                        });
                        flights[far].push_back(Input::Connected {
                            connection,
                            direction: Direction::Accepted,
                        });
                    }
                    Output::Send { connection, message } => {
                        flights[far].push_back(Input::Received { connection, message });
                    }
                    Output::Close { connection } => {
                        flights[far].push_back(Input::Closed {
                            connection,
                            reason: "closed".to_owned(),
                        });
                    }
                    _ => {}
                }
            }
        }
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let side = (random >> 33) as usize % 2;
        let side = if flights[side].is_empty() { 1 - side } else { side };
        match flights[side].pop_front() {
            Some(input) => {
                sides[side].input(input);
            }
            None => {
                for bench in &mut sides {
                    bench.pass(Duration::from_secs(1));
                }
            }
        }
    }
    for bench in &sides {
        assert_eq!(bench.session.state(), State::Established, "seed {seed}");
        let flaps = bench.session.status().history.established_count;
        assert!(flaps <= 3, "seed {seed}: {flaps} times Established");
    }
}

#[test]
fn two_sessions_that_dial_each_other_always_settle_on_one_connection() {
    for seed in 0..500 {
        pair_settles(seed);
    }
}
