//! Uploads: what clients may write, where, and with which password. No client ever sees a partial
//! file, and nothing is left of an interrupted upload.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::browser::{chromium, visit_with};
use crate::docroot::{Docroot, HELLO, pattern};
use crate::harness::{PATIENCE, Server, bare_command, command, now, on_both, run, until};
use crate::wire::{Client, Response, chunked, get, request, resolve};

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

#[test]
fn files_are_put_replaced_and_deleted_and_folders_created() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--max-body", "1k"]);
        let mut client = Client::connect(server.port);
        let large = pattern(3 * 1024 * 1024 + 17);
        for (content, coded) in [(&large[..], false), (&large[..70_000], true), (b"", false), (b"x", true)] {
            let (fields, content_sent) = match coded {
                true => (&["Transfer-Encoding: chunked"][..], chunked(content, 10_000)),
                false => (&[][..], content.to_vec()),
            };
            let mut asked = request("PUT", "/up/a%20b.bin", fields, if coded { b"" } else { &content_sent });
            if coded {
                asked.extend_from_slice(&content_sent);
            }
            client.send(&asked);
            let new = client.response().expect(201);
            assert_eq!(new.must("location"), "a%20b.bin");
            let got = client.get("/up/a%20b.bin").expect(200).with_body(content);
            assert_eq!(got.must("etag"), new.must("etag"), "the tag that was given is the file's");
            assert_eq!(names(&docroot.path("up")), ["a b.bin"]);
            client.ask("PUT", "/up/a%20b.bin", &[], b"second").expect(204).must("etag");
            client.get("/up/a%20b.bin").expect(200).with_body("second");
            client.ask("DELETE", "/up/a%20b.bin", &[], b"").expect(204);
            client.get("/up/a%20b.bin").expect(404);
        }
        let made = client.ask("MKCOL", "/up/sub", &[], b"").expect(201);
        assert_eq!(made.must("location"), "sub/");
        client.ask("MKCOL", "/up/sub/", &[], b"").expect(405).must("allow");
        client.ask("MKCOL", "/up/no/sub", &[], b"").expect(409);
        client.ask("PUT", "/up/sub/a", &[], b"deeper").expect(201);
        client.ask("DELETE", "/up/sub/", &[], b"").expect(409);
        client.ask("DELETE", "/up/sub/a", &[], b"").expect(204);
        client.ask("DELETE", "/up/sub", &[], b"").expect(204);
        assert_empty(&docroot.path("up"));
    });
}

/// Bytes that belong to no part are ignored (RFC 2046 section 5.1.1), but not gigabytes of them.
#[test]
fn a_form_with_too_much_around_its_parts_is_refused() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let (field, whole) = form(&[("name=\"a\"; filename=\"NAME\"", b"content")]);
        let text = String::from_utf8(whole).unwrap();
        for (bytes, status) in [(10_000, 201), (20_000, 400)] {
            let contents = [
                format!("{}\r\n{text}", "x".repeat(bytes)),
                text.replace("--b0undary\r\n", &format!("--b0undary{}\r\n", " ".repeat(bytes))),
                format!("{text}{}", "x".repeat(bytes)),
            ];
            for (number, content) in contents.iter().enumerate() {
                let content = content.replace("NAME", &format!("{bytes}-{number}.txt"));
                let got = Client::connect(server.port).ask("POST", "/up/", &[field], content.as_bytes());
                assert_eq!(got.status, status, "{bytes}: {content:.40}");
            }
        }
    });
}

/// Method, path, headers, body, and the status of the response.
type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a [u8], u16);

#[test]
fn refused_uploads_have_specific_statuses() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/folder/file", b"x");
        docroot.link("folder", "up/link");
        let before = names(&docroot.root());
        let server = start(model, &docroot, &["--api"]);
        let long = format!("/up/{}", "n".repeat(256));
        let cases: &[Case] = &[
            // Nothing may be written elsewhere.
            ("PUT", "/a.txt", &[], b"x", 405),
            ("PUT", "/other/file.txt", &[], b"x", 405),
            ("PUT", "/upper.txt", &[], b"x", 405),
            ("DELETE", "/hello.txt", &[], b"", 405),
            ("POST", "/", &[], b"x", 405),
            ("MKCOL", "/new", &[], b"", 501),
            // Names.
            ("PUT", "/up", &[], b"x", 409),
            ("PUT", "/up/", &[], b"x", 409),
            ("PUT", "/up/new/", &[], b"x", 409),
            ("PUT", "/up/folder", &[], b"x", 409),
            ("PUT", "/up/link", &[], b"x", 409),
            ("PUT", "/up/nosuch/a", &[], b"x", 409),
            ("PUT", "/up/folder/file/a", &[], b"x", 409),
            ("PUT", "/up/.a", &[], b"x", 403),
            ("PUT", "/up/.well-known/a", &[], b"x", 403),
            ("PUT", "/up/folder/.git/a", &[], b"x", 403),
            ("PUT", "/up/a%00b", &[], b"x", 400),
            ("PUT", "/up/a%0ab", &[], b"x", 400),
            ("PUT", "/up/a%2fb", &[], b"x", 400),
            ("PUT", &long, &[], b"x", 400),
            // Partial and coded content.
            ("PUT", "/up/a", &["Content-Range: bytes 0-0/5"], b"x", 400),
            ("PUT", "/up/a", &["Content-Encoding: gzip"], b"x", 415),
            // Conditions.
            ("PUT", "/up/folder/file", &["If-None-Match: *"], b"x", 412),
            ("PUT", "/up/folder/file", &["If-Match: \"other\""], b"x", 412),
            ("PUT", "/up/a", &["If-Match: *"], b"x", 412),
            ("DELETE", "/up/folder/file", &["If-Match: \"other\""], b"", 412),
            // Other methods.
            ("DELETE", "/up/", &[], b"", 403),
            ("DELETE", "/up", &[], b"", 403),
            ("DELETE", "/up/nosuch", &[], b"", 404),
            ("DELETE", "/up/nosuch/a", &[], b"", 404),
            ("DELETE", "/up/link", &[], b"", 409),
            ("DELETE", "/up/folder/file/", &[], b"", 404),
            ("MKCOL", "/up/a", &[], b"x", 415),
            ("PATCH", "/up/folder/file", &[], b"x", 405),
            ("TRACE", "/up/folder/file", &[], b"", 405),
            ("BREW", "/up/folder/file", &[], b"", 501),
            ("POST", "/up/", &[], b"x", 415),
            ("POST", "/up/", &["Content-Type: multipart/form-data"], b"x", 400),
            ("PATCH", "/up/a?resume=0", &["Content-Type: application/partial-upload"], b"x", 400),
            ("PATCH", "/up/a?resume=0", &["Upload-Offset: 0", "Upload-Complete: ?1"], b"x", 415),
            ("HEAD", "/up/a?resume=0", &[], b"", 404),
            ("DELETE", "/up/a?resume=0", &[], b"", 404),
            ("PUT", "/up/a", &["Upload-Complete: ?1", "Upload-Length: 5"], b"x", 400),
        ];
        for (method, path, fields, content, status) in cases {
            let got = Client::connect(server.port).ask(method, path, fields, content);
            assert_eq!(got.status, *status, "{method} {path} {fields:?}: {got:?}");
            if got.status == 405 && path.starts_with("/up/") {
                assert!(got.must("allow").contains("GET"), "{got:?}");
            }
        }
        assert_eq!(names(&docroot.root()), before);
        assert_eq!(names(&docroot.path("up")), ["folder", "link"]);
        assert_eq!(names(&docroot.path("up/folder")), ["file"]);
    });
}

#[test]
fn options_lists_the_methods_and_routes_are_no_folders() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let mut client = Client::connect(server.port);
        let options = client.ask("OPTIONS", "/up/a", &[], b"").expect(204);
        assert_eq!(options.must("allow"), "GET, HEAD, PUT, POST, DELETE, MKCOL, OPTIONS");
        assert_eq!(options.must("accept-patch"), "application/partial-upload");
        assert!(options.must("upload-limit").starts_with("max-size=1073741824"), "{options:?}");
        assert_eq!(client.ask("OPTIONS", "/hello.txt", &[], b"").must("allow"), "GET, HEAD, OPTIONS");
        // Routes are no folders, even if the whole folder takes uploads.
        let all = Server::start(model, &docroot.root(), &["--upload", "/", "--api"]);
        let mut client = Client::connect(all.port);
        client.ask("PUT", "/_whirligig/health", &[], b"x").expect(405);
        client.ask("PUT", "/_whirligig/other", &[], b"x").expect(403);
        client.ask("PUT", "/api/echo", &[], b"x").expect(200).with_body("x");
        client.ask("PUT", "/top.txt", &[], b"x").expect(201);
        client.get("/top.txt").expect(200).with_body("x");
    });
}

