//! Closes unused descriptors when the process has no descriptor left.
//!
//! A call that fails with EMFILE or ENFILE reports that here. Each registered cache of descriptors
//! then closes some, so that the next call succeeds. Descriptors belong to the process, so one list
//! serves all its servers.
//!
//! A file that cannot be opened is a 503 for its request. A client that cannot be accepted waits in
//! the queue of the kernel: the reactor first closes its longest idle connection, and reports only
//! if there is none (`reactor/accept.rs`). This file must not know what is open.

use std::io;
use std::sync::{Arc, Mutex, Weak};

use crate::sync::lock;

/// A cache that keeps descriptors open.
pub(crate) trait Relief: Send + Sync {
    /// Closes a few unused descriptors, at once or soon. Must not block.
    fn relieve(&self);
}

static RELIEFS: Mutex<Vec<Weak<dyn Relief>>> = Mutex::new(Vec::new());

/// Registers `relief` to be called when descriptors run out, for as long as it exists.
pub(crate) fn register<R: Relief + 'static>(relief: &Arc<R>) {
    let relief = Arc::downgrade(relief) as Weak<dyn Relief>;
    let mut reliefs = lock(&RELIEFS);
    reliefs.retain(|relief| relief.strong_count() > 0);
    reliefs.push(relief);
}

/// Reports that a call found no descriptor left.
pub(crate) fn report() {
    // Without the lock, because dropping a relief may take a while.
    let reliefs: Vec<_> = lock(&RELIEFS).iter().filter_map(Weak::upgrade).collect();
    for relief in reliefs {
        relief.relieve();
    }
}

/// Error number of "too many open files" of a process (errno(3), Linux).
pub(crate) const EMFILE: i32 = 24;

/// Error number of "too many open files in system".
pub(crate) const ENFILE: i32 = 23;

/// Returns true if this error means that the process or the system has no descriptor left.
#[cfg(feature = "os")]
pub(crate) fn is_it(errno: rustix::io::Errno) -> bool {
    matches!(errno.raw_os_error(), EMFILE | ENFILE)
}

/// Calls [`report`] if this error means that no descriptor is left. Returns true in that case.
pub(crate) fn report_in(error: &io::Error) -> bool {
    let is_it = matches!(error.raw_os_error(), Some(EMFILE | ENFILE));
    if is_it {
        report();
    }
    is_it
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::io::Errno;

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Relief for Counting {
        fn relieve(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_shortage_is_reported_to_all_that_exist() {
        let [one, other] = [(), ()].map(|()| Arc::new(Counting::default()));
        register(&one);
        register(&other);
        assert!(report_in(&Errno::MFILE.into()) && report_in(&Errno::NFILE.into()));
        for error in [Errno::NOENT.into(), Errno::NOMEM.into(), io::Error::other("something else")] {
            assert!(!report_in(&error), "{error}");
        }
        // Other tests in this process may also run out of descriptors.
        assert!(one.0.load(Ordering::Relaxed) >= 2);
        drop(one);
        let before = other.0.load(Ordering::Relaxed);
        report();
        assert!(other.0.load(Ordering::Relaxed) > before);
    }
}
