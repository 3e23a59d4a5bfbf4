#![allow(clippy::unwrap_used)]
//! Every state met with every packet, and the rules of intervals, polls, jitter and silence one by one. Two machines that talk to each
//! other are in `tests/pair.rs`.

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::*;
use crate::packet::{ControlPacket, Diagnostic, Discriminator, SectionOctets, State};
use crate::{Authentication, AuthenticationType, Discard};

const FAST: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);

fn config() -> SessionConfig {
    SessionConfig {
        desired_min_tx: FAST,
        required_min_rx: FAST,
        detect_mult: 3,
    }
}

fn discriminator(number: u32) -> Discriminator {
    Discriminator(NonZeroU32::new(number).unwrap())
}

/// A packet of the neighbour, as it is once both are Up.
fn packet(state: State) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        detect_mult: 3,
        my_discriminator: discriminator(7),
        your_discriminator: Some(discriminator(1)),
        desired_min_tx_us: 50_000,
        required_min_rx_us: 50_000,
        required_min_echo_rx_us: 0,
        authentication: SectionOctets::new(),
    }
}

/// A session with a clock of its own, and what it said since the last look.
struct Bench {
    session: Session,
    now: Instant,
    sent: Vec<(Instant, ControlPacket)>,
    changes: Vec<StateChange>,
    discarded: Vec<Discard>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(config(), None)
    }

    fn with(config: SessionConfig, authentication: Option<Authentication>) -> Bench {
        let now = Instant::now();
        Bench {
            session: Session::new(now, config, discriminator(1), authentication, 42),
            now,
            sent: Vec::new(),
            changes: Vec::new(),
            discarded: Vec::new(),
        }
    }

    fn up() -> Bench {
        let mut bench = Bench::new();
        bench.receive(packet(State::Init));
        // The Poll Sequence that says how fast we will be is answered, and over.
        bench.receive(ControlPacket {
            is_final: true,
            ..packet(State::Up)
        });
        bench.receive(packet(State::Up));
        assert_eq!(bench.session.state(), State::Up);
        bench.forget();
        bench
    }

    fn input(&mut self, input: Input) -> &mut Bench {
        self.session.handle(self.now, input);
        self.drain();
        self
    }

    fn receive(&mut self, packet: ControlPacket) -> &mut Bench {
        self.input(Input::Received(packet))
    }

    /// Lets time pass, with each timer when it is due.
    fn pass(&mut self, duration: Duration) -> &mut Bench {
        let end = self.now + duration;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
        self
    }

    /// The same while the neighbour is heard often enough.
    fn pass_hearing(&mut self, duration: Duration, heard: &ControlPacket) -> &mut Bench {
        let end = self.now + duration;
        while self.now < end {
            self.receive(heard.clone());
            self.pass(Duration::from_millis(40));
        }
        self
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Transmit(octets) => self.sent.push((self.now, ControlPacket::parse(&octets).unwrap())),
                Output::Changed(change) => self.changes.push(change),
                Output::Discarded(reason) => self.discarded.push(reason),
            }
        }
    }

    fn forget(&mut self) {
        self.sent.clear();
        self.changes.clear();
        self.discarded.clear();
    }

    fn last_sent(&self) -> &ControlPacket {
        &self.sent.last().unwrap().1
    }

    /// The time between packets.
    fn gaps(&self) -> Vec<Duration> {
        self.sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

#[test]
fn a_change_says_whether_the_neighbours_bfd_outlives_its_control_plane() {
    for independent in [false, true] {
        let mut bench = Bench::up();
        bench.receive(ControlPacket {
            control_plane_independent: independent,
            ..packet(State::Up)
        });
        bench.pass(Duration::from_secs(10));
        let lost: Vec<bool> = bench
            .changes
            .iter()
            .map(|change| change.remote_is_independent)
            .collect();
        assert_eq!(lost, [independent]);
    }
}

#[test]
fn every_state_meets_every_packet_as_the_grid_says() {
    type Prepare = fn(&mut Bench);
    let states: [(&str, Prepare); 4] = [
        ("AdminDown", |bench| _ = bench.input(Input::AdminDown)),
        ("Down", |_| {}),
        ("Init", |bench| _ = bench.receive(packet(State::Down))),
        ("Up", |bench| _ = bench.receive(packet(State::Init))),
    ];
    let received = |state, poll, is_final| {
        Some(Input::Received(ControlPacket {
            poll,
            is_final,
            ..packet(state)
        }))
    };
    let events: [(&str, Option<Input>); 11] = [
        ("received AdminDown", received(State::AdminDown, false, false)),
        ("received Down", received(State::Down, false, false)),
        ("received Init", received(State::Init, false, false)),
        ("received Up", received(State::Up, false, false)),
        ("received Up with P", received(State::Up, true, false)),
        ("received Down with P", received(State::Down, true, false)),
        ("received Up with F", received(State::Up, false, true)),
        ("silence", None),
        ("AdminDown", Some(Input::AdminDown)),
        ("AdminUp", Some(Input::AdminUp)),
        (
            "slower",
            Some(Input::Configure(SessionConfig {
                desired_min_tx: 4 * FAST,
                ..config()
            })),
        ),
    ];
    let mut grid = String::new();
    for (state, prepare) in states {
        let _ = writeln!(grid, "{state}");
        for (event, input) in &events {
            let mut bench = Bench::new();
            bench.pass(Duration::ZERO);
            prepare(&mut bench);
            bench.forget();
            match input {
                Some(input) => bench.input(input.clone()),
                None => bench.pass(Duration::from_millis(160)),
            };
            let _ = writeln!(
                grid,
                "  {event:<21} → {:<9} {}",
                bench.session.state().to_string(),
                said(&bench)
            );
        }
    }
    insta::assert_snapshot!(grid);
}

/// Without the packets of the rhythm: how many there are is chance.
fn said(bench: &Bench) -> String {
    let changes = bench
        .changes
        .iter()
        .map(|change| format!("{} ({})", change.to, change.diagnostic));
    let discarded = bench.discarded.iter().map(|reason| format!("dropped: {reason}"));
    let answers = bench.sent.iter().map(|(_, packet)| {
        let flags = [(packet.poll, " P"), (packet.is_final, " F")];
        let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        format!("send {}{flags}", packet.state)
    });
    let mut all: Vec<String> = changes.chain(discarded).chain(answers).collect();
    all.dedup();
    all.join(", ")
}

#[test]
fn while_not_up_it_sends_no_more_than_once_a_second() {
    let mut bench = Bench::new();
    bench.pass(20 * SECOND);
    assert!(bench.sent.len() >= 20);
    for gap in bench.gaps() {
        assert!((SECOND * 3 / 4..=SECOND).contains(&gap), "{gap:?}");
    }
    assert_eq!(bench.last_sent().desired_min_tx_us, 1_000_000);
    assert_eq!(bench.last_sent().required_min_rx_us, 50_000);
}

#[test]
fn intervals_are_jittered_by_up_to_a_quarter_and_differ() {
    let mut bench = Bench::up();
    bench.pass_hearing(10 * SECOND, &packet(State::Up));
    let gaps = bench.gaps();
    assert!(gaps.len() > 150);
    for gap in &gaps {
        assert!((FAST * 3 / 4..=FAST).contains(gap), "{gap:?}");
    }
    let distinct: std::collections::BTreeSet<_> = gaps.iter().collect();
    assert!(distinct.len() > 50, "jitter should differ from packet to packet");
    let short = gaps.iter().filter(|gap| **gap < FAST * 80 / 100).count();
    let long = gaps.iter().filter(|gap| **gap > FAST * 95 / 100).count();
    assert!(
        short > 10 && long > 10,
        "{short} short and {long} long of {}",
        gaps.len()
    );
}

#[test]
fn with_a_detect_mult_of_one_a_tenth_is_left_to_spare() {
    let mut bench = Bench::up();
    bench.input(Input::Configure(SessionConfig {
        detect_mult: 1,
        ..config()
    }));
    bench.pass_hearing(SECOND, &packet(State::Up));
    bench.forget();
    bench.pass_hearing(10 * SECOND, &packet(State::Up));
    assert_eq!(bench.last_sent().detect_mult, 1);
    for gap in bench.gaps() {
        assert!((FAST * 3 / 4..=FAST * 9 / 10).contains(&gap), "{gap:?}");
    }
}

#[test]
fn it_sends_no_more_often_than_the_neighbour_can_hear() {
    let mut bench = Bench::up();
    let slow = ControlPacket {
        required_min_rx_us: 300_000,
        ..packet(State::Up)
    };
    bench.pass_hearing(SECOND, &slow);
    bench.forget();
    bench.pass_hearing(5 * SECOND, &slow);
    for gap in bench.gaps() {
        assert!(gap >= Duration::from_millis(225), "{gap:?}");
    }
    assert_eq!(bench.session.status().tx_interval, Some(Duration::from_millis(300)));
}

#[test]
fn a_neighbour_that_can_hear_faster_is_sent_faster_at_once() {
    let mut bench = Bench::up();
    bench.receive(ControlPacket {
        required_min_rx_us: 10_000_000,
        ..packet(State::Up)
    });
    bench.receive(packet(State::Up));
    bench.forget();
    bench.pass(FAST);
    assert!(!bench.sent.is_empty(), "the next packet was not moved");
}

#[test]
fn a_neighbour_that_can_hear_nothing_is_sent_only_answers() {
    let mut bench = Bench::up();
    let deaf = ControlPacket {
        required_min_rx_us: 0,
        ..packet(State::Up)
    };
    bench.receive(deaf.clone());
    bench.forget();
    bench.pass_hearing(SECOND, &deaf);
    assert!(bench.sent.is_empty());
    assert_eq!(bench.session.status().tx_interval, None);
    bench.receive(ControlPacket { poll: true, ..deaf });
    assert!(bench.last_sent().is_final && !bench.last_sent().poll);
}

#[test]
fn demand_mode_of_the_neighbour_stops_our_packets_while_both_are_up() {
    let mut bench = Bench::up();
    let demanding = ControlPacket {
        demand: true,
        ..packet(State::Up)
    };
    bench.receive(demanding.clone());
    bench.forget();
    bench.pass_hearing(SECOND, &demanding);
    assert!(bench.sent.is_empty());

    bench.receive(ControlPacket {
        poll: true,
        ..demanding.clone()
    });
    assert!(bench.last_sent().is_final);
    bench.forget();

    // A Poll Sequence of ours is sent all the same, until it is answered.
    bench.input(Input::Configure(SessionConfig {
        desired_min_tx: 2 * FAST,
        ..config()
    }));
    bench.pass_hearing(SECOND, &demanding);
    assert!(bench.sent.len() > 5 && bench.sent.iter().all(|(_, packet)| packet.poll));
    bench.receive(ControlPacket {
        is_final: true,
        ..demanding.clone()
    });
    bench.forget();
    bench.pass_hearing(SECOND, &demanding);
    assert!(bench.sent.is_empty());

    // Its silence is noticed as ever.
    bench.pass(SECOND);
    assert_eq!(bench.session.state(), State::Down);
    assert!(!bench.sent.is_empty(), "what is down is told");
}

#[test]
fn silence_of_the_detection_time_takes_it_down_and_not_less() {
    let mut bench = Bench::up();
    bench.receive(packet(State::Up));
    bench.pass(3 * FAST - Duration::from_micros(1));
    assert_eq!(bench.session.state(), State::Up);
    bench.pass(Duration::from_micros(1));
    let change = bench.changes[0];
    assert_eq!((change.from, change.to), (State::Up, State::Down));
    assert_eq!(change.diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
    assert_eq!(change.silence, 3 * FAST);
    assert!(change.is_path_lost());
    let told = bench.last_sent();
    assert_eq!((told.state, told.your_discriminator), (State::Down, None));
    assert_eq!(told.diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
}

#[test]
fn the_detection_time_is_the_neighbours_multiplier_and_the_slower_interval() {
    let mut bench = Bench::up();
    bench.receive(ControlPacket {
        detect_mult: 5,
        desired_min_tx_us: 200_000,
        ..packet(State::Up)
    });
    assert_eq!(bench.session.status().detection_time, Some(SECOND));
    bench.receive(ControlPacket {
        detect_mult: 2,
        desired_min_tx_us: 10_000,
        ..packet(State::Up)
    });
    assert_eq!(bench.session.status().detection_time, Some(2 * FAST));
}

#[test]
fn a_packet_is_not_counted_for_the_detection_time_when_it_is_dropped() {
    let with = Authentication::new(AuthenticationType::KeyedSha1, 1, b"key").unwrap();
    let mut bench = Bench::with(config(), Some(with));
    bench.receive(packet(State::Down));
    assert_eq!(bench.discarded, [Discard::AuthenticationSection]);
    assert_eq!(bench.session.state(), State::Down);
    assert_eq!(
        bench.session.status().remote_discriminator,
        None,
        "nothing of it may be remembered"
    );
}

#[test]
fn a_change_of_state_is_told_at_once() {
    let mut bench = Bench::new();
    bench.pass(Duration::ZERO);
    bench.forget();
    bench.receive(packet(State::Down));
    assert_eq!(bench.last_sent().state, State::Init);
    bench.receive(packet(State::Up));
    assert_eq!(bench.last_sent().state, State::Up);
    assert_eq!(bench.sent.len(), 2);
}

#[test]
fn coming_up_is_told_with_the_answer_when_an_answer_is_due() {
    let mut bench = Bench::new();
    bench.pass(Duration::ZERO);
    bench.forget();
    bench.receive(ControlPacket {
        poll: true,
        ..packet(State::Init)
    });
    assert_eq!(bench.sent.len(), 1);
    assert!(bench.last_sent().is_final && bench.last_sent().state == State::Up);
}

#[test]
fn a_slower_rhythm_counts_when_the_neighbour_has_understood_it() {
    let mut bench = Bench::up();
    bench.input(Input::Configure(SessionConfig {
        desired_min_tx: 4 * FAST,
        ..config()
    }));
    bench.pass_hearing(SECOND, &packet(State::Up));
    assert!(bench.sent.len() > 15 && bench.last_sent().poll);
    assert_eq!(bench.last_sent().desired_min_tx_us, 200_000);
    bench.receive(ControlPacket {
        is_final: true,
        ..packet(State::Up)
    });
    bench.forget();
    bench.pass_hearing(2 * SECOND, &packet(State::Up));
    assert!(!bench.last_sent().poll);
    for gap in bench.gaps() {
        assert!(gap >= 3 * FAST, "{gap:?}");
    }
}

#[test]
fn being_able_to_hear_faster_counts_when_the_neighbour_has_understood_it() {
    let mut bench = Bench::up();
    let slow = SessionConfig {
        required_min_rx: 4 * FAST,
        ..config()
    };
    bench.input(Input::Configure(slow));
    assert_eq!(
        bench.session.status().rx_interval,
        Some(4 * FAST),
        "more patience counts at once"
    );
    bench.receive(ControlPacket {
        is_final: true,
        ..packet(State::Up)
    });
    bench.receive(packet(State::Up));
    bench.input(Input::Configure(config()));
    assert_eq!(bench.session.status().rx_interval, Some(4 * FAST));
    bench.pass_hearing(SECOND / 2, &packet(State::Up));
    assert_eq!(bench.last_sent().required_min_rx_us, 50_000);
    bench.receive(ControlPacket {
        is_final: true,
        ..packet(State::Up)
    });
    assert_eq!(bench.session.status().rx_interval, Some(FAST));
}

#[test]
fn one_poll_sequence_begins_only_when_the_answer_to_another_can_be_told_from_its_own() {
    let mut bench = Bench::up();
    let slower = |times| {
        Input::Configure(SessionConfig {
            desired_min_tx: times * FAST,
            ..config()
        })
    };
    bench.input(slower(2));
    bench.input(slower(3));
    bench.pass_hearing(SECOND / 2, &packet(State::Up));
    assert_eq!(
        bench.last_sent().desired_min_tx_us,
        100_000,
        "the first change is still being told"
    );
    let answer = ControlPacket {
        is_final: true,
        ..packet(State::Up)
    };
    bench.receive(answer.clone());
    bench.receive(answer.clone());
    bench.pass(2 * FAST);
    assert!(!bench.last_sent().poll, "a second F may still be of the first");
    bench.receive(packet(State::Up));
    bench.pass_hearing(SECOND / 2, &packet(State::Up));
    assert!(bench.last_sent().poll);
    assert_eq!(bench.last_sent().desired_min_tx_us, 150_000);
}

#[test]
fn a_neighbour_that_holds_the_session_down_says_nothing_of_the_path() {
    let mut bench = Bench::up();
    bench.receive(packet(State::AdminDown));
    let change = bench.changes[0];
    assert_eq!(
        (change.to, change.diagnostic),
        (State::Down, Diagnostic::NEIGHBOR_SIGNALED_DOWN)
    );
    assert!(!change.is_path_lost());
    bench.receive(packet(State::AdminDown));
    assert_eq!(bench.session.state(), State::Down);
}

#[test]
fn a_neighbour_that_says_down_has_lost_the_path() {
    let mut bench = Bench::up();
    bench.receive(packet(State::Down));
    assert!(bench.changes[0].is_path_lost());
    assert_eq!(bench.changes[0].diagnostic, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
}

#[test]
fn held_down_it_says_so_and_comes_up_again_only_when_let() {
    let mut bench = Bench::up();
    bench.input(Input::AdminDown);
    assert_eq!(bench.last_sent().state, State::AdminDown);
    assert_eq!(bench.last_sent().diagnostic, Diagnostic::ADMINISTRATIVELY_DOWN);
    assert!(!bench.changes[0].is_path_lost());
    bench.receive(packet(State::Down)).receive(packet(State::Init));
    assert_eq!(bench.session.state(), State::AdminDown);
    assert_eq!(bench.discarded, [Discard::AdminDown; 2]);
    bench.input(Input::AdminUp);
    bench.receive(packet(State::Down)).receive(packet(State::Up));
    assert_eq!(bench.session.state(), State::Up);
}

#[test]
fn held_down_it_forgets_a_neighbour_that_falls_silent() {
    let mut bench = Bench::up();
    bench.input(Input::AdminDown);
    bench.pass_hearing(SECOND, &packet(State::Down));
    assert_eq!(
        bench.session.status().remote_discriminator,
        Some(discriminator(7)),
        "while it is heard it is known"
    );
    bench.receive(ControlPacket {
        required_min_rx_us: 0,
        ..packet(State::Down)
    });
    bench.pass(SECOND);
    assert_eq!(bench.session.state(), State::AdminDown);
    assert_eq!(bench.session.status().remote_discriminator, None);
    bench.forget();
    bench.pass(5 * SECOND);
    assert_eq!(bench.last_sent().your_discriminator, None);
    assert_eq!(bench.last_sent().state, State::AdminDown);
}

#[test]
fn a_neighbour_that_wanted_nothing_and_was_restarted_hears_of_us_again() {
    let mut bench = Bench::up();
    bench.receive(ControlPacket {
        required_min_rx_us: 0,
        ..packet(State::Up)
    });
    bench.pass(SECOND);
    bench.forget();
    bench.pass(5 * SECOND);
    assert!(bench.sent.len() >= 5);
    assert_eq!(bench.last_sent().your_discriminator, None);
}

#[test]
fn an_old_packet_and_one_from_too_far_ahead_are_dropped() {
    let with = |kind| Authentication::new(kind, 1, b"key").unwrap();
    let cases = [
        (AuthenticationType::KeyedMd5, true),
        (AuthenticationType::MeticulousKeyedMd5, false),
        (AuthenticationType::KeyedSha1, true),
        (AuthenticationType::MeticulousKeyedSha1, false),
    ];
    for (kind, same_again) in cases {
        let packets = sealed(with(kind), 20);
        let mut bench = Bench::with(config(), Some(with(kind)));
        bench.receive(packets[5].clone());
        assert!(
            bench.discarded.is_empty(),
            "{kind:?}: the first one is believed, wherever it stands"
        );
        bench.receive(packets[5].clone());
        assert_eq!(bench.discarded.is_empty(), same_again, "{kind:?}: the same one again");
        bench.discarded.clear();
        bench.receive(packets[4].clone());
        assert_eq!(bench.discarded, [Discard::Sequence], "{kind:?}: an older one");
        bench.discarded.clear();
        bench.receive(packets[15].clone());
        assert_eq!(
            bench.discarded,
            [Discard::Sequence],
            "{kind:?}: ten ahead at a multiplier of three"
        );
        bench.discarded.clear();
        bench.receive(packets[14].clone());
        assert!(bench.discarded.is_empty(), "{kind:?}: nine ahead");
        // After twice the detection time the neighbour may have been restarted with another number.
        bench.pass(10 * SECOND);
        bench.discarded.clear();
        bench.receive(packets[0].clone());
        assert!(bench.discarded.is_empty(), "{kind:?}: after a long silence");
    }
}

#[test]
fn a_forged_digest_moves_nothing() {
    let key = || Authentication::new(AuthenticationType::MeticulousKeyedSha1, 1, b"key").unwrap();
    let packets = sealed(key(), 8);
    let mut bench = Bench::with(config(), Some(key()));
    bench.receive(packets[0].clone());
    let mut forged = packets[7].clone();
    forged.state = State::Init;
    bench.receive(forged);
    assert_eq!(bench.discarded, [Discard::Key]);
    assert_eq!(
        bench.session.state(),
        State::Init,
        "the forged packet would have taken it Up"
    );
    bench.receive(packets[1].clone());
    assert_eq!(bench.discarded.len(), 1, "the window has not moved");
}

#[test]
fn other_keys_types_and_none_are_dropped() {
    let with = |kind, id, key: &[u8]| Some(Authentication::new(kind, id, key).unwrap());
    use AuthenticationType::{KeyedMd5, KeyedSha1, MeticulousKeyedSha1, SimplePassword};
    let check = |ours: Option<Authentication>, theirs: Option<Authentication>, expected: &[Discard]| {
        let mut bench = Bench::with(config(), ours.clone());
        let heard = match theirs.clone() {
            Some(theirs) => sealed(theirs, 1)[0].clone(),
            None => packet(State::Down),
        };
        bench.receive(heard);
        assert_eq!(bench.discarded, expected, "{ours:?} hears {theirs:?}");
    };
    check(
        with(SimplePassword, 1, b"secret"),
        with(SimplePassword, 1, b"secret"),
        &[],
    );
    check(
        with(SimplePassword, 1, b"secret"),
        with(SimplePassword, 1, b"secreT"),
        &[Discard::Key],
    );
    check(with(KeyedSha1, 1, b"secret"), with(KeyedSha1, 1, b"secret"), &[]);
    check(
        with(KeyedSha1, 1, b"secret"),
        with(KeyedSha1, 1, b"secret2"),
        &[Discard::Key],
    );
    let section = &[Discard::AuthenticationSection];
    check(
        with(SimplePassword, 1, b"secret"),
        with(SimplePassword, 1, b"secret2"),
        section,
    );
    check(
        with(SimplePassword, 1, b"secret"),
        with(SimplePassword, 2, b"secret"),
        section,
    );
    check(
        with(KeyedSha1, 1, b"secret"),
        with(MeticulousKeyedSha1, 1, b"secret"),
        section,
    );
    check(with(KeyedSha1, 1, b"secret"), with(KeyedMd5, 1, b"secret"), section);
    check(with(KeyedSha1, 1, b"secret"), None, section);
    check(None, with(SimplePassword, 1, b"secret"), section);
    check(None, None, &[]);
}

#[test]
fn meticulous_sequence_numbers_grow_with_each_packet_and_others_with_each_change() {
    let numbers = |kind| {
        let with = Authentication::new(kind, 1, b"key").unwrap();
        let mut bench = Bench::with(config(), Some(with));
        bench.pass(5 * SECOND);
        let number = |(_, packet): &(Instant, ControlPacket)| {
            u32::from_be_bytes(packet.authentication[4..8].try_into().unwrap())
        };
        let numbers: Vec<u32> = bench.sent.iter().map(number).collect();
        numbers
            .windows(2)
            .map(|pair| pair[1].wrapping_sub(pair[0]))
            .collect::<Vec<_>>()
    };
    let meticulous = numbers(AuthenticationType::MeticulousKeyedMd5);
    assert!(meticulous.len() > 3 && meticulous.iter().all(|step| *step == 1));
    let keyed = numbers(AuthenticationType::KeyedMd5);
    assert!(keyed.len() > 3 && keyed.iter().all(|step| *step == 0));
}

/// Packets of a neighbour with this key, with consecutive sequence numbers.
fn sealed(with: Authentication, count: usize) -> Vec<ControlPacket> {
    let mut state = crate::authentication::AuthenticationState::new(with, u32::MAX - 2);
    let packet = |number: usize| {
        let mut packet = ControlPacket {
            // Something that differs, so that each kind counts on.
            desired_min_tx_us: 1_000_000 + number as u32,
            ..packet(State::Down)
        };
        state.seal(&mut packet);
        packet
    };
    (0..count).map(packet).collect()
}
