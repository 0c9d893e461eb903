//! Redirects and rewrites from a file: where they lead, and where nobody can make them lead.

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
fn rules_redirect_rewrite_and_say_what_is_gone() {
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
        let got = client.get("/query/a%26b?dropped").expect(200);
        assert!(got.text().contains("[[\"only\",\"a&b\"]]"), "{got:?}");
        client.ask("POST", "/echo", &[], b"content").expect(200).with_body("content");
        client.get("/_whirligig/health").expect(200);
        client.get("/same/x").expect(404);
        client.get("/hello.txt").expect(200).with_body(HELLO);
        // A password is due for what is asked for and for what it leads to.
        let right =
            format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode("u:p"));
        for path in ["/open/file.txt", "/private/open.txt"] {
            client.get(path).expect(401);
            client.ask("GET", path, &[&right], b"").expect(200);
        }
    });
}

#[test]
fn a_wrong_rule_is_named_by_file_and_line() {
    let docroot = Docroot::new();
    let file = rules(&docroot, "gone /a\nredirect /b //evil.example\n");
    let ended = run(&mut command(MODELS[0], &docroot.root(), &["--rules", &file]));
    let expected = format!(
        "whirligig: cannot serve the site: '{file}': line 2: a target with two slashes is another host; \
         correct the file or the flag\n"
    );
    assert_eq!((ended.code, ended.err), (Some(1), expected));
}
