//! Settings: each limit and timeout with its name, unit, default and reason.
//!
//! `fixed` has the bounds that cannot be set.
//!
//! This folder holds only numbers and choices. It must not know how they are set (`cli/`) or which
//! code uses them. A bound that can be set, or that several modules share, is defined here. Any
//! other bound is a `const` with its reason, next to the loop, queue, buffer or wait that it
//! limits.

pub(crate) mod fixed;
mod rights;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use fixed::*;
pub use rights::{UploadRight, UploadRights, UploadRule};

/// Model that drives connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Model {
    /// One thread and one poll loop for all connections.
    Reactor,
    /// The twin: one blocking thread per connection.
    Threads,
}

/// Limits on the cost of clients. Read at the start and never changed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Largest request head (request line and headers) in bytes. 32 KiB hold the largest cookies
    /// that browsers send.
    pub head_bytes_max: usize,
    /// Largest number of headers in a request. Browsers send about 20, proxies add 10.
    pub fields_max: usize,
    /// Longest request target in bytes. RFC 9112 section 3 recommends at least 8000 octets.
    pub target_bytes_max: usize,
    /// Largest request body in bytes, unless its sink accepts more. A larger body gets a 413, at
    /// once if its length is announced.
    pub body_bytes_max: u64,
    /// Largest upload in bytes, in one request or several; 0 if uploads are not accepted.
    pub upload_bytes_max: u64,
    /// Largest number of uploads at once, each with a buffer of [`UPLOAD_BUFFER_BYTES`]. Beyond it:
    /// 503.
    pub uploads_max: usize,
    /// Total size of interrupted uploads that can be resumed, in bytes. `None`: [`PARTIAL_BYTES`],
    /// or one upload of the largest size if that is more. 0 keeps none.
    pub partial_bytes_max: Option<u64>,
    /// Number of uploads that were interrupted, or are complete and whose state can still be
    /// requested. The client with the most of them loses its oldest. Lower if descriptors are few.
    pub partials_max: usize,
    /// Largest trailer section, and largest size line of a chunk with extensions, in bytes.
    pub chunk_line_bytes_max: usize,
    /// Largest unwanted body in bytes that is read and discarded so that the connection stays open.
    /// A larger one closes the connection.
    pub discard_bytes_max: u64,
    /// Largest number of open connections; 0 means the descriptor limit less a reserve.
    pub connections_max: usize,
    /// Largest number of threads of the twin. Stacks are reserved, not resident, so thousands are
    /// affordable.
    pub threads_max: usize,
    /// Bytes that one connection may move in one turn; bytes of a file count a quarter. 256 KiB of
    /// an upload take about 50 us, 1 MiB of a file about 80 us. With any budget left, a connection
    /// may send a whole slice of a file, so no other waits for more than two slices.
    pub turn_bytes_max: usize,
    /// Requests of one connection that are handled in one turn; the rest is carried.
    pub turn_requests_max: usize,
    /// Events that one poll takes from the kernel; the rest comes with the next turn.
    pub events_per_poll: usize,
    /// Connections that are read, answered and sent to together. More would not gain anything: the
    /// benefit is that of fetching code once (`reactor/batch.rs`).
    pub batch_connections_max: usize,
    /// Connections accepted in one turn, because established clients take precedence.
    pub accepts_per_turn: usize,
    /// Deadlines checked in one turn.
    pub deadlines_per_turn: usize,
    /// Queued output of one client, in bytes, above which no further requests are parsed.
    pub send_high_water_bytes: usize,
    /// Queued output, in bytes, below which a body source must provide more.
    pub send_low_water_bytes: usize,
    /// Largest response body in bytes that is copied behind its head, so that both leave in one
    /// plain write.
    pub gather_bytes_max: usize,
    /// Largest size of one `sendfile` call in bytes. It is as much as is read ahead if the file is
    /// not in memory, and as much as a turn permits. So each turn checks at most once whether the
    /// pages are in memory.
    pub file_slice_bytes_max: usize,
    /// Unsent bytes that the kernel may hold per connection (`TCP_NOTSENT_LOWAT`). 0 keeps the
    /// default of the system, with which one stalled client can occupy about 4 MB.
    pub notsent_lowat_bytes: u32,
    /// Bytes that are read and discarded after a refusal, so that the client can read the response.
    pub linger_bytes_max: u64,
    /// Bytes held for incomplete requests of all connections of a loop.
    pub pool_bytes_max: usize,
    /// Request bodies collected in memory for all connections of a loop, in bytes. Beyond it: 503.
    pub collect_bytes_max: usize,
    /// Request bodies in memory and temporary files for all connections, in bytes: those of
    /// `/api/echo`, and those for programs before they start. Beyond it: 503.
    pub spool_bytes_max: u64,
    /// Temporary files for these bodies. Beyond it: 503. Lower if descriptors are few.
    pub spool_files_max: usize,
    /// Spare per-request records kept for reuse.
    pub spare_records_max: usize,
    /// Worker threads for blocking jobs.
    pub job_threads: usize,
    /// Jobs that may wait for a worker. Beyond it: 503.
    pub jobs_max: usize,
    /// Largest number of names read from a directory for a listing. The page states if there are
    /// more.
    pub listing_entries_max: usize,
    /// Lowest rate, in bytes per second, at which a client must send its body or read its response
    /// after the first timeout has passed. A slower client occupies a descriptor for nothing.
    pub rate_min_bytes: u64,
    /// Lowest rate, in bytes per second over [`Timeouts::busy`], at which a client must send its
    /// body while all slots of its kind are in use: programs, uploads, connections. A new client
    /// gets the slot of the slowest sender below this rate. A modem of 1998 sends 4 KiB/s, and any
    /// mobile phone more than 16 KiB/s.
    pub busy_rate_min_bytes: u64,
}

