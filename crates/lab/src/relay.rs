//! A node's link through a relay in user space: it loses, cuts and parts, and neither end sees its carrier go.
//!
//! ```text
//!   node ──veth── near ─┤ relay (a namespace, two threads) ├─ bridge ──veth── port of the fabric's bridge
//! ```
//!
//! The relay copies frames between two packet sockets (packet(7)), with the header that says which checksums and segments are still to be
//! made (PACKET_VNET_HDR): between veth ends the kernel makes neither. It lives as long as its [`Relay`]; without it the node is cut off.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use netlink_packet_route::link::{InfoData, InfoVeth};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::LabError;
use crate::fabric::{in_node, index_of};
use crate::handle::Lab;
use crate::layout::{FABRIC, Link};
use crate::namespace::Namespace;

/// The relay's end towards the fabric.
const TO_BRIDGE: &str = "bridge";
/// Of a frame with segmentation still to be done, and the header before it.
const MAX_FRAME: usize = (64 << 10) + 64;
const RECEIVE_BUFFER: usize = 8 << 20;
/// `struct virtio_net_hdr`.
const VNET_HEADER: usize = 10;
/// How soon a thread notices that its relay is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Interface names have 15 characters.
const MAX_NAME: usize = 15;

/// What a relay does with frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Of a thousand frames so many are lost, in each direction; 1,000: all.
    pub loss_permille: u32,
    /// Packets from and to these addresses are lost.
    pub parted_from: Vec<Ipv4Addr>,
}

/// A relay in a node's link.
#[derive(Debug)]
pub struct Relay {
    weather: Arc<Mutex<Weather>>,
    stop: Arc<AtomicBool>,
    /// One for each direction. Their sockets keep the relay's namespace, and so its links.
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Puts a relay into the link between a node and the fabric.
    ///
    /// The lab's own `link down` does not know this link any more.
    pub fn insert(lab: &Lab, node: &str) -> Result<Relay, LabError> {
        let layout = lab.layout();
        let link = layout
            .link_of(node)
            .filter(|link| link.near.node == FABRIC && link.bridge.is_some());
        let link = link.ok_or_else(|| LabError::NotPossible {
            node: node.to_owned(),
            reason: "it has no link to the fabric that a relay could be put into".to_owned(),
        })?;
        let fabric = lab.namespace(FABRIC)?;
        let [near, bridge] = in_new_namespace(|own| {
            rewire(&fabric, own, link)?;
            let sockets = own.run(|| Ok([packet_socket(&link.near.interface)?, packet_socket(TO_BRIDGE)?]));
            sockets.map_err(LabError::system(format!("a relay for {node}")))
        })?;
        let mut relay = Relay {
            weather: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let sockets = Arc::new([near, bridge]);
        for (from, to) in [(0, 1), (1, 0)] {
            let (mut rain, sockets) = (Rain::new(relay.weather.clone()), sockets.clone());
            let stop = relay.stop.clone();
            let copying = move || {
                become_urgent();
                rain.copy(&sockets[from], &sockets[to], &stop)
            };
            let thread = std::thread::Builder::new().name(format!("relay {node}")).spawn(copying);
            let thread = thread.map_err(LabError::system(format!("a relay for {node}")))?;
            relay.threads.push(thread);
        }
        Ok(relay)
    }

    /// From now on frames fare like this.
    pub fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// How frames fare now.
    pub fn weather(&self) -> Weather {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Frames wait for nobody on a busy machine: a wire would not. Without the right to it the thread stays an ordinary one.
fn become_urgent() {
    const REAL_TIME_PRIORITY: libc::c_int = 5;
    let parameters = libc::sched_param {
        sched_priority: REAL_TIME_PRIORITY,
    };
    // SAFETY: the pointer is to a value that outlives the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
}

/// Works with a network namespace that is new; it stays as long as anything of it does, a socket for example.
fn in_new_namespace<T>(work: impl FnOnce(&Namespace) -> Result<T, LabError>) -> Result<T, LabError> {
    let what = || LabError::system("making the namespace of a relay".to_owned());
    std::thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let (keep, until) = mpsc::channel::<()>();
        scope.spawn(move || {
            let _ = ready.send(unshare(CloneFlags::CLONE_NEWNET).map(|()| nix::unistd::gettid()));
            let _ = until.recv();
        });
        let thread = is_ready.recv().map_err(|e| what()(io::Error::other(e)))?;
        let own = Namespace::of_thread(thread.map_err(|e| what()(e.into()))?.as_raw());
        let done = work(&own);
        drop(keep);
        done
    })
}

/// Takes the near end from the bridge into the relay's namespace, and makes the bridge a new port whose other end is there, too.
fn rewire(fabric: &Namespace, own: &Namespace, link: &Link) -> Result<(), LabError> {
    let opening = LabError::system(format!("opening {}", own.path().display()));
    let target = File::open(own.path()).map_err(opening)?;
    let (near, bridge) = (&link.near.interface, link.bridge.as_deref().unwrap_or_default());
    let port: String = format!("r-{near}").chars().take(MAX_NAME).collect();
    in_node(fabric, FABRIC, "putting a relay into a link", |netlink| async move {
        // A port that leaves the namespace leaves the bridge.
        let moved = LinkUnspec::new_with_name(near).setns_by_fd(target.as_raw_fd()).build();
        netlink.link().set(moved).execute().await?;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(TO_BRIDGE.to_owned())
            .setns_by_fd(target.as_raw_fd())
            .build();
        let pair = LinkVeth::new(&port, TO_BRIDGE)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .controller(index_of(&netlink, bridge).await?)
            .up();
        netlink.link().add(pair.build()).execute().await
    })?;
    in_node(own, "relay", "switching links on", |netlink| async move {
        // Nobody lives here: whoever asks is answered by those at the ends.
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
        for name in [near.as_str(), TO_BRIDGE] {
            let up = LinkUnspec::new_with_name(name).up().build();
            netlink.link().set(up).execute().await?;
        }
        Ok(())
    })
}

/// All frames that come in by an interface, and none that go out.
fn packet_socket(interface: &str) -> io::Result<Socket> {
    const ALL: u16 = libc::ETH_P_ALL as u16;
    let index = nix::net::if_::if_nametoindex(interface)?;
    // Without a protocol it receives nothing until it is bound.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    for option in [libc::PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING] {
        switch_on(&socket, option)?;
    }
    // Beyond the system's limit, if we may: what waits for a relay that is late is not to be lost.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    socket.set_read_timeout(Some(LOOK_AGAIN))?;
    // SAFETY: the storage is zeroed and large enough for a sockaddr_ll, whose length is given.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as u16;
            (*link).sll_protocol = ALL.to_be();
            (*link).sll_ifindex = index as i32;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    socket.bind(&address)?;
    Ok(socket)
}

