//! Resource ids: `/subscriptions/…/resourceGroups/…/providers/Microsoft.Network/type/name[/type/name]`, compared without
//! regard to case, kept as first written.

/// A parsed id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    text: String,
}

impl ResourceId {
    /// The id as first written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// The key that ids compare by: lower case.
    pub fn key(&self) -> String {
        self.text.to_ascii_lowercase()
    }
}
