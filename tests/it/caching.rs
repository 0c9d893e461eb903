//! Responses that browsers and caches may store, and how clients learn that a file changed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;

use crate::docroot::Docroot;
use crate::harness::{Server, on_both, until, wall_clock};
use crate::wire::{Client, Response};

/// Returns the values of all lines of this header.
fn all(got: &Response, name: &str) -> Vec<String> {
    got.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.clone()).collect()
}

const ANNA: &str = "Authorization: Basic YW5uYTpwdw==";

/// Returns files of each kind with their expected `Cache-Control`.
fn kinds() -> (Docroot, Vec<(&'static str, &'static [&'static str])>) {
    const ASK: &[&str] = &["no-cache"];
    const KEEP: &[&str] = &[];
    let docroot = Docroot::empty();
    let files: [(&str, usize, &[&str]); 9] = [
        ("index.html", 20, ASK),
        ("sub/index.html", 20, ASK),
        ("page.html", 5000, ASK),
        ("report-2024.pdf", 20, ASK),
        ("large.bin", 100_000, ASK),
        ("no-extension", 20, ASK),
        ("app.3f9a12bc.js", 5000, KEEP),
        ("assets/index-BvX3k9Qz.css", 20, KEEP),
        ("video-0a1b2c3d4e5f.bin", 100_000, KEEP),
    ];
    for (name, bytes, _) in files {
        docroot.write(name, "x".repeat(bytes));
    }
    // A link with an old name leads to a new file, and the other way round.
    docroot.link("app.3f9a12bc.js", "current.js");
    docroot.link("page.html", "page-3f9a12bc.html");
    let own = files.map(|(name, _, control)| (name, control));
    let more = [("", ASK), ("sub/", ASK), ("current.js", ASK), ("page-3f9a12bc.html", ASK)];
    (docroot, own.into_iter().chain(more).collect())
}

#[test]
fn files_without_a_fingerprint_must_be_revalidated() {
    let (docroot, files) = kinds();
    docroot.write("page.html.br", "coded");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for (name, expected) in &files {
            let path = format!("/{name}");
            let tag = client.get(&path).expect(200).must("etag").to_owned();
            for (method, fields, status) in [
                ("GET", vec![], 200),
                ("HEAD", vec![], 200),
                ("GET", vec![format!("If-None-Match: {tag}")], 304),
                ("GET", vec!["Range: bytes=1-2".into()], 206),
                ("GET", vec!["Range: bytes=0-1,5-6".into()], 206),
                ("GET", vec!["Accept-Encoding: gzip, br".into()], 200),
            ] {
                let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
                let got = client.ask(method, &path, &fields, b"").expect(status);
                assert_eq!(all(&got, "cache-control"), *expected, "{method} {path} {fields:?}");
            }
        }
    });
}

#[test]
fn behind_a_password_no_shared_cache_keeps_a_file() {
    let (docroot, files) = kinds();
    docroot.write("open.html", "open");
    docroot.write("rules", "rewrite /secret/** /$1\n");
    let rules = docroot.path("rules").display().to_string();
    on_both(|model| {
        let flags = ["--auth=anna:pw", "--rules", &rules];
        let server = Server::start(model, &docroot.root(), &flags);
        // A rule rewrites a path with a password to one without.
        let rewritten = Server::start(model, &docroot.root(), &["--auth=anna:pw@/secret", "--rules", &rules]);
        let (mut client, mut other) = (Client::connect(server.port), Client::connect(rewritten.port));
        for (name, expected) in &files {
            let expected = if expected.is_empty() { "private" } else { "private, no-cache" };
            for _ in 0..2 {
                let got = client.ask("GET", &format!("/{name}"), &[ANNA], b"").expect(200);
                assert_eq!(all(&got, "cache-control"), [expected], "{name}");
                let got = other.ask("GET", &format!("/secret/{name}"), &[ANNA], b"").expect(200);
                assert_eq!(all(&got, "cache-control"), [expected], "/secret/{name}");
            }
            let fields = [ANNA, "If-None-Match: *"];
            let got = client.ask("GET", &format!("/{name}"), &fields, b"").expect(304);
            assert_eq!(all(&got, "cache-control"), [expected], "304 of {name}");
        }
        assert_eq!(all(&other.get("/open.html").expect(200), "cache-control"), ["no-cache"]);
        let listing = client.ask("GET", "/assets/", &[ANNA], b"").expect(200);
        assert_eq!(all(&listing, "cache-control"), ["private, no-cache"]);
    });
}

