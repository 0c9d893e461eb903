//! The import rules of `src`: no folder imports a folder above it, no files import each other in a
//! circle, and the protocol performs no I/O.
//!
//! The text of each file is searched for `use` lines and for paths in code. A path is resolved as
//! the compiler resolves it: from `crate`, `self`, `super` or a child module.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::{code, is_tests, names, sources};

/// Top-level modules from the ground up. A module may import those of its own row and of the rows
/// before it.
const ROWS: [&[&str]; 12] = [
    &["config", "conn_id", "text", "clock", "sync", "random", "shortage"],
    &["http", "log"],
    &["client", "pages", "observe", "jobs"],
    &["handler"],
    &["docroot", "driver"],
    &["files"],
    &["app", "reactor", "threads"],
    &["features", "sim"],
    &["server"],
    &["bench"],
    &["cli"],
    &["lib", "main"],
];

/// Crates and modules that the protocol must not use: it takes bytes, instants and values, and
/// returns values.
/// `core::net` is allowed, because its addresses are values.
const IMPURE: [&str; 9] = [
    "mio",
    "std::net",
    "std::fs",
    "std::thread",
    "std::process",
    "Instant::now",
    "SystemTime::now",
    "log::",
    "rustix",
];

fn is_pure(path: &str) -> bool {
    ["src/http/", "src/client/"].iter().any(|folder| path.starts_with(folder))
        || ["src/driver/deadline.rs", "src/driver/pool.rs", "src/jobs/pace.rs"].contains(&path)
}

/// A module as its path from the root of the crate: `["http", "head"]`.
type Module = Vec<String>;

/// The sources by module.
struct Tree {
    files: BTreeMap<Module, String>,
}

impl Tree {
    fn of(sources: impl IntoIterator<Item = (String, String)>) -> Tree {
        let mut files = BTreeMap::new();
        for (path, text) in sources.into_iter().filter(|(path, _)| !is_tests(path)) {
            let bare = path.trim_start_matches("src/").trim_end_matches(".rs");
            let mut module: Module = bare.split('/').map(str::to_owned).collect();
            if module.last().is_some_and(|name| name == "mod") {
                module.pop();
            }
            files.insert(module, text);
        }
        Tree { files }
    }

    /// The file that a path in `module` leads to: the deepest module on it.
    fn resolve(&self, module: &Module, path: &str) -> Option<Module> {
        let mut segments = path.split("::").map(str::trim).peekable();
        let mut at: Module = match segments.peek()? {
            &"crate" => {
                segments.next();
                Vec::new()
            }
            &"self" => {
                segments.next();
                module.clone()
            }
            &"super" => module.clone(),
            child => {
                let below = [&module[..], &[(*child).to_owned()]].concat();
                self.files.contains_key(&below).then(|| module.clone())?
            }
        };
        while segments.peek() == Some(&"super") {
            segments.next();
            at.pop();
        }
        let mut found = self.files.contains_key(&at).then(|| at.clone());
        for segment in segments {
            at.push(segment.to_owned());
            if !self.files.contains_key(&at) {
                break;
            }
            found = Some(at.clone());
        }
        found
    }

    /// The files that each file imports. An import of the `mod.rs` of the own folder is left out:
    /// a folder's face may name its parts, and the parts may use what the face defines.
    fn imports(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let of = |module: &Module, text: &str| {
            let paths = paths_in(text);
            let found = paths.iter().filter_map(|path| self.resolve(module, path));
            let is_own_face = |found: &Module| module.split_last().is_some_and(|(_, face)| face == found);
            found.filter(|found| found != module && !is_own_face(found)).collect()
        };
        self.files.iter().map(|(module, text)| (module, of(module, text))).collect()
    }

    fn offences(&self) -> Vec<String> {
        let imports = self.imports();
        let mut found = upward(&imports);
        found.extend(circles(&imports));
        found
    }
}

fn row(module: &Module) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module.first().map(String::as_str).unwrap_or_default()))
}

/// Imports of a module that stands above the importing one.
fn upward(imports: &BTreeMap<&Module, BTreeSet<Module>>) -> Vec<String> {
    let mut found = Vec::new();
    for (module, imported) in imports {
        let Some(own) = row(module) else {
            found.push(format!("{} is in no row: add its folder to ROWS", module.join("/")));
            continue;
        };
        for other in imported {
            if row(other).is_some_and(|other| other > own) {
                found.push(format!(
                    "{} imports {}, which stands above it",
                    module.join("/"),
                    other.join("/")
                ));
            }
        }
    }
    found
}

