//! `routewright routeserver …` and `routewright routeserver peering …`

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::common::{Child, Common, CommonOfChild, Kind, Named, Parent};
use super::settings::{self, SettingsVerb};
use super::{Group, Location, NoWait, Session, Tags, parse_bool, public_ip, reference, vnet};
use crate::client::ClientError;
use crate::output::{self, Column};
use crate::target::{Output, Target};

const KIND: Kind = Kind {
    path: "virtualHubs",
    called: "route server",
    columns: COLUMNS,
    asks: true,
};
const PEERING: Kind = Kind {
    path: "bgpConnections",
    called: "peering",
    columns: PEERING_COLUMNS,
    asks: true,
};
const COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("ResourceGroup", "/resourceGroup"),
    ("Location", "/location"),
    ("VirtualRouterAsn", "/virtualRouterAsn"),
    ("VirtualRouterIps", "/virtualRouterIps"),
    ("AllowBranchToBranchTraffic", "/allowBranchToBranchTraffic"),
    ("HubRoutingPreference", "/hubRoutingPreference"),
    ("RoutingState", "/routingState"),
    ("ProvisioningState", "/provisioningState"),
];
const PEERING_COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("ResourceGroup", "/resourceGroup"),
    ("PeerIp", "/peerIp"),
    ("PeerAsn", "/peerAsn"),
    ("ConnectionState", "/connectionState"),
    ("ProvisioningState", "/provisioningState"),
];
const ROUTE_COLUMNS: &[Column] = &[
    ("Role", "/role"),
    ("LocalAddress", "/localAddress"),
    ("Network", "/network"),
    ("NextHop", "/nextHop"),
    ("SourcePeer", "/sourcePeer"),
    ("Origin", "/origin"),
    ("AsPath", "/asPath"),
    ("Weight", "/weight"),
];

/// Arguments of `routewright routeserver`.
#[derive(Debug, Args)]
pub(crate) struct RouteServerArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Options {
    /// Which way wins when gateways know a prefix too.
    #[arg(long, value_parser = ["ASPath", "ExpressRoute", "VpnGateway"], ignore_case = true)]
    hub_routing_preference: Option<String>,
    /// min-capacity=N, accepted as Azure has it.
    #[arg(long, value_name = "min-capacity=N", value_parser = min_capacity)]
    auto_scale_config: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a route server.
    Create {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        location: Location,
        /// Id of the RouteServerSubnet it is put into.
        #[arg(long, value_name = "ID", required_unless_present = "vnet_name")]
        hosted_subnet: Option<String>,
        /// Instead of --hosted-subnet: name or id of the virtual network whose RouteServerSubnet it is.
        #[arg(long, conflicts_with = "hosted_subnet")]
        vnet_name: Option<String>,
        /// Name or id of a Standard public IP address.
        #[arg(long)]
        public_ip_address: String,
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        tags: Tags,
    },
    /// Change a route server.
    Update {
        #[command(flatten)]
        named: Named,
        /// Whether NVAs and gateways learn each other's routes.
        #[arg(long, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
        allow_b2b_traffic: Option<bool>,
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        tags: Tags,
    },
    /// What goes beyond Azure, for the route server.
    Settings {
        #[command(flatten)]
        named: Named,
        #[command(subcommand)]
        verb: SettingsVerb,
    },
    /// Peerings with NVAs.
    #[command(subcommand)]
    Peering(PeeringVerb),
    #[command(flatten)]
    Common(Common),
}

#[derive(Debug, Args)]
struct Server {
    #[command(flatten)]
    group: Group,
    /// Name or id of the route server.
    #[arg(long)]
    routeserver: Option<String>,
}

impl Parent for Server {
    const KIND: &'static Kind = &KIND;
    const FLAG: &'static str = "routeserver";

    fn group(&self) -> &Group {
        &self.group
    }

    fn name(&self) -> Option<&str> {
        self.routeserver.as_deref()
    }
}

type Peering = Child<Server>;

