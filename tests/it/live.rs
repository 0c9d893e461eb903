//! `--live-reload`: what pages get, and of which changes they are told.

use std::fs;
use std::time::Duration;

use crate::docroot::Docroot;
use crate::harness::{Server, on_both};
use crate::wire::{Client, request};

/// Several times what the server waits for more changes.
const QUIET: Duration = Duration::from_millis(300);

/// A listener, and how many changes it was told of.
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
            assert!(!piece.is_empty(), "it ended after {}", self.text);
            self.text += &String::from_utf8_lossy(&piece);
        }
    }

    /// Does something and waits until it is told of.
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
            "a browser must not keep the one for the other"
        );
        client.ask("GET", "/", &[&format!("If-None-Match: {}", page.must("etag"))], b"").expect(304);
        client.ask("GET", "/", &["Accept-Encoding: gzip"], b"").expect(200).with_body(&page.body);
        assert!(client.get("/large.html").expect(200).text().ends_with(TAG));
        assert!(client.get("/nosuch").expect(404).text().ends_with(TAG));
        let text = client.get("/a.txt").expect(200).with_body("text");
        assert_eq!(text.must("cache-control"), "no-cache", "a browser asks again when it reloads");
        assert!(client.get("/_whirligig/live.js").expect(200).text().contains("/_whirligig/live"));
        without.get("/").expect(200).with_body("<p>page");
        without.get("/_whirligig/live.js").expect(404);
    });
}

#[test]
fn every_kind_of_change_is_told() {
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
            script.text().split('\'').find(|word| word.contains("?since=")).expect("where it listens");
        let since = since[since.find('?').unwrap()..].to_owned();
        listener.hears("written", || docroot.write("index.html", "<p>other"));
        Listener::join(server.port, &since).hears("what it has missed", || {});
        listener.hears("written below", || docroot.write("old/a.css", "b"));
        listener.hears("renamed over", || {
            fs::write(root.join("old/new.css"), "c").unwrap();
            fs::rename(root.join("old/new.css"), root.join("old/a.css")).unwrap();
        });
        listener.hears("deleted", || fs::remove_file(root.join("old/a.css")).unwrap());
        listener.hears("a new folder", || fs::create_dir_all(root.join("new/deep/deeper")).unwrap());
        // The folder is watched from now on: the answer to the last change came after that.
        listener.hears("written in a new folder", || docroot.write("new/deep/deeper/x.html", "x"));
        listener.hears("a folder moved", || fs::rename(root.join("new"), root.join("moved")).unwrap());
        listener.hears("written in a moved folder", || docroot.write("moved/deep/deeper/x.html", "y"));
        // One change may be told twice on a busy machine.
        while !listener.client.is_quiet_for(QUIET) {
            listener.client.read_some(4096);
        }
        fs::write(root.join(".git/index"), "x").unwrap();
        fs::write(root.join(".hidden"), "x").unwrap();
        assert!(listener.client.is_quiet_for(QUIET), "what is not served changes nothing");
        listener.hears("a change that is served", || docroot.write("last.txt", "z"));
    });
}
