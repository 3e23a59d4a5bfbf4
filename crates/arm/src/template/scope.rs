//! What the names in a template stand for while it is evaluated, and the evaluation itself.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::expression::{self, Expression, Text};
use super::{functions, invalid};
use crate::error::ArmError;

/// Values that one deployment may compute, in characters and members: a template of few lines can name a value of any size.
const MAX_WORK: usize = 64 << 20;

/// Where a deployment happens.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// As `subscription()` shows it.
    pub(crate) subscription: Value,
    /// As `resourceGroup()` shows it.
    pub(crate) group: Value,
    /// As `deployment()` shows it.
    pub(crate) deployment: Value,
    /// RFC 3339.
    pub(crate) now: String,
    /// For `newGuid()`; each use has the same, which only a parameter's default may be made from.
    pub(crate) guid: String,
}

/// Finds a deployed resource by id or symbolic name: with all members.
pub(crate) type Lookup<'l> = &'l dyn Fn(&str) -> Result<Value, ArmError>;

/// What names stand for.
pub(crate) struct Scope {
    pub(crate) place: Place,
    pub(crate) parameters: Map<String, Value>,
    /// As written; evaluated when first used.
    variables: Map<String, Value>,
    /// `None`: being evaluated right now.
    evaluated: RefCell<HashMap<String, Option<Value>>>,
    work: Cell<usize>,
}

/// A place inside a template: the loops around it, and whether it may refer to what is deployed.
#[derive(Clone, Default)]
pub(crate) struct Here<'l> {
    /// Loop names and how far they are; the innermost last.
    pub(crate) copies: Vec<(String, i64)>,
    pub(crate) lookup: Option<Lookup<'l>>,
}

impl Scope {
    pub(crate) fn new(place: Place) -> Scope {
        Scope {
            place,
            parameters: Map::new(),
            variables: Map::new(),
            evaluated: RefCell::default(),
            work: Cell::new(0),
        }
    }

    /// Takes on the template's variables, with those that are made by loops.
    pub(crate) fn set_variables(&mut self, mut variables: Map<String, Value>) -> Result<(), ArmError> {
        let loops = variables.remove("copy");
        self.variables = variables;
        if let Some(loops) = loops {
            for (name, list) in self.loops(&loops, &Here::default())? {
                self.evaluated
                    .borrow_mut()
                    .insert(name.to_ascii_lowercase(), Some(list));
            }
        }
        Ok(())
    }

    /// A value with all expressions in it evaluated.
    pub(crate) fn evaluate(&self, value: &Value, here: &Here<'_>) -> Result<Value, ArmError> {
        match value {
            Value::String(text) => match expression::read(text)? {
                Text::Plain(text) => Ok(Value::String(text)),
                Text::Computed(expression) => self.compute(&expression, here),
            },
            Value::Array(items) => items.iter().map(|item| self.evaluate(item, here)).collect(),
            Value::Object(members) => {
                let mut evaluated = Map::new();
                for (name, member) in members {
                    // A loop over a property: its list stands beside the other members.
                    if name == "copy" && member.is_array() {
                        evaluated.extend(self.loops(member, here)?);
                        continue;
                    }
                    let name = match self.evaluate(&Value::String(name.clone()), here)? {
                        Value::String(name) => name,
                        other => {
                            return Err(invalid(format!(
                                "The member name '{name}' comes to {other}, which is no text."
                            )));
                        }
                    };
                    evaluated.insert(name, self.evaluate(member, here)?);
                }
                Ok(Value::Object(evaluated))
            }
            other => Ok(other.clone()),
        }
    }

    /// `[{"name", "count", "input"}]`: a list for each.
    fn loops(&self, loops: &Value, here: &Here<'_>) -> Result<Vec<(String, Value)>, ArmError> {
        let mut made = Vec::new();
        for one in loops.as_array().into_iter().flatten() {
            let Some(name) = one["name"].as_str() else {
                return Err(invalid("A copy loop has no name."));
            };
            let count = self.count(&one["count"], here)?;
            let items = (0..count).map(|at| {
                let mut inner = here.clone();
                inner.copies.push((name.to_owned(), at));
                self.evaluate(&one["input"], &inner)
            });
            made.push((name.to_owned(), items.collect::<Result<Value, _>>()?));
        }
        Ok(made)
    }