/// No name and no link leads out of the writable folder, wherever links may lead for reading.
#[test]
fn nothing_is_written_outside_of_the_folder() {
    let docroot = docroot();
    docroot.link("../../outside", "up/out");
    docroot.link("../other", "up/beside");
    docroot.link(docroot.root().join("up"), "up/absolute");
    docroot.write("up/real/x", b"x");
    docroot.link("real", "up/inside");
    for symlinks in ["inside", "all", "no"] {
        on_both(|model| {
            let server = start(model, &docroot, &["--symlinks", symlinks]);
            for path in [
                "/up/../evil",
                "/up/%2e%2e/evil",
                "/up/x/../../evil",
                "/up/out/evil",
                "/up/beside/evil",
                "/up/beside/file.txt",
                "//evil",
                "/up/absolute/evil",
            ] {
                for method in ["PUT", "DELETE", "MKCOL"] {
                    let content: &[u8] = if method == "PUT" { b"evil" } else { b"" };
                    let got = Client::connect(server.port).ask(method, path, &[], content);
                    assert!(got.status >= 400, "{method} {path}: {got:?}");
                }
            }
            let through = put(&server, "/up/inside/new", &[], b"x").status;
            assert!(
                if symlinks == "no" { through == 403 } else { [201, 204].contains(&through) },
                "{through}"
            );
        });
        assert_eq!(names(&docroot.path("other")), ["file.txt"]);
        assert_eq!(fs::read(docroot.path("other/file.txt")).unwrap(), b"not to be written");
        assert_empty(&docroot.outside(""));
        assert_eq!(names(&docroot.root()), ["hello.txt", "other", "up"]);
    }
}

#[test]
fn of_many_writers_with_a_condition_one_wins() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        for round in 0..10 {
            let path = format!("/up/new{round}");
            let race = |fields: &[&str]| -> Vec<u16> {
                let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(server.port)).collect();
                for (number, client) in clients.iter_mut().enumerate() {
                    let whole = request("PUT", &path, fields, &[b'0' + number as u8; 50_000]);
                    client.send(&whole[..whole.len() - 1]);
                }
                for (number, client) in clients.iter_mut().enumerate() {
                    client.send([b'0' + number as u8]);
                }
                let mut statuses: Vec<u16> =
                    clients.iter_mut().map(|client| client.response().status).collect();
                statuses.sort_unstable();
                statuses
            };
            assert_eq!(race(&["If-None-Match: *"]), [201, 412, 412, 412, 412, 412]);
            // The tag of a large, young file is weak, so it matches no `If-Match`.
            docroot.set_modified(&path[1..], 1_000_000_000 + round);
            let mut client = Client::connect(server.port);
            let got = client.get(&path).expect(200);
            assert!(got.body.len() == 50_000 && got.body.iter().all(|byte| *byte == got.body[0]));
            let condition = format!("If-Match: {}", got.must("etag"));
            assert_eq!(race(&[&condition]), [204, 412, 412, 412, 412, 412]);
        }
        assert_eq!(names(&docroot.path("up")).len(), 10);
    });
}

#[test]
fn too_large_uploads_are_refused_before_the_content() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--max-upload", "100k", "--max-body", "10k", "--api"]);
        for (method, path, kind) in
            [("PUT", "/up/a", "X: y"), ("POST", "/up/", "Content-Type: multipart/form-data; boundary=b")]
        {
            let mut client = Client::connect(server.port);
            let length = "Content-Length: 102401";
            client.send(request(method, path, &[kind, length, "Expect: 100-continue"], b""));
            let refused = client.response().expect(413);
            assert_eq!(refused.interim, [0; 0], "no 100 was sent");
            assert!(refused.text().contains("larger than 100 KiB (102400 bytes)"), "{refused:?}");
        }
        let refused =
            put(&server, "/up/a", &["Upload-Complete: ?0", "Upload-Length: 102401"], b"").expect(413);
        assert!(refused.must("upload-limit").contains("max-size=102400"), "{refused:?}");
        assert!(refused.text().contains("the upload is larger than 100 KiB (102400 bytes)"), "{refused:?}");
        let mut client = Client::connect(server.port);
        client.send(request("PUT", "/up/a", &["Transfer-Encoding: chunked"], b""));
        client.send_if_open(chunked(&pattern(150_000), 5000));
        client.response().expect(413);
        assert_empty(&docroot.path("up"));
        put(&server, "/up/a", &[], &pattern(102_400)).expect(201);
        // All other content has its own limit, with every framing.
        let mut client = Client::connect(server.port);
        client.ask("POST", "/api/echo", &[], &pattern(10_240)).expect(200);
        let refused = client.ask("POST", "/api/echo", &[], &pattern(10_241)).expect(413);
        assert!(refused.text().contains("the content is larger than 10.0 KiB (10240 bytes)"), "{refused:?}");
        let mut client = Client::connect(server.port);
        client.send(request("POST", "/api/echo", &["Transfer-Encoding: chunked"], b""));
        client.send_if_open(chunked(&pattern(10_241), 1000));
        client.response().expect(413);
    });
}

/// The page of a folder sends files as resumable uploads, so there must be room for the largest
/// permitted file.
#[test]
fn an_upload_that_is_small_enough_can_be_resumed() {
    on_both(|model| {
        let docroot = docroot();
        let begin = |server: &Server, length: u64| {
            let length = format!("Upload-Length: {length}");
            put(server, "/up/long", &["Upload-Complete: ?0", &length], b"start")
        };
        const GIB: u64 = 1 << 30;
        let server = start(model, &docroot, &["--max-upload", "4G"]);
        for length in [GIB + 1, 2 * GIB, 4 * GIB] {
            begin(&server, length).expect(201);
        }
        let refused = begin(&server, 4 * GIB + 1).expect(413);
        assert!(refused.text().contains("larger than 4.0 GiB"), "{refused:?}");
        // The room set by the operator applies, even if it is smaller.
        let server = start(model, &docroot, &["--max-upload", "4G", "--max-partial", "1M"]);
        let refused = begin(&server, (1 << 20) + 1).expect(413);
        assert!(
            refused.text().contains("larger than 1.0 MiB (1048576 bytes), and cannot be resumed"),
            "{refused:?}"
        );
    });
}

/// Sends the first half of an upload and waits until the server has a file for it.
fn half_an_upload(server: &Server, docroot: &Docroot, path: &str) -> Client {
    let before = drafts(server, &docroot.path("up"));
    let mut client = Client::connect(server.port);
    let whole = request("PUT", path, &[], &pattern(2_000_000));
    client.send(&whole[..1_000_000]);
    until("the upload has begun", || drafts(server, &docroot.path("up")) > before);
    client
}

#[test]
fn a_crash_leaves_no_partial_file() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/old", b"old version");
        let mut server = start(model, &docroot, &[]);
        let clients = ["/up/new", "/up/old"].map(|path| half_an_upload(&server, &docroot, path));
        let begun = put(&server, "/up/resumed", &["Upload-Complete: ?0"], &pattern(500_000)).expect(201);
        server.signal(Signal::KILL);
        until("the server has ended", || !server.is_running());
        assert_eq!(names(&docroot.path("up")), ["old"]);
        assert_eq!(fs::read(docroot.path("up/old")).unwrap(), b"old version");
        drop(clients);
        // Stored partial uploads are lost with the server, and their URLs return an error.
        let server = start(model, &docroot, &[]);
        Client::connect(server.port).ask("HEAD", &begun.leads_to("/up/resumed"), &[], b"").expect(404);
    });
}

