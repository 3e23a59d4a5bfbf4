//! Time to live: far enough for multihop peers, or TTL security (RFC 5082), which trusts only who cannot be far away.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// NVAs sit in other subnets, some behind gateways of their own; 64 is what other packets have.
pub const DEFAULT_TTL: u8 = 64;

/// The least TTL that a packet can arrive with which its sender, at most `hops` away (1: on the link), has sent with 255.
pub(super) fn least_ttl(hops: u8) -> u8 {
    255 - hops.saturating_sub(1)
}

/// What packets leave with.
pub(crate) fn set_ttl(socket: &Socket, family: IpAddr, ttl: u8) -> io::Result<()> {
    match family {
        IpAddr::V4(_) => socket.set_ttl_v4(ttl.into()),
        IpAddr::V6(_) => socket.set_unicast_hops_v6(ttl.into()),
    }
}

/// Packets that arrive with less are dropped by the kernel; 0 drops none.
pub(super) fn set_least_ttl(socket: &impl AsRawFd, family: IpAddr, least: u8) -> io::Result<()> {
    match family {
        IpAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_MINTTL, least.into()),
        IpAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, least.into()),
    }
}

/// Keeps the SYN of each caller, so that [`syn_ttl`] can look at it.
pub(super) fn save_syn(socket: &Socket) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, TCP_SAVE_SYN, 1)
}

/// The TTL of the SYN that opened an accepted connection; the kernel tells it once.
pub(super) fn syn_ttl(socket: &impl AsRawFd, family: IpAddr) -> Option<u8> {
    let mut headers = [0_u8; 256];
    let mut length = headers.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to a buffer of that length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_SAVED_SYN,
            headers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let headers = headers.get(..length as usize).filter(|_| result == 0)?;
    match family {
        IpAddr::V4(_) => headers.get(8).copied(),
        IpAddr::V6(_) => headers.get(7).copied(),
    }
}

/// linux/tcp.h.
const TCP_SAVE_SYN: libc::c_int = 27;
const TCP_SAVED_SYN: libc::c_int = 28;

pub(crate) fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of a c_int that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_on_the_link_must_arrive_with_255() {
        for (hops, least) in [(0, 255), (1, 255), (2, 254), (255, 1)] {
            assert_eq!(least_ttl(hops), least, "{hops} hops");
        }
    }
}
