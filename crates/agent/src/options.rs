//! What the command line says: NICs, servers, and which routes to install.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::ours::TABLE_MAIN;
use crate::tls::AgentTls;

/// Namespaces named without a path are here, as `ip netns` puts them.
const NAMED_NAMESPACES: &str = "/run/netns";

/// Options of `routewright agent`.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// A name for people; the host's name is a good one.
    pub name: String,
    /// URLs of the instances, or of the manager, which knows them.
    pub servers: Vec<String>,
    /// The NICs to install routes on.
    pub nics: Vec<NicSpec>,
    /// Which system routes to install.
    pub system_routes: SystemRoutes,
    /// What instances want to see of an agent before they tell it of its NICs, where they do.
    pub token: Option<String>,
    /// For servers whose URLs begin with `https`.
    pub tls: Option<AgentTls>,
    /// How groups spread flows; `None`: by hash, over the members that there are.
    pub resilient: Option<Resilient>,
    /// Whether to make settings of the NICs' namespaces.
    pub kernel_settings: KernelSettings,
}

/// Resilient groups (`Documentation/networking/nexthop-group-resilient.rst` of Linux): flows are spread over buckets, and one that is in use
/// keeps its next hop when others come or go. `BUCKETS[,IDLE_SECS]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resilient {
    /// Buckets of each group; the kernel wants at least as many as a group has next hops.
    pub buckets: u16,
    /// A bucket without packets for so long may get another next hop, when there are new ones.
    pub idle_secs: u32,
}

/// Of Linux, and its own default.
const IDLE_SECS: u32 = 120;
/// The kernel counts in hundredths of a second, in 32 bits.
const MAX_IDLE_SECS: u32 = u32::MAX / 100;

impl FromStr for Resilient {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Resilient, OptionError> {
        let wrong = || OptionError::Resilient(text.to_owned());
        let (buckets, idle) = text
            .split_once(',')
            .map_or((text, None), |(buckets, idle)| (buckets, Some(idle)));
        let idle_secs = idle.map_or(Ok(IDLE_SECS), |idle| idle.parse().map_err(|_| wrong()))?;
        let buckets = buckets.parse().map_err(|_| wrong())?;
        if buckets == 0 || idle_secs > MAX_IDLE_SECS {
            return Err(wrong());
        }
        Ok(Resilient { buckets, idle_secs })
    }
}

/// Settings of the NICs' namespaces that groups need: `net.ipv4.nexthop_compat_mode=0`, `net.ipv4.fib_multipath_hash_policy=1` and that of IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelSettings {
    /// The agent makes them, and says so when it cannot.
    #[default]
    Set,
    /// They are the operator's. The agent says in its log what differs.
    Leave,
}

impl FromStr for KernelSettings {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<KernelSettings, OptionError> {
        match text {
            "set" => Ok(KernelSettings::Set),
            "leave" => Ok(KernelSettings::Leave),
            _ => Err(OptionError::KernelSettings(text.to_owned())),
        }
    }
}

/// Options of `routewright agent flush`.
#[derive(Clone, Debug, Default)]
pub struct FlushOptions {
    /// Where to remove our routes; the ids don't matter. Empty: the main table of the agent's own namespace.
    pub nics: Vec<NicSpec>,
}

/// Whether to install routes that can cut the agent off from its servers (`Internet`, `None`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SystemRoutes {
    /// Leave them out: the host has its own default route.
    #[default]
    None,
    /// Install them, as the lab does.
    All,
}

impl FromStr for SystemRoutes {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<SystemRoutes, OptionError> {
        match text {
            "all" => Ok(SystemRoutes::All),
            "none" => Ok(SystemRoutes::None),
            _ => Err(OptionError::SystemRoutes(text.to_owned())),
        }
    }
}

/// A NIC and where its routes go: `ID[,netns=NAME|PATH][,table=N]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicSpec {
    /// ARM id, lower case.
    pub id: String,
    /// A network namespace; `None`: the agent's own.
    pub namespace: Option<PathBuf>,
    /// The routing table.
    pub table: u32,
}

impl NicSpec {
    /// Whether it is an instance of a gateway or of a provider's edge (`<id>/instances/0`): these alone have links of their own beside the
    /// network's. What a network interface sends leaves by it, wherever else the machine is linked to.
    pub(crate) fn has_links_beside(&self) -> bool {
        let number = self.id.rsplit_once("/instances/").map(|(_, number)| number);
        number.is_some_and(|number| number.parse::<u8>().is_ok())
    }
}

