//! Host names under which a private server allows more than reads of single files.
//!
//! A server is private if only its own machine can connect to it. Two kinds of foreign request
//! still arrive there:
//!
//! 1. A web page can resolve the name of its own site to 127.0.0.1 (DNS rebinding). The browser
//!    then treats this server as part of that site.
//! 2. A proxy on this machine forwards requests of remote clients, often with the host name that
//!    they requested.
//!
//! Both contain a host name that does not belong to this server, so the name identifies them.
//!
//! Single files are not protected, because such a request has to know their names. Must not know
//! what a request is for, or which flag made a name known.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::{AllowedHost, Config};
use crate::conn_id::Peer;
use crate::features::hosts::{Name, check_name, host_of};
use crate::handler::{Answer, Context, Handler};
use crate::http::{Request, Response, Status};
use crate::log::{Once, shorten};

/// Headers that each show that a proxy forwarded the request, besides those that begin with
/// [`FORWARDED`]. Their values are not trusted, because clients can send them as well.
const BY_PROXY: [&str; 3] = ["forwarded", "via", "x-real-ip"];

/// Prefix of further proxy headers.
const FORWARDED: &[u8] = b"x-forwarded-";

/// Host names of this server.
#[derive(Debug)]
pub(crate) struct AllowedHosts {
    accepted: AcceptedHosts,
    logged: Once,
}

#[derive(Debug)]
enum AcceptedHosts {
    /// Every name: other machines may connect to the server, or the operator allowed any name.
    Any,
    /// These names, IP addresses and `localhost`.
    Only(Vec<Name>),
}

impl AllowedHosts {
    pub(crate) fn of(config: &Config) -> AllowedHosts {
        let allowed = &config.site.allow_hosts;
        let is_open = allowed.contains(&AllowedHost::Any) || (allowed.is_empty() && !config.is_private());
        let accepted = match is_open {
            true => AcceptedHosts::Any,
            false => {
                let vhosts = config.site.vhosts.iter().flat_map(|vhost| &vhost.hosts);
                let vhosts = vhosts.flat_map(|host| Name::all_of(host));
                AcceptedHosts::Only(vhosts.chain(allowed.iter().flat_map(names_of)).collect())
            }
        };
        AllowedHosts { accepted, logged: Once::default() }
    }

    /// Returns true if the host name in the request belongs to this server. A request without a
    /// name does not count, because a proxy may have forwarded it.
    pub(crate) fn contains(&self, request: &Request<'_>) -> bool {
        let AcceptedHosts::Only(names) = &self.accepted else { return true };
        let Some(authority) = request.authority() else { return false };
        let host = host_of(authority);
        is_own_name(host) || names.iter().any(|name| name.matches(host))
    }

    /// Returns true if the host name in the request permits writing. Only browsers have to be
    /// stopped: they cannot reach a Unix socket and always send a name.
    pub(crate) fn permits_writing(&self, request: &Request<'_>, peer: &Peer) -> bool {
        matches!(peer, Peer::Unix) || request.authority().is_none() || self.contains(request)
    }

    /// Refuses a request for an unknown host name, and logs each such name once. `consequence` ends
    /// the sentence in the response.
    pub(crate) fn refuse(&self, request: &Request<'_>, consequence: &str) -> Response {
        let host = host_of(request.authority().unwrap_or_default());
        let shown = shorten(host);
        self.log_once(shown);
        let why = match host.is_empty() {
            true => format!("the request names no host, so {consequence}"),
            // A valid host is ASCII without control characters. The error page escapes the rest.
            false => {
                let shown = String::from_utf8_lossy(shown);
                format!("this server does not have the name {shown}, so {consequence}")
            }
        };
        Response::problem(Status::FORBIDDEN, why).with_header("X-Content-Type-Options", "nosniff")
    }

    /// Refuses a request for more than single files if its host name is unknown.
    pub(crate) fn refusal(&self, request: &Request<'_>) -> Option<Response> {
        (!self.contains(request)).then(|| self.refuse(request, "only single files can be read"))
    }

    fn log_once(&self, name: &[u8]) {
        self.logged.log(name, "unknown names", || match name.is_empty() {
            true => log::warn!("refused a request that names no host (403)"),
            false => log::warn!(
                "refused a request for the name '{}' (403); --allow-host makes a name known to this server",
                name.escape_ascii()
            ),
        });
    }
}

