//! `virtualHubs/routeMaps`: rules for the routes of connections, which name the map as theirs for one direction (az §3).

use bgp::wire::Community;
use bgp::{Asn, IpNet};
use routeserver::route_map::{Action, Comparison, Criterion, NextStep, RESERVED_COMMUNITIES, RouteMap, Rule};
use serde_json::{Map, Value, json};

use super::{Draft, ResourceType, extended_maps, routing_configuration};
use crate::address::parse_prefix;
use crate::error::ArmError;
use crate::index::Relation;
use crate::read::Reader;
use crate::request::Mint;
use crate::resource::Resource;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/virtualHubs/routeMaps";

/// More rules than anybody reads; each route goes through all of them.
const MAX_RULES: usize = 200;
/// Values in one list of a rule.
const MAX_VALUES: usize = 1_000;
/// Criteria, actions and their values in all rules together: each route may be compared with all, on both instances.
const MAX_IN_ALL: usize = 10_000;
/// Numbers that an action puts into an AS path: more than any path on the Internet has.
const MAX_PATH: usize = 255;

pub(super) struct RouteMaps;

impl ResourceType for RouteMaps {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &["associatedInboundConnections", "associatedOutboundConnections"]
    }

    fn long_running(&self) -> bool {
        true
    }

    fn read(&self, world: &World<'_>, draft: &mut Draft, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        let hub = draft.id.parent().map(|id| id.key()).unwrap_or_default();
        let own = world.settings.asn_of(&hub);
        let map = read_map(&draft.reader())?;
        let settings = world.settings.by_key.get(&draft.id.key());
        check_size(&extended(map.clone(), settings))?;
        for (position, rule) in map.rules.iter().enumerate() {
            let path = format!("properties.rules[{position}]");
            if map.rules[..position].iter().any(|other| other.name == rule.name) {
                return Err(invalid(
                    &path,
                    format!("another rule is called '{}' too; give this one another name", rule.name),
                ));
            }
            for action in &rule.actions {
                check_action(action, own).map_err(|why| invalid(&path, why))?;
            }
        }
        draft.properties.entry("rules").or_insert_with(|| json!([]));
        Ok(())
    }

    fn show(&self, world: &World<'_>, resource: &Resource, properties: &mut Map<String, Value>) {
        for (direction, name) in [
            (routing_configuration::INBOUND, "associatedInboundConnections"),
            (routing_configuration::OUTBOUND, "associatedOutboundConnections"),
        ] {
            let connections = connections(world, &resource.key(), direction);
            let readable = connections
                .iter()
                .filter(|connection| world.check_readable(&connection.id).is_ok());
            let ids: Vec<&str> = readable.map(|connection| connection.id.as_str()).collect();
            properties.insert(name.to_owned(), json!(ids));
        }
    }

    fn removed(&self, world: &mut World<'_>, resource: &Resource, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        match world.first_holder(Relation::ConnectionOfRouteMap, &resource.key()) {
            Some(user) => Err(world.in_use("InUseRouteMapCannotBeDeleted", "Route map", &resource.id, user)),
            None => Ok(()),
        }
    }
}

/// The connections whose map for a direction this is: the route server's, and those of gateways.
fn connections<'w>(world: &'w World<'_>, map: &str, direction: &str) -> Vec<&'w Resource> {
    let holders = world.holders(Relation::ConnectionOfRouteMap, map);
    let found = holders.filter_map(|holder| world.get(&holder.id.to_ascii_lowercase()));
    found
        .filter(|connection| routing_configuration::route_map_of(connection, direction).as_deref() == Some(map))
        .collect()
}

/// The rules of a stored map, with what its settings add to them. One that an earlier version took and this one would not has none.
fn rules_of(resource: &Resource, settings: Option<&Value>) -> Option<RouteMap> {
    read_stored(resource, settings).ok()
}

/// What a stored map does: nothing passes one that has no rules here, since it may be there to keep something back.
pub(crate) fn followed(resource: &Resource, settings: Option<&Value>) -> RouteMap {
    rules_of(resource, settings).unwrap_or_else(|| RouteMap {
        rules: vec![Rule {
            name: "not followed".to_owned(),
            criteria: Vec::new(),
            actions: vec![Action::Drop],
            next_step: NextStep::Terminate,
        }],
    })
}

