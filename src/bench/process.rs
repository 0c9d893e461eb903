//! Child processes: servers and the load generator, each on its own processors, and their usage
//! read from `/proc`.
//!
//! Every child ends when its [`Side`] is dropped or when this process ends, even if it is killed:
//! each child requests a death signal from the kernel, including the wrapper that executes a peer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use super::Fallible;
use super::cpu::{self, rest};
use super::load::{self, Job, Mark, Outcome};
use super::program::Program;
use super::server::{self, Role};

/// Word of a child process that selects its part.
const SERVE: &str = "bench-serve";
const GENERATE: &str = "bench-generate";
const PEER: &str = "bench-peer";

/// Plays the part of a child process if the words of the command line select one. Prints its error:
/// a server on standard output, where its parent expects a port, the others on standard error.
pub fn play_part(mut words: impl Iterator<Item = String>) -> Option<ExitCode> {
    let part = words.next()?;
    let json = words.next().unwrap_or_default();
    let (ended, mut told): (Fallible<()>, Box<dyn Write>) = match part.as_str() {
        SERVE => {
            let role = serde_json::from_str(&json).map_err(Into::into);
            (role.and_then(|role| server::serve(&role)), Box::new(io::stdout()))
        }
        GENERATE => (generate(), Box::new(io::stderr())),
        PEER => (become_peer(&json), Box::new(io::stderr())),
        _ => return None,
    };
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The parent may be gone.
            let _ = writeln!(told, "{error}");
            ExitCode::FAILURE
        }
    })
}

/// Runs the load generator: reads a job from standard input, and writes marks and an outcome.
fn generate() -> Fallible<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut input = io::stdin().lock().lines();
    let job: Job = serde_json::from_str(&input.next().ok_or("no job")??)?;
    cpu::pin(&job.cpus)?;
    cpu::raise_descriptor_limit();
    let mut out = io::stdout().lock();
    let outcome = load::generate(&job, &mut |mark| {
        match mark {
            Mark::Begin => writeln!(out, "begin")?,
            // The connections stay open until the parent process has read `/proc`.
            Mark::End => {
                writeln!(out, "end")?;
                input.next();
            }
        }
        out.flush()
    })?;
    writeln!(out, "{}", serde_json::to_string(&outcome)?)?;
    Ok(())
}

/// Start parameters of a peer.
#[derive(Serialize, Deserialize)]
struct PeerRole {
    command: String,
    cpus: Vec<usize>,
}

fn become_peer(json: &str) -> Fallible<()> {
    let role: PeerRole = serde_json::from_str(json)?;
    cpu::pin(&role.cpus)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    Err(Command::new("sh").arg("-c").arg(format!("exec {}", role.command)).exec().into())
}

/// A peer from the command line: `name=command`.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Name in the report.
    pub name: String,
    /// Command line with the placeholders.
    pub command: String,
}

impl std::str::FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, command)) if !name.is_empty() && command.contains("{port}") => {
                Ok(Peer { name: name.to_owned(), command: command.to_owned() })
            }
            _ => Err("expected NAME=COMMAND, with {port} and {docroot} in the command".to_owned()),
        }
    }
}

/// A running server. Dropping it ends the server.
pub struct Side {
    /// Name in the report.
    pub name: String,
    /// Port on the loopback address.
    pub port: u16,
    child: Child,
    /// Pipes to our own server, which reports its exact processor time. `None` for a peer.
    control: Option<(ChildStdin, BufReader<ChildStdout>)>,
    program: Arc<Program>,
}

