//! Host names under which a private server serves more than single files, and the limits for
//! proxies.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::docroot::{Docroot, HELLO};
use crate::harness::{Server, command, on_both, until};
use crate::wire::{Client, Response};

/// All resources that list files or describe the server, with their methods.
const MORE_THAN_FILES: [(&str, &str); 17] = [
    ("GET", "/plain/"),
    ("HEAD", "/plain/"),
    ("GET", "/plain/?json"),
    ("GET", "/plain/?text&q=one"),
    ("GET", "/%70lain/./?sort=size"),
    ("GET", "/link-dir-in/"),
    ("GET", "/plain/?archive=tar"),
    ("GET", "/plain/?archive=tar.gz"),
    ("GET", "/?archive=zip"),
    ("GET", "/?archive=nosuch"),
    ("GET", "/api/time"),
    ("GET", "/api/headers"),
    ("GET", "/api/query/x?y=z"),
    ("POST", "/api/echo"),
    ("GET", "/_whirligig/metrics"),
    ("GET", "/_whirligig/live"),
    ("GET", "/_whirligig/live.js"),
];

const FLAGS: [&str; 2] = ["--archives", "--live-reload"];

/// Sends one request on a separate connection.
fn ask(port: u16, method: &str, target: &str, host: &str, more: &str) -> Response {
    let mut client = Client::connect(port);
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"));
    client.response_to(method)
}

fn status(port: u16, target: &str, host: &str, more: &str) -> u16 {
    ask(port, "GET", target, host, more).status
}

#[test]
fn a_foreign_name_gets_single_files_only() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &FLAGS);
        for host in ["attacker.example", "localhost.attacker.example:8080", "127.0.0.1.nip.example", "127.1"]
        {
            for (method, target) in MORE_THAN_FILES {
                let refused = ask(server.port, method, target, host, "").expect(403);
                if method != "HEAD" {
                    let name = host.split(':').next().unwrap();
                    let text = refused.text();
                    assert!(text.contains(name) && !text.contains("--"), "{target}: {text}");
                }
            }
            ask(server.port, "GET", "/hello.txt", host, "").expect(200).with_body(HELLO);
            for target in ["/sub/", "/", "/plain/one.txt?download", "/_whirligig/health"] {
                assert_eq!(status(server.port, target, host, ""), 200, "{target} for {host}");
            }
            assert_eq!(status(server.port, "/plain", host, ""), 301);
            assert_eq!(status(server.port, "/nosuch", host, ""), 404);
        }
        // The target decides, not the header. Without a host name there is nothing to decide by.
        assert_eq!(status(server.port, "http://attacker.example/plain/", "localhost", ""), 403);
        assert_eq!(status(server.port, "/plain/", "", ""), 403);
        for (target, expected) in [("/plain/", 403), ("/_whirligig/metrics", 403), ("/hello.txt", 200)] {
            let mut old = Client::connect(server.port);
            old.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
            let got = old.response().expect(expected);
            assert!(expected == 200 || got.text().contains("names no host"), "{got:?}");
        }
        // A host may contain characters with a meaning in HTML.
        let page = ask(server.port, "GET", "/plain/", "a'b&c", "Accept: text/html\r\n").expect(403);
        assert!(page.text().contains("a&#39;b&amp;c"), "{}", page.text());
        let lines = |name: &str| server.err.text().lines().filter(|line| line.contains(name)).count();
        let quoted = "'attacker.example'";
        until("the name is logged", || lines(quoted) > 0);
        assert_eq!(lines(quoted), 1, "{}", server.err.text());
        assert!(server.err.text().contains("--allow-host"), "{}", server.err.text());
    });
}

#[test]
fn a_known_name_gets_everything() {
    let docroot = Docroot::new();
    let vhost = format!("*.blog.example={}", docroot.root().display());
    let names = ["--vhost", &vhost, "--allow-host", "nas.lan,.home.example"];
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[&FLAGS[..], &names].concat());
        for host in [
            "localhost",
            "LOCALHOST.:1",
            "app.localhost",
            "127.0.0.1:8080",
            "[::1]",
            "192.0.2.9",
            "a.blog.example",
            "nas.lan",
            "Nas.Lan:80",
            "home.example",
            "a.b.home.example",
        ] {
            // Events have no end.
            for (method, target) in MORE_THAN_FILES.into_iter().filter(|case| case.1 != "/_whirligig/live") {
                let expected = if target.ends_with("nosuch") { 400 } else { 200 };
                let more = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
                let got = ask(server.port, method, target, host, more);
                assert_eq!(got.status, expected, "{target} for {host}");
            }
        }
        for host in ["blog.example", "x.nas.lan", "xhome.example", "nas.lan.example"] {
            assert_eq!(status(server.port, "/plain/", host, ""), 403, "{host}");
        }
        assert_eq!(status(server.port, "http://nas.lan/plain/", "attacker.example", ""), 200);
    });
}

