//! Headers that wrappers around a handler give to a response that does not exist yet.
//!
//! A wrapper sees the request only: the response may come from a job or from a file. The headers
//! wait in [`Extra`], and are applied in order of precedence when the response is queued. Must not
//! know drivers.

use crate::http::headers::{How, is_repeated};
use crate::http::response::Author;
use crate::http::{Response, Status};
use crate::pages::error as error_page;

/// On which responses a header goes that is not the response's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// On all of them.
    Always,
    /// On those that have what was asked for or where it is: 2xx and 3xx.
    Success,
    /// On those that have no header of that name themselves.
    Unsaid,
}

/// The origin of a header that is not the response's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Giver {
    /// The operator, by a rule for the path. Replaces the server's headers, and not a program's.
    Operator,
    /// The server itself: CORS, downloads, passwords. Headers of a program and of the operator
    /// stay.
    Server,
    /// A wrapper around a handler, in a program that uses the library. Replaces or adds, as asked
    /// for.
    Wrapper,
}

/// Statuses with which a header goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// All.
    Always,
    /// 2xx and 3xx.
    Success,
    /// All others.
    Failure,
}

/// One header for the response to the request in hand.
#[derive(Clone, Copy, Debug)]
struct Given {
    giver: Giver,
    how: How,
    on: On,
    /// Length of the name, and where the value ends. The name begins where the value before it
    /// ends.
    name_len: usize,
    end: usize,
}

/// Headers that wrappers around a handler give to the response to the request in hand. They wait
/// here until the response exists, because it may come from a job or a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    given: Vec<Given>,
    /// Names and values of those, one behind the other.
    text: Vec<u8>,
    /// Who the client has proved to be: for the access log.
    pub(super) user: Option<String>,
    /// How often programs have referred to other paths to answer it.
    pub(super) redirects: u8,
    /// An error page of ours gets the script of `--live-reload`.
    pub(super) reloads: bool,
    /// Anything was given since it was cleared. Asked three times a request, and nearly always
    /// false.
    is_said: bool,
}

impl Extra {
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_said
    }

    /// Itself, to have something said.
    pub(super) fn say(&mut self) -> &mut Self {
        self.is_said = true;
        self
    }

    pub(crate) fn clear(&mut self) {
        if !std::mem::take(&mut self.is_said) {
            return;
        }
        self.given.clear();
        self.text.clear();
        self.user = None;
        self.redirects = 0;
        self.reloads = false;
    }

    pub(super) fn give(&mut self, giver: Giver, how: How, on: On, name: &[u8], value: &[u8]) {
        let said = self.say();
        said.text.extend_from_slice(name);
        said.text.extend_from_slice(value);
        said.given.push(Given { giver, how, on, name_len: name.len(), end: said.text.len() });
    }

    pub(super) fn give_when(&mut self, giver: Giver, how: How, when: When, name: &str, value: &[u8]) {
        let (how, on) = match when {
            When::Always => (how, On::Always),
            When::Success => (how, On::Success),
            When::Unsaid => (How::IfAbsent, On::Always),
        };
        self.give(giver, how, on, name.as_bytes(), value);
    }

    /// The headers of one giver for a response with this status, in their order.
    fn of(&self, giver: Giver, status: Status) -> impl Iterator<Item = (How, &[u8], &[u8])> {
        let is_success = (200..400).contains(&status.code());
        let starts = std::iter::once(0).chain(self.given.iter().map(|given| given.end));
        self.given.iter().zip(starts).filter_map(move |(given, start)| {
            let counts = match given.on {
                On::Always => true,
                On::Success => is_success,
                On::Failure => !is_success,
            };
            let (name, value) = self.text[start..given.end].split_at(given.name_len);
            (counts && given.giver == giver).then_some((given.how, name, value))
        })
    }

    /// The response with these headers, as far as its status and its own headers allow.
    pub(crate) fn said_on(&self, mut response: Response) -> Response {
        if self.reloads {
            response = error_page::reloading(response);
        }
        let status = response.status();
        let is_program = response.author() == Author::Program;
        let how_of = |how| if is_program { How::IfAbsent } else { how };
        // The path of a file counts before the path that was asked for.
        let ruled = response.ruled_headers();
        let is_ruled = |name: &[u8]| ruled.as_ref().is_some_and(|ruled| ruled.has(name));
        for (how, name, value) in self.of(Giver::Operator, status) {
            if !is_ruled(name) {
                response.put(how_of(how), name, value);
            }
        }
        let is_given = |name: &[u8]| {
            self.of(Giver::Operator, status).any(|(_, given, _)| given.eq_ignore_ascii_case(name))
        };
        for (how, name, value) in self.of(Giver::Server, status) {
            if is_repeated(name) || !(is_ruled(name) || is_given(name)) {
                response.put(how_of(how), name, value);
            }
        }
        for (how, name, value) in self.of(Giver::Wrapper, status) {
            response.put(how, name, value);
        }
        response
    }

    /// Who the client is, if that is known; asked for once a request.
    pub(crate) fn take_user(&mut self) -> Option<String> {
        self.user.take()
    }
}
