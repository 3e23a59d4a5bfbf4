//! `routewright nic …`

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::common::{Common, Kind, Named};
use super::{Group, Location, Session, Tags, nsg, parse_bool, public_ip, reference, vnet};
use crate::client::ClientError;
use crate::output::Column;
use crate::target::Target;

const KIND: Kind = Kind {
    path: "networkInterfaces",
    called: "network interface",
    columns: COLUMNS,
    asks: false,
};
const COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("ResourceGroup", "/resourceGroup"),
    ("Location", "/location"),
    ("Address", "/ipConfigurations/0/privateIPAddress"),
    ("Subnet", "/ipConfigurations/0/subnet"),
    ("ProvisioningState", "/provisioningState"),
];
const ROUTE_COLUMNS: &[Column] = &[
    ("Source", "/source"),
    ("State", "/state"),
    ("Address Prefix", "/addressPrefix"),
    ("Next Hop Type", "/nextHopType"),
    ("Next Hop IP", "/nextHopIpAddress"),
    ("Not installed", "/notInstalled"),
];

/// Arguments of `routewright nic`.
#[derive(Debug, Args)]
pub(crate) struct NicArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a network interface.
    Create {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        location: Location,
        /// Name or id of the subnet.
        #[arg(long)]
        subnet: String,
        /// Name of the virtual network, when --subnet is a name.
        #[arg(long)]
        vnet_name: Option<String>,
        /// Its address; by default the next free one.
        #[arg(long)]
        private_ip_address: Option<String>,
        /// Whether it forwards what is not for itself.
        #[arg(long, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
        ip_forwarding: Option<bool>,
        /// Name or id of its network security group.
        #[arg(long)]
        network_security_group: Option<String>,
        /// Name or id of its public IP address.
        #[arg(long)]
        public_ip_address: Option<String>,
        #[command(flatten)]
        tags: Tags,
    },
    /// Change a network interface.
    Update {
        #[command(flatten)]
        named: Named,
        /// Whether it forwards what is not for itself.
        #[arg(long, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
        ip_forwarding: Option<bool>,
        /// Name or id of its network security group; "" removes it.
        #[arg(long)]
        network_security_group: Option<String>,
        #[command(flatten)]
        tags: Tags,
    },
    /// Show the routes in force on a network interface, whatever they come from.
    ShowEffectiveRouteTable {
        #[command(flatten)]
        named: Named,
    },
    #[command(flatten)]
    Common(Common),
}

pub(crate) async fn run(args: NicArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.verb {
        Verb::Create {
            named,
            location,
            subnet,
            vnet_name,
            private_ip_address,
            ip_forwarding,
            network_security_group,
            public_ip_address,
            tags,
        } => {
            let id = named.id(&session, &KIND)?;
            let subnet = subnet_id(&session, &named.group, vnet_name.as_deref(), &subnet)?;
            let mut ip_configuration = json!({ "subnet": reference(&subnet), "primary": true });
            match private_ip_address {
                Some(address) => {
                    ip_configuration["privateIPAddress"] = json!(address);
                    ip_configuration["privateIPAllocationMethod"] = json!("Static");
                }
                None => ip_configuration["privateIPAllocationMethod"] = json!("Dynamic"),
            }
            if let Some(name) = public_ip_address {
                ip_configuration["publicIPAddress"] =
                    reference(&session.id(&named.group, public_ip::KIND.path, &name)?);
            }
            let mut body = json!({
                "location": session.location(&location, &id).await?,
                "properties": { "ipConfigurations": [{ "name": "ipconfig1", "properties": ip_configuration }] },
            });
            if let Some(forwarding) = ip_forwarding {
                body["properties"]["enableIPForwarding"] = json!(forwarding);
            }
            if let Some(name) = network_security_group {
                body["properties"]["networkSecurityGroup"] =
                    reference(&session.id(&named.group, nsg::KIND.path, &name)?);
            }
            tags.add_to(&mut body)?;
            session.create(COLUMNS, &id, &body).await
        }
        Verb::Update {
            named,
            ip_forwarding,
            network_security_group,
            tags,
        } => {
            let group = nsg::change(&session, &named.group, network_security_group.as_deref())?;
            let change = |properties: &mut Map<String, Value>| {
                properties.extend(ip_forwarding.map(|on| ("enableIPForwarding".to_owned(), json!(on))));
                properties.extend(group.map(|group| ("networkSecurityGroup".to_owned(), group)));
            };
            session
                .update(COLUMNS, &named.id(&session, &KIND)?, change, &tags)
                .await
        }
        Verb::Common(verb) => verb.run(&session, &KIND).await,
        Verb::ShowEffectiveRouteTable { named } => {
            let path = format!("{}/effectiveRouteTable", named.id(&session, &KIND)?);
            session.print(ROUTE_COLUMNS, &session.client.post(&path).await?)
        }
    }
}

fn subnet_id(session: &Session, group: &Group, vnet: Option<&str>, subnet: &str) -> Result<String, ClientError> {
    if subnet.starts_with('/') {
        return Ok(subnet.to_owned());
    }
    let Some(network) = vnet else {
        return Err(ClientError::Usage(
            "--vnet-name is needed when --subnet is a name".to_owned(),
        ));
    };
    session.child(&session.id(group, vnet::KIND.path, network)?, "subnets", subnet)
}
