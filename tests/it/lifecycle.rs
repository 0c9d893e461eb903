//! Life cycle of the process: its start, its errors at the start, and its end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::docroot::{Docroot, HELLO, pattern};
use crate::harness::{
    Process, Server, assert_took, bare_command, binary, command, now, on_both, pass, program, run, until,
};
use crate::wire::{Client, get, request};

/// Returns a connection on which one response has arrived.
fn used(port: u16) -> Client {
    let mut client = Client::connect(port);
    client.get("/hello.txt").expect(200).with_body(HELLO);
    client
}

/// Starts a download and reads only its head and a few bytes.
fn download(port: u16) -> (Client, Vec<u8>) {
    let mut client = Client::connect_narrow(port);
    client.send(get("/m5.bin"));
    let mut taken = client.read_some(4096);
    let head = taken.windows(4).position(|four| four == b"\r\n\r\n").expect("the head") + 4;
    (client, taken.split_off(head))
}

#[test]
fn a_stop_lets_downloads_finish_and_nothing_else() {
    let docroot = Docroot::new();
    let content = pattern(5 * 1024 * 1024);
    on_both(|model| {
        for signal in [Signal::TERM, Signal::INT] {
            let mut server = Server::start(model, &docroot.root(), &[]);
            let mut idle: Vec<Client> = (0..10).map(|_| used(server.port)).collect();
            let (mut client, mut taken) = download(server.port);
            server.signal(signal);
            for client in &mut idle {
                client.assert_closed();
            }
            until("new clients are refused", || TcpStream::connect(("127.0.0.1", server.port)).is_err());
            assert!(server.is_running());
            while taken.len() < content.len() {
                let piece = client.read_some(50_000);
                assert!(!piece.is_empty(), "ended after {} bytes", taken.len());
                taken.extend(piece);
            }
            assert!(taken == content, "the bytes differ from the file");
            client.assert_closed();
            assert_eq!(server.wait_exit(), 0);
        }
    });
}

#[test]
fn a_stop_finishes_the_request_under_way() {
    let docroot = Docroot::new();
    on_both(|model| {
        let mut server = Server::start(model, &docroot.root(), &[]);
        let mut idle = used(server.port);
        let mut client = Client::connect(server.port);
        let send = request("POST", "/api/echo", &["Expect: 100-continue"], b"hello");
        client.send(&send[..send.len() - 5]);
        // The 100 shows that the server has read the request.
        assert!(client.read_some(1000).starts_with(b"HTTP/1.1 100 "));
        server.signal(Signal::TERM);
        idle.assert_closed();
        client.send("hello");
        let got = client.response().expect(200).with_body("hello");
        assert!(got.says_close(), "the last response announces the close: {got:?}");
        client.assert_closed();
        assert_eq!(server.wait_exit(), 0);
    });
}

#[test]
fn a_stop_without_clients_is_immediate() {
    let docroot = Docroot::new();
    on_both(|model| {
        let mut server = Server::start(model, &docroot.root(), &[]);
        used(server.port);
        let since = now();
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 0);
        assert_took("a stop without clients", since, 0.0..2.0);
    });
}

#[test]
fn a_second_signal_stops_at_once() {
    let docroot = Docroot::new();
    on_both(|model| {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            let mut server = Server::start(model, &docroot.root(), &[]);
            let mut idle = used(server.port);
            let (_client, _) = download(server.port);
            server.signal(signal);
            idle.assert_closed();
            let since = now();
            server.signal(signal);
            assert_eq!(server.wait_exit(), code);
            assert_took("the second signal", since, 0.0..2.0);
        }
    });
}

#[test]
fn a_stop_cuts_off_and_counts_clients_that_do_not_finish() {
    let docroot = Docroot::new();
    on_both(|model| {
        let mut server = Server::start(model, &docroot.root(), &["--drain-timeout", "0.5"]);
        let (_client, _) = download(server.port);
        let since = now();
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 1);
        assert_took("the cut", since, 0.45..3.0);
        until("the count is logged", || server.err.text().contains('1'));
    });
}

