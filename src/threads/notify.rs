//! A wake-up for one worker. This file must not know who wakes it, nor what for.

use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::sync::lock;

/// Set by a body source's waker; the worker waits for it while the source has nothing to say.
#[derive(Debug, Default)]
pub(super) struct Woken {
    flag: Mutex<bool>,
    changed: Condvar,
    /// Readable while the flag is set. Only there once somebody had to wait for other things, too.
    event: OnceLock<OwnedFd>,
}

impl Woken {
    pub(super) fn ring(&self) {
        let mut flag = lock(&self.flag);
        *flag = true;
        if let Some(event) = self.event.get() {
            // This may fail. A worker that polls for it looks at the flag every `INBOX_LOOK`, too.
            let _ = rustix::io::write(event, &1u64.to_ne_bytes());
        }
        drop(flag);
        self.changed.notify_one();
    }

    /// What to poll in place of a wait, followed by [`Woken::take`]. `None` if it cannot be had.
    pub(super) fn event(&self) -> Option<&OwnedFd> {
        // With the flag held, so that it says the same from the start.
        let flag = lock(&self.flag);
        if self.event.get().is_none() {
            let event = eventfd(u32::from(*flag), EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
            let _ = self.event.set(event);
        }
        self.event.get()
    }

    /// Whether it was rung since the last look or wait.
    pub(super) fn take(&self) -> bool {
        self.lower(&mut lock(&self.flag))
    }

    pub(super) fn lower(&self, flag: &mut bool) -> bool {
        if let Some(event) = self.event.get() {
            let _ = rustix::io::read(event, &mut [0; 8]);
        }
        std::mem::take(flag)
    }

    /// Waits for it to be rung, unless that has happened since the last wait.
    pub(super) fn wait(&self) {
        let mut flag = lock(&self.flag);
        while !*flag {
            flag = self.changed.wait(flag).unwrap_or_else(PoisonError::into_inner);
        }
        self.lower(&mut flag);
    }
}
