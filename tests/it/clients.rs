//! Common client programs, which sometimes send and expect surprising things.
//!
//! Tests of programs that are not installed are skipped, or fail with
//! `WHIRLIGIG_REQUIRE_CLIENTS=1`.

use std::fs;
use std::process::Command;

use crate::docroot::{Docroot, HELLO, pattern};
use crate::harness::{Finished, Server, on_both, program, run};

const REQUIRED: &str = "WHIRLIGIG_REQUIRE_CLIENTS";

#[track_caller]
fn succeed(command: &mut Command) -> Finished {
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{command:?}\nstdout: {}\nstderr: {}", ended.out, ended.err);
    ended
}

#[test]
fn curl_downloads_resumes_and_uploads() {
    let Some(curl) = program(&["curl"], REQUIRED) else { return };
    let docroot = Docroot::new();
    let content = pattern(5 * 1024 * 1024);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let scratch = tempfile::tempdir().unwrap();
        let curl = || {
            let mut command = Command::new(&curl);
            command
                .args(["--silent", "--show-error", "--fail", "--max-time", "8"])
                .current_dir(scratch.path());
            command
        };
        let url = |path: &str| format!("{}{path}", server.url);
        let hello = succeed(curl().arg(url("hello.txt")));
        assert_eq!(hello.out.as_bytes(), HELLO);
        let dump = succeed(curl().args(["--head", "--http1.0"]).arg(url("hello.txt")));
        assert!(dump.out.contains("200 OK"), "{}", dump.out);

        fs::write(scratch.path().join("part"), &content[..1_000_001]).unwrap();
        succeed(curl().args(["--continue-at", "-", "--output", "part"]).arg(url("m5.bin")));
        assert!(fs::read(scratch.path().join("part")).unwrap() == content, "the resumed file differs");

        // Above 1 MiB curl requests a 100 by itself. Below that a flag makes it do so.
        fs::write(scratch.path().join("up"), &content).unwrap();
        for more in
            [&[][..], &["--header", "Expect: 100-continue"], &["--header", "Transfer-Encoding: chunked"]]
        {
            succeed(
                curl()
                    .args(["--data-binary", "@up", "--output", "down"])
                    .args(more)
                    .args(["--write-out", "%{http_code} %{num_connects}"])
                    .arg(url("api/echo")),
            );
            assert!(
                fs::read(scratch.path().join("down")).unwrap() == content,
                "the echo differs with {more:?}"
            );
        }
        // One connection for many requests.
        let many = succeed(
            curl()
                .args(["--output", "/dev/null", "--write-out", "%{num_connects} "])
                .args([url("hello.txt"), url("k300.bin"), url("sub/")])
                .args(["--output", "/dev/null", "--output", "/dev/null"]),
        );
        assert_eq!(many.out.split_whitespace().collect::<Vec<_>>(), ["1", "0", "0"]);
    });
}

#[test]
fn wget_resumes() {
    let Some(wget) = program(&["wget"], REQUIRED) else { return };
    let docroot = Docroot::new();
    let content = pattern(5 * 1024 * 1024);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("m5.bin");
        let get = || {
            let mut command = Command::new(&wget);
            command.args(["--no-verbose", "--tries=1", "--timeout=8", "--continue", "--no-proxy"]);
            command.current_dir(scratch.path()).arg(format!("{}m5.bin", server.url));
            command
        };
        fs::write(&file, &content[..3_000_000]).unwrap();
        succeed(&mut get());
        assert!(fs::read(&file).unwrap() == content, "the resumed file differs");
        // Run wget again with the complete file: it requests bytes beyond the end and takes a 416
        // as done.
        succeed(&mut get());
        assert!(fs::read(&file).unwrap() == content, "the complete file was changed");
    });
}

#[test]
fn python_sends_32_mib_and_gets_them_back() {
    const SCRIPT: &str = "\
import http.client, sys
content = bytes(i * 7 % 251 for i in range(1 << 16)) * 512
connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=8)
for chunked in (False, True):
    body = (content[at:at + 100_000] for at in range(0, len(content), 100_000)) if chunked else content
    connection.request('POST', '/api/echo', body, {'Content-Type': 'x/y'}, encode_chunked=chunked)
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    assert answer.getheader('content-type') == 'x/y', answer.getheaders()
    assert answer.read() == content
connection.request('GET', '/hello.txt')
assert connection.getresponse().read() == b'hello, world\\n'
print('done')
";
    let Some(python) = program(&["python3"], REQUIRED) else { return };
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let ended = succeed(Command::new(&python).args(["-c", SCRIPT, &server.port.to_string()]));
        assert_eq!(ended.out.trim(), "done");
    });
}

#[test]
fn wrk_finds_no_error() {
    let Some(wrk) = program(&["wrk"], REQUIRED) else { return };
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        for path in ["hello.txt", "k33.bin", "k300.bin"] {
            let url = format!("{}{path}", server.url);
            let ended = succeed(Command::new(&wrk).args(["-t1", "-c32", "-d1s"]).arg(url));
            assert!(ended.out.contains("Requests/sec"), "{}", ended.out);
            assert!(!ended.out.contains("Socket errors") && !ended.out.contains("Non-2xx"), "{}", ended.out);
            let total = ended.out.lines().find_map(|line| line.trim().split_once(" requests in "));
            let count: u64 = total.and_then(|(count, _)| count.parse().ok()).expect("the number of requests");
            assert!(count > 100, "{}", ended.out);
        }
    });
}
