//! CGI programs: their environment, their output, and the treatment of programs that misbehave.
//!
//! Programs are shell scripts written by the tests, and the samples of `examples/cgi`. If Python or
//! Perl is not installed, its sample is skipped, or fails with `WHIRLIGIG_REQUIRE_CLIENTS=1`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::docroot::{Docroot, HELLO, pattern};
use crate::harness::{Server, assert_took, command, now, on_both, program, until};
use crate::wire::{Client, chunked, get, request};

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
fn a_program_determines_its_response() {
    let programs = Programs::new()
        .with(
            "missing",
            "printf 'Status: 404 Gone fishing\\r\\nContent-Type: text/plain\\r\\n\\r\\nnot here'",
        )
        .with(
            "cookies",
            "printf 'Content-type: text/plain\\nSet-Cookie: a\\nSet-Cookie: b\\nServer: mine\\n\\n'",
        )
        .with("away", "printf 'Location: http://example.org/x\\n\\n'")
        .with("local", "printf 'Location: /hello.txt\\n\\n'")
        .with("locally", "printf 'Location: /cgi/env/x?from=here\\n\\n'")
        .with(
            "env",
            &format!(
                "{HEAD}; echo \"$REQUEST_METHOD $SCRIPT_NAME $PATH_INFO $QUERY_STRING $CONTENT_LENGTH\""
            ),
        )
        .with("locked", "printf 'Location: /plain/one.txt\\n\\n'")
        .with("circle", "printf 'Location: /cgi/circle\\n\\n'")
        .with("none", "printf 'Status: 204\\n\\n'")
        .with("bare", "printf 'Status: 410\\n\\n'")
        .with("head", &format!("{HEAD}; echo content; echo \"$REQUEST_METHOD\" > $T/head.$SERVER_PORT"));
    on_both(|model| {
        let server = programs.serve(model, &["--auth", "anna:secret@/plain"]);
        let mut client = Client::connect(server.port);
        let missing = client.get("/cgi/missing").expect(404);
        assert_eq!((missing.text(), missing.must("content-type")), ("not here", "text/plain"));
        let cookies = client.get("/cgi/cookies").expect(200);
        let set: Vec<_> = cookies.fields.iter().filter(|(name, _)| name == "set-cookie").collect();
        assert_eq!((set.len(), cookies.must("server")), (2, "whirligig"));
        assert_eq!(client.get("/cgi/away").expect(302).must("location"), "http://example.org/x");
        let local = client.ask("POST", "/cgi/local", &[], b"dropped").expect(200).with_body(HELLO);
        assert!(local.field("location").is_none(), "{local:?}");
        let env = client.ask("POST", "/cgi/locally", &[], b"dropped").expect(200);
        assert_eq!(env.text(), "GET /cgi/env /x from=here \n");
        client.get("/cgi/locked").expect(401);
        client.get("/cgi/circle").expect(502);
        client.get("/cgi/none").expect(204);
        assert!(client.get("/cgi/bare").expect(410).body.is_empty());
        let head = client.ask("HEAD", "/cgi/head", &[], b"").expect(200);
        assert_eq!(head.must("content-type"), "text/plain");
        assert_eq!(programs.told(&format!("head.{}", server.port)), "HEAD\n");
        // Two programs behind each other, and a file.
        client.send([get("/cgi/env/1"), get("/hello.txt"), get("/cgi/env/2")].concat());
        assert_eq!(client.response().expect(200).text(), "GET /cgi/env /1  \n");
        client.response().expect(200).with_body(HELLO);
        assert_eq!(client.response().expect(200).text(), "GET /cgi/env /2  \n");
        let mut old = Client::connect(server.port);
        old.send(b"GET /cgi/env HTTP/1.0\r\n\r\n");
        assert_eq!(old.response().expect(200).text(), "GET /cgi/env   \n");
    });
}

/// Splits a response into its head and its content as sent.
fn split(response: &[u8]) -> (String, &[u8]) {
    let at = response.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    (String::from_utf8_lossy(&response[..at]).to_ascii_lowercase(), &response[at..])
}

