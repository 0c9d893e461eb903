//! The flags. Each is defined once, here. Help, completions, the manual page, the keys of the
//! configuration file and `--show-config` are derived from the definition.
//!
//! Defaults come from `config`, and `--help` shows them. This file must not know the effect of a
//! value.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, Resettable, ValueHint};
use clap::{ArgAction, Command, Parser};

use crate::cli::value::{
    Charset, Color, ErrorPage, Level, Milliseconds, NoListing, Size, Timeout, bind, charset, count,
    drain_timeout, error_page, head_size, level, memory_size, milliseconds, no_listing, page, port, size,
    target_size, timeout, title, turn_size,
};
use crate::config::{
    AllowedHost, AuthRule, Bind, CgiFolder, CgiOptions, EtagFrom, FIELDS_CEILING, FileOptions, HeaderRule,
    Limits, LogFormat, Model, Symlinks, Timeouts, TypeRule, UPLOAD_BYTES_MAX, UploadRule, Vhost,
};
use crate::docroot::header_rules::{parse_cache_rule, parse_header_rule};
use crate::docroot::index::parse_index;
use crate::docroot::types::parse_type_rule;
use crate::features::allowed_hosts::parse_allowed_host;
use crate::features::auth::rule::{parse_file_rule, parse_user_rule};
use crate::features::cgi::{parse_folder, parse_variable};
use crate::features::cors::parse_origin;
use crate::features::hosts::parse_vhost;
use crate::features::upload::destination::parse_upload_path;
use crate::features::upload::rights::parse_upload_rights;

pub(super) const EXAMPLES: &str = "\
Examples:
  whirligig
      serve ./www, or the current folder, at http://127.0.0.1:8080/
  whirligig --lan report.pdf
      serve one file to other machines, with a QR code for phones
  whirligig --bind :: --port 80 --no-listing --access-log access.log /srv/www
      serve /srv/www on all IPv6 and IPv4 addresses and write an access log
  whirligig --model threads --max-threads 256 --idle-timeout 5 -v site
      serve ./site with one thread per connection and log more
  whirligig sim --seed 7 --steps
      run the loop over simulated clients and print every step
  whirligig step
      list questions about the loop, each with a run to step through
";

pub(super) const NOTES: &str = "\
Each option has an environment variable: --max-head 64KiB is
WHIRLIGIG_MAX_HEAD=64KiB. An option overrides its variable. Both override the
file named with --config, in which the setting is max-head = \"64KiB\". No other
file is read. SIZE takes the units k, M and G (powers of 1024), as in 512k, 64M
or 64MiB. SECS takes decimals.
The words sim, step, zoo and race as the first argument start the simulator,
the stepper, the zoo of bugs and the race of both models: whirligig step --help.
A folder of such a name is ./step.
Exit codes: 0 after a graceful stop; 1 if the server could not run or clients
were cut off; 2 for wrong usage; 130, 131 or 143 if a second signal stopped it.";

// A flag with an environment variable is a setting: a key of the configuration file and a line of
// `--show-config`, without further code. `-h` shows the first paragraph of a comment, and `--help`
// all of it. `hide_env_values = true` makes it a secret. To find out
// whether a setting was given, ask `Sources` and not clap. Pairs of contradictory flags go through
// `one_of`. A default that depends on something else stands in the help as [default: ...].
/// Serves a folder over HTTP/1.1 from one poll loop, or a thread per connection.
#[derive(Parser)]
#[command(name = "whirligig", version, max_term_width = 80, args_override_self = true)]
#[command(disable_help_flag = true, disable_version_flag = true, allow_negative_numbers = true)]
#[command(override_usage = "whirligig [OPTIONS] [ROOT]")]
#[command(after_help = "All options, limits and examples: whirligig --help")]
pub(super) struct Args {
    /// Folder to serve, or a single file [default: www if it exists, else .]
    #[arg(help_heading = "Folder", env = "WHIRLIGIG_ROOT", hide_env = true)]
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(super) root: Option<PathBuf>,

