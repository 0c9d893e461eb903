//! Black-box tests: the program is started as its user starts it and spoken to over sockets, on
//! both models.
//!
//! Nothing in here knows how the server works. Each area has one file; `harness`, `wire` and
//! `docroot` are the tools they share. `WHIRLIGIG_TEST_BINARY=PATH cargo test --test it` runs
//! everything against another build.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should say so and stop"
)]

mod devtools;
mod docroot;
mod harness;
mod wire;

mod api;
mod archive;
mod auth;
mod binds;
mod browser;
mod caching;
mod cgi;
mod clean;
mod clients;
mod coding;
mod config;
mod cors;
mod differential;
mod direction;
mod download;
mod escape;
mod events;
mod examples;
mod fields;
mod files;
mod framing;
mod fresh;
mod half;
mod headers;
mod hosts;
mod keepalive;
mod library;
mod life;
mod limits;
mod links;
mod listing;
mod listing_flood;
mod live;
mod log;
mod memory;
mod metrics;
mod names;
mod places;
mod prefix;
mod protect;
mod reactors;
mod root;
mod rules;
mod sim;
mod sinks;
mod split;
mod stall;
mod strace;
mod terminal;
mod tidy;
mod twice;
mod types;
mod upload;
mod versus;
mod withheld;
mod words;
