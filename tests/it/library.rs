//! The library as its users meet it: the example server with routes of its own, on both models.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::harness::on_both;
use crate::wire::{Client, request};

/// A running example, ended with the test.
struct Example {
    child: Child,
    port: u16,
}

impl Example {
    fn start(name: &str, argument: &str) -> Example {
        // Cargo builds examples beside the folder of this test binary.
        let tests = std::env::current_exe().unwrap();
        let path: PathBuf = tests.ancestors().nth(2).unwrap().join("examples").join(name);
        let mut child = Command::new(&path)
            .arg(argument)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; plain `cargo test` builds the examples", path.display())
            });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().trim_end_matches('/').rsplit(':').next().unwrap().parse();
        Example { child, port: port.unwrap_or_else(|_| panic!("no URL in {line:?}")) }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn the_hello_example_routes_requests() {
    on_both(|model| {
        let example = Example::start("hello", model);
        let mut client = Client::connect(example.port);
        assert!(client.get("/").expect(200).text().starts_with("GET at 2"));
        client.send(request("POST", "/", &[], b"content nobody reads"));
        assert!(client.response().expect(200).text().starts_with("POST at 2"));
        client.get("/hello/world").expect(200).with_body("hello, world\n");
        client.get("/slow").expect(200);
        client.get("/robots.txt").expect(200);
        client.get("/nosuch").expect(404);
        client.send(request("PUT", "/slow", &[], b""));
        let refused = client.response().expect(405);
        assert_eq!(refused.must("allow"), "GET, HEAD, OPTIONS");
        client.send(request("BREW", "/slow", &[], b""));
        client.response().expect(501);
        client.send(request("OPTIONS", "/slow", &[], b""));
        client.response().expect(204);
    });
}
