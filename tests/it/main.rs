//! Black-box tests. Each starts the program as its users do and talks to it over sockets, on both
//! models.
//!
//! No test knows how the server works. Each area has a file or a folder. `harness`, `wire` and
//! `docroot` are shared tools. `WHIRLIGIG_TEST_BINARY=PATH cargo test --test it` tests another
//! build.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot continue should panic with the reason"
)]

mod devtools;
mod docroot;
mod harness;
mod html;
mod wire;

mod addresses;
mod api;
mod archive;
mod auth;
mod binds;
mod browser;
mod caching;
mod cgi;
mod chapter_walk;
mod chapters;
mod clean_urls;
mod clients;
mod config;
mod content_coding;
mod cors;
mod differential;
mod documents;
mod download;
mod events;
mod examples;
mod fair_share;
mod file_root;
mod files;
mod framing;
mod freshness;
mod half_close;
mod header_rules;
mod headers;
mod index_files;
mod keepalive;
mod kernel;
mod known_names;
mod layers;
mod library;
mod lifecycle;
mod limits;
mod listing;
mod listing_flood;
mod live_reload;
mod log;
mod loop_frames;
mod loop_page;
mod media_types;
mod memory;
mod messages;
mod metrics;
mod path_escape;
mod path_prefix;
mod protected_files;
mod race;
mod reactors;
mod recipes;
mod recordings;
mod repeated_headers;
mod replaced_root;
mod resolved_paths;
mod rewrite;
mod sinks;
mod split;
mod stall_script;
mod stepper;
mod stepper_links;
mod stepper_page;
mod steps;
mod strace;
mod symlinks;
mod terminal;
mod text_direction;
mod tidy;
mod upload;
mod versus;
mod virtual_hosts;
