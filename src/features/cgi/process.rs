//! Child processes and their pipes: start, kill, reap.
//!
//! Each child leads a process group, so the processes that it starts end with it. A descriptor
//! reports its exit (pidfd_open(2)). The process ID is not reused until the child is reaped, so a
//! group is killed only before that.
//!
//! Must not know what the pipes carry.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};

use crate::config::KIB;
use crate::jobs::sender_permits::{Holder, SenderPermit};
use crate::sync::lock;

/// Children that are not reaped yet. Those still running are killed when the server ends.
#[derive(Debug, Default)]
pub(crate) struct Children(Mutex<HashSet<Pid>>);

impl Children {
    /// Kills all children.
    pub(crate) fn end_all(&self) {
        for pid in lock(&self.0).iter() {
            // The child can have ended already.
            let _ = rustix::process::kill_process_group(*pid, Signal::KILL);
        }
    }

    /// Reaps orphans. Reads files: for jobs.
    ///
    /// The first process of a container inherits the processes that scripts leave running
    /// (pid_namespaces(7)). Without this call, zombies accumulate. Only children of the first
    /// thread are listed, and scripts are children of worker threads, so a script that is being
    /// started is never among them.
    pub(crate) fn reap_orphans(&self) {
        // Lock the list first, so that no process ID is reused meanwhile.
        let ours = lock(&self.0);
        let listed = std::fs::read_to_string("/proc/self/task/1/children").unwrap_or_default();
        let pids = listed.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        for orphan in pids.filter(|pid| !ours.contains(pid)) {
            // The orphan may still be running.
            let _ = waitpid(Some(orphan), WaitOptions::NOHANG);
        }
    }
}

/// A child process. Dropping it kills the child.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    children: Arc<Children>,
    is_reaped: bool,
    /// Permit to run, returned when the child is reaped, because a client can take long to read the
    /// output.
    permit: Option<SenderPermit>,
}

/// Our ends of the pipes of a child, all non-blocking.
#[derive(Debug)]
pub(crate) struct Pipes {
    /// `None` if the request has no content; standard input is then empty.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// Readable once the child has exited.
    pub(crate) exit: OwnedFd,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
    /// Another part of the process reaped the child, so its status is lost.
    Unknown,
}

