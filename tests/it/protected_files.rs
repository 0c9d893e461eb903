//! Files that no client may have, whatever name leads to them: hidden files, sources of programs,
//! files behind a password, and the operator's own files. A file is withheld if the system does not
//! report its real path.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::process::{Command, Stdio};

use base64::Engine as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::docroot::Docroot;
use crate::harness::{Process, Server, command, left_out, on_both, program, until};
use crate::strace::attached;
use crate::wire::{Client, request};

const REQUIRED: &str = "WHIRLIGIG_REQUIRE_CLIENTS";
const SECRET: &str = "the secret itself";
/// Hash of the password `sesame`.
const HASH: &str = "$2y$04$J25P14iGRWYRBQZ85PXm9OS69IW/qjgPJDpQHgmD8SA8yGz3sQvc2";

/// Creates a folder with a hidden file, programs and a file behind a password, and links to all of
/// them.
fn guarded_folder() -> Docroot {
    let docroot = Docroot::empty();
    docroot.write("open.txt", "open");
    docroot.write(".hidden", SECRET);
    docroot.write(".folder/.file.txt", SECRET);
    docroot.write("private/secret.txt", SECRET);
    docroot.write(
        "programs/run.sh",
        format!("#!/bin/sh\n# {SECRET}\necho Content-Type: text/plain; echo; echo ran\n"),
    );
    fs::set_permissions(docroot.path("programs/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    docroot.write("in/kept.txt", "kept");
    for (target, name) in [
        (".hidden", "to-hidden.txt"),
        (".folder", "to-folder"),
        ("to-folder/.file.txt", "to-file.txt"),
        ("programs", "to-programs"),
        ("programs/run.sh", "to-program.txt"),
        ("private", "to-private"),
        ("private/secret.txt", "to-secret.txt"),
        (".", "self"),
        ("../programs", "in/to-programs"),
        ("../private", "in/to-private"),
        ("open.txt", "to-open.txt"),
    ] {
        docroot.link(target, name);
    }
    docroot
}

fn flags(docroot: &Docroot) -> Vec<String> {
    let programs = format!("/cgi={}", docroot.path("programs").display());
    let flags = ["--cgi", &programs, "--auth", "u:p@/private", "--upload", "/in", "--archives"];
    flags.map(str::to_owned).to_vec()
}

/// Paths to secrets: through each kind of link, twice, by an index and next to a coded file.
const WAYS: &[&str] = &[
    "/to-hidden.txt",
    "/to-folder/.file.txt",
    "/to-file.txt",
    "/to-programs/run.sh",
    "/to-program.txt",
    "/to-private/secret.txt",
    "/to-secret.txt",
    "/self/private/secret.txt",
    "/self/self/private/secret.txt",
    "/self/programs/run.sh",
    "/self/to-secret.txt",
    "/in/to-private/secret.txt",
    "/in/to-programs/run.sh",
    "/programs/run.sh",
    "/private/secret.txt",
    "/to-private/",
    "/self/private/",
    "/self/private/?archive=tar",
    "/?archive=tar",
    "/self/?archive=zip",
];

/// Requests all these paths, and asserts that no response contains a secret or a program.
fn assert_nothing_shown(port: u16, around: &str) {
    let mut client = Client::connect(port);
    for path in WAYS {
        // Twice, so that the second one can come from the cache.
        for accept in ["Accept-Encoding: identity", "Accept-Encoding: gzip"] {
            let got = client.ask("GET", path, &[accept], b"");
            let has = |text: &str| got.body.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!has(SECRET), "{around}: {path} shows the secret: {}", got.status);
            assert!(got.status < 500, "{around}: {path} is {}", got.status);
        }
    }
    for (method, path) in [
        ("PUT", "/in/to-programs/new.sh"),
        ("PUT", "/in/to-private/new.txt"),
        ("DELETE", "/in/to-programs/run.sh"),
        ("MKCOL", "/in/to-programs/new/"),
    ] {
        let content: &[u8] = if method == "PUT" { b"written" } else { b"" };
        let got = client.ask(method, path, &[], content);
        assert_eq!(got.status, 403, "{around}: {method} {path}");
    }
}

#[test]
fn links_do_not_lead_to_protected_files() {
    on_both(|model| {
        let docroot = guarded_folder();
        let flags = flags(&docroot);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let server = Server::start(model, &docroot.root(), &flags);
        assert_nothing_shown(server.port, "with /proc");
        let mut client = Client::connect(server.port);
        client.get("/to-open.txt").expect(200).with_body("open");
        client.get("/self/open.txt").expect(200).with_body("open");
        client.get("/cgi/run.sh").expect(200).with_body("ran\n");
        // The password of the real path opens the file by every path that needs none.
        let credentials = base64::engine::general_purpose::STANDARD.encode("u:p");
        let credentials = format!("Authorization: Basic {credentials}");
        client.ask("GET", "/private/secret.txt", &[&credentials], b"").expect(200).with_body(SECRET);
        client.ask("GET", "/to-secret.txt", &[&credentials], b"").expect(200).with_body(SECRET);
        // A protected path may lead to an open file.
        docroot.link("../open.txt", "private/to-open.txt");
        client.ask("GET", "/private/to-open.txt", &[&credentials], b"").expect(200).with_body("open");
        client.get("/private/to-open.txt").expect(401);
    });
}

/// The target of a link may change while it is in the cache. Its stamp does not show that a folder
/// was renamed.
#[test]
fn a_cached_link_is_checked_again_at_its_target() {
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("data/file.txt", SECRET);
        docroot.link("data", "link");
        let server = Server::start(model, &docroot.root(), &["--auth", "u:p@/private"]);
        let mut client = Client::connect(server.port);
        until("the file is cached", || {
            client.get("/link/file.txt").expect(200);
            crate::harness::now().duration_since(server.started) > std::time::Duration::from_millis(60)
        });
        let is_looked_at_again = |client: &mut Client, status: u16| {
            until("the link is checked again", || client.get("/link/file.txt").status != 200);
            for _ in 0..3 {
                client.get("/link/file.txt").expect(status);
            }
        };
        fs::remove_file(docroot.path("link")).unwrap();
        fs::rename(docroot.path("data"), docroot.path("private")).unwrap();
        symlink("private", docroot.path("link")).unwrap();
        is_looked_at_again(&mut client, 401);
        // The file is open again, and then the link leads to a hidden file.
        fs::remove_file(docroot.path("link")).unwrap();
        fs::rename(docroot.path("private"), docroot.path("link")).unwrap();
        until("the file is open again", || client.get("/link/file.txt").status == 200);
        fs::rename(docroot.path("link/file.txt"), docroot.path("link/.file.txt")).unwrap();
        symlink(".file.txt", docroot.path("link/file.txt")).unwrap();
        is_looked_at_again(&mut client, 404);
    });
}

