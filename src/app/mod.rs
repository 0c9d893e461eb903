//! What an application builds with: routes, the request in the hands of a route, server-sent events
//! and signed sessions. Must not know files, features or a model.

pub mod call;
pub mod feed;
pub mod routes;
pub mod session;
