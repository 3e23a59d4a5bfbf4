//! In which order a template's resources are made: after what they name in `dependsOn`, refer to with `reference()`, or are children
//! of; otherwise as written.

use serde_json::Value;

use super::expression::{self, Expression, Text};
use super::scope::Here;
use super::{Plan, invalid};
use crate::error::ArmError;

/// How far the ordering has got with a resource.
#[derive(Clone, Copy, PartialEq)]
enum Visit {
    NotYet,
    Begun,
    Done,
}

pub(super) fn order(mut plan: Plan) -> Result<Plan, ArmError> {
    let before: Vec<Vec<usize>> = (0..plan.resources.len())
        .map(|at| depends_on(&plan, at))
        .collect::<Result<_, _>>()?;
    let mut visits = vec![Visit::NotYet; before.len()];
    let mut order = Vec::new();
    for start in 0..before.len() {
        // Depth first, without recursion: a chain may be as long as the template.
        let mut path = vec![(start, 0)];
        while let Some((at, next)) = path.pop() {
            if visits[at] == Visit::Done {
                continue;
            }
            visits[at] = Visit::Begun;
            match before[at].get(next) {
                None => {
                    visits[at] = Visit::Done;
                    order.push(at);
                }
                Some(&needed) => {
                    path.push((at, next + 1));
                    match visits[needed] {
                        Visit::NotYet => path.push((needed, 0)),
                        Visit::Begun => {
                            return Err(invalid(format!(
                                "Circular dependency detected on resource: '{}'.",
                                plan.resources[needed].id
                            )));
                        }
                        Visit::Done => {}
                    }
                }
            }
        }
    }
    let mut resources: Vec<Option<_>> = plan.resources.into_iter().map(Some).collect();
    plan.resources = order.into_iter().filter_map(|at| resources[at].take()).collect();
    Ok(plan)
}

/// The places of what the resource at a place must come after.
fn depends_on(plan: &Plan, at: usize) -> Result<Vec<usize>, ArmError> {
    let planned = &plan.resources[at];
    let found = |target: &str| -> Vec<usize> {
        let all = plan.resources.iter().enumerate();
        all.filter(|(other, resource)| *other != at && resource.is(target))
            .map(|(other, _)| other)
            .collect()
    };
    let mut before = Vec::new();
    for target in &planned.depends_on {
        let places = found(target);
        let left_out = plan.left_out.iter().any(|known| known.eq_ignore_ascii_case(target));
        if places.is_empty() && !left_out {
            return Err(invalid(format!(
                "The resource '{target}', which '{}' depends on, is not defined in the template.",
                planned.id
            )));
        }
        before.extend(places);
    }
    if let Some(parent) = planned.id.parent() {
        before.extend(found(parent.as_str()));
    }
    let here = Here {
        copies: planned.copies.clone(),
        lookup: None,
    };
    for target in references(plan, planned.raw.values(), &here) {
        before.extend(found(&target));
    }
    Ok(before)
}

/// What the `reference()` calls in these values name, as far as it can be told before anything is made.
fn references<'v>(plan: &Plan, values: impl Iterator<Item = &'v Value>, here: &Here<'_>) -> Vec<String> {
    let mut named = Vec::new();
    let mut open: Vec<&Value> = values.collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(members) => open.extend(members.values()),
            Value::String(text) => {
                if let Ok(Text::Computed(expression)) = expression::read(text) {
                    let mut calls = Vec::new();
                    reference_calls(&expression, &mut calls);
                    let computed = calls
                        .into_iter()
                        .filter_map(|target| plan.scope.compute(target, here).ok());
                    named.extend(computed.filter_map(|target| target.as_str().map(str::to_owned)));
                }
            }
            _ => {}
        }
    }
    named
}

fn reference_calls<'e>(expression: &'e Expression, found: &mut Vec<&'e Expression>) {
    match expression {
        Expression::Literal(_) => {}
        Expression::Member(of, _) => reference_calls(of, found),
        Expression::Index(of, at) => {
            reference_calls(of, found);
            reference_calls(at, found);
        }
        Expression::Call(name, arguments) => {
            if name.eq_ignore_ascii_case("reference") {
                found.extend(arguments.first());
            }
            for argument in arguments {
                reference_calls(argument, found);
            }
        }
    }
}
