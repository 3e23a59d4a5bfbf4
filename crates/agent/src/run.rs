//! The agent as a whole: NICs' threads, instances' tasks.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use api::tls::TlsFileError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::{Client, Source};
use crate::confirm::Confirmations;
use crate::discover::{self, Server};
use crate::merge::MAX_VOICES;
use crate::namespace;
use crate::netlink::Kernel;
use crate::nic::{self, NicOptions};
use crate::options::{AgentOptions, FlushOptions, NicSpec, OptionError, SystemRoutes};
use crate::ours::TABLE_MAIN;
use crate::permission;
use crate::tls::{AgentTls, check_way, is_tls};

/// Time between questions to servers that don't answer.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Why the agent can't go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The command line.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The kernel would refuse everything.
    #[error(
        "changing routes needs {capability}: run the agent as root, or give it the capability \
         (setcap, or AmbientCapabilities= in a systemd unit)"
    )]
    NotPermitted {
        /// The one that is missing.
        capability: &'static str,
    },
    /// A file of `--ca`, `--certificate` or `--key`.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// A NIC's thread could not be started.
    #[error("cannot start the thread of {nic}: {source}")]
    Thread {
        /// The NIC.
        nic: String,
        /// Why.
        source: io::Error,
    },
    /// A NIC's thread has ended.
    #[error("the thread of a NIC has ended")]
    NicGone,
    /// Routes could not be removed.
    #[error("cannot remove the routes of {place}: {source}")]
    Flush {
        /// Where.
        place: String,
        /// Why.
        source: io::Error,
    },
}

/// Runs the agent until it is cancelled. Routes stay in the kernel then. `ready` is called when nothing but a server can be missing.
pub async fn run(options: AgentOptions, ready: impl FnOnce()) -> Result<(), AgentError> {
    check(&options)?;
    permission::check(&options.nics)?;
    if let Some(tls) = &options.tls {
        tls.load()?;
    }
    ready();
    let sources = find_instances(options.tls.as_ref(), &options.servers).await;
    let confirmations: Vec<Confirmations> = sources.iter().map(|_| Confirmations::default()).collect();
    let mut nics = BTreeMap::new();
    for spec in &options.nics {
        let (sender, inputs) = mpsc::channel(nic::INPUTS);
        let nic_options = NicOptions {
            spec: spec.clone(),
            voices: sources.len(),
            system_routes: options.system_routes == SystemRoutes::All,
            resilient: options.resilient,
            kernel_settings: options.kernel_settings,
            confirmations: confirmations.clone(),
        };
        nic::spawn(nic_options, inputs).map_err(|source| AgentError::Thread {
            nic: spec.id.clone(),
            source,
        })?;
        nics.insert(spec.id.clone(), sender);
    }
    let silent_instances = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for ((voice, source), confirmations) in sources.into_iter().enumerate().zip(confirmations) {
        let (name, nics) = (options.name.clone(), nics.clone());
        let (token, tls) = (options.token.clone(), options.tls.clone());
        let silent_instances = Arc::clone(&silent_instances);
        clients.spawn(
            Client {
                voice,
                name,
                token,
                tls,
                source,
                nics,
                confirmations,
                silent_instances,
                refusal: None,
            }
            .run(),
        );
    }
    drop(nics);
    // None of them ends by itself while the NICs' threads live.
    clients.join_next().await;
    Err(AgentError::NicGone)
}

/// Removes the agent's routes and nexthop objects, and nothing else. Returns how many routes there were.
pub fn flush(options: &FlushOptions) -> Result<usize, AgentError> {
    permission::check(&options.nics)?;
    let own = [NicSpec {
        id: "own namespace".to_owned(),
        namespace: None,
        table: TABLE_MAIN,
    }];
    let places = if options.nics.is_empty() {
        &own[..]
    } else {
        &options.nics[..]
    };
    let mut removed = 0;
    for place in places {
        let result = std::thread::scope(|scope| {
            // A thread of its own, since entering a namespace can't always be undone.
            let flushed = scope.spawn(|| {
                if let Some(path) = &place.namespace {
                    namespace::enter(path)?;
                }
                Kernel::open()?.flush(place.table)
            });
            flushed
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))
        });
        removed += result.map_err(|source| AgentError::Flush {
            place: place.to_string(),
            source,
        })?;
    }
    Ok(removed)
}

