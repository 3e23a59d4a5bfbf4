//! `routewright sp …`: service principals, what programs sign in as.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Client, ClientError};
use crate::output::{self, Column};
use crate::resource::{Session, printed};
use crate::target::{Output, Target};

pub(crate) const PATH: &str = "/routewright/v1/service-principals";
const COLUMNS: &[Column] = &[
    ("DisplayName", "/displayName"),
    ("ClientId", "/clientId"),
    ("ObjectId", "/objectId"),
    ("Created", "/created"),
];
const SECRET_COLUMNS: &[Column] = &[
    ("DisplayName", "/displayName"),
    ("ClientId", "/clientId"),
    ("Secret", "/secret"),
    ("Tenant", "/tenant"),
];

/// Arguments of `routewright sp`.
#[derive(Debug, Args)]
pub(crate) struct SpArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make one. Its secret is told now and never again.
    Create {
        /// Its name, for people.
        #[arg(short, long)]
        name: String,
        /// Give it this role: Owner, Contributor, Reader, Network Contributor, User Access Administrator, or a custom one.
        #[arg(long)]
        role: Option<String>,
        /// Where the role holds (id); by default the whole subscription.
        #[arg(long, value_name = "ID", requires = "role")]
        scope: Option<String>,
    },
    /// List them.
    List,
    /// Give one another secret.
    Reset {
        /// Client id.
        #[arg(long, value_name = "CLIENT-ID")]
        id: String,
    },
    /// Remove one; its tokens are worth nothing from now on.
    Delete {
        /// Client id.
        #[arg(long, value_name = "CLIENT-ID")]
        id: String,
    },
}

pub(crate) async fn run(args: SpArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let client = &session.client;
    match args.verb {
        Verb::Create { name, role, scope } => {
            let made = create(client, &name).await?;
            let scope = scope.unwrap_or_else(|| session.target.subscription_id());
            if let Some(role) = role
                && let Err(error) = assign(client, &made, &role, &scope).await
            {
                // Its secret was never told: nobody could use it.
                let id = made["clientId"].as_str().unwrap_or_default();
                client.delete(&path_of(id)?.0).await?;
                return Err(error);
            }
            tell_secret(&session, &made)
        }
        Verb::List => session.print(COLUMNS, &client.get(PATH).await?),
        Verb::Reset { id } => tell_secret(&session, &client.post(&path_of(&id)?.join("reset")).await?),
        Verb::Delete { id } => client.delete(&path_of(&id)?.0).await.map(|_| ()),
    }
}

/// Makes one.
pub(crate) async fn create(client: &Client, name: &str) -> Result<Value, ClientError> {
    client.post_body(PATH, &json!({ "displayName": name })).await
}

/// The one with this name, with another secret; made if it isn't there.
pub(crate) async fn reset_or_create(client: &Client, name: &str) -> Result<Value, ClientError> {
    let all = client.get(PATH).await?;
    let mut all = all["value"].as_array().into_iter().flatten();
    match all.find(|principal| principal["displayName"] == name) {
        Some(principal) => {
            let id = principal["clientId"].as_str().unwrap_or_default();
            client.post(&path_of(id)?.join("reset")).await
        }
        None => create(client, name).await,
    }
}

/// Gives a service principal a role. One that it has already is fine.
pub(crate) async fn assign(client: &Client, principal: &Value, role: &str, scope: &str) -> Result<(), ClientError> {
    const AUTHORIZATION: &str = "providers/Microsoft.Authorization";
    let scope = scope.trim_end_matches('/');
    let roles = client.get(&format!("{scope}/{AUTHORIZATION}/roleDefinitions")).await?;
    let mut roles = roles["value"].as_array().into_iter().flatten();
    let named = |it: &&Value| {
        it["properties"]["roleName"]
            .as_str()
            .is_some_and(|name| name.eq_ignore_ascii_case(role))
    };
    let Some(definition) = roles.find(named) else {
        return Err(ClientError::Usage(format!("there is no role '{role}' at {scope}")));
    };
    let name = uuid::Uuid::new_v4();
    let body = json!({ "properties": {
        "roleDefinitionId": definition["id"], "principalId": principal["objectId"], "principalType": "ServicePrincipal",
    } });
    match client
        .put(&format!("{scope}/{AUTHORIZATION}/roleAssignments/{name}"), &body)
        .await
    {
        Err(ClientError::Refused { code, .. }) if code == "RoleAssignmentExists" => Ok(()),
        done => done.map(|_| ()),
    }
}

struct PrincipalPath(String);

impl PrincipalPath {
    fn join(&self, verb: &str) -> String {
        format!("{}/{verb}", self.0)
    }
}

fn path_of(id: &str) -> Result<PrincipalPath, ClientError> {
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match is_id {
        true => Ok(PrincipalPath(format!("{PATH}/{id}"))),
        false => Err(ClientError::Usage(format!(
            "--id must be a client id as `sp list` shows it, not '{id}'"
        ))),
    }
}

fn tell_secret(session: &Session, told: &Value) -> Result<(), ClientError> {
    match session.target.output {
        Output::Json | Output::Yaml => printed(output::print_whole(session.target.output, told)),
        Output::Table => {
            printed(output::print_table(SECRET_COLUMNS, &[told]))?;
            eprintln!("Keep the secret now; it is not told again.");
            Ok(())
        }
    }
}
