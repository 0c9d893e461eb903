//! Files over HTTP: the right bytes under every spelling, and nothing that must stay hidden.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, FileType, Mode};

use crate::docroot::{CHINESE, Docroot, HELLO, MARKUP, PATTERNED, SECRET, pattern};
use crate::harness::{Server, on_both, wall_clock};
use crate::wire::{Client, End, Framing, encode, get, request};

#[test]
fn a_file_arrives_unchanged_and_head_has_the_same_headers() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let names = PATTERNED.map(|(path, _)| path).into_iter();
        for path in names.chain(["/hello.txt", "/empty.txt", "/index.html"]) {
            let content = fs::read(docroot.path(&path[1..])).unwrap();
            // Twice, so that the second response may come from memory.
            for _ in 0..2 {
                let got = client.get(path).expect(200).with_body(&content);
                assert_eq!(got.framing, Framing::Length, "{path}");
                let head = client.ask("HEAD", path, &[], b"").expect(200);
                let undated = |fields: &[(String, String)]| {
                    fields.iter().filter(|(name, _)| name != "date").cloned().collect::<Vec<_>>()
                };
                assert_eq!(undated(&got.fields), undated(&head.fields), "{path}");
                assert!(!got.says_close(), "{path}");
            }
        }
        client.ask("HEAD", "/nothing", &[], b"").expect(404);
        client.get("/nothing").expect(404);
        client.get("/hello.txt").expect(200).with_body(HELLO);
    });
}

#[test]
fn a_folder_returns_its_index_and_without_its_slash_a_redirect() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for (path, file) in [("/", "index.html"), ("/sub/", "sub/index.html"), ("/?a=b", "index.html")] {
            let content = fs::read(docroot.path(file)).unwrap();
            let got = client.get(path).expect(200).with_body(content);
            assert_eq!(got.must("content-type"), "text/html; charset=utf-8", "{path}");
        }
        for (path, location) in [
            // Relative, so that a prefix that a proxy removed from the path is kept.
            ("/sub", "sub/"),
            ("/sub?a=b&c=/../d", "sub/?a=b&c=/../d"),
            ("/plain/deeper?", "deeper/?"),
            ("/a%20folder", "a%20folder/"),
            ("/%73ub", "sub/"),
            ("http://localhost/plain/deeper", "deeper/"),
            // Client and server may count the folders of these differently.
            ("/./plain/../sub", "/sub/"),
            ("/plain/%2e%2E/sub", "/sub/"),
            ("/plain//deeper", "/plain/deeper/"),
        ] {
            let got = client.get(path).expect(301);
            assert_eq!(got.must("location"), location, "for {path}");
        }
        // A Location that begins with two slashes leads to another host.
        for path in [
            "//sub",
            "///sub",
            "//example.com/..//sub",
            "/.//sub",
            "//example.com/%2e%2e/sub",
            "//plain//deeper",
        ] {
            let got = client.get(path);
            let Some(location) = got.field("location") else { continue };
            assert!(location.starts_with('/') && !location.starts_with("//"), "{path} led to {location}");
            assert!(!location.starts_with("/\\"), "{path} led to {location}");
        }
        client.get("/hello.txt/").expect(404);
        client.get("/hello.txt/x").expect(404);
    });
}

