//! Permits for clients that send request content: programs, uploads and contents that are stored.
//!
//! A permit is held while content arrives, so a slow sender could keep it for days. If all permits
//! are held and another client needs one, the slowest sender below the minimum rate is evicted: its
//! permit moves to the new client at once, and its connection is woken and sends a 408. If no
//! sender is slow, the new client gets no permit. This file must not know what a permit is for.

use std::sync::{Arc, Mutex};

use crate::clock::Instant;
use crate::jobs::inbox::Waker;
use crate::jobs::pace::{LeastRate, Pace};
use crate::sync::{Permit, Semaphore, lock};

/// A bounded number of permits for senders of content.
#[derive(Debug)]
pub struct SenderPermits {
    rate: Option<LeastRate>,
    free: Arc<Semaphore>,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// The senders that hold a permit, at most as many as there are permits.
    held: Vec<(Arc<Holder>, Permit)>,
    /// Number of senders that were evicted and still use what their permit was for.
    leaving: usize,
}

impl SenderPermits {
    /// Creates `count` permits. Senders slower than `rate` can be evicted; with `None`, none can.
    #[must_use]
    pub fn new(count: usize, rate: Option<LeastRate>) -> Arc<Self> {
        let table = Mutex::new(Table { held: Vec::new(), leaving: 0 });
        Arc::new(SenderPermits { rate, free: Semaphore::new(count as u64), table })
    }

    /// Takes a permit for the content that the connection of `sender` sends: a free one, or else
    /// that of the slowest sender below the minimum rate.
    #[must_use]
    pub(crate) fn acquire(self: &Arc<Self>, sender: Waker, now: Instant) -> Option<SenderPermit> {
        let mut table = lock(&self.table);
        let (permit, slowest) = match self.free.try_acquire(1) {
            Some(permit) => (permit, None),
            None => {
                let (slowest, permit) = self.take_slowest(&mut table, now)?;
                (permit, Some(slowest))
            }
        };
        let holder = Arc::new(Holder { state: Mutex::new(HolderState::New), sender });
        table.held.push((Arc::clone(&holder), permit));
        drop(table);
        if let Some(slowest) = slowest {
            slowest.sender.evict();
        }
        Some(SenderPermit { permits: Arc::clone(self), holder })
    }

    /// Evicts the slowest sender below the minimum rate, so that what it uses is free soon. One
    /// eviction at a time is enough. Returns false if no sender is slow.
    pub(crate) fn evict_slowest(&self, now: Instant) -> bool {
        let mut table = lock(&self.table);
        if table.leaving > 0 {
            return true;
        }
        let slowest = self.take_slowest(&mut table, now).map(|(slowest, _)| slowest);
        drop(table);
        slowest.inspect(|holder| holder.sender.evict()).is_some()
    }

    /// Removes the slowest sender from the table and marks it as evicted. Returns its permit.
    fn take_slowest(&self, table: &mut Table, now: Instant) -> Option<(Arc<Holder>, Permit)> {
        let rate = self.rate?;
        // A sender may become faster between the search and the eviction. Each try finds one less.
        for _ in 0..table.held.len() {
            let slow = table.held.iter().enumerate();
            let slow = slow.filter_map(|(at, (holder, _))| Some((holder.missed(&rate, now)?, at)));
            let (_, at) = slow.min()?;
            if table.held[at].0.evict(&rate, now) {
                table.leaving += 1;
                return Some(table.held.swap_remove(at));
            }
        }
        None
    }
}

/// A permit of one sender. Dropping it frees the permit, unless the sender was evicted.
#[derive(Debug)]
pub struct SenderPermit {
    permits: Arc<SenderPermits>,
    holder: Arc<Holder>,
}

impl SenderPermit {
    /// Returns the record of the sender.
    pub(crate) fn holder(&self) -> &Arc<Holder> {
        &self.holder
    }
}

impl Drop for SenderPermit {
    fn drop(&mut self) {
        let mut table = lock(&self.permits.table);
        let Some(at) = table.held.iter().position(|(other, _)| Arc::ptr_eq(other, &self.holder)) else {
            // The sender was evicted, so another client has the permit.
            table.leaving -= 1;
            return;
        };
        table.held.swap_remove(at);
    }
}

/// The sender that holds a permit. Its connection reports here how fast content arrives.
#[derive(Debug)]
pub struct Holder {
    state: Mutex<HolderState>,
    sender: Waker,
}

#[derive(Clone, Copy, Debug)]
enum HolderState {
    /// Nothing is known about the sender yet.
    New,
    /// Content arrives.
    Sending(Pace),
    /// All content has arrived. The permit is needed for the work, and no sender delays it.
    Settled,
    /// Another client has the permit.
    Evicted,
}

impl Holder {
    /// Returns true until the pace of the sender was reported for the first time.
    pub(crate) fn is_new(&self) -> bool {
        matches!(*lock(&self.state), HolderState::New)
    }

    /// Reports how fast content arrives.
    pub(crate) fn report(&self, pace: Pace) {
        let mut state = lock(&self.state);
        if matches!(*state, HolderState::New | HolderState::Sending(_)) {
            *state = HolderState::Sending(pace);
        }
    }

