//! The command line: flags, environment variables and the configuration file in, a [`Config`] or
//! one line about what is wrong out; and the banner.
//!
//! A flag is defined once, in `Args`. Help, completions, the manual page, the keys of the file and
//! `--show-config` are made of the definition. Defaults are not written here: they come from
//! `config.rs`, and `--help` shows them from there. This file must not know who obeys the settings,
//! and it starts nothing. It looks at the disk only to say in time that the folder to be served is
//! not there.

mod exit;
mod file;
mod hint;
mod manual;
mod setting;
mod show;
mod value;

pub use exit::Exit;

use crate::config::{
    AllowedHost, AuthRule, Bind, CgiFolder, CgiOptions, Config, EtagFrom, FIELDS_CEILING, FieldRule,
    FileOptions, Limits, LogFormat, LogTarget, Model, SiteOptions, Symlinks, TIMEOUT_MAX, Timeouts, TypeRule,
    UPLOAD_BYTES_MAX, Vhost,
};
use crate::docroot::types::parse_type_rule;
use crate::features::auth::rule::{parse_file_rule, parse_user_rule};
use crate::features::cgi::{parse_folder, parse_variable};
use crate::features::cors::parse_origin;
use crate::features::headers::{parse_cache_rule, parse_field_rule};
use crate::features::hosts::parse_vhost;
use crate::features::names::parse_allowed_host;
use crate::features::upload::parse_upload_path;
use crate::log::{AccessLog, escape_control, open_access_log};
use clap::builder::{BoolishValueParser, ValueHint};
use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser};
use exit::exit_of;
use file::ConfigFile;
use log::LevelFilter;
use setting::Sources;
use std::cmp::Ordering;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use value::{
    Charset, Color, ErrorPage, Level, Milliseconds, Size, Timeout, bind, charset, count, drain_timeout,
    error_page, head_size, level, memory_size, milliseconds, name_of, page, port, size, target_size, timeout,
    turn_size,
};

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Startup {
    /// What the server needs to know.
    pub config: Config,
    /// How much is said on standard error.
    pub log_level: LevelFilter,
    /// Prints where the server is reached.
    pub banner: Banner,
    /// Whether standard error takes colours.
    pub color_stderr: bool,
    /// Settings that may not mean what they seem to, a line each, for the log.
    pub warnings: Vec<String>,
}

/// The lines that are printed when the server listens: what is served and how, then each URL alone
/// on its line, so that terminals make it a link.
#[derive(Clone, Copy, Debug)]
pub struct Banner {
    /// Goes to standard error, because standard output is the access log.
    on_stderr: bool,
    /// Has the URLs only.
    is_quiet: bool,
    /// Goes to a terminal, where Ctrl-C reaches the server.
    is_for_terminal: bool,
    color: bool,
}

/// What the process finds around itself and defaults depend on.
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
    /// Those of this process.
    pub fn of_process() -> Surroundings {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Surroundings {
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            no_color: set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|term| term == "dumb"),
        }
    }
}

/// Reads the command line, `args` being the whole of it with the program's name. A flag beats its
/// environment variable, which beats the configuration file, which beats the default.
pub fn parse<I, T>(args: I, surroundings: &Surroundings) -> Result<Startup, Exit>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let argv: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let (args, sources) = read(&argv, surroundings)?;
    let level = log_level(&args, &sources)?;
    let mut config = config_of(&args, &sources, surroundings)?;
    config.turn_lines = level == LevelFilter::Trace;
    check_limits(&mut config.limits, &sources)?;
    if args.show_config {
        return Err(Exit::done(show::show(&Args::command(), &sources)));
    }
    check_root(&config.root, config.files.listing)?;
    let color_stderr = args.color.resolve(surroundings.stderr_is_terminal, surroundings.no_color);
    Ok(Startup {
        config,
        log_level: level,
        banner: Banner::of(&args, level, surroundings),
        color_stderr,
        warnings: slashes_forgotten(&sources),
    })
}

impl Banner {
    fn of(args: &Args, level: LevelFilter, surroundings: &Surroundings) -> Banner {
        // A log that was not asked for goes to a terminal, and there a person reads it.
        let on_stderr = args.access_log.as_ref().is_some_and(|target| target == "-");
        let is_for_terminal =
            if on_stderr { surroundings.stderr_is_terminal } else { surroundings.stdout_is_terminal };
        Banner {
            on_stderr,
            is_quiet: level == LevelFilter::Error,
            is_for_terminal,
            color: args.color.resolve(is_for_terminal, surroundings.no_color),
        }
    }

    /// The text for a server that is reached at `urls`. Its port is another than the one in
    /// `config` if that `gave_way`.
    #[must_use]
    pub fn text(&self, urls: &[String], config: &Config, gave_way: Option<u16>) -> String {
        let (bold, link, dim, plain) =
            if self.color { ("\x1b[1m", "\x1b[36m", "\x1b[2m", "\x1b[0m") } else { ("", "", "", "") };
        let mut text = String::new();
        if !self.is_quiet {
            if let Some(port) = gave_way {
                text.push_str(&format!("port {port} is taken, so the next free one is used\n"));
            }
            let root = escape_control(&config.root.display().to_string());
            let (version, model) = (env!("CARGO_PKG_VERSION"), name_of(&config.model));
            text.push_str(&format!("{bold}whirligig {version}{plain} serving {root} ({model})\n"));
        }
        for url in urls {
            text.push_str(&format!("{link}{url}{plain}\n"));
        }
        if self.is_for_terminal && !self.is_quiet {
            text.push_str(&format!("{dim}press Ctrl-C to stop{plain}\n"));
        }
        text
    }

    /// Prints it. For use before the log's writer thread has standard error to itself.
    pub fn print(&self, urls: &[String], config: &Config, gave_way: Option<u16>) {
        let text = self.text(urls, config, gave_way);
        // A closed or full stream is no reason not to serve.
        let _ = match self.on_stderr {
            true => io::stderr().lock().write_all(text.as_bytes()),
            false => io::stdout().lock().write_all(text.as_bytes()),
        };
    }
}

/// A warning for each rule with a password whose last at sign may have been meant to begin a path.
/// The password may be right, so it is not shown.
fn slashes_forgotten(sources: &Sources) -> Vec<String> {
    let mut warnings = Vec::new();
    for id in ["auth", "write_auth"] {
        for rule in sources.matches().get_raw(id).into_iter().flatten() {
            let rule = rule.to_string_lossy();
            let Some((user, password)) = rule.split_once(':') else { continue };
            if password.contains("@/") || password.split('@').nth(1).is_none_or(str::is_empty) {
                continue;
            }
            warnings.push(format!(
                "{} for '{user}' names no path, so it covers everything, and what follows '@' is part of the password; \
                 a path begins with a slash: USER:PASSWORD@/PATH",
                sources.name(id)
            ));
        }
    }
    warnings
}

/// The settings from everywhere. The command line is read twice: the first time to learn of the
/// file, the second time with the values of the file as defaults.
fn read(argv: &[OsString], surroundings: &Surroundings) -> Result<(Args, Sources), Exit> {
    let parse = |flags: clap::Command| {
        let given = flags
            .try_get_matches_from(argv)
            .and_then(|matches| Ok((Args::from_arg_matches(&matches)?, matches)));
        given.map_err(|error| exit_of(&error, argv, surroundings))
    };
    let (args, matches) = parse(Args::command())?;
    if args.man {
        return Err(Exit::done(manual::page(Args::command())));
    }
    if let Some(shell) = args.completions {
        return Err(Exit::done(manual::completions(Args::command(), shell)));
    }
    let Some(path) = &args.config else { return Ok((args, Sources::new(matches, ConfigFile::default()))) };
    let file = ConfigFile::read(path, &Args::command())?;
    let (args, matches) = parse(file.as_defaults(Args::command()))?;
    Ok((args, Sources::new(matches, file)))
}

/// Opens the access log that `config` asks for, if any. Call it before anything is started.
pub fn open_log(config: &Config) -> Result<Option<AccessLog>, Exit> {
    let Some(target) = &config.access_log else { return Ok(None) };
    let name = match target {
        LogTarget::Stdout => "standard output".to_owned(),
        LogTarget::File(path) => format!("'{}'", path.display()),
    };
    open_access_log(target).map(Some).map_err(|error| {
        Exit::runtime(
            &format!("--access-log: cannot open {name}"),
            error,
            "name a file in a folder that can be written",
        )
    })
}

const EXAMPLES: &str = "\
Examples:
  whirligig
      serve ./www (or this folder) at http://127.0.0.1:8080/
  whirligig --bind :: --port 80 --no-listing --access-log access.log /srv/www
      serve to everyone, IPv6 and IPv4, and write a log
  whirligig --model threads --max-threads 256 --idle-timeout 5 -v site
      the same server with a thread per connection, and talkative
