//! Coded files: the right form for every client, in every combination with ranges and conditions.

use std::io::Read as _;

use flate2::read::GzDecoder;

use crate::docroot::Docroot;
use crate::harness::{Server, on_both, until};
use crate::wire::{Client, Framing, Response};

const BROTLI: &[u8] = b"pretends to be brotli, 0123456789";
const ZSTD: &[u8] = b"pretends to be zstd";

/// Returns text that compresses well, with no two lines equal.
fn text(lines: usize) -> Vec<u8> {
    (0..lines).flat_map(|line| format!("line {line} of {}\n", line * 7919 % 10_007).into_bytes()).collect()
}

/// Returns bytes that do not compress (xorshift; Marsaglia 2003).
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Creates a site with one of everything: small and large text with and without coded files, an
/// index, and files that are not worth compressing.
fn site() -> Docroot {
    let docroot = Docroot::empty();
    for name in ["page.html", "index.html", "folder/index.html", "plain.txt"] {
        docroot.write(name, text(200));
    }
    for name in ["page.html", "index.html", "folder/index.html"] {
        docroot.write(&format!("{name}.br"), BROTLI);
        docroot.write(&format!("{name}.zst"), ZSTD);
        docroot.write(&format!("{name}.gz"), gzip(&text(200)));
    }
    docroot.write("large.txt", text(100_000));
    docroot.write("tiny.txt", b"tiny text");
    docroot.write("random.txt", noise(3000));
    docroot.write("image.png", noise(3000));
    docroot.write("image.png.br", BROTLI);
    docroot.write("data.bin", noise(3000));
    docroot.write("data.bin.br", BROTLI);
    docroot
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(content, flate2::Compression::fast());
    encoder.read_to_end(&mut coded).unwrap();
    coded
}

fn unzip(coded: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    GzDecoder::new(coded).read_to_end(&mut content).unwrap();
    content
}

fn ask(client: &mut Client, path: &str, fields: &[&str]) -> Response {
    client.ask("GET", path, fields, b"")
}

/// Checks everything that must be true of a form.
fn check_form(client: &mut Client, path: &str, accept: &str, coding: Option<&str>, content: &[u8]) {
    let accept = format!("Accept-Encoding: {accept}");
    // The second response comes from memory.
    for _ in 0..2 {
        let got = ask(client, path, &[&accept]).expect(200);
        assert_eq!(got.field("content-encoding"), coding, "{path} for {accept}");
        match coding {
            Some("gzip") => assert_eq!(unzip(&got.body), content, "{path} for {accept}"),
            _ => assert_eq!(got.body, content, "{path} for {accept}"),
        }
    }
    let got = ask(client, path, &[&accept]).expect(200);
    let etag = got.must("etag").to_owned();
    let head = client.ask("HEAD", path, &[&accept], b"").expect(200);
    for name in ["content-type", "content-encoding", "etag", "vary", "content-length", "last-modified"] {
        assert_eq!(head.field(name), got.field(name), "{name} of {path} for {accept}");
    }
    let same = ask(client, path, &[&accept, &format!("If-None-Match: {etag}")]).expect(304);
    assert_eq!((same.field("etag"), same.field("vary")), (Some(&*etag), got.field("vary")), "{path}");
    ask(client, path, &[&accept, "If-None-Match: \"other\""]).expect(200);
    let matched = ask(client, path, &[&accept, &format!("If-Match: {etag}")]);
    assert_eq!(matched.status, if etag.starts_with("W/") { 412 } else { 200 }, "{path} for {accept}");
    // A range is always part of a stored form, and the response names its coding.
    let part = ask(client, path, &[&accept, "Range: bytes=2-5"]).expect(206);
    match part.field("content-encoding") {
        Some(_) => assert_eq!(part.body, got.body[2..6], "{path} for {accept}"),
        None => assert_eq!(part.body.len(), 4),
    }
    if !etag.starts_with("W/") {
        assert_eq!(part.must("etag"), etag, "{path} for {accept}");
        assert_eq!(part.body, got.body[2..6], "{path} for {accept}");
        let whole = ask(client, path, &[&accept, "Range: bytes=2-5", "If-Range: \"other\""]).expect(200);
        assert_eq!(whole.field("content-encoding"), coding);
        let part =
            ask(client, path, &[&accept, "Range: bytes=2-5", &format!("If-Range: {etag}")]).expect(206);
        assert_eq!(part.body, got.body[2..6]);
    }
}

