//! Virtual hosts, each with its own folder.
//!
//! The host in the authority of a request selects the folder. The port and the case of letters do
//! not matter. Must not know what the folders contain.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, Vhost};
use crate::docroot::Docroot;
use crate::docroot::root::Root;
use crate::features::{api, metrics};
use crate::files::StaticFiles;
use crate::handler::{Answer, Context, Handler};
use crate::http::{Request, Response, Status, target};

/// Folders of the virtual hosts, by host name.
#[derive(Debug)]
pub(crate) struct Hosts {
    /// Exact names first, then patterns from longest to shortest, because the first match is used.
    entries: Vec<Entry>,
    /// True if requests for hosts without an entry are refused.
    is_strict: bool,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    root: Arc<Root>,
}

/// An exact host name, or a pattern for all subdomains of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// Exact name, in lower case.
    Whole(String),
    /// Common suffix of the subdomains, with its leading dot: `.example.org` for `*.example.org`.
    Below(String),
}

impl Name {
    /// Names that `host` covers. `NAME` covers only that name, `*.NAME` covers all its subdomains,
    /// and `.NAME` covers both.
    pub(crate) fn all_of(host: &str) -> Vec<Name> {
        if let Some(suffix) = host.strip_prefix('*') {
            return vec![Name::Below(suffix.to_owned())];
        }
        match host.strip_prefix('.') {
            Some(name) => vec![Name::Whole(name.to_owned()), Name::Below(host.to_owned())],
            None => vec![Name::Whole(host.to_owned())],
        }
    }

    pub(crate) fn matches(&self, host: &[u8]) -> bool {
        match self {
            Name::Whole(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            Name::Below(suffix) => {
                // Length of the part before the suffix. A subdomain needs at least one byte there.
                let label = host.len().checked_sub(suffix.len()).filter(|label| *label > 0);
                label.is_some_and(|label| host[label..].eq_ignore_ascii_case(suffix.as_bytes()))
            }
        }
    }

    /// Sort key: exact names first, then patterns from longest to shortest.
    fn rank(&self) -> (bool, std::cmp::Reverse<usize>) {
        match self {
            Name::Whole(name) => (false, std::cmp::Reverse(name.len())),
            Name::Below(suffix) => (true, std::cmp::Reverse(suffix.len())),
        }
    }
}

impl Hosts {
    /// Opens the folder of each virtual host. `protect` adds the rules that apply to every folder.
    /// Returns `None` if no virtual host is configured.
    pub(crate) fn open(
        config: &Config,
        protect: impl Fn(Docroot) -> Docroot,
    ) -> Result<Option<Hosts>, String> {
        if config.site.vhosts.is_empty() {
            return match config.site.strict_hosts {
                true => Err("--strict-hosts needs --vhost, or every host is refused".to_owned()),
                false => Ok(None),
            };
        }
        let mut entries: Vec<Entry> = Vec::new();
        for vhost in &config.site.vhosts {
            let (hosts, folder) = (vhost.hosts.join(","), vhost.root.display());
            let docroot = Docroot::open(&vhost.root, config.files.clone())
                .map_err(|why| format!("--vhost '{hosts}={folder}': {why}"))?;
            let root = Arc::new(Root::of(Arc::new(protect(docroot))));
            for host in &vhost.hosts {
                // `parse_vhost` checks and normalizes names, but a configuration that is built in
                // code can contain any text.
                if parse_host(host).as_ref() != Ok(host) {
                    return Err(format!(
                        "--vhost '{hosts}={folder}': '{host}' is not a normalized host name"
                    ));
                }
                for name in Name::all_of(host) {
                    if entries.iter().any(|entry| entry.name == name) {
                        return Err(format!("--vhost: the host '{host}' is given twice"));
                    }
                    entries.push(Entry { name, root: Arc::clone(&root) });
                }
            }
        }
        entries.sort_by_key(|entry| entry.name.rank());
        Ok(Some(Hosts { entries, is_strict: config.site.strict_hosts }))
    }

