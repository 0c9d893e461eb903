//! HTTP/1.1 without any I/O: bytes, instants and values in; values out.
//!
//! Nothing below this module knows a socket, a file, a thread or a clock. The caller lends the
//! input bytes and says what time it is; the [`Connection`] owns neither. That is why every split,
//! stall and timeout of the protocol is a fast, exact test, and why the reactor, the threaded twin
//! and the simulator share it whole.

pub mod body;
pub mod conditional;
pub mod connection;
pub mod cookie;
pub mod date;
pub(crate) mod disposition;
pub mod error;
pub mod fields;
pub mod form;
pub mod framing;
pub mod head;
pub mod headers;
pub mod kept_head;
pub mod method;
pub mod multipart;
pub mod negotiate;
pub mod prepared;
pub mod range;
pub mod refusal;
pub mod request;
pub mod response;
mod response_head;
pub mod send_queue;
pub mod status;
pub mod target;

pub use connection::{Connection, Event, Phase};
pub use cookie::{Cookie, SameSite};
pub use error::{CloseReason, ProtocolError};
pub use fields::Fields;
pub use form::Pairs;
pub use method::Method;
pub use refusal::Refusal;
pub use request::Request;
pub use response::{Body, BodySource, Filled, Response};
pub use status::Status;
