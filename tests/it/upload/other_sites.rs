//! Pages of other sites write nothing, and uploaded files run no script.

use std::fs;

use crate::browser::{chromium, visit_with};
use crate::harness::{Server, command, on_both, until};
use crate::upload::{assert_empty, basic, docroot, form, put, start};
use crate::wire::{Client, Response};

#[test]
fn pages_of_other_sites_write_nothing() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--cors", "*"]);
        let own = format!("Origin: http://127.0.0.1:{}", server.port);
        let host = format!("Host: 127.0.0.1:{}", server.port);
        let send = |method: &str, fields: &[&str], content: &[u8]| {
            let mut lines = vec![format!("{method} /up/a HTTP/1.1"), host.clone()];
            lines.extend(fields.iter().map(|field| (*field).to_owned()));
            lines.push(format!("Content-Length: {}\r\n\r\n", content.len()));
            let mut client = Client::connect(server.port);
            client.send([lines.join("\r\n").as_bytes(), content].concat());
            client.response().status
        };
        for foreign in [
            "Origin: http://evil.example",
            "Origin: null",
            "Origin: http://127.0.0.1:1",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
        ] {
            let (kind, content) = form(&[("name=f; filename=a", b"x")]);
            assert_eq!(send("PUT", &[foreign], b"x"), 403, "{foreign}");
            assert_eq!(send("POST", &[foreign, kind], &content), 403, "{foreign}");
            assert_eq!(send("DELETE", &[foreign], b""), 403, "{foreign}");
            assert_eq!(send("MKCOL", &[foreign], b""), 403, "{foreign}");
            assert_eq!(send("PATCH", &[foreign], b"x"), 403, "{foreign}");
        }
        assert_empty(&docroot.path("up"));
        assert_eq!(send("PUT", &[&own], b"x"), 201);
        assert_eq!(send("PUT", &["Sec-Fetch-Site: same-origin", &own], b"x"), 204);
        assert_eq!(send("PUT", &["Sec-Fetch-Site: none"], b"x"), 204);
    });
}

