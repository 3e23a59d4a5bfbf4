//! A TCP MD5 password (RFC 2385) in a speaker's configuration: the lab does not know of passwords.

use std::fs;

use anyhow::{Result, ensure};
use lab::topology::Software;

use crate::speaker::Speaker;
use crate::world::{LEFT, World};

/// The password on the NVA's side.
pub(crate) const AS_TYPED: &str = "correct-horse";

/// Why a speaker cannot do it.
pub(crate) fn not_applicable(speaker: Speaker) -> Option<&'static str> {
    (speaker.0 == Software::Builtin).then_some("the builtin speaker has no passwords")
}

/// The configuration without password.
pub(crate) struct Plain {
    file: &'static str,
    text: String,
}

/// Writes the password into the NVA's configuration and starts it again.
pub(crate) fn write(world: &mut World) -> Result<Plain> {
    let (file, after, line) = place(world.speaker);
    let text = fs::read_to_string(world.nva_file(LEFT, file))?;
    let with_password: String = text
        .lines()
        .flat_map(|l| {
            let neighbour = l.split_whitespace().nth(1).unwrap_or_default();
            let more = l
                .trim_start()
                .contains(after)
                .then(|| line.replace("NEIGHBOUR", neighbour));
            [Some(l.to_owned()), more].into_iter().flatten().map(|l| l + "\n")
        })
        .collect();
    ensure!(with_password != text, "{file} has no line with \"{after}\"");
    let plain = Plain { file, text };
    restart_with(world, file, &with_password)?;
    Ok(plain)
}

impl Plain {
    /// Back to the configuration without password.
    pub(crate) fn restore(&self, world: &mut World) -> Result<()> {
        restart_with(world, self.file, &self.text)
    }
}

fn restart_with(world: &mut World, file: &str, text: &str) -> Result<()> {
    world.lab.stop(LEFT)?;
    fs::write(world.nva_file(LEFT, file), text)?;
    world.lab.start(LEFT)?;
    Ok(())
}

/// The file, the words in whose line a neighbour begins or is described, and the line to put behind it.
fn place(speaker: Speaker) -> (&'static str, &'static str, &'static str) {
    match speaker.0 {
        Software::Frr => (
            "bgpd.conf",
            "remote-as 65515",
            " neighbor NEIGHBOUR password correct-horse",
        ),
        Software::Bird => ("bird.conf", "multihop;", "  password \"correct-horse\";"),
        Software::Gobgp => ("gobgpd.toml", "peer-as = 65515", "auth-password = \"correct-horse\""),
        Software::Openbgpd => ("bgpd.conf", "remote-as 65515", "  tcp md5sig password correct-horse"),
        Software::Exabgp => ("exabgp.conf", "peer-as 65515", "  md5-password \"correct-horse\";"),
        Software::Builtin | Software::External => ("", "", ""),
    }
}
