//! What the fuzzer `session` of `fuzz/` runs: a whole session fed with anything in any order.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::{ConnectionId, Direction, Input, Output, Session, SessionConfig, State};
use crate::wire::Decoder;
use crate::{Asn, BgpIdentifier};

/// One connection's bytes, cut into steps: each step's first octet says what happens (time passes, a second connection comes,
/// the writer blocks, bytes arrive), the second how much.
pub fn session(data: &[u8]) {
    let address = Ipv4Addr::new(10, 1, 1, 4);
    let identifier = BgpIdentifier(Ipv4Addr::new(10, 1, 255, 4));
    let mut world = World {
        session: Session::new(SessionConfig::azure(identifier, address.into(), Asn(65001))),
        decoder: Decoder::new(),
        connection: ConnectionId(0),
        now: Instant::now(),
        closed: true,
    };
    world.input(Input::Start);
    world.connect(Direction::Dialled);
    let mut rest = data;
    while let [step, amount, after @ ..] = rest {
        let amount = usize::from(*amount);
        rest = after;
        match step % 8 {
            0 => world.pass(Duration::from_secs(amount as u64)),
            1 => world.connect(Direction::Accepted),
            2 => world.input(Input::WriteBlocked {
                connection: world.connection,
            }),
            3 => world.input(Input::Closed {
                connection: world.connection,
                reason: "fuzzed".to_owned(),
            }),
            _ => {
                let (bytes, after) = rest.split_at(amount.min(rest.len()));
                rest = after;
                world.receive(bytes);
            }
        }
    }
    // Whatever happened, a session that is left alone tries again, or still stands.
    world.pass(Duration::from_secs(1_000));
    assert_ne!(world.session.state(), State::Idle, "the session is stuck");
}

struct World {
    session: Session,
    decoder: Decoder,
    connection: ConnectionId,
    now: Instant,
    closed: bool,
}

impl World {
    fn input(&mut self, input: Input) {
        self.session.handle(self.now, input);
        self.drain();
    }

    fn connect(&mut self, direction: Direction) {
        self.connection = ConnectionId(self.connection.0 + 1);
        self.decoder = Decoder::new();
        self.closed = false;
        self.input(Input::Connected {
            connection: self.connection,
            direction,
        });
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
        let connection = self.connection;
        while !self.closed {
            match self.decoder.next_message() {
                Ok(Some(message)) => self.input(Input::Received { connection, message }),
                Ok(None) => return,
                Err(error) => {
                    self.closed = true;
                    self.input(Input::Malformed { connection, error });
                }
            }
        }
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::SetDecodeContext { connection, context } if connection == self.connection => {
                    self.decoder.set_context(context);
                }
                Output::Close { connection } if connection == self.connection => self.closed = true,
                // Dials fail, so that only what the input brings is there.
                Output::Dial => self.session.handle(
                    self.now,
                    Input::DialFailed {
                        reason: "fuzzed".to_owned(),
                    },
                ),
                _ => {}
            }
        }
    }
}
