//! Forms with files that are posted to a folder.
//!
//! Each file is published when its part ends, so an aborted form leaves the files before that
//! point. Files are replaced only if the request has `?overwrite`. Form fields without files are
//! ignored. Must not know how content arrives.

use std::sync::Arc;

use crate::config::UploadRight;
use crate::features::upload::destination::{Destination, EntryKind, Folder, base_name};
use crate::features::upload::refusal::refuse_errno;
use crate::features::upload::rights::check_kind;
use crate::features::upload::staged::{ExistingFile, StagedFile};
use crate::features::upload::write_request::{WriteRequest, encoded, replaceable};
use crate::http::multipart::{Multipart, MultipartEvent};
use crate::http::negotiate::preferred;
use crate::http::refusal::Refusal;
use crate::http::{Request, Response, Status};
use crate::sync::lock;
use crate::text::push_json_string;

/// Number of files that one job publishes. Each waits for the disk, so other jobs get their turn in
/// between.
const FILES_PER_JOB: usize = 8;

/// Length of the shortest part with its boundary and head, in bytes.
const PART_BYTES_MIN: usize = 48;

/// Form whose content is being received.
pub(crate) struct Form {
    parser: Multipart,
    files: Files,
}

/// Response to a complete form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A redirect to the folder, for browsers.
    Redirect,
    /// The paths of the files as JSON.
    Json,
    /// The paths of the files as lines of text.
    Lines,
}

impl Reply {
    /// The reply that the client prefers.
    pub(super) fn of(request: &Request<'_>) -> Reply {
        let accept = request.headers().all("accept");
        match preferred(accept, &["text/plain", "application/json"]) {
            _ if request.wants_html() => Reply::Redirect,
            Some(1) => Reply::Json,
            _ => Reply::Lines,
        }
    }
}

/// Files of a form.
struct Files {
    write_request: Arc<WriteRequest>,
    folder: Folder,
    overwrites: bool,
    reply: Reply,
    /// File of the current part; `None` if the part has no file.
    current: Option<(StagedFile, Destination)>,
    /// Paths of the files published so far.
    stored: Vec<Vec<u8>>,
}

const EXISTS: Refusal =
    Refusal::from_static(Status::CONFLICT, "a file of that name already exists; ?overwrite replaces it");

/// Opens the folder that the form is posted to, below the folder that the root leads to now.
pub(super) fn folder_of(write_request: &WriteRequest) -> Result<Folder, Refusal> {
    write_request.folder(write_request.path.strip_suffix(b"/").unwrap_or(&write_request.path))
}

impl Form {
    /// Form without content yet.
    pub(super) fn new(
        parser: Multipart,
        write_request: Arc<WriteRequest>,
        folder: Folder,
        overwrites: bool,
        reply: Reply,
    ) -> Form {
        Form {
            parser,
            files: Files { write_request, folder, overwrites, reply, current: None, stored: Vec::new() },
        }
    }

    /// Processes a piece of the form, or as much as one job should. Returns the number of bytes
    /// processed.
    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<usize, Refusal> {
        let files = &mut self.files;
        let stored_max = files.stored.len() + FILES_PER_JOB;
        let mut taken = 0;
        while taken < piece.len() && files.stored.len() < stored_max {
            let part = first_part(&piece[taken..]);
            self.parser.push(part, |event| files.take(event))?;
            taken += part.len();
        }
        Ok(taken)
    }

    /// Ends the form and returns the response.
    pub(crate) fn finish(self) -> Result<Response, Refusal> {
        self.parser.finish()?;
        if self.files.stored.is_empty() {
            return Err(Refusal::new(Status::BAD_REQUEST, "the form contains no file"));
        }
        Ok(self.files.answer())
    }
}

/// Beginning of this piece up to where the next part can begin: each boundary begins with CR LF and
/// two dashes.
fn first_part(piece: &[u8]) -> &[u8] {
    let from = PART_BYTES_MIN.min(piece.len());
    match memchr::memmem::find(&piece[from..], b"\r\n--") {
        Some(at) => &piece[..from + at],
        None => piece,
    }
}

impl Files {
    fn take(&mut self, event: MultipartEvent<'_>) -> Result<(), Refusal> {
        match event {
            MultipartEvent::PartBegin(head) => {
                // A file input without a selected file sends an empty name.
                let Some(filename) = head.filename.filter(|name| !name.is_empty()) else { return Ok(()) };
                let destination = self.destination_of(base_name(&filename)?)?;
                self.may_be_written(&destination, destination.kind().map_err(refuse_errno)?)?;
                self.current =
                    Some((StagedFile::begin(&destination.folder).map_err(refuse_errno)?, destination));
                Ok(())
            }
            MultipartEvent::PartData(data) => match &mut self.current {
                Some((staged, _)) => staged.append(data, None).map_err(refuse_errno),
                None => Ok(()),
            },
            MultipartEvent::PartEnd => match self.current.take() {
                Some((staged, destination)) => self.publish(staged, &destination),
                None => Ok(()),
            },
            MultipartEvent::End => Ok(()),
        }
    }

