//! HTTP on the client side: an incremental parser for responses, and a jar for cookies.
//!
//! Like `http/`, this module does no input or output: bytes in, values out. The server does not use
//! it.

pub mod jar;
pub mod reply;