/// Browsers send these bytes unescaped. A raw byte and its escaped form are the same path for
/// files, passwords and rules.
#[test]
fn unescaped_bytes_of_browsers_equal_their_escaped_forms() {
    let docroot = Docroot::empty();
    let raw = ["[id].html", "a|b.txt", "{slug}.txt", "x^2.txt", "`tick`.txt", "[[...all]]/page.txt"];
    for name in raw {
        docroot.write(name, name.as_bytes());
    }
    docroot.write("[private]/secret.txt", b"secret");
    let rules = docroot.outside("rules");
    fs::write(&rules, "redirect /old[1] /plain-[new]\n").unwrap();
    let rules = rules.to_str().unwrap().to_owned();
    on_both(|model| {
        let more = ["--auth", "u:p@/[private]", "--rules", &rules];
        let server = Server::start(model, &docroot.root(), &more);
        let mut client = Client::connect(server.port);
        for name in raw {
            client.get(&format!("/{name}")).expect(200).with_body(name);
            let escaped = encode(name).replace("%2F", "/");
            client.get(&format!("/{escaped}")).expect(200).with_body(name);
            client.get(&format!("/{name}?q=[]{{}}|^`\\'")).expect(200).with_body(name);
        }
        for path in ["/[private]/secret.txt", "/%5Bprivate]/secret.txt", "/[private%5d/x/../secret.txt"] {
            client.get(path).expect(401);
        }
        for path in ["/old[1]", "/old%5b1]"] {
            assert_eq!(client.get(path).expect(302).must("location"), "/plain-[new]", "{path}");
        }
        // A backslash is ambiguous, and so is a bad escape.
        for path in ["/a\\b", "/[\\]", "/a%", "/[%5]", "/a<b", "/a\"b"] {
            assert_eq!(Client::connect(server.port).get(path).status, 400, "{path}");
        }
    });
}

#[test]
fn every_file_has_its_type_and_every_text_its_charset() {
    const UTF_8: &str = "; charset=utf-8";
    let types = [
        ("html", "text/html", UTF_8),
        ("htm", "text/html", UTF_8),
        ("css", "text/css", UTF_8),
        ("js", "text/javascript", UTF_8),
        ("mjs", "text/javascript", UTF_8),
        ("txt", "text/plain", UTF_8),
        ("md", "text/markdown", UTF_8),
        ("csv", "text/csv", UTF_8),
        ("json", "application/json", ""),
        ("svg", "image/svg+xml", ""),
        ("png", "image/png", ""),
        ("jpg", "image/jpeg", ""),
        ("JPEG", "image/jpeg", ""),
        ("gif", "image/gif", ""),
        ("webp", "image/webp", ""),
        ("pdf", "application/pdf", ""),
        ("wasm", "application/wasm", ""),
        ("woff2", "font/woff2", ""),
        ("mp4", "video/mp4", ""),
        ("zip", "application/zip", ""),
        ("no-such-type", "application/octet-stream", ""),
    ];
    let docroot = Docroot::empty();
    for (extension, ..) in types {
        docroot.write(&format!("file.{extension}"), b"content");
    }
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for (extension, kind, charset) in types {
            let got = client.get(&format!("/file.{extension}")).expect(200);
            let value = got.must("content-type").to_ascii_lowercase();
            let (essence, parameters) = value.split_at(value.find(';').unwrap_or(value.len()));
            assert_eq!(essence, kind, ".{extension}");
            let is_xml = essence.ends_with("xml");
            assert!(parameters.starts_with(charset), ".{extension} has {value}");
            assert!(!is_xml || parameters.is_empty(), "XML declares its charset itself: {value}");
        }
    });
}

