//! Answers and announcements of the kernel, from bytes to what we need of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NetlinkBuffer, NlaBuffer, NlasIterator};

use super::encode::{
    NHA_GATEWAY, NHA_GROUP, NHA_ID, NHA_OIF, NHA_RES_GROUP, NHA_RES_GROUP_BUCKETS, RTA_NH_ID, RTNH_F_ONLINK,
};
use crate::plan::{KernelWay, NexthopId};

/// One netlink message.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) seq: u32,
    pub(super) payload: &'a [u8],
}

/// The messages of one datagram; ends at the first that is cut short.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let buffer = NetlinkBuffer::new_checked(bytes).ok()?;
        let (kind, flags, seq) = (buffer.message_type(), buffer.flags(), buffer.sequence_number());
        let length = buffer.length() as usize;
        let payload = bytes.get(super::encode::HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind,
            flags,
            seq,
            payload,
        })
    })
}

/// The kernel's answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// 0: done.
    pub(super) errno: i32,
    /// What the kernel says about it.
    pub(super) text: Option<String>,
}

// struct nlmsgerr: error: i32; the request's header; attributes if NLM_F_ACK_TLVS.
pub(super) fn answer(message: &Message<'_>) -> Option<Answer> {
    const NLM_F_CAPPED: u16 = 0x100;
    const NLM_F_ACK_TLVS: u16 = 0x200;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let errno = -i32::from_ne_bytes(message.payload.get(..4)?.try_into().ok()?);
    let mut text = None;
    if message.flags & NLM_F_ACK_TLVS != 0 && (message.flags & NLM_F_CAPPED != 0 || errno == 0) {
        for (kind, value) in attributes(message.payload.get(20..).unwrap_or_default()) {
            if kind == NLMSGERR_ATTR_MSG {
                text = Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
            }
        }
    }
    Some(Answer { errno, text })
}

/// A nexthop object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nexthop {
    pub(super) id: NexthopId,
    pub(super) protocol: u8,
    pub(super) on_link: bool,
    pub(super) link: Option<u32>,
    pub(super) gateway: Option<IpAddr>,
    pub(super) members: Option<Vec<NexthopId>>,
    /// Of a resilient group.
    pub(super) buckets: Option<u16>,
}

pub(super) fn nexthop(payload: &[u8]) -> Option<Nexthop> {
    let header = payload.get(..8)?;
    let flags = u32::from_ne_bytes(header[4..8].try_into().ok()?);
    let mut nexthop = Nexthop {
        protocol: header[2],
        on_link: flags & RTNH_F_ONLINK != 0,
        ..Nexthop::default()
    };
    for (kind, value) in attributes(&payload[8..]) {
        match kind {
            NHA_ID => nexthop.id = number(value)?,
            NHA_OIF => nexthop.link = number(value),
            NHA_GATEWAY => nexthop.gateway = address(value),
            NHA_RES_GROUP => {
                let buckets = attributes(value).find(|(kind, _)| *kind == NHA_RES_GROUP_BUCKETS);
                let octets = buckets.and_then(|(_, value)| value.get(..2)?.try_into().ok());
                nexthop.buckets = octets.map(u16::from_ne_bytes);
            }
            NHA_GROUP => {
                nexthop.members = Some(value.chunks_exact(8).filter_map(|entry| number(&entry[..4])).collect())
            }
            _ => {}
        }
    }
    Some(nexthop)
}

/// A route of any protocol and table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) prefix: IpNet,
    pub(super) table: u32,
    pub(super) protocol: u8,
    pub(super) priority: u32,
    pub(super) tos: u8,
    pub(super) nexthop: Option<NexthopId>,
    kind: u8,
    on_link: bool,
    link: Option<u32>,
    gateway: Option<IpAddr>,
    multipath: bool,
}

pub(super) fn route(payload: &[u8]) -> Option<Route> {
    let header = payload.get(..12)?;
    let unspecified = match i32::from(header[0]) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let flags = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    let mut destination = unspecified;
    let mut route = Route {
        prefix: IpNet::new(unspecified, 0).ok()?,
        table: u32::from(header[4]),
        protocol: header[5],
        priority: 0,
        tos: header[3],
        nexthop: None,
        kind: header[7],
        on_link: flags & RTNH_F_ONLINK != 0,
        link: None,
        gateway: None,
        multipath: false,
    };
    for (kind, value) in attributes(&payload[12..]) {
        match kind {
            libc::RTA_DST => destination = address(value)?,
            libc::RTA_OIF => route.link = number(value),
            libc::RTA_GATEWAY => route.gateway = address(value),
            libc::RTA_PRIORITY => route.priority = number(value)?,
            libc::RTA_TABLE => route.table = number(value)?,
            libc::RTA_MULTIPATH => route.multipath = true,
            RTA_NH_ID => route.nexthop = number(value),
            _ => {}
        }
    }
    route.prefix = IpNet::new(destination, header[1]).ok()?;
    Some(route)
}

