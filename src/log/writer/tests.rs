//! Tests of the queue and its writer: order, loss, stalls, rotation, threads that come and go.

use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;

use super::*;
use crate::config::{LogTarget, MIB};
use crate::log::file::open_access_log;

const PATIENCE: Duration = Duration::from_secs(10);

/// Creates a queue and a receiver of its diagnostics.
fn queue(access: Option<AccessLog>) -> (LogQueue, Receiver<String>) {
    let (sender, diagnostics) = mpsc::channel();
    let print: Print = Box::new(move |level, target, text| {
        sender.send(format!("{level} [{target}] {text}")).map_err(io::Error::other)
    });
    (LogQueue::with_print(access, print), diagnostics)
}

/// Creates a writer without a thread and without messages.
fn idle_writer(queue: &LogQueue, access: Option<AccessLog>) -> Writer {
    Writer {
        shared: Arc::clone(&queue.shared),
        receiver: sync_channel(1).1,
        access,
        print: Box::new(|_, _, _| Ok(())),
        gathered: Vec::new(),
        gathered_due: None,
        reported: 0,
        last_report: None,
        failing: None,
    }
}

#[test]
fn lines_reach_the_file_and_follow_it_when_it_is_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
    let target = LogTarget::File(path.clone());
    let (queue, diagnostics) = queue(Some(open_access_log(&target).unwrap()));
    queue.access(b"one\n".to_vec());
    assert!(queue.flush(PATIENCE));
    std::fs::rename(&path, &moved).unwrap();
    queue.access(b"two\n".to_vec());
    assert!(queue.flush(PATIENCE));
    queue.reopen();
    queue.access(b"three\n".to_vec());
    assert!(queue.flush(PATIENCE));
    assert_eq!(std::fs::read(&moved).unwrap(), b"one\ntwo\n");
    assert_eq!(std::fs::read(&path).unwrap(), b"three\n");

    drop(folder);
    queue.reopen();
    assert!(queue.flush(PATIENCE));
    assert!(diagnostics.recv().unwrap().contains("cannot reopen the access log"));
    assert_eq!(queue.dropped(), 0);
}

#[test]
fn a_full_disk_costs_lines_and_is_reported_once() {
    let (queue, diagnostics) = queue(Some(open_access_log(&LogTarget::File("/dev/full".into())).unwrap()));
    for _ in 0..100 {
        queue.access(b"one\ntwo\n".to_vec());
        assert!(queue.flush(PATIENCE));
    }
    assert_eq!(queue.dropped(), 200);
    drop(queue);
    let said: Vec<String> = diagnostics.iter().collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("ERROR [whirligig::log] cannot write the access log"), "{said:?}");
}

#[test]
fn a_closed_pipe_costs_lines_only() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let (queue, _diagnostics) = queue(Some(AccessLog::over(writer)));
    queue.access(b"one\n".to_vec());
    assert!(queue.flush(PATIENCE));
    assert_eq!(queue.dropped(), 1);
}

/// Standard output is a pipe whose reader has stopped: only the writer thread blocks in `write`.
#[test]
fn a_stuck_reader_holds_nobody() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let (queue, diagnostics) = queue(Some(AccessLog::over(writer)));
    let buffer = [b"x".repeat(99), b"\n".to_vec()].concat().repeat(100);
    let mut sent = 0;
    while queue.dropped() == 0 {
        sent += 100;
        let spare = queue.access(buffer.clone());
        assert!(spare.is_none_or(|spare| spare.is_empty()));
    }
    assert!(sent * 100 < LOG_QUEUE_BYTES_MAX + MIB, "bounded by bytes, not by messages: {sent} lines");
    assert!(!queue.flush(Duration::from_millis(20)));
    drop(reader);
    assert!(queue.flush(PATIENCE));
    drop(queue);
    let said: Vec<String> = diagnostics.iter().collect();
    assert!(said.iter().any(|line| line.contains("100 log lines were dropped")), "{said:?}");
}

#[test]
fn diagnostics_are_bounded_and_flush_gives_up_in_time() {
    let (release, gate) = mpsc::channel::<()>();
    let print: Print = Box::new(move |_, _, _| {
        let _ = gate.recv();
        Ok(())
    });
    let queue = LogQueue::with_print(None, print);
    while queue.dropped() == 0 {
        queue.record(Level::Info, "t", "text".into());
    }
    assert!(!queue.flush(Duration::from_millis(20)), "the queue is full");
    drop(release);
    assert!(queue.flush(PATIENCE));
}

