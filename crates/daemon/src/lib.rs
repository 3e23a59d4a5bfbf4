//! The manager (HTTP, store, supervision) and the instance (sockets, clock, driver).

mod allowance;
pub mod config;
pub mod connection;
pub mod instance;
pub mod liveness;
pub mod manager;
mod private_file;
pub mod service_manager;
pub mod store;
