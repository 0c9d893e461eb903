//! The command line: reads flags, environment variables and the configuration file into a
//! [`Config`], or returns an error of one line. Also prints the banner.
//!
//! Each flag is defined once, in `Args`. Help, completions, the manual page, the keys of the file
//! and `--show-config` are derived from it. Defaults come from `config`. `tools` runs `whirligig
//! sim` and the like. This folder starts no server and must not know which code uses a setting. It
//! accesses the disk only to read the configuration file, to open the access log, to write the file
//! of URLs and to check that the folder to serve exists.

mod args;
mod banner;
mod browser;
mod config;
mod exit;
mod fate;
mod file;
mod hint;
mod manual;
mod processors;
mod progress;
mod qr;
mod race;
mod setting;
mod show;
mod sim;
mod sources;
mod step;
mod tool;
mod tools;
mod url_file;
mod value;
mod zoo;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory as _, FromArgMatches as _};
use log::LevelFilter;

use crate::config::{Config, LogTarget, TurnLines};
use crate::log::{AccessLog, Colors, open_access_log};
use args::Args;
use config::{check_limits, check_root, config_of, log_level, slashes_forgotten};
use exit::exit_of;
use file::ConfigFile;
use sources::Sources;

pub use args::Surroundings;
pub use banner::{Banner, Listening, Window, local_url};
pub use browser::open as open_browser;
pub use exit::{Exit, end};
pub use tools::run_tool;
pub use url_file::UrlFile;

/// Result of reading the command line.
#[derive(Clone, Debug)]
pub struct Startup {
    /// Configuration of the server.
    pub config: Config,
    /// Least severe level that is logged.
    pub log_level: LevelFilter,
    /// Banner with the URLs of the server.
    pub banner: Banner,
    /// True if the server is opened in a browser.
    pub opens_browser: bool,
    /// File to write the URLs to.
    pub url_file: Option<PathBuf>,
    /// Colours of log lines on standard error.
    pub stderr_colors: Colors,
    /// Warnings to log about settings that are valid but probably not intended, one line each.
    pub warnings: Vec<String>,
}

/// Reads the command line. `args` includes the name of the program. A flag overrides its
/// environment variable, which overrides the configuration file, which overrides the default.
pub fn parse<I, T>(args: I, surroundings: &Surroundings) -> Result<Startup, Exit>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let argv: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let (args, sources) = read(&argv, surroundings)?;
    let level = log_level(&args, &sources)?;
    let mut config = config_of(&args, &sources, surroundings)?;
    config.turn_lines = match (level, args.verbose) {
        (LevelFilter::Trace, 3..) => TurnLines::Steps,
        (LevelFilter::Trace, _) => TurnLines::Turns,
        _ => TurnLines::Off,
    };
    check_limits(&mut config.limits, &sources)?;
    if args.show_config {
        return Err(Exit::done(show::show(&Args::command(), &sources)));
    }
    check_root(&config.root, config.files.listing)?;
    let is_colored = args.color.resolve(surroundings.stderr_is_terminal, surroundings.no_color);
    Ok(Startup {
        config,
        log_level: level,
        banner: Banner::of(&args, &sources, level, surroundings)?,
        opens_browser: args.open,
        url_file: args.url_file,
        stderr_colors: if is_colored { Colors::On } else { Colors::Off },
        warnings: slashes_forgotten(&sources),
    })
}

/// Reads the settings from all sources. The command line is parsed twice: first to find `--config`,
/// then with the values of that file as defaults.
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

/// Opens the access log that `config` names, if any. Call it before anything is started.
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
            "choose a file in a writable folder",
        )
    })
}

#[cfg(test)]
mod tests;
