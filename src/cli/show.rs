//! `--show-config`: prints every setting as a line of a configuration file, with its source.
//!
//! Defaults are commented out, so that the text has the same effect when it is read with
//! `--config`. For example, the default port may still give way to a free one, and an unset limit
//! still follows another. This file must not know any particular setting, except switches that
//! contradict each other under unrelated names.

use std::ffi::OsStr;

use clap::{Arg, ArgAction, Command};

use crate::cli::setting::{is_secret, is_switch, is_text, key_of, masked, opposite, settings, takes_paths};
use crate::cli::sources::Sources;
use crate::cli::value::is_true;
use crate::log::escape_control;

/// Contradictory switches other than KEY and no-KEY. An overridden one is printed as a comment.
const CONTRARY: [(&str, &str); 2] = [("quiet", "verbose"), ("lan", "bind")];

/// One setting as printed.
struct Line {
    key: String,
    /// Value as TOML; empty if there is none.
    value: String,
    /// True if the line is not commented out.
    is_live: bool,
    /// Source of the value.
    place: String,
}

/// Returns the whole text.
pub(super) fn show(flags: &Command, sources: &Sources) -> String {
    let mut text = format!(
        "# All settings of whirligig {} with their sources, as a file for --config.\n\
         # Defaults are commented out; remove the first # of a line to set one.\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut heading = None;
    for arg in settings(flags) {
        let Some(line) = line(flags, sources, arg) else { continue };
        if arg.get_help_heading() != heading {
            heading = arg.get_help_heading();
            text.push_str(&format!("\n# {}\n", heading.unwrap_or("Other")));
        }
        let hash = if line.is_live { "" } else { "#" };
        let setting = format!("{hash}{} = {}", line.key, line.value);
        text.push_str(&format!("{setting:<34} # {}\n", line.place));
    }
    text
}

/// Returns the line for `arg`, or `None` if the line of its opposite covers it.
fn line(flags: &Command, sources: &Sources, arg: &Arg) -> Option<Line> {
    let (id, key) = (arg.get_id().as_str(), key_of(arg));
    let live = |key: &str, value: String, id: &str| Line {
        key: key.to_owned(),
        value,
        is_live: !sources.is_default(id),
        place: if sources.is_default(id) { default_of(arg) } else { sources.place(id) },
    };
    if let Some(positive) = key.strip_prefix("no-").filter(|_| is_switch(arg)) {
        let stands_alone = !settings(flags).any(|other| key_of(other) == positive);
        return stands_alone.then(|| live(positive, (!sources.matches().get_flag(id)).to_string(), id));
    }
    if let Some(positive) = key.strip_prefix("no-").filter(|_| takes_paths(arg)) {
        let mut given = sources.matches().get_raw(id).into_iter().flatten();
        if given.all(|value| !value.as_encoded_bytes().starts_with(b"/")) {
            let is_off = sources.matches().get_raw(id).into_iter().flatten().any(is_true);
            return Some(live(positive, (!is_off).to_string(), id));
        }
    }
    if let Some(off) =
        opposite(flags, key).filter(|off| is_switch(off) && sources.matches().get_flag(off.get_id().as_str()))
    {
        let off = off.get_id().as_str();
        if sources.of(off) > sources.of(id) || !is_said(sources, arg) {
            return Some(live(key, "false".into(), off));
        }
    }
    if is_switch(arg) && opposite(flags, key).is_some() && !sources.matches().get_flag(id) {
        // Neither is on, so the server decides.
        return Some(Line { key: key.into(), value: String::new(), is_live: false, place: default_of(arg) });
    }
    let mut line = live(key, value(sources, arg), id);
    if let Some(winner) = overruled_by(flags, sources, arg) {
        line.is_live = false;
        line.place.push_str(&format!(", overridden by {winner}"));
    } else if is_secret(arg) && line.is_live {
        line.is_live = false;
        line.place.push_str("; the secret is not shown");
    } else if line.is_live
        && sources.matches().get_raw(id).is_some_and(|mut all| all.any(|one| one.to_str().is_none()))
    {
        line.is_live = false;
        line.place.push_str("; not UTF-8, which a file cannot hold");
    }
    Some(line)
}

/// True if a switch is on, or if another setting has a value that is not the default.
fn is_said(sources: &Sources, arg: &Arg) -> bool {
    let id = arg.get_id().as_str();
    match arg.get_action() {
        ArgAction::SetTrue => sources.matches().get_flag(id),
        ArgAction::Count => sources.matches().get_count(id) > 0,
        _ => !sources.is_default(id),
    }
}

/// Returns the contradictory switch if it is on as well and its source has precedence.
fn overruled_by<'a>(flags: &'a Command, sources: &Sources, arg: &Arg) -> Option<&'a str> {
    let id = arg.get_id().as_str();
    let contrary = |(one, other)| match id {
        _ if id == one => Some(other),
        _ if id == other => Some(one),
        _ => None,
    };
    let other = CONTRARY.into_iter().find_map(contrary)?;
    let other = settings(flags).find(|arg| arg.get_id() == other)?;
    let wins = is_said(sources, arg)
        && is_said(sources, other)
        && sources.of(other.get_id().as_str()) > sources.of(id);
    wins.then(|| key_of(other))
}

