//! Examples: each is started with the command in its header, on both models, and does what the
//! header states.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{MODELS, Server, now, on_both, run_within, until};
use crate::wire::{Client, Response, chunked, request};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const JSON: &str = "Content-Type: application/json";

/// Cargo builds examples next to the folder of this test binary.
fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{}: plain `cargo test` or `cargo build --examples` builds it", path.display());
    path
}

fn command(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program(name));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts an example that serves. It ends with the test.
pub(crate) fn start(name: &str, model: &str, arguments: &[&str]) -> Server {
    Server::launch(command(name, &[arguments, &["--model", model]].concat()))
}

/// Runs `test` with a client of the example, on both models.
fn example(name: &str, test: impl Fn(&mut Client) + Sync) {
    on_both(|model| {
        let server = start(name, model, &[]);
        test(&mut Client::connect(server.port));
    });
}

/// Returns the `name=value` of the cookie that a response sets.
fn cookie(response: &Response) -> String {
    format!("Cookie: {}", response.must("set-cookie").split(';').next().unwrap())
}

#[test]
fn hello_returns_method_and_time() {
    example("hello", |client| {
        assert!(client.get("/").expect(200).text().starts_with("GET at 2"));
        assert!(client.ask("POST", "/", &[], b"ignored content").expect(200).text().starts_with("POST at 2"));
        client.get("/hello/world").expect(200).with_body("hello, world\n");
        client.get("/hello/%E7%81%AF").expect(200).with_body("hello, 灯\n");
        client.get("/slow").expect(200);
        client.get("/robots.txt").expect(200);
        client.get("/nosuch").expect(404);
        let refused = client.ask("PUT", "/slow", &[], b"").expect(405);
        assert_eq!(refused.must("allow"), "GET, HEAD, OPTIONS");
        client.ask("BREW", "/slow", &[], b"").expect(501);
        client.ask("TRACE", "/slow", &[], b"").expect(405);
        client.ask("OPTIONS", "/slow", &[], b"").expect(204);
        assert!(client.ask("HEAD", "/hello/you", &[], b"").expect(200).body.is_empty());
    });
}

#[test]
fn late_result_answers_the_client_that_stays() {
    example("late_result", |client| {
        client.get("/for/alice").expect(200).with_body("for alice\n");
        assert!(client.get("/_whirligig/metrics").expect(200).text().contains("whirligig_requests_total"));
    });
}

