//! Stopping without cutting anybody off: by Ctrl-C, by a request, or by the program itself.
//!
//! `cargo run --example graceful_shutdown`, then open `/slow` in one window and `/stop` in another;
//! `--model threads` for the twin. The slow answer still comes, new connections are refused, and
//! the program says how it ended. A second Ctrl-C ends it at once.

mod common;

use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use whirligig::driver::outcome::Outcome;
use whirligig::{Call, Handle, Route, Server};

#[expect(clippy::disallowed_methods, reason = "work that takes its time, where it may block")]
fn slow(_: &Call<'_>) -> &'static str {
    // Standard output may be closed; that is no reason not to answer.
    drop(writeln!(std::io::stdout(), "at work"));
    std::thread::sleep(Duration::from_secs(1));
    "slow, but whole\n"
}

fn main() -> common::Outcome {
    // The route is there before the server whose handle it uses.
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
        Outcome::Stopped => "everybody was served".to_owned(),
        Outcome::Cut(clients) => format!("{clients} took too long"),
        Outcome::Killed(_) => "stopped at once".to_owned(),
    };
    writeln!(out, "{ended}")?;
    Ok(())
}
