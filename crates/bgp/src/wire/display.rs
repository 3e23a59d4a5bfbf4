//! Messages in a line, for logs. Long lists are cut: a peer must not be able to fill a disk.

use std::fmt;

use ipnet::IpNet;

use super::attributes::PathAttributes;
use super::error::Mended;
use super::message::{Message, Open, RefreshKind, RouteRefresh, Update};

/// So many items of a list are shown.
const SHOWN: usize = 8;

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Open(open) => open.fmt(f),
            Message::Update(update) => update.fmt(f),
            Message::Notification(notification) => write!(f, "NOTIFICATION {notification}"),
            Message::Keepalive => f.write_str("KEEPALIVE"),
            Message::RouteRefresh(refresh) => refresh.fmt(f),
        }
    }
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asn, hold, id) = (self.asn, self.hold_time_secs, self.identifier);
        write!(
            f,
            "OPEN AS {asn} id {id} hold {hold} s, {} capabilities",
            self.capabilities.len()
        )
    }
}

impl fmt::Display for RouteRefresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RefreshKind::Request => "request",
            RefreshKind::Begin => "begin",
            RefreshKind::End => "end",
        };
        write!(f, "ROUTE-REFRESH {kind} {}", self.family)
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UPDATE")?;
        if let Some(family) = self.end_of_rib {
            write!(f, " End-of-RIB {family}")?;
        }
        for announcement in &self.announced {
            write!(f, " announce ")?;
            list(f, &announcement.prefixes)?;
            write!(f, " {}", announcement.attributes)?;
        }
        if !self.withdrawn.is_empty() {
            f.write_str(" withdraw ")?;
            list(f, &self.withdrawn)?;
        }
        for mended in &self.mended {
            write!(f, " ({mended})")?;
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, prefixes: &[IpNet]) -> fmt::Result {
    for (position, prefix) in prefixes.iter().take(SHOWN).enumerate() {
        let comma = if position == 0 { "" } else { "," };
        write!(f, "{comma}{prefix}")?;
    }
    match prefixes.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

impl fmt::Display for Mended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.treated_as_withdraw {
            "treated as withdrawal"
        } else {
            "attribute discarded"
        };
        let name = super::attribute_type::name(self.attribute);
        write!(f, "{name} ({}): {}: {done}", self.attribute, self.what)
    }
}

impl fmt::Display for PathAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "via {} path [", self.next_hop())?;
        for (position, asn) in self.as_numbers().take(SHOWN).enumerate() {
            let space = if position == 0 { "" } else { " " };
            write!(f, "{space}{asn}")?;
        }
        if usize::from(self.as_path_len()) > SHOWN {
            write!(f, " … {} in all", self.as_path_len())?;
        }
        write!(f, "] {}", self.origin())?;
        if let Some(med) = self.med() {
            write!(f, " med {med}")?;
        }
        if let Some(local_pref) = self.local_pref() {
            write!(f, " local-pref {local_pref}")?;
        }
        for community in self.communities().take(SHOWN) {
            write!(f, " {community}")?;
        }
        for (global, first, second) in self.large_communities().take(SHOWN) {
            write!(f, " {global}:{first}:{second}")?;
        }
        Ok(())
    }
}
