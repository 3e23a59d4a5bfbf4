//! Settings of a route map: criteria and actions beyond Azure's, by the name of the rule that they add to. They live beside the map, so
//! that a client's GET-change-PUT of the map cannot erase them; those of a rule that is not there (any more) wait for it.
//!
//! ```json
//! { "rules": { "r": { "match": { "prefixes": [{ "prefix": "10.0.0.0/8", "ge": 16, "le": 24 }] }, "set": { "importPreference": 200 } } } }
//! ```

use std::collections::BTreeMap;

use routeserver::route_map::{Action, Comparison, Criterion, LargeCommunity, PrefixRange, RouteMap};
use serde_json::Value;

use crate::address::parse_prefix;
use crate::error::ArmError;
use crate::read::Reader;

/// Rules that may be extended, and values in one list: as many as a map has.
const MAX_RULES: usize = 200;
const MAX_VALUES: usize = 1_000;

/// What one rule has besides.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    criteria: Vec<Criterion>,
    actions: Vec<Action>,
    keeps_attributes: bool,
}

/// By rule.
pub(crate) type Extras = BTreeMap<String, Extra>;

/// Adds them to the rules of their names.
pub(crate) fn extend(map: &mut RouteMap, extras: Extras) {
    for (name, extra) in extras {
        let Some(rule) = map.rules.iter_mut().find(|rule| rule.name == name) else {
            continue;
        };
        rule.criteria.extend(extra.criteria);
        if extra.keeps_attributes {
            for action in &mut rule.actions {
                if let Action::ReplacePrefix(prefix) = action {
                    *action = Action::Aggregate(*prefix);
                }
            }
        }
        rule.actions.extend(extra.actions);
    }
}

/// Reads the settings of a map; all mistakes at once.
pub(crate) fn read(settings: &Value) -> Result<Extras, Vec<ArmError>> {
    let mut mistakes = Mistakes::default();
    let mut extras = Extras::new();
    if let Some(reader) = mistakes.take(Reader::of(settings, "").map(Some)) {
        mistakes.only(&reader, settings, &["rules"]);
        if mistakes.take(reader.object("rules")).is_some() {
            for (name, value) in settings["rules"].as_object().into_iter().flatten() {
                if let Some(extra) = rule(&mut mistakes, &format!("rules.{name}"), value) {
                    extras.insert(name.clone(), extra);
                }
            }
        }
        if extras.len() > MAX_RULES {
            let what = format!("an object of at most {MAX_RULES} rules");
            mistakes.0.push(reader.wrong("rules", &what));
        }
    }
    match mistakes.0.is_empty() {
        true => Ok(extras),
        false => Err(mistakes.0),
    }
}

fn rule(mistakes: &mut Mistakes, path: &str, value: &Value) -> Option<Extra> {
    let reader = mistakes.take(Reader::of(value, path).map(Some))?;
    mistakes.only(&reader, value, &["match", "set"]);
    let mut extra = Extra::default();
    if let Some(criteria) = mistakes.take(reader.object("match")) {
        mistakes.only(
            &criteria,
            &value["match"],
            &["prefixes", "med", "localPreference", "largeCommunities"],
        );
        let prefixes = mistakes.take(ranges(&criteria, "prefixes")).map(Criterion::PrefixRange);
        let med = mistakes
            .take(span(&criteria, "med"))
            .map(|(low, high)| Criterion::Med(low, high));
        let preference = mistakes.take(span(&criteria, "localPreference"));
        let preference = preference.map(|(low, high)| Criterion::LocalPreference(low, high));
        let large = mistakes.take(looked_for(&criteria));
        extra
            .criteria
            .extend([prefixes, med, preference, large].into_iter().flatten());
    }
    if let Some(actions) = mistakes.take(reader.object("set")) {
        mistakes.only(
            &actions,
            &value["set"],
            &["importPreference", "med", "largeCommunities", "keepAttributes"],
        );
        let preference = mistakes
            .take(number(&actions, "importPreference"))
            .map(Action::SetImportPreference);
        let med = mistakes.take(number(&actions, "med")).map(Action::SetMed);
        let large = mistakes.take(changed(&actions));
        extra.actions.extend([preference, med, large].into_iter().flatten());
        extra.keeps_attributes = mistakes.take(actions.boolean("keepAttributes")).unwrap_or(false);
    }
    Some(extra)
}

/// What is wrong, as it is found.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(pub(crate) Vec<ArmError>);

impl Mistakes {
    pub(crate) fn take<T>(&mut self, read: Result<Option<T>, ArmError>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.0.push(error);
            None
        })
    }

    /// Members that there are not.
    pub(crate) fn only(&mut self, reader: &Reader<'_>, object: &Value, names: &[&str]) {
        let members = object.as_object().into_iter().flatten();
        for (name, _) in members.filter(|(name, value)| !names.contains(&name.as_str()) && !value.is_null()) {
            let path = reader.path_of(name);
            let sentence = format!(
                "There is no setting '{path}' here. Those there are: {}.",
                names.join(", ")
            );
            self.0.push(ArmError::bad("InvalidSetting", sentence).at(path));
        }
    }
}

