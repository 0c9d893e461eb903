//! Results saved under a name, and the comparison of a new run with them.
//!
//! Knows nothing about how results are measured.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::Fallible;
use super::results::{Compared, Loop, Results, SCHEMA, SideResult, figure};
use super::stats::{Lots, estimate_unpaired, judge};
use super::words::ratio_words;

/// Folder of reports and saved results, below the target folder.
pub(crate) fn folder() -> PathBuf {
    // Cargo sets this variable to a folder for temporary files inside the target folder.
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp).join("versus")
}

fn path(name: &str) -> PathBuf {
    folder().join("saved").join(format!("{name}.json"))
}

/// Saves `results` under `name` and returns the path of the file.
pub(crate) fn save(results: &Results, name: &str) -> Fallible<PathBuf> {
    let path = path(name);
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    fs::write(&path, serde_json::to_string(results)?)?;
    Ok(path)
}

/// Loads the results saved under `name`.
pub(crate) fn load(name: &str) -> Fallible<Results> {
    read(&path(name)).map_err(|error| format!("--baseline {name}: {error}").into())
}

/// Reads results from a file. Returns an error if the file has another schema version.
pub(crate) fn read(path: &Path) -> Fallible<Results> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let results: Results = serde_json::from_str(&text)?;
    if results.schema == SCHEMA { Ok(results) } else { Err(format!("not {SCHEMA}").into()) }
}

/// Compares each server of this run with itself in the saved run.
///
/// The rounds of two runs are not paired, so this also shows a machine that has become slower.
/// Compare with the change of the other model to tell the two apart.
pub(crate) fn changes(now: &Results, then: &Results) -> String {
    let mut lots = Lots(now.seed);
    let mut text =
        format!("SINCE {} ({}): ratios above 1 are improvements\n", then.when, then.machine.revision);
    if now.machine.cpu != then.machine.cpu || now.machine.kernel != then.machine.kernel {
        text.push_str("! the saved results are from another machine or kernel\n");
    }
    for scenario in &now.scenarios {
        let Some(before) = then.scenario(&scenario.name) else { continue };
        for side in &scenario.sides {
            if let Some(before_side) = before.side(&side.name) {
                let line = change(scenario, side, before, before_side, now, &mut lots);
                let _ = writeln!(text, "  {:<18} {:<9} {line}", scenario.name, side.name);
            }
        }
    }
    text
}

fn change(
    scenario: &Compared,
    side: &SideResult,
    before: &Compared,
    before_side: &SideResult,
    now: &Results,
    lots: &mut Lots,
) -> String {
    if scenario.pace == Loop::Open && scenario.offered != before.offered {
        return "not comparable: the offered rates differ".to_owned();
    }
    let (ratio, noise) = match scenario.pace {
        Loop::Closed => {
            let rate = |side: &SideResult| side.figures(|round| round.rate);
            (estimate_unpaired(&rate(side), &rate(before_side), lots), now.noise.closed)
        }
        Loop::Open => {
            let p99 = |side: &SideResult| side.figures(|round| round.p99_us);
            (estimate_unpaired(&p99(before_side), &p99(side), lots), now.noise.open)
        }
    };
    format!(
        "{:>10} -> {:<10} {:<22} {}",
        figure(scenario.pace, before_side),
        figure(scenario.pace, side),
        ratio_words(ratio),
        judge(ratio, noise)
    )
}
