//! The folders for uploads: when they are resolved, and warnings at the start.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Server, bare_command, command, on_both, run, until};
use crate::upload::{assert_empty, docroot, names, put, start};
use crate::wire::{Client, request};

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
