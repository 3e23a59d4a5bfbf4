//! Hearing of what others change: meddling with our routes, routes in our way, links and their carrier.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;

use super::decode::{self, Link, Neighbour};
use super::encode::{RTM_DELNEXTHOP, RTM_NEWNEXTHOP};
use super::socket::enlarge_receive_buffer;
use crate::ours::{NEXTHOP_IDS, PRIORITY, PROTOCOL};
use crate::plan::NexthopId;
use ipnet::IpNet;

// linux/rtnetlink.h, enum rtnetlink_groups.
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_NEXTHOP: u32 = 32;

const GROUPS: [u32; 7] = [
    RTNLGRP_LINK,
    RTNLGRP_NEIGH,
    RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_ROUTE,
    RTNLGRP_NEXTHOP,
];

/// Room for announcements. When it overflows everything is read again.
const RECEIVE_BUFFER: usize = 4 << 20;
const DATAGRAM: usize = 64 * 1024;

/// What somebody else has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A link is there, or has changed.
    Link(Link),
    /// A link is gone.
    LinkGone(u32),
    /// Some link has got or lost an address.
    Address {
        /// Its interface index.
        link: u32,
        /// The address.
        address: IpAddr,
    },
    /// A route that is marked as ours.
    OurRoute,
    /// A route that may be in our way, or is so no more.
    ForeignRoute(IpNet),
    /// A nexthop object with an id of our range.
    Nexthop {
        /// Its id.
        id: NexthopId,
        /// It has come or changed; if not, it is gone.
        is_there: bool,
    },
    /// A neighbour answers, or does not.
    Neighbour(Neighbour),
    /// Announcements were lost.
    Lost,
}

struct Fd(Socket);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Hears what others change in one namespace.
pub struct Monitor {
    socket: AsyncFd<Fd>,
    datagram: Vec<u8>,
}

impl Monitor {
    /// Opens a socket in the calling thread's namespace that is deaf to the changes which `port` makes.
    pub fn open(port: u32) -> io::Result<Monitor> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        // Before the memberships, so that nothing unfiltered comes in.
        ignore_port(&socket, port)?;
        enlarge_receive_buffer(&socket, RECEIVE_BUFFER);
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        // SAFETY: the descriptor belongs to the socket, which the AsyncFd owns from here on.
        let socket = unsafe { AsyncFd::register(Fd(socket)) }?;
        Ok(Monitor {
            socket,
            datagram: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Waits for announcements and tells those that matter for a table.
    pub async fn news(&mut self, table: u32, mut tell: impl FnMut(News)) -> io::Result<()> {
        let mut ready = self.socket.readable().await?;
        loop {
            self.datagram.clear();
            match ready.get_inner().0.recv(&mut self.datagram, 0) {
                Ok(_) => decode::messages(&self.datagram)
                    .filter_map(|message| news(&message, table))
                    .for_each(&mut tell),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => tell(News::Lost),
                Err(error) => return Err(error),
            }
        }
    }
}

fn news(message: &decode::Message<'_>, table: u32) -> Option<News> {
    match message.kind {
        libc::RTM_NEWLINK => decode::link(message.payload).map(News::Link),
        libc::RTM_DELLINK => decode::link(message.payload).map(|link| News::LinkGone(link.index)),
        libc::RTM_NEWADDR | libc::RTM_DELADDR => {
            decode::interface_address(message.payload).map(|(link, address)| News::Address { link, address })
        }
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
            let route = decode::route(message.payload)?;
            if route.table != table || route.tos != 0 || route.priority > PRIORITY {
                None
            } else if route.protocol == PROTOCOL && route.priority == PRIORITY {
                Some(News::OurRoute)
            } else {
                Some(News::ForeignRoute(route.prefix))
            }
        }
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => {
            let nexthop = decode::nexthop(message.payload)?;
            let (id, is_there) = (nexthop.id, message.kind == RTM_NEWNEXTHOP);
            NEXTHOP_IDS.contains(&id).then_some(News::Nexthop { id, is_there })
        }
        libc::RTM_NEWNEIGH => decode::neighbour(message.payload).map(News::Neighbour),
        _ => None,
    }
}

/// A filter in the kernel that drops announcements of changes made from one port: while we install a large table, nothing has
/// to be copied or read again.
fn ignore_port(socket: &Socket, port: u32) -> io::Result<()> {
    let statement = |code: u32, jump_true: u8, jump_false: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: jump_true,
        jf: jump_false,
        k,
    };
    // nlmsg_pid, 12 octets into the header, in the machine's order; BPF loads in network order.
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 12),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            u32::from_be_bytes(port.to_ne_bytes()),
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` points to a program that lives until the call returns; the kernel copies it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
