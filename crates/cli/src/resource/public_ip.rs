//! `routewright public-ip …`

use clap::{Args, Subcommand};
use serde_json::json;

use super::common::{Common, Kind, Named};
use super::{Location, Session, Tags};
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
        named: Named,
        #[command(flatten)]
        location: Location,
        /// Standard or Basic; a route server needs Standard.
        #[arg(long, default_value = "Standard")]
        sku: String,
        /// Static or Dynamic.
        #[arg(long, default_value = "Static")]
        allocation_method: String,
        /// IPv4 or IPv6.
        #[arg(long = "version", id = "address_family", default_value = "IPv4")]
        version: String,
        #[command(flatten)]
        tags: Tags,
    },
    /// Change a public IP address.
    Update {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        tags: Tags,
    },
    #[command(flatten)]
    Common(Common),
}

pub(crate) async fn run(args: PublicIpArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.verb {
        Verb::Create {
            named,
            location,
            sku,
            allocation_method,
            version,
            tags,
        } => {
            let id = named.id(&session, &KIND)?;
            let mut body = json!({
                "location": session.location(&location, &id).await?,
                "sku": { "name": sku },
                "properties": { "publicIPAllocationMethod": allocation_method, "publicIPAddressVersion": version },
            });
            tags.add_to(&mut body)?;
            session.create(COLUMNS, &id, &body).await
        }
        Verb::Update { named, tags } => {
            session
                .update(COLUMNS, &named.id(&session, &KIND)?, |_| {}, &tags)
                .await
        }
        Verb::Common(verb) => verb.run(&session, &KIND).await,
    }
}
