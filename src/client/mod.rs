//! The client's side of HTTP: responses as they arrive in pieces, and a jar for cookies.
//!
//! Pure, like `http/`: bytes in, values out. The server uses none of it.

pub mod jar;
pub mod reply;
