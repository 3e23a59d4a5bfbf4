//! BFD over real sockets: on one link and over several hops, in namespaces, with addresses that go and come.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Duration;

use bfd::{Authentication, AuthenticationType, ControlPacket, SessionConfig, State, StateChange};
use daemon::liveness::{Liveness, LivenessEvent, Wanted};
use nix::sched::{CloneFlags, unshare};
use tokio::sync::mpsc;

use crate::world::{DEADLINE, address, ip, soon, with_addresses};

crate::tests![
    two_ends_come_up_on_one_link_and_over_several_hops,
    over_ipv6_it_is_the_same,
    packets_leave_with_a_ttl_of_255_from_one_port_of_the_range,
    one_end_that_leaves_says_that_the_path_is_not_lost,
    an_address_that_goes_is_a_lost_path_and_a_problem_that_is_told,
    sessions_live_in_the_namespace_named,
    other_intervals_leave_a_session_up,
];

const OURS: &str = "10.1.1.4";
const PEER: &str = "10.1.2.4";

type Event = LivenessEvent<u8>;

/// Patient: a test machine may have much else to do, and ten seconds of silence are none that a scheduler makes.
fn config() -> SessionConfig {
    SessionConfig {
        desired_min_tx: Duration::from_millis(500),
        required_min_rx: Duration::from_millis(500),
        detect_mult: 20,
    }
}

fn wanted(local: &str, remote: &str, multihop: bool) -> Wanted<u8> {
    Wanted {
        key: 0,
        local: address(local),
        remote: address(remote),
        namespace: None,
        multihop,
        least_ttl: 0,
        config: config(),
        authentication: Authentication::new(AuthenticationType::MeticulousKeyedSha1, 1, b"secret").ok(),
    }
}

/// One system with its one session.
struct End {
    liveness: Liveness<u8>,
    events: mpsc::Receiver<Event>,
}

impl End {
    fn new(wanted: Wanted<u8>) -> End {
        let (sender, events) = mpsc::channel(64);
        let liveness = Liveness::spawn(sender).unwrap();
        liveness.want(vec![wanted]);
        End { liveness, events }
    }

    async fn next(&mut self) -> Event {
        soon("a word of BFD", self.events.recv()).await.unwrap()
    }

    /// Waits until it is in a state.
    async fn reaches(&mut self, state: State) -> StateChange {
        loop {
            if let LivenessEvent::Changed { change, .. } = self.next().await
                && change.to == state
            {
                return change;
            }
        }
    }

    async fn problem(&mut self) -> Option<String> {
        loop {
            if let LivenessEvent::Problem { problem, .. } = self.next().await {
                return problem;
            }
        }
    }
}

fn two_ends_come_up_on_one_link_and_over_several_hops() {
    with_addresses(&[OURS, PEER], || async {
        for multihop in [false, true] {
            let mut ours = End::new(wanted(OURS, PEER, multihop));
            let mut theirs = End::new(wanted(PEER, OURS, multihop));
            ours.reaches(State::Up).await;
            theirs.reaches(State::Up).await;
        }
    });
}

fn over_ipv6_it_is_the_same() {
    let (ours, theirs) = ("fd01::4", "fd01::5");
    with_addresses(&[ours, theirs], || async {
        // On one link only what comes with a hop limit of 255 is taken (RFC 5881 §5).
        for multihop in [false, true] {
            let mut our_end = End::new(wanted(ours, theirs, multihop));
            let mut their_end = End::new(wanted(theirs, ours, multihop));
            our_end.reaches(State::Up).await;
            their_end.reaches(State::Up).await;
            drop(their_end);
            let change = our_end.reaches(State::Down).await;
            assert_eq!(change.remote_state, State::AdminDown);
        }
    });
}

