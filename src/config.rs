//! Everything that can be set: each limit and timeout with its name, unit, default and the reason
//! for it.
//!
//! This file only holds numbers and choices. It must not know how they reach it (that is
//! `cli/mod.rs`) nor which code obeys them. A bound that can be set or that several modules share
//! stands here. Any other bound is a `const` with its reason, beside the loop, queue, buffer or
//! wait that it limits.

use std::path::PathBuf;
use std::time::Duration;

/// One KiB, in bytes.
pub const KIB: usize = 1024;
/// One MiB, in bytes.
pub const MIB: usize = 1024 * KIB;

/// The highest value `fields_max` may take: the table of field lines stands on the stack.
pub const FIELDS_CEILING: usize = 256;

/// A configuration file in bytes. One with a thousand lines has 64 KiB; what is larger is some
/// other file.
pub const CONFIG_FILE_BYTES_MAX: u64 = MIB as u64;

/// Access lines a loop collects before it hands them to the log's writer thread, in bytes.
pub const LOG_BUFFER_BYTES: usize = 16 * KIB;

/// How long an access line waits for others: short enough to follow a log by eye.
pub const LOG_BUFFER_AGE: Duration = Duration::from_millis(200);

/// Messages between everybody and the log's writer thread. Past it lines are dropped and counted.
pub const LOG_QUEUE_MAX: usize = 1024;

/// Access lines between the loops and the file, in bytes: some seconds of a busy server on a
/// stalled disk.
pub const LOG_QUEUE_BYTES_MAX: usize = 4 * MIB;

/// What is noted of a request for its log line is kept for the next request's, up to so many bytes:
/// a request line and two fields of the usual length.
pub const LOG_NOTE_BYTES_KEPT: usize = KIB;

/// Written access buffers kept for the loops to fill again.
pub const LOG_SPARE_BUFFERS_MAX: usize = 16;

/// One diagnostic message in bytes; the rest of it is cut off.
pub const LOG_MESSAGE_BYTES_MAX: usize = 4 * KIB;

/// Dropped log lines and failing logs are reported at most this often.
pub const LOG_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How long an access log that takes nothing may hold the writer thread; then the lines at hand are
/// lost.
pub const LOG_STALL_MAX: Duration = Duration::from_secs(1);

/// How long the end of a server or of the process waits for its log to be written.
pub const LOG_FLUSH_MAX: Duration = Duration::from_secs(1);

/// The longest timeout that can be asked for, and what a drain timeout of `off` means: a year is
/// for ever, and still far from where adding to a clock overflows.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long a right password is remembered: as long as a click is worth, so that a busy client
/// costs no bcrypt.
pub const AUTH_REMEMBERED_FOR: Duration = Duration::from_secs(5 * 60);

/// Right passwords remembered at once; the oldest goes.
pub const AUTH_REMEMBERED_MAX: usize = 1024;

/// Password checks that wait for a worker. Past it: 503. With the usual cost a worker does about 20
/// a second, so the last of them waits three seconds.
pub const AUTH_CHECKS_MAX: usize = 64;

/// Requests that may wait for one password check. A browser sends six at once with the same
/// password.
pub const AUTH_CHECK_REQUESTS_MAX: usize = 16;

/// Requests of remembered users that may wait for one look at the htpasswd files, which takes well
/// below a millisecond. Further ones go by the last look.
pub const AUTH_LOOK_REQUESTS_MAX: usize = 1024;

/// Wrong passwords from one address that are refused at once: a person mistypes, and a browser asks
/// with an old password for several files.
pub const AUTH_FAILURES_FREE: u32 = 5;

/// How long the next refusal for that address waits. It doubles with each further one.
pub const AUTH_DELAY_FIRST: Duration = Duration::from_millis(250);

/// The longest delay. Beyond it people would take the server for broken.
pub const AUTH_DELAY_MAX: Duration = Duration::from_secs(8);

/// How long after its last wrong password an address begins anew.
pub const AUTH_FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);

