//! Comparison of both models: equal requests must produce equal responses, byte by byte.
//!
//! Each test sends a case to both models, followed by a last request, and compares everything up to
//! the end: statuses, headers in their order, framing, content, and whether the connection still
//! served the last request. Only random and time-dependent parts are normalised: Date, and the
//! boundary of multipart responses.
//!
//! Other tests check the responses themselves. Here both models only have to agree.

use crate::docroot::Docroot;
use crate::harness::{MODELS, Server};
use crate::wire::{Client, End, chunked, get, request};

/// Last request. Its response shows that the connection survived the case.
pub(crate) const LAST: &str =
    "GET /hello.txt?the=last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Bytes to send. A second piece waits until a response to the first has arrived.
struct Case {
    name: String,
    /// True for cases at a limit.
    is_edge: bool,
    pieces: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push(Case { name: name.into(), is_edge: false, pieces: vec![bytes.into()] });
    }

    /// Adds one request with these extra headers.
    fn ask(&mut self, method: &str, path: &str, fields: &[&str]) {
        self.add(format!("{method} {path} {fields:?}"), request(method, path, fields, b""));
    }
}

/// Every method, and some invalid ones, on every kind of resource.
fn methods(cases: &mut Cases) {
    let paths =
        ["/", "/hello.txt", "/k300.bin", "/plain/", "/sub", "/nothing", "/api/echo", "/api/headers", "*"];
    for method in [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get",
        "G?T",
    ] {
        for path in paths {
            cases.ask(method, path, &[]);
        }
    }
    for path in ["/hello.txt", "/plain/", "/api/headers", "/api/query/a?b=c", "/nothing"] {
        for method in ["GET", "POST", "DELETE"] {
            cases.add(
                format!("{method} {path} with content"),
                request(method, path, &[], b"unwanted content"),
            );
            let head = request(method, path, &["Transfer-Encoding: chunked"], b"");
            cases.add(
                format!("{method} {path} with chunks"),
                [head, chunked(b"unwanted content", 3)].concat(),
            );
        }
    }
}

/// Targets in every spelling.
const TARGETS: &[&str] = &[
    "/index.html",
    "/sub/",
    "/sub/index.html",
    "/sub?x=y",
    "/plain",
    "/plain/deeper",
    "/a%20folder",
    "/a folder",
    "/with%20space.txt",
    "/100%25.txt",
    "/100%.txt",
    "/hello.txt/",
    "/hello.txt?",
    "/hello.txt?a#b",
    "/hello.txt#a",
    "//hello.txt",
    "/./hello.txt",
    "/sub/../hello.txt",
    "/../hello.txt",
    "/%2e%2e/hello.txt",
    "/hello%2etxt",
    "/%68ello.txt",
    "/sub%2findex.html",
    "/sub%5cindex.html",
    "/sub\\index.html",
    "/%00",
    "/hello.txt%00",
    "/%zz",
    "/.secret",
    "/.git/config",
    "/.well-known/security.txt",
    "/.well-known/",
    "/link-in.txt",
    "/link-dir-in/",
    "/link-dir-in/one.txt",
    "/link-out.txt",
    "/link-dir-out/",
    "/link-absolute.txt",
    "/link-dot.txt",
    "/loop.txt",
    "/%E4%B8%80%E4%B8%AA%20%E6%96%87%E4%BB%B6.txt",
    "/empty.txt",
    "/k1.bin",
    "/k33.bin",
    "/m5.bin",
    "http://localhost/hello.txt",
    "http://other.example/hello.txt",
    "https://localhost/hello.txt",
    "HTTP://LOCALHOST/",
    "http://localhost",
    "http:///hello.txt",
    "ftp://localhost/x",
    "localhost:80",
    "hello.txt",
    "?",
    "",
    "/_whirligig/health",
    "/_whirligig/",
    "/api",
    "/api/",
    "/api/nothing",
    "/api/query/x/y?a=1&a=2&b=%41+c",
    "/api/query/%ff?%ff=%zz",
    "/api/headers?x",
];

fn targets(cases: &mut Cases) {
    for path in TARGETS {
        cases.ask("GET", path, &["X-Case: target"]);
        cases.ask("HEAD", path, &[]);
    }
    cases.ask("GET", &format!("/{}", "n".repeat(255)), &[]);
    cases.ask("GET", &format!("/{}", "n/".repeat(4000)), &[]);
    cases.ask("GET", &format!("/{}", "n".repeat(20_000)), &[]);
}

