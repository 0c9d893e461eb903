//! Scarce places: programs, uploads, threads, descriptors. One client must not hold those of all others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;

use crate::docroot::{Docroot, HELLO};
use crate::harness::{Server, binary, on_both};
use crate::wire::{Client, request};

/// A folder `up` for uploads and a program `cg/run`, served with so many descriptors.
fn limited(model: &str, docroot: &Docroot, descriptors: usize, more: &[&str]) -> Server {
    docroot.write("cg/run", b"#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nok'\n");
    fs::set_permissions(docroot.path("cg/run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(docroot.path("up")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$@\""), "sh"]).arg(binary());
    command.args(["--model", model, "--port", "0", "--upload", "/up"]).args(more);
    command.arg("--cgi").arg(format!("/cgi={}", docroot.path("cg").display())).arg(docroot.root());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Server::launch(command)
}

fn basic(pair: &str) -> String {
    format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// The server's open descriptors of what is at `path`.
fn open_at(server: &Server, path: &Path) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid().as_raw_nonzero())).unwrap();
    open.filter(|entry| fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|link| link == path)).count()
}

/// 117 uploads that broke off blocked a server with 256 descriptors: each kept two of them.
#[test]
fn unfinished_uploads_leave_descriptors_to_all_others() {
    const UPLOADS: usize = 250;
    on_both(|model| {
        for how in ["one folder", "many folders", "cut off"] {
            let docroot = Docroot::new();
            let server = limited(model, &docroot, 256, &[]);
            for number in 0..UPLOADS {
                // From several addresses, so that no client has more than its share.
                let mut client = Client::connect_from(2 + (number % 5) as u8, server.port);
                let fields = ["Upload-Complete: ?0", "Upload-Length: 1000"];
                match how {
                    "one folder" => drop(client.ask("PUT", "/up/file", &fields, b"abc").expect(201)),
                    "many folders" => {
                        client.ask("MKCOL", &format!("/up/{number}"), &[], b"").expect(201);
                        client.ask("PUT", &format!("/up/{number}/file"), &fields, b"abc").expect(201);
                    }
                    _ => {
                        let fields = ["Upload-Complete: ?1", "Upload-Draft-Interop-Version: 8"];
                        client.send(&request("PUT", "/up/file", &fields, &[b'x'; 1000])[..500]);
                        // The interim response says that it is kept.
                        assert_eq!(client.read_some(12), b"HTTP/1.1 104");
                    }
                }
            }
            let shared = usize::from(how != "many folders");
            assert_eq!(open_at(&server, &docroot.path("up")), shared, "{how}");
            assert!(server.descriptors() < 128, "{how}: {}", server.descriptors());
            let mut client = Client::connect(server.port);
            client.get("/hello.txt").expect(200).with_body(HELLO);
            client.get("/plain/?json").expect(200);
            client.get("/m5.bin").expect(200);
            assert_eq!(client.get("/cgi/run").expect(200).text(), "ok");
            client.ask("PUT", "/up/whole", &[], b"whole").expect(201);
            let kept = client.ask("PUT", "/up/kept", &["Upload-Complete: ?0"], b"part").expect(201);
            client.ask("HEAD", kept.must("location"), &[], b"").expect(204);
        }
    });
}

/// A client that broke off many uploads pushed out those of all others.
#[test]
fn an_unfinished_upload_is_pushed_out_by_no_other_client() {
    on_both(|model| {
        for (how, flags, owner, other, length) in [
            ("other users", &["--write-auth", "a:1@/up", "--write-auth", "b:2@/up/b"][..], "a:1", "b:2", 5),
            ("one user at two addresses", &["--write-auth", "a:1"], "a:1", "a:1", 5),
            ("no users", &[], "", "", 5),
            ("bytes", &["--max-partial", "500k"], "", "", 60_000),
        ] {
            let docroot = Docroot::new();
            fs::create_dir_all(docroot.path("up/b")).unwrap();
            let server = limited(model, &docroot, 256, flags);
            let begin = |host: u8, path: &str, user: &str| {
                let credentials = basic(user);
                let fields = ["Upload-Complete: ?0", &credentials];
                let fields = if user.is_empty() { &fields[..1] } else { &fields };
                let begun =
                    Client::connect_from(host, server.port).ask("PUT", path, fields, &vec![b'x'; length]);
                begun.expect(201).must("location").to_owned()
            };
            let offset = |place: &str, user: &str| {
                let credentials = basic(user);
                let fields = if user.is_empty() { &[][..] } else { &[&credentials[..]] };
                let got = Client::connect_from(2, server.port).ask("HEAD", place, fields, b"");
                (got.status == 204).then(|| got.must("upload-offset").to_owned())
            };
            let place = begin(2, "/up/file", owner);
            let others: Vec<String> =
                (0..60).map(|number| begin(3, &format!("/up/b/{number}"), other)).collect();
            assert_eq!(offset(&place, owner), Some(length.to_string()), "{how}");
            assert_eq!(offset(&others[0], other), None, "{how}: its own oldest gave way");
            assert_eq!(offset(&others[59], other), Some(length.to_string()), "{how}: its last is kept");
        }
    });
}
