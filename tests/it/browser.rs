//! Pages of the server in a real browser, which must report no errors.
//!
//! The browser's log contains the console messages of a page. The server's access log contains the
//! requests that failed, because the browser does not report those. A page with planted errors
//! shows that the test would notice both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::devtools::Browser;
use crate::docroot::Docroot;
use crate::examples;
use crate::harness::{Server, on_both, program, run_within, until};
use crate::wire::{Client, references};

/// Maximum wait. A browser that starts for the first time on a busy machine needs long.
const PATIENCE: Duration = Duration::from_secs(40);

/// Result of a visit.
pub(crate) struct Visit {
    /// The page after its scripts have run.
    pub(crate) dom: String,
    /// Lines of the console.
    pub(crate) console: Vec<String>,
    /// Requests with an error status, from the access log.
    failed: Vec<String>,
}

pub(crate) fn chromium() -> Option<PathBuf> {
    program(&["chromium", "chromium-browser", "google-chrome"], "WHIRLIGIG_REQUIRE_CHROMIUM")
}

fn visit(chromium: &Path, model: &str, root: &Path, page: &str) -> Visit {
    visit_with(chromium, model, root, page, &[])
}

/// Visits a page of a server with further flags.
pub(crate) fn visit_with(chromium: &Path, model: &str, root: &Path, page: &str, more: &[&str]) -> Visit {
    let scratch = tempfile::tempdir().unwrap();
    let log = scratch.path().join("access.log");
    let server = Server::start(model, root, &[&["--access-log", log.to_str().unwrap()], more].concat());
    let profile = scratch.path().join("profile");
    let ended = run_within(
        PATIENCE,
        Command::new(chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("{}{page}", server.url)),
    );
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let console = ended.err.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    // After this line of its own, the log is complete.
    Client::connect(server.port).get("/end-of-the-visit").expect(404);
    let read = || fs::read_to_string(&log).unwrap_or_default();
    until("the visit is logged", || read().contains("/end-of-the-visit"));
    let is_failure = |line: &&str| {
        !line.contains("/end-of-the-visit")
            && line.rsplit(' ').nth(1).is_none_or(|status| !matches!(status.parse(), Ok(200..400)))
    };
    Visit { dom: ended.out, console, failed: read().lines().filter(is_failure).map(str::to_owned).collect() }
}

fn www() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www")
}

#[test]
fn a_browser_shows_home_page_and_listing_without_errors() {
    let Some(chromium) = chromium() else { return };
    on_both(|model| {
        for (page, words) in [
            // The script of the page inserts the last one from a response of the server.
            ("", &["Whirligig", "spins in one place", "application/json"][..]),
            ("loop.html", &["turn"]),
            ("files/", &["走马灯.txt", "a file with spaces.txt", "numbers.csv", "pictures"]),
            ("files/?sort=size&order=desc", &["numbers.csv"]),
            ("notes/zhuan-deng.txt", &["灯"]),
        ] {
            let visit = visit(&chromium, model, &www(), page);
            for word in words {
                assert!(visit.dom.contains(word), "{word:?} in /{page}:\n{}", visit.dom);
            }
            assert!(visit.console.is_empty(), "/{page}: {:?}", visit.console);
            assert!(visit.failed.is_empty(), "/{page}: {:?}", visit.failed);
        }
    });
}

