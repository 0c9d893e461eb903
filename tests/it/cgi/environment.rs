//! Which programs run, in which languages, and their environment.
//!
//! If Python or Perl is not installed, its sample is skipped, or fails with
//! `WHIRLIGIG_REQUIRE_CLIENTS=1`.

use std::fs;

use crate::cgi::{HEAD, Programs, REQUIRED};
use crate::docroot::{Docroot, HELLO};
use crate::harness::{Server, assert_took, command, now, on_both, program};
use crate::wire::{Client, chunked, get, request};

#[test]
fn the_samples_run_in_every_language() {
    on_both(|model| {
        let docroot = Docroot::new();
        let server = Server::start(model, &docroot.root(), &["--cgi", "/cgi=examples/cgi"]);
        let mut client = Client::connect(server.port);
        if program(&["python3"], REQUIRED).is_some() {
            let page = client.get("/cgi/environ.py/some/path?name=value").expect(200);
            assert_eq!(page.must("content-type"), "text/html; charset=utf-8");
            for row in [
                "<tr><td>PATH_INFO</td><td>/some/path</td></tr>",
                "<tr><td>QUERY_STRING</td><td>name=value</td></tr>",
                "<tr><td>SCRIPT_NAME</td><td>/cgi/environ.py</td></tr>",
                "<tr><td>wsgi.url_scheme</td><td>http</td></tr>",
            ] {
                assert!(page.text().contains(row), "{row} in {}", page.text());
            }
            let fields = ["Content-Type: application/x-www-form-urlencoded"];
            let posted = client.ask("POST", "/cgi/environ.py", &fields, b"name=value").expect(200);
            assert!(
                posted.text().contains("10 bytes of content: <code>name=value</code>"),
                "{}",
                posted.text()
            );
            let hello = client.get("/cgi/hello.py?name=%3CAnna%3E").expect(200);
            assert!(hello.text().contains("<h1>Hello, &lt;Anna&gt;!</h1>"), "{}", hello.text());
        }
        if program(&["perl"], REQUIRED).is_some() {
            let posted = client.ask("POST", "/cgi/form.pl", &[], b"name=a+%26+b").expect(303);
            assert_eq!(posted.must("location"), "/cgi/form.pl?name=a+%26+b");
            let form = client.get(posted.must("location")).expect(200);
            assert!(form.text().contains("<li>name: a &amp; b</li>"), "{}", form.text());
            let posted =
                client.ask("POST", "/cgi/form.pl", &[], b"a\r\nSet-Cookie: id=1\r\n\r\nx").expect(303);
            assert_eq!(posted.must("location"), "/cgi/form.pl?aSet-Cookie:id=1x");
            assert!(posted.field("set-cookie").is_none());
        }
        let upper = client.ask("POST", "/cgi/upper.sh", &[], b"around and around").expect(200);
        assert_eq!(upper.text(), "AROUND AND AROUND");
        // The first line arrives long before the last.
        let since = now();
        client.send(get("/cgi/clock.sh"));
        let mut seen: Vec<u8> = Vec::new();
        while memchr::memmem::find(&seen, b"\r\n\r\n").is_none_or(|end| seen.len() < end + 12) {
            seen.extend(client.read_some(4096));
        }
        assert!(!seen.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&seen));
        assert_took("a first line", since, 0.0..4.0);
    });
}

#[test]
fn a_wsgi_application_gets_the_environment_of_the_standard() {
    if program(&["python3"], REQUIRED).is_none() {
        return;
    }
    let programs = Programs::new().with_file(
        "valid.py",
        r#"#!/usr/bin/env python3
from wsgiref.handlers import CGIHandler
from wsgiref.validate import validator

def application(environ, start_response):
    content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("201 Created", [("Content-Type", "text/plain"), ("X-Method", environ["REQUEST_METHOD"])])
    return [content, b" and more"]

CGIHandler().run(validator(application))
"#,
    );
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut client = Client::connect(server.port);
        for (method, content) in [("GET", &b""[..]), ("POST", b"some"), ("PUT", b"thing"), ("DELETE", b"")] {
            let got = client.ask(method, "/cgi/valid.py/x?y=z", &["Cookie: a=b"], content).expect(201);
            assert_eq!(got.must("x-method"), method);
            assert_eq!(got.body, [content, b" and more"].concat());
        }
        client.send(request("POST", "/cgi/valid.py", &["Transfer-Encoding: chunked"], b""));
        client.send(chunked(b"in chunks", 4));
        assert_eq!(client.response().expect(201).text(), "in chunks and more");
        let err = server.err.text();
        assert!(!err.contains("cgi"), "the validator reports an error: {err}");
    });
}