fn check(options: &AgentOptions) -> Result<(), OptionError> {
    if options.nics.is_empty() {
        return Err(OptionError::NoNics);
    }
    if options.servers.is_empty() {
        return Err(OptionError::NoServers);
    }
    if let Some(server) = options.servers.iter().find(|url| options.tls.is_none() && is_tls(url)) {
        return Err(OptionError::NoAuthority(server.clone()));
    }
    for server in &options.servers {
        check_way(server, server, options.token.is_some()).map_err(OptionError::TokenInPlain)?;
    }
    for (index, first) in options.nics.iter().enumerate() {
        for second in &options.nics[index + 1..] {
            if first.id == second.id || (first.table == second.table && same_namespace(first, second)) {
                return Err(OptionError::SharedTable {
                    first: first.to_string(),
                    second: second.to_string(),
                });
            }
        }
    }
    Ok(())
}

/// By identity where both exist: one namespace can have several names.
fn same_namespace(first: &NicSpec, second: &NicSpec) -> bool {
    let identities = (
        namespace::identity(first.namespace.as_deref()),
        namespace::identity(second.namespace.as_deref()),
    );
    match identities {
        (Ok(first), Ok(second)) => first == second,
        _ => first.namespace == second.namespace,
    }
}

/// Asks the servers until it is known where at least one instance is.
async fn find_instances(tls: Option<&AgentTls>, servers: &[String]) -> Vec<Source> {
    let mut told = None;
    loop {
        let mut answers = Vec::new();
        for server in servers {
            answers.push((server.as_str(), discover::ask(tls, server).await));
        }
        match sources_of(answers) {
            Ok(sources) => return sources,
            Err(reason) if told.as_ref() != Some(&reason) => {
                tracing::warn!(%reason, "waiting for a server");
                told = Some(reason);
            }
            Err(_) => {}
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// The instances that servers tell of, or why none can be followed yet. One that the manager lists without a place counts, too:
/// who follows it asks for that again and again.
fn sources_of(answers: Vec<(&str, Server)>) -> Result<Vec<Source>, String> {
    let several = answers.len() > 1;
    let mut all: Vec<Source> = Vec::new();
    let mut absent = String::new();
    for (server, answer) in answers {
        let found = match answer {
            // With several URLs, one that is away is taken for an instance: the other one must not wait for it.
            Server::Absent(reason) if !several => {
                absent = format!("{server} does not answer: {reason}");
                continue;
            }
            answer => sources_at(server, answer),
        };
        if found.iter().all(|source| source.url.is_none()) {
            absent = format!("{server} has no instance with an address for agents yet");
        }
        all.extend(found);
    }
    let mut sources: Vec<Source> = Vec::new();
    for source in all {
        if !sources.iter().any(|other| is_same(other, &source)) {
            sources.push(source);
        }
    }
    // Of too many those that cannot be followed yet are left out first.
    while sources.len() > MAX_VOICES {
        let nowhere = sources.iter().rposition(|source| source.url.is_none());
        sources.remove(nowhere.unwrap_or(sources.len() - 1));
    }
    match sources.iter().any(|source| source.url.is_some()) {
        true => Ok(sources),
        false => Err(absent),
    }
}

/// The manager's instances, or the server itself.
fn sources_at(server: &str, answer: Server) -> Vec<Source> {
    let was_away = matches!(answer, Server::Absent(_));
    let source = |instance, url| Source {
        server: server.to_owned(),
        instance,
        was_away,
        url,
    };
    match answer {
        Server::Manager(listed) => {
            let sources = listed.into_iter();
            sources
                .map(|listed| source(Some(listed.index), listed.agent_url))
                .collect()
        }
        Server::Instance | Server::Absent(_) => vec![source(None, Some(server.to_owned()))],
    }
}

/// Whether both lead to one instance, by what is known: a server may be named twice, or beside its manager.
fn is_same(first: &Source, second: &Source) -> bool {
    let same_index = first.instance.is_some() && first.instance == second.instance;
    same_index || (first.url.is_some() && first.url == second.url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::Listed;
    use crate::options::KernelSettings;

    fn options(nics: &[&str]) -> AgentOptions {
        AgentOptions {
            name: String::new(),
            servers: vec!["http://127.0.0.1:1".to_owned()],
            nics: nics.iter().filter_map(|nic| nic.parse().ok()).collect(),
            system_routes: SystemRoutes::None,
            resilient: None,
            kernel_settings: KernelSettings::Set,
            token: None,
            tls: None,
        }
    }

    #[test]
    fn a_token_for_a_server_of_another_machine_without_tls_is_refused() {
        let mut options = options(&["/a"]);
        options.servers.push("http://10.0.0.4:8081".to_owned());
        assert_eq!(check(&options), Ok(()));
        options.token = Some("secret".to_owned());
        let error = check(&options)
            .map_err(|error| error.to_string())
            .err()
            .unwrap_or_default();
        assert!(
            error.contains("--token-file: http://10.0.0.4:8081 is of another machine"),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }

    fn check_nics(nics: &[&str], expected: Result<(), &str>) {
        let options = options(nics);
        assert_eq!(
            check(&options).map_err(|error| error.to_string()),
            expected.map_err(str::to_owned),
            "{nics:?}"
        );
    }

    #[test]
    fn nics_that_share_a_table_are_refused() {
        check_nics(&["/a", "/b,table=7", "/c,netns=absent"], Ok(()));
        check_nics(
            &["/a", "/b,netns=/proc/self/ns/net"],
            Err("/a and /b,netns=/proc/self/ns/net would share one routing table; \
                 give one of them another table=N or network namespace"),
        );
        check_nics(
            &["/a,netns=absent", "/b,netns=/run/netns/absent"],
            Err(
                "/a,netns=/run/netns/absent and /b,netns=/run/netns/absent would share one routing table; \
                 give one of them another table=N or network namespace",
            ),
        );
        check_nics(&[], Err("no NIC is given; add --nic ID[,netns=NAME|PATH][,table=N]"));
    }

    fn manager(urls: &[(usize, Option<&str>)]) -> Server {
        let listed = |(index, url): &(usize, Option<&str>)| Listed {
            index: *index,
            agent_url: url.map(str::to_owned),
        };
        Server::Manager(urls.iter().map(listed).collect())
    }

    /// Which instance, and its URL.
    type Place<'a> = (Option<usize>, Option<&'a str>);

    fn check_sources(answers: Vec<(&str, Server)>, expected: Result<&[Place<'_>], &str>) {
        let sources = sources_of(answers);
        let found = sources.as_ref().map(|sources| {
            let shown = |source: &Source| (source.instance, source.url.clone());
            sources.iter().map(shown).collect::<Vec<_>>()
        });
        let owned = |(instance, url): &Place<'_>| (*instance, url.map(str::to_owned));
        let expected = expected.map(|sources| sources.iter().map(owned).collect());
        assert_eq!(found.map_err(String::as_str), expected);
    }

    #[test]
    fn every_instance_that_the_manager_lists_has_its_place_whether_it_can_be_reached_yet_or_not() {
        let starting = manager(&[(0, Some("http://a")), (1, None)]);
        let both = [(Some(0), Some("http://a")), (Some(1), None)];
        check_sources(vec![("m", starting)], Ok(&both));
        let restarting = manager(&[(0, None), (1, Some("http://b"))]);
        let both = [(Some(0), None), (Some(1), Some("http://b"))];
        check_sources(vec![("m", restarting)], Ok(&both));
        let none = "m has no instance with an address for agents yet";
        check_sources(vec![("m", manager(&[(0, None), (1, None)]))], Err(none));
        check_sources(vec![("m", manager(&[]))], Err(none));
    }

    #[test]
    fn each_of_two_machines_managers_tells_of_its_own_instance() {
        let (first, second) = (manager(&[(0, Some("http://a"))]), manager(&[(1, None)]));
        let both = [(Some(0), Some("http://a")), (Some(1), None)];
        check_sources(vec![("m", first), ("n", second)], Ok(&both));
    }

    #[test]
    fn an_instance_that_two_servers_tell_of_is_followed_once() {
        let (first, again) = (
            manager(&[(0, None), (1, Some("b"))]),
            manager(&[(0, None), (1, Some("b"))]),
        );
        check_sources(
            vec![("m", first), ("m", again)],
            Ok(&[(Some(0), None), (Some(1), Some("b"))]),
        );
        let itself = [(None, Some("a")), (Some(1), Some("b"))];
        let listed = manager(&[(0, Some("a")), (1, Some("b"))]);
        check_sources(vec![("a", Server::Instance), ("m", listed)], Ok(&itself));
        let away = Server::Absent("refused".to_owned());
        check_sources(
            vec![("a", away), ("b", Server::Instance)],
            Ok(&[(None, Some("a")), (None, Some("b"))]),
        );
        let away = Server::Absent("refused".to_owned());
        check_sources(vec![("a", away)], Err("a does not answer: refused"));
        // An instance named by itself, and then by its manager while it starts.
        let listed = manager(&[(0, None), (1, Some("b"))]);
        let both = [(None, Some("a")), (Some(1), Some("b"))];
        check_sources(vec![("a", Server::Instance), ("m", listed)], Ok(&both));
    }
}
