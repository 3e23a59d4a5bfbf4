//! How late the machine itself is. What is late because nobody let it run is not the product's fault, so a deadline counts only the time
//! that the machine had to give.
//!
//! A thread wants to run every 4 ms, only where nobody else wants to (SCHED_IDLE). While it is late the machine has no time for somebody
//! else, and that time does not count: on a quiet machine a deadline is what it says, on a busy one it is farther away. A second thread of
//! ordinary priority takes the lock each time that agents need to change routes (RTNL; not the first one, which could hold it without
//! running), and says when the machine *stood still*: so long that paths that are whole were taken for lost.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::Namespace;

const PACE: Duration = Duration::from_millis(4);
/// Timers are never exact.
const EXACT: Duration = Duration::from_millis(1);

/// From when the thread wanted to run, until it had.
type Late = (Instant, Instant);

/// Beats until it is dropped.
pub struct Pulse {
    idle: Beats,
    ordinary: Beats,
    began: Instant,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// When a thread was late, in order.
#[derive(Clone)]
struct Beats(Arc<Mutex<Lates>>);

struct Lates {
    so_far: Vec<Late>,
    /// When it wants to run next.
    next: Instant,
}

impl Pulse {
    /// `namespace`: one whose links can be asked for.
    pub fn start(namespace: &Namespace) -> Pulse {
        let mut pulse = Pulse {
            idle: Beats::new(),
            ordinary: Beats::new(),
            began: Instant::now(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let socket = namespace.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
        let (beats, stop) = (pulse.idle.clone(), pulse.stop.clone());
        pulse.threads.push(thread::spawn(move || {
            run_only_where_nobody_else_wants_to();
            beats.go_on(&stop, || {});
        }));
        let (beats, stop) = (pulse.ordinary.clone(), pulse.stop.clone());
        pulse.threads.push(thread::spawn(move || {
            beats.go_on(&stop, || take_the_lock_of_routes(&socket))
        }));
        pulse
    }

    /// When so much time has passed that the machine had to give.
    pub fn after(&self, begin: Instant, time: Duration) -> Instant {
        self.idle.with(|lates| after(lates, begin, time))
    }

    /// The same backwards.
    pub fn before(&self, end: Instant, time: Duration) -> Instant {
        self.idle.with(|lates| before(lates, end, time))
    }

    /// How much of the time between the machine had to give.
    pub fn given(&self, since: Instant, until: Instant) -> Duration {
        self.idle.with(|lates| given(lates, since, until))
    }

    /// When it first stood still for longer than this, since then.
    pub fn stood_still(&self, longer: Duration, since: Instant) -> Option<Instant> {
        self.ordinary.with(|lates| {
            let mut lates = lates
                .iter()
                .filter(|(from, until)| *until >= since && *until - *from > longer);
            lates.next().map(|(from, _)| *from)
        })
    }

    /// Since it began: how much of the time it had to give, of a hundred, and the longest that it stood still.
    pub fn summary(&self) -> (u128, Duration) {
        let now = Instant::now();
        let given = self.given(self.began, now).as_millis() * 100 / (now - self.began).as_millis().max(1);
        let longest = self
            .ordinary
            .with(|lates| lates.iter().map(|(from, until)| *until - *from).max());
        (given, longest.unwrap_or_default())
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Beats {
    fn new() -> Beats {
        let (so_far, next) = (Vec::new(), Instant::now());
        Beats(Arc::new(Mutex::new(Lates { so_far, next })))
    }

    fn with<T>(&self, look: impl FnOnce(&[Late]) -> T) -> T {
        let mut lates = self.0.lock().unwrap();
        let (now, next) = (Instant::now(), lates.next);
        // It may be late at this very moment.
        let is_late = now > next + EXACT;
        if is_late {
            lates.so_far.push((next, now));
        }
        let seen = look(&lates.so_far);
        if is_late {
            lates.so_far.pop();
        }
        seen
    }

    fn go_on(&self, stop: &AtomicBool, beat: impl Fn()) {
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            next += PACE;
            self.0.lock().unwrap().next = next;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            beat();
            let now = Instant::now();
            if now > next + EXACT {
                self.0.lock().unwrap().so_far.push((next, now));
                // What was missed is not made up for.
                next = now;
            }
        }
    }
}

/// `begin` and `time` later, and later by what the lates take of it.
fn after(lates: &[Late], begin: Instant, time: Duration) -> Instant {
    let mut end = begin + time;
    for (from, until) in lates.iter().skip(first_that_ends_after(lates, begin)) {
        if *from >= end {
            break;
        }
        end += *until - begin.max(*from);
    }
    end
}

/// `time` before `end`, and earlier by what the lates take of it.
fn before(lates: &[Late], end: Instant, time: Duration) -> Instant {
    let earlier = |moment: Instant, time| moment.checked_sub(time).unwrap_or(moment);
    let mut begin = earlier(end, time);
    let started = lates.partition_point(|(from, _)| *from < end);
    for (from, until) in lates[..started].iter().rev() {
        if *until <= begin {
            break;
        }
        begin = earlier(begin, end.min(*until) - *from);
    }
    begin
}

/// The time between, without what the lates take of it.
fn given(lates: &[Late], since: Instant, until: Instant) -> Duration {
    let inside = lates.iter().skip(first_that_ends_after(lates, since));
    let taken = inside
        .take_while(|(from, _)| *from < until)
        .map(|(from, to)| until.min(*to) - since.max(*from));
    until
        .saturating_duration_since(since)
        .saturating_sub(taken.sum::<Duration>())
}

fn first_that_ends_after(lates: &[Late], moment: Instant) -> usize {
    lates.partition_point(|(_, until)| *until <= moment)
}

/// Of the calling thread.
fn run_only_where_nobody_else_wants_to() {
    // SAFETY: a zeroed sched_param is what SCHED_IDLE wants, and it lives through the call.
    let done = unsafe {
        let parameters: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters)
    };
    if done != 0 {
        eprintln!(
            "no SCHED_IDLE, so a busy machine is taken for a quiet one: {}",
            std::io::Error::last_os_error()
        );
    }
}

/// Sets the flags of `lo` as they are (netdevice(7)), which nobody may do while links or routes are changed elsewhere.
fn take_the_lock_of_routes(socket: &UdpSocket) {
    // SAFETY: an ifreq is plain data, the name is shorter than its field, and the request lives through both calls.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (at, byte) in b"lo".iter().enumerate() {
            request.ifr_name[at] = *byte as libc::c_char;
        }
        let asked = libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request);
        if asked == 0 {
            libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request);
        }
    }
}