";

const NOTES: &str = "\
Every flag has an environment variable of its name, which it overrides:
--max-head 64KiB is WHIRLIGIG_MAX_HEAD=64KiB. Both override the file that is
named with --config, where the same is max-head = \"64KiB\"; no file is read
unless it is named. SIZE takes k, M and G (1024 each), as in 512k, 64M or
64MiB; SECS takes decimals.
Exit codes: 0 stopped gracefully, 1 could not run or clients were cut off,
2 wrong usage, 130, 131 or 143 stopped at once by a second signal.";

// A flag with a variable is a setting: a key of the configuration file and a line of
// `--show-config`, with nothing else to do. `hide_env_values = true` makes it a secret. Whether it
// was given is asked of `Sources`, not of clap; flags that contradict each other go through
// `one_of`. A default that depends on something stands in the help as [default: ...].
/// Serves a folder over HTTP/1.1 from one thread and one poll loop, or from a thread per
/// connection.
#[derive(Parser)]
#[command(name = "whirligig", version, max_term_width = 80, args_override_self = true)]
#[command(disable_help_flag = true, disable_version_flag = true, allow_negative_numbers = true)]
#[command(override_usage = "whirligig [OPTIONS] [ROOT]")]
#[command(after_help = "More flags, limits and examples: whirligig --help")]
struct Args {
    /// The folder to serve [default: www if there is one, else .]
    #[arg(help_heading = "What", env = "WHIRLIGIG_ROOT", hide_env = true)]
    #[arg(value_hint = ValueHint::DirPath)]
    root: Option<PathBuf>,

    /// ADDR, ADDR:PORT, [V6]:PORT or unix:PATH; repeatable; :: takes IPv4 too
    #[arg(help_heading = "Where", short, long, value_name = "ADDR", value_parser = bind, value_delimiter = ',')]
    #[arg(default_value = "127.0.0.1", env = "WHIRLIGIG_BIND", hide_env = true)]
    bind: Vec<Bind>,
    /// Port to listen on; 0 takes any free one; the default gives way to the next free one
    #[arg(help_heading = "Where", short, long, value_name = "N", value_parser = port, default_value_t = 8080)]
    #[arg(env = "WHIRLIGIG_PORT", hide_env = true)]
    port: u16,

    /// reactor: one poll loop for all connections; threads: a thread for each
    #[arg(help_heading = "Model", long, value_name = "MODEL", hide_possible_values = true)]
    #[arg(value_enum, default_value_t = Model::Reactor, env = "WHIRLIGIG_MODEL", hide_env = true)]
    model: Model,
    /// Loops that share the port, each on a thread of its own; one a core is a good number
    #[arg(help_heading = "Model", long, value_name = "N", hide_short_help = true, value_parser = count::<1, 256>)]
    #[arg(default_value_t = 1, env = "WHIRLIGIG_REACTORS", hide_env = true)]
    reactors: usize,
    /// Worker threads for short work that may block, and as many for long work
    #[arg(help_heading = "Model", long, value_name = "N", hide_short_help = true, value_parser = count::<1, 256>)]
    #[arg(default_value_t = Limits::default().job_threads, env = "WHIRLIGIG_JOBS", hide_env = true)]
    jobs: usize,

    #[command(flatten)]
    timeouts: TimeoutArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    site: SiteArgs,
    #[command(flatten)]
    cgi: CgiArgs,
    #[command(flatten)]
    uploads: UploadArgs,

    /// Serve the simple-data routes under /api/ [default: on loopback, unless ROOT has an api]
    #[arg(help_heading = "Data", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_API", hide_env = true)]
    api: bool,
    /// Do not serve them
    #[arg(help_heading = "Data", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_NO_API", hide_env = true)]
    no_api: bool,
    /// Do not answer /_whirligig/health
    #[arg(help_heading = "Data", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_NO_HEALTH", hide_env = true)]
    no_health: bool,
    /// Serve counters for Prometheus at /_whirligig/metrics [default: on loopback]
    #[arg(help_heading = "Data", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_METRICS", hide_env = true)]
    metrics: bool,
    /// Do not serve them
    #[arg(help_heading = "Data", long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_NO_METRICS", hide_env = true, hide_short_help = true)]
    no_metrics: bool,

    /// One line a request to FILE, - (standard output) or off [default: - on a terminal, else off]
    #[arg(help_heading = "Logging", long, value_name = "FILE|-")]
    #[arg(env = "WHIRLIGIG_ACCESS_LOG", hide_env = true, value_hint = ValueHint::FilePath)]
    access_log: Option<OsString>,
    /// Form of the access log: common, combined, vhost-combined (the host first) or json
    #[arg(help_heading = "Logging", long, value_name = "FORM", hide_possible_values = true)]
    #[arg(value_enum, default_value_t = LogFormat::Common, env = "WHIRLIGIG_LOG_FORMAT", hide_env = true)]
    log_format: LogFormat,
    /// Say more on standard error; -vv prints one line a turn
    #[arg(help_heading = "Logging", short, long, action = ArgAction::Count)]
    #[arg(env = "WHIRLIGIG_VERBOSE", hide_env = true)]
    verbose: u8,
    /// Say nothing but errors
    #[arg(help_heading = "Logging", short, long, value_parser = BoolishValueParser::new())]
    #[arg(env = "WHIRLIGIG_QUIET", hide_env = true)]
    quiet: bool,
    /// Colours: auto, always or never; auto minds NO_COLOR
    #[arg(help_heading = "Logging", long, value_name = "WHEN", hide_possible_values = true)]
    #[arg(value_enum, default_value_t = Color::Auto, env = "WHIRLIGIG_COLOR", hide_env = true)]
    color: Color,

    /// Read settings from this TOML file, port = 80 for --port 80; else no file is read
    #[arg(help_heading = "Configuration file", long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(env = "WHIRLIGIG_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
    /// Print every setting and where it came from as such a file, and start nothing
    #[arg(help_heading = "Configuration file", long, hide_short_help = true)]
    show_config: bool,

    /// Print help; -h is shorter
    #[arg(help_heading = "Help", short, long, action = ArgAction::HelpShort)]
    help: Option<bool>,
    /// Print the version
    #[arg(help_heading = "Help", short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
    /// Print completions for bash, elvish, fish, powershell or zsh
    #[arg(help_heading = "Help", long, value_name = "SHELL", hide_short_help = true)]
    #[arg(value_enum, hide_possible_values = true)]
    completions: Option<clap_complete::Shell>,
    /// Print the manual page, as for man -l -
    #[arg(help_heading = "Help", long, hide_short_help = true)]
    man: bool,
}

/// How long each phase may take.
#[derive(clap::Args)]
#[command(next_help_heading = "Timeouts (seconds, decimals; off disables)")]
struct TimeoutArgs {
    /// For a first byte, in whole seconds, before the kernel hands a connection over; 0 does so at
    /// once
    #[arg(long, value_name = "SECS", value_parser = count::<0, 127>, env = "WHIRLIGIG_DEFER_ACCEPT", hide_env = true)]
    #[arg(default_value_t = Timeouts::default().defer_accept.as_secs() as usize, hide_short_help = true)]
    defer_accept: usize,
    /// For a whole request head, from its first byte
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_HEADER_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().header))]
    header_timeout: Timeout,
    /// Without a byte of request content that is due
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_BODY_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().body))]
    body_timeout: Timeout,
    /// The time over which --busy-rate is due
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_BUSY_TIME", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().busy), hide_short_help = true)]
    busy_time: Timeout,
    /// Without a byte of the answer being taken
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_SEND_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().send))]
    send_timeout: Timeout,
    /// For a kept-alive connection without a request
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_IDLE_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().idle))]
    idle_timeout: Timeout,
    /// For an answer that was promised for later
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_ANSWER_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().answer))]
    answer_timeout: Timeout,
    /// For a graceful stop; who is not done by then is cut off; 0 cuts at once
    #[arg(long, value_name = "SECS", value_parser = drain_timeout, env = "WHIRLIGIG_DRAIN_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Some(Timeouts::default().drain)))]
    drain_timeout: Timeout,
}

