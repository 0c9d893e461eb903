//! Bounds that several modules share and that no option changes, each with unit and reason.
//!
//! This file must not know which code uses them.

use std::time::Duration;

/// One KiB, in bytes.
pub const KIB: usize = 1024;
/// One MiB, in bytes.
pub const MIB: usize = 1024 * KIB;

/// Largest value of `fields_max`. The table of headers is on the stack.
pub const FIELDS_CEILING: usize = 256;

/// Largest configuration file in bytes. A file of a thousand lines has 64 KiB; anything larger is
/// probably another file.
pub const CONFIG_FILE_BYTES_MAX: u64 = MIB as u64;

/// Access lines that a loop collects before it sends them to the writer thread, in bytes.
pub const LOG_BUFFER_BYTES: usize = 16 * KIB;

/// Longest time that an access line waits for others. It is short enough to follow a log by eye.
pub const LOG_BUFFER_AGE: Duration = Duration::from_millis(200);

/// Capacity of the queue to the writer thread of the log, in messages. If it is full, lines are
/// dropped and counted.
pub const LOG_QUEUE_MAX: usize = 1024;

/// Access lines that may wait to be written, in bytes: a few seconds of a busy server on a stalled
/// disk.
pub const LOG_QUEUE_BYTES_MAX: usize = 4 * MIB;

/// Capacity of the note for a log line that is kept for the next request, in bytes. It holds a
/// request line and two headers of usual length.
pub const LOG_NOTE_BYTES_KEPT: usize = KIB;

/// Empty access buffers that are kept for reuse.
pub const LOG_SPARE_BUFFERS_MAX: usize = 16;

/// Largest diagnostic message in bytes; the rest is cut off.
pub const LOG_MESSAGE_BYTES_MAX: usize = 4 * KIB;

/// Shortest time between two reports of dropped log lines or failing logs.
pub const LOG_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Longest time for which an access log that accepts no bytes may block the writer thread. Then the
/// lines being written are lost.
pub const LOG_STALL_MAX: Duration = Duration::from_secs(1);

/// Longest wait for the log to be written when a server or the process ends.
pub const LOG_FLUSH_MAX: Duration = Duration::from_secs(1);

/// Longest timeout, and the value of a drain timeout of `off`. A year is practically for ever, and
/// adding it to a clock cannot overflow.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Time for which a correct password is remembered, so that a busy client needs no bcrypt for every
/// request.
pub const AUTH_REMEMBERED_FOR: Duration = Duration::from_secs(5 * 60);

/// Number of correct passwords that are remembered. Beyond it the oldest is forgotten.
pub const AUTH_REMEMBERED_MAX: usize = 1024;

/// Password checks that may wait for a worker. Beyond it: 503. At the usual cost a worker does
/// about 20 checks a second, so the last one waits three seconds.
pub const AUTH_CHECKS_MAX: usize = 64;

/// Requests that may wait for one password check. A browser sends six at once with the same
/// password.
pub const AUTH_CHECK_REQUESTS_MAX: usize = 16;

/// Requests of remembered users that may wait for one check of the htpasswd files, which takes well
/// below a millisecond. Further requests use the result of the previous check.
pub const AUTH_LOOK_REQUESTS_MAX: usize = 1024;

/// Wrong passwords from one address that are refused without delay. A person mistypes, and a
/// browser requests several files with an old password.
pub const AUTH_FAILURES_FREE: u32 = 5;

/// Delay of the first delayed refusal for an address. It doubles with each further one.
pub const AUTH_DELAY_FIRST: Duration = Duration::from_millis(250);

/// Longest delay of a refusal. With a longer one, users would assume that the server is broken.
pub const AUTH_DELAY_MAX: Duration = Duration::from_secs(8);

/// Time after the last wrong password of an address when its count is reset.
pub const AUTH_FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);

/// Refusals of one address that may be delayed at once, including those whose client has closed the
/// connection. Beyond it: 429. A browser with an old password has six connections.
pub const AUTH_DELAYED_EACH_MAX: usize = 8;

/// Addresses for which wrong passwords are counted. They take 64 KiB, and 128 KiB with all their
/// delays.
pub const AUTH_ORIGINS_MAX: usize = 1024;

/// Refusals that may be delayed at once. Each holds a connection and, on the twin, a thread. Beyond
/// it: 429. At most a quarter of the twin's threads are used for them.
pub const AUTH_DELAYED_MAX: usize = 256;

/// Largest age of an htpasswd file in memory before the file on disk is checked again.
pub const AUTH_FRESH: Duration = Duration::from_secs(1);

/// Largest htpasswd file in bytes: about ten thousand users.
pub const AUTH_FILE_BYTES_MAX: u64 = MIB as u64;

/// Largest cost of a bcrypt hash: about four seconds of a worker thread. Each further step doubles
/// the time.
pub const AUTH_COST_MAX: u32 = 16;

/// Largest request body of a route in bytes, unless the route sets another limit: a form, a JSON
/// document. The body is kept in memory.
pub const CONTENT_BYTES_MAX: u64 = MIB as u64;

/// Server-sent events that may wait for one listener. A page that is further behind has stopped
/// reading.
pub const FEED_EVENTS_MAX: usize = 64;

/// Server-sent events that may wait for one listener, in bytes.
pub const FEED_BYTES_MAX: usize = 64 * KIB;

