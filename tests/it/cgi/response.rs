//! Responses of programs: heads, lengths, redirects, and errors in the log.

use std::fs;

use crate::cgi::{HEAD, MIB, Programs, gone};
use crate::docroot::HELLO;
use crate::harness::{on_both, until};
use crate::wire::{Client, get};

#[test]
fn a_program_determines_its_response() {
    let programs = Programs::new()
        .with(
            "missing",
            "printf 'Status: 404 Gone fishing\\r\\nContent-Type: text/plain\\r\\n\\r\\nnot here'",
        )
        .with(
            "cookies",
            "printf 'Content-type: text/plain\\nSet-Cookie: a\\nSet-Cookie: b\\nServer: mine\\n\\n'",
        )
        .with("away", "printf 'Location: http://example.org/x\\n\\n'")
        .with("local", "printf 'Location: /hello.txt\\n\\n'")
        .with("locally", "printf 'Location: /cgi/env/x?from=here\\n\\n'")
        .with(
            "env",
            &format!(
                "{HEAD}; echo \"$REQUEST_METHOD $SCRIPT_NAME $PATH_INFO $QUERY_STRING $CONTENT_LENGTH\""
            ),
        )
        .with("locked", "printf 'Location: /plain/one.txt\\n\\n'")
        .with("circle", "printf 'Location: /cgi/circle\\n\\n'")
        .with("none", "printf 'Status: 204\\n\\n'")
        .with("bare", "printf 'Status: 410\\n\\n'")
        .with("head", &format!("{HEAD}; echo content; echo \"$REQUEST_METHOD\" > $T/head.$SERVER_PORT"));
    on_both(|model| {
        let server = programs.serve(model, &["--auth", "anna:secret@/plain"]);
        let mut client = Client::connect(server.port);
        let missing = client.get("/cgi/missing").expect(404);
        assert_eq!((missing.text(), missing.must("content-type")), ("not here", "text/plain"));
        let cookies = client.get("/cgi/cookies").expect(200);
        let set: Vec<_> = cookies.fields.iter().filter(|(name, _)| name == "set-cookie").collect();
        assert_eq!((set.len(), cookies.must("server")), (2, "whirligig"));
        assert_eq!(client.get("/cgi/away").expect(302).must("location"), "http://example.org/x");
        let local = client.ask("POST", "/cgi/local", &[], b"dropped").expect(200).with_body(HELLO);
        assert!(local.field("location").is_none(), "{local:?}");
        let env = client.ask("POST", "/cgi/locally", &[], b"dropped").expect(200);
        assert_eq!(env.text(), "GET /cgi/env /x from=here \n");
        client.get("/cgi/locked").expect(401);
        client.get("/cgi/circle").expect(502);
        client.get("/cgi/none").expect(204);
        assert!(client.get("/cgi/bare").expect(410).body.is_empty());
        let head = client.ask("HEAD", "/cgi/head", &[], b"").expect(200);
        assert_eq!(head.must("content-type"), "text/plain");
        assert_eq!(programs.told(&format!("head.{}", server.port)), "HEAD\n");
        // Two programs behind each other, and a file.
        client.send([get("/cgi/env/1"), get("/hello.txt"), get("/cgi/env/2")].concat());
        assert_eq!(client.response().expect(200).text(), "GET /cgi/env /1  \n");
        client.response().expect(200).with_body(HELLO);
        assert_eq!(client.response().expect(200).text(), "GET /cgi/env /2  \n");
        let mut old = Client::connect(server.port);
        old.send(b"GET /cgi/env HTTP/1.0\r\n\r\n");
        assert_eq!(old.response().expect(200).text(), "GET /cgi/env   \n");
    });
}

/// Splits a response into its head and its content as sent.
fn split(response: &[u8]) -> (String, &[u8]) {
    let at = response.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    (String::from_utf8_lossy(&response[..at]).to_ascii_lowercase(), &response[at..])
}