/// What a peer, and all of them together, may cost.
#[derive(clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Request head
    #[arg(long, value_name = "SIZE", value_parser = head_size, env = "WHIRLIGIG_MAX_HEAD", hide_env = true)]
    #[arg(default_value_t = Size::of(Limits::default().head_bytes_max), hide_short_help = true)]
    max_head: Size,
    /// Field lines in a head, 256 at the most
    #[arg(long, value_name = "N", value_parser = count::<1, FIELDS_CEILING>, env = "WHIRLIGIG_MAX_FIELDS")]
    #[arg(default_value_t = Limits::default().fields_max, hide_env = true, hide_short_help = true)]
    max_fields: usize,
    /// Request target; no more than the head
    #[arg(long, value_name = "SIZE", value_parser = target_size, env = "WHIRLIGIG_MAX_TARGET", hide_env = true)]
    #[arg(default_value_t = Size::of(Limits::default().target_bytes_max), hide_short_help = true)]
    max_target: Size,
    /// Content of one request
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WHIRLIGIG_MAX_BODY", hide_env = true)]
    #[arg(default_value_t = Size(Limits::default().body_bytes_max))]
    max_body: Size,
    /// Connections at once [default: as many as descriptors allow, less a reserve]
    #[arg(long, value_name = "N", value_parser = count::<1, 10_000_000>, env = "WHIRLIGIG_MAX_CONNECTIONS")]
    #[arg(hide_env = true)]
    max_connections: Option<usize>,
    /// Threads of the threads model; beyond, idle clients and slow senders give way (--busy-rate)
    #[arg(long, value_name = "N", value_parser = count::<1, 1_000_000>, env = "WHIRLIGIG_MAX_THREADS")]
    #[arg(default_value_t = Limits::default().threads_max, hide_env = true, hide_short_help = true)]
    max_threads: usize,
    /// Held for incomplete requests, over all connections
    #[arg(long, value_name = "SIZE", value_parser = memory_size, env = "WHIRLIGIG_MAX_POOL", hide_env = true)]
    #[arg(default_value_t = Size::of(Limits::default().pool_bytes_max), hide_short_help = true)]
    max_pool: Size,
    /// Request content collected in memory, over all connections
    #[arg(long, value_name = "SIZE", value_parser = memory_size, env = "WHIRLIGIG_MAX_COLLECT", hide_env = true)]
    #[arg(default_value_t = Size::of(Limits::default().collect_bytes_max), hide_short_help = true)]
    max_collect: Size,
    /// Request content in memory and temporary files, over all connections; content up to 1 MiB of
    /// programs is kept there before they start
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WHIRLIGIG_MAX_SPOOL", hide_env = true)]
    #[arg(default_value_t = Size(Limits::default().spool_bytes_max), hide_short_help = true)]
    max_spool: Size,
    /// Jobs waiting for a worker thread
    #[arg(long, value_name = "N", value_parser = count::<1, 1_000_000>, env = "WHIRLIGIG_MAX_JOBS")]
    #[arg(default_value_t = Limits::default().jobs_max, hide_env = true, hide_short_help = true)]
    max_jobs: usize,
    /// Bytes one connection moves in one turn; those of a file count as a quarter
    #[arg(long, value_name = "SIZE", value_parser = turn_size, env = "WHIRLIGIG_MAX_TURN_BYTES", hide_env = true)]
    #[arg(default_value_t = Size::of(Limits::default().turn_bytes_max), hide_short_help = true)]
    max_turn_bytes: Size,
    /// Requests of one connection answered in one turn
    #[arg(long, value_name = "N", value_parser = count::<1, 1_000_000>, env = "WHIRLIGIG_MAX_TURN_REQUESTS")]
    #[arg(default_value_t = Limits::default().turn_requests_max, hide_env = true, hide_short_help = true)]
    max_turn_requests: usize,
    /// Connections accepted in one turn
    #[arg(long, value_name = "N", value_parser = count::<1, 1_000_000>, env = "WHIRLIGIG_MAX_TURN_ACCEPTS")]
    #[arg(default_value_t = Limits::default().accepts_per_turn, hide_env = true, hide_short_help = true)]
    max_turn_accepts: usize,
    /// Bytes a second a client must send or take, once its timeout has passed; 0 asks for none
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WHIRLIGIG_MIN_RATE", hide_env = true)]
    #[arg(default_value_t = Size(Limits::default().rate_min_bytes), hide_short_help = true)]
    min_rate: Size,
    /// Bytes a second a client must send over --busy-time while all places are taken: programs,
    /// uploads, connections; a newcomer gets the place of the slowest below that; 0 asks for none
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WHIRLIGIG_BUSY_RATE", hide_env = true)]
    #[arg(default_value_t = Size(Limits::default().busy_rate_min_bytes), hide_short_help = true)]
    busy_rate: Size,
}

/// How files are served.
#[derive(clap::Args)]
#[command(next_help_heading = "Files")]
struct FileArgs {
    /// Milliseconds a cached file is trusted; 0 looks at the disk every time
    #[arg(long, value_name = "MS", value_parser = milliseconds, env = "WHIRLIGIG_FRESH", hide_env = true)]
    #[arg(default_value_t = Milliseconds(FileOptions::default().fresh))]
    fresh: Milliseconds,
    /// Symbolic links that are followed: inside (ROOT), no or all
    #[arg(long, value_name = "WHICH", hide_possible_values = true)]
    #[arg(value_enum, default_value_t = FileOptions::default().symlinks, env = "WHIRLIGIG_SYMLINKS", hide_env = true)]
    symlinks: Symlinks,
    /// Answer 404 for folders without an index file
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_NO_LISTING", hide_env = true)]
    no_listing: bool,
    /// Names in one listing; past it the page says so
    #[arg(long, value_name = "N", value_parser = count::<1, 10_000_000>, env = "WHIRLIGIG_MAX_LISTING")]
    #[arg(default_value_t = Limits::default().listing_entries_max, hide_env = true, hide_short_help = true)]
    max_listing: usize,
    /// Show no README below listings
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_NO_README", hide_env = true)]
    #[arg(hide_short_help = true)]
    no_readme: bool,
    /// Give out folders as /folder/?archive=tar, tar.gz or zip, made while they are sent
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_ARCHIVES", hide_env = true)]
    archives: bool,
    /// Archives in the making at once
    #[arg(long, value_name = "N", value_parser = count::<1, 10_000>, env = "WHIRLIGIG_MAX_ARCHIVES")]
    #[arg(default_value_t = FileOptions::default().archives_max, hide_env = true, hide_short_help = true)]
    max_archives: usize,
    /// File content kept in memory; 0 keeps none
    #[arg(long, value_name = "SIZE", value_parser = memory_size, env = "WHIRLIGIG_MAX_CACHE", hide_env = true)]
    #[arg(default_value_t = Size::of(FileOptions::default().cache_bytes_max), hide_short_help = true)]
    max_cache: Size,
    /// Level at which text is compressed on the fly, 1 to 9, or off
    #[arg(long, value_name = "LEVEL", value_parser = level, env = "WHIRLIGIG_COMPRESS", hide_env = true)]
    #[arg(default_value_t = Level(FileOptions::default().compress_level))]
    compress: Level,
    /// Answers compressed at once, 311 KiB each; past it they go as they are
    #[arg(long, value_name = "N", value_parser = count::<0, 100_000>, env = "WHIRLIGIG_MAX_COMPRESSORS")]
    #[arg(default_value_t = FileOptions::default().compressors_max, hide_env = true, hide_short_help = true)]
    max_compressors: usize,
    /// Source of entity-tags: content (size and modification time beyond 32 KiB), which is equal on
    /// all nodes, or change-time
    #[arg(long, value_name = "WHICH", hide_possible_values = true, hide_short_help = true)]
    #[arg(value_enum, default_value_t = FileOptions::default().etag, env = "WHIRLIGIG_ETAG", hide_env = true)]
    etag: EtagFrom,
    /// Charset of texts that declare no other, or off
    #[arg(long, value_name = "NAME", value_parser = charset, env = "WHIRLIGIG_CHARSET", hide_env = true)]
    #[arg(default_value_t = Charset(FileOptions::default().charset), hide_short_help = true)]
    charset: Charset,
    /// EXT=TYPE: media type of files with this extension, as in 'log=text/plain; charset=x';
    /// repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_type_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_MIME", hide_env = true, hide_short_help = true)]
    mime: Vec<TypeRule>,
    /// Do not send NAME.br, NAME.zst and NAME.gz in place of NAME
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_NO_PRECOMPRESSED", hide_env = true)]
    #[arg(hide_short_help = true)]
    no_precompressed: bool,
    /// Serve NAME.html as NAME, and redirect the longer name
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_CLEAN_URLS", hide_env = true)]
    clean_urls: bool,
    /// Reload pages in browsers when a file changes
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_LIVE_RELOAD", hide_env = true)]
    live_reload: bool,
    /// Serve this page where nothing is found [without a value: /index.html]
    #[arg(long, value_name = "PATH", value_parser = page, num_args = 0..=1, default_missing_value = "/index.html")]
    #[arg(require_equals = true, env = "WHIRLIGIG_SPA", hide_env = true)]
    spa: Option<String>,
    /// Send this page of ROOT with status 403 or 404, as in 404=/404.html; repeatable
    #[arg(long, value_name = "CODE=PATH", value_parser = error_page, value_delimiter = ',')]
    #[arg(env = "WHIRLIGIG_ERROR_PAGE", hide_env = true)]
    error_page: Vec<ErrorPage>,
}