#[test]
fn an_interrupted_upload_leaves_nothing_and_the_old_version_stays() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/old", b"old version");
        let server = start(model, &docroot, &["--body-timeout", "0.5"]);
        let up = docroot.path("up");
        // The client resets, shuts its side, breaks the framing, or stops sending.
        drop(half_an_upload(&server, &docroot, "/up/old"));
        until("the cut upload is deleted", || drafts(&server, &up) == 0);
        let mut client = half_an_upload(&server, &docroot, "/up/old");
        client.finish();
        until("the cut upload is deleted", || drafts(&server, &up) == 0);
        let mut client = Client::connect(server.port);
        client.send(request("PUT", "/up/old", &["Transfer-Encoding: chunked"], b""));
        client.send(b"5\r\nhello\r\nzz\r\n");
        client.response().expect(400);
        until("the malformed upload is deleted", || drafts(&server, &up) == 0);
        let mut client = half_an_upload(&server, &docroot, "/up/new");
        client.response().expect(408);
        until("nothing is open any more", || drafts(&server, &up) == 0);
        assert_eq!(names(&up), ["old"]);
        assert_eq!(fs::read(docroot.path("up/old")).unwrap(), b"old version");
        // A slow upload is not interrupted.
        let mut client = Client::connect(server.port);
        let whole = request("PUT", "/up/slow", &[], &pattern(4000));
        for piece in whole.chunks(500) {
            assert!(client.is_quiet_for(Duration::from_millis(100)));
            assert_eq!(names(&up), ["old"], "not before it is complete");
            client.send(piece);
        }
        client.response().expect(201);
        Client::connect(server.port).get("/up/slow").expect(200).with_body(pattern(4000));
    });
}

#[test]
fn readers_see_one_version_or_the_other() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--fresh", "0"]);
        let versions = [vec![b'a'; 400_000], vec![b'b'; 300_000], vec![b'c'; 20_000]];
        put(&server, "/up/file", &[], &versions[0]).expect(201);
        let is_over = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut client = Client::connect(server.port);
                    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        let got = client.get("/up/file").expect(200);
                        assert!(versions.contains(&got.body), "{} bytes", got.body.len());
                    }
                });
            }
            let mut writer = Client::connect(server.port);
            for version in versions.iter().cycle().take(60) {
                writer.ask("PUT", "/up/file", &[], version).expect(204);
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(names(&docroot.path("up")), ["file"]);
    });
}

/// A cache that trusts its files for seconds must not return the old file after the response to a
/// PUT.
#[test]
fn a_get_after_the_response_sees_the_new_file() {
    for more in [&["--fresh", "60000"][..], &["--fresh", "60000", "--reactors", "3"]] {
        on_both(|model| {
            let docroot = docroot();
            docroot.write("up/file", b"0");
            // A file younger than 20 ms is never cached.
            docroot.set_modified("up/file", 1_000_000_000);
            let server = start(model, &docroot, more);
            let mut readers: Vec<Client> = (0..6).map(|_| Client::connect(server.port)).collect();
            let mut writer = Client::connect(server.port);
            for round in 1..30 {
                let text = format!("version {round}");
                writer.ask("PUT", "/up/file", &[], text.as_bytes()).expect(204);
                // Several times, some of them late enough for the file to be cached.
                for _ in 0..3 {
                    for reader in &mut readers {
                        reader.get("/up/file").expect(200).with_body(&text);
                    }
                    crate::harness::pass(Duration::from_millis(12));
                }
            }
            writer.ask("DELETE", "/up/file", &[], b"").expect(204);
            for reader in &mut readers {
                reader.get("/up/file").expect(404);
            }
        });
    }
}

#[test]
fn forms_bring_files_under_their_own_names() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let up = docroot.path("up");
        let photo = pattern(700_000);
        let (kind, content) = form(&[
            ("name=\"note\"", b"a field"),
            ("name=\"file\"; filename=\"..\\..\\sub/photo.bin\"", &photo),
            ("name=\"file\"; filename=\"\"", b""),
            ("name=\"file\"; filename=\"\u{706f}.txt\"", b"\r\n--b0undar"),
        ]);
        let mut client = Client::connect(server.port);
        let got = client.ask("POST", "/up/", &[kind, "Accept: application/json"], &content).expect(201);
        assert_eq!(got.text(), "{\"files\":[\"/up/photo.bin\",\"/up/%E7%81%AF.txt\"]}\n");
        assert_eq!(names(&up), ["photo.bin", "\u{706f}.txt"]);
        client.get("/up/photo.bin").expect(200).with_body(&photo);
        client.get("/up/%E7%81%AF.txt").expect(200).with_body("\r\n--b0undar");
        // An existing file stays, unless it may be replaced.
        let (kind, content) = form(&[("name=f; filename=photo.bin", b"another")]);
        client.ask("POST", "/up/", &[kind], &content).expect(409);
        client.get("/up/photo.bin").expect(200).with_body(&photo);
        let got = client.ask("POST", "/up/?overwrite", &[kind], &content).expect(201);
        assert_eq!((got.must("location"), got.text()), ("photo.bin", "/up/photo.bin\n"));
        client.get("/up/photo.bin").expect(200).with_body("another");
        // A browser without scripts is redirected to the folder.
        let (kind, content) = form(&[("name=f; filename=b", b"b")]);
        let got = client.ask("POST", "/up", &[kind, "Accept: text/html,*/*;q=0.8"], &content).expect(303);
        assert_eq!(got.must("location"), "up/");
        for (parts, status) in [
            (&[("name=f; filename=\".hidden\"", &b"x"[..])][..], 403),
            (&[("name=f; filename=\"a%0Ab\"", b"x")], 400),
            (&[("name=f; filename=\"..\"", b"x")], 403),
            (&[("name=f", b"no file")], 400),
            (&[], 400),
        ] {
            let (kind, content) = form(parts);
            client.ask("POST", "/up/", &[kind], &content).expect(status);
        }
        // The files before the interruption exist, and nothing of the interrupted one.
        let (kind, content) = form(&[("name=f; filename=first", b"1"), ("name=f; filename=second", &photo)]);
        let mut cut = Client::connect(server.port);
        let whole = request("POST", "/up/", &[kind], &content);
        cut.send(&whole[..whole.len() - 1000]);
        until("the first file exists", || up.join("first").exists());
        drop(cut);
        until("nothing is open any more", || drafts(&server, &up) == 0);
        assert_eq!(names(&up), ["b", "first", "photo.bin", "\u{706f}.txt"]);
    });
}

#[test]
fn an_interrupted_upload_can_be_resumed() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let content = pattern(3_000_000);
        let length = format!("Upload-Length: {}", content.len());
        let mut client = Client::connect(server.port);
        // Starts with an empty request, whose response contains the URL of the upload.
        let begun = client.ask("PUT", "/up/file", &["Upload-Complete: ?0", &length], b"").expect(201);
        assert_eq!((begun.must("upload-complete"), begun.must("upload-offset")), ("?0", "0"));
        assert!(begun.must("location").starts_with("file?resume="), "{begun:?}");
        let place = begun.leads_to("/up/file");
        let part = |offset: usize, complete: &str| {
            let offset = format!("Upload-Offset: {offset}");
            let complete = format!("Upload-Complete: {complete}");
            [offset, complete, "Content-Type: application/partial-upload".to_owned()]
        };
        let patch = |offset: usize, complete: &str, data: &[u8]| {
            let fields = part(offset, complete);
            request("PATCH", &place, &fields.each_ref().map(String::as_str), data)
        };
        client.send(patch(0, "?0", &content[..100_000]));
        let appended = client.response().expect(204);
        assert_eq!((appended.must("upload-complete"), appended.must("upload-offset")), ("?0", "100000"));
        // Interrupted in the middle of the rest.
        let rest = patch(100_000, "?1", &content[100_000..]);
        let mut cut = Client::connect(server.port);
        cut.send(&rest[..1_500_000]);
        until_written(&server, &docroot.path("up"), 1_000_000);
        drop(cut);
        let (offset, _) = stand(&mut client, &place);
        assert!((1_000_000..1_600_000).contains(&offset), "{offset}");
        assert_empty(&docroot.path("up"));
        // The upload continues only at its current offset.
        client.send(patch(offset + 1, "?1", &content[offset + 1..]));
        let wrong = client.response().expect(409);
        let mut client = Client::connect(server.port);
        assert_eq!(wrong.must("upload-offset"), offset.to_string());
        assert!(wrong.text().contains("#mismatching-upload-offset"), "{wrong:?}");
        assert!(wrong.text().contains(&format!("\"expected-offset\":{offset}")), "{wrong:?}");
        client.send(patch(offset, "?1", b"too short"));
        let wrong = client.response().expect(400);
        assert!(wrong.text().contains("#inconsistent-upload-length"), "{wrong:?}");
        // The rest.
        client.send(patch(offset, "?1", &content[offset..]));
        let done = client.response().expect(201);
        assert_eq!((done.must("upload-complete"), done.must("location")), ("?1", "file"));
        client.get("/up/file").expect(200).with_body(&content);
        let after = client.ask("HEAD", &place, &[], b"").expect(204);
        assert_eq!((after.must("upload-complete"), after.must("upload-offset")), ("?1", "3000000"));
        client.send(patch(content.len(), "?1", b""));
        assert!(client.response().expect(400).text().contains("#completed-upload"));
        assert_eq!(names(&docroot.path("up")), ["file"]);
    });
}

