//! `routewright routeserver route-map …`, with the verbs and flags of `az network vhub route-map`; a dry run and settings are beyond Azure.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::common::{Child, CommonOfChild, Kind, Parent};
use super::routeserver::{Server, put};
use super::settings::{self, SettingsVerb};
use super::{NoWait, Session, Yes};
use crate::client::ClientError;
use crate::dry_run::DryRun;
use crate::output::Column;

pub(super) const KIND: Kind = Kind {
    path: "routeMaps",
    called: "route map",
    columns: COLUMNS,
    asks: true,
};
const COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("ResourceGroup", "/resourceGroup"),
    ("Inbound", "/associatedInboundConnections"),
    ("Outbound", "/associatedOutboundConnections"),
    ("ProvisioningState", "/provisioningState"),
];
const RULE_COLUMNS: &[Column] = &[
    ("Name", "/name"),
    ("MatchCriteria", "/matchCriteria"),
    ("Actions", "/actions"),
    ("NextStepIfMatched", "/nextStepIfMatched"),
];

type RouteMap = Child<Server>;

#[derive(Debug, Subcommand)]
pub(super) enum RouteMapVerb {
    /// Create a route map.
    Create {
        #[command(flatten)]
        map: RouteMap,
        /// Its rules in order, as JSON or YAML; @FILE reads a file.
        #[arg(long, value_parser = value, value_name = "LIST")]
        rules: Option<Value>,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        _no_wait: NoWait,
    },
    /// Change a route map.
    Update {
        #[command(flatten)]
        map: RouteMap,
        /// Its rules in order, as JSON or YAML; @FILE reads a file.
        #[arg(long, value_parser = value, value_name = "LIST")]
        rules: Value,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        _no_wait: NoWait,
    },
    /// Single rules.
    #[command(subcommand)]
    Rule(RuleVerb),
    /// What goes beyond Azure: criteria and actions of rules, by the rule's name.
    Settings {
        #[command(flatten)]
        map: RouteMap,
        #[command(subcommand)]
        verb: SettingsVerb,
    },
    #[command(flatten)]
    Common(CommonOfChild<Server>),
}

