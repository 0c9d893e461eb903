//! Several loops on one port: all of them serve, one stop stops all, and a port in use is an error.

use rustix::process::Signal;

use crate::docroot::{Docroot, HELLO};
use crate::harness::{PATIENCE, Server, command, run_within, until};
use crate::wire::Client;

/// Returns the samples of a family in a scrape, in order.
fn samples(page: &str, family: &str) -> Vec<u64> {
    page.lines()
        .filter(|line| line.strip_prefix(family).is_some_and(|rest| rest.starts_with([' ', '{'])))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn every_loop_gets_its_share_and_a_scrape_sees_all_of_them() {
    let docroot = Docroot::new();
    let mut server = Server::start("reactor", &docroot.root(), &["--reactors", "3"]);
    let mut clients = Vec::new();
    // The kernel distributes connections by a hash of addresses and ports. With enough clients
    // every loop has some.
    until("every loop has clients", || {
        clients.extend((0..8).map(|_| Client::connect(server.port)));
        for client in &mut clients {
            client.get("/hello.txt").expect(200).with_body(HELLO);
        }
        let page = clients[0].get("/_whirligig/metrics").expect(200);
        let shares = samples(page.text(), "whirligig_loop_accepted_total");
        assert_eq!(shares.len(), 3);
        assert_eq!(shares.iter().sum::<u64>(), clients.len() as u64);
        let open: u64 = samples(page.text(), "whirligig_connections").iter().sum();
        assert_eq!(open, clients.len() as u64);
        shares.iter().all(|&share| share > 0)
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    for client in &mut clients {
        client.assert_closed();
    }
}

#[test]
fn a_stop_waits_for_the_clients_of_every_loop_and_counts_those_cut_off() {
    let docroot = Docroot::new();
    let mut server =
        Server::start("reactor", &docroot.root(), &["--reactors", "2", "--drain-timeout", "0.3"]);
    // So many that both loops have some. None reads its response.
    let mut slow: Vec<Client> = (0..12).map(|_| Client::connect_narrow(server.port)).collect();
    for client in &mut slow {
        client.send("GET /m5.bin HTTP/1.1\r\nHost: a\r\n\r\n");
        client.read_some(1);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 1);
}

#[test]
fn a_taken_port_is_an_error_for_several_loops_too() {
    let docroot = Docroot::new();
    let server = Server::start("reactor", &docroot.root(), &["--reactors", "2"]);
    let port = server.port.to_string();
    let ended = run_within(
        PATIENCE,
        command("reactor", &docroot.root(), &["--reactors", "2"]).args(["--port", &port]),
    );
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("Address already in use"), "{}", ended.err);
    Client::connect(server.port).get("/hello.txt").expect(200);
}

#[test]
fn a_unix_socket_is_shared_by_all_loops() {
    let docroot = Docroot::new();
    let socket = docroot.outside("w.sock");
    let bind = format!("unix:{}", socket.display());
    let mut server = Server::start(
        "reactor",
        &docroot.root(),
        &["--reactors", "2", "--bind", "127.0.0.1", "--bind", &bind],
    );
    for _ in 0..20 {
        use std::io::{Read as _, Write as _};
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.ends_with(HELLO));
    }
    server.signal(Signal::INT);
    assert_eq!(server.wait_exit(), 0);
    assert!(!socket.exists());
}
