//! Functions of template expressions that make texts.

use serde_json::{Value, json};

use super::functions::{Call, as_text};
use crate::error::ArmError;

/// Calls a function of texts; `None` if there is none with this name (lower case).
pub(crate) fn call(call: &Call<'_>, name: &str, v: &[Value]) -> Option<Result<Value, ArmError>> {
    let done = match name {
        "tolower" => call.one_text(v).map(|text| json!(text.to_lowercase())),
        "toupper" => call.one_text(v).map(|text| json!(text.to_uppercase())),
        "trim" => call.one_text(v).map(|text| json!(text.trim())),
        "uniquestring" => call.texts(v).map(|texts| json!(unique(&texts.join("-")))),
        "format" => format(call, v),
        "startswith" => two(call, v).map(|(a, b)| json!(a.to_lowercase().starts_with(&b.to_lowercase()))),
        "endswith" => two(call, v).map(|(a, b)| json!(a.to_lowercase().ends_with(&b.to_lowercase()))),
        "indexof" => two(call, v).map(|(a, b)| place(a, a.to_lowercase().find(&b.to_lowercase()))),
        "lastindexof" => two(call, v).map(|(a, b)| place(a, a.to_lowercase().rfind(&b.to_lowercase()))),
        "replace" => match v {
            [Value::String(text), Value::String(old), Value::String(new)] if !old.is_empty() => {
                Ok(json!(text.replace(old.as_str(), new)))
            }
            _ => Err(call.wrong("a text, what to replace in it, and by what")),
        },
        "split" => split(call, v),
        "join" => match v {
            [Value::Array(items), Value::String(by)] => {
                Ok(json!(items.iter().map(as_text).collect::<Vec<_>>().join(by)))
            }
            _ => Err(call.wrong("a list and a text between its members")),
        },
        "substring" => substring(call, v),
        "padleft" => pad(call, v),
        _ => return None,
    };
    Some(done)
}

fn two<'v>(call: &Call<'_>, values: &'v [Value]) -> Result<(&'v str, &'v str), ArmError> {
    match values {
        [Value::String(a), Value::String(b)] => Ok((a, b)),
        _ => Err(call.wrong("two texts")),
    }
}

/// A place in characters; -1 for none.
fn place(text: &str, found: Option<usize>) -> Value {
    match found.and_then(|at| text.get(..at)) {
        Some(before) => json!(before.chars().count()),
        None => json!(-1),
    }
}

/// 13 letters and digits that depend on the text alone. They are not those that Azure would make, whose way is not public.
fn unique(text: &str) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    // FNV-1a, 64 bits.
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut made = String::new();
    for _ in 0..13 {
        made.push(char::from(LETTERS[(hash % 32) as usize]));
        hash /= 32;
    }
    made
}

/// `format('{0}-{1}', …)`; formats after a colon, such as `{0:D2}`, pad whole numbers with zeros.
fn format(call: &Call<'_>, values: &[Value]) -> Result<Value, ArmError> {
    let Some((Value::String(pattern), values)) = values.split_first() else {
        return Err(call.wrong("a text with {0} and such, and what to put there"));
    };
    let mut made = String::new();
    let mut rest = pattern.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        made.push_str(&rest[..at]);
        let sign = &rest[at..at + 1];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(sign) {
            made.push_str(sign);
            rest = after;
            continue;
        }
        let inside = rest.split_once('}').filter(|_| sign == "{");
        let (inside, after) = inside.ok_or_else(|| call.wrong("braces in pairs"))?;
        rest = after;
        let (number, style) = inside.split_once(':').unwrap_or((inside, ""));
        let value = number.trim().parse::<usize>().ok().and_then(|at| values.get(at));
        let value = value.ok_or_else(|| call.wrong(&format!("a value for {{{inside}}}")))?;
        made.push_str(&styled(call, value, style)?);
    }
    made.push_str(rest);
    Ok(json!(made))
}

fn styled(call: &Call<'_>, value: &Value, style: &str) -> Result<String, ArmError> {
    if style.is_empty() {
        return Ok(as_text(value));
    }
    let digits = style
        .strip_prefix(['D', 'd'])
        .and_then(|digits| digits.parse::<usize>().ok());
    match (digits, value.as_i64()) {
        (Some(digits), Some(number)) if digits <= 20 => Ok(format!("{number:0digits$}")),
        _ => Err(call.wrong(&format!("formats such as D2 for whole numbers, not '{style}'"))),
    }
}

fn split(call: &Call<'_>, values: &[Value]) -> Result<Value, ArmError> {
    let (text, by) = match values {
        [Value::String(text), Value::String(by)] => (text, vec![by.as_str()]),
        [Value::String(text), Value::Array(several)] => (text, call.texts(several)?),
        _ => return Err(call.wrong("a text and what stands between its parts")),
    };
    let mut parts = vec![text.as_str()];
    for by in by.into_iter().filter(|by| !by.is_empty()) {
        parts = parts.into_iter().flat_map(|part| part.split(by)).collect();
    }
    Ok(json!(parts))
}

fn substring(call: &Call<'_>, values: &[Value]) -> Result<Value, ArmError> {
    let wrong = || call.wrong("a text, a start and perhaps a length inside it");
    let (text, numbers) = match values {
        [Value::String(text), numbers @ ..] if (1..=2).contains(&numbers.len()) => (text, numbers),
        _ => return Err(wrong()),
    };
    let number = |at: usize| {
        numbers
            .get(at)
            .map(|value| value.as_u64().and_then(|n| usize::try_from(n).ok()))
    };
    let characters = text.chars().count();
    let start = number(0)
        .flatten()
        .filter(|start| *start <= characters)
        .ok_or_else(wrong)?;
    let length = match number(1) {
        None => characters - start,
        Some(length) => length
            .filter(|length| *length <= characters - start)
            .ok_or_else(wrong)?,
    };
    Ok(json!(text.chars().skip(start).take(length).collect::<String>()))
}

fn pad(call: &Call<'_>, values: &[Value]) -> Result<Value, ArmError> {
    let (value, width, with) = match values {
        [value, width] => (value, width, " "),
        [value, width, Value::String(with)] => (value, width, with.as_str()),
        _ => return Err(call.wrong("a value, a width and perhaps a character")),
    };
    let text = as_text(value);
    // Wider ones make no sense in a resource.
    let width = usize::try_from(call.whole(width)?).ok().filter(|width| *width <= 1024);
    let width = width.ok_or_else(|| call.wrong("a width of at most 1024"))?;
    let missing = width.saturating_sub(text.chars().count());
    Ok(json!(format!(
        "{}{text}",
        with.chars().take(1).collect::<String>().repeat(missing)
    )))
}
