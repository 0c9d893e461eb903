//! Meta-variables: the environment that describes a request to a script (RFC 3875 section 4.1).
//!
//! Of the server's own environment only `PATH` is passed, because `#!/usr/bin/env` needs it. Path
//! variables are decoded; `QUERY_STRING` and `REQUEST_URI` are as received. Must not know how
//! scripts run.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::conn_id::Peer;
use crate::features::cgi::script::Script;
use crate::http::Request;

/// Data that is not in the request head.
pub(crate) struct Facts<'a> {
    pub(crate) script: &'a Script,
    pub(crate) peer: &'a Peer,
    /// Authenticated user.
    pub(crate) user: Option<&'a str>,
    /// Length of the content on standard input, in bytes.
    pub(crate) content_bytes: u64,
    /// Docroot, for `PATH_TRANSLATED`.
    pub(crate) docroot: &'a Path,
    /// Host and port for requests that name none.
    pub(crate) server: (&'a str, u16),
    /// Ports that this server listens on. Other ports in a request are ignored.
    pub(crate) ports: &'a [u16],
    /// True if `Authorization` is passed on.
    pub(crate) authorization: bool,
}

type Variables = Vec<(OsString, OsString)>;

/// Meta-variables of a request.
pub(crate) fn variables(request: &Request<'_>, facts: &Facts<'_>) -> Variables {
    let mut all = Variables::new();
    let mut set = |name: &str, value: &[u8]| {
        all.push((name.into(), OsString::from_vec(value.to_vec())));
    };
    set("GATEWAY_INTERFACE", b"CGI/1.1");
    set("SERVER_SOFTWARE", concat!("whirligig/", env!("CARGO_PKG_VERSION")).as_bytes());
    set("SERVER_PROTOCOL", if request.minor_version() == 0 { b"HTTP/1.0" } else { b"HTTP/1.1" });
    let (host, port) = server(request, facts);
    set("SERVER_NAME", &host);
    set("SERVER_PORT", port.to_string().as_bytes());
    set("REQUEST_METHOD", request.method().name().as_bytes());
    set("REQUEST_URI", request.target().as_bytes());
    set("QUERY_STRING", request.query().unwrap_or_default());
    set("SCRIPT_NAME", &facts.script.name);
    set("SCRIPT_FILENAME", facts.script.file.as_os_str().as_encoded_bytes());
    set("PATH_INFO", &facts.script.path_info);
    if !facts.script.path_info.is_empty() {
        let translated = [facts.docroot.as_os_str().as_encoded_bytes(), &facts.script.path_info].concat();
        set("PATH_TRANSLATED", &translated);
    }
    let address = facts.peer.ip().map(|ip| ip.to_string()).unwrap_or_default();
    set("REMOTE_ADDR", address.as_bytes());
    set("REMOTE_HOST", address.as_bytes());
    if let Some(port) = facts.peer.port() {
        set("REMOTE_PORT", port.to_string().as_bytes());
    }
    if let Some(user) = facts.user {
        set("AUTH_TYPE", b"Basic");
        set("REMOTE_USER", user.as_bytes());
    }
    if facts.content_bytes > 0 {
        set("CONTENT_LENGTH", facts.content_bytes.to_string().as_bytes());
    }
    // Repeated lines are joined like other headers. Otherwise the script could use another one than
    // a proxy in front.
    let content_types: Vec<&[u8]> = request.headers().all("content-type").collect();
    if !content_types.is_empty() {
        set("CONTENT_TYPE", &content_types.join(&b", "[..]));
    }
    // A host in the target overrides the Host header (RFC 9112 section 3.2.2). It is the host that
    // the server validated.
    if let Some(authority) = request.authority() {
        set("HTTP_HOST", authority);
    }
    for (name, value) in headers(request, facts.authorization) {
        set(&name, &value);
    }
    all
}

/// Headers that scripts do not receive: those about the connection (RFC 9110 section 7.6.1), and
/// those that have another variable.
const OMITTED: [&str; 13] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    // Many programs read HTTP_PROXY as a setting, which clients must not control (httpoxy).
    "proxy",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers as variables. Repeated headers are joined.
fn headers(request: &Request<'_>, authorization: bool) -> Vec<(String, Vec<u8>)> {
    let mut variables: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, value) in request.headers().iter() {
        // A name with an underscore would map to the same variable as one with a dash, so a client
        // could forge a header of a proxy.
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_omitted = OMITTED.iter().any(|omitted| name.eq_ignore_ascii_case(omitted))
            || (!authorization && name.eq_ignore_ascii_case("authorization"));
        if !is_plain || is_omitted {
            continue;
        }
        let variable = format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
        match variables.iter_mut().find(|(known, _)| *known == variable) {
            Some((known, joined)) => {
                joined.extend_from_slice(if known == "HTTP_COOKIE" { b"; " } else { b", " });
                joined.extend_from_slice(value);
            }
            None => variables.push((variable, value.to_vec())),
        }
    }
    variables
}

