//! Agents of an instance: slow ones, many NICs, tokens, strangers.

use super::*;

crate::tests![
    an_agent_that_does_not_read_costs_others_nothing_and_catches_up_by_snapshot,
    an_agent_of_a_host_with_thousands_of_nics_is_told_of_each,
    a_connection_that_asks_for_something_else_is_told_so,
    an_agent_follows_only_what_its_token_is_for_and_as_long_as_it_is,
    an_agent_that_comes_before_the_first_intent_is_told_nothing_until_that_says_whether_it_may,
    callers_that_never_say_who_they_are_do_not_keep_an_agent_out,
    an_instance_whose_agents_come_from_anywhere_tells_that_it_lets_nobody_in_once_no_tokens_are_wanted,
    an_agent_that_asks_for_what_cannot_be_is_told_so_in_few_words,
];

/// What an agent's table holds, as far as the number of its routes tells.
#[derive(Default)]
struct Counted {
    generation: u64,
    routes: usize,
    /// Pieces heard, of whatever kind.
    pieces: usize,
    /// Snapshots heard to their end.
    snapshots: usize,
    /// Generation and routes of an update that is not complete.
    unfinished: Option<(u64, usize)>,
}

impl Counted {
    fn hear(&mut self, said: to_agent::Body) {
        let (piece, is_snapshot) = match said {
            to_agent::Body::Snapshot(piece) => (piece, true),
            to_agent::Body::Delta(piece) => (piece, false),
            _ => return,
        };
        self.pieces += 1;
        let begun = self
            .unfinished
            .take()
            .filter(|(generation, _)| *generation == piece.generation);
        let before = match (begun, is_snapshot) {
            (Some((_, routes)), _) => routes,
            (None, true) => 0,
            (None, false) => self.routes,
        };
        let routes = before + piece.routes.len() - piece.removed.len();
        if piece.more {
            self.unfinished = Some((piece.generation, routes));
            return;
        }
        assert!(
            is_snapshot || piece.generation == self.generation + 1,
            "a generation is missing"
        );
        self.snapshots += usize::from(is_snapshot);
        (self.generation, self.routes) = (piece.generation, routes);
    }

    async fn read_until(&mut self, agent: &mut tonic::Streaming<ToAgent>, what: &str, done: impl Fn(&Counted) -> bool) {
        hears(agent, what, |said| {
            self.hear(said);
            done(self).then_some(())
        })
        .await;
    }
}

fn an_agent_that_does_not_read_costs_others_nothing_and_catches_up_by_snapshot() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![peer("nva1", NVA1, 65001)])).await;
        let mut asleep = follow(world.directory.path(), "vm").await;
        let mut awake = follow(world.directory.path(), "vm").await;
        let mut counted = Counted::default();
        counted
            .read_until(&mut awake, "a table", |table| table.snapshots > 0)
            .await;
        let system = counted.routes;
        let nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
        let prefixes: Vec<IpNet> = (0..20_000_u32)
            .map(|n| IpNet::new(IpAddr::from((0x1400_0000 + (n << 8)).to_be_bytes()), 24).unwrap())
            .collect();
        let all = system + prefixes.len();
        for _ in 0..8 {
            nva.announce(prefixes.iter().copied()).await;
            counted
                .read_until(&mut awake, "all routes", |table| table.routes == all)
                .await;
            nva.withdraw(prefixes.iter().copied()).await;
            counted
                .read_until(&mut awake, "no routes", |table| table.routes == system)
                .await;
        }
        nva.announce(prefixes.iter().copied()).await;
        counted
            .read_until(&mut awake, "all routes", |table| table.routes == all)
            .await;

        let mut woken = Counted::default();
        let now = counted.generation;
        woken
            .read_until(&mut asleep, "the table of now", |table| table.generation == now)
            .await;
        assert_eq!(woken.routes, all);
        assert!(woken.snapshots > 1, "it began again");
        assert!(woken.pieces < counted.pieces / 2, "it was spared what was over");
        // And goes on as everybody.
        nva.withdraw(prefixes[..1].iter().copied()).await;
        woken
            .read_until(&mut asleep, "a delta", |table| table.routes == all - 1)
            .await;
    });
}