impl Process {
    /// Starts a child. This takes about 0.3 ms, so it is for jobs.
    pub(crate) fn start(
        mut command: Command,
        has_content: bool,
        permit: SenderPermit,
        children: &Arc<Children>,
    ) -> io::Result<(Process, Pipes)> {
        use std::os::unix::process::CommandExt as _;
        let stdin = if has_content { Stdio::piped() } else { Stdio::null() };
        command.process_group(0).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        lock(&children.0).insert(pid);
        let children = Arc::clone(children);
        // Any later failure drops the process, which kills it.
        let mut process = Process { child, pid, children, is_reaped: false, permit: Some(permit) };
        let exit = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        let gone = || io::Error::other("a pipe is missing");
        let stdin = process.child.stdin.take().map(OwnedFd::from);
        let stdout = OwnedFd::from(process.child.stdout.take().ok_or_else(gone)?);
        let stderr = OwnedFd::from(process.child.stderr.take().ok_or_else(gone)?);
        // O_NONBLOCK belongs to the open file description, and the child has other ones.
        for fd in [stdin.as_ref(), Some(&stdout), Some(&stderr)].into_iter().flatten() {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        Ok((process, Pipes { stdin, stdout, stderr, exit }))
    }

    /// Handle on the permit for the connection that sends content.
    pub(crate) fn holder(&self) -> Option<Arc<Holder>> {
        Some(Arc::clone(self.permit.as_ref()?.holder()))
    }

    /// Kills the child and its process group.
    pub(crate) fn kill(&self) {
        if !self.is_reaped {
            // The group can have ended already.
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Reaps the child after its exit. Its process ID can be reused from then on.
    pub(crate) fn reap(&mut self) {
        // Lock the list first, so that a reused process ID is never killed.
        let mut running = lock(&self.children.0);
        self.is_reaped = !matches!(self.child.try_wait(), Ok(None));
        if self.is_reaped {
            running.remove(&self.pid);
            self.permit = None;
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
        // The child takes a while to die, and nothing here may wait for it.
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

/// Exit of the child behind this descriptor, if it has ended. The child is not reaped. The status
/// is lost if other code reaps our children or SIGCHLD is ignored.
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

/// Execution of a script, from its start until its exit is known.
pub(super) enum Execution {
    /// The script runs. The descriptor is readable after its exit.
    Running(Pipe),
    /// The server has killed the script. Its exit is not known yet.
    Dying(Pipe),
    /// The script has exited by itself.
    Exited(Exit),
    /// The script has exited, and the server has killed it or the processes that it left.
    Killed(Exit),
}

impl Execution {
    /// State of a child that was just started. `exit` is readable after its exit.
    pub(super) fn new(exit: OwnedFd) -> Self {
        Execution::Running(Pipe::new(exit, false))
    }

    pub(super) fn pipe(&self) -> Option<&Pipe> {
        match self {
            Execution::Running(pipe) | Execution::Dying(pipe) => Some(pipe),
            Execution::Exited(_) | Execution::Killed(_) => None,
        }
    }

    pub(super) fn pipe_mut(&mut self) -> Option<&mut Pipe> {
        match self {
            Execution::Running(pipe) | Execution::Dying(pipe) => Some(pipe),
            Execution::Exited(_) | Execution::Killed(_) => None,
        }
    }

    /// Moves on if the script has exited. Returns the exit if this call is the first to notice it.
    pub(super) fn notice_exit(&mut self) -> Option<Exit> {
        let exit = exit_of(&*self.pipe().filter(|pipe| pipe.is_ready)?.fd)?;
        *self = match self {
            Execution::Running(_) | Execution::Exited(_) => Execution::Exited(exit),
            Execution::Dying(_) | Execution::Killed(_) => Execution::Killed(exit),
        };
        Some(exit)
    }

    /// Records that the server kills the script.
    pub(super) fn note_kill(&mut self) {
        *self = match std::mem::replace(self, Execution::Killed(Exit::Unknown)) {
            Execution::Running(pipe) | Execution::Dying(pipe) => Execution::Dying(pipe),
            Execution::Exited(exit) | Execution::Killed(exit) => Execution::Killed(exit),
        };
    }

    /// Returns true if the exit of the script is known.
    pub(super) fn has_exited(&self) -> bool {
        match self {
            Execution::Running(_) | Execution::Dying(_) => false,
            Execution::Exited(_) | Execution::Killed(_) => true,
        }
    }

    /// Returns true if the server has killed the script.
    pub(super) fn is_cut(&self) -> bool {
        match self {
            Execution::Running(_) | Execution::Exited(_) => false,
            Execution::Dying(_) | Execution::Killed(_) => true,
        }
    }

    /// Returns true if a signal has ended the script, so that its output can be truncated.
    pub(super) fn is_broken(&self) -> bool {
        match self {
            Execution::Running(_) | Execution::Exited(Exit::Code(_) | Exit::Unknown) => false,
            Execution::Dying(_) | Execution::Killed(_) | Execution::Exited(Exit::Signal(_)) => true,
        }
    }
}

/// Amount of content that is moved between a pipe and memory at a time, in bytes: the capacity of a
/// pipe.
pub(super) const PIECE_BYTES: usize = 64 * KIB;

/// A descriptor and its readiness, as reported by the kernel and not denied since.
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

    #[test]
    fn an_execution_records_exit_and_kill_in_either_order() {
        for kill_first in [true, false] {
            let mut child = Command::new("sh").args(["-c", "read x"]).stdin(Stdio::piped()).spawn().unwrap();
            let exit = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
            let mut execution = Execution::new(exit);
            if kill_first {
                execution.note_kill();
                assert!(matches!(execution, Execution::Dying(_)));
            }
            assert_eq!(execution.notice_exit(), None);
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(execution.notice_exit(), None, "its descriptor is not ready");
            execution.pipe_mut().unwrap().is_ready = true;
            assert_eq!(execution.notice_exit(), Some(Exit::Unknown));
            assert_eq!(execution.notice_exit(), None, "the exit is noticed once");
            assert_eq!(execution.is_cut(), kill_first);
            execution.note_kill();
            assert!(matches!(execution, Execution::Killed(Exit::Unknown)));
        }
    }

    /// Regression: a script that other code had reaped never ended and kept its permit.
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