#[test]
fn rules_replace_the_default_and_only_files_have_one() {
    let (docroot, _) = kinds();
    docroot.write("gone.html", "<p>gone");
    let folder = TempDir::with_prefix("whirligig-cgi-").unwrap();
    let script = folder.path().join("program.html");
    fs::write(&script, "#!/bin/sh\nprintf 'Content-Type: text/html\\n\\nok\\n'\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let cgi = format!("/cgi={}", folder.path().display());
    on_both(|model| {
        let ask = |flags: &[&str], path: &str, fields: &[&str]| {
            let server = Server::start(model, &docroot.root(), flags);
            let got = Client::connect(server.port).ask("GET", path, fields, b"");
            (got.status, all(&got, "cache-control").join("; "))
        };
        let said = |value: &str| (200, value.to_owned());
        let header = "--header=/**: cache-control: max-age=9";
        assert_eq!(ask(&[header], "/page.html", &[]), said("max-age=9"));
        assert_eq!(ask(&[header, "--auth=anna:pw"], "/page.html", &[ANNA]), said("max-age=9"));
        // The rule applies to the request path, which is not that of the file.
        assert_eq!(ask(&["--header=/sub/: Cache-Control: no-store"], "/sub/", &[]), said("no-store"));
        assert_eq!(ask(&["--cache-control=*.html: max-age=5"], "/page.html", &[]), said("max-age=5"));
        assert_eq!(ask(&["--cache-control=*.css: max-age=5"], "/page.html", &[]), said("no-cache"));
        for path in ["/app.3f9a12bc.js", "/page.html"] {
            assert_eq!(ask(&["--live-reload"], path, &[]), said("no-cache"), "{path}");
            let flags = ["--live-reload", "--auth=anna:pw"];
            assert_eq!(ask(&flags, path, &[ANNA]), said("private, no-cache"), "{path}");
        }
        assert_eq!(ask(&["--live-reload", header], "/page.html", &[]), said("max-age=9"));
        let html = ["Accept: text/html"];
        assert_eq!(
            ask(&["--spa"], "/route-3f9a12bc", &html),
            said("no-cache"),
            "the page of the application"
        );
        assert_eq!(ask(&["--clean-urls"], "/page", &[]), said("no-cache"));
        assert_eq!(ask(&[], "/assets/", &[]), said("no-cache"), "a listing");
        let program = ["--cgi", &cgi];
        assert_eq!(ask(&program, "/cgi/program.html", &[]), said(""));
        assert_eq!(ask(&["--error-page=404=/gone.html"], "/nosuch.html", &[]), (404, String::new()));
        assert_eq!(ask(&[], "/nosuch.html", &[]), (404, String::new()));
        assert_eq!(ask(&[], "/page.html", &["Range: bytes=9999-"]), (416, String::new()));
        assert_eq!(ask(&[], "/page.html", &["If-Match: \"x\""]), (412, String::new()));
    });
}

#[test]
fn a_file_without_a_time_of_its_own_has_no_last_modified() {
    let docroot = Docroot::empty();
    let cases: [(&str, usize, u64); 6] = [
        ("zero.html", 20, 0),
        ("one.html", 20, 1),
        ("large.bin", 100_000, 1),
        ("a-3f9a12bc.js", 20, 0),
        ("two.html", 20, 2),
        ("old.bin", 100_000, 315_532_800),
    ];
    for (name, bytes, modified) in cases {
        docroot.write(name, "x".repeat(bytes));
        docroot.set_modified(name, modified);
    }
    docroot.write("one.html.br", "coded");
    docroot.set_modified("one.html.br", 1);
    // Coded from an earlier version: the original has another modification time.
    docroot.write("new.html", "new");
    docroot.write("new.html.br", "coded");
    docroot.set_modified("new.html.br", 1);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for (name, _, modified) in cases {
            let path = format!("/{name}");
            let got = client.get(&path).expect(200);
            assert_eq!(got.field("last-modified").is_some(), modified > 1, "{name}");
            let tag = format!("If-None-Match: {}", got.must("etag"));
            let same = client.ask("GET", &path, &[&tag], b"").expect(304);
            assert_eq!(same.field("last-modified").is_some(), modified > 1, "304 of {name}");
            let status = if modified > 1 { 304 } else { 200 };
            let since = "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT";
            client.ask("GET", &path, &[since], b"").expect(status);
            let date = "If-Range: Thu, 01 Jan 1970 00:00:01 GMT";
            client.ask("GET", &path, &["Range: bytes=1-2", date], b"").expect(200);
        }
        let br = ["Accept-Encoding: br"];
        let coded = client.ask("GET", "/one.html", &br, b"").expect(200).with_body("coded");
        assert_eq!(coded.field("last-modified"), None);
        client.ask("GET", "/new.html", &br, b"").expect(200).with_body("new");
    });
}