fn packets_leave_with_a_ttl_of_255_from_one_port_of_the_range() {
    with_addresses(&[OURS, PEER], || async {
        let socket = UdpSocket::bind((PEER, bfd::SINGLE_HOP_PORT)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let _ours = End::new(wanted(OURS, PEER, false));
        let mut octets = [0; 64];
        let mut hear = || {
            let (length, from) = socket.recv_from(&mut octets).unwrap();
            (ControlPacket::parse(&octets[..length]).unwrap(), from)
        };
        let (first, from) = hear();
        let (second, again) = hear();
        assert_eq!(from, again, "a session keeps its port");
        assert_eq!(from.ip(), address(OURS));
        assert!(from.port() >= 49_152, "{from}");
        assert_eq!(first.my_discriminator, second.my_discriminator);
        assert_eq!((first.state, first.desired_min_tx_us), (State::Down, 1_000_000));
    });
}

fn one_end_that_leaves_says_that_the_path_is_not_lost() {
    with_addresses(&[OURS, PEER], || async {
        let mut ours = End::new(wanted(OURS, PEER, true));
        let mut theirs = End::new(wanted(PEER, OURS, true));
        ours.reaches(State::Up).await;
        theirs.reaches(State::Up).await;
        drop(theirs);
        let change = ours.reaches(State::Down).await;
        assert_eq!(change.remote_state, State::AdminDown);
        assert!(!change.is_path_lost());
    });
}

fn an_address_that_goes_is_a_lost_path_and_a_problem_that_is_told() {
    with_addresses(&[OURS, PEER], || async {
        let mut ours = End::new(wanted(OURS, PEER, true));
        let mut theirs = End::new(wanted(PEER, OURS, true));
        ours.reaches(State::Up).await;
        theirs.reaches(State::Up).await;
        ip(&["address", "del", "10.1.1.4/32", "dev", "lo"]);
        assert!(theirs.reaches(State::Down).await.is_path_lost());
        let problem = ours.problem().await;
        assert!(problem.is_some(), "packets cannot be sent");
        ip(&["address", "add", OURS, "dev", "lo"]);
        assert_eq!(ours.problem().await, None);
        theirs.reaches(State::Up).await;
    });
}

fn sessions_live_in_the_namespace_named() {
    with_addresses(&[], || async {
        // A thread that stays in a namespace of its own while its path is used.
        let (path, made) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let holder = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip(&["link", "set", "lo", "up"]);
            ip(&["address", "add", OURS, "dev", "lo"]);
            ip(&["address", "add", PEER, "dev", "lo"]);
            let thread = nix::unistd::gettid();
            path.send(PathBuf::from(format!("/proc/self/task/{thread}/ns/net")))
                .unwrap();
            let _ = ended.recv();
        });
        let namespace = Some(made.recv().unwrap());
        let inside = |local, remote| Wanted {
            namespace: namespace.clone(),
            ..wanted(local, remote, true)
        };
        let mut ours = End::new(inside(OURS, PEER));
        let mut theirs = End::new(inside(PEER, OURS));
        ours.reaches(State::Up).await;
        theirs.reaches(State::Up).await;
        drop(end);
        holder.join().unwrap();
    });
}

fn other_intervals_leave_a_session_up() {
    with_addresses(&[OURS, PEER], || async {
        let mut ours = End::new(wanted(OURS, PEER, true));
        let mut theirs = End::new(wanted(PEER, OURS, true));
        ours.reaches(State::Up).await;
        theirs.reaches(State::Up).await;
        let slower = SessionConfig {
            desired_min_tx: Duration::from_millis(700),
            ..config()
        };
        ours.liveness.want(vec![Wanted {
            config: slower,
            ..wanted(OURS, PEER, true)
        }]);
        let expected = Some(Duration::from_millis(700));
        loop {
            match theirs.next().await {
                LivenessEvent::Status { status, .. } if status.rx_interval == expected => break,
                LivenessEvent::Changed { change, .. } => panic!("{change:?}"),
                _ => {}
            }
        }
    });
}
