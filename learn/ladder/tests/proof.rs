//! Tests of the ladder itself: `cargo test --test proof`. Each solution passes the checks of its
//! stage and of all before it, each starter fails a check of its own stage, and no stage is long.
//! The starters are the files in `src/`, so this fails once they are edited.
#![cfg(test)]

mod grader;

use std::fs;
use std::path::Path;
use std::time::Duration;

use grader::checks::CHECKS;
use grader::{Lesson, Subject};

const STAGES: usize = 8;
/// Most lines that a stage may add to the one before, and that a reader may have to write.
const LINES_MAX: usize = 60;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Runs the checks of all stages up to that of the solution.
fn solution_passes(stage: usize) {
    let subject = Subject { stage, is_solution: true, patience: Duration::from_secs(20) };
    for check in CHECKS.iter().filter(|check| check.stage <= stage) {
        if let Err(lesson) = check.run(&subject) {
            panic!("stage {}, {}: {lesson:?}", check.stage, check.name);
        }
    }
}

/// Runs the checks of a starter's own stage. One must fail, and its lesson must contain `taught`.
fn starter_fails(stage: usize, taught: &str) {
    let own = CHECKS.iter().filter(|check| check.stage == stage);
    let lessons: Vec<Lesson> = own.filter_map(|check| check.run(&Subject::reader(stage)).err()).collect();
    let texts: Vec<String> =
        lessons.iter().map(|lesson| format!("{}: {}", lesson.happened, lesson.expected)).collect();
    assert!(texts.iter().any(|text| text.contains(taught)), "{texts:#?}");
    for lesson in lessons {
        let shown = format!("{lesson:?}");
        assert!(shown.contains(&format!("src/stage_{stage}.rs")), "{shown}");
        assert!(shown.contains(&format!("hints/stage_{stage}.md")), "{shown}");
        assert!(!shown.contains("panicked"), "a starter is wrong and does not panic: {shown}");
    }
}

macro_rules! stages {
    ($($number:literal $solution:ident $starter:ident $taught:literal)*) => {
        $(#[test]
        fn $solution() {
            solution_passes($number);
        }

        #[test]
        fn $starter() {
            starter_fails($number, $taught);
        })*
    };
}

stages! {
    1 solution_1_passes starter_1_fails "a client may send more than once"
    2 solution_2_passes starter_2_fails "bob received nothing, and waited for 2 s"
    3 solution_3_passes starter_3_fails "the server was busy"
    4 solution_4_passes starter_4_fails "alice received nothing"
    5 solution_5_passes starter_5_fails "took the responses slowly"
    6 solution_6_passes starter_6_fails "bob received \"slow: the secret of alice"
    7 solution_7_passes starter_7_fails "alice was silent for 10 s and is still connected"
    8 solution_8_passes starter_8_fails "alice sent 5000 requests at once, and 5000 of them"
}

/// Number of lines of `to` that are not in `from`, in order.
fn added(from: &str, to: &str) -> usize {
    let (from, to): (Vec<&str>, Vec<&str>) = (from.lines().collect(), to.lines().collect());
    // Length of the longest common sequence of each beginning of `from` and of `to`.
    let mut common = vec![0; to.len() + 1];
    for line in &from {
        let before = common.clone();
        for at in 0..to.len() {
            common[at + 1] = if *line == to[at] { before[at] + 1 } else { before[at + 1].max(common[at]) };
        }
    }
    to.len() - common[to.len()]
}

#[test]
fn no_stage_adds_many_lines() {
    assert_eq!(added("a\nb\nc", "a\nx\nc\nc"), 2);
    let readme = read("README.md");
    let mut before = String::new();
    for stage in 1..=STAGES {
        let starter = read(&format!("src/stage_{stage}.rs"));
        let solution = read(&format!("solutions/stage_{stage}.rs"));
        let (to_write, new) = (added(&starter, &solution), added(&before, &solution));
        assert!(new <= LINES_MAX, "stage {stage} adds {new} lines to the stage before");
        let row = readme.lines().find(|line| line.starts_with(&format!("| {stage} | "))).unwrap();
        assert!(row.ends_with(&format!("| {to_write} |")), "{to_write} lines, and README.md has {row}");
        assert!(to_write <= LINES_MAX, "the reader of stage {stage} writes {to_write} lines");
        before = solution;
    }
}

#[test]
fn each_stage_has_its_parts() {
    let readme = read("README.md");
    for stage in 1..=STAGES {
        assert!(read(&format!("src/stage_{stage}.rs")).contains("// your code here: "), "stage {stage}");
        assert!(!read(&format!("solutions/stage_{stage}.rs")).contains("your code here"), "stage {stage}");
        assert!(read(&format!("hints/stage_{stage}.md")).len() > 100, "stage {stage}");
        assert!(readme.contains(&format!("## Stage {stage}: ")), "stage {stage}");
    }
    let words: Vec<&str> = readme.split_whitespace().collect();
    let words = words.join(" ");
    let runs: Vec<&str> = words.split("cargo run -- step ").skip(1).collect();
    assert_eq!(runs.len(), 5, "one for each of the stages from 4 on");
    for run in runs {
        let scenario = run.split('`').next().unwrap();
        read(&format!("../../www/learn/scenarios/{scenario}.txt"));
    }
}
