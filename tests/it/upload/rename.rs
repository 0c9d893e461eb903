//! MOVE: which renames are refused, and that none loses a file.

use std::fs;
use std::sync::Barrier;
use std::thread;

use crate::docroot::Docroot;
use crate::harness::{Server, on_both};
use crate::upload::{basic, docroot, names, put, start};
use crate::wire::{Client, Response};

const RIGHTS: [&str; 2] = ["--upload-rights", "/up=create+replace+delete+rename"];

fn rename(server: &Server, from: &str, fields: &[&str]) -> Response {
    Client::connect(server.port).ask("MOVE", from, fields, b"")
}

fn text(docroot: &Docroot, path: &str) -> String {
    fs::read_to_string(docroot.path(path)).unwrap()
}

#[test]
fn files_and_folders_get_other_names_within_their_folder() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/a", b"a");
        docroot.write("up/sub/deep/b", b"b");
        let server = start(model, &docroot, &RIGHTS);
        let mut client = Client::connect(server.port);
        // A GET before and after, so that a cached file would show.
        client.get("/up/a").expect(200);
        let got = rename(&server, "/up/a", &["Destination: /up/b%20c"]).expect(201);
        assert_eq!(got.must("location"), "b%20c");
        client.get("/up/a").expect(404);
        client.get("/up/b%20c").expect(200).with_body("a");
        // URLs of this server, and references relative to the path of the request.
        rename(&server, "/up/b%20c", &["Destination: HTTP://LOCALHOST:80/up/c"]).expect(201);
        rename(&server, "/up/c", &["Destination: ./d%3Ae"]).expect(201);
        rename(&server, "/up/d%3Ae", &["Destination: /other/../up/./e"]).expect(201);
        assert_eq!(text(&docroot, "up/e"), "a");
        let got = rename(&server, "/up/sub", &["Destination: folder", "Depth: infinity"]).expect(201);
        assert_eq!(got.must("location"), "folder/");
        rename(&server, "/up/folder/", &["Destination: /up/other/", "Overwrite: F"]).expect(201);
        client.get("/up/other/deep/b").expect(200).with_body("b");
        // Replacing.
        put(&server, "/up/f", &[], b"f").expect(201);
        rename(&server, "/up/e", &["Destination: f", "Overwrite: T"]).expect(204);
        assert_eq!(text(&docroot, "up/f"), "a");
        put(&server, "/up/g", &[], b"g").expect(201);
        rename(&server, "/up/g", &["Destination: f"]).expect(204);
        assert_eq!(text(&docroot, "up/f"), "g");
        assert_eq!(names(&docroot.path("up")), ["f", "other"]);
    });
}

