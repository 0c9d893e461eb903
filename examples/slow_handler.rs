//! One slow handler, on the loop and as a job.
//!
//! Run `cargo run --example slow_handler`. `/inline` and `/job` take 50 ms each, and `/quick`
//! nothing. While `/inline` runs on the loop, every other client waits. With `--model threads` both
//! run on the thread of their connection.

mod common;

use std::time::Duration;

use whirligig::{Call, Route, Server};

#[expect(clippy::disallowed_methods, reason = "shows what a handler that blocks does to a loop")]
fn slow(_: &Call<'_>) -> &'static str {
    std::thread::sleep(Duration::from_millis(50));
    "slow\n"
}

fn main() -> common::Outcome {
    let server = Server::builder()
        .get("/quick", |_| "quick\n")
        .get("/inline", slow)
        .route("/job", Route::new().get(slow).blocking())
        .model(common::model())
        .bind("127.0.0.1:0")?;
    common::run(server)
}
