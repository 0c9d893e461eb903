//! Passwords for writing.

use std::fs;

use crate::docroot::pattern;
use crate::harness::on_both;
use crate::upload::{basic, docroot, form, names, put, start, until_written};
use crate::wire::{Client, request};

#[test]
fn writing_may_need_a_separate_password() {
    let docroot = docroot();
    on_both(|model| {
        let server = start(model, &docroot, &["--write-auth", "w:write@/up"]);
        Client::connect(server.port).get("/up/").expect(200);
        let refused = put(&server, "/up/a", &[], b"x").expect(401);
        assert_eq!(refused.must("www-authenticate"), "Basic realm=\"writing /up\", charset=\"UTF-8\"");
        for path in ["/up/a", "/%75p/a", "//up/a", "/up/./a", "/other/../up/a"] {
            for method in ["PUT", "POST", "DELETE", "MKCOL", "PATCH"] {
                Client::connect(server.port).ask(method, path, &[], b"").expect(401);
            }
            // Once per path, because after five wrong passwords the next refusal is delayed.
            Client::connect(server.port).ask("PUT", path, &[&basic("w:wrong")], b"").expect(401);
        }
        let path = format!("/up/by-{model}");
        put(&server, &path, &[&basic("w:write")], b"x").expect(201);
        Client::connect(server.port).get(&path).expect(200);
        // With a password for reading and one for writing, each applies to its methods. Without a
        // password for writing, that for reading applies.
        let both = start(model, &docroot, &["--auth", "r:read@/up", "--write-auth", "w:write@/up"]);
        Client::connect(both.port).get(&path).expect(401);
        Client::connect(both.port).ask("GET", &path, &[&basic("r:read")], b"").expect(200);
        put(&both, &path, &[&basic("r:read")], b"x").expect(401);
        put(&both, &path, &[&basic("w:write")], b"x").expect(204);
        let one = start(model, &docroot, &["--auth", "r:read@/up"]);
        put(&one, &path, &[], b"x").expect(401);
        put(&one, &path, &[&basic("r:read")], b"x").expect(204);
        // The URL of a resumable upload needs the same password.
        let begun = put(&server, "/up/r", &[&basic("w:write"), "Upload-Complete: ?0"], b"x").expect(201);
        let mut client = Client::connect(server.port);
        let place = begun.leads_to("/up/r");
        client.ask("DELETE", &place, &[], b"").expect(401);
        client.ask("DELETE", &place, &[&basic("w:write")], b"").expect(204);
    });
}

/// HEAD with a token ends the request that still writes to the upload. It used to need the password
/// for reading, or none.
#[test]
fn the_state_of_an_upload_needs_the_password_for_writing() {
    let content = pattern(400_000);
    on_both(|model| {
        let docroot = docroot();
        docroot.write("rules.txt", b"rewrite /short /up/file\n");
        let rules = docroot.path("rules.txt");
        let flags =
            ["--auth", "r:read@/up", "--write-auth", "w:write@/up", "--rules", rules.to_str().unwrap()];
        let server = start(model, &docroot, &flags);
        let (reader, writer) = (basic("r:read"), basic("w:write"));
        let place = put(&server, "/up/file", &[&writer, "Upload-Complete: ?0"], b"").expect(201);
        let place = place.leads_to("/up/file");
        let part = ["Content-Type: application/partial-upload", "Upload-Complete: ?1", "Upload-Offset: 0"];
        let whole = request("PATCH", &place, &[part[0], part[1], part[2], &writer], &content);
        let mut active = Client::connect(server.port);
        active.send(&whole[..300_000]);
        until_written(&server, &docroot.path("up"), 200_000);
        let query = place.split_once('?').unwrap().1;
        let spellings = [
            place.clone(),
            place.replace("resume", "%72esume"),
            place.replace("/up/", "//up/./"),
            format!("/up/file?a=b&{query}&c"),
            format!("/short?{query}"),
        ];
        for spelling in &spellings {
            for fields in [&[][..], &[&reader[..]], &[&basic("w:wrong")[..]]] {
                Client::connect(server.port).ask("HEAD", spelling, fields, b"").expect(401);
            }
            let foreign = [&writer[..], "Origin: https://elsewhere.example"];
            Client::connect(server.port).ask("HEAD", spelling, &foreign, b"").expect(403);
        }
        // Methods that change nothing need the password for reading, and do not affect the upload.
        Client::connect(server.port).ask("GET", &place, &[&reader], b"").expect(404);
        Client::connect(server.port).ask("OPTIONS", &place, &[&reader], b"").expect(204);
        Client::connect(server.port).ask("HEAD", "/up/file?resume=cv", &[&reader], b"").expect(404);
        active.send(&whole[300_000..]);
        active.response().expect(201);
        for spelling in &spellings {
            let got = Client::connect(server.port).ask("HEAD", spelling, &[&writer], b"").expect(204);
            assert_eq!(got.must("upload-offset"), "400000", "{spelling}");
        }
    });
}

/// A form contains the names of its files, and a link is another name for a folder. So the path
/// that was checked is not the one that is written. Both used to bypass a password.
#[test]
fn no_form_and_no_link_bypasses_a_password() {
    let flags = ["--write-auth", "u:p@/up", "--write-auth", "boss:q@/up/index.html"];
    let more = ["--write-auth", "boss:q@/up/private", "--auth", "boss:q@/other", "--symlinks", "all"];
    let flags = [flags.as_slice(), &more].concat();
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/index.html", b"the boss's");
        docroot.write("up/private/file", b"private");
        docroot.link("private", "up/aside");
        let server = start(model, &docroot, &flags);
        let (user, boss) = (basic("u:p"), basic("boss:q"));
        for (folder, name) in [("/up", "index.html"), ("/up", "index.html.gz"), ("/up/aside", "new")] {
            let (kind, content) = form(&[(&format!("name=f; filename={name}"), b"x")]);
            let path = format!("{folder}?overwrite");
            let refused = Client::connect(server.port).ask("POST", &path, &[kind, &user], &content);
            assert_eq!(refused.status, 403, "{folder}/{name}: {refused:?}");
        }
        for (method, path) in [
            ("PUT", "/up/aside/file"),
            ("PUT", "/up/aside/new"),
            ("DELETE", "/up/aside/file"),
            ("MKCOL", "/up/aside/sub"),
        ] {
            let content: &[u8] = if method == "PUT" { b"x" } else { b"" };
            let mut client = Client::connect(server.port);
            client.ask(method, path, &[&user], content).expect(403);
            client.ask(method, &path.replace("aside", "private"), &[&user], b"").expect(401);
        }
        assert_eq!(names(&docroot.path("up")), ["aside", "index.html", "private"]);
        assert_eq!(names(&docroot.path("up/private")), ["file"]);
        assert_eq!(fs::read(docroot.path("up/index.html")).unwrap(), b"the boss's");
        // Files without a password, or with the same one, can be written.
        let mut client = Client::connect(server.port);
        let (kind, content) = form(&[("name=f; filename=free", b"x")]);
        client.ask("POST", "/up", &[kind, &user], &content).expect(201);
        client.ask("DELETE", "/up/free", &[&user], b"").expect(204);
        client.ask("POST", "/up/private/", &[kind, &boss], &content).expect(201);
        client.ask("DELETE", "/up/private/free", &[&boss], b"").expect(204);
        client.ask("PUT", "/up/index.html", &[&boss], b"the boss's").expect(204);
    });
}
