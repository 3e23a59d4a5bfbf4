//! Whether we may do what we are for. Asked at the start, so that whoever starts an agent without leave hears it at once.

use std::fs;

use crate::options::NicSpec;
use crate::run::AgentError;

/// Bits of `CapEff` (linux/capability.h).
const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Fails when the capabilities are missing that programming these NICs takes.
pub(crate) fn check(nics: &[NicSpec]) -> Result<(), AgentError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    missing(&status, nics.iter().any(|nic| nic.namespace.is_some()))
        .map_or(Ok(()), |capability| Err(AgentError::NotPermitted { capability }))
}

/// The capability that is missing. Where `/proc` does not tell, the kernel will.
fn missing(status: &str, other_namespaces: bool) -> Option<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    let needed = [
        (CAP_NET_ADMIN, "CAP_NET_ADMIN", true),
        (CAP_SYS_ADMIN, "CAP_SYS_ADMIN", other_namespaces),
    ];
    let mut absent = needed
        .into_iter()
        .filter(|(bit, _, needed)| *needed && effective & bit == 0);
    absent.next().map(|(_, name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_namespaces_take_one_capability_more() {
        let check = |capabilities: u64, other_namespaces, expected| {
            let status = format!("Name:\tagent\nCapEff:\t{capabilities:016x}\n");
            assert_eq!(missing(&status, other_namespaces), expected, "{capabilities:x}");
        };
        check(0, false, Some("CAP_NET_ADMIN"));
        check(CAP_NET_ADMIN, false, None);
        check(CAP_NET_ADMIN, true, Some("CAP_SYS_ADMIN"));
        check(CAP_SYS_ADMIN, true, Some("CAP_NET_ADMIN"));
        check(u64::MAX, true, None);
        assert_eq!(missing("", true), None);
    }
}
