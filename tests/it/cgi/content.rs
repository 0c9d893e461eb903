//! Content in both directions, and its spool.

use std::fs;
use std::time::Duration;

use crate::cgi::{HEAD, MIB, Programs, gone};
use crate::docroot::pattern;
use crate::harness::{Server, on_both, until};
use crate::wire::{Client, chunked, get, request};

#[test]
fn much_content_goes_through_in_both_directions() {
    let programs = Programs::new()
        .with("cat", "printf 'Content-Type: application/octet-stream\\n\\n'; exec cat")
        .with("count", &format!("{HEAD}; head -c $CONTENT_LENGTH | wc -c"))
        .with("slow", &format!("sleep 0.3; n=$(wc -c); {HEAD}; echo $n"))
        .with("deaf", &format!("exec <&-; {HEAD}; echo done"))
        .with("early", &format!("{HEAD}; echo done"));
    let content = pattern(8 * MIB);
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut client = Client::connect(server.port);
        // Sends everything before reading. A server that only streams would deadlock.
        let mut old = Client::connect(server.port);
        let length = content.len();
        old.send(format!("POST /cgi/cat HTTP/1.0\r\nContent-Length: {length}\r\n\r\n"));
        old.send(&content);
        let (rest, _) = old.rest();
        assert!(rest.starts_with(b"HTTP/1.1 200 OK\r\n") && rest.ends_with(&content), "{} bytes", rest.len());
        for name in ["count", "slow"] {
            let got = client.ask("POST", &format!("/cgi/{name}"), &[], &content).expect(200);
            assert_eq!(got.text().trim(), content.len().to_string());
        }
        client.send(request("POST", "/cgi/cat", &["Transfer-Encoding: chunked"], b""));
        client.send(chunked(&content[..MIB], 60_000));
        client.response().expect(200).with_body(&content[..MIB]);
        client.send(request("POST", "/cgi/count", &["Transfer-Encoding: chunked"], b""));
        client.send(chunked(b"small", 2));
        assert_eq!(client.response().expect(200).text().trim(), "5");
        // A program that does not read its input can still respond. The rest is discarded.
        for name in ["deaf", "early"] {
            let mut client = Client::connect(server.port);
            client.send_if_open(request("POST", &format!("/cgi/{name}"), &[], &content));
            assert_eq!(client.response().expect(200).text(), "done\n");
        }
        let mut client = Client::connect(server.port);
        client.send(request("POST", "/cgi/cat", &["Expect: 100-continue", "Content-Length: 5"], b""));
        until("the 100 (Continue) has arrived", || !client.has_nothing());
        client.send(b"hello");
        let got = client.response().expect(200);
        assert_eq!((got.text(), &got.interim[..]), ("hello", &[100][..]));
    });
}

#[test]
fn content_reaches_the_program_as_it_comes_and_its_output_the_client() {
    let programs = Programs::new().with(
        "talk",
        &format!("head -c {MIB} > /dev/null; read -r line; echo \"$line\" > $T/first.$SERVER_PORT; {HEAD}; echo got \"$line\"; read -r line; echo got \"$line\""),
    );
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut client = Client::connect(server.port);
        // The first MiB is stored before the program starts.
        let length = MIB + 10;
        client.send(format!("POST /cgi/talk HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"));
        client.send(pattern(MIB));
        client.send("one\n");
        assert_eq!(programs.told(&format!("first.{}", server.port)), "one\n");
        client.send(b"two 2\n");
        assert_eq!(client.response().expect(200).text(), "got one\ngot two 2\n");
    });
}

#[test]
fn a_client_that_does_not_read_holds_the_program_back() {
    let programs =
        Programs::new().with("endless", &format!("{HEAD}; echo $$ > $T/endless.$SERVER_PORT; exec yes"));
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let before = server.resident_bytes();
        let mut client = Client::connect_narrow(server.port);
        client.send(get("/cgi/endless"));
        let pid = programs.told(&format!("endless.{}", server.port));
        let written = || -> u64 {
            let io = fs::read_to_string(format!("/proc/{}/io", pid.trim())).unwrap_or_default();
            io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok()).unwrap_or(0)
        };
        // If the program has not written for a while, all buffers are full.
        let mut last = 0;
        until("the program is held back", || {
            crate::harness::pass(Duration::from_millis(100));
            let now = written();
            std::mem::replace(&mut last, now) == now && now > 0
        });
        assert!(last < 8 * MIB as u64, "{last} bytes were written");
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 2 * MIB as u64, "{grown} bytes of memory for a client that does not read");
        drop(client);
        gone(&pid);
    });
}

#[test]
fn unreadable_spooled_content_ends_the_response_with_an_error() {
    let programs = Programs::new()
        .with(
            "mute",
            &format!("echo $$ > $T/mute.$SERVER_PORT; until [ -e $T/gate.$SERVER_PORT ]; do sleep 0.05; done; n=$(wc -c); {HEAD}; echo $n"),
        )
        .with(
            "talks",
            &format!("{HEAD}; echo $$ > $T/talks.$SERVER_PORT; until [ -e $T/gate.$SERVER_PORT ]; do sleep 0.05; done; wc -c"),
        );
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut client = Client::connect(server.port);
        for name in ["mute", "talks"] {
            let gate = programs.at(&format!("gate.{}", server.port));
            drop(fs::remove_file(&gate));
            // Chunked, so that the whole body is in a file when the program starts.
            client.send(request("POST", &format!("/cgi/{name}"), &["Transfer-Encoding: chunked"], b""));
            client.send(chunked(&pattern(4 * MIB), 60_000));
            let pid = programs.told(&format!("{name}.{}", server.port));
            assert_eq!(shorten_files_without_a_name(&server), 1, "files with content");
            fs::write(&gate, "").unwrap();
            match name {
                "mute" => assert_eq!(client.response().status, 502),
                _ => {
                    let (rest, _) = client.rest();
                    assert!(rest.starts_with(b"HTTP/1.1 200 OK\r\n") && !rest.ends_with(b"0\r\n\r\n"));
                }
            }
            gone(&pid);
        }
    });
}

/// Truncates the server's temporary files, like a failing disk would. Returns their number.
fn shorten_files_without_a_name(server: &Server) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid().as_raw_nonzero())).unwrap().flatten();
    let files = open.filter(|entry| {
        let metadata = fs::metadata(entry.path());
        metadata.is_ok_and(|file| file.is_file() && file.len() > MIB as u64)
            && fs::read_link(entry.path()).is_ok_and(|path| path.to_string_lossy().ends_with(" (deleted)"))
    });
    files
        .map(|entry| fs::OpenOptions::new().write(true).open(entry.path()).unwrap().set_len(0).unwrap())
        .count()
}

#[test]
fn no_program_is_started_for_content_that_is_refused() {
    // The error appears only when the program is started.
    let programs = Programs::new().with_file("broken", "#!/no/such/interpreter\n");
    on_both(|model| {
        let server = programs.serve(model, &["--max-body", "1000", "--upload", "/plain"]);
        let mut client = Client::connect(server.port);
        client.send("POST /cgi/broken HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
        client.response().expect(413);
        client.assert_closed();
        Client::connect(server.port).ask("POST", "/cgi/broken", &[], b"little").expect(500);
        assert!(!server.err.text().contains("413"), "{}", server.err.text());
    });
}
