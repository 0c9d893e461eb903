//! System calls per request, counted from outside.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::docroot::{Docroot, HELLO};
use crate::harness::{Process, Server, assert_took, binary, left_out, now, on_both, program, run, until};
use crate::wire::Client;

const REQUIRED: &str = "WHIRLIGIG_REQUIRE_CLIENTS";
const REQUESTS: u64 = 10_000;
const CONNECTIONS: u64 = 2_000;

/// Parses the calls by name from the table of `strace -c`.
pub(crate) fn counts(table: &str) -> BTreeMap<String, u64> {
    let rows = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Columns: % time, seconds, usecs/call, calls, [errors], name
        let calls = words.get(3)?.parse().ok()?;
        words.first()?.parse::<f64>().ok()?;
        Some(((*words.last()?).to_owned(), calls))
    });
    rows.filter(|(name, _)| name != "total").collect()
}

#[test]
fn a_request_for_a_cached_file_is_one_read_and_one_write() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        settle(&server, &mut client);
        let traced = traced(&server, &docroot.outside(model), || {
            for _ in 0..REQUESTS {
                client.get("/hello.txt").expect(200).with_body(HELLO);
            }
        });
        if let Some((table, lasted_ms)) = traced {
            judge(model, &table, lasted_ms);
        }
    });
}

/// The bytes of a client have arrived when its connection is accepted, so no wait is needed.
#[test]
fn a_connection_for_one_request_is_never_registered() {
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &[]);
    let mut witness = Client::connect(server.port);
    settle(&server, &mut witness);
    let traced = traced(&server, &docroot.outside("calls"), || {
        for _ in 0..CONNECTIONS {
            let mut client = Client::connect(server.port);
            client.ask("GET", "/hello.txt", &["Connection: close"], b"").expect(200).with_body(HELLO);
            client.assert_closed();
        }
        // strace counts a call when it returns, and the last client sees its close before that. The
        // response to a later request shows that the call has returned.
        witness.get("/hello.txt").expect(200);
    });
    let Some((table, lasted_ms)) = traced else { return };
    let counts = counts(&table);
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    for name in ["recvfrom", "sendto", "close"] {
        assert!((CONNECTIONS..=CONNECTIONS + 20).contains(&count(name)), "{name}\n{table}");
    }
    assert!(count("epoll_ctl") < 20, "{table}");
    // Each accept loop ends with one call that finds no connection.
    assert!(count("accept4") <= 2 * CONNECTIONS + 20, "{table}");
    // In an unoptimised build, the standard library checks whether a descriptor is open before it
    // closes it.
    assert!(count("fcntl") <= CONNECTIONS + 20, "{table}");
    let named = ["recvfrom", "sendto", "close", "fcntl", "epoll_ctl", "accept4", "epoll_wait", "epoll_pwait"];
    let all: u64 = counts.values().sum();
    let others = all - named.map(count).iter().sum::<u64>();
    // Checks of the file and of the name of the root, each at most twice per millisecond.
    assert!(others <= 4 * lasted_ms + 100, "{others} other calls in {lasted_ms} ms\n{table}");
}

/// A job's result, a scrape and the next piece of a long response each need to wake the loop. One
/// failed write to the wake-up descriptor used to stop all of them for ever.
#[test]
fn failed_wake_ups_delay_results_by_a_second_and_lose_none() {
    let docroot = Docroot::new();
    fs::create_dir(docroot.root().join("folder")).unwrap();
    let long: Vec<u8> = (0..40_000_u32).flat_map(|number| number.to_string().into_bytes()).collect();
    fs::write(docroot.root().join("long.txt"), &long).unwrap();
    on_both(|model| {
        for inject in ["write:error=EINTR:when=1+3", "write:error=EINTR", "write:error=EIO"] {
            let server = Server::start(model, &docroot.root(), &["--fresh", "0", "--metrics"]);
            let listing = |client: &mut Client| client.get("/folder/?json").expect(200);
            let failed = failing(&server, inject, || {
                for _ in 0..2 {
                    let since = now();
                    let mut client = Client::connect(server.port);
                    listing(&mut client);
                    client.get("/_whirligig/metrics").expect(200);
                    assert_took(inject, since, 0.0..4.0);
                }
                let mut client = Client::connect(server.port);
                client.ask("GET", "/long.txt", &["Accept-Encoding: gzip"], b"").expect(200);
            });
            if !failed {
                return;
            }
            // The failure has no later effects: from here on nothing waits for the periodic check.
            let mut client = Client::connect(server.port);
            listing(&mut client);
            let since = now();
            for _ in 0..20 {
                listing(&mut client);
            }
            assert_took("20 listings", since, 0.0..5.0);
        }
    });
}