#[test]
fn a_hang_up_does_not_stop_the_server_and_reopens_the_log() {
    let docroot = Docroot::new();
    on_both(|model| {
        let log = docroot.outside(&format!("{model}.log"));
        let path = log.to_str().unwrap();
        let mut server = Server::start(model, &docroot.root(), &["--access-log", path]);
        used(server.port);
        until("the request is logged", || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("/hello.txt"))
        });
        let old = log.with_extension("log.1");
        fs::rename(&log, &old).unwrap();
        server.signal(Signal::HUP);
        until("a new log exists", || log.exists());
        let mut client = used(server.port);
        client.get("/after-the-signal").expect(404);
        until("requests reach the new log", || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("/after-the-signal"))
        });
        assert!(!fs::read_to_string(&old).unwrap().contains("/after-the-signal"));
        assert!(server.is_running());
    });
}

#[test]
fn a_hang_up_without_a_log_is_harmless() {
    let docroot = Docroot::new();
    on_both(|model| {
        let mut server = Server::start(model, &docroot.root(), &[]);
        let mut client = used(server.port);
        for _ in 0..3 {
            server.signal(Signal::HUP);
            client.get("/hello.txt").expect(200);
            used(server.port);
        }
        assert!(server.is_running());
    });
}

/// The signals arrive directly after the banner, before any request: the server installs its
/// handlers before it prints the banner.
#[test]
fn signals_of_other_servers_do_not_stop_it_and_sigusr1_reopens_the_log() {
    let docroot = Docroot::new();
    on_both(|model| {
        let log = docroot.outside(&format!("usr-{model}.log"));
        let flags = ["--reactors", "2", "--access-log", log.to_str().unwrap()];
        let mut server = Server::start(model, &docroot.root(), &flags);
        server.signal(Signal::USR2);
        fs::rename(&log, log.with_extension("1")).unwrap();
        server.signal(Signal::USR1);
        until("a new log exists", || log.exists());
        server.signal(Signal::USR2);
        let mut client = used(server.port);
        client.get("/after-the-signal").expect(404);
        until("requests reach the new log", || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("/after-the-signal"))
        });
        assert!(server.is_running());
    });
}

#[test]
fn sigquit_stops_gracefully_and_a_second_one_at_once() {
    let docroot = Docroot::new();
    on_both(|model| {
        let mut server = Server::start(model, &docroot.root(), &[]);
        server.signal(Signal::QUIT);
        assert_eq!(server.wait_exit(), 0);
        let mut server = Server::start(model, &docroot.root(), &[]);
        let (_client, _) = download(server.port);
        server.signal(Signal::QUIT);
        until("the server waits", || server.err.text().contains("a second SIGQUIT stops now"));
        server.signal(Signal::QUIT);
        assert_eq!(server.wait_exit(), 131);
        // Two signals that arrive together count as two.
        let mut server = Server::start(model, &docroot.root(), &["--drain-timeout", "60"]);
        let (_client, _) = download(server.port);
        server.signal(Signal::INT);
        server.signal(Signal::TERM);
        assert!([130, 143].contains(&server.wait_exit()));
    });
}

#[test]
fn a_stop_logs_what_it_waits_for() {
    let docroot = Docroot::new();
    on_both(|model| {
        let loops = if model == "reactor" { "2" } else { "1" };
        let flags = ["--reactors", loops, "--drain-timeout", "20"];
        let mut server = Server::start(model, &docroot.root(), &flags);
        let _idle: Vec<Client> = (0..4).map(|_| used(server.port)).collect();
        let _downloads: Vec<_> = (0..3).map(|_| download(server.port)).collect();
        let mut upload = Client::connect(server.port);
        let send = request("POST", "/api/echo", &["Expect: 100-continue"], b"hello");
        upload.send(&send[..send.len() - 5]);
        assert!(upload.read_some(1000).starts_with(b"HTTP/1.1 100 "));
        server.signal(Signal::TERM);
        until("the message is logged", || server.err.text().contains("stopping"));
        let text = server.err.text();
        assert_eq!(text.matches("stopping").count(), 1, "one line for all loops: {text}");
        assert!(text.contains("20 s at most; a second signal stops now"), "{text}");
        // A thread of the twin that has sent its response may still be counted as busy.
        let counts = text.split_once("waiting for ").unwrap().1.split(", 20 s").next().unwrap();
        let total: u32 = counts.split(' ').filter_map(|word| word.parse::<u32>().ok()).sum();
        assert!(if model == "reactor" { total == 4 } else { total >= 4 }, "{text}");
        assert!(
            model != "reactor" || counts == "3 responses being sent and 1 request being received",
            "{text}"
        );
        server.signal(Signal::INT);
        assert_eq!(server.wait_exit(), 130);

        let mut server = Server::start(model, &docroot.root(), &[]);
        let _idle = used(server.port);
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 0);
        assert!(!server.err.text().contains("waiting"), "{}", server.err.text());
    });
}