#[test]
fn unchanged_files_are_not_sent_again() {
    let docroot = Docroot::new();
    docroot.set_modified("hello.txt", 1_000_000_000);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let got = client.get("/hello.txt").expect(200);
        let date = "Sun, 09 Sep 2001 01:46:40 GMT";
        assert_eq!(got.must("last-modified"), date);
        let etag = got.must("etag").to_owned();
        let weak = format!("W/{}", etag.trim_start_matches("W/"));
        assert!(weak.starts_with("W/\"") && weak.ends_with('"') && weak.len() > 4, "{etag}");

        let earlier = "Sun, 09 Sep 2001 01:46:39 GMT";
        let later = "Mon, 10 Sep 2001 01:46:40 GMT";
        let mut ask = |fields: &[String], status: u16| {
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            for method in ["GET", "HEAD"] {
                let got = client.ask(method, "/hello.txt", &fields, b"");
                assert_eq!(got.status, status, "{method} with {fields:?}");
                assert_eq!(got.must("etag"), etag, "{method} with {fields:?}");
                if status == 304 {
                    assert!(got.field("content-length").is_none_or(|length| length == "13"), "{got:?}");
                }
            }
        };
        let none_match = |value: &str| format!("If-None-Match: {value}");
        let since = |value: &str| format!("If-Modified-Since: {value}");
        ask(&[none_match(&etag)], 304);
        ask(&[none_match(&weak)], 304);
        ask(&[none_match("*")], 304);
        ask(&[none_match(&format!("\"x\", {etag}, \"y\""))], 304);
        ask(&[none_match("\"x\""), none_match(&etag)], 304);
        ask(&[none_match("\"x\"")], 200);
        ask(&[none_match("")], 200);
        ask(&[since(date)], 304);
        ask(&[since(later)], 304);
        ask(&[since(earlier)], 200);
        ask(&[since("yesterday")], 200);
        // If both headers are present, the date is ignored (RFC 9110 section 13.1.3).
        ask(&[none_match("\"x\""), since(date)], 200);
        ask(&[none_match(&etag), since(earlier)], 304);
    });
}

#[test]
fn a_changed_file_has_another_tag() {
    let docroot = Docroot::new();
    docroot.write("changing.txt", b"first");
    on_both(|model| {
        let name = format!("changing-{model}.txt");
        docroot.write(&name, b"first");
        let server = Server::start(model, &docroot.root(), &["--fresh", "0"]);
        let mut client = Client::connect(server.port);
        let path = format!("/{name}");
        let first = client.get(&path).expect(200).with_body("first");
        assert_eq!(first.field("etag"), client.get(&path).field("etag"));
        docroot.write(&name, b"other");
        let field = format!("If-None-Match: {}", first.must("etag"));
        let second = client.ask("GET", &path, &[&field], b"").expect(200).with_body("other");
        assert_ne!(first.must("etag"), second.must("etag"));
    });
}

#[test]
fn a_range_brings_its_bytes() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for (path, size) in PATTERNED {
            let content = pattern(size);
            let last = size - 1;
            for (range, from, to) in [
                ("0-0".to_owned(), 0, 0),
                ("5-9".to_owned(), 5, 9),
                ("1000-".to_owned(), 1000, last),
                (format!("{last}-"), last, last),
                ("-1".to_owned(), last, last),
                ("-500".to_owned(), size - 500, last),
                (format!("-{}", size + 1), 0, last),
                (format!("7-{}", size + 100), 7, last),
                (format!("0-{last}"), 0, last),
                ("3-18446744073709551615".to_owned(), 3, last),
            ] {
                let field = format!("Range: bytes={range}");
                let got = client.ask("GET", path, &[&field], b"").expect(206).with_body(&content[from..=to]);
                assert_eq!(got.must("content-range"), format!("bytes {from}-{to}/{size}"), "{path} {range}");
            }
            for range in [format!("{size}-"), format!("{}-{}", size + 5, size + 9), "-0".to_owned()] {
                let got = client.ask("GET", path, &[&format!("Range: bytes={range}")], b"").expect(416);
                assert_eq!(got.must("content-range"), format!("bytes */{size}"), "{path} {range}");
            }
        }
        let content = pattern(1024);
        // An invalid byte range is no reason to refuse the request.
        for range in ["bytes=9-5", "bytes=x-y", "bytes=", "bytes", "lines=1-2", "bytes=--1", "bytes=0x0-0x5"]
        {
            client.ask("GET", "/k1.bin", &[&format!("Range: {range}")], b"").expect(200).with_body(&content);
        }
        let head = client.ask("HEAD", "/k1.bin", &["Range: bytes=0-4"], b"").expect(200);
        assert_eq!(head.must("content-length"), "1024");
        assert_eq!(head.must("accept-ranges"), "bytes");
        let empty = client.ask("GET", "/empty.txt", &["Range: bytes=0-"], b"");
        assert!([200, 416].contains(&empty.status), "{empty:?}");
    });
}

