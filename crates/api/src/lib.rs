//! What crosses processes: routes for agents (gRPC), control of instances, and the types of our own REST API.

pub mod control;
pub mod convert;
pub mod follow;
pub mod http;
pub mod tls;

/// How the next hops that two instances name for a route become one list.
pub use routeserver::best_next_hops;

/// The agent protocol, generated from `proto/agent.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod agent {
    tonic::include_proto!("routewright.agent.v1");
}
