//! `/_whirligig/metrics`: counters of the observers and gauges of the drivers, in Prometheus' text
//! format (0.0.4).
//!
//! Counters are read in place, so a loop keeps counting and never waits for a reader. Gauges are
//! not stored: each loop receives a request through its inbox and reports its gauges in its next
//! turn. The last loop to report sends the response, so no thread waits either.
//!
//! Must not know how a loop or a thread works.

mod text;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::Model;
use crate::features::metrics::text::{Page, seconds};
use crate::handler::continuation::{Inbox, Pool, Promise};
use crate::handler::{Answer, Context, Methods, Router};
use crate::http::{CloseReason, Method, Phase, Request, Response, Status};
use crate::log::LogQueue;
use crate::observe::{Activity, Counters, Gauges, STATUS_CLASSES, TURN_BOUNDS};
use crate::sync::lock;

/// Sources of the metrics of one server.
pub struct Metrics {
    model: Model,
    /// Start time of the server, since 1970-01-01 UTC.
    started: Duration,
    /// Extended during startup, only read afterwards. The lock is held only to copy the pointer.
    sources: Mutex<Arc<Sources>>,
}

#[derive(Clone, Default)]
struct Sources {
    counters: Vec<Arc<Counters>>,
    /// Inboxes of the loops that report gauges.
    loops: Vec<Arc<Inbox>>,
    /// Function that returns the gauges of the threads model without blocking.
    threads: Option<Arc<dyn Fn() -> Gauges + Send + Sync>>,
    pool: Option<Arc<Pool>>,
    log: Option<LogQueue>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("model", &self.model).finish_non_exhaustive()
    }
}

/// Path of the page.
pub const PATH: &str = "/_whirligig/metrics";

/// Adds `/_whirligig/metrics` to a router.
#[must_use]
pub fn route(router: Router, metrics: &Arc<Metrics>) -> Router {
    let metrics = Arc::clone(metrics);
    let answer = move |_: &Request<'_>, cx: &mut Context<'_>| metrics.answer(cx);
    router.route(PATH, Methods(&["GET"]), answer)
}

impl Metrics {
    /// Metrics of a server that was started at `started` (since 1970) and runs no loops or threads
    /// yet.
    #[must_use]
    pub fn new(model: Model, started: Duration) -> Self {
        Metrics { model, started, sources: Mutex::default() }
    }

    /// Adds a loop.
    pub fn watch_loop(&self, counters: Arc<Counters>, inbox: Arc<Inbox>) {
        self.add(|sources| {
            sources.counters.push(counters);
            sources.loops.push(inbox);
        });
    }

    /// Number of loops.
    #[must_use]
    pub fn loops(&self) -> usize {
        self.sources().loops.len()
    }

    /// Adds the threads of the threads model: their counters, and a function that returns their
    /// gauges without blocking.
    pub fn watch_threads(
        &self,
        counters: impl IntoIterator<Item = Arc<Counters>>,
        look: impl Fn() -> Gauges + Send + Sync + 'static,
    ) {
        self.add(|sources| {
            sources.counters.extend(counters);
            sources.threads = Some(Arc::new(look));
        });
    }

    /// Adds the worker threads.
    pub fn watch_pool(&self, pool: Arc<Pool>) {
        self.add(|sources| sources.pool = Some(pool));
    }

    /// Adds the log.
    pub fn watch_log(&self, log: LogQueue) {
        self.add(|sources| sources.log = Some(log));
    }

    fn add(&self, change: impl FnOnce(&mut Sources)) {
        change(Arc::make_mut(&mut lock(&self.sources)));
    }

    fn sources(&self) -> Arc<Sources> {
        Arc::clone(&lock(&self.sources))
    }

    fn answer(self: &Arc<Self>, cx: &Context<'_>) -> Answer {
        let sources = self.sources();
        if sources.loops.is_empty() {
            let gauges = sources.threads.as_ref().map(|look| look()).unwrap_or_default();
            return self.page(&gauges).into();
        }
        let round = Round { metrics: Arc::clone(self), sum: Mutex::default(), asker: cx.promise() };
        let round = Arc::new(round);
        for inbox in &sources.loops {
            let round = Arc::clone(&round);
            inbox.inspect(Box::new(move |gauges| lock(&round.sum).add(gauges)));
        }
        cx.answer_later()
    }