#[test]
fn a_range_of_an_outdated_copy_brings_the_whole_file() {
    let docroot = Docroot::new();
    docroot.set_modified("k1.bin", 1_000_000_000);
    let content = pattern(1024);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let etag = client.get("/k1.bin").must("etag").to_owned();
        let strong = !etag.starts_with("W/");
        for (validator, partial) in [
            (etag.as_str(), strong),
            ("Sun, 09 Sep 2001 01:46:40 GMT", true),
            ("\"other\"", false),
            ("Sun, 09 Sep 2001 01:46:41 GMT", false),
            ("Sun, 09 Sep 2001 01:46:39 GMT", false),
            (&format!("W/{}", etag.trim_start_matches("W/")), false),
        ] {
            let fields = ["Range: bytes=10-19", &format!("If-Range: {validator}")];
            let got = client.ask("GET", "/k1.bin", &fields, b"");
            if partial {
                got.expect(206).with_body(&content[10..20]);
            } else {
                got.expect(200).with_body(&content);
            }
        }
    });
}

#[test]
fn hidden_files_stay_hidden() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for path in [
            "/.secret",
            "/%2esecret",
            "/./.secret",
            "/sub/../.secret",
            "//.secret",
            "/.git/config",
            "/%2Egit/config",
            "/.git/",
            "/.git",
            "/plain/.hidden",
            "/link-dir-in/.hidden",
            "/.no-such-file",
        ] {
            let got = client.get(path);
            assert_eq!(got.status, 404, "{path}");
            assert!(!got.text().contains(SECRET), "{path}");
        }
        client.get("/.well-known/security.txt").expect(200);
        // RFC 8615: this folder is public, like any other.
        for path in ["/.well-known", "/%2ewell-known", "/x/../.well-known?a=b"] {
            for method in ["GET", "HEAD"] {
                let got = client.ask(method, path, &[], b"").expect(301);
                assert!(got.must("location").contains(".well-known/"), "{path}: {got:?}");
            }
        }
        for path in ["/.well-knowns", "/.well-know", "/plain/.well-known", "/.well-known/.secret", "/.git"] {
            client.get(path).expect(404);
        }
    });
}

#[test]
fn links_lead_nowhere_outside() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        client.get("/link-in.txt").expect(200).with_body(HELLO);
        client.get("/link-dir-in/one.txt").expect(200).with_body("one");
        for path in [
            "/link-out.txt",
            "/link-absolute.txt",
            "/link-dir-out/secret.txt",
            "/link-dir-out/",
            "/link-dir-out",
            "/sub/../link-out.txt",
            "/loop.txt",
        ] {
            let got = client.get(path);
            assert!([403, 404].contains(&got.status), "{path}: {}", got.status);
            assert!(!got.text().contains(SECRET) && !got.text().contains("secret.txt"), "{path}");
        }

        let none = Server::start(model, &docroot.root(), &["--symlinks", "no"]);
        let mut client = Client::connect(none.port);
        for path in ["/link-in.txt", "/link-dir-in/one.txt", "/link-out.txt"] {
            assert!([403, 404].contains(&client.get(path).status), "{path}");
        }
        client.get("/hello.txt").expect(200);

        let all = Server::start(model, &docroot.root(), &["--symlinks", "all"]);
        let mut client = Client::connect(all.port);
        client.get("/link-out.txt").expect(200).with_body(SECRET);
        client.get("/link-in.txt").expect(200).with_body(HELLO);
        client.get("/.secret").expect(404);
    });
}

