//! The library as its users see it: a server built in the test, run on both models, with requests
//! over sockets.

use std::fs;
use std::io::BufRead as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use whirligig::Builder;
use whirligig::Outcome;
use whirligig::Request;
use whirligig::config::{AuthRule, AuthUsers, Config, HeaderRule, HeaderScope, LogFormat, LogTarget};
use whirligig::date;
use whirligig::{Answer, Context, Handler, When};
use whirligig::{Call, Cookie, Handle, Model, Refusal, Response, Route, Server};

use crate::docroot::Docroot;
use crate::harness::{PATIENCE, on_both, pass, until};
use crate::wire::{Client, chunked, get, request};

/// A server on a thread of the test. Dropping it stops it.
pub(crate) struct InProcess {
    pub(crate) port: u16,
    handle: Handle,
    running: Option<JoinHandle<std::io::Result<Outcome>>>,
}

impl InProcess {
    pub(crate) fn start(model: &str, builder: Builder) -> InProcess {
        let model = if model == "threads" { Model::Threads } else { Model::Reactor };
        let server = builder.model(model).signals(false).bind("127.0.0.1:0").expect("the server starts");
        let (port, handle) = (server.local_addr().unwrap().port(), server.handle());
        InProcess { port, handle, running: Some(thread::spawn(move || server.run())) }
    }

    /// Stops the server and returns its outcome. Must end within `PATIENCE`.
    pub(crate) fn stop(mut self) -> Outcome {
        self.handle.shutdown();
        self.outcome()
    }

    fn outcome(&mut self) -> Outcome {
        let running = self.running.take().unwrap();
        until("the server ends", || running.is_finished());
        running.join().unwrap().unwrap()
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        // A second request stops at once.
        self.handle.shutdown();
        self.handle.shutdown();
        if let Some(running) = self.running.take() {
            drop(running.join());
        }
    }
}

fn names(call: &Call<'_>) -> Result<String, Refusal> {
    let query = call.query()?;
    Ok(format!("{} {:?}", query.parsed::<u8>("n")?, query.all("x").collect::<Vec<_>>()))
}

fn app(root: &Docroot) -> Builder {
    let item = Route::new()
        .get(|call| Ok::<_, Refusal>(format!("item {}", call.parsed_param::<u32>("id")?)))
        .put(|call| Ok::<_, Refusal>(format!("put {}", call.text()?)))
        .delete(|_| Response::new(whirligig::Status::NO_CONTENT))
        .content_max(10);
    let slow = Route::new()
        .get(|call| format!("slow {} {}", call.param("name"), thread::current().name().unwrap_or("?")))
        .post(|call| Ok::<_, Refusal>(format!("slow {}", call.form()?.need("a")?)))
        .blocking();
    Server::builder()
        .get("/", |call| date::iso8601(call.now().unix_secs(), 0))
        .route("/items/{id}", item)
        .get("/items/new", |_| "the new one")
        .get("/tree/{path*}", |call| format!("<{}>", call.param("path")))
        .get("/names", names)
        .post("/form", |call| Ok::<_, Refusal>(call.form()?.need("ä")?.to_owned()))
        .post("/json", |call| Ok::<_, Refusal>(Response::json_of(&call.json::<Vec<u8>>()?)))
        .get("/cookie", |call| {
            let seen = call.cookie("tea").unwrap_or_default();
            Response::text(seen).with_cookie(&Cookie::new("tea", "grün; süß"))
        })
        .get("/pieces", |_| Response::pieces("text/plain", (0..3).map(|n| format!("{n};"))))
        .get("/secret/door", |_| "open")
        .route("/slow/{name}", slow)
        .get("/panic", |_| -> Response { panic!("a handler that fails") })
        .get("/file", {
            let file = root.root().join("numbers.txt");
            move |call: &Call<'_>| call.file(&file).map(|response| response.as_download("Zahlen – neu.txt"))
        })
        .files(root.root())
        .auth("/secret", "anna", "geheim")
        .mount("/below/{rest*}", |request: &Request<'_>, cx: &mut Context<'_>| -> Answer {
            Response::text(format!("{} from {}", request.target(), cx.peer().ip().is_some())).into()
        })
        .wrap(|inner| {
            move |request: &Request<'_>, cx: &mut Context<'_>| {
                cx.add_header(When::Always, "X-Wrapped", "yes");
                inner.handle(request, cx)
            }
        })
        .cors("https://a.example")
        .header("/**", "X-Frame-Options", "DENY")
        .health()
        .metrics()
}

