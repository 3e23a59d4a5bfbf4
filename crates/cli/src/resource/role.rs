//! `routewright role assignment|definition …`: who may do what.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Session;
use crate::client::ClientError;
use crate::output::Column;
use crate::sp;
use crate::target::Target;

const AUTHORIZATION: &str = "providers/Microsoft.Authorization";
const ASSIGNMENT_COLUMNS: &[Column] = &[
    ("Principal", "/principalId"),
    ("PrincipalType", "/principalType"),
    ("Role", "/roleDefinitionName"),
    ("Scope", "/scope"),
    ("Name", "/name"),
];
const DEFINITION_COLUMNS: &[Column] = &[
    ("Name", "/roleName"),
    ("Type", "/type"),
    ("Id", "/name"),
    ("Description", "/description"),
];

/// Arguments of `routewright role`.
#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Who has which role where.
    #[command(subcommand)]
    Assignment(AssignmentVerb),
    /// What roles may do.
    #[command(subcommand)]
    Definition(DefinitionVerb),
}

#[derive(Debug, Args)]
struct Scope {
    /// Where it holds (id); by default the whole subscription.
    #[arg(long, value_name = "ID")]
    scope: Option<String>,
}

/// Whom a role is given.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Assignee {
    /// Client id, object id or name of a service principal here, or another directory's object id if it is a GUID.
    #[arg(long)]
    assignee: Option<String>,
    /// An object id of another directory, taken as it is.
    #[arg(long, value_name = "ID")]
    assignee_object_id: Option<String>,
}