    fn page(&self, gauges: &Gauges) -> Response {
        Response::new(Status::OK)
            .by_server()
            .with_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            .with_header("X-Content-Type-Options", "nosniff")
            .with_header("Cache-Control", "no-store")
            .with_body(crate::http::Body::Bytes(self.text(gauges).into_bytes()))
    }

    fn text(&self, gauges: &Gauges) -> String {
        let model = match self.model {
            Model::Reactor => "reactor",
            Model::Threads => "threads",
        };
        let mut page = Page::default();
        page.gauge("whirligig_build_info", "Version and model of this server; always 1.")
            .sample(&[("version", env!("CARGO_PKG_VERSION")), ("model", model)], 1);
        page.gauge("process_start_time_seconds", "Start time of the server, in seconds since 1970 UTC.")
            .value(seconds(self.started));
        let sources = self.sources();
        let counted = Counted(&sources.counters);
        requests_and_connections(&mut page, &counted, gauges);
        if sources.loops.is_empty() {
            // Threads do not have turns or shared buffers.
            page.gauge("whirligig_file_cache_bytes", "File content kept in memory.")
                .value(gauges.file_cache_bytes);
        } else {
            page.gauge("whirligig_loops", "Event loops.").value(sources.loops.len());
            let mut accepted =
                page.counter("whirligig_loop_accepted_total", "Connections accepted, by loop.");
            for (number, counters) in sources.counters.iter().enumerate() {
                accepted.sample(&[("loop", &number.to_string())], counters.accepted.get());
            }
            turns(&mut page, &counted);
            memory(&mut page, gauges);
        }
        if let Some(pool) = &sources.pool {
            jobs(&mut page, pool);
        }
        if let Some(log) = &sources.log {
            page.counter("whirligig_log_dropped_total", "Log lines lost because they could not be written.")
                .value(log.dropped());
        }
        page.text
    }
}

/// A scrape that waits for the loops. It is dropped after the last loop has reported or ended, and
/// then the response is sent.
struct Round {
    metrics: Arc<Metrics>,
    sum: Mutex<Gauges>,
    asker: Promise,
}

impl Drop for Round {
    fn drop(&mut self) {
        let metrics = Arc::clone(&self.metrics);
        let gauges = std::mem::take(self.sum.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.asker.keep(Box::new(move |_| metrics.page(&gauges).into()));
    }
}

/// Counters of all loops or threads, added up when read.
struct Counted<'a>(&'a [Arc<Counters>]);

impl Counted<'_> {
    fn sum(&self, pick: impl Fn(&Counters) -> u64) -> u64 {
        self.0.iter().map(|counters| pick(counters)).sum()
    }
}