#[test]
fn a_length_that_is_right_is_passed_on() {
    let head = |bytes: &str| format!("printf 'Content-Type: text/plain\\nContent-Length: {bytes}\\n\\n'");
    let programs = Programs::new()
        .with("whole", &format!("{}; printf hello", head("5")))
        .with("parts", &format!("{}; printf he; sleep 0.2; printf ll; sleep 0.2; printf o", head("5")))
        .with("none", &head("0"))
        .with("error", "printf 'Status: 404 Not Found\\nContent-Type: a/b\\nContent-Length: 2\\n\\nno'")
        .with("large", &format!("{}; head -c 3000000 /dev/zero", head("3000000")))
        .with("goes-on", &format!("{}; printf hello; exec >&-; exec sleep 1000", head("5")))
        .with("holds", &format!("{}; printf hello; exec sleep 1000", head("5")))
        .with("head", &format!("{}; test $REQUEST_METHOD = HEAD || printf hello", head("5")))
        .with("unchanged", "printf 'Status: 304 Not Modified\\nContent-Length: 5\\n\\n'")
        .with("nothing", "printf 'Status: 204 No Content\\nContent-Length: 5\\n\\n'");
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut client = Client::connect(server.port);
        for (name, status, length) in [
            ("whole", 200, "5"),
            ("parts", 200, "5"),
            ("none", 200, "0"),
            ("error", 404, "2"),
            ("large", 200, "3000000"),
            // The client and its next request do not wait for the end of the program.
            ("goes-on", 200, "5"),
            ("holds", 200, "5"),
            ("head", 200, "5"),
        ] {
            let path = format!("/cgi/{name}");
            let got = client.get(&path).expect(status);
            assert_eq!(got.must("content-length"), length, "{name}");
            assert!(got.field("transfer-encoding").is_none(), "{name}: {got:?}");
            assert_eq!(got.body.len().to_string(), length, "{name}");
            if !matches!(name, "goes-on" | "holds") {
                let got = client.ask("HEAD", &path, &[], b"").expect(status);
                assert_eq!(got.must("content-length"), length, "HEAD {name}");
            }
        }
        for (name, status) in [("unchanged", 304), ("nothing", 204)] {
            let got = client.get(&format!("/cgi/{name}")).expect(status);
            assert!(got.field("content-length").is_none() && got.body.is_empty(), "{got:?}");
        }
        // HTTP/1.0 can keep its connection, because the length ends the response.
        let mut old = Client::connect(server.port);
        for name in ["whole", "parts", "whole"] {
            old.send(format!("GET /cgi/{name} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
            assert_eq!(old.response().expect(200).text(), "hello", "{name}");
        }
        client.send([get("/cgi/whole"), get("/cgi/parts"), get("/hello.txt")].concat());
        for expected in [&b"hello"[..], b"hello", HELLO] {
            client.response().expect(200).with_body(expected);
        }
        assert!(!server.err.text().contains("Content-Length"), "{}", server.err.text());
    });
}

/// A client that trusts a length would read the bytes after it as the next response.
#[test]
fn a_length_that_is_wrong_shifts_no_response() {
    let head = |bytes: &str| format!("printf 'Content-Type: text/plain\\nContent-Length: {bytes}\\n\\n'");
    let response = "HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n";
    let programs = Programs::new()
        .with("less", &format!("{}; printf 012", head("5")))
        .with("less-later", &format!("{}; printf 012; sleep 0.2", head("5")))
        .with("nothing", &head("5"))
        .with("more", &format!("{}; printf '01234{response}'", head("5")))
        .with("more-later", &format!("{}; printf 01; sleep 0.2; printf '234{response}'", head("5")))
        .with("one-more", &format!("{}; printf 012345", head("5")))
        .with("some", &format!("{}; printf '{response}'", head("0")))
        .with("endless", &format!("{}; yes", head("5")));
    on_both(|model| {
        let server = programs.serve(model, &[]);
        for (name, content, log) in [
            ("less", "012", "3 bytes of content, but a Content-Length of 5"),
            ("less-later", "012", "3 bytes of content, but a Content-Length of 5"),
            ("nothing", "", "0 bytes of content, but a Content-Length of 5"),
            ("more", "01234", "more content than its Content-Length of 5"),
            ("more-later", "01234", "more content than its Content-Length of 5"),
            ("one-more", "01234", "more content than its Content-Length of 5"),
            ("some", "", "more content than its Content-Length of 0"),
            ("endless", "y\ny\ny", "more content than its Content-Length of 5"),
        ] {
            let length = if name == "some" { "0" } else { "5" };
            let is_whole = content.len().to_string() == length;
            for version in ["1.1", "1.0"] {
                let mut client = Client::connect(server.port);
                let first = format!(
                    "GET /cgi/{name} HTTP/{version}\r\nHost: a.localhost\r\nConnection: keep-alive\r\n\r\n"
                );
                let last = "GET /hello.txt HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n";
                client.send(first + last);
                let (all, _) = client.rest();
                let (head, rest) = split(&all);
                assert!(head.contains(&format!("\ncontent-length: {length}\r\n")), "{name}: {head}");
                assert!(!head.contains("transfer-encoding"), "{name}: {head}");
                assert!(rest.starts_with(content.as_bytes()), "{name}: {}", rest.escape_ascii());
                let behind = &rest[content.len()..];
                match is_whole {
                    true => {
                        let (head, last) = split(behind);
                        assert!(head.starts_with("http/1.1 200 ok"), "{name}: {head}");
                        assert_eq!(last, HELLO, "{name}");
                    }
                    false => {
                        assert_eq!(
                            behind, b"",
                            "{name}: the connection must end, so that the client notices"
                        );
                    }
                }
            }
            let line = format!("/cgi/{name}: {log}\n");
            // The head alone completes that response. Content after it may arrive a moment too late
            // to be noticed.
            if !matches!(name, "some") {
                until(format_args!("{line:?} is logged"), || server.err.text().contains(&line));
            }
        }
        // The head alone announces nothing that is known to be wrong.
        let mut client = Client::connect(server.port);
        for name in ["less", "more", "one-more"] {
            let got = client.ask("HEAD", &format!("/cgi/{name}"), &[], b"").expect(200);
            assert!(got.field("content-length").is_none(), "{name}: {got:?}");
            client.get("/hello.txt").expect(200).with_body(HELLO);
        }
    });
}

