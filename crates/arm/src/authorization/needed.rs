//! Which action over which scope a request needs. Follows ARM's naming: `Namespace/types/read|write|delete`, and for a POST
//! `Namespace/types/{action}/action`.

use crate::request::Method;

/// An action over a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// For example `Microsoft.Network/virtualHubs/read`.
    pub action: String,
    /// An id; empty: the root.
    pub scope: String,
}

impl Needed {
    /// Whether it is about a deployment. Its type tells; anything may be called `deployments`.
    pub fn is_of_deployment(&self) -> bool {
        const DEPLOYMENTS: &str = "Microsoft.Resources/deployments/";
        let kind = self.action.get(..DEPLOYMENTS.len());
        kind.is_some_and(|kind| kind.eq_ignore_ascii_case(DEPLOYMENTS))
    }
}

/// What a request for an ARM path needs. `None`: nothing but being signed in.
pub fn needed(method: Method, path: &str) -> Option<Needed> {
    let segments: Vec<&str> = path
        .trim_matches('/')
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    match provider_of(&segments) {
        Some(at) if segments.len() > at + 2 && !(at == 2 && is(segments.get(at + 2), "register")) => Some(
            under_provider(method, &segments[..at], segments[at + 1], &segments[at + 2..]),
        ),
        _ => without_provider(method, &segments),
    }
}

/// Where the last `providers` stands that is not somebody's name: it begins a type of a resource, of a group, of a subscription or of the
/// root. Names and types take turns, so this is read from the front.
pub(super) fn provider_of(segments: &[&str]) -> Option<usize> {
    let first = match segments {
        [a, ..] if is(Some(a), "providers") => 0,
        [a, _, b, ..] if is(Some(a), "subscriptions") && is(Some(b), "providers") => 2,
        [a, _, b, _, c, ..]
            if is(Some(a), "subscriptions") && is(Some(b), "resourceGroups") && is(Some(c), "providers") =>
        {
            4
        }
        _ => return None,
    };
    let mut last = first;
    let mut at = first + 2;
    while let Some(kind) = segments.get(at) {
        if is(Some(kind), "providers") {
            last = at;
        }
        at += 2;
    }
    Some(last)
}

/// `{scope}/providers/{namespace}/{type}/{name}…`
fn under_provider(method: Method, scope: &[&str], namespace: &str, rest: &[&str]) -> Needed {
    let is_resource = rest.len().is_multiple_of(2);
    let (rest, verb) = match (method, is_resource) {
        // Something is asked of the resource before the last segment, or of the whole scope.
        (Method::Post, _) => match rest.split_last() {
            Some((action, before)) => (before, format!("{action}/action")),
            None => (rest, "action".to_owned()),
        },
        (method, _) => (rest, verb(method).to_owned()),
    };
    let types: Vec<&str> = rest.iter().step_by(2).copied().collect();
    let mut action = namespace.to_owned();
    for kind in types {
        action.push('/');
        action.push_str(kind);
    }
    // A list is looked at where it hangs: at its parent.
    let to = rest.len() / 2 * 2;
    let mut id = join(scope);
    if to > 0 {
        id.push_str(&format!("/providers/{namespace}{}", join(&rest[..to])));
    }
    Needed {
        action: format!("{action}/{verb}"),
        scope: id,
    }
}

fn without_provider(method: Method, segments: &[&str]) -> Option<Needed> {
    const SUBSCRIPTIONS: &str = "Microsoft.Resources/subscriptions";
    if !is(segments.first(), "subscriptions") {
        return None;
    }
    let read_or = match method {
        Method::Post => "action",
        method => verb(method),
    };
    let (action, depth) = match segments {
        // Lists are filtered.
        [] | [_] => return None,
        [_, _] => (format!("{SUBSCRIPTIONS}/{read_or}"), 2),
        [_, _, kind, ..] if kind.eq_ignore_ascii_case("operationresults") => return None,
        [_, _, kind, _, register] if is(Some(kind), "providers") && is(Some(register), "register") => {
            (format!("{}/register/action", segments[3]), 2)
        }
        [_, _, kind] | [_, _, kind, _] if is(Some(kind), "providers") => (format!("{SUBSCRIPTIONS}/providers/read"), 2),
        [_, _, groups] if is(Some(groups), "resourceGroups") => {
            (format!("{SUBSCRIPTIONS}/resourceGroups/{read_or}"), 2)
        }
        [_, _, groups, _] if is(Some(groups), "resourceGroups") => {
            (format!("{SUBSCRIPTIONS}/resourceGroups/{read_or}"), 4)
        }
        [_, _, groups, _, kind, rest @ ..] if is(Some(groups), "resourceGroups") && is(Some(kind), "deployments") => {
            let mut path = vec!["deployments"];
            path.extend(rest);
            return Some(under_provider(method, &segments[..4], "Microsoft.Resources", &path));
        }
        [_, _, groups, _, kind, ..] if is(Some(groups), "resourceGroups") => {
            (format!("{SUBSCRIPTIONS}/resourceGroups/{kind}/{read_or}"), 4)
        }
        [_, _, kind, ..] => (format!("{SUBSCRIPTIONS}/{kind}/{read_or}"), 2),
    };
    Some(Needed {
        action,
        scope: join(&segments[..depth]),
    })
}