/// Returns whole seconds since 1970.
fn unix_secs() -> u64 {
    wall_clock().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn tag(client: &mut Client, path: &str, fields: &[&str]) -> String {
    client.ask("GET", path, fields, b"").expect(200).must("etag").to_owned()
}

#[test]
fn equal_files_have_equal_tags_on_every_node() {
    const LONG_AGO: u64 = 1_000_000_000;
    let (one, two) = (Docroot::empty(), Docroot::empty());
    let names = ["empty.txt", "s.txt", "most.bin", "large.bin", "page.html", "sub/index.html"];
    let sizes = [0, 6, 32 * 1024, 32 * 1024 + 1, 5000, 300_000];
    for (name, size) in names.into_iter().zip(sizes) {
        for docroot in [&one, &two] {
            docroot.write(name, "x".repeat(size));
            docroot.write(&format!("{name}.gz"), "coded".repeat(size / 5));
            docroot.set_modified(name, LONG_AGO);
            docroot.set_modified(&format!("{name}.gz"), LONG_AGO);
        }
    }
    // Permissions, inode and modification time of a small file do not matter.
    for (at, name) in names.into_iter().enumerate() {
        fs::set_permissions(two.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        let is_small = sizes[at] <= 32 * 1024;
        two.set_modified(name, if is_small { LONG_AGO + 77 } else { LONG_AGO });
        two.set_modified(&format!("{name}.gz"), LONG_AGO + if is_small { 77 } else { 0 });
    }
    let nodes = [("reactor", &one), ("threads", &two), ("threads", &one), ("reactor", &two)];
    let servers = nodes.map(|(model, docroot)| Server::start(model, &docroot.root(), &[]));
    let mut clients = servers.each_ref().map(|server| Client::connect(server.port));
    for path in ["/empty.txt", "/s.txt", "/most.bin", "/large.bin", "/page.html", "/sub/"] {
        let mut forms = Vec::new();
        for fields in [&[][..], &["Accept-Encoding: gzip"]] {
            let tags = clients.each_mut().map(|client| tag(client, path, fields));
            assert!(tags.iter().all(|one| *one == tags[0]), "{path} {fields:?}: {tags:?}");
            forms.push(tags[0].clone());
        }
        assert!(forms.iter().all(|tag| tag.starts_with('"')), "{path}: {forms:?}");
    }
    // For a large file the modification time matters, to the nanosecond.
    let nearly = UNIX_EPOCH + Duration::new(LONG_AGO, 1);
    fs::File::options().write(true).open(two.path("large.bin")).unwrap().set_modified(nearly).unwrap();
    let mut tags = clients.each_mut().map(|client| tag(client, "/large.bin", &[])).to_vec();
    assert_ne!(tags[0], tags[1]);
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 2, "{tags:?}");
}

#[test]
fn each_form_of_a_file_has_a_tag_of_its_own() {
    let docroot = Docroot::empty();
    // Coded files with the same bytes as their originals.
    for (folder, size) in [("small", 5000), ("large", 50_000)] {
        for name in ["a.html", "a.html.br", "a.html.zst", "a.html.gz", "b.html"] {
            docroot.write(&format!("{folder}/{name}"), "x".repeat(size));
            docroot.set_modified(&format!("{folder}/{name}"), 1_000_000_000);
        }
    }
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for folder in ["small", "large"] {
            let forms = ["identity", "br", "zstd", "gzip"];
            let path = format!("/{folder}/a.html");
            let mut tags =
                forms.map(|form| tag(&mut client, &path, &[&format!("Accept-Encoding: {form}")])).to_vec();
            tags.push(tag(&mut client, &format!("/{folder}/b.html"), &["Accept-Encoding: gzip"]));
            assert!(tags[..4].iter().all(|tag| tag.starts_with('"')), "{tags:?}");
            assert!(tags[4].starts_with("W/"), "compressed on the fly: {tags:?}");
            let opaque = |tag: &String| tag.trim_start_matches("W/").to_owned();
            let mut opaque: Vec<String> = tags.iter().map(opaque).collect();
            opaque.sort();
            opaque.dedup();
            assert_eq!(opaque.len(), tags.len(), "{tags:?}");
        }
    });
}