    /// Address to listen on
    ///
    /// ADDR, ADDR:PORT, [V6]:PORT or unix:PATH; repeatable; :: accepts IPv4 too
    #[arg(help_heading = "Address", short, long, value_name = "ADDR", value_parser = bind, value_delimiter = ',')]
    #[arg(default_value = "127.0.0.1", env = "WHIRLIGIG_BIND", hide_env = true)]
    pub(super) bind: Vec<Bind>,
    /// Port to listen on; 0 selects any free port
    ///
    /// If the default port is taken, the next free one is used
    #[arg(help_heading = "Address", short, long, value_name = "N", value_parser = port, default_value_t = 8080)]
    #[arg(env = "WHIRLIGIG_PORT", hide_env = true)]
    pub(super) port: u16,
    /// Listen on all interfaces, for other machines
    ///
    /// Short for --bind ::
    #[arg(help_heading = "Address", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_LAN", hide_env = true)]
    pub(super) lan: bool,
    /// Draw the first URL as a QR code [default: on a terminal with colours, beyond loopback]
    #[arg(help_heading = "Address", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_QR", hide_env = true, hide_short_help = true)]
    pub(super) qr: bool,
    /// Do not draw a QR code
    #[arg(help_heading = "Address", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_NO_QR", hide_env = true)]
    pub(super) no_qr: bool,
    /// Open the server in a browser
    ///
    /// Starts the first command of the variable BROWSER that works, or else xdg-open
    #[arg(help_heading = "Address", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_OPEN", hide_env = true)]
    pub(super) open: bool,
    /// Write all URLs to this file, one on a line, for scripts; removed when the server ends
    #[arg(help_heading = "Address", long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(env = "WHIRLIGIG_URL_FILE", hide_env = true, hide_short_help = true)]
    pub(super) url_file: Option<PathBuf>,

    #[command(flatten)]
    pub(super) files: FileArgs,
    #[command(flatten)]
    pub(super) uploads: UploadArgs,
    #[command(flatten)]
    pub(super) site: SiteArgs,
    #[command(flatten)]
    pub(super) cgi: CgiArgs,

    /// Serve the simple-data routes under /api/ [default: on loopback, unless ROOT has an api]
    #[arg(help_heading = "Data", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_API", hide_env = true, hide_short_help = true)]
    pub(super) api: bool,
    /// Do not serve the simple-data routes under /api/
    #[arg(help_heading = "Data", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_NO_API", hide_env = true, hide_short_help = true)]
    pub(super) no_api: bool,
    /// Do not serve the health check at /_whirligig/health
    #[arg(help_heading = "Data", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_NO_HEALTH", hide_env = true, hide_short_help = true)]
    pub(super) no_health: bool,
    /// Serve metrics for Prometheus at /_whirligig/metrics [default: on loopback]
    #[arg(help_heading = "Data", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_METRICS", hide_env = true, hide_short_help = true)]
    pub(super) metrics: bool,
    /// Do not serve metrics at /_whirligig/metrics
    #[arg(help_heading = "Data", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_NO_METRICS", hide_env = true, hide_short_help = true)]
    pub(super) no_metrics: bool,
    /// Show the running loop at /_whirligig/loop to every client [default: to this machine]
    #[arg(help_heading = "Data", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_LOOP_PAGE", hide_env = true, hide_short_help = true)]
    pub(super) loop_page: bool,
    /// Do not show the running loop at /_whirligig/loop
    #[arg(help_heading = "Data", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_NO_LOOP_PAGE", hide_env = true, hide_short_help = true)]
    pub(super) no_loop_page: bool,

    /// Access log: FILE, - (standard output) or off
    ///
    /// One line per request [default: - on a terminal, else off]
    #[arg(help_heading = "Logging", long, value_name = "FILE|-")]
    #[arg(env = "WHIRLIGIG_ACCESS_LOG", hide_env = true, value_hint = ValueHint::FilePath)]
    pub(super) access_log: Option<OsString>,
    /// Format of the access log: common, combined, vhost-combined (host first) or json
    #[arg(help_heading = "Logging", long, value_name = "FORM", hide_possible_values = true)]
    #[arg(value_enum, default_value_t = LogFormat::Common, env = "WHIRLIGIG_LOG_FORMAT", hide_env = true, hide_short_help = true)]
    pub(super) log_format: LogFormat,
    /// Log more to standard error
    ///
    /// The reactor logs each turn with -vv, each step with -vvv
    #[arg(help_heading = "Logging", short, long, action = ArgAction::Count)]
    #[arg(env = "WHIRLIGIG_VERBOSE", hide_env = true)]
    pub(super) verbose: u8,
    /// Log errors only, and print only the first URL
    #[arg(help_heading = "Logging", short, long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_QUIET", hide_env = true)]
    pub(super) quiet: bool,
    /// Use colours: auto, always or never; auto respects NO_COLOR
    #[arg(help_heading = "Logging", long, value_name = "WHEN", hide_possible_values = true)]
    #[arg(value_enum, default_value_t = Color::Auto, env = "WHIRLIGIG_COLOR", hide_env = true, hide_short_help = true)]
    pub(super) color: Color,

