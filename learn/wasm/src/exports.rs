//! The functions that a page calls, and the memory that both use.
//!
//! The page calls `request(length)` and writes that many bytes at the address it returns. Then
//! `call()` obeys the request and returns the length of the reply, which `reply()` locates. Its
//! first byte is `=` before JSON and `!` before an error. Nothing here reads an address: the page
//! does. This file must not know the operations.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::Engine;
use crate::request::Request;

static ENGINE: Mutex<Engine> = Mutex::new(Engine::new());
static REQUEST: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static REPLY: Mutex<String> = Mutex::new(String::new());

/// Longest request in bytes. A scenario has at most a tenth of it.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Makes room for a request. Returns its address.
#[expect(unsafe_code, reason = "the page finds the function by its name")]
#[unsafe(no_mangle)]
extern "C" fn request(length: usize) -> *mut u8 {
    let mut request = lock(&REQUEST);
    request.clear();
    request.resize(length.min(REQUEST_BYTES_MAX), 0);
    request.as_mut_ptr()
}

/// Obeys the request. Returns the length of the reply in bytes.
#[expect(unsafe_code, reason = "the page finds the function by its name")]
#[unsafe(no_mangle)]
extern "C" fn call() -> usize {
    let done = Request::parse(&lock(&REQUEST)).and_then(|request| lock(&ENGINE).obey(&request));
    let mut reply = lock(&REPLY);
    reply.clear();
    let (mark, text) = match &done {
        Ok(json) => ('=', json),
        Err(error) => ('!', error),
    };
    reply.push(mark);
    reply.push_str(text);
    reply.len()
}

/// Returns the address of the reply, which is valid until the next call.
#[expect(unsafe_code, reason = "the page finds the function by its name")]
#[unsafe(no_mangle)]
extern "C" fn reply() -> *const u8 {
    lock(&REPLY).as_ptr()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
