//! Tests of the benchmark itself: its statistics, its clock and its checks.
//!
//! They use `src/bench/` and include the files of `benches/versus/`. `cargo bench --bench versus --
//! --slow-reactor 200 --expect slower` tests the whole benchmark with an artificially slow reactor
//! (`.ci/run`).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::docroot::Docroot;
use crate::harness::{Server, on_both, pass};

#[expect(dead_code, reason = "the benchmark uses all of it, the tests only parts")]
#[path = "../../benches/versus/main.rs"]
mod bench;

mod report;

use bench::check::check;
use bench::histogram::Histogram;
use bench::load::answer::{Answer, Took, Wanted};
use bench::load::{Arrival, Ask, Errors, Expected, Habit, Job, Outcome, generate, now_ns};
use bench::scenario::{self, Pace};
use bench::stats::{
    Estimate, Lots, Verdict, coverage, estimate, estimate_unpaired, judge, median, noise_of, over,
};

const REQUEST: &str = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
const RIGHT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!";

/// Returns a job for one of the small servers in this file.
fn job(port: u16, arrival: Arrival, connections: u32, measure_ms: u64) -> Job {
    let text = "Hello, World!".to_owned();
    Job {
        port,
        arrival,
        connections,
        habit: Habit::Keep { depth: 1 },
        asks: vec![Ask { head: REQUEST.to_owned(), content_bytes: 0, expected: Expected::Text(text) }],
        crowd: None,
        warm_ms: 20,
        measure_ms,
        timeout_ms: 5_000,
        spin: false,
        cpus: Vec::new(),
    }
}

fn run(job: &Job) -> Outcome {
    generate(job, &mut |_| Ok(())).unwrap()
}

/// Starts a minimal server. `answer` gets the number of the request, counted over all connections,
/// one at a time. An empty answer closes the connection. The server runs until the test program
/// ends.
fn serve(answer: impl Fn(u32) -> String + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (answer, number, gate) = (Arc::new(answer), Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(())));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (answer, number, gate) = (Arc::clone(&answer), Arc::clone(&number), Arc::clone(&gate));
            thread::spawn(move || talk(stream.unwrap(), &*answer, &number, &gate));
        }
    });
    port
}

fn talk(mut stream: TcpStream, answer: &dyn Fn(u32) -> String, number: &AtomicU32, gate: &Mutex<()>) {
    let mut held = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        held.extend_from_slice(&piece[..count]);
        while let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") {
            held.drain(..end + 4);
            let answered = {
                let _one_at_a_time = gate.lock();
                answer(number.fetch_add(1, Ordering::Relaxed))
            };
            if answered.is_empty() || stream.write_all(answered.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Returns the latency in milliseconds that this share of responses did not exceed.
fn quantile_ms(outcome: &Outcome, share: f64) -> f64 {
    let all: u64 = outcome.latencies.iter().map(|(_, count)| count).sum();
    let mut left = (all as f64 * share).ceil() as u64;
    for (value, count) in &outcome.latencies {
        left = left.saturating_sub(*count);
        if left == 0 {
            return *value as f64 / 1e6;
        }
    }
    panic!("no latency was recorded")
}

/// Coordinated omission: a closed loop sends nothing while the server stalls, so the stall becomes
/// one late response per connection among thousands. At a fixed rate every request that was due
/// meanwhile is late, and counts.
#[test]
fn a_stall_shows_in_the_open_loop_and_hides_in_the_closed_one() {
    const STALL: Duration = Duration::from_millis(200);
    let stalls_once = |at| {
        serve(move |number| {
            if number == at {
                pass(STALL);
            }
            RIGHT.to_owned()
        })
    };
    let rate = 2_000.0;
    let open = run(&job(stalls_once(600), Arrival::Open { per_second: rate }, 8, 800));
    assert_eq!((open.errors.total(), open.due), (0, 1_600), "{}", open.errors);
    assert_eq!(open.answers, open.due, "requests due in the measured time are counted, and no others");
    assert!(quantile_ms(&open, 0.999) > 150.0, "p99.9 is {} ms", quantile_ms(&open, 0.999));
    // The stall covers a quarter of 0.8 s, so many responses are late, not one in hundreds.
    let late: u64 = open.latencies.iter().filter(|(ns, _)| *ns > 50_000_000).map(|(_, count)| count).sum();
    assert!((200..1_000).contains(&late), "{late} late responses");

    let closed = run(&job(stalls_once(600), Arrival::Closed, 2, 800));
    assert_eq!(closed.errors.total(), 0, "{}", closed.errors);
    assert!(closed.answers > 2_500, "{} responses are too few", closed.answers);
    assert!(quantile_ms(&closed, 1.0) > 150.0, "the stall was in the measured time");
    assert!(quantile_ms(&closed, 0.999) < 100.0, "p99.9 is {} ms", quantile_ms(&closed, 0.999));
}

/// Interval of the sources in this file.
const EVERY: Duration = Duration::from_millis(10);

/// Starts a source that sends lines to each listener at a fixed rate, but pauses after a number of
/// lines. After the pause it sends all overdue lines at once.
fn serve_lines(silent_after: u64, silence: Duration) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let speak = move |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut due_ns = now_ns();
        for number in 0_u64.. {
            if number == silent_after {
                pass(silence);
            }
            due_ns += u64::try_from(EVERY.as_nanos()).unwrap();
            pass(Duration::from_nanos(due_ns.saturating_sub(now_ns())));
            if stream.write_all(format!("20\r\n{number:011} {due_ns:019}\n\r\n").as_bytes()).is_err() {
                return;
            }
        }
    };
    thread::spawn(move || {
        listener.incoming().for_each(|stream| drop(thread::spawn(move || speak(stream.unwrap()))));
    });
    port
}