fn docroot() -> Docroot {
    let root = Docroot::empty();
    root.write("numbers.txt", "0123456789");
    root.write("page.html", "<p>page");
    root
}

#[test]
fn paths_and_methods_lead_to_their_handlers() {
    on_both(|model| {
        let root = docroot();
        let server = InProcess::start(model, app(&root));
        let mut client = Client::connect(server.port);
        assert!(client.get("/").expect(200).text().starts_with("20"));
        client.get("/items/7").expect(200).with_body("item 7");
        client.get("/items/%37").expect(200).with_body("item 7");
        client.get("/a/../items//7").expect(200).with_body("item 7");
        client.get("/items/new").expect(200).with_body("the new one");
        client.get("/items/x").expect(404);
        client.get("/items/7/8").expect(404);
        client.get("/tree").expect(200).with_body("<>");
        client.get("/tree/a/%E7%81%AF/").expect(200).with_body("<a/灯/>");
        client.get("/tree/a%2Fb").expect(400);
        client.get("/page.html").expect(200).with_body("<p>page");
        client.get("/nosuch").expect(404);
        assert_eq!(client.ask("HEAD", "/items/7", &[], b"").expect(200).must("content-length"), "6");
        let refused = client.ask("PATCH", "/items/7", &[], b"x").expect(405);
        assert_eq!(refused.must("allow"), "GET, PUT, DELETE, HEAD, OPTIONS");
        let told = client.ask("OPTIONS", "/items/7", &[], b"").expect(204);
        assert_eq!(told.must("allow"), "GET, PUT, DELETE, HEAD, OPTIONS");
        assert!(client.ask("OPTIONS", "*", &[], b"").expect(204).must("allow").contains("POST"));
        client.ask("BREW", "/items/7", &[], b"").expect(501);
        client.ask("DELETE", "/items/7", &[], b"").expect(204);
        client.get("/_whirligig/health").expect(200).with_body("ok\n");
        assert!(client.get("/_whirligig/metrics").expect(200).text().contains("whirligig_requests_total"));
    });
}

#[test]
fn parts_of_a_request_have_their_types() {
    on_both(|model| {
        let root = docroot();
        let server = InProcess::start(model, app(&root));
        let mut client = Client::connect(server.port);
        const FORM: &str = "Content-Type: application/x-www-form-urlencoded; charset=utf-8";
        const JSON: &str = "Content-Type: application/json";
        client.get("/names?n=7&x=a+b&x=%E7%81%AF").expect(200).with_body("7 [\"a b\", \"灯\"]");
        client.get("/names?n=700").expect(422);
        client.get("/names").expect(422);
        client.ask("POST", "/form", &[FORM], "ä=1%2B1".as_bytes()).expect(200).with_body("1+1");
        client.ask("POST", "/form", &[JSON], b"{}").expect(415);
        client.ask("POST", "/form", &[], b"").expect(415);
        client.ask("POST", "/json", &[JSON], b"[1, 2]").expect(200).with_body("[1,2]");
        client.ask("POST", "/json", &["Content-Type: application/x+json"], b"[]").expect(200);
        client.ask("POST", "/json", &[JSON], b"[1, 2").expect(400);
        client.ask("POST", "/json", &[JSON], b"[1, \"x\"]").expect(422);
        client.ask("POST", "/json", &[FORM], b"[1]").expect(415);
        client.ask("PUT", "/items/7", &[], b"0123456789").expect(200).with_body("put 0123456789");
        client.ask("PUT", "/items/7", &[], b"\xff").expect(400);
        client.ask("PUT", "/items/7", &[], b"0123456789a").expect(413);
        let mut client = Client::connect(server.port);
        client.send(request("PUT", "/items/7", &["Transfer-Encoding: chunked"], b""));
        client.send(chunked(b"0123456789a", 4));
        client.response().expect(413);
    });
}

