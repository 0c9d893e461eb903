//! The log line about the work for which a graceful stop waits.
//!
//! Each loop, or the twin, counts its connections when the stop begins. The last one logs the line,
//! so that a server with several loops logs only one. This file must not know how a stop is carried
//! out.

use std::sync::Mutex;
use std::time::Duration;

use crate::config::TIMEOUT_MAX;
use crate::driver::outcome::{Phases, Signal};
use crate::http::Phase;
use crate::sync::lock;

/// Sum of the connections of all loops.
#[derive(Debug)]
pub(super) struct StopReport {
    drain: Duration,
    /// True if the server takes signals, so that the line mentions a second one.
    takes_signals: bool,
    pending: Mutex<Pending>,
}

#[derive(Debug)]
struct Pending {
    loops: usize,
    phases: Phases,
}

impl StopReport {
    /// Creates a report for `loops` loops and a stop of at most `drain`.
    pub(super) fn new(loops: usize, drain: Duration, takes_signals: bool) -> StopReport {
        let pending = Mutex::new(Pending { loops, phases: [0; Phase::ALL.len()] });
        StopReport { drain, takes_signals, pending }
    }

    /// Adds the connections of one loop. After those of the last loop, logs the line.
    pub(super) fn add(&self, signal: Signal, phases: &Phases) {
        let mut pending = lock(&self.pending);
        for (sum, count) in pending.phases.iter_mut().zip(phases) {
            *sum += count;
        }
        pending.loops = pending.loops.saturating_sub(1);
        if pending.loops > 0 {
            return;
        }
        let why = if signal == Signal::TerminalClosed { "the terminal was closed; " } else { "" };
        match under_way(&pending.phases) {
            // The terminal is closed, but standard error may be a file.
            None if signal == Signal::TerminalClosed => log::warn!("{why}stopping"),
            None => log::info!("stopping"),
            Some(work) => {
                let (limit, hint) = (self.limit(), self.hint(signal));
                log::warn!("{why}stopping: waiting for {work}{limit}{hint}");
            }
        }
    }

    fn limit(&self) -> String {
        match self.drain < TIMEOUT_MAX {
            true => format!(", {} s at most", self.drain.as_secs_f64()),
            false => String::new(),
        }
    }

    fn hint(&self, signal: Signal) -> &'static str {
        match signal {
            _ if !self.takes_signals => "",
            Signal::Interrupt => "; press Ctrl-C again to stop now",
            Signal::Quit => "; a second SIGQUIT stops now",
            Signal::Terminate | Signal::TerminalClosed | Signal::Reopen | Signal::Report => {
                "; a second signal stops now"
            }
        }
    }
}

/// Describes the connections by the work that is left; `None` if there is none.
fn under_way(phases: &Phases) -> Option<String> {
    let mut counts = [0; 4];
    for (phase, count) in Phase::ALL.into_iter().zip(phases) {
        let kind = match phase {
            Phase::Sending | Phase::Streaming => 0,
            Phase::Handling => 1,
            Phase::ReceivingHead | Phase::ReceivingBody => 2,
            Phase::Idle | Phase::Lingering | Phase::Closed => 3,
        };
        counts[kind] += count;
    }
    let nouns = [
        ("response being sent", "responses being sent"),
        ("request being answered", "requests being answered"),
        ("request being received", "requests being received"),
        ("connection being closed", "connections being closed"),
    ];
    let parts: Vec<String> = (counts.into_iter().zip(nouns))
        .filter(|(count, _)| *count > 0)
        .map(|(count, (one, many))| format!("{count} {}", if count == 1 { one } else { many }))
        .collect();
    match &parts[..] {
        [] => None,
        [all] => Some(all.clone()),
        [first @ .., last] => Some(format!("{} and {last}", first.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(counts: &[(Phase, u64)]) -> Phases {
        let mut phases = [0; Phase::ALL.len()];
        for (phase, count) in counts {
            phases[*phase as usize] += count;
        }
        phases
    }

    #[test]
    fn work_is_counted_by_kind() {
        for (counts, expected) in [
            (&[][..], None),
            (&[(Phase::Sending, 1)], Some("1 response being sent")),
            (&[(Phase::Sending, 1), (Phase::Streaming, 2)], Some("3 responses being sent")),
            (
                &[(Phase::Handling, 2), (Phase::ReceivingBody, 1), (Phase::Lingering, 1)],
                Some("2 requests being answered, 1 request being received and 1 connection being closed"),
            ),
        ] {
            assert_eq!(under_way(&phases(counts)).as_deref(), expected, "{counts:?}");
        }
    }

    #[test]
    fn limit_and_hint_fit_the_stop() {
        let report = |drain, takes_signals| StopReport::new(1, drain, takes_signals);
        let ten = report(Duration::from_secs(10), true);
        assert_eq!(ten.limit(), ", 10 s at most");
        assert_eq!(report(Duration::from_millis(500), true).limit(), ", 0.5 s at most");
        assert_eq!(report(TIMEOUT_MAX, true).limit(), "");
        assert!(ten.hint(Signal::Interrupt).contains("Ctrl-C again"));
        assert!(ten.hint(Signal::Quit).contains("SIGQUIT"));
        assert_eq!(report(TIMEOUT_MAX, false).hint(Signal::Terminate), "", "signals are of no use here");
    }

    #[test]
    fn loops_are_added_up() {
        let report = StopReport::new(2, Duration::ZERO, true);
        report.add(Signal::Terminate, &phases(&[(Phase::Sending, 1)]));
        assert_eq!(lock(&report.pending).loops, 1);
        report.add(Signal::Terminate, &phases(&[(Phase::Sending, 2)]));
        let pending = lock(&report.pending);
        assert_eq!((pending.loops, pending.phases[Phase::Sending as usize]), (0, 3));
    }
}
