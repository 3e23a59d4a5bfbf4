//! Requests as bytes, many in one buffer. Nothing is allocated per request.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::options::Resilient;
use crate::ours::{PRIORITY, PROTOCOL};
use crate::plan::{KernelWay, NexthopId, Op};

// linux/nexthop.h and linux/rtnetlink.h, as far as libc lacks them.
pub(super) const RTM_NEWNEXTHOP: u16 = 104;
pub(super) const RTM_DELNEXTHOP: u16 = 105;
pub(super) const RTM_GETNEXTHOP: u16 = 106;
pub(super) const NHA_ID: u16 = 1;
pub(super) const NHA_GROUP: u16 = 2;
pub(super) const NHA_GROUP_TYPE: u16 = 3;
pub(super) const NHA_OIF: u16 = 5;
pub(super) const NHA_GATEWAY: u16 = 6;
pub(super) const NHA_RES_GROUP: u16 = 12;
pub(super) const NHA_RES_GROUP_BUCKETS: u16 = 1;
const NHA_RES_GROUP_IDLE_TIMER: u16 = 2;
pub(super) const NEXTHOP_GRP_TYPE_RES: u16 = 1;
/// Of times that user space gives.
const USER_HZ: u32 = 100;
pub(super) const RTA_NH_ID: u16 = 30;
pub(super) const RTNH_F_ONLINK: u32 = 4;

/// The length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// Where operations go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Interface index of the NIC's link.
    pub link: u32,
    /// Routing table.
    pub table: u32,
}

/// Requests, one after the other.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Where the last request begins.
    last: usize,
}

