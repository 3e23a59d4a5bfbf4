//! `routewright vnet …`, `routewright vnet subnet …` and `routewright vnet peering …`

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::common::{Child, Common, CommonOfChild, Kind, Parent, ToCreate, ToUpdate, given};
use super::{Group, Session, Tags, nsg, parse_bool, reference, route_table};
use crate::client::ClientError;
use crate::output::Column;
use crate::target::Target;

pub(super) const KIND: Kind = Kind {
    path: "virtualNetworks",
    called: "virtual network",
    columns: COLUMNS,
    asks: false,
};
const SUBNET: Kind = Kind {
    path: "subnets",
    called: "subnet",
    columns: SUBNET_COLUMNS,
    asks: false,
};
const PEERING: Kind = Kind {
    path: "virtualNetworkPeerings",
    called: "peering",
    columns: PEERING_COLUMNS,
    asks: false,
};
const COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("ResourceGroup", "/resourceGroup"),
    ("Location", "/location"),
    ("Prefixes", "/addressSpace/addressPrefixes"),
    ("Subnets", "/subnets"),
    ("ProvisioningState", "/provisioningState"),
];
const SUBNET_COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("AddressPrefix", "/addressPrefix"),
    ("AddressPrefixes", "/addressPrefixes"),
    ("RouteTable", "/routeTable"),
    ("ProvisioningState", "/provisioningState"),
];
const PEERING_COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("RemoteVirtualNetwork", "/remoteVirtualNetwork"),
    ("PeeringState", "/peeringState"),
    ("PeeringSyncLevel", "/peeringSyncLevel"),
    ("AllowGatewayTransit", "/allowGatewayTransit"),
    ("UseRemoteGateways", "/useRemoteGateways"),
    ("ProvisioningState", "/provisioningState"),
];

/// Arguments of `routewright vnet`.
#[derive(Debug, Args)]
pub(crate) struct VnetArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Network {
    #[command(flatten)]
    group: Group,
    /// Name or id of the virtual network.
    #[arg(long)]
    vnet_name: Option<String>,
}

impl Parent for Network {
    const KIND: &'static Kind = &KIND;
    const FLAG: &'static str = "vnet-name";

    fn group(&self) -> &Group {
        &self.group
    }