/// A refusal can come from the loop, from a worker, or after content.
#[test]
fn a_refusal_is_a_page_for_browsers_and_text_for_others() {
    on_both(|model| {
        let root = docroot();
        let server = InProcess::start(model, app(&root));
        let mut client = Client::connect(server.port);
        const HTML: &str = "Accept: text/html,*/*;q=0.8";
        const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
        for (method, path, content, status, sentence) in [
            ("GET", "/names", &b""[..], 422, "'n' is missing"),
            ("GET", "/items/x", b"", 404, "nothing has that name"),
            ("POST", "/form", b"b=1", 422, "'ä' is missing"),
            ("POST", "/slow/x", b"b=1", 422, "'a' is missing"),
            ("PUT", "/items/7", b"\xff", 400, "the content is not UTF-8"),
        ] {
            let text = client.ask(method, path, &[FORM], content).expect(status);
            assert_eq!(text.must("content-type"), "text/plain; charset=utf-8", "{path}");
            assert!(text.text().ends_with(&format!("\n{sentence}\n")), "{path}: {}", text.text());
            let page = client.ask(method, path, &[FORM, HTML], content).expect(status);
            assert_eq!(page.must("content-type"), "text/html; charset=utf-8", "{path}");
            let shown = format!("<p>{}</p>", sentence.replace('\'', "&#39;"));
            assert!(page.text().contains(&shown), "{path}: {}", page.text());
            assert!(text.must("vary").starts_with("Accept") && page.must("vary").starts_with("Accept"));
            assert_eq!(page.must("x-wrapped"), "yes", "{path}");
        }
        // The form belongs to one request: an earlier browser on the connection changes nothing.
        client.ask("GET", "/names", &[HTML], b"").expect(422);
        assert_eq!(client.get("/names").expect(422).must("content-type"), "text/plain; charset=utf-8");
    });
}

#[test]
fn every_kind_of_response_arrives() {
    on_both(|model| {
        let root = docroot();
        let server = InProcess::start(model, app(&root));
        let mut client = Client::connect(server.port);
        let set = client.get("/cookie").expect(200);
        let pair = set.must("set-cookie").split(';').next().unwrap().to_owned();
        let asked = client.ask("GET", "/cookie", &[&format!("Cookie: other=1; {pair}")], b"");
        asked.expect(200).with_body("grün; süß");
        client.get("/pieces").expect(200).with_body("0;1;2;");
        let whole = client.get("/file").expect(200).with_body("0123456789");
        assert_eq!(
            whole.must("content-disposition"),
            "attachment; filename=\"Zahlen _ neu.txt\"; filename*=UTF-8''Zahlen%20%E2%80%93%20neu.txt"
        );
        let part = client.ask("GET", "/file", &["Range: bytes=3-5"], b"").expect(206).with_body("345");
        assert_eq!(part.must("x-frame-options"), "DENY");
        let etag = format!("If-None-Match: {}", whole.must("etag"));
        client.ask("GET", "/file", &[&etag], b"").expect(304);
        client.get("/below").expect(200).with_body("/below from true");
        client.ask("BREW", "/below/x", &[], b"").expect(200).with_body("/below/x from true");
        for path in ["/", "/page.html", "/nosuch", "/slow/x"] {
            let wrapped = client.ask("GET", path, &["Origin: https://a.example"], b"");
            assert_eq!(wrapped.must("x-wrapped"), "yes", "{path}");
            assert_eq!(wrapped.must("access-control-allow-origin"), "https://a.example", "{path}");
        }
        client.get("/secret/door").expect(401);
        let right = "Authorization: Basic YW5uYTpnZWhlaW0=";
        client.ask("GET", "/secret/door", &[right], b"").expect(200).with_body("open");
        client.get("/panic").expect(500);
    });
}

#[test]
fn blocking_handlers_run_on_workers() {
    on_both(|model| {
        let root = docroot();
        let server = InProcess::start(model, app(&root));
        let mut client = Client::connect(server.port);
        let thread = if model == "threads" { "whirligig-conn" } else { "whirligig-job" };
        client.get("/slow/x").expect(200).with_body(format!("slow x {thread}"));
        let form = ["Content-Type: application/x-www-form-urlencoded"];
        client.ask("POST", "/slow/x", &form, b"a=b").expect(200).with_body("slow b");
        client.ask("POST", "/slow/x", &form, b"c=b").expect(422);
    });
}