impl FromStr for NicSpec {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<NicSpec, OptionError> {
        let mut parts = text.split(',');
        let id = parts.next().unwrap_or_default().trim().to_lowercase();
        if id.is_empty() || id.contains('=') {
            return Err(OptionError::NoNic(text.to_owned()));
        }
        let mut spec = NicSpec {
            id,
            namespace: None,
            table: TABLE_MAIN,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("netns", name)) if !name.is_empty() => spec.namespace = Some(namespace_path(name)),
                Some(("table", number)) => spec.table = parse_table(number)?,
                _ => return Err(OptionError::NicPart(part.to_owned())),
            }
        }
        Ok(spec)
    }
}

impl fmt::Display for NicSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        if let Some(namespace) = &self.namespace {
            write!(f, ",netns={}", namespace.display())?;
        }
        if self.table != TABLE_MAIN {
            write!(f, ",table={}", self.table)?;
        }
        Ok(())
    }
}

fn namespace_path(name: &str) -> PathBuf {
    if name.contains('/') {
        PathBuf::from(name)
    } else {
        PathBuf::from(NAMED_NAMESPACES).join(name)
    }
}

fn parse_table(number: &str) -> Result<u32, OptionError> {
    match number.parse() {
        // 0 means "any" to the kernel, 255 is its own table of local addresses.
        Ok(table) if table != 0 && table != u32::from(libc::RT_TABLE_LOCAL) => Ok(table),
        _ => Err(OptionError::Table(number.to_owned())),
    }
}

/// A mistake on the command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The NIC's id is missing.
    #[error("\"{0}\" names no NIC; expected ID[,netns=NAME|PATH][,table=N]")]
    NoNic(String),
    /// Something else than netns= or table=.
    #[error("\"{0}\" is neither netns=NAME|PATH nor table=N")]
    NicPart(String),
    /// Not a routing table for us.
    #[error("table={0}: expected a number from 1 to 4294967295 that is not 255 (local)")]
    Table(String),
    /// Neither all nor none.
    #[error("--system-routes {0}: expected all or none")]
    SystemRoutes(String),
    /// Not a number of buckets.
    #[error("--resilient {0}: expected BUCKETS[,IDLE_SECS], from 1 to 65535 buckets, as 128 or 128,60")]
    Resilient(String),
    /// Neither set nor leave.
    #[error("--kernel-settings {0}: expected set or leave")]
    KernelSettings(String),
    /// No NIC at all.
    #[error("no NIC is given; add --nic ID[,netns=NAME|PATH][,table=N]")]
    NoNics,
    /// No server at all.
    #[error("no server is given; add --server URL")]
    NoServers,
    /// Whom to trust is not known.
    #[error("--server {0} needs --ca FILE, the authority of its certificate")]
    NoAuthority(String),
    /// The token would go over the network in plain text.
    #[error("--token-file: {0}")]
    TokenInPlain(String),
    /// Their routes would be each other's.
    #[error(
        "{first} and {second} would share one routing table; give one of them another table=N or network namespace"
    )]
    SharedTable {
        /// One NIC.
        first: String,
        /// The other one.
        second: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, Option<&str>, u32), OptionError>) {
        let expected = expected.map(|(id, namespace, table)| NicSpec {
            id: id.to_owned(),
            namespace: namespace.map(PathBuf::from),
            table,
        });
        assert_eq!(text.parse::<NicSpec>(), expected, "{text}");
    }

    #[test]
    fn a_nic_is_its_id_and_where_its_routes_go() {
        check("/subscriptions/S/nic1", Ok(("/subscriptions/s/nic1", None, 254)));
        check("/n,netns=vm1", Ok(("/n", Some("/run/netns/vm1"), 254)));
        check(
            "/n,netns=/proc/7/ns/net,table=100",
            Ok(("/n", Some("/proc/7/ns/net"), 100)),
        );
        check("/n,table=4294967295", Ok(("/n", None, u32::MAX)));
    }

    #[test]
    fn resilient_groups_have_a_number_of_buckets() {
        let check = |text: &str, expected: Option<(u16, u32)>| {
            let parsed: Option<Resilient> = text.parse().ok();
            assert_eq!(
                parsed.map(|parsed| (parsed.buckets, parsed.idle_secs)),
                expected,
                "{text}"
            );
        };
        check("128", Some((128, 120)));
        check("4096,0", Some((4096, 0)));
        for wrong in ["", "0", "65536", "128,", "128,x", "128,42949673", "-1"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_mistake_in_a_nic_is_named() {
        check("", Err(OptionError::NoNic(String::new())));
        check("netns=vm1", Err(OptionError::NoNic("netns=vm1".to_owned())));
        check("/n,netns=", Err(OptionError::NicPart("netns=".to_owned())));
        check("/n,vrf=7", Err(OptionError::NicPart("vrf=7".to_owned())));
        check("/n,table=0", Err(OptionError::Table("0".to_owned())));
        check("/n,table=255", Err(OptionError::Table("255".to_owned())));
        check("/n,table=main", Err(OptionError::Table("main".to_owned())));
    }
}
