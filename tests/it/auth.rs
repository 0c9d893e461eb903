//! Passwords by path: protected files need the password under every spelling of their names.

use std::fs;
use std::time::Duration;

use base64::Engine as _;

use crate::docroot::Docroot;
use crate::harness::{MODELS, PATIENCE, Server, assert_took, command, now, on_both, run, until};
use crate::wire::{Client, get, request};

/// Hashes of `open sesame` and `another`, made by `htpasswd -nbB -C 4`.
const SESAME: &str = "$2y$04$J25P14iGRWYRBQZ85PXm9OS69IW/qjgPJDpQHgmD8SA8yGz3sQvc2";
const HIDDEN: &[u8] = b"behind the password\n";

/// Returns the Authorization header for `user:password`.
fn basic(pair: &str) -> String {
    format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// The usual folder, with a part that needs a password.
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
        // Also on separate connections, so that the first response is made by a job.
        for (path, expected) in [
            ("/hello.txt", "private, no-cache"),
            ("/m5.bin", "private, no-cache"),
            ("/", "private, no-cache"),
            ("/plain/?json", "private, no-cache"),
            ("/api/time", "no-store"),
        ] {
            let mut client = Client::connect(server.port);
            for _ in 0..3 {
                let got = client.ask("GET", path, &[&right], b"").expect(200);
                assert_eq!(got.must("cache-control"), expected, "{path}");
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
        // The longest path decides: its users are allowed, and no others.
        client.ask("GET", "/private/file.txt", &[&right], b"").expect(401);
        client.ask("GET", "/private/file.txt", &[&other], b"").expect(200).with_body(HIDDEN);
        // Several requests in one packet stay in order, whether the password is checked or
        // remembered.
        let asked: Vec<u8> = ["/k1.bin", "/nosuch", "/hello.txt"]
            .iter()
            .flat_map(|path| request("GET", path, &[&right], b""))
            .chain(get("/hello.txt"))
            .collect();
        client.send(asked);
        assert_eq!([(); 4].map(|()| client.response().status), [200, 404, 200, 401]);
    });
}

/// A file has more names than its own: that of its folder, a clean one, and those of its coded
/// forms.
#[test]
fn a_file_needs_its_password_under_all_its_names() {
    let docroot = docroot();
    docroot.write("page.html", HIDDEN);
    docroot.write("page.html.gz", HIDDEN);
    docroot.write("sub/index.html", HIDDEN);
    // The reverse: the rule has the clean name.
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
        // Without clean URLs, that is another page.
        let unclean = Server::start(model, &docroot.root(), &["--auth", "u:p@/clean"]);
        Client::connect(unclean.port).get("/clean.html").expect(200);
    });
}

