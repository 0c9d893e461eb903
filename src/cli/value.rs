//! The values of flags: sizes, times, addresses and choices.
//!
//! Parses text to a value or an error, and formats a value as `--help` shows a default. This file
//! must not know which flag has which type.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Command;
use clap::ValueEnum;
use clap::builder::{BoolishValueParser, PossibleValue, TypedValueParser as _};

use crate::config::{Bind, EtagFrom, LogFormat, Model, Symlinks, TIMEOUT_MAX};
use crate::docroot::types::check_charset;
use crate::features::upload::destination::parse_upload_path;

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    pub(super) fn resolve(self, is_terminal: bool, no_color: bool) -> bool {
        match self {
            Color::Auto => is_terminal && !no_color,
            Color::Always => true,
            Color::Never => false,
        }
    }
}

// The names of choices stand here and not in `config`, which does not know the command line.
impl ValueEnum for Model {
    fn value_variants<'a>() -> &'a [Self] {
        &[Model::Reactor, Model::Threads]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Model::Reactor => "reactor",
            Model::Threads => "threads",
        }))
    }
}

impl ValueEnum for Symlinks {
    fn value_variants<'a>() -> &'a [Self] {
        &[Symlinks::Inside, Symlinks::No, Symlinks::All]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Symlinks::Inside => "inside",
            Symlinks::No => "no",
            Symlinks::All => "all",
        }))
    }
}

impl ValueEnum for EtagFrom {
    fn value_variants<'a>() -> &'a [Self] {
        &[EtagFrom::Content, EtagFrom::ChangeTime]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            EtagFrom::Content => "content",
            EtagFrom::ChangeTime => "change-time",
        }))
    }
}

impl ValueEnum for LogFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[LogFormat::Common, LogFormat::Combined, LogFormat::VhostCombined, LogFormat::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            LogFormat::Common => "common",
            LogFormat::Combined => "combined",
            LogFormat::VhostCombined => "vhost-combined",
            LogFormat::Json => "json",
        }))
    }
}

impl ValueEnum for Color {
    fn value_variants<'a>() -> &'a [Self] {
        &[Color::Auto, Color::Always, Color::Never]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Color::Auto => "auto",
            Color::Always => "always",
            Color::Never => "never",
        }))
    }
}

/// Largest number of characters of a title. A browser shows far fewer.
const TITLE_CHARS_MAX: usize = 200;

/// Parses the name of the site.
pub(super) fn title(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0 => Err("the title is empty".to_owned()),
        1..=TITLE_CHARS_MAX => Ok(text.to_owned()),
        _ => Err(format!("the title has more than {TITLE_CHARS_MAX} characters")),
    }
}

/// A part of `--no-listing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoListing {
    /// The switch: no folder is listed, or all are.
    Everywhere(bool),
    /// This folder and those below it are not listed.
    Below(String),
}

impl NoListing {
    /// Returns the folder, unless this is the switch.
    pub(super) fn folder(&self) -> Option<String> {
        match self {
            NoListing::Everywhere(_) => None,
            NoListing::Below(folder) => Some(folder.clone()),
        }
    }
}

/// Parses `true`, `false` or a URL path.
pub(super) fn no_listing(text: &str) -> Result<NoListing, String> {
    match text.starts_with('/') {
        true => parse_upload_path(text).map(NoListing::Below),
        false => match BoolishValueParser::new().parse_ref(&Command::new(""), None, OsStr::new(text)) {
            Ok(on) => Ok(NoListing::Everywhere(on)),
            Err(_) => Err("not a URL path, such as /inbox".to_owned()),
        },
    }
}

/// Returns whether a value of a switch turns it on.
pub(super) fn is_true(value: &OsStr) -> bool {
    BoolishValueParser::new().parse_ref(&Command::new(""), None, value).unwrap_or(false)
}

/// A number of bytes, written as `512k`, `64M`, `64MiB` or without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// Units of a size, largest first.
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Size {
    pub(super) fn of(bytes: usize) -> Size {
        Size(bytes as u64)
    }

    /// Returns the size in memory. [`memory_size`] ensures that it fits.
    pub(super) fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, bytes) in UNITS {
            if self.0 != 0 && self.0.is_multiple_of(bytes) {
                return write!(f, "{}{unit}", self.0 / bytes);
            }
        }
        write!(f, "{}", self.0)
    }
}

pub(super) fn size(text: &str) -> Result<Size, String> {
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err("not a size; write 65536, 64k, 64KiB, 1M or 1G".into()),
    };
    if number.is_empty() {
        return Err("not a size; write 65536, 64k, 64KiB, 1M or 1G".into());
    }
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    bytes.map(Size).ok_or_else(|| "the size is too large".into())
}

pub(super) fn size_within(text: &str, least: u64, most: u64) -> Result<Size, String> {
    let size = size(text)?;
    match size.0 {
        bytes if bytes < least => Err(format!("must be at least {}", Size(least))),
        bytes if bytes > most => Err(format!("must be at most {}", Size(most))),
        _ => Ok(size),
    }
}

/// A head is parsed as a whole, and each connection may hold one. So the size is limited to 1 MiB.
pub(super) fn head_size(text: &str) -> Result<Size, String> {
    size_within(text, 256, 1 << 20)
}

