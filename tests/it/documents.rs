//! The documents: links and anchors lead somewhere, commands work, options are described once, and
//! front pages stay short.
//!
//! Each `sh` block of a page in [`WITH_COMMANDS`] is run in a folder of its own that holds what its
//! commands name. A line that starts `whirligig` must print a URL, or end with exit status 0. With
//! `&` at its end the server serves the `curl` lines below it. A comment that begins with a status,
//! as in `# 201, stores a file`, is the expected one; without it a `curl` line must end below 400.
//! A command that cannot be run here is in [`EXCEPTIONS`].

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::harness::{Finished, Server, bare_command, binary, program, run};

const REQUIRED: &str = "WHIRLIGIG_REQUIRE_CLIENTS";

/// Pages whose commands are run.
const WITH_COMMANDS: [&str; 3] = ["README.md", "docs/manual.md", "docs/deploy.md"];

/// Commands that are not run, each with the reason. One that no page contains any more fails the
/// test.
const EXCEPTIONS: [(&str, &str); 9] = [
    ("cargo run --release", "builds the program, and serves until it is stopped"),
    ("cargo test", "runs this test"),
    ("cargo install --path .", "builds and installs the program"),
    ("cargo bench --bench versus -- --quick", "builds, and measures for 90 s"),
    ("(cd examples/tiny_reactor && TRACE=1 cargo run)", "builds, and serves until it is stopped"),
    ("wrk -t1 -c64 -d5s http://127.0.0.1:8080/", "loads the machine for 5 s"),
    ("whirligig --man | man -l -", "needs a pager; `config::` gives the page to troff"),
    ("whirligig --open site", "opens a browser"),
    ("htpasswd -B -c users anna", "asks for a password on a terminal; the folder has its file"),
];

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(home().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Paths of all pages, from the top of the repository.
fn pages() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "docs/", "benches/versus/", "learn/ladder/"] {
        for entry in fs::read_dir(home().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                found.push(format!("{folder}{name}"));
            }
        }
    }
    found.sort();
    found
}

fn parse(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

/// The values of an attribute in HTML: `<img src="a.png">`.
fn attributes<'t>(html: &'t str, name: &str) -> Vec<&'t str> {
    let marker = format!(" {name}=\"");
    html.split(&marker).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// The anchors of a page: those of its headings, as GitHub makes them, and those in its HTML.
fn anchors(text: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut heading: Option<String> = None;
    for event in parse(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor_of(&heading.take().unwrap_or_default());
                let count = seen.entry(anchor.clone()).or_default();
                found.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
                *count += 1;
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                found.extend(attributes(&html, "id").into_iter().map(str::to_owned));
            }
            _ => {}
        }
    }
    found
}

fn anchor_of(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.flat_map(char::to_lowercase).map(|char| if char == ' ' { '-' } else { char }).collect()
}

/// All targets that a page refers to.
fn targets(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for event in parse(text) {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                found.push(dest_url.into_string());
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                for name in ["href", "src", "srcset"] {
                    found.extend(attributes(&html, name).into_iter().map(str::to_owned));
                }
            }
            _ => {}
        }
    }
    found
}

/// The path with `..` and `.` resolved; `None` if it leads out of the repository.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => whole.push(name),
            Component::CurDir => {}
            Component::ParentDir if whole.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(whole)
}

/// Links of a page that lead nowhere, each with the reason. Targets on other sites are not checked.
fn broken(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for target in targets(text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = target.split_once('#').map_or((&*target, None), |(path, at)| (path, Some(at)));
        let page = if path.is_empty() {
            text.to_owned()
        } else {
            let folder = Path::new(name).parent().unwrap_or(Path::new(""));
            let Some(at) = normal(&folder.join(path)).filter(|at| home().join(at).exists()) else {
                found.push(format!("{name}: '{target}' does not exist in the repository"));
                continue;
            };
            fs::read_to_string(home().join(at)).unwrap_or_default()
        };
        if anchor.is_some_and(|anchor| !anchors(&page).contains(anchor)) {
            found.push(format!("{name}: '{target}' has no such anchor"));
        }
    }
    found
}

