//! `--index`: the names of index files, in order of precedence.

use std::fs;
use std::os::unix::fs::symlink;

use whirligig::Server as Library;

use crate::docroot::Docroot;
use crate::harness::{Server, on_both};
use crate::library::InProcess;
use crate::wire::Client;

const BOTH: [&str; 4] = ["--index", "main.html", "--index", "home.htm"];

#[test]
fn the_first_that_exists_is_sent_and_changes_are_seen() {
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("a/home.htm", "home");
        docroot.write("a/index.html", "index");
        let server = Server::start(model, &docroot.root(), &[&BOTH[..], &["--fresh", "0"]].concat());
        let mut client = Client::connect(server.port);
        let mut is = |text: &str| {
            // From disk and from the cache, plain and by a client that accepts codings.
            for coding in ["identity", "gzip, br"] {
                for _ in 0..2 {
                    let field = format!("Accept-Encoding: {coding}");
                    let answer = client.ask("GET", "/a/", &[&field], b"").expect(200);
                    assert_eq!(answer.text(), text, "{coding}");
                }
            }
        };
        is("home");
        docroot.write("a/main.html", "main");
        is("main");
        docroot.write("a/main.html.br", "main in brotli");
        let mut coded = Client::connect(server.port);
        let answer = coded.ask("GET", "/a/", &["Accept-Encoding: br"], b"").expect(200);
        assert_eq!((answer.text(), answer.must("content-encoding")), ("main in brotli", "br"));
        fs::remove_file(docroot.path("a/main.html.br")).unwrap();
        is("main");
        // Only a regular file is an index.
        fs::remove_file(docroot.path("a/main.html")).unwrap();
        docroot.write("a/main.html/x", "a folder");
        is("home");
        fs::remove_dir_all(docroot.path("a/main.html")).unwrap();
        is("home");
        fs::remove_file(docroot.path("a/home.htm")).unwrap();
        let listing = Client::connect(server.port).get("/a/").expect(200);
        assert!(listing.text().contains("index.html"), "it is a file like others: {}", listing.text());
    });
}

#[test]
fn the_name_counts_wherever_an_index_does() {
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("main.html", "main");
        docroot.write("index.html", "index");
        docroot.write("b/main.html", "b main");
        docroot.write("b/home.htm", "b home");
        let flags = [&BOTH[..], &["--clean-urls", "--header", "/b/main.html: X-Is: main"]].concat();
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        assert_eq!(client.get("/main.html").expect(301).must("location"), "./");
        assert_eq!(client.get("/b/main.html").expect(301).must("location"), "./");
        // The short name of a page that is no index is its own.
        assert_eq!(client.get("/index.html").expect(301).must("location"), "index");
        client.get("/index").expect(200).with_body("index");
        client.get("/").expect(200).with_body("main");
        assert_eq!(client.get("/b/").expect(200).must("x-is"), "main");
        let saved = client.get("/b/?download").expect(200);
        assert_eq!(saved.must("content-disposition"), "attachment; filename=\"main.html\"");
        assert_eq!(client.get("/b").expect(301).must("location"), "b/");
    });
}

/// A redirect from an index that another one replaces would lead to another page.
#[test]
fn an_index_without_precedence_has_no_short_name() {
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("first.html", "first");
        docroot.write("second.html", "second");
        let flags = ["--index", "first.html", "--index", "second.html", "--clean-urls"];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        client.get("/second.html").expect(200).with_body("second");
        assert_eq!(client.get("/first.html").expect(301).must("location"), "./");
        client.get("/").expect(200).with_body("first");
    });
}

/// The index is a link, so the password of its location is not that of its name.
#[test]
fn the_password_of_an_index_covers_its_folder() {
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("elsewhere.html", "text");
        docroot.write("a/other.txt", "open");
        symlink("../elsewhere.html", docroot.path("a/main.html")).unwrap();
        let flags = [&BOTH[..], &["--auth", "anna:pw@/a/main.html"]].concat();
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        client.get("/a/").expect(401);
        client.get("/a/main.html").expect(401);
        client.get("/a/other.txt").expect(200);
        client.ask("GET", "/a/", &["Authorization: Basic YW5uYTpwdw=="], b"").expect(200).with_body("text");
    });
}

#[test]
fn the_file_and_the_library_have_the_names_too() {
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("main.html", "main");
        docroot.write("home.htm", "home");
        let config = docroot.outside(&format!("{model}.toml"));
        fs::write(&config, "index = ['none.html', 'home.htm']\n").unwrap();
        let server = Server::start(model, &docroot.root(), &["--config", config.to_str().unwrap()]);
        Client::connect(server.port).get("/").expect(200).with_body("home");

        let builder = Library::builder().files(docroot.root()).index(["main.html", "home.htm"]);
        let server = InProcess::start(model, builder);
        Client::connect(server.port).get("/").expect(200).with_body("main");
        let server = InProcess::start(model, Library::builder().files(docroot.path("home.htm")));
        let mut client = Client::connect(server.port);
        client.get("/home.htm").expect(200).with_body("home");
        client.get("/main.html").expect(404);
        let wrong = Library::builder().files(docroot.root()).index(["a/b"]).bind("127.0.0.1:0");
        assert!(wrong.expect_err("no name").to_string().contains("the index file 'a/b'"));
    });
}
