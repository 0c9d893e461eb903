//! What happened in a run, counted by name. A fault that never happens tests nothing.

use std::collections::BTreeMap;

use crate::http::{CloseReason, Phase};

/// How often each kind of thing happened, over any number of runs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// By name: faults, phases and close reasons.
    pub counts: BTreeMap<String, u64>,
    /// The steps of one run, if they were recorded.
    pub steps: String,
}

impl Coverage {
    pub(super) fn note(&mut self, kind: &str, what: &str) {
        *self.counts.entry(format!("{kind} {what}")).or_default() += 1;
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Coverage) {
        for (name, count) in &other.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
    }

    /// What a full run has to have seen; those seen fewer than `least` times.
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

/// The faults the world can do, by the names they are counted under.
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
    "no_place",
    "place_lost",
];
