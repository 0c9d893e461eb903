//! CORS: which pages may read responses, and the responses to preflights.

use crate::docroot::Docroot;
use crate::harness::{MODELS, Server, command, on_both, run};
use crate::wire::Client;

const HERE: &str = "Origin: https://here.example";
const ELSEWHERE: &str = "Origin: https://here.example.evil.example";
const ALLOW: &str = "access-control-allow-origin";

/// Headers of a preflight, which a browser sends before a request that is not a simple one.
const PREFLIGHT: [&str; 3] =
    [HERE, "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: authorization,x-a"];

#[test]
fn every_page_may_read_every_response() {
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
        // Preflights need no password, because browsers do not send one with them.
        let got = client.ask("OPTIONS", "/plain/one.txt", &PREFLIGHT, b"").expect(204);
        assert_eq!(got.must(ALLOW), "*");
        assert!(got.must("access-control-allow-methods").contains("PUT"));
        assert_eq!(got.must("access-control-allow-headers"), "authorization, x-a");
        assert_eq!(got.must("access-control-max-age"), "86400");
        // An OPTIONS request that is no preflight.
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
                assert!(got.varies_by("origin"), "also for an origin that is not allowed: {got:?}");
            }
        }
        let got = client.ask("OPTIONS", "/hello.txt", &PREFLIGHT, b"").expect(204);
        assert_eq!(got.must(ALLOW), "https://here.example");
        let got = client.ask("OPTIONS", "/hello.txt", &[ELSEWHERE, PREFLIGHT[1]], b"").expect(204);
        assert!(got.fields.iter().all(|(name, _)| !name.starts_with("access-control")), "{got:?}");
        // A malformed list of names is not repeated in the response.
        let odd = "Access-Control-Request-Headers: x-a, b c";
        let got = client.ask("OPTIONS", "/hello.txt", &[HERE, PREFLIGHT[1], odd], b"").expect(204);
        assert_eq!(got.field("access-control-allow-headers"), None);
    });
}

#[test]
fn an_invalid_origin_is_reported_in_one_line() {
    let docroot = Docroot::new();
    let ended = run(&mut command(MODELS[0], &docroot.root(), &["--cors", "site"]));
    let expected = "whirligig: --cors 'site': not an origin, such as https://example.org; a folder to serve goes \
                    before --cors; try 'whirligig --help'\n";
    assert_eq!((ended.code, ended.err.as_str()), (Some(2), expected));
}

/// Returns the methods that a preflight allows a page of this origin.
fn promised(client: &mut Client, path: &str, origin: &str, method: &str) -> Vec<String> {
    let origin = format!("Origin: {origin}");
    let method = format!("Access-Control-Request-Method: {method}");
    let got = client.ask("OPTIONS", path, &[&origin, &method], b"").expect(204);
    let methods = got.field("access-control-allow-methods").unwrap_or_default();
    methods.split(", ").filter(|_| got.field(ALLOW).is_some()).map(str::to_owned).collect()
}

