//! Limited resources: programs, uploads, threads, descriptors. One client must not hold all of
//! them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use rustix::process::{Resource, Rlimit, prlimit};

use crate::docroot::{Docroot, HELLO, pattern};
use crate::harness::{Server, binary, now, on_both, pass, until};
use crate::wire::{Client, request};

/// Serves a folder `up` for uploads and a program `cg/run`, with a limited number of descriptors.
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

/// Counts the server's open descriptors of the file at `path`.
fn open_at(server: &Server, path: &Path) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid().as_raw_nonzero())).unwrap();
    open.filter(|entry| fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|link| link == path)).count()
}

/// 117 interrupted uploads used to block a server with 256 descriptors, because each kept two of
/// them.
#[test]
fn unfinished_uploads_leave_descriptors_to_all_others() {
    const UPLOADS: usize = 250;
    on_both(|model| {
        for how in ["one folder", "many folders", "cut off"] {
            let docroot = Docroot::new();
            let server = limited(model, &docroot, 256, &[]);
            for number in 0..UPLOADS {
                // Uses several addresses, so that no client exceeds its share.
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
                        // The interim response shows that the upload is stored.
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
            client.ask("HEAD", &kept.leads_to("/up/kept"), &[], b"").expect(204);
        }
    });
}

/// A client with many interrupted uploads used to push out those of all others.
#[test]
fn an_unfinished_upload_is_not_pushed_out_by_other_clients() {
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
                begun.expect(201).leads_to(path)
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
            assert_eq!(offset(&others[0], other), None, "{how}: its own oldest is dropped");
            assert_eq!(offset(&others[59], other), Some(length.to_string()), "{how}: its last is kept");
        }
    });
}

/// A long interrupted upload used to be lost to any client with a slightly shorter one, and its
/// room to clients that filled it.
#[test]
fn the_last_unfinished_upload_of_a_client_stays_and_whole_uploads_are_taken() {
    on_both(|model| {
        let docroot = Docroot::new();
        fs::create_dir_all(docroot.path("up")).unwrap();
        let server = limited(model, &docroot, 256, &["--max-partial", "1m"]);
        let begin = |host: u8, name: &str, complete: &str, length: usize| {
            let fields = [&format!("Upload-Complete: {complete}")[..]];
            let content = vec![b'x'; length];
            Client::connect_from(host, server.port).ask("PUT", &format!("/up/{name}"), &fields, &content)
        };
        let offset = |place: &str| {
            let got = Client::connect_from(2, server.port).ask("HEAD", place, &[], b"");
            (got.status == 204).then(|| got.must("upload-offset").to_owned())
        };
        let long = begin(2, "long", "?0", 700_000).expect(201).leads_to("/up/long");
        let others: Vec<String> = (0..4)
            .map(|number| {
                let name = format!("other-{number}");
                begin(3, &name, "?0", 250_000).expect(201).leads_to(&format!("/up/{name}"))
            })
            .collect();
        assert_eq!(offset(&long).as_deref(), Some("700000"));
        assert_eq!(offset(&others[2]), None, "its own oldest gave way");
        assert_eq!(offset(&others[3]).as_deref(), Some("250000"));
        // Many clients with one upload each.
        for host in 4..20 {
            let got = begin(host, &format!("late-{host}"), "?0", 100_000);
            assert!([201, 507].contains(&got.status), "{got:?}");
        }
        assert_eq!(offset(&long).as_deref(), Some("700000"));
        assert_eq!(offset(&others[3]).as_deref(), Some("250000"));
        // There is no room left, and these uploads need none.
        begin(30, "whole", "?1", 900_000).expect(201);
        let plain = vec![b'x'; 900_000];
        Client::connect_from(31, server.port).ask("PUT", "/up/plain", &[], &plain).expect(201);
        for name in ["up/whole", "up/plain"] {
            assert_eq!(fs::metadata(docroot.path(name)).unwrap().len(), 900_000);
        }
        // The client of the upload continues as if nothing had happened.
        let fields = ["Upload-Complete: ?1", "Upload-Offset: 700000"];
        let kind = "Content-Type: application/partial-upload";
        let got =
            Client::connect_from(2, server.port).ask("PATCH", &long, &[fields[0], fields[1], kind], b"end");
        assert!([200, 201, 204].contains(&got.status), "{got:?}");
        assert_eq!(fs::metadata(docroot.path("up/long")).unwrap().len(), 700_003);
    });
}