/// Path, headers and the status of the response.
const REFUSED: &[(&str, &[&str], u16)] = &[
    // The header.
    ("/up/a", &[], 400),
    ("/up/a", &["Destination: "], 400),
    ("/up/a", &["Destination: /up/x", "Destination: /up/y"], 400),
    ("/up/a", &["Destination: /up/x?y"], 400),
    ("/up/a", &["Destination: /up/x#y"], 400),
    ("/up/a", &["Destination: /up/%zz"], 400),
    ("/up/a", &["Destination: /up/a%2fb"], 400),
    ("/up/a", &["Destination: /up/a%00b"], 400),
    ("/up/a", &["Destination: /up/x", "Overwrite: yes"], 400),
    ("/up/folder", &["Destination: /up/x", "Depth: 0"], 400),
    ("/up/a", &["Destination: http://elsewhere.test/up/x"], 502),
    ("/up/a", &["Destination: ftp://127.0.0.1/up/x"], 502),
    ("/up/a", &["Destination: //elsewhere.test/up/x"], 502),
    // Places.
    ("/up/a", &["Destination: /hello2.txt"], 403),
    ("/up/a", &["Destination: ../x"], 403),
    ("/up/a", &["Destination: /up/folder/x"], 403),
    ("/up/folder/c", &["Destination: /up/x"], 403),
    ("/up/a", &["Destination: /up/"], 403),
    ("/up", &["Destination: /down"], 403),
    ("/up/", &["Destination: /up/x"], 403),
    ("/up/a", &["Destination: /up/a"], 403),
    // Names.
    ("/up/a", &["Destination: /up/.x"], 403),
    ("/up/.hidden", &["Destination: /up/x"], 403),
    ("/up/a", &["Destination: /up/x%0ay"], 400),
    ("/up/a", &["Destination: /up/gpj%E2%80%AEexe"], 400),
    ("/up/a", &["Destination: /up/x/"], 409),
    // Entries.
    ("/up/nosuch", &["Destination: /up/x"], 404),
    ("/up/nosuch/a", &["Destination: /up/nosuch/x"], 404),
    ("/up/a/", &["Destination: /up/x"], 404),
    ("/up/link", &["Destination: /up/x"], 409),
    ("/up/file-link", &["Destination: /up/x"], 409),
    ("/up/a", &["Destination: /up/link"], 409),
    ("/up/a", &["Destination: /up/folder"], 409),
    ("/up/folder", &["Destination: /up/a"], 409),
    ("/up/folder", &["Destination: /up/empty"], 409),
    ("/up/a", &["Destination: /up/a2"], 409),
    // Overwrite: F.
    ("/up/a", &["Destination: /up/b", "Overwrite: F"], 412),
    ("/up/a", &["Destination: /up/a2", "Overwrite: F"], 412),
    ("/up/a", &["Destination: /up/folder", "Overwrite: F"], 412),
    ("/up/a", &["Destination: /up/file-link", "Overwrite: F"], 412),
    ("/up/folder", &["Destination: /up/empty", "Overwrite: F"], 412),
    // Conditions are for the source.
    ("/up/a", &["Destination: /up/x", "If-Match: \"other\""], 412),
    // Pages of other sites.
    ("/up/a", &["Destination: /up/x", "Sec-Fetch-Site: cross-site"], 403),
    ("/up/a", &["Destination: /up/x", "Origin: null"], 403),
];

#[test]
fn refused_renames_have_specific_statuses_and_change_nothing() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/a", b"a");
        docroot.write("up/b", b"b");
        docroot.write("up/folder/c", b"c");
        fs::create_dir(docroot.path("up/empty")).unwrap();
        fs::hard_link(docroot.path("up/a"), docroot.path("up/a2")).unwrap();
        docroot.link("folder", "up/link");
        docroot.link("a", "up/file-link");
        docroot.write("up/.hidden", b"hidden");
        let before = names(&docroot.path("up"));
        let server = start(model, &docroot, &RIGHTS);
        let long = format!("Destination: /up/{}", "n".repeat(256));
        for (path, fields, status) in REFUSED {
            let got = rename(&server, path, fields);
            assert_eq!(got.status, *status, "{path} {fields:?}: {got:?}");
            assert!(got.text().lines().count() >= 2, "the reason is a sentence: {}", got.text());
        }
        rename(&server, "/up/a", &[&long]).expect(400);
        Client::connect(server.port).ask("MOVE", "/up/a", &["Destination: x"], b"content").expect(415);
        assert_eq!(names(&docroot.path("up")), before);
        assert_eq!(
            [text(&docroot, "up/a"), text(&docroot, "up/b"), text(&docroot, "up/folder/c")],
            ["a", "b", "c"]
        );
    });
}

