//! Graceful shutdown by Ctrl-C, by a request or by the program itself.
//!
//! Run `cargo run --example graceful_shutdown`, then open `/slow` in one window and `/stop` in
//! another. `--model threads` selects the twin. The slow response is still sent, and new
//! connections are refused. The program then prints how it ended. A second Ctrl-C ends it at once.

mod common;

use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use whirligig::Outcome;
use whirligig::{Call, Handle, Route, Server};

#[expect(clippy::disallowed_methods, reason = "slow work in a handler that may block")]
fn slow(_: &Call<'_>) -> &'static str {
    // Standard output may be closed. The response must be sent anyway.
    drop(writeln!(std::io::stdout(), "working"));
    std::thread::sleep(Duration::from_secs(1));
    "slow, but complete\n"
}

fn main() -> common::Outcome {
    // The route exists before the server whose handle it needs.
    let handle: Arc<OnceLock<Handle>> = Arc::default();
    let stopper = Arc::clone(&handle);
    let stop = move |_: &Call<'_>| {
        if let Some(handle) = stopper.get() {
            handle.shutdown();
        }
        "stopping\n"
    };
    let server = Server::builder()
        .route("/slow", Route::new().get(slow).blocking())
        .get("/stop", stop)
        .timeouts(|timeouts| timeouts.drain = Duration::from_secs(5))
        .model(common::model())
        .bind("127.0.0.1:0")?;
    handle.get_or_init(|| server.handle());
    let mut out = std::io::stdout();
    writeln!(out, "{}", server.urls().join("\n"))?;
    let ended = match server.run()? {
        Outcome::Stopped => "all clients were served".to_owned(),
        Outcome::Cut(clients) => format!("{clients} clients took too long and were cut off"),
        _ => "stopped at once".to_owned(),
    };
    writeln!(out, "{ended}")?;
    Ok(())
}
