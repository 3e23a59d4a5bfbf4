//! TCP MD5 signatures (RFC 2385), as Linux has them: one key per remote address on a socket.
//!
//! Deprecated by RFC 5925 (TCP-AO) long ago, and still what most NVAs can do.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use bgp::Password;
use socket2::{SockAddr, Socket};

/// The longest key that Linux takes (`TCP_MD5SIG_MAXKEYLEN`).
pub(super) const MAX_KEY_BYTES: usize = 80;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct TcpMd5Sig {
    address: socket2::SockAddrStorage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: libc::c_int,
    key: [u8; MAX_KEY_BYTES],
}

/// Sets the key for a remote address; without a password removes it.
pub(super) fn set_key(socket: &Socket, remote: IpAddr, password: Option<&Password>) -> io::Result<()> {
    let password = password.map_or("", Password::expose).as_bytes();
    if password.len() > MAX_KEY_BYTES {
        let text = format!("an MD5 password has at most {MAX_KEY_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut key = [0; MAX_KEY_BYTES];
    key[..password.len()].copy_from_slice(password);
    let address = SockAddr::from(std::net::SocketAddr::new(remote, 0));
    let signature = TcpMd5Sig {
        address: address.as_storage(),
        flags: 0,
        prefix_length: 0,
        // At most 80.
        key_length: password.len() as u16,
        interface: 0,
        key,
    };
    // SAFETY: the pointer and the length are those of a value that outlives the call and has the kernel's layout.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MD5SIG,
            (&raw const signature).cast(),
            size_of::<TcpMd5Sig>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(explain(io::Error::last_os_error())),
    }
}

fn explain(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOPROTOOPT | libc::EOPNOTSUPP) => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel lacks TCP MD5 signatures (CONFIG_TCP_MD5SIG): use one that has them, or remove the peering's md5Password",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_signatures_is_told_in_words_that_help() {
        let explained = |errno| explain(io::Error::from_raw_os_error(errno)).to_string();
        assert!(explained(libc::ENOPROTOOPT).contains("CONFIG_TCP_MD5SIG"));
        assert!(!explained(libc::EPERM).contains("CONFIG"));
    }
}
