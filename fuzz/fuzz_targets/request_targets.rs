//! The fuzz target `request_targets`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whirligig_fuzz::request_targets(data));
