//! `routewright route-table …` and `routewright route-table route …`

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Group, Location, NoWait, Session, Tags, parse_bool};
use crate::client::ClientError;
use crate::output::Column;
use crate::target::Target;

const KIND: &str = "routeTables";
const COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("ResourceGroup", "/resourceGroup"),
    ("Location", "/location"),
    ("DisableBgpRoutePropagation", "/disableBgpRoutePropagation"),
    ("Routes", "/routes"),
    ("ProvisioningState", "/provisioningState"),
];
const ROUTE_COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("AddressPrefix", "/addressPrefix"),
    ("NextHopType", "/nextHopType"),
    ("NextHopIpAddress", "/nextHopIpAddress"),
    ("ProvisioningState", "/provisioningState"),
];

/// Arguments of `routewright route-table`.
#[derive(Debug, Args)]
pub(crate) struct RouteTableArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Named {
    #[command(flatten)]
    group: Group,
    /// Name or id of the route table.
    #[arg(short, long)]
    name: String,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a route table.
    Create {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        location: Location,
        /// Whether subnets with this table refuse routes learned by BGP.
        #[arg(long, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
        disable_bgp_route_propagation: Option<bool>,
        #[command(flatten)]
        tags: Tags,
    },
    /// Show a route table.
    Show {
        #[command(flatten)]
        named: Named,
    },
    /// List route tables.
    List {
        #[command(flatten)]
        group: Group,
    },
    /// Change a route table.
    Update {
        #[command(flatten)]
        named: Named,
        /// Whether subnets with this table refuse routes learned by BGP.
        #[arg(long, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
        disable_bgp_route_propagation: Option<bool>,
        #[command(flatten)]
        tags: Tags,
    },
    /// Delete a route table.
    Delete {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        _no_wait: NoWait,
    },
    /// User-defined routes.
    #[command(subcommand)]
    Route(RouteVerb),
}

#[derive(Debug, Args)]
struct RouteNamed {
    #[command(flatten)]
    table: Table,
    /// Name or id of the route.
    #[arg(short, long)]
    name: String,
}

#[derive(Debug, Args)]
struct Table {
    #[command(flatten)]
    group: Group,
    /// Name or id of the route table.
    #[arg(long)]
    route_table_name: Option<String>,
}

#[derive(Debug, Args)]
struct NextHop {
    /// Destination prefix.
    #[arg(long)]
    address_prefix: Option<String>,
    /// VirtualAppliance, VnetLocal, Internet, VirtualNetworkGateway or None.
    #[arg(long)]
    next_hop_type: Option<String>,
    /// The address, for VirtualAppliance.
    #[arg(long)]
    next_hop_ip_address: Option<String>,
}

#[derive(Debug, Subcommand)]
enum RouteVerb {
    /// Create a route.
    Create {
        #[command(flatten)]
        named: RouteNamed,
        #[command(flatten)]
        next_hop: NextHop,
    },
    /// Show a route.
    Show {
        #[command(flatten)]
        named: RouteNamed,
    },
    /// List a table's routes.
    List {
        #[command(flatten)]
        table: Table,
    },
    /// Change a route.
    Update {
        #[command(flatten)]
        named: RouteNamed,
        #[command(flatten)]
        next_hop: NextHop,
    },
    /// Delete a route.
    Delete {
        #[command(flatten)]
        named: RouteNamed,
    },
}

pub(crate) async fn run(args: RouteTableArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let id = |named: &Named| session.id(&named.group, KIND, &named.name);
    match args.verb {
        Verb::Create {
            named,
            location,
            disable_bgp_route_propagation,
            tags,
        } => {
            let id = id(&named)?;
            let mut body = json!({ "location": session.location(&location, &id).await?, "properties": {} });
            if let Some(disable) = disable_bgp_route_propagation {
                body["properties"]["disableBgpRoutePropagation"] = json!(disable);
            }
            tags.add_to(&mut body)?;
            session.create(COLUMNS, &id, &body).await
        }
        Verb::Show { named } => session.show(COLUMNS, &id(&named)?).await,
        Verb::List { group } => session.list(COLUMNS, &group, KIND).await,
        Verb::Update {
            named,
            disable_bgp_route_propagation,
            tags,
        } => {
            let id = id(&named)?;
            let change = |properties: &mut serde_json::Map<_, _>| {
                if let Some(disable) = disable_bgp_route_propagation {
                    properties.insert("disableBgpRoutePropagation".to_owned(), json!(disable));
                }
            };
            session.update(COLUMNS, &id, change, &tags).await
        }
        Verb::Delete { named, .. } => session.delete(&id(&named)?).await,
        Verb::Route(verb) => route(&session, verb).await,
    }
}

async fn route(session: &Session, verb: RouteVerb) -> Result<(), ClientError> {
    match verb {
        RouteVerb::Create { named, next_hop } => {
            if next_hop.address_prefix.is_none() || next_hop.next_hop_type.is_none() {
                return Err(ClientError::Usage(
                    "--address-prefix and --next-hop-type are needed".to_owned(),
                ));
            }
            let mut body = json!({ "properties": {} });
            next_hop.apply(&mut body);
            session.create(ROUTE_COLUMNS, &route_id(session, &named)?, &body).await
        }
        RouteVerb::Show { named } => session.show(ROUTE_COLUMNS, &route_id(session, &named)?).await,
        RouteVerb::List { table } => {
            let path = format!("{}/routes", table_id(session, &table)?);
            session.show(ROUTE_COLUMNS, &path).await
        }
        RouteVerb::Update { named, next_hop } => {
            let id = route_id(session, &named)?;
            let mut body = session.client.get(&id).await?;
            next_hop.apply(&mut body);
            session.create(ROUTE_COLUMNS, &id, &body).await
        }
        RouteVerb::Delete { named } => session.delete(&route_id(session, &named)?).await,
    }
}

impl NextHop {
    fn apply(&self, body: &mut serde_json::Value) {
        let members = [
            ("addressPrefix", &self.address_prefix),
            ("nextHopType", &self.next_hop_type),
            ("nextHopIpAddress", &self.next_hop_ip_address),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                body["properties"][name] = json!(value);
            }
        }
    }
}

fn table_id(session: &Session, table: &Table) -> Result<String, ClientError> {
    match &table.route_table_name {
        Some(name) => session.id(&table.group, KIND, name),
        None => Err(ClientError::Usage(
            "--route-table-name is needed where a name is no id".to_owned(),
        )),
    }
}

fn route_id(session: &Session, named: &RouteNamed) -> Result<String, ClientError> {
    if named.name.starts_with('/') {
        return Ok(named.name.clone());
    }
    session.child(&table_id(session, &named.table)?, "routes", &named.name)
}