/// Asserts that the program ended with one line that contains `word`, and started nothing.
#[track_caller]
fn assert_refuses(more: &[&str], codes: &[i32], word: &str) {
    let ended = run(bare_command().args(more));
    let what = format!("{more:?} gave {:?}:\nstdout: {}\nstderr: {}", ended.code, ended.out, ended.err);
    assert!(ended.code.is_some_and(|code| codes.contains(&code)), "{what}");
    assert_eq!(ended.err.trim_end().lines().count(), 1, "one line, {what}");
    assert!(ended.err.contains(word), "{word:?} in the line, {what}");
    assert!(!ended.err.contains("panicked") && !ended.err.contains('\u{1b}'), "{what}");
    assert!(!ended.out.contains("http://"), "{what}");
}

#[test]
fn errors_at_the_start_are_reported_in_one_line() {
    let docroot = Docroot::new();
    let root = docroot.root();
    let root = root.to_str().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let missing = docroot.path("no-such-folder");
    let log = missing.join("access.log");
    let (missing, log) = (missing.to_str().unwrap(), log.to_str().unwrap());
    assert_refuses(&["--port", &port, root], &[1], &port);
    assert_refuses(&["--bind", &format!("127.0.0.1:{port}"), root], &[1], &port);
    assert_refuses(&["--port", "0", missing], &[1, 2], "no-such-folder");
    assert_refuses(&["--port", "0", "--access-log", log, root], &[1, 2], "access.log");
    assert_refuses(&["--port", "0", "--access-log", root, root], &[1, 2], root);
    assert_refuses(&["--port", "0", "--bind", "192.0.2.1", root], &[1], "192.0.2.1");
    assert_refuses(&["--frobnicate", root], &[2], "--frobnicate");
    assert_refuses(&["--port", "many", root], &[2], "many");
    assert_refuses(&["--port", "65536", root], &[2], "65536");
    assert_refuses(&["--port", "-1", root], &[2], "-1");
    assert_refuses(&["--model", "fibres", root], &[2], "fibres");
    assert_refuses(&["--header-timeout", "soon", root], &[2], "soon");
    assert_refuses(&["--header-timeout", "-1", root], &[2], "-1");
    assert_refuses(&["--header-timeout", "NaN", root], &[2], "NaN");
    assert_refuses(&["--max-head", "-5", root], &[2], "-5");
    assert_refuses(&["--max-body", "much", root], &[2], "much");
    assert_refuses(&["--bind", "nowhere at all", root], &[2], "nowhere at all");
    assert_refuses(&["--log-format", "poetry", root], &[2], "poetry");
    assert_refuses(&[root, root], &[2], root);
}

#[test]
fn a_setting_from_the_environment_is_checked_like_a_flag() {
    let docroot = Docroot::new();
    let ended = run(bare_command().env("WHIRLIGIG_PORT", "many").arg(docroot.root()));
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert_eq!(ended.err.trim_end().lines().count(), 1, "{}", ended.err);
    on_both(|model| {
        let mut from_environment = bare_command();
        from_environment.env("WHIRLIGIG_PORT", "0").env("WHIRLIGIG_MODEL", model).arg(docroot.root());
        let server = Server::launch(from_environment);
        used(server.port);
        // A flag overrides the environment.
        let mut both = command(model, &docroot.root(), &[]);
        both.env("WHIRLIGIG_PORT", "1");
        assert_ne!(Server::launch(both).port, 1);
    });
}

/// Port 8080 may be in use on the test machine. The test binds it, if no other process has.
#[test]
fn a_taken_default_port_is_replaced_by_the_next_free_one() {
    let docroot = Docroot::new();
    let _holder = TcpListener::bind("127.0.0.1:8080");
    on_both(|model| {
        let mut command = bare_command();
        command.args(["--model", model]).arg(docroot.root());
        let server = Server::launch(command);
        assert_ne!(server.port, 8080);
        used(server.port);
        let said = format!("{}{}", server.out.text(), server.err.text());
        assert!(said.contains("8080"), "the message about the taken port: {said}");
    });
}