fn listen(port: u16) -> Outcome {
    let every_ns = u64::try_from(EVERY.as_nanos()).unwrap();
    run(&Job { warm_ms: 50, ..job(port, Arrival::Listen { every_ns }, 4, 400) })
}

/// Coordinated omission for listeners: lines of a stalled source are due nevertheless. Lines after
/// the end used not to count, so the longest stalls did not show.
#[test]
fn lines_of_a_stalled_source_are_late() {
    // From the middle of the measured time to a quarter of a second after its end.
    let outcome = listen(serve_lines(25, Duration::from_millis(450)));
    assert_eq!(outcome.errors.total(), 0, "{}", outcome.errors);
    assert_eq!(outcome.answers, outcome.due, "lines due in the measured time are counted");
    assert!((36 * 4..=41 * 4).contains(&outcome.due), "{} lines to four in 0.4 s", outcome.due);
    assert!(quantile_ms(&outcome, 1.0) > 300.0, "the first of them waited longest");
    assert!(quantile_ms(&outcome, 0.75) > 150.0, "half of them were late");
}

/// Missing lines used to be ignored, instead of counting as late and as errors.
#[test]
fn a_missing_line_is_an_error_and_late() {
    let outcome = listen(serve_lines(25, Duration::from_secs(3_600)));
    assert!((15 * 4..=25 * 4).contains(&outcome.errors.late), "{}", outcome.errors);
    assert_eq!(outcome.errors.total(), outcome.errors.late);
    assert_eq!(outcome.due, outcome.answers + outcome.errors.late);
    let recorded: u64 = outcome.latencies.iter().map(|(_, count)| count).sum();
    assert_eq!(recorded, outcome.due, "each line that was due has its latency");
    assert!(quantile_ms(&outcome, 0.9) > 1_000.0);
}

/// An overloaded server: requests that were due and never sent count as late errors.
#[test]
fn an_unsent_request_is_an_error_and_late() {
    let slow = serve(|_| {
        pass(Duration::from_millis(10));
        RIGHT.to_owned()
    });
    let outcome = run(&job(slow, Arrival::Open { per_second: 1_000.0 }, 4, 300));
    assert_eq!(outcome.due, 300);
    assert!(outcome.answers < 200, "{} responses in 1.3 s of 10 ms each", outcome.answers);
    assert_eq!(outcome.errors.late, outcome.due - outcome.answers);
    let recorded: u64 = outcome.latencies.iter().map(|(_, count)| count).sum();
    assert_eq!(recorded, outcome.due, "each request that was due has its latency");
    assert!(quantile_ms(&outcome, 0.99) > 900.0);
}

#[test]
fn every_kind_of_wrong_response_is_counted() {
    fn errors(answer: impl Fn(u32) -> String + Send + Sync + 'static) -> Errors {
        // The first responses are correct, because errors from the start end the run.
        let port = serve(move |number| if number < 5 { RIGHT.to_owned() } else { answer(number) });
        let job = Job { warm_ms: 0, ..job(port, Arrival::Closed, 1, 40) };
        match generate(&job, &mut |_| Ok(())) {
            Ok(outcome) => outcome.errors,
            Err(error) => panic!("{error}"),
        }
    }
    let head = |length: &str| format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n");
    assert_eq!(errors(|_| RIGHT.to_owned()), Errors::default());
    assert!(errors(|_| RIGHT.replace("200", "503")).status > 0);
    assert!(errors(|_| RIGHT.replace('W', "w")).content > 0);
    assert!(errors(|_| RIGHT.replace("13", "12")).content > 0);
    assert!(errors(move |_| head("X: y")).framing > 0);
    assert!(errors(|_| RIGHT.replace("OK", "OK\r\nTransfer-Encoding: chunked")).framing > 0);
    let coded = head("Transfer-Encoding: chunked");
    assert!(errors(move |_| format!("{coded}d;{}", "e".repeat(2000))).framing > 0);
    assert!(errors(|_| String::new()).short > 0);
}