/// Returns the state of an upload: its offset and its `Upload-Complete`.
fn stand(client: &mut Client, place: &str) -> (usize, String) {
    let got = client.ask("HEAD", place, &[], b"").expect(204);
    assert_eq!(got.must("cache-control"), "no-store");
    assert!(got.must("upload-limit").contains("max-age="), "{got:?}");
    (got.must("upload-offset").parse().unwrap(), got.must("upload-complete").to_owned())
}

/// A complete upload gets the URL of a resumable one in a 104, if the client supports that. After
/// an interruption the received part is kept.
#[test]
fn a_complete_upload_becomes_resumable() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let content = pattern(2_000_000);
        let fields = ["Upload-Complete: ?1", "Upload-Draft-Interop-Version: 8"];
        let mut cut = Client::connect(server.port);
        cut.send(&request("PUT", "/up/file", &fields, &content)[..1_200_000]);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push_str(std::str::from_utf8(&cut.read_some(1)).unwrap());
        }
        assert!(head.starts_with("HTTP/1.1 104 Upload Resumption Supported\r\n"), "{head}");
        assert!(head.contains("\r\nUpload-Draft-Interop-Version: 8\r\n"), "{head}");
        let place = head.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap();
        let place = resolve("/up/file", place);
        let up = docroot.path("up");
        until_written(&server, &up, 1_000_000);
        drop(cut);
        let mut client = Client::connect(server.port);
        let (offset, complete) = stand(&mut client, &place);
        assert!((1_000_000..1_200_000).contains(&offset) && complete == "?0", "{offset} {complete}");
        let offset_field = format!("Upload-Offset: {offset}");
        let more = ["Content-Type: application/partial-upload", "Upload-Complete: ?1", &offset_field];
        client.ask("PATCH", &place, &more, &content[offset..]).expect(201);
        client.get("/up/file").expect(200).with_body(&content);
        // A complete request, and a request without the version, is an ordinary upload.
        let got = put(&server, "/up/file", &fields, b"short").expect(204);
        assert_eq!((&got.interim[..], got.must("upload-complete")), (&[104][..], "?1"));
        let got = put(&server, "/up/file", &fields[..1], b"short").expect(204);
        assert_eq!(got.interim, [0; 0]);
        let mut old = Client::connect(server.port);
        let whole = request("PUT", "/up/file", &fields, b"short");
        old.send(String::from_utf8(whole).unwrap().replace("HTTP/1.1", "HTTP/1.0"));
        assert_eq!(old.response().expect(204).interim, [0; 0], "HTTP/1.0 has no interim responses");
        assert_eq!(names(&up), ["file"]);
    });
}

#[test]
fn a_later_request_ends_an_earlier_one_for_the_same_upload() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let content = pattern(2_000_000);
        let mut client = Client::connect(server.port);
        let place = client.ask("PUT", "/up/file", &["Upload-Complete: ?0"], b"").expect(201);
        let place = place.leads_to("/up/file");
        let fields = ["Content-Type: application/partial-upload", "Upload-Complete: ?1", "Upload-Offset: 0"];
        let mut earlier = Client::connect(server.port);
        let whole = request("PATCH", &place, &fields, &content);
        earlier.send(&whole[..1_000_000]);
        until_written(&server, &docroot.path("up"), 500_000);
        let (offset, _) = stand(&mut client, &place);
        earlier.send_if_open(&whole[1_000_000..]);
        assert_eq!(earlier.response().status, 409, "the earlier one is over");
        assert_eq!(stand(&mut client, &place).0, offset, "and has added nothing since");
        let offset_field = format!("Upload-Offset: {offset}");
        client.ask("PATCH", &place, &[fields[0], fields[1], &offset_field], &content[offset..]).expect(201);
        client.get("/up/file").expect(200).with_body(&content);
        // A cancelled upload is deleted.
        let place = client.ask("PUT", "/up/b", &["Upload-Complete: ?0"], b"some").expect(201);
        let place = place.leads_to("/up/b");
        assert_eq!(drafts(&server, &docroot.path("up")), 1);
        client.ask("HEAD", &place.replace("/up/b", "/up/c"), &[], b"").expect(404);
        client.ask("DELETE", &place, &[], b"").expect(204);
        client.ask("HEAD", &place, &[], b"").expect(404);
        assert_eq!(drafts(&server, &docroot.path("up")), 0);
        assert_eq!(names(&docroot.path("up")), ["file"]);
    });
}

#[test]
fn partial_uploads_are_limited_in_age_and_bytes() {
    on_both(|model| {
        let docroot = docroot();
        let up = docroot.path("up");
        let server = start(model, &docroot, &["--partial-timeout", "0.4"]);
        let begun = put(&server, "/up/a", &["Upload-Complete: ?0"], b"some").expect(201);
        assert_eq!(drafts(&server, &up), 1);
        until("the upload has expired", || drafts(&server, &up) == 0);
        Client::connect(server.port).ask("HEAD", &begun.leads_to("/up/a"), &[], b"").expect(404);
        // The oldest upload is dropped if there is not enough room.
        let server = start(model, &docroot, &["--max-partial", "100k"]);
        let mut client = Client::connect(server.port);
        let begin = |name: &str, bytes: usize| {
            let begun =
                put(&server, &format!("/up/{name}"), &["Upload-Complete: ?0"], &pattern(bytes)).expect(201);
            begun.leads_to(&format!("/up/{name}"))
        };
        let places = [begin("a", 40_000), begin("b", 40_000), begin("c", 40_000)];
        let kept = places.map(|place| client.ask("HEAD", &place, &[], b"").status);
        assert_eq!(kept, [404, 204, 204]);
        assert_eq!(drafts(&server, &up), 2);
        put(&server, "/up/d", &["Upload-Complete: ?0", "Upload-Length: 200000"], b"").expect(413);
        // Without any room, uploads still work but cannot be resumed.
        let server = start(model, &docroot, &["--max-partial", "0"]);
        let fields = ["Upload-Complete: ?1", "Upload-Draft-Interop-Version: 8"];
        assert_eq!(put(&server, "/up/e", &fields, b"whole").expect(201).interim, [0; 0]);
        put(&server, "/up/f", &["Upload-Complete: ?0"], b"part").expect(413);
        assert_eq!(names(&up), ["e"]);
    });
}

#[test]
fn a_form_of_many_small_files_arrives_completely() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let heads: Vec<String> = (0..100).map(|number| format!("name=f; filename=f{number}")).collect();
        let parts: Vec<(&str, &[u8])> = heads.iter().map(|head| (head.as_str(), head.as_bytes())).collect();
        let (kind, content) = form(&parts);
        // In one piece, and with a large file after many small ones.
        let got = Client::connect(server.port).ask("POST", "/up/", &[kind], &content).expect(201);
        assert_eq!(got.text().lines().count(), 100);
        assert_eq!(names(&docroot.path("up")).len(), 100);
        let large = pattern(1_000_000);
        let (kind, content) = form(&[&parts[..], &[("name=f; filename=large", &large)], &parts[..]].concat());
        Client::connect(server.port).ask("POST", "/up/?overwrite", &[kind], &content).expect(201);
        assert_eq!(fs::read(docroot.path("up/large")).unwrap(), large);
        assert_eq!(fs::read(docroot.path("up/f99")).unwrap(), heads[99].as_bytes());
    });
}

