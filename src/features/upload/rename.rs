//! Renaming of files and folders within their folder: MOVE (RFC 4918 section 9.9).
//!
//! Source and destination are entries of one open folder, so a folder that is moved meanwhile
//! changes nothing. Must not know which clients may write.

use rustix::fs::renameat;
use rustix::io::Errno;

use crate::config::UploadRight;
use crate::docroot::stamp::Stamp;
use crate::features::upload::destination::{self, Destination, EntryKind, split};
use crate::features::upload::origin::is_origin_of;
use crate::features::upload::refusal::refuse_errno;
use crate::features::upload::rights::{permitted, refused};
use crate::features::upload::staged::rename_to_new;
use crate::features::upload::write_request::WriteRequest;
use crate::http::field_lines::trim_ows;
use crate::http::framing::Content;
use crate::http::refusal::Refusal;
use crate::http::target::normalize;
use crate::http::{Request, Response, Status};
use crate::sync::lock;

/// Request to rename an entry.
pub(super) struct Rename {
    /// Normalized path of the new name.
    to: Vec<u8>,
    existing: Existing,
    depth: Depth,
}

/// Fate of an existing file with the new name: the `Overwrite` header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Replaced,
    Kept,
}

/// Part of a folder that is renamed: the `Depth` header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Whole,
    /// A part of the content, which would leave the rest behind.
    Limited,
}

const EXISTS: Refusal =
    Refusal::from_static(Status::PRECONDITION_FAILED, "a file or folder of that name already exists");

impl Rename {
    /// Reads the head of a request. Refuses everything that needs no look at the disk.
    pub(super) fn of(write_request: &WriteRequest, request: &Request<'_>) -> Result<Rename, Refusal> {
        if request.content() != Content::None {
            return Err(Refusal::new(Status::UNSUPPORTED_MEDIA_TYPE, "MOVE must not have content"));
        }
        let existing = match request.headers().only("overwrite")? {
            None | Some(b"T") => Existing::Replaced,
            Some(b"F") => Existing::Kept,
            Some(_) => return Err(Refusal::bad_request("Overwrite is T or F")),
        };
        let depth = match request.headers().only("depth")? {
            None => Depth::Whole,
            Some(depth) if depth.eq_ignore_ascii_case(b"infinity") => Depth::Whole,
            Some(_) => Depth::Limited,
        };
        let to = new_path(request)?;
        destination::check_path(&to)?;
        destination::check_direction(&to)?;
        let from = &write_request.path[..];
        if without_slash(from) == write_request.area.as_bytes() {
            return Err(Refusal::forbidden("the upload folder itself cannot be renamed"));
        }
        let ((from_folder, from_name), (to_folder, to_name)) = (split(from)?, split(&to)?);
        if from_folder != to_folder || without_slash(&to) == write_request.area.as_bytes() {
            return Err(Refusal::forbidden("files and folders can be renamed only within their folder"));
        }
        match from_name == to_name {
            true => Err(Refusal::forbidden("the old name and the new name are the same")),
            false => Ok(Rename { to, existing, depth }),
        }
    }

    /// Renames the entry. For worker threads.
    pub(super) fn carry_out(&self, write_request: &WriteRequest) -> Result<Response, Refusal> {
        let (folder_path, _) = split(&write_request.path)?;
        let missing = Refusal::not_found("the file does not exist");
        let folder = match write_request.folder(folder_path) {
            Err(refusal) if refusal == refuse_errno(Errno::NOENT) => return Err(missing),
            folder => folder?,
        };
        let from = write_request.entry(&folder, &write_request.path)?;
        let to = write_request.entry(&folder, &self.to)?;
        permitted(from.rights, UploadRight::Rename)?;
        permitted(to.rights, UploadRight::Rename)?;
        let _publishing = lock(&write_request.shared.publishing);
        let found = from.kind().map_err(refuse_errno)?;
        match found {
            EntryKind::Nothing => return Err(missing),
            EntryKind::File(_) if write_request.path.ends_with(b"/") => return Err(missing),
            EntryKind::File(_) if self.to.ends_with(b"/") => {
                return Err(Refusal::new(Status::CONFLICT, "a file cannot get the name of a folder"));
            }
            EntryKind::File(_) => {}
            EntryKind::Folder => self.check_folder(write_request, &from, &to)?,
            EntryKind::Other => return Err(Refusal::new(Status::CONFLICT, "the path is a link or device")),
        }
        self.check_passwords(write_request, &from, &to)?;
        write_request.check_conditions(&from, found)?;
        let is_new = self.put_in_place(write_request, &from, found, &to)?;
        write_request.root.current().note_write();
        let response = match is_new {
            true => {
                let slash: &[u8] = if matches!(found, EntryKind::Folder) { b"/" } else { b"" };
                let location = write_request.reference(&[without_slash(&self.to), slash].concat());
                Response::new(Status::CREATED).with_header("Location", location)
            }
            false => Response::new(Status::NO_CONTENT),
        };
        Ok(response.by_server())
    }

