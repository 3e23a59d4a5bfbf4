//! On a real cluster; see also the suite that every store passes.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use arm::Change;
use serde_json::json;

use super::cluster::Cluster;
use super::*;
use crate::store::suite::{batch, operation, put};
use crate::store::{Collection, InstanceState};

/// A cluster, or `None` where there is no etcd: said aloud, and a failure in CI.
pub(crate) fn cluster(members: usize) -> Option<Cluster> {
    cluster_with(members, None)
}

fn cluster_with(members: usize, tls: Option<cluster::MemberTls>) -> Option<Cluster> {
    if cluster::is_installed() {
        return Some(Cluster::start_with(members, tls).unwrap());
    }
    let problem = "test with etcd NOT RUN: /usr/bin/etcd (package etcd-server) is not installed";
    assert!(std::env::var_os("CI").is_none(), "{problem}");
    eprintln!("{problem}");
    None
}

/// A store below a prefix of its own.
pub(crate) fn store(cluster: &Cluster, prefix: &str, writer: &str) -> EtcdStore {
    EtcdStore::new(&config(cluster, prefix), writer).unwrap()
}

fn config(cluster: &Cluster, prefix: &str) -> EtcdConfig {
    EtcdConfig {
        endpoints: cluster.endpoints(),
        prefix: prefix.to_owned(),
        ..EtcdConfig::default()
    }
}

fn many(count: usize) -> Vec<Write> {
    (0..count).map(|number| put(&format!("/many/{number}"), "1")).collect()
}

/// What the next news adds to what is known.
async fn next_batch(store: &EtcdStore) -> Batch {
    match store.follow().await.unwrap() {
        News::Batch(batch) => batch,
        News::Everything(stored) => panic!("everything: {stored:?}"),
    }
}

#[tokio::test]
async fn what_one_manager_writes_the_other_hears_batch_by_batch() {
    let Some(cluster) = cluster(1) else { return };
    let [mine, theirs] = ["0", "1"].map(|writer| store(&cluster, "/rw/", writer));
    assert_eq!(theirs.load().await.unwrap(), Stored::default());
    let writes = vec![
        put("/a", "1"),
        Write::PutSettings("/a".into(), json!({"x": 1})),
        Write::PutEntry(Collection::RoleAssignments, "/r".into(), json!({})),
    ];
    mine.commit(batch(0, writes.clone())).await.unwrap();
    mine.record(vec![]).await.unwrap();
    let gone = vec![
        Write::Resource(Change::Delete("/a".into())),
        Write::DeleteSettings("/a".into()),
        Write::DeleteEntry(Collection::RoleAssignments, "/r".into()),
    ];
    mine.commit(batch(1, gone.clone())).await.unwrap();
    let by_version = |version: u64, mut writes: Vec<Write>| {
        writes.sort_by_key(|write| format!("{write:?}"));
        Batch {
            version,
            follows: version - 1,
            writes,
        }
    };
    for (version, writes) in [(1, writes), (2, gone)] {
        let told = next_batch(&theirs).await;
        assert_eq!(by_version(told.version, told.writes), by_version(version, writes));
        assert_eq!(told.follows, version - 1);
    }
}

#[tokio::test]
async fn a_batch_of_any_size_is_one_change() {
    let Some(cluster) = cluster(1) else { return };
    let [mine, theirs] = ["0", "1"].map(|writer| store(&cluster, "/rw/", writer));
    theirs.load().await.unwrap();
    mine.commit(batch(0, many(5_000))).await.unwrap();
    let told = next_batch(&theirs).await;
    assert_eq!((told.version, told.writes.len()), (1, 5_000));
    assert_eq!(theirs.load().await.unwrap().resources.len(), 5_000);
    let left = cluster
        .etcdctl(&["get", "--prefix", "--keys-only", "/rw/staged/"])
        .unwrap();
    assert_eq!(left.trim(), "", "nothing is left of the pieces");
    let delete = (0..5_000).map(|number| Write::Resource(Change::Delete(format!("/many/{number}"))));
    theirs.commit(batch(1, delete.collect())).await.unwrap();
    assert_eq!(mine.load().await.unwrap().resources, []);
}

