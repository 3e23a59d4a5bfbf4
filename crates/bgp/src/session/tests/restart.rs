//! What two OPENs agree on for the time after their session, and how sessions of such peers end.

use super::*;
use crate::FamilySet;
use crate::wire::{GracefulRestart, LongLived, LongLivedGracefulRestart, RestartOffer};

fn graceful(notification: bool) -> GracefulRestart {
    GracefulRestart {
        restarted: false,
        notification,
        restart_time_secs: 120,
        families: FamilySet::BOTH,
        forwarding: FamilySet::BOTH,
    }
}

fn offer(notification: bool) -> RestartOffer {
    let hour = LongLived {
        forwarding: true,
        stale_time_secs: 3600,
    };
    RestartOffer {
        graceful: Some(graceful(notification)),
        long_lived: Some(LongLivedGracefulRestart::of(FamilySet::BOTH, hour)),
    }
}

fn open_offering(offer: RestartOffer) -> Message {
    let Message::Open(mut message) = open(1, 180) else {
        unreachable!()
    };
    message.capabilities.extend(offer.to_capabilities());
    Message::Open(message)
}

/// Established between speakers that offer this.
fn established(ours: RestartOffer, theirs: RestartOffer) -> (Bench, ConnectionId) {
    let mut bench = Bench::with(SessionConfig {
        restart: ours,
        ..config()
    });
    let connection = comes(&mut bench, theirs);
    (bench, connection)
}

/// A peer that offers this has a session.
fn comes(bench: &mut Bench, theirs: RestartOffer) -> ConnectionId {
    let connection = bench.connect(Direction::Dialled);
    bench
        .receive(connection, open_offering(theirs))
        .receive(connection, Message::Keepalive);
    bench.outputs();
    connection
}

fn agreed(ours: RestartOffer, theirs: RestartOffer) -> Option<Restart> {
    let (bench, _) = established(ours, theirs);
    bench.session.status().negotiated.unwrap().restart
}

#[test]
fn restart_is_agreed_on_where_both_offer_it() {
    assert_eq!(agreed(RestartOffer::default(), offer(true)), None);
    assert_eq!(agreed(offer(true), RestartOffer::default()), None);
    let both = agreed(offer(true), offer(true)).unwrap();
    // The peer's times, for the families of the session: its OPEN has IPv4 unicast alone.
    assert_eq!(both.restart_time, Duration::from_secs(120));
    assert_eq!((both.families, both.forwarding), (FamilySet::IPV4, FamilySet::IPV4));
    assert_eq!(both.long_lived.ipv4_unicast.unwrap().stale_time_secs, 3600);
    assert_eq!(both.long_lived.ipv6_unicast, None);
    // RFC 8538 §2: the N bit counts where both have it.
    assert!(both.notification);
    assert!(!agreed(offer(true), offer(false)).unwrap().notification);
    assert!(!agreed(offer(false), offer(true)).unwrap().notification);
}

#[test]
fn our_open_says_what_is_offered_when_it_is_sent() {
    let mut bench = Bench::with(config());
    let restarted = RestartOffer {
        graceful: Some(GracefulRestart {
            restarted: true,
            ..graceful(true)
        }),
        long_lived: None,
    };
    bench.session.offer_restart(restarted);
    bench.connect(Direction::Dialled);
    let opens: Vec<_> = bench
        .outputs()
        .into_iter()
        .filter_map(|output| match output {
            Output::Send {
                message: Message::Open(open),
                ..
            } => Some(open.restart_offer()),
            _ => None,
        })
        .collect();
    assert_eq!(opens, [restarted]);
}

#[test]
fn a_lost_connection_is_a_restart_and_a_notification_is_one_where_both_have_the_n_bit() {
    let lost = DownReason::ConnectionLost("reset".to_owned());
    let received = |code, subcode| DownReason::NotificationReceived(notification(code, subcode));
    let sent = |code, subcode| DownReason::NotificationSent(notification(code, subcode), String::new());
    let cases = [
        // Ends like this; is a restart without the N bit, with it.
        (lost, true, true),
        (received(6, 2), false, true),
        (received(4, 0), false, true),
        (received(6, 9), false, false),
        (sent(4, 0), false, true),
        (sent(3, 1), false, true),
        (sent(6, 10), false, true),
        (DownReason::SendHoldTimerExpired, false, true),
        // What an operator does, and too many prefixes.
        (sent(6, 1), false, false),
        (sent(6, 2), false, false),
        (sent(6, 3), false, false),
        (sent(6, 4), false, false),
        (sent(6, 6), false, false),
    ];
    for notification in [false, true] {
        let restart = agreed(offer(notification), offer(notification)).unwrap();
        for (reason, without, with) in &cases {
            let expected = if notification { *with } else { *without };
            assert_eq!(restart.covers(reason), expected, "{reason} with N {notification}");
        }
    }
}

