//! Numbered pieces of work on all processors, with a progress bar.
//!
//! This file must not know what the work is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use crate::cli::progress::Progress;

/// Does `count` pieces of work, which are numbered from 0, and passes each result with its number
/// to `take`. A worker ends at the first number that `is_needed` denies.
pub(super) fn on_all_processors<T: Send>(
    count: u64,
    is_needed: impl Fn(u64) -> bool + Sync,
    work: impl Fn(u64) -> T + Sync,
    mut progress: Progress,
    mut take: impl FnMut(u64, T),
) {
    let next = AtomicU64::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let (results, received) = mpsc::channel();
        for _ in 0..workers {
            let (results, next, is_needed, work) = (results.clone(), &next, &is_needed, &work);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || !is_needed(number) || results.send((number, work(number))).is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(results);
        for (done, (number, result)) in (1..).zip(received) {
            progress.show(done);
            take(number, result);
        }
    });
    progress.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_until_one_is_not_needed() {
        for (needed, expected) in [(u64::MAX, 1000), (10, 10), (0, 0)] {
            let mut done = Vec::new();
            let progress = Progress::new(1000, "pieces", false);
            on_all_processors(
                1000,
                |number| number < needed,
                |number| number * 2,
                progress,
                |number, result| {
                    assert_eq!(result, number * 2);
                    done.push(number);
                },
            );
            done.sort_unstable();
            assert_eq!(done, (0..expected).collect::<Vec<u64>>());
        }
    }
}
