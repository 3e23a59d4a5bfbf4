//! `routewright public-ip …`

use clap::{Args, Subcommand};
use serde_json::json;

use super::Session;
use super::common::{Common, Kind, ToCreate, ToUpdate};
use crate::client::ClientError;
use crate::output::Column;
use crate::target::Target;

pub(super) const KIND: Kind = Kind {
    path: "publicIPAddresses",
    called: "public IP address",
    columns: COLUMNS,
    asks: false,
};
const COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("ResourceGroup", "/resourceGroup"),
    ("Location", "/location"),
    ("Address", "/ipAddress"),
    ("Allocation", "/publicIPAllocationMethod"),
    ("Sku", "/sku/name"),
    ("ProvisioningState", "/provisioningState"),
];

/// Arguments of `routewright public-ip`.
#[derive(Debug, Args)]
pub(crate) struct PublicIpArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a public IP address.
    Create {
        #[command(flatten)]
        to: ToCreate,
        /// Standard or Basic; a route server needs Standard.
        #[arg(long, default_value = "Standard")]
        sku: String,
        /// Static or Dynamic.
        #[arg(long, default_value = "Static")]
        allocation_method: String,
        /// IPv4 or IPv6.
        #[arg(long = "version", id = "address_family", default_value = "IPv4")]
        version: String,
    },
    /// Change a public IP address.
    Update {
        #[command(flatten)]
        to: ToUpdate,
    },
    #[command(flatten)]
    Common(Common),
}

pub(crate) async fn run(args: PublicIpArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.verb {
        Verb::Create {
            to,
            sku,
            allocation_method,
            version,
        } => {
            let body = json!({
                "sku": { "name": sku },
                "properties": { "publicIPAllocationMethod": allocation_method, "publicIPAddressVersion": version },
            });
            to.carry_out(&session, &KIND, body).await
        }
        Verb::Update { to } => to.carry_out(&session, &KIND, |_| {}).await,
        Verb::Common(verb) => verb.run(&session, &KIND).await,
    }
}
