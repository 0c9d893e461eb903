//! Processes of programs: timeouts, limits, and the collection of those that have ended.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;

use crate::cgi::{HEAD, MIB, Programs, REQUIRED, children_of, gone};
use crate::docroot::{HELLO, pattern};
use crate::harness::{Server, assert_took, command, now, on_both, until};
use crate::wire::{Client, get, request};

#[test]
fn a_program_that_takes_too_long_is_killed() {
    let programs = Programs::new()
        .with("sleep", "echo $$ > $T/sleep.$SERVER_PORT; exec sleep 1000")
        .with("deaf", "echo $$ > $T/deaf.$SERVER_PORT; exec sleep 1000")
        .with(
            "endless",
            &format!("{HEAD}; echo $$ > $T/endless.$SERVER_PORT; while :; do echo x; sleep 0.05; done"),
        )
        .with("family", "sleep 1000 & echo $$ $! > $T/family.$SERVER_PORT; wait");
    on_both(|model| {
        let server = programs.serve(model, &["--cgi-timeout", "1", "--answer-timeout", "0.5"]);
        let mut client = Client::connect(server.port);
        let since = now();
        client.get("/cgi/sleep").expect(504);
        assert_took("the deadline", since, 0.9..4.0);
        gone(&programs.told(&format!("sleep.{}", server.port)));
        client.get("/cgi/family").expect(504);
        gone(&programs.told(&format!("family.{}", server.port)));
        // The program never reads, so the client cannot send everything.
        let mut sender = Client::connect(server.port);
        let mut other = sender.sender();
        let sending = std::thread::spawn(move || {
            other.send_if_open(request("POST", "/cgi/deaf", &[], &pattern(8 * MIB)));
        });
        sender.response().expect(504);
        gone(&programs.told(&format!("deaf.{}", server.port)));
        drop(sender);
        sending.join().unwrap();
        // The head is already sent, so only the missing end shows the error.
        client.send(get("/cgi/endless"));
        let (rest, _) = client.rest();
        assert!(rest.starts_with(b"HTTP/1.1 200 OK\r\n") && !rest.ends_with(b"0\r\n\r\n"), "{}", rest.len());
        gone(&programs.told(&format!("endless.{}", server.port)));
    });
}

#[test]
fn a_program_that_dies_half_way_leaves_a_truncated_response() {
    let programs = Programs::new()
        .with("killed", &format!("{HEAD}; echo half; kill -9 $$"))
        .with("short", "printf 'Content-Type: text/plain\\nContent-Length: 10\\n\\nhalf'")
        .with("failed", &format!("{HEAD}; echo whole; exit 1"));
    on_both(|model| {
        let server = programs.serve(model, &[]);
        for name in ["killed", "short"] {
            let mut client = Client::connect(server.port);
            client.send(get(&format!("/cgi/{name}")));
            let (rest, _) = client.rest();
            let text = String::from_utf8_lossy(&rest);
            assert!(text.contains("half") && !text.ends_with("0\r\n\r\n"), "{name}: {text}");
        }
        // The exit code of a script is that of its last command, which means little.
        assert_eq!(Client::connect(server.port).get("/cgi/failed").expect(200).text(), "whole\n");
    });
}

#[test]
fn a_background_process_does_not_delay_the_response() {
    let programs = Programs::new()
        .with("holds", &format!("{HEAD}; echo done; sleep 1000 & echo $! > $T/holds.$SERVER_PORT"))
        .with(
            "works",
            &format!("{HEAD}; echo done; exec >&-; echo $$ > $T/works.$SERVER_PORT; exec sleep 1000"),
        );
    on_both(|model| {
        let server = programs.serve(model, &["--cgi-timeout", "4"]);
        let mut client = Client::connect(server.port);
        for name in ["holds", "works"] {
            let since = now();
            assert_eq!(client.get(&format!("/cgi/{name}")).expect(200).text(), "done\n", "{name}");
            assert_took(name, since, 0.0..3.5);
        }
        // A program without a client has the same deadline.
        gone(&programs.told(&format!("works.{}", server.port)));
        let left = programs.told(&format!("holds.{}", server.port));
        let pid = rustix::process::Pid::from_raw(left.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).expect("the program still runs");
    });
}

#[test]
fn the_number_of_running_programs_is_limited() {
    let programs = Programs::new().with(
        "wait",
        &format!("echo $$ > $T/wait.$SERVER_PORT.$QUERY_STRING; {HEAD}; until [ -e $T/gate.$SERVER_PORT ]; do sleep 0.05; done; echo open"),
    );
    on_both(|model| {
        let server = programs.serve(model, &["--cgi-max", "2"]);
        let gate = programs.at(&format!("gate.{}", server.port));
        let mut clients = Vec::new();
        for number in 0..2 {
            let mut client = Client::connect(server.port);
            client.send(get(&format!("/cgi/wait?{number}")));
            programs.told(&format!("wait.{}.{number}", server.port));
            clients.push(client);
        }
        let mut third = Client::connect(server.port);
        let refused = third.get("/cgi/wait?2").expect(503);
        assert_eq!(refused.must("retry-after"), "1");
        third.get("/hello.txt").expect(200);
        // One client leaves, which makes room for one.
        drop(clients.pop());
        until("a permit is free", || {
            third.send(get("/cgi/wait?3"));
            let number = format!("wait.{}.3", server.port);
            until("a response", || programs.at(&number).exists() || !third.has_nothing());
            programs.at(&number).exists() || third.response().expect(503).status == 200
        });
        fs::write(&gate, "").unwrap();
        assert_eq!(clients.pop().unwrap().response().expect(200).text(), "open\n");
        assert_eq!(third.response().expect(200).text(), "open\n");
    });
}

