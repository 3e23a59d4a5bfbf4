//! The functions of template expressions. One that is not here is refused by its name.

use serde_json::{Map, Value, json};

use super::expression::Expression;
use super::scope::{Here, Scope, find, index, referenced};
use super::{cidr, invalid, kind_of, text};
use crate::error::ArmError;

/// The namespace that Azure's `guid()` makes its version 5 UUIDs in: 11fb06fb-712d-4ddd-98c7-e71bbd588830.
const GUID_NAMESPACE: [u8; 16] = 0x11fb06fb_712d_4ddd_98c7_e71bbd588830_u128.to_be_bytes();

/// Calls a function.
pub(crate) fn call(scope: &Scope, name: &str, arguments: &[Expression], here: &Here<'_>) -> Result<Value, ArmError> {
    let call = Call { name, scope, here };
    let lower = name.to_ascii_lowercase();
    // Those that do not look at all their arguments come first.
    match (lower.as_str(), arguments) {
        ("if", [condition, yes, no]) => {
            let holds = call.truth(&scope.compute(condition, here)?)?;
            return scope.compute(if holds { yes } else { no }, here);
        }
        ("and", _) => return call.until(arguments, false),
        ("or", _) => return call.until(arguments, true),
        _ => {}
    }
    let values: Vec<Value> = arguments
        .iter()
        .map(|one| scope.compute(one, here))
        .collect::<Result<_, _>>()?;
    let v = values.as_slice();
    match lower.as_str() {
        "parameters" => scope.parameter(call.one_text(v)?),
        "variables" => scope.variable(call.one_text(v)?),
        "copyindex" => call.copy_index(v),
        "reference" => call.reference(v),
        "resourceid" => call.resource_id(v),
        "subscriptionresourceid" => call.subscription_resource_id(v),
        "resourcegroup" => call.nothing(v, scope.place.group.clone()),
        "subscription" => call.nothing(v, scope.place.subscription.clone()),
        "deployment" => call.nothing(v, scope.place.deployment.clone()),
        "tenant" => call.nothing(v, json!({ "tenantId": scope.place.subscription["tenantId"] })),
        "utcnow" => Ok(json!(scope.place.now)),
        "newguid" => call.nothing(v, json!(scope.place.guid)),
        "true" => call.nothing(v, json!(true)),
        "false" => call.nothing(v, json!(false)),
        "null" => call.nothing(v, Value::Null),
        "not" => Ok(json!(!call.truth(call.one(v)?)?)),
        "bool" => call.to_bool(call.one(v)?),
        "int" => call.to_int(call.one(v)?),
        "equals" => call.two(v).map(|(a, b)| json!(a == b)),
        "less" => call.compare(v, |order| order.is_lt()),
        "lessorequals" => call.compare(v, |order| order.is_le()),
        "greater" => call.compare(v, |order| order.is_gt()),
        "greaterorequals" => call.compare(v, |order| order.is_ge()),
        "add" => call.arithmetic(v, i64::checked_add),
        "sub" => call.arithmetic(v, i64::checked_sub),
        "mul" => call.arithmetic(v, i64::checked_mul),
        "div" => call.arithmetic(v, i64::checked_div),
        "mod" => call.arithmetic(v, i64::checked_rem),
        "min" => call.extreme(v, |a, b| a.min(b)),
        "max" => call.extreme(v, |a, b| a.max(b)),
        "coalesce" => Ok(v.iter().find(|value| !value.is_null()).cloned().unwrap_or(Value::Null)),
        "length" => call.length(call.one(v)?),
        "empty" => call.empty(call.one(v)?),
        "contains" => call.contains(v),
        "first" => call.end(call.one(v)?, false),
        "last" => call.end(call.one(v)?, true),
        "concat" => call.concat(v),
        "array" => call
            .one(v)
            .map(|one| if one.is_array() { one.clone() } else { json!([one]) }),
        "createarray" => Ok(json!(v)),
        "createobject" => call.create_object(v),
        "union" => call.union(v),
        "intersection" => call.intersection(v),
        "range" => call.range(v),
        "skip" => call.part(v, false),
        "take" => call.part(v, true),
        "items" => call.items(call.one(v)?),
        "json" => serde_json::from_str(call.one_text(v)?).map_err(|error| call.wrong(&format!("JSON, but: {error}"))),
        "tryget" => call.two(v).map(|(of, at)| index(of, at).unwrap_or(Value::Null)),
        "string" => call.one(v).map(|one| json!(as_text(one))),
        "guid" => call.texts(v).map(|texts| json!(guid(&texts.join("-")))),
        "cidrsubnet" | "cidrhost" | "parsecidr" => cidr::call(&call, &lower, v),
        _ => match text::call(&call, &lower, v) {
            Some(done) => done,
            None => Err(invalid(format!(
                "The template function '{name}' is not supported here. Write it without."
            ))),
        },
    }
}