#[test]
fn a_length_that_is_right_is_passed_on() {
    let head = |bytes: &str| format!("printf 'Content-Type: text/plain\\nContent-Length: {bytes}\\n\\n'");
    let programs = Programs::new()
        .with("whole", &format!("{}; printf hello", head("5")))
        .with("parts", &format!("{}; printf he; sleep 0.2; printf ll; sleep 0.2; printf o", head("5")))
        .with("none", &head("0"))
        .with("error", "printf 'Status: 404 Not Found\\nContent-Type: a/b\\nContent-Length: 2\\n\\nno'")
        .with("large", &format!("{}; head -c 3000000 /dev/zero", head("3000000")))
        .with("goes-on", &format!("{}; printf hello; exec >&-; exec sleep 1000", head("5")))
        .with("holds", &format!("{}; printf hello; exec sleep 1000", head("5")))
        .with("head", &format!("{}; test $REQUEST_METHOD = HEAD || printf hello", head("5")))
        .with("unchanged", "printf 'Status: 304 Not Modified\\nContent-Length: 5\\n\\n'")
        .with("nothing", "printf 'Status: 204 No Content\\nContent-Length: 5\\n\\n'");
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut client = Client::connect(server.port);
        for (name, status, length) in [
            ("whole", 200, "5"),
            ("parts", 200, "5"),
            ("none", 200, "0"),
            ("error", 404, "2"),
            ("large", 200, "3000000"),
            // The client and its next request do not wait for the end of the program.
            ("goes-on", 200, "5"),
            ("holds", 200, "5"),
            ("head", 200, "5"),
        ] {
            let path = format!("/cgi/{name}");
            let got = client.get(&path).expect(status);
            assert_eq!(got.must("content-length"), length, "{name}");
            assert!(got.field("transfer-encoding").is_none(), "{name}: {got:?}");
            assert_eq!(got.body.len().to_string(), length, "{name}");
            if !matches!(name, "goes-on" | "holds") {
                let got = client.ask("HEAD", &path, &[], b"").expect(status);
                assert_eq!(got.must("content-length"), length, "HEAD {name}");
            }
        }
        for (name, status) in [("unchanged", 304), ("nothing", 204)] {
            let got = client.get(&format!("/cgi/{name}")).expect(status);
            assert!(got.field("content-length").is_none() && got.body.is_empty(), "{got:?}");
        }
        // HTTP/1.0 can keep its connection, because the length ends the response.
        let mut old = Client::connect(server.port);
        for name in ["whole", "parts", "whole"] {
            old.send(format!("GET /cgi/{name} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
            assert_eq!(old.response().expect(200).text(), "hello", "{name}");
        }
        client.send([get("/cgi/whole"), get("/cgi/parts"), get("/hello.txt")].concat());
        for expected in [&b"hello"[..], b"hello", HELLO] {
            client.response().expect(200).with_body(expected);
        }
        assert!(!server.err.text().contains("Content-Length"), "{}", server.err.text());
    });
}

