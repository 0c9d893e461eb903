//! The hub of a loop: passes each frame to all viewers.
//!
//! A viewer has room for one frame. A frame that it has not taken when the next one comes is
//! replaced, and counted as skipped. So a viewer that does not read needs no further memory and
//! delays nobody. This file must not know what a frame contains.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use slab::Slab;

use crate::conn_id::ConnId;
use crate::sync::lock;

/// Largest number of viewers of one loop.
pub(super) const VIEWERS_MAX: usize = 64;

/// Wakes a connection or a loop. Must not block.
type Wake = Box<dyn Fn() + Send + Sync>;

/// Passes the frames of one loop to its viewers.
#[derive(Default)]
pub struct Hub {
    viewers: Mutex<Slab<Slot>>,
    /// Number of viewers, so that the loop reads it without the lock.
    wanted: AtomicUsize,
    /// Grows with each change of the viewers.
    version: AtomicU64,
    wake_loop: OnceLock<Wake>,
}

struct Slot {
    /// Connection of the viewer, if it belongs to the loop that it watches.
    own: Option<ConnId>,
    frame: Option<Arc<str>>,
    skipped: u64,
    wake: Wake,
    /// True from a wake-up until the viewer takes the frame, so that it is not woken again.
    is_woken: bool,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} viewers", self.wanted.load(Ordering::Relaxed))
    }
}

impl Hub {
    /// Sets the function that wakes the loop. Without it a loop that waits begins to record with
    /// its next event.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake_loop.set(Box::new(wake));
    }

    /// Adds a viewer. `own` is its connection if this loop serves it: its traffic is left out of
    /// the frames. `wake` is called when a frame is there. Returns `None` if there are
    /// 64 already.
    #[must_use]
    pub fn join(
        self: &Arc<Self>,
        own: Option<ConnId>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Option<Viewer> {
        let mut viewers = lock(&self.viewers);
        if viewers.len() >= VIEWERS_MAX {
            return None;
        }
        let wake = Box::new(wake);
        let key = viewers.insert(Slot { own, frame: None, skipped: 0, wake, is_woken: false });
        self.changed(viewers.len());
        drop(viewers);
        if let Some(wake) = self.wake_loop.get() {
            wake();
        }
        Some(Viewer { hub: Arc::clone(self), key })
    }

    fn changed(&self, viewers: usize) {
        self.wanted.store(viewers, Ordering::Release);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Returns true if there is a viewer.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Returns a number that grows with each change of the viewers.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Returns the connections of viewers that this loop serves.
    pub(super) fn own(&self) -> Vec<ConnId> {
        lock(&self.viewers).iter().filter_map(|(_, slot)| slot.own).collect()
    }

    /// Gives a frame to every viewer, and wakes those that wait.
    pub fn publish(&self, frame: &Arc<str>) {
        for (_, slot) in &mut *lock(&self.viewers) {
            if slot.frame.replace(Arc::clone(frame)).is_some() {
                slot.skipped += 1;
            }
            if !std::mem::replace(&mut slot.is_woken, true) {
                (slot.wake)();
            }
        }
    }
}

/// One viewer. Leaves the hub when it is dropped.
#[derive(Debug)]
pub struct Viewer {
    hub: Arc<Hub>,
    key: usize,
}

impl Viewer {
    /// Takes the newest frame, and the number of frames that were skipped before it. `None` until
    /// the next wake-up.
    pub fn take(&mut self) -> Option<(Arc<str>, u64)> {
        let mut viewers = lock(&self.hub.viewers);
        let slot = viewers.get_mut(self.key)?;
        slot.is_woken = false;
        let frame = slot.frame.take()?;
        Some((frame, std::mem::take(&mut slot.skipped)))
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut viewers = lock(&self.hub.viewers);
        viewers.try_remove(self.key);
        self.hub.changed(viewers.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted() -> (Arc<AtomicUsize>, impl Fn() + Send + Sync + 'static) {
        let count = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&count);
        (count, move || {
            shared.fetch_add(1, Ordering::Relaxed);
        })
    }

    #[test]
    fn a_viewer_that_does_not_read_is_woken_once_and_told_what_it_skipped() {
        let hub = Arc::new(Hub::default());
        let (woken, wake) = counted();
        let mut viewer = hub.join(None, wake).unwrap();
        assert!(hub.is_wanted());
        assert_eq!(viewer.take(), None);
        for number in 0..5 {
            hub.publish(&number.to_string().into());
        }
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert_eq!(viewer.take(), Some(("4".into(), 4)));
        assert_eq!(viewer.take(), None);
        hub.publish(&"5".into());
        assert_eq!((viewer.take(), woken.load(Ordering::Relaxed)), (Some(("5".into(), 0)), 2));
        drop(viewer);
        assert!(!hub.is_wanted());
        hub.publish(&"6".into());
        assert_eq!(woken.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn viewers_are_bounded_and_each_change_is_noticed() {
        let hub = Arc::new(Hub::default());
        let (loop_woken, wake_loop) = counted();
        hub.wake_with(wake_loop);
        let own = ConnId::new(3, 1);
        let mut viewers: Vec<Viewer> =
            (0..VIEWERS_MAX).map(|_| hub.join(Some(own), || {}).unwrap()).collect();
        assert!(hub.join(None, || {}).is_none());
        assert_eq!(hub.own(), vec![own; VIEWERS_MAX]);
        assert_eq!(loop_woken.load(Ordering::Relaxed), VIEWERS_MAX);
        let version = hub.version();
        viewers.pop();
        assert!(hub.version() > version);
        assert!(hub.join(None, || {}).is_some());
    }
}
