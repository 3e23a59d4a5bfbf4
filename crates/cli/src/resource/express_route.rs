//! `routewright express-route …` and `routewright express-route peering …`: circuits.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::common::{Child, Common, CommonOfChild, Kind, Named, Parent, ToCreate, ToUpdate, given};
use super::settings::{self, SettingsVerb};
use super::{Group, NoWait, Session};
use crate::client::ClientError;
use crate::output::Column;
use crate::target::Target;

pub(super) const KIND: Kind = Kind {
    path: "expressRouteCircuits",
    called: "ExpressRoute circuit",
    columns: COLUMNS,
    asks: false,
};
const PEERING: Kind = Kind {
    path: "peerings",
    called: "peering",
    columns: PEERING_COLUMNS,
    asks: false,
};
const COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("ResourceGroup", "/resourceGroup"),
    ("Location", "/location"),
    ("Sku", "/sku/name"),
    ("Provider", "/serviceProviderProperties/serviceProviderName"),
    ("PeeringLocation", "/serviceProviderProperties/peeringLocation"),
    ("BandwidthInMbps", "/serviceProviderProperties/bandwidthInMbps"),
    ("ServiceProviderProvisioningState", "/serviceProviderProvisioningState"),
    ("ProvisioningState", "/provisioningState"),
];
const PEERING_COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("ResourceGroup", "/resourceGroup"),
    ("PeeringType", "/peeringType"),
    ("PeerAsn", "/peerASN"),
    ("PrimaryPeerAddressPrefix", "/primaryPeerAddressPrefix"),
    ("SecondaryPeerAddressPrefix", "/secondaryPeerAddressPrefix"),
    ("VlanId", "/vlanId"),
    ("State", "/state"),
    ("ProvisioningState", "/provisioningState"),
];

/// Arguments of `routewright express-route`.
#[derive(Debug, Args)]
pub(crate) struct ExpressRouteArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Options {
    /// The provider's name; it changes nothing here.
    #[arg(long)]
    provider: Option<String>,
    /// Where the circuit begins; it changes nothing here.
    #[arg(long)]
    peering_location: Option<String>,
    /// Mbit/s; nothing is limited here.
    #[arg(long, value_name = "MBPS")]
    bandwidth: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a circuit.
    Create {
        #[command(flatten)]
        to: ToCreate,
        #[command(flatten)]
        options: Options,
        /// Basic, Local, Premium or Standard.
        #[arg(long, default_value = "Standard")]
        sku_tier: String,
        /// MeteredData or UnlimitedData.
        #[arg(long, default_value = "MeteredData")]
        sku_family: String,
    },
    /// Change a circuit.
    Update {
        #[command(flatten)]
        to: ToUpdate,
        #[command(flatten)]
        options: Options,
    },
    /// What goes beyond Azure, for the circuit.
    Settings {
        #[command(flatten)]
        named: Named,
        #[command(subcommand)]
        verb: SettingsVerb,
    },
    /// Peerings of a circuit.
    #[command(subcommand)]
    Peering(PeeringVerb),
    #[command(flatten)]
    Common(Common),
}

#[derive(Debug, Args)]
struct Circuit {
    #[command(flatten)]
    group: Group,
    /// Name or id of the circuit.
    #[arg(long)]
    circuit_name: Option<String>,
}

impl Parent for Circuit {
    const KIND: &'static Kind = &KIND;
    const FLAG: &'static str = "circuit-name";

    fn group(&self) -> &Group {
        &self.group
    }

    fn name(&self) -> Option<&str> {
        self.circuit_name.as_deref()
    }
}

#[derive(Debug, Args)]
struct PeeringOptions {
    /// AS number of the customer's edge.
    #[arg(long)]
    peer_asn: Option<u32>,
    /// VLAN of the peering, 1 to 4094.
    #[arg(long)]
    vlan_id: Option<u32>,
    /// A /30: the customer's edge has its first usable address, the provider's edge the second.
    #[arg(long, value_name = "PREFIX")]
    primary_peer_subnet: Option<String>,
    /// The same for the secondary link.
    #[arg(long, value_name = "PREFIX")]
    secondary_peer_subnet: Option<String>,
    /// MD5 password of the sessions with the customer's edge; it is never shown.
    #[arg(long)]
    shared_key: Option<String>,
}

