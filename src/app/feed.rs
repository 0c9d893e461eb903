//! Server-sent events: a [`Feed`] sends events to many listeners (WHATWG HTML section 9.2).
//!
//! An event is formatted once and shared; each listener has a bounded queue of its own. A listener
//! that does not read its events is dropped at the bound and delays nobody, because sending only
//! pushes to the queues and wakes connections. Periodic comments detect listeners that are gone.
//!
//! Must not know connections; a listener is a [`BodySource`].

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use slab::Slab;

use crate::app::call::Call;
use crate::config::{FEED_BYTES_MAX, FEED_EVENTS_MAX, FEED_HEARTBEAT, FEED_HISTORY_MAX};
use crate::http::{BodySource, FillStatus};
use crate::jobs::inbox::Waker;
use crate::sync::lock;

/// Limits of a feed, and its heartbeat.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FeedOptions {
    /// Maximum number of events that wait for one listener. A listener that exceeds it is dropped.
    /// Default: 64.
    pub events_max: usize,
    /// Maximum bytes that wait for one listener. A single event may be longer if no other is
    /// waiting. Default: 64 KiB.
    pub bytes_max: usize,
    /// Number of past events kept for listeners that reconnect with the ID of their last event.
    /// Default: 64.
    pub history_max: usize,
    /// Interval of comments to listeners with nothing waiting. Comments detect closed connections
    /// and keep proxies from treating a connection as idle. Default: 15 s, as WHATWG HTML section
    /// 9.2.7 recommends.
    pub heartbeat: Duration,
}

impl Default for FeedOptions {
    fn default() -> Self {
        FeedOptions {
            events_max: FEED_EVENTS_MAX,
            bytes_max: FEED_BYTES_MAX,
            history_max: FEED_HISTORY_MAX,
            heartbeat: FEED_HEARTBEAT,
        }
    }
}

/// Sends events to all listeners. Clones share the feed; any thread may send.
///
/// ```no_run
/// use whirligig::{Feed, Response, Server};
///
/// let feed = Feed::new();
/// let news = feed.clone();
/// let server = Server::builder()
///     .get("/news", move |call| Response::events(news.join(call)))
///     .post("/news", move |call| {
///         feed.send(call.text()?);
///         Ok::<_, whirligig::Refusal>("told\n")
///     })
///     .bind("127.0.0.1:0")?;
/// # Ok::<(), whirligig::BindError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    options: FeedOptions,
    /// Prefix of event IDs. IDs of an earlier process mean nothing here.
    epoch: String,
    /// Stops the heartbeat thread.
    heartbeat_stop: Arc<HeartbeatStop>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} listeners", lock(&self.state).listeners.len())
    }
}

#[derive(Default)]
struct State {
    listeners: Slab<ListenerQueue>,
    /// Past events with their numbers, oldest first.
    history: VecDeque<(u64, Arc<[u8]>)>,
    /// Number of the last event.
    last: u64,
    dropped: u64,
    closed: bool,
    has_heartbeat: bool,
}

/// A listener.
struct ListenerQueue {
    queue: VecDeque<Arc<[u8]>>,
    /// Bytes of the first event that the connection has taken.
    taken_bytes: usize,
    /// Bytes of all events that the connection has not taken.
    queued_bytes: usize,
    waker: Waker,
    /// Set by a wake-up until the connection reads, so that it is not woken again.
    is_woken: bool,
    /// True if the listener was dropped; its connection is closed at its next read.
    is_lost: bool,
}

#[derive(Debug, Default)]
struct HeartbeatStop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

/// A comment, which pages ignore.
const HEARTBEAT: &[u8] = b":\n\n";

impl Feed {
    /// A feed with default limits.
    #[must_use]
    pub fn new() -> Self {
        Feed::with_options(FeedOptions::default())
    }

    /// A feed with the given limits.
    #[must_use]
    pub fn with_options(options: FeedOptions) -> Self {
        // The hasher of the standard library has random keys. An epoch only has to differ from the
        // previous one.
        let epoch = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let epoch = format!("{:08x}", epoch as u32);
        let (state, heartbeat_stop) = (Mutex::default(), Arc::default());
        Feed { shared: Arc::new(Shared { state, options, epoch, heartbeat_stop }) }
    }

    /// Sends `data`, which may have several lines, to all listeners.
    ///
    /// An event is stored once, until every listener has taken it and while it is in the history
    /// ([`FeedOptions::history_max`]). Limit the length of text from clients before sending it.
    ///
    /// An event longer than [`FeedOptions::bytes_max`] reaches listeners with nothing waiting and
    /// drops the others. A listener that has not taken it when the next event is sent is dropped,
    /// too. Instead of large data, send the URL where it can be fetched.
    pub fn send(&self, data: &str) {
        self.publish(None, data);
    }

