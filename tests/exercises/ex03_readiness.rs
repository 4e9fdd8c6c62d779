//! Exercise 3: choose the interest.
//!
//! A relay reads from one peer, the sender, and writes to another, the receiver. Its buffer holds
//! at most `CAPACITY` bytes. Before each `poll` the loop asks you for the interest in both. Then it
//! reads once if the sender is ready, and writes once if the receiver is ready. It has to sleep
//! while it can do neither, and it must not sleep while it can do one of them.
//! The types that you need are in `checks/ex03_readiness.rs`. You may read it.
//!
//!     cargo test --test exercises ex03_readiness -- --ignored

use rustix::event::PollFlags;

use crate::checks::ex03_readiness::{CAPACITY, Relay};

/// Returns the interest in the sender (`PollFlags::IN` or `PollFlags::empty()`), and in the
/// receiver (`PollFlags::OUT` or `PollFlags::empty()`).
pub fn interest(relay: &Relay) -> [PollFlags; 2] {
    todo!("be interested only in what you can act on now. `relay.buffer` and `relay.at_eof` decide")
}
