//! Addresses of the server: Unix sockets, both families of IP, several at once.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::process::Signal;

use crate::docroot::Docroot;
use crate::harness::{Server, command, on_both, run, until};
use crate::wire::Client;

/// Sends one request over any stream and reads to the end.
fn ask(mut stream: impl Read + Write) -> String {
    stream.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_unix_socket_beside_an_address() {
    let docroot = Docroot::new();
    let folder = tempfile::tempdir().unwrap();
    on_both(|model| {
        let path = folder.path().join(model);
        // A socket left over from a server that was killed. No process listens on it any more.
        drop(UnixListener::bind(&path).unwrap());
        let bind = format!("unix:{}", path.display());
        let mut server = Server::start(model, &docroot.root(), &["--bind", "127.0.0.1", "--bind", &bind]);
        assert!(ask(UnixStream::connect(&path).unwrap()).starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(ask(TcpStream::connect(("127.0.0.1", server.port)).unwrap()).ends_with("hello, world\n"));
        let half_closed = UnixStream::connect(&path).unwrap();
        (&half_closed).write_all(b"GET /m5.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        half_closed.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        (&half_closed).read_to_end(&mut got).unwrap();
        assert!(got.len() > 5 * 1024 * 1024, "a large file, whole: {}", got.len());
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 0);
        assert!(!path.exists(), "the name goes with the server");
    });
}

/// A mistyped name must not destroy a file. Only a socket without a listening process is replaced.
#[test]
fn a_unix_socket_replaces_no_other_file() {
    let docroot = Docroot::new();
    let folder = tempfile::tempdir().unwrap();
    on_both(|model| {
        let at = |name: &str| folder.path().join(format!("{model}-{name}"));
        fs::write(at("file"), "precious").unwrap();
        fs::create_dir(at("folder")).unwrap();
        drop(UnixListener::bind(at("dead")).unwrap());
        let _live = UnixListener::bind(at("live")).unwrap();
        for (name, target) in [("to-file", "file"), ("to-dead", "dead"), ("to-nothing", "nothing")] {
            symlink(at(target), at(name)).unwrap();
        }
        let pipe = run(std::process::Command::new("mkfifo").arg(at("pipe")));
        assert_eq!(pipe.code, Some(0), "{}", pipe.err);
        for (name, why) in [
            ("file", "is the name of a regular file"),
            ("folder", "is the name of a folder"),
            ("pipe", "is the name of a named pipe"),
            ("to-file", "is the name of a symbolic link"),
            ("to-dead", "is the name of a symbolic link"),
            ("to-nothing", "is the name of a symbolic link"),
            ("live", "another process uses the socket"),
            ("file/below", "Not a directory"),
            ("no-folder/below", "No such file"),
        ] {
            let path = at(name);
            let before = fs::symlink_metadata(&path).ok().map(|found| found.file_type());
            let bind = format!("unix:{}", path.display());
            let ended = run(&mut command(model, &docroot.root(), &["--bind", &bind]));
            assert_eq!(ended.code, Some(1), "{name}: {}", ended.err);
            assert!(ended.err.contains(&bind) && ended.err.contains(why), "{name}: {}", ended.err);
            assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
            let after = fs::symlink_metadata(&path).ok().map(|found| found.file_type());
            assert_eq!(before, after, "{name}");
        }
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "precious");
    });
}

/// Another server, or the operator, may have put a file in the place of the socket. That file
/// stays.
#[test]
fn the_end_of_a_server_removes_its_own_socket_and_no_other_file() {
    let docroot = Docroot::new();
    let folder = tempfile::tempdir().unwrap();
    let replacements: [fn(&Path); 3] = [
        |path| fs::write(path, "precious").unwrap(),
        |path| drop(UnixListener::bind(path).unwrap()),
        |path| symlink("elsewhere", path).unwrap(),
    ];
    on_both(|model| {
        let path = folder.path().join(model);
        let bind = format!("unix:{}", path.display());
        for replace in replacements {
            let mut server = Server::start(model, &docroot.root(), &["--bind", "127.0.0.1", "--bind", &bind]);
            assert!(ask(UnixStream::connect(&path).unwrap()).starts_with("HTTP/1.1 200 OK\r\n"));
            fs::remove_file(&path).unwrap();
            replace(&path);
            server.signal(Signal::TERM);
            assert_eq!(server.wait_exit(), 0);
            assert!(
                fs::symlink_metadata(&path).is_ok(),
                "{model}: a file that is not the server's was removed"
            );
            fs::remove_file(&path).unwrap();
        }
        // A server that cannot bind all its addresses leaves nothing behind.
        let twice = run(&mut command(model, &docroot.root(), &["--bind", &bind, "--bind", &bind]));
        assert_eq!(twice.code, Some(1), "{}", twice.err);
        assert!(!path.exists());
    });
}

/// tcp(7), `TCP_DEFER_ACCEPT`: the kernel holds a connection until the client sends, for a set
/// time.
#[test]
fn a_client_that_sends_nothing_is_not_accepted_yet() {
    let accepted = |asker: &mut Client| -> String {
        let page = asker.get("/_whirligig/metrics").expect(200);
        let line =
            page.text().lines().find_map(|line| line.strip_prefix("whirligig_connections_accepted_total "));
        line.unwrap().to_owned()
    };
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--defer-accept", "100"]);
        let silent = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let mut asker = Client::connect(server.port);
        assert_eq!(accepted(&mut asker), "1", "the client that sends a request");
        assert!(ask(silent).ends_with("hello, world\n"));
        assert_eq!(accepted(&mut asker), "2");

        let server = Server::start(model, &docroot.root(), &["--defer-accept", "0"]);
        let _silent = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        assert_eq!(accepted(&mut Client::connect(server.port)), "2", "accepted at once");

        let server = Server::start(model, &docroot.root(), &[]);
        let _silent = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let mut asker = Client::connect(server.port);
        until("the silent client is accepted, too", || accepted(&mut asker) == "2");
    });
}

#[test]
#[expect(clippy::print_stdout, clippy::disallowed_macros, reason = "a skipped test is reported")]
fn the_unspecified_address_is_dual_stack() {
    if TcpListener::bind(("::1", 0)).is_err() {
        println!("SKIPPED: no IPv6 on this machine");
        return;
    }
    let docroot = Docroot::new();
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--bind", "::"]);
        for address in ["::1", "127.0.0.1"] {
            let answer = ask(TcpStream::connect((address, server.port)).unwrap());
            assert!(answer.ends_with("hello, world\n"), "{address}: {answer}");
        }
    });
}
