//! The script that measures the effect of heavy work on other clients must still run. Its results
//! are not checked, because tests do not assert times.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::{program, run_within};

#[test]
fn the_measurement_runs_on_both_models() {
    let Some(python) = program(&["python3"], "WHIRLIGIG_REQUIRE_CLIENTS") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stall/run.py");
    let ended = run_within(
        Duration::from_secs(120),
        Command::new(python)
            .arg(script)
            .args(["--binary", env!("CARGO_BIN_EXE_whirligig"), "--models", "reactor,threads"])
            .args(["--runs", "1", "--requests", "20", "--files", "50", "--mib", "16"])
            .args(["--slow-runs", "1", "--flags", "--busy-time 0.5"])
            .args(["--flood-runs", "1", "--flood-seconds", "0.2", "--flood-files", "300"])
            .arg("--scratch")
            .arg(scratch.path()),
    );
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let heavy = ["idle", "listing", "zip", "cold"];
    let slow = ["slow-programs", "slow-uploads", "slow-threads"];
    for scene in heavy.into_iter().chain(slow).chain(["guess-flood", "listing-flood"]) {
        for model in ["reactor", "threads"] {
            let is_it = |line: &&str| line.split_whitespace().take(2).eq([scene, model]);
            let line = ended.out.lines().find(is_it);
            let line = line.unwrap_or_else(|| panic!("{scene} {model}: {}", ended.out));
            assert!(!(slow.contains(&scene) && line.contains("never")), "{line}");
        }
    }
}
