//! What browsers and caches may keep, and how they find out that it changed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use crate::docroot::Docroot;
use crate::harness::{Server, on_both};
use crate::wire::{Client, Response};

/// The values of all lines of this name.
fn all(got: &Response, name: &str) -> Vec<String> {
    got.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.clone()).collect()
}

const ANNA: &str = "Authorization: Basic YW5uYTpwdw==";

/// Files of each kind with their `Cache-Control`.
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
    // A link gives an old name to a new file, and a file the name of another.
    docroot.link("app.3f9a12bc.js", "current.js");
    docroot.link("page.html", "page-3f9a12bc.html");
    let own = files.map(|(name, _, control)| (name, control));
    let more = [("", ASK), ("sub/", ASK), ("current.js", ASK), ("page-3f9a12bc.html", ASK)];
    (docroot, own.into_iter().chain(more).collect())
}

#[test]
fn files_without_a_fingerprint_are_to_be_asked_for_again() {
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
        // A path with a password that is rewritten to one without.
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
fn rules_replace_the_default_and_what_is_no_file_has_none() {
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
        // By the path that was asked for, which is not that of the file.
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
    // Made of an earlier version: the original has a time, and it is another.
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
