//! Many listings of long folders: memory stays bounded, equal listings are made once, and other
//! work continues.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::docroot::Docroot;
use crate::harness::{Server, on_both, until};
use crate::wire::{Client, get, request};

const MIB: u64 = 1024 * 1024;

/// Creates a folder `many` with `count` long names, and `links` links to it: `/m00/`, `/m01/` and
/// so on. Each link has a listing of its own.
fn docroot(count: usize, links: usize) -> Docroot {
    let docroot = Docroot::new();
    fs::create_dir(docroot.path("many")).unwrap();
    let long = "a-long-name-".repeat(19);
    for number in 0..count {
        // Links to one file: the listing cannot distinguish them, and some file systems take a
        // millisecond to create a file.
        fs::hard_link(docroot.path("empty.txt"), docroot.path(&format!("many/{number:05}-{long}.txt")))
            .unwrap();
    }
    for number in 0..links {
        docroot.link("many", &format!("m{number:02}"));
    }
    docroot
}

/// Returns the number of these clients without a response.
fn waiting(clients: &mut [Client]) -> usize {
    clients.iter_mut().map(|client| usize::from(client.has_nothing())).sum()
}

/// Memory used to count only after a listing had been read. On the twin, a thread of each client
/// read its own before the first of them counted.
#[test]
fn memory_is_bounded_for_any_number_of_long_listings() {
    // One listing takes 0.9 MB, all of them 140 MB.
    const REQUESTS: usize = 160;
    let docroot = docroot(3_000, REQUESTS);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--answer-timeout", "120"]);
        Client::connect(server.port).get("/plain/?json").expect(200);
        let before = server.peak_bytes();
        let (mut clients, mut refused) = (Vec::new(), 0);
        // Sends no more at once than may wait.
        for wave in 0..REQUESTS / 32 {
            let first = clients.len();
            for number in 32 * wave..32 * (wave + 1) {
                // This client reads its response slowly.
                let mut client = Client::connect_narrow(server.port);
                let form = ["?json", "?text&sort=size", ""][number % 3];
                client.send(get(&format!("/m{number:02}/{form}")));
                clients.push(client);
            }
            for client in &mut clients[first..] {
                let head = client.read_some(2_000);
                let head = String::from_utf8_lossy(&head);
                if !head.starts_with("HTTP/1.1 200 ") {
                    refused += 1;
                    assert!(
                        head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: "),
                        "{head}"
                    );
                }
            }
        }
        assert!((1..REQUESTS * 3 / 4).contains(&refused), "{refused} of {REQUESTS} were refused");
        // There is room for a short listing.
        let mut other = Client::connect(server.port);
        assert!(other.get("/plain/").expect(200).text().contains("two.txt"));
        drop(clients);
        until("there is room again", || other.get("/m159/?text").status == 200);
        let more = server.peak_bytes() - before;
        assert!(more < 120 * MIB, "{} MiB more", more / MIB);
    });
}

/// Each of many equal requests used to read the folder.
#[test]
fn equal_listings_in_flight_are_made_once() {
    const CLIENTS: u8 = 40;
    let docroot = docroot(6_000, 0);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &[]);
        for (path, field) in [
            ("/many/?json", "Accept: */*"),
            ("/many/", "Accept: text/html"),
            ("/many/?q=LONG&sort=size&order=desc", "Accept: text/plain"),
        ] {
            // HEAD, so that no worker renders a body.
            let head = request("HEAD", path, &[field], b"");
            let mut client = Client::connect(server.port);
            let before = server.cpu_ticks();
            for _ in 0..5 {
                client.send(&head);
                client.response_to("HEAD").expect(200);
            }
            let five = server.cpu_ticks() - before;
            let before = server.cpu_ticks();
            let mut clients: Vec<Client> =
                (0..CLIENTS).map(|host| Client::connect_from(1 + host % 3, server.port)).collect();
            for client in &mut clients {
                client.send(&head);
            }
            for client in &mut clients {
                client.response_to("HEAD").expect(200);
            }
            let all = server.cpu_ticks() - before;
            assert!(all <= 3 * five + 2, "{path}: {all} ticks for all {CLIENTS}, {five} for five");
        }
        // All clients get the whole listing.
        let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(server.port)).collect();
        for client in &mut clients {
            client.send(get("/many/?text"));
        }
        for client in &mut clients {
            let got = client.response().expect(200);
            assert_eq!(got.text().lines().count(), 6_000);
        }
    });
}

/// A listing shared by different requests would show another folder, order or form.
#[test]
fn listings_that_differ_are_not_shared() {
    let docroot = docroot(3_000, 2);
    docroot.write("m9/only.txt", "x");
    docroot.write("deeper/here.txt", "x");
    docroot.write("private/secret.txt", "x");
    on_both(|model| {
        let other = format!("other.test={}", docroot.path("plain").display());
        let flags = ["--auth", "u:p@/private", "--vhost", &other];
        let server = Server::start(model, &docroot.root(), &flags);
        let cases = [
            ("/many/?json", "localhost", "\"path\":\"/many/\""),
            ("/m00/?json", "localhost", "\"path\":\"/m00/\""),
            ("/m9/?json", "localhost", "only.txt"),
            ("/many/?text", "localhost", "00000-a-long"),
            ("/many/?text&order=desc", "localhost", "02999-a-long"),
            ("/many/?text&q=00077-", "localhost", "00077-a-long"),
            ("/deeper/?text", "localhost", "here.txt"),
            ("/deeper/?text", "other.test", "three.txt"),
            ("/private/?text", "localhost", "401"),
        ];
        let mut clients = Vec::new();
        for (path, host, _) in cases.iter().cycle().take(5 * cases.len()) {
            let mut client = Client::connect(server.port);
            client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/plain\r\n\r\n"));
            clients.push(client);
        }
        for ((path, host, begin), client) in cases.iter().cycle().zip(&mut clients) {
            let got = client.response();
            assert_eq!(got.status, if *begin == "401" { 401 } else { 200 }, "{path}");
            let first = &got.text()[..got.text().len().min(200)];
            assert!(first.contains(begin), "{path} of {host}: {first}");
        }
    });
}