#[test]
fn every_client_gets_its_form_of_every_file() {
    let site = site();
    let page = text(200);
    on_both(|model| {
        let server = Server::start(model, &site.root(), &[]);
        let client = &mut Client::connect(server.port);
        for path in ["/page.html", "/", "/folder/"] {
            for (accept, coding, content) in [
                ("gzip, deflate, br, zstd", Some("br"), BROTLI),
                ("gzip, zstd", Some("zstd"), ZSTD),
                ("gzip;q=1, br;q=0.5", Some("gzip"), &page),
                ("gzip", Some("gzip"), &page),
                ("identity, gzip;q=0.2", None, &page),
                ("br;q=0, zstd;q=0, gzip;q=0", None, &page),
                ("deflate", None, &page),
            ] {
                check_form(client, path, accept, coding, content);
            }
        }
        check_form(client, "/plain.txt", "br, gzip", Some("gzip"), &page);
        check_form(client, "/large.txt", "br, gzip", Some("gzip"), &text(100_000));
        check_form(client, "/tiny.txt", "gzip", None, b"tiny text");
        check_form(client, "/random.txt", "gzip", None, &noise(3000));
        check_form(client, "/image.png", "br, gzip", None, &noise(3000));
        check_form(client, "/data.bin", "gzip", None, &noise(3000));
        check_form(client, "/data.bin", "br", Some("br"), BROTLI);
        check_form(client, "/page.html.br", "br", None, BROTLI);
    });
}

#[test]
fn forms_have_different_tags_and_a_vary_header() {
    let site = site();
    on_both(|model| {
        let server = Server::start(model, &site.root(), &[]);
        let client = &mut Client::connect(server.port);
        for path in ["/page.html", "/plain.txt", "/large.txt"] {
            let mut tags: Vec<String> = ["identity", "br", "zstd", "gzip"]
                .iter()
                .map(|accept| {
                    let got = ask(client, path, &[&format!("Accept-Encoding: {accept}")]).expect(200);
                    assert_eq!(got.must("vary"), "Accept-Encoding", "{path} {accept}");
                    format!("{:?} {}", got.field("content-encoding"), got.must("etag"))
                })
                .collect();
            assert_eq!(client.get(path).must("vary"), "Accept-Encoding");
            tags.sort();
            tags.dedup();
            let opaque: Vec<&str> =
                tags.iter().filter_map(|tag| tag.split_once(' ')).map(|(_, tag)| tag).collect();
            let mut distinct = opaque.clone();
            distinct.dedup();
            assert_eq!(opaque, distinct, "{path}");
            assert_eq!(tags.len(), if path == "/page.html" { 4 } else { 2 }, "{tags:?}");
        }
        assert_eq!(client.get("/image.png").field("vary"), None);
    });
}

#[test]
fn a_client_that_refuses_the_original_gets_a_coding_or_a_406() {
    let site = site();
    on_both(|model| {
        let server = Server::start(model, &site.root(), &[]);
        let client = &mut Client::connect(server.port);
        for path in ["/tiny.txt", "/image.png", "/random.txt", "/plain.txt", "/large.txt"] {
            let got = ask(client, path, &["Accept-Encoding: gzip, identity;q=0"]).expect(200);
            assert_eq!(got.must("content-encoding"), "gzip", "{path}");
            assert_eq!(unzip(&got.body), client.get(path).expect(200).body, "{path}");
            ask(client, path, &["Accept-Encoding: identity;q=0"]).expect(406);
            ask(client, path, &["Accept-Encoding: *;q=0"]).expect(406);
        }
        let plain = Server::start(model, &site.root(), &["--compress", "off", "--no-precompressed"]);
        let client = &mut Client::connect(plain.port);
        assert_eq!(ask(client, "/page.html", &["Accept-Encoding: gzip, br"]).field("content-encoding"), None);
        ask(client, "/page.html", &["Accept-Encoding: gzip, identity;q=0"]).expect(406);
    });
}

#[test]
fn large_content_is_compressed_while_it_is_sent() {
    let site = site();
    let content = text(100_000);
    on_both(|model| {
        let server = Server::start(model, &site.root(), &[]);
        let client = &mut Client::connect(server.port);
        let got = ask(client, "/large.txt", &["Accept-Encoding: gzip"]).expect(200);
        assert_eq!(got.framing, Framing::Chunked);
        assert!(got.body.len() < content.len() / 2, "{} of {}", got.body.len(), content.len());
        assert_eq!(got.field("accept-ranges"), None);
        // HTTP/1.0 has no chunks, so it gets the original with its length.
        client.send("GET /large.txt HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n");
        let old = client.response().expect(200).with_body(&content);
        assert_eq!(old.framing, Framing::Length);
    });
}

#[test]
fn compressors_are_limited_and_freed() {
    let site = site();
    on_both(|model| {
        let server = Server::start(model, &site.root(), &["--max-compressors", "1"]);
        let accept = "GET /large.txt HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
        let coding = |client: &mut Client| {
            client.send(accept);
            client.response().expect(200).field("content-encoding").map(str::to_owned)
        };
        // This client reads nothing, so the compressor stays in use.
        let mut slow = Client::connect_narrow(server.port);
        slow.send(accept);
        // Its response has begun, so it arrived first.
        assert_eq!(slow.read_some(1), b"H");
        let mut other = Client::connect(server.port);
        until("the only compressor is in use", || coding(&mut other).is_none());
        drop(slow);
        until("the compressor is free again", || coding(&mut other).as_deref() == Some("gzip"));
    });
}

