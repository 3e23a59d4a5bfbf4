//! What stands above the resources: subscriptions, their locations and providers, and resource groups.

use serde_json::{Map, Value, json};

use crate::error::ArmError;
use crate::metrics;
use crate::names;
use crate::read::without_nulls;
use crate::request::{Answer, Mint, OperationStyle};
use crate::resource::Resource;
use crate::route::{NAMESPACE, RESOURCES};
use crate::settings::Settings;
use crate::types;
use crate::world::World;

/// The type of resource groups.
pub(crate) const KIND: &str = "Microsoft.Resources/resourceGroups";

/// Locations that clients are told of when any is accepted.
const COMMON_LOCATIONS: [&str; 4] = ["eastus", "westus2", "westeurope", "northeurope"];

/// The api-versions that clients are told of; any is served.
const API_VERSIONS: [&str; 4] = ["2025-09-01", "2024-05-01", "2023-11-01", "2022-01-01"];

/// The namespaces of what is served here.
const PROVIDERS: [&str; 4] = [NAMESPACE, RESOURCES, metrics::NAMESPACE, "Microsoft.Authorization"];

pub(crate) fn id_of(subscription: &str, group: &str) -> String {
    format!("/subscriptions/{subscription}/resourceGroups/{group}")
}

pub(crate) fn key_of(subscription: &str, group: &str) -> String {
    id_of(subscription, group).to_ascii_lowercase()
}

/// The group, or 404.
pub(crate) fn find<'w>(world: &'w World<'_>, subscription: &str, group: &str) -> Result<&'w Resource, ArmError> {
    world
        .get(&key_of(subscription, group))
        .ok_or_else(|| ArmError::group_not_found(group))
}

/// All groups of a subscription.
pub(crate) fn list<'w>(world: &'w World<'_>, subscription: &str) -> Vec<&'w Resource> {
    let mut groups = world.under(&key_of(subscription, ""));
    groups.retain(|resource| resource.kind == KIND);
    groups
}

/// A group as clients see it: without an etag, in a shape of its own.
pub(crate) fn show(group: &Resource) -> Value {
    let mut shown = json!({ "id": group.id, "name": group.name(), "type": KIND });
    if let (Some(shown), Some(body)) = (shown.as_object_mut(), group.body.as_object()) {
        shown.extend(body.iter().map(|(name, value)| (name.clone(), value.clone())));
        shown.insert("properties".to_owned(), json!({ "provisioningState": "Succeeded" }));
    }
    shown
}

/// Creates or changes a group.
pub(crate) fn put(
    world: &mut World<'_>,
    subscription: &str,
    name: &str,
    body: Option<&Value>,
    mint: &mut dyn Mint,
) -> Result<Answer, ArmError> {
    names::check_group_name(name)?;
    let body = object(body)?;
    let location = check_location(world.settings, &body, "LocationNotAvailableForResourceGroup", name)?;
    let existing = world.get(&key_of(subscription, name)).cloned();
    if let Some(existing) = &existing
        && existing.location() != location
    {
        return Err(ArmError::new(
            409,
            "InvalidResourceGroupLocation",
            format!(
                "Invalid resource group location '{location}'. The resource group already exists in location '{}'. Use that, or \
                 another name.",
                existing.location()
            ),
        ));
    }
    let mut stored = Map::new();
    stored.insert("location".to_owned(), json!(location));
    if let Some(tags) = body.get("tags") {
        stored.insert("tags".to_owned(), Value::Object(names::check_tags(tags)?));
    }
    let id = existing
        .as_ref()
        .map_or_else(|| id_of(subscription, name), |group| group.id.clone());
    world.store(&id, KIND, Value::Object(stored), mint);
    let status = if existing.is_some() { 200 } else { 201 };
    let shown = find(world, subscription, name).map(show)?;
    Ok(Answer::new(status, Some(shown)).in_location(&location))
}

/// Changes a group's tags.
pub(crate) fn patch(
    world: &mut World<'_>,
    subscription: &str,
    name: &str,
    body: Option<&Value>,
    mint: &mut dyn Mint,
) -> Result<Answer, ArmError> {
    let group = find(world, subscription, name)?.clone();
    let body = object(body)?;
    let mut stored = group.body.clone();
    if let Some(tags) = body.get("tags") {
        stored["tags"] = Value::Object(names::check_tags(tags)?);
    }
    world.store(&group.id, KIND, stored, mint);
    let shown = find(world, subscription, name).map(show)?;
    Ok(Answer::new(200, Some(shown)).in_location(group.location()))
}

