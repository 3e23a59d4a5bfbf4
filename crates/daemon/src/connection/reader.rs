//! The reading task of a connection: big reads, whole messages, one batch per read.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use bgp::wire::{Decoder, Message, MessageError};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;

use super::{CLOSE_TIMEOUT, ConnectionEvent, Life, Shared, lock};

/// How much is read at once. Large enough that a table costs few system calls and few turns of the owner; small enough that the
/// messages in it, which take four times as much room, are still in a processor's cache when the owner takes them.
const READ_BYTES: usize = 32 << 10;

thread_local! {
    /// Nothing stays here between two reads, so all connections of a thread can share it: an idle connection holds no buffer.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// What one read brought.
enum Batch {
    Messages(Vec<Message>, Result<(), MessageError>),
    End,
}

pub(super) async fn run<E: From<ConnectionEvent>>(socket: OwnedReadHalf, shared: Arc<Shared>, events: mpsc::Sender<E>) {
    let mut life = shared.life.subscribe();
    let end = tokio::select! {
        _ = life.wait_for(|life| *life != Life::Open) => None,
        reason = receive(&socket, &shared, &events) => Some(reason),
    };
    if let Some(reason) = end {
        shared.gone(&events, reason).await;
    }
    discard(socket, &shared).await;
}

/// Reads until the stream ends, and says why it did. A stream that makes no sense is not read any further.
async fn receive<E: From<ConnectionEvent>>(
    socket: &OwnedReadHalf,
    shared: &Shared,
    events: &mpsc::Sender<E>,
) -> String {
    let connection = shared.id;
    let mut decoder = Decoder::new();
    loop {
        let (messages, outcome) = match read(socket, shared, &mut decoder).await {
            Ok(Batch::Messages(messages, outcome)) => (messages, outcome),
            Ok(Batch::End) => return "closed by the peer".to_owned(),
            Err(error) => return error.to_string(),
        };
        if !messages.is_empty() {
            let received = ConnectionEvent::Received { connection, messages };
            if events.send(received.into()).await.is_err() {
                return "without an owner".to_owned();
            }
        }
        if let Err(error) = outcome {
            let malformed = ConnectionEvent::Malformed { connection, error };
            let _ = events.send(malformed.into()).await;
            // The stream is lost, the answer is the owner's: a NOTIFICATION and a close.
            return std::future::pending().await;
        }
    }
}

async fn read(socket: &OwnedReadHalf, shared: &Shared, decoder: &mut Decoder) -> io::Result<Batch> {
    loop {
        socket.readable().await?;
        let batch: io::Result<Batch> = SCRATCH.with_borrow_mut(|scratch| {
            let length = socket.try_read(scratch)?;
            if length == 0 {
                return Ok(Batch::End);
            }
            if let Some(context) = lock(&shared.context).take() {
                decoder.set_context(context);
            }
            decoder.push(&scratch[..length]);
            Ok(messages(decoder))
        });
        match batch {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

fn messages(decoder: &mut Decoder) -> Batch {
    let mut messages = Vec::new();
    loop {
        match decoder.next_message() {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return Batch::Messages(messages, Ok(())),
            Err(error) => return Batch::Messages(messages, Err(error)),
        }
    }
}

/// Closing a socket that holds unread bytes makes the kernel send RST, which may overtake our NOTIFICATION. So what still comes is
/// read and dropped, until the peer closes too.
async fn discard(socket: OwnedReadHalf, shared: &Shared) {
    if *shared.life.borrow() != Life::Closing {
        return;
    }
    let end = async {
        while socket.readable().await.is_ok() {
            let read = SCRATCH.with_borrow_mut(|scratch| socket.try_read(scratch));
            match read {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    };
    // Whoever keeps sending, or never closes, is left behind.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, end).await;
}
