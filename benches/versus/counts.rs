//! Counts of system calls and context switches, measured by `perf`, or by `strace` and `/proc`.
//!
//! Counting happens in a separate run that is not timed, because tracing slows a server down. If
//! this system permits no tracing, the counts are unknown and are reported as unknown.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::cpu;
use super::load::now_ns;

/// Maximum time in nanoseconds until a tracer has attached.
const ATTACH_NS: u64 = 2_000_000_000;

/// A program that traces a server.
pub(crate) struct Watcher {
    child: Child,
    report: PathBuf,
    is_perf: bool,
    _folder: TempDir,
}

/// Counts of one traced run. `None` if unknown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) calls: Option<f64>,
    pub(crate) switches: Option<f64>,
}

impl Watcher {
    /// Attaches the best available tracer and waits until it counts. Returns `None` if no tracer is
    /// permitted.
    pub(crate) fn attach(pids: &[u32]) -> Option<Watcher> {
        Watcher::start(pids, true).or_else(|| Watcher::start(pids, false))
    }

    fn start(pids: &[u32], is_perf: bool) -> Option<Watcher> {
        let folder = TempDir::with_prefix("whirligig-counts-").ok()?;
        let report = folder.path().join("report");
        let pids = pids.iter().map(u32::to_string).collect::<Vec<String>>().join(",");
        let mut command = Command::new(if is_perf { "perf" } else { "strace" });
        if is_perf {
            let events = "raw_syscalls:sys_enter,context-switches";
            command.args(["stat", "-x,", "-e", events, "-p", &pids, "-o"]).arg(&report);
        } else {
            command.args(["-c", "-f", "-p", &pids, "-o"]).arg(&report);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().ok()?;
        let mut watcher = Watcher { child, report, is_perf, _folder: folder };
        let give_up = now_ns() + ATTACH_NS;
        while !watcher.is_counting(&pids) {
            if now_ns() > give_up || !matches!(watcher.child.try_wait(), Ok(None)) {
                return None;
            }
            cpu::rest(Duration::from_millis(5));
        }
        cpu::rest(Duration::from_millis(20));
        Some(watcher)
    }

    /// Returns whether `perf` has opened its counters, or `strace` has attached to the last of the
    /// processes.
    fn is_counting(&self, pids: &str) -> bool {
        if !self.is_perf {
            let last = pids.rsplit(',').next().unwrap_or_default();
            let status = fs::read_to_string(format!("/proc/{last}/status")).unwrap_or_default();
            return status.contains(&format!("TracerPid:\t{}\n", self.child.id()));
        }
        let Ok(open) = fs::read_dir(format!("/proc/{}/fd", self.child.id())) else { return false };
        open.flatten().any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|link| link.to_string_lossy().contains("perf_event"))
        })
    }

    /// Stops the tracer and reads its counts.
    pub(crate) fn finish(mut self) -> Counts {
        let asked = kill_process(Pid::from_child(&self.child), Signal::INT);
        if asked.is_err() || self.child.wait().is_err() {
            return Counts::default();
        }
        let text = fs::read_to_string(&self.report).unwrap_or_default();
        if self.is_perf {
            return Counts {
                calls: perf_count(&text, "sys_enter"),
                switches: perf_count(&text, "context-switches"),
            };
        }
        Counts { calls: strace_total(&text), switches: None }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Parses the first column of the line about `name` in the output of `perf stat -x,`.
fn perf_count(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains(name))?;
    line.split(',').next()?.parse().ok()
}

/// Parses the number of calls in the last line of `strace -c` output. Its columns are: share,
/// seconds, microseconds per call, calls, errors, `total`.
fn strace_total(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Sums the context switches of all threads of these processes, read from `/proc`. Threads that
/// have ended are not included.
pub(crate) fn switches(pids: &[u32]) -> u64 {
    let tasks = pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
    let statuses =
        tasks.flatten().flatten().filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    statuses
        .map(|status| {
            let lines = status.lines().filter(|line| line.contains("ctxt_switches:"));
            lines.filter_map(|line| line.rsplit('\t').next()?.parse::<u64>().ok()).sum::<u64>()
        })
        .sum()
}