    /// Sends an event with a name, for which pages listen with `addEventListener`. Control
    /// characters are removed from the name.
    pub fn send_named(&self, name: &str, data: &str) {
        self.publish(Some(name), data);
    }

    fn publish(&self, name: Option<&str>, data: &str) {
        let mut state = lock(&self.shared.state);
        if state.closed {
            return;
        }
        state.last += 1;
        let number = state.last;
        let event: Arc<[u8]> = written(&format!("{}-{number}", self.shared.epoch), name, data).into();
        state.history.push_back((number, Arc::clone(&event)));
        while state.history.len() > self.shared.options.history_max {
            state.history.pop_front();
        }
        let State { listeners, dropped, .. } = &mut *state;
        for (_, listener) in listeners {
            *dropped += u64::from(!listener.push(&event, &self.shared.options));
        }
    }

    /// Adds a listener, for [`Response::events`](crate::Response::events). A listener that
    /// reconnects with `Last-Event-ID` first receives the events that it missed, as far as the
    /// history contains them.
    ///
    /// The listener is removed when its connection ends.
    #[must_use]
    pub fn join(&self, call: &Call<'_>) -> Listener {
        self.join_after(call.header("last-event-id"), call.waker())
    }

    /// Adds a listener for a handler without a [`Call`]. It receives the events after `last_id`.
    pub(crate) fn join_after(&self, last_id: Option<&[u8]>, waker: Waker) -> Listener {
        self.subscribe(waker, last_id.and_then(|id| std::str::from_utf8(id).ok()))
    }

    /// ID of the last event.
    #[must_use]
    pub fn last_id(&self) -> String {
        format!("{}-{}", self.shared.epoch, lock(&self.shared.state).last)
    }

    /// Weak handle, which does not keep the feed alive.
    pub(crate) fn downgrade(&self) -> WeakFeed {
        WeakFeed(Arc::downgrade(&self.shared))
    }

    fn subscribe(&self, waker: Waker, last_id: Option<&str>) -> Listener {
        let mut state = lock(&self.shared.state);
        let last_received = last_id.and_then(|id| {
            id.strip_prefix(self.shared.epoch.as_str())?.strip_prefix('-')?.parse::<u64>().ok()
        });
        let missed = state
            .history
            .iter()
            .filter(|(number, _)| last_received.is_some_and(|last_received| *number > last_received));
        // The first comment makes the connection send the head now, not with the first event.
        let queue: VecDeque<Arc<[u8]>> =
            std::iter::once(Arc::from(HEARTBEAT)).chain(missed.map(|(_, event)| Arc::clone(event))).collect();
        let queued_bytes = queue.iter().map(|event| event.len()).sum();
        let listener =
            ListenerQueue { queue, taken_bytes: 0, queued_bytes, waker, is_woken: true, is_lost: false };
        let key = state.listeners.insert(listener);
        let needs_heartbeat = !std::mem::replace(&mut state.has_heartbeat, true);
        drop(state);
        if needs_heartbeat {
            self.start_heartbeat();
        }
        Listener { shared: Arc::clone(&self.shared), key }
    }

    /// Starts the heartbeat thread of the feed, with the first listener. If no thread can be
    /// started, a closed connection is detected only at the next event.
    fn start_heartbeat(&self) {
        let (heartbeat_stop, shared) =
            (Arc::clone(&self.shared.heartbeat_stop), Arc::downgrade(&self.shared));
        let every = self.shared.options.heartbeat;
        let started = std::thread::Builder::new()
            .name("whirligig-feed".into())
            .spawn(move || send_heartbeats(&heartbeat_stop, &shared, every));
        if let Err(error) = started {
            log::warn!("cannot start the heartbeat thread of a feed: {error}");
            lock(&self.shared.state).has_heartbeat = false;
        }
    }

    /// Number of listeners.
    #[must_use]
    pub fn listeners(&self) -> usize {
        lock(&self.shared.state).listeners.iter().filter(|(_, listener)| !listener.is_lost).count()
    }

    /// Number of listeners dropped because they did not read their events.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        lock(&self.shared.state).dropped
    }

    /// Closes the feed. Each listener receives its waiting events, then the end of the response.
    /// Listeners that join later receive the end immediately. A graceful shutdown of the server
    /// ends listeners without this.
    pub fn close(&self) {
        let mut state = lock(&self.shared.state);
        state.closed = true;
        for (_, listener) in &mut state.listeners {
            listener.wake();
        }
    }
}

/// Weak handle on a [`Feed`], for a sender that must stop when the feed is dropped.
pub(crate) struct WeakFeed(Weak<Shared>);

impl WeakFeed {
    pub(crate) fn upgrade(&self) -> Option<Feed> {
        self.0.upgrade().map(|shared| Feed { shared })
    }
}

