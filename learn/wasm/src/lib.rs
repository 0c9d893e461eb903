//! The stepper as a module for web pages.
//!
//! A page writes a request, calls, and reads the reply, which is JSON or one line of text about an
//! error. `exports` has the three functions that the page sees, `request` reads requests, and
//! `engine` holds the recorded runs. Everything that a run does is in the main package; this
//! package must not know how a loop works.

mod engine;
mod exports;
mod request;

pub use crate::engine::Engine;
pub use crate::request::Request;
