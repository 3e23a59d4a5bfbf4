//! One instance, as an agent follows it: connects, keeps trying, tells the NICs what the instance says, confirms what they have
//! installed, and notices when it is silent.
//!
//! Connections are made from the namespace that the agent was started in, whatever namespaces its NICs are in.

use std::collections::BTreeMap;
use std::time::Duration;

use api::agent::routes_client::RoutesClient;
use api::agent::{FromAgent, Hello, from_agent, to_agent};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::confirm::Confirmations;
use crate::discover::{self, Server};
use crate::merge::Said;
use crate::nic::Input;
use crate::tables::{StreamError, Tables, Told};

/// Until an instance says how long silence may be.
pub(crate) const DEFAULT_SILENCE: Duration = Duration::from_secs(10);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LAST_BACK_OFF: Duration = Duration::from_secs(2);

/// A snapshot of a million routes is about 30 MB.
const MAX_MESSAGE: usize = 256 << 20;

/// HTTP/2 windows: a large snapshot should not wait for the return path.
const WINDOW: u32 = 4 << 20;

/// Confirmations under way to the transport.
const OUTGOING: usize = 16;

/// Which instance to follow.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// A `--server` URL.
    pub(crate) server: String,
    /// Which of the manager's instances, if the server is the manager.
    pub(crate) index: usize,
    /// Where the instance was found.
    pub(crate) url: String,
    /// The server is the manager, so the instance may be elsewhere tomorrow.
    pub(crate) by_manager: bool,
}

/// Follows one instance for ever.
pub(crate) struct Client {
    pub(crate) voice: usize,
    pub(crate) name: String,
    pub(crate) source: Source,
    pub(crate) http: reqwest::Client,
    pub(crate) nics: BTreeMap<String, mpsc::Sender<Input>>,
    pub(crate) confirmations: Confirmations,
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Url(String),
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("the stream ended: {0}")]
    Status(#[from] Box<tonic::Status>),
    #[error("the instance ended the stream")]
    Over,
    #[error("nothing heard for {0:?}")]
    Silent(Duration),
    #[error("the stream makes no sense: {0}")]
    Stream(#[from] StreamError),
    #[error("a NIC's thread has ended")]
    NicGone,
}

struct State {
    tables: Tables,
    silence: Duration,
    last_heard: Instant,
    silent: bool,
}

impl Client {
    /// Returns only when a NIC's thread is gone.
    pub(crate) async fn run(mut self) {
        let mut state = State {
            tables: Tables::default(),
            silence: DEFAULT_SILENCE,
            last_heard: Instant::now(),
            silent: false,
        };
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let begin = Instant::now();
            let ended = self.follow(&mut state).await;
            if matches!(ended, Ended::NicGone) {
                return;
            }
            if state.last_heard > begin {
                back_off = FIRST_BACK_OFF;
                tracing::warn!(url = %self.source.url, reason = %ended, "lost the instance; its routes stay");
            } else {
                tracing::debug!(url = %self.source.url, reason = %ended, "no instance");
            }
            self.confirmations.clear();
            if self.pause(&mut state, back_off).await.is_err() {
                return;
            }
            back_off = (back_off * 2).min(LAST_BACK_OFF);
        }
    }

    /// Waits before the next attempt, with an eye on the silence.
    async fn pause(&mut self, state: &mut State, back_off: Duration) -> Result<(), Ended> {
        let resume = Instant::now() + back_off;
        let silent_at = state.last_heard + state.silence;
        if !state.silent && silent_at <= resume {
            tokio::time::sleep_until(silent_at).await;
            self.fall_silent(state).await?;
        }
        tokio::time::sleep_until(resume).await;
        if self.source.by_manager
            && let Server::Manager(urls) = discover::ask(&self.http, &self.source.server).await
            && let Some(url) = urls.get(self.source.index)
        {
            self.source.url.clone_from(url);
        }
        Ok(())
    }

    async fn fall_silent(&mut self, state: &mut State) -> Result<(), Ended> {
        state.silent = true;
        tracing::warn!(url = %self.source.url, after = ?state.silence, "the instance is silent");
        self.tell(Told {
            nic: None,
            said: Said::Silent,
            confirm: None,
        })
        .await
    }

    /// One stream, from its beginning to its end.
    async fn follow(&mut self, state: &mut State) -> Ended {
        match self.stream(state).await {
            Ok(never) => match never {},
            Err(ended) => {
                if !state.silent
                    && state.last_heard + state.silence <= Instant::now()
                    && let Err(gone) = self.fall_silent(state).await
                {
                    return gone;
                }
                ended
            }
        }
    }

    async fn stream(&mut self, state: &mut State) -> Result<std::convert::Infallible, Ended> {
        let endpoint = Endpoint::from_shared(self.source.url.clone())
            .map_err(|error| Ended::Url(format!("{} is no URL: {error}", self.source.url)))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let channel = endpoint.connect().await?;
        let mut client = RoutesClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let (outgoing, requests) = mpsc::channel(OUTGOING);
        let hello = Hello {
            agent: self.name.clone(),
            nics: self.nics.keys().cloned().collect(),
        };
        let hello = FromAgent {
            body: Some(from_agent::Body::Hello(hello)),
        };
        outgoing.send(hello).await.map_err(|_| Ended::Over)?;
        let answer = tokio::time::timeout(state.silence, client.follow(ReceiverStream::new(requests))).await;
        let mut incoming = answer
            .map_err(|_| Ended::Silent(state.silence))?
            .map_err(Box::new)?
            .into_inner();
        let mut welcomed = false;
        let mut quiet_since = Instant::now();
        loop {
            let confirmation = async {
                let permit = outgoing.reserve().await.ok();
                (permit, self.confirmations.next().await)
            };
            let message = tokio::select! {
                message = incoming.message() => message.map_err(Box::new)?.ok_or(Ended::Over)?,
                (permit, installed) = confirmation => {
                    let permit = permit.ok_or(Ended::Over)?;
                    permit.send(FromAgent { body: Some(from_agent::Body::Installed(installed)) });
                    continue;
                }
                () = tokio::time::sleep_until(quiet_since + state.silence) => return Err(Ended::Silent(state.silence)),
            };
            if let Some(to_agent::Body::Welcome(welcome)) = &message.body {
                if welcome.silence_secs > 0 {
                    state.silence = Duration::from_secs(welcome.silence_secs.into());
                }
                state.silent = false;
                welcomed = true;
                tracing::info!(url = %self.source.url, instance = welcome.instance, epoch = welcome.epoch, "following the instance");
            } else if !welcomed {
                return Err(StreamError::NoWelcome.into());
            }
            for told in state.tables.handle(message)? {
                self.tell(told).await?;
            }
            // Counted from here: while a NIC's thread was busy we did not listen.
            quiet_since = Instant::now();
            state.last_heard = quiet_since;
        }
    }

    async fn tell(&self, told: Told) -> Result<(), Ended> {
        let input = |said: Said| Input {
            voice: self.voice,
            said,
            confirm: told.confirm,
        };
        match &told.nic {
            Some(nic) => match self.nics.get(nic) {
                Some(sender) => sender.send(input(told.said.clone())).await.map_err(|_| Ended::NicGone),
                None => Ok(()),
            },
            None => {
                for sender in self.nics.values() {
                    sender
                        .send(input(told.said.clone()))
                        .await
                        .map_err(|_| Ended::NicGone)?;
                }
                Ok(())
            }
        }
    }
}
