//! `[tls]`, `[auth]`, `[throttling]` and `[audit]`: who may come in, how often, and what is remembered of it.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::{Config, Entry, Reader, Throttling};
use crate::manager::tls::is_server_name;

/// Names in the certificate that we make, at most.
const MAX_NAMES: usize = 32;

impl Reader<'_> {
    pub(super) fn tls(&mut self, (key, value): Entry<'_, '_>, config: &mut Config) {
        let tls = &mut config.tls;
        match key.get_ref().as_ref() {
            "certificate" => tls.certificate = self.absolute_path("tls.certificate", value),
            "key" => tls.key = self.absolute_path("tls.key", value),
            "names" => tls.names = self.server_names(value),
            name => self.unknown(key.span(), "tls", name, &["certificate", "key", "names"]),
        }
    }

    pub(super) fn throttling(&mut self, (key, value): Entry<'_, '_>, throttling: &mut Throttling) {
        let slot = match key.get_ref().as_ref() {
            "reads_per_sec" => &mut throttling.reads_per_sec,
            "writes_per_sec" => &mut throttling.writes_per_sec,
            "deletes_per_sec" => &mut throttling.deletes_per_sec,
            name => {
                let allowed = ["reads_per_sec", "writes_per_sec", "deletes_per_sec"];
                return self.unknown(key.span(), "throttling", name, &allowed);
            }
        };
        let name = format!("throttling.{}", key.get_ref());
        if let Some(number) = self.integer(&name, value, 0, 1_000_000, "requests per second, 0 means no bound") {
            *slot = u32::try_from(number).expect("the range was checked");
        }
    }

    pub(super) fn audit(&mut self, (key, value): Entry<'_, '_>, config: &mut Config) {
        match key.get_ref().as_ref() {
            "days" => {
                if let Some(number) = self.integer("audit.days", value, 1, 3650, "days that the activity log goes back")
                {
                    config.audit_days = u32::try_from(number).expect("the range was checked");
                }
            }
            "routes" => match value.get_ref().as_str() {
                Some(path) if path.starts_with('/') && !path.ends_with('/') => {
                    config.route_log = Some(path.to_owned());
                }
                _ => self.mistake(
                    value.span(),
                    "`audit.routes` must be the absolute path of a file".to_owned(),
                ),
            },
            name => self.unknown(key.span(), "audit", name, &["days", "routes"]),
        }
    }

    pub(super) fn auth(&mut self, (key, value): Entry<'_, '_>, config: &mut Config) {
        let auth = &mut config.auth;
        match key.get_ref().as_ref() {
            "issuer" => auth.issuer = self.issuer(value),
            "audience" => match value.get_ref().as_str() {
                Some(audience) if !audience.is_empty() => auth.audience = Some(audience.to_owned()),
                _ => self.mistake(
                    value.span(),
                    "`auth.audience` must be a text that is not empty".to_owned(),
                ),
            },
            "managed_identity" => match value.get_ref().as_bool() {
                Some(on) => auth.managed_identity = on,
                None => self.mistake(value.span(), "`auth.managed_identity` must be true or false".to_owned()),
            },
            name => self.unknown(key.span(), "auth", name, &["issuer", "audience", "managed_identity"]),
        }
    }

    fn issuer(&mut self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let text = value.get_ref().as_str().unwrap_or_default();
        let uri = text.parse::<http::Uri>().ok();
        let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
        let scheme = uri.as_ref().and_then(http::Uri::scheme_str).unwrap_or_default();
        // Keys that come over plain http could be anybody's.
        if !host.is_empty() && (scheme == "https" || (scheme == "http" && is_loopback(host))) {
            return Some(text.to_owned());
        }
        self.mistake(
            value.span(),
            "`auth.issuer` must be an https URL, as the issuer's tokens have it in `iss`".to_owned(),
        );
        None
    }

    pub(super) fn absolute_path(&mut self, name: &str, value: &Spanned<DeValue<'_>>) -> Option<PathBuf> {
        match value.get_ref().as_str() {
            Some(path) if path.starts_with('/') => Some(PathBuf::from(path)),
            _ => {
                self.mistake(
                    value.span(),
                    format!("`{name}` must be the absolute path of a PEM file"),
                );
                None
            }
        }
    }

    fn server_names(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<String> {
        let names = value.get_ref().as_array().and_then(|array| {
            let names = array.iter().map(|name| name.get_ref().as_str().map(str::to_owned));
            names.collect::<Option<Vec<String>>>()
        });
        match names {
            Some(names) if names.len() <= MAX_NAMES && names.iter().all(|name| is_server_name(name)) => names,
            _ => {
                let message = format!("`tls.names` must be a list of at most {MAX_NAMES} host names or addresses");
                self.mistake(value.span(), message);
                Vec::new()
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
