//! What the fuzzer `bfd` of `fuzz/` runs: sessions fed with anything in any order.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::{
    Arrival, Authentication, AuthenticationType, ControlPacket, Input, Output, Path, Seed, SessionConfig, Sessions,
    State,
};

/// Steps: each one's first octet says what happens (time passes, intervals change, octets arrive as they are or made to fit the session),
/// the second how much.
pub fn sessions(data: &[u8]) {
    let mut world = World::new();
    let mut rest = data;
    while let [step, amount, after @ ..] = rest {
        let amount = usize::from(*amount);
        rest = after;
        match step % 8 {
            0 => world.pass(Duration::from_millis(amount as u64)),
            1 => world.pass(Duration::from_secs(amount as u64)),
            2 => world.want(amount),
            3 => world.input(Input::Drop { key: 0 }),
            step => {
                let (octets, after) = rest.split_at(amount.min(rest.len()));
                rest = after;
                world.receive(octets, step);
            }
        }
    }
    // Whatever happened: a neighbour that then speaks as the RFC says is heard.
    world.pass(Duration::from_secs(100_000));
    world.want(0);
    world.pass(Duration::from_secs(1));
    for state in [State::Down, State::Init] {
        world.greet(state);
    }
    let state = world.sessions.statuses().next().map(|(_, _, status)| status.state);
    assert_eq!(state, Some(State::Up), "the session is stuck");
}

struct World {
    sessions: Sessions<u8>,
    now: Instant,
    last_sent: Option<ControlPacket>,
}

impl World {
    fn new() -> World {
        let mut world = World {
            sessions: Sessions::new(Seed::new(1, 2)),
            now: Instant::now(),
            last_sent: None,
        };
        world.want(50);
        world
    }

    fn input(&mut self, input: Input<u8>) {
        self.sessions.handle(self.now, input);
        self.drain();
    }

    /// The more, the slower; odd ones are authenticated.
    fn want(&mut self, amount: usize) {
        let with = Authentication::new(AuthenticationType::MeticulousKeyedSha1, 1, b"fuzz").ok();
        self.input(Input::Want {
            key: 0,
            path: path(),
            config: SessionConfig {
                desired_min_tx: Duration::from_millis(10 * amount as u64),
                required_min_rx: Duration::from_millis(5 * amount as u64),
                detect_mult: amount as u8,
            },
            authentication: with.filter(|_| amount % 2 == 1),
            least_ttl: 0,
        });
    }

    fn receive(&mut self, octets: &[u8], step: u8) {
        let mut octets = octets.to_vec();
        if let Ok(packet) = ControlPacket::parse(&octets)
            && !packet.authentication.is_empty()
        {
            assert_eq!(
                packet.encode()[crate::MIN_LENGTH..],
                octets[crate::MIN_LENGTH..usize::from(octets[3])]
            );
        }
        if step.is_multiple_of(2)
            && let Some(sent) = &self.last_sent
            && octets.len() >= 12
        {
            octets[8..12].copy_from_slice(&sent.my_discriminator.0.get().to_be_bytes());
        }
        self.input(Input::Received {
            arrival: Arrival { path: path(), ttl: 255 },
            octets,
        });
    }

    fn greet(&mut self, state: State) {
        let Some(sent) = self.last_sent.clone() else { return };
        let packet = ControlPacket {
            state,
            poll: false,
            is_final: false,
            detect_mult: 3,
            your_discriminator: Some(sent.my_discriminator),
            desired_min_tx_us: 1_000_000,
            required_min_rx_us: 1_000_000,
            ..sent
        };
        self.input(Input::Received {
            arrival: Arrival { path: path(), ttl: 255 },
            octets: packet.encode(),
        });
    }

    fn pass(&mut self, duration: Duration) {
        /// A session that is left alone sends; so often it is looked at.
        const MOST_WAKES: usize = 1_000;
        let end = self.now + duration;
        for _ in 0..MOST_WAKES {
            let Some(at) = self.sessions.poll_timeout().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            self.sessions.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
        self.sessions.handle_timeout(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.sessions.poll_output() {
            if let Output::Transmit { octets, .. } = output {
                self.last_sent = ControlPacket::parse(&octets).ok();
                assert!(self.last_sent.is_some(), "we sent what nobody can read");
            }
        }
    }
}

fn path() -> Path {
    Path {
        network: 0,
        local: IpAddr::V4(Ipv4Addr::new(10, 1, 255, 4)),
        remote: IpAddr::V4(Ipv4Addr::new(10, 1, 1, 4)),
        multihop: true,
    }
}