/// Requested host, and the port: the one in the request if the server listens on it.
fn server(request: &Request<'_>, facts: &Facts<'_>) -> (Vec<u8>, u16) {
    let (own_host, own_port) = facts.server;
    let authority = request.authority().unwrap_or_default();
    let host_end = match authority {
        [b'[', ..] => authority.iter().position(|&byte| byte == b']').map_or(authority.len(), |end| end + 1),
        _ => authority.iter().position(|&byte| byte == b':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_end);
    let named = std::str::from_utf8(port.strip_prefix(b":").unwrap_or(b"80")).ok();
    let port = named.and_then(|port| port.parse().ok()).filter(|port| facts.ports.contains(port));
    let host = if host.is_empty() { own_host.as_bytes() } else { host };
    (host.to_vec(), port.unwrap_or(own_port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::http::head::{FieldSlots, parse};

    #[track_caller]
    fn lines(head: &str, user: Option<&str>, content_bytes: u64, authorization: bool) -> Vec<String> {
        let script =
            Script { file: "/srv/cgi/a b".into(), name: b"/cgi/a b".to_vec(), path_info: b"/x y".to_vec() };
        let facts = Facts {
            script: &script,
            peer: &Peer::V4([10, 0, 0, 1], 4711),
            user,
            content_bytes,
            docroot: Path::new("/srv/www"),
            server: ("127.0.0.1", 8080),
            ports: &[8080, 80],
            authorization,
        };
        let mut slots = FieldSlots::new();
        let request = parse(head.as_bytes(), &mut slots, &Limits::default()).unwrap();
        let all = variables(&request, &facts);
        let line = |(name, value): (OsString, OsString)| format!("{}={}", name.display(), value.display());
        all.into_iter().map(line).collect()
    }

    #[test]
    fn every_variable_is_told() {
        let head = "POST /cgi/a%20b/x%20y?q=%41&r HTTP/1.1\r\nHost: a.example:80\r\nContent-Type: text/x\r\n\
                    Content-Length: 5\r\nX-A: 1\r\nCookie: a\r\nx-a: 2\r\nCookie: b\r\n\r\n";
        let mut expected = vec![
            "GATEWAY_INTERFACE=CGI/1.1",
            "SERVER_PROTOCOL=HTTP/1.1",
            "SERVER_NAME=a.example",
            "SERVER_PORT=80",
            "REQUEST_METHOD=POST",
            "REQUEST_URI=/cgi/a%20b/x%20y?q=%41&r",
            "QUERY_STRING=q=%41&r",
            "SCRIPT_NAME=/cgi/a b",
            "SCRIPT_FILENAME=/srv/cgi/a b",
            "PATH_INFO=/x y",
            "PATH_TRANSLATED=/srv/www/x y",
            "REMOTE_ADDR=10.0.0.1",
            "REMOTE_HOST=10.0.0.1",
            "REMOTE_PORT=4711",
            "AUTH_TYPE=Basic",
            "REMOTE_USER=anna",
            "CONTENT_LENGTH=5",
            "CONTENT_TYPE=text/x",
            "HTTP_HOST=a.example:80",
            "HTTP_X_A=1, 2",
            "HTTP_COOKIE=a; b",
        ];
        let software = concat!("SERVER_SOFTWARE=whirligig/", env!("CARGO_PKG_VERSION"));
        expected.insert(1, software);
        assert_eq!(lines(head, Some("anna"), 5, false), expected);
    }

    /// Regression: `--strict-hosts` checked the host in the target, but the script received the one
    /// in the Host header.
    #[test]
    fn the_host_in_the_target_beats_the_field() {
        let head = "GET http://a.example:80/cgi/a%20b HTTP/1.1\r\nHost: evil\r\n\r\n";
        let all = lines(head, None, 0, false);
        let hosts: Vec<_> = all.iter().filter(|line| line.starts_with("HTTP_")).collect();
        assert_eq!(hosts, ["HTTP_HOST=a.example:80"]);
        assert!(all.contains(&"SERVER_NAME=a.example".to_owned()), "{all:?}");
        let old = lines("GET /cgi/a%20b HTTP/1.0\r\n\r\n", None, 0, false);
        assert!(!old.iter().any(|line| line.starts_with("HTTP_HOST")), "{old:?}");
    }

    #[test]
    fn what_could_mislead_is_not_told() {
        let head = "GET /cgi/a%20b/x%20y HTTP/1.1\r\nHost: h:9\r\nProxy: http://evil\r\nX_Forwarded_For: 1\r\n\
                    Authorization: Basic YTpi\r\nConnection: keep-alive\r\nTE: x\r\n\r\n";
        let all = lines(head, None, 0, false);
        let headers: Vec<_> = all.iter().filter(|line| line.starts_with("HTTP_")).collect();
        assert_eq!(headers, ["HTTP_HOST=h:9"]);
        assert!(all.contains(&"SERVER_PORT=8080".to_owned()), "a port that is not ours is not believed");
        assert!(
            !all.iter()
                .any(|line| ["AUTH_TYPE", "REMOTE_USER", "CONTENT_"].iter().any(|n| line.starts_with(n)))
        );
        assert!(lines(head, None, 0, true).contains(&"HTTP_AUTHORIZATION=Basic YTpi".to_owned()));
    }
}
