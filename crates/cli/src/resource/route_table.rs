//! `routewright route-table …` and `routewright route-table route …`

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::common::{Child, Common, CommonOfChild, Kind, Named, Parent, ToCreate, ToUpdate, given};
use super::settings::{self, SettingsVerb};
use super::{Group, Session, parse_bool};
use crate::client::ClientError;
use crate::output::Column;
use crate::target::Target;

pub(super) const KIND: Kind = Kind {
    path: "routeTables",
    called: "route table",
    columns: COLUMNS,
    asks: false,
};
const ROUTE: Kind = Kind {
    path: "routes",
    called: "route",
    columns: ROUTE_COLUMNS,
    asks: false,
};
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
struct Options {
    /// Whether subnets with this table refuse routes learned by BGP.
    #[arg(long, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
    disable_bgp_route_propagation: Option<bool>,
}

impl Options {
    fn members(&self) -> Map<String, Value> {
        let disable = self.disable_bgp_route_propagation;
        given([("disableBgpRoutePropagation", disable.map(Value::from))])
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a route table.
    Create {
        #[command(flatten)]
        to: ToCreate,
        #[command(flatten)]
        options: Options,
    },
    /// Change a route table.
    Update {
        #[command(flatten)]
        to: ToUpdate,
        #[command(flatten)]
        options: Options,
    },
    /// What goes beyond Azure, for the route table: which BGP routes come to its subnets.
    Settings {
        #[command(flatten)]
        named: Named,
        #[command(subcommand)]
        verb: SettingsVerb,
    },
    #[command(flatten)]
    Common(Common),
    /// User-defined routes.
    #[command(subcommand)]
    Route(RouteVerb),
}

#[derive(Debug, Args)]
struct Table {
    #[command(flatten)]
    group: Group,
    /// Name or id of the route table.
    #[arg(long)]
    route_table_name: Option<String>,
}

impl Parent for Table {
    const KIND: &'static Kind = &KIND;
    const FLAG: &'static str = "route-table-name";

    fn group(&self) -> &Group {
        &self.group
    }

    fn name(&self) -> Option<&str> {
        self.route_table_name.as_deref()
    }
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
        route: Child<Table>,
        #[command(flatten)]
        next_hop: NextHop,
    },
    /// Change a route.
    Update {
        #[command(flatten)]
        route: Child<Table>,
        #[command(flatten)]
        next_hop: NextHop,
    },
    #[command(flatten)]
    Common(CommonOfChild<Table>),
}

pub(crate) async fn run(args: RouteTableArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.verb {
        Verb::Create { to, options } => {
            to.carry_out(&session, &KIND, json!({ "properties": options.members() }))
                .await
        }
        Verb::Update { to, options } => {
            to.carry_out(&session, &KIND, |properties| properties.extend(options.members()))
                .await
        }
        Verb::Settings { named, verb } => settings::run(&session, &named.id(&session, &KIND)?, verb).await,
        Verb::Common(verb) => verb.run(&session, &KIND).await,
        Verb::Route(verb) => route(&session, verb).await,
    }
}

async fn route(session: &Session, verb: RouteVerb) -> Result<(), ClientError> {
    match verb {
        RouteVerb::Create { route, next_hop } => {
            if next_hop.address_prefix.is_none() || next_hop.next_hop_type.is_none() {
                return Err(ClientError::Usage(
                    "--address-prefix and --next-hop-type are needed".to_owned(),
                ));
            }
            let mut body = json!({ "properties": {} });
            next_hop.apply(&mut body);
            session.create(ROUTE_COLUMNS, &route.id(session, &ROUTE)?, &body).await
        }
        RouteVerb::Update { route, next_hop } => {
            let id = route.id(session, &ROUTE)?;
            let mut body = session.client.get(&id).await?;
            next_hop.apply(&mut body);
            session.create(ROUTE_COLUMNS, &id, &body).await
        }
        RouteVerb::Common(verb) => verb.run(session, &ROUTE).await,
    }
}

impl NextHop {
    fn apply(&self, body: &mut Value) {
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
