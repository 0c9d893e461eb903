//! Tests of the command line from its words to a configuration or an error.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::cli::config::default_root;
use crate::cli::setting::{settings, variable};
use crate::cli::value::{Size, bind, size, timeout};
use crate::config::{
    AllowedHost, Bind, CgiOptions, FileOptions, KIB, Limits, LogFormat, MIB, Model, Symlinks, TIMEOUT_MAX,
    Timeouts, TurnLines,
};

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
    assert_eq!((config.log_format, config.turn_lines), (LogFormat::Common, TurnLines::Off));
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
         --max-turn-accepts 17 --max-listing 18 --min-rate 19 --jobs 20 --busy-rate 21k --max-turn-events 22 \
         --max-batch 23",
    )
    .limits;
    assert_eq!((limits.head_bytes_max, limits.fields_max, limits.target_bytes_max), (64 * KIB, 200, 8 * KIB));
    assert_eq!((limits.body_bytes_max, limits.connections_max, limits.threads_max), (1 << 30, 9, 10));
    assert_eq!((limits.pool_bytes_max, limits.collect_bytes_max, limits.spool_bytes_max), (MIB, 12, 0));
    assert_eq!((limits.jobs_max, limits.turn_bytes_max, limits.turn_requests_max), (14, 64 * KIB, 16));
    assert_eq!((limits.accepts_per_turn, limits.listing_entries_max), (17, 18));
    assert_eq!((limits.rate_min_bytes, limits.job_threads), (19, 20));
    assert_eq!((limits.events_per_poll, limits.batch_connections_max), (22, 23));
    assert_eq!(limits.busy_rate_min_bytes, 21 * 1024);
}

#[test]
fn limits_fit_each_other() {
    let limits = config("--max-head 4k").limits;
    assert_eq!(limits.target_bytes_max, 4 * KIB, "a default gives way");
    check_usage(
        "--max-head 4k --max-target 8k .",
        "--max-target 8KiB: larger than the request head that contains it, --max-head 4KiB",
    );
    check_usage("--max-pool 4k .", "--max-pool 4KiB: smaller than one request head, --max-head 32KiB");
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
    assert_eq!(config("--title Photos").files.title.as_deref(), Some("Photos"));
    let exit = parse(["whirligig", "--title", "", "."], &PLAIN).unwrap_err();
    assert!(exit.code() == 2 && exit.text().contains("--title"), "{}", exit.text());
    check_usage(
        &format!("--title {} .", "x".repeat(201)),
        &format!("--title '{}': the title has more than 200 characters", "x".repeat(201)),
    );
    assert_eq!(config("--index b.html --index a.html").files.index, ["b.html", "a.html"]);
    check_usage("--index a/b .", "--index 'a/b': not the name of a file in the folder that is requested");
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
    let names =
        [AllowedHost::Name("nas.lan".into()), AllowedHost::Suffix("example.org".into()), AllowedHost::Any];
    assert_eq!(given.site.allow_hosts, names);
    let argv = ["whirligig", "--cache-control=/a: b", "--header", "/a: B: c", ".", "--cors"];
    let given = parse(argv, &PLAIN).unwrap().config;
    let headers: Vec<_> = given.files.headers.iter().map(|rule| (&rule.name[..], &rule.value[..])).collect();
    assert_eq!(headers, [("B", "c"), ("Cache-Control", "b")]);
    assert_eq!(given.site.cors, ["*"]);
    check_usage(
        "--allow-host a:80 .",
        "--allow-host 'a:80': the host must not contain a port: it applies to every port",
    );
    check_usage("--auth secret .", "--auth: not of the form USER:PASSWORD or USER:PASSWORD@/PATH");
}

