//! Decisions of the loop that a simulation can make wrongly, to show what each of them prevents.
//!
//! `Os::is_wrong` and [`Stream::is_wrong`](crate::driver::stream::Stream::is_wrong) are asked where
//! a decision is made. Both return false in the server, so the compiler removes the questions. Only
//! the simulator overrides them. This file must not know what goes wrong.

/// A decision that is right in the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decision {
    /// A name is compared with the generation in its slot before it is used.
    CompareGenerations,
    /// The slots of closed connections are freed at the end of the turn.
    FreeSlotsLate,
    /// Clients are accepted until would-block or the limit of the turn.
    AcceptUntilWouldBlock,
    /// A read that fills its buffer does not count as the end of the readiness.
    ReadUntilWouldBlock,
    /// A short read does not count as the end of the readiness if the peer has shut its side.
    ReadToTheEnd,
    /// A connection without budget is pumped again in the next turn.
    CarryAfterBudget,
    /// Accepting is tried again by the clock after descriptors ran out.
    RetryAfterExhaustion,
    /// A closed connection leaves no deadline behind.
    RemoveDeadline,
    /// A due entry of the deadline queue is compared with the present deadline of the connection.
    RecheckDeadline,
    /// Bytes that the kernel did not take stay queued.
    KeepUnsentBytes,
    /// A refused connection reads and discards input before it is closed.
    LingerBeforeClose,
    /// One wake-up delivers all results that have gathered.
    TakeAllResults,
    /// The kernel reports new input once. Made by the simulated kernel.
    ReportInputOnce,
    /// Work that takes time is a job and not a part of the handler. Made by the simulated job
    /// queue.
    OffloadSlowWork,
}

impl Decision {
    /// All decisions, in their order.
    pub const ALL: [Decision; 14] = [
        Decision::CompareGenerations,
        Decision::FreeSlotsLate,
        Decision::AcceptUntilWouldBlock,
        Decision::ReadUntilWouldBlock,
        Decision::ReadToTheEnd,
        Decision::CarryAfterBudget,
        Decision::RetryAfterExhaustion,
        Decision::RemoveDeadline,
        Decision::RecheckDeadline,
        Decision::KeepUnsentBytes,
        Decision::LingerBeforeClose,
        Decision::TakeAllResults,
        Decision::ReportInputOnce,
        Decision::OffloadSlowWork,
    ];
}

/// The decisions that one run makes wrongly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrongDecisions(u16);

impl WrongDecisions {
    /// No wrong decision: the loop of the server.
    pub const NONE: WrongDecisions = WrongDecisions(0);

    /// Adds a decision.
    #[must_use]
    pub const fn with(self, decision: Decision) -> Self {
        WrongDecisions(self.0 | 1 << decision as u16)
    }

    /// Returns true if this decision is made wrongly.
    #[must_use]
    pub const fn contains(self, decision: Decision) -> bool {
        self.0 & 1 << decision as u16 != 0
    }

    /// Returns true if every decision is right.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_decision_is_wrong_alone() {
        for one in Decision::ALL {
            let wrong = WrongDecisions::NONE.with(one);
            let found: Vec<_> = Decision::ALL.into_iter().filter(|other| wrong.contains(*other)).collect();
            assert_eq!(found, [one]);
        }
        assert!(WrongDecisions::NONE.is_empty());
    }
}
