//! The whole instance against NVAs that are sessions of our own `bgp` crate: bytes move in memory, time is a number.

mod agents;
mod branches;
mod export;
mod gateway_tables;
mod gateways;
mod hybrid;
mod hybrid_random;
mod import;
mod intents;
mod limits;
mod peered_networks;
mod random;
mod route_log;
mod route_maps;
mod tables;
mod world;
