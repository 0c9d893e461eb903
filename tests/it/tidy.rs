//! Rules that the text of the repository can be checked for: headers, comments, names in the
//! documents, dependencies. Imports are checked in `layers`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::harness::run_within;

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, with its path from the top of the repository and its text.
pub(crate) fn sources(folder: &str) -> Vec<(String, String)> {
    let mut open = vec![home().join(folder)];
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.ends_with("examples/tiny_reactor/target") {
            continue; // outputs of that package
        }
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(home()).unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// The code of a file: without comments, and without the tests at its end.
pub(crate) fn code(text: &str) -> impl Iterator<Item = &str> {
    let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    product.lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// Returns true if `line` contains `name` as a whole word or path, not as a part of a longer one.
pub(crate) fn names(line: &str, name: &str) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        !before.is_some_and(is_part) && (name.ends_with(':') || !after.is_some_and(is_part))
    })
}

/// True if the file holds the unit tests of another file.
pub(crate) fn is_tests(path: &str) -> bool {
    path.ends_with("/tests.rs")
}

/// Comment lines with more columns than [`COMMENT_COLUMNS_MAX`], as `path:line`.
fn wide_comments(path: &str, text: &str) -> Vec<String> {
    let is_wide =
        |line: &str| line.trim_start().starts_with("//") && line.chars().count() > COMMENT_COLUMNS_MAX;
    let lines = text.lines().enumerate().filter(|(_, line)| is_wide(line));
    lines.map(|(at, _)| format!("{path}:{}", at + 1)).collect()
}

const COMMENT_COLUMNS_MAX: usize = 100;