impl Buffer {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.last = 0;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Asks for an acknowledgement of the last request. The others are answered only if they fail.
    pub(super) fn ask_ack(&mut self) {
        let at = self.last + 6;
        let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]) | libc::NLM_F_ACK as u16;
        self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
    }

    /// About one neighbour. With `NTF_USE` the kernel resolves it, as if there were a packet for it.
    // struct ndmsg: family: u8, padding: 3; ifindex: i32; state: u16; flags, type: u8.
    pub(super) fn neighbour(&mut self, kind: u16, flags: u8, address: IpAddr, link: u32, seq: u32) {
        let create = if kind == libc::RTM_NEWNEIGH {
            libc::NLM_F_CREATE
        } else {
            0
        };
        self.begin(kind, create, seq);
        self.put(&[family(address), 0, 0, 0]);
        self.put(&link.to_ne_bytes());
        self.put(&[0, 0, flags, 0]);
        self.address(libc::NDA_DST, address);
        self.end();
    }

    pub(super) fn begin(&mut self, kind: u16, flags: i32, seq: u32) {
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
    }

    pub(super) fn end(&mut self) {
        let length = (self.bytes.len() - self.last) as u32;
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        let padding = value.len().next_multiple_of(4) - value.len();
        self.bytes.extend_from_slice(&[0; 3][..padding]);
    }

    pub(super) fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    /// One operation.
    pub(super) fn op(&mut self, op: &Op, target: Target, resilient: Option<Resilient>, seq: u32) {
        const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        match op {
            Op::AddNexthop { id, gateway } => self.nexthop(*id, *gateway, target, seq),
            Op::AddGroup { id, members } => self.group(*id, members, resilient, CREATE, seq),
            Op::ReplaceGroup { id, members } => self.group(*id, members, resilient, libc::NLM_F_REPLACE, seq),
            Op::AddRoute { prefix, way } => self.route(*prefix, *way, target, CREATE, seq),
            // Without CREATE, so that a route that somebody has removed meanwhile is an error that makes us look again.
            Op::ReplaceRoute { prefix, way } => self.route(*prefix, *way, target, libc::NLM_F_REPLACE, seq),
            Op::DeleteRoute { prefix } => self.delete_route(*prefix, target.table, seq),
            Op::DeleteGroup { id } | Op::DeleteNexthop { id } => self.delete_nexthop(*id, seq),
        }
    }

    // struct nhmsg: family, scope, protocol, reserved: u8; flags: u32.
    fn nexthop(&mut self, id: NexthopId, gateway: IpAddr, target: Target, seq: u32) {
        self.begin(RTM_NEWNEXTHOP, libc::NLM_F_CREATE | libc::NLM_F_EXCL, seq);
        self.put(&[family(gateway), 0, PROTOCOL, 0]);
        self.put(&RTNH_F_ONLINK.to_ne_bytes());
        self.attribute(NHA_ID, &id.to_ne_bytes());
        self.attribute(NHA_OIF, &target.link.to_ne_bytes());
        self.address(NHA_GATEWAY, gateway);
        self.end();
    }

    // struct nexthop_grp: id: u32; weight - 1, weight_high: u8; reserved: u16.
    fn group(&mut self, id: NexthopId, members: &[NexthopId], resilient: Option<Resilient>, flags: i32, seq: u32) {
        self.begin(RTM_NEWNEXTHOP, flags, seq);
        self.put(&[libc::AF_UNSPEC as u8, 0, PROTOCOL, 0, 0, 0, 0, 0]);
        self.attribute(NHA_ID, &id.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(4 + 8 * members.len() as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&NHA_GROUP.to_ne_bytes());
        for member in members {
            self.put(&member.to_ne_bytes());
            self.put(&[0; 4]);
        }
        if let Some(resilient) = resilient {
            self.attribute(NHA_GROUP_TYPE, &NEXTHOP_GRP_TYPE_RES.to_ne_bytes());
            // Two nested attributes of eight octets each.
            self.bytes.extend_from_slice(&20_u16.to_ne_bytes());
            self.bytes
                .extend_from_slice(&(NHA_RES_GROUP | libc::NLA_F_NESTED as u16).to_ne_bytes());
            self.attribute(NHA_RES_GROUP_BUCKETS, &resilient.buckets.to_ne_bytes());
            let idle = resilient.idle_secs.saturating_mul(USER_HZ);
            self.attribute(NHA_RES_GROUP_IDLE_TIMER, &idle.to_ne_bytes());
        }
        self.end();
    }

    fn delete_nexthop(&mut self, id: NexthopId, seq: u32) {
        self.begin(RTM_DELNEXTHOP, 0, seq);
        self.put(&[0; 8]);
        self.attribute(NHA_ID, &id.to_ne_bytes());
        self.end();
    }

    fn route(&mut self, prefix: IpNet, way: KernelWay, target: Target, flags: i32, seq: u32) {
        self.begin(libc::RTM_NEWROUTE, flags, seq);
        let kind = if way == KernelWay::Blackhole {
            libc::RTN_BLACKHOLE
        } else {
            libc::RTN_UNICAST
        };
        let on_link_v4 = way == KernelWay::OnLink && prefix.addr().is_ipv4();
        let scope = if on_link_v4 {
            libc::RT_SCOPE_LINK
        } else {
            libc::RT_SCOPE_UNIVERSE
        };
        let route_flags = if matches!(way, KernelWay::Gateway(_)) {
            RTNH_F_ONLINK
        } else {
            0
        };
        self.route_header(prefix, target.table, scope, kind, route_flags);
        match way {
            KernelWay::Group(id) => self.attribute(RTA_NH_ID, &id.to_ne_bytes()),
            KernelWay::OnLink => self.attribute(libc::RTA_OIF, &target.link.to_ne_bytes()),
            KernelWay::Gateway(gateway) => {
                self.attribute(libc::RTA_OIF, &target.link.to_ne_bytes());
                self.address(libc::RTA_GATEWAY, gateway);
            }
            KernelWay::Blackhole | KernelWay::Other => {}
        }
        self.end();
    }

    fn delete_route(&mut self, prefix: IpNet, table: u32, seq: u32) {
        self.begin(libc::RTM_DELROUTE, 0, seq);
        // Any scope and any type, but only our protocol and metric.
        self.route_header(prefix, table, libc::RT_SCOPE_NOWHERE, libc::RTN_UNSPEC, 0);
        self.end();
    }

    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type: u8; flags: u32.
    fn route_header(&mut self, prefix: IpNet, table: u32, scope: u8, kind: u8, flags: u32) {
        let short_table = u8::try_from(table).unwrap_or(libc::RT_TABLE_UNSPEC);
        self.put(&[
            family(prefix.addr()),
            prefix.prefix_len(),
            0,
            0,
            short_table,
            PROTOCOL,
            scope,
            kind,
        ]);
        self.put(&flags.to_ne_bytes());
        self.address(libc::RTA_DST, prefix.network());
        self.attribute(libc::RTA_PRIORITY, &PRIORITY.to_ne_bytes());
        if short_table == libc::RT_TABLE_UNSPEC {
            self.attribute(libc::RTA_TABLE, &table.to_ne_bytes());
        }
    }
}

pub(super) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}