fn value(sources: &Sources, arg: &Arg) -> String {
    let (id, matches) = (arg.get_id().as_str(), sources.matches());
    let raw = || matches.get_raw(id).into_iter().flatten().map(|value| as_toml(arg, value));
    match arg.get_action() {
        ArgAction::SetTrue => matches.get_flag(id).to_string(),
        ArgAction::Count => matches.get_count(id).to_string(),
        ArgAction::Append => format!("[{}]", raw().collect::<Vec<_>>().join(", ")),
        _ => raw().next().unwrap_or_default(),
    }
}

/// Formats a value as TOML: a plain number as a number, anything else in quotes.
fn as_toml(arg: &Arg, value: &OsStr) -> String {
    let text = if is_secret(arg) { masked(value) } else { value.to_string_lossy().into_owned() };
    let is_integer = text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    let is_decimal = text.contains('.') && text.parse::<f64>().is_ok_and(|number| number.to_string() == text);
    if !is_text(arg) && (is_integer || is_decimal) { text } else { quoted(&text) }
}

/// Formats text as a basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            _ if char.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(char))),
            _ => quoted.push(char),
        }
    }
    quoted + "\""
}

/// Returns "default", with its value if only the help states it.
fn default_of(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let told = help.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
    told.map_or_else(|| "default".into(), |(told, _)| format!("default: {}", escape_control(told)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::file::ConfigFile;

    /// Returns the lines for `flags` with these `words` on the command line, without headings and
    /// defaults.
    fn shown(flags: &Command, words: &[&OsStr]) -> Vec<String> {
        let words = std::iter::once(OsStr::new("")).chain(words.iter().copied());
        let matches = flags.clone().try_get_matches_from(words).unwrap();
        let text = show(flags, &Sources::new(matches, ConfigFile::default()));
        let lines = text.lines().filter(|line| line.contains("# command line"));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    fn flag(name: &'static str) -> Arg {
        Arg::new(name).long(name).env("WHIRLIGIG_TEST_UNSET")
    }

    #[test]
    fn secrets_are_not_shown() {
        let flags = Command::new("x").args([
            flag("auth").action(ArgAction::Append).hide_env_values(true),
            flag("key").hide_env_values(true),
        ]);
        let words = ["--auth=ann:hun:ter2", "--auth=bob:x", "--key=hunter2"].map(OsStr::new);
        assert_eq!(
            shown(&flags, &words),
            [
                r##"#auth = ["ann:***", "bob:***"] # command line; the secret is not shown"##,
                r##"#key = "***" # command line; the secret is not shown"##,
            ]
        );
    }

    #[test]
    fn values_are_toml() {
        use std::os::unix::ffi::OsStrExt as _;
        let flags = Command::new("x").args([
            flag("dir").value_parser(clap::value_parser!(std::path::PathBuf)),
            flag("number").value_parser(clap::value_parser!(f64)),
            flag("word"),
        ]);
        let check = |word: &[u8], expected: &str| {
            assert_eq!(shown(&flags, &[OsStr::from_bytes(word)]), [expected]);
        };
        check(b"--dir=2024", r##"dir = "2024" # command line"##);
        check(b"--dir=a\"\\\n\x7f", r##"dir = "a\"\\\u000A\u007F" # command line"##);
        check(b"--dir=\xff", "#dir = \"\u{fffd}\" # command line; not UTF-8, which a file cannot hold");
        check(b"--number=5", "number = 5 # command line");
        check(b"--number=0.5", "number = 0.5 # command line");
        check(b"--number=1e3", r##"number = "1e3" # command line"##);
        check(b"--word=5", r##"word = "5" # command line"##);
    }

    #[test]
    fn one_line_says_both_of_a_pair() {
        let switch = |name| flag(name).action(ArgAction::SetTrue);
        let flags =
            Command::new("x").args([switch("api"), switch("no-api"), switch("no-listing"), switch("quiet")]);
        let check = |words: &[&str], expected: &[&str]| {
            let words: Vec<_> = words.iter().map(OsStr::new).collect();
            assert_eq!(shown(&flags, &words), expected);
        };
        check(&["--api"], &["api = true # command line"]);
        check(&["--no-api"], &["api = false # command line"]);
        check(&["--no-listing"], &["listing = false # command line"]);
        check(&["--quiet"], &["quiet = true # command line"]);
        check(&[], &[]);
    }
}
