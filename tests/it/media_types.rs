//! Media types: by file name, by the declaration in a text, and by the operator's rules.

use std::fs;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::docroot::Docroot;
use crate::harness::{Server, on_both};
use crate::wire::{Client, Response};

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Returns the `Content-Type` of a file in all its coded forms.
fn types_of(client: &mut Client, path: &str) -> Vec<String> {
    let mut types = Vec::new();
    for (method, fields, status) in [
        ("GET", &[][..], 200),
        ("GET", &[], 200),
        ("HEAD", &[], 200),
        ("GET", &["Accept-Encoding: gzip"], 200),
        ("GET", &["Range: bytes=1-2"], 206),
    ] {
        let got = client.ask(method, path, fields, b"").expect(status);
        types.push(got.must("content-type").to_owned());
    }
    let parts = client.ask("GET", path, &["Range: bytes=0-1,5-6"], b"").expect(206);
    let text = String::from_utf8_lossy(&parts.body).into_owned();
    let lines = text.lines().filter_map(|line| line.strip_prefix("Content-Type: "));
    types.extend(lines.map(str::to_owned));
    types
}

#[test]
fn a_declared_charset_is_not_contradicted() {
    const UTF_8: &str = "text/html; charset=utf-8";
    let cases: [(&str, &[u8], &str); 14] = [
        ("gbk.html", b"<!doctype html><html><head><meta charset=gbk><title>\xd6\xd0</title>", "text/html"),
        ("pragma.htm", b"<META HTTP-EQUIV=Content-Type CONTENT='text/html; charset=koi8-r'>", "text/html"),
        ("marked.html", b"\xff\xfe<\0p\0>\0", "text/html"),
        ("old.html", b"<?xml version='1.0' encoding='iso-8859-1'?><html><p>\xe9", "text/html"),
        ("quoted.html", b"<!-- a > b --><a title='<meta charset=gbk>'>text</a>", UTF_8),
        ("plain.html", "<!doctype html><title>\u{4e2d}</title>".as_bytes(), UTF_8),
        ("utf8.html", b"<meta charset=UTF8><p>text", UTF_8),
        ("gbk.css", b"@charset \"gbk\"; a::after { content: '\xd6\xd0' }", "text/css"),
        ("marked.txt", b"\xfe\xff\0t\0e\0x\0t", "text/plain"),
        ("e.svg", b"<?xml version='1.0' encoding='ISO-8859-1'?><svg/>", "image/svg+xml"),
        ("feed.atom", b"<?xml version='1.0' encoding='ISO-8859-1'?><feed/>", "application/atom+xml"),
        ("a.xml", b"<a>text</a>", "application/xml"),
        ("page.xhtml", b"<html xmlns='http://www.w3.org/1999/xhtml'/>", "application/xhtml+xml"),
        ("data.json", b"{\"a\": 12345}", "application/json; charset=utf-8"),
    ];
    let docroot = Docroot::empty();
    for (name, content, _) in cases {
        docroot.write(name, content);
        // Too large for the cache, and with a coded file next to it.
        docroot.write(&format!("large/{name}"), [content, &[b' '; 40_000]].concat());
        docroot.write(&format!("large/{name}.gz"), gzip(content));
    }
    docroot.write("sub/index.html", cases[0].1);
    on_both(|model| {
        let flags = ["--error-page=404=/gbk.html"];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        for (name, _, expected) in cases {
            for path in [format!("/{name}"), format!("/large/{name}")] {
                let types = types_of(&mut client, &path);
                assert!(types.len() == 7 && types.iter().all(|one| one == expected), "{path}: {types:?}");
            }
        }
        assert_eq!(client.get("/sub/").expect(200).must("content-type"), "text/html");
        assert_eq!(client.get("/nosuch").expect(404).must("content-type"), "text/html");
        // Text made by the server is UTF-8.
        let listing = client.ask("GET", "/large/", &["Accept: text/html"], b"").expect(200);
        assert_eq!(listing.must("content-type"), UTF_8);
    });
}

