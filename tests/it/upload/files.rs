//! PUT, DELETE and MKCOL: which requests change files, and what readers see meanwhile.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::docroot::pattern;
use crate::harness::{Server, on_both};
use crate::upload::{assert_empty, docroot, names, put, start};
use crate::wire::{Client, chunked, request};

#[test]
fn files_are_put_replaced_and_deleted_and_folders_created() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--max-body", "1k"]);
        let mut client = Client::connect(server.port);
        let large = pattern(3 * 1024 * 1024 + 17);
        for (content, coded) in [(&large[..], false), (&large[..70_000], true), (b"", false), (b"x", true)] {
            let (fields, content_sent) = match coded {
                true => (&["Transfer-Encoding: chunked"][..], chunked(content, 10_000)),
                false => (&[][..], content.to_vec()),
            };
            let mut asked = request("PUT", "/up/a%20b.bin", fields, if coded { b"" } else { &content_sent });
            if coded {
                asked.extend_from_slice(&content_sent);
            }
            client.send(&asked);
            let new = client.response().expect(201);
            assert_eq!(new.must("location"), "a%20b.bin");
            let got = client.get("/up/a%20b.bin").expect(200).with_body(content);
            assert_eq!(got.must("etag"), new.must("etag"), "the tag that was given is the file's");
            assert_eq!(names(&docroot.path("up")), ["a b.bin"]);
            client.ask("PUT", "/up/a%20b.bin", &[], b"second").expect(204).must("etag");
            client.get("/up/a%20b.bin").expect(200).with_body("second");
            client.ask("DELETE", "/up/a%20b.bin", &[], b"").expect(204);
            client.get("/up/a%20b.bin").expect(404);
        }
        let made = client.ask("MKCOL", "/up/sub", &[], b"").expect(201);
        assert_eq!(made.must("location"), "sub/");
        client.ask("MKCOL", "/up/sub/", &[], b"").expect(405).must("allow");
        client.ask("MKCOL", "/up/no/sub", &[], b"").expect(409);
        client.ask("PUT", "/up/sub/a", &[], b"deeper").expect(201);
        client.ask("DELETE", "/up/sub/", &[], b"").expect(409);
        client.ask("DELETE", "/up/sub/a", &[], b"").expect(204);
        client.ask("DELETE", "/up/sub", &[], b"").expect(204);
        assert_empty(&docroot.path("up"));
    });
}

/// Method, path, headers, body, and the status of the response.
type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a [u8], u16);

#[test]
fn refused_uploads_have_specific_statuses() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/folder/file", b"x");
        docroot.link("folder", "up/link");
        let before = names(&docroot.root());
        let server = start(model, &docroot, &["--api"]);
        let long = format!("/up/{}", "n".repeat(256));
        let cases: &[Case] = &[
            // Nothing may be written elsewhere.
            ("PUT", "/a.txt", &[], b"x", 405),
            ("PUT", "/other/file.txt", &[], b"x", 405),
            ("PUT", "/upper.txt", &[], b"x", 405),
            ("DELETE", "/hello.txt", &[], b"", 405),
            ("POST", "/", &[], b"x", 405),
            ("MKCOL", "/new", &[], b"", 501),
            // Names.
            ("PUT", "/up", &[], b"x", 409),
            ("PUT", "/up/", &[], b"x", 409),
            ("PUT", "/up/new/", &[], b"x", 409),
            ("PUT", "/up/folder", &[], b"x", 409),
            ("PUT", "/up/link", &[], b"x", 409),
            ("PUT", "/up/nosuch/a", &[], b"x", 409),
            ("PUT", "/up/folder/file/a", &[], b"x", 409),
            ("PUT", "/up/.a", &[], b"x", 403),
            ("PUT", "/up/.well-known/a", &[], b"x", 403),
            ("PUT", "/up/folder/.git/a", &[], b"x", 403),
            ("PUT", "/up/a%00b", &[], b"x", 400),
            ("PUT", "/up/a%0ab", &[], b"x", 400),
            ("PUT", "/up/a%2fb", &[], b"x", 400),
            ("PUT", &long, &[], b"x", 400),
            // Partial and coded content.
            ("PUT", "/up/a", &["Content-Range: bytes 0-0/5"], b"x", 400),
            ("PUT", "/up/a", &["Content-Encoding: gzip"], b"x", 415),
            // Conditions.
            ("PUT", "/up/folder/file", &["If-None-Match: *"], b"x", 412),
            ("PUT", "/up/folder/file", &["If-Match: \"other\""], b"x", 412),
            ("PUT", "/up/a", &["If-Match: *"], b"x", 412),
            ("DELETE", "/up/folder/file", &["If-Match: \"other\""], b"", 412),
            // Other methods.
            ("DELETE", "/up/", &[], b"", 403),
            ("DELETE", "/up", &[], b"", 403),
            ("DELETE", "/up/nosuch", &[], b"", 404),
            ("DELETE", "/up/nosuch/a", &[], b"", 404),
            ("DELETE", "/up/link", &[], b"", 409),
            ("DELETE", "/up/folder/file/", &[], b"", 404),
            ("MKCOL", "/up/a", &[], b"x", 415),
            ("PATCH", "/up/folder/file", &[], b"x", 405),
            ("TRACE", "/up/folder/file", &[], b"", 405),
            ("BREW", "/up/folder/file", &[], b"", 501),
            ("POST", "/up/", &[], b"x", 415),
            ("POST", "/up/", &["Content-Type: multipart/form-data"], b"x", 400),
            ("PATCH", "/up/a?resume=0", &["Content-Type: application/partial-upload"], b"x", 400),
            ("PATCH", "/up/a?resume=0", &["Upload-Offset: 0", "Upload-Complete: ?1"], b"x", 415),
            ("HEAD", "/up/a?resume=0", &[], b"", 404),
            ("DELETE", "/up/a?resume=0", &[], b"", 404),
            ("PUT", "/up/a", &["Upload-Complete: ?1", "Upload-Length: 5"], b"x", 400),
        ];
        for (method, path, fields, content, status) in cases {
            let got = Client::connect(server.port).ask(method, path, fields, content);
            assert_eq!(got.status, *status, "{method} {path} {fields:?}: {got:?}");
            if got.status == 405 && path.starts_with("/up/") {
                assert!(got.must("allow").contains("GET"), "{got:?}");
            }
        }
        assert_eq!(names(&docroot.root()), before);
        assert_eq!(names(&docroot.path("up")), ["folder", "link"]);
        assert_eq!(names(&docroot.path("up/folder")), ["file"]);
    });
}

