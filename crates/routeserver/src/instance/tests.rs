//! The whole instance against NVAs that are sessions of our own `bgp` crate: bytes move in memory, time is a number.

mod agents;
mod bfd;
mod branches;
mod export;
mod extended_maps;
mod gateway_maps;
mod gateway_tables;
mod gateways;
mod hybrid;
mod hybrid_random;
mod import;
mod import_filters;
mod intents;
mod ipv6;
mod limits;
mod losses;
mod memory;
mod peered_networks;
mod random;
mod retention;
mod route_log;
mod route_maps;
mod standstill;
mod tables;
mod what_if;
mod world;