/// A request that joined a running read would miss files written just before the request.
#[test]
fn a_listing_is_never_older_than_its_request() {
    let docroot = docroot(1_500, 0);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--upload", "/many"]);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut client = Client::connect(server.port);
                    while !is_over.load(Ordering::Relaxed) {
                        client.ask("HEAD", "/many/?text", &[], b"");
                    }
                });
            }
            let mut client = Client::connect(server.port);
            let missing: Vec<String> = (0..12)
                .map(|number| {
                    let name = format!("zz-{model}-{number}");
                    match number % 2 {
                        0 => docroot.write(&format!("many/{name}"), "x"),
                        _ => drop(client.ask("PUT", &format!("/many/{name}"), &[], b"x").expect(201)),
                    }
                    (client.get("/many/?text").expect(200), name)
                })
                .filter(|(got, name)| !got.text().lines().any(|line| line == name))
                .map(|(_, name)| name)
                .collect();
            is_over.store(true, Ordering::Relaxed);
            assert!(missing.is_empty(), "{missing:?}");
        });
    });
}

/// Listings used to take all workers, and everything else waited behind them.
#[test]
fn a_flood_of_listings_delays_neither_other_work_nor_other_clients() {
    const FLOOD: usize = 50;
    let docroot = docroot(3_000, FLOOD);
    fs::create_dir(docroot.path("inbox")).unwrap();
    on_both(|model| {
        let flags = ["--upload", "/inbox", "--archives", "--fresh", "0", "--jobs", "2"];
        let server = Server::start(model, &docroot.root(), &flags);
        let mut flood: Vec<Client> = (0..FLOOD)
            .map(|number| {
                let mut client = Client::connect(server.port);
                client.send(request("HEAD", &format!("/m{number:02}/"), &[], b""));
                client
            })
            .collect();
        let mut own = Client::connect(server.port);
        let put = format!("/inbox/{model}");
        own.ask("PUT", &put, &[], b"content").expect(201);
        own.get("/plain/?archive=tar").expect(200);
        own.get("/m5.bin").expect(200);
        let left = waiting(&mut flood);
        assert!(left > FLOOD / 2, "{left} of {FLOOD} listings waited after other work was done");
        // Another client is next, also with a listing that the flood includes.
        let mut other = Client::connect_from(2, server.port);
        for path in ["/plain/", "/m49/?text", "/m49/"] {
            other.ask("HEAD", path, &[], b"").expect(200);
        }
        let left = waiting(&mut flood);
        assert!(left > FLOOD / 4, "{left} of {FLOOD} listings waited after those of another client");
        // A listing whose client has left is not made.
        let before = server.descriptors();
        flood.into_iter().for_each(Client::reset);
        until("their connections are closed", || server.descriptors() < before - FLOOD / 4);
        other.get("/plain/").expect(200);
    });
}

/// Beyond the limit of waiting listings, the response is a 503 and the connection stays open.
#[test]
fn listings_beyond_the_queue_are_503() {
    const FLOOD: usize = 99;
    let docroot = docroot(2_000, FLOOD);
    on_both(|model| {
        let server = Server::start(model, &docroot.root(), &["--jobs", "1"]);
        let mut flood: Vec<Client> = (0..FLOOD).map(|_| Client::connect(server.port)).collect();
        for (number, client) in flood.iter_mut().enumerate() {
            client.send(request("HEAD", &format!("/m{number:02}/"), &[], b""));
        }
        let got: Vec<_> = flood.iter_mut().map(|client| client.response_to("HEAD")).collect();
        let refused: Vec<_> = got.iter().filter(|got| got.status == 503).collect();
        assert!((1..FLOOD - 60).contains(&refused.len()), "{} of {FLOOD} were refused", refused.len());
        for got in refused {
            assert!(got.field("retry-after").is_some() && !got.says_close(), "{got:?}");
        }
        // Each connection still works.
        for client in &mut flood {
            client.get("/hello.txt").expect(200);
        }
    });
}

/// An archive starts with all names of its folder. The workers for short jobs used to read them.
#[test]
fn archives_of_long_folders_do_not_delay_other_work() {
    // The maximum number of concurrent archives.
    const ARCHIVES: usize = 16;
    let docroot = docroot(2_000, ARCHIVES);
    fs::create_dir(docroot.path("inbox")).unwrap();
    on_both(|model| {
        let flags = ["--upload", "/inbox", "--archives", "--jobs", "1"];
        let server = Server::start(model, &docroot.root(), &flags);
        for form in ["tar", "zip"] {
            let mut archives: Vec<Client> = (0..ARCHIVES).map(|_| Client::connect(server.port)).collect();
            let mut own = Client::connect(server.port);
            for (number, client) in archives.iter_mut().enumerate() {
                client.send(request("HEAD", &format!("/m{number:02}/?archive={form}"), &[], b""));
            }
            own.ask("PUT", &format!("/inbox/{model}-{form}"), &[], b"content").expect(201);
            assert!(waiting(&mut archives) > 0, "all archives started before an upload of 7 bytes");
            for client in &mut archives {
                client.response_to("HEAD").expect(200);
            }
        }
    });
}
