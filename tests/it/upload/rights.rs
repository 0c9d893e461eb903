//! Rights in upload folders: which requests `--upload-rights` allows, and where.

use std::fs;
use std::sync::Barrier;
use std::thread;

use crate::harness::{MODELS, Server, bare_command, on_both, run};
use crate::upload::{docroot, form, names, put, start};
use crate::wire::Client;

#[test]
fn each_right_allows_its_requests_and_no_others() {
    on_both(|model| {
        // Rights, and the statuses of: PUT of a new file, PUT of an existing file, DELETE, MKCOL,
        // MOVE.
        let cases = [
            ("create", [201, 403, 403, 201, 403], "GET, HEAD, PUT, POST, MKCOL, OPTIONS"),
            ("replace", [403, 204, 403, 403, 403], "GET, HEAD, PUT, POST, OPTIONS"),
            ("delete", [403, 403, 204, 403, 403], "GET, HEAD, DELETE, OPTIONS"),
            ("rename", [403, 403, 403, 403, 201], "GET, HEAD, MOVE, OPTIONS"),
            (
                "create+replace+delete+rename",
                [201, 204, 204, 201, 201],
                "GET, HEAD, PUT, POST, DELETE, MKCOL, MOVE, OPTIONS",
            ),
        ];
        for (rights, statuses, allow) in cases {
            let docroot = docroot();
            for name in ["old", "gone", "moved"] {
                docroot.write(&format!("up/{name}"), b"old");
            }
            let server = start(model, &docroot, &["--upload-rights", &format!("/up={rights}")]);
            let mut client = Client::connect(server.port);
            let requests: [(&str, &str, &[&str], &[u8]); 5] = [
                ("PUT", "/up/new", &[], b"new"),
                ("PUT", "/up/old", &[], b"new"),
                ("DELETE", "/up/gone", &[], b""),
                ("MKCOL", "/up/folder", &[], b""),
                ("MOVE", "/up/moved", &["Destination: /up/elsewhere"], b""),
            ];
            for ((method, path, fields, content), status) in requests.into_iter().zip(statuses) {
                let got = Client::connect(server.port).ask(method, path, fields, content);
                assert_eq!(got.status, status, "{rights}: {method} {path}: {got:?}");
            }
            let kept = if statuses[1] == 204 { "new" } else { "old" };
            assert_eq!(fs::read_to_string(docroot.path("up/old")).unwrap(), kept, "{rights}");
            assert_eq!(docroot.path("up/gone").exists(), statuses[2] == 403, "{rights}");
            assert_eq!(docroot.path("up/moved").exists(), statuses[4] == 403, "{rights}");
            assert_eq!(client.ask("OPTIONS", "/up/old", &[], b"").expect(204).must("allow"), allow);
            assert_eq!(client.ask("PATCH", "/up/old", &[], b"").expect(405).must("allow"), allow);
        }
    });
}

#[test]
fn the_innermost_rule_counts_and_a_link_gives_no_more_rights() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/free/a", b"old");
        docroot.write("up/box/a", b"old");
        docroot.write("up/boxes/a", b"old");
        docroot.link("box", "up/link");
        docroot.link("box", "up/again");
        let flags =
            ["--upload-rights", "/up/box=create", "--upload-rights", "/up/again=create+replace+rename"];
        let server = start(model, &docroot, &flags);
        for (path, status) in [
            ("/up/free/a", 204),
            ("/up/boxes/a", 204),
            ("/up/box/a", 403),
            ("/up/link/a", 403),
            ("/up/again/a", 403),
        ] {
            assert_eq!(put(&server, path, &[], b"new").status, status, "{path}");
        }
        put(&server, "/up/link/b", &[], b"new").expect(201);
        Client::connect(server.port).ask("DELETE", "/up/link/a", &[], b"").expect(403);
        let names_of = |path| names(&docroot.path(path));
        assert_eq!(fs::read_to_string(docroot.path("up/box/a")).unwrap(), "old");
        assert_eq!(names_of("up/box"), ["a", "b"]);
        // Another name for the folder would end its rule.
        for path in ["/up/box", "/up/link"] {
            let got = Client::connect(server.port).ask("MOVE", path, &["Destination: free2"], b"");
            assert_eq!(got.status, 403, "{path}: {got:?}");
        }
    });
}