impl Default for Feed {
    fn default() -> Self {
        Feed::new()
    }
}

impl ListenerQueue {
    /// Queues an event. Returns false if that drops the listener.
    fn push(&mut self, event: &Arc<[u8]>, options: &FeedOptions) -> bool {
        if self.is_lost {
            return true;
        }
        let is_over = self.queued_bytes + event.len() > options.bytes_max;
        // A listener with nothing waiting reads its events, so one long event must not drop it.
        if self.queue.len() >= options.events_max || (is_over && !self.queue.is_empty()) {
            self.is_lost = true;
            self.queue = VecDeque::new();
            (self.taken_bytes, self.queued_bytes) = (0, 0);
            self.wake();
            return false;
        }
        self.queued_bytes += event.len();
        self.queue.push_back(Arc::clone(event));
        self.wake();
        true
    }

    /// Moves up to `room` bytes to the connection. A long event is moved in pieces: it is stored
    /// once for all listeners, and none gets a copy of the whole.
    fn take(&mut self, out: &mut Vec<u8>, room: usize) {
        // At least one byte, because otherwise the source would be polled for ever.
        let mut room = room.max(1);
        while let Some(event) = self.queue.front().filter(|_| room > 0) {
            let rest = &event[self.taken_bytes..];
            let piece = &rest[..rest.len().min(room)];
            out.extend_from_slice(piece);
            (room, self.queued_bytes) = (room - piece.len(), self.queued_bytes - piece.len());
            self.taken_bytes += piece.len();
            if self.taken_bytes == event.len() {
                self.queue.pop_front();
                self.taken_bytes = 0;
            }
        }
    }

    fn wake(&mut self) {
        if !std::mem::replace(&mut self.is_woken, true) {
            self.waker.wake();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        *lock(&self.heartbeat_stop.stopped) = true;
        self.heartbeat_stop.changed.notify_one();
    }
}

/// Sends a comment to listeners with nothing waiting at each interval, until the feed is dropped.
fn send_heartbeats(heartbeat_stop: &HeartbeatStop, shared: &Weak<Shared>, every: Duration) {
    let comment: Arc<[u8]> = Arc::from(HEARTBEAT);
    let mut stopped = lock(&heartbeat_stop.stopped);
    loop {
        let (guard, waited) =
            heartbeat_stop.changed.wait_timeout(stopped, every).unwrap_or_else(PoisonError::into_inner);
        stopped = guard;
        if *stopped {
            return;
        }
        if !waited.timed_out() {
            continue;
        }
        // Release the lock first: dropping the last handle on the feed takes it, too.
        drop(stopped);
        if let Some(shared) = shared.upgrade() {
            for (_, listener) in &mut lock(&shared.state).listeners {
                if listener.queue.is_empty() {
                    listener.push(&comment, &shared.options);
                }
            }
        }
        stopped = lock(&heartbeat_stop.stopped);
    }
}

/// Formats an event (WHATWG HTML section 9.2.5). Lines of `data` end in LF, CR or both, and each
/// becomes a `data` line. Control characters are removed from the name, and NUL in the data becomes
/// U+FFFD.
fn written(id: &str, name: Option<&str>, data: &str) -> Vec<u8> {
    let mut out = format!("id: {id}\n");
    if let Some(name) = name {
        out.push_str("event: ");
        out.extend(name.chars().filter(|char| !char.is_control()));
        out.push('\n');
    }
    let mut rest = Some(data);
    while let Some(text) = rest {
        let (line, behind) = match text.find(['\r', '\n']) {
            Some(at) if text[at..].starts_with("\r\n") => (&text[..at], Some(&text[at + 2..])),
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        out.push_str("data: ");
        for (at, part) in line.split('\0').enumerate() {
            out.push_str(if at == 0 { "" } else { "\u{fffd}" });
            out.push_str(part);
        }
        out.push('\n');
        rest = behind;
    }
    out.push('\n');
    out.into_bytes()
}

/// Listener of a [`Feed`], the content of its response.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    key: usize,
}

impl BodySource for Listener {
    fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> FillStatus {
        let mut state = lock(&self.shared.state);
        let closed = state.closed;
        let Some(listener) = state.listeners.get_mut(self.key) else { return FillStatus::Failed };
        listener.is_woken = false;
        if listener.is_lost {
            // Without a last chunk the page detects the abort, and reconnects with its last ID.
            return FillStatus::Failed;
        }
        listener.take(out, room);
        match (listener.queue.is_empty(), closed) {
            (false, _) => FillStatus::More,
            (true, false) => FillStatus::Later,
            (true, true) => FillStatus::End,
        }
    }

    fn is_endless(&self) -> bool {
        true
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.shared.state).listeners.try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn_id::ConnId;
    use crate::handler::continuation::Inbox;