#[test]
fn a_log_that_works_again_says_what_is_lost() {
    let (queue, _diagnostics) = queue(None);
    let mut writer = idle_writer(&queue, None);
    writer.note_lost("'log'", &io::ErrorKind::StorageFull.into(), 3);
    writer.note_written("'log'");
    assert_eq!(writer.failing, Some(3), "not within a second of the last report");
    writer.last_report = None;
    writer.note_written("'log'");
    assert_eq!((writer.failing, writer.unreported(), queue.dropped()), (None, 0, 3));
}

#[test]
fn standard_error_may_fail() {
    let panicking: Print =
        Box::new(|_, _, _| std::panic::resume_unwind(Box::new("failed printing to stderr")));
    let failing: Print = Box::new(|_, _, _| Err(io::ErrorKind::WouldBlock.into()));
    for print in [panicking, failing] {
        let queue = LogQueue::with_print(None, print);
        for _ in 0..3 {
            queue.record(Level::Error, "t", "text".into());
        }
        assert!(queue.flush(PATIENCE));
        assert!(queue.flush(PATIENCE), "the thread lives on");
        assert_eq!(queue.dropped(), 3);
    }
}

#[test]
fn messages_cannot_reach_the_terminal() {
    let (queue, diagnostics) = queue(None);
    queue.record(Level::Warn, "t\x1b", "a\x1b[2Jb\nERROR forged\r\u{9b}1m\u{202e} 日本 \\x".into());
    let line = diagnostics.recv().unwrap();
    assert_eq!(line, "WARN [t\\u{1b}] a\\u{1b}[2Jb\\nERROR forged\\r\\u{9b}1m\\u{202e} 日本 \\x");
    queue.shared.colored.store(true, Ordering::Relaxed);
    queue.record(Level::Warn, "t", "\x1b".into());
    assert_eq!(diagnostics.recv().unwrap(), "WARN [t] \x1b[33m\\u{1b}\x1b[0m");
}

/// The twin's threads send lines one by one; a system call for each would slow them down.
#[test]
fn lines_of_several_threads_are_written_together() {
    let (reader, file) = UnixDatagram::pair().unwrap();
    let written = || {
        let mut piece = [0; 2 * LOG_BUFFER_BYTES];
        let bytes = reader.recv(&mut piece).unwrap_or(0);
        String::from_utf8(piece[..bytes].to_vec()).unwrap()
    };
    reader.set_nonblocking(true).unwrap();
    let (queue, _diagnostics) = queue(None);
    let mut writer = idle_writer(&queue, Some(AccessLog::over(file)));
    let gather = |writer: &mut Writer, text: &str| {
        queue.shared.queued_bytes.fetch_add(text.len(), Ordering::Relaxed);
        writer.take(Message::Gather(text.into()));
    };
    gather(&mut writer, "a\n");
    gather(&mut writer, "b\n");
    assert_eq!(written(), "", "they wait for others");
    assert!(writer.gathered_due.is_some());
    writer.take(Message::Wake);
    assert_eq!(written(), "");
    writer.take(Message::Flush(sync_channel(1).0));
    assert_eq!(written(), "a\nb\n", "one write, which is a message of its own here");
    assert_eq!((writer.gathered_due, queue.shared.queued_bytes.load(Ordering::Relaxed)), (None, 0));

    // Before the log is reopened they go to the old file, and later lines do not overtake them.
    gather(&mut writer, "c\n");
    queue.shared.reopen.store(true, Ordering::Relaxed);
    writer.take(Message::Gather("d\n".into()));
    assert_eq!((written(), written()), ("c\n".into(), String::new()));
    writer.take(Message::Access("e\n".into()));
    assert_eq!([written(), written()], ["d\n", "e\n"]);

    // A full buffer does not wait.
    let long = "x".repeat(LOG_BUFFER_BYTES - 3) + "\n";
    gather(&mut writer, &long);
    assert_eq!(written(), "");
    gather(&mut writer, "y\n");
    assert_eq!(written(), long + "y\n");
    gather(&mut writer, "z\n");
    drop(queue);
    writer.receiver = sync_channel(1).1;
    Box::new(writer).run(&Mutex::new(WriterSlot { writer: None, is_called: false }));
    assert_eq!(written(), "z\n", "lost with the last handle");
}