#[test]
fn a_program_that_fails_is_logged_with_its_exit() {
    let programs = Programs::new()
        .with("early", "exit 37")
        .with("late", &format!("{HEAD}; echo whole; exit 3"))
        .with("bare", "printf 'Status: 410\\n\\n'; exit 5")
        .with("elsewhere", "printf 'Location: /hello.txt\\n\\n'; exit 6")
        .with("before", "kill -SEGV $$")
        .with("within", &format!("{HEAD}; echo half; kill -TERM $$"))
        .with("behind", "printf 'Content-Type: a/b\\nContent-Length: 2\\n\\nab'; kill -ABRT $$")
        .with("slow", "exec sleep 1000")
        .with("slow-content", &format!("{HEAD}; echo half; exec sleep 1000"))
        .with("works", &format!("{HEAD}; echo done; exec >&-; exec sleep 1000"))
        .with("fine", &format!("{HEAD}; echo fine"))
        .with("gone", &format!("{HEAD}; echo $$ > $T/gone.$SERVER_PORT; exec sleep 1000"))
        .with_file("no-interpreter", "#!/no/such/interpreter\n");
    on_both(|model| {
        let server = programs.serve(model, &["--cgi-timeout", "2"]);
        let cases = [
            ("early", "exit status 37"),
            ("late", "exit status 3"),
            ("bare", "exit status 5"),
            ("elsewhere", "exit status 6"),
            ("before", "ended by signal 11"),
            ("within", "ended by signal 15"),
            ("behind", "ended by signal 6"),
            ("slow", "cut off by signal 9, it took too long"),
            ("slow-content", "cut off by signal 9, it took too long"),
            ("works", "cut off by signal 9, it took too long"),
            ("no-interpreter", "cannot be started: "),
        ];
        let mut clients: Vec<Client> = Vec::new();
        for (name, _) in cases {
            let mut client = Client::connect(server.port);
            client.send(get(&format!("/cgi/{name}")));
            clients.push(client);
        }
        let mut leaver = Client::connect(server.port);
        leaver.send(get("/cgi/gone"));
        let pid = programs.told(&format!("gone.{}", server.port));
        leaver.reset();
        gone(&pid);
        Client::connect(server.port).get("/cgi/fine").expect(200);
        for (name, words) in cases {
            let line = format!("/cgi/{name}: {words}");
            until(format_args!("{line:?} is logged"), || server.err.text().contains(&line));
        }
        let log = server.err.text();
        assert!(!log.contains("/cgi/fine:") && !log.contains("/cgi/gone:"), "{log}");
    });
}

#[test]
fn a_malformed_response_head_is_a_502_and_standard_error_is_logged() {
    let programs = Programs::new()
        .with("silent", "exit 3")
        .with("cut", "printf 'Content-Type: text/pl'")
        .with(
            "traceback",
            "echo 'Traceback (most recent call last):'; echo oops >&2; printf 'half\\nlines' >&2",
        )
        .with("typeless", "printf 'Status: 200\\n\\ncontent'")
        .with("nph", "printf 'HTTP/1.1 200 OK\\nContent-Type: text/plain\\n\\n'")
        .with("huge", "printf 'X: '; head -c 40000 /dev/zero | tr '\\0' x; printf '\\n\\n'")
        .with("interim", "printf 'Status: 100\\nContent-Type: text/plain\\n\\n'")
        .with_file("unreadable", "#!/no/such/interpreter\n");
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut client = Client::connect(server.port);
        for name in ["silent", "cut", "traceback", "typeless", "nph", "huge", "interim"] {
            let got = client.get(&format!("/cgi/{name}"));
            assert_eq!(got.status, 502, "{name}: {got:?}");
            until(format_args!("{name} is logged"), || server.err.text().contains(&format!("/cgi/{name}: ")));
        }
        client.get("/cgi/unreadable").expect(500);
        for line in ["/cgi/traceback: oops\n", "/cgi/traceback: half\n", "/cgi/traceback: lines\n"] {
            until(format_args!("{line:?} is logged"), || server.err.text().contains(line));
        }
        client.get("/hello.txt").expect(200);
    });
}

#[test]
fn much_content_goes_through_in_both_directions() {
    let programs = Programs::new()
        .with("cat", "printf 'Content-Type: application/octet-stream\\n\\n'; exec cat")
        .with("count", &format!("{HEAD}; head -c $CONTENT_LENGTH | wc -c"))
        .with("slow", &format!("sleep 0.3; n=$(wc -c); {HEAD}; echo $n"))
        .with("deaf", &format!("exec <&-; {HEAD}; echo done"))
        .with("early", &format!("{HEAD}; echo done"));
    let content = pattern(8 * MIB);
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut client = Client::connect(server.port);
        // Sends everything before reading. A server that only streams would deadlock.
        let mut old = Client::connect(server.port);
        let length = content.len();
        old.send(format!("POST /cgi/cat HTTP/1.0\r\nContent-Length: {length}\r\n\r\n"));
        old.send(&content);
        let (rest, _) = old.rest();
        assert!(rest.starts_with(b"HTTP/1.1 200 OK\r\n") && rest.ends_with(&content), "{} bytes", rest.len());
        for name in ["count", "slow"] {
            let got = client.ask("POST", &format!("/cgi/{name}"), &[], &content).expect(200);
            assert_eq!(got.text().trim(), content.len().to_string());
        }
        client.send(request("POST", "/cgi/cat", &["Transfer-Encoding: chunked"], b""));
        client.send(chunked(&content[..MIB], 60_000));
        client.response().expect(200).with_body(&content[..MIB]);
        client.send(request("POST", "/cgi/count", &["Transfer-Encoding: chunked"], b""));
        client.send(chunked(b"small", 2));
        assert_eq!(client.response().expect(200).text().trim(), "5");
        // A program that does not read its input can still respond. The rest is discarded.
        for name in ["deaf", "early"] {
            let mut client = Client::connect(server.port);
            client.send_if_open(request("POST", &format!("/cgi/{name}"), &[], &content));
            assert_eq!(client.response().expect(200).text(), "done\n");
        }
        let mut client = Client::connect(server.port);
        client.send(request("POST", "/cgi/cat", &["Expect: 100-continue", "Content-Length: 5"], b""));
        until("the 100 (Continue) has arrived", || !client.has_nothing());
        client.send(b"hello");
        let got = client.response().expect(200);
        assert_eq!((got.text(), &got.interim[..]), ("hello", &[100][..]));
    });
}

