//! Names that peers choose, each of which is logged once.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::sync::lock;

/// Names that are kept. A peer chooses them, so that there have to be so few of them.
const NAMES_MAX: usize = 64;

/// Bytes of a name that are shown and kept: more than any name in the DNS has.
const NAME_BYTES_MAX: usize = 255;

/// The names that were logged.
#[derive(Debug, Default)]
pub(crate) struct Once {
    names: Mutex<BTreeSet<Box<[u8]>>>,
}

impl Once {
    /// Calls `log` for a name that is new. Capital letters make no other name. Past [`NAMES_MAX`]
    /// names, says once that `kind` of names are no longer logged.
    pub(crate) fn log(&self, name: &[u8], kind: &str, log: impl FnOnce()) {
        let mut names = lock(&self.names);
        if names.len() >= NAMES_MAX || !names.insert(shorten(name).to_ascii_lowercase().into()) {
            return;
        }
        log();
        if names.len() == NAMES_MAX {
            log::warn!("refused requests for {NAMES_MAX} {kind}; further ones are not logged");
        }
    }
}

/// The part of a peer's name that is shown.
pub(crate) fn shorten(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_names_are_kept_and_each_once() {
        let once = Once::default();
        let mut logged = 0;
        for number in 0..2 * NAMES_MAX {
            for repeated in ["x", "X"] {
                let name = format!("{number}.{}.example", repeated.repeat(400));
                once.log(name.as_bytes(), "names", || logged += 1);
            }
        }
        let names = lock(&once.names);
        assert_eq!((logged, names.len()), (NAMES_MAX, NAMES_MAX));
        assert!(names.iter().all(|name| name.len() <= NAME_BYTES_MAX));
    }
}