#[test]
fn programs_have_their_flags() {
    let given =
        config("--cgi /a=b --cgi /c=d --cgi-timeout off --cgi-max 3 --cgi-env A=b --cgi-authorization").cgi;
    let folders: Vec<_> = given.folders.iter().map(|folder| (&folder.path[..], &*folder.folder)).collect();
    assert_eq!(folders, [("/a", Path::new("b")), ("/c", Path::new("d"))]);
    assert_eq!((given.timeout, given.children_max, given.authorization), (None, 3, true));
    assert_eq!(given.environment, [("A".to_owned(), "b".to_owned())]);
    assert_eq!(format!("{:?}", config("").cgi), format!("{:?}", CgiOptions::default()));
    check_usage(
        "--cgi-env 1=b .",
        "--cgi-env: a name consists of letters, digits and underscores, and a value has no NUL",
    );
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
    for (flags, level, lines) in [
        ("", LevelFilter::Warn, TurnLines::Off),
        ("-q", LevelFilter::Error, TurnLines::Off),
        ("-v", LevelFilter::Debug, TurnLines::Off),
        ("-vv", LevelFilter::Trace, TurnLines::Turns),
        ("-v --verbose -v", LevelFilter::Trace, TurnLines::Steps),
        ("-vvvv", LevelFilter::Trace, TurnLines::Steps),
    ] {
        let startup = parse(flags, &PLAIN);
        assert_eq!((startup.log_level, startup.config.turn_lines), (level, lines), "{flags}");
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
        let is_colored = startup.stderr_colors == Colors::On;
        assert_eq!((startup.banner.color, is_colored), (colored, colored), "{flags} {around:?}");
        let help = try_parse(&format!("{flags} --help"), &around).unwrap_err();
        assert_eq!(help.text().contains('\x1b'), colored, "{flags} {around:?}");
    }
}

fn from_file(text: &str, line: &str) -> Result<Startup, Exit> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    let mut startup = try_parse(&format!("{line} --config {}", file.path().display()), &PLAIN)?;
    // The file itself is protected. Everything else is as if set by flags.
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
    assert!(!config("no-listing = true", "").files.listing);
    assert_eq!(config("no-listing = [\"/in\", \"/b/\"]", "").files.unlisted, ["/in", "/b"]);
    assert_eq!(config("no-listing = \"/in\"", "").files.unlisted, ["/in"]);
    assert_eq!(from_file("verbose = 2", "-q .").unwrap().log_level, LevelFilter::Error);
    assert_eq!(from_file("quiet = true", "-v .").unwrap().log_level, LevelFilter::Debug);
    // A value of the file counts as set: it does not give way.
    let exit = from_file("max-head = '4k'\nmax-target = '8k'", ".").unwrap_err();
    assert!(
        exit.text().contains(":2) 8KiB: larger than the request head that contains it, max-head ("),
        "{}",
        exit.text()
    );
    assert_eq!(config("max-head = '4k'", "").limits.target_bytes_max, 4096);
}

/// Reads the printed settings back, with every default uncommented.
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
    let negative = ["no-api", "no-metrics", "no-loop-page", "no-qr"].len();
    assert_eq!(keys, settings(&flags).count() - negative);
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
    check_usage("--prot 3", "unknown option '--prot': did you mean '--port'?");
    check_usage("-x", "unknown option '-x'");
    check_usage("a b", "'b': only one folder can be served, and one is already given");
    check_usage("--port abc", "--port 'abc': not a whole number from 0 to 65535");
    check_usage("-p 65536", "--port '65536': not a whole number from 0 to 65535");
    check_usage("--port", "--port: a value is missing");
    check_usage("--port --api", "--port: a value is missing");
    check_usage("--model fast", "--model 'fast': must be one of reactor, threads");
    check_usage("--max-fields 1000", "--max-fields '1000': not a whole number from 1 to 256");
    check_usage("--max-head 10", "--max-head '10': must be at least 256");
    check_usage("--idle-timeout 0", "--idle-timeout '0': 0 would expire at once; 'off' disables the timeout");
    check_usage(
        "--body-timeout -1",
        "--body-timeout '-1': must be a number of seconds from 0 to 31536000, or 'off'",
    );
    check_usage("--no-readme=yes", "--no-readme 'yes': the option takes no value");
    check_usage("--no-listing=inbox", "--no-listing 'inbox': not a URL path, such as /inbox");
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
    let cannot = "cannot serve 'no-such-root': No such file or directory (os error 2); name an existing folder or file";
    check_error("no-such-root", 1, cannot);
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
         choose a file in a writable folder\n"
    );
    assert!(open_log(&config("")).unwrap().is_none());
}

