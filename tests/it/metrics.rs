//! `/_whirligig/metrics`: its content, read with a foreign parser of the format, and access to it.

use std::collections::BTreeMap;

use prometheus_parse::{LineInfo, SampleType, Scrape, Value};

use crate::docroot::{Docroot, pattern};
use crate::harness::{Server, bare_command, command, on_both, run, until};
use crate::wire::{Client, get, request};

const PATH: &str = "/_whirligig/metrics";

/// One scrape, parsed.
struct Metrics {
    text: String,
    scrape: Scrape,
}

impl Metrics {
    /// Requests the page over a persistent connection, so the next scrape costs no connection.
    #[track_caller]
    fn ask(client: &mut Client) -> Metrics {
        let got = client.get(PATH).expect(200);
        assert_eq!(got.must("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(got.must("cache-control"), "no-store");
        Metrics::parse(got.text())
    }

    /// The parser ignores lines that it does not understand. So each line is first checked here: it
    /// must be a help, a type, or a sample of a family that had both, and families must not be
    /// split.
    #[track_caller]
    fn parse(text: &str) -> Metrics {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut families: Vec<(String, SampleType)> = Vec::new();
        let mut help = None;
        for line in text.lines() {
            match LineInfo::parse(line) {
                LineInfo::Doc { metric_name, doc } => {
                    assert!(!doc.is_empty() && help.is_none(), "{line}");
                    help = Some(metric_name.to_owned());
                }
                LineInfo::Type { metric_name, metric_alias, sample_type } => {
                    let name = metric_alias.unwrap_or(metric_name);
                    assert_eq!(help.take().as_ref(), Some(&name), "{line}");
                    assert_ne!(sample_type, SampleType::Untyped, "{line}");
                    assert_eq!(name.ends_with("_total"), sample_type == SampleType::Counter, "{line}");
                    assert!(families.iter().all(|(other, _)| *other != name), "{name} twice");
                    families.push((name, sample_type));
                }
                LineInfo::Sample { metric_name, value, timestamp, .. } => {
                    let (family, kind) = families.last().expect("a type before the first sample");
                    let rest = metric_name.strip_prefix(family.as_str()).unwrap_or("(another)");
                    let parts: &[&str] =
                        if *kind == SampleType::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
                    assert!(parts.contains(&rest), "{line} below {family}");
                    assert!(value.parse::<f64>().is_ok_and(|value| value >= 0.0), "{line}");
                    assert_eq!(timestamp, None, "{line}");
                }
                LineInfo::Empty | LineInfo::Ignored => panic!("not a line of the format: {line:?}"),
            }
        }
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        Metrics { text: text.to_owned(), scrape }
    }

    /// Returns every sample of a family by its label values, except for those that are 0.
    fn family<const N: usize>(&self, name: &str, labels: [&str; N]) -> BTreeMap<[String; N], u64> {
        let samples = self.scrape.samples.iter().filter(|sample| sample.metric == name);
        let mut found = BTreeMap::new();
        for sample in samples {
            assert_eq!(sample.labels.len(), N, "{sample:?}");
            let key = labels.map(|label| sample.labels.get(label).expect(label).to_owned());
            let (Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value)) = sample.value else {
                panic!("{sample:?}");
            };
            assert!(value.fract() == 0.0, "{sample:?}");
            assert!(!found.contains_key(&key), "{sample:?} twice");
            found.insert(key, value as u64);
        }
        assert!(!found.is_empty(), "no {name} in\n{}", self.text);
        found.retain(|_, value| *value != 0);
        found
    }

    /// Returns the value of a family without labels.
    #[track_caller]
    fn value(&self, name: &str) -> u64 {
        self.family(name, []).get(&[]).copied().unwrap_or(0)
    }

    fn has(&self, name: &str) -> bool {
        self.scrape.docs.contains_key(name)
    }

    fn phases(&self) -> BTreeMap<[String; 1], u64> {
        self.family("whirligig_connections", ["phase"])
    }

    fn closed(&self) -> BTreeMap<[String; 1], u64> {
        self.family("whirligig_connections_closed_total", ["reason"])
    }

    fn requests(&self) -> BTreeMap<[String; 2], u64> {
        self.family("whirligig_requests_total", ["method", "code"])
    }
}

/// Converts `["a b", ..]` with counts to the form of [`Metrics::family`].
fn counts<const N: usize>(expected: &[(&str, u64)]) -> BTreeMap<[String; N], u64> {
    let entry = |(key, count): &(&str, u64)| {
        let labels: Vec<String> = key.split(' ').map(str::to_owned).collect();
        (labels.try_into().expect("as many words as labels"), *count)
    };
    expected.iter().map(entry).collect()
}

/// Sends requests with every kind of method and returns the connection.
fn ask_for_all_kinds(port: u16) -> Client {
    let mut busy = Client::connect(port);
    for _ in 0..3 {
        busy.get("/hello.txt").expect(200);
    }
    busy.ask("HEAD", "/hello.txt", &[], b"").expect(200);
    busy.get("/").expect(200);
    busy.get("/missing").expect(404);
    busy.ask("POST", "/api/echo", &[], b"content").expect(200).with_body(b"content");
    busy.ask("PUT", "/api/echo", &[], b"content").expect(200);
    busy.ask("PATCH", "/api/time", &[], b"").expect(405);
    busy.ask("DELETE", "/hello.txt", &[], b"").expect(405);
    busy.ask("OPTIONS", "/api/time", &[], b"").expect(204);
    busy.ask("BREW", "/api/time", &[], b"").expect(501);
    // Several requests in one packet count as several requests.
    busy.send([get("/hello.txt"), get("/missing"), get("/hello.txt")].concat());
    for status in [200, 404, 200] {
        busy.response().expect(status);
    }
    busy
}

#[test]
fn a_known_series_of_requests_is_counted_exactly() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut idle = Client::connect(server.port);
        idle.get("/hello.txt").expect(200);
        let _busy = ask_for_all_kinds(server.port);
        // Bytes that never became a request have no method. The connection ends with them.
        let mut wrong = Client::connect(server.port);
        wrong.send("GET / HTTP/1.1\r\nno colon\r\n\r\n");
        wrong.response().expect(400);
        wrong.finish();
        wrong.assert_closed();
        let mut asked = Client::connect(server.port);
        asked.ask("GET", "/hello.txt", &["Connection: close"], b"").expect(200);
        asked.assert_closed();

