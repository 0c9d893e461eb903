//! The fuzz target `replies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whirligig_fuzz::replies(data));