#[test]
fn a_handle_stops_it_before_and_while_it_runs() {
    on_both(|model| {
        let server = InProcess::start(model, Server::builder().get("/", |_| "x"));
        let mut client = Client::connect(server.port);
        client.get("/").expect(200);
        let (port, began) = (server.port, crate::harness::now());
        assert_eq!(server.stop(), Outcome::Stopped);
        assert!(crate::harness::now() - began < PATIENCE / 2, "an idle client does not delay the stop");
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());

        let model = if model == "threads" { Model::Threads } else { Model::Reactor };
        let server = Server::builder().model(model).signals(false).bind("127.0.0.1:0").unwrap();
        server.handle().shutdown();
        assert_eq!(server.run().unwrap(), Outcome::Stopped);
    });
}

/// Lines logged by the servers of this process.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Lines {
    /// Records lines from now on.
    fn keep() -> &'static Lines {
        // A second test finds the logger installed.
        if log::set_logger(&LINES).is_ok() {
            log::set_max_level(log::LevelFilter::Warn);
        }
        &LINES
    }

    fn count(&self, words: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.contains(words)).count()
    }
}

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// A handler on a worker that waits for a message from the test.
struct Waits(Arc<Mutex<mpsc::Receiver<()>>>);

impl Handler for Waits {
    fn handle(&self, _: &Request<'_>, cx: &mut Context<'_>) -> Answer {
        let gate = Arc::clone(&self.0);
        cx.job(move || {
            let _ = gate.lock().unwrap().recv();
            Response::text("late")
        })
    }
}

/// A client that gets a 503 looks finished, while its worker may never return.
#[test]
fn a_late_response_is_counted_and_logged_with_its_route() {
    let lines = Lines::keep();
    on_both(|model| {
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let waits = |gate: &Arc<Mutex<mpsc::Receiver<()>>>| {
            let gate = Arc::clone(gate);
            move |_: &Call<'_>| {
                let _ = gate.lock().unwrap().recv();
                "late"
            }
        };
        let builder = Server::builder()
            .route(&format!("/{model}/slow/{{id}}"), Route::new().get(waits(&gate)).blocking())
            .route(&format!("/{model}/posted"), Route::new().post(waits(&gate)).blocking())
            .mount(&format!("/{model}/mounted/{{rest*}}"), Waits(Arc::clone(&gate)))
            .route(&format!("/{model}/quick"), Route::new().get(|_| "quick").blocking())
            .metrics()
            .limits(|limits| limits.job_threads = 3)
            .timeouts(|timeouts| timeouts.answer = Some(Duration::from_millis(300)));
        let server = InProcess::start(model, builder);
        let count = |worker: &str| {
            let page = Client::connect(server.port).get("/_whirligig/metrics").expect(200);
            let row = format!("whirligig_answer_timeouts_total{{worker=\"{worker}\"}} ");
            let value = page.text().lines().find_map(|line| line.strip_prefix(&row[..]));
            value.expect("such a row").parse::<u64>().unwrap()
        };
        let mut quick = Client::connect(server.port);
        quick.get(&format!("/{model}/quick")).expect(200);
        assert_eq!((count("busy"), count("free")), (0, 0));
        let sent = [
            ("GET", format!("/{model}/slow/7"), "slow/{id}"),
            ("POST", format!("/{model}/posted"), "posted"),
            ("GET", format!("/{model}/mounted/x/y"), "mounted/{rest*}"),
        ];
        let mut clients: Vec<Client> = (sent.iter())
            .map(|(method, path, _)| {
                let mut client = Client::connect(server.port);
                let content: &[u8] = if *method == "POST" { b"content" } else { b"" };
                client.send(request(method, path, &[], content));
                client
            })
            .collect();
        until("all three are counted", || count("busy") == 3);
        for (_, _, route) in &sent {
            let line = format!("route '/{model}/{route}': the response took too long");
            until(format_args!("{line:?} is logged"), || lines.count(&line) == 1);
        }
        // On the reactor no worker is left, so the next response is late without one.
        if model == "reactor" {
            quick.get(&format!("/{model}/quick")).expect(503);
            assert_eq!(count("free"), 1);
            assert_eq!(lines.count("/reactor/quick"), 0, "no worker is busy with it");
        }
        for _ in &sent {
            release.send(()).unwrap();
        }
        for client in &mut clients {
            let status = if model == "reactor" { 503 } else { 200 };
            client.response().expect(status);
        }
        // Workers that have finished no longer count.
        Client::connect(server.port).get(&format!("/{model}/quick")).expect(200);
        assert_eq!(count("busy"), 3);
    });
}

