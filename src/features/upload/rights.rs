//! Rights in upload folders: which request needs which, and their text on the command line.
//!
//! Must not know how a request is carried out.

use crate::config::{UploadRight, UploadRights, UploadRule};
use crate::docroot::area_of;
use crate::features::upload::destination::{EntryKind, parse_upload_path};
use crate::http::refusal::Refusal;
use crate::http::{Method, Status};

/// Value of the `Allow` header of paths with these rights.
pub(super) fn allow(rights: UploadRights) -> String {
    let methods = [
        ("PUT, POST", rights.can_store()),
        ("DELETE", rights.has(UploadRight::Delete)),
        ("MKCOL", rights.has(UploadRight::Create)),
        ("MOVE", rights.has(UploadRight::Rename)),
    ];
    let mut allow = "GET, HEAD".to_owned();
    for (names, _) in methods.into_iter().filter(|(_, is_allowed)| *is_allowed) {
        allow = allow + ", " + names;
    }
    allow + ", OPTIONS"
}

/// Checks the rights that a request needs whatever is on the disk. Requests with a token belong to
/// an upload that had its rights when it began.
pub(super) fn check(method: Method<'_>, has_token: bool, rights: UploadRights) -> Result<(), Refusal> {
    match method {
        _ if has_token => Ok(()),
        Method::Put | Method::Post if !rights.can_store() => Err(refused(UploadRight::Create)),
        Method::Delete => permitted(rights, UploadRight::Delete),
        Method::Other("MKCOL") => permitted(rights, UploadRight::Create),
        Method::Other("MOVE") => permitted(rights, UploadRight::Rename),
        _ => Ok(()),
    }
}

/// Checks the right to store a file where this entry was found.
pub(super) fn check_kind(rights: UploadRights, found: EntryKind) -> Result<(), Refusal> {
    match found {
        EntryKind::Nothing => permitted(rights, UploadRight::Create),
        EntryKind::File(_) => permitted(rights, UploadRight::Replace),
        EntryKind::Folder | EntryKind::Other => Ok(()),
    }
}

/// Refuses a request without the right for it.
pub(super) fn permitted(rights: UploadRights, right: UploadRight) -> Result<(), Refusal> {
    if rights.has(right) { Ok(()) } else { Err(refused(right)) }
}

/// Refusal of a request without this right.
pub(super) fn refused(right: UploadRight) -> Refusal {
    Refusal::new(
        Status::FORBIDDEN,
        match right {
            UploadRight::Create => "no new files or folders are accepted here",
            UploadRight::Replace => "a file of that name already exists, and files here must not be replaced",
            UploadRight::Delete => "files and folders here must not be deleted",
            UploadRight::Rename => "files and folders here must not be renamed",
        },
    )
}

/// Parses the rights of a folder from the command line: `/inbox=create+rename`.
pub(crate) fn parse_upload_rights(text: &str) -> Result<UploadRule, String> {
    let (path, names) = text.rsplit_once('=').ok_or("write PATH=RIGHTS, such as /inbox=create+rename")?;
    let mut rights = UploadRights::NONE;
    for name in names.split('+') {
        let right = UploadRight::ALL.into_iter().find(|right| right.name() == name);
        let right = right.ok_or_else(|| {
            format!("'{name}' is not a right; rights are create, replace, delete and rename, joined by +")
        })?;
        rights = rights.with(right);
    }
    Ok(UploadRule::new(parse_upload_path(path)?, rights))
}

/// Checks that each rule applies to an upload folder, and that no two have the same path.
pub(crate) fn check_rules(areas: &[String], rules: &[UploadRule]) -> Result<(), String> {
    for (at, rule) in rules.iter().enumerate() {
        let path = if rule.path.is_empty() { "/" } else { &rule.path };
        if area_of(areas, rule.path.as_bytes()).is_none() {
            return Err(format!("'{path}': no upload folder contains this path"));
        }
        if rules[..at].iter().any(|earlier| earlier.path == rule.path) {
            return Err(format!("'{path}': the rights of this path are given twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_named_and_joined() {
        let rule = parse_upload_rights("/a%20b/=create+rename").unwrap();
        assert_eq!(rule.path, "/a b");
        assert_eq!(
            UploadRight::ALL.map(|right| rule.rights.has(right)),
            [true, false, false, true],
            "create and rename only"
        );
        assert_eq!(parse_upload_rights("/=delete").unwrap().path, "");
        assert_eq!(parse_upload_rights("/a=b=replace").unwrap().path, "/a=b");
        for wrong in ["/a", "/a=", "/a=create+", "/a=Create", "/a=create,delete", "a=create", "/.a=create"] {
            assert!(parse_upload_rights(wrong).is_err(), "{wrong}");
        }
        let default = UploadRights::default();
        assert_eq!(UploadRight::ALL.map(|right| default.has(right)), [true, true, true, false]);
    }

    #[test]
    fn allow_lists_the_methods_of_the_rights() {
        assert_eq!(allow(UploadRights::default()), "GET, HEAD, PUT, POST, DELETE, MKCOL, OPTIONS");
        let rename = UploadRights::NONE.with(UploadRight::Rename);
        assert_eq!(allow(rename), "GET, HEAD, MOVE, OPTIONS");
        assert_eq!(allow(UploadRights::NONE.with(UploadRight::Replace)), "GET, HEAD, PUT, POST, OPTIONS");
    }

    #[test]
    fn rules_apply_to_upload_folders_once() {
        let areas = ["/up".to_owned()];
        let rule = |path: &str| UploadRule::new(path, UploadRights::NONE);
        assert!(check_rules(&areas, &[rule("/up"), rule("/up/in")]).is_ok());
        assert!(check_rules(&areas, &[rule("/upper")]).is_err());
        assert!(check_rules(&areas, &[rule("")]).is_err());
        assert!(check_rules(&areas, &[rule("/up"), rule("/up")]).is_err());
    }
}
