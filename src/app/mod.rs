//! Building blocks of applications: routes, calls, server-sent events and signed sessions.
//!
//! Must not know optional features, or which model drives connections.

pub(crate) mod call;
pub(crate) mod feed;
pub(crate) mod routes;
#[cfg(feature = "session")]
pub mod session;