/// A client that trusts a length would read the bytes after it as the next response.
#[test]
fn a_length_that_is_wrong_shifts_no_response() {
    let head = |bytes: &str| format!("printf 'Content-Type: text/plain\\nContent-Length: {bytes}\\n\\n'");
    let response = "HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n";
    let programs = Programs::new()
        .with("less", &format!("{}; printf 012", head("5")))
        .with("less-later", &format!("{}; printf 012; sleep 0.2", head("5")))
        .with("nothing", &head("5"))
        .with("more", &format!("{}; printf '01234{response}'", head("5")))
        .with("more-later", &format!("{}; printf 01; sleep 0.2; printf '234{response}'", head("5")))
        .with("one-more", &format!("{}; printf 012345", head("5")))
        .with("some", &format!("{}; printf '{response}'", head("0")))
        .with("endless", &format!("{}; yes", head("5")));
    on_both(|model| {
        let server = programs.serve(model, &[]);
        for (name, content, log) in [
            ("less", "012", "3 bytes of content, but a Content-Length of 5"),
            ("less-later", "012", "3 bytes of content, but a Content-Length of 5"),
            ("nothing", "", "0 bytes of content, but a Content-Length of 5"),
            ("more", "01234", "more content than its Content-Length of 5"),
            ("more-later", "01234", "more content than its Content-Length of 5"),
            ("one-more", "01234", "more content than its Content-Length of 5"),
            ("some", "", "more content than its Content-Length of 0"),
            ("endless", "y\ny\ny", "more content than its Content-Length of 5"),
        ] {
            let length = if name == "some" { "0" } else { "5" };
            let is_whole = content.len().to_string() == length;
            for version in ["1.1", "1.0"] {
                let mut client = Client::connect(server.port);
                let first = format!(
                    "GET /cgi/{name} HTTP/{version}\r\nHost: a.localhost\r\nConnection: keep-alive\r\n\r\n"
                );
                let last = "GET /hello.txt HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n";
                client.send(first + last);
                let (all, _) = client.rest();
                let (head, rest) = split(&all);
                assert!(head.contains(&format!("\ncontent-length: {length}\r\n")), "{name}: {head}");
                assert!(!head.contains("transfer-encoding"), "{name}: {head}");
                assert!(rest.starts_with(content.as_bytes()), "{name}: {}", rest.escape_ascii());
                let behind = &rest[content.len()..];
                match is_whole {
                    true => {
                        let (head, last) = split(behind);
                        assert!(head.starts_with("http/1.1 200 ok"), "{name}: {head}");
                        assert_eq!(last, HELLO, "{name}");
                    }
                    false => {
                        assert_eq!(
                            behind, b"",
                            "{name}: the connection must end, so that the client notices"
                        );
                    }
                }
            }
            let line = format!("/cgi/{name}: {log}\n");
            // The head alone completes that response. Content after it may arrive a moment too late
            // to be noticed.
            if !matches!(name, "some") {
                until(format_args!("{line:?} is logged"), || server.err.text().contains(&line));
            }
        }
        // The head alone announces nothing that is known to be wrong.
        let mut client = Client::connect(server.port);
        for name in ["less", "more", "one-more"] {
            let got = client.ask("HEAD", &format!("/cgi/{name}"), &[], b"").expect(200);
            assert!(got.field("content-length").is_none(), "{name}: {got:?}");
            client.get("/hello.txt").expect(200).with_body(HELLO);
        }
    });
}

#[test]
fn a_program_that_fails_is_logged_with_its_exit() {
    let programs = Programs::new()
        .with("early", "exit 37")
        .with("late", &format!("{HEAD}; echo whole; exit 3"))
        .with("bare", "printf 'Status: 410\\n\\n'; exit 5")
        .with("elsewhere", "printf 'Location: /hello.txt\\n\\n'; exit 6")
        .with("before", "kill -SEGV $$")
        .with("within", &format!("{HEAD}; echo half; kill -TERM $$"))
        .with("behind", "printf 'Content-Type: a/b\\nContent-Length: 2\\n\\nab'; kill -ABRT $$")
        .with("slow", "exec sleep 1000")
        .with("slow-content", &format!("{HEAD}; echo half; exec sleep 1000"))
        .with("works", &format!("{HEAD}; echo done; exec >&-; exec sleep 1000"))
        .with("fine", &format!("{HEAD}; echo fine"))
        .with("gone", &format!("{HEAD}; echo $$ > $T/gone.$SERVER_PORT; exec sleep 1000"))
        .with_file("no-interpreter", "#!/no/such/interpreter\n");
    on_both(|model| {
        let server = programs.serve(model, &["--cgi-timeout", "2"]);
        let cases = [
            ("early", "exit status 37"),
            ("late", "exit status 3"),
            ("bare", "exit status 5"),
            ("elsewhere", "exit status 6"),
            ("before", "ended by signal 11"),
            ("within", "ended by signal 15"),
            ("behind", "ended by signal 6"),
            ("slow", "cut off by signal 9, it took too long"),
            ("slow-content", "cut off by signal 9, it took too long"),
            ("works", "cut off by signal 9, it took too long"),
            ("no-interpreter", "cannot be started: "),
        ];
        let mut clients: Vec<Client> = Vec::new();
        for (name, _) in cases {
            let mut client = Client::connect(server.port);
            client.send(get(&format!("/cgi/{name}")));
            clients.push(client);
        }
        let mut leaver = Client::connect(server.port);
        leaver.send(get("/cgi/gone"));
        let pid = programs.told(&format!("gone.{}", server.port));
        leaver.reset();
        gone(&pid);
        Client::connect(server.port).get("/cgi/fine").expect(200);
        for (name, words) in cases {
            let line = format!("/cgi/{name}: {words}");
            until(format_args!("{line:?} is logged"), || server.err.text().contains(&line));
        }
        let log = server.err.text();
        assert!(!log.contains("/cgi/fine:") && !log.contains("/cgi/gone:"), "{log}");
    });
}

