//! The protocol of the server, without input or output.
//!
//! A request is a line, and its response is the same line. So that a browser or `curl` can be a
//! client, the head of an HTTP/1.1 GET request is a request, too.
//!
//! A line or a path that begins with `slow` takes time: stage 6 gives it to a worker.

/// A request at the beginning of the input.
pub struct Request {
    /// Length of the request in bytes. The next request begins behind it.
    pub bytes: usize,
    pub response: Vec<u8>,
    /// True if the response takes time to make.
    pub is_slow: bool,
}

/// Returns the request at the beginning of `input`, or `None` if its end has not arrived.
pub fn first_request(input: &[u8]) -> Option<Request> {
    let line = end_of_line(input, 0)?;
    let first = &input[..line];
    let Some(path) = path_of(first) else {
        return Some(Request { bytes: line, response: first.to_vec(), is_slow: first.starts_with(b"slow") });
    };
    // The head of an HTTP request ends with an empty line.
    let (mut from, mut to) = (0, line);
    while !matches!(&input[from..to], b"\r\n" | b"\n") {
        (from, to) = (to, end_of_line(input, to)?);
    }
    let content = format!("You requested {path}\n");
    let length = content.len();
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{content}");
    Some(Request { bytes: to, response: response.into_bytes(), is_slow: path.starts_with("/slow") })
}

/// Returns the response in place of `response` if too many slow requests wait.
pub fn busy_response(response: &[u8]) -> Vec<u8> {
    let is_http = response.starts_with(b"HTTP/1.1 ");
    let text =
        if is_http { "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n" } else { "busy\n" };
    text.as_bytes().to_vec()
}

/// Returns the position behind the line that begins at `from`.
fn end_of_line(input: &[u8], from: usize) -> Option<usize> {
    input[from..].iter().position(|&byte| byte == b'\n').map(|at| from + at + 1)
}

/// Returns the path if the line is the first one of an HTTP request: `GET /path HTTP/1.1`.
fn path_of(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let path = line.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
    path.starts_with('/').then_some(path)
}