/// Groups of files that import each other: each file from which a chain of imports leads back to
/// it, with the shortest such chain.
fn circles(imports: &BTreeMap<&Module, BTreeSet<Module>>) -> Vec<String> {
    let mut found = Vec::new();
    let mut reported: BTreeSet<&Module> = BTreeSet::new();
    for start in imports.keys().copied() {
        // Breadth first, so the first way back is the shortest.
        let mut came_from: BTreeMap<&Module, &Module> = BTreeMap::new();
        let mut open = std::collections::VecDeque::from([start]);
        while let Some(module) = open.pop_front() {
            for next in imports.get(module).into_iter().flatten() {
                if next == start {
                    let mut chain = vec![start, module];
                    while let Some(before) = came_from.get(chain[chain.len() - 1]) {
                        chain.push(before);
                    }
                    if !chain.iter().any(|module| reported.contains(module)) {
                        let names: Vec<_> = chain.iter().rev().map(|module| module.join("/")).collect();
                        found.push(format!("circle: {}", names.join(" -> ")));
                    }
                    reported.extend(chain);
                    open.clear();
                    break;
                }
                let Some((known, _)) = imports.get_key_value(next) else { continue };
                if *known != start && !came_from.contains_key(*known) {
                    came_from.insert(known, module);
                    open.push_back(known);
                }
            }
        }
    }
    found
}

/// All paths in a file that may lead to another module: those of `use` lines and those in code.
fn paths_in(text: &str) -> Vec<String> {
    let text: String = without_test_imports(text).collect::<Vec<_>>().join("\n");
    let mut paths = Vec::new();
    let mut rest = &text[..];
    // `use` lines, whose braces are expanded.
    while let Some(at) = rest.find("use ") {
        let is_word = rest[..at].chars().next_back().is_none_or(char::is_whitespace);
        rest = &rest[at + "use ".len()..];
        if let (true, Some(end)) = (is_word, rest.find(';')) {
            expand("", &rest[..end], &mut paths);
            rest = &rest[end..];
        }
    }
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(root) {
            let is_part = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
            if !text[..at].chars().next_back().is_some_and(is_part) {
                let end = text[at..].find(|char| !is_part(char)).map_or(text.len(), |end| at + end);
                paths.push(text[at..end].trim_end_matches(':').to_owned());
            }
        }
    }
    paths
}

/// The code of a file without `#[cfg(test)] use ...;`, which only its tests need.
fn without_test_imports(text: &str) -> impl Iterator<Item = &str> {
    let mut is_for_tests = false;
    code(text).filter(move |line| {
        let trimmed = line.trim();
        let is_left_out = is_for_tests;
        is_for_tests = match is_for_tests {
            true => !trimmed.ends_with([';', '{', '}']),
            false => trimmed == "#[cfg(test)]",
        };
        !is_left_out
    })
}

/// Expands a `use` tree: `a::{b, c::d}` to `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        paths.push(format!("{prefix}{path}").trim_end_matches("::self").to_owned());
        return;
    };
    let prefix = format!("{prefix}{}", &tree[..open]);
    let inner = tree[open + 1..].rsplit_once('}').map_or("", |(inner, _)| inner);
    let (mut depth, mut start) = (0, 0);
    for (at, char) in inner.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &inner[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inner[start..].trim().is_empty() {
        expand(&prefix, &inner[start..], paths);
    }
}

/// Lines of a pure file that use something impure.
fn impurities(path: &str, text: &str) -> Vec<String> {
    if !is_pure(path) || is_tests(path) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (number, line) in code(text).enumerate() {
        let flat = line.replace("std::{", "std::").replace([' ', '\t'], " ");
        let banned = IMPURE.iter().filter(|name| names(&flat, name));
        found.extend(banned.map(|name| format!("{path}:{}: {name} in the protocol", number + 1)));
    }
    found
}

/// Modules of the standard library that need an operating system.
const OS_MODULES: [&str; 4] = ["std::fs", "std::thread", "std::process", "std::os"];

