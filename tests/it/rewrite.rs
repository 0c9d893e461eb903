//! Redirects and rewrites from a file: their targets, and that no client can change where they
//! lead.

use std::fs;

use base64::Engine as _;

use crate::docroot::{Docroot, HELLO};
use crate::harness::{MODELS, Server, command, on_both, run};
use crate::wire::Client;

fn rules(docroot: &Docroot, text: &str) -> String {
    let file = docroot.outside("rules");
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn rules_redirect_rewrite_and_return_410() {
    let docroot = Docroot::new();
    let file = rules(
        &docroot,
        "# a comment
         redirect 301 /old/** /plain/$1
         redirect /away/** https://example.org/$1
         redirect 308 /slashes** /$1
         gone *.php
         rewrite /hi/* /$1.txt
         rewrite /list/** /plain/$1
         rewrite /query/* /api/query/x?only=$1
         rewrite /echo /api/echo
         rewrite /private/open.txt /hello.txt
         rewrite /open/** /private/$1
         redirect /same/** /same/$1",
    );
    docroot.write("private/file.txt", b"behind the password");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--rules", &file, "--auth", "u:p@/private"]);
        let mut client = Client::connect(server.port);
        for (path, status, location) in [
            ("/old/one.txt?a=b", 301, "/plain/one.txt?a=b"),
            ("//old/./x/../%6Fne.txt", 301, "/plain/one.txt"),
            ("http://localhost/old/a%20b", 301, "/plain/a%20b"),
            ("/away/x?q", 302, "https://example.org/x?q"),
            ("/slashes//evil.example/", 308, "/evil.example/"),
            ("/slashes/%5Cevil.example/", 308, "/%5Cevil.example/"),
            ("/slashes%0D%0ASet-Cookie:x", 308, "/%0D%0ASet-Cookie:x"),
        ] {
            let got = client.get(path).expect(status);
            assert_eq!(got.must("location"), location, "{path}");
            assert!(got.field("set-cookie").is_none());
        }
        client.get("/x/y.php").expect(410);
        client.get("/hi/hello").expect(200).with_body(HELLO);
        client.ask("HEAD", "/hi/hello", &[], b"").expect(200);
        client.ask("GET", "/hi/hello", &["Range: bytes=0-1"], b"").expect(206).with_body(&HELLO[..2]);
        assert!(client.get("/list/?text&sort=size").expect(200).text().contains("one.txt"));
        assert_eq!(client.get("/list/deeper").expect(301).must("location"), "/plain/deeper/");
        let head = client.ask("HEAD", "/list/deeper?a=b", &[], b"").expect(301);
        assert_eq!(head.must("location"), "/plain/deeper/?a=b");
        let got = client.get("/query/a%26b?dropped").expect(200);
        assert!(got.text().contains("[[\"only\",\"a&b\"]]"), "{got:?}");
        client.ask("POST", "/echo", &[], b"content").expect(200).with_body("content");
        client.get("/_whirligig/health").expect(200);
        client.get("/same/x").expect(404);
        client.get("/hello.txt").expect(200).with_body(HELLO);
        // The request path and its target may each need a password.
        let right =
            format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode("u:p"));
        for path in ["/open/file.txt", "/private/open.txt"] {
            client.get(path).expect(401);
            client.ask("GET", path, &[&right], b"").expect(200);
        }
    });
}

/// RFC 3986 section 5.2.4: a client may name a part of a path `..`, and a rule may put slashes
/// around it.
#[test]
fn no_wildcard_leads_out_of_the_folder_of_its_target() {
    let docroot = Docroot::new();
    let file = rules(
        &docroot,
        "gone /private/**
         rewrite /img-*/** /images/$1/$2
         rewrite /thumb-** /images/$1
         rewrite /*.*.png/** /images/$1.$2/$3
         redirect /go-*/** /images/$1/$2
         redirect /cdn-** https://cdn.example/images/$1",
    );
    docroot.write("private/secret.txt", b"SECRET");
    docroot.write("images/x/ok.txt", b"fine");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--rules", &file]);
        let mut client = Client::connect(server.port);
        client.get("/private/secret.txt").expect(410);
        client.get("/img-x/ok.txt").expect(200).with_body("fine");
        client.get("/img-/x/ok.txt").expect(200).with_body("fine");
        for path in [
            "/img-../private/secret.txt",
            "/img-%2e%2e/private/secret.txt",
            "/img-.%2E/private/secret.txt",
            "/img-./../private/secret.txt",
            "/thumb-../private/secret.txt",
            "/x/../thumb-%2e./private/secret.txt",
            "/...png/../private/secret.txt",
            "/..png/private/secret.txt",
            "/go-../private/secret.txt",
            "/go-%2e/x",
            "/cdn-..",
            "/cdn-%2e%2e/x",
        ] {
            for method in ["GET", "HEAD"] {
                let got = client.ask(method, path, &[], b"");
                assert!([404, 410].contains(&got.status), "{method} {path}: {got:?}");
                assert!(got.field("location").is_none(), "{path}: {got:?}");
            }
        }
        assert_eq!(client.get("/go-a../x").expect(302).must("location"), "/images/a../x");
    });
}

