//! Settings: what a flag, an environment variable or a line of the configuration file can say.
//!
//! Whatever has an environment variable is a setting; so a flag that is added to the definitions in
//! `cli/args.rs` is one, with nothing to do here. This file must not know any single one of them.

use clap::{Arg, ArgAction, Command};
use std::ffi::OsStr;

/// All settings among the `flags`, in the order of their definition.
pub(super) fn settings(flags: &Command) -> impl Iterator<Item = &Arg> {
    flags.get_arguments().filter(|arg| arg.get_env().is_some() && arg.get_id() != "config")
}

/// The name of a setting in the file: its long flag, or its name where it has none.
pub(super) fn key_of(arg: &Arg) -> &str {
    arg.get_long().unwrap_or(arg.get_id().as_str())
}

/// On or off, without a value.
pub(super) fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// The switch `--no-KEY`.
pub(super) fn opposite<'a>(flags: &'a Command, key: &str) -> Option<&'a Arg> {
    let is_opposite = |arg: &&Arg| is_switch(arg) && key_of(arg).strip_prefix("no-") == Some(key);
    settings(flags).find(is_opposite)
}

/// Whether the value is nobody's business. A definition says so with `hide_env_values = true`.
pub(super) fn is_secret(arg: &Arg) -> bool {
    arg.is_hide_env_values_set()
}

/// The environment variable of a flag.
pub(super) fn variable(long: &str) -> String {
    format!("WHIRLIGIG_{}", long.replace('-', "_").to_ascii_uppercase())
}

/// Whether the value is text whatever it looks like, so that a folder named `2024` is no number.
pub(super) fn is_text(arg: &Arg) -> bool {
    use std::any::TypeId;
    let text =
        [TypeId::of::<String>(), TypeId::of::<std::ffi::OsString>(), TypeId::of::<std::path::PathBuf>()];
    text.iter().any(|text| arg.get_value_parser().type_id() == *text)
}

/// A secret that may be shown: who it is for, and no more.
pub(super) fn masked(value: &OsStr) -> String {
    match value.to_string_lossy().split_once(':') {
        Some((user, _)) => format!("{user}:***"),
        None => "***".into(),
    }
}