/// Types into the search box of a listing and returns the visible rows.
#[test]
fn rows_match_the_search_text() {
    let Some(chromium) = chromium() else { return };
    let docroot = Docroot::empty();
    for name in ["Alpha.txt", "beta.txt", "alphabet/x", "gamma.md"] {
        docroot.write(&format!("folder/{name}"), "x");
    }
    docroot.write("folder/README.md", "# Read me\n\n|a|b|\n|-|-|\n|c|[d](beta.txt)|\n");
    docroot.write(
        "index.html",
        "<!doctype html><title>x</title><link rel=icon href=data:,><iframe src=folder/?sort=size></iframe><p id=p></p><script>\
         document.querySelector('iframe').onload = event => {\
         const page = event.target.contentDocument, box = page.forms[0].q, seen = [];\
         for (const text of ['ALPHA', 'zzz', '']) {\
         box.value = text; box.dispatchEvent(new Event('input'));\
         seen.push([...page.querySelectorAll('tr.e:not([hidden]) a')].map(a => a.textContent).join() + \
         ' (' + page.querySelector('output').textContent + ')') }\
         const key = key => page.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));\
         key('/'); seen.push(page.activeElement.name); key('ArrowDown'); key('ArrowDown');\
         seen.push(page.activeElement.textContent);\
         p.textContent = 'seen: ' + seen.join('; ') + '.' }</script>",
    );
    on_both(|model| {
        let visit = visit(&chromium, model, &docroot.root(), "");
        let seen = "seen: alphabet/,Alpha.txt (2 of 5);  (0 of 5); \
            alphabet/,Alpha.txt,beta.txt,gamma.md,README.md (); q; alphabet/.";
        assert!(visit.dom.contains(seen), "{}", visit.dom);
        assert!(visit.console.is_empty(), "{:?}", visit.console);
        assert!(visit.failed.is_empty(), "{:?}", visit.failed);
    });
}

/// On a phone, a wide table scrolls. No cell has more lines than words.
#[test]
fn tables_of_a_readme_keep_words_whole_on_a_phone() {
    let Some(chromium) = chromium() else { return };
    let docroot = Docroot::empty();
    let row = |cell: &str| format!("| {} |\n", [cell; 9].join(" | "));
    let tables = [
        row("server") + &row("---") + &row("supported") + &row("two words"),
        row("x") + &row("-") + &row("`a_long_identifier_in_code`") + &row("[a link](b.txt)"),
        "| one | two |\n|-|-|\n| Donaudampfschifffahrtsgesellschaft | größer |\n".to_owned(),
    ];
    docroot.write("folder/README.md", format!("# Read me\n\n{}", tables.join("\ntext\n\n")));
    docroot.write(
        "index.html",
        "<!doctype html><title>x</title><link rel=icon href=data:,>\
         <iframe src=folder/ style='width:380px;height:900px;border:0'></iframe><p id=p></p><script>\
         document.querySelector('iframe').onload = event => {\
         const page = event.target.contentDocument, root = page.documentElement, range = page.createRange();\
         const cells = [...page.querySelectorAll('.readme td, .readme th')];\
         const torn = cells.filter(cell => { range.selectNodeContents(cell);\
         const words = cell.textContent.trim().split(/\\s+/).length;\
         const lines = range.getBoundingClientRect().height / parseFloat(getComputedStyle(cell).lineHeight);\
         return Math.round(lines) > words }).map(cell => cell.textContent);\
         p.textContent = 'cells: ' + cells.length + '; torn: ' + torn.join() +\
         '; beside the page: ' + (root.scrollWidth - root.clientWidth) + '.' }</script>",
    );
    on_both(|model| {
        let visit = visit(&chromium, model, &docroot.root(), "");
        assert!(visit.dom.contains("cells: 58; torn: ; beside the page: 0."), "{}", visit.dom);
    });
}

