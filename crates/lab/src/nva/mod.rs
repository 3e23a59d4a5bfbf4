//! The builtin NVA: a small BGP speaker that peers with both instances, announces what it is told to, and installs what it
//! learns into its kernel.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::topology::Path;

/// What the builtin NVA is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvaConfig {
    /// For the log.
    pub name: String,
    /// Its AS number.
    pub asn: u32,
    /// Its address, which is also its BGP Identifier and where it listens.
    pub address: Ipv4Addr,
    /// Whom it dials.
    pub peers: Vec<Ipv4Addr>,
    /// Their AS number.
    pub peer_asn: u32,
    /// What it announces.
    pub announce: Vec<Path>,
    /// Whether it installs what it learns into its kernel.
    pub install: bool,
    /// Where it listens for commands.
    pub control: PathBuf,
}
