//! `routewright local-gateway …`: the far ends of VPN connections.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Session;
use super::common::{Common, Kind, Named, ToCreate, ToUpdate, given};
use super::settings::{self, SettingsVerb};
use crate::client::ClientError;
use crate::output::Column;
use crate::target::Target;

pub(super) const KIND: Kind = Kind {
    path: "localNetworkGateways",
    called: "local network gateway",
    columns: COLUMNS,
    asks: false,
};
const COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("ResourceGroup", "/resourceGroup"),
    ("Location", "/location"),
    ("GatewayIpAddress", "/gatewayIpAddress"),
    ("AddressPrefixes", "/localNetworkAddressSpace/addressPrefixes"),
    ("Asn", "/bgpSettings/asn"),
    ("ProvisioningState", "/provisioningState"),
];

/// Arguments of `routewright local-gateway`.
#[derive(Debug, Args)]
pub(crate) struct LocalGatewayArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Options {
    /// Its public address.
    #[arg(long)]
    gateway_ip_address: Option<String>,
    /// Prefixes behind it.
    #[arg(long, visible_alias = "address-prefixes", num_args = 1..)]
    local_address_prefixes: Option<Vec<String>>,
    #[command(flatten)]
    bgp: BgpSettings,
}

/// What a gateway speaks BGP with.
#[derive(Debug, Args)]
pub(super) struct BgpSettings {
    /// Its AS number.
    #[arg(long)]
    pub(super) asn: Option<u32>,
    /// The address it speaks BGP from.
    #[arg(long)]
    bgp_peering_address: Option<String>,
    /// Weight of its routes, 0 to 100.
    #[arg(long)]
    peer_weight: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a local network gateway.
    Create {
        #[command(flatten)]
        to: ToCreate,
        #[command(flatten)]
        options: Options,
    },
    /// Change a local network gateway.
    Update {
        #[command(flatten)]
        to: ToUpdate,
        #[command(flatten)]
        options: Options,
    },
    /// What goes beyond Azure, for the sessions with the site's router.
    Settings {
        #[command(flatten)]
        named: Named,
        #[command(subcommand)]
        verb: SettingsVerb,
    },
    #[command(flatten)]
    Common(Common),
}

pub(crate) async fn run(args: LocalGatewayArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.verb {
        Verb::Create { to, options } => {
            let mut properties = Map::new();
            options.apply(&mut properties);
            to.carry_out(&session, &KIND, json!({ "properties": properties })).await
        }
        Verb::Update { to, options } => {
            to.carry_out(&session, &KIND, |properties| options.apply(properties))
                .await
        }
        Verb::Settings { named, verb } => settings::run(&session, &named.id(&session, &KIND)?, verb).await,
        Verb::Common(verb) => verb.run(&session, &KIND).await,
    }
}

impl Options {
    fn apply(&self, properties: &mut Map<String, Value>) {
        let prefixes = self.local_address_prefixes.as_ref();
        properties.extend(given([
            ("gatewayIpAddress", self.gateway_ip_address.clone().map(Value::from)),
            (
                "localNetworkAddressSpace",
                prefixes.map(|prefixes| json!({ "addressPrefixes": prefixes })),
            ),
        ]));
        self.bgp.apply(properties);
    }
}

impl BgpSettings {
    pub(super) fn apply(&self, properties: &mut Map<String, Value>) {
        let members = given([
            ("asn", self.asn.map(Value::from)),
            ("bgpPeeringAddress", self.bgp_peering_address.clone().map(Value::from)),
            ("peerWeight", self.peer_weight.map(Value::from)),
        ]);
        for (name, value) in members {
            let settings = properties.entry("bgpSettings").or_insert(json!({}));
            settings[name] = value;
        }
    }
}