fn an_agent_of_a_host_with_thousands_of_nics_is_told_of_each() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![])).await;
        let nics: Vec<String> = (0..daemon::instance::MAX_NICS_PER_AGENT)
            .map(|n| format!("nic{n}"))
            .collect();
        let mut agent = follow_all(world.directory.path(), nics.clone()).await;
        let mut told = std::collections::BTreeSet::new();
        hears(&mut agent, "each NIC", |said| {
            if let to_agent::Body::Nic(nic) = said {
                told.insert(nic.nic);
            }
            (told.len() == nics.len()).then_some(())
        })
        .await;
    });
}

/// What `sha256sum` says of "one".
const HASH_OF_ONE: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";

fn an_agent_follows_only_what_its_token_is_for_and_as_long_as_it_is() {
    with_addresses(ADDRESSES, || async {
        let tokens = |tokens: &[(&str, &str)]| {
            let all = tokens.iter().map(|(nic, hash)| ((*nic).to_owned(), (*hash).to_owned()));
            Some(all.collect())
        };
        let mut wanted = intent(1, vec![]);
        wanted.agent_tokens = tokens(&[("vm", HASH_OF_ONE)]);
        let world = World::with(wanted.clone()).await;
        let run_dir = world.directory.path();

        let refused = ask(run_dir, None, &["vm"]).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
        assert!(refused.message().contains("agent-token create"), "{refused}");
        // Nobody has such a token: not one word of his is read.
        for nics in [&["vm"][..], &[]] {
            let refused = ask(run_dir, Some("two"), nics).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{nics:?}");
            assert!(refused.message().contains("token is not for"), "{refused}");
        }
        let mut stream = ask(run_dir, Some("one"), &[]).await.unwrap();
        assert_eq!(end_of(&mut stream).await.code(), tonic::Code::InvalidArgument);
        for nics in [&["vm", "other"][..], &["other"]] {
            let token = "one";
            let mut stream = ask(run_dir, Some(token), nics).await.unwrap();
            let refused = end_of(&mut stream).await;
            assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{token} {nics:?}");
            assert!(refused.message().contains("token is not for"), "{refused}");
        }
        let mut stream = ask(run_dir, Some("one"), &["vm"]).await.unwrap();
        hears(&mut stream, "its NIC", |said| match said {
            to_agent::Body::Nic(nic) => Some(nic),
            _ => None,
        })
        .await;
        wanted.version = 2;
        wanted.agent_tokens = tokens(&[]);
        world.put(&wanted).await.unwrap();
        let refused = end_of(&mut stream).await;
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        // Where no tokens are needed one does no harm.
        wanted.version = 3;
        wanted.agent_tokens = None;
        world.put(&wanted).await.unwrap();
        let mut stream = ask(run_dir, Some("one"), &["vm"]).await.unwrap();
        hears(&mut stream, "its NIC", |said| {
            matches!(said, to_agent::Body::Nic(_)).then_some(())
        })
        .await;
    });
}

fn an_agent_that_comes_before_the_first_intent_is_told_nothing_until_that_says_whether_it_may() {
    with_addresses(ADDRESSES, || async {
        let world = World::start().await;
        let run_dir = world.directory.path();
        let mut stranger = ask(run_dir, None, &["vm"]).await.unwrap();
        let mut wanted = intent(1, vec![]);
        wanted.agent_tokens = Some([("other".to_owned(), "0".repeat(64))].into());
        world.put(&wanted).await.unwrap();
        let first = soon("an answer", stranger.message()).await.unwrap_err();
        // Unavailable where the intent took longer to come than an agent waits.
        let refusals = [tonic::Code::Unauthenticated, tonic::Code::Unavailable];
        assert!(refusals.contains(&first.code()), "{first}");
    });
}

fn callers_that_never_say_who_they_are_do_not_keep_an_agent_out() {
    with_addresses(ADDRESSES, || async {
        let callers = daemon::instance::MAX_JUDGED + 100;
        allow_open_files(callers as u64 + 200);
        let world = World::with(intent(1, vec![])).await;
        let run_dir = world.directory.path();
        // It has asked, and never says for what.
        let mut client = RoutesClient::new(agent_endpoint(run_dir).await.connect().await.unwrap());
        let (_silent, said) = tokio::sync::mpsc::channel(1);
        let mut nobody = client.follow(ReceiverStream::new(said)).await.unwrap().into_inner();

        let at = std::fs::read_to_string(agents_path(run_dir, 0)).unwrap();
        let mut calls = Vec::new();
        for _ in 0..callers {
            calls.push(tokio::net::TcpStream::connect(at.trim()).await.unwrap());
        }
        let mut agent = follow(run_dir, "vm").await;
        hears(&mut agent, "its NIC", |said| {
            matches!(said, to_agent::Body::Nic(_)).then_some(())
        })
        .await;
        assert_ne!(end_of(&mut nobody).await.code(), tonic::Code::Ok);
        drop(calls);
    });
}