/// Deletes a group with all that is in it, unless something outside needs it.
pub(crate) fn delete(
    world: &mut World<'_>,
    subscription: &str,
    name: &str,
    mint: &mut dyn Mint,
) -> Result<Answer, ArmError> {
    let group = find(world, subscription, name)?.clone();
    types::remove(world, &group.key(), mint)?;
    let mut answer = Answer::new(202, None).in_location(group.location());
    answer.operation = Some(OperationStyle::DeleteGroup);
    Ok(answer)
}

/// One subscription as clients see it.
pub(crate) fn show_subscription(settings: &Settings, subscription: &str) -> Value {
    json!({
        "id": format!("/subscriptions/{subscription}"),
        "subscriptionId": subscription,
        "displayName": "Routewright",
        "state": "Enabled",
        "tenantId": settings.tenant(),
        "managedByTenants": [],
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off"
        },
        "authorizationSource": "RoleBased",
    })
}

/// The one tenant as clients see it.
pub(crate) fn show_tenant(settings: &Settings) -> Value {
    let tenant = settings.tenant();
    json!({
        "id": format!("/tenants/{tenant}"),
        "tenantId": tenant,
        "displayName": "Routewright",
        "tenantCategory": "Home",
        "countryCode": "",
        "domains": [],
    })
}

/// The locations of a subscription.
pub(crate) fn show_locations(settings: &Settings, subscription: &str) -> Value {
    let locations = locations(settings);
    let shown: Vec<Value> = locations
        .iter()
        .map(|name| {
            json!({
                "id": format!("/subscriptions/{subscription}/locations/{name}"),
                "name": name,
                "displayName": name,
                "regionalDisplayName": name,
                "type": "Region",
                "metadata": { "regionType": "Physical", "regionCategory": "Recommended" },
            })
        })
        .collect();
    json!({ "value": shown })
}

/// The provider's registration, from which clients choose api-versions.
pub(crate) fn show_provider(settings: &Settings, subscription: &str, namespace: &str) -> Option<Value> {
    let namespace = PROVIDERS
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(namespace))?;
    let kinds: Vec<&str> = match namespace {
        NAMESPACE => types::names_without_namespace().collect(),
        RESOURCES => vec!["resourceGroups", "deployments", "subscriptions", "tenants"],
        metrics::NAMESPACE => vec!["metrics", "metricDefinitions", "eventTypes"],
        _ => vec!["roleAssignments", "roleDefinitions"],
    };
    let kinds: Vec<Value> = kinds
        .iter()
        .map(|kind| {
            json!({
                "resourceType": kind,
                "locations": locations(settings),
                "apiVersions": API_VERSIONS,
                "defaultApiVersion": API_VERSIONS[0],
                "capabilities": "SupportsTags, SupportsLocation",
            })
        })
        .collect();
    Some(json!({
        "id": format!("/subscriptions/{subscription}/providers/{namespace}"),
        "namespace": namespace,
        "registrationState": "Registered",
        "registrationPolicy": "RegistrationRequired",
        "resourceTypes": kinds,
    }))
}

/// All providers.
pub(crate) fn show_providers(settings: &Settings, subscription: &str) -> Value {
    let shown: Vec<Value> = PROVIDERS
        .iter()
        .filter_map(|namespace| show_provider(settings, subscription, namespace))
        .collect();
    json!({ "value": shown })
}

fn locations(settings: &Settings) -> Vec<String> {
    match settings.locations.is_empty() {
        true => COMMON_LOCATIONS.map(str::to_owned).to_vec(),
        false => settings.locations.clone(),
    }
}

/// The location that a body names, normalised; required, and one that is offered.
pub(crate) fn check_location(
    settings: &Settings,
    body: &Map<String, Value>,
    code: &str,
    what: &str,
) -> Result<String, ArmError> {
    let text = match body.get("location") {
        None => "",
        Some(Value::String(text)) => text.as_str(),
        Some(_) => return Err(ArmError::bad("InvalidRequestFormat", "location must be a text.").at("location")),
    };
    let location = names::normal_location(text);
    if location.is_empty() {
        return Err(ArmError::bad(
            "LocationRequired",
            format!("The location property is required for '{what}'. Give one, for example \"westeurope\"."),
        )
        .at("location"));
    }
    let offered = |known: &String| names::normal_location(known) == location;
    if settings.locations.is_empty() || settings.locations.iter().any(offered) {
        return Ok(location);
    }
    Err(ArmError::bad(
        code,
        format!(
            "The provided location '{text}' is not available for '{what}'. Choose one of: {}.",
            settings.locations.join(", ")
        ),
    )
    .at("location"))
}

fn object(body: Option<&Value>) -> Result<Map<String, Value>, ArmError> {
    match body.cloned().map(without_nulls) {
        Some(Value::Object(body)) => Ok(body),
        _ => Err(ArmError::bad(
            "InvalidRequestContent",
            "The request content must be a JSON object.",
        )),
    }
}