/// A trial of its own: what is judged depends on it.
pub fn time_that_the_machine_had_not_does_not_count(_: bool) {
    let zero = Instant::now();
    let at = |ms: u64| zero + Duration::from_millis(ms);
    let ms = Duration::from_millis;
    let lates = [(at(10), at(20)), (at(30), at(80)), (at(200), at(201))];
    assert_eq!(after(&[], at(0), ms(50)), at(50));
    assert_eq!(after(&lates, at(0), ms(10)), at(10), "before it was late");
    assert_eq!(after(&lates, at(0), ms(15)), at(25));
    assert_eq!(
        after(&lates, at(0), ms(25)),
        at(85),
        "a late one pushes the end into the next"
    );
    assert_eq!(after(&lates, at(40), ms(10)), at(90), "begun while it was late");
    assert_eq!(after(&lates, at(80), ms(10)), at(90));
    assert_eq!(before(&lates, at(29), ms(5)), at(24));
    assert_eq!(before(&lates, at(25), ms(10)), at(5), "late in between");
    assert_eq!(before(&lates, at(85), ms(20)), at(5), "late twice");
    assert_eq!(before(&lates, at(40), ms(5)), at(25), "late still");
    assert_eq!(given(&lates, at(0), at(100)), ms(40));
    assert_eq!(given(&lates, at(15), at(40)), ms(10));
    assert_eq!(given(&lates, at(300), at(400)), ms(100));
}
