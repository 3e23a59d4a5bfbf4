//! Names of things: what ARM allows, and how locations and tags are written.

use serde_json::{Map, Value};

use crate::error::ArmError;

/// Most tags on one resource.
const MAX_TAGS: usize = 50;
/// Longest name of a tag.
const MAX_TAG_NAME: usize = 512;
/// Longest value of a tag.
const MAX_TAG_VALUE: usize = 256;

/// 1–80 characters; the first alphanumeric, the last alphanumeric or `_`, in between also `.`, `-` and `_`.
pub(crate) fn check_resource_name(name: &str) -> Result<(), ArmError> {
    let fits = (1..=80).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if fits {
        return Ok(());
    }
    Err(ArmError::bad(
        "InvalidResourceName",
        format!(
            "Resource name '{name}' is invalid. Choose 1 to 80 letters, digits, '.', '-' or '_', which begin with a letter or \
             digit and end with a letter, digit or '_'."
        ),
    ))
}

/// 1–90 characters; letters, digits, `_`, `-`, `.` and parentheses, not ending in a period.
pub(crate) fn check_group_name(name: &str) -> Result<(), ArmError> {
    let fits = (1..=90).contains(&name.chars().count())
        && !name.ends_with('.')
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '(' | ')'));
    if fits {
        return Ok(());
    }
    Err(ArmError::bad(
        "InvalidResourceGroup",
        format!(
            "Resource group name '{name}' is invalid. Choose 1 to 90 letters, digits, '.', '-', '_' or parentheses, not ending \
             in a period."
        ),
    ))
}

/// `East US` and `eastus` are one location: what clients compare by.
pub(crate) fn normal_location(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_whitespace())
        .collect::<String>()
        .to_ascii_lowercase()
}

/// An api-version is a date, perhaps with a suffix like `-preview`; any such is served (az §4.2).
pub(crate) fn check_api_version(query: &[(String, String)]) -> Result<(), ArmError> {
    let version = query
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("api-version"))
        .map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty());
    let Some(version) = version else {
        return Err(ArmError::bad(
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests. Add one, for example \
             ?api-version=2024-05-01.",
        ));
    };
    if is_api_version(version) {
        return Ok(());
    }
    Err(ArmError::bad(
        "InvalidApiVersionParameter",
        format!("The api-version '{version}' is invalid. Write a date, for example 2024-05-01 or 2024-05-01-preview."),
    ))
}

fn is_api_version(text: &str) -> bool {
    let Some((date, suffix)) = text.split_at_checked(10) else {
        return false;
    };
    let number = |range: std::ops::Range<usize>| -> Option<u32> {
        let digits = date.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
        digits.parse().ok()
    };
    let dashes = date.as_bytes().get(4) == Some(&b'-') && date.as_bytes().get(7) == Some(&b'-');
    let month = number(5..7).is_some_and(|month| (1..=12).contains(&month));
    let day = number(8..10).is_some_and(|day| (1..=31).contains(&day));
    let suffix_fits = suffix.is_empty()
        || (suffix.len() > 1 && suffix.starts_with('-') && suffix[1..].chars().all(|c| c.is_ascii_alphanumeric()));
    dashes && number(0..4).is_some() && month && day && suffix_fits
}

/// Tags are a flat map of short texts.
pub(crate) fn check_tags(tags: &Value) -> Result<Map<String, Value>, ArmError> {
    let fail = |what: &str| ArmError::bad("InvalidTags", format!("tags {what}.")).at("tags");
    let Value::Object(tags) = tags else {
        return Err(fail("must be an object of texts, for example {\"owner\": \"net\"}"));
    };
    if tags.len() > MAX_TAGS {
        return Err(fail("may hold at most 50 names: remove some"));
    }
    for (name, value) in tags {
        if name.is_empty() || name.chars().count() > MAX_TAG_NAME {
            return Err(fail("have names of 1 to 512 characters"));
        }
        match value.as_str() {
            Some(text) if text.chars().count() <= MAX_TAG_VALUE => {}
            _ => return Err(fail("have texts of at most 256 characters as values")),
        }
    }
    Ok(tags.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_versions_are_dates() {
        for good in ["2022-01-01", "2024-05-01-preview", "2026-03-01"] {
            assert!(is_api_version(good), "{good}");
        }
        for bad in [
            "",
            "1",
            "2022-13-01",
            "2022-01-32",
            "2022-01-01-",
            "2022/01/01",
            "latest",
            "2022-01-01x",
            "ééééé",
        ] {
            assert!(!is_api_version(bad), "{bad}");
        }
    }

    #[test]
    fn names_are_checked() {
        for good in ["a", "a_", "rs-1.x", "9"] {
            assert!(check_resource_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(81);
        for bad in ["", "-a", "a-", "a b", "ä", long.as_str()] {
            assert!(check_resource_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn display_names_of_locations_are_normalised() {
        assert_eq!(normal_location("East US"), "eastus");
        assert_eq!(normal_location("westeurope"), "westeurope");
    }
}
