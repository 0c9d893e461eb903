//! The README's picture and table, made from the results that are kept in the repository.
//! A test holds the README to that file.

use std::fs;
use std::path::{Path, PathBuf};

use super::results::Results;
use super::{Fallible, baseline, forest_plot};

const BEGIN: &str = "<!-- versus: made by `cargo bench --bench versus -- --readme` -->\n";
const END: &str = "<!-- versus: end -->";

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The results that the README shows.
pub(crate) fn kept() -> PathBuf {
    home().join("benches/versus/results.json")
}

/// The picture in it.
pub(crate) fn picture() -> PathBuf {
    home().join("benches/versus/versus.svg")
}

/// Keeps these results and shows them.
pub(crate) fn publish(results: &Results) -> Fallible<()> {
    fs::write(kept(), lines(&serde_json::to_string(results)?))?;
    regenerate()
}

/// JSON with a line for each scenario and server, so that a change can be looked at. What separates
/// them cannot stand within a string, whose quotes are escaped.
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

/// The README with what is between the markers made anew.
pub(crate) fn with_results(readme: &str, results: &Results) -> Fallible<String> {
    let (before, rest) = readme.split_once(BEGIN).ok_or("README.md has no place for the results")?;
    let (_, after) = rest.split_once(END).ok_or("README.md has no end of the results")?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", block(results)))
}

fn block(results: &Results) -> String {
    format!(
        "![The reactor against threads, scenario by scenario](benches/versus/versus.svg)\n\n<details>\n\
         <summary>The same as a table</summary>\n\n{}\n</details>\n",
        results.markdown()
    )
}