/// Why a stored map has no rules here.
pub(crate) fn why_not_followed(resource: &Resource, settings: Option<&Value>) -> Option<String> {
    read_stored(resource, settings).err().map(|error| error.message)
}

fn read_stored(resource: &Resource, settings: Option<&Value>) -> Result<RouteMap, ArmError> {
    let none = Map::new();
    let properties = resource.body.get("properties").and_then(Value::as_object);
    let map = read_map(&Reader::new(properties.unwrap_or(&none), "properties"))?;
    let map = extended(map, settings);
    check_size(&map)?;
    let actions = map.rules.iter().flat_map(|rule| &rule.actions);
    for action in actions {
        check_path(action).map_err(|why| invalid("properties.rules", why))?;
    }
    Ok(map)
}

fn extended(mut map: RouteMap, settings: Option<&Value>) -> RouteMap {
    // They were checked when they were written.
    if let Some(Ok(extras)) = settings.map(extended_maps::read) {
        extended_maps::extend(&mut map, extras);
    }
    map
}

/// Checks settings of a map before they are stored: all mistakes at once. Each rule that they name must be there.
pub(crate) fn check_settings(resource: &Resource, settings: &Value) -> Result<(), Vec<ArmError>> {
    let extras = extended_maps::read(settings)?;
    let map = rules_of(resource, None).unwrap_or_default();
    let unknown = extras
        .keys()
        .filter(|name| map.rules.iter().all(|rule| rule.name != **name));
    let unknown: Vec<ArmError> = unknown
        .map(|name| {
            let sentence = format!("The route map has no rule '{name}'. Give the rule first, then its settings.");
            ArmError::bad("InvalidSetting", sentence).at(format!("rules.{name}"))
        })
        .collect();
    match unknown.is_empty() {
        true => check_size(&extended(map, Some(settings))).map_err(|error| vec![error]),
        false => Err(unknown),
    }
}

/// The rule (its name) of a stored map that puts this AS number into paths.
pub(crate) fn uses_asn(resource: &Resource, asn: Asn) -> Option<String> {
    let map = rules_of(resource, None)?;
    let uses = |action: &Action| matches!(action, Action::AddAsPath(path) | Action::ReplaceAsPath(path) if path.contains(&asn));
    let rule = map.rules.into_iter().find(|rule| rule.actions.iter().any(uses))?;
    Some(rule.name)
}

fn check_size(map: &RouteMap) -> Result<(), ArmError> {
    let size = size(map);
    match size > MAX_IN_ALL {
        true => Err(invalid(
            "properties.rules",
            format!(
                "the rules have {size} criteria, actions and values; {MAX_IN_ALL} are the most that a map may have"
            ),
        )),
        false => Ok(()),
    }
}

fn read_map(reader: &Reader<'_>) -> Result<RouteMap, ArmError> {
    let rules: Result<_, _> = readers(reader, "rules", MAX_RULES)?.iter().map(rule).collect();
    Ok(RouteMap { rules: rules? })
}

/// What a route may meet on its way through.
fn size(map: &RouteMap) -> usize {
    let of_criterion = |criterion: &Criterion| match criterion {
        Criterion::Prefix { prefixes, .. } => prefixes.len(),
        Criterion::Community { communities, .. } => communities.len(),
        Criterion::AsPath { path, .. } => path.len(),
        Criterion::PrefixRange(ranges) => ranges.len(),
        Criterion::LargeCommunity { communities, .. } => communities.len(),
        Criterion::Med(..) | Criterion::LocalPreference(..) => 0,
    };
    let of_action = |action: &Action| match action {
        Action::Drop
        | Action::ReplacePrefix(_)
        | Action::Aggregate(_)
        | Action::SetImportPreference(_)
        | Action::SetMed(_) => 0,
        Action::AddLargeCommunities(communities)
        | Action::ReplaceLargeCommunities(communities)
        | Action::RemoveLargeCommunities(communities) => communities.len(),
        Action::AddAsPath(path) | Action::ReplaceAsPath(path) => path.len(),
        Action::AddCommunities(communities)
        | Action::ReplaceCommunities(communities)
        | Action::RemoveCommunities(communities) => communities.len(),
    };
    let criteria = map.rules.iter().flat_map(|rule| &rule.criteria);
    let actions = map.rules.iter().flat_map(|rule| &rule.actions);
    criteria.map(|each| 1 + of_criterion(each)).sum::<usize>() + actions.map(|each| 1 + of_action(each)).sum::<usize>()
}

