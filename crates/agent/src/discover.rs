//! Where the instances are: a server URL is an instance's own, or the manager's, which knows them.

use std::time::Duration;

use api::tls::innermost;
use serde::Deserialize;

use crate::tls::{self, AgentTls};

const TIMEOUT: Duration = Duration::from_secs(3);

/// What we need of the manager's health.
#[derive(Debug, Deserialize)]
struct Health {
    #[serde(default)]
    instances: Vec<Listed>,
}

/// An instance as the manager lists it. Of those on another machine it lists none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    /// Which one it is, whatever its place in the list.
    pub(crate) index: usize,
    /// Where agents reach it; none while it starts, or while somebody else has its port.
    pub(crate) agent_url: Option<String>,
}

/// What a server URL turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// The manager, with its instances.
    Manager(Vec<Listed>),
    /// Something that answers, but not as the manager does: an instance.
    Instance,
    /// Nothing answers.
    Absent(String),
}

/// Asks a server what it is.
pub(crate) async fn ask(tls: Option<&AgentTls>, url: &str) -> Server {
    let client = match client(tls, url) {
        Ok(client) => client,
        Err(problem) => return Server::Absent(problem),
    };
    let health = format!("{}/routewright/v1/health", url.trim_end_matches('/'));
    let answer = match client.get(health).timeout(TIMEOUT).send().await {
        Ok(answer) => answer,
        Err(error) if error.is_connect() || error.is_timeout() => {
            let problem = innermost(&error);
            return Server::Absent(match tls::advice(&problem) {
                Some(advice) => format!("{problem}: {advice}"),
                None => problem,
            });
        }
        // An instance speaks HTTP/2 only and ends the connection.
        Err(_) => return Server::Instance,
    };
    if [401, 403].contains(&answer.status().as_u16()) {
        let problem = "the manager tells agents of other machines nothing: name the instances' own URLs";
        return Server::Absent(problem.to_owned());
    }
    match answer.json::<Health>().await {
        Ok(health) => Server::Manager(health.instances),
        Err(_) => Server::Instance,
    }
}

/// Made anew each time, which is rare, so that files which were replaced count.
fn client(tls: Option<&AgentTls>, url: &str) -> Result<reqwest::Client, String> {
    let builder = api::http::plain_client();
    let builder = match (tls::is_tls(url), tls) {
        (false, _) => builder,
        (true, None) => return Err(tls::no_authority(url)),
        (true, Some(tls)) => {
            let config = tls.load().map_err(|error| error.to_string())?;
            reqwest::Client::builder().tls_backend_preconfigured(config)
        }
    };
    builder
        .build()
        .map_err(|error| format!("no HTTP client: {}", innermost(&error)))
}
