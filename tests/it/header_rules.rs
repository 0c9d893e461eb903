//! Headers by path: present once on every matching response, instead of the server's own header.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use crate::docroot::Docroot;
use crate::harness::{MODELS, Server, command, on_both, run};
use crate::wire::{Client, Response};

/// Returns the values of a header, in order.
fn all<'r>(response: &'r Response, name: &str) -> Vec<&'r str> {
    response.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn headers_match_by_path_on_every_kind_of_response() {
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
            // The server's own value: no rule matches this path.
            ("/hello.txt", 200, &["no-cache"][..]),
            ("/assets/a.css", 200, &["max-age=5"]),
            ("//assets/./%61.css", 200, &["max-age=5"]),
            ("/assets/big.bin", 200, &["max-age=60, immutable"]),
            ("/assets/nosuch.css", 404, &[]),
            ("/assets/%2f", 400, &[]),
            ("/sub", 301, &[]),
            ("/plain/", 200, &["no-cache"]),
            ("/api/time", 200, &["no-store"]),
        ] {
            // Twice: from disk, and from memory.
            for _ in 0..2 {
                let got = ask(path, &[]).expect(status);
                assert_eq!(all(&got, "x-frame-options"), ["DENY"], "{path}");
                assert_eq!(
                    all(&got, "cache-control"),
                    cache_control,
                    "{path}: no rule matches a listing, and no-store stays"
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
fn the_path_of_the_file_has_priority_over_the_request_path() {
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
            assert_eq!(all(&index, "x-asked"), ["folder"], "headers that the rules of the file do not set");
            let tag = index.must("etag").to_owned();
            let same = ask("/app/", &[&format!("If-None-Match: {tag}")]).expect(304);
            assert_eq!(all(&same, "cache-control"), ["no-cache"]);
        }
        let coded = ask("/app/data.json", &["Accept-Encoding: gzip"]).expect(200);
        assert_eq!(all(&coded, "vary"), ["Accept-Encoding, Origin"], "one line");
        assert_eq!(all(&coded, "cache-control"), ["max-age=60"]);
        let missing = ask("/none", &[]).expect(404);
        assert_eq!(all(&missing, "cache-control"), [""; 0], "an error has no Cache-Control");
        assert_eq!(all(&missing, "x-kind"), [""; 0], "an error page has the headers of the requested path");
    });
}

#[test]
fn an_invalid_header_is_reported_in_one_line() {
    let docroot = Docroot::new();
    for (flag, why) in [
        ("--header=/a: Content-Length: 3", "Content-Length is set by the server"),
        ("--header=/a: X-A: 1\r\nX-B: 2", "not of the form 'PATTERN: Name: value'"),
        ("--header=/a: X-A: 1\rX-B: 2", "the value is empty or has control characters"),
        ("--cache-control=max-age=3", "not of the form 'PATTERN: value'"),
        ("--cache-control=/a***: max-age=3", "more than two adjacent stars"),
    ] {
        let ended = run(&mut command(MODELS[0], &docroot.root(), &[flag]));
        assert_eq!((ended.code, ended.err.lines().count()), (Some(2), 1), "{}", ended.err);
        assert!(ended.err.contains(why), "{}", ended.err);
    }
}

/// Responses of every kind: path, method, headers, status.
const KINDS: [(&str, &str, &[&str], u16); 15] = [
    ("/hello.txt", "GET", &[], 200),
    ("/hello.txt", "HEAD", &[], 200),
    ("/m5.bin", "GET", &[], 200),
    ("/k1.bin", "GET", &["Range: bytes=1-2"], 206),
    ("/k1.bin", "GET", &["Range: bytes=1-2,5-6"], 206),
    ("/k1.bin", "GET", &["Range: bytes=9999-"], 416),
    ("/hello.txt", "GET", &["If-None-Match: *"], 304),
    ("/hello.txt?download", "GET", &[], 200),
    ("/plain/", "GET", &["Accept: text/html"], 200),
    ("/plain/?archive=tar", "GET", &[], 200),
    ("/plain", "GET", &[], 301),
    ("/nosuch", "GET", &["Accept: text/html"], 404),
    ("/api/time", "GET", &[], 200),
    ("/private/x", "GET", &[], 401),
    ("/hello.txt", "BREW", &[], 501),
];

