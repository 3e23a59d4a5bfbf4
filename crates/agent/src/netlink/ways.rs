//! Over which link a next hop is reached.
//!
//! The NIC's, with `onlink`. At an instance of a gateway, unless the kernel reaches the next hop directly (a connected route or one of scope
//! link, no gateway) over another one: a tunnel, a line to a provider. The kernel is asked once for each next hop; what it said is
//! forgotten with every reading of its tables. Elsewhere it is not asked: other links are other NICs of the machine, and what the
//! main table says of them is no matter of this NIC's.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use super::encode::family;
use super::{Kernel, decode};
use crate::plan::Op;

/// So many next hops are asked about; more are taken to be on the NIC's link, as all are where there is no other that counts.
const MAX_WAYS: usize = 16_384;

/// What the kernel has said.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// There are links beside the NIC's and loopback, and next hops may be on them.
    others: bool,
    /// Next hop → the other link that it is directly on.
    known: FxHashMap<IpAddr, Option<u32>>,
}

impl Ways {
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }
}

impl Kernel {
    /// Whether there may be links beside the NIC's: if not, nobody need be asked.
    pub fn has_other_links(&self) -> bool {
        self.ways.others
    }

    /// A link beside the NIC's has come.
    pub fn note_other_link(&mut self) {
        self.ways.others = true;
    }

    /// Looks whether there are links beside the NIC's.
    pub fn look_for_other_links(&mut self, nic: u32) -> std::io::Result<()> {
        let links = self.dump(
            |buffer, seq| {
                buffer.begin(libc::RTM_GETLINK, libc::NLM_F_DUMP, seq);
                buffer.put(&[0; 16]);
            },
            |message| decode::link(message.payload),
        )?;
        self.ways.others = links.iter().any(|link| link.index != nic && !link.loopback);
        self.ways.forget();
        Ok(())
    }

    /// The link of a next hop, as far as it has been asked for.
    pub fn link_of(&self, gateway: IpAddr, nic: u32) -> u32 {
        self.ways.known.get(&gateway).copied().flatten().unwrap_or(nic)
    }

    /// True if some next hop was found to be on this other link.
    pub fn leads_over(&self, link: u32) -> bool {
        self.ways.known.values().any(|way| *way == Some(link))
    }

    /// Asks for the links of next hops that are not known yet.
    pub(super) fn ask_ways(&mut self, gateways: impl Iterator<Item = IpAddr>, nic: u32) {
        if !self.ways.others {
            return;
        }
        for gateway in gateways {
            if self.ways.known.len() < MAX_WAYS && !self.ways.known.contains_key(&gateway) {
                let link = self.direct_link(gateway).filter(|link| *link != nic);
                self.ways.known.insert(gateway, link);
            }
        }
    }

    pub(super) fn ask_ways_of(&mut self, ops: &[Op], nic: u32) {
        let gateways = ops.iter().filter_map(|op| match op {
            Op::AddNexthop { gateway, .. } => Some(*gateway),
            _ => None,
        });
        self.ask_ways(gateways, nic);
    }

    /// The link over which the kernel sends to an address without a gateway. One that it cannot reach has none.
    fn direct_link(&mut self, address: IpAddr) -> Option<u32> {
        let length = if address.is_ipv4() { 32 } else { 128 };
        self.buffer.clear();
        let seq = self.requests.next_seq();
        self.buffer.begin(libc::RTM_GETROUTE, 0, seq);
        self.buffer
            .put(&[family(address), length, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        self.buffer.address(libc::RTA_DST, address);
        self.buffer.end();
        let mut link = None;
        let asked = self.requests.ask(&self.buffer, |message| {
            link = decode::route(message.payload).and_then(|route| route.direct_link());
        });
        if let Err(error) = asked {
            tracing::debug!(%address, %error, "the kernel has no way to a next hop");
        }
        link
    }
}