/// Who may see what, and where. The flags that may come several times take one a line from their
/// variables.
#[derive(clap::Args)]
#[command(next_help_heading = "Site")]
struct SiteArgs {
    /// USER:PASSWORD[@/PATH]: take a password there, and below; repeatable. After 5 wrong ones an
    /// address gets its 401 later (0.25 to 8 s); the clients of a proxy share one address
    #[arg(long, value_name = "RULE", value_parser = parse_user_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_AUTH", hide_env = true, hide_env_values = true)]
    auth: Vec<AuthRule>,
    /// FILE[@/PATH]: the same with the users of an htpasswd file (bcrypt), one or two checks at a
    /// time
    #[arg(long, value_name = "RULE", value_parser = parse_file_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_HTPASSWD", hide_env = true, hide_short_help = true)]
    htpasswd: Vec<AuthRule>,
    /// Pages from there may read responses, and write in --upload folders; alone or *: all may read
    /// (CORS)
    #[arg(long, value_name = "ORIGIN", num_args = 0..=1, default_missing_value = "*", value_delimiter = ',')]
    #[arg(value_parser = parse_origin, env = "WHIRLIGIG_CORS", hide_env = true)]
    cors: Vec<String>,
    /// 'PATTERN: Name: value': set a header of all responses there, Content-Type of files alone;
    /// repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_field_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_HEADER", hide_env = true, hide_short_help = true)]
    header: Vec<FieldRule>,
    /// 'PATTERN: value': Cache-Control of responses there but errors; repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_cache_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_CACHE_CONTROL", hide_env = true, hide_short_help = true)]
    cache_control: Vec<FieldRule>,
    /// Redirects and rewrites, one a line
    #[arg(long, value_name = "FILE", env = "WHIRLIGIG_RULES", hide_env = true)]
    rules: Option<PathBuf>,
    /// HOST[,HOST]=ROOT: hosts with a folder of their own; *.NAME is all below it, .NAME both;
    /// repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_vhost, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_VHOST", hide_env = true)]
    vhost: Vec<Vhost>,
    /// Answer 421 for hosts without a --vhost, but for health and metrics
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_STRICT_HOSTS", hide_env = true)]
    #[arg(hide_short_help = true)]
    strict_hosts: bool,
    /// NAME, .SUFFIX or any: a name for listings, archives, /api/, /_whirligig/ and uploads;
    /// repeatable [default on loopback: addresses, localhost and --vhost names; else any]
    #[arg(long, value_name = "NAME", value_parser = parse_allowed_host, value_delimiter = ',')]
    #[arg(env = "WHIRLIGIG_ALLOW_HOST", hide_env = true)]
    allow_host: Vec<AllowedHost>,
}

/// Programs that answer. The flags that may come several times take one a line from their
/// variables.
#[derive(clap::Args)]
#[command(next_help_heading = "CGI")]
struct CgiArgs {
    /// URLPATH=DIR: run the programs in DIR for requests below URLPATH; repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_folder, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_CGI", hide_env = true)]
    cgi: Vec<CgiFolder>,
    /// For one of them, from its start or the last of its content to its end
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_CGI_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(CgiOptions::default().timeout), hide_short_help = true)]
    cgi_timeout: Timeout,
    /// Programs running at once; beyond, slow senders give way (--busy-rate)
    #[arg(long, value_name = "N", value_parser = count::<1, 100_000>, env = "WHIRLIGIG_CGI_MAX", hide_env = true)]
    #[arg(default_value_t = CgiOptions::default().children_max, hide_short_help = true)]
    cgi_max: usize,
    /// NAME=VALUE: put this into their environment; repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_variable, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_CGI_ENV", hide_env = true, hide_env_values = true, hide_short_help = true)]
    cgi_env: Vec<(String, String)>,
    /// Show them the Authorization field, and with it passwords
    #[arg(long, value_parser = BoolishValueParser::new(), env = "WHIRLIGIG_CGI_AUTHORIZATION", hide_env = true)]
    #[arg(hide_short_help = true)]
    cgi_authorization: bool,
}

impl CgiArgs {
    fn options(&self) -> CgiOptions {
        CgiOptions {
            folders: self.cgi.clone(),
            timeout: self.cgi_timeout.0,
            children_max: self.cgi_max,
            environment: self.cgi_env.clone(),
            authorization: self.cgi_authorization,
            // The first process of a container.
            reaps_orphans: std::process::id() == 1,
        }
    }
}

/// What may be written.
#[derive(clap::Args)]
#[command(next_help_heading = "Uploads")]
struct UploadArgs {
    /// Take PUT, DELETE, MKCOL and forms with files in this folder of ROOT, as in /inbox, and
    /// below; repeatable
    #[arg(long, value_name = "PATH", value_parser = parse_upload_path, value_delimiter = ',')]
    #[arg(env = "WHIRLIGIG_UPLOAD", hide_env = true)]
    upload: Vec<String>,
    /// One upload; --max-body is for all other content
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WHIRLIGIG_MAX_UPLOAD", hide_env = true)]
    #[arg(default_value_t = Size(UPLOAD_BYTES_MAX))]
    max_upload: Size,
    /// Uploads under way at once, 256 KiB of memory each; beyond, slow senders give way
    /// (--busy-rate)
    #[arg(long, value_name = "N", value_parser = count::<1, 100_000>, env = "WHIRLIGIG_MAX_UPLOADS")]
    #[arg(default_value_t = Limits::default().uploads_max, hide_env = true, hide_short_help = true)]
    max_uploads: usize,
    /// Uploads that broke off and can be resumed, all together; 0 keeps none [default: 1G, or
    /// --max-upload if that is more]
    #[arg(long, value_name = "SIZE", value_parser = size, env = "WHIRLIGIG_MAX_PARTIAL", hide_env = true)]
    #[arg(hide_short_help = true)]
    max_partial: Option<Size>,
    /// For how many seconds they are kept
    #[arg(long, value_name = "SECS", value_parser = timeout, env = "WHIRLIGIG_PARTIAL_TIMEOUT", hide_env = true)]
    #[arg(default_value_t = Timeout(Timeouts::default().partial), hide_short_help = true)]
    partial_timeout: Timeout,
    /// USER:PASSWORD[@/PATH]: take a password for writing there, whoever may read; repeatable
    #[arg(long, value_name = "RULE", value_parser = parse_user_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_WRITE_AUTH", hide_env = true, hide_env_values = true)]
    write_auth: Vec<AuthRule>,
    /// FILE[@/PATH]: the same with the users of an htpasswd file (bcrypt)
    #[arg(long, value_name = "RULE", value_parser = parse_file_rule, value_delimiter = '\n')]
    #[arg(env = "WHIRLIGIG_WRITE_HTPASSWD", hide_env = true, hide_short_help = true)]
    write_htpasswd: Vec<AuthRule>,
}

impl SiteArgs {
    fn options(&self, uploads: &UploadArgs) -> SiteOptions {
        SiteOptions {
            auth: [&self.auth[..], &self.htpasswd].concat(),
            write_auth: [&uploads.write_auth[..], &uploads.write_htpasswd].concat(),
            cors: self.cors.clone(),
            rules: self.rules.clone(),
            vhosts: self.vhost.clone(),
            strict_hosts: self.strict_hosts,
            allow_hosts: self.allow_host.clone(),
        }
    }
}

