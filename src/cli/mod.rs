//! The command line: flags, environment variables and the configuration file in, a [`Config`] or
//! one line about what is wrong out; and the banner.
//!
//! A flag is defined once, in `Args`. Help, completions, the manual page, the keys of the file and
//! `--show-config` are made of the definition. Defaults are not written here: they come from
//! `config.rs`, and `--help` shows them from there. This file must not know who obeys the settings,
//! and it starts nothing. It looks at the disk only to say in time that the folder to be served is
//! not there.

mod args;
mod banner;
mod config;
mod exit;
mod file;
mod hint;
mod manual;
mod setting;
mod show;
mod sources;
mod value;

pub use args::Surroundings;
pub use banner::Banner;
pub use exit::Exit;

use crate::config::{Config, LogTarget};
use crate::log::{AccessLog, open_access_log};
use args::Args;
use clap::{CommandFactory as _, FromArgMatches as _};
use config::{check_limits, check_root, config_of, log_level, slashes_forgotten};
use exit::exit_of;
use file::ConfigFile;
use log::LevelFilter;
use sources::Sources;
use std::ffi::OsString;

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

#[cfg(test)]
mod tests;
