//! Role definitions: Azure's own under their GUIDs, and custom ones of the same shape.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// What a role lets its holders do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleDefinition {
    /// Its name among roles, in lower case.
    pub guid: String,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// Made by a user.
    pub custom: bool,
    /// Patterns of actions; `*` stands for anything.
    pub actions: Vec<String>,
    /// Patterns of actions that those don't include.
    pub not_actions: Vec<String>,
    /// Where it can be assigned.
    pub assignable_scopes: Vec<String>,
}

impl RoleDefinition {
    /// Whether its holders may do this.
    pub fn permits(&self, action: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, action));
        any(&self.actions) && !any(&self.not_actions)
    }
}

/// Azure's roles that mean something here.
/// Source: Azure's documentation, "Azure built-in roles".
pub fn built_in() -> &'static [RoleDefinition] {
    static ROLES: LazyLock<Vec<RoleDefinition>> = LazyLock::new(|| {
        BUILT_IN
            .iter()
            .map(|(guid, name, description, actions, not_actions)| RoleDefinition {
                guid: (*guid).to_owned(),
                name: (*name).to_owned(),
                description: (*description).to_owned(),
                custom: false,
                actions: owned(actions),
                not_actions: owned(not_actions),
                assignable_scopes: vec!["/".to_owned()],
            })
            .collect()
    });
    &ROLES
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

type BuiltIn = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const BUILT_IN: [BuiltIn; 5] = [
    (
        "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
        "Owner",
        "Grants full access to manage all resources, including the ability to assign roles.",
        &["*"],
        &[],
    ),
    (
        "b24988ac-6180-42a0-ab88-20f7382dd24c",
        "Contributor",
        "Grants full access to manage all resources, but does not allow you to assign roles.",
        &["*"],
        &[
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ],
    ),
    (
        "acdd72a7-3385-48ef-bd42-f606fba81ae7",
        "Reader",
        "View all resources, but does not allow you to make any changes.",
        &["*/read"],
        &[],
    ),
    (
        "4d97b98b-1d4f-4787-a291-c67834d212e7",
        "Network Contributor",
        "Lets you manage networks, but not access to them.",
        &[
            "Microsoft.Authorization/*/read",
            "Microsoft.Insights/alertRules/*",
            "Microsoft.Network/*",
            "Microsoft.ResourceHealth/availabilityStatuses/read",
            "Microsoft.Resources/deployments/*",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            "Microsoft.Support/*",
        ],
        &[],
    ),
    (
        "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
        "User Access Administrator",
        "Lets you manage user access to Azure resources.",
        &["*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"],
        &[],
    ),
];

/// `*` stands for any characters, slashes too; letters compare without regard to case.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_azures() {
        for (pattern, text, expected) in [
            ("*", "Microsoft.Network/virtualHubs/read", true),
            ("*/read", "Microsoft.Network/virtualHubs/Read", true),
            ("*/read", "Microsoft.Network/virtualHubs/write", false),
            (
                "Microsoft.Network/*",
                "microsoft.network/virtualHubs/bgpConnections/write",
                true,
            ),
            ("Microsoft.Network/*", "Microsoft.NetworkX/virtualHubs/write", false),
            (
                "Microsoft.Authorization/*/Write",
                "Microsoft.Authorization/roleAssignments/write",
                true,
            ),
            ("a/*/b/*/c", "a/x/b/y/c", true),
            ("a/*/b/*/c", "a/x/c", false),
            ("a*a", "a", false),
            ("a", "ab", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_contributor_does_everything_but_give_roles_and_a_reader_only_reads() {
        let role = |name: &str| built_in().iter().find(|role| role.name == name).unwrap();
        assert!(role("Owner").permits("Microsoft.Authorization/roleAssignments/write"));
        assert!(role("Contributor").permits("Microsoft.Network/virtualHubs/write"));
        assert!(!role("Contributor").permits("Microsoft.Authorization/roleAssignments/write"));
        assert!(role("Reader").permits("Microsoft.Network/virtualHubs/read"));
        assert!(!role("Reader").permits("Microsoft.Network/virtualHubs/bgpConnections/learnedRoutes/action"));
        assert!(!role("Network Contributor").permits("Microsoft.Resources/subscriptions/resourceGroups/write"));
    }
}