/// Refusals of one address that wait at once, whether its client still does or has closed the
/// connection. Past it: 429. A browser with an old password has six connections.
pub const AUTH_DELAYED_EACH_MAX: usize = 8;

/// Addresses whose wrong passwords are counted: 64 KiB, and 128 with all their delays.
pub const AUTH_ORIGINS_MAX: usize = 1024;

/// Refusals that wait at once; each holds a connection, and on the twin a thread. Past it: 429. At
/// most a quarter of the threads that the twin may have.
pub const AUTH_DELAYED_MAX: usize = 256;

/// How old an htpasswd file in memory may be before it is looked at again.
pub const AUTH_FRESH: Duration = Duration::from_secs(1);

/// An htpasswd file in bytes: some ten thousand users.
pub const AUTH_FILE_BYTES_MAX: u64 = MIB as u64;

/// The highest cost of a bcrypt hash: about four seconds of a worker thread. Each step more doubles
/// it.
pub const AUTH_COST_MAX: u32 = 16;

/// Request content a route takes, in bytes, unless it says otherwise: a form, a JSON document. It
/// is kept in memory.
pub const CONTENT_BYTES_MAX: u64 = MIB as u64;

/// Server-sent events that wait for one listener. A page that is behind by more has stopped
/// listening.
pub const FEED_EVENTS_MAX: usize = 64;

/// The same in bytes.
pub const FEED_BYTES_MAX: usize = 64 * KIB;

/// Past events kept for listeners that come again.
pub const FEED_HISTORY_MAX: usize = 64;

/// How often a listener without news gets a comment: what WHATWG HTML section 9.2.7 recommends.
pub const FEED_HEARTBEAT: Duration = Duration::from_secs(15);

/// `--live-reload` tells of changes when it has been quiet for so long: an editor or a build writes
/// many files at once.
pub const LIVE_QUIET: Duration = Duration::from_millis(50);

/// So many changes, one shortly after the other, are told although it was not quiet: a second or
/// two of them.
pub const LIVE_CHANGES_MAX: usize = 64;

/// How often the thread that watches looks whether it is still wanted.
pub const LIVE_LOOK: Duration = Duration::from_secs(1);

/// Folders that are watched. The system's own bound (fs.inotify.max_user_watches) is this or
/// higher.
pub const LIVE_WATCHES_MAX: usize = 8192;

/// Pages up to this size, in bytes, get the script of `--live-reload`: to them it is added in
/// memory.
pub const LIVE_PAGE_BYTES_MAX: u64 = MIB as u64;

/// What is added behind them.
pub const LIVE_TAG: &[u8] = b"\n<script src=\"/_whirligig/live.js\" async></script>\n";

/// The longest path that names a file, in bytes: PATH_MAX of Linux. Redirects and rewrites take no
/// longer one, so that no path can make a thousand rules expensive.
pub const PATH_BYTES_MAX: usize = 4096;

/// A file of redirects and rewrites, in bytes: each rule is tried for each request.
pub const RULES_FILE_BYTES_MAX: u64 = 256 * KIB as u64;

/// How long a thread beside the loops waits for something to do before it ends. While a process has
/// a second thread the kernel counts who uses a descriptor in every call, which costs a loop 3 %
/// (docs/performance.md); to start one again costs less than 0.1 ms.
pub const THREAD_REST: Duration = Duration::from_secs(1);

/// How long a result may lie unseen in the inbox of its loop: wake-ups may fail, so each loop looks
/// for itself this often. Once a second costs an idle server nothing that shows.
pub const INBOX_LOOK: Duration = Duration::from_secs(1);

/// Workers that check passwords. One check keeps a processor busy for some 50 ms, so two do 40 a
/// second; more would let a flood of guesses take the machine. With fewer than four processors
/// there is one.
pub const PASSWORD_WORKERS_MAX: usize = 2;

/// Different listings that wait for a worker, each with an open folder. Past it: 503. The listing
/// of 100,000 names takes some 100 ms, so the last of them waits some seconds.
pub const LISTINGS_WAITING_MAX: usize = 64;

