//! Refusals of write requests because of errors of the disk.
//!
//! An error is translated to a status and a sentence that a client understands. Must not know which
//! response contains them.

use rustix::io::Errno;

use crate::http::{Refusal, Status};
use crate::shortage;

/// Refusal of a request that failed with this error.
pub(super) fn refuse_errno(errno: Errno) -> Refusal {
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
