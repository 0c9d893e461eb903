//! The logger behind the `log` crate: sends records to the writer thread.
//!
//! This file must not know the access log.

use log::{Level, LevelFilter, Metadata, Record, SetLoggerError};

use crate::config::{LOG_MESSAGE_BYTES_MAX, LOG_REPORT_INTERVAL};
use crate::log::terminal::Colors;
use crate::log::writer::LogQueue;

/// Logger that sends records to the queue.
struct QueueLogger {
    queue: LogQueue,
    level: LevelFilter,
}

/// Installs a logger that sends every `log` record of `level` or more severe to the writer thread.
/// Call it once, directly after the queue is created. Records of other crates are logged up to
/// `info` only, because `-vv` is for the turns of the loop.
///
/// # Errors
/// If another logger is installed already.
pub fn install(level: LevelFilter, colors: Colors, queue: LogQueue) -> Result<(), SetLoggerError> {
    queue.set_colors(colors);
    log::set_boxed_logger(Box::new(QueueLogger { queue, level }))?;
    log::set_max_level(level);
    Ok(())
}

impl log::Log for QueueLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let ours = matches!(target, "turn" | "step") || target.starts_with(env!("CARGO_CRATE_NAME"));
        metadata.level() <= self.level && (ours || metadata.level() <= Level::Info)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut text = record.args().to_string();
            text.truncate(text.floor_char_boundary(LOG_MESSAGE_BYTES_MAX));
            self.queue.record(record.level(), record.target(), text);
        }
    }

    fn flush(&self) {
        self.queue.flush(LOG_REPORT_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Log as _;
    use std::sync::mpsc;

    #[test]
    fn levels_pass_what_they_name() {
        let queue = LogQueue::with_print(None, Box::new(|_, _, _| Ok(())));
        let enabled = |level, target, asked| {
            let logger = QueueLogger { queue: queue.clone(), level };
            logger.enabled(&Metadata::builder().level(asked).target(target).build())
        };
        assert!(enabled(LevelFilter::Warn, "whirligig::reactor", Level::Warn));
        assert!(!enabled(LevelFilter::Warn, "whirligig::reactor", Level::Info));
        assert!(!enabled(LevelFilter::Error, "turn", Level::Warn));
        assert!(enabled(LevelFilter::Trace, "turn", Level::Trace));
        assert!(enabled(LevelFilter::Trace, "step", Level::Trace));
        assert!(!enabled(LevelFilter::Trace, "mio::poll", Level::Trace), "one line a turn, not one an event");
        assert!(enabled(LevelFilter::Debug, "mio::poll", Level::Info));
    }

    #[test]
    fn long_messages_are_cut_between_letters() {
        let (sender, diagnostics) = mpsc::channel();
        let print = move |level, target: &str, text: &str| {
            sender.send(format!("{level} [{target}] {text}")).map_err(std::io::Error::other)
        };
        let queue = LogQueue::with_print(None, Box::new(print));
        let logger = QueueLogger { queue, level: LevelFilter::Info };
        let text = "é".repeat(LOG_MESSAGE_BYTES_MAX);
        logger
            .log(&Record::builder().level(Level::Info).target("turn").args(format_args!("a{text}")).build());
        let line = diagnostics.recv().unwrap();
        assert_eq!(line.len(), "INFO [turn] ".len() + LOG_MESSAGE_BYTES_MAX - 1);
    }
}
