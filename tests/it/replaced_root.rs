//! A root whose name leads to another folder: a changed link, or a folder that was created again.
//! The next request is served from the new folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::docroot::{Docroot, SECRET};
use crate::harness::{Server, on_both, until};
use crate::wire::{Client, Response, resolve};

/// Makes `name` a link to `target`, and replaces an older link.
fn turn(docroot: &Docroot, target: &str, name: &str) {
    symlink(target, docroot.path("new-link")).unwrap();
    fs::rename(docroot.path("new-link"), docroot.path(name)).unwrap();
}

/// Creates two releases of a site, and a link `current` to the first.
fn releases() -> Docroot {
    let docroot = Docroot::empty();
    for release in ["one", "two"] {
        docroot.write(&format!("{release}/index.html"), release);
        docroot.write(&format!("{release}/same.txt"), format!("text of {release}"));
        docroot.write(&format!("{release}/large.bin"), release.repeat(50_000));
        docroot.write(&format!("{release}/folder/of-{release}.txt"), release);
        docroot.write(&format!("{release}/up/kept.txt"), release);
    }
    docroot.write("two/new.txt", "new");
    docroot.link("one", "current");
    docroot
}

/// Returns the part of a response after `begin`, up to `end`.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
    text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map_or("", |(part, _)| part)
}

#[test]
fn a_changed_link_is_followed_by_everything_that_serves_files() {
    on_both(|model| {
        let docroot = releases();
        let current = docroot.path("current");
        let host = format!("app.example={}", current.display());
        let flags = ["--vhost", &host, "--archives", "--fresh", "0", "-v"];
        // The same name is the root of the server and of a host.
        let mut server = Server::start(model, &current, &flags);
        let mut client = Client::connect(server.port);
        for release in ["one", "two", "one"] {
            for host in ["localhost", "app.example"] {
                let host = format!("Host: {host}");
                let mut get = |path: &str| -> Response {
                    let head = format!("GET {path} HTTP/1.1\r\n{host}\r\n\r\n");
                    client.send(head);
                    client.response()
                };
                // Twice: from disk and from the cache.
                for _ in 0..2 {
                    get("/").expect(200).with_body(release);
                    get("/same.txt").expect(200).with_body(format!("text of {release}"));
                    get("/large.bin").expect(200).with_body(release.repeat(50_000));
                    get("/new.txt").expect(if release == "two" { 200 } else { 404 });
                }
                let listing = get("/folder/?json").expect(200);
                assert_eq!(between(listing.text(), "\"name\":\"", "\""), format!("of-{release}.txt"));
                let archive = get("/?archive=tar").expect(200).body;
                let name = format!("folder/of-{release}.txt");
                assert!(memchr::memmem::find(&archive, name.as_bytes()).is_some(), "{name}");
            }
            turn(&docroot, if release == "one" { "two" } else { "one" }, "current");
        }
        client.get("/").expect(200).with_body("two");
        // Each change that a request noticed is logged once for the root of the server and once for
        // that of the host.
        let logged = || server.err.text().matches("current is another folder now").count();
        until("each change is logged", || logged() >= 3 + 2);
        assert_eq!(logged(), 3 + 2);
        assert!(server.is_running());
    });
}

#[test]
fn a_folder_that_was_created_again_or_moved_is_followed() {
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("public/page.txt", "first");
        docroot.write("next/page.txt", "third");
        let server = Server::start(model, &docroot.path("public"), &["--fresh", "0"]);
        let mut client = Client::connect(server.port);
        client.get("/page.txt").expect(200).with_body("first");
        fs::remove_dir_all(docroot.path("public")).unwrap();
        client.get("/page.txt").expect(404);
        docroot.write("public/page.txt", "second");
        client.get("/page.txt").expect(200).with_body("second");
        // Between two renames the name does not exist. The old folder is still complete.
        fs::rename(docroot.path("public"), docroot.path("old")).unwrap();
        client.get("/page.txt").expect(200).with_body("second");
        fs::rename(docroot.path("next"), docroot.path("public")).unwrap();
        client.get("/page.txt").expect(200).with_body("third");
        // A link replaces the folder, and a file replaces the link. A file is no folder to serve.
        fs::rename(docroot.path("public"), docroot.path("released")).unwrap();
        symlink("released", docroot.path("public")).unwrap();
        client.get("/page.txt").expect(200).with_body("third");
        fs::remove_file(docroot.path("public")).unwrap();
        fs::write(docroot.path("public"), "a file").unwrap();
        client.get("/page.txt").expect(200).with_body("third");
    });
}

