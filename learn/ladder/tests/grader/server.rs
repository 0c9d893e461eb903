//! A stage as a process, and clients with real sockets.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::{Lesson, Subject, lesson, shown};

/// The server of a stage. It ends with the check.
pub struct Server {
    child: Child,
    /// Kept, because a closed pipe would be an error for a process that prints.
    _out: Option<BufReader<ChildStdout>>,
    address: SocketAddr,
    patience: Duration,
    /// Messages of the process, for example of a panic.
    messages: Arc<Mutex<String>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub fn start(subject: &Subject) -> Result<Server, Lesson> {
        let trouble = |what: String| lesson(what, "a process that prints its address");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ladder"));
        command.args(subject.is_solution.then_some("solution")).arg(subject.stage.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| trouble(error.to_string()))?;
        let mut line = String::new();
        let mut out = child.stdout.take().map(BufReader::new);
        let read = out.as_mut().map(|out| out.read_line(&mut line));
        let messages = Arc::new(Mutex::new(String::new()));
        if let Some(err) = child.stderr.take() {
            let kept = Arc::clone(&messages);
            thread::spawn(move || {
                for line in BufReader::new(err).lines().map_while(Result::ok) {
                    if let Ok(mut kept) = kept.lock() {
                        *kept += &format!("\n{line}");
                    }
                }
            });
        }
        let address = line.trim().rsplit(' ').next().and_then(|word| word.parse().ok());
        let address = address.ok_or_else(|| trouble(format!("the server printed {line:?} ({read:?})")))?;
        Ok(Server { child, _out: out, address, patience: subject.patience, messages })
    }

    /// Connects a client. The kernel completes a connection also if the server does not accept it.
    pub fn connect(&self, name: &'static str) -> Result<Client<'_>, Lesson> {
        let connect = || {
            let stream = TcpStream::connect(self.address)?;
            stream.set_read_timeout(Some(self.patience))?;
            stream.set_write_timeout(Some(self.patience))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let refused = |error: std::io::Error| {
            lesson(format!("{name} could not connect: {error}{}", self.end()), "a server that listens")
        };
        Ok(Client { stream: connect().map_err(refused)?, name, server: self })
    }

    /// Returns true if the process runs or could run, and how often it went to sleep so far.
    pub fn look(&self) -> Option<(bool, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let sleeps = field("voluntary_ctxt_switches:")?.parse().ok()?;
        Some((field("State:")?.starts_with('R'), sleeps))
    }

    /// Stops the process with a signal and lets it go on, as Ctrl-Z and `fg` do. Returns false if
    /// the process does not take part.
    pub fn pause(&self) -> bool {
        self.signal("STOP") && self.comes_to('T') && self.signal("CONT")
    }

    fn signal(&self, name: &str) -> bool {
        let mut kill = Command::new("kill");
        kill.args(["-s", name, &self.child.id().to_string()]).status().is_ok_and(|status| status.success())
    }

    /// Waits until the process is in a state, such as `S` for one that waits.
    pub fn comes_to(&self, state: char) -> bool {
        let status = format!("/proc/{}/status", self.child.id());
        let began = Instant::now();
        while began.elapsed() < self.patience {
            let text = fs::read_to_string(&status).unwrap_or_default();
            if text.contains(&format!("\nState:\t{state}")) {
                return true;
            }
            thread::yield_now();
        }
        false
    }

    /// A sentence about the end of the process, if it printed something.
    fn end(&self) -> String {
        let messages = self.messages.lock().map(|text| text.clone()).unwrap_or_default();
        if messages.is_empty() { String::new() } else { format!("\nthe server printed:{messages}") }
    }
}

/// A client with a real socket.
pub struct Client<'s> {
    stream: TcpStream,
    name: &'static str,
    server: &'s Server,
}

impl Client<'_> {
    pub fn send(&mut self, text: &str) -> Result<(), Lesson> {
        let name = self.name;
        self.stream.write_all(text.as_bytes()).map_err(|error| {
            let what = format!("{name} could not send {text:?}: {error}{}", self.server.end());
            lesson(what, "an open connection, until the client closes it")
        })
    }

    /// Waits for these bytes.
    pub fn expect(&mut self, text: &str, why: &str) -> Result<(), Lesson> {
        let mut got = Vec::new();
        let mut bytes = vec![0; 65_536];
        let ended = loop {
            if got.len() >= text.len() {
                break None;
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => break Some("the server closed the connection".to_owned()),
                Ok(count) => got.extend_from_slice(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    break Some(format!("waited for {} s", self.server.patience.as_secs()));
                }
                Err(error) => break Some(format!("the connection broke: {error}")),
            }
        };
        if got == text.as_bytes() {
            return Ok(());
        }
        let end = ended.map(|end| format!(", and {end}")).unwrap_or_default();
        let what = format!("{} received {}{end}{}", self.name, shown(&got), self.server.end());
        Err(lesson(what, format!("{}: {why}", shown(text.as_bytes()))))
    }

    /// Sends a line and waits for it.
    pub fn echoes(&mut self, text: &str, why: &str) -> Result<(), Lesson> {
        self.send(text)?;
        self.expect(text, why)
    }

    /// Ends the client's side and waits for the end of the other.
    pub fn leaves(mut self, why: &str) -> Result<(), Lesson> {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        match self.stream.read(&mut [0; 64]) {
            Ok(0) => Ok(()),
            Ok(count) => {
                Err(lesson(format!("{} received {count} bytes that it had not sent", self.name), why))
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            Err(_) => {
                let (name, seconds) = (self.name, self.server.patience.as_secs());
                let what = format!(
                    "{name} shut the sending side, and after {seconds} s the server has not closed the connection{}",
                    self.server.end()
                );
                Err(lesson(what, why))
            }
        }
    }

    /// Sends a line, waits until its echo has arrived, and closes with the echo unread. This resets
    /// the connection.
    pub fn resets(mut self) -> Result<(), Lesson> {
        self.send("unread\n")?;
        let _ = self.stream.peek(&mut [0]);
        Ok(())
    }

    /// A second handle, for a thread that sends.
    pub fn sender(&self) -> std::io::Result<TcpStream> {
        self.stream.try_clone()
    }
}