        // The page is made before its own response is counted, so the second scrape counts the
        // first.
        let mut control = Client::connect(server.port);
        let expected = |scrapes: u64| {
            let gets = 8 + scrapes;
            counts(
                [
                    ("GET 2xx", gets),
                    ("GET 4xx", 2),
                    ("HEAD 2xx", 1),
                    ("POST 2xx", 1),
                    ("PUT 2xx", 1),
                    ("PATCH 4xx", 1),
                    ("DELETE 4xx", 1),
                    ("OPTIONS 2xx", 1),
                    ("other 5xx", 1),
                    ("none 4xx", 1),
                ]
                .as_slice(),
            )
        };
        let mut scrapes = 0;
        let (open, closed) =
            (counts(&[("idle", 2), ("handling", 1)]), counts(&[("protocol_error", 1), ("requested", 1)]));
        // A thread of the twin that has just responded is not idle yet. A refused client sees the
        // end of the response before its connection is closed.
        until("all connections are idle", || {
            let metrics = Metrics::ask(&mut control);
            assert_eq!(metrics.requests(), expected(scrapes), "scrape {scrapes}");
            scrapes += 1;
            metrics.phases() == open && metrics.closed() == closed
        });
        let metrics = Metrics::ask(&mut control);
        assert_eq!(metrics.requests(), expected(scrapes), "scrape {scrapes}");
        assert_eq!((metrics.phases(), metrics.closed()), (open, closed));
        assert_eq!(metrics.value("whirligig_connections_accepted_total"), 5);
        assert_eq!(metrics.value("whirligig_handler_panics_total"), 0);
        let info = metrics.family("whirligig_build_info", ["version", "model"]);
        assert_eq!(info, counts(&[(&format!("{} {model}", env!("CARGO_PKG_VERSION")), 1)]));
        drop(idle);
        until("the loop has noticed the close of the idle connection", || {
            let metrics = Metrics::ask(&mut control);
            metrics.closed() == counts(&[("peer_closed", 1), ("protocol_error", 1), ("requested", 1)])
                && metrics.phases() == counts(&[("idle", 1), ("handling", 1)])
        });
    });
}

/// Sends one request over a separate connection. Returns the number of bytes sent and the bytes
/// received. Everything is counted before the client can see the end.
fn exchange(port: u16, request: &[u8]) -> (u64, Vec<u8>) {
    let mut client = Client::connect(port);
    client.send(request);
    (request.len() as u64, client.rest().0)
}