/// Past events that are kept for listeners that reconnect.
pub const FEED_HISTORY_MAX: usize = 64;

/// Interval at which a listener without events receives a comment, as WHATWG HTML section 9.2.7
/// recommends.
pub const FEED_HEARTBEAT: Duration = Duration::from_secs(15);

/// Time without changes after which `--live-reload` reports them. An editor or a build writes many
/// files at once.
pub const LIVE_QUIET: Duration = Duration::from_millis(50);

/// Number of changes in quick succession that are reported without waiting for [`LIVE_QUIET`]: a
/// second or two of them.
pub const LIVE_CHANGES_MAX: usize = 64;

/// Interval at which the watching thread checks whether it is still needed.
pub const LIVE_LOOK: Duration = Duration::from_secs(1);

/// Largest number of watched folders. The limit of the system (fs.inotify.max_user_watches) is this
/// or higher.
pub const LIVE_WATCHES_MAX: usize = 8192;

/// Largest page in bytes that receives the script of `--live-reload`, which is added in memory.
pub const LIVE_PAGE_BYTES_MAX: u64 = MIB as u64;

/// HTML that is added at the end of such a page.
pub const LIVE_TAG: &[u8] = b"\n<script src=\"/_whirligig/live.js\" async></script>\n";

/// Longest path of a file, in bytes: PATH_MAX of Linux. Redirects and rewrites accept no longer
/// path, so that no path can make a thousand rules expensive.
pub const PATH_BYTES_MAX: usize = 4096;

/// Largest file of redirects and rewrites in bytes, because each rule is tried for each request.
pub const RULES_FILE_BYTES_MAX: u64 = 256 * KIB as u64;

/// Time without work after which a thread beside the loops ends. While a process has a second
/// thread, the kernel counts the users of a descriptor in every call, which costs a loop 3 %
/// (docs/performance.md). Starting a thread again costs less than 0.1 ms.
pub const THREAD_REST: Duration = Duration::from_secs(1);

/// Interval at which each loop checks its inbox without a wake-up, because wake-ups may fail. Once
/// a second costs an idle server nothing measurable.
pub const INBOX_LOOK: Duration = Duration::from_secs(1);

/// Workers that check passwords. One check keeps a processor busy for about 50 ms, so two workers
/// do 40 a second. With more, a flood of guesses could take over the machine. With fewer than four
/// processors there is one worker.
pub const PASSWORD_WORKERS_MAX: usize = 2;

/// Different listings that may wait for a worker, each with an open folder. Beyond it: 503. A
/// listing of 100,000 names takes about 100 ms, so the last one waits some seconds.
pub const LISTINGS_WAITING_MAX: usize = 64;

/// Requests that may wait for one read of a folder. Beyond it: 503.
pub const LISTING_REQUESTS_MAX: usize = 1024;

/// Entries that are being read for listings, in bytes. A folder of 100,000 names of 255 bytes has
/// 30 MB of them.
pub const LISTINGS_READ_BYTES_MAX: usize = 64 * MIB;

/// Long listings that are being sent, in bytes: their entries, and two pieces for each request.
/// Beyond it: 503, except for listings that fit one piece.
pub const LISTINGS_SENT_BYTES_MAX: usize = 64 * MIB;

/// `nice` value of worker threads. When processors are scarce, archives wait and page requests do
/// not.
pub const JOB_NICENESS: i32 = 10;

/// Largest head of a script's response in bytes: as large as a request head may be.
pub const CGI_HEAD_BYTES_MAX: usize = 32 * KIB;

/// Request body that is received before a script starts, in bytes: all of it, or this much of a
/// longer one. Until then a slow sender occupies spool space but no script.
pub const CGI_SPOOLED_BYTES: u64 = MIB as u64;

/// Request body in memory on its way to a script, in bytes, in addition to the content of the pipe
/// (64 KiB).
pub const CGI_PENDING_BYTES_MAX: usize = 64 * KIB;

/// Longest time between the end of a script's output and its exit. A process that the script left
/// behind may hold the output open, and a script may continue after it has closed its output.
/// Neither may delay the response.
pub const CGI_GRACE: Duration = Duration::from_secs(1);

/// Bytes of a script's standard error that are read, and bytes of its output that may be discarded,
/// in one turn.
pub const CGI_TURN_BYTES_MAX: usize = 64 * KIB;

/// Lines of a script's standard error that are logged in one turn. A line costs a microsecond or
/// two, and 64 KiB may contain thirty thousand of them. The log contains the number of omitted
/// lines.
pub const CGI_TURN_LINES_MAX: usize = 256;

/// Largest number of consecutive local redirects from script to script. More indicate a loop.
pub const CGI_REDIRECTS_MAX: u8 = 10;

/// Space for interrupted uploads in bytes, unless a single upload may be larger: 1 GiB.
pub const PARTIAL_BYTES: u64 = 1024 * MIB as u64;

/// Largest upload in bytes by default.
pub const UPLOAD_BYTES_MAX: u64 = 1024 * MIB as u64;

/// Buffer of an upload in bytes, which a worker writes in one step. It is large enough that most of
/// that time is spent writing.
pub const UPLOAD_BUFFER_BYTES: usize = 256 * KIB;

/// Largest number of files in one uploaded form.
pub const UPLOAD_PARTS_MAX: usize = 1000;