/// A single system error must not show a file, and must not put it into the cache.
#[test]
fn a_name_that_cannot_be_read_back_withholds_the_file() {
    let Some(strace) = program(&["strace"], REQUIRED) else { return };
    for errno in ["EACCES", "ENOENT", "ENOMEM"] {
        on_both(|model| {
            let docroot = guarded_folder();
            let flags = flags(&docroot);
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            let server = Server::start(model, &docroot.root(), &flags);
            let pid = Pid::as_raw(Some(server.pid())).to_string();
            let inject = format!("inject=readlink,readlinkat:error={errno}");
            let tracer = Command::new(&strace)
                .args(["-f", "-o", "/dev/null", "-e", &inject, "-p", &pid])
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut tracer = Process(tracer);
            let Some(_said) = attached(&mut tracer) else {
                return left_out("strace may not trace another process here", REQUIRED);
            };
            assert_nothing_shown(server.port, errno);
            let mut client = Client::connect(server.port);
            client.get("/to-open.txt").expect(404);
            kill_process(Pid::from_child(&tracer.0), Signal::INT).unwrap();
            tracer.0.wait().unwrap();
            assert_nothing_shown(server.port, &format!("after {errno}"));
            client.get("/to-open.txt").expect(200).with_body("open");
        });
    }
}

/// Creates a folder with the operator's files under several names. Returns the path of the
/// configuration, too.
fn operators_folder() -> (Docroot, String) {
    let docroot = Docroot::empty();
    docroot.write("index.txt", "open");
    docroot.write("rules.txt", format!("# {SECRET}\nredirect /old /index.txt\n"));
    fs::create_dir(docroot.path("logs")).unwrap();
    let rules = docroot.path("rules.txt").display().to_string();
    let config = format!(
        "auth = [\"u:{SECRET}@/private\"]\nupload = [\"/\"]\narchives = true\nrules = {rules:?}\n\
         access-log = {:?}\nbind = [\"127.0.0.1\", \"unix:{}\"]\n",
        docroot.path("logs/access.log").display().to_string(),
        docroot.path("socket").display(),
    );
    docroot.write("whirligig.toml", &config);
    docroot.link("whirligig.toml", "to-config.txt");
    docroot.link(".", "self");
    for (own, second) in [("whirligig.toml", "second.txt"), ("rules.txt", "third.txt")] {
        fs::hard_link(docroot.path(own), docroot.path(second)).unwrap();
    }
    let file = docroot.path("whirligig.toml").display().to_string();
    (docroot, file)
}