    /// reactor (one poll loop) or threads
    ///
    /// The threads model has one blocking thread per connection
    #[arg(help_heading = "Model", long, value_name = "MODEL", hide_possible_values = true)]
    #[arg(value_enum, default_value_t = Model::Reactor, env = "WHIRLIGIG_MODEL", hide_env = true)]
    pub(super) model: Model,
    /// Number of poll loops that share the port, one thread each; a good value is one per core
    #[arg(help_heading = "Model", long, value_name = "N", hide_short_help = true, value_parser = count::<1, 256>)]
    #[arg(default_value_t = 1, env = "WHIRLIGIG_REACTORS", hide_env = true)]
    pub(super) reactors: usize,
    /// Worker threads for short blocking jobs, and as many again for long jobs
    #[arg(help_heading = "Model", long, value_name = "N", hide_short_help = true, value_parser = count::<1, 256>)]
    #[arg(default_value_t = Limits::default().job_threads, env = "WHIRLIGIG_JOBS", hide_env = true)]
    pub(super) jobs: usize,

    #[command(flatten)]
    pub(super) timeouts: TimeoutArgs,
    #[command(flatten)]
    pub(super) limits: LimitArgs,

    /// Read settings from this TOML file
    ///
    /// Such as port = 80 for --port 80; no other file is read
    #[arg(help_heading = "Configuration file", long, hide_short_help = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(env = "WHIRLIGIG_CONFIG", hide_env = true)]
    pub(super) config: Option<PathBuf>,
    /// Print all settings and their sources as a configuration file, and exit
    #[arg(help_heading = "Configuration file", long, hide_short_help = true)]
    pub(super) show_config: bool,

    /// Print help; --help prints all options
    #[arg(help_heading = "Help", short, long, action = ArgAction::HelpShort)]
    pub(super) help: Option<bool>,
    /// Print the version
    #[arg(help_heading = "Help", short = 'V', long, action = ArgAction::Version)]
    pub(super) version: Option<bool>,
    /// Print completions for bash, elvish, fish, powershell or zsh
    #[arg(help_heading = "Help", long, value_name = "SHELL", hide_short_help = true)]
    #[arg(value_enum, hide_possible_values = true)]
    pub(super) completions: Option<clap_complete::Shell>,
    /// Print the manual page, for man -l -
    #[arg(help_heading = "Help", long, hide_short_help = true)]
    pub(super) man: bool,
}

/// Timeouts of the phases of a connection.
#[derive(clap::Args)]
#[command(next_help_heading = "Timeouts (seconds, decimals allowed; off for none)")]
pub(super) struct TimeoutArgs {
    /// Whole seconds the kernel waits for the first byte of a connection before it hands the
    /// connection over; 0 hands it over at once
    #[arg(long, value_name = "SECS", value_parser = count::<0, 127>, env = "WHIRLIGIG_DEFER_ACCEPT", hide_env = true)]
    #[arg(default_value_t = Timeouts::default().defer_accept.as_secs() as usize, hide_short_help = true)]
    pub(super) defer_accept: usize,
    /// Time limit for a whole request head, from its first byte
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_HEADER_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().header), hide_short_help = true)]
    pub(super) header_timeout: Timeout,
    /// Longest pause between bytes of a request body
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_BODY_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().body), hide_short_help = true)]
    pub(super) body_timeout: Timeout,
    /// Period over which --busy-rate is measured
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_BUSY_TIME", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().busy), hide_short_help = true)]
    pub(super) busy_time: Timeout,
    /// Longest pause in which a client reads no response byte
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_SEND_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().send), hide_short_help = true)]
    pub(super) send_timeout: Timeout,
    /// Longest time a kept-alive connection may stay idle
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_IDLE_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().idle), hide_short_help = true)]
    pub(super) idle_timeout: Timeout,
    /// Time limit for a response that a handler deferred
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_ANSWER_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().answer), hide_short_help = true)]
    pub(super) answer_timeout: Timeout,
    /// Time limit for a graceful stop; connections that are open after it are closed; 0 closes them
    /// at once
    #[arg(long, value_name = "SECS", value_parser = drain_timeout, env = "WHIRLIGIG_DRAIN_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Some(Timeouts::default().drain)), hide_short_help = true)]
    pub(super) drain_timeout: Timeout,
}