/// Conditions and ranges, alone and together. `TAG` is replaced by the entity-tag of the file.
fn conditions(cases: &mut Cases, etag: &str) {
    let date = "Sun, 09 Sep 2001 01:46:40 GMT";
    let earlier = "Sun, 09 Sep 2001 01:46:39 GMT";
    let weak = format!("W/{etag}");
    let list = format!("\"x\", {etag}");
    let mut values: Vec<String> = Vec::new();
    for tag in [etag, &weak, "*", "\"x\"", &list, "", "no tag", "\"a\"\"b\""] {
        values.push(format!("If-None-Match: {tag}"));
        values.push(format!("If-Match: {tag}"));
    }
    for date in [
        date,
        earlier,
        "Sunday, 09-Sep-01 01:46:40 GMT",
        "Sun Sep  9 01:46:40 2001",
        "yesterday",
        "Mon, 01 Jan 2035 00:00:00 GMT",
    ] {
        values.push(format!("If-Modified-Since: {date}"));
        values.push(format!("If-Unmodified-Since: {date}"));
    }
    for value in &values {
        for method in ["GET", "HEAD"] {
            cases.ask(method, "/k1.bin", &[value]);
        }
        cases.ask("GET", "/k1.bin", &[value, "Range: bytes=3-7"]);
        cases.ask("GET", "/plain/", &[value]);
    }
    for range in [
        "bytes=0-0",
        "bytes=5-9",
        "bytes=1000-",
        "bytes=1023-",
        "bytes=1024-",
        "bytes=-1",
        "bytes=-0",
        "bytes=-5000",
        "bytes=0-5000",
        "bytes=9-5",
        "bytes=x",
        "lines=0-1",
        "bytes=0-1,3-4",
        "bytes=0-1, 0-1",
        "bytes=0-10,5-20",
        "bytes=5-6,0-1",
        "bytes=0-1,2000-",
        "bytes=2000-,3000-",
        "bytes=0-1,2-3,4-5,6-7,8-9",
        "bytes=-1,-2,-3",
        "bytes=0-99999999999999999999",
        "BYTES=0-1",
        "bytes = 0-1",
        "bytes=0-1,",
        "bytes=",
    ] {
        let field = format!("Range: {range}");
        for path in ["/k1.bin", "/k300.bin", "/empty.txt", "/plain/"] {
            cases.ask("GET", path, &[&field]);
        }
        cases.ask("HEAD", "/k1.bin", &[&field]);
        cases.ask("GET", "/k1.bin", &[&field, &format!("If-Range: {etag}")]);
        cases.ask("GET", "/k1.bin", &[&field, "If-Range: \"other\""]);
        cases.ask("GET", "/k1.bin", &[&field, &format!("If-Range: {date}")]);
    }
}

/// Listings and content negotiation.
fn listings(cases: &mut Cases) {
    for path in [
        "/plain/",
        "/a%20folder/",
        "/plain/deeper/",
        "/plain/?json",
        "/plain/?text",
        "/plain/?sort=size&order=desc",
        "/plain/?sort=name",
        "/plain/?sort=modified",
        "/plain/?sort=nonsense",
        "/plain/?json&sort=size",
        "/link-dir-in/?text",
    ] {
        for accept in [
            "text/html",
            "application/json",
            "text/plain",
            "*/*",
            "image/png",
            "text/*;q=0.1, application/json",
            ";;",
            "",
        ] {
            cases.ask("GET", path, &[&format!("Accept: {accept}")]);
        }
        cases.ask("HEAD", path, &["Accept: text/html"]);
    }
}

/// Coded forms, names without extension, and error pages. Large text is excluded: it is compressed
/// while it is sent, and the boundaries of its pieces depend on timing.
fn forms(cases: &mut Cases) {
    let paths = [
        "/hello.txt",
        "/app.js",
        "/text.css",
        "/k300.bin",
        "/page",
        "/page.html",
        "/plain/",
        "/some/where",
        "/no.png",
    ];
    let codings = [
        "gzip",
        "br, gzip;q=0.5",
        "zstd;q=0.1, br;q=0.2",
        "identity;q=0",
        "identity;q=0, gzip",
        "*;q=0",
        "gzip;q=x",
        "*",
    ];
    for path in paths {
        for coding in codings {
            let field = format!("Accept-Encoding: {coding}");
            cases.ask("GET", path, &[&field]);
            cases.ask("HEAD", path, &[&field]);
            cases.ask("GET", path, &[&field, "Range: bytes=2-5"]);
            cases.ask("GET", path, &[&field, "Accept: text/html"]);
        }
    }
}