#[test]
fn a_response_is_parsed_equally_at_every_cut() {
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n8;x=y\r\n, World!\r\n0\r\n\r\n";
    let wanted = Wanted { bytes: 13, content: Some(b"Hello, World!".to_vec()) };
    for text in [RIGHT, chunked] {
        let both = format!("{text}{text}");
        for cut in 1..text.len() {
            let (first, rest) = both.as_bytes().split_at(cut);
            let mut answer = Answer::default();
            let mut nothing = |_: &[u8]| Ok(());
            assert_eq!(answer.take(first, Some(&wanted), &mut nothing), Ok(Took::All), "cut at {cut}");
            let took = answer.take(rest, Some(&wanted), &mut nothing);
            assert_eq!(took, Ok(Took::Complete(text.len() - cut)), "cut at {cut}");
            // The head of the second response is already known. It is checked nevertheless.
            let again = answer.take(&rest[text.len() - cut..], Some(&wanted), &mut nothing);
            assert_eq!(again, Ok(Took::Complete(text.len())), "after a cut at {cut}");
            for wrong in [both.replace("13", "12").replace("8;", "7;"), both.replace('W', "w")] {
                assert!(answer.take(wrong.as_bytes(), Some(&wanted), &mut nothing).is_err(), "{wrong}");
                answer = Answer::default();
            }
        }
    }
}

/// All parts together: the slower server is found, whichever is first.
#[test]
fn a_slowed_server_is_found_slower() {
    let plain = serve(|_| RIGHT.to_owned());
    let slowed = serve(|_| {
        pass(Duration::from_millis(10));
        RIGHT.to_owned()
    });
    let rate = |port| run(&job(port, Arrival::Closed, 2, 100)).amount;
    let rounds: Vec<(f64, f64)> = (0..7).map(|_| (rate(slowed), rate(plain))).collect();
    let ratios = |of: fn(&(f64, f64)) -> f64| rounds.iter().map(of).collect::<Vec<f64>>();
    let mut lots = Lots(1);
    let mut verdict = |ratios: &[f64]| judge(estimate(ratios, &mut lots), 0.2);
    assert_eq!(verdict(&ratios(|(slowed, plain)| over(*slowed, *plain))), Verdict::Slower, "{rounds:?}");
    assert_eq!(verdict(&ratios(|(slowed, plain)| over(*plain, *slowed))), Verdict::Faster, "{rounds:?}");
}

#[test]
fn a_verdict_needs_an_effect_beyond_interval_and_noise() {
    for (value, low, high, noise, verdict) in [
        (1.30, 1.20, 1.40, 0.05, Verdict::Faster),
        (0.75, 0.70, 0.80, 0.05, Verdict::Slower),
        // The interval contains 1.
        (1.30, 0.99, 1.60, 0.05, Verdict::NoDifference),
        (0.75, 0.50, 1.01, 0.05, Verdict::NoDifference),
        // Less than the noise.
        (1.04, 1.03, 1.05, 0.05, Verdict::NoDifference),
        (0.96, 0.95, 0.97, 0.05, Verdict::NoDifference),
        // Noise is a factor: 1 / 1.25 is as far away as 1.25.
        (0.81, 0.80, 0.82, 0.25, Verdict::NoDifference),
        (0.79, 0.78, 0.80, 0.25, Verdict::Slower),
        // Nothing was measured.
        (0.0, 0.0, 0.0, 0.0, Verdict::NoDifference),
    ] {
        assert_eq!(judge(Estimate { value, low, high }, noise), verdict, "{value} in {low} to {high}");
    }
}

#[test]
fn noise_is_the_far_end_of_the_interval_of_equal_servers() {
    let noise = |low, high| noise_of(Estimate { value: 1.0, low, high });
    assert!((noise(0.98, 1.05) - 0.05).abs() < 1e-9);
    assert!((noise(0.8, 1.05) - 0.25).abs() < 1e-9);
    assert!(noise(1.0, 1.0).abs() < 1e-9);
}

