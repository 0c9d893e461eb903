//! A file whose content is still coming, in one request or in several.
//!
//! Every upload of a file is a [`Partial`]. An upload that can be resumed has a token, under which
//! the table ([`crate::features::upload::partials`]) keeps it while nobody writes. It is an open
//! file without a name: when the server ends nothing is left. A later request for the same upload
//! ends the earlier one by taking the next *turn*. Each writer checks under the lock that it is
//! still its turn, so the offset that the later request got stays true.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use crate::features::upload::owner::Owner;
use crate::features::upload::refusal::Refusal;
use crate::features::upload::staged::Draft;
use crate::features::upload::write_request::Ask;
use crate::http::Status;
use crate::sync::lock;

/// One upload of one file.
pub(crate) struct Partial {
    /// The request that began it: where it goes, and on which conditions.
    pub(super) ask: Arc<Ask>,
    /// What the client calls it by, if it can be resumed.
    pub(super) token: OnceLock<String>,
    /// The name of the file in the folder that the draft has open.
    pub(super) name: Vec<u8>,
    pub(super) state: Mutex<State>,
    /// What is written so far, also for who must not wait for the lock.
    pub(super) bytes: AtomicU64,
    /// Whether these bytes are a draft's; a file that is published or given up is no partial one.
    pub(super) is_held: AtomicBool,
    pub(super) touched: Mutex<Instant>,
}

pub(super) struct State {
    pub(super) stage: Stage,
    pub(super) turn: u64,
    /// The whole length, where the client has said it.
    pub(super) length: Option<u64>,
}

pub(super) enum Stage {
    /// Content comes, or may come.
    Open(Draft),
    /// All of it is there, and is being made a file. That may fail.
    Publishing,
    /// It is a file.
    Published,
    /// It will be none.
    GivenUp,
}

/// What is known of an upload.
pub(crate) struct Progress {
    pub(crate) bytes: u64,
    pub(crate) length: Option<u64>,
    pub(crate) is_complete: bool,
}

pub(super) const GIVEN_UP: Refusal = Refusal::new(Status::GONE, "this upload was given up");
pub(super) const PUBLISHING: Refusal =
    Refusal::new(Status::SERVICE_UNAVAILABLE, "this upload is being put in its place");

impl Partial {
    /// Whether this is an upload to the path of that request.
    pub(crate) fn is_for(&self, ask: &Ask) -> bool {
        Arc::ptr_eq(&self.ask.root, &ask.root) && self.ask.path == ask.path
    }

    /// How it stands. Ends what an earlier request was doing to it.
    pub(crate) fn interrupt(&self, now: Instant) -> Result<Progress, Refusal> {
        let mut state = lock(&self.state);
        *lock(&self.touched) = now;
        let is_complete = match state.stage {
            Stage::Open(_) => false,
            Stage::Published => true,
            Stage::Publishing => return Err(PUBLISHING),
            Stage::GivenUp => return Err(GIVEN_UP),
        };
        state.turn += 1;
        Ok(Progress { bytes: self.bytes(), length: state.length, is_complete })
    }

    /// Gives it up. The caller forgets it.
    pub(crate) fn cancel(&self) -> Result<(), Refusal> {
        let draft = {
            let mut state = lock(&self.state);
            if matches!(state.stage, Stage::Publishing) {
                return Err(PUBLISHING);
            }
            state.turn += 1;
            self.take_draft(&mut state, Stage::GivenUp)
        };
        drop(draft);
        Ok(())
    }

    /// Notes the token under which the table keeps it.
    pub(crate) fn set_token(&self, token: String) {
        // Once is enough: the table takes each upload once.
        drop(self.token.set(token));
    }

    /// The client whose share of the table it takes.
    pub(crate) fn owner(&self) -> &Owner {
        &self.ask.owner
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// When a request last had to do with it.
    pub(crate) fn touched(&self) -> Instant {
        *lock(&self.touched)
    }

    /// True while its content is a draft's, which takes room; a file that is published does not.
    pub(crate) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Acquire)
    }

    /// Bytes of the disk that it takes as an upload.
    pub(crate) fn held_bytes(&self) -> u64 {
        if self.is_held() { self.bytes() } else { 0 }
    }

    /// The draft, if there is one: then the upload is at this stage.
    pub(super) fn take_draft(&self, state: &mut State, next: Stage) -> Option<Draft> {
        let Stage::Open(_) = state.stage else { return None };
        self.is_held.store(false, Ordering::Release);
        match std::mem::replace(&mut state.stage, next) {
            Stage::Open(draft) => Some(draft),
            Stage::Publishing | Stage::Published | Stage::GivenUp => None,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "neither who clears up nor an upload that breaks off is in a turn"
)]
pub(crate) fn read_clock() -> Instant {
    Instant::now()
}
