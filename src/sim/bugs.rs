//! Bugs as switches: each makes one decision of the loop wrongly, and names a public project where
//! that happened.
//!
//! This file must not know how a bug shows; `zoo` runs them.

use crate::driver::decision::{Decision, WrongDecisions};

/// One bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bug {
    /// Name for the command line and for scenarios.
    pub name: &'static str,
    /// The decision that it makes wrongly.
    pub decision: Decision,
    /// The wrong behaviour in one sentence.
    pub does: &'static str,
    /// A public report of the same mistake.
    pub report: PublicReport,
}

/// An issue or a change of a public project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicReport {
    /// Title, as the project wrote it.
    pub title: &'static str,
    /// English meaning of a title in another language.
    pub gloss: Option<&'static str>,
    /// Address.
    pub url: &'static str,
}

impl Bug {
    /// Returns the decisions of a loop with this bug alone.
    #[must_use]
    pub const fn wrong(&self) -> WrongDecisions {
        WrongDecisions::NONE.with(self.decision)
    }

    /// Adds the English meaning of the title of its report.
    const fn meaning(mut self, gloss: &'static str) -> Self {
        self.report.gloss = Some(gloss);
        self
    }

    /// Returns the bug with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Bug> {
        BUGS.iter().find(|bug| bug.name == name)
    }
}

/// All bugs, in the order of their decisions.
pub const BUGS: [Bug; Decision::ALL.len()] = [
    bug(
        "no-generations",
        Decision::CompareGenerations,
        "A result or event for a closed connection goes to the next owner of its slot.",
        "epoll can fire events to wrong descriptor",
        "https://github.com/sustrik/libdill/issues/129",
    ),
    bug(
        "free-in-mid-turn",
        Decision::FreeSlotsLate,
        "The slot of a closed connection is free before the events of the turn are handled.",
        "Fix use-after-free: defer connection teardown past the harvested event batch",
        "https://github.com/karlseguin/http.zig/pull/208",
    ),
    bug(
        "accept-once",
        Decision::AcceptUntilWouldBlock,
        "One event of the listener leads to one accept.",
        "cannot accept all connections from client",
        "https://github.com/tokio-rs/mio/issues/845",
    ),
    bug(
        "read-once",
        Decision::ReadUntilWouldBlock,
        "One event of a socket leads to one read.",
        "udp poll with edge hangs",
        "https://github.com/tokio-rs/mio/issues/1076",
    ),
    bug(
        "short-read-misses-fin",
        Decision::ReadToTheEnd,
        "A short read counts as the end of the readiness although the event reported the end of input.",
        "[Experiment] Reduce the number of syscalls",
        "https://github.com/dotnet/runtime/pull/38747",
    ),
    bug(
        "budget-without-carry",
        Decision::CarryAfterBudget,
        "A connection that has used up its budget waits for an event that will not come.",
        "Unfinished event mechanism for EpollEventLoop",
        "https://github.com/vibe-d/eventcore/pull/20",
    ),
    bug(
        "silence-after-exhaustion",
        Decision::RetryAfterExhaustion,
        "After an accept without a free descriptor, the listener counts as drained.",
        "low ulimit -n causes stop of accepting of any connection",
        "https://github.com/boostorg/beast/issues/3010",
    ),
    bug(
        "deadline-not-removed",
        Decision::RemoveDeadline,
        "A closed connection leaves its deadline in the queue.",
        "Cancel timeout timer in ClientCnx",
        "https://github.com/apache/pulsar/pull/3422",
    ),
    bug(
        "early-deadline",
        Decision::RecheckDeadline,
        "An old entry of the deadline queue closes a connection that has been active since.",
        "Client connection is getting closed by timeout even if it is actively used",
        "https://github.com/javaee/grizzly/issues/141",
    ),
    bug(
        "unsent-dropped",
        Decision::KeepUnsentBytes,
        "Bytes that did not fit into the socket are dropped.",
        "关于sendInLoop中EAGAIN的处理",
        "https://github.com/Allenxuxu/gev/issues/60",
    )
    .meaning("on the handling of EAGAIN in sendInLoop"),
    bug(
        "close-without-linger",
        Decision::LingerBeforeClose,
        "A refused connection is closed while the client still sends.",
        "Rocket sometimes resets connection instead of responding with 413 error response",
        "https://github.com/rwf2/Rocket/issues/2783",
    ),
    bug(
        "lost-wake-up",
        Decision::TakeAllResults,
        "One wake-up delivers one result, although several have gathered.",
        "[Bugfix] Drain RDMA async event queue on each epoll wakeup",
        "https://github.com/kvcache-ai/Mooncake/pull/3236",
    ),
    bug(
        "level-trigger",
        Decision::ReportInputOnce,
        "The kernel reports input in each poll until it is read.",
        "register the listen socket as edge triggered instead of level triggered",
        "https://github.com/sozu-proxy/sozu/issues/82",
    ),
    bug(
        "sleep-in-handler",
        Decision::OffloadSlowWork,
        "Slow work runs on the thread of the loop.",
        "A sleep in one request handler stops other handlers from serving",
        "https://github.com/planety/prologue/issues/31",
    ),
];

const fn bug(
    name: &'static str,
    decision: Decision,
    does: &'static str,
    title: &'static str,
    url: &'static str,
) -> Bug {
    Bug { name, decision, does, report: PublicReport { title, gloss: None, url } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_decision_has_a_bug_and_every_name_is_found() {
        assert!(BUGS.iter().map(|bug| bug.decision).eq(Decision::ALL));
        for bug in &BUGS {
            assert_eq!(Bug::named(bug.name), Some(bug));
        }
        assert_eq!(Bug::named("none"), None);
    }
}
