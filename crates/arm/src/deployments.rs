//! `Microsoft.Resources/deployments` of a resource group: a template's resources are made in one step, all or none.
//!
//! Azure makes them one by one and leaves what was made before a failure; here a failed deployment changes nothing and is not kept.

use serde_json::{Map, Value, json};

use crate::error::ArmError;
use crate::group;
use crate::handle::{self, not_allowed};
use crate::id::ResourceId;
use crate::read::{Reader, without_nulls};
use crate::request::{Answer, Method, Mint, OperationStyle, Request};
use crate::resource::Resource;
use crate::route::{Deployments, RESOURCES};
use crate::template::{Place, Plan};
use crate::types;
use crate::world::World;

/// The type.
const KIND: &str = "Microsoft.Resources/deployments";

/// Azure's own bound on one group.
const MAX_DEPLOYMENTS: usize = 800;
/// Longest name.
const MAX_NAME: usize = 64;

/// Answers a request about the deployments of a group.
pub(crate) fn on_deployments(
    world: &mut World<'_>,
    subscription: &str,
    group: &str,
    inside: Deployments<'_>,
    request: &Request,
    mint: &mut dyn Mint,
) -> Result<Answer, ArmError> {
    let group = group::find(world, subscription, group)?.clone();
    let id = |name: &str| handle::resource_id(&format!("{}/providers/{RESOURCES}/deployments/{name}", group.id));
    let get = |name: &str| match world.get(&id(name)?.key()) {
        Some(found) => Ok(found.clone()),
        None => Err(ArmError::new(
            404,
            "DeploymentNotFound",
            format!("Deployment '{name}' could not be found. Check its name."),
        )),
    };
    match (inside, request.method) {
        (Deployments::List, Method::Get) => {
            let mut all = of_group(world, &group);
            all.retain(|deployment| world.check_readable(&deployment.id).is_ok());
            Ok(Answer::new(
                200,
                Some(json!({ "value": all.into_iter().map(show).collect::<Value>() })),
            ))
        }
        (Deployments::One(name), Method::Get) => Ok(Answer::new(200, Some(show(&get(name)?)))),
        (Deployments::One(name), Method::Head) => get(name).map(|_| Answer::new(204, None)),
        (Deployments::One(name), Method::Put) => {
            check_name(name)?;
            let id = id(name)?;
            put(world, &group, &id, request, mint)
        }
        (Deployments::One(name), Method::Delete) => {
            let key = id(name)?.key();
            let gone = world.remove(&key).is_empty();
            Ok(Answer::new(if gone { 204 } else { 200 }, None))
        }
        (Deployments::Action(name, action), Method::Post) if action.eq_ignore_ascii_case("validate") => {
            check_name(name)?;
            let id = id(name)?;
            // Made in a world that is thrown away.
            let deployed = deploy(&mut world.before(), subscription, &group, &id, request, mint);
            let properties = deployed.map_err(|error| refused(error, "InvalidTemplateDeployment", &id))?;
            let shown = json!({ "id": id.as_str(), "name": id.name(), "type": KIND, "properties": properties });
            Ok(Answer::new(200, Some(shown)))
        }
        (Deployments::Action(_, action), Method::Post) => Err(ArmError::new(
            404,
            "InvalidAction",
            format!("Deployments have no action '{action}' here. There is validate."),
        )),
        (Deployments::Operations(name), Method::Get) => Ok(Answer::new(200, Some(operations(&get(name)?)))),
        (Deployments::Status(name), Method::Get) => {
            get(name)?;
            Ok(Answer::new(200, Some(json!({ "status": "Succeeded" }))))
        }
        _ => Err(not_allowed(request)),
    }
}

fn put(
    world: &mut World<'_>,
    group: &Resource,
    id: &ResourceId,
    request: &Request,
    mint: &mut dyn Mint,
) -> Result<Answer, ArmError> {
    let existing = world.get(&id.key()).is_some();
    if !existing && of_group(world, group).len() >= MAX_DEPLOYMENTS {
        return Err(ArmError::new(
            409,
            "DeploymentQuotaExceeded",
            format!(
                "Resource group '{}' has {MAX_DEPLOYMENTS} deployments. Delete some before creating another.",
                group.name()
            ),
        ));
    }
    let deployed = deploy(world, id.subscription(), group, id, request, mint);
    let properties = deployed.map_err(|error| refused(error, "DeploymentFailed", id))?;
    world.store(id.as_str(), KIND, json!({ "properties": properties }), mint);
    world.touch_parents(mint);
    let shown = world.get(&id.key()).map(show);
    let mut answer = Answer::new(if existing { 200 } else { 201 }, shown).in_location(group.location());
    answer.operation = Some(OperationStyle::Deployment);
    Ok(answer)
}

