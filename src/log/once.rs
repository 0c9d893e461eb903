//! Names that peers choose, each logged once.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::sync::lock;

/// Largest number of names that are kept. Peers choose the names, so their number must be bounded.
const NAMES_MAX: usize = 64;

/// Largest number of bytes of a name that are logged and kept. No DNS name is longer.
const NAME_BYTES_MAX: usize = 255;

/// Names that were logged.
#[derive(Debug, Default)]
pub(crate) struct Once {
    names: Mutex<BTreeSet<Box<[u8]>>>,
}

impl Once {
    /// Calls `log` if `name` is new, ignoring case. After [`NAMES_MAX`] names, logs one line that
    /// further `kind` are not logged.
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

/// Returns the part of a peer's name that is logged.
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
