//! The chain of wrappers around the content: passwords, CORS, headers, redirects and rewrites,
//! several hosts.
//!
//! Each feature is one wrapper: a [`Handler`] that examines a request and passes it on. A feature
//! that is not configured adds no wrapper and costs nothing. All wrappers use the *normalised* path
//! (decoded, without dot segments and double slashes), because otherwise another spelling would
//! bypass them. This file must not know flags.

use std::sync::Arc;

use crate::config::Config;
use crate::docroot::header_rules::HeaderRules;
use crate::docroot::own::OwnFiles;
use crate::docroot::root::Root;
use crate::docroot::{Docroot, Refuse};
use crate::features::allowed_hosts::AllowedHosts;
use crate::features::auth::guard::{Attempts, Guard, WriteGuards};
use crate::features::hosts::{self, HostFiles, Hosts};
use crate::features::rewrite::{self, Rules};
use crate::features::{auth, cors, headers, upload};
use crate::files::{Listings, StaticFiles};
use crate::handler::passwords::Passwords;
use crate::handler::{Answer, Context, Handler, Router};
use crate::http::Request;

/// The features of a configuration, read and checked.
#[derive(Debug)]
pub(crate) struct Site {
    guard: Option<Arc<Guard>>,
    write_guard: Option<Arc<Guard>>,
    write_guards: WriteGuards,
    hosts: Option<Arc<Hosts>>,
    names: Arc<AllowedHosts>,
    rules: Option<Rules>,
    header_rules: Option<HeaderRules>,
    cors: Vec<String>,
    /// Folders that accept uploads.
    areas: Vec<String>,
    uploads: Option<Arc<upload::UploadState>>,
    own: Arc<OwnFiles>,
    listings: Arc<Listings>,
}

impl Site {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// One line that names the file and the line in it.
    pub(crate) fn open(config: &Config) -> Result<Self, String> {
        let header_rules = HeaderRules::new(&config.files.headers, &config.files.uploads)?;
        let own = Arc::new(OwnFiles::of(config));
        let attempts = Attempts::new(&config.limits);
        let guard = Guard::open(&config.site.auth, "--htpasswd", config, &attempts, &own)?.map(Arc::new);
        let write_guard = Guard::open(&config.site.write_auth, "--write-htpasswd", config, &attempts, &own)?;
        let write_guard = write_guard.map(Guard::for_writing).map(Arc::new);
        let write_guards = WriteGuards { guards: [write_guard.clone(), guard.clone()] };
        let takes_uploads = !config.files.uploads.is_empty();
        let mut site = Site {
            hosts: None,
            names: Arc::new(AllowedHosts::of(config)),
            own,
            listings: Listings::new(),
            guard,
            write_guard,
            uploads: takes_uploads.then(|| Arc::new(upload::UploadState::new(config, write_guards.clone()))),
            write_guards,
            rules: config.site.rules.as_deref().map(Rules::open).transpose()?,
            header_rules: (!config.files.headers.is_empty()).then_some(header_rules),
            cors: config.site.cors.clone(),
            areas: config.files.uploads.clone(),
        };
        let hosts = Hosts::open(config, |docroot| site.protect(docroot))?;
        site.hosts = hosts.map(Arc::new);
        Ok(site)
    }

    /// Returns the router with files as its fallback, and with uploads if any folder accepts them.
    /// With several hosts, the files are those of the requested host, and `files` for all others.
    #[must_use]
    pub(crate) fn with_files(&self, router: Router, files: StaticFiles) -> Router {
        let (root_of, handler): (upload::RootOf, Arc<dyn Handler>) = match &self.hosts {
            Some(hosts) => {
                let files = HostFiles { hosts: Arc::clone(hosts), files };
                let same = files.clone();
                (Box::new(move |request| same.root_of(request)), Arc::new(files))
            }
            None => {
                let root = Arc::clone(files.root());
                (Box::new(move |_| Arc::clone(&root)), Arc::new(files))
            }
        };
        let Some(uploads) = &self.uploads else { return router.fallback(Shared(handler)) };
        router.fallback(upload::wrap(uploads, root_of, &self.names, handler))
    }

    /// Returns true if writing at this normalised path requires a password.
    #[must_use]
    pub(crate) fn is_write_protected(&self, path: &[u8]) -> bool {
        [&self.guard, &self.write_guard].into_iter().flatten().any(|guard| guard.is_protected(path))
    }

    /// Returns the state that all uploads share, if any folder accepts uploads.
    pub(crate) fn uploads(&self) -> Option<&Arc<upload::UploadState>> {
        self.uploads.as_ref()
    }

    /// Returns true if the folder of any other host has an entry with this name at its top.
    #[must_use]
    pub(crate) fn has(&self, name: &str) -> bool {
        self.hosts.as_ref().is_some_and(|hosts| hosts.has(name))
    }

    /// Returns the roots of other hosts.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &Arc<Root>> {
        self.hosts.iter().flat_map(|hosts| hosts.roots())
    }

    /// Wraps `inner` in all configured features. Returns `inner` itself if there are none.
    #[must_use]
    pub(crate) fn wrap(&self, inner: Arc<dyn Handler>) -> Arc<dyn Handler> {
        let guarded = |handler| match (&self.guard, &self.write_guard) {
            (None, None) => handler,
            (guard, write_guard) => auth::wrap(guard.clone(), write_guard.clone(), handler),
        };
        let mut handler = inner;
        if let Some(rules) = &self.rules {
            // Both the requested path and the rewritten one may require a password.
            handler = rewrite::wrap(rules.clone(), Arc::clone(&handler), guarded(handler));
        }
        handler = guarded(handler);
        if let Some(hosts) = &self.hosts {
            handler = hosts::wrap(hosts, handler);
        }
        if !self.cors.is_empty() {
            let (areas, names) = (self.areas.clone(), Arc::clone(&self.names));
            let writing = cors::Writing { areas, names, guards: self.write_guards.clone() };
            handler = cors::wrap(&self.cors, writing, handler);
        }
        if let Some(rules) = &self.header_rules {
            // Outermost, because a header rule also applies to preflights and refusals.
            handler = headers::wrap(rules.clone(), handler);
        }
        handler
    }

    /// Returns the names of the server.
    pub(crate) fn names(&self) -> &Arc<AllowedHosts> {
        &self.names
    }

    /// Returns the folder with the passwords, protected files and names of this site. Listing
    /// limits belong to the handler: see [`StaticFiles::of`].
    pub(crate) fn protect(&self, docroot: Docroot) -> Docroot {
        let guard = self.guard.clone().map(|guard| guard as Arc<dyn Passwords>);
        let names = Arc::clone(&self.names);
        let refuse = Refuse(Arc::new(move |request: &Request<'_>| names.refusal(request)));
        docroot.guarded(guard).refusing(refuse).withholding(&self.own)
    }

    /// The bounds that all listings of this site share.
    pub(crate) fn listings(&self) -> &Arc<Listings> {
        &self.listings
    }

    /// Returns the operator's own files, which are never served.
    pub(crate) fn own_files(&self) -> &Arc<OwnFiles> {
        &self.own
    }
}

/// A handler that is shared.
struct Shared(Arc<dyn Handler>);

impl Handler for Shared {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        self.0.handle(request, cx)
    }
}