impl Side {
    /// Starts one of our models.
    pub fn start(program: &Arc<Program>, name: &str, role: &Role) -> Fallible<Side> {
        let mut command = program.command(SERVE);
        command.arg(serde_json::to_string(role)?).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| program.not_started(&error))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let control = pipes.map(|(stdin, stdout)| (stdin, BufReader::new(stdout)));
        let mut side = Side { name: name.to_owned(), port: 0, child, control, program: Arc::clone(program) };
        let line = side.line()?.unwrap_or_else(|| "its process ended".to_owned());
        side.port = line.parse().map_err(|_| format!("the server of {name} did not start: {line}"))?;
        Ok(side)
    }

    /// Starts another server.
    pub fn start_peer(
        program: &Arc<Program>,
        peer: &Peer,
        tmp: &Path,
        root: &Path,
        cpus: &[usize],
    ) -> Fallible<Side> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let filled = peer
            .command
            .replace("{port}", &port.to_string())
            .replace("{docroot}", &root.to_string_lossy())
            .replace("{tmp}", &tmp.to_string_lossy());
        let role = PeerRole { command: filled, cpus: cpus.to_vec() };
        let mut command = program.command(PEER);
        command.arg(serde_json::to_string(&role)?).stdin(Stdio::null()).stdout(Stdio::null());
        let (name, child, program) = (peer.name.clone(), command.spawn()?, Arc::clone(program));
        let mut side = Side { name, port, child, control: None, program };
        let give_up = load::now_ns() + 10_000_000_000;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = side.child.try_wait()? {
                return Err(format!("peer {} ended: {status}: {}", peer.name, role.command).into());
            }
            if load::now_ns() > give_up {
                return Err(format!("peer {} does not listen on port {port}", peer.name).into());
            }
            rest(Duration::from_millis(10));
        }
        Ok(side)
    }

    /// Returns the process id of the first process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the program that started the server.
    pub fn program(&self) -> Arc<Program> {
        Arc::clone(&self.program)
    }

    /// Returns whether the server is one of our two models.
    pub fn is_ours(&self) -> bool {
        self.control.is_some()
    }

    fn line(&mut self) -> Fallible<Option<String>> {
        let (_, out) = self.control.as_mut().ok_or("no pipe")?;
        self.program.line(out)
    }

    /// Returns the processor time and the context switches so far, and the number of threads.
    pub fn usage(&mut self) -> Fallible<Usage> {
        let mut usage = Usage::default();
        for pid in tree(self.pid()) {
            usage.add_process(pid);
        }
        if let Some((input, _)) = &mut self.control {
            writeln!(input, "usage")?;
            let line = self.line()?.unwrap_or_default();
            let figures = line
                .split_once(' ')
                .and_then(|(cpu_ns, switches)| Some((cpu_ns.parse().ok()?, switches.parse().ok()?)));
            let Some((cpu_ns, switches)) = figures else {
                return Err(format!("the server of {} has ended", self.name).into());
            };
            (usage.cpu_ns, usage.switches) = (cpu_ns, Some(switches));
            // The thread that reports the usage is not part of the server.
            usage.threads = usage.threads.saturating_sub(1);
        }
        Ok(usage)
    }

    /// Returns the resident memory.
    pub fn resident_bytes(&self) -> u64 {
        tree(self.pid()).into_iter().map(resident_bytes).sum()
    }

    /// Returns the process ids of the server and all its descendants.
    pub fn pids(&self) -> Vec<u32> {
        tree(self.pid())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if self.control.take().is_none() {
            // A peer may have worker processes. Its first process ends them on SIGTERM.
            let pid = Pid::from_child(&self.child);
            let _ = rustix::process::kill_process(pid, Signal::TERM);
            for _ in 0..200 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                rest(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time and threads of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time in nanoseconds.
    pub cpu_ns: u64,
    /// In steps of 10 ms, like `system_ns`.
    pub user_ns: u64,
    /// Processor time in the kernel.
    pub system_ns: u64,
    /// Number of threads.
    pub threads: u64,
    /// Context switches of all threads, including those that have ended. `None` for a peer.
    pub switches: Option<u64>,
}

impl Usage {
    fn add_process(&mut self, pid: u32) {
        const TICK_NS: u64 = 10_000_000;
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return };
        // The name in parentheses may contain spaces. utime and stime are columns 14 and 15 of the
        // line.
        let fields: Vec<&str> =
            text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        self.user_ns += number(11) * TICK_NS;
        self.system_ns += number(12) * TICK_NS;
        self.cpu_ns += (number(11) + number(12)) * TICK_NS;
        self.threads += number(17);
    }
}

fn tree(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    let mut at = 0;
    while let Some(parent) = pids.get(at).copied() {
        let path = format!("/proc/{parent}/task/{parent}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        pids.extend(children.split_whitespace().filter_map(|text| text.parse::<u32>().ok()));
        at += 1;
    }
    pids
}

fn resident_bytes(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

/// Runs a job in a separate process. Calls `at` with each mark.
pub fn run_generator(
    program: &Program,
    job: &Job,
    at: &mut dyn FnMut(Mark) -> Fallible<()>,
) -> Fallible<Outcome> {
    let mut command = program.command(GENERATE);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| program.not_started(&error))?;
    let result = converse(program, &mut child, job, at);
    if result.is_err() {
        let _ = child.kill();
    }
    let mut words = String::new();
    if let Some(mut err) = child.stderr.take() {
        drop(err.read_to_string(&mut words));
    }
    child.wait()?;
    result.map_err(|error| match words.trim() {
        "" => error,
        words => words.to_owned().into(),
    })
}

fn converse(
    program: &Program,
    child: &mut Child,
    job: &Job,
    at: &mut dyn FnMut(Mark) -> Fallible<()>,
) -> Fallible<Outcome> {
    let (stdin, stdout) = (child.stdin.as_mut(), child.stdout.take());
    let (Some(stdin), Some(stdout)) = (stdin, stdout) else { return Err("no pipe".into()) };
    let mut out = BufReader::new(stdout);
    writeln!(stdin, "{}", serde_json::to_string(job)?)?;
    while let Some(line) = program.line(&mut out)? {
        match line.as_str() {
            "begin" => at(Mark::Begin)?,
            "end" => {
                at(Mark::End)?;
                writeln!(stdin, "go on")?;
            }
            outcome => return Ok(serde_json::from_str(outcome)?),
        }
    }
    Err("the load generator has ended".into())
}
