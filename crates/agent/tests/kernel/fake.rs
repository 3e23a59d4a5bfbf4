//! An instance as agents see it: tells what the test wants it to tell, keeps what agents confirm.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::agent::route::Way;
use api::agent::routes_server::{Routes, RoutesServer};
use api::agent::to_agent::Body;
use api::agent::{
    FromAgent, Group, Heartbeat, Installed, Nic, Prefix, Route, TableUpdate, ToAgent, Welcome, from_agent,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

pub const TABLE: u64 = 7;
/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// So many heartbeats that one who stands still for a moment does not count as silent.
const SILENCE_SECS: u32 = 10;

#[derive(Default)]
struct Shared {
    greeting: Vec<Body>,
    streams: Vec<mpsc::UnboundedSender<Result<ToAgent, Status>>>,
}

#[derive(Clone)]
struct Service {
    shared: Arc<Mutex<Shared>>,
    installed: watch::Sender<Option<Installed>>,
}

#[tonic::async_trait]
impl Routes for Service {
    type FollowStream = UnboundedReceiverStream<Result<ToAgent, Status>>;

    async fn follow(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Self::FollowStream>, Status> {
        let (sender, stream) = mpsc::unbounded_channel();
        let mut incoming = request.into_inner();
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                match message.body {
                    Some(from_agent::Body::Hello(_)) => {
                        let mut shared = service.shared.lock().unwrap();
                        for body in &shared.greeting {
                            let _ = sender.send(Ok(ToAgent {
                                body: Some(body.clone()),
                            }));
                        }
                        shared.streams.push(sender.clone());
                    }
                    Some(from_agent::Body::Installed(installed)) => {
                        service.installed.send_replace(Some(installed));
                    }
                    None => {}
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }
}

/// An instance on loopback.
pub struct FakeInstance {
    service: Service,
    pub address: SocketAddr,
    own: Option<tokio::runtime::Runtime>,
}

impl FakeInstance {
    pub fn start(runtime: &tokio::runtime::Handle, address: SocketAddr, greeting: Vec<Body>) -> FakeInstance {
        let service = Service {
            shared: Arc::new(Mutex::new(Shared {
                greeting,
                streams: Vec::new(),
            })),
            installed: watch::Sender::new(None),
        };
        // Made on the agent's runtime's thread: the test's own thread is in another namespace by now.
        let start = runtime.spawn(async move {
            let own = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            // The port of an instance that was stopped just now is not always free at once.
            loop {
                match tokio::net::TcpListener::bind(address).await {
                    Ok(listener) => return (own, listener.into_std().unwrap()),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        let (own, listener) = runtime.block_on(start).unwrap();
        let listener = own.block_on(async { tokio::net::TcpListener::from_std(listener).unwrap() });
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .add_service(RoutesServer::new(service.clone()));
        own.spawn(async move {
            let _ = server.serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        let heart = service.clone();
        own.spawn(async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                send(&heart, Body::Heartbeat(Heartbeat {}));
            }
        });
        FakeInstance {
            service,
            address,
            own: Some(own),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn say(&self, body: Body) {
        send(&self.service, body);
    }

    /// Waits until a generation is confirmed; returns the problems.
    pub fn confirmed(&self, generation: u64) -> Vec<String> {
        self.confirmation(|installed| installed.generation >= generation)
    }

    /// Waits for a confirmation.
    pub fn confirmation(&self, enough: impl Fn(&Installed) -> bool) -> Vec<String> {
        let mut installed = self.service.installed.subscribe();
        self.own.as_ref().unwrap().block_on(async {
            let wait = installed.wait_for(|installed| installed.as_ref().is_some_and(&enough));
            let found = tokio::time::timeout(super::DEADLINE, wait)
                .await
                .map(|found| found.map(|found| found.clone()));
            match found {
                Ok(Ok(installed)) => installed.unwrap().problems,
                _ => panic!("not confirmed; last: {:?}", self.service.installed.borrow()),
            }
        })
    }

    /// Dies: connections and listener are gone.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for FakeInstance {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            own.shutdown_background();
        }
    }
}

fn send(service: &Service, body: Body) {
    let mut shared = service.shared.lock().unwrap();
    shared.streams.retain(|stream| {
        stream
            .send(Ok(ToAgent {
                body: Some(body.clone()),
            }))
            .is_ok()
    });
}

pub fn welcome(instance: u32, epoch: u64) -> Body {
    Body::Welcome(Welcome {
        instance,
        epoch,
        silence_secs: SILENCE_SECS,
    })
}

pub fn nic(nic: &str, address: &str, subnet: &str, gateway: &str) -> Body {
    Body::Nic(Nic {
        nic: nic.to_owned(),
        table: Some(TABLE),
        addresses: vec![octets(address)],
        subnet_prefixes: vec![prefix(subnet)],
        gateways: vec![octets(gateway)],
        base: None,
    })
}

/// Gives the NIC an IPv6 address as well.
pub fn add_ipv6(nic: &mut Nic, address: &str, subnet: &str, gateway: &str) {
    nic.addresses.push(octets(address));
    nic.subnet_prefixes.push(prefix(subnet));
    nic.gateways.push(octets(gateway));
}

pub fn update(generation: u64, groups: Vec<Group>, routes: Vec<Route>) -> TableUpdate {
    TableUpdate {
        table: TABLE,
        generation,
        groups,
        routes,
        ..TableUpdate::default()
    }
}

pub fn group(id: u32, members: &[&str]) -> Group {
    Group {
        id,
        members: members.iter().map(|member| octets(member)).collect(),
        fallback: Vec::new(),
        rank: 100,
    }
}

pub fn via_group(destination: &str, id: u32) -> Route {
    route(destination, Way::Group(id))
}

pub fn route(destination: &str, way: Way) -> Route {
    Route {
        prefix: Some(prefix(destination)),
        system: false,
        way: Some(way),
    }
}

pub fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix {
        address: octets(address),
        length: length.parse().unwrap(),
    }
}

fn octets(address: &str) -> Vec<u8> {
    match address.parse::<IpAddr>().unwrap() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
