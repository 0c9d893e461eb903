//! Several hosts on one server, each with its own folder.

use crate::docroot::Docroot;
use crate::harness::{MODELS, Server, command, on_both, run};
use crate::wire::Client;

/// Sends a GET with a chosen host.
fn ask(client: &mut Client, target: &str, host: &str) -> (u16, String) {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let got = client.response();
    (got.status, String::from_utf8_lossy(&got.body).into_owned())
}

/// Creates the default folder and two more.
fn folders() -> [Docroot; 3] {
    let [one, two] = [Docroot::empty(), Docroot::empty()];
    one.write("name.txt", "one");
    one.write("big.txt", "1".repeat(100_000));
    two.write("name.txt", "two");
    two.write("api/time", "a file of two");
    let default = Docroot::new();
    default.write("name.txt", "default");
    [default, one, two]
}

#[test]
fn the_host_chooses_the_folder() {
    let [default, one, two] = folders();
    let vhosts = [
        format!("--vhost=One.example={}", one.root().display()),
        format!("--vhost=*.two.example={}", two.root().display()),
    ];
    on_both(|model| {
        let server = Server::start(model, &default.root(), &[&vhosts[0], &vhosts[1]]);
        let mut client = Client::connect(server.port);
        // Twice: a name that exists in all folders must not come from the cache of another one.
        for _ in 0..2 {
            for (host, content) in [
                ("one.example", "one"),
                ("ONE.example.:81", "one"),
                ("x.two.example", "two"),
                ("y.x.TWO.example:8080", "two"),
                ("two.example", "default"),
                ("x.one.example", "default"),
                ("127.0.0.1", "default"),
                ("", "default"),
            ] {
                assert_eq!(ask(&mut client, "/name.txt", host), (200, content.into()), "{host}");
            }
        }
        assert_eq!(ask(&mut client, "http://one.example/name.txt", "x.two.example").1, "one");
        assert_eq!(ask(&mut client, "/hello.txt", "one.example").0, 404);
        assert_eq!(ask(&mut client, "/big.txt", "one.example").1.len(), 100_000);
        assert_eq!(ask(&mut client, "/api/time", "x.two.example").1, "a file of two", "a folder has an api");
        assert!(ask(&mut client, "/?text", "one.example").1.contains("big.txt"));
        client.send("GET /name.txt HTTP/1.0\r\n\r\n");
        client.response().expect(200).with_body("default");
    });
}

#[test]
fn unknown_hosts_can_be_refused() {
    let [default, one, _] = folders();
    let vhost = format!("one.example={}", one.root().display());
    let rules = default.outside("rules");
    std::fs::write(&rules, "rewrite /n /name.txt").unwrap();
    let flags = ["--strict-hosts", "--vhost", &vhost, "--cors", "*", "--rules", rules.to_str().unwrap()];
    on_both(|model| {
        let server = Server::start(model, &default.root(), &flags);
        let mut client = Client::connect(server.port);
        assert_eq!(ask(&mut client, "/name.txt", "one.example").1, "one");
        assert_eq!(
            ask(&mut client, "http://one.example/n", "localhost").1,
            "one",
            "also for a rewritten path"
        );
        for path in ["/name.txt", "/api/time", "/nosuch"] {
            client.get(path).expect(421).must("access-control-allow-origin");
        }
        // A supervisor uses an address, or a name of its own.
        for host in ["127.0.0.1", "10.0.0.5:8080", "[::1]:80", "localhost", "one.example"] {
            for path in ["/_whirligig/health", "/_whirligig/metrics"] {
                assert_eq!(ask(&mut client, path, host).0, 200, "{path} {host}");
            }
        }
        // Access to the metrics follows the same rules as without the flag.
        assert_eq!(ask(&mut client, "/_whirligig/metrics", "attacker.example").0, 403);
        assert_eq!(ask(&mut client, "/_whirligig/metrics/x", "10.0.0.5").0, 421);
        assert_eq!(ask(&mut client, "/_whirligig/healthy", "10.0.0.5").0, 421);
    });
}

/// Each of these used to be accepted but never matched, so that no client could reach the folder.
#[test]
fn a_host_may_have_several_names() {
    let [default, one, two] = folders();
    let one = format!("a.example,B.example.,[0:0:0:0:0:0:0:1]={}", one.root().display());
    let two = format!(".two.example, *.three.example={}", two.root().display());
    on_both(|model| {
        let server = Server::start(model, &default.root(), &["--vhost", &one, "--vhost", &two]);
        let mut client = Client::connect(server.port);
        for (host, content) in [
            ("a.example", "one"),
            ("b.example:8080", "one"),
            ("[::1]", "one"),
            ("[::1]:80", "one"),
            ("two.example", "two"),
            ("www.two.example", "two"),
            ("a.b.TWO.example.", "two"),
            ("x.three.example", "two"),
            ("three.example", "default"),
            ("x.a.example", "default"),
            ("atwo.example", "default"),
        ] {
            assert_eq!(ask(&mut client, "/name.txt", host), (200, content.into()), "{host}");
        }
        // The server is known by all these names, also for listings and archives.
        for host in ["b.example", "two.example", "www.two.example"] {
            assert_eq!(ask(&mut client, "/?text", host).0, 200, "{host}");
        }
    });
}

#[test]
fn a_name_that_no_request_can_have_is_refused_with_the_reason() {
    let default = Docroot::new();
    let rules = default.outside("rules");
    std::fs::write(&rules, "redirect /a https://m\u{fc}ller.example/\n").unwrap();
    let rules = rules.to_str().unwrap();
    for (flag, value) in [
        ("--vhost", "m\u{fc}ller.example=/srv"),
        ("--vhost", "a.example,*.b\u{fc}cher.example=/srv"),
        ("--allow-host", "nas.b\u{fc}ro"),
        ("--allow-host", ".\u{4f8b}\u{3048}.example"),
        ("--cors", "https://m\u{fc}ller.example"),
        ("--rules", rules),
    ] {
        let ended = run(&mut command(MODELS[0], &default.root(), &[flag, value]));
        assert!(matches!(ended.code, Some(1 | 2)) && ended.err.lines().count() == 1, "{}", ended.err);
        assert!(ended.err.contains("xn--") && ended.err.contains(flag), "{value}: {}", ended.err);
    }
    for value in ["%61.example=/srv", "a.example,,b.example=/srv", "http://a.example=/srv", "a,a=/"] {
        let ended = run(&mut command(MODELS[0], &default.root(), &["--vhost", value]));
        assert!(matches!(ended.code, Some(1 | 2)) && ended.err.contains("--vhost"), "{value}: {}", ended.err);
    }
}

#[test]
fn a_missing_folder_is_reported_in_one_line() {
    let default = Docroot::new();
    let ended = run(&mut command(MODELS[0], &default.root(), &["--vhost", "a.example=/nosuch/folder"]));
    let expected = "whirligig: cannot serve the site: --vhost 'a.example=/nosuch/folder': \
                    No such file or directory (os error 2); correct the file or the option\n";
    assert_eq!((ended.code, ended.err.as_str()), (Some(1), expected));
    let ended = run(&mut command(MODELS[0], &default.root(), &["--vhost", "a.example"]));
    assert_eq!((ended.code, ended.err.lines().count()), (Some(2), 1), "{}", ended.err);
}