/// Requests that may wait for one reading of a folder. Past it: 503.
pub const LISTING_REQUESTS_MAX: usize = 1024;

/// Entries that are being read for listings, in bytes. Those of a folder of 100,000 names of 255
/// bytes are 30 MB.
pub const LISTINGS_READ_BYTES_MAX: usize = 64 * MIB;

/// Long listings that are being sent, in bytes: their entries, and two pieces for each request.
/// Past it: 503, while listings that fit one piece are still made.
pub const LISTINGS_SENT_BYTES_MAX: usize = 64 * MIB;

/// How much a worker thread stands back behind the loops, as `nice` counts it: where processors are
/// short, who packs an archive waits, and not who asks for a page.
pub const JOB_NICENESS: i32 = 10;

/// What a script says before its content, in bytes: as much as a request may say before its own.
pub const CGI_HEAD_BYTES_MAX: usize = 32 * KIB;

/// Request content that is here before a script is started, in bytes: all of it, or so much of a
/// longer one. Until then a slow sender holds room in the spool, and no script.
pub const CGI_SPOOLED_BYTES: u64 = MIB as u64;

/// Request content on its way to a script in memory, in bytes, on top of what the pipe holds (64
/// KiB).
pub const CGI_PENDING_BYTES_MAX: usize = 64 * KIB;

/// How long the end of a script's output and its exit may be apart. A process that the script left
/// behind may hold the output open, and a script may go on working after it has closed it: neither
/// holds up the answer.
pub const CGI_GRACE: Duration = Duration::from_secs(1);

/// What a script may say to standard error, and what of its output may be read past, in one turn,
/// in bytes.
pub const CGI_TURN_BYTES_MAX: usize = 64 * KIB;

/// Lines of what a script says to standard error that are logged in one turn. A line costs a
/// microsecond or two, and 64 KiB may be thirty thousand of them; how many were left out is said.
pub const CGI_TURN_LINES_MAX: usize = 256;

/// A script that refers to a path that is a script that refers to a path: so often, then it is
/// going round in circles.
pub const CGI_REDIRECTS_MAX: u8 = 10;

/// Room for uploads that broke off, in bytes, unless a single upload may be larger: 1 GiB.
pub const PARTIAL_BYTES: u64 = 1024 * MIB as u64;

/// The most content of one upload unless another number is asked for, in bytes.
pub const UPLOAD_BYTES_MAX: u64 = 1024 * MIB as u64;

/// Content of an upload kept in memory before it is written, in bytes: a worker's step, long enough
/// that most of its time is writing.
pub const UPLOAD_BUFFER_BYTES: usize = 256 * KIB;

/// Files in one form that is uploaded.
pub const UPLOAD_PARTS_MAX: usize = 1000;

/// How connections are driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// One thread, one poll loop, all connections.
    Reactor,
    /// The twin: one blocking thread per connection.
    Threads,
}

