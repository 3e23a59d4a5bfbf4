//! Listening and dialling: addresses that come and go, namespaces, MD5, TTL security, and callers in numbers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use daemon::connection::{
    Accepted, BGP_PORT, DialOptions, ListenEvent, ListenOptions, Listener, MAX_PER_UNKNOWN_ADDRESS, PeerSecurity,
    SocketError, dial,
};
use nix::sched::{CloneFlags, unshare};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

use crate::world::{address, ip, soon, until, with_addresses};

crate::tests![
    a_listener_waits_for_its_address_and_notices_when_it_leaves,
    a_dial_without_its_own_address_says_so,
    listening_and_dialling_happen_in_the_namespace_named,
    equal_md5_passwords_connect_and_others_do_not,
    md5_passwords_change_while_listening,
    a_caller_from_too_far_away_is_refused,
    two_hundred_callers_from_one_address_do_not_keep_a_peer_out,
];

const OURS: &str = "10.1.1.4";
const PEER: &str = "10.1.2.4";
/// A call that the kernel drops is tried again by the caller's kernel after a second; so is this.
const ONE_CALL: Duration = Duration::from_secs(2);

type Events = mpsc::Receiver<ListenEvent>;

fn peer() -> PeerSecurity {
    PeerSecurity {
        address: address(PEER),
        md5_password: None,
        ttl_security_hops: None,
    }
}

fn with_password(password: &str) -> PeerSecurity {
    PeerSecurity {
        md5_password: Some(password.into()),
        ..peer()
    }
}

fn listen(peers: Vec<PeerSecurity>, namespace: Option<PathBuf>) -> (Listener, Events) {
    let (sender, events) = mpsc::channel(16);
    let local = SocketAddr::new(address(OURS), BGP_PORT);
    (
        Listener::spawn(
            ListenOptions {
                name: "rs".into(),
                local,
                namespace,
                peers,
            },
            sender,
        ),
        events,
    )
}

async fn listening(peers: Vec<PeerSecurity>) -> (Listener, Events) {
    let (listener, mut events) = listen(peers, None);
    assert_eq!(problem(&mut events).await, None);
    (listener, events)
}

async fn problem(events: &mut Events) -> Option<String> {
    match soon("word of the listener", events.recv()).await.unwrap() {
        ListenEvent::Problem { problem, .. } => problem,
        ListenEvent::Accepted(accepted) => panic!("{accepted:?}"),
    }
}

async fn accepted(events: &mut Events) -> Accepted {
    match soon("a caller", events.recv()).await.unwrap() {
        ListenEvent::Accepted(accepted) => accepted,
        ListenEvent::Problem { problem, .. } => panic!("{problem:?}"),
    }
}

fn calling() -> DialOptions {
    DialOptions {
        local: address(PEER),
        remote: SocketAddr::new(address(OURS), BGP_PORT),
        namespace: None,
        md5_password: None,
        ttl_security_hops: None,
    }
}

fn a_listener_waits_for_its_address_and_notices_when_it_leaves() {
    with_addresses(&[PEER], || async {
        let (_listener, mut events) = listen(vec![peer()], None);
        assert_eq!(
            problem(&mut events).await.as_deref(),
            Some("address not present: 10.1.1.4")
        );
        ip(&["address", "add", OURS, "dev", "lo"]);
        assert_eq!(problem(&mut events).await, None);
        let _stream = dial(calling()).await.unwrap();
        assert_eq!(accepted(&mut events).await.remote.ip(), address(PEER));
        ip(&["address", "del", "10.1.1.4/32", "dev", "lo"]);
        assert_eq!(
            problem(&mut events).await.as_deref(),
            Some("address not present: 10.1.1.4")
        );
        ip(&["address", "add", OURS, "dev", "lo"]);
        assert_eq!(problem(&mut events).await, None);
    });
}

fn a_dial_without_its_own_address_says_so() {
    with_addresses(&[OURS], || async {
        let error = dial(calling()).await.unwrap_err();
        assert!(matches!(error, SocketError::AddressNotPresent { .. }), "{error}");
    });
}

