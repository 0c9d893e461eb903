//! Optional parts, each a handler or a wrapper around one: passwords, CORS, headers, hosts,
//! rewrites, uploads, programs, live reload, metrics, simple data.
//!
//! A feature that is not configured is not in the chain of handlers, so it costs nothing. The chain
//! is made in `server/chain.rs`, the only file that names all of them.

pub mod api;
pub(crate) mod auth;
pub mod cgi;
pub(crate) mod cors;
pub(crate) mod headers;
pub(crate) mod hosts;
pub(crate) mod live;
pub mod metrics;
pub(crate) mod names;
pub(crate) mod resume_token;
pub(crate) mod rewrite;
pub(crate) mod upload;
