//! The kernel's tables over netlink: reading what is installed, carrying out operations in batches, hearing of changes.
//!
//! Sockets belong to the network namespace of the thread that opens them.

mod decode;
mod encode;
mod monitor;
mod socket;
mod ways;

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

pub use decode::{Link, Neighbour};
pub use encode::Target;
pub use monitor::{Monitor, News};

use encode::{Buffer, RTM_GETNEXTHOP, RTM_NEWNEXTHOP, family};
use socket::Requests;

use crate::options::Resilient;
use crate::ours::{NEXTHOP_IDS, PRIORITY, PROTOCOL};
use crate::plan::{ForeignRoute, Installed, Op};

/// Bytes per `send`. The kernel carries out a whole one before it returns, and copies it into one piece of memory.
const BATCH_BYTES: usize = 32 * 1024;

/// How often a dump that changed under our eyes is begun again.
const DUMP_ATTEMPTS: usize = 20;

/// An operation that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which of the operations.
    pub index: usize,
    /// Why.
    pub errno: i32,
    /// Why, in the kernel's words.
    pub text: Option<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

/// The kernel's refusal, in words that say what to do, if it is that a feature is missing.
fn explain(error: io::Error, feature: &str) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => io::Error::new(io::ErrorKind::Unsupported, format!("this kernel lacks {feature}")),
        _ => error,
    }
}

impl AsRawFd for Kernel {
    /// The socket that questions are asked on.
    fn as_raw_fd(&self) -> RawFd {
        self.requests.descriptor()
    }
}

/// The routing tables of one namespace.
#[derive(Debug)]
pub struct Kernel {
    requests: Requests,
    buffer: Buffer,
    ways: ways::Ways,
    resilient: Option<Resilient>,
}

impl Kernel {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> io::Result<Kernel> {
        Kernel::open_with(None)
    }

    /// The same; groups are made resilient ones, if so wanted.
    pub fn open_with(resilient: Option<Resilient>) -> io::Result<Kernel> {
        Ok(Kernel {
            resilient,
            requests: Requests::open()?,
            buffer: Buffer::default(),
            ways: ways::Ways::default(),
        })
    }

    /// How many octets of answers may wait for us. What finds no room is lost, and whoever asks gets ENOBUFS, so reads again; more than enough
    /// unless this is called.
    pub fn set_receive_buffer(&self, octets: usize) -> io::Result<()> {
        self.requests.set_receive_buffer(octets)
    }

    /// The port that announcements of our own changes carry.
    pub fn port(&self) -> u32 {
        self.requests.port()
    }

    /// Carries out operations in their order; the others are carried out when one fails. An error of the socket itself
    /// leaves open what was carried out: read again.
    pub fn apply(&mut self, target: Target, ops: &[Op]) -> io::Result<Vec<Failure>> {
        self.ask_ways_of(ops, target.link);
        let mut failures = Vec::new();
        let mut begin = 0;
        while begin < ops.len() {
            self.buffer.clear();
            let first = self.requests.next_seq();
            let mut end = begin;
            while end < ops.len() && self.buffer.bytes().len() < BATCH_BYTES {
                let target = self.target_of(&ops[end], target);
                let seq = first.wrapping_add((end - begin) as u32);
                self.buffer.op(&ops[end], target, self.resilient, seq);
                end += 1;
            }
            self.buffer.ask_ack();
            self.requests.send(&self.buffer, end - begin, |offset, answer| {
                failures.push(Failure {
                    index: begin + offset,
                    errno: answer.errno,
                    text: answer.text,
                });
            })?;
            begin = end;
        }
        Ok(failures)
    }

    /// A next hop may be on another link than the NIC's.
    fn target_of(&self, op: &Op, target: Target) -> Target {
        match op {
            Op::AddNexthop { gateway, .. } => Target {
                link: self.link_of(*gateway, target.link),
                ..target
            },
            _ => target,
        }
    }

    /// Has the kernel find out which neighbours answer on the NIC's link, or on the one that leads to them; [`News::Neighbour`] tells what it finds.
    ///
    /// Only those that it knows nothing of: the request would take the permanence from an entry that an operator has made.
    pub fn resolve(&mut self, link: u32, neighbours: &[IpAddr]) -> io::Result<()> {
        for address in neighbours {
            let link = self.link_of(*address, link);
            if self.is_known_neighbour(link, *address)? {
                continue;
            }
            self.buffer.clear();
            let seq = self.requests.next_seq();
            self.buffer
                .neighbour(libc::RTM_NEWNEIGH, libc::NTF_USE, *address, link, seq);
            self.buffer.ask_ack();
            self.requests.send(&self.buffer, 1, |_, answer| {
                tracing::debug!(%address, answer.errno, "the kernel does not look for a neighbour");
            })?;
        }
        Ok(())
    }