#[test]
fn conflicting_routes_are_named_as_written() {
    let root = Docroot::empty();
    let clashes = [
        (
            Server::builder().get("/items/{id}", |_| "x").get("/items/{name}", |_| "y"),
            ["/items/{id}", "/items/{name}"],
        ),
        (
            Server::builder().get("/a/{x}/b/{rest*}", |_| "x").get("/a/{y}/b/{all*}", |_| "y"),
            ["/a/{x}/b/{rest*}", "/a/{y}/b/{all*}"],
        ),
        (
            Server::builder()
                .get("/a/{x}", |_| "x")
                .mount("/a/{b}", Waits(Arc::new(Mutex::new(mpsc::channel().1)))),
            ["/a/{x}", "/a/{b}"],
        ),
        (
            Server::builder().get("/_whirligig/health", |_| "x").health(),
            ["/_whirligig/health", "/_whirligig/health"],
        ),
        (
            Server::builder().files(root.root()).fallback(Waits(Arc::new(Mutex::new(mpsc::channel().1)))),
            ["files", "fallback"],
        ),
    ];
    for (builder, [one, other]) in clashes {
        let error = builder.bind("127.0.0.1:0").expect_err("a clash").to_string();
        assert!(error.contains(one) && error.contains(other), "{error}");
        assert!(!error.contains("Segment") && !error.contains("Literal"), "{error}");
    }
    // Each of them alone is valid, and so is a handler mounted next to files.
    let beside = Server::builder().files(root.root());
    beside
        .mount("/else/{rest*}", Waits(Arc::new(Mutex::new(mpsc::channel().1))))
        .bind("127.0.0.1:0")
        .unwrap();
}

/// The name of the panicking handler in a backtrace.
#[inline(never)]
fn handler_that_panics(_: &Call<'_>) -> &'static str {
    panic!("a planted panic")
}

/// Child process of the next test: serves one request that panics.
#[test]
#[ignore = "runs in a separate process"]
fn child_with_a_panicking_handler() {
    let Ok(model) = std::env::var("WHIRLIGIG_TEST_MODEL") else { return };
    let builder = Server::builder().get("/panic", handler_that_panics).get("/", |_| "x");
    let server = InProcess::start(&model, builder);
    Client::connect(server.port).get("/panic").expect(500);
    Client::connect(server.port).get("/").expect(200);
    until("the backtrace is written", || {
        !std::env::var("WHIRLIGIG_TEST_MARK").is_ok_and(|mark| !fs::exists(mark).unwrap())
    });
}

/// With RUST_BACKTRACE the standard hook resolves a backtrace on the panicking thread, which takes
/// 0.1 s or more. A loop has other clients to serve.
#[test]
fn no_loop_resolves_a_backtrace() {
    on_both(|model| {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "library::child_with_a_panicking_handler", "--ignored", "--nocapture"])
            .env("RUST_BACKTRACE", "1")
            .env("WHIRLIGIG_TEST_MODEL", model)
            .env("WHIRLIGIG_TEST_MARK", &mark)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut text = String::new();
        for line in std::io::BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
            text += &line;
            text.push('\n');
            if line.contains("handler_that_panics") {
                fs::write(&mark, "").unwrap();
            }
        }
        assert!(child.wait().unwrap().success(), "{text}");
        assert!(text.contains("a planted panic") && text.contains("tests/it/library.rs"), "{text}");
        // The heading of the standard hook. A thread of the twin has only one client.
        assert_eq!(text.contains("stack backtrace:"), model == "threads", "{text}");
    });
}