#[test]
fn a_coded_file_is_as_fresh_as_its_original() {
    on_both(|model| {
        let site = site();
        let server = Server::start(model, &site.root(), &["--fresh", "0"]);
        let client = &mut Client::connect(server.port);
        let accept = ["Accept-Encoding: br, gzip"];
        for round in 0..50 {
            let coded = format!("coded in round {round}");
            site.write("page.html.br", &coded);
            assert_eq!(ask(client, "/page.html", &accept).expect(200).body, coded.as_bytes());
            std::fs::remove_file(site.path("page.html.br")).unwrap();
            let got = ask(client, "/page.html", &accept).expect(200);
            assert_eq!(got.must("content-encoding"), "gzip", "round {round}");
            let changed = text(100 + round);
            site.write("plain.txt", &changed);
            assert_eq!(unzip(&ask(client, "/plain.txt", &accept).expect(200).body), changed);
        }
        // Coded from an older version of the page, so it must not be used.
        site.write("page.html.br", BROTLI);
        site.set_modified("page.html.br", 1_000_000_000);
        assert_eq!(ask(client, "/page.html", &accept).expect(200).must("content-encoding"), "gzip");
    });
}

#[test]
fn names_without_html_and_pages_for_missing_files() {
    let docroot = Docroot::empty();
    docroot.write("index.html", "home");
    docroot.write("about.html", "about us");
    docroot.write("docs/index.html", "docs");
    docroot.write("404.html", "nothing here, friend");
    docroot.write("403.html", "not for you");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--clean-urls", "--error-page", "404=404.html"]);
        let client = &mut Client::connect(server.port);
        let about = client.get("/about").expect(200).with_body("about us");
        assert_eq!(about.must("content-type"), "text/html; charset=utf-8");
        ask(client, "/about", &[&format!("If-None-Match: {}", about.must("etag"))]).expect(304);
        for (path, location) in
            [("/about.html?a=b", "about?a=b"), ("/index.html", "./"), ("/docs/index.html", "./")]
        {
            assert_eq!(client.get(path).expect(301).must("location"), location, "{path}");
        }
        client.get("/").expect(200).with_body("home");
        // A folder of that name does not exist, but the page does.
        assert_eq!(client.get("/about/").expect(301).must("location"), "../about");
        for path in ["/missing", "/missing.html", "/missing/", "/about/more"] {
            let missing = client.get(path).expect(404).with_body("nothing here, friend");
            assert_eq!((missing.field("etag"), missing.field("last-modified")), (None, None));
            ask(client, path, &["Range: bytes=0-3", "If-None-Match: *"]).expect(404);
        }
        client.ask("HEAD", "/missing", &[], b"").expect(404);
        let spa = Server::start(model, &docroot.root(), &["--spa", "--error-page", "404=/404.html"]);
        let client = &mut Client::connect(spa.port);
        let browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";
        ask(client, "/users/17", &[browser]).expect(200).with_body("home");
        ask(client, "/logo.png", &["Accept: image/*"]).expect(404).with_body("nothing here, friend");
        ask(client, "/about.html", &[browser]).expect(200).with_body("about us");
        // A client that accepts anything may want a page, unless the path names a file.
        for accept in [
            "Accept: */*",
            "Accept:",
            "X-None: 1",
            "Accept: text/*",
            "Accept: text/html, text/plain",
            "Accept: application/json;q=0.5, */*;q=0.8",
            "Accept: *",
        ] {
            for path in ["/users/17", "/users/17?v=1.2", "/users/", "/v1.2/users", "/users/a."] {
                ask(client, path, &[accept]).expect(200).with_body("home");
                assert!(ask(client, path, &[accept]).varies_by("accept"), "{path}");
                client.ask("HEAD", path, &[accept], b"").expect(200);
            }
            for path in ["/missing.js", "/a/b.css?c", "/x.woff2", "/users/john.doe", "/a%2Ejs"] {
                ask(client, path, &[accept]).expect(404);
            }
        }
        // These prefer another type, or refuse a page.
        for accept in [
            "Accept: image/avif,image/webp,*/*;q=0.8",
            "Accept: application/json, text/plain, */*",
            "Accept: text/css,*/*;q=0.1",
            "Accept: application/json",
            "Accept: text/html;q=0, */*",
            "Accept: */*;q=0",
        ] {
            ask(client, "/users/17", &[accept]).expect(404);
        }
        // A page that a browser navigates to may have any name.
        ask(client, "/users/john.doe", &[browser]).expect(200).with_body("home");
        // A response that depends on the request headers has a Vary header, so that a cache does
        // not mix them up.
        let bare = Server::start(model, &docroot.root(), &["--spa"]);
        let plain = Server::start(model, &docroot.root(), &[]);
        for (port, path, depends) in [
            (spa.port, "/users/17", true),
            (spa.port, "/logo.png", true),
            (bare.port, "/users/17", true),
            (bare.port, "/", false),
            (bare.port, "/about.html", false),
            // Without the page of the application, the form of the error depends on Accept.
            (plain.port, "/users/17", true),
            (plain.port, "/", false),
        ] {
            let mut client = Client::connect(port);
            for accept in [browser, "Accept: image/*"] {
                for _ in 0..2 {
                    let got = ask(&mut client, path, &[accept]);
                    assert_eq!(got.varies_by("accept"), depends, "{path} {accept}: {got:?}");
                }
            }
        }
    });
}
