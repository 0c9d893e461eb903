//! `--live-reload`: the script in pages, and the changes that it reports.

use std::fs;
use std::time::Duration;

use crate::browser::chromium;
use crate::devtools::Browser;
use crate::docroot::Docroot;
use crate::harness::{Server, on_both};
use crate::wire::{Client, request};

/// Several times the span in which the server waits for more changes.
const QUIET: Duration = Duration::from_millis(300);

/// A listener with the number of changes that it has received.
struct Listener {
    client: Client,
    text: String,
}

impl Listener {
    fn join(port: u16, query: &str) -> Listener {
        let mut client = Client::connect(port);
        client.send(request("GET", &format!("/_whirligig/live{query}"), &[], b""));
        let mut listener = Listener { client, text: String::new() };
        listener.until(|text| text.contains(":\n\n"));
        listener
    }

    fn until(&mut self, is_enough: impl Fn(&str) -> bool) {
        while !is_enough(&self.text) {
            let piece = self.client.read_some(4096);
            assert!(!piece.is_empty(), "the stream ended after {}", self.text);
            self.text += &String::from_utf8_lossy(&piece);
        }
    }

    /// Makes a change and waits until it is reported.
    fn hears(&mut self, what: &str, change: impl FnOnce()) {
        change();
        self.until(|text| text.contains("event: change\ndata: \n\n"));
        assert!(!self.text.is_empty(), "{what}");
        self.text.clear();
    }
}

#[test]
fn pages_get_the_script_and_nothing_else_does() {
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("index.html", "<p>page");
        docroot.write("large.html", "x".repeat(100_000));
        docroot.write("index.html.gz", "not looked at");
        docroot.write("a.txt", "text");
        docroot.write("404.html", "<p>missing");
        let plain = Server::start(model, &docroot.root(), &[]);
        let live = Server::start(model, &docroot.root(), &["--live-reload", "--error-page", "404=/404.html"]);
        let (mut without, mut client) = (Client::connect(plain.port), Client::connect(live.port));
        const TAG: &str = "<script src=\"/_whirligig/live.js\" async></script>\n";
        let page = client.get("/").expect(200);
        assert_eq!(page.text(), format!("<p>page\n{TAG}"));
        assert_ne!(
            page.must("etag"),
            without.get("/").must("etag"),
            "a cache must not confuse the two forms"
        );
        client.ask("GET", "/", &[&format!("If-None-Match: {}", page.must("etag"))], b"").expect(304);
        client.ask("GET", "/", &["Accept-Encoding: gzip"], b"").expect(200).with_body(&page.body);
        assert!(client.get("/large.html").expect(200).text().ends_with(TAG));
        assert!(client.get("/nosuch").expect(404).text().ends_with(TAG));
        let text = client.get("/a.txt").expect(200).with_body("text");
        assert_eq!(text.must("cache-control"), "no-cache", "a browser revalidates when it reloads");
        assert!(client.get("/_whirligig/live.js").expect(200).text().contains("/_whirligig/live"));
        without.get("/").expect(200).with_body("<p>page");
        without.get("/_whirligig/live.js").expect(404);
    });
}

#[test]
fn every_kind_of_change_is_reported() {
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("index.html", "<p>page");
        docroot.write("old/a.css", "a");
        fs::create_dir(docroot.root().join(".git")).unwrap();
        let root = docroot.root();
        let server = Server::start(model, &root, &["--live-reload"]);
        let mut listener = Listener::join(server.port, "");
        // A page that is loaded now and listens later.
        let script = Client::connect(server.port).get("/_whirligig/live.js").expect(200);
        let since =
            script.text().split('\'').find(|word| word.contains("?since=")).expect("the URL of the events");
        let since = since[since.find('?').unwrap()..].to_owned();
        listener.hears("written", || docroot.write("index.html", "<p>other"));
        Listener::join(server.port, &since).hears("a change that it missed", || {});
        listener.hears("written below", || docroot.write("old/a.css", "b"));
        listener.hears("renamed over", || {
            fs::write(root.join("old/new.css"), "c").unwrap();
            fs::rename(root.join("old/new.css"), root.join("old/a.css")).unwrap();
        });
        listener.hears("deleted", || fs::remove_file(root.join("old/a.css")).unwrap());
        listener.hears("a new folder", || fs::create_dir_all(root.join("new/deep/deeper")).unwrap());
        // The folder is watched by now, because the report of the last change came after that.
        listener.hears("written in a new folder", || docroot.write("new/deep/deeper/x.html", "x"));
        listener.hears("a folder moved", || fs::rename(root.join("new"), root.join("moved")).unwrap());
        listener.hears("written in a moved folder", || docroot.write("moved/deep/deeper/x.html", "y"));
        // A busy machine may report one change twice.
        while !listener.client.is_quiet_for(QUIET) {
            listener.client.read_some(4096);
        }
        fs::write(root.join(".git/index"), "x").unwrap();
        fs::write(root.join(".hidden"), "x").unwrap();
        assert!(listener.client.is_quiet_for(QUIET), "changes of hidden files are not reported");
        listener.hears("a change that is served", || docroot.write("last.txt", "z"));
    });
}

