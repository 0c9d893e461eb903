//! The recipes of `docs/recipes.md`, run from end to end with curl, git and PHP.
//!
//! The `sh` blocks of a recipe run in a folder of their own. A line that starts `whirligig` and
//! ends with `&` starts a server on a free port, and the lines below it use that port. A block that
//! begins with `#!/bin/sh` is a script of its own. Every command must end with status 0.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::documents::{blocks, shell};
use crate::harness::{Finished, Process, Server, on_both, program, run_within, until};
use crate::wire::Client;

const REQUIRED: &str = "WHIRLIGIG_REQUIRE_CLIENTS";

const RECIPES: &str = include_str!("../../docs/recipes.md");

/// Maximum run of a part of a recipe. git starts some processes for each command.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A recipe at work.
struct Kitchen {
    folder: tempfile::TempDir,
    model: String,
    server: Option<Server>,
}

impl Kitchen {
    fn new(model: &str) -> Kitchen {
        let folder = tempfile::TempDir::with_prefix("whirligig-recipes-").unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(crate::harness::binary(), folder.path().join("bin/whirligig")).unwrap();
        Kitchen { folder, model: model.to_owned(), server: None }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    fn port(&self) -> u16 {
        self.server.as_ref().expect("the recipe has started a server").port
    }

    fn command(&self, script: &str) -> Command {
        let mut text = format!("set -eu\n{script}");
        if let Some(server) = &self.server {
            text = text.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", server.port));
        }
        let mut command = shell(self.folder.path(), &text);
        command.env("WHIRLIGIG_MODEL", &self.model).env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("GIT_TERMINAL_PROMPT", "0").env_remove("GIT_DIR");
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "Anna")
                .env(format!("GIT_{role}_EMAIL"), "anna@example.org");
        }
        command
    }

    /// Runs commands of a user.
    fn run(&self, script: &str) -> Finished {
        run_within(PATIENCE, &mut self.command(script))
    }

    /// Runs commands, which must succeed. Returns their output.
    fn must(&self, script: &str) -> String {
        let ended = self.run(script);
        assert_eq!(ended.code, Some(0), "{script}\n{}{}", ended.out, ended.err);
        ended.out
    }

    /// Runs a block of the document. Returns the output of the lines below the server.
    fn cook(&mut self, block: &str) -> String {
        if block.starts_with("#!") {
            return self.must(block);
        }
        let (mut lines, mut whole) = (Vec::new(), String::new());
        for line in block.lines() {
            whole.push_str(line);
            match whole.strip_suffix('\\') {
                // A continued line has another one.
                Some(start) if start.starts_with("whirligig ") => whole.truncate(start.len()),
                _ => lines.push(std::mem::take(&mut whole)),
            }
        }
        let is_server = |line: &String| line.starts_with("whirligig ") && line.ends_with(" &");
        let Some(at) = lines.iter().position(is_server) else { return self.must(&lines.join("\n")) };
        self.must(&lines[..at].join("\n"));
        let start = lines[at].trim_end_matches(" &");
        self.server = Some(Server::launch(self.command(&format!("exec {start}"))));
        self.must(&lines[at + 1..].join("\n"))
    }
}

/// The blocks of a recipe.
fn recipe(title: &str) -> Vec<String> {
    let start = RECIPES.split_once(&format!("\n## {title}\n")).expect("a recipe of this title").1;
    blocks(start.split("\n## ").next().unwrap_or(start), "sh")
}

fn has(names: &[&str]) -> bool {
    names.iter().all(|name| program(&[name], REQUIRED).is_some())
}

#[test]
fn every_recipe_has_a_test() {
    let here = include_str!("recipes.rs");
    for title in RECIPES.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(here.contains(&format!("recipe(\"{title}\")")), "no test of '{title}'");
    }
}

#[test]
fn photos() {
    if !has(&["curl", "unzip"]) {
        return;
    }
    on_both(|model| {
        let mut kitchen = Kitchen::new(model);
        kitchen.write("Pictures/cat.png", "a cat");
        let out = kitchen.cook(&recipe("Show photos to other machines")[0]);
        assert!(out.contains("cat.png"), "{out}");
        assert_eq!(kitchen.must("unzip -p Pictures.zip '*cat.png'"), "a cat");
    });
}

#[test]
fn a_colleague_resumes_an_upload() {
    if !has(&["curl"]) {
        return;
    }
    on_both(|model| {
        let mut kitchen = Kitchen::new(model);
        let content: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
        kitchen.write("big.iso", &content);
        let [serve, send, resume] = &recipe("Take files from a colleague")[..] else {
            panic!("three blocks")
        };
        kitchen.cook(serve);
        // The upload would take 16 s, and breaks off as soon as its address is known.
        let slowly = send.replace("curl ", "exec curl --limit-rate 250k ");
        let sender = Process(kitchen.command(&slowly).stdin(Stdio::null()).spawn().unwrap());
        let head = || fs::read_to_string(kitchen.path("head.txt")).unwrap_or_default().to_lowercase();
        until("the upload has an address", || head().contains("\nlocation: "));
        drop(sender);
        assert!(!kitchen.path("site/inbox/big.iso").exists());
        kitchen.must(resume);
        assert!(fs::read(kitchen.path("site/inbox/big.iso")).unwrap() == content, "the file is whole");
        // What has arrived stays.
        kitchen.write("big.iso", "short");
        assert_ne!(kitchen.run(send).code, Some(0), "the colleague replaces a file");
        assert!(fs::read(kitchen.path("site/inbox/big.iso")).unwrap() == content);
        // The first command alone is enough if nothing breaks off, and a stranger may do nothing.
        fs::remove_file(kitchen.path("site/inbox/big.iso")).unwrap();
        kitchen.must(send);
        assert_eq!(fs::read(kitchen.path("site/inbox/big.iso")).unwrap(), b"short");
        Client::connect(kitchen.port()).get("/inbox/").expect(401);
        Client::connect(kitchen.port()).ask("PUT", "/inbox/x", &[], b"x").expect(401);
    });
}

