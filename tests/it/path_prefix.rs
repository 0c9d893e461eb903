//! Service below a prefix: a proxy removes a part of the path that the server does not know. Every
//! redirect and every link of a page must stay below the prefix.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use crate::browser::chromium;
use crate::devtools::Browser;
use crate::docroot::Docroot;
use crate::harness::{Server, on_both};
use crate::wire::{Client, references, resolve};

/// The part of the path that the server does not see.
const PREFIX: &str = "/pre/fix";

const HTML: &str = "Accept: text/html,*/*;q=0.8";

/// Returns the path, as the server sees it, that a client reaches by `location` after a request for
/// `target` below the prefix.
#[track_caller]
fn followed(target: &str, location: &str) -> String {
    let seen = resolve(&format!("{PREFIX}{target}"), location);
    seen.strip_prefix(PREFIX).unwrap_or_else(|| panic!("{target} leads out by {location}")).to_owned()
}

#[test]
fn redirects_stay_below_a_prefix() {
    let docroot = Docroot::new();
    for name in
        ["c:x/f", "evil:80/http:/f", "http:/f", "a&b;c/f", "sub/q?r/f", "plain/d.e/f", "@evil/f", "%2f/f"]
    {
        docroot.write(name, b"x");
    }
    docroot.write("about.html", b"about");
    docroot.write("sub/c:d.html", b"c:d");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--clean-urls"]);
        let mut client = Client::connect(server.port);
        for (path, expected) in [
            ("/plain", "/plain/"),
            ("/plain/deeper", "/plain/deeper/"),
            ("/plain/d.e?sort=size&q=/a:b", "/plain/d.e/?sort=size&q=/a:b"),
            ("/a%20folder", "/a%20folder/"),
            ("/a%26b%3Bc", "/a%26b%3Bc/"),
            ("/c:x", "/c:x/"),
            ("/c%3Ax", "/c:x/"),
            ("/http:", "/http:/"),
            ("/evil:80/http:", "/evil:80/http:/"),
            ("/sub/q%3Fr", "/sub/q%3Fr/"),
            ("/@evil", "/@evil/"),
            ("/%252f", "/%252f/"),
            ("/.well-known", "/.well-known/"),
            ("/about.html", "/about"),
            ("/about.html?x", "/about?x"),
            ("/sub/c:d.html", "/sub/c:d"),
            ("/index.html", "/"),
            ("/sub/index.html?x", "/sub/?x"),
        ] {
            for method in ["GET", "HEAD"] {
                let got = client.ask(method, path, &[HTML], b"").expect(301);
                let location = got.must("location");
                assert_eq!(followed(path, location), expected, "{path}: {location}");
                let first = location.split('/').next().unwrap();
                assert!(!first.is_empty() && !first.contains([':', '\\']), "{path}: {location}");
            }
            client.get(&expected.replace("?x", "")).expect(200);
        }
    });
}

#[test]
fn uploads_stay_below_a_prefix() {
    let docroot = Docroot::empty();
    fs::create_dir_all(docroot.path("up/in")).unwrap();
    let form = "Content-Type: multipart/form-data; boundary=b";
    let content = b"--b\r\nContent-Disposition: form-data; name=f; filename=f:1\r\n\r\nx\r\n--b--\r\n";
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--upload", "/up"]);
        let mut client = Client::connect(server.port);
        let mut ask = |method: &str, path: &str, fields: &[&str], content: &[u8]| {
            client.ask(method, path, fields, content)
        };
        let named = |name: &str| format!("{name}-{model}");
        for (method, path, expected) in [
            ("PUT", "/up/a%20", "/up/a%20"),
            ("PUT", "/up/in/x:", "/up/in/x:"),
            ("PUT", "/up/./in/dot", "/up/in/dot"),
            ("MKCOL", "/up/c:", "/up/c:"),
            ("MKCOL", "/up/in/d", "/up/in/d"),
        ] {
            let got = ask(method, &named(path), &[], b"").expect(201);
            let slash = if method == "MKCOL" { "/" } else { "" };
            let location = got.must("location");
            match path.contains("/.") {
                // Client and server may count these folders differently.
                true => assert_eq!(location, named(expected)),
                false => assert_eq!(followed(path, location), named(expected) + slash, "{path}: {location}"),
            }
        }
        for (path, folder) in
            [("/up", "/up/"), ("/up/", "/up/"), ("/up/in", "/up/in/"), ("/up/in/", "/up/in/")]
        {
            let query = format!("{path}?overwrite");
            let got = ask("POST", &query, &[form, HTML], content).expect(303);
            assert_eq!(followed(path, got.must("location")), folder, "{path}: {got:?}");
            let got = ask("POST", &query, &[form], content).expect(201);
            assert_eq!(followed(path, got.must("location")), format!("{folder}f:1"), "{path}: {got:?}");
        }
        // The URL of an unfinished upload, and of the final file.
        for path in ["/up/r:1", "/up/in/r%202"] {
            let path = named(path);
            let begun = ask("PUT", &path, &["Upload-Complete: ?0"], b"one").expect(201);
            let place = followed(&path, begun.must("location"));
            assert!(place.starts_with(&format!("{path}?resume=")), "{place}");
            let part =
                ["Content-Type: application/partial-upload", "Upload-Complete: ?1", "Upload-Offset: 3"];
            let done = ask("PATCH", &place, &part, b" two").expect(201);
            assert_eq!(followed(&place, done.must("location")), path, "{done:?}");
            ask("GET", &path, &[], b"").expect(200).with_body("one two");
        }
    });
}