/// Sites are published by changing a link: that of the root, or `..data` within it.
#[test]
fn a_changed_link_is_reported_and_the_new_folder_is_watched() {
    on_both(|model| {
        let docroot = Docroot::empty();
        for release in ["one", "two"] {
            docroot.write(&format!("{release}/index.html"), release);
            docroot.write(&format!("{release}/..first/page.html"), release);
            fs::create_dir(docroot.path(&format!("{release}/..second"))).unwrap();
            docroot.link("..first", &format!("{release}/..data"));
        }
        docroot.link("one", "current");
        let server = Server::start(model, &docroot.path("current"), &["--live-reload"]);
        let mut listener = Listener::join(server.port, "");
        listener.hears("the root is another folder", || {
            docroot.link("two", "new");
            fs::rename(docroot.path("new"), docroot.path("current")).unwrap();
        });
        listener.hears("written in the new folder", || docroot.write("two/index.html", "third"));
        listener.hears("a hidden link is turned", || {
            docroot.link("..second", "two/..data_tmp");
            fs::rename(docroot.path("two/..data_tmp"), docroot.path("two/..data")).unwrap();
        });
        while !listener.client.is_quiet_for(QUIET) {
            listener.client.read_some(4096);
        }
        docroot.write("one/index.html", "not served");
        assert!(listener.client.is_quiet_for(QUIET), "the old folder is no longer watched");
    });
}

/// A file that is served alone does not reload when another one in its folder changes.
#[test]
fn only_the_file_that_is_served_is_watched() {
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("page.html", "<p>one");
        docroot.write("sub/other.html", "<p>other");
        let server = Server::start(model, &docroot.path("page.html"), &["--live-reload"]);
        let mut listener = Listener::join(server.port, "");
        listener.hears("written", || docroot.write("page.html", "<p>two"));
        while !listener.client.is_quiet_for(QUIET) {
            listener.client.read_some(4096);
        }
        docroot.write("other.html", "<p>other");
        docroot.write("sub/other.html", "<p>changed");
        assert!(listener.client.is_quiet_for(QUIET), "no other file is shown");
        listener.hears("replaced", || {
            docroot.write("new", "<p>three");
            fs::rename(docroot.path("new"), docroot.path("page.html")).unwrap();
        });
    });
}

/// Returns whether the page at `path` contains the script, and whether its policy lets the script
/// run and listen.
fn reloads(client: &mut Client, path: &str, status: u16) -> bool {
    let accept = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";
    let page = client.ask("GET", path, &[accept], b"").expect(status);
    let policy =
        page.field("content-security-policy").unwrap_or("script-src 'self'; connect-src 'self'").to_owned();
    let allows = |name: &str| policy.split(';').any(|part| part.contains(name) && part.contains("'self'"));
    let has_script = page.text().contains("<script src=\"/_whirligig/live.js\" async></script>");
    assert!(!has_script || (allows("script-src") && allows("connect-src")), "{path}: {policy}");
    has_script
}

#[test]
fn error_pages_and_listings_carry_the_script() {
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("folder/a.txt", "a");
        docroot.write("inbox/b.txt", "b");
        docroot.write("private/c.txt", "c");
        docroot.write(".hidden", "h");
        for number in 0..2000 {
            docroot.write(&format!("long/a-name-that-takes-some-room-{number}.txt"), "");
        }
        let flags = ["--upload", "/inbox", "--auth", "a:b@/private"];
        let live = Server::start(model, &docroot.root(), &[&flags[..], &["--live-reload"]].concat());
        let plain = Server::start(model, &docroot.root(), &flags);
        let (mut client, mut without) = (Client::connect(live.port), Client::connect(plain.port));
        for (path, status) in [
            ("/x.html", 404),
            ("/folder/deep/er.html", 404),
            ("/.hidden", 404),
            ("/private/", 401),
            ("/", 200),
            ("/folder/?sort=size", 200),
            ("/inbox/", 200),
            ("/long/", 200),
        ] {
            assert!(reloads(&mut client, path, status), "{path}");
            assert!(!reloads(&mut without, path, status), "{path} without the flag");
        }
        // The script is for browsers. Responses for programs do not change.
        for (path, status) in [("/nosuch", 404), ("/?json", 200), ("/?text", 200), ("/folder/a.txt", 200)] {
            let text = client.ask("GET", path, &["Accept: */*"], b"").expect(status);
            assert!(!text.text().contains("<script"), "{path}: {}", text.text());
        }
        let head = client.ask("HEAD", "/x.html", &["Accept: text/html"], b"").expect(404);
        let page = client.ask("GET", "/x.html", &["Accept: text/html"], b"").expect(404);
        assert_eq!(head.must("content-length"), page.must("content-length"));
    });
}

/// A browser shows our 404. Then the missing page is written, and the browser shows it. Then a
/// listing gets a row for a new file.
#[test]
fn a_browser_sees_a_missing_page_and_a_new_row_appear() {
    let Some(chromium) = chromium() else { return };
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("folder/a.txt", "a");
        let server = Server::start(model, &docroot.root(), &["--live-reload"]);
        let mut browser = Browser::start(&chromium);
        let shows = |text: &str| format!("document.body.innerText.includes({text:?})");
        browser.open(&format!("{}late.html", server.url));
        browser.until(&shows("404"));
        // The script has run, because it delays the load event that `open` waits for.
        docroot.write("late.html", "<!doctype html><title>x</title><p>here at last");
        browser.until(&shows("here at last"));
        browser.open(&format!("{}folder/", server.url));
        browser.until(&shows("a.txt"));
        docroot.write("folder/new.txt", "b");
        browser.until(&shows("new.txt"));
        assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
    });
}