#[test]
fn every_byte_is_counted() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let close = &["Connection: close"];
        let scrape = request("GET", PATH, close, b"");
        let (mut received, mut sent) = (0, 0);
        for wanted in [
            request("GET", "/hello.txt", close, b""),
            request("GET", "/m5.bin", close, b""),
            request("HEAD", "/m5.bin", close, b""),
            request("POST", "/api/echo", close, &pattern(200_000)),
            request("GET", "/", close, b""),
        ] {
            let (asked, answer) = exchange(server.port, &wanted);
            received += asked;
            sent += answer.len() as u64;
            let (asked, page) = exchange(server.port, &scrape);
            // The request for the page has been read, and the page itself not been sent.
            received += asked;
            let text = String::from_utf8(page.clone()).unwrap();
            let metrics = Metrics::parse(text.split_once("\r\n\r\n").unwrap().1);
            assert_eq!(metrics.value("whirligig_received_bytes_total"), received);
            assert_eq!(metrics.value("whirligig_sent_bytes_total"), sent);
            assert!(
                metrics.value("whirligig_reads_total") > 0 && metrics.value("whirligig_writes_total") > 0
            );
            sent += page.len() as u64;
        }
    });
}

#[test]
fn connections_are_counted_by_phase() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let silent = Client::connect(server.port);
        let mut head = Client::connect(server.port);
        head.send("GET /hello.txt HT");
        let mut body = Client::connect(server.port);
        let whole = request("POST", "/api/echo", &[], &pattern(1000));
        body.send(&whole[..whole.len() - 1]);
        let mut full = Client::connect_narrow(server.port);
        full.send(get("/m5.bin"));
        let mut lingering = Client::connect(server.port);
        lingering.send("no request\r\n\r\n");
        lingering.response().expect(400);
        let mut idle: Vec<Client> = (0..3).map(|_| Client::connect(server.port)).collect();
        for client in &mut idle {
            client.get("/hello.txt").expect(200);
        }

        let mut control = Client::connect(server.port);
        let expected = counts(&[
            ("idle", 3),
            ("receiving_head", 2),
            ("receiving_body", 1),
            ("handling", 1),
            ("sending", 1),
            ("lingering", 1),
        ]);
        let mut seen = BTreeMap::new();
        until("every phase is counted", || {
            let metrics = Metrics::ask(&mut control);
            seen = metrics.phases();
            if model == "reactor" {
                assert_eq!(metrics.value("whirligig_pool_limit_bytes"), 8 << 20);
            }
            // A lingering client is closed after two seconds. On a slow machine the other phases
            // must suffice.
            let mut without = expected.clone();
            without.remove(&["lingering".to_owned()]);
            seen == expected || seen == without
        });
        if model == "reactor" {
            let metrics = Metrics::ask(&mut control);
            assert_eq!(metrics.value("whirligig_pool_loans"), 1, "the part of a head");
            assert_eq!(metrics.value("whirligig_pool_lent_bytes"), 1024);
            // A file that was just written is not cached at first.
            until("hello.txt is cached", || {
                idle[0].get("/hello.txt").expect(200);
                Metrics::ask(&mut control).value("whirligig_file_cache_bytes") > 0
            });
        }

        // A client that continues leaves its phase.
        head.send("TP/1.1\r\nHost: a\r\n\r\n");
        head.response().expect(200);
        body.send(&whole[whole.len() - 1..]);
        body.response().expect(200).with_body(pattern(1000));
        drop((silent, full, lingering));
        until("all but the control connection are idle", || {
            Metrics::ask(&mut control).phases() == counts(&[("idle", 5), ("handling", 1)])
        });
    });
}

#[test]
fn turns_are_a_histogram_and_threads_have_none() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let before = Metrics::ask(&mut client);
        for _ in 0..10 {
            client.get("/hello.txt").expect(200);
        }
        // A listing is a job, and its result wakes the loop.
        client.ask("GET", "/", &["Accept: application/json"], b"").expect(200);
        let after = Metrics::ask(&mut client);
        for name in ["turns_total", "turn_seconds", "events_total", "carried_total", "pool_lent_bytes"] {
            assert_eq!(after.has(&format!("whirligig_{name}")), model == "reactor", "{name}");
        }
        for name in ["jobs_waiting", "jobs_waiting_limit", "tasks_waiting", "job_threads"] {
            // Both models have workers. The twin has them for long work that several requests
            // share.
            assert!(after.has(&format!("whirligig_{name}")), "{name}");
        }
        assert_eq!(after.value("whirligig_log_dropped_total"), 0);
        assert!(after.has("process_start_time_seconds") && after.has("whirligig_file_cache_bytes"));
        if model == "threads" {
            return;
        }
        assert!(after.value("whirligig_turns_total") >= before.value("whirligig_turns_total") + 11);
        assert!(after.value("whirligig_events_total") >= before.value("whirligig_events_total") + 11);
        assert_eq!(after.value("whirligig_loops"), 1);
        assert_eq!(after.value("whirligig_jobs_waiting_limit"), 1024);
        assert!(after.value("whirligig_job_threads") <= 4);
        for metrics in [before, after] {
            let named = |name: &str| metrics.scrape.samples.iter().find(|sample| sample.metric == name);
            let Some(Value::Histogram(buckets)) = named("whirligig_turn_seconds").map(|sample| &sample.value)
            else {
                panic!("no histogram in {}", metrics.text);
            };
            assert!(buckets.is_sorted_by(|a, b| a.less_than < b.less_than && a.count <= b.count));
            assert_eq!((buckets.len(), buckets[0].less_than), (17, 0.000_01));
            let last = buckets.last().unwrap();
            assert_eq!(last.less_than, f64::INFINITY);
            assert_eq!(last.count as u64, metrics.value("whirligig_turn_seconds_count"));
            // The turn that makes the page has begun and not ended.
            assert_eq!(last.count as u64 + 1, metrics.value("whirligig_turns_total"));
            let Some(Value::Untyped(sum)) = named("whirligig_turn_seconds_sum").map(|sample| &sample.value)
            else {
                panic!("no sum in {}", metrics.text);
            };
            assert!((0.0..10.0).contains(sum) && *sum > 0.0, "{sum} seconds in {} turns", last.count);
        }
    });
}

