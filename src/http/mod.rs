//! HTTP/1.1 without input or output: bytes, instants and values in, values out.
//!
//! No file below this module knows a socket, a file, a thread or a clock. The caller lends the
//! input bytes and passes the time; the [`Connection`] stores neither. Because of that every split,
//! stall and timeout of the protocol can be tested exactly and without waiting. The reactor, the
//! threads model and the simulator share all of it.

pub mod body;
pub mod conditional;
pub mod connection;
pub mod cookie;
pub mod date;
pub(crate) mod disposition;
pub mod error;
pub mod field_lines;
pub mod form;
pub mod framing;
pub mod head;
pub mod headers;
pub mod kept_head;
pub mod method;
pub mod multipart;
pub mod negotiate;
pub mod open_file;
pub mod prepared;
pub(crate) mod problem;
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
pub use field_lines::ReceivedHeaders;
pub use form::Pairs;
pub use method::Method;
pub use refusal::Refusal;
pub use request::Request;
pub use response::{Body, BodySource, FillStatus, Response};
pub use status::Status;
