//! Who runs which instance: a key that goes with its lease, so that each manager knows of the other, and no two run the same instance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;

use super::client::{Asking, Failure};
use super::pb::lease_client::LeaseClient;
use super::pb::{self, compare, request_op};
use super::{EtcdStore, PATIENCE, layout};
use crate::store::{InstanceState, Presence, StoreError};

/// A manager that says nothing for so long is gone, in seconds.
const LEASE_SECS: i64 = 10;
/// How often a manager says that it is there, and looks who else is.
const BEAT: Duration = Duration::from_secs(2);
/// Below it is how instances are.
const STATES: &str = "states/";
/// Below it are the peerings that are down: there can be many, so they are written only when they change.
const DOWN: &str = "down/";

/// A manager, as the others are to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Of its data directory: one that is started again takes its place again at once.
    pub id: String,
    /// The machine's name.
    pub machine: String,
    /// Process id there.
    pub pid: u32,
    /// Where its API listens.
    pub api: String,
    /// Since when it is there, RFC 3339.
    pub since: String,
}

/// What a manager has claimed.
#[derive(Clone, Debug)]
pub struct Place {
    identity: Identity,
    instances: Vec<usize>,
    /// The lease that keeps it. It changes when the place was lost while etcd was away.
    lease: Arc<AtomicI64>,
    states: watch::Sender<States>,
    met: Arc<tokio::sync::Mutex<Met>>,
}

/// What was told and seen last; held by whoever tells and looks, so that nothing older comes after.
#[derive(Debug, Default)]
struct Met {
    /// With the lease that keeps it.
    told: Option<(i64, States)>,
    /// Since when others are gone.
    gone: BTreeMap<usize, String>,
}

/// How instances are, by number.
type States = BTreeMap<usize, InstanceState>;

impl Place {
    /// What the others are told of the instances that are run here, with the next beat. Who asks last is told last.
    pub fn say(&self, states: impl FnOnce() -> BTreeMap<usize, InstanceState>) {
        self.states.send_modify(|said| *said = states());
    }
}

impl EtcdStore {
    /// Takes the place of each of these instances.
    ///
    /// # Errors
    ///
    /// [`StoreError::NumberTaken`] when another manager runs one of them.
    pub async fn claim(&self, identity: Identity, instances: &[usize]) -> Result<Place, StoreError> {
        let place = Place {
            identity,
            instances: instances.to_vec(),
            lease: Arc::default(),
            states: watch::Sender::default(),
            met: Arc::default(),
        };
        self.take_place(&place).await?;
        self.known().place = Some(place.clone());
        Ok(place)
    }

    async fn take_place(&self, place: &Place) -> Result<(), StoreError> {
        let lease = self.grant().await?;
        for &instance in &place.instances {
            if let Err(error) = self.claim_one(&place.identity, instance, lease).await {
                self.revoke(lease).await;
                return Err(error);
            }
        }
        place.lease.store(lease, Ordering::Relaxed);
        Ok(())
    }

    /// Says that we are gone.
    pub async fn leave(&self, place: &Place) {
        self.revoke(place.lease.load(Ordering::Relaxed)).await;
    }

    async fn claim_one(&self, identity: &Identity, instance: usize, lease: i64) -> Result<(), StoreError> {
        loop {
            let found = self
                .range(super::get(self.keys.below(&key_of(instance))))
                .await?
                .kvs
                .pop();
            let holder: Option<Identity> = match &found {
                Some(row) => Some(layout::read("a manager", &row.value)?),
                None => None,
            };
            if let Some(holder) = holder.filter(|holder| holder.id != identity.id) {
                return Err(StoreError::NumberTaken {
                    instance,
                    machine: holder.machine,
                    pid: holder.pid,
                    since: holder.since,
                });
            }
            let text = serde_json::to_string(identity).unwrap_or_default();
            let put = |key: String, lease| pb::RequestOp {
                request: Some(request_op::Request::RequestPut(pb::PutRequest {
                    key: self.keys.below(&key),
                    value: text.clone().into_bytes(),
                    lease,
                })),
            };
            let request = pb::TxnRequest {
                compare: vec![pb::Compare {
                    result: compare::CompareResult::Equal.into(),
                    target: compare::CompareTarget::Mod.into(),
                    key: self.keys.below(&key_of(instance)),
                    target_union: Some(compare::TargetUnion::ModRevision(
                        found.map_or(0, |row| row.mod_revision),
                    )),
                }],
                success: vec![put(key_of(instance), lease), put(format!("members/{instance}"), 0)],
                ..Default::default()
            };
            if self.txn(request).await?.succeeded {
                return Ok(());
            }
        }
    }