/// Pages at any depth: a listing, a search, a page for uploads, an error.
#[test]
fn links_of_pages_stay_below_a_prefix() {
    let docroot = Docroot::empty();
    for name in ["docs/deep/a.txt", "docs/c:d/x.txt", "up/in/a.txt", "a b/</c&/e.txt", "secret/s.txt"] {
        docroot.write(name, b"x");
    }
    docroot.write("docs/deep/README.md", b"see [a](a.txt) and [up](../c:d/)");
    on_both(|model| {
        let flags = ["--archives", "--upload", "/up", "--auth", "u:p@/secret"];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        for (method, path, status, links) in [
            ("GET", "/", 200, 8),
            ("GET", "/?q=o&sort=size", 200, 8),
            ("GET", "/docs/", 200, 8),
            ("GET", "/docs/deep/", 200, 10),
            ("GET", "/docs/deep/?q=A&order=desc", 200, 8),
            ("GET", "/docs/c:d/", 200, 8),
            ("GET", "/a%20b/%3C/c&/", 200, 8),
            ("GET", "/up/in/", 200, 8),
            ("GET", "/nosuch", 404, 2),
            ("GET", "/nosuch/", 404, 2),
            ("GET", "/docs/deep/no:such/x?a/b", 404, 2),
            ("GET", "/%2ehidden", 404, 2),
            ("GET", "/secret/s.txt", 401, 2),
            ("POST", "/docs/deep/a.txt", 405, 2),
            ("BREW", "/docs/deep", 501, 2),
            ("PUT", "/up/in/", 409, 2),
            ("PUT", "/up/no/such/folder/x", 409, 2),
            ("GET", "/docs", 301, 2),
            ("GET", "/docs/?archive=rar", 400, 2),
        ] {
            let got = client.ask(method, path, &[HTML], b"").expect(status);
            let page = got.text();
            let links_found = references(&format!("{PREFIX}{path}"), page);
            assert!(links_found.len() >= links, "{path}: {links_found:?}");
            for link in &links_found {
                let target = link.strip_prefix(PREFIX).unwrap_or_else(|| panic!("{path} leads out: {link}"));
                // The target of a link of a folder exists.
                if status == 200 {
                    let due = if target == "/secret/" { 401 } else { 200 };
                    client.ask("GET", target, &[HTML], b"").expect(due);
                }
            }
            let home = links_found.iter().filter(|link| **link == format!("{PREFIX}/")).count();
            assert!(home >= 2 || status == 200 && home >= 1, "{path}: {links_found:?}");
        }
        // The breadcrumbs each lead to their folder.
        let page = client.ask("GET", "/a%20b/%3C/c&/", &[HTML], b"").expect(200);
        let crumbs = page.text().split("<h1>").nth(1).and_then(|rest| rest.split("</h1>").next()).unwrap();
        let crumbs = references(&format!("{PREFIX}/a%20b/%3C/c&/"), crumbs);
        assert_eq!(crumbs, ["/pre/fix/", "/pre/fix/a%20b/", "/pre/fix/a%20b/%3C/"]);
        let deep = "/x".repeat(5000);
        let got = client.ask("GET", &deep, &[HTML], b"").expect(404);
        assert!(got.body.len() < 10_000, "{} bytes", got.body.len());
    });
}

