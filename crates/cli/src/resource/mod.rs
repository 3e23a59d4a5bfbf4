//! The nouns of `az network`, with az's verbs and flags: every noun turns its flags into an id and a body, the rest is shared.

mod common;
mod deployment;
mod express_route;
mod group;
mod local_gateway;
mod monitor;
mod nic;
mod nsg;
mod public_ip;
mod role;
mod route_map;
mod route_table;
mod routeserver;
mod settings;
mod vnet;
mod vnet_gateway;
mod vpn_connection;

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::client::{Client, ClientError};
use crate::output::{self, Column};
use crate::target::Target;

/// Every noun.
#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Resource groups.
    Group(group::GroupArgs),
    /// Virtual networks, their subnets and peerings.
    Vnet(vnet::VnetArgs),
    /// Network interfaces.
    Nic(nic::NicArgs),
    /// Public IP addresses.
    PublicIp(public_ip::PublicIpArgs),
    /// Route tables and user-defined routes.
    RouteTable(route_table::RouteTableArgs),
    /// Route servers and their peerings.
    Routeserver(routeserver::RouteServerArgs),
    /// Network security groups.
    Nsg(nsg::NsgArgs),
    /// VPN and ExpressRoute gateways.
    VnetGateway(vnet_gateway::VnetGatewayArgs),
    /// The far ends of VPN connections.
    LocalGateway(local_gateway::LocalGatewayArgs),
    /// Circuits of ExpressRoute and their peerings.
    ExpressRoute(express_route::ExpressRouteArgs),
    /// Connections of gateways.
    VpnConnection(vpn_connection::VpnConnectionArgs),
    /// ARM templates.
    Deployment(deployment::DeploymentArgs),
    /// Who may do what.
    Role(role::RoleArgs),
    /// The activity log and metrics.
    Monitor(monitor::MonitorArgs),
}

/// Carries out a verb of a noun.
pub(crate) async fn run(noun: Noun) -> Result<(), ClientError> {
    match noun {
        Noun::Group(args) => group::run(args).await,
        Noun::Vnet(args) => vnet::run(args).await,
        Noun::Nic(args) => nic::run(args).await,
        Noun::PublicIp(args) => public_ip::run(args).await,
        Noun::RouteTable(args) => route_table::run(args).await,
        Noun::Routeserver(args) => routeserver::run(args).await,
        Noun::Nsg(args) => nsg::run(args).await,
        Noun::VnetGateway(args) => vnet_gateway::run(args).await,
        Noun::LocalGateway(args) => local_gateway::run(args).await,
        Noun::ExpressRoute(args) => express_route::run(args).await,
        Noun::VpnConnection(args) => vpn_connection::run(args).await,
        Noun::Deployment(args) => deployment::run(args).await,
        Noun::Role(args) => role::run(args).await,
        Noun::Monitor(args) => monitor::run(args).await,
    }
}

/// Exit code and words for a failed request.
pub(crate) fn finish(done: Result<(), ClientError>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ERROR: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// `-g`, where a name alone does not say it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Group {
    /// Name of the resource group; not needed when ids are given.
    #[arg(short = 'g', long = "resource-group", value_name = "NAME")]
    resource_group: Option<String>,
}

/// `-l`, by default the group's.
#[derive(Clone, Debug, Args)]
pub(crate) struct Location {
    /// Location; by default the resource group's.
    #[arg(short, long)]
    location: Option<String>,
}

/// `--tags a=b …`
#[derive(Clone, Debug, Args)]
pub(crate) struct Tags {
    /// Tags: KEY=VALUE …
    #[arg(long, num_args = 0.., value_name = "KEY=VALUE")]
    tags: Option<Vec<String>>,
}

/// Accepted as `az` has it; operations here are finished within seconds.
#[derive(Clone, Debug, Args)]
pub(crate) struct NoWait {
    /// Do not wait for the end of the operation.
    #[arg(long)]
    no_wait: bool,
}

/// `-y`
#[derive(Clone, Debug, Args)]
pub(crate) struct Yes {
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// What a `wait` waits for.
#[derive(Clone, Debug, Args)]
pub(crate) struct WaitFor {
    /// Until it is there and ready.
    #[arg(long, group = "condition")]
    created: bool,
    /// Until the last change is in force.
    #[arg(long, group = "condition")]
    updated: bool,
    /// Until it is there.
    #[arg(long, group = "condition")]
    exists: bool,
    /// Until it is gone.
    #[arg(long, group = "condition")]
    deleted: bool,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 1, value_name = "SECONDS")]
    interval: u64,
    /// Seconds until it is given up.
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    timeout: u64,
}