    async fn grant(&self) -> Result<i64, StoreError> {
        let ask = async |asking: Asking| {
            let request = pb::LeaseGrantRequest { ttl: LEASE_SECS, id: 0 };
            let answer = LeaseClient::new(asking.channel.clone())
                .lease_grant(asking.request(request))
                .await?;
            Ok(answer.into_inner().id)
        };
        let answer = self.client.call(self.patience(), ask).await;
        self.noted(answer).map_err(|failure| failure.into_error(false))
    }

    async fn revoke(&self, lease: i64) {
        let ask = async |asking: Asking| {
            let request = pb::LeaseRevokeRequest { id: lease };
            let answer = LeaseClient::new(asking.channel.clone())
                .lease_revoke(asking.request(request))
                .await?;
            Ok(answer.into_inner())
        };
        if self.client.call(Duration::from_millis(500), ask).await.is_err() {
            tracing::debug!(lease, "a lease was not given back; it ends by itself");
        }
    }

    /// Whether the lease lives still.
    async fn keep_alive(&self, lease: i64) -> Result<bool, Failure> {
        let ask = async |asking: Asking| {
            let (questions, asked) = mpsc::channel(1);
            let _ = questions.send(pb::LeaseKeepAliveRequest { id: lease }).await;
            let mut client = LeaseClient::new(asking.channel.clone());
            let answers = client
                .lease_keep_alive(asking.request(ReceiverStream::new(asked)))
                .await?;
            let answer = answers.into_inner().message().await?;
            answer
                .map(|answer| answer.ttl > 0)
                .ok_or_else(|| tonic::Status::unavailable("no answer"))
        };
        let answer = self.client.call(PATIENCE, ask).await;
        self.noted(answer)
    }

    /// Tells the others what has changed of how our instances are.
    async fn tell(&self, place: &Place, met: &mut Met) -> Result<(), StoreError> {
        let now = (place.lease.load(Ordering::Relaxed), place.states.borrow().clone());
        if now.1.is_empty() || met.told.as_ref() == Some(&now) {
            return Ok(());
        }
        let told = met.told.as_ref().filter(|(lease, _)| *lease == now.0);
        let put = |key: String, value: Vec<u8>| pb::RequestOp {
            request: Some(request_op::Request::RequestPut(pb::PutRequest {
                key: self.keys.below(&key),
                value,
                lease: now.0,
            })),
        };
        let mut success = Vec::new();
        for (instance, state) in &now.1 {
            let down = &state.peers_down;
            if told
                .and_then(|(_, states)| states.get(instance))
                .map(|told| &told.peers_down)
                != Some(down)
            {
                let down = serde_json::to_vec(down).unwrap_or_default();
                success.push(put(format!("{DOWN}{instance}"), down));
            }
            let short = InstanceState {
                peers_down: Vec::new(),
                ..state.clone()
            };
            let short = serde_json::to_vec(&short).unwrap_or_default();
            success.push(put(format!("{STATES}{instance}"), short));
        }
        let request = pb::TxnRequest {
            success,
            ..Default::default()
        };
        self.txn(request).await?;
        met.told = Some(now);
        Ok(())
    }