#[test]
fn odd_names_find_their_files() {
    let docroot = Docroot::new();
    let long = format!("{}.txt", "n".repeat(251));
    let not_utf_8 = b"caf\xe9.txt";
    docroot.write(&long, b"long");
    let name = std::os::unix::ffi::OsStrExt::from_bytes(not_utf_8);
    fs::write(docroot.root().join::<&std::ffi::OsStr>(name), b"latin").unwrap();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let mut check = |name: &[u8], content: &str| {
            let escaped = encode(name).replace("%2F", "/");
            client.get(&format!("/{escaped}")).expect(200).with_body(content);
        };
        check(b"with space.txt", "space");
        check(CHINESE.as_bytes(), "汉字\n");
        check(MARKUP.as_bytes(), "markup");
        check(b"100%.txt", "percent");
        check(long.as_bytes(), "long");
        check(not_utf_8, "latin");
        for path in
            [format!("/{}", "x".repeat(256)), format!("/{}", "a/".repeat(1500)), "/a+folder/".to_owned()]
        {
            client.get(&path).expect(404);
        }
        for path in ["/%", "/%zz", "/a%4", "/a%00b", "/hello.txt%00", "/hello.txt%00.html"] {
            let got = Client::connect(server.port).get(path);
            assert!([400, 404].contains(&got.status), "{path}: {}", got.status);
        }
    });
}

/// Opening a FIFO for reading blocks until a writer opens it, and reading a device may never end.
#[test]
fn special_files_block_no_client() {
    let docroot = Docroot::new();
    rustix::fs::mknodat(CWD, docroot.path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    let _socket = UnixListener::bind(docroot.path("socket")).unwrap();
    docroot.link("/dev/zero", "zero");
    docroot.link("/dev/tty", "tty");
    on_both(|model| {
        for symlinks in ["inside", "all"] {
            let server = Server::start(model, &docroot.root(), &["--symlinks", symlinks]);
            let mut client = Client::connect(server.port);
            for path in ["/fifo", "/socket", "/zero", "/tty"] {
                let got = client.get(path);
                assert!((400..500).contains(&got.status), "{path} with {symlinks}: {}", got.status);
                client.ask("HEAD", path, &[], b"");
            }
            client.get("/hello.txt").expect(200).with_body(HELLO);
        }
    });
}

#[test]
fn an_error_is_a_page_for_browsers_and_reflects_no_markup() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let accept = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";
        for path in ["/nothing", "/%3Cscript%3Ealert(1)%3C/script%3E", "/nothing?%3Cmarquee%3E"] {
            let mut client = Client::connect(server.port);
            let got = client.ask("GET", path, &[accept], b"");
            assert_eq!(got.status, 404, "{path}");
            assert_eq!(got.must("content-type"), "text/html; charset=utf-8", "{path}");
            let page = got.text().to_lowercase();
            assert!(page.starts_with("<!doctype html>") && page.contains(&got.status.to_string()), "{page}");
            assert!(!page.contains("<script") && !page.contains("<marquee"), "{page}");
        }
        let plain = client.ask("GET", "/nothing", &["Accept: */*"], b"").expect(404);
        assert!(plain.must("content-type").starts_with("text/"), "{plain:?}");
        for path in ["/sub%0d%0aX-Injected:%201", "/sub?%0d%0aX-Injected:1", "/%0aX-Injected:1"] {
            let got = client.get(path);
            assert!(got.field("x-injected").is_none(), "{path}");
        }
    });
}

