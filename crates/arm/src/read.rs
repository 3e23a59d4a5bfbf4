//! JSON becomes typed values here, once; every complaint names the property and what it should be.
//!
//! Clients are forgiving and so are we where nothing is lost: `null` is absent, a number or a boolean may come as text
//! (arm-clients: the quickstart template sends `"peerAsn": "65002"`), enumerations in any case.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::ArmError;
use crate::id::ResourceId;

/// An object and where it stands in the body.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'v> {
    map: &'v Map<String, Value>,
    path: String,
}

impl<'v> Reader<'v> {
    pub(crate) fn new(map: &'v Map<String, Value>, path: impl Into<String>) -> Reader<'v> {
        Reader { map, path: path.into() }
    }

    /// Reads `value` as an object.
    pub(crate) fn of(value: &'v Value, path: impl Into<String>) -> Result<Reader<'v>, ArmError> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Reader { map, path }),
            other => Err(wrong(&path, "an object", other)),
        }
    }

    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            return name.to_owned();
        }
        format!("{}.{name}", self.path)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'v Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// What is missing, as an error.
    pub(crate) fn missing(&self, name: &str, what: &str) -> ArmError {
        let path = self.path_of(name);
        ArmError::bad("MissingRequiredProperty", format!("{path} is required. Give {what}.")).at(path)
    }

    /// What is wrong, as an error.
    pub(crate) fn wrong(&self, name: &str, what: &str) -> ArmError {
        wrong(&self.path_of(name), what, self.get(name).unwrap_or(&Value::Null))
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'v str>, ArmError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "a text")),
        }
    }

    pub(crate) fn required_text(&self, name: &str, what: &str) -> Result<&'v str, ArmError> {
        self.text(name)?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.missing(name, what))
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, ArmError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    pub(crate) fn whole(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ArmError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = match value {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        match number {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(self.wrong(
                name,
                &format!("a whole number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// One of the values of an enumeration, in any case; the answer is as Azure writes it.
    pub(crate) fn one_of(&self, name: &str, values: &[&'static str]) -> Result<Option<&'static str>, ArmError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let found = values.iter().find(|value| value.eq_ignore_ascii_case(text));
        match found {
            Some(value) => Ok(Some(value)),
            None => Err(self.wrong(name, &format!("one of {}", values.join(", ")))),
        }
    }

    pub(crate) fn list(&self, name: &str) -> Result<Option<&'v [Value]>, ArmError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(self.wrong(name, "a list")),
        }
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Reader<'v>>, ArmError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => Reader::of(value, self.path_of(name)).map(Some),
        }
    }

    /// A list of texts.
    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<&'v str>>, ArmError> {
        let Some(items) = self.list(name)? else {
            return Ok(None);
        };
        let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
        match texts {
            Some(texts) => Ok(Some(texts)),
            None => Err(self.wrong(name, "a list of texts")),
        }
    }

    /// A reference `{"id": …}` to a resource of one type. Only `id` is read: SDKs send junk beside it.
    pub(crate) fn reference(&self, name: &str, kind: &str) -> Result<Option<ResourceId>, ArmError> {
        let Some(reference) = self.object(name)? else {
            return Ok(None);
        };
        let Some(text) = reference.text("id")? else {
            return Ok(None);
        };
        let id = ResourceId::parse(text).filter(|id| id.kind().eq_ignore_ascii_case(kind));
        match id {
            Some(id) => Ok(Some(id)),
            None => {
                let path = reference.path_of("id");
                Err(ArmError::bad(
                    "LinkedInvalidPropertyId",
                    format!(
                        "Property id '{text}' at path '{path}' is invalid. Expect the fully qualified id of a {kind}, \
                         starting with '/subscriptions/{{subscriptionId}}/resourceGroups/{{resourceGroupName}}/'."
                    ),
                )
                .at(path))
            }
        }
    }
}

fn wrong(path: &str, what: &str, found: &Value) -> ArmError {
    ArmError::bad(
        "InvalidRequestFormat",
        format!("{path} must be {what}, not {}.", excerpt(found)),
    )
    .at(path)
}

/// A value for people, cut short.
fn excerpt(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}…")
}

/// Removes members that are `null`: null and absent are equal on input.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
