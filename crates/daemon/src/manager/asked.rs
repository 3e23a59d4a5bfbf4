//! What a request asks for, read from its path once. From this follows who answers it and what it needs.
//!
//! ```text
//! path ─► Asked ─┬► need: told to anybody? which role?      access, activity
//!                └► who answers                             http, own_api
//! ```
//!
//! Nothing is answered that is not named here, and `need` has no arm for the rest: what is added and says nothing of its need does not
//! compile, and what is not understood needs a role over everything.

use arm::Method;
use arm::authorization::{self, Needed, needed};

use super::DEV_SUBSCRIPTION;
use super::connections::Way;
use super::http::Incoming;

/// To read the activity log.
const ACTIVITY_READ: &str = "Microsoft.Insights/eventtypes/values/read";
/// To change what is about every route server.
const HUBS_WRITE: &str = "Microsoft.Network/virtualHubs/write";
/// To read what is about everything.
const HUBS_READ: &str = "Microsoft.Network/virtualHubs/read";
/// Action of a bgpConnection: what its peer says.
const LEARNED_ROUTES: &str = "learnedRoutes";
/// To be told of routes everywhere.
const ROUTES_READ: &str = "Microsoft.Network/virtualHubs/effectiveRoutes/action";

/// What a request asks for. Ids are as they were written: refusals and the activity log tell them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Healthz,
    Metrics,
    /// Below `/routewright/v1`.
    Own(Own),
    /// How an operation went; `kind` (lower case) is `operations` or `operationresults`.
    Operation {
        subscription: String,
        kind: String,
        id: String,
    },
    ActivityLog {
        subscription: String,
    },
    /// Below Microsoft Graph's `/v1.0`, in lower case.
    Graph(Vec<String>),
    /// `Microsoft.Authorization`.
    Roles,
    /// Resources, groups, subscriptions.
    Resources,
}

/// What is asked of our own API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    Health,
    OpenApi,
    HowToSignIn,
    ServicePrincipals,
    /// By client id (lower case), as the next.
    ServicePrincipal(String),
    ResetSecret(String),
    Agents,
    /// Of one route server only, if given.
    Peers {
        route_server: Option<String>,
    },
    Peer(String),
    RoutesOfPeer(String),
    Advertised(String),
    ResetPeer(String),
    DrainInstance(String),
    /// Its process is exchanged.
    RestartInstance(String),
    Routes {
        peer: Option<String>,
        route_server: Option<String>,
    },
    EffectiveRoutes {
        nic: Option<String>,
    },
    Settings(String),
    /// Of several resources at once.
    ManySettings,
    /// What writes would change of routes.
    DryRun,
    /// There is no such thing.
    Nothing,
}

/// What whoever asks must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) open: Open,
    pub(crate) role: Role,
}

/// Whether it is told without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    No,
    /// To people and programs on this machine.
    OnThisMachine,
    Everywhere,
}

/// What is needed of who has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing more: whoever answers tells each what is theirs.
    SignedIn,
    /// A role that permits this.
    For(Needed),
    /// Any role at, above or below the scope, if it is a list: of its items those are told that one may read.
    ForSomeOf(Needed),
}

impl Need {
    pub(crate) fn is_open_to(&self, way: Way) -> bool {
        match self.open {
            Open::No => false,
            Open::OnThisMachine => way == Way::Loopback,
            Open::Everywhere => true,
        }
    }

    /// The action over a scope, if it is one.
    pub(crate) fn action(&self) -> Option<&Needed> {
        match &self.role {
            Role::SignedIn => None,
            Role::For(needed) | Role::ForSomeOf(needed) => Some(needed),
        }
    }
}

