//! Directory listings: every name once, in the requested order, as text and never as markup.

use std::fs;
use std::net::Shutdown;
use std::process::Command;

use crate::docroot::{CHINESE, Docroot, MARKUP};
use crate::harness::{Server, on_both, program, run};
use crate::wire::{Client, Framing};

/// Returns the targets of all links of a page that lead to an entry of the same folder, decoded,
/// without a closing slash.
fn entries(page: &str) -> Vec<String> {
    hrefs(page)
        .into_iter()
        .filter(|href| is_entry(href))
        .map(|href| {
            let name =
                percent_encoding::percent_decode_str(href.trim_start_matches("./").trim_end_matches('/'));
            name.decode_utf8().expect("a name in UTF-8").into_owned()
        })
        .collect()
}

/// Returns whether a link leads to an entry, and not to another order, the parent folder or another
/// path.
fn is_entry(href: &str) -> bool {
    !href.starts_with(['?', '/', '#']) && !href.starts_with("..") && !href.contains(':') && href != "./"
}

/// Returns the values of all `href` attributes, with character references resolved.
fn hrefs(page: &str) -> Vec<String> {
    let values = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    values.map(|value| value.replace("&amp;", "&")).collect()
}

fn listing(client: &mut Client, path: &str) -> String {
    let got = client.ask("GET", path, &["Accept: text/html"], b"").expect(200);
    assert_eq!(got.must("content-type"), "text/html; charset=utf-8");
    got.text().to_owned()
}

#[test]
fn a_listing_shows_reachable_entries_and_every_link_works() {
    let docroot = Docroot::new();
    fs::remove_file(docroot.path("index.html")).unwrap();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let page = listing(&mut client, "/");
        let names = entries(&page);
        for name in
            ["hello.txt", "with space.txt", "100%.txt", CHINESE, MARKUP, "plain", "sub", "a folder", "m5.bin"]
        {
            assert_eq!(names.iter().filter(|entry| *entry == name).count(), 1, "{name} in {names:?}");
        }
        assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
        assert!(!page.contains(".secret") && !page.contains("<b onclick"), "{page}");
        assert!(page.contains("&lt;b onclick"), "the name as text: {page}");

        let page = listing(&mut client, "/plain/");
        let mut names = entries(&page);
        names.sort();
        assert_eq!(names, ["deeper", "one.txt", "two.txt"]);
        assert!(!page.contains(">.hidden"), "{page}");
        for href in hrefs(&page).iter().filter(|href| is_entry(href)) {
            client.get(&format!("/plain/{href}")).expect(200);
        }
        let head = client.ask("HEAD", "/plain/", &[], b"").expect(200);
        assert_eq!(head.must("content-type"), "text/html; charset=utf-8");
        client.get("/hello.txt").expect(200);
    });
}

#[test]
fn a_listing_is_sorted_as_requested() {
    let docroot = Docroot::new();
    for (name, size) in [("sorted/b.bin", 10), ("sorted/a.bin", 300), ("sorted/c.bin", 20_000)] {
        docroot.write(name, vec![b'x'; size]);
    }
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for (query, order) in [
            ("", "abc"),
            ("?sort=name&order=asc", "abc"),
            ("?sort=name&order=desc", "cba"),
            ("?sort=size&order=asc", "bac"),
            ("?sort=size&order=desc", "cab"),
            ("?sort=nonsense&order=%3Cb%3E", "abc"),
        ] {
            let page = listing(&mut client, &format!("/sorted/{query}"));
            let expected: Vec<String> = order.chars().map(|name| format!("{name}.bin")).collect();
            assert_eq!(entries(&page), expected, "{query}");
            assert!(!page.contains("<b>"));
        }
    });
}

