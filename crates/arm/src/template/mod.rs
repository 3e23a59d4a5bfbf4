//! ARM templates: from the document and parameters to resources in the order they are to be made, and outputs.
//!
//! ```text
//! template, parameters ─► Plan::read ─► resources, ordered ─► body(…) of each ─► outputs(…)
//! ```
//! The language is what the route server's quickstart templates and those of its neighbours need: parameters, variables, loops,
//! conditions, nested children, symbolic names, outputs. What is not supported is refused by its name. Nothing here knows a
//! resource type.

mod cidr;
mod expression;
mod functions;
mod json;
mod order;
mod parameters;
mod scope;
mod text;

use serde_json::{Map, Value};

use crate::error::ArmError;
use crate::id::ResourceId;

pub use json::read_loose_json;
use scope::{Here, Scope};
pub(crate) use scope::{Lookup, Place};

/// Azure's own bound on one template.
const MAX_RESOURCES: usize = 800;
/// Resources inside resources.
const MAX_NESTING: usize = 5;

/// Parts of a template that are not supported.
const UNSUPPORTED: [&str; 5] = ["functions", "definitions", "imports", "extensions", "extensionConfigs"];
/// Members of a resource that steer the deployment, and are no part of the resource.
const STEERING: [&str; 10] = [
    "type",
    "name",
    "apiVersion",
    "dependsOn",
    "condition",
    "copy",
    "resources",
    "comments",
    "existing",
    "metadata",
];
/// Members of a resource that are not supported.
const UNSUPPORTED_IN_RESOURCE: [&str; 4] = ["scope", "subscriptionId", "resourceGroup", "import"];

/// A template that has been read: what it makes, in order.
pub(crate) struct Plan {
    scope: Scope,
    resources: Vec<Planned>,
    /// Ids, names and symbols of resources whose condition does not hold.
    left_out: Vec<String>,
    outputs: Map<String, Value>,
    shown_parameters: Map<String, Value>,
}

/// A resource that a template makes, or only refers to (`existing`).
pub(crate) struct Planned {
    pub(crate) id: ResourceId,
    pub(crate) kind: String,
    pub(crate) existing: bool,
    /// As in `nested/name`.
    name: String,
    symbol: Option<String>,
    copies: Vec<(String, i64)>,
    raw: Map<String, Value>,
    depends_on: Vec<String>,
}

