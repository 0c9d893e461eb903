//! Passwords in builds without the feature `auth`: a server with a password does not start.
//!
//! Must not know credentials.

use std::sync::Arc;

use crate::handler::Handler;

pub(crate) mod guard {
    //! Guards that cannot be created.

    use std::sync::Arc;

    use crate::config::{AuthRule, Config, Limits};
    use crate::docroot::own::OwnFiles;
    use crate::handler::passwords::{Password, Passwords};
    use crate::handler::{Answer, Context, Handler};
    use crate::http::Request;

    /// A guard of paths, which cannot be created.
    #[derive(Debug)]
    pub(crate) enum Guard {}

    impl Guard {
        /// Returns `None` if no path requires a password.
        ///
        /// # Errors
        /// If a path does, because nothing here could check it.
        pub(crate) fn open(
            rules: &[AuthRule],
            option: &str,
            _config: &Config,
            _attempts: &Arc<Attempts>,
            _own: &Arc<OwnFiles>,
        ) -> Result<Option<Guard>, String> {
            match rules.is_empty() {
                true => Ok(None),
                false => Err(format!("{option}: this build has no passwords; enable the feature 'auth'")),
            }
        }

        pub(crate) fn for_writing(self) -> Guard {
            self
        }

        /// Returns true if this normalized path requires a password.
        pub(crate) fn is_protected(&self, _path: &[u8]) -> bool {
            match *self {}
        }
    }

    impl Passwords for Guard {
        fn password_at(&self, _path: &[u8]) -> Option<Password> {
            match *self {}
        }

        fn admit(
            self: Arc<Self>,
            _password: Password,
            _inner: &Arc<dyn Handler>,
            _request: &Request<'_>,
            _cx: &mut Context<'_>,
        ) -> Answer {
            match *self {}
        }
    }

    /// Nothing is attempted.
    #[derive(Debug)]
    pub(crate) struct Attempts;

    impl Attempts {
        pub(crate) fn new(_limits: &Limits) -> Arc<Self> {
            Arc::new(Attempts)
        }
    }

    /// Guards of requests that change something: there are none.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct WriteGuards {
        pub(crate) guards: [Option<Arc<Guard>>; 2],
    }

    impl WriteGuards {
        /// Returns true if writing at this path requires a password.
        pub(crate) fn is_protected(&self, _path: &[u8]) -> bool {
            false
        }

        /// Returns true if a client that may write at one path may also write at the other.
        pub(crate) fn is_same_for(&self, _path: &[u8], _other: &[u8]) -> bool {
            true
        }

        /// Returns true if both paths have the same passwords.
        pub(crate) fn are_alike(&self, _path: &[u8], _other: &[u8]) -> bool {
            true
        }

        /// Returns true if a path below this folder has a password of its own.
        pub(crate) fn has_below(&self, _folder: &[u8]) -> bool {
            false
        }
    }
}

pub(crate) mod rule {
    //! Paths of rules.

    use crate::http::target::normalize;

    /// Parses the URL path of a rule into the normalized form in which requests are judged.
    pub(crate) fn parse_auth_path(text: &str) -> Result<String, String> {
        let path = normalize(text.as_bytes()).map_err(|error| error.to_string())?;
        String::from_utf8(path.into_owned()).map_err(|_| "the path is not UTF-8".to_owned())
    }
}

/// Returns `inner`, because there are no guards.
pub(crate) fn wrap(
    _guard: Option<Arc<guard::Guard>>,
    _write_guard: Option<Arc<guard::Guard>>,
    inner: Arc<dyn Handler>,
) -> Arc<dyn Handler> {
    inner
}
