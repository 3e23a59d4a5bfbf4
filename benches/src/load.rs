//! The load: all peers of a workload, each with a receiver that checks what it is told.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use socket2::{Domain, Socket, Type};

use crate::network::Network;
use crate::peer::{Expected, Holding, Receiver, establish};
use crate::workload::{Workload, address_of, device};

/// A speaker that has not answered an OPEN by then will not.
const ESTABLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// A session's socket buffers: those of a busy host, so that none of the speakers waits for the load.
const SOCKET_BUFFER: usize = 4 << 20;

/// Established sessions, by peer.
pub(crate) struct Load {
    pub(crate) streams: Vec<TcpStream>,
    pub(crate) holdings: Vec<Arc<Holding>>,
    expected: Arc<Expected>,
    stop: Arc<AtomicBool>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// Establishes all peers that announce.
    pub(crate) fn establish(network: &Network, workload: Workload) -> Result<Load> {
        let mut load = Load {
            streams: Vec::new(),
            holdings: Vec::new(),
            expected: Arc::new(Expected {
                all_live: workload.winners(None),
                without_0: workload.winners(Some(0)),
            }),
            stop: Arc::default(),
            readers: Vec::new(),
        };
        for peer in 0..workload.peers {
            load.join(network, peer)?;
        }
        Ok(load)
    }

    /// One peer more.
    pub(crate) fn join(&mut self, network: &Network, peer: u32) -> Result<()> {
        let stream = connect_from(network, peer, SocketAddr::new(device(), 179))?;
        let holding = Arc::new(Holding::default());
        let receiver = Receiver::new(stream.try_clone()?, holding.clone(), peer, self.expected.clone());
        let stop = self.stop.clone();
        self.readers.push(thread::spawn(move || receiver.run(&stop)));
        self.streams.push(stream);
        self.holdings.push(holding);
        Ok(())
    }

    /// Everybody writes at once what is his.
    pub(crate) fn send_all(&self, messages: &[Vec<u8>]) -> Result<()> {
        thread::scope(|scope| {
            let writers: Vec<_> = self
                .streams
                .iter()
                .zip(messages)
                .filter(|(_, bytes)| !bytes.is_empty())
                .map(|(mut stream, bytes)| scope.spawn(move || stream.write_all(bytes)))
                .collect();
            for writer in writers {
                writer.join().map_err(|_| anyhow!("a writer died"))??;
            }
            Ok(())
        })
    }

    /// Waits until `done` says so of every peer.
    pub(crate) fn wait(&self, what: &str, patience: Duration, done: impl Fn(u32, &Holding) -> bool) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut next = 0;
        while next < self.holdings.len() {
            if done(next as u32, &self.holdings[next]) {
                next += 1;
            } else if Instant::now() > deadline {
                bail!(
                    "{what} took more than {patience:?}; right/held per peer: {}",
                    self.state()
                );
            } else {
                thread::sleep(Duration::from_micros(200));
                next = 0;
            }
        }
        Ok(())
    }

    fn state(&self) -> String {
        let one = |h: &Arc<Holding>| {
            format!(
                "{}/{} ",
                h.right.load(Ordering::Acquire),
                h.held.load(Ordering::Acquire)
            )
        };
        self.holdings.iter().map(one).collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for stream in &self.streams {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

/// An Established session from the load's namespace.
pub(crate) fn connect_from(network: &Network, peer: u32, to: SocketAddr) -> Result<TcpStream> {
    thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            network.enter_load()?;
            connect(peer, to)
        });
        connecting
            .join()
            .unwrap_or_else(|_| bail!("the connecting thread died"))
    })
}

fn connect(peer: u32, to: SocketAddr) -> Result<TcpStream> {
    let deadline = Instant::now() + ESTABLISH_TIMEOUT;
    loop {
        match try_connect(peer, to) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() > deadline => return Err(e),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn try_connect(peer: u32, to: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&SocketAddr::new(address_of(peer).into(), 0).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
    socket.set_tcp_nodelay(true)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    establish(&mut stream, peer)?;
    Ok(stream)
}