fn rule(reader: &Reader<'_>) -> Result<Rule, ArmError> {
    let mut criteria = Vec::new();
    for criterion in readers(reader, "matchCriteria", MAX_VALUES)? {
        criteria.extend(read_criterion(&criterion)?);
    }
    let mut actions = Vec::new();
    for action in readers(reader, "actions", MAX_VALUES)? {
        actions.extend(read_action(&action)?);
    }
    let next_step = match reader.one_of("nextStepIfMatched", &["Continue", "Terminate"])? {
        Some("Terminate") => NextStep::Terminate,
        _ => NextStep::Continue,
    };
    Ok(Rule {
        name: reader
            .required_text("name", "a name that no other rule has")?
            .to_owned(),
        criteria,
        actions,
        next_step,
    })
}

/// One criterion for each of its lists that has values: all must match.
fn read_criterion(reader: &Reader<'_>) -> Result<Vec<Criterion>, ArmError> {
    const CONDITIONS: [&str; 4] = ["Equals", "Contains", "NotEquals", "NotContains"];
    let comparison = match reader.one_of("matchCondition", &CONDITIONS)? {
        Some("Equals") => Comparison::Equals,
        Some("Contains") => Comparison::Contains,
        Some("NotEquals") => Comparison::NotEquals,
        Some(_) => Comparison::NotContains,
        None => return Err(reader.missing("matchCondition", &format!("one of {}", CONDITIONS.join(", ")))),
    };
    let (prefixes, communities, path) = values(reader)?;
    let mut criteria = Vec::new();
    if !prefixes.is_empty() {
        criteria.push(Criterion::Prefix { comparison, prefixes });
    }
    if !communities.is_empty() {
        criteria.push(Criterion::Community {
            comparison,
            communities,
        });
    }
    if !path.is_empty() {
        criteria.push(Criterion::AsPath { comparison, path });
    }
    match criteria.is_empty() {
        true => Err(reader.missing(
            "routePrefix",
            "routePrefix, community or asPath, or leave the criterion out to match every route",
        )),
        false => Ok(criteria),
    }
}

fn read_action(reader: &Reader<'_>) -> Result<Vec<Action>, ArmError> {
    const TYPES: [&str; 4] = ["Add", "Replace", "Remove", "Drop"];
    let Some(kind) = reader.one_of("type", &TYPES)? else {
        return Err(reader.missing("type", &format!("one of {}", TYPES.join(", "))));
    };
    if kind == "Drop" {
        return Ok(vec![Action::Drop]);
    }
    let mut actions = Vec::new();
    for parameter in readers(reader, "parameters", MAX_VALUES)? {
        actions.extend(read_parameter(kind, &parameter)?);
    }
    match actions.is_empty() {
        true => Err(reader.missing("parameters", "what to add, replace or remove")),
        false => Ok(actions),
    }
}

/// An empty list is the same as none, as SDKs send all three, except where a parameter of Replace has nothing else: it clears the AS path,
/// or the communities if there is no `asPath`.
fn read_parameter(kind: &str, reader: &Reader<'_>) -> Result<Vec<Action>, ArmError> {
    let (prefixes, communities, path) = values(reader)?;
    let clears = kind == "Replace" && prefixes.is_empty() && communities.is_empty() && path.is_empty();
    let clears_path = clears && reader.get("asPath").is_some();
    let clears_communities = clears && !clears_path && reader.get("community").is_some();
    let mut actions = Vec::new();
    match (kind, &prefixes[..]) {
        (_, []) => {}
        ("Replace", [prefix]) => actions.push(Action::ReplacePrefix(*prefix)),
        ("Replace", _) => return Err(reader.wrong("routePrefix", "a single prefix to put in place of the route's")),
        _ => return Err(reader.wrong("routePrefix", "left out: a prefix can only be replaced")),
    }
    match kind {
        "Replace" if !path.is_empty() || clears_path => actions.push(Action::ReplaceAsPath(path)),
        "Add" if !path.is_empty() => actions.push(Action::AddAsPath(path)),
        "Remove" if !path.is_empty() => {
            return Err(reader.wrong("asPath", "left out: an AS path can be replaced, not removed from"));
        }
        _ => {}
    }
    if !communities.is_empty() || clears_communities {
        actions.push(match kind {
            "Add" => Action::AddCommunities(communities),
            "Replace" => Action::ReplaceCommunities(communities),
            _ => Action::RemoveCommunities(communities),
        });
    }
    match actions.is_empty() {
        true => Err(reader.missing(
            "asPath",
            "asPath, community or routePrefix with values, or leave the parameter out",
        )),
        false => Ok(actions),
    }
}

