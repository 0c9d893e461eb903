//! `?download`: the unchanged file as an attachment, with a file name that all clients parse alike.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::docroot::{CHINESE, Docroot, HELLO, pattern};
use crate::harness::{Server, on_both, program, run};
use crate::wire::{Client, encode};

/// Returns the name that an RFC 6266 parser takes from the header: `filename*` if present,
/// otherwise `filename`.
fn name_of(disposition: &str) -> String {
    let rest = disposition.strip_prefix("attachment; filename=\"").expect("an attachment with a name");
    let (plain, rest) = rest.split_once('"').expect("a closing quote");
    assert!(plain.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\'), "{plain:?}");
    match rest.strip_prefix("; filename*=UTF-8''") {
        None => {
            assert_eq!(rest, "");
            plain.to_owned()
        }
        Some(coded) => {
            let is_attr = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~%".contains(&byte);
            assert!(coded.bytes().all(is_attr), "{coded:?}");
            percent_encoding::percent_decode_str(coded).decode_utf8().expect("UTF-8").into_owned()
        }
    }
}

/// Returns names on disk, and the names under which they are saved.
fn names() -> Vec<(Vec<u8>, String)> {
    let long = "长".repeat(85);
    assert_eq!(long.len(), 255);
    let mut names: Vec<(Vec<u8>, String)> = vec![
        (b"caf\xe9.txt".to_vec(), "caf_.txt".into()),
        (b"line\r\nbreak\x1b.txt".to_vec(), "line__break_.txt".into()),
        (b"..\\..\\up.bat".to_vec().split_off(2), "_.._up.bat".into()),
    ];
    for same in [
        "plain.txt",
        "say \"hi\"; filename=x.txt",
        "100%41.txt",
        "it's, (1)=*.txt",
        "🎡 灯.txt",
        "UTF-8''%41.txt",
        "<b>&amp;.html",
        "a;b",
        CHINESE,
        &long,
    ] {
        names.push((same.as_bytes().to_vec(), same.to_owned()));
    }
    names
}

#[test]
fn a_download_carries_the_name_of_the_file() {
    let docroot = Docroot::new();
    for (name, _) in names() {
        std::fs::write(docroot.root().join(OsStr::from_bytes(&name)), b"content").unwrap();
    }
    let python = program(&["python3"], "WHIRLIGIG_REQUIRE_CLIENTS");
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let mut fields = Vec::new();
        for (name, expected) in names() {
            let path = format!("/{}", encode(&name));
            // The first response comes from disk, the second from the cache.
            for query in ["?download", "?a=b&download=evil.exe"] {
                let got = client.get(&format!("{path}{query}")).expect(200).with_body("content");
                assert_eq!(name_of(got.must("content-disposition")), expected);
            }
            assert_eq!(client.get(&path).field("content-disposition"), None, "without ?download");
            // This parser uses the first of the two forms, so it gets only the form that counts.
            let field = client.get(&format!("{path}?download")).must("content-disposition").to_owned();
            fields.push(match field.split_once("; filename*=") {
                Some((_, coded)) => format!("attachment; filename*={coded}"),
                None => field,
            });
        }
        let Some(python) = &python else { return };
        let program = "import sys\nfrom email.message import Message\n\
            sys.stdout.reconfigure(encoding='utf-8')\n\
            for field in sys.argv[1:]:\n  m = Message(); m['Content-Disposition'] = field; print(m.get_filename())";
        let read = run(Command::new(python).args(["-c", program]).args(&fields));
        let expected: Vec<String> = names().into_iter().map(|(_, expected)| expected).collect();
        assert_eq!(read.out.lines().collect::<Vec<_>>(), expected, "{}", read.err);
    });
}

#[test]
fn a_download_is_otherwise_the_file() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let whole = client.get("/hello.txt?download").expect(200).with_body(HELLO);
        let named = "attachment; filename=\"hello.txt\"";
        assert_eq!(whole.must("content-disposition"), named);
        let etag = format!("If-None-Match: {}", whole.must("etag"));
        client.ask("GET", "/hello.txt?download", &[&etag], b"").expect(304);
        let head = client.ask("HEAD", "/hello.txt?download", &[], b"").expect(200);
        assert_eq!(head.must("content-disposition"), named);
        // From memory and from the descriptor.
        for (path, size) in [("/k1.bin", 1024), ("/m5.bin", 5 << 20)] {
            let part = client.ask("GET", &format!("{path}?download"), &["Range: bytes=100-199"], b"");
            let part = part.expect(206).with_body(&pattern(size)[100..200]);
            assert!(part.must("content-disposition").contains(&path[1..]), "{part:?}");
        }
        let index = client.get("/sub/?download").expect(200);
        assert_eq!(index.must("content-disposition"), "attachment; filename=\"index.html\"");
        // Listings and errors are no attachments.
        for (path, status) in [("/plain/?download", 200), ("/plain?download", 301), ("/none?download", 404)] {
            let got = client.ask("GET", path, &["Accept: text/html"], b"").expect(status);
            assert_eq!(got.field("content-disposition"), None, "{path}");
        }
    });
}
