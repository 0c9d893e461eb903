//! Passwords by path: nothing behind one is seen without it, however its name is spelled.

use std::fs;

use base64::Engine as _;

use crate::docroot::Docroot;
use crate::harness::{MODELS, Server, command, now, on_both, run, until};
use crate::wire::{Client, get, request};

/// `open sesame` and `another`, made by `htpasswd -nbB -C 4`.
const SESAME: &str = "$2y$04$J25P14iGRWYRBQZ85PXm9OS69IW/qjgPJDpQHgmD8SA8yGz3sQvc2";
const HIDDEN: &[u8] = b"behind the password\n";

/// The field that a client sends for `user:password`.
fn basic(pair: &str) -> String {
    format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// The usual folder, with a part that takes a password.
fn docroot() -> Docroot {
    let docroot = Docroot::new();
    docroot.write("private/file.txt", HIDDEN);
    docroot.write("private/deeper/file.txt", HIDDEN);
    docroot.write("privately.txt", b"open");
    docroot
}

fn htpasswd(docroot: &Docroot, users: &str) -> String {
    let file = docroot.outside("users");
    fs::write(&file, users).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn no_spelling_leads_around_a_password() {
    let docroot = docroot();
    let file = htpasswd(&docroot, &format!("u:{SESAME}\n"));
    for flags in [&["--auth", "u:open sesame@/private"][..], &["--htpasswd", &format!("{file}@/private")]] {
        on_both(|model| {
            let server = Server::start(model, &docroot.root(), flags);
            for path in [
                "/private",
                "/private/",
                "/private/file.txt",
                "/%70rivate/file.txt",
                "/privat%65/file.txt",
                "//private/file.txt",
                "///private//file.txt",
                "/./private/./file.txt",
                "/plain/../private/file.txt",
                "/plain/%2e%2E/private/file.txt",
                "/../private/file.txt",
                "/private/deeper/../file.txt",
                "/private/nosuch",
                "/private/?json",
                "http://localhost/private/file.txt",
                "http://other.example//private/file.txt",
            ] {
                let mut client = Client::connect(server.port);
                for method in ["GET", "HEAD", "OPTIONS", "POST", "BREW"] {
                    for fields in [&[][..], &["Range: bytes=0-3"], &["If-None-Match: \"x\""]] {
                        let got = client.ask(method, path, fields, b"").expect(401);
                        let challenge = got.must("www-authenticate");
                        assert_eq!(
                            challenge, "Basic realm=\"/private\", charset=\"UTF-8\"",
                            "{method} {path}"
                        );
                        assert!(got.field("etag").is_none() && got.field("location").is_none(), "{got:?}");
                        assert!(!got.body.windows(6).any(|six| six == b"behind"), "{method} {path}");
                    }
                }
            }
            let mut client = Client::connect(server.port);
            for path in ["/private/../private%2ffile.txt", "/private%2ffile.txt", "/private/../hello.txt"] {
                client.get(path).expect(400);
            }
            for path in ["/hello.txt", "/privately.txt", "/_whirligig/health", "/api/time"] {
                client.get(path).expect(200);
            }
            client.ask("OPTIONS", "*", &[], b"").expect(204);
        });
    }
}

#[test]
fn the_right_password_opens_files_listings_and_uploads() {
    let docroot = docroot();
    fs::remove_file(docroot.path("index.html")).unwrap();
    let file = htpasswd(&docroot, &format!("# people\nu:{SESAME}\n"));
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--htpasswd", &file, "--auth", "w:x@/private"]);
        let (right, other) = (basic("u:open sesame"), basic("w:x"));
        // Each on a connection of its own as well, so that the first answer comes by way of a job.
        for path in ["/hello.txt", "/m5.bin", "/", "/plain/?json", "/api/time"] {
            let mut client = Client::connect(server.port);
            for _ in 0..3 {
                let got = client.ask("GET", path, &[&right], b"").expect(200);
                let control = got.must("cache-control");
                assert!(["private", "no-cache", "no-store"].contains(&control), "{path}: {control}");
                assert_eq!(got.fields.iter().filter(|(name, _)| name == "cache-control").count(), 1);
            }
            client.ask("GET", path, &[], b"").expect(401);
        }
        let mut client = Client::connect(server.port);
        client.ask("GET", "/k300.bin", &[&right, "Range: bytes=1-2"], b"").expect(206);
        client.ask("GET", "/plain", &[&right], b"").expect(301);
        client.ask("HEAD", "/hello.txt", &[&right], b"").expect(200);
        client.ask("POST", "/api/echo", &[&right], b"content").expect(200).with_body("content");
        client.ask("POST", "/api/echo", &[&other], b"content").expect(401);
        client.get("/_whirligig/health").expect(200);
        assert!(client.ask("GET", "/?text", &[&right], b"").expect(200).text().contains("private/"));
        // The longest path decides: its users and no others.
        client.ask("GET", "/private/file.txt", &[&right], b"").expect(401);
        client.ask("GET", "/private/file.txt", &[&other], b"").expect(200).with_body(HIDDEN);
        // Several in one packet stay in order, checked or remembered.
        let asked: Vec<u8> = ["/k1.bin", "/nosuch", "/hello.txt"]
            .iter()
            .flat_map(|path| request("GET", path, &[&right], b""))
            .chain(get("/hello.txt"))
            .collect();
        client.send(asked);
        assert_eq!([(); 4].map(|()| client.response().status), [200, 404, 200, 401]);
    });
}

