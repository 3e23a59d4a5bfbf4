//! An instance from its start to its end: routes, restarts, refusals, resets, its log.

use nix::sys::signal::Signal;

use super::*;

crate::tests![
    a_route_travels_from_an_nva_to_an_agent,
    a_killed_instance_comes_back_with_its_intent_and_its_peers,
    an_instance_that_was_stopped_for_longer_than_the_hold_time_takes_nothing_back_until_its_peers_are_back,
    sigterm_says_farewell_to_peers,
    an_older_intent_is_refused,
    what_is_asked_about_strangers_is_not_found,
    a_missing_address_is_told_and_taken_when_it_comes,
    a_second_instance_refuses_to_start,
    md5_protects_a_peering,
    a_peer_that_never_reads_does_not_disturb_another,
    a_reset_by_the_operator_ends_the_session_and_it_comes_back,
    metrics_tell_of_peers,
    an_instance_outlives_the_thread_that_started_it_but_not_the_process,
    a_soft_reset_of_a_peer_without_route_refresh_is_refused_with_a_reason,
    the_route_log_survives_a_full_disk_without_half_a_line_and_tells_what_is_missing,
];

fn a_route_travels_from_an_nva_to_an_agent() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![peer("nva1", NVA1, 65001)])).await;
        let mut agent = follow(world.directory.path(), "VM").await;
        let welcome = hears(&mut agent, "a welcome", |said| match said {
            to_agent::Body::Welcome(welcome) => Some(welcome),
            other => panic!("{other:?} before the welcome"),
        })
        .await;
        assert_eq!((welcome.instance, welcome.silence_secs), (0, 10));
        hears(&mut agent, "the NIC's table", |said| match said {
            to_agent::Body::Nic(nic) => nic.table,
            _ => None,
        })
        .await;

        let nva = Nva::start(NVA1, 65001, OURS, None);
        nva.sees("the virtual network's prefix", |seen| {
            seen.learned.contains(&net("10.1.0.0/16"))
        })
        .await;
        nva.announce([net("10.250.0.0/16")]).await;
        let wanted = |said| members(&update(said)?, net("10.250.0.0/16"));
        assert_eq!(hears(&mut agent, "the route", wanted).await, [address(NVA1)]);

        let report = world.control.effective_routes("vm").await.unwrap();
        assert!(report.iter().any(|row| row.address_prefix == net("10.250.0.0/16")));
        assert_eq!(world.control.agents().await.unwrap()[0].agent, "test");
        assert_eq!(world.control.routes_of_peer("nva1").await.unwrap().len(), 1);

        nva.withdraw([net("10.250.0.0/16")]).await;
        hears(&mut agent, "the withdrawal", |said| {
            let removed = update(said)?.removed;
            removed
                .iter()
                .any(|each| api::convert::prefix(each) == Some(net("10.250.0.0/16")))
                .then_some(())
        })
        .await;
        hears(&mut agent, "a heartbeat", |said| {
            matches!(said, to_agent::Body::Heartbeat(_)).then_some(())
        })
        .await;
    });
}

fn a_killed_instance_comes_back_with_its_intent_and_its_peers() {
    with_addresses(ADDRESSES, || async {
        let mut world = World::with(intent(7, vec![peer("nva1", NVA1, 65001)])).await;
        let nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
        let before = world.control.health().await.unwrap();
        world.process.0.kill().unwrap();
        world.process.ended().await;
        nva.sees("the session is down", |seen| !seen.established).await;
        world.restart().await;
        let after = world.control.health().await.unwrap();
        assert_eq!(after.intent_version, 7);
        assert_ne!(after.epoch, before.epoch);
        world.established(1).await;
    });
}

/// What an agent hears of an instance's life and of a prefix.
#[derive(Debug, PartialEq)]
enum Word {
    Welcome(u64),
    Table { has_route: bool },
    Converged(bool),
}

fn word(said: to_agent::Body, prefix: IpNet) -> Option<Word> {
    match said {
        to_agent::Body::Welcome(welcome) => Some(Word::Welcome(welcome.epoch)),
        to_agent::Body::Converged(converged) => Some(Word::Converged(converged)),
        to_agent::Body::Snapshot(table) => {
            let has_route = members(&table, prefix).is_some();
            Some(Word::Table { has_route })
        }
        _ => None,
    }
}

