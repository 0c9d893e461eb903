//! Uploads by forms.

use std::fs;

use crate::docroot::pattern;
use crate::harness::{on_both, until};
use crate::upload::{docroot, drafts, form, names, start};
use crate::wire::{Client, request};

/// Bytes that belong to no part are ignored (RFC 2046 section 5.1.1), but not gigabytes of them.
#[test]
fn a_form_with_too_much_around_its_parts_is_refused() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let (field, whole) = form(&[("name=\"a\"; filename=\"NAME\"", b"content")]);
        let text = String::from_utf8(whole).unwrap();
        for (bytes, status) in [(10_000, 201), (20_000, 400)] {
            let contents = [
                format!("{}\r\n{text}", "x".repeat(bytes)),
                text.replace("--b0undary\r\n", &format!("--b0undary{}\r\n", " ".repeat(bytes))),
                format!("{text}{}", "x".repeat(bytes)),
            ];
            for (number, content) in contents.iter().enumerate() {
                let content = content.replace("NAME", &format!("{bytes}-{number}.txt"));
                let got = Client::connect(server.port).ask("POST", "/up/", &[field], content.as_bytes());
                assert_eq!(got.status, status, "{bytes}: {content:.40}");
            }
        }
    });
}

#[test]
fn forms_bring_files_under_their_own_names() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let up = docroot.path("up");
        let photo = pattern(700_000);
        let (kind, content) = form(&[
            ("name=\"note\"", b"a field"),
            ("name=\"file\"; filename=\"..\\..\\sub/photo.bin\"", &photo),
            ("name=\"file\"; filename=\"\"", b""),
            ("name=\"file\"; filename=\"\u{706f}.txt\"", b"\r\n--b0undar"),
        ]);
        let mut client = Client::connect(server.port);
        let got = client.ask("POST", "/up/", &[kind, "Accept: application/json"], &content).expect(201);
        assert_eq!(got.text(), "{\"files\":[\"/up/photo.bin\",\"/up/%E7%81%AF.txt\"]}\n");
        assert_eq!(names(&up), ["photo.bin", "\u{706f}.txt"]);
        client.get("/up/photo.bin").expect(200).with_body(&photo);
        client.get("/up/%E7%81%AF.txt").expect(200).with_body("\r\n--b0undar");
        // An existing file stays, unless it may be replaced.
        let (kind, content) = form(&[("name=f; filename=photo.bin", b"another")]);
        client.ask("POST", "/up/", &[kind], &content).expect(409);
        client.get("/up/photo.bin").expect(200).with_body(&photo);
        let got = client.ask("POST", "/up/?overwrite", &[kind], &content).expect(201);
        assert_eq!((got.must("location"), got.text()), ("photo.bin", "/up/photo.bin\n"));
        client.get("/up/photo.bin").expect(200).with_body("another");
        // A browser without scripts is redirected to the folder.
        let (kind, content) = form(&[("name=f; filename=b", b"b")]);
        let got = client.ask("POST", "/up", &[kind, "Accept: text/html,*/*;q=0.8"], &content).expect(303);
        assert_eq!(got.must("location"), "up/");
        for (parts, status) in [
            (&[("name=f; filename=\".hidden\"", &b"x"[..])][..], 403),
            (&[("name=f; filename=\"a%0Ab\"", b"x")], 400),
            (&[("name=f; filename=\"..\"", b"x")], 403),
            (&[("name=f", b"no file")], 400),
            (&[], 400),
        ] {
            let (kind, content) = form(parts);
            client.ask("POST", "/up/", &[kind], &content).expect(status);
        }
        // The files before the interruption exist, and nothing of the interrupted one.
        let (kind, content) = form(&[("name=f; filename=first", b"1"), ("name=f; filename=second", &photo)]);
        let mut cut = Client::connect(server.port);
        let whole = request("POST", "/up/", &[kind], &content);
        cut.send(&whole[..whole.len() - 1000]);
        until("the first file exists", || up.join("first").exists());
        drop(cut);
        until("nothing is open any more", || drafts(&server, &up) == 0);
        assert_eq!(names(&up), ["b", "first", "photo.bin", "\u{706f}.txt"]);
    });
}

#[test]
fn a_form_of_many_small_files_arrives_completely() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let heads: Vec<String> = (0..100).map(|number| format!("name=f; filename=f{number}")).collect();
        let parts: Vec<(&str, &[u8])> = heads.iter().map(|head| (head.as_str(), head.as_bytes())).collect();
        let (kind, content) = form(&parts);
        // In one piece, and with a large file after many small ones.
        let got = Client::connect(server.port).ask("POST", "/up/", &[kind], &content).expect(201);
        assert_eq!(got.text().lines().count(), 100);
        assert_eq!(names(&docroot.path("up")).len(), 100);
        let large = pattern(1_000_000);
        let (kind, content) = form(&[&parts[..], &[("name=f; filename=large", &large)], &parts[..]].concat());
        Client::connect(server.port).ask("POST", "/up/?overwrite", &[kind], &content).expect(201);
        assert_eq!(fs::read(docroot.path("up/large")).unwrap(), large);
        assert_eq!(fs::read(docroot.path("up/f99")).unwrap(), heads[99].as_bytes());
    });
}