/// Asserts that nothing is written to the operator's own files.
fn assert_nothing_written(docroot: &Docroot, client: &mut Client, own: &[&str]) {
    for path in own.iter().copied().filter(|path| !path.starts_with("to-") && !path.contains("packed")) {
        let before = fs::read(docroot.path(path)).unwrap_or_default();
        let put = client.ask("PUT", &format!("/{path}"), &[], b"overwritten");
        assert!([403, 409].contains(&put.status), "PUT /{path}: {put:?}");
        let deleted = client.ask("DELETE", &format!("/{path}"), &[], b"");
        assert!([403, 409].contains(&deleted.status), "DELETE /{path}: {deleted:?}");
        assert!(docroot.path(path).exists(), "{path} still exists");
        if !path.contains("access.log") {
            assert_eq!(fs::read(docroot.path(path)).unwrap_or_default(), before, "{path}");
        }
    }
    let form =
        "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"rules.txt\"\r\n\r\nx\r\n--b--\r\n";
    let kind = "Content-Type: multipart/form-data; boundary=b";
    client.ask("POST", "/?overwrite", &[kind], form.as_bytes()).expect(403);
    // A name that is free now would be that of the log after the next rotation.
    fs::remove_file(docroot.path("rules.txt")).unwrap();
    assert_eq!(client.ask("PUT", "/rules.txt", &[], b"redirect / //evil").status, 403);
    assert_eq!(client.ask("MKCOL", "/rules.txt/", &[], b"").status, 403);
}

#[test]
fn the_operators_own_files_are_never_served_nor_written() {
    on_both(|model| {
        let (docroot, file) = operators_folder();
        let server = Server::start(model, &docroot.root(), &["--config", &file]);
        let mut client = Client::connect(server.port);
        client.get(&format!("/index.txt?{}", SECRET.replace(' ', "-"))).expect(200);
        client.get("/old").expect(302);
        let log = docroot.path("logs/access.log");
        until("the log is written", || fs::metadata(&log).is_ok_and(|log| log.len() > 0));
        fs::rename(&log, docroot.path("logs/access.log.1")).unwrap();
        server.signal(Signal::HUP);
        until("the log is opened again", || {
            client.get("/index.txt").expect(200);
            log.exists()
        });
        docroot.write("logs/access.log-20261128.gz", "rotated and packed");
        let own = [
            "whirligig.toml",
            "rules.txt",
            "second.txt",
            "third.txt",
            "to-config.txt",
            "self/whirligig.toml",
            "self/logs/access.log",
            "socket",
            "logs/access.log",
            "logs/access.log.1",
            "logs/access.log-20261128.gz",
        ];
        for path in own {
            for _ in 0..2 {
                let got = client.get(&format!("/{path}"));
                assert_eq!(got.status, 404, "{path}: {got:?}");
            }
        }
        assert_nothing_written(&docroot, &mut client, &own);
        let names =
            client.get("/?text").expect(200).text().to_owned() + client.get("/logs/?text").expect(200).text();
        for shown in ["whirligig", "rules", "second", "third", "socket", "access", "to-config"] {
            assert!(!names.contains(shown), "{shown} in {names}");
        }
        let archive = client.get("/?archive=tar").expect(200);
        for shown in [SECRET, "access.log", "rules.txt", "whirligig.toml"] {
            let found = archive.body.windows(shown.len()).any(|window| window == shown.as_bytes());
            assert!(!found, "{shown} in the archive");
        }
    });
}

/// A hard link does not lead anywhere. It is a second name that the owner gave the file, so it is
/// served, as the manual states. The folder's own names are not served, and no archive or upload
/// uses them.
#[test]
fn a_hard_link_to_a_program_is_a_file_of_its_own() {
    on_both(|model| {
        let docroot = guarded_folder();
        fs::hard_link(docroot.path("programs/run.sh"), docroot.path("second.sh")).unwrap();
        fs::hard_link(docroot.path("programs/run.sh"), docroot.path("in/third.txt")).unwrap();
        let programs = format!("/cgi={}", docroot.path("programs").display());
        let server = Server::start(model, &docroot.root(), &["--cgi", &programs]);
        let mut client = Client::connect(server.port);
        for path in ["/second.sh", "/in/third.txt"] {
            assert!(client.get(path).expect(200).text().contains("echo ran"), "{path}");
        }
        for path in ["/programs/run.sh", "/to-programs/run.sh", "/to-program.txt"] {
            client.get(path).expect(404);
        }
        assert_eq!(client.get("/cgi/run.sh").expect(200).text(), "ran\n");
    });
}

