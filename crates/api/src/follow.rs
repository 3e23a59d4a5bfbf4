//! The instance's side of the agent protocol, for messages that are encoded already.
//!
//! The server that tonic generates encodes each message once per stream, into a buffer of that stream. One change goes to thousands of
//! agents, so what goes out here are octets that all streams share: encoded and framed once by [`crate::convert`], never copied before
//! the socket. On the wire it is the same service. What agents say is read as tonic reads it.

use std::convert::Infallible;
use std::pin::Pin;

use bytes::Bytes;
use http_body::{Body, Frame};
use tonic::codec::Codec;
use tonic::codegen::tokio_stream::Stream;
use tonic::codegen::{Context, Poll, StdError, http};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use crate::agent::{FromAgent, ToAgent};

/// Serves `Follow`.
pub trait Follow {
    /// Messages, framed by [`crate::convert`].
    type Messages: Messages;

    /// An agent has come with this token, if it has one, and this is what it says.
    fn follow(&self, token: Option<&str>, said: Streaming<FromAgent>) -> Result<Self::Messages, Status>;
}

/// What an agent is told.
pub trait Messages: Stream<Item = Bytes> + Send + 'static {
    /// Why there is no more, when there is no more.
    fn ended(&self) -> Status;
}

/// How a token comes: `authorization: Bearer TOKEN` (RFC 6750).
pub const BEARER: &str = "Bearer ";

/// The method's path (gRPC over HTTP/2: "Path → /Service-Name/{method name}").
const PATH: &str = "/routewright.agent.v1.Routes/Follow";
const CONTENT_TYPE: http::HeaderValue = http::HeaderValue::from_static("application/grpc");
/// The longest message of an agent, in octets: a Hello with 4,096 ids of NICs, which Azure's limits for names leave below 300 octets.
const MAX_MESSAGE: usize = 5 << 18;

/// Answers a request for the service.
pub fn answer<F, B>(follow: &F, request: http::Request<B>) -> http::Response<Answer<F::Messages>>
where
    F: Follow,
    B: Body + Send + 'static,
    B::Error: Into<StdError>,
{
    if request.uri().path() != PATH {
        return Status::unimplemented("only Follow is served here").into_http();
    }
    let decoder = ProstCodec::<ToAgent, FromAgent>::default().decoder();
    let (head, body) = request.into_parts();
    let said = Streaming::new_request(decoder, body, None, Some(MAX_MESSAGE));
    let authorization = head.headers.get(http::header::AUTHORIZATION);
    let token = authorization.and_then(|value| value.to_str().ok()?.strip_prefix(BEARER));
    match follow.follow(token, said) {
        Ok(messages) => {
            let mut response = http::Response::new(Answer(Some(messages)));
            response.headers_mut().insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
            response
        }
        Err(status) => status.into_http(),
    }
}

/// The body of an answer: the messages, then the status. A refusal has all that is to say in its head.
#[derive(Debug)]
pub struct Answer<M>(Option<M>);

impl<M> Default for Answer<M> {
    fn default() -> Answer<M> {
        Answer(None)
    }
}

impl<M: Messages + Unpin> Body for Answer<M> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(messages) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let ended = match Pin::new(&mut *messages).poll_next(context) {
            Poll::Ready(Some(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
            Poll::Ready(None) => messages.ended(),
            Poll::Pending => return Poll::Pending,
        };
        self.0 = None;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&ended)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

/// The end of a stream.
fn trailers(status: &Status) -> http::HeaderMap {
    let mut trailers = http::HeaderMap::new();
    // It fails for text that no header can have; ours is none such, and the code says enough.
    let _ = status.add_header(&mut trailers);
    trailers
}
