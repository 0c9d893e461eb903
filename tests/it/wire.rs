//! A client that hides nothing: it sends raw bytes and parses responses strictly.
//!
//! The parser refuses everything that a careful client could misunderstand. So every test of every
//! area also tests that responses are well-formed. A malformed response is a panic that shows it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{PATIENCE, now};

/// Returns a GET request without body.
pub(crate) fn get(path: &str) -> Vec<u8> {
    request("GET", path, &[], b"")
}

/// Returns a request with extra field lines. A body gets a Content-Length.
pub(crate) fn request(method: &str, path: &str, fields: &[&str], content: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for field in fields {
        head.push_str(field);
        head.push_str("\r\n");
    }
    if !content.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", content.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), content].concat()
}

/// Encodes `content` in chunks of at most `size` bytes, without a trailer.
pub(crate) fn chunked(content: &[u8], size: usize) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in content.chunks(size) {
        coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}

/// Returns the targets on this server that a page refers to, resolved against the page.
pub(crate) fn references(page: &str, text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for attribute in [" href=\"", " src=\"", " action=\""] {
        for rest in text.split(attribute).skip(1) {
            let target = rest.split(['"', '#']).next().unwrap_or_default().replace("&amp;", "&");
            if !target.is_empty() && !target.contains(':') && !target.starts_with("//") {
                targets.push(resolve(page, &target));
            }
        }
    }
    targets
}

/// Resolves a reference to a path from the root, without dot segments, as a client does (RFC 3986
/// section 5.2).
pub(crate) fn resolve(page: &str, target: &str) -> String {
    let page = page.split('?').next().unwrap_or_default();
    let (path, query) = target.find('?').map_or((target, ""), |at| target.split_at(at));
    let whole = match path {
        "" => page.to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("{}{path}", &page[..=page.rfind('/').unwrap_or(0)]),
    };
    let mut parts: Vec<&str> = Vec::new();
    let mut segments = whole.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    parts.pop();
                }
                if is_last {
                    parts.push("");
                }
            }
            segment => parts.push(segment),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

/// Percent-encodes every byte that is not a letter or digit.
pub(crate) fn encode(name: impl AsRef<[u8]>) -> String {
    percent_encoding::percent_encode(name.as_ref(), percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Framing of the content of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No content, by status or method.
    None,
    Length,
    Chunked,
    Close,
}

/// One final response, with the interim responses before it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case, in the order received.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Framing,
    /// Statuses of the interim responses.
    pub(crate) interim: Vec<u16>,
}

impl Response {
    /// Returns the first value of a header.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Returns the value of a header that must exist.
    pub(crate) fn must(&self, name: &str) -> &str {
        self.field(name).unwrap_or_else(|| panic!("a {name} field in {self:?}"))
    }

    /// Returns the target of `Location`, resolved against the request target `target`.
    pub(crate) fn leads_to(&self, target: &str) -> String {
        resolve(target, self.must("location"))
    }

    /// Returns whether `Vary` contains this request header.
    pub(crate) fn varies_by(&self, name: &str) -> bool {
        self.field("vary")
            .is_some_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(name)))
    }

    /// Returns whether the response announces the end of the connection.
    pub(crate) fn says_close(&self) -> bool {
        self.field("connection")
            .is_some_and(|value| value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")))
    }

    /// Returns the body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("content in UTF-8")
    }

    /// Asserts the status and returns the response.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{}", self.summary());
        self
    }

    /// Asserts the body and returns the response. A long body is not printed.
    #[track_caller]
    pub(crate) fn with_body(self, content: impl AsRef<[u8]>) -> Response {
        let content = content.as_ref();
        let same = self.body.iter().zip(content).take_while(|(a, b)| a == b).count();
        assert!(
            self.body == content,
            "expected {} bytes, received {}, the first {same} agree: {}",
            content.len(),
            self.body.len(),
            self.summary()
        );
        self
    }

    fn summary(&self) -> String {
        let start = &self.body[..self.body.len().min(300)];
        format!("{} {:?} {}", self.status, self.fields, String::from_utf8_lossy(start))
    }
}

