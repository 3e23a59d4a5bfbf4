//! What the server would say to a file, without anything being done: what would be written of a group is a template that is validated.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Wanted;
use super::order::{before_each, group_of};
use crate::client::ClientError;
use crate::resource::Session;

/// The server's own bound on a template.
const MAX_RESOURCES: usize = 800;
/// Which one it is says nothing here.
const API_VERSION: &str = "2024-05-01";
/// What whoever asks must be allowed to.
const VALIDATE: &str = "Microsoft.Resources/deployments/validate/action";

/// Asks about what would be written, in its order; the first refusal ends it. What cannot be asked about is told. `lost` as in `order`.
pub(super) async fn check(session: &Session, writes: &[Wanted], lost: &BTreeSet<String>) -> Result<(), ClientError> {
    let elsewhere = waiting_for_other_groups(writes, lost);
    let groups: BTreeSet<String> = writes.iter().filter_map(|one| group_of(&one.key())).collect();
    for group in groups {
        let here = |at: &usize| group_of(&writes[*at].key()).as_ref() == Some(&group);
        let (waiting, asked): (Vec<usize>, Vec<usize>) =
            (0..writes.len()).filter(here).partition(|at| elsewhere.contains(at));
        if !waiting.is_empty() {
            let why = "they need what would be written in other groups first";
            not_asked(&format!("{} of the resources in {group}: {why}", waiting.len()));
        }
        let resources = resources_of(asked.into_iter().map(|at| &writes[at]));
        if resources.is_empty() {
            continue;
        }
        let is_there = super::found(session.client.get(&group).await)?.is_some();
        if !is_there || resources.len() > MAX_RESOURCES {
            not_asked(&format!(
                "what is in {group}: the group is not there, or it is too much"
            ));
            continue;
        }
        let path = format!("{group}/providers/Microsoft.Resources/deployments/dry-run/validate");
        let template = json!({
            "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "contentVersion": "1.0.0.0",
            "resources": resources,
        });
        let body = json!({ "properties": { "mode": "Incremental", "template": template } });
        match session.client.post_body(&path, &body).await {
            Err(error) if may_not_ask(&error) => not_asked(&format!("what is in {group}: your roles lack {VALIDATE}")),
            answer => answer.map(|_| ())?,
        }
    }
    Ok(())
}

fn not_asked(what: &str) {
    eprintln!("The server was not asked whether it would take {what}.");
}

/// Whoever may only read may see what would change. That the asker may not write what the file has is an answer.
fn may_not_ask(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { status: 403, message, .. } if message.contains(VALIDATE))
}

/// The places of what cannot be looked at within its group alone: it waits for a write in another one, or for something that does.
fn waiting_for_other_groups(writes: &[Wanted], lost: &BTreeSet<String>) -> BTreeSet<usize> {
    let groups: Vec<Option<String>> = writes.iter().map(|one| group_of(&one.key())).collect();
    let mut waiting = BTreeSet::new();
    // In their order, so that what comes before one is known.
    for (at, before) in before_each(writes, lost).iter().enumerate() {
        let waits_for = |other: &usize| groups[*other] != groups[at] || waiting.contains(other);
        if before.iter().any(waits_for) {
            waiting.insert(at);
        }
    }
    waiting
}

/// Each after the one before: their order is that in which they would be written.
fn resources_of<'w>(writes: impl Iterator<Item = &'w Wanted>) -> Vec<Value> {
    let mut resources: Vec<Value> = Vec::new();
    let mut before: Option<&str> = None;
    for one in writes {
        let Some((kind, name)) = kind_and_name(&one.id) else {
            continue;
        };
        let mut resource = literal(&one.body);
        resource["type"] = json!(kind);
        resource["name"] = json!(name);
        resource["apiVersion"] = json!(API_VERSION);
        resource["dependsOn"] = before.into_iter().map(Value::from).collect();
        resources.push(resource);
        before = Some(&one.id);
    }
    resources
}

/// `…/providers/Microsoft.Network/virtualHubs/rs/bgpConnections/nva` is `Microsoft.Network/virtualHubs/bgpConnections` and `rs/nva`.
/// A group is neither.
fn kind_and_name(id: &str) -> Option<(String, String)> {
    let mut segments = id.split('/').skip(6);
    let mut kind = segments.next()?.to_owned();
    let mut names = Vec::new();
    while let (Some(segment), Some(name)) = (segments.next(), segments.next()) {
        kind = format!("{kind}/{segment}");
        names.push(name);
    }
    (!names.is_empty()).then(|| (kind, names.join("/")))
}

/// In a template a text that begins with a bracket is an expression, unless it begins with two.
fn literal(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with('[') => json!(format!("[{text}")),
        Value::Array(items) => items.iter().map(literal).collect(),
        Value::Object(members) => members.iter().map(|(name, one)| (name.clone(), literal(one))).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_ask_is_told_apart_from_who_may_not_write() {
        for (action, expected) in [(VALIDATE, true), ("Microsoft.Network/routeTables/write", false)] {
            let refused = ClientError::Refused {
                status: 403,
                code: "AuthorizationFailed".to_owned(),
                message: format!(
                    "The client 'c' does not have authorization to perform action '{action}' over scope '/s'."
                ),
            };
            assert_eq!(may_not_ask(&refused), expected, "{action}");
        }
    }

    #[test]
    fn what_waits_for_another_group_is_left_out_with_what_waits_for_it() {
        let one = |path: &str, refers_to: &str| Wanted {
            id: format!("/subscriptions/s/resourceGroups/{path}"),
            body: json!({ "properties": { "x": { "id": format!("/subscriptions/s/resourceGroups/{refers_to}") } } }),
            settings: None,
        };
        let writes = [
            one("a/providers/N/nets/n", ""),
            one("b/providers/N/tables/t", "b"),
            one("b/providers/N/nics/n", "A/providers/N/nets/n/subnets/s"),
            one("b/providers/N/hosts/h", "b/providers/N/nics/n"),
        ];
        let waiting = waiting_for_other_groups(&writes, &BTreeSet::new());
        assert_eq!(waiting, BTreeSet::from([2, 3]));
    }

    #[test]
    fn a_file_becomes_a_template_in_its_order_and_texts_stay_texts() {
        let group = "/subscriptions/s/resourceGroups/G";
        let hub = format!("{group}/providers/Microsoft.Network/virtualHubs/rs");
        let one = |id: &str, body: Value| Wanted {
            id: id.to_owned(),
            body,
            settings: None,
        };
        let writes = [
            one(group, json!({ "location": "westeurope" })),
            one(&hub, json!({ "tags": { "note": "[sic]" } })),
            one(
                &format!("{hub}/bgpConnections/nva"),
                json!({ "properties": { "peerAsn": 65001 } }),
            ),
        ];
        let resources = resources_of(writes.iter());
        assert_eq!(
            resources,
            [
                json!({ "tags": { "note": "[[sic]" }, "type": "Microsoft.Network/virtualHubs", "name": "rs",
                    "apiVersion": API_VERSION, "dependsOn": [] }),
                json!({ "properties": { "peerAsn": 65001 }, "type": "Microsoft.Network/virtualHubs/bgpConnections",
                    "name": "rs/nva", "apiVersion": API_VERSION, "dependsOn": [hub] }),
            ]
        );
    }
}
