//! CORS: which pages may read answers, and what a browser is told before it asks.

use crate::docroot::Docroot;
use crate::harness::{MODELS, Server, command, on_both, run};
use crate::wire::Client;

const HERE: &str = "Origin: https://here.example";
const ELSEWHERE: &str = "Origin: https://here.example.evil.example";
const ALLOW: &str = "access-control-allow-origin";

/// What a browser asks before a request that is not a plain one.
const PREFLIGHT: [&str; 3] =
    [HERE, "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: authorization,x-a"];

#[test]
fn every_answer_may_be_read_by_every_page() {
    let docroot = Docroot::new();
    on_both(|model| {
        // As the last flag, without a value.
        let mut more = command(model, &docroot.root(), &["--auth", "u:p@/plain"]);
        more.arg("--cors");
        let server = Server::launch(more);
        let mut client = Client::connect(server.port);
        for (path, status) in [
            ("/hello.txt", 200),
            ("/m5.bin", 200),
            ("/nosuch", 404),
            ("/plain/", 401),
            ("/sub", 301),
            ("/api/time", 200),
        ] {
            for fields in [&[][..], &[HERE]] {
                let got = client.ask("GET", path, fields, b"").expect(status);
                assert_eq!(got.must(ALLOW), "*", "{path}");
                assert!(got.must("access-control-expose-headers").contains("ETag"));
                assert!(!got.varies_by("origin"), "{got:?}");
            }
        }
        client.ask("POST", "/api/echo", &[HERE], b"x").expect(200).must(ALLOW);
        // Before the password, which a browser does not send with it.
        let got = client.ask("OPTIONS", "/plain/one.txt", &PREFLIGHT, b"").expect(204);
        assert_eq!(got.must(ALLOW), "*");
        assert!(got.must("access-control-allow-methods").contains("PUT"));
        assert_eq!(got.must("access-control-allow-headers"), "authorization, x-a");
        assert_eq!(got.must("access-control-max-age"), "86400");
        // An OPTIONS that is none.
        assert!(client.ask("OPTIONS", "/hello.txt", &[HERE], b"").expect(204).must("allow").contains("GET"));
        client.ask("OPTIONS", "/plain/one.txt", &[HERE], b"").expect(401);
    });
}

#[test]
fn a_list_of_origins_admits_exactly_these() {
    let docroot = Docroot::new();
    on_both(|model| {
        let flags = ["--cors", "https://Here.example:443,http://localhost:3000"];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut client = Client::connect(server.port);
        for (field, allowed) in [
            (HERE, true),
            ("Origin: http://localhost:3000", true),
            (ELSEWHERE, false),
            ("Origin: http://here.example", false),
            ("Origin: https://here.example:444", false),
            ("Origin: null", false),
            ("X-No: origin", false),
        ] {
            for (path, status) in [("/hello.txt", 200), ("/nosuch", 404)] {
                let got = client.ask("GET", path, &[field], b"").expect(status);
                let expected = allowed.then(|| field.strip_prefix("Origin: ").unwrap());
                assert_eq!(got.field(ALLOW), expected, "{field}");
                assert!(got.varies_by("origin"), "also where it is not allowed: {got:?}");
            }
        }
        let got = client.ask("OPTIONS", "/hello.txt", &PREFLIGHT, b"").expect(204);
        assert_eq!(got.must(ALLOW), "https://here.example");
        let got = client.ask("OPTIONS", "/hello.txt", &[ELSEWHERE, PREFLIGHT[1]], b"").expect(204);
        assert!(got.fields.iter().all(|(name, _)| !name.starts_with("access-control")), "{got:?}");
        // What is no list of names is not repeated.
        let odd = "Access-Control-Request-Headers: x-a, b c";
        let got = client.ask("OPTIONS", "/hello.txt", &[HERE, PREFLIGHT[1], odd], b"").expect(204);
        assert_eq!(got.field("access-control-allow-headers"), None);
    });
}

#[test]
fn what_is_no_origin_is_said_in_one_line() {
    let docroot = Docroot::new();
    let ended = run(&mut command(MODELS[0], &docroot.root(), &["--cors", "site"]));
    let expected = "whirligig: --cors 'site': not an origin, such as https://example.org; a folder to serve goes \
                    before --cors; try 'whirligig --help'\n";
    assert_eq!((ended.code, ended.err.as_str()), (Some(2), expected));
}