/// Limits on the cost of one client and of all clients together.
#[derive(clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// Largest request head (request line and headers)
    #[arg(long, value_name = "SIZE", value_parser = head_size, env = "WHIRLIGIG_MAX_HEAD", hide_env = true)]
    #[arg(default_value_t = Size::of(Limits::default().head_bytes_max), hide_short_help = true)]
    pub(super) max_head: Size,
    /// Largest number of headers in a request, up to 256
    #[arg(long, value_name = "N", value_parser = count::<1, FIELDS_CEILING>, env = "WHIRLIGIG_MAX_FIELDS")]
    #[arg(default_value_t = Limits::default().fields_max, hide_env = true, hide_short_help = true)]
    pub(super) max_fields: usize,
    /// Longest request target, at most --max-head
    #[arg(long, value_name = "SIZE", value_parser = target_size, env = "WHIRLIGIG_MAX_TARGET", hide_env = true)]
    #[arg(default_value_t = Size::of(Limits::default().target_bytes_max), hide_short_help = true)]
    pub(super) max_target: Size,
    /// Largest request body; for uploads see --max-upload
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WHIRLIGIG_MAX_BODY", hide_env = true)]
    #[arg(default_value_t = Size(Limits::default().body_bytes_max), hide_short_help = true)]
    pub(super) max_body: Size,
    /// Largest number of open connections [default: the limit on descriptors, less a reserve]
    #[arg(long, value_name = "N", value_parser = count::<1, 10_000_000>, env = "WHIRLIGIG_MAX_CONNECTIONS")]
    #[arg(hide_env = true, hide_short_help = true)]
    pub(super) max_connections: Option<usize>,
    /// Largest number of threads in the threads model; when all are in use, a new client replaces
    /// an idle or slow one (see --busy-rate)
    #[arg(long, value_name = "N", value_parser = count::<1, 1_000_000>, env = "WHIRLIGIG_MAX_THREADS")]
    #[arg(default_value_t = Limits::default().threads_max, hide_env = true, hide_short_help = true)]
    pub(super) max_threads: usize,
    /// Memory for incomplete requests, all connections together
    #[arg(long, value_name = "SIZE", value_parser = memory_size, env = "WHIRLIGIG_MAX_POOL", hide_env = true)]
    #[arg(default_value_t = Size::of(Limits::default().pool_bytes_max), hide_short_help = true)]
    pub(super) max_pool: Size,
    /// Memory for collected request bodies, all connections together
    #[arg(long, value_name = "SIZE", value_parser = memory_size, env = "WHIRLIGIG_MAX_COLLECT", hide_env = true)]
    #[arg(default_value_t = Size::of(Limits::default().collect_bytes_max), hide_short_help = true)]
    pub(super) max_collect: Size,
    /// Memory and temporary files for stored request bodies, all connections together; a body of up
    /// to 1 MiB for a CGI program is stored before the program starts
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WHIRLIGIG_MAX_SPOOL", hide_env = true)]
    #[arg(default_value_t = Size(Limits::default().spool_bytes_max), hide_short_help = true)]
    pub(super) max_spool: Size,
    /// Largest number of jobs that wait for a worker thread
    #[arg(long, value_name = "N", value_parser = count::<1, 1_000_000>, env = "WHIRLIGIG_MAX_JOBS")]
    #[arg(default_value_t = Limits::default().jobs_max, hide_env = true, hide_short_help = true)]
    pub(super) max_jobs: usize,
    /// Bytes that one connection may move per turn of the loop; bytes of a file count a quarter
    #[arg(long, value_name = "SIZE", value_parser = turn_size, env = "WHIRLIGIG_MAX_TURN_BYTES", hide_env = true)]
    #[arg(default_value_t = Size::of(Limits::default().turn_bytes_max), hide_short_help = true)]
    pub(super) max_turn_bytes: Size,
    /// Requests that one connection may make per turn of the loop
    #[arg(long, value_name = "N", value_parser = count::<1, 1_000_000>, env = "WHIRLIGIG_MAX_TURN_REQUESTS")]
    #[arg(default_value_t = Limits::default().turn_requests_max, hide_env = true, hide_short_help = true)]
    pub(super) max_turn_requests: usize,
    /// Events that the loop takes from the kernel per turn
    #[arg(long, value_name = "N", value_parser = count::<1, 65_536>, env = "WHIRLIGIG_MAX_TURN_EVENTS")]
    #[arg(default_value_t = Limits::default().events_per_poll, hide_env = true, hide_short_help = true)]
    pub(super) max_turn_events: usize,
    /// Ready connections that are read, answered and sent to together
    #[arg(long, value_name = "N", value_parser = count::<1, 1024>, env = "WHIRLIGIG_MAX_BATCH")]
    #[arg(default_value_t = Limits::default().batch_connections_max, hide_env = true, hide_short_help = true)]
    pub(super) max_batch: usize,
    /// Connections accepted per turn of the loop
    #[arg(long, value_name = "N", value_parser = count::<1, 1_000_000>, env = "WHIRLIGIG_MAX_TURN_ACCEPTS")]
    #[arg(default_value_t = Limits::default().accepts_per_turn, hide_env = true, hide_short_help = true)]
    pub(super) max_turn_accepts: usize,
    /// Bytes per second that a client must send or read once its timeout has passed; 0 disables the
    /// check
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WHIRLIGIG_MIN_RATE", hide_env = true)]
    #[arg(default_value_t = Size(Limits::default().rate_min_bytes), hide_short_help = true)]
    pub(super) min_rate: Size,
    /// Bytes per second that a client must send while the server is full, over --busy-time. If all
    /// slots for programs, uploads or connections are in use, a new client replaces the slowest one
    /// below this rate; 0 disables the check
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WHIRLIGIG_BUSY_RATE", hide_env = true)]
    #[arg(default_value_t = Size(Limits::default().busy_rate_min_bytes), hide_short_help = true)]
    pub(super) busy_rate: Size,
}

