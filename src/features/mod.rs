//! Optional features, each a handler or a wrapper around one: passwords, CORS, headers, virtual
//! hosts, rewrites, uploads, CGI scripts, live reload, metrics, a page about the loop, and sample
//! data.
//!
//! A feature that is not configured is not in the chain of handlers, so it costs nothing.
//! `server/chain.rs` builds the chain and is the only file that names every feature.
//!
//! Must not know how connections are driven.

pub(crate) mod allowed_hosts;
pub(crate) mod api;
#[cfg(feature = "auth")]
pub(crate) mod auth;
#[cfg(not(feature = "auth"))]
#[path = "no_auth.rs"]
pub(crate) mod auth;
pub(crate) mod cgi;
pub(crate) mod cors;
pub(crate) mod headers;
pub(crate) mod hosts;
pub(crate) mod live;
pub(crate) mod loop_page;
pub(crate) mod metrics;
pub(crate) mod resume_token;
pub(crate) mod rewrite;
pub(crate) mod upload;