#[test]
fn the_tag_of_a_large_file_is_weak_while_it_is_young() {
    on_both(|model| {
        for fresh in ["1", "0", "600000"] {
            let docroot = Docroot::empty();
            for name in ["large.bin", "page.html", "page.html.br"] {
                docroot.write(name, "x".repeat(40_000));
                docroot.set_modified(name, 1_000_000_000);
            }
            let server = Server::start(model, &docroot.root(), &["--fresh", fresh]);
            let mut client = Client::connect(server.port);
            for (path, file, fields) in [
                ("/large.bin", "large.bin", &[][..]),
                ("/page.html", "page.html.br", &["Accept-Encoding: br"]),
            ] {
                // A time in the future, so that the file is young on a slow machine, too.
                docroot.set_modified(file, unix_secs() + 1);
                let mut ask = |more: &[&str]| client.ask("GET", path, &[fields, more].concat(), b"");
                let got = ask(&[]).expect(200);
                let weak = got.must("etag").to_owned();
                let strong = weak.strip_prefix("W/").expect("a young file has a weak tag").to_owned();
                assert_eq!(got.must("accept-ranges"), "bytes");
                let date = got.must("last-modified").to_owned();
                for (condition, status) in [
                    (format!("If-Range: {weak}"), 200),
                    (format!("If-Range: {strong}"), 200),
                    (format!("If-Range: {date}"), 200),
                    ("X: none".to_owned(), 206),
                ] {
                    ask(&["Range: bytes=1-2", &condition]).expect(status);
                }
                ask(&[&format!("If-Match: {weak}")]).expect(412);
                ask(&[&format!("If-Match: {strong}")]).expect(412);
                ask(&[&format!("If-None-Match: {weak}")]).expect(304);
                ask(&[&format!("If-None-Match: {strong}")]).expect(304);
                // Nothing changes on disk, but the tag becomes strong with time.
                until("the tag is strong", || ask(&[]).must("etag") == strong);
                assert_eq!(ask(&["If-None-Match: \"x\""]).must("etag"), strong);
                ask(&["Range: bytes=1-2", &format!("If-Range: {strong}")]).expect(206);
                ask(&["Range: bytes=1-2", &format!("If-Range: {date}")]).expect(206);
                ask(&[&format!("If-Match: {strong}")]).expect(200);
                let same = ask(&[&format!("If-None-Match: {weak}")]).expect(304);
                assert_eq!(same.must("etag"), strong, "a client with the weak tag still matches");
            }
        }
    });
}