/// A verb's surroundings: the server, and how to print.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) target: Target,
}

impl Session {
    pub(crate) fn new(target: Target) -> Result<Session, ClientError> {
        Ok(Session {
            client: Client::new(&target)?,
            target,
        })
    }

    /// The id of a top-level resource; `name` may be an id already.
    pub(crate) fn id(&self, group: &Group, kind: &str, name: &str) -> Result<String, ClientError> {
        if name.starts_with('/') {
            return Ok(name.trim_end_matches('/').to_owned());
        }
        Ok(format!("{}/{kind}/{}", self.list_path(group)?, checked(name)?))
    }

    /// The id of a child; `name` may be an id already, and so may `parent`.
    pub(crate) fn child(&self, parent: &str, kind: &str, name: &str) -> Result<String, ClientError> {
        if name.starts_with('/') {
            return Ok(name.trim_end_matches('/').to_owned());
        }
        Ok(format!("{parent}/{kind}/{}", checked(name)?))
    }

    /// Where a group's network resources are.
    fn list_path(&self, group: &Group) -> Result<String, ClientError> {
        let Some(name) = &group.resource_group else {
            return Err(ClientError::Usage(
                "-g/--resource-group is needed where a name is no id".to_owned(),
            ));
        };
        Ok(format!("{}/providers/Microsoft.Network", self.group_id(name)?))
    }

    /// A group's id.
    pub(crate) fn group_id(&self, name: &str) -> Result<String, ClientError> {
        let subscription = &self.target.subscription;
        Ok(format!(
            "/subscriptions/{subscription}/resourceGroups/{}",
            checked(name)?
        ))
    }

    /// `-l`, or the group's location.
    pub(crate) async fn location(&self, location: &Location, id: &str) -> Result<String, ClientError> {
        if let Some(location) = &location.location {
            return Ok(location.clone());
        }
        let group: Vec<&str> = id.split('/').take(5).collect();
        let group = self.client.get(&group.join("/")).await?;
        Ok(group["location"].as_str().unwrap_or_default().to_owned())
    }

    /// Puts and prints.
    pub(crate) async fn create(&self, columns: &[Column], id: &str, body: &Value) -> Result<(), ClientError> {
        self.print(columns, &self.client.put(id, body).await?)
    }

    /// Prints one.
    pub(crate) async fn show(&self, columns: &[Column], id: &str) -> Result<(), ClientError> {
        self.print(columns, &self.client.get(id).await?)
    }

    /// Prints those of a group, or of the whole subscription.
    pub(crate) async fn list(&self, columns: &[Column], group: &Group, kind: &str) -> Result<(), ClientError> {
        let path = match group.resource_group {
            Some(_) => self.list_path(group)?,
            None => format!(
                "/subscriptions/{}/providers/Microsoft.Network",
                self.target.subscription
            ),
        };
        self.show_all(columns, &format!("{path}/{kind}")).await
    }

    /// Prints a list.
    pub(crate) async fn show_all(&self, columns: &[Column], path: &str) -> Result<(), ClientError> {
        self.print(columns, &Value::Array(self.list_all(path).await?))
    }

    /// All pages of a list.
    pub(crate) async fn list_all(&self, path: &str) -> Result<Vec<Value>, ClientError> {
        self.list_first(path, usize::MAX).await
    }

    /// The first of a list, and no more pages than they take.
    pub(crate) async fn list_first(&self, path: &str, most: usize) -> Result<Vec<Value>, ClientError> {
        let mut found = Vec::new();
        let mut page = self.client.get(path).await?;
        loop {
            if let Some(items) = page["value"].as_array_mut() {
                found.append(items);
            }
            if found.len() >= most {
                found.truncate(most);
                return Ok(found);
            }
            let next = page["nextLink"]
                .as_str()
                .and_then(|link| link.find("/subscriptions/").map(|at| link[at..].to_owned()));
            let Some(next) = next else { return Ok(found) };
            // The client adds the api-version itself.
            let (path, query) = next.split_once('?').unwrap_or((&next, ""));
            let kept: Vec<&str> = query
                .split('&')
                .filter(|pair| !pair.starts_with("api-version="))
                .collect();
            page = self.client.get(&format!("{path}?{}", kept.join("&"))).await?;
        }
    }