/// An upload used to be reported as complete before it was a file, and even if it never became
/// one.
#[test]
fn an_upload_that_cannot_become_a_file_is_not_reported_as_complete() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--max-partial", "100k"]);
        let begin = |path: &str| {
            let begun = put(&server, path, &["Upload-Complete: ?0"], b"some").expect(201);
            begun.leads_to(path)
        };
        let part = ["Content-Type: application/partial-upload", "Upload-Offset: 4"];
        let place = begin("/up/a");
        fs::create_dir(docroot.path("up/a")).unwrap();
        let mut client = Client::connect(server.port);
        client.ask("PATCH", &place, &[part[0], part[1], "Upload-Complete: ?1"], b"more").expect(409);
        let mut client = Client::connect(server.port);
        client.ask("HEAD", &place, &[], b"").expect(404);
        // An upload that exceeds the room is not stored, either.
        let place = begin("/up/b");
        let mut client = Client::connect(server.port);
        let fields = [part[0], part[1], "Upload-Complete: ?0", "Transfer-Encoding: chunked"];
        client.send(request("PATCH", &place, &fields, b""));
        client.send_if_open(chunked(&pattern(600_000), 10_000));
        client.response().expect(507);
        Client::connect(server.port).ask("HEAD", &place, &[], b"").expect(404);
        until("nothing is open any more", || drafts(&server, &docroot.path("up")) == 0);
        assert_eq!(names(&docroot.path("up")), ["a"]);
    });
}

/// A limit on the size of files simulates a full disk: both fail in the middle of writing.
#[test]
fn a_full_disk_is_reported_and_leaves_nothing() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let limit = Rlimit { current: Some(1_000_000), maximum: None };
        prlimit(Some(server.pid()), Resource::Fsize, limit).unwrap();
        for fields in [&[][..], &["Transfer-Encoding: chunked"]] {
            let content = pattern(3_000_000);
            let mut client = Client::connect(server.port);
            let mut asked = request("PUT", "/up/a", fields, if fields.is_empty() { &content } else { b"" });
            if !fields.is_empty() {
                asked.extend(chunked(&content, 100_000));
            }
            client.send_if_open(&asked);
            client.response().expect(507);
        }
        let (kind, content) = form(&[("name=f; filename=a", &pattern(3_000_000))]);
        let mut client = Client::connect(server.port);
        client.send_if_open(request("POST", "/up/", &[kind], &content));
        client.response().expect(507);
        until("nothing is open any more", || drafts(&server, &docroot.path("up")) == 0);
        assert_empty(&docroot.path("up"));
        put(&server, "/up/small", &[], &pattern(500_000)).expect(201);
    });
}

#[test]
fn concurrent_uploads_are_limited() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--max-uploads", "2"]);
        let mut busy = ["/up/a", "/up/b"].map(|path| half_an_upload(&server, &docroot, path));
        let refused = put(&server, "/up/c", &[], b"x").expect(503);
        refused.must("retry-after");
        Client::connect(server.port).get("/hello.txt").expect(200);
        busy[0].send(&request("PUT", "/up/a", &[], &pattern(2_000_000))[1_000_000..]);
        busy[0].response().expect(201);
        put(&server, "/up/c", &[], b"x").expect(201);
    });
}

#[test]
fn pages_of_other_sites_write_nothing() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--cors", "*"]);
        let own = format!("Origin: http://127.0.0.1:{}", server.port);
        let host = format!("Host: 127.0.0.1:{}", server.port);
        let send = |method: &str, fields: &[&str], content: &[u8]| {
            let mut lines = vec![format!("{method} /up/a HTTP/1.1"), host.clone()];
            lines.extend(fields.iter().map(|field| (*field).to_owned()));
            lines.push(format!("Content-Length: {}\r\n\r\n", content.len()));
            let mut client = Client::connect(server.port);
            client.send([lines.join("\r\n").as_bytes(), content].concat());
            client.response().status
        };
        for foreign in [
            "Origin: http://evil.example",
            "Origin: null",
            "Origin: http://127.0.0.1:1",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
        ] {
            let (kind, content) = form(&[("name=f; filename=a", b"x")]);
            assert_eq!(send("PUT", &[foreign], b"x"), 403, "{foreign}");
            assert_eq!(send("POST", &[foreign, kind], &content), 403, "{foreign}");
            assert_eq!(send("DELETE", &[foreign], b""), 403, "{foreign}");
            assert_eq!(send("MKCOL", &[foreign], b""), 403, "{foreign}");
            assert_eq!(send("PATCH", &[foreign], b"x"), 403, "{foreign}");
        }
        assert_empty(&docroot.path("up"));
        assert_eq!(send("PUT", &[&own], b"x"), 201);
        assert_eq!(send("PUT", &["Sec-Fetch-Site: same-origin", &own], b"x"), 204);
        assert_eq!(send("PUT", &["Sec-Fetch-Site: none"], b"x"), 204);
    });
}

/// Behind a proxy that changes Host, a page of this site looks like one of another. The 403
/// contains both names, so that the operator can find the cause.
#[test]
fn the_refusal_of_a_page_contains_both_names() {
    let long = format!("http://{}.lan", "x".repeat(3000));
    let cut = format!("the page is from {}, but", &long[..255]);
    let cases = [
        ("Origin: http://files.lan", "the page is from http://files.lan, but"),
        ("Origin: http://127.0.0.1:1", "the page is from http://127.0.0.1:1, but"),
        (
            "Origin: https://files.lan:8443\r\nSec-Fetch-Site: same-site",
            "files.lan:8443 (Sec-Fetch-Site: same-site), ",
        ),
        ("Sec-Fetch-Site: cross-site", "the page is from another site (Sec-Fetch-Site: cross-site), but"),
        ("Origin: null", "the page has no origin (Origin: null), but"),
        ("Origin: http://a.lan\r\nOrigin: http://b.lan", "the request has several Origin headers, but"),
        ("Origin: http://<b>\"&'\u{202e}", "http://\\x3cb\\x3e\\x22\\x26\\x27\\xe2\\x80\\xae, but"),
        (&format!("Origin: {long}"), &cut),
    ];
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let (kind, content) = form(&[("name=f; filename=a", b"x")]);
        let begun = put(&server, "/up/part", &["Upload-Complete: ?0"], b"x").expect(201);
        let begun = &*begun.leads_to("/up/part");
        for (lines, expected) in cases {
            for (method, path, more, content) in [
                ("PUT", "/up/a", "", &b"x"[..]),
                ("POST", "/up/", kind, &content),
                ("DELETE", "/up/a", "", b""),
                ("MKCOL", "/up/a/", "", b""),
                ("PATCH", begun, "Content-Type: application/partial-upload\r\nUpload-Offset: 1", b"y"),
                ("DELETE", begun, "", b""),
            ] {
                for (accept, is_page) in [("*/*", false), ("text/html", true)] {
                    let accept = format!("Accept: {accept}");
                    let fields: Vec<&str> =
                        [lines, more, &accept].into_iter().filter(|line| !line.is_empty()).collect();
                    let got = Client::connect(server.port).ask(method, path, &fields, content).expect(403);
                    let text = got.text();
                    assert!(text.contains(expected) && text.len() < 3000, "{method} {lines}: {text}");
                    assert!(text.contains("the request is for localhost;"), "{method} {lines}: {text}");
                    assert!(!text.contains("--cors") && !text.contains("//<"), "{text}");
                    assert_eq!(got.must("content-type").starts_with("text/html"), is_page);
                    assert_eq!(got.must("x-content-type-options"), "nosniff");
                }
            }
        }
        // Without Host there is no name to compare with.
        let mut old = Client::connect(server.port);
        old.send("PUT /up/a HTTP/1.0\r\nOrigin: http://files.lan\r\nContent-Length: 1\r\n\r\nx");
        let got = old.response().expect(403);
        assert!(got.text().contains("from http://files.lan, but the request names no host"), "{got:?}");
        // The response repeats the requested name, without a default port.
        let ask = |host: &str| {
            let mut client = Client::connect(server.port);
            let origin = "Origin: http://nas.localhost\r\nContent-Length: 1";
            client.send(format!("PUT /up/a HTTP/1.1\r\nHost: {host}\r\n{origin}\r\n\r\nx"));
            client.response()
        };
        let got = ask("nas.localhost:81").expect(403);
        assert!(
            got.text().contains("http://nas.localhost, but the request is for nas.localhost:81"),
            "{got:?}"
        );
        ask("nas.localhost:80").expect(201);
        // The log contains the remedy, once for each origin with a name.
        until("the last one is logged", || server.err.text().contains("nas.localhost:81"));
        let log = server.err.text();
        let count = |words: &str| log.matches(words).count();
        assert_eq!(count("--cors http://files.lan\n"), 1, "{log}");
        assert_eq!(count("--cors http://127.0.0.1:1\n"), 1, "{log}");
        assert_eq!(count("(Origin: null)"), 1, "{log}");
        assert!(!log.contains("--cors null") && !log.contains("--cors http://\\"), "{log}");
    });
}