fn config_of(args: &Args, sources: &Sources, surroundings: &Surroundings) -> Result<Config, Exit> {
    let access_log = match &args.access_log {
        None if surroundings.stdout_is_terminal && !args.quiet => Some(LogTarget::Stdout),
        None => None,
        Some(file) if file.is_empty() => return Err(Exit::usage("--access-log '': no file is named")),
        Some(file) if file == "off" => None,
        Some(file) if file == "-" => Some(LogTarget::Stdout),
        Some(file) => Some(LogTarget::File(file.into())),
    };
    // An archive tells every name, too.
    let archives = one_of(sources, ("archives", args.files.archives), ("no_listing", args.files.no_listing))?;
    Ok(Config {
        root: args.root.clone().unwrap_or_else(|| default_root(Path::new("."))),
        model: args.model,
        reactors: args.reactors,
        binds: args.bind.clone(),
        port: args.port,
        port_is_explicit: !sources.is_default("port"),
        limits: limits_of(args),
        timeouts: Timeouts { partial: args.uploads.partial_timeout.0, ..args.timeouts.timeouts() },
        files: FileOptions {
            symlinks: args.files.symlinks,
            fresh: args.files.fresh.0,
            cache_bytes_max: args.files.max_cache.bytes(),
            precompressed: !args.files.no_precompressed,
            compress_level: args.files.compress.0,
            compressors_max: args.files.max_compressors,
            etag: args.files.etag,
            charset: args.files.charset.0.clone(),
            types: args.files.mime.clone(),
            clean_urls: args.files.clean_urls,
            live_reload: args.files.live_reload,
            spa: args.files.spa.clone(),
            error_pages: args.files.error_page.iter().map(|page| (page.code, page.path.clone())).collect(),
            fields: [&args.site.header[..], &args.site.cache_control].concat(),
            listing: archives != Some(false),
            readme: !args.files.no_readme,
            archives: archives == Some(true),
            archives_max: args.files.max_archives,
            uploads: args.uploads.upload.clone(),
            ..FileOptions::default()
        },
        site: args.site.options(&args.uploads),
        cgi: args.cgi.options(),
        api: one_of(sources, ("api", args.api), ("no_api", args.no_api))?,
        health: !args.no_health,
        metrics: one_of(sources, ("metrics", args.metrics), ("no_metrics", args.no_metrics))?,
        own_files: args.config.iter().cloned().collect(),
        access_log,
        log_format: args.log_format,
        turn_lines: false,
    })
}

fn limits_of(args: &Args) -> Limits {
    let given = &args.limits;
    Limits {
        head_bytes_max: given.max_head.bytes(),
        fields_max: given.max_fields,
        target_bytes_max: given.max_target.bytes(),
        body_bytes_max: given.max_body.0,
        upload_bytes_max: if args.uploads.upload.is_empty() { 0 } else { args.uploads.max_upload.0 },
        uploads_max: args.uploads.max_uploads,
        partial_bytes_max: args.uploads.max_partial.map(|size| size.0),
        connections_max: given.max_connections.unwrap_or(0),
        threads_max: given.max_threads,
        turn_bytes_max: given.max_turn_bytes.bytes(),
        turn_requests_max: given.max_turn_requests,
        accepts_per_turn: given.max_turn_accepts,
        pool_bytes_max: given.max_pool.bytes(),
        collect_bytes_max: given.max_collect.bytes(),
        spool_bytes_max: given.max_spool.0,
        job_threads: args.jobs,
        jobs_max: given.max_jobs,
        listing_entries_max: args.files.max_listing,
        rate_min_bytes: given.min_rate.0,
        busy_rate_min_bytes: given.busy_rate.0,
        ..Limits::default()
    }
}

impl TimeoutArgs {
    fn timeouts(&self) -> Timeouts {
        Timeouts {
            defer_accept: std::time::Duration::from_secs(self.defer_accept as u64),
            header: self.header_timeout.0,
            body: self.body_timeout.0,
            busy: self.busy_time.0,
            send: self.send_timeout.0,
            idle: self.idle_timeout.0,
            answer: self.answer_timeout.0,
            drain: self.drain_timeout.0.unwrap_or(TIMEOUT_MAX),
            ..Timeouts::default()
        }
    }
}

/// `www` below `base` if it is a folder, so that the server started in its own repository shows its
/// own pages.
fn default_root(base: &Path) -> PathBuf {
    if base.join("www").is_dir() { "www".into() } else { ".".into() }
}

fn log_level(args: &Args, sources: &Sources) -> Result<LevelFilter, Exit> {
    let quiet = one_of(sources, ("quiet", args.quiet), ("verbose", args.verbose > 0))?;
    Ok(match (quiet, args.verbose) {
        (Some(true), _) => LevelFilter::Error,
        (None, _) => LevelFilter::Warn,
        (Some(false), 1) => LevelFilter::Debug,
        (Some(false), _) => LevelFilter::Trace,
    })
}

/// Which of two flags that contradict each other is on: `Some(true)` the first, `Some(false)` the
/// second. The command line beats the environment, which beats the file; two from the same place
/// are a mistake.
fn one_of(sources: &Sources, first: (&str, bool), second: (&str, bool)) -> Result<Option<bool>, Exit> {
    match (first.1, second.1) {
        (false, false) => return Ok(None),
        (true, false) => return Ok(Some(true)),
        (false, true) => return Ok(Some(false)),
        (true, true) => {}
    }
    match sources.of(first.0).cmp(&sources.of(second.0)) {
        Ordering::Greater => Ok(Some(true)),
        Ordering::Less => Ok(Some(false)),
        Ordering::Equal => {
            let (first, second) = (sources.name(first.0), sources.name(second.0));
            Err(Exit::usage(&format!("{first} with {second}: they contradict each other, leave one out")))
        }
    }
}

/// The limits that only make sense together. One that was not asked for gives way to one that was.
fn check_limits(limits: &mut Limits, sources: &Sources) -> Result<(), Exit> {
    let head = limits.head_bytes_max;
    let named = |id, bytes| format!("{} {}", sources.name(id), Size::of(bytes));
    if limits.target_bytes_max > head {
        if !sources.is_default("max_target") {
            let (target, head) = (named("max_target", limits.target_bytes_max), named("max_head", head));
            return Err(Exit::usage(&format!("{target}: more than the head it stands in, {head}")));
        }
        limits.target_bytes_max = head;
    }
    if limits.pool_bytes_max < head {
        let (pool, head) = (named("max_pool", limits.pool_bytes_max), named("max_head", head));
        return Err(Exit::usage(&format!("{pool}: does not hold one request head, {head}")));
    }
    Ok(())
}