/// The layout is that of HdrHistogram, so equal values must give equal buckets and quantiles.
#[test]
fn a_histogram_agrees_with_hdrhistogram() {
    use proptest::prelude::*;
    const VALUE_MAX: u64 = 60_000_000_000;
    let value = (0_u32..37).prop_flat_map(|bits| 0_u64..=1 << bits);
    let edges = prop::sample::select(vec![0, 1, 2_047, 2_048, 2_049, 4_095, 4_096, VALUE_MAX]);
    let values = prop::collection::vec(prop_oneof![4 => value, 1 => edges], 0..200);
    proptest!(|(values in values, share in 0.0..=1.0_f64)| {
        let mut own = Histogram::new(VALUE_MAX);
        let mut other = hdrhistogram::Histogram::<u64>::new_with_bounds(1, VALUE_MAX, 3).unwrap();
        for value in values {
            own.record(value);
            other.saturating_record(value.min(VALUE_MAX));
        }
        let recorded = other.iter_recorded().map(|found| (found.value_iterated_to(), found.count_at_value()));
        prop_assert_eq!(own.recorded().collect::<Vec<_>>(), recorded.collect::<Vec<_>>());
        for share in [share, 0.0, 0.5, 0.99, 1.0] {
            prop_assert_eq!(own.quantile(share), other.value_at_quantile(share));
        }
    });
}

#[test]
fn medians_and_random_numbers_are_right() {
    assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5_f64.to_bits());
    assert_eq!(median(&[]).to_bits(), 0.0_f64.to_bits());
    let order = |seed| {
        let mut items: Vec<u32> = (0..20).collect();
        Lots(seed).shuffle(&mut items);
        items
    };
    assert_eq!(order(7), order(7));
    assert_ne!(order(7), order(8));
    let mut sorted = order(7);
    sorted.sort_unstable();
    assert_eq!(sorted, (0..20).collect::<Vec<u32>>());
}

/// An interval must contain the true value as often as stated. The bootstrap alone does not with
/// few rounds: at a level of 95 %, it contains the median of seven figures in 87.5 % of all cases.
#[test]
fn the_interval_contains_the_true_value_as_often_as_stated() {
    for (rounds, share) in [(5, 0.9375), (6, 0.968), (7, 0.984), (9, 0.960), (10, 0.978), (15, 0.964)] {
        assert!((coverage(rounds) - share).abs() < 0.001, "{} of {rounds} rounds", coverage(rounds));
    }
    let mut lots = Lots(3);
    // Evenly distributed within 10 % around 1.2, similar to rounds of two servers.
    let sample = |rounds, lots: &mut Lots| -> Vec<f64> {
        (0..rounds).map(|_| 1.08 + 0.24 * lots.below(1_000) as f64 / 999.0).collect()
    };
    for rounds in [5, 7, 9] {
        let held = (0..400).filter(|_| {
            let paired = estimate(&sample(rounds, &mut lots), &mut lots);
            (paired.low..=paired.high).contains(&1.2)
        });
        let (held, expected) = (held.count() as f64, 400.0 * coverage(rounds));
        // Three standard deviations.
        assert!(held > expected - 15.0, "{held} of 400 with {rounds} rounds, not {expected}");
    }
    let held = (0..300).filter(|_| {
        let (figures, others) = (sample(9, &mut lots), sample(9, &mut lots));
        let unpaired = estimate_unpaired(&figures, &others, &mut lots);
        (unpaired.low..=unpaired.high).contains(&1.0)
    });
    let held = held.count();
    assert!(held >= 265, "{held} of 300");
}

/// Short runs of the real generator against the real program: no errors, and responses for every
/// habit.
#[test]
fn both_models_serve_the_scenarios_without_handlers() {
    on_both(|model| {
        let docroot = Docroot::new();
        let root = docroot.outside("versus");
        std::fs::create_dir(&root).unwrap();
        scenario::write_docroot(&root).unwrap();
        let server = Server::start(model, &root, &[]);
        for scenario in scenario::all().into_iter().filter(|scenario| scenario.files_only) {
            if scenario.crowd.is_some() || scenario.connections > 64 {
                continue;
            }
            check(server.port, &scenario.asks, scenario.habit == Habit::Close)
                .unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
            let arrival = match scenario.pace {
                Pace::Share(_) => Arrival::Open { per_second: 500.0 },
                Pace::Closed | Pace::Listen => Arrival::Closed,
            };
            let outcome = run(&Job {
                asks: scenario.asks,
                habit: scenario.habit,
                warm_ms: 10,
                ..job(server.port, arrival, scenario.connections.min(8), 60)
            });
            assert_eq!(outcome.errors.total(), 0, "{}: {}", scenario.name, outcome.errors);
            assert!(outcome.amount > 0.0, "{} got no response", scenario.name);
        }
    });
}
