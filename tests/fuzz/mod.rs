//! The bodies of the fuzz targets. `fuzz/` runs them with libFuzzer, and `fuzz_corpus.rs` as
//! ordinary tests.

mod calls;
mod input;
pub mod parsers;
pub mod reactor;
pub mod readers;
pub mod servers;
pub mod sources;

/// Returns how many descriptors are open. Only one target may run at a time.
fn descriptors() -> usize {
    std::fs::read_dir("/dev/fd").unwrap().count()
}