/// Makes system calls of the server fail during `work`, by strace's `inject`. Returns false if
/// strace may not trace.
pub(crate) fn failing(server: &Server, inject: &str, work: impl FnOnce()) -> bool {
    let Some(strace) = program(&["strace"], REQUIRED) else { return false };
    let pid = Pid::as_raw(Some(server.pid())).to_string();
    let inject = format!("inject={inject}");
    let tracer = Command::new(&strace)
        .args(["-f", "-p", &pid, "-o", "/dev/null", "-e", &inject])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut tracer = Process(tracer);
    let Some(_said) = attached(&mut tracer) else {
        left_out("strace may not trace another process here", REQUIRED);
        return false;
    };
    work();
    kill_process(Pid::from_child(&tracer.0), Signal::INT).unwrap();
    tracer.0.wait().unwrap();
    true
}

/// Requests the file until it is in the cache and old enough to be trusted there.
pub(crate) fn settle(server: &Server, client: &mut Client) {
    until("the file is in the cache", || {
        client.get("/hello.txt").expect(200);
        now().duration_since(server.started) > Duration::from_millis(100)
    });
}

/// Returns the table of the server's calls during `work`, written to `path`, and the duration in
/// milliseconds. Returns `None` if strace is missing or may not trace.
pub(crate) fn traced(server: &Server, path: &Path, work: impl FnOnce()) -> Option<(String, u64)> {
    let strace = program(&["strace"], REQUIRED)?;
    let pid = Pid::as_raw(Some(server.pid())).to_string();
    let tracer = Command::new(&strace)
        .args(["-c", "-f", "-p", &pid, "-o", path.to_str().unwrap()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut tracer = Process(tracer);
    // Kept until the end, because a tracer with a closed standard error does not write its table.
    let Some(_said) = attached(&mut tracer) else {
        left_out("strace may not trace another process here", REQUIRED);
        return None;
    };
    let since = now();
    work();
    let lasted_ms = u64::try_from(now().duration_since(since).as_millis()).unwrap();
    kill_process(Pid::from_child(&tracer.0), Signal::INT).unwrap();
    tracer.0.wait().unwrap();
    Some((fs::read_to_string(path).unwrap(), lasted_ms))
}

/// An old kernel or a sandbox has no openat2. The server reports this at the start, instead of a
/// 500 for every request.
#[test]
fn without_openat2_the_server_does_not_start() {
    let Some(strace) = program(&["strace"], REQUIRED) else { return };
    let docroot = Docroot::new();
    for errno in ["ENOSYS", "EPERM", "EINVAL"] {
        let inject = format!("inject=openat2:error={errno}");
        let mut command = Command::new(&strace);
        command.args(["-f", "-o", "/dev/null", "-e", &inject]).arg(binary()).args(["--port", "0"]);
        let ended = run(command.arg(docroot.root()));
        if ended.err.contains("ptrace") {
            return left_out("strace may not trace another process here", REQUIRED);
        }
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{}", ended.err);
        assert!(ended.err.contains("openat2") && ended.err.contains("Linux 5.12"), "{}", ended.err);
        assert_eq!(ended.err.trim_end().lines().count(), 1, "{}", ended.err);
    }
}

/// Waits until the tracer reports that it has attached or that it cannot.
pub(crate) fn attached(tracer: &mut Process) -> Option<BufReader<ChildStderr>> {
    let mut said = BufReader::new(tracer.0.stderr.take().unwrap());
    let mut line = String::new();
    while said.read_line(&mut line).is_ok_and(|count| count > 0) {
        if line.contains("attached") {
            return Some(said);
        }
        line.clear();
    }
    None
}

fn judge(model: &str, table: &str, lasted_ms: u64) {
    let counts = counts(table);
    let sum = |names: &[&str]| names.iter().filter_map(|name| counts.get(*name)).sum::<u64>();
    let reads = sum(&["read", "recvfrom", "recvmsg", "readv"]);
    let writes = sum(&["write", "sendto", "sendmsg", "writev"]);
    let waits = sum(&["epoll_wait", "epoll_pwait", "epoll_pwait2"]);
    // The cache checks a file, and the root its name, at most twice per millisecond, or once per
    // turn each.
    let looks = sum(&["statx", "openat2", "newfstatat", "fstat"]);
    let all: u64 = counts.values().sum();
    // One less if the tracer attached while the server was already blocked in a read.
    let about_one_each = REQUESTS - 2..=REQUESTS + 200;
    assert!(about_one_each.contains(&reads), "{reads} reads on {model}\n{table}");
    assert!(about_one_each.contains(&writes), "{writes} writes on {model}\n{table}");
    assert!(waits <= REQUESTS + 200, "{waits} waits on {model}\n{table}");
    assert!(looks <= 4 * lasted_ms + 50, "{looks} checks of the disk in {lasted_ms} ms on {model}\n{table}");
    let others = all - reads - writes - waits - looks;
    assert!(others < 200, "{others} other calls on {model}\n{table}");
}
