//! Resource ids: `/subscriptions/…/resourceGroups/…/providers/Microsoft.Network/type/name[/type/name]`, compared without
//! regard to case, kept as first written.

use std::fmt;

/// Where the namespace stands among the segments of an id.
const NAMESPACE: usize = 5;

/// Deepest nesting of types in an id that is looked at; Azure's deepest are 5.
const MAX_DEPTH: usize = 8;

/// A parsed id of a resource in a resource group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    text: String,
}

impl ResourceId {
    /// Reads an id; `None` if it isn't one of a resource in a resource group.
    pub fn parse(text: &str) -> Option<ResourceId> {
        let text = text.trim().trim_end_matches('/');
        let segments: Vec<&str> = text.strip_prefix('/')?.split('/').collect();
        let depth = segments.len().checked_sub(NAMESPACE + 1)?;
        let well_formed = segments[0].eq_ignore_ascii_case("subscriptions")
            && segments[2].eq_ignore_ascii_case("resourceGroups")
            && segments[4].eq_ignore_ascii_case("providers")
            && depth >= 2
            && depth.is_multiple_of(2)
            && depth / 2 <= MAX_DEPTH
            && segments.iter().all(|segment| !segment.is_empty());
        well_formed.then(|| ResourceId { text: text.to_owned() })
    }

    /// The id as first written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key that ids compare by: lower case.
    pub fn key(&self) -> String {
        self.text.to_ascii_lowercase()
    }

    /// The subscription's GUID.
    pub fn subscription(&self) -> &str {
        self.segment(1)
    }

    /// The resource group's name.
    pub fn resource_group(&self) -> &str {
        self.segment(3)
    }

    /// Namespace and types, for example `Microsoft.Network/virtualHubs/bgpConnections`.
    pub fn kind(&self) -> String {
        let mut kind = self.segment(NAMESPACE).to_owned();
        for kind_segment in self.segments().skip(NAMESPACE + 1).step_by(2) {
            kind.push('/');
            kind.push_str(kind_segment);
        }
        kind
    }

    /// The last name.
    pub fn name(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or_default()
    }

    /// The id of the resource that this one is a child of.
    pub fn parent(&self) -> Option<ResourceId> {
        let (rest, _) = self.text.rsplit_once('/')?;
        let (rest, _) = rest.rsplit_once('/')?;
        ResourceId::parse(rest)
    }

    /// The id of a child.
    pub fn child(&self, kind_segment: &str, name: &str) -> ResourceId {
        ResourceId {
            text: format!("{}/{kind_segment}/{name}", self.text),
        }
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.split('/').skip(1)
    }

    fn segment(&self, index: usize) -> &str {
        self.segments().nth(index).unwrap_or_default()
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The key of the parent, from a child's key.
pub(crate) fn parent_key(key: &str) -> Option<&str> {
    let (rest, _) = key.rsplit_once('/')?;
    let (rest, _) = rest.rsplit_once('/')?;
    Some(rest)
}

/// The last segment of an id or key.
pub(crate) fn last_segment(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PEER: &str =
        "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Network/virtualHubs/rs/bgpConnections/nva";

    #[test]
    fn an_id_knows_its_parts() {
        let id = ResourceId::parse(PEER).unwrap();
        assert_eq!(id.subscription(), "S");
        assert_eq!(id.resource_group(), "Rg");
        assert_eq!(id.kind(), "Microsoft.Network/virtualHubs/bgpConnections");
        assert_eq!(id.name(), "nva");
        assert_eq!(id.parent().unwrap().name(), "rs");
        assert_eq!(id.parent().unwrap().parent(), None);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "/",
            "nva",
            "/subscriptions/S",
            "/subscriptions/S/resourceGroups/R/providers/N/t",
            "/subscriptions/S/resourceGroups//providers/N/t/n",
            "/subscriptions/S/resourceGroups/R/providers/N/t/n/u",
        ] {
            assert_eq!(ResourceId::parse(text), None, "{text}");
        }
    }
}
