//! What is done when no descriptor is left: those that nobody uses at the moment are closed.
//!
//! Descriptors belong to the process, so this is one list for all servers in it. A call that finds
//! none left reports it here; whoever keeps descriptors for later is asked to close some. The
//! request that found none is refused, and the next one finds some. Must not know what is open.

use std::io;
use std::sync::{Arc, Mutex, Weak};

use rustix::io::Errno;

use crate::sync::lock;

/// Something that keeps descriptors open for later.
pub(crate) trait Relief: Send + Sync {
    /// Closes a few descriptors that nobody uses now, or has them closed soon. Must not block.
    fn relieve(&self);
}

static RELIEFS: Mutex<Vec<Weak<dyn Relief>>> = Mutex::new(Vec::new());

/// Has `relief` asked when descriptors run out, for as long as it exists.
pub(crate) fn register<R: Relief + 'static>(relief: &Arc<R>) {
    let relief = Arc::downgrade(relief) as Weak<dyn Relief>;
    let mut reliefs = lock(&RELIEFS);
    reliefs.retain(|relief| relief.strong_count() > 0);
    reliefs.push(relief);
}

/// Reports that a call found no descriptor left.
pub(crate) fn report() {
    // Not under the lock: to drop one of them may take a while.
    let reliefs: Vec<_> = lock(&RELIEFS).iter().filter_map(Weak::upgrade).collect();
    for relief in reliefs {
        relief.relieve();
    }
}

/// True if this error means that the process, or the system, has no descriptor left.
pub(crate) fn is_it(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE)
}

/// Reports an error that means that no descriptor is left; true if this one does.
pub(crate) fn report_in(error: &io::Error) -> bool {
    let is_it = Errno::from_io_error(error).is_some_and(is_it);
    if is_it {
        report();
    }
    is_it
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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
        // Other tests of this process may have run out as well.
        assert!(one.0.load(Ordering::Relaxed) >= 2);
        drop(one);
        let before = other.0.load(Ordering::Relaxed);
        report();
        assert!(other.0.load(Ordering::Relaxed) > before);
    }
}
