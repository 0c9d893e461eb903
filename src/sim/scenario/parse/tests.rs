//! Tests of the scenario language: errors, bounds and limits by name.

use super::*;

/// The smallest scenario, with a line added.
fn with(line: &str) -> Result<Scenario, ParseError> {
    let text = format!("client alice\n  0ms connects\nexpect alice receives nothing\n{line}\n");
    Scenario::parse("own.txt", &text)
}

#[test]
fn a_wrong_line_is_reported_with_its_place_and_the_allowed_words() {
    for (line, message) in [
        ("limt x 1", "own.txt:4: unknown word 'limt'; allowed: title, question, "),
        ("limit turns 1", "unknown word 'turns'; allowed: connections_max, "),
        ("limit turn_bytes_max many", "'many' is not a limit; allowed: a number from 1 to "),
        ("limit turn_bytes_max 0", "'0' is not a limit; allowed: a number from 1 to "),
        ("timeout idle 5", "'5' is not a time; allowed: a number with ns, us, ms or s"),
        ("timeout idel 5s", "unknown word 'idel'; allowed: header, body, send, idle"),
        ("until 2h", "'2h' is not a time"),
        ("turns 1000000", "allowed: a number from 1 to 20000"),
        ("route hello responds \"x\"", "'hello' is not a path; allowed: a word that begins with /"),
        ("route /a sleeps 5ms", "unknown word 'sleeps'; allowed: responds, echoes"),
        ("route /a responds \"x", "text in double quotes has no end"),
        ("route /a responds \"\\q\"", "unknown escape '\\q'; allowed: \\r"),
        ("route /a responds \"x\" now", "'now' is left over; allowed: the end of the line"),
        ("client alice", "a client alice exists already"),
        ("  5ms jumps", "unknown word 'jumps'; allowed: connects, sends, shuts, resets, reads"),
        (
            "  soon connects",
            "'soon' is not a time; allowed: a number with ns, us, ms or s, at most 3600s, or then",
        ),
        ("  5ms sends PUT /x", "unknown word 'PUT'; allowed: GET, POST, text in double quotes"),
        ("  5ms sends POST /x", "the line ends where a number of bytes is expected"),
        ("  5ms sends GET /x 99999 times", "allowed: a number from 1 to 10000"),
        ("  5ms reads much", "'much' is not a number of bytes"),
        ("signal 5ms kill", "unknown word 'kill'; allowed: interrupt, terminate"),
        ("fault 5ms flood alice", "unknown word 'flood'; allowed: spurious, interrupts"),
        ("fault 5ms spurious bob", "unknown word 'bob'; allowed: alice"),
        ("expect bob receives 200", "unknown word 'bob'; allowed: alice, stale, turns, stopped"),
        ("expect alice eats", "unknown word 'eats'; allowed: receives, is"),
        ("expect alice is closed sadly", "unknown word 'sadly'; allowed: "),
        ("expect alice is happy", "allowed: closed, open, reset, carried, or a name like 0.1"),
        ("expect stale milk 1", "unknown word 'milk'; allowed: event, result, deadline, carried"),
        ("expect alice receives 99", "'99' is not a status; allowed: a number from 200 to 599"),
        ("bug no-generation fails x", "unknown word 'no-generation'; allowed: no-generations, "),
        ("bug no-generations breaks x", "unknown word 'breaks'; allowed: fails, green"),
        ("bug no-generations fails", "the line ends too early; allowed: the first symptom"),
        ("answer 42", "the answer '42' is no guess"),
    ] {
        let error = with(line).map(|_| line).expect_err("a wrong line").to_string();
        assert!(error.starts_with("own.txt:4: ") && error.contains(message), "{line}: {error}");
        assert_eq!(error.lines().count(), 1);
    }
}

#[test]
fn a_scenario_needs_a_client_and_an_expectation_for_each() {
    let error = |text: &str| Scenario::parse("a/b/own.txt", text).map(|_| ()).unwrap_err().to_string();
    assert!(error("").starts_with("a/b/own.txt:1: no client"), "{}", error(""));
    assert!(error("client alice\n").contains("nothing is expected for alice"));
    assert!(error("  0ms connects\n").contains("an indented line without a client"));
    assert!(
        error("guess a\nguess b\nclient a\nexpect a receives nothing").contains("guesses without an answer")
    );
    assert_eq!(with("").unwrap().name, "own");
}

#[test]
fn sizes_are_bounded() {
    let huge = "# x\n".repeat(SCENARIO_BYTES_MAX);
    assert!(Scenario::parse("own.txt", &huge).unwrap_err().what.contains("allowed: at most 65536"));
    let clients: String = (0..65).map(|at| format!("client c{at}\n")).collect();
    assert!(Scenario::parse("own.txt", &clients).unwrap_err().what.contains("too many clients; allowed: 64"));
    let actions = format!("client a\n{}", "  1ms connects\n".repeat(257));
    assert!(Scenario::parse("own.txt", &actions).unwrap_err().what.contains("too many actions"));
    let sends = format!("client a\n{}", "  1ms sends POST /x 1000000 bytes\n".repeat(9));
    assert!(Scenario::parse("own.txt", &sends).unwrap_err().what.contains("send too much"));
}

#[test]
fn a_limit_can_be_set_by_name() {
    let mut scenario = with("").unwrap();
    scenario.set("turn_requests_max=1").unwrap();
    assert_eq!(scenario.limits.turn_requests_max, 1);
    for wrong in ["turn_requests_max", "turn=1", "turn_requests_max=0", "turn_requests_max=1 2"] {
        assert!(scenario.set(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_documentation_has_every_word_and_its_example_runs() {
    let docs = include_str!("../../../../docs/scenarios.md");
    let lines = LINES.iter().flat_map(|line| line.split(", ")).chain(LIMITS).chain(TIMEOUTS);
    let words = lines.chain(SIGNALS.map(|(name, _)| name)).chain(FAULTS).chain(ACTIONS);
    for word in words {
        assert!(docs.contains(&format!("`{word}")), "docs/scenarios.md does not explain '{word}'");
    }
    let example = docs.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let scenario = Scenario::parse("docs/scenarios.md", example).unwrap();
    assert_eq!(crate::sim::zoo::check_script(&scenario).len(), 2, "two bugs have no line in the example");
}
