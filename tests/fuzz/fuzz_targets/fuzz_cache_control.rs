//! Feeds `targets::cache_control`.
#![no_main]

#[path = "../targets.rs"]
#[expect(dead_code, reason = "each binary feeds one of them")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::cache_control(data));
