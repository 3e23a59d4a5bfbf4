//! The configuration file: TOML, read whole, with every mistake told at once and at its place.
//!
//! ```toml
//! [store]
//! kind = "sqlite"              # or "etcd", shared by the managers of several machines:
//! endpoints = ["https://etcd0.example:2379", "https://etcd1.example:2379"]
//! prefix = "/routewright/"     # all keys begin with it
//! ca = "/etc/routewright/etcd-ca.pem"               # with https: who signed the members' certificates
//! certificate = "/etc/routewright/etcd.pem"         # ours, and its key, if the members want one
//! key = "/etc/routewright/etcd-key.pem"
//! user = "routewright"         # where etcd has users
//! password_file = "/etc/routewright/etcd-password"
//! [limits]                     # Azure's values by default, 0 = no limit
//! peers = 8
//! routes_per_peer = 4000
//! total_routes = 10000
//! vnets = 500
//! vms = 4000
//! routes_to_expressroute = 1000
//! memory_mib = 0               # of each instance process, at least 64; near it the noisiest peer goes, and not the process
//! [bind]                       # address, subnet id or prefix = network namespace path or interface; that order counts
//! "10.1.255.4/32" = "/run/netns/gw0"
//! "10.1.255.0/27" = "/run/netns/fabric"
//! [agents]
//! listen = "127.0.0.1:8081"    # instance 0; instance 1 takes the next port
//! tokens = false               # whether agents need tokens, each for its NICs
//! certificate = "/etc/routewright/agents.pem"       # TLS: what agents are shown, and its key
//! key = "/etc/routewright/agents-key.pem"
//! client_ca = "/etc/routewright/agents-ca.pem"      # only agents with a certificate of these authorities may connect
//! host = "routes.example"      # what the manager tells agents instead of the address of `listen`
//! [instances]
//! silence_secs = 10            # an instance silent for so long no longer counts
//! [tls]                        # without certificate and key, --tls-listen makes its own
//! certificate = "/etc/routewright/tls.pem"
//! key = "/etc/routewright/tls-key.pem"
//! names = ["routes.example"]   # further names for the certificate that we make
//! [auth]                       # tokens of another issuer are taken, too
//! issuer = "https://login.example/v2.0"
//! audience = "api://routewright"
//! managed_identity = false     # anybody on this machine gets tokens of the managed identity
//! [throttling]                 # of each principal in each subscription, 0 = no bound; Azure's are 25, 10, 10
//! reads_per_sec = 5000
//! writes_per_sec = 1000
//! deletes_per_sec = 1000
//! [audit]
//! days = 90                    # the activity log goes back so far
//! routes = "/var/log/routewright/routes.jsonl"   # route changes, of instance 0 in routes.0.jsonl
//! ```

mod agents;
mod door;
mod store;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use arm::settings::Limits;
use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::instance::AgentTls;
use crate::manager::tls::TlsConfig;
use crate::store::EtcdConfig;

/// A longer configuration than this is a mistake.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// What an instance needs for itself, and some.
const MIN_MEMORY_MIB: i64 = 64;
/// More mistakes than this are not listed.
const MAX_MISTAKES: usize = 100;
/// What the file may have.
const SECTIONS: [&str; 9] = [
    "store",
    "limits",
    "bind",
    "agents",
    "instances",
    "tls",
    "auth",
    "throttling",
    "audit",
];