/// Options for serving files.
#[derive(clap::Args)]
#[command(next_help_heading = "Files")]
pub(super) struct FileArgs {
    /// Milliseconds for which a cached file is used without a check; 0 checks the disk on every
    /// request
    #[arg(long, value_name = "MS", value_parser = milliseconds, env = "WHIRLIGIG_FRESH", hide_env = true)]
    #[arg(default_value_t = Milliseconds(FileOptions::default().fresh), hide_short_help = true)]
    pub(super) fresh: Milliseconds,
    /// Symbolic links to follow: inside (within ROOT), no or all
    #[arg(long, value_name = "WHICH", hide_possible_values = true)]
    #[arg(value_enum, default_value_t = FileOptions::default().symlinks, env = "WHIRLIGIG_SYMLINKS", hide_env = true, hide_short_help = true)]
    pub(super) symlinks: Symlinks,
    /// File to send for a folder
    ///
    /// Repeatable: the first one that exists is sent
    #[arg(long, value_name = "NAME", value_parser = parse_index, value_delimiter = '\n')]
    #[arg(default_value = "index.html", env = "WHIRLIGIG_INDEX", hide_env = true)]
    pub(super) index: Vec<String>,
    /// Name of the site on listings and error pages
    #[arg(long, value_name = "TEXT", value_parser = title, env = "WHIRLIGIG_TITLE", hide_env = true)]
    pub(super) title: Option<String>,
    /// Respond with 404 to folders without an index
    ///
    /// With =PATH only to this folder and those below it; repeatable
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = no_listing, value_delimiter = ',', env = "WHIRLIGIG_NO_LISTING", hide_env = true)]
    pub(super) no_listing: Vec<NoListing>,
    /// Largest number of names in a listing; a longer one is cut off and marked
    #[arg(long, value_name = "N", value_parser = count::<1, 10_000_000>, env = "WHIRLIGIG_MAX_LISTING")]
    #[arg(default_value_t = Limits::default().listing_entries_max, hide_env = true, hide_short_help = true)]
    pub(super) max_listing: usize,
    /// Do not show the README of a folder below its listing
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_NO_README", hide_env = true)]
    #[arg(hide_short_help = true)]
    pub(super) no_readme: bool,
    /// Offer folders for download as archives
    ///
    /// They are packed while they are sent: /folder/?archive=tar, tar.gz or zip
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_ARCHIVES", hide_env = true)]
    pub(super) archives: bool,
    /// Largest number of archives packed at once
    #[arg(long, value_name = "N", value_parser = count::<1, 10_000>, env = "WHIRLIGIG_MAX_ARCHIVES")]
    #[arg(default_value_t = FileOptions::default().archives_max, hide_env = true, hide_short_help = true)]
    pub(super) max_archives: usize,
    /// Memory for the content of cached files; 0 caches none
    #[arg(long, value_name = "SIZE", value_parser = memory_size, env = "WHIRLIGIG_MAX_CACHE", hide_env = true)]
    #[arg(default_value_t = Size::of(FileOptions::default().cache_bytes_max), hide_short_help = true)]
    pub(super) max_cache: Size,
    /// Level at which text is compressed on the fly: 1 to 9, or off
    #[arg(long, value_name = "LEVEL", value_parser = level, env = "WHIRLIGIG_COMPRESS", hide_env = true)]
    #[arg(default_value_t = Level(FileOptions::default().compress_level), hide_short_help = true)]
    pub(super) compress: Level,
    /// Largest number of responses compressed at once, 311 KiB each; further ones are sent
    /// uncompressed
    #[arg(long, value_name = "N", value_parser = count::<0, 100_000>, env = "WHIRLIGIG_MAX_COMPRESSORS")]
    #[arg(default_value_t = FileOptions::default().compressors_max, hide_env = true, hide_short_help = true)]
    pub(super) max_compressors: usize,
    /// Source of entity tags: content or change-time; content gives the same tag on all nodes
    /// (beyond 32 KiB it uses size and modification time)
    #[arg(long, value_name = "WHICH", hide_possible_values = true, hide_short_help = true)]
    #[arg(value_enum, default_value_t = FileOptions::default().etag, env = "WHIRLIGIG_ETAG", hide_env = true)]
    pub(super) etag: EtagFrom,
    /// Charset of text files that declare no other, or off
    #[arg(long, value_name = "NAME", value_parser = charset, env = "WHIRLIGIG_CHARSET", hide_env = true)]
    #[arg(default_value_t = Charset(FileOptions::default().charset), hide_short_help = true)]
    pub(super) charset: Charset,
    /// Media type for a file extension, EXT=TYPE, as in 'log=text/plain; charset=x'; repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_type_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_MIME", hide_env = true, hide_short_help = true)]
    pub(super) mime: Vec<TypeRule>,
    /// Do not send NAME.br, NAME.zst or NAME.gz in place of NAME
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_NO_PRECOMPRESSED", hide_env = true)]
    #[arg(hide_short_help = true)]
    pub(super) no_precompressed: bool,
    /// Serve NAME.html at NAME
    ///
    /// NAME.html is redirected to NAME
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_CLEAN_URLS", hide_env = true)]
    pub(super) clean_urls: bool,
    /// Reload pages in browsers when a file changes
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_LIVE_RELOAD", hide_env = true)]
    pub(super) live_reload: bool,
    /// Page to send for paths that do not exist
    ///
    /// Without a value: /index.html
    #[arg(long, value_name = "PATH", value_parser = page, num_args = 0..=1, default_missing_value = "/index.html")]
    #[arg(require_equals = true, env = "WHIRLIGIG_SPA", hide_env = true)]
    pub(super) spa: Option<String>,
    /// Page to send with an error, as in 404=/404.html
    ///
    /// A page of ROOT for the status 403 or 404; repeatable
    #[arg(long, value_name = "CODE=PATH", value_parser = error_page, value_delimiter = ',')]
    #[arg(env = "WHIRLIGIG_ERROR_PAGE", hide_env = true)]
    pub(super) error_page: Vec<ErrorPage>,
}

