//! `[agents]`: where agents connect, and who may.

use std::net::SocketAddr;
use std::path::PathBuf;

use api::tls::Identity;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{Config, Entry, Reader};
use crate::instance::AgentTls;
use crate::manager::tls::is_server_name;

/// What the section may have.
const ALLOWED: [&str; 6] = ["listen", "host", "tokens", "certificate", "key", "client_ca"];

/// What the section says of files, before it is known whether they belong together.
#[derive(Debug, Default)]
struct Files {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
}

impl Reader<'_> {
    pub(super) fn agents(&mut self, section: &Spanned<DeString<'_>>, table: &DeTable<'_>, config: &mut Config) {
        let mut files = Files::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "listen" => config.agents_listen = self.agents_listen(value),
                "host" => config.agents_host = self.agents_host(value),
                "tokens" => self.agents_tokens((key, value), config),
                "certificate" => files.certificate = self.absolute_path("agents.certificate", value),
                "key" => files.key = self.absolute_path("agents.key", value),
                "client_ca" => files.client_ca = self.absolute_path("agents.client_ca", value),
                name => self.unknown(key.span(), "agents", name, &ALLOWED),
            }
        }
        let value = |name: &str| {
            table
                .iter()
                .find(|(key, _)| key.get_ref() == name)
                .map(|(_, value)| value)
        };
        let said = |name: &str| value(name).is_some();
        if said("certificate") != said("key") || (said("client_ca") && !said("certificate")) {
            let message = "[agents] needs `certificate` and `key`, or neither; `client_ca` needs both".to_owned();
            self.mistake(section.span(), message);
        }
        if let (Some(certificate), Some(key)) = (files.certificate, files.key) {
            config.agents_tls = Some(AgentTls {
                identity: Identity { certificate, key },
                client_ca: files.client_ca,
            });
        }
        let is_guarded = said("certificate") && (config.agents_need_tokens || said("client_ca"));
        let is_loopback = config.agents_listen.is_none_or(|listen| listen.ip().is_loopback());
        if let Some(listen) = value("listen").filter(|_| !is_loopback && !is_guarded) {
            let message = "`agents.listen`: another address than loopback needs TLS (`certificate`, `key`) and either `tokens = true` or \
                           `client_ca`, since whoever connects there is told the routes of any NIC"
                .to_owned();
            self.mistake(listen.span(), message);
        }
    }

    fn agents_listen(&mut self, value: &Spanned<DeValue<'_>>) -> Option<SocketAddr> {
        match value.get_ref().as_str().map(str::parse::<SocketAddr>) {
            Some(Ok(address)) if address.port() == u16::MAX => self.mistake(
                value.span(),
                "`agents.listen`: instance 1 takes the next port, so 65534 is the highest".to_owned(),
            ),
            Some(Ok(address)) => return Some(address),
            _ => self.mistake(
                value.span(),
                "`agents.listen` must be ADDRESS:PORT in quotes, for example \"127.0.0.1:8081\"".to_owned(),
            ),
        }
        None
    }

    fn agents_host(&mut self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        match value.get_ref().as_str() {
            Some(host) if is_server_name(host) && !host.starts_with('*') => return Some(host.to_owned()),
            _ => self.mistake(
                value.span(),
                "`agents.host` must be a host name or an address, as the certificate has it".to_owned(),
            ),
        }
        None
    }

    fn agents_tokens(&mut self, (_, value): Entry<'_, '_>, config: &mut Config) {
        match value.get_ref().as_bool() {
            Some(needed) => config.agents_need_tokens = needed,
            None => self.mistake(
                value.span(),
                "`agents.tokens` must be true or false: whether agents need tokens".to_owned(),
            ),
        }
    }
}
