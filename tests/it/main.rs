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
mod clean_urls;
mod clients;
mod config;
mod content_coding;
mod cors;
mod differential;
mod download;
mod events;
mod examples;
mod fair_share;
mod files;
mod framing;
mod freshness;
mod half_close;
mod header_rules;
mod headers;
mod keepalive;
mod known_names;
mod library;
mod lifecycle;
mod limits;
mod listing;
mod listing_flood;
mod live_reload;
mod log;
mod media_types;
mod memory;
mod messages;
mod metrics;
mod path_escape;
mod path_prefix;
mod protected_files;
mod reactors;
mod repeated_headers;
mod replaced_root;
mod resolved_paths;
mod rewrite;
mod sim;
mod sinks;
mod split;
mod stall_script;
mod strace;
mod symlinks;
mod terminal;
mod text_direction;
mod tidy;
mod upload;
mod versus;
mod virtual_hosts;
