//! The chapters (`www/learn/*.html` with the class `chapter`) as text: links, lines of the source,
//! figures, commands, guesses and the time to read them. `chapter_walk` opens them in a browser.
//!
//! A new chapter needs no test of its own: every page is found by its class.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::documents::shell;
use crate::harness::{Server, bare_command, binary, program, run, run_within};
use crate::html::{Token, inside, text, tokens};

/// Longest time to read a chapter.
const SECONDS_MAX: f64 = 600.0;

/// Time for a word, for each step of a picture that the text asks for, and for a guess.
const SECONDS_PER_WORD: f64 = 60.0 / 200.0;
const SECONDS_PER_MOVE: f64 = 6.0;
const SECONDS_PER_GUESS: f64 = 20.0;

/// Maximum time of a command. Readers have faster builds than a test.
const COMMAND_TIME: Duration = Duration::from_secs(60);

const PANES: [&str; 4] = ["turn", "slots", "kernel", "names"];

/// A page of the folder `www`.
pub(crate) struct Page {
    /// Path below `www`, such as `learn/whose-answer.html`.
    pub(crate) path: String,
    tokens: Vec<Token>,
}

pub(crate) fn www() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www")
}

impl Page {
    fn read(path: &str) -> Page {
        let text = fs::read_to_string(www().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Page { path: path.to_owned(), tokens: tokens(&text) }
    }

    /// Returns the places of the elements with this name and class.
    fn all(&self, name: &str, class: &str) -> Vec<usize> {
        (0..self.tokens.len()).filter(|at| self.tokens[*at].opens(name, class)).collect()
    }

    fn value(&self, at: usize, key: &str) -> &str {
        let missing = || panic!("{}: {:?} has no {key}", self.path, self.tokens[at]);
        self.tokens[at].attribute(key).unwrap_or_else(missing)
    }

    fn text(&self, at: usize) -> String {
        text(inside(&self.tokens, at))
    }

    fn ids(&self) -> Vec<&str> {
        self.tokens.iter().filter_map(|token| token.attribute("id")).collect()
    }

    /// Returns the keys of the questions, each with its number of choices.
    fn guesses(&self) -> Vec<(&str, usize)> {
        let forms = self.all("form", "guess").into_iter();
        forms
            .map(|at| {
                let choices = inside(&self.tokens, at).iter().filter(|token| token.opens("input", ""));
                (self.value(at, "data-key"), choices.count())
            })
            .collect()
    }

    /// Returns scenario and bug of each run that the pictures show.
    pub(crate) fn shown_runs(&self) -> Vec<(String, String)> {
        let mut runs = Vec::new();
        for at in self.all("figure", "loop") {
            let link = self.value(at, "data-link");
            let part = |key: &str| link.split(['#', '&']).find_map(|pair| pair.strip_prefix(key)).unwrap();
            let more = ["data-versus", "data-bugs"].map(|key| self.tokens[at].attribute(key).unwrap_or(""));
            let bugs = more.into_iter().flat_map(str::split_whitespace);
            runs.extend(bugs.chain([part("bug=")]).map(|bug| (part("s=").to_owned(), bug.to_owned())));
        }
        runs
    }

    /// Resolves a link. Returns the page below `www` and the fragment.
    fn target(&self, link: &str) -> (String, Option<String>) {
        let (path, fragment) =
            link.split_once('#').map_or((link, None), |(path, at)| (path, Some(at.to_owned())));
        let path = path.split('?').next().unwrap_or_default();
        if path.is_empty() {
            return (self.path.clone(), fragment);
        }
        let mut parts: Vec<&str> = self.path.split('/').collect();
        parts.pop();
        for part in path.split('/') {
            match part {
                "." | "" => {}
                ".." => assert!(parts.pop().is_some(), "{}: '{link}' leads out of www", self.path),
                name => parts.push(name),
            }
        }
        let mut whole = parts.join("/");
        if www().join(&whole).join("index.html").exists() {
            whole = [whole.as_str(), "index.html"]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("/");
        }
        (whole, fragment)
    }
}

/// Returns all chapters, also those in folders of languages.
pub(crate) fn chapters() -> Vec<Page> {
    let mut folders = vec!["learn".to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(www().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().into_string().unwrap());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.ends_with(".html") {
                let page = Page::read(&path);
                if !page.all("main", "chapter").is_empty() {
                    found.push(page);
                }
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!found.is_empty());
    found
}

/// Collects the errors of all chapters.
fn for_all(check: impl Fn(&Page) -> Vec<String>) {
    let errors: Vec<String> = chapters()
        .iter()
        .flat_map(|page| {
            check(page).into_iter().map(|error| format!("{}: {error}", page.path)).collect::<Vec<_>>()
        })
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// Returns the link of the stepper without the keys that only its page knows.
fn terminal_link(link: &str) -> String {
    let kept = link
        .trim_start_matches('#')
        .split('&')
        .filter(|pair| !pair.starts_with("vs=") && !pair.starts_with("w="));
    format!("#{}", kept.collect::<Vec<_>>().join("&"))
}

/// Opens a link in the program. Returns the position.
fn opened(link: &str) -> Result<Value, String> {
    let stepped = run(bare_command().args(["step", &terminal_link(link), "--json"]));
    match stepped.code {
        Some(0) => Ok(serde_json::from_str(stepped.out.lines().next_back().unwrap_or("null")).unwrap()),
        _ => Err(format!("'{link}' does not open: {}", stepped.err.trim())),
    }
}

/// Returns the error of a link, if it has one. Targets on other sites are not checked.
fn broken(page: &Page, link: &str) -> Option<String> {
    // The server makes some pages itself.
    if link.contains("://") || link.starts_with("_whirligig/") {
        return None;
    }
    let (path, fragment) = page.target(link);
    if !www().join(&path).exists() {
        return Some(format!("'{link}' does not exist"));
    }
    let fragment = fragment?;
    if path == "learn/step.html" {
        return opened(&fragment).err();
    }
    let target = Page::read(&path);
    if target.ids().contains(&fragment.as_str()) {
        return None;
    }
    let guesses: HashMap<&str, usize> = target.guesses().into_iter().collect();
    let is_guess = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        guesses.get(key).is_some_and(|count| value.parse::<usize>().is_ok_and(|value| value <= *count))
    };
    (!fragment.split('&').all(is_guess)).then(|| format!("'{link}' has no such place or guess"))
}

#[test]
fn every_link_of_a_chapter_leads_somewhere() {
    let check = |page: &Page| {
        let targets = page.tokens.iter().flat_map(|token| [token.attribute("href"), token.attribute("src")]);
        let mut errors: Vec<String> = targets.flatten().filter_map(|link| broken(page, link)).collect();
        let mut seen = HashSet::new();
        errors.extend(
            page.ids()
                .into_iter()
                .filter(|id| !seen.insert(*id))
                .map(|id| format!("two elements have the id {id}")),
        );
        errors
    };
    for_all(check);
    assert_eq!(check(&Page::read("loop.html")), Vec::<String>::new());
    let start = Page::read("index.html");
    let links = start.all("a", "button").into_iter().map(|at| start.value(at, "href"));
    assert!(
        links.clone().any(|link| link.starts_with("learn/")),
        "the first page leads to the first question"
    );
    assert_eq!(links.filter_map(|link| broken(&start, link)).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_planted_error_is_found() {
    let planted = |html: &str| Page { path: "learn/planted.html".to_owned(), tokens: tokens(html) };
    let page = planted("<p id=\"here\"></p><form class=\"guess\" data-key=\"g\"><input value=\"1\"></form>");
    for link in ["none.html", "step.html#s=none", "step.html#s=stale-answer&n=999", "whose-answer.html#g=9"] {
        assert!(broken(&page, link).is_some(), "{link}");
    }
    for link in [
        "../",
        "../loop.html",
        "step.html#s=stale-answer&bug=none&n=9&w=0.1",
        "whose-answer.html#g=2",
        "whose-answer.html#question",
    ] {
        assert_eq!(broken(&page, link), None);
    }
    for html in [
        "<p class=\"source\" data-file=\"src/reactor/mod.rs\"><a><code>fn no_such_line()</code></a></p>",
        "<a data-file=\"src/no_such_file.rs\">a file</a>",
        "<data data-figure=\"zoo.seeds\">501</data>",
        "<data data-figure=\"zoo.nothing\">1</data>",
    ] {
        let page = planted(html);
        assert!(lines_of_the_source(&page).len() + figures(&page).len() == 1, "{html}");
    }
    assert_eq!(guesses(&page).len(), 4, "{:?}", guesses(&page));
    assert_eq!(run_console("$ echo one\none\n$ echo two\n..\ntwo\n"), Ok(()));
    for console in ["$ false", "$ echo one\ntwo", "$ whirligig step no-such-scenario --print"] {
        assert!(run_console(console).is_err(), "{console}");
    }
}

fn lines_of_the_source(page: &Page) -> Vec<String> {
    let mut errors = Vec::new();
    for at in page.all("p", "source") {
        let file = page.value(at, "data-file");
        let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_default();
        let inner = inside(&page.tokens, at);
        let codes: Vec<usize> = (0..inner.len()).filter(|at| inner[*at].opens("code", "")).collect();
        if codes.is_empty() {
            errors.push(format!("a line of {file} without a code element"));
        }
        for code in codes {
            let line = text(inside(inner, code));
            if !source.lines().any(|one| one.trim() == line.trim()) {
                errors.push(format!("{file} has no line '{line}'"));
            }
        }
    }
    let files = page.all("a", "").into_iter().filter_map(|at| page.tokens[at].attribute("data-file"));
    let missing = files.filter(|file| !Path::new(env!("CARGO_MANIFEST_DIR")).join(file).exists());
    errors.extend(missing.map(|file| format!("{file} does not exist")));
    errors
}

#[test]
fn lines_of_the_source_exist() {
    for_all(lines_of_the_source);
}

/// Returns the value at a path such as `zoo.no-generations.stale-answer.failed`.
fn figure(path: &str) -> Option<Value> {
    let file = if path.starts_with("zoo.") { "learn/figures.json" } else { "learn/measured.json" };
    let text = fs::read_to_string(www().join(file)).ok()?;
    let mut value: &Value = &serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    for key in path.split('.') {
        value = value.get(key)?;
    }
    Some(value.clone())
}

fn figures(page: &Page) -> Vec<String> {
    let mut errors = Vec::new();
    for at in page.all("data", "") {
        let path = page.value(at, "data-figure");
        let shown = page.text(at).replace(',', "");
        let Some(value) = figure(path) else {
            errors.push(format!("there is no figure {path}"));
            continue;
        };
        let expected = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if shown != expected {
            errors.push(format!("{path} is {expected}, the text has {shown}"));
        }
    }
    errors
}

#[test]
fn figures_in_the_text_are_those_of_the_files() {
    for_all(figures);
}

fn guesses(page: &Page) -> Vec<String> {
    let mut errors = Vec::new();
    let mut keys = HashSet::new();
    for at in page.all("form", "guess") {
        let key = page.value(at, "data-key");
        if !keys.insert(key) {
            errors.push(format!("two questions have the key {key}"));
        }
        let inputs: Vec<&Token> =
            inside(&page.tokens, at).iter().filter(|token| token.opens("input", "")).collect();
        let mut expected = 0;
        for input in &inputs {
            expected += 1;
            if input.attribute("name") != Some(key) || input.attribute("value") != Some(&expected.to_string())
            {
                errors.push(format!("choice {expected} of {key} has another name or value"));
            }
        }
        if inputs.len() < 2 {
            errors.push(format!("{key} has fewer than two choices"));
        }
        let answer = page.tokens[at].attribute("data-answer").and_then(|text| text.parse::<usize>().ok());
        if !answer.is_some_and(|answer| (1..=inputs.len()).contains(&answer)) {
            errors.push(format!("{key} has no answer among its choices"));
        }
        let reveals = page.all("div", "reveal").into_iter().filter(|at| page.value(*at, "data-for") == key);
        if reveals.filter(|reveal| *reveal > at).count() != 1 {
            errors.push(format!("{key} needs one reveal behind it"));
        }
    }
    errors
}

#[test]
fn every_question_has_choices_and_one_answer() {
    for_all(|page| {
        let mut errors = guesses(page);
        let keys: HashSet<&str> = page.guesses().into_iter().map(|(key, _)| key).collect();
        let missing = ["g", "q1", "q2", "q3"].into_iter().filter(|key| !keys.contains(key));
        errors.extend(missing.map(|key| format!("there is no question {key}")));
        errors
    });
}

/// Checks a picture: its link and the second run open, and its step lies between the bounds.
fn picture(page: &Page, at: usize) -> Vec<String> {
    let link = page.value(at, "data-link");
    let mut errors = Vec::new();
    let position = match opened(link) {
        Ok(position) => position,
        Err(error) => return vec![error],
    };
    let [n, steps] = ["n", "steps"].map(|key| position[key].as_u64().unwrap());
    let bound = |key: &str, default: u64| match page.tokens[at].attribute(key) {
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{}: {key}={text}", page.path)),
        None => default,
    };
    let (from, to) = (bound("data-from", 0), bound("data-to", steps));
    if !(from <= n && n <= to && to <= steps) {
        errors.push(format!("{link}: from {from} to {to} of {steps} steps"));
    }
    let moves = bound("data-moves", 0);
    if moves > to - n {
        errors.push(format!("{link}: {moves} moves from {n} to {to}"));
    }
    for pane in page.value(at, "data-panes").split(' ') {
        if !PANES.contains(&pane) {
            errors.push(format!("{link}: no pane {pane}"));
        }
    }
    let versus = page.tokens[at].attribute("data-versus");
    let bugs = page.tokens[at].attribute("data-bugs").unwrap_or("").split(' ').filter(|bug| !bug.is_empty());
    let own = position["bug"].as_str().unwrap();
    for bug in bugs.chain(versus) {
        errors.extend(
            opened(
                &link.replace(&format!("bug={own}"), &format!("bug={bug}")).replace(&format!("n={n}"), "n=0"),
            )
            .err(),
        );
    }
    let inner = inside(&page.tokens, at);
    let stepper =
        inner.iter().find(|token| token.opens("a", "open")).and_then(|token| token.attribute("href"));
    let expected = format!("step.html{link}{}", versus.map(|bug| format!("&vs={bug}")).unwrap_or_default());
    if stepper.is_none_or(|href| href.trim_start_matches("../") != expected) {
        errors.push(format!("{link}: the link to the stepper is {stepper:?}, not {expected}"));
    }
    errors
}

#[test]
fn every_picture_opens_in_the_program() {
    for_all(|page| page.all("figure", "loop").into_iter().flat_map(|at| picture(page, at)).collect());
}

/// Returns the time to read a chapter, in seconds.
fn seconds(page: &Page) -> f64 {
    let main = inside(&page.tokens, page.all("main", "chapter")[0]);
    let mut words = 0.0;
    let mut at = 0;
    while at < main.len() {
        // Notes about missing scripts, and links to the stepper.
        let is_left_out = main[at].opens("noscript", "") || main[at].opens("a", "open");
        if is_left_out {
            at += inside(main, at).len() + 2;
            continue;
        }
        if let Token::Text(text) = &main[at] {
            // A character of Chinese is about half a word.
            let is_han = |char: &char| ('\u{2e80}'..'\u{a000}').contains(char);
            words += text.chars().filter(is_han).count() as f64 / 2.0;
            let others: String = text.chars().map(|char| if is_han(&char) { ' ' } else { char }).collect();
            words +=
                others.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count() as f64;
        }
        at += 1;
    }
    let moves: f64 = page
        .all("figure", "loop")
        .into_iter()
        .filter_map(|at| page.tokens[at].attribute("data-moves")?.parse::<f64>().ok())
        .sum();
    words * SECONDS_PER_WORD + moves * SECONDS_PER_MOVE + page.guesses().len() as f64 * SECONDS_PER_GUESS
}

#[test]
fn a_chapter_is_read_in_ten_minutes() {
    for_all(|page| {
        let seconds = seconds(page);
        (seconds > SECONDS_MAX)
            .then(|| format!("takes {seconds:.0} s to read, {SECONDS_MAX:.0} are allowed"))
            .into_iter()
            .collect()
    });
}

#[test]
fn a_chapter_has_screens_with_titles() {
    for_all(|page| {
        let screens = page.all("section", "screen");
        let mut errors = Vec::new();
        if !(6..=9).contains(&screens.len()) {
            errors.push(format!("{} screens, 6 to 9 are allowed", screens.len()));
        }
        for at in screens {
            let id = page.value(at, "id");
            let title = inside(&page.tokens, at).iter().find(|token| token.opens("h2", ""));
            let title = title.and_then(|token| token.attribute("id")).unwrap_or("none");
            if page.value(at, "aria-labelledby") != title || title != format!("{id}-title") {
                errors.push(format!("the title of {id} has the id {title}"));
            }
        }
        if page.all("h1", "").len() != 1
            || page.all("meta", "").iter().all(|at| page.tokens[*at].attribute("name") != Some("description"))
        {
            errors.push("needs one h1 and a description".to_owned());
        }
        errors
    });
}

/// Runs the commands of a console block in a folder with a copy of `www`. Lines of output must
/// occur in this order; `..` stands for others.
fn run_console(block: &str) -> Result<(), String> {
    let scene = tempfile::TempDir::with_prefix("whirligig-chapters-").unwrap();
    fs::create_dir(scene.path().join("bin")).unwrap();
    symlink(binary(), scene.path().join("bin/whirligig")).unwrap();
    let copied = run(std::process::Command::new("cp").arg("-r").arg(www()).arg(scene.path()));
    assert_eq!(copied.code, Some(0), "{}", copied.err);
    let mut serving: Option<Server> = None;
    let mut output = String::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        let Some(command) = line.strip_prefix("$ ") else {
            if line.trim() == ".." {
                continue;
            }
            let shown = line.trim();
            let Some(at) = output.lines().position(|one| one.trim() == shown) else {
                return Err(format!("no line '{shown}' in:\n{output}"));
            };
            output = output.lines().skip(at + 1).collect::<Vec<_>>().join("\n");
            continue;
        };
        if let Some(command) = command.strip_suffix(" &") {
            serving = Some(Server::launch(shell(scene.path(), &format!("exec env {command}"))));
            continue;
        }
        let port = serving.as_ref().map_or(8080, |server| server.port);
        let command = command.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"));
        let ended = run_within(COMMAND_TIME, &mut shell(scene.path(), &command));
        if ended.code != Some(0) {
            return Err(format!("'{command}' ended with {:?}\n{}{}", ended.code, ended.out, ended.err));
        }
        output = ended.out;
    }
    Ok(())
}

#[test]
fn commands_of_the_chapters_work() {
    if program(&["curl"], "WHIRLIGIG_REQUIRE_CLIENTS").is_none() {
        return;
    }
    for_all(|page| {
        let tested = page
            .all("pre", "console")
            .into_iter()
            .filter(|at| page.tokens[*at].attribute("data-untested").is_none());
        tested.filter_map(|at| run_console(&page.text(at)).err()).collect()
    });
}

/// Attributes that a translation shares with its original.
const SHARED: [&str; 12] = [
    "id",
    "data-key",
    "data-answer",
    "data-link",
    "data-panes",
    "data-from",
    "data-to",
    "data-moves",
    "data-versus",
    "data-bugs",
    "data-file",
    "data-figure",
];

/// Returns the differences between a translation and its original. A sentence may have its figures
/// in another order.
fn differences(page: &Page, original: &Page) -> Vec<String> {
    let values = |page: &Page, key: &str| {
        let mut all: Vec<String> =
            page.tokens.iter().filter_map(|token| token.attribute(key)).map(str::to_owned).collect();
        all.sort();
        all
    };
    let consoles = |page: &Page| -> Vec<String> {
        page.all("pre", "console").into_iter().map(|at| page.text(at)).collect()
    };
    let links = |page: &Page, other: &Page| {
        let mut switches = page
            .all("a", "")
            .into_iter()
            .filter(|at| page.tokens[*at].attribute("hreflang").is_some())
            .map(|at| page.target(page.value(at, "href")).0);
        switches.any(|path| path == other.path)
    };
    let mut errors: Vec<String> = SHARED
        .into_iter()
        .filter(|key| values(page, key) != values(original, key))
        .map(|key| format!("other values of {key} than {}", original.path))
        .collect();
    if consoles(page) != consoles(original) {
        errors.push(format!("other commands than {}", original.path));
    }
    if !links(page, original) || !links(original, page) {
        errors.push(format!("{} and the translation have no links to each other", original.path));
    }
    errors
}

#[test]
fn a_translation_has_the_parts_of_its_original() {
    for_all(|page| match page.path.split('/').collect::<Vec<_>>()[..] {
        [folder, _, name] => differences(page, &Page::read(&format!("{folder}/{name}"))),
        _ => Vec::new(),
    });
}

/// Each chapter leads to the next one and to the ladder, and each stage of the ladder to a chapter.
#[test]
fn chapters_and_the_ladder_lead_to_each_other() {
    for_all(|page| {
        let links: Vec<&str> = page.tokens.iter().filter_map(|token| token.attribute("href")).collect();
        let files: Vec<&str> = page.tokens.iter().filter_map(|token| token.attribute("data-file")).collect();
        let opening = Page::read("loop.html");
        let list = opening.all("ol", "chapters")[0];
        let all: Vec<String> = inside(&opening.tokens, list)
            .iter()
            .filter_map(|token| Some(token.attribute("href")?.rsplit('/').next()?.to_owned()))
            .collect();
        let at = all.iter().position(|name| page.path.ends_with(name.as_str()));
        let next = at.and_then(|at| all.get(at + 1));
        let mut errors = Vec::new();
        if next.is_some_and(|name| !links.iter().any(|link| link.trim_start_matches("../") == name)) {
            errors.push(format!("no link to {next:?}"));
        }
        if !files.contains(&"learn/ladder/README.md") {
            errors.push("no link to the ladder".to_owned());
        }
        errors
    });
    let ladder = Path::new(env!("CARGO_MANIFEST_DIR")).join("learn/ladder/README.md");
    let text = fs::read_to_string(ladder).unwrap();
    let stages: Vec<&str> = text.split("\n## ").filter(|section| section.starts_with("Stage ")).collect();
    assert_eq!(stages.len(), 8);
    for stage in stages {
        assert!(stage.contains("/www/learn/"), "no chapter in: {}", stage.lines().next().unwrap());
    }
}

/// The opening page links exactly the chapters that exist, in their order.
#[test]
fn the_opening_page_lists_the_chapters() {
    let opening = Page::read("loop.html");
    let list = opening.all("ol", "chapters")[0];
    let items = inside(&opening.tokens, list);
    let mut linked = Vec::new();
    let mut count = 0;
    for token in items {
        count += usize::from(token.opens("li", ""));
        if let Some(href) = token.attribute("href") {
            linked.push((count, href.to_owned()));
        }
    }
    let all = chapters();
    let mut existing: Vec<(usize, String)> = all
        .iter()
        .filter(|page| page.path.matches('/').count() == 1)
        .map(|page| {
            let number = page.text(page.all("p", "number")[0]);
            let words: Vec<&str> = number.split(' ').collect();
            assert_eq!((words[0], words[3]), ("Chapter", count.to_string().as_str()), "{}", page.path);
            (words[1].parse().unwrap(), page.path.clone())
        })
        .collect();
    existing.sort();
    assert_eq!(linked, existing);
    // The list has the titles of the pages.
    for at in opening.all("a", "") {
        let href = opening.value(at, "href");
        if let Some(page) = all.iter().find(|page| page.path == href) {
            assert_eq!(opening.text(at), page.text(page.all("h1", "")[0]), "{href}");
        }
    }
}
