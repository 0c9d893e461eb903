//! Slow work for clients that may leave: results that come too late are dropped and counted.
//!
//! Run `cargo run --example late_result` and open the printed address with `/for/NAME`. The
//! response takes 0.2 s on a worker thread. A worker that has begun is not stopped when its client
//! resets the connection. Its result then has no owner, also if another client has the slot of the
//! connection by now. `/_whirligig/metrics` counts it in `whirligig_stale_total`.

mod common;

use std::time::Duration;

use whirligig::{Call, Route, Server};

#[expect(clippy::disallowed_methods, reason = "stands for work that takes time on a worker")]
fn work_for(call: &Call<'_>) -> String {
    std::thread::sleep(Duration::from_millis(200));
    format!("for {}\n", call.param("name"))
}

fn main() -> common::Outcome {
    let server = Server::builder()
        .route("/for/{name}", Route::new().get(work_for).blocking())
        .metrics()
        .model(common::model())
        .bind("127.0.0.1:0")?;
    common::run(server)
}
