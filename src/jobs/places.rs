//! Scarce places: how many of something may be open at once, over all connections.
//!
//! A place that is held while request content comes has a [`Seat`], through which its sender can be
//! asked to give way. When all places are taken and a client needs one, the slowest sender below
//! the least rate loses its place to that client at once; its connection is woken and answers 408.
//! If nobody is slow, the client finds no place. Must not know what a place is for.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::jobs::inbox::Waker;
use crate::jobs::pace::{LeastRate, Pace};
use crate::sync::lock;

/// A number of places, each free or taken.
#[derive(Debug)]
pub struct Places {
    rate: Option<LeastRate>,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    free: usize,
    /// The senders that have a place, at most as many as there are places.
    seats: Vec<Arc<Seat>>,
    /// Senders that have lost their place and still hold what it was for.
    leaving: usize,
}

impl Places {
    /// `count` places, all free. Nobody gives way.
    #[must_use]
    pub fn new(count: usize) -> Arc<Self> {
        Places::for_senders(count, None)
    }

    /// `count` places for senders of content, of which those below `rate` give way.
    #[must_use]
    pub fn for_senders(count: usize, rate: Option<LeastRate>) -> Arc<Self> {
        Arc::new(Places { rate, table: Mutex::new(Table { free: count, seats: Vec::new(), leaving: 0 }) })
    }

    /// Takes a place, if one is free. It is free again when the result is dropped.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Taken> {
        let mut table = lock(&self.table);
        table.free = table.free.checked_sub(1)?;
        Some(Taken { places: Arc::clone(self), seat: None })
    }

    /// Takes a place for the content that the connection of `sender` brings: a free one, or else
    /// that of the slowest sender below the least rate.
    #[must_use]
    pub(crate) fn take_for(self: &Arc<Self>, sender: Waker, now: Instant) -> Option<Taken> {
        let mut table = lock(&self.table);
        let slowest = match table.free.checked_sub(1) {
            Some(free) => {
                table.free = free;
                None
            }
            None => Some(self.take_slowest(&mut table, now)?),
        };
        let seat = Arc::new(Seat { standing: Mutex::new(Standing::New), sender });
        table.seats.push(Arc::clone(&seat));
        drop(table);
        if let Some(slowest) = slowest {
            slowest.sender.give_way();
        }
        Some(Taken { places: Arc::clone(self), seat: Some(seat) })
    }

    /// Has the slowest sender below the least rate give way, so that what it holds comes free soon.
    /// One at a time. False if there is none.
    pub(crate) fn make_way(&self, now: Instant) -> bool {
        let mut table = lock(&self.table);
        if table.leaving > 0 {
            return true;
        }
        let slowest = self.take_slowest(&mut table, now);
        table.free += usize::from(slowest.is_some());
        drop(table);
        slowest.inspect(|seat| seat.sender.give_way()).is_some()
    }

    /// Takes the slowest sender off the list, told that it gives way. Its place is the caller's.
    fn take_slowest(&self, table: &mut Table, now: Instant) -> Option<Arc<Seat>> {
        let rate = self.rate?;
        // A seat may change between the look and the word. Each try finds one less.
        for _ in 0..table.seats.len() {
            let slow = table.seats.iter().enumerate();
            let slow = slow.filter_map(|(at, seat)| Some((seat.missed(&rate, now)?, at)));
            let (_, at) = slow.min()?;
            if table.seats[at].dismiss(&rate, now) {
                table.leaving += 1;
                return Some(table.seats.swap_remove(at));
            }
        }
        None
    }
}

/// A place that is taken.
#[derive(Debug)]
pub struct Taken {
    places: Arc<Places>,
    /// Of a place that is held for a sender.
    seat: Option<Arc<Seat>>,
}

impl Taken {
    /// The seat of the sender that it is held for, if it is.
    pub(crate) fn seat(&self) -> Option<&Arc<Seat>> {
        self.seat.as_ref()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut table = lock(&self.places.table);
        if let Some(seat) = &self.seat {
            let Some(at) = table.seats.iter().position(|other| Arc::ptr_eq(other, seat)) else {
                // It gave way: the place is another's.
                table.leaving -= 1;
                return;
            };
            table.seats.swap_remove(at);
        }
        table.free += 1;
    }
}

/// A place from its sender's side. Its connection reports how fast content comes.
#[derive(Debug)]
pub struct Seat {
    standing: Mutex<Standing>,
    sender: Waker,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    /// Nothing is known of the sender.
    New,
    /// Content comes.
    Sending(Pace),
    /// All content is here: the place is needed for the work, and nobody is waited for.
    Settled,
    /// The place is another's.
    GivesWay,
}

impl Seat {
    /// True until its sender's pace was reported for the first time.
    pub(crate) fn is_new(&self) -> bool {
        matches!(*lock(&self.standing), Standing::New)
    }

    /// Reports how fast content comes.
    pub(crate) fn report(&self, pace: Pace) {
        let mut standing = lock(&self.standing);
        if matches!(*standing, Standing::New | Standing::Sending(_)) {
            *standing = Standing::Sending(pace);
        }
    }

    /// Reports that all content is here. False if the place was lost before.
    pub(crate) fn settle(&self) -> bool {
        let mut standing = lock(&self.standing);
        let is_lost = matches!(*standing, Standing::GivesWay);
        if !is_lost {
            *standing = Standing::Settled;
        }
        !is_lost
    }

