//! The fuzz target `rewrite_rules`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whirligig_fuzz::rewrite_rules(data));
