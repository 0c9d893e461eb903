//! The server in a terminal: its output there, and its end when the terminal is closed.
//!
//! Python creates the pseudo-terminal, because making a process the leader of a session needs a
//! call between fork and exec, which is `unsafe` in Rust.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::docroot::{Docroot, HELLO, pattern};
use crate::harness::{PATIENCE, Process, binary, now, on_both, program, until};
use crate::wire::{Client, get};

/// Runs `argv[2:]` as the leader of a session with a terminal. Writes `pid N`, then each line of
/// the terminal as `> LINE`. Types its own input into the terminal, and closes the terminal at the
/// end of the input. Writes `exit N` at the end.
const HOST: &str = r#"
import os, pty, select, signal, sys
pid, master = pty.fork()
if pid == 0:
    # Both ways, because the tests themselves may run under nohup.
    ignored = sys.argv[1] == "nohup"
    signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    os.execv(sys.argv[2], sys.argv[2:])
print("pid %d" % pid, flush=True)
rest, watched = b"", [0, master]
while len(watched) == 2:
    for fd in select.select(watched, [], [])[0]:
        try:
            piece = os.read(fd, 4096)
        except OSError:
            piece = b""
        if not piece:
            watched.remove(fd)
        elif fd == 0:
            os.write(master, piece)
        else:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                print("> " + line.decode("utf8", "replace").rstrip("\r"), flush=True)
os.close(master)
print("exit %d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"#;

/// A server in a terminal.
struct Terminal {
    _host: Process,
    /// Dropping this pipe closes the terminal.
    keys: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Process id of the session leader: the server, or the shell that started it.
    leader: Pid,
    /// All lines shown so far.
    shown: Vec<String>,
    port: u16,
}

impl Terminal {
    /// Starts the server in a terminal, below a shell if `shell` is not empty. `how` is `plain` or
    /// `nohup`.
    fn start(python: &PathBuf, how: &str, shell: &[&str], flags: &[&str]) -> Terminal {
        let mut host = Command::new(python)
            .args(["-c", HOST, how])
            .args(shell)
            .arg(binary())
            .args(["--port", "0", "--color", "never"])
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let (keys, pipe) = (host.stdin.take(), host.stdout.take().unwrap());
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let leader = Pid::from_child(&host);
        let mut terminal = Terminal { _host: Process(host), keys, lines, leader, shown: Vec::new(), port: 0 };
        let pid = terminal.line(|line| line.starts_with("pid "));
        terminal.leader = pid[4..].parse().ok().and_then(Pid::from_raw).expect("a process id");
        let url = terminal.line(|line| line.starts_with("> http://"));
        terminal.port = url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
        terminal
    }

    /// Returns the next line that `pick` accepts.
    fn line(&mut self, pick: impl Fn(&str) -> bool) -> String {
        let give_up = now() + PATIENCE;
        loop {
            let left = give_up.saturating_duration_since(now());
            let next = self.lines.recv_timeout(left);
            let line = next.unwrap_or_else(|_| panic!("no such line among {:#?}", self.shown));
            self.shown.push(line.clone());
            if pick(&line) {
                return line;
            }
        }
    }

    fn press_ctrl_c(&mut self) {
        self.keys.as_mut().unwrap().write_all(b"\x03").unwrap();
    }

    fn close(&mut self) {
        self.keys = None;
    }

    fn exit_code(&mut self) -> i32 {
        self.line(|line| line.starts_with("exit "))[5..].parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.leader, signal).expect("the server runs");
    }

    fn is_reached(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = kill_process_group(self.leader, Signal::KILL);
    }
}

fn python() -> Option<PathBuf> {
    program(&["python3"], "WHIRLIGIG_REQUIRE_CLIENTS")
}

/// Starts a download. Returns the client and the bytes after the head.
fn download(port: u16) -> (Client, Vec<u8>) {
    let mut client = Client::connect_narrow(port);
    client.send(get("/m5.bin"));
    let mut taken = client.read_some(4096);
    let head = taken.windows(4).position(|four| four == b"\r\n\r\n").expect("the head") + 4;
    (client, taken.split_off(head))
}