/// `[{ "prefix", "ge", "le" }]`: without `ge` from the prefix's own length on, without `le` up to `ge`, or without both that length alone.
pub(crate) fn ranges(reader: &Reader<'_>, name: &str) -> Result<Option<Vec<PrefixRange>>, ArmError> {
    let Some(items) = reader.list(name)? else {
        return Ok(None);
    };
    if items.is_empty() || items.len() > MAX_VALUES {
        return Err(reader.wrong(name, &format!("a list of 1 to {MAX_VALUES}")));
    }
    let range = |(position, item): (usize, &Value)| {
        let item = Reader::of(item, format!("{}[{position}]", reader.path_of(name)))?;
        let text = item.required_text("prefix", "a prefix such as \"10.0.0.0/8\"")?;
        let prefix = parse_prefix(text, &item.path_of("prefix"))?;
        let (shortest, longest) = (u64::from(prefix.prefix_len()), u64::from(prefix.max_prefix_len()));
        let ge = item.whole("ge", shortest..=longest)?;
        let from = ge.unwrap_or(shortest);
        let le = item.whole("le", from..=longest)?;
        // As routers read it: `ge` alone leaves the end open.
        let open = if ge.is_some() { longest } else { shortest };
        let length = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
        Ok(PrefixRange {
            prefix,
            ge: length(from),
            le: length(le.unwrap_or(open)),
        })
    };
    items.iter().enumerate().map(range).collect::<Result<_, _>>().map(Some)
}

/// `{ "from", "to" }`, both included; either may be left out.
fn span(reader: &Reader<'_>, name: &str) -> Result<Option<(u32, u32)>, ArmError> {
    let Some(span) = reader.object(name)? else {
        return Ok(None);
    };
    let from = number(&span, "from")?.unwrap_or(0);
    let to = number(&span, "to")?.unwrap_or(u32::MAX);
    match from <= to {
        true => Ok(Some((from, to))),
        false => Err(reader.wrong(name, "from a number to a number that is not lower")),
    }
}

fn number(reader: &Reader<'_>, name: &str) -> Result<Option<u32>, ArmError> {
    let number = reader.whole(name, 0..=u64::from(u32::MAX))?;
    Ok(number.and_then(|number| u32::try_from(number).ok()))
}

/// `{ "matchCondition", "values" }`
fn looked_for(reader: &Reader<'_>) -> Result<Option<Criterion>, ArmError> {
    let Some(reader) = reader.object("largeCommunities")? else {
        return Ok(None);
    };
    const CONDITIONS: [&str; 4] = ["Equals", "Contains", "NotEquals", "NotContains"];
    let comparison = match reader.one_of("matchCondition", &CONDITIONS)? {
        Some("Equals") => Comparison::Equals,
        Some("NotEquals") => Comparison::NotEquals,
        Some("NotContains") => Comparison::NotContains,
        Some(_) => Comparison::Contains,
        None => return Err(reader.missing("matchCondition", &format!("one of {}", CONDITIONS.join(", ")))),
    };
    Ok(Some(Criterion::LargeCommunity {
        comparison,
        communities: large_communities(&reader)?,
    }))
}

/// `{ "type", "values" }`
fn changed(reader: &Reader<'_>) -> Result<Option<Action>, ArmError> {
    let Some(reader) = reader.object("largeCommunities")? else {
        return Ok(None);
    };
    const TYPES: [&str; 3] = ["Add", "Replace", "Remove"];
    let kind = reader.one_of("type", &TYPES)?;
    let kind = kind.ok_or_else(|| reader.missing("type", &format!("one of {}", TYPES.join(", "))))?;
    let communities = large_communities(&reader)?;
    Ok(Some(match kind {
        "Add" => Action::AddLargeCommunities(communities),
        "Replace" => Action::ReplaceLargeCommunities(communities),
        _ => Action::RemoveLargeCommunities(communities),
    }))
}

fn large_communities(reader: &Reader<'_>) -> Result<Vec<LargeCommunity>, ArmError> {
    let texts = reader.texts("values")?.unwrap_or_default();
    if texts.is_empty() || texts.len() > MAX_VALUES {
        return Err(reader.wrong("values", &format!("a list of 1 to {MAX_VALUES} large communities")));
    }
    let parse = |text: &str| -> Option<LargeCommunity> {
        let mut numbers = text.split(':').map(str::parse);
        let three = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        numbers.next().is_none().then_some(three)
    };
    let parsed: Option<Vec<_>> = texts.into_iter().map(parse).collect();
    parsed.ok_or_else(|| reader.wrong("values", "large communities such as \"65001:1:2\""))
}
