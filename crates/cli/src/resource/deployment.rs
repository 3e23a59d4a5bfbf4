//! `routewright deployment group …`: ARM templates.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use daemon::manager::read_loose_json;
use serde_json::{Map, Value, json};

use super::{NoWait, Session};
use crate::client::ClientError;
use crate::output::Column;
use crate::target::Target;

const DEPLOYMENTS: &str = "providers/Microsoft.Resources/deployments";
const COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("State", "/provisioningState"),
    ("Timestamp", "/timestamp"),
    ("Mode", "/mode"),
    ("ResourceGroup", "/resourceGroup"),
];
const OPERATION_COLUMNS: &[Column] = &[
    ("Operation", "/provisioningOperation"),
    ("State", "/provisioningState"),
    ("ResourceType", "/targetResource/resourceType"),
    ("ResourceName", "/targetResource/resourceName"),
];
/// Azure's bound on a template is 4 MB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Arguments of `routewright deployment`.
#[derive(Debug, Args)]
pub(crate) struct DeploymentArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    level: Level,
}

#[derive(Debug, Subcommand)]
enum Level {
    /// Deployments to a resource group.
    #[command(subcommand)]
    Group(Verb),
    /// What deployments did.
    #[command(subcommand)]
    Operation(OperationLevel),
}

#[derive(Debug, Subcommand)]
enum OperationLevel {
    /// Of deployments to a resource group.
    #[command(subcommand)]
    Group(OperationVerb),
}

#[derive(Debug, Subcommand)]
enum OperationVerb {
    /// List them.
    List {
        #[command(flatten)]
        named: DeploymentName,
    },
}

#[derive(Debug, Args)]
struct InGroup {
    /// Name of the resource group.
    #[arg(short = 'g', long, value_name = "NAME")]
    resource_group: String,
}

#[derive(Debug, Args)]
struct DeploymentName {
    #[command(flatten)]
    group: InGroup,
    /// Name of the deployment.
    #[arg(short, long)]
    name: String,
}

#[derive(Debug, Args)]
struct Template {
    #[command(flatten)]
    group: InGroup,
    /// Name of the deployment; by default that of the file.
    #[arg(short, long)]
    name: Option<String>,
    /// The template: JSON, with or without comments.
    #[arg(short = 'f', long, value_name = "FILE")]
    template_file: PathBuf,
    /// KEY=VALUE, or a file of parameters, each as often as needed; later ones win.
    #[arg(short, long, num_args = 1.., value_name = "KEY=VALUE|FILE")]
    parameters: Vec<String>,
    #[command(flatten)]
    _no_wait: NoWait,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make what a template says, all of it or nothing.
    Create(Template),
    /// Tell whether a template could be deployed.
    Validate(Template),
    /// Show a deployment.
    Show {
        #[command(flatten)]
        named: DeploymentName,
    },
    /// List the deployments of a resource group.
    List {
        #[command(flatten)]
        group: InGroup,
    },
    /// Forget a deployment; what it made stays.
    Delete {
        #[command(flatten)]
        named: DeploymentName,
    },
}

pub(crate) async fn run(args: DeploymentArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let verb = match args.level {
        Level::Group(verb) => verb,
        Level::Operation(OperationLevel::Group(OperationVerb::List { named })) => {
            let path = format!("{}/operations", named.id(&session)?);
            return session.show_all(OPERATION_COLUMNS, &path).await;
        }
    };
    match verb {
        Verb::Create(template) => {
            session
                .create(COLUMNS, &template.id(&session)?, &template.body()?)
                .await
        }
        Verb::Validate(template) => {
            let path = format!("{}/validate", template.id(&session)?);
            session.print(COLUMNS, &session.client.post_body(&path, &template.body()?).await?)
        }
        Verb::Show { named } => session.show(COLUMNS, &named.id(&session)?).await,
        Verb::List { group } => session.show_all(COLUMNS, &group.deployments(&session)?).await,
        Verb::Delete { named } => session.delete(&named.id(&session)?).await,
    }
}

impl InGroup {
    fn deployments(&self, session: &Session) -> Result<String, ClientError> {
        Ok(format!("{}/{DEPLOYMENTS}", session.group_id(&self.resource_group)?))
    }

    fn deployment(&self, session: &Session, name: &str) -> Result<String, ClientError> {
        session.child(&session.group_id(&self.resource_group)?, DEPLOYMENTS, name)
    }
}

impl DeploymentName {
    fn id(&self, session: &Session) -> Result<String, ClientError> {
        self.group.deployment(session, &self.name)
    }
}

impl Template {
    fn id(&self, session: &Session) -> Result<String, ClientError> {
        let stem = self.template_file.file_stem().unwrap_or_default().to_string_lossy();
        let name = self.name.as_deref().unwrap_or(&stem);
        self.group.deployment(session, name)
    }

    fn body(&self) -> Result<Value, ClientError> {
        let template = read(&self.template_file)?;
        let types = &template["parameters"];
        let mut parameters = Map::new();
        for given in &self.parameters {
            match given.split_once('=') {
                Some((name, value)) => {
                    let value = typed(types[name]["type"].as_str().unwrap_or_default(), value);
                    parameters.insert(name.to_owned(), json!({ "value": value }));
                }
                None => {
                    let file = read(Path::new(given.trim_start_matches('@')))?;
                    // A file of parameters has them under that name; a bare object is taken as well.
                    let inside = file.get("parameters").unwrap_or(&file);
                    parameters.extend(inside.as_object().cloned().unwrap_or_default());
                }
            }
        }
        Ok(json!({ "properties": { "mode": "Incremental", "template": template, "parameters": parameters } }))
    }
}

/// A value on the command line, read as its parameter's type wants it.
fn typed(kind: &str, text: &str) -> Value {
    let is_text = kind.eq_ignore_ascii_case("string") || kind.eq_ignore_ascii_case("secureString");
    match (is_text, serde_json::from_str(text)) {
        (false, Ok(value)) => value,
        _ => json!(text),
    }
}

fn read(path: &Path) -> Result<Value, ClientError> {
    let failed = |problem: String| ClientError::Usage(format!("{}: {problem}", path.display()));
    let length = std::fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if length > MAX_FILE_BYTES {
        return Err(failed(format!("more than {MAX_FILE_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    read_loose_json(&text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_read_as_the_template_declares_it() {
        assert_eq!(typed("string", "65001"), json!("65001"));
        assert_eq!(typed("int", "65001"), json!(65001));
        assert_eq!(typed("array", "[\"a\"]"), json!(["a"]));
        assert_eq!(typed("object", "no json"), json!("no json"));
    }
}
