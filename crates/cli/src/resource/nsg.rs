//! `routewright nsg …`: network security groups. They are kept and filter nothing.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::common::{Common, Kind, Named};
use super::{Group, Location, Session, Tags, reference};
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
        named: Named,
        #[command(flatten)]
        location: Location,
        #[command(flatten)]
        tags: Tags,
    },
    /// Change a network security group.
    Update {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        tags: Tags,
    },
    #[command(flatten)]
    Common(Common),
}

pub(crate) async fn run(args: NsgArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.verb {
        Verb::Create { named, location, tags } => {
            let id = named.id(&session, &KIND)?;
            let mut body = json!({ "location": session.location(&location, &id).await?, "properties": {} });
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

/// What `--network-security-group` makes of the member of that name: `None` leaves it, null removes it.
pub(super) fn change(session: &Session, group: &Group, name: Option<&str>) -> Result<Option<Value>, ClientError> {
    match name {
        None => Ok(None),
        Some("") => Ok(Some(Value::Null)),
        Some(name) => Ok(Some(reference(&session.id(group, KIND.path, name)?))),
    }
}
