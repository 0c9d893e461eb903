//! The stepper (`whirligig step`): commands from a pipe, files, links, errors, and a terminal.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::docroot::Docroot;
use crate::harness::{Finished, bare_command, binary, program, run};

const REQUIRED: &str = "WHIRLIGIG_REQUIRE_CLIENTS";

fn step(args: &[&str]) -> Finished {
    run(bare_command().arg("step").args(args))
}

/// Runs the stepper with these lines of commands.
fn piped(args: &[&str], lines: &str) -> Finished {
    let mut child = bare_command().arg("step").args(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // The stepper may end before it has read everything.
    drop(input.write_all(lines.as_bytes()));
    drop(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Finished { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn the_list_has_every_scenario_with_its_question() {
    let listed = step(&[]);
    assert_eq!(listed.code, Some(0), "{}", listed.err);
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/www/learn/scenarios")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let name = name.trim_end_matches(".txt");
        assert!(listed.out.lines().any(|line| line == name), "{name}");
    }
    assert!(listed.out.contains("Who receives the response that was made for Alice?"));
    assert!(listed.out.lines().all(|line| line.chars().count() <= 80));
    for line in step(&["--json"]).out.lines() {
        let scenario: Value = serde_json::from_str(line).unwrap();
        assert!(scenario["guesses"].as_array().unwrap().len() >= 2 && scenario.get("answer").is_none());
    }
}

#[test]
fn commands_from_a_pipe_need_no_prompts() {
    let stepped = piped(&["stale-answer"], "t t b\n");
    assert_eq!((stepped.code, &*stepped.err), (Some(0), ""));
    assert!(!stepped.out.contains("> ") && !stepped.out.contains("Your guess, 1"), "{}", stepped.out);
    assert!(!stepped.out.contains('\x1b'), "no colours in a pipe");
    assert!(stepped.out.contains("  3  nobody\n"), "the question is printed:\n{}", stepped.out);
    assert!(stepped.out.contains("alice is 0.1: slot 0, connection 1 of this loop"), "{}", stepped.out);
    assert!(stepped.out.lines().all(|line| line.chars().count() <= 80), "{}", stepped.out);
    // The last move was one back from the end of turn 2, and is explained.
    let last = stepped.out.lines().rev().take(3).collect::<Vec<_>>().join("\n");
    assert!(last.contains("event 0.1: writable"), "{last}");
    let colored = piped(&["stale-answer", "--color=always"], "t\n");
    assert!(colored.out.contains("\x1b["));
}

#[test]
fn the_stale_name_is_found_explained_and_broken() {
    let lines = "g 2\nu stale\nw 0.1\ns\nl\nt 100\nbug no-generations\nt 100\n# a comment\n\nq\nzz\n";
    let stepped = piped(&["stale-answer"], lines);
    assert_eq!((stepped.code, &*stepped.err), (Some(0), ""), "nothing is read after q");
    let text = stepped.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "stale 0.1: result dropped, 0.1 is closed",
        "Slot 0 belongs to 0.2 (bob) now",
        "src/reactor/mod.rs:",
        "Step::Stale",
        "bob has received: 200 \"for Bob\".",
        "Your guess: Bob",
        "The answer: nobody",
        "Both runs are equal until step",
        "bob has received: 200 \"for Alice\".",
        "went wrong first: turn",
    ] {
        assert!(text.contains(part), "no '{part}' in\n{}", stepped.out);
    }
}

#[test]
fn a_whole_run_has_one_text_one_json_and_one_hash() {
    let run = step(&["stale-answer", "--print"]);
    let lines: Vec<&str> = run.out.lines().collect();
    assert!(lines.iter().any(|line| line.ends_with("turn 1 end: 0 ns, 1 open")), "{}", run.out);
    let json = step(&["stale-answer", "--print", "--json"]).out;
    assert_eq!(json.lines().count(), lines.len() + 1, "the first line names the schema");
    for line in json.lines() {
        drop(serde_json::from_str::<Value>(line).unwrap());
    }
    let hash = step(&["stale-answer", "--hash"]).out;
    assert_eq!(hash, step(&["stale-answer", "--hash"]).out);
    let mut others = vec![hash.clone()];
    for more in [&["--bug", "no-generations"][..], &["--seed", "7"], &["--set", "jobs_max=1"]] {
        let other = step(&[&["stale-answer", "--hash"], more].concat());
        assert_eq!(other.code, Some(0), "{}", other.err);
        others.push(other.out);
    }
    let object: Value = serde_json::from_str(&step(&["stale-answer", "--hash", "--json"]).out).unwrap();
    assert!(hash.ends_with(&format!("sha256 {}\n", object["sha256"].as_str().unwrap())));
    others.sort();
    others.dedup();
    assert!(others.len() >= 3, "a bug and a seed change the run: {others:?}");
}

#[test]
fn a_link_opens_the_step_that_it_was_made_at() {
    let made = piped(&["stale-answer", "--bug", "no-generations"], "g 3 u op=result link\n");
    let link = made.out.lines().last().unwrap();
    assert!(link.starts_with("#s=stale-answer&bug=no-generations&g=3&n="), "{link}");
    let at = |args: &[&str], lines: &str| {
        let out = piped(args, lines).out;
        serde_json::from_str::<Value>(out.lines().next_back().unwrap()).unwrap()
    };
    let opened = at(&[link, "--json"], "");
    let walked = at(&["stale-answer", "--bug", "no-generations", "--json"], "g 3 u op=result\n");
    assert_eq!(opened, walked);
    assert_eq!(opened["link"], link);
    let shown = piped(&[link], "").out;
    assert!(shown.contains("result 0.1: finished"), "{shown}");
}

#[test]
fn a_scenario_may_be_a_file() {
    let docroot = Docroot::new();
    let path = docroot.outside("own.txt");
    fs::write(&path, "route /a responds \"a\"\nclient ann\n  0ms connects\n  0ms sends GET /a\nexpect ann receives 200 \"a\"\n")
        .unwrap();
    let path = path.to_str().unwrap();
    let stepped = piped(&[path], "u sent(ann)\nt 9\n");
    assert_eq!(stepped.code, Some(0), "{}", stepped.err);
    assert!(stepped.out.contains("End of the run"), "{}", stepped.out);
    let link = piped(&[path], "link\n");
    assert!(link.code == Some(2) && link.err.contains("has no link"), "{}", link.err);
    fs::write(path, "route /a responds \"a\"\nclient ann\n  0ms jumps\n").unwrap();
    let bad = step(&[path]);
    assert!(
        bad.code == Some(2) && bad.err.contains(":3: unknown word 'jumps'; allowed: connects"),
        "{}",
        bad.err
    );
    fs::write(path, vec![b'#'; 10 << 20]).unwrap();
    let large = step(&[path]);
    assert!(large.code == Some(2) && large.err.contains("allowed: at most 65536 bytes"), "{}", large.err);
}

#[test]
fn wrong_words_lead_to_one_line_with_the_allowed_ones() {
    for (args, lines, part) in [
        (&["stale-answer"][..], "u foo\n", "unknown condition 'foo'; allowed: stale"),
        (&["stale-answer"], "u conn=eve\n", "allowed: alice, bob"),
        (&["stale-answer"], "t zz\n", "unknown command 'zz'; allowed: n, e, t, b, T"),
        (&["stale-answer"], "bug nix\n", "allowed: none, no-generations"),
        (&["stale-answer", "--bug", "nix"], "", "allowed: none, no-generations"),
        (&["stale-answer", "--bug", "no-generation"], "", "did you mean 'no-generations'?"),
        (&["stale-awnser"], "", "no scenario and no file 'stale-awnser': did you mean 'stale-answer'?"),
        (&["stale-answer", "--set", "nix=1"], "", "allowed: connections_max"),
        (&["stale-answer", "--seed", "x"], "", "'x'"),
        (&["stale-answer", "--print", "--hash"], "", "--hash"),
        (&["nix"], "", "no scenario and no file 'nix'; allowed: stale-answer"),
        (&["#s=nix&n=1"], "", "unknown scenario 'nix' in the link; allowed: stale-answer"),
        (&["#s=stale-answer&n=1", "--seed", "1"], "", "leave the options out"),
        (&["--hash"], "", "of which scenario? allowed: stale-answer"),
        (&["."], "", "cannot be read"),
    ] {
        let refused = piped(args, lines);
        assert_eq!(refused.code, Some(2), "{args:?} {lines}: {}", refused.err);
        assert!(refused.err.contains(part), "{args:?} {lines}: {}", refused.err);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
    }
    // A reader that has seen enough ends the stepper, however many commands follow.
    let endless = "yes t | head -c 100000000 | \"$0\" step stale-answer | head -n 3";
    let cut = run(Command::new("sh").args(["-c", endless]).arg(binary()));
    assert_eq!((cut.code, cut.out.lines().count(), &*cut.err), (Some(0), 3, ""));
    let endless = "t ".repeat(100_000);
    let long = piped(&["stale-answer"], &endless);
    assert!(long.code == Some(2) && long.err.contains("too long"), "{}", long.err);
}

#[test]
fn the_step_that_decides_a_failing_run_is_found() {
    let zoo = |args: &[&str]| run(bare_command().args(["zoo", "fate"]).args(args));
    let found = zoo(&["two-results", "--bug", "lost-wake-up"]);
    assert_eq!((found.code, &*found.err), (Some(0), ""));
    assert!(
        found.out.contains("a worker begins the job of 1.2") && found.out.contains(" decides: before it ")
    );
    let link = found.out.lines().last().unwrap();
    let json = zoo(&["--json", link]).out;
    let object: Value = serde_json::from_str(&json).unwrap();
    assert!(link.ends_with(&format!("&n={}", object["fate"]["decided_at"])), "{link} {json}");
    let points = object["fate"]["points"].as_array().unwrap();
    assert_eq!(points.last().unwrap()["step"], object["steps"]);
    assert_eq!(points.last().unwrap()["failed"], object["fate"]["futures"]);
    let certain = zoo(&["stale-answer", "--bug", "no-generations"]).out;
    assert!(certain.contains("certain from the beginning"), "{certain}");
    for (args, part) in [
        (&["stale-answer"][..], "does not fail; nor do the seeds from 1 to 500"),
        (&["stale-answer", "--bug", "unsent-dropped"], "does not fail; seed "),
        (&["nix"], "no scenario and no file 'nix'"),
        (&[link, "--seed", "1"], "leave the options out"),
    ] {
        let refused = zoo(args);
        assert!(refused.code == Some(2) && refused.err.contains(part), "{args:?}: {}", refused.err);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
    }
}

#[test]
fn the_zoo_refuses_wrong_arguments_in_one_line() {
    for (args, part) in [
        ("run lost-wakeup", "unknown bug 'lost-wakeup': did you mean 'lost-wake-up'?"),
        ("run nix", "unknown bug 'nix'; allowed: all, no-generations"),
        ("run all --seeds 0", "invalid value '0' for '--seeds <N>': 0 is not in 1..=1000000"),
        ("check --seeds 0", "invalid value '0' for '--seeds <N>': 0 is not in 1..=1000000"),
    ] {
        let refused = run(bare_command().arg("zoo").args(args.split(' ')));
        assert!(refused.code == Some(2) && refused.err.contains(part), "{args}: {}", refused.err);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
    }
}

/// Types lines into a terminal and prints all that it shows.
const TERMINAL: &str = r#"
import os, pty, select, sys
pid, master = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[1], sys.argv[1:3] + ["stale-answer"])
shown = b""
def wait_for(text, start):
    global shown
    while not (len(shown) > start and shown[start:].endswith(text)):
        if not select.select([master], [], [], 60)[0]:
            sys.exit("no %r in %r" % (text, shown))
        shown += os.read(master, 4096)
wait_for(b"to skip: ", 0)
for key in sys.argv[3].split("|"):
    start = len(shown)
    os.write(master, key.encode() + b"\n")
    if key != "q":
        wait_for((b"> ", b"to skip: "), start)
try:
    while piece := os.read(master, 4096):
        shown += piece
except OSError:
    pass
os.waitpid(pid, 0)
sys.stdout.buffer.write(shown)
"#;

#[test]
fn a_terminal_gets_the_question_prompts_and_colours() {
    let Some(python) = program(&["python3"], REQUIRED) else { return };
    let mut command = Command::new(python);
    command.args(["-c", TERMINAL]).arg(binary()).args(["step", "?|3|t|zz||b|q"]).env_remove("NO_COLOR");
    let shown = run(&mut command);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    for part in [
        "Your guess, 1 to 4, or Enter to skip: ",
        "Enter skips the guess",
        "Your guess: nobody.",
        "step 0 of ",
        "turn 1> ",
        "unknown command 'zz'; allowed:",
        "turn 2> ",
        "\x1b[",
    ] {
        assert!(shown.out.contains(part), "no '{part}' in\n{}", shown.out);
    }
    // NO_COLOR is respected.
    let mut command = Command::new(program(&["python3"], REQUIRED).unwrap());
    command.args(["-c", TERMINAL]).arg(binary()).args(["step", "|t|q"]).env("NO_COLOR", "1");
    let plain = run(&mut command);
    assert!(plain.out.contains("turn 1 end") && !plain.out.contains("\x1b["), "{}", plain.out);
}
