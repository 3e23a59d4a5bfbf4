//! The state machine of RFC 5880 §6.8, in the active role and asynchronous mode.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::event::{Input, Output, SessionConfig, StateChange};
use super::interval::{FASTEST_TX_US, Jitter, SLOW_TX_US, duration, microseconds};
use super::status::SessionStatus;
use crate::authentication::{Authentication, AuthenticationState};
use crate::discard::Discard;
use crate::packet::{ControlPacket, Diagnostic, Discriminator, SectionOctets, State};

/// A neighbour that wants a packet an hour is not told good-bye for days: sessions are bounded, and those that leave count.
const LONGEST_FAREWELL: Duration = Duration::from_secs(300);

/// How far a Poll Sequence has come (RFC 5880 §6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poll {
    /// There is none, and one may begin.
    Idle,
    /// Our packets have P set until one with F comes.
    Running,
    //= https://www.rfc-editor.org/rfc/rfc5880#section-6.8.3
    //# an additional BFD Control packet with the Final (F) bit *clear* MUST be received after the Poll Sequence has completed prior to the
    //# initiation of another Poll Sequence
    /// The answer has come, the packet after it has not.
    Settling,
}

/// An interval of ours: what the neighbour is told, and what counts until it has understood.
#[derive(Clone, Copy, Debug)]
struct Interval {
    told_us: u32,
    in_use_us: u32,
}

/// What is known of the neighbour (bfd.Remote*).
#[derive(Clone, Copy, Debug)]
struct Remote {
    discriminator: Option<Discriminator>,
    state: State,
    diagnostic: Diagnostic,
    min_rx_us: u32,
    desired_min_tx_us: u32,
    detect_mult: u8,
    demand: bool,
    control_plane_independent: bool,
}

impl Remote {
    /// RFC 5880 §6.8.1: the initial values.
    const UNKNOWN: Remote = Remote {
        discriminator: None,
        state: State::Down,
        diagnostic: Diagnostic::NONE,
        min_rx_us: 1,
        desired_min_tx_us: 0,
        detect_mult: 0,
        demand: false,
        control_plane_independent: false,
    };
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    ups: u64,
    downs: u64,
    sent: u64,
    received: u64,
    discarded: u64,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    discriminator: Discriminator,
    authentication: Option<AuthenticationState>,
    state: State,
    diagnostic: Diagnostic,
    remote: Remote,
    desired_min_tx: Interval,
    required_min_rx: Interval,
    poll: Poll,
    jitter: Jitter,
    /// Which part of the interval the next packet waits for, in thousandths.
    wait_permille: u32,
    last_sent: Option<Instant>,
    last_received: Option<Instant>,
    /// The silence since `last_received` has been acted upon, and authentication is forgotten then.
    forget_at: Option<Instant>,
    started: Instant,
    since: Option<Instant>,
    counts: Counts,
    outputs: VecDeque<Output>,
}