    /// Returns true if the top level of any folder contains a file or folder called `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.root.current().has(name))
    }

    /// Roots of all hosts. A root appears once for each of its host names.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &Arc<Root>> {
        self.entries.iter().map(|entry| &entry.root)
    }

    /// Returns the folder of the requested host, or `None` if no entry matches.
    pub(crate) fn find(&self, request: &Request<'_>) -> Option<&Arc<Root>> {
        let host = host_of(request.authority()?);
        self.entries.iter().find(|entry| entry.name.matches(host)).map(|entry| &entry.root)
    }
}

/// Host of an authority, without its port. The trailing dot of a fully qualified name is removed.
pub(crate) fn host_of(authority: &[u8]) -> &[u8] {
    let end = match authority {
        [b'[', ..] => authority.iter().position(|&byte| byte == b']').map(|end| end + 1),
        _ => authority.iter().position(|&byte| byte == b':'),
    };
    let host = &authority[..end.unwrap_or(authority.len())];
    host.strip_suffix(b".").unwrap_or(host)
}

/// Handler that serves the folder of the requested host.
#[derive(Clone)]
pub(crate) struct HostFiles {
    pub(crate) hosts: Arc<Hosts>,
    /// Files for hosts without a folder of their own.
    pub(crate) files: StaticFiles,
}

impl HostFiles {
    pub(crate) fn root_of(&self, request: &Request<'_>) -> Arc<Root> {
        Arc::clone(self.hosts.find(request).unwrap_or(self.files.root()))
    }
}

impl Handler for HostFiles {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        self.files.at(self.root_of(request)).handle(request, cx)
    }
}

/// Handler that refuses unknown hosts before any other handler runs.
struct Strict {
    hosts: Arc<Hosts>,
    inner: Arc<dyn Handler>,
}

/// Adds the handler that refuses unknown hosts, if `--strict-hosts` is set. Otherwise returns
/// `inner` unchanged.
pub(crate) fn wrap(hosts: &Arc<Hosts>, inner: Arc<dyn Handler>) -> Arc<dyn Handler> {
    match hosts.is_strict {
        true => Arc::new(Strict { hosts: Arc::clone(hosts), inner }),
        false => inner,
    }
}

impl Handler for Strict {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        // Monitoring must work for every host, because health checks use the IP address. Metrics
        // have their own access check.
        let is_supervision =
            [api::HEALTH, metrics::PATH].iter().any(|path| request.path() == path.as_bytes());
        if is_supervision || self.hosts.find(request).is_some() {
            return self.inner.handle(request, cx);
        }
        Response::problem(Status::MISDIRECTED_REQUEST, "this server does not serve that host").into()
    }
}

/// Parses `HOST[,HOST...]=ROOT`. Spaces around each host are ignored.
pub(crate) fn parse_vhost(text: &str) -> Result<Vhost, String> {
    let Some((host, root)) = text.split_once('=').filter(|(_, root)| !root.is_empty()) else {
        return Err("not of the form HOST=ROOT".to_owned());
    };
    let hosts = host.split(',').map(parse_host).collect::<Result<_, _>>()?;
    Ok(Vhost { hosts, root: PathBuf::from(root) })
}

/// Parses `NAME`, `*.NAME` or `.NAME`, and returns it in normalized form.
fn parse_host(text: &str) -> Result<String, String> {
    let host = text.trim();
    let (start, name) = match host.strip_prefix("*.").or(host.strip_prefix('.')) {
        Some(name) => host.split_at(host.len() - name.len()),
        None => ("", host),
    };
    match check_name(name)? {
        Some(name) => Ok(format!("{start}{name}")),
        None => Err("the host must be NAME, *.NAME for all its subdomains, or .NAME for both".to_owned()),
    }
}

