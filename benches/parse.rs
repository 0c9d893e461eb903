//! Benchmark of request parsing: `cargo bench --bench parse`.
//!
//! Measures heads of three sizes, whole and byte by byte, and header values that need parsing. Uses
//! no sockets. `versus` measures the cost of a whole request.

use std::hint::black_box;
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput};
use whirligig::config::Limits;
use whirligig::inside::http::date::parse_http_date;
use whirligig::inside::http::head::FieldSlots;
use whirligig::inside::http::range::select;
use whirligig::inside::http::{Connection, Event};

/// The shortest valid head, the head of a command line tool, and the head of a browser.
const HEADS: [(&str, &str); 3] = [
    ("least", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "tool",
        "GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: tool/1.0\r\nAccept: */*\r\n\r\n",
    ),
    (
        "browser",
        "GET /articles/2026/turning.html?from=home&page=2 HTTP/1.1\r\nHost: www.example.org\r\n\
         Connection: keep-alive\r\nsec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n\
         sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) \
         AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\nAccept: text/html,\
         application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nSec-Fetch-Site: same-origin\r\n\
         Sec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\nReferer: \
         https://www.example.org/articles/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\
         \r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n",
    ),
];

#[expect(clippy::disallowed_methods, reason = "the start time of all connections in the bench")]
fn now() -> Instant {
    Instant::now()
}

fn heads(criterion: &mut Criterion) {
    let (limits, now) = (Limits::default(), now());
    let mut group = criterion.benchmark_group("head");
    for (name, head) in HEADS {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || Connection::new(now),
                |connection| {
                    let mut slots = FieldSlots::new();
                    let (used, event) =
                        connection.next_event(black_box(head.as_bytes()), &mut slots, &limits, now)?;
                    let Event::Request(request) = event else { return Ok(used) };
                    Ok::<usize, whirligig::inside::http::ProtocolError>(
                        used + black_box(request.path()).len(),
                    )
                },
                BatchSize::SmallInput,
            );
        });
    }
    // Parsing a head that arrives byte by byte must scan each byte once, not the whole head again
    // for each byte.
    let (_, head) = HEADS[2];
    group.bench_function("browser, byte by byte", |bencher| {
        bencher.iter_batched_ref(
            || Connection::new(now),
            |connection| {
                for end in 1..=head.len() {
                    let mut slots = FieldSlots::new();
                    let input = black_box(&head.as_bytes()[..end]);
                    drop(black_box(connection.next_event(input, &mut slots, &limits, now)));
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn values(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("value");
    for (name, value) in [("one range", "bytes=0-1023"), ("five ranges", "bytes=0-9,20-29,40-49,60-69,-10")] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| select(black_box(value.as_bytes()), black_box(1 << 20)));
        });
    }
    for (name, value) in
        [("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("obsolete date", "Sunday, 06-Nov-94 08:49:37 GMT")]
    {
        group.bench_function(name, |bencher| {
            bencher.iter(|| parse_http_date(black_box(value.as_bytes())));
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    heads(&mut criterion);
    values(&mut criterion);
    criterion.final_summary();
}
