//! What the kernel of a namespace announces of its routes (rtnetlink(7)), with the time it was heard.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::network::enter;
use crate::workload::number_of;

// linux/rtnetlink.h, enum rtnetlink_groups.
pub(crate) const RTNLGRP_IPV4_ROUTE: u32 = 7;
pub(crate) const RTNLGRP_NEXTHOP: u32 = 32;

/// Room for the announcements of 200,000 routes.
const RECEIVE_BUFFER: libc::c_int = 256 << 20;

/// A route came or went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Number of its prefix.
    pub(crate) number: u32,
    pub(crate) added: bool,
    pub(crate) at: Instant,
}

/// Starts a thread that listens for ever; it ends with the program.
pub(crate) fn watch(namespace: &Path) -> Result<mpsc::Receiver<Seen>> {
    let (sender, receiver) = mpsc::channel();
    let (ready, opened) = mpsc::channel();
    let namespace = namespace.to_owned();
    thread::spawn(move || {
        let socket = match open(&namespace, &[RTNLGRP_IPV4_ROUTE], RECEIVE_BUFFER) {
            Ok(socket) => {
                let _ = ready.send(Ok(()));
                socket
            }
            Err(error) => return drop(ready.send(Err(error))),
        };
        let mut datagram = Vec::with_capacity(1 << 16);
        loop {
            datagram.clear();
            if socket.recv(&mut datagram, 0).is_err() {
                return;
            }
            let at = Instant::now();
            for (number, added) in routes(&datagram) {
                if sender.send(Seen { number, added, at }).is_err() {
                    return;
                }
            }
        }
    });
    match opened.recv() {
        Ok(result) => result.map(|()| receiver),
        Err(_) => bail!("the watching thread died"),
    }
}

/// Enters a namespace and listens to what its kernel announces to these groups, with room for so many octets that wait.
pub(crate) fn open(namespace: &Path, groups: &[u32], room: libc::c_int) -> Result<Socket> {
    enter(namespace)?;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    // SAFETY: the option's value is an int that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const room).cast(),
            size_of_val(&room) as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error().into());
    }
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    Ok(socket)
}

/// Our prefixes among the routes that a datagram announces.
fn routes(mut datagram: &[u8]) -> Vec<(u32, bool)> {
    const HEADER: usize = 16;
    const ROUTE_HEADER: usize = 12;
    let mut seen = Vec::new();
    while datagram.len() >= HEADER + ROUTE_HEADER {
        let length = u32::from_ne_bytes([datagram[0], datagram[1], datagram[2], datagram[3]]) as usize;
        let kind = u16::from_ne_bytes([datagram[4], datagram[5]]);
        if length < HEADER + ROUTE_HEADER || length > datagram.len() {
            break;
        }
        let added = kind == libc::RTM_NEWROUTE;
        if (added || kind == libc::RTM_DELROUTE) && datagram[HEADER + 1] == 24 {
            let number = destination(&datagram[HEADER + ROUTE_HEADER..length]);
            seen.extend(number.map(|number| (number, added)));
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    seen
}

fn destination(mut attributes: &[u8]) -> Option<u32> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        if kind == libc::RTA_DST {
            let address: [u8; 4] = attributes.get(4..8)?.try_into().ok()?;
            let [a, b, c, _] = Ipv4Addr::from(address).octets();
            return number_of([a, b, c]);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}