#[derive(Debug, Subcommand)]
enum PeeringVerb {
    /// Create a peering, which has its type as name.
    Create {
        #[command(flatten)]
        circuit: Circuit,
        /// AzurePrivatePeering, the only type that is served.
        #[arg(short = 'n', long, visible_alias = "name", default_value = "AzurePrivatePeering")]
        peering_type: String,
        #[command(flatten)]
        options: PeeringOptions,
        #[command(flatten)]
        _no_wait: NoWait,
    },
    /// Change a peering.
    Update {
        #[command(flatten)]
        peering: Child<Circuit>,
        #[command(flatten)]
        options: PeeringOptions,
    },
    /// What goes beyond Azure, for the sessions with the customer's edge.
    Settings {
        #[command(flatten)]
        peering: Child<Circuit>,
        #[command(subcommand)]
        verb: SettingsVerb,
    },
    #[command(flatten)]
    Common(CommonOfChild<Circuit>),
}

pub(crate) async fn run(args: ExpressRouteArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.verb {
        Verb::Create {
            to,
            options,
            sku_tier,
            sku_family,
        } => {
            let mut properties = Map::new();
            options.apply(&mut properties);
            let sku = json!({ "name": format!("{sku_tier}_{sku_family}"), "tier": sku_tier, "family": sku_family });
            to.carry_out(&session, &KIND, json!({ "sku": sku, "properties": properties }))
                .await
        }
        Verb::Update { to, options } => {
            to.carry_out(&session, &KIND, |properties| options.apply(properties))
                .await
        }
        Verb::Settings { named, verb } => settings::run(&session, &named.id(&session, &KIND)?, verb).await,
        Verb::Peering(verb) => peering(&session, verb).await,
        Verb::Common(verb) => verb.run(&session, &KIND).await,
    }
}

async fn peering(session: &Session, verb: PeeringVerb) -> Result<(), ClientError> {
    match verb {
        PeeringVerb::Create {
            circuit,
            peering_type,
            options,
            ..
        } => {
            let id = session.child(&circuit.id(session)?, PEERING.path, &peering_type)?;
            let mut properties = Map::from_iter([("peeringType".to_owned(), json!(peering_type))]);
            options.apply(&mut properties);
            session
                .create(PEERING.columns, &id, &json!({ "properties": properties }))
                .await
        }
        PeeringVerb::Update { peering, options } => {
            let id = peering.id(session, &PEERING)?;
            session
                .update(
                    PEERING.columns,
                    &id,
                    |properties| options.apply(properties),
                    &super::Tags { tags: None },
                )
                .await
        }
        PeeringVerb::Settings { peering, verb } => settings::run(session, &peering.id(session, &PEERING)?, verb).await,
        PeeringVerb::Common(verb) => verb.run(session, &PEERING).await,
    }
}

impl Options {
    fn apply(&self, properties: &mut Map<String, Value>) {
        let members = given([
            ("serviceProviderName", self.provider.clone().map(Value::from)),
            ("peeringLocation", self.peering_location.clone().map(Value::from)),
            ("bandwidthInMbps", self.bandwidth.map(Value::from)),
        ]);
        for (name, value) in members {
            let provider = properties.entry("serviceProviderProperties").or_insert(json!({}));
            provider[name] = value;
        }
    }
}

impl PeeringOptions {
    fn apply(&self, properties: &mut Map<String, Value>) {
        properties.extend(given([
            ("peerASN", self.peer_asn.map(Value::from)),
            ("vlanId", self.vlan_id.map(Value::from)),
            (
                "primaryPeerAddressPrefix",
                self.primary_peer_subnet.clone().map(Value::from),
            ),
            (
                "secondaryPeerAddressPrefix",
                self.secondary_peer_subnet.clone().map(Value::from),
            ),
            ("sharedKey", self.shared_key.clone().map(Value::from)),
        ]));
    }
}