#[test]
fn two_hundred_slow_programs_delay_no_other_client() {
    const SLOW: usize = 200;
    let programs = Programs::new().with(
        "wait",
        &format!("{HEAD}; : > $T/at.$SERVER_PORT/$QUERY_STRING; cat $T/gate.$SERVER_PORT; echo done"),
    );
    on_both(|model| {
        let server = programs.serve(model, &[]);
        let gate = programs.at(&format!("gate.{}", server.port));
        let at = programs.at(&format!("at.{}", server.port));
        fs::create_dir(&at).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
        let mut clients: Vec<Client> = (0..SLOW)
            .map(|number| {
                let mut client = Client::connect(server.port);
                client.send(get(&format!("/cgi/wait?{number}")));
                client
            })
            .collect();
        let mut other = Client::connect(server.port);
        until("all of them wait", || {
            other.get("/hello.txt").expect(200).with_body(HELLO);
            fs::read_dir(&at).unwrap().count() == SLOW
        });
        for _ in 0..200 {
            other.get("/hello.txt").expect(200).with_body(HELLO);
        }
        // All programs have opened the pipe for reading before it is closed again. Otherwise some
        // would wait for the next writer.
        let writer = fs::OpenOptions::new().write(true).open(&gate).unwrap();
        until("all programs end", || {
            fs::read_dir("/proc")
                .unwrap()
                .flatten()
                .filter(|entry| {
                    let folder = entry.path();
                    fs::read_link(folder.join("fd/3")).is_ok_and(|open| open == gate)
                        || fs::read_link(folder.join("fd/0")).is_ok_and(|open| open == gate)
                })
                .count()
                >= SLOW
        });
        drop(writer);
        for client in &mut clients {
            assert_eq!(client.response().expect(200).text(), "done\n");
        }
    });
}

#[test]
fn a_stop_waits_for_programs_and_ends_what_is_left() {
    let programs = Programs::new()
        .with("short", &format!("echo $$ > $T/short.$SERVER_PORT; sleep 0.5; {HEAD}; echo done"))
        .with("long", "echo $$ > $T/long.$SERVER_PORT; exec sleep 1000");
    on_both(|model| {
        let mut server = programs.serve(model, &["--drain-timeout", "1"]);
        let mut client = Client::connect(server.port);
        client.send(get("/cgi/short"));
        programs.told(&format!("short.{}", server.port));
        server.signal(Signal::TERM);
        assert_eq!(client.response().expect(200).text(), "done\n");
        assert_eq!(server.wait_exit(), 0);
        let mut server = programs.serve(model, &["--drain-timeout", "0.2"]);
        let mut client = Client::connect(server.port);
        client.send(get("/cgi/long"));
        let pid = programs.told(&format!("long.{}", server.port));
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 1);
        // After its program is killed, a thread may still send a 502 before the process ends.
        assert!(!client.try_response("GET").is_ok_and(|cut| cut.status != 502), "it was cut off");
        // The process that inherits orphans may not collect them. It is sufficient that they are
        // dead.
        until(format_args!("{pid} is dead"), || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
    });
}

#[test]
fn an_ended_program_frees_its_permit_before_its_response_is_read() {
    let programs = Programs::new()
        .with("local", "printf 'Location: /m5.bin\\n\\n'")
        .with("quick", &format!("{HEAD}; echo done"));
    on_both(|model| {
        let server = programs.serve(model, &["--cgi-max", "1"]);
        let mut slow = Client::connect_narrow(server.port);
        slow.send(get("/cgi/local"));
        assert!(slow.read_some(12).starts_with(b"HTTP/1.1 200"));
        let mut other = Client::connect(server.port);
        until("its permit is free", || other.get("/cgi/quick").status == 200);
    });
}

