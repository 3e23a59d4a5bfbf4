//! One instance, as an agent follows it: connects, keeps trying, tells the NICs what the instance says, confirms what they have
//! installed, and notices when it is silent.
//!
//! Connections are made from the namespace that the agent was started in, whatever namespaces its NICs are in.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::agent::routes_client::RoutesClient;
use api::agent::{FromAgent, Hello, ToAgent, Welcome, from_agent, to_agent};
use api::follow::BEARER;
use api::tls::{TlsFileError, http2, innermost};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Endpoint, Uri};

use crate::confirm::Confirmations;
use crate::discover::{self, Listed, Server};
use crate::merge::Said;
use crate::nic::Input;
use crate::tables::{StreamError, Tables, Told};
use crate::tls::{self, AgentTls};

/// Until an instance says how long silence may be.
pub(crate) const DEFAULT_SILENCE: Duration = Duration::from_secs(10);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LAST_BACK_OFF: Duration = Duration::from_secs(2);

/// HTTP/2 windows: a large snapshot should not wait for the return path.
const WINDOW: u32 = 4 << 20;

/// The port of an `https` URL that names none.
const HTTPS: u16 = 443;

/// Confirmations under way to the transport.
const OUTGOING: usize = 16;

/// Which instance to follow.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// A `--server` URL.
    pub(crate) server: String,
    /// Which of the manager's instances, if the server is the manager: it may be elsewhere tomorrow.
    pub(crate) instance: Option<usize>,
    /// The server was away when it was asked: it may be the manager all the same.
    pub(crate) was_away: bool,
    /// Where the instance was found, once it was.
    pub(crate) url: Option<String>,
}

impl Source {
    /// Where the manager says that this instance is. While it does not know, where it was before: another instance's place is never ours.
    fn find_in(&mut self, listed: Vec<Listed>) {
        if let Some(first) = listed.first()
            && std::mem::take(&mut self.was_away)
        {
            self.instance = Some(first.index);
            self.url = None;
        }
        let ours = listed.into_iter().find(|listed| Some(listed.index) == self.instance);
        if let Some(url) = ours.and_then(|listed| listed.agent_url) {
            self.url = Some(url);
        }
    }

    /// Whether the server may know more of where the instance is.
    fn may_be_elsewhere(&self) -> bool {
        self.instance.is_some() || self.was_away
    }

    /// Its name in the log.
    fn place(&self) -> &str {
        self.url.as_deref().unwrap_or("not known yet")
    }
}

