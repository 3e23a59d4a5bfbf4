//! Network namespaces: entering one, and telling whether two are the same.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

/// The calling thread's own namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// Moves the calling thread. Sockets that it opens from now on, and `/proc/sys/net`, are the namespace's.
pub(crate) fn enter(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}

/// What all paths to one namespace have in common: device and inode.
pub(crate) type Identity = (u64, u64);

/// The namespace that a path leads to; `None`: the one that the calling thread is in.
pub(crate) fn identity(path: Option<&Path>) -> io::Result<Identity> {
    let metadata = std::fs::metadata(path.unwrap_or(Path::new(OWN)))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Settings that groups need: family, name, value. Without the first, a changed group makes the kernel announce each of its routes, one by
/// one; without the others, all packets between two hosts take one way.
const SETTINGS: [(&str, &str, &str); 3] = [
    ("ipv4", "nexthop_compat_mode", "0"),
    ("ipv4", "fib_multipath_hash_policy", "1"),
    ("ipv6", "fib_multipath_hash_policy", "1"),
];

/// Makes them in the calling thread's namespace. What can't be set is returned for people to read.
pub(crate) fn set_sysctls() -> Vec<String> {
    let set = |(family, name, value): &(&str, &str, &str)| {
        std::fs::write(path(family, name), value)
            .map_err(|error| format!("net.{family}.{name} could not be set to {value}: {error}"))
            .err()
    };
    others().filter_map(set).collect()
}

/// Those that have other values in the calling thread's namespace, for people to read.
pub(crate) fn other_sysctls() -> Vec<String> {
    let say = |(family, name, value): &(&str, &str, &str)| format!("net.{family}.{name} is not {value}");
    others().map(say).collect()
}

fn others() -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str)> {
    SETTINGS
        .iter()
        // A kernel without IPv6 has no routes that need it.
        .filter(|(family, ..)| *family == "ipv4" || Path::new("/proc/sys/net/ipv6").exists())
        .filter(|(family, name, value)| {
            !std::fs::read_to_string(path(family, name)).is_ok_and(|now| now.trim() == *value)
        })
}

fn path(family: &str, name: &str) -> String {
    format!("/proc/sys/net/{family}/{name}")
}