#[test]
fn who_ends_a_session_for_silence_says_so_one_way_or_another() {
    let received = DownReason::NotificationReceived;
    let bfd_down = || Notification::cease(CeaseSubcode::BfdDown);
    for (reason, expected) in [
        (DownReason::ConnectionLost("reset".to_owned()), true),
        (DownReason::SendHoldTimerExpired, true),
        (DownReason::NotificationSent(bfd_down(), String::new()), true),
        (received(Notification::hold_timer_expired()), true),
        (received(Notification::send_hold_timer_expired()), true),
        (received(notification(6, 0)), true),
        (received(bfd_down()), true),
        // As FRR does to those with the N bit.
        (received(Notification::hard_reset(&bfd_down())), true),
        (
            received(Notification::cease(CeaseSubcode::AdministrativeShutdown)),
            false,
        ),
        (received(Notification::hard_reset(&notification(6, 2))), false),
        (received(notification(3, 1)), false),
    ] {
        assert_eq!(reason.is_silence(), expected, "{reason}");
    }
}

#[test]
fn what_is_meant_for_good_is_said_as_a_hard_reset_to_peers_with_the_n_bit() {
    let stop = || Input::Stop {
        subcode: CeaseSubcode::AdministrativeShutdown,
        reason: "bye".to_owned(),
    };
    let (mut bench, _) = established(offer(true), offer(true));
    assert_eq!(bench.input(stop()).said(), "send NOTIFICATION 6/9 on 1, close 1, DOWN");
    let down = bench.session.status().history.last_down.unwrap();
    assert_eq!(
        down.reason,
        "we sent NOTIFICATION Cease/Administrative Shutdown (6/2): bye"
    );
    let (mut bench, _) = established(offer(true), offer(false));
    assert_eq!(bench.input(stop()).said(), "send NOTIFICATION 6/2 on 1, close 1, DOWN");
    // A fault is none.
    let (mut bench, connection) = established(offer(true), offer(true));
    let error = MessageError {
        what: "bad".to_owned(),
        notification: notification(3, 1),
    };
    bench.input(Input::Malformed { connection, error });
    assert!(bench.said().starts_with("send NOTIFICATION 3/1 on 1, close 1, DOWN"));
}

#[test]
fn who_leaves_to_be_back_says_nothing_to_a_peer_that_keeps_its_routes() {
    let leave = || Input::Leave {
        reason: "leaving".to_owned(),
    };
    let (mut bench, _) = established(offer(true), offer(true));
    assert_eq!(bench.input(leave()).said(), "close 1, DOWN");
    assert_eq!(bench.pass(Duration::from_secs(1_000)).said(), "", "it is stopped");
    let (mut bench, _) = established(offer(true), RestartOffer::default());
    assert_eq!(bench.input(leave()).said(), "send NOTIFICATION 6/2 on 1, close 1, DOWN");
}

//= https://www.rfc-editor.org/rfc/rfc4724#section-4.2
//# the previous TCP session MUST be closed, and the new one retained.
#[test]
fn an_open_on_another_connection_ends_the_session_of_a_peer_that_may_have_restarted_unnoticed() {
    let (mut bench, _) = established(offer(true), offer(true));
    let second = bench.connect(Direction::Accepted);
    assert_eq!(bench.said(), "send KEEPALIVE on 1, send OPEN on 2");
    bench.receive(second, open_offering(offer(true)));
    assert_eq!(bench.said(), "close 1, DOWN, decode 2, send KEEPALIVE on 2");
    bench.receive(second, Message::Keepalive);
    assert_eq!(bench.said(), "ESTABLISHED");
    // Others lose the second connection, as ever (RFC 4271 §6.8).
    let (mut bench, _) = established(offer(true), RestartOffer::default());
    let second = bench.connect(Direction::Accepted);
    bench.outputs();
    bench.receive(second, open(1, 180));
    assert_eq!(bench.said(), "send NOTIFICATION 6/7 on 2, close 2");
}

#[test]
fn who_dials_us_when_the_session_has_ended_is_not_dialled() {
    let mut bench = Bench::started();
    bench.establish();
    bench.pass(Duration::from_secs(180));
    bench.connect(Direction::Accepted);
    bench.outputs();
    assert_eq!(bench.pass(Duration::from_secs(10)).said(), "");
    assert_eq!(bench.session.state(), State::OpenSent);
}

/// How long until the peer is dialled when it has closed the connection that it had.
fn dialled_after(bench: &mut Bench, connection: ConnectionId) -> Duration {
    bench.input(Input::Closed {
        connection,
        reason: "reset".to_owned(),
    });
    bench.outputs();
    let step = Duration::from_millis(100);
    let steps = (1..=36_000).find(|_| bench.pass(step).said() == "dial");
    step * steps.unwrap()
}

#[test]
fn who_restarts_is_given_its_time_each_time_and_dialled_after_the_connect_retry_time_only() {
    let retry = config().connect_retry;
    let (mut bench, mut connection) = established(offer(true), offer(true));
    for _ in 0..4 {
        let after = dialled_after(&mut bench, connection);
        assert!(retry * 3 / 4 <= after && after <= retry, "{after:?}");
        connection = comes(&mut bench, offer(true));
    }
    let (mut bench, connection) = established(offer(true), RestartOffer::default());
    let after = dialled_after(&mut bench, connection);
    assert_eq!(after, Duration::from_millis(100), "nothing is kept of it");
}

#[test]
fn who_restarts_is_dialled_well_before_its_restart_time_is_over() {
    let hour = Duration::from_secs(3_600);
    let mut bench = Bench::with(SessionConfig {
        restart: offer(true),
        connect_retry: hour,
        ..config()
    });
    let connection = comes(&mut bench, offer(true));
    assert!(dialled_after(&mut bench, connection) <= Duration::from_secs(60));
}