#[test]
fn every_wrong_login_gets_the_same_response() {
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

/// A hash of this cost takes a worker a noticeable part of a second in an unoptimised build.
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
        // A malformed file changes nothing.
        fs::write(&file, "no colon in it: is what this line lacks".replace(':', "")).unwrap();
        until("the file was checked", || {
            assert_eq!(ask("slow:second"), 200);
            server.err.text().contains("is left as it was: line 1: not of the form name:hash")
        });
        // A hash of another kind locks out its user, and no other.
        fs::write(&file, format!("slow:plain text\nother:{}\n", bcrypt::hash("third", 4).unwrap())).unwrap();
        until("the password is refused", || ask("slow:second") == 401);
        assert_eq!(ask("other:third"), 200);
        assert!(server.err.text().contains("line 1 has no bcrypt hash"), "{}", server.err.text());
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
fn errors_in_users_are_reported_in_one_line_at_the_start() {
    let docroot = docroot();
    let file = htpasswd(&docroot, &format!("u:{SESAME}\nv\n"));
    let ended = run(&mut command(MODELS[0], &docroot.root(), &["--htpasswd", &file]));
    let expected = format!(
        "whirligig: cannot serve the site: --htpasswd '{file}': line 2: not of the form name:hash; \
         correct the file or the option\n"
    );
    assert_eq!((ended.code, ended.err), (Some(1), expected));
    let ended = run(&mut command(MODELS[0], &docroot.root(), &["--htpasswd", "/nosuch/users"]));
    assert_eq!((ended.code, ended.err.lines().count()), (Some(1), 1), "{}", ended.err);
    let ended = run(&mut command(MODELS[0], &docroot.root(), &["--auth", "geheim"]));
    assert_eq!((ended.code, ended.err.lines().count()), (Some(2), 1), "{}", ended.err);
    assert!(!ended.err.contains("geheim"), "{}", ended.err);
}

/// A response that shows several files requires the password of each of them.
#[test]
fn archives_and_readmes_omit_files_with_their_own_password() {
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

/// Sends a request with a password and does not wait for the response.
fn send(client: &mut Client, method: &str, path: &str, pair: &str) {
    client.send(request(method, path, &[&basic(pair)], b""));
}

/// Without a delay, a guesser has as many attempts per second as the server can handle.
#[test]
fn guesses_are_slowed_by_address_and_right_passwords_never_wait() {
    let docroot = docroot();
    let file = htpasswd(&docroot, &format!("u:{SESAME}\n"));
    let file = format!("{file}@/private");
    let cases = [
        ("GET", &["--auth", "u:open sesame@/private"][..]),
        ("HEAD", &["--htpasswd", &file]),
        ("DELETE", &["--upload", "/private", "--write-auth", "u:open sesame@/private"]),
        ("PUT", &["--upload", "/private", "--write-htpasswd", &file]),
    ];
    on_both(|model| {
        std::thread::scope(|scope| {
            for (method, flags) in cases {
                let root = docroot.root();
                scope.spawn(move || {
                    let server = Server::start(model, &root, flags);
                    let path = "/private/nosuch";
                    let ask = |host: u8, pair: &str| {
                        let since = now();
                        let mut client = Client::connect_from(host, server.port);
                        send(&mut client, method, path, pair);
                        (client.response_to(method).status, now().duration_since(since))
                    };
                    let wrong: Vec<_> = (0..8).map(|number| ask(1, &format!("u:guess {number}"))).collect();
                    assert!(wrong.iter().all(|(status, _)| *status == 401), "{method} {wrong:?}");
                    let waits = [0, 0, 0, 0, 0, 250, 500, 1000].map(Duration::from_millis);
                    for ((_, took), wait) in wrong.iter().zip(waits) {
                        assert!((wait..wait + PATIENCE / 2).contains(took), "{method} {wrong:?}");
                    }
                    assert!(server.err.text().contains("5 wrong passwords from 127.0.0.1"));
                    // Two refusals wait, one of them for 4 s.
                    let mut waiting = [(); 2].map(|()| Client::connect(server.port));
                    for (number, client) in waiting.iter_mut().enumerate() {
                        send(client, method, path, &format!("u:late {number}"));
                    }
                    let (status, took) = ask(1, "u:open sesame");
                    assert!(status != 401 && took < Duration::from_secs(2), "{method} {status} {took:?}");
                    let (status, took) = ask(2, "u:guess");
                    assert!(status == 401 && took < Duration::from_secs(2), "{method} {status} {took:?}");
                    // A request without a password is no guess, and an unreadable header is none
                    // either.
                    let since = now();
                    let mut client = Client::connect(server.port);
                    for field in [&[][..], &["Authorization: Basic ===="], &["Authorization: Bearer x"]] {
                        client.ask(method, path, field, b"").expect(401);
                    }
                    assert_took("no guesses", since, 0.0..2.0);
                });
            }
        });
    });
}

/// A delayed refusal holds a connection, and on the twin a thread.
#[test]
fn refusals_that_wait_are_bounded() {
    let docroot = docroot();
    on_both(|model| {
        let flags = ["--auth", "u:open sesame", "--max-connections", "40"];
        let server = Server::start(model, &docroot.root(), &flags);
        // The last of them waits for 2 s, and ten more may wait. One address has at most eight.
        for host in 1..=2 {
            let mut client = Client::connect_from(host, server.port);
            for number in 0..9 {
                client.ask("GET", "/hello.txt", &[&basic(&format!("u:{number}"))], b"").expect(401);
            }
        }
        let mut waiting: Vec<Client> =
            (0..10).map(|number| Client::connect_from(1 + number % 2, server.port)).collect();
        for client in &mut waiting {
            send(client, "GET", "/hello.txt", "u:wrong");
        }
        until("all of them wait", || refused_at_once(2, server.port));
        let since = now();
        let mut client = Client::connect(server.port);
        for _ in 0..3 {
            client.ask("GET", "/hello.txt", &[&basic("u:open sesame")], b"").expect(200);
        }
        assert_took("the right password", since, 0.0..2.0);
        // Clients that leave make room for other addresses.
        waiting.into_iter().for_each(Client::reset);
        let mut other = Client::connect_from(3, server.port);
        for number in 0..5 {
            other.ask("GET", "/hello.txt", &[&basic(&format!("u:{number}"))], b"").expect(401);
        }
        until("there is room again", || !refused_at_once(3, server.port));
    });
}

/// Sends a wrong password. Returns true if the response is a 429 at once and the connection ends.
/// Returns false if the refusal is delayed, and closes the connection.
fn refused_at_once(host: u8, port: u16) -> bool {
    let mut client = Client::connect_from(host, port);
    send(&mut client, "GET", "/hello.txt", "u:beyond");
    if client.is_quiet_for(Duration::from_millis(50)) {
        return false;
    }
    let got = client.response().expect(429);
    assert_eq!(got.must("retry-after"), "8");
    assert!(got.says_close() && got.field("www-authenticate").is_none(), "{got:?}");
    true
}

/// A guesser that closed its connection after a short wait used to escape the delay and could try
/// again.
#[test]
fn a_guesser_that_does_not_wait_keeps_its_delays() {
    let docroot = docroot();
    let file = htpasswd(&docroot, &format!("u:{SESAME}\n"));
    on_both(|model| {
        for flags in [["--auth", "u:open sesame"], ["--htpasswd", &file]] {
            let server = Server::start(model, &docroot.root(), &flags);
            let mut client = Client::connect(server.port);
            for number in 0..8 {
                client.ask("GET", "/hello.txt", &[&basic(&format!("u:{number}"))], b"").expect(401);
            }
            // From here on each guess is delayed, by 2 s, 4 s and then 8 s. Some clients reset the
            // connection, some only finish sending.
            for number in 0..12 {
                let mut client = Client::connect(server.port);
                send(&mut client, "GET", "/hello.txt", &format!("u:hasty {number}"));
                client.is_quiet_for(Duration::from_millis(50));
                if number % 2 == 0 {
                    client.reset();
                }
            }
            until("one more is refused at once", || refused_at_once(1, server.port));
            let since = now();
            Client::connect(server.port)
                .ask("GET", "/hello.txt", &[&basic("u:open sesame")], b"")
                .expect(200);
            let mut other = Client::connect_from(2, server.port);
            other.ask("GET", "/hello.txt", &[&basic("u:wrong")], b"").expect(401);
            assert_took("a right password, and another address", since, 0.0..2.0);
        }
    });
}

/// A wrong guess counts even if its client does not wait for the result.
#[test]
fn guesses_of_clients_that_left_count() {
    let docroot = docroot();
    let file = htpasswd(&docroot, &format!("u:{}\n", bcrypt::hash("open sesame", 8).unwrap()));
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--htpasswd", &file]);
        let mut number = 0;
        until("they are counted", || {
            number += 1;
            let mut client = Client::connect(server.port);
            send(&mut client, "GET", "/hello.txt", &format!("u:hasty {number}"));
            // The check has begun, if no other is running, and takes much longer.
            client.is_quiet_for(Duration::from_millis(10));
            client.reset();
            server.err.text().contains("5 wrong passwords from 127.0.0.1")
        });
    });
}