#[test]
fn rename_is_off_unless_a_right_allows_it() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/a", b"a");
        docroot.write("up/b", b"b");
        let fields = ["Destination: /up/x"];
        let server = start(model, &docroot, &[]);
        let got = rename(&server, "/up/a", &fields).expect(403);
        assert!(got.text().contains("must not be renamed"), "{}", got.text());
        rename(&server, "/hello.txt", &["Destination: /x"]).expect(501);
        let server = Server::start(model, &docroot.root(), &[]);
        rename(&server, "/up/a", &fields).expect(501);
        let server = start(model, &docroot, &["--upload-rights", "/up=rename"]);
        let got = rename(&server, "/up/a", &["Destination: /up/b"]).expect(403);
        assert!(got.text().contains("must not be replaced"), "{}", got.text());
        assert_eq!(text(&docroot, "up/b"), "b");
    });
}

/// A password, a folder of programs or the operator's own file applies to a name. A rename must not
/// take content away from it.
#[test]
fn no_rename_takes_a_file_out_of_its_protection() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/secret.txt", b"secret");
        docroot.write("up/open.txt", b"open");
        docroot.write("up/box/private/a", b"a");
        docroot.write("up/box/b", b"b");
        docroot.write("up/logs/access.log", b"");
        let log = docroot.path("up/logs/access.log");
        let flags = [
            "--upload",
            "/up",
            RIGHTS[0],
            RIGHTS[1],
            "--auth",
            "u:p@/up/secret.txt",
            "--auth",
            "v:q@/up/box/private",
            "--write-auth",
            "w:r@/up",
            "--access-log",
            log.to_str().unwrap(),
        ];
        let server = Server::start(model, &docroot.root(), &flags);
        rename(&server, "/up/open.txt", &["Destination: x"]).expect(401);
        let writer = basic("w:r");
        let ask = |from: &str, to: &str| {
            rename(&server, from, &[&writer, &format!("Destination: {to}"), "Overwrite: T"]).status
        };
        assert_eq!(ask("/up/secret.txt", "/up/shown.txt"), 403);
        assert_eq!(ask("/up/open.txt", "/up/secret.txt"), 403);
        assert_eq!(ask("/up/box", "/up/box2"), 403);
        assert_eq!(ask("/up/logs", "/up/logs2"), 403);
        assert_eq!(ask("/up/logs/access.log", "/up/logs/x"), 403);
        assert_eq!(ask("/up/box/b", "/up/box/c"), 201);
        assert_eq!(ask("/up/box/private", "/up/box/public"), 403);
        assert_eq!(names(&docroot.path("up")), ["box", "logs", "open.txt", "secret.txt"]);
        assert_eq!(text(&docroot, "up/secret.txt"), "secret");
    });
}

/// Clients that rename files to one name, and upload to that name, all at once and without the
/// permission to replace: exactly one wins, and all others still have their files.
#[test]
fn of_renames_and_uploads_to_one_name_exactly_one_wins() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 20;
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &RIGHTS);
        for round in 0..ROUNDS {
            let folder = format!("up/{round}");
            for number in 0..CLIENTS {
                docroot.write(&format!("{folder}/{number}"), number.to_string().as_bytes());
            }
            let at_once = Barrier::new(CLIENTS + 1);
            let ask = |number: usize| {
                at_once.wait();
                let got = match number {
                    CLIENTS => put(&server, &format!("/{folder}/x"), &["If-None-Match: *"], b"8"),
                    _ => rename(&server, &format!("/{folder}/{number}"), &["Destination: x", "Overwrite: F"]),
                };
                assert!(matches!(got.status, 201 | 412), "{got:?}");
                (got.status == 201).then_some(number)
            };
            let winners: Vec<usize> = thread::scope(|scope| {
                let ask = &ask;
                let threads: Vec<_> = (0..=CLIENTS).map(|number| scope.spawn(move || ask(number))).collect();
                threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
            });
            let [winner] = winners[..] else { panic!("{winners:?} in round {round}") };
            assert_eq!(text(&docroot, &format!("{folder}/x")), winner.to_string());
            for number in (0..CLIENTS).filter(|number| *number != winner) {
                assert_eq!(text(&docroot, &format!("{folder}/{number}")), number.to_string());
            }
        }
    });
}
