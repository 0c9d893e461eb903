//! A server of your own in a few lines: routes on the library's router, files for the rest.
//!
//! `cargo run --example hello [-- threads]` and open the address it prints. `/` tells the method and the time,
//! `/hello/*` greets, `/slow` has its work done where it may block, everything else is a file of `www/`. The same
//! routes run over the poll loop or over a thread per connection: that is one word of the configuration.

use std::io::Write;

use whirligig::config::{Config, Model};
use whirligig::handler::{Answer, Context, Methods, Router};
use whirligig::http::{Request, Response, date};
use whirligig::server::Server;

fn front(request: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    let time = date::iso8601(cx.now().unix_secs(), cx.now().wall.subsec_millis());
    Response::text(format!("{} at {time}\n", request.method().name())).into()
}

fn hello(request: &Request<'_>, _: &mut Context<'_>) -> Answer {
    let name = request.target().trim_start_matches("/hello/");
    Response::text(format!("hello, {name}\n")).into()
}

/// Anything that may block goes to a job: the loop turns on meanwhile.
fn slow(_: &Request<'_>, cx: &mut Context<'_>) -> Answer {
    cx.job(|| {
        let digits: u64 = (0..2_000_000u64).filter(|number| number % 7 == 3).sum();
        Response::text(format!("{digits}\n"))
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::env::args().nth(1).as_deref() == Some("threads");
    let config = Config {
        model: if threads { Model::Threads } else { Model::Reactor },
        root: "www".into(),
        port: 0,
        ..Config::default()
    };
    let server = Server::bind(config)?;
    let routes = Router::new()
        .route("/", Methods(&["GET", "POST"]), front)
        .route("/hello/*", Methods(&["GET"]), hello)
        .route("/slow", Methods(&["GET"]), slow)
        .fallback(server.files());
    writeln!(std::io::stdout(), "{}", server.urls().join("\n"))?;
    server.with_handler(routes).run(None)?;
    Ok(())
}
