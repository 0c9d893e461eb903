//! The source of each setting: the command line, the environment, the file or the default.
//!
//! This file must not know any single setting.

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::cli::file::ConfigFile;
use crate::cli::setting::variable;

/// Source of a setting. A later variant overrides an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Default,
    File,
    Environment,
    CommandLine,
}

/// The values of all settings, and where each came from.
pub(super) struct Sources {
    matches: ArgMatches,
    file: ConfigFile,
}

impl Sources {
    /// Creates the sources. `matches` must have been parsed with the values of `file` as defaults.
    pub(super) fn new(matches: ArgMatches, file: ConfigFile) -> Sources {
        Sources { matches, file }
    }

    pub(super) fn matches(&self) -> &ArgMatches {
        &self.matches
    }

    /// Returns the source of the setting `id`. Use this and not clap's `value_source`, which
    /// reports values of the file as defaults.
    pub(super) fn of(&self, id: &str) -> Source {
        match self.matches.value_source(id) {
            Some(ValueSource::CommandLine) => Source::CommandLine,
            Some(ValueSource::EnvVariable) => Source::Environment,
            _ if self.file.place(id).is_some() => Source::File,
            _ => Source::Default,
        }
    }

    pub(super) fn is_default(&self, id: &str) -> bool {
        self.of(id) == Source::Default
    }

    /// Returns the name of the setting as its source spells it, for an error.
    pub(super) fn name(&self, id: &str) -> String {
        match (self.of(id), self.file.place(id)) {
            (Source::Environment, _) => variable(id),
            (Source::File, Some((place, key))) => format!("{key} ({place})"),
            _ => format!("--{}", id.replace('_', "-")),
        }
    }

    /// Returns the source of the setting in words, for `--show-config`.
    pub(super) fn place(&self, id: &str) -> String {
        match (self.of(id), self.file.place(id)) {
            (Source::CommandLine, _) => "command line".into(),
            (Source::Environment, _) => format!("environment {}", variable(id)),
            (Source::File, Some((place, _))) => format!("file {place}"),
            _ => "default".into(),
        }
    }
}