#[test]
fn a_single_page_application() {
    if !has(&["curl"]) {
        return;
    }
    on_both(|model| {
        let mut kitchen = Kitchen::new(model);
        kitchen.write("site/index.html", "<!doctype html><title>app</title>");
        kitchen.write("site/assets/app.js", "start()");
        let out = kitchen.cook(&recipe("Serve a single-page application")[0]);
        assert!(out.contains("<title>app</title>"), "{out}");
        let mut client = Client::connect(kitchen.port());
        for path in ["/", "/orders", "/orders/", "/orders/17/items", "/settings"] {
            assert!(client.get(path).expect(200).text().contains("<title>app"), "{path}");
        }
        assert_eq!(
            client.get("/assets/app.js").expect(200).must("cache-control"),
            "max-age=31536000, immutable"
        );
        for path in ["/assets/none.js", "/nothing"] {
            client.get(path).expect(404);
        }
    });
}

#[test]
fn php_pages() {
    if !has(&["curl", "php-cgi"]) {
        return;
    }
    on_both(|model| {
        let mut kitchen = Kitchen::new(model);
        kitchen.write("site/index.html", "x");
        let out = kitchen.cook(&recipe("Run PHP pages")[0]);
        assert_eq!(out, "<h1>Hello, Anna!</h1>\n<h1>Hello, Bob!</h1>\n");
        let mut client = Client::connect(kitchen.port());
        let page = client.get("/php/hello.php?name=%3Cb%3E").expect(200);
        assert_eq!(page.text(), "<h1>Hello, &lt;b&gt;!</h1>\n");
        for path in ["/pages/hello.php", "/hello.php", "/php/../pages/hello.php"] {
            client.get(path).expect(404);
        }
    });
}

#[test]
fn git_over_http() {
    if !has(&["git"]) {
        return;
    }
    on_both(|model| {
        let mut kitchen = Kitchen::new(model);
        kitchen.write("site/index.html", "x");
        kitchen.cook(&recipe("Host Git repositories")[0]);
        // More than git sends in one piece.
        let mut state = 1u64;
        let content: Vec<u8> = (0..3 << 17)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect();
        kitchen.write("work/large", &content);
        kitchen.must(
            "cd work && git add large && git commit -qm 'Add a large file' && git push -q origin HEAD:main",
        );
        kitchen.must("git -C repositories/site.git symbolic-ref HEAD refs/heads/main");
        kitchen.must("git clone -q http://127.0.0.1:8080/read/git/site.git again");
        assert!(fs::read(kitchen.path("again/large")).unwrap() == content, "a clone has what was pushed");

        kitchen.must("cd work && git commit -q --allow-empty -m 'Add nothing'");
        let before = kitchen.must("git -C repositories/site.git rev-parse main");
        for target in ["read/git/site.git", "read/git/site", "write/git/site.git", "write/git/site"] {
            let push = |login: &str| {
                kitchen.run(&format!("git -C work push http://{login}127.0.0.1:8080/{target} HEAD:main"))
            };
            assert_ne!(push("").code, Some(0), "a stranger pushes to {target}");
            assert_ne!(push("anna:wrong@").code, Some(0), "a wrong password pushes to {target}");
            if target.starts_with("read") {
                assert_ne!(push("anna:secret@").code, Some(0), "{target} is for reading");
            }
        }
        assert_eq!(kitchen.must("git -C repositories/site.git rev-parse main"), before);
        kitchen.must("git -C work push -q origin HEAD:main && git -C again pull -q");
        assert_ne!(kitchen.must("git -C again rev-parse HEAD"), before);
    });
}

#[test]
fn a_script() {
    if !has(&["curl"]) {
        return;
    }
    on_both(|model| {
        let mut kitchen = Kitchen::new(model);
        kitchen.write("site/index.html", "the page");
        let script = &recipe("Serve a folder in a script")[0];
        assert_eq!(kitchen.cook(script), "the page");
        assert!(!Path::new(&kitchen.path("ready")).exists());
        // Without the folder the server ends before it prints a URL, and so does the script.
        let ended = kitchen.run(&script.replace(" site ", " no-such-folder "));
        assert_ne!(ended.code, Some(0), "{}", ended.out);
        kitchen.must("whirligig --no-such-option && exit 1 || test $? = 2");
        kitchen.must("whirligig no-such-folder && exit 1 || test $? = 1");
        kitchen.server = Some(Server::launch(kitchen.command("exec whirligig -q site")));
        let taken = format!("whirligig -q --port {} site && exit 1 || test $? = 1", kitchen.port());
        kitchen.must(&taken);
    });
}