/// The way in which a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// Received bytes that are not used yet.
    held: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Client {
        Client::over(TcpStream::connect(("127.0.0.1", port)).expect("the server accepts"))
    }

    /// Connects from the loopback address 127.0.0.`host`, which is another client for the server.
    pub(crate) fn connect_from(host: u8, port: u16) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let address = |host, port| std::net::SocketAddr::from(([127, 0, 0, host], port));
        socket.bind(&address(host, 0).into()).unwrap();
        socket.connect(&address(1, port).into()).expect("the server accepts");
        Client::over(socket.into())
    }

    /// Connects with a receive buffer so small that the server soon has to wait for the reader.
    pub(crate) fn connect_narrow(port: u16) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket
            .connect(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into())
            .expect("the server accepts");
        Client::over(socket.into())
    }

    fn over(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream, held: Vec::new() }
    }

    /// Returns a second handle of the connection, for a thread that only sends.
    pub(crate) fn sender(&self) -> Client {
        Client::over(self.stream.try_clone().unwrap())
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server accepts all bytes");
    }

    /// Sends as much as possible, for tests in which the server may close before everything is
    /// sent.
    pub(crate) fn send_if_open(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends one urgent byte (tcp(7)), which the receiver does not find among the others.
    pub(crate) fn send_urgent(&mut self, byte: u8) {
        rustix::net::send(&self.stream, &[byte], rustix::net::SendFlags::OOB).unwrap();
    }

    /// Closes the sending half of the connection.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Closes with a reset, which the server notices at once.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads the response to a GET, or to any method except HEAD.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// Reads the response to a request with this method.
    #[track_caller]
    pub(crate) fn response_to(&mut self, method: &str) -> Response {
        self.try_response(method).unwrap_or_else(|end| {
            panic!("expected a response to {method}, but the connection ended: {end:?}")
        })
    }

    /// Reads a response. Returns the kind of end if the connection ended before its first byte.
    #[track_caller]
    pub(crate) fn try_response(&mut self, method: &str) -> Result<Response, End> {
        let mut end = None;
        loop {
            match parse(&self.held, method == "HEAD", end.is_some()) {
                Ok(Some((response, used))) => {
                    self.held.drain(..used);
                    return Ok(response);
                }
                Ok(None) => {}
                Err(fault) => panic!("{fault} in {:?}", String::from_utf8_lossy(&self.held)),
            }
            match (end, self.held.is_empty()) {
                (Some(end), true) => return Err(end),
                (Some(end), false) => panic!(
                    "{end:?} in the middle of a response, after {} bytes: {:?}",
                    self.held.len(),
                    String::from_utf8_lossy(&self.held[..self.held.len().min(600)])
                ),
                (None, _) => end = self.fill(),
            }
        }
    }

    /// Sends a GET and reads the response.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(get(path));
        self.response()
    }

    /// Sends a request and reads the response.
    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, path: &str, fields: &[&str], content: &[u8]) -> Response {
        self.send(request(method, path, fields, content));
        self.response_to(method)
    }

    /// Reads up to `most` raw bytes. Returns none if the connection has ended.
    #[track_caller]
    pub(crate) fn read_some(&mut self, most: usize) -> Vec<u8> {
        if self.held.is_empty() {
            self.fill();
        }
        let count = self.held.len().min(most);
        self.held.drain(..count).collect()
    }

    /// Reads everything up to the end. Returns the bytes and the kind of end.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Some(end) = self.fill() {
                return (std::mem::take(&mut self.held), end);
            }
        }
    }

    /// Asserts that the server closes now and sends nothing more.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let (rest, _) = self.rest();
        assert!(rest.is_empty(), "expected only the end, received {:?}", String::from_utf8_lossy(&rest));
    }

    /// Returns whether nothing has arrived so far: no byte, and no end.
    pub(crate) fn has_nothing(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let looked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        self.held.is_empty() && looked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Returns whether the server sends nothing and keeps the connection open for this time.
    pub(crate) fn is_quiet_for(&mut self, span: Duration) -> bool {
        self.stream.set_read_timeout(Some(span)).unwrap();
        let mut byte = [0];
        let quiet = match self.stream.read(&mut byte) {
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            Ok(count) => {
                self.held.extend_from_slice(&byte[..count]);
                false
            }
        };
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        quiet && self.held.is_empty()
    }

    /// Waits for bytes. Returns the kind of end if the connection ended.
    #[track_caller]
    fn fill(&mut self) -> Option<End> {
        let mut piece = [0; 64 * 1024];
        let since = now();
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Some(End::Fin),
                Ok(count) => {
                    self.held.extend_from_slice(&piece[..count]);
                    return None;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Some(End::Reset),
                Err(error) => panic!(
                    "neither bytes nor an end in {:?} ({error}); held: {:?}",
                    now().duration_since(since),
                    String::from_utf8_lossy(&self.held[..self.held.len().min(600)])
                ),
            }
        }
    }
}

/// Sends each list of pieces on a separate connection, so that the server reads every piece
/// separately.
///
/// After each round of pieces, a request on a further connection gets its response. By then a loop
/// has visited all connections, so the test needs no sleep.
pub(crate) fn deliver(port: u16, deliveries: &[Vec<&[u8]>]) -> Vec<Client> {
    let mut control = Client::connect(port);
    let mut clients: Vec<Client> = deliveries.iter().map(|_| Client::connect(port)).collect();
    let rounds = deliveries.iter().map(Vec::len).max().unwrap_or(0);
    for round in 0..rounds {
        for (client, pieces) in clients.iter_mut().zip(deliveries) {
            if let Some(piece) = pieces.get(round) {
                // The server may have refused the request after an earlier piece.
                client.send_if_open(piece);
            }
        }
        control.get("/hello.txt").expect(200);
    }
    clients
}