impl Route {
    /// The link that it goes out by without a gateway.
    pub(super) fn direct_link(&self) -> Option<u32> {
        let direct =
            self.kind == libc::RTN_UNICAST && self.gateway.is_none() && self.nexthop.is_none() && !self.multipath;
        self.link.filter(|_| direct)
    }

    /// Its way as we would write it for a NIC on this link.
    pub(super) fn way(&self, link: u32) -> KernelWay {
        let here = self.link == Some(link);
        match (self.kind, self.nexthop, self.gateway) {
            (libc::RTN_BLACKHOLE, None, None) => KernelWay::Blackhole,
            (libc::RTN_UNICAST, Some(id), _) => KernelWay::Group(id),
            _ if self.multipath => KernelWay::Other,
            (libc::RTN_UNICAST, None, Some(gateway)) if here && self.on_link => KernelWay::Gateway(gateway),
            (libc::RTN_UNICAST, None, None) if here => KernelWay::OnLink,
            _ => KernelWay::Other,
        }
    }
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Up, and with a carrier: next hops on it can be installed.
    pub running: bool,
    /// Leads nowhere but to this machine.
    pub loopback: bool,
}

// struct ifinfomsg: family, pad: u8; type: u16; index: i32; flags, change: u32.
pub(super) fn link(payload: &[u8]) -> Option<Link> {
    let header = payload.get(..16)?;
    let index = number(&header[4..8])?;
    let flags = number(&header[8..12])? as i32;
    let name = attributes(&payload[16..]).find(|(kind, _)| *kind == libc::IFLA_IFNAME);
    let name = name.map(|(_, value)| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
    let running = flags & libc::IFF_UP != 0 && flags & libc::IFF_LOWER_UP != 0;
    Some(Link {
        index,
        name: name.unwrap_or_default(),
        running,
        loopback: flags & libc::IFF_LOOPBACK != 0,
    })
}

// struct ifaddrmsg: family, prefixlen, flags, scope: u8; index: u32.
pub(super) fn interface_address(payload: &[u8]) -> Option<(u32, IpAddr)> {
    let header = payload.get(..8)?;
    let mut found = None;
    for (kind, value) in attributes(&payload[8..]) {
        // IFA_LOCAL is the address itself; IPv6 has only IFA_ADDRESS, which is the other end on point-to-point links.
        if kind == libc::IFA_LOCAL || (kind == libc::IFA_ADDRESS && found.is_none()) {
            found = address(value);
        }
    }
    Some((number(&header[4..8])?, found?))
}

/// Whether a neighbour answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Interface index of the link that it was looked for on.
    pub link: u32,
    /// Its address.
    pub address: IpAddr,
    /// It has answered, or somebody says that it need not.
    pub answers: bool,
}

// struct ndmsg: family: u8, padding: 3; ifindex: i32; state: u16; flags, type: u8.
pub(super) fn neighbour(payload: &[u8]) -> Option<Neighbour> {
    let header = payload.get(..12)?;
    let state = u16::from_ne_bytes(header[8..10].try_into().ok()?);
    let answers = match state {
        libc::NUD_FAILED => false,
        // Not known yet.
        libc::NUD_NONE | libc::NUD_INCOMPLETE | libc::NUD_PROBE => return None,
        _ => true,
    };
    let (_, destination) = attributes(&payload[12..]).find(|(kind, _)| *kind == libc::NDA_DST)?;
    Some(Neighbour {
        link: number(&header[4..8])?,
        address: address(destination)?,
        answers,
    })
}

/// Attributes with their types; ends at the first that is cut short.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(|attribute: Result<NlaBuffer<&[u8]>, _>| {
        let attribute = attribute.ok()?;
        let value = attribute.into_inner().get(4..usize::from(attribute.length()))?;
        Some((attribute.kind(), value))
    })
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}