/// A file has more names than its own: that of its folder, a clean one, those of its coded forms.
#[test]
fn one_file_takes_a_password_under_all_its_names() {
    let docroot = docroot();
    docroot.write("page.html", HIDDEN);
    docroot.write("page.html.gz", HIDDEN);
    docroot.write("sub/index.html", HIDDEN);
    // The other way round: the rule has the clean name.
    for name in ["clean.html", "clean.html.gz", "clean.html.br", "clean.html.zst"] {
        docroot.write(name, HIDDEN);
    }
    docroot.write("clean.htm", b"open");
    docroot.write("clean.gz", HIDDEN);
    docroot.write("packed/clean.html", HIDDEN);
    docroot.write("packed/clean.html.gz", HIDDEN);
    let flags = ["--auth", "u:p@/page.html", "--auth", "u:p@/sub/index.html", "--clean-urls"];
    let more = ["--auth", "u:p@/clean", "--auth", "u:p@/packed/clean", "--archives"];
    let flags = [flags, more].concat();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        for path in ["/page.html", "/page", "/page.html.gz", "/%70age", "/sub/", "/sub/index.html", "/sub//"]
        {
            let got = client.ask("GET", path, &["Accept-Encoding: gzip"], b"").expect(401);
            assert!(!got.body.windows(6).any(|six| six == b"behind"), "{path}");
        }
        for suffix in ["", ".html", ".html.gz", ".html.br", ".html.zst", ".gz", "/", "%2ehtml.gz"] {
            client.get(&format!("/clean{suffix}")).expect(401);
        }
        for page in ["/page", "/clean"] {
            client.ask("GET", page, &[&basic("u:p")], b"").expect(200).with_body(HIDDEN);
        }
        let archive = client.get("/packed/?archive=tar").expect(200).body;
        assert!(memchr::memmem::find(&archive, b"behind").is_none());
        client.get("/hello.txt").expect(200);
        client.get("/clean.htm").expect(200);
        // Where they are not clean, that is another page.
        let unclean = Server::start(model, &docroot.root(), &["--auth", "u:p@/clean"]);
        Client::connect(unclean.port).get("/clean.html").expect(200);
    });
}

#[test]
fn whoever_is_wrong_gets_the_same_answer() {
    let docroot = docroot();
    let file = htpasswd(&docroot, &format!("u:{SESAME}\n"));
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--htpasswd", &file]);
        let mut client = Client::connect(server.port);
        let mut answers = Vec::new();
        for pair in ["u:wrong", "nobody:open sesame", "u:", ":", "U:open sesame", "u:open sesame\0"] {
            answers.push(client.ask("GET", "/hello.txt", &[&basic(pair)], b"").expect(401));
        }
        let malformed = [
            "Authorization: Basic",
            "Authorization: Basic ====",
            "Authorization: x",
            "Authorization: Digest a=b",
        ];
        for field in malformed {
            answers.push(client.ask("GET", "/hello.txt", &[field], b"").expect(401));
        }
        let (right, wrong) = (basic("u:open sesame"), basic("u:x"));
        answers.push(client.ask("GET", "/hello.txt", &[&right, &wrong], b"").expect(401));
        for answer in &mut answers {
            answer.fields.retain(|(name, _)| name != "date");
        }
        assert!(
            answers
                .iter()
                .all(|answer| (&answer.fields, &answer.body) == (&answers[0].fields, &answers[0].body))
        );
    });
}

/// A hash of this cost takes a worker a fair part of a second in a build without optimisation.
#[test]
fn a_right_password_is_checked_once_and_a_changed_file_is_seen() {
    let docroot = docroot();
    on_both(|model| {
        let file = docroot.outside(&format!("users-{model}"));
        fs::write(&file, format!("slow:{}\n", bcrypt::hash("first", 8).unwrap())).unwrap();
        let server = Server::start(model, &docroot.root(), &["--htpasswd", file.to_str().unwrap()]);
        let mut client = Client::connect(server.port);
        let mut ask = |pair: &str| client.ask("GET", "/hello.txt", &[&basic(pair)], b"").status;
        let since = now();
        assert_eq!(ask("slow:first"), 200);
        let first = now() - since;
        let since = now();
        for _ in 0..100 {
            assert_eq!(ask("slow:first"), 200);
        }
        assert!(now() - since < first * 30, "100 more took {:?}, the first {first:?}", now() - since);

        fs::write(&file, format!("slow:{}\n", bcrypt::hash("second", 4).unwrap())).unwrap();
        until("the old password is refused", || ask("slow:first") == 401);
        assert_eq!(ask("slow:second"), 200);
        // A file that is not in order changes nothing.
        fs::write(&file, "slow:plain text\n").unwrap();
        until("it was looked at", || {
            assert_eq!(ask("slow:second"), 200);
            server.err.text().contains("is left as it was: line 1: not a bcrypt hash")
        });
        assert!(!server.err.text().contains("plain text"), "{}", server.err.text());
    });
}

