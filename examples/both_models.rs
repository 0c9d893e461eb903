//! The same server twice, side by side: over the poll loop, and with a thread for each connection.
//!
//! `cargo run --example both_models` prints two addresses, the loop's first. `/thread` says which
//! thread answers: one for all of the loop's clients, one each in the twin. Everything else is the
//! same code.

use std::io::Write;

use whirligig::server::Builder;
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
    // Ctrl-C stops both, since each hears of the signal itself. To tell the other one would be to
    // ask it twice, and that cuts off whom it still serves; only who fails takes the other along.
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
