//! The fuzz targets as ordinary tests: each runs over its seeds, and over seeded mutations of them.
//!
//! `cargo +nightly fuzz run TARGET` finds more, because it sees which code an input reaches. These
//! tests need no other tool. `WHIRLIGIG_FUZZ_SECONDS=N` sets how long each target is run, and
//! `WHIRLIGIG_FUZZ_SEED=S` repeats one mutation. Must not know the promise of a target.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should report it and stop")]

#[path = "../fuzz/src/lib.rs"]
pub mod fuzz;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzz::{Random, TARGETS, Target};

/// Longer inputs are cut off: parsers start again for each piece, and tests must be quick.
const INPUT_BYTES_MAX: usize = 1024;

/// Mutations of one input before it is run.
const EDITS_MAX: usize = 6;

/// Text that grammars give a meaning, put into inputs.
const WORDS: [&[u8]; 32] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"=",
    b"\"",
    b"\\",
    b"%",
    b"%2F",
    b"%00",
    b"..",
    b"/",
    b"//",
    b"?",
    b"#",
    b"-",
    b"--",
    b"0",
    b"1",
    b"ffffffff",
    b"18446744073709551615",
    b"*",
    b"$1",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"HTTP/1.1",
    b"\xc3\xa4",
];

fn seeds_of(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// An input that is made from the seeds by a few random edits.
fn mutated(seeds: &[(PathBuf, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].1.clone();
    for _ in 0..=random.below(EDITS_MAX) {
        let start = random.below(input.len() + 1);
        let end = start + random.below((input.len() - start).min(16) + 1);
        match random.below(6) {
            0 => drop(input.drain(start..end)),
            1 => drop(input.splice(start..start, input[start..end].to_vec())),
            2 => drop(input.splice(start..end, WORDS[random.below(WORDS.len())].iter().copied())),
            3 => drop(input.splice(start..start, WORDS[random.below(WORDS.len())].iter().copied())),
            4 => {
                let other = &seeds[random.below(seeds.len())].1;
                let from = random.below(other.len() + 1);
                input.splice(start.., other[from..].iter().copied());
            }
            _ => {
                if let Some(byte) = input.get_mut(start) {
                    *byte = u8::try_from(random.below(256)).unwrap();
                }
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value}: not a whole number")))
}

#[expect(clippy::disallowed_methods, reason = "a test that runs for a given time has to look at a clock")]
fn time() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_macros, reason = "cargo test shows this line with --nocapture")]
fn report(line: &str) {
    println!("{line}");
}

/// Runs a target over all its seeds, and over `rounds` mutations of them or for the time that is
/// asked for.
fn run(name: &str, rounds: u64) {
    let (_, target): (_, Target) = *TARGETS.iter().find(|(other, _)| *other == name).unwrap();
    let seeds = seeds_of(name);
    assert!(seeds.len() >= 5, "{name} has {} seeds", seeds.len());
    if let Some(seed) = number("WHIRLIGIG_FUZZ_SEED") {
        return target(&mutated(&seeds, &mut Random::new(seed)));
    }
    for (path, input) in &seeds {
        let ran = catch_unwind(|| target(input));
        assert!(ran.is_ok(), "{} breaks a promise", path.display());
    }
    let end = number("WHIRLIGIG_FUZZ_SECONDS").map(|seconds| time() + Duration::from_secs(seconds));
    let mut seed = 0;
    while end.map_or(seed < rounds, |end| time() < end) {
        let input = mutated(&seeds, &mut Random::new(seed));
        let ran = catch_unwind(AssertUnwindSafe(|| target(&input)));
        assert!(
            ran.is_ok(),
            "the input \"{}\" breaks a promise; repeat it with WHIRLIGIG_FUZZ_SEED={seed} \
             cargo test --test fuzz_seeds {name}, or keep it in fuzz/seeds/{name}/",
            input.escape_ascii()
        );
        seed += 1;
    }
    report(&format!("{name}: {} seeds, {seed} mutations", seeds.len()));
}

#[test]
fn request_heads() {
    run("request_heads", 500);
}

#[test]
fn request_targets() {
    run("request_targets", 20_000);
}

#[test]
fn chunked_bodies() {
    run("chunked_bodies", 5_000);
}

#[test]
fn multipart() {
    run("multipart", 2_000);
}

#[test]
fn ranges() {
    run("ranges", 20_000);
}

#[test]
fn rewrite_rules() {
    run("rewrite_rules", 200);
}

#[test]
fn configuration() {
    run("configuration", 20);
}

#[test]
fn replies() {
    run("replies", 2_000);
}

#[test]
fn every_target_has_seeds_and_a_program_for_the_fuzzer() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |folder: &str| {
        let entries = fs::read_dir(fuzz.join(folder)).unwrap();
        let path = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().path();
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<String> = entries.map(path).map(stem).collect();
        names.sort();
        names
    };
    let mut targets = TARGETS.map(|(name, _)| name);
    targets.sort_unstable();
    assert_eq!(names("seeds"), targets);
    assert_eq!(names("fuzz_targets"), targets);
}