/// A folder that cannot be served is better known now than with the first request.
fn check_root(root: &Path, listing: bool) -> Result<(), Exit> {
    let what = format!("cannot serve '{}'", root.display());
    let failed = |error: io::Error| {
        let port = root.to_str().filter(|text| text.parse::<u16>().is_ok());
        let hint = match (error.kind(), port) {
            (io::ErrorKind::PermissionDenied, _) => "make it readable for this user".to_owned(),
            (io::ErrorKind::NotFound, Some(port)) => format!("for a port write --port {port}"),
            _ => "name an existing folder".to_owned(),
        };
        Exit::runtime(&what, error, &hint)
    };
    let meta = std::fs::metadata(root).map_err(failed)?;
    if !meta.is_dir() {
        return Err(Exit::runtime(&what, "it is not a folder", "name the folder it is in"));
    }
    if listing {
        std::fs::read_dir(root).map_err(failed)?;
    }
    std::fs::metadata(root.join(".")).map_err(failed).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KIB, MIB};
    use std::net::Ipv4Addr;
    use std::time::Duration;

    const PLAIN: Surroundings =
        Surroundings { stdout_is_terminal: false, stderr_is_terminal: false, no_color: false };
    const TERMINAL: Surroundings =
        Surroundings { stdout_is_terminal: true, stderr_is_terminal: true, no_color: false };

    fn try_parse(line: &str, surroundings: &Surroundings) -> Result<Startup, Exit> {
        parse(std::iter::once("whirligig").chain(line.split_whitespace()), surroundings)
    }

    #[track_caller]
    fn config(line: &str) -> Config {
        try_parse(&format!("{line} ."), &PLAIN).unwrap().config
    }

    #[track_caller]
    fn check_error(line: &str, code: u8, expected: &str) {
        let exit = try_parse(line, &PLAIN).unwrap_err();
        assert_eq!((exit.code(), exit.text()), (code, format!("whirligig: {expected}\n").as_str()), "{line}");
    }

    #[track_caller]
    fn check_usage(line: &str, expected: &str) {
        check_error(line, 2, &format!("{expected}; try 'whirligig --help'"));
    }

    #[test]
    fn without_flags_the_defaults_of_config_hold() {
        let config = config("");
        assert_eq!(format!("{:?}", config.limits), format!("{:?}", Limits::default()));
        assert_eq!(format!("{:?}", config.timeouts), format!("{:?}", Timeouts::default()));
        assert_eq!(format!("{:?}", config.files), format!("{:?}", FileOptions::default()));
        assert_eq!(config.binds, [Bind::Ip(Ipv4Addr::LOCALHOST.into(), None)]);
        assert_eq!((config.port, config.port_is_explicit), (8080, false));
        assert_eq!((config.model, config.api, config.access_log), (Model::Reactor, None, None));
        assert_eq!((config.log_format, config.turn_lines), (LogFormat::Common, false));
        assert_eq!(config.root, Path::new("."));
    }

    #[test]
    fn where_to_listen() {
        let given = config("-b ::1 --bind 10.0.0.1:81 --bind unix:/run/w.sock,[::]:82 -p 8080");
        let ip = |ip: &str, port| Bind::Ip(ip.parse().unwrap(), port);
        let unix = Bind::Unix("/run/w.sock".into());
        assert_eq!(given.binds, [ip("::1", None), ip("10.0.0.1", Some(81)), unix, ip("::", Some(82))]);
        assert_eq!((given.port, given.port_is_explicit), (8080, true), "asked for, though it is the default");
        assert_eq!(config("--port 0").port, 0);
        assert_eq!(bind("[::1]"), Ok(ip("::1", None)));
        assert_eq!(bind("localhost"), Ok(ip("127.0.0.1", None)));
        assert_eq!(bind("localhost:0"), Ok(ip("127.0.0.1", Some(0))));
        for text in [
            "",
            ":80",
            "*",
            "*:80",
            "example.com",
            "example.com:80",
            "localhost:x",
            "1.2.3.4:99999",
            "[::1",
            "::1:x",
        ] {
            assert!(bind(text).is_err(), "{text}");
        }
        assert!(bind("unix:").is_err());
        assert!(bind(&format!("unix:/{}", "x".repeat(106))).is_ok());
        assert!(bind(&format!("unix:/{}", "x".repeat(107))).is_err());
    }

    #[test]
    fn each_limit_has_its_flag() {
        let limits = config(
            "--max-head 64KiB --max-fields 200 --max-target 8k --max-body 1G --max-connections 9 --max-threads 10 \
             --max-pool 1m --max-collect 12 --max-spool 0 --max-jobs 14 --max-turn-bytes 65536 --max-turn-requests 16 \
             --max-turn-accepts 17 --max-listing 18 --min-rate 19 --jobs 20 --busy-rate 21k",
        )
        .limits;
        assert_eq!(
            (limits.head_bytes_max, limits.fields_max, limits.target_bytes_max),
            (64 * KIB, 200, 8 * KIB)
        );
        assert_eq!((limits.body_bytes_max, limits.connections_max, limits.threads_max), (1 << 30, 9, 10));
        assert_eq!((limits.pool_bytes_max, limits.collect_bytes_max, limits.spool_bytes_max), (MIB, 12, 0));
        assert_eq!((limits.jobs_max, limits.turn_bytes_max, limits.turn_requests_max), (14, 64 * KIB, 16));
        assert_eq!((limits.accepts_per_turn, limits.listing_entries_max), (17, 18));
        assert_eq!((limits.rate_min_bytes, limits.job_threads), (19, 20));
        assert_eq!(limits.busy_rate_min_bytes, 21 * 1024);
    }

    #[test]
    fn limits_fit_each_other() {
        let limits = config("--max-head 4k").limits;
        assert_eq!(limits.target_bytes_max, 4 * KIB, "a default gives way");
        check_usage(
            "--max-head 4k --max-target 8k .",
            "--max-target 8KiB: more than the head it stands in, --max-head 4KiB",
        );
        check_usage("--max-pool 4k .", "--max-pool 4KiB: does not hold one request head, --max-head 32KiB");
    }

    #[test]
    fn each_timeout_has_its_flag() {
        let timeouts = config(
            "--header-timeout 0.5 --body-timeout 2 --send-timeout off --idle-timeout 4 --answer-timeout 5 \
             --drain-timeout 0 --busy-time 6",
        )
        .timeouts;
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(timeouts.header, Some(Duration::from_millis(500)));
        assert_eq!((timeouts.body, timeouts.send, timeouts.idle), (seconds(2), None, seconds(4)));
        assert_eq!((timeouts.answer, timeouts.drain), (seconds(5), Duration::ZERO));
        assert_eq!(config("--drain-timeout off").timeouts.drain, TIMEOUT_MAX);
        assert_eq!((timeouts.busy, config("--busy-time off").timeouts.busy), (seconds(6), None));
        assert_eq!(config("--defer-accept 0").timeouts.defer_accept, Duration::ZERO);
        for text in ["0", "-1", "1e99", "nan", "inf", "", "ten"] {
            assert!(timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_and_data() {
        let given = config("--fresh 2.5 --symlinks all --no-listing --max-cache 1M --api --model threads");
        assert_eq!((given.files.fresh, given.files.symlinks), (Duration::from_micros(2500), Symlinks::All));
        assert_eq!((given.files.listing, given.files.cache_bytes_max), (false, MIB));
        assert_eq!((given.api, given.model), (Some(true), Model::Threads));
        assert_eq!(config("--no-api --symlinks no").api, Some(false));
        assert_eq!(
            ["", "--metrics", "--no-metrics"].map(|line| config(line).metrics),
            [None, Some(true), Some(false)]
        );
        assert!(config("").health && !config("--no-health").health);
        assert_eq!(config("--fresh 0").files.fresh, Duration::ZERO);
    }

    #[test]
    fn each_part_of_the_site_has_its_flag() {
        let given = config(
            "--auth a:b@/c --auth d:e --htpasswd f@/g --cors https://a,null --cors https://b --rules r --vhost h=i \
             --vhost *.j=k --strict-hosts --allow-host Nas.lan,.example.org --allow-host any",
        );
        let paths: Vec<_> = given.site.auth.iter().map(|rule| &rule.path[..]).collect();
        assert_eq!(paths, ["/c", "/", "/g"]);
        assert_eq!(given.site.cors, ["https://a", "null", "https://b"]);
        assert_eq!(given.site.rules.as_deref(), Some(Path::new("r")));
        assert_eq!((given.site.vhosts.len(), given.site.strict_hosts), (2, true));
        let names = [
            AllowedHost::Name("nas.lan".into()),
            AllowedHost::Suffix("example.org".into()),
            AllowedHost::Any,
        ];
        assert_eq!(given.site.allow_hosts, names);
        let argv = ["whirligig", "--cache-control=/a: b", "--header", "/a: B: c", ".", "--cors"];
        let given = parse(argv, &PLAIN).unwrap().config;
        let fields: Vec<_> =
            given.files.fields.iter().map(|rule| (&rule.name[..], &rule.value[..])).collect();
        assert_eq!(fields, [("B", "c"), ("Cache-Control", "b")]);
        assert_eq!(given.site.cors, ["*"]);
        check_usage(
            "--allow-host a:80 .",
            "--allow-host 'a:80': the host comes without a port: every port counts",
        );
        check_usage("--auth secret .", "--auth: not of the form USER:PASSWORD or USER:PASSWORD@/PATH");
    }

    #[test]
    fn programs_have_their_flags() {
        let given =
            config("--cgi /a=b --cgi /c=d --cgi-timeout off --cgi-max 3 --cgi-env A=b --cgi-authorization")
                .cgi;
        let folders: Vec<_> =
            given.folders.iter().map(|folder| (&folder.path[..], &*folder.folder)).collect();
        assert_eq!(folders, [("/a", Path::new("b")), ("/c", Path::new("d"))]);
        assert_eq!((given.timeout, given.children_max, given.authorization), (None, 3, true));
        assert_eq!(given.environment, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(format!("{:?}", config("").cgi), format!("{:?}", CgiOptions::default()));
        check_usage("--cgi-env 1=b .", "--cgi-env: a name has letters, digits and underscores");
    }

    #[test]
    fn logging() {
        let parse = |line: &str, around| try_parse(&format!("{line} ."), around).unwrap();
        let log = |line, around| parse(line, around).config.access_log;
        assert_eq!(log("--access-log a.log", &PLAIN), Some(LogTarget::File("a.log".into())));
        assert_eq!(log("--access-log -", &PLAIN), Some(LogTarget::Stdout));
        assert_eq!(log("", &TERMINAL), Some(LogTarget::Stdout));
        assert_eq!(log("-q", &TERMINAL), None);
        assert_eq!(log("--access-log off", &TERMINAL), None);
        assert_eq!(config("--log-format json").log_format, LogFormat::Json);
        for (flags, level) in [
            ("", LevelFilter::Warn),
            ("-q", LevelFilter::Error),
            ("-v", LevelFilter::Debug),
            ("-vv", LevelFilter::Trace),
            ("-v --verbose -v", LevelFilter::Trace),
        ] {
            let startup = parse(flags, &PLAIN);
            assert_eq!(
                (startup.log_level, startup.config.turn_lines),
                (level, level == LevelFilter::Trace),
                "{flags}"
            );
        }
    }

    #[test]
    fn colors_need_a_terminal_or_a_word() {
        let bare = Surroundings { no_color: true, ..TERMINAL };
        for (flags, around, colored) in [
            ("", PLAIN, false),
            ("", TERMINAL, true),
            ("", bare, false),
            ("--color always", bare, true),
            ("--color always", PLAIN, true),
            ("--color never", TERMINAL, false),
        ] {
            let startup = try_parse(&format!("{flags} ."), &around).unwrap();
            assert_eq!(
                (startup.banner.color, startup.color_stderr),
                (colored, colored),
                "{flags} {around:?}"
            );
            let help = try_parse(&format!("{flags} --help"), &around).unwrap_err();
            assert_eq!(help.text().contains('\x1b'), colored, "{flags} {around:?}");
        }
    }

    fn from_file(text: &str, line: &str) -> Result<Startup, Exit> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        let mut startup = try_parse(&format!("{line} --config {}", file.path().display()), &PLAIN)?;
        // The file itself is protected; all else is as flags have it.
        assert_eq!(std::mem::take(&mut startup.config.own_files), [file.path()]);
        Ok(startup)
    }

    #[test]
    fn the_file_has_the_values_of_flags() {
        let text = "root = '/'\nport = 0x50\nbind = ['::1', '10.0.0.1:81,unix:/x']\nlisting = false\nmax-head = 65_536\n\
                    max-body = '1G'\nheader-timeout = 0.5\nidle-timeout = 'off'\napi = false\nhealth = true\n\
                    log-format = 'json'\naccess-log = 'a.log'\nverbose = 2\nmodel = \"threads\"\n";
        let flags = "/ --port 80 -b ::1 -b 10.0.0.1:81 -b unix:/x --no-listing --max-head 64k --max-body 1G -vv \
                     --header-timeout 0.5 --idle-timeout off --no-api --log-format json --access-log a.log \
                     --model threads";
        let (file, flags) = (from_file(text, "").unwrap(), try_parse(flags, &PLAIN).unwrap());
        assert_eq!(format!("{file:?}"), format!("{flags:?}"));
        assert!(file.config.port_is_explicit);
    }

    #[test]
    fn a_flag_beats_the_file() {
        let config = |text, line| from_file(text, &format!("{line} .")).unwrap().config;
        assert_eq!(config("port = 1\nroot = 'no-such'", "-p 2").port, 2);
        assert_eq!(config("bind = ['::1', '::2']", "-b 127.0.0.1").binds.len(), 1, "a list is not added to");
        assert_eq!(config("api = false", "--api").api, Some(true));
        assert_eq!(config("no-api = true", "--api").api, Some(true));
        assert_eq!(config("api = true", "--no-api").api, Some(false));
        assert_eq!(config("api = true", "").api, Some(true));
        assert_eq!(config("no-api = false", "").api, None);
        assert!(config("no-listing = false", "").files.listing);
        assert_eq!(from_file("verbose = 2", "-q .").unwrap().log_level, LevelFilter::Error);
        assert_eq!(from_file("quiet = true", "-v .").unwrap().log_level, LevelFilter::Debug);
        // What the file says was asked for: it gives way to nobody.
        let exit = from_file("max-head = '4k'\nmax-target = '8k'", ".").unwrap_err();
        assert!(
            exit.text().contains(":2) 8KiB: more than the head it stands in, max-head ("),
            "{}",
            exit.text()
        );
        assert_eq!(config("max-head = '4k'", "").limits.target_bytes_max, 4096);
    }

    /// Feeds the printed settings back with each default taken at its word.
    #[test]
    fn every_printed_default_is_a_line_the_file_takes() {
        let shown = try_parse("--show-config", &PLAIN).unwrap_err();
        assert_eq!(shown.code(), 0);
        let (mut text, mut keys) = (String::new(), 0);
        for line in shown.text().lines().filter(|line| !line.starts_with("# ") && !line.is_empty()) {
            let setting = line.strip_prefix('#').unwrap_or_else(|| panic!("a default: {line}"));
            assert!(setting.contains("# default"), "{line}");
            keys += 1;
            if !setting.contains("=  ") {
                text.push_str(&format!("{setting}\n"));
            }
        }
        let flags = Args::command();
        let negative = ["no-api", "no-metrics"].len();
        assert_eq!(keys, setting::settings(&flags).count() - negative);
        let (given, default) = (from_file(&text, ".").unwrap().config, config(""));
        assert!(given.port_is_explicit);
        assert_eq!(format!("{:?}", Config { port_is_explicit: false, ..given }), format!("{default:?}"));
    }

    #[test]
    fn the_last_of_two_wins() {
        assert_eq!(config("--port 1 --port 2").port, 2);
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512k", 512 << 10),
            ("64M", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1gb", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "k", "1.5M", "-1", "12Q", "99999999999999999999", "99999999999G"] {
            assert!(size(text).is_err(), "{text}");
        }
        for (bytes, text) in [(0, "0"), (1000, "1000"), (32 << 10, "32KiB"), (3 << 30, "3GiB")] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn wrong_usage_is_one_line_and_exit_code_2() {
        check_usage("--prot 3", "unknown flag '--prot': did you mean '--port'?");
        check_usage("-x", "unknown flag '-x'");
        check_usage("a b", "'b': one folder is served, and it is named already");
        check_usage("--port abc", "--port 'abc': not a whole number from 0 to 65535");
        check_usage("-p 65536", "--port '65536': not a whole number from 0 to 65535");
        check_usage("--port", "--port: a value is missing");
        check_usage("--port --api", "--port: a value is missing");
        check_usage("--model fast", "--model 'fast': must be one of reactor, threads");
        check_usage("--max-fields 1000", "--max-fields '1000': not a whole number from 1 to 256");
        check_usage("--max-head 10", "--max-head '10': at least 256 is needed");
        check_usage(
            "--idle-timeout 0",
            "--idle-timeout '0': 0 would give up at once; 'off' disables the timeout",
        );
        check_usage(
            "--body-timeout -1",
            "--body-timeout '-1': not a number of seconds from 0 to 31536000, nor 'off'",
        );
        check_usage("--no-listing=yes", "--no-listing 'yes': the flag takes no value");
        check_usage("-q -v .", "--quiet with --verbose: they contradict each other, leave one out");
        check_usage("--api --no-api .", "--api with --no-api: they contradict each other, leave one out");
    }

    #[test]
    fn what_was_typed_cannot_break_the_line() {
        for argument in ["--a\nb", "--port=1\n\x1b[2J", "no\r\nsuch", "--bind=\u{9b}"] {
            let exit = parse(["whirligig", argument], &PLAIN).unwrap_err();
            let line = exit.text().strip_suffix('\n').unwrap();
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn a_root_that_cannot_be_served_is_exit_code_1() {
        let cannot =
            "cannot serve 'no-such-root': No such file or directory (os error 2); name an existing folder";
        check_error("no-such-root", 1, cannot);
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = file.path().display().to_string();
        check_error(
            &name,
            1,
            &format!("cannot serve '{name}': it is not a folder; name the folder it is in"),
        );
    }

    #[test]
    fn www_is_the_default_root_where_there_is_one() {
        let base = tempfile::tempdir().unwrap();
        assert_eq!(default_root(base.path()), Path::new("."));
        std::fs::create_dir(base.path().join("www")).unwrap();
        assert_eq!(default_root(base.path()), Path::new("www"));
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_exit_code_1() {
        let exit = open_log(&config("--access-log /nonexistent/log")).err().unwrap();
        assert_eq!(exit.code(), 1);
        assert_eq!(
            exit.text(),
            "whirligig: --access-log: cannot open '/nonexistent/log': No such file or directory (os error 2); \
             name a file in a folder that can be written\n"
        );
        assert!(open_log(&config("")).unwrap().is_none());
    }

    #[test]
    fn a_taken_port_says_what_to_do() {
        let error = io::Error::from(io::ErrorKind::AddrInUse);
        let exit = Exit::cannot_listen("127.0.0.1:80", &error);
        assert_eq!(exit.code(), 1);
        assert!(
            exit.text()
                .starts_with("whirligig: cannot listen on 127.0.0.1:80: address in use; stop the other")
        );
        assert_eq!(exit.text().lines().count(), 1);
    }

    #[test]
    fn help_names_every_flag_and_fits_80_columns() {
        let (long, short) = (try_parse("--help", &PLAIN).unwrap_err(), try_parse("-h", &PLAIN).unwrap_err());
        assert_eq!((long.code(), short.code()), (0, 0));
        for arg in Args::command().get_arguments() {
            let Some(name) = arg.get_long() else { continue };
            let is_named = |behind: &str| long.text().contains(&format!("--{name}{behind}"));
            assert!([" ", "...", "["].into_iter().any(is_named), "{name}");
        }
        for heading in
            ["Where:", "What:", "Model:", "Timeouts (", "Limits:", "Files:", "Data:", "Logging:", "Examples:"]
        {
            assert!(long.text().contains(&format!("\n{heading}")), "{heading}");
        }
        for line in long.text().lines().chain(short.text().lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(short.text().len() < long.text().len());
    }

    #[test]
    fn version_is_the_packages() {
        let exit = try_parse("--version", &PLAIN).unwrap_err();
        assert_eq!((exit.code(), exit.text()), (0, concat!("whirligig ", env!("CARGO_PKG_VERSION"), "\n")));
    }

    /// Flags that are no settings: they ask for something to be printed.
    const PRINTED_ONLY: [&str; 5] = ["help", "version", "show_config", "completions", "man"];

    #[test]
    fn every_flag_has_a_variable() {
        Args::command().debug_assert();
        for arg in
            Args::command().get_arguments().filter(|arg| !PRINTED_ONLY.contains(&arg.get_id().as_str()))
        {
            let expected = setting::variable(arg.get_id().as_str());
            assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(expected.as_str()));
        }
    }

    /// Not a test by itself: [`flag_beats_variable_beats_default`] runs it in a process with
    /// variables of its own.
    #[test]
    fn print_what_is_parsed() {
        let Ok(line) = std::env::var("TEST_COMMAND_LINE") else { return };
        let said = match try_parse(&line, &PLAIN) {
            Ok(Startup { config: c, log_level, .. }) => format!(
                "{} {} {} {:?} {:?} {log_level} {}",
                c.port,
                c.port_is_explicit,
                c.binds.len(),
                c.api,
                c.files.listing,
                c.root.display()
            ),
            Err(exit) => exit.text().trim_end().to_owned(),
        };
        writeln!(io::stdout().lock(), "\nSAID {said}").unwrap();
    }

    #[test]
    fn flag_beats_variable_beats_default() {
        let said = |variables: &[(&str, &str)], line: &str| {
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", concat!(module_path!(), "::print_what_is_parsed"), "--nocapture"].map(
                    |argument| {
                        argument.strip_prefix(concat!(env!("CARGO_CRATE_NAME"), "::")).unwrap_or(argument)
                    },
                ))
                .env("TEST_COMMAND_LINE", line)
                .envs(variables.iter().copied())
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let said = text.lines().find_map(|line| line.strip_prefix("SAID "));
            said.unwrap_or_else(|| panic!("{text}")).to_owned()
        };
        let all = [
            ("WHIRLIGIG_PORT", "81"),
            ("WHIRLIGIG_BIND", "::1,127.0.0.1"),
            ("WHIRLIGIG_API", "yes"),
            ("WHIRLIGIG_NO_LISTING", "1"),
            ("WHIRLIGIG_VERBOSE", "2"),
            ("WHIRLIGIG_ROOT", "/"),
        ];
        assert_eq!(said(&[], "."), "8080 false 1 None true WARN .");
        assert_eq!(said(&all, ""), "81 true 2 Some(true) false TRACE /");
        assert_eq!(said(&all, "-p 82 -b ::1 --no-api -q ."), "82 true 1 Some(false) false ERROR .");
        assert_eq!(said(&[("WHIRLIGIG_QUIET", "off")], "-v ."), "8080 false 1 None true DEBUG .");
        let wrong =
            "whirligig: WHIRLIGIG_PORT 'x': not a whole number from 0 to 65535; try 'whirligig --help'";
        assert_eq!(said(&[("WHIRLIGIG_PORT", "x")], "."), wrong);
        let wrong = "whirligig: WHIRLIGIG_QUIET with WHIRLIGIG_VERBOSE: they contradict each other, leave one out; \
                     try 'whirligig --help'";
        assert_eq!(said(&[("WHIRLIGIG_QUIET", "1"), ("WHIRLIGIG_VERBOSE", "1")], "."), wrong);
    }

    const URLS: [&str; 2] = ["http://127.0.0.1:8080/", "http://[::1]:8080/"];

    fn banner(line: &str, around: &Surroundings) -> (bool, String) {
        let startup = try_parse(&format!("{line} ."), around).unwrap();
        let text = startup.banner.text(&URLS.map(str::to_owned), &startup.config, None);
        (startup.banner.on_stderr, text)
    }

    #[test]
    fn the_banner_has_each_url_alone_on_a_line() {
        let (version, urls) = (env!("CARGO_PKG_VERSION"), URLS.join("\n"));
        let (on_stderr, text) = banner("--model threads", &PLAIN);
        assert_eq!((on_stderr, text), (false, format!("whirligig {version} serving . (threads)\n{urls}\n")));
        let (_, text) = banner("", &TERMINAL);
        assert!(text.contains("\x1b[36mhttp://[::1]:8080/\x1b[0m\n"), "{text}");
        assert!(text.contains("press Ctrl-C to stop"), "{text}");
        let startup = try_parse(".", &PLAIN).unwrap();
        let odd = Config { root: "w\x1bw".into(), ..startup.config.clone() };
        assert!(startup.banner.text(&[], &odd, None).contains("serving w\\u{1b}w"));
        assert!(startup.banner.text(&[], &odd, Some(8080)).starts_with("port 8080 is taken"));
    }

    #[test]
    fn the_banner_leaves_machines_alone() {
        let urls = format!("{}\n", URLS.join("\n"));
        assert_eq!(banner("-q", &PLAIN), (false, urls.clone()));
        assert_eq!(banner("-q --access-log -", &PLAIN), (true, urls));
        assert!(banner("--access-log -", &PLAIN).0);
        assert!(!banner("--access-log off", &PLAIN).0);
        assert!(!banner("", &TERMINAL).0, "a log that was not asked for goes where a person reads it");
        for (line, around) in [
            ("-q", TERMINAL),
            ("", PLAIN),
            ("", Surroundings { stderr_is_terminal: true, ..PLAIN }),
            ("--access-log -", Surroundings { stdout_is_terminal: true, ..PLAIN }),
        ] {
            let (_, text) = banner(line, &around);
            assert!(!text.contains("Ctrl-C"), "{line} {around:?}: {text}");
        }
        let piped = Surroundings { stderr_is_terminal: true, ..PLAIN };
        assert!(banner("--access-log -", &piped).1.contains("Ctrl-C"), "standard error is a terminal");
    }

    #[test]
    fn a_forgotten_slash_is_told_without_the_password() {
        let warnings = |rule: &str| {
            parse(["whirligig", "--auth", rule, "--write-auth", rule, "."], &PLAIN).unwrap().warnings
        };
        for rule in ["anna:pw@private", "anna:pw@a/b", "anna:p@w@private", "anna:@x"] {
            let warnings = warnings(rule);
            assert_eq!(warnings.len(), 2, "{rule}: {warnings:?}");
            assert!(warnings[0].starts_with("--auth for 'anna' names no path"), "{warnings:?}");
            assert!(warnings[1].starts_with("--write-auth for 'anna'"), "{warnings:?}");
            assert!(!warnings[0].contains("pw") && !warnings[0].contains("private"), "{warnings:?}");
        }
        for rule in ["anna:pw", "anna:pw@/private", "anna:p@w@/", "anna:pw@", "anna:"] {
            assert!(warnings(rule).is_empty(), "{rule}");
        }
    }

    #[test]
    fn flags_of_other_servers_are_answered() {
        for (line, words) in [
            ("--host 0.0.0.0 .", "'--host': --bind ADDR"),
            ("--directory=/srv", "'--directory': the folder to serve is named without a flag"),
            ("-d /srv", "'-d': the folder to serve is named without a flag"),
            ("--open", "'--open': no browser is opened"),
            ("--cert x --key y", "'--cert': this server does not speak TLS"),
            ("--index main.html", "'--index': the index file of a folder is index.html"),
            ("--workers 4", "'--workers': --reactors N"),
            (". 8000", "'8000': one folder is served; a port is written --port 8000"),
            ("8000 .", "'.': one folder is served; a port is written --port 8000"),
            ("-port 80", "'-port': a long flag has two dashes, --port"),
            ("-bind=::1", "'-bind': a long flag has two dashes, --bind"),
        ] {
            let exit = try_parse(line, &PLAIN).unwrap_err();
            assert_eq!(exit.code(), 2, "{line}");
            assert!(exit.text().contains(words), "{line}: {}", exit.text());
            assert!(!exit.text().contains("did you mean"), "{line}: {}", exit.text());
        }
        let exit = try_parse("8000", &PLAIN).unwrap_err();
        assert_eq!(exit.code(), 1);
        assert!(exit.text().ends_with("; for a port write --port 8000\n"), "{}", exit.text());
    }
}