#[test]
fn content_reaches_the_program_as_it_comes_and_its_output_the_client() {
    let programs = Programs::new().with(
        "talk",
        &format!("head -c {MIB} > /dev/null; read -r line; echo \"$line\" > $T/first.$SERVER_PORT; {HEAD}; echo got \"$line\"; read -r line; echo got \"$line\""),
    );
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut client = Client::connect(server.port);
        // The first MiB is stored before the program starts.
        let length = MIB + 10;
        client.send(format!("POST /cgi/talk HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"));
        client.send(pattern(MIB));
        client.send("one\n");
        assert_eq!(programs.told(&format!("first.{}", server.port)), "one\n");
        client.send(b"two 2\n");
        assert_eq!(client.response().expect(200).text(), "got one\ngot two 2\n");
    });
}

#[test]
fn a_client_that_does_not_read_holds_the_program_back() {
    let programs =
        Programs::new().with("endless", &format!("{HEAD}; echo $$ > $T/endless.$SERVER_PORT; exec yes"));
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let before = server.resident_bytes();
        let mut client = Client::connect_narrow(server.port);
        client.send(get("/cgi/endless"));
        let pid = programs.told(&format!("endless.{}", server.port));
        let written = || -> u64 {
            let io = fs::read_to_string(format!("/proc/{}/io", pid.trim())).unwrap_or_default();
            io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok()).unwrap_or(0)
        };
        // If the program has not written for a while, all buffers are full.
        let mut last = 0;
        until("the program is held back", || {
            crate::harness::pass(Duration::from_millis(100));
            let now = written();
            std::mem::replace(&mut last, now) == now && now > 0
        });
        assert!(last < 8 * MIB as u64, "{last} bytes were written");
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 2 * MIB as u64, "{grown} bytes of memory for a client that does not read");
        drop(client);
        gone(&pid);
    });
}

#[test]
fn a_program_that_takes_too_long_is_killed() {
    let programs = Programs::new()
        .with("sleep", "echo $$ > $T/sleep.$SERVER_PORT; exec sleep 1000")
        .with("deaf", "echo $$ > $T/deaf.$SERVER_PORT; exec sleep 1000")
        .with(
            "endless",
            &format!("{HEAD}; echo $$ > $T/endless.$SERVER_PORT; while :; do echo x; sleep 0.05; done"),
        )
        .with("family", "sleep 1000 & echo $$ $! > $T/family.$SERVER_PORT; wait");
    on_both(|model| {
        let server = programs.serve(model, &["--cgi-timeout", "1", "--answer-timeout", "0.5"]);
        let mut client = Client::connect(server.port);
        let since = now();
        client.get("/cgi/sleep").expect(504);
        assert_took("the deadline", since, 0.9..4.0);
        gone(&programs.told(&format!("sleep.{}", server.port)));
        client.get("/cgi/family").expect(504);
        gone(&programs.told(&format!("family.{}", server.port)));
        // The program never reads, so the client cannot send everything.
        let mut sender = Client::connect(server.port);
        let mut other = sender.sender();
        let sending = std::thread::spawn(move || {
            other.send_if_open(request("POST", "/cgi/deaf", &[], &pattern(8 * MIB)));
        });
        sender.response().expect(504);
        gone(&programs.told(&format!("deaf.{}", server.port)));
        drop(sender);
        sending.join().unwrap();
        // The head is already sent, so only the missing end shows the error.
        client.send(get("/cgi/endless"));
        let (rest, _) = client.rest();
        assert!(rest.starts_with(b"HTTP/1.1 200 OK\r\n") && !rest.ends_with(b"0\r\n\r\n"), "{}", rest.len());
        gone(&programs.told(&format!("endless.{}", server.port)));
    });
}

#[test]
fn a_program_that_dies_half_way_leaves_a_truncated_response() {
    let programs = Programs::new()
        .with("killed", &format!("{HEAD}; echo half; kill -9 $$"))
        .with("short", "printf 'Content-Type: text/plain\\nContent-Length: 10\\n\\nhalf'")
        .with("failed", &format!("{HEAD}; echo whole; exit 1"));
    on_both(|model| {
        let server = programs.serve(model, &[]);
        for name in ["killed", "short"] {
            let mut client = Client::connect(server.port);
            client.send(get(&format!("/cgi/{name}")));
            let (rest, _) = client.rest();
            let text = String::from_utf8_lossy(&rest);
            assert!(text.contains("half") && !text.ends_with("0\r\n\r\n"), "{name}: {text}");
        }
        // The exit code of a script is that of its last command, which means little.
        assert_eq!(Client::connect(server.port).get("/cgi/failed").expect(200).text(), "whole\n");
    });
}

#[test]
fn a_background_process_does_not_delay_the_response() {
    let programs = Programs::new()
        .with("holds", &format!("{HEAD}; echo done; sleep 1000 & echo $! > $T/holds.$SERVER_PORT"))
        .with(
            "works",
            &format!("{HEAD}; echo done; exec >&-; echo $$ > $T/works.$SERVER_PORT; exec sleep 1000"),
        );
    on_both(|model| {
        let server = programs.serve(model, &["--cgi-timeout", "4"]);
        let mut client = Client::connect(server.port);
        for name in ["holds", "works"] {
            let since = now();
            assert_eq!(client.get(&format!("/cgi/{name}")).expect(200).text(), "done\n", "{name}");
            assert_took(name, since, 0.0..3.5);
        }
        // A program without a client has the same deadline.
        gone(&programs.told(&format!("works.{}", server.port)));
        let left = programs.told(&format!("holds.{}", server.port));
        let pid = rustix::process::Pid::from_raw(left.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).expect("the program still runs");
    });
}

