//! Uploads that break off or fail, and their limits: nothing is left of them.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::docroot::{Docroot, pattern};
use crate::harness::{PATIENCE, Server, now, on_both, until};
use crate::upload::{assert_empty, docroot, drafts, form, names, put, start};
use crate::wire::{Client, chunked, request};

/// Sends the first half of an upload and waits until the server has a file for it.
fn half_an_upload(server: &Server, docroot: &Docroot, path: &str) -> Client {
    let before = drafts(server, &docroot.path("up"));
    let mut client = Client::connect(server.port);
    let whole = request("PUT", path, &[], &pattern(2_000_000));
    client.send(&whole[..1_000_000]);
    until("the upload has begun", || drafts(server, &docroot.path("up")) > before);
    client
}

#[test]
fn a_crash_leaves_no_partial_file() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/old", b"old version");
        let mut server = start(model, &docroot, &[]);
        let clients = ["/up/new", "/up/old"].map(|path| half_an_upload(&server, &docroot, path));
        let begun = put(&server, "/up/resumed", &["Upload-Complete: ?0"], &pattern(500_000)).expect(201);
        server.signal(Signal::KILL);
        until("the server has ended", || !server.is_running());
        assert_eq!(names(&docroot.path("up")), ["old"]);
        assert_eq!(fs::read(docroot.path("up/old")).unwrap(), b"old version");
        drop(clients);
        // Stored partial uploads are lost with the server, and their URLs return an error.
        let server = start(model, &docroot, &[]);
        Client::connect(server.port).ask("HEAD", &begun.leads_to("/up/resumed"), &[], b"").expect(404);
    });
}

#[test]
fn an_interrupted_upload_leaves_nothing_and_the_old_version_stays() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/old", b"old version");
        let server = start(model, &docroot, &["--body-timeout", "0.5"]);
        let up = docroot.path("up");
        // The client resets, shuts its side, breaks the framing, or stops sending.
        drop(half_an_upload(&server, &docroot, "/up/old"));
        until("the cut upload is deleted", || drafts(&server, &up) == 0);
        let mut client = half_an_upload(&server, &docroot, "/up/old");
        client.finish();
        until("the cut upload is deleted", || drafts(&server, &up) == 0);
        let mut client = Client::connect(server.port);
        client.send(request("PUT", "/up/old", &["Transfer-Encoding: chunked"], b""));
        client.send(b"5\r\nhello\r\nzz\r\n");
        client.response().expect(400);
        until("the malformed upload is deleted", || drafts(&server, &up) == 0);
        let mut client = half_an_upload(&server, &docroot, "/up/new");
        client.response().expect(408);
        until("nothing is open any more", || drafts(&server, &up) == 0);
        assert_eq!(names(&up), ["old"]);
        assert_eq!(fs::read(docroot.path("up/old")).unwrap(), b"old version");
        // A slow upload is not interrupted.
        let mut client = Client::connect(server.port);
        let whole = request("PUT", "/up/slow", &[], &pattern(4000));
        for piece in whole.chunks(500) {
            assert!(client.is_quiet_for(Duration::from_millis(100)));
            assert_eq!(names(&up), ["old"], "not before it is complete");
            client.send(piece);
        }
        client.response().expect(201);
        Client::connect(server.port).get("/up/slow").expect(200).with_body(pattern(4000));
    });
}

/// An upload used to be reported as complete before it was a file, and even if it never became
/// one.
#[test]
fn an_upload_that_cannot_become_a_file_is_not_reported_as_complete() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--max-partial", "100k"]);
        let begin = |path: &str| {
            let begun = put(&server, path, &["Upload-Complete: ?0"], b"some").expect(201);
            begun.leads_to(path)
        };
        let part = ["Content-Type: application/partial-upload", "Upload-Offset: 4"];
        let place = begin("/up/a");
        fs::create_dir(docroot.path("up/a")).unwrap();
        let mut client = Client::connect(server.port);
        client.ask("PATCH", &place, &[part[0], part[1], "Upload-Complete: ?1"], b"more").expect(409);
        let mut client = Client::connect(server.port);
        client.ask("HEAD", &place, &[], b"").expect(404);
        // An upload that exceeds the room is not stored, either.
        let place = begin("/up/b");
        let mut client = Client::connect(server.port);
        let fields = [part[0], part[1], "Upload-Complete: ?0", "Transfer-Encoding: chunked"];
        client.send(request("PATCH", &place, &fields, b""));
        client.send_if_open(chunked(&pattern(600_000), 10_000));
        client.response().expect(507);
        Client::connect(server.port).ask("HEAD", &place, &[], b"").expect(404);
        until("nothing is open any more", || drafts(&server, &docroot.path("up")) == 0);
        assert_eq!(names(&docroot.path("up")), ["a"]);
    });
}

/// A limit on the size of files simulates a full disk: both fail in the middle of writing.
#[test]
fn a_full_disk_is_reported_and_leaves_nothing() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let limit = Rlimit { current: Some(1_000_000), maximum: None };
        prlimit(Some(server.pid()), Resource::Fsize, limit).unwrap();
        for fields in [&[][..], &["Transfer-Encoding: chunked"]] {
            let content = pattern(3_000_000);
            let mut client = Client::connect(server.port);
            let mut asked = request("PUT", "/up/a", fields, if fields.is_empty() { &content } else { b"" });
            if !fields.is_empty() {
                asked.extend(chunked(&content, 100_000));
            }
            client.send_if_open(&asked);
            client.response().expect(507);
        }
        let (kind, content) = form(&[("name=f; filename=a", &pattern(3_000_000))]);
        let mut client = Client::connect(server.port);
        client.send_if_open(request("POST", "/up/", &[kind], &content));
        client.response().expect(507);
        until("nothing is open any more", || drafts(&server, &docroot.path("up")) == 0);
        assert_empty(&docroot.path("up"));
        put(&server, "/up/small", &[], &pattern(500_000)).expect(201);
    });
}

#[test]
fn concurrent_uploads_are_limited() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--max-uploads", "2"]);
        let mut busy = ["/up/a", "/up/b"].map(|path| half_an_upload(&server, &docroot, path));
        let refused = put(&server, "/up/c", &[], b"x").expect(503);
        refused.must("retry-after");
        Client::connect(server.port).get("/hello.txt").expect(200);
        busy[0].send(&request("PUT", "/up/a", &[], &pattern(2_000_000))[1_000_000..]);
        busy[0].response().expect(201);
        put(&server, "/up/c", &[], b"x").expect(201);
    });
}

/// Many slow uploads delay no other client.
#[test]
fn others_are_served_while_many_upload() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--max-uploads", "200"]);
        let mut slow: Vec<Client> = (0..100)
            .map(|number| {
                let mut client = Client::connect(server.port);
                let whole = request("PUT", &format!("/up/{number}"), &[], &pattern(300_000));
                client.send(&whole[..280_000]);
                client
            })
            .collect();
        let mut reader = Client::connect(server.port);
        let began = now();
        for _ in 0..50 {
            reader.get("/hello.txt").expect(200);
        }
        assert!(now().duration_since(began) < PATIENCE / 2);
        for (number, client) in slow.iter_mut().enumerate() {
            let whole = request("PUT", &format!("/up/{number}"), &[], &pattern(300_000));
            client.send(&whole[280_000..]);
        }
        for client in &mut slow {
            client.response().expect(201);
        }
        assert_eq!(names(&docroot.path("up")).len(), 100);
    });
}