#[test]
fn names_can_be_allowed_from_everywhere_and_for_every_address() {
    let docroot = Docroot::new();
    let file = docroot.outside("settings");
    fs::write(&file, "allow-host = [\"nas.lan\", \".home.example\"]\n").unwrap();
    let named = [("nas.lan", 200), ("a.home.example", 200), ("other.lan", 403), ("127.0.0.1", 200)];
    let open = [("nas.lan", 200), ("other.lan", 200), ("127.0.0.1", 200)];
    on_both(|model| {
        let start = |flags: &[&str], variable: Option<(&str, &str)>| {
            let mut command = command(model, &docroot.root(), flags);
            command.envs(variable);
            Server::launch(command)
        };
        let all = "nas.lan,.home.example";
        let everyone = ["--bind", "0.0.0.0", "--api"];
        for (server, expected) in [
            (start(&["--config", file.to_str().unwrap()], None), &named[..]),
            (start(&[], Some(("WHIRLIGIG_ALLOW_HOST", all))), &named),
            (start(&["--allow-host", "nas.lan", "--allow-host", ".home.example"], None), &named),
            (start(&["--allow-host=any"], None), &open),
            (start(&everyone, None), &open),
            (start(&[&everyone[..], &["--allow-host", all]].concat(), None), &named),
        ] {
            for (host, status_expected) in expected {
                for target in ["/plain/", "/api/time"] {
                    assert_eq!(
                        status(server.port, target, host, ""),
                        *status_expected,
                        "{target} for {host}"
                    );
                }
            }
        }
    });
}

#[test]
fn an_allowed_name_may_also_write() {
    on_both(|model| {
        let docroot = Docroot::new();
        fs::create_dir(docroot.path("up")).unwrap();
        let flags = ["--upload", "/up", "--allow-host", "nas.lan"];
        let server = Server::start(model, &docroot.root(), &flags);
        let length = "Content-Length: 0\r\n";
        ask(server.port, "PUT", "/up/a", "nas.lan", length).expect(201);
        ask(server.port, "MKCOL", "/up/b", "NAS.lan:80", "").expect(201);
        for more in [length, "X-Forwarded-Host: nas.lan\r\nForwarded: host=nas.lan\r\nContent-Length: 0\r\n"]
        {
            let refused = ask(server.port, "PUT", "/up/c", "other.lan", more).expect(403);
            assert!(refused.text().contains("other.lan") && !refused.text().contains("--"), "{refused:?}");
        }
        assert!(!docroot.path("up/c").exists());
        until("the flag is logged", || server.err.text().contains("'other.lan' (403); --allow-host"));
    });
}

#[test]
fn resources_for_this_machine_only_are_not_served_to_a_proxy() {
    let docroot = Docroot::new();
    on_both(|model| {
        let private = Server::start(model, &docroot.root(), &[]);
        let asked = Server::start(model, &docroot.root(), &["--api", "--metrics"]);
        for more in [
            "X-Forwarded-For: 203.0.113.9\r\n",
            "x-forwarded-proto: https\r\n",
            "X-Forwarded-Host: localhost\r\n",
            "Forwarded: for=127.0.0.1;host=localhost\r\n",
            "Forwarded:\r\n",
            "X-Real-IP: 127.0.0.1\r\n",
            "Via: 1.1 proxy\r\n",
        ] {
            for target in ["/_whirligig/metrics", "/api/time", "/api/headers"] {
                assert_eq!(status(private.port, target, "localhost", more), 403, "{target} with {more}");
                assert_eq!(status(asked.port, target, "localhost", more), 200, "{target} with {more}");
                assert_eq!(status(asked.port, target, "attacker.example", more), 403, "{target} with {more}");
            }
            for target in ["/plain/", "/hello.txt", "/_whirligig/health"] {
                assert_eq!(status(private.port, target, "localhost", more), 200, "{target} with {more}");
            }
            assert_eq!(status(private.port, "/plain/", "attacker.example", more), 403);
        }
        for flag in ["; --metrics gives", "; --api gives"] {
            until(flag, || server_lines(&private, flag) > 0);
        }
        assert_eq!(server_lines(&private, "; --metrics gives"), 1, "{}", private.err.text());
    });
}

fn server_lines(server: &Server, part: &str) -> usize {
    server.err.text().lines().filter(|line| line.contains(part)).count()
}

#[test]
fn a_unix_socket_is_private_too() {
    let docroot = Docroot::new();
    let folder = tempfile::tempdir().unwrap();
    on_both(|model| {
        let path = folder.path().join(model);
        let bind = format!("unix:{}", path.display());
        let _server = Server::start(model, &docroot.root(), &["--bind", "127.0.0.1", "--bind", &bind]);
        for (target, host, expected) in [
            ("/plain/", "localhost", "200"),
            ("/plain/", "public.example", "403"),
            ("/_whirligig/metrics", "public.example", "403"),
            ("/hello.txt", "public.example", "200"),
        ] {
            let mut stream = UnixStream::connect(&path).unwrap();
            let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            let mut got = String::new();
            stream.read_to_string(&mut got).unwrap();
            assert_eq!(&got[9..12], expected, "{target} for {host}");
        }
    });
}

#[test]
fn refusals_have_cors_headers_and_strict_hosts_come_first() {
    let docroot = Docroot::new();
    let vhost = format!("v.example={}", docroot.root().display());
    on_both(|model| {
        let open = Server::start(model, &docroot.root(), &["--cors", "https://app.example"]);
        let origin = "Origin: https://app.example\r\n";
        let refused = ask(open.port, "GET", "/plain/", "attacker.example", origin).expect(403);
        assert_eq!(refused.must("access-control-allow-origin"), "https://app.example");
        let flags = ["--vhost", &vhost, "--strict-hosts", "--allow-host", "nas.lan"];
        let strict = Server::start(model, &docroot.root(), &flags);
        for (host, expected) in [("v.example", 200), ("nas.lan", 421), ("127.0.0.1", 421)] {
            assert_eq!(status(strict.port, "/plain/", host, ""), expected, "{host}");
        }
    });
}
