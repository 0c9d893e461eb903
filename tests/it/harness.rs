//! Starts the server under test, observes it from outside, and stops it.
//!
//! Every wait has a bound. No test sleeps in the hope that something has happened: it waits for the
//! event itself. It polls a descriptor if the kernel reports the event, and otherwise checks
//! repeatedly.

use std::fmt::Display;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

/// Names of both models.
pub(crate) const MODELS: [&str; 2] = ["reactor", "threads"];

/// Maximum time that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "a black-box test measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Reads the wall clock.
#[expect(clippy::disallowed_methods, reason = "compares dates of the server with real ones")]
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// Sleeps for `span`. Only for tests about a time span, and between two checks of a condition.
#[expect(clippy::disallowed_methods, reason = "the only two cases in which a test needs time to pass")]
pub(crate) fn pass(span: Duration) {
    thread::sleep(span);
}

/// Checks repeatedly until `condition` holds. Panics if it does not within `PATIENCE`.
pub(crate) fn until(what: impl Display, mut condition: impl FnMut() -> bool) {
    let give_up = now() + PATIENCE;
    while !condition() {
        assert!(now() < give_up, "waited {PATIENCE:?} for this to hold: {what}");
        pass(Duration::from_millis(2));
    }
}

/// Runs `test` on both models in parallel, and reports the model on which it failed.
pub(crate) fn on_both(test: impl Fn(&str) + Sync) {
    let failures: Vec<String> = thread::scope(|scope| {
        let runs = MODELS.map(|model| (model, scope.spawn(|| test(model))));
        runs.into_iter()
            .filter_map(|(model, run)| {
                let cause = run.join().err()?;
                let text = cause.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| cause.downcast_ref::<&str>().copied());
                Some(format!("on --model {model}: {}", text.unwrap_or("(no message)")))
            })
            .collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Prints to the real standard output, which is not captured, that a test was skipped.
pub(crate) fn skipped(why: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "SKIPPED: {why}");
}

/// Returns the path of the first installed program of `names`. If there is none, the test is
/// skipped, or fails if the variable `required_by` is 1.
pub(crate) fn program(names: &[&str], required_by: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let mut places = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = places.find(|file| file.is_file());
    if found.is_none() {
        left_out(format_args!("no {} installed", names[0]), required_by);
    }
    found
}

/// Skips a test because something is missing, or fails if the variable `required_by` is 1.
pub(crate) fn left_out(why: impl Display, required_by: &str) {
    let required = env::var(required_by).is_ok_and(|value| value == "1");
    assert!(!required, "{why}, but {required_by}=1 requires it");
    skipped(why);
}

/// Output of a process so far. A thread drains the pipe, so that the process never blocks on it.
#[derive(Default)]
pub(crate) struct Output {
    text: Mutex<String>,
    grown: Condvar,
}

impl Output {
    fn drain(mut pipe: impl Read + Send + 'static) -> Arc<Output> {
        let output = Arc::new(Output::default());
        let sink = Arc::clone(&output);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut piece) {
                sink.text.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..count]));
                sink.grown.notify_all();
            }
        });
        output
    }

    /// Returns all output so far.
    pub(crate) fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// Returns the first complete line that `pick` accepts. Returns `None` after `PATIENCE` or when
    /// `ended` returns true.
    fn line(&self, pick: impl Fn(&str) -> bool, mut ended: impl FnMut() -> bool) -> Option<String> {
        let give_up = now() + PATIENCE;
        let mut text = self.text.lock().unwrap();
        loop {
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            if let Some(line) = whole.lines().find(|line| pick(line)) {
                return Some(line.to_owned());
            }
            if ended() || now() > give_up {
                return None;
            }
            text = self.grown.wait_timeout(text, Duration::from_millis(20)).unwrap().0;
        }
    }
}

/// Path of the program under test.
pub(crate) fn binary() -> PathBuf {
    env::var_os("WHIRLIGIG_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_whirligig").into(), PathBuf::from)
}

/// The program without arguments, and without settings of the caller's environment.
pub(crate) fn bare_command() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WHIRLIGIG_")) {
        command.env_remove(name);
    }
    command.env_remove("NO_COLOR").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The program with arguments to serve `root` on a free port.
pub(crate) fn command(model: &str, root: &Path, more: &[&str]) -> Command {
    let mut command = bare_command();
    command.args(["--model", model, "--port", "0"]).args(more).arg(root);
    command
}

