//! Building blocks of applications: routes, calls, server-sent events and signed sessions.
//!
//! Must not know optional features, or which model drives connections.

pub mod call;
pub mod feed;
pub mod routes;
#[cfg(feature = "session")]
pub mod session;
