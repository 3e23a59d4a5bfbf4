//! `routewright vpn-connection …`: what joins a virtual network gateway with a site, another gateway or a circuit.

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value, json};

use super::common::{Common, Kind, Named, ToCreate, ToUpdate, given};
use super::settings::{self, SettingsVerb};
use super::{Session, express_route, local_gateway, parse_bool, reference, vnet_gateway};
use crate::client::ClientError;
use crate::output::Column;
use crate::target::Target;

const KIND: Kind = Kind {
    path: "connections",
    called: "connection",
    columns: COLUMNS,
    asks: false,
};
const COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("ResourceGroup", "/resourceGroup"),
    ("Location", "/location"),
    ("ConnectionType", "/connectionType"),
    ("ConnectionStatus", "/connectionStatus"),
    ("Gateway", "/virtualNetworkGateway1"),
    ("ProvisioningState", "/provisioningState"),
];

/// Arguments of `routewright vpn-connection`.
#[derive(Debug, Args)]
pub(crate) struct VpnConnectionArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Options {
    /// Key that both ends share; it is never shown.
    #[arg(long)]
    shared_key: Option<String>,
    /// Whether the ends speak BGP.
    #[arg(long, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
    enable_bgp: Option<bool>,
    /// Weight, 0 to 32000.
    #[arg(long)]
    routing_weight: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a connection.
    #[command(group = ArgGroup::new("far_end").required(true).multiple(false))]
    Create {
        #[command(flatten)]
        to: ToCreate,
        /// Name or id of the virtual network gateway.
        #[arg(long)]
        vnet_gateway1: String,
        /// To a site: name or id of the local network gateway.
        #[arg(long, group = "far_end")]
        local_gateway2: Option<String>,
        /// To another virtual network: name or id of its gateway.
        #[arg(long, group = "far_end")]
        vnet_gateway2: Option<String>,
        /// To a circuit: its name or id.
        #[arg(long, group = "far_end")]
        express_route_circuit2: Option<String>,
        #[command(flatten)]
        options: Options,
    },
    /// Change a connection.
    Update {
        #[command(flatten)]
        to: ToUpdate,
        #[command(flatten)]
        options: Options,
    },
    /// What goes beyond Azure, for the sessions over the connection.
    Settings {
        #[command(flatten)]
        named: Named,
        #[command(subcommand)]
        verb: SettingsVerb,
    },
    #[command(flatten)]
    Common(Common),
}

pub(crate) async fn run(args: VpnConnectionArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.verb {
        Verb::Create {
            to,
            vnet_gateway1,
            local_gateway2,
            vnet_gateway2,
            express_route_circuit2,
            options,
        } => {
            let end = |kind: &Kind, name: &str| Ok(reference(&session.id(&to.named.group, kind.path, name)?));
            let (connection_type, member, far_end) = match (local_gateway2, vnet_gateway2, express_route_circuit2) {
                (Some(name), ..) => ("IPsec", "localNetworkGateway2", end(&local_gateway::KIND, &name)?),
                (_, Some(name), _) => ("Vnet2Vnet", "virtualNetworkGateway2", end(&vnet_gateway::KIND, &name)?),
                (.., circuit) => (
                    "ExpressRoute",
                    "peer",
                    end(&express_route::KIND, &circuit.unwrap_or_default())?,
                ),
            };
            let mut properties = given([
                ("connectionType", Some(json!(connection_type))),
                (
                    "virtualNetworkGateway1",
                    Some(end(&vnet_gateway::KIND, &vnet_gateway1)?),
                ),
                (member, Some(far_end)),
            ]);
            properties.extend(options.members());
            to.carry_out(&session, &KIND, json!({ "properties": properties })).await
        }
        Verb::Update { to, options } => {
            to.carry_out(&session, &KIND, |properties| properties.extend(options.members()))
                .await
        }
        Verb::Settings { named, verb } => settings::run(&session, &named.id(&session, &KIND)?, verb).await,
        Verb::Common(verb) => verb.run(&session, &KIND).await,
    }
}

impl Options {
    fn members(self) -> Map<String, Value> {
        given([
            ("sharedKey", self.shared_key.map(Value::from)),
            ("enableBgp", self.enable_bgp.map(Value::from)),
            ("routingWeight", self.routing_weight.map(Value::from)),
        ])
    }
}
