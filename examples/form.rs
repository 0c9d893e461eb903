//! A form sent with GET (in the URL) or with POST (in the body).
//!
//! Run `cargo run --example form` and open the printed address. `--model threads` selects the twin.
//! The response to a POST is a redirect with status 303, so that reloading the page does not send
//! the form again.

mod common;

use std::sync::{Arc, Mutex};

use whirligig::{Call, Refusal, Response, Route, Server, Status};

/// The most recent names posted, at most `KEPT_MAX`.
type Guests = Arc<Mutex<Vec<String>>>;

const KEPT_MAX: usize = 100;

fn page(call: &Call<'_>, guests: &Guests) -> Result<Response, Refusal> {
    let query = call.query()?;
    let searched = common::escape(query.get("search").unwrap_or_default());
    let guests =
        guests.lock().map_err(|_| Refusal::failed("a handler panicked while it held the guest book"))?;
    let rows: String = guests
        .iter()
        .filter(|guest| guest.contains(query.get("search").unwrap_or_default()))
        .map(|guest| format!("<li>{}", common::escape(guest)))
        .collect();
    Ok(Response::html(format!(
        "<!doctype html><meta charset=utf-8><title>Guest book</title><ul id=guests>{rows}</ul>\
         <form method=post><input name=name placeholder=Name required> <label><input type=checkbox name=again \
         value=yes> again</label> <button id=sign>Sign</button></form>\
         <form method=get><input name=search value=\"{searched}\"> <button>Search</button></form>"
    )))
}

fn sign(call: &Call<'_>, guests: &Guests) -> Result<Response, Refusal> {
    let form = call.form()?;
    let name = form.need("name")?.trim();
    if name.is_empty() || name.len() > 200 {
        return Err(Refusal::unprocessable("a name must have 1 to 200 bytes"));
    }
    let again = if form.get("again") == Some("yes") { " (will come again)" } else { "" };
    let mut guests =
        guests.lock().map_err(|_| Refusal::failed("a handler panicked while it held the guest book"))?;
    guests.push(format!("{name}{again}"));
    if guests.len() > KEPT_MAX {
        guests.remove(0);
    }
    Ok(Response::redirect(Status::SEE_OTHER, "/"))
}

fn main() -> common::Outcome {
    let shown = Guests::default();
    let signed = Arc::clone(&shown);
    let route = Route::new().get(move |call| page(call, &shown)).post(move |call| sign(call, &signed));
    let server = Server::builder().route("/", route).model(common::model()).bind("127.0.0.1:0")?;
    common::run(server)
}
