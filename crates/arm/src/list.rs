//! Lists: what is in them, and their pages.

use serde_json::{Value, json};

use crate::error::ArmError;
use crate::handle::not_allowed;
use crate::request::{Answer, Method, Request};
use crate::resource::Resource;
use crate::types;
use crate::world::World;

/// The generic list: top-level resources. Of `$filter`, `resourceGroup eq`, `resourceType eq` and `name eq` count.
pub(crate) fn list_all<'w>(world: &'w World<'_>, prefix: &str, filter: Option<&str>) -> Vec<&'w Resource> {
    let wanted = |name: &str| -> Option<String> {
        let filter = filter?;
        let start = filter.find(&format!("{name} eq '"))? + name.len() + 5;
        let text = filter.get(start..)?;
        Some(text.split('\'').next()?.to_ascii_lowercase())
    };
    let (group, kind, name) = (wanted("resourceGroup"), wanted("resourceType"), wanted("name"));
    let fits =
        |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|wanted| text.eq_ignore_ascii_case(wanted));
    let mut found = world.under(prefix);
    found.retain(|resource| {
        types::find(&resource.kind).is_some_and(types::is_tracked)
            && fits(&kind, &resource.kind)
            && fits(&name, resource.name())
            && fits(&group, resource.id.split('/').nth(4).unwrap_or_default())
    });
    found
}

/// A resource without its properties.
pub(crate) fn show_briefly(resource: &Resource) -> Value {
    let mut shown = json!({ "id": resource.id, "name": resource.name(), "type": resource.kind });
    for name in ["location", "tags", "sku"] {
        if !resource.body[name].is_null() {
            shown[name] = resource.body[name].clone();
        }
    }
    shown
}

/// Resources of one answer to a list; more come with `nextLink`. Azure's pages of `resources` are as long.
const PAGE: usize = 1000;

/// A list, from after the resource that `$skiptoken` names, with at most `$top` resources. `nextLink` begins with the path: the
/// server puts its own address before it. Its token is an id, so pages are cut from what may be read.
pub(crate) fn paged(
    world: &World<'_>,
    request: &Request,
    all: Vec<&Resource>,
    show: impl Fn(&Resource) -> Value,
) -> Result<Answer, ArmError> {
    if request.method != Method::Get {
        return Err(not_allowed(request));
    }
    let after = request.parameter("$skiptoken").map(from_hex).unwrap_or_default();
    let top = request
        .parameter("$top")
        .and_then(|text| text.parse().ok())
        .filter(|top| *top > 0);
    let top = top.unwrap_or(PAGE).min(PAGE);
    let mut rest = all
        .into_iter()
        .filter(|resource| after.is_empty() || resource.key().into_bytes() > after)
        .filter(|resource| world.check_readable(&resource.id).is_ok());
    let page: Vec<&Resource> = rest.by_ref().take(top).collect();
    let mut body = json!({ "value": page.iter().map(|resource| show(resource)).collect::<Value>() });
    if let (Some(last), Some(_)) = (page.last(), rest.next()) {
        let kept = request
            .query
            .iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("$skiptoken"));
        let mut link = format!("{}?", request.path);
        for (name, value) in kept {
            link.push_str(&format!("{name}={}&", percent_encoded(value)));
        }
        let token: String = last.key().bytes().map(|byte| format!("{byte:02x}")).collect();
        body["nextLink"] = json!(format!("{link}$skiptoken={token}"));
    }
    Ok(Answer::new(200, Some(body)))
}

/// Pairs of hexadecimal digits; what is none ends it.
fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map_while(|c| c.to_digit(16)).collect();
    digits
        .chunks_exact(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded = text.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect()
}