#[test]
fn options_lists_the_methods_and_routes_are_no_folders() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let mut client = Client::connect(server.port);
        let options = client.ask("OPTIONS", "/up/a", &[], b"").expect(204);
        assert_eq!(options.must("allow"), "GET, HEAD, PUT, POST, DELETE, MKCOL, OPTIONS");
        assert_eq!(options.must("accept-patch"), "application/partial-upload");
        assert!(options.must("upload-limit").starts_with("max-size=1073741824"), "{options:?}");
        assert_eq!(client.ask("OPTIONS", "/hello.txt", &[], b"").must("allow"), "GET, HEAD, OPTIONS");
        // Routes are no folders, even if the whole folder takes uploads.
        let all = Server::start(model, &docroot.root(), &["--upload", "/", "--api"]);
        let mut client = Client::connect(all.port);
        client.ask("PUT", "/_whirligig/health", &[], b"x").expect(405);
        client.ask("PUT", "/_whirligig/other", &[], b"x").expect(403);
        client.ask("PUT", "/api/echo", &[], b"x").expect(200).with_body("x");
        client.ask("PUT", "/top.txt", &[], b"x").expect(201);
        client.get("/top.txt").expect(200).with_body("x");
    });
}

/// No name and no link leads out of the writable folder, wherever links may lead for reading.
#[test]
fn nothing_is_written_outside_of_the_folder() {
    let docroot = docroot();
    docroot.link("../../outside", "up/out");
    docroot.link("../other", "up/beside");
    docroot.link(docroot.root().join("up"), "up/absolute");
    docroot.write("up/real/x", b"x");
    docroot.link("real", "up/inside");
    for symlinks in ["inside", "all", "no"] {
        on_both(|model| {
            let server = start(model, &docroot, &["--symlinks", symlinks]);
            for path in [
                "/up/../evil",
                "/up/%2e%2e/evil",
                "/up/x/../../evil",
                "/up/out/evil",
                "/up/beside/evil",
                "/up/beside/file.txt",
                "//evil",
                "/up/absolute/evil",
            ] {
                for method in ["PUT", "DELETE", "MKCOL"] {
                    let content: &[u8] = if method == "PUT" { b"evil" } else { b"" };
                    let got = Client::connect(server.port).ask(method, path, &[], content);
                    assert!(got.status >= 400, "{method} {path}: {got:?}");
                }
            }
            let through = put(&server, "/up/inside/new", &[], b"x").status;
            assert!(
                if symlinks == "no" { through == 403 } else { [201, 204].contains(&through) },
                "{through}"
            );
        });
        assert_eq!(names(&docroot.path("other")), ["file.txt"]);
        assert_eq!(fs::read(docroot.path("other/file.txt")).unwrap(), b"not to be written");
        assert_empty(&docroot.outside(""));
        assert_eq!(names(&docroot.root()), ["hello.txt", "other", "up"]);
    }
}

