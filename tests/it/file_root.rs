//! A single file as ROOT: served at `/` and under its name, and nothing else of its folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::docroot::{Docroot, SECRET, pattern};
use crate::harness::{Server, bare_command, command, on_both, run};
use crate::wire::{Client, Response};

/// Creates a folder with a file and others that must not be reachable.
fn folder() -> Docroot {
    let docroot = Docroot::empty();
    docroot.write("report.html", "<p>report of today");
    docroot.write("large.bin", pattern(300 * 1024));
    docroot.write("report.html.gz", SECRET);
    docroot.write("index.html", SECRET);
    docroot.write("secret.txt", SECRET);
    docroot.write("sub/secret.txt", SECRET);
    docroot.write("api/secret.txt", SECRET);
    docroot
}

#[test]
fn the_file_is_at_the_top_and_under_its_name() {
    let docroot = folder();
    on_both(|model| {
        for name in ["report.html", "large.bin"] {
            let content = fs::read(docroot.path(name)).unwrap();
            let server = Server::start(model, &docroot.path(name), &["--archives"]);
            let real = docroot.path(name).canonicalize().unwrap();
            assert!(server.out.text().contains(&format!("serving {} (", real.display())));
            let mut client = Client::connect(server.port);
            for path in ["/".to_owned(), format!("/{name}")] {
                let whole = client.get(&path).expect(200);
                assert_eq!(whole.body, content, "{path}");
                let head = client.ask("HEAD", &path, &[], b"").expect(200);
                assert_eq!(head.field("content-length"), Some(&*content.len().to_string()));
                let tag = format!("If-None-Match: {}", whole.must("etag"));
                client.ask("GET", &path, &[&tag], b"").expect(304);
                let part = client.ask("GET", &path, &["Range: bytes=3-6"], b"").expect(206);
                assert_eq!(part.body, content[3..7]);
                // No form beside it is sent.
                let coded = client.ask("GET", &path, &["Accept-Encoding: br, zstd"], b"").expect(200);
                assert_eq!(coded.body, content);
                let saved = client.get(&format!("{path}?download")).expect(200);
                assert!(saved.must("content-disposition").contains(name));
                client.ask("PUT", &path, &[], b"x").expect(405);
            }
            for path in [
                "/index.html",
                "/secret.txt",
                "/sub/",
                "/sub",
                "/sub/secret.txt",
                "/sub/../secret.txt",
                "/report.html.gz",
                "/?archive=zip",
                "/..",
                "/%2e%2e/secret.txt",
                "/api/secret.txt",
            ] {
                let answer: Response = client.get(path);
                assert!(!String::from_utf8_lossy(&answer.body).contains(SECRET), "{path}");
                assert!(
                    answer.status == 404 || path.starts_with("/?") || path.contains(".."),
                    "{path}: {}",
                    answer.status
                );
            }
            client.get(&format!("/{name}/")).expect(404);
        }
    });
}

#[test]
fn a_replaced_or_deleted_file_is_seen_at_once() {
    on_both(|model| {
        let docroot = folder();
        let server = Server::start(model, &docroot.path("report.html"), &["--fresh", "0"]);
        let mut client = Client::connect(server.port);
        let expect = |client: &mut Client, status: u16, text: &str| {
            for path in ["/", "/report.html"] {
                // Twice: from disk and from the cache.
                for _ in 0..2 {
                    let answer = client.get(path).expect(status);
                    assert!(answer.text().contains(text), "{path}: {}", answer.text());
                    assert!(!answer.text().contains(SECRET), "{path}");
                }
            }
        };
        expect(&mut client, 200, "of today");
        docroot.write("report.html", "written over");
        expect(&mut client, 200, "written over");
        docroot.write("new", "renamed over");
        fs::rename(docroot.path("new"), docroot.path("report.html")).unwrap();
        expect(&mut client, 200, "renamed over");
        fs::remove_file(docroot.path("report.html")).unwrap();
        expect(&mut client, 404, "");
        // Others may be able to write to the folder, so what they put there is not followed.
        symlink("secret.txt", docroot.path("report.html")).unwrap();
        expect(&mut client, 404, "");
        fs::remove_file(docroot.path("report.html")).unwrap();
        docroot.write("report.html/index.html", SECRET);
        expect(&mut client, 404, "");
        fs::remove_dir_all(docroot.path("report.html")).unwrap();
        docroot.write("report.html", "back again");
        expect(&mut client, 200, "back again");
        // The folder itself is replaced.
        fs::rename(docroot.root(), docroot.outside("old")).unwrap();
        fs::create_dir(docroot.root()).unwrap();
        docroot.write("report.html", "in a new folder");
        expect(&mut client, 200, "in a new folder");
    });
}