    /// Reports that all content has arrived. Returns false if the sender was evicted before.
    pub(crate) fn settle(&self) -> bool {
        let mut state = lock(&self.state);
        let is_evicted = matches!(*state, HolderState::Evicted);
        if !is_evicted {
            *state = HolderState::Settled;
        }
        !is_evicted
    }

    /// Returns true if another client has the permit.
    pub(crate) fn is_evicted(&self) -> bool {
        matches!(*lock(&self.state), HolderState::Evicted)
    }

    /// Returns the bytes that arrived lately, if they are too few.
    fn missed(&self, rate: &LeastRate, now: Instant) -> Option<u64> {
        match &*lock(&self.state) {
            HolderState::Sending(pace) => rate.missed_by(pace, now),
            HolderState::New | HolderState::Settled | HolderState::Evicted => None,
        }
    }

    /// Marks the sender as evicted if it is still too slow.
    fn evict(&self, rate: &LeastRate, now: Instant) -> bool {
        let mut state = lock(&self.state);
        let is_slow = matches!(&*state, HolderState::Sending(pace) if rate.missed_by(pace, now).is_some());
        if is_slow {
            *state = HolderState::Evicted;
        }
        is_slow
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Limits, Timeouts};
    use crate::conn_id::ConnId;
    use crate::handler::continuation::{Done, Inbox};

    /// Senders with the numbers of their connections.
    struct Senders {
        permits: Arc<SenderPermits>,
        inbox: Arc<Inbox>,
        start: Instant,
    }

    impl Senders {
        fn new(count: usize) -> Senders {
            let rate = LeastRate::of(&Limits::default(), &Timeouts::default());
            let inbox = Arc::new(Inbox::new(Box::new(|| Ok(()))));
            let start = crate::clock::origin();
            Senders { permits: SenderPermits::new(count, rate), inbox, start }
        }

        fn take(&self, number: u32, seconds: u64) -> Option<SenderPermit> {
            let waker = Waker::new(ConnId::new(number, 0), Arc::clone(&self.inbox));
            self.permits.acquire(waker, self.start + Duration::from_secs(seconds))
        }

        /// Creates a sender that has sent this number of bytes since the start.
        fn sender(&self, number: u32, bytes: u64) -> SenderPermit {
            let permit = self.take(number, 0).unwrap();
            permit.holder().report(Pace::since(self.start, bytes));
            permit
        }

        fn evicted(&self) -> Vec<u32> {
            let mut results = Vec::new();
            self.inbox.take(&mut results);
            let is_it = |done: &Done| matches!(done, Done::Evicted);
            results.iter().filter(|(_, done)| is_it(done)).map(|(id, _)| id.generation()).collect()
        }
    }

    /// Regression: 64 senders of a few bytes a second blocked all others for days.
    #[test]
    fn the_slowest_sender_is_evicted_once_all_permits_are_held() {
        let senders = Senders::new(3);
        let (slow, slower) = (senders.sender(1, 50_000), senders.sender(2, 10));
        assert!(senders.take(9, 3600).is_some(), "a free permit is used first");
        let fast = senders.sender(3, 200_000);
        assert!(senders.take(4, 9).is_none(), "no sender can be judged yet");
        assert!(senders.evicted().is_empty() && !slower.holder().is_evicted());
        let new = senders.take(5, 10).expect("the permit of the slowest");
        assert_eq!(senders.evicted(), [2]);
        assert!(slower.holder().is_evicted() && !slower.holder().settle());
        slower.holder().report(Pace::since(senders.start, 1 << 30));
        assert!(slower.holder().is_evicted(), "an eviction is final");
        drop(slower);
        let newer = senders.take(6, 10).expect("the permit of the next one");
        assert_eq!(senders.evicted(), [1]);
        assert!(senders.take(7, 10).is_none(), "the others are fast or new");
        drop((slow, fast));
        assert!(senders.take(7, 10).is_some());
        assert!(senders.take(8, 10).is_some() && !new.holder().is_evicted());
        drop(newer);
    }

    #[test]
    fn a_sender_that_has_sent_everything_or_is_not_read_from_keeps_its_permit() {
        let senders = Senders::new(2);
        let (done, held) = (senders.sender(1, 0), senders.sender(2, 0));
        assert!(done.holder().settle());
        done.holder().report(Pace::since(senders.start, 0));
        let mut pace = Pace::starting(senders.start);
        pace.hold(senders.start);
        held.holder().report(pace);
        assert!(senders.take(3, 3600).is_none() && !senders.permits.evict_slowest(senders.start));
        pace.resume(senders.start + Duration::from_secs(3600));
        held.holder().report(pace);
        assert!(senders.take(3, 3609).is_none());
        assert!(senders.take(3, 3610).is_some());
        assert_eq!(senders.evicted(), [2]);
    }

    #[test]
    fn a_permit_is_never_free_twice() {
        let senders = Senders::new(1);
        let slow = senders.sender(1, 0);
        let evict = || senders.permits.evict_slowest(senders.start + Duration::from_secs(10));
        assert!(evict() && evict());
        assert_eq!(senders.evicted(), [1]);
        let next = senders.take(2, 10);
        drop(slow);
        assert!(next.is_some() && senders.take(3, 10).is_none());
        assert!(!evict(), "the new sender cannot be judged yet");
        drop(next);
        assert!(senders.take(3, 10).is_some());
    }
}
