//! Benchmark of connection ids and deadlines: `cargo bench --bench names`.
//!
//! Measures looking up a connection by its id and moving its deadline, with a hundred, a thousand
//! and ten thousand connections. The cost must not grow with their number. Uses no sockets.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use whirligig::inside::conn_id::{ConnId, Peer};
use whirligig::inside::driver::client::Client;
use whirligig::inside::driver::deadline::DeadlineQueue;
use whirligig::inside::driver::slots::Slots;
use whirligig::inside::reactor::slot::Slot;

const CROWDS: [u32; 3] = [100, 1_000, 10_000];
const IDLE: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "the time base of all deadlines in the bench")]
fn now() -> Instant {
    Instant::now()
}

fn slots(criterion: &mut Criterion) {
    let now = now();
    let mut group = criterion.benchmark_group("slots");
    for crowd in CROWDS {
        let mut slots = Slots::default();
        let ids: Vec<ConnId> =
            (0..crowd).map(|_| slots.insert(Slot::new(Client::new(Peer::Unix, now), ()))).collect();
        group.bench_with_input(BenchmarkId::new("look up", crowd), &ids, |bencher, ids| {
            let mut at = 0;
            bencher.iter(|| {
                // Events arrive in no particular order of ids.
                at = (at + 7_919) % ids.len();
                black_box(slots.get_mut(ids[at])).is_some()
            });
        });
        group.bench_function(BenchmarkId::new("insert and remove", crowd), |bencher| {
            bencher.iter(|| {
                let id = slots.insert(Slot::new(Client::new(Peer::Unix, now), ()));
                slots.remove(id).is_some()
            });
        });
    }
    group.finish();
}

fn deadlines(criterion: &mut Criterion) {
    let now = now();
    let mut group = criterion.benchmark_group("deadlines");
    for crowd in CROWDS {
        let mut queue = DeadlineQueue::default();
        let ids: Vec<ConnId> = (0..crowd).map(|slot| ConnId::new(1, slot)).collect();
        for (number, id) in (0..).zip(&ids) {
            queue.arm(*id, now + IDLE + Duration::from_micros(number));
        }
        group.bench_function(BenchmarkId::new("moved later", crowd), |bencher| {
            let mut at = 0;
            bencher.iter(|| {
                at = (at + 7_919) % ids.len();
                queue.arm(black_box(ids[at]), now + IDLE * 2);
            });
        });
        group.bench_function(BenchmarkId::new("removed and armed again", crowd), |bencher| {
            let mut at = 0;
            bencher.iter(|| {
                at = (at + 7_919) % ids.len();
                queue.remove(ids[at]);
                queue.arm(ids[at], now + IDLE);
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    slots(&mut criterion);
    deadlines(&mut criterion);
    criterion.final_summary();
}
