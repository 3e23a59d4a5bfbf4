//! Files of `apply`: YAML documents or JSON, each one resource, a list of them, or an object with such a list.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::Wanted;

/// Members that a resource is stored with; the others are the server's.
const WRITTEN: [&str; 6] = ["location", "tags", "sku", "zones", "properties", "identity"];

/// Reads a file. `scope` is a group's id, or a subscription's: where resources with a type and a name are.
pub(super) fn parse(text: &str, scope: &str) -> Result<Vec<Wanted>, String> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| format!("the file is no YAML: {error}"))?;
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut keys = HashSet::new();
    for document in documents {
        for resource in resources(document)? {
            let one = read(resource, scope)?;
            if !keys.insert(one.key()) {
                return Err(format!("{} is in the file twice", one.id));
            }
            wanted.push(one);
        }
    }
    match wanted.is_empty() {
        true => Err("the file has no resources".to_owned()),
        false => Ok(wanted),
    }
}

fn resources(document: Value) -> Result<Vec<Value>, String> {
    match document {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => Ok(items),
        Value::Object(mut members) => {
            let template = members
                .get("$schema")
                .and_then(Value::as_str)
                .is_some_and(|schema| schema.contains("deploymentTemplate"));
            if template {
                return Err(
                    "the file is a deployment template: deploy it with `routewright deployment group create`"
                        .to_owned(),
                );
            }
            match members.remove("resources").or_else(|| members.remove("value")) {
                Some(Value::Array(items)) => Ok(items),
                Some(_) => Err("'resources' of the file must be a list".to_owned()),
                None => Ok(vec![Value::Object(members)]),
            }
        }
        _ => Err("the file must hold resources: objects with an id, or with type and name".to_owned()),
    }
}

fn read(resource: Value, scope: &str) -> Result<Wanted, String> {
    let Value::Object(resource) = resource else {
        return Err(format!("{resource} is no resource"));
    };
    let text = |name: &str| resource.get(name).and_then(Value::as_str);
    let id = match (text("id"), text("type"), text("name")) {
        (Some(id), _, _) if id.starts_with("/subscriptions/") => id.trim_end_matches('/').to_owned(),
        (None, Some(kind), Some(name)) => id_of(kind, name, scope)?,
        _ => {
            return Err(format!(
                "a resource needs an id, or a type and a name: {}",
                json!(resource)
            ));
        }
    };
    let mut body = Map::new();
    for name in WRITTEN {
        if let Some(member) = resource.get(name) {
            body.insert(name.to_owned(), member.clone());
        }
    }
    let settings = match resource.get("settings") {
        None | Some(Value::Null) => None,
        Some(settings @ Value::Object(_)) => Some(settings.clone()),
        Some(other) => return Err(format!("'settings' of {id} must be an object, not {other}")),
    };
    Ok(Wanted {
        id,
        body: Value::Object(body),
        settings,
    })
}

/// `Microsoft.Network/virtualHubs/bgpConnections` and `rs/nva1` make `…/virtualHubs/rs/bgpConnections/nva1`.
fn id_of(kind: &str, name: &str, scope: &str) -> Result<String, String> {
    if kind.eq_ignore_ascii_case("Microsoft.Resources/resourceGroups") {
        let subscription: Vec<&str> = scope.split('/').take(3).collect();
        return Ok(format!("{}/resourceGroups/{name}", subscription.join("/")));
    }
    if scope.split('/').count() < 5 {
        return Err(format!("{name} has no id: say its resource group with -g"));
    }
    let mut kinds = kind.split('/');
    let mut id = format!("{scope}/providers/{}", kinds.next().unwrap_or_default());
    let (kinds, names): (Vec<&str>, Vec<&str>) = (kinds.collect(), name.split('/').collect());
    if kinds.len() != names.len() {
        return Err(format!(
            "the type {kind} wants {} names, and '{name}' has {}",
            kinds.len(),
            names.len()
        ));
    }
    for (kind, name) in kinds.iter().zip(names) {
        id.push_str(&format!("/{kind}/{name}"));
    }
    Ok(id)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GROUP: &str = "/subscriptions/s/resourceGroups/g";

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = "type: Microsoft.Network/virtualHubs/bgpConnections\nname: rs/nva\nproperties: { peerIp: 10.0.0.4, peerAsn: 65001 }\n";
        let json = r#"{"value": [{"id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualHubs/rs/bgpConnections/nva",
            "name": "nva", "etag": "x", "properties": {"peerIp": "10.0.0.4", "peerAsn": 65001}}]}"#;
        let read = parse(yaml, GROUP).unwrap();
        assert_eq!(read, parse(json, GROUP).unwrap());
        assert_eq!(read[0].body["properties"]["peerAsn"], 65001);
    }

    #[test]
    fn several_documents_are_one_file() {
        let text = "type: Microsoft.Resources/resourceGroups\nname: g\nlocation: w\n---\n- type: A/b\n  name: c\n";
        let read = parse(text, GROUP).unwrap();
        assert_eq!(read[0].id, GROUP);
        assert_eq!(read[1].id, format!("{GROUP}/providers/A/b/c"));
    }

    #[test]
    fn what_is_no_resource_is_told() {
        for (text, words) in [
            ("", "no resources"),
            ("7", "must hold"),
            ("[7]", "no resource"),
            ("name: x", "needs an id"),
            ("{resources: 7}", "list"),
            ("[{id: /subscriptions/s/x}, {id: /SUBSCRIPTIONS/S/X}]", "needs an id"),
            ("[{id: /subscriptions/s/x}, {id: /subscriptions/S/X}]", "twice"),
            ("{type: A/b/c, name: d}", "names"),
            (
                "{\"$schema\": \"https://x/deploymentTemplate.json#\", resources: []}",
                "template",
            ),
            ("a: [", "YAML"),
        ] {
            let error = parse(text, GROUP).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(
            parse("{type: A/b, name: c}", "/subscriptions/s")
                .unwrap_err()
                .contains("-g")
        );
    }
}