#[test]
fn scrapes_neither_wait_for_nor_disturb_each_other() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        // A client that does not wait for its response leaves nothing behind.
        for _ in 0..20 {
            let mut gone = Client::connect(server.port);
            gone.send(get(PATH));
            drop(gone);
        }
        let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(server.port)).collect();
        for client in &mut clients {
            client.send([get(PATH), get("/hello.txt"), get(PATH)].concat());
        }
        for client in &mut clients {
            Metrics::parse(client.response().expect(200).text());
            client.response().expect(200).with_body("hello, world\n");
            Metrics::parse(client.response().expect(200).text());
        }
        let last = clients.last_mut().unwrap();
        until("only the twenty are left", || {
            Metrics::ask(last).phases() == counts(&[("idle", 19), ("handling", 1)])
        });
    });
}

#[test]
fn only_reading_is_offered() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let head = client.ask("HEAD", PATH, &[], b"").expect(200);
        assert!(head.body.is_empty() && head.must("content-type").starts_with("text/plain; version=0.0.4"));
        assert_eq!(client.ask("OPTIONS", PATH, &[], b"").expect(204).must("allow"), "GET, HEAD, OPTIONS");
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let refused = client.ask(method, PATH, &[], b"").expect(405);
            assert_eq!(refused.must("allow"), "GET, HEAD, OPTIONS", "{method}");
        }
        client.get("/_whirligig/metrics/").expect(404);
    });
}

#[test]
fn metrics_are_for_loopback_unless_enabled() {
    let docroot = Docroot::new();
    on_both(|model| {
        for (flags, variable, status) in [
            (&[][..], None, 200),
            (&["--no-metrics"], None, 404),
            (&[], Some(("WHIRLIGIG_NO_METRICS", "1")), 404),
            (&["--bind", "0.0.0.0"], None, 404),
            (&["--bind", "127.0.0.1", "--bind", "0.0.0.0:0"], None, 404),
            (&["--bind", "0.0.0.0", "--metrics"], None, 200),
            (&["--bind", "0.0.0.0"], Some(("WHIRLIGIG_METRICS", "1")), 200),
            (&["--metrics"], Some(("WHIRLIGIG_NO_METRICS", "1")), 200),
        ] {
            let mut command = command(model, &docroot.root(), flags);
            command.envs(variable);
            let server = Server::launch(command);
            let mut client = Client::connect(server.port);
            let got = client.get(PATH);
            assert_eq!(got.status, status, "{flags:?} {variable:?}");
            // Any client may see the health.
            client.get("/_whirligig/health").expect(200);
        }
    });
    let both = run(bare_command().args(["--metrics", "--no-metrics"]).arg(docroot.root()));
    assert_eq!((both.code, both.err.lines().count()), (Some(2), 1), "{}", both.err);
}

#[test]
fn a_loop_with_a_stopwatch_reports_its_time_by_activity() {
    let docroot = Docroot::new();
    let plain = Server::start("reactor", &docroot.root(), &[]);
    let text = Metrics::ask(&mut Client::connect(plain.port)).text;
    assert!(!text.contains("activity"), "{text}");
    let watched = Server::start("reactor", &docroot.root(), &["-vv"]);
    let mut client = Client::connect(watched.port);
    client.get("/hello.txt").expect(200);
    let metrics = Metrics::ask(&mut client);
    for activity in ["waiting", "reading", "handling", "writing", "keeping"] {
        let sample = format!("whirligig_activity_seconds_total{{activity=\"{activity}\"}} ");
        assert!(metrics.text.contains(&sample), "{}", metrics.text);
    }
}