/// What the file says, with defaults for what it doesn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[store]` with `kind = "etcd"`; `None`: the embedded store.
    pub etcd: Option<EtcdConfig>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[bind]`: address, subnet id (lower case) or prefix → network namespace path or interface.
    pub bind: BTreeMap<String, String>,
    /// `[agents] listen`: where instance 0 takes agents; instance 1 takes the next port.
    pub agents_listen: Option<SocketAddr>,
    /// `[agents] tokens`: an agent needs a token for each of its NICs.
    pub agents_need_tokens: bool,
    /// `[agents] certificate`, `key`, `client_ca`: TLS for agents.
    pub agents_tls: Option<AgentTls>,
    /// `[agents] host`: where agents find the instances of this machine, if not at the address of `listen`.
    pub agents_host: Option<String>,
    /// `[instances] silence_secs`.
    pub silence_secs: u64,
    /// `[tls]`.
    pub tls: TlsConfig,
    /// `[auth]`.
    pub auth: AuthConfig,
    /// `[throttling]`.
    pub throttling: Throttling,
    /// `[audit] days`: what is older is forgotten.
    pub audit_days: u32,
    /// `[audit] routes`: where instances log route changes.
    pub route_log: Option<String>,
}

/// `[auth]`: whose tokens are taken beside our own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// `iss` of its tokens; its discovery document is below it.
    pub issuer: Option<String>,
    /// `aud` of its tokens.
    pub audience: Option<String>,
    /// Whether whoever reaches loopback gets tokens of the managed identity.
    pub managed_identity: bool,
}

/// `[throttling]`: requests that each principal may send in each subscription; 0 is no bound. A bucket holds what comes in 10 s of
/// reads, in 20 s of writes or deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttling {
    /// GET and HEAD.
    pub reads_per_sec: u32,
    /// PUT, PATCH and POST.
    pub writes_per_sec: u32,
    /// DELETE.
    pub deletes_per_sec: u32,
}

impl Default for Throttling {
    /// Far more than one client needs, about what this server can do: only who goes round and round is held back. Azure's (25, 10
    /// and 10) are for a service that many share.
    fn default() -> Throttling {
        Throttling {
            reads_per_sec: 5000,
            writes_per_sec: 1000,
            deletes_per_sec: 1000,
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            etcd: None,
            limits: Limits::default(),
            bind: BTreeMap::new(),
            agents_listen: None,
            agents_need_tokens: false,
            agents_tls: None,
            agents_host: None,
            silence_secs: 10,
            tls: TlsConfig::default(),
            auth: AuthConfig::default(),
            throttling: Throttling::default(),
            audit_days: 90,
            route_log: None,
        }
    }
}

/// One mistake and its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl Config {
    /// Reads a configuration, or finds all that is wrong with it.
    pub fn parse(text: &str) -> Result<Config, Vec<Mistake>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader {
            text,
            mistakes: Vec::new(),
        };
        for error in errors {
            reader.mistake(error.span().unwrap_or(0..0), one_line(error.message()).to_string());
        }
        let config = reader.config(table.get_ref());
        let mut mistakes = reader.mistakes;
        if mistakes.is_empty() {
            return Ok(config);
        }
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        mistakes.dedup();
        mistakes.truncate(MAX_MISTAKES);
        Err(mistakes)
    }
}

/// The text beside what is wrong with it so far.
struct Reader<'t> {
    text: &'t str,
    mistakes: Vec<Mistake>,
}

type Entry<'a, 'i> = (&'a Spanned<toml::de::DeString<'i>>, &'a Spanned<DeValue<'i>>);

impl Reader<'_> {
    fn config(&mut self, root: &DeTable<'_>) -> Config {
        let mut config = Config::default();
        for (key, value) in root {
            let name = key.get_ref().as_ref();
            if !SECTIONS.contains(&name) {
                let allowed = SECTIONS.map(|section| format!("[{section}]")).join(", ");
                self.mistake(
                    key.span(),
                    format!("there is no section `{name}`; allowed are {allowed}"),
                );
                continue;
            }
            let Some(table) = value.get_ref().as_table() else {
                self.mistake(value.span(), format!("`{name}` must be a section: [{name}]"));
                continue;
            };
            if name == "store" {
                config.etcd = self.store(key, table);
                continue;
            }
            if name == "agents" {
                self.agents(key, table, &mut config);
                continue;
            }
            for entry in table {
                match name {
                    "limits" => self.limits(entry, &mut config.limits),
                    "bind" => self.bind(entry, &mut config.bind),
                    "tls" => self.tls(entry, &mut config),
                    "auth" => self.auth(entry, &mut config),
                    "throttling" => self.throttling(entry, &mut config.throttling),
                    "audit" => self.audit(entry, &mut config),
                    _ => self.instances(entry, &mut config.silence_secs),
                }
            }
            self.both_or_none(name, key, &config);
        }
        config
    }

    /// Entries that mean nothing without each other.
    fn both_or_none(&mut self, section: &str, key: &Spanned<toml::de::DeString<'_>>, config: &Config) {
        let (first, second) = match section {
            "tls" => (config.tls.certificate.is_some(), config.tls.key.is_some()),
            "auth" => (config.auth.issuer.is_some(), config.auth.audience.is_some()),
            _ => return,
        };
        if first != second {
            let both = if section == "tls" {
                "`certificate` and `key`"
            } else {
                "`issuer` and `audience`"
            };
            self.mistake(key.span(), format!("[{section}] needs {both}, or neither"));
        }
    }

    fn limits(&mut self, (key, value): Entry<'_, '_>, limits: &mut Limits) {
        let slot = match key.get_ref().as_ref() {
            "peers" => &mut limits.peers,
            "routes_per_peer" => &mut limits.routes_per_peer,
            "total_routes" => &mut limits.total_routes,
            "vnets" => &mut limits.vnets,
            "vms" => &mut limits.vms,
            "routes_to_expressroute" => &mut limits.routes_to_expressroute,
            "memory_mib" => return self.memory_mib(value, limits),
            name => {
                let allowed = [
                    "peers",
                    "routes_per_peer",
                    "total_routes",
                    "vnets",
                    "vms",
                    "routes_to_expressroute",
                    "memory_mib",
                ];
                return self.unknown(key.span(), "limits", name, &allowed);
            }
        };
        let name = format!("limits.{}", key.get_ref());
        if let Some(number) = self.integer(&name, value, 0, i64::from(u32::MAX), "0 means no limit") {
            *slot = u32::try_from(number).expect("the range was checked");
        }
    }

    /// A ceiling below which an instance cannot even begin would have it end everybody.
    fn memory_mib(&mut self, value: &Spanned<DeValue<'_>>, limits: &mut Limits) {
        let meaning = "0 means no ceiling; otherwise MiB of each instance process, at least 64";
        match self.integer("limits.memory_mib", value, 0, 1 << 20, meaning) {
            Some(mib @ 1..MIN_MEMORY_MIB) => self.mistake(
                value.span(),
                format!("`limits.memory_mib` must be 0 (no ceiling) or at least {MIN_MEMORY_MIB}, not {mib}"),
            ),
            Some(mib) => limits.memory_mib = u32::try_from(mib).expect("the range was checked"),
            None => {}
        }
    }

    fn bind(&mut self, (key, value): Entry<'_, '_>, bind: &mut BTreeMap<String, String>) {
        let wanted = key.get_ref().as_ref();
        let subnet = bind_key(wanted);
        if let Err(problem) = &subnet {
            self.mistake(key.span(), format!("`bind.\"{wanted}\"`: {problem}"));
        }
        let place = match value.get_ref().as_str() {
            Some(place) => bind_place(place).map(|()| place.to_owned()),
            None => Err(format!("must be a string, not {}", value.get_ref().type_str())),
        };
        if let Err(problem) = &place {
            self.mistake(value.span(), format!("`bind.\"{wanted}\"`: {problem}"));
        }
        let (Ok(subnet), Ok(place)) = (subnet, place) else {
            return;
        };
        if bind.insert(subnet, place).is_some() {
            self.mistake(
                key.span(),
                format!("`bind.\"{wanted}\"` is there twice (ids compare without regard to case)"),
            );
        }
    }

    fn instances(&mut self, (key, value): Entry<'_, '_>, silence_secs: &mut u64) {
        let name = key.get_ref().as_ref();
        if name != "silence_secs" {
            return self.unknown(key.span(), "instances", name, &["silence_secs"]);
        }
        if let Some(number) = self.integer("instances.silence_secs", value, 1, 3600, "seconds") {
            *silence_secs = u64::try_from(number).expect("the range was checked");
        }
    }

    fn integer(&mut self, name: &str, value: &Spanned<DeValue<'_>>, min: i64, max: i64, meaning: &str) -> Option<i64> {
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|number| i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok());
        match number {
            Some(number) if (min..=max).contains(&number) => Some(number),
            _ => {
                self.mistake(
                    value.span(),
                    format!("`{name}` must be a whole number from {min} to {max} ({meaning})"),
                );
                None
            }
        }
    }

    fn unknown(&mut self, span: Range<usize>, section: &str, name: &str, allowed: &[&str]) {
        let nearest = allowed
            .iter()
            .find(|candidate| candidate.starts_with(name) || name.starts_with(*candidate))
            .map(|candidate| format!(" (did you mean `{candidate}`?)"))
            .unwrap_or_default();
        self.mistake(
            span,
            format!(
                "[{section}] knows no `{name}`{nearest}; allowed: {}",
                allowed.join(", ")
            ),
        );
    }

    fn mistake(&mut self, span: Range<usize>, message: String) {
        let (line, column) = place(self.text, span.start);
        self.mistakes.push(Mistake { line, column, message });
    }
}

