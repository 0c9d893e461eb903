//! Any split of any sequence of requests gives the same answers, over a socket.
//!
//! `http/connection.rs` shows it of the protocol, for thousands of sequences. Here the pump and
//! both models have their say: a few dozen sequences, each whole, cut at random, and byte by byte,
//! with the server reading every piece by itself. `PROPTEST_CASES=N` sets how many.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::differential::{LAST, even_out};
use crate::docroot::Docroot;
use crate::harness::{Server, on_both};
use crate::wire::{Client, chunked, deliver, get, request};

/// How many sequences, unless the environment says otherwise.
const CASES: u32 = 24;

/// Requests of all kinds, good ones first.
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
        request("POST", "/hello.txt", &[], b"content that nobody wants"),
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

/// A few requests; in some of them one byte is another one.
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

/// Everything that came, up to the end, but for what may differ: the invitation to send content is
/// left out when some of it is there.
fn answers(client: &mut Client) -> String {
    // The server may have closed, and what was sent after that may have met a reset: that is no
    // answer.
    let _ = client.stream.shutdown(std::net::Shutdown::Write);
    let (bytes, _) = client.rest();
    let text = even_out(&bytes).escape_ascii().to_string();
    text.replace("HTTP/1.1 100 Continue\\r\\n\\r\\n", "")
}

#[test]
fn any_split_gives_the_same_answers() {
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