    fn is_known_neighbour(&mut self, link: u32, address: IpAddr) -> io::Result<bool> {
        self.buffer.clear();
        let seq = self.requests.next_seq();
        self.buffer.neighbour(libc::RTM_GETNEIGH, 0, address, link, seq);
        let mut known = false;
        self.requests.ask(&self.buffer, |message| {
            known = decode::neighbour(message.payload).is_some_and(|neighbour| neighbour.answers);
        })?;
        Ok(known)
    }

    /// The link that has an address.
    pub fn find_link(&mut self, address: IpAddr) -> io::Result<Option<Link>> {
        let addresses = self.dump(
            |buffer, seq| {
                buffer.begin(libc::RTM_GETADDR, libc::NLM_F_DUMP, seq);
                buffer.put(&[family(address), 0, 0, 0, 0, 0, 0, 0]);
            },
            |message| decode::interface_address(message.payload),
        )?;
        match addresses.iter().find(|(_, found)| *found == address) {
            Some((index, _)) => self.link(*index),
            None => Ok(None),
        }
    }

    /// A link as it is now.
    pub fn link(&mut self, index: u32) -> io::Result<Option<Link>> {
        self.buffer.clear();
        let seq = self.requests.next_seq();
        self.buffer.begin(libc::RTM_GETLINK, 0, seq);
        self.buffer.put(&[0; 4]);
        self.buffer.put(&index.to_ne_bytes());
        self.buffer.put(&[0; 8]);
        self.buffer.end();
        let mut link = None;
        self.requests
            .ask(&self.buffer, |message| link = decode::link(message.payload))?;
        Ok(link)
    }

    /// What is installed for a NIC, and what is in its way.
    pub fn read(&mut self, target: Target) -> io::Result<Installed> {
        let nexthops = self.nexthops()?;
        let routes = self.routes(target.table)?;
        let mut installed = Installed::default();
        self.read_nexthops(&nexthops, &routes, target, &mut installed);
        for route in routes.iter().filter(|route| route.tos == 0) {
            if is_our_route(route) {
                installed.add_route(route.prefix, route.way(target.link));
            } else {
                let foreign = ForeignRoute {
                    priority: route.priority,
                    protocol: route.protocol,
                };
                installed.add_foreign(route.prefix, foreign);
            }
        }
        Ok(installed)
    }

    /// Next hops and groups: those of this NIC, and the ids that are taken.
    ///
    /// Another link's next hop is this NIC's if it leads there now, or if a route of the NIC's table goes through it (it led there once).
    fn read_nexthops(
        &mut self,
        nexthops: &[decode::Nexthop],
        routes: &[decode::Route],
        target: Target,
        installed: &mut Installed,
    ) {
        let ours = |nexthop: &&decode::Nexthop| nexthop.protocol == PROTOCOL && NEXTHOP_IDS.contains(&nexthop.id);
        let gateways = nexthops.iter().filter(ours).filter_map(|nexthop| nexthop.gateway);
        self.ways.forget();
        self.ask_ways(gateways, target.link);
        let used = members_in_use(nexthops, routes);
        for nexthop in nexthops.iter().filter(|nexthop| NEXTHOP_IDS.contains(&nexthop.id)) {
            let wanted = nexthop.gateway.map(|gateway| self.link_of(gateway, target.link));
            let leads_there = wanted.is_some() && nexthop.link == wanted;
            let here = leads_there || nexthop.link == Some(target.link) || used.contains(&nexthop.id);
            if ours(&nexthop) && nexthop.members.is_none() && here {
                installed.add_nexthop(nexthop.id, nexthop.gateway.filter(|_| nexthop.on_link && leads_there));
            } else if nexthop.members.is_none() || !ours(&nexthop) {
                installed.add_taken(nexthop.id);
            }
        }
        for nexthop in nexthops.iter().filter(ours) {
            if let Some(members) = &nexthop.members {
                installed.add_group(nexthop.id, members.clone());
                if nexthop.buckets != self.resilient.map(|resilient| resilient.buckets) {
                    installed.note_other_kind(nexthop.id);
                }
            }
        }
    }

