//! The certificate that agents are shown: read from the files that the configuration names, and again whenever one of them changes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::tls::{Identity, TlsFileError, server_config};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::time::sleep;

use super::port::AgentPortProblem;

/// Time between two looks at the files.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Time between two attempts when there is no certificate at all.
const RETRY: Duration = Duration::from_secs(1);

/// `certificate`, `key` and `client_ca` of `[agents]`: TLS on the agents' port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentTls {
    /// What agents are shown.
    pub identity: Identity,
    /// PEM file: only agents with a certificate of these authorities may connect.
    pub client_ca: Option<PathBuf>,
}

impl AgentTls {
    /// What the files say now.
    pub(crate) fn load(&self) -> Result<Arc<ServerConfig>, TlsFileError> {
        server_config(&self.identity, self.client_ca.as_deref())
    }

    /// Tells one state of the files from another.
    fn stamps(&self) -> Vec<Option<Stamp>> {
        let Identity { certificate, key } = &self.identity;
        let files = [Some(certificate), Some(key), self.client_ca.as_ref()];
        files.into_iter().flatten().map(|path| stamp(path)).collect()
    }
}

/// Inode, size, and time of the last change in nanoseconds.
type Stamp = (u64, u64, i128);

fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    let changed = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
    Some((file.ino(), file.size(), changed))
}

/// What agents are shown, at each moment. Waits until there is something to show: a missing file is no reason not to route.
pub(in crate::instance) async fn shown(
    files: AgentTls,
    problem: AgentPortProblem,
) -> watch::Receiver<Arc<ServerConfig>> {
    loop {
        // Looked at before they are read: what changes in between is read again.
        let stamps = files.stamps();
        match files.load() {
            Ok(config) => {
                problem.set(None);
                let (sender, shown) = watch::channel(config);
                tokio::spawn(follow(files, stamps, sender, problem));
                return shown;
            }
            Err(error) => problem.set(Some(format!(
                "agents cannot connect: {error}; [agents] certificate, key and client_ca name the files"
            ))),
        }
        sleep(RETRY).await;
    }
}

/// Looks at the files as long as somebody shows what is in them.
async fn follow(
    files: AgentTls,
    mut stamps: Vec<Option<Stamp>>,
    shown: watch::Sender<Arc<ServerConfig>>,
    problem: AgentPortProblem,
) {
    while !shown.is_closed() {
        sleep(LOOK_AGAIN).await;
        let now = files.stamps();
        if now == stamps {
            continue;
        }
        match files.load() {
            Ok(config) => {
                tracing::info!("agents are shown the certificate anew");
                shown.send_replace(config);
                stamps = now;
                problem.set(None);
            }
            // Perhaps only half of it is there yet.
            Err(error) => problem.set(Some(format!(
                "agents are shown the certificate of before, since the new one cannot be used: {error}"
            ))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn write(files: &AgentTls) {
        let made = rcgen::generate_simple_self_signed(["agents.example".to_owned()]).unwrap();
        std::fs::write(&files.identity.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.identity.key, made.signing_key.serialize_pem()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_comes_late_or_changes_is_taken_and_one_that_is_broken_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let files = AgentTls {
            identity: Identity {
                certificate: directory.path().join("tls.pem"),
                key: directory.path().join("key.pem"),
            },
            client_ca: None,
        };
        let problem = AgentPortProblem::default();
        let waiting = tokio::spawn(shown(files.clone(), problem.clone()));
        while problem.get().is_none() {
            tokio::task::yield_now().await;
        }
        assert!(problem.get().unwrap().contains("tls.pem"));
        write(&files);
        let mut shown = waiting.await.unwrap();
        assert_eq!(problem.get(), None);
        let first = Arc::clone(&shown.borrow_and_update());

        std::fs::write(&files.identity.certificate, "half of it").unwrap();
        while problem.get().is_none() {
            sleep(LOOK_AGAIN).await;
        }
        assert!(Arc::ptr_eq(&first, &shown.borrow()), "the one of before is shown on");
        write(&files);
        shown.changed().await.unwrap();
        assert!(!Arc::ptr_eq(&first, &shown.borrow()));
        while problem.get().is_some() {
            tokio::task::yield_now().await;
        }
    }
}