#[test]
fn a_malformed_response_head_is_a_502_and_standard_error_is_logged() {
    let programs = Programs::new()
        .with("silent", "exit 3")
        .with("cut", "printf 'Content-Type: text/pl'")
        .with(
            "traceback",
            "echo 'Traceback (most recent call last):'; echo oops >&2; printf 'half\\nlines' >&2",
        )
        .with("typeless", "printf 'Status: 200\\n\\ncontent'")
        .with("nph", "printf 'HTTP/1.1 200 OK\\nContent-Type: text/plain\\n\\n'")
        .with("huge", "printf 'X: '; head -c 40000 /dev/zero | tr '\\0' x; printf '\\n\\n'")
        .with("interim", "printf 'Status: 100\\nContent-Type: text/plain\\n\\n'")
        .with_file("unreadable", "#!/no/such/interpreter\n");
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut client = Client::connect(server.port);
        for name in ["silent", "cut", "traceback", "typeless", "nph", "huge", "interim"] {
            let got = client.get(&format!("/cgi/{name}"));
            assert_eq!(got.status, 502, "{name}: {got:?}");
            until(format_args!("{name} is logged"), || server.err.text().contains(&format!("/cgi/{name}: ")));
        }
        client.get("/cgi/unreadable").expect(500);
        for line in ["/cgi/traceback: oops\n", "/cgi/traceback: half\n", "/cgi/traceback: lines\n"] {
            until(format_args!("{line:?} is logged"), || server.err.text().contains(line));
        }
        client.get("/hello.txt").expect(200);
    });
}

#[test]
fn endless_standard_error_is_logged_in_part_and_delays_no_client() {
    let programs = Programs::new()
        .with("flood", "yes 'a complaint' >&2 & echo $$ $! > $T/flood.$SERVER_PORT; wait")
        .with("many", &format!("seq 1 3000 >&2; {HEAD}; echo done"));
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut other = Client::connect(server.port);
        assert_eq!(other.get("/cgi/many").expect(200).text(), "done\n");
        // The first lines are the most useful. The log contains the number of omitted lines, and
        // the sum is right.
        let count = || {
            let text = server.err.text();
            let lines = text.lines().filter_map(|line| Some(line.split_once("/cgi/many: ")?.1));
            lines.fold((0, 0), |(said, left_out), line| match line.strip_suffix(" more lines are left out") {
                Some(number) => (said, left_out + number.parse::<usize>().unwrap()),
                None => (said + 1, left_out),
            })
        };
        until("all lines are accounted for", || {
            let (said, left_out) = count();
            left_out > 0 && said + left_out == 3000
        });
        assert!(server.err.text().contains("/cgi/many: 1\n"), "{}", server.err.text());
        let mut client = Client::connect(server.port);
        client.send(get("/cgi/flood"));
        let pid = programs.told(&format!("flood.{}", server.port));
        let before = server.resident_bytes();
        for _ in 0..100 {
            other.get("/hello.txt").expect(200).with_body(HELLO);
        }
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 8 * MIB as u64, "{grown} bytes of memory for the messages of a program");
        client.reset();
        gone(&pid);
    });
}

/// On the twin, a job runs on the connection's own thread, which nothing interrupts.
#[test]
fn a_local_redirect_has_the_usual_response_timeout() {
    let programs = Programs::new()
        .with("away", "printf 'Location: /slow/x\\n\\n'")
        .with("late", "sleep 1.2; printf 'Location: /plain/\\n\\n'");
    let passwords = programs.at("passwords");
    fs::write(&passwords, format!("anna:$2b$16${}\n", ".".repeat(53))).unwrap();
    let htpasswd = format!("{}@/slow", passwords.display());
    let server = programs.serve("reactor", &["--answer-timeout", "1", "--htpasswd", &htpasswd]);
    let mut client = Client::connect(server.port);
    // The timeout begins when the program has named the path.
    client.get("/cgi/late").expect(200);
    let got = client.ask("GET", "/cgi/away", &["Authorization: Basic YW5uYTpzZWNyZXQ="], b"");
    assert_eq!(got.status, 503, "{got:?}");
}
