//! Field lines by path: on every answer there, once, and never one that changes how it is framed.

use crate::docroot::Docroot;
use crate::harness::{MODELS, Server, command, on_both, run};
use crate::wire::{Client, Response};

/// The values of a field, in order.
fn all<'r>(response: &'r Response, name: &str) -> Vec<&'r str> {
    response.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn fields_go_with_their_paths_on_every_kind_of_answer() {
    let docroot = Docroot::new();
    docroot.write("assets/a.css", "body {}");
    docroot.write("assets/big.bin", vec![1; 100_000]);
    let flags = [
        "--header",
        "/**: X-Frame-Options: DENY",
        "--header=/api/**: Access-Control-Allow-Origin: *",
        "--header=/plain/*: X-A: one",
        "--header=/plain/two.txt: x-a: two",
        "--cache-control",
        "/assets/**: max-age=60, immutable",
        "--cache-control=*.css: max-age=5",
        "--cache-control=/**/time: max-age=1",
    ];
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        let mut ask = |path: &str, fields: &[&str]| client.ask("GET", path, fields, b"");
        for (path, status, cache_control) in [
            ("/hello.txt", 200, &[][..]),
            ("/assets/a.css", 200, &["max-age=5"]),
            ("//assets/./%61.css", 200, &["max-age=5"]),
            ("/assets/big.bin", 200, &["max-age=60, immutable"]),
            ("/assets/nosuch.css", 404, &[]),
            ("/assets/%2f", 400, &[]),
            ("/sub", 301, &[]),
            ("/plain/", 200, &["no-cache"]),
            ("/api/time", 200, &["no-store"]),
        ] {
            // Twice: read, and from memory.
            for _ in 0..2 {
                let got = ask(path, &[]).expect(status);
                assert_eq!(all(&got, "x-frame-options"), ["DENY"], "{path}");
                assert_eq!(
                    all(&got, "cache-control"),
                    cache_control,
                    "{path}: what the server says itself stays"
                );
            }
        }
        let tag = ask("/assets/a.css", &[]).must("etag").to_owned();
        for (field, status) in [(format!("If-None-Match: {tag}"), 304), ("Range: bytes=1-2".into(), 206)] {
            let got = ask("/assets/a.css", &[&field]).expect(status);
            assert_eq!(all(&got, "cache-control"), ["max-age=5"]);
            assert_eq!(all(&got, "x-frame-options"), ["DENY"]);
        }
        assert_eq!(all(&ask("/plain/one.txt", &[]), "x-a"), ["one"]);
        assert_eq!(all(&ask("/plain/two.txt", &[]), "x-a"), ["two"], "the last rule counts");
        assert_eq!(all(&ask("/api/headers", &[]), "access-control-allow-origin"), ["*"]);
        assert_eq!(all(&ask("/hello.txt", &[]), "access-control-allow-origin"), [""; 0]);
    });
}

#[test]
fn the_path_of_the_file_counts_before_the_one_asked_for() {
    let docroot = Docroot::new();
    docroot.write("app/index.html", "<p>page");
    docroot.write("app/data.json", "{\"a\": 1}".repeat(200));
    docroot.write("missing.html", "<p>none");
    let flags = [
        "--cache-control=/**: max-age=60",
        "--cache-control=*.html: no-cache",
        "--header=*.html: X-Kind: page",
        "--header=/app/: X-Asked: folder",
        "--header=*.json: Vary: Origin",
        "--error-page=404=/missing.html",
    ];
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        let mut ask = |path: &str, fields: &[&str]| client.ask("GET", path, fields, b"");
        for _ in 0..2 {
            let index = ask("/app/", &[]).expect(200);
            assert_eq!(all(&index, "cache-control"), ["no-cache"], "of /app/index.html");
            assert_eq!(all(&index, "x-kind"), ["page"]);
            assert_eq!(all(&index, "x-asked"), ["folder"], "what the file does not say itself");
            let tag = index.must("etag").to_owned();
            let same = ask("/app/", &[&format!("If-None-Match: {tag}")]).expect(304);
            assert_eq!(all(&same, "cache-control"), ["no-cache"]);
        }
        let coded = ask("/app/data.json", &["Accept-Encoding: gzip"]).expect(200);
        assert_eq!(all(&coded, "vary"), ["Accept-Encoding, Origin"], "one line");
        assert_eq!(all(&coded, "cache-control"), ["max-age=60"]);
        let missing = ask("/none", &[]).expect(404);
        assert_eq!(all(&missing, "cache-control"), [""; 0], "an error is not kept");
        assert_eq!(
            all(&missing, "x-kind"),
            [""; 0],
            "a page in place of an error has the lines of what was asked"
        );
    });
}

#[test]
fn what_cannot_be_a_field_is_said_in_one_line() {
    let docroot = Docroot::new();
    for (flag, why) in [
        ("--header=/a: Content-Length: 3", "Content-Length is for the server to say"),
        ("--header=/a: X-A: 1\r\nX-B: 2", "not of the form 'PATTERN: Name: value'"),
        ("--header=/a: X-A: 1\rX-B: 2", "the value is empty or has control characters"),
        ("--cache-control=max-age=3", "not of the form 'PATTERN: value'"),
        ("--cache-control=/a***: max-age=3", "more than two stars side by side"),
    ] {
        let ended = run(&mut command(MODELS[0], &docroot.root(), &[flag]));
        assert_eq!((ended.code, ended.err.lines().count()), (Some(2), 1), "{}", ended.err);
        assert!(ended.err.contains(why), "{}", ended.err);
    }
}
