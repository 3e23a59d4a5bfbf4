//! The builtin NVA: a small BGP speaker that peers with both instances, announces what it is told to, and installs what it
//! learns into its kernel.
//!
//! ```text
//!   control socket ──┐
//!   listener, dials ─┤            ┌─► bgp::session (one per peer) ─► connections
//!   connections ─────┼─► speaker ─┤
//!   timers, signals ─┤            └─► kernel (routes with protocol 158)
//!   BFD's thread ────┘
//! ```
//!
//! It is a test peer too: it has no policy of its own but the loop check and what it passes on from one side to the other (`transit`),
//! and it says on its control socket what it knows.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path as FilePath, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::topology::{Neighbour, Path};

mod control;
mod kernel;
mod peer;
mod speaker;
mod transit;

/// What the builtin NVA is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvaConfig {
    /// For the log.
    pub name: String,
    /// Its AS number.
    pub asn: u32,
    /// Its address, which is also its BGP Identifier.
    pub address: Ipv4Addr,
    /// Its IPv6 address; without one it speaks of IPv4 alone.
    #[serde(default)]
    pub address_v6: Option<Ipv6Addr>,
    /// Whom it dials. What it learns on one side it passes on to the other.
    pub neighbours: Vec<Neighbour>,
    /// What it announces.
    pub announce: Vec<Path>,
    /// Whether it puts its own AS number in place of the route server's in what it passes on to a route server.
    pub as_override: bool,
    /// Whether it installs what it learns into its kernel.
    pub install: bool,
    /// Where it listens for commands.
    pub control: PathBuf,
}

impl NvaConfig {
    fn read(path: &FilePath) -> Result<NvaConfig, LabError> {
        let parse = |text: Vec<u8>| serde_json::from_slice(&text).map_err(io::Error::from);
        std::fs::read(path).and_then(parse).map_err(|source| LabError::Read {
            path: path.to_owned(),
            source,
        })
    }
}

/// Runs the NVA that a file describes, until SIGTERM or SIGINT.
pub async fn run(config: &FilePath) -> Result<(), LabError> {
    let settings = NvaConfig::read(config)?;
    speaker::run(config, settings)
        .await
        .map_err(LabError::system("the NVA's speaker"))
}