#[test]
fn a_listing_of_thousands_is_complete_in_both_versions() {
    const COUNT: usize = 8_000;
    let docroot = Docroot::new();
    fs::create_dir(docroot.path("many")).unwrap();
    // Links to one file: the listing cannot distinguish them, and some file systems take a
    // millisecond to create a file.
    for number in 0..COUNT {
        fs::hard_link(docroot.path("empty.txt"), docroot.path(&format!("many/file {number:05}.txt")))
            .unwrap();
    }
    let expected: Vec<String> = (0..COUNT).map(|number| format!("file {number:05}.txt")).collect();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let got = client.get("/many/").expect(200);
        assert_eq!(got.framing, Framing::Chunked);
        assert!(entries(got.text()) == expected, "every name once and in order");
        client.get("/hello.txt").expect(200);

        // HTTP/1.0 has no chunks: the page ends with the connection, even if the client requests
        // keep-alive.
        for fields in ["", "Connection: keep-alive\r\n"] {
            let mut old = Client::connect(server.port);
            old.send(format!("GET /many/ HTTP/1.0\r\nHost: localhost\r\n{fields}\r\n"));
            let got = old.response().expect(200);
            assert_eq!(got.framing, Framing::Close);
            assert!(entries(got.text()) == expected, "every name once and in order");
            old.assert_closed();
        }

        // A client that leaves in the middle does no harm.
        let mut gone = Client::connect_narrow(server.port);
        gone.send("GET /many/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
        gone.read_some(1);
        gone.stream.shutdown(Shutdown::Both).unwrap();
        drop(gone);
        client.get("/hello.txt").expect(200);
    });
}

#[test]
fn listings_can_be_switched_off() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--no-listing"]);
        let mut client = Client::connect(server.port);
        let got = client.get("/plain/");
        assert!([403, 404].contains(&got.status), "{got:?}");
        assert!(!got.text().contains("one.txt"));
        client.get("/sub/").expect(200);
    });
}

/// Numbers by value, and letters without case and accents, whichever of its two forms in Unicode a
/// name has.
#[test]
fn names_are_in_natural_order_in_every_form() {
    const NAMES: [&str; 10] = [
        "apple",
        "Banana",
        "cherry",
        "e\u{301}clair-1",
        "\u{e9}clair-2",
        "eclair-10",
        "img2.png",
        "img10.png",
        "IMG11.png",
        "z",
    ];
    let docroot = Docroot::empty();
    for name in NAMES {
        docroot.write(&format!("names/{name}"), "x");
    }
    docroot.write("names/folder10/x", "x");
    docroot.write("names/Folder9/x", "x");
    let expected = [&["Folder9", "folder10"][..], &NAMES].concat();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        assert_eq!(entries(&listing(&mut client, "/names/")), expected);
        let text = client.get("/names/?text").expect(200);
        let lines: Vec<&str> = text.text().lines().map(|line| line.trim_end_matches('/')).collect();
        assert_eq!(lines, expected);
        let json: serde_json::Value = serde_json::from_slice(&client.get("/names/?json").body).expect("JSON");
        let names: Vec<&str> =
            json["entries"].as_array().unwrap().iter().filter_map(|e| e["name"].as_str()).collect();
        assert_eq!(names, expected);
        // Either form finds both, and so does the letter without its accent.
        for query in ["%C3%A9CLAIR", "e%CC%81clair", "eclair"] {
            let found = entries(&listing(&mut client, &format!("/names/?q={query}")));
            assert_eq!(found, NAMES[3..6], "{query}");
        }
    });
}

/// A listing for programs and for terminals: by `?json` and `?text`, or by the Accept header.
#[test]
fn a_listing_is_also_json_and_text() {
    /// Default Accept header of axios.
    const AXIOS: &str = "application/json, text/plain, */*";
    let docroot = Docroot::new();
    fs::remove_file(docroot.path("index.html")).unwrap();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for (path, accept) in [("/?json", "text/html"), ("/", "application/json"), ("/", AXIOS)] {
            let got = client.ask("GET", path, &[&format!("Accept: {accept}")], b"").expect(200);
            assert_eq!(got.must("content-type"), "application/json; charset=utf-8");
            assert!(got.varies_by("accept"), "{got:?}");
            let listing: serde_json::Value = serde_json::from_slice(&got.body).expect("JSON");
            assert_eq!((&listing["path"], &listing["truncated"]), (&"/".into(), &false.into()));
            let entries = listing["entries"].as_array().expect("entries");
            let hello = entries.iter().find(|entry| entry["name"] == "hello.txt").expect("hello.txt");
            assert_eq!((&hello["type"], &hello["size"]), (&"file".into(), &13.into()));
            for name in [MARKUP, CHINESE, "a folder"] {
                assert!(entries.iter().any(|entry| entry["name"] == name), "{name} in {listing}");
            }
            for entry in entries.iter().filter(|entry| entry["type"] == "file") {
                let href = entry["href"].as_str().expect("a link").trim_start_matches('.');
                assert_eq!(client.get(href).status, 200, "{href}");
            }
        }
        let got = client.ask("GET", "/?text&sort=size&order=desc", &["Accept: text/html"], b"").expect(200);
        assert_eq!(got.must("content-type"), "text/plain; charset=utf-8");
        let lines: Vec<&str> = got.text().lines().collect();
        let files: Vec<&&str> = lines.iter().filter(|line| !line.ends_with('/')).collect();
        assert_eq!(files.first(), Some(&&"m5.bin"), "{lines:?}");
        assert!(lines.contains(&"a folder/"), "{lines:?}");
        client.ask("GET", "/", &["Accept: */*"], b"").expect(200);
    });
}

