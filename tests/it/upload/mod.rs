//! Uploads: what clients may write, where, and with which password. No client ever sees a partial
//! file, and nothing is left of an interrupted upload.
//!
//! This file has the tools that the files of this folder share.

mod failures;
mod files;
mod folders;
mod forms;
mod other_sites;
mod page;
mod passwords;
mod rename;
mod resume;
mod rights;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;

use crate::docroot::{Docroot, HELLO};
use crate::harness::{Server, until};
use crate::wire::{Client, Response};

/// Creates a docroot with an empty folder `up` for uploads.
fn docroot() -> Docroot {
    let docroot = Docroot::empty();
    docroot.write("hello.txt", HELLO);
    docroot.write("other/file.txt", b"not to be written");
    fs::create_dir(docroot.path("up")).unwrap();
    docroot
}

fn start(model: &str, docroot: &Docroot, more: &[&str]) -> Server {
    Server::start(model, &docroot.root(), &[&["--upload", "/up"], more].concat())
}

/// Returns all names in a folder, including hidden ones.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names: BTreeSet<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.into_iter().collect()
}

#[track_caller]
fn assert_empty(folder: &Path) {
    assert_eq!(names(folder), [""; 0], "nothing is left in {}", folder.display());
}

/// Returns the lengths of the unnamed files that the server has open below `folder`.
fn draft_lengths(server: &Server, folder: &Path) -> Vec<u64> {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid().as_raw_nonzero())).unwrap();
    let is_draft = |place: &Path| {
        let link = fs::read_link(place).unwrap_or_default();
        link.starts_with(folder) && link.to_string_lossy().ends_with(" (deleted)")
    };
    let drafts = open.map(|entry| entry.unwrap().path()).filter(|place| is_draft(place));
    // It may be closed between the listing and the read.
    drafts.filter_map(|place| Some(fs::metadata(place).ok()?.len())).collect()
}

fn drafts(server: &Server, folder: &Path) -> usize {
    draft_lengths(server, folder).len()
}

/// Waits until this much of an upload is written. A request for the upload itself would interrupt
/// it.
fn until_written(server: &Server, folder: &Path, bytes: u64) {
    until("some of it is written", || draft_lengths(server, folder).iter().any(|length| *length >= bytes));
}

fn put(server: &Server, path: &str, fields: &[&str], content: &[u8]) -> Response {
    Client::connect(server.port).ask("PUT", path, fields, content)
}

fn basic(pair: &str) -> String {
    format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// Returns the header and the body of a form. Each part consists of the text after `form-data; `,
/// and its content.
fn form(parts: &[(&str, &[u8])]) -> (&'static str, Vec<u8>) {
    let mut content = Vec::new();
    for (disposition, data) in parts {
        write!(content, "--b0undary\r\nContent-Disposition: form-data; {disposition}\r\n\r\n").unwrap();
        content.extend_from_slice(data);
        content.extend_from_slice(b"\r\n");
    }
    content.extend_from_slice(b"--b0undary--\r\n");
    ("Content-Type: multipart/form-data; boundary=b0undary", content)
}
