//! An instance that does not answer, or does not do as it is told: who asks is told so, and an empty list is never a guess.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::world::{World, hub};

async fn world_with_a_peer() -> (World, String) {
    let world = World::new().await;
    world.make_route_server().await;
    let peer = hub("/bgpConnections/sdwan");
    let body = json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": 65001}});
    assert_eq!(world.put(&peer, body).await.status, 201);
    (world, peer)
}

fn follow(world: &World, index: usize) -> u64 {
    world.manager.instances[index].status.borrow().acknowledged
}

#[tokio::test]
async fn health_says_which_instance_does_not_follow_what_was_written_and_why() {
    let (world, peer) = world_with_a_peer().await;
    world.until(|| follow(&world, 1) == world.version()).await;
    let followed = world.version();
    world.fakes[1].keeps_nothing.store(true, Ordering::Relaxed);
    assert_eq!(world.delete(&peer).await.status, 202);
    let is_told = || world.manager.instances[1].status.borrow().intent_problem.is_some();
    world.until(|| is_told() && follow(&world, 0) == world.version()).await;
    let health = world.get("/routewright/v1/health").await.body;
    assert_eq!(health["status"], "degraded", "{health}");
    let problem = health["problems"][0].as_str().unwrap();
    let version = world.version();
    for part in [
        "instance 1",
        &format!("version {version}"),
        &format!("version {followed}"),
        "cannot be kept",
    ] {
        assert!(problem.contains(part), "{part} in {problem}");
    }
    assert_eq!(world.get("/healthz").await.status, 503);
    let metrics = world.get("/metrics").await.text;
    for line in [
        "routewright_manager_instance_follows{instance=\"0\"} 1",
        "routewright_manager_instance_follows{instance=\"1\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }

    world.fakes[1].keeps_nothing.store(false, Ordering::Relaxed);
    world.until(|| follow(&world, 1) == world.version()).await;
    assert_eq!(world.get("/routewright/v1/health").await.body["problems"], json!([]));
}

#[tokio::test]
async fn an_operation_that_an_instance_refuses_has_failed_in_its_words_until_it_is_taken_on() {
    let (world, peer) = world_with_a_peer().await;
    world.until(|| follow(&world, 1) == world.version()).await;
    world.fakes[1].keeps_nothing.store(true, Ordering::Relaxed);
    let body = json!({"properties": {"peerIp": "10.1.1.5", "peerAsn": 65001}});
    let put = world.put(&peer, body).await;
    let operation = put.header("azure-asyncoperation");
    let operation = operation.trim_start_matches("http://localhost:8080");
    world
        .until(|| world.manager.instances[1].status.borrow().refused == Some(world.version()))
        .await;
    let state = world.get(operation).await.body;
    assert_eq!(
        (&state["status"], &state["error"]["code"]),
        (&json!("Failed"), &json!("InstanceRefused"))
    );
    let message = state["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("instance 1") && message.contains("cannot be kept"),
        "{message}"
    );

    world.fakes[1].keeps_nothing.store(false, Ordering::Relaxed);
    world.until(|| follow(&world, 1) == world.version()).await;
    assert_eq!(world.get(operation).await.body, json!({"status": "Succeeded"}));
}

#[tokio::test]
async fn a_list_in_which_an_instance_is_missing_says_so() {
    let (world, peer) = world_with_a_peer().await;
    let lists = [
        "/routewright/v1/peers".to_owned(),
        "/routewright/v1/agents".to_owned(),
        format!("/routewright/v1/peers{peer}"),
        format!("/routewright/v1/peers{peer}/routes"),
        format!("/routewright/v1/peers{peer}/advertised"),
        format!("/routewright/v1/routes?routeServer={}", hub("")),
    ];
    for list in &lists {
        assert_eq!(world.get(list).await.body.get("unanswered"), None, "{list}");
    }
    world.fakes[1].down.store(true, Ordering::Relaxed);
    for list in &lists {
        assert_eq!(world.get(list).await.body["unanswered"], json!([1]), "{list}");
    }
}

#[tokio::test]
async fn a_header_of_azures_lists_says_which_instance_is_missing() {
    let (world, peer) = world_with_a_peer().await;
    world.fakes[1].down.store(true, Ordering::Relaxed);
    for question in ["learnedRoutes", "advertisedRoutes"] {
        let asked = world.post(&format!("{peer}/{question}")).await;
        let result = asked.header("location");
        let result = world.get(result.trim_start_matches("http://localhost:8080")).await;
        assert_eq!(result.status, 200);
        assert_eq!(result.header("x-routewright-unanswered"), "1", "{question}");
    }
    world.fakes[1].down.store(false, Ordering::Relaxed);
    let asked = world.post(&format!("{peer}/learnedRoutes")).await;
    let result = asked.header("location");
    let result = world.get(result.trim_start_matches("http://localhost:8080")).await;
    assert!(!result.headers.contains_key("x-routewright-unanswered"));
}

#[tokio::test]
async fn what_no_instance_answers_is_an_error_and_not_an_empty_list() {
    let (world, peer) = world_with_a_peer().await;
    for fake in &world.fakes {
        fake.down.store(true, Ordering::Relaxed);
    }
    for question in ["learnedRoutes", "advertisedRoutes"] {
        let asked = world.post(&format!("{peer}/{question}")).await;
        assert_eq!(
            (asked.status, asked.code().as_str()),
            (503, "InstanceUnavailable"),
            "{question}"
        );
        assert_eq!(asked.header("retry-after"), "5");
    }
}