/// Converts a host name to the form in which clients send it. Returns `None` if the text is not a
/// host name.
///
/// # Errors
/// Returns the reason if the name has a port or letters outside ASCII, because such a name never
/// matches a request.
pub(crate) fn check_name(text: &str) -> Result<Option<String>, String> {
    check_ascii(text)?;
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains(['*', ',', '%']);
    if !is_name || !target::check_host(name.as_bytes()) {
        return Ok(None);
    }
    if host_of(name.as_bytes()) != name.as_bytes() {
        return Err("the host must not contain a port: it applies to every port".to_owned());
    }
    // Addresses are compared as text, so an IPv6 address must have the short form that browsers
    // send.
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    Ok(Some(match address.and_then(|address| address.parse::<Ipv6Addr>().ok()) {
        Some(address) => format!("[{address}]"),
        None => name,
    }))
}

/// Refuses a name with letters outside ASCII, because clients send its `xn--` form instead (RFC
/// 5891 section 4.4).
pub(crate) fn check_ascii(text: &str) -> Result<(), String> {
    match text.is_ascii() {
        true => Ok(()),
        false => Err("write a name outside ASCII as browsers send it, with xn--: \
             xn--mller-kva.example for m\u{fc}ller.example"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_without_port_dot_and_case() {
        for (authority, host) in [
            ("a.example", "a.example"),
            ("a.example:80", "a.example"),
            ("a.example.:80", "a.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
            (":80", ""),
        ] {
            assert_eq!(host_of(authority.as_bytes()), host.as_bytes());
        }
        let name = |host: &str| Name::all_of(host).remove(0);
        let below = name("*.example.org");
        assert!(below.matches(b"a.example.org") && below.matches(b"a.B.EXAMPLE.org"));
        assert!(
            !below.matches(b"example.org")
                && !below.matches(b".example.org")
                && !below.matches(b"aexample.org")
        );
        assert!(name("a.b").matches(b"A.b") && !name("a.b").matches(b"x.a.b"));
        let both = Name::all_of(".example.org");
        let matches = |host: &[u8]| both.iter().any(|name| name.matches(host));
        assert!(matches(b"example.org") && matches(b"a.Example.org") && !matches(b"aexample.org"));
    }

    #[test]
    fn vhosts_are_read_from_their_flag() {
        for (text, hosts, root) in [
            ("A.example.=x=y", &["a.example"][..], "x=y"),
            ("*.example.org=/srv", &["*.example.org"], "/srv"),
            (".Example.org=/srv", &[".example.org"], "/srv"),
            ("a.example, B.example.,*.c,.d=x,y", &["a.example", "b.example", "*.c", ".d"], "x,y"),
            ("[::1]=/srv", &["[::1]"], "/srv"),
            ("[0:0:0:0:0:0:0:1]=/srv", &["[::1]"], "/srv"),
            ("xn--mller-kva.example=/srv", &["xn--mller-kva.example"], "/srv"),
        ] {
            let hosts = hosts.iter().copied().map(Into::into).collect();
            assert_eq!(parse_vhost(text), Ok(Vhost { hosts, root: root.into() }), "{text}");
        }
        for bad in [
            "",
            "a",
            "a=",
            "=x",
            "*=x",
            "*.=x",
            ".=x",
            "a.*=x",
            "a:80=x",
            "a/b=x",
            "[::1]:80=x",
            "a,=x",
            ",a=x",
            "a,b:80=x",
            "..a=x",
            "*..a=x",
            ".*.a=x",
            "*.*.a=x",
            "%61.example=x",
            "http://a=x",
            "a b=x",
        ] {
            assert!(parse_vhost(bad).is_err(), "{bad}");
        }
        for name in ["m\u{fc}ller.example", "*.b\u{fc}cher.example", "a,\u{4f8b}\u{3048}.example"] {
            assert!(parse_vhost(&format!("{name}=x")).unwrap_err().contains("xn--"), "{name}");
        }
    }
}