impl Asked {
    /// Reads a request's path, and those parameters that name a resource.
    pub(crate) fn read(incoming: &Incoming) -> Asked {
        let lower = incoming.lower();
        let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
        match lower.as_slice() {
            ["healthz"] => Asked::Healthz,
            ["metrics"] => Asked::Metrics,
            ["routewright", "v1", rest @ ..] => Asked::Own(Own::read(incoming, rest)),
            [
                "subscriptions",
                subscription,
                "providers",
                "microsoft.network",
                "locations",
                _,
                kind @ ("operations" | "operationresults"),
                id,
            ]
            | ["subscriptions", subscription, kind @ "operationresults", id] => Asked::Operation {
                subscription: (*subscription).to_owned(),
                kind: (*kind).to_owned(),
                id: (*id).to_owned(),
            },
            [
                "subscriptions",
                subscription,
                "providers",
                "microsoft.insights",
                "eventtypes",
                "management",
                "values",
            ] => Asked::ActivityLog {
                subscription: (*subscription).to_owned(),
            },
            ["v1.0", rest @ ..] => Asked::Graph(rest.iter().map(|segment| (*segment).to_owned()).collect()),
            _ if authorization::is_authorization(&lower.join("/")) => Asked::Roles,
            _ => Asked::Resources,
        }
    }

    /// What this needs.
    pub(crate) fn need(&self, incoming: &Incoming) -> Need {
        let open = match self {
            Asked::Healthz => Open::Everywhere,
            Asked::Metrics | Asked::Own(Own::Health | Own::OpenApi | Own::HowToSignIn) => Open::OnThisMachine,
            _ => Open::No,
        };
        let method = method_of(&incoming.method);
        let role = match self {
            Asked::Healthz => Role::SignedIn,
            Asked::Metrics => Role::For(over_all("Microsoft.Insights/metrics/read")),
            Asked::Own(own) => own.role(method),
            // Whoever began an operation knows its GUID, and may not be allowed more than that one thing.
            Asked::Operation { .. } => Role::SignedIn,
            Asked::ActivityLog { subscription } => Role::ForSomeOf(Needed {
                action: ACTIVITY_READ.to_owned(),
                scope: format!("/subscriptions/{subscription}"),
            }),
            // Names are told of those whose roles one knows or may give.
            Asked::Graph(_) => Role::SignedIn,
            Asked::Roles | Asked::Resources => of_resources(method, incoming),
        };
        Need { open, role }
    }
}

impl Own {
    /// `rest` in lower case.
    fn read(incoming: &Incoming, rest: &[&str]) -> Own {
        let whole = incoming.segments.get(2..).unwrap_or_default();
        // From the first of `subscriptions/…`, without so many at the end.
        let id = |from: usize, after: usize| {
            let segments = whole.get(from..whole.len() - after).unwrap_or_default();
            format!("/{}", segments.join("/"))
        };
        let parameter = |name: &str| incoming.parameter(name).map(str::to_owned);
        match rest {
            ["health"] => Own::Health,
            ["openapi.json"] => Own::OpenApi,
            ["sign-in"] => Own::HowToSignIn,
            ["service-principals"] => Own::ServicePrincipals,
            ["service-principals", id] => Own::ServicePrincipal((*id).to_owned()),
            ["service-principals", id, "reset"] => Own::ResetSecret((*id).to_owned()),
            ["agents"] => Own::Agents,
            ["instances", index, "drain"] => Own::DrainInstance((*index).to_owned()),
            ["instances", index, "restart"] => Own::RestartInstance((*index).to_owned()),
            ["peers"] => Own::Peers {
                route_server: parameter("routeServer"),
            },
            ["peers", "subscriptions", .., "reset"] => Own::ResetPeer(id(1, 1)),
            ["peers", "subscriptions", .., "routes"] => Own::RoutesOfPeer(id(1, 1)),
            ["peers", "subscriptions", .., "advertised"] => Own::Advertised(id(1, 1)),
            ["peers", "subscriptions", ..] => Own::Peer(id(1, 0)),
            ["routes"] => Own::Routes {
                peer: parameter("peer"),
                route_server: parameter("routeServer"),
            },
            ["dry-run"] => Own::DryRun,
            ["settings"] => Own::ManySettings,
            ["effective-routes"] => Own::EffectiveRoutes { nic: parameter("nic") },
            ["subscriptions", .., "settings"] => Own::Settings(id(0, 1)),
            _ => Own::Nothing,
        }
    }