fn an_instance_whose_agents_come_from_anywhere_tells_that_it_lets_nobody_in_once_no_tokens_are_wanted() {
    with_addresses(ADDRESSES, || async {
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start_for_agents_anywhere(directory.path());
        let world = World::of(directory, process, 0).await;
        let file = agents_path(world.directory.path(), 0);
        until("agents may connect", || async { file.exists() }).await;
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("https://0.0.0.0:"));
        let problem = || async { world.control.health().await.unwrap().agent_port_problem };
        let mut wanted = intent(1, vec![]);
        wanted.agent_tokens = Some([("vm".to_owned(), HASH_OF_ONE.to_owned())].into());
        world.put(&wanted).await.unwrap();
        assert_eq!(problem().await, None);
        // The manager has another configuration now, and this process is of before.
        wanted.version = 2;
        wanted.agent_tokens = None;
        world.put(&wanted).await.unwrap();
        assert!(problem().await.unwrap().contains("`routewright upgrade`"));
    });
}

/// The kernel's own limit is often just what is needed here.
fn allow_open_files(wanted: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).unwrap();
    }
}

fn an_agent_that_asks_for_what_cannot_be_is_told_so_in_few_words() {
    with_addresses(ADDRESSES, || async {
        let mut wanted = intent(1, vec![]);
        wanted.agent_tokens = Some([("other".to_owned(), HASH_OF_ONE.to_owned())].into());
        let world = World::with(wanted).await;
        let run_dir = world.directory.path();
        for (length, expected) in [
            (2_000, tonic::Code::PermissionDenied),
            (1 << 20, tonic::Code::InvalidArgument),
            // More than is read.
            (3 << 20, tonic::Code::InvalidArgument),
        ] {
            let nic = "n".repeat(length);
            let mut stream = ask(run_dir, Some("one"), &[&nic]).await.unwrap();
            let refused = end_of(&mut stream).await;
            assert_eq!(refused.code(), expected, "{refused}");
            assert!(refused.message().len() < 1_000, "{} octets", refused.message().len());
        }
    });
}

/// An agent with a token.
async fn ask(run_dir: &Path, token: Option<&str>, nics: &[&str]) -> Result<tonic::Streaming<ToAgent>, tonic::Status> {
    let mut client = RoutesClient::new(agent_endpoint(run_dir).await.connect().await.unwrap());
    let hello = Hello {
        agent: "test".into(),
        nics: nics.iter().map(|nic| (*nic).to_owned()).collect(),
        layers: false,
    };
    let (sender, said) = tokio::sync::mpsc::channel(8);
    let body = Some(from_agent::Body::Hello(hello));
    sender.send(FromAgent { body }).await.unwrap();
    // The agent goes on listening although it says nothing more.
    std::mem::forget(sender);
    let mut request = tonic::Request::new(ReceiverStream::new(said));
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    client.follow(request).await.map(tonic::Response::into_inner)
}

/// How a stream ends.
async fn end_of(stream: &mut tonic::Streaming<ToAgent>) -> tonic::Status {
    let ended = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return tonic::Status::ok("ended"),
                Err(status) => return status,
            }
        }
    };
    soon("the stream ends", ended).await
}

fn a_connection_that_asks_for_something_else_is_told_so() {
    with_addresses(ADDRESSES, || async {
        let world = World::start().await;
        let channel = agent_endpoint(world.directory.path()).await.connect().await.unwrap();
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<FromAgent, ToAgent>::default();
        let path = tonic::codegen::http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let answer = client
            .unary(tonic::Request::new(FromAgent::default()), path, codec)
            .await;
        assert_eq!(answer.unwrap_err().code(), tonic::Code::Unimplemented);
    });
}
