//! `routewright group …`

use clap::{Args, Subcommand};
use serde_json::json;

use super::{NoWait, Session, Tags, Yes};
use crate::client::ClientError;
use crate::output::{self, Column};
use crate::target::Target;

const COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("Location", "/location"),
    ("Status", "/provisioningState"),
];

/// Arguments of `routewright group`.
#[derive(Debug, Args)]
pub(crate) struct GroupArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Name {
    /// Name of the resource group.
    #[arg(short = 'n', short_alias = 'g', long = "name", visible_alias = "resource-group")]
    name: String,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create or update a resource group.
    Create {
        #[command(flatten)]
        name: Name,
        /// Location.
        #[arg(short, long)]
        location: String,
        #[command(flatten)]
        tags: Tags,
    },
    /// Show a resource group.
    Show {
        #[command(flatten)]
        name: Name,
    },
    /// List resource groups.
    List,
    /// Tell whether a resource group exists: true or false.
    Exists {
        #[command(flatten)]
        name: Name,
    },
    /// Delete a resource group with everything in it.
    Delete {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        yes: Yes,
        #[command(flatten)]
        _no_wait: NoWait,
    },
}

pub(crate) async fn run(args: GroupArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.verb {
        Verb::Create { name, location, tags } => {
            let mut body = json!({ "location": location });
            tags.add_to(&mut body)?;
            session.create(COLUMNS, &session.group_id(&name.name)?, &body).await
        }
        Verb::Show { name } => session.show(COLUMNS, &session.group_id(&name.name)?).await,
        Verb::List => {
            let path = format!("/subscriptions/{}/resourcegroups", session.target.subscription);
            session.show_all(COLUMNS, &path).await
        }
        Verb::Exists { name } => {
            let found = session.client.get(&session.group_id(&name.name)?).await;
            let exists = match found {
                Ok(_) => true,
                Err(ClientError::Refused { status: 404, .. }) => false,
                Err(error) => return Err(error),
            };
            super::printed(output::print_json(&json!(exists)))
        }
        Verb::Delete { name, yes, .. } => {
            let id = session.group_id(&name.name)?;
            yes.confirm(&format!(
                "delete the resource group {} with everything in it",
                name.name
            ))?;
            session.delete(&id).await
        }
    }
}
