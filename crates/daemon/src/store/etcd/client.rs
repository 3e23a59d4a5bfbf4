//! Questions and orders to etcd's members: one that does not answer is left for the next, until the patience is over.
//!
//! Every order that is sent through here may be sent twice (the answer to the first may be lost), so it must be harmless then.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::tls::{self, Identity};
use tokio::time::{Instant, sleep, timeout};
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};

use super::pb;
use super::pb::auth_client::AuthClient;
use super::pb::kv_client::KvClient;
use crate::store::StoreError;

/// etcd's, where an endpoint names none.
const PORT: u16 = 2379;
/// One member gets so long for one answer; then the next one is asked.
const ATTEMPT: Duration = Duration::from_secs(2);
/// A connection that takes longer is none.
const CONNECT: Duration = Duration::from_secs(1);
/// Members end connections that are asked for signs of life more than every 5 s (`--grpc-keepalive-min-time`).
const KEEP_ALIVE: Duration = Duration::from_secs(6);
/// A member that gives no sign of life for so long is left.
const KEEP_ALIVE_PATIENCE: Duration = Duration::from_secs(3);
/// When all members were asked in vain.
const REST: Duration = Duration::from_millis(100);
/// Far above what one page or one transaction can be.
const MAX_MESSAGE: usize = 64 << 20;

/// `[store]` with `kind = "etcd"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdConfig {
    /// `http://HOST:PORT` or `https://HOST:PORT`, each member of the cluster.
    pub endpoints: Vec<String>,
    /// All keys begin with it; it begins and ends with a slash.
    pub prefix: String,
    /// PEM file: the authority of the members' certificates.
    pub ca: Option<PathBuf>,
    /// PEM file: our certificate, if the members want one.
    pub certificate: Option<PathBuf>,
    /// PEM file: its key.
    pub key: Option<PathBuf>,
    /// Who we are, where etcd has users.
    pub user: Option<String>,
    /// File with that user's password.
    pub password_file: Option<PathBuf>,
}

/// Why etcd did not do it.
#[derive(Debug)]
pub(super) enum Failure {
    /// No member answers, or those that do have no quorum.
    Away {
        /// By endpoint.
        problems: BTreeMap<String, String>,
        /// Some member may have got it, and may carry it out later.
        may_have_arrived: bool,
    },
    /// etcd says no.
    Refused(Status),
}

/// All members.
pub(super) struct Client {
    members: Vec<Member>,
    /// The one that answered last.
    first: AtomicUsize,
    user: Option<(String, String)>,
    /// What sign-in gave.
    token: Mutex<Option<AsciiMetadataValue>>,
}

struct Member {
    url: String,
    channel: Channel,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.members.iter().map(|member| &member.url))
            .finish()
    }
}

impl Client {
    /// Connects to nobody yet. Must run inside a tokio runtime.
    pub(super) fn new(config: &EtcdConfig) -> Result<Client, StoreError> {
        let tls = tls(config)?;
        let member = |url: &String| {
            let channel = channel(url, tls.clone()).map_err(|problem| StoreError::EtcdConfig(problem.to_string()))?;
            Ok(Member {
                url: url.clone(),
                channel,
            })
        };
        let user = match (&config.user, &config.password_file) {
            (Some(user), Some(file)) => {
                let password = std::fs::read_to_string(file).map_err(|source| io(file, source))?;
                Some((user.clone(), password.trim_end_matches(['\r', '\n']).to_owned()))
            }
            _ => None,
        };
        Ok(Client {
            members: config.endpoints.iter().map(member).collect::<Result<_, StoreError>>()?,
            first: AtomicUsize::new(0),
            user,
            token: Mutex::default(),
        })
    }

    /// Asks one member after the other until one answers or `patience` is over.
    pub(super) async fn call<T, F>(&self, patience: Duration, ask: impl Fn(Asking) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let deadline = Instant::now() + patience;
        // Each is asked, also when there is little time.
        let share = patience / u32::try_from(self.members.len()).unwrap_or(1).max(1);
        let mut problems = BTreeMap::new();
        let mut may_have_arrived = false;
        let mut signed_in_again = false;
        loop {
            let start = self.first.load(Ordering::Relaxed);
            for step in 0..self.members.len() {
                let index = (start + step) % self.members.len();
                let member = &self.members[index];
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() && problems.len() == self.members.len() {
                    return Err(Failure::Away {
                        problems,
                        may_have_arrived,
                    });
                }
                let answer = timeout(left.min(share).min(ATTEMPT).max(REST), self.ask_one(member, &ask)).await;
                let status = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("it takes too long to answer")));
                let status = match status {
                    Ok(answer) => {
                        self.first.store(index, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(status) => status,
                };
                if status.code() == Code::Unauthenticated && self.user.is_some() && !signed_in_again {
                    signed_in_again = true;
                    *self.token() = None;
                    continue;
                }
                if !is_absence(&status) {
                    self.first.store(index, Ordering::Relaxed);
                    return Err(Failure::Refused(status));
                }
                may_have_arrived |= !is_unconnected(&status);
                problems.insert(member.url.clone(), in_words(&status));
            }
            sleep(REST).await;
        }
    }

