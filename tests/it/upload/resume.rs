//! Resumable uploads.

use crate::docroot::pattern;
use crate::harness::{Server, on_both, until};
use crate::upload::{assert_empty, docroot, drafts, names, put, start, until_written};
use crate::wire::{Client, request, resolve};

/// The page of a folder sends files as resumable uploads, so there must be room for the largest
/// permitted file.
#[test]
fn an_upload_that_is_small_enough_can_be_resumed() {
    on_both(|model| {
        let docroot = docroot();
        let begin = |server: &Server, length: u64| {
            let length = format!("Upload-Length: {length}");
            put(server, "/up/long", &["Upload-Complete: ?0", &length], b"start")
        };
        const GIB: u64 = 1 << 30;
        let server = start(model, &docroot, &["--max-upload", "4G"]);
        for length in [GIB + 1, 2 * GIB, 4 * GIB] {
            begin(&server, length).expect(201);
        }
        let refused = begin(&server, 4 * GIB + 1).expect(413);
        assert!(refused.text().contains("larger than 4.0 GiB"), "{refused:?}");
        // The room set by the operator applies, even if it is smaller.
        let server = start(model, &docroot, &["--max-upload", "4G", "--max-partial", "1M"]);
        let refused = begin(&server, (1 << 20) + 1).expect(413);
        assert!(
            refused.text().contains("larger than 1.0 MiB (1048576 bytes), and cannot be resumed"),
            "{refused:?}"
        );
    });
}

#[test]
fn an_interrupted_upload_can_be_resumed() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let content = pattern(3_000_000);
        let length = format!("Upload-Length: {}", content.len());
        let mut client = Client::connect(server.port);
        // Starts with an empty request, whose response contains the URL of the upload.
        let begun = client.ask("PUT", "/up/file", &["Upload-Complete: ?0", &length], b"").expect(201);
        assert_eq!((begun.must("upload-complete"), begun.must("upload-offset")), ("?0", "0"));
        assert!(begun.must("location").starts_with("file?resume="), "{begun:?}");
        let place = begun.leads_to("/up/file");
        let part = |offset: usize, complete: &str| {
            let offset = format!("Upload-Offset: {offset}");
            let complete = format!("Upload-Complete: {complete}");
            [offset, complete, "Content-Type: application/partial-upload".to_owned()]
        };
        let patch = |offset: usize, complete: &str, data: &[u8]| {
            let fields = part(offset, complete);
            request("PATCH", &place, &fields.each_ref().map(String::as_str), data)
        };
        client.send(patch(0, "?0", &content[..100_000]));
        let appended = client.response().expect(204);
        assert_eq!((appended.must("upload-complete"), appended.must("upload-offset")), ("?0", "100000"));
        // Interrupted in the middle of the rest.
        let rest = patch(100_000, "?1", &content[100_000..]);
        let mut cut = Client::connect(server.port);
        cut.send(&rest[..1_500_000]);
        until_written(&server, &docroot.path("up"), 1_000_000);
        drop(cut);
        let (offset, _) = stand(&mut client, &place);
        assert!((1_000_000..1_600_000).contains(&offset), "{offset}");
        assert_empty(&docroot.path("up"));
        // The upload continues only at its current offset.
        client.send(patch(offset + 1, "?1", &content[offset + 1..]));
        let wrong = client.response().expect(409);
        let mut client = Client::connect(server.port);
        assert_eq!(wrong.must("upload-offset"), offset.to_string());
        assert!(wrong.text().contains("#mismatching-upload-offset"), "{wrong:?}");
        assert!(wrong.text().contains(&format!("\"expected-offset\":{offset}")), "{wrong:?}");
        client.send(patch(offset, "?1", b"too short"));
        let wrong = client.response().expect(400);
        assert!(wrong.text().contains("#inconsistent-upload-length"), "{wrong:?}");
        // The rest.
        client.send(patch(offset, "?1", &content[offset..]));
        let done = client.response().expect(201);
        assert_eq!((done.must("upload-complete"), done.must("location")), ("?1", "file"));
        client.get("/up/file").expect(200).with_body(&content);
        let after = client.ask("HEAD", &place, &[], b"").expect(204);
        assert_eq!((after.must("upload-complete"), after.must("upload-offset")), ("?1", "3000000"));
        client.send(patch(content.len(), "?1", b""));
        assert!(client.response().expect(400).text().contains("#completed-upload"));
        assert_eq!(names(&docroot.path("up")), ["file"]);
    });
}

/// Returns the state of an upload: its offset and its `Upload-Complete`.
fn stand(client: &mut Client, place: &str) -> (usize, String) {
    let got = client.ask("HEAD", place, &[], b"").expect(204);
    assert_eq!(got.must("cache-control"), "no-store");
    assert!(got.must("upload-limit").contains("max-age="), "{got:?}");
    (got.must("upload-offset").parse().unwrap(), got.must("upload-complete").to_owned())
}

