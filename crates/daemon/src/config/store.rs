//! `[store]`: where intent is kept, and with whom it is shared.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Reader;
use crate::store::EtcdConfig;

/// What the section may have.
const ALLOWED: [&str; 8] = [
    "kind",
    "endpoints",
    "prefix",
    "ca",
    "certificate",
    "key",
    "user",
    "password_file",
];
/// Members of a cluster that we may be told of.
const MAX_ENDPOINTS: usize = 16;

impl Reader<'_> {
    /// The shared store, if it is one.
    pub(super) fn store(&mut self, section: &Spanned<DeString<'_>>, table: &DeTable<'_>) -> Option<EtcdConfig> {
        let mut etcd = EtcdConfig {
            prefix: "/routewright/".to_owned(),
            ..EtcdConfig::default()
        };
        let mut is_etcd = false;
        let mut has_kind_mistake = false;
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "kind" => match value.get_ref().as_str() {
                    Some("sqlite") => {}
                    Some("etcd") => is_etcd = true,
                    _ => {
                        has_kind_mistake = true;
                        self.mistake(value.span(), "`store.kind` must be \"sqlite\" or \"etcd\"".to_owned());
                    }
                },
                "endpoints" => etcd.endpoints = self.endpoints(value),
                "prefix" => etcd.prefix = self.prefix(value),
                "ca" => etcd.ca = self.absolute_path("store.ca", value),
                "certificate" => etcd.certificate = self.absolute_path("store.certificate", value),
                "key" => etcd.key = self.absolute_path("store.key", value),
                "password_file" => etcd.password_file = self.absolute_path("store.password_file", value),
                "user" => match value.get_ref().as_str() {
                    Some(user) if !user.is_empty() => etcd.user = Some(user.to_owned()),
                    _ => self.mistake(value.span(), "`store.user` must be a text that is not empty".to_owned()),
                },
                name => self.unknown(key.span(), "store", name, &ALLOWED),
            }
        }
        let said = |name: &str| table.keys().any(|key| key.get_ref().as_ref() == name);
        for (first, second) in [("certificate", "key"), ("user", "password_file")] {
            if said(first) != said(second) {
                let message = format!("[store] needs `{first}` and `{second}`, or neither");
                self.mistake(section.span(), message);
            }
        }
        if !is_etcd {
            let for_etcd = ALLOWED.iter().filter(|name| **name != "kind" && said(name));
            let for_etcd: Vec<&str> = for_etcd.copied().collect();
            if !for_etcd.is_empty() && !has_kind_mistake {
                let message = format!("[store]: only kind = \"etcd\" has {}", for_etcd.join(", "));
                self.mistake(section.span(), message);
            }
            return None;
        }
        if !said("endpoints") {
            let message = "[store] with kind = \"etcd\" needs `endpoints`, for example [\"http://127.0.0.1:2379\"]";
            self.mistake(section.span(), message.to_owned());
        }
        if etcd.endpoints.iter().any(|url| url.starts_with("https://")) && !said("ca") {
            let message = "[store] needs `ca`, the authority of the https endpoints' certificates";
            self.mistake(section.span(), message.to_owned());
        }
        Some(etcd)
    }

    fn endpoints(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<String> {
        let urls = value.get_ref().as_array().and_then(|array| {
            let urls = array.iter().map(|url| url.get_ref().as_str().map(str::to_owned));
            urls.collect::<Option<Vec<String>>>()
        });
        match urls {
            Some(urls)
                if (1..=MAX_ENDPOINTS).contains(&urls.len())
                    && urls.iter().all(|url| is_endpoint(url))
                    && urls.iter().collect::<BTreeSet<_>>().len() == urls.len() =>
            {
                urls
            }
            _ => {
                let message = format!(
                    "`store.endpoints` must be a list of 1 to {MAX_ENDPOINTS} URLs such as \"http://127.0.0.1:2379\" or \
                     \"https://etcd0.example:2379\", each member of the cluster once"
                );
                self.mistake(value.span(), message);
                Vec::new()
            }
        }
    }

    fn prefix(&mut self, value: &Spanned<DeValue<'_>>) -> String {
        match value.get_ref().as_str() {
            Some(prefix) if prefix.len() <= 256 && prefix.starts_with('/') && prefix.ends_with('/') => {
                prefix.to_owned()
            }
            _ => {
                self.mistake(
                    value.span(),
                    "`store.prefix` must begin and end with a slash and have at most 256 characters, for example \
                     \"/routewright/\""
                        .to_owned(),
                );
                String::new()
            }
        }
    }
}

/// A scheme, a host and a port, and nothing else.
fn is_endpoint(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else {
        return false;
    };
    let path = uri.path();
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.port_u16().is_some()
        && (path.is_empty() || path == "/")
        && uri.query().is_none()
}