/// The log contains only a few names, because clients choose them.
#[test]
fn refused_pages_cannot_fill_the_log() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let mut client = Client::connect(server.port);
        for number in 0..100 {
            client.ask("DELETE", "/up/a", &[&format!("Origin: http://{number}.lan")], b"").expect(403);
        }
        until("the end is logged", || server.err.text().contains("further ones are not logged"));
        assert_eq!(server.err.text().matches("refused to write").count(), 64);
    });
}

/// DNS rebinding: a page of another site makes its own name resolve to this machine, so browsers
/// treat it as a page of this site. The network address does not help a private server then, but
/// the host name does.
#[test]
fn a_foreign_name_writes_nothing_on_a_private_server() {
    on_both(|model| {
        let docroot = docroot();
        fs::create_dir_all(docroot.path("host/up")).unwrap();
        let rule = format!("blog.test={}", docroot.path("host").display());
        let put = |port: u16, host: &str, more: &str| {
            let mut client = Client::connect(port);
            let origin = format!("Origin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n");
            client.send(format!(
                "PUT /up/a HTTP/1.1\r\nHost: {host}\r\n{origin}{more}Content-Length: 1\r\n\r\nx"
            ));
            client.response()
        };
        let server = start(model, &docroot, &["--vhost", &rule]);
        for host in
            ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "1.2"]
        {
            let got = put(server.port, host, "").expect(403);
            assert!(got.text().contains(host.split(':').next().unwrap()), "{got:?}");
        }
        assert_empty(&docroot.path("up"));
        for host in
            ["127.0.0.1:1", "127.0.0.1", "[::1]:80", "[::1]", "192.168.0.2", "localhost", "LocalHost:9"]
                .into_iter()
                .chain(["a.localhost", "localhost.:8", "blog.test", "Blog.test:80"])
        {
            let got = put(server.port, host, "");
            assert!([201, 204].contains(&got.status), "{host}: {got:?}");
        }
        // A browser sends the password of this folder to no other name. A server that all clients
        // can reach accepts every name.
        let guarded = start(model, &docroot, &["--write-auth", "u:p@/up"]);
        put(guarded.port, "files.example", &format!("{}\r\n", basic("u:p"))).expect(204);
        let open = Server::launch({
            let mut command = command(model, &docroot.root(), &["--upload", "/up"]);
            command.args(["--bind", "0.0.0.0"]);
            command
        });
        put(open.port, "files.example", "").expect(204);
    });
}

#[test]
fn writing_may_need_a_separate_password() {
    let docroot = docroot();
    on_both(|model| {
        let server = start(model, &docroot, &["--write-auth", "w:write@/up"]);
        Client::connect(server.port).get("/up/").expect(200);
        let refused = put(&server, "/up/a", &[], b"x").expect(401);
        assert_eq!(refused.must("www-authenticate"), "Basic realm=\"writing /up\", charset=\"UTF-8\"");
        for path in ["/up/a", "/%75p/a", "//up/a", "/up/./a", "/other/../up/a"] {
            for method in ["PUT", "POST", "DELETE", "MKCOL", "PATCH"] {
                Client::connect(server.port).ask(method, path, &[], b"").expect(401);
            }
            // Once per path, because after five wrong passwords the next refusal is delayed.
            Client::connect(server.port).ask("PUT", path, &[&basic("w:wrong")], b"").expect(401);
        }
        let path = format!("/up/by-{model}");
        put(&server, &path, &[&basic("w:write")], b"x").expect(201);
        Client::connect(server.port).get(&path).expect(200);
        // With a password for reading and one for writing, each applies to its methods. Without a
        // password for writing, that for reading applies.
        let both = start(model, &docroot, &["--auth", "r:read@/up", "--write-auth", "w:write@/up"]);
        Client::connect(both.port).get(&path).expect(401);
        Client::connect(both.port).ask("GET", &path, &[&basic("r:read")], b"").expect(200);
        put(&both, &path, &[&basic("r:read")], b"x").expect(401);
        put(&both, &path, &[&basic("w:write")], b"x").expect(204);
        let one = start(model, &docroot, &["--auth", "r:read@/up"]);
        put(&one, &path, &[], b"x").expect(401);
        put(&one, &path, &[&basic("r:read")], b"x").expect(204);
        // The URL of a resumable upload needs the same password.
        let begun = put(&server, "/up/r", &[&basic("w:write"), "Upload-Complete: ?0"], b"x").expect(201);
        let mut client = Client::connect(server.port);
        let place = begun.leads_to("/up/r");
        client.ask("DELETE", &place, &[], b"").expect(401);
        client.ask("DELETE", &place, &[&basic("w:write")], b"").expect(204);
    });
}

/// HEAD with a token ends the request that still writes to the upload. It used to need the password
/// for reading, or none.
#[test]
fn the_state_of_an_upload_needs_the_password_for_writing() {
    let content = pattern(400_000);
    on_both(|model| {
        let docroot = docroot();
        docroot.write("rules.txt", b"rewrite /short /up/file\n");
        let rules = docroot.path("rules.txt");
        let flags =
            ["--auth", "r:read@/up", "--write-auth", "w:write@/up", "--rules", rules.to_str().unwrap()];
        let server = start(model, &docroot, &flags);
        let (reader, writer) = (basic("r:read"), basic("w:write"));
        let place = put(&server, "/up/file", &[&writer, "Upload-Complete: ?0"], b"").expect(201);
        let place = place.leads_to("/up/file");
        let part = ["Content-Type: application/partial-upload", "Upload-Complete: ?1", "Upload-Offset: 0"];
        let whole = request("PATCH", &place, &[part[0], part[1], part[2], &writer], &content);
        let mut active = Client::connect(server.port);
        active.send(&whole[..300_000]);
        until_written(&server, &docroot.path("up"), 200_000);
        let query = place.split_once('?').unwrap().1;
        let spellings = [
            place.clone(),
            place.replace("resume", "%72esume"),
            place.replace("/up/", "//up/./"),
            format!("/up/file?a=b&{query}&c"),
            format!("/short?{query}"),
        ];
        for spelling in &spellings {
            for fields in [&[][..], &[&reader[..]], &[&basic("w:wrong")[..]]] {
                Client::connect(server.port).ask("HEAD", spelling, fields, b"").expect(401);
            }
            let foreign = [&writer[..], "Origin: https://elsewhere.example"];
            Client::connect(server.port).ask("HEAD", spelling, &foreign, b"").expect(403);
        }
        // Methods that change nothing need the password for reading, and do not affect the upload.
        Client::connect(server.port).ask("GET", &place, &[&reader], b"").expect(404);
        Client::connect(server.port).ask("OPTIONS", &place, &[&reader], b"").expect(204);
        Client::connect(server.port).ask("HEAD", "/up/file?resume=cv", &[&reader], b"").expect(404);
        active.send(&whole[300_000..]);
        active.response().expect(201);
        for spelling in &spellings {
            let got = Client::connect(server.port).ask("HEAD", spelling, &[&writer], b"").expect(204);
            assert_eq!(got.must("upload-offset"), "400000", "{spelling}");
        }
    });
}