    /// Removes everything that is ours from a table, and the nexthop objects that nothing uses then. Returns how many
    /// routes there were.
    pub fn flush(&mut self, table: u32) -> io::Result<usize> {
        let routes: Vec<Op> = self
            .routes(table)?
            .iter()
            .filter(|route| is_our_route(route))
            .map(|route| Op::DeleteRoute { prefix: route.prefix })
            .collect();
        let target = Target { link: 0, table };
        self.apply(target, &routes)?;
        // Other NICs of this namespace have other tables, but the same range of ids.
        let used: HashSet<u32> = self
            .routes(libc::RT_TABLE_UNSPEC.into())?
            .iter()
            .filter_map(|route| route.nexthop)
            .collect();
        let mut nexthops = self.nexthops()?;
        nexthops.retain(|nexthop| nexthop.protocol == PROTOCOL && NEXTHOP_IDS.contains(&nexthop.id));
        let (kept, free): (Vec<_>, Vec<_>) = nexthops
            .into_iter()
            .partition(|nexthop| nexthop.members.is_none() || used.contains(&nexthop.id));
        let mut ops: Vec<Op> = free.iter().map(|group| Op::DeleteGroup { id: group.id }).collect();
        let members: HashSet<u32> = kept
            .iter()
            .filter_map(|nexthop| nexthop.members.as_ref())
            .flatten()
            .copied()
            .collect();
        let unused = |nexthop: &&decode::Nexthop| {
            nexthop.members.is_none() && !members.contains(&nexthop.id) && !used.contains(&nexthop.id)
        };
        ops.extend(
            kept.iter()
                .filter(unused)
                .map(|nexthop| Op::DeleteNexthop { id: nexthop.id }),
        );
        self.apply(target, &ops)?;
        Ok(routes.len())
    }

    fn nexthops(&mut self) -> io::Result<Vec<decode::Nexthop>> {
        self.dump(
            |buffer, seq| {
                buffer.begin(RTM_GETNEXTHOP, libc::NLM_F_DUMP, seq);
                buffer.put(&[0; 8]);
            },
            |message| decode::nexthop(message.payload).filter(|_| message.kind == RTM_NEWNEXTHOP),
        )
        .map_err(|error| explain(error, "nexthop objects: Linux 5.3 or later is needed"))
    }

    /// Routes of one table, or of all (0).
    fn routes(&mut self, table: u32) -> io::Result<Vec<decode::Route>> {
        let mut all = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = |buffer: &mut Buffer, seq| {
                buffer.begin(libc::RTM_GETROUTE, libc::NLM_F_DUMP, seq);
                let short_table = u8::try_from(table).unwrap_or(libc::RT_TABLE_UNSPEC);
                buffer.put(&[family as u8, 0, 0, 0, short_table, 0, 0, 0, 0, 0, 0, 0]);
                if table != 0 {
                    buffer.attribute(libc::RTA_TABLE, &table.to_ne_bytes());
                }
            };
            let found = self.dump(request, |message| {
                decode::route(message.payload)
                    .filter(|route| message.kind == libc::RTM_NEWROUTE && (table == 0 || route.table == table))
            });
            match found {
                Ok(mut routes) => all.append(&mut routes),
                // No IPv6 here.
                Err(error) if family == libc::AF_INET6 && error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Asks for a dump, again if it changed while it was read.
    fn dump<T>(
        &mut self,
        request: impl Fn(&mut Buffer, u32),
        parse: impl Fn(&decode::Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut last = io::Error::from_raw_os_error(libc::EINTR);
        for _ in 0..DUMP_ATTEMPTS {
            self.buffer.clear();
            request(&mut self.buffer, self.requests.next_seq());
            self.buffer.end();
            let mut found = Vec::new();
            match self.requests.ask(&self.buffer, |message| found.extend(parse(message))) {
                Ok(()) => return Ok(found),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::ENOBUFS)) => {
                    last = error
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

fn is_our_route(route: &decode::Route) -> bool {
    route.protocol == PROTOCOL && route.priority == PRIORITY
}

/// The next hops that routes of ours go through.
fn members_in_use(nexthops: &[decode::Nexthop], routes: &[decode::Route]) -> HashSet<u32> {
    let ours = routes.iter().filter(|route| is_our_route(route));
    let groups: HashSet<u32> = ours.filter_map(|route| route.nexthop).collect();
    let used = nexthops.iter().filter(|nexthop| groups.contains(&nexthop.id));
    used.filter_map(|group| group.members.as_ref())
        .flatten()
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_nexthop_objects_is_told_in_words_that_help() {
        let explained = |errno| explain(io::Error::from_raw_os_error(errno), "nexthop objects").to_string();
        assert_eq!(explained(libc::EOPNOTSUPP), "this kernel lacks nexthop objects");
        assert!(!explained(libc::EPERM).contains("lacks"));
    }
}