#[test]
fn a_search_finds_names_in_every_form() {
    let docroot = Docroot::empty();
    for number in 0..1_200 {
        docroot.write(&format!("many/file {number:04}.txt"), b"");
    }
    docroot.write("many/Über alles 99.md", b"x");
    docroot.write("many/99 <b>&.txt", b"xx");
    docroot.link("../../outside", "many/leads-out-99");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let page = listing(&mut client, "/many/?q=E+119");
        let found: Vec<String> = (1190..1200).map(|number| format!("file {number}.txt")).collect();
        assert_eq!(entries(&page), found);
        // Case does not matter, in any script. A plus sign, which forms send for a space, is one
        // space.
        for (query, count) in [
            ("%C3%BCBER+ALLES", 1),
            ("TXT", 1_201),
            ("99", 23),
            ("nothing-like-it", 0),
            ("", 1_202),
            ("%3Cb%3E%26", 1),
        ] {
            let page = listing(&mut client, &format!("/many/?q={query}&sort=size&order=desc"));
            assert_eq!(entries(&page).len(), count, "{query}");
            assert!(!page.contains("<b>"), "the search text, escaped");
            let said = match (query, count) {
                ("", _) => "1,202 entries".to_owned(),
                (_, 0) => "No name matches.".to_owned(),
                _ => format!(
                    "{} of 1,202 entries",
                    if count > 1000 { "1,201".to_owned() } else { count.to_string() }
                ),
            };
            assert!(page.contains(&said), "{said}");
            let links: Vec<String> =
                hrefs(&page).into_iter().filter(|href| href.starts_with("?sort=name")).collect();
            assert_eq!(
                links[0].contains("&q="),
                !query.is_empty(),
                "another order keeps the search: {links:?}"
            );

            let json = client.get(&format!("/many/?json&q={query}")).expect(200);
            let json: serde_json::Value = serde_json::from_slice(&json.body).expect("JSON");
            assert_eq!(json["entries"].as_array().map(Vec::len), Some(count));
            assert_eq!(json["total"], 1_202);
            let text = client.get(&format!("/many/?text&q={query}")).expect(200);
            assert_eq!(text.text().lines().count(), count);
        }
        let few = Server::start(model, &docroot.root(), &["--max-listing", "100"]);
        let page = listing(&mut Client::connect(few.port), "/many/?q=zzz");
        assert!(page.contains("Only 100 names were searched"), "{page}");
    });
}

