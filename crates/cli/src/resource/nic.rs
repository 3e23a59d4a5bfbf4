//! `routewright nic …`

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Group, Location, NoWait, Session, Tags, parse_bool, reference};
use crate::client::ClientError;
use crate::output::Column;
use crate::target::Target;

const KIND: &str = "networkInterfaces";
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

#[derive(Debug, Args)]
struct Named {
    #[command(flatten)]
    group: Group,
    /// Name or id of the network interface.
    #[arg(short, long)]
    name: String,
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
        #[command(flatten)]
        tags: Tags,
    },
    /// Show a network interface.
    Show {
        #[command(flatten)]
        named: Named,
    },
    /// List network interfaces.
    List {
        #[command(flatten)]
        group: Group,
    },
    /// Delete a network interface.
    Delete {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        _no_wait: NoWait,
    },
    /// Show the routes in force on a network interface, whatever they come from.
    ShowEffectiveRouteTable {
        #[command(flatten)]
        named: Named,
    },
}

pub(crate) async fn run(args: NicArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let id = |named: &Named| session.id(&named.group, KIND, &named.name);
    match args.verb {
        Verb::Create {
            named,
            location,
            subnet,
            vnet_name,
            private_ip_address,
            ip_forwarding,
            tags,
        } => {
            let id = id(&named)?;
            let subnet = subnet_id(&session, &named.group, vnet_name.as_deref(), &subnet)?;
            let mut ip_configuration = json!({ "subnet": reference(&subnet), "primary": true });
            match private_ip_address {
                Some(address) => {
                    ip_configuration["privateIPAddress"] = json!(address);
                    ip_configuration["privateIPAllocationMethod"] = json!("Static");
                }
                None => ip_configuration["privateIPAllocationMethod"] = json!("Dynamic"),
            }
            let mut body = json!({
                "location": session.location(&location, &id).await?,
                "properties": { "ipConfigurations": [{ "name": "ipconfig1", "properties": ip_configuration }] },
            });
            if let Some(forwarding) = ip_forwarding {
                body["properties"]["enableIPForwarding"] = json!(forwarding);
            }
            tags.add_to(&mut body)?;
            session.create(COLUMNS, &id, &body).await
        }
        Verb::Show { named } => session.show(COLUMNS, &id(&named)?).await,
        Verb::List { group } => session.list(COLUMNS, &group, KIND).await,
        Verb::Delete { named, .. } => session.delete(&id(&named)?).await,
        Verb::ShowEffectiveRouteTable { named } => {
            let path = format!("{}/effectiveRouteTable", id(&named)?);
            session.print(ROUTE_COLUMNS, &session.client.post(&path).await?)
        }
    }
}

fn subnet_id(session: &Session, group: &Group, vnet: Option<&str>, subnet: &str) -> Result<String, ClientError> {
    if subnet.starts_with('/') {
        return Ok(subnet.to_owned());
    }
    let Some(vnet) = vnet else {
        return Err(ClientError::Usage(
            "--vnet-name is needed when --subnet is a name".to_owned(),
        ));
    };
    session.child(&session.id(group, "virtualNetworks", vnet)?, "subnets", subnet)
}
