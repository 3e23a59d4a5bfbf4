//! What a path means: the resource, list or action behind an ARM URL. Segments are matched without regard to case.

use crate::error::ArmError;
use crate::metrics;
use crate::types::{self, ResourceType};

/// The namespace that is served.
pub(crate) const NAMESPACE: &str = "Microsoft.Network";

/// The namespace of groups and deployments.
pub(crate) const RESOURCES: &str = "Microsoft.Resources";

/// What a path means.
pub(crate) enum Target<'p> {
    /// `/tenants`
    Tenants,
    /// `/subscriptions`
    Subscriptions,
    /// `/subscriptions/{s}` and what is under it.
    Subscription(&'p str, InSubscription<'p>),
}

/// Under a subscription.
pub(crate) enum InSubscription<'p> {
    /// The subscription itself.
    Itself,
    /// `…/locations`
    Locations,
    /// `…/providers`
    Providers,
    /// `…/providers/{namespace}`, also with `/register`.
    Provider(&'p str),
    /// `…/resources`, over all groups or (with a name) in one.
    Resources(Option<&'p str>),
    /// `…/resourceGroups`
    Groups,
    /// `…/resourceGroups/{g}`
    Group(&'p str),
    /// A list of one type over the whole subscription.
    All(&'static dyn ResourceType),
    /// Something of the namespace in a group.
    InGroup(&'p str, InGroup<'p>),
    /// `…/providers/Microsoft.Resources/deployments` and what is under it, in a group.
    Deployments(&'p str, Deployments<'p>),
}

/// Under a group and the namespace.
pub(crate) enum InGroup<'p> {
    /// One resource, by the names on the way to it.
    Resource(&'static dyn ResourceType, Vec<&'p str>),
    /// The children of the named resource (or, without names, all of the group) of one type.
    List(&'static dyn ResourceType, Vec<&'p str>),
    /// A POST on a resource.
    Action(&'static dyn ResourceType, Vec<&'p str>, &'p str),
    /// `…/providers/Microsoft.Insights/{what}` of a resource.
    Insights(&'static dyn ResourceType, Vec<&'p str>, &'p str),
}

/// Under a group and `Microsoft.Resources/deployments`.
pub(crate) enum Deployments<'p> {
    /// All of them.
    List,
    /// One.
    One(&'p str),
    /// `…/{name}/validate` and such.
    Action(&'p str, &'p str),
    /// `…/{name}/operations`
    Operations(&'p str),
    /// `…/{name}/operationStatuses/{id}`
    Status(&'p str),
}

/// Reads a path. `post` tells whether its last segment may be an action.
pub(crate) fn parse(path: &str, post: bool) -> Result<Target<'_>, ArmError> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let no_such = || ArmError::no_such_type(path);
    if segments.iter().any(|segment| segment.is_empty()) {
        return Err(no_such());
    }
    let (&first, rest) = segments.split_first().ok_or_else(no_such)?;
    if first.eq_ignore_ascii_case("tenants") && rest.is_empty() {
        return Ok(Target::Tenants);
    }
    if !first.eq_ignore_ascii_case("subscriptions") {
        return Err(no_such());
    }
    match rest {
        [] => Ok(Target::Subscriptions),
        [subscription, rest @ ..] => {
            let inside = in_subscription(rest, post).ok_or_else(no_such)?;
            Ok(Target::Subscription(subscription, inside))
        }
    }
}

fn in_subscription<'p>(segments: &[&'p str], post: bool) -> Option<InSubscription<'p>> {
    let is = |segment: &str, name: &str| segment.eq_ignore_ascii_case(name);
    match segments {
        [] => Some(InSubscription::Itself),
        [one] if is(one, "locations") => Some(InSubscription::Locations),
        [one] if is(one, "providers") => Some(InSubscription::Providers),
        [one] if is(one, "resources") => Some(InSubscription::Resources(None)),
        [one] if is(one, "resourceGroups") => Some(InSubscription::Groups),
        [one, group] if is(one, "resourceGroups") => Some(InSubscription::Group(group)),
        [one, group, last] if is(one, "resourceGroups") && is(last, "resources") => {
            Some(InSubscription::Resources(Some(group)))
        }
        [one, namespace] if is(one, "providers") => Some(InSubscription::Provider(namespace)),
        [one, namespace, last] if is(one, "providers") && is(last, "register") => {
            Some(InSubscription::Provider(namespace))
        }
        [one, namespace, kind] if is(one, "providers") && is(namespace, NAMESPACE) => {
            types::find(&format!("{NAMESPACE}/{kind}")).map(InSubscription::All)
        }
        [one, group, two, namespace, rest @ ..]
            if is(one, "resourceGroups") && is(two, "providers") && is(namespace, NAMESPACE) =>
        {
            in_group(rest, post).map(|inside| InSubscription::InGroup(group, inside))
        }
        [one, group, two, namespace, three, rest @ ..]
            if is(one, "resourceGroups")
                && is(two, "providers")
                && is(namespace, RESOURCES)
                && is(three, "deployments") =>
        {
            deployments(rest, post).map(|inside| InSubscription::Deployments(group, inside))
        }
        // Clients ask for a deployment's operations without its provider.
        [one, group, three, rest @ ..] if is(one, "resourceGroups") && is(three, "deployments") => {
            deployments(rest, post).map(|inside| InSubscription::Deployments(group, inside))
        }
        _ => None,
    }
}

fn deployments<'p>(segments: &[&'p str], post: bool) -> Option<Deployments<'p>> {
    let is = |segment: &str, name: &str| segment.eq_ignore_ascii_case(name);
    match segments {
        [] => Some(Deployments::List),
        [name] => Some(Deployments::One(name)),
        [name, action] if post => Some(Deployments::Action(name, action)),
        [name, last] if is(last, "operations") => Some(Deployments::Operations(name)),
        [name, last, _] if is(last, "operationStatuses") => Some(Deployments::Status(name)),
        _ => None,
    }
}

/// `type/name/type/name…`: even is a resource, odd a list or an action.
fn in_group<'p>(segments: &[&'p str], post: bool) -> Option<InGroup<'p>> {
    let of_kind = |kinds: &mut dyn Iterator<Item = &&'p str>| {
        let path: Vec<&str> = kinds.copied().collect();
        types::find(&format!("{NAMESPACE}/{}", path.join("/")))
    };
    let is = |segment: &str, name: &str| segment.eq_ignore_ascii_case(name);
    if let [before @ .., providers, namespace, what] = segments
        && is(providers, "providers")
        && is(namespace, metrics::NAMESPACE)
    {
        let names = before.iter().skip(1).step_by(2).copied().collect();
        let kind = of_kind(&mut before.iter().step_by(2))?;
        return before
            .len()
            .is_multiple_of(2)
            .then_some(InGroup::Insights(kind, names, what));
    }
    let names: Vec<&str> = segments.iter().skip(1).step_by(2).copied().collect();
    let odd = !segments.len().is_multiple_of(2);
    if odd && post {
        let (action, before) = segments.split_last()?;
        let kind = of_kind(&mut before.iter().step_by(2))?;
        return Some(InGroup::Action(kind, names, action));
    }
    let kind = of_kind(&mut segments.iter().step_by(2))?;
    match odd {
        true => Some(InGroup::List(kind, names)),
        false => Some(InGroup::Resource(kind, names)),
    }
}
