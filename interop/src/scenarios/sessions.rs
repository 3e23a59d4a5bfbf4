//! Sessions: how they come up, and each way in which they end.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::password;
use crate::world::{INSTANCES, LEFT, LEFT_ADDRESS, PATIENCE, World, net, plain};

/// ```text
///   left ══ rs (both instances)      left stops, left starts
/// ```
///
/// 1. Both instances report Established, with a negotiated hold time, the NVA's identifier and route refresh if it offers that.
/// 2. The NVA's kernel has the virtual network's prefix, learned or given by the lab for software that leaves its kernel alone.
/// 3. When the NVA stops, neither session stays, and both instances say why.
/// 4. When it starts, both sessions come back by themselves.
pub(super) fn comes_up_and_goes_down(world: &mut World) -> Result<()> {
    let refresh_expected = world.speaker.offers_route_refresh();
    world.expect_peer("is Established with all its facts", LEFT, |report| {
        let capabilities = report["capabilities"].as_array().into_iter().flatten();
        let has_refresh = capabilities.filter_map(Value::as_str).any(|c| c == "route-refresh");
        report["state"] == "Established"
            && report["peerIdentifier"] == LEFT_ADDRESS.to_string().as_str()
            && report["holdTimeSecs"]
                .as_u64()
                .is_some_and(|secs| (3..=180).contains(&secs))
            && has_refresh == refresh_expected
    })?;
    ensure!(
        world.nva_has(LEFT, net("10.1.0.0/16"))?,
        "the NVA has no route to the virtual network"
    );

    let before = world.numbers(LEFT, "establishedCount")?;
    world.lab.stop(LEFT)?;
    world.lab.wait_for_peer(LEFT, false, PATIENCE)?;
    world.expect_peer("says why it is down", LEFT, |report| report["lastError"].is_string())?;

    world.lab.start(LEFT)?;
    world.expect_sessions(LEFT)?;
    let after = world.numbers(LEFT, "establishedCount")?;
    ensure!(
        before.iter().zip(&after).all(|(b, a)| a > b),
        "established {before:?} times, then {after:?}"
    );
    Ok(())
}

/// ```text
///   left ══ rs (hold time 3 s)      left's link goes down: no FIN, no RST, only silence
/// ```
///
/// 1. The hold time of the settings is offered and the smaller one is used (RFC 4271 §4.2).
/// 2. After three seconds without a word both sessions are gone, for no other reason than the hold timer, and so is the route.
/// 3. When the link is back, so are sessions and route.
pub(super) fn hold_timer(world: &mut World) -> Result<()> {
    let prefix = net("10.250.0.0/24");
    world.announce(LEFT, plain(prefix))?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS])?;
    world.set(LEFT, json!({ "holdTimeSecs": 3 }))?;
    world.expect_peer("has a hold time of 3 s", LEFT, |r| {
        r["state"] == "Established" && r["holdTimeSecs"] == 3
    })?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS])?;

    let silent_since = Instant::now();
    world.lab.set_link(LEFT, false)?;
    world.lab.wait_for_peer(LEFT, false, PATIENCE)?;
    let after = silent_since.elapsed();
    ensure!(after < DEFAULT_HOLD_TIME, "the sessions stayed for {after:?}");
    world.expect_peer("names the hold timer", LEFT, |report| says(report, "hold"))?;
    world.expect_kernel(prefix, &[])?;

    world.lab.set_link(LEFT, true)?;
    world.expect_sessions(LEFT)?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS])
}

/// ```text
///   left ── 5 prefixes ──► rs (routeLimit 3)      Cease/1 ──► left
/// ```
///
/// 1. The session ends, and `lastError` says how many were too many.
/// 2. The speaker hears Cease/1, Maximum Number of Prefixes Reached (RFC 4486), if it writes down what it hears.
/// 3. No VM keeps any of the routes.
/// 4. With a higher limit the session and all routes come back.
pub(super) fn prefix_limit(world: &mut World) -> Result<()> {
    world.set(LEFT, json!({ "routeLimit": 3 }))?;
    let prefixes = (0..5).map(|i| net(&format!("10.240.{i}.0/24")));
    let paths: Vec<_> = prefixes.clone().map(plain).collect();
    world.lab.announce_paths(LEFT, &paths)?;
    // Each instance for itself: a speaker that comes back at once may have overwritten what the other one said.
    for instance in 0..INSTANCES {
        world.expect_instance("says that these were too many", LEFT, instance, |r| {
            says(r, "limit of 3")
        })?;
    }
    if let Some(words) = world.speaker.words_for_prefix_limit() {
        world.eventually("the speaker's log to tell of Cease/1", |world| {
            Ok((!world.log(LEFT).contains(words))
                .then(|| format!("no \"{words}\""))
                .into_iter()
                .collect())
        })?;
    }
    world.eventually("no route to stay", |world| {
        Ok(world.learned("vm1")?.iter().map(|r| r.to_string()).collect())
    })?;

    world.set(LEFT, json!({ "routeLimit": 5 }))?;
    world.expect_sessions(LEFT)?;
    prefixes
        .clone()
        .try_for_each(|prefix| world.expect_kernel(prefix, &[LEFT_ADDRESS]))
}

/// ```text
///   left (password) ══ rs (password)      left (password) ╌╌ rs (another)
/// ```
///
/// 1. With the same password on both sides the sessions come up and carry routes.
/// 2. With different ones they do not.
/// 3. With the same one again they come back.
pub(super) fn md5(world: &mut World) -> Result<()> {
    let prefix = net("10.250.0.0/24");
    world.announce(LEFT, plain(prefix))?;
    let plain_configuration = password::write(world)?;
    let outcome = md5_with_password(world, prefix);
    plain_configuration.restore(world)?;
    outcome
}

fn md5_with_password(world: &World, prefix: ipnet::IpNet) -> Result<()> {
    world.set(LEFT, json!({ "md5Password": password::AS_TYPED }))?;
    world.expect_sessions(LEFT)?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS])?;

    world.set(LEFT, json!({ "md5Password": "another" }))?;
    world.lab.wait_for_peer(LEFT, false, PATIENCE)?;
    world.expect_kernel(prefix, &[])?;
    // Long enough for each side to have tried several times.
    stays_down(world, Duration::from_secs(5))?;

    world.set(LEFT, json!({ "md5Password": password::AS_TYPED }))?;
    world.expect_sessions(LEFT)?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS])
}

/// That something does not happen can only be watched for a while.
fn stays_down(world: &World, while_watching: Duration) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < while_watching {
        let peers = world.api.peers()?;
        let up = peers
            .iter()
            .filter(|p| p.name == LEFT && p.state == "Established")
            .count();
        ensure!(
            up == 0,
            "{up} of {INSTANCES} sessions are Established in spite of the wrong password"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// What a session's hold time would be without the setting.
const DEFAULT_HOLD_TIME: Duration = Duration::from_secs(180);

fn says(report: &Value, words: &str) -> bool {
    report["lastError"]
        .as_str()
        .is_some_and(|text| text.to_lowercase().contains(words))
}
