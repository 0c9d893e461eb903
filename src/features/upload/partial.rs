//! Uploads of files whose content is still arriving, in one request or in several.
//!
//! Every upload of a file is a [`Partial`]. A resumable upload has a token, under which the table
//! ([`crate::features::upload::partials`]) keeps it between requests. Its content is an open file
//! without a name where the file system allows that, so nothing is left when the server ends.
//! Elsewhere it has a hidden name, which a later upload to the folder removes.
//!
//! A later request for the same upload ends the earlier one by raising the *epoch*. Each
//! writer checks under the lock that its epoch is still the current one. So the offset that the
//! later request received stays valid.
//!
//! Must not know the table, or how content arrives.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use crate::features::upload::owner::Owner;
use crate::features::upload::staged::StagedFile;
use crate::features::upload::write_request::WriteRequest;
use crate::http::Status;
use crate::http::refusal::Refusal;
use crate::sync::lock;

/// Upload of one file.
pub(crate) struct Partial {
    /// Request that began the upload, with its path and conditions.
    pub(super) write_request: Arc<WriteRequest>,
    /// Token of a resumable upload.
    pub(super) token: OnceLock<String>,
    /// Name of the file in the folder that the staged file has open.
    pub(super) name: Vec<u8>,
    pub(super) state: Mutex<State>,
    /// Bytes written so far. Atomic, for readers that must not wait for the lock.
    pub(super) bytes: AtomicU64,
    /// True while the bytes belong to a staged file. A published or discarded upload uses no room.
    pub(super) is_held: AtomicBool,
    /// Time of the last request for the upload.
    pub(super) touched: Mutex<Instant>,
}

pub(super) struct State {
    pub(super) stage: Stage,
    pub(super) epoch: u64,
    /// Length of the complete file, if the client sent it.
    pub(super) length: Option<u64>,
}

pub(super) enum Stage {
    /// Content is arriving or can arrive.
    Open(StagedFile),
    /// All content has arrived and is being published, which can fail.
    Publishing,
    /// The file is visible to readers.
    Published,
    /// The upload was discarded.
    Discarded,
}

/// Progress of an upload.
pub(crate) struct Progress {
    pub(crate) bytes: u64,
    pub(crate) length: Option<u64>,
    pub(crate) is_complete: bool,
}

pub(super) const DISCARDED: Refusal = Refusal::from_static(Status::GONE, "this upload was discarded");
pub(super) const PUBLISHING: Refusal =
    Refusal::from_static(Status::SERVICE_UNAVAILABLE, "this upload is being published");

impl Partial {
    /// Returns true if the upload and the request have the same path.
    pub(crate) fn is_for(&self, write_request: &WriteRequest) -> bool {
        Arc::ptr_eq(&self.write_request.root, &write_request.root)
            && self.write_request.path == write_request.path
    }

    /// Returns the progress, and ends an earlier request that still writes to the upload.
    pub(crate) fn interrupt(&self, now: Instant) -> Result<Progress, Refusal> {
        let mut state = lock(&self.state);
        *lock(&self.touched) = now;
        let is_complete = match state.stage {
            Stage::Open(_) => false,
            Stage::Published => true,
            Stage::Publishing => return Err(PUBLISHING),
            Stage::Discarded => return Err(DISCARDED),
        };
        state.epoch += 1;
        Ok(Progress { bytes: self.bytes(), length: state.length, is_complete })
    }

    /// Discards the upload. The caller must remove it from the table.
    pub(crate) fn cancel(&self) -> Result<(), Refusal> {
        let staged = {
            let mut state = lock(&self.state);
            if matches!(state.stage, Stage::Publishing) {
                return Err(PUBLISHING);
            }
            state.epoch += 1;
            self.take_staged(&mut state, Stage::Discarded)
        };
        drop(staged);
        Ok(())
    }

    /// Sets the token under which the table keeps the upload.
    pub(crate) fn set_token(&self, token: String) {
        // Later calls have no effect, because the table inserts each upload once.
        drop(self.token.set(token));
    }

    /// Owner whose share of the table the upload uses.
    pub(crate) fn owner(&self) -> &Owner {
        &self.write_request.owner
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Time of the last request for the upload.
    pub(crate) fn touched(&self) -> Instant {
        *lock(&self.touched)
    }

    /// Returns true while the content belongs to a staged file, which uses room. A published file
    /// does not count.
    pub(crate) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Acquire)
    }

    /// Disk space that counts against the limits, in bytes.
    pub(crate) fn held_bytes(&self) -> u64 {
        if self.is_held() { self.bytes() } else { 0 }
    }

    /// Takes the staged file, if any, and moves the upload to stage `next`.
    pub(super) fn take_staged(&self, state: &mut State, next: Stage) -> Option<StagedFile> {
        let Stage::Open(_) = state.stage else { return None };
        self.is_held.store(false, Ordering::Release);
        match std::mem::replace(&mut state.stage, next) {
            Stage::Open(staged) => Some(staged),
            Stage::Publishing | Stage::Published | Stage::Discarded => None,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "neither cleanup nor an aborted upload happens within a turn")]
pub(crate) fn read_clock() -> Instant {
    Instant::now()
}
