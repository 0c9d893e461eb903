//! `/_whirligig/metrics`: what the observers counted and what the drivers hold, in Prometheus' text
//! format (0.0.4).
//!
//! Counters are read where they stand: a loop goes on counting meanwhile and never waits for a
//! reader. What a loop holds is not kept anywhere; each loop is asked through its inbox and says so
//! in its next turn. The last to answer sends the asking connection its page, so no thread waits
//! either. This file must not know how a loop or a thread works, only that it can be asked.

mod text;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::Model;
use crate::features::metrics::text::{Page, seconds};
use crate::handler::continuation::Promise;
use crate::handler::continuation::{Inbox, Pool};
use crate::handler::{Answer, Context, Methods, Router};
use crate::http::{CloseReason, Method, Phase, Request, Response, Status};
use crate::log::LogQueue;
use crate::observe::{Activity, Counters, Gauges, STATUS_CLASSES, TURN_BOUNDS};
use crate::sync::lock;

/// What is told of a server, wherever it is kept.
pub struct Metrics {
    model: Model,
    /// When the server was set up, since 1970-01-01 UTC.
    started: Duration,
    /// Added to while the server comes up, only read afterwards. The lock is held for a copy of the
    /// pointer.
    sources: Mutex<Arc<Sources>>,
}

#[derive(Clone, Default)]
struct Sources {
    counters: Vec<Arc<Counters>>,
    /// Loops that can be asked what they hold.
    loops: Vec<Arc<Inbox>>,
    /// How to see at once what threads hold.
    threads: Option<Arc<dyn Fn() -> Gauges + Send + Sync>>,
    pool: Option<Arc<Pool>>,
    log: Option<LogQueue>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("model", &self.model).finish_non_exhaustive()
    }
}

/// Where the page is.
pub const PATH: &str = "/_whirligig/metrics";

/// Adds `/_whirligig/metrics` to a router.
#[must_use]
pub fn route(router: Router, metrics: &Arc<Metrics>) -> Router {
    let metrics = Arc::clone(metrics);
    let answer = move |_: &Request<'_>, cx: &mut Context<'_>| metrics.answer(cx);
    router.route(PATH, Methods(&["GET"]), answer)
}

impl Metrics {
    /// Of a server that was set up at `started` since 1970 and has nothing running yet.
    #[must_use]
    pub fn new(model: Model, started: Duration) -> Self {
        Metrics { model, started, sources: Mutex::default() }
    }

    /// Tells of one more loop, too.
    pub fn watch_loop(&self, counters: Arc<Counters>, inbox: Arc<Inbox>) {
        self.add(|sources| {
            sources.counters.push(counters);
            sources.loops.push(inbox);
        });
    }

    /// How many loops it tells of.
    #[must_use]
    pub fn loops(&self) -> usize {
        self.sources().loops.len()
    }

    /// Tells of the twin's threads: what they count, and a way to see what they hold that does not
    /// block.
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

    /// Tells of the workers, too.
    pub fn watch_pool(&self, pool: Arc<Pool>) {
        self.add(|sources| sources.pool = Some(pool));
    }

