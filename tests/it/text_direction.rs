//! Names that change the direction of text: `txt.exe` must not look like `exe.txt`.

use std::fs;

use serde_json::Value;

use crate::docroot::Docroot;
use crate::harness::{Server, on_both};
use crate::wire::{Client, encode};

/// All these characters, with their visible form.
const CONTROLS: [(char, &str); 12] = [
    ('\u{61c}', "\\u{61c}"),
    ('\u{200e}', "\\u{200e}"),
    ('\u{200f}', "\\u{200f}"),
    ('\u{202a}', "\\u{202a}"),
    ('\u{202b}', "\\u{202b}"),
    ('\u{202c}', "\\u{202c}"),
    ('\u{202d}', "\\u{202d}"),
    ('\u{202e}', "\\u{202e}"),
    ('\u{2066}', "\\u{2066}"),
    ('\u{2067}', "\\u{2067}"),
    ('\u{2068}', "\\u{2068}"),
    ('\u{2069}', "\\u{2069}"),
];

fn is_control(character: char) -> bool {
    CONTROLS.iter().any(|(control, _)| *control == character)
}

/// Creates a folder with such a name. It contains a folder and a file for each character.
fn docroot() -> Docroot {
    let docroot = Docroot::empty();
    for (control, _) in CONTROLS {
        docroot.write(&format!("top\u{202e}pot/gpj{control}<exe"), "content");
    }
    docroot.write("top\u{202e}pot/deep\u{2067}/x", "deep");
    // Right-to-left text without these characters is shown unchanged.
    docroot.write("top\u{202e}pot/\u{5e9}\u{5dc}\u{5d5}\u{5dd}.txt", "shalom");
    docroot
}

#[test]
fn listings_show_them_and_links_lead_to_the_file() {
    let docroot = docroot();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        let mut client = Client::connect(server.port);
        let folder = format!("/{}", encode("top\u{202e}pot"));
        for path in ["/", &format!("{folder}/"), &format!("{folder}/{}/", encode("deep\u{2067}"))] {
            for accept in ["text/html", "text/plain", "application/json"] {
                for query in ["", "?q=%E2%80%AE"] {
                    let fields = [&format!("Accept: {accept}")[..]];
                    let got = client.ask("GET", &format!("{path}{query}"), &fields, b"").expect(200);
                    assert!(!got.text().contains(is_control), "{accept} of {path}{query}: {}", got.text());
                }
            }
        }
        let page = client.ask("GET", &format!("{folder}/"), &["Accept: text/html"], b"").expect(200);
        let text = client.get(&format!("{folder}/?text")).expect(200);
        assert!(page.text().contains("<title>Index of /top\\u{202e}pot/</title>"), "{}", page.text());
        assert!(page.text().contains("<span aria-current=\"page\">top\\u{202e}pot</span>"));
        for (control, shown) in CONTROLS {
            let name = format!("gpj{control}<exe");
            let href = target_of(&name);
            let link = format!("<a href=\"./{href}\">gpj{shown}&lt;exe</a>");
            assert!(page.text().contains(&link), "{link} in {}", page.text());
            assert!(text.text().contains(&format!("gpj{shown}<exe\n")), "{}", text.text());
            client.get(&format!("{folder}/{href}")).expect(200).with_body("content");
        }
        assert!(page.text().contains("\u{5e9}\u{5dc}\u{5d5}\u{5dd}.txt</a>"), "{}", page.text());
        let json: Value = serde_json::from_slice(&client.get(&format!("{folder}/?json")).body).unwrap();
        let names: Vec<&str> =
            json["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
        for (control, _) in CONTROLS {
            assert!(names.contains(&&*format!("gpj{control}<exe")), "unchanged in JSON: {names:?}");
        }
        let deeper = format!("{folder}/{}/", encode("deep\u{2067}"));
        let page = client.ask("GET", &deeper, &["Accept: text/html"], b"").expect(200);
        assert!(page.text().contains(">top\\u{202e}pot</a>"), "the breadcrumbs: {}", page.text());
    });
}

/// Returns a name as listings link to it.
fn target_of(name: &str) -> String {
    let mut target = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' => target.push(byte.into()),
            _ => target.push_str(&format!("%{byte:02X}")),
        }
    }
    target
}

