//! Tests of coalesced requests: the request that starts the work, those that join it, and cancelled
//! ones.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::*;
use crate::config::{Config, Model};
use crate::conn_id::{ConnId, Peer};
use crate::driver::{Caller, Driver};
use crate::handler::continuation::{Done, Inbox, Pool};
use crate::handler::pending::Pending;
use crate::handler::watch::Change;
use crate::http::{Request, Response, Status};
use crate::jobs::pool::InlineQueue;
use crate::observe::LoopTally;
use crate::server::Server;

/// A driver and its inbox, for requests without a server.
struct Bench {
    driver: Driver<LoopTally>,
    inbox: Arc<Inbox>,
    /// The watched object of each connection, by slot.
    watched: HashMap<u32, Arc<dyn Watched>>,
}

impl Bench {
    fn new() -> Self {
        let inbox = Arc::new(Inbox::new(Box::new(|| Ok(()))));
        let jobs = InlineQueue::new(Arc::clone(&inbox), Arc::new(Pool::new(1, 1)));
        let handler = |_: &Request<'_>, _: &mut Context<'_>| Answer::from("");
        let config = Arc::new(Config::default());
        let now = crate::clock::read_clocks();
        let jobs = Box::new(jobs);
        let tally = LoopTally::default();
        let driver = Driver::new(
            config,
            Arc::new(handler),
            Box::new(crate::handler::cache::NoCache),
            jobs,
            None,
            tally,
            now,
        );
        Bench { driver, inbox, watched: HashMap::new() }
    }

