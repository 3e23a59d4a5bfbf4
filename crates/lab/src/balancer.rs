//! An internal load balancer's frontend: its node forwards what comes to it to the NVAs that answer a TCP probe.
//!
//! Azure's balancer is not seen on the way and rewrites the destination's hardware address only; here it is a hop. Flows are spread by
//! their 5-tuple, and those of an NVA that does not answer go to the others, as there.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use netlink_packet_route::route::RouteAttribute;
use rtnetlink::{Handle, RouteMessageBuilder, RouteNextHopBuilder};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::LabError;

/// The port that NVAs are probed at: where they speak BGP.
const PROBE_PORT: u16 = 179;
/// How long an NVA may take to answer; it is on the same link.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// The time between probes. Azure's is 5 s at least; in a lab somebody is watching.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);

/// What a frontend is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancerConfig {
    /// The addresses of the NVAs.
    pub backends: Vec<Ipv4Addr>,
}

impl BalancerConfig {
    fn read(path: &Path) -> Result<BalancerConfig, LabError> {
        let parse = |text: Vec<u8>| serde_json::from_slice(&text).map_err(io::Error::from);
        std::fs::read(path).and_then(parse).map_err(|source| LabError::Read {
            path: PathBuf::from(path),
            source,
        })
    }
}

/// Runs the frontend that a file describes, until SIGTERM or SIGINT.
pub async fn run(config: &Path) -> Result<(), LabError> {
    let config = BalancerConfig::read(config)?;
    balance(&config)
        .await
        .map_err(LabError::system("the load balancer's frontend"))
}

async fn balance(config: &BalancerConfig) -> io::Result<()> {
    let (connection, netlink, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut used = BTreeSet::new();
    loop {
        let answering = answering(&config.backends).await;
        if answering != used {
            tracing::info!(backends = ?answering, "flows go to");
            match use_backends(&netlink, &answering).await {
                Ok(()) => used = answering,
                // A link that is down, for example: probed and tried again.
                Err(error) => tracing::warn!(%error, "the kernel does not take the next hops"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PROBE_INTERVAL) => {}
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

async fn answering(backends: &[Ipv4Addr]) -> BTreeSet<Ipv4Addr> {
    let probes = backends.iter().map(|backend| async move {
        let target = SocketAddr::new((*backend).into(), PROBE_PORT);
        let answer = tokio::time::timeout(PROBE_PATIENCE, TcpStream::connect(target)).await;
        matches!(answer, Ok(Ok(_))).then_some(*backend)
    });
    futures::future::join_all(probes).await.into_iter().flatten().collect()
}

/// One default route through all of them; none without any.
async fn use_backends(netlink: &Handle, backends: &BTreeSet<Ipv4Addr>) -> Result<(), rtnetlink::Error> {
    let mut route = RouteMessageBuilder::<Ipv4Addr>::new().build();
    if backends.is_empty() {
        return netlink.route().del(route).execute().await;
    }
    let hops = backends.iter();
    let hops = hops.filter_map(|hop| Some(RouteNextHopBuilder::new_ipv4().via(IpAddr::V4(*hop)).ok()?.build()));
    route.attributes.push(RouteAttribute::MultiPath(hops.collect()));
    netlink.route().add(route).replace().execute().await
}
