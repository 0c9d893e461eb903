//! Steps of the loop: the log of each step (`-vvv`), and the simulator (`whirligig sim`).

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use crate::docroot::{Docroot, HELLO};
use crate::harness::{Finished, Server, bare_command, command, run, until};
use crate::strace::{counts, settle, traced};
use crate::wire::Client;

const REQUESTS: u64 = 10_000;

/// Returns the logged steps without the time and the target before them.
fn steps(server: &Server) -> Vec<String> {
    let text = server.err.text();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let steps = whole.lines().filter_map(|line| line.split_once("[step] "));
    let step = |(_, line): (&str, &str)| line.split_once(" ms  ").map(|(_, step)| step.to_owned());
    steps.filter_map(step).collect()
}

/// Returns where `expected` lines follow each other in `steps`, with others between them.
fn in_order(steps: &[String], expected: &[&str]) -> Result<(), String> {
    let mut rest = steps.iter();
    for line in expected {
        if !rest.any(|step| step.starts_with(line)) {
            return Err(format!("no '{line}' in its place in\n{}", steps.join("\n")));
        }
    }
    Ok(())
}

#[test]
fn three_v_log_every_step_of_a_turn() {
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &["-vvv"]);
    let mut client = Client::connect(server.port);
    client.get("/hello.txt").expect(200).with_body(HELLO);
    client.get("/hello.txt").expect(200);
    drop(client);
    until("the connection is closed", || steps(&server).iter().any(|step| step.starts_with("free 0.1")));
    let steps = steps(&server);
    let expected = [
        "turn 1: ",
        "event listener 0: clients wait",
        "phase accept: new clients",
        "accept 0.1: done, listener 0",
        "read 0.1: ",
        // The batch reads all clients before it answers the first one.
        "accept: would-block, listener 0",
        "respond 0.1: GET, 200",
        "write 0.1: ",
        "register 0.1: done",
        "turn ",
        "event 0.1: readable",
        "phase ready: connections with an event",
        "read 0.1: ",
        "respond 0.1: GET, 200",
        "write 0.1: ",
        "event 0.1: readable, writable, read-closed",
        "read 0.1: 0 of 32767 bytes, end-of-input",
        "close 0.1: peer_closed",
        "phase free: ",
        "free 0.1: slot 0",
    ];
    in_order(&steps, &expected).unwrap();
    // The turn lines of -vv are still there, and one v less has no steps.
    assert!(server.err.text().contains("[turn] turn 1: batch "));
    let server = Server::start("reactor", &docroot.root(), &["-vv"]);
    Client::connect(server.port).get("/hello.txt").expect(200);
    until("a turn is logged", || server.err.text().contains("[turn] "));
    assert!(!server.err.text().contains("[step] "), "{}", server.err.text());
}

/// Nanoseconds of a duration such as `15.2 us`.
fn nanoseconds(text: &str) -> f64 {
    let (number, unit) = text.split_once(' ').unwrap();
    let factor = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => panic!("a unit: {text}"),
    };
    number.parse::<f64>().unwrap() * factor
}

/// Steps of a server whose diagnostics go to a file, counted as they arrive.
struct Tally {
    file: fs::File,
    rest: Vec<u8>,
    reads: u64,
    writes: u64,
    turns: u64,
    turns_ns: f64,
    phases_ns: f64,
}

impl Tally {
    /// Counts the lines that have arrived since the last call.
    fn update(&mut self) {
        self.file.read_to_end(&mut self.rest).unwrap();
        let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') else { return };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        for line in String::from_utf8(whole).unwrap().lines() {
            assert!(!line.contains("log lines were dropped"), "{line}");
            let Some((_, step)) = line.split_once(" ms  ") else { continue };
            self.reads += u64::from(step.starts_with("read "));
            self.writes += u64::from(step.starts_with("write "));
            let Some((_, times)) = step.split_once(" end: ") else { continue };
            let (took, phases) = times.split_once(" open; ").unwrap();
            self.turns += 1;
            self.turns_ns += nanoseconds(took.split_once(',').unwrap().0);
            let phases = phases.split(", ").map(|phase| nanoseconds(phase.split_once(' ').unwrap().1));
            self.phases_ns += phases.sum::<f64>();
        }
    }
}

#[test]
fn steps_agree_with_strace_and_phases_with_their_turn() {
    let docroot = Docroot::new();
    let err = docroot.outside("diagnostics");
    let mut command = command("reactor", &docroot.root(), &["-vvv"]);
    command.stderr(fs::File::create(&err).unwrap());
    let server = Server::launch(command);
    let file = fs::File::open(&err).unwrap();
    let rest = Vec::new();
    let mut tally = Tally { file, rest, reads: 0, writes: 0, turns: 0, turns_ns: 0.0, phases_ns: 0.0 };
    let mut client = Client::connect(server.port);
    settle(&server, &mut client);
    tally.update();
    let before = [tally.reads, tally.writes, tally.turns];
    let traced = traced(&server, &docroot.outside("calls"), || {
        for number in 1..=REQUESTS {
            client.get("/hello.txt").expect(200).with_body(HELLO);
            // The queue of the log is bounded, and no line may be lost here.
            if number % 50 == 0 {
                until("the steps are logged", || {
                    tally.update();
                    tally.reads >= before[0] + number
                });
            }
        }
    });
    let Some((table, _)) = traced else { return };
    tally.update();
    let calls = counts(&table);
    let recorded = [tally.reads - before[0], tally.writes - before[1], tally.turns - before[2]];
    for (names, recorded) in
        [&["recvfrom"][..], &["sendto"], &["epoll_wait", "epoll_pwait"]].into_iter().zip(recorded)
    {
        let called: u64 = names.iter().filter_map(|name| calls.get(*name)).sum();
        let difference = (called as f64 - recorded as f64).abs();
        assert!(difference <= called as f64 / 100.0, "{recorded} steps, {called} of {names:?}\n{table}");
    }
    let off = (tally.turns_ns - tally.phases_ns).abs() / tally.turns_ns;
    assert!(off <= 0.02, "turns took {} ns, their phases {} ns", tally.turns_ns, tally.phases_ns);
}

