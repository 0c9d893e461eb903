//! CGI programs: their environment, their output, and the treatment of programs that misbehave.
//!
//! Programs are shell scripts written by the tests, and the samples of `examples/cgi`. This file
//! has the tools that the files of this folder share.

mod clients;
mod content;
mod environment;
mod processes;
mod response;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::docroot::Docroot;
use crate::harness::{Server, until};

const REQUIRED: &str = "WHIRLIGIG_REQUIRE_CLIENTS";

const MIB: usize = 1024 * 1024;

/// A folder of programs, and servers that run them below `/cgi`.
struct Programs {
    docroot: Docroot,
    folder: TempDir,
}

impl Programs {
    fn new() -> Programs {
        Programs { docroot: Docroot::new(), folder: TempDir::with_prefix("whirligig-cgi-").unwrap() }
    }

    /// Adds a shell script. `$T` is this folder.
    fn with(self, name: &str, text: &str) -> Programs {
        let text = format!("#!/bin/sh\nT='{}'\n{text}\n", self.folder.path().display());
        self.with_file(name, &text)
    }

    fn with_file(self, name: &str, text: &str) -> Programs {
        let file = self.at(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn flag(&self) -> String {
        format!("/cgi={}", self.folder.path().display())
    }

    fn serve(&self, model: &str, more: &[&str]) -> Server {
        let flag = self.flag();
        let all: Vec<&str> = ["--cgi", &flag].iter().chain(more).copied().collect();
        Server::start(model, &self.docroot.root(), &all)
    }

    /// Waits until a program has written a file of this name and returns its content.
    fn told(&self, name: &str) -> String {
        let file = self.at(name);
        until(format_args!("{name} is written"), || {
            fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'))
        });
        fs::read_to_string(file).unwrap()
    }
}

/// Waits until no process with these ids exists, not even as a zombie.
fn gone(pids: &str) {
    for pid in pids.split_whitespace() {
        until(format_args!("process {pid} has ended"), || !Path::new("/proc").join(pid).exists());
    }
}

/// Returns the child processes of the server that are not collected yet.
fn children(server: &Server) -> String {
    children_of(server.pid().as_raw_nonzero().get())
}

fn children_of(pid: i32) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.flatten().map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default()).collect()
}

const HEAD: &str = "printf 'Content-Type: text/plain\\n\\n'";
