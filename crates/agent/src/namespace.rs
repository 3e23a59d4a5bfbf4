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

/// Settings that groups need, in the calling thread's namespace. What can't be set is returned for people to read.
pub(crate) fn set_sysctls() -> Vec<String> {
    // Without the first, a changed group makes the kernel announce each of its routes; without the second, all packets
    // between two hosts take one way.
    let settings = [
        ("ipv4", "nexthop_compat_mode", "0"),
        ("ipv4", "fib_multipath_hash_policy", "1"),
        ("ipv6", "fib_multipath_hash_policy", "1"),
    ];
    settings
        .iter()
        // A kernel without IPv6 has no routes that need it.
        .filter(|(family, ..)| *family == "ipv4" || Path::new("/proc/sys/net/ipv6").exists())
        .filter_map(|(family, name, value)| set_sysctl(family, name, value).err())
        .collect()
}

fn set_sysctl(family: &str, name: &str, value: &str) -> Result<(), String> {
    let path = format!("/proc/sys/net/{family}/{name}");
    if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(|error| format!("net.{family}.{name} could not be set to {value}: {error}"))
}