/// Names that one `--allow-host` adds.
fn names_of(allowed: &AllowedHost) -> Vec<Name> {
    match allowed {
        AllowedHost::Any => Vec::new(),
        AllowedHost::Name(name) => vec![Name::Whole(name.clone())],
        AllowedHost::Suffix(name) => Name::all_of(&format!(".{name}")),
    }
}

/// Returns true for an IP address, and for a name that browsers resolve without DNS (RFC 6761
/// section 6.3).
fn is_own_name(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let is_address = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    };
    let label = host.len().saturating_sub("localhost".len());
    is_address
        || (host.as_bytes()[label..].eq_ignore_ascii_case(b"localhost")
            && (label == 0 || host.as_bytes()[label - 1] == b'.'))
}

/// Returns true if a header shows that a proxy forwarded the request, so that it may come from
/// another machine.
fn is_forwarded(request: &Request<'_>) -> bool {
    let headers = request.headers();
    let begins_so = |name: &str| {
        name.as_bytes().get(..FORWARDED.len()).is_some_and(|start| start.eq_ignore_ascii_case(FORWARDED))
    };
    BY_PROXY.iter().any(|name| headers.first(name).is_some())
        || headers.iter().any(|(name, _)| begins_so(name))
}

/// Reason why a server has a handler that allows more than reads of single files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnabledBy {
    /// The operator enabled it.
    Operator,
    /// Enabled because the server is private. The log names the flag that opens it to others.
    PrivateServer { flag: &'static str },
}

/// Handler that passes on requests with a known host name.
struct HostCheck {
    names: Arc<AllowedHosts>,
    enabled_by: EnabledBy,
    has_logged: AtomicBool,
    inner: Box<dyn Handler>,
}

/// Wraps a handler in the host name check. A handler that exists only because the server is private
/// also refuses forwarded requests.
pub(crate) fn check_host(
    names: &Arc<AllowedHosts>,
    enabled_by: EnabledBy,
    inner: Box<dyn Handler>,
) -> Box<dyn Handler> {
    Box::new(HostCheck { names: Arc::clone(names), enabled_by, has_logged: AtomicBool::new(false), inner })
}

impl Handler for HostCheck {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        if let Some(refusal) = self.names.refusal(request) {
            return refusal.into();
        }
        match self.enabled_by {
            EnabledBy::PrivateServer { flag } if is_forwarded(request) => {
                if !self.has_logged.swap(true, Ordering::Relaxed) {
                    log::warn!(
                        "refused {} to a proxy (403): only this machine may read it; {flag} gives it to others",
                        request.path().escape_ascii()
                    );
                }
                let why =
                    "a proxy forwarded this request, but only the server's own machine may read this page";
                Response::problem(Status::FORBIDDEN, why).into()
            }
            EnabledBy::Operator | EnabledBy::PrivateServer { .. } => self.inner.handle(request, cx),
        }
    }
}