impl Limits {
    /// Returns the space for interrupted uploads in bytes. Every accepted upload can be resumed, so
    /// by default there is space for the largest one.
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
            events_per_poll: 1024,
            batch_connections_max: 16,
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

/// Timeouts of the phases of a connection. `None` disables a timeout.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// Longest wait of the kernel for the first byte of a new connection, in whole seconds. The
    /// kernel rounds up to 1, 3, 7, 15 and so on. 0 hands the connection over at once. See
    /// `server/listen.rs`.
    pub defer_accept: Duration,
    /// Time limit for a request head, from its first byte, or from the accept for the first
    /// request. Further bytes do not extend it.
    pub header: Option<Duration>,
    /// Longest pause in a request body; every byte restarts it.
    pub body: Option<Duration>,
    /// Period over which the rate of a sender is measured while all slots are in use. `None`
    /// disables the check. See [`Limits::busy_rate_min_bytes`].
    pub busy: Option<Duration>,
    /// Longest pause in which the client reads no byte of the response; every byte sent restarts
    /// it.
    pub send: Option<Duration>,
    /// Longest time without a request on a kept-alive connection.
    pub idle: Option<Duration>,
    /// Time limit for a response that a handler deferred.
    pub answer: Option<Duration>,
    /// Time limit for reading and discarding after a refusal. Further bytes do not extend it.
    pub linger: Duration,
    /// Time limit for a graceful stop. Connections that are open after it are closed.
    pub drain: Duration,
    /// Time for which an interrupted upload is kept for its client. `None` keeps it until space is
    /// needed.
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

/// Permitted targets of symbolic links below the docroot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Symlinks {
    /// Links are followed within the root.
    Inside,
    /// Links are never followed.
    No,
    /// Links are followed anywhere; the administrator is responsible for them.
    All,
}

/// A header for the responses at some paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRule {
    /// Pattern of the paths: `/assets/**`, `*.css`.
    pub pattern: String,
    /// Name of the header.
    pub name: String,
    /// Value of the header.
    pub value: String,
    /// Responses that receive the header.
    pub scope: HeaderScope,
}

/// Responses that receive the header of a [`HeaderRule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderScope {
    /// All responses, including errors. Replaces the server's own value.
    All,
    /// Responses with 2xx and 3xx, because an error must not be cached for as long as the missing
    /// file would be. A `no-store` of the server stays.
    Found,
}