fn listening_and_dialling_happen_in_the_namespace_named() {
    with_addresses(&[], || async {
        // A thread that stays in a namespace of its own, which can be reached through it.
        let (leave, left) = std::sync::mpsc::channel::<()>();
        let (sender, path) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip(&["link", "set", "lo", "up"]);
            for each in [OURS, PEER] {
                ip(&["address", "add", each, "dev", "lo"]);
            }
            sender
                .send(format!("/proc/self/task/{}/ns/net", nix::unistd::gettid()))
                .unwrap();
            let _ = left.recv();
        });
        let path = PathBuf::from(path.await.unwrap());

        let (_listener, mut events) = listen(vec![peer()], Some(path.clone()));
        assert_eq!(problem(&mut events).await, None);
        assert!(matches!(
            dial(calling()).await,
            Err(SocketError::AddressNotPresent { .. })
        ));
        let there = DialOptions {
            namespace: Some(path),
            ..calling()
        };
        let _stream = dial(there.clone()).await.unwrap();
        let caller = accepted(&mut events).await;
        assert_eq!((caller.local.ip(), caller.remote.ip()), (address(OURS), address(PEER)));

        drop(leave);
        thread.join().unwrap();
        assert!(
            problem(&mut events)
                .await
                .unwrap()
                .starts_with("network namespace /proc/self/task/")
        );
        assert!(matches!(dial(there).await, Err(SocketError::Namespace { .. })));
    });
}

/// How many segments the kernel has dropped for a wrong MD5 signature, one too many or one too few.
fn md5_refusals() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let of_md5 = names
        .split(' ')
        .zip(values.split(' '))
        .filter(|(name, _)| name.starts_with("TCPMD5"));
    of_md5.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

async fn is_refused(options: DialOptions) {
    let before = md5_refusals();
    let dialling = tokio::spawn(dial(options));
    until("the kernel refuses the call", || async move { md5_refusals() > before }).await;
    assert!(!dialling.is_finished());
    dialling.abort();
}

fn equal_md5_passwords_connect_and_others_do_not() {
    with_addresses(&[OURS, PEER], || async {
        let (_listener, mut events) = listening(vec![with_password("secret")]).await;
        let with = |password: Option<&str>| DialOptions {
            md5_password: password.map(bgp::Password::from),
            ..calling()
        };
        is_refused(with(None)).await;
        is_refused(with(Some("guess"))).await;
        let _stream = soon("the right password", dial(with(Some("secret")))).await.unwrap();
        assert_eq!(accepted(&mut events).await.remote.ip(), address(PEER));
    });
}

fn md5_passwords_change_while_listening() {
    with_addresses(&[OURS, PEER], || async {
        let (listener, mut events) = listening(vec![with_password("old")]).await;
        let with = |password: Option<&str>| DialOptions {
            md5_password: password.map(bgp::Password::from),
            ..calling()
        };
        for (peers, right, wrong) in [
            (vec![with_password("new")], Some("new"), Some("old")),
            (vec![peer()], None, Some("new")),
            (vec![with_password("again")], Some("again"), None),
        ] {
            listener.set_peers(peers);
            // The listener takes the change when it comes to it.
            until("the change is there", || async {
                let call = tokio::time::timeout(ONE_CALL, dial(with(right)));
                matches!(call.await, Ok(Ok(_)))
            })
            .await;
            accepted(&mut events).await;
            is_refused(with(wrong)).await;
        }
    });
}

fn a_caller_from_too_far_away_is_refused() {
    with_addresses(&[OURS, PEER], || async {
        let near = PeerSecurity {
            ttl_security_hops: Some(1),
            ..peer()
        };
        let (_listener, mut events) = listening(vec![near]).await;
        // Its packets leave with TTL 64, as if it were 191 routers away.
        let mut far = dial(calling()).await.unwrap();
        let hung_up = soon("the call is refused", far.read(&mut [0; 1])).await;
        assert!(matches!(hung_up, Ok(0) | Err(_)));
        let _near = dial(DialOptions {
            ttl_security_hops: Some(1),
            ..calling()
        })
        .await
        .unwrap();
        accepted(&mut events).await;
        assert!(events.try_recv().is_err());
    });
}

fn two_hundred_callers_from_one_address_do_not_keep_a_peer_out() {
    with_addresses(&[OURS, PEER, "10.1.9.9"], || async {
        let (_listener, mut events) = listening(vec![peer()]).await;
        let mut calls = Vec::new();
        for _ in 0..200 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(address("10.1.9.9"), 0)).unwrap();
            calls.push(
                soon("a call", socket.connect(SocketAddr::new(address(OURS), BGP_PORT)))
                    .await
                    .unwrap(),
            );
        }
        let _peer = dial(calling()).await.unwrap();
        let mut held: Vec<Accepted> = Vec::new();
        while held.last().is_none_or(|last| last.remote.ip() != address(PEER)) {
            held.push(accepted(&mut events).await);
        }
        assert_eq!(held.len(), MAX_PER_UNKNOWN_ADDRESS + 1);
        let refused = calls.split_off(MAX_PER_UNKNOWN_ADDRESS);
        for mut call in refused {
            let call: &mut TcpStream = &mut call;
            assert!(matches!(
                soon("it is refused", call.read(&mut [0; 1])).await,
                Ok(0) | Err(_)
            ));
        }
    });
}
