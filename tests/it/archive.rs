//! Folders as archives: complete, readable by common programs, made in constant memory, and never
//! complete-looking if they are not.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::docroot::{Docroot, SECRET, pattern};
use crate::harness::{Finished, Server, bare_command, on_both, program, run, until};
use crate::wire::Client;

/// Variable that makes the unpacking programs mandatory. Without it, tests of missing programs are
/// skipped.
const REQUIRED: &str = "WHIRLIGIG_REQUIRE_CLIENTS";

/// Paths below a folder, with content and whether it is executable. `None` for a folder.
type Tree = BTreeMap<Vec<u8>, Option<(Vec<u8>, bool)>>;

/// Returns everything below `folder` that `wanted` accepts. Follows links.
fn tree(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Tree {
    let mut found = Tree::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        for entry in fs::read_dir(folder.join(&below)).unwrap() {
            let below = below.join(entry.unwrap().file_name());
            let path = folder.join(&below);
            if !wanted(&path) {
                continue;
            }
            let meta = fs::metadata(&path).unwrap();
            let name = below.as_os_str().as_bytes().to_vec();
            if meta.is_dir() {
                found.insert(name, None);
                open.push(below);
            } else if meta.is_file() {
                let executable = meta.permissions().mode() & 0o100 != 0;
                found.insert(name, Some((fs::read(&path).unwrap(), executable)));
            }
        }
    }
    found
}

/// Returns whether the server shows a path: it is not hidden, and no link that leads out, nowhere
/// or upwards.
fn is_served(root: &Path, path: &Path) -> bool {
    let is_hidden = |path: &Path| path.iter().any(|name| name.as_bytes().starts_with(b"."));
    let Ok(real) = path.canonicalize() else { return false };
    let Ok(real_below) = real.strip_prefix(root.canonicalize().unwrap()) else { return false };
    let leads_back =
        path.ancestors().skip(1).any(|above| above.canonicalize().is_ok_and(|above| above == real));
    !is_hidden(path.strip_prefix(root).unwrap()) && !is_hidden(real_below) && !leads_back
}

fn assert_same(found: &Tree, expected: &Tree, what: &str) {
    let names =
        |tree: &Tree| -> Vec<String> { tree.keys().map(|name| name.escape_ascii().to_string()).collect() };
    assert_eq!(names(found), names(expected), "{what}");
    for (name, content) in expected {
        assert!(found[name] == *content, "{what}: {} has other content", name.escape_ascii());
    }
}