#[test]
fn a_program_is_killed_when_its_client_leaves() {
    let programs = Programs::new().with("family", "sleep 1000 & echo $$ $! > $T/$QUERY_STRING; cat; wait");
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut others = Client::connect(server.port);
        for how in ["reset", "content"] {
            let name = format!("{how}.{}", server.port);
            let mut client = Client::connect(server.port);
            let length = if how == "content" { "Content-Length: 2000000\r\n" } else { "" };
            let method = if how == "content" { "POST" } else { "GET" };
            client.send(format!("{method} /cgi/family?{name} HTTP/1.1\r\nHost: x\r\n{length}\r\n"));
            if how == "content" {
                // Enough content for the program to start.
                client.send(pattern(MIB));
            }
            let pids = programs.told(&name);
            match how {
                "reset" => client.reset(),
                _ => drop(client),
            }
            gone(&pids);
            others.get("/hello.txt").expect(200);
        }
        until("no program is left", || children(&server).is_empty());
    });
}

#[test]
fn a_closed_client_is_noticed_when_its_response_is_sent() {
    let wait = "while ! test -e $T/go.$SERVER_PORT; do sleep 0.02; done";
    let programs = Programs::new()
        .with("talks", &format!("echo $$ > $T/$QUERY_STRING; {wait}; {HEAD}; echo x; exec sleep 1000"))
        .with("silent", "echo $$ > $T/$QUERY_STRING; exec sleep 1000");
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut pids = String::new();
        for how in ["begun", "at-once"] {
            let name = format!("{how}.{}", server.port);
            let mut client = Client::connect(server.port);
            client.send(get(&format!("/cgi/talks?{name}")));
            if how == "begun" {
                pids.push_str(&programs.told(&name));
            }
            drop(client);
            pids.push_str(&programs.told(&name));
        }
        Client::connect(server.port).get("/hello.txt").expect(200);
        fs::write(programs.at(&format!("go.{}", server.port)), "").unwrap();
        gone(&pids);
        // A program that never writes ends by its deadline, whether or not the client is still
        // connected.
        let server = programs.serve(model, &["--cgi-timeout", "1"]);
        let names = ["closed", "half-closed"].map(|how| format!("{how}.{}", server.port));
        let mut clients = names.each_ref().map(|name| {
            let mut client = Client::connect(server.port);
            client.send(get(&format!("/cgi/silent?{name}")));
            client.finish();
            client
        });
        let pids = names.map(|name| programs.told(&name));
        clients[1].response().expect(504);
        drop(clients);
        gone(&pids.concat());
    });
}

/// TCP sends the same segment for a close and for the end of sending, and responds to probes for a
/// minute after either. A Unix socket distinguishes them.
#[test]
fn a_client_that_closes_a_unix_socket_is_noticed_at_once() {
    let programs = Programs::new()
        .with("silent", "echo $$ > $T/$QUERY_STRING; exec sleep 1000")
        .with("waits", &format!("echo $$ > $T/$QUERY_STRING; sleep 0.5; {HEAD}; echo still here"));
    on_both(|model| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let bind = format!("unix:{}", socket.display());
        let server = programs.serve(model, &["--bind", "127.0.0.1", "--bind", &bind]);
        let mut others = Client::connect(server.port);
        let ask = |program: &str, name: &str| {
            let mut client = UnixStream::connect(&socket).unwrap();
            client.write_all(&get(&format!("/cgi/{program}?{name}.{}", server.port))).unwrap();
            (client, programs.told(&format!("{name}.{}", server.port)))
        };
        let (closed, pid) = ask("silent", "closed");
        drop(closed);
        gone(&pid);
        let (finished_first, pid) = ask("silent", "finished-first");
        finished_first.shutdown(std::net::Shutdown::Write).unwrap();
        others.get("/hello.txt").expect(200);
        drop(finished_first);
        gone(&pid);
        let (mut half, _) = ask("waits", "half");
        half.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        half.read_to_string(&mut text).unwrap();
        assert!(text.contains("still here"), "{text}");
    });
}

#[test]
fn a_client_that_finished_sending_gets_its_responses_and_nothing_else() {
    let programs = Programs::new()
        .with("half", &format!("sleep 0.4; {HEAD}; echo still here"))
        .with("copy", &format!("sleep 0.4; {HEAD}; cat"));
    let head = "HTTP/1.1 200 OK\r\n";
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let old = b"GET /cgi/half HTTP/1.0\r\n\r\n".to_vec();
        let cases = [
            ("one", get("/cgi/half"), vec!["still here\n"]),
            ("HTTP/1.0", old, vec!["still here\n"]),
            ("content", request("POST", "/cgi/copy", &[], b"content"), vec!["content"]),
            ("chunks", request("POST", "/cgi/copy", &["Transfer-Encoding: chunked"], b""), vec!["abc"]),
            ("pipelined", [get("/cgi/half"), get("/cgi/copy"), get("/hello.txt")].concat(), vec!["", "", ""]),
            ("a request to the loop", get("/_whirligig/metrics"), vec!["whirligig_"]),
        ];
        for (name, bytes, contents) in cases {
            let mut client = Client::connect(server.port);
            client.send(&bytes);
            if name == "chunks" {
                client.send(b"3\r\nabc\r\n0\r\n\r\n");
            }
            client.finish();
            let (all, _) = client.rest();
            let text = String::from_utf8_lossy(&all);
            assert!(text.starts_with(head), "{name}: {text}");
            assert_eq!(text.matches("HTTP/1.1 ").count(), contents.len(), "{name}: {text}");
            assert!(contents.iter().all(|content| text.contains(content)), "{name}: {text}");
        }
    });
}