/// True for an attribute after which an item is compiled only with an operating system. The other
/// features (`sim`, `client`, `json`) work without one.
fn needs_os(line: &str) -> bool {
    ["os", "cli", "bench", "auth", "compress", "markdown", "session"]
        .iter()
        .any(|feature| line.trim() == format!("#[cfg(feature = \"{feature}\")]"))
}

/// The modules that only builds with an operating system have: the `mod` line of each, or of a
/// folder around it, needs one.
fn optional_modules(tree: &Tree) -> BTreeSet<Module> {
    let lib = vec!["lib".to_owned()];
    let mut optional = BTreeSet::new();
    for (module, text) in &tree.files {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| needs_os(pair[0])) {
            let Some(name) = pair[1].strip_suffix(';').and_then(|line| line.split("mod ").nth(1)) else {
                continue;
            };
            let parent = if *module == lib { &[][..] } else { &module[..] };
            optional.insert([parent, &[name.to_owned()]].concat());
        }
    }
    optional
}

/// The code of a file without the items that need an operating system.
fn always_compiled(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = code(text).peekable();
    while let Some(line) = lines.next() {
        if !needs_os(line) {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let mut depth = 0;
        for line in lines.by_ref() {
            let trimmed = line.trim_end();
            depth += trimmed.matches(['{', '(', '[']).count();
            depth -= trimmed.matches(['}', ')', ']']).count().min(depth);
            if depth == 0 && trimmed.ends_with(['}', ';', ',']) {
                break;
            }
        }
    }
    kept
}

/// Uses of the operating system in code that must compile without one, as `path: name`.
fn os_uses(sources: &[(String, String)]) -> Vec<String> {
    let tree = Tree::of(sources.to_vec());
    let optional = optional_modules(&tree);
    let is_optional = |module: &Module| (1..=module.len()).any(|length| optional.contains(&module[..length]));
    let mut found = Vec::new();
    for (module, text) in &tree.files {
        if is_optional(module) || module[0] == "main" {
            continue;
        }
        let kept = always_compiled(text).replace("std::{", "std::");
        let used = OS_MODULES.iter().filter(|name| names(&kept, name));
        found.extend(used.map(|name| format!("{}: {name}", module.join("/"))));
    }
    found
}

#[test]
fn code_without_the_feature_os_names_nothing_of_an_operating_system() {
    let all = sources("src");
    assert_eq!(os_uses(&all), Vec::<String>::new());
    for (path, line, is_found) in [
        ("src/http/range.rs", "use std::fs::File;", true),
        ("src/driver/pump.rs", "fn f() { std::thread::yield_now() }", true),
        ("src/sim/os.rs", "use std::os::fd::OwnedFd;", true),
        ("src/reactor/os.rs", "use std::os::fd::OwnedFd;", true),
        ("src/reactor/os.rs", "#[cfg(feature = \"os\")]\nuse std::os::fd::OwnedFd;", false),
        ("src/reactor/os.rs", "#[cfg(feature = \"os\")]\nfn f() {\n    std::process::id();\n}", false),
        ("src/reactor/mio_os.rs", "use std::os::fd::OwnedFd;", false),
        ("src/docroot/beneath.rs", "use std::fs::File;", false),
    ] {
        let mut planted = all.clone();
        let file = planted.iter_mut().find(|(name, _)| name == path).unwrap_or_else(|| panic!("no {path}"));
        file.1 = format!("{line}\n{}", file.1);
        assert_eq!(!os_uses(&planted).is_empty(), is_found, "{line} in {path}: {:?}", os_uses(&planted));
    }
}

/// Files with the types that `lib.rs` re-exports outside of `inside`.
const PUBLIC_FACE: [&str; 12] = [
    "src/app/",
    "src/client/",
    "src/config/",
    "src/handler/",
    "src/http/",
    "src/server/mod.rs",
    "src/server/builder.rs",
    "src/server/handle.rs",
    "src/clock.rs",
    "src/conn_id.rs",
    "src/jobs/inbox.rs",
    "src/driver/outcome.rs",
];

#[test]
fn the_public_face_names_no_type_of_mio_or_clap() {
    let all = sources("src");
    let face = |path: &str| PUBLIC_FACE.iter().any(|start| path.starts_with(start));
    let named = |text: &str| code(text).any(|line| ["mio", "clap"].iter().any(|name| names(line, name)));
    let files: Vec<_> = all.iter().filter(|(path, _)| face(path)).collect();
    assert!(files.len() > PUBLIC_FACE.len(), "{files:?}");
    let found: Vec<_> = files.iter().filter(|(_, text)| named(text)).map(|(path, _)| path).collect();
    assert!(found.is_empty(), "{found:?}");
    assert!(named("pub fn register(registry: &mio::Registry) {}"));
}

#[test]
fn no_import_points_upward_and_no_files_import_each_other_in_a_circle() {
    let found = Tree::of(sources("src")).offences();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_protocol_performs_no_io() {
    let found: Vec<_> = sources("src").iter().flat_map(|(path, text)| impurities(path, text)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The present sources with these lines at the beginning of these files.
fn planted(lines: &[(&str, &str)]) -> Vec<String> {
    let mut all = sources("src");
    for (path, line) in lines {
        let file = all.iter_mut().find(|(name, _)| name == path).unwrap_or_else(|| panic!("no {path}"));
        file.1 = format!("{line}\n{}", file.1);
    }
    Tree::of(all).offences()
}

#[test]
fn a_planted_upward_import_is_found_however_it_is_written() {
    for (path, line) in [
        ("src/http/range.rs", "use crate::driver::pool;"),
        ("src/http/range.rs", "use crate::{config::Limits, reactor::Reactor};"),
        ("src/http/range.rs", "use super::super::jobs::{Job, pace};"),
        ("src/jobs/mod.rs", "use crate::handler::{\n    Answer,\n    Context,\n};"),
        ("src/handler/mod.rs", "fn f() -> crate::docroot::Docroot { g() }"),
        ("src/files/mod.rs", "pub(crate) use crate::features::upload;"),
        ("src/reactor/mod.rs", "fn f() { crate::server::Server::builder(); }"),
        ("src/driver/exchange.rs", "use crate::files as f;"),
        ("src/features/mod.rs", "use crate::cli;"),
    ] {
        let found = planted(&[(path, line)]);
        assert!(found.iter().any(|offence| offence.contains("above it")), "{line} in {path}: {found:?}");
    }
    let unknown = [("src/utils.rs".to_owned(), String::new())];
    assert_eq!(Tree::of(unknown).offences().len(), 1);
}

#[test]
fn a_planted_circle_is_found_within_a_folder_and_across_folders() {
    for lines in [
        [("src/http/date.rs", "use crate::http::range;"), ("src/http/range.rs", "use super::date;")],
        [
            ("src/http/date.rs", "use crate::http::{range};"),
            ("src/http/range.rs", "fn f() { super::date::g() }"),
        ],
        [("src/jobs/pace.rs", "use crate::observe;"), ("src/observe/counters.rs", "use crate::jobs::pace;")],
        [("src/app/feed.rs", "use crate::reactor::slot;"), ("src/reactor/slot.rs", "use crate::app::feed;")],
    ] {
        let found = planted(&lines);
        assert!(found.iter().any(|offence| offence.starts_with("circle")), "{lines:?}: {found:?}");
    }
}

#[test]
fn imports_that_are_allowed_are_no_offence() {
    for (path, line) in [
        ("src/http/range.rs", "// use crate::reactor::Reactor;"),
        ("src/http/range.rs", "use crate::http::Method;"),
        ("src/http/range.rs", "#[cfg(test)]\nuse crate::reactor::Reactor;"),
        ("src/reactor/mod.rs", "use crate::driver::pump;"),
        ("src/server/mod.rs", "use crate::features::upload;"),
    ] {
        assert_eq!(planted(&[(path, line)]), Vec::<String>::new(), "{line} in {path}");
    }
}

#[test]
fn a_planted_impurity_is_found() {
    for planted in [
        "use mio::Token;",
        "use std::net::TcpStream;",
        "use std::{net::TcpStream, io};",
        "use ::mio;",
        "    let now = std::time::Instant::now();",
        "use std::thread;",
        "    std::fs::read(path)",
        "    log::warn!(\"x\");",
        "use rustix::fd::OwnedFd;",
    ] {
        assert_eq!(impurities("src/http/x.rs", planted).len(), 1, "{planted}");
        assert!(impurities("src/reactor/x.rs", planted).is_empty(), "{planted}");
    }
    for harmless in ["// use mio::Token;", "let dialog::X = mioche;", "use core::net::IpAddr;"] {
        assert!(impurities("src/http/x.rs", harmless).is_empty(), "{harmless}");
    }
}
