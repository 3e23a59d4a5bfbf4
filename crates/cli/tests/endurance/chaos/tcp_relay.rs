//! Between an agent and an instance: what is parted hears nothing, and nobody is told.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How soon a change of weather is noticed.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Passes connections on to an address on loopback.
pub struct TcpRelay {
    pub address: SocketAddr,
    parted: Arc<AtomicBool>,
    gone: Arc<AtomicBool>,
}

impl TcpRelay {
    pub fn to(target: SocketAddr) -> TcpRelay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let relay = TcpRelay {
            address: listener.local_addr().unwrap(),
            parted: Arc::default(),
            gone: Arc::default(),
        };
        let (parted, gone) = (relay.parted.clone(), relay.gone.clone());
        thread::spawn(move || {
            while !gone.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => pass(stream, target, &parted, &gone),
                    Err(_) => thread::sleep(LOOK_AGAIN),
                }
            }
        });
        relay
    }

    /// While parted, what is said stays with whoever said it.
    pub fn part(&self, parted: bool) {
        self.parted.store(parted, Ordering::Relaxed);
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

fn pass(near: TcpStream, target: SocketAddr, parted: &Arc<AtomicBool>, gone: &Arc<AtomicBool>) {
    let Ok(far) = TcpStream::connect(target) else { return };
    let ends = [(&near, &far), (&far, &near)].map(|(from, to)| (from.try_clone(), to.try_clone()));
    for (from, to) in ends {
        let (Ok(from), Ok(to)) = (from, to) else { return };
        let (parted, gone) = (parted.clone(), gone.clone());
        thread::spawn(move || copy(from, to, &parted, &gone));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, parted: &AtomicBool, gone: &AtomicBool) {
    let _ = (from.set_nonblocking(false), from.set_read_timeout(Some(LOOK_AGAIN)));
    let mut buffer = [0; 64 << 10];
    while !gone.load(Ordering::Relaxed) {
        if parted.load(Ordering::Relaxed) {
            thread::sleep(LOOK_AGAIN);
            continue;
        }
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        // What was under way when they were parted waits, too.
        while parted.load(Ordering::Relaxed) && !gone.load(Ordering::Relaxed) {
            thread::sleep(LOOK_AGAIN);
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}
