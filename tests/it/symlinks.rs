//! Links through folders whose names begin with a dot. Tools that publish a tree atomically make
//! them: mounted ConfigMaps, pnpm and git-sync. They are followed, because the operator chose them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::docroot::{Docroot, HELLO, SECRET};
use crate::harness::{Server, on_both};
use crate::wire::Client;

/// Creates a folder like Kubernetes mounts a ConfigMap: a name leads through `..data` to a dated
/// folder.
fn config_map() -> Docroot {
    let docroot = Docroot::empty();
    for (dated, text) in [("..2026_11_27", "one"), ("..2026_11_28", "two")] {
        for name in ["settings.json", "index.html", "page.js", "page.js.gz", "README.md"] {
            docroot.write(&format!("{dated}/{name}"), text);
        }
    }
    docroot.link("..2026_11_27", "..data");
    for name in ["settings.json", "index.html", "page.js", "page.js.gz", "README.md"] {
        docroot.link(format!("..data/{name}"), name);
    }
    docroot
}

#[test]
fn a_config_map_is_served_and_the_next_request_sees_its_swap() {
    on_both(|model| {
        let docroot = config_map();
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        for text in ["one", "two"] {
            for path in ["/settings.json", "/", "/index.html", "/page.js", "/README.md"] {
                // Twice: from disk and from the cache.
                for _ in 0..2 {
                    client.get(path).expect(200).with_body(text);
                }
            }
            let coded = client.ask("GET", "/page.js", &["Accept-Encoding: gzip"], b"").expect(200);
            assert_eq!((coded.must("content-encoding"), coded.text()), ("gzip", text));
            for path in ["/..data/index.html", "/..data/", "/..data", "/..2026_11_28/index.html"] {
                client.get(path).expect(404);
            }
            // The kubelet makes the new link next to the old one and renames it.
            symlink("..2026_11_28", docroot.path("..data_tmp")).unwrap();
            fs::rename(docroot.path("..data_tmp"), docroot.path("..data")).unwrap();
        }
    });
}

/// Files and folders behind links, by request path and by their own names.
#[test]
fn a_link_leads_through_hidden_folders_but_not_to_hidden_files() {
    let docroot = Docroot::empty();
    docroot.write("modules/.pnpm/lit@3/modules/lit/index.js", "lit");
    docroot.write("modules/.pnpm/lit@3/modules/lit/.npmrc", SECRET);
    docroot.write(".worktrees/4f2a/site/page.html", "page");
    docroot.write(".worktrees/4f2a/site/.env", SECRET);
    docroot.write("..data/index.html", "index");
    docroot.write(".config/app.json", SECRET);
    docroot.write(".profile", SECRET);
    for (target, name) in [
        (".pnpm/lit@3/modules/lit", "modules/lit"),
        (".worktrees/4f2a", "current"),
        ("current/site", "site"),
        (".worktrees/4f2a/site/.env", "env.txt"),
        (".worktrees", "trees"),
        ("..data", "data"),
        (".profile", "profile.txt"),
        ("profile.txt", "twice.txt"),
        ("../.profile", "modules/profile"),
    ] {
        docroot.link(target, name);
    }
    for links in ["inside", "all"] {
        on_both(|model| {
            let flags = ["--symlinks", links, "--archives"];
            let server = Server::start(model, &docroot.root(), &flags);
            let mut client = Client::connect(server.port);
            client.get("/modules/lit/index.js").expect(200).with_body("lit");
            client.get("/current/site/page.html").expect(200).with_body("page");
            client.get("/site/page.html").expect(200).with_body("page");
            client.get("/current").expect(301);
            client.get("/data").expect(301);
            client.get("/data/").expect(200).with_body("index");
            for path in [
                "/env.txt",
                "/profile.txt",
                "/twice.txt",
                "/modules/profile",
                "/site/.env",
                "/modules/lit/.npmrc",
                "/.config/app.json",
                "/modules/.pnpm/lit@3/modules/lit/index.js",
                "/.worktrees/",
                "/trees/",
                "/trees",
            ] {
                client.get(path).expect(404);
            }
            let names = |listing: &str| -> Vec<String> {
                let (_, rest) = listing.split_once("\"entries\":").unwrap();
                rest.split("\"name\":\"").skip(1).map(|part| part.split('"').next().unwrap().into()).collect()
            };
            for (path, expected) in [
                ("/?json", &["current", "modules", "site"][..]),
                ("/modules/?json", &["lit"]),
                ("/site/?json", &["page.html"]),
                ("/current/?json", &["site"]),
            ] {
                let listing = client.get(path).expect(200);
                assert_eq!(names(listing.text()), expected, "{path}");
            }
            let archive = client.get("/?archive=tar").expect(200).body;
            let has = |text: &str| memchr::memmem::find(&archive, text.as_bytes()).is_some();
            assert!(has("site/page.html") && has("modules/lit/index.js"));
            assert!(!has(SECRET) && !has(".pnpm") && !has(".worktrees"));
        });
    }
}

/// The target of a link keeps its other protections: programs, passwords and the operator's own
/// files. Nothing is written through such a link, and no program is started through one.
#[test]
fn protections_apply_behind_links_and_writes_do_not_follow_them() {
    let docroot = Docroot::empty();
    let program = format!("#!/bin/sh\n# {SECRET}\nprintf 'Content-Type: text/plain\\n\\nran'\n");
    for name in ["programs/.v1/run.sh", "programs/plain.sh", ".released/cg/run.sh"] {
        docroot.write(name, &program);
        fs::set_permissions(docroot.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    docroot.write(".released/private/secret.txt", SECRET);
    docroot.write(".released/site/page.html", HELLO);
    docroot.write(".settings/whirligig.toml", format!("# {SECRET}\n"));
    fs::create_dir_all(docroot.path("up/.kept")).unwrap();
    for (target, name) in [
        (".v1/run.sh", "programs/run.sh"),
        (".released/cg", "sources"),
        (".released/private", "private"),
        (".released/private", "open"),
        (".settings/whirligig.toml", "settings.txt"),
        (".released/site", "site"),
        (".kept", "up/kept"),
    ] {
        docroot.link(target, name);
    }
    let cgi = [
        format!("/cgi={}", docroot.path("programs").display()),
        format!("/more={}", docroot.path(".released/cg").display()),
    ];
    let config = docroot.path(".settings/whirligig.toml");
    on_both(|model| {
        let flags = [
            "--cgi",
            &cgi[0],
            "--cgi",
            &cgi[1],
            "--upload",
            "/up",
            "--auth",
            "u:p@/.released/private",
            "--auth",
            "u:p@/private",
            "--config",
            config.to_str().unwrap(),
        ];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        client.get("/site/page.html").expect(200).with_body(HELLO);
        client.get("/cgi/plain.sh").expect(200).with_body("ran");
        client.get("/more/run.sh").expect(200).with_body("ran");
        for (path, status) in [
            ("/cgi/run.sh", 404),
            ("/sources/run.sh", 404),
            ("/open/secret.txt", 401),
            ("/settings.txt", 404),
        ] {
            let got = client.get(path).expect(status);
            assert!(!got.text().contains(SECRET), "{path}");
        }
        for (method, path) in [("PUT", "/up/kept/x.txt"), ("MKCOL", "/up/kept/x"), ("DELETE", "/up/kept/x")] {
            client.ask(method, path, &[], b"").expect(403);
        }
        assert_eq!(fs::read_dir(docroot.path("up/.kept")).unwrap().count(), 0);
    });
}
