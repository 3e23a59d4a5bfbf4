//! One request: what is answered and what changes.
//!
//! Here are the rules that all types share: api-version, subscription, group and parent are there, names and locations are
//! proper, etags match; tags and deletes. What a type adds is in `types`, lists are in `list`.

use serde_json::{Value, json};

use crate::deployments;
use crate::error::ArmError;
use crate::group;
use crate::id::ResourceId;
use crate::limits;
use crate::list::{list_all, paged, show_briefly};
use crate::metrics;
use crate::names;
use crate::request::{Answer, Ask, May, Method, Mint, OperationStyle, Outcome, Request};
use crate::resource::{Resource, Resources};
use crate::route::{self, InGroup, InSubscription, NAMESPACE, Target};
use crate::settings::Settings;
use crate::types::{self, Draft, ResourceType};
use crate::world::World;

/// Handles one request against the resources there are.
pub fn handle(
    resources: &Resources,
    settings: &Settings,
    request: &Request,
    may: May<'_>,
    mint: &mut dyn Mint,
) -> Result<Outcome, ArmError> {
    names::check_api_version(&request.query)?;
    let mut world = World::shown_to(may, resources, settings);
    let answered = match route::parse(&request.path, request.method == Method::Post)? {
        Target::Tenants => only_get(request, || json!({ "value": [group::show_tenant(settings)] })),
        Target::Subscriptions => only_get(request, || {
            let mut all = settings.subscriptions();
            all.retain(|id| (may.read)(&format!("/subscriptions/{id}")).is_ok());
            json!({ "value": all.iter().map(|id| group::show_subscription(settings, id)).collect::<Value>() })
        }),
        Target::Subscription(subscription, inside) => {
            let known = settings.subscriptions();
            let Some(subscription) = known.iter().find(|known| known.eq_ignore_ascii_case(subscription)) else {
                return Err(ArmError::subscription_not_found(subscription));
            };
            match inside {
                InSubscription::InGroup(group, InGroup::Action(kind, names, action)) => {
                    return ask(&world, subscription, group, kind, &names, action, request);
                }
                InSubscription::InGroup(group, InGroup::Insights(kind, names, what)) => {
                    return insights(&world, subscription, group, kind, &names, what, request);
                }
                inside => in_subscription(&mut world, subscription, inside, request, mint),
            }
        }
    };
    let answer = answered?;
    Ok(Outcome::Done {
        changes: world.into_changes(mint),
        answer,
    })
}

fn in_subscription(
    world: &mut World<'_>,
    subscription: &str,
    inside: InSubscription<'_>,
    request: &Request,
    mint: &mut dyn Mint,
) -> Result<Answer, ArmError> {
    let settings = world.settings;
    match inside {
        InSubscription::Itself => only_get(request, || group::show_subscription(settings, subscription)),
        InSubscription::Locations => only_get(request, || group::show_locations(settings, subscription)),
        InSubscription::Providers => only_get(request, || group::show_providers(settings, subscription)),
        InSubscription::Provider(namespace) => match group::show_provider(settings, subscription, namespace) {
            Some(shown) if matches!(request.method, Method::Get | Method::Post) => Ok(Answer::new(200, Some(shown))),
            Some(_) => Err(not_allowed(request)),
            None => Err(ArmError::new(
                404,
                "InvalidResourceNamespace",
                format!("The resource namespace '{namespace}' is invalid here. Use {NAMESPACE}."),
            )),
        },
        InSubscription::Resources(None) => {
            let prefix = group::key_of(subscription, "");
            paged(
                world,
                request,
                list_all(world, &prefix, request.parameter("$filter")),
                show_briefly,
            )
        }
        InSubscription::Resources(Some(name)) => {
            let prefix = format!("{}/", group::find(world, subscription, name)?.key());
            paged(
                world,
                request,
                list_all(world, &prefix, request.parameter("$filter")),
                show_briefly,
            )
        }
        InSubscription::Groups => paged(world, request, group::list(world, subscription), group::show),
        InSubscription::Group(name) => on_group(world, subscription, name, request, mint),
        InSubscription::All(kind) => {
            let prefix = group::key_of(subscription, "");
            paged(world, request, world.of_kind(kind.kind(), &prefix), |one| {
                types::show(world, one)
            })
        }
        InSubscription::InGroup(name, InGroup::List(kind, names)) => {
            let prefix = match locate(world, subscription, name, kind, &names)? {
                Some(parent) => format!("{}/", parent.key()),
                None => format!("{}/", group::key_of(subscription, name)),
            };
            paged(world, request, world.of_kind(kind.kind(), &prefix), |one| {
                types::show(world, one)
            })
        }
        InSubscription::InGroup(name, InGroup::Resource(kind, names)) => {
            on_resource(world, subscription, name, kind, &names, request, mint)
        }
        InSubscription::InGroup(_, InGroup::Action(..) | InGroup::Insights(..)) => Err(not_allowed(request)),
        InSubscription::Deployments(name, inside) => {
            deployments::on_deployments(world, subscription, name, inside, request, mint)
        }
    }
}