/// Source of entity tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EtagFrom {
    /// Digest of the bytes of files up to 32 KiB, and of size and modification time beyond. Equal
    /// on all nodes with the same file.
    Content,
    /// Digest of size, inode and change time. It differs after each copy and each change of
    /// permissions, and for any two versions of a file.
    ChangeTime,
}

/// A media type for the files with an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeRule {
    /// Part of a file name after the last dot, in lower case.
    pub extension: String,
    /// Media type with its parameters.
    pub media_type: String,
}

/// Options for serving files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileOptions {
    /// Permitted targets of symbolic links.
    pub symlinks: Symlinks,
    /// Time for which a cached file is used without checking the disk. With zero every request
    /// checks.
    pub fresh: Duration,
    /// Largest file in bytes that is kept in memory. Larger files are sent from their descriptor.
    pub memory_file_bytes_max: u64,
    /// File content kept in memory, in bytes.
    pub cache_bytes_max: usize,
    /// Number of cached entries (files and open descriptors).
    pub cache_entries_max: usize,
    /// Name of the site on listings and other generated pages. Any text; it is escaped.
    pub title: Option<String>,
    /// Names of index files, which are sent for a directory. The first one that exists is used.
    pub index: Vec<String>,
    /// True if a directory without an index file gets a listing.
    pub listing: bool,
    /// Folders whose names are not listed, nor those of folders below them: decoded URL paths
    /// without a final slash.
    pub unlisted: Vec<String>,
    /// True if `name.br`, `name.zst` and `name.gz` are sent instead of `name` to clients that
    /// accept them.
    pub precompressed: bool,
    /// Compression level for text, 1 to 9; `None` disables compression on the fly. Level 4 takes a
    /// third of the time of level 6 for a few per cent more bytes.
    pub compress_level: Option<u32>,
    /// Smallest file in bytes that is compressed. Smaller files fit one packet anyway.
    pub compress_bytes_min: u64,
    /// Responses compressed at once over all connections. Each takes about 311 KiB. Beyond it,
    /// responses are sent uncompressed.
    pub compressors_max: usize,
    /// True if `/name` also serves `name.html`, and `/name.html` redirects to it.
    pub clean_urls: bool,
    /// Page for paths without a file, sent to clients that prefer HTML: the only page of an
    /// application with its own routing. A path below the docroot.
    pub spa: Option<String>,
    /// Pages to send with an error status instead of the built-in ones, as paths below the docroot.
    pub error_pages: Vec<(u16, String)>,
    /// True if pages reload when a file changes. HTML then receives a script, and compressed
    /// siblings of HTML files are not used.
    pub live_reload: bool,
    /// Headers by path. Of several rules for one header the last one applies.
    pub headers: Vec<HeaderRule>,
    /// Source of entity tags.
    pub etag: EtagFrom,
    /// Charset of text files that declare no other; `None` sends none.
    pub charset: Option<String>,
    /// Media types by extension, which replace the built-in ones. Of several rules for one
    /// extension the last one applies.
    pub types: Vec<TypeRule>,
    /// Folders whose files are never served, even below the docroot: the folders of programs.
    pub withheld: Vec<PathBuf>,
    /// True if a listing shows the README of the folder below the names.
    pub readme: bool,
    /// Largest README in bytes that is shown. The listing only links to a larger one.
    pub readme_bytes_max: u64,
    /// True if a folder can be downloaded as an archive. False by default, because an archive takes
    /// processor time and disk reads by the gigabyte, and contains files to which no page links.
    pub archives: bool,
    /// Archives packed at once. Each may hold a compressor, pieces and names: some hundred KiB, and
    /// in the worst case `archive_names_bytes_max`. Beyond it: 503.
    pub archives_max: usize,
    /// Largest number of entries in one archive; beyond it the archive is cut off. Links can make a
    /// small tree look endless.
    pub archive_entries_max: usize,
    /// Largest depth of folders in an archive.
    pub archive_depth_max: usize,
    /// Names that one archive may keep while it is packed, in bytes: those of the folders being
    /// read.
    pub archive_names_bytes_max: usize,
    /// Folders that accept uploads: decoded URL paths without a final slash, so empty for the
    /// docroot itself.
    pub uploads: Vec<String>,
    /// Rights in upload folders, other than the default. The innermost path counts.
    pub upload_rights: Vec<UploadRule>,
}

