//! `--clean-urls`: every page has one URL, and each of its other names redirects there.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;

use crate::docroot::Docroot;
use crate::harness::{Server, on_both};
use crate::wire::{Client, Response};

const HTML: &str = "Accept: text/html,*/*;q=0.8";

/// Returns a site in which pages, folders and files have almost the same names.
fn site() -> Docroot {
    let docroot = Docroot::empty();
    for (name, content) in [
        ("index.html", "home"),
        ("contact.html", "contact"),
        // A folder without an index next to a page.
        ("blog.html", "blog page"),
        ("blog/post.html", "post"),
        ("docs/v1.2.html", "v1.2 page"),
        ("docs/v1.2/a.html", "a"),
        // A folder with an index next to a page.
        ("both.html", "both page"),
        ("both/index.html", "both folder"),
        // A file next to a page.
        ("LICENSE", "license text"),
        ("LICENSE.html", "license page"),
        ("docs/index.html", "docs"),
        ("docs/a b.html", "a b"),
        // A folder named index, and pages named index.
        ("index/index.html", "index of index"),
        ("other/index.html", "other"),
        ("other/index/x.html", "x"),
        ("twice.html.html", "twice"),
        ("canary.txt", "canary"),
        ("folder.html/x.html", "in a folder with the name of a page"),
    ] {
        docroot.write(name, content);
    }
    docroot.link("contact.html", "linked.html");
    docroot.link("blog", "linked-blog");
    docroot.link("blog.html", "linked-blog.html");
    docroot.link("../outside", "out");
    docroot.write("out.html", "out page");
    docroot
}

/// Follows redirects. Returns the last response and the paths on the way.
fn follow(client: &mut Client, method: &str, path: &str) -> (Response, Vec<String>) {
    let (mut target, mut way) = (path.to_owned(), Vec::new());
    loop {
        let got = client.ask(method, &target, &[HTML], b"");
        if got.status != 301 {
            return (got, way);
        }
        target = got.leads_to(&target);
        way.push(target.clone());
        assert!(way.len() < 4, "{path} redirects endlessly: {way:?}");
    }
}

/// A path, the final content, and the paths on the way.
const WAYS: &[(&str, &str, &[&str])] = &[
    ("/", "home", &[]),
    ("/index.html", "home", &["/"]),
    ("/docs/index", "docs", &["/docs/"]),
    ("/docs/index/", "docs", &["/docs/"]),
    ("/docs/index.html?a=b", "docs", &["/docs/?a=b"]),
    ("/contact", "contact", &[]),
    ("/contact/", "contact", &["/contact"]),
    ("/contact/?a=b", "contact", &["/contact?a=b"]),
    ("/contact.html", "contact", &["/contact"]),
    ("/linked/", "contact", &["/linked"]),
    ("/blog", "blog page", &[]),
    ("/blog?a=b", "blog page", &[]),
    ("/blog.html", "blog page", &["/blog"]),
    ("/blog/post", "post", &[]),
    ("/blog/post/", "post", &["/blog/post"]),
    ("/linked-blog", "blog page", &[]),
    ("/docs/v1.2", "v1.2 page", &[]),
    ("/docs/v1.2.html", "v1.2 page", &["/docs/v1.2"]),
    ("/docs/a%20b/", "a b", &["/docs/a%20b"]),
    ("/docs/%61%20b.html", "a b", &["/docs/a%20b"]),
    ("//contact/", "contact", &["/contact"]),
    ("/docs/./index", "docs", &["/docs/"]),
    // The folder has that name, so the page keeps its long one.
    ("/both", "both folder", &["/both/"]),
    ("/both/", "both folder", &[]),
    ("/both.html", "both page", &[]),
    ("/LICENSE", "license text", &[]),
    ("/LICENSE.html", "license page", &[]),
    // A folder named index is treated in the same way. The index of its parent folder has a name of
    // its own.
    ("/index", "index of index", &["/index/"]),
    ("/index/index", "index of index", &["/index/"]),
    ("/index/index.html", "index of index", &["/index/"]),
    ("/other/index", "other", &["/other/"]),
    ("/twice.html.html", "twice", &[]),
    ("/out", "out page", &[]),
    ("/out/", "out page", &["/out"]),
    ("/folder.html/x", "in a folder with the name of a page", &[]),
];

