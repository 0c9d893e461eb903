//! Headers on several lines: all lines of a list count, and of a header that may occur only once no
//! line is selected.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::docroot::Docroot;
use crate::harness::{Server, on_both};
use crate::wire::{Client, Response, request};

/// Returns the response to a POST of five bytes with these lines, and the bytes before it.
fn post(port: u16, version: &str, lines: &[&str]) -> Response {
    let mut client = Client::connect(port);
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    client.send(format!(
        "POST /api/echo HTTP/{version}\r\nHost: localhost\r\n{lines}Content-Length: 5\r\n\r\n"
    ));
    client.send_if_open("hello");
    client.response()
}

#[test]
fn expectations_on_several_lines_are_one_list() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        for lines in [
            &["Expect: x", "Expect: 100-continue"][..],
            &["Expect: 100-continue", "Expect: x"],
            &["Expect: 100-continue", "expect: 100-continue", "EXPECT: gzip"],
            &["Expect: x", "Expect: y"],
            &["Expect: 100-continue, x"],
            &["Expect: x,100-continue"],
            &["Expect:", "Expect: 100-continue"],
            &["Expect: 100-continue;q=1"],
            &["Expect: x", "X: between", "Expect: 100-continue"],
        ] {
            let refused = post(server.port, "1.1", lines).expect(417);
            assert!(refused.interim.is_empty() && refused.says_close(), "{lines:?}: {refused:?}");
        }
        for lines in [
            &["Expect: 100-continue", "Expect: 100-Continue"][..],
            &["Expect: 100-continue, 100-continue"],
            &["Expect: 100-continue,"],
            &["Expect: ,100-continue"],
        ] {
            post(server.port, "1.1", lines).expect(200).with_body("hello");
        }
        let old = post(server.port, "1.0", &["Expect: x", "Expect: 100-continue"]).expect(200);
        assert!(old.interim.is_empty(), "{old:?}");
    });
}

#[test]
fn a_range_with_two_conditions_is_the_whole_file() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let tag = client.get("/k1.bin").expect(200).must("etag").to_owned();
        let (right, wrong) = (format!("If-Range: {tag}"), "If-Range: \"other\"");
        client.ask("GET", "/k1.bin", &["Range: bytes=0-9", &right], b"").expect(206);
        for conditions in [[&right, wrong], [wrong, &right], [&right, &right]] {
            let fields = ["Range: bytes=0-9", conditions[0], conditions[1]];
            client.ask("GET", "/k1.bin", &fields, b"").expect(200);
        }
        // These headers are lists.
        let fields = ["If-None-Match: \"a\"", &format!("If-None-Match: {tag}")];
        client.ask("GET", "/k1.bin", &fields, b"").expect(304);
        let fields = ["Accept: text/html;q=0", "Accept: application/json"];
        let listing = client.ask("GET", "/plain/", &fields, b"").expect(200);
        assert!(listing.must("content-type").starts_with("application/json"));
        client.ask("GET", "/hello.txt", &["Connection: x", "Connection: close"], b"").expect(200);
        client.assert_closed();
    });
}

#[test]
fn an_upload_does_not_select_one_of_two_lines() {
    on_both(|model| {
        let docroot = Docroot::new();
        fs::create_dir(docroot.path("up")).unwrap();
        let server = Server::start(model, &docroot.root(), &["--upload", "/up"]);
        let ask = |method: &str, path: &str, fields: &[&str], content: &[u8]| {
            Client::connect(server.port).ask(method, path, fields, content)
        };
        for (fields, status) in [
            (["Content-Encoding: identity", "Content-Encoding: gzip"], 415),
            (["Content-Encoding: gzip", "Content-Encoding: identity"], 415),
            (["Content-Encoding: identity, br", "X: y"], 415),
            (["Upload-Complete: ?1", "Upload-Complete: ?0"], 400),
            (["Upload-Complete: ?0", "Upload-Complete: ?0"], 400),
            (["Upload-Length: 1", "Upload-Length: 5"], 400),
            (["If-Match: \"a\"", "If-Match: \"b\""], 412),
            (["Origin: http://localhost", "Origin: http://evil.example"], 403),
            (["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"], 403),
        ] {
            // `Upload-Length` alone has no effect.
            let fields = [&fields[..], &["Upload-Draft-Interop-Version: 8"]].concat();
            let got = ask("PUT", "/up/a", &fields, b"hello");
            assert_eq!(got.status, status, "{fields:?}");
        }
        let kind = "Content-Type: multipart/form-data; boundary=b";
        let form = b"--b\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r\nx\r\n--b--\r\n";
        for kinds in [[kind, "Content-Type: text/plain"], ["Content-Type: text/plain", kind], [kind, kind]] {
            ask("POST", "/up/", &kinds, form).expect(400);
        }
        assert_eq!(fs::read_dir(docroot.path("up")).unwrap().count(), 0);
        ask("PUT", "/up/a", &["Content-Encoding: identity", "Content-Encoding: identity"], b"x").expect(201);
        // The second line requests that the file is new.
        let fields = ["If-None-Match: \"other\"", "If-None-Match: *"];
        ask("PUT", "/up/a", &fields, b"y").expect(412);
    });
}

#[test]
fn an_append_with_two_offsets_is_refused() {
    on_both(|model| {
        let docroot = Docroot::new();
        fs::create_dir(docroot.path("up")).unwrap();
        let server = Server::start(model, &docroot.root(), &["--upload", "/up"]);
        let mut client = Client::connect(server.port);
        let begun = client.ask("PUT", "/up/a", &["Upload-Complete: ?0"], b"hello").expect(201);
        let place = begun.leads_to("/up/a");
        let part = "Content-Type: application/partial-upload";
        let (done, offset) = ("Upload-Complete: ?1", "Upload-Offset: 5");
        for fields in [
            [part, done, offset, "Upload-Offset: 0"],
            [part, done, offset, offset],
            [part, done, "Upload-Complete: ?0", offset],
            [part, part, done, offset],
        ] {
            Client::connect(server.port).ask("PATCH", &place, &fields, b" all").expect(400);
        }
        Client::connect(server.port).ask("PATCH", &place, &[part, done, offset], b" all").expect(201);
        assert_eq!(fs::read(docroot.path("up/a")).unwrap(), b"hello all");
    });
}

#[test]
fn two_origins_may_not_read() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--cors", "https://a.example"]);
        let mut client = Client::connect(server.port);
        let (allowed, other) = ("Origin: https://a.example", "Origin: https://b.example");
        let one = client.ask("GET", "/hello.txt", &[allowed], b"").expect(200);
        assert_eq!(one.must("access-control-allow-origin"), "https://a.example");
        for fields in [[allowed, other], [other, allowed], [allowed, allowed]] {
            let got = client.ask("GET", "/hello.txt", &fields, b"").expect(200);
            assert_eq!(got.field("access-control-allow-origin"), None, "{fields:?}");
        }
    });
}

#[test]
fn a_program_sees_every_line_of_a_type() {
    let docroot = Docroot::new();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("type");
    fs::write(&script, "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s' \"$CONTENT_TYPE\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let flag = format!("/cgi={}", folder.path().display());
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--cgi", &flag]);
        for (fields, shown) in [
            (&["Content-Type: a/b", "Content-Type: c/d"][..], "a/b, c/d"),
            (&["Content-Type: a/b"], "a/b"),
            (&[], ""),
        ] {
            let mut client = Client::connect(server.port);
            client.send(request("POST", "/cgi/type", fields, b"x"));
            client.response().expect(200).with_body(shown);
        }
    });
}
