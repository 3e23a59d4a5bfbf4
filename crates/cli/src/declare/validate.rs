//! What the server would say to a file, without anything being done: what would be written of a group is a template that is validated.

use serde_json::{Value, json};

use super::Wanted;
use super::order::group_of;
use crate::client::ClientError;
use crate::resource::Session;

/// The server's own bound on a template.
const MAX_RESOURCES: usize = 800;
/// Which one it is says nothing here.
const API_VERSION: &str = "2024-05-01";

/// Asks about what would be written, in its order; the first refusal ends it. What cannot be asked about is told.
pub(super) async fn check(session: &Session, writes: &[Wanted]) -> Result<(), ClientError> {
    let mut groups: Vec<String> = writes.iter().filter_map(|one| group_of(&one.key())).collect();
    groups.sort();
    groups.dedup();
    for group in groups {
        let resources: Vec<Value> = resources_of(writes, &group);
        if resources.is_empty() {
            continue;
        }
        let is_there = super::found(session.client.get(&group).await)?.is_some();
        if !is_there || resources.len() > MAX_RESOURCES {
            eprintln!(
                "The server was not asked whether it would take what is in {group}: the group is not there, or it is too much."
            );
            continue;
        }
        let path = format!("{group}/providers/Microsoft.Resources/deployments/dry-run/validate");
        let template = json!({
            "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "contentVersion": "1.0.0.0",
            "resources": resources,
        });
        let body = json!({ "properties": { "mode": "Incremental", "template": template } });
        session.client.post_body(&path, &body).await?;
    }
    Ok(())
}

/// Those of a group, each after the one before: the file's order is the order in which they would be written.
fn resources_of(writes: &[Wanted], group: &str) -> Vec<Value> {
    let mut resources: Vec<Value> = Vec::new();
    let mut before: Option<&str> = None;
    for one in writes
        .iter()
        .filter(|one| group_of(&one.key()).as_deref() == Some(group))
    {
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
        let resources = resources_of(&writes, "/subscriptions/s/resourcegroups/g");
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
