//! Parameters of a template: their types, bounds and defaults against what was given.

use serde_json::{Map, Value, json};

use super::scope::{Here, Scope, find};
use super::{invalid, kind_of};
use crate::error::ArmError;

/// Sets the scope's parameters, and gives them back as a deployment shows them.
pub(super) fn read(
    scope: &mut Scope,
    declared: &Map<String, Value>,
    given: &Value,
) -> Result<Map<String, Value>, ArmError> {
    let none = Map::new();
    let given = match given {
        Value::Null => &none,
        Value::Object(given) => given,
        _ => return Err(invalid("The parameters of a deployment must be an object.")),
    };
    if let Some(unknown) = given.keys().find(|name| find(declared, name).is_none()) {
        let known: Vec<&str> = declared.keys().map(String::as_str).collect();
        return Err(invalid(format!(
            "The template parameter '{unknown}' is given but not declared. Parameters of the template: '{}'.",
            known.join(", ")
        )));
    }
    let mut all = Map::new();
    for (name, parameter) in declared {
        let value = match find(given, name) {
            Some(given) if !given["reference"].is_null() => {
                return Err(invalid(format!(
                    "The parameter '{name}' is a reference to a key vault, which is not supported here. Give its value."
                )));
            }
            Some(given) => given["value"].clone(),
            None if parameter.get("defaultValue").is_some() => {
                scope.evaluate(&parameter["defaultValue"], &Here::default())?
            }
            None if parameter["nullable"] == json!(true) => Value::Null,
            None => {
                return Err(invalid(format!(
                    "The value for the template parameter '{name}' is not provided. Give one."
                )));
            }
        };
        let value = check(name, parameter, value)?;
        all.insert(name.clone(), shown(&parameter["type"], value.clone()));
        scope.parameters.insert(name.clone(), value);
    }
    Ok(all)
}

/// Type and value; a secret's value is nobody's business.
pub(super) fn shown(kind: &Value, value: Value) -> Value {
    let kind = kind.as_str().unwrap_or("string");
    let title = match kind.to_ascii_lowercase().as_str() {
        "securestring" => return json!({ "type": "SecureString" }),
        "secureobject" => return json!({ "type": "SecureObject" }),
        "string" => "String",
        "int" => "Int",
        "bool" => "Bool",
        "array" => "Array",
        _ => "Object",
    };
    json!({ "type": title, "value": value })
}

fn check(name: &str, parameter: &Value, value: Value) -> Result<Value, ArmError> {
    let wrong = |what: String| {
        invalid(format!(
            "The value of the template parameter '{name}' is not valid: {what}."
        ))
    };
    if parameter["nullable"] == json!(true) && value.is_null() {
        return Ok(value);
    }
    let kind = parameter["type"].as_str().unwrap_or_default();
    let value = match (kind.to_ascii_lowercase().as_str(), value) {
        ("string" | "securestring", value @ Value::String(_))
        | ("bool", value @ Value::Bool(_))
        | ("array", value @ Value::Array(_))
        | ("object" | "secureobject", value @ Value::Object(_)) => value,
        ("int", Value::Number(number)) if number.is_i64() => Value::Number(number),
        // What is typed on a command line comes as text.
        ("int", Value::String(text)) if text.parse::<i64>().is_ok() => json!(text.parse::<i64>().unwrap_or_default()),
        ("bool", Value::String(text)) if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") => {
            json!(text.eq_ignore_ascii_case("true"))
        }
        ("string" | "securestring" | "int" | "bool" | "array" | "object" | "secureobject", other) => {
            return Err(wrong(format!("expected {kind}, got {}", kind_of(&other))));
        }
        _ => return Err(wrong(format!("its type '{kind}' is not supported here"))),
    };
    if let Some(allowed) = parameter["allowedValues"].as_array()
        && !allowed.contains(&value)
    {
        return Err(wrong(format!("it is not one of {}", parameter["allowedValues"])));
    }
    let length = match &value {
        Value::String(text) => Some(text.chars().count() as i64),
        Value::Array(items) => Some(items.len() as i64),
        _ => None,
    };
    for (bound, of, is_lower) in [
        ("minValue", value.as_i64(), true),
        ("maxValue", value.as_i64(), false),
        ("minLength", length, true),
        ("maxLength", length, false),
    ] {
        if let (Some(bound_value), Some(of)) = (parameter[bound].as_i64(), of)
            && (if is_lower { of < bound_value } else { of > bound_value })
        {
            return Err(wrong(format!("its {bound} is {bound_value}")));
        }
    }
    Ok(value)
}
