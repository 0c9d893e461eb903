//! Several hosts, each with a folder of its own.
//!
//! The authority of a request decides, without its port and in any case. It must not know what is in the folders.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Guard, Names};
use crate::api;
use crate::config::{Config, Vhost};
use crate::error_page::{error, wants_html};
use crate::files::{Docroot, OwnFiles, StaticFiles};
use crate::handler::{Answer, Context, Handler};
use crate::http::{Request, Status, target};

/// Which host is served from which folder.
#[derive(Debug)]
pub(super) struct Hosts {
    /// Whole names before patterns, longer patterns before shorter ones.
    entries: Vec<Entry>,
    /// Whether a host that is not among them is refused.
    is_strict: bool,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    docroot: Arc<Docroot>,
}

/// A name, or all names below one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// In lower case.
    Whole(String),
    /// The suffix behind the star, from the dot on.
    Below(String),
}

impl Name {
    pub(super) fn of(host: &str) -> Name {
        match host.strip_prefix('*') {
            Some(suffix) => Name::Below(suffix.to_owned()),
            None => Name::Whole(host.to_owned()),
        }
    }

    pub(super) fn matches(&self, host: &[u8]) -> bool {
        match self {
            Name::Whole(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            Name::Below(suffix) => {
                let label = host.len().checked_sub(suffix.len()).filter(|label| *label > 0);
                label.is_some_and(|label| host[label..].eq_ignore_ascii_case(suffix.as_bytes()))
            }
        }
    }

    /// Sorts whole names first, then the longest patterns.
    fn rank(&self) -> (bool, std::cmp::Reverse<usize>) {
        match self {
            Name::Whole(name) => (false, std::cmp::Reverse(name.len())),
            Name::Below(suffix) => (true, std::cmp::Reverse(suffix.len())),
        }
    }
}

impl Hosts {
    /// Opens each folder; `None` when hosts make no difference.
    pub(super) fn open(
        config: &Config,
        guard: Option<&Arc<Guard>>,
        names: &Arc<Names>,
        own: &Arc<OwnFiles>,
    ) -> Result<Option<Hosts>, String> {
        if config.site.vhosts.is_empty() {
            return match config.site.strict_hosts {
                true => Err("--strict-hosts without --vhost: every host would be refused".to_owned()),
                false => Ok(None),
            };
        }
        let mut entries: Vec<Entry> = Vec::new();
        for Vhost { host, root } in &config.site.vhosts {
            let name = Name::of(host);
            if entries.iter().any(|entry| entry.name == name) {
                return Err(format!("--vhost names the host '{host}' twice"));
            }
            let docroot = Docroot::open(root, config.files.clone())
                .map_err(|why| format!("--vhost '{host}={}': {why}", root.display()))?;
            let docroot = docroot.guarded(guard).named(names).withholding(own);
            entries.push(Entry { name, docroot: Arc::new(docroot) });
        }
        entries.sort_by_key(|entry| entry.name.rank());
        Ok(Some(Hosts { entries, is_strict: config.site.strict_hosts }))
    }

    /// Whether any of the folders has an entry of this name at its top.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.docroot.has(name))
    }

    /// The folder of the host that is asked for, if it is one of these.
    pub(super) fn find(&self, request: &Request<'_>) -> Option<&Arc<Docroot>> {
        let host = host_of(request.authority()?);
        self.entries.iter().find(|entry| entry.name.matches(host)).map(|entry| &entry.docroot)
    }
}

/// The host of an authority: without its port, and without the dot that makes a name absolute.
pub(crate) fn host_of(authority: &[u8]) -> &[u8] {
    let end = match authority {
        [b'[', ..] => authority.iter().position(|&byte| byte == b']').map(|end| end + 1),
        _ => authority.iter().position(|&byte| byte == b':'),
    };
    let host = &authority[..end.unwrap_or(authority.len())];
    host.strip_suffix(b".").unwrap_or(host)
}

/// Serves the folder of the host that is asked for.
#[derive(Clone)]
pub(super) struct HostFiles {
    pub(super) hosts: Arc<Hosts>,
    /// For the others.
    pub(super) files: StaticFiles,
}

impl HostFiles {
    pub(super) fn docroot_of(&self, request: &Request<'_>) -> Arc<Docroot> {
        Arc::clone(self.hosts.find(request).unwrap_or(self.files.docroot()))
    }
}

impl Handler for HostFiles {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        StaticFiles::new(self.docroot_of(request)).handle(request, cx)
    }
}

/// Refuses hosts that are not ours, before anything else is said.
struct Strict {
    hosts: Arc<Hosts>,
    inner: Arc<dyn Handler>,
}

/// `inner`, for known hosts only if that was asked for.
pub(super) fn around(hosts: &Arc<Hosts>, inner: Arc<dyn Handler>) -> Arc<dyn Handler> {
    match hosts.is_strict {
        true => Arc::new(Strict { hosts: Arc::clone(hosts), inner }),
        false => inner,
    }
}

impl Handler for Strict {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        // A supervisor asks by address.
        if self.hosts.find(request).is_some() || request.path() == api::HEALTH.as_bytes() {
            return self.inner.handle(request, cx);
        }
        error(Status::MISDIRECTED_REQUEST, "that host is not served here", wants_html(request)).into()
    }
}

/// `HOST=ROOT`.
pub(crate) fn parse_vhost(text: &str) -> Result<Vhost, String> {
    let Some((host, root)) = text.split_once('=').filter(|(_, root)| !root.is_empty()) else {
        return Err("not of the form HOST=ROOT".to_owned());
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let name = host.strip_prefix("*.").unwrap_or(&host);
    if name.is_empty() || name.contains('*') || !target::check_host(name.as_bytes()) {
        return Err("the host is a name, or *. and a name".to_owned());
    }
    if host_of(name.as_bytes()) != name.as_bytes() {
        return Err("the host comes without a port: every port counts".to_owned());
    }
    Ok(Vhost { host, root: PathBuf::from(root) })
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
        let below = Name::of("*.example.org");
        assert!(below.matches(b"a.example.org") && below.matches(b"a.B.EXAMPLE.org"));
        assert!(
            !below.matches(b"example.org")
                && !below.matches(b".example.org")
                && !below.matches(b"aexample.org")
        );
        assert!(Name::of("a.b").matches(b"A.b") && !Name::of("a.b").matches(b"x.a.b"));
    }

    #[test]
    fn vhosts_are_read_from_their_flag() {
        let vhost = |host: &str, root: &str| Ok(Vhost { host: host.into(), root: root.into() });
        assert_eq!(parse_vhost("A.example.=x=y"), vhost("a.example", "x=y"));
        assert_eq!(parse_vhost("*.example.org=/srv"), vhost("*.example.org", "/srv"));
        assert_eq!(parse_vhost("[::1]=/srv"), vhost("[::1]", "/srv"));
        for bad in ["", "a", "a=", "=x", "*=x", "*.=x", "a.*=x", "a:80=x", "a/b=x", "[::1]:80=x"] {
            assert!(parse_vhost(bad).is_err(), "{bad}");
        }
    }
}