impl Default for FileOptions {
    fn default() -> Self {
        FileOptions {
            symlinks: Symlinks::Inside,
            fresh: Duration::from_millis(1),
            memory_file_bytes_max: 32 * KIB as u64,
            cache_bytes_max: 16 * MIB,
            cache_entries_max: 1024,
            title: None,
            index: vec!["index.html".to_owned()],
            listing: true,
            unlisted: Vec::new(),
            precompressed: true,
            compress_level: Some(4),
            compress_bytes_min: KIB as u64,
            compressors_max: 64,
            clean_urls: false,
            spa: None,
            error_pages: Vec::new(),
            live_reload: false,
            headers: Vec::new(),
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
            upload_rights: Vec::new(),
        }
    }
}

/// Address to listen on, before a port is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bind {
    /// An IP address, and a port if one was given.
    Ip(std::net::IpAddr, Option<u16>),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

/// Format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// NCSA common log format.
    Common,
    /// Common format with referrer and user agent.
    Combined,
    /// Combined format after `host:port`, as Apache's `vhost_combined`.
    VhostCombined,
    /// One JSON object per line.
    Json,
}

/// Log lines about the turns of a loop. Both kinds also measure the activities of the loop. The
/// threads model has no turns and ignores this setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnLines {
    /// None.
    Off,
    /// One line for each turn (`-vv`).
    Turns,
    /// Also a line for each step of a turn (`-vvv`).
    Steps,
}

/// Destination of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// This file, to which lines are appended.
    File(PathBuf),
}

/// Rule that requires a password for a part of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthRule {
    /// Decoded URL path that the rule covers, with everything below it.
    pub path: String,
    /// Users with access.
    pub users: AuthUsers,
}

/// Source of users and passwords.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthUsers {
    /// One user, with a password in plain text.
    One {
        /// Name of the user, without a colon.
        user: String,
        /// Password in plain text.
        password: String,
    },
    /// Users of an htpasswd file with bcrypt hashes.
    File(PathBuf),
}

impl std::fmt::Debug for AuthUsers {
    /// Omits the password, because a configuration may be printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AuthUsers::One { user, .. } => write!(f, "One({user:?})"),
            AuthUsers::File(path) => write!(f, "File({path:?})"),
        }
    }
}

/// Name by which this server may be addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllowedHost {
    /// Every name; names are not checked.
    Any,
    /// This name, in lower case and without a port.
    Name(String),
    /// This name and all names below it.
    Suffix(String),
}

/// Folder for a host with one or more names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vhost {
    /// Names of the host, in lower case and without a port. `*.example.org` matches all names below
    /// that one, `.example.org` the name itself as well.
    pub hosts: Vec<String>,
    /// Folder of the host.
    pub root: PathBuf,
}

/// Options for access, headers, redirects and hosts.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SiteOptions {
    /// Parts that require a password.
    pub auth: Vec<AuthRule>,
    /// Parts that require a password, or another one, for writing.
    pub write_auth: Vec<AuthRule>,
    /// Origins whose pages may read responses, as browsers write them; `*` for all. Empty disables
    /// CORS.
    pub cors: Vec<String>,
    /// File of redirects and rewrites.
    pub rules: Option<PathBuf>,
    /// Hosts with folders of their own. All other hosts get the main folder.
    pub vhosts: Vec<Vhost>,
    /// True if all other hosts are refused.
    pub strict_hosts: bool,
    /// Further names for which listings, archives and the server's own data are served and uploads
    /// are accepted.
    pub allow_hosts: Vec<AllowedHost>,
}

/// Folder of CGI scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgiFolder {
    /// Decoded URL path of the scripts.
    pub path: String,
    /// Folder on the disk.
    pub folder: PathBuf,
}