#[test]
fn a_taken_port_says_what_to_do() {
    let error = io::Error::from(io::ErrorKind::AddrInUse);
    let exit = Exit::cannot_listen("127.0.0.1:80", &error);
    assert_eq!(exit.code(), 1);
    assert!(
        exit.text().starts_with("whirligig: cannot listen on 127.0.0.1:80: address in use; stop the other")
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
        ["Folder:", "Address:", "Files:", "Uploads:", "Access:", "Data:", "Model:", "Timeouts (", "Examples:"]
    {
        assert!(long.text().contains(&format!("\n{heading}")), "{heading}");
    }
    for line in long.text().lines().chain(short.text().lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

/// Two screens of 24 lines, in the order in which a user needs the options.
#[test]
fn the_short_help_fits_two_screens() {
    let short = try_parse("-h", &PLAIN).unwrap_err();
    let text = short.text();
    assert!(text.lines().count() <= 48, "{} lines\n{text}", text.lines().count());
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}\n{text}"));
    let parts = ["\nFolder:", "\nAddress:", "\nFiles:", "\nUploads:", "\nAccess:", "whirligig --help"];
    assert!(parts.map(at).is_sorted(), "{text}");
    // One line for each option.
    let continued = text.lines().find(|line| line.starts_with(&" ".repeat(10)));
    assert_eq!(continued, None, "{text}");
    let shown = Args::command().get_arguments().filter(|arg| !arg.is_hide_short_help_set()).count();
    assert!(shown >= 25, "{shown} options");
}

#[test]
fn version_is_the_packages() {
    let exit = try_parse("--version", &PLAIN).unwrap_err();
    assert_eq!((exit.code(), exit.text()), (0, concat!("whirligig ", env!("CARGO_PKG_VERSION"), "\n")));
}

/// Flags that are no settings, because they only print something.
const PRINTED_ONLY: [&str; 5] = ["help", "version", "show_config", "completions", "man"];

#[test]
fn every_flag_has_a_variable() {
    Args::command().debug_assert();
    for arg in Args::command().get_arguments().filter(|arg| !PRINTED_ONLY.contains(&arg.get_id().as_str())) {
        let expected = variable(arg.get_id().as_str());
        assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(expected.as_str()));
    }
}

/// Not a test by itself: [`flag_beats_variable_beats_default`] runs it in a process with its own
/// environment variables.
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
                |argument| argument.strip_prefix(concat!(env!("CARGO_CRATE_NAME"), "::")).unwrap_or(argument),
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
    let wrong = "whirligig: WHIRLIGIG_PORT 'x': not a whole number from 0 to 65535; try 'whirligig --help'";
    assert_eq!(said(&[("WHIRLIGIG_PORT", "x")], "."), wrong);
    let wrong = "whirligig: WHIRLIGIG_QUIET with WHIRLIGIG_VERBOSE: they contradict each other, leave one out; \
                 try 'whirligig --help'";
    assert_eq!(said(&[("WHIRLIGIG_QUIET", "1"), ("WHIRLIGIG_VERBOSE", "1")], "."), wrong);
}

const URLS: [&str; 2] = ["http://127.0.0.1:8080/", "http://[::1]:8080/"];

fn banner(line: &str, around: &Surroundings) -> (bool, String) {
    banner_in(line, around, Some(Window { columns: 80, lines: 24 }))
}

fn banner_in(line: &str, around: &Surroundings, window: Option<Window>) -> (bool, String) {
    let startup = try_parse(&format!("{line} ."), around).unwrap();
    let (urls, config) = (URLS.map(str::to_owned), &startup.config);
    let server = Listening {
        urls: &urls,
        root: &config.root,
        model: config.model,
        is_private: config.is_private(),
        port_taken: None,
    };
    (startup.banner.on_stderr, startup.banner.text(&server, window))
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
    let root = Path::new("w\x1bw");
    let model = Model::Reactor;
    let odd = Listening { urls: &[], root, model, is_private: true, port_taken: Some(8080) };
    let text = startup.banner.text(&odd, None);
    assert!(text.contains("serving w\\u{1b}w") && text.starts_with("port 8080 is taken"), "{text}");
}