/// What a peer may cost. Read at start, never changed.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A request head (request line and field lines) in bytes. 32 KiB holds the largest cookies
    /// browsers send.
    pub head_bytes_max: usize,
    /// Field lines in a head. Browsers send about 20, proxies add 10.
    pub fields_max: usize,
    /// The request target in bytes. RFC 9112 section 3 asks for 8000 octets at the least.
    pub target_bytes_max: usize,
    /// Request content in bytes, unless its sink takes more. More is 413, at once if the length is
    /// announced.
    pub body_bytes_max: u64,
    /// Content of one upload in bytes, in one request or several; 0 where none are taken.
    pub upload_bytes_max: u64,
    /// Uploads under way at once, each with a buffer of [`UPLOAD_BUFFER_BYTES`]. Past it: 503.
    pub uploads_max: usize,
    /// Uploads that broke off and can be resumed, in bytes of all of them. `None`:
    /// [`PARTIAL_BYTES`], or one upload of the greatest size if that is more. 0 keeps none.
    pub partial_bytes_max: Option<u64>,
    /// Uploads that broke off, or are complete and can still be asked about. The client with the
    /// most of them loses its oldest. Fewer if descriptors are few.
    pub partials_max: usize,
    /// The trailer section after the last chunk, and a chunk's size line with extensions, in bytes.
    pub chunk_line_bytes_max: usize,
    /// Content nobody wants is read and dropped up to here, so that the connection survives;
    /// beyond, it is closed.
    pub discard_bytes_max: u64,
    /// Connections at once; 0 means the descriptor limit less a reserve.
    pub connections_max: usize,
    /// Threads of the twin at once. Stacks are reserved, not resident, so thousands are affordable.
    pub threads_max: usize,
    /// Bytes one connection may move in one turn, those of a file counted as a quarter. 256 KiB of
    /// an upload take some 50 us, 1 MiB of a file some 80 us. Who has anything left may send a
    /// whole slice of a file, so nobody else waits for more than two of those.
    pub turn_bytes_max: usize,
    /// Requests one connection may have answered in one turn; the rest is carried.
    pub turn_requests_max: usize,
    /// Connections accepted in one turn: established clients come first.
    pub accepts_per_turn: usize,
    /// Deadlines looked at in one turn.
    pub deadlines_per_turn: usize,
    /// Output queued for one client above which its requests are not parsed any further, in bytes.
    pub send_high_water_bytes: usize,
    /// Queued output below which a body source is asked for more, in bytes.
    pub send_low_water_bytes: usize,
    /// A response body up to this size is copied behind its head, so that both leave in one plain
    /// write.
    pub gather_bytes_max: usize,
    /// One `sendfile` call asks for at most this many bytes. As many as are read ahead where they
    /// are not in memory, and as a turn allows for: so each turn asks the kernel at most once
    /// whether they are.
    pub file_slice_bytes_max: usize,
    /// What the kernel may hold unsent per connection (`TCP_NOTSENT_LOWAT`), in bytes; 0 leaves the
    /// system's own bound, which lets one stalled client pin about 4 MB.
    pub notsent_lowat_bytes: u32,
    /// After a refusal, bytes still read and dropped so that the client can take the answer.
    pub linger_bytes_max: u64,
    /// Bytes held for clients whose requests are incomplete, over all connections of a loop.
    pub pool_bytes_max: usize,
    /// Request content collected in memory, over all connections of a loop. Past it: 503.
    pub collect_bytes_max: usize,
    /// Request content kept in memory and temporary files by `/api/echo`, and before programs are
    /// started, over all connections. Past it: 503.
    pub spool_bytes_max: u64,
    /// Temporary files for that. Past it: 503. Fewer if descriptors are few.
    pub spool_files_max: usize,
    /// Spare per-request records kept for reuse.
    pub spare_records_max: usize,
    /// Worker threads for what may block.
    pub job_threads: usize,
    /// Jobs waiting for a worker. Past it: 503.
    pub jobs_max: usize,
    /// Names read from one directory for a listing; past it the page says so.
    pub listing_entries_max: usize,
    /// Least rate, in bytes a second, at which content must come and answers must be taken, after
    /// the first timeout has passed. A client slower than this holds a descriptor for nothing.
    pub rate_min_bytes: u64,
    /// Least rate, in bytes a second over [`Timeouts::busy`], at which content must come while all
    /// places of its kind are taken: programs, uploads, connections. A client without a place gets
    /// that of the slowest sender below this rate. A modem of 1998 sends 4 KiB/s, any mobile phone
    /// more than 16.
    pub busy_rate_min_bytes: u64,
}