/// A shared cache must not send one client's form of an error or redirect to another (RFC 9110
/// section 12.5.5).
#[test]
fn responses_whose_form_depends_on_accept_vary_by_it() {
    let docroot = Docroot::new();
    let rules = docroot.outside("rules");
    fs::write(&rules, "redirect /old /hello.txt\ngone /gone\n").unwrap();
    on_both(|model| {
        let more = ["--rules", rules.to_str().unwrap(), "--auth", "u:p@/private", "--clean-urls"];
        let server = Server::start(model, &docroot.root(), &more);
        let mut client = Client::connect(server.port);
        for (method, path, status) in [
            ("GET", "/nothing", 404),
            ("GET", "/sub", 301),
            ("GET", "/index.html", 301),
            ("GET", "/old", 302),
            ("GET", "/gone", 410),
            ("GET", "/private/x", 401),
            ("GET", "/%00", 400),
            ("DELETE", "/hello.txt", 405),
            ("BREW", "/hello.txt", 501),
        ] {
            let page = client.ask(method, path, &["Accept: text/html"], b"").expect(status);
            let text = client.ask(method, path, &["Accept: text/plain"], b"").expect(status);
            assert_ne!(page.must("content-type"), text.must("content-type"), "{method} {path}");
            for got in [page, text] {
                assert_eq!(got.must("vary"), "Accept", "{method} {path}");
            }
        }
        // A file is the same for all clients.
        assert_ne!(client.get("/m5.bin").expect(200).field("vary"), Some("Accept"));
    });
}

#[test]
fn a_large_file_reaches_a_slow_reader_whole() {
    let docroot = Docroot::new();
    let content = pattern(5 * 1024 * 1024);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut control = Client::connect(server.port);
        let mut client = Client::connect_narrow(server.port);
        client.send([get("/m5.bin"), get("/hello.txt")].concat());
        let mut taken = client.read_some(700);
        // The reader takes no more while others send two hundred requests.
        for step in 0..200 {
            control.get("/hello.txt").expect(200);
            if step % 10 == 0 {
                taken.extend(client.read_some(1 + step * 37));
            }
        }
        let head = taken.windows(4).position(|four| four == b"\r\n\r\n").expect("the head") + 4;
        while taken.len() < head + content.len() {
            let piece = client.read_some(head + content.len() - taken.len());
            assert!(!piece.is_empty(), "ended after {} bytes", taken.len());
            taken.extend(piece);
        }
        assert!(taken[head..] == content, "the bytes differ from the file");
        client.response().expect(200).with_body(HELLO);
    });
}

/// Starts a download of 12 MiB, far more than socket buffers hold, changes the file, and reads the
/// rest.
fn changed_while_sent(model: &str, change: impl Fn(&Docroot)) -> (Vec<u8>, End, Vec<u8>) {
    let docroot = Docroot::new();
    let content = pattern(12 * 1024 * 1024);
    docroot.write("moving.bin", &content);
    let mut server = Server::start(model, &docroot.root(), &[]);
    let mut client = Client::connect_narrow(server.port);
    client.send([get("/moving.bin"), request("GET", "/hello.txt", &["Connection: close"], b"")].concat());
    let mut all = client.read_some(4096);
    change(&docroot);
    let (rest, end) = client.rest();
    all.extend(rest);
    assert!(server.is_running());
    Client::connect(server.port).get("/hello.txt").expect(200).with_body(HELLO);
    let head = all.windows(4).position(|four| four == b"\r\n\r\n").expect("the head") + 4;
    (all.split_off(head), end, content)
}

#[test]
fn a_file_cut_while_it_is_sent_ends_the_connection_short() {
    on_both(|model| {
        let (body, _, content) = changed_while_sent(model, |docroot| {
            let file = fs::File::options().write(true).open(docroot.path("moving.bin")).unwrap();
            file.set_len(1024 * 1024).unwrap();
        });
        assert!(body.len() < content.len(), "the announced length was filled up with other bytes");
        assert!(body == content[..body.len()], "the bytes differ from the file");
    });
}

#[test]
fn a_file_replaced_while_it_is_sent_arrives_as_it_was() {
    on_both(|model| {
        let (body, end, content) = changed_while_sent(model, |docroot| {
            docroot.write("moving.new", b"something else");
            fs::rename(docroot.path("moving.new"), docroot.path("moving.bin")).unwrap();
        });
        assert_eq!(end, End::Fin);
        assert!(body[..content.len()] == content, "the bytes differ from the file");
        assert!(body[content.len()..].starts_with(b"HTTP/1.1 200 "));
        assert!(body.ends_with(HELLO));
    });
}