/// Which map a rule is of.
#[derive(Debug, clap::Args)]
pub(super) struct OfMap {
    #[command(flatten)]
    server: Server,
    /// Name or id of the route map.
    #[arg(long)]
    route_map_name: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum RuleVerb {
    /// Add a rule.
    Add {
        #[command(flatten)]
        map: OfMap,
        /// A name that no other rule of the map has.
        #[arg(short, long)]
        name: String,
        /// Its place, from 0; by default the last.
        #[arg(long)]
        rule_index: Option<usize>,
        /// What a route must have, as JSON or YAML.
        #[arg(long, value_parser = value, value_name = "LIST")]
        match_criteria: Option<Value>,
        /// What is done with it, as JSON or YAML.
        #[arg(long, value_parser = value, value_name = "LIST")]
        actions: Option<Value>,
        /// Whether the rules that follow see the route too.
        #[arg(long, value_parser = ["Continue", "Terminate"], ignore_case = true)]
        next_step: Option<String>,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        _no_wait: NoWait,
    },
    /// List the rules.
    List {
        #[command(flatten)]
        map: OfMap,
    },
    /// Show a rule.
    Show {
        #[command(flatten)]
        map: OfMap,
        /// The rule.
        #[arg(short, long)]
        name: String,
    },
    /// Delete a rule.
    Delete {
        #[command(flatten)]
        map: OfMap,
        /// The rule.
        #[arg(short, long)]
        name: String,
        #[command(flatten)]
        yes: Yes,
        #[command(flatten)]
        dry_run: DryRun,
    },
}

pub(super) async fn run(session: &Session, verb: RouteMapVerb) -> Result<(), ClientError> {
    match verb {
        RouteMapVerb::Create {
            map, rules, dry_run, ..
        } => {
            let id = map.id(session, &KIND)?;
            let name = id.rsplit('/').next().unwrap_or_default();
            let body = json!({ "name": name, "properties": { "rules": rules.unwrap_or_else(|| json!([])) } });
            write(session, &id, &body, &dry_run).await
        }
        RouteMapVerb::Update {
            map, rules, dry_run, ..
        } => {
            let id = map.id(session, &KIND)?;
            let mut body = session.client.get(&id).await?;
            body["properties"]["rules"] = rules;
            write(session, &id, &body, &dry_run).await
        }
        RouteMapVerb::Rule(verb) => rule(session, verb).await,
        RouteMapVerb::Settings { map, verb } => settings::run(session, &map.id(session, &KIND)?, verb).await,
        RouteMapVerb::Common(verb) => verb.run(session, &KIND).await,
    }
}

async fn rule(session: &Session, verb: RuleVerb) -> Result<(), ClientError> {
    match verb {
        RuleVerb::Add {
            map,
            name,
            rule_index,
            match_criteria,
            actions,
            next_step,
            dry_run,
            ..
        } => {
            let (id, mut body, mut rules) = map.read(session).await?;
            let mut rule = Map::from_iter([("name".to_owned(), json!(name))]);
            rule.extend(match_criteria.map(|criteria| ("matchCriteria".to_owned(), criteria)));
            rule.extend(actions.map(|actions| ("actions".to_owned(), actions)));
            rule.extend(next_step.map(|step| ("nextStepIfMatched".to_owned(), json!(step))));
            let place = rule_index.map_or(rules.len(), |place| place.min(rules.len()));
            rules.insert(place, Value::Object(rule));
            body["properties"]["rules"] = Value::Array(rules);
            write(session, &id, &body, &dry_run).await
        }
        RuleVerb::List { map } => {
            let (_, _, rules) = map.read(session).await?;
            session.print(RULE_COLUMNS, &Value::Array(rules))
        }
        RuleVerb::Show { map, name } => {
            let (id, _, rules) = map.read(session).await?;
            session.print(RULE_COLUMNS, &rules[place_of(&rules, &name, &id)?])
        }
        RuleVerb::Delete {
            map,
            name,
            yes,
            dry_run,
        } => {
            let (id, mut body, mut rules) = map.read(session).await?;
            rules.remove(place_of(&rules, &name, &id)?);
            if !dry_run.dry_run {
                yes.confirm(&format!("delete the rule {name}"))?;
            }
            body["properties"]["rules"] = Value::Array(rules);
            write(session, &id, &body, &dry_run).await
        }
    }
}

impl OfMap {
    /// The map's id, the whole of it, and its rules.
    async fn read(&self, session: &Session) -> Result<(String, Value, Vec<Value>), ClientError> {
        let id = match self.route_map_name.starts_with('/') {
            true => self.route_map_name.clone(),
            false => session.child(&self.server.id(session)?, KIND.path, &self.route_map_name)?,
        };
        let body = session.client.get(&id).await?;
        let rules = body["properties"]["rules"].as_array().cloned().unwrap_or_default();
        Ok((id, body, rules))
    }
}

fn place_of(rules: &[Value], name: &str, map: &str) -> Result<usize, ClientError> {
    let found = rules.iter().position(|rule| rule["name"] == name);
    found.ok_or_else(|| ClientError::Usage(format!("there is no rule '{name}' in {map}")))
}

async fn write(session: &Session, id: &str, body: &Value, dry_run: &DryRun) -> Result<(), ClientError> {
    put(session, COLUMNS, id, body, dry_run).await
}

/// JSON or YAML, or a file of it.
fn value(text: &str) -> Result<Value, String> {
    let read;
    let text = match text.strip_prefix('@') {
        Some(path) => {
            read = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            &read
        }
        None => text,
    };
    let value: Value = serde_saphyr::from_str(text).map_err(|error| format!("neither JSON nor YAML: {error}"))?;
    match value.is_array() {
        true => Ok(value),
        false => Err("expected a list: [{…}]".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_json_or_yaml_and_always_a_list() {
        let expected = json!([{ "name": "r", "actions": [{ "type": "Drop" }] }]);
        assert_eq!(value(&expected.to_string()).unwrap(), expected);
        assert_eq!(value("[{name: r, actions: [{type: Drop}]}]").unwrap(), expected);
        assert!(value("{name: r}").unwrap_err().contains("list"));
        assert!(value("[").is_err());
        assert!(value("@/nonexistent/rules.yaml").unwrap_err().contains("rules.yaml"));
    }
}
