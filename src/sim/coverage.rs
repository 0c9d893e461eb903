//! Coverage: what happened in the simulated runs, counted by name. A fault that never happens tests
//! nothing. This file must not know how faults are injected.

use std::collections::BTreeMap;

use crate::http::{CloseReason, Phase};
use crate::sim::record::Record;

/// How often each kind of event happened, over any number of runs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Counts of faults, phases and close reasons, by name.
    pub counts: BTreeMap<String, u64>,
    /// The steps of one run, if they were recorded.
    pub record: Option<Record>,
}

impl Coverage {
    /// Counts one event.
    pub(super) fn note(&mut self, kind: &str, what: &str) {
        *self.counts.entry(format!("{kind} {what}")).or_default() += 1;
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Coverage) {
        for (name, count) in &other.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
    }

    /// Returns the names that happened fewer than `least` times, out of all that a full set of runs
    /// must have seen.
    #[must_use]
    pub fn rare(&self, least: u64) -> Vec<String> {
        let faults = FAULTS.iter().map(|fault| format!("fault {fault}"));
        let phases = Phase::ALL.iter().filter(|phase| **phase != Phase::Closed);
        let phases = phases.map(|phase| format!("phase {}", phase.name()));
        let closes = CloseReason::ALL.iter().map(|reason| format!("close {}", reason.name()));
        faults
            .chain(phases)
            .chain(closes)
            .filter(|name| self.counts.get(name).copied().unwrap_or(0) < least)
            .collect()
    }
}

/// The faults that the simulator injects, by the names under which they are counted.
pub const FAULTS: [&str; 32] = [
    "short_read",
    "short_write",
    "would_block_read",
    "would_block_write",
    "interrupted_read",
    "interrupted_write",
    "merged_fin",
    "reset",
    "spurious_event",
    "stale_event",
    "no_descriptors",
    "accept_aborted",
    "late_job",
    "failed_job",
    "framing_flood",
    "cold_file",
    "refused_job",
    "late_result",
    "late_wake_up",
    "file_shrank",
    "file_failed",
    "short_sendfile",
    "half_close",
    "watched_hangs",
    "watched_abandoned",
    "watched_outlives",
    "watched_stale_event",
    "watched_again",
    "failed_wake_up",
    "woken_by_look",
    "no_permit",
    "permit_lost",
];