fn requests_and_connections(page: &mut Page, counted: &Counted<'_>, gauges: &Gauges) {
    let mut requests = page.counter(
        "whirligig_requests_total",
        "Responses by method and status class; method none means that the request was not parsed.",
    );
    for (row, method) in Method::LABELS.into_iter().chain(["none"]).enumerate() {
        for class in 0..STATUS_CLASSES {
            let code = format!("{}xx", class + 1);
            let answered = counted.sum(|counters| counters.answered[row][class].get());
            requests.sample(&[("method", method), ("code", &code)], answered);
        }
    }
    let mut connections = page.gauge("whirligig_connections", "Open connections, by phase.");
    for (phase, open) in Phase::ALL.into_iter().zip(gauges.phases) {
        connections.sample(&[("phase", phase.name())], open);
    }
    page.counter("whirligig_connections_accepted_total", "Connections accepted.")
        .value(counted.sum(|counters| counters.accepted.get()));
    let mut closed = page.counter("whirligig_connections_closed_total", "Connections closed, by reason.");
    for reason in CloseReason::ALL {
        closed.sample(&[("reason", reason.name())], counted.sum(|counters| counters.closed_for(reason)));
    }
    let mut late = page.counter(
        "whirligig_answer_timeouts_total",
        "Responses that took too long, by whether a worker thread was still busy.",
    );
    for (place, worker) in ["free", "busy"].into_iter().enumerate() {
        late.sample(&[("worker", worker)], counted.sum(|counters| counters.answers_timed_out[place].get()));
    }
    page.counter("whirligig_received_bytes_total", "Bytes read from clients.")
        .value(counted.sum(|counters| counters.bytes_read.get()));
    page.counter("whirligig_sent_bytes_total", "Bytes written to clients.")
        .value(counted.sum(|counters| counters.bytes_written.get()));
    page.counter("whirligig_reads_total", "Reads that received data.")
        .value(counted.sum(|counters| counters.reads.get()));
    page.counter("whirligig_writes_total", "Writes and sendfile calls that wrote data.")
        .value(counted.sum(|counters| counters.writes.get()));
    page.counter("whirligig_handler_panics_total", "Panics in handlers, jobs and body sources.")
        .value(counted.sum(|counters| counters.panicked.get()));
}

fn turns(page: &mut Page, counted: &Counted<'_>) {
    page.counter("whirligig_turns_total", "Turns of the loops.")
        .value(counted.sum(|counters| counters.turns.get()));
    page.counter("whirligig_events_total", "Events from the kernel.")
        .value(counted.sum(|counters| counters.events.get()));
    page.counter(
        "whirligig_carried_total",
        "Connections carried to the next turn because their budget was spent.",
    )
    .value(counted.sum(|counters| counters.carried.get()));
    page.counter("whirligig_stale_total", "Events, deadlines and results for closed connections.")
        .value(counted.sum(|counters| counters.stale.get()));
    let taking: Vec<u64> = (0..=TURN_BOUNDS.len())
        .map(|place| counted.sum(|counters| counters.turns_taking[place].get()))
        .collect();
    let sum = Duration::from_nanos(counted.sum(|counters| counters.turn_nanoseconds.get()));
    page.histogram("whirligig_turn_seconds", "Duration of a turn without its wait.", &taking, sum);
    let spent = |activity: Activity| {
        Duration::from_nanos(counted.sum(|counters| counters.activity_nanoseconds[activity as usize].get()))
    };
    // Reading the clock at each change of activity costs more than all other counting, so this
    // needs -vv.
    if Activity::ALL.into_iter().any(|activity| !spent(activity).is_zero()) {
        let mut seconds_by =
            page.counter("whirligig_activity_seconds_total", "Time of the loops, by activity; needs -vv.");
        for activity in Activity::ALL {
            seconds_by.sample(&[("activity", activity.name())], seconds(spent(activity)));
        }
    }
}

fn memory(page: &mut Page, gauges: &Gauges) {
    page.gauge("whirligig_pool_loans", "Buffers lent to incomplete requests.").value(gauges.pool_loans);
    page.gauge("whirligig_pool_lent_bytes", "Size of the buffers lent to incomplete requests.")
        .value(gauges.pool_lent_bytes);
    page.gauge("whirligig_pool_limit_bytes", "Limit for the size of lent buffers.")
        .value(gauges.pool_bytes_max);
    page.gauge("whirligig_collected_bytes", "Request content collected in memory.")
        .value(gauges.collected_bytes);
    page.gauge("whirligig_file_cache_bytes", "File content kept in memory.").value(gauges.file_cache_bytes);
}