/// Links within a README find their headings, with and without the prefix of the page, and harmless
/// HTML is shown. On a phone, tables and code scroll in boxes of their own. No known attack acts.
#[test]
fn a_readme_is_shown_as_its_author_meant_it() {
    let Some(chromium) = chromium() else { return };
    let docroot = Docroot::empty();
    let filler = "text\n\n".repeat(60);
    let wide = format!("| {} |\n| {} |\n", ["column"; 20].join(" | "), ["---"; 20].join(" | "));
    let code = format!("    {}\n", "code ".repeat(60));
    docroot.write("pic.svg", "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>");
    docroot.write(
        "README.md",
        format!(
            "<p align=\"center\"><img src=\"pic.svg\" alt=\"p\"></p>\n\n[to it](#größe--more)\n\n{filler}# Größe & more\n\n{wide}\n\
             {code}\n<!-- hidden -->\n<details><summary>Sum</summary>\n\n*inside*\n\n</details>\n{filler}"
        ),
    );
    // Each would set the title or send a request to a name that does not exist on the server.
    docroot.write(
        "hostile/README.md",
        "<script>document.title='run'</script>\n\n<img src=/x1 onerror=\"document.title='run'\">\n\n\
         <svg onload=\"document.title='run'\">\n\n<div style=\"background:url(/x2)\">\n\n\
         <ul><li><div><li></li></div></li></ul></div></article></section></main><form action=/x3><input name=q>\n\n\
         <details ontoggle=\"document.title='run'\" open><summary>s</summary></details>\n\n\
         <a href=\"javascript:document.title='run'\">go</a><iframe src=/x4></iframe>\n",
    );
    docroot.write("x1", "no picture");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut browser = Browser::start(&chromium);
        browser.look_like(380, 800, "light");
        browser.open(&server.url);
        for (name, want) in [
            ("the page is no wider than the phone", "document.documentElement.scrollWidth <= 380"),
            (
                "the table scrolls",
                "(e => e.scrollWidth > e.clientWidth)(document.querySelector('.readme .wide'))",
            ),
            ("code scrolls", "(e => e.scrollWidth > e.clientWidth)(document.querySelector('.readme pre'))"),
            ("the picture is shown", "document.querySelector('.readme img').naturalWidth == 9"),
            ("details are closed", "document.querySelector('.readme details').clientHeight < 40"),
            ("a comment is hidden", "!document.querySelector('article').textContent.includes('hidden')"),
        ] {
            assert_eq!(browser.value(want), true, "{name}");
        }
        let is_at_heading =
            "Math.abs(document.querySelector('.readme article h2').getBoundingClientRect().top) < 40";
        assert_eq!(browser.value(is_at_heading), false);
        browser.click(".readme article a");
        browser.until(is_at_heading);
        browser.open(&format!("{}?text=0", server.url));
        browser.value(&format!("location.href = '{}#größe--more'", server.url));
        browser.until(is_at_heading);

        browser.open(&format!("{}hostile/", server.url));
        browser.click(".readme article a");
        assert_eq!(browser.value("document.title"), "Index of /hostile/");
        let found = "[document.querySelectorAll('article').length, \
             [...document.querySelectorAll('article *')].filter(e => [...e.attributes].some(a => /^on|style/.test(a.name))).length, \
             document.querySelectorAll('article form, article iframe, article svg, article script').length, \
             document.querySelector('main').lastElementChild.localName, \
             document.querySelector('.readme').lastElementChild.localName].join()";
        assert_eq!(browser.value(found), "1,0,0,footer,article");
        assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
    });
}

#[test]
fn a_planted_error_is_noticed() {
    let Some(chromium) = chromium() else { return };
    let docroot = Docroot::empty();
    docroot.write(
        "index.html",
        "<!doctype html><title>x</title><p>shown</p><script>console.error('planted');nosuch()</script>\
         <img src=missing.png>",
    );
    let visit = visit(&chromium, "reactor", &docroot.root(), "");
    assert!(visit.dom.contains("<p>shown</p>"), "{}", visit.dom);
    assert!(visit.console.iter().any(|line| line.contains("planted")), "{:?}", visit.console);
    assert!(visit.console.iter().any(|line| line.contains("nosuch")), "{:?}", visit.console);
    assert!(visit.failed.iter().any(|line| line.contains("/missing.png")), "{:?}", visit.failed);
}

