//! Being on time: the thread's priority, and waiting for sockets until a deadline.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Above all that is not real-time, below what the kernel and its interrupts use.
const REAL_TIME_PRIORITY: libc::c_int = 10;
/// What a thread may have that may not be real-time.
const NICE: libc::c_int = -15;

/// Asks for real-time priority for this thread, and says what came of it.
pub(super) fn become_urgent() {
    // SAFETY: prctl with these arguments only sets how exact this thread's own timers are.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_usize) };
    let parameters = libc::sched_param {
        sched_priority: REAL_TIME_PRIORITY,
    };
    // Threads that it starts (to enter a namespace) are ordinary ones.
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the pointer is to a value that outlives the call; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } == 0 {
        return tracing::info!("BFD runs with real-time priority");
    }
    let refused = io::Error::last_os_error();
    // SAFETY: no pointers; 0 is the calling thread.
    let raised = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } == 0;
    tracing::warn!(
        %refused,
        raised,
        "BFD has no real-time priority (CAP_SYS_NICE): on a busy machine it may be late, and sessions of short intervals may go down"
    );
}

/// Waits until one of the descriptors can be read, or the deadline. Says which can.
pub(super) fn wait(descriptors: &[RawFd], until: Option<Instant>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<libc::pollfd> = descriptors
        .iter()
        .map(|fd| libc::pollfd {
            fd: *fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let left = until.map(|at| at.saturating_duration_since(Instant::now()));
    let left = left.map(timespec);
    let timeout = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `polled` has as many entries as is said, `timeout` is null or to a value that outlives the call.
    let ready = unsafe {
        libc::ppoll(
            polled.as_mut_ptr(),
            polled.len() as libc::nfds_t,
            timeout,
            std::ptr::null(),
        )
    };
    match ready {
        -1 => match io::Error::last_os_error() {
            interrupted if interrupted.kind() == io::ErrorKind::Interrupted => Ok(vec![false; descriptors.len()]),
            error => Err(error),
        },
        _ => Ok(polled.iter().map(|each| each.revents != 0).collect()),
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
