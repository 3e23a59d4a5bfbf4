//! `routewright local-gateway …`: the far ends of VPN connections.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::common::{Common, Kind, Named};
use super::{Location, NoWait, Session, Tags};
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
        named: Named,
        #[command(flatten)]
        location: Location,
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        tags: Tags,
        #[command(flatten)]
        _no_wait: NoWait,
    },
    /// Change a local network gateway.
    Update {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        tags: Tags,
    },
    #[command(flatten)]
    Common(Common),
}

pub(crate) async fn run(args: LocalGatewayArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.verb {
        Verb::Create {
            named,
            location,
            options,
            tags,
            ..
        } => {
            let id = named.id(&session, &KIND)?;
            let mut properties = Map::new();
            options.apply(&mut properties);
            let mut body = json!({ "location": session.location(&location, &id).await?, "properties": properties });
            tags.add_to(&mut body)?;
            session.create(COLUMNS, &id, &body).await
        }
        Verb::Update { named, options, tags } => {
            let id = named.id(&session, &KIND)?;
            let change = |properties: &mut Map<_, _>| options.apply(properties);
            session.update(COLUMNS, &id, change, &tags).await
        }
        Verb::Common(verb) => verb.run(&session, &KIND).await,
    }
}

impl Options {
    fn apply(&self, properties: &mut Map<String, Value>) {
        if let Some(address) = &self.gateway_ip_address {
            properties.insert("gatewayIpAddress".to_owned(), json!(address));
        }
        if let Some(prefixes) = &self.local_address_prefixes {
            let space = json!({ "addressPrefixes": prefixes });
            properties.insert("localNetworkAddressSpace".to_owned(), space);
        }
        self.bgp.apply(properties);
    }
}

impl BgpSettings {
    pub(super) fn apply(&self, properties: &mut Map<String, Value>) {
        let members = [
            ("asn", self.asn.map(|asn| json!(asn))),
            (
                "bgpPeeringAddress",
                self.bgp_peering_address.as_ref().map(|address| json!(address)),
            ),
            ("peerWeight", self.peer_weight.map(|weight| json!(weight))),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                let settings = properties.entry("bgpSettings").or_insert(json!({}));
                settings[name] = value;
            }
        }
    }
}