#[derive(Debug, Subcommand)]
enum AssignmentVerb {
    /// Give somebody a role.
    Create {
        #[command(flatten)]
        assignee: Assignee,
        /// Name of the role.
        #[arg(long)]
        role: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// List them.
    List {
        /// Only those of a service principal: client id, object id or name.
        #[arg(long)]
        assignee: Option<String>,
        #[command(flatten)]
        scope: Scope,
    },
    /// Take a role away.
    Delete {
        /// Id of the assignment.
        #[arg(long, value_name = "ID")]
        ids: String,
        /// Taken for the sake of `az`: nothing is asked here.
        #[arg(short, long = "yes")]
        _yes: bool,
    },
}

#[derive(Debug, Subcommand)]
enum DefinitionVerb {
    /// Create a custom role.
    Create {
        /// JSON file: Name, Description, Actions, NotActions, AssignableScopes.
        #[arg(long, value_name = "FILE")]
        role_definition: PathBuf,
    },
    /// List built-in and custom roles.
    List {
        /// Only the role of this name.
        #[arg(short, long)]
        name: Option<String>,
        #[command(flatten)]
        scope: Scope,
    },
    /// Delete a custom role.
    Delete {
        /// Its name.
        #[arg(short, long)]
        name: String,
    },
}

pub(crate) async fn run(args: RoleArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    match args.noun {
        Noun::Assignment(verb) => assignment(&session, verb).await,
        Noun::Definition(verb) => definition(&session, verb).await,
    }
}

async fn assignment(session: &Session, verb: AssignmentVerb) -> Result<(), ClientError> {
    match verb {
        AssignmentVerb::Create { assignee, role, scope } => {
            let principal = match (assignee.assignee, assignee.assignee_object_id) {
                (Some(assignee), _) => principal(session, &assignee).await?,
                (None, id) => json!({ "objectId": id }),
            };
            sp::assign(&session.client, &principal, &role, &scope.id(session)).await
        }
        AssignmentVerb::List { assignee, scope } => {
            let filter = match assignee {
                Some(assignee) => {
                    let principal = principal(session, &assignee).await?;
                    let id = principal["objectId"].as_str().unwrap_or_default();
                    format!("?$filter=principalId%20eq%20'{id}'")
                }
                None => String::new(),
            };
            let at = format!("{}/{AUTHORIZATION}", scope.id(session));
            let mut assignments = session.list_all(&format!("{at}/roleAssignments{filter}")).await?;
            let roles = session.list_all(&format!("{at}/roleDefinitions")).await?;
            assignments.iter_mut().for_each(|one| name_role(one, &roles));
            session.print(ASSIGNMENT_COLUMNS, &Value::Array(assignments))
        }
        AssignmentVerb::Delete { ids, .. } => session.delete(&ids).await,
    }
}

/// As `az`: the role's name beside its id.
fn name_role(assignment: &mut Value, roles: &[Value]) {
    let name = |id: &Value| {
        id.as_str()
            .and_then(|id| id.rsplit('/').next())
            .map(str::to_ascii_lowercase)
    };
    let wanted = name(&assignment["properties"]["roleDefinitionId"]);
    let role = roles.iter().find(|role| name(&role["id"]) == wanted);
    assignment["properties"]["roleDefinitionName"] =
        role.map_or(Value::Null, |role| role["properties"]["roleName"].clone());
}

async fn definition(session: &Session, verb: DefinitionVerb) -> Result<(), ClientError> {
    match verb {
        DefinitionVerb::Create { role_definition } => {
            let body = read(&role_definition)?;
            let name = uuid::Uuid::new_v4();
            let subscription = session.target.subscription_id();
            let path = format!("{subscription}/{AUTHORIZATION}/roleDefinitions/{name}");
            session.create(DEFINITION_COLUMNS, &path, &body).await
        }
        DefinitionVerb::List { name, scope } => {
            let path = format!("{}/{AUTHORIZATION}/roleDefinitions", scope.id(session));
            let mut roles = session.client.get(&path).await?;
            if let (Some(name), Some(all)) = (name, roles["value"].as_array_mut()) {
                all.retain(|role| is_named(role, &name));
            }
            session.print(DEFINITION_COLUMNS, &roles)
        }
        DefinitionVerb::Delete { name } => {
            let path = format!("{}/{AUTHORIZATION}/roleDefinitions", session.target.subscription_id());
            let roles = session.client.get(&path).await?;
            let mut roles = roles["value"].as_array().into_iter().flatten();
            match roles.find(|role| is_named(role, &name)) {
                Some(role) => session.delete(role["id"].as_str().unwrap_or_default()).await,
                None => Err(ClientError::Usage(format!("there is no role '{name}'"))),
            }
        }
    }
}

fn is_named(role: &Value, name: &str) -> bool {
    let told = role["properties"]["roleName"].as_str();
    told.is_some_and(|told| told.eq_ignore_ascii_case(name))
}

impl Scope {
    fn id(&self, session: &Session) -> String {
        let scope = self.scope.clone().unwrap_or_else(|| session.target.subscription_id());
        scope.trim_end_matches('/').to_owned()
    }
}

/// A service principal by any of its names; whoever is not known here has an object id of another directory, which is a GUID: what is
/// none, somebody has mistyped.
async fn principal(session: &Session, assignee: &str) -> Result<Value, ClientError> {
    let all = session.client.get(sp::PATH).await?;
    let names = ["clientId", "objectId", "displayName"];
    let mut all = all["value"].as_array().into_iter().flatten();
    let found = all.find(|one| names.iter().any(|name| one[name] == assignee));
    match found {
        Some(found) => Ok(found.clone()),
        None if uuid::Uuid::try_parse(assignee).is_ok() => Ok(json!({ "objectId": assignee })),
        None => Err(ClientError::Usage(format!(
            "there is no service principal '{assignee}' here (`routewright sp list`); an object id of another directory that is no GUID is \
             said with --assignee-object-id"
        ))),
    }
}

/// As `az` takes it, in words of its own; as ARM has it is taken as well.
fn read(path: &PathBuf) -> Result<Value, ClientError> {
    let failed = |problem: String| ClientError::Usage(format!("{}: {problem}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let role: Value = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    Ok(
        match role.get("properties").or_else(|| role.get("roleName").map(|_| &role)) {
            Some(properties) => json!({ "properties": properties }),
            None => json!({ "properties": {
            "roleName": role["Name"],
            "description": role["Description"],
            "type": "CustomRole",
            "assignableScopes": role["AssignableScopes"],
            "permissions": [{ "actions": role["Actions"], "notActions": role.get("NotActions").unwrap_or(&json!([])) }],
        } }),
        },
    )
}