#[test]
fn every_link_and_anchor_leads_somewhere() {
    let found: Vec<String> = pages().iter().flat_map(|name| broken(name, &read(name))).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_planted_broken_link_is_found() {
    for planted in [
        "[a](no-such-file.md)",
        "[a](../README.md#no-such-heading)",
        "[a](#here-1)",
        "[a](../../outside.md)",
        "![a](images/no-such-picture.png)",
        "<img src=\"no-such-picture.png\">",
        "| a |\n|---|\n| [b](no-such-row.md) |",
    ] {
        assert_eq!(broken("docs/planted.md", &format!("# Here\n\n{planted}\n")).len(), 1, "{planted}");
    }
    for harmless in
        ["[a](manual.md#run-programs-cgi)", "[a](#here)", "`[a](x.md)`", "[a](https://a.example/#b)"]
    {
        assert!(broken("docs/planted.md", &format!("# Here\n\n{harmless}\n")).is_empty(), "{harmless}");
    }
}

/// The fenced blocks of a language.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    for event in parse(text) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                block = info.split(',').any(|word| word == language).then(String::new);
            }
            Event::Text(text) => {
                if let Some(block) = &mut block {
                    block.push_str(&text);
                }
            }
            Event::End(TagEnd::CodeBlock) => found.extend(block.take()),
            _ => {}
        }
    }
    found
}

/// One command of a block, with the status that its comment names.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    command: String,
    status: Option<u16>,
}

/// The commands of a block. A comment begins with ` #`; none of the commands has that in quotes.
fn commands(block: &str) -> Vec<Line> {
    let whole = block.replace("\\\n", " ");
    let lines = whole.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (command, comment) = line.split_once(" #").unwrap_or((line, ""));
            // A longer number, such as the year of a date, is none.
            let word = comment.split([' ', ',', ';']).find(|word| !word.is_empty()).unwrap_or_default();
            let status = (word.len() == 3).then(|| word.parse().ok()).flatten();
            Line { command: command.trim().to_owned(), status }
        })
        .collect()
}