/// A name-based UUID (RFC 9562 §5.5): the beginning of a SHA-1 over namespace and name, marked as version 5.
fn guid(name: &str) -> String {
    let mut hash = sha1_smol::Sha1::from(GUID_NAMESPACE);
    hash.update(name.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.digest().bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    parts.join("-")
}

/// A text as it is, anything else as JSON.
pub(crate) fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}

/// A call that is being made; for complaints.
pub(crate) struct Call<'c> {
    name: &'c str,
    scope: &'c Scope,
    here: &'c Here<'c>,
}

impl Call<'_> {
    pub(crate) fn wrong(&self, wanted: &str) -> ArmError {
        invalid(format!(
            "The template function '{}' is used wrongly: it wants {wanted}.",
            self.name
        ))
    }

    pub(crate) fn one<'v>(&self, values: &'v [Value]) -> Result<&'v Value, ArmError> {
        match values {
            [one] => Ok(one),
            _ => Err(self.wrong("one argument")),
        }
    }

    pub(crate) fn one_text<'v>(&self, values: &'v [Value]) -> Result<&'v str, ArmError> {
        self.one(values)?.as_str().ok_or_else(|| self.wrong("a text"))
    }

    fn two<'v>(&self, values: &'v [Value]) -> Result<(&'v Value, &'v Value), ArmError> {
        match values {
            [a, b] => Ok((a, b)),
            _ => Err(self.wrong("two arguments")),
        }
    }

    pub(crate) fn texts<'v>(&self, values: &'v [Value]) -> Result<Vec<&'v str>, ArmError> {
        let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
        texts.ok_or_else(|| self.wrong("texts"))
    }

    pub(crate) fn whole(&self, value: &Value) -> Result<i64, ArmError> {
        value.as_i64().ok_or_else(|| self.wrong("a whole number"))
    }

    fn truth(&self, value: &Value) -> Result<bool, ArmError> {
        value.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    fn nothing(&self, values: &[Value], answer: Value) -> Result<Value, ArmError> {
        match values {
            [] => Ok(answer),
            _ => Err(self.wrong("no argument")),
        }
    }

    /// `and` and `or`: as far as needed.
    fn until(&self, arguments: &[Expression], wanted: bool) -> Result<Value, ArmError> {
        for argument in arguments {
            if self.truth(&self.scope.compute(argument, self.here)?)? == wanted {
                return Ok(json!(wanted));
            }
        }
        Ok(json!(!wanted))
    }

    /// `copyIndex([loop name], [offset])`
    fn copy_index(&self, values: &[Value]) -> Result<Value, ArmError> {
        let name = values.iter().find_map(Value::as_str);
        let offset = values.iter().find_map(Value::as_i64).unwrap_or(0);
        let mut loops = self.here.copies.iter().rev();
        let found = loops.find(|(known, _)| name.is_none_or(|name| name.eq_ignore_ascii_case(known)));
        match found {
            Some((_, at)) => Ok(json!(at.saturating_add(offset))),
            None => Err(self.wrong("a copy loop around it")),
        }
    }

    /// `reference(id or name, [api-version], ['Full'])`
    fn reference(&self, values: &[Value]) -> Result<Value, ArmError> {
        let Some(lookup) = self.here.lookup else {
            return Err(invalid(
                "The template function 'reference' is not expected at this location: only properties of resources and outputs may \
                 depend on what is deployed.",
            ));
        };
        let target = values
            .first()
            .and_then(Value::as_str)
            .ok_or_else(|| self.wrong("a resource's id or name"))?;
        let full = values
            .get(2)
            .and_then(Value::as_str)
            .is_some_and(|mode| mode.eq_ignore_ascii_case("Full"));
        Ok(referenced(lookup(target)?, full))
    }

    /// `resourceId([subscription], [group], type, names…)`: a type `A/b/c` has two names.
    fn resource_id(&self, values: &[Value]) -> Result<Value, ArmError> {
        let texts = self.texts(values)?;
        let Some(kind_at) = texts.iter().position(|text| text.contains('/')) else {
            return Err(self.wrong("a resource type such as Microsoft.Network/virtualHubs"));
        };
        let own = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let place = &self.scope.place;
        let (subscription, group) = match &texts[..kind_at] {
            [] => (own(&place.subscription, "subscriptionId"), own(&place.group, "name")),
            [group] => (own(&place.subscription, "subscriptionId"), (*group).to_owned()),
            [subscription, group] => ((*subscription).to_owned(), (*group).to_owned()),
            _ => return Err(self.wrong("at most a subscription and a group before the type")),
        };
        let prefix = format!("/subscriptions/{subscription}/resourceGroups/{group}");
        self.provider_id(&prefix, texts[kind_at], &texts[kind_at + 1..])
    }

    fn subscription_resource_id(&self, values: &[Value]) -> Result<Value, ArmError> {
        let texts = self.texts(values)?;
        let id = self.scope.place.subscription["id"].as_str().unwrap_or_default();
        match texts.as_slice() {
            [kind, names @ ..] => self.provider_id(id, kind, names),
            [] => Err(self.wrong("a resource type and names")),
        }
    }

    fn provider_id(&self, prefix: &str, kind: &str, names: &[&str]) -> Result<Value, ArmError> {
        let mut segments = kind.split('/');
        let mut id = format!("{prefix}/providers/{}", segments.next().unwrap_or_default());
        let kinds: Vec<&str> = segments.collect();
        if kinds.len() != names.len() {
            return Err(self.wrong(&format!(
                "{} names for the type {kind}, not {}",
                kinds.len(),
                names.len()
            )));
        }
        for (kind, name) in kinds.iter().zip(names) {
            id.push_str(&format!("/{kind}/{name}"));
        }
        Ok(json!(id))
    }

    fn to_bool(&self, value: &Value) -> Result<Value, ArmError> {
        match value {
            Value::Bool(_) => Ok(value.clone()),
            Value::Number(number) => Ok(json!(number.as_i64() != Some(0))),
            Value::String(text) if text.eq_ignore_ascii_case("true") || text == "1" => Ok(json!(true)),
            Value::String(text) if text.eq_ignore_ascii_case("false") || text == "0" => Ok(json!(false)),
            _ => Err(self.wrong("true or false")),
        }
    }

    fn to_int(&self, value: &Value) -> Result<Value, ArmError> {
        let number = match value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_i64(),
        };
        number
            .map(|number| json!(number))
            .ok_or_else(|| self.wrong("a whole number"))
    }

    fn compare(&self, values: &[Value], holds: fn(std::cmp::Ordering) -> bool) -> Result<Value, ArmError> {
        match self.two(values)? {
            (Value::String(a), Value::String(b)) => Ok(json!(holds(a.cmp(b)))),
            (a, b) => Ok(json!(holds(self.whole(a)?.cmp(&self.whole(b)?)))),
        }
    }

    fn arithmetic(&self, values: &[Value], operation: fn(i64, i64) -> Option<i64>) -> Result<Value, ArmError> {
        let (a, b) = self.two(values)?;
        let result = operation(self.whole(a)?, self.whole(b)?);
        result
            .map(|result| json!(result))
            .ok_or_else(|| self.wrong("numbers that have such a result"))
    }

    /// Of several numbers, or of one list of them.
    fn extreme(&self, values: &[Value], better: fn(i64, i64) -> i64) -> Result<Value, ArmError> {
        let list = match values {
            [Value::Array(items)] => items,
            several => several,
        };
        let numbers: Result<Vec<i64>, _> = list.iter().map(|value| self.whole(value)).collect();
        let best = numbers?.into_iter().reduce(better);
        best.map(|best| json!(best))
            .ok_or_else(|| self.wrong("at least one number"))
    }

    fn length(&self, value: &Value) -> Result<Value, ArmError> {
        match value {
            Value::String(text) => Ok(json!(text.chars().count())),
            Value::Array(items) => Ok(json!(items.len())),
            Value::Object(members) => Ok(json!(members.len())),
            other => Err(self.wrong(&format!("a text, a list or an object, not {}", kind_of(other)))),
        }
    }

    fn empty(&self, value: &Value) -> Result<Value, ArmError> {
        match value {
            Value::Null => Ok(json!(true)),
            value => Ok(json!(self.length(value)? == 0)),
        }
    }

    fn contains(&self, values: &[Value]) -> Result<Value, ArmError> {
        match self.two(values)? {
            (Value::String(text), part) => Ok(json!(text.contains(&as_text(part)))),
            (Value::Array(items), item) => Ok(json!(items.contains(item))),
            (Value::Object(members), Value::String(name)) => Ok(json!(find(members, name).is_some())),
            _ => Err(self.wrong("a text, a list or an object, and what may be in it")),
        }
    }

    fn end(&self, value: &Value, last: bool) -> Result<Value, ArmError> {
        match value {
            Value::String(text) => {
                let c = if last {
                    text.chars().next_back()
                } else {
                    text.chars().next()
                };
                Ok(json!(c.map(String::from).unwrap_or_default()))
            }
            Value::Array(items) => {
                let item = if last { items.last() } else { items.first() };
                Ok(item.cloned().unwrap_or(Value::Null))
            }
            _ => Err(self.wrong("a text or a list")),
        }
    }

    /// Texts to a text, lists to a list.
    fn concat(&self, values: &[Value]) -> Result<Value, ArmError> {
        if values.iter().any(Value::is_array) {
            let lists: Option<Vec<&Vec<Value>>> = values.iter().map(Value::as_array).collect();
            let lists = lists.ok_or_else(|| self.wrong("either only lists or only texts"))?;
            return Ok(lists.into_iter().flatten().cloned().collect());
        }
        Ok(json!(values.iter().map(as_text).collect::<String>()))
    }

    fn create_object(&self, values: &[Value]) -> Result<Value, ArmError> {
        let mut made = Map::new();
        for pair in values.chunks(2) {
            let [Value::String(name), value] = pair else {
                return Err(self.wrong("names and values in turn"));
            };
            made.insert(name.clone(), value.clone());
        }
        Ok(Value::Object(made))
    }

    fn union(&self, values: &[Value]) -> Result<Value, ArmError> {
        let mut values = values.iter();
        let first = values.next().ok_or_else(|| self.wrong("lists or objects"))?.clone();
        values.try_fold(first, |all, value| match (all, value) {
            (Value::Array(mut all), Value::Array(items)) => {
                for item in items {
                    if !all.contains(item) {
                        all.push(item.clone());
                    }
                }
                Ok(Value::Array(all))
            }
            (Value::Object(mut all), Value::Object(members)) => {
                all.extend(members.iter().map(|(name, member)| (name.clone(), member.clone())));
                Ok(Value::Object(all))
            }
            _ => Err(self.wrong("only lists or only objects")),
        })
    }

    fn intersection(&self, values: &[Value]) -> Result<Value, ArmError> {
        let mut values = values.iter();
        let first = values.next().ok_or_else(|| self.wrong("lists or objects"))?.clone();
        values.try_fold(first, |all, value| match (all, value) {
            (Value::Array(mut all), Value::Array(items)) => {
                all.retain(|item| items.contains(item));
                Ok(Value::Array(all))
            }
            (Value::Object(mut all), Value::Object(members)) => {
                all.retain(|name, member| members.get(name) == Some(member));
                Ok(Value::Object(all))
            }
            _ => Err(self.wrong("only lists or only objects")),
        })
    }

    fn range(&self, values: &[Value]) -> Result<Value, ArmError> {
        let (start, count) = self.two(values)?;
        let (start, count) = (self.whole(start)?, self.whole(count)?);
        // Azure's own bound.
        match ((0..=10_000).contains(&count), start.checked_add(count)) {
            (true, Some(end)) => Ok((start..end).map(|number| json!(number)).collect()),
            _ => Err(self.wrong("a start and a count of at most 10000")),
        }
    }

    /// `take` and `skip` of a text or a list.
    fn part(&self, values: &[Value], take: bool) -> Result<Value, ArmError> {
        let (of, count) = self.two(values)?;
        let count = usize::try_from(self.whole(count)?.max(0)).unwrap_or(usize::MAX);
        match of {
            Value::String(text) if take => Ok(json!(text.chars().take(count).collect::<String>())),
            Value::String(text) => Ok(json!(text.chars().skip(count).collect::<String>())),
            Value::Array(items) if take => Ok(items.iter().take(count).cloned().collect()),
            Value::Array(items) => Ok(items.iter().skip(count).cloned().collect()),
            _ => Err(self.wrong("a text or a list, and a number")),
        }
    }

    /// `[{"key", "value"}]`, in order of the keys.
    fn items(&self, value: &Value) -> Result<Value, ArmError> {
        let members = value.as_object().ok_or_else(|| self.wrong("an object"))?;
        let mut pairs: Vec<(&String, &Value)> = members.iter().collect();
        pairs.sort_by_key(|(name, _)| *name);
        Ok(pairs
            .into_iter()
            .map(|(key, value)| json!({ "key": key, "value": value }))
            .collect())
    }
}
