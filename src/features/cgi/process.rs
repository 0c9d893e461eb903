//! A child process and its pipes: started, ended, reaped.
//!
//! A child leads a process group of its own, so that what it starts ends with it. Its exit is told
//! by a descriptor (pidfd_open(2)). Until it is reaped its number belongs to nobody else, so a
//! group is only ever killed before that. Must not know what is said over the pipes.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};

use crate::jobs::places::{Seat, Taken};
use crate::sync::lock;

/// The children that are there and not reaped: what is still running when the server ends goes with
/// it.
#[derive(Debug, Default)]
pub(crate) struct Children(Mutex<HashSet<Pid>>);

impl Children {
    /// Ends all of them.
    pub(crate) fn end_all(&self) {
        for pid in lock(&self.0).iter() {
            // It may have ended just now.
            let _ = rustix::process::kill_process_group(*pid, Signal::KILL);
        }
    }

    /// Reaps what is nobody's. The first process of a container inherits whatever a program leaves
    /// running, by its first thread (pid_namespaces(7)); unless it asks for their ends, the dead
    /// pile up. Programs are children of the threads that start them, so none that is just being
    /// started is among those listed here. Reads files: for jobs.
    pub(crate) fn reap_orphans(&self) {
        // With the list held, so that no number passes to another meanwhile.
        let ours = lock(&self.0);
        let listed = std::fs::read_to_string("/proc/self/task/1/children").unwrap_or_default();
        let pids = listed.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        for orphan in pids.filter(|pid| !ours.contains(pid)) {
            // It may go on for as long as it likes.
            let _ = waitpid(Some(orphan), WaitOptions::NOHANG);
        }
    }
}

/// One child. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    children: Arc<Children>,
    is_reaped: bool,
    /// One of those that may run at once, given back when it is reaped: a client may hold on to
    /// what it said for long.
    place: Option<Taken>,
}

/// A child's ends of its pipes that are ours, all non-blocking.
#[derive(Debug)]
pub(crate) struct Pipes {
    /// `None` if there is no content for it: then it reads from nothing.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// Readable when it has exited.
    pub(crate) exit: OwnedFd,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
    /// Somebody else has reaped it, and knows.
    Unknown,
}

impl Process {
    /// Starts it. Takes a third of a millisecond, so it is for jobs.
    pub(crate) fn start(
        mut command: Command,
        has_content: bool,
        place: Taken,
        children: &Arc<Children>,
    ) -> io::Result<(Process, Pipes)> {
        use std::os::unix::process::CommandExt as _;
        let stdin = if has_content { Stdio::piped() } else { Stdio::null() };
        command.process_group(0).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        lock(&children.0).insert(pid);
        let children = Arc::clone(children);
        // From here on whatever fails ends it.
        let mut process = Process { child, pid, children, is_reaped: false, place: Some(place) };
        let exit = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        let gone = || io::Error::other("a pipe is missing");
        let stdin = process.child.stdin.take().map(OwnedFd::from);
        let stdout = OwnedFd::from(process.child.stdout.take().ok_or_else(gone)?);
        let stderr = OwnedFd::from(process.child.stderr.take().ok_or_else(gone)?);
        // Only our ends: the flag belongs to the open file, and the child's ends are others.
        for fd in [stdin.as_ref(), Some(&stdout), Some(&stderr)].into_iter().flatten() {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        Ok((process, Pipes { stdin, stdout, stderr, exit }))
    }

    /// Its place, from the side of the client that sends content.
    pub(crate) fn seat(&self) -> Option<Arc<Seat>> {
        self.place.as_ref()?.seat().map(Arc::clone)
    }

    /// Ends it and all of its group at once.
    pub(crate) fn kill(&self) {
        if !self.is_reaped {
            // It may have ended by itself, with all that it started.
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Takes it off the system's list, after it has exited. From then on its number may be
    /// another's.
    pub(crate) fn reap(&mut self) {
        // With the list held, so that nobody kills a number that is no longer its own.
        let mut running = lock(&self.children.0);
        self.is_reaped = !matches!(self.child.try_wait(), Ok(None));
        if self.is_reaped {
            running.remove(&self.pid);
            self.place = None;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        self.kill();
        self.reap();
        if self.is_reaped {
            return;
        }
        // It dies in its own time, which is nothing to wait for here.
        let (pid, children) = (self.pid, Arc::clone(&self.children));
        let wait = move || {
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            let mut running = lock(&children.0);
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            running.remove(&pid);
        };
        if std::thread::Builder::new().name("whirligig-reap".into()).spawn(wait).is_err() {
            lock(&self.children.0).remove(&pid);
            log::warn!("process {pid:?} was killed and cannot be waited for");
        }
    }
}

/// How the child behind this descriptor ended, if it has; it stays on the system's list, unless
/// others reap our children, or SIGCHLD is ignored.
pub(crate) fn exit_of(exit: impl AsFd) -> Option<Exit> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = match waitid(WaitId::PidFd(exit.as_fd()), look) {
        Ok(status) => status?,
        Err(Errno::CHILD) => return Some(Exit::Unknown),
        Err(_) => return None,
    };
    let signal = status.terminating_signal();
    Some(signal.map_or(Exit::Code(status.exit_status().unwrap_or(0)), Exit::Signal))
}

/// A descriptor, and whether the kernel called it ready and nothing has denied it.
pub(super) struct Pipe {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) is_ready: bool,
}

impl Pipe {
    pub(super) fn new(fd: OwnedFd, is_ready: bool) -> Self {
        Pipe { fd: Arc::new(fd), is_ready }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that others had reaped was never over, and kept its place.
    #[test]
    fn an_exit_is_told_once_it_is_there_whoever_has_seen_it() {
        let mut child =
            Command::new("sh").args(["-c", "read x; exit 7"]).stdin(Stdio::piped()).spawn().unwrap();
        let exit = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert_eq!(exit_of(&exit), None);
        drop(child.stdin.take());
        assert_eq!(
            waitid(WaitId::PidFd(exit.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).map(|_| ()),
            Ok(())
        );
        assert_eq!(exit_of(&exit), Some(Exit::Code(7)));
        assert_eq!(exit_of(&exit), Some(Exit::Code(7)), "it is still there");
        child.wait().unwrap();
        assert_eq!(exit_of(&exit), Some(Exit::Unknown));
    }
}