#[derive(Debug, Subcommand)]
enum PeeringVerb {
    /// Create a peering with an NVA.
    Create {
        #[command(flatten)]
        peering: Peering,
        /// The NVA's address.
        #[arg(long)]
        peer_ip: String,
        /// The NVA's AS number.
        #[arg(long)]
        peer_asn: u32,
        #[command(flatten)]
        _no_wait: NoWait,
    },
    /// Change a peering.
    Update {
        #[command(flatten)]
        peering: Peering,
        /// The NVA's address.
        #[arg(long)]
        peer_ip: Option<String>,
        /// The NVA's AS number.
        #[arg(long)]
        peer_asn: Option<u32>,
    },
    /// Routes that both instances have learned from the NVA.
    ListLearnedRoutes {
        #[command(flatten)]
        peering: Peering,
    },
    /// Routes that both instances tell the NVA.
    ListAdvertisedRoutes {
        #[command(flatten)]
        peering: Peering,
    },
    /// The sessions in full: state, since when, timers, capabilities, last error. Beyond Azure.
    ShowState {
        #[command(flatten)]
        peering: Peering,
    },
    /// Reset the sessions with the NVA. Beyond Azure.
    Reset {
        #[command(flatten)]
        peering: Peering,
        /// Keep the sessions and ask for the routes again.
        #[arg(long)]
        soft: bool,
    },
    /// What goes beyond Azure, for the peering: timers, MD5, TTL security, limits.
    Settings {
        #[command(flatten)]
        peering: Peering,
        #[command(subcommand)]
        verb: SettingsVerb,
    },
    #[command(flatten)]
    Common(CommonOfChild<Server>),
}

pub(crate) async fn run(args: RouteServerArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.verb {
        Verb::Create {
            named,
            location,
            hosted_subnet,
            vnet_name,
            public_ip_address,
            options,
            tags,
        } => {
            let id = named.id(&session, &KIND)?;
            let subnet = match (hosted_subnet, vnet_name) {
                (Some(subnet), _) => subnet,
                (None, vnet) => {
                    let vnet = session.id(&named.group, vnet::KIND.path, &vnet.unwrap_or_default())?;
                    format!("{vnet}/subnets/RouteServerSubnet")
                }
            };
            let public_ip = session.id(&named.group, public_ip::KIND.path, &public_ip_address)?;
            let mut properties = Map::from_iter([("sku".to_owned(), json!("Standard"))]);
            options.apply(&mut properties);
            let mut hub = json!({ "location": session.location(&location, &id).await?, "properties": properties });
            tags.add_to(&mut hub)?;
            create(&session, &id, &hub, &subnet, &public_ip).await
        }
        Verb::Update {
            named,
            allow_b2b_traffic,
            options,
            tags,
        } => {
            let change = |properties: &mut Map<String, Value>| {
                options.apply(properties);
                if let Some(allow) = allow_b2b_traffic {
                    properties.insert("allowBranchToBranchTraffic".to_owned(), json!(allow));
                }
            };
            session
                .update(COLUMNS, &named.id(&session, &KIND)?, change, &tags)
                .await
        }
        // The ip configuration goes first, as with `az`.
        Verb::Common(Common::Delete { named, yes, .. }) => {
            let id = named.id(&session, &KIND)?;
            yes.confirm(&format!("delete the route server {}", named.name))?;
            delete(&session, &id).await
        }
        Verb::Common(verb) => verb.run(&session, &KIND).await,
        Verb::Settings { named, verb } => settings::run(&session, &named.id(&session, &KIND)?, verb).await,
        Verb::Peering(verb) => peering(&session, verb).await,
    }
}

/// As `az`: the hub, then its ip configuration; when that fails the hub goes again.
async fn create(session: &Session, id: &str, hub: &Value, subnet: &str, public_ip: &str) -> Result<(), ClientError> {
    match session.client.get(id).await {
        Err(ClientError::Refused { status: 404, .. }) => {}
        Ok(_) => {
            let problem = format!("the route server {id} exists already; change it with `routeserver update`");
            return Err(ClientError::Usage(problem));
        }
        Err(error) => return Err(error),
    }
    session.client.put(id, hub).await?;
    let ip_configuration = json!({
        "properties": { "subnet": reference(subnet), "publicIPAddress": reference(public_ip) },
    });
    let path = format!("{id}/ipConfigurations/Default");
    if let Err(error) = session.client.put(&path, &ip_configuration).await {
        if let Err(second) = session.client.delete(id).await {
            eprintln!("The hub {id} could not be removed again: {second}");
        }
        return Err(error);
    }
    session.show(COLUMNS, id).await
}

