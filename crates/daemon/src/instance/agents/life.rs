//! The life of the instance that agents are welcomed to. Mostly that is the process's; one that stood still begins another
//! (`routeserver::instance::Output::NewLife`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::convert;
use bytes::Bytes;

/// The present life, for whoever welcomes agents.
#[derive(Clone, Debug)]
pub(in crate::instance) struct Life(Arc<Mutex<Present>>);

#[derive(Debug)]
struct Present {
    index: usize,
    silence_secs: u64,
    welcome: Welcome,
}

/// The first word of a life.
#[derive(Clone, Debug)]
pub(super) struct Welcome {
    pub(super) epoch: u64,
    pub(super) message: Arc<[Bytes]>,
}

impl Life {
    /// The first one. `silence_secs`: how long agents put up with silence.
    pub(in crate::instance) fn new(index: usize, epoch: u64, silence_secs: u64) -> Life {
        Life(Arc::new(Mutex::new(Present {
            index,
            silence_secs,
            welcome: welcome(index, epoch, silence_secs),
        })))
    }

    /// The next one: its epoch is greater by one, which is no other process's.
    pub(super) fn begin(&self) {
        let mut present = self.present();
        let epoch = present.welcome.epoch.wrapping_add(1);
        present.welcome = welcome(present.index, epoch, present.silence_secs);
    }

    pub(super) fn welcome(&self) -> Welcome {
        self.present().welcome.clone()
    }

    /// Every change is made whole before anything could panic.
    fn present(&self) -> MutexGuard<'_, Present> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn welcome(index: usize, epoch: u64, silence_secs: u64) -> Welcome {
    let message = convert::welcome(index, epoch, silence_secs);
    Welcome { epoch, message }
}
