//! The speakers, and what a scenario must know about each of them.

use std::process::Command;

use lab::topology::Software;

/// A BGP speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker(pub Software);

/// Those of the matrix, two neighbours at a time: heavy ones beside light ones.
pub const SPEAKERS: [Speaker; 6] = [
    Speaker(Software::Frr),
    Speaker(Software::Bird),
    Speaker(Software::Gobgp),
    Speaker(Software::Openbgpd),
    Speaker(Software::Exabgp),
    Speaker(Software::Builtin),
];

impl Speaker {
    /// As in trial names.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Why no scenario can run with it here.
    pub fn cannot_run(self, rootless: bool) -> Option<String> {
        if self.0 == Software::Openbgpd && rootless {
            return Some(
                "OpenBGPD changes to a user of its own, which a user namespace does not have; run as root".to_owned(),
            );
        }
        let (program, package) = match self.0 {
            Software::Frr => ("/usr/lib/frr/bgpd", "frr"),
            Software::Bird => ("bird", "bird2"),
            Software::Gobgp => ("gobgpd", "gobgpd"),
            Software::Openbgpd => ("/usr/sbin/bgpctl", "openbgpd"),
            Software::Exabgp => ("exabgp", "exabgp"),
            Software::Builtin | Software::External => return None,
        };
        (!is_installed(program)).then(|| format!("{program} is not installed: apt-get install {package}"))
    }

    /// Whether it offers the capability (RFC 2918) as the lab configures it.
    pub(crate) fn offers_route_refresh(self) -> bool {
        self.0 != Software::Exabgp
    }

    /// Why it sends nothing again when it is asked to, if so.
    pub(crate) fn ignores_route_refresh(self) -> Option<&'static str> {
        match self.0 {
            Software::Exabgp => Some("ExaBGP offers route refresh only if told to, and the lab does not"),
            Software::Openbgpd if openbgpd_version().is_some_and(|version| version < (7, 8)) => {
                Some("OpenBGPD before 7.8 drops a ROUTE-REFRESH with \"AID IPv4 unicast not negotiated\" in its log")
            }
            _ => None,
        }
    }

    /// What its own log says when it is told Cease/1, Maximum Number of Prefixes Reached (RFC 4486 §4); ExaBGP does not say.
    pub(crate) fn words_for_prefix_limit(self) -> Option<&'static str> {
        match self.0 {
            Software::Frr => Some("6/1 (Cease/Maximum Number of Prefixes Reached)"),
            Software::Bird => Some("Received: Maximum number of prefixes reached"),
            Software::Gobgp => Some("subcode 1(maximum number of prefixes reached)"),
            Software::Openbgpd => Some("Cease, received max-prefix exceeded"),
            Software::Builtin => Some("code: 6, subcode: 1"),
            Software::Exabgp | Software::External => None,
        }
    }
}

/// Such as (7, 7), from "OpenBGPD 7.7".
fn openbgpd_version() -> Option<(u32, u32)> {
    let output = Command::new("/usr/sbin/bgpd").arg("-V").output().ok()?;
    let text = String::from_utf8([output.stdout, output.stderr].concat()).ok()?;
    let (major, minor) = text.trim().strip_prefix("OpenBGPD ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn is_installed(program: &str) -> bool {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .env("PATH", path)
        .output();
    found.is_ok_and(|output| output.status.success())
}
