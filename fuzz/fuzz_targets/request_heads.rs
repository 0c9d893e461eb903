//! The fuzz target `request_heads`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whirligig_fuzz::request_heads(data));