    /// How often a loop runs.
    pub(crate) fn count(&self, count: &Value, here: &Here<'_>) -> Result<i64, ArmError> {
        /// Azure's own bound.
        const MOST: i64 = 800;
        match self.evaluate(count, here)?.as_i64() {
            Some(count) if (0..=MOST).contains(&count) => Ok(count),
            _ => Err(invalid(format!(
                "The count of a copy loop must be a whole number from 0 to {MOST}."
            ))),
        }
    }

    pub(crate) fn compute(&self, expression: &Expression, here: &Here<'_>) -> Result<Value, ArmError> {
        let value = match expression {
            Expression::Literal(value) => value.clone(),
            Expression::Member(of, name) => member(&self.compute(of, here)?, name)?,
            Expression::Index(of, at) => {
                let at = self.compute(at, here)?;
                index(&self.compute(of, here)?, &at)?
            }
            Expression::Call(name, arguments) => functions::call(self, name, arguments, here)?,
        };
        let work = self.work.get() + weight(&value);
        self.work.set(work);
        match work > MAX_WORK {
            true => Err(invalid(
                "The template's expressions come to more than can be computed here.",
            )),
            false => Ok(value),
        }
    }

    pub(crate) fn parameter(&self, name: &str) -> Result<Value, ArmError> {
        find(&self.parameters, name)
            .cloned()
            .ok_or_else(|| invalid(format!("The template parameter '{name}' is not found.")))
    }

    pub(crate) fn variable(&self, name: &str) -> Result<Value, ArmError> {
        let key = name.to_ascii_lowercase();
        match self.evaluated.borrow().get(&key) {
            Some(Some(value)) => return Ok(value.clone()),
            Some(None) => return Err(invalid(format!("The template variable '{name}' is defined by itself."))),
            None => {}
        }
        let Some(source) = find(&self.variables, name) else {
            return Err(invalid(format!("The template variable '{name}' is not found.")));
        };
        if self.evaluated.borrow().values().filter(|value| value.is_none()).count() > MAX_VARIABLE_DEPTH {
            return Err(invalid(format!(
                "Variables refer to each other more than {MAX_VARIABLE_DEPTH} deep."
            )));
        }
        self.evaluated.borrow_mut().insert(key.clone(), None);
        let value = self.evaluate(source, &Here::default())?;
        self.evaluated.borrow_mut().insert(key, Some(value.clone()));
        Ok(value)
    }
}

/// Variables that are made from variables, and so on.
const MAX_VARIABLE_DEPTH: usize = 16;

/// Names compare without regard to case.
pub(crate) fn find<'m>(members: &'m Map<String, Value>, name: &str) -> Option<&'m Value> {
    members.get(name).or_else(|| {
        let mut members = members.iter();
        members
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    })
}

pub(crate) fn member(of: &Value, name: &str) -> Result<Value, ArmError> {
    let found = of.as_object().and_then(|members| find(members, name));
    found.cloned().ok_or_else(|| {
        invalid(format!(
            "The language expression property '{name}' doesn't exist. Check the spelling, and what the resource has."
        ))
    })
}

pub(crate) fn index(of: &Value, at: &Value) -> Result<Value, ArmError> {
    match (of, at) {
        (Value::Object(_), Value::String(name)) => member(of, name),
        (Value::Array(items), Value::Number(at)) => {
            let place = at.as_u64().and_then(|at| usize::try_from(at).ok());
            place.and_then(|place| items.get(place)).cloned().ok_or_else(|| {
                invalid(format!(
                    "The language expression array index '{at}' is out of bounds: there are {}.",
                    items.len()
                ))
            })
        }
        _ => Err(invalid(format!("{at} is no place in {}.", super::kind_of(of)))),
    }
}

fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len(),
        Value::Array(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Object(members) => {
            1 + members
                .iter()
                .map(|(name, member)| name.len() + weight(member))
                .sum::<usize>()
        }
        _ => 1,
    }
}

/// A reference as a template sees it: the properties, or everything.
pub(crate) fn referenced(resource: Value, full: bool) -> Value {
    match full {
        true => resource,
        false => resource.get("properties").cloned().unwrap_or_else(|| json!({})),
    }
}
