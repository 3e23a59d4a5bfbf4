//! `routewright routeserver …` and `routewright routeserver peering …`

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::common::{Child, Common, CommonOfChild, Kind, Named, Parent};
use super::route_map::{self, RouteMapVerb};
use super::settings::{self, SettingsVerb};
use super::{Group, Location, NoWait, Session, Tags, parse_bool, public_ip, reference, vnet};
use crate::client::ClientError;
use crate::drain::{self, Draining};
use crate::dry_run::{self, DryRun};
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

const THROUGH_MAP_COLUMNS: &[Column] = &[
    ("Prefix", "/prefix"),
    ("AsPath", "/asPath"),
    ("BgpCommunities", "/bgpCommunities"),
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
        #[command(flatten)]
        dry_run: DryRun,
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
    /// Route maps, which peerings name as theirs.
    #[command(subcommand)]
    RouteMap(RouteMapVerb),
    #[command(flatten)]
    Common(Common),
}

/// Which route server something is of.
#[derive(Debug, Args)]
pub(super) struct Server {
    #[command(flatten)]
    group: Group,
    /// Name or id of the route server.
    #[arg(long, alias = "vhub-name")]
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

/// Route maps of a peering.
#[derive(Debug, Args)]
struct Maps {
    /// Name or id of the route map for what the NVA says; an empty text takes it away.
    #[arg(long, value_name = "NAME")]
    inbound_route_map: Option<String>,
    /// Name or id of the route map for what the NVA is told; an empty text takes it away.
    #[arg(long, value_name = "NAME")]
    outbound_route_map: Option<String>,
}

impl Maps {
    /// Into the properties of a peering (id) of the same route server.
    fn apply(&self, session: &Session, peering: &str, properties: &mut Map<String, Value>) -> Result<(), ClientError> {
        let hub = peering.rsplitn(3, '/').nth(2).unwrap_or_default();
        let flags = [
            ("inboundRouteMap", &self.inbound_route_map),
            ("outboundRouteMap", &self.outbound_route_map),
        ];
        for (member, name) in flags
            .into_iter()
            .filter_map(|(member, name)| Some((member, name.as_ref()?)))
        {
            let configuration = properties.entry("routingConfiguration").or_insert_with(|| json!({}));
            let Some(configuration) = configuration.as_object_mut() else {
                continue;
            };
            match name.is_empty() {
                true => _ = configuration.remove(member),
                false => {
                    let map = session.child(hub, route_map::KIND.path, name)?;
                    configuration.insert(member.to_owned(), reference(&map));
                }
            }
        }
        Ok(())
    }
}

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
        maps: Maps,
        #[command(flatten)]
        dry_run: DryRun,
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
        #[command(flatten)]
        maps: Maps,
        #[command(flatten)]
        dry_run: DryRun,
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
    /// Routes that both instances have learned from the NVA, as its inbound route map leaves them.
    ListInboundRoutes {
        #[command(flatten)]
        peering: Peering,
    },
    /// Routes that both instances tell the NVA, as its outbound route map leaves them.
    ListOutboundRoutes {
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
    /// Have packets go other ways, and wait until they do, so that the NVA can be taken down. Beyond Azure.
    Drain {
        #[command(flatten)]
        peering: Peering,
        #[command(flatten)]
        draining: Draining,
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
            dry_run,
        } => {
            let change = |properties: &mut Map<String, Value>| {
                options.apply(properties);
                if let Some(allow) = allow_b2b_traffic {
                    properties.insert("allowBranchToBranchTraffic".to_owned(), json!(allow));
                }
            };
            let id = named.id(&session, &KIND)?;
            let body = session.changed(&id, change, &tags).await?;
            put(&session, COLUMNS, &id, &body, &dry_run).await
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
        Verb::RouteMap(verb) => route_map::run(&session, verb).await,
    }
}

/// Writes, or asks what that would change.
pub(super) async fn put(
    session: &Session,
    columns: &[Column],
    id: &str,
    body: &Value,
    dry_run: &DryRun,
) -> Result<(), ClientError> {
    match dry_run.dry_run {
        true => dry_run::show(session, &[dry_run::change("PUT", id, Some(body))]).await,
        false => session.create(columns, id, body).await,
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
            maps,
            dry_run,
            ..
        } => {
            let id = id(&peering)?;
            let name = id.rsplit('/').next().unwrap_or_default();
            let mut properties = Map::from_iter([
                ("peerIp".to_owned(), json!(peer_ip)),
                ("peerAsn".to_owned(), json!(peer_asn)),
            ]);
            maps.apply(session, &id, &mut properties)?;
            let body = json!({ "name": name, "properties": properties });
            put(session, PEERING_COLUMNS, &id, &body, &dry_run).await
        }
        PeeringVerb::Update {
            peering,
            peer_ip,
            peer_asn,
            maps,
            dry_run,
        } => {
            let id = id(&peering)?;
            let mut applied = Ok(());
            let change = |properties: &mut Map<String, Value>| {
                properties.extend(peer_ip.map(|ip| ("peerIp".to_owned(), json!(ip))));
                properties.extend(peer_asn.map(|asn| ("peerAsn".to_owned(), json!(asn))));
                applied = maps.apply(session, &id, properties);
            };
            let body = session.changed(&id, change, &Tags { tags: None }).await?;
            applied?;
            put(session, PEERING_COLUMNS, &id, &body, &dry_run).await
        }
        PeeringVerb::Common(verb) => verb.run(session, &PEERING).await,
        PeeringVerb::ListLearnedRoutes { peering } => routes(session, &id(&peering)?, "learnedRoutes").await,
        PeeringVerb::ListAdvertisedRoutes { peering } => routes(session, &id(&peering)?, "advertisedRoutes").await,
        PeeringVerb::ListInboundRoutes { peering } => through_map(session, &id(&peering)?, "inboundRoutes").await,
        PeeringVerb::ListOutboundRoutes { peering } => through_map(session, &id(&peering)?, "outboundRoutes").await,
        PeeringVerb::ShowState { peering } => {
            let path = format!("/routewright/v1/peers{}", id(&peering)?);
            session.print(crate::own::PEER_COLUMNS, &session.client.get(&path).await?)
        }
        PeeringVerb::Reset { peering, soft } => {
            let path = format!("/routewright/v1/peers{}/reset?soft={soft}", id(&peering)?);
            session.client.post(&path).await.map(|_| ())
        }
        PeeringVerb::Drain { peering, draining } => drain::peering(session, &id(&peering)?, draining).await,
        PeeringVerb::Settings { peering, verb } => settings::run(session, &id(&peering)?, verb).await,
    }
}

/// Asked of the route server, which is told the connection (az §3).
async fn through_map(session: &Session, id: &str, action: &str) -> Result<(), ClientError> {
    let hub = id.rsplitn(3, '/').nth(2).unwrap_or_default();
    let body = json!({ "resourceUri": id, "connectionType": "HubBgpConnection" });
    let routes = session.client.post_body(&format!("{hub}/{action}"), &body).await?;
    session.print(THROUGH_MAP_COLUMNS, &routes)
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
