//! Addresses that the server announces: URLs of interfaces, the QR code, the file of URLs, and the
//! browser that `--open` starts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::docroot::{Docroot, HELLO};
use crate::harness::{
    Server, bare_command, binary, command, left_out, on_both, pass, program, run, skipped, until,
};
use crate::wire::Client;

/// Makes a network with three connected interfaces and one that is down. That of containers is
/// created first, and the one with the route to the router last.
const NETWORK: &str = "set -e
ip link set lo up
for name in br-7 eth1 eth0; do
    ip link add $name type veth peer name peer-$name
    ip link set $name up
    ip link set peer-$name up
done
ip link add docker0 type bridge
ip addr add 172.18.0.1/16 dev br-7
ip addr add 10.9.8.7/24 dev eth1
ip addr add 192.168.7.2/24 dev eth0
ip addr add 172.17.0.1/16 dev docker0
ip -6 addr add 2001:db8::7/64 dev eth0 nodad
ip route add default via 192.168.7.1
";

/// Returns a command that runs a shell script in a network of its own, or `None` if this machine
/// does not allow that.
fn in_network(script: &str) -> Option<Command> {
    for flags in ["-n", "-rn"] {
        let within = |script: &str| {
            let mut command = Command::new("unshare");
            command.args([flags, "sh", "-c", script]);
            command
        };
        if program(&["unshare"], "").is_some() && run(&mut within(NETWORK)).code == Some(0) {
            return Some(within(&format!("{NETWORK}{script}")));
        }
    }
    skipped("no network of its own (needs root, unshare and ip)");
    None
}

#[test]
fn each_reachable_address_has_a_url_that_works() {
    let docroot = Docroot::new();
    on_both(|model| {
        for (bind, v6) in [("--lan", true), ("--bind 0.0.0.0", false)] {
            let serve = format!(
                "exec '{}' --model {model} {bind} --port 0 '{}'",
                binary().display(),
                docroot.root().display()
            );
            let Some(mut shell) = in_network(&serve) else { return };
            shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            let server = Server::launch(shell);
            let url = |host: &str| format!("http://{host}:{}/", server.port);
            let mut expected = vec![url("192.168.7.2"), url("10.9.8.7"), url("172.18.0.1")];
            expected.extend(v6.then(|| url("[2001:db8::7]")));
            expected.push(url("127.0.0.1"));
            until("all URLs are printed", || server.out.text().contains(&url("127.0.0.1")));
            let shown = server.out.text();
            let shown: Vec<&str> = shown.lines().filter(|line| line.starts_with("http")).collect();
            assert_eq!(shown, expected);
            if program(&["curl"], "WHIRLIGIG_REQUIRE_CLIENTS").is_none() {
                return;
            }
            for url in shown {
                let mut curl = Command::new("nsenter");
                curl.args(["-t", &server.pid().to_string(), "-n", "--"]);
                curl.args(["curl", "-gsS", "--max-time", "8", &format!("{url}hello.txt")]);
                let ended = run(&mut curl);
                assert_eq!(ended.out.as_bytes(), HELLO, "{url}: {}", ended.err);
            }
        }
    });
}

/// A kernel without IPv6 refuses the socket.
#[test]
fn lan_works_without_ipv6() {
    let Some(strace) = program(&["strace"], "WHIRLIGIG_REQUIRE_CLIENTS") else { return };
    let docroot = Docroot::new();
    on_both(|model| {
        let mut traced = Command::new(&strace);
        traced.args(["-qq", "-o", "/dev/null", "-e", "inject=socket:error=EAFNOSUPPORT:when=1"]);
        traced.arg(binary()).args(["--model", model, "--port", "0", "--lan"]).arg(docroot.root());
        traced.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let probe = run(Command::new(&strace).args(["-qq", "-o", "/dev/null", "true"]));
        if probe.code != Some(0) {
            return left_out(probe.err, "WHIRLIGIG_REQUIRE_CLIENTS");
        }
        let server = Server::launch(traced);
        Client::connect(server.port).get("/hello.txt").expect(200).with_body(HELLO);
        let _ = rustix::process::kill_process(server.pid(), Signal::TERM);
    });
}

#[test]
fn the_banner_names_the_real_folder() {
    let docroot = Docroot::new();
    docroot.link("site", "shortcut");
    fs::create_dir_all(docroot.path("site")).unwrap();
    let real = docroot.path("site").canonicalize().unwrap();
    on_both(|model| {
        let server = Server::start(model, &docroot.path("shortcut/../shortcut/."), &[]);
        let line = format!("serving {} ({model})", real.display());
        assert!(server.out.text().contains(&line), "{}", server.out.text());
    });
}

/// Decodes a code that was drawn for a dark terminal.
fn decoded(text: &str) -> String {
    let is_block = |char: char| " \u{2588}\u{2580}\u{2584}".contains(char);
    let rows: Vec<Vec<char>> = text
        .lines()
        .filter(|line| line.chars().count() > 20 && line.chars().all(is_block))
        .map(|line| line.chars().collect())
        .collect();
    const SCALE: usize = 6;
    let columns = rows.first().expect("a code").len();
    let shade = |x: usize, y: usize| {
        let (x, y) = (x / SCALE, y / SCALE);
        let light = match rows.get(y / 2).map(|row| row[x]) {
            Some('\u{2588}') => true,
            Some('\u{2580}') => y % 2 == 0,
            Some('\u{2584}') => y % 2 == 1,
            _ => false,
        };
        if light { 255 } else { 0 }
    };
    let mut picture = rqrr::PreparedImage::prepare_from_greyscale(columns * SCALE, columns * SCALE, shade);
    picture.detect_grids().first().expect("a code that can be found").decode().unwrap().1
}