    fn waker() -> Waker {
        Waker::new(ConnId::new(1, 0), Arc::new(Inbox::new(Box::new(|| Ok(())))))
    }

    fn take(listener: &mut Listener) -> (String, FillStatus) {
        let mut out = Vec::new();
        loop {
            match listener.fill(&mut out, 16) {
                FillStatus::More => {}
                filled => return (String::from_utf8(out).unwrap(), filled),
            }
        }
    }

    #[test]
    fn events_are_written_so_that_nothing_in_them_is_a_field() {
        let cases = [
            (None, "a", "id: 1\ndata: a\n\n"),
            (None, "", "id: 1\ndata: \n\n"),
            (
                Some("x\ny"),
                "a\nb\r\nc\rd\n",
                "id: 1\nevent: xy\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n",
            ),
            (Some("x\0y\u{7f}\u{85}z"), "a\0b\tc", "id: 1\nevent: xyz\ndata: a\u{fffd}b\tc\n\n"),
            (Some("\r\ndata: x"), "\r", "id: 1\nevent: data: x\ndata: \ndata: \n\n"),
        ];
        for (name, data, expected) in cases {
            assert_eq!(String::from_utf8(written("1", name, data)).unwrap(), expected);
        }
    }

    #[test]
    fn a_listener_hears_what_is_told_and_what_it_has_missed() {
        let feed = Feed::new();
        feed.send("before");
        let mut one = feed.subscribe(waker(), None);
        feed.send("first");
        let (text, filled) = take(&mut one);
        assert_eq!(filled, FillStatus::Later);
        assert!(
            text.starts_with(":\n\nid: ") && text.ends_with("data: first\n\n") && !text.contains("before")
        );
        let id = text.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
        drop(one);
        assert_eq!(feed.listeners(), 0);
        feed.send("second");
        feed.send_named("third", "3");
        let text = take(&mut feed.subscribe(waker(), Some(&id))).0;
        assert!(
            text.contains("second") && text.contains("event: third") && !text.contains("first"),
            "{text}"
        );
        let text = take(&mut feed.subscribe(waker(), Some("of another process-1"))).0;
        assert_eq!(text, ":\n\n");
        assert_eq!(take(&mut feed.subscribe(waker(), Some(&feed.last_id()))).0, ":\n\n");
        let mut last = feed.subscribe(waker(), None);
        feed.send("fourth");
        feed.close();
        feed.send("never");
        let (text, filled) = take(&mut last);
        assert!(text.contains("fourth") && !text.contains("never"));
        assert_eq!(filled, FillStatus::End);
    }

    #[test]
    fn who_takes_nothing_is_dropped_at_the_bound_and_takes_nobody_along() {
        let by_events = FeedOptions { events_max: 10, ..FeedOptions::default() };
        let by_bytes = FeedOptions { bytes_max: 300, ..FeedOptions::default() };
        for options in [by_events, by_bytes] {
            let feed = Feed::with_options(options);
            let (mut stuck, mut lively) = (feed.subscribe(waker(), None), feed.subscribe(waker(), None));
            for number in 0..100 {
                feed.send(&format!("{number}"));
                assert!(take(&mut lively).0.ends_with(&format!("data: {number}\n\n")));
            }
            assert_eq!((feed.listeners(), feed.dropped()), (1, 1));
            assert_eq!(take(&mut stuck), (String::new(), FillStatus::Failed));
        }
    }

    /// Regression: an event over the limit dropped all listeners, including those that had read
    /// everything before.
    #[test]
    fn a_long_event_reaches_who_has_nothing_waiting_and_goes_in_pieces() {
        let options = FeedOptions { bytes_max: 300, ..FeedOptions::default() };
        let feed = Feed::with_options(options);
        let (mut stuck, mut lively) = (feed.subscribe(waker(), None), feed.subscribe(waker(), None));
        take(&mut lively);
        let long = "x".repeat(10_000);
        feed.send(&long);
        assert_eq!((feed.listeners(), feed.dropped()), (1, 1));
        assert_eq!(take(&mut stuck), (String::new(), FillStatus::Failed));
        let mut out = Vec::new();
        assert_eq!(lively.fill(&mut out, 16), FillStatus::More);
        assert_eq!(out.len(), 16, "no more than there is room for");
        let (rest, filled) = take(&mut lively);
        assert_eq!(filled, FillStatus::Later);
        let text = String::from_utf8(out).unwrap() + &rest;
        assert!(text.starts_with("id: ") && text.ends_with(&format!("\ndata: {long}\n\n")));
        feed.send("short");
        assert!(take(&mut lively).0.ends_with("data: short\n\n"));
        feed.send(&long);
        feed.send("short");
        assert_eq!((feed.listeners(), feed.dropped()), (0, 2), "it has not taken the long one");
    }
}
