#![allow(clippy::unwrap_used)]
//! Two systems over an imagined path that delays, loses and repeats packets.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bfd::{
    Arrival, Authentication, AuthenticationType, Diagnostic, Discard, Input, Output, Path, Seed, SessionConfig,
    SessionStatus, Sessions, State, StateChange,
};
use proptest::prelude::*;

const DELAY: Duration = Duration::from_millis(2);
const FAST: Duration = Duration::from_millis(50);

fn config(interval: Duration, detect_mult: u8) -> SessionConfig {
    SessionConfig {
        desired_min_tx: interval,
        required_min_rx: interval,
        detect_mult,
    }
}

fn path(side: usize) -> Path {
    let address = |number: usize| IpAddr::V4(Ipv4Addr::new(10, 1, 1, 4 + number as u8));
    Path {
        network: 0,
        local: address(side),
        remote: address(1 - side),
        multihop: false,
    }
}

/// Two systems, each with one session with the other.
struct Pair {
    sides: [Sessions<u8>; 2],
    changes: [Vec<(Instant, StateChange)>; 2],
    /// On their way: when they are there, whither, what.
    flying: VecDeque<(Instant, usize, Vec<u8>)>,
    /// Whether the next packet towards a side is lost.
    loses: Box<dyn FnMut(usize) -> bool>,
    now: Instant,
    ttl: u8,
}

impl Pair {
    fn new(configs: [SessionConfig; 2], keys: [Option<Authentication>; 2]) -> Pair {
        let mut pair = Pair {
            sides: [Sessions::new(Seed::new(1, 2)), Sessions::new(Seed::new(3, 4))],
            changes: [Vec::new(), Vec::new()],
            flying: VecDeque::new(),
            loses: Box::new(|_| false),
            now: Instant::now(),
            ttl: 255,
        };
        for (side, authentication) in keys.into_iter().enumerate() {
            pair.want(side, configs[side], authentication);
        }
        pair
    }

    fn fast() -> Pair {
        Pair::new([config(FAST, 3); 2], [None, None])
    }

    fn want(&mut self, side: usize, config: SessionConfig, authentication: Option<Authentication>) {
        self.input(
            side,
            Input::Want {
                key: 0,
                path: path(side),
                config,
                authentication,
                least_ttl: 0,
            },
        );
    }

    fn input(&mut self, side: usize, input: Input<u8>) {
        self.sides[side].handle(self.now, input);
        self.drain(side);
    }

    fn drain(&mut self, side: usize) {
        while let Some(output) = self.sides[side].poll_output() {
            match output {
                Output::Transmit { octets, .. } if !(self.loses)(1 - side) => {
                    self.flying.push_back((self.now + DELAY, 1 - side, octets));
                }
                Output::Changed { change, .. } => self.changes[side].push((self.now, change)),
                Output::Transmit { .. } | Output::Gone { .. } => {}
            }
        }
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let timers = self.sides.iter().filter_map(Sessions::poll_timeout);
            let arrival = self.flying.front().map(|(at, ..)| *at);
            let Some(at) = timers.chain(arrival).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            while let Some((at, ..)) = self.flying.front()
                && *at <= self.now
            {
                let Some((_, to, octets)) = self.flying.pop_front() else {
                    break;
                };
                let arrival = Arrival {
                    path: path(to),
                    ttl: self.ttl,
                };
                self.input(to, Input::Received { arrival, octets });
            }
            for side in 0..2 {
                self.sides[side].handle_timeout(self.now);
                self.drain(side);
            }
        }
        self.now = end;
    }

    fn status(&self, side: usize) -> SessionStatus {
        self.sides[side].statuses().next().unwrap().2
    }

    fn states(&self) -> [State; 2] {
        [self.status(0).state, self.status(1).state]
    }

    fn downs(&self, side: usize) -> Vec<(Instant, StateChange)> {
        let lost = self.changes[side].iter().filter(|(_, change)| change.from == State::Up);
        lost.copied().collect()
    }
}

#[test]
fn two_systems_come_up_within_seconds_and_then_speak_as_fast_as_both_want() {
    let mut pair = Pair::new([config(FAST, 3), config(4 * FAST, 5)], [None, None]);
    pair.pass(Duration::from_secs(5));
    assert_eq!(pair.states(), [State::Up; 2]);
    for side in 0..2 {
        let status = pair.status(side);
        assert_eq!(status.tx_interval, Some(4 * FAST));
        assert_eq!(status.rx_interval, Some(4 * FAST));
        assert_eq!((status.ups, status.downs, status.discarded), (1, 0, 0));
    }
    assert_eq!(pair.status(0).detection_time, Some(20 * FAST));
    assert_eq!(pair.status(1).detection_time, Some(12 * FAST));
}