/// The key that `[bind]` entries are found by.
fn bind_key(text: &str) -> Result<String, String> {
    if let Ok(prefix) = text.parse::<IpNet>() {
        return if prefix.trunc() == prefix {
            Ok(prefix.to_string())
        } else {
            Err(format!("host bits are set; did you mean \"{}\"?", prefix.trunc()))
        };
    }
    let key = text.to_ascii_lowercase();
    let segments: Vec<&str> = key.split('/').collect();
    match segments.as_slice() {
        [
            "",
            "subscriptions",
            subscription,
            "resourcegroups",
            group,
            "providers",
            "microsoft.network",
            "virtualnetworks",
            network,
            "subnets",
            subnet,
        ] if [subscription, group, network, subnet]
            .iter()
            .all(|name| !name.is_empty()) =>
        {
            Ok(key)
        }
        _ if text.parse::<IpAddr>().is_ok() => {
            Err("is an address; a prefix needs its length, for example \"10.1.255.0/27\", or \"10.1.255.4/32\" for one address".to_owned())
        }
        _ => Err("the key must be a subnet's resource id or a prefix".to_owned()),
    }
}

/// A network namespace path, or an interface name as Linux allows it.
fn bind_place(text: &str) -> Result<(), String> {
    const MAX_INTERFACE_NAME: usize = 15;
    let is_path = text.starts_with('/') && text.len() > 1;
    let is_interface = (1..=MAX_INTERFACE_NAME).contains(&text.len())
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if is_path || is_interface {
        return Ok(());
    }
    Err(format!(
        "the value must be a network namespace path (\"/run/netns/fabric\") or an interface name of at most {MAX_INTERFACE_NAME} characters"
    ))
}

