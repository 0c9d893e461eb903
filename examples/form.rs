//! A form, sent with GET (in the address) or with POST (as content), and what came of it.
//!
//! `cargo run --example form`, then open the address it prints; `--model threads` for the twin.
//! After a POST the browser is sent on with 303, so that a reload of the page does not send the
//! form again.

mod common;

use std::sync::{Arc, Mutex};

use whirligig::{Call, Refusal, Response, Route, Server, Status};

/// What was posted so far; the last few.
type Guests = Arc<Mutex<Vec<String>>>;

const KEPT_MAX: usize = 100;

fn page(call: &Call<'_>, guests: &Guests) -> Result<Response, Refusal> {
    let query = call.query()?;
    let searched = common::escape(query.get("search").unwrap_or_default());
    let guests = guests.lock().map_err(|_| Refusal::failed("the guest book is torn"))?;
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
        return Err(Refusal::unprocessable("a name has 1 to 200 bytes"));
    }
    let again = if form.get("again") == Some("yes") { " (will come again)" } else { "" };
    let mut guests = guests.lock().map_err(|_| Refusal::failed("the guest book is torn"))?;
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