    /// Tells of the log, too.
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
            inbox.ask(Box::new(move |gauges| lock(&round.sum).add(gauges)));
        }
        cx.promised()
    }

    fn page(&self, gauges: &Gauges) -> Response {
        Response::new(Status::OK)
            .by_server()
            .with_field("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            .with_field("X-Content-Type-Options", "nosniff")
            .with_field("Cache-Control", "no-store")
            .with_body(crate::http::Body::Bytes(self.text(gauges).into_bytes()))
    }

    fn text(&self, gauges: &Gauges) -> String {
        let model = match self.model {
            Model::Reactor => "reactor",
            Model::Threads => "threads",
        };
        let mut page = Page::default();
        page.gauge("whirligig_build_info", "Which program this is; always 1.")
            .sample(&[("version", env!("CARGO_PKG_VERSION")), ("model", model)], 1);
        page.gauge("process_start_time_seconds", "When the server was set up, in seconds since 1970 UTC.")
            .value(seconds(self.started));
        let sources = self.sources();
        let counted = Counted(&sources.counters);
        requests_and_connections(&mut page, &counted, gauges);
        if sources.loops.is_empty() {
            // Threads have neither turns nor buffers that they share.
            page.gauge("whirligig_file_cache_bytes", "File content kept in memory.")
                .value(gauges.file_cache_bytes);
        } else {
            page.gauge("whirligig_loops", "Loops that share the work.").value(sources.loops.len());
            let mut accepted = page
                .counter("whirligig_loop_accepted_total", "Connections accepted, by the loop that has them.");
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

/// One scrape on its way round the loops. Whoever answers last, or ends without an answer, drops
/// it, and then the asking connection gets its page.
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

/// The counters of all loops or threads, added up as they are asked for.
struct Counted<'a>(&'a [Arc<Counters>]);

impl Counted<'_> {
    fn sum(&self, pick: impl Fn(&Counters) -> u64) -> u64 {
        self.0.iter().map(|counters| pick(counters)).sum()
    }
}

fn requests_and_connections(page: &mut Page, counted: &Counted<'_>, gauges: &Gauges) {
    let mut requests = page.counter(
        "whirligig_requests_total",
        "Answers by method and hundreds of the status; method none is what never became a request.",
    );
    for (row, method) in Method::LABELS.into_iter().chain(["none"]).enumerate() {
        for class in 0..STATUS_CLASSES {
            let code = format!("{}xx", class + 1);
            let answered = counted.sum(|counters| counters.answered[row][class].get());
            requests.sample(&[("method", method), ("code", &code)], answered);
        }
    }
    let mut connections = page.gauge("whirligig_connections", "Open connections by what they are doing.");
    for (phase, open) in Phase::ALL.into_iter().zip(gauges.phases) {
        connections.sample(&[("phase", phase.name())], open);
    }
    page.counter("whirligig_connections_accepted_total", "Connections accepted.")
        .value(counted.sum(|counters| counters.accepted.get()));
    let mut closed = page.counter("whirligig_connections_closed_total", "Connections closed, by the reason.");
    for reason in CloseReason::ALL {
        closed.sample(&[("reason", reason.name())], counted.sum(|counters| counters.closed_for(reason)));
    }
    let mut late = page.counter(
        "whirligig_answer_timeouts_total",
        "Answers that took too long, by whether a worker was still busy with them.",
    );
    for (place, worker) in ["free", "busy"].into_iter().enumerate() {
        late.sample(&[("worker", worker)], counted.sum(|counters| counters.answers_timed_out[place].get()));
    }
    page.counter("whirligig_received_bytes_total", "Bytes read from clients.")
        .value(counted.sum(|counters| counters.bytes_read.get()));
    page.counter("whirligig_sent_bytes_total", "Bytes that sockets took for clients.")
        .value(counted.sum(|counters| counters.bytes_written.get()));
    page.counter("whirligig_reads_total", "Reads that brought something.")
        .value(counted.sum(|counters| counters.reads.get()));
    page.counter("whirligig_writes_total", "Writes and sendfiles that gave the socket something.")
        .value(counted.sum(|counters| counters.writes.get()));
    page.counter("whirligig_handler_panics_total", "Panics in handlers, jobs and body sources.")
        .value(counted.sum(|counters| counters.panicked.get()));
}

fn turns(page: &mut Page, counted: &Counted<'_>) {
    page.counter("whirligig_turns_total", "Turns of the loops.")
        .value(counted.sum(|counters| counters.turns.get()));
    page.counter("whirligig_events_total", "Events from the kernel.")
        .value(counted.sum(|counters| counters.events.get()));
    page.counter("whirligig_carried_total", "Times a connection was out of budget until the next turn.")
        .value(counted.sum(|counters| counters.carried.get()));
    page.counter("whirligig_stale_total", "Events, deadlines and results for connections that were gone.")
        .value(counted.sum(|counters| counters.stale.get()));
    let taking: Vec<u64> = (0..=TURN_BOUNDS.len())
        .map(|place| counted.sum(|counters| counters.turns_taking[place].get()))
        .collect();
    let sum = Duration::from_nanos(counted.sum(|counters| counters.turn_nanoseconds.get()));
    page.histogram("whirligig_turn_seconds", "What a turn took after its wait.", &taking, sum);
    let spent = |activity: Activity| {
        Duration::from_nanos(counted.sum(|counters| counters.activity_nanoseconds[activity as usize].get()))
    };
    // Reading the clock at each change costs more than all other counting, so it is done with -vv
    // only.
    if Activity::ALL.into_iter().any(|activity| !spent(activity).is_zero()) {
        let mut seconds_by = page
            .counter("whirligig_activity_seconds_total", "What the time of the loops went into, with -vv.");
        for activity in Activity::ALL {
            seconds_by.sample(&[("activity", activity.name())], seconds(spent(activity)));
        }
    }
}

fn memory(page: &mut Page, gauges: &Gauges) {
    page.gauge("whirligig_pool_loans", "Buffers lent to incomplete requests.").value(gauges.pool_loans);
    page.gauge("whirligig_pool_lent_bytes", "Their size.").value(gauges.pool_lent_bytes);
    page.gauge("whirligig_pool_limit_bytes", "What may be lent.").value(gauges.pool_bytes_max);
    page.gauge("whirligig_collected_bytes", "Request content collected in memory.")
        .value(gauges.collected_bytes);
    page.gauge("whirligig_file_cache_bytes", "File content kept in memory.").value(gauges.file_cache_bytes);
}

fn jobs(page: &mut Page, pool: &Pool) {
    page.gauge("whirligig_jobs_waiting", "Jobs that wait for a worker thread.").value(pool.jobs_waiting());
    page.gauge("whirligig_jobs_waiting_limit", "Jobs that may wait; beyond it requests get 503.")
        .value(pool.jobs_max());
    page.gauge("whirligig_errands_waiting", "Parts of answers under way that wait for a worker thread.")
        .value(pool.errands_waiting());
    page.gauge("whirligig_job_threads", "Worker threads.").value(pool.threads());
    page.counter("whirligig_jobs_done_total", "Jobs and errands done.").value(pool.jobs_done());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn_id::ConnId;
    use crate::handler::continuation::Done;
    use crate::observe::{LoopTally, Observer as _, TwinTally};

    #[test]
    fn a_histogram_adds_up_to_its_count() {
        let mut tally = LoopTally::default();
        for ms in [0, 1, 2, 2000] {
            tally.turned(Duration::from_millis(ms));
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
            inbox.ask(Box::new(move |gauges| lock(&round.sum).add(gauges)));
        }
        let seen = Arc::downgrade(&round);
        drop(round);
        for (inbox, idle) in [(first, 3), (second, 4)] {
            let mut questions = Vec::new();
            inbox.take(&mut questions);
            let Some((_, Done::Asked(question))) = questions.pop() else { panic!("a question") };
            question(&Gauges { phases: [idle, 0, 0, 0, 0, 0, 0, 1], ..Gauges::default() });
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
            TwinTally::of(Arc::clone(counters)).read(read);
        }
        metrics.watch_threads(counters, Gauges::default);
        let text = metrics.text(&Gauges { phases: [0, 1, 2, 3, 4, 5, 6, 7], ..Gauges::default() });
        for line in [
            "whirligig_received_bytes_total 3",
            "whirligig_reads_total 3",
            "process_start_time_seconds 1700000000.250000000",
            "whirligig_connections{phase=\"sending\"} 4",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} in {text}");
        }
        assert!(!text.contains("turn"), "threads have no turns");
    }
}