/// linux/if_packet.h, since Linux 4.20.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

fn switch_on(socket: &Socket, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is an int that lives through the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            length,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What falls on one direction.
struct Rain {
    weather: Arc<Mutex<Weather>>,
    /// Which frames are lost is not meant to be foreseen, nor to differ from run to run.
    dice: u32,
}

impl Rain {
    fn new(weather: Arc<Mutex<Weather>>) -> Rain {
        Rain { weather, dice: 1 }
    }

    /// What comes in at one end goes to the other, or is lost.
    fn copy(&mut self, from: &Socket, to: &Socket, stop: &AtomicBool) {
        let mut buffer = vec![MaybeUninit::uninit(); MAX_FRAME];
        while !stop.load(Ordering::Relaxed) {
            let Ok(length) = from.recv(&mut buffer) else { continue };
            // SAFETY: recv has written so many octets.
            let frame: &[u8] = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast(), length) };
            if !self.takes(frame.get(VNET_HEADER..).unwrap_or_default()) {
                // A full queue loses frames, as a switch would.
                let _ = to.send(frame);
            }
        }
    }

    fn takes(&mut self, frame: &[u8]) -> bool {
        let weather = self.weather.lock().unwrap_or_else(PoisonError::into_inner);
        // Numerical Recipes' generator: good enough for rain.
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.dice >> 8) % 1_000 < weather.loss_permille
            || ends(frame).is_some_and(|ends| ends.iter().any(|end| weather.parted_from.contains(end)))
    }
}

/// Source and destination of an IPv4 packet in an Ethernet frame.
fn ends(frame: &[u8]) -> Option<[Ipv4Addr; 2]> {
    const IPV4: [u8; 2] = [0x08, 0x00];
    let is_ipv4 = frame.get(12..14)? == IPV4;
    let address = |at: usize| <[u8; 4]>::try_from(frame.get(at..at + 4)?).ok().map(Ipv4Addr::from);
    Some([address(26).filter(|_| is_ipv4)?, address(30)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rain(weather: Weather) -> Rain {
        Rain::new(Arc::new(Mutex::new(weather)))
    }

    fn frame(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![0; 34];
        frame[12] = 0x08;
        frame[26..30].copy_from_slice(&from);
        frame[30..34].copy_from_slice(&to);
        frame
    }

    #[test]
    fn in_fair_weather_nothing_is_lost_and_in_the_worst_everything() {
        let frame = frame([10, 0, 0, 1], [10, 0, 0, 2]);
        let count = |loss_permille| {
            let mut rain = rain(Weather {
                loss_permille,
                ..Weather::default()
            });
            (0..10_000).filter(|_| rain.takes(&frame)).count()
        };
        assert_eq!(count(0), 0);
        assert_eq!(count(1_000), 10_000);
        let some = count(200);
        assert!((1_800..2_200).contains(&some), "{some}");
    }

    #[test]
    fn parted_are_those_named_in_both_directions_and_nobody_else() {
        let [a, b, c] = [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]];
        let mut rain = rain(Weather {
            parted_from: vec![b.into()],
            ..Weather::default()
        });
        assert!(rain.takes(&frame(a, b)));
        assert!(rain.takes(&frame(b, a)));
        assert!(!rain.takes(&frame(a, c)));
        // Asking who has an address is no packet of its.
        assert!(!rain.takes(&[0; 20]));
    }
}
