//! Query strings: names and values, decoded, repeated or single, and parsed as numbers.
//!
//! Run `cargo run --example query`, open the printed address and follow the links. `--model
//! threads` selects the twin. `/add?a=1&b=2` returns a sum, or status 422 with an explanation if a
//! value is wrong.

mod common;

use whirligig::{Call, Refusal, Response, Server};

fn show(call: &Call<'_>) -> Result<Response, Refusal> {
    let rows: String = call
        .query()?
        .iter()
        .map(|(name, value)| format!("<li><b>{}</b> is {}", common::escape(name), common::escape(value)))
        .collect();
    Ok(Response::html(format!(
        "<!doctype html><title>Query</title><ul>{rows}</ul>\
         <p><a href='?name=灯&amp;name=lamp&amp;colour=a+b%26c'>a query</a> <a href='/add?a=20&amp;b=22'>a sum</a>"
    )))
}

fn add(call: &Call<'_>) -> Result<String, Refusal> {
    let query = call.query()?;
    let (a, b): (i64, i64) = (query.parsed("a")?, query.parsed("b")?);
    let sum = a.checked_add(b).ok_or(Refusal::unprocessable("the sum is too large"))?;
    Ok(format!("{sum}\n"))
}

fn main() -> common::Outcome {
    let server =
        Server::builder().get("/", show).get("/add", add).model(common::model()).bind("127.0.0.1:0")?;
    common::run(server)
}
