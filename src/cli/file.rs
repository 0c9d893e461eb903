//! The configuration file: TOML in which each key is a long flag without its dashes, and each value
//! is that of the flag.
//!
//! The values become the defaults of the flags. So clap lets flags and variables override them and
//! reports the same errors for all three. This file must not know any particular key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use clap::builder::OsStr;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};
use toml::de::{DeTable, DeValue};

use crate::cli::exit::{Exit, complaint};
use crate::cli::hint;
use crate::cli::setting::{is_secret, is_switch, key_of, opposite, settings, takes_paths};
use crate::config::CONFIG_FILE_BYTES_MAX;
use crate::log::escape_control;

/// Settings of a configuration file by the id of their flag. Empty if there is no file.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    name: String,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    key: String,
    line: usize,
    values: Vec<OsString>,
}

impl ConfigFile {
    /// Reads the file at `path`. Checks that the flags among `flags` accept each value.
    pub(super) fn read(path: &Path, flags: &Command) -> Result<ConfigFile, Exit> {
        let text = read_bounded(path).map_err(|error| {
            let what = format!("--config: cannot read '{}'", path.display());
            Exit::runtime(&what, error, "name a readable TOML file")
        })?;
        ConfigFile::parse(&path.display().to_string(), &text, flags)
    }

    fn parse(name: &str, text: &str, flags: &Command) -> Result<ConfigFile, Exit> {
        let mut file = ConfigFile { name: name.to_owned(), entries: BTreeMap::new() };
        let mut flags = flags.clone();
        flags.build();
        let table = DeTable::parse(text).map_err(|error| {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            file.wrong(line, &error.message().replace('\n', ", "))
        })?;
        let mut pairs: Vec<_> = table.get_ref().iter().collect();
        // In the order of the file, so that the first error is the one reported.
        pairs.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in pairs {
            let (key, line) = (key.get_ref().as_ref(), line_of(text, key.span().start));
            let (id, values) = setting(&flags, key, value.get_ref()).map_err(|why| file.wrong(line, &why))?;
            if let Some(Entry { key: other, line: first, .. }) = file.entries.get(&id) {
                return Err(file.wrong(line, &format!("{key}: already set in line {first} as {other}")));
            }
            file.entries.insert(id, Entry { key: key.to_owned(), line, values });
        }
        Ok(file)
    }

    /// Returns the `flags` with the values of the file as their defaults.
    pub(super) fn as_defaults(&self, flags: Command) -> Command {
        flags.mut_args(|arg| match self.entries.get(arg.get_id().as_str()) {
            Some(entry) => arg.default_values(entry.values.iter().map(|value| OsStr::from(value.clone()))),
            None => arg,
        })
    }

    /// Returns the file and line that set the flag `id`, and the key used there.
    pub(super) fn place(&self, id: &str) -> Option<(String, &str)> {
        let Entry { key, line, .. } = self.entries.get(id)?;
        Some((format!("{}:{line}", escape_control(&self.name)), key))
    }