    fn call(
        &mut self,
        id: ConnId,
        pending: &mut Pending,
        body: impl FnOnce(&mut Context<'_>) -> Answer,
    ) -> Answer {
        let caller = Caller { id, peer: &Peer::Unix, pending, sent_before: None };
        self.driver.call(caller, |_, cx| body(cx)).unwrap()
    }

    /// Starts a request on this connection. Returns its status, or `None` if it waits.
    fn ask(
        &mut self,
        conn: u32,
        results: &Arc<Coalesced<u8, Status>>,
        key: u8,
        begin: impl FnOnce(Work<u8, Status>),
    ) -> Option<u16> {
        let mut pending = Pending::default();
        let answer = self.call(ConnId::new(conn, 0), &mut pending, |cx| {
            results.answer(&key, cx, |work, _| begin(work), |result, _| shown(result))
        });
        if let Change::To(watched) = pending.watch {
            self.watched.insert(conn, watched);
        }
        status(answer)
    }

    /// Returns the connections that have received answers, with the statuses.
    fn answers(&mut self) -> Vec<(u32, u16)> {
        let mut news = Vec::new();
        self.inbox.take(&mut news);
        news.into_iter()
            .map(|(id, done)| {
                let Done::Finished(then) = done else { panic!("{done:?}") };
                let answer = self.call(id, &mut Pending::default(), then);
                (id.generation(), status(answer).unwrap())
            })
            .collect()
    }
}

fn shown(result: Result<Status, NoResult>) -> Answer {
    Response::new(match result {
        Ok(status) => status,
        Err(NoResult::Lost) => Status::INTERNAL_SERVER_ERROR,
        Err(NoResult::TooMany) => Status::SERVICE_UNAVAILABLE,
    })
    .into()
}

fn status(answer: Answer) -> Option<u16> {
    match answer {
        Answer::Now(response) => Some(response.status().code()),
        Answer::Later(_) => None,
        other => panic!("{other:?}"),
    }
}

fn finish_with(status: Status) -> impl FnOnce(Work<u8, Status>) {
    move |work| assert_eq!(work.finish(&status), 1)
}

fn never(_: Work<u8, Status>) {
    panic!("it is under way already");
}

#[test]
fn equal_requests_wait_for_one_result_and_later_ones_begin_anew() {
    let (mut bench, results) = (Bench::new(), Coalesced::new(8));
    let mut works = Vec::new();
    assert_eq!(bench.ask(1, &results, b'a', |work| works.push(work)), None);
    assert_eq!(bench.ask(2, &results, b'a', never), None);
    assert_eq!(bench.ask(3, &results, b'b', |work| works.push(work)), None);
    assert!(bench.answers().is_empty());
    works.remove(0).finish(&Status::OK);
    assert_eq!(bench.answers(), [(1, 200), (2, 200)]);
    assert_eq!(bench.ask(4, &results, b'a', |work| works.push(work)), None, "it has ended");
    works.pop().unwrap().finish(&Status::CREATED);
    works.pop().unwrap().finish(&Status::ACCEPTED);
    assert_eq!(bench.answers(), [(4, 201), (3, 202)]);
    // A finished object is not watched any longer.
    for watched in bench.watched.into_values() {
        assert!(watched.advance(Ready::default(), bench.driver.now.mono).is_over);
    }
}

/// Regression: a listing missed a file that was written after its reading had begun and before the
/// request.
#[test]
fn closed_work_serves_the_requests_that_wait_and_no_later_ones() {
    let (mut bench, results) = (Bench::new(), Coalesced::new(8));
    let mut works = Vec::new();
    bench.ask(1, &results, b'a', |work| works.push(work));
    bench.ask(2, &results, b'a', never);
    works[0].close();
    assert_eq!(bench.ask(3, &results, b'a', |work| works.push(work)), None);
    bench.ask(4, &results, b'a', never);
    works.remove(0).finish(&Status::OK);
    assert_eq!(bench.answers(), [(1, 200), (2, 200)]);
    assert_eq!(bench.ask(5, &results, b'a', never), None, "the later work is still under way");
    works.remove(0).finish(&Status::CREATED);
    assert_eq!(bench.answers(), [(3, 201), (4, 201), (5, 201)]);
    assert!(lock(&results.groups).is_empty());
}

#[test]
fn a_result_that_comes_at_once_is_answered_at_once() {
    let (mut bench, results) = (Bench::new(), Coalesced::new(8));
    assert_eq!(bench.ask(1, &results, b'a', finish_with(Status::NO_CONTENT)), Some(204));
    assert_eq!(bench.ask(1, &results, b'a', drop), Some(500));
    assert!(bench.answers().is_empty() && bench.watched.is_empty());
    assert!(lock(&results.groups).is_empty());
}

/// Without this, a panic on the worker would leave these requests waiting, and all later ones.
#[test]
fn work_that_is_dropped_leaves_nobody_waiting() {
    let (mut bench, results) = (Bench::new(), Coalesced::new(8));
    let mut works = Vec::new();
    bench.ask(1, &results, b'a', |work| works.push(work));
    bench.ask(2, &results, b'a', never);
    works.clear();
    assert_eq!(bench.answers(), [(1, 500), (2, 500)]);
    assert_eq!(bench.ask(3, &results, b'a', finish_with(Status::OK)), Some(200));
}

/// Regression: a thread of the threads model waited for its socket, because it had nothing to watch
/// any more.
#[test]
fn a_result_that_comes_before_the_driver_looks_is_sent() {
    for model in [Model::Reactor, Model::Threads] {
        let results = Coalesced::new(8);
        let handler = move |_: &Request<'_>, cx: &mut Context<'_>| {
            let mut works = Vec::new();
            let answer = results.answer(&b'a', cx, |work, _| works.push(work), |result, _| shown(result));
            works.pop().unwrap().finish(&Status::NO_CONTENT);
            answer
        };
        let server = Server::builder().mount("/", handler).model(model).bind("127.0.0.1:0").unwrap();
        let (handle, address) = (server.handle(), server.local_addr().unwrap());
        let running = std::thread::spawn(move || server.run());
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut begin = [0; 12];
        client.read_exact(&mut begin).unwrap_or_else(|error| panic!("{model:?}: {error}"));
        assert_eq!(&begin, b"HTTP/1.1 204", "{model:?}");
        handle.shutdown();
        running.join().unwrap().unwrap();
    }
}

#[test]
fn requests_that_are_gone_are_not_answered_and_make_room() {
    let (mut bench, results) = (Bench::new(), Coalesced::new(2));
    let mut works = Vec::new();
    bench.ask(1, &results, b'a', |work| works.push(work));
    bench.ask(2, &results, b'a', never);
    assert_eq!(bench.ask(3, &results, b'a', never), Some(503), "two may wait");
    bench.watched[&1].abandon();
    assert!(works[0].is_wanted());
    bench.watched[&2].abandon();
    assert!(!works[0].is_wanted());
    assert_eq!(bench.ask(4, &results, b'a', never), None, "it joins work without waiting requests");
    assert!(works[0].is_wanted());
    works.pop().unwrap().finish(&Status::OK);
    assert_eq!(bench.answers(), [(4, 200)]);
    assert!(!bench.watched[&4].brings_answer(), "the answer timeout holds meanwhile");
}