/// A process that ends together with the test that started it.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server. Dropping it ends the process.
pub(crate) struct Server {
    process: Process,
    pub(crate) out: Arc<Output>,
    pub(crate) err: Arc<Output>,
    /// The printed URL, with the slash: `http://127.0.0.1:12345/`.
    pub(crate) url: String,
    pub(crate) port: u16,
    /// Time at which the URL was printed.
    pub(crate) started: Instant,
}

impl Server {
    /// Serves `root`. Returns once the URL is printed.
    pub(crate) fn start(model: &str, root: &Path, more: &[&str]) -> Server {
        Server::launch(command(model, root, more))
    }

    /// Starts `command`. Returns once the URL is printed.
    pub(crate) fn launch(mut command: Command) -> Server {
        let mut child = command.spawn().expect("the server's binary can be started");
        let out = child.stdout.take().map_or_else(Arc::default, Output::drain);
        let err = child.stderr.take().map_or_else(Arc::default, Output::drain);
        let mut server =
            Server { process: Process(child), out, err, url: String::new(), port: 0, started: now() };
        let child = &mut server.process.0;
        let is_url = |line: &str| line.starts_with("http://");
        // If standard output is the access log, the banner goes to standard error.
        let mut is_over =
            || !matches!(child.try_wait(), Ok(None)) || server.err.line(is_url, || true).is_some();
        let line = server.out.line(is_url, &mut is_over).or_else(|| server.err.line(is_url, || true));
        let Some(line) = line else {
            panic!("no URL alone on a line.\nstdout: {}\nstderr: {}", server.out.text(), server.err.text());
        };
        let digits = line.trim_end_matches('/').rsplit(':').next().unwrap_or_default();
        server.port =
            digits.parse().unwrap_or_else(|_| panic!("a URL with its port and nothing else: {line:?}"));
        server.started = now();
        server.url = format!("{}/", line.trim_end_matches('/'));
        server
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.process.0)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("the server runs and can be signalled");
    }

    /// Waits until every thread of the server has stopped after SIGSTOP.
    pub(crate) fn wait_stopped(&self) {
        let tasks = format!("/proc/{}/task", self.process.0.id());
        let state = |task: std::io::Result<fs::DirEntry>| {
            let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('T'))
        };
        until("the server has stopped", || fs::read_dir(&tasks).unwrap().all(state));
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.process.0.try_wait(), Ok(None))
    }

    /// Returns the exit code after the process has ended by itself.
    pub(crate) fn wait_exit(&mut self) -> i32 {
        let ended = wait_for_end(&mut self.process.0, PATIENCE);
        assert!(ended, "the server still ran after {PATIENCE:?}; stderr: {}", self.err.text());
        let status = self.process.0.wait().unwrap();
        status.code().unwrap_or_else(|| panic!("ended by itself, not by a signal: {status}"))
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.0.id())).unwrap();
        let line = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Rss:"))
            .expect("a line with the resident memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Returns the peak of the resident memory in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line with the peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Returns the processor time of all live threads.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.0.id())).unwrap();
        let nanoseconds = tasks.map(|task| {
            // A thread may end between the listing and the read.
            let text = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0)
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Returns the processor time of the process, in hundredths of a second. In contrast to
    /// [`Server::cpu`], this includes threads that have ended.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.0.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// Returns the number of open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.0.id())).unwrap().count()
    }
}

/// Waits until the process has ended or `patience` is over.
fn wait_for_end(child: &mut Child, patience: Duration) -> bool {
    let handle = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    let limit = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: 0 };
    matches!(rustix::event::poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit)), Ok(1..))
}

/// A process that has ended, with its output.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command. It must end within `PATIENCE`.
pub(crate) fn run(command: &mut Command) -> Finished {
    run_within(PATIENCE, command)
}

/// Runs a foreign program, which may take longer than ours to start.
pub(crate) fn run_within(patience: Duration, command: &mut Command) -> Finished {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [mut out, mut err] = [Vec::new(), Vec::new()];
    let (mut out_pipe, mut err_pipe) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let in_time = thread::scope(|scope| {
        scope.spawn(|| out_pipe.read_to_end(&mut out));
        scope.spawn(|| err_pipe.read_to_end(&mut err));
        let in_time = wait_for_end(&mut child, patience);
        let _ = child.kill();
        in_time
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&out), text(&err));
    assert!(in_time, "{command:?} did not end in {patience:?}\nstdout: {out}\nstderr: {err}");
    Finished { code: child.wait().unwrap().code(), out, err }
}

/// Asserts that the time since `since` is within `bounds`, in seconds.
pub(crate) fn assert_took(what: &str, since: Instant, bounds: Range<f64>) {
    let took = now().duration_since(since).as_secs_f64();
    assert!(bounds.contains(&took), "{what} after {took:.3} s, expected within {bounds:?}");
}