    /// Tells the others how our instances are, and then looks how theirs are: of two that do so at once, one at least hears of the
    /// other.
    pub(super) async fn meet(&self, place: &Place) -> Result<(), StoreError> {
        let mut met = place.met.lock().await;
        let told = self.tell(place, &mut met).await;
        self.look_around(&place.instances, &mut met.gone).await?;
        told
    }

    /// How the instances of the others are.
    async fn states(&self) -> Result<States, StoreError> {
        let mut states: States = self.numbered(STATES).await?;
        let is_short = |state: &InstanceState| state.peers_down_count > 0 && state.peers_down.is_empty();
        if states.values().any(is_short) {
            let mut down: BTreeMap<usize, Vec<String>> = self.numbered(DOWN).await?;
            for (instance, state) in states.iter_mut().filter(|(_, state)| is_short(state)) {
                state.peers_down = down.remove(instance).unwrap_or_default();
            }
        }
        Ok(states)
    }

    /// What is kept by instance below `part`.
    async fn numbered<T: DeserializeOwned>(&self, part: &str) -> Result<BTreeMap<usize, T>, StoreError> {
        let key = self.keys.below(part);
        let end = layout::end_of(&key);
        let mut found = BTreeMap::new();
        for row in self.all(key, end, 0).await?.0 {
            let number = self.keys.rest(&row.key).and_then(|key| key.strip_prefix(part));
            if let Some(Ok(number)) = number.map(str::parse) {
                found.insert(number, layout::read(part, &row.value)?);
            }
        }
        Ok(found)
    }

    /// Looks who is there.
    async fn look_around(&self, mine: &[usize], gone: &mut BTreeMap<usize, String>) -> Result<(), StoreError> {
        let there: BTreeMap<usize, Identity> = self.numbered("managers/").await?;
        let members: BTreeMap<usize, Identity> = self.numbered("members/").await?;
        let mut states = self.states().await?;
        let others = members.into_iter().filter(|(instance, _)| !mine.contains(instance));
        let presence = others.map(|(instance, last)| match there.get(&instance) {
            Some(identity) => {
                if gone.remove(&instance).is_some() {
                    tracing::info!(
                        instance,
                        machine = identity.machine,
                        "the manager of the other instance is back"
                    );
                }
                Presence {
                    state: states.remove(&instance),
                    ..shown(instance, identity, None)
                }
            }
            None => {
                let since = gone.entry(instance).or_insert_with(|| {
                    tracing::warn!(
                        instance,
                        machine = last.machine,
                        "the manager of the other instance is gone"
                    );
                    jiff::Timestamp::now().to_string()
                });
                shown(instance, &last, Some(since.clone()))
            }
        });
        let presence = presence.collect();
        self.known().presence = presence;
        Ok(())
    }
}

fn shown(instance: usize, identity: &Identity, gone_since: Option<String>) -> Presence {
    Presence {
        instance,
        machine: identity.machine.clone(),
        api: identity.api.clone(),
        since: identity.since.clone(),
        gone_since,
        state: None,
    }
}

fn key_of(instance: usize) -> String {
    format!("managers/{instance}")
}

/// Keeps the place that was claimed, for ever; one that was lost while etcd was away is taken again, unless somebody else has it.
pub async fn keep_presence(store: Arc<EtcdStore>, place: Place) {
    loop {
        let beat = Instant::now();
        let kept = store.keep_alive(place.lease.load(Ordering::Relaxed)).await;
        if let Ok(false) = kept {
            match store.take_place(&place).await {
                Ok(()) => store.known().replaced = None,
                Err(error @ StoreError::NumberTaken { .. }) => {
                    tracing::error!(%error, "somebody else has taken our place; writes are refused here");
                    store.known().replaced = Some(error.to_string());
                }
                Err(error) => tracing::debug!(%error, "our place cannot be taken again yet"),
            }
        }
        if let Err(error) = store.meet(&place).await {
            tracing::debug!(%error, "the others are not told how the instances are here, or it is not known who is there");
        }
        sleep(BEAT.saturating_sub(beat.elapsed())).await;
    }
}