fn an_instance_that_was_stopped_for_longer_than_the_hold_time_takes_nothing_back_until_its_peers_are_back() {
    with_addresses(ADDRESSES, || async {
        let route = net("10.250.0.0/16");
        let mut nva1 = peer("nva1", NVA1, 65001);
        nva1.hold_time_secs = 3;
        let world = World::with(intent(1, vec![nva1])).await;
        let nva = Nva::start(NVA1, 65001, OURS, None);
        nva.announce([route]).await;
        let is_known = || async { !world.control.routes_of_peer("nva1").await.unwrap().is_empty() };
        until("the route is there", is_known).await;
        let mut agent = follow(world.directory.path(), "vm").await;
        let mut first = 0;
        hears(&mut agent, "all it has to say", |said| match word(said, route)? {
            Word::Welcome(epoch) => {
                first = epoch;
                None
            }
            Word::Table { has_route } => {
                assert!(has_route);
                None
            }
            Word::Converged(converged) => converged.then_some(()),
        })
        .await;

        world.process.signal(Signal::SIGSTOP);
        nva.sees("the session's end", |seen| !seen.established).await;
        world.process.signal(Signal::SIGCONT);

        let mut words = Vec::new();
        hears(&mut agent, "all it has to say in its next life", |said| {
            words.extend(word(said, route));
            (words.last() == Some(&Word::Converged(true))).then_some(())
        })
        .await;
        assert_eq!(
            words,
            [
                Word::Welcome(first + 1),
                Word::Table { has_route: false },
                Word::Converged(false),
                // What the NVA has to say now it has said.
                Word::Converged(true),
            ]
        );
        nva.sees("the next session", |seen| seen.ups == 2).await;
    });
}

fn sigterm_says_farewell_to_peers() {
    with_addresses(ADDRESSES, || async {
        let mut world = World::with(intent(1, vec![peer("nva1", NVA1, 65001)])).await;
        let nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
        world.process.terminate();
        assert!(world.process.ended().await.success());
        // Cease / Administrative Shutdown (RFC 4486 §4).
        nva.sees("the farewell", |seen| seen.notification == Some((6, 2))).await;
        assert!(!socket_path(world.directory.path(), 0).exists());
    });
}

fn an_older_intent_is_refused() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(5, vec![])).await;
        let refused = world.put(&intent(4, vec![])).await;
        assert_eq!(refused, Err(ControlError::NewerIntent));
        assert_eq!(world.put(&intent(5, vec![])).await, Ok(()));
        assert_eq!(world.put(&intent(6, vec![])).await, Ok(()));
        assert_eq!(world.control.health().await.unwrap().intent_version, 6);
    });
}

fn what_is_asked_about_strangers_is_not_found() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![])).await;
        let is_not_found = |result: Result<usize, ControlError>| {
            assert!(matches!(result, Err(ControlError::NotFound { .. })), "{result:?}");
        };
        is_not_found(world.control.routes_of_peer("x").await.map(|routes| routes.len()));
        is_not_found(
            world
                .control
                .routes_of_route_server("x", None)
                .await
                .map(|routes| routes.len()),
        );
        is_not_found(world.control.advertised("x").await.map(|routes| routes.len()));
        is_not_found(world.control.effective_routes("x").await.map(|routes| routes.len()));
        is_not_found(world.control.reset_peer("x", false).await.map(|()| 0));
    });
}

fn a_missing_address_is_told_and_taken_when_it_comes() {
    with_addresses(&[NVA1], || async {
        let world = World::start().await;
        world.put(&intent(1, vec![peer("nva1", NVA1, 65001)])).await.unwrap();
        let problems = || async { world.control.health().await.unwrap().address_problems };
        until("the problem is told", || async {
            problems().await == [("rs1".to_owned(), "address not present: 10.1.1.4".to_owned())]
        })
        .await;
        ip(&["address", "add", OURS, "dev", "lo"]);
        until("it listens", || async { problems().await.is_empty() }).await;
        let _nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
    });
}

fn a_second_instance_refuses_to_start() {
    with_addresses(ADDRESSES, || async {
        let world = World::start().await;
        let mut second = Process::start(world.directory.path());
        assert_eq!(second.ended().await.code(), Some(3));
        assert!(world.control.health().await.is_ok());
    });
}

fn md5_protects_a_peering() {
    with_addresses(ADDRESSES, || async {
        let protected = PeerIntent {
            md5_password: Some("secret".into()),
            ..peer("nva1", NVA1, 65001)
        };
        let world = World::with(intent(1, vec![protected])).await;
        let _nva = Nva::start(NVA1, 65001, OURS, Some("secret"));
        world.established(1).await;
    });
}

fn a_peer_that_never_reads_does_not_disturb_another() {
    with_addresses(&[OURS, NVA1, NVA2, "10.1.3.5"], || async {
        let peers = vec![
            peer("nva1", NVA1, 65001),
            peer("nva2", NVA2, 65002),
            peer("asleep", "10.1.3.5", 65003),
        ];
        let world = World::with(intent(1, peers)).await;
        let _asleep = establish_and_fall_asleep("10.1.3.5", 65003, OURS).await;
        let (first, second) = (Nva::start(NVA1, 65001, OURS, None), Nva::start(NVA2, 65002, OURS, None));
        world.established(3).await;
        // 300,000 prefixes make more than a megabyte; told again and again, they fill every buffer towards the one asleep.
        let prefixes: Vec<IpNet> = (0..300_000_u32)
            .map(|n| IpNet::new(IpAddr::from((0x1400_0000 + (n << 8)).to_be_bytes()), 24).unwrap())
            .collect();
        for round in 0..4 {
            first.announce(prefixes.iter().copied()).await;
            second
                .sees("all the routes", |seen| seen.learned.len() > prefixes.len())
                .await;
            first.withdraw(prefixes.iter().copied()).await;
            second.sees("no route", |seen| seen.learned.len() < 10).await;
            assert_eq!(
                world.control.health().await.unwrap().peers_established,
                3,
                "round {round}"
            );
        }
    });
}

