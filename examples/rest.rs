//! A small JSON resource in SQLite with GET, POST, PUT, PATCH and DELETE.
//!
//! Run `cargo run --example rest -- [FILE]`, then for example `curl -d '{"title":"tea"}' -H
//! 'Content-Type: application/json' ADDRESS/items`. `--model threads` selects the twin. The items
//! are stored in FILE (default `target/rest-example.db`) and survive a restart. POST returns 201
//! with a Location header, and DELETE returns 204. `POST /reports` starts a slow job and returns
//! 202 with the URL of its result.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};
use whirligig::{Call, Refusal, Response, Route, Server, Status};

/// The database, used only by handlers that may block, and the results of slow jobs. Locks are held
/// for a short time.
struct Store {
    items: Mutex<Connection>,
    reports: Mutex<Reports>,
}

/// Results by number. `None` while the job runs.
#[derive(Default)]
struct Reports {
    last: u64,
    results: BTreeMap<u64, Option<i64>>,
}

/// Maximum number of reports. Beyond it the oldest result is deleted. If all jobs still run, a new
/// request gets a 503.
const REPORTS_MAX: usize = 100;

impl Reports {
    /// Adds a report and returns its number.
    fn begin(&mut self) -> Option<u64> {
        if self.results.len() >= REPORTS_MAX {
            let oldest = self.results.iter().find(|(_, result)| result.is_some()).map(|(&number, _)| number);
            self.results.remove(&oldest?);
        }
        self.last += 1;
        self.results.insert(self.last, None);
        Some(self.last)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err passes its argument by value")]
fn broken(error: rusqlite::Error) -> Refusal {
    Refusal::failed(format!("the database: {error}"))
}

impl Store {
    fn open(file: &str) -> rusqlite::Result<Store> {
        let items = Connection::open(file)?;
        items.execute_batch(
            "CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, title TEXT NOT NULL, done INTEGER NOT NULL)",
        )?;
        Ok(Store { items: Mutex::new(items), reports: Mutex::default() })
    }

    fn items(&self) -> Result<MutexGuard<'_, Connection>, Refusal> {
        self.items.lock().map_err(|_| Refusal::failed("a handler panicked while it held the database"))
    }
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Value> {
    let (id, title, done): (i64, String, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(json!({ "id": id, "title": title, "done": done }))
}

fn one(store: &Store, id: i64) -> Result<Value, Refusal> {
    let found =
        store.items()?.query_row("SELECT id, title, done FROM item WHERE id = ?", [id], row).optional();
    found.map_err(broken)?.ok_or(Refusal::not_found("there is no such item"))
}

fn list(_: &Call<'_>, store: &Store) -> Result<Response, Refusal> {
    let items = store.items()?;
    let mut query =
        items.prepare("SELECT id, title, done FROM item ORDER BY id LIMIT 1000").map_err(broken)?;
    let rows: Result<Vec<Value>, _> = query.query_map([], row).map_err(broken)?.collect();
    Ok(Response::json_of(&rows.map_err(broken)?))
}

/// Reads title and state from the body. Missing members keep their value in `before`.
fn read(call: &Call<'_>, before: Option<&Value>) -> Result<(String, bool), Refusal> {
    let content: Value = call.json()?;
    let said = |name: &str| content.get(name).or_else(|| before?.get(name));
    let title =
        said("title").and_then(Value::as_str).ok_or(Refusal::unprocessable("'title' must be text"))?;
    let done = match said("done") {
        None => false,
        Some(done) => done.as_bool().ok_or(Refusal::unprocessable("'done' must be true or false"))?,
    };
    Ok((title.to_owned(), done))
}

fn create(call: &Call<'_>, store: &Store) -> Result<Response, Refusal> {
    let (title, done) = read(call, None)?;
    let id = {
        let items = store.items()?;
        items
            .execute("INSERT INTO item (title, done) VALUES (?, ?)", params![title, done])
            .map_err(broken)?;
        items.last_insert_rowid()
    };
    Ok(Response::json_of(&one(store, id)?)
        .with_status(Status::CREATED)
        .with_header("Location", format!("/items/{id}")))
}

/// PUT replaces the whole item. PATCH changes only the given members.
fn change(call: &Call<'_>, store: &Store, keeps: bool) -> Result<Response, Refusal> {
    let id = call.parsed_param("id")?;
    let before = one(store, id)?;
    let (title, done) = read(call, keeps.then_some(&before))?;
    store
        .items()?
        .execute("UPDATE item SET title = ?, done = ? WHERE id = ?", params![title, done, id])
        .map_err(broken)?;
    Ok(Response::json_of(&one(store, id)?))
}

fn remove(call: &Call<'_>, store: &Store) -> Result<Response, Refusal> {
    let id: i64 = call.parsed_param("id")?;
    match store.items()?.execute("DELETE FROM item WHERE id = ?", [id]).map_err(broken)? {
        0 => Err(Refusal::not_found("there is no such item")),
        _ => Ok(Response::new(Status::NO_CONTENT)),
    }
}

/// Starts a slow job and returns the URL of its future result at once (RFC 9110 section 15.3.3).
fn begin_report(_: &Call<'_>, store: &Arc<Store>) -> Result<Response, Refusal> {
    let begun = store
        .reports
        .lock()
        .map_err(|_| Refusal::failed("a handler panicked while it held the reports"))?
        .begin();
    let number = begun.ok_or(Refusal::new(Status::SERVICE_UNAVAILABLE, "too many reports are running"))?;
    let worker = Arc::clone(store);
    std::thread::spawn(move || {
        let sum = (0..3_000_000_i64).filter(|number| number % 7 == 3).sum();
        if let Ok(mut reports) = worker.reports.lock() {
            reports.results.insert(number, Some(sum));
        }
    });
    let place = format!("/reports/{number}");
    Ok(Response::json_of(&json!({ "report": place }))
        .with_status(Status::ACCEPTED)
        .with_header("Location", place))
}

fn report(call: &Call<'_>, store: &Store) -> Result<Response, Refusal> {
    let reports =
        store.reports.lock().map_err(|_| Refusal::failed("a handler panicked while it held the reports"))?;
    match reports.results.get(&call.parsed_param("number")?) {
        None => Err(Refusal::not_found("there is no such report")),
        Some(None) => Ok(Response::json_of(&json!({ "state": "working" })).with_status(Status::ACCEPTED)),
        Some(Some(sum)) => Ok(Response::json_of(&json!({ "state": "done", "sum": sum }))),
    }
}

fn main() -> common::Outcome {
    let file = common::words().next().unwrap_or_else(|| "target/rest-example.db".into());
    let store = Arc::new(Store::open(&file)?);
    // Gives each handler a reference to the store.
    let with = |answer: fn(&Call<'_>, &Store) -> Result<Response, Refusal>| {
        let store = Arc::clone(&store);
        move |call: &Call<'_>| answer(call, &store)
    };
    let item = Route::new()
        .get(with(|call, store| Ok(Response::json_of(&one(store, call.parsed_param("id")?)?))))
        .put(with(|call, store| change(call, store, false)))
        .patch(with(|call, store| change(call, store, true)))
        .delete(with(remove));
    let reports = Arc::clone(&store);
    let server = Server::builder()
        .route("/items", Route::new().get(with(list)).post(with(create)).blocking())
        .route("/items/{id}", item.blocking())
        .post("/reports", move |call| begin_report(call, &reports))
        .get("/reports/{number}", with(report))
        .model(common::model())
        .bind("127.0.0.1:0")?;
    common::run(server)
}