impl Limits {
    /// The room for uploads that broke off, in bytes. An upload that may be sent can be resumed, so
    /// by default there is room for the largest one.
    pub(crate) fn partials_room(&self) -> u64 {
        self.partial_bytes_max.unwrap_or(PARTIAL_BYTES.max(self.upload_bytes_max))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_bytes_max: 32 * KIB,
            fields_max: 128,
            target_bytes_max: 16 * KIB,
            body_bytes_max: 64 * MIB as u64,
            upload_bytes_max: 0,
            uploads_max: 64,
            partial_bytes_max: None,
            partials_max: 256,
            chunk_line_bytes_max: 4 * KIB,
            discard_bytes_max: 256 * KIB as u64,
            connections_max: 0,
            threads_max: 4096,
            turn_bytes_max: 256 * KIB,
            turn_requests_max: 32,
            accepts_per_turn: 64,
            deadlines_per_turn: 1024,
            send_high_water_bytes: 64 * KIB,
            send_low_water_bytes: 32 * KIB,
            gather_bytes_max: 16 * KIB,
            file_slice_bytes_max: MIB,
            notsent_lowat_bytes: 128 * KIB as u32,
            linger_bytes_max: MIB as u64,
            pool_bytes_max: 8 * MIB,
            collect_bytes_max: 64 * MIB,
            spool_bytes_max: 1024 * MIB as u64,
            spool_files_max: 256,
            spare_records_max: 256,
            job_threads: 4,
            jobs_max: 1024,
            listing_entries_max: 100_000,
            rate_min_bytes: 64,
            busy_rate_min_bytes: 16 * KIB as u64,
        }
    }
}

/// How long each phase of a connection may take. `None` disables the timeout.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Silence of a new connection before the kernel hands it over at all, in whole seconds of
    /// which the kernel makes its next 1, 3, 7, 15...; zero: at once
    /// (`server/listen.rs` says more).
    pub defer_accept: Duration,
    /// A request head, absolute from its first byte (from the accept for the first one): a drip
    /// does not renew it.
    pub header: Option<Duration>,
    /// Silence while request content is due; renewed by progress.
    pub body: Option<Duration>,
    /// The time over which a sender is judged that holds a place all of which are taken. `None`
    /// judges nobody. See [`Limits::busy_rate_min_bytes`].
    pub busy: Option<Duration>,
    /// Silence while an answer is not taken; renewed by accepted bytes.
    pub send: Option<Duration>,
    /// A kept-alive connection without a request.
    pub idle: Option<Duration>,
    /// A handler's answer that was promised for later.
    pub answer: Option<Duration>,
    /// Reading and dropping after a refusal, absolute.
    pub linger: Duration,
    /// A graceful stop: what is not finished by then is cut off.
    pub drain: Duration,
    /// An upload that broke off is kept this long for its client to come back. `None` keeps it
    /// until there is no room.
    pub partial: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            defer_accept: Duration::from_secs(1),
            header: Some(Duration::from_secs(10)),
            body: Some(Duration::from_secs(30)),
            busy: Some(Duration::from_secs(10)),
            send: Some(Duration::from_secs(30)),
            idle: Some(Duration::from_secs(60)),
            answer: Some(Duration::from_secs(30)),
            linger: Duration::from_secs(2),
            drain: Duration::from_secs(10),
            partial: Some(Duration::from_secs(60 * 60)),
        }
    }
}

/// Where symbolic links below the docroot may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symlinks {
    /// Followed while they stay beneath the root.
    Inside,
    /// Never followed.
    No,
    /// Followed anywhere: the administrator vouches for them.
    All,
}

/// A header for the responses at some paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRule {
    /// The paths: `/assets/**`, `*.css`.
    pub pattern: String,
    /// The header's name.
    pub name: String,
    /// The header's value.
    pub value: String,
    /// The responses that have it.
    pub scope: FieldScope,
}

/// Responses that have the header of a [`FieldRule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldScope {
    /// All of them, errors included, in place of the server's own value.
    All,
    /// Those with 2xx and 3xx, because an error must not be cached for as long as the file that is
    /// missing. A `no-store` of the server stays.
    Found,
}

/// The origin of a file's entity-tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtagFrom {
    /// A digest of the bytes up to 32 KiB; of size and modification time beyond. Equal on all nodes
    /// that have the same file.
    Content,
    /// A digest of size, inode and change time. Another one after each copy and each change of
    /// permissions, and never the same for two versions.
    ChangeTime,
}

