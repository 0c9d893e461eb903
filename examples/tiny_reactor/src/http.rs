//! HTTP/1.1, as much as this example needs: bytes in, values out. Knows no socket and no clock.

/// Maximum length of a request head, because the peer decides how much it sends and we decide how
/// much we keep.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// A request, or a refusal of bytes that are none.
pub struct Request {
    /// Number of bytes of the head. The next request begins behind them.
    pub used: usize,
    pub is_slow: bool,
    pub status: &'static str,
    pub form: Form,
}

/// The form of a response: without content for HEAD, and with `close` if it is the last one.
#[derive(Clone, Copy)]
pub struct Form {
    is_head: bool,
    pub is_last: bool,
}

/// Parses the first request of `input`. `None`: its head is incomplete.
pub fn parse(input: &[u8]) -> Option<Request> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    let (used, status) = match request.parse(input) {
        Ok(httparse::Status::Partial) if input.len() <= HEAD_BYTES_MAX => return None,
        Ok(httparse::Status::Partial) => (input.len(), "431 Request Header Fields Too Large"),
        Err(_) => (input.len(), "400 Bad Request"),
        Ok(httparse::Status::Complete(used)) => match request.method {
            Some("GET" | "HEAD") => (used, "200 OK"),
            _ => (used, "405 Method Not Allowed\r\nAllow: GET, HEAD"),
        },
    };
    // HTTP/1.0 closes by default. A body is not read here, and guessing where the next request
    // begins would permit request smuggling. So a request with a body is the last one, too.
    let ends = |field: &httparse::Header<'_>| match field.name.to_ascii_lowercase().as_str() {
        "content-length" | "transfer-encoding" => true,
        "connection" => field.value.eq_ignore_ascii_case(b"close"),
        _ => false,
    };
    let is_last = status != "200 OK" || request.version == Some(0) || request.headers.iter().any(ends);
    let form = Form { is_head: request.method == Some("HEAD"), is_last };
    Some(Request { used, is_slow: request.path == Some("/slow"), status, form })
}

/// Makes a response.
pub fn response(status: &str, content: &str, form: Form) -> String {
    let connection = if form.is_last { "close" } else { "keep-alive" };
    let length = content.len();
    let body = if form.is_head { "" } else { content };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: {connection}\r\n\r\n{body}"
    )
}