fn on_group(
    world: &mut World<'_>,
    subscription: &str,
    name: &str,
    request: &Request,
    mint: &mut dyn Mint,
) -> Result<Answer, ArmError> {
    match request.method {
        Method::Get => group::find(world, subscription, name).map(|group| Answer::new(200, Some(group::show(group)))),
        Method::Head => group::find(world, subscription, name).map(|_| Answer::new(204, None)),
        Method::Put => group::put(world, subscription, name, request.body.as_ref(), mint),
        Method::Patch => group::patch(world, subscription, name, request.body.as_ref(), mint),
        Method::Delete => group::delete(world, subscription, name, mint),
        Method::Post => Err(not_allowed(request)),
    }
}

fn on_resource(
    world: &mut World<'_>,
    subscription: &str,
    group: &str,
    kind: &'static dyn ResourceType,
    names: &[&str],
    request: &Request,
    mint: &mut dyn Mint,
) -> Result<Answer, ArmError> {
    let (name, before) = names
        .split_last()
        .ok_or_else(|| ArmError::no_such_type(&request.path))?;
    if request.method == Method::Delete && !exists(world, subscription, group, kind, names) {
        return Ok(Answer::new(204, None));
    }
    let parent = locate(world, subscription, group, kind, before)?;
    let id = match &parent {
        Some(parent) => parent.child(types::segment(kind.kind()), name),
        None => {
            let group = &self::group::find(world, subscription, group)?.id;
            resource_id(&format!("{group}/providers/{}/{name}", kind.kind()))?
        }
    };
    let existing = world.get(&id.key()).cloned();
    let missing = || ArmError::not_found(&id, kind.kind());
    match request.method {
        Method::Get => {
            let resource = existing.ok_or_else(missing)?;
            Ok(Answer::new(200, Some(types::show(world, &resource))))
        }
        Method::Head => existing.map(|_| Answer::new(204, None)).ok_or_else(missing),
        Method::Put => {
            check_preconditions(request, existing.as_ref())?;
            put(world, kind, id, request.body.clone().unwrap_or(Value::Null), mint)
        }
        Method::Patch => {
            let existing = existing.ok_or_else(missing)?;
            check_preconditions(request, Some(&existing))?;
            patch(world, kind, existing, request, mint)
        }
        Method::Delete => {
            let existing = existing.ok_or_else(missing)?;
            check_preconditions(request, Some(&existing))?;
            delete(world, kind, &existing, mint)
        }
        Method::Post => Err(not_allowed(request)),
    }
}

/// Creates or replaces a resource; whether its parent is there was looked at before.
pub(crate) fn put(
    world: &mut World<'_>,
    kind: &'static dyn ResourceType,
    id: ResourceId,
    body: Value,
    mint: &mut dyn Mint,
) -> Result<Answer, ArmError> {
    let existing = world.get(&id.key()).cloned();
    if existing.is_none() {
        names::check_resource_name(id.name())?;
    }
    let id = match &existing {
        Some(existing) => resource_id(&existing.id)?,
        None => id,
    };
    let status = if existing.is_some() { 200 } else { 201 };
    let mut draft = Draft::new(kind, id.clone(), existing, body)?;
    if types::is_tracked(kind) {
        place(world.settings, kind, &mut draft)?;
    }
    kind.put(world, draft, mint)?;
    kind.settled(world, &id)?;
    limits::check(world, kind.kind())?;
    world.touch_parents(mint);
    let mut answer = show(world, status, &id.key());
    answer.operation = kind.long_running().then_some(OperationStyle::Put);
    Ok(answer)
}

