//! Route maps: who has which, and their rules in the words of the API.

use serde_json::{Value, json};

use super::Checker;
use crate::topology::file::{ActionFile, CriterionFile, RouteMapFile, RuleFile, Text, TopologyFile};
use crate::topology::{RouteMap, Topology};

/// A rule that says nothing of it ends there.
const NEXT_STEP: &str = "Terminate";

impl Checker {
    pub(super) fn route_maps(&mut self, file: &TopologyFile, topology: &Topology) -> Vec<RouteMap> {
        self.unique("route map", file.route_maps.iter().map(|map| &map.name));
        let maps = file.route_maps.iter();
        maps.map(|map| self.route_map(map, topology)).collect()
    }

    fn route_map(&mut self, file: &RouteMapFile, topology: &Topology) -> RouteMap {
        let route_server = &file.route_server;
        if topology.route_server(&route_server.value).is_none() {
            self.mistake(
                route_server,
                format!("there is no route server named {}", route_server.value),
            );
        }
        RouteMap {
            name: file.name.value.clone(),
            route_server: route_server.value.clone(),
            rules: file.rules.iter().map(rule).collect(),
        }
    }

    /// The name of a route map that there is.
    pub(super) fn known_map(&mut self, name: &Option<Text>, topology: &Topology) -> Option<String> {
        let name = name.as_ref()?;
        if !topology.route_maps.iter().any(|map| map.name == name.value) {
            self.mistake(name, format!("there is no route map named {}", name.value));
        }
        Some(name.value.clone())
    }
}

fn rule(file: &RuleFile) -> Value {
    json!({
        "name": file.name,
        "matchCriteria": file.match_criteria.iter().map(criterion).collect::<Vec<_>>(),
        "actions": file.actions.iter().map(action).collect::<Vec<_>>(),
        "nextStepIfMatched": file.next_step_if_matched.as_deref().unwrap_or(NEXT_STEP),
    })
}

fn criterion(file: &CriterionFile) -> Value {
    let mut criterion = values(&file.route_prefix, &file.community, &file.as_path);
    criterion["matchCondition"] = json!(file.match_condition);
    criterion
}

fn action(file: &ActionFile) -> Value {
    let parameters = values(&file.route_prefix, &file.community, &file.as_path);
    let none = parameters.as_object().is_none_or(serde_json::Map::is_empty);
    let parameters = if none { json!([]) } else { json!([parameters]) };
    json!({ "type": file.kind, "parameters": parameters })
}

fn values(route_prefix: &[String], community: &[String], as_path: &[u32]) -> Value {
    let mut values = json!({});
    if !route_prefix.is_empty() {
        values["routePrefix"] = json!(route_prefix);
    }
    if !community.is_empty() {
        values["community"] = json!(community);
    }
    if !as_path.is_empty() {
        values["asPath"] = json!(as_path.iter().map(u32::to_string).collect::<Vec<_>>());
    }
    values
}