/// Without the right to replace, no upload of any kind replaces a file, whatever is sent with it.
#[test]
fn a_blind_drop_box_keeps_what_it_has() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/a", b"old");
        let server = start(model, &docroot, &["--upload-rights", "/up=create"]);
        let got = put(&server, "/up/a", &[], b"new").expect(403);
        assert!(
            got.text().contains("a file of that name already exists, and files here must not be replaced")
        );
        put(&server, "/up/a", &["If-None-Match: *"], b"new").expect(412);
        put(&server, "/up/a", &["Upload-Complete: ?1"], b"new").expect(403);
        let (kind, content) = form(&[("name=f; filename=a", b"new")]);
        let mut client = Client::connect(server.port);
        client.ask("POST", "/up/", &[kind], &content).expect(403);
        Client::connect(server.port).ask("POST", "/up/?overwrite", &[kind], &content).expect(403);
        assert_eq!(fs::read_to_string(docroot.path("up/a")).unwrap(), "old");
        // A resumable upload that began before the file existed must not replace it either.
        let begun = put(&server, "/up/late", &["Upload-Complete: ?0", "Upload-Length: 3"], b"").expect(201);
        put(&server, "/up/late", &[], b"first").expect(201);
        let at = format!("/up/{}", begun.must("location"));
        let fields = ["Content-Type: application/partial-upload", "Upload-Offset: 0", "Upload-Complete: ?1"];
        Client::connect(server.port).ask("PATCH", &at, &fields, b"new").expect(403);
        assert_eq!(fs::read_to_string(docroot.path("up/late")).unwrap(), "first");
        assert_eq!(names(&docroot.path("up")), ["a", "late"]);
    });
}

/// Clients that upload to one name at once, when nothing may be replaced: exactly one wins, and its
/// content stays.
#[test]
fn of_uploads_to_one_name_exactly_one_wins() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 20;
    on_both(|model| {
        let docroot = docroot();
        let server = start(model, &docroot, &["--upload-rights", "/up=create"]);
        for round in 0..ROUNDS {
            let path = format!("/up/{round}");
            let at_once = Barrier::new(CLIENTS);
            let send = |number: usize| {
                let content = number.to_string();
                at_once.wait();
                let status = put(&server, &path, &[], content.as_bytes()).status;
                assert!(matches!(status, 201 | 403), "{status}");
                (status == 201).then_some(content)
            };
            let winners: Vec<String> = thread::scope(|scope| {
                let send = &send;
                let threads: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || send(number))).collect();
                threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
            });
            let [winner] = &winners[..] else { panic!("{winners:?} in round {round}") };
            assert_eq!(&fs::read_to_string(docroot.path(&format!("up/{round}"))).unwrap(), winner);
        }
    });
}

#[test]
fn rights_without_an_upload_folder_are_an_error() {
    let docroot = docroot();
    for (flags, expected) in [
        (
            &["--upload-rights", "/up=create"][..],
            "--upload-rights '/up': no upload folder contains this path",
        ),
        (&["--upload", "/up", "--upload-rights", "/up=write"], "'write' is not a right"),
        (
            &["--upload", "/up", "--upload-rights", "/up=create,/up=delete"],
            "the rights of this path are given twice",
        ),
    ] {
        let ran = run(bare_command().arg(docroot.root()).args(flags));
        assert_eq!(ran.code, Some(2), "{}", ran.err);
        assert!(ran.err.contains(expected), "{}", ran.err);
    }
    let server =
        Server::start(MODELS[0], &docroot.root(), &["--upload", "/", "--upload-rights", "/up=create+rename"]);
    put(&server, "/up/a", &[], b"").expect(201);
}

/// A folder without listings shows no names: not by another name for it, and not in an archive of a
/// folder above.
#[test]
fn a_drop_box_shows_no_names() {
    on_both(|model| {
        let docroot = docroot();
        docroot.write("up/box/secret-name", b"x");
        docroot.write("up/box/below/deep-name", b"x");
        docroot.write("up/boxes/shown-name", b"x");
        docroot.link("box", "up/link");
        let flags = ["--upload-rights", "/up/box=create", "--no-listing=/up/box", "--archives"];
        let server = start(model, &docroot, &flags);
        let mut client = Client::connect(server.port);
        for path in [
            "/up/box/",
            "/up/box/below/",
            "/up/link/",
            "/up/box/?json",
            "/up/box/?archive=tar",
            "/up/link/?archive=tar",
        ] {
            client.get(path).expect(404);
        }
        client.get("/up/boxes/").expect(200);
        let archive = client.get("/up/?archive=tar").expect(200);
        let holds = |name: &str| archive.text().contains(name);
        assert!(holds("shown-name") && !holds("secret-name") && !holds("deep-name"));
        put(&server, "/up/box/new", &[], b"new").expect(201);
        client.get("/up/box/new").expect(200).with_body("new");
    });
}
