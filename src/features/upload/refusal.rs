//! Reasons why a write request is refused or fails: a status and one sentence.
//!
//! Disk errors are translated to sentences that a client understands. Must not know which response
//! contains them.

use rustix::io::Errno;

use crate::http::{ProtocolError, Status};
use crate::shortage;

/// Refused or failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: Status,
    pub(crate) why: &'static str,
}

impl Refusal {
    pub(crate) const fn new(status: Status, why: &'static str) -> Self {
        Refusal { status, why }
    }
}

impl From<ProtocolError> for Refusal {
    fn from(error: ProtocolError) -> Self {
        Refusal::new(error.status, error.reason)
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        let (status, why) = match errno {
            // EFBIG: a limit on file sizes, of the file system or of the process (RLIMIT_FSIZE).
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => (Status::INSUFFICIENT_STORAGE, "the disk is full"),
            // XDEV: openat2 found that the name leads out of the folder.
            Errno::XDEV | Errno::LOOP => (Status::FORBIDDEN, "the path leads out of the upload folder"),
            Errno::ACCESS | Errno::PERM | Errno::ROFS => (Status::FORBIDDEN, "the folder cannot be written"),
            Errno::NOENT | Errno::NOTDIR => (Status::CONFLICT, "there is no such folder"),
            Errno::ISDIR => (Status::CONFLICT, "a folder has that name"),
            Errno::EXIST => (Status::CONFLICT, "a file or folder of that name already exists"),
            Errno::NOTEMPTY => (Status::CONFLICT, "the folder is not empty"),
            Errno::BUSY | Errno::TXTBSY => (Status::CONFLICT, "the file or folder is in use"),
            Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => {
                (Status::BAD_REQUEST, "the file system does not allow that name")
            }
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
                if shortage::is_it(errno) {
                    shortage::report();
                }
                (Status::SERVICE_UNAVAILABLE, "the server is out of descriptors")
            }
            other => {
                log::warn!("an upload failed: {other}");
                (Status::INTERNAL_SERVER_ERROR, "the disk failed")
            }
        };
        Refusal::new(status, why)
    }
}
