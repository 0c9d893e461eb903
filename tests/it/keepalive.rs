//! Many requests on one connection: when it stays open, when it ends, and that no cut of the bytes
//! changes a response.

use std::thread;

use crate::docroot::{Docroot, HELLO, pattern};
use crate::harness::{Server, on_both};
use crate::wire::{Client, End, Framing, Response, chunked, deliver, get, request};

#[test]
fn a_connection_stays_open_unless_one_side_sends_close() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        for (version, field, stays) in [
            ("1.1", "", true),
            ("1.1", "Connection: keep-alive\r\n", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: CLOSE\r\n", false),
            ("1.1", "Connection: keep-alive, close\r\n", false),
            ("1.1", "Connection: ,, close ,\r\n", false),
            ("1.1", "Connection:\tclose\r\n", false),
            ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
            ("1.1", "Proxy-Connection: close\r\n", true),
            ("1.0", "", false),
            ("1.0", "Connection: keep-alive\r\n", true),
            ("1.0", "Connection: Keep-Alive, x\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            for path in ["/hello.txt", "/nothing", "/m5.bin"] {
                let what = format!("{path} {version} {field:?}");
                let one = format!("GET {path} HTTP/{version}\r\nHost: localhost\r\n{field}\r\n");
                let mut client = Client::connect(server.port);
                client.send(&one);
                let first = client.response();
                assert_eq!(first.says_close(), !stays, "{what}");
                if stays && version == "1.0" {
                    // A client of HTTP/1.0 expects the connection to end unless the response has
                    // this header.
                    assert!(first.must("connection").eq_ignore_ascii_case("keep-alive"), "{what}");
                }
                if stays {
                    client.send(&one);
                    assert_eq!(client.response().status, first.status, "{what}");
                } else {
                    client.send_if_open(&one);
                    client.assert_closed();
                }
            }
        }
    });
}

/// A request, its method, and a check that identifies its response.
type Asked = (Vec<u8>, &'static str, Box<dyn Fn(Response)>);

/// Returns one of eight kinds of request.
fn mixed(number: usize) -> Asked {
    let word = format!("number {number}");
    let content = word.clone();
    match number % 8 {
        0 => (get("/hello.txt"), "GET", Box::new(|got| drop(got.expect(200).with_body(HELLO)))),
        1 => {
            let send = request("POST", "/api/echo", &["Content-Type: text/x-test"], word.as_bytes());
            (send, "POST", Box::new(move |got| drop(got.expect(200).with_body(&content))))
        }
        2 => (get("/nothing"), "GET", Box::new(|got| drop(got.expect(404)))),
        3 => (
            request("HEAD", "/k300.bin", &[], b""),
            "HEAD",
            Box::new(|got| drop(got.expect(200).with_body(""))),
        ),
        4 => {
            let head = request("PUT", "/api/echo", &["Transfer-Encoding: chunked"], b"");
            let send = [head, chunked(word.as_bytes(), 3)].concat();
            (send, "PUT", Box::new(move |got| drop(got.expect(200).with_body(&content))))
        }
        5 => {
            let send = request("GET", "/k33.bin", &[&format!("Range: bytes={number}-{}", number + 9)], b"");
            let part = pattern(33 * 1024)[number..number + 10].to_vec();
            (send, "GET", Box::new(move |got| drop(got.expect(206).with_body(&part))))
        }
        6 => (get("/k33.bin"), "GET", Box::new(|got| drop(got.expect(200).with_body(pattern(33 * 1024))))),
        _ => (
            request("DELETE", "/hello.txt", &[], word.as_bytes()),
            "DELETE",
            Box::new(|got| drop(got.expect(405))),
        ),
    }
}

#[test]
fn a_hundred_pipelined_requests_get_responses_in_order() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let all: Vec<_> = (0..100).map(mixed).collect();
        client.send(all.iter().flat_map(|(send, ..)| send.clone()).collect::<Vec<u8>>());
        for (_, method, check) in all {
            check(client.response_to(method));
        }
        client.get("/hello.txt").expect(200);
    });
}

/// A client that reads nothing until everything is sent. Its requests wait in the kernel, then all
/// get responses.
#[test]
fn a_flood_of_requests_gets_all_responses() {
    const COUNT: usize = 5_000;
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let mut writer = client.sender();
        thread::scope(|scope| {
            scope.spawn(move || writer.send(get("/k1.bin").repeat(COUNT)));
            let content = pattern(1024);
            for _ in 0..COUNT {
                client.response().expect(200).with_body(&content);
            }
        });
        assert!(client.get("/hello.txt").status == 200);
    });
}

/// Statuses and bodies in order. The body counts only for status 200.
type Answers = Vec<(u16, Vec<u8>)>;

/// Requests to cut at every position, with the responses that every cut must produce.
fn worth_cutting() -> Vec<(Vec<u8>, Answers)> {
    let hello = (200, HELLO.to_vec());
    let post = request("POST", "/api/echo", &["Content-Type: text/plain"], b"eleven char");
    let coded = [
        request("POST", "/api/echo", &["Transfer-Encoding: chunked"], b""),
        b"4;name=\"a;b\"\r\nWiki\r\n5\r\npedia\r\n0\r\nX-Trailer: yes\r\n\r\n".to_vec(),
    ]
    .concat();
    vec![
        (get("/hello.txt"), vec![hello.clone()]),
        ([b"\r\n", &*get("/hello.txt"), &get("/nothing")].concat(), vec![hello.clone(), (404, Vec::new())]),
        ([post, get("/hello.txt")].concat(), vec![(200, b"eleven char".to_vec()), hello.clone()]),
        ([coded, get("/hello.txt")].concat(), vec![(200, b"Wikipedia".to_vec()), hello]),
    ]
}

