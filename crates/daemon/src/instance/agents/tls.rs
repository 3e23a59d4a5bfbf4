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
    mut of_shown: Vec<Option<Stamp>>,
    shown: watch::Sender<Arc<ServerConfig>>,
    problem: AgentPortProblem,
) {
    while !shown.is_closed() {
        sleep(LOOK_AGAIN).await;
        let now = files.stamps();
        if now == of_shown {
            // Also when they are back after something else.
            problem.set(None);
            continue;
        }
        match files.load() {
            Ok(config) => {
                tracing::info!("agents are shown the certificate anew");
                shown.send_replace(config);
                of_shown = now;
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
    use tokio::time::timeout;

    use super::*;

    /// Virtual time. A look costs no more than it takes.
    const DEADLINE: Duration = Duration::from_secs(600);

    /// Another file takes the place of the one that is there, which goes on to exist: a new file never has the inode of an old one.
    fn put(path: &Path, text: &str) {
        let next = path.with_extension("next");
        std::fs::write(&next, text).unwrap();
        if let Some((inode, ..)) = stamp(path) {
            std::fs::rename(path, path.with_extension(inode.to_string())).unwrap();
        }
        std::fs::rename(next, path).unwrap();
    }

    fn write(files: &AgentTls) {
        let made = rcgen::generate_simple_self_signed(["agents.example".to_owned()]).unwrap();
        put(&files.identity.certificate, &made.cert.pem());
        put(&files.identity.key, &made.signing_key.serialize_pem());
    }

    fn files(directory: &Path) -> AgentTls {
        AgentTls {
            identity: Identity {
                certificate: directory.join("tls.pem"),
                key: directory.join("key.pem"),
            },
            client_ca: None,
        }
    }

    async fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let condition = async {
            while !condition() {
                sleep(RETRY).await;
            }
        };
        assert!(timeout(DEADLINE, condition).await.is_ok(), "waited in vain: {what}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_comes_late_or_changes_is_taken_and_one_that_is_broken_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let problem = AgentPortProblem::default();
        let waiting = tokio::spawn(shown(files.clone(), problem.clone()));
        until("the missing file is told of", || problem.get().is_some()).await;
        assert!(problem.get().unwrap().contains("tls.pem"));
        write(&files);
        let mut shown = timeout(DEADLINE, waiting).await.unwrap().unwrap();
        assert_eq!(problem.get(), None);
        let first = Arc::clone(&shown.borrow_and_update());

        put(&files.identity.certificate, "half of it");
        until("the broken file is told of", || problem.get().is_some()).await;
        assert!(Arc::ptr_eq(&first, &shown.borrow()), "the one of before is shown on");
        write(&files);
        timeout(DEADLINE, shown.changed()).await.unwrap().unwrap();
        assert!(!Arc::ptr_eq(&first, &shown.borrow()));
        until("nothing is wrong", || problem.get().is_none()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_was_moved_away_and_back_is_no_problem_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        write(&files);
        let problem = AgentPortProblem::default();
        let shown = shown(files.clone(), problem.clone()).await;
        let (here, away) = (&files.identity.certificate, directory.path().join("away"));
        std::fs::rename(here, &away).unwrap();
        until("the missing file is told of", || problem.get().is_some()).await;
        std::fs::rename(&away, here).unwrap();
        until("nothing is wrong", || problem.get().is_none()).await;
        assert!(!shown.has_changed().unwrap(), "what is shown is what was shown");
    }
}