    /// Directory entry of this name, if the client may write it.
    fn destination_of(&self, name: &[u8]) -> Result<Destination, Refusal> {
        self.write_request.entry(&self.folder, &self.path_of(name))
    }

    fn may_be_written(&self, destination: &Destination, found: EntryKind) -> Result<(), Refusal> {
        replaceable(found)?;
        check_kind(destination.rights, found)?;
        match found {
            EntryKind::File(_) if !self.overwrites => Err(EXISTS),
            _ => Ok(()),
        }
    }

    fn publish(&mut self, staged: StagedFile, destination: &Destination) -> Result<(), Refusal> {
        staged.sync().map_err(refuse_errno)?;
        // The root can lead to another folder since the form began. Move the file before taking the
        // lock, because that can require a copy.
        self.folder = folder_of(&self.write_request)?;
        let destination = self.destination_of(&destination.name)?;
        let mut staged = staged.moved_to(&destination.folder).map_err(refuse_errno)?;
        let path = self.path_of(&destination.name);
        let _publishing = lock(&self.write_request.shared.publishing);
        let found = destination.kind().map_err(refuse_errno)?;
        self.may_be_written(&destination, found)?;
        let existing = match found {
            EntryKind::File(_) => ExistingFile::Replaced,
            _ if self.overwrites && destination.rights.has(UploadRight::Replace) => ExistingFile::None,
            _ => ExistingFile::Forbidden,
        };
        staged.publish(&destination.name, existing).map_err(refuse_errno)?;
        self.write_request.root.current().note_write();
        self.stored.push(path);
        Ok(())
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        [self.folder_path(), b"/", name].concat()
    }

    fn folder_path(&self) -> &[u8] {
        self.write_request.path.strip_suffix(b"/").unwrap_or(&self.write_request.path)
    }

    /// Response to a complete form: browsers are redirected to the folder, other clients receive
    /// the paths of the files.
    fn answer(&self) -> Response {
        let paths = self.stored.iter().map(|path| String::from_utf8_lossy(&encoded(path)).into_owned());
        let response = match self.reply {
            Reply::Redirect => {
                let folder = self.write_request.reference(&[self.folder_path(), b"/"].concat());
                return Response::new(Status::SEE_OTHER).by_server().with_header("Location", folder);
            }
            Reply::Json => {
                let mut json = String::from("{\"files\":[");
                for (at, path) in paths.enumerate() {
                    json.push_str(if at == 0 { "" } else { "," });
                    push_json_string(&path, &mut json);
                }
                json.push_str("]}\n");
                Response::json(json)
            }
            Reply::Lines => Response::text(paths.map(|path| path + "\n").collect::<String>()),
        };
        let response = response.by_server().with_status(Status::CREATED).with_header("Vary", "Accept");
        match &self.stored[..] {
            [only] => response.with_header("Location", self.write_request.reference(only)),
            _ => response,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UPLOAD_PARTS_MAX;
    use std::fmt::Write as _;

    /// Regression: a form with a thousand small files waited for the disk a thousand times in one
    /// job.
    #[test]
    fn a_form_of_many_files_is_taken_by_turns() {
        const FILES: usize = 30;
        let scratch = tempfile::tempdir().unwrap();
        let write_request = Arc::new(WriteRequest::of(scratch.path(), "POST / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let mut content = String::new();
        for number in 0..FILES {
            write!(content, "--bo\r\nContent-Disposition: form-data; name=f; filename=f{number}\r\n\r\n")
                .unwrap();
            write!(content, "{number}\r\n--not a boundary\r\n--b\r\n").unwrap();
        }
        content.push_str("--bo--\r\n");
        let files = Files {
            folder: folder_of(&write_request).unwrap(),
            write_request,
            overwrites: false,
            reply: Reply::Lines,
            current: None,
            stored: Vec::new(),
        };
        let parser = Multipart::new(b"multipart/form-data; boundary=bo", UPLOAD_PARTS_MAX).unwrap();
        let mut form = Form { parser, files };
        let mut rest = content.as_bytes();
        let mut stored = Vec::new();
        while !rest.is_empty() {
            let taken = form.write(rest).unwrap();
            rest = &rest[taken..];
            stored.push(form.files.stored.len());
        }
        assert_eq!(stored, [8, 16, 24, 30]);
        assert_eq!(form.finish().unwrap().status(), Status::CREATED);
        for number in 0..FILES {
            let text = std::fs::read_to_string(scratch.path().join(format!("f{number}"))).unwrap();
            assert_eq!(text, format!("{number}\r\n--not a boundary\r\n--b"));
        }
    }
}