/// Line and column, from 1, of a byte offset.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
    (line, column)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<String> = match Config::parse(text) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.iter().map(Mistake::to_string).collect(),
        };
        assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\nis not\n{expected}…");
        }
    }

    #[test]
    fn nothing_said_means_azures_limits() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
        assert_eq!(Config::default().limits.peers, 8);
    }

    #[test]
    fn everything_that_may_be_said_is_taken() {
        let config = Config::parse(
            r#"
            [store]
            kind = "sqlite"
            [limits]
            peers = 0
            total_routes = 1_000_000
            memory_mib = 512
            [bind]
            "10.1.255.0/27" = "/run/netns/fabric"
            "/subscriptions/S/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/RouteServerSubnet" = "eth1"
            [agents]
            tokens = true
            listen = "127.0.0.1:9000"
            [instances]
            silence_secs = 3
            [throttling]
            writes_per_sec = 0
            "#,
        )
        .unwrap();
        assert_eq!((config.limits.peers, config.limits.total_routes), (0, 1_000_000));
        assert_eq!(config.limits.memory_mib, 512);
        assert_eq!(config.bind["10.1.255.0/27"], "/run/netns/fabric");
        assert_eq!(
            config.bind["/subscriptions/s/resourcegroups/g/providers/microsoft.network/virtualnetworks/v/subnets/routeserversubnet"],
            "eth1"
        );
        assert_eq!(config.agents_listen.unwrap().port(), 9000);
        assert!(config.agents_need_tokens);
        assert_eq!(config.silence_secs, 3);
        let reads_per_sec = Throttling::default().reads_per_sec;
        assert_eq!(
            (config.throttling.writes_per_sec, config.throttling.reads_per_sec),
            (0, reads_per_sec)
        );
    }

    #[test]
    fn a_shared_store_is_taken_with_all_that_belongs_to_it() {
        let said = "[store]\nkind = \"etcd\"\nendpoints = [\"http://a:2379\", \"https://b:2379\"]\nca = \"/ca\"\n\
                    certificate = \"/c\"\nkey = \"/k\"\nuser = \"u\"\npassword_file = \"/p\"";
        let etcd = Config::parse(said).unwrap().etcd.unwrap();
        assert_eq!(etcd.endpoints, ["http://a:2379", "https://b:2379"]);
        assert_eq!(etcd.prefix, "/routewright/");
        assert_eq!((etcd.user.as_deref(), etcd.ca), (Some("u"), Some("/ca".into())));
    }

    #[test]
    fn agents_of_other_machines_may_come_with_tls_and_tokens_or_certificates_of_their_own() {
        let tls =
            "[agents]\nlisten = \"0.0.0.0:8081\"\ncertificate = \"/c\"\nkey = \"/k\"\nhost = \"routes.example\"\n";
        for guard in ["tokens = true", "client_ca = \"/ca\""] {
            let config = Config::parse(&format!("{tls}{guard}")).unwrap();
            let shown = config.agents_tls.unwrap();
            assert_eq!(shown.identity.key.to_str(), Some("/k"));
            assert_eq!(shown.client_ca.is_some(), !config.agents_need_tokens);
            assert_eq!(config.agents_host.as_deref(), Some("routes.example"));
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_place_and_what_is_allowed() {
        check(
            "[limit]\npeers = 8",
            &["1:2: there is no section `limit`; allowed are [store]"],
        );
        check("limits = 3", &["1:10: `limits` must be a section"]);
        check(
            "[limits]\npeer = 8",
            &["2:1: [limits] knows no `peer` (did you mean `peers`?)"],
        );
        check(
            "[limits]\npeers = -1\nvms = \"many\"\nvnets = 1.5",
            &[
                "2:9: `limits.peers` must be a whole number from 0",
                "3:7: `limits.vms` must",
                "4:9: `limits.vnets` must",
            ],
        );
        check("[limits]\npeers = 99999999999", &["2:9: `limits.peers` must"]);
        check(
            "[limits]\nmemory_mib = 63",
            &["2:14: `limits.memory_mib` must be 0 (no ceiling) or at least 64"],
        );
        check(
            "[store]\nkind = \"etcd\"\npath = 1",
            &[
                "1:2: [store] with kind = \"etcd\" needs `endpoints`",
                "3:1: [store] knows no `path`",
            ],
        );
        check(
            "[store]\nkind = 1",
            &["2:8: `store.kind` must be \"sqlite\" or \"etcd\""],
        );
        check(
            "[store]\nuser = \"u\"\nendpoints = [\"localhost:2379\"]",
            &[
                "1:2: [store] needs `user` and `password_file`, or neither",
                "1:2: [store]: only kind = \"etcd\" has",
                "3:13: `store.endpoints` must be a list",
            ],
        );
        check(
            "[store]\nkind = \"etcd\"\nendpoints = [\"https://a:2379\"]\nprefix = \"x\"",
            &[
                "1:2: [store] needs `ca`",
                "4:10: `store.prefix` must begin and end with a slash",
            ],
        );
        check(
            "[bind]\n\"10.1.0.1/16\" = \"x\"",
            &["2:1: `bind.\"10.1.0.1/16\"`: host bits are set"],
        );
        check(
            "[bind]\n\"10.1.0.1\" = \"x\"",
            &["2:1: `bind.\"10.1.0.1\"`: is an address"],
        );
        check(
            "[bind]\nvnet = \"a name that is long\"",
            &["2:1: `bind.\"vnet\"`: the key", "2:8: `bind.\"vnet\"`: the value"],
        );
        check(
            "[bind]\n\"10.0.0.0/8\" = 1",
            &["2:16: `bind.\"10.0.0.0/8\"`: must be a string, not integer"],
        );
        check(
            "[agents]\nlisten = \"0.0.0.0:1\"",
            &["2:10: `agents.listen`: another address than loopback needs TLS (`certificate`, `key`) and either"],
        );
        check(
            "[agents]\nlisten = \"0.0.0.0:1\"\ntokens = true",
            &["2:10: `agents.listen`: another address"],
        );
        check(
            "[agents]\ncertificate = \"/c\"\nkey = \"/k\"\nlisten = \"10.0.0.4:1\"",
            &["4:10: `agents.listen`: another address"],
        );
        check(
            "[agents]\nclient_ca = \"/ca\"\nkey = \"k\"\nhost = \"a b\"\ncert = 1",
            &[
                "1:2: [agents] needs `certificate` and `key`, or neither",
                "3:7: `agents.key` must be the absolute path",
                "4:8: `agents.host` must be",
                "5:1: [agents] knows no `cert` (did you mean `certificate`?)",
            ],
        );
        check(
            "[agents]\nlisten = \"8081\"",
            &["2:10: `agents.listen` must be ADDRESS:PORT"],
        );
        check("[agents]\ntokens = 1", &["2:10: `agents.tokens` must be true or false"]);
        check(
            "[instances]\nsilence_secs = 0",
            &["2:16: `instances.silence_secs` must be a whole number from 1 to 3600"],
        );
        check("[tls]\nkey = \"/k\"", &["1:2: [tls] needs `certificate` and `key`"]);
        check(
            "[tls]\nnames = [\"a b\"]\ncert = 1",
            &[
                "2:9: `tls.names` must be",
                "3:1: [tls] knows no `cert` (did you mean `certificate`?)",
            ],
        );
        check(
            "[auth]\nissuer = \"http://login.example\"\naudience = \"a\"",
            &["1:2: [auth] needs", "2:10: `auth.issuer` must be an https URL"],
        );
        check(
            "[throttling]\nreads_per_sec = -1\nwrites = 1",
            &[
                "2:17: `throttling.reads_per_sec` must be a whole number from 0",
                "3:1: [throttling] knows no `writes` (did you mean `writes_per_sec`?)",
            ],
        );
        check(
            "[audit]\ndays = 0\nroutes = \"here\"\nroute = 1",
            &[
                "2:8: `audit.days` must be a whole number from 1",
                "3:10: `audit.routes` must be the absolute path of a file",
                "4:1: [audit] knows no `route` (did you mean `routes`?)",
            ],
        );
    }

    #[test]
    fn broken_syntax_does_not_hide_the_other_mistakes() {
        let mistakes = Config::parse("[limits]\npeers = \nvms = -1\n[agents]\nlisten = 3\n").unwrap_err();
        let lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.line).collect();
        assert!(
            lines.contains(&2) && lines.contains(&3) && lines.contains(&5),
            "{mistakes:?}"
        );
    }

    #[test]
    fn columns_count_characters_not_bytes() {
        assert_eq!(place("ä = 1\nöö = x", 14), (2, 6));
        assert_eq!(place("", 7), (1, 1));
    }
}