#[test]
fn of_many_writers_with_a_condition_one_wins() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        for round in 0..10 {
            let path = format!("/up/new{round}");
            let race = |fields: &[&str]| -> Vec<u16> {
                let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(server.port)).collect();
                for (number, client) in clients.iter_mut().enumerate() {
                    let whole = request("PUT", &path, fields, &[b'0' + number as u8; 50_000]);
                    client.send(&whole[..whole.len() - 1]);
                }
                for (number, client) in clients.iter_mut().enumerate() {
                    client.send([b'0' + number as u8]);
                }
                let mut statuses: Vec<u16> =
                    clients.iter_mut().map(|client| client.response().status).collect();
                statuses.sort_unstable();
                statuses
            };
            assert_eq!(race(&["If-None-Match: *"]), [201, 412, 412, 412, 412, 412]);
            // The tag of a large, young file is weak, so it matches no `If-Match`.
            docroot.set_modified(&path[1..], 1_000_000_000 + round);
            let mut client = Client::connect(server.port);
            let got = client.get(&path).expect(200);
            assert!(got.body.len() == 50_000 && got.body.iter().all(|byte| *byte == got.body[0]));
            let condition = format!("If-Match: {}", got.must("etag"));
            assert_eq!(race(&[&condition]), [204, 412, 412, 412, 412, 412]);
        }
        assert_eq!(names(&docroot.path("up")).len(), 10);
    });
}

#[test]
fn too_large_uploads_are_refused_before_the_content() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--max-upload", "100k", "--max-body", "10k", "--api"]);
        for (method, path, kind) in
            [("PUT", "/up/a", "X: y"), ("POST", "/up/", "Content-Type: multipart/form-data; boundary=b")]
        {
            let mut client = Client::connect(server.port);
            let length = "Content-Length: 102401";
            client.send(request(method, path, &[kind, length, "Expect: 100-continue"], b""));
            let refused = client.response().expect(413);
            assert_eq!(refused.interim, [0; 0], "no 100 was sent");
            assert!(refused.text().contains("larger than 100 KiB (102400 bytes)"), "{refused:?}");
        }
        let refused =
            put(&server, "/up/a", &["Upload-Complete: ?0", "Upload-Length: 102401"], b"").expect(413);
        assert!(refused.must("upload-limit").contains("max-size=102400"), "{refused:?}");
        assert!(refused.text().contains("the upload is larger than 100 KiB (102400 bytes)"), "{refused:?}");
        let mut client = Client::connect(server.port);
        client.send(request("PUT", "/up/a", &["Transfer-Encoding: chunked"], b""));
        client.send_if_open(chunked(&pattern(150_000), 5000));
        client.response().expect(413);
        assert_empty(&docroot.path("up"));
        put(&server, "/up/a", &[], &pattern(102_400)).expect(201);
        // All other content has its own limit, with every framing.
        let mut client = Client::connect(server.port);
        client.ask("POST", "/api/echo", &[], &pattern(10_240)).expect(200);
        let refused = client.ask("POST", "/api/echo", &[], &pattern(10_241)).expect(413);
        assert!(refused.text().contains("the content is larger than 10.0 KiB (10240 bytes)"), "{refused:?}");
        let mut client = Client::connect(server.port);
        client.send(request("POST", "/api/echo", &["Transfer-Encoding: chunked"], b""));
        client.send_if_open(chunked(&pattern(10_241), 1000));
        client.response().expect(413);
    });
}

#[test]
fn readers_see_one_version_or_the_other() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--fresh", "0"]);
        let versions = [vec![b'a'; 400_000], vec![b'b'; 300_000], vec![b'c'; 20_000]];
        put(&server, "/up/file", &[], &versions[0]).expect(201);
        let is_over = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut client = Client::connect(server.port);
                    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        let got = client.get("/up/file").expect(200);
                        assert!(versions.contains(&got.body), "{} bytes", got.body.len());
                    }
                });
            }
            let mut writer = Client::connect(server.port);
            for version in versions.iter().cycle().take(60) {
                writer.ask("PUT", "/up/file", &[], version).expect(204);
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(names(&docroot.path("up")), ["file"]);
    });
}

/// A cache that trusts its files for seconds must not return the old file after the response to a
/// PUT.
#[test]
fn a_get_after_the_response_sees_the_new_file() {
    for more in [&["--fresh", "60000"][..], &["--fresh", "60000", "--reactors", "3"]] {
        on_both(|model| {
            let docroot = docroot();
            docroot.write("up/file", b"0");
            // A file younger than 20 ms is never cached.
            docroot.set_modified("up/file", 1_000_000_000);
            let server = start(model, &docroot, more);
            let mut readers: Vec<Client> = (0..6).map(|_| Client::connect(server.port)).collect();
            let mut writer = Client::connect(server.port);
            for round in 1..30 {
                let text = format!("version {round}");
                writer.ask("PUT", "/up/file", &[], text.as_bytes()).expect(204);
                // Several times, some of them late enough for the file to be cached.
                for _ in 0..3 {
                    for reader in &mut readers {
                        reader.get("/up/file").expect(200).with_body(&text);
                    }
                    crate::harness::pass(Duration::from_millis(12));
                }
            }
            writer.ask("DELETE", "/up/file", &[], b"").expect(204);
            for reader in &mut readers {
                reader.get("/up/file").expect(404);
            }
        });
    }
}