#[test]
fn every_page_has_one_url_and_its_other_names_lead_there() {
    let docroot = site();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--clean-urls"]);
        let hidden = Server::start(model, &docroot.root(), &["--clean-urls", "--no-listing"]);
        for (path, content, way) in WAYS {
            // Twice, and with a coding: from disk, and from memory.
            for server in [&server, &server, &hidden] {
                let mut client = Client::connect(server.port);
                for method in ["GET", "HEAD"] {
                    let (got, went) = follow(&mut client, method, path);
                    let got = got.expect(200);
                    assert_eq!(went, *way, "{method} {path}");
                    if method == "GET" {
                        got.with_body(content);
                    }
                }
                let target = way.last().unwrap_or(path);
                client.ask("GET", target, &["Accept-Encoding: gzip"], b"").expect(200).with_body(content);
            }
        }
        let mut client = Client::connect(server.port);
        for path in [
            "/nope",
            "/nope/",
            "/canary.txt/",
            "/LICENSE/",
            "/contact.html/",
            "/twice",
            "/twice.html",
            "/contact/x",
            "/contact.htm",
            "/.html",
            "/docs/.html",
            "/blog/.html/",
        ] {
            for port in [server.port, hidden.port] {
                Client::connect(port).ask("GET", path, &[HTML], b"").expect(404);
            }
        }
        // The entries of a folder without an index appear only at the path of the folder, or
        // nowhere.
        assert!(client.ask("GET", "/blog/", &[HTML], b"").expect(200).text().contains("./post.html"));
        client.ask("GET", "/other/index/", &[HTML], b"").expect(200);
        assert_eq!(client.get("/folder.html").expect(301).must("location"), "folder.html/");
        let mut client = Client::connect(hidden.port);
        assert_eq!(follow(&mut client, "GET", "/blog/").1, ["/blog"]);
        assert_eq!(follow(&mut client, "GET", "/other/index/").1, ["/other/"]);
        client.get("/folder.html/").expect(404);
    });
}

/// Conditions, ranges and coded forms apply to the page. A change of the folder is visible at once.
#[test]
fn a_page_beside_a_folder_is_a_file_like_any_other() {
    on_both(|model| {
        let docroot = site();
        let page = "long ".repeat(1000);
        docroot.write("blog.html", &page);
        docroot.write("blog.html.br", "stands for blog.html");
        let server = Server::start(model, &docroot.root(), &["--clean-urls", "--fresh", "0"]);
        let mut client = Client::connect(server.port);
        let whole = client.get("/blog").expect(200).with_body(&page);
        let tag = whole.must("etag").to_owned();
        client.ask("GET", "/blog", &[&format!("If-None-Match: {tag}")], b"").expect(304);
        client.ask("GET", "/blog", &["If-Match: \"other\""], b"").expect(412);
        client.ask("GET", "/blog", &["Range: bytes=0-3"], b"").expect(206).with_body("long");
        let coded = client.ask("GET", "/blog", &["Accept-Encoding: br"], b"").expect(200);
        assert_eq!((coded.text(), coded.must("content-encoding")), ("stands for blog.html", "br"));
        let saved = client.get("/blog?download").expect(200);
        assert!(saved.must("content-disposition").contains("blog.html"), "{saved:?}");
        // The folder gets an index, loses it, and is deleted.
        docroot.write("blog/index.html", "blog folder");
        assert_eq!(client.get("/blog").expect(301).must("location"), "blog/");
        client.get("/blog.html").expect(200).with_body(&page);
        fs::remove_file(docroot.path("blog/index.html")).unwrap();
        client.get("/blog").expect(200).with_body(&page);
        assert_eq!(client.get("/blog.html").expect(301).must("location"), "blog");
        fs::remove_dir_all(docroot.path("blog")).unwrap();
        client.get("/blog").expect(200).with_body(&page);
        assert_eq!(client.get("/blog/").expect(301).must("location"), "../blog");
        // The page is deleted: then the folder has its name again.
        docroot.write("blog/post.html", "post");
        fs::remove_file(docroot.path("blog.html")).unwrap();
        assert_eq!(client.get("/blog").expect(301).must("location"), "blog/");
    });
}

