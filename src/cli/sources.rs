//! Where each setting came from: the command line, the environment, the file or the default.
//!
//! This file must not know any single setting.

use crate::cli::file::ConfigFile;
use crate::cli::setting::variable;
use clap::ArgMatches;
use clap::parser::ValueSource;

/// Who said what a setting is: the later beats the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Default,
    File,
    Environment,
    CommandLine,
}

/// The settings as they were said, and by whom.
pub(super) struct Sources {
    matches: ArgMatches,
    file: ConfigFile,
}

impl Sources {
    /// `matches` were made with the values of `file` as defaults.
    pub(super) fn new(matches: ArgMatches, file: ConfigFile) -> Sources {
        Sources { matches, file }
    }

    pub(super) fn matches(&self) -> &ArgMatches {
        &self.matches
    }

    /// Who said what the setting `id` is. Ask here and not clap, which takes the file's values for
    /// defaults.
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

    /// What the setting was called by who said it, for an error.
    pub(super) fn name(&self, id: &str) -> String {
        match (self.of(id), self.file.place(id)) {
            (Source::Environment, _) => variable(id),
            (Source::File, Some((place, key))) => format!("{key} ({place})"),
            _ => format!("--{}", id.replace('_', "-")),
        }
    }

    /// Where the setting was said, for `--show-config`.
    pub(super) fn place(&self, id: &str) -> String {
        match (self.of(id), self.file.place(id)) {
            (Source::CommandLine, _) => "command line".into(),
            (Source::Environment, _) => format!("environment {}", variable(id)),
            (Source::File, Some((place, _))) => format!("file {place}"),
            _ => "default".into(),
        }
    }
}
