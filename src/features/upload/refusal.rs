//! Why something is not taken, or not done: a status and one sentence.
//!
//! What the disk says is turned into what a client can understand. Must not know who answers.

use rustix::io::Errno;

use crate::http::{ProtocolError, Status};
use crate::shortage;

/// A request that is refused, or fails.
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
            // EFBIG is what a limit on file sizes says, of the file system or of the process
            // (RLIMIT_FSIZE).
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => (Status::INSUFFICIENT_STORAGE, "the disk is full"),
            // XDEV is how openat2 says that a name leads out of the folder.
            Errno::XDEV | Errno::LOOP => (Status::FORBIDDEN, "the path leads out of the folder for uploads"),
            Errno::ACCESS | Errno::PERM | Errno::ROFS => (Status::FORBIDDEN, "the folder cannot be written"),
            Errno::NOENT | Errno::NOTDIR => (Status::CONFLICT, "there is no such folder"),
            Errno::ISDIR => (Status::CONFLICT, "a folder has that name"),
            Errno::EXIST => (Status::CONFLICT, "something of that name is there already"),
            Errno::NOTEMPTY => (Status::CONFLICT, "the folder is not empty"),
            Errno::BUSY | Errno::TXTBSY => (Status::CONFLICT, "it is in use"),
            Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => {
                (Status::BAD_REQUEST, "the disk does not take that name")
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
