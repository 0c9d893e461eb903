//! Folders of the docroot that the operator named: upload folders, and the rights of clients in
//! them.
//!
//! Paths are normalized. A setting applies by the name of a folder and by its location, because a
//! link gives a folder a second name. This file must not know requests.

use std::path::Path;

use crate::config::{UploadRights, UploadRule};
use crate::docroot::Docroot;
use crate::docroot::location::Location;

impl Docroot {
    /// Returns the rights of clients at `path` in an upload folder. `places` are the paths that it
    /// has after links are followed; a right must not be had by another name.
    pub(crate) fn upload_rights(&self, path: &[u8], places: &[Vec<u8>]) -> UploadRights {
        let at_path = rights_of(&self.upload_rights, path).unwrap_or_default();
        let elsewhere = places.iter().filter_map(|place| rights_of(&self.upload_rights, place));
        elsewhere.fold(at_path, UploadRights::shared_with)
    }

    /// Returns whether the names in a folder are not listed: by its path or by its location.
    pub(crate) fn is_unlisted(&self, path: &[u8], location: &Location) -> bool {
        let is_covered = |path: &[u8]| area_of(&self.unlisted, path).is_some();
        is_covered(path) || location.possible_paths().any(|path| is_covered(&path))
    }

    /// Returns whether a normalized path is that of an entry whose name is not listed.
    pub(super) fn is_unlisted_entry(&self, path: &[u8]) -> bool {
        self.unlisted.iter().any(|folder| is_below(folder.as_bytes(), path))
    }

    /// Returns whether a setting names a path at this folder or below it: an upload folder, rights,
    /// a folder without listings, a folder of programs, an own file. With another name for the
    /// folder, the setting would no longer apply to its content.
    pub(crate) fn is_named_below(&self, folder: &[u8]) -> bool {
        let is_inside = |path: &[u8]| path == folder || is_below(folder, path);
        self.uploads.iter().any(|area| is_inside(area.as_bytes()))
            || self.upload_rights.iter().any(|rule| is_inside(rule.path.as_bytes()))
            || self.unlisted.iter().any(|folder| is_inside(folder.as_bytes()))
            || self.withheld.below.iter().any(|path| is_inside(path))
            || self.own.has_below(&[&self.real_path, folder].concat())
    }
}

/// Returns these folders by their names, and by the locations of these below `root`.
pub(super) fn with_locations(root: &Path, folders: &[String]) -> Vec<String> {
    folders.iter().cloned().chain(folders.iter().filter_map(|folder| location_of(root, folder))).collect()
}

/// Returns the rules by their names, and by the locations of these below `root`.
pub(super) fn rights_with_locations(root: &Path, rules: &[UploadRule]) -> Vec<UploadRule> {
    let located = |rule: &UploadRule| Some(UploadRule::new(location_of(root, &rule.path)?, rule.rights));
    rules.iter().cloned().chain(rules.iter().filter_map(located)).collect()
}

fn location_of(root: &Path, folder: &str) -> Option<String> {
    let real = root.join(folder.trim_start_matches('/')).canonicalize().ok()?;
    let inside = real.strip_prefix(root).ok()?.to_str()?;
    Some(if inside.is_empty() { String::new() } else { format!("/{inside}") })
}

/// Returns the upload folder that contains this normalized path. If upload folders are nested, the
/// innermost one.
pub(crate) fn area_of<'a>(areas: &'a [String], path: &[u8]) -> Option<&'a str> {
    areas.iter().filter(|area| covers(area, path)).max_by_key(|area| area.len()).map(String::as_str)
}

/// Returns the rights of the innermost rule for this normalized path. Two rules for one folder,
/// which has two names, leave the rights that both give.
fn rights_of(rules: &[UploadRule], path: &[u8]) -> Option<UploadRights> {
    let length = rules.iter().filter(|rule| covers(&rule.path, path)).map(|rule| rule.path.len()).max()?;
    let innermost = rules.iter().filter(|rule| rule.path.len() == length && covers(&rule.path, path));
    innermost.map(|rule| rule.rights).reduce(UploadRights::shared_with)
}

/// Returns whether a normalized path is that of this folder, or below it.
fn covers(folder: &str, path: &[u8]) -> bool {
    path.strip_prefix(folder.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}

/// Returns whether a normalized path lies below a folder, whose path has no slash at the end.
fn is_below(folder: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/") && rest.len() > 1)
}
