//! `routewright export`: the resources of a group as a file that `apply` takes: with their settings, and without what the server adds.

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::order::order;
use super::{Wanted, settings_path};
use crate::client::ClientError;
use crate::output;
use crate::resource::{Session, printed};
use crate::target::Target;

/// Types with members that the server computes, or that are children: these are resources of their own in the file. Top-level types
/// come with their children's types.
const TYPES: [Kind; 10] = [
    kind(
        "virtualNetworks",
        &["subnets", "virtualNetworkPeerings"],
        &["subnets", "virtualNetworkPeerings"],
    ),
    kind("publicIPAddresses", &["ipAddress", "ipConfiguration"], &[]),
    kind("routeTables", &["routes", "subnets"], &["routes"]),
    kind("networkSecurityGroups", &["subnets", "networkInterfaces"], &[]),
    kind("networkInterfaces", &["macAddress", "primary"], &[]),
    kind(
        "virtualHubs",
        &[
            "routingState",
            "virtualRouterAsn",
            "virtualRouterIps",
            "routeTable",
            "virtualHubRouteTableV2s",
            "bgpConnections",
            "ipConfigurations",
            "routeMaps",
        ],
        &["ipConfigurations", "routeMaps", "bgpConnections"],
    ),
    kind("virtualNetworkGateways", &[], &[]),
    kind("localNetworkGateways", &[], &[]),
    kind(
        "expressRouteCircuits",
        &[
            "serviceKey",
            "peerings",
            "authorizations",
            "circuitProvisioningState",
            "serviceProviderProvisioningState",
        ],
        &["peerings"],
    ),
    kind(
        "connections",
        &["connectionStatus", "egressBytesTransferred", "ingressBytesTransferred"],
        &[],
    ),
];

/// Members of children that the server computes.
const OF_CHILDREN: [&str; 14] = [
    "associatedInboundConnections",
    "associatedOutboundConnections",
    "ipConfigurations",
    "peeringState",
    "peeringSyncLevel",
    "remoteAddressSpace",
    "remoteVirtualNetworkAddressSpace",
    "connectionState",
    "privateIPAllocationMethod",
    "azureASN",
    "connections",
    "lastModifiedBy",
    "primaryAzurePort",
    "secondaryAzurePort",
];

/// Types with settings of ours.
const WITH_SETTINGS: [&str; 9] = [
    "virtualHubs",
    "bgpConnections",
    "routeMaps",
    "routeTables",
    "virtualNetworkGateways",
    "localNetworkGateways",
    "connections",
    "expressRouteCircuits",
    "peerings",
];

/// Settings that say of another only that it is set.
const SECRET_FLAGS: [(&str, &str); 2] = [("md5PasswordSet", "md5Password"), ("bfdKeySet", "bfdKey")];

struct Kind {
    name: &'static str,
    computed: &'static [&'static str],
    children: &'static [&'static str],
}

const fn kind(name: &'static str, computed: &'static [&'static str], children: &'static [&'static str]) -> Kind {
    Kind {
        name,
        computed,
        children,
    }
}

/// How a file is written.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    #[default]
    Yaml,
    Json,
}

/// Arguments of `routewright export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    target: Target,
    /// The resource group.
    #[arg(short = 'g', long)]
    resource_group: String,
    /// How to write the file.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(crate) async fn export(args: ExportArgs) -> Result<(), ClientError> {
    let session = Session::new(args.target)?;
    let id = session.group_id(&args.resource_group)?;
    let group = session.client.get(&id).await?;
    let mut file = vec![shown(&group["id"], without(&group, &["properties"]))];
    for mut one in order(of_group(&session, &id).await?, &BTreeSet::new()).map_err(ClientError::Usage)? {
        if let Some(settings) = settings(&session, &one.id).await? {
            one.body["settings"] = settings;
        }
        file.push(shown(&json!(one.id), one.body));
    }
    let file = json!({ "resources": file });
    let text = match args.format {
        Format::Json => format!("{file:#}\n"),
        Format::Yaml => serde_saphyr::to_string(&file)
            .map_err(|error| ClientError::Usage(format!("the file cannot be written: {error}")))?,
    };
    printed(output::print_text(&text))
}

/// The resources of a group (id), as files have them, children after their parents.
pub(super) async fn of_group(session: &Session, group: &str) -> Result<Vec<Wanted>, ClientError> {
    let mut found = Vec::new();
    for kind in &TYPES {
        let path = format!("{group}/providers/Microsoft.Network/{}", kind.name);
        for resource in session.list_all(&path).await? {
            let id = resource["id"].as_str().unwrap_or_default().to_owned();
            for child in kind.children {
                for child in session.list_all(&format!("{id}/{child}")).await? {
                    let id = child["id"].as_str().unwrap_or_default().to_owned();
                    found.push(Wanted {
                        id,
                        body: cleaned(&child, &OF_CHILDREN),
                        settings: None,
                    });
                }
            }
            found.push(Wanted {
                id,
                body: cleaned(&resource, kind.computed),
                settings: None,
            });
        }
    }
    Ok(found)
}

/// Settings of ours, if any were set. Passwords are never told: whoever applies the file elsewhere must write them into it.
async fn settings(session: &Session, id: &str) -> Result<Option<Value>, ClientError> {
    let has_settings = WITH_SETTINGS.iter().any(|kind| {
        let mut segments = id.rsplit('/').skip(1);
        segments.next().is_some_and(|last| last.eq_ignore_ascii_case(kind))
    });
    if !has_settings {
        return Ok(None);
    }
    let mut settings = session.client.get(&settings_path(id)).await?;
    let Some(members) = settings.as_object_mut() else {
        return Ok(None);
    };
    for (flag, secret) in SECRET_FLAGS {
        if members.remove(flag).is_some() {
            eprintln!("WARNING: {id} has a {secret}, which is not told: add it to the file's settings by hand.");
        }
    }
    Ok((!members.is_empty()).then_some(settings))
}

/// A resource without what the server adds, at any depth.
fn cleaned(resource: &Value, computed: &[&str]) -> Value {
    let mut body = without(resource, &[]);
    if let Some(properties) = body["properties"].as_object_mut() {
        properties.retain(|name, _| !computed.contains(&name.as_str()));
    }
    strip(&mut body);
    body
}

/// The members that files have.
fn without(resource: &Value, dropped: &[&str]) -> Value {
    let members = resource.as_object().into_iter().flatten();
    let kept = members.filter(|(name, _)| !["id", "name", "type", "etag", "kind"].contains(&name.as_str()));
    let kept = kept.filter(|(name, _)| !dropped.contains(&name.as_str()));
    Value::Object(kept.map(|(name, member)| (name.clone(), member.clone())).collect())
}

fn strip(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Object(members) => {
            members.retain(|name, _| !["provisioningState", "resourceGuid", "etag"].contains(&name.as_str()));
            members.values_mut().for_each(strip);
        }
        _ => {}
    }
}

/// In an order of its own, not that in which a client happened to write: two exports differ where the resources do.
fn shown(id: &Value, mut body: Value) -> Value {
    body.sort_all_objects();
    let mut shown = Map::from_iter([("id".to_owned(), id.clone())]);
    shown.extend(body.as_object().cloned().unwrap_or_default());
    Value::Object(shown)
}
