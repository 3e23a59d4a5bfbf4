//! `routewright public-ip …`

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Group, Location, NoWait, Session, Tags};
use crate::client::ClientError;
use crate::output::Column;
use crate::target::Target;

const KIND: &str = "publicIPAddresses";
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

#[derive(Debug, Args)]
struct Named {
    #[command(flatten)]
    group: Group,
    /// Name or id of the public IP address.
    #[arg(short, long)]
    name: String,
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
    /// Show a public IP address.
    Show {
        #[command(flatten)]
        named: Named,
    },
    /// List public IP addresses.
    List {
        #[command(flatten)]
        group: Group,
    },
    /// Delete a public IP address.
    Delete {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        _no_wait: NoWait,
    },
}

pub(crate) async fn run(args: PublicIpArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let id = |named: &Named| session.id(&named.group, KIND, &named.name);
    match args.verb {
        Verb::Create {
            named,
            location,
            sku,
            allocation_method,
            version,
            tags,
        } => {
            let id = id(&named)?;
            let mut body = json!({
                "location": session.location(&location, &id).await?,
                "sku": { "name": sku },
                "properties": { "publicIPAllocationMethod": allocation_method, "publicIPAddressVersion": version },
            });
            tags.add_to(&mut body)?;
            session.create(COLUMNS, &id, &body).await
        }
        Verb::Show { named } => session.show(COLUMNS, &id(&named)?).await,
        Verb::List { group } => session.list(COLUMNS, &group, KIND).await,
        Verb::Delete { named, .. } => session.delete(&id(&named)?).await,
    }
}
