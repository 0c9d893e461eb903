//! A form with files that is posted to a folder.
//!
//! Each file is written and published as its part ends, so a form that breaks off has brought the
//! files before that. Nothing is replaced unless the request says `?overwrite`. Fields that are no
//! files are passed over.

use std::sync::Arc;

use crate::features::upload::place::{Folder, Found, Place, base_name, open_folder};
use crate::features::upload::refusal::Refusal;
use crate::features::upload::staged::{Draft, Old};
use crate::features::upload::write_request::{Ask, encoded, replaceable};
use crate::http::multipart::{Multipart, MultipartEvent};
use crate::http::{Response, Status};
use crate::pages::error::ErrorForm;
use crate::sync::lock;
use crate::text::push_json_string;

/// So many files are published, each a wait for the disk, before other jobs have their turn.
const FILES_PER_JOB: usize = 8;

/// A part is no shorter than this, boundary and head included.
const PART_BYTES_MIN: usize = 48;

/// One form on its way.
pub(crate) struct Form {
    parser: Multipart,
    files: Files,
}

/// The files of a form.
struct Files {
    ask: Arc<Ask>,
    folder: Folder,
    overwrites: bool,
    wants_json: bool,
    /// The file that is being written; `None` in a field that is none.
    current: Option<(Draft, Place)>,
    /// Paths of those that are there.
    stored: Vec<Vec<u8>>,
}

const THERE: Refusal =
    Refusal::new(Status::CONFLICT, "a file of that name is there already; ?overwrite replaces it");

/// The folder of a form below the folder that the root leads to now.
pub(super) fn folder_of(ask: &Ask) -> Result<Folder, Refusal> {
    ask.root.follow();
    let path = ask.path.strip_suffix(b"/").unwrap_or(&ask.path);
    let mut folder = open_folder(&ask.root.docroot(), &ask.area, path)?;
    folder.fd = ask.desk.folders.share(folder.fd);
    Ok(folder)
}

impl Form {
    /// A form whose content has not come yet.
    pub(super) fn new(
        parser: Multipart,
        ask: Arc<Ask>,
        folder: Folder,
        overwrites: bool,
        wants_json: bool,
    ) -> Form {
        Form {
            parser,
            files: Files { ask, folder, overwrites, wants_json, current: None, stored: Vec::new() },
        }
    }

    /// Takes the next piece of the form, or as much of it as is enough for one job. Says how much.
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

    /// The content has ended.
    pub(crate) fn finish(self) -> Result<Response, Refusal> {
        self.parser.finish()?;
        if self.files.stored.is_empty() {
            return Err(Refusal::new(Status::BAD_REQUEST, "no file is in the form"));
        }
        Ok(self.files.answer())
    }
}

/// The beginning of this piece of a form, up to where the next part may begin: every boundary
/// begins like that.
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
                // A file input without a choice sends an empty name.
                let Some(filename) = head.filename.filter(|name| !name.is_empty()) else { return Ok(()) };
                let place = self.place_of(base_name(&filename)?.to_vec())?;
                self.may_be_written(place.look()?)?;
                self.current = Some((Draft::begin(&place.folder)?, place));
                Ok(())
            }
            MultipartEvent::PartData(data) => match &mut self.current {
                Some((draft, _)) => Ok(draft.append(data, None)?),
                None => Ok(()),
            },
            MultipartEvent::PartEnd => match self.current.take() {
                Some((draft, place)) => self.publish(draft, &place),
                None => Ok(()),
            },
            MultipartEvent::End => Ok(()),
        }
    }

    /// The entry of this name in the folder, if the client may write it.
    fn place_of(&self, name: Vec<u8>) -> Result<Place, Refusal> {
        let place = Place { folder: Arc::clone(&self.folder.fd), name };
        self.folder.check_entry(&self.ask.root.current(), &place.name)?;
        self.ask.check_passwords(&self.path_of(&place), &self.folder.places_of(&place.name))?;
        Ok(place)
    }

    fn may_be_written(&self, found: Found) -> Result<(), Refusal> {
        replaceable(found)?;
        match found {
            Found::File(_) if !self.overwrites => Err(THERE),
            _ => Ok(()),
        }
    }

    fn publish(&mut self, draft: Draft, place: &Place) -> Result<(), Refusal> {
        draft.sync()?;
        // The root may lead to another folder since the form began. Not under the lock, because the
        // content may have to be copied there.
        self.folder = folder_of(&self.ask)?;
        let place = self.place_of(place.name.clone())?;
        let mut draft = draft.moved_to(&place.folder)?;
        let path = self.path_of(&place);
        let _publishing = lock(&self.ask.desk.publishing);
        let found = place.look()?;
        self.may_be_written(found)?;
        let old = match found {
            Found::File(_) => Old::Replaced,
            _ if self.overwrites => Old::None,
            _ => Old::Unwanted,
        };
        draft.publish(&place.name, old)?;
        self.ask.root.current().note_write();
        self.stored.push(path);
        Ok(())
    }

    fn path_of(&self, place: &Place) -> Vec<u8> {
        [self.folder_path(), b"/", &place.name].concat()
    }

    fn folder_path(&self) -> &[u8] {
        self.ask.path.strip_suffix(b"/").unwrap_or(&self.ask.path)
    }

    /// A browser is sent to the folder, which shows its files; a program is told their paths.
    fn answer(&self) -> Response {
        if let ErrorForm::Page(_) = self.ask.error_form {
            let folder = self.ask.reference(&[self.folder_path(), b"/"].concat());
            return Response::new(Status::SEE_OTHER).by_server().with_field("Location", folder);
        }
        let paths = self.stored.iter().map(|path| String::from_utf8_lossy(&encoded(path)).into_owned());
        let response = match self.wants_json {
            true => {
                let mut json = String::from("{\"files\":[");
                for (at, path) in paths.enumerate() {
                    json.push_str(if at == 0 { "" } else { "," });
                    push_json_string(&path, &mut json);
                }
                json.push_str("]}\n");
                Response::json(json)
            }
            false => Response::text(paths.map(|path| path + "\n").collect::<String>()),
        };
        let response = response.by_server().with_status(Status::CREATED).with_field("Vary", "Accept");
        match &self.stored[..] {
            [only] => response.with_field("Location", self.ask.reference(only)),
            _ => response,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UPLOAD_PARTS_MAX;
    use std::fmt::Write as _;

    /// A thousand small files in one piece were a thousand waits for the disk in one job.
    #[test]
    fn a_form_of_many_files_is_taken_by_turns() {
        const FILES: usize = 30;
        let scratch = tempfile::tempdir().unwrap();
        let ask = Arc::new(Ask::of(scratch.path(), "POST / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let mut content = String::new();
        for number in 0..FILES {
            write!(content, "--bo\r\nContent-Disposition: form-data; name=f; filename=f{number}\r\n\r\n")
                .unwrap();
            write!(content, "{number}\r\n--not a boundary\r\n--b\r\n").unwrap();
        }
        content.push_str("--bo--\r\n");
        let files = Files {
            folder: folder_of(&ask).unwrap(),
            ask,
            overwrites: false,
            wants_json: false,
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