#[test]
fn a_closed_terminal_is_a_graceful_stop() {
    let Some(python) = python() else { return };
    let docroot = Docroot::new();
    let content = pattern(5 * 1024 * 1024);
    let root = docroot.root();
    on_both(|model| {
        let flags = ["--model", model, root.to_str().unwrap()];
        let mut terminal = Terminal::start(&python, "plain", &[], &flags);
        let (mut client, mut taken) = download(terminal.port);
        terminal.close();
        until("new clients are refused", || !terminal.is_reached());
        while taken.len() < content.len() {
            let piece = client.read_some(50_000);
            assert!(!piece.is_empty(), "ended after {} bytes", taken.len());
            taken.extend(piece);
        }
        assert!(taken == content, "other bytes than the file's");
        assert_eq!(terminal.exit_code(), 0);
    });
}

/// With a shell in between, the kernel signals the shell, and the server when the shell ends.
/// Several loops must all stop, although only one watches the terminal.
#[test]
fn a_terminal_closed_above_a_shell_stops_every_loop() {
    let Some(python) = python() else { return };
    let docroot = Docroot::new();
    let root = docroot.root();
    let shell = ["/bin/sh", "-c", "\"$@\"; true", "sh"];
    on_both(|model| {
        for loops in ["1", "3"] {
            let flags = ["--model", model, "--reactors", loops, root.to_str().unwrap()];
            let mut terminal = Terminal::start(&python, "plain", &shell, &flags);
            Client::connect(terminal.port).get("/hello.txt").expect(200).with_body(HELLO);
            terminal.close();
            until("the server has ended", || !terminal.is_reached());
            until("its process group has ended", || {
                kill_process_group(terminal.leader, Signal::CONT).is_err()
            });
        }
    });
}

#[test]
fn nohup_outlives_the_terminal() {
    let Some(python) = python() else { return };
    let docroot = Docroot::new();
    let root = docroot.root();
    on_both(|model| {
        let log = docroot.outside(&format!("nohup-{model}.log"));
        let flags = ["--model", model, "--access-log", log.to_str().unwrap(), root.to_str().unwrap()];
        let mut terminal = Terminal::start(&python, "nohup", &[], &flags);
        Client::connect(terminal.port).get("/hello.txt").expect(200);
        terminal.close();
        // The hang-up arrives before this signal. The reopened log shows that the server has
        // handled the hang-up.
        until("the line is written", || fs::read_to_string(&log).is_ok_and(|text| !text.is_empty()));
        fs::rename(&log, log.with_extension("1")).unwrap();
        terminal.signal(Signal::HUP);
        until("a new log exists", || log.exists());
        Client::connect(terminal.port).get("/hello.txt").expect(200).with_body(HELLO);
        terminal.signal(Signal::TERM);
        assert_eq!(terminal.exit_code(), 0);
    });
}

#[test]
fn a_hang_up_by_hand_reopens_the_log_in_a_terminal_too() {
    let Some(python) = python() else { return };
    let docroot = Docroot::new();
    let root = docroot.root();
    on_both(|model| {
        let log = docroot.outside(&format!("by-hand-{model}.log"));
        let flags = ["--model", model, "--access-log", log.to_str().unwrap(), root.to_str().unwrap()];
        let mut terminal = Terminal::start(&python, "plain", &[], &flags);
        for signal in [Signal::HUP, Signal::USR1, Signal::HUP] {
            fs::rename(&log, log.with_extension("1")).unwrap();
            terminal.signal(signal);
            until("a new log exists", || log.exists());
            Client::connect(terminal.port).get("/hello.txt").expect(200);
        }
        terminal.press_ctrl_c();
        assert_eq!(terminal.exit_code(), 0, "nothing was under way");
        let shown = terminal.shown.join("\n");
        assert!(shown.contains("press Ctrl-C to stop") && !shown.contains("waiting"), "{shown}");
    });
}

#[test]
fn ctrl_c_logs_at_once_what_the_stop_waits_for() {
    let Some(python) = python() else { return };
    let docroot = Docroot::new();
    let root = docroot.root();
    on_both(|model| {
        let flags = ["--model", model, "--drain-timeout", "60", root.to_str().unwrap()];
        let mut terminal = Terminal::start(&python, "plain", &[], &flags);
        let mut idle = Client::connect(terminal.port);
        idle.get("/hello.txt").expect(200);
        let (_client, _) = download(terminal.port);
        terminal.press_ctrl_c();
        let line = terminal.line(|line| line.contains("stopping"));
        assert!(line.contains("waiting for 1 re"), "{line}");
        assert!(line.ends_with(", 60 s at most; press Ctrl-C again to stop now"), "{line}");
        terminal.press_ctrl_c();
        assert_eq!(terminal.exit_code(), 130);
    });
}
