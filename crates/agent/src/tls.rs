//! TLS to instances and the manager: whom the agent trusts, and what it shows of itself.

use std::net::IpAddr;
use std::path::PathBuf;

use api::tls::{Identity, TlsFileError, client_config};
use rustls::ClientConfig;
use tonic::transport::Uri;

/// `--ca`, `--certificate` and `--key`. The files are read whenever the agent connects, so what takes their place is used from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentTls {
    /// PEM file: the authorities of the servers' certificates; no others are believed.
    pub ca: PathBuf,
    /// The agent's own certificate, where instances want one.
    pub identity: Option<Identity>,
}

impl AgentTls {
    /// What the files say now.
    pub(crate) fn load(&self) -> Result<ClientConfig, TlsFileError> {
        client_config(&self.ca, self.identity.as_ref())
    }
}

/// Whether an URL is of a server that is spoken to over TLS.
pub(crate) fn is_tls(url: &str) -> bool {
    url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
}

/// Whether what is sent to an URL stays on this machine, or goes into a tunnel that begins on it.
fn stays_here(url: &str) -> bool {
    let url = url.parse::<Uri>().ok();
    let Some(host) = url.as_ref().and_then(Uri::host) else {
        return false;
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether an agent may go to `url`, which `server` has told of or which is `server` itself; else why not: what is on the way could read its
/// token, or make it believe any routes.
pub(crate) fn check_way(server: &str, url: &str, has_token: bool) -> Result<(), String> {
    if is_tls(url) || stays_here(url) {
        return Ok(());
    }
    if has_token {
        return Err(format!(
            "{url} is of another machine and without TLS, so whoever is between could read the token: name a server whose URL begins with \
             https, or the end of a tunnel on 127.0.0.1"
        ));
    }
    if is_tls(server) {
        return Err(format!(
            "{server} tells of an instance at {url}, which is of another machine and without TLS: give `[agents]` there `certificate` and `key`"
        ));
    }
    Ok(())
}

/// What an URL with https needs.
pub(crate) fn no_authority(url: &str) -> String {
    format!("{url} needs --ca FILE, the authority of its certificate")
}

/// What to do about a problem of TLS; `None`: it is none.
pub(crate) fn advice(problem: &str) -> Option<&'static str> {
    let is = |words: &[&str]| words.iter().any(|word| problem.contains(word));
    // As rustls words them.
    if is(&["UnknownIssuer", "BadSignature"]) {
        return Some("--ca must name the file of the authority that has signed the server's certificate");
    }
    if is(&["NotValidForName"]) {
        return Some("the server's certificate is for other names than the one in the URL");
    }
    if is(&["CertificateRequired", "certificate required"]) {
        return Some("the instance wants a certificate of the agent: --certificate and --key");
    }
    if is(&["InvalidContentType", "corrupt message"]) {
        return Some("the server does not speak TLS there: its URL begins with http://");
    }
    is(&["invalid peer certificate", "fatal alert"]).then_some("the certificates of server and agent do not fit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_no_other_machine_in_plain_and_nobody_goes_from_tls_to_plain() {
        let (here, there, tls) = ("http://127.0.0.1:8080", "http://10.0.0.4:8081", "https://10.0.0.4:8081");
        for (server, url, has_token, expected) in [
            (here, here, true, ""),
            (tls, tls, true, ""),
            (tls, here, true, ""),
            (here, "http://[::1]:8081", true, ""),
            (here, "http://LOCALHOST:8081", true, ""),
            (there, there, false, ""),
            (here, there, false, ""),
            (there, there, true, "could read the token"),
            (here, there, true, "could read the token"),
            (tls, there, true, "could read the token"),
            (tls, there, false, "without TLS"),
            (tls, "http://127.0.0.1@10.0.0.4:8081", false, "without TLS"),
            (tls, "http://127.0.0.1.example:8081", false, "without TLS"),
            (tls, "http://", false, "without TLS"),
        ] {
            match check_way(server, url, has_token) {
                Ok(()) => assert_eq!(expected, "", "{server} {url} {has_token}"),
                Err(reason) => assert!(
                    !expected.is_empty() && reason.contains(expected),
                    "{server} {url}: {reason}"
                ),
            }
        }
    }

    #[test]
    fn what_is_wrong_with_tls_comes_with_what_to_do() {
        for (problem, expected) in [
            ("invalid peer certificate: UnknownIssuer", Some("--ca must name")),
            (
                "received fatal alert: CertificateRequired",
                Some("--certificate and --key"),
            ),
            ("invalid peer certificate: Expired", Some("do not fit")),
            ("Connection refused (os error 111)", None),
        ] {
            let found = advice(problem);
            assert_eq!(found.is_some(), expected.is_some(), "{problem}");
            assert!(
                found.unwrap_or_default().contains(expected.unwrap_or_default()),
                "{problem}: {found:?}"
            );
        }
        assert!(is_tls("https://a") && is_tls("HTTPS://a") && !is_tls("http://a") && !is_tls("häß://"));
    }
}
