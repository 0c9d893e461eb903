//! Both sides' processes: the servers with their folder, and the generator. Pins them, checks and counts them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::Fallible;
use crate::load::{Job, Outcome};

/// Where the server runs, whichever model it is.
pub(crate) const SERVER_CPU: usize = 0;
/// Where the generator runs.
pub(crate) const GENERATOR_CPU: usize = 1;

/// `taskset`, if processes can be pinned here: it is installed and there are two processors.
pub(crate) fn taskset() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join("taskset")).find(|file| file.is_file());
    found.filter(|_| std::thread::available_parallelism().is_ok_and(|count| count.get() >= 2))
}

/// A command that runs on one processor, if that can be had.
fn pinned(program: &Path, cpu: usize) -> Command {
    match taskset() {
        None => Command::new(program),
        Some(taskset) => {
            let mut command = Command::new(taskset);
            command.args(["-c", &cpu.to_string()]).arg(program);
            command
        }
    }
}

/// The content of a file of this size.
pub(crate) fn content(size: usize) -> Vec<u8> {
    b"Hello, World!".iter().copied().cycle().take(size).collect()
}

/// A folder with a file for each workload.
pub(crate) fn docroot(workloads: &[(&str, usize)]) -> Fallible<TempDir> {
    let folder = TempDir::with_prefix("whirligig-versus-")?;
    for (name, size) in workloads {
        fs::write(folder.path().join(name), content(*size))?;
    }
    Ok(folder)
}

/// A server that ends when it is dropped.
pub(crate) struct Server {
    child: Child,
    model: &'static str,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start(model: &'static str, root: &Path) -> Fallible<Server> {
        let mut command = pinned(Path::new(env!("CARGO_BIN_EXE_whirligig")), SERVER_CPU);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WHIRLIGIG_"))
        {
            command.env_remove(name);
        }
        command.args(["--model", model, "--port", "0"]).arg(root).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut server = Server { child: command.spawn()?, model, port: 0 };
        // It prints its URL once it listens, or ends, which closes the pipe.
        let out = server.child.stdout.take().ok_or("no pipe")?;
        for line in BufReader::new(out).lines() {
            if let Some(rest) = line?.strip_prefix("http://") {
                server.port = rest.trim_end_matches('/').rsplit(':').next().unwrap_or_default().parse()?;
                return Ok(server);
            }
        }
        Err(format!("the server with --model {model} ended without a URL").into())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Two requests on one connection have to bring status, length and bytes before anything is timed.
    pub(crate) fn check(&self, path: &str, content: &[u8]) -> Fallible<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        for _ in 0..2 {
            write!(stream, "GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            let mut answer = Vec::new();
            let head = loop {
                if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                    break String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
                }
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                answer.extend_from_slice(&byte);
            };
            let mut body = vec![0; content.len()];
            let wrong =
                |what: &str| format!("/{path} on --model {} has the wrong {what}: {head}", self.model);
            if !head.starts_with("http/1.1 200 ") {
                return Err(wrong("status").into());
            }
            if !head.lines().any(|line| line == format!("content-length: {}", content.len())) {
                return Err(wrong("length").into());
            }
            stream.read_exact(&mut body)?;
            if body != content {
                return Err(wrong("bytes").into());
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the job in a process of its own.
pub(crate) fn run_generator(job: &Job) -> Fallible<Outcome> {
    let output = pinned(&std::env::current_exe()?, GENERATOR_CPU)
        .args(["--generate", &job.to_json()])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the load generator failed".into());
    }
    Outcome::from_json(&String::from_utf8_lossy(&output.stdout))
}

/// Processor time of a process up to now, all threads, in user and kernel mode, from `/proc/PID/stat`.
pub(crate) fn cpu_seconds(pid: u32) -> Fallible<f64> {
    /// The unit of that file on every Linux: 10 ms.
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may have spaces; utime and stime are the 14th and 15th fields of the line.
    let (_, rest) = text.rsplit_once(')').ok_or("no name in stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).ok_or("a short stat");
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}
