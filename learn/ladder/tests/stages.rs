//! Grades the files of the reader: `cargo test stage_1` grades `src/stage_1.rs`.
//!
//! Each stage also runs the checks of the stages before it, because a loop that waits well and no
//! longer echoes is no progress.
#![cfg(test)]

mod grader;

use grader::checks::CHECKS;
use grader::{Lesson, Subject, Verdict};

/// Runs one check for the file of a stage.
fn check(name: &str, stage: usize) -> Verdict {
    let check = CHECKS.iter().find(|check| check.stage == stage && check.name == name).unwrap();
    check.run(&Subject::reader(stage))
}

/// Runs the checks of all earlier stages for the file of a stage.
fn earlier(stage: usize) -> Verdict {
    for check in CHECKS.iter().filter(|check| check.stage < stage) {
        check.run(&Subject::reader(stage)).map_err(|lesson| Lesson {
            happened: format!(
                "stage {} has lost something of stage {}: {}",
                stage, check.stage, lesson.happened
            ),
            ..lesson
        })?;
    }
    Ok(())
}

macro_rules! tests {
    ($($stage:ident, $number:literal, $module:ident: { $($check:ident,)* })*) => {
        $(mod $stage {
            use crate::grader::Verdict;

            $(#[test]
            fn $check() -> Verdict {
                crate::check(stringify!($check), $number)
            })*

            #[test]
            fn it_keeps_what_the_stages_before_it_do() -> Verdict {
                crate::earlier($number)
            }
        })*
    };
}

all_checks!(tests);
