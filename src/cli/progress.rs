//! A progress bar of one line on standard error, for tools that take a while on a terminal.

use std::io::{self, Write as _};

/// Width of the bar in columns.
const WIDTH: u64 = 30;

/// Shows how much of a known amount is done. Draws at most once for each per cent.
#[derive(Debug)]
pub(super) struct Progress {
    total: u64,
    unit: &'static str,
    is_shown: bool,
    drawn: Option<u64>,
}

impl Progress {
    /// Creates a bar for `total` pieces of work, which are called `unit`. Draws nothing without a
    /// terminal.
    pub(super) fn new(total: u64, unit: &'static str, is_terminal: bool) -> Self {
        Progress { total, unit, is_shown: is_terminal, drawn: None }
    }

    /// Shows that `done` pieces are done.
    pub(super) fn show(&mut self, done: u64) {
        let percent = percent(done, self.total);
        if !self.is_shown || self.drawn == Some(percent) {
            return;
        }
        self.drawn = Some(percent);
        write(&line(done, self.total, self.unit));
    }

    /// Removes the bar until it is shown again.
    pub(super) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            write("\r\x1b[K");
        }
    }

    /// Removes the bar.
    pub(super) fn end(mut self) {
        self.clear();
    }
}

fn percent(done: u64, total: u64) -> u64 {
    u64::try_from(u128::from(done) * 100 / u128::from(total.max(1))).unwrap_or(100)
}

fn line(done: u64, total: u64, unit: &str) -> String {
    let percent = percent(done, total);
    let full = (percent * WIDTH / 100) as usize;
    let (full, rest) = ("#".repeat(full), ".".repeat(WIDTH as usize - full.min(WIDTH as usize)));
    format!("\r[{full}{rest}] {percent:>3} %, {done} of {total} {unit}\x1b[K")
}

/// Writes to the terminal. A terminal that is gone is no reason to stop.
fn write(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_from_empty_to_full() {
        assert_eq!(line(0, 2000, "seeds"), format!("\r[{}]   0 %, 0 of 2000 seeds\x1b[K", ".".repeat(30)));
        let half = format!("{}{}", "#".repeat(15), ".".repeat(15));
        assert_eq!(line(1019, 2000, "seeds"), format!("\r[{half}]  50 %, 1019 of 2000 seeds\x1b[K"));
        assert_eq!(line(2, 2, "seeds"), format!("\r[{}] 100 %, 2 of 2 seeds\x1b[K", "#".repeat(30)));
        assert_eq!((percent(0, 0), percent(u64::MAX, u64::MAX)), (0, 100));
    }
}