/// Makes what the template says; the answer is the deployment's properties.
fn deploy(
    world: &mut World<'_>,
    subscription: &str,
    group: &Resource,
    id: &ResourceId,
    request: &Request,
    mint: &mut dyn Mint,
) -> Result<Value, ArmError> {
    let body = without_nulls(request.body.clone().unwrap_or(Value::Null));
    let properties = read_properties(&body)?;
    let now = mint.now();
    let place = Place {
        subscription: group::show_subscription(world.settings, subscription),
        group: group::show(group),
        deployment: json!({ "name": id.name(), "properties": { "mode": "Incremental", "template": properties["template"] } }),
        now: now.clone(),
        guid: mint.guid(),
    };
    let parameters = properties.get("parameters").unwrap_or(&Value::Null);
    let plan = Plan::read(&properties["template"], parameters, place)?;
    check_types(&plan)?;
    for planned in plan.resources().iter().filter(|planned| !planned.existing) {
        let body = plan.body(planned, &|target| look_up(world, &plan, target))?;
        // Before anything is made of it: what it then shows, or is refused for, tells of what it names.
        world.check_writable(planned.id.as_str(), &body)?;
        let made = make(world, subscription, group, &planned.id, body, mint);
        made.map_err(|error| ArmError {
            target: Some(planned.id.as_str().to_owned()),
            ..error
        })?;
    }
    let outputs = plan.outputs(&|target| look_up(world, &plan, target))?;
    let made = plan.resources().iter().filter(|planned| !planned.existing);
    let ids: Vec<Value> = made.map(|planned| json!({ "id": planned.id.as_str() })).collect();
    Ok(json!({
        "mode": "Incremental",
        "provisioningState": "Succeeded",
        "timestamp": now,
        "duration": "PT0S",
        "correlationId": mint.guid(),
        "parameters": plan.shown_parameters(),
        "outputs": outputs,
        "providers": providers(&plan, group),
        "dependencies": [],
        "outputResources": ids,
        "validatedResources": ids,
    }))
}

/// The `properties` of a request, with what is not supported refused by name.
fn read_properties(body: &Value) -> Result<&Map<String, Value>, ArmError> {
    let reader = Reader::of(body, "")?;
    let Some(properties) = reader.object("properties")? else {
        return Err(reader.missing("properties", "mode and template"));
    };
    for name in ["templateLink", "parametersLink", "onErrorDeployment", "debugSetting"] {
        if properties.get(name).is_some_and(|value| value["detailLevel"] != "none") {
            return Err(ArmError::bad(
                "InvalidTemplate",
                format!("properties.{name} is not supported here. Send the template and its parameters themselves."),
            )
            .at(properties.path_of(name)));
        }
    }
    if properties.one_of("mode", &["Incremental", "Complete"])? == Some("Complete") {
        return Err(ArmError::bad(
            "InvalidTemplate",
            "The mode Complete is not supported here. Use Incremental, and delete what you no longer want.",
        )
        .at("properties.mode"));
    }
    if properties.object("template")?.is_none() {
        return Err(properties.missing("template", "the template itself"));
    }
    body["properties"]
        .as_object()
        .ok_or_else(|| reader.missing("properties", "mode and template"))
}

/// All types are looked at before anything is made.
fn check_types(plan: &Plan) -> Result<(), ArmError> {
    match plan
        .resources()
        .iter()
        .find(|planned| types::find(&planned.kind).is_none())
    {
        None => Ok(()),
        Some(planned) => Err(ArmError::bad(
            "InvalidResourceType",
            format!(
                "The template resource '{}' has the type '{}', which is not served here. Leave it out.",
                planned.id.name(),
                planned.kind
            ),
        )
        .at(planned.id.as_str())),
    }
}

fn make(
    world: &mut World<'_>,
    subscription: &str,
    group: &Resource,
    id: &ResourceId,
    body: Value,
    mint: &mut dyn Mint,
) -> Result<(), ArmError> {
    let kind = types::find(&id.kind()).ok_or_else(|| ArmError::no_such_type(id.as_str()))?;
    let names: Vec<&str> = id.as_str().split('/').skip(8).step_by(2).collect();
    let (name, before) = names.split_last().ok_or_else(|| ArmError::no_such_type(id.as_str()))?;
    let parent = handle::locate(world, subscription, group.name(), kind, before)?;
    let id = match parent {
        Some(parent) => parent.child(types::segment(kind.kind()), name),
        None => handle::resource_id(&format!("{}/providers/{}/{name}", group.id, kind.kind()))?,
    };
    handle::put(world, kind, id, body, mint).map(|_| ())
}

