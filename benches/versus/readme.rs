//! Picture and table in the README, generated from the results in the repository. A test checks
//! that both agree with that file.

use std::fs;
use std::path::{Path, PathBuf};

use super::results::Results;
use super::{Fallible, baseline, forest_plot};

const BEGIN: &str = "<!-- versus: made by `cargo bench --bench versus -- --readme` -->\n";
const END: &str = "<!-- versus: end -->";

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Path of the results that the README shows.
pub(crate) fn kept() -> PathBuf {
    home().join("benches/versus/results.json")
}

/// Path of the picture in the README.
pub(crate) fn picture() -> PathBuf {
    home().join("benches/versus/versus.svg")
}

/// Writes these results to the repository and updates the README.
pub(crate) fn publish(results: &Results) -> Fallible<()> {
    fs::write(kept(), lines(&serde_json::to_string(results)?))?;
    regenerate()
}

/// Adds line breaks to JSON, one line per scenario and server, so that diffs are readable. The
/// separators cannot occur within a string, because quotes in strings are escaped.
fn lines(json: &str) -> String {
    json.replace("},{\"name\":", "},\n{\"name\":").replace("\"sides\":[", "\"sides\":[\n") + "\n"
}

/// Writes picture and table again.
pub(crate) fn regenerate() -> Fallible<()> {
    let results = baseline::read(&kept())?;
    fs::write(picture(), forest_plot::picture(&results, true))?;
    let path = home().join("README.md");
    let text = fs::read_to_string(&path)?;
    Ok(fs::write(&path, with_results(&text, &results)?)?)
}

/// Returns the README with new text between the markers.
pub(crate) fn with_results(readme: &str, results: &Results) -> Fallible<String> {
    let (before, rest) = readme.split_once(BEGIN).ok_or("README.md has no start marker of the results")?;
    let (_, after) = rest.split_once(END).ok_or("README.md has no end marker of the results")?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", block(results)))
}

fn block(results: &Results) -> String {
    format!(
        "![Reactor and threads compared in each scenario](benches/versus/versus.svg)\n\n<details>\n\
         <summary>Results as a table</summary>\n\n{}\n</details>\n",
        results.markdown()
    )
}