#[test]
fn a_cut_path_is_noticed_by_both_within_the_detection_time() {
    let mut pair = Pair::fast();
    pair.pass(Duration::from_secs(10));
    let cut_at = pair.now;
    pair.loses = Box::new(|_| true);
    pair.pass(Duration::from_secs(1));
    for side in 0..2 {
        let downs = pair.downs(side);
        let (at, change) = downs[0];
        assert_eq!(change.diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
        assert!(change.is_path_lost());
        assert!(at - cut_at <= 3 * FAST + DELAY, "{:?}", at - cut_at);
        assert_eq!(downs.len(), 1);
    }
}

#[test]
fn a_path_cut_in_one_direction_is_noticed_by_one_and_told_to_the_other() {
    let mut pair = Pair::fast();
    pair.pass(Duration::from_secs(10));
    let cut_at = pair.now;
    pair.loses = Box::new(|to| to == 0);
    pair.pass(Duration::from_secs(1));
    let diagnostics = [0, 1].map(|side| pair.downs(side)[0].1.diagnostic);
    assert_eq!(
        diagnostics,
        [Diagnostic::DETECTION_TIME_EXPIRED, Diagnostic::NEIGHBOR_SIGNALED_DOWN]
    );
    assert!(pair.downs(1)[0].0 - cut_at <= 3 * FAST + 2 * DELAY);
    assert_ne!(pair.states()[1], State::Up, "it may hear, but is not heard");
}

#[test]
fn two_lost_packets_in_a_row_are_no_lost_path() {
    let mut pair = Pair::fast();
    pair.pass(Duration::from_secs(10));
    let mut count = 0;
    pair.loses = Box::new(move |to| {
        count += u32::from(to == 0);
        to == 0 && count % 3 != 0
    });
    pair.pass(Duration::from_secs(60));
    assert_eq!(pair.states(), [State::Up; 2]);
    assert!(pair.downs(0).is_empty() && pair.downs(1).is_empty());
}

#[test]
fn one_that_was_restarted_is_known_again() {
    let mut pair = Pair::fast();
    pair.pass(Duration::from_secs(5));
    pair.sides[1] = Sessions::new(Seed::new(5, 6));
    pair.want(1, config(FAST, 3), None);
    pair.pass(Duration::from_secs(10));
    assert_eq!(pair.states(), [State::Up; 2]);
    assert_eq!(pair.downs(0).len(), 1);
}

#[test]
fn a_session_that_is_not_wanted_any_more_says_so_and_is_no_lost_path() {
    let mut pair = Pair::fast();
    pair.pass(Duration::from_secs(5));
    pair.input(0, Input::Drop { key: 0 });
    pair.pass(Duration::from_secs(1));
    let change = pair.downs(1)[0].1;
    assert_eq!(change.remote_state, State::AdminDown);
    assert!(!change.is_path_lost());
    assert!(pair.sides[0].statuses().next().is_none());
    pair.pass(Duration::from_secs(60));
    assert_eq!(pair.sides[0].poll_timeout(), None, "nothing is left of it");

    pair.want(0, config(FAST, 3), None);
    pair.pass(Duration::from_secs(10));
    assert_eq!(pair.states(), [State::Up; 2]);
}

#[test]
fn a_change_of_intervals_takes_nobody_down() {
    let mut pair = Pair::fast();
    pair.pass(Duration::from_secs(5));
    for interval in [200, 60, 1_000, 50, 5_000, 50] {
        pair.want(0, config(Duration::from_millis(interval), 3), None);
        pair.pass(Duration::from_secs(30));
        let expected = Duration::from_millis(interval).max(FAST);
        assert_eq!(pair.status(0).tx_interval, Some(expected));
        assert_eq!(pair.status(1).tx_interval, Some(expected));
    }
    assert!(pair.downs(0).is_empty() && pair.downs(1).is_empty());
}

#[test]
fn what_comes_from_farther_than_the_link_is_dropped() {
    let mut pair = Pair::fast();
    pair.ttl = 254;
    pair.pass(Duration::from_secs(10));
    assert_eq!(pair.states(), [State::Down; 2]);
    assert!(pair.sides[0].discarded()[&Discard::Ttl] > 5);
}

#[test]
fn who_knows_the_discriminator_but_is_somebody_else_is_dropped() {
    let mut pair = Pair::fast();
    pair.pass(Duration::from_secs(5));
    let ours = pair.status(0).discriminator.0.get();
    // "Your Discriminator is …, I am Down".
    let mut octets = vec![0x20, 0x40, 3, 24, 0, 0, 0, 9];
    octets.extend(ours.to_be_bytes());
    octets.extend([0, 0, 0xC3, 0x50, 0, 0, 0xC3, 0x50, 0, 0, 0, 0]);
    let spoofed = |path| Input::Received {
        arrival: Arrival { path, ttl: 255 },
        octets: octets.clone(),
    };
    let other = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 99));
    let elsewhere = Path {
        remote: other,
        ..path(0)
    };
    let other_network = Path { network: 1, ..path(0) };
    let other_port = Path {
        multihop: true,
        ..path(0)
    };
    for path in [elsewhere, other_network, other_port] {
        pair.input(0, spoofed(path));
    }
    assert_eq!(pair.states(), [State::Up; 2]);
    assert_eq!(pair.sides[0].discarded()[&Discard::WrongPath], 3);
    pair.input(0, spoofed(path(0)));
    assert_ne!(
        pair.states()[0],
        State::Up,
        "the same from the neighbour's address counts"
    );
}