#[tokio::test]
async fn a_large_batch_whose_writer_dies_is_there_when_its_version_is_and_not_before() {
    let Some(cluster) = cluster(1) else { return };
    let [dying, other] = ["0", "1"].map(|writer| store(&cluster, "/rw/", writer));
    other.load().await.unwrap();
    let seen = dying.seen().await.unwrap();
    let mut writes = many(1_000);
    writes.push(Write::Operation(operation("op")));
    let (orders, counted) = layout::orders(&seen.head, "0", &writes).unwrap();
    let mut plan = dying.plan(&seen.head, Some(1), orders, counted);
    let pieces = dying
        .stage_if_large(&seen, &mut plan, "9-unlucky")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        other.load().await.unwrap(),
        Stored::default(),
        "laid down, and nothing yet"
    );

    dying.replace(&seen, &plan, pieces).await.unwrap().unwrap();
    assert_eq!(other.load().await.unwrap().resources.len(), 1_000);
    assert_eq!(next_batch(&other).await.writes.len(), 1_000);
    // Nothing is at its place, but who asks how it went is told.
    assert_eq!(other.operation("OP").await.unwrap(), Some(operation("op")));
    // Whoever writes next puts it there.
    other.commit(batch(1, vec![put("/many/0", "2")])).await.unwrap();
    let stored = other.load().await.unwrap();
    assert_eq!((stored.version, stored.resources.len()), (2, 1_000));
    let changed = stored.resources.iter().find(|resource| resource.id == "/many/0");
    assert_eq!(changed.unwrap().etag, "2");
    let there = cluster
        .etcdctl(&["get", "--prefix", "--keys-only", "/rw/resources/"])
        .unwrap();
    assert_eq!(there.split_whitespace().count(), 1_000);
}

#[tokio::test]
async fn what_etcd_cannot_take_is_refused_with_its_size() {
    let Some(cluster) = cluster(1) else { return };
    let mine = store(&cluster, "/rw/", "0");
    let settings = json!("x".repeat(2 << 20));
    let refused = mine
        .commit(batch(0, vec![Write::PutSettings("/a".into(), settings)]))
        .await;
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("settings/a") && words.contains("655360"), "{words}");
    assert_eq!(mine.load().await.unwrap(), Stored::default());
}