#[test]
fn a_preflight_agrees_with_the_upload() {
    let here = "https://here.example";
    let right = "Authorization: Basic dTpw";
    on_both(|model| {
        for (cors, origin, may_write) in [
            (&["--cors=https://here.example"][..], here, true),
            (&["--cors=http://localhost:3000,https://here.example"], here, true),
            (&["--cors=*", "--cors=https://here.example"], here, true),
            (&["--cors=*"], here, false),
            (&["--cors=null"], "null", false),
            (&["--cors=*,null"], "null", false),
            (&["--cors=https://here.example"], "https://here.example.evil.example", false),
            (&["--cors=https://here.example"], "http://here.example", false),
        ] {
            for password in [&[][..], &["--write-auth=u:p"], &["--auth=u:p@/in"]] {
                let docroot = Docroot::empty();
                docroot.write("in/kept.txt", "kept");
                docroot.write("other/kept.txt", "kept");
                let flags = [cors, password, &["--upload", "/in"]].concat();
                let server = Server::start(model, &docroot.root(), &flags);
                let mut client = Client::connect(server.port);
                let line = format!("Origin: {origin}");
                let kind = "Content-Type: multipart/form-data; boundary=b";
                let form = b"--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\nx\r\n--b--\r\n";
                for (method, path, fields, content, status) in [
                    ("PUT", "/in/new.txt", &[][..], &b"x"[..], 201),
                    ("PUT", "/in/%6eew.txt", &["Upload-Complete: ?1"], b"y", 204),
                    ("DELETE", "/in/new.txt", &[], b"", 204),
                    ("MKCOL", "/in/folder/", &[], b"", 201),
                    ("POST", "/in/", &[kind], form, 201),
                ] {
                    let promise = promised(&mut client, path, origin, method);
                    assert_eq!(
                        promise.iter().any(|one| one == method),
                        may_write,
                        "{cors:?} {method} {promise:?}"
                    );
                    // As a browser sends it from a page of that origin, which knows the password.
                    let all = [&[&line[..], "Sec-Fetch-Site: cross-site", right], fields].concat();
                    let got = Client::connect(server.port).ask(method, path, &all, content);
                    let expected = if may_write { status } else { 403 };
                    assert_eq!(got.status, expected, "{cors:?} {password:?} {method} {path}: {got:?}");
                    if !password.is_empty() {
                        let all = [&[&line[..], "Sec-Fetch-Site: cross-site"], fields].concat();
                        Client::connect(server.port).ask(method, path, &all, content).expect(401);
                    }
                }
                // Outside the folder a preflight still allows all methods, and the path decides
                // about the request.
                if cors.len() == 1 && may_write {
                    assert!(promised(&mut client, "/other/x", origin, "PUT").contains(&"PUT".to_owned()));
                    client.ask("PUT", "/other/x", &[&line, right], b"x").expect(405);
                }
            }
        }
    });
}

/// On loopback, a host name that any site can use permits no writes without a password, and no
/// preflight allows them.
#[test]
fn a_preflight_by_a_foreign_name_allows_no_upload() {
    let docroot = Docroot::empty();
    docroot.write("in/kept.txt", "kept");
    on_both(|model| {
        for (password, host, may_write) in [
            (&[][..], "evil.example", false),
            (&["--allow-host=evil.example"], "evil.example", true),
            (&["--write-auth=u:p"], "evil.example", true),
            (&[], "127.0.0.1", true),
        ] {
            let flags = [&["--cors=https://here.example", "--upload", "/in"], password].concat();
            let server = Server::start(model, &docroot.root(), &flags);
            let mut client = Client::connect(server.port);
            let ask = |start: &str, more: &str| {
                format!("{start} HTTP/1.1\r\nHost: {host}\r\nOrigin: https://here.example\r\n{more}\r\n\r\n")
            };
            client.send(ask("OPTIONS /in/x", "Access-Control-Request-Method: PUT"));
            let promise = client.response().expect(204);
            let methods = promise.must("access-control-allow-methods");
            assert_eq!(methods.contains("PUT"), may_write, "{password:?} {host} {methods}");
            let right = "Authorization: Basic dTpw\r\nContent-Length: 0";
            client.send(ask(&format!("PUT /in/{model}{}", password.len()), right));
            let got = client.response();
            assert_eq!([201, 204].contains(&got.status), may_write, "{password:?} {host}: {got:?}");
        }
    });
}

#[test]
fn a_page_may_read_where_its_upload_is() {
    let docroot = Docroot::empty();
    docroot.write("in/kept.txt", "kept");
    on_both(|model| {
        let server =
            Server::start(model, &docroot.root(), &["--cors=https://here.example", "--upload", "/in"]);
        let mut client = Client::connect(server.port);
        let path = format!("/in/{model}");
        let got =
            client.ask("PUT", &path, &[HERE, "Upload-Complete: ?0", "Upload-Length: 9"], b"x").expect(201);
        let exposed = got.must("access-control-expose-headers").to_ascii_lowercase();
        for name in ["location", "upload-offset", "upload-complete", "upload-limit", "etag"] {
            assert!(exposed.split(", ").any(|one| one == name), "{name} in {exposed}");
        }
        got.must("location");
        got.must("upload-offset");
    });
}