#[test]
fn the_number_of_running_programs_is_limited() {
    let programs = Programs::new().with(
        "wait",
        &format!("echo $$ > $T/wait.$SERVER_PORT.$QUERY_STRING; {HEAD}; until [ -e $T/gate.$SERVER_PORT ]; do sleep 0.05; done; echo open"),
    );
    on_both(|model| {
        let server = programs.serve(model, &["--cgi-max", "2"]);
        let gate = programs.at(&format!("gate.{}", server.port));
        let mut clients = Vec::new();
        for number in 0..2 {
            let mut client = Client::connect(server.port);
            client.send(get(&format!("/cgi/wait?{number}")));
            programs.told(&format!("wait.{}.{number}", server.port));
            clients.push(client);
        }
        let mut third = Client::connect(server.port);
        let refused = third.get("/cgi/wait?2").expect(503);
        assert_eq!(refused.must("retry-after"), "1");
        third.get("/hello.txt").expect(200);
        // One client leaves, which makes room for one.
        drop(clients.pop());
        until("a permit is free", || {
            third.send(get("/cgi/wait?3"));
            let number = format!("wait.{}.3", server.port);
            until("a response", || programs.at(&number).exists() || !third.has_nothing());
            programs.at(&number).exists() || third.response().expect(503).status == 200
        });
        fs::write(&gate, "").unwrap();
        assert_eq!(clients.pop().unwrap().response().expect(200).text(), "open\n");
        assert_eq!(third.response().expect(200).text(), "open\n");
    });
}

#[test]
fn two_hundred_slow_programs_delay_no_other_client() {
    const SLOW: usize = 200;
    let programs = Programs::new().with(
        "wait",
        &format!("{HEAD}; : > $T/at.$SERVER_PORT/$QUERY_STRING; cat $T/gate.$SERVER_PORT; echo done"),
    );
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let gate = programs.at(&format!("gate.{}", server.port));
        let at = programs.at(&format!("at.{}", server.port));
        fs::create_dir(&at).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
        let mut clients: Vec<Client> = (0..SLOW)
            .map(|number| {
                let mut client = Client::connect(server.port);
                client.send(get(&format!("/cgi/wait?{number}")));
                client
            })
            .collect();
        let mut other = Client::connect(server.port);
        until("all of them wait", || {
            other.get("/hello.txt").expect(200).with_body(HELLO);
            fs::read_dir(&at).unwrap().count() == SLOW
        });
        for _ in 0..200 {
            other.get("/hello.txt").expect(200).with_body(HELLO);
        }
        // All programs have opened the pipe for reading before it is closed again. Otherwise some
        // would wait for the next writer.
        let writer = fs::OpenOptions::new().write(true).open(&gate).unwrap();
        until("all programs end", || {
            fs::read_dir("/proc")
                .unwrap()
                .flatten()
                .filter(|entry| {
                    let folder = entry.path();
                    fs::read_link(folder.join("fd/3")).is_ok_and(|open| open == gate)
                        || fs::read_link(folder.join("fd/0")).is_ok_and(|open| open == gate)
                })
                .count()
                >= SLOW
        });
        drop(writer);
        for client in &mut clients {
            assert_eq!(client.response().expect(200).text(), "done\n");
        }
    });
}

#[test]
fn a_stop_waits_for_programs_and_ends_what_is_left() {
    let programs = Programs::new()
        .with("short", &format!("echo $$ > $T/short.$SERVER_PORT; sleep 0.5; {HEAD}; echo done"))
        .with("long", "echo $$ > $T/long.$SERVER_PORT; exec sleep 1000");
    on_both(|model| {
        let mut server = programs.serve(model, &["--drain-timeout", "1"]);
        let mut client = Client::connect(server.port);
        client.send(get("/cgi/short"));
        programs.told(&format!("short.{}", server.port));
        server.signal(Signal::TERM);
        assert_eq!(client.response().expect(200).text(), "done\n");
        assert_eq!(server.wait_exit(), 0);
        let mut server = programs.serve(model, &["--drain-timeout", "0.2"]);
        let mut client = Client::connect(server.port);
        client.send(get("/cgi/long"));
        let pid = programs.told(&format!("long.{}", server.port));
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 1);
        // After its program is killed, a thread may still send a 502 before the process ends.
        assert!(!client.try_response("GET").is_ok_and(|cut| cut.status != 502), "it was cut off");
        // The process that inherits orphans may not collect them. It is sufficient that they are
        // dead.
        until(format_args!("{pid} is dead"), || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
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

#[test]
fn endless_standard_error_is_logged_in_part_and_delays_no_client() {
    let programs = Programs::new()
        .with("flood", "yes 'a complaint' >&2 & echo $$ $! > $T/flood.$SERVER_PORT; wait")
        .with("many", &format!("seq 1 3000 >&2; {HEAD}; echo done"));
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut other = Client::connect(server.port);
        assert_eq!(other.get("/cgi/many").expect(200).text(), "done\n");
        // The first lines are the most useful. The log contains the number of omitted lines, and
        // the sum is right.
        let count = || {
            let text = server.err.text();
            let lines = text.lines().filter_map(|line| Some(line.split_once("/cgi/many: ")?.1));
            lines.fold((0, 0), |(said, left_out), line| match line.strip_suffix(" more lines are left out") {
                Some(number) => (said, left_out + number.parse::<usize>().unwrap()),
                None => (said + 1, left_out),
            })
        };
        until("all lines are accounted for", || {
            let (said, left_out) = count();
            left_out > 0 && said + left_out == 3000
        });
        assert!(server.err.text().contains("/cgi/many: 1\n"), "{}", server.err.text());
        let mut client = Client::connect(server.port);
        client.send(get("/cgi/flood"));
        let pid = programs.told(&format!("flood.{}", server.port));
        let before = server.resident_bytes();
        for _ in 0..100 {
            other.get("/hello.txt").expect(200).with_body(HELLO);
        }
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 8 * MIB as u64, "{grown} bytes of memory for the messages of a program");
        client.reset();
        gone(&pid);
    });
}