/// PATH_MAX is 4096, so a rule for a longer path could only waste time.
#[test]
fn a_path_too_long_for_a_file_matches_no_redirect_and_no_rewrite() {
    let docroot = Docroot::new();
    let file = rules(
        &docroot,
        "redirect /r/** /hello.txt
         rewrite /w/** /hello.txt
         rewrite /**/a/**/b/** /hello.txt
         gone /g/**",
    );
    on_both(|model| {
        let more =
            ["--rules", &file, "--header", "/w/**: X-Rule: yes", "--auth", "u:p@/private", "--upload", "/up"];
        let server = Server::start(model, &docroot.root(), &more);
        let mut client = Client::connect(server.port);
        let long = |start: &str, bytes: usize| format!("{start}{}", "x/".repeat(bytes))[..bytes].to_owned();
        client.get(&long("/r/", 4096)).expect(302);
        client.get(&long("/w/", 4096)).expect(200).with_body(HELLO);
        for bytes in [4097, 8192, 16_000] {
            client.get(&long("/r/", bytes)).expect(404);
            assert_eq!(client.get(&long("/w/", bytes)).expect(404).must("x-rule"), "yes");
            client.get(&long("/a/b/", bytes)).expect(404);
            client.get(&long("/", bytes)).expect(404);
            client.get(&format!("{}?archive=zip", long("/", bytes))).expect(404);
            // If a path is forbidden or needs a password, its length does not matter.
            client.get(&long("/g/", bytes)).expect(410);
            client.get(&long("/private/", bytes)).expect(401);
            let query = client.get(&format!("/api/query/{}?a=b", "x".repeat(bytes - 20)));
            assert!(query.expect(200).text().contains("[[\"a\",\"b\"]]"));
            let put = client.ask("PUT", &long("/up/", bytes), &[], b"x");
            assert!((400..500).contains(&put.status), "{put:?}");
        }
        // An escape counts as one byte.
        client.get(&format!("/r/{}", "%78".repeat(4093))).expect(302);
        client.get(&format!("/r/{}", "%78".repeat(4094))).expect(404);
    });
}

/// RFC 3986 section 3.5: the fragment comes last, after the query, and is for the client.
/// Characters outside ASCII are sent escaped, as a browser does.
#[test]
fn a_target_may_have_a_fragment_and_letters_of_any_language() {
    let docroot = Docroot::new();
    let file = rules(
        &docroot,
        "redirect /old /new#part
         redirect 308 /faq/* /help/?lang=de#frage-$1
         redirect /away/** https://example.org/$1#/route?a=b
         redirect /caf\u{e9}/** /b\u{fc}cher/$1
         redirect /zh /\u{8d70}\u{9a6c}\u{706f}?q=\u{706f}#\u{8d70}
         redirect /top /top#top
         rewrite /lies/* /\u{4e00}\u{4e2a} $1",
    );
    // A target contains no raw spaces, only escaped ones.
    let text = fs::read_to_string(&file).unwrap().replace("\u{4e2a} $1", "\u{4e2a}%20$1");
    fs::write(&file, text).unwrap();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--rules", &file]);
        let mut client = Client::connect(server.port);
        for (path, status, location) in [
            ("/old", 302, "/new#part"),
            ("/old?x=1", 302, "/new?x=1#part"),
            ("/faq/3?x=1", 308, "/help/?lang=de#frage-3"),
            ("/faq/a%23b%0Ac", 308, "/help/?lang=de#frage-a%23b%0Ac"),
            ("/away/x?q", 302, "https://example.org/x?q#/route?a=b"),
            ("/caf%C3%A9/%C3%A9?q", 302, "/b%C3%BCcher/%C3%A9?q"),
            ("/zh", 302, "/%E8%B5%B0%E9%A9%AC%E7%81%AF?q=%E7%81%AF#%E8%B5%B0"),
        ] {
            for method in ["GET", "HEAD"] {
                let got = client.ask(method, path, &[], b"").expect(status);
                assert_eq!(got.must("location"), location, "{path}");
            }
        }
        client.get("/top").expect(404);
        client.get("/lies/%E6%96%87%E4%BB%B6.txt").expect(200).with_body("\u{6c49}\u{5b57}\n");
    });
}

#[test]
fn a_wrong_rule_is_named_by_file_and_line() {
    let docroot = Docroot::new();
    let file = rules(&docroot, "gone /a\nredirect /b //evil.example\n");
    let ended = run(&mut command(MODELS[0], &docroot.root(), &["--rules", &file]));
    let expected = format!(
        "whirligig: cannot serve the site: --rules '{file}': line 2: a target with two slashes is another host; \
         correct the file or the option\n"
    );
    assert_eq!((ended.code, ended.err), (Some(1), expected));
}