/// A location is required, offered, and stays.
fn place(settings: &Settings, kind: &dyn ResourceType, draft: &mut Draft) -> Result<(), ArmError> {
    let location = group::check_location(
        settings,
        &draft.outside,
        "LocationNotAvailableForResourceType",
        kind.kind(),
    )?;
    if let Some(existing) = draft
        .existing
        .as_ref()
        .filter(|existing| existing.location() != location)
    {
        return Err(ArmError::new(
            409,
            "InvalidResourceLocation",
            format!(
                "The resource '{}' already exists in location '{}' in resource group '{}'. A resource with the same name cannot be \
                 created in location '{location}'. Please select a new resource name.",
                draft.id.name(),
                existing.location(),
                draft.id.resource_group()
            ),
        )
        .at("location"));
    }
    draft.outside.insert("location".to_owned(), json!(location));
    Ok(())
}

/// PATCH changes tags only, as Azure's UpdateTags does.
fn patch(
    world: &mut World<'_>,
    kind: &'static dyn ResourceType,
    existing: Resource,
    request: &Request,
    mint: &mut dyn Mint,
) -> Result<Answer, ArmError> {
    if !types::is_tracked(kind) {
        return Err(not_allowed(request));
    }
    let Some(Value::Object(given)) = &request.body else {
        return Err(ArmError::bad(
            "InvalidRequestContent",
            "The request content must be a JSON object with tags, for example {\"tags\": {\"owner\": \"net\"}}.",
        ));
    };
    if let Some(other) = given.keys().find(|name| *name != "tags") {
        return Err(ArmError::bad(
            "InvalidPatchContent",
            format!(
                "PATCH changes tags only, and the body has '{other}'. Use PUT with the whole resource for the rest."
            ),
        )
        .at(other.as_str()));
    }
    let mut body = existing.body.clone();
    if let Some(tags) = given.get("tags").filter(|tags| !tags.is_null()) {
        body["tags"] = Value::Object(names::check_tags(tags)?);
    }
    world.store(&existing.id, kind.kind(), body, mint);
    Ok(show(world, 200, &existing.key()))
}

fn delete(
    world: &mut World<'_>,
    kind: &'static dyn ResourceType,
    existing: &Resource,
    mint: &mut dyn Mint,
) -> Result<Answer, ArmError> {
    let location = location_of(world, existing);
    types::remove(world, &existing.key(), mint)?;
    let long = kind.long_running();
    let mut answer = Answer::new(if long { 202 } else { 200 }, None).in_location(&location);
    answer.operation = long.then_some(OperationStyle::Delete);
    Ok(answer)
}

fn ask(
    world: &World<'_>,
    subscription: &str,
    group: &str,
    kind: &'static dyn ResourceType,
    names: &[&str],
    action: &str,
    request: &Request,
) -> Result<Outcome, ArmError> {
    let key = key_of(subscription, group, kind, names);
    let Some(question) = kind.action(action, key.clone(), request)? else {
        return Err(ArmError::new(
            404,
            "InvalidAction",
            format!("{} has no action '{action}'. Check its spelling.", kind.kind()),
        ));
    };
    let (_, before) = names.split_last().ok_or_else(|| ArmError::no_such_type(action))?;
    locate(world, subscription, group, kind, before)?;
    let Some(resource) = world.get(&key) else {
        let id = resource_id(&key)?;
        return Err(ArmError::not_found(&id, kind.kind()));
    };
    if let Ask::InboundRoutes(connection) | Ask::OutboundRoutes(connection) = &question {
        types::check_is_of(world, &key, connection)?;
    }
    Ok(Outcome::Ask(question, location_of(world, resource)))
}

/// `…/providers/Microsoft.Insights/…` of a resource: route servers have metrics, the others have none.
fn insights(
    world: &World<'_>,
    subscription: &str,
    group: &str,
    kind: &'static dyn ResourceType,
    names: &[&str],
    what: &str,
    request: &Request,
) -> Result<Outcome, ArmError> {
    if request.method != Method::Get {
        return Err(not_allowed(request));
    }
    let key = key_of(subscription, group, kind, names);
    self::group::find(world, subscription, group)?;
    let Some(resource) = world.get(&key) else {
        return Err(ArmError::not_found(&resource_id(&key)?, kind.kind()));
    };
    let is_hub = kind.kind() == types::VIRTUAL_HUB;
    let body = match what.to_ascii_lowercase().as_str() {
        "metrics" if is_hub => {
            let query = metrics::read_query(request, resource)?;
            return Ok(Outcome::Ask(Ask::Metrics(query), resource.location().to_owned()));
        }
        "metrics" => {
            return Err(ArmError::bad(
                "BadRequest",
                format!(
                    "{} has no metrics. Those there are belong to {}.",
                    kind.kind(),
                    types::VIRTUAL_HUB
                ),
            ));
        }
        "metricdefinitions" if is_hub => metrics::definitions(resource),
        "metricdefinitions" => json!({ "value": [] }),
        _ => return Err(ArmError::no_such_type(&request.path)),
    };
    Ok(Outcome::Done {
        changes: Vec::new(),
        answer: Answer::new(200, Some(body)),
    })
}

