//! Messages of the program: banner and log, errors before the start, and responses that name no
//! flags.

use std::fs;

use serde_json::Value;

use crate::docroot::Docroot;
use crate::harness::{MODELS, Server, bare_command, command, on_both, run, until};
use crate::wire::{Client, request};

#[test]
fn output_for_programs_stays_clean() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--access-log", "-", "--log-format", "json"]);
        let mut client = Client::connect(server.port);
        client.get("/hello.txt").expect(200);
        client.get("/last").expect(404);
        until("the lines are written", || server.out.text().contains("/last"));
        for line in server.out.text().lines() {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
        assert!(server.err.text().contains("whirligig ") && server.err.text().contains("http://"));

        for flags in [&["-q"][..], &["-q", "--bind", "127.0.0.1,127.0.0.2"]] {
            let server = Server::start(model, &docroot.root(), flags);
            Client::connect(server.port).get("/hello.txt").expect(200);
            assert_eq!(server.out.text(), format!("http://127.0.0.1:{}/\n", server.port));
            assert_eq!(server.err.text(), "");
        }
        let quiet = ["-q", "--access-log", "-"];
        let server = Server::start(model, &docroot.root(), &quiet);
        assert!(!server.out.text().contains("http://"), "{}", server.out.text());

        let server = Server::start(model, &docroot.root(), &[]);
        Client::connect(server.port).get("/hello.txt").expect(200);
        let text = server.out.text() + &server.err.text();
        assert!(!text.contains("Ctrl-C"), "there is no terminal: {text}");
    });
}