    /// True if the place is another's.
    pub(crate) fn gives_way(&self) -> bool {
        matches!(*lock(&self.standing), Standing::GivesWay)
    }

    /// The bytes that came lately, if they are too few.
    fn missed(&self, rate: &LeastRate, now: Instant) -> Option<u64> {
        match &*lock(&self.standing) {
            Standing::Sending(pace) => rate.missed_by(pace, now),
            Standing::New | Standing::Settled | Standing::GivesWay => None,
        }
    }

    /// Takes the place away, if its sender is still too slow.
    fn dismiss(&self, rate: &LeastRate, now: Instant) -> bool {
        let mut standing = lock(&self.standing);
        let is_slow = matches!(&*standing, Standing::Sending(pace) if rate.missed_by(pace, now).is_some());
        if is_slow {
            *standing = Standing::GivesWay;
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

    #[test]
    fn places_are_bounded_and_come_back() {
        let places = Places::new(2);
        let first = places.take();
        let second = places.take();
        assert!(first.is_some() && second.is_some() && places.take().is_none());
        drop(first);
        assert!(places.take().is_some());
    }

    /// Senders with the numbers of their connections.
    struct Senders {
        places: Arc<Places>,
        inbox: Arc<Inbox>,
        start: Instant,
    }

    impl Senders {
        fn new(count: usize) -> Senders {
            let rate = LeastRate::of(&Limits::default(), &Timeouts::default());
            let inbox = Arc::new(Inbox::new(Box::new(|| Ok(()))));
            let start = crate::clock::read_clocks().mono;
            Senders { places: Places::for_senders(count, rate), inbox, start }
        }

        fn take(&self, number: u32, seconds: u64) -> Option<Taken> {
            let waker = Waker::new(ConnId::new(number, 0), Arc::clone(&self.inbox));
            self.places.take_for(waker, self.start + Duration::from_secs(seconds))
        }

        /// One that has brought so many bytes from the start on.
        fn sender(&self, number: u32, bytes: u64) -> Taken {
            let taken = self.take(number, 0).unwrap();
            taken.seat().unwrap().report(Pace::since(self.start, bytes));
            taken
        }

        fn told(&self) -> Vec<u32> {
            let mut told = Vec::new();
            self.inbox.take(&mut told);
            let is_it = |done: &Done| matches!(done, Done::GiveWay);
            told.iter().filter(|(_, done)| is_it(done)).map(|(id, _)| id.generation()).collect()
        }
    }

    /// 64 senders of a few bytes a second kept all others out for days.
    #[test]
    fn the_slowest_sender_gives_way_once_all_places_are_taken() {
        let senders = Senders::new(3);
        let (slow, slower) = (senders.sender(1, 50_000), senders.sender(2, 10));
        assert!(senders.take(9, 3600).is_some(), "while a place is free nobody gives way");
        let fast = senders.sender(3, 200_000);
        assert!(senders.take(4, 9).is_none(), "nobody can be judged yet");
        assert!(senders.told().is_empty() && !slower.seat().unwrap().gives_way());
        let new = senders.take(5, 10).expect("the place of the slowest");
        assert_eq!(senders.told(), [2]);
        assert!(slower.seat().unwrap().gives_way() && !slower.seat().unwrap().settle());
        slower.seat().unwrap().report(Pace::since(senders.start, 1 << 30));
        assert!(slower.seat().unwrap().gives_way(), "what is lost is lost");
        drop(slower);
        let newer = senders.take(6, 10).expect("the place of the next one");
        assert_eq!(senders.told(), [1]);
        assert!(senders.take(7, 10).is_none(), "the rest are fast, or new");
        drop((slow, fast));
        assert!(senders.take(7, 10).is_some());
        assert!(senders.take(8, 10).is_some() && !new.seat().unwrap().gives_way());
        drop(newer);
    }

    #[test]
    fn who_has_sent_everything_or_is_not_read_from_keeps_its_place() {
        let senders = Senders::new(2);
        let (done, held) = (senders.sender(1, 0), senders.sender(2, 0));
        assert!(done.seat().unwrap().settle());
        done.seat().unwrap().report(Pace::since(senders.start, 0));
        let mut pace = Pace::starting(senders.start);
        pace.hold(senders.start);
        held.seat().unwrap().report(pace);
        assert!(senders.take(3, 3600).is_none() && !senders.places.make_way(senders.start));
        pace.resume(senders.start + Duration::from_secs(3600));
        held.seat().unwrap().report(pace);
        assert!(senders.take(3, 3609).is_none());
        assert!(senders.take(3, 3610).is_some());
        assert_eq!(senders.told(), [2]);
    }

    #[test]
    fn a_place_is_never_free_twice() {
        let senders = Senders::new(1);
        let slow = senders.sender(1, 0);
        let make_way = || senders.places.make_way(senders.start + Duration::from_secs(10));
        assert!(make_way() && make_way());
        assert_eq!(senders.told(), [1]);
        let next = senders.take(2, 10);
        drop(slow);
        assert!(next.is_some() && senders.take(3, 10).is_none());
        assert!(!make_way(), "it was just taken");
        drop(next);
        assert!(senders.take(3, 10).is_some());
    }
}