#[test]
fn a_port_can_be_used_again_at_once() {
    let docroot = Docroot::new();
    on_both(|model| {
        let mut first = Server::start(model, &docroot.root(), &[]);
        let port = first.port;
        let clients: Vec<Client> = (0..20).map(|_| used(port)).collect();
        first.signal(Signal::TERM);
        assert_eq!(first.wait_exit(), 0);
        let mut command = bare_command();
        command.args(["--model", model, "--port", &port.to_string()]).arg(docroot.root());
        let second = Server::launch(command);
        assert_eq!(second.port, port);
        used(port);
        drop(clients);
    });
}

#[test]
fn help_and_version_are_no_errors() {
    let help = run(bare_command().arg("--help"));
    assert_eq!(help.code, Some(0));
    for word in ["--port", "--model", "--header-timeout", "--access-log", "--max-body", "8080"] {
        assert!(help.out.contains(word), "{word} in the help:\n{}", help.out);
    }
    let version = run(bare_command().arg("--version"));
    assert_eq!(version.code, Some(0));
    assert_eq!(version.out.trim(), format!("whirligig {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn no_colour_without_a_terminal() {
    let docroot = Docroot::new();
    on_both(|model| {
        let mut piped = command(model, &docroot.root(), &["-vv", "--access-log", "-"]);
        piped.env_remove("NO_COLOR");
        let mut asked = command(model, &docroot.root(), &["-vv", "--access-log", "-"]);
        asked.env("NO_COLOR", "1");
        for command in [piped, asked] {
            let mut server = Server::launch(command);
            used(server.port);
            until("the request is logged", || server.out.text().contains("/hello.txt"));
            server.signal(Signal::TERM);
            assert_eq!(server.wait_exit(), 0);
            let said = format!("{}{}", server.out.text(), server.err.text());
            assert!(!said.contains('\u{1b}'), "an escape sequence in {said:?}");
        }
    });
}

/// A process that reads the URL and exits, such as `| head -1`, must not end the server.
#[test]
fn a_closed_output_does_not_stop_the_server() {
    let docroot = Docroot::new();
    on_both(|model| {
        let child = command(model, &docroot.root(), &["-vv", "--access-log", "-"]).spawn().unwrap();
        let mut process = Process(child);
        let mut line = String::new();
        let mut err = BufReader::new(process.0.stderr.take().unwrap());
        while !line.starts_with("http://") {
            line.clear();
            assert_ne!(err.read_line(&mut line).unwrap(), 0, "no URL");
        }
        drop((err, process.0.stdout.take()));
        let port: u16 = line.trim().trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
        for _ in 0..50 {
            let mut client = used(port);
            client.get("/nothing").expect(404);
            client.get("/link-out.txt");
        }
        // Longer than the delay of the log, so that the writes have failed by now.
        assert!(used(port).is_quiet_for(Duration::from_millis(300)));
        used(port);
    });
}

#[test]
fn a_full_disk_for_diagnostics_does_not_stop_the_server() {
    let docroot = Docroot::new();
    on_both(|model| {
        let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
        let mut to_full = command(model, &docroot.root(), &["-vv", "--access-log", "/dev/full"]);
        to_full.stderr(full());
        let mut server = Server::launch(to_full);
        for _ in 0..50 {
            used(server.port).get("/nothing").expect(404);
        }
        assert!(used(server.port).is_quiet_for(Duration::from_millis(300)));
        used(server.port);
        assert!(server.is_running());
    });
}

/// If descriptors run out, the server does not end or spin, and it serves again as soon as one is
/// free.
#[test]
fn the_server_waits_when_descriptors_run_out() {
    let docroot = Docroot::new();
    on_both(|model| {
        let Some(shell) = program(&["sh"], "WHIRLIGIG_REQUIRE_CLIENTS") else { return };
        let mut limited = Command::new(shell);
        limited.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]).arg(binary());
        limited.args(["--model", model, "--port", "0"]).arg(docroot.root());
        limited.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut server = Server::launch(limited);
        for _ in 0..2 {
            let crowd: Vec<TcpStream> =
                (0..200).map(|_| TcpStream::connect(("127.0.0.1", server.port)).unwrap()).collect();
            // Time in which the server would spin.
            pass(Duration::from_millis(200));
            let before = server.cpu();
            pass(Duration::from_millis(500));
            let spent = server.cpu() - before;
            assert!(spent < Duration::from_millis(200), "{spent:?} of 500 ms for nothing");
            drop(crowd);
            until("clients are served again", || {
                let mut client = Client::connect(server.port);
                client.send_if_open(get("/hello.txt"));
                client.try_response("GET").is_ok_and(|got| got.status == 200)
            });
        }
        assert!(server.is_running());
    });
}