#[test]
fn a_change_that_keeps_size_and_time_is_served_and_only_large_files_hide_it_from_conditions() {
    on_both(|model| {
        for (size, from, status) in [
            (6, "content", 200),
            (32 * 1024, "content", 200),
            (100_000, "content", 304),
            (6, "change-time", 200),
            (100_000, "change-time", 200),
        ] {
            let docroot = Docroot::empty();
            let write = |byte: &str| {
                docroot.write("file.bin", byte.repeat(size));
                docroot.set_modified("file.bin", 1_000_000_000);
            };
            write("a");
            let server = Server::start(model, &docroot.root(), &["--fresh", "0", "--etag", from]);
            let mut client = Client::connect(server.port);
            let first = tag(&mut client, "/file.bin", &[]);
            write("b");
            client.get("/file.bin").expect(200).with_body("b".repeat(size));
            let condition = format!("If-None-Match: {first}");
            client.ask("GET", "/file.bin", &[&condition], b"").expect(status);
        }
        let docroot = Docroot::empty();
        docroot.write("file.txt", "text");
        for (from, is_same) in [("content", true), ("change-time", false)] {
            let server = Server::start(model, &docroot.root(), &["--fresh", "0", "--etag", from]);
            let mut client = Client::connect(server.port);
            let first = tag(&mut client, "/file.txt", &[]);
            fs::set_permissions(docroot.path("file.txt"), fs::Permissions::from_mode(0o640)).unwrap();
            assert_eq!(tag(&mut client, "/file.txt", &[]) == first, is_same, "--etag {from}");
        }
    });
}

#[test]
fn an_upload_returns_the_tag_of_the_file() {
    on_both(|model| {
        for from in ["content", "change-time"] {
            let docroot = Docroot::empty();
            fs::create_dir(docroot.path("up")).unwrap();
            let server = Server::start(model, &docroot.root(), &["--upload=/up", "--etag", from]);
            let mut client = Client::connect(server.port);
            let mut put = |path: &str, fields: &[&str], content: &[u8], status: u16| {
                client.ask("PUT", path, fields, content).expect(status).field("etag").map(str::to_owned)
            };
            let other = |size: usize| put_tag(&server, "/up/other", &vec![b'o'; size]);
            for (name, size) in [("empty", 0), ("small", 100), ("most", 32 * 1024)] {
                let path = format!("/up/{name}");
                let new = put(&path, &[], &vec![b'a'; size], 201).unwrap();
                assert_eq!(tag(&mut Client::connect(server.port), &path, &[]), new, "{name} {from}");
                let old = other(size);
                put(&path, &[&format!("If-Match: {old}")], b"x", if old == new { 204 } else { 412 });
                let new = tag(&mut Client::connect(server.port), &path, &[]);
                put(&path, &[&format!("If-None-Match: {new}")], b"x", 412);
                put(&path, &["If-None-Match: *"], b"x", 412);
                put(&path, &["If-Match: \"x\""], b"x", 412);
                let next = put(&path, &[&format!("If-Match: \"x\", {new}")], b"other", 204).unwrap();
                assert_eq!(tag(&mut Client::connect(server.port), &path, &[]), next);
            }
            // A large file is still young.
            let new = put("/up/large", &[], &vec![b'a'; 200_000], 201).unwrap();
            let mut second = Client::connect(server.port);
            let opaque = new.trim_start_matches("W/");
            let got = tag(&mut second, "/up/large", &[]);
            assert_eq!(got.trim_start_matches("W/"), opaque);
            assert!(from == "content" || new == got, "{new} {got}");
            let condition = format!("If-Match: {opaque}");
            until("the tag of the upload is strong", || tag(&mut second, "/up/large", &[]) == opaque);
            second.ask("DELETE", "/up/large", &["If-Match: \"x\""], b"").expect(412);
            second.ask("DELETE", "/up/large", &[&condition], b"").expect(204);
            // The same upload in two requests.
            let begun = second.ask("PUT", "/up/parts", &["Upload-Complete: ?0"], b"hello").expect(201);
            let fields =
                ["Content-Type: application/partial-upload", "Upload-Offset: 5", "Upload-Complete: ?1"];
            let place = format!("/up/{}", begun.must("location"));
            let done = second.ask("PATCH", &place, &fields, b" all").expect(201);
            assert_eq!(tag(&mut second, "/up/parts", &[]), done.must("etag"));
        }
    });
}

fn put_tag(server: &Server, path: &str, content: &[u8]) -> String {
    Client::connect(server.port).ask("PUT", path, &[], content).must("etag").to_owned()
}
