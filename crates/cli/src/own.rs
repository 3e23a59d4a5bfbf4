//! Verbs without a counterpart in `az`: who is up, why a route is or isn't there, what agents have installed.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::client::ClientError;
use crate::output::{self, Column};
use crate::resource::{Session, printed};
use crate::target::{Output, Target};

pub(crate) const PEER_COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("Instance", "/instance"),
    ("Local", "/localAddress"),
    ("Peer", "/peerAddress"),
    ("Asn", "/peerAsn"),
    ("State", "/state"),
    ("Bfd", "/bfd/state"),
    ("Seconds", "/sinceSecs"),
    ("Received", "/routesReceived"),
    ("Accepted", "/routesAccepted"),
    ("Advertised", "/routesAdvertised"),
    ("Stale", "/routesStale"),
    ("Kept", "/kept/0/phase"),
    ("DownReason", "/lastDown/reason"),
    ("DownSecsAgo", "/lastDown/agoSecs"),
    ("AttemptError", "/lastAttemptError"),
];
const ROUTE_COLUMNS: &[Column] = &[
    ("Instance", "/instance"),
    ("Network", "/network"),
    ("NextHop", "/nextHop"),
    ("From", "/sourcePeer"),
    ("AsPath", "/asPath"),
    ("Communities", "/communities"),
    ("Verdict", "/verdict"),
    ("Reason", "/reason"),
];
const AGENT_COLUMNS: &[Column] = &[
    ("Agent", "/agent"),
    ("Nic", "/nic"),
    ("Instance", "/instance"),
    ("Generation", "/generation"),
    ("Installed", "/installedGeneration"),
    ("Problems", "/problems"),
];
const INSTANCE_COLUMNS: &[Column] = &[
    ("Instance", "/index"),
    ("State", "/state"),
    ("Version", "/version"),
    ("Intent", "/intentVersion"),
    ("Converging", "/converging"),
    ("Drained", "/drained"),
    ("Established", "/peersEstablished"),
    ("Peers", "/peers"),
    ("Agents", "/agents"),
    ("AgentUrl", "/agentUrl"),
];

/// Arguments of a verb with nothing else to say.
#[derive(Debug, Args)]
pub(crate) struct Plain {
    #[command(flatten)]
    target: Target,
}

/// Arguments of `routewright peers`.
#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    #[command(flatten)]
    target: Target,
    /// Only those of this route server (id).
    #[arg(long, value_name = "ID")]
    routeserver: Option<String>,
}

/// Arguments of `routewright routes`.
#[derive(Debug, Args)]
pub(crate) struct RoutesArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: RoutesVerb,
}

#[derive(Debug, Subcommand)]
enum RoutesVerb {
    /// Every route received, with its verdict.
    List {
        /// Only those of this route server (id).
        #[arg(long, value_name = "ID")]
        routeserver: Option<String>,
    },
    /// Why a prefix is or isn't in use: each route received for it, with its verdict and the rule that decided.
    Explain {
        /// The prefix.
        #[arg(long)]
        prefix: ipnet::IpNet,
        /// Only at this route server (id).
        #[arg(long, value_name = "ID")]
        routeserver: Option<String>,
    },
}

/// `routewright health`
pub(crate) async fn health(args: Plain) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let health = session.client.get("/routewright/v1/health").await?;
    if session.target.output != Output::Table {
        return printed(output::print_whole(session.target.output, &health));
    }
    let instances: Vec<&Value> = health["instances"].as_array().into_iter().flatten().collect();
    printed(output::print_table(INSTANCE_COLUMNS, &instances))?;
    eprintln!(
        "{}, store {}",
        health["status"].as_str().unwrap_or("?"),
        health["store"].as_str().unwrap_or("?")
    );
    for problem in health["problems"].as_array().into_iter().flatten() {
        eprintln!("  {}", problem.as_str().unwrap_or_default());
    }
    Ok(())
}

/// `routewright agents`
pub(crate) async fn agents(args: Plain) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let agents = session.client.get("/routewright/v1/agents").await?;
    session.print(AGENT_COLUMNS, &agents)
}

/// `routewright peers`
pub(crate) async fn peers(args: PeersArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let path = match args.routeserver {
        Some(id) => format!("/routewright/v1/peers?routeServer={id}"),
        None => "/routewright/v1/peers".to_owned(),
    };
    session.print(PEER_COLUMNS, &session.client.get(&path).await?)
}

/// `routewright routes`
pub(crate) async fn routes(args: RoutesArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let (routeserver, prefix) = match args.verb {
        RoutesVerb::List { routeserver } => (routeserver, None),
        RoutesVerb::Explain { prefix, routeserver } => (routeserver, Some(prefix)),
    };
    let route_servers = match routeserver {
        Some(id) => vec![id],
        None => route_servers(&session).await?,
    };
    let mut rows = Vec::new();
    for id in route_servers {
        let mut path = format!("/routewright/v1/routes?routeServer={id}");
        if let Some(prefix) = prefix {
            path.push_str(&format!("&prefix={prefix}"));
        }
        let mut routes = session.client.get(&path).await?;
        if let Some(found) = routes["value"].as_array_mut() {
            rows.append(found);
        }
    }
    if let (Some(prefix), true) = (prefix, rows.is_empty()) {
        eprintln!("No peer has announced {prefix}.");
    }
    session.print(ROUTE_COLUMNS, &Value::Array(rows))
}

async fn route_servers(session: &Session) -> Result<Vec<String>, ClientError> {
    let path = format!(
        "/subscriptions/{}/providers/Microsoft.Network/virtualHubs",
        session.target.subscription
    );
    let hubs = session.client.get(&path).await?;
    let ids = hubs["value"].as_array().into_iter().flatten();
    Ok(ids.filter_map(|hub| hub["id"].as_str().map(str::to_owned)).collect())
}