#[test]
fn users_with_another_hash_are_locked_out_alone() {
    let docroot = Docroot::new();
    docroot.write("private/x", "x");
    let sesame = bcrypt::hash("sesame", 4).unwrap();
    on_both(|model| {
        let file = docroot.outside(&format!("users-{model}"));
        let old = [
            "old:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00",
            "sha:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
            "locked:*",
        ];
        fs::write(&file, format!("{}\nanna:{sesame}\n", old.join("\n"))).unwrap();
        let rule = format!("{}@/private", file.display());
        for flag in ["--htpasswd", "--write-htpasswd"] {
            let flags = [flag, &rule, "--upload", "/private"];
            let server = Server::start(model, &docroot.root(), &flags);
            let mut client = Client::connect(server.port);
            let mut ask = |user: &str, password: &str| {
                let field = format!("Authorization: Basic {}", base64(&format!("{user}:{password}")));
                let method = if flag == "--htpasswd" { "GET" } else { "PUT" };
                client.ask(method, "/private/x", &[&field], b"").status
            };
            assert!([200, 204].contains(&ask("anna", "sesame")));
            for user in ["old", "sha", "locked", "nobody"] {
                assert_eq!(ask(user, "sesame"), 401, "{user}");
                assert_eq!(ask(user, "*"), 401, "{user}");
            }
            let text = server.err.text();
            for line in 1..=3 {
                assert_eq!(text.matches(&format!("line {line} has no bcrypt hash")).count(), 1, "{text}");
            }
            assert!(!text.contains("apr1") && !text.contains("{SHA}"), "no hash in a log: {text}");
        }
    });
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn a_rule_without_its_slash_is_a_warning_at_the_start() {
    let docroot = Docroot::new();
    on_both(|model| {
        let flags = ["--auth", "anna:geheim@private", "--write-auth", "bert:wort@in", "--upload", "/in"];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        client.get("/hello.txt").expect(401);
        let field = format!("Authorization: Basic {}", base64("anna:geheim@private"));
        client.ask("GET", "/hello.txt", &[&field], b"").expect(200);
        let warnings = ["--auth for 'anna' has no path", "--write-auth for 'bert' has no path"];
        until("both warnings are logged", || {
            let text = server.err.text();
            warnings.iter().all(|words| text.contains(words))
        });
        let text = server.err.text();
        for words in warnings {
            assert_eq!(text.lines().filter(|line| line.contains(words)).count(), 1, "{text}");
        }
        assert!(!text.contains("geheim") && !text.contains("wort"), "{text}");
    });
}

#[test]
fn errors_about_files_name_their_flag() {
    let docroot = Docroot::new();
    let bad = docroot.outside("bad");
    fs::write(&bad, "nonsense here\n").unwrap();
    let bad = bad.to_str().unwrap();
    let shown = format!("/cgi={bad}");
    for (flag, value) in [
        ("--rules", "/nosuch"),
        ("--rules", bad),
        ("--htpasswd", "/nosuch"),
        ("--htpasswd", bad),
        ("--write-htpasswd", "/nosuch@/in"),
        ("--write-htpasswd", bad),
        ("--vhost", "a.example=/nosuch"),
        ("--cgi", "/cgi=/nosuch"),
        ("--cgi", &shown),
        ("--config", "/nosuch"),
        ("--config", bad),
        ("--access-log", "/nosuch/log"),
    ] {
        let ended = run(&mut command(MODELS[0], &docroot.root(), &[flag, value]));
        assert!(matches!(ended.code, Some(1 | 2)), "{flag} {value}: {}", ended.err);
        assert_eq!(ended.err.lines().count(), 1, "{flag} {value}: {}", ended.err);
        let said = ended.err.replace("try 'whirligig --help'", "");
        assert!(
            said.contains(&format!("{flag} ")) || said.contains(&format!("{flag}:")),
            "{flag} {value}: {said}"
        );
    }
    let ended = run(&mut command(MODELS[0], &docroot.root(), &["--htpasswd", "users@private"]));
    assert!(ended.err.contains("a path begins with a slash: FILE@/PATH"), "{}", ended.err);
}

#[test]
fn wrong_flags_get_a_hint_and_only_similar_names() {
    for (line, words) in [
        (&["--host", "0.0.0.0"][..], "--bind ADDR"),
        (&["--directory", "/srv"], "whirligig DIR"),
        (&["--browser"], "--open opens the server in a browser"),
        (&["--cert", "x.pem"], "has no TLS"),
        (&["--index-file", "main.html"], "--index NAME"),
        (&["8000"], "--port 8000"),
        (&[".", "8000"], "--port 8000"),
        (&["--prot", "1"], "did you mean '--port'?"),
        (&["--frobnicate"], "unknown option '--frobnicate';"),
    ] {
        let ended = run(bare_command().args(line));
        assert!(matches!(ended.code, Some(1 | 2)), "{line:?}: {}", ended.err);
        assert!(ended.err.contains(words) && ended.err.lines().count() == 1, "{line:?}: {}", ended.err);
    }
}

/// A client cannot change a flag, and does not need to know which ones exist.
#[test]
fn responses_name_no_flags() {
    let docroot = Docroot::new();
    docroot.write("in/x", "x");
    docroot.write("private/x", "x");
    let outside = docroot.outside("programs");
    fs::create_dir(&outside).unwrap();
    let cgi = format!("/cgi={}", outside.display());
    on_both(|model| {
        let flags = ["--upload", "/in", "--auth", "a:b@/private", "--cgi", &cgi, "--no-listing"];
        let more = ["--max-upload", "10", "--max-body", "10", "--strict-hosts", "--vhost", "localhost=."];
        let server = Server::start(model, &docroot.root(), &[&flags[..], &more[..4]].concat());
        let named = Server::start(model, &docroot.root(), &more[4..]);
        let mut refused = 0;
        for (port, method, path, host, content) in [
            (server.port, "GET", "/private/x", "localhost", ""),
            (server.port, "GET", "/in/", "localhost", ""),
            (server.port, "GET", "/nosuch", "localhost", ""),
            (server.port, "PUT", "/in/large", "localhost", "more than ten bytes"),
            (server.port, "PUT", "/in/.hidden", "localhost", "x"),
            (server.port, "PUT", "/in/no/such/folder", "localhost", "x"),
            (server.port, "DELETE", "/in/nosuch", "localhost", ""),
            (server.port, "PUT", "/elsewhere", "localhost", "x"),
            (server.port, "POST", "/api/echo", "localhost", "more than ten bytes"),
            (server.port, "GET", "/cgi/nosuch", "localhost", ""),
            (server.port, "GET", "/%zz", "localhost", ""),
            (server.port, "PUT", "/in/new", "files.example", "x"),
            (server.port, "GET", "/in/", "files.example", ""),
            (server.port, "GET", "/_whirligig/metrics", "files.example", ""),
            (named.port, "GET", "/hello.txt", "files.example", ""),
        ] {
            for accept in ["Accept: text/html", "Accept: */*"] {
                let mut bytes = request(method, path, &[accept], content.as_bytes());
                let text = String::from_utf8(bytes.clone()).unwrap();
                let line = text.lines().find(|line| line.starts_with("Host: ")).unwrap();
                bytes = text.replacen(line, &format!("Host: {host}"), 1).into_bytes();
                let mut client = Client::connect(port);
                client.send(bytes);
                let response = client.response_to(method);
                let body = response.text();
                // The colours of the logo in the page are variables, `var(--a)`.
                let shown = body.split("</style>").last().unwrap();
                let is_flag = |word: &str| {
                    word.starts_with("--")
                        && word[2..].starts_with(char::is_alphabetic)
                        && !word.ends_with(')')
                };
                let found = shown.split([' ', '\'', '"', '>', '(']).find(|word| is_flag(word));
                assert_eq!(found, None, "{method} {path} at {host}: {shown}");
                refused += usize::from(response.status >= 400);
            }
        }
        assert!(refused >= 20, "{refused} were refused");
    });
}

#[test]
fn the_title_is_on_listings_and_error_pages() {
    let docroot = Docroot::new();
    docroot.write("404.html", "own page");
    on_both(|model| {
        let title = "Tom & <b>Jerry</b> \u{202e}";
        let shown = "Tom &amp; &lt;b&gt;Jerry&lt;/b&gt; \\u{202e}";
        let server = Server::start(model, &docroot.root(), &["--title", title]);
        let mut client = Client::connect(server.port);
        let listing = client.get("/plain/").expect(200);
        assert!(listing.text().contains(&format!("<title>{shown}: /plain/</title>")), "{}", listing.text());
        assert!(listing.text().contains(&format!("<h1><a href=\"../\">{shown}</a>")), "{}", listing.text());
        let missing = client.ask("GET", "/missing", &["Accept: text/html"], b"").expect(404);
        assert!(missing.text().contains(&format!("<title>404 Not Found - {shown}</title>")));
        let json = client.get("/plain/?json").expect(200);
        assert!(!json.text().contains("Tom"), "{}", json.text());
    });
}
