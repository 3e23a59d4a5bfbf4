//! `routewright nsg …`: network security groups. They are kept and filter nothing.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::common::{Common, Kind, ToCreate, ToUpdate};
use super::{Group, Session, reference};
use crate::client::ClientError;
use crate::output::Column;
use crate::target::Target;

pub(super) const KIND: Kind = Kind {
    path: "networkSecurityGroups",
    called: "network security group",
    columns: COLUMNS,
    asks: false,
};
const COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("ResourceGroup", "/resourceGroup"),
    ("Location", "/location"),
    ("Subnets", "/subnets"),
    ("ProvisioningState", "/provisioningState"),
];

/// Arguments of `routewright nsg`.
#[derive(Debug, Args)]
pub(crate) struct NsgArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a network security group.
    Create {
        #[command(flatten)]
        to: ToCreate,
    },
    /// Change a network security group.
    Update {
        #[command(flatten)]
        to: ToUpdate,
    },
    #[command(flatten)]
    Common(Common),
}

pub(crate) async fn run(args: NsgArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.verb {
        Verb::Create { to } => to.carry_out(&session, &KIND, json!({ "properties": {} })).await,
        Verb::Update { to } => to.carry_out(&session, &KIND, |_| {}).await,
        Verb::Common(verb) => verb.run(&session, &KIND).await,
    }
}

/// What `--network-security-group` makes of the member of that name: `None` leaves it, null removes it.
pub(super) fn change(session: &Session, group: &Group, name: Option<&str>) -> Result<Option<Value>, ClientError> {
    match name {
        None => Ok(None),
        Some("") => Ok(Some(Value::Null)),
        Some(name) => Ok(Some(reference(&session.id(group, KIND.path, name)?))),
    }
}