impl Plan {
    /// Reads and checks all that can be checked before anything is made.
    pub(crate) fn read(template: &Value, given: &Value, place: Place) -> Result<Plan, ArmError> {
        let Value::Object(template) = template else {
            return Err(invalid("The template must be an object."));
        };
        check_schema(template)?;
        let section = |name: &str| match template.get(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(members)) => Ok(members.clone()),
            Some(_) => Err(invalid(format!("'{name}' of the template must be an object."))),
        };
        let mut scope = Scope::new(place);
        let shown_parameters = parameters::read(&mut scope, &section("parameters")?, given)?;
        scope.set_variables(section("variables")?)?;
        let mut plan = Plan {
            scope,
            resources: Vec::new(),
            left_out: Vec::new(),
            outputs: section("outputs")?,
            shown_parameters,
        };
        match template.get("resources") {
            Some(Value::Array(items)) => {
                for item in items {
                    plan.add(None, item, None, 0)?;
                }
            }
            Some(Value::Object(items)) => {
                for (symbol, item) in items {
                    plan.add(Some(symbol), item, None, 0)?;
                }
            }
            _ => return Err(invalid("The template has no 'resources'.")),
        }
        order::order(plan)
    }

    /// The resources, in an order in which each finds what it depends on.
    pub(crate) fn resources(&self) -> &[Planned] {
        &self.resources
    }

    /// Parameters as a deployment shows them: types and values, secrets without.
    pub(crate) fn shown_parameters(&self) -> &Map<String, Value> {
        &self.shown_parameters
    }

    /// The body of a resource, once what it refers to is there.
    pub(crate) fn body(&self, planned: &Planned, lookup: Lookup<'_>) -> Result<Value, ArmError> {
        let mut raw = planned.raw.clone();
        raw.retain(|name, _| !STEERING.contains(&name.as_str()));
        let here = Here {
            copies: planned.copies.clone(),
            lookup: Some(lookup),
        };
        self.scope.evaluate(&Value::Object(raw), &here)
    }

    /// The outputs, once everything is there.
    pub(crate) fn outputs(&self, lookup: Lookup<'_>) -> Result<Map<String, Value>, ArmError> {
        let here = Here {
            copies: Vec::new(),
            lookup: Some(lookup),
        };
        let mut shown = Map::new();
        for (name, output) in &self.outputs {
            if !self.holds(&output["condition"], &here)? {
                continue;
            }
            let value = match &output["copy"] {
                Value::Null => self.scope.evaluate(&output["value"], &here)?,
                copy => {
                    let one = serde_json::json!({ "copy": [{ "name": name, "count": copy["count"], "input": copy["input"] }] });
                    self.scope.evaluate(&one, &here)?[name.as_str()].clone()
                }
            };
            shown.insert(name.clone(), parameters::shown(&output["type"], value));
        }
        Ok(shown)
    }

    /// The id of what a `reference()` names: an id, or a symbol or name of the template.
    pub(crate) fn id_of(&self, target: &str) -> Option<String> {
        if target.starts_with('/') {
            return Some(target.to_owned());
        }
        let found = self.resources.iter().find(|planned| planned.is(target));
        found.map(|planned| planned.id.as_str().to_owned())
    }

    fn holds(&self, condition: &Value, here: &Here<'_>) -> Result<bool, ArmError> {
        match condition {
            Value::Null => Ok(true),
            condition => match self.scope.evaluate(condition, here)? {
                Value::Bool(holds) => Ok(holds),
                other => Err(invalid(format!(
                    "A condition must come to true or false, not to {}.",
                    kind_of(&other)
                ))),
            },
        }
    }

    /// Adds a resource of the template: once, or as often as its loop says.
    fn add(
        &mut self,
        symbol: Option<&str>,
        raw: &Value,
        parent: Option<&(String, String)>,
        depth: usize,
    ) -> Result<(), ArmError> {
        let Value::Object(raw) = raw else {
            return Err(invalid("A resource of the template is not an object."));
        };
        if depth > MAX_NESTING {
            return Err(invalid(format!("Resources are nested more than {MAX_NESTING} deep.")));
        }
        let Some(copy) = raw.get("copy") else {
            return self.add_one(symbol, raw, parent, Vec::new(), depth);
        };
        let name = copy["name"]
            .as_str()
            .ok_or_else(|| invalid("A copy loop has no name."))?;
        for at in 0..self.scope.count(&copy["count"], &Here::default())? {
            self.add_one(symbol, raw, parent, vec![(name.to_owned(), at)], depth)?;
        }
        Ok(())
    }

    fn add_one(
        &mut self,
        symbol: Option<&str>,
        raw: &Map<String, Value>,
        parent: Option<&(String, String)>,
        copies: Vec<(String, i64)>,
        depth: usize,
    ) -> Result<(), ArmError> {
        let here = Here { copies, lookup: None };
        let (kind, name) = self.kind_and_name(raw, parent, &here)?;
        if let Some(unsupported) = UNSUPPORTED_IN_RESOURCE.iter().find(|name| raw.contains_key(**name)) {
            return Err(invalid(format!(
                "'{unsupported}' of the resource '{name}' is not supported here. Leave it out."
            )));
        }
        let group = self.scope.place.group["id"].as_str().unwrap_or_default();
        let id = id_of(group, &kind, &name)?;
        if !self.holds(raw.get("condition").unwrap_or(&Value::Null), &here)? {
            let symbols = symbol.map(str::to_owned);
            self.left_out
                .extend([id.as_str().to_owned(), name].into_iter().chain(symbols));
            return Ok(());
        }
        let depends_on = match raw.get("dependsOn") {
            None | Some(Value::Null) => Vec::new(),
            Some(list) => match self.scope.evaluate(list, &here)? {
                Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                other => {
                    return Err(invalid(format!(
                        "dependsOn of '{name}' must be a list, not {}.",
                        kind_of(&other)
                    )));
                }
            },
        };
        if self.resources.iter().any(|planned| planned.id.key() == id.key()) {
            return Err(invalid(format!(
                "The resource '{id}' is defined multiple times in the template."
            )));
        }
        if self.resources.len() >= MAX_RESOURCES {
            return Err(invalid(format!(
                "The template has more than {MAX_RESOURCES} resources."
            )));
        }
        self.resources.push(Planned {
            id,
            kind: kind.clone(),
            existing: raw.get("existing") == Some(&Value::Bool(true)),
            name: name.clone(),
            symbol: symbol.map(str::to_owned),
            copies: here.copies,
            raw: raw.clone(),
            depends_on,
        });
        let own = (kind, name);
        for nested in raw.get("resources").and_then(Value::as_array).into_iter().flatten() {
            self.add(None, nested, Some(&own), depth + 1)?;
        }
        Ok(())
    }

    /// A nested resource has its own part of the type and of the name only.
    fn kind_and_name(
        &self,
        raw: &Map<String, Value>,
        parent: Option<&(String, String)>,
        here: &Here<'_>,
    ) -> Result<(String, String), ArmError> {
        let text = |name: &str| match raw.get(name) {
            Some(value) => match self.scope.evaluate(value, here)? {
                Value::String(text) if !text.is_empty() => Ok(text),
                other => Err(invalid(format!(
                    "'{name}' of a resource must be a text, not {}.",
                    kind_of(&other)
                ))),
            },
            None => Err(invalid(format!("A resource of the template has no '{name}'."))),
        };
        let (kind, name) = (text("type")?, text("name")?);
        if kind.eq_ignore_ascii_case("Microsoft.Resources/deployments") {
            return Err(invalid(format!(
                "The resource '{name}' is a nested deployment (Microsoft.Resources/deployments), which is not supported here. Put its \
                 resources into the template itself."
            )));
        }
        Ok(match parent {
            Some((parent_kind, parent_name)) => (format!("{parent_kind}/{kind}"), format!("{parent_name}/{name}")),
            None => (kind, name),
        })
    }
}