#[test]
fn comments_have_at_most_a_hundred_columns() {
    let wide = |text: &str| wide_comments("a.rs", text).len();
    assert_eq!(wide(&format!("    // {}\n// {}\n", "a".repeat(94), "b".repeat(97))), 1);
    let folders = ["src", "tests", "benches", "examples"];
    let all = folders.iter().flat_map(|folder| sources(folder));
    let found: Vec<_> = all.flat_map(|(path, text)| wide_comments(&path, &text)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_file_says_first_what_it_is_for() {
    for folder in ["src", "tests", "benches", "examples"] {
        for (path, text) in sources(folder) {
            assert!(text.starts_with("//!"), "{path} does not open with //!");
        }
    }
}

/// Names in backticks with parentheses behind them: `turn()`, `Reactor::turn()`. Returns the last
/// part.
fn cited_functions(document: &str) -> Vec<String> {
    let spans = document.split('`').skip(1).step_by(2);
    let calls = spans.filter_map(|span| span.strip_suffix("()"));
    let is_name = |name: &&str| name.chars().all(|char| char.is_alphanumeric() || "_:.".contains(char));
    calls.filter(is_name).filter_map(|name| name.rsplit([':', '.']).next()).map(str::to_owned).collect()
}

#[test]
fn functions_named_in_the_documents_exist() {
    assert_eq!(
        cited_functions("a `turn()`, b `Reactor::accept()`, c `x` (d), `self.pump()`"),
        ["turn", "accept", "pump"]
    );
    let all: String = sources("src").into_iter().map(|(_, text)| text).collect();
    let document = fs::read_to_string(home().join("ARCHITECTURE.md")).expect("an ARCHITECTURE.md");
    let missing: Vec<String> = cited_functions(&document)
        .into_iter()
        .filter(|name| {
            let starts = [format!("fn {name}("), format!("fn {name}<")];
            !starts.iter().any(|start| all.contains(start))
        })
        .collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names functions that do not exist: {missing:?}");
}

/// Names of tests in backticks, as `area::what_it_shows`.
fn cited_tests(document: &str) -> Vec<(&str, &str)> {
    let is_name =
        |name: &str| name.chars().all(|char| char.is_ascii_lowercase() || "_0123456789".contains(char));
    let spans = document.split('`').skip(1).step_by(2);
    spans
        .filter_map(|span| span.rsplit_once("::"))
        .filter(|(area, name)| area.split("::").all(is_name) && is_name(name))
        .collect()
}

/// The rows of the tables in a document, as cells without the spaces around them.
fn rows(document: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = document.lines().filter(|line| line.starts_with("| "));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

#[test]
fn tests_named_in_the_claims_exist() {
    let read = |name: &str| fs::read_to_string(home().join(name)).expect("a document");
    let (claims, compared) = (read("docs/claims.md"), read("docs/compare.md"));
    let cited = cited_tests(&claims);
    assert!(cited.len() > 55, "{cited:?}");
    for (area, name) in cited {
        let file = area.replace("::", "/");
        let text = fs::read_to_string(home().join(format!("tests/it/{file}.rs"))).unwrap_or_default();
        assert!(
            text.contains(&format!("\nfn {name}() {{\n")),
            "docs/claims.md names {area}::{name}, which is no test"
        );
    }
    // A feature that the comparison claims has a row with a test. Tables of other things have fewer
    // columns.
    let features = rows(&compared).filter(|cells| cells.len() == 9 && cells[0] != "feature");
    let claimed: Vec<&str> =
        features.filter(|cells| !["no", "planned"].contains(&cells[1])).map(|cells| cells[0]).collect();
    assert!(claimed.len() > 28, "{claimed:?}");
    for feature in claimed {
        let is_shown = |cells: &Vec<&str>| cells[0] == feature && !cited_tests(cells[1]).is_empty();
        assert!(rows(&claims).any(|cells| is_shown(&cells)), "docs/claims.md has no test for '{feature}'");
    }
}

/// The packages of a build for this machine, tests and benches included.
fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = Command::new(cargo);
    command.args([
        "metadata",
        "--format-version",
        "1",
        "--offline",
        "--locked",
        "--filter-platform",
        &target,
    ]);
    // What cargo waits for here is another cargo that holds the lock of the package cache.
    let ended = run_within(Duration::from_secs(60), command.current_dir(home()));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let value: Value = serde_json::from_str(&ended.out).unwrap();
    value["packages"].as_array().unwrap().clone()
}

/// The rules for dependencies in `deny.toml`, which `cargo deny` reads as well.
struct DependencyRules {
    licences: Vec<String>,
    banned: Vec<String>,
    registries: Vec<String>,
}

fn dependency_rules() -> DependencyRules {
    let text = fs::read_to_string(home().join("deny.toml")).expect("a deny.toml");
    let document = DeTable::parse(&text).unwrap();
    let value = |section: &str, key: &str| document.get_ref()[section].get_ref()[key].get_ref();
    let values = |section, key| value(section, key).as_array().unwrap().iter().map(Spanned::get_ref);
    let string = |value: &DeValue<'_>| value.as_str().unwrap().to_owned();
    for unknown in ["unknown-registry", "unknown-git"] {
        assert_eq!(string(value("sources", unknown)), "deny", "{unknown} in deny.toml");
    }
    assert_eq!(values("sources", "allow-git").count(), 0, "a source that is no registry");
    DependencyRules {
        licences: values("licenses", "allow").map(string).collect(),
        banned: values("bans", "deny").map(|ban| string(ban["crate"].get_ref())).collect(),
        registries: values("sources", "allow-registry").map(string).collect(),
    }
}

#[test]
fn no_dependency_brings_a_runtime_or_comes_from_elsewhere() {
    let rules = dependency_rules();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        assert!(!rules.banned.iter().any(|banned| banned == name), "deny.toml bans {name}");
        match package["source"].as_str() {
            None => assert_eq!(name, "whirligig", "a dependency by path"),
            Some(source) => {
                let registry = source.strip_prefix("registry+").unwrap_or(source);
                assert!(rules.registries.iter().any(|allowed| allowed == registry), "{name} from {source}");
            }
        }
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(licence_is_allowed(licence, &rules.licences), "{name} has licence {licence:?}");
    }
}

/// A version of Rust as numbers, so that 1.100 is later than 1.99.
fn rust_version(package: &Value) -> Vec<u32> {
    let version = package["rust_version"].as_str().unwrap_or("1.0");
    version.split('.').map(|part| part.parse().unwrap()).collect()
}

/// `clippy::incompatible_msrv` checks our own code against `rust-version`.
#[test]
fn no_dependency_needs_a_newer_rust_than_the_manifest_states() {
    let packages = packages();
    let ours = packages.iter().find(|package| package["name"] == "whirligig").map(rust_version).unwrap();
    for package in &packages {
        let (name, needed) = (&package["name"], rust_version(package));
        assert!(needed <= [&ours[..], &[u32::MAX]].concat(), "{name} needs Rust {needed:?}");
    }
    let stated = format!("Rust {}.{} or later", ours[0], ours[1]);
    for document in ["README.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(home().join(document)).unwrap();
        assert!(text.contains(&stated), "{document} does not state: {stated}");
    }
}

/// The packages of a lock file from a registry, with version, source and checksum.
fn locked(path: &str) -> Vec<String> {
    let text = fs::read_to_string(home().join(path)).expect("a lock file");
    let packages = text.split("[[package]]\n").skip(1);
    let named = packages.map(|package| package.split("dependencies = [").next().unwrap().trim().to_owned());
    named.filter(|package| package.contains("\nchecksum = ")).collect()
}

#[test]
fn the_small_packages_build_from_crates_of_this_package() {
    let ours = locked("Cargo.lock");
    for lock in ["examples/tiny_reactor/Cargo.lock", "learn/ladder/Cargo.lock", "learn/wasm/Cargo.lock"] {
        let its = locked(lock);
        assert!(its.len() > 3, "{its:?}");
        for package in its {
            assert!(ours.contains(&package), "{lock} has another version:\n{package}");
        }
    }
}

/// A pattern of `exclude` without a slash at its beginning also leaves out folders below others.
#[test]
fn the_package_has_every_file_that_its_source_includes() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["package", "--list", "--allow-dirty", "--offline"]).current_dir(home());
    let listed = run_within(Duration::from_secs(60), &mut cargo);
    assert_eq!(listed.code, Some(0), "{}", listed.err);
    let packed: BTreeSet<&str> = listed.out.lines().collect();
    let mut open: Vec<PathBuf> =
        ["src", "docs", "www/learn/scenarios"].iter().map(|path| home().join(path)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let name = path.strip_prefix(home()).unwrap().to_str().unwrap();
            assert!(packed.contains(name), "{name} is not in the package; look at `exclude` in Cargo.toml");
        }
    }
}

