//! Freed memory, given back to the system.
//!
//! The allocator keeps what a thread's heap has freed until that thread allocates again. After a large table has come or gone, the threads
//! that read it may not do so for hours; so somebody says that the work is over, and every thread gives back before it next sleeps.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often it was asked for.
static ASKED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// What [`ASKED`] was when this thread last gave back.
    static DONE: Cell<u64> = const { Cell::new(0) };
}

/// Gives back what this thread's heap has freed, and lets the others do the same when they next run out of work. Takes some
/// milliseconds when much was freed.
pub(crate) fn give_back() {
    ASKED.fetch_add(1, Ordering::Relaxed);
    before_sleep();
}

/// For threads that run out of work.
pub(crate) fn before_sleep() {
    let asked = ASKED.load(Ordering::Relaxed);
    if DONE.replace(asked) != asked {
        // SAFETY: takes no pointer, and may be called by any thread outside the allocator.
        unsafe { libmimalloc_sys::mi_collect(true) };
    }
}