/// A media type for the files with an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeRule {
    /// The part of a name after its last dot, in lower case.
    pub extension: String,
    /// The media type, with its parameters.
    pub media_type: String,
}

/// How files are served.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Where symbolic links may lead.
    pub symlinks: Symlinks,
    /// For how long a cached file is used without a look at the disk. Zero looks every time.
    pub fresh: Duration,
    /// Files up to this size are kept in memory; larger ones are sent from their descriptor.
    pub memory_file_bytes_max: u64,
    /// Bytes of file content kept in memory.
    pub cache_bytes_max: usize,
    /// Entries (files and open descriptors) kept.
    pub cache_entries_max: usize,
    /// Whether a directory without an index file answers with a listing.
    pub listing: bool,
    /// Whether `name.br`, `name.zst` and `name.gz` beside `name` are sent in its place to clients
    /// that take them.
    pub precompressed: bool,
    /// The level, 1 to 9, at which text is compressed on the fly; `None` does not. 4 takes a third
    /// of the time of 6 for a few per cent more bytes.
    pub compress_level: Option<u32>,
    /// Files smaller than this are sent as they are: they fit one packet anyway.
    pub compress_bytes_min: u64,
    /// Answers compressed on the fly at once, over all connections; each takes about 311 KiB. Past
    /// it they are sent as they are.
    pub compressors_max: usize,
    /// Whether `/name` also means `name.html`, and `/name.html` is redirected to it.
    pub clean_urls: bool,
    /// What is served where nothing is, to clients that would like a page: the one page of an
    /// application that does its own routing. A path beneath the docroot.
    pub spa: Option<String>,
    /// Pages to send with a status in place of ours, as paths beneath the docroot.
    pub error_pages: Vec<(u16, String)>,
    /// Whether pages reload when a file changes. Then HTML gets a script, and coded files beside it
    /// are not looked for.
    pub live_reload: bool,
    /// Field lines by path; of those that say the same field the last one counts.
    pub fields: Vec<FieldRule>,
    /// The origin of entity-tags.
    pub etag: EtagFrom,
    /// The charset of texts that declare no other; `None` states none.
    pub charset: Option<String>,
    /// Media types by extension, in place of the server's own; of several for one extension the
    /// last counts.
    pub types: Vec<TypeRule>,
    /// Folders whose files are not given out, should they lie below the docroot: those of programs.
    pub withheld: Vec<PathBuf>,
    /// Whether a listing shows the folder's README below the names.
    pub readme: bool,
    /// A README longer than this is linked to and not shown.
    pub readme_bytes_max: u64,
    /// Whether a folder can be had as an archive. Off: it takes processor time and disk reads by
    /// the gigabyte, and it gives out files that no page links to.
    pub archives: bool,
    /// Archives in the making at once. Each may hold a compressor, pieces and names: some hundred
    /// KiB, and the names' bound at the worst. Past it: 503.
    pub archives_max: usize,
    /// Entries in one archive; there it is broken off. Links can make a small tree look endless.
    pub archive_entries_max: usize,
    /// Folders within folders in an archive.
    pub archive_depth_max: usize,
    /// Bytes of names that one archive in the making may keep: those of the folders it is in.
    pub archive_names_bytes_max: usize,
    /// Folders that take uploads: decoded URL paths without a slash at the end, so empty for the
    /// docroot itself.
    pub uploads: Vec<String>,
}