#[test]
fn a_link_that_was_named_is_followed_anywhere_and_turned() {
    on_both(|model| {
        let docroot = folder();
        fs::write(docroot.outside("one.txt"), "one").unwrap();
        fs::write(docroot.outside("two.txt"), "two").unwrap();
        symlink(docroot.outside("one.txt"), docroot.path("current.txt")).unwrap();
        let server = Server::start(model, &docroot.path("current.txt"), &["--fresh", "0"]);
        let real = docroot.outside("one.txt").canonicalize().unwrap();
        assert!(server.out.text().contains(&format!("serving {} (", real.display())));
        let mut client = Client::connect(server.port);
        for path in ["/", "/current.txt"] {
            client.get(path).expect(200).with_body("one");
        }
        symlink(docroot.outside("two.txt"), docroot.path("new")).unwrap();
        fs::rename(docroot.path("new"), docroot.path("current.txt")).unwrap();
        for path in ["/", "/current.txt"] {
            client.get(path).expect(200).with_body("two");
        }
        client.get("/one.txt").expect(404);
        client.get("/two.txt").expect(404);
    });
}

/// The password of the name also protects the top, where the same file is.
#[test]
fn a_password_for_the_file_covers_both_paths() {
    let docroot = folder();
    fs::write(docroot.outside("real.txt"), "text").unwrap();
    symlink(docroot.outside("real.txt"), docroot.path("link.txt")).unwrap();
    on_both(|model| {
        for name in ["secret.txt", "link.txt"] {
            let rule = format!("anna:pw@/{name}");
            let server = Server::start(model, &docroot.path(name), &["--auth", &rule]);
            let mut client = Client::connect(server.port);
            for path in ["/".to_owned(), format!("/{name}")] {
                client.get(&path).expect(401);
                client.ask("GET", &path, &["Authorization: Basic YW5uYTpwdw=="], b"").expect(200);
            }
        }
    });
}

#[test]
fn a_root_of_another_kind_is_refused_in_one_line() {
    let docroot = folder();
    docroot.write(".hidden", SECRET);
    docroot.link(".hidden", "shows-hidden.txt");
    docroot.link("nothing", "broken");
    docroot.write("users", "anna:$2y$05$Tnt/g5PYyV.53eQT.dGtAu5SLbn6RY9Z9Vg/6hwfRU/Q2wFgI.tXK\n");
    let pipe = docroot.path("pipe");
    assert_eq!(run(Command::new("mkfifo").arg(&pipe)).code, Some(0));
    let users = docroot.path("users");
    let users = users.to_str().unwrap();
    on_both(|model| {
        let socket = docroot.path(&format!("socket-{model}"));
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let socket = format!("socket-{model}");
        for (name, flags, why) in [
            ("pipe", &[][..], "it is a named pipe"),
            (&socket, &[], "it is a socket"),
            ("broken", &[], "No such file or directory"),
            ("report.html/x", &[], "Not a directory"),
            (".hidden", &[], "its name begins with a dot"),
            ("shows-hidden.txt", &[], "the file is hidden"),
            ("users", &["--htpasswd", users], "one of the server's own"),
            ("report.html", &["--upload", "/"], "it is a file, and uploads need a folder"),
        ] {
            let ended = run(&mut command(model, &docroot.path(name), flags));
            assert_eq!((ended.code, ended.err.lines().count()), (Some(1), 1), "{name}: {}", ended.err);
            assert!(ended.err.contains(why) && ended.err.contains(name), "{name}: {}", ended.err);
        }
        let ended = run(bare_command().args(["--model", model, "/dev/null"]));
        assert!(ended.code == Some(1) && ended.err.contains("it is a device"), "{}", ended.err);
    });
}