pub(super) fn target_size(text: &str) -> Result<Size, String> {
    size_within(text, 16, 1 << 20)
}

/// With less than a page per turn, the loop would only turn and move no bytes.
pub(super) fn turn_size(text: &str) -> Result<Size, String> {
    size_within(text, 4 << 10, 1 << 30)
}

pub(super) fn memory_size(text: &str) -> Result<Size, String> {
    size_within(text, 0, isize::MAX as u64)
}

pub(super) fn count<const LEAST: usize, const MOST: usize>(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(number) if (LEAST..=MOST).contains(&number) => Ok(number),
        _ => Err(format!("not a whole number from {LEAST} to {MOST}")),
    }
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "not a whole number from 0 to 65535".into())
}

/// A timeout in seconds, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeout(pub(super) Option<Duration>);

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(timeout) => write!(f, "{}", timeout.as_secs_f64()),
            None => f.write_str("off"),
        }
    }
}

pub(super) fn timeout(text: &str) -> Result<Timeout, String> {
    match drain_timeout(text)? {
        Timeout(Some(Duration::ZERO)) => Err("0 would expire at once; 'off' disables the timeout".into()),
        timeout => Ok(timeout),
    }
}

/// Parses a timeout that may be 0, as the drain timeout may: all connections are closed at once.
pub(super) fn drain_timeout(text: &str) -> Result<Timeout, String> {
    if text == "off" {
        return Ok(Timeout(None));
    }
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds {
        Some(timeout) if timeout <= TIMEOUT_MAX => Ok(Timeout(Some(timeout))),
        _ => Err(format!("must be a number of seconds from 0 to {}, or 'off'", TIMEOUT_MAX.as_secs())),
    }
}

/// A time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Milliseconds(pub(super) Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs_f64() * 1000.0)
    }
}

pub(super) fn milliseconds(text: &str) -> Result<Milliseconds, String> {
    let time = text.parse::<f64>().ok().and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok());
    match time {
        Some(time) if time <= TIMEOUT_MAX => Ok(Milliseconds(time)),
        _ => Err("not a number of milliseconds".into()),
    }
}

/// A level of compression, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level(pub(super) Option<u32>);

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(level) => write!(f, "{level}"),
            None => f.write_str("off"),
        }
    }
}

pub(super) fn level(text: &str) -> Result<Level, String> {
    match text.parse() {
        _ if text == "off" => Ok(Level(None)),
        Ok(level @ 1..=9) => Ok(Level(Some(level))),
        _ => Err("must be a level from 1 to 9, or 'off'".into()),
    }
}

/// The charset of texts, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Charset(pub(super) Option<String>);

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("off"))
    }
}

pub(super) fn charset(text: &str) -> Result<Charset, String> {
    match text {
        "off" => Ok(Charset(None)),
        name => check_charset(name).map(|name| Charset(Some(name))).map_err(|why| format!("{why}, or 'off'")),
    }
}

/// A page of the docroot for an error status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ErrorPage {
    pub(super) code: u16,
    pub(super) path: String,
}

pub(super) fn error_page(text: &str) -> Result<ErrorPage, String> {
    let (code, path) = text.split_once('=').ok_or("not of the form 404=/404.html")?;
    let code = match code {
        "403" => 403,
        "404" => 404,
        _ => return Err("only statuses 403 and 404 can have a page of ROOT".into()),
    };
    Ok(ErrorPage { code, path: page(path)? })
}

/// Parses a path below the docroot into the form in which requests are looked up.
pub(super) fn page(text: &str) -> Result<String, String> {
    let path = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
    let is_plain =
        !path.ends_with('/') && path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    if is_plain { Ok(path) } else { Err("not a plain path of a file below ROOT, such as /404.html".into()) }
}

/// Longest path that a Unix socket address can hold, in bytes.
const UNIX_PATH_BYTES_MAX: usize = 107;

pub(super) fn bind(text: &str) -> Result<Bind, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path.len() {
            0 => Err("no path after 'unix:'".into()),
            length if length > UNIX_PATH_BYTES_MAX => {
                Err(format!("the path of a socket has at most {UNIX_PATH_BYTES_MAX} bytes"))
            }
            _ => Ok(Bind::Unix(path.into())),
        };
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Bind::Ip(address, None));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Bind::Ip(address.ip(), Some(address.port())));
    }
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'))
        && let Ok(address) = address.parse::<Ipv6Addr>()
    {
        return Ok(Bind::Ip(address.into(), None));
    }
    // `localhost` is the same everywhere, and people type it.
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    match (name, port.map(str::parse::<u16>)) {
        ("localhost", None) => Ok(Bind::Ip(Ipv4Addr::LOCALHOST.into(), None)),
        ("localhost", Some(Ok(port))) => Ok(Bind::Ip(Ipv4Addr::LOCALHOST.into(), Some(port))),
        ("" | "*", _) => {
            Err("no address; 0.0.0.0 is every IPv4 address, :: every IPv6 and IPv4 address".into())
        }
        (name, Some(_)) if name.parse::<Ipv4Addr>().is_ok() || name == "localhost" => {
            Err("the port after the address is not a number from 0 to 65535".into())
        }
        _ => {
            Err("not an IP address; names are not looked up, write 127.0.0.1, ::, [::1]:8080 or unix:PATH"
                .into())
        }
    }
}

pub(super) fn name_of(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