#[test]
fn the_environment_describes_the_request_and_nothing_of_the_server() {
    let programs = Programs::new().with("env", &format!("{HEAD}; env | sort; pwd"));
    on_both(|model| {
        let flag = programs.flag();
        let more =
            ["--cgi", &flag, "--cgi-env", "GREETING=hello there", "--auth", "anna:secret@/cgi/env/private"];
        let mut server = command(model, &programs.docroot.root(), &more);
        server.env("SECRET_OF_THE_SERVER", "SECRET").env("LD_LIBRARY_PATH", "/nowhere");
        let server = Server::launch(server);
        let mut client = Client::connect(server.port);
        let fields =
            ["X-Two: 1", "Proxy: http://evil/", "x-two: 2", "X_Two: 3", "Cookie: a=1", "Cookie: b=2"];
        let got = client.ask("GET", "/cgi/env/a%20b/c?x=%41&y", &fields, b"").expect(200);
        let lines: Vec<&str> = got.text().lines().collect();
        let has = |line: &str| assert!(lines.contains(&line), "{line} in {}", got.text());
        has("GATEWAY_INTERFACE=CGI/1.1");
        has("GREETING=hello there");
        has("HTTP_COOKIE=a=1; b=2");
        has("HTTP_HOST=localhost");
        has("HTTP_X_TWO=1, 2");
        has("PATH_INFO=/a b/c");
        has("QUERY_STRING=x=%41&y");
        has("REMOTE_ADDR=127.0.0.1");
        has("REQUEST_METHOD=GET");
        has("REQUEST_URI=/cgi/env/a%20b/c?x=%41&y");
        has("SCRIPT_NAME=/cgi/env");
        has("SERVER_NAME=localhost");
        has(&format!("SERVER_PORT={}", server.port));
        has("SERVER_PROTOCOL=HTTP/1.1");
        let folder = programs.folder.path().canonicalize().unwrap();
        has(&format!("SCRIPT_FILENAME={}/env", folder.display()));
        has(&folder.display().to_string());
        let translated = programs.docroot.root().canonicalize().unwrap();
        has(&format!("PATH_TRANSLATED={}/a b/c", translated.display()));
        let names: Vec<&str> = lines.iter().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        // The shell adds these three itself.
        let unexpected: Vec<&&str> = names
            .iter()
            .filter(|name| {
                !["PWD", "_", "OLDPWD", "SHLVL", "PATH", "GREETING"].contains(name)
                    && !["HTTP_", "SERVER_", "REMOTE_", "REQUEST_", "PATH_", "SCRIPT_"]
                        .iter()
                        .any(|start| name.starts_with(start))
                    && !["GATEWAY_INTERFACE", "QUERY_STRING"].contains(name)
            })
            .collect();
        assert!(unexpected.is_empty(), "{unexpected:?}");
        assert!(!got.text().contains("SECRET") && !names.contains(&"HTTP_PROXY"), "{}", got.text());
        client.get("/cgi/env/private").expect(401);
        let basic = ["Authorization: Basic YW5uYTpzZWNyZXQ="];
        let known = client.ask("GET", "/cgi/env/private", &basic, b"").expect(200);
        assert!(known.text().contains("AUTH_TYPE=Basic\n") && known.text().contains("REMOTE_USER=anna\n"));
        assert!(!known.text().contains("HTTP_AUTHORIZATION"), "{}", known.text());
    });
}