#[test]
fn as_the_first_process_of_a_container_it_collects_orphans() {
    let can_be_tried = std::process::Command::new("unshare").args(["-Urpf", "--mount-proc", "true"]).output();
    if !can_be_tried.is_ok_and(|tried| tried.status.success()) {
        return crate::harness::left_out("no namespaces for processes", REQUIRED);
    }
    let programs = Programs::new().with(
        "leaves",
        &format!("(sleep 0.01 >/dev/null 2>&1 &); (sleep 1000 >/dev/null 2>&1 &); {HEAD}; echo done"),
    );
    on_both(|model| {
        let flag = programs.flag();
        let alone = command(model, &programs.docroot.root(), &["--cgi", &flag]);
        let mut command = std::process::Command::new("unshare");
        command
            .args(["-Urpf", "--mount-proc", "--kill-child"])
            .arg(alone.get_program())
            .args(alone.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let around = Server::launch(command);
        let server: u32 = children_of(around.pid().as_raw_nonzero().get()).trim().parse().unwrap();
        let mut client = Client::connect(around.port);
        let dead = || {
            let all = children_of(server.cast_signed());
            let stat = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            all.split_whitespace().filter(|pid| stat(pid).contains("(sleep) Z ")).count()
        };
        for _ in 0..3 {
            assert_eq!(client.get("/cgi/leaves").expect(200).text(), "done\n");
        }
        until("an orphan is dead", || dead() > 0);
        // The server collects them when it starts the next program.
        until("all of them are collected", || {
            client.get("/cgi/leaves").expect(200);
            let before = dead();
            client.get("/cgi/leaves").expect(200);
            before <= 2
        });
        let text = around.err.text();
        assert!(!text.contains("panic"), "{text}");
    });
}

#[test]
fn a_connection_ends_with_its_response_while_the_program_runs_on() {
    let programs = Programs::new()
        .with(
            "works",
            &format!("{HEAD}; echo done; exec >&-; echo $$ > $T/works.$SERVER_PORT; exec sleep 1000"),
        )
        .with(
            "complains",
            &format!(
                "{HEAD}; echo done; exec >&-; echo $$ > $T/complains.$SERVER_PORT; sleep 2; seq 1 200000 >&2"
            ),
        );
    on_both(|model| {
        let server = programs.serve(model, &["--cgi-timeout", "5"]);
        let mut other = Client::connect(server.port);
        other.send(b"GET /cgi/complains HTTP/1.0\r\n\r\n");
        let mut client = Client::connect(server.port);
        let since = now();
        client.send(b"GET /cgi/works HTTP/1.0\r\n\r\n");
        let (rest, _) = client.rest();
        assert!(rest.ends_with(b"done\n"));
        assert_took("the end of the connection", since, 0.0..4.0);
        let pid = programs.told(&format!("works.{}", server.port));
        assert!(Path::new("/proc").join(pid.trim()).exists(), "the program still runs");
        // The server reads standard error to the end. Otherwise the program would block on it.
        gone(&programs.told(&format!("complains.{}", server.port)));
        assert!(Path::new("/proc").join(pid.trim()).exists(), "the other one ended by itself");
        gone(&pid);
    });
}

#[test]
fn a_program_is_collected_while_events_of_its_local_redirect_arrive() {
    let programs = Programs::new().with(
        "news",
        "printf 'Location: /_whirligig/live\\n\\n'; echo $$ > $T/news.$SERVER_PORT; until [ -e $T/gate.$SERVER_PORT ]; do sleep 0.05; done",
    );
    on_both(|model| {
        let server = programs.serve(model, &["--live-reload"]);
        let mut client = Client::connect(server.port);
        client.send(get("/cgi/news"));
        let mut hear = |word: &str| {
            let mut text = String::new();
            while !text.contains(word) {
                let piece = client.read_some(4096);
                assert!(!piece.is_empty(), "it ended after {text}");
                text += &String::from_utf8_lossy(&piece);
            }
        };
        hear(":\n\n");
        programs.docroot.write("hello.txt", HELLO);
        hear("event: change");
        fs::write(programs.at(&format!("gate.{}", server.port)), "").unwrap();
        // Nothing else happens on the connection meanwhile.
        gone(&programs.told(&format!("news.{}", server.port)));
        programs.docroot.write("hello.txt", HELLO);
        hear("event: change");
    });
}

#[test]
fn exits_are_noticed_if_sigchld_is_ignored_by_inheritance() {
    let programs = Programs::new()
        .with("quick", &format!("{HEAD}; echo done"))
        .with("killed", &format!("{HEAD}; echo half; kill -9 $$"));
    on_both(|model| {
        let flag = programs.flag();
        let plain = command(model, &programs.docroot.root(), &["--cgi", &flag, "--cgi-max", "1"]);
        let mut command = std::process::Command::new("env");
        command.arg("--ignore-signal=CHLD").arg(plain.get_program()).args(plain.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let server = Server::launch(command);
        let mut client = Client::connect(server.port);
        for _ in 0..3 {
            until("a permit is free", || client.get("/cgi/quick").status == 200);
        }
        // The exit status is known, too.
        until("a permit is free", || {
            let mut client = Client::connect(server.port);
            client.send(request("GET", "/cgi/killed", &["Connection: close"], b""));
            let (rest, _) = client.rest();
            let text = String::from_utf8_lossy(&rest);
            assert!(!text.ends_with("\r\n0\r\n\r\n"), "{text}");
            text.contains("half")
        });
    });
}
