//! A wake-up for one worker: a flag that a worker can wait for or poll. This file must not know who
//! sets the flag, or the reason.

use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::sync::lock;

/// A flag that other threads set to wake a worker. The worker waits for it while its body source
/// has no content.
#[derive(Debug, Default)]
pub(super) struct Notify {
    flag: Mutex<bool>,
    changed: Condvar,
    /// An eventfd that is readable while the flag is set. Created when a worker first has to wait
    /// for other descriptors too.
    event: OnceLock<OwnedFd>,
}

impl Notify {
    /// Sets the flag and wakes the worker.
    pub(super) fn notify(&self) {
        let mut flag = lock(&self.flag);
        *flag = true;
        if let Some(event) = self.event.get() {
            // The write may fail. A worker that polls the eventfd also checks the flag every
            // `INBOX_LOOK`.
            let _ = rustix::io::write(event, &1u64.to_ne_bytes());
        }
        drop(flag);
        self.changed.notify_one();
    }

    /// Returns a descriptor to poll instead of calling [`Notify::wait`]. Call [`Notify::take`]
    /// afterwards. `None` if the descriptor cannot be created.
    pub(super) fn event(&self) -> Option<&OwnedFd> {
        // The flag stays locked, so that flag and eventfd agree from the beginning.
        let flag = lock(&self.flag);
        if self.event.get().is_none() {
            let event = eventfd(u32::from(*flag), EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
            let _ = self.event.set(event);
        }
        self.event.get()
    }

    /// Returns true if the flag was set since the last call or wait, and resets it.
    pub(super) fn take(&self) -> bool {
        self.reset(&mut lock(&self.flag))
    }

    /// Resets the flag and the eventfd. Returns whether the flag was set.
    fn reset(&self, flag: &mut bool) -> bool {
        if let Some(event) = self.event.get() {
            let _ = rustix::io::read(event, &mut [0; 8]);
        }
        std::mem::take(flag)
    }

    /// Waits until the flag is set, and resets it. Returns at once if the flag was set since the
    /// last wait.
    pub(super) fn wait(&self) {
        let mut flag = lock(&self.flag);
        while !*flag {
            flag = self.changed.wait(flag).unwrap_or_else(PoisonError::into_inner);
        }
        self.reset(&mut flag);
    }
}
