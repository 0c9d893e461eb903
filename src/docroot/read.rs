//! Reads of open files: the whole content, or the beginning.
//!
//! Must not know names, or which response is being made.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, ReadWriteFlags};

use crate::docroot::{Disk, LookupError};

/// Reads the first `bytes` of an open file, or all of it if it is shorter.
pub(crate) fn read_head(fd: &OwnedFd, size: u64, bytes: usize, disk: Disk) -> Result<Vec<u8>, LookupError> {
    match size.min(bytes as u64) {
        0 => Ok(Vec::new()),
        bytes => read_whole(fd, bytes, disk),
    }
}

/// Reads all of a small file. On the loop only if it is in the page cache (preadv2(2), RWF_NOWAIT).
pub(crate) fn read_whole(fd: &OwnedFd, size: u64, disk: Disk) -> Result<Vec<u8>, LookupError> {
    let size = usize::try_from(size).map_err(|_| LookupError::Io(Errno::FBIG.raw_os_error()))?;
    let flags = match disk {
        Disk::CachedOnly => ReadWriteFlags::NOWAIT,
        Disk::MayBlock => ReadWriteFlags::empty(),
    };
    let mut body = vec![0; size];
    let mut at = 0;
    while at < size {
        let into = std::io::IoSliceMut::new(&mut body[at..]);
        match rustix::io::preadv2(fd, &mut [into], at as u64, flags) {
            // The file became shorter since `statx`: look again, off the loop.
            Ok(0) if disk == Disk::CachedOnly => return Err(LookupError::Cold),
            Ok(0) => return Err(LookupError::NotFound),
            Ok(bytes) => at += bytes,
            Err(Errno::INTR) => {}
            // Some file systems do not support RWF_NOWAIT: they are read off the loop.
            Err(Errno::OPNOTSUPP | Errno::AGAIN) if disk == Disk::CachedOnly => {
                return Err(LookupError::Cold);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(body)
}