/// Behind a proxy that changes Host, a page of this site looks like one of another. The 403
/// contains both names, so that the operator can find the cause.
#[test]
fn the_refusal_of_a_page_contains_both_names() {
    let long = format!("http://{}.lan", "x".repeat(3000));
    let cut = format!("the page is from {}, but", &long[..255]);
    let cases = [
        ("Origin: http://files.lan", "the page is from http://files.lan, but"),
        ("Origin: http://127.0.0.1:1", "the page is from http://127.0.0.1:1, but"),
        (
            "Origin: https://files.lan:8443\r\nSec-Fetch-Site: same-site",
            "files.lan:8443 (Sec-Fetch-Site: same-site), ",
        ),
        ("Sec-Fetch-Site: cross-site", "the page is from another site (Sec-Fetch-Site: cross-site), but"),
        ("Origin: null", "the page has no origin (Origin: null), but"),
        ("Origin: http://a.lan\r\nOrigin: http://b.lan", "the request has several Origin headers, but"),
        ("Origin: http://<b>\"&'\u{202e}", "http://\\x3cb\\x3e\\x22\\x26\\x27\\xe2\\x80\\xae, but"),
        (&format!("Origin: {long}"), &cut),
    ];
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let (kind, content) = form(&[("name=f; filename=a", b"x")]);
        let begun = put(&server, "/up/part", &["Upload-Complete: ?0"], b"x").expect(201);
        let begun = &*begun.leads_to("/up/part");
        for (lines, expected) in cases {
            for (method, path, more, content) in [
                ("PUT", "/up/a", "", &b"x"[..]),
                ("POST", "/up/", kind, &content),
                ("DELETE", "/up/a", "", b""),
                ("MKCOL", "/up/a/", "", b""),
                ("PATCH", begun, "Content-Type: application/partial-upload\r\nUpload-Offset: 1", b"y"),
                ("DELETE", begun, "", b""),
            ] {
                for (accept, is_page) in [("*/*", false), ("text/html", true)] {
                    let accept = format!("Accept: {accept}");
                    let fields: Vec<&str> =
                        [lines, more, &accept].into_iter().filter(|line| !line.is_empty()).collect();
                    let got = Client::connect(server.port).ask(method, path, &fields, content).expect(403);
                    let text = got.text();
                    assert!(text.contains(expected) && text.len() < 3000, "{method} {lines}: {text}");
                    assert!(text.contains("the request is for localhost;"), "{method} {lines}: {text}");
                    assert!(!text.contains("--cors") && !text.contains("//<"), "{text}");
                    assert_eq!(got.must("content-type").starts_with("text/html"), is_page);
                    assert_eq!(got.must("x-content-type-options"), "nosniff");
                }
            }
        }
        // Without Host there is no name to compare with.
        let mut old = Client::connect(server.port);
        old.send("PUT /up/a HTTP/1.0\r\nOrigin: http://files.lan\r\nContent-Length: 1\r\n\r\nx");
        let got = old.response().expect(403);
        assert!(got.text().contains("from http://files.lan, but the request names no host"), "{got:?}");
        // The response repeats the requested name, without a default port.
        let ask = |host: &str| {
            let mut client = Client::connect(server.port);
            let origin = "Origin: http://nas.localhost\r\nContent-Length: 1";
            client.send(format!("PUT /up/a HTTP/1.1\r\nHost: {host}\r\n{origin}\r\n\r\nx"));
            client.response()
        };
        let got = ask("nas.localhost:81").expect(403);
        assert!(
            got.text().contains("http://nas.localhost, but the request is for nas.localhost:81"),
            "{got:?}"
        );
        ask("nas.localhost:80").expect(201);
        // The log contains the remedy, once for each origin with a name.
        until("the last one is logged", || server.err.text().contains("nas.localhost:81"));
        let log = server.err.text();
        let count = |words: &str| log.matches(words).count();
        assert_eq!(count("--cors http://files.lan\n"), 1, "{log}");
        assert_eq!(count("--cors http://127.0.0.1:1\n"), 1, "{log}");
        assert_eq!(count("(Origin: null)"), 1, "{log}");
        assert!(!log.contains("--cors null") && !log.contains("--cors http://\\"), "{log}");
    });
}

/// The log contains only a few names, because clients choose them.
#[test]
fn refused_pages_cannot_fill_the_log() {
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &[]);
        let mut client = Client::connect(server.port);
        for number in 0..100 {
            client.ask("DELETE", "/up/a", &[&format!("Origin: http://{number}.lan")], b"").expect(403);
        }
        until("the end is logged", || server.err.text().contains("further ones are not logged"));
        assert_eq!(server.err.text().matches("refused to write").count(), 64);
    });
}

/// DNS rebinding: a page of another site makes its own name resolve to this machine, so browsers
/// treat it as a page of this site. The network address does not help a private server then, but
/// the host name does.
#[test]
fn a_foreign_name_writes_nothing_on_a_private_server() {
    on_both(|model| {
        let docroot = docroot();
        fs::create_dir_all(docroot.path("host/up")).unwrap();
        let rule = format!("blog.test={}", docroot.path("host").display());
        let put = |port: u16, host: &str, more: &str| {
            let mut client = Client::connect(port);
            let origin = format!("Origin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n");
            client.send(format!(
                "PUT /up/a HTTP/1.1\r\nHost: {host}\r\n{origin}{more}Content-Length: 1\r\n\r\nx"
            ));
            client.response()
        };
        let server = start(model, &docroot, &["--vhost", &rule]);
        for host in
            ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "1.2"]
        {
            let got = put(server.port, host, "").expect(403);
            assert!(got.text().contains(host.split(':').next().unwrap()), "{got:?}");
        }
        assert_empty(&docroot.path("up"));
        for host in
            ["127.0.0.1:1", "127.0.0.1", "[::1]:80", "[::1]", "192.168.0.2", "localhost", "LocalHost:9"]
                .into_iter()
                .chain(["a.localhost", "localhost.:8", "blog.test", "Blog.test:80"])
        {
            let got = put(server.port, host, "");
            assert!([201, 204].contains(&got.status), "{host}: {got:?}");
        }
        // A browser sends the password of this folder to no other name. A server that all clients
        // can reach accepts every name.
        let guarded = start(model, &docroot, &["--write-auth", "u:p@/up"]);
        put(guarded.port, "files.example", &format!("{}\r\n", basic("u:p"))).expect(204);
        let open = Server::launch({
            let mut command = command(model, &docroot.root(), &["--upload", "/up"]);
            command.args(["--bind", "0.0.0.0"]);
            command
        });
        put(open.port, "files.example", "").expect(204);
    });
}