#[test]
fn spent_buffers_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let target = LogTarget::File(folder.path().join("log"));
    let (queue, _diagnostics) = queue(Some(open_access_log(&target).unwrap()));
    let mut lines = Vec::with_capacity(12_345);
    lines.extend_from_slice(b"one\n");
    // The writer may be done with the buffer before or after `access` takes a spare one.
    let at_once = queue.access(lines);
    assert!(queue.flush(PATIENCE));
    let spare = at_once.or_else(|| queue.shared.take_spare()).unwrap();
    assert_eq!((spare.len(), spare.capacity()), (0, 12_345));
    queue.shared.give_spare(spare);
    assert!(queue.access(b"two\n".to_vec()).is_some());
    queue.access(Vec::with_capacity(8 * LOG_BUFFER_BYTES));
    assert!(queue.flush(PATIENCE));
    while let Some(spare) = queue.shared.take_spare() {
        assert!(spare.capacity() < 8 * LOG_BUFFER_BYTES, "one long line does not stay for ever");
    }
}

#[test]
fn the_thread_ends_when_nothing_is_written_and_comes_back() {
    let (queue, diagnostics) = queue(None);
    for _ in 0..2 {
        queue.record(Level::Info, "t", "text".into());
        assert_eq!(diagnostics.recv_timeout(PATIENCE).unwrap(), "INFO [t] text");
        let give_up = now() + PATIENCE;
        while lock(&queue.slot).writer.is_none() {
            assert!(now() < give_up, "the writer is back in its slot");
            thread::yield_now();
        }
    }
    drop(queue);
    assert!(diagnostics.recv().is_err(), "the writer is dropped with the last handle");
}

#[test]
fn one_thread_is_called_however_much_is_logged_before_it_comes() {
    let (queue, diagnostics) = queue(None);
    lock(&queue.slot).is_called = true;
    queue.record(Level::Info, "t", "one".into());
    assert!(diagnostics.recv_timeout(Duration::from_millis(100)).is_err(), "a second thread came");
    lock(&queue.slot).is_called = false;
    queue.record(Level::Info, "t", "two".into());
    for text in ["one", "two"] {
        assert_eq!(diagnostics.recv_timeout(PATIENCE).unwrap(), format!("INFO [t] {text}"));
    }
}

/// No thread could be started until the queue was full. The next line must still start one.
#[test]
fn a_full_queue_calls_the_writer_too() {
    let (queue, diagnostics) = queue(None);
    queue.shared.queued_bytes.store(LOG_QUEUE_BYTES_MAX, Ordering::Relaxed);
    queue.access(b"one\n".to_vec());
    let line = diagnostics.recv_timeout(PATIENCE).expect("somebody says what was dropped");
    assert!(line.contains("1 log lines were dropped"), "{line}");
}

#[test]
fn a_guard_flushes() {
    let (queue, diagnostics) = queue(None);
    let guard = FlushGuard { queue: queue.clone(), timeout: PATIENCE };
    queue.record(Level::Error, "t", "last words".into());
    drop(guard);
    assert_eq!(diagnostics.try_recv().unwrap(), "ERROR [t] last words");
}

/// Resolving a trace holds a lock of the standard library, so other threads must not wait for it.
#[test]
fn the_writer_resolves_traces_one_at_a_time() {
    let (queue, lines) = queue(None);
    let trace = Trace::forced();
    assert!(Trace::collect().is_none(), "another one is under way");
    assert!(queue.send(Message::Trace(trace)).is_ok());
    let mut all = String::new();
    while let Ok(line) = lines.recv_timeout(PATIENCE) {
        all += &line;
        if line.contains("the_writer_resolves_traces_one_at_a_time") {
            break;
        }
    }
    assert!(all.contains("the_writer_resolves_traces_one_at_a_time"), "{all}");
    assert!(queue.flush(PATIENCE));
    assert!(!Trace::is_under_way(), "the next one may come");
}