impl Default for FileOptions {
    fn default() -> Self {
        FileOptions {
            symlinks: Symlinks::Inside,
            fresh: Duration::from_millis(1),
            memory_file_bytes_max: 32 * KIB as u64,
            cache_bytes_max: 16 * MIB,
            cache_entries_max: 1024,
            listing: true,
            precompressed: true,
            compress_level: Some(4),
            compress_bytes_min: KIB as u64,
            compressors_max: 64,
            clean_urls: false,
            spa: None,
            error_pages: Vec::new(),
            live_reload: false,
            fields: Vec::new(),
            etag: EtagFrom::Content,
            charset: Some("utf-8".to_owned()),
            types: Vec::new(),
            withheld: Vec::new(),
            readme: true,
            readme_bytes_max: 64 * KIB as u64,
            archives: false,
            archives_max: 16,
            archive_entries_max: 1_000_000,
            archive_depth_max: 128,
            archive_names_bytes_max: 16 * MIB,
            uploads: Vec::new(),
        }
    }
}

/// One address to listen on, before ports are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// An IP address with its port, if it named one.
    Ip(std::net::IpAddr, Option<u16>),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

/// The form of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// NCSA common log format.
    Common,
    /// Common, with referrer and user agent.
    Combined,
    /// Combined behind `host:port`, as Apache's `vhost_combined`.
    VhostCombined,
    /// One JSON object a line.
    Json,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// Users who may see a part of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthRule {
    /// The decoded URL path it covers, with everything below it.
    pub path: String,
    /// Who they are.
    pub users: AuthUsers,
}

/// Where users and passwords come from.
#[derive(Clone, PartialEq, Eq)]
pub enum AuthUsers {
    /// One user, with a password that was given in clear.
    One {
        /// The name: without a colon.
        user: String,
        /// The password.
        password: String,
    },
    /// Those of an htpasswd file with bcrypt hashes.
    File(PathBuf),
}

impl std::fmt::Debug for AuthUsers {
    /// Without the password: a configuration may be printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AuthUsers::One { user, .. } => write!(f, "One({user:?})"),
            AuthUsers::File(path) => write!(f, "File({path:?})"),
        }
    }
}

/// A name that the operator has given this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHost {
    /// Every name: names are not looked at.
    Any,
    /// This name, in lower case and without a port.
    Name(String),
    /// This name and all names below it.
    Suffix(String),
}

/// A folder of its own for a host with one or more names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vhost {
    /// The names of the host, in lower case and without a port. `*.example.org` stands for all
    /// names below that one, `.example.org` for the name as well.
    pub hosts: Vec<String>,
    /// The folder.
    pub root: PathBuf,
}

/// Who may see what of the site, and where its parts are found.
#[derive(Clone, Debug, Default)]
pub struct SiteOptions {
    /// Which parts take a password.
    pub auth: Vec<AuthRule>,
    /// Which parts take another password, or one at all, to be changed.
    pub write_auth: Vec<AuthRule>,
    /// The origins whose pages may read answers: as browsers write them, `*` for all. None: no
    /// CORS.
    pub cors: Vec<String>,
    /// A file of redirects and rewrites.
    pub rules: Option<PathBuf>,
    /// Hosts with folders of their own; the others are served the main one.
    pub vhosts: Vec<Vhost>,
    /// Whether the others are refused instead.
    pub strict_hosts: bool,
    /// Further names under which listings, archives and the server's own data are given out, and
    /// files may be written.
    pub allow_hosts: Vec<AllowedHost>,
}

/// A folder of scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgiFolder {
    /// The decoded URL path below which they are.
    pub path: String,
    /// The folder.
    pub folder: PathBuf,
}

/// Programs that are run to answer requests (RFC 3875).
#[derive(Clone)]
pub struct CgiOptions {
    /// Where they are.
    pub folders: Vec<CgiFolder>,
    /// How long one may take, from its start or the last of its content to its end. `None`: for
    /// ever.
    pub timeout: Option<Duration>,
    /// How many may run at once. Past it: 503.
    pub children_max: usize,
    /// What they find in their environment beside what the request says.
    pub environment: Vec<(String, String)>,
    /// Whether they are shown `Authorization`: then they see passwords.
    pub authorization: bool,
    /// Whether processes that they leave running are reaped when they end. For a process with the
    /// number 1, which inherits them; all its children but programs are taken for such.
    pub reaps_orphans: bool,
}