    /// As `az`: get, change, put the whole of it back.
    pub(crate) async fn update(
        &self,
        columns: &[Column],
        id: &str,
        change: impl FnOnce(&mut Map<String, Value>),
        tags: &Tags,
    ) -> Result<(), ClientError> {
        let body = self.changed(id, change, tags).await?;
        self.create(columns, id, &body).await
    }

    /// What is there, changed: to be put back.
    pub(crate) async fn changed(
        &self,
        id: &str,
        change: impl FnOnce(&mut Map<String, Value>),
        tags: &Tags,
    ) -> Result<Value, ClientError> {
        let mut body = self.client.get(id).await?;
        if !body["properties"].is_object() {
            body["properties"] = json!({});
        }
        if let Some(properties) = body["properties"].as_object_mut() {
            change(properties);
        }
        if let Some(tags) = tags.object()? {
            body["tags"] = tags;
        }
        Ok(body)
    }

    /// Deletes; nothing is printed.
    pub(crate) async fn delete(&self, id: &str) -> Result<(), ClientError> {
        self.client.delete(id).await.map(|_| ())
    }

    /// Waits for a state.
    pub(crate) async fn wait(&self, id: &str, wait: &WaitFor) -> Result<(), ClientError> {
        if !(wait.created || wait.updated || wait.exists || wait.deleted) {
            return Err(ClientError::Usage(
                "say what to wait for: --created, --updated, --exists or --deleted".to_owned(),
            ));
        }
        let started = Instant::now();
        loop {
            let reached = match self.client.get(id).await {
                Ok(resource) => {
                    let state = resource["properties"]["provisioningState"].as_str();
                    wait.exists || (!wait.deleted && matches!(state, None | Some("Succeeded")))
                }
                Err(ClientError::Refused { status: 404, .. }) => wait.deleted,
                Err(error) => return Err(error),
            };
            if reached {
                return Ok(());
            }
            if started.elapsed() >= Duration::from_secs(wait.timeout) {
                return Err(ClientError::TooLong);
            }
            tokio::time::sleep(Duration::from_secs(wait.interval.max(1))).await;
        }
    }

    /// Prints in the way asked for.
    pub(crate) fn print(&self, columns: &[Column], result: &Value) -> Result<(), ClientError> {
        printed(output::print(self.target.output, columns, result))
    }
}

/// What came of printing.
pub(crate) fn printed(result: io::Result<()>) -> Result<(), ClientError> {
    result.map_err(|error| ClientError::Usage(format!("stdout cannot be written: {error}")))
}

impl Tags {
    /// As an object; `None` when not given, empty when given without values.
    pub(crate) fn object(&self) -> Result<Option<Value>, ClientError> {
        let Some(tags) = &self.tags else {
            return Ok(None);
        };
        let pairs = tags.iter().filter(|tag| !tag.is_empty()).map(|tag| {
            let (key, value) = tag.split_once('=').unwrap_or((tag, ""));
            (key.to_owned(), json!(value))
        });
        Ok(Some(Value::Object(pairs.collect())))
    }

    /// Into a body that is being made.
    pub(crate) fn add_to(&self, body: &mut Value) -> Result<(), ClientError> {
        if let Some(tags) = self.object()? {
            body["tags"] = tags;
        }
        Ok(())
    }
}

impl Yes {
    /// Asks a person; whoever isn't one must say --yes, as with `az`.
    pub(crate) fn confirm(&self, what: &str) -> Result<(), ClientError> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(ClientError::Usage(format!(
                "{what} needs --yes when nobody can be asked"
            )));
        }
        eprint!("Are you sure you want to {what}? (y/n): ");
        let _ = io::stderr().flush();
        let mut answer = String::new();
        let _ = io::stdin().lock().read_line(&mut answer);
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(ClientError::Usage("nothing was done".to_owned())),
        }
    }
}

/// A name that is safe in a path.
fn checked(name: &str) -> Result<&str, ClientError> {
    let odd = |c: char| !(c.is_alphanumeric() || "-._()".contains(c));
    if name.is_empty() || name.contains(odd) || name == "." || name == ".." {
        return Err(ClientError::Usage(format!(
            "{name:?} is neither a resource name nor an id"
        )));
    }
    Ok(name)
}

/// `{"id": …}`
pub(crate) fn reference(id: &str) -> Value {
    json!({ "id": id })
}

/// `true`/`false` as `az` takes them.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "0" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}