/// Options for CGI programs (RFC 3875).
#[derive(Clone)]
#[non_exhaustive]
pub struct CgiOptions {
    /// Folders of the programs.
    pub folders: Vec<CgiFolder>,
    /// Longest run of one program, from its start or the end of its request body. `None` disables
    /// the limit.
    pub timeout: Option<Duration>,
    /// Largest number of programs at once. Beyond it: 503.
    pub children_max: usize,
    /// Environment variables for programs in addition to those of the request.
    pub environment: Vec<(String, String)>,
    /// True if programs receive `Authorization`, which contains passwords.
    pub authorization: bool,
    /// True if processes that programs leave behind are reaped. For a process with the number 1,
    /// which inherits them; it treats all its children except programs as such.
    pub reaps_orphans: bool,
}

impl std::fmt::Debug for CgiOptions {
    /// Omits the values of the environment, because a configuration may be printed.
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
            // Longer than any user waits, and short enough to remove a script that hangs.
            timeout: Some(Duration::from_secs(60)),
            // A small interpreter takes 10 MB.
            children_max: 256,
            environment: Vec::new(),
            authorization: false,
            // A program that embeds the server may have children of its own.
            reaps_orphans: false,
        }
    }
}

/// Configuration of a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Folder to serve.
    pub root: PathBuf,
    /// Model that drives connections.
    pub model: Model,
    /// Number of loops that share the port, in the reactor model.
    pub reactors: usize,
    /// Addresses to listen on.
    pub binds: Vec<Bind>,
    /// Port for addresses without one.
    pub port: u16,
    /// True if the port was set. The default port may give way to the next free one; a port that
    /// was set may not.
    pub port_is_explicit: bool,
    /// Limits on the cost of clients.
    pub limits: Limits,
    /// Timeouts of the phases of a connection.
    pub timeouts: Timeouts,
    /// Options for serving files.
    pub files: FileOptions,
    /// Options for access, headers, redirects and hosts.
    pub site: SiteOptions,
    /// Options for CGI programs.
    pub cgi: CgiOptions,
    /// True if the simple-data routes below `/api/` are served. `None` decides by address and
    /// docroot.
    pub api: Option<bool>,
    /// True if `/_whirligig/health` is served.
    pub health: bool,
    /// True if `/_whirligig/metrics` is served. `None` decides by address, because the numbers are
    /// for operators and not for strangers.
    pub metrics: Option<bool>,
    /// Clients that may look at `/_whirligig/loop`: all with `true`, none with `false`. `None` is
    /// those on the server's own machine.
    pub loop_page: Option<bool>,
    /// Destination of the access log, if any.
    pub access_log: Option<LogTarget>,
    /// Format of the access log.
    pub log_format: LogFormat,
    /// Further files of the operator that are never served, and that clients cannot write, such as
    /// the configuration file. Files named elsewhere in this configuration are protected anyway.
    pub own_files: Vec<PathBuf>,
    /// Log lines about the turns of a loop.
    pub turn_lines: TurnLines,
}

impl Config {
    /// Returns the number of loops or acceptors that accept connections.
    #[must_use]
    pub fn loops(&self) -> usize {
        match self.model {
            Model::Reactor => self.reactors.max(1),
            Model::Threads => 1,
        }
    }

    /// Returns true if only this machine can reach the server: each address is a loopback address
    /// or a Unix socket. Addresses of private networks do not count, because other machines can
    /// reach them.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.binds.iter().all(|bind| match bind {
            Bind::Ip(ip, _) => ip.to_canonical().is_loopback(),
            Bind::Unix(_) => true,
        })
    }

    /// Returns every folder that is served.
    pub fn roots(&self) -> impl Iterator<Item = &std::path::Path> {
        std::iter::once(&*self.root).chain(self.site.vhosts.iter().map(|vhost| &*vhost.root))
    }
}

impl Default for Config {
    /// Current folder on loopback, with the reactor, all defaults and no log.
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
            loop_page: None,
            own_files: Vec::new(),
            access_log: None,
            log_format: LogFormat::Common,
            turn_lines: TurnLines::Off,
        }
    }
}