/// Each adds one to a number, many times, on what it has loaded.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_write_at_once_lose_no_update() {
    const EACH: u64 = 60;
    let Some(cluster) = cluster(3) else { return };
    let count = async |writer: &str| {
        let store = store(&cluster, "/rw/", writer);
        let mut done = 0;
        while done < EACH {
            let stored = store.load().await.unwrap();
            let before = stored.settings.get("/n").and_then(Value::as_u64).unwrap_or(0);
            let write = Write::PutSettings("/n".into(), json!(before + 1));
            match store.commit(batch(stored.version, vec![write])).await {
                Ok(()) => done += 1,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    futures::join!(count("0"), count("1"));
    let stored = store(&cluster, "/rw/", "0").load().await.unwrap();
    assert_eq!((stored.version, &stored.settings["/n"]), (2 * EACH, &json!(2 * EACH)));
}

#[tokio::test]
async fn whoever_comes_back_after_etcd_has_forgotten_loads_everything() {
    let Some(cluster) = cluster(1) else { return };
    let [mine, theirs] = ["0", "1"].map(|writer| store(&cluster, "/rw/", writer));
    mine.commit(batch(0, vec![put("/a", "1")])).await.unwrap();
    theirs.load().await.unwrap();
    for version in 1..6 {
        mine.commit(batch(version, vec![put("/a", "2")])).await.unwrap();
    }
    let now = mine.seen().await.unwrap().revision;
    cluster.etcdctl(&["compact", &now.to_string()]).unwrap();
    let News::Everything(stored) = theirs.follow().await.unwrap() else {
        panic!("it was compacted");
    };
    assert_eq!((stored.version, stored.resources.len()), (6, 1));
    mine.commit(batch(6, vec![put("/b", "1")])).await.unwrap();
    assert_eq!(next_batch(&theirs).await.version, 7);
}

#[tokio::test]
async fn without_a_quorum_writes_are_refused_and_all_heals_when_it_is_back() {
    let Some(mut cluster) = cluster(3) else { return };
    let [mine, theirs] = ["0", "1"].map(|writer| store(&cluster, "/rw/", writer));
    theirs.load().await.unwrap();
    let writes = vec![put("/a", "1"), Write::Operation(operation("op"))];
    mine.commit(batch(0, writes)).await.unwrap();
    // One is not missed, whichever it is.
    cluster.kill(0);
    mine.commit(batch(1, vec![put("/b", "1")])).await.unwrap();
    cluster.freeze(1);
    let refused = mine.commit(batch(2, vec![put("/c", "1")])).await.unwrap_err();
    let words = refused.to_string();
    assert!(matches!(refused, StoreError::Away { unsure: false, .. }), "{words}");
    assert!(
        cluster.endpoints().iter().all(|url| words.contains(url.as_str())),
        "{words}"
    );
    assert!(mine.trouble().unwrap().contains("does not answer"));
    assert_eq!(mine.operation("op").await.unwrap(), Some(operation("op")));
    let unknown = mine.operation("unknown").await;
    assert!(matches!(unknown, Err(StoreError::Away { .. })), "{unknown:?}");
    cluster.go_on(1);
    cluster.run(0).unwrap();
    // A client's write does not find that out: it is refused without being sent, so that nobody waits in a queue.
    let refused = mine.commit(batch(2, vec![put("/c", "1")])).await;
    assert!(
        matches!(refused, Err(StoreError::Away { unsure: false, .. })),
        "{refused:?}"
    );
    let deadline = Instant::now() + Duration::from_secs(180);
    while let Err(error) = mine.probe().await {
        assert!(matches!(error, StoreError::Away { .. }), "{error}");
        assert!(Instant::now() < deadline, "{error}");
    }
    mine.commit(batch(2, vec![put("/c", "2")])).await.unwrap();
    assert_eq!(mine.trouble(), None);
    for version in 1..=3 {
        assert_eq!(next_batch(&theirs).await.version, version);
    }
    assert_eq!(theirs.load().await.unwrap().resources.len(), 3);
}

#[tokio::test]
async fn an_instance_is_run_once_and_its_manager_may_come_back() {
    let Some(cluster) = cluster(1) else { return };
    let store = store(&cluster, "/rw/", "0");
    let identity = |id: &str| Identity {
        id: id.to_owned(),
        machine: format!("machine-{id}"),
        pid: 42,
        api: "127.0.0.1:8080".to_owned(),
        since: "2026-11-20T00:00:00Z".to_owned(),
    };
    let first = store.claim(identity("a"), &[0]).await.unwrap();
    let words = store.claim(identity("b"), &[0]).await.unwrap_err().to_string();
    for said in ["instance 0", "machine-a", "process 42", "--instance"] {
        assert!(words.contains(said), "{words}");
    }
    store.claim(identity("b"), &[1]).await.unwrap();
    // Killed and started again, before anybody has noticed.
    let again = store.claim(identity("a"), &[0]).await.unwrap();
    store.leave(&first).await;
    assert!(store.claim(identity("b"), &[0]).await.is_err(), "the new life has it");
    store.leave(&again).await;
    store.claim(identity("b"), &[0]).await.unwrap();
}

/// An authority, and what it vouches for: a key and a certificate for 127.0.0.1, as PEM files.
fn vouched_for(place: &std::path::Path, name: &str) -> cluster::MemberTls {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
    let write = |what: &str, text: String| {
        let path = place.join(format!("{name}-{what}.pem"));
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut authority = CertificateParams::default();
    authority
        .distinguished_name
        .push(DnType::CommonName, format!("authority of {name}"));
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_key = KeyPair::generate().unwrap();
    let ca = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    cluster::MemberTls {
        ca: write("ca", ca),
        certificate: write("certificate", certificate.pem()),
        key: write("key", key.serialize_pem()),
    }
}

#[tokio::test]
async fn what_is_told_of_instances_is_known_at_once_and_what_is_long_is_written_only_when_it_changes() {
    let Some(cluster) = cluster(1) else { return };
    let [ours, theirs] = ["0", "1"].map(|writer| store(&cluster, "/rw/", writer));
    for (number, store) in [&ours, &theirs].into_iter().enumerate() {
        let identity = Identity {
            id: number.to_string(),
            machine: "m".to_owned(),
            pid: 1,
            api: "127.0.0.1:1".to_owned(),
            since: "2026-11-20T00:00:00Z".to_owned(),
        };
        store.claim(identity, &[number]).await.unwrap();
    }
    let state = |intent_version, down: &[&str]| InstanceState {
        up: true,
        intent_version,
        peers_down: down.iter().map(|&id| id.to_owned()).collect(),
        peers_down_count: down.len(),
        ..InstanceState::default()
    };
    let mut written = Vec::new();
    for said in [
        state(1, &["/p"]),
        state(2, &["/p"]),
        state(3, &[]),
        state(4, &["/p", "/q"]),
    ] {
        let states = BTreeMap::from([(0, said.clone())]);
        Store::meet(&ours, Box::new(|| states)).await.unwrap();
        Store::meet(&theirs, Box::new(BTreeMap::new)).await.unwrap();
        assert_eq!(theirs.presence()[0].state, Some(said));
        let row = ours.range(get(ours.keys.below("down/0"))).await.unwrap().kvs.pop();
        written.push(row.unwrap().mod_revision);
    }
    assert_eq!(written[0], written[1]);
    assert!(written[1] < written[2] && written[2] < written[3], "{written:?}");
}

#[tokio::test]
async fn over_tls_both_sides_are_who_they_say_or_nothing_is_stored() {
    let place = tempfile::tempdir().unwrap();
    let files = vouched_for(place.path(), "etcd");
    let others = vouched_for(place.path(), "others");
    let Some(cluster) = cluster_with(1, Some(files.clone())) else {
        return;
    };
    let store = |ca: &std::path::Path, shown: Option<&cluster::MemberTls>| {
        let config = EtcdConfig {
            ca: Some(ca.to_owned()),
            certificate: shown.map(|files| files.certificate.clone()),
            key: shown.map(|files| files.key.clone()),
            ..config(&cluster, "/rw/")
        };
        EtcdStore::new(&config, "0").unwrap()
    };
    let trusted = store(&files.ca, Some(&files));
    trusted.commit(batch(0, vec![put("/a", "1")])).await.unwrap();
    assert_eq!(trusted.load().await.unwrap().version, 1);
    // A member that another authority vouches for; a client that none does, or another one.
    let wrong = [
        store(&others.ca, Some(&files)),
        store(&files.ca, None),
        store(&files.ca, Some(&others)),
    ];
    for refused in futures::future::join_all(wrong.iter().map(EtcdStore::probe)).await {
        assert!(
            matches!(&refused, Err(StoreError::Away { problems, .. }) if problems.contains("https://127.0.0.1")),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_user_of_etcd_is_signed_in_and_a_wrong_password_is_told() {
    let Some(cluster) = cluster(1) else { return };
    for words in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        cluster.etcdctl(words).unwrap();
    }
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("password");
    let with = |password: &str| {
        std::fs::write(&file, password).unwrap();
        let config = EtcdConfig {
            user: Some("root".to_owned()),
            password_file: Some(file.clone()),
            ..config(&cluster, "/rw/")
        };
        EtcdStore::new(&config, "0").unwrap()
    };
    let signed_in = with("secret\n");
    signed_in.commit(batch(0, vec![put("/a", "1")])).await.unwrap();
    let refused = with("wrong").load().await.unwrap_err();
    assert!(refused.to_string().contains("authentication failed"), "{refused}");
    let nobody = store(&cluster, "/rw/", "0").load().await.unwrap_err();
    assert!(nobody.advice().contains("user of [store]"), "{nobody}");
}