impl std::fmt::Debug for CgiOptions {
    /// Without the environment's values: a configuration may be printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.environment.iter().map(|(name, _)| &name[..]).collect();
        f.debug_struct("CgiOptions")
            .field("folders", &self.folders)
            .field("timeout", &self.timeout)
            .field("children_max", &self.children_max)
            .field("environment", &names)
            .field("authorization", &self.authorization)
            .field("reaps_orphans", &self.reaps_orphans)
            .finish()
    }
}

impl Default for CgiOptions {
    fn default() -> Self {
        CgiOptions {
            folders: Vec::new(),
            // Longer than any reader waits, shorter than anyone wants to be rid of a script that
            // hangs.
            timeout: Some(Duration::from_secs(60)),
            // A small interpreter takes 10 MB.
            children_max: 256,
            environment: Vec::new(),
            authorization: false,
            // Another program around the server may have children of its own.
            reaps_orphans: false,
        }
    }
}

/// The whole of what a server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder that is served.
    pub root: PathBuf,
    /// How connections are driven.
    pub model: Model,
    /// Loops that share the port, of the reactor.
    pub reactors: usize,
    /// Addresses to listen on.
    pub binds: Vec<Bind>,
    /// The port for binds that name none.
    pub port: u16,
    /// Whether the port was asked for. The default one may give way to the next free one; an
    /// asked-for one may not.
    pub port_is_explicit: bool,
    /// What a peer may cost.
    pub limits: Limits,
    /// How long each phase may take.
    pub timeouts: Timeouts,
    /// How files are served.
    pub files: FileOptions,
    /// Who may see what, and where.
    pub site: SiteOptions,
    /// Programs that answer.
    pub cgi: CgiOptions,
    /// The simple-data routes below `/api/`: `None` decides by address and docroot.
    pub api: Option<bool>,
    /// Whether `/_whirligig/health` says that the loop turns.
    pub health: bool,
    /// `/_whirligig/metrics`: `None` decides by address. The numbers are for who runs the server,
    /// not for strangers.
    pub metrics: Option<bool>,
    /// Where requests are logged, if anywhere.
    pub access_log: Option<LogTarget>,
    /// In which form.
    pub log_format: LogFormat,
    /// Further files of the operator that are never served nor written by clients, such as the
    /// configuration file. Those that this value names elsewhere are protected anyway.
    pub own_files: Vec<PathBuf>,
    /// Whether `Log` output for a turn is wanted (`-vv`).
    pub turn_lines: bool,
}

impl Config {
    /// How many loops, or acceptors, take connections.
    #[must_use]
    pub fn loops(&self) -> usize {
        match self.model {
            Model::Reactor => self.reactors.max(1),
            Model::Threads => 1,
        }
    }

    /// True if only this machine reaches the server: each address is a loopback address or a Unix
    /// socket. Addresses of private networks do not count, because other machines reach those.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.binds.iter().all(|bind| match bind {
            Bind::Ip(ip, _) => ip.to_canonical().is_loopback(),
            Bind::Unix(_) => true,
        })
    }

    /// Every folder that is served.
    pub fn roots(&self) -> impl Iterator<Item = &std::path::Path> {
        std::iter::once(&*self.root).chain(self.site.vhosts.iter().map(|vhost| &*vhost.root))
    }
}

impl Default for Config {
    /// The present folder on loopback, over the reactor, with every default and no log.
    fn default() -> Self {
        Config {
            root: PathBuf::from("."),
            model: Model::Reactor,
            reactors: 1,
            binds: vec![Bind::Ip(std::net::IpAddr::from([127, 0, 0, 1]), None)],
            port: 8080,
            port_is_explicit: false,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            files: FileOptions::default(),
            site: SiteOptions::default(),
            cgi: CgiOptions::default(),
            api: None,
            health: true,
            metrics: None,
            own_files: Vec::new(),
            access_log: None,
            log_format: LogFormat::Common,
            turn_lines: false,
        }
    }
}
