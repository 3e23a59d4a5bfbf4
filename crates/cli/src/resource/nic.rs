//! `routewright nic …`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::common::{Common, Kind, Named, ToCreate, ToUpdate, given};
use super::{Group, Session, nsg, parse_bool, public_ip, reference, vnet};
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
        to: ToCreate,
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
    },
    /// Change a network interface.
    Update {
        #[command(flatten)]
        to: ToUpdate,
        /// Whether it forwards what is not for itself.
        #[arg(long, value_parser = parse_bool, num_args = 0..=1, default_missing_value = "true")]
        ip_forwarding: Option<bool>,
        /// Name or id of its network security group; "" removes it.
        #[arg(long)]
        network_security_group: Option<String>,
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
            to,
            subnet,
            vnet_name,
            private_ip_address,
            ip_forwarding,
            network_security_group,
            public_ip_address,
        } => {
            let group = &to.named.group;
            let subnet = subnet_id(&session, group, vnet_name.as_deref(), &subnet)?;
            let mut ip_configuration = json!({ "subnet": reference(&subnet), "primary": true });
            match private_ip_address {
                Some(address) => {
                    ip_configuration["privateIPAddress"] = json!(address);
                    ip_configuration["privateIPAllocationMethod"] = json!("Static");
                }
                None => ip_configuration["privateIPAllocationMethod"] = json!("Dynamic"),
            }
            if let Some(name) = public_ip_address {
                ip_configuration["publicIPAddress"] = reference(&session.id(group, public_ip::KIND.path, &name)?);
            }
            let properties = given([
                (
                    "ipConfigurations",
                    Some(json!([{ "name": "ipconfig1", "properties": ip_configuration }])),
                ),
                ("enableIPForwarding", ip_forwarding.map(Value::from)),
                (
                    "networkSecurityGroup",
                    nsg::change(&session, group, network_security_group.as_deref())?,
                ),
            ]);
            to.carry_out(&session, &KIND, json!({ "properties": properties })).await
        }
        Verb::Update {
            to,
            ip_forwarding,
            network_security_group,
        } => {
            let changed = given([
                ("enableIPForwarding", ip_forwarding.map(Value::from)),
                (
                    "networkSecurityGroup",
                    nsg::change(&session, &to.named.group, network_security_group.as_deref())?,
                ),
            ]);
            to.carry_out(&session, &KIND, |properties| properties.extend(changed))
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