async fn delete(session: &Session, id: &str) -> Result<(), ClientError> {
    let configurations = session.client.get(&format!("{id}/ipConfigurations")).await?;
    for configuration in configurations["value"].as_array().into_iter().flatten() {
        if let Some(id) = configuration["id"].as_str() {
            session.delete(id).await?;
        }
    }
    session.delete(id).await
}

async fn peering(session: &Session, verb: PeeringVerb) -> Result<(), ClientError> {
    let id = |peering: &Peering| peering.id(session, &PEERING);
    match verb {
        PeeringVerb::Create {
            peering,
            peer_ip,
            peer_asn,
            ..
        } => {
            let id = id(&peering)?;
            let name = id.rsplit('/').next().unwrap_or_default();
            let body = json!({ "name": name, "properties": { "peerIp": peer_ip, "peerAsn": peer_asn } });
            session.create(PEERING_COLUMNS, &id, &body).await
        }
        PeeringVerb::Update {
            peering,
            peer_ip,
            peer_asn,
        } => {
            let change = |properties: &mut Map<String, Value>| {
                properties.extend(peer_ip.map(|ip| ("peerIp".to_owned(), json!(ip))));
                properties.extend(peer_asn.map(|asn| ("peerAsn".to_owned(), json!(asn))));
            };
            session
                .update(PEERING_COLUMNS, &id(&peering)?, change, &Tags { tags: None })
                .await
        }
        PeeringVerb::Common(verb) => verb.run(session, &PEERING).await,
        PeeringVerb::ListLearnedRoutes { peering } => routes(session, &id(&peering)?, "learnedRoutes").await,
        PeeringVerb::ListAdvertisedRoutes { peering } => routes(session, &id(&peering)?, "advertisedRoutes").await,
        PeeringVerb::ShowState { peering } => {
            let path = format!("/routewright/v1/peers{}", id(&peering)?);
            session.print(crate::own::PEER_COLUMNS, &session.client.get(&path).await?)
        }
        PeeringVerb::Reset { peering, soft } => {
            let path = format!("/routewright/v1/peers{}/reset?soft={soft}", id(&peering)?);
            session.client.post(&path).await.map(|_| ())
        }
        PeeringVerb::Settings { peering, verb } => settings::run(session, &id(&peering)?, verb).await,
    }
}

/// JSON and YAML are the dictionary as ARM has it; the table has its keys as a column.
async fn routes(session: &Session, id: &str, action: &str) -> Result<(), ClientError> {
    let result = session.client.post(&format!("{id}/{action}")).await?;
    if session.target.output != Output::Table {
        return super::printed(output::print_whole(session.target.output, &result));
    }
    let mut rows = Vec::new();
    for (role, routes) in result.as_object().into_iter().flatten() {
        for route in routes.as_array().into_iter().flatten() {
            let mut row = route.clone();
            row["role"] = json!(role.trim_start_matches("RouteServiceRole_"));
            rows.push(row);
        }
    }
    let rows: Vec<&Value> = rows.iter().collect();
    super::printed(output::print_table(ROUTE_COLUMNS, &rows))
}

impl Options {
    fn apply(&self, properties: &mut Map<String, Value>) {
        if let Some(preference) = &self.hub_routing_preference {
            properties.insert("hubRoutingPreference".to_owned(), json!(preference));
        }
        if let Some(capacity) = self.auto_scale_config {
            let scale = json!({ "minCapacity": capacity });
            properties.insert("virtualRouterAutoScaleConfiguration".to_owned(), scale);
        }
    }
}

fn min_capacity(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("min-capacity=").unwrap_or(text);
    number.parse().map_err(|_| "expected min-capacity=N".to_owned())
}