    fn wrong(&self, line: usize, why: &str) -> Exit {
        Exit::usage(&format!("--config {}:{line}: {why}", self.name))
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(CONFIG_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > CONFIG_FILE_BYTES_MAX {
        return Err(io::Error::other(format!("the file has more than {CONFIG_FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// Returns the id of the flag that `key` sets, and the values for it.
fn setting(flags: &Command, key: &str, value: &DeValue<'_>) -> Result<(String, Vec<OsString>), String> {
    let off = opposite(flags, key);
    let (arg, values) = match (settings(flags).find(|arg| key_of(arg) == key), off, value) {
        // `api = false` means `--no-api`. If only `--no-listing` exists, `listing = true` means its
        // opposite.
        (Some(_), Some(off), DeValue::Boolean(false)) => (off, vec!["true".into()]),
        (None, Some(off), DeValue::Boolean(on)) => (off, vec![(!on).to_string().into()]),
        (None, Some(_), _) => return Err(format!("{key}: {SWITCH}")),
        (Some(arg), ..) => (arg, values(flags, arg, value).map_err(|why| format!("{key}{why}"))?),
        (None, None, _) => return Err(unknown(flags, key, value)),
    };
    Ok((arg.get_id().to_string(), values))
}

/// Error for a switch with a value other than a boolean.
const SWITCH: &str = "a switch takes true or false";

/// Returns the values of `arg`, or the end of an error message that begins with the key.
fn values(flags: &Command, arg: &Arg, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    match (arg.get_action(), value) {
        (_, DeValue::Table(_)) => {
            Err(": a table is not a valid value; a key takes one value or a list".into())
        }
        (_, DeValue::Datetime(_)) => Err(": a date is not a valid value; put text in quotes".into()),
        (ArgAction::SetTrue, DeValue::Boolean(on)) => Ok(vec![on.to_string().into()]),
        (_, DeValue::Boolean(on)) if takes_paths(arg) => Ok(vec![on.to_string().into()]),
        (ArgAction::SetTrue, _) => Err(format!(": {SWITCH}")),
        (ArgAction::Count, _) => count(value),
        (ArgAction::Append, DeValue::Array(items)) => {
            if items.is_empty() && !arg.get_default_values().is_empty() {
                return Err(": the list is empty".into());
            }
            items.iter().map(|item| accepted(flags, arg, item.get_ref())).collect()
        }
        _ => Ok(vec![accepted(flags, arg, value)?]),
    }
}

/// Returns how often a flag like `-v` would be repeated.
fn count(value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    let times = match value {
        DeValue::Integer(number) => u8::from_str_radix(number.as_str(), number.radix()).ok(),
        DeValue::Boolean(on) => Some(u8::from(*on)),
        _ => None,
    };
    times
        .map(|times| vec![times.to_string().into()])
        .ok_or_else(|| ": not a whole number from 0 to 255".into())
}

/// Returns one value as text if the flag accepts it. Clap checks it as if it were on the command
/// line.
fn accepted(flags: &Command, arg: &Arg, value: &DeValue<'_>) -> Result<OsString, String> {
    let text = text(arg, value)?;
    let word = match arg.get_long() {
        Some(long) => format!("--{long}={text}"),
        None => text.clone(),
    };
    // After `--` every word is an argument, even one that begins with a dash.
    let words = if arg.is_positional() { vec!["", "--", &word] } else { vec!["", &word] };
    match flags.clone().try_get_matches_from(words) {
        // Missing and contradictory flags are checked later, when all sources are known.
        Err(error)
            if !matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict) =>
        {
            Err(complaint(&error, is_secret(arg)).unwrap_or_else(|| ": not a valid value".into()))
        }
        _ => Ok(text.into()),
    }
}

fn text(arg: &Arg, value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        // Flags do not accept 0x10, so the number is converted to decimal.
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Ok(number.to_string()),
        },
        DeValue::Boolean(on) if arg.get_value_parser().type_id() == std::any::TypeId::of::<bool>() => {
            Ok(on.to_string())
        }
        DeValue::Boolean(_) => Err(": takes a value, not true or false".into()),
        DeValue::Array(_) => Err(": takes one value, not a list".into()),
        DeValue::Datetime(_) | DeValue::Table(_) => Err(": put text in quotes".into()),
    }
}

fn unknown(flags: &Command, key: &str, value: &DeValue<'_>) -> String {
    if matches!(value, DeValue::Table(_)) {
        return format!("'{key}' is a table; keys are written without [sections] and dots");
    }
    if flags.get_arguments().any(|arg| key_of(arg) == key) {
        return format!("{key}: only valid on the command line");
    }
    if let Some(advice) = hint::foreign(key) {
        return format!("unknown key '{key}': {advice}");
    }
    match nearest(flags, key) {
        Some(known) => format!("unknown key '{key}': did you mean '{known}'?"),
        None => format!("unknown key '{key}': keys are the long options of 'whirligig --help' without --"),
    }
}

/// Returns the known key that `key` was probably meant to be.
fn nearest(flags: &Command, key: &str) -> Option<String> {
    let positive = |key: &str| key.strip_prefix("no-").map(str::to_owned);
    let keys = settings(flags).flat_map(|arg| {
        let has_opposite = is_switch(arg) || takes_paths(arg);
        let positive = if has_opposite { positive(key_of(arg)) } else { None };
        [Some(key_of(arg).to_owned()), positive].into_iter().flatten()
    });
    let keys: std::collections::BTreeSet<String> = keys.collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    hint::nearest(key, &keys).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Args;
    use clap::CommandFactory as _;

    #[track_caller]
    fn check_wrong(text: &str, expected: &str) {
        let exit = ConfigFile::parse("w.toml", text, &Args::command()).unwrap_err();
        let expected = format!("whirligig: --config w.toml:{expected}; try 'whirligig --help'\n");
        assert_eq!((exit.code(), exit.text()), (2, expected.as_str()), "{text:?}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        check_wrong("# one\n\nprot = 3", "3: unknown key 'prot': did you mean 'port'?");
        check_wrong("max_head = 1", "1: unknown key 'max_head': did you mean 'max-head'?");
        check_wrong("--port = 1", "1: unknown key '--port': did you mean 'port'?");
        check_wrong("lising = true", "1: unknown key 'lising': did you mean 'listing'?");
        let strange = "keys are the long options of 'whirligig --help' without --";
        check_wrong("xyzzy = 1", &format!("1: unknown key 'xyzzy': {strange}"));
        check_wrong("'' = 1", &format!("1: unknown key '': {strange}"));
        check_wrong("config = 'x'", "1: config: only valid on the command line");
        check_wrong("help = true", "1: help: only valid on the command line");
        check_wrong("root = '.'\r\nport = 'x'", "2: port 'x': not a whole number from 0 to 65535");
        check_wrong("port = -1", "1: port '-1': not a whole number from 0 to 65535");
        check_wrong("port = true", "1: port: takes a value, not true or false");
        check_wrong("port = [1]", "1: port: takes one value, not a list");
        check_wrong("port = 1979-05-27", "1: port: a date is not a valid value; put text in quotes");
        check_wrong("bind = ['::1',\n[]]", "1: bind: takes one value, not a list");
        check_wrong("bind = []", "1: bind: the list is empty");
        check_wrong("model = 'fast'", "1: model 'fast': must be one of reactor, threads");
        check_wrong("quiet = 1", "1: quiet: a switch takes true or false");
        check_wrong("listing = 'no'", "1: listing: a switch takes true or false");
        check_wrong("verbose = 256", "1: verbose: not a whole number from 0 to 255");
        check_wrong("listing = true\nno-listing = true", "2: no-listing: already set in line 1 as listing");
        let table = "is a table; keys are written without [sections] and dots";
        check_wrong("\n[limits]\nmax-head = 1", &format!("2: 'limits' {table}"));
        check_wrong("a.b = 1", &format!("1: 'a' {table}"));
        check_wrong("[port]", "1: port: a table is not a valid value; a key takes one value or a list");
        check_wrong("port = 1\nport = 2", "2: duplicate key");
        check_wrong("port = 1\nroot = \"x\n", "2: invalid basic string, expected `\"`");
    }

    /// Flags of several kinds, independent of the flags that the program has now.
    fn others() -> Command {
        let flag = |name: &'static str| Arg::new(name).long(name).env("WHIRLIGIG_TEST_UNSET");
        let pair = |text: &str| match text.contains(':') {
            true => Ok(text.to_owned()),
            false => Err("not USER:PASSWORD".to_owned()),
        };
        Command::new("others").args([
            flag("header").action(ArgAction::Append),
            flag("auth").value_parser(pair).hide_env_values(true),
            flag("compress").num_args(1).requires("level"),
            flag("no-compress").action(ArgAction::SetTrue),
            flag("level"),
        ])
    }

    #[test]
    fn any_kind_of_flag_is_a_key() {
        let file = |text: &str| ConfigFile::parse("w.toml", text, &others());
        let values = |text: &str, id: &str| file(text).unwrap().entries[id].values.clone();
        assert_eq!(values("header = ['A: 1, 2', '', '-x']", "header"), ["A: 1, 2", "", "-x"]);
        assert_eq!(values("header = 'A: 1'", "header"), ["A: 1"]);
        assert!(values("header = []", "header").is_empty());
        assert_eq!(values("compress = false", "no-compress"), ["true"]);
        assert_eq!(values("compress = 'br'", "compress"), ["br"], "what it requires may be said elsewhere");
        let exit = file("auth = 'secret'").unwrap_err();
        assert_eq!(
            exit.text(),
            "whirligig: --config w.toml:1: auth: not USER:PASSWORD; try 'whirligig --help'\n"
        );
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = ConfigFile::parse("w.toml", "header = ['a', 'b']\nlevel = 3", &others()).unwrap();
        let matches = file.as_defaults(others()).try_get_matches_from(["", "--header", "c"]).unwrap();
        let values = |id| matches.get_many::<String>(id).unwrap().map(String::as_str).collect::<Vec<_>>();
        assert_eq!((values("header"), values("level")), (vec!["c"], vec!["3"]));
        assert_eq!(file.place("level"), Some(("w.toml:2".to_owned(), "level")));
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let comment = |bytes: usize| format!("#{}", "x".repeat(bytes - 1));
        let most = usize::try_from(CONFIG_FILE_BYTES_MAX).unwrap();
        std::fs::write(&file, comment(most)).unwrap();
        assert!(ConfigFile::read(file.path(), &Args::command()).is_ok());
        std::fs::write(&file, comment(most + 1)).unwrap();
        let exit = ConfigFile::read(file.path(), &Args::command()).unwrap_err();
        assert!(exit.code() == 1 && exit.text().contains("more than 1048576 bytes"), "{}", exit.text());
        let exit = ConfigFile::read(Path::new("no-such-file"), &Args::command()).unwrap_err();
        assert_eq!(
            (exit.code(), exit.text()),
            (
                1,
                "whirligig: --config: cannot read 'no-such-file': No such file or directory (os error 2); name a \
                 readable TOML file\n"
            )
        );
    }
}
