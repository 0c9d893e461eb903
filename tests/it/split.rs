//! Any split of any sequence of requests produces equal responses, over a socket.
//!
//! The unit tests of the protocol show this for thousands of sequences. These tests include the
//! pump and both models: a few dozen sequences, each sent at once, with random cuts, and byte by
//! byte. The server reads every piece separately. `PROPTEST_CASES=N` sets the number of sequences.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::differential::{LAST, even_out};
use crate::docroot::Docroot;
use crate::harness::{Server, on_both};
use crate::wire::{Client, chunked, deliver, get, request};

/// Number of sequences, unless the environment sets another.
const CASES: u32 = 24;

/// Requests of all kinds, valid ones first.
fn kinds() -> Vec<Vec<u8>> {
    let coded = |method: &str, size| {
        let head = request(method, "/api/echo", &["Transfer-Encoding: chunked"], b"");
        [head, chunked(b"some content in some chunks", size)].concat()
    };
    let trailer = [
        request("PUT", "/api/echo", &["Transfer-Encoding: chunked"], b""),
        b"3;a=\"b\"\r\nabc\r\n0\r\nX: y\r\n\r\n".to_vec(),
    ];
    vec![
        get("/hello.txt"),
        get("/k1.bin"),
        get("/k33.bin"),
        get("/plain/?json"),
        get("/sub"),
        get("/nothing"),
        request("HEAD", "/k300.bin", &[], b""),
        request("GET", "/k300.bin", &["Range: bytes=7-77"], b""),
        request("GET", "/k1.bin", &["Range: bytes=1-2,5-6"], b""),
        request("POST", "/api/echo", &["Content-Type: a/b"], b"some content"),
        request("POST", "/hello.txt", &[], b"unused content"),
        coded("POST", 1),
        coded("PATCH", 10),
        coded("GET", 4),
        trailer.concat(),
        request("POST", "/api/echo", &["Expect: 100-continue"], b"expected"),
        [b"\r\n\r\n", &*get("/hello.txt")].concat(),
        b"GET /hello.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec(),
        request("GET", "/hello.txt", &["Connection: close"], b""),
        request("GET", "/hello.txt", &["Host: twice"], b""),
        request("POST", "/api/echo", &["Content-Length: 3\r\nTransfer-Encoding: chunked"], b""),
        request("POST", "/api/echo", &["Content-Length: 99999999999"], b""),
        request("POST", "/api/echo", &["Transfer-Encoding: chunked"], b""),
    ]
}

/// A few requests. In some of them one byte is changed.
fn sequence() -> impl Strategy<Value = Vec<u8>> {
    let exchange = proptest::option::weighted(0.15, (any::<prop::sample::Index>(), any::<u8>()));
    let one = (prop::sample::select(kinds()), exchange).prop_map(|(mut bytes, exchange)| {
        if let Some((at, byte)) = exchange {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    prop::collection::vec(one, 1..8).prop_map(|requests| requests.concat())
}

fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = places.iter().map(|place| place.index(bytes.len())).collect();
    at.push(bytes.len());
    at.sort_unstable();
    at.dedup();
    let from = std::iter::once(0).chain(at.iter().copied());
    from.zip(&at).map(|(from, &to)| &bytes[from..to]).filter(|piece| !piece.is_empty()).collect()
}

/// Returns all responses up to the end without a 100, which is not sent if some content has already
/// arrived.
fn answers(client: &mut Client) -> String {
    // The server may have closed the connection, and later bytes may have caused a reset. A reset
    // is no response.
    let _ = client.stream.shutdown(std::net::Shutdown::Write);
    let (bytes, _) = client.rest();
    let text = even_out(&bytes).escape_ascii().to_string();
    text.replace("HTTP/1.1 100 Continue\\r\\n\\r\\n", "")
}

#[test]
fn any_split_produces_equal_responses() {
    let docroot = Docroot::new();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
        let given = (sequence(), prop::collection::vec(any::<prop::sample::Index>(), 1..12));
        let ran = TestRunner::new(config).run(&given, |(mut bytes, places)| {
            bytes.extend_from_slice(LAST.as_bytes());
            let split = [vec![&bytes[..]], cut(&bytes, &places), bytes.chunks(1).collect()];
            let mut clients = deliver(server.port, &split);
            let [whole, cut, dripped] = [0, 1, 2].map(|at| answers(&mut clients[at]));
            if whole != cut || whole != dripped {
                let what = bytes.escape_ascii();
                return Err(TestCaseError::fail(format!("{what}\n\n{whole}\n\n{cut}\n\n{dripped}")));
            }
            Ok(())
        });
        if let Err(failure) = ran {
            panic!("{failure}");
        }
    });
}