#[test]
fn invalid_settings_are_errors_of_bind() {
    let mut by_hand = Config::default();
    let users = AuthUsers::One { user: "a".into(), password: "x".into() };
    by_hand.site.auth.push(AuthRule { path: "private".into(), users });
    let root = Docroot::empty();
    let uploads_to = |area: &str| {
        let area = area.to_owned();
        let builder = Server::builder().files(root.root());
        builder.file_options(|options| options.uploads.push(area)).bind("127.0.0.1:0")
    };
    let with_rule = |name: &str, value: &str| {
        let scope = HeaderScope::All;
        let rule = HeaderRule { pattern: "/**".into(), name: name.into(), value: value.into(), scope };
        Server::builder().file_options(|options| options.headers.push(rule)).bind("127.0.0.1:0")
    };
    let bad = [
        with_rule("X-A\r\nX-B", "1"),
        with_rule("X-A", "1\r\nX-B: 2"),
        with_rule("Transfer-Encoding", "chunked"),
        Server::builder().get("no-slash", |_| "x").bind("127.0.0.1:0"),
        Server::builder().get("/{a}", |_| "x").get("/{b}", |_| "y").bind("127.0.0.1:0"),
        Server::builder().files("/no/such/folder").bind("127.0.0.1:0"),
        Server::builder().header("/**", "no token", "x").bind("127.0.0.1:0"),
        Server::builder().auth("/", "a:b", "x").bind("127.0.0.1:0"),
        Server::builder().auth("private", "a", "x").bind("127.0.0.1:0"),
        Server::builder().auth("", "a", "x").bind("127.0.0.1:0"),
        Server::builder().auth("/a%2Fb", "a", "x").bind("127.0.0.1:0"),
        Server::builder().htpasswd("private", "/no/such/file").bind("127.0.0.1:0"),
        Server::bind(by_hand),
        Server::builder().file_options(|options| options.uploads = vec!["/up".into()]).bind("127.0.0.1:0"),
        uploads_to("up"),
        uploads_to("/up/"),
        uploads_to("/up/.hidden"),
        Server::builder().cors("nonsense").bind("127.0.0.1:0"),
        Server::builder().health().get("/_whirligig/health", |_| "mine").bind("127.0.0.1:0"),
        Server::builder().bind("nowhere"),
        Server::builder().bind("192.0.2.1:0"),
    ];
    for tried in bad {
        let error = tried.expect_err("an error").to_string();
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }
}

/// A path spelled in another way than the normalised request path used to protect nothing, without
/// any error.
#[test]
fn a_password_is_required_for_every_spelling_of_its_path() {
    on_both(|model| {
        for path in ["/a b", "/a%20b", "//a b/", "/x/../a%20b/.", "/./a b"] {
            let builder = Server::builder().get("/a b/{rest*}", |_| "x").auth(path, "anna", "secret");
            let builder = builder.get("/a b", |_| "open").get("/a", |_| "open");
            let server = InProcess::start(model, builder);
            let mut client = Client::connect(server.port);
            client.get("/a%20b").expect(401);
            client.get("/a%20b/c").expect(401);
            client.get("/a").expect(200);
        }
    });
}