#[test]
fn the_code_is_the_first_url() {
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--bind", "0.0.0.0", "--qr"]);
        until("the banner is whole", || server.out.text().matches("\u{2588}").count() > 100);
        Client::connect(server.port).get("/hello.txt").expect(200);
        assert_eq!(decoded(&server.out.text()), server.url);
        let server = Server::start(model, &docroot.root(), &["--bind", "0.0.0.0"]);
        Client::connect(server.port).get("/hello.txt").expect(200);
        assert!(!server.out.text().contains('\u{2588}'), "this is no terminal");
    });
}

#[test]
fn the_file_of_urls_lives_as_long_as_the_server() {
    let docroot = Docroot::new();
    on_both(|model| {
        let file = docroot.path(&format!("urls-{model}"));
        let flags = ["-q", "--bind", "127.0.0.1,127.0.0.2", "--url-file", file.to_str().unwrap()];
        for signals in [1, 2] {
            let mut server = Server::start(model, &docroot.path("."), &flags);
            let port = server.port;
            // Port 0 is another port for each address.
            let written = fs::read_to_string(&file).unwrap();
            assert_eq!(written.lines().count(), 2, "{written}");
            assert!(
                written.starts_with(&format!("http://127.0.0.1:{port}/\nhttp://127.0.0.2:")),
                "{written}"
            );
            let mut client = Client::connect(port);
            client.get(&format!("/urls-{model}")).expect(404);
            if signals == 2 {
                client.send("GET /m5.bin HTTP/1.1\r\nHost: a\r\n\r\n");
                client.read_some(1);
            }
            server.signal(Signal::TERM);
            if signals == 2 {
                until("the server stops", || {
                    !file.exists() || std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
                });
                server.signal(Signal::TERM);
            }
            let code = server.wait_exit();
            assert!(code == 0 || signals == 2, "{code}: {}", server.err.text());
            assert!(!file.exists(), "after {signals} signals");
        }
        fs::write(&file, "precious").unwrap();
        let ended = run(&mut command(model, &docroot.root(), &flags));
        assert_eq!((ended.code, ended.err.lines().count()), (Some(1), 1), "{}", ended.err);
        assert!(
            ended.err.contains("--url-file: cannot write '") && ended.err.contains("does not contain URLs")
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    });
}

/// Creates a program that stands for a browser.
fn browser(folder: &Path, name: &str, script: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Returns the processes that the server started and has not waited for.
fn children(server: &Server) -> String {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let of = |task: std::io::Result<fs::DirEntry>| {
        fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default()
    };
    tasks.map(of).collect()
}

#[test]
fn open_starts_a_browser_and_does_not_wait_for_it() {
    let docroot = Docroot::new();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let start = |model: &str, browser: &str| {
        let mut command = bare_command();
        command.args(["--model", model, "--port", "0", "--bind", "0.0.0.0", "--open"]).arg(docroot.root());
        command.env("BROWSER", browser);
        Server::launch(command)
    };
    on_both(|model| {
        let opened = at(&format!("opened-{model}"));
        let write = format!("printf '%s %s\\n' \"$1\" \"$2\" >'{}'", opened.display());
        let page = browser(folder.path(), &format!("page-{model}"), &write);
        // A command that does not exist is passed over, and %s is the place of the URL.
        let server = start(model, &format!("/no/such/browser:{page} %s --new"));
        let expected = format!("http://127.0.0.1:{}/ --new\n", server.port);
        until("the browser has the URL", || fs::read_to_string(&opened).is_ok_and(|text| text == expected));
        until("no zombie is left", || children(&server).trim().is_empty());
        assert_eq!(server.err.text(), "");

        let mut stays = start(model, &browser(folder.path(), &format!("stays-{model}"), "exec sleep 60"));
        Client::connect(stays.port).get("/hello.txt").expect(200);
        until("it runs", || !children(&stays).trim().is_empty());
        let browser_pid: i32 = children(&stays).trim().parse().unwrap();
        stays.signal(Signal::TERM);
        assert_eq!(stays.wait_exit(), 0, "the server does not wait for the browser");
        let browser_pid = rustix::process::Pid::from_raw(browser_pid).unwrap();
        rustix::process::kill_process(browser_pid, Signal::KILL).expect("the browser lives on");

        let server = start(model, &browser(folder.path(), &format!("fails-{model}"), "exit 3"));
        until("the failure is logged", || server.err.text().contains("--open: "));
        Client::connect(server.port).get("/hello.txt").expect(200);
        pass(std::time::Duration::from_millis(1));
        let text = server.err.text();
        assert!(text.contains("ended with exit status 3") && text.lines().count() == 1, "{text}");
    });
}