/// A folder with everything that the commands name.
fn scene() -> tempfile::TempDir {
    let folder = tempfile::TempDir::with_prefix("whirligig-documents-").unwrap();
    let write = |path: &str, content: &str| {
        let file = folder.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    };
    for path in [
        "site/a.txt",
        "site/docs/guide.txt",
        "site/docs/other.txt",
        "site/private/plan.txt",
        "site/inbox/read.me",
        "site/assets/app.css",
        "site/manual/guide.html",
        "site/404.html",
        "site/index.html",
        "site/app.html",
        "blog/index.html",
        "org/index.html",
        "report.pdf",
        "a.png",
        "b.png",
        "Pictures/cat.png",
        "release-2/index.html",
        ".local/share/bash-completion/completions/other",
    ] {
        write(path, &format!("{path}: some content\n"));
    }
    let rules = blocks(&read("docs/manual.md"), "").into_iter().find(|block| block.contains("\ngone /"));
    write("rules.txt", &rules.expect("rules in the manual"));
    // The password is "secret".
    write("users", "anna:$2y$05$Tnt/g5PYyV.53eQT.dGtAu5SLbn6RY9Z9Vg/6hwfRU/Q2wFgI.tXK\n");
    write("whirligig.toml", "root = \"site\"\nport = 0\n");
    fs::create_dir(folder.path().join("bin")).unwrap();
    symlink(binary(), folder.path().join("bin/whirligig")).unwrap();
    for name in ["examples", "tests"] {
        symlink(home().join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// A shell in the scene that runs `script`.
pub(crate) fn shell(scene: &Path, script: &str) -> Command {
    // `bare_command` removes the settings of the caller.
    let caller = bare_command();
    let mut command = Command::new("sh");
    for (name, value) in caller.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.args(["-c", script]).current_dir(scene).env("HOME", scene).env("WHIRLIGIG_PORT", "0");
    command.env("PATH", format!("{}:{path}", scene.join("bin").display()));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command
}

/// The command with ports that are free, and files in the scene.
fn adapted(command: &str, scene: &Path) -> String {
    let mut text = command.replace("/tmp/", &format!("{}/", scene.display()));
    for port in ["8080", "8081"] {
        text = text.replace(&format!("--port {port}"), "--port 0").replace(&format!(":{port} "), ":0 ");
    }
    text
}

/// Returns true for a command that starts Whirligig, perhaps behind variables.
fn is_ours(command: &str) -> bool {
    command.split(' ').find(|word| !word.contains('=')) == Some("whirligig")
}

/// Returns true for a command that prints something and ends, instead of serving.
fn ends(command: &str) -> bool {
    let words: Vec<&str> = command.split(' ').collect();
    let printing = ["--help", "--version", "--man", "--completions", "--show-config"];
    words.get(1).is_some_and(|word| ["sim", "step", "zoo", "race"].contains(word))
        || printing.iter().any(|flag| words.contains(flag))
}

fn start(scene: &Path, command: &str) -> Server {
    Server::launch(shell(scene, &format!("exec env {}", adapted(command, scene))))
}

fn check(ended: &Finished, command: &str) -> Result<(), String> {
    match ended.code {
        Some(0) => Ok(()),
        code => Err(format!("'{command}' ended with {code:?}\n{}{}", ended.out, ended.err)),
    }
}

/// Runs a `curl` line against a server and compares the statuses.
fn fetch(scene: &Path, line: &Line, port: u16) -> Result<(), String> {
    // The shell function adds what a reader does not need to see.
    const PRELUDE: &str =
        "curl() { command curl -sS --max-time 8 -w '%{stderr}status %{http_code}\\n' \"$@\"; }\n";
    let text = line.command.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"));
    let ended = run(&mut shell(scene, &format!("{PRELUDE}{text}")));
    check(&ended, &text)?;
    let statuses: Vec<u16> = ended
        .err
        .lines()
        .filter_map(|line| line.strip_prefix("status "))
        .map(|status| status.parse().unwrap())
        .collect();
    let is_expected = |status: &u16| match line.status {
        Some(expected) => *status == expected,
        None => (200..400).contains(status),
    };
    match !statuses.is_empty() && statuses.iter().all(is_expected) {
        true => Ok(()),
        false => Err(format!("'{text}' got {statuses:?}, expected {:?}\n{}", line.status, ended.out)),
    }
}

/// Runs the commands of a block, one after the other. Returns the first failure.
fn run_block(block: &str) -> Result<(), String> {
    let scene = scene();
    let mut serving: Option<Server> = None;
    for line in commands(block) {
        let command = &line.command;
        if EXCEPTIONS.iter().any(|(exception, _)| exception == command) {
            continue;
        }
        if let Some(command) = command.strip_suffix(" &") {
            serving = Some(start(scene.path(), command));
        } else if command.starts_with("curl ") {
            let server = serving.as_ref().ok_or_else(|| format!("'{command}' has no server above it"))?;
            fetch(scene.path(), &line, server.port)?;
        } else if is_ours(command) && !ends(command) {
            drop(start(scene.path(), command));
        } else {
            check(&run(&mut shell(scene.path(), &adapted(command, scene.path()))), command)?;
        }
    }
    Ok(())
}

#[test]
fn commands_in_the_documents_work() {
    if program(&["curl"], REQUIRED).is_none() || program(&["python3"], REQUIRED).is_none() {
        return;
    }
    let mut failures = Vec::new();
    for name in WITH_COMMANDS {
        for block in blocks(&read(name), "sh") {
            failures.extend(run_block(&block).err().map(|why| format!("{name}: {why}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_planted_command_that_fails_is_found() {
    if program(&["curl"], REQUIRED).is_none() {
        return;
    }
    for planted in [
        "whirligig --no-such-option --help",
        "whirligig site &\ncurl http://127.0.0.1:8080/no-such-file",
        "whirligig site &\ncurl http://127.0.0.1:8080/a.txt    # 201, but it is 200",
        "curl http://127.0.0.1:8080/",
        "false",
    ] {
        assert!(run_block(planted).is_err(), "{planted}");
    }
    assert_eq!(run_block("whirligig site &\ncurl http://127.0.0.1:8080/none    # 404"), Ok(()));
    let split = commands("# all\na --b \\\n  --c    # 204, gone\n\nd 'x#y'\n");
    let line = |command: &str, status| Line { command: command.to_owned(), status };
    assert_eq!(split, [line("a --b    --c", Some(204)), line("d 'x#y'", None)]);
}

#[test]
fn each_exception_is_still_in_a_document() {
    let all: Vec<Line> = WITH_COMMANDS
        .iter()
        .flat_map(|name| blocks(&read(name), "sh"))
        .flat_map(|block| commands(&block))
        .collect();
    for (exception, why) in EXCEPTIONS {
        assert!(all.iter().any(|line| line.command == exception), "'{exception}' ({why}) is in no document");
    }
}

/// Options that a page defines: those in bold.
fn defined(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_bold = false;
    for event in parse(text) {
        match event {
            Event::Start(Tag::Strong) => is_bold = true,
            Event::End(TagEnd::Strong) => is_bold = false,
            Event::Code(code) if is_bold => {
                let words = code.split([' ', ',', '[', '=']).filter(|word| word.starts_with("--"));
                found.extend(words.map(str::to_owned));
            }
            _ => {}
        }
    }
    found
}

/// The defaults in the help that are a single word, by option.
fn defaults(help: &str) -> HashMap<String, String> {
    let is_option = |line: &&str| line.starts_with("  -") || line.starts_with("      --");
    let mut found = HashMap::new();
    let mut whole = String::new();
    for line in help.lines().chain(["      --end"]) {
        if is_option(&line) || line.is_empty() {
            let option = whole.split([' ', ',', '[', '=', '.']).find(|word| word.starts_with("--"));
            let default = whole.split("[default: ").nth(1).and_then(|rest| rest.split(']').next());
            if let (Some(option), Some(default)) = (option, default.filter(|text| !text.contains(' '))) {
                found.insert(option.to_owned(), default.to_owned());
            }
            whole.clear();
        }
        whole.push_str(line.trim_start());
        whole.push(' ');
    }
    found
}

#[test]
fn the_manual_has_the_defaults_of_the_help() {
    let defaults = defaults(&run(bare_command().arg("--help")).out);
    assert!(defaults.len() > 40, "{defaults:?}");
    // 32KiB is 32 KiB in the manual, and 100000 is 100,000.
    let plain = |text: &str| text.replace([' ', ',', '\n', '`'], "");
    let manual = read("docs/manual.md");
    let items: Vec<&str> = manual.split("\n- ").flat_map(|part| part.split("\n| ")).collect();
    let mut wrong = Vec::new();
    for (option, default) in defaults {
        let is_its = |item: &&&str| {
            let bold = item.split("**").skip(1).step_by(2);
            bold.flat_map(|bold| bold.split(['`', ' '])).any(|word| word == option)
        };
        let item = items.iter().find(is_its).and_then(|item| item.split("\n\n").next()).unwrap_or("");
        if !plain(item).contains(&plain(&default)) {
            wrong.push(format!("{option} has the default {default}, the manual has: {item}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_manual_defines_every_option_once() {
    let help = run(bare_command().arg("--help")).out;
    let options: HashSet<&str> = help
        .lines()
        .filter(|line| line.starts_with("  -") || line.starts_with("      --"))
        .filter_map(|line| line.split([' ', ',', '[', '=', '.']).find(|word| word.starts_with("--")))
        .collect();
    assert!(options.len() > 80, "{options:?}");
    let defined = defined(&read("docs/manual.md"));
    let mut wrong: Vec<String> = Vec::new();
    for option in &options {
        let count = defined.iter().filter(|name| name == option).count();
        // `--cors` has two forms, one after the other.
        if count != 1 && *option != "--cors" {
            wrong.push(format!("{option} is defined {count} times"));
        }
    }
    wrong.extend(
        defined
            .iter()
            .filter(|name| !options.contains(name.as_str()))
            .map(|name| format!("{name} is no option")),
    );
    wrong.sort();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_program_in_the_readme_is_one_that_is_compiled() {
    // The programs of docs/library.md are tests of the documentation.
    let code = |line: &str| line.split(" //").next().map(str::trim_end).unwrap_or_default().to_owned();
    let compiled = blocks(&read("docs/library.md"), "rust").join("\n");
    for block in blocks(&read("README.md"), "rust") {
        for line in block.lines() {
            assert!(compiled.lines().any(|own| code(own) == code(line)), "{line}");
        }
    }
}

#[test]
fn front_pages_are_short() {
    for name in ["README.md", "ARCHITECTURE.md"] {
        let lines = read(name).lines().count();
        assert!(lines <= 200, "{name} has {lines} lines; move details to docs/");
    }
}
