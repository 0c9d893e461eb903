//! Locks shared by threads. This file must not know what they guard.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock whose holder panicked still guards sound data here: every critical section is a push or a
/// pop.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
