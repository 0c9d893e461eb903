//! Server-sent events: a clock in every open page.
//!
//! Run `cargo run --example sse_clock -- [MILLISECONDS]` and open the printed address in several
//! windows. `--model threads` selects the twin. One thread sends the time, and the feed passes it
//! to all listeners. A listener that reconnects receives the events it missed. A listener that does
//! not read is dropped and delays no other.

mod common;

use std::time::{Duration, SystemTime};

use whirligig::date;
use whirligig::{Feed, Response, Server};

const PAGE: &str =
    "<!doctype html><meta charset=utf-8><title>Clock</title><h1 id=clock>…</h1><p id=count>0</p>
<script>
const events = new EventSource('/time');
let events_received = 0;
events.addEventListener('time', event => { clock.textContent = event.data; count.textContent = ++events_received; });
</script>";

#[expect(clippy::disallowed_methods, reason = "a clock on a separate thread")]
fn tick(feed: &Feed, every: Duration) {
    loop {
        std::thread::sleep(every);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        feed.send_named("time", &date::iso8601(now.as_secs(), now.subsec_millis()));
    }
}

fn main() -> common::Outcome {
    let every = Duration::from_millis(common::words().next().map_or(Ok(1000), |word| word.parse())?);
    let feed = Feed::new();
    let clock = feed.clone();
    std::thread::spawn(move || tick(&clock, every));
    let server = Server::builder()
        .get("/", |_| Response::html(PAGE))
        .get("/time", move |call| Response::events(feed.join(call)))
        .model(common::model())
        .bind("127.0.0.1:0")?;
    common::run(server)
}
