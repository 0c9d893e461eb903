//! Settings: the flags that can also be set by an environment variable or in the configuration
//! file.
//!
//! A flag with an environment variable is a setting, so a flag that is added to `cli/args.rs` needs
//! no change here. This file must not know any particular setting.

use std::ffi::OsStr;

use clap::{Arg, ArgAction, Command};

/// Returns all settings among the `flags`, in the order of their definition.
pub(super) fn settings(flags: &Command) -> impl Iterator<Item = &Arg> {
    flags.get_arguments().filter(|arg| arg.get_env().is_some() && arg.get_id() != "config")
}

/// Returns the key of a setting in the file: its long flag, or its id if it has none.
pub(super) fn key_of(arg: &Arg) -> &str {
    arg.get_long().unwrap_or(arg.get_id().as_str())
}

/// True for a switch, which takes no value.
pub(super) fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// True for a switch that also takes paths, as in `--no-listing` and `--no-listing=/inbox`. As a
/// switch it has the value `true` or `false`.
pub(super) fn takes_paths(arg: &Arg) -> bool {
    let is_optional = arg.get_num_args().is_some_and(|number| number.min_values() == 0);
    is_optional && arg.is_require_equals_set() && key_of(arg).starts_with("no-")
}

/// Finds the switch `--no-KEY`.
pub(super) fn opposite<'a>(flags: &'a Command, key: &str) -> Option<&'a Arg> {
    let is_opposite =
        |arg: &&Arg| (is_switch(arg) || takes_paths(arg)) && key_of(arg).strip_prefix("no-") == Some(key);
    settings(flags).find(is_opposite)
}

/// True if the value is a secret. A definition declares that with `hide_env_values = true`.
pub(super) fn is_secret(arg: &Arg) -> bool {
    arg.is_hide_env_values_set()
}

/// Returns the name of the environment variable of a flag.
pub(super) fn variable(long: &str) -> String {
    format!("WHIRLIGIG_{}", long.replace('-', "_").to_ascii_uppercase())
}

/// True if the value is always text, even if it looks like a number, as a folder named `2024` does.
pub(super) fn is_text(arg: &Arg) -> bool {
    use std::any::TypeId;
    let text =
        [TypeId::of::<String>(), TypeId::of::<std::ffi::OsString>(), TypeId::of::<std::path::PathBuf>()];
    text.iter().any(|text| arg.get_value_parser().type_id() == *text)
}

/// Returns the part of a secret that may be shown: the name of the user.
pub(super) fn masked(value: &OsStr) -> String {
    match value.to_string_lossy().split_once(':') {
        Some((user, _)) => format!("{user}:***"),
        None => "***".into(),
    }
}