/// Access to the site, headers, redirects and hosts. The environment variable of a repeatable flag
/// has one value per line.
#[derive(clap::Args)]
#[command(next_help_heading = "Site")]
pub(super) struct SiteArgs {
    /// Require a password: USER:PASSWORD[@/PATH]
    ///
    /// For a path and all below it; repeatable. After 5 wrong passwords an address receives each
    /// 401 later (0.25 to 8 s); clients behind a proxy share one address
    #[arg(help_heading = "Access", long, value_name = "RULE", value_parser = parse_user_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_AUTH", hide_env = true, hide_env_values = true)]
    pub(super) auth: Vec<AuthRule>,
    /// Require a password from an htpasswd file (bcrypt) for a path and all below it: FILE[@/PATH];
    /// repeatable; one or two checks run at once
    #[arg(help_heading = "Access", long, value_name = "RULE", value_parser = parse_file_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_HTPASSWD", hide_env = true, hide_short_help = true)]
    pub(super) htpasswd: Vec<AuthRule>,
    /// Origin whose pages may read responses (CORS)
    ///
    /// Such pages may also write to --upload folders. Without a value, or with *, all pages may
    /// read
    #[arg(help_heading = "Access", long, value_name = "ORIGIN", num_args = 0..=1, default_missing_value = "*", value_delimiter = ',')]
    #[arg(value_parser = parse_origin, env = "WHIRLIGIG_CORS", hide_env = true)]
    pub(super) cors: Vec<String>,
    /// Set a header on responses by path: 'PATTERN: Name: value'; Content-Type is set on files
    /// only; repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_header_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_HEADER", hide_env = true, hide_short_help = true)]
    pub(super) header: Vec<HeaderRule>,
    /// Set Cache-Control by path, except on errors: 'PATTERN: value'; repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_cache_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_CACHE_CONTROL", hide_env = true, hide_short_help = true)]
    pub(super) cache_control: Vec<HeaderRule>,
    /// File of redirects and rewrites, one per line
    #[arg(long, value_name = "FILE", env = "WHIRLIGIG_RULES", hide_env = true, hide_short_help = true)]
    pub(super) rules: Option<PathBuf>,
    /// Serve hosts from a folder of their own: HOST[,HOST]=ROOT; *.NAME matches all hosts below
    /// NAME, .NAME also NAME itself; repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_vhost, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_VHOST", hide_env = true, hide_short_help = true)]
    pub(super) vhost: Vec<Vhost>,
    /// Respond with 421 to hosts without a --vhost, except for health and metrics
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_STRICT_HOSTS", hide_env = true)]
    #[arg(hide_short_help = true)]
    pub(super) strict_hosts: bool,
    /// Host for which listings and uploads are allowed
    ///
    /// Also for archives, /api/ and /_whirligig/: NAME, .SUFFIX or any; repeatable [default on
    /// loopback: addresses, localhost and --vhost names; else any]
    #[arg(help_heading = "Access", long, value_name = "NAME", value_parser = parse_allowed_host, value_delimiter = ',')]
    #[arg(env = "WHIRLIGIG_ALLOW_HOST", hide_env = true)]
    pub(super) allow_host: Vec<AllowedHost>,
}