/// No folder is served, so no client can fetch the file, even if it is in the current folder.
#[test]
fn an_htpasswd_file_may_be_anywhere_if_no_files_are_served() {
    let root = Docroot::empty();
    let user = "u:$2y$04$J25P14iGRWYRBQZ85PXm9OS69IW/qjgPJDpQHgmD8SA8yGz3sQvc2\n";
    root.write("users", user);
    // In the current folder of the tests, with a name that could be served.
    let file = tempfile::NamedTempFile::with_prefix_in("users-", env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::write(file.path(), user).unwrap();
    let builder = || Server::builder().get("/", |_| "x").htpasswd("/", file.path());
    on_both(|model| {
        let server = InProcess::start(model, builder());
        Client::connect(server.port).get("/").expect(401);
    });
    // In a served folder it is one of the operator's own files.
    root.write("page.txt", "page");
    on_both(|model| {
        let builder = Server::builder().files(root.root()).htpasswd("/private", root.root().join("users"));
        let server = InProcess::start(model, builder);
        let mut client = Client::connect(server.port);
        client.get("/page.txt").expect(200);
        client.get("/private/").expect(401);
        client.get("/users").expect(404);
        assert!(!client.get("/?text").expect(200).text().contains("users"));
    });
}

#[test]
fn a_folder_may_take_uploads() {
    on_both(|model| {
        let root = docroot();
        fs::create_dir(root.path("inbox")).unwrap();
        let builder = Server::builder()
            .get("/inbox/{name}/about", |call| format!("about {}", call.param("name")))
            .files(root.root())
            .file_options(|options| options.uploads = vec!["/inbox".into()])
            .auth("/inbox/closed", "anna", "secret");
        let server = InProcess::start(model, builder);
        let mut client = Client::connect(server.port);
        client.ask("PUT", "/inbox/a.txt", &[], b"new").expect(201);
        client.get("/inbox/a.txt").expect(200).with_body("new");
        client.get("/inbox/a.txt/about").expect(200).with_body("about a.txt");
        client.ask("DELETE", "/inbox/a.txt", &[], b"").expect(204);
        client.ask("PUT", "/b.txt", &[], b"new").expect(405);
        client.ask("MKCOL", "/inbox/closed/x", &[], b"").expect(401);
        assert_eq!(fs::read_dir(root.path("inbox")).unwrap().count(), 0);
    });
}

#[test]
fn listings_and_metrics_need_a_known_host_name() {
    on_both(|model| {
        let root = docroot();
        fs::create_dir(root.path("inbox")).unwrap();
        let builder = Server::builder()
            .get("/own", |_| "own")
            .files(root.root())
            .file_options(|options| options.uploads = vec!["/inbox".into()])
            .metrics()
            .health()
            .allow_host("nas.lan")
            .allow_host(".home.example");
        let server = InProcess::start(model, builder);
        let status = |path: &str, host: &str| {
            let mut client = Client::connect(server.port);
            client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            client.response().status
        };
        for path in ["/inbox/", "/_whirligig/metrics"] {
            for host in ["localhost", "127.0.0.1:80", "nas.lan", "x.home.example"] {
                assert_eq!(status(path, host), 200, "{path} for {host}");
            }
            for host in ["attacker.example", "x.nas.lan", ""] {
                assert_eq!(status(path, host), 403, "{path} for {host}");
            }
        }
        assert_eq!(["/own", "/_whirligig/health"].map(|path| status(path, "attacker.example")), [200, 200]);
    });
    let error = Server::builder().allow_host("a:80").bind("127.0.0.1:0").expect_err("a port").to_string();
    assert!(error.contains("'a:80'") && error.contains("port"), "{error}");
}

#[test]
fn content_of_two_types_has_none() {
    on_both(|model| {
        let builder = Server::builder()
            .post("/form", |call| call.form().map(|_| "form"))
            .post("/parts", |call| call.multipart().map(|_| "parts"))
            .post("/type", |call| call.content_type());
        let server = InProcess::start(model, builder);
        let ask =
            |path: &str, fields: &[&str]| Client::connect(server.port).ask("POST", path, fields, b"a=b");
        let form = "Content-Type: application/x-www-form-urlencoded";
        ask("/form", &[form]).expect(200);
        for fields in [[form, "Content-Type: text/plain"], ["Content-Type: text/plain", form], [form, form]] {
            ask("/form", &fields).expect(415);
            ask("/parts", &fields).expect(400);
            ask("/type", &fields).expect(200).with_body("");
        }
    });
}

/// A later route at the same path used to override the settings of all methods.
#[test]
fn routes_at_one_path_keep_their_own_settings() {
    on_both(|model| {
        let place = |_: &Call<'_>| thread::current().name().unwrap_or("?").to_owned();
        let builder = Server::builder()
            .route("/x", Route::new().content_max(3).get(place).put(|call| call.content().len().to_string()))
            .route("/x", Route::new().post(place).content_max(5).blocking());
        let server = InProcess::start(model, builder);
        let mut client = Client::connect(server.port);
        let worker = if model == "threads" { "whirligig-conn" } else { "whirligig-job" };
        client.ask("POST", "/x", &[], b"12345").expect(200).with_body(worker);
        let here = client.get("/x").expect(200);
        assert_ne!(here.text(), "whirligig-job", "a quick handler takes no worker");
        client.ask("PUT", "/x", &[], b"123").expect(200).with_body("3");
        client.ask("PUT", "/x", &[], b"1234").expect(413);
        let told = Client::connect(server.port).ask("OPTIONS", "*", &[], b"").expect(204);
        assert_eq!(told.must("allow"), "GET, PUT, POST, HEAD, OPTIONS");
    });
}

#[test]
fn files_alone_can_be_read() {
    on_both(|model| {
        let root = docroot();
        let server = InProcess::start(model, Server::builder().files(root.root()));
        let mut client = Client::connect(server.port);
        assert_eq!(client.ask("OPTIONS", "*", &[], b"").expect(204).must("allow"), "GET, HEAD, OPTIONS");
    });
}

/// Quick requests that arrive together are answered together. With slow handlers, each response
/// leaves before the next handler starts, because otherwise the first client would wait for all of
/// them.
#[test]
fn after_a_slow_handler_each_response_leaves_at_once() {
    const CLIENTS: usize = 8;
    // Longer than the first response of a batch may wait for the others.
    const SLOW: Duration = Duration::from_millis(2);
    let clients: Arc<Mutex<Vec<Client>>> = Arc::default();
    let answered = Arc::new(AtomicUsize::new(0));
    let (holding, is_held) = mpsc::channel();
    let (release, may_go_on) = mpsc::channel();
    let may_go_on = Mutex::new(may_go_on);
    let (seen, count) = (Arc::clone(&clients), Arc::clone(&answered));
    let builder = Server::builder()
        .get("/", |_| "quick")
        .get("/hold", move |_| {
            holding.send(()).unwrap();
            may_go_on.lock().unwrap().recv().unwrap();
            pass(SLOW);
            "held"
        })
        .get("/slow", move |_| {
            pass(SLOW);
            let mut seen = seen.lock().unwrap();
            let before = count.load(Ordering::SeqCst);
            until("the responses of earlier handlers have arrived", || {
                seen.iter_mut().map(|client| usize::from(!client.has_nothing())).sum::<usize>() == before
            });
            count.store(before + 1, Ordering::SeqCst);
            "slow"
        });
    let server = InProcess::start("reactor", builder);
    for _ in 0..CLIENTS {
        let mut client = Client::connect(server.port);
        client.get("/").expect(200);
        clients.lock().unwrap().push(client);
    }
    let mut holder = Client::connect(server.port);
    holder.send(get("/hold"));
    is_held.recv().unwrap();
    // The loop is blocked, so it receives all these requests in one turn.
    clients.lock().unwrap().iter_mut().for_each(|client| client.send(get("/slow")));
    release.send(()).unwrap();
    holder.response().expect(200);
    until("all handlers have run", || answered.load(Ordering::SeqCst) == CLIENTS);
    clients.lock().unwrap().iter_mut().for_each(|client| drop(client.response().expect(200)));
}

/// The driver's clock does not advance while a handler runs, but users look for slow handlers in
/// the log.
#[test]
fn the_access_log_contains_the_time_of_a_handler() {
    const WORK: Duration = Duration::from_millis(20);
    on_both(|model| {
        let root = docroot();
        let log = root.outside("access.log");
        let builder = Server::builder()
            .access_log(LogTarget::File(log.clone()), LogFormat::Json)
            .get("/quick", |_| "quick")
            .get("/slow", |_| {
                pass(WORK);
                "slow"
            });
        let server = InProcess::start(model, builder);
        let mut client = Client::connect(server.port);
        client.get("/quick").expect(200);
        client.get("/slow").expect(200);
        let mut lines = Vec::new();
        until("both lines are written", || {
            lines = fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect();
            lines.len() == 2
        });
        let us =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["us"].as_u64().unwrap();
        assert!(us(&lines[0]) > 0, "{}", lines[0]);
        assert!(u128::from(us(&lines[1])) >= WORK.as_micros(), "{}", lines[1]);
    });
}