fn assert_answers(client: &mut Client, answers: &[(u16, Vec<u8>)], what: &str) {
    for (status, body) in answers {
        let got = client.response();
        assert_eq!(got.status, *status, "{what}");
        assert!(*status != 200 || got.body == *body, "{what}: {:?}", got.text());
    }
}

#[test]
fn a_request_cut_anywhere_gets_its_response() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        for (sent, answers) in worth_cutting() {
            let cuts: Vec<Vec<&[u8]>> = (1..sent.len()).map(|cut| vec![&sent[..cut], &sent[cut..]]).collect();
            for (cut, client) in deliver(server.port, &cuts).iter_mut().enumerate() {
                assert_answers(client, &answers, &format!("cut after {} bytes", cut + 1));
            }
        }
    });
}

#[test]
fn a_request_byte_by_byte_gets_its_response() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let cases = worth_cutting();
        let bytes: Vec<Vec<&[u8]>> = cases.iter().map(|(sent, _)| sent.chunks(1).collect()).collect();
        for (client, (_, answers)) in deliver(server.port, &bytes).iter_mut().zip(&cases) {
            assert_answers(client, answers, "byte by byte");
            assert!(client.get("/hello.txt").status == 200);
        }
    });
}

#[test]
fn a_client_that_finished_sending_gets_all_responses() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        for paths in [["/hello.txt", "/k300.bin", "/hello.txt"], ["/m5.bin", "/nothing", "/m5.bin"]] {
            let mut client = Client::connect_narrow(server.port);
            client.send(paths.map(get).concat());
            client.finish();
            for path in paths {
                let got = client.response();
                match std::fs::read(docroot.path(&path[1..])) {
                    Ok(content) => drop(got.expect(200).with_body(content)),
                    Err(_) => drop(got.expect(404)),
                }
            }
            let (rest, end) = client.rest();
            assert!(rest.is_empty() && end == End::Fin, "{end:?}");
        }
    });
}

#[test]
fn a_100_is_sent_only_to_clients_that_wait_for_it() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--max-body", "1000"]);
        let head =
            "POST /api/echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

        let mut client = Client::connect(server.port);
        client.send(head);
        let interim = client.read_some(1000);
        assert_eq!(String::from_utf8_lossy(&interim), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("hello");
        let got = client.response().expect(200).with_body("hello");
        assert!(got.interim.is_empty(), "only one 100");

        // A client that has already sent the body does not wait for a 100.
        client.send(format!("{head}hello"));
        let got = client.response().expect(200).with_body("hello");
        assert!(got.interim.is_empty(), "{:?}", got.interim);

        // If the body is refused, the refusal comes at once and instead of the 100.
        for (line, length, status) in
            [("POST /hello.txt", 5, 405), ("POST /api/nothing", 5, 404), ("POST /api/echo", 5000, 413)]
        {
            let mut client = Client::connect(server.port);
            client.send(format!(
                "{line} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
            ));
            let got = client.response();
            assert!((400..500).contains(&got.status) && got.interim.is_empty(), "{line}: {got:?}");
            assert!(got.status == status || line.contains("nothing"), "{line}: {got:?}");
        }

        let mut client = Client::connect(server.port);
        client.send(head.replace("100-continue", "200-ok"));
        assert!(client.response().expect(417).interim.is_empty());

        let mut old = Client::connect(server.port);
        old.send(head.replace("HTTP/1.1", "HTTP/1.0"));
        old.send("hello");
        let got = old.response().expect(200).with_body("hello");
        assert!(got.interim.is_empty(), "HTTP/1.0 has no interim responses");

        let got = client_get_with_expect(server.port);
        assert!(got.status == 200 && got.framing == Framing::Length);
    });
}

fn client_get_with_expect(port: u16) -> Response {
    let mut client = Client::connect(port);
    let got = client.ask("GET", "/hello.txt", &["Expect: 100-continue"], b"");
    client.get("/hello.txt").expect(200);
    got
}

/// A close with unread bytes resets the connection, and the reset destroys the response in transit.
/// So the server has to continue reading for a while after a refusal.
#[test]
fn a_client_that_is_still_sending_can_read_the_refusal() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--max-body", "1000"]);
        let heads = [
            ("POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n", 400),
            ("POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n", 413),
            ("GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        ];
        for (head, status) in heads {
            for _ in 0..10 {
                let mut client = Client::connect(server.port);
                client.send(head);
                client.send_if_open(vec![b'x'; 1024 * 1024]);
                let got = client.response().expect(status);
                assert!(got.says_close(), "{got:?}");
                client.assert_closed();
            }
        }
    });
}

/// An empty line before a request is skipped (RFC 9112 section 2.2). Old clients send one after a
/// body.
#[test]
fn an_empty_line_between_requests_is_skipped() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        client.send(
            [
                b"\r\n",
                &*get("/hello.txt"),
                b"\r\n",
                &request("POST", "/api/echo", &[], b"x"),
                b"\r\n",
                &get("/hello.txt"),
            ]
            .concat(),
        );
        client.response().expect(200).with_body(HELLO);
        client.response().expect(200).with_body("x");
        client.response().expect(200).with_body(HELLO);
    });
}