#[test]
fn a_rule_replaces_the_servers_own_header_on_every_kind_of_response() {
    let docroot = Docroot::new();
    let own = [
        ("Server", "own"),
        ("Access-Control-Allow-Origin", "https://own.example"),
        ("Content-Disposition", "inline; filename=own"),
        ("Cache-Control", "private, max-age=7"),
        ("Content-Security-Policy", "default-src 'self'"),
        ("X-Content-Type-Options", "own"),
    ];
    let rules: Vec<String> =
        own.iter().map(|(name, value)| format!("--header=/**: {name}: {value}")).collect();
    let mut flags: Vec<&str> = rules.iter().map(String::as_str).collect();
    flags.extend(["--archives", "--auth", "u:p@/private", "--upload", "/up", "--metrics"]);
    docroot.write("up/kept.txt", "kept");
    on_both(|model| {
        for cors in ["--cors=*", "--cors=https://a.example"] {
            let server = Server::start(model, &docroot.root(), &[&flags[..], &[cors]].concat());
            let mut client = Client::connect(server.port);
            let preflight = ["Access-Control-Request-Method: PUT"];
            // Both models write to the same folder.
            let upload = format!("/up/{model}.txt");
            let more: [(&str, &str, &[&str], u16); 5] = [
                ("/hello.txt", "OPTIONS", &preflight, 204),
                (&upload, "PUT", &[], 201),
                (&upload, "DELETE", &[], 204),
                ("/_whirligig/health", "GET", &[], 200),
                ("/_whirligig/metrics", "GET", &[], 200),
            ];
            // Twice: from disk, and from memory.
            for (path, method, fields, status) in [&KINDS[..], &KINDS, &more].concat() {
                let fields = [fields, &["Origin: https://a.example"]].concat();
                let origin = if method == "PUT" || method == "DELETE" { 1 } else { 0 };
                let got = client.ask(method, path, &fields[..fields.len() - origin], b"").expect(status);
                for (name, value) in own {
                    assert_eq!(all(&got, &name.to_lowercase()), [value], "{method} {path}: {name}");
                }
            }
        }
    });
}

#[test]
fn cache_control_applies_to_successful_responses_and_keeps_no_store() {
    let docroot = Docroot::new();
    docroot.write("a.css", "a {}");
    on_both(|model| {
        let flags = ["--cache-control", "/**: max-age=60", "--archives"];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        let mut cached = |path: &str, accept: &str| {
            let got = client.ask("GET", path, &[accept], b"");
            all(&got, "cache-control").join("; ")
        };
        for (path, expected) in [
            ("/a.css", "max-age=60"),
            ("/plain/", "max-age=60"),
            ("/plain", "max-age=60"),
            ("/nosuch.css", ""),
            ("/api/time", "no-store"),
            ("/plain/?archive=zip", "no-store"),
        ] {
            assert_eq!(cached(path, "Accept: text/html"), expected, "{path}");
        }
        // Combined with a rule for all responses: that rule applies to errors, and the last
        // matching rule to the others.
        let flags = ["--header=/**: Cache-Control: no-cache", "--cache-control=*.css: max-age=5"];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        for (path, status, expected) in [
            ("/a.css", 200, "max-age=5"),
            ("/hello.txt", 200, "no-cache"),
            ("/nosuch.css", 404, "no-cache"),
            ("/api/time", 200, "no-cache"),
        ] {
            assert_eq!(all(&client.get(path).expect(status), "cache-control"), [expected], "{path}");
        }
    });
}