#[test]
fn common_files_have_a_specific_type() {
    let cases = [
        ("m4s", "video/iso.segment"),
        ("m4b", "audio/mp4"),
        ("m3u", "audio/mpegurl"),
        ("jfif", "image/jpeg"),
        ("cur", "image/x-icon"),
        ("ass", "text/x-ssa; charset=utf-8"),
        ("cue", "text/plain; charset=utf-8"),
        ("plist", "application/x-plist"),
        ("pac", "application/x-ns-proxy-autoconfig"),
        ("qoi", "image/qoi"),
        ("ktx2", "image/ktx2"),
        ("usdz", "model/vnd.usdz+zip"),
        ("sha256", "text/plain; charset=utf-8"),
        ("ipynb", "application/x-ipynb+json; charset=utf-8"),
        ("vue", "text/plain; charset=utf-8"),
        ("mts", "video/mp2t"),
        ("3mf", "model/3mf"),
        ("avifs", "image/avif"),
        ("cbor", "application/cbor"),
        ("heics", "image/heic-sequence"),
        ("jp2", "image/jp2"),
        ("pcap", "application/vnd.tcpdump.pcap"),
        ("rdf", "application/rdf+xml"),
        ("step", "model/step"),
        ("TTL", "text/turtle; charset=utf-8"),
        ("vsix", "application/vsix"),
        ("xlsm", "application/vnd.ms-excel.sheet.macroEnabled.12"),
    ];
    let docroot = Docroot::empty();
    for (extension, _) in cases {
        docroot.write(&format!("f.{extension}"), "x");
    }
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for (extension, expected) in cases {
            let got = client.get(&format!("/f.{extension}")).expect(200);
            assert_eq!(got.must("content-type"), expected, ".{extension}");
        }
    });
}

#[test]
fn compressed_svg_is_svg_with_a_coding_and_in_one_form_only() {
    let docroot = Docroot::empty();
    let image = "<svg xmlns='http://www.w3.org/2000/svg'/>".repeat(50);
    let noise: Vec<u8> = (0..80_000_u32).flat_map(|at| at.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    for (name, content) in [("f.svgz", image.as_bytes()), ("F.SVGZ", b"<svg/>"), ("large.svgz", &noise)] {
        docroot.write(name, gzip(content));
    }
    docroot.write("f.svgz.br", "coded");
    docroot.write("plain.svgz", &image);
    let get = |client: &mut Client, path: &str, fields: &[&str]| client.ask("GET", path, fields, b"");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for name in ["f.svgz", "F.SVGZ", "large.svgz"] {
            let (path, content) = (format!("/{name}"), fs::read(docroot.path(name)).unwrap());
            for accept in [
                "X: y",
                "Accept-Encoding: gzip, br",
                "Accept-Encoding: identity",
                "Accept-Encoding: gzip;q=1, *;q=0",
            ] {
                let got = get(&mut client, &path, &[accept]).expect(200).with_body(&content);
                let said = (got.must("content-type"), got.must("content-encoding"), got.field("vary"));
                assert_eq!(said, ("image/svg+xml", "gzip", None), "{path} {accept}");
                let tag = format!("If-None-Match: {}", got.must("etag"));
                get(&mut client, &path, &[accept, &tag]).expect(304);
                let part = get(&mut client, &path, &[accept, "Range: bytes=0-1"]).expect(206);
                assert_eq!((part.must("content-encoding"), &part.body[..]), ("gzip", &b"\x1f\x8b"[..]));
            }
        }
        // A name alone does not determine the content.
        let got = get(&mut client, "/plain.svgz", &[]).expect(200).with_body(&image);
        assert_eq!((got.must("content-type"), got.field("content-encoding")), ("image/svg+xml", None));
    });
}

/// Paths with the types of their files.
type Expected<'a> = &'a [(&'a str, &'a str)];