/// A password file in the folder used to prevent the start with the outdated message that it would
/// be served.
#[test]
fn a_password_file_may_be_in_the_folder_and_is_not_served() {
    on_both(|model| {
        let docroot = Docroot::new();
        docroot.write("users", format!("u:{HASH}\n"));
        docroot.write("sub/writers.txt", format!("w:{HASH}\n"));
        docroot.link("users", "link.txt");
        fs::hard_link(docroot.path("users"), docroot.path("second.txt")).unwrap();
        docroot.write("up/x", "x");
        let (users, writers) = (docroot.path("users"), docroot.path("sub/writers.txt"));
        let flags = [
            "--htpasswd".to_owned(),
            format!("{}@/private", users.display()),
            "--write-htpasswd".to_owned(),
            format!("{}@/up", writers.display()),
            "--upload=/".to_owned(),
            "--archives".to_owned(),
        ];
        let server = Server::start(model, &docroot.root(), &flags.each_ref().map(String::as_str));
        let mut client = Client::connect(server.port);
        client.get("/private/").expect(401);
        for path in ["users", "link.txt", "second.txt", "sub/writers.txt", "sub/../users", "%75sers"] {
            let got = client.get(&format!("/{path}"));
            assert!(got.status == 404 || got.status == 400, "{path}: {got:?}");
        }
        for path in ["users", "sub/writers.txt", "second.txt"] {
            client.ask("PUT", &format!("/{path}"), &[], b"mine:hash").expect(403);
        }
        let list = client.get("/?text").expect(200).text().to_owned();
        assert!(!["users", "link.txt", "second.txt"].iter().any(|name| list.contains(name)), "{list}");
        let archive = client.get("/?archive=tar").expect(200);
        assert!(!archive.body.windows(4).any(|four| four == b"$2y$"), "a hash in the archive");
    });
}

/// The first file created after a rotated log was deleted got its inode, and used to be a 404 until
/// the server was restarted.
#[test]
fn a_file_with_the_inode_of_a_deleted_log_is_served() {
    on_both(|model| {
        let docroot = Docroot::new();
        let log = docroot.path("access.log");
        let flags = ["--access-log", log.to_str().unwrap(), "--upload", "/up"];
        docroot.write("up/x", "x");
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        for round in 0..3 {
            client.get("/index.html");
            until("the log is written", || fs::metadata(&log).is_ok_and(|log| log.len() > 0));
            let inode = fs::metadata(&log).unwrap().ino();
            // Renamed first, because otherwise the path alone would protect it: a name that no
            // rotation makes.
            fs::rename(&log, docroot.path("moved")).unwrap();
            server.signal(Signal::HUP);
            until("the log is opened again", || log.exists());
            client.get("/moved").expect(404);
            fs::remove_file(docroot.path("moved")).unwrap();
            // The file system chooses the inode of a new file, usually the first free one.
            for number in 0..50 {
                let name = format!("up/new-{round}-{number}.txt");
                docroot.write(&name, "new");
                if fs::metadata(docroot.path(&name)).unwrap().ino() == inode {
                    for _ in 0..2 {
                        client.get(&format!("/{name}")).expect(200).with_body("new");
                    }
                    assert!(client.get("/up/?text").expect(200).text().contains(&name[3..]));
                    client.ask("PUT", &format!("/{name}"), &[], b"newer").expect(204);
                    client.ask("DELETE", &format!("/{name}"), &[], b"").expect(204);
                    break;
                }
            }
        }
    });
}

/// Standard output and standard error may go to files of the folder: `whirligig . > log.txt 2>&1`.
#[test]
fn files_with_redirected_output_are_not_served() {
    on_both(|model| {
        let docroot = Docroot::new();
        let out = fs::File::create(docroot.path("out.txt")).unwrap();
        let mut served = command(model, &docroot.root(), &["--access-log", "-"]);
        served.stdout(out);
        let server = Server::launch(served);
        let mut client = Client::connect(server.port);
        client.get("/out.txt").expect(404);
        client.get("/hello.txt").expect(200);
    });
}

#[test]
fn a_replacement_page_needs_its_own_password() {
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write("index.html", "open");
        docroot.write("private/app.html", SECRET);
        docroot.write("private/404.html", SECRET);
        docroot.write("page.html", SECRET);
        let more = ["--spa=/private/app.html", "--error-page", "404=/private/404.html", "--clean-urls"];
        let passwords = ["--auth", "u:p@/private", "--auth", "u:p@/page.html"];
        let server = Server::start(model, &docroot.root(), &[&more[..], &passwords[..]].concat());
        let mut client = Client::connect(server.port);
        for path in ["/deep/link", "/nothing.png", "/page", "/page.html", "/private/app", "/private/404"] {
            for accept in ["Accept: text/html", "Accept: */*"] {
                client.send(request("GET", path, &[accept], b""));
                let got = client.response();
                assert!(!got.text().contains(SECRET), "{path} shows a page behind a password");
                assert!([401, 404].contains(&got.status), "{path}: {}", got.status);
            }
        }
    });
}