/// Parses `NAME`, `.SUFFIX` or `any`.
pub(crate) fn parse_allowed_host(text: &str) -> Result<AllowedHost, String> {
    if text == "any" {
        return Ok(AllowedHost::Any);
    }
    let suffix = text.strip_prefix('.');
    let name = check_name(suffix.unwrap_or(text))?.ok_or_else(|| {
        "not a name, a .SUFFIX or any; .example.org is that name and all names below it".to_owned()
    })?;
    Ok(match suffix {
        Some(_) => AllowedHost::Suffix(name),
        None => AllowedHost::Name(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Bind, Limits, Vhost};
    use crate::http::head::{FieldSlots, parse};

    fn with_request<T>(head: &str, look: impl FnOnce(&Request<'_>) -> T) -> T {
        let mut slots = FieldSlots::new();
        look(&parse(head.as_bytes(), &mut slots, &Limits::default()).unwrap())
    }

    fn knows(names: &AllowedHosts, host: &str) -> bool {
        with_request(&format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n"), |request| names.contains(request))
    }

    fn names(bind: &str, allowed: &[&str]) -> AllowedHosts {
        let binds = vec![Bind::Ip(bind.parse().unwrap(), None)];
        let mut config = Config { binds, ..Config::default() };
        config.site.vhosts = vec![
            Vhost { hosts: vec!["v.example".into(), "*.w.example".into()], root: "/".into() },
            Vhost { hosts: vec![".z.example".into()], root: "/".into() },
        ];
        config.site.allow_hosts = allowed.iter().map(|text| parse_allowed_host(text).unwrap()).collect();
        AllowedHosts::of(&config)
    }

    #[test]
    fn a_private_server_is_known_by_names_that_nobody_else_can_have() {
        let private = names("127.0.0.1", &["nas.lan", ".home.example"]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "192.0.2.9",
            "[::1]:80",
            "[fe80::1]",
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "app.localhost:3000",
            "v.example",
            "V.EXAMPLE:81",
            "a.w.example",
            "z.example",
            "a.z.example",
            "nas.lan",
            "NAS.lan.:80",
            "home.example",
            "a.b.home.example",
        ] {
            assert!(knows(&private, host), "{host}");
        }
        for host in [
            "attacker.example",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "notlocalhost",
            "w.example",
            "xhome.example",
            "x.nas.lan",
            "nas.lan.attacker.example",
            "127.1",
            "0x7f000001",
            "2130706433",
            "",
            ":80",
        ] {
            assert!(!knows(&private, host), "{host}");
        }
        let no_host = "GET /a HTTP/1.0\r\n\r\n";
        assert!(!with_request(no_host, |request| private.contains(request)));
        assert!(
            with_request(no_host, |request| private.permits_writing(request, &Peer::V4([127, 0, 0, 1], 1)))
        );
        let absolute = "GET http://attacker.example/a HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert!(!with_request(absolute, |request| private.contains(request)), "the target decides");
    }

    #[test]
    fn an_open_server_is_known_by_any_name_unless_some_are_given() {
        assert!(knows(&names("0.0.0.0", &[]), "any.example"));
        assert!(knows(&names("192.168.1.5", &[]), "any.example"));
        assert!(knows(&names("127.0.0.1", &["any"]), "any.example"));
        assert!(knows(&names("127.0.0.1", &["nas.lan", "any"]), ""));
        let named = names("0.0.0.0", &["nas.lan"]);
        assert!(knows(&named, "nas.lan") && knows(&named, "192.168.1.5") && !knows(&named, "any.example"));
        assert!(!knows(&names("::ffff:127.0.0.1", &[]), "any.example"));
    }

    #[test]
    fn forwarding_is_known_by_any_header_of_a_proxy() {
        for (line, expected) in [
            ("Forwarded: for=192.0.2.1", true),
            ("X-Forwarded-For: 203.0.113.9", true),
            ("x-forwarded-host: localhost", true),
            ("X-Forwarded-:", true),
            ("X-Real-IP: 127.0.0.1", true),
            ("Via: 1.1 proxy", true),
            ("X-Forwarded: no", false),
            ("X-Real: no", false),
            ("Referer: http://forwarded/", false),
        ] {
            let head = format!("GET /a HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n");
            assert_eq!(with_request(&head, is_forwarded), expected, "{line}");
        }
    }

    #[test]
    fn names_are_read_from_their_flag() {
        let name = |text: &str| Ok(AllowedHost::Name(text.to_owned()));
        assert_eq!(parse_allowed_host("Nas.LAN."), name("nas.lan"));
        assert_eq!(parse_allowed_host("[::1]"), name("[::1]"));
        assert_eq!(parse_allowed_host(".Example.org"), Ok(AllowedHost::Suffix("example.org".to_owned())));
        assert_eq!(parse_allowed_host("any"), Ok(AllowedHost::Any));
        for bad in [
            "",
            ".",
            "..",
            "..a",
            "*",
            "*.a",
            "a:80",
            ".a:80",
            "a/b",
            "a b",
            "http://a",
            "[::1",
            "%61",
            "b\u{fc}cher.lan",
        ] {
            assert!(parse_allowed_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_long_foreign_name_is_cut() {
        let head = format!("GET /a HTTP/1.1\r\nHost: {}.example\r\n\r\n", "x".repeat(400));
        let names = names("127.0.0.1", &[]);
        let refused = with_request(&head, |request| names.refusal(request)).unwrap();
        assert!(refused.rendered_as_text().body().len().unwrap() < 500);
    }
}
