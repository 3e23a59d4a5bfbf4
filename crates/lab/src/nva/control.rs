//! The control socket: one word per line in, one line out.
//!
//! | word | answer |
//! |---|---|
//! | `reload` | `ok`, when the configuration file has been read again and what changed has been sent |
//! | `status` | one line of JSON: each peer's state and what was learned from it |

use std::io;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// A longer request than this is none of ours.
const MAX_REQUEST: u64 = 256;

/// What somebody asks.
#[derive(Debug)]
pub(super) enum Request {
    /// Read the configuration again.
    Reload,
    /// Say how things are.
    Status,
}

/// Listens; each request goes to the speaker with a place for its answer.
pub(super) fn listen(path: &Path, requests: mpsc::Sender<(Request, oneshot::Sender<String>)>) -> io::Result<()> {
    // A killed predecessor leaves its socket.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, requests.clone()));
        }
    });
    Ok(())
}

async fn serve(stream: UnixStream, requests: mpsc::Sender<(Request, oneshot::Sender<String>)>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(MAX_REQUEST)).read_line(&mut line).await?;
    let request = match line.trim() {
        "reload" => Request::Reload,
        "status" => Request::Status,
        other => return writer.write_all(format!("what is {other:?}?\n").as_bytes()).await,
    };
    let (answer, answered) = oneshot::channel();
    let _ = requests.send((request, answer)).await;
    let text = answered.await.unwrap_or_else(|_| "the speaker has ended".to_owned());
    writer.write_all(format!("{text}\n").as_bytes()).await
}