/// Request bodies for the echo, valid and invalid.
fn contents(cases: &mut Cases) {
    let words = b"content of some length, and some more of it".repeat(50);
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        cases.add(format!("{method} echo"), request(method, "/api/echo", &["Content-Type: text/x"], &words));
        for size in [1, 7, 5000] {
            let head = request(method, "/api/echo", &["Transfer-Encoding: chunked"], b"");
            cases.add(format!("{method} chunks of {size}"), [head, chunked(&words, size)].concat());
        }
    }
    let large = b"large content ".repeat(20_000);
    cases.add("a large echo", request("POST", "/api/echo", &[], &large));
    let head = request("POST", "/api/echo", &["Transfer-Encoding: chunked"], b"");
    cases.add("a large echo in chunks", [head.clone(), chunked(&large, 10_000)].concat());
    for coded in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "x\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
        "7fffffffffffffff\r\n",
    ] {
        cases.add(format!("chunks {coded:?}"), [&*head, coded.as_bytes()].concat());
    }
    for field in [
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: 99999999999999999999",
        "Content-Length: -1",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length:",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "Content-Length: 1000000000000",
        "Content-Encoding: gzip\r\nContent-Length: 5",
        "Content-Range: bytes 0-4/10\r\nContent-Length: 5",
        "Expect: 100-continue\r\nContent-Length: 5",
        "Expect: something\r\nContent-Length: 5",
    ] {
        for path in ["/api/echo", "/hello.txt"] {
            cases.add(
                format!("POST {path} {field}"),
                [request("POST", path, &[field], b""), b"hello".to_vec()].concat(),
            );
        }
    }
    for (path, length) in
        [("/api/echo", "5"), ("/api/echo", "99999999999"), ("/hello.txt", "5"), ("/nothing", "5")]
    {
        let head =
            request("POST", path, &["Expect: 100-continue", &format!("Content-Length: {length}")], b"");
        cases.0.push(Case {
            name: format!("POST {path} awaits a 100 for {length}"),
            is_edge: false,
            pieces: vec![head, b"hello".into()],
        });
    }
    cases.add("content cut off", request("POST", "/api/echo", &["Content-Length: 500000"], b""));
}