fn verb(method: Method) -> &'static str {
    match method {
        Method::Get | Method::Head => "read",
        Method::Put | Method::Patch => "write",
        Method::Delete => "delete",
        Method::Post => "action",
    }
}

fn is(segment: Option<&&str>, name: &str) -> bool {
    segment.is_some_and(|segment| segment.eq_ignore_ascii_case(name))
}

fn join(segments: &[&str]) -> String {
    segments.iter().map(|segment| format!("/{segment}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, path: &str, expected: Option<(&str, &str)>) {
        let found = needed(method, path);
        let found = found
            .as_ref()
            .map(|needed| (needed.action.as_str(), needed.scope.as_str()));
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn a_deployment_is_known_by_its_type_and_not_by_a_name() {
        let group = "/subscriptions/s/resourceGroups/deployments";
        for (path, expected) in [
            ("/providers/Microsoft.Resources/deployments/d", true),
            ("/providers/microsoft.resources/Deployments/d", true),
            ("/providers/Microsoft.Resources/deployments/d/validate", true),
            ("/deployments/d", true),
            ("", false),
            ("/providers/Microsoft.Network/networkInterfaces/deployments", false),
            ("/providers/Microsoft.Network/virtualHubs/deployments", false),
        ] {
            let needed = needed(Method::Put, &format!("{group}{path}"));
            let found = needed.is_some_and(|needed| needed.is_of_deployment());
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn every_request_needs_the_action_that_azure_names() {
        use Method::*;
        let hub = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualHubs/rs";
        let group = "/subscriptions/s/resourceGroups/g";
        check(Get, hub, Some(("Microsoft.Network/virtualHubs/read", hub)));
        check(Put, hub, Some(("Microsoft.Network/virtualHubs/write", hub)));
        check(Patch, hub, Some(("Microsoft.Network/virtualHubs/write", hub)));
        check(Delete, hub, Some(("Microsoft.Network/virtualHubs/delete", hub)));
        let list = format!("{group}/providers/Microsoft.Network/virtualHubs");
        check(Get, &list, Some(("Microsoft.Network/virtualHubs/read", group)));
        let peers = format!("{hub}/bgpConnections");
        check(
            Get,
            &peers,
            Some(("Microsoft.Network/virtualHubs/bgpConnections/read", hub)),
        );
        let peer = format!("{peers}/nva");
        let action = "Microsoft.Network/virtualHubs/bgpConnections/learnedRoutes/action";
        check(Post, &format!("{peer}/learnedRoutes"), Some((action, &peer)));
        let metrics = format!("{hub}/providers/Microsoft.Insights/metrics");
        check(Get, &metrics, Some(("Microsoft.Insights/metrics/read", hub)));
        check(Get, "/subscriptions", None);
        check(Get, "/tenants", None);
        check(
            Get,
            "/subscriptions/s",
            Some(("Microsoft.Resources/subscriptions/read", "/subscriptions/s")),
        );
        let action = "Microsoft.Resources/subscriptions/resourceGroups/write";
        check(
            Put,
            "/subscriptions/s/resourcegroups/g",
            Some((action, "/subscriptions/s/resourcegroups/g")),
        );
        let register = "/subscriptions/s/providers/Microsoft.Network/register";
        check(
            Post,
            register,
            Some(("Microsoft.Network/register/action", "/subscriptions/s")),
        );
        let deployment = format!("{group}/providers/Microsoft.Resources/deployments/d");
        check(
            Put,
            &deployment,
            Some(("Microsoft.Resources/deployments/write", &deployment)),
        );
        let validate = format!("{deployment}/validate");
        check(
            Post,
            &validate,
            Some(("Microsoft.Resources/deployments/validate/action", &deployment)),
        );
        for kind in ["deployments", "Deployments"] {
            check(
                Get,
                &format!("{group}/{kind}/d/operations"),
                Some(("Microsoft.Resources/deployments/operations/read", &deployment)),
            );
        }
        let named = format!("{group}/providers/Microsoft.Network/virtualHubs/providers");
        check(Put, &named, Some(("Microsoft.Network/virtualHubs/write", &named)));
        let named = "/subscriptions/s/resourceGroups/providers/providers/Microsoft.Network/virtualHubs/rs";
        check(Put, named, Some(("Microsoft.Network/virtualHubs/write", named)));
        let assignment = "/providers/Microsoft.Authorization/roleAssignments/r";
        check(
            Put,
            assignment,
            Some(("Microsoft.Authorization/roleAssignments/write", assignment)),
        );
    }
}