type Values = (Vec<IpNet>, Vec<Community>, Vec<Asn>);

/// `routePrefix`, `community` and `asPath`.
fn values(reader: &Reader<'_>) -> Result<Values, ArmError> {
    let prefixes = parsed(reader, "routePrefix", |text| {
        parse_prefix(text, &reader.path_of("routePrefix"))
    })?;
    let communities = parsed(reader, "community", |text| {
        community(text).ok_or_else(|| reader.wrong("community", "communities such as \"65001:100\""))
    })?;
    let path = parsed(reader, "asPath", |text| {
        let number = text.parse().map(Asn);
        number.map_err(|_| reader.wrong("asPath", "AS numbers as texts, for example \"65001\""))
    })?;
    Ok((prefixes, communities, path))
}

fn parsed<T>(reader: &Reader<'_>, name: &str, parse: impl Fn(&str) -> Result<T, ArmError>) -> Result<Vec<T>, ArmError> {
    let texts = reader.texts(name)?.unwrap_or_default();
    if texts.len() > MAX_VALUES {
        return Err(reader.wrong(name, &format!("a list of at most {MAX_VALUES}")));
    }
    texts.into_iter().map(parse).collect()
}

fn community(text: &str) -> Option<Community> {
    let (high, low) = text.split_once(':')?;
    Some(Community::new(high.parse().ok()?, low.parse().ok()?))
}

/// The objects of a list.
fn readers<'v>(reader: &Reader<'v>, name: &str, most: usize) -> Result<Vec<Reader<'v>>, ArmError> {
    let items = reader.list(name)?.unwrap_or_default();
    if items.len() > most {
        return Err(reader.wrong(name, &format!("a list of at most {most}")));
    }
    let readers = items.iter().enumerate();
    readers
        .map(|(position, item)| Reader::of(item, format!("{}[{position}]", reader.path_of(name))))
        .collect()
}

fn check_path(action: &Action) -> Result<(), String> {
    match action {
        Action::AddAsPath(path) | Action::ReplaceAsPath(path) if path.len() > MAX_PATH => Err(format!(
            "it puts {} numbers into the AS path; give at most {MAX_PATH}",
            path.len()
        )),
        _ => Ok(()),
    }
}

/// Numbers and communities of Azure's own are not for maps (az §3); ours has any other number, also private ones and those of 32 bits.
fn check_action(action: &Action, own: Asn) -> Result<(), String> {
    check_path(action)?;
    match action {
        Action::AddAsPath(path) | Action::ReplaceAsPath(path) => {
            let barred = |asn: &&Asn| {
                **asn == own
                    || matches!(
                        asn.0,
                        0 | 8074 | 8075 | 12076 | 23456 | 65515 | 65517..=65520 | u32::MAX
                    )
            };
            match path.iter().find(barred) {
                Some(asn) => Err(format!(
                    "the AS number {} is Azure's own or reserved; put another one into the path",
                    asn.0
                )),
                None => Ok(()),
            }
        }
        Action::AddCommunities(communities)
        | Action::ReplaceCommunities(communities)
        | Action::RemoveCommunities(communities) => {
            match communities.iter().find(|each| RESERVED_COMMUNITIES.contains(each)) {
                Some(each) => Err(format!("the community {each} is Azure's own; leave it out")),
                None => Ok(()),
            }
        }
        // The others are of settings, which have bounds of their own.
        _ => Ok(()),
    }
}

fn invalid(path: &str, why: String) -> ArmError {
    ArmError::bad("InvalidRouteMap", format!("{path} can't be used: {why}.")).at(path)
}