fn a_reset_by_the_operator_ends_the_session_and_it_comes_back() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![peer("nva1", NVA1, 65001)])).await;
        let _nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
        world.control.reset_peer("nva1", false).await.unwrap();
        let again = || async { world.control.peers(Some("rs1")).await.unwrap()[0].established_count == 2 };
        until("the session is up again", again).await;
    });
}

fn metrics_tell_of_peers() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![peer("nva1", NVA1, 65001)])).await;
        let _nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
        let text = world.control.metrics().await.unwrap();
        let doubled: Vec<&str> = text.lines().filter(|line| line.ends_with("..")).collect();
        assert!(doubled.is_empty(), "{doubled:?}");
        let line = text
            .lines()
            .find(|line| line.starts_with("routewright_bgp_peer_up{"))
            .unwrap();
        assert!(
            line.ends_with("} 1") && line.contains("peer=\"nva1\"") && line.contains("instance=\"0\""),
            "{line}"
        );
    });
}

fn an_instance_outlives_the_thread_that_started_it_but_not_the_process() {
    with_addresses(ADDRESSES, || async {
        let directory = tempfile::tempdir().unwrap();
        let run_dir = directory.path().to_owned();
        let mut process = std::thread::scope(|scope| scope.spawn(|| Process::start(&run_dir)).join().unwrap());
        let control = ControlClient::new(socket_path(directory.path(), 0));
        until("the instance answers", || async { control.health().await.is_ok() }).await;
        // What the kernel does for us when this process dies, however it dies.
        drop(process.0.stdin.take());
        assert!(process.ended().await.success());
    });
}

fn a_soft_reset_of_a_peer_without_route_refresh_is_refused_with_a_reason() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![peer("nva1", NVA1, 65001)])).await;
        let refused = world.control.reset_peer("nva1", true).await;
        let Err(ControlError::Refused { status: 409, reason }) = refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains("not Established"), "{reason}");
        let _nva = Nva::start_without_route_refresh(NVA1, 65001, OURS);
        world.established(1).await;
        let refused = world.control.reset_peer("nva1", true).await;
        let Err(ControlError::Refused { status: 409, reason }) = refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains("hard reset"), "{reason}");
        assert_eq!(world.control.peers(None).await.unwrap()[0].established_count, 1);
    });
}

fn the_route_log_survives_a_full_disk_without_half_a_line_and_tells_what_is_missing() {
    let disk = tempfile::tempdir().unwrap();
    mount_disk(disk.path(), 1);
    with_addresses(ADDRESSES, || async {
        let log = disk.path().join("routes.jsonl");
        let mut intent = intent(1, vec![peer("nva1", NVA1, 65001)]);
        intent.logs_routes = true;
        let world = World::start().await;
        let path = log.display().to_string();
        let order = OrderRef {
            intent: &intent,
            route_log: Some(&path),
        };
        world.control.put_intent(order).await.unwrap();
        let nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
        let lines = || {
            let text = std::fs::read_to_string(log.with_extension("0.jsonl")).unwrap_or_default();
            // Half a line that stayed would spoil the next one; the last may be on its way.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
            whole.lines().map(line).collect::<Vec<_>>()
        };
        let tells = |event: &'static str| lines().iter().any(|line| line["event"] == event);
        until("the session is logged", || async { tells("peerUp") }).await;

        // Far more than the page that the disk has.
        let table: Vec<IpNet> = (0..400u32)
            .map(|n| net(&format!("10.{}.{}.0/24", 64 + n / 256, n % 256)))
            .collect();
        nva.announce(table.clone()).await;
        let held = || async {
            let peers = world.control.peers(None).await.unwrap_or_default();
            peers.iter().any(|peer| peer.routes_received == 400)
        };
        until("the table is held, log or no log", held).await;
        // Whoever writes lets go of the file when the disk is full.
        let file = log.with_extension("0.jsonl");
        until("the disk refuses the table", || async {
            !world.process.has_open(&file)
        })
        .await;
        assert!(!tells("announced"));

        resize_disk(disk.path(), 1024);
        let one = net("10.250.0.0/16");
        let goes_on = || async {
            nva.announce([one]).await;
            nva.withdraw([one]).await;
            tells("withdrawn")
        };
        until("it logs again", goes_on).await;
        assert!(tells("leftOut"));
    });
}