#[test]
fn the_operator_sets_types_and_the_charset() {
    let docroot = Docroot::empty();
    let files = [
        "a.html",
        "a.txt",
        "a.json",
        "a.svg",
        "a.log",
        "a.ts",
        "a.svgz",
        "a.own",
        "real.bin",
        "sub/index.html",
    ];
    for name in files {
        docroot.write(name, if name.ends_with("html") { "<p>some text" } else { "some text" });
    }
    docroot.write("gbk.html", "<meta charset=gbk>");
    docroot.write("a.svgz", gzip(b"<svg/>"));
    docroot.link("real.bin", "link.own2");
    let config = docroot.outside("whirligig.toml");
    fs::write(&config, "charset = 'windows-1251'\nmime = ['log=text/x-log', 'ts=text/plain']\n").unwrap();
    let config = format!("--config={}", config.display());
    let vhost = format!("--vhost=other.example={}", docroot.root().display());
    let cases: [(&[&str], Expected<'_>); 7] = [
        (
            &["--charset=iso-8859-1"],
            &[
                ("/a.html", "text/html; charset=iso-8859-1"),
                ("/gbk.html", "text/html"),
                ("/a.txt", "text/plain; charset=iso-8859-1"),
                ("/a.json", "application/json; charset=utf-8"),
                ("/a.svg", "image/svg+xml"),
            ],
        ),
        (&["--charset=GBK"], &[("/gbk.html", "text/html; charset=GBK")]),
        (
            &["--charset=off", "--mime=log=text/plain; charset=x-own"],
            &[
                ("/a.html", "text/html"),
                ("/a.txt", "text/plain"),
                ("/a.json", "application/json"),
                ("/a.log", "text/plain; charset=x-own"),
            ],
        ),
        (
            &[
                "--mime=own=a/b; c=\"d e\"",
                "--mime=.TS=a/b",
                "--mime",
                "ts=text/typescript",
                "--mime=svgz=a/b",
            ],
            &[
                ("/a.own", "a/b; c=\"d e\""),
                ("/a.ts", "text/typescript; charset=utf-8"),
                ("/a.svgz", "a/b"),
                ("/a.log", "text/plain; charset=utf-8"),
            ],
        ),
        (
            &[&config],
            &[("/a.log", "text/x-log; charset=windows-1251"), ("/a.ts", "text/plain; charset=windows-1251")],
        ),
        (&[&config, "--mime=log=a/b"], &[("/a.log", "a/b"), ("/a.ts", "video/mp2t")]),
        (
            &[
                "--header=*.html: Content-Type: text/html",
                "--header=/sub/**: content-type: text/x-sub; charset=x",
                "--header=*.own2: Content-Type: text/x-link",
                "--header=*.svgz: Content-Type: image/x-own",
                "--mime=own2=a/b",
                "--mime=html=a/b",
            ],
            &[
                ("/a.html", "text/html"),
                ("/sub/", "text/x-sub; charset=x"),
                ("/link.own2", "text/x-link"),
                ("/a.svgz", "image/x-own"),
                ("/a.txt", "text/plain; charset=utf-8"),
            ],
        ),
    ];
    on_both(|model| {
        for (flags, expected) in cases {
            let server = Server::start(model, &docroot.root(), &[flags, &[&vhost]].concat());
            for host in ["localhost", "other.example"] {
                for (path, media_type) in expected {
                    let mut client = Client::connect(server.port);
                    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
                    let got = client.response().expect(200);
                    assert_eq!(got.must("content-type"), *media_type, "{flags:?} {host}{path}");
                    assert!(*path != "/a.svgz" || got.field("content-encoding").is_none(), "{flags:?}");
                }
            }
        }
    });
}

#[test]
fn a_rule_for_the_type_applies_to_files_and_keeps_uploads_in_their_sandbox() {
    let docroot = Docroot::empty();
    docroot.write("page.x", "<p>page");
    docroot.write("large.x", vec![b' '; 40_000]);
    docroot.write("up/a.x", "<script>act()</script>");
    docroot.write("up/a.pdf", "<script>act()</script>");
    docroot.write("up/b.html", "<script>act()</script>");
    docroot.write("plain/a.txt", "text");
    let rule = "--header=/**: Content-Type: text/html";
    let said = |got: &Response, name: &str| got.field(name).map(str::to_owned);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[rule, "--upload=/up"]);
        let mut client = Client::connect(server.port);
        for path in ["/page.x", "/large.x"] {
            let types = types_of(&mut client, path);
            assert!(types.iter().all(|one| one == "text/html"), "{path}: {types:?}");
        }
        for path in ["/up/a.x", "/up/a.pdf", "/up/b.html"] {
            let got = client.get(path).expect(200);
            assert_eq!(got.must("content-type"), "text/html", "{path}");
            assert_eq!(got.must("x-content-type-options"), "nosniff", "{path}");
            assert_eq!(got.must("content-security-policy"), "sandbox", "{path}");
        }
        // Text made by the server keeps its type, because a plain text with a foreign name in it
        // must not become a page.
        for (path, fields, status, media_type) in [
            ("/nosuch", &["Accept: text/plain"][..], 404, "text/plain; charset=utf-8"),
            ("/plain/?json", &[], 200, "application/json; charset=utf-8"),
            ("/plain/?text", &[], 200, "text/plain; charset=utf-8"),
            ("/api/time", &[], 200, "text/plain; charset=utf-8"),
        ] {
            let got = client.ask("GET", path, fields, b"").expect(status);
            assert_eq!(got.must("content-type"), media_type, "{path}");
        }
        let same = client.ask("GET", "/page.x", &["If-None-Match: *"], b"").expect(304);
        assert_eq!(said(&same, "content-type"), None);
        // Outside of a sandbox only types are shown that a rule or flag names.
        let server = Server::start(model, &docroot.root(), &["--mime=x=application/pdf", "--upload=/up"]);
        let got = Client::connect(server.port).get("/up/a.x").expect(200);
        let headers = ["content-type", "x-content-type-options", "content-security-policy"];
        let got = headers.map(|name| said(&got, name));
        assert_eq!(got, [Some("application/pdf".to_owned()), Some("nosniff".to_owned()), None]);
    });
}
