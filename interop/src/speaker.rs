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

    /// What its own log says when it is told Cease/1, Maximum Number of Prefixes Reached (RFC 4486 §4); ExaBGP does not say.
    pub(crate) fn words_for_prefix_limit(self) -> Option<&'static str> {
        match self.0 {
            Software::Frr => Some("6/1 (Cease/Maximum Number of Prefixes Reached)"),
            Software::Bird => Some("Received: Maximum number of prefixes reached"),
            Software::Gobgp => Some("subcode 1(maximum number of prefixes reached)"),
            Software::Openbgpd => Some("Cease, max-prefix"),
            Software::Builtin => Some("code: 6, subcode: 1"),
            Software::Exabgp | Software::External => None,
        }
    }
}

fn is_installed(program: &str) -> bool {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .env("PATH", path)
        .output();
    found.is_ok_and(|output| output.status.success())
}