#[test]
fn late_result_drops_the_result_for_a_client_that_has_left() {
    let server = start("late_result", "reactor", &[]);
    let mut watcher = Client::connect(server.port);
    let mut metric = |name: &str| {
        let text = watcher.get("/_whirligig/metrics").expect(200).text().to_owned();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    // A worker that is quicker than this test has responded before the client leaves.
    until("a result is stale", || {
        let done = metric("whirligig_jobs_done_total");
        let mut alice = Client::connect(server.port);
        alice.send(request("GET", "/for/alice", &[], b""));
        until("alice's request is with a worker", || {
            let working = metric("whirligig_connections{phase=\"handling\"}") == 2;
            working && metric("whirligig_jobs_waiting ") == 0 || metric("whirligig_jobs_done_total") > done
        });
        alice.reset();
        Client::connect(server.port).get("/for/bob").expect(200).with_body("for bob\n");
        metric("whirligig_stale_total") > 0
    });
}

#[test]
fn request_headers_shows_the_request() {
    example("request_headers", |client| {
        let page = client.ask("GET", "/", &["X-Odd: <b>&"], b"").expect(200);
        assert!(
            page.text().contains("GET / HTTP/1.1") && page.text().contains("&lt;b&gt;&amp;"),
            "{}",
            page.text()
        );
        let raw = client.ask("GET", "/raw", &["X-Odd:   spaced  "], b"").expect(200);
        assert_eq!(raw.text(), "GET /raw HTTP/1.1\r\nHost: localhost\r\nX-Odd:   spaced  \r\n\r\n");
    });
}

#[test]
fn query_strings_are_decoded_and_read_as_numbers() {
    example("query", |client| {
        let page = client.get("/?a=1%2B1&a=x+y&%3Cb%3E").expect(200);
        for row in ["<b>a</b> is 1+1", "<b>a</b> is x y", "<b>&lt;b&gt;</b> is "] {
            assert!(page.text().contains(row), "{row} in {}", page.text());
        }
        client.get("/add?a=20&b=22").expect(200).with_body("42\n");
        client.get("/add?a=20").expect(422);
        client.get("/add?a=20&b=x").expect(422);
        client.get("/add?a=9223372036854775807&b=1").expect(422);
    });
}

#[test]
fn static_site_serves_a_folder_at_an_address() {
    on_both(|model| {
        let server = start("static_site", model, &["www", "0.0.0.0:0"]);
        let mut client = Client::connect(server.port);
        let page = client.get("/").expect(200);
        assert!(page.text().contains("Whirligig"));
        let etag = format!("If-None-Match: {}", page.must("etag"));
        client.ask("GET", "/", &[&etag], b"").expect(304);
        client.ask("GET", "/", &["Range: bytes=0-3"], b"").expect(206);
        assert_eq!(client.get("/style.css").expect(200).must("cache-control"), "max-age=3600");
        client.get("/files/").expect(200);
        client.ask("PUT", "/x", &[], b"x").expect(405);
    });
}

#[test]
fn download_offers_files_and_an_html_page_for_missing_ones() {
    example("download", |client| {
        assert!(client.get("/").expect(200).text().contains("/download/numbers%2Ecsv"));
        let file = client.get("/download/numbers.csv").expect(200);
        assert_eq!(file.must("content-disposition"), "attachment; filename=\"numbers.csv\"");
        assert_eq!(file.body, std::fs::read("www/files/numbers.csv").unwrap());
        let part = client.ask("GET", "/download/numbers.csv", &["Range: bytes=0-1"], b"").expect(206);
        assert_eq!(part.body, file.body[..2]);
        let named = client.get("/download/%E8%B5%B0%E9%A9%AC%E7%81%AF.txt").expect(200);
        assert!(
            named.must("content-disposition").contains("filename*=UTF-8''%E8%B5%B0%E9%A9%AC%E7%81%AF.txt")
        );
        let missing = client.get("/download/%3Cnothing%3E").expect(404);
        assert!(
            missing.text().contains("The file does not exist") && missing.text().contains("&lt;nothing&gt;")
        );
        client.get("/download/..%2F..%2FCargo.toml").expect(400);
    });
}

#[test]
fn form_takes_get_and_post() {
    example("form", |client| {
        let posted = client.ask("POST", "/", &[FORM], "name=%3CAnna%3E&again=yes".as_bytes()).expect(303);
        assert_eq!(posted.must("location"), "/");
        client.ask("POST", "/", &[FORM], b"name=Bert").expect(303);
        let page = client.get("/").expect(200);
        assert!(page.text().contains("<li>&lt;Anna&gt; (will come again)<li>Bert"), "{}", page.text());
        let page = client.get("/?search=Ber").expect(200);
        assert!(page.text().contains("<li>Bert") && !page.text().contains("Anna"));
        client.ask("POST", "/", &[FORM], b"name=").expect(422);
        client.ask("POST", "/", &[FORM], b"x=y").expect(422);
        client.ask("POST", "/", &["Content-Type: text/plain"], b"name=x").expect(415);
    });
}

#[test]
fn upload_reports_each_part() {
    example("upload", |client| {
        assert!(client.get("/").expect(200).text().contains("progress"));
        let form = b"--xx\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhi\r\n--xx\r\nContent-Disposition: \
            form-data; name=\"file\"; filename=\"../a.bin\"\r\nContent-Type: image/png\r\n\r\n\x00\x01\r\n--x\r\n--xx--\r\n";
        let kind = "Content-Type: multipart/form-data; boundary=xx";
        let expected = "field \"note\" = \"hi\"\nfile \"../a.bin\" (image/png), 7 bytes, adler32 041000c2\n";
        let got = client.ask("POST", "/", &[kind], form).expect(200);
        let cut = |text: &str| text.split("adler32").next().unwrap_or_default().to_owned();
        assert_eq!(cut(got.text()), cut(expected));
        client.send(request("POST", "/", &[kind, "Transfer-Encoding: chunked"], b""));
        client.send(chunked(form, 7));
        client.response().expect(200).with_body(&got.body);
        client.ask("POST", "/", &[kind], &form[..form.len() - 5]).expect(400);
        client.ask("POST", "/", &["Content-Type: text/plain"], b"x").expect(415);
    });
}

#[test]
fn rest_keeps_items_over_a_restart() {
    on_both(|model| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("items.db");
        let arguments = [file.to_str().unwrap()];
        let json = |response: Response| serde_json::from_slice::<Value>(&response.body).unwrap();
        let place = {
            let mut server = start("rest", model, &arguments);
            let mut client = Client::connect(server.port);
            client.get("/items").expect(200).with_body("[]");
            let created = client.ask("POST", "/items", &[JSON], br#"{"title":"tea"}"#).expect(201);
            let place = created.must("location").to_owned();
            assert_eq!(json(created)["title"], "tea");
            let changed = client.ask("PATCH", &place, &[JSON], br#"{"done":true}"#).expect(200);
            assert_eq!(json(changed), serde_json::json!({"id": 1, "title": "tea", "done": true}));
            let replaced = client.ask("PUT", &place, &[JSON], r#"{"title":"grün"}"#.as_bytes()).expect(200);
            assert_eq!(json(replaced)["done"], false);
            client.ask("PUT", &place, &[JSON], br#"{"done":true}"#).expect(422);
            client.ask("POST", "/items", &[JSON], b"{").expect(400);
            client.ask("POST", "/items", &[FORM], b"title=x").expect(415);
            client.ask("POST", "/items", &[JSON], br#"{"title":"'); DROP TABLE item; --"}"#).expect(201);
            client.ask("DELETE", "/items/2", &[], b"").expect(204);
            client.ask("DELETE", "/items/2", &[], b"").expect(404);
            client.get("/items/x").expect(404);
            let refused = client.ask("POST", &place, &[JSON], b"{}").expect(405);
            assert_eq!(refused.must("allow"), "GET, PUT, PATCH, DELETE, HEAD, OPTIONS");
            let begun = client.ask("POST", "/reports", &[], b"").expect(202);
            let report = begun.must("location").to_owned();
            until("the report is ready", || client.get(&report).status == 200);
            server.signal(rustix::process::Signal::TERM);
            assert_eq!(server.wait_exit(), 0);
            place
        };
        let server = start("rest", model, &arguments);
        let mut client = Client::connect(server.port);
        assert_eq!(json(client.get(&place).expect(200))["title"], "grün");
        assert_eq!(json(client.get("/items").expect(200)).as_array().unwrap().len(), 1);
    });
}

/// After a hundred reports, the example used to refuse every further one until it was restarted.
#[test]
fn rest_forgets_the_oldest_report_and_makes_another() {
    let folder = tempfile::tempdir().unwrap();
    let server = start("rest", "reactor", &[folder.path().join("items.db").to_str().unwrap()]);
    let mut client = Client::connect(server.port);
    for number in 1..=100 {
        let begun = client.ask("POST", "/reports", &[], b"").expect(202);
        assert_eq!(begun.must("location"), format!("/reports/{number}"));
    }
    // While all jobs are running there is no room for another one.
    until("another job has started", || client.ask("POST", "/reports", &[], b"").status == 202);
    let gone = (1..=100).filter(|number| client.get(&format!("/reports/{number}")).status == 404).count();
    assert_eq!(gone, 1);
    until("the new report is ready", || client.get("/reports/101").status == 200);
}

#[test]
fn status_codes_fit_their_requests() {
    example("status_codes", |client| {
        client.get("/").expect(200);
        assert_eq!(client.ask("POST", "/things", &[], b"x").expect(201).must("location"), "/things/1");
        client.ask("POST", "/jobs", &[], b"").expect(202);
        assert!(client.ask("DELETE", "/things/1", &[], b"").expect(204).body.is_empty());
        client.get("/number?n=7").expect(200).with_body("7\n");
        client.get("/number?n=x").expect(400);
        assert!(client.get("/private").expect(401).must("www-authenticate").starts_with("Basic"));
        client.ask("GET", "/private", &["Authorization: Basic YW5uYTpzZWNyZXQ="], b"").expect(200);
        client.get("/secret").expect(403);
        client.get("/nothing").expect(404);
        client.get("/upstream").expect(502);
        assert_eq!(client.get("/busy").expect(503).must("retry-after"), "1");
        client.ask("POST", "/things", &[], &[b'x'; 101]).expect(413);
        client.get("/broken").expect(500);
    });
}

#[test]
fn every_method_gets_a_response() {
    example("status_codes", |client| {
        client.ask("GET", "/", &[], b"").expect(200);
        assert!(client.ask("HEAD", "/", &[], b"").expect(200).body.is_empty());
        assert_eq!(client.ask("OPTIONS", "/", &[], b"").expect(204).must("allow"), "GET, HEAD, OPTIONS");
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
            assert_eq!(
                client.ask(method, "/", &[], b"").expect(405).must("allow"),
                "GET, HEAD, OPTIONS",
                "{method}"
            );
        }
        client.ask("BREW", "/", &[], b"").expect(501);
        client.send(request("CONNECT", "example.org:443", &[], b""));
        client.response().expect(501);
    });
}

#[test]
fn redirects_have_a_location() {
    example("redirects", |client| {
        for (method, path, status) in [
            ("GET", "/choices", 300),
            ("GET", "/old", 301),
            ("GET", "/today", 302),
            ("POST", "/send", 303),
            ("POST", "/elsewhere", 307),
        ] {
            let content: &[u8] = if method == "POST" { b"x" } else { b"" };
            assert_eq!(
                client.ask(method, path, &[], content).expect(status).must("location"),
                "/new",
                "{path}"
            );
        }
        client.ask("POST", "/new", &[], b"abc").expect(200).with_body("POST with 3 bytes of content\n");
        let fresh = client.get("/fresh").expect(200);
        let again = client.ask("GET", "/fresh", &[&format!("If-None-Match: {}", fresh.must("etag"))], b"");
        assert!(again.expect(304).body.is_empty());
    });
}

#[test]
fn cookies_are_set_counted_and_taken_away() {
    example("cookies", |client| {
        let first = client.get("/").expect(200);
        assert!(first.text().starts_with("visit 1\n"));
        let second = client.ask("GET", "/", &[&cookie(&first)], b"").expect(200);
        assert!(second.text().starts_with("visit 2\ncookies: visits=1\n"), "{}", second.text());
        assert!(
            client.ask("GET", "/", &["Cookie: visits=many"], b"").expect(200).text().starts_with("visit 1")
        );
        let set = client.get("/set").expect(200);
        let lines: Vec<_> =
            set.fields.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[0],
            "tea=gr%C3%BCn%3B%20s%C3%BC%C3%9F; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"
        );
        assert!(!lines[1].contains("HttpOnly") && lines[2].contains("SameSite=Strict"));
        let forgotten = client.get("/forget").expect(303);
        assert_eq!(forgotten.fields.iter().filter(|(_, value)| value.contains("Max-Age=0")).count(), 4);
    });
}

#[test]
fn login_session_admits_the_right_password_for_a_limited_time() {
    on_both(|model| {
        let server = start("login_session", model, &[]);
        let mut client = Client::connect(server.port);
        assert!(client.get("/members").expect(401).must("www-authenticate").starts_with("Session"));
        client.ask("POST", "/login", &[FORM], b"user=anna&password=wrong").expect(401);
        let entered = client.ask("POST", "/login", &[FORM], b"user=anna&password=secret").expect(303);
        let set = entered.must("set-cookie").to_owned();
        assert!(set.contains("; HttpOnly; SameSite=Lax") && set.contains("Max-Age=1800"), "{set}");
        let anna = cookie(&entered);
        assert!(client.ask("GET", "/members", &[&anna], b"").expect(200).text().contains("Welcome, anna"));
        client.ask("GET", "/admin", &[&anna], b"").expect(200);
        // A changed cookie, and one that the server never sent.
        for bad in [format!("{anna}x"), anna.replace("session=", "session=A"), "Cookie: session=guess".into()]
        {
            client.ask("GET", "/members", &[&bad], b"").expect(401);
        }
        // A login renews the session and ends the old one.
        let renewed = client.ask("POST", "/login", &[FORM, &anna], b"user=anna&password=secret").expect(303);
        assert_ne!(cookie(&renewed), anna);
        client.ask("GET", "/members", &[&anna], b"").expect(401);
        let bert = cookie(&client.ask("POST", "/login", &[FORM], b"user=bert&password=hidden").expect(303));
        client.ask("GET", "/admin", &[&bert], b"").expect(403);
        let left = client.ask("POST", "/logout", &[&bert], b"").expect(303);
        assert!(left.must("set-cookie").contains("Max-Age=0"));
        client.ask("GET", "/members", &[&bert], b"").expect(401);

        let server = start("login_session", model, &["1"]);
        let mut client = Client::connect(server.port);
        let short = cookie(&client.ask("POST", "/login", &[FORM], b"user=anna&password=secret").expect(303));
        until("the session ends", || client.ask("GET", "/members", &[&short], b"").status == 401);
    });
}

#[test]
fn template_escapes_values() {
    example("template", |client| {
        let page = client.ask("GET", "/?name=%3Cscript%3E", &["X-A: \"<i>\""], b"").expect(200);
        assert!(
            page.text().contains("Hello, &lt;script&gt;.") && page.text().contains("&lt;i&gt;"),
            "{}",
            page.text()
        );
        assert!(!page.text().contains("<script>"));
        assert!(client.get("/").expect(200).text().contains("Hello, you."));
    });
}

#[test]
fn gzip_compresses_for_clients_that_accept_it() {
    example("gzip", |client| {
        let plain = client.get("/report").expect(200);
        assert_eq!((plain.field("content-encoding"), plain.must("vary")), (None, "Accept-Encoding"));
        let packed = client.ask("GET", "/report", &["Accept-Encoding: gzip"], b"").expect(200);
        assert_eq!(packed.must("content-encoding"), "gzip");
        let mut unpacked = Vec::new();
        let mut gzip = flate2::read::GzDecoder::new(&packed.body[..]);
        std::io::Read::read_to_end(&mut gzip, &mut unpacked).unwrap();
        assert!(unpacked == plain.body && packed.body.len() * 5 < plain.body.len());
        assert_eq!(
            client.ask("GET", "/report", &["Accept-Encoding: gzip;q=0"], b"").field("content-encoding"),
            None
        );
        let file = client.ask("GET", "/style.css", &["Accept-Encoding: gzip"], b"").expect(200);
        assert_eq!(file.must("content-encoding"), "gzip");
    });
}

#[test]
fn cgi_environ_shows_the_environment_of_a_script() {
    example("cgi_environ", |client| {
        client.get("/").expect(302);
        let fields = ["X-Two: a", "X-Two: b", "Proxy: evil", "X_Under: no", "Content-Type: text/x"];
        let told = client.ask("POST", "/app/some/%E7%81%AF?x=1&y=%20", &fields, b"12345").expect(200);
        let port = client.stream.peer_addr().unwrap().port();
        let port = format!("SERVER_PORT={port}");
        for line in [
            "REQUEST_METHOD=POST",
            "SCRIPT_NAME=/app",
            "PATH_INFO=/some/灯",
            "QUERY_STRING=x=1&y=%20",
            "SERVER_PROTOCOL=HTTP/1.1",
            "CONTENT_TYPE=text/x",
            "CONTENT_LENGTH=5",
            "HTTP_X_TWO=a, b",
            "HTTP_HOST=localhost",
            "REMOTE_ADDR=127.0.0.1",
            "GATEWAY_INTERFACE=CGI/1.1",
            &port,
        ] {
            assert!(told.text().lines().any(|own| own == line), "{line} in\n{}", told.text());
        }
        assert!(!told.text().contains("evil") && !told.text().contains("UNDER"));
    });
}

#[test]
fn client_logs_in_over_one_connection() {
    on_both(|model| {
        let server = start("login_session", model, &[]);
        for count in [1, 50] {
            let count_text = count.to_string();
            let ended = run_within(
                crate::harness::PATIENCE * 2,
                &mut command("client", &[&server.url, "--clients", &count_text]),
            );
            assert_eq!(ended.code, Some(0), "{}", ended.err);
            let logs: Vec<&str> = ended.out.split("\n\n").filter(|log| !log.is_empty()).collect();
            assert_eq!(logs.len(), count);
            for log in logs {
                let statuses: Vec<&str> =
                    log.lines().map(|line| &line[..line.find("-> ").unwrap() + 6]).collect();
                assert_eq!(
                    statuses,
                    [
                        "GET /members -> 401",
                        "POST /login -> 303",
                        "GET /members -> 200",
                        "GET /admin -> 200",
                        "POST /logout -> 303",
                        "GET / -> 200",
                        "GET /members -> 401",
                    ],
                    "{log}"
                );
            }
        }
    });
}

#[test]
fn graceful_shutdown_finishes_requests_under_way() {
    on_both(|model| {
        let mut server = start("graceful_shutdown", model, &[]);
        let mut slow = Client::connect(server.port);
        slow.send(request("GET", "/slow", &[], b""));
        // A handler that has not started when the server stops does not run.
        until("the slow handler has started", || server.out.text().contains("working"));
        let mut other = Client::connect(server.port);
        other.get("/stop").expect(200).with_body("stopping\n");
        let answer = slow.response().expect(200).with_body("slow, but complete\n");
        assert!(answer.says_close());
        assert_eq!(server.wait_exit(), 0);
        until("the program has printed how it ended", || {
            server.out.text().contains("all clients were served")
        });
    });
}

/// On the loop a quick request waits for all slow ones, and not if these are jobs.
#[test]
fn slow_handler_blocks_the_loop_but_not_as_a_job() {
    on_both(|model| {
        let server = start("slow_handler", model, &[]);
        let [inline, job] = ["/inline", "/job"].map(|path| {
            let began = now();
            let mut slow: Vec<Client> = (0..12).map(|_| Client::connect(server.port)).collect();
            for client in &mut slow {
                client.send(request("GET", path, &[], b""));
            }
            Client::connect(server.port).get("/quick").expect(200).with_body("quick\n");
            let waited = began.elapsed();
            for client in &mut slow {
                client.response().expect(200).with_body("slow\n");
            }
            waited
        });
        if model == "reactor" {
            assert!(inline >= Duration::from_millis(12 * 50), "{inline:?}");
            assert!(job < inline / 2, "{job:?}, and {inline:?} on the loop");
        }
    });
}

/// Runs the tests of the package, which read its trace. Its crates need no download, because this
/// package depends on them, too.
#[test]
fn tiny_reactor_turns() {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--offline", "--locked", "--target-dir"]);
    command.arg(concat!(env!("CARGO_TARGET_TMPDIR"), "/tiny_reactor"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tiny_reactor"));
    let ended = run_within(Duration::from_secs(300), &mut command);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.out, ended.err);
    assert!(ended.out.contains("a_head_may_come_byte_by_byte ... ok"), "{}", ended.out);
}

/// Returns the ports of `both_models`, that of the loop first.
fn both_ports(server: &Server) -> Vec<u16> {
    until("both addresses are printed", || server.out.text().lines().count() == 2);
    let text = server.out.text();
    let port = |line: &str| line.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    text.lines().map(port).collect()
}

#[test]
fn both_models_serve_side_by_side() {
    let mut server = Server::launch(command("both_models", &[]));
    let ports = both_ports(&server);
    for (model, port) in MODELS.iter().zip(ports) {
        let (mut one, mut other) = (Client::connect(port), Client::connect(port));
        let threads =
            [one.get("/thread").expect(200), other.get("/thread").expect(200)].map(|answer| answer.body);
        assert_eq!(threads[0] == threads[1], *model == "reactor");
        one.get("/robots.txt").expect(200);
    }
    server.signal(rustix::process::Signal::INT);
    assert_eq!(server.wait_exit(), 0);
}

/// The server that ended first used to stop the other one as well, which was a second stop request.
#[test]
fn both_models_finish_requests_before_they_stop() {
    for first in [0, 1] {
        let mut server = Server::launch(command("both_models", &[]));
        let ports = both_ports(&server);
        // After its first response, a client knows that the server has also read the head that was
        // sent in the same segment.
        let mut clients: Vec<Client> = ports.iter().map(|port| Client::connect(*port)).collect();
        for client in &mut clients {
            let unfinished = b"GET /thread HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na";
            client.send([&request("GET", "/thread", &[], b"")[..], unfinished].concat());
            client.response().expect(200);
        }
        server.signal(rustix::process::Signal::INT);
        for port in &ports {
            until("no new client is accepted", || TcpStream::connect(("127.0.0.1", *port)).is_err());
        }
        for at in [first, 1 - first] {
            clients[at].send("b");
            assert!(clients[at].response().expect(200).says_close());
            clients[at].rest();
        }
        assert_eq!(server.wait_exit(), 0);
    }
}

#[test]
fn sse_clock_ticks_for_all_and_stops_with_the_server() {
    on_both(|model| {
        let mut server = start("sse_clock", model, &["20"]);
        let mut listeners: Vec<Client> = (0..5).map(|_| Client::connect(server.port)).collect();
        for listener in &mut listeners {
            listener.send(request("GET", "/time", &["Accept: text/event-stream"], b""));
        }
        for listener in &mut listeners {
            let mut text = String::new();
            until("three ticks have arrived", || {
                text += &String::from_utf8_lossy(&listener.read_some(4096));
                text.matches("event: time\ndata: 2").count() >= 3
            });
            assert!(
                text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"),
                "{text}"
            );
        }
        server.signal(rustix::process::Signal::INT);
        assert_eq!(server.wait_exit(), 0, "listeners do not delay a graceful stop");
        for mut listener in listeners {
            let (rest, _) = listener.rest();
            assert!(rest.ends_with(b"0\r\n\r\n"), "the body is complete, not cut off");
        }
    });
}
