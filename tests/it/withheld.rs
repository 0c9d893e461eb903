//! Files that no client may have, whatever path leads to them. Some tests take from the server the
//! means to see where a path leads.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::docroot::{Docroot, HELLO, SECRET};
use crate::harness::{Server, bare_command, binary, left_out, on_both, program, run};
use crate::strace::failing;
use crate::wire::{Client, Response};

const REQUIRED: &str = "WHIRLIGIG_REQUIRE_CLIENTS";

/// Returns whether a response contains the secret.
fn shows(response: &Response) -> bool {
    memchr::memmem::find(&response.body, SECRET.as_bytes()).is_some()
}

/// A folder with programs, hidden files and a part that takes a password, and links to all of them.
fn linked() -> Docroot {
    let docroot = Docroot::empty();
    docroot.write("hello.txt", HELLO);
    docroot
        .write("cg/run.sh", format!("#!/bin/sh\n# {SECRET}\nprintf 'Content-Type: text/plain\\n\\nran'\n"));
    fs::set_permissions(docroot.path("cg/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    docroot.write(".hidden/secret.txt", SECRET);
    docroot.write("private/secret.txt", SECRET);
    docroot.write("plain/one.txt", b"one");
    docroot.write("page.js", "let a = 1;\n".repeat(300));
    docroot.write(".hidden/page.js.gz", SECRET);
    fs::create_dir(docroot.path("up")).unwrap();
    for (target, name) in [
        ("cg", "programs"),
        ("cg/run.sh", "source.txt"),
        (".hidden", "unhidden"),
        (".hidden/secret.txt", "dot.txt"),
        (".hidden/page.js.gz", "page.js.gz"),
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
    "/unhidden/secret.txt",
    "/unhidden/",
    "/unhidden?download",
    "/page.js.gz",
];

/// The program as `unshare` starts it: with an empty `/proc`. Nothing where that cannot be had.
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
fn without_proc_links_that_may_lead_anywhere_are_refused_by_the_name_of_the_flag() {
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
    // Asked for, it is no news.
    let Some(command) = without_proc(&["--symlinks", "no"], &docroot) else { return };
    let server = Server::launch(command);
    Client::connect(server.port).get("/hello.txt").expect(200);
    assert!(!server.err.text().contains("symbolic link"), "{}", server.err.text());
}

/// The call fails for a while, in one of several ways. No file that is found meanwhile counts as
/// harmless, and none is kept.
#[test]
fn a_place_that_cannot_be_read_is_withheld_and_not_kept() {
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
            assert!(server.err.text().contains("its place cannot be read"), "{}", server.err.text());
        }
    });
}
