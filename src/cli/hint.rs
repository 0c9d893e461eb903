//! Hints for unknown flags: a similar name, or the equivalent of a flag of another server.
//!
//! A suggestion that is not very similar is worse than none, because it leads to a setting with
//! another effect. This file takes and returns text; it must not know how flags are parsed.

/// Returns advice for a flag of another common server that this program does not have. `flag`
/// includes its dashes.
pub(super) fn foreign(flag: &str) -> Option<&'static str> {
    let name = flag.trim_start_matches('-').to_ascii_lowercase().replace('_', "-");
    let of_row = |names: &str| names.split(' ').any(|known| known == name);
    FOREIGN.iter().find(|(names, _)| of_row(names)).map(|(_, advice)| *advice)
}

/// Flags of Python's http.server, http-server, serve, Caddy, miniserve, darkhttpd, PHP and others,
/// with advice for each group.
const FOREIGN: [(&str, &str); 20] = [
    (
        "host hostname address addr listen ip interface interfaces",
        "--bind ADDR sets the address to listen on, --lan selects all of them, --port N sets the port",
    ),
    (
        "directory dir folder docroot document-root webroot d",
        "the folder to serve is an argument without an option, as in 'whirligig DIR'",
    ),
    ("browser launch o", "--open opens the server in a browser"),
    (
        "cert key certificate ssl tls https ssl-cert ssl-key tls-cert tls-key",
        "this server has no TLS; put a proxy with TLS in front of it",
    ),
    (
        "index-file index-files",
        "--index NAME is the file to send for a folder; --spa=/PAGE serves one page for all missing paths",
    ),
    ("browse autoindex dirlisting directory-listing", "folders are listed unless --no-listing is given"),
    ("silent", "--quiet logs errors only"),
    ("debug", "-v logs more, -vv one line for each turn of the loop, -vvv every step"),
    ("workers processes", "--reactors N runs several loops, --jobs N sets the threads for blocking work"),
    ("threads", "--model threads serves each connection on a thread of its own, --max-threads N of them"),
    (
        "timeout",
        "each phase has its own timeout: --header-timeout, --body-timeout, --send-timeout, --idle-timeout",
    ),
    ("username password user basic-auth credentials", "--auth USER:PASSWORD[@/PATH] requires a password"),
    ("single fallback", "--spa serves /index.html for paths that do not exist"),
    ("watch livereload reload hot", "--live-reload reloads pages when a file changes"),
    ("proxy upstream", "this server is not a proxy; --cgi runs programs that respond to requests"),
    (
        "gzip brotli precompress",
        "responses are compressed and NAME.br or NAME.gz is sent without an option; --compress sets the level",
    ),
    ("log log-file logfile accesslog", "--access-log FILE writes the access log"),
    (
        "daemon daemonize background",
        "this server stays in the foreground; start it with a service manager, nohup or &",
    ),
    ("mime-type mime-types mimetypes content-type", "--mime EXT=TYPE sets the type of files by extension"),
    ("dotfiles hidden", "names that begin with a dot are never served, except /.well-known"),
];

/// Returns the name among `known` that `typed` was probably meant to be: it differs in one or two
/// letters, or is the only completion.
pub(super) fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let typed = typed.trim_start_matches('-').to_ascii_lowercase().replace('_', "-");
    let slips_max = match typed.len() {
        ..NAME_LETTERS_MIN => 0,
        NAME_LETTERS_MIN..LONG_NAME_LETTERS => 1,
        LONG_NAME_LETTERS.. => 2,
    };
    // A short name with another first letter is another word: `--time` is not `--mime`.
    let may_differ = |name: &str| typed.len() >= LONG_NAME_LETTERS || name.get(..1) == typed.get(..1);
    let distances = known.iter().map(|name| (strsim::osa_distance(&typed, name), *name));
    let near = distances.filter(|(slips, name)| *slips <= slips_max && may_differ(name)).min();
    near.map(|(_, name)| name).or_else(|| {
        let is_completion = |name: &&&str| name.starts_with(&typed) && typed.len() >= NAME_LETTERS_MIN;
        let mut completions = known.iter().filter(is_completion).copied();
        completions.next().filter(|_| completions.next().is_none())
    })
}

/// Returns the message about a name that does not exist: the name that was probably meant, or else
/// all names.
pub(super) fn unknown(what: &str, typed: &str, known: &[&str]) -> String {
    match nearest(typed, known) {
        Some(similar) => format!("{what}: did you mean '{similar}'?"),
        None => format!("{what}; allowed: {}", known.join(", ")),
    }
}

/// Length from which a name may differ in two letters. `--time` is not a misspelt `--mime`.
const LONG_NAME_LETTERS: usize = 8;

/// Shortest name for which anything is suggested. A shorter one resembles too many others.
const NAME_LETTERS_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Args;
    use clap::CommandFactory as _;

    fn suggestion(typed: &str) -> Option<String> {
        let flags = Args::command();
        let known: Vec<&str> = flags.get_arguments().filter_map(clap::Arg::get_long).collect();
        nearest(typed, &known).map(str::to_owned)
    }

    #[test]
    fn near_names_are_found() {
        for (typed, meant) in [
            ("--prot", "port"),
            ("--no-listng", "no-listing"),
            ("--acess-log", "access-log"),
            ("--PORT", "port"),
            ("--max_body", "max-body"),
            ("--max-conection", "max-connections"),
            ("--livereloa", "live-reload"),
            ("--live", "live-reload"),
            ("--symlink", "symlinks"),
            ("--bnid", "bind"),
        ] {
            assert_eq!(suggestion(typed).as_deref(), Some(meant), "{typed}");
        }
    }

    #[test]
    fn a_message_has_the_near_name_or_all() {
        let known = ["read-once", "lost-wake-up"];
        let message = |typed| unknown("unknown bug", typed, &known);
        assert_eq!(message("lost-wakeup"), "unknown bug: did you mean 'lost-wake-up'?");
        assert_eq!(message("nix"), "unknown bug; allowed: read-once, lost-wake-up");
    }

    #[test]
    fn far_names_are_not() {
        for typed in [
            "--directory",
            "--cert",
            "--frobnicate",
            "--gzip",
            "--daemon",
            "--max",
            "--time",
            "--header-",
            "--x",
            "-x",
            "--root-directory",
            "--ba",
        ] {
            let found = suggestion(typed);
            assert!(
                found.is_none() || (typed, found.as_deref()) == ("--header-", Some("header")),
                "{typed}: {found:?}"
            );
        }
    }

    #[test]
    fn advice_names_flags_that_exist_for_flags_that_do_not() {
        let flags = Args::command();
        let is_flag = |name: &str| flags.get_arguments().any(|arg| arg.get_long() == Some(name));
        for (names, advice) in FOREIGN {
            for name in names.split(' ') {
                assert!(!is_flag(name), "--{name} exists: take it out of the list");
                assert_eq!(foreign(&format!("--{name}")), Some(advice), "{name} is listed twice");
            }
            let words = advice.split([' ', ',', ';', '=', '[']).filter_map(|word| word.strip_prefix("--"));
            for word in words {
                assert!(is_flag(word), "--{word} in: {advice}");
            }
        }
        assert_eq!(foreign("--Host"), foreign("--host"));
        assert_eq!(foreign("--frobnicate"), None);
    }
}