/// Span over which the rate of a sender is measured in these tests, in seconds.
const BUSY_TIME: f64 = 0.5;

/// Flags under which slow senders are judged soon, and only by their rate.
const BUSY: [&str; 4] = ["--busy-time", "0.5", "--min-rate", "0"];

/// Clients that send a few bytes now and then, until they are dropped.
struct SlowSenders {
    clients: Vec<Client>,
    stop: Arc<AtomicBool>,
    sending: Option<thread::JoinHandle<()>>,
}

impl SlowSenders {
    /// Sends these beginnings, and then single bytes.
    fn start(server: &Server, beginnings: impl IntoIterator<Item = Vec<u8>>) -> SlowSenders {
        let begin = |bytes: Vec<u8>| {
            let mut client = Client::connect(server.port);
            client.send(bytes);
            client
        };
        let clients: Vec<Client> = beginnings.into_iter().map(begin).collect();
        let mut senders: Vec<Client> = clients.iter().map(Client::sender).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sending = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for sender in &mut senders {
                    sender.send_if_open("yyy");
                }
                pass(Duration::from_millis(50));
            }
        });
        SlowSenders { clients, stop, sending: Some(sending) }
    }

    /// Waits until one of them gets its response, which must be a 408 with a close.
    fn until_one_is_cut(&mut self) {
        let mut cut = None;
        until("one of them is cut off", || {
            cut = self.clients.iter_mut().position(|client| !client.has_nothing());
            cut.is_some()
        });
        let mut client = self.clients.remove(cut.unwrap());
        let got = client.response().expect(408);
        assert!(got.says_close() && got.text().contains("too slowly"), "{got:?}");
    }

    /// Reads the `100 Continue` of the clients that got one.
    fn take_invitations(&mut self) {
        for client in self.clients.iter_mut() {
            if !client.has_nothing() {
                assert_eq!(client.read_some(25), b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        }
    }

    /// Counts the clients without a response.
    fn left(&mut self) -> usize {
        self.clients.iter_mut().filter_map(|client| client.has_nothing().then_some(())).count()
    }
}

impl Drop for SlowSenders {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.sending.take().map(thread::JoinHandle::join));
    }
}

fn begun(method: &str, path: &str, fields: &[&str], content: usize) -> Vec<u8> {
    let fields = [&["Content-Length: 60000000"], fields].concat();
    [request(method, path, &fields, b""), vec![b'x'; content]].concat()
}

/// Repeats a request until the status is `good`. Panics at any other status than 503.
fn until_served(server: &Server, good: u16, method: &str, path: &str, content: &[u8]) {
    let mut seen = Vec::new();
    until(format_args!("{method} {path} is {good}"), || {
        let mut client = Client::connect(server.port);
        client.send_if_open(request(method, path, &[], content));
        seen.push(client.try_response(method).map_or(0, |got| got.status));
        assert!(seen.iter().all(|status| [good, 503].contains(status)), "{seen:?}");
        seen.last() == Some(&good)
    });
}

