//! The instance's side of the agent protocol, for messages that are encoded already.
//!
//! The server that tonic generates encodes each message once per stream. One change goes to thousands of agents, so ours takes bytes:
//! encoded once by [`crate::convert`], shared by all streams. On the wire it is the same service.

use std::convert::Infallible;

use bytes::{BufMut, Bytes};
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::codegen::tokio_stream::Stream;
use tonic::codegen::{BoxFuture, Context, Poll, Service, http};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::{ProstCodec, ProstDecoder};

use crate::agent::routes_server::SERVICE_NAME;
use crate::agent::{FromAgent, ToAgent};

/// Serves `Follow`.
pub trait Follow: Clone + Send + Sync + 'static {
    /// Encoded [`ToAgent`] messages.
    type Messages: Stream<Item = Result<Bytes, Status>> + Send + 'static;

    /// An agent has come. Its messages follow in the request.
    fn follow(&self, request: Request<Streaming<FromAgent>>) -> Result<Self::Messages, Status>;
}

/// The service, to be put on a [`tonic::transport::Server`].
#[derive(Clone, Debug)]
pub struct FollowServer<F> {
    follow: F,
}

impl<F: Follow> FollowServer<F> {
    /// Serves with this.
    pub fn new(follow: F) -> FollowServer<F> {
        FollowServer { follow }
    }
}

impl<F> tonic::server::NamedService for FollowServer<F> {
    const NAME: &'static str = SERVICE_NAME;
}

impl<F: Follow> Service<http::Request<tonic::body::Body>> for FollowServer<F> {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let follow = self.follow.clone();
        Box::pin(async move {
            if request.uri().path() != FOLLOW_PATH {
                return Ok(Status::unimplemented("only Follow is served here").into_http());
            }
            Ok(tonic::server::Grpc::new(EncodedCodec)
                .streaming(Method(follow), request)
                .await)
        })
    }
}

const FOLLOW_PATH: &str = "/routewright.agent.v1.Routes/Follow";

struct Method<F>(F);

impl<F: Follow> tonic::server::StreamingService<FromAgent> for Method<F> {
    type Response = Bytes;
    type ResponseStream = F::Messages;
    type Future = BoxFuture<Response<F::Messages>, Status>;

    fn call(&mut self, request: Request<Streaming<FromAgent>>) -> Self::Future {
        let answer = self.0.follow(request).map(Response::new);
        Box::pin(async move { answer })
    }
}

/// Reads as prost does, writes what is encoded already.
struct EncodedCodec;

impl Codec for EncodedCodec {
    type Encode = Bytes;
    type Decode = FromAgent;
    type Encoder = Encoded;
    type Decoder = ProstDecoder<FromAgent>;

    fn encoder(&mut self) -> Encoded {
        Encoded
    }

    fn decoder(&mut self) -> ProstDecoder<FromAgent> {
        ProstCodec::<ToAgent, FromAgent>::default().decoder()
    }
}

struct Encoded;

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}