/// Follows one instance for ever.
pub(crate) struct Client {
    pub(crate) voice: usize,
    pub(crate) name: String,
    pub(crate) token: Option<String>,
    pub(crate) tls: Option<AgentTls>,
    pub(crate) source: Source,
    pub(crate) nics: BTreeMap<String, mpsc::Sender<Input>>,
    pub(crate) confirmations: Confirmations,
    /// How many of the agent's instances are silent.
    pub(crate) silent_instances: Arc<AtomicUsize>,
    /// Why the instance refused us last, or we it, if so.
    pub(crate) refusal: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0} has no address for agents of this instance yet")]
    Nowhere(String),
    #[error("{0}")]
    Url(String),
    #[error("cannot connect: {}", innermost(.0))]
    Connect(#[from] tonic::transport::Error),
    #[error(transparent)]
    File(#[from] TlsFileError),
    #[error("{problem}: {advice}")]
    Tls { problem: String, advice: &'static str },
    #[error("the stream ended: {}", .0.message())]
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

impl Ended {
    /// The instance does not let us follow, or we do not trust it: somebody has to do something about it.
    fn is_refusal(&self) -> bool {
        match self {
            Ended::Url(_) | Ended::File(_) | Ended::Tls { .. } => true,
            Ended::Status(status) => matches!(
                status.code(),
                tonic::Code::Unauthenticated
                    | tonic::Code::PermissionDenied
                    | tonic::Code::InvalidArgument
                    | tonic::Code::ResourceExhausted
            ),
            _ => false,
        }
    }

    /// What is at the bottom of it, if that is TLS.
    fn explained(self) -> Ended {
        let problem = match &self {
            Ended::Connect(error) => innermost(error),
            Ended::Status(status) if std::error::Error::source(&**status).is_some() => innermost(&**status),
            _ => return self,
        };
        match tls::advice(&problem) {
            Some(advice) => Ended::Tls { problem, advice },
            None => self,
        }
    }
}

struct State {
    tables: Tables,
    silence: Duration,
    last_heard: Instant,
    silent: bool,
    /// Why the last attempt ended.
    ended: Option<String>,
}

impl State {
    fn new() -> State {
        State {
            tables: Tables::default(),
            silence: DEFAULT_SILENCE,
            last_heard: Instant::now(),
            silent: false,
            ended: None,
        }
    }
}

/// A stream that is open.
struct Stream {
    outgoing: mpsc::Sender<FromAgent>,
    incoming: tonic::Streaming<ToAgent>,
}

impl Client {
    /// Returns only when a NIC's thread is gone.
    pub(crate) async fn run(mut self) {
        let mut state = State::new();
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let begin = Instant::now();
            let Err(ended) = self.follow(&mut state).await;
            let ended = ended.explained();
            state.ended = Some(ended.to_string());
            if matches!(ended, Ended::NicGone) {
                return;
            }
            if state.last_heard > begin {
                back_off = FIRST_BACK_OFF;
                tracing::warn!(url = self.source.place(), reason = %ended, "lost the instance; its routes stay");
                let ended = Told {
                    nic: None,
                    said: Said::Ended,
                    confirm: None,
                };
                if self.tell(ended).await.is_err() {
                    return;
                }
            } else if !ended.is_refusal() {
                tracing::debug!(url = self.source.place(), reason = %ended, "no instance");
            }
            self.tell_refusal(&ended);
            self.confirmations.clear();
            if self
                .listening_for_silence(&mut state, tokio::time::sleep(back_off))
                .await
                .is_err()
            {
                return;
            }
            if self.source.may_be_elsewhere() && self.find_again(&mut state).await.is_err() {
                return;
            }
            back_off = (back_off * 2).min(LAST_BACK_OFF);
        }
    }

    /// Told once: it is tried again and again, since a token may be for our NICs tomorrow.
    fn tell_refusal(&mut self, ended: &Ended) {
        let refusal = ended.is_refusal().then(|| ended.to_string());
        if let Some(reason) = refusal.as_ref().filter(|_| refusal != self.refusal) {
            tracing::error!(url = self.source.place(), reason, "the instance refuses this agent");
        }
        self.refusal = refusal;
    }

    /// The instance may have come back elsewhere; the manager, if there is one, knows.
    async fn find_again(&mut self, state: &mut State) -> Result<(), Ended> {
        let (tls, server) = (self.tls.clone(), self.source.server.clone());
        let asked = discover::ask(tls.as_ref(), &server);
        match self.listening_for_silence(state, asked).await? {
            Server::Manager(listed) => self.source.find_in(listed),
            Server::Instance => self.source.was_away = false,
            Server::Absent(_) => {}
        }
        Ok(())
    }

    /// Waits for something while the instance can't be heard, and tells the NICs in time that it is silent.
    async fn listening_for_silence<T>(&self, state: &mut State, wait: impl Future<Output = T>) -> Result<T, Ended> {
        let mut wait = std::pin::pin!(wait);
        if !state.silent {
            tokio::select! {
                done = &mut wait => return Ok(done),
                () = tokio::time::sleep_until(state.last_heard + state.silence) => {}
            }
            state.silent = true;
            self.silent_instances.fetch_add(1, Ordering::Relaxed);
            let reason = state.ended.as_deref().unwrap_or_default();
            tracing::warn!(url = self.source.place(), after = ?state.silence, reason, "the instance is silent");
            self.tell(Told {
                nic: None,
                said: Said::Silent,
                confirm: None,
            })
            .await?;
        }
        Ok(wait.await)
    }

    /// One stream, from its beginning to its end.
    async fn follow(&mut self, state: &mut State) -> Result<Infallible, Ended> {
        let url = self.source.url.clone();
        let url = url.ok_or_else(|| Ended::Nowhere(self.source.server.clone()))?;
        tls::check_way(&self.source.server, &url, self.token.is_some()).map_err(Ended::Url)?;
        let hello = Hello {
            agent: self.name.clone(),
            nics: self.nics.keys().cloned().collect(),
            layers: true,
        };
        let connect = connect(&url, self.tls.as_ref(), self.token.as_deref(), hello, state.silence);
        let mut stream = self.listening_for_silence(state, connect).await??;
        let mut welcomed = false;
        let mut quiet_since = Instant::now();
        loop {
            let confirmation = async {
                let permit = stream.outgoing.reserve().await.ok();
                (permit, self.confirmations.next().await)
            };
            let message = tokio::select! {
                message = stream.incoming.message() => message.map_err(Box::new)?.ok_or(Ended::Over)?,
                (permit, installed) = confirmation => {
                    let permit = permit.ok_or(Ended::Over)?;
                    permit.send(FromAgent { body: Some(from_agent::Body::Installed(installed)) });
                    continue;
                }
                () = tokio::time::sleep_until(quiet_since + state.silence) => return Err(Ended::Silent(state.silence)),
            };
            if let Some(to_agent::Body::Welcome(welcome)) = &message.body {
                welcomed = true;
                self.welcome(state, welcome);
            } else if !welcomed {
                return Err(StreamError::NoWelcome.into());
            }
            let told = state.tables.handle(message)?;
            if told.is_empty() && self.silent_instances.load(Ordering::Relaxed) > 0 {
                self.tell(Told {
                    nic: None,
                    said: Said::Alive,
                    confirm: None,
                })
                .await?;
            }
            for told in told {
                self.tell(told).await?;
            }
            // Counted from here: while a NIC's thread was busy we did not listen.
            quiet_since = Instant::now();
            state.last_heard = quiet_since;
        }
    }

    fn welcome(&self, state: &mut State, welcome: &Welcome) {
        if welcome.silence_secs > 0 {
            state.silence = Duration::from_secs(welcome.silence_secs.into());
        }
        if std::mem::take(&mut state.silent) {
            self.silent_instances.fetch_sub(1, Ordering::Relaxed);
        }
        let Welcome { instance, epoch, .. } = *welcome;
        tracing::info!(url = self.source.place(), instance, epoch, "following the instance");
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

/// Opens a stream and says which NICs it is for. An instance that accepts and then says nothing is given up, too.
async fn connect(
    url: &str,
    tls: Option<&AgentTls>,
    token: Option<&str>,
    hello: Hello,
    patience: Duration,
) -> Result<Stream, Ended> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| Ended::Url(format!("{url} is no URL: {error}")))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let channel = match (tls::is_tls(url), tls) {
        (false, _) => endpoint.connect().await?,
        (true, None) => return Err(Ended::Url(tls::no_authority(url))),
        (true, Some(tls)) => {
            let config = http2(tls.load()?);
            let connector = move |uri: Uri| api::tls::connect(uri, HTTPS, Arc::clone(&config));
            endpoint.connect_with_connector(tower::service_fn(connector)).await?
        }
    };
    let mut client = RoutesClient::new(channel);
    let (outgoing, requests) = mpsc::channel(OUTGOING);
    outgoing
        .send(FromAgent {
            body: Some(from_agent::Body::Hello(hello)),
        })
        .await
        .map_err(|_| Ended::Over)?;
    let mut request = tonic::Request::new(ReceiverStream::new(requests));
    if let Some(token) = token {
        let value = format!("{BEARER}{token}").parse();
        let value = value.map_err(|_| Ended::Url("the token has characters that no token has".to_owned()))?;
        request.metadata_mut().insert("authorization", value);
    }
    let answer = tokio::time::timeout(patience, client.follow(request)).await;
    let incoming = answer
        .map_err(|_| Ended::Silent(patience))?
        .map_err(Box::new)?
        .into_inner();
    Ok(Stream { outgoing, incoming })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_told_of_an_instance_that_anybody_may_listen_to_does_not_even_connect() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ended = runtime.unwrap().block_on(async {
            let mut client = Client {
                voice: 0,
                name: "test".to_owned(),
                token: Some("secret".to_owned()),
                tls: None,
                source: Source {
                    server: "https://manager.example".to_owned(),
                    instance: Some(0),
                    was_away: false,
                    url: Some("http://192.0.2.1:8081".to_owned()),
                },
                nics: BTreeMap::new(),
                confirmations: Confirmations::default(),
                silent_instances: Arc::default(),
                refusal: None,
            };
            let Err(ended) = client.follow(&mut State::new()).await;
            ended
        });
        assert!(
            ended.is_refusal() && ended.to_string().contains("could read the token"),
            "{ended}"
        );
        assert!(!ended.to_string().contains("secret"), "{ended}");
    }

    #[test]
    fn an_instance_is_never_looked_for_where_another_one_is() {
        let mut source = Source {
            server: "http://127.0.0.1:8080".to_owned(),
            instance: Some(0),
            was_away: false,
            url: None,
        };
        let listed = |index, url: Option<&str>| Listed {
            index,
            agent_url: url.map(str::to_owned),
        };
        let mut check = |list: Vec<Listed>, expected: Option<&str>| {
            source.find_in(list);
            assert_eq!(source.url.as_deref(), expected);
        };
        check(vec![listed(0, None), listed(1, Some("of 1"))], None);
        check(vec![listed(1, Some("of 1")), listed(0, Some("of 0"))], Some("of 0"));
        check(vec![listed(0, None), listed(1, Some("of 1"))], Some("of 0"));
        check(vec![listed(1, Some("of 1"))], Some("of 0"));
        check(vec![listed(0, Some("elsewhere"))], Some("elsewhere"));
        // The server was taken for an instance while it was away, and is the manager of another machine.
        (source.instance, source.was_away) = (None, true);
        source.find_in(vec![]);
        assert!(source.may_be_elsewhere(), "it may list one later");
        let mut check = |list: Vec<Listed>, expected: Option<&str>| {
            source.find_in(list);
            assert_eq!((source.instance, source.url.as_deref()), (Some(1), expected));
        };
        check(vec![listed(1, None)], None);
        check(vec![listed(1, Some("of 1"))], Some("of 1"));
    }
}
