//! Cookies: set, read, count and delete.
//!
//! Run `cargo run --example cookies`, open the printed address and reload. `--model threads`
//! selects the twin. `/set` sets cookies of several kinds: for a path, for an hour, readable by
//! scripts, and for this site only. `/forget` deletes them.

mod common;

use std::time::Duration;

use whirligig::{Call, Cookie, Response, SameSite, Server, Status};

fn count(call: &Call<'_>) -> Response {
    // A client can send any value. A value that is not a number counts as 0.
    let visits = call.cookie("visits").and_then(|text| text.parse().ok()).unwrap_or(0_u32).saturating_add(1);
    let all: Vec<String> = call.cookies().map(|(name, value)| format!("{name}={value}")).collect();
    Response::text(format!("visit {visits}\ncookies: {}\n", all.join("; ")))
        .with_cookie(&Cookie::new("visits", &visits.to_string()))
        .with_header("Cache-Control", "no-store")
}

fn set(_: &Call<'_>) -> Response {
    Response::text("set\n")
        .with_cookie(&Cookie::new("tea", "grün; süß").max_age(Duration::from_secs(3600)))
        .with_cookie(&Cookie::new("script", "1").readable_by_scripts())
        .with_cookie(&Cookie::new("here", "1").path("/set").same_site(SameSite::Strict))
}

fn forget(_: &Call<'_>) -> Response {
    ["visits", "tea", "script"]
        .iter()
        .fold(Response::redirect(Status::SEE_OTHER, "/"), |response, name| {
            response.with_cookie(&Cookie::gone(name))
        })
        .with_cookie(&Cookie::gone("here").path("/set"))
}

fn main() -> common::Outcome {
    let server = Server::builder()
        .get("/", count)
        .get("/set", set)
        .get("/forget", forget)
        .model(common::model())
        .bind("127.0.0.1:0")?;
    common::run(server)
}