    /// What it tells of a resource needs what the resource itself needs; routes need the action that Azure tells them by.
    fn role(&self, method: Method) -> Role {
        let of = |method: Method, id: &str| needed(method, id).unwrap_or_else(all);
        Role::For(match self {
            Own::Health | Own::OpenApi | Own::HowToSignIn => return Role::SignedIn,
            Own::ServicePrincipals | Own::ServicePrincipal(_) | Own::ResetSecret(_) => over_all(match method {
                Method::Get | Method::Head => "Microsoft.Authorization/servicePrincipals/read",
                Method::Delete => "Microsoft.Authorization/servicePrincipals/delete",
                _ => "Microsoft.Authorization/servicePrincipals/write",
            }),
            // Whoever asks must also be allowed each of the writes.
            Own::DryRun => over_all(ROUTES_READ),
            Own::Peers { route_server: Some(id) } => of(Method::Get, id),
            Own::Peer(id) | Own::Settings(id) => of(method, id),
            Own::RoutesOfPeer(id) => asked_of(id, LEARNED_ROUTES),
            Own::Advertised(id) => asked_of(id, "advertisedRoutes"),
            Own::ResetPeer(id) => asked_of(id, "reset"),
            // Whoever writes must also be allowed to write each of them.
            Own::ManySettings => return Role::ForSomeOf(over_all(HUBS_WRITE)),
            // Every route server's packets go other ways.
            Own::DrainInstance(_) | Own::RestartInstance(_) => over_all(HUBS_WRITE),
            Own::Routes { peer: Some(id), .. } => asked_of(id, LEARNED_ROUTES),
            // Of all its peers.
            Own::Routes {
                route_server: Some(id), ..
            } => asked_of(id, "bgpConnections/learnedRoutes"),
            Own::EffectiveRoutes { nic: Some(id) } => asked_of(id, "effectiveRouteTable"),
            Own::Agents
            | Own::Peers { route_server: None }
            | Own::Routes {
                peer: None,
                route_server: None,
            }
            | Own::EffectiveRoutes { nic: None }
            | Own::Nothing => all(),
        })
    }
}

/// What a question about a resource needs: an action of it. With what is no resource, it is about everything.
fn asked_of(id: &str, action: &str) -> Needed {
    let action = format!("{}/{action}", id.trim_end_matches('/'));
    needed(Method::Post, &action).unwrap_or_else(all)
}

/// What is about everything here needs a role over the whole subscription.
pub(crate) fn over_all(action: &str) -> Needed {
    Needed {
        action: action.to_owned(),
        scope: format!("/subscriptions/{DEV_SUBSCRIPTION}"),
    }
}

/// To know how everything here is.
pub(crate) fn all() -> Needed {
    over_all(HUBS_READ)
}

/// To read one event of the activity log.
pub(crate) fn activity_of(resource_id: &str) -> Needed {
    Needed {
        action: ACTIVITY_READ.to_owned(),
        scope: resource_id.to_owned(),
    }
}

fn of_resources(method: Method, incoming: &Incoming) -> Role {
    let path = incoming.lower();
    // What is in these two lists is filtered, or the same for all.
    if matches!(path.as_slice(), [list] if list == "subscriptions" || list == "tenants") {
        return Role::SignedIn;
    }
    let needed = needed(method, &format!("/{}", incoming.segments.join("/"))).unwrap_or_else(all);
    match method == Method::Get && is_list(&path, &needed) {
        true => Role::ForSomeOf(needed),
        false => Role::For(needed),
    }
}

/// A list of resources or groups, or the subscription that they are in. `path` in lower case.
fn is_list(path: &[String], needed: &Needed) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["subscriptions", _]
        | [
            "subscriptions",
            _,
            "resourcegroups" | "resources" | "locations" | "providers",
        ]
        | ["subscriptions", _, "resourcegroups", _, "resources"] => true,
        ["subscriptions", ..] => {
            let is_whole = needed.scope.len() == path.iter().map(|segment| segment.len() + 1).sum::<usize>();
            !is_whole && needed.action.to_ascii_lowercase().starts_with("microsoft.network/")
        }
        _ => false,
    }
}

/// A method that ARM does not have is answered 405, by whoever would have acted.
fn method_of(method: &http::Method) -> Method {
    match *method {
        http::Method::GET => Method::Get,
        http::Method::HEAD => Method::Head,
        http::Method::PUT => Method::Put,
        http::Method::PATCH => Method::Patch,
        http::Method::DELETE => Method::Delete,
        _ => Method::Post,
    }
}
