#![no_main]
#![allow(dead_code)] // the other bodies

#[path = "../../tests/fuzz/mod.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::servers::run(data));
