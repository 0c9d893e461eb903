//! Benchmark of response serialization: `cargo bench --bench respond`.
//!
//! Measures heads built from fields, prepared heads that responses share, and the Date header. Uses
//! no sockets.

use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion};
use whirligig::config::Limits;
use whirligig::inside::http::Connection;
use whirligig::inside::http::connection::RespondContext;
use whirligig::inside::http::date::{DateCache, fmt_http_date};
use whirligig::inside::http::head::FieldSlots;
use whirligig::inside::http::headers::Headers;
use whirligig::inside::http::prepared::Prepared;
use whirligig::inside::http::send_queue::{NextWrite, SendQueue, WRITE_SLICES};
use whirligig::{Body, Response, Status};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const SECOND: u64 = 1_795_259_909;

#[expect(clippy::disallowed_methods, reason = "the time of all responses in the bench")]
fn now() -> Instant {
    Instant::now()
}

/// Runs one request and its response on a persistent connection: everything that the pump does,
/// except for its two system calls.
fn cycle(
    connection: &mut Connection,
    out: &mut SendQueue,
    response: Response,
    cx: RespondContext<'_>,
) -> u64 {
    let mut slots = FieldSlots::new();
    drop(black_box(connection.next_event(REQUEST, &mut slots, cx.limits, cx.now)));
    connection.respond(response, cx, out);
    let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
    if let NextWrite::Bytes { slices, .. } = out.next_write(&mut slices) {
        black_box(slices);
    }
    let sent = out.len();
    out.sent(sent);
    connection.note_sent(sent, out, cx.now);
    connection.start_next_cycle(cx.now);
    sent
}

fn responses(criterion: &mut Criterion) {
    let (limits, now, date) = (Limits::default(), now(), fmt_http_date(SECOND));
    let cx = RespondContext { now, date: &date, limits: &limits };
    let mut group = criterion.benchmark_group("response");
    for fields in [0_usize, 2, 8] {
        group.bench_with_input(BenchmarkId::new("fields", fields), &fields, |bencher, fields| {
            let (mut connection, mut out) = (Connection::new(now), SendQueue::new());
            bencher.iter(|| {
                let mut response = Response::new(Status::OK).with_body(Body::Static(b"Hello, World!"));
                for _ in 0..*fields {
                    response = response.with_added_header("X-Field", "a value of ordinary length");
                }
                cycle(&mut connection, &mut out, response, cx)
            });
        });
    }
    // The response for a cached file: only Date, Connection and the empty line are serialized.
    group.bench_function("prepared", |bencher| {
        let (mut connection, mut out) = (Connection::new(now), SendQueue::new());
        let mut headers = Headers::new();
        headers.set("Content-Type", b"text/plain");
        let prepared = Arc::new(Prepared::new(&headers, b"Hello, World!"));
        bencher.iter(|| cycle(&mut connection, &mut out, Response::prepared(Arc::clone(&prepared)), cx));
    });
    group.finish();
}

fn dates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("date");
    group.bench_function("made", |bencher| bencher.iter(|| fmt_http_date(black_box(SECOND))));
    group.bench_function("kept for its second", |bencher| {
        let mut cache = DateCache::new();
        bencher.iter(|| cache.at(black_box(SECOND))[28]);
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    responses(&mut criterion);
    dates(&mut criterion);
    criterion.final_summary();
}