/// CGI programs. The environment variable of a repeatable flag has one value per line.
#[derive(clap::Args)]
#[command(next_help_heading = "CGI")]
pub(super) struct CgiArgs {
    /// Run the programs in DIR for requests below URLPATH (CGI): URLPATH=DIR; repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_folder, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_CGI", hide_env = true, hide_short_help = true)]
    pub(super) cgi: Vec<CgiFolder>,
    /// Longest run of one CGI program, from its start or the end of its request body
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_CGI_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(CgiOptions::default().timeout), hide_short_help = true)]
    pub(super) cgi_timeout: Timeout,
    /// Largest number of CGI programs at once; when all run, a new client replaces a slow one (see
    /// --busy-rate)
    #[arg(long, value_name = "N", value_parser = count::<1, 100_000>, env = "WHIRLIGIG_CGI_MAX", hide_env = true)]
    #[arg(default_value_t = CgiOptions::default().children_max, hide_short_help = true)]
    pub(super) cgi_max: usize,
    /// Environment variable for CGI programs: NAME=VALUE; repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_variable, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_CGI_ENV", hide_env = true, hide_env_values = true, hide_short_help = true)]
    pub(super) cgi_env: Vec<(String, String)>,
    /// Pass the Authorization header, which holds passwords, to CGI programs
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_CGI_AUTHORIZATION", hide_env = true)]
    #[arg(hide_short_help = true)]
    pub(super) cgi_authorization: bool,
}

