//! The bodies of the fuzz targets. `fuzz/` runs them with libFuzzer, and `fuzz_corpus.rs` as
//! ordinary tests.

mod input;
pub mod parsers;
pub mod reactor;
pub mod readers;
