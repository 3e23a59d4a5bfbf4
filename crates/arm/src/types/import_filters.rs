//! Settings of a route table: which BGP routes come to its subnets. Azure knows all or none (`disableBgpRoutePropagation`).
//!
//! ```json
//! { "import": [{ "name": "no-lab", "action": "Deny", "prefixes": [{ "prefix": "10.66.0.0/16", "le": 32 }], "nextHops": ["10.1.4.4"] }],
//!   "importOthers": "Allow" }
//! ```

use std::net::IpAddr;

use routeserver::intent::{ImportFilter, ImportRule};
use serde_json::Value;

use super::extended_maps::{Mistakes, ranges};
use crate::error::ArmError;
use crate::read::Reader;

const MAX_RULES: usize = 200;
/// As many as a user route has.
const MAX_NEXT_HOPS: usize = 64;

/// The filter of a table's settings, if there is one; all mistakes at once.
pub(crate) fn read(settings: &Value) -> Result<Option<ImportFilter>, Vec<ArmError>> {
    let mut mistakes = Mistakes::default();
    let filter = mistakes.take(Reader::of(settings, "").map(Some)).and_then(|reader| {
        mistakes.only(&reader, settings, &["import", "importOthers"]);
        let others = mistakes.take(reader.one_of("importOthers", &ACTIONS));
        let items = mistakes.take(reader.list("import")).unwrap_or_default();
        if items.len() > MAX_RULES {
            mistakes
                .0
                .push(reader.wrong("import", &format!("a list of at most {MAX_RULES} rules")));
        }
        let rules: Vec<ImportRule> = items
            .iter()
            .take(MAX_RULES)
            .enumerate()
            .filter_map(|(position, item)| rule(&mut mistakes, &format!("import[{position}]"), item))
            .collect();
        let filters = !rules.is_empty() || others.is_some();
        filters.then(|| ImportFilter {
            rules,
            allow_others: others != Some("Deny"),
        })
    });
    match mistakes.0.is_empty() {
        true => Ok(filter),
        false => Err(mistakes.0),
    }
}

const ACTIONS: [&str; 2] = ["Allow", "Deny"];

fn rule(mistakes: &mut Mistakes, path: &str, item: &Value) -> Option<ImportRule> {
    let reader = mistakes.take(Reader::of(item, path).map(Some))?;
    mistakes.only(&reader, item, &["name", "action", "prefixes", "nextHops"]);
    let name = mistakes.take(
        reader
            .required_text("name", "a name: effective routes tell it")
            .map(Some),
    );
    let action = reader.one_of("action", &ACTIONS).and_then(|action| {
        let missing = || reader.missing("action", "Allow or Deny");
        action.ok_or_else(missing).map(Some)
    });
    let action = mistakes.take(action);
    let prefixes = mistakes.take(ranges(&reader, "prefixes")).unwrap_or_default();
    let next_hops = mistakes.take(next_hops(&reader)).unwrap_or_default();
    Some(ImportRule {
        name: name?.to_owned(),
        allow: action? == "Allow",
        prefixes,
        next_hops,
    })
}

fn next_hops(reader: &Reader<'_>) -> Result<Option<Vec<IpAddr>>, ArmError> {
    let Some(texts) = reader.texts("nextHops")? else {
        return Ok(None);
    };
    let what = format!("a list of 1 to {MAX_NEXT_HOPS} addresses");
    if texts.is_empty() || texts.len() > MAX_NEXT_HOPS {
        return Err(reader.wrong("nextHops", &what));
    }
    let parsed: Option<Vec<IpAddr>> = texts.into_iter().map(|text| text.parse().ok()).collect();
    parsed.ok_or_else(|| reader.wrong("nextHops", &what)).map(Some)
}