/// Permits for uploads used to be held for days, at 64 bytes per second.
#[test]
fn slow_uploads_yield_their_permits() {
    on_both(|model| {
        let docroot = Docroot::new();
        let flags = [&["--max-uploads", "1"][..], &BUSY].concat();
        let server = limited(model, &docroot, 1024, &flags);
        let resumed =
            Client::connect(server.port).ask("PUT", "/up/r", &["Upload-Complete: ?0"], b"").expect(201);
        let place = &*resumed.leads_to("/up/r");
        let part = ["Content-Type: application/partial-upload", "Upload-Complete: ?1", "Upload-Offset: 0"];
        let form = "Content-Type: multipart/form-data; boundary=b0undary";
        for beginning in [
            begun("PUT", "/up/a", &[], 1),
            begun("PUT", "/up/a", &["Expect: 100-continue"], 0),
            begun("PATCH", place, &part, 100_000),
            begun("POST", "/up/", &[form], 0),
            [request("PUT", "/up/a", &["Transfer-Encoding: chunked"], b""), b"fffff\r\n".to_vec()].concat(),
        ] {
            let mut slow = SlowSenders::start(&server, [beginning]);
            // While no other client needs a permit, none is cut off.
            pass(Duration::from_secs_f64(3.0 * BUSY_TIME));
            slow.take_invitations();
            assert_eq!(slow.left(), 1);
            until_served(&server, 201, "PUT", "/up/new", b"new");
            slow.until_one_is_cut();
            Client::connect(server.port).ask("DELETE", "/up/new", &[], b"").expect(204);
        }
        let stands = Client::connect(server.port).ask("HEAD", place, &[], b"").expect(204);
        assert!(
            stands.must("upload-offset").parse::<usize>().unwrap() >= 100_000,
            "the received part is kept"
        );
    });
}

/// An upload that is fast, or complete, is never the one to be cut off.
#[test]
fn a_fast_sender_keeps_its_permit() {
    on_both(|model| {
        let docroot = Docroot::new();
        let flags = ["--max-uploads", "2", "--busy-rate", "1k", "--busy-time", "2"];
        let server = limited(model, &docroot, 1024, &flags);
        let mut slow = SlowSenders::start(&server, [begun("PUT", "/up/slow", &[], 1)]);
        let mut fast = Client::connect(server.port);
        fast.send(request("PUT", "/up/fast", &["Content-Length: 100000"], b""));
        for _ in 0..60 {
            fast.send([b'f'; 500]);
            pass(Duration::from_millis(50));
        }
        until_served(&server, 201, "PUT", "/up/new", b"new");
        slow.until_one_is_cut();
        // A fast and a new client hold both permits.
        let _new = {
            let mut new = Client::connect(server.port);
            new.send(begun("PUT", "/up/other", &["Expect: 100-continue"], 0));
            assert_eq!(new.read_some(12), b"HTTP/1.1 100");
            new
        };
        fast.send([b'f'; 500]);
        Client::connect(server.port).ask("PUT", "/up/third", &[], b"x").expect(503).must("retry-after");
        fast.send(vec![b'f'; 100_000 - 61 * 500]);
        fast.response().expect(201);
    });
}

/// A program used to start before its content had arrived, and to wait for it for days.
#[test]
fn slow_senders_keep_no_programs() {
    on_both(|model| {
        let docroot = Docroot::new();
        let server = limited(model, &docroot, 1024, &[&["--cgi-max", "2"][..], &BUSY].concat());
        // Content up to 1 MiB is stored completely first, and chunked content always.
        let chunked = request("POST", "/cgi/run", &["Transfer-Encoding: chunked"], b"");
        let small = |length: &str| request("POST", "/cgi/run", &[length], b"");
        let mut few = SlowSenders::start(
            &server,
            [
                begun("POST", "/cgi/run", &[], 1),
                begun("POST", "/cgi/run", &[], 1_000_000),
                small("Content-Length: 1000"),
                small("Content-Length: 1048576"),
                [chunked, b"fffff\r\n".to_vec()].concat(),
            ],
        );
        for _ in 0..3 {
            until_served(&server, 200, "GET", "/cgi/run", b"");
            until_served(&server, 200, "POST", "/cgi/run", b"x");
        }
        assert_eq!(few.left(), 5);
        // Longer content starts the program, and then must arrive at a minimum rate.
        fs::write(docroot.path("cg/cat"), "#!/bin/sh\ncat > /dev/null\n").unwrap();
        fs::set_permissions(docroot.path("cg/cat"), fs::Permissions::from_mode(0o755)).unwrap();
        let long = || begun("POST", "/cgi/cat", &[], 1_100_000);
        let mut slow = SlowSenders::start(&server, [long(), long()]);
        until("both permits are in use", || children(&server).split_whitespace().count() == 2);
        pass(Duration::from_secs_f64(3.0 * BUSY_TIME));
        assert_eq!(slow.left(), 2, "no other client needs a permit");
        until_served(&server, 200, "GET", "/cgi/run", b"");
        slow.until_one_is_cut();
        until("its program has ended", || children(&server).split_whitespace().count() == 1);
        assert_eq!((slow.left(), few.left()), (1, 5));
    });
}