    /// Gives the entry its new name. Returns true if the name is new. Only other programs can
    /// change either entry meanwhile.
    fn put_in_place(
        &self,
        write_request: &WriteRequest,
        from: &Destination,
        found: EntryKind,
        to: &Destination,
    ) -> Result<bool, Refusal> {
        let existing = to.kind().map_err(refuse_errno)?;
        let replaced = match (found, existing) {
            (_, EntryKind::Nothing) => return rename_new(from, to),
            // The kernel decides, because another program can create the name at any time.
            (_, _) if self.existing == Existing::Kept => return rename_new(from, to),
            (EntryKind::File(stamp), EntryKind::File(replaced)) if stamp.inode == replaced.inode => {
                // rename(2) does nothing and reports success if both names are links to one file.
                return Err(Refusal::new(Status::CONFLICT, "both names belong to one file"));
            }
            (EntryKind::File(_), EntryKind::File(replaced)) => replaced,
            (_, EntryKind::Folder) => return Err(refuse_errno(Errno::ISDIR)),
            (_, EntryKind::File(_)) => return Err(refuse_errno(Errno::EXIST)),
            (_, EntryKind::Other) => {
                return Err(Refusal::new(Status::CONFLICT, "a link or device has that name"));
            }
        };
        self.check_replaced(write_request, to, &replaced)?;
        renameat(&from.folder, from.name.as_slice(), &to.folder, to.name.as_slice()).map_err(refuse_errno)?;
        Ok(false)
    }

    fn check_replaced(
        &self,
        write_request: &WriteRequest,
        to: &Destination,
        replaced: &Stamp,
    ) -> Result<(), Refusal> {
        if !to.rights.has(UploadRight::Replace) {
            return Err(refused(UploadRight::Replace));
        }
        match write_request.root.current().is_own(replaced) {
            true => Err(destination::OWN),
            false => Ok(()),
        }
    }

    /// Refuses a new name with another password: permission to write a file is no permission to
    /// show it to everyone.
    fn check_passwords(
        &self,
        write_request: &WriteRequest,
        from: &Destination,
        to: &Destination,
    ) -> Result<(), Refusal> {
        let is_alike = |one: &[u8], other: &[u8]| write_request.shared.guards.are_alike(one, other);
        let (one, other) = (without_slash(&write_request.path), without_slash(&self.to));
        // Both are entries of one folder, so their places are in the same order.
        let mut places = from.places.iter().zip(&to.places);
        match is_alike(one, other) && places.all(|(one, other)| is_alike(one, other)) {
            true => Ok(()),
            false => Err(Refusal::forbidden("the new name requires another password")),
        }
    }

    /// Refuses to rename a folder if a setting applies to it or to a part of it by its name.
    fn check_folder(
        &self,
        write_request: &WriteRequest,
        from: &Destination,
        to: &Destination,
    ) -> Result<(), Refusal> {
        if self.depth == Depth::Limited {
            return Err(Refusal::bad_request("a folder is renamed with its content: Depth: infinity"));
        }
        let docroot = write_request.root.current();
        let paths = [without_slash(&write_request.path), without_slash(&self.to)];
        let places = from.places.iter().chain(&to.places).map(Vec::as_slice);
        let mut all = paths.into_iter().chain(places);
        match all.any(|path| docroot.is_named_below(path) || write_request.shared.guards.has_below(path)) {
            true => Err(Refusal::forbidden("the server has settings for a path in that folder")),
            false => Ok(()),
        }
    }
}

fn rename_new(from: &Destination, to: &Destination) -> Result<bool, Refusal> {
    match rename_to_new(&from.folder, &from.name, &to.name) {
        Err(Errno::EXIST) => Err(EXISTS),
        renamed => renamed.map(|()| true).map_err(refuse_errno),
    }
}

fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// Normalized path of the `Destination` header: a URL of this server, an absolute path, or a
/// reference relative to the path of the request. A relative one stays below a prefix that a proxy
/// has removed, so pages use it.
fn new_path(request: &Request<'_>) -> Result<Vec<u8>, Refusal> {
    let value = trim_ows(request.headers().only("destination")?.unwrap_or_default());
    if value.is_empty() {
        return Err(Refusal::bad_request("MOVE needs a Destination header"));
    }
    if value.iter().any(|byte| matches!(byte, b'?' | b'#')) {
        return Err(Refusal::bad_request("Destination must not have a query or a fragment"));
    }
    let path = match memchr::memmem::find(value, b"://") {
        Some(scheme) if !value[..scheme].contains(&b'/') => {
            let after = scheme + "://".len();
            let length = memchr::memchr(b'/', &value[after..]).unwrap_or(value.len() - after);
            let (origin, path) = value.split_at(after + length);
            if !is_origin_of(&origin.to_ascii_lowercase(), request.authority().unwrap_or_default()) {
                return Err(Refusal::new(Status::BAD_GATEWAY, "Destination is on another server"));
            }
            if path.is_empty() { b"/".to_vec() } else { path.to_vec() }
        }
        _ if value.starts_with(b"//") => {
            return Err(Refusal::new(Status::BAD_GATEWAY, "Destination is on another server"));
        }
        _ if value.starts_with(b"/") => value.to_vec(),
        _ => {
            let slash = memchr::memrchr(b'/', request.path()).map_or(0, |at| at + 1);
            [&request.path()[..slash], value].concat()
        }
    };
    match normalize(&path) {
        Ok(path) => Ok(path.into_owned()),
        Err(error) => Err(Refusal::bad_request(format!("Destination: {error}"))),
    }
}