/// After a rewrite the server does not know the path that the client sees, or the number of folders
/// in it.
#[test]
fn references_are_absolute_if_the_path_was_rewritten() {
    let docroot = Docroot::new();
    docroot.write("about.html", b"about");
    docroot.write("plain/evil.example/f", b"x");
    let rules = docroot.outside("rules");
    fs::write(&rules, "rewrite /list/** /plain/$1\nrewrite /page /about.html\nrewrite /up-** /up/$1")
        .unwrap();
    fs::create_dir(docroot.path("up")).unwrap();
    on_both(|model| {
        let flags = ["--clean-urls", "--upload", "/up", "--rules", rules.to_str().unwrap()];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        for (path, location) in [
            ("/list/deeper", "/plain/deeper/"),
            ("/page?x", "/about?x"),
            ("//plain", "/plain/"),
            ("//plain//evil.example", "/plain/evil.example/"),
            ("/plain//evil.example", "/plain/evil.example/"),
            ("/.//plain", "/plain/"),
            ("/plain/%2e%2e/about.html", "/about"),
            ("/plain/./deeper", "/plain/deeper/"),
            ("/sub//index.html", "/sub/"),
            ("http://localhost//plain", "/plain/"),
        ] {
            let got = client.ask("GET", path, &[HTML], b"").expect(301);
            assert_eq!(got.must("location"), location, "{path}");
        }
        let put = client.ask("PUT", &format!("/up-{model}"), &[], b"x").expect(201);
        assert_eq!(put.must("location"), format!("/up/{model}"));
        for (path, status) in
            [("/list/deeper/", 200), ("/list/nosuch", 404), ("//plain//deeper/", 200), ("//x", 404)]
        {
            let got = client.ask("GET", path, &[HTML], b"").expect(status);
            assert!(got.text().contains(" href=\"/\""), "{path}");
            assert!(status == 404 || got.text().contains("<a href=\"/plain/\">plain</a>"), "{path}");
            assert!(!got.text().contains("href=\"../../"), "{path}");
        }
    });
}

/// A proxy in front of `port`, for any number of clients. It removes the prefix.
fn proxy(port: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}{PREFIX}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || forward(client, port));
        }
    });
    url
}

/// Forwards one request, then ends the connection.
fn forward(mut client: TcpStream, port: u16) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    let mut from_client = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    from_client.read_line(&mut line)?;
    let Some(line) = Some(line.replacen(&format!(" {PREFIX}/"), " /", 1)).filter(|new| *new != line) else {
        return client.write_all(b"HTTP/1.1 502 Outside\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    };
    server.write_all(format!("{line}Connection: close\r\n").as_bytes())?;
    let mut to_server = server.try_clone()?;
    thread::spawn(move || -> io::Result<()> {
        loop {
            let mut line = String::new();
            from_client.read_line(&mut line)?;
            if !line.to_ascii_lowercase().starts_with("connection:") {
                to_server.write_all(line.as_bytes())?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        io::copy(&mut from_client, &mut to_server).map(|_| ())
    });
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Both)
}

/// The page for uploads resolves the URL of an unfinished upload as a browser resolves a link.
#[test]
fn a_browser_uploads_and_navigates_below_a_prefix() {
    let Some(chromium) = chromium() else { return };
    let files = tempfile::tempdir().unwrap();
    let (small, large) = (files.path().join("c:small.txt"), files.path().join("large.bin"));
    fs::write(&small, "small").unwrap();
    fs::write(&large, vec![7; 3_000_000]).unwrap();
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("up/in/old.txt", b"old");
        let server = Server::start(model, &docroot.root(), &["--upload", "/up"]);
        let url = proxy(server.port);
        let mut browser = Browser::start(&chromium);
        browser.open(&format!("{url}/up/in/"));
        browser.until("document.querySelector('.up.on')");
        browser.choose(".up input[name=file]", &[&small, &large]);
        browser.until("[...document.querySelectorAll('td a')].some(link => link.textContent == 'large.bin')");
        assert_eq!(fs::read(docroot.path("up/in/large.bin")).unwrap().len(), 3_000_000);
        assert_eq!(fs::read(docroot.path("up/in/c:small.txt")).unwrap(), b"small");
        browser.click("h1 a:nth-of-type(2)");
        browser.until("location.pathname == '/pre/fix/up/' && document.querySelector('h1')");
        browser.click("a.mark");
        browser.until("location.pathname == '/pre/fix/' && document.querySelector('h1')");
        assert_eq!(browser.complaints, Vec::<String>::new());
    });
}
