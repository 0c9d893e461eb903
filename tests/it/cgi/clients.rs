//! Clients that leave or finish sending while their program runs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::cgi::{HEAD, MIB, Programs, children, gone};
use crate::docroot::pattern;
use crate::harness::{on_both, until};
use crate::wire::{Client, get, request};

#[test]
fn a_program_is_killed_when_its_client_leaves() {
    let programs = Programs::new().with("family", "sleep 1000 & echo $$ $! > $T/$QUERY_STRING; cat; wait");
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut others = Client::connect(server.port);
        for how in ["reset", "content"] {
            let name = format!("{how}.{}", server.port);
            let mut client = Client::connect(server.port);
            let length = if how == "content" { "Content-Length: 2000000\r\n" } else { "" };
            let method = if how == "content" { "POST" } else { "GET" };
            client.send(format!("{method} /cgi/family?{name} HTTP/1.1\r\nHost: x\r\n{length}\r\n"));
            if how == "content" {
                // Enough content for the program to start.
                client.send(pattern(MIB));
            }
            let pids = programs.told(&name);
            match how {
                "reset" => client.reset(),
                _ => drop(client),
            }
            gone(&pids);
            others.get("/hello.txt").expect(200);
        }
        until("no program is left", || children(&server).is_empty());
    });
}

#[test]
fn a_closed_client_is_noticed_when_its_response_is_sent() {
    let wait = "while ! test -e $T/go.$SERVER_PORT; do sleep 0.02; done";
    let programs = Programs::new()
        .with("talks", &format!("echo $$ > $T/$QUERY_STRING; {wait}; {HEAD}; echo x; exec sleep 1000"))
        .with("silent", "echo $$ > $T/$QUERY_STRING; exec sleep 1000");
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let mut pids = String::new();
        for how in ["begun", "at-once"] {
            let name = format!("{how}.{}", server.port);
            let mut client = Client::connect(server.port);
            client.send(get(&format!("/cgi/talks?{name}")));
            if how == "begun" {
                pids.push_str(&programs.told(&name));
            }
            drop(client);
            pids.push_str(&programs.told(&name));
        }
        Client::connect(server.port).get("/hello.txt").expect(200);
        fs::write(programs.at(&format!("go.{}", server.port)), "").unwrap();
        gone(&pids);
        // A program that never writes ends by its deadline, whether or not the client is still
        // connected.
        let server = programs.serve(model, &["--cgi-timeout", "1"]);
        let names = ["closed", "half-closed"].map(|how| format!("{how}.{}", server.port));
        let mut clients = names.each_ref().map(|name| {
            let mut client = Client::connect(server.port);
            client.send(get(&format!("/cgi/silent?{name}")));
            client.finish();
            client
        });
        let pids = names.map(|name| programs.told(&name));
        clients[1].response().expect(504);
        drop(clients);
        gone(&pids.concat());
    });
}

/// TCP sends the same segment for a close and for the end of sending, and responds to probes for a
/// minute after either. A Unix socket distinguishes them.
#[test]
fn a_client_that_closes_a_unix_socket_is_noticed_at_once() {
    let programs = Programs::new()
        .with("silent", "echo $$ > $T/$QUERY_STRING; exec sleep 1000")
        .with("waits", &format!("echo $$ > $T/$QUERY_STRING; sleep 0.5; {HEAD}; echo still here"));
    on_both(|model| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let bind = format!("unix:{}", socket.display());
        let server = programs.serve(model, &["--bind", "127.0.0.1", "--bind", &bind]);
        let mut others = Client::connect(server.port);
        let ask = |program: &str, name: &str| {
            let mut client = UnixStream::connect(&socket).unwrap();
            client.write_all(&get(&format!("/cgi/{program}?{name}.{}", server.port))).unwrap();
            (client, programs.told(&format!("{name}.{}", server.port)))
        };
        let (closed, pid) = ask("silent", "closed");
        drop(closed);
        gone(&pid);
        let (finished_first, pid) = ask("silent", "finished-first");
        finished_first.shutdown(std::net::Shutdown::Write).unwrap();
        others.get("/hello.txt").expect(200);
        drop(finished_first);
        gone(&pid);
        let (mut half, _) = ask("waits", "half");
        half.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        half.read_to_string(&mut text).unwrap();
        assert!(text.contains("still here"), "{text}");
    });
}

#[test]
fn a_client_that_finished_sending_gets_its_responses_and_nothing_else() {
    let programs = Programs::new()
        .with("half", &format!("sleep 0.4; {HEAD}; echo still here"))
        .with("copy", &format!("sleep 0.4; {HEAD}; cat"));
    let head = "HTTP/1.1 200 OK\r\n";
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let old = b"GET /cgi/half HTTP/1.0\r\n\r\n".to_vec();
        let cases = [
            ("one", get("/cgi/half"), vec!["still here\n"]),
            ("HTTP/1.0", old, vec!["still here\n"]),
            ("content", request("POST", "/cgi/copy", &[], b"content"), vec!["content"]),
            ("chunks", request("POST", "/cgi/copy", &["Transfer-Encoding: chunked"], b""), vec!["abc"]),
            ("pipelined", [get("/cgi/half"), get("/cgi/copy"), get("/hello.txt")].concat(), vec!["", "", ""]),
            ("a request to the loop", get("/_whirligig/metrics"), vec!["whirligig_"]),
        ];
        for (name, bytes, contents) in cases {
            let mut client = Client::connect(server.port);
            client.send(&bytes);
            if name == "chunks" {
                client.send(b"3\r\nabc\r\n0\r\n\r\n");
            }
            client.finish();
            let (all, _) = client.rest();
            let text = String::from_utf8_lossy(&all);
            assert!(text.starts_with(head), "{name}: {text}");
            assert_eq!(text.matches("HTTP/1.1 ").count(), contents.len(), "{name}: {text}");
            assert!(contents.iter().all(|content| text.contains(content)), "{name}: {text}");
        }
    });
}
