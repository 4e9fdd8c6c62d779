//! Exercise 8: how long to sleep.
//!
//! Write one turn: sleep, handle the messages of another thread, and run the timers that are due.
//! The other thread sends some messages, and then wakes the loop once for all of them. No timer may
//! run early, and the loop may not be busy. The clock is not real: it moves in `poll`, and a little
//! in each call. So a timer may be overdue when a turn begins. The chapter finds the due timers with
//! the time before `poll`, so that I/O comes first. There is no I/O here, so the time after it is
//! right as well.
//! The types that you need are in `checks/ex08_timers.rs`. You may read it.
//!
//!     cargo test --test exercises ex08_timers -- --ignored

use std::sync::mpsc::Receiver;

use crate::checks::ex08_timers::{Kernel, Timers};

/// Runs a turn. `timers` is a `BTreeSet` of `(when, number)`. This is what the kernel offers:
///
/// - `kernel.now()`: the time since the start, a `Duration`
/// - `kernel.poll(Option<u64>)`: sleeps for whole *milliseconds*, or less if the other thread wakes
///   it. `None` has no limit.
/// - `kernel.handle(message)`: handles a message
/// - `kernel.run(number, timers)`: runs what a timer is set for. It may set timers, also for now.
pub fn turn(kernel: &mut Kernel, timers: &mut Timers, messages: &Receiver<u32>) {
    todo!(
        "the next timer is `timers.first()`. Its distance is in microseconds, and `poll` counts milliseconds"
    )
}
