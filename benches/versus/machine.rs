//! Description of the machine and its load. Figures mean nothing without them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::cpu;
use super::load::now_ns;

/// Share of the machine's processor time used by other programs above which a warning is printed.
const OTHERS_MAX: f64 = 0.05;

/// Hardware, software and settings of a measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    pub(crate) memory_mib: u64,
    pub(crate) governor: String,
    pub(crate) descriptors_max: u64,
    pub(crate) backlog_max: u64,
    pub(crate) rustc: String,
    pub(crate) revision: String,
    pub(crate) server_processors: Vec<usize>,
    pub(crate) generator_processors: Vec<usize>,
    /// True if the generator polls in a busy loop instead of sleeping.
    pub(crate) generator_spins: bool,
}

/// Reads the description of this machine.
pub(crate) fn look() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value.trim()).to_owned()
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let revision = said("git", &["rev-parse", "--short=12", "HEAD"], home);
    let is_dirty = !said("git", &["status", "--porcelain"], home).is_empty();
    Machine {
        cpu: field(&read("/proc/cpuinfo"), "model name"),
        processors: cpu::processors().len(),
        kernel: format!("Linux {}", kernel_version(&read("/proc/sys/kernel/osrelease"))),
        memory_mib: memory.split(' ').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) / 1024,
        governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        descriptors_max: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
        backlog_max: read("/proc/sys/net/core/somaxconn").parse().unwrap_or(0),
        rustc: said("rustc", &["-V"], home),
        revision: format!("{revision}{}", if is_dirty { ", changed since" } else { "" }),
        ..Machine::default()
    }
}

/// Shortens a kernel release to its first two numbers. The rest is a build name that differs
/// between vendors.
pub(crate) fn kernel_version(release: &str) -> String {
    let numbers =
        release.split(|char: char| !char.is_ascii_digit() && char != '.').next().unwrap_or_default();
    numbers.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Runs a command and returns its trimmed standard output, or an empty string if it cannot run.
fn said(program: &str, arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Processor time used by other programs since a start time.
pub(crate) struct Others {
    began_ns: u64,
    busy: f64,
    own: f64,
}

impl Others {
    /// Starts counting.
    pub(crate) fn watch() -> Others {
        Others { began_ns: now_ns(), busy: machine_seconds(), own: own_seconds() }
    }

    /// Returns the share of the machine's processor time that other programs have used since the
    /// start. Time of our child processes is known once they have ended.
    pub(crate) fn share(&self) -> f64 {
        let wall = (now_ns() - self.began_ns) as f64 / 1e9 * machine_processors();
        let others = (machine_seconds() - self.busy) - (own_seconds() - self.own);
        (others / wall.max(1e-9)).clamp(0.0, 1.0)
    }
}

/// Returns a warning if other programs used too much of the machine.
pub(crate) fn busy_warning(share: f64, when: &str) -> Option<String> {
    (share > OTHERS_MAX).then(|| {
        format!(
            "BUSY MACHINE: {when} other programs used {:.0} % of its processors. Do not quote these figures.",
            share * 100.0
        )
    })
}

/// Measures the load of the machine for a short time without a benchmark.
pub(crate) fn idle_look() -> f64 {
    let others = Others::watch();
    cpu::rest(Duration::from_millis(400));
    others.share()
}

fn machine_processors() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let count = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    count.max(1) as f64
}

/// Processor time in seconds used by all programs, including time taken by the hypervisor. Excludes
/// interrupts: most are caused by our own traffic, and the kernel does not attribute them.
fn machine_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line.split_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
    let ticks = |at: usize| fields.get(at).copied().unwrap_or(0.0);
    // Columns: user, nice, system, (idle, iowait, irq, softirq,) steal.
    (ticks(0) + ticks(1) + ticks(2) + ticks(7)) / 100.0
}

/// Processor time in seconds of this process and its ended children.
fn own_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = text
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .map(|text| text.parse().unwrap_or(0.0))
        .collect();
    (11..15).map(|at| fields.get(at).copied().unwrap_or(0.0)).sum::<f64>() / 100.0
}