/// A resource as `reference()` sees it, if the deployment's author may read it: a template shows in its outputs what it looks up.
fn look_up(world: &World<'_>, plan: &Plan, target: &str) -> Result<Value, ArmError> {
    let id = plan.id_of(target);
    if let Some(id) = &id {
        world.check_readable(id)?;
    }
    match id.as_deref().and_then(|id| world.get(&id.to_ascii_lowercase())) {
        Some(resource) => Ok(types::show(world, resource)),
        None => Err(ArmError::new(
            404,
            "ResourceNotFound",
            format!("The resource '{target}', which the template refers to, was not found. Check its id or name."),
        )),
    }
}

/// `[{"namespace", "resourceTypes"}]` of all that was made.
fn providers(plan: &Plan, group: &Resource) -> Value {
    let mut by_namespace: Map<String, Value> = Map::new();
    for planned in plan.resources() {
        let Some((namespace, kind)) = planned.kind.split_once('/') else {
            continue;
        };
        let kinds = by_namespace.entry(namespace).or_insert_with(|| json!([]));
        let shown = json!({ "resourceType": kind, "locations": [group.location()] });
        if let Some(kinds) = kinds.as_array_mut().filter(|kinds| !kinds.contains(&shown)) {
            kinds.push(shown);
        }
    }
    by_namespace
        .into_iter()
        .map(|(namespace, kinds)| json!({ "namespace": namespace, "resourceTypes": kinds }))
        .collect()
}

fn of_group<'w>(world: &'w World<'_>, group: &Resource) -> Vec<&'w Resource> {
    world.under(&format!(
        "{}/providers/{}/deployments/",
        group.key(),
        RESOURCES.to_ascii_lowercase()
    ))
}

fn show(deployment: &Resource) -> Value {
    let mut shown = json!({
        "id": deployment.id,
        "name": deployment.name(),
        "type": KIND,
        "properties": deployment.body["properties"],
    });
    if let Some(properties) = shown["properties"].as_object_mut() {
        properties.remove("validatedResources");
    }
    shown
}

/// One operation for each resource that was made.
fn operations(deployment: &Resource) -> Value {
    let ids = deployment.property("outputResources").as_array().into_iter().flatten();
    let shown = ids.enumerate().filter_map(|(number, made)| {
        let id = ResourceId::parse(made["id"].as_str()?)?;
        Some(json!({
            "id": format!("{}/operations/{number:016X}", deployment.id),
            "operationId": format!("{number:016X}"),
            "properties": {
                "provisioningOperation": "Create",
                "provisioningState": "Succeeded",
                "timestamp": deployment.property("timestamp"),
                "statusCode": "OK",
                "targetResource": { "id": id.as_str(), "resourceType": id.kind(), "resourceName": id.name() },
            },
        }))
    });
    json!({ "value": shown.collect::<Value>() })
}

fn check_name(name: &str) -> Result<(), ArmError> {
    let fits = (1..=MAX_NAME).contains(&name.chars().count())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '(' | ')'));
    match fits {
        true => Ok(()),
        false => Err(ArmError::bad(
            "InvalidDeploymentName",
            format!(
                "Deployment name '{name}' is invalid. Choose 1 to {MAX_NAME} letters, digits, '.', '-', '_' or parentheses."
            ),
        )),
    }
}

/// As Azure tells it: what is wrong with the template, or not its author's to read or write, is told as it is; what a resource was refused for stands inside.
fn refused(error: ArmError, code: &str, deployment: &ResourceId) -> ArmError {
    let of_template = [
        "InvalidTemplate",
        "MissingRequiredProperty",
        "InvalidRequestFormat",
        "InvalidResourceType",
        "AuthorizationFailed",
        "LinkedAuthorizationFailed",
    ];
    if of_template.contains(&error.code.as_str())
        && error.target.as_deref().is_none_or(|target| !target.starts_with('/'))
    {
        return error;
    }
    let message = match code {
        "DeploymentFailed" => {
            "At least one resource deployment operation failed, and nothing was changed. See details."
        }
        _ => "The template deployment is not valid: a resource would be refused. See details.",
    };
    ArmError {
        details: vec![error.clone()],
        ..ArmError::new(error.status, code, message).at(deployment.as_str())
    }
}