/// Parses the first complete response in `held`. Returns it with its length.
fn parse(held: &[u8], is_head: bool, ended: bool) -> Result<Option<(Response, usize)>, String> {
    let mut used = 0;
    let mut interim = Vec::new();
    loop {
        let Some(end) = held[used..].windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let (status, fields) = parse_head(&held[used..used + end + 2])?;
        used += end + 4;
        if status < 200 {
            interim.push(status);
            continue;
        }
        check_fields(status, &fields)?;
        let mut response = Response { status, fields, body: Vec::new(), framing: Framing::None, interim };
        let rest = &held[used..];
        let length = response.field("content-length").map(|digits| digits.parse::<usize>());
        let body_used = if is_head || status == 204 || status == 304 {
            0
        } else if response.field("transfer-encoding").is_some() {
            response.framing = Framing::Chunked;
            let Some((body, taken)) = parse_chunks(rest)? else { return Ok(None) };
            response.body = body;
            taken
        } else if let Some(length) = length {
            response.framing = Framing::Length;
            let length = length.map_err(|error| error.to_string())?;
            let Some(body) = rest.get(..length) else { return Ok(None) };
            response.body = body.to_vec();
            length
        } else {
            response.framing = Framing::Close;
            if !response.says_close() {
                return Err("neither a length nor a close".into());
            }
            if !ended {
                return Ok(None);
            }
            response.body = rest.to_vec();
            rest.len()
        };
        return Ok(Some((response, used + body_used)));
    }
}

type Head = (u16, Vec<(String, String)>);

/// Parses a status line and field lines, each with its CRLF.
fn parse_head(head: &[u8]) -> Result<Head, String> {
    let latin1: String = head.iter().map(|&byte| char::from(byte)).collect();
    let mut lines = latin1.strip_suffix("\r\n").unwrap_or(&latin1).split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let rest = status_line.strip_prefix("HTTP/1.1 ").ok_or(format!("not a status line: {status_line:?}"))?;
    let (digits, _reason) = rest.split_once(' ').ok_or("no space after the status")?;
    let is_status = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let status = digits.parse().ok().filter(|status| is_status && (100..600).contains(status));
    let status = status.ok_or(format!("not a status: {digits:?}"))?;
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(format!("no colon: {line:?}"))?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("not a field name: {name:?}"));
        }
        if value.chars().any(|char| char.is_control() && char != '\t' || char == '\u{7f}') {
            return Err(format!("a control character in {line:?}"));
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok((status, fields))
}

/// Checks rules for the headers of all final responses.
fn check_fields(status: u16, fields: &[(String, String)]) -> Result<(), String> {
    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
    };
    for name in [
        "access-control-allow-origin",
        "cache-control",
        "content-disposition",
        "content-security-policy",
        "content-length",
        "content-type",
        "content-range",
        "date",
        "etag",
        "last-modified",
        "location",
        "server",
        "vary",
    ] {
        if values(name).len() > 1 {
            return Err(format!("{name} twice"));
        }
    }
    for name in ["date", "last-modified"] {
        if let Some(text) = values(name).first() {
            let time = httpdate::parse_http_date(text).map_err(|_| format!("not a date: {text:?}"))?;
            if httpdate::fmt_http_date(time) != *text {
                return Err(format!("an obsolete or wrong date: {text:?}"));
            }
        }
    }
    let length = values("content-length").first().copied();
    let coding = values("transfer-encoding").first().copied();
    match (length, coding) {
        (Some(_), Some(_)) => Err("two framings".into()),
        (Some(digits), _) if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("not a length: {digits:?}"))
        }
        (_, Some(coding)) if coding != "chunked" => Err(format!("not a coding we use: {coding:?}")),
        (Some(_), _) if status == 204 => Err("204 with a length".into()),
        (_, Some(_)) if status == 204 || status == 304 => Err("a coding without content".into()),
        // RFC 9110 section 6.6.1 requires Date below 500. A server that sends a 503 may have no
        // time to read the clock.
        _ if status < 500 && values("date").is_empty() => Err("no Date".into()),
        _ => Ok(()),
    }
}

/// Parses a chunked body without trailer. Returns the content and the encoded length once it is
/// complete.
fn parse_chunks(coded: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let mut body = Vec::new();
    let mut used = 0;
    loop {
        let Some(line) = coded[used..].windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let digits = &coded[used..used + line];
        let text = std::str::from_utf8(digits).map_err(|error| error.to_string())?;
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("not a chunk size: {text:?}"));
        }
        let size = usize::from_str_radix(text, 16).map_err(|error| error.to_string())?;
        used += line + 2;
        let Some(chunk) = coded.get(used..used + size + 2) else { return Ok(None) };
        if &chunk[size..] != b"\r\n" {
            return Err(format!("a chunk of {size} bytes without its end"));
        }
        body.extend_from_slice(&chunk[..size]);
        used += size + 2;
        if size == 0 {
            return Ok(Some((body, used)));
        }
    }
}
