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

/// Asks the servers until all is known that they can tell.
async fn find_instances(tls: Option<&AgentTls>, servers: &[String]) -> Vec<Source> {
    let mut told = None;
    loop {
        let mut sources: Vec<Source> = Vec::new();
        let mut absent = None;
        for server in servers {
            let (urls, by_manager) = match discover::ask(tls, server).await {
                Server::Manager(urls) if urls.is_empty() => {
                    absent = Some(format!("{server} has no instance with an address for agents yet"));
                    continue;
                }
                Server::Manager(urls) => (urls, true),
                // With several URLs, one that is away is taken for an instance: the other one must not wait for it.
                Server::Absent(_) if servers.len() > 1 => (vec![server.clone()], false),
                Server::Absent(reason) => {
                    absent = Some(format!("{server} does not answer: {reason}"));
                    continue;
                }
                Server::Instance => (vec![server.clone()], false),
            };
            for (index, url) in urls.into_iter().enumerate() {
                if sources.iter().all(|source| source.url != url) && sources.len() < MAX_VOICES {
                    sources.push(Source {
                        server: server.clone(),
                        index,
                        url,
                        by_manager,
                    });
                }
            }
        }
        match absent {
            Some(reason) if sources.is_empty() => {
                if told.as_ref() != Some(&reason) {
                    tracing::warn!(%reason, "waiting for a server");
                }
                told = Some(reason);
            }
            _ => return sources,
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