fn sim(args: &str) -> Finished {
    run(bare_command().arg("sim").args(args.split_whitespace()))
}

#[test]
fn a_seed_prints_what_happened_or_its_steps() {
    let ended = sim("--seed 7");
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{}", ended.out);
    assert!(ended.out.ends_with("seed 7: every promise was kept\n"), "{}", ended.out);
    assert!(ended.out.contains("  phase handling\n"), "{}", ended.out);
    let result = sim("--seed 7 --json");
    let result: serde_json::Value = serde_json::from_str(&result.out).unwrap();
    assert_eq!((result["from"].as_u64(), result["failed"].is_null()), (Some(7), true));
    assert!(result["counts"]["phase handling"].as_u64() > Some(0));

    let text = sim("--seed 7 --steps");
    assert_eq!((text.code, text.err.as_str()), (Some(0), ""));
    assert!(text.out.lines().all(|line| line.contains(" ms  ")), "{}", text.out);
    for part in
        [" is 0.1: slot 0, connection 1 of this loop\n", "ms  stale ", "ms  carry ", ", would-block\n"]
    {
        assert!(text.out.contains(part), "{part}");
    }
    let plan = text.out.lines().find(|line| line.contains(", requests ")).unwrap();
    assert!(!plan.contains(['[', '"']), "{plan}");
    assert!(sim("--seed 7 --steps").out == text.out, "the steps of a seed are always the same");
    assert!(sim("--seed 8 --steps").out != text.out);
    let json = sim("--seed 7 --steps --json");
    let mut lines = json.out.lines();
    let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!((header["record"].as_str(), header["version"].as_u64()), (Some("whirligig-steps"), Some(1)));
    let mut words = 0;
    for line in lines {
        let step: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(step["at_ns"].is_u64() && step["step"].is_string(), "{line}");
        assert!(step["source"].as_str().unwrap().starts_with("src/"), "{line}");
        words += 1;
    }
    assert_eq!(words, text.out.lines().count());
}

#[test]
fn many_seeds_print_their_sum() {
    let ended = sim("--seeds 5 --from 40");
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "no bar without a terminal: {}", ended.out);
    assert!(ended.out.ends_with("seeds 40 to 44: every promise was kept\n"), "{}", ended.out);
}

#[test]
fn wrong_arguments_of_the_simulator_are_one_line() {
    for (args, what) in [
        ("--seed", "a value is required for '--seed <N>' but none was supplied"),
        ("--seed x", "invalid value 'x' for '--seed <N>': invalid digit found in string"),
        ("--seeds 0", "invalid value '0' for '--seeds <N>': 0 is not in 1..=1000000000"),
        ("--seed 1 --seeds 2", "--seed with --seeds: leave one out"),
        ("--seed 1 --from 2", "--seed with --from: leave one out"),
        ("--steps", "--steps: the steps of which run? give --seed N"),
        ("--from 18446744073709551615 --seeds 2", "--from: the last seed would be too large"),
        ("--port 80", "unexpected argument '--port' found"),
        ("folder", "unexpected argument 'folder' found"),
    ] {
        let ended = sim(args);
        let expected = format!("whirligig sim: {what}; try 'whirligig sim --help'\n");
        assert_eq!((ended.code, ended.out.as_str(), ended.err), (Some(2), "", expected), "{args}");
    }
    let help = sim("--help");
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    assert!(help.out.contains("--seeds <N>") && help.out.contains("whirligig sim --seed 7"), "{}", help.out);
}

/// The word counts only as the first argument, and everywhere else it is a folder.
#[test]
fn a_folder_named_like_a_tool_can_be_served() {
    let docroot = Docroot::new();
    let folder = docroot.root().join("sim");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.txt"), "from the folder").unwrap();
    let at = |args: &[&str]| {
        let mut command = bare_command();
        command.current_dir(docroot.root()).args(args);
        command
    };
    let ended = run(at(&["sim", "--seeds", "1"]).arg("--json"));
    let note = "whirligig: 'sim' is the simulator; to serve the folder write ./sim\n";
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), note), "{}", ended.out);
    let race = docroot.root().join("race");
    fs::create_dir(&race).unwrap();
    fs::write(race.join("a.txt"), "from the folder").unwrap();
    let ended = run(&mut at(&["race", "--list"]));
    let note = "whirligig: 'race' is the race of both models; to serve the folder write ./race\n";
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), note), "{}", ended.out);
    let served = |command: Command| {
        let server = Server::launch(command);
        Client::connect(server.port).get("/a.txt").expect(200).with_body(b"from the folder");
        assert!(!server.err.text().contains("simulator"), "{}", server.err.text());
    };
    served(at(&["./sim", "--port", "0"]));
    served(at(&["./race", "--port", "0"]));
    served(at(&["--port", "0", "sim"]));
    let file = docroot.outside("settings.toml");
    fs::write(Path::new(&file), "root = \"sim\"\nport = 0\n").unwrap();
    served(at(&["--config", file.to_str().unwrap()]));
}
