//! Processors, waiting and descriptor limits of the current process.
//!
//! Knows nothing about servers, load or results, so that every other module can use it.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::Fallible;

/// Pins this process to the processors in `cpus`. An empty list leaves it unpinned.
pub fn pin(cpus: &[usize]) -> Fallible<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// Numbers of the processors that this process may use.
pub fn processors() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Sleeps for `span`.
#[expect(clippy::disallowed_methods, reason = "waits between two checks of another process")]
pub fn rest(span: Duration) {
    std::thread::sleep(span);
}

/// Raises the soft limit of open descriptors to the hard limit.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
