//! A course: from a blocking echo server, and why it serves one, to the whole library.
//!
//! Each chapter has one idea, a picture, the lines that matter, the place in this crate that does it for real,
//! and an exercise with a test. All code in it is compiled and run by `cargo test`. A chapter is read in ten
//! minutes; do the exercise before you open the solution.
//!
//! | chapter | the idea |
//! | --- | --- |
//! | [1](ch01_blocking) | a thread that waits for one peer waits for no other |
//! | [2](ch02_busy) | not to wait is to ask all the time |
//! | [3](ch03_readiness) | let the kernel say when to ask |
//! | [4](ch04_sources) | one state machine per token, at an address that goes stale harmlessly |
//! | [5](ch05_edge) | the kernel says it once: what you must not forget |
//! | [6](ch06_backpressure) | what you cannot write yet, and who has to wait for it |
//! | [7](ch07_stdin) | stdin is a descriptor, too |
//! | [8](ch08_timers) | time, and other threads, are events as well |
//! | [9](ch09_protocol) | callbacks: you say what, the library says when |
//! | [10](ch10_futures) | the compiler writes the state machine |
//! | [11](ch11_closing) | the last byte is the hardest |
//! | [12](ch12_hostile) | what peers, users and kernels do |
//! | [13](ch13_elsewhere) | how others call the same things |
//!
//! Where a trap is named, `tests/twins.rs` has a short wrong version that falls into it, and shows it falling.

#[doc = include_str!("01_blocking.md")]
pub mod ch01_blocking {}
#[doc = include_str!("02_busy.md")]
pub mod ch02_busy {}
#[doc = include_str!("03_readiness.md")]
pub mod ch03_readiness {}
#[doc = include_str!("04_sources.md")]
pub mod ch04_sources {}
#[doc = include_str!("05_edge.md")]
pub mod ch05_edge {}
#[doc = include_str!("06_backpressure.md")]
pub mod ch06_backpressure {}
#[doc = include_str!("07_stdin.md")]
pub mod ch07_stdin {}
#[doc = include_str!("08_timers.md")]
pub mod ch08_timers {}
#[doc = include_str!("09_protocol.md")]
pub mod ch09_protocol {}
#[doc = include_str!("10_futures.md")]
pub mod ch10_futures {}
#[doc = include_str!("11_closing.md")]
pub mod ch11_closing {}
#[doc = include_str!("12_hostile.md")]
pub mod ch12_hostile {}
#[doc = include_str!("13_elsewhere.md")]
pub mod ch13_elsewhere {}