/// A form contains the names of its files, and a link is another name for a folder. So the path
/// that was checked is not the one that is written. Both used to bypass a password.
#[test]
fn no_form_and_no_link_bypasses_a_password() {
    let flags = ["--write-auth", "u:p@/up", "--write-auth", "boss:q@/up/index.html"];
    let more = ["--write-auth", "boss:q@/up/private", "--auth", "boss:q@/other", "--symlinks", "all"];
    let flags = [flags.as_slice(), &more].concat();
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/index.html", b"the boss's");
        docroot.write("up/private/file", b"private");
        docroot.link("private", "up/aside");
        let server = start(model, &docroot, &flags);
        let (user, boss) = (basic("u:p"), basic("boss:q"));
        for (folder, name) in [("/up", "index.html"), ("/up", "index.html.gz"), ("/up/aside", "new")] {
            let (kind, content) = form(&[(&format!("name=f; filename={name}"), b"x")]);
            let path = format!("{folder}?overwrite");
            let refused = Client::connect(server.port).ask("POST", &path, &[kind, &user], &content);
            assert_eq!(refused.status, 403, "{folder}/{name}: {refused:?}");
        }
        for (method, path) in [
            ("PUT", "/up/aside/file"),
            ("PUT", "/up/aside/new"),
            ("DELETE", "/up/aside/file"),
            ("MKCOL", "/up/aside/sub"),
        ] {
            let content: &[u8] = if method == "PUT" { b"x" } else { b"" };
            let mut client = Client::connect(server.port);
            client.ask(method, path, &[&user], content).expect(403);
            client.ask(method, &path.replace("aside", "private"), &[&user], b"").expect(401);
        }
        assert_eq!(names(&docroot.path("up")), ["aside", "index.html", "private"]);
        assert_eq!(names(&docroot.path("up/private")), ["file"]);
        assert_eq!(fs::read(docroot.path("up/index.html")).unwrap(), b"the boss's");
        // Files without a password, or with the same one, can be written.
        let mut client = Client::connect(server.port);
        let (kind, content) = form(&[("name=f; filename=free", b"x")]);
        client.ask("POST", "/up", &[kind, &user], &content).expect(201);
        client.ask("DELETE", "/up/free", &[&user], b"").expect(204);
        client.ask("POST", "/up/private/", &[kind, &boss], &content).expect(201);
        client.ask("DELETE", "/up/private/free", &[&boss], b"").expect(204);
        client.ask("PUT", "/up/index.html", &[&boss], b"the boss's").expect(204);
    });
}

/// Uploaded files must not act in the name of this site: for example a page or a picture with a
/// script.
#[test]
fn uploaded_files_run_no_script_in_the_name_of_the_site() {
    let docroot = docroot();
    docroot.write("up/page.html", vec![b'p'; 5000]);
    docroot.write("up/page.html.br", b"coded");
    docroot.write("up/sub/index.html", b"index");
    docroot.write("up/file.pdf", b"%PDF");
    docroot.write("up/large.svg", vec![b' '; 200_000]);
    docroot.link("up", "aside");
    docroot.write("real/page.html", b"real");
    docroot.link("real", "second");
    let said = |response: &Response| {
        let of = |name: &str| response.field(name).unwrap_or_default().to_owned();
        (of("x-content-type-options"), of("content-security-policy"))
    };
    let both = ("nosniff".to_owned(), "sandbox".to_owned());
    let neither = (String::new(), String::new());
    on_both(|model| {
        let server = start(model, &docroot, &["--upload", "/second"]);
        let mut client = Client::connect(server.port);
        for path in ["/up/page.html", "/up/sub/", "/up/large.svg", "/aside/page.html", "/%75p//page.html"]
            .into_iter()
            .chain(["/second/page.html", "/real/page.html", "/up/page.html?download"])
        {
            for fields in
                [&[][..], &["Range: bytes=0-1"], &["Accept-Encoding: br"], &["Accept-Encoding: gzip"]]
            {
                for _ in 0..2 {
                    let got = client.ask("GET", path, fields, b"");
                    assert!([200, 206].contains(&got.status) && said(&got) == both, "{path}: {got:?}");
                }
            }
        }
        let tag = format!("If-None-Match: {}", client.get("/up/page.html").must("etag"));
        assert_eq!(said(&client.ask("GET", "/up/page.html", &[&tag], b"").expect(304)), both);
        // Browsers do not show a PDF in a sandbox. Its scripts have no access to the site.
        assert_eq!(said(&client.get("/up/file.pdf").expect(200)), (both.0.clone(), String::new()));
        assert_eq!(said(&client.get("/hello.txt").expect(200)), neither);
        assert!(said(&client.ask("GET", "/up/", &["Accept: text/html"], b"")).1.starts_with("default-src"));
        // The operator's rule has priority, for each header separately.
        let own =
            start(model, &docroot, &["--header", "/up/**: content-security-policy: default-src 'self'"]);
        let got = Client::connect(own.port).get("/up/page.html").expect(200);
        assert_eq!(said(&got), (both.0.clone(), "default-src 'self'".to_owned()));
        let all = Server::start(model, &docroot.root(), &["--upload", "/"]);
        assert_eq!(said(&Client::connect(all.port).get("/hello.txt").expect(200)), both);
        let none = Server::start(model, &docroot.root(), &[]);
        assert_eq!(said(&Client::connect(none.port).get("/up/page.html").expect(200)), neither);
    });
}

/// The path of a folder for uploads used to be resolved only at the start, and a failure was
/// ignored.
#[test]
fn a_folder_for_uploads_may_be_made_later_as_a_link() {
    on_both(|model| {
        let docroot = docroot();
        fs::create_dir(docroot.path("real")).unwrap();
        fs::create_dir(docroot.path("realistic")).unwrap();
        docroot.write("realistic/page.html", b"the operator's");
        let server = start(model, &docroot, &["--upload", "/later", "--upload", "/never/made"]);
        docroot.link("real", "later");
        put(&server, "/later/page.html", &[], b"<script>").expect(201);
        let mut client = Client::connect(server.port);
        for path in ["/later/page.html", "/real/page.html"] {
            let got = client.get(path).expect(200);
            assert_eq!(got.must("content-security-policy"), "sandbox", "{path}");
        }
        for path in ["/hello.txt", "/realistic/page.html"] {
            assert_eq!(client.get(path).expect(200).field("content-security-policy"), None, "{path}");
        }
    });
}

#[test]
fn a_browser_runs_no_script_of_an_uploaded_page() {
    let Some(chromium) = chromium() else { return };
    let docroot = docroot();
    let page = "<!doctype html><p>text<script>document.documentElement.id='ran'</script>";
    docroot.write("up/page.html", page);
    docroot.write("page.html", page);
    on_both(|model| {
        let visit =
            |page: &str| visit_with(&chromium, model, &docroot.root(), page, &["--upload", "/up"]).dom;
        assert!(visit("page.html").contains("<html id=\"ran\">"), "the script works elsewhere");
        let dom = visit("up/page.html");
        assert!(dom.contains("<html><head></head><body><p>text<script>"), "{dom}");
    });
}

#[test]
fn a_server_that_runs_as_root_logs_a_warning() {
    let docroot = docroot();
    let programs = tempfile::tempdir().unwrap();
    let cgi = format!("/cgi={}", programs.path().display());
    let is_root = rustix::process::geteuid().is_root();
    on_both(|model| {
        for (flags, risks) in [
            (&["--upload", "/up"][..], "takes uploads as root"),
            (&["--cgi", &cgi], "runs programs as root"),
            (&["--cgi", &cgi, "--upload", "/up"], "runs programs and takes uploads as root"),
            (&[], ""),
        ] {
            let mut server = Server::start(model, &docroot.root(), flags);
            Client::connect(server.port).get("/hello.txt").expect(200);
            server.signal(Signal::TERM);
            assert_eq!(server.wait_exit(), 0);
            let is_warned = is_root && !risks.is_empty();
            // A thread reads the output of the program and may lag a moment behind.
            until("the warning", || !is_warned || server.err.text().contains("as root"));
            let text = server.err.text();
            let lines: Vec<&str> = text.lines().filter(|line| line.contains("as root")).collect();
            match is_warned {
                true => assert!(lines.len() == 1 && lines[0].contains(risks), "{flags:?}: {text}"),
                false => assert_eq!(lines.len(), 0, "{flags:?}: {text}"),
            }
        }
    });
}

#[test]
fn a_server_that_anybody_may_write_to_logs_a_warning() {
    let docroot = docroot();
    for (more, warns) in [
        (&["--bind", "0.0.0.0"][..], true),
        (&["--bind", "0.0.0.0", "--write-auth", "u:p"], false),
        (&["--bind", "0.0.0.0", "--auth", "u:p@/up"], false),
        (&["--bind", "0.0.0.0", "--auth", "u:p@/other"], true),
        (&[], false),
    ] {
        let mut command = command("reactor", &docroot.root(), &["--upload", "/up"]);
        command.args(more);
        let server = Server::launch(command);
        Client::connect(server.port).get("/hello.txt").expect(200);
        let says = || server.err.text().contains("can write to /up/");
        if warns {
            until("the warning", says);
        } else {
            assert!(!says(), "{more:?}: {}", server.err.text());
        }
    }
}

