//! Status codes with the requests that cause them. Another example shows the redirects.
//!
//! Run `cargo run --example status_codes` and open the printed address. `--model threads` selects
//! the twin. The library itself sends 401, 404, 405, 413, 500 and 501: no handler here writes them.

mod common;

use std::net::TcpStream;

use whirligig::{Call, Refusal, Response, Route, Server, Status};

const PAGE: &str = "<!doctype html><title>Status codes</title><ul>
<li>200 this page; HEAD and OPTIONS (204) work without code
<li>201 POST /things <li>202 POST /jobs <li>204 DELETE /things/1
<li><a href=/number?n=x>400</a> <li><a href=/private>401</a> (anna, secret) <li><a href=/secret>403</a>
<li><a href=/nothing>404</a> <li>405 PUT / <li>413 POST /things with more than 100 bytes
<li><a href=/broken>500</a> <li>501 with an unknown method
<li><a href=/upstream>502</a> <li><a href=/busy>503</a></ul>";

fn number(call: &Call<'_>) -> Result<String, Refusal> {
    let query = call.query()?;
    let number: u32 = query.need("n")?.parse().map_err(|_| Refusal::bad_request("'n' is not a number"))?;
    Ok(format!("{number}\n"))
}

/// A handler with a bug. Its own connection gets a 500, and no other connection is affected.
fn broken(call: &Call<'_>) -> String {
    let names = ["no", "index", "here"];
    names[names.len() + call.content().len()].to_owned()
}

/// Connects to another server, which does not exist. Connecting may block, so the route is marked
/// as blocking.
fn upstream(_: &Call<'_>) -> Result<String, Refusal> {
    match TcpStream::connect("127.0.0.1:1") {
        Ok(_) => Ok("a server listens on port 1\n".into()),
        Err(_) => Err(Refusal::new(Status::BAD_GATEWAY, "the upstream server does not respond")),
    }
}

fn main() -> common::Outcome {
    let created = |_: &Call<'_>| {
        Response::text("created\n").with_status(Status::CREATED).with_header("Location", "/things/1")
    };
    let server = Server::builder()
        .get("/", |_| Response::html(PAGE))
        .route("/things", Route::new().post(created).content_max(100))
        .delete("/things/1", |_| Response::new(Status::NO_CONTENT))
        .post("/jobs", |_| Response::text("accepted\n").with_status(Status::ACCEPTED))
        .get("/number", number)
        .get("/private", |_| "welcome\n")
        .auth("/private", "anna", "secret")
        .get("/secret", |_| Refusal::forbidden("access is never allowed"))
        .get("/broken", broken)
        .route("/upstream", Route::new().get(upstream).blocking())
        .get("/busy", |_| Refusal::new(Status::SERVICE_UNAVAILABLE, "retry in a second"))
        .model(common::model())
        .bind("127.0.0.1:0")?;
    common::run(server)
}
