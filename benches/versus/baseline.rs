//! Results that are kept under a name, and what has changed since.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::Fallible;
use super::results::{Compared, Loop, Results, SCHEMA, SideResult, figure, ratio_words};
use super::stats::{Lots, estimate_unpaired, judge};

/// Where reports and kept results are.
pub(crate) fn folder() -> PathBuf {
    // Cargo says where its folder for temporary files is, which stands in the target folder.
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp).join("versus")
}

fn path(name: &str) -> PathBuf {
    folder().join("saved").join(format!("{name}.json"))
}

/// Keeps results under a name.
pub(crate) fn save(results: &Results, name: &str) -> Fallible<PathBuf> {
    let path = path(name);
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    fs::write(&path, serde_json::to_string(results)?)?;
    Ok(path)
}

/// The results of this name.
pub(crate) fn load(name: &str) -> Fallible<Results> {
    read(&path(name)).map_err(|error| format!("--baseline {name}: {error}").into())
}

/// Results from a file.
pub(crate) fn read(path: &Path) -> Fallible<Results> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let results: Results = serde_json::from_str(&text)?;
    if results.schema == SCHEMA { Ok(results) } else { Err(format!("not {SCHEMA}").into()) }
}

/// Each server against itself then. Nothing pairs the rounds of two runs, so a machine that has
/// become slower shows, too: the change of the other model tells.
pub(crate) fn changes(now: &Results, then: &Results) -> String {
    let mut lots = Lots(now.seed);
    let mut text = format!("SINCE {} ({}): above 1 it is better now\n", then.when, then.machine.revision);
    if now.machine.cpu != then.machine.cpu || now.machine.kernel != then.machine.kernel {
        text.push_str("! that was another machine or kernel\n");
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
        return "another rate was offered: not comparable".to_owned();
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