/// A program that reads nothing holds its client back. That client is not slow.
#[test]
fn a_program_that_does_not_read_is_not_its_clients_fault() {
    on_both(|model| {
        let docroot = Docroot::new();
        let server = limited(model, &docroot, 1024, &[&["--cgi-max", "1"][..], &BUSY].concat());
        let gate = docroot.path("gate");
        let wait = format!(
            "#!/bin/sh\nhead -c 1100000 > /dev/null\nuntil [ -e {} ]; do sleep 0.05; done\n",
            gate.display()
        );
        fs::write(docroot.path("cg/wait"), wait + "wc -c | sed '1s/^/Content-Type: text\\/plain\\n\\n/'\n")
            .unwrap();
        fs::set_permissions(docroot.path("cg/wait"), fs::Permissions::from_mode(0o755)).unwrap();
        let content = pattern(2_000_000);
        let mut client = Client::connect(server.port);
        let mut sender = client.sender();
        thread::scope(|scope| {
            scope.spawn(|| sender.send(request("POST", "/cgi/wait", &[], &content)));
            until("the program runs", || !children(&server).is_empty());
            pass(Duration::from_secs_f64(3.0 * BUSY_TIME));
            for _ in 0..3 {
                Client::connect(server.port).get("/cgi/run").expect(503);
            }
            fs::write(&gate, "").unwrap();
        });
        assert_eq!(client.response().expect(200).text().trim(), "900000");
    });
}

/// Threads and connections are limited, too. As many slow senders as there are used to keep out all
/// others.
#[test]
fn slow_senders_keep_no_connections() {
    on_both(|model| {
        let docroot = Docroot::new();
        let flags = [&["--max-connections", "4", "--header-timeout", "off"][..], &BUSY].concat();
        for (how, beginning) in [
            ("content", begun("POST", "/api/echo", &[], 1)),
            ("unused content", request("GET", "/hello.txt", &["Content-Length: 100000"], b"")),
            ("an upload", begun("PUT", "/up/file", &[], 1)),
            ("a head", b"GET /hello.txt HTTP/1.1\r\nHost: localhost\r\nX: ".to_vec()),
        ] {
            let server = limited(model, &docroot, 1024, &flags);
            let mut slow = SlowSenders::start(&server, (0..4).map(|_| beginning.clone()));
            let since = now();
            until_served(&server, 200, "GET", "/hello.txt", b"");
            assert!(now().duration_since(since).as_secs_f64() < 8.0, "{how}");
            let left = slow.left();
            assert!(how == "unused content" || (1..4).contains(&left), "{how}: {left}");
        }
    });
}

/// The twin used to refuse new clients while its threads waited for idle clients.
#[test]
fn idle_connections_keep_no_threads() {
    on_both(|model| {
        let docroot = Docroot::new();
        let server = limited(model, &docroot, 1024, &["--max-connections", "4"]);
        let mut idle: Vec<Client> = (0..4).map(|_| Client::connect(server.port)).collect();
        for client in &mut idle {
            client.get("/hello.txt").expect(200);
        }
        until_served(&server, 200, "GET", "/hello.txt", b"");
        let left = idle.iter_mut().filter_map(|client| client.has_nothing().then_some(())).count();
        assert_eq!(left, 3, "exactly one is closed");
    });
}