/// Folders that accept uploads, and their limits.
#[derive(clap::Args)]
#[command(next_help_heading = "Uploads")]
pub(super) struct UploadArgs {
    /// Accept uploads to this folder, as in /inbox
    ///
    /// A folder of ROOT and all below it: PUT, DELETE, MKCOL and forms; repeatable
    #[arg(long, value_name = "PATH", value_parser = parse_upload_path, value_delimiter = ',')]
    #[arg(env = "WHIRLIGIG_UPLOAD", hide_env = true)]
    pub(super) upload: Vec<String>,
    /// Rights in an --upload folder
    ///
    /// PATH=RIGHTS for the folder or a folder below it; rights are create, replace, delete and
    /// rename, joined by +; repeatable [default: create+replace+delete]
    #[arg(long, value_name = "RULE", value_parser = parse_upload_rights, value_delimiter = ',')]
    #[arg(env = "WHIRLIGIG_UPLOAD_RIGHTS", hide_env = true, hide_short_help = true)]
    pub(super) upload_rights: Vec<UploadRule>,
    /// Largest upload
    ///
    /// For other request bodies see --max-body
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WHIRLIGIG_MAX_UPLOAD", hide_env = true)]
    #[arg(default_value_t = Size(UPLOAD_BYTES_MAX))]
    pub(super) max_upload: Size,
    /// Largest number of uploads at once, 256 KiB of memory each; beyond it a new client replaces a
    /// slow one (see --busy-rate)
    #[arg(long, value_name = "N", value_parser = count::<1, 100_000>, env = "WHIRLIGIG_MAX_UPLOADS")]
    #[arg(default_value_t = Limits::default().uploads_max, hide_env = true, hide_short_help = true)]
    pub(super) max_uploads: usize,
    /// Disk space for all interrupted uploads that can be resumed; 0 keeps none [default: 1G, or
    /// --max-upload if that is more]
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WHIRLIGIG_MAX_PARTIAL", hide_env = true)]
    #[arg(hide_short_help = true)]
    pub(super) max_partial: Option<Size>,
    /// Seconds for which an interrupted upload is kept
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_PARTIAL_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().partial), hide_short_help = true)]
    pub(super) partial_timeout: Timeout,
    /// Require a password to write: USER:PASSWORD[@/PATH]
    ///
    /// To a path and all below it; reading is not affected; repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_user_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_WRITE_AUTH", hide_env = true, hide_env_values = true)]
    pub(super) write_auth: Vec<AuthRule>,
    /// Require a password from an htpasswd file (bcrypt) for writing to a path and below:
    /// FILE[@/PATH]; repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_file_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_WRITE_HTPASSWD", hide_env = true, hide_short_help = true)]
    pub(super) write_htpasswd: Vec<AuthRule>,
}

/// Returns the flags with the whole comment of each as its help, in one paragraph. The short help
/// has only the first paragraph.
pub(super) fn with_whole_help(flags: Command) -> Command {
    flags.mut_args(|arg| {
        let whole = arg.get_long_help().map(|help| help.to_string().replace("\n\n", ". "));
        let arg = arg.hide_short_help(false).long_help(Resettable::Reset);
        match whole {
            Some(whole) => arg.help(whole),
            None => arg,
        }
    })
}

/// Properties of the process's environment on which defaults depend.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// Standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// Standard error is a terminal.
    pub stderr_is_terminal: bool,
    /// `NO_COLOR` is set, or the terminal is a dumb one.
    pub no_color: bool,
}

impl Surroundings {
    /// Reads the properties of this process.
    pub fn of_process() -> Surroundings {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Surroundings {
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            no_color: set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|term| term == "dumb"),
        }
    }
}