#[test]
fn a_readme_is_shown_below_its_folder() {
    let docroot = Docroot::empty();
    docroot.write("md/README.md", "# Hello *you*\n\n[next](../plain/) <script>alert(1)</script>\n");
    docroot.write("md/README.txt", "the other");
    docroot.write("md/a.txt", "a");
    docroot.write("plain/readme", "1 < 2\n");
    docroot.write("long/README.md", "word ".repeat(20_000));
    docroot.write("none/.readme.md", "hidden");
    fs::create_dir(docroot.path("none/README.md")).unwrap();
    fs::create_dir(docroot.path("out")).unwrap();
    fs::write(docroot.outside("README.md"), crate::docroot::SECRET).unwrap();
    docroot.link("../../outside/README.md", "out/README.md");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let page = listing(&mut client, "/md/");
        assert!(page.contains("<h2 id=\"user-content-hello-you\">Hello <em>you</em></h2>"), "{page}");
        assert!(
            page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !page.contains("<script>alert"),
            "{page}"
        );
        assert!(page.contains("<a href=\"./README.md\">README.md</a></h2>") && !page.contains("the other"));
        assert!(listing(&mut client, "/plain/").contains("<pre>1 &lt; 2\n</pre>"));
        let long = listing(&mut client, "/long/");
        assert!(long.contains("too long to display") && !long.contains("word word"));
        for path in ["/none/", "/out/", "/md/?q=a"] {
            let page = listing(&mut client, path);
            assert!(!page.contains("class=\"readme\"") && !page.contains(crate::docroot::SECRET), "{path}");
        }
        let page = client.get("/md/?json").expect(200);
        assert!(!page.text().contains("Hello"));

        let off = Server::start(model, &docroot.root(), &["--no-readme"]);
        assert!(!listing(&mut Client::connect(off.port), "/md/").contains("class=\"readme\""));
    });
}

/// A stranger who may upload would otherwise write on a page of this site.
#[test]
fn a_readme_in_a_folder_that_takes_uploads_is_not_shown() {
    let docroot = Docroot::empty();
    for path in ["inbox/README.md", "inbox/deep/README.md", "own/README.md"] {
        docroot.write(path, "# Hello");
    }
    docroot.link("inbox/README.md", "README.md");
    docroot.write("other/a.txt", "a");
    docroot.link("../inbox/README.md", "other/README.md");
    docroot.link("inbox/deep", "linked");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--upload", "/inbox"]);
        let mut client = Client::connect(server.port);
        for path in ["/inbox/", "/inbox/deep/", "/", "/other/", "/linked/"] {
            assert!(!listing(&mut client, path).contains("class=\"readme\""), "{path}");
        }
        assert!(listing(&mut client, "/own/").contains("user-content-hello"));
    });
}

/// The page may run only its own script, so the policy must contain the hash of that script.
#[test]
fn the_policy_of_a_listing_lets_its_own_script_run() {
    let docroot = Docroot::new();
    let Some(python) = program(&["python3"], "WHIRLIGIG_REQUIRE_CLIENTS") else { return };
    let server = Server::start("reactor", &docroot.root(), &[]);
    let got = Client::connect(server.port).ask("GET", "/plain/", &["Accept: text/html"], b"").expect(200);
    let (_, rest) = got.text().split_once("<script>").expect("a script");
    let (script, _) = rest.split_once("</script>").expect("its end");
    let hash = "import sys, hashlib, base64\n\
        print(base64.b64encode(hashlib.sha256(sys.argv[1].encode()).digest()).decode(), end='')";
    let hash = run(Command::new(python).args(["-c", hash, script])).out;
    let policy = got.must("content-security-policy");
    assert!(policy.contains(&format!("script-src 'sha256-{hash}';")), "{hash} in {policy}");
    assert!(policy.starts_with("default-src 'none';"));
}

/// The real path of a folder counts as well, as it does for a file. A link used to show the names
/// in a protected folder.
#[test]
fn a_link_to_a_hidden_folder_is_hidden() {
    let docroot = Docroot::new();
    docroot.write("site/.git/config-of-git", b"x");
    docroot.write("site/bin/program", b"x");
    docroot.write("site/bin/deeper/program", b"x");
    docroot.link(".git", "site/history");
    docroot.link("bin", "site/tools");
    docroot.link("bin/deeper", "site/more");
    let cgi = format!("/cgi={}", docroot.path("site/bin").display());
    let flags = ["--cgi", &cgi, "--archives"];
    on_both(|model| {
        let server = Server::start(model, &docroot.path("site"), &flags);
        let mut client = Client::connect(server.port);
        for path in ["/history/", "/tools/", "/more/", "/history", "/tools", "/bin/", "/tools/deeper/"] {
            client.get(path).expect(404);
            client.get(&format!("{path}?archive=tar")).expect(404);
        }
        assert_eq!(entries(&listing(&mut client, "/")), ["bin"]);
        let plain = Server::start(model, &docroot.root(), &[]);
        assert_eq!(entries(&listing(&mut Client::connect(plain.port), "/.well-known/")), ["security.txt"]);
    });
}