#[test]
fn a_policy_for_other_files_leaves_uploads_in_their_sandbox() {
    let docroot = Docroot::new();
    docroot.write("up/page.html", "<p>page");
    docroot.write("up/large.html", vec![b' '; 100_000]);
    docroot.write("up/sub/index.html", "<p>index");
    docroot.link("up", "aside");
    let (own, both) = ("default-src 'self'", "sandbox, default-src 'self'");
    on_both(|model| {
        let ask = |pattern: &str, path: &str, upload: &str| {
            let rule = format!("--header={pattern}: Content-Security-Policy: {own}");
            let server = Server::start(model, &docroot.root(), &[&rule, "--upload", upload]);
            let mut client = Client::connect(server.port);
            let first = client.get(path).expect(200).must("content-security-policy").to_owned();
            let again = client.ask("GET", path, &["If-None-Match: *"], b"").expect(304);
            assert_eq!(again.must("content-security-policy"), first, "{pattern} {path}");
            first
        };
        for (pattern, path, expected) in [
            ("/**", "/up/page.html", both),
            ("/**", "/up/large.html", both),
            ("/**", "/aside/page.html", both),
            ("*.html", "/up/page.html", both),
            ("/u*/**", "/up/page.html", both),
            ("/**/page.html", "/up/page.html", both),
            // A rule for the name of a link, which is not the real path of the file.
            ("/aside/**", "/aside/page.html", both),
            ("/up/**", "/aside/page.html", own),
            ("/up/**", "/up/page.html", own),
            ("/up/*.html", "/up/large.html", own),
            ("/up/page.html", "/up/page.html", own),
            ("/up/sub/**", "/up/sub/", own),
            ("/up/sub/", "/up/sub/", own),
            ("/up/**", "/up/sub/", own),
        ] {
            assert_eq!(ask(pattern, path, "/up"), expected, "{pattern} {path}");
        }
        assert_eq!(ask("/**", "/up/page.html", "/"), both, "a rule for all paths names no folder");
        assert_eq!(ask("/up/**", "/up/page.html", "/"), own);
    });
}

#[test]
fn headers_of_a_script_have_priority() {
    let docroot = Docroot::new();
    let folder = TempDir::with_prefix("whirligig-cgi-").unwrap();
    let head = "Content-Type: text/plain\nX-A: script\nCache-Control: no-cache\nVary: Cookie\n\
                Access-Control-Allow-Origin: https://script.example\nContent-Security-Policy: script\n";
    for (name, head) in [("own.sh", head), ("bare.sh", "Content-Type: text/plain\n")] {
        let script = folder.path().join(name);
        fs::write(&script, format!("#!/bin/sh\ncat <<E\n{head}\nok\nE\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let cgi = format!("/cgi={}", folder.path().display());
    let flags = [
        "--cgi",
        &cgi,
        "--cors=https://a.example",
        "--header=/**: X-A: rule",
        "--header=/**: Cache-Control: max-age=9",
        "--header=/**: Content-Security-Policy: rule",
        "--header=/**: Vary: X-A",
    ];
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        let origin = ["Origin: https://a.example"];
        let own = client.ask("GET", "/cgi/own.sh", &origin, b"").expect(200);
        let bare = client.ask("GET", "/cgi/bare.sh", &origin, b"").expect(200);
        for (name, of_script, of_rule) in [
            ("x-a", "script", "rule"),
            ("cache-control", "no-cache", "max-age=9"),
            ("content-security-policy", "script", "rule"),
            ("access-control-allow-origin", "https://script.example", "https://a.example"),
            ("vary", "Cookie, X-A, Origin", "X-A, Origin"),
        ] {
            assert_eq!((all(&own, name), all(&bare, name)), (vec![of_script], vec![of_rule]), "{name}");
        }
        // If the script fails, the server makes the page.
        assert_eq!(all(&client.get("/cgi/nosuch").expect(404), "x-a"), ["rule"]);
    });
}
