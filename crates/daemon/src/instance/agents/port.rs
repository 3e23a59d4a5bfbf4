//! Where agents connect. Somebody else may have the port for a while: that is no reason not to route, so it is waited for.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};

/// Time between two attempts.
const RETRY: Duration = Duration::from_secs(1);

/// Why agents cannot connect, if so; for health reports.
#[derive(Clone, Debug, Default)]
pub(in crate::instance) struct AgentPortProblem(Arc<Mutex<Option<String>>>);

impl AgentPortProblem {
    pub(in crate::instance) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, problem: Option<String>) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *now != problem {
            if let Some(problem) = &problem {
                tracing::warn!("{problem}");
            }
            *now = problem;
        }
    }
}

/// Agents that may be waiting to be accepted: after a start all come back at once, and whoever finds no place tries again a second later.
/// The kernel takes the lower of this and net.core.somaxconn (4,096 unless set).
const BACKLOG: u32 = 16_384;

/// Listens where it is wanted; at port 0 first where the life before did, since agents know that.
pub(in crate::instance) async fn listen(
    wanted: SocketAddr,
    before: Option<SocketAddr>,
    problem: &AgentPortProblem,
) -> TcpListener {
    // Its address may have been another one, which strangers reach.
    let again = before.filter(|before| wanted.port() == 0 && before.ip() == wanted.ip());
    loop {
        for address in again.into_iter().chain([wanted]) {
            match bind(address) {
                Ok(listener) => {
                    problem.set(None);
                    return listener;
                }
                Err(error) => problem.set(Some(format!(
                    "agents cannot connect: {address}: {error}; free that port, or choose another with [agents] listen"
                ))),
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Connections of the life before may not have ended yet.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[tokio::test]
    async fn a_port_that_somebody_has_is_taken_once_it_is_free() {
        let other = TcpListener::bind(local(0)).await.unwrap();
        let address = other.local_addr().unwrap();
        let problem = AgentPortProblem::default();
        let waiting = tokio::spawn({
            let problem = problem.clone();
            async move { listen(address, None, &problem).await.local_addr().unwrap() }
        });
        while problem.get().is_none() {
            tokio::task::yield_now().await;
        }
        assert!(problem.get().unwrap().contains("[agents] listen"));
        drop(other);
        assert_eq!(waiting.await.unwrap(), address);
        assert_eq!(problem.get(), None);
    }

    #[tokio::test]
    async fn the_address_of_the_life_before_is_not_taken_where_another_is_wanted_now() {
        let problem = AgentPortProblem::default();
        let any = listen(SocketAddr::from(([0, 0, 0, 0], 0)), None, &problem).await;
        let before = any.local_addr().unwrap();
        drop(any);
        let now = listen(local(0), Some(before), &problem).await;
        assert!(now.local_addr().unwrap().ip().is_loopback());
    }

    #[tokio::test]
    async fn a_free_port_is_kept_over_lives_as_long_as_nobody_else_has_it() {
        let problem = AgentPortProblem::default();
        // Somebody on this machine may take the port in between, but not time after time.
        for _ in 0..10 {
            let first = listen(local(0), None, &problem).await;
            let before = first.local_addr().unwrap();
            let second = listen(local(0), Some(before), &problem).await;
            assert_ne!(second.local_addr().unwrap(), before);
            drop(first);
            let third = listen(local(0), Some(before), &problem).await;
            if third.local_addr().unwrap() == before {
                return;
            }
        }
        panic!("a free port is not taken again");
    }
}