#[test]
fn authorization_is_passed_on_only_with_the_flag() {
    let programs = Programs::new().with("auth", &format!("{HEAD}; echo \"$HTTP_AUTHORIZATION\""));
    on_both(|model| {
        let server = programs.serve(model, &["--cgi-authorization"]);
        let got = Client::connect(server.port).ask("GET", "/cgi/auth", &["Authorization: Bearer x"], b"");
        assert_eq!(got.expect(200).text(), "Bearer x\n");
    });
}

#[test]
fn other_files_are_not_run_and_program_sources_are_not_served() {
    let programs = Programs::new().with("run", &format!("{HEAD}; echo ran"));
    fs::write(programs.at("text"), "no program").unwrap();
    fs::create_dir(programs.at("folder")).unwrap();
    std::os::unix::fs::symlink("/bin/sh", programs.at("outside")).unwrap();
    let programs = programs.with(".hidden", "").with("folder/deep", &format!("{HEAD}; echo \"$PATH_INFO\""));
    on_both(|model| {
        let inside = programs.docroot.root().join("scripts");
        fs::create_dir_all(&inside).unwrap();
        fs::write(inside.join("source"), "#!/bin/sh\n").unwrap();
        let second = format!("/second={}", inside.display());
        let server = programs.serve(model, &["--cgi", &second, "--archives", "--upload", "/"]);
        let mut client = Client::connect(server.port);
        // Files written there would be executed.
        client.ask("PUT", "/scripts/planted", &[], b"#!/bin/sh\n").expect(403);
        let put = client.ask("PUT", "/beside", &[], b"text").status;
        assert!(matches!(put, 201 | 204), "{put}");
        let archive = client.get("/?archive=tar").expect(200);
        let has = |name: &[u8]| archive.body.windows(name.len()).any(|part| part == name);
        assert!(has(b"beside") && !has(b"source"), "an archive must not contain a program");
        for (path, status) in [
            ("/cgi/run", 200),
            ("/cgi//x/../run/", 200),
            ("/%63gi/run", 200),
            ("/cgi/none", 404),
            ("/cgi/", 404),
            ("/cgi/folder", 404),
            ("/cgi/outside", 404),
            ("/cgi/.hidden", 404),
            ("/cgi/text", 403),
            ("/cgi/run%2f", 400),
            ("/scripts/source", 404),
            ("/scripts/", 404),
            ("/scripts", 404),
        ] {
            let got = client.get(path);
            assert_eq!(got.status, status, "{path}: {got:?}");
        }
        assert_eq!(client.get("/cgi/folder/deep/and/on").text(), "/and/on\n");
        client.get("/hello.txt").expect(200).with_body(HELLO);
        client.ask("TRACE", "/cgi/run", &[], b"").expect(405);
    });
}

#[test]
fn invalid_flags_are_refused() {
    let docroot = Docroot::empty();
    for (flags, said) in [
        (&["--cgi", "cgi=x"][..], "--cgi"),
        (&["--cgi", "/cgi"], "--cgi"),
        (&["--cgi", "/a/../b=x"], "--cgi"),
        (&["--cgi-env", "1=x"], "--cgi-env"),
        (&["--cgi-max", "0"], "--cgi-max"),
        (&["--cgi-timeout", "x"], "--cgi-timeout"),
    ] {
        let ended = crate::harness::run(&mut command("reactor", &docroot.root(), flags));
        assert_eq!(ended.code, Some(2), "{flags:?}: {}", ended.err);
        assert!(ended.err.lines().count() == 1 && ended.err.contains(said), "{}", ended.err);
    }
    for flags in [&["--cgi", "/cgi=/no/such/folder"][..], &["--cgi", "/cgi=/bin", "--cgi", "/cgi/=/bin"]] {
        let ended = crate::harness::run(&mut command("reactor", &docroot.root(), flags));
        assert_eq!((ended.code, ended.err.lines().count()), (Some(1), 1), "{flags:?}: {}", ended.err);
    }
}