impl Session {
    /// Down, and about to send. `seed` feeds the jitter and the first sequence number.
    pub fn new(
        now: Instant,
        config: SessionConfig,
        discriminator: Discriminator,
        authentication: Option<Authentication>,
        seed: u64,
    ) -> Session {
        let both = |us| Interval {
            told_us: us,
            in_use_us: us,
        };
        Session {
            discriminator,
            authentication: authentication.map(|with| AuthenticationState::new(with, (seed >> 32) as u32)),
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: Remote::UNKNOWN,
            desired_min_tx: both(microseconds(config.desired_min_tx).max(SLOW_TX_US)),
            required_min_rx: both(microseconds(config.required_min_rx)),
            poll: Poll::Idle,
            jitter: Jitter::new(seed),
            wait_permille: 0,
            last_sent: None,
            last_received: None,
            forget_at: None,
            started: now,
            since: None,
            counts: Counts::default(),
            outputs: VecDeque::new(),
            config,
        }
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Received(packet) => {
                if let Err(reason) = self.received(now, &packet) {
                    self.counts.discarded += 1;
                    self.outputs.push_back(Output::Discarded(reason));
                }
            }
            Input::Configure(config) => {
                self.config = config;
                self.apply_intervals();
            }
            //= https://www.rfc-editor.org/rfc/rfc5880#section-6.8.16
            //# Set bfd.SessionState to AdminDown; Set bfd.LocalDiag to an appropriate value; Cease the transmission of BFD Echo packets
            Input::AdminDown if self.state != State::AdminDown => {
                self.enter(now, State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN);
                self.transmit_if_wanted(now);
            }
            Input::AdminUp if self.state == State::AdminDown => {
                self.enter(now, State::Down, Diagnostic::NONE);
                self.transmit_if_wanted(now);
            }
            Input::AdminDown | Input::AdminUp => {}
        }
    }

    /// Acts on what is due: silence first, since it changes what is sent.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.silence_deadline().is_some_and(|at| at <= now) {
            self.detection_time_expires(now);
        }
        if self.forget_at.is_some_and(|at| at <= now) {
            self.forget_at = None;
            self.last_received = None;
            if let Some(authentication) = &mut self.authentication {
                authentication.forget_received();
            }
        }
        if self.transmit_deadline().is_some_and(|at| at <= now) {
            self.transmit(now, false);
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = [self.transmit_deadline(), self.silence_deadline(), self.forget_at];
        deadlines.into_iter().flatten().min()
    }

    /// The state it is in.
    pub fn state(&self) -> State {
        self.state
    }

    /// After being held down for so long, the neighbour knows (RFC 5880 §6.8.16: at least a Detection Time).
    pub fn farewell(&self) -> Duration {
        let detection_time = duration(self.transmit_interval_us()).saturating_mul(self.detect_mult().into());
        detection_time.min(LONGEST_FAREWELL)
    }

    /// Where it stands.
    pub fn status(&self) -> SessionStatus {
        let known = self.remote.discriminator.is_some();
        SessionStatus {
            state: self.state,
            remote_state: self.remote.state,
            diagnostic: self.diagnostic,
            remote_diagnostic: self.remote.diagnostic,
            discriminator: self.discriminator,
            remote_discriminator: self.remote.discriminator,
            tx_interval: self.sends_periodically().then(|| duration(self.transmit_interval_us())),
            rx_interval: known.then(|| duration(self.receive_interval_us())),
            detection_time: known.then(|| self.detection_time()),
            remote_detect_mult: self.remote.detect_mult,
            since: self.since,
            ups: self.counts.ups,
            downs: self.counts.downs,
            sent: self.counts.sent,
            received: self.counts.received,
            discarded: self.counts.discarded,
        }
    }

    // What comes in: RFC 5880 §6.8.6 from where a session is found.

    fn received(&mut self, now: Instant, packet: &ControlPacket) -> Result<(), Discard> {
        //= https://www.rfc-editor.org/rfc/rfc5880#section-6.8.6
        //# If the A bit is set and no authentication is in use (bfd.AuthType is zero), the packet MUST be discarded. If the A bit is clear
        //# and authentication is in use (bfd.AuthType is nonzero), the packet MUST be discarded. If the A bit is set, the packet MUST be
        //# authenticated under the rules of section 6.7.
        match &mut self.authentication {
            Some(authentication) => authentication.check(packet)?,
            None if !packet.authentication.is_empty() => return Err(Discard::AuthenticationSection),
            None => {}
        }
        self.remote = Remote {
            discriminator: Some(packet.my_discriminator),
            state: packet.state,
            diagnostic: packet.diagnostic,
            min_rx_us: packet.required_min_rx_us,
            desired_min_tx_us: packet.desired_min_tx_us,
            detect_mult: packet.detect_mult,
            demand: packet.demand,
            control_plane_independent: packet.control_plane_independent,
        };
        self.hear_final(packet.is_final);
        // Also of a packet that is discarded below: what it said of the neighbour is known for a Detection Time and no longer.
        self.last_received = Some(now);
        self.forget_at = None;
        //# If bfd.SessionState is AdminDown, the packet MUST be discarded.
        if self.state == State::AdminDown {
            return Err(Discard::AdminDown);
        }
        let before = self.state;
        self.follow(now, packet.state);
        //# If the Poll (P) bit is set, send a BFD Control packet to the remote system with the Poll (P) bit clear, and the Final (F) bit
        //# set.
        if packet.poll {
            self.transmit(now, true);
        } else if self.state != before {
            self.transmit_if_wanted(now);
        }
        self.counts.received += 1;
        Ok(())
    }

    /// Where a packet of a neighbour in `remote` state takes us.
    fn follow(&mut self, now: Instant, remote: State) {
        let (to, diagnostic) = match (self.state, remote) {
            //# If received state is AdminDown: If bfd.SessionState is not Down: Set bfd.LocalDiag to 3 (Neighbor signaled session down);
            //# Set bfd.SessionState to Down
            (State::Init | State::Up, State::AdminDown) => (State::Down, Diagnostic::NEIGHBOR_SIGNALED_DOWN),
            //# If bfd.SessionState is Down: If received State is Down, set bfd.SessionState to Init; else if received State is Init, set
            //# bfd.SessionState to Up
            (State::Down, State::Down) => (State::Init, self.diagnostic),
            (State::Down, State::Init) => (State::Up, Diagnostic::NONE),
            //# Else if bfd.SessionState is Init: If received State is Init or Up: Set bfd.SessionState to Up
            (State::Init, State::Init | State::Up) => (State::Up, Diagnostic::NONE),
            //# Else (bfd.SessionState is Up): If received State is Down: Set bfd.LocalDiag to 3 (Neighbor signaled session down); Set
            //# bfd.SessionState to Down
            (State::Up, State::Down) => (State::Down, Diagnostic::NEIGHBOR_SIGNALED_DOWN),
            (State::Down, State::AdminDown | State::Up)
            | (State::Init, State::Down)
            | (State::Up, State::Init | State::Up)
            | (State::AdminDown, _) => return,
        };
        self.enter(now, to, diagnostic);
    }

    fn enter(&mut self, now: Instant, to: State, diagnostic: Diagnostic) {
        let from = std::mem::replace(&mut self.state, to);
        self.diagnostic = diagnostic;
        self.since = Some(now);
        self.counts.ups += u64::from(to == State::Up);
        self.counts.downs += u64::from(from == State::Up);
        let silence = now.saturating_duration_since(self.last_received.unwrap_or(now));
        self.outputs.push_back(Output::Changed(StateChange {
            from,
            to,
            diagnostic,
            remote_state: self.remote.state,
            remote_is_independent: self.remote.control_plane_independent,
            silence,
        }));
        // What was to be agreed on is no longer; what is now begins with this packet.
        self.poll = Poll::Idle;
        self.apply_intervals();
    }

    // Silence.

    //= https://www.rfc-editor.org/rfc/rfc5880#section-6.8.4
    //# If Demand mode is not active, and a period of time equal to the Detection Time passes without receiving a BFD Control packet from the
    //# remote system, and bfd.SessionState is Init or Up, the session has gone down -- the local system MUST set bfd.SessionState to Down and
    //# bfd.LocalDiag to 1 (Control Detection Time Expired).
    fn detection_time_expires(&mut self, now: Instant) {
        //= https://www.rfc-editor.org/rfc/rfc5880#section-6.8.1
        //# [bfd.AuthSeqKnown] MUST be set to zero after no packets have been received on this session for at least twice the Detection
        //# Time.
        self.forget_at = Some(now + self.detection_time());
        //= https://www.rfc-editor.org/rfc/rfc5880#section-6.8.1
        //# If a period of a Detection Time passes without the receipt of a valid, authenticated BFD packet from the remote system, this
        //# variable [bfd.RemoteDiscr] MUST be set to zero.
        // With it goes what it asked for: a neighbour that wanted no packets and was restarted must hear of us again.
        self.remote = Remote {
            diagnostic: self.remote.diagnostic,
            control_plane_independent: self.remote.control_plane_independent,
            ..Remote::UNKNOWN
        };
        self.poll = Poll::Idle;
        if matches!(self.state, State::Init | State::Up) {
            self.enter(now, State::Down, Diagnostic::DETECTION_TIME_EXPIRED);
            self.transmit_if_wanted(now);
        } else {
            self.apply_intervals();
        }
    }

    fn silence_deadline(&self) -> Option<Instant> {
        let heard = self.last_received.filter(|_| self.forget_at.is_none())?;
        Some(heard + self.detection_time())
    }

    //= https://www.rfc-editor.org/rfc/rfc5880#section-6.8.4
    //# In Asynchronous mode, the Detection Time calculated in the local system is equal to the value of Detect Mult received from the remote
    //# system, multiplied by the agreed transmit interval of the remote system (the greater of bfd.RequiredMinRxInterval and the last received
    //# Desired Min TX Interval).
    fn detection_time(&self) -> Duration {
        duration(self.receive_interval_us()).saturating_mul(self.remote.detect_mult.into())
    }

    fn receive_interval_us(&self) -> u32 {
        self.required_min_rx.in_use_us.max(self.remote.desired_min_tx_us)
    }

    // Intervals and Poll Sequences (RFC 5880 §6.8.3).

    fn detect_mult(&self) -> u8 {
        self.config.detect_mult.max(1)
    }

    /// Tells and uses what is configured, as far as that may be now.
    fn apply_intervals(&mut self) {
        let is_up = self.state == State::Up;
        let mut tx_us = microseconds(self.config.desired_min_tx).max(FASTEST_TX_US);
        //# When bfd.SessionState is not Up, the system MUST set bfd.DesiredMinTxInterval to a value of not less than one second
        if !is_up {
            tx_us = tx_us.max(SLOW_TX_US);
        }
        let rx_us = microseconds(self.config.required_min_rx);
        let is_told = self.desired_min_tx.told_us == tx_us && self.required_min_rx.told_us == rx_us;
        // One Poll Sequence after the other: what its answer means must be clear.
        if is_told || (is_up && self.poll != Poll::Idle) {
            return;
        }
        self.desired_min_tx.told_us = tx_us;
        self.required_min_rx.told_us = rx_us;
        if self.remote.discriminator.is_none() {
            // Nobody is there who would have to understand first.
            return self.use_intervals();
        }
        self.poll = Poll::Running;
        //# If bfd.DesiredMinTxInterval is increased and bfd.SessionState is Up, the actual transmission interval used MUST NOT change until the
        //# Poll Sequence described above has terminated.
        if !is_up || tx_us < self.desired_min_tx.in_use_us {
            self.desired_min_tx.in_use_us = tx_us;
        }
        //# If bfd.RequiredMinRxInterval is reduced and bfd.SessionState is Up, the previous value of bfd.RequiredMinRxInterval MUST be used when
        //# calculating the Detection Time for the remote system until the Poll Sequence described above has terminated.
        if !is_up || rx_us > self.required_min_rx.in_use_us {
            self.required_min_rx.in_use_us = rx_us;
        }
    }

    fn use_intervals(&mut self) {
        self.desired_min_tx.in_use_us = self.desired_min_tx.told_us;
        self.required_min_rx.in_use_us = self.required_min_rx.told_us;
    }

    /// Whether a packet ends a Poll Sequence, or lets the next one begin.
    fn hear_final(&mut self, is_final: bool) {
        match (self.poll, is_final) {
            //= https://www.rfc-editor.org/rfc/rfc5880#section-6.8.6
            //# If a Poll Sequence is being transmitted by the local system and the Final (F) bit in the received packet is set, the Poll Sequence
            //# MUST be terminated.
            (Poll::Running, true) => {
                self.poll = Poll::Settling;
                self.use_intervals();
            }
            (Poll::Settling, false) => {
                self.poll = Poll::Idle;
                self.apply_intervals();
            }
            (Poll::Idle, _) | (Poll::Running, false) | (Poll::Settling, true) => {}
        }
    }

    // What goes out (RFC 5880 §6.8.7).

    fn transmit_interval_us(&self) -> u32 {
        self.desired_min_tx.in_use_us.max(self.remote.min_rx_us)
    }

    fn sends_periodically(&self) -> bool {
        //= https://www.rfc-editor.org/rfc/rfc5880#section-6.8.7
        //# A system MUST NOT periodically transmit BFD Control packets if bfd.RemoteMinRxInterval is zero. A system MUST NOT periodically
        //# transmit BFD Control packets if Demand mode is active on the remote system (bfd.RemoteDemandMode is 1, bfd.SessionState is Up, and
        //# bfd.RemoteSessionState is Up) and a Poll Sequence is not being transmitted.
        let is_unwanted = self.remote.demand
            && self.state == State::Up
            && self.remote.state == State::Up
            && self.poll != Poll::Running;
        self.remote.min_rx_us != 0 && !is_unwanted
    }

    /// Derived, not stored: another interval counts from the last packet on, and at once.
    fn transmit_deadline(&self) -> Option<Instant> {
        if !self.sends_periodically() {
            return None;
        }
        let Some(last) = self.last_sent else {
            return Some(self.started);
        };
        let wait_us = u64::from(self.transmit_interval_us()) * u64::from(self.wait_permille) / 1000;
        Some(last + Duration::from_micros(wait_us))
    }

    //# A BFD Control packet SHOULD be transmitted during the interval between periodic Control packet transmissions when the contents of that
    //# packet would differ from that in the previously transmitted packet (other than the Poll and Final bits) in order to more rapidly
    //# communicate a change in state.
    fn transmit_if_wanted(&mut self, now: Instant) {
        if self.sends_periodically() {
            self.transmit(now, false);
        }
    }

    fn transmit(&mut self, now: Instant, is_final: bool) {
        let mut packet = ControlPacket {
            diagnostic: self.diagnostic,
            state: self.state,
            // Never both: an answer is no question.
            poll: self.poll == Poll::Running && !is_final,
            is_final,
            control_plane_independent: false,
            demand: false,
            detect_mult: self.detect_mult(),
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx_us: self.desired_min_tx.told_us,
            required_min_rx_us: self.required_min_rx.told_us,
            required_min_echo_rx_us: 0,
            authentication: SectionOctets::new(),
        };
        if let Some(authentication) = &mut self.authentication {
            authentication.seal(&mut packet);
        }
        self.counts.sent += 1;
        self.outputs.push_back(Output::Transmit(packet.encode()));
        // An answer is outside the rhythm: a question that never ends must not keep us from our own.
        if !is_final {
            self.last_sent = Some(now);
            self.wait_permille = self.jitter.next_permille(self.detect_mult());
        }
    }
}
