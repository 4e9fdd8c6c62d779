//! The time of the loop.
//!
//! Invariant: within a turn, time stands still. The clock is read at most once a turn, and not at
//! all in a turn in which nobody asks.
//!
//! Read next: `timers.rs`.

use std::cell::Cell;
use std::time::Instant;

pub(super) enum Clock {
    /// The monotonic clock of the system, as read in this turn, if it was.
    System(Cell<Option<Instant>>),
    /// Stands where a test has set it.
    Set(Instant),
}

impl Clock {
    pub fn now(&self) -> Instant {
        match self {
            Clock::System(read) => read.get().unwrap_or_else(|| {
                let now = Instant::now();
                read.set(Some(now));
                now
            }),
            Clock::Set(now) => *now,
        }
    }

    /// Time has passed: the loop has slept, or may have.
    pub fn forget(&self) {
        if let Clock::System(read) = self {
            read.set(None);
        }
    }
}