#[test]
fn an_ended_program_frees_its_permit_before_its_response_is_read() {
    let programs = Programs::new()
        .with("local", "printf 'Location: /m5.bin\\n\\n'")
        .with("quick", &format!("{HEAD}; echo done"));
    on_both(|model| {
        let server = programs.serve(model, &["--cgi-max", "1"]);
        let mut slow = Client::connect_narrow(server.port);
        slow.send(get("/cgi/local"));
        assert!(slow.read_some(12).starts_with(b"HTTP/1.1 200"));
        let mut other = Client::connect(server.port);
        until("its permit is free", || other.get("/cgi/quick").status == 200);
    });
}

#[test]
fn unreadable_spooled_content_ends_the_response_with_an_error() {
    let programs = Programs::new()
        .with(
            "mute",
            &format!("echo $$ > $T/mute.$SERVER_PORT; until [ -e $T/gate.$SERVER_PORT ]; do sleep 0.05; done; n=$(wc -c); {HEAD}; echo $n"),
        )
        .with(
            "talks",
            &format!("{HEAD}; echo $$ > $T/talks.$SERVER_PORT; until [ -e $T/gate.$SERVER_PORT ]; do sleep 0.05; done; wc -c"),
        );
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut client = Client::connect(server.port);
        for name in ["mute", "talks"] {
            let gate = programs.at(&format!("gate.{}", server.port));
            drop(fs::remove_file(&gate));
            // Chunked, so that the whole body is in a file when the program starts.
            client.send(request("POST", &format!("/cgi/{name}"), &["Transfer-Encoding: chunked"], b""));
            client.send(chunked(&pattern(4 * MIB), 60_000));
            let pid = programs.told(&format!("{name}.{}", server.port));
            assert_eq!(shorten_files_without_a_name(&server), 1, "files with content");
            fs::write(&gate, "").unwrap();
            match name {
                "mute" => assert_eq!(client.response().status, 502),
                _ => {
                    let (rest, _) = client.rest();
                    assert!(rest.starts_with(b"HTTP/1.1 200 OK\r\n") && !rest.ends_with(b"0\r\n\r\n"));
                }
            }
            gone(&pid);
        }
    });
}

/// Truncates the server's temporary files, like a failing disk would. Returns their number.
fn shorten_files_without_a_name(server: &Server) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid().as_raw_nonzero())).unwrap().flatten();
    let files = open.filter(|entry| {
        let metadata = fs::metadata(entry.path());
        metadata.is_ok_and(|file| file.is_file() && file.len() > MIB as u64)
            && fs::read_link(entry.path()).is_ok_and(|path| path.to_string_lossy().ends_with(" (deleted)"))
    });
    files
        .map(|entry| fs::OpenOptions::new().write(true).open(entry.path()).unwrap().set_len(0).unwrap())
        .count()
}

