//! `routewright vnet-gateway …`: VPN and ExpressRoute gateways.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::common::{Common, Kind, Named, ToCreate, ToUpdate, given};
use super::local_gateway::BgpSettings;
use super::settings::{self, SettingsVerb};
use super::{Group, Session, parse_bool, public_ip, reference, vnet};
use crate::client::ClientError;
use crate::output::Column;
use crate::target::Target;

pub(super) const KIND: Kind = Kind {
    path: "virtualNetworkGateways",
    called: "virtual network gateway",
    columns: COLUMNS,
    asks: false,
};
const COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("ResourceGroup", "/resourceGroup"),
    ("Location", "/location"),
    ("GatewayType", "/gatewayType"),
    ("Sku", "/sku/name"),
    ("ActiveActive", "/activeActive"),
    ("Asn", "/bgpSettings/asn"),
    ("BgpPeeringAddress", "/bgpSettings/bgpPeeringAddress"),
    ("ProvisioningState", "/provisioningState"),
];
const PEER_COLUMNS: &[Column] = &[
    ("Neighbor", "/neighbor"),
    ("Asn", "/asn"),
    ("State", "/state"),
    ("ConnectedDuration", "/connectedDuration"),
    ("RoutesReceived", "/routesReceived"),
    ("MessagesSent", "/messagesSent"),
    ("MessagesReceived", "/messagesReceived"),
];
const ROUTE_COLUMNS: &[Column] = &[
    ("Network", "/network"),
    ("Origin", "/origin"),
    ("SourcePeer", "/sourcePeer"),
    ("AsPath", "/asPath"),
    ("Weight", "/weight"),
    ("NextHop", "/nextHop"),
];

/// Arguments of `routewright vnet-gateway`.
#[derive(Debug, Args)]
pub(crate) struct VnetGatewayArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a gateway in the GatewaySubnet of a virtual network.
    Create {
        #[command(flatten)]
        to: ToCreate,
        /// Name or id of the virtual network.
        #[arg(long)]
        vnet: String,
        /// Names or ids of its public IP addresses; two make it active-active.
        #[arg(long, visible_alias = "public-ip-address", num_args = 1..=2, required = true)]
        public_ip_addresses: Vec<String>,
        /// Vpn or ExpressRoute.
        #[arg(long, default_value = "Vpn")]
        gateway_type: String,
        /// RouteBased or PolicyBased.
        #[arg(long)]
        vpn_type: Option<String>,
        /// For example VpnGw1AZ.
        #[arg(long)]
        sku: Option<String>,
        #[command(flatten)]
        bgp: BgpSettings,
    },
    /// Change a gateway.
    Update {
        #[command(flatten)]
        to: ToUpdate,
        /// For example VpnGw2AZ.
        #[arg(long)]
        sku: Option<String>,
        /// Whether it speaks BGP with sites.
        #[arg(long, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
        enable_bgp: Option<bool>,
        #[command(flatten)]
        bgp: BgpSettings,
    },
    /// Its BGP peers.
    ListBgpPeerStatus {
        #[command(flatten)]
        named: Named,
        /// Only the peer with this address.
        #[arg(long)]
        peer: Option<String>,
    },
    /// Routes that it has learned.
    ListLearnedRoutes {
        #[command(flatten)]
        named: Named,
    },
    /// Routes that it tells a peer.
    ListAdvertisedRoutes {
        #[command(flatten)]
        named: Named,
        /// Address of the peer.
        #[arg(long)]
        peer: String,
    },
    /// What goes beyond Azure, for the gateway: whether real routers are at its addresses, its timers.
    Settings {
        #[command(flatten)]
        named: Named,
        #[command(subcommand)]
        verb: SettingsVerb,
    },
    #[command(flatten)]
    Common(Common),
}

pub(crate) async fn run(args: VnetGatewayArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let session = &session;
    match args.verb {
        Verb::Create {
            to,
            vnet,
            public_ip_addresses,
            gateway_type,
            vpn_type,
            sku,
            bgp,
        } => {
            let mut properties = given([
                ("gatewayType", Some(json!(gateway_type))),
                ("activeActive", Some(json!(public_ip_addresses.len() == 2))),
                ("enableBgp", Some(json!(bgp.asn.is_some()))),
                (
                    "ipConfigurations",
                    Some(ip_configurations(
                        session,
                        &to.named.group,
                        &vnet,
                        &public_ip_addresses,
                    )?),
                ),
                ("vpnType", vpn_type.map(Value::from)),
                ("sku", sku.map(sku_member)),
            ]);
            bgp.apply(&mut properties);
            to.carry_out(session, &KIND, json!({ "properties": properties })).await
        }
        Verb::Update {
            to,
            sku,
            enable_bgp,
            bgp,
        } => {
            let change = |properties: &mut Map<String, Value>| {
                properties.extend(given([
                    ("sku", sku.map(sku_member)),
                    ("enableBgp", enable_bgp.map(Value::from)),
                ]));
                bgp.apply(properties);
            };
            to.carry_out(session, &KIND, change).await
        }
        Verb::ListBgpPeerStatus { named, peer } => {
            ask(session, &named, PEER_COLUMNS, "getBgpPeerStatus", peer.as_deref()).await
        }
        Verb::ListLearnedRoutes { named } => ask(session, &named, ROUTE_COLUMNS, "getLearnedRoutes", None).await,
        Verb::ListAdvertisedRoutes { named, peer } => {
            ask(session, &named, ROUTE_COLUMNS, "getAdvertisedRoutes", Some(&peer)).await
        }
        Verb::Settings { named, verb } => settings::run(session, &named.id(session, &KIND)?, verb).await,
        Verb::Common(verb) => verb.run(session, &KIND).await,
    }
}

/// One for each public address, with the names that `az` gives.
fn ip_configurations(
    session: &Session,
    group: &Group,
    vnet: &str,
    public_ips: &[String],
) -> Result<Value, ClientError> {
    let subnet = format!("{}/subnets/GatewaySubnet", session.id(group, vnet::KIND.path, vnet)?);
    let configuration = |(position, name): (usize, &String)| {
        let public_ip = session.id(group, public_ip::KIND.path, name)?;
        Ok(json!({
            "name": format!("vnetGatewayConfig{position}"),
            "properties": { "subnet": reference(&subnet), "publicIPAddress": reference(&public_ip) },
        }))
    };
    public_ips.iter().enumerate().map(configuration).collect()
}

fn sku_member(name: String) -> Value {
    json!({ "name": name, "tier": name })
}

async fn ask(
    session: &Session,
    named: &Named,
    columns: &[Column],
    action: &str,
    peer: Option<&str>,
) -> Result<(), ClientError> {
    let id = named.id(session, &KIND)?;
    let path = match peer {
        Some(peer) => format!("{id}/{action}?peer={peer}"),
        None => format!("{id}/{action}"),
    };
    session.print(columns, &session.client.post(&path).await?)
}
