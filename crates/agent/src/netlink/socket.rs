//! One netlink socket for requests, used by one thread, one request or batch at a time.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};

use super::decode::{self, Answer, Message};
use super::encode::Buffer;

/// Room for answers. Only failures are answered one by one, so this is for the worst batch of them.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Room for one datagram; the kernel fills up to 32 KiB when it sees that much room.
const DATAGRAM: usize = 64 * 1024;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_MULTI: u16 = 2;
const NLM_F_DUMP_INTR: u16 = 0x10;

#[derive(Debug)]
pub(super) struct Requests {
    socket: Socket,
    port: u32,
    seq: u32,
    datagram: Vec<u8>,
}

impl Requests {
    pub(super) fn open() -> io::Result<Requests> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        socket.set_netlink_get_strict_chk(true)?;
        enlarge_receive_buffer(&socket, RECEIVE_BUFFER);
        Ok(Requests {
            socket,
            port,
            seq: 1,
            datagram: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Exactly so much, or the least that the kernel grants.
    pub(super) fn set_receive_buffer(&self, octets: usize) -> io::Result<()> {
        // SAFETY: the descriptor is open while `self` is borrowed.
        let fd = unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
        setsockopt(&fd, sockopt::RcvBuf, &octets).map_err(io::Error::from)
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// The number that the next request begins with.
    pub(super) fn next_seq(&self) -> u32 {
        self.seq
    }

    /// Sends a batch of which the last request asks for an acknowledgement; tells the requests that failed.
    pub(super) fn send(
        &mut self,
        buffer: &Buffer,
        count: usize,
        mut failed: impl FnMut(usize, Answer),
    ) -> io::Result<()> {
        let first = self.begin(buffer, count)?;
        loop {
            let last = self.receive(|message| {
                if message.kind != NLMSG_ERROR {
                    return Ok(false);
                }
                let offset = message.seq.wrapping_sub(first) as usize;
                let Some(answer) = decode::answer(message).filter(|_| offset < count) else {
                    return Ok(false);
                };
                if answer.errno != 0 {
                    failed(offset, answer);
                }
                Ok(offset + 1 == count)
            })?;
            if last {
                return Ok(());
            }
        }
    }

    /// Sends one question and reads the whole answer.
    pub(super) fn ask(&mut self, buffer: &Buffer, mut each: impl FnMut(&Message<'_>)) -> io::Result<()> {
        let seq = self.begin(buffer, 1)?;
        let mut interrupted = false;
        loop {
            let last = self.receive(|message| {
                if message.seq != seq {
                    return Ok(false);
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_ERROR => ended(decode::answer(message).map_or(libc::EBADMSG, |answer| answer.errno)),
                    NLMSG_DONE => ended(done_errno(message.payload)),
                    _ => {
                        each(message);
                        Ok(message.flags & NLM_F_MULTI == 0)
                    }
                }
            })?;
            if last {
                return if interrupted {
                    Err(io::Error::from_raw_os_error(libc::EINTR))
                } else {
                    Ok(())
                };
            }
        }
    }

    fn begin(&mut self, buffer: &Buffer, count: usize) -> io::Result<u32> {
        let first = self.seq;
        self.seq = self.seq.wrapping_add(count as u32);
        self.drain();
        self.socket.send(buffer.bytes(), 0)?;
        Ok(first)
    }

    /// Throws away what an earlier request, given up after an error, may have left.
    fn drain(&mut self) {
        while {
            self.datagram.clear();
            self.socket.recv(&mut self.datagram, libc::MSG_DONTWAIT).is_ok()
        } {}
    }

    /// Reads one datagram; true if `each` said so for one of its messages.
    fn receive(&mut self, mut each: impl FnMut(&Message<'_>) -> io::Result<bool>) -> io::Result<bool> {
        self.datagram.clear();
        loop {
            match self.socket.recv(&mut self.datagram, 0) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut last = false;
        for message in decode::messages(&self.datagram) {
            last |= each(&message)?;
        }
        Ok(last)
    }
}

/// The end of an answer. A question about what isn't there (a link, a neighbour, a table before its first route) has one too: nothing.
fn ended(errno: i32) -> io::Result<bool> {
    match errno {
        0 | libc::ENODEV | libc::ENOENT => Ok(true),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// A dump's end carries its error, if it had one.
fn done_errno(payload: &[u8]) -> i32 {
    payload
        .get(..4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, |bytes| -i32::from_ne_bytes(bytes))
}

/// As large as we may: beyond the system's limit where we are allowed to.
pub(super) fn enlarge_receive_buffer(socket: &Socket, size: usize) {
    // SAFETY: the descriptor is open while `socket` is borrowed.
    let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    if setsockopt(&fd, sockopt::RcvBufForce, &size).is_err() {
        // A smaller buffer means ENOBUFS sooner, which is answered by reading everything again.
        let _ = setsockopt(&fd, sockopt::RcvBuf, &size);
    }
}