#[test]
fn as_the_first_process_of_a_container_it_collects_orphans() {
    let can_be_tried = std::process::Command::new("unshare").args(["-Urpf", "--mount-proc", "true"]).output();
    if !can_be_tried.is_ok_and(|tried| tried.status.success()) {
        return crate::harness::left_out("no namespaces for processes", REQUIRED);
    }
    let programs = Programs::new().with(
        "leaves",
        &format!("(sleep 0.01 >/dev/null 2>&1 &); (sleep 1000 >/dev/null 2>&1 &); {HEAD}; echo done"),
    );
    on_both(|model| {
        let flag = programs.flag();
        let alone = command(model, &programs.docroot.root(), &["--cgi", &flag]);
        let mut command = std::process::Command::new("unshare");
        command
            .args(["-Urpf", "--mount-proc", "--kill-child"])
            .arg(alone.get_program())
            .args(alone.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let around = Server::launch(command);
        let server: u32 = children_of(around.pid().as_raw_nonzero().get()).trim().parse().unwrap();
        let mut client = Client::connect(around.port);
        let dead = || {
            let all = children_of(server.cast_signed());
            let stat = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            all.split_whitespace().filter(|pid| stat(pid).contains("(sleep) Z ")).count()
        };
        for _ in 0..3 {
            assert_eq!(client.get("/cgi/leaves").expect(200).text(), "done\n");
        }
        until("an orphan is dead", || dead() > 0);
        // The server collects them when it starts the next program.
        until("all of them are collected", || {
            client.get("/cgi/leaves").expect(200);
            let before = dead();
            client.get("/cgi/leaves").expect(200);
            before <= 2
        });
        let text = around.err.text();
        assert!(!text.contains("panic"), "{text}");
    });
}

#[test]
fn a_connection_ends_with_its_response_while_the_program_runs_on() {
    let programs = Programs::new()
        .with(
            "works",
            &format!("{HEAD}; echo done; exec >&-; echo $$ > $T/works.$SERVER_PORT; exec sleep 1000"),
        )
        .with(
            "complains",
            &format!(
                "{HEAD}; echo done; exec >&-; echo $$ > $T/complains.$SERVER_PORT; sleep 2; seq 1 200000 >&2"
            ),
        );
    on_both(|model| {
        let server = programs.serve(model, &["--cgi-timeout", "5"]);
        let mut other = Client::connect(server.port);
        other.send(b"GET /cgi/complains HTTP/1.0\r\n\r\n");
        let mut client = Client::connect(server.port);
        let since = now();
        client.send(b"GET /cgi/works HTTP/1.0\r\n\r\n");
        let (rest, _) = client.rest();
        assert!(rest.ends_with(b"done\n"));
        assert_took("the end of the connection", since, 0.0..4.0);
        let pid = programs.told(&format!("works.{}", server.port));
        assert!(Path::new("/proc").join(pid.trim()).exists(), "the program still runs");
        // The server reads standard error to the end. Otherwise the program would block on it.
        gone(&programs.told(&format!("complains.{}", server.port)));
        assert!(Path::new("/proc").join(pid.trim()).exists(), "the other one ended by itself");
        gone(&pid);
    });
}

#[test]
fn a_program_is_collected_while_events_of_its_local_redirect_arrive() {
    let programs = Programs::new().with(
        "news",
        "printf 'Location: /_whirligig/live\\n\\n'; echo $$ > $T/news.$SERVER_PORT; until [ -e $T/gate.$SERVER_PORT ]; do sleep 0.05; done",
    );
    on_both(|model| {
        let server = programs.serve(model, &["--live-reload"]);
        let mut client = Client::connect(server.port);
        client.send(get("/cgi/news"));
        let mut hear = |word: &str| {
            let mut text = String::new();
            while !text.contains(word) {
                let piece = client.read_some(4096);
                assert!(!piece.is_empty(), "it ended after {text}");
                text += &String::from_utf8_lossy(&piece);
            }
        };
        hear(":\n\n");
        programs.docroot.write("hello.txt", HELLO);
        hear("event: change");
        fs::write(programs.at(&format!("gate.{}", server.port)), "").unwrap();
        // Nothing else happens on the connection meanwhile.
        gone(&programs.told(&format!("news.{}", server.port)));
        programs.docroot.write("hello.txt", HELLO);
        hear("event: change");
    });
}

/// On the twin, a job runs on the connection's own thread, which nothing interrupts.
#[test]
fn a_local_redirect_has_the_usual_response_timeout() {
    let programs = Programs::new()
        .with("away", "printf 'Location: /slow/x\\n\\n'")
        .with("late", "sleep 1.2; printf 'Location: /plain/\\n\\n'");
    let passwords = programs.at("passwords");
    fs::write(&passwords, format!("anna:$2b$16${}\n", ".".repeat(53))).unwrap();
    let htpasswd = format!("{}@/slow", passwords.display());
    let server = programs.serve("reactor", &["--answer-timeout", "1", "--htpasswd", &htpasswd]);
    let mut client = Client::connect(server.port);
    // The timeout begins when the program has named the path.
    client.get("/cgi/late").expect(200);
    let got = client.ask("GET", "/cgi/away", &["Authorization: Basic YW5uYTpzZWNyZXQ="], b"");
    assert_eq!(got.status, 503, "{got:?}");
}

#[test]
fn exits_are_noticed_if_sigchld_is_ignored_by_inheritance() {
    let programs = Programs::new()
        .with("quick", &format!("{HEAD}; echo done"))
        .with("killed", &format!("{HEAD}; echo half; kill -9 $$"));
    on_both(|model| {
        let flag = programs.flag();
        let plain = command(model, &programs.docroot.root(), &["--cgi", &flag, "--cgi-max", "1"]);
        let mut command = std::process::Command::new("env");
        command.arg("--ignore-signal=CHLD").arg(plain.get_program()).args(plain.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let server = Server::launch(command);
        let mut client = Client::connect(server.port);
        for _ in 0..3 {
            until("a permit is free", || client.get("/cgi/quick").status == 200);
        }
        // The exit status is known, too.
        until("a permit is free", || {
            let mut client = Client::connect(server.port);
            client.send(request("GET", "/cgi/killed", &["Connection: close"], b""));
            let (rest, _) = client.rest();
            let text = String::from_utf8_lossy(&rest);
            assert!(!text.ends_with("\r\n0\r\n\r\n"), "{text}");
            text.contains("half")
        });
    });
}

#[test]
fn no_program_is_started_for_content_that_is_refused() {
    // The error appears only when the program is started.
    let programs = Programs::new().with_file("broken", "#!/no/such/interpreter\n");
    on_both(|model| {
        let server = programs.serve(model, &["--max-body", "1000", "--upload", "/plain"]);
        let mut client = Client::connect(server.port);
        client.send("POST /cgi/broken HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
        client.response().expect(413);
        client.assert_closed();
        Client::connect(server.port).ask("POST", "/cgi/broken", &[], b"little").expect(500);
        assert!(!server.err.text().contains("413"), "{}", server.err.text());
    });
}