/// Writes go to the new folder, and so do uploads that began in the old one: in one piece, in
/// several requests, and as files of a form.
#[test]
fn uploads_under_way_are_published_in_the_new_folder() {
    on_both(|model| {
        let docroot = releases();
        let server = Server::start(model, &docroot.path("current"), &["--upload", "/up", "--fresh", "0"]);
        let mut client = Client::connect(server.port);
        let mut whole = Client::connect(server.port);
        whole.send("PUT /up/whole.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nwhole");
        // Long enough that the server writes some of it before the end arrives.
        let text = "form".repeat(200_000);
        let form = format!("--b\r\nContent-Disposition: form-data; name=f; filename=form.txt\r\n\r\n{text}");
        let mut posted = Client::connect(server.port);
        let length = form.len() + "\r\n--b--\r\n".len();
        posted.send(format!(
            "POST /up/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n\
             Content-Length: {length}\r\n\r\n{form}"
        ));
        let begun = client.ask("PUT", "/up/parts.txt", &["Upload-Complete: ?0"], b"some").expect(201);
        let place = resolve("/up/parts.txt", begun.must("location"));
        until("all of them have begun", || {
            // Each has a descriptor without a name in the old folder.
            let open = fs::read_dir(format!("/proc/{}/fd", server.pid().as_raw_nonzero())).unwrap();
            let links = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
            let is_draft = |link: &std::path::PathBuf| {
                let link = link.to_string_lossy();
                link.contains("/one/up/") && link.ends_with("(deleted)")
            };
            links.filter(is_draft).count() == 3
        });
        turn(&docroot, "two", "current");
        whole.send("\r\nend");
        whole.response().expect(201);
        posted.send("\r\n--b--\r\n");
        posted.response().expect(201);
        let more = ["Content-Type: application/partial-upload", "Upload-Complete: ?1", "Upload-Offset: 4"];
        client.ask("PATCH", &place, &more, b" more").expect(201);
        client.ask("PUT", "/up/later.txt", &[], b"later").expect(201);
        for (name, text) in [
            ("whole.txt", "whole\r\nend"),
            ("form.txt", &text),
            ("parts.txt", "some more"),
            ("later.txt", "later"),
            ("kept.txt", "two"),
        ] {
            let path = docroot.path(&format!("two/up/{name}"));
            assert_eq!(fs::read_to_string(path).unwrap(), text, "{name}");
            client.get(&format!("/up/{name}")).expect(200).with_body(text);
        }
        assert_eq!(fs::read_dir(docroot.path("one/up")).unwrap().count(), 1, "nothing in the old folder");
        client.ask("DELETE", "/up/kept.txt", &[], b"").expect(204);
        assert!(docroot.path("one/up/kept.txt").exists() && !docroot.path("two/up/kept.txt").exists());
    });
}

/// The protections of the old folder apply to the new one: its programs are run and not shown, and
/// passwords and the operator's own files apply there, too.
#[test]
fn protections_are_those_of_the_new_folder() {
    on_both(|model| {
        let docroot = releases();
        for release in ["one", "two", "three"] {
            let program =
                format!("#!/bin/sh\n# {SECRET}\nprintf 'Content-Type: text/plain\\n\\n{release}'\n");
            let folder = if release == "two" { "programs" } else { "cg" };
            let name = format!("{release}/{folder}/run.sh");
            docroot.write(&name, program);
            fs::set_permissions(docroot.path(&name), fs::Permissions::from_mode(0o755)).unwrap();
            docroot.write(&format!("{release}/private/secret.txt"), SECRET);
            docroot.write(&format!("{release}/site.toml"), format!("# {SECRET}\n"));
            docroot.link("site.toml", &format!("{release}/linked.toml"));
        }
        docroot.link("programs", "two/cg");
        fs::create_dir(docroot.path("none")).unwrap();
        docroot.write("none/free.txt", "free");
        let cgi = format!("/cgi={}", docroot.path("current/cg").display());
        let config = docroot.path("current/site.toml");
        let config = config.to_str().unwrap();
        let flags = ["--cgi", &cgi, "--auth", "u:p@/private", "--config", config, "--fresh", "0"];
        let server = Server::start(model, &docroot.path("current"), &flags);
        let mut client = Client::connect(server.port);
        for release in ["one", "two", "three"] {
            turn(&docroot, release, "current");
            client.get("/cgi/run.sh").expect(200).with_body(release);
            for (path, status) in [
                ("/cg/run.sh", 404),
                ("/programs/run.sh", 404),
                ("/private/secret.txt", 401),
                ("/site.toml", 404),
                ("/linked.toml", 404),
            ] {
                let got = client.get(path).expect(status);
                assert!(!got.text().contains(SECRET), "{path} of {release}");
            }
        }
        // Without the folder of programs, the server does not know which files to withhold.
        turn(&docroot, "none", "current");
        client.get("/free.txt").expect(404);
        client.get("/programs/run.sh").expect(404);
        until("the log names the reason", || server.err.text().contains("the old one stays in use"));
        fs::create_dir(docroot.path("none/cg")).unwrap();
        until("the new folder is served", || client.get("/free.txt").status == 200);
    });
}
