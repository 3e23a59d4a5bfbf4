//! Who may call, how often, and how many connections it may hold. One address's excess costs the others nothing: it is dropped
//! before the owner hears of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lock;

/// Connections that one configured peer may hold at once: the one in use, one that collides with it (RFC 4271 §6.8), and as many
/// again while old ones are closing.
pub const MAX_PER_ADDRESS: usize = 4;
/// Connections that an address which is no peer may hold at once. The owner closes them at once, so they are few.
pub const MAX_PER_UNKNOWN_ADDRESS: usize = 2;
/// Connections that all such addresses may hold at once on one listener.
pub const MAX_UNKNOWN: usize = 32;
/// Calls of one configured peer, and calls of all others together, that one listener takes in a second.
pub const MAX_CALLERS_PER_SECOND: u32 = 10;

/// The right to hold one connection; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

/// Why a caller was turned away without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    TooManyConnections,
    TooManyCalls,
}

/// One listener's bounds.
#[derive(Debug, Default)]
pub(super) struct Admission {
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
    /// Calls in the running second: per peer, and (`None`) of all others. Bounded by the number of peers.
    calls: HashMap<Option<IpAddr>, (Instant, u32)>,
}

impl Admission {
    pub(super) fn admit(&mut self, now: Instant, address: IpAddr, peers: &[IpAddr]) -> Result<Permit, Refusal> {
        let known = peers.contains(&address);
        self.count_call(now, known.then_some(address), peers)?;
        let mut held = lock(&self.held);
        let of_address = held.get(&address).copied().unwrap_or(0);
        let refused = if known {
            of_address >= MAX_PER_ADDRESS
        } else {
            let strangers: usize = held
                .iter()
                .filter(|(a, _)| !peers.contains(a))
                .map(|(_, count)| count)
                .sum();
            of_address >= MAX_PER_UNKNOWN_ADDRESS || strangers >= MAX_UNKNOWN
        };
        if refused {
            return Err(Refusal::TooManyConnections);
        }
        held.insert(address, of_address + 1);
        Ok(Permit {
            held: self.held.clone(),
            address,
        })
    }

    fn count_call(&mut self, now: Instant, caller: Option<IpAddr>, peers: &[IpAddr]) -> Result<(), Refusal> {
        if self.calls.len() > peers.len() + 1 {
            self.calls
                .retain(|caller, _| caller.is_none_or(|address| peers.contains(&address)));
        }
        let (since, calls) = self.calls.entry(caller).or_insert((now, 0));
        if now.duration_since(*since) >= Duration::from_secs(1) {
            (*since, *calls) = (now, 0);
        }
        if *calls >= MAX_CALLERS_PER_SECOND {
            return Err(Refusal::TooManyCalls);
        }
        *calls += 1;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn two_hundred_connections_of_one_stranger_leave_room_for_a_peer() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        let peers = [address(1)];
        let held: Vec<_> = (0..200)
            .filter_map(|_| admission.admit(now, address(9), &peers).ok())
            .collect();
        assert_eq!(held.len(), MAX_PER_UNKNOWN_ADDRESS);
        assert!(admission.admit(now, address(1), &peers).is_ok());
    }

    #[test]
    fn two_hundred_connections_of_one_peer_leave_room_for_another() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        let peers = [address(1), address(2)];
        let held: Vec<_> = (0..200)
            .filter_map(|_| admission.admit(now, address(1), &peers).ok())
            .collect();
        assert_eq!(held.len(), MAX_PER_ADDRESS);
        assert!(admission.admit(now, address(2), &peers).is_ok());
    }

    #[test]
    fn strangers_together_hold_no_more_than_their_share() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        let held: Vec<_> = (0..200)
            .filter_map(|n| {
                admission
                    .admit(now + Duration::from_secs(n), address(n as u8), &[])
                    .ok()
            })
            .collect();
        assert_eq!(held.len(), MAX_UNKNOWN);
    }

    #[test]
    fn a_caller_who_hangs_up_and_calls_again_is_slowed_down() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        for _ in 0..MAX_CALLERS_PER_SECOND {
            drop(admission.admit(now, address(1), &[address(1)]).unwrap());
        }
        assert_eq!(
            admission.admit(now, address(1), &[address(1)]).unwrap_err(),
            Refusal::TooManyCalls
        );
        assert!(
            admission
                .admit(now + Duration::from_secs(1), address(1), &[address(1)])
                .is_ok()
        );
    }

    #[test]
    fn a_permit_comes_back_when_its_connection_ends() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        let peers = [address(1)];
        let mut held: Vec<_> = (0..MAX_PER_ADDRESS)
            .map(|_| admission.admit(now, address(1), &peers).unwrap())
            .collect();
        assert_eq!(
            admission.admit(now, address(1), &peers).unwrap_err(),
            Refusal::TooManyConnections
        );
        held.pop();
        assert!(admission.admit(now, address(1), &peers).is_ok());
    }
}