impl Planned {
    /// Whether a `dependsOn` or `reference()` means this one.
    fn is(&self, target: &str) -> bool {
        let same = |text: &str| text.eq_ignore_ascii_case(target);
        let typed = || {
            target
                .split_once('/')
                .is_some_and(|_| self.id.key().ends_with(&format!("/{}", target.to_ascii_lowercase())))
        };
        same(self.id.as_str())
            || same(&self.name)
            || self.symbol.as_deref().is_some_and(same)
            || self.copies.iter().any(|(name, _)| same(name))
            || typed()
    }
}

/// `…/providers/A/b/name/c/name` from `A/b/c` and `name/name`.
fn id_of(group: &str, kind: &str, name: &str) -> Result<ResourceId, ArmError> {
    let mut kinds = kind.split('/');
    let mut id = format!("{group}/providers/{}", kinds.next().unwrap_or_default());
    let (kinds, names): (Vec<&str>, Vec<&str>) = (kinds.collect(), name.split('/').collect());
    if kinds.len() != names.len() {
        return Err(invalid(format!(
            "The template resource '{name}' of type '{kind}' has {} name segments; its type wants {}.",
            names.len(),
            kinds.len()
        )));
    }
    for (kind, name) in kinds.iter().zip(&names) {
        id.push_str(&format!("/{kind}/{name}"));
    }
    ResourceId::parse(&id).ok_or_else(|| {
        invalid(format!(
            "The type '{kind}' with the name '{name}' makes no resource id."
        ))
    })
}

fn check_schema(template: &Map<String, Value>) -> Result<(), ArmError> {
    if let Some(name) = UNSUPPORTED.iter().find(|name| {
        let section = template.get(**name);
        section.is_some_and(|section| {
            !section.is_null() && section != &serde_json::json!({}) && section != &serde_json::json!([])
        })
    }) {
        return Err(invalid(format!(
            "'{name}' of the template is not supported here. Write the template without."
        )));
    }
    let schema = template.get("$schema").and_then(Value::as_str).unwrap_or_default();
    let other = [
        "subscriptionDeploymentTemplate",
        "managementGroupDeploymentTemplate",
        "tenantDeploymentTemplate",
    ];
    match other.iter().find(|other| schema.contains(**other)) {
        Some(other) => Err(invalid(format!(
            "A {other} is not supported here: deploy to a resource group."
        ))),
        None => Ok(()),
    }
}

/// What is wrong with a template.
fn invalid(message: impl Into<String>) -> ArmError {
    ArmError::bad("InvalidTemplate", message)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
