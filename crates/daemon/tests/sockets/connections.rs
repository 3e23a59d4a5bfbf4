//! Framing, order, back-pressure and farewells of one connection.

use std::net::SocketAddr;
use std::time::Duration;

use bgp::session::ConnectionId;
use bgp::wire::Message;
use bytes::{Bytes, BytesMut};
use daemon::connection::{Connection, ConnectionEvent, HIGH_WATER_BYTES, LIMIT_BYTES, Pressure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::world::{soon, with_addresses};

crate::tests![
    messages_arrive_in_order_however_the_bytes_are_cut,
    what_is_no_message_is_told_and_nothing_after_it,
    a_close_lets_go_out_what_was_written_although_the_peer_still_sends,
    a_peer_that_takes_nothing_is_told_and_does_not_disturb_another,
    a_queue_beyond_its_limit_costs_the_connection,
    a_slow_owner_slows_the_peer_down,
    the_end_of_a_connection_is_told_once,
];

const ID: ConnectionId = ConnectionId(1);

/// Both ends of a TCP connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (ours.unwrap(), theirs.unwrap().0)
}

async fn connection(capacity: usize) -> (Connection, TcpStream, mpsc::Receiver<ConnectionEvent>) {
    let (ours, theirs) = pair().await;
    let (sender, events) = mpsc::channel(capacity);
    (Connection::spawn(ID, ours, None, sender), theirs, events)
}

fn keepalive() -> Bytes {
    let mut bytes = BytesMut::new();
    Message::Keepalive.encode(&mut bytes);
    bytes.freeze()
}

async fn next(events: &mut mpsc::Receiver<ConnectionEvent>) -> ConnectionEvent {
    soon("an event", events.recv()).await.unwrap()
}

fn messages_arrive_in_order_however_the_bytes_are_cut() {
    with_addresses(&[], || async {
        let (_connection, mut peer, mut events) = connection(16).await;
        let three = [keepalive(), keepalive(), keepalive()].concat();
        let mut received = 0;
        for cut in [1, 18, 19, 20, 37, 56] {
            for part in [&three[..cut], &three[cut..]] {
                peer.write_all(part).await.unwrap();
                let whole = if part.len() == cut { cut / 19 } else { 3 - cut / 19 };
                let before = received;
                while received < before + whole {
                    let ConnectionEvent::Received {
                        connection: ID,
                        messages,
                    } = next(&mut events).await
                    else {
                        panic!()
                    };
                    assert!(messages.iter().all(|message| *message == Message::Keepalive));
                    received += messages.len();
                }
            }
        }
        assert_eq!(received, 18);
    });
}

fn what_is_no_message_is_told_and_nothing_after_it() {
    with_addresses(&[], || async {
        let (connection, mut peer, mut events) = connection(16).await;
        peer.write_all(&[keepalive(), Bytes::from_static(&[0; 19]), keepalive()].concat())
            .await
            .unwrap();
        let ConnectionEvent::Received { messages, .. } = next(&mut events).await else {
            panic!()
        };
        assert_eq!(messages.len(), 1);
        let ConnectionEvent::Malformed { error, .. } = next(&mut events).await else {
            panic!()
        };
        assert_eq!((error.notification.code, error.notification.subcode), (1, 1));
        connection.close();
        assert!(soon("the end", events.recv()).await.is_none());
    });
}

fn a_close_lets_go_out_what_was_written_although_the_peer_still_sends() {
    with_addresses(&[], || async {
        let (connection, mut peer, _events) = connection(16).await;
        let farewell = Bytes::from(vec![7; 3_000_000]);
        connection.write(farewell.clone());
        let ended = connection.ended();
        // Unread bytes at a close make a kernel send RST, which would overtake the farewell.
        peer.write_all(&keepalive()).await.unwrap();
        connection.close();
        let mut received = Vec::new();
        soon("the farewell", async {
            peer.write_all(&keepalive()).await.unwrap();
            peer.read_to_end(&mut received).await.unwrap();
        })
        .await;
        assert_eq!(received.len(), farewell.len());
        drop(peer);
        soon("the tasks end", ended).await;
    });
}

fn a_peer_that_takes_nothing_is_told_and_does_not_disturb_another() {
    with_addresses(&[], || async {
        let (stuck, mut lazy, mut events) = connection(16).await;
        let mut written = 0;
        // The kernel's buffers take some megabytes before ours fill.
        let piece = Bytes::from(vec![0; 65_536]);
        let full = soon("the queue is full", async {
            loop {
                written += piece.len();
                if stuck.write(piece.clone()) == Pressure::Full {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
        full.await;
        assert!(stuck.is_full() && written >= HIGH_WATER_BYTES);
        assert!(matches!(
            next(&mut events).await,
            ConnectionEvent::Stalled { connection: ID }
        ));

        let (other, mut peer, _events) = connection(16).await;
        other.write(keepalive());
        soon("another is served", peer.read_exact(&mut [0; 19])).await.unwrap();

        let mut sink = vec![0; 1 << 20];
        let read_all = async {
            let mut read = 0;
            while read < written {
                read += lazy.read(&mut sink).await.unwrap();
            }
        };
        soon("the lazy one reads", read_all).await;
        let first = next(&mut events).await;
        assert!(matches!(first, ConnectionEvent::Moving { connection: ID }), "{first:?}");
        loop {
            match next(&mut events).await {
                ConnectionEvent::Drained { connection: ID } => break,
                // Where everything stands still for a second.
                ConnectionEvent::Stalled { .. } | ConnectionEvent::Moving { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(!stuck.is_full());
    });
}

fn a_queue_beyond_its_limit_costs_the_connection() {
    with_addresses(&[], || async {
        let (connection, _peer, mut events) = connection(16).await;
        let piece = Bytes::from(vec![0; 1 << 20]);
        let closed = async {
            loop {
                connection.write(piece.clone());
                match tokio::time::timeout(Duration::from_millis(1), events.recv()).await {
                    Ok(Some(ConnectionEvent::Closed { reason, .. })) => return reason,
                    Ok(Some(_)) | Err(_) => {}
                    Ok(None) => panic!("no word"),
                }
            }
        };
        let reason = soon("the connection ends", closed).await;
        assert!(reason.contains("takes too little"), "{reason} ({LIMIT_BYTES})");
    });
}

fn a_slow_owner_slows_the_peer_down() {
    with_addresses(&[], || async {
        let (_connection, mut peer, mut events) = connection(1).await;
        let many = keepalive().repeat(50_000);
        let mut sent = 0;
        // Nobody takes what was read: sooner or later the peer can write no more.
        while let Ok(written) = tokio::time::timeout(Duration::from_millis(500), peer.write_all(&many)).await {
            written.unwrap();
            sent += 50_000;
            assert!(sent < 10_000_000, "the peer was never slowed down");
        }
        let mut received = 0;
        while received < sent {
            let ConnectionEvent::Received { messages, .. } = next(&mut events).await else {
                panic!()
            };
            received += messages.len();
        }
    });
}

fn the_end_of_a_connection_is_told_once() {
    with_addresses(&[], || async {
        let (connection, peer, mut events) = connection(16).await;
        let remote: SocketAddr = peer.peer_addr().unwrap();
        assert!(remote.ip().is_loopback());
        drop(peer);
        let ConnectionEvent::Closed { connection: ID, reason } = next(&mut events).await else {
            panic!()
        };
        assert_eq!(reason, "closed by the peer");
        drop(connection);
        assert!(soon("no more events", events.recv()).await.is_none());
    });
}