/// Reads head and body of an HTTP/1.0 response up to the end of the connection.
fn fetch(port: u16, target: &str) -> (String, Vec<u8>) {
    let mut client = Client::connect(port);
    client.send(format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n"));
    let (all, _) = client.rest();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    (String::from_utf8_lossy(&all[..end]).into_owned(), all[end..].to_vec())
}

fn must(what: &str, ended: &Finished) {
    assert_eq!(ended.code, Some(0), "{what}: {}{}", ended.out, ended.err);
}

/// Unpacks with common programs, and checks with those that only check.
fn unpack(archive: &Path, form: &str, into: &Path) {
    fs::create_dir_all(into).unwrap();
    let python = "import os, sys, zipfile\n\
        z = zipfile.ZipFile(sys.argv[1])\n\
        assert z.testzip() is None\n\
        for i in z.infolist():\n\
        \x20 name = i.filename.encode('utf-8' if i.flag_bits & 0x800 else 'cp437')\n\
        \x20 path = os.path.join(os.fsencode(sys.argv[2]), name)\n\
        \x20 mode = i.external_attr >> 16\n\
        \x20 if i.is_dir(): os.mkdir(path)\n\
        \x20 else:\n\
        \x20   with open(path, 'xb') as f: f.write(z.read(i))\n\
        \x20 os.chmod(path, mode & 0o777)\n";
    if form == "zip" {
        if let Some(unzip) = program(&["unzip"], REQUIRED) {
            must("unzip -t", &run(Command::new(unzip).arg("-tqq").arg(archive)));
        }
        if let Some(python3) = program(&["python3"], REQUIRED) {
            must("zipfile", &run(Command::new(python3).args(["-c", python]).arg(archive).arg(into)));
        }
        return;
    }
    if form == "tar.gz" {
        must("gzip -t", &run(Command::new("gzip").arg("-t").arg(archive)));
    }
    let flag = if form == "tar" { "-xf" } else { "-xzf" };
    let ended = run(Command::new("tar").arg(flag).arg(archive).arg("-C").arg(into));
    must("tar", &ended);
    assert_eq!(ended.err, "", "tar reports no errors");
}

/// The usual docroot, with additional names that are difficult for archives.
fn full_docroot() -> Docroot {
    let docroot = Docroot::new();
    docroot.write(&format!("{}/{}.txt", "d".repeat(120), "f".repeat(240)), b"a path of 365 bytes");
    docroot.write(&format!("exactly/{}", "x".repeat(100 - "files/exactly/".len())), b"a path of 100 bytes");
    docroot.write("packed.png", pattern(300_000));
    docroot.write("run.sh", b"#!/bin/sh\n");
    fs::set_permissions(docroot.path("run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    for name in [&b"caf\xe9"[..], b"line\nbreak", b"back\\slash", b" -rf"] {
        fs::write(docroot.root().join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::create_dir(docroot.path("empty folder")).unwrap();
    docroot.link("..", "plain/up");
    docroot.link(".", "plain/deeper/here");
    docroot.link("../a folder", "plain/aside");
    let fifo = run(Command::new("mkfifo").arg(docroot.path("pipe")));
    must("mkfifo", &fifo);
    docroot
}

#[test]
fn an_archive_is_the_tree_as_it_is_served() {
    let docroot = full_docroot();
    let root = docroot.root();
    let everything = tree(&root, &|path| is_served(&root, path));
    let plain = tree(&root.join("plain"), &|path| is_served(&root, path) && !path.ends_with("up"));
    on_both(|model| {
        let server = Server::start(model, &root, &["--archives"]);
        let scratch = tempfile::tempdir().unwrap();
        for form in ["tar", "tar.gz", "zip"] {
            let archive = scratch.path().join(format!("a.{form}"));
            let (head, content) = fetch(server.port, &format!("/?archive={form}"));
            assert!(head.contains(&format!("filename=\"files.{form}\"")), "{head}");
            assert!(memchr::memmem::find(&content, SECRET.as_bytes()).is_none());
            fs::write(&archive, content).unwrap();
            let into = scratch.path().join(format!("in-{form}"));
            unpack(&archive, form, &into);
            if form == "zip" && program(&["python3"], REQUIRED).is_none() {
                continue;
            }
            // Some programs would take a backslash in a zip for a separator.
            let renamed = |name: &[u8]| match form {
                "zip" => String::from_utf8(name.escape_ascii().collect()).unwrap().replace("\\\\", "_"),
                _ => name.escape_ascii().to_string(),
            };
            let by_name = |tree: &Tree| -> Tree {
                tree.iter().map(|(name, content)| (renamed(name).into_bytes(), content.clone())).collect()
            };
            let found = tree(&into.join("files"), &|_| true);
            assert_same(&by_name(&found), &by_name(&everything), form);
        }
        // A subfolder with links upwards and sideways.
        let (head, content) = fetch(server.port, "/plain/?archive=tar.gz");
        assert!(head.contains("filename=\"plain.tar.gz\""), "{head}");
        let archive = scratch.path().join("plain.tar.gz");
        fs::write(&archive, content).unwrap();
        unpack(&archive, "tar.gz", &scratch.path().join("plain"));
        let mut found = tree(&scratch.path().join("plain/plain"), &|_| true);
        // The link upwards is followed once, because it leads to the root, which the walk has not
        // visited.
        found.retain(|name, _| !name.starts_with(b"up"));
        assert_same(&found, &plain, "plain");
    });
}

#[test]
fn links_are_as_the_server_follows_them() {
    let docroot = Docroot::new();
    on_both(|model| {
        for (symlinks, has_inside, has_outside) in
            [("no", false, false), ("inside", true, false), ("all", true, true)]
        {
            let server = Server::start(model, &docroot.root(), &["--archives", "--symlinks", symlinks]);
            let (_, content) = fetch(server.port, "/?archive=tar");
            let has = |name: &str| memchr::memmem::find(&content, name.as_bytes()).is_some();
            assert!(has("files/hello.txt"));
            assert_eq!(has("files/link-dir-in/one.txt"), has_inside, "{symlinks}");
            assert_eq!(has("files/link-dir-out/secret.txt"), has_outside, "{symlinks}");
            assert!(!has("link-dot") && !has(".git") && !has(".hidden"));
        }
    });
}

#[test]
fn improper_archive_requests_are_refused() {
    let docroot = Docroot::new();
    on_both(|model| {
        let off = Server::start(model, &docroot.root(), &[]);
        let got = Client::connect(off.port).get("/plain/?archive=zip").expect(200);
        assert!(got.must("content-type").starts_with("text/html"), "off by default: {got:?}");
        let page = Client::connect(off.port).get("/plain/").expect(200);
        assert!(!page.text().contains("archive="), "the page offers no archive");

        let server = Server::start(model, &docroot.root(), &["--archives"]);
        let mut client = Client::connect(server.port);
        for (path, status) in [
            ("/plain/?archive=rar", 400),
            ("/plain/?archive", 400),
            ("/none/?archive=zip", 404),
            ("/.git/?archive=zip", 404),
            ("/hello.txt/?archive=zip", 404),
            ("/plain?archive=zip", 301),
        ] {
            client.get(path).expect(status);
        }
        assert_eq!(client.get("/plain?archive=zip").leads_to("/plain"), "/plain/?archive=zip");
        client.get("/hello.txt?archive=zip").expect(200).with_body(crate::docroot::HELLO);
        let got = client.ask("POST", "/plain/?archive=zip", &[], b"").expect(405);
        assert_eq!(got.must("allow"), "GET, HEAD, OPTIONS");
        let head = client.ask("HEAD", "/plain/?archive=zip", &[], b"").expect(200);
        let got = client.ask("GET", "/plain/?archive=zip", &["Range: bytes=0-9"], b"").expect(200);
        for got in [&head, &got] {
            assert_eq!(got.must("content-type"), "application/zip");
            assert_eq!(got.must("content-disposition"), "attachment; filename=\"plain.zip\"");
            assert_eq!(got.must("cache-control"), "no-store");
            assert_eq!((got.field("etag"), got.field("content-length")), (None, None));
        }
        assert!(got.body.starts_with(b"PK\x03\x04"));
        // The page of a folder with an index is that index. Its archive is still that of the
        // folder.
        assert!(client.get("/sub/?archive=zip").expect(200).body.starts_with(b"PK\x03\x04"));
    });
    let both = run(bare_command().args(["--archives", "--no-listing", "."]));
    assert_eq!(both.code, Some(2), "{}", both.err);
    assert!(both.err.contains("contradict"), "{}", both.err);
}

/// Stalled readers hold permits but no memory. A client that leaves frees its permit and every
/// descriptor.
#[test]
fn concurrent_archives_are_limited_and_release_their_permits() {
    let docroot = Docroot::empty();
    docroot.write("big.bin", b"");
    fs::File::options().write(true).open(docroot.path("big.bin")).unwrap().set_len(1 << 30).unwrap();
    docroot.write("hello.txt", b"hello");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--archives", "--max-archives", "2"]);
        let mut control = Client::connect(server.port);
        control.get("/hello.txt").expect(200);
        let before = server.descriptors();
        let mut stalled: Vec<Client> = (0..2)
            .map(|_| {
                let mut client = Client::connect_narrow(server.port);
                client.send("GET /?archive=tar HTTP/1.1\r\nHost: localhost\r\n\r\n");
                client.read_some(1000);
                client
            })
            .collect();
        let got = control.get("/?archive=zip").expect(503);
        assert_eq!(got.must("retry-after"), "1");
        stalled.pop();
        until("a permit is free again", || control.ask("HEAD", "/?archive=zip", &[], b"").status == 200);
        drop(stalled);
        until("all descriptors are closed", || server.descriptors() <= before);
        control.get("/hello.txt").expect(200).with_body("hello");
    });
}

/// A file that shrinks while it is packed cannot change a header that was already sent. A file that
/// grows is packed up to its announced length.
#[test]
fn an_incomplete_archive_does_not_look_complete() {
    for form in ["tar", "tar.gz", "zip"] {
        on_both(|model| {
            let docroot = Docroot::empty();
            let noise = pattern(24 << 20);
            docroot.write("a.png", &noise);
            docroot.write("b.txt", b"after it");
            let server = Server::start(model, &docroot.root(), &["--archives"]);
            for (length, is_whole) in [(30 << 20, true), (10 << 20, false)] {
                let mut client = Client::connect_narrow(server.port);
                client.send(format!(
                    "GET /?archive={form} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                ));
                // Reads until the server reads the file.
                let mut came = 0;
                while came < 200_000 {
                    came += client.read_some(10_000).len();
                }
                let file = fs::File::options().write(true).open(docroot.path("a.png")).unwrap();
                file.set_len(length).unwrap();
                let (rest, _) = client.rest();
                assert_eq!(rest.ends_with(b"\r\n0\r\n\r\n"), is_whole, "{form}, {length} bytes");
                assert!(rest.len() < 25 << 20, "{form}: more than was announced, {}", rest.len());
                file.set_len(noise.len() as u64).unwrap();
            }
            Client::connect(server.port).get("/b.txt").expect(200);
        });
    }
}

fn peak_bytes(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line with the peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Reads a connection to its end and discards everything. Returns the number of bytes.
fn drain(client: &mut Client) -> u64 {
    std::io::copy(&mut client.stream.by_ref(), &mut std::io::sink()).expect("the archive to its end")
}

#[test]
fn memory_does_not_grow_with_the_folder() {
    const FILES: u64 = 20;
    const BYTES: u64 = 10 << 20;
    let docroot = Docroot::empty();
    for number in 0..FILES {
        let name = format!("folder/{number}.bin");
        docroot.write(&name, b"");
        fs::File::options().write(true).open(docroot.path(&name)).unwrap().set_len(BYTES).unwrap();
    }
    docroot.write("small/a.txt", b"a");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--archives"]);
        let ask = |folder: &str, form: &str| {
            let mut client = Client::connect(server.port);
            client.send(format!("GET /{folder}/?archive={form} HTTP/1.0\r\nHost: localhost\r\n\r\n"));
            drain(&mut client)
        };
        for form in ["tar", "tar.gz", "zip"] {
            ask("small", form);
            let before = peak_bytes(&server);
            let came = ask("folder", form);
            assert!(form != "tar" || came > FILES * BYTES, "only {came} bytes of {form}");
            let grown = peak_bytes(&server).saturating_sub(before);
            assert!(grown < 4 << 20, "{form} on {model}: {grown} bytes more at the peak");
        }
    });
}

/// If processors are scarce, clients that load archives wait, and clients that load pages do not.
#[test]
fn worker_threads_have_lower_priority_than_the_loop() {
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &["--archives"]);
    Client::connect(server.port).get("/plain/?archive=tar").expect(200);
    let mut seen = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{}/task", server.pid().as_raw_nonzero())).unwrap() {
        let line = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (name, rest) = line.rsplit_once(')').expect("a name in brackets");
        let nice: i32 = rest.split(' ').nth(17).expect("how nice it is").parse().unwrap();
        seen.insert(name.rsplit('(').next().unwrap().to_owned(), nice);
    }
    let (work, main) = (seen["whirligig-job"], seen["whirligig"]);
    assert!(work > main || work == 19, "{seen:?}");
}
