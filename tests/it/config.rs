//! Settings from a file: precedence, error messages, and the settings that the program prints.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::docroot::{Docroot, HELLO};
use crate::harness::{Server, bare_command, on_both, program, run, until};
use crate::wire::Client;

/// A folder with a `whirligig.toml`.
struct Settings(TempDir);

impl Settings {
    fn new(text: &str) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("whirligig.toml"), text).unwrap();
        Settings(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("whirligig.toml")
    }

    /// Returns the program with this file.
    fn command(&self) -> Command {
        let mut command = bare_command();
        command.arg("--config").arg(self.path());
        command
    }
}

/// Quotes a path for TOML.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

#[test]
fn a_server_starts_from_a_file_alone() {
    let docroot = Docroot::new();
    on_both(|model| {
        let log = tempfile::tempdir().unwrap();
        let log = log.path().join("access.log");
        let settings = Settings::new(&format!(
            "# all there is\nmodel = '{model}'\nport = 0\nroot = {}\nbind = ['127.0.0.1']\napi = false\n\
             listing = false\nhealth = false\nmax-head = '1k'\nlog-format = 'json'\naccess-log = {}\n",
            quoted(&docroot.root()),
            quoted(&log)
        ));
        let mut by_variable = bare_command();
        by_variable.env("WHIRLIGIG_CONFIG", settings.path());
        for (count, command) in [(1, settings.command()), (2, by_variable)] {
            let server = Server::launch(command);
            assert!(server.out.text().contains(&format!("({model})")), "{}", server.out.text());
            let mut client = Client::connect(server.port);
            client.get("/hello.txt").expect(200).with_body(HELLO);
            client.get("/api/time").expect(404);
            client.get("/_whirligig/health").expect(404);
            client.get("/plain/").expect(404);
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(2000)));
            client.response().expect(431);
            until("it is logged as JSON", || {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                text.matches(r#""target":"/hello.txt""#).count() == count
            });
        }
    });
}

/// Each of the four sources overrides the ones after it, and leaves other settings alone.
#[test]
fn flag_beats_variable_beats_file_beats_default() {
    let docroot = Docroot::new();
    on_both(|model| {
        let settings = Settings::new(
            "model = 'threads'\nport = 1\nmax-head = '2k'\nmax-target = '1k'\nno-api = true\nlisting = false\n",
        );
        let mut command = settings.command();
        command.env("WHIRLIGIG_MODEL", model).env("WHIRLIGIG_MAX_HEAD", "4k").env("WHIRLIGIG_PORT", "2");
        command.env("WHIRLIGIG_NO_LISTING", "false");
        command.args(["--port", "0", "--api"]).arg(docroot.root());
        let server = Server::launch(command);
        assert!(
            server.port > 2 && server.out.text().contains(&format!("({model})")),
            "{}",
            server.out.text()
        );
        let mut client = Client::connect(server.port);
        client.get("/api/time").expect(200);
        client.get("/plain/").expect(200);
        client.get("/_whirligig/health").expect(200);
        client.send(format!("GET /hello.txt HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(3000)));
        client.response().expect(200);
        client.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1500)));
        client.response().expect(414);
    });
}

#[test]
fn a_file_is_read_only_if_it_is_named() {
    let docroot = Docroot::new();
    let settings = Settings::new("nonsense");
    on_both(|model| {
        let mut command = bare_command();
        command.current_dir(settings.0.path()).args(["--model", model, "--port", "0"]).arg(docroot.root());
        Client::connect(Server::launch(command).port).get("/hello.txt").expect(200);
    });
}

/// A relative path is relative to the current folder of the program, not to that of the file.
#[test]
fn a_relative_path_is_one_from_the_present_folder() {
    let docroot = Docroot::new();
    let settings = Settings::new("root = '.'\nport = 0\n");
    on_both(|model| {
        let mut command = settings.command();
        command.current_dir(docroot.root()).args(["--model", model]);
        Client::connect(Server::launch(command).port).get("/hello.txt").expect(200).with_body(HELLO);
    });
}

#[test]
fn errors_in_the_file_are_reported_in_one_line() {
    for (text, code, words) in [
        ("\nprot = 1", 2, "whirligig.toml:2: unknown key 'prot': did you mean 'port'?"),
        ("port = 65536", 2, "whirligig.toml:1: port '65536': not a whole number from 0 to 65535"),
        ("[port]\nnumber = 1", 2, "whirligig.toml:1: port: a table is not a valid value"),
        ("port = 0\nport = 1", 2, "whirligig.toml:2: duplicate key"),
        ("quiet = true\nverbose = 1", 2, "whirligig.toml:2): they contradict each other"),
        ("root = 'no-such-folder'", 1, "cannot serve 'no-such-folder'"),
        ("root = 'no\\u001bsuch'", 1, "cannot serve"),
        ("\"\\u001b[2J\" = 1", 2, "unknown key"),
    ] {
        let ended = run(&mut Settings::new(text).command());
        assert_eq!(ended.code, Some(code), "{text:?}: {}", ended.err);
        assert!(ended.err.contains(words), "{text:?}: {}", ended.err);
        assert_eq!(ended.err.trim_end().lines().count(), 1, "{text:?}: {}", ended.err);
        assert!(!ended.err.contains('\u{1b}') && ended.out.is_empty(), "{text:?}: {}", ended.err);
    }
    for missing in ["no-such-file.toml", "/", "/dev/zero"] {
        let ended = run(bare_command().args(["--config", missing]));
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        assert!(ended.err.contains(&format!("--config: cannot read '{missing}': ")), "{}", ended.err);
        assert_eq!(ended.err.trim_end().lines().count(), 1, "{}", ended.err);
    }
}