/// Room for content in memory and files is limited as well. Slow senders used to fill it, and all
/// others got a 503.
#[test]
fn slow_senders_keep_no_room_for_content() {
    on_both(|model| {
        let docroot = Docroot::new();
        let flags = [&["--max-spool", "1M", "--max-body", "900k"][..], &BUSY].concat();
        for path in ["/api/echo", "/cgi/run"] {
            let server = limited(model, &docroot, 1024, &flags);
            let begun =
                || [request("POST", path, &["Content-Length: 500000"], b""), vec![b'x'; 450_000]].concat();
            let mut slow = SlowSenders::start(&server, [begun(), begun()]);
            pass(Duration::from_secs_f64(BUSY_TIME));
            until_served(&server, 200, "POST", path, &pattern(200_000));
            slow.until_one_is_cut();
            assert_eq!(slow.left(), 1);
        }
    });
}

/// A server without descriptors used to refuse all clients, while idle connections held hundreds.
#[test]
fn descriptors_of_idle_connections_are_freed_when_they_run_out() {
    on_both(|model| {
        let docroot = Docroot::new();
        for number in 0..200 {
            docroot.write(&format!("long/{number}.txt"), b"x");
        }
        for what in ["a listing", "a file", "a program", "kept content", "an upload", "a new client"] {
            let server = limited(model, &docroot, 200, &["--fresh", "0"]);
            let mut idle: Vec<Client> = (0..40).map(|_| Client::connect(server.port)).collect();
            for client in &mut idle {
                client.get("/hello.txt").expect(200);
            }
            let mut client = Client::connect(server.port);
            client.get("/hello.txt").expect(200);
            // Idle connections may be closed after a second.
            pass(Duration::from_millis(1100));
            client.get("/hello.txt").expect(200);
            let open = server.descriptors() as u64;
            let none_left =
                Rlimit { current: Some(open.saturating_sub(1)), maximum: Some(open.saturating_sub(1)) };
            prlimit(Some(server.pid()), Resource::Nofile, none_left).unwrap();
            let (method, path, content) = match what {
                "a listing" => ("GET", "/long/?json", vec![]),
                "a program" => ("GET", "/cgi/run", vec![]),
                "kept content" => ("POST", "/api/echo", pattern(200_000)),
                "an upload" => ("PUT", "/up/file", b"content".to_vec()),
                "a file" => ("GET", "/m5.bin", vec![]),
                // A cached file needs no descriptor except that of the client.
                _ => ("GET", "/hello.txt", vec![]),
            };
            let (mut seen, mut before) = (Vec::new(), Vec::new());
            until(format_args!("{what} is had"), || {
                if what == "a new client" || seen.last() == Some(&0) {
                    before.push(std::mem::replace(&mut client, Client::connect(server.port)));
                }
                client.send_if_open(request(method, path, &[], &content));
                seen.push(client.try_response(method).map_or(0, |got| got.status));
                matches!(seen.last(), Some(200 | 201))
            });
            assert!(seen.iter().all(|status| [200, 201, 0, 503].contains(status)), "{what}: {seen:?}");
            let left = idle.iter_mut().filter_map(|client| client.has_nothing().then_some(())).count();
            assert!((10..40).contains(&left), "{what}: {left} of 40 idle ones are left after {seen:?}");
        }
    });
}

/// Returns the process ids of the server's child processes.
fn children(server: &Server) -> String {
    let pid = server.pid().as_raw_nonzero();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_task = |task: std::io::Result<fs::DirEntry>| {
        fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default()
    };
    tasks.map(of_task).collect()
}