fn jobs(page: &mut Page, pool: &Pool) {
    page.gauge("whirligig_jobs_waiting", "Jobs that wait for a worker thread.").value(pool.jobs_waiting());
    page.gauge("whirligig_jobs_waiting_limit", "Maximum number of waiting jobs; further requests get 503.")
        .value(pool.jobs_max());
    page.gauge("whirligig_tasks_waiting", "Parts of pending responses that wait for a worker thread.")
        .value(pool.tasks_waiting());
    page.gauge("whirligig_job_threads", "Worker threads.").value(pool.threads());
    page.counter("whirligig_jobs_done_total", "Jobs and tasks done.").value(pool.jobs_done());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn_id::ConnId;
    use crate::handler::continuation::Done;
    use crate::observe::step::{Step, Transfer};
    use crate::observe::{LoopTally, Observer as _, TwinTally};

    #[test]
    fn a_histogram_adds_up_to_its_count() {
        let mut tally = LoopTally::default();
        for ms in [0, 1, 2, 2000] {
            tally.turn_finished(1, Duration::from_millis(ms), 0);
        }
        let metrics = Metrics::new(Model::Reactor, Duration::ZERO);
        let inbox = Arc::new(Inbox::new(Box::new(|| Ok(()))));
        metrics.watch_loop(Arc::clone(tally.counters().unwrap()), inbox);
        let text = metrics.text(&Gauges::default());
        let bucket =
            |le: &str, count: u64| format!("\nwhirligig_turn_seconds_bucket{{le=\"{le}\"}} {count}\n");
        for (le, count) in [("0.00001", 1), ("0.0005", 1), ("0.001", 2), ("0.0025", 3), ("1", 3), ("+Inf", 4)]
        {
            assert!(text.contains(&bucket(le, count)), "{le} {count} in {text}");
        }
        assert!(text.contains("\nwhirligig_turn_seconds_sum 2.003000000\nwhirligig_turn_seconds_count 4\n"));
    }

    #[test]
    fn the_last_loop_to_answer_or_to_end_brings_the_page() {
        let asker = Arc::new(Inbox::new(Box::new(|| Ok(()))));
        let metrics = Arc::new(Metrics::new(Model::Reactor, Duration::ZERO));
        let id = ConnId::new(1, 0);
        let waker = Promise::new(id, Arc::clone(&asker));
        let round = Arc::new(Round { metrics, sum: Mutex::default(), asker: waker });
        let [first, second, dead] = [(); 3].map(|()| Inbox::new(Box::new(|| Ok(()))));
        for inbox in [&first, &second, &dead] {
            let round = Arc::clone(&round);
            inbox.inspect(Box::new(move |gauges| lock(&round.sum).add(gauges)));
        }
        let seen = Arc::downgrade(&round);
        drop(round);
        for (inbox, idle) in [(first, 3), (second, 4)] {
            let mut results = Vec::new();
            inbox.take(&mut results);
            let Some((_, Done::Inspect(inspect))) = results.pop() else { panic!("a closure to call") };
            inspect(&Gauges { phases: [idle, 0, 0, 0, 0, 0, 0, 1], ..Gauges::default() });
            assert!(seen.upgrade().is_some(), "one is left");
        }
        assert_eq!(seen.upgrade().map(|round| lock(&round.sum).phases), Some([7, 0, 0, 0, 0, 0, 0, 2]));
        drop(dead);
        let mut got = Vec::new();
        asker.take(&mut got);
        assert!(matches!(got[..], [(to, Done::Finished(_))] if to == id), "{got:?}");
    }

    #[test]
    fn several_sources_are_one_sum() {
        let metrics = Metrics::new(Model::Threads, Duration::from_millis(1_700_000_000_250));
        let counters = [(); 3].map(|()| Arc::new(Counters::default()));
        for (read, counters) in counters.iter().enumerate() {
            let got = Ok(read + 1);
            let read = Transfer::read(ConnId::new(1, 0), 9, &got);
            TwinTally::of(Arc::clone(counters)).step(|| Step::Read(read));
        }
        metrics.watch_threads(counters, Gauges::default);
        let text = metrics.text(&Gauges { phases: [0, 1, 2, 3, 4, 5, 6, 7], ..Gauges::default() });
        for line in [
            "whirligig_received_bytes_total 6",
            "whirligig_reads_total 3",
            "process_start_time_seconds 1700000000.250000000",
            "whirligig_connections{phase=\"sending\"} 4",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} in {text}");
        }
        assert!(!text.contains("turn"), "threads have no turns");
    }
}