#[test]
fn archives_and_downloads_have_names_without_them() {
    let docroot = docroot();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--archives"]);
        let folder = format!("/{}", encode("top\u{202e}pot"));
        let mut client = Client::connect(server.port);
        let got = client.get(&format!("{folder}/?archive=tar")).expect(200);
        assert_eq!(got.must("content-disposition"), "attachment; filename=\"top_pot.tar\"");
        // Short ASCII names are in the header, followed by a NUL.
        let archive = String::from_utf8_lossy(&got.body);
        assert!(!archive.contains(is_control));
        assert!(archive.contains("top%E2%80%AEpot/deep%E2%81%A7/x\0"));
        for (control, _) in CONTROLS {
            let escaped = encode(control.to_string());
            let name = format!("top%E2%80%AEpot/gpj{escaped}<exe\0");
            assert!(archive.contains(&name), "two names must stay different: {name}");
        }
        for form in ["zip", "tar.gz"] {
            let got = client.get(&format!("{folder}/?archive={form}")).expect(200);
            assert!(!String::from_utf8_lossy(&got.body).contains(is_control), "{form}");
        }
        for (control, _) in CONTROLS {
            let target = target_of(&format!("gpj{control}<exe"));
            let got = client.get(&format!("{folder}/{target}?download")).expect(200);
            assert_eq!(got.must("content-disposition"), "attachment; filename=\"gpj_<exe\"");
        }
    });
}

#[test]
fn uploads_do_not_take_them() {
    on_both(|model| {
        let docroot = Docroot::new();
        fs::create_dir(docroot.path("up")).unwrap();
        let server = Server::start(model, &docroot.root(), &["--upload", "/up"]);
        let ask = |method: &str, path: &str, fields: &[&str], content: &[u8]| {
            Client::connect(server.port).ask(method, path, fields, content)
        };
        for (control, _) in CONTROLS {
            let name = encode(format!("gpj{control}exe"));
            ask("PUT", &format!("/up/{name}"), &[], b"x").expect(400);
            ask("PUT", &format!("/up/{name}"), &["Upload-Complete: ?0"], b"x").expect(400);
            ask("MKCOL", &format!("/up/{name}"), &[], b"").expect(400);
            ask("PUT", &format!("/up/{name}/x"), &[], b"x").expect(400);
            for filename in [format!("gpj{control}exe"), format!("{control}"), format!("a/b{control}")] {
                let form = format!(
                    "--b\r\nContent-Disposition: form-data; name=f; filename=\"{filename}\"\r\n\r\nx\r\n--b--\r\n"
                );
                let kind = "Content-Type: multipart/form-data; boundary=b";
                ask("POST", "/up/", &[kind], form.as_bytes()).expect(400);
            }
        }
        assert_eq!(fs::read_dir(docroot.path("up")).unwrap().count(), 0);
        ask("PUT", &format!("/up/{}", encode("\u{5e9}\u{5dc}.txt")), &[], b"x").expect(201);
        // A file that got such a name in another way can be removed.
        docroot.write("up/gpj\u{202e}exe", "x");
        ask("DELETE", &format!("/up/{}", encode("gpj\u{202e}exe")), &[], b"").expect(204);
    });
}

#[test]
fn the_log_shows_them() {
    let docroot = docroot();
    docroot.write("unreadable\u{202e}/x", "x");
    let file = docroot.outside("access.log");
    on_both(|model| {
        for format in ["common", "combined", "json"] {
            let _ = fs::remove_file(file.with_extension(model));
            let log = file.with_extension(model);
            let flags = ["--access-log", log.to_str().unwrap(), "--log-format", format];
            let server = Server::start(model, &docroot.root(), &flags);
            let agent = "User-Agent: gpj\u{202e}exe \u{2066}";
            Client::connect(server.port).ask("GET", "/%E2%80%AE", &[agent], b"").expect(404);
            crate::harness::until("a line", || fs::read_to_string(&log).is_ok_and(|log| log.ends_with('\n')));
            let text = fs::read_to_string(&log).unwrap();
            assert!(!text.contains(is_control), "{text}");
            assert!(text.contains("/%E2%80%AE"), "{text}");
            assert!(!server.err.text().contains(is_control), "{}", server.err.text());
        }
    });
}