/// Uploaded files must not act in the name of this site: for example a page or a picture with a
/// script.
#[test]
fn uploaded_files_run_no_script_in_the_name_of_the_site() {
    let docroot = docroot();
    docroot.write("up/page.html", vec![b'p'; 5000]);
    docroot.write("up/page.html.br", b"coded");
    docroot.write("up/sub/index.html", b"index");
    docroot.write("up/file.pdf", b"%PDF");
    docroot.write("up/large.svg", vec![b' '; 200_000]);
    docroot.link("up", "aside");
    docroot.write("real/page.html", b"real");
    docroot.link("real", "second");
    let said = |response: &Response| {
        let of = |name: &str| response.field(name).unwrap_or_default().to_owned();
        (of("x-content-type-options"), of("content-security-policy"))
    };
    let both = ("nosniff".to_owned(), "sandbox".to_owned());
    let neither = (String::new(), String::new());
    on_both(|model| {
        let server = start(model, &docroot, &["--upload", "/second"]);
        let mut client = Client::connect(server.port);
        for path in ["/up/page.html", "/up/sub/", "/up/large.svg", "/aside/page.html", "/%75p//page.html"]
            .into_iter()
            .chain(["/second/page.html", "/real/page.html", "/up/page.html?download"])
        {
            for fields in
                [&[][..], &["Range: bytes=0-1"], &["Accept-Encoding: br"], &["Accept-Encoding: gzip"]]
            {
                for _ in 0..2 {
                    let got = client.ask("GET", path, fields, b"");
                    assert!([200, 206].contains(&got.status) && said(&got) == both, "{path}: {got:?}");
                }
            }
        }
        let tag = format!("If-None-Match: {}", client.get("/up/page.html").must("etag"));
        assert_eq!(said(&client.ask("GET", "/up/page.html", &[&tag], b"").expect(304)), both);
        // Browsers do not show a PDF in a sandbox. Its scripts have no access to the site.
        assert_eq!(said(&client.get("/up/file.pdf").expect(200)), (both.0.clone(), String::new()));
        assert_eq!(said(&client.get("/hello.txt").expect(200)), neither);
        assert!(said(&client.ask("GET", "/up/", &["Accept: text/html"], b"")).1.starts_with("default-src"));
        // The operator's rule has priority, for each header separately.
        let own =
            start(model, &docroot, &["--header", "/up/**: content-security-policy: default-src 'self'"]);
        let got = Client::connect(own.port).get("/up/page.html").expect(200);
        assert_eq!(said(&got), (both.0.clone(), "default-src 'self'".to_owned()));
        let all = Server::start(model, &docroot.root(), &["--upload", "/"]);
        assert_eq!(said(&Client::connect(all.port).get("/hello.txt").expect(200)), both);
        let none = Server::start(model, &docroot.root(), &[]);
        assert_eq!(said(&Client::connect(none.port).get("/up/page.html").expect(200)), neither);
    });
}

#[test]
fn a_browser_runs_no_script_of_an_uploaded_page() {
    let Some(chromium) = chromium() else { return };
    let docroot = docroot();
    let page = "<!doctype html><p>text<script>document.documentElement.id='ran'</script>";
    docroot.write("up/page.html", page);
    docroot.write("page.html", page);
    on_both(|model| {
        let visit =
            |page: &str| visit_with(&chromium, model, &docroot.root(), page, &["--upload", "/up"]).dom;
        assert!(visit("page.html").contains("<html id=\"ran\">"), "the script works elsewhere");
        let dom = visit("up/page.html");
        assert!(dom.contains("<html><head></head><body><p>text<script>"), "{dom}");
    });
}