/// Uses the examples like a person: signs a guest book, sends files, logs in and out, watches a
/// clock.
#[test]
fn a_person_walks_through_form_upload_login_and_events() {
    let Some(chromium) = chromium() else { return };
    on_both(|model| {
        let mut browser = Browser::start(&chromium);
        let at = |page: &str, server: &Server| format!("{}{page}", server.url);

        let server = examples::start("form", model, &[]);
        browser.open(&server.url);
        browser.type_into("input[name=name]", "Anna & <b>Bert</b>");
        browser.click("input[name=again]");
        browser.click("#sign");
        browser.until("guests.textContent == 'Anna & <b>Bert</b> (will come again)'");
        browser.type_into("input[name=search]", "nobody");
        browser.click("form[method=get] button");
        browser.until("location.search == '?search=nobody' && guests.children.length == 0");

        let server = examples::start("upload", model, &[]);
        let folder = tempfile::tempdir().unwrap();
        let (small, large) = (folder.path().join("走马灯.txt"), folder.path().join("large.bin"));
        fs::write(&small, "round and round").unwrap();
        fs::write(&large, vec![7; 3_000_000]).unwrap();
        browser.open(&server.url);
        browser.type_into("input[name=note]", "two of them");
        browser.choose("#file", &[&small, &large]);
        browser.click("#send");
        browser.until("answer.textContent.startsWith('200')");
        let report = browser.value("answer.textContent");
        for line in
            ["field \"note\" = \"two of them\"", "\"走马灯.txt\" (text/plain), 15 bytes", "\"large.bin\""]
        {
            assert!(report.as_str().unwrap().contains(line), "{line} in {report}");
        }
        assert!(report.as_str().unwrap().contains("3000000 bytes"), "{report}");
        browser.until("progress.value == progress.max && progress.max > 3000000");

        let server = examples::start("login_session", model, &[]);
        browser.open(&server.url);
        browser.type_into("input[name=user]", "anna");
        browser.type_into("input[name=password]", "secret");
        browser.click("#login");
        browser
            .until("location.pathname == '/members' && document.body.textContent.includes('Welcome, anna')");
        assert_eq!(browser.value("document.cookie"), "", "scripts must not see the session");
        browser.open(&at("admin", &server));
        browser.until("document.body.textContent.includes('only anna')");
        browser.open(&at("members", &server));
        browser.click("#logout");
        browser.until("location.pathname == '/' && document.querySelector('#login')");
        browser.open(&at("members", &server));
        browser.until("document.body.textContent.includes('log in first')");

        let server = examples::start("sse_clock", model, &["50"]);
        browser.open(&server.url);
        browser.until("Number(count.textContent) >= 3 && clock.textContent.startsWith('2')");
        assert_eq!(browser.complaints, Vec::<String>::new());
    });
}

/// Edits a page while a browser shows it.
#[test]
fn a_page_reloads_when_a_file_changes() {
    let Some(chromium) = chromium() else { return };
    on_both(|model| {
        let docroot = Docroot::empty();
        docroot.write(
            "index.html",
            "<!doctype html><link rel=stylesheet href=deep/style.css><h1 id=title>first</h1>",
        );
        docroot.write("deep/style.css", "h1 { color: rgb(1, 2, 3) }");
        let server = Server::start(model, &docroot.root(), &["--live-reload"]);
        let mut browser = Browser::start(&chromium);
        browser.open(&server.url);
        browser.until("title.textContent == 'first'");
        // Once the page has its script, it misses no change.
        const HAS_SCRIPT: &str =
            "performance.getEntriesByName(location.origin + '/_whirligig/live.js').length > 0";
        browser.until(HAS_SCRIPT);
        docroot.write(
            "index.html",
            "<!doctype html><link rel=stylesheet href=deep/style.css><h1 id=title>second</h1>",
        );
        browser.until("title.textContent == 'second'");
        browser.until(HAS_SCRIPT);
        docroot.write("deep/style.css", "h1 { color: rgb(4, 5, 6) }");
        browser.until("getComputedStyle(title).color == 'rgb(4, 5, 6)'");
        assert_eq!(browser.complaints, Vec::<String>::new());
    });
}

/// Every link of every page has a target, except for the deliberate 404.
#[test]
fn no_link_of_the_home_page_is_dead() {
    let server = Server::start("reactor", &www(), &[]);
    let mut client = Client::connect(server.port);
    let mut open = vec!["/".to_owned()];
    let mut seen: Vec<String> = Vec::new();
    while let Some(page) = open.pop() {
        if seen.contains(&page) {
            continue;
        }
        seen.push(page.clone());
        assert!(seen.len() < 500, "pages without end: {seen:?}");
        let got = client.ask("GET", &page, &["Accept: text/html,*/*;q=0.5"], b"");
        if page.contains("blown-away") {
            assert_eq!(got.status, 404);
        } else if page.starts_with("/api/echo") {
            assert_ne!(got.status, 404);
        } else {
            assert_eq!(got.status, 200, "{page}");
            if got.must("content-type").starts_with("text/html") {
                open.extend(references(&page, got.text()));
            }
        }
    }
    assert!(seen.iter().any(|page| page.contains("%20")), "a file with a space in its name: {seen:?}");
}
