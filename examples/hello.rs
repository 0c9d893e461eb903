//! A first server: routes, a parameter, slow work on another thread, and static files.
//!
//! Run `cargo run --example hello` and open the printed address. `/` returns the method and the
//! time, `/hello/NAME` a greeting, and `/slow` the result of slow work that may block. All other
//! paths are files of `www/`. With `--model threads` the same routes run with a thread per
//! connection. Only the line with `.model(..)` selects that.

mod common;

use whirligig::date;
use whirligig::{Call, Response, Route, Server};

fn front(call: &Call<'_>) -> Response {
    let now = call.now();
    let time = date::iso8601(now.unix_secs(), now.wall.subsec_millis());
    Response::text(format!("{} at {time}\n", call.method().name()))
}

fn slow(_: &Call<'_>) -> String {
    let sum: u64 = (0..2_000_000u64).filter(|number| number % 7 == 3).sum();
    format!("{sum}\n")
}

fn main() -> common::Outcome {
    let server = Server::builder()
        .route("/", Route::new().get(front).post(front))
        .get("/hello/{name}", |call| format!("hello, {}\n", call.param("name")))
        .route("/slow", Route::new().get(slow).blocking())
        .files("www")
        .model(common::model())
        .bind("127.0.0.1:0")?;
    common::run(server)
}
