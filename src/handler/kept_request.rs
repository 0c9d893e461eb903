//! Requests that are kept for a later step of their response, because the input buffer is reused.
//!
//! A kept request is a copy of the head, which is parsed again for each step. This file must not
//! know the steps.

use crate::config::Limits;
use crate::handler::continuation::Continuation;
use crate::handler::{Answer, Context};
use crate::http::kept_head::KeptHead;
use crate::http::{Request, Response, Status};

/// A copy of a request head, with the limits that it was parsed with.
#[derive(Clone, Debug)]
pub(crate) struct KeptRequest {
    head: KeptHead,
    limits: Limits,
}

impl KeptRequest {
    /// Copies the head of the request that a handler was called with.
    pub(crate) fn of(request: &Request<'_>, cx: &Context<'_>) -> Self {
        KeptRequest::new(KeptHead::of(request), cx.limits())
    }

    /// Creates a kept request with this head.
    pub(crate) fn new(head: KeptHead, limits: &Limits) -> Self {
        KeptRequest { head, limits: limits.clone() }
    }

    /// Limits that the head was parsed with.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Parses the head and calls `read`. `None` means a bug in this server, because the head was
    /// valid before.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&Request<'_>) -> T) -> Option<T> {
        self.head.with(&self.limits, read)
    }

    /// Parses the head and returns the answer of `handle`. The answer is a 500 if the head cannot
    /// be parsed.
    pub(crate) fn answer(&self, handle: impl FnOnce(&Request<'_>) -> Answer) -> Answer {
        self.with(handle).unwrap_or_else(lost)
    }
}

impl Context<'_> {
    /// Runs `work` on a worker thread, and then `then` on the loop with the result. Both get the
    /// request, whose head is copied for them.
    ///
    /// The response is a 503 if too many jobs are waiting.
    pub(crate) fn job_with<T: Send + 'static>(
        &mut self,
        request: &Request<'_>,
        work: impl FnOnce(&Request<'_>) -> T + Send + 'static,
        then: impl FnOnce(T, &Request<'_>, &mut Context<'_>) -> Answer + Send + 'static,
    ) -> Answer {
        let kept = KeptRequest::of(request, self);
        self.job_then(move || {
            let result = kept.with(work);
            let then: Continuation = Box::new(move |cx| match result {
                Some(result) => kept.answer(|request| then(result, request, cx)),
                None => lost(),
            });
            then
        })
    }
}

/// Response for a request whose kept head cannot be parsed again.
fn lost() -> Answer {
    Response::plain_problem(Status::INTERNAL_SERVER_ERROR, "the request was lost").into()
}