/// Colours and fonts of a style sheet: those of both schemes, and those that dark pages replace.
fn tokens(path: &str) -> [BTreeMap<String, String>; 2] {
    let text = fs::read_to_string(home().join(path)).unwrap();
    let (light, rest) = text.split_once("@media (prefers-color-scheme: dark)").unwrap();
    let dark = rest.split("\n}\n").next().unwrap();
    [light, dark].map(|part| {
        let named = part.lines().filter_map(|line| line.trim().strip_prefix("--")?.split_once(": "));
        named.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    })
}

/// The site of the project is a folder of files, so its style sheet cannot include that of the
/// pages in the program.
#[test]
fn pages_of_the_program_have_the_colours_of_the_site() {
    let own = tokens("src/pages/tokens.css");
    let site = tokens("www/style.css");
    for (own, site) in own.iter().zip(&site) {
        let shared: Vec<_> = own.keys().filter(|name| site.contains_key(*name)).collect();
        assert!(shared.len() >= 8, "{shared:?}");
        for name in shared {
            assert_eq!(own[name], site[name], "--{name}");
        }
    }
}

/// A page that loads the engine waits for it.
#[test]
fn the_engine_for_pages_is_small() {
    const BYTES_MAX: u64 = 500_000;
    let bytes = fs::metadata(home().join("www/learn/loop.wasm")).unwrap().len();
    assert!(bytes <= BYTES_MAX, "www/learn/loop.wasm has {bytes} bytes");
}

/// A browser loads the recordings for a page from a file.
#[test]
fn the_recordings_for_pages_are_small() {
    const BYTES_MAX: u64 = 600_000;
    let files = fs::read_dir(home().join("www/learn/logs")).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= BYTES_MAX, "www/learn/logs has {bytes} bytes");
}

/// `www/learn/file.js` has each module of the pages with its imports as variables.
#[test]
fn the_script_for_pages_from_files_is_made_of_the_present_modules() {
    let read = |name: &str| fs::read_to_string(home().join("www/learn").join(name)).unwrap();
    let script = read("file.js");
    // A module that begins a page is called only there.
    let name = |line: &str| {
        let line = line.strip_prefix("const ")?;
        let name =
            line.strip_suffix("Module = (() => {").or_else(|| line.strip_suffix("Module = () => {"))?;
        Some(name.to_owned())
    };
    let modules: Vec<String> = script.lines().filter_map(name).collect();
    assert!(modules.ends_with(&["chapter".to_owned(), "step".to_owned()]), "{modules:?}");
    for (at, module) in modules.iter().enumerate() {
        let text = read(&format!("{module}.js"));
        let (imports, body): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with("import "));
        for import in imports {
            let from = import.split_once("\"./").unwrap().1.trim_end_matches(".js\";");
            let from = if from == "engine" { "recorded" } else { from };
            assert!(modules[..at].iter().any(|earlier| earlier == from), "file.js: {module} before {from}");
        }
        let body: Vec<&str> = body.iter().map(|line| line.strip_prefix("export ").unwrap_or(line)).collect();
        let is_present = script.contains(&format!("\n{}\nreturn {{", body.join("\n").trim_end()));
        assert!(is_present, "www/learn/file.js has an old {module}.js; run: node learn/logs.mjs");
    }
}

#[test]
fn no_dependency_rule_is_missing_from_the_file() {
    let rules = dependency_rules();
    for runtime in ["actix-rt", "async-std", "glommio", "hyper", "may", "monoio", "smol", "tokio"] {
        assert!(rules.banned.iter().any(|banned| banned == runtime), "deny.toml does not ban {runtime}");
    }
    assert_eq!(rules.registries, ["https://github.com/rust-lang/crates.io-index"]);
    let copyleft = ["GPL", "SSPL", "CC-BY-SA", "EUPL"];
    let is_copyleft = |licence: &&String| copyleft.iter().any(|name| licence.contains(name));
    assert_eq!(rules.licences.iter().find(is_copyleft), None, "a licence that would cover the program");
}

/// Returns whether a licence expression can be met with licences of the list.
fn licence_is_allowed(expression: &str, allowed: &[String]) -> bool {
    // Older packages write OR as a slash. Parentheses only occur around an OR within an AND.
    let expression = expression.replace('/', " OR ").replace(['(', ')'], "");
    let is_allowed = |name: &str| allowed.iter().any(|allowed| allowed == name.trim());
    expression.split(" AND ").all(|clause| clause.split(" OR ").any(is_allowed))
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = dependency_rules().licences;
    for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert!(licence_is_allowed(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "LGPL-2.1 OR GPL-2.0"] {
        assert!(!licence_is_allowed(bad, &allowed), "{bad}");
    }
}