    fn name(&self) -> Option<&str> {
        self.vnet_name.as_deref()
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a virtual network.
    Create {
        #[command(flatten)]
        to: ToCreate,
        /// Its address space.
        #[arg(long, visible_alias = "address-prefix", num_args = 1.., default_value = "10.0.0.0/16")]
        address_prefixes: Vec<String>,
        /// Name of a subnet to create in it.
        #[arg(long)]
        subnet_name: Option<String>,
        /// Prefixes of that subnet.
        #[arg(long, visible_alias = "subnet-prefix", num_args = 1.., requires = "subnet_name")]
        subnet_prefixes: Option<Vec<String>>,
    },
    /// Change a virtual network.
    Update {
        #[command(flatten)]
        to: ToUpdate,
        /// Its whole address space.
        #[arg(long, num_args = 1..)]
        address_prefixes: Option<Vec<String>>,
    },
    #[command(flatten)]
    Common(Common),
    /// Subnets.
    #[command(subcommand)]
    Subnet(SubnetVerb),
    /// Peerings with other virtual networks.
    #[command(subcommand)]
    Peering(PeeringVerb),
}

#[derive(Debug, Args)]
struct SubnetOptions {
    /// Its prefixes.
    #[arg(long, visible_alias = "address-prefix", num_args = 1..)]
    address_prefixes: Option<Vec<String>>,
    /// Name or id of its route table; "" removes it.
    #[arg(long)]
    route_table: Option<String>,
    /// Name or id of its network security group; "" removes it.
    #[arg(long, visible_alias = "nsg")]
    network_security_group: Option<String>,
}

#[derive(Debug, Subcommand)]
enum SubnetVerb {
    /// Create a subnet.
    Create {
        #[command(flatten)]
        child: Child<Network>,
        #[command(flatten)]
        options: SubnetOptions,
    },
    /// Change a subnet.
    Update {
        #[command(flatten)]
        child: Child<Network>,
        #[command(flatten)]
        options: SubnetOptions,
    },
    #[command(flatten)]
    Common(CommonOfChild<Network>),
}

#[derive(Debug, Args)]
struct PeeringOptions {
    /// Let the other side's addresses reach ours.
    #[arg(long, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
    allow_vnet_access: Option<bool>,
    /// Let the other side send what does not come from itself.
    #[arg(long, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
    allow_forwarded_traffic: Option<bool>,
    /// Let the other side use our route server and gateways.
    #[arg(long, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
    allow_gateway_transit: Option<bool>,
    /// Use the other side's route server and gateways.
    #[arg(long, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
    use_remote_gateways: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum PeeringVerb {
    /// Create one side of a peering.
    Create {
        #[command(flatten)]
        child: Child<Network>,
        /// Name or id of the other virtual network.
        #[arg(long)]
        remote_vnet: String,
        #[command(flatten)]
        options: PeeringOptions,
    },
    /// Change a peering.
    Update {
        #[command(flatten)]
        child: Child<Network>,
        #[command(flatten)]
        options: PeeringOptions,
    },
    /// Take over the other side's address space after it has changed.
    Sync {
        #[command(flatten)]
        child: Child<Network>,
    },
    #[command(flatten)]
    Common(CommonOfChild<Network>),
}

pub(crate) async fn run(args: VnetArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.verb {
        Verb::Create {
            to,
            address_prefixes,
            subnet_name,
            subnet_prefixes,
        } => {
            let mut body = json!({ "properties": { "addressSpace": { "addressPrefixes": address_prefixes } } });
            if let Some(name) = subnet_name {
                let prefixes = subnet_prefixes.unwrap_or_else(|| address_prefixes.clone());
                body["properties"]["subnets"] = json!([{ "name": name, "properties": prefix_members(&prefixes) }]);
            }
            to.carry_out(&session, &KIND, body).await
        }
        Verb::Update { to, address_prefixes } => {
            let space = address_prefixes.map(|prefixes| json!({ "addressPrefixes": prefixes }));
            let changed = given([("addressSpace", space)]);
            to.carry_out(&session, &KIND, |properties| properties.extend(changed))
                .await
        }
        Verb::Common(verb) => verb.run(&session, &KIND).await,
        Verb::Subnet(verb) => subnet(&session, verb).await,
        Verb::Peering(verb) => peering(&session, verb).await,
    }
}

async fn subnet(session: &Session, verb: SubnetVerb) -> Result<(), ClientError> {
    let id = |child: &Child<Network>| child.id(session, &SUBNET);
    match verb {
        SubnetVerb::Create { child, options } => {
            if options.address_prefixes.is_none() {
                return Err(ClientError::Usage("--address-prefixes is needed".to_owned()));
            }
            let mut properties = Map::new();
            options.apply(session, &child.parent.group, &mut properties)?;
            let body = json!({ "properties": properties });
            session.create(SUBNET_COLUMNS, &id(&child)?, &body).await
        }
        SubnetVerb::Update { child, options } => {
            let id = id(&child)?;
            let mut body = session.client.get(&id).await?;
            if let Some(properties) = body["properties"].as_object_mut() {
                options.apply(session, &child.parent.group, properties)?;
            }
            session.create(SUBNET_COLUMNS, &id, &body).await
        }
        SubnetVerb::Common(verb) => verb.run(session, &SUBNET).await,
    }
}

impl SubnetOptions {
    fn apply(&self, session: &Session, group: &Group, properties: &mut Map<String, Value>) -> Result<(), ClientError> {
        if let Some(prefixes) = &self.address_prefixes {
            properties.remove("addressPrefix");
            properties.remove("addressPrefixes");
            if let Value::Object(members) = prefix_members(prefixes) {
                properties.extend(members);
            }
        }
        let references = [
            ("routeTable", &route_table::KIND, &self.route_table),
            ("networkSecurityGroup", &nsg::KIND, &self.network_security_group),
        ];
        for (member, kind, name) in references {
            match name.as_deref() {
                None => {}
                Some("") => drop(properties.remove(member)),
                Some(name) => {
                    let id = session.id(group, kind.path, name)?;
                    properties.insert(member.to_owned(), reference(&id));
                }
            }
        }
        Ok(())
    }
}

/// One prefix is `addressPrefix`, several are `addressPrefixes`: what old and new clients alike understand.
fn prefix_members(prefixes: &[String]) -> Value {
    match prefixes {
        [one] => json!({ "addressPrefix": one }),
        several => json!({ "addressPrefixes": several }),
    }
}

async fn peering(session: &Session, verb: PeeringVerb) -> Result<(), ClientError> {
    let id = |child: &Child<Network>| child.id(session, &PEERING);
    match verb {
        PeeringVerb::Create {
            child,
            remote_vnet,
            options,
        } => {
            let remote = session.id(&child.parent.group, KIND.path, &remote_vnet)?;
            let mut properties = Map::from_iter([
                ("remoteVirtualNetwork".to_owned(), reference(&remote)),
                ("allowVirtualNetworkAccess".to_owned(), json!(false)),
                ("allowForwardedTraffic".to_owned(), json!(false)),
                ("allowGatewayTransit".to_owned(), json!(false)),
                ("useRemoteGateways".to_owned(), json!(false)),
            ]);
            options.apply(&mut properties);
            let body = json!({ "properties": properties });
            session.create(PEERING_COLUMNS, &id(&child)?, &body).await
        }
        PeeringVerb::Update { child, options } => {
            let change = |properties: &mut Map<_, _>| options.apply(properties);
            session
                .update(PEERING_COLUMNS, &id(&child)?, change, &Tags { tags: None })
                .await
        }
        PeeringVerb::Sync { child } => {
            let id = id(&child)?;
            let body = session.client.get(&id).await?;
            let path = format!("{id}?syncRemoteAddressSpace=true");
            session.create(PEERING_COLUMNS, &path, &body).await
        }
        PeeringVerb::Common(verb) => verb.run(session, &PEERING).await,
    }
}

impl PeeringOptions {
    fn apply(&self, properties: &mut Map<String, Value>) {
        let members = [
            ("allowVirtualNetworkAccess", self.allow_vnet_access),
            ("allowForwardedTraffic", self.allow_forwarded_traffic),
            ("allowGatewayTransit", self.allow_gateway_transit),
            ("useRemoteGateways", self.use_remote_gateways),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                properties.insert(name.to_owned(), json!(value));
            }
        }
    }
}