#[test]
fn discriminators_are_all_different_and_tell_nothing_of_each_other() {
    let mut sessions = Sessions::new(Seed::new(7, 8));
    let now = Instant::now();
    for key in 0..500_u32 {
        let path = Path {
            network: key,
            ..path(0)
        };
        let wanted = Input::Want {
            key,
            path,
            config: config(FAST, 3),
            authentication: None,
            least_ttl: 0,
        };
        sessions.handle(now, wanted);
    }
    let numbers: Vec<u32> = sessions
        .statuses()
        .map(|(.., status)| status.discriminator.0.get())
        .collect();
    let distinct: std::collections::BTreeSet<_> = numbers.iter().collect();
    assert_eq!(distinct.len(), 500);
    let near = numbers
        .windows(2)
        .filter(|pair| pair[0].abs_diff(pair[1]) < 65_536)
        .count();
    assert!(near < 5, "{near} of 500 are near the one before");
}

#[test]
fn both_come_up_with_the_same_key_and_not_with_different_ones() {
    use AuthenticationType::{KeyedMd5, KeyedSha1, MeticulousKeyedMd5, MeticulousKeyedSha1, SimplePassword};
    for kind in [
        SimplePassword,
        KeyedMd5,
        MeticulousKeyedMd5,
        KeyedSha1,
        MeticulousKeyedSha1,
    ] {
        let key = |key: &[u8]| Authentication::new(kind, 1, key).ok();
        let mut pair = Pair::new([config(FAST, 3); 2], [key(b"secret"), key(b"secret")]);
        pair.pass(Duration::from_secs(60));
        assert_eq!(pair.states(), [State::Up; 2], "{kind:?}");
        assert!(pair.downs(0).is_empty(), "{kind:?}");
        let mut pair = Pair::new([config(FAST, 3); 2], [key(b"secret"), key(b"Secret")]);
        pair.pass(Duration::from_secs(10));
        assert_eq!(pair.states(), [State::Down; 2], "{kind:?}");
        assert!(pair.sides[0].discarded()[&Discard::Key] > 5, "{kind:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_lost_both_are_up_soon_after_nothing_is_lost_any_more(
        seed: u64,
        lost_permille in 0_u64..=1_000,
        intervals in prop::array::uniform2(50_u64..2_000),
        mults in prop::array::uniform2(1_u8..6),
        kind in prop::option::of(prop::sample::select(vec![
            AuthenticationType::SimplePassword,
            AuthenticationType::MeticulousKeyedSha1,
            AuthenticationType::KeyedMd5,
        ])),
    ) {
        let key = kind.and_then(|kind| Authentication::new(kind, 1, b"secret").ok());
        let configs = [0, 1].map(|side| config(Duration::from_millis(intervals[side]), mults[side]));
        let mut pair = Pair::new(configs, [key.clone(), key]);
        let mut state = seed;
        pair.loses = Box::new(move |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % 1_000 < lost_permille
        });
        pair.pass(Duration::from_secs(120));
        pair.loses = Box::new(|_| false);
        // A sequence number may have to be forgotten first: twice the longest detection time.
        pair.pass(Duration::from_secs(60));
        prop_assert_eq!(pair.states(), [State::Up; 2]);
        let downs = (pair.downs(0).len(), pair.downs(1).len());
        pair.pass(Duration::from_secs(60));
        prop_assert_eq!((pair.downs(0).len(), pair.downs(1).len()), downs, "a path without loss lost nothing");
    }
}