    async fn ask_one<T, F>(&self, member: &Member, ask: impl Fn(Asking) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let token = self.signed_in(member).await?;
        ask(Asking {
            channel: member.channel.clone(),
            token,
        })
        .await
    }

    async fn signed_in(&self, member: &Member) -> Result<Option<AsciiMetadataValue>, Status> {
        let Some((name, password)) = &self.user else {
            return Ok(None);
        };
        if let Some(token) = self.token().clone() {
            return Ok(Some(token));
        }
        let request = pb::AuthenticateRequest {
            name: name.clone(),
            password: password.clone(),
        };
        let answer = AuthClient::new(member.channel.clone()).authenticate(request).await?;
        let token = AsciiMetadataValue::try_from(answer.into_inner().token)
            .map_err(|_| Status::internal("the token cannot be sent back"))?;
        *self.token() = Some(token.clone());
        Ok(Some(token))
    }

    fn token(&self) -> std::sync::MutexGuard<'_, Option<AsciiMetadataValue>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys and values, as of the last thing that a quorum knows.
    pub(super) async fn range(
        &self,
        patience: Duration,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Failure> {
        self.call(patience, |asking| {
            let request = request.clone();
            async move { Ok(asking.kv().range(asking.request(request)).await?.into_inner()) }
        })
        .await
    }

    /// All or nothing.
    pub(super) async fn txn(&self, patience: Duration, request: pb::TxnRequest) -> Result<pb::TxnResponse, Failure> {
        self.call(patience, |asking| {
            let request = request.clone();
            async move { Ok(asking.kv().txn(asking.request(request)).await?.into_inner()) }
        })
        .await
    }
}

/// The way to one member.
pub(super) struct Asking {
    pub(super) channel: Channel,
    token: Option<AsciiMetadataValue>,
}

impl Asking {
    pub(super) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// With what proves who we are. `hasleader`: a member that is cut off from the others ends streams instead of keeping silent.
    pub(super) fn request<T>(&self, body: T) -> Request<T> {
        let mut request = Request::new(body);
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        request
    }
}

/// So that a stream's messages may be as large.
pub(super) const fn max_message() -> usize {
    MAX_MESSAGE
}

/// It is not there, or cannot at the moment; another member may.
fn is_absence(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => true,
        // What tonic makes of broken connections. etcd's own refusals begin with its name.
        Code::Unknown | Code::Internal => !status.message().starts_with("etcdserver:"),
        _ => false,
    }
}

/// Nothing was sent.
fn is_unconnected(status: &Status) -> bool {
    let mut error: Option<&dyn std::error::Error> = std::error::Error::source(status);
    while let Some(cause) = error {
        if cause.is::<tonic::ConnectError>() {
            return true;
        }
        if let Some(cause) = cause.downcast_ref::<std::io::Error>()
            && cause.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        error = cause.source();
    }
    false
}

/// The innermost cause says most.
fn in_words(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(_) => tls::innermost(status),
        None => status.message().trim_start_matches("etcdserver: ").to_owned(),
    }
}

fn channel(url: &str, tls: Option<Arc<rustls::ClientConfig>>) -> Result<Channel, tonic::transport::Error> {
    let is_tls = url.starts_with("https://");
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_PATIENCE)
        .keep_alive_while_idle(true);
    let Some(tls) = tls.filter(|_| is_tls) else {
        return Ok(endpoint.connect_lazy());
    };
    let connector = tower::service_fn(move |uri: Uri| tls::connect(uri, PORT, Arc::clone(&tls)));
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// With ring, as everywhere here; tonic's own would bring another set of features.
fn tls(config: &EtcdConfig) -> Result<Option<Arc<rustls::ClientConfig>>, StoreError> {
    let Some(ca) = &config.ca else {
        return Ok(None);
    };
    let identity = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => Some(Identity {
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        _ => None,
    };
    let tls = tls::client_config(ca, identity.as_ref()).map_err(|error| StoreError::EtcdConfig(error.to_string()))?;
    Ok(Some(tls::http2(tls)))
}

fn io(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        path: path.to_owned(),
        source,
    }
}
