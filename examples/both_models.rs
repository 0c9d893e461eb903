//! One application on both models: the poll loop, and a thread per connection.
//!
//! `cargo run --example both_models` prints two addresses, that of the loop first. `/thread`
//! returns the thread that runs the handler: the same thread for all clients of the loop, and one
//! thread per connection in the twin. All other code is shared.

use std::io::Write;

use whirligig::Builder;
use whirligig::{Model, Server};

fn app() -> Builder {
    Server::builder()
        .get("/", |call| format!("hello, {:?}\n", call.peer()))
        .get("/thread", |_| format!("{:?}\n", std::thread::current().id()))
        .files("www")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let reactor = app().model(Model::Reactor).bind("127.0.0.1:0")?;
    let threads = app().model(Model::Threads).bind("127.0.0.1:0")?;
    writeln!(std::io::stdout(), "{}\n{}", reactor.urls().join("\n"), threads.urls().join("\n"))?;
    // Ctrl-C stops both servers, because each receives the signal. A second stop request would cut
    // off clients that are still being served. So a server stops the other one only if it fails.
    let (one, other) = (reactor.handle(), threads.handle());
    let twin = std::thread::spawn(move || {
        let ended = threads.run();
        if ended.is_err() {
            one.shutdown();
        }
        ended
    });
    let ended = reactor.run();
    if ended.is_err() {
        other.shutdown();
    }
    twin.join().map_err(|_| "the twin panicked")??;
    ended?;
    Ok(())
}
