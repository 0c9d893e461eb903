//! The grader: runs a stage against real sockets or a simulated kernel, and explains a failure.
//!
//! Code of a reader may block or run for ever. So stages 1 to 3 run in a process of their own, and
//! the turns of later stages in a thread. The grader gives up after [`Subject::patience`].

pub mod checks;
mod kernel;
mod server;
mod sim;

use std::fmt;
use std::time::Duration;

/// The file that is graded.
#[derive(Clone, Copy)]
pub struct Subject {
    pub stage: usize,
    /// True for `solutions/`, false for `src/`.
    pub is_solution: bool,
    /// Longest wait for anything.
    pub patience: Duration,
}

impl Subject {
    /// The file of the reader.
    pub fn reader(stage: usize) -> Subject {
        Subject { stage, is_solution: false, patience: Duration::from_secs(2) }
    }

    pub fn file(&self) -> String {
        let folder = if self.is_solution { "solutions" } else { "src" };
        format!("{folder}/stage_{}.rs", self.stage)
    }
}

/// A failure in the words of the ladder.
#[derive(Clone)]
pub struct Lesson {
    pub happened: String,
    pub expected: String,
    /// The stage whose hint helps: that of the file.
    pub stage: usize,
    pub file: String,
}

pub type Verdict = Result<(), Lesson>;

/// Makes a lesson, whose stage and file the grader adds.
pub fn lesson(happened: impl Into<String>, expected: impl Into<String>) -> Lesson {
    Lesson { happened: happened.into(), expected: expected.into(), stage: 0, file: String::new() }
}

/// The test harness prints the `Debug` form of an error.
impl fmt::Debug for Lesson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        writeln!(f, "  what happened:  {}", indented(&self.happened))?;
        writeln!(f, "  expected:       {}", indented(&self.expected))?;
        writeln!(f, "  your file:      {}", self.file)?;
        write!(f, "  a hint:         hints/stage_{}.md", self.stage)
    }
}

/// Breaks a text into lines, which stand below the first one.
fn indented(text: &str) -> String {
    const COLUMNS: usize = 78;
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut broken = String::new();
        for word in line.split(' ') {
            if !broken.is_empty() && broken.chars().count() + 1 + word.chars().count() > COLUMNS {
                lines.push(std::mem::take(&mut broken));
            }
            if !broken.is_empty() {
                broken.push(' ');
            }
            broken.push_str(word);
        }
        lines.push(broken);
    }
    lines.join("\n                  ")
}

/// Fails with this lesson unless the claim is true.
pub fn ensure(claim: bool, happened: impl Into<String>, expected: impl Into<String>) -> Verdict {
    if claim { Ok(()) } else { Err(lesson(happened, expected)) }
}

/// Bytes for a message: text in quotes, a long one shortened.
pub fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST)]).into_owned();
    match bytes.len() {
        0 => "nothing".to_owned(),
        count if count > MOST => format!("{count} bytes that begin with {text:?}"),
        _ => format!("{text:?}"),
    }
}
