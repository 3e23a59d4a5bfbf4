//! The writing task of a connection: whole batches in one system call, and a word to the owner when the peer takes nothing.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::queue::MAX_PIECES;
use super::{CLOSE_TIMEOUT, ConnectionEvent, Life, Shared};

/// A peer that takes nothing for this long is told to the owner, whose send hold timer (RFC 9687) then decides.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) async fn run<E: From<ConnectionEvent>>(
    mut socket: OwnedWriteHalf,
    shared: Arc<Shared>,
    events: mpsc::Sender<E>,
) {
    let mut writer = Writer {
        shared: &shared,
        events: &events,
        pieces: Vec::with_capacity(MAX_PIECES),
        stalled: false,
    };
    let mut life = shared.life.subscribe();
    let result = tokio::select! {
        result = writer.write_for_ever(&socket) => result,
        () = shared.overrun.notified() => Err(io::Error::other("the peer takes too little: write queue beyond its limit")),
        _ = life.wait_for(|life| *life != Life::Open) => Ok(()),
    };
    if let Err(error) = result {
        shared.gone(&events, error.to_string()).await;
    }
    if *shared.life.borrow() == Life::Closing {
        let farewell = async {
            flush(&socket, &shared).await?;
            socket.shutdown().await
        };
        // What has not left by now would not help the peer either.
        let _ = timeout(CLOSE_TIMEOUT, farewell).await;
    }
}

struct Writer<'a, E> {
    shared: &'a Shared,
    events: &'a mpsc::Sender<E>,
    pieces: Vec<Bytes>,
    stalled: bool,
}

impl<E: From<ConnectionEvent>> Writer<'_, E> {
    async fn write_for_ever(&mut self, socket: &OwnedWriteHalf) -> io::Result<()> {
        let connection = self.shared.id;
        loop {
            if !self.take_front() {
                self.shared.wake_writer.notified().await;
                continue;
            }
            let written = match timeout(STALL_TIMEOUT, write_some(socket, &self.pieces)).await {
                Ok(written) => written?,
                Err(_) => {
                    self.set_stalled(true).await;
                    write_some(socket, &self.pieces).await?
                }
            };
            // No await before this: a cancelled writer must not leave in the queue what the socket has taken.
            let drained = self.shared.queue().advance(written);
            self.set_stalled(false).await;
            if drained {
                let _ = self.events.send(ConnectionEvent::Drained { connection }.into()).await;
            }
        }
    }

    /// Fetches what is to be written next. False: nothing.
    fn take_front(&mut self) -> bool {
        self.shared.queue().front(&mut self.pieces);
        !self.pieces.is_empty()
    }

    async fn set_stalled(&mut self, stalled: bool) {
        let connection = self.shared.id;
        if self.stalled != stalled {
            self.stalled = stalled;
            let event = match stalled {
                true => ConnectionEvent::Stalled { connection },
                false => ConnectionEvent::Moving { connection },
            };
            let _ = self.events.send(event.into()).await;
        }
    }
}

/// Writes what is queued, telling nobody.
async fn flush(socket: &OwnedWriteHalf, shared: &Shared) -> io::Result<()> {
    let mut pieces = Vec::with_capacity(MAX_PIECES);
    loop {
        shared.queue().front(&mut pieces);
        if pieces.is_empty() {
            return Ok(());
        }
        let written = write_some(socket, &pieces).await?;
        shared.queue().advance(written);
    }
}

/// Waits until the socket takes something. Cancelled, it has written nothing.
async fn write_some(socket: &OwnedWriteHalf, pieces: &[Bytes]) -> io::Result<usize> {
    loop {
        socket.writable().await?;
        let mut slices = [IoSlice::new(&[]); MAX_PIECES];
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
        }
        match socket.try_write_vectored(&slices[..pieces.len().min(MAX_PIECES)]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}