/// A flood of wrong passwords used to take every worker, both processors, and the permits of other
/// users.
#[test]
fn a_flood_of_guesses_delays_neither_users_nor_other_work() {
    let docroot = docroot();
    let hash = bcrypt::hash("open sesame", 8).unwrap();
    let file = htpasswd(&docroot, &format!("u:{hash}\nv:{hash}\n"));
    let file = format!("{file}@/private");
    let since = now();
    assert!(bcrypt::verify("open sesame", &hash).unwrap());
    let one = now().duration_since(since);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--htpasswd", &file, "--fresh", "0"]);
        let mut known = Client::connect(server.port);
        let remembered = |known: &mut Client| {
            known.ask("GET", "/private/file.txt", &[&basic("v:open sesame")], b"").expect(200);
        };
        remembered(&mut known);
        let before = server.descriptors();
        let mut flood: Vec<Client> = (0..60).map(|_| Client::connect(server.port)).collect();
        for (number, client) in flood.iter_mut().enumerate() {
            send(client, "GET", "/private/file.txt", &format!("u:guess {number}"));
        }
        let since = now();
        for _ in 0..5 {
            remembered(&mut known);
            Client::connect(server.port).get("/plain/?json").expect(200);
            Client::connect(server.port).get("/m5.bin").expect(200);
        }
        let others = now().duration_since(since);
        // A login from elsewhere gets its turn, whatever is in the queue.
        let mut login = Client::connect_from(2, server.port);
        login.ask("GET", "/private/file.txt", &[&basic("u:open sesame")], b"").expect(200);
        let all = now().duration_since(since);
        let checked: usize = flood.iter_mut().map(|client| usize::from(!client.has_nothing())).sum();
        assert!(checked < 40, "{checked} of 60 guesses were checked before the login: {all:?}");
        assert!(others < 15 * one + Duration::from_secs(1), "{others:?}, a check takes {one:?}");
        // The server does not check a password whose client has left, so the next login from there
        // does not wait for the rest. The clients leave with a reset, because a client that only
        // closes looks like one that has finished sending.
        flood.into_iter().for_each(Client::reset);
        until("their connections are closed", || server.descriptors() < before + 10);
        let since = now();
        known.ask("GET", "/private/file.txt", &[&basic("u:another")], b"").expect(401);
        assert!(now().duration_since(since) < 10 * one + Duration::from_secs(1));
    });
}

