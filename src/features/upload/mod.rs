//! Uploads: folders of the docroot that clients may write to with PUT, DELETE, MKCOL, MOVE and
//! forms with files.
//!
//! [`Uploads`] wraps the files of a docroot and handles requests that would change them. Requests
//! that can be refused by their head are refused here, before content is read. All disk access is
//! done in jobs; content reaches the disk through a [`sink::Sink`].
//!
//! The password check wraps this module. Must not know how it works, only whether two paths have
//! the same password.

pub(crate) mod destination;
mod folders;
mod form;
mod methods;
pub(crate) mod origin;
mod owner;
mod partial;
mod partials;
mod refusal;
mod rename;
mod resume;
pub(crate) mod rights;
mod sink;
mod staged;
mod write_request;
mod writer;

use std::sync::Arc;

use crate::config::Config;
use crate::docroot::area_of;
use crate::docroot::root::Root;
use crate::features::allowed_hosts::AllowedHosts;
use crate::features::auth::guard::WriteGuards;
use crate::features::resume_token;
use crate::features::upload::methods::{change, options};
use crate::features::upload::owner::Owner;
use crate::features::upload::partials::Partials;
use crate::features::upload::write_request::{KeepLimits, WriteRequest, WriteState};
use crate::handler::kept_request::KeptRequest;
use crate::handler::{Answer, Context, Handler};
use crate::http::target::normalize;
use crate::http::{Method, Request, Response, Status};

/// Function that returns the docroot of a request.
pub(crate) type RootOf = Box<dyn Fn(&Request<'_>) -> Arc<Root> + Send + Sync>;

/// Handler for requests that change files; passes all others on.
pub(crate) struct Uploads {
    state: Arc<UploadState>,
    root_of: RootOf,
    names: Arc<AllowedHosts>,
    inner: Arc<dyn Handler>,
}

/// State that all uploads to a server share.
pub(crate) struct UploadState {
    shared: Arc<WriteState>,
    partials: Arc<Partials>,
}

impl std::fmt::Debug for UploadState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UploadState").finish_non_exhaustive()
    }
}

impl UploadState {
    /// State without uploads.
    pub(crate) fn new(config: &Config, guards: WriteGuards) -> Self {
        let partials = Partials::registered(KeepLimits::of(config));
        UploadState { shared: Arc::new(WriteState::new(config, guards)), partials }
    }

    /// Discards all unfinished uploads, because the server ends and no client can resume them.
    pub(crate) fn discard_all(&self) {
        self.partials.discard_all();
    }
}

/// Wraps `inner` and accepts uploads to the docroots that `root_of` returns.
pub(crate) fn wrap(
    state: &Arc<UploadState>,
    root_of: RootOf,
    names: &Arc<AllowedHosts>,
    inner: Arc<dyn Handler>,
) -> Uploads {
    Uploads { state: Arc::clone(state), root_of, names: Arc::clone(names), inner }
}

impl Handler for Uploads {
    fn handle(&self, request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let token = resume_token::token_of(request);
        if request.path() == b"*" || (request.is_get_or_head() && token.is_none()) {
            return self.inner.handle(request, cx);
        }
        let path = match normalize(request.path()) {
            Ok(path) => path,
            Err(error) => {
                return Response::problem(Status::BAD_REQUEST, error.to_string()).into();
            }
        };
        let Some(write_request) = self.write_request(path.into_owned(), request, cx) else {
            return self.inner.handle(request, cx);
        };
        match (request.method(), token) {
            (Method::Get, _) => self.inner.handle(request, cx),
            (Method::Options, _) => options(request, &write_request).into(),
            (_, token) => {
                if !self.lets_write(&write_request, request, cx) {
                    return self.names.refuse(request, "nothing can be written").into();
                }
                if origin::is_foreign(request, &self.state.shared.partners) {
                    return origin::refuse(request, &self.state.shared.foreign).into();
                }
                let checked = write_request
                    .check(request)
                    .and_then(|()| rights::check(request.method(), token.is_some(), write_request.rights));
                match checked {
                    Err(refusal) => write_request.refuse(refusal).into(),
                    Ok(()) => change(write_request, &self.state.partials, request, token, cx),
                }
            }
        }
    }
}

impl Uploads {
    /// Write request for a path below an upload folder; `None` for other paths.
    fn write_request(&self, path: Vec<u8>, request: &Request<'_>, cx: &Context<'_>) -> Option<WriteRequest> {
        let root = (self.root_of)(request);
        let area = area_of(&root.current().options.uploads, &path)?.to_owned();
        let rights = root.current().upload_rights(path.strip_suffix(b"/").unwrap_or(&path), &[]);
        Some(WriteRequest {
            shared: Arc::clone(&self.state.shared),
            root,
            area,
            path,
            rights,
            request: KeptRequest::of(request, cx),
            base: request.base().map(<[u8]>::to_vec),
            now: cx.now(),
            owner: Owner::of(cx),
        })
    }

    /// Returns true if the host name of the request permits writing. Where a password is required,
    /// any name does, because a browser sends a password only to the host it was entered for.
    fn lets_write(&self, write_request: &WriteRequest, request: &Request<'_>, cx: &Context<'_>) -> bool {
        self.names.permits_writing(request, cx.peer())
            || self.state.shared.guards.is_protected(&write_request.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_folder_for_uploads_counts_and_names_are_whole() {
        let areas = ["/up".to_owned(), "/up/in".to_owned()];
        let cases: &[(&[u8], Option<&str>)] = &[
            (b"/up", Some("/up")),
            (b"/up/", Some("/up")),
            (b"/up/a", Some("/up")),
            (b"/up/in", Some("/up/in")),
            (b"/up/in/a", Some("/up/in")),
            (b"/up/inn", Some("/up")),
            (b"/upp", None),
            (b"/", None),
            (b"/a/up", None),
        ];
        for (path, expected) in cases {
            assert_eq!(area_of(&areas, path), *expected, "{}", path.escape_ascii());
        }
        assert_eq!(area_of(&[String::new()], b"/any"), Some(""));
        assert_eq!(area_of(&[], b"/any"), None);
    }
}