#[test]
fn a_last_modified_is_never_in_the_future() {
    let docroot = Docroot::new();
    let soon = wall_clock() + std::time::Duration::from_secs(86_400);
    let file = fs::File::options().write(true).open(docroot.path("hello.txt")).unwrap();
    file.set_modified(soon).unwrap();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let got = Client::connect(server.port).get("/hello.txt").expect(200);
        let time = |name: &str| got.field(name).map(|text| httpdate::parse_http_date(text).unwrap());
        assert!(time("last-modified") <= time("date"), "{got:?}");
    });
}

/// A docroot that is deleted while the server runs causes errors for clients. The server continues.
#[test]
fn a_removed_root_is_an_error_and_the_server_continues() {
    on_both(|model| {
        let docroot = Docroot::new();
        let mut server = Server::start(model, &docroot.root(), &["--fresh", "0"]);
        let mut client = Client::connect(server.port);
        client.get("/hello.txt").expect(200);
        fs::remove_dir_all(docroot.root()).unwrap();
        for path in ["/hello.txt", "/", "/sub/", "/plain/"] {
            let status = client.get(path).status;
            assert!((400..600).contains(&status), "{path}: {status}");
        }
        assert!(server.is_running());
    });
}

/// A file that grows during a request is sent with exactly the announced length.
#[test]
fn a_growing_file_is_sent_at_one_length() {
    let docroot = Docroot::new();
    on_both(|model| {
        let name = format!("growing-{model}.log");
        docroot.write(&name, b"");
        let server = Server::start(model, &docroot.root(), &["--fresh", "0"]);
        let mut client = Client::connect(server.port);
        let mut file = fs::File::options().append(true).open(docroot.path(&name)).unwrap();
        let line = b"one more line of the log\n";
        for count in 0..400 {
            let got = client.get(&format!("/{name}")).expect(200);
            assert_eq!(got.body.len(), count * line.len());
            file.write_all(line).unwrap();
        }
    });
}

/// Several ranges are sent as multipart/byteranges, each part with its Content-Range, from memory
/// and from disk.
#[test]
fn several_ranges_come_in_parts() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for (path, len) in [("/k1.bin", 1024_usize), ("/k300.bin", 300 * 1024)] {
            let whole = client.get(path).expect(200).body;
            let field = format!("Range: bytes=0-4, 100-199,-7,{}-", len + 5);
            let got = client.ask("GET", path, &[&field], b"").expect(206);
            assert!(
                got.fields.iter().all(|(name, _)| name != "content-range"),
                "only the parts have one: {got:?}"
            );
            let kind = got.must("content-type").to_owned();
            let boundary =
                kind.strip_prefix("multipart/byteranges; boundary=").expect("a boundary").to_owned();
            let mut expected = Vec::new();
            for (first, last) in [(0, 4), (100, 199), (len - 7, len - 1)] {
                let head = format!(
                    "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {first}-{last}/{len}\r\n\r\n"
                );
                expected.extend_from_slice(head.as_bytes());
                expected.extend_from_slice(&whole[first..=last]);
            }
            expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
            assert!(got.body == expected[2..], "{path}: {}", got.body.escape_ascii());
            // Adjacent ranges are merged. Too many ranges produce the whole file.
            let one = client.ask("GET", path, &["Range: bytes=0-4,5-9"], b"").expect(206);
            assert_eq!(one.must("content-range"), format!("bytes 0-9/{len}"));
            let many = format!("Range: bytes={}0-", "0-,".repeat(100));
            client.ask("GET", path, &[&many], b"").expect(200);
        }
        client.get("/hello.txt").expect(200);
    });
}
