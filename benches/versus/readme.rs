//! The picture in the README, the page with the table and the chart of the home page, generated
//! from the results in the repository. A test checks that all agree with that file.

use std::fs;
use std::path::{Path, PathBuf};

use super::results::Results;
use super::{Fallible, baseline, forest_plot, home as home_page};

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Path of the results that picture and table show.
pub(crate) fn kept() -> PathBuf {
    home().join("benches/versus/results.json")
}

/// Path of the picture in the README.
pub(crate) fn picture() -> PathBuf {
    home().join("benches/versus/versus.svg")
}

/// Path of the page with the table.
pub(crate) fn table() -> PathBuf {
    home().join("benches/versus/results.md")
}

/// Path of the home page.
pub(crate) fn front() -> PathBuf {
    home().join("www/index.html")
}

/// Writes these results to the repository and updates picture, table and home page.
pub(crate) fn publish(results: &Results) -> Fallible<()> {
    fs::write(kept(), lines(&serde_json::to_string(results)?))?;
    regenerate()
}

/// Adds line breaks to JSON, one line per scenario and server, so that diffs are readable. The
/// separators cannot occur within a string, because quotes in strings are escaped.
fn lines(json: &str) -> String {
    json.replace("},{\"name\":", "},\n{\"name\":").replace("\"sides\":[", "\"sides\":[\n") + "\n"
}

/// Writes picture, table and the chart of the home page again.
pub(crate) fn regenerate() -> Fallible<()> {
    let results = baseline::read(&kept())?;
    fs::write(picture(), forest_plot::picture(&results, true))?;
    fs::write(table(), page(&results))?;
    let front_page = home_page::update(&fs::read_to_string(front())?, &results)?;
    Ok(fs::write(front(), front_page)?)
}

/// Returns the page with the table.
pub(crate) fn page(results: &Results) -> String {
    format!(
        "<!-- Made by `cargo bench --bench versus -- --readme`. -->\n\n# Results of the benchmark\n\n\
         ![Reactor and threads compared in each scenario](versus.svg)\n\n{}",
        results.markdown()
    )
}