#[test]
fn the_access_log_has_the_user_and_never_the_password() {
    let docroot = docroot();
    on_both(|model| {
        let log = docroot.outside(&format!("log-{model}"));
        let flags = ["--auth", "some one:geheim", "--access-log", log.to_str().unwrap(), "-vv"];
        let mut server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        client.ask("GET", "/hello.txt", &[&basic("some one:geheim")], b"").expect(200);
        client.ask("GET", "/hello.txt", &[&basic("some one:falsch")], b"").expect(401);
        client.get("/hello.txt").expect(401);
        server.signal(rustix::process::Signal::TERM);
        assert_eq!(server.wait_exit(), 0);
        let text = fs::read_to_string(&log).unwrap();
        let users: Vec<&str> = text.lines().map(|line| line.split(" [").next().unwrap()).collect();
        assert_eq!(users, ["127.0.0.1 - some\\x20one", "127.0.0.1 - -", "127.0.0.1 - -"]);
        let said = [text, server.err.text(), server.out.text()].concat();
        let coded = basic("some one:geheim");
        for secret in ["geheim", "falsch", coded.rsplit(' ').next().unwrap()] {
            assert!(!said.contains(secret), "{said}");
        }
    });
}

#[test]
fn what_is_wrong_with_users_is_said_in_one_line_before_the_start() {
    let docroot = docroot();
    let file = htpasswd(&docroot, &format!("u:{SESAME}\nv:$apr1$x$y\n"));
    let ended = run(&mut command(MODELS[0], &docroot.root(), &["--htpasswd", &file]));
    let expected = format!(
        "whirligig: cannot serve the site: '{file}': line 2: not a bcrypt hash; make it with 'htpasswd -B'; \
         correct the file or the flag\n"
    );
    assert_eq!((ended.code, ended.err), (Some(1), expected));
    docroot.write("users", format!("u:{SESAME}\n"));
    let ended = run(&mut command(
        MODELS[0],
        &docroot.root(),
        &["--htpasswd", docroot.path("users").to_str().unwrap()],
    ));
    assert!(ended.err.contains("would be served to everybody"), "{}", ended.err);
    let ended = run(&mut command(MODELS[0], &docroot.root(), &["--htpasswd", "/nosuch/users"]));
    assert_eq!((ended.code, ended.err.lines().count()), (Some(1), 1), "{}", ended.err);
    let ended = run(&mut command(MODELS[0], &docroot.root(), &["--auth", "geheim"]));
    assert_eq!((ended.code, ended.err.lines().count()), (Some(2), 1), "{}", ended.err);
    assert!(!ended.err.contains("geheim"), "{}", ended.err);
}

/// What shows more than one file asks for each of them what the file itself would have asked for.
#[test]
fn no_archive_and_no_readme_shows_what_has_a_password_of_its_own() {
    let docroot = docroot();
    docroot.write("secret/README.md", b"shown to all\n");
    docroot.write("secret/deeper/file.txt", HIDDEN);
    docroot.write("readme/README.md", HIDDEN);
    docroot.link("private", "aside");
    let root = docroot.root();
    let vhost = format!("other.example={}", root.display());
    let flags = ["--archives", "--auth", "u:p@/private", "--auth", "v:q@/private/deeper"];
    let more = ["--auth", "u:p@/secret/deeper", "--auth", "u:p@/readme/README.md", "--vhost", &vhost];
    let flags: Vec<&str> = flags.into_iter().chain(more).collect();
    let has = |body: &[u8]| memchr::memmem::find(body, HIDDEN.trim_ascii()).is_some();
    on_both(|model| {
        let server = Server::start(model, &root, &flags);
        for host in ["localhost", "other.example"] {
            let mut client = Client::connect(server.port);
            let mut ask = |path: &str, password: &str| {
                let field = basic(password);
                let lines = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{field}\r\n\r\n");
                client.send(lines);
                client.response()
            };
            for path in ["/?archive=tar", "/secret/?archive=tar", "/readme/", "/readme/?archive=tar"] {
                let got = ask(path, "u:p").expect(200);
                assert!(!has(&got.body), "{host}{path}");
            }
            assert!(
                memchr::memmem::find(&ask("/secret/?archive=tar", "u:p").body, b"shown to all").is_some()
            );
            ask("/private/?archive=tar", "v:q").expect(401);
            let got = ask("/private/?archive=tar", "u:p").expect(200);
            let has_name = |name: &str| memchr::memmem::find(&got.body, name.as_bytes()).is_some();
            assert!(has(&got.body) && has_name("private/file.txt") && !has_name("deeper"));
            assert!(has(&ask("/private/deeper/?archive=tar", "v:q").expect(200).body));
        }
    });
}