/// Returns the lines with a setting and its source, without alignment.
fn told(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn printed_settings_can_be_read_back() {
    let settings = Settings::new("port = 81\nmax-body = '1M'\nlisting = false\napi = false\nverbose = 2\n");
    let file = settings.path().display().to_string();
    let mut command = settings.command();
    command.env("WHIRLIGIG_PORT", "82").env("WHIRLIGIG_MAX_POOL", "1M");
    command.args([
        "--show-config",
        "-b",
        "::1",
        "--bind=unix:/a b\"c",
        "--idle-timeout",
        "1.5",
        "--api",
        "-q",
        "a\\b",
    ]);
    let first = run(&mut command);
    assert_eq!((first.code, first.err.as_str()), (Some(0), ""));
    assert_eq!(
        told(&first.out),
        [
            r#"root = "a\\b" # command line"#.to_owned(),
            r#"bind = ["::1", "unix:/a b\"c"] # command line"#.to_owned(),
            "port = 82 # environment WHIRLIGIG_PORT".to_owned(),
            format!("listing = false # file {file}:3"),
            "api = true # command line".to_owned(),
            "quiet = true # command line".to_owned(),
            "idle-timeout = 1.5 # command line".to_owned(),
            format!(r#"max-body = "1M" # file {file}:2"#),
            r#"max-pool = "1M" # environment WHIRLIGIG_MAX_POOL"#.to_owned(),
        ]
    );
    assert!(first.out.contains(&format!("# file {file}:5, overridden by quiet\n")), "{}", first.out);
    assert!(first.out.contains("\n#max-head = \"32KiB\" "), "{}", first.out);
    let again = Settings::new(&first.out);
    let second = run(again.command().arg("--show-config"));
    assert_eq!((second.code, second.err.as_str()), (Some(0), ""));
    let values = |text: &str| -> Vec<String> {
        told(text).iter().map(|line| line.split(" # ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(values(&second.out), values(&first.out));
    assert!(told(&second.out).iter().all(|line| line.contains("# file")), "{}", second.out);
}

/// Printed defaults stay defaults: with the printed file, too, a taken default port is replaced.
#[test]
fn a_printed_default_stays_a_default() {
    let docroot = Docroot::new();
    let shown = run(bare_command().arg("--show-config").arg(docroot.root()));
    let settings = Settings::new(&shown.out);
    let _holder = std::net::TcpListener::bind("127.0.0.1:8080");
    on_both(|model| {
        let mut command = settings.command();
        command.args(["--model", model]);
        let server = Server::launch(command);
        assert_ne!(server.port, 8080);
        Client::connect(server.port).get("/hello.txt").expect(200);
    });
}

/// Runs a foreign program with `input` on its standard input. Returns its output, and panics if it
/// reports an error.
fn fed(program: &Path, args: &[&str], input: &str) -> String {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let output = Command::new(program).args(args).stdin(Stdio::from(file)).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", program.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn shells_accept_the_completion_scripts() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(bare_command().args(["--completions", shell]));
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{shell}");
        assert!(ended.out.contains("show-config") && ended.out.contains("max-turn-bytes"), "{shell}");
        let may_be_missing = "WHIRLIGIG_REQUIRE_SHELLS";
        match shell {
            "bash" => {
                let Some(bash) = program(&["bash"], "WHIRLIGIG_REQUIRE_CLIENTS") else { continue };
                fed(&bash, &["--norc", "-n"], &ended.out);
                let ask = "COMP_WORDS=(whirligig --model ''); COMP_CWORD=2; _whirligig whirligig '' --model; \
                           echo \"${COMPREPLY[@]}\"";
                let said = fed(&bash, &["--norc"], &format!("{}\n{ask}\n", ended.out));
                assert_eq!(said.trim(), "reactor threads");
            }
            "zsh" | "fish" => {
                let Some(program) = program(&[shell], may_be_missing) else { continue };
                fed(&program, &["-n"], &ended.out);
            }
            _ => {}
        }
    }
    let ended = run(bare_command().args(["--completions", "tcsh"]));
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("must be one of bash, elvish, fish, powershell, zsh"), "{}", ended.err);
}

#[test]
fn troff_accepts_the_manual_page() {
    let ended = run(bare_command().arg("--man"));
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert!(ended.out.contains(".TH WHIRLIGIG 1"), "{}", ended.out);
    let Some(groff) = program(&["groff"], "WHIRLIGIG_REQUIRE_GROFF") else { return };
    let page = fed(&groff, &["-man", "-ww", "-Tascii", "-P-cbou"], &ended.out);
    for words in
        ["WHIRLIGIG_MAX_TURN_REQUESTS", "--show-config", "130, 131, 143", "SIGHUP", "listing = false"]
    {
        assert!(page.contains(words), "{words} in\n{page}");
    }
}
