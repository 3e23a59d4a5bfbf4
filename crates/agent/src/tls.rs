//! TLS to instances and the manager: whom the agent trusts, and what it shows of itself.

use std::path::PathBuf;

use api::tls::{Identity, TlsFileError, client_config};
use rustls::ClientConfig;

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