fn show(world: &World<'_>, status: u16, key: &str) -> Answer {
    match world.get(key) {
        Some(resource) => {
            Answer::new(status, Some(types::show(world, resource))).in_location(&location_of(world, resource))
        }
        None => Answer::new(status, None),
    }
}

/// Children are where their parents are.
fn location_of(world: &World<'_>, resource: &Resource) -> String {
    let mut key = resource.key();
    loop {
        match world.get(&key) {
            Some(resource) if !resource.location().is_empty() => return resource.location().to_owned(),
            _ => match crate::id::parent_key(&key) {
                Some(parent) => key = parent.to_owned(),
                None => return String::new(),
            },
        }
    }
}

/// The parent that the names lead to, if the type has one: it and the group must be there.
pub(crate) fn locate(
    world: &World<'_>,
    subscription: &str,
    group: &str,
    kind: &dyn ResourceType,
    names: &[&str],
) -> Result<Option<ResourceId>, ArmError> {
    self::group::find(world, subscription, group)?;
    if !types::has_parent(kind) {
        return Ok(None);
    }
    let (parent_kind, _) = kind.kind().rsplit_once('/').unwrap_or_default();
    let parent_kind = types::find(parent_kind).ok_or_else(|| ArmError::no_such_type(parent_kind))?;
    let key = key_of(subscription, group, parent_kind, names);
    match world.get(&key) {
        Some(parent) => resource_id(&parent.id).map(Some),
        None => Err(ArmError::parent_not_found(&resource_id(&key)?)),
    }
}

fn exists(world: &World<'_>, subscription: &str, group: &str, kind: &dyn ResourceType, names: &[&str]) -> bool {
    world.get(&key_of(subscription, group, kind, names)).is_some()
}

/// `…/providers/Microsoft.Network/type/name/type/name`, lower case.
fn key_of(subscription: &str, group: &str, kind: &dyn ResourceType, names: &[&str]) -> String {
    let mut key = format!("{}/providers/{NAMESPACE}", group::key_of(subscription, group));
    for (kind_segment, name) in kind.kind().split('/').skip(1).zip(names) {
        key.push_str(&format!("/{kind_segment}/{name}"));
    }
    key.to_ascii_lowercase()
}

pub(crate) fn resource_id(text: &str) -> Result<ResourceId, ArmError> {
    ResourceId::parse(text).ok_or_else(|| ArmError::no_such_type(text))
}

pub(crate) fn only_get(request: &Request, shown: impl FnOnce() -> Value) -> Result<Answer, ArmError> {
    match request.method {
        Method::Get => Ok(Answer::new(200, Some(shown()))),
        _ => Err(not_allowed(request)),
    }
}

pub(crate) fn not_allowed(request: &Request) -> ArmError {
    ArmError::new(
        405,
        "MethodNotAllowed",
        format!(
            "The method {:?} is not allowed on '{}'. See which ones the resource type has.",
            request.method, request.path
        ),
    )
}

/// If-Match and If-None-Match, as RFC 9110 §13.1 has them; both compare weakly, since ARM's etags are weak.
fn check_preconditions(request: &Request, existing: Option<&Resource>) -> Result<(), ArmError> {
    let names_it = |header: &str| match existing {
        None => false,
        Some(existing) => header.split(',').any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.trim_start_matches("W/").trim_matches('"') == existing.etag
        }),
    };
    let refused = |header: &str, what: &str| {
        Err(ArmError::new(
            412,
            "PreconditionFailedEtagMismatch",
            format!(
                "The condition {header} does not hold: {what}. Read the resource again and repeat the change on what it is now."
            ),
        ))
    };
    match (&request.if_match, &request.if_none_match) {
        (Some(wanted), _) if !names_it(wanted) => refused(
            &format!("If-Match: {wanted}"),
            &existing.map_or_else(
                || "the resource does not exist".to_owned(),
                |existing| format!("the etag is {}", types::quoted_etag(&existing.etag)),
            ),
        ),
        (_, Some(unwanted)) if names_it(unwanted) => {
            refused(&format!("If-None-Match: {unwanted}"), "the resource exists")
        }
        _ => Ok(()),
    }
}