/// Versions, hosts, connection options and unusual heads.
fn heads(cases: &mut Cases) {
    for version in ["1.0", "1.1", "1.2", "1.9", "0.9", "2.0", "1.10", "1", "x"] {
        for more in
            ["", "Connection: close\r\n", "Connection: keep-alive\r\n", "Connection: Close, keep-alive\r\n"]
        {
            cases.add(
                format!("HTTP/{version} {more:?}"),
                format!("GET /hello.txt HTTP/{version}\r\nHost: a\r\n{more}\r\n"),
            );
        }
        cases.add(
            format!("a folder in {version}"),
            format!("GET /plain/ HTTP/{version}\r\nHost: [::]\r\n\r\n"),
        );
        cases
            .add(format!("nothing in {version}"), format!("HEAD /nothing HTTP/{version}\r\nHost: a\r\n\r\n"));
    }
    for host in [
        "",
        "localhost",
        "LOCALHOST:80",
        "[::1]:80",
        "127.0.0.1",
        "a..b",
        "a_b",
        "a b",
        "a/b",
        "u@a",
        "a:x",
        "[::1",
        "%41",
        "a,b",
    ] {
        cases.add(format!("host {host:?}"), format!("GET /sub HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        cases.add(format!("host {host:?} in 1.0"), format!("GET /sub HTTP/1.0\r\nHost: {host}\r\n\r\n"));
    }
    for head in [
        "GET /hello.txt HTTP/1.1\r\n\r\n",
        "GET /hello.txt HTTP/1.0\r\n\r\n",
        "GET /hello.txt\r\n\r\n",
        "\r\n\r\n\r\n",
        "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
        "GET  /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /hello.txt  HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \u{1}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}",
        "nonsense",
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
        "GET /api/headers HTTP/1.1\r\nhOsT: a\r\nX-Empty:\r\nX-Tab:\ta\tb \r\nX-Latin: \u{e9}\r\n\r\n",
    ] {
        cases.add(format!("{head:?}"), head);
    }
    let many = "X-Field: value\r\n".repeat(500);
    cases.add("500 fields", format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"));
    cases.add("a long value", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(50_000)));
    cases.add("a head without end", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "v".repeat(50_000)));
    for cut in ["G", "GET /hello.txt", "GET /hello.txt HTTP/1.1\r\nHost: a\r\n"] {
        cases.add(format!("only {cut:?}"), cut);
    }
}

/// Values one below, at and one above every limit, for the flags in this file and for the defaults.
fn edges(cases: &mut Cases) {
    for limit in [20, 128, 200, 1000, 2 << 10, 16 << 10, 32 << 10] {
        for size in limit - 1..=limit + 1 {
            let target = format!("/{}", "n".repeat(size - 1));
            cases.add(format!("a target of {size}"), get(&target));
            let bare = get("/hello.txt").len() + "X: \r\n".len();
            let value = "v".repeat(size.saturating_sub(bare));
            cases.add(
                format!("a head of {size}"),
                request("GET", "/hello.txt", &[&format!("X: {value}")], b""),
            );
            cases.add(format!("content of {size}"), request("POST", "/api/echo", &[], &vec![b'c'; size]));
            if size < 500 {
                // Host is one of them.
                cases.add(
                    format!("{size} fields"),
                    request("GET", "/hello.txt", &vec!["X: y"; size - 1], b""),
                );
            }
        }
    }
    for count in 7..=9 {
        cases.add(
            format!("{count} empty lines"),
            ["\r\n".repeat(count).as_bytes(), &get("/hello.txt")].concat(),
        );
    }
}

/// Several requests on one connection.
fn pipelines(cases: &mut Cases) {
    let post = request("POST", "/api/echo", &[], b"posted");
    let head = request("HEAD", "/k300.bin", &[], b"");
    let close = request("GET", "/hello.txt", &["Connection: close"], b"");
    let bad = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    let coded = [request("PUT", "/api/echo", &["Transfer-Encoding: chunked"], b""), chunked(b"in chunks", 2)]
        .concat();
    let parts =
        [get("/hello.txt"), get("/plain/"), head, post.clone(), get("/k300.bin"), get("/nothing"), coded];
    cases.add("one of each kind", parts.concat());
    cases.add("one of each kind, twice", parts.concat().repeat(2));
    cases.add("a hundred", get("/k1.bin").repeat(100));
    cases.add("a hundred folders", get("/plain/").repeat(100));
    cases.add("a hundred echoes", post.repeat(100));
    cases.add("large ones", get("/m5.bin").repeat(3));
    for (name, last) in [("close", close), ("a fault", bad)] {
        for (at, part) in parts.iter().enumerate() {
            cases.add(format!("{name} behind {at}"), [&**part, &*last, &*post].concat());
        }
    }
    cases.add(
        "empty lines in between",
        [&*get("/hello.txt"), b"\r\n\r\n", &post, b"\r\n", &get("/sub")].concat(),
    );
}

fn cases(etag: &str) -> Vec<Case> {
    let mut cases = Cases::default();
    methods(&mut cases);
    targets(&mut cases);
    conditions(&mut cases, etag);
    listings(&mut cases);
    forms(&mut cases);
    contents(&mut cases);
    heads(&mut cases);
    let before = cases.0.len();
    edges(&mut cases);
    cases.0[before..].iter_mut().for_each(|case| case.is_edge = true);
    pipelines(&mut cases);
    cases.0
}

/// Returns all received bytes up to the end.
fn transcript(port: u16, case: &Case) -> (Vec<u8>, End) {
    let mut client = Client::connect(port);
    let mut sender = client.sender();
    let mut began = Vec::new();
    for (at, piece) in case.pieces.iter().enumerate() {
        if at > 0 {
            began.extend(client.read_some(usize::MAX));
        }
        // Sends in a separate thread, because a large pipeline has to be read while it is sent.
        if at + 1 < case.pieces.len() {
            sender.send_if_open(piece);
        }
    }
    let last = [&**case.pieces.last().expect("a piece"), LAST.as_bytes()].concat();
    let (rest, end) = std::thread::scope(|scope| {
        scope.spawn(move || {
            sender.send_if_open(last);
            let _ = sender.stream.shutdown(std::net::Shutdown::Write);
        });
        client.rest()
    });
    began.extend(rest);
    (even_out(&began), end)
}

/// Replaces time-dependent and random parts of the bytes.
pub(crate) fn even_out(bytes: &[u8]) -> Vec<u8> {
    let mut even = bytes.to_vec();
    for (mark, length) in [(&b"\r\nDate: "[..], 29), (b"boundary=whirligig-", 16), (b"--whirligig-", 16)] {
        let mut from = 0;
        while let Some(at) = memchr::memmem::find(&even[from..], mark) {
            let start = from + at + mark.len();
            let end = (start + length).min(even.len());
            even[start..end].fill(b'#');
            from = end;
        }
    }
    even
}

/// Describes the first difference of two transcripts.
fn difference(one: &(Vec<u8>, End), other: &(Vec<u8>, End)) -> String {
    let same = one.0.iter().zip(&other.0).take_while(|(a, b)| a == b).count();
    let show = |(bytes, end): &(Vec<u8>, End)| {
        let part = &bytes[same.saturating_sub(80)..bytes.len().min(same + 300)];
        format!("{} bytes, {end:?}: ...{}", bytes.len(), part.escape_ascii())
    };
    format!(
        "they differ after {same} bytes\n  {}: {}\n  {}: {}",
        MODELS[0],
        show(one),
        MODELS[1],
        show(other)
    )
}

/// Sends cases to both models with these flags and compares the responses. Uses one case in `thin`,
/// and all cases at limits.
fn compare(more: &[&str], thin: usize) {
    let docroot = Docroot::new();
    docroot.set_modified("k1.bin", 1_000_000_000);
    docroot.write("app.js", "let code;\n".repeat(300));
    for name in ["app.js.br", "app.js.zst", "app.js.gz"] {
        docroot.write(name, format!("stands for {name}"));
    }
    docroot.write("text.css", "p { color: red }\n".repeat(300));
    docroot.write("page.html", "<p>a page</p>");
    docroot.write("404.html", "<p>not here</p>");
    let servers = MODELS.map(|model| Server::start(model, &docroot.root(), more));
    let etag = Client::connect(servers[0].port).get("/k1.bin").expect(200).must("etag").to_owned();
    let mut cases = cases(&etag);
    assert!(cases.len() >= 1100, "{} cases", cases.len());
    let mut number = 0;
    cases.retain(|case| {
        number += 1;
        number % thin == 0 || case.is_edge
    });
    let mut survived = 0;
    for case in &cases {
        let [one, other] = servers.each_ref().map(|server| transcript(server.port, case));
        assert!(one == other, "{more:?}: {}: {}", case.name, difference(&one, &other));
        assert!(one.0.is_empty() || one.0.starts_with(b"HTTP/1.1 "), "{}: {:?}", case.name, one.0);
        survived += usize::from(one.0.ends_with(b"hello, world\n"));
    }
    // The list is not mixed if almost no case or almost all cases end the connection.
    assert!(
        (cases.len() / 3..cases.len() - cases.len() / 20).contains(&survived),
        "{survived} of {}",
        cases.len()
    );
}

#[test]
fn both_models_respond_equally() {
    compare(&[], 1);
}

#[test]
fn both_models_respond_equally_without_the_memory_cache() {
    compare(&["--fresh", "0"], 4);
}

#[test]
fn both_models_respond_equally_with_replacement_pages() {
    compare(&["--clean-urls", "--spa", "--error-page", "404=/404.html"], 2);
}

#[test]
fn both_models_respond_equally_with_restrictive_flags() {
    let more = [
        "--no-listing",
        "--symlinks",
        "no",
        "--no-api",
        "--no-health",
        "--max-head",
        "2k",
        "--max-fields",
        "20",
    ];
    compare(&more, 3);
}

#[test]
fn both_models_respond_equally_under_small_limits() {
    compare(&["--max-body", "1000", "--max-target", "200", "--max-listing", "1", "--max-cache", "0"], 3);
}
