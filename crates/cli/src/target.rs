//! Which server is meant, and under which subscription: options that every verb of the API takes.

use std::path::{Path, PathBuf};

use api::http::{Trust, plain_client};
use clap::{Args, ValueEnum};
use reqwest::ClientBuilder;

use crate::client::ClientError;

/// Where `serve` listens unless told otherwise.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns, for people.
    #[default]
    Table,
    /// As `az` prints it: `properties` lifted into the object, and the resource group added.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Options of every verb that speaks to the API.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// The API's address, or unix:PATH for the socket in a data directory. Default: the running lab's if there is exactly one, else http://127.0.0.1:8080.
    #[arg(
        long,
        global = true,
        env = "ROUTEWRIGHT_SERVER",
        value_name = "URL",
        help_heading = "Global options"
    )]
    server: Option<String>,
    /// PEM file of the certificate authorities to trust with https; by default the system's.
    #[arg(
        long,
        global = true,
        env = "ROUTEWRIGHT_CA",
        value_name = "FILE",
        help_heading = "Global options"
    )]
    ca: Option<PathBuf>,
    /// Bearer token, where the server wants one: for example from `az account get-access-token`.
    #[arg(
        long,
        global = true,
        env = "ROUTEWRIGHT_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        help_heading = "Global options"
    )]
    pub(crate) token: Option<String>,
    /// The subscription.
    #[arg(
        long,
        global = true,
        env = "ROUTEWRIGHT_SUBSCRIPTION",
        value_name = "ID",
        default_value = daemon::manager::DEV_SUBSCRIPTION,
        help_heading = "Global options"
    )]
    pub(crate) subscription: String,
    /// How to print results.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        help_heading = "Global options"
    )]
    pub(crate) output: Output,
}

impl Target {
    /// A client that trusts whom it should, and the URL to use with it; `server` as [`Target::server`] gives it.
    pub(crate) fn client(&self, server: &str) -> Result<(ClientBuilder, String), ClientError> {
        let failed = |error: reqwest::Error| ClientError::Usage(format!("no HTTP client: {error}"));
        if let Some(socket) = server.strip_prefix("unix:") {
            let socket = socket.strip_prefix("//").unwrap_or(socket);
            return Ok((
                plain_client().unix_socket(PathBuf::from(socket)),
                "http://localhost".to_owned(),
            ));
        }
        if server.starts_with("http:") {
            return Ok((plain_client(), server.to_owned()));
        }
        let client = match &self.ca {
            Some(path) => {
                let pem = std::fs::read(path)
                    .map_err(|error| ClientError::Usage(format!("--ca {}: {error}", path.display())))?;
                api::http::client(Trust::Only(&pem))
            }
            None => api::http::client(Trust::System),
        };
        Ok((client.map_err(failed)?, server.to_owned()))
    }

    /// The id of the subscription.
    pub(crate) fn subscription_id(&self) -> String {
        format!("/subscriptions/{}", self.subscription)
    }

    /// The authorities given on the command line.
    pub(crate) fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// The API's address, and where it comes from in words.
    pub(crate) fn server(&self) -> (String, &'static str) {
        if let Some(server) = &self.server {
            return (with_scheme(server), "given by --server or ROUTEWRIGHT_SERVER");
        }
        match running_lab(&lab::labs_directory()) {
            Some(url) => (url, "of the running lab"),
            None => (DEFAULT_SERVER.to_owned(), "the default"),
        }
    }
}

fn with_scheme(server: &str) -> String {
    let server = server.trim_end_matches('/');
    if server.contains("://") || server.starts_with("unix:") {
        server.to_owned()
    } else {
        format!("http://{server}")
    }
}

/// The API of the default lab, or of the only one.
fn running_lab(labs: &Path) -> Option<String> {
    let url_of = |path: &Path| {
        let url = std::fs::read_to_string(path.join("api-url")).ok()?;
        Some(url.trim().to_owned()).filter(|url| !url.is_empty())
    };
    if let Some(url) = url_of(&labs.join(lab::DEFAULT_NAME)) {
        return Some(url);
    }
    let entries = std::fs::read_dir(labs).ok()?.flatten();
    let mut urls = entries.filter_map(|entry| url_of(&entry.path()));
    let only = urls.next()?;
    urls.next().is_none().then_some(only)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_default_lab_wins_and_else_the_only_one() {
        let labs = std::env::temp_dir().join(format!("routewright-cli-{}", std::process::id()));
        let put = |name: &str, url: &str| {
            std::fs::create_dir_all(labs.join(name)).unwrap();
            std::fs::write(labs.join(name).join("api-url"), url).unwrap();
        };
        assert_eq!(running_lab(&labs), None);
        put("one", "http://127.0.0.1:1\n");
        assert_eq!(running_lab(&labs).as_deref(), Some("http://127.0.0.1:1"));
        put("two", "http://127.0.0.1:2");
        assert_eq!(running_lab(&labs), None);
        put(lab::DEFAULT_NAME, "http://127.0.0.1:3");
        assert_eq!(running_lab(&labs).as_deref(), Some("http://127.0.0.1:3"));
        std::fs::remove_dir_all(&labs).unwrap();
    }

    #[test]
    fn a_server_may_be_given_without_scheme() {
        assert_eq!(with_scheme("127.0.0.1:8080"), "http://127.0.0.1:8080");
        assert_eq!(with_scheme("https://x/"), "https://x");
        assert_eq!(with_scheme("unix:/d/run/manager.sock"), "unix:/d/run/manager.sock");
    }
}
