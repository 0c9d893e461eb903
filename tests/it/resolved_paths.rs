//! Files that no client may have, whatever path leads to them. Some tests take away the means by
//! which the server resolves a path (`/proc`).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;

use crate::docroot::{Docroot, HELLO, SECRET};
use crate::harness::{Server, bare_command, binary, left_out, now, on_both, program, run, until};
use crate::strace::failing;
use crate::wire::{Client, Response};

const REQUIRED: &str = "WHIRLIGIG_REQUIRE_CLIENTS";

/// Returns whether a response contains the secret.
fn shows(response: &Response) -> bool {
    memchr::memmem::find(&response.body, SECRET.as_bytes()).is_some()
}

/// Creates a folder with programs, hidden files and a part with a password, and links to all of
/// them.
fn linked() -> Docroot {
    let docroot = Docroot::empty();
    docroot.write("hello.txt", HELLO);
    docroot
        .write("cg/run.sh", format!("#!/bin/sh\n# {SECRET}\nprintf 'Content-Type: text/plain\\n\\nran'\n"));
    fs::set_permissions(docroot.path("cg/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    docroot.write(".hidden/.secret.txt", SECRET);
    docroot.write("private/secret.txt", SECRET);
    docroot.write("plain/one.txt", b"one");
    docroot.write("page.js", "let a = 1;\n".repeat(300));
    docroot.write(".hidden/.page.js.gz", SECRET);
    fs::create_dir(docroot.path("up")).unwrap();
    for (target, name) in [
        ("cg", "programs"),
        ("cg/run.sh", "source.txt"),
        (".hidden", "unhidden"),
        (".hidden/.secret.txt", "dot.txt"),
        ("unhidden/.secret.txt", "dots.txt"),
        (".hidden/.page.js.gz", "page.js.gz"),
        ("private", "open"),
        ("private/secret.txt", "secret.txt"),
        ("../cg", "up/programs"),
        ("../private", "up/private"),
    ] {
        docroot.link(target, name);
    }
    docroot
}

/// Paths that lead to withheld files and folders.
const LINKS: [&str; 9] = [
    "/source.txt",
    "/programs/run.sh",
    "/programs/",
    "/programs",
    "/dot.txt",
    "/dots.txt",
    "/unhidden/.secret.txt",
    "/page.js.gz",
    "/unhidden/.page.js.gz",
];

/// Returns the program as started by `unshare`, with an empty `/proc`. Returns `None` if that is
/// not possible.
fn without_proc(flags: &[&str], docroot: &Docroot) -> Option<Command> {
    let unshare = program(&["unshare"], REQUIRED)?;
    let script = "mount --make-rprivate / && mount -t tmpfs none /proc && exec \"$@\"";
    let hide = |more: &[&str]| {
        let mut command = Command::new(&unshare);
        for (name, _) in bare_command().get_envs() {
            command.env_remove(name);
        }
        command.args(["-m", "sh", "-c", script, "sh"]).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    if run(&mut hide(&["true"])).code != Some(0) {
        left_out("no mount namespace of one's own may be had here", REQUIRED);
        return None;
    }
    let mut command = hide(&[binary().to_str().unwrap(), "--port", "0"]);
    command.args(flags).arg(docroot.root());
    Some(command)
}

#[test]
fn without_proc_no_link_is_followed_and_all_else_works() {
    on_both(|model| {
        let docroot = linked();
        let cgi = format!("/cgi={}", docroot.path("cg").display());
        let flags = ["--model", model, "--cgi", &cgi, "--upload", "/", "--archives"];
        let flags = [&flags[..], &["--auth", "u:p@/private", "--clean-urls", "--spa=/dot.txt"]].concat();
        let Some(command) = without_proc(&flags, &docroot) else { return };
        let server = Server::launch(command);
        let mut client = Client::connect(server.port);
        for path in LINKS.into_iter().chain(["/open/secret.txt", "/secret.txt", "/secret", "/cg/run.sh"]) {
            for field in ["Accept: */*", "Accept-Encoding: gzip", "Accept: text/html"] {
                let got = client.ask("GET", path, &[field], b"").expect(404);
                assert!(!shows(&got), "{path}");
            }
        }
        client.get("/private/secret.txt").expect(401);
        for path in ["/?archive=tar", "/?archive=zip", "/?json", "/page.js", "/plain/"] {
            let got = client.ask("GET", path, &["Accept-Encoding: gzip"], b"").expect(200);
            assert!(!shows(&got), "{path}");
        }
        // Programs and uploads do not need it.
        client.get("/cgi/run.sh").expect(200).with_body("ran");
        client.get("/hello.txt").expect(200).with_body(HELLO);
        client.ask("PUT", "/up/new.txt", &[], b"new").expect(201);
        client.ask("PUT", "/up/new.txt", &[], b"newer").expect(204);
        client.get("/up/new.txt").expect(200).with_body("newer");
        for (method, path) in [
            ("PUT", "/cg/x.py"),
            ("PUT", "/programs/x.py"),
            ("PUT", "/up/programs/x.py"),
            ("MKCOL", "/up/programs/x"),
            ("DELETE", "/up/programs/run.sh"),
            ("DELETE", "/cg/run.sh"),
            ("PUT", "/up/private/x"),
            ("PUT", "/unhidden/x"),
        ] {
            let got = client.ask(method, path, &[], b"");
            assert_eq!(got.status, 403, "{method} {path}: {got:?}");
        }
        assert_eq!(fs::read_dir(docroot.path("cg")).unwrap().count(), 1);
        let said = server.err.text();
        assert_eq!(said.matches("no symbolic link is followed").count(), 1, "{said}");
    });
}

#[test]
fn without_proc_unrestricted_links_are_refused_naming_the_flag() {
    let docroot = linked();
    let other = format!("other.example={}", docroot.path("plain").display());
    for more in [&[][..], &["--vhost", &other], &["--model", "threads"]] {
        let Some(mut command) = without_proc(&[&["--symlinks", "all"], more].concat(), &docroot) else {
            return;
        };
        let ended = run(&mut command);
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{}", ended.err);
        assert!(ended.err.contains("--symlinks all") && ended.err.contains("/proc"), "{}", ended.err);
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    }
    // With the flag, no warning is logged.
    let Some(command) = without_proc(&["--symlinks", "no"], &docroot) else { return };
    let server = Server::launch(command);
    Client::connect(server.port).get("/hello.txt").expect(200);
    assert!(!server.err.text().contains("symbolic link"), "{}", server.err.text());
}

/// The system call fails for a while, in several ways. No file found meanwhile counts as harmless,
/// and none is cached.
#[test]
fn an_unreadable_path_is_withheld_and_not_cached() {
    on_both(|model| {
        for errno in ["ENOMEM", "ENOENT", "EACCES"] {
            let docroot = linked();
            let cgi = format!("/cgi={}", docroot.path("cg").display());
            let flags = ["--cgi", &cgi, "--upload", "/up", "--archives", "--auth", "u:p@/private"];
            let server = Server::start(model, &docroot.root(), &flags);
            let fails = format!("readlink,readlinkat:error={errno}");
            let mut client = Client::connect(server.port);
            let is_traced = failing(&server, &fails, || {
                for path in LINKS.into_iter().chain(["/open/secret.txt", "/secret.txt", "/plain/one.txt"]) {
                    let got = client.ask("GET", path, &["Accept-Encoding: gzip"], b"");
                    assert!(got.status == 404 && !shows(&got), "{errno} {path}: {got:?}");
                }
                for (method, path) in [
                    ("PUT", "/up/programs/x.py"),
                    ("PUT", "/up/x.txt"),
                    ("MKCOL", "/up/programs/x"),
                    ("DELETE", "/up/programs/run.sh"),
                ] {
                    assert_eq!(client.ask(method, path, &[], b"").status, 403, "{errno} {method} {path}");
                }
                assert!(!client.get("/cgi/run.sh").text().contains("ran"));
                assert_eq!(client.get("/?json").status, 404);
                assert_eq!(client.get("/?archive=tar").status, 404);
            });
            if !is_traced {
                return;
            }
            for path in LINKS {
                assert!(!shows(&client.get(path).expect(404)), "{path}");
            }
            client.get("/plain/one.txt").expect(200).with_body("one");
            client.get("/cgi/run.sh").expect(200).with_body("ran");
            client.ask("PUT", "/up/x.txt", &[], b"x").expect(201);
            assert_eq!(fs::read_dir(docroot.path("cg")).unwrap().count(), 1);
            assert!(server.err.text().contains("its location cannot be read"), "{}", server.err.text());
        }
    });
}

fn basic(pair: &str) -> String {
    format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// Hash of `open sesame`, made by `htpasswd -nbB -C 4`.
const SESAME: &str = "$2y$04$J25P14iGRWYRBQZ85PXm9OS69IW/qjgPJDpQHgmD8SA8yGz3sQvc2";

/// Creates a folder with a part that needs a password, and links to it from everywhere else.
fn guarded() -> Docroot {
    let docroot = Docroot::empty();
    docroot.write("hello.txt", HELLO);
    for name in ["secret.txt", "deep/secret.txt", "page.html", "home/index.html", "app.html", "gone.html"] {
        docroot.write(&format!("private/{name}"), SECRET);
    }
    docroot.write("private/large.bin", SECRET.repeat(10_000));
    docroot.write("private/plain/README.md", SECRET);
    docroot.write("private/page.js.gz", SECRET);
    docroot.write("page.js", "let a = 1;\n".repeat(300));
    docroot.write("other/x.txt", b"other");
    for (target, name) in [
        (".", "self"),
        ("private", "latest"),
        ("latest", "twice"),
        ("private/secret.txt", "one.txt"),
        ("private/page.html", "page.html"),
        ("../private/home/index.html", "other/index.html"),
        ("private/page.js.gz", "page.js.gz"),
        ("../private/secret.txt", "other/guarded.txt"),
    ] {
        docroot.link(target, name);
    }
    docroot
}

#[test]
fn a_link_into_a_part_with_a_password_needs_that_password() {
    let docroot = guarded();
    let users = docroot.outside("users");
    fs::write(&users, format!("u:{SESAME}\n")).unwrap();
    let in_file = format!("{}@/private", users.display());
    for flags in [["--auth", "u:open sesame@/private"], ["--htpasswd", &in_file]] {
        on_both(|model| {
            let flags = [&flags[..], &["--archives", "--clean-urls"]].concat();
            let server = Server::start(model, &docroot.root(), &flags);
            let (right, wrong) = (basic("u:open sesame"), basic("u:close sesame"));
            for path in [
                "/self/private/secret.txt",
                "/self/self/private/secret.txt",
                "/latest/secret.txt",
                "/twice/deep/secret.txt",
                "/one.txt",
                "/one.txt?download",
                "/%6fne.txt",
                "/latest/large.bin",
                "/page",
                "/other/",
                "/latest/home/",
                "/latest/plain/",
                "/latest/?text",
                "/latest/?archive=tar",
                "/self/?archive=zip",
            ] {
                let is_open = path.starts_with("/self/?");
                let mut client = Client::connect(server.port);
                for fields in
                    [&[][..], &["Range: bytes=0-3"], &["If-None-Match: \"x\""], &["Accept: text/html"]]
                {
                    for _ in 0..2 {
                        let got = client.ask("GET", path, fields, b"");
                        assert!(!shows(&got), "{path}");
                        if !is_open {
                            assert_eq!(got.expect(401).must("www-authenticate"), CHALLENGE, "{path}");
                        }
                    }
                    let fields = [fields, &[&right]].concat();
                    let got = client.ask("GET", path, &fields, b"");
                    assert!([200, 206].contains(&got.status), "{path}: {got:?}");
                    let is_part = got.status == 206 || path.contains("archive") || path.contains("text");
                    assert!(is_open || is_part || shows(&got), "{path}");
                }
                if !is_open {
                    client.ask("HEAD", path, &[], b"").expect(401);
                }
            }
            let mut client = Client::connect(server.port);
            client.ask("GET", "/latest/secret.txt", &[&wrong], b"").expect(401);
            let got = client.ask("GET", "/latest/secret.txt", &[&right], b"").expect(200);
            assert_eq!(got.must("cache-control"), "private, no-cache");
            // A coded form that needs a password is treated as missing.
            let got = client.ask("GET", "/page.js", &["Accept-Encoding: gzip"], b"").expect(200);
            assert!(!shows(&got));
            client.get("/latest").expect(401);
            client.ask("GET", "/latest", &[&right], b"").expect(301);
            let packed = client.ask("GET", "/latest/?archive=tar", &[&right], b"").expect(200);
            assert!(shows(&packed), "an archive contains the files of its password");
            client.get("/hello.txt").expect(200).with_body(HELLO);
        });
    }
}

const CHALLENGE: &str = "Basic realm=\"/private\", charset=\"UTF-8\"";

/// A client has only one name and password to send.
#[test]
fn a_path_with_a_password_leads_to_no_path_with_another() {
    let docroot = guarded();
    let vhost = format!("other.example={}", docroot.root().display());
    let flags =
        ["--auth", "u:p@/private", "--auth", "v:q@/other", "--auth", "w:r@/one.txt", "--vhost", &vhost];
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[&flags[..], &["--archives"]].concat());
        for host in ["localhost", "other.example"] {
            let mut client = Client::connect(server.port);
            let mut ask = |path: &str, field: &str| {
                client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{field}\r\n\r\n"));
                client.response()
            };
            for (path, own) in [("/other/guarded.txt", "v:q"), ("/other/", "v:q"), ("/one.txt", "w:r")] {
                assert!(!shows(&ask(path, &basic(own)).expect(403)), "{path}");
                ask(path, "Accept: */*").expect(401);
            }
            // The password of the real path is not valid for the path.
            ask("/one.txt", &basic("u:p")).expect(401);
            ask("/other/x.txt", &basic("v:q")).expect(200).with_body("other");
            assert!(!shows(&ask("/other/?archive=tar", &basic("v:q")).expect(200)));
            assert!(shows(&ask("/private/secret.txt", &basic("u:p")).expect(200)));
        }
    });
}

#[test]
fn replacement_pages_need_their_password_too() {
    let docroot = guarded();
    docroot.link("private/app.html", "app.html");
    docroot.link("private/gone.html", "gone.html");
    on_both(|model| {
        for (spa, page) in [("/private/app.html", "/private/gone.html"), ("/app.html", "/gone.html")] {
            let (spa, page) = (format!("--spa={spa}"), format!("404={page}"));
            let flags = ["--auth", "u:p@/private", &spa, "--error-page", &page];
            let server = Server::start(model, &docroot.root(), &flags);
            let mut client = Client::connect(server.port);
            for _ in 0..3 {
                let right = basic("u:p");
                let html = "Accept: text/html";
                assert!(!shows(&client.ask("GET", "/nothing/here", &[html], b"").expect(401)));
                assert!(shows(&client.ask("GET", "/nothing/here", &[html, &right], b"").expect(200)));
                // No password is required for an error.
                assert!(!shows(&client.get("/nothing.png").expect(404)));
                assert!(!shows(&client.ask("GET", "/nothing.png", &[&right], b"").expect(404)));
                // The path and the page have the same password.
                assert!(shows(&client.ask("GET", "/private/nothing.png", &[&right], b"").expect(404)));
            }
        }
    });
}

/// The file is the same in each case, so its inode and times do not show that the path now leads
/// elsewhere.
#[test]
fn a_cached_file_is_shown_only_while_its_real_path_is_open() {
    on_both(|model| {
        let docroot = guarded();
        for name in ["hard/x.txt", "moved/x.txt", "hidden/x.txt"] {
            docroot.write(name, b"open to all");
        }
        docroot.write("coded/page.js", "let a = 1;\n".repeat(300));
        docroot.write("coded/page.js.gz", b"coded");
        fs::hard_link(docroot.path("hard/x.txt"), docroot.path("private/x.txt")).unwrap();
        for (target, name) in
            [("hard", "h"), ("moved", "m"), ("hidden", "n"), ("coded/page.js.gz", "q.js.gz")]
        {
            docroot.link(target, name);
        }
        docroot.write("q.js", "let a = 1;\n".repeat(300));
        let turn = |target: &str, name: &str| {
            docroot.link(target, "new-link");
            fs::rename(docroot.path("new-link"), docroot.path(name)).unwrap();
        };
        let server = Server::start(model, &docroot.root(), &["--auth", "u:p@/private", "--fresh", "0"]);
        let mut client = Client::connect(server.port);
        let paths = ["/h/x.txt", "/m/x.txt", "/n/x.txt"];
        let coded = || Client::connect(server.port).ask("GET", "/q.js", &["Accept-Encoding: gzip"], b"");
        until("the files are old enough to be cached", || {
            paths.iter().for_each(|path| drop(client.get(path).expect(200).with_body("open to all")));
            coded().expect(200).with_body("coded");
            now().duration_since(server.started) > Duration::from_millis(100)
        });
        turn("private", "h");
        client.get("/h/x.txt").expect(401);
        fs::rename(docroot.path("moved"), docroot.path("private/moved")).unwrap();
        turn("private/moved", "m");
        client.get("/m/x.txt").expect(401);
        client.ask("GET", "/m/x.txt", &[&basic("u:p")], b"").expect(200).with_body("open to all");
        fs::rename(docroot.path("hidden/x.txt"), docroot.path("hidden/.x.txt")).unwrap();
        docroot.link(".x.txt", "hidden/x.txt");
        client.get("/n/x.txt").expect(404);
        fs::rename(docroot.path("coded"), docroot.path("private/coded")).unwrap();
        turn("private/coded/page.js.gz", "q.js.gz");
        assert_ne!(coded().expect(200).body, b"coded");
        // And the reverse.
        turn("hard", "h");
        client.get("/h/x.txt").expect(200).with_body("open to all");
    });
}
