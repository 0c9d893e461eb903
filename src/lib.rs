//! Whirligig.
pub mod config;