#[test]
fn uploads_go_to_the_folder_of_the_host() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("host/up/x", b"x");
        let rule = format!("blog.test={}", docroot.path("host").display());
        let server = start(model, &docroot, &["--vhost", &rule]);
        let mut client = Client::connect(server.port);
        let whole = String::from_utf8(request("PUT", "/up/a", &[], b"text")).unwrap();
        client.send(whole.replace("Host: localhost", "Host: blog.test"));
        client.response().expect(201);
        assert_eq!(names(&docroot.path("host/up")), ["a", "x"]);
        assert_empty(&docroot.path("up"));
        put(&server, "/up/b", &[], b"text").expect(201);
        assert_eq!(names(&docroot.path("up")), ["b"]);
    });
}

#[test]
fn the_listing_of_a_folder_for_uploads_has_a_form() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/sub/x", b"x");
        let server = start(model, &docroot, &[]);
        let mut client = Client::connect(server.port);
        for (path, has_form) in [("/up/", true), ("/up/sub/", true), ("/", false), ("/other/", false)] {
            let got = client.ask("GET", path, &["Accept: text/html"], b"").expect(200);
            let form = "<form method=\"post\" enctype=\"multipart/form-data\" action=\"./\">";
            assert_eq!(got.text().contains(form), has_form, "{path}");
            let policy = got.field("content-security-policy").unwrap_or_default();
            assert_eq!(policy.contains("connect-src 'self'"), has_form, "{path}: {policy}");
        }
        assert!(!client.get("/up/?json").expect(200).text().contains("<form"));
        let mut plain = Client::connect(Server::start(model, &docroot.root(), &[]).port);
        plain.send_if_open(get("/up/"));
    });
}

#[test]
fn invalid_upload_folders_are_reported_at_the_start() {
    let docroot = docroot();
    let root = docroot.root();
    let start = |upload: &str| run(bare_command().args(["--port", "0", "--upload", upload]).arg(&root));
    let ended = start("up");
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("--upload 'up': not a URL path, such as /inbox"), "{}", ended.err);
    for hidden in ["/.up", "/_whirligig"] {
        assert_eq!(start(hidden).code, Some(2));
    }
    // A missing folder may be created later. Until then requests get a 404, and a warning is
    // logged.
    on_both(|model| {
        let docroot = self::docroot();
        let server = Server::start(model, &docroot.root(), &["--upload", "/later"]);
        until("the warning", || server.err.text().contains("--upload /later: the folder does not exist"));
        put(&server, "/later/a", &[], b"x").expect(404);
        fs::create_dir(docroot.path("later")).unwrap();
        put(&server, "/later/a", &[], b"x").expect(201);
    });
}

/// Many slow uploads delay no other client.
#[test]
fn others_are_served_while_many_upload() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--max-uploads", "200"]);
        let mut slow: Vec<Client> = (0..100)
            .map(|number| {
                let mut client = Client::connect(server.port);
                let whole = request("PUT", &format!("/up/{number}"), &[], &pattern(300_000));
                client.send(&whole[..280_000]);
                client
            })
            .collect();
        let mut reader = Client::connect(server.port);
        let began = now();
        for _ in 0..50 {
            reader.get("/hello.txt").expect(200);
        }
        assert!(now().duration_since(began) < PATIENCE / 2);
        for (number, client) in slow.iter_mut().enumerate() {
            let whole = request("PUT", &format!("/up/{number}"), &[], &pattern(300_000));
            client.send(&whole[280_000..]);
        }
        for client in &mut slow {
            client.response().expect(201);
        }
        assert_eq!(names(&docroot.path("up")).len(), 100);
    });
}

/// Controls the page of a folder for uploads from a surrounding page, like a user would, and
/// records what it shows.
const HANDS: &str = r#"<!doctype html><title>hands</title><pre></pre><iframe src="/up/" width=800 height=600></iframe>
<script>
const said=document.querySelector('pre'),say=text=>said.append(text+'\n'),frame=document.querySelector('iframe')
const file=(name,size,more)=>Object.defineProperty(new File([new Uint8Array(size)],name),'webkitRelativePath',{value:more||''})
const rows=doc=>[...doc.querySelectorAll('.up li')].map(row=>row.querySelector('b').textContent+': '+row.querySelector('span').textContent)
const until=(doc,holds)=>new Promise(done=>{const look=()=>holds()?done():setTimeout(look,10);look()})
const choose=(doc,nth,files)=>{
const input=doc.querySelectorAll('.up input')[nth]
Object.defineProperty(input,'files',{value:files,configurable:true})
input.dispatchEvent(new Event('change'))
}
const steps=[
// Two files, one of them large enough for a visible progress.
doc=>{
const seen=new Set()
new frame.contentWindow.MutationObserver(()=>{
const bar=[...doc.querySelectorAll('.up progress')].pop()
if(bar)seen.add(bar.value)
say('bar '+[...seen].length)
}).observe(doc.querySelector('.up ul'),{subtree:true,attributes:true,attributeFilter:['value']})
choose(doc,0,[file('small.txt',5),file('large.bin',40<<20)])
},
// A file that exists, and is replaced with permission.
async doc=>{
choose(doc,0,[file('small.txt',7)])
await until(doc,()=>doc.querySelector('li.bad'))
say(rows(doc).join())
doc.querySelector('li button').click()
},
// A folder, and a dropped file.
doc=>choose(doc,1,[file('x.txt',1,'dir/sub dir/x.txt'),file('y.txt',1,'dir/y.txt')]),
(doc,win)=>{
const dropped=new win.DataTransfer()
dropped.items.add(new win.File(['dropped'],'dropped.txt'))
doc.body.dispatchEvent(new win.DragEvent('drop',{dataTransfer:dropped,bubbles:true,cancelable:true}))
},
// Failed uploads show a reason, and a cancelled one stops.
async doc=>{
choose(doc,0,[file('too large.bin',49<<20),file('.hidden',1),file('cancelled.bin',2<<20)])
choose(doc,1,[file('z.txt',1,'.dir/z.txt')])
doc.querySelectorAll('li button')[2].click()
await until(doc,()=>doc.querySelectorAll('li.bad').length===4)
say(rows(doc).join())
const live=[...doc.querySelectorAll('.up [aria-live],.up [role=status]')]
say('live '+live.map(one=>one.localName+(one.textContent?' reports':' is silent')).join())
say('over')
},
]
let loads=0
frame.onload=()=>{
const doc=frame.contentDocument
say('listed '+[...doc.querySelectorAll('main>table tbody td.n')].map(cell=>cell.textContent).join())
if(steps[loads])steps[loads++](doc,frame.contentWindow)
}
</script>"#;

#[test]
fn a_browser_uploads_files_and_folders_and_shows_progress() {
    let Some(chromium) = chromium() else { return };
    on_both(|model| {
        let docroot = docroot();
        docroot.write("hands.html", HANDS);
        let flags = ["--upload", "/up", "--max-upload", "48M"];
        let visit = visit_with(&chromium, model, &docroot.root(), "hands.html", &flags);
        for expected in [
            "\nlisted ../,large.bin,small.txt\n",
            "\nsmall.txt: already exists\n",
            "\nlisted ../,dir/,large.bin,small.txt\n",
            "\nlisted ../,dir/,dropped.txt,large.bin,small.txt\n",
            "\ntoo large.bin: larger than 48.0 MiB, the limit of this server,\
             .hidden: names that begin with a dot are not taken,cancelled.bin: cancelled,\
             .dir/z.txt: names that begin with a dot are not taken\n",
            // The list is no live region, because a screen reader would read all of it at each step
            // of a progress bar.
            "\nlive p reports\nover\n",
        ] {
            assert!(visit.dom.contains(expected), "{expected:?} in {}", visit.dom);
        }
        assert!(visit.dom.contains("\nbar 3\n"), "the progress bar had intermediate values: {}", visit.dom);
        assert!(visit.console.is_empty(), "{:?}", visit.console);
        let up = docroot.path("up");
        assert_eq!(names(&up), ["dir", "dropped.txt", "large.bin", "small.txt"]);
        assert_eq!(fs::metadata(up.join("small.txt")).unwrap().len(), 7);
        assert_eq!(fs::metadata(up.join("large.bin")).unwrap().len(), 40 << 20);
        assert_eq!(fs::metadata(up.join("dir/sub dir/x.txt")).unwrap().len(), 1);
        assert_eq!(fs::read(up.join("dropped.txt")).unwrap(), b"dropped");
    });
}
