//! Scenarios from a file of the user's own. This file must not know their language.

use std::io::Read as _;
use std::path::Path;

use crate::sim::scenario::parse::SCENARIO_BYTES_MAX;
use crate::sim::scenario::script::Scenario;
use crate::sim::scenario::words::ParseError;

impl Scenario {
    /// Reads a scenario from a file. Reads no more than the largest scenario has.
    pub fn read(path: &Path) -> Result<Scenario, ParseError> {
        let file = path.display().to_string();
        let error = |what: String| ParseError { file: file.clone(), line: 0, what };
        let unreadable = |why: std::io::Error| error(format!("cannot be read: {why}; allowed: a text file"));
        let opened = std::fs::File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        opened.take(SCENARIO_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > SCENARIO_BYTES_MAX {
            return Err(error(format!("the file is too large; allowed: at most {SCENARIO_BYTES_MAX} bytes")));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| error("the file is not UTF-8; allowed: text in UTF-8".to_owned()))?;
        Scenario::parse(&file, &text)
    }
}
