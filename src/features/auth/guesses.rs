//! Slows down password guessing, by the address that wrong passwords come from.
//!
//! Wrong passwords are counted by address. After the first few, refusals are delayed. A delayed
//! refusal is a timer of its connection and holds no worker thread. The delay belongs to the
//! address, so a client that reconnects does not escape it.
//!
//! Must not know passwords or how they are checked.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::config::{
    AUTH_DELAY_FIRST, AUTH_DELAY_MAX, AUTH_DELAYED_EACH_MAX, AUTH_DELAYED_MAX, AUTH_FAILURES_FREE,
    AUTH_FORGOTTEN_AFTER, AUTH_ORIGINS_MAX, Limits,
};
use crate::handler::continuation::Done;
use crate::handler::watch::{Advanced, Descriptor, Ready, Watched};
use crate::handler::{Answer, Context};
use crate::http::Response;
use crate::jobs::fair_queue::Origin;
use crate::sync::{Permit, Semaphore, lock};

/// Wrong passwords from one origin.
#[derive(Debug)]
struct Entry {
    origin: Origin,
    failures: u32,
    last: Instant,
    /// Ends of the delays of this origin, including those of closed connections.
    delays: Vec<Instant>,
}

impl Entry {
    fn failures_at(&self, now: Instant) -> u32 {
        match now.saturating_duration_since(self.last) >= AUTH_FORGOTTEN_AFTER {
            true => 0,
            false => self.failures,
        }
    }

    /// Records a delay until it ends. Returns false if the origin already has too many.
    fn keep(&mut self, due: Instant, now: Instant) -> bool {
        self.delays.retain(|due| *due > now);
        let has_room = self.delays.len() < AUTH_DELAYED_EACH_MAX;
        if has_room {
            self.delays.push(due);
        }
        has_room
    }
}

/// Counters of wrong passwords and of waiting refusals.
#[derive(Debug)]
pub(crate) struct Guesses {
    entries: Mutex<Vec<Entry>>,
    delayed: Arc<Semaphore>,
}

/// Delay that a wrong password costs.
struct Charge {
    due: Instant,
    /// False if the origin already has too many delays.
    is_kept: bool,
}

/// Consequence of a wrong password.
#[derive(Debug)]
pub(crate) enum Penalty {
    /// The refusal is sent immediately.
    Nothing,
    Delay(Delay),
    /// The limit of waiting refusals is reached.
    TooMany,
}

/// Running delay. It counts as a waiting refusal until it is dropped.
#[derive(Debug)]
pub(crate) struct Delay {
    due: Instant,
    _permit: Permit,
}

impl Guesses {
    pub(crate) fn new(limits: &Limits) -> Self {
        // In the threads model each waiting refusal holds a thread.
        let delayed_max = AUTH_DELAYED_MAX.min(limits.threads_max / 4).max(1);
        Guesses { entries: Mutex::default(), delayed: Semaphore::new(delayed_max as u64) }
    }

    /// Counts a wrong password of a client that waits for the response, and returns the
    /// consequence.
    pub(crate) fn note(&self, origin: Origin, now: Instant) -> Penalty {
        let Charge { due, is_kept } = match self.charge(origin, now) {
            Some(charge) => charge,
            None => return Penalty::Nothing,
        };
        match self.delayed.try_acquire(1).filter(|_| is_kept) {
            Some(permit) => Penalty::Delay(Delay { due, _permit: permit }),
            None => Penalty::TooMany,
        }
    }

    /// Counts a wrong password of a client that has disconnected.
    pub(crate) fn note_gone(&self, origin: Origin, now: Instant) {
        self.charge(origin, now);
    }

    /// Counts a wrong password, and records the delay that it costs.
    fn charge(&self, origin: Origin, now: Instant) -> Option<Charge> {
        let mut entries = lock(&self.entries);
        let entry = Guesses::count(&mut entries, origin, now);
        let failures = entry.failures;
        let charge = delay_after(failures).map(|delay| {
            let due = now + delay;
            Charge { due, is_kept: entry.keep(due, now) }
        });
        drop(entries);
        if failures == AUTH_FAILURES_FREE {
            log::warn!("{failures} wrong passwords from {origin}: further ones are slowed");
        }
        charge
    }

    /// Counts one more wrong password for `origin`.
    ///
    /// If the table is full, the origin takes over the entry with the fewest failures, the oldest
    /// of these, and its count (the Space-Saving algorithm, Metwally and others 2005). If the count
    /// began at one, a guesser with many addresses could flush the table.
    fn count(entries: &mut Vec<Entry>, origin: Origin, now: Instant) -> &mut Entry {
        let known = entries.iter().position(|entry| entry.origin == origin);
        let at = known.or_else(|| {
            let fewest = || {
                let by_count = |&at: &usize| (entries[at].failures_at(now), entries[at].last);
                (0..entries.len()).min_by_key(by_count)
            };
            (entries.len() >= AUTH_ORIGINS_MAX).then(fewest).flatten()
        });
        let at = at.unwrap_or_else(|| {
            entries.push(Entry { origin, failures: 0, last: now, delays: Vec::new() });
            entries.len() - 1
        });
        let entry = &mut entries[at];
        entry.failures = entry.failures_at(now).saturating_add(1);
        entry.last = now;
        if known.is_none() {
            entry.origin = origin;
            entry.delays.clear();
        }
        entry
    }
}

/// Delay of the refusal after this number of failures.
fn delay_after(failures: u32) -> Option<Duration> {
    let doublings = failures.checked_sub(AUTH_FAILURES_FREE + 1)?;
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    Some(AUTH_DELAY_FIRST.saturating_mul(factor).min(AUTH_DELAY_MAX))
}

impl Delay {
    /// Sends `response` when the delay is over.
    pub(crate) fn answer(self, response: Response, cx: &mut Context<'_>) -> Answer {
        let due = self.due;
        cx.watch(Arc::new(Delayed { due, rest: Mutex::new(Some((response, self))) }));
        cx.answer_later()
    }
}

/// Response that is sent when its delay is over.
struct Delayed {
    due: Instant,
    rest: Mutex<Option<(Response, Delay)>>,
}

impl Watched for Delayed {
    fn descriptors(&self) -> Vec<Descriptor> {
        Vec::new()
    }

    fn advance(self: Arc<Self>, _: Ready, now: Instant) -> Advanced {
        let mut rest = lock(&self.rest);
        if rest.is_some() && now < self.due {
            return Advanced { due: Some(self.due), ..Advanced::default() };
        }
        let done = rest.take().map(|(response, _)| Done::Finished(Box::new(|_| Answer::Now(response))));
        Advanced { done, is_over: true, ..Advanced::default() }
    }

    fn abandon(&self) {
        lock(&self.rest).take();
    }
}

#[cfg(test)]
mod tests;