/// A complete upload gets the URL of a resumable one in a 104, if the client supports that. After
/// an interruption the received part is kept.
#[test]
fn a_complete_upload_becomes_resumable() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let content = pattern(2_000_000);
        let fields = ["Upload-Complete: ?1", "Upload-Draft-Interop-Version: 8"];
        let mut cut = Client::connect(server.port);
        cut.send(&request("PUT", "/up/file", &fields, &content)[..1_200_000]);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push_str(std::str::from_utf8(&cut.read_some(1)).unwrap());
        }
        assert!(head.starts_with("HTTP/1.1 104 Upload Resumption Supported\r\n"), "{head}");
        assert!(head.contains("\r\nUpload-Draft-Interop-Version: 8\r\n"), "{head}");
        let place = head.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap();
        let place = resolve("/up/file", place);
        let up = docroot.path("up");
        until_written(&server, &up, 1_000_000);
        drop(cut);
        let mut client = Client::connect(server.port);
        let (offset, complete) = stand(&mut client, &place);
        assert!((1_000_000..1_200_000).contains(&offset) && complete == "?0", "{offset} {complete}");
        let offset_field = format!("Upload-Offset: {offset}");
        let more = ["Content-Type: application/partial-upload", "Upload-Complete: ?1", &offset_field];
        client.ask("PATCH", &place, &more, &content[offset..]).expect(201);
        client.get("/up/file").expect(200).with_body(&content);
        // A complete request, and a request without the version, is an ordinary upload.
        let got = put(&server, "/up/file", &fields, b"short").expect(204);
        assert_eq!((&got.interim[..], got.must("upload-complete")), (&[104][..], "?1"));
        let got = put(&server, "/up/file", &fields[..1], b"short").expect(204);
        assert_eq!(got.interim, [0; 0]);
        let mut old = Client::connect(server.port);
        let whole = request("PUT", "/up/file", &fields, b"short");
        old.send(String::from_utf8(whole).unwrap().replace("HTTP/1.1", "HTTP/1.0"));
        assert_eq!(old.response().expect(204).interim, [0; 0], "HTTP/1.0 has no interim responses");
        assert_eq!(names(&up), ["file"]);
    });
}

#[test]
fn a_later_request_ends_an_earlier_one_for_the_same_upload() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let content = pattern(2_000_000);
        let mut client = Client::connect(server.port);
        let place = client.ask("PUT", "/up/file", &["Upload-Complete: ?0"], b"").expect(201);
        let place = place.leads_to("/up/file");
        let fields = ["Content-Type: application/partial-upload", "Upload-Complete: ?1", "Upload-Offset: 0"];
        let mut earlier = Client::connect(server.port);
        let whole = request("PATCH", &place, &fields, &content);
        earlier.send(&whole[..1_000_000]);
        until_written(&server, &docroot.path("up"), 500_000);
        let (offset, _) = stand(&mut client, &place);
        earlier.send_if_open(&whole[1_000_000..]);
        assert_eq!(earlier.response().status, 409, "the earlier one is over");
        assert_eq!(stand(&mut client, &place).0, offset, "and has added nothing since");
        let offset_field = format!("Upload-Offset: {offset}");
        client.ask("PATCH", &place, &[fields[0], fields[1], &offset_field], &content[offset..]).expect(201);
        client.get("/up/file").expect(200).with_body(&content);
        // A cancelled upload is deleted.
        let place = client.ask("PUT", "/up/b", &["Upload-Complete: ?0"], b"some").expect(201);
        let place = place.leads_to("/up/b");
        assert_eq!(drafts(&server, &docroot.path("up")), 1);
        client.ask("HEAD", &place.replace("/up/b", "/up/c"), &[], b"").expect(404);
        client.ask("DELETE", &place, &[], b"").expect(204);
        client.ask("HEAD", &place, &[], b"").expect(404);
        assert_eq!(drafts(&server, &docroot.path("up")), 0);
        assert_eq!(names(&docroot.path("up")), ["file"]);
    });
}

#[test]
fn partial_uploads_are_limited_in_age_and_bytes() {
    on_both(|model| {
        let docroot = docroot();
        let up = docroot.path("up");
        let server = start(model, &docroot, &["--partial-timeout", "0.4"]);
        let begun = put(&server, "/up/a", &["Upload-Complete: ?0"], b"some").expect(201);
        assert_eq!(drafts(&server, &up), 1);
        until("the upload has expired", || drafts(&server, &up) == 0);
        Client::connect(server.port).ask("HEAD", &begun.leads_to("/up/a"), &[], b"").expect(404);
        // The oldest upload is dropped if there is not enough room.
        let server = start(model, &docroot, &["--max-partial", "100k"]);
        let mut client = Client::connect(server.port);
        let begin = |name: &str, bytes: usize| {
            let begun =
                put(&server, &format!("/up/{name}"), &["Upload-Complete: ?0"], &pattern(bytes)).expect(201);
            begun.leads_to(&format!("/up/{name}"))
        };
        let places = [begin("a", 40_000), begin("b", 40_000), begin("c", 40_000)];
        let kept = places.map(|place| client.ask("HEAD", &place, &[], b"").status);
        assert_eq!(kept, [404, 204, 204]);
        assert_eq!(drafts(&server, &up), 2);
        put(&server, "/up/d", &["Upload-Complete: ?0", "Upload-Length: 200000"], b"").expect(413);
        // Without any room, uploads still work but cannot be resumed.
        let server = start(model, &docroot, &["--max-partial", "0"]);
        let fields = ["Upload-Complete: ?1", "Upload-Draft-Interop-Version: 8"];
        assert_eq!(put(&server, "/up/e", &fields, b"whole").expect(201).interim, [0; 0]);
        put(&server, "/up/f", &["Upload-Complete: ?0"], b"part").expect(413);
        assert_eq!(names(&up), ["e"]);
    });
}