#[test]
fn a_code_is_drawn_where_a_person_needs_it_and_it_fits() {
    let bare = Surroundings { no_color: true, ..TERMINAL };
    let window = |columns, lines| Some(Window { columns, lines });
    let drawn = |line: &str, around: &Surroundings, window| {
        let (_, text) = banner_in(line, around, window);
        text.contains('\u{2588}')
    };
    for (line, around, is_drawn) in [
        ("--lan", TERMINAL, true),
        ("--bind 0.0.0.0", TERMINAL, true),
        ("", TERMINAL, false),
        ("--qr", TERMINAL, true),
        ("--lan --no-qr", TERMINAL, false),
        ("--lan -q", TERMINAL, false),
        ("--lan --qr -q", TERMINAL, false),
        ("--lan", PLAIN, false),
        ("--lan --qr", PLAIN, true),
        ("--lan", bare, false),
        ("--lan --qr", bare, true),
    ] {
        assert_eq!(drawn(line, &around, None), is_drawn, "{line} {around:?}");
    }
    assert!(drawn("--lan", &TERMINAL, window(80, 24)));
    for (columns, lines) in [(32, 24), (80, 18)] {
        assert!(!drawn("--lan", &TERMINAL, window(columns, lines)), "{columns} x {lines}");
    }
    assert!(drawn("--lan --qr", &TERMINAL, window(80, 18)), "the terminal scrolls");
    let (_, text) = banner_in("--lan --qr", &TERMINAL, window(32, 24));
    assert!(text.contains("\nthe QR code needs a terminal with 33 columns\n"), "{text}");
    let (_, text) = banner_in("--lan", &TERMINAL, window(32, 24));
    assert!(!text.contains("QR"), "{text}");
    check_usage("--qr --no-qr .", "--qr with --no-qr: they contradict each other, leave one out");
}

#[test]
fn the_url_for_this_machine_is_that_of_loopback() {
    let best = |urls: &[&str]| {
        let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        local_url(&urls).map(str::to_owned)
    };
    let (lan, own) = ("http://10.0.0.7:80/", "http://127.0.0.1:80/");
    assert_eq!(best(&[lan, own]).as_deref(), Some(own));
    assert_eq!(best(&["unix:/x", lan]).as_deref(), Some(lan));
    assert_eq!(best(&[lan, "http://[::1]:80/"]).as_deref(), Some("http://[::1]:80/"));
    assert_eq!(best(&["unix:/x"]), None);
}

#[test]
fn lan_is_short_for_all_interfaces() {
    let all = [Bind::Ip(Ipv6Addr::UNSPECIFIED.into(), None)];
    assert_eq!(config("--lan").binds, all);
    assert!(!config("--lan").is_private());
    check_usage("--lan --bind ::1 .", "--lan with --bind: they contradict each other, leave one out");
    let of_file = |text, line| from_file(text, line).unwrap().config.binds;
    assert_eq!(of_file("bind = '::1'", "--lan ."), all);
    assert_eq!(of_file("lan = true", "."), all);
    assert_eq!(of_file("lan = true", "--bind ::1 ."), config("--bind ::1").binds);
    let shown = parse(["whirligig", "--lan", "--show-config"], &PLAIN).unwrap_err();
    assert!(shown.text().contains("\nlan = true "), "{}", shown.text());
    check_usage(
        "--host x .",
        "unknown option '--host': --bind ADDR sets the address to listen on, --lan selects all of them, --port N sets the port",
    );
}

#[test]
fn the_banner_leaves_machines_alone() {
    let url = format!("{}\n", URLS[0]);
    assert_eq!(banner("-q", &PLAIN), (false, url.clone()));
    assert_eq!(banner("-q --access-log -", &PLAIN), (true, url));
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
        assert!(warnings[0].starts_with("--auth for 'anna' has no path"), "{warnings:?}");
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
        ("--directory=/srv", "'--directory': the folder to serve is an argument without an option"),
        ("-d /srv", "'-d': the folder to serve is an argument without an option"),
        ("--browser", "'--browser': --open opens the server in a browser"),
        ("--cert x --key y", "'--cert': this server has no TLS"),
        ("--index-file main.html", "'--index-file': --index NAME is the file to send for a folder"),
        ("--workers 4", "'--workers': --reactors N"),
        (". 8000", "'8000': only one folder can be served; for a port write --port 8000"),
        ("8000 .", "'.': only one folder can be served; for a port write --port 8000"),
        ("-port 80", "'-port': a long option begins with two dashes: --port"),
        ("-bind=::1", "'-bind': a long option begins with two dashes: --bind"),
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