#[test]
fn short_names_share_the_password_and_path_of_their_page() {
    let docroot = site();
    docroot.write("one.html", "SECRET");
    docroot.write("two.html", "SECRET");
    fs::create_dir(docroot.path("two")).unwrap();
    docroot.write("private/three.html", "SECRET");
    docroot.link("private/three.html", "four.html");
    fs::create_dir(docroot.path("four")).unwrap();
    docroot.link("../outside/secret.html", "five.html");
    fs::write(docroot.outside("secret.html"), "SECRET").unwrap();
    docroot.write("shut.html", "SECRET");
    fs::set_permissions(docroot.path("shut.html"), fs::Permissions::from_mode(0o000)).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    on_both(|model| {
        let auth = ["--auth", "u:p@/one.html", "--auth", "u:p@/two.html", "--auth", "u:p@/private"];
        let spa = [&auth[..], &["--clean-urls", "--spa", "--error-page", "404=/nosuch.html"]].concat();
        let server = Server::start(model, &docroot.root(), &spa);
        let mut client = Client::connect(server.port);
        let right =
            format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode("u:p"));
        for path in [
            "/one",
            "/one/",
            "/one.html",
            "/%6fne",
            "//one",
            "/x/../two",
            "/two",
            "/two.html",
            "/four",
            "/four.html",
            "/private/three",
            "/private/three/",
        ] {
            for method in ["GET", "HEAD"] {
                let refused = client.ask(method, path, &[HTML], b"").expect(401);
                assert!(refused.field("location").is_none() && !refused.body.ends_with(b"SECRET"), "{path}");
            }
            let got = client.ask("GET", path, &[HTML, &right], b"");
            assert!(got.status == 301 || got.body == b"SECRET", "{path}: {got:?}");
        }
        // The page of the application is served for missing paths, but not instead of a page.
        for (path, content) in
            [("/five", "home"), ("/five/", "home"), ("/nope/", "home"), ("/blog", "blog page")]
        {
            client.ask("GET", path, &[HTML], b"").expect(200).with_body(content);
        }
        assert_eq!(client.ask("GET", "/contact/", &[HTML], b"").expect(301).must("location"), "../contact");
        for path in ["/shut", "/shut/"] {
            let got = client.ask("GET", path, &[HTML], b"");
            assert!(is_root || got.status == 403, "{path}: {got:?}");
        }
    });
}

/// Each host has its own pages.
#[test]
fn short_names_are_those_of_the_host() {
    let (docroot, other) = (site(), Docroot::empty());
    other.write("contact/index.html", "other contact");
    other.write("news.html", "other news");
    let vhost = format!("other.example={}", other.root().display());
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--clean-urls", "--vhost", &vhost]);
        let mut client = Client::connect(server.port);
        for (host, path, status, expected) in [
            ("localhost", "/contact/", 301, "../contact"),
            ("other.example", "/contact/", 200, "other contact"),
            ("other.example", "/contact", 301, "contact/"),
            ("other.example", "/news/", 301, "../news"),
            ("localhost", "/news/", 404, ""),
        ] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let got = client.response().expect(status);
            match status {
                301 => assert_eq!(got.must("location"), expected, "{host} {path}"),
                200 => assert_eq!(got.text(), expected, "{host} {path}"),
                _ => {}
            }
        }
    });
}
