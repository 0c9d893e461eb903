//! The fuzz target `chunked_bodies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whirligig_fuzz::chunked_bodies(data));