/// Writes a file with one user, whose password takes at least a second to check.
fn slow_htpasswd(docroot: &Docroot) -> String {
    // The matching password is not needed here.
    htpasswd(docroot, &format!("u:{}\n", SESAME.replacen("$04$", "$13$", 1)))
}

/// Sends this many different wrong passwords, each on a separate connection.
fn flood(count: usize, port: u16) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(port)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        send(client, "GET", "/hello.txt", &format!("u:guess {number}"));
    }
    clients
}

/// A thread of the twin that waits for a check must notice that its time is over.
#[test]
fn checks_that_wait_too_long_are_503_in_time() {
    let docroot = docroot();
    let file = slow_htpasswd(&docroot);
    on_both(|model| {
        let flags = ["--htpasswd", &file, "--answer-timeout", "1"];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut clients = flood(30, server.port);
        let mut late = 0;
        for client in &mut clients {
            let got = client.response();
            if got.status == 503 {
                assert!(got.says_close(), "{got:?}");
                client.assert_closed();
                late += 1;
            }
        }
        // The checks take half a minute, and few of them complete within a second.
        assert!(late > 15, "{late} of 30 were late");
    });
}

/// A full queue is reported at once, and the connection stays open.
#[test]
fn checks_beyond_the_queue_are_503_at_once() {
    let docroot = docroot();
    let file = slow_htpasswd(&docroot);
    on_both(|model| {
        let flags = ["--htpasswd", &file, "--answer-timeout", "60"];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut clients = flood(64 + 20, server.port);
        // Some are checked meanwhile.
        let mut refused = 0;
        until("those beyond the queue have their responses", || {
            for client in &mut clients {
                if client.has_nothing() {
                    continue;
                }
                let got = client.response();
                if got.status == 503 {
                    assert!(got.field("retry-after").is_some() && !got.says_close(), "{got:?}");
                    client.get("/").expect(401);
                    refused += 1;
                }
            }
            refused >= 10
        });
    });
}

#[test]
fn equal_guesses_are_checked_once() {
    let docroot = docroot();
    let hash = bcrypt::hash("open sesame", 9).unwrap();
    let file = htpasswd(&docroot, &format!("u:{hash}\n"));
    on_both(|model| {
        for (pair, status) in [("u:open sesame", 200), ("u:wrong", 401), ("nobody:x", 401)] {
            let server = Server::start(model, &docroot.root(), &["--htpasswd", &file]);
            let used = || server.cpu();
            let before = used();
            Client::connect(server.port).ask("GET", "/hello.txt", &[&basic("u:first")], b"").expect(401);
            let one = used() - before;
            // Fewer than the number that is refused at once.
            let clients = if status == 200 { 16 } else { 4 };
            let mut clients: Vec<Client> =
                (0..clients).map(|host| Client::connect_from(1 + host, server.port)).collect();
            let before = used();
            for client in &mut clients {
                send(client, "GET", "/hello.txt", pair);
            }
            for client in &mut clients {
                client.response().expect(status);
            }
            let all = used() - before;
            assert!(all < 5 * one / 2, "{pair}: {all:?} for all, {one:?} for one");
        }
    });
}
